/*
 * ops/ops.h - the arithmetic of the project, once per backend.
 *
 * A backend is a const struct ops_table (ops/backend.h): ops/reference/ is plain loops with double
 * sums, the law; ops/cpu/ is the fast default; ops/cuda/ is the GPU. Callers use the functions
 * below: they check shapes once, for all backends, then dispatch. A wrong shape is BUG(). A device
 * error is sticky: later ops do nothing and ops_sync() returns it, so that model code reads like
 * the maths.
 *
 * Exactness. Each output element is one sum in a fixed order that depends on neither the number of
 * rows, nor threads, nor the vector width: row n of a product of 1,000 rows equals, bit for bit,
 * the product of that row alone. Rollout and learner share these functions, so that their
 * log-probabilities agree.
 *
 * Letters: N rows (tokens), C channels in, M channels out, H query heads, K key/value heads,
 * D head width, V vocabulary, S segments. All tensors are contiguous row-major float32, index
 * arrays int32; weights are matrices (below). "+=" means that the result is added to what is
 * there.
 */
#ifndef HONE_OPS_OPS_H
#define HONE_OPS_OPS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum dtype { DTYPE_F32, DTYPE_BF16, DTYPE_I32 };

/* A view of contiguous row-major memory. It never owns what it points at. */
struct tensor {
    void *data;
    enum dtype dtype;
    int n_dims;
    int64_t shape[4];
};

struct tensor tensor_view(void *data, enum dtype dtype, int n_dims, const int64_t *shape);
struct tensor tensor_1d(void *data, int64_t a);                          /* float32 */
struct tensor tensor_2d(void *data, int64_t a, int64_t b);
struct tensor tensor_3d(void *data, int64_t a, int64_t b, int64_t c);
struct tensor tensor_i32(const int32_t *data, int64_t a);
int64_t tensor_count(const struct tensor *tensor);                       /* elements */
static inline float *tensor_f32(const struct tensor *tensor) { return (float *)tensor->data; }

struct ops; /* one device, its threads, one sticky status */

/* Opens "cpu", "reference", "cuda:0". n_threads 0 means one per core this process may use; the
 * number of threads never changes a result. STATUS_UNSUPPORTED when there is no such device. */
int ops_create(struct ops **out, const char *device, int n_threads);
void ops_destroy(struct ops **ops);
int ops_sync(struct ops *ops);                /* waits; the first failure since the last sync */
int ops_is_host(const struct ops *ops);       /* 1: device memory is the host's */
const char *ops_name(const struct ops *ops);  /* "cpu (avx512, 2 threads)": for logs and doctor */
double ops_memory_bytes(const struct ops *ops);   /* all that the device has */

/* Memory on the device, aligned to 64 bytes and zeroed. Copies are complete after ops_sync(). */
int ops_alloc(struct ops *ops, size_t bytes, void **out);
void ops_free(struct ops *ops, void *memory);
void ops_upload(struct ops *ops, void *device, const void *host, size_t bytes);
void ops_download(struct ops *ops, void *host, const void *device, size_t bytes);
void ops_copy(struct ops *ops, void *to, const void *from, size_t bytes);   /* on the device */
void ops_zero(struct ops *ops, void *memory, size_t bytes);

/* A second queue beside that of the ops, for transfers between GPUs: the backend's handle. What is
 * put there from now on begins after all ops so far, and goes on beside later ones. NULL where
 * ops_is_host(). It is_idle when all of it is done: 1, 0, or a failure. */
void *ops_side_queue(struct ops *ops);
int ops_side_is_idle(struct ops *ops);

/* ---- Memory that other processes on this machine can open, where the backend has such.
 * The place says whose: processes with equal ones ("boot id/card") can open each other's; "" when
 * memory is the process's own. */
#define OPS_PLACE_BYTES 80
#define OPS_HANDLE_BYTES 64
struct ops_handle {
    unsigned char bytes[OPS_HANDLE_BYTES];
};
const char *ops_place(const struct ops *ops);
/* A handle to what ops_alloc() gave; it is good while the memory is. What was written before
 * ops_sync() is seen by who opens it afterwards. */
int ops_export(struct ops *ops, void *memory, struct ops_handle *handle);
/* Another process's memory, to be read, until ops_import_end(). */
int ops_import(struct ops *ops, const struct ops_handle *handle, void **out);
void ops_import_end(struct ops *ops, void *memory);
/* Finds damage, not forgery. With w[i] the 64-bit words (bytes is a multiple of 8) and mix() the
 * end of splitmix64 (Steele et al. 2014): sums[j] = sum over i of mix(w[i] + G (4 i + j + 1)),
 * modulo 2^64, G = 0x9e3779b97f4a7c15. The same on every backend. */
