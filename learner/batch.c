#include "learner/batch.h"

#include "common/status.h"

size_t sequence_targets(const struct sequence *sequence)
{
    if (sequence->n_prompt)
        return sequence->n_completion;
    return sequence->n_completion ? sequence->n_completion - 1 : 0;
}

size_t sequence_inputs(const struct sequence *sequence)
{
    if (!sequence_targets(sequence))
        return 0;
    return (size_t)sequence->n_prompt + sequence->n_completion - 1;
}

/* Whether b comes behind the same prompt as a, whose rows they can share. Of a prompt of one token
 * there is nothing to share: each completion starts with a copy of the prompt's last one. */
static int shares_prompt(const struct sequence *a, const struct sequence *b)
{
    return a->n_prompt > 1 && a->prompt == b->prompt && a->n_prompt == b->n_prompt &&
           sequence_targets(a) > 0 && sequence_targets(b) > 0;
}

struct cursor {
    int32_t *tokens, *positions, *segments, *target_rows, *targets, *prefixes;
    int n_tokens, n_segments, n_targets, n_shared;
};

static int32_t token_at(const struct sequence *sequence, uint32_t i)
{
    return i < sequence->n_prompt ? sequence->prompt[i]
                                  : sequence->completion[i - sequence->n_prompt];
}

/* Tokens first .. end-1 of a sequence as one segment behind segment `prefix`. */
static void add_segment(struct cursor *cursor, const struct sequence *sequence, uint32_t first,
                        uint32_t end, int prefix, int is_trained)
{
    uint32_t first_target = sequence->n_prompt ? sequence->n_prompt : 1;

    for (uint32_t i = first; i < end; i++) {
        cursor->tokens[cursor->n_tokens] = token_at(sequence, i);
        cursor->positions[cursor->n_tokens] = (int32_t)i;
        if (is_trained && i + 1 >= first_target) {
            cursor->target_rows[cursor->n_targets] = cursor->n_tokens;
            cursor->targets[cursor->n_targets++] = token_at(sequence, i + 1);
        }
        cursor->n_tokens++;
    }
    cursor->prefixes[cursor->n_segments] = prefix;
    cursor->segments[++cursor->n_segments] = cursor->n_tokens;
}

/* Sequences behind one prompt: its tokens but the last, then each completion behind a copy of that,
 * so that rows with a target stay distinct. */
static void add_group(struct cursor *cursor, const struct sequence *sequences, size_t n)
{
    uint32_t last = sequences[0].n_prompt - 1;
    int prefix = cursor->n_segments;

    if (n == 1) {
        if (sequence_inputs(sequences))
            add_segment(cursor, sequences, 0, (uint32_t)sequence_inputs(sequences), -1, 1);
        return;
    }
    add_segment(cursor, sequences, 0, last, -1, 0);
    for (size_t i = 0; i < n; i++)
        add_segment(cursor, &sequences[i], last, (uint32_t)sequence_inputs(&sequences[i]), prefix,
                    1);
    cursor->n_shared++;
}

static int build(const struct sequence *sequences, struct micro_batch *micro, size_t n_tokens,
                 size_t n_targets, struct arena *arena)
{
    struct cursor cursor = {
        .tokens = ARENA_NEW(arena, int32_t, n_tokens + 1),
        .positions = ARENA_NEW(arena, int32_t, n_tokens + 1),
        .segments = ARENA_NEW(arena, int32_t, 2 * micro->n + 1),
        .prefixes = ARENA_NEW(arena, int32_t, 2 * micro->n + 1),
        .target_rows = ARENA_NEW(arena, int32_t, n_targets + 1),
        .targets = ARENA_NEW(arena, int32_t, n_targets + 1),
    };

    if (!cursor.tokens || !cursor.positions || !cursor.segments || !cursor.prefixes ||
        !cursor.target_rows || !cursor.targets)
        return status_fail(STATUS_NOMEM, "no room to pack %zu tokens; lower grpo.tasks_per_step",
                           n_tokens);
    for (size_t i = micro->first, n; i < micro->first + micro->n; i += n) {
        for (n = 1; i + n < micro->first + micro->n &&
                    shares_prompt(&sequences[i], &sequences[i + n]); n++) {}
        add_group(&cursor, &sequences[i], n);
    }
    micro->batch = (struct model_batch){
        .n_tokens = cursor.n_tokens,
        .n_segments = cursor.n_segments,
        .n_targets = cursor.n_targets,
        .tokens = cursor.tokens,
        .positions = cursor.positions,
        .segments = cursor.segments,
        .target_rows = cursor.target_rows,
        .targets = cursor.targets,
        .prefixes = cursor.n_shared ? cursor.prefixes : NULL,
    };
    return STATUS_OK;
}

/* Rows that sequence i adds to a micro-batch that starts with sequence `first`. */
static size_t added_tokens(const struct sequence *sequences, size_t first, size_t i)
{
    size_t inputs = sequence_inputs(&sequences[i]);

    if (i > first && shares_prompt(&sequences[i - 1], &sequences[i]))
        inputs -= sequences[i].n_prompt - 1;
    return inputs;
}

/* Rows that there must be room for before sequence i joins: its own, or its whole group's, which
 * would compute its prompt twice when torn apart. */
static size_t wanted_tokens(const struct sequence *sequences, size_t n, size_t first, size_t i,
                            size_t max_tokens)
{
    size_t own = added_tokens(sequences, first, i), whole = own;

    if (i > first && shares_prompt(&sequences[i - 1], &sequences[i]))
        return own;
    for (size_t j = i + 1; j < n && shares_prompt(&sequences[j - 1], &sequences[j]); j++)
        whole += added_tokens(sequences, first, j);
    return whole <= max_tokens ? whole : own;
}

int batch_pack(const struct sequence *sequences, size_t n, size_t max_tokens, struct arena *arena,
               struct micro_batch **micros, size_t *n_micros)
{
    size_t i = 0;

    *n_micros = 0;
    *micros = ARENA_NEW(arena, struct micro_batch, n + 1);
    if (!*micros)
        return status_fail(STATUS_NOMEM, "no room for %zu micro-batches", n);
    while (i < n) {
        struct micro_batch *micro = &(*micros)[*n_micros];
        size_t n_tokens = 0, n_targets = 0;
        micro->first = i;
        do {
            n_tokens += added_tokens(sequences, micro->first, i);
            n_targets += sequence_targets(&sequences[i]);
            i++;
        } while (i < n &&
                 n_tokens + wanted_tokens(sequences, n, micro->first, i, max_tokens) <= max_tokens);
        micro->n = i - micro->first;
        TRY(build(sequences, micro, n_tokens, n_targets, arena));
        if (n_tokens)
            ++*n_micros;
    }
    return STATUS_OK;
}
