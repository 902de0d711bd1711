/* Model sizes, memory and tokens of a recipe's stages, before anything runs. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/json.h"
#include "common/status.h"
#include "pipeline/internal.h"
#include "pipeline/locate.h"
#include "pipeline/plan.h"

#define TEXT_SAMPLE_BYTES ((size_t)256 << 10)
#define BYTES_PER_TOKEN 4.0   /* where no tokenizer is at hand */
#define SAMPLE_BYTES 512.0    /* of a sample beside its tokens */
#define TOKEN_BYTES 20.0      /* of a sampled token: id, log-probability, version, text twice */
#define REWARD_BYTES (64.0 * (1 << 20))
#define BUCKET_BYTES (16.0 * (1 << 20))   /* of gradients, and an eighth of them at most */
#define BUCKETS_UNDER_WAY 4

const char *const plan_part_names[N_PARTS] = {
    "weights", "gradients", "moments", "activations", "reference",
    "KV cache", "in transit", "samples", "buckets"};
const char *const plan_part_keys[N_PARTS] = {
    "weights", "gradients", "moments", "activations", "reference",
    "kv_cache", "in_transit", "samples", "buckets"};

/* ---- The shape: of the model section, of a folder, or of the parent. */

static int read_shape(struct model_shape *shape, const char *directory)
{
    struct text json = {0};
    char path[FILE_PATH_MAX];

    TRY(file_join(path, directory, "config.json"));
    int status = file_read(path, (size_t)1 << 20, &json);
    if (status == STATUS_OK)
        status = model_shape_parse(shape, json.data ? json.data : "", json.length, path);
    text_release(&json);
    return status;
}

static int shape_of_section(struct model_shape *shape, const struct model_config *config)
{
    struct tokenizer *tokenizer;

    if (!config->tokenizer[0])
        return status_fail(STATUS_CONFIG, "model.tokenizer names no folder");
    TRY(tokenizer_load(&tokenizer, config->tokenizer));
    *shape = (struct model_shape){
        .family = (enum model_family)config->model_type,
        .n_layers = (int)config->num_hidden_layers,
        .n_heads = (int)config->num_attention_heads,
        .n_kv_heads = (int)config->num_key_value_heads,
        .head_dim = (int)(config->head_dim ? config->head_dim
                                           : config->hidden_size / config->num_attention_heads),
        .channels = (int)config->hidden_size,
        .hidden_channels = (int)config->intermediate_size,
        .vocab_size = tokenizer_vocab_size(tokenizer),
        .max_positions = (int)config->max_position_embeddings,
        .qkv_bias = config->model_type == MODEL_QWEN2,
        .qk_norm = config->model_type == MODEL_QWEN3,
        .tied_head = config->tie_word_embeddings,
        .rope_base = config->rope_theta,
        .norm_eps = config->rms_norm_eps,
    };
    tokenizer_destroy(&tokenizer);
    return STATUS_OK;
}

static void find_shape(const struct recipe *recipe, size_t i, const char *run,
                       struct stage_plan *plans)
{
    const struct stage *stage = &recipe->stages[i];
    struct stage_plan *plan = &plans[i];
    char checkpoint[FILE_PATH_MAX];
    int64_t step;

    if (run && locate_checkpoint(run, stage->name, checkpoint, &step) == STATUS_OK) {
        plan->has_shape = read_shape(&plan->shape, checkpoint) == STATUS_OK;
    } else if (!stage->from[0]) {
        plan->has_shape = shape_of_section(&plan->shape, &stage->settings.model) == STATUS_OK;
    } else if (strchr(stage->from, '/')) {
        plan->has_shape = read_shape(&plan->shape, stage->from) == STATUS_OK;
    } else {
        const struct stage_plan *parent = &plans[recipe_find(recipe, stage->from) - recipe->stages];
        plan->has_shape = parent->has_shape;
        plan->shape = parent->shape;
        if (!plan->has_shape)
            status_fail(STATUS_FAILED, "until stage %s ran", stage->from);
    }
    if (plan->has_shape)
        plan->parameters = model_shape_parameters(&plan->shape);
    else
        snprintf(plan->why_unknown, sizeof(plan->why_unknown), "%s", status_reason());
}

/* ---- Memory. */

static int clamp_tokens(int64_t n)
{
    return (int)(n < 1 ? 1 : n > 1 << 24 ? 1 << 24 : n);
}

