/*
 * reward/reward.h - completions in, verdicts out.
 *
 * Every reward function is a verifier (reward/verifier_abi.h): built-in ones are rows of the table
 * in registry.c, a plugin is one more row at run time. judge.c asks them and sums; serve.c is the
 * process around it. Outcomes stay apart: a verifier that fails gives OUTCOME_ERROR and masks the
 * sample, it never counts as wrong. A plugin runs in a child process: when it crashes or hangs it
 * is killed and named, and judging goes on.
 */
#ifndef HONE_REWARD_REWARD_H
#define HONE_REWARD_REWARD_H

#include "common/config.h"
#include "sandbox/sandbox.h"
#include "wire/wire.h"

struct reward_config {
    char reward_funcs[CONFIG_TEXT_BYTES];     /* list: "accuracy,format,language" */
    char reward_weights[CONFIG_TEXT_BYTES];   /* list of numbers, one per function */
    int64_t preference_last_steps; /* "preference" counts in the last N steps only; 0: always */
    int64_t workers;                          /* processes */
    int64_t verifier_timeout_ms;              /* of one plugin verdict */
    char plugins[CONFIG_TEXT_BYTES];          /* list of paths of shared objects */
    char commands[CONFIG_TEXT_BYTES];         /* list: "judge=./judge.py" */
    char options[CONFIG_TEXT_BYTES];          /* list: "countdown.partial=0.1,..." for verifiers */
};
extern const struct config_section reward_config_section; /* section "reward" */

/* The terms of step `step` (from 0) of `n_steps`, into terms[WIRE_MAX_REWARDS]; how many. */
int reward_terms(const struct reward_config *config, int64_t step, int64_t n_steps,
                 struct reward_term *terms);

struct reward;
/* Starts the sandbox when one can be had: without it only verifiers that need it fail, each verdict
 * naming the reason. */
int reward_create(struct reward **out, const struct reward_config *config,
                  const struct sandbox_config *sandbox);
void reward_destroy(struct reward **reward);

/* Fills scores, reward and masked of each sample (in the arena), for group->rewards. */
int reward_judge_group(struct reward *reward, struct sample_group *group, struct arena *arena);

/* What verifiers that look at more than one text are told. Zeros: not known. */
struct reward_facts {
    uint64_t n_tokens;                        /* of this completion */
    uint64_t group_min_tokens, group_max_tokens;
};

/* One verdict by name: for `hone verify`. `facts` may be NULL. */
int reward_judge_text(struct reward *reward, const char *verifier, const struct task *task,
                      const char *completion, size_t n, const struct reward_facts *facts,
                      struct score *score);

/* The maths verifier says more than its outcome: its detail begins with one of math/math.h's texts,
 * "right (exact)", alone or with ": " and more behind it. These are counted apart. */
const char *reward_path_key(size_t i);    /* "right_exact", for names of metrics; NULL at the end */
/* Which one it is; -1 for a verdict of another verifier than `term` asks for as "math". */
int reward_path_of(const struct task *task, const char *term, const struct score *score);
#define REWARD_N_PATHS 8
/* Whether the maths verifier takes a reference as a whole solution, one that ends in "#### 72" or
 * \boxed{72}, and looks for its answer. */
int reward_reference_is_solution(const char *reference, size_t n);

/* The table, for help, docs and doctor: NULL at the end. */
const char *reward_verifier_name(struct reward *reward, size_t i);
const char *reward_verifier_help(struct reward *reward, size_t i);

/* The answer in a completion, by the strict rules that the verifiers use: 1 when there is one. */
int reward_extract_answer(const char *text, size_t n, struct text *answer);

int reward_check_name(struct reward *reward, const char *name);
/* Whether every name in config.reward_funcs exists: before a run starts. */
int reward_check_names(struct reward *reward, const struct reward_config *config);
/* Whether those among them that judge lengths have the options that they need. */
int reward_check_lengths(struct reward *reward, const struct reward_config *config);

/* What filters need: the verdict-free measures of a completion's text. */
double reward_language_share(const char *text, size_t n, const char *language);   /* 0 .. 1 */
double reward_repetition_share(const char *text, size_t n);   /* share of repeated 10-byte grams */

struct reward_options {
    const char *endpoint, *name;
    const struct reward_config *config;
    const struct sandbox_config *sandbox;
    int lost_ms;
    const struct wire_keys *keys;    /* for tcp:// */
};
int reward_serve(const struct reward_options *options, _Atomic int *stop);

#endif
