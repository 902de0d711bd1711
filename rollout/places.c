/*
 * Who holds slots and pages of the cache, and who waits. A group holds a prompt slot from its
 * admission until its last sample is done, and its prompt's pages with it; a sample holds a
 * sequence slot while it is decoded, and pages for its tokens so far. When pages run out, the
 * samples that came last give way: their tokens are kept, their keys are computed again later, to
 * the same bits. The first sample of the first group never gives way, so that all get done.
 */
#include "common/log.h"
#include "common/status.h"
#include "rollout/internal.h"

#define MEMORY_SHARE 0.25   /* of the device, when nothing else is said */

/* ---- How many. */

/* Groups have several samples as a rule: half as many prompts as sequences keep all slots busy from
 * groups of two on. */
static int count_prompt_slots(const struct rollout_limits *limits)
{
    return (limits->max_sequences + 1) / 2;
}

int64_t rollout_cache_tokens(const struct rollout_limits *limits, const struct model_shape *shape,
                             double memory_bytes)
{
    int64_t n_pages = count_prompt_slots(limits) * model_cache_pages(limits->max_prompt) +
                      limits->max_sequences * model_cache_pages(limits->max_completion);
    double most = memory_bytes * MEMORY_SHARE / (double)model_cache_page_bytes(shape);

    if (limits->kv_cache_tokens)
        most = (double)(limits->kv_cache_tokens / MODEL_PAGE);
    return (most < (double)n_pages ? (int64_t)most : n_pages) * MODEL_PAGE;
}

int rollout_check_cache(const struct rollout_limits *limits, int64_t n_tokens)
{
    int64_t least = (model_cache_pages(limits->max_prompt) +
                     model_cache_pages(limits->max_completion)) * MODEL_PAGE;

    if (n_tokens >= least)
        return STATUS_OK;
    return status_fail(STATUS_CONFIG, "a cache of %lld tokens has no room for a prompt of %d and a "
                       "completion of %d, in pages of %d: set rollout.kv_cache_tokens to %lld or "
                       "more, or lower rollout.max_prompt_length or rollout.max_completion_length",
                       (long long)n_tokens, limits->max_prompt, limits->max_completion, MODEL_PAGE,
                       (long long)least);
}

int places_create(struct rollout *rollout)
{
    const struct rollout_limits *limits = &rollout->limits;
    double memory = ops_memory_bytes(model_ops(rollout->model));
    struct model_cache_size size = {
        .n_prompts = count_prompt_slots(limits),
        .max_prompt = limits->max_prompt,
        .n_sequences = limits->max_sequences,
        .max_completion = limits->max_completion,
        .n_tokens = rollout_cache_tokens(limits, model_shape(rollout->model), memory),
    };

    TRY(rollout_check_cache(limits, size.n_tokens));
    TRY(model_cache_create(&rollout->cache, rollout->model, &size));
    rollout->n_pages = model_cache_free_pages(rollout->cache);
    rollout->free_sequences = mem_alloc((size_t)size.n_sequences, sizeof(int32_t));
    rollout->free_prompts = mem_alloc((size_t)size.n_prompts, sizeof(int32_t));
    /* Stacks: the lowest slot is taken first. */
    for (int i = 0; i < size.n_sequences; i++)
        rollout->free_sequences[i] = size.n_sequences - 1 - i;
    for (int i = 0; i < size.n_prompts; i++)
        rollout->free_prompts[i] = size.n_prompts - 1 - i;
    rollout->n_free_sequences = size.n_sequences;
    rollout->n_free_prompts = size.n_prompts;
    return STATUS_OK;
}

void places_release(struct rollout *rollout)
{
    model_cache_destroy(&rollout->cache);
    mem_free(rollout->free_sequences);
    mem_free(rollout->free_prompts);
}

/* ---- Giving back. */

void places_free_sample(struct rollout *rollout, struct running_sample *sample)
{
    model_cache_release(rollout->cache, 0, sample->sequence_slot);
    rollout->free_sequences[rollout->n_free_sequences++] = sample->sequence_slot;
    sample->n_cached = 0;
}

static void free_prompt(struct rollout *rollout, struct running_group *group)
{
    model_cache_release(rollout->cache, group->prompt_slot, MODEL_PROMPT);
    group->holds_pages = 0;
    group->n_computed = 0;
}

void places_free_group(struct rollout *rollout, struct running_group *group)
{
    free_prompt(rollout, group);
    rollout->free_prompts[rollout->n_free_prompts++] = group->prompt_slot;
}

static struct running_group *find_youngest(const struct rollout *rollout)
{
    struct running_group *youngest = NULL;

    for (struct running_group *group = rollout->running.first; group; group = group->next)
        if (group->holds_pages)
            youngest = group;
    return youngest;
}

