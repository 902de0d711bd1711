/*
 * sandbox/internal.h - what the files of sandbox/ share: a plan, the box made from it, its outcome.
 *
 *   caller --clone3--> init (pid 1 of the box) --clone3--> program (pid 2) --execveat--> stranger
 *
 * box.c is the child's side: it builds the walls and may use system calls alone, because the caller
 * may have threads whose locks were copied in any state. launch.c and watch.c are the caller's.
 */
#ifndef HONE_SANDBOX_INTERNAL_H
#define HONE_SANDBOX_INTERNAL_H

#include <linux/filter.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "sandbox/sandbox.h"

#define BOX_ID 1000                      /* user and group inside */
#define BOX_ERRORS_BYTES (16 * 1024)     /* of stderr and of compiler messages that is kept */
#define BOX_FILE_BYTES (64L << 20)       /* largest file a compiler may write */
#define BOX_COMPILE_MEMORY (768L << 20)
#define BOX_PATH_BYTES 4096

/* The descriptors of init, at fixed numbers; those above 2 close on exec. */
enum box_descriptor {
    BOX_STDIN,
    BOX_STDOUT,
    BOX_STDERR,
    BOX_STATUS,     /* reports to the caller */
    BOX_PROGRAM,    /* sealed memfd that is executed */
    BOX_GO,         /* a byte comes when ids and groups are set; its end means stop */
    BOX_RESULT,     /* memfd that gets the compiled program */
    BOX_N_DESCRIPTORS
};

enum box_kind { BOX_RUN, BOX_COMPILE, BOX_PROBE };

/* What can fail while the walls go up, in order. */
#define BOX_STEP_MAP(X)                                                                            \
    X(IDS, "take the mapped user and group id")                                                    \
    X(PARENT_DEATH, "die with the parent")                                                         \
    X(PRIVATE, "make the mounts private")                                                          \
    X(ROOT, "mount a tmpfs as root")                                                               \
    X(NULL_DEVICE, "bind /dev/null")                                                               \
    X(BIND, "bind the compiler's directories read-only")                                           \
    X(SCRATCH, "mount the compiler's /tmp")                                                        \
    X(PIVOT, "pivot_root into the new root")                                                       \
    X(READ_ONLY, "make the root read-only")                                                        \
    X(HOST_NAME, "set the host name")                                                              \
    X(HIDE, "make init not dumpable")                                                              \
    X(SOURCE, "write the source for the compiler")                                                 \
    X(SPAWN, "start the program's process")                                                        \
    X(SESSION, "start a session")                                                                  \
    X(LIMITS, "set the resource limits")                                                           \
    X(CAPABILITIES, "drop all capabilities")                                                       \
    X(PRIVILEGES, "set no_new_privs")                                                              \
    X(FILTER, "install the system call filter")                                                    \
    X(EXEC, "execute the program")                                                                 \
    X(RESULT, "copy the compiled program")
enum box_step {
#define X(name, text) BOX_STEP_##name,
    BOX_STEP_MAP(X)
#undef X
};

enum box_report_kind {
    BOX_REPORT_STARTED = 1,
    BOX_REPORT_FAILED,
    BOX_REPORT_CPU,
    BOX_REPORT_ENDED
};

/* From init to the caller; smaller than PIPE_BUF, so each arrives whole. */
struct box_report {
    int32_t kind;
    int32_t step, error;         /* FAILED: what, errno */
    int32_t wait_status;         /* ENDED: of the program, as wait4() gives it */
    int32_t has_result;          /* ENDED: BOX_RESULT holds the compiled program */
    int64_t cpu_us, peak_bytes;  /* ENDED */
};

