#include <string.h>

#include "common/status.h"
#include "rollout/internal.h"

void group_list_append(struct group_list *list, struct running_group *group)
{
    group->next = NULL;
    if (list->last)
        list->last->next = group;
    else
        list->first = group;
    list->last = group;
}

struct running_group *group_list_take(struct group_list *list)
{
    struct running_group *group = list->first;

    if (group) {
        list->first = group->next;
        if (!list->first)
            list->last = NULL;
    }
    return group;
}

void group_list_remove(struct group_list *list, struct running_group *group)
{
    struct running_group *before = NULL, *at = list->first;

    while (at != group) {
        before = at;
        at = at->next;
    }
    if (before)
        before->next = group->next;
    else
        list->first = group->next;
    if (list->last == group)
        list->last = before;
}

void group_list_release(struct group_list *list)
{
    struct running_group *group;

    while ((group = group_list_take(list))) {
        arena_release(&group->arena);
        mem_free(group);
    }
}

int group_fill(struct running_group *group, uint64_t lease, const struct task *task,
               const struct sampling *sampling, const struct token_list *prompt)
{
    struct arena *arena = &group->arena;
    size_t n_samples = sampling->num_generations;
    size_t n_tokens = sampling->max_completion_length;

    group->lease = lease;
    group->sampling = *sampling;
    group->n_prompt = (uint32_t)prompt->n;
    group->n_computed = 0;
    group->holds_pages = 0;
    group->n_open = sampling->num_generations;
    TRY(task_copy(&group->task, task, arena));
    group->prompt_tokens = ARENA_NEW(arena, int32_t, prompt->n);
    group->samples = ARENA_NEW(arena, struct running_sample, n_samples);
    int32_t *tokens = ARENA_NEW(arena, int32_t, n_samples * n_tokens);
    float *logprobs = ARENA_NEW(arena, float, n_samples * n_tokens);
    if (!group->prompt_tokens || !group->samples || !tokens || !logprobs)
        return status_fail(STATUS_NOMEM,
                           "%zu samples of %zu tokens do not fit into memory: lower "
                           "rollout.num_generations or rollout.max_completion_length",
                           n_samples, n_tokens);
    memcpy(group->prompt_tokens, prompt->ids, prompt->n * sizeof(int32_t));
    for (size_t i = 0; i < n_samples; i++) {
        group->samples[i].tokens = tokens + i * n_tokens;
        group->samples[i].logprobs = logprobs + i * n_tokens;
    }
    return STATUS_OK;
}

static int copy_sample(struct sample *out, const struct running_sample *sample, uint32_t version,
                       const struct text *decoded, struct arena *arena)
{
    size_t n = sample->n_tokens;

    out->finish = sample->finish;
    out->n_tokens = sample->n_tokens;
    out->tokens = ARENA_NEW(arena, int32_t, n);
    out->logprobs = ARENA_NEW(arena, float, n);
    out->weight_versions = ARENA_NEW(arena, uint32_t, n);
    out->text.data = arena_copy(arena, decoded->data, decoded->length);
    out->text.bytes = (uint32_t)decoded->length;
    if (!out->tokens || !out->logprobs || !out->weight_versions || !out->text.data ||
        decoded->failed)
        return status_fail(STATUS_NOMEM, "no room for a sample of %zu tokens", n);
    memcpy(out->tokens, sample->tokens, n * sizeof(int32_t));
    memcpy(out->logprobs, sample->logprobs, n * sizeof(float));
    for (size_t i = 0; i < n; i++)
        out->weight_versions[i] = version;
    return STATUS_OK;
}

int group_result(const struct running_group *group, const struct tokenizer *tokenizer,
                 struct text *decoded, struct arena *arena, struct sample_group *out)
{
    TRY(task_copy(&out->task, &group->task, arena));
    out->n_prompt = group->n_prompt;
    out->prompt_tokens = ARENA_NEW(arena, int32_t, group->n_prompt);
    out->n_samples = group->sampling.num_generations;
    out->samples = ARENA_NEW(arena, struct sample, out->n_samples);
    if (!out->prompt_tokens || !out->samples)
        return status_fail(STATUS_NOMEM, "no room for a group of %u samples", out->n_samples);
    memcpy(out->prompt_tokens, group->prompt_tokens, group->n_prompt * sizeof(int32_t));
    for (uint32_t i = 0; i < out->n_samples; i++) {
        const struct running_sample *sample = &group->samples[i];
        size_t n_text = sample->n_tokens - (sample->finish == SAMPLE_FINISH_EOS);
        text_clear(decoded);
        tokenizer_decode(tokenizer, sample->tokens, n_text, 1, decoded);
        TRY(copy_sample(&out->samples[i], sample, group->sampling.weight_version, decoded, arena));
    }
    return STATUS_OK;
}
