/*
 * The public face: a sandbox, programs compiled in it, runs of them. A sandbox does not change once
 * it is made, and programs never do, so any number of threads may use both.
 */
#include "sandbox/sandbox.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/status.h"
#include "sandbox/internal.h"

struct sandbox_program {
    int fd;   /* sealed memfd */
};

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

static void describe(struct sandbox *sandbox)
{
    const struct group_bases *groups = &sandbox->groups;
    const char *memory = groups->version == 2   ? "cgroup v2 memory"
                         : !groups->version     ? "no cgroup: memory limited by address space"
                         : groups->pids[0]      ? "cgroup v1 memory and pids"
                                                : "cgroup v1 memory";

    snprintf(sandbox->description, sizeof(sandbox->description),
             "namespaces, read-only root, seccomp, rlimits, %s", memory);
}

int sandbox_create(struct sandbox **out, const struct sandbox_config *config)
{
    struct sandbox *sandbox = mem_alloc(1, sizeof(*sandbox));
    int status;

    *out = NULL;
    sandbox->config = *config;
    TRY_OUT(host_choose_ids(sandbox));
    TRY_OUT(host_find_compiler(sandbox));
    TRY_OUT(filter_build(&sandbox->run_filter, FILTER_RUN));
    TRY_OUT(filter_build(&sandbox->compile_filter, FILTER_COMPILE));
    group_find_bases(&sandbox->groups);
    TRY_OUT(sandbox_prove_walls(sandbox));
    TRY_OUT(prove_compiler(sandbox));
    describe(sandbox);
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
    filter_release(&(*sandbox)->run_filter);
    filter_release(&(*sandbox)->compile_filter);
    mem_free(*sandbox);
    *sandbox = NULL;
}

const char *sandbox_description(const struct sandbox *sandbox)
{
    return sandbox->description;
}

void sandbox_program_release(struct sandbox_program **program)
{
    if (!*program)
        return;
    close((*program)->fd);
    mem_free(*program);
    *program = NULL;
}

/* Length of the UTF-8 sequence at `bytes`, or 0. Overlong forms and surrogates are let through:
 * this is for people's eyes. */
static size_t sequence_length(const unsigned char *bytes, size_t n)
{
    size_t length = bytes[0] < 0x80   ? 1
                    : bytes[0] < 0xc2 ? 0
                    : bytes[0] < 0xe0 ? 2
                    : bytes[0] < 0xf0 ? 3
                    : bytes[0] < 0xf5 ? 4
                                      : 0;

    if (length > n)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((bytes[i] & 0xc0) != 0x80)
            return 0;
    return length;
}

/* The compiler repeats what the stranger wrote: no control bytes reach a terminal or a log. */
static void append_clean(struct text *out, const struct text *dirty)
{
    const unsigned char *bytes = (const unsigned char *)dirty->data;

    for (size_t i = 0; i < dirty->length;) {
        size_t n = sequence_length(bytes + i, dirty->length - i);
        int control = bytes[i] < 0x20 && bytes[i] != '\n' && bytes[i] != '\t';
        if (n == 0 || control || bytes[i] == 0x7f)
            text_append(out, "?", 1);
        else
            text_append(out, bytes + i, n);
        i += n ? n : 1;
    }
}

static void explain_refusal(const struct sandbox_result *result, struct text *messages)
{
    append_clean(messages, &result->errors);
    if (result->verdict != SANDBOX_EXITED)
        text_print(messages, "compiler stopped: %s\n", sandbox_verdict_name(result->verdict));
    else if (result->exit_code == 0)
        text_print(messages, "the compiler left no program\n");
}

static int keep_program(struct sandbox_program **out, int fd)
{
    TRY(memfd_seal(fd));
    *out = mem_alloc(1, sizeof(**out));
    (*out)->fd = fd;
    return 0;
}

