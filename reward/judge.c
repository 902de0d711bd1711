#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/status.h"
#include "reward/internal.h"

#define CACHE_ENTRIES 16384   /* verdicts; about 2.5 MiB */
#define ACCURACY "accuracy"   /* the term that means the task's own verifier */

_Static_assert((int)VERIFIER_RIGHT == OUTCOME_RIGHT && (int)VERIFIER_ERROR == OUTCOME_ERROR &&
                   VERIFIER_DETAIL_BYTES == WIRE_DETAIL_BYTES,
               "the wire and the verifiers count outcomes alike");

struct reward {
    struct registry *registry;
    struct verdict_cache *cache;
};

int reward_create(struct reward **out, const struct reward_config *config,
                  const struct sandbox_config *sandbox)
{
    struct reward *reward = mem_alloc(1, sizeof(*reward));
    int status = registry_create(&reward->registry, config, sandbox);

    if (status < 0) {
        mem_free(reward);
        return status;
    }
    reward->cache = cache_create(CACHE_ENTRIES);
    *out = reward;
    return STATUS_OK;
}

void reward_destroy(struct reward **reward)
{
    if (!*reward)
        return;
    registry_destroy(&(*reward)->registry);
    cache_destroy(&(*reward)->cache);
    mem_free(*reward);
    *reward = NULL;
}

const char *reward_verifier_name(struct reward *reward, size_t i)
{
    const struct registry_entry *entry = registry_at(reward->registry, i);

    return entry ? entry->description.name : NULL;
}

const char *reward_verifier_help(struct reward *reward, size_t i)
{
    const struct registry_entry *entry = registry_at(reward->registry, i);

    return entry ? entry->description.help : NULL;
}

