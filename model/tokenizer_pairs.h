/*
 * model/tokenizer_pairs.h - which pairs to merge, from pieces and their counts. Private to model/.
 */
#ifndef HONE_MODEL_TOKENIZER_PAIRS_H
#define HONE_MODEL_TOKENIZER_PAIRS_H

#include <stddef.h>
#include <stdint.h>

#include "common/memory.h"

struct trained_piece {
    size_t offset;   /* of its bytes */
    uint32_t n;      /* bytes, then symbols */
    int64_t count;
};

struct trained_merge {
    int32_t left, right, merged;
    int is_repeated;   /* the same pair comes again: the last one counts */
};

struct pair_table {
    char **tokens;   /* text by id, in GPT-2's alphabet; owned */
    size_t n_tokens;
    struct trained_merge *merges;
    size_t n_merges;
};

int pair_table_train(struct pair_table *out, const struct trained_piece *pieces, size_t n_pieces,
                     const char *bytes, const char *const *specials, size_t n_specials,
                     int vocab_size);
void pair_table_release(struct pair_table *table);

#endif
