/* The shapes that are measured, and how a row is named. */
#include <stdio.h>

#include "bench/model_rows.h"

const struct model_shape bench_shape_tiny = {
    .family = MODEL_QWEN2,
    .n_layers = 6,
    .n_heads = 8,
    .n_kv_heads = 4,
    .head_dim = 32,
    .channels = 256,
    .hidden_channels = 1024,
    .vocab_size = 1024,
    .max_positions = 32768,
    .qkv_bias = 1,
    .tied_head = 1,
    .rope_base = 10000,
    .norm_eps = 1e-6,
};
/* Qwen2.5-0.5B. */
const struct model_shape bench_shape_half_billion = {
    .family = MODEL_QWEN2,
    .n_layers = 24,
    .n_heads = 14,
    .n_kv_heads = 2,
    .head_dim = 64,
    .channels = 896,
    .hidden_channels = 4864,
    .vocab_size = 151936,
    .max_positions = 32768,
    .qkv_bias = 1,
    .tied_head = 1,
    .rope_base = 1000000,
    .norm_eps = 1e-6,
};

/* Qwen2.5-1.5B. */
const struct model_shape bench_shape_1_5_billion = {
    .family = MODEL_QWEN2,
    .n_layers = 28,
    .n_heads = 12,
    .n_kv_heads = 2,
    .head_dim = 128,
    .channels = 1536,
    .hidden_channels = 8960,
    .vocab_size = 151936,
    .max_positions = 32768,
    .qkv_bias = 1,
    .tied_head = 1,
    .rope_base = 1000000,
    .norm_eps = 1e-6,
};

void print_bench_row(const struct model_bench *bench, const char *name, const char *unit,
                     const char *limit, double limit_value, struct bench_samples *samples)
{
    char full[96];
    struct bench_row row = {full, unit, limit, limit_value};

    snprintf(full, sizeof(full), "%s %s %s", bench->shape_name, bench->bf16 ? "bf16" : "f32", name);
    bench_print_row(&bench->report, &row, samples);
}
