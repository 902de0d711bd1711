/* Weights in their forms. On this device both lie row after row, [M,C]. */
#include "ops/cuda/cuda.cuh"

#define THREADS 256

/* Element (m, c) as products see it; the adapter's terms are added in order. */
static __device__ float matrix_element(const struct matrix &matrix, bool is_bf16, int64_t m,
                                       int64_t c)
{
    if (is_bf16)
        return widen_bf16(((const uint16_t *)matrix.data)[m * matrix.C + c]);
    float sum = ((const float *)matrix.data)[m * matrix.C + c];
    for (int64_t r = 0; r < matrix.adapter.rank; r++)
        sum = fmaf(matrix.adapter.scale * matrix.adapter.b[m * matrix.adapter.rank + r],
                   matrix.adapter.a[r * matrix.C + c], sum);
    return matrix.dtype == DTYPE_BF16 ? round_bf16(sum) : sum;
}

/* Rows index[i], or first + i without an index. */
static __global__ void read_rows(float *rows, const struct matrix matrix, bool is_bf16,
                                 const int32_t *index, int64_t first, int64_t count)
{
    FOR_EACH(i, count)
    {
        int64_t row = i / matrix.C, m = index ? index[row] : first + row;
        rows[i] = matrix_element(matrix, is_bf16, m, i % matrix.C);
    }
}

static __global__ void write_f32(float *to, const float *from, int64_t count)
{
    FOR_EACH(i, count)
        to[i] = from[i];
}

static __global__ void write_bf16(uint16_t *to, const float *from, int64_t count)
{
    FOR_EACH(i, count)
        to[i] = (uint16_t)pack_bf16(from[i], 0);
}

static __global__ void round_each(float *out, const float *in, int64_t count)
{
    FOR_EACH(i, count)
        out[i] = round_bf16(in[i]);
}

static __global__ void round_some(float *x, uint64_t noise, int64_t first, int64_t count)
{
    FOR_EACH(i, count)
    {
        unsigned bits = __float_as_uint(x[i]);
        unsigned above = (unsigned)(splitmix64_at(noise, (uint64_t)(first + i)) >> 48);
        bits = isnan(x[i]) ? bits | 0x007fffffu : bits + above;
        x[i] = __uint_as_float(bits & 0xffff0000u);
    }
}

void cuda_matrix_read(void *context, struct tensor *rows, const struct matrix *matrix,
                      int64_t first)
{
    struct cuda *cuda = (struct cuda *)context;
    int64_t count = rows->shape[0] * matrix->C;

    if (count)
        RUN(cuda, read_rows, loop_blocks(count, THREADS), THREADS, tensor_f32(rows), *matrix,
            matrix_is_bf16(matrix), nullptr, first, count);
}

void cuda_embedding(void *context, struct tensor *out, const struct matrix *table,
                    const struct tensor *tokens)
{
    struct cuda *cuda = (struct cuda *)context;
    int64_t count = out->shape[0] * table->C;

    if (count)
        RUN(cuda, read_rows, loop_blocks(count, THREADS), THREADS, tensor_f32(out), *table,
            matrix_is_bf16(table), (const int32_t *)tokens->data, 0, count);
}

void cuda_matrix_write(void *context, struct matrix *matrix, const struct tensor *rows,
                       int64_t first)
{
    struct cuda *cuda = (struct cuda *)context;
    int64_t count = rows->shape[0] * matrix->C, at = first * matrix->C;

    if (!count)
        return;
    if (matrix_is_bf16(matrix))
        RUN(cuda, write_bf16, loop_blocks(count, THREADS), THREADS, (uint16_t *)matrix->data + at,
            tensor_f32(rows), count);
    else
        RUN(cuda, write_f32, loop_blocks(count, THREADS), THREADS, (float *)matrix->data + at,
            tensor_f32(rows), count);
}

void cuda_round_bf16(void *context, struct tensor *out, const struct tensor *in)
{
    struct cuda *cuda = (struct cuda *)context;
    int64_t count = tensor_count(in);

    if (count)
        RUN(cuda, round_each, loop_blocks(count, THREADS), THREADS, tensor_f32(out), tensor_f32(in),
            count);
}

void cuda_round_stochastic(void *context, struct tensor *x, uint64_t noise, int64_t first)
{
    struct cuda *cuda = (struct cuda *)context;
    int64_t count = tensor_count(x);

    if (count)
        RUN(cuda, round_some, loop_blocks(count, THREADS), THREADS, tensor_f32(x), noise, first,
            count);
}
