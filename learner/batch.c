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

struct cursor {
    int32_t *tokens, *positions, *segments, *target_rows, *targets;
    int n_tokens, n_segments, n_targets;
};

static int32_t token_at(const struct sequence *sequence, uint32_t i)
{
    return i < sequence->n_prompt ? sequence->prompt[i]
                                  : sequence->completion[i - sequence->n_prompt];
}

static void add_sequence(struct cursor *cursor, const struct sequence *sequence)
{
    uint32_t inputs = (uint32_t)sequence_inputs(sequence);
    uint32_t first_target = sequence->n_prompt ? sequence->n_prompt : 1;

    if (!inputs)
        return;
    for (uint32_t i = 0; i < inputs; i++) {
        cursor->tokens[cursor->n_tokens] = token_at(sequence, i);
        cursor->positions[cursor->n_tokens] = (int32_t)i;
        if (i + 1 >= first_target) {
            cursor->target_rows[cursor->n_targets] = cursor->n_tokens;
            cursor->targets[cursor->n_targets++] = token_at(sequence, i + 1);
        }
        cursor->n_tokens++;
    }
    cursor->segments[++cursor->n_segments] = cursor->n_tokens;
}

static int build(const struct sequence *sequences, struct micro_batch *micro, size_t n_tokens,
                 size_t n_targets, struct arena *arena)
{
    struct cursor cursor = {
        .tokens = ARENA_NEW(arena, int32_t, n_tokens + 1),
        .positions = ARENA_NEW(arena, int32_t, n_tokens + 1),
        .segments = ARENA_NEW(arena, int32_t, micro->n + 1),
        .target_rows = ARENA_NEW(arena, int32_t, n_targets + 1),
        .targets = ARENA_NEW(arena, int32_t, n_targets + 1),
    };

    if (!cursor.tokens || !cursor.positions || !cursor.segments || !cursor.target_rows ||
        !cursor.targets)
        return status_fail(STATUS_NOMEM, "no room to pack %zu tokens; lower grpo.tasks_per_step",
                           n_tokens);
    for (size_t i = 0; i < micro->n; i++)
        add_sequence(&cursor, &sequences[micro->first + i]);
    micro->batch = (struct model_batch){
        .n_tokens = cursor.n_tokens,
        .n_segments = cursor.n_segments,
        .n_targets = cursor.n_targets,
        .tokens = cursor.tokens,
        .positions = cursor.positions,
        .segments = cursor.segments,
        .target_rows = cursor.target_rows,
        .targets = cursor.targets,
    };
    return STATUS_OK;
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
            n_tokens += sequence_inputs(&sequences[i]);
            n_targets += sequence_targets(&sequences[i]);
            i++;
        } while (i < n && n_tokens + sequence_inputs(&sequences[i]) <= max_tokens);
        micro->n = i - micro->first;
        TRY(build(sequences, micro, n_tokens, n_targets, arena));
        if (n_tokens)
            ++*n_micros;
    }
    return STATUS_OK;
}
