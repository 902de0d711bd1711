/* Attention of decoded rows against cached keys. */
#include "ops/cpu/attention.h"

int64_t KERNEL(attention_decode_scratch)(int64_t n_keys, int64_t n_rows, int64_t D)
{
    int64_t padded = round_up(n_keys, LANES) + LANES;
    return padded * D + (n_rows + LANES) * padded;
}

/* What the rows of one decode task have in common. */
struct decode_rows {
    const float *q[TILE_ROWS];
    float *out[TILE_ROWS], *score[TILE_ROWS];
};

/* Points at n_rows of the rows (sequence, head of the group), counted through all sequences. */
INLINE void find_decode_rows(struct decode_rows *rows, const struct attention_step *job,
                             int64_t first, int64_t kv_head, int64_t row, int64_t n_rows,
                             float *scores, int64_t padded)
{
    int64_t group = job->H / job->K;

    for (int64_t r = 0; r < n_rows; r++) {
        int64_t sequence = first + (row + r) / group, h = kv_head * group + (row + r) % group;
        rows->q[r] = job->q + (sequence * job->H + h) * job->D;
        rows->out[r] = job->out + (sequence * job->H + h) * job->D;
        rows->score[r] = scores + (row + r) * padded;
    }
}

void KERNEL(attention_decode)(const struct attention_step *job, int64_t first, int64_t last,
                              int64_t kv_head, float *scratch)
{
    const struct attention_keys *keys = job->keys;
    int64_t K = job->K, D = job->D, group = job->H / K, n_rows = (last - first) * group;
    int64_t shared = keys[first].n[0], most = shared, at = kv_head * D, stride = K * D;

    for (int64_t n = first; n < last; n++)
        most = keys[n].n[1] + shared > most ? keys[n].n[1] + shared : most;
    int64_t padded = round_up(most, LANES) + LANES;
    float *panels = scratch, *scores = panels + padded * D, *spare = scores + n_rows * padded;
    struct decode_rows rows;

    if (shared)
        make_panels(panels, keys[first].k[0] + at, stride, shared, D);
    for (int64_t row = 0; shared && row < n_rows; row += TILE_ROWS) {
        int64_t n = min_i64(TILE_ROWS, n_rows - row);
        find_decode_rows(&rows, job, first, kv_head, row, n, scores, padded);
        score_rows(rows.score, rows.q, n, panels, shared, D);
    }
    for (int64_t s = first; s < last; s++) {
        int64_t own = keys[s].n[1];
        if (own)
            make_panels(panels, keys[s].k[1] + at, stride, own, D);
        for (int64_t row = 0; own && row < group; row += TILE_ROWS) {
            int64_t n = min_i64(TILE_ROWS, group - row);
            find_decode_rows(&rows, job, first, kv_head, (s - first) * group + row, n,
                             scores + shared, padded);
            score_rows(rows.score, rows.q, n, panels, own, D);
        }
    }
    for (int64_t row = 0; row < n_rows; row += TILE_ROWS) {
        int64_t n = min_i64(TILE_ROWS, n_rows - row);
        float maximum, sum[TILE_ROWS];
        find_decode_rows(&rows, job, first, kv_head, row, n, scores, padded);
        for (int64_t r = 0; r < n; r++) {
            int64_t n_keys = shared + keys[first + (row + r) / group].n[1];
            sum[r] = soften_row(rows.score[r], n_keys, 0, score_scale(D), &maximum);
            scores[(row + r) * padded + padded - 1] = sum[r];
        }
        if (shared)
            weigh_rows(rows.out, (const float *const *)rows.score, 1, n, keys[first].v[0] + at,
                       stride, shared, D, 0, spare);
    }
    for (int64_t s = first; s < last; s++)
        for (int64_t row = 0; row < group; row += TILE_ROWS) {
            int64_t n = min_i64(TILE_ROWS, group - row), own = keys[s].n[1];
            int64_t in_task = (s - first) * group + row;
            find_decode_rows(&rows, job, first, kv_head, in_task, n, scores + shared, padded);
            if (own)
                weigh_rows(rows.out, (const float *const *)rows.score, 1, n, keys[s].v[1] + at,
                           stride, own, D, shared > 0, spare);
            for (int64_t r = 0; r < n; r++)
                scale_row(rows.out[r], 1 / scores[(in_task + r) * padded + padded - 1], D);
        }
}
