#include "ops/reference/reference.h"

#include <string.h>

void reference_pack(void *context, struct tensor *packed, const struct tensor *weight)
{
    int64_t M = weight->shape[0], C = weight->shape[1];
    const float *w = tensor_f32(weight);
    float *p = tensor_f32(packed);

    (void)context;
    memset(p, 0, (size_t)ops_packed_count(M, C) * sizeof(*p));
    for (int64_t m = 0; m < M; m++)
        for (int64_t c = 0; c < C; c++)
            p[(m / OPS_PANEL * C + c) * OPS_PANEL + m % OPS_PANEL] = w[m * C + c];
}

void reference_matmul(void *context, struct tensor *out, const struct tensor *in,
                      const struct tensor *packed, const struct tensor *bias)
{
    int64_t N = in->shape[0], C = in->shape[1], M = out->shape[1];
    const float *x = tensor_f32(in), *p = tensor_f32(packed);

    (void)context;
    for (int64_t n = 0; n < N; n++)
        for (int64_t m = 0; m < M; m++) {
            double sum = bias ? tensor_f32(bias)[m] : 0;
            for (int64_t c = 0; c < C; c++)
                sum += (double)x[n * C + c]
                       * p[(m / OPS_PANEL * C + c) * OPS_PANEL + m % OPS_PANEL];
            tensor_f32(out)[n * M + m] = (float)sum;
        }
}

void reference_matmul_backward_input(void *context, struct tensor *d_in,
                                     const struct tensor *d_out, const struct tensor *weight)
{
    int64_t N = d_out->shape[0], M = d_out->shape[1], C = d_in->shape[1];

    (void)context;
    for (int64_t n = 0; n < N; n++)
        for (int64_t c = 0; c < C; c++) {
            double sum = tensor_f32(d_in)[n * C + c];
            for (int64_t m = 0; m < M; m++)
                sum += (double)tensor_f32(d_out)[n * M + m] * tensor_f32(weight)[m * C + c];
            tensor_f32(d_in)[n * C + c] = (float)sum;
        }
}

void reference_matmul_backward_weight(void *context, struct tensor *d_weight,
                                      struct tensor *d_bias, const struct tensor *d_out,
                                      const struct tensor *in)
{
    int64_t N = d_out->shape[0], M = d_out->shape[1], C = in->shape[1];
    const float *g = tensor_f32(d_out), *x = tensor_f32(in);

    (void)context;
    for (int64_t m = 0; m < M; m++) {
        for (int64_t c = 0; c < C; c++) {
            double sum = tensor_f32(d_weight)[m * C + c];
            for (int64_t n = 0; n < N; n++)
                sum += (double)g[n * M + m] * x[n * C + c];
            tensor_f32(d_weight)[m * C + c] = (float)sum;
        }
        if (!d_bias)
            continue;
        double sum = tensor_f32(d_bias)[m];
        for (int64_t n = 0; n < N; n++)
            sum += g[n * M + m];
        tensor_f32(d_bias)[m] = (float)sum;
    }
}
