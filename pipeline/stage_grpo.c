/* The wheel of reinforcement learning: tasks out, judged groups in, policy forward. */
#include <math.h>
#include <string.h>

#include "common/log.h"
#include "common/status.h"
#include "pipeline/internal.h"

static int draw_tasks(struct stage_run *run, const struct task ***tasks)
{
    const struct grpo_config *grpo = &run->stage->settings.grpo;
    size_t n = (size_t)grpo->tasks_per_step;

    *tasks = ARENA_NEW(&run->arena, const struct task *, n);
    if (!*tasks)
        return status_fail(STATUS_NOMEM, "no room for %zu tasks; lower grpo.tasks_per_step", n);
    for (size_t i = 0; i < n; i++)
        (*tasks)[i] = task_set_pick(run->train, stage_seed(run, SEED_TASKS),
                                    (uint64_t)run->step * n + i);
    return STATUS_OK;
}

/* Sampled by rollout/, judged by reward/. */
static int collect_groups(struct stage_run *run, struct exchange_job *job)
{
    const struct stage_settings *settings = &run->stage->settings;
    struct reward_term *terms = ARENA_NEW(&run->arena, struct reward_term, WIRE_MAX_REWARDS);
    const struct task **tasks;

    TRY(draw_tasks(run, &tasks));
    *job = (struct exchange_job){
        .label = run->stage->name,
        .tasks = tasks,
        .n_tasks = (size_t)settings->grpo.tasks_per_step,
        .sampling = {.num_generations = (uint32_t)settings->rollout.num_generations,
                     .max_completion_length = (uint32_t)settings->rollout.max_completion_length,
                     .top_k = (uint32_t)settings->rollout.top_k,
                     .temperature = (float)settings->rollout.temperature,
                     .top_p = (float)settings->rollout.top_p,
                     .seed = random_mix(stage_seed(run, SEED_SAMPLES), (uint64_t)run->step),
                     .weight_version = stage_weight_version(run, run->step)},
        .terms = terms,
        .max_sequences = (int)settings->rollout.max_sequences,
        .arena = &run->arena,
        .groups = ARENA_NEW(&run->arena, struct sample_group, settings->grpo.tasks_per_step),
    };
    if (!terms || !job->groups)
        return status_fail(STATUS_NOMEM, "no room for the groups of a step");
    job->n_terms = (size_t)reward_terms(&settings->reward, run->step, run->n_steps, terms);
    return exchange_run(run->pipeline->exchange, job);
}

static void add_learner_metrics(struct metric_list *list, const struct learner_stats *stats)
{
    metric_add(list, stats->loss, "loss");
    metric_add(list, stats->learning_rate, "learning_rate");
    metric_add(list, stats->grad_norm, "grad_norm");
    metric_add(list, stats->reward, "reward");
    metric_add(list, stats->reward_std, "reward_std");
    metric_add(list, stats->zero_std_fraction, "frac_reward_zero_std");
    metric_add(list, stats->kl, "kl");
    if (stats->n_computed)
        metric_add(list, stats->entropy, "entropy");
    metric_add(list, stats->clip_low, "clip_ratio/low_mean");
    metric_add(list, stats->clip_high, "clip_ratio/high_mean");
    metric_add(list, stats->clip_low + stats->clip_high, "clip_ratio/region_mean");
    metric_add(list, stats->logp_difference_mean, "sampling/sampling_logp_difference/mean");
    metric_add(list, stats->logp_difference_max, "sampling/sampling_logp_difference/max");
    metric_add(list, stats->ratio_min, "sampling/importance_sampling_ratio/min");
    metric_add(list, stats->ratio_mean, "sampling/importance_sampling_ratio/mean");
    metric_add(list, stats->ratio_max, "sampling/importance_sampling_ratio/max");
    metric_add(list, (double)stats->n_tokens, "num_tokens");
}

