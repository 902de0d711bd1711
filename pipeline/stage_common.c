/* What every stage begins and ends with: model, workers, records, checkpoints, evaluation. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/status.h"
#include "pipeline/internal.h"

#define VERSION_BITS 20   /* steps below, the stage's index above */

uint64_t stage_seed(const struct stage_run *run, enum seed_use use)
{
    struct digest digest;
    uint64_t name;

    /* By name, not by place: a stage added to the recipe leaves the others as they were. */
    digest_of(&digest, run->stage->name, strlen(run->stage->name));
    memcpy(&name, digest.bytes, sizeof(name));
    return random_mix(random_mix((uint64_t)run->pipeline->recipe.run.seed, name), use);
}

int stage_is_stopped(const struct stage_run *run)
{
    const struct pipeline_options *options = &run->pipeline->options;

    return (options->stop && *options->stop) ||
           (options->until_step && run->step >= options->until_step);
}

uint32_t stage_weight_version(const struct stage_run *run, int64_t step)
{
    return (uint32_t)(run->index + 1) << VERSION_BITS |
           (uint32_t)(step & ((1 << VERSION_BITS) - 1));
}

int stage_open(struct stage_run *run)
{
    const struct stage_settings *settings = &run->stage->settings;
    char directory[FILE_PATH_MAX], name[STAGE_NAME_BYTES + 16];

    run->saved_step = -1;
    arena_init(&run->arena, STEP_ARENA_BYTES);
    TRY(chat_template_init(&run->chat, settings->tasks.template_name));
    snprintf(name, sizeof(name), "tensorboard/%s", run->stage->name);
    TRY(file_join(directory, run->pipeline->options.run, name));
    return tensorboard_open(&run->board, directory);
}

void stage_close(struct stage_run *run)
{
    checkpoint_end(&run->save);
    learner_destroy(&run->learner);
    model_destroy(&run->policy);
    model_destroy(&run->reference);
    tokenizer_destroy(&run->tokenizer);
    model_notes_release(&run->notes);
    task_set_close(&run->train);
    task_set_close(&run->heldout);
    chat_template_release(&run->chat);
    tensorboard_close(&run->board);
    arena_release(&run->arena);
}

static struct model_options policy_options(const struct stage_run *run)
{
    const struct stage_settings *settings = &run->stage->settings;

    return learner_model_options(&settings->optimizer, &settings->lora,
                                 stage_seed(run, SEED_ADAPTERS));
}

static int new_model(struct stage_run *run)
{
    const struct model_config *config = &run->stage->settings.model;
    const struct model_options options = policy_options(run);
    const struct model_shape shape = {
        .family = (enum model_family)config->model_type,
        .n_layers = (int)config->num_hidden_layers,
        .n_heads = (int)config->num_attention_heads,
        .n_kv_heads = (int)config->num_key_value_heads,
        .head_dim = (int)(config->head_dim ? config->head_dim
                                           : config->hidden_size / config->num_attention_heads),
        .channels = (int)config->hidden_size,
        .hidden_channels = (int)config->intermediate_size,
        .max_positions = (int)config->max_position_embeddings,
        .qkv_bias = config->model_type == MODEL_QWEN2,
        .qk_norm = config->model_type == MODEL_QWEN3,
        .tied_head = config->tie_word_embeddings,
        .rope_base = config->rope_theta,
        .norm_eps = config->rms_norm_eps,
        .vocab_size = 0,
    };

    if (options.lora.rank)
        return status_fail(STATUS_CONFIG, "stage \"%s\" makes a new model, all of which must be "
                           "trained: set its lora.r to 0, or give it a `from`", run->stage->name);
    if (!config->tokenizer[0])
        return status_fail(STATUS_CONFIG, "stage \"%s\" makes a new model and needs "
                           "model.tokenizer, a folder with tokenizer.json", run->stage->name);
    TRY(tokenizer_load(&run->tokenizer, config->tokenizer));
    struct model_shape full = shape;
    full.vocab_size = tokenizer_vocab_size(run->tokenizer);
    return model_create(&run->policy, run->pipeline->ops, &full, &options,
                        stage_seed(run, SEED_MODEL));
}

static int has_token(const void *tokenizer, const char *token)
{
    return tokenizer_find(tokenizer, token) >= 0;
}

void stage_bind_template(struct stage_run *run)
{
    int32_t eos = tokenizer_eos(run->tokenizer);
    struct text text = {0};

    if (eos >= 0)
        tokenizer_decode(run->tokenizer, &eos, 1, 0, &text);
    chat_template_bind(&run->chat, has_token, run->tokenizer, text.data ? text.data : "");
    text_release(&text);
}

