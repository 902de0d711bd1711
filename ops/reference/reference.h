/* ops/reference/reference.h - plain loops with double sums: the law that other backends are
 * compared with. Nothing here is fast, threaded or clever. Private to ops/reference/. */
#ifndef HONE_OPS_REFERENCE_H
#define HONE_OPS_REFERENCE_H

#include "ops/backend.h"

/* The keys and values that one query sees: one run of rows, then another. */
struct key_rows {
    const float *k[2], *v[2];
    int64_t n[2];
    int64_t stride;   /* from one key to the next, in elements */
};
/* out[D] = softmax(q k^T / sqrt(D)) v, with probabilities in p; returns the log of the sum. */
double reference_attend(float *out, double *p, const float *q, const struct key_rows *keys,
                        int64_t D);

void reference_matrix_read(void *context, struct tensor *rows, const struct matrix *matrix,
                           int64_t first);
void reference_matrix_write(void *context, struct matrix *matrix, const struct tensor *rows,
                            int64_t first);
void reference_round_bf16(void *context, struct tensor *out, const struct tensor *in);
void reference_matmul(void *context, struct tensor *out, const struct tensor *in,
                      const struct matrix *weight, const struct tensor *bias);
void reference_matmul_backward_input(void *context, struct tensor *d_in,
                                     const struct tensor *d_out, const struct matrix *weight);
void reference_matmul_backward_weight(void *context, struct tensor *d_weight,
                                      struct tensor *d_bias, const struct tensor *d_out,
                                      const struct tensor *in, enum dtype dtype);
void reference_rmsnorm(void *context, struct tensor *out, struct tensor *rstd,
                       const struct tensor *in, const struct tensor *weight, float eps);
void reference_rmsnorm_backward(void *context, struct tensor *d_in, struct tensor *d_weight,
                                const struct tensor *d_out, const struct tensor *in,
                                const struct tensor *weight, const struct tensor *rstd);
void reference_rope(void *context, struct tensor *x, const struct tensor *table,
                    const struct tensor *positions, int inverse);
void reference_swiglu(void *context, struct tensor *out, const struct tensor *gate,
                      const struct tensor *up);
void reference_swiglu_backward(void *context, struct tensor *d_gate, struct tensor *d_up,
                               const struct tensor *d_out, const struct tensor *gate,
                               const struct tensor *up);
void reference_add(void *context, struct tensor *out, const struct tensor *in);
void reference_scale(void *context, struct tensor *x, float factor);
void reference_embedding(void *context, struct tensor *out, const struct matrix *table,
                         const struct tensor *tokens);
void reference_embedding_backward(void *context, struct tensor *d_table,
                                  const struct tensor *d_out, const struct tensor *tokens);
void reference_gather_rows(void *context, struct tensor *out, const struct tensor *in,
                           const struct tensor *rows);
void reference_scatter_add_rows(void *context, struct tensor *d_in, const struct tensor *d_out,
                                const struct tensor *rows);
void reference_attention(void *context, struct tensor *out, struct tensor *lse,
                         const struct tensor *q, const struct tensor *k, const struct tensor *v,
                         const struct tensor *segments, const struct tensor *prefixes);
void reference_attention_backward(void *context, struct tensor *d_q, struct tensor *d_k,
                                  struct tensor *d_v, const struct tensor *d_out,
                                  const struct tensor *q, const struct tensor *k,
                                  const struct tensor *v, const struct tensor *out,
                                  const struct tensor *lse, const struct tensor *segments,
                                  const struct tensor *prefixes);
void reference_cache_store(void *context, struct kv_cache *cache, const struct tensor *k,
                           const struct tensor *v, const struct tensor *rows);
void reference_attention_decode(void *context, struct tensor *out, const struct tensor *q,
                                const struct kv_cache *cache, const struct tensor *pages,
                                const struct tensor *runs);
void reference_sample(void *context, struct tensor *tokens, struct tensor *logprobs,
                      const struct tensor *logits, const struct draw *draws);
void reference_token_logprob(void *context, struct tensor *logprob, struct tensor *entropy,
                             const struct tensor *logits, const struct tensor *targets,
                             float temperature);
void reference_token_logprob_backward(void *context, struct tensor *logits,
                                      const struct tensor *d_logprob, const struct tensor *targets,
                                      float temperature);
double reference_sum_squares(void *context, const struct tensor *x);
int reference_all_finite(void *context, const struct tensor *x);
void reference_adamw(void *context, struct tensor *weight, struct tensor *m, struct tensor *v,
                     const struct tensor *gradient, const struct adamw_step *adamw);

#endif
