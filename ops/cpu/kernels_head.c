/* The loss head and the optimizer. */
#include "ops/cpu/head.h"

void KERNEL(token_logprob)(float *logprob, float *entropy, const float *logits,
                           const int32_t *targets, int64_t V, float temperature, int64_t first,
                           int64_t last)
{
    float factor = 1 / temperature;

    for (int64_t n = first; n < last; n++) {
        const float *row = logits + n * V;
        struct row_sums sums = entropy ? sum_row(row, V, factor, 1) : sum_row(row, V, factor, 0);
        logprob[n] = logprob_of(row[targets[n]], factor, sums.maximum, sums.sum);
        if (entropy)
            entropy[n] = (float)(log(sums.sum) - sums.weighted / sums.sum);
    }
}

void KERNEL(token_logprob_backward)(float *logits, const float *d_logprob, const int32_t *targets,
                                    int64_t V, float temperature, int64_t first, int64_t last)
{
    float factor = 1 / temperature;

    for (int64_t n = first; n < last; n++) {
        float *row = logits + n * V;
        float d = d_logprob[n] * factor;
        struct row_sums sums = sum_row(row, V, factor, 0);
        struct lanes top = lanes_all(sums.maximum), f = lanes_all(factor);
        struct lanes minus = lanes_all(-d / (float)sums.sum);
        for (int64_t i = 0; i < V; i += LANES) {
            struct lanes e = lanes_exp(lanes_subtract(scaled(row, i, V, f), top));
            lanes_put(row + i, lanes_multiply(e, minus), V - i);
        }
        row[targets[n]] += d;
    }
}

/* A product of two floats is exact in double: with or without fused instructions, the same sum. */
double KERNEL(sum_squares)(const float *x, int64_t n)
{
    double sum[LANES] = {0};

    int64_t whole = n / LANES * LANES;
    for (int64_t i = 0; i < whole; i += LANES)
        for (int j = 0; j < LANES; j++)
            sum[j] += (double)x[i + j] * (double)x[i + j];
    for (int64_t i = whole; i < n; i++)
        sum[i - whole] += (double)x[i] * (double)x[i];
    for (int half = LANES / 2; half >= 1; half /= 2)
        for (int j = 0; j < half; j++)
            sum[j] += sum[j + half];
    return sum[0];
}

int KERNEL(all_finite)(const float *x, int64_t n)
{
    struct lanes sum = lanes_all(0), zero = lanes_all(0);

    for (int64_t i = 0; i < n; i += LANES)
        sum = lanes_fma(lanes_get(x + i, n - i, 0), zero, sum);
    return lanes_sum(sum) == 0;
}

/* Of the two products in each sum, what is new is rounded, and the old one is fused to it. */
void KERNEL(adamw)(float *w, float *m, float *v, const float *g, const struct adamw_factors *f,
                   int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES) {
        int64_t left = n - i;
        struct lanes gi = lanes_multiply(lanes_get(g + i, left, 0), lanes_all(f->gradient_scale));
        struct lanes m_new = lanes_settle(lanes_multiply(gi, lanes_all(f->one_minus_beta1)));
        struct lanes mi = lanes_fma(lanes_get(m + i, left, 0), lanes_all(f->beta1), m_new);
        struct lanes squared = lanes_multiply(gi, gi);
        struct lanes v_new = lanes_settle(lanes_multiply(squared, lanes_all(f->one_minus_beta2)));
        struct lanes vi = lanes_fma(lanes_get(v + i, left, 0), lanes_all(f->beta2), v_new);
        struct lanes root = lanes_sqrt(vi);
        struct lanes below = lanes_fma(root, lanes_all(f->v_factor), lanes_all(f->epsilon));
        struct lanes turn = lanes_divide(mi, below);
        struct lanes move = lanes_settle(lanes_multiply(turn, lanes_all(-f->step_size)));
        struct lanes wi = lanes_fma(lanes_get(w + i, left, 0), lanes_all(f->keep), move);
        lanes_put(m + i, mi, left);
        lanes_put(v + i, vi, left);
        lanes_put(w + i, wi, left);
    }
}
