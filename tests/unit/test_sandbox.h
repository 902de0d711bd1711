/*
 * tests/unit/test_sandbox.h - what the test programs of sandbox/ share: one sandbox, and C programs
 * as strings that are compiled and run in it.
 */
#ifndef HONE_TESTS_UNIT_TEST_SANDBOX_H
#define HONE_TESTS_UNIT_TEST_SANDBOX_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/status.h"
#include "sandbox/internal.h"
#include "sandbox/sandbox.h"

#define HEADERS                                                                                    \
    "#define _GNU_SOURCE\n"                                                                        \
    "#include <errno.h>\n#include <fcntl.h>\n#include <pthread.h>\n#include <signal.h>\n"          \
    "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>\n"          \
    "#include <sys/mman.h>\n#include <sys/socket.h>\n#include <sys/syscall.h>\n"                   \
    "#include <sys/wait.h>\n#include <time.h>\n"
#define MAIN(body) HEADERS "int main(void) {" body "}\n"

static struct sandbox *box;   /* NULL: this host has no sandbox, and every test skips */

static inline struct sandbox_config test_config(void)
{
    struct sandbox_config config = {.cpu_ms = 1000,
                                    .wall_ms = 8000,
                                    .compile_ms = 20000,
                                    .memory_bytes = 64 << 20,
                                    .output_bytes = 64 << 10,
                                    .processes = 4,
                                    .max_level = 3,
                                    .python = "auto",
                                    .node = "auto",
                                    .python_server = 1,
                                    .compiler = "auto"};

    return config;
}

/* Asked without the sandbox, so that a broken wall does not look like a host that lacks one. */
static inline int host_has_namespaces(void)
{
    int status = 1;
    pid_t pid = fork();

    if (pid == 0)
        _exit(unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET) < 0 ||
              mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0);
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static inline int open_box(void **state)
{
    struct sandbox_config config = test_config();

    (void)state;
    if (sandbox_create(&box, &config) == 0)
        return 0;
    print_message("%s: %s\n", host_has_namespaces() ? "FAILED" : "SKIP", status_reason());
    return host_has_namespaces() ? -1 : 0;
}

static inline int close_box(void **state)
{
    (void)state;
    sandbox_destroy(&box);
    return 0;
}

static inline void need_box(void)
{
    if (!box)
        skip();
}

static inline struct sandbox_program *compile(const char *source)
{
    struct sandbox_program *program = NULL;
    struct text messages = {0};

    if (sandbox_compile_c(box, source, strlen(source), &program, &messages) < 0)
        fail_msg("%s", status_reason());
    if (!program)
        fail_msg("%s", messages.data ? messages.data : "no messages");
    text_release(&messages);
    return program;
}

/* Expects the compiler to refuse; its words go to `messages`. */
static inline void refuse_source(const char *source, struct text *messages)
{
    struct sandbox_program *program = NULL;

    if (sandbox_compile_c(box, source, strlen(source), &program, messages) < 0)
        fail_msg("%s", status_reason());
    assert_null(program);
    assert_true(messages->length > 0);
}

static inline void run_with(const char *source, const char *input, size_t n,
                            struct sandbox_result *result)
{
    need_box();
    struct sandbox_program *program = compile(source);
    if (sandbox_run(box, program, input, n, result) < 0)
        fail_msg("%s", status_reason());
    sandbox_program_release(&program);
}

/* Runs without input and expects this end. */
static inline void run_expecting(const char *source, enum sandbox_verdict verdict, int code)
{
    struct sandbox_result result;

    run_with(source, "", 0, &result);
    int got = verdict == SANDBOX_SIGNALED ? result.signal : result.exit_code;
    int with_code = verdict == SANDBOX_EXITED || verdict == SANDBOX_SIGNALED;
    if (result.verdict != verdict || (with_code && got != code))
        fail_msg("%s, exit code %d, signal %d, cpu %lld ms: %s%s",
                 sandbox_verdict_name(result.verdict), result.exit_code, result.signal,
                 (long long)result.cpu_ms, result.output.data ? result.output.data : "",
                 result.errors.data ? result.errors.data : "");
    sandbox_result_release(&result);
}

#endif
