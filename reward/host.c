#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/status.h"
#include "reward/internal.h"

struct reward_host {
    struct verifier_host face;
    struct sandbox_config config;
    struct sandbox *sandbox;
    struct judge *judge;               /* NULL: no sandbox */
    char why_not[512];                 /* when there is none */
};

static void write_log(void *context, uint32_t level, const char *message)
{
    (void)context;
    log_write(level > LOG_DEBUG ? LOG_DEBUG : (enum log_level)level, "%s", message);
}

static uint64_t copy_out(char *to, uint64_t capacity, const struct text *from)
{
    uint64_t n = from->length < capacity ? from->length : capacity;

    if (!to)
        return 0;
    if (n)
        memcpy(to, from->data, n);
    return n;
}

static uint32_t end_of(enum sandbox_verdict verdict)
{
    switch (verdict) {
    case SANDBOX_EXITED:
        return VERIFIER_RUN_EXITED;
    case SANDBOX_SIGNALED:
        return VERIFIER_RUN_SIGNALED;
    case SANDBOX_CPU_LIMIT:
    case SANDBOX_WALL_LIMIT:
        return VERIFIER_RUN_TIME_LIMIT;
    case SANDBOX_MEMORY_LIMIT:
        return VERIFIER_RUN_MEMORY_LIMIT;
    case SANDBOX_OUTPUT_LIMIT:
        return VERIFIER_RUN_OUTPUT_LIMIT;
    case SANDBOX_VIOLATION:
        return VERIFIER_RUN_FORBIDDEN;
    }
    return VERIFIER_RUN_FORBIDDEN;
}

static int run_in_sandbox(struct reward_host *host, struct verifier_run *run)
{
    struct judge_result result = {.n_tests = 0};
    struct sandbox_result program = {.exit_code = 0};
    int language = judge_find_language(run->language.data, run->language.length);

    if (!host->judge)
        return status_fail(STATUS_UNSUPPORTED, "%s", host->why_not);
    if (!language)
        return status_fail(STATUS_UNSUPPORTED, "language \"%.*s\" cannot be run; c, cpp, python "
                           "and javascript can",
                           (int)(run->language.length < 32 ? run->language.length : 32),
                           run->language.data);
    int status = judge_try(host->judge, language, run->source.data, run->source.length, NULL,
                           run->input.data, run->input.length, &result, &program);
    if (status == STATUS_OK && result.verdict == JUDGE_CE) {
        run->end = VERIFIER_RUN_NOT_COMPILED;
        run->messages_length = copy_out(run->messages, run->messages_capacity, &result.messages);
    } else if (status == STATUS_OK) {
        run->end = end_of(program.verdict);
        run->exit_code = program.exit_code;
        run->signal = program.signal;
        run->output_length = copy_out(run->output, run->output_capacity, &program.output);
        run->messages_length = copy_out(run->messages, run->messages_capacity, &program.errors);
    }
    sandbox_result_release(&program);
    judge_result_release(&result);
    return status;
}

static int32_t run_program(void *context, struct verifier_run *run)
{
    if (!VERIFIER_HAS(run, struct verifier_run, detail))
        return STATUS_VERSION;
    run->output_length = run->messages_length = 0;
    run->exit_code = run->signal = 0;
    run->detail[0] = '\0';
    int status = run_in_sandbox(context, run);
    if (status < 0)
        snprintf(run->detail, sizeof(run->detail), "%s", status_reason());
    return status;
}

struct reward_host *host_create(const struct sandbox_config *config)
{
    struct reward_host *host = mem_alloc(1, sizeof(*host));

    host->face = (struct verifier_host){.size = sizeof(host->face), .context = host,
                                        .log = write_log, .run = run_program};
    if (!config) {
        snprintf(host->why_not, sizeof(host->why_not), "there is no sandbox in this process");
        return host;
    }
    host->config = *config;
    if (sandbox_create(&host->sandbox, config) < 0)
        host->sandbox = NULL;
    if (!host->sandbox || judge_create(&host->judge, host->sandbox, &host->config) < 0)
        snprintf(host->why_not, sizeof(host->why_not), "no sandbox: %s", status_reason());
    return host;
}

void host_destroy(struct reward_host **host)
{
    if (!*host)
        return;
    judge_destroy(&(*host)->judge);
    if ((*host)->sandbox)
        sandbox_destroy(&(*host)->sandbox);
    mem_free(*host);
    *host = NULL;
}

int host_judge(const struct verifier_host *face, struct judge **out)
{
    const struct reward_host *host = face ? face->context : NULL;

    *out = host ? host->judge : NULL;
    return *out ? STATUS_OK
                : status_fail(STATUS_UNSUPPORTED, "%s", host ? host->why_not : "there is no host");
}

const struct verifier_host *host_face(struct reward_host *host)
{
    return &host->face;
}