/* Takes pages from a group: those of its last running sample; when none runs, of its prompt. */
static void take_back(struct rollout *rollout, struct running_group *group)
{
    if (rollout->n_pauses++ == 0)
        log_info("%lld tokens of cache are too few for all samples: some wait, and are computed "
                 "again later (rollout.kv_cache_tokens)",
                 (long long)rollout->n_pages * MODEL_PAGE);
    for (uint32_t i = group->sampling.num_generations; i-- > 0;) {
        struct running_sample *sample = &group->samples[i];
        if (sample->state == SAMPLE_RUNNING) {
            places_free_sample(rollout, sample);
            sample->state = SAMPLE_WAITING;
            return;
        }
    }
    free_prompt(rollout, group);
}

/* ---- Taking. */

/* Whether the sample will want one more page. The last token that it draws is never stored. */
static int is_growing(const struct running_group *group, const struct running_sample *sample)
{
    return model_cache_pages(sample->n_tokens) <
           model_cache_pages(group->sampling.max_completion_length - 1);
}

/* Pages for the next token of each running sample; counts those which will want another one. */
static int64_t keep_running(struct rollout *rollout)
{
    int64_t n_growing = 0;

    for (struct running_group *group = rollout->running.first; group; group = group->next)
        for (uint32_t i = 0; i < group->sampling.num_generations; i++) {
            struct running_sample *sample = &group->samples[i];
            while (sample->state == SAMPLE_RUNNING &&
                   !model_cache_reserve(rollout->cache, 0, sample->sequence_slot,
                                        (int)sample->n_tokens))
                take_back(rollout, find_youngest(rollout));
            n_growing += sample->state == SAMPLE_RUNNING && is_growing(group, sample);
        }
    return n_growing;
}

/* Whether n_tokens of a group find room, and one page more for each sample that grows: what starts
 * now is not to give way at once. When nothing runs, younger groups give way to it. */
static int find_room(struct rollout *rollout, const struct running_group *group, int64_t n_growing,
                     uint32_t n_tokens)
{
    int64_t n_pages = model_cache_pages(n_tokens) + n_growing;

    while (model_cache_free_pages(rollout->cache) < n_pages) {
        struct running_group *youngest = find_youngest(rollout);
        if (rollout->n_free_sequences < rollout->limits.max_sequences || !youngest ||
            youngest == group)
            return 0;
        take_back(rollout, youngest);
    }
    return 1;
}

/* Slots and pages for what waits, in order of arrival. Returns 0 when some of it must go on
 * waiting, though its prompt is computed. */
static int place_waiting(struct rollout *rollout, int64_t *n_growing)
{
    for (struct running_group *group = rollout->running.first; group; group = group->next) {
        if (!group->holds_pages) {
            if (!find_room(rollout, group, *n_growing, group->n_prompt))
                return 0;
            model_cache_reserve(rollout->cache, group->prompt_slot, MODEL_PROMPT,
                                (int)group->n_prompt);
            group->holds_pages = 1;
        }
        if (group->n_computed < group->n_prompt)
            continue;
        for (uint32_t i = 0; i < group->sampling.num_generations; i++) {
            struct running_sample *sample = &group->samples[i];
            if (sample->state != SAMPLE_WAITING)
                continue;
            if (!rollout->n_free_sequences ||
                !find_room(rollout, group, *n_growing, sample->n_tokens))
                return 0;
            sample->sequence_slot = rollout->free_sequences[--rollout->n_free_sequences];
            sample->state = SAMPLE_RUNNING;
            model_cache_reserve(rollout->cache, 0, sample->sequence_slot, (int)sample->n_tokens);
            *n_growing += is_growing(group, sample);
        }
    }
    return 1;
}

/* Moves queued groups to `running` while one of their samples would find a free sequence slot, and
 * a page, behind the samples of the groups before. */
static void admit_groups(struct rollout *rollout, int64_t n_growing)
{
    int64_t n_free = rollout->n_free_sequences;
    int64_t n_pages = model_cache_free_pages(rollout->cache) - n_growing;

    for (const struct running_group *group = rollout->running.first; group; group = group->next)
        for (uint32_t i = 0; i < group->sampling.num_generations; i++)
            if (group->samples[i].state == SAMPLE_WAITING) {
                uint32_t n_tokens = group->samples[i].n_tokens;
                n_pages -= model_cache_pages(n_tokens ? n_tokens : 1);
                n_free--;
            }
    while (n_free > 0 && rollout->n_free_prompts && rollout->queued.first) {
        int64_t n_own = model_cache_pages(rollout->queued.first->n_prompt);
        if (n_pages < n_own + 1)
            return;
        struct running_group *group = group_list_take(&rollout->queued);
        int64_t n_samples = group->sampling.num_generations;
        group_list_append(&rollout->running, group);
        group->prompt_slot = rollout->free_prompts[--rollout->n_free_prompts];
        group->holds_pages = model_cache_reserve(rollout->cache, group->prompt_slot, MODEL_PROMPT,
                                                 (int)group->n_prompt);
        n_pages -= n_own + (n_samples < n_free ? n_samples : n_free);
        n_free -= n_samples;
    }
}

void places_settle(struct rollout *rollout)
{
    int64_t n_growing = keep_running(rollout);

    if (place_waiting(rollout, &n_growing))
        admit_groups(rollout, n_growing);
}
