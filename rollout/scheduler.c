/*
 * Continuous batching. A group waits in the queue, then holds a prompt slot until its last sample
 * is done; each of its samples holds a sequence slot while it is decoded. The first token of all
 * samples comes from the one computation of the prompt, so a sample that waits for a sequence slot
 * has its first token already and no logits need to be kept.
 */
#include <stdlib.h>
#include <string.h>

#include "common/random.h"
#include "common/status.h"
#include "rollout/internal.h"

#define MAX_SAMPLES 4096
#define MAX_TEMPERATURE 100
#define GROUP_BYTES ((size_t)2 << 30)

struct slot_owner {
    struct running_group *group;   /* NULL: free */
    uint32_t sample;
};

struct rollout {
    struct model *model;
    struct model_cache *cache;
    const struct tokenizer *tokenizer;
    uint32_t weight_version;
    int32_t stops[WIRE_MAX_STOPS];
    size_t n_stops;
    int n_vocab, max_positions;
    int max_sequences, max_prompt, max_completion;

    struct group_list queued, running, finished, unused;
    int n_pending;                 /* samples that are not done, queued ones too */

    int n_prompt_slots, n_free_prompts, n_free_sequences;
    int32_t *free_prompts;         /* [n_prompt_slots], a stack */
    int32_t *free_sequences;       /* [max_sequences], a stack */
    struct slot_owner *owners;     /* [max_sequences] */

    struct token_list encoded;
    struct text decoded;
    struct sampler_scratch scratch;
    float *logits;                 /* [max_sequences, V] */
    struct model_decode_row *rows; /* [max_sequences] */
    int32_t *batch_tokens, *batch_segments, *batch_slots;
};

/* ---- Life. */

static int allocate_scratch(struct rollout *rollout)
{
    size_t n_sequences = (size_t)rollout->max_sequences, n_vocab = (size_t)rollout->n_vocab;

    rollout->logits = malloc(n_sequences * n_vocab * sizeof(float));
    if (!rollout->logits)
        return status_fail(STATUS_NOMEM,
                           "logits of %d sequences need %.1f GiB: lower rollout.max_sequences",
                           rollout->max_sequences,
                           (double)n_sequences * (double)n_vocab * 4 / (1 << 30));
    rollout->scratch.probabilities = mem_alloc(n_vocab, sizeof(float));
    rollout->scratch.order = mem_alloc(n_vocab, sizeof(int32_t));
    rollout->rows = mem_alloc(n_sequences, sizeof(*rollout->rows));
    rollout->owners = mem_alloc(n_sequences, sizeof(*rollout->owners));
    rollout->free_sequences = mem_alloc(n_sequences, sizeof(int32_t));
    rollout->free_prompts = mem_alloc((size_t)rollout->n_prompt_slots, sizeof(int32_t));
    rollout->batch_slots = mem_alloc((size_t)rollout->n_prompt_slots, sizeof(int32_t));
    rollout->batch_segments = mem_alloc((size_t)rollout->n_prompt_slots + 1, sizeof(int32_t));
    rollout->batch_tokens = mem_alloc(
        (size_t)rollout->n_prompt_slots * (size_t)rollout->max_prompt, sizeof(int32_t));
    /* Stacks: the lowest slot is taken first. */
    for (int i = 0; i < rollout->max_sequences; i++)
        rollout->free_sequences[i] = rollout->max_sequences - 1 - i;
    for (int i = 0; i < rollout->n_prompt_slots; i++)
        rollout->free_prompts[i] = rollout->n_prompt_slots - 1 - i;
    rollout->n_free_sequences = rollout->max_sequences;
    rollout->n_free_prompts = rollout->n_prompt_slots;
    return STATUS_OK;
}

