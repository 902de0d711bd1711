/*
 * Drawing a token. With w = exp(z - max z), as the sums of token_logprob have it:
 *   no top_k, no top_p: the blocks' sums find the block, its weights the token;
 *   else: the weights that can be kept become candidates, the least of them that is kept is found
 *   by its bits, eight at a time, and the draw walks over those that are left.
 * Sums over tokens are double and run in id order.
 */
#include "ops/cpu/head.h"

float KERNEL(largest_logit)(const float *logits, float factor, int64_t first, int64_t last)
{
    return largest_scaled(logits, first, last, factor);
}

float KERNEL(softmax_block)(const float *logits, int64_t V, float factor, float maximum,
                            int64_t first)
{
    return sum_block(logits, V, first, factor, maximum, NULL);
}

float KERNEL(drawn_logprob)(const float *logits, int32_t token, const struct softmax_sums *sums)
{
    return logprob_of(logits[token], sums->factor, sums->maximum, sums->total);
}

INLINE int32_t find_largest(const float *logits, int64_t V, const struct softmax_sums *sums)
{
    int32_t best = 0;

    for (int64_t i = 0; sums->factor == 1 && i < V; i++)
        if (logits[i] == sums->maximum)
            return (int32_t)i;
    for (int64_t i = 1; i < V; i++)
        if (logits[i] > logits[best] || isnan(logits[best]))
            best = (int32_t)i;
    return best;
}

/* w of i .. i + 15; 0 behind the end and for a NaN. */
INLINE void weigh_lanes(float *w, const float *logits, int64_t i, int64_t V,
                        const struct softmax_sums *sums)
{
    struct lanes z = lanes_subtract(scaled(logits, i, V, lanes_all(sums->factor)),
                                    lanes_all(sums->maximum));
    lanes_store(w, lanes_exp(z));
    for (int64_t lane = 0; lane < LANES; lane++)
        w[lane] = i + lane < V && w[lane] > 0 ? w[lane] : 0;
}

INLINE int32_t draw_by_blocks(const float *logits, int64_t V, double uniform,
                              const struct softmax_sums *sums)
{
    double wanted = uniform * sums->total, sum = 0;
    int64_t block = 0, n_blocks = (V + SUM_BLOCK - 1) / SUM_BLOCK, last = 0;
    int32_t token = 0;
    float w[LANES];

    for (; block < n_blocks && sum + sums->blocks[block] <= wanted; block++) {
        if (sums->blocks[block] > 0)
            last = block;
        sum += sums->blocks[block];
    }
    /* The last token of any weight is what remains where rounding hides the end. */
    if (block == n_blocks)
        block = last;
    for (int64_t i = block * SUM_BLOCK; i < min_i64((block + 1) * SUM_BLOCK, V); i += LANES) {
        weigh_lanes(w, logits, i, V, sums);
        for (int lane = 0; lane < LANES; lane++) {
            sum += w[lane];
            token = w[lane] > 0 ? (int32_t)(i + lane) : token;
            if (sum > wanted)
                return token;
        }
    }
    return token;
}

/* The tokens of at least this weight, in id order; returns how many. */
INLINE int64_t find_candidates(struct candidate *candidates, const float *logits, int64_t V,
                               double floor, const struct softmax_sums *sums)
{
    int64_t n = 0;
    float w[LANES];

    for (int64_t i = 0; i < V; i += LANES) {
        weigh_lanes(w, logits, i, V, sums);
        for (int lane = 0; lane < LANES; lane++)
            if (w[lane] > 0 && w[lane] >= floor)
                candidates[n++] = (struct candidate){w[lane], (int32_t)(i + lane)};
    }
    return n;
}

INLINE double weigh_all(const struct candidate *candidates, int64_t n)
{
    double sum = 0;

    for (int64_t i = 0; i < n; i++)
        sum += (double)candidates[i].weight;
    return sum;
}

