/*
 * learner/shards.h - who owns which weights when several ranks train (ZeRO-1). Private to learner/.
 *
 * All that is trained is one run of floats, cut from its end into buckets, as a backward pass
 * finishes them. Each bucket is cut into one slice a rank: its owner sums the gradients of the
 * slice, has its moments, updates its weights and sends them to the others. One rank alone has no
 * shards.
 *
 * Rajbhandari et al. 2020 (arXiv 1910.02054); buckets as in PyTorch's DistributedDataParallel
 * (arXiv 2006.15704).
 */
#ifndef HONE_LEARNER_SHARDS_H
#define HONE_LEARNER_SHARDS_H

#include "model/model.h"
#include "ranks/ranks.h"

struct shards;
int shards_create(struct shards **out, struct ranks *ranks, struct model *model, int is_bf16);
void shards_destroy(struct shards **shards);
/* [n_buckets][count + 1]: where the slices of each bucket begin, and end, in a run of n floats.
 * Bucket 0 is its end; all but the lowest are of one size, and so are their slices. */
size_t *shards_cut(size_t n, size_t count, size_t *n_buckets);

/* The slice of a rank in a bucket: n elements of the run from `first` on. */
struct slice {
    size_t first, n;
};
size_t shards_count(const struct shards *shards);
struct slice shards_slice(const struct shards *shards, size_t bucket, int rank);

/* Gradients: watch() before the last backward pass of an optimizer step begins sums as it goes on;
 * end() begins the rest, and returns when my slices hold their sums. A rank without a pass calls
 * end() alone. */
void shards_watch(struct shards *shards);
int shards_end(struct shards *shards);

/* Weights: my slice of a bucket is updated; then, after the last one, until all have all. */
int shards_spread(struct shards *shards, size_t bucket);
int shards_spread_end(struct shards *shards);

#endif
