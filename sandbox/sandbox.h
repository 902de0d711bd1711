/*
 * sandbox/sandbox.h - runs a program nobody trusts, and compiles one.
 *
 * Each run gets fresh user, pid, mount, network, ipc, uts and cgroup namespaces, a read-only root
 * that holds only what the language needs, rlimits, a seccomp allow list, no descriptors but 0-2,
 * and dies as a whole when its main process ends or a limit is passed. A wall that cannot be built
 * is an error: the program is then not run (fail closed). sandbox/README.md lists the walls.
 *
 * Thread rule: any thread, but the caller must not ignore SIGCHLD. Deadline: every call returns
 * within wall_ms plus about a second.
 */
#ifndef HONE_SANDBOX_SANDBOX_H
#define HONE_SANDBOX_SANDBOX_H

#include <stddef.h>
#include <stdint.h>

#include "common/config.h"
#include "common/memory.h"

struct sandbox_config {
    int64_t cpu_ms, wall_ms;         /* limits of one run */
    int64_t compile_ms;              /* wall limit of one compilation */
    int64_t memory_bytes, output_bytes;
    int64_t processes;               /* threads and processes of one run */
    char compiler[CONFIG_TEXT_BYTES];   /* path of the C compiler */
};
extern const struct config_section sandbox_config_section;   /* section "sandbox" */

/* Why a run ended; the sandbox's own reason is recorded before it kills. */
enum sandbox_verdict {
    SANDBOX_EXITED,          /* by itself; exit_code says how */
    SANDBOX_SIGNALED,        /* by a signal of its own; signal says which */
    SANDBOX_CPU_LIMIT,
    SANDBOX_WALL_LIMIT,
    SANDBOX_MEMORY_LIMIT,
    SANDBOX_OUTPUT_LIMIT,
    SANDBOX_VIOLATION        /* a forbidden system call */
};
const char *sandbox_verdict_name(enum sandbox_verdict verdict);   /* "exited", "cpu limit" */

struct sandbox_result {
    enum sandbox_verdict verdict;
    int exit_code, signal;
    int64_t cpu_ms, wall_ms, peak_bytes;
    struct text output, errors;      /* stdout and the first 16 KiB of stderr; owned by caller */
};
void sandbox_result_release(struct sandbox_result *result);

struct sandbox;
/* Proves by probes that the walls stand on this host; STATUS_UNSUPPORTED names the one that does
 * not and what would help. */
int sandbox_create(struct sandbox **out, const struct sandbox_config *config);
void sandbox_destroy(struct sandbox **sandbox);
/* "namespaces, seccomp, cgroup v1 memory": for doctor. */
const char *sandbox_description(const struct sandbox *sandbox);

/* A compiled program: its bytes, kept in a sealed memfd. */
struct sandbox_program;
void sandbox_program_release(struct sandbox_program **program);

/* Compiles C source (static, -O1) inside a sandbox of its own. Returns 0 with *out NULL when the
 * compiler refused the source: `messages` then holds its words. Negative is our own failure. */
int sandbox_compile_c(struct sandbox *sandbox, const char *source, size_t n,
                      struct sandbox_program **out, struct text *messages);

/* Runs it with `input` on stdin. 0 when there is a verdict; negative when the sandbox itself failed
 * (the program then must not be judged). */
int sandbox_run(struct sandbox *sandbox, const struct sandbox_program *program, const char *input,
                size_t n_input, struct sandbox_result *result);

#endif