int sandbox_compile_c(struct sandbox *sandbox, const char *source, size_t n,
                      struct sandbox_program **out, struct text *messages)
{
    char *const arguments[] = {sandbox->compiler, "-x", "c",       "-std=gnu11", "-O1", "-static",
                               "-w",              "-pipe", "-o", "program", "source.c", "-lm",
                               NULL};
    char *const environment[] = {"PATH=/usr/bin:/bin", "LC_ALL=C", "TMPDIR=/tmp", NULL};
    struct box_outcome outcome;
    struct box_plan plan = {.kind = BOX_COMPILE,
                            .cpu_ms = sandbox->config.compile_ms,
                            .wall_ms = sandbox->config.compile_ms,
                            .memory_bytes = BOX_COMPILE_MEMORY,
                            .output_bytes = BOX_ERRORS_BYTES,
                            .processes = 16,
                            .filter = &sandbox->compile_filter,
                            .arguments = arguments,
                            .environment = environment};
    int status = 0;

    *out = NULL;
    for (int i = 0; i < BOX_N_DESCRIPTORS; i++)
        plan.fd[i] = -1;
    TRY_OUT(memfd_of_input(&plan.fd[BOX_STDIN], source, n));
    TRY_OUT(memfd_make(&plan.fd[BOX_RESULT], "program"));
    TRY_OUT(box_execute(sandbox, &plan, &outcome));
    if (outcome.has_result && outcome.result.verdict == SANDBOX_EXITED) {
        status = keep_program(out, plan.fd[BOX_RESULT]);
        if (status >= 0)
            plan.fd[BOX_RESULT] = -1;
    } else if (outcome.result.verdict == SANDBOX_WALL_LIMIT &&
               outcome.result.cpu_ms < plan.cpu_ms / 10) {
        /* No source makes a compiler sleep: the machine had no time for it. */
        status = status_fail(STATUS_TIMEOUT,
                             "sandbox: a compilation got %lld ms of CPU in %lld ms: raise "
                             "sandbox.compile_ms or run fewer at once",
                             (long long)outcome.result.cpu_ms, (long long)plan.wall_ms);
    } else {
        explain_refusal(&outcome.result, messages);
    }
    sandbox_result_release(&outcome.result);
out:
    if (plan.fd[BOX_STDIN] >= 0)
        close(plan.fd[BOX_STDIN]);
    if (plan.fd[BOX_RESULT] >= 0)
        close(plan.fd[BOX_RESULT]);
    return status;
}

int sandbox_run(struct sandbox *sandbox, const struct sandbox_program *program, const char *input,
                size_t n_input, struct sandbox_result *result)
{
    char *const arguments[] = {"program", NULL};
    char *const environment[] = {NULL};
    struct box_outcome outcome;
    struct box_plan plan = {.kind = BOX_RUN,
                            .cpu_ms = sandbox->config.cpu_ms,
                            .wall_ms = sandbox->config.wall_ms,
                            .memory_bytes = sandbox->config.memory_bytes,
                            .output_bytes = sandbox->config.output_bytes,
                            .processes = sandbox->config.processes,
                            .filter = &sandbox->run_filter,
                            .arguments = arguments,
                            .environment = environment};

    memset(result, 0, sizeof(*result));
    for (int i = 0; i < BOX_N_DESCRIPTORS; i++)
        plan.fd[i] = -1;
    TRY(memfd_of_input(&plan.fd[BOX_STDIN], input, n_input));
    plan.fd[BOX_PROGRAM] = program->fd;
    int status = box_execute(sandbox, &plan, &outcome);
    close(plan.fd[BOX_STDIN]);
    TRY(status);
    *result = outcome.result;
    if (outcome.exec_error) {
        /* Its bytes are its own fault, as in a shell: a failure of ours would be a way out of a
         * judgement. */
        result->verdict = SANDBOX_EXITED;
        result->exit_code = 127;
        text_print(&result->errors, "cannot be executed: %s\n", strerror(outcome.exec_error));
    }
    return 0;
}
