/*
 * sandbox/judge.h - programs against tests: compiles, runs, compares. Comes with sandbox.h.
 *
 * What a test expects stays in the caller's process: a run gets inputs or arguments alone, and what
 * comes back is compared here. docs/code-verifier.md has the jobs and the promises.
 */
#ifndef HONE_SANDBOX_JUDGE_H
#define HONE_SANDBOX_JUDGE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "common/memory.h"

struct sandbox;
struct sandbox_config;

#define JUDGE_VERDICT_MAP(X)                                                                       \
    X(AC, "accepted")                                                                              \
    X(WA, "wrong answer")                                                                          \
    X(TLE, "time limit")                                                                           \
    X(MLE, "memory limit")                                                                         \
    X(RE, "run time error")                                                                        \
    X(CE, "does not compile")                                                                      \
    X(OLE, "output limit")                                                                         \
    X(SV, "forbidden system call")                                                                 \
    X(IE, "internal error: nothing is said about the program")
enum judge_verdict {
#define X(name, text) JUDGE_##name,
    JUDGE_VERDICT_MAP(X)
#undef X
};
const char *judge_verdict_name(enum judge_verdict verdict);   /* "AC" */

struct judge_test_result {
    enum judge_verdict verdict;
    /* Of the run that decided it: tests of a function share runs. exit_code -1: none. */
    int64_t cpu_ms, wall_ms, memory_bytes;
    int exit_code, signal;
    double weight;
};

struct judge_result {
    enum judge_verdict verdict;   /* IE, CE, or that of the first test that is not AC */
    struct judge_test_result *tests;
    size_t n_tests;
    /* Of all tests, also those that were not run: by weight, and one like the other. */
    double right_share, right_fraction;
    int was_compiled, was_cached;
    int64_t compile_ms;
    struct text messages;         /* the compiler's */
    char detail[160];             /* why the verdict, for people */
};
void judge_result_release(struct judge_result *result);

struct judge;
/* Borrows the sandbox and the configuration, which must live longer. Any thread may ask. Fails when
 * sandbox.program_cache cannot be trusted. */
int judge_create(struct judge **out, struct sandbox *sandbox, const struct sandbox_config *config);
void judge_destroy(struct judge **judge);

/* Whether `job` makes sense, without running anything: STATUS_FORMAT with the reason. */
int judge_check_job(const json_t *job);

/*
 * Judges `source`, or, when it is NULL, the job's own. Always fills the result; whatever is not the
 * program's fault is IE. stop_early: at the first test that is not AC.
 */
void judge_run(struct judge *judge, const json_t *job, const char *source, size_t n_source,
               int stop_early, struct judge_result *result);

/* A job in its line of JSON; integers of any size stay what they are. */
int judge_parse_job(json_t **out, const char *bytes, size_t n, const char *where);

/* 0, or which language a fence ("```py") or a job ("cpp") names: its place in the table, from 1. */
int judge_find_language(const char *name, size_t n);
const char *judge_language_name(int language);   /* NULL behind the table's end */

/* A program of any language that is not judged, only run: for `hone sandbox run` and plugins.
 * result.verdict is CE when it does not compile, else AC: then `run` is filled. */
struct sandbox_limits;
struct sandbox_result;
int judge_try(struct judge *judge, int language, const char *source, size_t n_source,
              const struct sandbox_limits *limits, const char *input, size_t n_input,
              struct judge_result *result, struct sandbox_result *run);

#endif
