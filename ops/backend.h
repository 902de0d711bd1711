/*
 * ops/backend.h - what a backend fills in. Private to ops/.
 *
 * Same order as ops/ops.h, no checks inside: ops/calls.c has made them. To add an op: declare it in
 * ops.h, add a line here, write reference/, then cpu/, add its row to tests/parity/, and only then
 * write cuda/.
 */
#ifndef HONE_OPS_BACKEND_H
#define HONE_OPS_BACKEND_H

#include "ops/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ops_table {
    const char *name;     /* what a device string starts with: "cpu" of "cpu:avx2" */
    int host_memory;      /* 1: index tensors are readable here, so that calls.c checks them */

    /* `variant` is the text behind the colon of the device string, "" without one. */
    int (*open)(const char *variant, int n_threads, void **context);
    void (*close)(void *context);
    int (*sync)(void *context);
    const char *(*describe)(void *context);
    double (*memory_bytes)(void *context);
    int (*alloc)(void *context, size_t bytes, void **out);   /* 64-byte aligned, zeroed */
    void (*free)(void *context, void *memory);
    void (*upload)(void *context, void *device, const void *host, size_t bytes);
    void (*download)(void *context, void *host, const void *device, size_t bytes);
    void (*copy)(void *context, void *to, const void *from, size_t bytes);
    void (*zero)(void *context, void *memory, size_t bytes);
    /* Memory that processes share; all four NULL: none. */
    const char *(*place)(void *context);
    int (*export_memory)(void *context, void *memory, struct ops_handle *handle);
    int (*import_memory)(void *context, const struct ops_handle *handle, void **out);
    void (*import_end)(void *context, void *memory);
    void (*checksum)(void *context, const void *memory, size_t bytes, struct checksum *out);

    /* Both NULL where memory is the host's. */
    void *(*side_queue)(void *context);
    int (*side_is_idle)(void *context);
    /* All four NULL: it cannot record. */
    void (*record_begin)(void *context);
    int (*record_end)(void *context, void **recording);
    void (*record_launch)(void *context, void *recording);
    void (*record_free)(void *context, void *recording);

    void (*matrix_read)(void *context, struct tensor *rows, const struct matrix *matrix,
                        int64_t first);
    void (*matrix_write)(void *context, struct matrix *matrix, const struct tensor *rows,
                         int64_t first);
    void (*round_bf16)(void *context, struct tensor *out, const struct tensor *in);
    void (*matmul)(void *context, struct tensor *out, const struct tensor *in,
                   const struct matrix *weight, const struct tensor *bias);
    void (*matmul_backward_input)(void *context, struct tensor *d_in, const struct tensor *d_out,
                                  const struct matrix *weight);
    /* `dtype`: of the weight; not called where there is matmul_backward_weights */
    void (*matmul_backward_weight)(void *context, struct tensor *d_weight, struct tensor *d_bias,
                                   const struct tensor *d_out, const struct tensor *in,
                                   enum dtype dtype);
    /* Products that share an operand, in one go; NULL: ops.h makes them one after another. */
    void (*matmul_several)(void *context, const struct ops_product *products, int n,
                           const struct tensor *in);
    void (*matmul_backward_inputs)(void *context, struct tensor *d_in,
                                   const struct ops_product_gradient *gradients, int n);
    void (*matmul_backward_weights)(void *context, const struct ops_product_gradient *gradients,
                                    int n, const struct tensor *in);
    void (*rmsnorm)(void *context, struct tensor *out, struct tensor *rstd,
                    const struct tensor *in, const struct tensor *weight, float eps);
    void (*rmsnorm_backward)(void *context, struct tensor *d_in, struct tensor *d_weight,
                             const struct tensor *d_out, const struct tensor *in,
                             const struct tensor *weight, const struct tensor *rstd);
    void (*rope)(void *context, struct tensor *x, const struct tensor *table,
                 const struct tensor *positions, int inverse);
    void (*swiglu)(void *context, struct tensor *out, const struct tensor *gate,
                   const struct tensor *up);
    void (*swiglu_backward)(void *context, struct tensor *d_gate, struct tensor *d_up,
                            const struct tensor *d_out, const struct tensor *gate,
                            const struct tensor *up);
    void (*add)(void *context, struct tensor *out, const struct tensor *in);
    void (*scale)(void *context, struct tensor *x, float factor);
    void (*embedding)(void *context, struct tensor *out, const struct matrix *table,
                      const struct tensor *tokens);
    void (*embedding_backward)(void *context, struct tensor *d_table, const struct tensor *d_out,
                               const struct tensor *tokens);
    void (*gather_rows)(void *context, struct tensor *out, const struct tensor *in,
                        const struct tensor *rows);
    void (*scatter_add_rows)(void *context, struct tensor *d_in, const struct tensor *d_out,
                             const struct tensor *rows);
    void (*attention)(void *context, struct tensor *out, struct tensor *lse,
                      const struct tensor *q, const struct tensor *k, const struct tensor *v,
                      const struct tensor *segments, const struct tensor *prefixes);
    void (*attention_backward)(void *context, struct tensor *d_q, struct tensor *d_k,
                               struct tensor *d_v, const struct tensor *d_out,
                               const struct tensor *q, const struct tensor *k,
                               const struct tensor *v, const struct tensor *out,
                               const struct tensor *lse, const struct tensor *segments,
                               const struct tensor *prefixes);
    void (*cache_store)(void *context, struct kv_cache *cache, const struct tensor *k,
                        const struct tensor *v, const struct tensor *rows);
    void (*attention_decode)(void *context, struct tensor *out, const struct tensor *q,
                             const struct kv_cache *cache, const struct tensor *pages,
                             const struct tensor *runs);
    void (*sample)(void *context, struct tensor *tokens, struct tensor *logprobs,
                   const struct tensor *logits, const struct draw *draws);
    void (*token_logprob)(void *context, struct tensor *logprob, struct tensor *entropy,
                          const struct tensor *logits, const struct tensor *targets,
                          float temperature);
    void (*token_logprob_backward)(void *context, struct tensor *logits,
                                   const struct tensor *d_logprob, const struct tensor *targets,
                                   float temperature);
    double (*sum_squares)(void *context, const struct tensor *x);
    int (*all_finite)(void *context, const struct tensor *x);
    void (*adamw)(void *context, struct tensor *weight, struct tensor *m, struct tensor *v,
                  const struct tensor *gradient, const struct adamw_step *adamw);
};

extern const struct ops_table ops_table_cpu;
extern const struct ops_table ops_table_reference;
/* NULL when absent: the Makefile links cuda/backend_absent.c or the real one, no #ifdef. */
extern const struct ops_table *const ops_table_cuda;

/* What ops_create() makes: shared by ops.c and calls.c. */
struct ops {
    const struct ops_table *table;
    void *context;
};

/* Memory of the host, for the backends that compute there (ops/host.c). */
double host_memory_bytes(void *context);
int host_alloc(void *context, size_t bytes, void **out);
void host_free(void *context, void *memory);
void host_copy(void *context, void *to, const void *from, size_t bytes);
void host_zero(void *context, void *memory, size_t bytes);
void host_checksum(void *context, const void *memory, size_t bytes, struct checksum *out);

#ifdef __cplusplus
}
#endif
#endif
