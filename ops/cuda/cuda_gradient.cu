/* The products of the backward pass. */
#include "ops/cuda/cuda_product.cuh"
#include "ops/cuda/cuda_weight.cuh"

void cuda_matmul_backward_input(void *context, struct tensor *d_in, const struct tensor *d_out,
                                const struct matrix *weight)
{
    struct cuda *cuda = (struct cuda *)context;
    int64_t N = d_out->shape[0], M = d_out->shape[1], C = d_in->shape[1];
    struct seen_weight seen = cuda_see_weight(cuda, weight);
    struct product p = {
        .a = operand_of(seen.data, seen.is_bf16 ? 2 : 4, C, C),
        .b = operand_of(d_out->data, sizeof(float), N, M),
        .depth = M,
        .out = tensor_f32(d_in),
        .a_step = 1,
        .b_step = C,
        .bias = nullptr,
        .accumulate = true,
    };

    if (seen.is_bf16)
        run_product<uint16_t, false, float, true, 1, 1>(cuda, &p);
    else if (seen.is_rounded || cuda->terms == 1)
        run_product<float, false, float, true, 1, 1>(cuda, &p);
    else
        run_product<float, false, float, true, 3, 3>(cuda, &p);
}

void cuda_matmul_backward_weight(void *context, struct tensor *d_weight, struct tensor *d_bias,
                                 const struct tensor *d_out, const struct tensor *in,
                                 enum dtype dtype)
{
    struct cuda *cuda = (struct cuda *)context;
    int64_t N = d_out->shape[0], M = d_out->shape[1], C = in->shape[1];
    struct product p = {
        .a = operand_of(d_out->data, sizeof(float), M, M),
        .b = operand_of(in->data, sizeof(float), C, C),
        .depth = N,
        .out = tensor_f32(d_weight),
        .a_step = C,
        .b_step = 1,
        .bias = nullptr,
        .accumulate = true,
    };

    if (cuda->terms == 1 || dtype == DTYPE_BF16)
        run_product<float, false, float, false, 1, 1>(cuda, &p);
    else
        run_product<float, false, float, false, 3, 3>(cuda, &p);
    if (d_bias)
        cuda_sum_columns(cuda, tensor_f32(d_bias), tensor_f32(d_out), nullptr, nullptr, N, M);
}
