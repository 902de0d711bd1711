/*
 * ops/cuda/cuda.h - one GPU: its stream, scratch memory, one sticky status. Private to ops/cuda/.
 *
 * The .cu files compile twice: by nvcc with native/device.h, and by the C++ compiler with
 * emulation/device.h, which runs them on the CPU for the tests. Built with -fmad=false: a product
 * and a sum are fused where fmaf() says so, so that kernels that must agree to the bit do.
 */
#ifndef HONE_OPS_CUDA_CUDA_H
#define HONE_OPS_CUDA_CUDA_H

#include "ops/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What this backend is called in a device string; native/ and emulation/ name it. */
extern const char cuda_backend_name[];

int cuda_open(const char *variant, int n_threads, void **context);
void cuda_close(void *context);
int cuda_sync(void *context);
const char *cuda_describe(void *context);
double cuda_memory_bytes(void *context);
int cuda_alloc(void *context, size_t bytes, void **out);
void cuda_free(void *context, void *memory);
void cuda_upload(void *context, void *device, const void *host, size_t bytes);
void cuda_download(void *context, void *host, const void *device, size_t bytes);
void cuda_copy(void *context, void *to, const void *from, size_t bytes);
void cuda_zero(void *context, void *memory, size_t bytes);
void *cuda_side_queue(void *context);
int cuda_side_is_idle(void *context);
void cuda_side_close(void *context);
const char *cuda_place(void *context);
int cuda_export_memory(void *context, void *memory, struct ops_handle *handle);
int cuda_import_memory(void *context, const struct ops_handle *handle, void **out);
void cuda_import_end(void *context, void *memory);
void cuda_checksum(void *context, const void *memory, size_t bytes, struct checksum *out);
void cuda_record_begin(void *context);
int cuda_record_end(void *context, void **recording);
void cuda_record_launch(void *context, void *recording);
void cuda_record_free(void *context, void *recording);
void cuda_matrix_read(void *context, struct tensor *rows, const struct matrix *matrix,
                      int64_t first);
void cuda_matrix_write(void *context, struct matrix *matrix, const struct tensor *rows,
                       int64_t first);
void cuda_round_bf16(void *context, struct tensor *out, const struct tensor *in);
void cuda_matmul(void *context, struct tensor *out, const struct tensor *in,
                 const struct matrix *weight, const struct tensor *bias);
void cuda_matmul_backward_input(void *context, struct tensor *d_in, const struct tensor *d_out,
                                const struct matrix *weight);
void cuda_matmul_backward_weight(void *context, struct tensor *d_weight, struct tensor *d_bias,
                                 const struct tensor *d_out, const struct tensor *in,
                                 enum dtype dtype);
void cuda_rmsnorm(void *context, struct tensor *out, struct tensor *rstd, const struct tensor *in,
                  const struct tensor *weight, float eps);
void cuda_rmsnorm_backward(void *context, struct tensor *d_in, struct tensor *d_weight,
                           const struct tensor *d_out, const struct tensor *in,
                           const struct tensor *weight, const struct tensor *rstd);
void cuda_rope(void *context, struct tensor *x, const struct tensor *table,
               const struct tensor *positions, int inverse);
void cuda_swiglu(void *context, struct tensor *out, const struct tensor *gate,
                 const struct tensor *up);
void cuda_swiglu_backward(void *context, struct tensor *d_gate, struct tensor *d_up,
                          const struct tensor *d_out, const struct tensor *gate,
                          const struct tensor *up);
void cuda_add(void *context, struct tensor *out, const struct tensor *in);
void cuda_scale(void *context, struct tensor *x, float factor);
void cuda_embedding(void *context, struct tensor *out, const struct matrix *table,
                    const struct tensor *tokens);
void cuda_embedding_backward(void *context, struct tensor *d_table, const struct tensor *d_out,
                             const struct tensor *tokens);
void cuda_gather_rows(void *context, struct tensor *out, const struct tensor *in,
                      const struct tensor *rows);
void cuda_scatter_add_rows(void *context, struct tensor *d_in, const struct tensor *d_out,
                           const struct tensor *rows);
void cuda_attention(void *context, struct tensor *out, struct tensor *lse, const struct tensor *q,
                    const struct tensor *k, const struct tensor *v, const struct tensor *segments,
                    const struct tensor *prefixes);
void cuda_attention_backward(void *context, struct tensor *d_q, struct tensor *d_k,
                             struct tensor *d_v, const struct tensor *d_out,
                             const struct tensor *q, const struct tensor *k,
                             const struct tensor *v, const struct tensor *out,
                             const struct tensor *lse, const struct tensor *segments,
                             const struct tensor *prefixes);
void cuda_cache_store(void *context, struct kv_cache *cache, const struct tensor *k,
                      const struct tensor *v, const struct tensor *rows);
void cuda_attention_decode(void *context, struct tensor *out, const struct tensor *q,
                           const struct kv_cache *cache, const struct tensor *pages,
                           const struct tensor *runs);
void cuda_sample(void *context, struct tensor *tokens, struct tensor *logprobs,
                 const struct tensor *logits, const struct draw *draws);
void cuda_token_logprob(void *context, struct tensor *logprob, struct tensor *entropy,
                        const struct tensor *logits, const struct tensor *targets,
                        float temperature);
void cuda_token_logprob_backward(void *context, struct tensor *logits,
                                 const struct tensor *d_logprob, const struct tensor *targets,
                                 float temperature);
double cuda_sum_squares(void *context, const struct tensor *x);
int cuda_all_finite(void *context, const struct tensor *x);
void cuda_adamw(void *context, struct tensor *weight, struct tensor *m, struct tensor *v,
                const struct tensor *gradient, const struct adamw_step *adamw);

#ifdef __cplusplus
}
#endif
#endif
