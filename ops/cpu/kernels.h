/*
 * ops/cpu/kernels.h - the hot loops, as a table per instruction set. Private to ops/cpu/.
 *
 * kernels_*.c are compiled once per instruction set (KERNEL_ISA, VECTOR_BYTES from the Makefile);
 * dispatch_*.c lists what the processor of this build may have. A kernel works on a range of rows,
 * panels or elements; the ranges never change a result.
 */
#ifndef HONE_OPS_CPU_KERNELS_H
#define HONE_OPS_CPU_KERNELS_H

#include "ops/backend.h"

/* out[r,m] = (accumulate ? out : 0) + sum over k of a[r,k] b[k,m], then + bias[m], then + add[r,m].
 * b lies in panels of 16 columns, [n_steps][16] each. a: row r is row r % tile_rows of block
 * r / tile_rows.
 *
 * With `pairs` a step is two of k, bfloat16, first the odd one: b is [n_steps][16][2] bfloat16, a
 * pair of a is pair_words words (pair_row(), pair_blocks()), and both count
 * words of four bytes. Numbers below 2^-126 are taken and given as zero. */
struct product {
    const float *a;
    int64_t a_block, a_row, a_step;
    const float *b;
    int64_t b_panel;     /* numbers from a panel to the next */
    int64_t n_steps;
    int pairs;
    float *out;
    int64_t out_row, n_columns;
    const float *bias;   /* or NULL */
    const float *add;    /* or NULL; its rows lie as those of out */
    int accumulate;
};

/* Query rows first .. last-1 of the segment that starts at row `segment`; they see n_prefix rows
 * from row `prefix` on, then their own. */
struct attention_span {
    int64_t prefix, n_prefix, segment, first, last;
};

struct attention_forward {
    float *out, *lse;
    const float *q, *k, *v;
    int64_t H, K, D;
};

/* What the backward pass gives; with ATTENTION_NEW_KEYS the gradients of the span's own keys start
 * from 0. */
enum { ATTENTION_D_QUERIES = 1, ATTENTION_D_KEYS = 2, ATTENTION_NEW_KEYS = 4 };
struct attention_gradient {
    float *d_q, *d_k, *d_v;
    const float *d_out, *q, *k, *v, *out, *lse;
    int64_t H, K, D;
};

/* A cache: keys in panels of 16 rows, [K][n_rows / 16][D][16], then values [K][n_rows][D]. */
struct attention_decode {
    float *out;
    const float *q;
    struct kv_cache cache;
    const int32_t *pages, *runs;   /* runs [N,4] */
    int64_t H;
};

struct softmax_sums {
    float factor, maximum;
    const double *blocks;   /* [ceil(V / SUM_BLOCK)] */
    double total;
};
struct candidate {
    float weight;
    int32_t id;
};

struct adamw_factors {
    float keep, beta1, one_minus_beta1, beta2, one_minus_beta2, step_size, v_factor, epsilon;
    float gradient_scale;
};

#define RMSNORM_BLOCK 64     /* rows whose weight gradients are summed together */
#define SQUARES_BLOCK 4096   /* elements whose squares are summed together */
#define DECODE_ROWS 32       /* most rows in one decode task */
#define SUM_BLOCK 2048       /* logits whose exp is added in float, before double goes on */

