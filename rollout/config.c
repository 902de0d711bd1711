#include <stddef.h>

#include "rollout/rollout.h"

const char *const rollout_devices[] = {"cpu", "reference", "cuda", "cuda:bf16", NULL};

/* The order is that of enum rollout_weights. */
static const char *const weights_ways[] = {"auto", "files", "ipc", NULL};

#define AT(field) offsetof(struct rollout_config, field)

static const struct config_field fields[] = {
    {"num_generations", CONFIG_INT, AT(num_generations), "8", 1, 4096, NULL,
     "Completions per task: the G of GRPO."},
    {"max_prompt_length", CONFIG_INT, AT(max_prompt_length), "512", 1, 1 << 20, NULL,
     "Longest prompt in tokens; a task with a longer one is left out."},
    {"max_completion_length", CONFIG_INT, AT(max_completion_length), "256", 1, 1 << 20, NULL,
     "Longest completion in tokens; sampling stops there."},
    {"temperature", CONFIG_FLOAT, AT(temperature), "1.0", 0, 100, NULL,
     "Divides the logits before sampling; 0 takes the likeliest token."},
    {"top_p", CONFIG_FLOAT, AT(top_p), "1.0", 1e-6, 1, NULL,
     "Samples among the likeliest tokens that together have this probability; 1 is off."},
    {"top_k", CONFIG_INT, AT(top_k), "0", 0, 1 << 20, NULL,
     "Samples among this many likeliest tokens; 0 is off."},
    {"workers", CONFIG_INT, AT(workers), "2", 0, 1024, NULL,
     "Rollout processes that the run starts; more may connect."},
    {"threads", CONFIG_INT, AT(threads), "0", 0, 1024, NULL,
     "Threads of each rollout process; 0: the cores of its machine, divided by workers."},
    {"max_sequences", CONFIG_INT, AT(max_sequences), "64", 1, 4096, NULL,
     "Completions that one worker decodes side by side; more is faster and takes more memory."},
    {"max_num_batched_tokens", CONFIG_INT, AT(max_num_batched_tokens), "2048", 1, 1 << 20, NULL,
     "Tokens that one worker computes in one step: one of each completion, the rest of prompts."},
    {"kv_cache_tokens", CONFIG_INT, AT(kv_cache_tokens), "0", 0, (double)(1LL << 40), NULL,
     "Tokens whose keys and values one worker keeps. When there is no room, the youngest "
     "completions wait and are computed again: slower, same results. 0: as many as all "
     "max_sequences may have, in at most a quarter of the memory."},
    {"device", CONFIG_ENUM, AT(device), "cpu", 0, 0, rollout_devices,
     "Where rollout computes; it must be where the learner computes for equal log-probabilities."},
    {"cuda_graphs", CONFIG_BOOL, AT(cuda_graphs), "true", 0, 0, NULL,
     "On a GPU, a step that decodes is recorded and launched whole; takes some memory, changes no "
     "result."},
    {"weights", CONFIG_ENUM, AT(weights), "auto", 0, 0, weights_ways,
     "How new weights reach the workers. files: as an image. ipc: from memory of the "
     "learner's card to the worker's (CUDA IPC), on one machine. auto: ipc where both use one "
     "card, else files."},
    {NULL, CONFIG_INT, 0, NULL, 0, 0, NULL, NULL},
};

struct rollout_limits rollout_limits_of(const struct rollout_config *config)
{
    return (struct rollout_limits){
        .max_sequences = (int)config->max_sequences,
        .max_prompt = (int)config->max_prompt_length,
        .max_completion = (int)config->max_completion_length,
        .max_batched_tokens = (int)config->max_num_batched_tokens,
        .kv_cache_tokens = config->kv_cache_tokens,
    };
}

const struct config_section rollout_config_section = {
    .name = "rollout",
    .help = "How completions are sampled.",
    .fields = fields,
};
