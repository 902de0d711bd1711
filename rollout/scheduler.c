/*
 * Continuous batching. A step is one batch of tokens: the next one of each running sample, then as
 * much of the prompts of new groups as there is room for, and of samples whose keys were given up
 * (places.c). The first token of all samples is drawn where the prompt ends, so a sample that waits
 * for a place has its first token already.
 */
#include <string.h>

#include "common/random.h"
#include "common/status.h"
#include "rollout/internal.h"

#define MAX_SAMPLES 4096
#define MAX_TEMPERATURE 100
#define GROUP_BYTES ((size_t)2 << 30)

/* ---- Life. */

/* Grows to about the most draws that a step has made. */
static void reserve_draws(struct rollout *rollout, int n)
{
    if (n <= rollout->most_draws)
        return;
    n += n / 2;
    size_t count = (size_t)n;
    rollout->draws = mem_resize(rollout->draws, count, sizeof(*rollout->draws));
    rollout->owners = mem_resize(rollout->owners, count, sizeof(*rollout->owners));
    rollout->drawn = mem_resize(rollout->drawn, count, sizeof(*rollout->drawn));
    rollout->logprobs = mem_resize(rollout->logprobs, count, sizeof(*rollout->logprobs));
    rollout->most_draws = n;
}

int rollout_create(struct rollout **out, struct model *model, const struct tokenizer *tokenizer,
                   uint32_t weight_version, const struct rollout_limits *limits)
{
    const struct model_shape *shape = model_shape(model);

    *out = NULL;
    if (limits->max_sequences < 1 || limits->max_prompt < 1 || limits->max_completion < 1 ||
        limits->max_batched_tokens < 1)
        return status_fail(STATUS_CONFIG,
                           "rollout of %d sequences, prompts of %d and completions of %d tokens, "
                           "%d tokens a step: each must be 1 or more",
                           limits->max_sequences, limits->max_prompt, limits->max_completion,
                           limits->max_batched_tokens);
    struct rollout *rollout = mem_alloc(1, sizeof(*rollout));
    rollout->model = model;
    rollout->tokenizer = tokenizer;
    rollout->weight_version = weight_version;
    rollout->stops[0] = tokenizer_eos(tokenizer);
    rollout->n_stops = rollout->stops[0] >= 0;
    rollout->n_vocab = shape->vocab_size;
    rollout->max_positions = shape->max_positions;
    rollout->limits = *limits;
    rollout->most_rows = limits->max_batched_tokens > limits->max_sequences
                             ? limits->max_batched_tokens : limits->max_sequences;
    rollout->rows = mem_alloc((size_t)rollout->most_rows, sizeof(*rollout->rows));
    reserve_draws(rollout, limits->max_sequences);
    int status = places_create(rollout);
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
    places_release(rollout);
    token_list_release(&rollout->encoded);
    text_release(&rollout->decoded);
    mem_free(rollout->rows);
    mem_free(rollout->draws);
    mem_free(rollout->owners);
    mem_free(rollout->drawn);
    mem_free(rollout->logprobs);
    mem_free(rollout);
    *out = NULL;
}

