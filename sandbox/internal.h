/*
 * sandbox/internal.h - what the files of sandbox/ share.
 *
 *   caller --socket--> attendant --socket--> cell (zygote) --clone--> init --clone--> program
 *                      (of the broker)       pid 1 of the cell        pid 1 of the run, pid 2
 *
 * The caller's side is sandbox.c and client.c. broker.c, attendant.c, watch.c, launch.c and
 * cgroup.c run in the broker, which has the caller's rights. cell.c, init.c, walls.c and python.c
 * run behind the walls.
 */
#ifndef HONE_SANDBOX_INTERNAL_H
#define HONE_SANDBOX_INTERNAL_H

#include <linux/filter.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/memory.h"
#include "sandbox/sandbox.h"

#define BOX_ID 1000                      /* user and group inside */
#define BOX_ERRORS_BYTES (16 * 1024)     /* of stderr and of compiler messages that is kept */
#define BOX_FILE_BYTES (64L << 20)       /* largest file a compiler may write */
#define BOX_COMPILE_MEMORY (768L << 20)
#define BOX_PATH_BYTES 4096
#define BOX_REASON_BYTES 512

/* The descriptors of the program; those from BOX_PROGRAM on close on exec. */
enum box_descriptor {
    BOX_STDIN,
    BOX_STDOUT,
    BOX_STDERR,
    BOX_ANSWER = SANDBOX_ANSWER,
    BOX_SCRIPT,     /* sealed memfd with the text; its runner closes it */
    BOX_PROGRAM,    /* what is executed; closes on exec */
    BOX_N_DESCRIPTORS,
    BOX_RULESET = BOX_N_DESCRIPTORS   /* of Landlock, until it is in force */
};

/* One cell each, made when the first of its kind is asked for. */
enum cell_kind { CELL_NATIVE, CELL_PYTHON, CELL_NODE, CELL_PYTHON_SERVER, CELL_COMPILE, N_CELLS };

enum filter_profile {
    FILTER_RUN = 1,
    FILTER_COMPILE = 2,
    FILTER_PYTHON = 4,
    FILTER_NODE = 8,
    FILTER_RUN_SCRATCH = 16,
    FILTER_PYTHON_SCRATCH = 32,
    FILTER_NODE_SCRATCH = 64
};
#define N_FILTERS 7   /* the filter of profile 1 << i is filters[i] */
int filter_build(struct sock_fprog *program, enum filter_profile profile);
void filter_release(struct sock_fprog *program);

/* What can fail while the walls go up, in order. */
#define BOX_STEP_MAP(X)                                                                            \
    X(IDS, "take the mapped user and group id")                                                    \
    X(PARENT_DEATH, "die with the parent")                                                         \
    X(PRIVATE, "make the mounts private")                                                          \
    X(ROOT, "mount a tmpfs as root")                                                               \
    X(NULL_DEVICE, "bind /dev/null")                                                               \
    X(BIND, "bind the directories of compiler or interpreter read-only")                           \
    X(PIVOT, "pivot_root into the new root")                                                       \
    X(READ_ONLY, "make the root read-only")                                                        \
    X(HOST_NAME, "set the host name")                                                              \
    X(HIDE, "make the cell not dumpable")                                                          \
    X(INTERPRETER, "open or start the interpreter")                                                \
    X(LANDLOCK, "restrict itself with Landlock")                                                   \
    X(REQUEST, "receive a run")                                                                    \
    X(NAMESPACE, "make the run's namespaces")                                                      \
    X(SCRATCH, "mount the scratch directory")                                                      \
    X(SOURCE, "write the sources for the compiler")                                                \
    X(SPAWN, "start the program's process")                                                        \
    X(DESCRIPTORS, "place the descriptors")                                                        \
    X(GROUP, "start a process group")                                                              \
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
    N_BOX_STEPS
};

enum box_report_kind {
    BOX_REPORT_READY = 1,   /* the cell stands */
    BOX_REPORT_STARTED,
    BOX_REPORT_FAILED,
    BOX_REPORT_CPU,
    BOX_REPORT_ENDED        /* everyone is dead and reaped */
};

