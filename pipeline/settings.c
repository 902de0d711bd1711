/* The tables of the sections that belong to the pipeline: run, model, data, eval. */
#include <stddef.h>
#include <string.h>

#include "common/status.h"
#include "pipeline/recipe.h"
#include "pipeline/run_store.h"

#define RUN(key, type, text, low, high, choices, help)                                             \
    {#key, type, offsetof(struct run_config, key), text, low, high, choices, help}
static const struct config_field run_fields[] = {
    RUN(name, CONFIG_STRING, "run", 0, 0, NULL, "name of the run, for reports"),
    RUN(seed, CONFIG_INT, "1", 0, 9e15, NULL, "seed of everything random; same seed, same bytes"),
    RUN(endpoint, CONFIG_STRING, "", 0, 0, NULL,
        "where workers connect, ipc:///path or tcp://host:port; empty: a socket in the run "
        "directory"),
    RUN(keys, CONFIG_STRING, "", 0, 0, NULL,
        "directory of the keys for tcp:// endpoints, made when it is missing; empty: \"keys\" in "
        "the run directory"),
    RUN(insecure, CONFIG_BOOL, "false", 0, 0, NULL,
        "a tcp:// endpoint without keys: whoever reaches it can read and write the run"),
    RUN(device, CONFIG_ENUM, "cpu", 0, 0, rollout_devices, "device of the learner"),
    RUN(threads, CONFIG_INT, "0", 0, 1024, NULL,
        "threads of the learner; 0: one per core. Never changes a result"),
    RUN(save_steps, CONFIG_INT, "20", 1, 100000000, NULL, "steps between checkpoints"),
    RUN(save_total_limit, CONFIG_INT, "2", 1, 1000000, NULL,
        "checkpoints kept per stage; older ones are removed, unless the next two keep them"),
    RUN(keep_every_steps, CONFIG_INT, "0", 0, 100000000, NULL,
        "checkpoints of steps that are a multiple of it stay as well; 0: none"),
    RUN(metric_for_best_model, CONFIG_STRING, "", 0, 0, NULL,
        "the checkpoint with the best value of this metric at its step stays as well: eval/pass@1, "
        "reward, loss; empty: none"),
    RUN(greater_is_better, CONFIG_BOOL, "true", 0, 0, NULL,
        "whether the best value of metric_for_best_model is the largest"),
    RUN(logging_steps, CONFIG_INT, "10", 1, 1000000, NULL,
        "steps between log lines; a long stage takes a larger multiple"),
    RUN(lease_ms, CONFIG_INT, "600000", 100, 86400000, NULL,
        "milliseconds after which a group that has not come back is given to another worker"),
    RUN(connect_ms, CONFIG_INT, "60000", 100, 86400000, NULL,
        "milliseconds within which a started worker must have said hello"),
    RUN(silent_ms, CONFIG_INT, "300000", 1000, 86400000, NULL,
        "milliseconds of silence after which a worker's groups are given to others; workers speak "
        "every second, but not while they compute one batch"),
    RUN(stuck_ms, CONFIG_INT, "3600000", 1000, 86400000, NULL,
        "milliseconds without any group coming back, or without a step forward of what a process "
        "computes, after which it ends with a report, stuck.txt, and exit code 8"),
    RUN(max_lease_tries, CONFIG_INT, "3", 1, 1000, NULL,
        "times that a group may fail or kill its worker: then it is set aside, its samples masked, "
        "and the step goes on without it"),
    RUN(rank_timeout_ms, CONFIG_INT, "300000", 100, 86400000, NULL,
        "milliseconds that a rank of several waits for what another one is to send, before it "
        "names that one and ends the run; longer than one rank's share of a step"),
    RUN(rank_transport, CONFIG_ENUM, "auto", 0, 0, ranks_transports,
        "how learner ranks reach each other; auto: MPI when mpirun or srun brings one, else "
        "ZeroMQ. Ranks that cannot read the recipe take this and the next from --set"),
    RUN(rank_endpoint, CONFIG_STRING, "", 0, 0, NULL,
        "where rank 0 listens for the others over ZeroMQ, tcp://host:port or ipc:///path; empty: "
        "MASTER_ADDR and MASTER_PORT of the environment, else a socket in the run directory"),
    RUN(sample_texts, CONFIG_BOOL, "true", 0, 0, NULL,
        "keep every training sample (text, tokens, scores) in run.db"),
    {0},
};
static int check_run(const void *config)
{
    const struct run_config *run = config;
    const struct metric_row *metric = metric_find(run->metric_for_best_model);

    if (run->metric_for_best_model[0] && !metric)
        return status_fail(STATUS_CONFIG, "run.metric_for_best_model is \"%s\", which is no "
                           "metric; `hone docs metrics` has them", run->metric_for_best_model);
    if (metric && metric_is_timed(metric))
        return status_fail(STATUS_CONFIG, "run.metric_for_best_model is \"%s\", which a clock "
                           "measures: another run would keep another checkpoint",
                           run->metric_for_best_model);
    return STATUS_OK;
}

const struct config_section run_config_section = {
    "run", "the run as a whole: identity, processes, checkpoints", run_fields, check_run};

/* The order is that of enum model_family. */
static const char *const model_types[] = {"llama", "qwen2", "qwen3", "mistral", NULL};

#define MODEL(key, type, text, low, high, choices, help)                                           \
    {#key, type, offsetof(struct model_config, key), text, low, high, choices, help}
static const struct config_field model_fields[] = {
    MODEL(model_type, CONFIG_ENUM, "qwen2", 0, 0, model_types, "architecture"),
    MODEL(hidden_size, CONFIG_INT, "128", 8, 65536, NULL, "channels"),
    MODEL(intermediate_size, CONFIG_INT, "384", 8, 1 << 20, NULL, "channels inside the MLP"),
    MODEL(num_hidden_layers, CONFIG_INT, "3", 1, 1024, NULL, "layers"),
    MODEL(num_attention_heads, CONFIG_INT, "4", 1, 1024, NULL, "query heads"),
    MODEL(num_key_value_heads, CONFIG_INT, "2", 1, 1024, NULL, "key/value heads"),
    MODEL(head_dim, CONFIG_INT, "0", 0, 1024, NULL,
          "width of a head; 0: hidden_size / num_attention_heads"),
    MODEL(max_position_embeddings, CONFIG_INT, "512", 8, 1 << 24, NULL, "longest sequence, tokens"),
    MODEL(rope_theta, CONFIG_FLOAT, "10000", 1, 1e12, NULL, "base of the rotary embedding"),
    MODEL(rms_norm_eps, CONFIG_FLOAT, "1e-6", 1e-12, 1e-2, NULL, "epsilon of RMSNorm"),
    MODEL(tie_word_embeddings, CONFIG_BOOL, "true", 0, 0, NULL,
          "head and embedding are one matrix"),
    MODEL(tokenizer, CONFIG_STRING, "", 0, 0, NULL, "folder that holds tokenizer.json"),
    {0},
};

static int check_model(const void *config)
{
    const struct model_config *model = config;

    if (model->num_attention_heads % model->num_key_value_heads)
        return status_fail(STATUS_CONFIG, "model.num_attention_heads %lld is no multiple of "
                           "model.num_key_value_heads %lld", (long long)model->num_attention_heads,
                           (long long)model->num_key_value_heads);
    if (!model->head_dim && model->hidden_size % model->num_attention_heads)
        return status_fail(STATUS_CONFIG, "model.hidden_size %lld is no multiple of "
                           "model.num_attention_heads %lld; change one or set model.head_dim",
                           (long long)model->hidden_size, (long long)model->num_attention_heads);
    return STATUS_OK;
}

const struct config_section model_config_section = {
    "model", "a new model, for stages of kind base; names as in config.json", model_fields,
    check_model};

#define DATA(key, type, text, low, high, help)                                                     \
    {#key, type, offsetof(struct data_config, key), text, low, high, NULL, help}
static const struct config_field data_fields[] = {
    DATA(n_tasks, CONFIG_INT, "256", 1, 100000000, "tasks sampled for the dataset"),
    DATA(max_per_task, CONFIG_INT, "4", 1, 100000, "completions kept of one task, distinct ones"),
    DATA(require_right, CONFIG_BOOL, "true", 0, 0, "keep only completions judged right"),
    DATA(require_format, CONFIG_BOOL, "true", 0, 0, "keep only completions of the right format"),
    DATA(min_language, CONFIG_FLOAT, "1", 0, 1, "least share of words in the task's language"),
    DATA(max_repetition, CONFIG_FLOAT, "0.5", 0, 1, "largest share of repeated 10-byte runs"),
    DATA(max_length, CONFIG_INT, "100000", 1, 100000000,
         "tokens of a completion, at most; one cut at rollout.max_completion_length never counts"),
    DATA(general_share, CONFIG_FLOAT, "0", 0, 0.95,
         "share of the dataset taken from tasks.general"),
    {0},
};
const struct config_section data_config_section = {
    "data", "sampling and filtering of a dataset: coldstart, reject, distill", data_fields, NULL};

#define EVAL(key, type, text, low, high, help)                                                     \
    {#key, type, offsetof(struct eval_config, key), text, low, high, NULL, help}
static const struct config_field eval_fields[] = {
    EVAL(n_tasks, CONFIG_INT, "128", 0, 100000000, "held-out tasks; 0: no evaluation"),
    EVAL(num_generations, CONFIG_INT, "8", 1, 4096, "completions per task: the k of pass@k"),
    EVAL(eval_steps, CONFIG_INT, "0", 0, 100000000,
         "steps between evaluations; 0: only at the end of the stage"),
    EVAL(temperature, CONFIG_FLOAT, "1", 0, 100, "temperature; 0: greedy"),
    EVAL(top_p, CONFIG_FLOAT, "1", 0.0001, 1, "nucleus"),
    {0},
};
const struct config_section eval_config_section = {
    "eval", "evaluation on held-out tasks", eval_fields, NULL};

void stage_bind(struct stage_settings *settings, struct config_binding bindings[N_STAGE_SECTIONS])
{
    const struct config_binding list[N_STAGE_SECTIONS] = {
        {&model_config_section, &settings->model},
        {&tasks_config_section, &settings->tasks},
        {&grpo_config_section, &settings->grpo},
        {&optimizer_config_section, &settings->optimizer},
        {&lora_config_section, &settings->lora},
        {&guard_config_section, &settings->guard},
        {&sft_config_section, &settings->sft},
        {&rollout_config_section, &settings->rollout},
        {&reward_config_section, &settings->reward},
        {&sandbox_config_section, &settings->sandbox},
        {&data_config_section, &settings->data},
        {&eval_config_section, &settings->eval},
    };

    memcpy(bindings, list, sizeof(list));
}
