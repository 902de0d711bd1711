#include "ops/reference/reference.h"

#include <math.h>
#include <string.h>

void reference_rmsnorm(void *context, struct tensor *out, struct tensor *rstd,
                       const struct tensor *in, const struct tensor *weight, float eps)
{
    int64_t N = in->shape[0], C = in->shape[1];

    (void)context;
    for (int64_t n = 0; n < N; n++) {
        const float *x = tensor_f32(in) + n * C;
        double sum = 0;
        for (int64_t c = 0; c < C; c++)
            sum += (double)x[c] * x[c];
        double r = 1 / sqrt(sum / (double)C + eps);
        for (int64_t c = 0; c < C; c++)
            tensor_f32(out)[n * C + c] = (float)(x[c] * r * tensor_f32(weight)[c]);
        if (rstd)
            tensor_f32(rstd)[n] = (float)r;
    }
}

/* With y = x r w and r = (mean(x^2) + eps)^-1/2:
 *   dx = r (w dy - x r^2 mean(x w dy)),  dw = sum of x r dy */
void reference_rmsnorm_backward(void *context, struct tensor *d_in, struct tensor *d_weight,
                                const struct tensor *d_out, const struct tensor *in,
                                const struct tensor *weight, const struct tensor *rstd)
{
    int64_t N = in->shape[0], C = in->shape[1];
    const float *w = tensor_f32(weight), *rs = tensor_f32(rstd);

    (void)context;
    for (int64_t c = 0; c < C; c++) {
        double sum = tensor_f32(d_weight)[c];
        for (int64_t n = 0; n < N; n++)
            sum += (double)tensor_f32(in)[n * C + c] * rs[n] * tensor_f32(d_out)[n * C + c];
        tensor_f32(d_weight)[c] = (float)sum;
    }
    for (int64_t n = 0; n < N; n++) {
        const float *x = tensor_f32(in) + n * C, *g = tensor_f32(d_out) + n * C;
        double dot = 0, r = rs[n];
        for (int64_t c = 0; c < C; c++)
            dot += (double)x[c] * w[c] * g[c];
        for (int64_t c = 0; c < C; c++)
            tensor_f32(d_in)[n * C + c] +=
                (float)(r * ((double)w[c] * g[c] - x[c] * r * r * dot / (double)C));
    }
}

void reference_rope(void *context, struct tensor *x, const struct tensor *table,
                    const struct tensor *positions, int inverse)
{
    int64_t N = x->shape[0], H = x->shape[1], D = x->shape[2], half = D / 2;
    const int32_t *position = (const int32_t *)positions->data;

    (void)context;
    for (int64_t n = 0; n < N; n++)
        for (int64_t h = 0; h < H; h++)
            for (int64_t i = 0; i < half; i++) {
                const float *angle = tensor_f32(table) + position[n] * D;
                float *row = tensor_f32(x) + (n * H + h) * D;
                double cosine = angle[i], sine = inverse ? -angle[half + i] : angle[half + i];
                double a = row[i], b = row[i + half];
                row[i] = (float)(a * cosine - b * sine);
                row[i + half] = (float)(b * cosine + a * sine);
            }
}

void reference_swiglu(void *context, struct tensor *out, const struct tensor *gate,
                      const struct tensor *up)
{
    (void)context;
    for (int64_t i = 0; i < tensor_count(out); i++) {
        double g = tensor_f32(gate)[i];
        tensor_f32(out)[i] = (float)(g / (1 + exp(-g)) * tensor_f32(up)[i]);
    }
}

void reference_swiglu_backward(void *context, struct tensor *d_gate, struct tensor *d_up,
                               const struct tensor *d_out, const struct tensor *gate,
                               const struct tensor *up)
{
    (void)context;
    for (int64_t i = 0; i < tensor_count(d_out); i++) {
        double g = tensor_f32(gate)[i], u = tensor_f32(up)[i], d = tensor_f32(d_out)[i];
        double sigmoid = 1 / (1 + exp(-g));
        tensor_f32(d_gate)[i] = (float)(d * u * sigmoid * (1 + g * (1 - sigmoid)));
        tensor_f32(d_up)[i] = (float)(d * g * sigmoid);
    }
}

void reference_add(void *context, struct tensor *out, const struct tensor *in)
{
    (void)context;
    for (int64_t i = 0; i < tensor_count(out); i++)
        tensor_f32(out)[i] += tensor_f32(in)[i];
}

void reference_scale(void *context, struct tensor *x, float factor)
{
    (void)context;
    for (int64_t i = 0; i < tensor_count(x); i++)
        tensor_f32(x)[i] *= factor;
}

void reference_gather_rows(void *context, struct tensor *out, const struct tensor *in,
                           const struct tensor *rows)
{
    int64_t N = out->shape[0], C = out->shape[1];
    const int32_t *row = (const int32_t *)rows->data;

    (void)context;
    for (int64_t n = 0; n < N; n++)
        memcpy(tensor_f32(out) + n * C, tensor_f32(in) + row[n] * C, (size_t)C * sizeof(float));
}

void reference_scatter_add_rows(void *context, struct tensor *d_in, const struct tensor *d_out,
                                const struct tensor *rows)
{
    int64_t N = d_out->shape[0], C = d_out->shape[1];
    const int32_t *row = (const int32_t *)rows->data;

    (void)context;
    for (int64_t n = 0; n < N; n++)
        for (int64_t c = 0; c < C; c++)
            tensor_f32(d_in)[row[n] * C + c] += tensor_f32(d_out)[n * C + c];
}

void reference_embedding_backward(void *context, struct tensor *d_table,
                                  const struct tensor *d_out, const struct tensor *tokens)
{
    reference_scatter_add_rows(context, d_table, d_out, tokens);
}
