/* A tiny random model and a tokenizer of bytes, for the tests of rollout/. */
#ifndef HONE_TESTS_UNIT_TEST_ROLLOUT_H
#define HONE_TESTS_UNIT_TEST_ROLLOUT_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/status.h"
#include "rollout/rollout.h"

#define TINY_EOS 256
#define TINY_VOCAB 260

static inline void write_tiny_tokenizer(struct text *out)
{
    int n_odd = 0;

    text_print(out, "{\"version\":\"1.0\",\"added_tokens\":[{\"id\":256,\"content\":"
                    "\"<|endoftext|>\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
                    "\"normalized\":false,\"special\":true}],\"normalizer\":null,"
                    "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
                    "\"trim_offsets\":true,\"use_regex\":true},\"post_processor\":null,"
                    "\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,"
                    "\"trim_offsets\":true,\"use_regex\":true},\"model\":{\"type\":\"BPE\","
                    "\"dropout\":null,\"unk_token\":null,\"vocab\":{");
    /* GPT-2's alphabet: printable bytes stand for themselves, the others from U+0100 on. */
    for (int byte = 0; byte < 256; byte++) {
        int plain = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
        text_print(out, "%s\"\\u%04x\":%d", byte ? "," : "", plain ? byte : 256 + n_odd, byte);
        n_odd += !plain;
    }
    text_print(out, "},\"merges\":[]}}");
}

static inline struct model_shape tiny_shape(void)
{
    return (struct model_shape){.family = MODEL_LLAMA,
                                .n_layers = 2,
                                .n_heads = 4,
                                .n_kv_heads = 2,
                                .head_dim = 8,
                                .channels = 32,
                                .hidden_channels = 48,
                                .vocab_size = TINY_VOCAB,
                                .max_positions = 128,
                                .tied_head = 1,
                                .rope_base = 10000,
                                .norm_eps = 1e-5};
}

/* Weights larger than at a start of training, so that the distributions have peaks; held as a
 * worker holds them. */
static inline int create_model_of(struct model **out, struct ops *ops, struct model_shape shape,
                                  uint64_t seed)
{
    struct file_map image = {0};
    struct text config = {0};
    struct model *wide = NULL;
    int status;

    *out = NULL;
    TRY_OUT(model_create(&wide, ops, &shape, &model_trainable, seed));
    for (size_t i = 0; i < model_n_weights(wide); i++) {
        struct tensor weight;
        model_weight(wide, i, &weight, NULL);
        if (weight.n_dims > 1)
            ops_scale(ops, &weight, 8);
    }
    model_weights_changed(wide);
    TRY_OUT(model_map_weights(wide, &image));
    model_shape_print(&shape, -1, 0, &config);
    status = model_load_map(out, ops, config.data, config.length, &image, &model_frozen);
out:
    model_destroy(&wide);
    text_release(&config);
    file_map_close(&image);
    return status;
}

static inline int create_tiny_model(struct model **out, struct ops *ops, uint64_t seed)
{
    return create_model_of(out, ops, tiny_shape(), seed);
}

static inline struct task tiny_task(uint64_t id, const char *prompt)
{
    struct task task = {.id = id, .kind = "toy", .verifier = "exact"};

    task.question = task.prompt = (struct wire_text){prompt, (uint32_t)strlen(prompt)};
    task.prefill = task.reference = (struct wire_text){"", 0};
    return task;
}

static inline struct sampling tiny_sampling(void)
{
    return (struct sampling){.num_generations = 5,
                             .max_completion_length = 40,
                             .temperature = 0.9f,
                             .top_p = 1,
                             .seed = 11,
                             .weight_version = 1};
}

/* A model, its tokenizer and memory for what is taken; the test creates the rollout. */
struct tiny_rollout {
    struct ops *ops;
    struct model *model;
    struct tokenizer *tokenizer;
    struct rollout *rollout;
    struct arena arena;
};

static inline int tiny_rollout_open(struct tiny_rollout **out, int max_positions)
{
    struct tiny_rollout *tiny = mem_alloc(1, sizeof(*tiny));
    struct model_shape shape = tiny_shape();
    struct text json = {0};

    *out = tiny;
    shape.max_positions = max_positions;
    arena_init(&tiny->arena, (size_t)64 << 20);
    write_tiny_tokenizer(&json);
    TRY(ops_create(&tiny->ops, "cpu", 1));
    TRY(create_model_of(&tiny->model, tiny->ops, shape, 3));
    TRY(tokenizer_parse(&tiny->tokenizer, json.data, json.length, "test"));
    text_release(&json);
    return STATUS_OK;
}

static inline int tiny_rollout_close(void **state)
{
    struct tiny_rollout *tiny = *state;

    rollout_destroy(&tiny->rollout);
    model_destroy(&tiny->model);
    tokenizer_destroy(&tiny->tokenizer);
    ops_destroy(&tiny->ops);
    arena_release(&tiny->arena);
    mem_free(tiny);
    return 0;
}

#endif
