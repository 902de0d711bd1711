#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/status.h"
#include "reward/internal.h"

#define N_PROGRAMS 64

struct program_entry {
    struct digest key;
    struct sandbox_program *program;   /* NULL: the compiler refused it */
    struct text messages;
    uint64_t used_at;                  /* 0: free */
};

struct reward_host {
    struct verifier_host face;
    struct sandbox *sandbox;
    char why_not[512];                 /* when there is no sandbox */
    struct program_entry programs[N_PROGRAMS];
    uint64_t now;
};

static void write_log(void *context, uint32_t level, const char *message)
{
    (void)context;
    log_write(level > LOG_DEBUG ? LOG_DEBUG : (enum log_level)level, "%s", message);
}

static void drop_program(struct program_entry *entry)
{
    if (entry->program)
        sandbox_program_release(&entry->program);
    text_release(&entry->messages);
    entry->used_at = 0;
}

/* The compiled program of this source, from before or new. */
static int get_program(struct reward_host *host, struct verifier_text source,
                       struct program_entry **out)
{
    struct program_entry *oldest = &host->programs[0];
    struct digest key;

    digest_of(&key, source.data, source.length);
    for (size_t i = 0; i < N_PROGRAMS; i++) {
        struct program_entry *entry = &host->programs[i];
        if (entry->used_at && memcmp(&entry->key, &key, sizeof(key)) == 0) {
            entry->used_at = ++host->now;
            *out = entry;
            return STATUS_OK;
        }
        if (entry->used_at < oldest->used_at)
            oldest = entry;
    }
    drop_program(oldest);
    int status = sandbox_compile_c(host->sandbox, source.data, source.length, &oldest->program,
                                   &oldest->messages);
    if (status < 0) {
        drop_program(oldest);
        return status;
    }
    oldest->key = key;
    oldest->used_at = ++host->now;
    *out = oldest;
    return STATUS_OK;
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
    struct sandbox_result result = {0};
    struct program_entry *entry;

    if (!host->sandbox)
        return status_fail(STATUS_UNSUPPORTED, "%s", host->why_not);
    if (run->language.length != 1 || run->language.data[0] != 'c')
        return status_fail(STATUS_UNSUPPORTED, "language \"%.*s\" cannot be run; \"c\" can",
                           (int)(run->language.length < 32 ? run->language.length : 32),
                           run->language.data);
    TRY(get_program(host, run->source, &entry));
    if (!entry->program) {
        run->end = VERIFIER_RUN_NOT_COMPILED;
        run->messages_length = copy_out(run->messages, run->messages_capacity, &entry->messages);
        return STATUS_OK;
    }
    int status = sandbox_run(host->sandbox, entry->program, run->input.data, run->input.length,
                             &result);
    if (status == STATUS_OK) {
        run->end = end_of(result.verdict);
        run->exit_code = result.exit_code;
        run->signal = result.signal;
        run->output_length = copy_out(run->output, run->output_capacity, &result.output);
        run->messages_length = copy_out(run->messages, run->messages_capacity, &result.errors);
    }
    sandbox_result_release(&result);
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
    if (!config)
        snprintf(host->why_not, sizeof(host->why_not), "there is no sandbox in this process");
    else if (sandbox_create(&host->sandbox, config) < 0) {
        host->sandbox = NULL;
        snprintf(host->why_not, sizeof(host->why_not), "no sandbox: %s", status_reason());
    }
    return host;
}

void host_destroy(struct reward_host **host)
{
    if (!*host)
        return;
    for (size_t i = 0; i < N_PROGRAMS; i++)
        drop_program(&(*host)->programs[i]);
    if ((*host)->sandbox)
        sandbox_destroy(&(*host)->sandbox);
    mem_free(*host);
    *host = NULL;
}

const struct verifier_host *host_face(struct reward_host *host)
{
    return &host->face;
}