struct checksum {
    uint64_t sums[4];
};
void ops_checksum(struct ops *ops, const void *memory, size_t bytes, struct checksum *out);

/* ---- Recorded ops, where a device is told of each at some cost (CUDA graphs). Between begin and
 * end ops are recorded, not run; a launch runs them with the views and numbers that they had, and
 * what lies in device memory then. An upload, a download, an allocation or an op that needs scratch
 * memory cannot be recorded: end() fails, and the device goes on. */
int ops_can_record(const struct ops *ops);
void ops_record_begin(struct ops *ops);
int ops_record_end(struct ops *ops, void **recording);
void ops_record_launch(struct ops *ops, void *recording);
void ops_record_free(struct ops *ops, void *recording);

/* The device twin of struct arena: one allocation, views carved from it, all dropped by rewinding
 * `used`. With base NULL it only measures: carve once to learn high_water, allocate that, carve
 * again. Nothing is allocated after step 0. */
struct ops_arena {
    unsigned char *base;
    size_t capacity, used, high_water;
};
struct tensor ops_arena_carve(struct ops_arena *arena, enum dtype dtype, int n_dims,
                              const int64_t *shape);

/* ---- Weights [M,C], as in Hugging Face files, in the form in which products read them. Both forms
 * give the same bits.
 *
 * MATRIX_ROWS: float32, row after row; it can be trained. An adapter adds scale * b a to it (LoRA,
 * Hu et al. 2021); with dtype DTYPE_BF16 the sum is rounded to bfloat16 (nearest, ties to even) on
 * its way into a product.
 * MATRIX_PANELS: of float32 or bfloat16, in panels of OPS_PANEL outputs, zero-filled: written once,
 * read many times. On the CPU [ceil(M/16)][C][16]; of bfloat16 [ceil(M/16)][ceil(C/2)][16][2].
 *
 * What is multiplied with a matrix of DTYPE_BF16 is rounded to bfloat16 as well; so are d_out and
 * `in` for the gradient of one. Sums are float32. On the CPU they walk in pairs of steps: in each
 * first the odd one, then the even one, each a fused multiply-add; a zero completes the last pair.
 * Numbers below 2^-126 are taken and given as zero. To the bit, that is what its instruction for
 * bfloat16 does. */
#define OPS_PANEL 16
enum matrix_form { MATRIX_ROWS, MATRIX_PANELS };
struct adapter {
    int64_t rank;           /* 0: none */
    float scale;
    const float *a, *b;     /* device memory: [rank,C], [M,rank] */
};
struct matrix {
    enum matrix_form form;
    enum dtype dtype;
    int64_t M, C;
    void *data;             /* device memory; the matrix is a view */
    struct adapter adapter; /* MATRIX_ROWS alone */
};
struct matrix matrix_rows(const void *data, int64_t M, int64_t C);   /* float32, no adapter */
size_t ops_matrix_bytes(const struct matrix *matrix);
/* Rows first .. first + n - 1 as products see them, into rows[n,C]. */
void ops_matrix_read(struct ops *ops, struct tensor *rows, const struct matrix *matrix,
                     int64_t first);
/* rows[n,C] into MATRIX_PANELS from row `first` on, rounded to its dtype. first is a multiple of
 * OPS_PANEL, and n as well unless the rows reach M. */
void ops_matrix_write(struct ops *ops, struct matrix *matrix, const struct tensor *rows,
                      int64_t first);
/* out = in rounded to bfloat16, still float32; they may be the same memory. */
void ops_round_bf16(struct ops *ops, struct tensor *out, const struct tensor *in);

/* ---- Products. out[N,M] = in[N,C] * weight^T + bias[M]; bias may be NULL. */
void ops_matmul(struct ops *ops, struct tensor *out, const struct tensor *in,
                const struct matrix *weight, const struct tensor *bias);
/* d_in[N,C] += d_out[N,M] * weight */
void ops_matmul_backward_input(struct ops *ops, struct tensor *d_in, const struct tensor *d_out,
                               const struct matrix *weight);
/* d_weight[M,C] += d_out[N,M]^T * in[N,C];  d_bias[M] += sum over rows (may be NULL) */
void ops_matmul_backward_weight(struct ops *ops, struct tensor *d_weight, struct tensor *d_bias,
                                const struct tensor *d_out, const struct tensor *in);

