#include "ops/reference/reference.h"

#include <math.h>
#include <string.h>

float reference_nearest_bf16(float value)
{
    uint32_t bits, even;

    memcpy(&bits, &value, sizeof(bits));
    even = bits >> 16 & 1;
    bits = isnan(value) ? bits | 0x400000u : bits + 0x7fffu + even;
    bits &= 0xffff0000u;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static int64_t panel_index(const struct matrix *matrix, int64_t m, int64_t c)
{
    return (m / OPS_PANEL * matrix->C + c) * OPS_PANEL + m % OPS_PANEL;
}

/* Element (m, c) as products see it. The adapter's terms are added in float32 and in order. */
static float element(const struct matrix *matrix, int64_t m, int64_t c)
{
    const struct adapter *adapter = &matrix->adapter;

    if (matrix->form == MATRIX_PANELS && matrix->dtype == DTYPE_BF16) {
        uint32_t bits = (uint32_t)((const uint16_t *)matrix->data)[panel_index(matrix, m, c)] << 16;
        float value;
        memcpy(&value, &bits, sizeof(value));
        return value;
    }
    if (matrix->form == MATRIX_PANELS)
        return ((const float *)matrix->data)[panel_index(matrix, m, c)];
    float sum = ((const float *)matrix->data)[m * matrix->C + c];
    for (int64_t r = 0; r < adapter->rank; r++)
        sum = fmaf(adapter->scale * adapter->b[m * adapter->rank + r],
                   adapter->a[r * matrix->C + c], sum);
    return matrix->dtype == DTYPE_BF16 ? reference_nearest_bf16(sum) : sum;
}

void reference_matrix_read(void *context, struct tensor *rows, const struct matrix *matrix,
                           int64_t first)
{
    int64_t C = matrix->C;

    (void)context;
    for (int64_t i = 0; i < rows->shape[0] * C; i++)
        tensor_f32(rows)[i] = element(matrix, first + i / C, i % C);
}

void reference_matrix_write(void *context, struct matrix *matrix, const struct tensor *rows,
                            int64_t first)
{
    int64_t n = rows->shape[0], C = matrix->C, whole = (n + OPS_PANEL - 1) / OPS_PANEL * OPS_PANEL;

    (void)context;
    for (int64_t i = 0; i < whole * C; i++) {
        float value = i < n * C ? tensor_f32(rows)[i] : 0;
        int64_t at = panel_index(matrix, first + i / C, i % C);
        uint32_t bits;
        if (matrix->dtype == DTYPE_BF16) {
            value = reference_nearest_bf16(value);
            memcpy(&bits, &value, sizeof(bits));
            ((uint16_t *)matrix->data)[at] = (uint16_t)(bits >> 16);
        } else {
            ((float *)matrix->data)[at] = value;
        }
    }
}

void reference_round_bf16(void *context, struct tensor *out, const struct tensor *in)
{
    (void)context;
    for (int64_t i = 0; i < tensor_count(in); i++)
        tensor_f32(out)[i] = reference_nearest_bf16(tensor_f32(in)[i]);
}

void reference_round_stochastic(void *context, struct tensor *x, uint64_t noise, int64_t first)
{
    (void)context;
    for (int64_t i = 0; i < tensor_count(x); i++) {
        uint32_t bits, mantissa = 0x007fffffu;
        memcpy(&bits, &tensor_f32(x)[i], sizeof(bits));
        if (isnan(tensor_f32(x)[i]))
            bits |= mantissa;
        else
            bits += (uint32_t)(splitmix64(noise, (uint64_t)(first + i)) >> 48);
        bits &= 0xffff0000u;
        memcpy(&tensor_f32(x)[i], &bits, sizeof(bits));
    }
}

/* What is multiplied with a matrix of bfloat16 is rounded to it too. */
static float seen(enum dtype dtype, float value)
{
    return dtype == DTYPE_BF16 ? reference_nearest_bf16(value) : value;
}

void reference_matmul(void *context, struct tensor *out, const struct tensor *in,
                      const struct matrix *weight, const struct tensor *bias)
{
    int64_t N = in->shape[0], C = in->shape[1], M = out->shape[1];
    const float *x = tensor_f32(in);

    (void)context;
    for (int64_t n = 0; n < N; n++)
        for (int64_t m = 0; m < M; m++) {
            double sum = bias ? tensor_f32(bias)[m] : 0;
            for (int64_t c = 0; c < C; c++)
                sum += (double)seen(weight->dtype, x[n * C + c]) * element(weight, m, c);
            tensor_f32(out)[n * M + m] = (float)sum;
        }
}

void reference_matmul_backward_input(void *context, struct tensor *d_in,
                                     const struct tensor *d_out, const struct matrix *weight)
{
    int64_t N = d_out->shape[0], M = d_out->shape[1], C = d_in->shape[1];
    const float *g = tensor_f32(d_out);

    (void)context;
    for (int64_t n = 0; n < N; n++)
        for (int64_t c = 0; c < C; c++) {
            double sum = tensor_f32(d_in)[n * C + c];
            for (int64_t m = 0; m < M; m++)
                sum += (double)seen(weight->dtype, g[n * M + m]) * element(weight, m, c);
            tensor_f32(d_in)[n * C + c] = (float)sum;
        }
}

void reference_embedding(void *context, struct tensor *out, const struct matrix *table,
                         const struct tensor *tokens)
{
    int64_t N = out->shape[0], C = out->shape[1];

    (void)context;
    for (int64_t n = 0; n < N; n++)
        for (int64_t c = 0; c < C; c++)
            tensor_f32(out)[n * C + c] = element(table, ((const int32_t *)tokens->data)[n], c);
}

void reference_matmul_backward_weight(void *context, struct tensor *d_weight,
                                      struct tensor *d_bias, const struct tensor *d_out,
                                      const struct tensor *in, enum dtype dtype)
{
    int64_t N = d_out->shape[0], M = d_out->shape[1], C = in->shape[1];
    const float *g = tensor_f32(d_out), *x = tensor_f32(in);

    (void)context;
    for (int64_t m = 0; m < M; m++) {
        for (int64_t c = 0; c < C; c++) {
            double sum = tensor_f32(d_weight)[m * C + c];
            for (int64_t n = 0; n < N; n++)
                sum += (double)seen(dtype, g[n * M + m]) * seen(dtype, x[n * C + c]);
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