static double longest_sequence(const struct stage *stage)
{
    const struct stage_settings *settings = &stage->settings;

    if (stage->kind->flags & STAGE_IS_RL)
        return (double)(settings->rollout.max_prompt_length +
                        settings->rollout.max_completion_length);
    return (double)settings->sft.max_length;
}

double plan_machine_bytes(void)
{
    return (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGE_SIZE);
}

static void add_up(struct plan_memory *memory)
{
    memory->total = 0;
    for (int i = 0; i < N_PARTS; i++)
        memory->total += memory->parts[i];
}

/* Tokens of the largest micro-batch: no more than a step has, and one sequence at least. */
static int micro_batch_tokens(const struct stage *stage)
{
    const struct stage_settings *settings = &stage->settings;
    double longest = longest_sequence(stage), step = (double)settings->sft.batch_tokens;

    if (stage->kind->flags & STAGE_IS_RL)   /* a group's prompt counts once */
        step = (double)settings->grpo.tasks_per_step *
               (double)(settings->rollout.max_prompt_length +
                        settings->rollout.num_generations *
                            settings->rollout.max_completion_length);
    return clamp_tokens(
        (int64_t)fmax(longest, fmin(step, (double)settings->optimizer.micro_batch_tokens)));
}

/* What waits in queues, or the two copies that workers on the card read. */
static double size_transit(const struct stage *stage, const struct stage_plan *plan,
                           const struct model_options *options)
{
    const struct rollout_config *rollout = &stage->settings.rollout;
    const struct model_options frozen = {.bf16 = options->bf16};
    int is_on_card = strncmp(rollout_devices[rollout->device], "cuda", 4) == 0;
    struct model_bytes bytes;

    if (rollout->weights == ROLLOUT_WEIGHTS_FILES || !is_on_card)
        return (double)WIRE_WEIGHTS_WINDOW;
    model_size(&plan->shape, &frozen, &bytes);
    return 2 * (double)bytes.weights;
}

/* Each rank has its share of the moments; weights and gradients are whole on all. */
static void size_rank(const struct stage *stage, const struct stage_plan *plan, double *parts)
{
    double gradients = parts[PART_GRADIENTS];

    if (plan->n_ranks <= 1)
        return;
    parts[PART_MOMENTS] /= plan->n_ranks;
    if (!plan->learns_on_card)
        parts[PART_BUCKETS] = BUCKETS_UNDER_WAY * fmin(BUCKET_BYTES, gradients / 8);
    else if (stage->settings.optimizer.bf16_gradients)
        parts[PART_BUCKETS] = gradients / 2;   /* NCCL sums in place but for these */
}

static void size_learner(const struct stage *stage, struct stage_plan *plan)
{
    const struct stage_settings *settings = &stage->settings;
    const struct model_options options =
        learner_model_options(&settings->optimizer, &settings->lora, 0);
    struct optimizer_config optimizer = settings->optimizer;
    double *parts = plan->learner.parts;
    int is_rl = (stage->kind->flags & STAGE_IS_RL) != 0;
    struct learner_bytes bytes;

    optimizer.micro_batch_tokens = micro_batch_tokens(stage);
    learner_size(&plan->shape, &options, &optimizer,
                 is_rl && settings->grpo.beta > 0 &&
                     (!settings->lora.r || settings->grpo.sync_ref_model),
                 &bytes);
    parts[PART_WEIGHTS] = (double)bytes.weights;
    parts[PART_GRADIENTS] = (double)bytes.gradients;
    parts[PART_MOMENTS] = (double)bytes.moments;
    parts[PART_ACTIVATIONS] = (double)bytes.activations;
    parts[PART_REFERENCE] = (double)bytes.reference;
    size_rank(stage, plan, parts);
    if (plan->n_rollout)
        parts[PART_TRANSIT] = size_transit(stage, plan, &options);
    if (is_rl)
        parts[PART_GROUPS] = (double)(settings->grpo.tasks_per_step *
                                      settings->rollout.num_generations) *
                             ((double)settings->rollout.max_completion_length * TOKEN_BYTES +
                              SAMPLE_BYTES);
    add_up(&plan->learner);
}