static int unknown_name(struct reward *reward, const char *name)
{
    static const char *const own[] = {ACCURACY};
    const char *near = registry_nearest(reward->registry, name);

    if (!near)
        near = config_nearest(name, own, 1);
    return status_fail(STATUS_CONFIG, "there is no verifier \"%s\"%s%s%s", name,
                       near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

/* A verifier of lengths that lacks an option would mask every sample of the run. */
static int try_lengths(struct reward *reward, const char *name)
{
    const struct reward_facts facts = {.n_tokens = 1, .group_min_tokens = 1, .group_max_tokens = 1};
    struct task task = {.verifier = "format"};
    struct registry_entry *entry = registry_find(reward->registry, name);
    struct score score;

    if (!entry || !entry->verifier || !(entry->description.flags & VERIFIER_USES_GROUP))
        return STATUS_OK;
    TRY(reward_judge_text(reward, name, &task, "", 0, &facts, &score));
    return score.outcome == OUTCOME_ERROR
               ? status_fail(STATUS_CONFIG, "reward function \"%s\": %s", name, score.detail)
               : STATUS_OK;
}

int reward_check_name(struct reward *reward, const char *name)
{
    return registry_find(reward->registry, name) ? STATUS_OK : unknown_name(reward, name);
}

int reward_check_names(struct reward *reward, const struct reward_config *config)
{
    char name[CONFIG_TEXT_BYTES];

    for (size_t i = 0; config_list_item(config->reward_funcs, i, name, sizeof(name)); i++)
        if (strcmp(name, ACCURACY) != 0 && reward_check_name(reward, name) < 0)
            return status_context(STATUS_CONFIG, "reward.reward_funcs");
    return STATUS_OK;
}

int reward_check_lengths(struct reward *reward, const struct reward_config *config)
{
    char name[CONFIG_TEXT_BYTES];

    for (size_t i = 0; config_list_item(config->reward_funcs, i, name, sizeof(name)); i++)
        TRY(try_lengths(reward, name));
    return STATUS_OK;
}

static struct verifier_text text_of(const struct wire_text *text)
{
    return (struct verifier_text){text->data ? text->data : "", text->bytes};
}

static struct verifier_text name_of(const char *name)
{
    return (struct verifier_text){name, strnlen(name, WIRE_NAME_BYTES)};
}

static struct verifier_task describe_task(const struct task *task, const char *completion, size_t n)
{
    return (struct verifier_task){
        .size = sizeof(struct verifier_task),
        .task_id = task->id,
        .question = text_of(&task->question),
        .completion = {completion ? completion : "", n},
        .reference = text_of(&task->reference),
        .language = name_of(task->language),
        .prefill = text_of(&task->prefill),
        .kind = name_of(task->kind),
        .columns = text_of(&task->columns),
    };
}

/* Only for verifiers that ask for it: the verdicts of others must not depend on it. */
static void describe_facts(struct verifier_task *task, const struct reward_facts *facts,
                           enum outcome accuracy)
{
    task->n_tokens = facts->n_tokens;
    task->group_min_tokens = facts->group_min_tokens;
    task->group_max_tokens = facts->group_max_tokens;
    task->accuracy = (uint32_t)accuracy;
}

static void make_key(struct digest *key, const struct registry_entry *entry,
                     const struct verifier_task *task)
{
    const uint64_t facts[] = {task->n_tokens, task->group_min_tokens, task->group_max_tokens,
                              task->accuracy};
    const struct verifier_text texts[] = {task->question, task->reference,  task->language,
                                          task->prefill,  task->kind,       task->columns,
                                          task->completion};
    struct digest_state *state = digest_begin();

    digest_add(state, &entry->key, sizeof(entry->key));
    digest_add(state, facts, sizeof(facts));
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        digest_add(state, &texts[i].length, sizeof(texts[i].length));
        digest_add(state, texts[i].data, texts[i].length);
    }
    digest_end(state, key);
}

/* A verdict of any origin as a score: what makes no sense is an error of the verifier. */
static void take_verdict(struct score *score, const struct verifier_verdict *verdict,
                         const char *name)
{
    memset(score, 0, sizeof(*score));
    memcpy(score->detail, verdict->detail, strnlen(verdict->detail, WIRE_DETAIL_BYTES - 1));
    if (verdict->outcome >= N_OUTCOMES || !isfinite(verdict->score) || verdict->score < -1 ||
        verdict->score > 1) {
        score->outcome = OUTCOME_ERROR;
        snprintf(score->detail, sizeof(score->detail),
                 "verifier %.31s gave outcome %u, score %g", name, (unsigned)verdict->outcome,
                 verdict->score);
        return;
    }
    score->outcome = (enum outcome)verdict->outcome;
    score->value = score->outcome == OUTCOME_ERROR ? 0 : (float)verdict->score;
    if (score->outcome == OUTCOME_ERROR && !score->detail[0])
        snprintf(score->detail, sizeof(score->detail), "no verdict was given");
}

/* A time limit depends on the machine's mood, and an error may pass: neither is kept. */
static int may_be_kept(enum outcome outcome)
{
    return outcome != OUTCOME_ERROR && outcome != OUTCOME_TIMEOUT;
}

static void ask_verifier(struct reward *reward, struct registry_entry *entry,
                         const struct verifier_task *task, struct score *score)
{
    struct verifier_verdict verdict = {.size = sizeof(verdict), .outcome = VERIFIER_ERROR};
    int cached = (entry->description.flags & VERIFIER_DETERMINISTIC) != 0;
    struct digest key;

    if (cached) {
        make_key(&key, entry, task);
        if (cache_find(reward->cache, &key, score))
            return;
    }
    if (entry->isolate) {
        isolate_score(entry->isolate, task, &verdict);
    } else if (entry->verifier->score(entry->state, task, &verdict) < 0) {
        verdict.outcome = VERIFIER_ERROR;
        verdict.score = 0;
        snprintf(verdict.detail, sizeof(verdict.detail), "%s", status_reason());
    }
    take_verdict(score, &verdict, entry->description.name);
    if (cached && may_be_kept(score->outcome))
        cache_put(reward->cache, &key, score);
}

int reward_judge_text(struct reward *reward, const char *verifier, const struct task *task,
                      const char *completion, size_t n, const struct reward_facts *facts,
                      struct score *score)
{
    const char *name = strcmp(verifier, ACCURACY) == 0 ? task->verifier : verifier;
    struct registry_entry *entry = registry_find(reward->registry, name);

    if (!entry)
        return unknown_name(reward, name);
    struct verifier_task described = describe_task(task, completion, n);
    if (facts && (entry->description.flags & VERIFIER_USES_GROUP)) {
        struct registry_entry *judge = registry_find(reward->registry, task->verifier);
        struct score accuracy = {.outcome = OUTCOME_ERROR};
        if (judge && judge != entry)
            ask_verifier(reward, judge, &described, &accuracy);
        describe_facts(&described, facts, accuracy.outcome);
    }
    ask_verifier(reward, entry, &described, score);
    return STATUS_OK;
}

static void judge_term(struct reward *reward, const struct task *task, const struct sample *sample,
                       const char *name, const struct reward_facts *facts, struct score *score)
{
    if (reward_judge_text(reward, name, task, sample->text.data, sample->text.bytes, facts,
                          score) < 0) {
        memset(score, 0, sizeof(*score));
        score->outcome = OUTCOME_ERROR;
        snprintf(score->detail, sizeof(score->detail), "%s", status_reason());
    }
}

static void measure_group(const struct sample_group *group, struct reward_facts *facts)
{
    for (uint32_t i = 0; i < group->n_samples; i++) {
        uint64_t n = group->samples[i].n_tokens;
        if (i == 0 || n < facts->group_min_tokens)
            facts->group_min_tokens = n;
        if (n > facts->group_max_tokens)
            facts->group_max_tokens = n;
    }
}

/* reward = sum over terms of weight * value; no reward at all when a verifier failed. */
static void add_up(struct sample *sample, const struct reward_term *terms, uint32_t n)
{
    double sum = 0;

    sample->masked = 0;
    for (uint32_t i = 0; i < n; i++) {
        sum += (double)terms[i].weight * (double)sample->scores[i].value;
        if (sample->scores[i].outcome == OUTCOME_ERROR) {
            log_debug("masked: %s: %s", terms[i].name, sample->scores[i].detail);
            sample->masked = 1;
        }
    }
    sample->reward = sample->masked ? 0 : (float)sum;
}

int judge_group(struct reward *reward, struct sample_group *group, struct arena *arena,
                void (*between)(void *context), void *context)
{
    struct reward_facts facts = {0};

    if (group->n_rewards == 0 || group->n_rewards > WIRE_MAX_REWARDS)
        return status_fail(
            STATUS_FORMAT, "task %llu asks for %u reward functions; 1 to %d are wanted",
            (unsigned long long)group->task.id, (unsigned)group->n_rewards, WIRE_MAX_REWARDS);
    measure_group(group, &facts);
    for (uint32_t i = 0; i < group->n_samples; i++) {
        struct sample *sample = &group->samples[i];
        sample->scores = ARENA_NEW(arena, struct score, group->n_rewards);
        if (!sample->scores)
            return status_fail(STATUS_NOMEM, "scores of %u samples are over the arena's %zu bytes",
                               (unsigned)group->n_samples, arena->maximum);
        facts.n_tokens = sample->n_tokens;
        for (uint32_t k = 0; k < group->n_rewards; k++) {
            judge_term(reward, &group->task, sample, group->rewards[k].name, &facts,
                       &sample->scores[k]);
            if (between)
                between(context);
        }
        add_up(sample, group->rewards, group->n_rewards);
    }
    return STATUS_OK;
}

int reward_judge_group(struct reward *reward, struct sample_group *group, struct arena *arena)
{
    return judge_group(reward, group, arena, NULL, NULL);
}
