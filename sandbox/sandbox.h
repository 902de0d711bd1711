/*
 * sandbox/sandbox.h - runs a program nobody trusts, and compiles one.
 *
 * sandbox_create() starts a broker, a process of its own that keeps cells: processes in their own
 * user, network, ipc and uts namespaces and an empty read-only root. Each run gets a new pid
 * namespace in a cell, limits, a system call allow list, no descriptors but its own, and dies as a
 * whole when its main process ends or a limit is passed. A wall that cannot be built is an error:
 * the program is then not run (fail closed). sandbox/README.md lists the walls.
 *
 * Thread rule: any thread, and as many at once as there are; but a fork()ed child of the caller
 * makes its own sandbox. Deadline: every call returns within wall_ms plus a few seconds, once it
 * has its turn: runs wait for one of sandbox.cells.
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
    char python[CONFIG_TEXT_BYTES], node[CONFIG_TEXT_BYTES];   /* paths of the interpreters */
    int64_t python_server;           /* 1: an interpreter that is started once forks for each run */
    int64_t cells;                   /* runs at once; 0: twice the cores */
    int64_t min_level, max_level;    /* of isolation; min_level 0: 3 for root, else 2 */
    char cpp_compiler[CONFIG_TEXT_BYTES];
    char c_flags[CONFIG_TEXT_BYTES], cpp_flags[CONFIG_TEXT_BYTES];   /* lists */
    char language_factors[CONFIG_TEXT_BYTES];   /* list: "python=2": times the CPU and wall limit */
    char program_cache[CONFIG_TEXT_BYTES];      /* directory of compiled programs, or "" */
    int64_t program_cache_bytes;
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
    struct text answer;              /* what came from descriptor SANDBOX_ANSWER */
};
void sandbox_result_release(struct sandbox_result *result);

struct sandbox;
/* Proves by probes that the walls stand on this host; STATUS_UNSUPPORTED names the one that does
 * not and what would help. */
int sandbox_create(struct sandbox **out, const struct sandbox_config *config);
void sandbox_destroy(struct sandbox **sandbox);
/* "namespaces, seccomp, cgroup v1 memory": for doctor. */
const char *sandbox_description(const struct sandbox *sandbox);

/* 3: namespaces, memory and process groups; 2: without groups; 1: Landlock and seccomp alone. What
 * the probes proved, not what the host says of itself. */
int sandbox_level(const struct sandbox *sandbox);

/* Why it is not the level above, and what would help; "" at the highest. */
const char *sandbox_shortfall(const struct sandbox *sandbox);

/* What a program is made of; decides its root directory and its system calls. */
enum sandbox_kind { SANDBOX_NATIVE, SANDBOX_PYTHON, SANDBOX_NODE };
/* 1 when programs of this kind can be run: their interpreter is there. */
int sandbox_supports(const struct sandbox *sandbox, enum sandbox_kind kind);

/* A program ready to run: its bytes, kept in a sealed memfd. */
struct sandbox_program;
void sandbox_program_release(struct sandbox_program **program);

/* Compiles C source (static, -O1) inside a sandbox of its own. Returns 0 with *out NULL when the
 * compiler refused the source: `messages` then holds its words. Negative is our own failure. */
int sandbox_compile_c(struct sandbox *sandbox, const char *source, size_t n,
                      struct sandbox_program **out, struct text *messages);

/* The same for any compiler below /usr: the files are written to the compiler's directory (plain
 * names), and `output` there must become a static program, or, with keep_object, anything that a
 * later compilation takes as one of its files (sandbox_program_bytes). */
struct sandbox_file {
    const char *name;
    const void *bytes;
    size_t n;
};
struct sandbox_compilation {
    const char *const *arguments;   /* NULL-ended; the first is the compiler's absolute path */
    const struct sandbox_file *files;
    size_t n_files;
    const char *output;             /* NULL: "program" */
    int64_t compile_ms;             /* 0: sandbox.compile_ms */
    int precompiled;                /* 1: g++ finds bits/stdc++.h precompiled for these arguments */
};
int sandbox_compile(struct sandbox *sandbox, const struct sandbox_compilation *compilation,
                    struct sandbox_program **out, struct text *messages);
/* Appends the program's bytes, such as those of an object file. */
int sandbox_program_bytes(const struct sandbox_program *program, struct text *out);

/* The text of a script as a program of an interpreted kind. */
int sandbox_load_script(struct sandbox *sandbox, enum sandbox_kind kind, const char *source,
                        size_t n, struct sandbox_program **out);

/* Runs it with `input` on stdin. 0 when there is a verdict; negative when the sandbox itself failed
 * (the program then must not be judged). */
int sandbox_run(struct sandbox *sandbox, const struct sandbox_program *program, const char *input,
                size_t n_input, struct sandbox_result *result);

/* The same with limits of its own; 0 takes the configuration's. */
/* Two mappings instead of four, and nothing to protect after the start: a program begins sooner. */
#define SANDBOX_LINK "-Wl,-z,noseparate-code,-z,norelro"
#define SANDBOX_ANSWER 3             /* the descriptor for what is not standard output */
struct sandbox_limits {
    int64_t cpu_ms, wall_ms, memory_bytes, output_bytes, processes;
    int64_t scratch_bytes;           /* an empty writable /tmp of this size; 0: no writable place */
    int64_t answer_bytes;            /* cap of SANDBOX_ANSWER; 0: there is no such descriptor */
};
int sandbox_run_limited(struct sandbox *sandbox, const struct sandbox_program *program,
                        const struct sandbox_limits *limits, const char *input, size_t n_input,
                        struct sandbox_result *result);

#include "sandbox/judge.h"

#endif