int rollout_create(struct rollout **out, struct model *model, const struct tokenizer *tokenizer,
                   uint32_t weight_version, int max_sequences, int max_prompt, int max_completion)
{
    const struct model_shape *shape = model_shape(model);

    *out = NULL;
    if (max_sequences < 1 || max_prompt < 1 || max_completion < 1)
        return status_fail(STATUS_CONFIG,
                           "rollout of %d sequences, prompts of %d and completions of %d tokens: "
                           "each must be 1 or more",
                           max_sequences, max_prompt, max_completion);
    struct rollout *rollout = mem_alloc(1, sizeof(*rollout));
    rollout->model = model;
    rollout->tokenizer = tokenizer;
    rollout->weight_version = weight_version;
    rollout->stops[0] = tokenizer_eos(tokenizer);
    rollout->n_stops = rollout->stops[0] >= 0;
    rollout->n_vocab = shape->vocab_size;
    rollout->max_positions = shape->max_positions;
    rollout->max_sequences = max_sequences;
    rollout->max_prompt = max_prompt;
    rollout->max_completion = max_completion;
    /* Groups have several samples as a rule: half as many prompts as sequences keep all slots
     * busy from groups of two on. */
    rollout->n_prompt_slots = (max_sequences + 1) / 2;
    int status = allocate_scratch(rollout);
    if (status == STATUS_OK)
        status = model_cache_create(&rollout->cache, model, rollout->n_prompt_slots, max_prompt,
                                    max_sequences, max_completion);
    if (status < 0)
        rollout_destroy(&rollout);
    *out = rollout;
    return status;
}

void rollout_destroy(struct rollout **out)
{
    struct rollout *rollout = *out;

    if (!rollout)
        return;
    group_list_release(&rollout->queued);
    group_list_release(&rollout->running);
    group_list_release(&rollout->finished);
    group_list_release(&rollout->unused);
    model_cache_destroy(&rollout->cache);
    token_list_release(&rollout->encoded);
    text_release(&rollout->decoded);
    free(rollout->logits);
    mem_free(rollout->scratch.probabilities);
    mem_free(rollout->scratch.order);
    mem_free(rollout->rows);
    mem_free(rollout->owners);
    mem_free(rollout->free_sequences);
    mem_free(rollout->free_prompts);
    mem_free(rollout->batch_slots);
    mem_free(rollout->batch_segments);
    mem_free(rollout->batch_tokens);
    mem_free(rollout);
    *out = NULL;
}

int rollout_set_stops(struct rollout *rollout, const int32_t *ids, size_t n)
{
    if (n > WIRE_MAX_STOPS)
        return status_fail(STATUS_FORMAT, "%zu ids end a completion: %d at most", n,
                           WIRE_MAX_STOPS);
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= rollout->n_vocab)
            return status_fail(STATUS_FORMAT, "the id %d that ends a completion is outside the "
                               "model's vocabulary of %d", ids[i], rollout->n_vocab);
    for (size_t i = 0; i < n; i++)
        rollout->stops[i] = ids[i];
    rollout->n_stops = n;
    return STATUS_OK;
}

int rollout_set_version(struct rollout *rollout, uint32_t weight_version)
{
    if (rollout->n_pending)
        return status_fail(STATUS_FAILED, "the policy may not change under %d running samples",
                           rollout->n_pending);
    rollout->weight_version = weight_version;
    return STATUS_OK;
}

/* ---- Submission. */

static int check_sampling(const struct rollout *rollout, const struct sampling *sampling)
{
    if (sampling->weight_version != rollout->weight_version)
        return status_fail(STATUS_VERSION,
                           "policy version %u is wanted, this worker has version %u",
                           sampling->weight_version, rollout->weight_version);
    if (sampling->num_generations < 1 || sampling->num_generations > MAX_SAMPLES)
        return status_fail(STATUS_FORMAT, "num_generations is %u: wanted 1 to %d",
                           sampling->num_generations, MAX_SAMPLES);
    if (sampling->max_completion_length < 1 ||
        sampling->max_completion_length > (uint32_t)rollout->max_completion)
        return status_fail(STATUS_FORMAT, "max_completion_length is %u: wanted 1 to %d",
                           sampling->max_completion_length, rollout->max_completion);
    if (!(sampling->temperature >= 0 && sampling->temperature <= MAX_TEMPERATURE))
        return status_fail(STATUS_FORMAT, "temperature is %g: wanted 0 to %d",
                           (double)sampling->temperature, MAX_TEMPERATURE);
    if (!(sampling->top_p > 0 && sampling->top_p <= 1))
        return status_fail(STATUS_FORMAT, "top_p is %g: wanted above 0, at most 1",
                           (double)sampling->top_p);
    return STATUS_OK;
}

