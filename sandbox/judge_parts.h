/*
 * sandbox/judge_parts.h - what the files of the judge share.
 *
 *   judge_run           judge.c            compiles, goes through the tests, sums up
 *     job_read          judge_job.c        JSON -> struct job
 *     programs_get      compile_cache.c    compiled once per source, flags and compiler
 *       language_...    languages.c        the table
 *     judge_inputs      judge.c            stdin -> stdout, one run a test
 *     judge_calls       judge_function.c   arguments -> values, many tests a run
 *     judge_asserts     judge_asserts.c    tests that are code, in a run of their own
 *       harness_...     harness_*.c        what stands around the program in its process
 */
#ifndef HONE_SANDBOX_JUDGE_PARTS_H
#define HONE_SANDBOX_JUDGE_PARTS_H

#include "common/files.h"
#include "sandbox/compare.h"
#include "sandbox/sandbox.h"

#define JUDGE_MAX_TESTS 10000
#define JUDGE_ANSWER_BYTES ((int64_t)64 << 20)   /* of values that a run sends back */
#define JUDGE_NONCE_BYTES 33                     /* hex, with the NUL */
#define JUDGE_NAME_BYTES 128

/* ---- languages.c */
struct language {
    const char *name;
    const char *fences[6];             /* other names, NULL-ended */
    enum sandbox_kind kind;
    const char *file;                  /* of the source, compiled languages alone */
    const char *function_harness;      /* scripts: the program that calls functions */
    int (*write_harness)(struct text *out, const char *signature, const char *source, size_t n);
    int is_loose;                      /* its 0 and 1 are bools too */
};
const struct language *language_at(int language);   /* from 1; NULL behind the end */

#define LANGUAGE_MAX_ARGUMENTS 48
struct language_command {
    char storage[3 * CONFIG_TEXT_BYTES];
    const char *arguments[LANGUAGE_MAX_ARGUMENTS];   /* NULL-ended */
    struct digest key;                               /* of them and the compiler itself */
};
/* STATUS_UNSUPPORTED when there is no compiler, with the remedy. */
int language_command(const struct sandbox_config *config, const struct language *language,
                     struct language_command *command);
double language_factor(const struct sandbox_config *config, const struct language *language);
int language_check_factors(const char *factors);

/* ---- compile_cache.c */
struct programs;
int programs_create(struct programs **out, struct sandbox *sandbox,
                    const struct sandbox_config *config);
void programs_destroy(struct programs **programs);

struct program {
    struct sandbox_program *program;   /* NULL: the compiler refused it */
    struct text messages;
    int64_t compile_ms;
};
/* Borrowed until programs_put(). Negative: our own failure. */
int programs_get(struct programs *programs, const struct language *language, const char *source,
                 size_t n, struct program **out, int *was_cached);
void programs_put(struct programs *programs, struct program *program);

/* program_files.c: the same on disk. find: 1 found, 0 not there or damaged. */
struct program_files {
    char directory[FILE_PATH_MAX];   /* "": none */
    int64_t max_bytes;
    int n_written;
};
int program_files_open(struct program_files *files, const struct sandbox_config *config);
int program_files_find(const struct program_files *files, const struct digest *key,
                       int *is_program, struct text *bytes);
int program_files_load(const struct text *bytes, struct sandbox_program **out);
void program_files_keep(struct program_files *files, const struct digest *key, int is_program,
                        const struct text *bytes);

/* ---- judge_job.c */
enum job_mode { JOB_STDIO, JOB_FUNCTION, JOB_ASSERTS };

struct job_test {
    const char *input, *want;         /* STDIO */
    size_t n_input, n_want;
    const json_t *arguments, *value;  /* FUNCTION; arguments may be one line of text (C) */
    const json_t *other_value;        /* also right; or NULL */
    double weight;
};

struct job {
    const struct language *language;
    enum job_mode mode;
    const char *source;
    size_t n_source;
    const char *entry, *signature;
    const char *before;               /* stands in front of the source: scripts alone */
    const char *asserts, *setup;      /* ASSERTS: the tests, and what they need first */
    struct compare compare;
    struct sandbox_limits limits;
    struct job_test *tests;           /* not with ASSERTS */
    json_t *made;                     /* values that the job did not have as JSON */
    size_t n_tests;
};
/* Borrows from `json`. */
int job_read(struct job *job, const json_t *json, const char *source, size_t n_source,
             const struct sandbox_config *config);
void job_release(struct job *job);

/* ---- judge.c */
struct judge {
    struct sandbox *sandbox;
    const struct sandbox_config *config;
    struct programs *programs;
};
/* How a run ended, before anything is compared: AC when by itself with exit code 0. */
enum judge_verdict judge_verdict_of(const struct sandbox_result *run);
void judge_note_run(struct judge_test_result *test, enum judge_verdict verdict,
                    const struct sandbox_result *run);
/* The reason for people, once: later ones do not replace it. */
void judge_explain(struct judge_result *result, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void judge_explain_run(struct judge_result *result, enum judge_verdict verdict,
                       const struct sandbox_result *run);

/* A program around text of `input`, compiled when it is new. When the compiler refuses it,
 * result->verdict is CE and nothing ran. */
struct judging;
int judge_run_program(struct judging *judging, const struct language *language,
                      const char *source, size_t n_source, const struct sandbox_limits *limits,
                      const struct text *input, struct sandbox_result *run);

/* What may be spent on time limits before the rest of the tests is not run any more. */
#define JUDGE_MAX_TIMEOUTS 10

struct judging {
    struct judge *judge;
    const struct job *job;
    int stop_early;
    struct judge_result *result;
    size_t n_timeouts;
};
/* Negative: our own failure. */
int judge_calls(struct judging *judging);
int judge_asserts(struct judging *judging);

/* ---- judge_records.c: "nonce kind text" lines of a harness, on SANDBOX_ANSWER. */
void records_nonce(char nonce[JUDGE_NONCE_BYTES]);
struct record {
    char kind[16];
    const char *text;
    size_t n;
};
/* The next one at *at; 0 at the end. Lines without the nonce are nobody's. */
int records_next(const char **at, const char *end, const char *nonce, struct record *record);

/* judge_function.c: what a call came to. */
struct call_result {
    enum judge_verdict verdict;   /* AC: there is a value; RE: an exception when text has one */
    int is_exception;
    const char *text;             /* JSON: the value, or ["name", "text"]; borrowed for the call */
    size_t n;
};

/* Goes through calls, one line each as the language's harness reads it, in as few runs as it takes:
 * a call that ends its process is tried first in a process of its own. take() gets each result in
 * order, with the run that it came from, and stops everything when it returns 1. */
struct calls {
    const struct text *lines;
    size_t n;
    int (*take)(struct calls *calls, size_t i, const struct call_result *result,
                const struct sandbox_result *run);
    void *context;
};
int judge_go_through(struct judging *judging, struct calls *calls);

/* ---- harness_*.c */
extern const char harness_python_values[], harness_python_function[], harness_python_asserts[];
extern const char harness_javascript[];
int harness_write_c(struct text *out, const char *signature, const char *source, size_t n);
int harness_write_cpp(struct text *out, const char *signature, const char *source, size_t n);

#endif
