/* Row-wise and element-wise loops. */
#include "ops/cpu/lanes.h"

void KERNEL(rmsnorm)(float *out, float *rstd, const float *in, const float *weight, int64_t C,
                     float eps, int64_t first, int64_t last)
{
    for (int64_t n = first; n < last; n++) {
        const float *x = in + n * C;
        struct lanes sum = lanes_all(0);
        for (int64_t c = 0; c < C; c += LANES) {
            struct lanes v = lanes_get(x + c, C - c, 0);
            sum = lanes_fma(v, v, sum);
        }
        float r = 1 / sqrtf(lanes_sum(sum) / (float)C + eps);
        struct lanes factor = lanes_all(r);
        for (int64_t c = 0; c < C; c += LANES) {
            struct lanes v = lanes_multiply(lanes_get(x + c, C - c, 0), factor);
            v = lanes_multiply(v, lanes_get(weight + c, C - c, 0));
            lanes_put(out + n * C + c, v, C - c);
        }
        if (rstd)
            rstd[n] = r;
    }
}

/* reference_rmsnorm_backward() has the formula. */
void KERNEL(rmsnorm_backward)(float *d_in, float *d_weight, const float *d_out, const float *in,
                              const float *weight, const float *rstd, int64_t C, int64_t first,
                              int64_t last)
{
    for (int64_t n = first; n < last; n++) {
        const float *x = in + n * C, *g = d_out + n * C;
        float *dx = d_in + n * C;
        struct lanes r = lanes_all(rstd[n]), dot = lanes_all(0);
        for (int64_t c = 0; c < C; c += LANES) {
            int64_t left = C - c;
            struct lanes xg = lanes_multiply(lanes_get(x + c, left, 0), lanes_get(g + c, left, 0));
            dot = lanes_fma(xg, lanes_get(weight + c, left, 0), dot);
            lanes_put(d_weight + c, lanes_fma(xg, r, lanes_get(d_weight + c, left, 0)), left);
        }
        struct lanes back = lanes_all(-lanes_sum(dot) * rstd[n] * rstd[n] / (float)C);
        for (int64_t c = 0; c < C; c += LANES) {
            int64_t left = C - c;
            struct lanes d = lanes_settle(lanes_multiply(lanes_get(x + c, left, 0), back));
            d = lanes_fma(lanes_get(weight + c, left, 0), lanes_get(g + c, left, 0), d);
            lanes_put(dx + c, lanes_fma(d, r, lanes_get(dx + c, left, 0)), left);
        }
    }
}

INLINE quad_f32 quad_get(const float *p, int64_t n)
{
    quad_f32 v = {0};
    if (n >= 4)
        memcpy(&v, p, sizeof(v));
    else
        memcpy(&v, p, (size_t)n * sizeof(*p));
    return v;
}

INLINE void quad_put(float *p, quad_f32 v, int64_t n)
{
    if (n >= 4)
        memcpy(p, &v, sizeof(v));
    else
        memcpy(p, &v, (size_t)n * sizeof(*p));
}

/* Heads are narrow (D / 2 is often 8), hence vectors of four. */
INLINE void rotate_head(float *x, const float *cosines, const float *sines, int64_t half,
                        float direction)
{
    for (int64_t i = 0; i < half; i += 4) {
        int64_t left = half - i;
        quad_f32 a = quad_get(x + i, left), b = quad_get(x + half + i, left);
        quad_f32 cosine = quad_get(cosines + i, left);
        quad_f32 sine = quad_get(sines + i, left) * direction;
        quad_f32 minus_b_sine = -b * sine, a_sine = a * sine;
        quad_put(x + i, a * cosine + minus_b_sine, left);
        quad_put(x + half + i, b * cosine + a_sine, left);
    }
}

void KERNEL(rope)(float *x, const float *table, const int32_t *positions, int64_t H, int64_t D,
                  int inverse, int64_t first, int64_t last)
{
    int64_t half = D / 2;

    for (int64_t n = first; n < last; n++) {
        const float *cosines = table + positions[n] * D, *sines = cosines + half;
        for (int64_t h = 0; h < H; h++)
            rotate_head(x + (n * H + h) * D, cosines, sines, half, inverse ? -1.0f : 1.0f);
    }
}

INLINE struct lanes lanes_sigmoid(struct lanes x)
{
    struct lanes e = lanes_exp(lanes_subtract(lanes_all(0), x));
    return lanes_divide(lanes_all(1), lanes_add(lanes_all(1), e));
}

void KERNEL(swiglu)(float *out, const float *gate, const float *up, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES) {
        struct lanes g = lanes_get(gate + i, n - i, 0), u = lanes_get(up + i, n - i, 0);
        struct lanes silu = lanes_multiply(g, lanes_sigmoid(g));
        lanes_put(out + i, lanes_multiply(silu, u), n - i);
    }
}

/* d silu(g) / dg = s (1 + g (1 - s)) with s = sigmoid(g) */
void KERNEL(swiglu_backward)(float *d_gate, float *d_up, const float *d_out, const float *gate,
                             const float *up, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES) {
        int64_t left = n - i;
        struct lanes g = lanes_get(gate + i, left, 0), u = lanes_get(up + i, left, 0);
        struct lanes d = lanes_get(d_out + i, left, 0);
        struct lanes s = lanes_sigmoid(g), one = lanes_all(1);
        struct lanes ds = lanes_multiply(d, s);
        struct lanes slope = lanes_fma(g, lanes_subtract(one, s), one);
        lanes_put(d_up + i, lanes_multiply(ds, g), left);
        lanes_put(d_gate + i, lanes_multiply(lanes_multiply(ds, u), slope), left);
    }
}

void KERNEL(add)(float *out, const float *in, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] += in[i];
}

void KERNEL(scale)(float *x, float factor, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] *= factor;
}

void KERNEL(exp)(float *out, const float *in, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES)
        lanes_put(out + i, lanes_exp(lanes_get(in + i, n - i, 0)), n - i);
}