/* A completion ends where the model's folder says, at the end of text, and at the end of a turn. */
static int add_stops(const struct stage_run *run, struct model_notes *notes)
{
    const char *turn_end = run->chat.turn_end;
    const int32_t ids[] = {tokenizer_eos(run->tokenizer),
                           turn_end[0] ? tokenizer_find(run->tokenizer, turn_end) : -1};

    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++)
        TRY(model_notes_add_stop(notes, ids[i]));
    return STATUS_OK;
}

static int open_heldout(struct stage_run *run)
{
    const struct stage_settings *settings = &run->stage->settings;

    stage_bind_template(run);
    TRY(add_stops(run, &run->notes));
    /* All kinds, whatever tasks.kinds says: stages are compared on the same tasks. */
    if (settings->eval.n_tasks > 0 && settings->tasks.heldout[0])
        return task_set_open(&run->heldout, settings->tasks.heldout, "", &run->chat,
                             &settings->tasks);
    return STATUS_OK;
}

static int load_policy(struct stage_run *run, char resume_path[FILE_PATH_MAX])
{
    const struct model_options options = policy_options(run);
    char path[FILE_PATH_MAX];

    TRY(stage_find_own(run, resume_path));
    if (run->stage->from[0])
        TRY(stage_find_other(run, run->stage->from, path, &run->parent_checkpoint));
    TRY(run_store_rewind_stage(run->pipeline->store, run->id, run->step + 1));
    /* Adapters stand on what the stage began with, and come back with the learner's state. */
    if (resume_path[0] && !options.lora.rank)
        snprintf(path, sizeof(path), "%s", resume_path);
    else if (!run->stage->from[0])
        return new_model(run);
    TRY(model_load(&run->policy, run->pipeline->ops, path, &options));
    TRY(model_notes_read(&run->notes, path));
    return tokenizer_load(&run->tokenizer, path);
}

int stage_load_policy(struct stage_run *run, char resume_path[FILE_PATH_MAX])
{
    TRY(load_policy(run, resume_path));
    return open_heldout(run);
}

int stage_load_reference(struct stage_run *run)
{
    char path[FILE_PATH_MAX];
    int64_t row;

    TRY(stage_find_other(run, run->stage->from, path, &row));
    const struct model_options options = {.bf16 = run->stage->settings.optimizer.bf16};
    return model_load(&run->reference, run->pipeline->ops, path, &options);
}

struct prompt_limit {
    const struct tokenizer *tokenizer;
    struct token_list tokens;
    size_t longest;
};

static int prompt_fits(const struct task *task, void *context)
{
    struct prompt_limit *limit = context;

    limit->tokens.n = 0;
    return tokenizer_encode(limit->tokenizer, task->prompt.data, task->prompt.bytes,
                            &limit->tokens) == STATUS_OK &&
           limit->tokens.n > 0 && limit->tokens.n <= limit->longest;
}

int stage_keep_short_prompts(const struct stage_run *run, struct task_set *set, const char *path)
{
    struct prompt_limit limit = {
        .tokenizer = run->tokenizer,
        .longest = (size_t)run->stage->settings.rollout.max_prompt_length,
    };
    size_t n_dropped = task_set_keep(set, prompt_fits, &limit);

    token_list_release(&limit.tokens);
    if (n_dropped)
        log_warning("%s: %zu tasks of %s are left out: their prompts are longer than "
                    "rollout.max_prompt_length %zu tokens", run->stage->name, n_dropped, path,
                    limit.longest);
    if (!task_set_count(set))
        return status_fail(STATUS_CONFIG, "%s has no task that fits: see tasks.kinds and "
                           "rollout.max_prompt_length %zu", path, limit.longest);
    return STATUS_OK;
}

int stage_open_train(struct stage_run *run)
{
    const struct tasks_config *tasks = &run->stage->settings.tasks;

    TRY(task_set_open(&run->train, tasks->train, tasks->kinds, &run->chat, tasks));
    return stage_keep_short_prompts(run, run->train, tasks->train);
}

int stage_announce(struct stage_run *run)
{
    const struct stage *stage = run->stage;

    if (run->parent_checkpoint)
        TRY(run_store_put_parent(run->pipeline->store, "stage", run->id, "checkpoint",
                                 run->parent_checkpoint));
    if (run->dataset)
        TRY(run_store_put_parent(run->pipeline->store, "stage", run->id, "dataset", run->dataset));
    TRY(run_store_set_total(run->pipeline->store, run->id, run->n_steps));
    log_info("stage %s: %s%s%s, %lld parameters, step %lld of %lld", stage->name, stage->kind->help,
             stage->from[0] ? ", from " : "", stage->from,
             (long long)model_shape_parameters(model_shape(run->policy)), (long long)run->step,
             (long long)run->n_steps);
    return STATUS_OK;
}

