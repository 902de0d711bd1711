/* Golden batches of tests/golden/<family>/: what PyTorch and transformers have computed. */
#ifndef TEST_MODEL_GOLDEN_H
#define TEST_MODEL_GOLDEN_H

#include "test_model_support.h"

struct golden {
    struct ops *ops;
    struct model *model;
    struct model_tape *tape;
    struct file_map map;
    struct safetensors *file;
    struct model_batch batch;
    int32_t *indices[5];
};

static inline int golden_numbers(struct golden *golden, const char *name, int32_t **out, int n)
{
    struct tensor like = tensor_i32(NULL, n);
    const unsigned char *bytes = NULL;

    if (safetensors_get(golden->file, name, &like, &bytes) < 0)
        return 0;
    *out = mem_alloc((size_t)n, sizeof(int32_t));
    memcpy(*out, bytes, (size_t)n * sizeof(int32_t));
    return 1;
}

/* The shapes are those of SEGMENTS in the tool: 7 + 1 + 12 tokens, every row but 2 of 5. */
#define N_TOKENS 20
#define N_SEGMENTS 3
#define N_TARGETS 16

static inline void open_golden(struct golden *golden, const char *device, const char *directory,
                               const struct model_options *options)
{
    char path[FILE_PATH_MAX];

    memset(golden, 0, sizeof(*golden));
    golden->ops = open_device(device);
    REQUIRE_OK(model_load(&golden->model, golden->ops, directory, options));
    REQUIRE_OK(model_tape_create(&golden->tape, golden->model));
    REQUIRE_OK(file_join(path, directory, "golden.safetensors"));
    REQUIRE_OK(file_map_open(&golden->map, path));
    REQUIRE_OK(safetensors_open(&golden->file, golden->map.bytes, golden->map.n, path));
    assert_true(golden_numbers(golden, "tokens", &golden->indices[0], N_TOKENS));
    assert_true(golden_numbers(golden, "positions", &golden->indices[1], N_TOKENS));
    assert_true(golden_numbers(golden, "segments", &golden->indices[2], N_SEGMENTS + 1));
    assert_true(golden_numbers(golden, "target_rows", &golden->indices[3], N_TARGETS));
    assert_true(golden_numbers(golden, "targets", &golden->indices[4], N_TARGETS));
    golden->batch = (struct model_batch){
        .n_tokens = N_TOKENS, .n_segments = N_SEGMENTS, .n_targets = N_TARGETS,
        .tokens = golden->indices[0], .positions = golden->indices[1],
        .segments = golden->indices[2], .target_rows = golden->indices[3],
        .targets = golden->indices[4],
    };
}

static inline void close_golden(struct golden *golden)
{
    for (int i = 0; i < 5; i++)
        mem_free(golden->indices[i]);
    safetensors_close(&golden->file);
    file_map_close(&golden->map);
    model_tape_destroy(&golden->tape);
    model_destroy(&golden->model);
    ops_destroy(&golden->ops);
}

/* Within the tolerance of the tensor's largest element, or of 1 when `absolute` is set. */
static inline void assert_near(struct golden *golden, const char *name, const struct tensor *like,
                               const float *values, double tolerance, int absolute)
{
    const unsigned char *bytes = NULL;
    double largest = absolute ? 1.0 : 1e-30, worst = 0.0;

    REQUIRE_OK(safetensors_get(golden->file, name, like, &bytes));
    for (int64_t i = 0; i < tensor_count(like); i++) {
        float expected;
        memcpy(&expected, bytes + 4 * i, sizeof(expected));
        largest = fmax(largest, fabs(expected));
        double error = fabs((double)values[i] - expected);
        worst = error <= worst ? worst : error;   /* a NaN is the worst */
    }
    if (!(worst <= tolerance * largest))
        fail_msg("%s on %s: off by %g, largest %g", name, ops_name(golden->ops), worst, largest);
}

/* Logits of every target row, each by a prompt of the tokens up to it; to be freed. */
static inline float *golden_logits(struct golden *golden)
{
    const struct model_batch *batch = &golden->batch;
    int V = model_shape(golden->model)->vocab_size;
    float *logits = mem_alloc((size_t)N_TARGETS * (size_t)V, sizeof(float));
    struct model_cache *cache = NULL;

    REQUIRE_OK(open_cache(&cache, golden->model, 1, N_TOKENS, 0, 0));
    for (int i = 0; i < N_TARGETS; i++) {
        int32_t row = batch->target_rows[i], start = row - batch->positions[row];
        prompt_logits(golden->model, cache, batch->tokens + start, batch->positions[row] + 1,
                      logits + (size_t)i * (size_t)V);
    }
    model_cache_destroy(&cache);
    return logits;
}

#endif