/* Tokens of the prompt into rollout->encoded. */
static int encode_prompt(struct rollout *rollout, const struct task *task,
                         const struct sampling *sampling)
{
    struct token_list *encoded = &rollout->encoded;

    encoded->n = 0;
    TRY(tokenizer_encode(rollout->tokenizer, task->prompt.data, task->prompt.bytes, encoded));
    if (!encoded->n)
        return status_fail(STATUS_FORMAT, "the prompt is empty");
    if (encoded->n > (size_t)rollout->max_prompt)
        return status_fail(STATUS_FORMAT,
                           "the prompt has %zu tokens, over rollout.max_prompt_length %d",
                           encoded->n, rollout->max_prompt);
    if (encoded->n + sampling->max_completion_length > (size_t)rollout->max_positions)
        return status_fail(STATUS_FORMAT,
                           "a prompt of %zu tokens and a completion of %u go beyond the model's "
                           "%d positions: lower rollout.max_completion_length",
                           encoded->n, sampling->max_completion_length, rollout->max_positions);
    for (size_t i = 0; i < encoded->n; i++)
        if (encoded->ids[i] < 0 || encoded->ids[i] >= rollout->n_vocab)
            return status_fail(STATUS_FORMAT,
                               "token %d of the prompt is outside the model's vocabulary of %d: "
                               "tokenizer.json and config.json do not belong together",
                               encoded->ids[i], rollout->n_vocab);
    return STATUS_OK;
}

static void put_away(struct rollout *rollout, struct running_group *group)
{
    arena_rewind(&group->arena);
    group_list_append(&rollout->unused, group);
}

int rollout_submit(struct rollout *rollout, uint64_t lease, const struct task *task,
                   const struct sampling *sampling)
{
    struct running_group *group;
    int status = check_sampling(rollout, sampling);

    if (status == STATUS_OK)
        status = encode_prompt(rollout, task, sampling);
    if (status < 0)
        return status_context(status, "task %llu", (unsigned long long)task->id);
    group = group_list_take(&rollout->unused);
    if (!group) {
        group = mem_alloc(1, sizeof(*group));
        arena_init(&group->arena, GROUP_BYTES);
    }
    status = group_fill(group, lease, task, sampling, &rollout->encoded);
    if (status < 0) {
        put_away(rollout, group);
        return status_context(status, "task %llu", (unsigned long long)task->id);
    }
    group_list_append(&rollout->queued, group);
    rollout->n_pending += (int)sampling->num_generations;
    return STATUS_OK;
}

/* ---- Decoding. */

static int is_stop(const struct rollout *rollout, int32_t token)
{
    for (size_t i = 0; i < rollout->n_stops; i++)
        if (rollout->stops[i] == token)
            return 1;
    return 0;
}

/* Draws the next token of a sample; marks it done at its end. */
static void draw_token(struct rollout *rollout, struct running_group *group, uint32_t index,
                       const float *logits)
{
    struct running_sample *sample = &group->samples[index];
    const struct sampling *sampling = &group->sampling;
    uint32_t position = sample->n_tokens++;
    double uniform = random_uniform(sampling->seed, group->task.id, index, position);
    int32_t token = sampler_draw(logits, rollout->n_vocab, sampling->temperature, sampling->top_p,
                                 sampling->top_k, uniform, &rollout->scratch);
    float temperature = sampling->temperature > 0 ? sampling->temperature : 1;

    sample->tokens[position] = token;
    sample->logprobs[position] = model_logprob(rollout->model, logits, token, temperature);
    if (is_stop(rollout, token))
        sample->finish = SAMPLE_FINISH_EOS;
    else if (sample->n_tokens == sampling->max_completion_length)
        sample->finish = SAMPLE_FINISH_LENGTH;
    else
        return;
    sample->state = SAMPLE_DONE;
    group->n_open--;
    rollout->n_pending--;
}

static void close_group(struct rollout *rollout, struct running_group *group)
{
    if (group->n_open)
        return;
    rollout->free_prompts[rollout->n_free_prompts++] = group->prompt_slot;
    group_list_remove(&rollout->running, group);
    group_list_append(&rollout->finished, group);
}

/* Gives free sequence slots to waiting samples, in order of arrival; returns how many wait on. */
static int place_waiting(struct rollout *rollout)
{
    int n_waiting = 0;

    for (struct running_group *group = rollout->running.first; group; group = group->next) {
        for (uint32_t i = 0; i < group->sampling.num_generations; i++) {
            if (group->samples[i].state != SAMPLE_WAITING)
                continue;
            if (!rollout->n_free_sequences) {
                n_waiting++;
                continue;
            }
            int32_t slot = rollout->free_sequences[--rollout->n_free_sequences];
            rollout->owners[slot] = (struct slot_owner){group, i};
            group->samples[i].state = SAMPLE_RUNNING;
        }
    }
    return n_waiting;
}

