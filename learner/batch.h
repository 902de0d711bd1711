/*
 * learner/batch.h - sequences packed into micro-batches, without padding. Private to learner/.
 */
#ifndef HONE_LEARNER_BATCH_H
#define HONE_LEARNER_BATCH_H

#include "common/arena.h"
#include "learner/learner.h"

/* Input tokens of a sequence: all but its last. */
size_t sequence_inputs(const struct sequence *sequence);
/* Trained tokens: the completion, less its first when nothing stands before it. */
size_t sequence_targets(const struct sequence *sequence);

struct micro_batch {
    struct model_batch batch;
    size_t first, n;   /* the sequences in it; their targets lie one after another */
};

/* Packs sequences in order; a micro-batch holds at least one sequence and at most max_tokens
 * input tokens if that can be. Sequences next to each other with the same prompt (the same memory)
 * share its rows, so that a group of completions takes P + sum of completions. A group that fits
 * stays whole; one that does not is cut, and its prompt repeated. Sequences of fewer than two
 * tokens have no targets and take no room. Everything lies in the arena. */
int batch_pack(const struct sequence *sequences, size_t n, size_t max_tokens, struct arena *arena,
               struct micro_batch **micros, size_t *n_micros);

#endif