void rollout_set_recording(struct rollout *rollout, int on)
{
    model_cache_record(rollout->cache, on);
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

void rollout_load(const struct rollout *rollout, struct rollout_load *load)
{
    load->n_pages = rollout->n_pages;
    load->n_free_pages = model_cache_free_pages(rollout->cache);
    load->n_pauses = rollout->n_pauses;
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
        sampling->max_completion_length > (uint32_t)rollout->limits.max_completion)
        return status_fail(STATUS_FORMAT, "max_completion_length is %u: wanted 1 to %d",
                           sampling->max_completion_length, rollout->limits.max_completion);
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
    if (encoded->n > (size_t)rollout->limits.max_prompt)
        return status_fail(STATUS_FORMAT,
                           "the prompt has %zu tokens, over rollout.max_prompt_length %d",
                           encoded->n, rollout->limits.max_prompt);
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

/* The next token of a sample is to be drawn behind the batch's last row. */
static void add_draw(struct rollout *rollout, struct running_group *group, uint32_t index)
{
    const struct sampling *sampling = &group->sampling;
    uint32_t top_k = sampling->top_k < (uint32_t)rollout->n_vocab ? sampling->top_k : 0;
    int i = rollout->n_draws++;

    reserve_draws(rollout, rollout->n_draws);
    rollout->owners[i] = (struct draw_owner){group, index};
    rollout->draws[i] = (struct draw){
        .uniform = random_uniform(sampling->seed, group->task.id, index,
                                  group->samples[index].n_tokens),
        .temperature = sampling->temperature,
        .top_p = sampling->top_p,
        .top_k = (int32_t)top_k,
        .row = rollout->n_rows - 1,
    };
}

/* The next token of a sample that the cache does not have. */
static void add_token(struct rollout *rollout, const struct running_group *group,
                      struct running_sample *sample)
{
    rollout->rows[rollout->n_rows++] = (struct model_decode_row){
        .prompt_slot = group->prompt_slot,
        .sequence_slot = sample->sequence_slot,
        .position = (int32_t)sample->n_cached,
        .token = sample->tokens[sample->n_cached],
    };
    sample->n_cached++;
}

/* The samples of a group are neighbours, so that they read its prompt together. The cache has all
 * their tokens but the last one drawn. */
static void batch_samples(struct rollout *rollout, struct running_group *group)
{
    for (uint32_t i = 0; i < group->sampling.num_generations; i++) {
        struct running_sample *sample = &group->samples[i];
        if (sample->state != SAMPLE_RUNNING || sample->n_cached + 1 < sample->n_tokens)
            continue;
        add_token(rollout, group, sample);
        add_draw(rollout, group, i);
    }
}

/* Samples that were paused: what they had in the cache, up to the last token drawn. */
static void batch_again(struct rollout *rollout, struct running_group *group)
{
    for (uint32_t i = 0; i < group->sampling.num_generations; i++) {
        struct running_sample *sample = &group->samples[i];
        while (sample->state == SAMPLE_RUNNING && sample->n_cached + 1 < sample->n_tokens &&
               rollout->n_rows < rollout->limits.max_batched_tokens)
            add_token(rollout, group, sample);
    }
}

static void batch_prompt(struct rollout *rollout, struct running_group *group)
{
    while (group->holds_pages && group->n_computed < group->n_prompt &&
           rollout->n_rows < rollout->limits.max_batched_tokens) {
        rollout->rows[rollout->n_rows++] = (struct model_decode_row){
            .prompt_slot = group->prompt_slot,
            .sequence_slot = MODEL_PROMPT,
            .position = (int32_t)group->n_computed,
            .token = group->prompt_tokens[group->n_computed],
        };
        if (++group->n_computed < group->n_prompt)
            continue;
        for (uint32_t i = 0; i < group->sampling.num_generations; i++)
            if (!group->samples[i].n_tokens)   /* the prompt was not computed before */
                add_draw(rollout, group, i);
    }
}

static void close_group(struct rollout *rollout, struct running_group *group)
{
    places_free_group(rollout, group);
    group_list_remove(&rollout->running, group);
    group_list_append(&rollout->finished, group);
}

static void take_token(struct rollout *rollout, const struct draw_owner *owner, int32_t token,
                       float logprob)
{
    struct running_group *group = owner->group;
    struct running_sample *sample = &group->samples[owner->sample];

    sample->tokens[sample->n_tokens] = token;
    sample->logprobs[sample->n_tokens++] = logprob;
    if (is_stop(rollout, token))
        sample->finish = SAMPLE_FINISH_EOS;
    else if (sample->n_tokens == group->sampling.max_completion_length)
        sample->finish = SAMPLE_FINISH_LENGTH;
    else
        return;
    if (sample->state == SAMPLE_RUNNING)
        places_free_sample(rollout, sample);
    sample->state = SAMPLE_DONE;
    rollout->n_pending--;
    if (--group->n_open == 0)
        close_group(rollout, group);
}

int rollout_step(struct rollout *rollout)
{
    places_settle(rollout);
    rollout->n_rows = rollout->n_draws = 0;
    for (struct running_group *group = rollout->running.first; group; group = group->next)
        batch_samples(rollout, group);
    for (struct running_group *group = rollout->running.first; group; group = group->next)
        batch_prompt(rollout, group);
    for (struct running_group *group = rollout->running.first; group; group = group->next)
        batch_again(rollout, group);
    TRY(model_decode(rollout->model, rollout->cache, rollout->n_rows, rollout->rows,
                     rollout->n_draws, rollout->draws, rollout->drawn, rollout->logprobs));
    for (int i = 0; i < rollout->n_draws; i++)
        take_token(rollout, &rollout->owners[i], rollout->drawn[i], rollout->logprobs[i]);
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