/* The memory of a card is not known here. */
int64_t plan_cache_tokens(const struct stage *stage, const struct stage_plan *plan)
{
    const struct rollout_config *rollout = &stage->settings.rollout;
    const struct rollout_limits limits = rollout_limits_of(rollout);
    int is_on_card = strncmp(rollout_devices[rollout->device], "cuda", 4) == 0;

    return rollout_cache_tokens(&limits, &plan->shape,
                                is_on_card ? INFINITY : plan_machine_bytes());
}

static void size_rollout(const struct stage *stage, struct stage_plan *plan)
{
    const struct rollout_config *rollout = &stage->settings.rollout;
    const struct model_options options = {.bf16 = stage->settings.optimizer.bf16};
    double *parts = plan->rollout.parts;
    int64_t n_cached = plan_cache_tokens(stage, plan);
    struct model_bytes bytes;

    model_size(&plan->shape, &options, &bytes);
    parts[PART_WEIGHTS] = (double)bytes.weights;
    parts[PART_TRANSIT] = (double)WIRE_WEIGHTS_WINDOW;
    parts[PART_CACHE] =
        (double)(n_cached / MODEL_PAGE) * (double)model_cache_page_bytes(&plan->shape);
    int64_t n_tokens = rollout->max_num_batched_tokens > rollout->max_sequences
                           ? rollout->max_num_batched_tokens : rollout->max_sequences;
    parts[PART_ACTIVATIONS] =
        (double)model_tape_bytes(&plan->shape, 0, clamp_tokens(n_tokens),
                                 clamp_tokens(rollout->max_sequences), TAPE_KEEP_NOTHING);
    add_up(&plan->rollout);
}

void plan_size_memory(const struct stage *stage, struct stage_plan *plan)
{
    const struct stage_settings *settings = &stage->settings;
    int evaluates = settings->eval.n_tasks > 0 && settings->tasks.heldout[0];

    if ((stage->kind->flags & STAGE_IS_RL) || stage->sample[0] || evaluates) {
        plan->n_rollout = (int)settings->rollout.workers;
        plan->n_reward = (int)settings->reward.workers;
        plan->reward_bytes = REWARD_BYTES + (double)settings->sandbox.memory_bytes;
    }
    memset(&plan->learner, 0, sizeof(plan->learner));
    memset(&plan->rollout, 0, sizeof(plan->rollout));
    if (!plan->has_shape)
        return;
    size_learner(stage, plan);
    if (plan->n_rollout)
        size_rollout(stage, plan);
    plan->total_bytes = plan->n_ranks * plan->learner.total +
                        plan->n_rollout * plan->rollout.total +
                        plan->n_reward * plan->reward_bytes;
}

/* ---- Tokens. */

/* Tokens of the "text" of whole lines in bytes[0..n), and the bytes of those lines. */
static int count_sample(const struct tokenizer *tokenizer, const char *bytes, size_t n,
                        double *n_tokens, double *n_bytes)
{
    struct token_list tokens = {0};
    size_t n_documents = 0;
    int status = STATUS_OK;

    for (size_t at = 0; at < n && status == STATUS_OK;) {
        const char *newline = memchr(bytes + at, '\n', n - at), *text;
        size_t length = newline ? (size_t)(newline - bytes) - at : n - at;
        json_t *row = NULL;
        if (!newline)
            break;
        status = json_parse(&row, bytes + at, length, "text");
        if (status == STATUS_OK)
            status = json_get_text(row, "text", "text", &text);
        if (status == STATUS_OK)
            status = tokenizer_encode(tokenizer, text, strlen(text), &tokens);
        json_decref(row);
        at += length + 1;
        n_documents++;
        *n_bytes = (double)at;
        *n_tokens = (double)(tokens.n + n_documents);   /* each ends with a token of its own */
    }
    token_list_release(&tokens);
    return *n_tokens > 0 ? status : status_fail(STATUS_FAILED, "nothing to count");
}

/* Bytes of the text file that make one token, measured on its beginning if that can be. */
static double bytes_per_token(const struct stage_settings *settings)
{
    struct tokenizer *tokenizer;
    struct file_map map;
    double n_tokens = 0, n_bytes = 0;

    if (!settings->model.tokenizer[0] ||
        tokenizer_load(&tokenizer, settings->model.tokenizer) < 0)
        return BYTES_PER_TOKEN;
    int status = file_map_open(&map, settings->tasks.text);
    if (status == STATUS_OK) {
        status = count_sample(tokenizer, (const char *)map.bytes,
                              map.n < TEXT_SAMPLE_BYTES ? map.n : TEXT_SAMPLE_BYTES, &n_tokens,
                              &n_bytes);
        file_map_close(&map);
    }
    tokenizer_destroy(&tokenizer);
    return status == STATUS_OK ? n_bytes / n_tokens : BYTES_PER_TOKEN;
}