/* Products that share their input, in one go: the same bits as one after another, each followed by
 * out += residual. The outs and the residuals are distinct memory. */
#define OPS_MOST_PRODUCTS 4
struct ops_product {
    struct tensor *out;
    const struct matrix *weight;
    const struct tensor *bias, *residual;   /* [M], [N,M]; each may be NULL */
};
void ops_matmul_several(struct ops *ops, const struct ops_product *products, int n,
                        const struct tensor *in);
/* Their gradients: d_in = the sum over products in their order (written, not added to), and
 * d_weight += ..., d_bias += ... of each. */
struct ops_product_gradient {
    const struct tensor *d_out;
    const struct matrix *weight;         /* of d_in; of d_weight its dtype alone (NULL: float32) */
    struct tensor *d_weight, *d_bias;    /* of the others; d_bias may be NULL */
};
void ops_matmul_backward_inputs(struct ops *ops, struct tensor *d_in,
                                const struct ops_product_gradient *gradients, int n);
void ops_matmul_backward_weights(struct ops *ops, const struct ops_product_gradient *gradients,
                                 int n, const struct tensor *in);

/* ---- Row-wise. out = in / sqrt(mean(in^2) + eps) * weight; rstd[N] is kept for backward (may be
 * NULL when there will be none). in is [N,C]; q/k norm passes [N*H, D] with weight[D]. */
void ops_rmsnorm(struct ops *ops, struct tensor *out, struct tensor *rstd, const struct tensor *in,
                 const struct tensor *weight, float eps);
/* d_in += ...; d_weight += ...; d_in and d_out may not be the same memory */
void ops_rmsnorm_backward(struct ops *ops, struct tensor *d_in, struct tensor *d_weight,
                          const struct tensor *d_out, const struct tensor *in,
                          const struct tensor *weight, const struct tensor *rstd);

/* In place on x[N,H,D]: pair (i, i + D/2) of row n is turned by the angle whose cosine and sine
 * are table[positions[n]][0][i], table[..][1][i]; table is [T,2,D/2]. `inverse` turns back (which
 * is the backward pass). The "rotate half" convention of Hugging Face. */
void ops_rope(struct ops *ops, struct tensor *x, const struct tensor *table,
              const struct tensor *positions, int inverse);

/* out = silu(gate) * up, all [N,F] */
void ops_swiglu(struct ops *ops, struct tensor *out, const struct tensor *gate,
                const struct tensor *up);
/* d_gate = ..., d_up = ... (written); each may be the same memory as gate and up */
void ops_swiglu_backward(struct ops *ops, struct tensor *d_gate, struct tensor *d_up,
                         const struct tensor *d_out, const struct tensor *gate,
                         const struct tensor *up);

void ops_add(struct ops *ops, struct tensor *out, const struct tensor *in);   /* out += in */
void ops_scale(struct ops *ops, struct tensor *x, float factor);

/* out[N,C] = table[tokens[n]];  backward: d_table[tokens[n]] += d_out[n], rows in order */
void ops_embedding(struct ops *ops, struct tensor *out, const struct matrix *table,
                   const struct tensor *tokens);
void ops_embedding_backward(struct ops *ops, struct tensor *d_table, const struct tensor *d_out,
                            const struct tensor *tokens);

/* out[R,C] = in[rows[r]];  backward: d_in[rows[r]] += d_out[r] (rows are distinct) */
void ops_gather_rows(struct ops *ops, struct tensor *out, const struct tensor *in,
                     const struct tensor *rows);
void ops_scatter_add_rows(struct ops *ops, struct tensor *d_in, const struct tensor *d_out,
                          const struct tensor *rows);

/* ---- Attention. Causal, within segments: segment s is rows segments[s] .. segments[s+1]-1, and
 * each row sees the rows of its own segment up to itself. q, out [N,H,D]; k, v [N,K,D]; query head
 * h uses key/value head h / (H/K). Scale 1/sqrt(D). lse[N,H] = log of the sum of exp, kept for
 * backward (may be NULL).
 * prefixes[S] (NULL: none): the rows of segment s see first all rows of segment prefixes[s], which
 * is an earlier one without a prefix, or -1. Each row's bits are those of the same keys in one
 * segment: so the completions of a group share the rows of their prompt. */
void ops_attention(struct ops *ops, struct tensor *out, struct tensor *lse, const struct tensor *q,
                   const struct tensor *k, const struct tensor *v, const struct tensor *segments,
                   const struct tensor *prefixes);