/* From cell and init to the attendant, one message each. */
struct box_report {
    int32_t kind;
    int32_t step, error;         /* FAILED: what, errno */
    int32_t wait_status;         /* ENDED: of the program, as wait4() gives it */
    int32_t has_result;          /* ENDED: the compiler left a program */
    int64_t cpu_us, peak_bytes;  /* ENDED */
};

/* From the attendant to a cell, with the descriptors as rights, in the order of box_descriptor;
 * those that `descriptors` has no bit of are absent. For a compilation BOX_STDIN is the bundle and
 * BOX_SCRIPT the file for the result. */
struct box_plan {
    int32_t kind;                     /* enum cell_kind */
    int32_t probe;                    /* 0, or 1 + the probe that runs in the program's place */
    uint32_t descriptors;
    int32_t limit_address_space;      /* no memory group: RLIMIT_AS instead */
    int32_t fault;                    /* tests: 1 + the step that fails */
    int64_t cpu_ms, wall_ms, memory_bytes, output_bytes, processes, scratch_bytes, answer_bytes;
};

/* Where groups can be made. A base may be absent (""): then that limit falls to rlimits. */
struct group_bases {
    int version;                  /* 1, 2, or 0 when there is no memory group */
    char memory[BOX_PATH_BYTES];
    char pids[BOX_PATH_BYTES];    /* version 1 alone: its own hierarchy */
    char core[BOX_PATH_BYTES];    /* version 2 without controllers beside version 1: CPU time */
};

/* What the broker found out; every attendant and cell has a copy. */
struct box_host {
    struct sandbox_config config;
    int level;
    struct group_bases groups;
    struct sock_fprog filters[N_FILTERS];
    int privileged;               /* started by root: outside ids come from a range nobody uses */
    int64_t first_id, n_ids;
    int landlock;                 /* its version, 0 without */
    char python[BOX_PATH_BYTES], node[BOX_PATH_BYTES];   /* "": none */
    char pch[BOX_PATH_BYTES];     /* directory of precompiled headers, "" when there is none */
    int turns[2];                 /* files to lock: see turn_take() */
    char description[256];
    char shortfall[BOX_REASON_BYTES];   /* why the level is not a higher one */
};

/* cgroup.c: one set of groups for a cell, used again by run after run. */
struct cell_group {
    char memory[BOX_PATH_BYTES + 128], pids[BOX_PATH_BYTES + 128], core[BOX_PATH_BYTES + 128];
    int version;
    int64_t memory_bytes, processes;   /* limits that are set */
    int64_t oom_kills, cpu_us, stall_us;   /* counters when the run began */
    int peak_fd, kills_fd, stall_fd;   /* files of the groups, open as long as they stand; or -1 */
};
void group_find_bases(struct group_bases *bases);
int group_create(struct cell_group *group, const struct group_bases *bases);
int group_join(const struct cell_group *group, pid_t pid);
int group_begin(struct cell_group *group, const struct box_plan *plan);   /* limits, counters */
int64_t group_oom_kills(const struct cell_group *group);     /* since group_begin() */
int64_t group_peak_bytes(const struct cell_group *group);    /* 0 when unknown */
int64_t group_cpu_us(const struct cell_group *group);        /* -1 when unknown */
int64_t group_stall_us(const struct cell_group *group);      /* waiting for a core; -1: unknown */
int group_knows_stall(const struct cell_group *group);
void group_remove(struct cell_group *group);
void group_sweep(const struct group_bases *bases);   /* those of dead owners */

void group_name_prefix(char *out, size_t n, long pid);   /* of what belongs to that process */

/* launch.c: a cell as its attendant sees it. */
struct cell {
    enum cell_kind kind;
    pid_t pid;                    /* 0: not running */
    int pidfd, socket;
    int64_t n_runs;
    int64_t n_others;             /* threads that count against the program's limit, level 1 */
    struct cell_group group;
    char scratch[BOX_PATH_BYTES]; /* level 1, compiler: its directory */
};
/* Steps of the attendant that tests can make fail, after those of the map above. */
enum launch_fault { LAUNCH_GROUP = N_BOX_STEPS, LAUNCH_CLONE, LAUNCH_MAPS, LAUNCH_PIPES, N_FAULTS };
int cell_start(struct cell *cell, const struct box_host *host, enum cell_kind kind, int fault);
void cell_stop(struct cell *cell);
const char *box_step_text(int step);
int box_fail_step(const struct box_report *failure);