static void count_text(const struct stage *stage, struct stage_plan *plan)
{
    const struct sft_config *sft = &stage->settings.sft;
    struct stat file;

    plan->trained_tokens = -1;
    if (sft->max_steps)
        plan->trained_tokens = (double)(sft->max_steps * sft->batch_tokens);
    else if (stat(stage->settings.tasks.text, &file) == 0)
        plan->trained_tokens = sft->num_train_epochs * (double)file.st_size /
                               bytes_per_token(&stage->settings);
    if (plan->trained_tokens >= 0)
        plan->n_steps = ceil(plan->trained_tokens / (double)sft->batch_tokens);
}

/* Rows are an upper bound: every sample passes the filters. */
static void count_data(const struct recipe *recipe, const struct stage *stage,
                       struct stage_plan *plan, const struct stage_plan *plans)
{
    const struct stage_settings *settings = &stage->settings;
    const struct sft_config *sft = &settings->sft;
    double G = (double)settings->rollout.num_generations;

    if (stage->sample[0]) {
        plan->n_samples = (double)settings->data.n_tasks * G;
        plan->sampled_tokens = plan->n_samples * (double)settings->rollout.max_completion_length;
        plan->n_rows = (double)settings->data.n_tasks *
                       fmin(G, (double)settings->data.max_per_task) /
                       (1 - settings->data.general_share);
    } else if (stage->data[0]) {
        plan->n_rows = plans[recipe_find(recipe, stage->data) - recipe->stages].n_rows;
    }
    double row = fmin((double)sft->max_length,
                      (double)(settings->rollout.max_prompt_length +
                               settings->rollout.max_completion_length));
    plan->trained_tokens = sft->max_steps ? (double)(sft->max_steps * sft->batch_tokens)
                                          : sft->num_train_epochs * plan->n_rows * row;
    plan->n_steps = ceil(plan->trained_tokens / (double)sft->batch_tokens);
}

static void count_rl(const struct stage *stage, struct stage_plan *plan)
{
    const struct stage_settings *settings = &stage->settings;
    const struct grpo_config *grpo = &settings->grpo;

    plan->n_steps = (double)grpo->max_steps;
    plan->n_samples = (double)(grpo->max_steps * grpo->tasks_per_step) *
                      (double)settings->rollout.num_generations;
    plan->sampled_tokens = plan->n_samples * (double)settings->rollout.max_completion_length;
    plan->trained_tokens = plan->sampled_tokens * (double)grpo->num_iterations;
}

static void count_eval(const struct stage *stage, struct stage_plan *plan)
{
    const struct eval_config *eval = &stage->settings.eval;
    double n_times = 1;

    if (!stage->settings.tasks.heldout[0])
        return;
    if (eval->eval_steps)
        n_times = fmax(1, ceil(plan->n_steps / (double)eval->eval_steps));
    plan->eval_tokens = n_times * (double)(eval->n_tasks * eval->num_generations) *
                        (double)stage->settings.rollout.max_completion_length;
}

struct stage_plan *plan_sizes(const struct recipe *recipe, const char *run, int n_ranks)
{
    struct stage_plan *plans = mem_alloc(recipe->n_stages, sizeof(*plans));

    for (size_t i = 0; i < recipe->n_stages; i++) {
        const struct stage *stage = &recipe->stages[i];
        plans[i].n_ranks = n_ranks > 1 ? n_ranks : 1;
        plans[i].learns_on_card = strncmp(rollout_devices[recipe->run.device], "cuda", 4) == 0;
        find_shape(recipe, i, run, plans);
        plan_size_memory(stage, &plans[i]);
        if (stage->kind->flags & STAGE_IS_RL)
            count_rl(stage, &plans[i]);
        else if (stage->kind->flags & STAGE_NEEDS_TEXT)
            count_text(stage, &plans[i]);
        else
            count_data(recipe, stage, &plans[i], plans);
        count_eval(stage, &plans[i]);
    }
    return plans;
}
