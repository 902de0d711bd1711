/* Attention of whole segments. */
#include "ops/cpu/attention.h"

#define SEGMENT_ROWS TILE_ROWS

int64_t KERNEL(attention_scratch)(int64_t n_keys, int64_t D)
{
    int64_t padded = round_up(n_keys, LANES);
    return padded * D + (SEGMENT_ROWS + LANES) * padded + 2 * n_keys * D;
}

INLINE void gather_keys(float *to, const float *from, const struct attention_span *span, int64_t K,
                        int64_t D, int64_t kv_head)
{
    for (int64_t j = 0; j < span->n_prefix + span->last - span->segment; j++) {
        int64_t row = j < span->n_prefix ? span->prefix + j : span->segment + j - span->n_prefix;
        memcpy(to + j * D, from + (row * K + kv_head) * D, (size_t)D * sizeof(*to));
    }
}

void KERNEL(attention)(const struct attention_forward *job, const struct attention_span *span,
                       int64_t kv_head, float *scratch)
{
    int64_t H = job->H, K = job->K, D = job->D;
    int64_t segment = span->segment - span->n_prefix, first = span->first, last = span->last;
    int64_t n_keys = last - segment, padded = round_up(n_keys, LANES);
    float *panels = scratch, *scores = panels + padded * D;
    float *spare = scores + SEGMENT_ROWS * padded;
    float *k = spare + LANES * padded, *v = k + n_keys * D;

    gather_keys(k, job->k, span, K, D, kv_head);
    gather_keys(v, job->v, span, K, D, kv_head);
    make_panels(panels, k, D, n_keys, D);
    for (int64_t h = kv_head * (H / K); h < (kv_head + 1) * (H / K); h++)
        for (int64_t row = first; row < last; row += SEGMENT_ROWS) {
            int64_t n_rows = min_i64(SEGMENT_ROWS, last - row), n = row + n_rows - segment;
            const float *q[SEGMENT_ROWS], *p[SEGMENT_ROWS];
            float *score[SEGMENT_ROWS], *out[SEGMENT_ROWS], sum[SEGMENT_ROWS];
            for (int64_t r = 0; r < n_rows; r++) {
                q[r] = job->q + ((row + r) * H + h) * D;
                out[r] = job->out + ((row + r) * H + h) * D;
                p[r] = score[r] = scores + r * padded;
            }
            score_rows(score, q, n_rows, panels, n, D);
            for (int64_t r = 0; r < n_rows; r++) {
                float maximum;
                sum[r] = soften_row(score[r], row + r - segment + 1, round_up(n, LANES),
                                    score_scale(D), &maximum);
                if (job->lse)
                    job->lse[(row + r) * H + h] = maximum + logf(sum[r]);
            }
            /* A row's p is 0 for the keys behind it, which leaves its chain as it is. */
            weigh_rows(out, p, 1, n_rows, v, D, n, D, 0, spare);
            for (int64_t r = 0; r < n_rows; r++)
                scale_row(out[r], 1 / sum[r], D);
        }
}
