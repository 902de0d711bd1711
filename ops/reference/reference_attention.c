#include "ops/reference/reference.h"

#include <math.h>

#include "common/memory.h"

static const float *row_of(const float *const runs[2], const struct key_rows *keys, int64_t j)
{
    if (j < keys->n[0])
        return runs[0] + j * keys->stride;
    return runs[1] + (j - keys->n[0]) * keys->stride;
}

double reference_attend(float *out, double *p, const float *q, const struct key_rows *keys,
                        int64_t D)
{
    int64_t n = keys->n[0] + keys->n[1];
    double maximum = -INFINITY, sum = 0;

    for (int64_t j = 0; j < n; j++) {
        const float *k = row_of(keys->k, keys, j);
        double dot = 0;
        for (int64_t d = 0; d < D; d++)
            dot += (double)q[d] * k[d];
        p[j] = dot / sqrt((double)D);
        maximum = p[j] > maximum ? p[j] : maximum;
    }
    for (int64_t j = 0; j < n; j++) {
        p[j] = exp(p[j] - maximum);
        sum += p[j];
    }
    for (int64_t d = 0; d < D; d++) {
        double total = 0;
        for (int64_t j = 0; j < n; j++)
            total += p[j] * row_of(keys->v, keys, j)[d];
        out[d] = (float)(total / sum);
    }
    return maximum + log(sum);
}

void reference_attention(void *context, struct tensor *out, struct tensor *lse,
                         const struct tensor *q, const struct tensor *k, const struct tensor *v,
                         const struct tensor *segments)
{
    int64_t N = q->shape[0], H = q->shape[1], D = q->shape[2], K = k->shape[1];
    const int32_t *bound = (const int32_t *)segments->data;
    double *p = mem_alloc((size_t)N, sizeof(*p));

    (void)context;
    for (int64_t s = 0; s + 1 < segments->shape[0]; s++)
        for (int64_t n = bound[s]; n < bound[s + 1]; n++)
            for (int64_t h = 0; h < H; h++) {
                int64_t first = (bound[s] * K + h / (H / K)) * D;
                struct key_rows keys = {.k = {tensor_f32(k) + first},
                                        .v = {tensor_f32(v) + first},
                                        .n = {n + 1 - bound[s], 0},
                                        .stride = K * D};
                int64_t row = n * H + h;
                double l = reference_attend(tensor_f32(out) + row * D, p,
                                            tensor_f32(q) + row * D, &keys, D);
                if (lse)
                    tensor_f32(lse)[row] = (float)l;
            }
    mem_free(p);
}

/* Gradients of one query row, in double: sums of many rows land in dk and dv. */
struct backward_sums {
    double *dq, *dk, *dv;
};

static void attend_backward(const struct backward_sums *sums, const float *dout, const float *q,
                            const float *k, const float *v, double lse, int64_t n, int64_t stride,
                            int64_t D)
{
    double scale = 1 / sqrt((double)D), delta = 0;

    /* Two passes: delta = sum of p dp, then ds = p (dp - delta) scale. */
    for (int pass = 0; pass < 2; pass++)
        for (int64_t j = 0; j < n; j++) {
            double dot = 0, dp = 0;
            for (int64_t d = 0; d < D; d++) {
                dot += (double)q[d] * k[j * stride + d];
                dp += (double)dout[d] * v[j * stride + d];
            }
            double p = exp(dot * scale - lse);
            if (pass == 0) {
                delta += p * dp;
                continue;
            }
            double ds = p * (dp - delta) * scale;
            for (int64_t d = 0; d < D; d++) {
                sums->dq[d] += ds * k[j * stride + d];
                sums->dk[j * stride + d] += ds * q[d];
                sums->dv[j * stride + d] += p * dout[d];
            }
        }
}

void reference_attention_backward(void *context, struct tensor *d_q, struct tensor *d_k,
                                  struct tensor *d_v, const struct tensor *d_out,
                                  const struct tensor *q, const struct tensor *k,
                                  const struct tensor *v, const struct tensor *out,
                                  const struct tensor *lse, const struct tensor *segments)
{
    int64_t N = q->shape[0], H = q->shape[1], D = q->shape[2], K = k->shape[1];
    const int32_t *bound = (const int32_t *)segments->data;
    double *dk = mem_alloc((size_t)(N * K * D), sizeof(*dk));
    double *dv = mem_alloc((size_t)(N * K * D), sizeof(*dv));
    double *dq = mem_alloc((size_t)(N * H * D), sizeof(*dq));

    (void)context;
    (void)out;
    for (int64_t s = 0; s + 1 < segments->shape[0]; s++)
        for (int64_t n = bound[s]; n < bound[s + 1]; n++)
            for (int64_t h = 0; h < H; h++) {
                int64_t row = (n * H + h) * D, first = (bound[s] * K + h / (H / K)) * D;
                struct backward_sums sums = {dq + row, dk + first, dv + first};
                attend_backward(&sums, tensor_f32(d_out) + row, tensor_f32(q) + row,
                                tensor_f32(k) + first, tensor_f32(v) + first,
                                tensor_f32(lse)[n * H + h], n + 1 - bound[s], K * D, D);
            }
    for (int64_t i = 0; i < N * H * D; i++)
        tensor_f32(d_q)[i] = (float)dq[i];
    for (int64_t i = 0; i < N * K * D; i++) {
        tensor_f32(d_k)[i] = (float)dk[i];
        tensor_f32(d_v)[i] = (float)dv[i];
    }
    mem_free(dk);
    mem_free(dv);
    mem_free(dq);
}