/* Candidates above `weight` are kept, and the first n_equal of those that are equal. */
struct cut {
    float weight;
    int64_t n_equal;
    double kept;   /* what they weigh together */
};

INLINE uint32_t bits_of(float weight)
{
    uint32_t bits;

    memcpy(&bits, &weight, sizeof(bits));
    return bits;
}

/* The likeliest candidates up to the first that makes them n_most, or weigh `enough`. A weight is
 * positive, so that its bits are in its order. */
static __attribute__((noinline)) struct cut find_cut(const struct candidate *candidates, int64_t n,
                                                     int64_t n_most, double enough)
{
    struct bucket {
        int64_t n;
        double weight;
    } buckets[256];
    struct cut cut = {0};
    int64_t n_above = 0;
    uint32_t prefix = 0;

    for (int shift = 24; shift >= 0; shift -= 8) {
        memset(buckets, 0, sizeof(buckets));
        for (int64_t i = 0; i < n; i++) {
            uint32_t bits = bits_of(candidates[i].weight);
            if (shift < 24 && bits >> (shift + 8) != prefix)
                continue;
            buckets[bits >> shift & 255].n++;
            buckets[bits >> shift & 255].weight += (double)candidates[i].weight;
        }
        int digit = 255;
        while (digit > 0 && n_above + buckets[digit].n < n_most &&
               cut.kept + buckets[digit].weight < enough) {
            n_above += buckets[digit].n;
            cut.kept += buckets[digit].weight;
            digit--;
        }
        prefix = prefix << 8 | (uint32_t)digit;
    }
    memcpy(&cut.weight, &prefix, sizeof(prefix));
    for (; n_above + cut.n_equal < n_most && (n_above + cut.n_equal == 0 || cut.kept < enough);
         cut.n_equal++)
        cut.kept += (double)cut.weight;
    return cut;
}

static __attribute__((noinline)) int32_t draw_by_candidates(const struct candidate *candidates,
                                                            int64_t n, const struct cut *cut,
                                                            double uniform)
{
    double total = 0, sum = 0;
    int32_t token = candidates[0].id;

    for (int pass = 0; pass < 2; pass++) {
        int64_t n_equal = 0;
        for (int64_t i = 0; i < n; i++) {
            float w = candidates[i].weight;
            if (w < cut->weight || (w == cut->weight && n_equal++ >= cut->n_equal))
                continue;
            if (!pass) {
                total += (double)w;
                continue;
            }
            sum += (double)w;
            token = candidates[i].id;
            if (sum > uniform * total)
                return token;
        }
    }
    return token;
}

int32_t KERNEL(draw_token)(const float *logits, int64_t V, const struct draw *draw,
                           const struct softmax_sums *sums, struct candidate *candidates)
{
    int has_top_k = draw->top_k && draw->top_k < V, has_top_p = draw->top_p < 1;
    double floor = 0;

    if (draw->temperature <= 0 || !isfinite(sums->maximum))
        return find_largest(logits, V, sums);
    if (!has_top_k && !has_top_p && isfinite(sums->total))
        return draw_by_blocks(logits, V, draw->uniform, sums);
    /* Tokens below (1 - top_p) / V of the total have less than 1 - top_p together, so the nucleus
     * is complete without them (half of it: for rounding). After top-k the total is another one. */
    if (has_top_p && !has_top_k && isfinite(sums->total))
        floor = 0.5 * sums->total * (1 - (double)draw->top_p) / (double)V;
    int64_t n = find_candidates(candidates, logits, V, floor, sums);
    struct cut cut = {.n_equal = n, .kept = sums->total};
    if (!isfinite(sums->total))
        cut.kept = weigh_all(candidates, n);
    if (has_top_k)
        cut = find_cut(candidates, n, draw->top_k < n ? draw->top_k : n, INFINITY);
    if (has_top_p)
        cut = find_cut(candidates, n, n, (double)draw->top_p * cut.kept);
    return draw_by_candidates(candidates, n, &cut, draw->uniform);
}
