/* Held-out tasks, sampled k times each: pass@1, pass@k, cons@k, overall and per kind. */
#include <stdio.h>
#include <string.h>

#include "common/status.h"
#include "pipeline/internal.h"

#define MAX_KINDS 16
#define EVAL_TERMS 3

enum { TERM_ACCURACY, TERM_FORMAT, TERM_LANGUAGE };

struct tally {
    char kind[WIRE_NAME_BYTES];
    double n_tasks, pass_1, pass_k, cons_k, n_samples, format, language, length;
};

/* Whether the answer that most samples give is right; the first one on a tie. */
static int majority_is_right(const struct sample_group *group)
{
    struct text *answers = mem_alloc(group->n_samples, sizeof(*answers));
    uint32_t best = 0, votes_of_best = 0;

    for (uint32_t i = 0; i < group->n_samples; i++)
        reward_extract_answer(group->samples[i].text.data, group->samples[i].text.bytes,
                              &answers[i]);
    for (uint32_t i = 0; i < group->n_samples; i++) {
        uint32_t votes = 0;
        for (uint32_t j = 0; j < group->n_samples && answers[i].length; j++)
            votes += answers[i].length == answers[j].length &&
                     memcmp(answers[i].data, answers[j].data, answers[i].length) == 0;
        if (votes > votes_of_best) {
            votes_of_best = votes;
            best = i;
        }
    }
    for (uint32_t i = 0; i < group->n_samples; i++)
        text_release(&answers[i]);
    mem_free(answers);
    return votes_of_best &&
           group->samples[best].scores[TERM_ACCURACY].outcome == OUTCOME_RIGHT;
}

static void add_group(struct tally *tally, const struct sample_group *group)
{
    double right = 0;

    for (uint32_t i = 0; i < group->n_samples; i++) {
        const struct sample *sample = &group->samples[i];
        right += sample->scores[TERM_ACCURACY].outcome == OUTCOME_RIGHT;
        tally->format += sample->scores[TERM_FORMAT].outcome == OUTCOME_RIGHT;
        tally->language += (double)sample->scores[TERM_LANGUAGE].value;
        tally->length += sample->n_tokens;
        tally->n_samples++;
    }
    tally->n_tasks++;
    tally->pass_1 += right / group->n_samples;
    tally->pass_k += right > 0;
    tally->cons_k += majority_is_right(group);
}

static struct tally *find_tally(struct tally *tallies, int *n, const char *kind)
{
    for (int i = 0; i < *n; i++)
        if (strcmp(tallies[i].kind, kind) == 0)
            return &tallies[i];
    if (*n == MAX_KINDS)
        return NULL;
    snprintf(tallies[*n].kind, sizeof(tallies[*n].kind), "%s", kind);
    return &tallies[(*n)++];
}

/* `prefix` is "eval" or "eval/<kind>". */
static void add_tally(struct metric_list *list, const struct tally *tally, const char *prefix,
                      uint32_t k)
{
    metric_add(list, tally->pass_1 / tally->n_tasks, "%s/pass@1", prefix);
    if (k > 1) {
        metric_add(list, tally->pass_k / tally->n_tasks, "%s/pass@%u", prefix, k);
        metric_add(list, tally->cons_k / tally->n_tasks, "%s/cons@%u", prefix, k);
    }
    metric_add(list, tally->format / tally->n_samples, "%s/format", prefix);
    metric_add(list, tally->language / tally->n_samples, "%s/language", prefix);
    metric_add(list, tally->length / tally->n_samples, "%s/mean_length", prefix);
}

static void measure(struct metric_list *list, const struct sample_group *groups, size_t n,
                    uint32_t k)
{
    struct tally all = {0}, kinds[MAX_KINDS] = {0};
    char prefix[METRIC_NAME_BYTES];
    int n_kinds = 0;

    for (size_t g = 0; g < n; g++) {
        struct tally *kind = find_tally(kinds, &n_kinds, groups[g].task.kind);
        add_group(&all, &groups[g]);
        if (kind)
            add_group(kind, &groups[g]);
    }
    add_tally(list, &all, "eval", k);
    for (int i = 0; i < n_kinds; i++) {
        snprintf(prefix, sizeof(prefix), "eval/%.*s", WIRE_NAME_BYTES, kinds[i].kind);
        add_tally(list, &kinds[i], prefix, k);
    }
}

int evaluate(struct stage_run *run, uint32_t version, struct metric_list *list,
             struct sample_group **groups, size_t *n_groups)
{
    static const struct reward_term terms[EVAL_TERMS] = {
        {"accuracy", 1.0f}, {"format", 0.0f}, {"language", 0.0f}};
    const struct stage_settings *settings = &run->stage->settings;
    size_t n = (size_t)settings->eval.n_tasks;
    const struct task **tasks;

    if (n > task_set_count(run->heldout))
        n = task_set_count(run->heldout);
    tasks = ARENA_NEW(&run->arena, const struct task *, n);
    *groups = ARENA_NEW(&run->arena, struct sample_group, n);
    *n_groups = n;
    if (!tasks || !*groups)
        return status_fail(STATUS_NOMEM, "no room for %zu groups; lower eval.n_tasks", n);
    for (size_t i = 0; i < n; i++)
        tasks[i] = task_set_get(run->heldout, i);
    struct exchange_job job = {
        .label = "evaluate",
        .tasks = tasks,
        .n_tasks = n,
        .sampling = {.num_generations = (uint32_t)settings->eval.num_generations,
                     .max_completion_length = (uint32_t)settings->rollout.max_completion_length,
                     .temperature = (float)settings->eval.temperature,
                     .top_p = (float)settings->eval.top_p,
                     /* The same for every stage, so that stages differ by their weights alone. */
                     .seed = random_mix((uint64_t)run->pipeline->recipe.run.seed, SEED_EVAL),
                     .weight_version = version},
        .terms = terms,
        .n_terms = EVAL_TERMS,
        .max_sequences = (int)settings->rollout.max_sequences,
        .arena = &run->arena,
        .groups = *groups,
    };
    TRY(exchange_run(run->pipeline->exchange, &job));
    measure(list, *groups, n, job.sampling.num_generations);
    return STATUS_OK;
}
