/*
 * The public face: a sandbox, programs made in it, runs of them. A sandbox does not change once it
 * is made, and programs never do, so any number of threads may use both.
 */
#include "sandbox/sandbox.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/status.h"
#include "sandbox/internal.h"

const char *sandbox_verdict_name(enum sandbox_verdict verdict)
{
    static const char *const names[] = {
        [SANDBOX_EXITED] = "exited",
        [SANDBOX_SIGNALED] = "signaled",
        [SANDBOX_CPU_LIMIT] = "cpu limit",
        [SANDBOX_WALL_LIMIT] = "wall limit",
        [SANDBOX_MEMORY_LIMIT] = "memory limit",
        [SANDBOX_OUTPUT_LIMIT] = "output limit",
        [SANDBOX_VIOLATION] = "violation",
    };

    if ((unsigned)verdict >= sizeof(names) / sizeof(names[0]))
        return "?";
    return names[verdict];
}

void sandbox_result_release(struct sandbox_result *result)
{
    text_release(&result->output);
    text_release(&result->errors);
    text_release(&result->answer);
}

/* Without a static C library every answer would be refused, and look wrong. */
static int prove_compiler(struct sandbox *sandbox)
{
    static const char source[] = "#include <stdio.h>\nint main(void) { return puts(\"\") < 0; }\n";
    struct sandbox_program *program = NULL;
    struct text messages = {0};
    struct sandbox_result result;
    int status = sandbox_compile_c(sandbox, source, sizeof(source) - 1, &program, &messages);

    if (status >= 0 && !program)
        status = status_fail(STATUS_UNSUPPORTED,
                             "sandbox: %s cannot make a static program: install the static C "
                             "library (libc6-dev); it says: %.300s",
                             sandbox->compiler, messages.data ? messages.data : "nothing");
    if (status >= 0)
        status = sandbox_run(sandbox, program, "", 0, &result);
    if (status >= 0) {
        if (result.verdict != SANDBOX_EXITED || result.exit_code != 0)
            status = status_fail(STATUS_UNSUPPORTED,
                                 "sandbox: a program that prints one line ends with '%s', exit "
                                 "code %d, signal %d: raise sandbox.memory_bytes and cpu_ms",
                                 sandbox_verdict_name(result.verdict), result.exit_code,
                                 result.signal);
        sandbox_result_release(&result);
    }
    sandbox_program_release(&program);
    text_release(&messages);
    return status;
}

int sandbox_create(struct sandbox **out, const struct sandbox_config *config)
{
    struct sandbox *sandbox = mem_alloc(1, sizeof(*sandbox));
    int status;

    *out = NULL;
    sandbox->config = *config;
    if (sandbox->config.max_level == 0)
        sandbox->config.max_level = 3;
    TRY_OUT(host_find_compiler(sandbox));
    TRY_OUT(client_create(&sandbox->client, &sandbox->config));
    TRY_OUT(prove_compiler(sandbox));
    *out = sandbox;
    return 0;
out:
    sandbox_destroy(&sandbox);
    return status;
}

void sandbox_destroy(struct sandbox **sandbox)
{
    if (!*sandbox)
        return;
    client_destroy(&(*sandbox)->client);
    mem_free(*sandbox);
    *sandbox = NULL;
}

const char *sandbox_description(const struct sandbox *sandbox)
{
    return client_hello(sandbox->client)->description;
}

int sandbox_level(const struct sandbox *sandbox)
{
    return client_hello(sandbox->client)->level;
}

const char *sandbox_shortfall(const struct sandbox *sandbox)
{
    return client_hello(sandbox->client)->reason;
}

int sandbox_supports(const struct sandbox *sandbox, enum sandbox_kind kind)
{
    return client_hello(sandbox->client)->supports >> kind & 1;
}

struct sandbox_program *program_create(enum sandbox_kind kind, int fd)
{
    struct sandbox_program *program = mem_alloc(1, sizeof(*program));

    program->kind = kind;
    program->fd = fd;
    return program;
}

void sandbox_program_release(struct sandbox_program **program)
{
    if (!*program)
        return;
    close((*program)->fd);
    mem_free(*program);
    *program = NULL;
}

int sandbox_load_script(struct sandbox *sandbox, enum sandbox_kind kind, const char *source,
                        size_t n, struct sandbox_program **out)
{
    int fd;

    *out = NULL;
    if (kind == SANDBOX_NATIVE || !sandbox_supports(sandbox, kind))
        return status_fail(STATUS_UNSUPPORTED, "sandbox: no %s below /usr/bin: install it, or set "
                                               "sandbox.%s",
                           kind == SANDBOX_NODE ? "node" : "python3",
                           kind == SANDBOX_NODE ? "node" : "python");
    TRY(memfd_of_input(&fd, source, n));
    *out = program_create(kind, fd);
    return 0;
}

static int64_t choose(int64_t wanted, int64_t usual)
{
    return wanted > 0 ? wanted : usual;
}

static void complete_limits(struct sandbox_limits *out, const struct sandbox_config *config,
                            const struct sandbox_limits *wanted)
{
    *out = *wanted;
    out->cpu_ms = choose(wanted->cpu_ms, config->cpu_ms);
    out->wall_ms = choose(wanted->wall_ms, config->wall_ms);
    out->memory_bytes = choose(wanted->memory_bytes, config->memory_bytes);
    out->output_bytes = choose(wanted->output_bytes, config->output_bytes);
    out->processes = choose(wanted->processes, config->processes);
}

int sandbox_run_limited(struct sandbox *sandbox, const struct sandbox_program *program,
                        const struct sandbox_limits *limits, const char *input, size_t n_input,
                        struct sandbox_result *result)
{
    struct box_request request = {.magic = BOX_MAGIC,
                                  .request = BOX_REQUEST_RUN,
                                  .kind = (int32_t)program->kind,
                                  .fault = sandbox->fault};
    struct box_answer answer;
    int result_fd, fds[2] = {-1, -1};
    int status = 0;

    memset(result, 0, sizeof(*result));
    complete_limits(&request.limits, &sandbox->config, limits);
    TRY(memfd_of_input(&fds[0], input, n_input));
    if (program->kind == SANDBOX_NATIVE)
        fds[1] = program->fd;   /* executed: nobody reads it */
    else
        status = memfd_reopen(&fds[1], program->fd);
    if (status >= 0)
        status = client_ask(sandbox->client, &request, fds, 2, result, &answer, &result_fd);
    close(fds[0]);
    if (program->kind != SANDBOX_NATIVE && fds[1] >= 0)
        close(fds[1]);
    if (status < 0) {
        sandbox_result_release(result);
        return status;
    }
    result->verdict = (enum sandbox_verdict)answer.verdict;
    result->exit_code = answer.exit_code;
    result->signal = answer.signal;
    result->cpu_ms = answer.cpu_ms;
    result->wall_ms = answer.wall_ms;
    result->peak_bytes = answer.peak_bytes;
    if (answer.exec_error) {
        /* Its bytes are its own fault, as in a shell: a failure of ours would be a way out of a
         * judgement. */
        result->verdict = SANDBOX_EXITED;
        result->exit_code = 127;
        text_print(&result->errors, "cannot be executed: %s\n", strerror(answer.exec_error));
    }
    return 0;
}

int sandbox_run(struct sandbox *sandbox, const struct sandbox_program *program, const char *input,
                size_t n_input, struct sandbox_result *result)
{
    const struct sandbox_limits usual = {.cpu_ms = 0};

    return sandbox_run_limited(sandbox, program, &usual, input, n_input, result);
}
