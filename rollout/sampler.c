#include <math.h>

#include "rollout/rollout.h"

/* The likelier token first, the lower id on a tie. */
static int comes_before(const float *weights, int32_t a, int32_t b)
{
    return weights[a] > weights[b] || (weights[a] == weights[b] && a < b);
}

static void sift_down(const float *weights, int32_t *heap, int n, int at)
{
    for (;;) {
        int first = at;
        for (int child = 2 * at + 1; child <= 2 * at + 2 && child < n; child++)
            if (comes_before(weights, heap[child], heap[first]))
                first = child;
        if (first == at)
            return;
        int32_t held = heap[at];
        heap[at] = heap[first];
        heap[first] = held;
        at = first;
    }
}

static int32_t take_likeliest(const float *weights, int32_t *heap, int *n)
{
    int32_t top = heap[0];

    heap[0] = heap[--*n];
    sift_down(weights, heap, *n, 0);
    return top;
}

/* A heap of the tokens of at least this weight: only what is taken gets sorted. */
static int build_heap(const float *weights, int n_vocab, double floor, int32_t *heap)
{
    int n = 0;

    for (int i = 0; i < n_vocab; i++)
        if (weights[i] > 0 && weights[i] >= floor)
            heap[n++] = i;
    for (int at = n / 2 - 1; at >= 0; at--)
        sift_down(weights, heap, n, at);
    return n;
}

/* The last token, in order of likelihood, that top-k and top-p let through. */
static int32_t find_last_kept(const float *weights, int n_vocab, double total, float top_p,
                              uint32_t top_k, int32_t *heap)
{
    /* Tokens below (1 - top_p) / V of the total have less than 1 - top_p together, so the nucleus
     * is complete without them. After top-k the total is another one and the bound not valid. */
    double floor = top_k ? 0 : total * (1 - (double)top_p) / n_vocab;
    int n = build_heap(weights, n_vocab, floor, heap);
    uint32_t n_kept = top_k && top_k < (uint32_t)n ? top_k : (uint32_t)n;
    double sum = 0, kept_total = total;
    int32_t last = heap[0];

    if (top_k && top_p < 1) {
        kept_total = 0;
        for (uint32_t i = 0; i < n_kept; i++)
            kept_total += weights[take_likeliest(weights, heap, &n)];
        n = build_heap(weights, n_vocab, floor, heap);
    }
    for (uint32_t i = 0; i < n_kept; i++) {
        last = take_likeliest(weights, heap, &n);
        sum += weights[last];
        if (top_p < 1 && sum >= (double)top_p * kept_total)
            break;
    }
    return last;
}

static int32_t find_largest(const float *logits, int n_vocab)
{
    int32_t best = 0;

    for (int i = 1; i < n_vocab; i++)
        if (logits[i] > logits[best] || isnan(logits[best]))
            best = i;
    return best;
}

int32_t sampler_draw(const float *logits, int n_vocab, float temperature, float top_p,
                     uint32_t top_k, double uniform, struct sampler_scratch *scratch)
{
    float *weights = scratch->probabilities;
    int32_t best = find_largest(logits, n_vocab), last = -1;
    double total = 0, sum = 0;

    if (temperature <= 0 || !isfinite(logits[best]))
        return best;
    /* Weights are probabilities times a factor that cancels: the largest is 1. */
    for (int i = 0; i < n_vocab; i++) {
        double z = ((double)logits[i] - logits[best]) / temperature;
        weights[i] = isnan(z) ? 0 : (float)exp(z);
        total += weights[i];
    }
    if ((top_k && top_k < (uint32_t)n_vocab) || top_p < 1)
        last = find_last_kept(weights, n_vocab, total, top_p,
                              top_k < (uint32_t)n_vocab ? top_k : 0, scratch->order);
    if (last >= 0) {
        total = 0;
        for (int i = 0; i < n_vocab; i++) {
            if (comes_before(weights, last, i))
                weights[i] = 0;
            total += weights[i];
        }
    }
    for (int i = 0; i < n_vocab; i++) {
        sum += weights[i];
        if (sum > uniform * total)
            return i;
        if (weights[i] > 0)
            best = i;   /* what remains when rounding makes uniform * total the whole total */
    }
    return best;
}