/* How a box ended. */
struct box_outcome {
    struct sandbox_result result;
    int has_result;      /* the compiler left a program */
    int exec_error;      /* errno when the program's bytes could not be executed, or 0 */
    int knows_stall;     /* time spent waiting for a core was counted and forgiven */
};

/* attendant.c: serves one caller, one request at a time. */
struct attendant {
    const struct box_host *host;
    int channel;                  /* to the caller; -1 in the broker's own probes */
    struct cell cells[N_CELLS];
};
/* fd[] are the caller's and stay open. Negative when a wall failed: nothing ran, or nothing may be
 * believed. */
int box_execute(struct attendant *attendant, struct box_plan *plan, const int *fd,
                struct box_outcome *outcome);
__attribute__((noreturn)) void attendant_serve(const struct box_host *host, int channel);
void attendant_release(struct attendant *attendant);

/* precompiled.c: the directory is made with the broker, the header when a compilation wants it. */
void precompiled_open(struct box_host *host);
void precompiled_close(struct box_host *host);
void precompiled_need(struct attendant *attendant, int bundle_fd);

/* watch.c: the attendant's side while a run lives. */
struct box_watch {
    struct cell *cell;
    int channel;
    int output_fd, errors_fd, answer_fd;
    int64_t wall_ms, waited_ms;        /* waited: for a core, which extends the deadline */
    int64_t deadline_ms, output_bytes, answer_bytes, cpu_limit_us;
    int64_t n_errors;                  /* bytes of stderr seen */
    int check_cpu;                     /* the group's CPU time counts, not the program's alone */
    enum sandbox_verdict latched;      /* the sandbox's reason, set before it kills */
    int started, ended, caller_gone, dead;
    struct box_report end, failure;    /* failure.kind is 0 when no step failed */
};
int box_watch(struct box_watch *watch, struct sandbox_result *result);

/* turn.c: runs at the same time, or one alone. */
int turn_create(int turns[2]);
int turn_open(int turns[2], const int shared[2]);   /* an attendant's own view */
void turn_take(const int turns[2], int alone);
void turn_give(const int turns[2]);

/* bundle.c: what a compilation needs in one block: arguments, files, name of the result. */
struct bundle_file {
    const char *name;
    const unsigned char *bytes;
    uint64_t n;
};
#define BUNDLE_ARGUMENTS_MAX 128
#define BUNDLE_FILES_MAX 16
struct bundle {
    char *arguments[BUNDLE_ARGUMENTS_MAX + 1];
    struct bundle_file files[BUNDLE_FILES_MAX];
    uint32_t n_files;
    const char *output;
};
int bundle_write(struct text *out, const struct sandbox_compilation *compilation);
/* -1 when it is malformed; the bundle points into `bytes`. */
int bundle_read(struct bundle *bundle, unsigned char *bytes, size_t n);

/* cell.c: the zygote. In memory that it shares with its init; a program never has it. */
struct cell_life {
    const struct box_host *host;
    enum cell_kind kind;
    int socket;
    int landlock_fd, interpreter_fd;   /* -1 when there is none */
    const char *scratch;               /* level 1, compiler: its directory */
    int ready;                         /* the cell stands */
    struct box_plan plan;
    int fd[BOX_N_DESCRIPTORS];         /* -1 when absent */
    int run_ruleset;                   /* of this run */
    pid_t init;                        /* as its program sees it */
    struct bundle bundle;
    struct box_report end, failure;    /* failure.kind is 0 when no step failed */
};
__attribute__((noreturn)) void cell_live(const struct box_host *host, enum cell_kind kind,
                                         int socket, const char *scratch,
                                         int64_t outside, int fault);
void box_clean_stack(char *stack, size_t n);
/* init.c: the life of a run's init; fills life->end. */
int init_live(void *life);

/* walls.c: each does one step of the map above or leaves a failure and ends the process. */
/* The call alone: nothing hooks it. It never returns, and no compiler may know: a sanitizer would
 * have its say about a stack that is not the thread's, on a descriptor that is the program's. */