/* d_q, d_k, d_v are written (not added to); those of a prefix collect from all that see it, in the
 * order of the rows */
void ops_attention_backward(struct ops *ops, struct tensor *d_q, struct tensor *d_k,
                            struct tensor *d_v, const struct tensor *d_out, const struct tensor *q,
                            const struct tensor *k, const struct tensor *v,
                            const struct tensor *out, const struct tensor *lse,
                            const struct tensor *segments, const struct tensor *prefixes);

/* ---- Decoding. The keys and values of one layer: rows that fresh tokens fill and later ones read,
 * in pages: row r is row r % page_rows of page r / page_rows. How they lie in memory is the
 * backend's. */
struct kv_cache {
    int64_t n_rows, K, D;   /* n_rows is a multiple of page_rows */
    int64_t page_rows;      /* a power of two, at least OPS_PANEL */
    void *data;             /* device memory of ops_cache_bytes(); the cache is a view */
};
size_t ops_cache_bytes(const struct kv_cache *cache);
/* Row rows[n] becomes k[n], v[n], both [N,K,D]; rows[N] are distinct. */
void ops_cache_store(struct ops *ops, struct kv_cache *cache, const struct tensor *k,
                     const struct tensor *v, const struct tensor *rows);
/* Query row n sees two runs of the cache: runs[4n ..] is (first page, rows, first page, rows), a
 * prompt and what follows it; one of them may have no rows. A run fills, one after the other, the
 * pages pages[first], pages[first + 1], ... Equal, bit for bit, to the row that ops_attention()
 * gives for the same keys in one segment, whichever pages they lie in. q, out [N,H,D]. Neighbours
 * in the batch whose first runs start at the same place of `pages` (the samples of a group, the
 * tokens of a prompt) read it together. */
void ops_attention_decode(struct ops *ops, struct tensor *out, const struct tensor *q,
                          const struct kv_cache *cache, const struct tensor *pages,
                          const struct tensor *runs);

/* One token each from softmax(logits[row] / temperature): of the top_k likeliest tokens, the fewest
 * that have top_p of their probability, then the inverse of the cumulative distribution at
 * `uniform`, in id order. Of equally likely tokens the lower id comes first. Temperature 0 takes
 * the likeliest. A NaN has no probability. logprobs[n] is what ops_token_logprob() gives for the
 * token (before top_k and top_p; at temperature 1 for 0), bit for bit. */
struct draw {
    double uniform;             /* in [0,1) */
    float temperature, top_p;   /* top_p 1: off */
    int32_t top_k;              /* 0: off */
    int32_t row;
};
/* draws[N] is device memory; tokens[N] int32. */
void ops_sample(struct ops *ops, struct tensor *tokens, struct tensor *logprobs,
                const struct tensor *logits, const struct draw *draws);

/* ---- Head. With z = logits / temperature:
 * logprob[n] = z[n, targets[n]] - logsumexp(z[n,:]); entropy[n] of softmax(z), may be NULL. */
void ops_token_logprob(struct ops *ops, struct tensor *logprob, struct tensor *entropy,
                       const struct tensor *logits, const struct tensor *targets,
                       float temperature);
/* In place: logits[n,:] becomes d_logprob[n] * (onehot(target) - softmax(z)) / temperature */
void ops_token_logprob_backward(struct ops *ops, struct tensor *logits,
                                const struct tensor *d_logprob, const struct tensor *targets,
                                float temperature);

/* ---- Optimizer. Sums run in fixed blocks: the result does not depend on threads. */
double ops_sum_squares(struct ops *ops, const struct tensor *x);
int ops_all_finite(struct ops *ops, const struct tensor *x);   /* 1 when no NaN or Inf */

/* AdamW (Loshchilov and Hutter 2019) as torch.optim.AdamW computes it; step counts from 1.
 *   w -= lr * weight_decay * w;  m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2
 *   w -= lr * (m / (1-b1^step)) / (sqrt(v / (1-b2^step)) + eps)
 * with g = gradient * gradient_scale (the clip factor). */
struct adamw_step {
    double learning_rate, beta1, beta2, epsilon, weight_decay, gradient_scale;
    int64_t step;
};
void ops_adamw(struct ops *ops, struct tensor *weight, struct tensor *m, struct tensor *v,
               const struct tensor *gradient, const struct adamw_step *adamw);

#ifdef __cplusplus
}
#endif
#endif
