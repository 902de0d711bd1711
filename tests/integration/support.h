/*
 * tests/integration/support.h - runs the real program in a temporary directory, and looks at what
 * it leaves behind.
 *
 * Nothing here sleeps and hopes: WAIT_UNTIL polls a condition (a row in run.db, a line of the log,
 * a process) up to DEADLINE_MS.
 */
#ifndef HONE_TESTS_INTEGRATION_SUPPORT_H
#define HONE_TESTS_INTEGRATION_SUPPORT_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "common/files.h"
#include "common/memory.h"
#include "common/status.h"

#define DEADLINE_MS (is_sanitized() ? 500000 : 100000)
#define MAX_PROCESSES 64
#define RECIPE "tiny.yaml"      /* in every place: a copy of configs/debug/tiny.yaml */

#define WAIT_UNTIL(condition)                                                                      \
    do {                                                                                           \
        int64_t wait_end_ = clock_ms() + DEADLINE_MS;                                              \
        while (!(condition)) {                                                                     \
            if (clock_ms() > wait_end_)                                                            \
                fail_msg("not within %d ms: %s", DEADLINE_MS, #condition);                         \
            yield_briefly();                                                                       \
        }                                                                                          \
    } while (0)
void yield_briefly(void);
int is_sanitized(void);   /* this build, which then is slow and takes memory of its own */

/* ---- Places: a temporary directory with the toy world and the recipe; programs work in it. */
struct place {
    char directory[256];
};
void place_make(struct place *place);
/* The same, and in it run/base, of which the stage base is done with these arguments; run/quiet is
 * its copy that went on through the stage zero with nobody in the way. */
void place_make_quiet(struct place *place, const char *const *arguments);
void place_remove(struct place *place);   /* fails when a process of the place is still there */
/* A path below the place; one of a few buffers that are used in turn. */
const char *in_place(const struct place *place, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void place_write(const struct place *place, const char *path, const char *text);
void place_copy(const struct place *place, const char *from, const char *to);   /* trees too */
const char *plugin_path(const char *name);   /* "verifier_crash" -> absolute path of the .so */

/* ---- Programs: hone with arguments. Its output and its log go to one file. */
extern const char *hone_program;   /* below the build: "hone", or another to be started instead */
struct program {
    const struct place *place;
    pid_t pid;
    char output[512];
};
void start_hone(struct program *program, const struct place *place, const char *const *arguments);
/* Any command, NULL-ended: what starts hone, and built("hone"). */
void start_command(struct program *program, const struct place *place, const char *const *command);
/* "tests/hone_emulated" -> its absolute path, until the next call. */
const char *built(const char *name);
#define START(program, place, ...)                                                                 \
    start_hone((program), (place), (const char *const[]){__VA_ARGS__, NULL})
/* Standard input of what is started from now on. */
extern const char *program_input;
/* Its exit code, or 128 + the signal that ended it. */
int wait_for_exit(struct program *program);
int is_running(struct program *program);
void show_output(const struct program *program);      /* for a test that is about to fail */
int count_lines(const struct program *program, const char *part);   /* of its output, with `part` */
#define SAYS(program, part) (count_lines((program), (part)) > 0)

void run_hone(struct program *program, const struct place *place, const char *const *arguments);
#define HONE(program, place, ...)                                                                  \
    run_hone((program), (place), (const char *const[]){__VA_ARGS__, NULL})
/* Fails with the program's output when the code is another, or when `part` (NULL: any) is not on
 * one of its lines. */
void assert_ends(struct program *program, int code, const char *part);

/* A rollout or reward worker of the place by its name, "rollout-0"; 0 when there is none. */
pid_t find_worker(const struct place *place, const char *name);
int count_processes(const struct place *place);
/* CPU time that a process has used, in clock ticks; -1 when it is gone. */
long cpu_ticks(pid_t pid);

/* ---- Run directories. All rows of a query, "a|b\n"; free with mem_free(). "" without a run.db. */
char *ask(const struct place *place, const char *run, const char *sql);
long ask_number(const struct place *place, const char *run, const char *sql);   /* -1: no row */
/* Steps of a stage that are recorded, for WAIT_UNTIL(). */
long steps_of(const struct place *place, const char *run, const char *stage);

/* Equal weights and optimizer states of every stage, equal metrics (but those by a clock), equal
 * samples, scores and advantages. */
void assert_same_runs(const struct place *place, const char *run, const char *other);
/* Every row of every table, but columns that hold a time; and the digests of all checkpoints that
 * are there. For runs that nobody stopped with Ctrl-C. */
void assert_same_databases(const struct place *place, const char *run, const char *other);

#endif
