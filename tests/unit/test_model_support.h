/* What the test_model_*.c programs share. */
#ifndef TEST_MODEL_SUPPORT_H
#define TEST_MODEL_SUPPORT_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/files.h"
#include "common/random.h"
#include "common/status.h"
#include "model/internal.h"
#include "ops/backend.h"

#define REQUIRE_OK(call)                                                                           \
    do {                                                                                           \
        if ((call) < 0)                                                                            \
            fail_msg("%s: %s", #call, status_reason());                                            \
    } while (0)

/* The GPU that this program is linked with: the emulated one, or a card in `make gpu-check`. */
static inline const char *gpu_device(void)
{
    return ops_table_cuda->name;
}

static inline struct ops *open_device(const char *device)
{
    struct ops *ops = NULL;

    REQUIRE_OK(ops_create(&ops, device, 2));
    return ops;
}

/* With room for all slots. */
static inline int open_cache(struct model_cache **out, struct model *model, int n_prompts,
                             int max_prompt, int n_sequences, int max_completion)
{
    const struct model_cache_size size = {n_prompts, max_prompt, n_sequences, max_completion, 0};

    return model_cache_create(out, model, &size);
}

/* Small, grouped heads, a head width that is not channels / heads. */
static inline struct model_shape small_shape(enum model_family family)
{
    struct model_shape shape = {
        .family = family, .n_layers = 2, .n_heads = 4, .n_kv_heads = 2, .head_dim = 6,
        .channels = 20, .hidden_channels = 28, .vocab_size = 50, .max_positions = 700,
        .qkv_bias = family == MODEL_QWEN2, .qk_norm = family == MODEL_QWEN3,
        .tied_head = family != MODEL_LLAMA, .rope_base = 10000.0, .norm_eps = 1e-6,
    };

    return shape;
}

/* Weights far from the usual start, so that every part of the model matters. */
static inline void widen_weights(struct model *model, uint64_t seed)
{
    struct random_stream stream = {.seed = seed};
    struct ops *ops = model_ops(model);

    for (size_t i = 0; i < model_n_weights(model); i++) {
        struct tensor weight, gradient;
        const char *name = model_weight(model, i, &weight, &gradient);
        double mean = weight.n_dims == 1 && !strstr(name, "bias") ? 1.0 : 0.0;
        size_t n = (size_t)tensor_count(&weight);
        float *values = mem_alloc(n, sizeof(float));
        for (size_t k = 0; k < n; k++)
            values[k] = (float)(mean + 0.25 * random_normal(&stream));
        ops_upload(ops, weight.data, values, n * sizeof(float));
        REQUIRE_OK(ops_sync(ops));
        mem_free(values);
    }
    model_weights_changed(model);
}

static inline struct model *make_model(struct ops *ops, enum model_family family)
{
    struct model_shape shape = small_shape(family);
    struct model *model = NULL;

    REQUIRE_OK(model_create(&model, ops, &shape, &model_trainable, 3));
    widen_weights(model, 5);
    return model;
}

/* Device values of a tensor; the caller frees. */
static inline float *values_of(struct ops *ops, const struct tensor *tensor)
{
    size_t n = (size_t)tensor_count(tensor);
    float *values = mem_alloc(n, sizeof(float));

    ops_download(ops, values, tensor->data, n * sizeof(float));
    REQUIRE_OK(ops_sync(ops));
    return values;
}

/* Runs rows and brings the logits of the last one to the host. */
static inline void decode_logits(struct model *model, struct model_cache *cache, int n,
                                 const struct model_decode_row *rows, float *logits)
{
    const struct draw likeliest = {.top_p = 1, .row = n - 1};
    float logprob;
    int32_t token;

    REQUIRE_OK(model_decode(model, cache, n, rows, 1, &likeliest, &token, &logprob));
    ops_download(model->ops, logits, cache->tape->views.logits.data,
                 (size_t)model->shape.vocab_size * sizeof(*logits));
    REQUIRE_OK(ops_sync(model->ops));
}

/* A whole prompt into slot 0, and the logits of its last token. */
static inline void prompt_logits(struct model *model, struct model_cache *cache,
                                 const int32_t *tokens, int n, float *logits)
{
    struct model_decode_row *rows = mem_alloc((size_t)n, sizeof(*rows));

    for (int i = 0; i < n; i++)
        rows[i] = (struct model_decode_row){0, MODEL_PROMPT, i, tokens[i]};
    decode_logits(model, cache, n, rows, logits);
    mem_free(rows);
}

#endif
