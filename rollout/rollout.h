/*
 * rollout/rollout.h - asks the current policy for completions.
 *
 * scheduler.c batches (continuous batching: a prompt is computed once per group, finished sequences
 * make room for the next ones), serve.c is the process around it. A sample is a function of
 * (weights, task, sampling, sample index) alone: not of batch size, arrival order, number of
 * workers or threads.
 */
#ifndef HONE_ROLLOUT_ROLLOUT_H
#define HONE_ROLLOUT_ROLLOUT_H

#include "common/config.h"
#include "model/model.h"
#include "wire/wire.h"

struct rollout_config {
    int64_t num_generations;         /* completions per task: G */
    int64_t max_prompt_length, max_completion_length;   /* tokens */
    double temperature, top_p;
    int64_t top_k;
    int64_t workers, threads;        /* processes, and threads of each */
    int64_t max_sequences;           /* decoded side by side in one worker */
    int64_t max_num_batched_tokens;  /* in one step of a worker */
    int64_t kv_cache_tokens;         /* room of a worker's cache; 0: see rollout_cache_tokens() */
    int device;                      /* index of rollout_devices[] */
    int cuda_graphs;
    int weights;                     /* how they come: enum rollout_weights */
};
enum rollout_weights { ROLLOUT_WEIGHTS_AUTO, ROLLOUT_WEIGHTS_FILES, ROLLOUT_WEIGHTS_IPC };
extern const struct config_section rollout_config_section;   /* section "rollout" */
extern const char *const rollout_devices[];                  /* "cpu", "reference", "cuda", ... */

struct rollout;
struct rollout_limits {
    int max_sequences;              /* decoded side by side */
    int max_prompt, max_completion; /* tokens */
    int max_batched_tokens;         /* in one step: what decoding leaves is for prompts */
    int64_t kv_cache_tokens;        /* 0: see rollout_cache_tokens() */
};
struct rollout_limits rollout_limits_of(const struct rollout_config *config);
/* Room of the cache: what is set, else as much as all slots may take in a quarter of so many bytes
 * of memory. */
int64_t rollout_cache_tokens(const struct rollout_limits *limits, const struct model_shape *shape,
                             double memory_bytes);
/* STATUS_CONFIG when one sequence of full length does not fit into so much room. */
int rollout_check_cache(const struct rollout_limits *limits, int64_t n_tokens);

/* Borrows the model and the tokenizer. */
int rollout_create(struct rollout **out, struct model *model, const struct tokenizer *tokenizer,
                   uint32_t weight_version, const struct rollout_limits *limits);
void rollout_destroy(struct rollout **rollout);

/* Whether steps are recorded where the device can (they are, unless told otherwise). */
void rollout_set_recording(struct rollout *rollout, int on);

/* The ids that a completion ends with, at most WIRE_MAX_STOPS; the tokenizer's end of text alone
 * when this is not called. STATUS_FORMAT when one is not in the vocabulary. */
int rollout_set_stops(struct rollout *rollout, const int32_t *ids, size_t n);

/* Queues a group. STATUS_FORMAT when its prompt is too long or empty or its sampling is out of
 * bounds, STATUS_VERSION when it wants another policy; nothing else is disturbed. The task is
 * copied. */
int rollout_submit(struct rollout *rollout, uint64_t lease, const struct task *task,
                   const struct sampling *sampling);
/* Decodes one token for each running sequence and computes as much of the prompts that wait as the
 * batch has room for; returns how many sequences are running or queued, 0 when idle, or a
 * failure. */
int rollout_step(struct rollout *rollout);
/* The cache as it stands. */
struct rollout_load {
    int64_t n_pages, n_free_pages;
    int64_t n_pauses;   /* how often a sample or a prompt gave up its pages, to be computed again */
};
void rollout_load(const struct rollout *rollout, struct rollout_load *load);
/* A finished group into the arena: 1, or 0 when none is ready. After a failure (the arena is full)
 * group->lease says whose group was lost. */
int rollout_take(struct rollout *rollout, struct arena *arena, struct wire_group *group);
/* The policy changed (model_read_map() on the same model); only allowed when idle. */
int rollout_set_version(struct rollout *rollout, uint32_t weight_version);

/* The process: tasks in, groups out, new weights between groups, until WIRE_STOP or the hub is
 * gone for lost_ms. *stop (may be NULL) is set by a signal handler. A weight image whose SHA-256 or
 * content is wrong is refused and reported to the hub; the old policy stays. STATUS_OK after
 * WIRE_STOP, STATUS_INTERRUPTED after *stop, STATUS_CLOSED when the hub is lost. */
struct rollout_options {
    const char *endpoint, *name, *device;
    int threads;
    struct rollout_limits limits;
    int lost_ms;
    const struct wire_keys *keys;    /* for tcp:// */
    int without_graphs;              /* rollout.cuda_graphs: false */
};
int rollout_serve(const struct rollout_options *options, _Atomic int *stop);

#endif
