/*
 * bench/model_rows.h - rows of bench_model: the engine through its public faces, random weights.
 */
#ifndef HONE_BENCH_MODEL_ROWS_H
#define HONE_BENCH_MODEL_ROWS_H

#include "bench/bench.h"
#include "learner/learner.h"
#include "model/model.h"
#include "rollout/rollout.h"

struct model_bench {
    struct ops *ops;
    struct tokenizer *tokenizer;      /* of bytes: a prompt of n letters has n tokens */
    struct model_shape shape;
    const char *shape_name;           /* "tiny", "0.5b" */
    int bf16, repeats;
    const char *only;                 /* text in the names of rows; NULL: all */
    struct bench_report report;
    double peak, dram;                /* flops and bytes a second of this machine, now */
    int on_device;                    /* weights lie where `dram` was measured, not with the CPU */
    struct arena arena;
    int32_t *tokens;                  /* random ones, BENCH_TOKENS */
};
#define BENCH_TOKENS 65536

extern const struct model_shape bench_shape_tiny, bench_shape_half_billion, bench_shape_1_5_billion;

int open_bench_tokenizer(struct tokenizer **out);
void print_bench_row(const struct model_bench *bench, const char *name, const char *unit,
                     const char *limit, double limit_value, struct bench_samples *samples);

/* Work of one token: the usual counts, 2 flops a parameter, and attention. */
double decode_token_flops(const struct model_shape *shape, double context);
double prefill_flops(const struct model_shape *shape, double n_tokens);
double train_token_flops(const struct model_shape *shape, double n_tokens);

/* A rollout of groups with random prompts, all submitted at once, no end of text. */
struct generation {
    int n_groups, n_samples, n_prompt, n_new;   /* samples of a group; tokens of each */
};
int submit_generation(struct rollout *rollout, const struct generation *g, uint64_t seed,
                      uint32_t version);

int bench_decode(struct model_bench *bench);
int bench_decode_batches(struct model_bench *bench);   /* 1 to 1024 sequences, 512 of context */
int bench_prefill(struct model_bench *bench);
int bench_train(struct model_bench *bench);
int bench_train_batch(struct model_bench *bench);      /* 16 sequences of 1024 */
int bench_grpo(struct model_bench *bench);
int bench_sweep(struct model_bench *bench);

#endif