/* name, arguments */
#define KERNEL_LIST(X)                                                                             \
    /* rows of w[n_rows <= 16, C] become one panel [C][16] */                                      \
    X(transpose_panel, (float *panel, const float *w, int64_t w_row, int64_t n_rows, int64_t C))   \
    /* columns of x[n_steps, ld] become panels [n_steps][16] */                                    \
    X(pack_columns, (float *panels, const float *x, int64_t ld, int64_t n_steps,                   \
                     int64_t n_columns, int64_t first, int64_t last))                              \
    /* columns of x[n_steps, ld] become row blocks [n_steps][tile_rows] */                         \
    X(pack_blocks, (float *blocks, const float *x, int64_t ld, int64_t n_steps,                    \
                    int64_t n_columns, int64_t first, int64_t last))                               \
    /* the same of bfloat16: pairs of steps, an odd last one with zeros */                         \
    X(pair_panel, (float *panel, const float *w, int64_t w_row, int64_t n_rows, int64_t C))        \
    X(pair_columns, (float *panels, const float *x, int64_t ld, int64_t n_steps,                   \
                     int64_t n_columns, int64_t first, int64_t last))                              \
    X(pair_blocks, (float *blocks, const float *x, int64_t ld, int64_t n_steps,                    \
                    int64_t n_columns, int64_t first, int64_t last))                               \
    /* a row of inputs of a product with pairs */                                                  \
    X(pair_row, (float *words, const float *x, int64_t n_steps))                                   \
    X(product, (const struct product *product, int64_t first_row, int64_t last_row,                \
                int64_t first_panel, int64_t last_panel))                                          \
    X(sum_columns, (float *out, const float *x, int64_t ld, int64_t n_rows, int64_t n_columns))    \
    X(rmsnorm, (float *out, float *rstd, const float *in, const float *weight, int64_t C,          \
                float eps, int64_t first, int64_t last))                                           \
    X(rmsnorm_backward, (float *d_in, float *d_weight, const float *d_out, const float *in,        \
                         const float *weight, const float *rstd, int64_t C, int64_t first,         \
                         int64_t last))                                                            \
    X(rope, (float *x, const float *table, const int32_t *positions, int64_t H, int64_t D,         \
             int inverse, int64_t first, int64_t last))                                            \
    X(swiglu, (float *out, const float *gate, const float *up, int64_t n))                         \
    X(swiglu_backward, (float *d_gate, float *d_up, const float *d_out, const float *gate,         \
                        const float *up, int64_t n))                                               \
    X(add, (float *out, const float *in, int64_t n))                                               \
    X(scale, (float *x, float factor, int64_t n))                                                  \
    /* out += factor * in */                                                                       \
    X(add_scaled, (float *out, const float *in, float factor, int64_t n))                          \
    X(round_bf16, (float *out, const float *in, int64_t n))                                        \
    X(attention, (const struct attention_forward *job, const struct attention_span *span,          \
                  int64_t kv_head, float *scratch))                                                \
    /* what is wanted of the rows of a span and some of the keys that they see, counted from 0:    \
     * d_q is written (all keys then), d_k and d_v are added to */                                 \
    X(attention_backward, (const struct attention_gradient *job,                                   \
                           const struct attention_span *span, int64_t kv_head,                     \
                           int64_t first_key, int64_t last_key, int wanted, float *scratch))       \
    X(cache_store, (const struct kv_cache *cache, const float *k, const float *v,                  \
                    const int32_t *rows, int64_t first, int64_t last))                             \
    /* rows first .. last-1, DECODE_ROWS at most, whose first runs start at one place; either all  \
     * are equally long, or nobody has a second run */                                             \
    X(attention_decode, (const struct attention_decode *job, int64_t first, int64_t last,          \
                         int64_t kv_head, float *scratch))                                         \
    X(token_logprob, (float *logprob, float *entropy, const float *logits,                         \
                      const int32_t *targets, int64_t V, float temperature, int64_t first,         \
                      int64_t last))                                                               \
    X(token_logprob_backward, (float *logits, const float *d_logprob, const int32_t *targets,      \
                               int64_t V, float temperature, int64_t first, int64_t last))         \
    X(exp, (float *out, const float *in, int64_t n))                                               \
    X(adamw, (float *w, float *m, float *v, const float *g, const struct adamw_factors *f,         \
              int64_t n))

#define KERNEL_LIST_VALUES(X)                                                                      \
    /* independent chains of multiply-adds: the peak that benchmarks compare with */               \
    X(double, count_peak_flops, (int64_t n_steps, float *sink))                                    \
    X(double, sum_squares, (const float *x, int64_t n))                                            \
    X(int, all_finite, (const float *x, int64_t n))                                                \
    /* floats of scratch that the attention kernels want */                                        \
    X(int64_t, attention_scratch, (int64_t n_keys, int64_t D))                                     \
    X(int64_t, attention_backward_scratch, (int64_t D))                                            \
    X(int64_t, attention_decode_scratch, (int64_t n_keys, int64_t n_rows))                         \
    /* z = logit * factor: the largest of first .. last-1; the sum of exp(z - maximum) over the    \
     * block that starts at `first`; z[token] - maximum - log(total) */                            \
    X(float, largest_logit, (const float *logits, float factor, int64_t first, int64_t last))      \
    X(float, softmax_block, (const float *logits, int64_t V, float factor, float maximum,          \
                             int64_t first))                                                       \
    X(float, drawn_logprob, (const float *logits, int32_t token, const struct softmax_sums *sums)) \
    /* the token of a draw; candidates has room for 2 (V + 1) */                                   \
    X(int32_t, draw_token, (const float *logits, int64_t V, const struct draw *draw,               \
                            const struct softmax_sums *sums, struct candidate *candidates))

struct kernels {
    const char *name;
    int64_t tile_rows, tile_panels, pair_words;
#define X(name, arguments) void (*name) arguments;
    KERNEL_LIST(X)
#undef X
#define X(type, name, arguments) type (*name) arguments;
    KERNEL_LIST_VALUES(X)
#undef X
};

extern const struct kernels kernels_baseline, kernels_avx2, kernels_avx512, kernels_avx512bf16;

/* dispatch_<architecture>.c: the tables that this processor can run, best first, then NULL. */
const struct kernels *const *processor_kernels(void);
void processor_relax(void);   /* a hint in a loop that waits */

#endif