static void log_step(const struct stage_run *run, const struct metric_list *metrics, int64_t step)
{
    double reward = metric_get(metrics, "reward"), entropy = metric_get(metrics, "entropy");
    char shown[32] = "-";   /* of a step whose groups all agree, which teaches nothing */

    if (!isnan(entropy))
        snprintf(shown, sizeof(shown), "%.3f", entropy);
    if (isnan(reward))
        log_info("%s step=%lld loss=%.4f grad_norm=%.3f lr=%.2e", run->stage->name, (long long)step,
                 metric_get(metrics, "loss"), metric_get(metrics, "grad_norm"),
                 metric_get(metrics, "learning_rate"));
    else
        log_info("%s step=%lld reward=%.3f zero_std=%.2f length=%.1f entropy=%s grad_norm=%.3f "
                 "time=%.2fs", run->stage->name, (long long)step, reward,
                 metric_get(metrics, "frac_reward_zero_std"),
                 metric_get(metrics, "completions/mean_length"), shown,
                 metric_get(metrics, "grad_norm"), metric_get(metrics, "step_time"));
}

/* A long stage shows about twenty lines, at multiples of logging_steps. */
static int64_t log_every(const struct stage_run *run)
{
    int64_t every = run->pipeline->recipe.run.logging_steps, share = run->n_steps / 20;

    return share > every ? share - share % every : every;
}

int stage_record_step(struct stage_run *run, double wall_seconds, struct metric_list *metrics,
                      const struct sample_group *groups, size_t n_groups)
{
    const struct run_config *config = &run->pipeline->recipe.run;
    double reward = metric_get(metrics, "reward");
    int64_t step = run->step + 1;
    int n_ranks = ranks_count(run->pipeline->options.ranks);

    pulse("stores a step");
    if (n_ranks > 1)
        metric_add(metrics, n_ranks, "ranks");   /* other numbers give other bytes */
    run->last_figure = isnan(reward) ? metric_get(metrics, "loss") : reward;
    if (step % log_every(run) == 0 || step == 1 || step == run->n_steps)
        log_step(run, metrics, step);
    TRY(tensorboard_put(run->board, step, metrics->values, metrics->n));
    return run_store_put_step(run->pipeline->store, run->id, step, wall_seconds, metrics->values,
                              metrics->n, "train", groups, config->sample_texts ? n_groups : 0);
}

static int evaluate_policy(struct stage_run *run)
{
    struct metric_list metrics = {.n = 0};
    struct sample_group *groups;
    size_t n_groups;
    double started = clock_seconds();
    uint32_t version = stage_weight_version(run, run->step);

    arena_rewind(&run->arena);
    if (!run->heldout_is_checked)
        TRY(stage_keep_short_prompts(run, run->heldout, run->stage->settings.tasks.heldout));
    run->heldout_is_checked = 1;
    TRY(stage_start_workers(run));
    TRY(stage_publish_policy(run, version));
    TRY(evaluate(run, version, &metrics, &groups, &n_groups));
    log_info("%s step=%lld held-out pass@1=%.3f format=%.3f language=%.3f length=%.1f",
             run->stage->name, (long long)run->step, metric_get(&metrics, "eval/pass@1"),
             metric_get(&metrics, "eval/format"), metric_get(&metrics, "eval/language"),
             metric_get(&metrics, "eval/mean_length"));
    TRY(tensorboard_put(run->board, run->step, metrics.values, metrics.n));
    return run_store_put_step(run->pipeline->store, run->id, run->step, clock_seconds() - started,
                              metrics.values, metrics.n, "eval", groups, n_groups);
}

static int evaluation_is_due(const struct stage_run *run)
{
    int64_t eval_steps = run->stage->settings.eval.eval_steps;

    return run->heldout && run->step > 0 &&
           (run->step >= run->n_steps || (eval_steps && run->step % eval_steps == 0));
}

int stage_end_of_step(struct stage_run *run)
{
    run->step++;
    TRY(stage_poll_checkpoint(run));
    if (run->step == run->n_steps || run->step % run->pipeline->recipe.run.save_steps == 0)
        TRY(stage_begin_checkpoint(run));
    if (!evaluation_is_due(run))
        return STATUS_OK;
    /* Whoever stops here loses the evaluation alone. */
    TRY(stage_end_checkpoint(run));
    return evaluate_policy(run);
}

int stage_catch_up(struct stage_run *run)
{
    int is_there = 0;

    if (!evaluation_is_due(run))
        return STATUS_OK;
    TRY(run_store_has_groups(run->pipeline->store, run->id, run->step, "eval", &is_there));
    return is_there ? STATUS_OK : evaluate_policy(run);
}

