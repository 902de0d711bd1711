#include "tests/integration/support_micro.h"

#include <unistd.h>

static const char recipe[] =
    "run: {name: micro, seed: 1, save_steps: 2, logging_steps: 1, threads: 1}\n"
    "tasks:\n"
    "  train: run/debug/world/train.jsonl\n"
    "  heldout: run/debug/world/heldout.jsonl\n"
    "  text: run/debug/world/pretrain.jsonl\n"
    "  template_name: toy\n"
    "  kinds: [chain, search, fact]\n"
    "model: {tokenizer: run/debug/world, hidden_size: 16, intermediate_size: 24,\n"
    "        num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1,\n"
    "        max_position_embeddings: 128}\n"
    "rollout: {num_generations: 4, max_prompt_length: 48, max_completion_length: 16,\n"
    "          max_sequences: 16, workers: 1, threads: 1}\n"
    "reward: {workers: 1, reward_funcs: [accuracy, language, repetition],\n"
    "         reward_weights: [1, 1, 1]}\n"
    "grpo: {tasks_per_step: 3, max_steps: 4}\n"
    "optimizer: {learning_rate: 1e-3}\n"
    "sft: {batch_tokens: 512, max_steps: 3}\n"
    "data: {n_tasks: 40, require_right: false, require_format: false, min_language: 0,\n"
    "       max_repetition: 1}\n"
    "eval: {n_tasks: 2, num_generations: 2}\n"
    "stages:\n"
    "  - {name: base, stage: base, optimizer: {learning_rate: 1e-2}}\n"
    "  - {name: zero, stage: zero, from: base, grpo: {beta: 0.01}}\n"
    "  - {name: coldstart, stage: coldstart, from: base, sample: zero}\n";

void micro_make(struct place *place)
{
    struct program program;

    place_make(place);
    place_write(place, MICRO, recipe);
    HONE(&program, place, "run", MICRO, "--run", "run/quiet");
    assert_ends(&program, 0, MICRO_END);
}

const char *shim_path(const char *name)
{
    static char path[FILE_PATH_MAX];
    char self[FILE_PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

    assert_true(n > 0);
    self[n] = '\0';
    *strrchr(self, '/') = '\0';
    *strrchr(self, '/') = '\0';
    snprintf(path, sizeof(path), "%.3000s/shim/%.200s.so", self, name);
    if (!file_exists(path))
        fail_msg("%s is missing; build it with make", path);
    return path;
}