/* Complete before the clone; the child only reads it. */
struct box_plan {
    enum box_kind kind;
    int64_t cpu_ms, wall_ms, memory_bytes, output_bytes;
    int64_t processes;
    int limit_address_space;          /* no memory group: RLIMIT_AS instead */
    int drop_groups;                  /* started by root: supplementary groups can be dropped */
    const struct sock_fprog *filter;  /* NULL in probes of the walls behind it */
    int (*probe)(void);               /* BOX_PROBE: runs in the program's place; 0 is good */
    char *const *arguments;           /* NULL-ended */
    char *const *environment;         /* NULL-ended */
    int fd[BOX_N_DESCRIPTORS];        /* -1 where there is none */
};

/* How a box ended. */
struct box_outcome {
    struct sandbox_result result;
    int has_result;   /* the compiler left a program in fd[BOX_RESULT] */
    int exec_error;   /* errno when the program's bytes could not be executed, or 0 */
};

/* box.c: the life of init, from clone to its exit. */
__attribute__((noreturn)) void box_live(const struct box_plan *plan);
/* walls.c: each does one step of the map above or reports it and ends the process. */
__attribute__((noreturn)) void box_exit(int code);   /* the call alone: nothing hooks it */
void box_need(int result, enum box_step step);
void box_send(const struct box_report *report);
void box_build_root(const struct box_plan *plan);
void box_confine(const struct box_plan *plan);

/* cgroup.c. A base may be absent (""): then that limit falls to rlimits. */
struct group_bases {
    int version;                  /* 1, 2, or 0 when there is no memory group */
    char memory[BOX_PATH_BYTES];
    char pids[BOX_PATH_BYTES];    /* version 1 alone: its own hierarchy */
};
struct run_group {
    char memory[BOX_PATH_BYTES + 128], pids[BOX_PATH_BYTES + 128];   /* "" when absent */
    int version;
};
void group_find_bases(struct group_bases *bases);
int group_create(struct run_group *group, const struct group_bases *bases, int64_t memory_bytes,
                 int64_t processes);
int group_join(const struct run_group *group, pid_t pid);
int64_t group_oom_kills(const struct run_group *group);
int64_t group_peak_bytes(const struct run_group *group);   /* 0 when unknown */
void group_remove(struct run_group *group);

/* filter.c */
enum filter_profile { FILTER_RUN = 1, FILTER_COMPILE = 2 };
int filter_build(struct sock_fprog *program, enum filter_profile profile);
void filter_release(struct sock_fprog *program);

struct sandbox {
    struct sandbox_config config;
    struct group_bases groups;
    struct sock_fprog run_filter, compile_filter;
    char compiler[BOX_PATH_BYTES];
    char description[160];
    int privileged;        /* started by root: outside ids come from a range nobody uses */
    int64_t first_id, n_ids;
};

/* launch.c: builds the box, watches it, takes it down. plan->fd[STDIN, PROGRAM, RESULT] are the
 * caller's and stay open. Negative when a wall failed: nothing ran, or nothing may be believed. */
int box_execute(struct sandbox *sandbox, struct box_plan *plan, struct box_outcome *outcome);

/* watch.c: the caller's side while the box lives. */
struct box_watch {
    pid_t pid;
    int pidfd, output_fd, errors_fd, status_fd, go_fd;
    int64_t started_ms, deadline_ms, output_bytes;
    int64_t n_errors;                  /* bytes of stderr seen */
    enum sandbox_verdict latched;      /* the sandbox's reason, set before it kills */
    int started, ended;
    struct box_report end, failure;    /* failure.kind is 0 when no step failed */
};
int box_watch(struct box_watch *watch, struct sandbox_result *result);

/* memfd.c */
int memfd_make(int *out, const char *name);
int memfd_fill(int fd, const void *bytes, size_t n);
int memfd_seal(int fd);
int memfd_of_input(int *out, const void *bytes, size_t n);   /* sealed, open for reading alone */

/* probe.c: tries to break each wall from inside; negative names the one that gave way. */
int sandbox_prove_walls(struct sandbox *sandbox);
/* host.c: why this host refused a step, and what would help; static text. */
const char *host_explain_refusal(void);
int host_choose_ids(struct sandbox *sandbox);
int host_find_compiler(struct sandbox *sandbox);

#endif