int stage_start_workers(struct stage_run *run)
{
    const struct stage_settings *settings = &run->stage->settings;
    struct pipeline *pipeline = run->pipeline;
    struct digest_state *hash = digest_begin();
    char hex[DIGEST_HEX_BYTES];
    struct digest digest;

    /* Workers that would be told other settings are replaced; those of the same go on. Which
     * functions count, and how much, comes with each group. */
    digest_add(hash, settings->reward.plugins, strlen(settings->reward.plugins) + 1);
    digest_add(hash, settings->reward.commands, strlen(settings->reward.commands) + 1);
    digest_add(hash, settings->reward.options, strlen(settings->reward.options) + 1);
    digest_add(hash, &settings->sandbox, sizeof(settings->sandbox));
    const int64_t caps[] = {settings->rollout.threads, settings->rollout.max_sequences,
                            settings->rollout.max_prompt_length,
                            settings->rollout.max_completion_length, settings->rollout.device,
                            settings->rollout.cuda_graphs,
                            settings->reward.verifier_timeout_ms};
    digest_add(hash, caps, sizeof(caps));
    digest_end(hash, &digest);
    digest_hex(&digest, hex);
    return exchange_set_workers(pipeline->exchange, run->stage->name, hex,
                                (int)settings->rollout.workers, (int)settings->reward.workers);
}

static int announce_model(struct stage_run *run, const struct text *config,
                          struct model_notes *notes)
{
    const char *tokenizer;
    size_t n_tokenizer;

    tokenizer_json(run->tokenizer, &tokenizer, &n_tokenizer);
    const struct wire_model model = {{config->data, (uint32_t)config->length},
                                     {tokenizer, (uint32_t)n_tokenizer},
                                     (uint32_t)notes->n_stops, notes->stop_ids};
    return exchange_set_model(run->pipeline->exchange, &model);
}

/* Whether workers of this run can be on the learner's card. */
static int shares_weights(const struct stage_run *run)
{
    const struct rollout_config *rollout = &run->stage->settings.rollout;
    const struct pipeline *pipeline = run->pipeline;

    if (rollout->weights == ROLLOUT_WEIGHTS_IPC)
        return 1;
    return rollout->weights == ROLLOUT_WEIGHTS_AUTO && rollout->workers > 0 &&
           rollout->device == (int)pipeline->recipe.run.device && ops_place(pipeline->ops)[0] &&
           !pipeline->share.has_failed;
}

/* Through device memory, else as an image. */
static int publish_weights(struct stage_run *run, const struct model *model, uint32_t version)
{
    int is_forced = run->stage->settings.rollout.weights == ROLLOUT_WEIGHTS_IPC;
    struct pipeline *pipeline = run->pipeline;
    struct file_map image;

    if (shares_weights(run)) {
        int status = weight_share_publish(&pipeline->share, pipeline->exchange, model, version,
                                          is_forced);
        if (is_forced && status == STATUS_UNSUPPORTED)
            return status_context(status, "rollout.weights is \"ipc\"; use \"auto\"");
        if (is_forced || (status != STATUS_NOMEM && status != STATUS_UNSUPPORTED))
            return status;
        log_warning("weights travel as files: %s", status_reason());
        exchange_forget(pipeline->exchange);
        weight_share_release(&pipeline->share);
        pipeline->share.has_failed = 1;
    }
    TRY(model_map_weights(model, &image));
    int status = exchange_publish(pipeline->exchange, version, &image);
    file_map_close(&image);
    return status;
}

int stage_publish_policy(struct stage_run *run, uint32_t version)
{
    struct text config = {0};

    pulse("publishes the policy");
    model_shape_print(model_shape(run->policy), -1, tokenizer_eos(run->tokenizer), &config);
    int status = announce_model(run, &config, &run->notes);
    if (status == STATUS_OK)
        status = publish_weights(run, run->policy, version);
    text_release(&config);
    return status;
}

int stage_publish_checkpoint(struct stage_run *run, const char *directory, uint32_t version)
{
    struct model *model = NULL;
    struct model_notes notes;
    int status;

    TRY(model_notes_read(&notes, directory));
    TRY_OUT(add_stops(run, &notes));
    /* As its stage saw it: masters are rounded, shards and halves become one image. */
    const struct model_options options = {.bf16 = notes.is_bf16};
    TRY_OUT(model_load(&model, run->pipeline->ops, directory, &options));
    TRY_OUT(announce_model(run, &notes.config, &notes));
    TRY_OUT(publish_weights(run, model, version));
out:
    model_destroy(&model);
    model_notes_release(&notes);
    return status;
}
