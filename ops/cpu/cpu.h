/*
 * ops/cpu/cpu.h - the CPU device: a pool, a kernel table, scratch memory. Private to ops/cpu/.
 *
 * cpu_*.c cut an op into ranges and hand them to the kernels. Cuts go across outputs, never through
 * a sum, or at fixed places that do not depend on the number of threads.
 */
#ifndef HONE_OPS_CPU_CPU_H
#define HONE_OPS_CPU_CPU_H

#include "ops/backend.h"
#include "ops/cpu/kernels.h"
#include "ops/cpu/pool.h"

enum cpu_scratch { CPU_SCRATCH_SHARED, CPU_SCRATCH_TASKS, CPU_SCRATCH_THREADS,
                   CPU_N_SCRATCH };

struct cpu {
    const struct kernels *kernels;
    struct pool *pool;
    int status;                          /* sticky until sync */
    void *scratch[CPU_N_SCRATCH];        /* grows to the largest op, freed at close */
    size_t scratch_bytes[CPU_N_SCRATCH];
    char description[64];
};

static inline int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* At least `bytes`, undefined content; NULL (and the sticky status) when there is no memory or an
 * earlier op failed: the op then does nothing. */
void *cpu_scratch(struct cpu *cpu, enum cpu_scratch which, size_t bytes);

/* Steps of a panel of outputs: numbers, or pairs of bfloat16. */
int64_t cpu_panel_steps(const struct matrix *matrix);
/* Steps step .. step + n_steps - 1 (of bfloat16: an even one first) of n_panels panels of 16 from
 * `panel` on, as a product reads them, into panels[n_panels][n_steps][16], or pairs. Panels of
 * outputs walk along the rows of a matrix (not one that holds panels: those are packed); panels of
 * inputs walk down its columns. `rows` is scratch for n_panels * n_steps * 16 floats, where the
 * matrix has an adapter or holds panels. */
void cpu_pack_outputs(const struct kernels *kernels, const struct matrix *matrix, int64_t panel,
                      int64_t n_panels, int64_t step, int64_t n_steps, float *panels, float *rows);
void cpu_pack_inputs(const struct kernels *kernels, const struct matrix *matrix, int64_t panel,
                     int64_t n_panels, int64_t step, int64_t n_steps, float *panels, float *rows);

/* Runs body over [0, n) in ranges that start at multiples of `align`. `cost` is that of one item,
 * in vector instructions or so: small loops stay on the calling thread. */
void cpu_loop(struct cpu *cpu, int64_t n, int64_t align, double cost,
              void (*body)(void *job, int64_t first, int64_t last), void *job);

void cpu_copy(void *context, void *to, const void *from, size_t bytes);
void cpu_zero(void *context, void *memory, size_t bytes);
void cpu_matrix_read(void *context, struct tensor *rows, const struct matrix *matrix,
                     int64_t first);
void cpu_matrix_write(void *context, struct matrix *matrix, const struct tensor *rows,
                      int64_t first);
void cpu_round_bf16(void *context, struct tensor *out, const struct tensor *in);
void cpu_embedding(void *context, struct tensor *out, const struct matrix *table,
                   const struct tensor *tokens);
void cpu_matmul(void *context, struct tensor *out, const struct tensor *in,
                const struct matrix *weight, const struct tensor *bias);
void cpu_matmul_backward_input(void *context, struct tensor *d_in, const struct tensor *d_out,
                               const struct matrix *weight);
void cpu_matmul_several(void *context, const struct ops_product *products, int n,
                        const struct tensor *in);
void cpu_matmul_backward_inputs(void *context, struct tensor *d_in,
                                const struct ops_product_gradient *gradients, int n);
void cpu_matmul_backward_weights(void *context, const struct ops_product_gradient *gradients, int n,
                                 const struct tensor *in);
void cpu_rmsnorm(void *context, struct tensor *out, struct tensor *rstd, const struct tensor *in,
                 const struct tensor *weight, float eps);
void cpu_rmsnorm_backward(void *context, struct tensor *d_in, struct tensor *d_weight,
                          const struct tensor *d_out, const struct tensor *in,
                          const struct tensor *weight, const struct tensor *rstd);
void cpu_rope(void *context, struct tensor *x, const struct tensor *table,
              const struct tensor *positions, int inverse);
void cpu_swiglu(void *context, struct tensor *out, const struct tensor *gate,
                const struct tensor *up);
void cpu_swiglu_backward(void *context, struct tensor *d_gate, struct tensor *d_up,
                         const struct tensor *d_out, const struct tensor *gate,
                         const struct tensor *up);
void cpu_add(void *context, struct tensor *out, const struct tensor *in);
void cpu_scale(void *context, struct tensor *x, float factor);
void cpu_gather_rows(void *context, struct tensor *out, const struct tensor *in,
                     const struct tensor *rows);
void cpu_scatter_add_rows(void *context, struct tensor *d_in, const struct tensor *d_out,
                          const struct tensor *rows);
void cpu_embedding_backward(void *context, struct tensor *d_table, const struct tensor *d_out,
                            const struct tensor *tokens);
void cpu_attention(void *context, struct tensor *out, struct tensor *lse, const struct tensor *q,
                   const struct tensor *k, const struct tensor *v, const struct tensor *segments,
                   const struct tensor *prefixes);
void cpu_attention_backward(void *context, struct tensor *d_q, struct tensor *d_k,
                            struct tensor *d_v, const struct tensor *d_out, const struct tensor *q,
                            const struct tensor *k, const struct tensor *v,
                            const struct tensor *out, const struct tensor *lse,
                            const struct tensor *segments, const struct tensor *prefixes);
void cpu_cache_store(void *context, struct kv_cache *cache, const struct tensor *k,
                     const struct tensor *v, const struct tensor *rows);
void cpu_attention_decode(void *context, struct tensor *out, const struct tensor *q,
                          const struct kv_cache *cache, const struct tensor *pages,
                          const struct tensor *runs);
void cpu_sample(void *context, struct tensor *tokens, struct tensor *logprobs,
                const struct tensor *logits, const struct draw *draws);
void cpu_token_logprob(void *context, struct tensor *logprob, struct tensor *entropy,
                       const struct tensor *logits, const struct tensor *targets,
                       float temperature);
void cpu_token_logprob_backward(void *context, struct tensor *logits,
                                const struct tensor *d_logprob, const struct tensor *targets,
                                float temperature);
double cpu_sum_squares(void *context, const struct tensor *x);
int cpu_all_finite(void *context, const struct tensor *x);
void cpu_adamw(void *context, struct tensor *weight, struct tensor *m, struct tensor *v,
               const struct tensor *gradient, const struct adamw_step *adamw);

#endif