static void add_times(struct metric_list *list, const struct exchange_job *job,
                      const struct learner_stats *stats, double publish, double learn)
{
    double sampled = 0;

    for (size_t g = 0; g < job->n_tasks; g++)
        for (uint32_t i = 0; i < job->groups[g].n_samples; i++)
            sampled += job->groups[g].samples[i].n_tokens;
    metric_add(list, publish, "time/publish");
    metric_add(list, job->rollout_seconds, "time/rollout");
    metric_add(list, job->total_seconds - job->rollout_seconds, "time/reward");
    metric_add(list, learn, "time/learn");
    metric_add(list, sampled / fmax(job->rollout_seconds, 1e-3), "tokens_per_second/rollout");
    metric_add(list, (double)stats->n_tokens / fmax(learn, 1e-3), "tokens_per_second/learn");
}

/* One turn of the wheel. */
static int run_step(struct stage_run *run)
{
    double started = clock_seconds();
    struct metric_list metrics = {.n = 0};
    struct exchange_job job;
    struct learner_stats stats;

    arena_rewind(&run->arena);
    TRY(stage_publish_policy(run, stage_weight_version(run, run->step)));       /* -> rollout/ */
    double published = clock_seconds();
    TRY(collect_groups(run, &job));                                             /* <- reward/ */
    double collected = clock_seconds();
    const struct learner_batch batch = {
        .groups = job.groups,
        .n_groups = job.n_tasks,
        .temperature = job.sampling.temperature > 0 ? job.sampling.temperature : 1.0f,
        .seed = stage_seed(run, SEED_BATCHES),
        .step = run->step,
        .max_completion_length = run->stage->settings.rollout.max_completion_length,
        .weight_version = job.sampling.weight_version,
    };
    TRY(learner_step(run->learner, &batch, &stats));                            /* learner/ */
    add_learner_metrics(&metrics, &stats);
    if (run->stage->settings.guard.z_score > 0)
        metric_add(&metrics, (double)stats.n_skipped, "skipped_updates");
    groups_add_metrics(&metrics, job.groups, job.n_tasks);
    metric_add(&metrics, (double)job.n_set_aside, "groups/set_aside");
    add_times(&metrics, &job, &stats, published - started, clock_seconds() - collected);
    metric_add(&metrics, clock_seconds() - started, "step_time");
    return stage_record_step(run, clock_seconds() - started, &metrics, job.groups, job.n_tasks);
}

static int prepare(struct stage_run *run)
{
    const struct stage_settings *settings = &run->stage->settings;
    const struct grpo_config *grpo = &settings->grpo;
    const struct optimizer_config optimizer = stage_optimizer(run);
    char resume_path[FILE_PATH_MAX];

    TRY(stage_load_policy(run, resume_path));
    if (grpo->beta > 0 && (!settings->lora.r || grpo->sync_ref_model))
        TRY(stage_load_reference(run));
    TRY(learner_create(&run->learner, run->pipeline->options.ranks, run->policy, run->reference,
                       grpo, &optimizer,
                       grpo->max_steps * grpo->num_iterations * grpo->steps_per_generation));
    TRY(learner_set_guard(run->learner, &settings->guard));
    if (resume_path[0])
        TRY(learner_load_state(run->learner, resume_path));
    TRY(stage_open_train(run));
    return stage_start_workers(run);
}

int stage_grpo_run(struct stage_run *run)
{
    struct progress progress;
    int status;

    run->n_steps = run->stage->settings.grpo.max_steps;
    TRY(prepare(run));
    TRY(stage_announce(run));
    TRY(stage_catch_up(run));
    progress_begin(&progress, run->stage->name, run->step, run->n_steps);
    for (status = STATUS_OK; status == STATUS_OK && run->step < run->n_steps;) {
        status = stage_is_stopped(run) ? STATUS_INTERRUPTED : run_step(run);
        if (status == STATUS_OK)
            status = stage_end_of_step(run);
        progress_update(&progress, run->step, "reward %.3f", run->last_figure);
    }
    progress_end(&progress);
    return stage_end(run, status);
}
