/* out[N,M] = in[N,C] weight^T + bias: rows of the weight on the side of the tensor core's 16,
 * tokens on that of its 8, whatever their number. */
#include "ops/cuda/cuda_few.cuh"
#include "ops/cuda/cuda_weight.cuh"

/* Up to so many rows, reading the weight is what takes time. */
#define FEW 64

template <typename T, int A_TERMS, int B_TERMS>
static void run(struct cuda *cuda, const struct product *p)
{
    if (p->b.rows <= FEW)
        run_few<T, A_TERMS, B_TERMS>(cuda, p);
    else
        run_product<T, true, float, true, A_TERMS, B_TERMS>(cuda, p);
}

void cuda_matmul(void *context, struct tensor *out, const struct tensor *in,
                 const struct matrix *weight, const struct tensor *bias)
{
    struct cuda *cuda = (struct cuda *)context;
    int64_t N = in->shape[0], C = in->shape[1], M = out->shape[1];
    struct seen_weight seen = cuda_see_weight(cuda, weight);
    struct product p = {
        .a = operand_of(seen.data, seen.is_bf16 ? 2 : 4, M, C),
        .b = operand_of(in->data, sizeof(float), N, C),
        .depth = C,
        .out = tensor_f32(out),
        .a_step = 1,
        .b_step = M,
        .bias = bias ? tensor_f32(bias) : nullptr,
        .accumulate = false,
    };

    if (seen.is_bf16)
        run<uint16_t, 1, 1>(cuda, &p);
    else if (seen.is_rounded || cuda->terms == 1)
        run<float, 1, 1>(cuda, &p);
    else
        run<float, 3, 3>(cuda, &p);
}
