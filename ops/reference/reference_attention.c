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

/* The rows that rows of segment s see before their own: n[0] of them from first[0] on. Own ones
 * start at first[1]. */
struct visible {
    int64_t first[2], n[2];
};

static struct visible visible_rows(const struct tensor *segments, const struct tensor *prefixes,
                                   int64_t s)
{
    const int32_t *bound = (const int32_t *)segments->data;
    int32_t prefix = prefixes ? ((const int32_t *)prefixes->data)[s] : -1;
    struct visible visible = {{0, bound[s]}, {0, 0}};

    if (prefix >= 0) {
        visible.first[0] = bound[prefix];
        visible.n[0] = bound[prefix + 1] - bound[prefix];
    }
    return visible;
}

void reference_attention(void *context, struct tensor *out, struct tensor *lse,
                         const struct tensor *q, const struct tensor *k, const struct tensor *v,
                         const struct tensor *segments, const struct tensor *prefixes)
{
    int64_t N = q->shape[0], H = q->shape[1], D = q->shape[2], K = k->shape[1];
    const int32_t *bound = (const int32_t *)segments->data;
    double *p = mem_alloc((size_t)N, sizeof(*p));

    (void)context;
    for (int64_t s = 0; s + 1 < segments->shape[0]; s++)
        for (int64_t n = bound[s]; n < bound[s + 1]; n++)
            for (int64_t h = 0; h < H; h++) {
                struct visible visible = visible_rows(segments, prefixes, s);
                struct key_rows keys = {.n = {visible.n[0], n + 1 - bound[s]}, .stride = K * D};
                for (int r = 0; r < 2; r++) {
                    int64_t first = (visible.first[r] * K + h / (H / K)) * D;
                    keys.k[r] = tensor_f32(k) + first;
                    keys.v[r] = tensor_f32(v) + first;
                }
                int64_t row = n * H + h;
                double l = reference_attend(tensor_f32(out) + row * D, p,
                                            tensor_f32(q) + row * D, &keys, D);
                if (lse)
                    tensor_f32(lse)[row] = (float)l;
            }
    mem_free(p);
}

/* Gradients of one query row, in double: sums of many rows land in dk and dv, which lie as k does.
 * The head's column is in the pointers already. */
struct backward_row {
    const float *dout, *q, *k, *v;
    double *dq, *dk, *dv, lse;
    int64_t stride, D;
};

static void attend_backward(const struct backward_row *row, const struct visible *visible)
{
    double scale = 1 / sqrt((double)row->D), delta = 0;

    /* Two passes: delta = sum of p dp, then ds = p (dp - delta) scale. */
    for (int pass = 0; pass < 2; pass++)
        for (int64_t j = 0; j < visible->n[0] + visible->n[1]; j++) {
            int64_t at = (j < visible->n[0] ? visible->first[0] + j
                                            : visible->first[1] + j - visible->n[0]) * row->stride;
            double dot = 0, dp = 0;
            for (int64_t d = 0; d < row->D; d++) {
                dot += (double)row->q[d] * row->k[at + d];
                dp += (double)row->dout[d] * row->v[at + d];
            }
            double p = exp(dot * scale - row->lse);
            if (pass == 0) {
                delta += p * dp;
                continue;
            }
            double ds = p * (dp - delta) * scale;
            for (int64_t d = 0; d < row->D; d++) {
                row->dq[d] += ds * row->k[at + d];
                row->dk[at + d] += ds * row->q[d];
                row->dv[at + d] += p * row->dout[d];
            }
        }
}

void reference_attention_backward(void *context, struct tensor *d_q, struct tensor *d_k,
                                  struct tensor *d_v, const struct tensor *d_out,
                                  const struct tensor *q, const struct tensor *k,
                                  const struct tensor *v, const struct tensor *out,
                                  const struct tensor *lse, const struct tensor *segments,
                                  const struct tensor *prefixes)
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
                struct visible visible = visible_rows(segments, prefixes, s);
                int64_t at = (n * H + h) * D, head = h / (H / K) * D;
                struct backward_row row = {
                    tensor_f32(d_out) + at, tensor_f32(q) + at, tensor_f32(k) + head,
                    tensor_f32(v) + head,   dq + at,            dk + head,
                    dv + head,              tensor_f32(lse)[n * H + h], K * D, D};
                visible.n[1] = n + 1 - bound[s];
                attend_backward(&row, &visible);
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
