/*
 * Attention of whole segments and of one decoded row, from the same steps:
 *   score[j] = q . k[j], one chain over D;  s = score / sqrt(D);  p = exp(s - max s);
 *   sum of p in 16 lanes by j;  out = (p[0] v[0] + p[1] v[1] + ... in order) / sum
 * None of them depends on how many rows share a tile or on where a run of keys ends.
 */
#include "ops/cpu/tile.h"

#define SEGMENT_ROWS TILE_ROWS

/* Keys of one head. */
struct key_run {
    const float *k, *v;
    int64_t n, stride;
};

/* Scores of n_rows queries against `keys` to score[r][0 ..]; writes up to 15 floats too many. */
INLINE void score_rows(float *const *score, const float *const *q, int64_t n_rows,
                       const float *panels, int64_t n_keys, int64_t D)
{
    struct tile tile = {.a_step = 1,
                        .b = panels,
                        .b_panel = D * LANES,
                        .b_step = LANES,
                        .n_steps = D,
                        .n_columns = round_up(n_keys, LANES)};

    for (int64_t r = 0; r < n_rows; r++) {
        tile.a[r] = q[r];
        tile.out[r] = score[r];
    }
    tile_multiply(&tile, n_rows);
}

/* out[r][0 .. D) (+)= sum over j of p[r][j] v[j]; p at a step of p_step. `spare` holds 16 n floats
 * for the last columns of an odd D, where a whole load would leave the array. */
INLINE void weigh_rows(float *const *out, const float *const *p, int64_t p_step, int64_t n_rows,
                       const float *v, int64_t stride, int64_t n, int64_t D, int accumulate,
                       float *spare)
{
    int64_t whole = D / LANES * LANES;
    struct tile tile = {.a_step = p_step,
                        .b = v,
                        .b_panel = LANES,
                        .b_step = stride,
                        .n_steps = n,
                        .n_columns = whole,
                        .accumulate = accumulate};

    for (int64_t r = 0; r < n_rows; r++) {
        tile.a[r] = p[r];
        tile.out[r] = out[r];
    }
    if (whole)
        tile_multiply(&tile, n_rows);
    if (whole == D)
        return;
    for (int64_t j = 0; j < n; j++)
        lanes_store(spare + j * LANES, lanes_load_part(v + j * stride + whole, D - whole, 0));
    tile.b = spare;
    tile.b_step = LANES;
    tile.n_columns = D - whole;
    for (int64_t r = 0; r < n_rows; r++)
        tile.out[r] = out[r] + whole;
    tile_multiply(&tile, n_rows);
}

/* Keys as panels [ceil(n/16)][D][16]. */
INLINE void make_panels(float *panels, const float *k, int64_t stride, int64_t n, int64_t D)
{
    for (int64_t j = 0; j < n; j += LANES)
        KERNEL(transpose_panel)
    (panels + j * D, k + j * stride, stride, min_i64(LANES, n - j), D);
}

/* Scores become exp(s - max s); zeros follow up to n_padded, a multiple of 16. Returns the sum. */
INLINE float soften_row(float *score, int64_t n, int64_t n_padded, float scale, float *maximum)
{
    struct lanes factor = lanes_all(scale), largest = lanes_all(-INFINITY), sum = lanes_all(0);
    int64_t used = round_up(n, LANES);

    for (int64_t j = n; j < used; j++)
        score[j] = -INFINITY;
    for (int64_t j = 0; j < used; j += LANES) {
        struct lanes s = lanes_multiply(lanes_load(score + j), factor);
        lanes_store(score + j, s);
        largest = lanes_max(s, largest);
    }
    *maximum = lanes_largest(largest);
    struct lanes top = lanes_all(*maximum);
    for (int64_t j = 0; j < used; j += LANES) {
        struct lanes p = lanes_exp(lanes_subtract(lanes_load(score + j), top));
        lanes_store(score + j, p);
        sum = lanes_add(sum, p);
    }
    for (int64_t j = used; j < n_padded; j += LANES)
        lanes_store(score + j, lanes_all(0));
    return lanes_sum(sum);
}

INLINE void scale_row(float *x, float factor, int64_t n)
{
    for (int64_t d = 0; d < n; d += LANES)
        lanes_put(x + d, lanes_multiply(lanes_get(x + d, n - d, 0), lanes_all(factor)), n - d);
}

INLINE float score_scale(int64_t D)
{
    return 1 / sqrtf((float)D);
}

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
