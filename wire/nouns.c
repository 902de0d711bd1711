#include <string.h>

#include "common/status.h"
#include "wire/wire.h"

const char *outcome_name(enum outcome outcome)
{
    static const char *const names[N_OUTCOMES] = {"right",   "wrong", "unreadable",
                                                  "timeout", "crash", "verifier error"};

    return (unsigned)outcome < N_OUTCOMES ? names[outcome] : "?";
}

static int copy_text(struct wire_text *to, const struct wire_text *from, struct arena *arena)
{
    char *copy = arena_copy(arena, from->data, from->bytes);

    if (!copy)
        return status_fail(STATUS_NOMEM, "no room to copy a text of %u bytes", from->bytes);
    *to = (struct wire_text){copy, from->bytes};
    return STATUS_OK;
}

/* n items of `size` bytes; none gives NULL. */
static int copy_array(void *to, const void *from, size_t n, size_t size, size_t align,
                      struct arena *arena)
{
    void *copy = NULL;

    if (from && n) {
        copy = arena_alloc(arena, n, size, align);
        if (!copy)
            return status_fail(STATUS_NOMEM, "no room to copy %zu items of a group", n);
        memcpy(copy, from, n * size);
    }
    memcpy(to, &copy, sizeof(copy));
    return STATUS_OK;
}
#define COPY_ARRAY(to, from, n, arena)                                                             \
    copy_array(&(to), (from), (n), sizeof(*(to)), _Alignof(__typeof__(*(to))), (arena))

int task_copy(struct task *to, const struct task *from, struct arena *arena)
{
    *to = *from;
    TRY(copy_text(&to->question, &from->question, arena));
    TRY(copy_text(&to->prompt, &from->prompt, arena));
    TRY(copy_text(&to->prefill, &from->prefill, arena));
    TRY(copy_text(&to->reference, &from->reference, arena));
    return copy_text(&to->columns, &from->columns, arena);
}

static int copy_sample(struct sample *to, const struct sample *from, uint32_t n_rewards,
                       struct arena *arena)
{
    *to = *from;
    TRY(COPY_ARRAY(to->tokens, from->tokens, from->n_tokens, arena));
    TRY(COPY_ARRAY(to->logprobs, from->logprobs, from->n_tokens, arena));
    TRY(COPY_ARRAY(to->weight_versions, from->weight_versions, from->n_tokens, arena));
    TRY(copy_text(&to->text, &from->text, arena));
    return COPY_ARRAY(to->scores, from->scores, n_rewards, arena);
}

int sample_group_copy(struct sample_group *to, const struct sample_group *from,
                      struct arena *arena)
{
    *to = *from;
    TRY(task_copy(&to->task, &from->task, arena));
    TRY(COPY_ARRAY(to->prompt_tokens, from->prompt_tokens, from->n_prompt, arena));
    TRY(COPY_ARRAY(to->rewards, from->rewards, from->n_rewards, arena));
    TRY(COPY_ARRAY(to->samples, from->samples, from->n_samples, arena));
    for (uint32_t i = 0; i < from->n_samples; i++)
        TRY(copy_sample(&to->samples[i], &from->samples[i], from->n_rewards, arena));
    return STATUS_OK;
}