/* Moves queued groups to `running` while their samples find room; returns how many, whose prompts
 * are the batch. */
static int admit_batch(struct rollout *rollout)
{
    int n_groups = 0, n_tokens = 0, n_free = rollout->n_free_sequences;

    while (n_free > 0 && rollout->n_free_prompts && rollout->queued.first) {
        struct running_group *group = rollout->queued.first;
        group_list_take(&rollout->queued);
        group_list_append(&rollout->running, group);
        group->prompt_slot = rollout->free_prompts[--rollout->n_free_prompts];
        memcpy(rollout->batch_tokens + n_tokens, group->prompt_tokens,
               group->n_prompt * sizeof(int32_t));
        rollout->batch_segments[n_groups] = n_tokens;
        rollout->batch_slots[n_groups++] = group->prompt_slot;
        n_tokens += (int)group->n_prompt;
        n_free -= (int)group->sampling.num_generations;
    }
    rollout->batch_segments[n_groups] = n_tokens;
    return n_groups;
}

/* Computes the prompts of new groups and draws the first token of each of their samples. */
static int start_groups(struct rollout *rollout)
{
    struct running_group *last_before = rollout->running.last;
    int n_groups = admit_batch(rollout);

    if (!n_groups)
        return STATUS_OK;
    TRY(model_prefill(rollout->model, rollout->cache, n_groups, rollout->batch_tokens,
                      rollout->batch_segments, rollout->batch_slots, rollout->logits));
    struct running_group *group = last_before ? last_before->next : rollout->running.first;
    for (int i = 0; i < n_groups; i++) {
        struct running_group *next = group->next;
        for (uint32_t j = 0; j < group->sampling.num_generations; j++)
            draw_token(rollout, group, j, rollout->logits + (size_t)i * (size_t)rollout->n_vocab);
        close_group(rollout, group);
        group = next;
    }
    place_waiting(rollout);
    return STATUS_OK;
}

static int decode_running(struct rollout *rollout)
{
    int n = 0;

    for (int slot = 0; slot < rollout->max_sequences; slot++) {
        const struct slot_owner *owner = &rollout->owners[slot];
        if (!owner->group)
            continue;
        const struct running_sample *sample = &owner->group->samples[owner->sample];
        /* The cache has all tokens but the last one drawn. */
        rollout->rows[n++] = (struct model_decode_row){
            .prompt_slot = owner->group->prompt_slot,
            .sequence_slot = slot,
            .position = (int32_t)sample->n_tokens - 1,
            .token = sample->tokens[sample->n_tokens - 1],
        };
    }
    if (!n)
        return STATUS_OK;
    TRY(model_decode(rollout->model, rollout->cache, n, rollout->rows, rollout->logits));
    for (int i = 0; i < n; i++) {
        int32_t slot = rollout->rows[i].sequence_slot;
        struct slot_owner owner = rollout->owners[slot];
        draw_token(rollout, owner.group, owner.sample,
                   rollout->logits + (size_t)i * (size_t)rollout->n_vocab);
        if (owner.group->samples[owner.sample].state != SAMPLE_DONE)
            continue;
        rollout->owners[slot].group = NULL;
        rollout->free_sequences[rollout->n_free_sequences++] = slot;
        close_group(rollout, owner.group);
    }
    return STATUS_OK;
}

int rollout_step(struct rollout *rollout)
{
    if (!place_waiting(rollout))
        TRY(start_groups(rollout));
    TRY(decode_running(rollout));
    return rollout->n_pending;
}

/* ---- Delivery. */

int rollout_take(struct rollout *rollout, struct arena *arena, struct wire_group *result)
{
    struct running_group *group = group_list_take(&rollout->finished);

    if (!group)
        return 0;
    memset(result, 0, sizeof(*result));
    result->lease = group->lease;
    int status = group_result(group, rollout->tokenizer, &rollout->decoded, arena,
                              &result->group);
    put_away(rollout, group);
    return status < 0 ? status : 1;
}