void box_exit(int code);
void box_need(struct cell_life *life, int result, enum box_step step);
void box_build_root(struct cell_life *life);
void box_drop_bounding_set(struct cell_life *life);
void box_limit_cell(struct cell_life *life);
void box_mount_scratch(struct cell_life *life);
void box_confine(struct cell_life *life);

/* landlock.c */
int landlock_version(void);
int landlock_prepare(const struct cell_life *life);   /* a ruleset's descriptor, or -1 */
int landlock_apply(int ruleset);

/* python.c: an interpreter inside the cell. */
int python_has_library(const char *interpreter);
int python_start(const char *interpreter);
void python_run_script(int script_fd);   /* never returns */

/* The protocol between caller and attendant: one message each way. */
#define BOX_MAGIC 0x78306f62u
enum box_request_kind { BOX_REQUEST_RUN, BOX_REQUEST_COMPILE };
struct box_request {
    uint32_t magic;
    int32_t request;                 /* enum box_request_kind */
    int32_t kind;                    /* enum sandbox_kind */
    int32_t precompiled;
    struct sandbox_limits limits;    /* complete */
    int32_t fault;
};
struct box_answer {
    uint32_t magic;
    int32_t status;                  /* STATUS_* */
    int32_t verdict, exit_code, signal, exec_error, has_result;
    int64_t cpu_ms, wall_ms, peak_bytes;
    uint64_t n_output, n_errors, n_answer;   /* they follow, or are in a memfd when too long */
    char reason[BOX_REASON_BYTES];
};
struct box_hello {
    uint32_t magic;
    int32_t status, level, supports;   /* supports: bits of enum sandbox_kind */
    int32_t n_cells, pid;              /* pid: the broker's */
    char description[256], reason[BOX_REASON_BYTES];
};
#define BOX_INLINE_BYTES 65536
#define BOX_RIGHTS_MAX 8
/* rights.c: 0 or -1 with errno; received descriptors close on exec; *n_fds is in and out. */
int rights_send(int socket, const void *header, size_t n_header, const void *more, size_t n_more,
                const int *fds, int n_fds);
ssize_t rights_receive(int socket, void *bytes, size_t n, int *fds, int *n_fds);

/* broker.c */
#define BROKER_NAME "hone-sandbox-broker"
#define BROKER_SOCKET 3
int broker_examine(struct box_host *host);   /* finds out everything but host->config */
void broker_is_linked(void);   /* called so that a linker takes broker.c along */

/* client.c: the caller's side. */
struct client;
int client_create(struct client **out, const struct sandbox_config *config);
void client_destroy(struct client **client);
const struct box_hello *client_hello(const struct client *client);
/* `fds` stay the caller's. *result_fd is the compiled program, -1 without. */
int client_ask(struct client *client, const struct box_request *request, const int *fds, int n_fds,
               struct sandbox_result *result, struct box_answer *answer, int *result_fd);

struct sandbox_program {
    enum sandbox_kind kind;
    int fd;            /* sealed memfd */
};
struct sandbox_program *program_create(enum sandbox_kind kind, int fd);

struct sandbox {
    struct sandbox_config config;
    struct client *client;
    char compiler[BOX_PATH_BYTES];
    int32_t fault;     /* tests: 1 + the step that fails */
};

/* memfd.c */
int memfd_make(int *out, const char *name);
int memfd_fill(int fd, const void *bytes, size_t n);
int memfd_seal(int fd);
int memfd_reopen(int *out, int fd);
int memfd_of_input(int *out, const void *bytes, size_t n);   /* sealed, open for reading alone */

/* probe.c: tries to break each wall from inside; negative names the one that gave way. */
int sandbox_prove_walls(struct attendant *attendant);
int probe_run(int probe);          /* in the program's place; 0 is good */
int probe_has_filter(int probe);
/* host.c: why this host refused a step, and what would help; static text. */
const char *host_explain_refusal(void);
int host_choose_ids(struct box_host *host);
int host_find_compiler(struct sandbox *sandbox);
void host_find_interpreters(struct box_host *host);
int64_t host_count_threads(void);   /* of this process's user */

#endif
