/*
 * reward/verifier_abi.h - the contract with reward verifiers, version 1.
 *
 * A verifier is a const struct verifier_v1. Built-in ones are listed in reward/registry.c; one from
 * outside is a shared object that exports the same struct as the symbol `verifier_plugin_v1`. This
 * header stands alone: C11 or C++, no other header of the project, no library.
 *
 * Rules that keep the ABI stable
 *  - plain C types of fixed width; text is pointer + length, never NUL-ended;
 *  - each struct starts with its own size; fields are only ever appended; a reader ignores what
 *    lies beyond the size that it was given;
 *  - memory is freed by the side that allocated it; nothing passed to score() may be kept after it
 *    returns;
 *  - a change that breaks this is verifier_v2 under a new symbol, and the host keeps loading v1.
 *
 * docs/verifiers.md has a whole plugin to start from.
 */
#ifndef HONE_REWARD_VERIFIER_ABI_H
#define HONE_REWARD_VERIFIER_ABI_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VERIFIER_EXPORT __attribute__((visibility("default")))
#define VERIFIER_DETAIL_BYTES 96

struct verifier_text {
    const char *data;
    uint64_t length;
};

struct verifier_task {
    uint32_t size;
    uint32_t reserved;
    uint64_t task_id;                  /* for logs: a deterministic verdict must not depend on it */
    struct verifier_text question;     /* as in the dataset */
    struct verifier_text completion;   /* what the model wrote, special tokens left out */
    struct verifier_text reference;    /* what to compare with, in the verifier's own notation */
    struct verifier_text language;     /* wanted in the reasoning: "en"; may be empty */
    struct verifier_text prefill;      /* written for the model: stands before the completion */
    struct verifier_text kind;         /* of task: "code" */
    /* What follows came later: ask VERIFIER_HAS first. */
    struct verifier_text columns;      /* other ones of the record, a JSON object; may be empty */
    /* Filled for verifiers that are flagged VERIFIER_USES_GROUP, and 0 for all others. */
    uint64_t n_tokens;                 /* of the completion; 0: not known */
    uint64_t group_min_tokens, group_max_tokens;   /* over all completions of the task */
    uint32_t accuracy;                 /* enum verifier_outcome of the task's own verifier */
    uint32_t reserved_later;
};

enum verifier_outcome {                /* travels as uint32_t */
    VERIFIER_RIGHT = 0,                /* full score; of a penalty: there is none */
    VERIFIER_WRONG = 1,
    VERIFIER_UNREADABLE = 2,           /* no answer could be read from the completion */
    VERIFIER_TIMEOUT = 3,              /* the completion's program ran too long */
    VERIFIER_CRASH = 4,                /* the completion's program crashed or did not compile */
    VERIFIER_ERROR = 5                 /* no verdict: the sample is masked, never wrong */
};

struct verifier_verdict {              /* arrives as VERIFIER_ERROR, "no verdict was given" */
    uint32_t size;
    uint32_t outcome;
    double score;                      /* -1 .. 1, below 0 a penalty; else it is VERIFIER_ERROR */
    char detail[VERIFIER_DETAIL_BYTES];   /* NUL-ended; shown in logs, stored with the sample */
};

enum verifier_run_end {                /* travels as uint32_t */
    VERIFIER_RUN_EXITED = 0,
    VERIFIER_RUN_SIGNALED = 1,         /* the program crashed: run.signal */
    VERIFIER_RUN_TIME_LIMIT = 2,
    VERIFIER_RUN_MEMORY_LIMIT = 3,
    VERIFIER_RUN_OUTPUT_LIMIT = 4,
    VERIFIER_RUN_FORBIDDEN = 5,        /* a system call that the sandbox does not allow */
    VERIFIER_RUN_NOT_COMPILED = 6      /* run.messages has the compiler's words */
};

struct verifier_run {                  /* a program for the sandbox */
    uint32_t size;
    uint32_t end;                      /* out: enum verifier_run_end */
    struct verifier_text language;     /* "c", "cpp", "python", "javascript" */
    struct verifier_text source;
    struct verifier_text input;        /* on its stdin */
    char *output;                      /* filled by the host; output_capacity at most, no NUL */
    uint64_t output_capacity, output_length;
    char *messages;                    /* compiler's words or stderr, likewise; may be NULL */
    uint64_t messages_capacity, messages_length;
    int32_t exit_code, signal;
    char detail[VERIFIER_DETAIL_BYTES];   /* out: why run() returned a negative number */
};

struct verifier_host {                 /* what the host lends a verifier, from create to destroy */
    uint32_t size;
    uint32_t reserved;
    void *context;                     /* first argument of each call below */
    /* level: 0 error, 1 warning, 2 info, 3 debug */
    void (*log)(void *context, uint32_t level, const char *message);
    /* 0 when the program has come to an end, also a bad one; negative when the sandbox itself
     * failed: then there is nothing to judge. */
    int32_t (*run)(void *context, struct verifier_run *run);
};

enum verifier_flags {
    VERIFIER_DETERMINISTIC = 1u << 0,  /* same task and completion, same verdict: may be cached */
    VERIFIER_USES_SANDBOX = 1u << 1,   /* its deadline has room for compiling and running */
    VERIFIER_USES_GROUP = 1u << 2      /* wants lengths and accuracy: see struct verifier_task */
};

struct verifier_v1 {
    uint32_t size;                     /* sizeof(struct verifier_v1) */
    uint32_t flags;
    const char *name;                  /* what a task names; [a-z0-9_]+, 31 bytes at most */
    const char *version;               /* part of the cache key */
    const char *help;                  /* one sentence */
    /* `options` are the reward.options of this name as "key=value\n" lines. Returns 0 and *state
     * (may be NULL), or a negative number and nothing to destroy. */
    int32_t (*create)(const struct verifier_host *host, struct verifier_text options, void **state);
    /* 0 and the verdict, or a negative number: VERIFIER_ERROR. One call at a time. */
    int32_t (*score)(void *state, const struct verifier_task *task,
                     struct verifier_verdict *verdict);
    void (*destroy)(void *state);
    /* end of the first v1; later members come below and are asked for with VERIFIER_HAS */
};

/* True when the side that made *object knew of `member`. */
#define VERIFIER_HAS(object, type, member)                                                         \
    ((object)->size >= offsetof(type, member) + sizeof(((type *)0)->member))

#ifdef __cplusplus
}
#endif
#endif
