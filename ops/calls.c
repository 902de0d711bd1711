/* The ops of ops.h: shapes and types are checked here, once for all backends, then dispatched;
 * those around attention are in calls_attention.c. */
#include "ops/checks.h"

void ops_matrix_read(struct ops *ops, struct tensor *rows, const struct matrix *matrix,
                     int64_t first)
{
    CHECK_2D(rows, rows->shape[0], matrix->C);
    ops_check_matrix(__func__, matrix, matrix->M, matrix->C);
    REQUIRE(first >= 0 && first + rows->shape[0] <= matrix->M);
    ops->table->matrix_read(ops->context, rows, matrix, first);
}

void ops_matrix_write(struct ops *ops, struct matrix *matrix, const struct tensor *rows,
                      int64_t first)
{
    int64_t end = first + rows->shape[0];

    CHECK_2D(rows, rows->shape[0], matrix->C);
    ops_check_matrix(__func__, matrix, matrix->M, matrix->C);
    REQUIRE(matrix->form == MATRIX_PANELS);
    REQUIRE(first >= 0 && first % OPS_PANEL == 0 && end <= matrix->M);
    REQUIRE(end % OPS_PANEL == 0 || end == matrix->M);
    ops->table->matrix_write(ops->context, matrix, rows, first);
}

void ops_round_bf16(struct ops *ops, struct tensor *out, const struct tensor *in)
{
    ops_check_same(__func__, out, in);
    ops->table->round_bf16(ops->context, out, in);
}

void ops_round_stochastic(struct ops *ops, struct tensor *x, uint64_t noise, int64_t first)
{
    ops_check_same(__func__, x, x);
    REQUIRE(first >= 0);
    ops->table->round_stochastic(ops->context, x, noise, first);
}

void ops_matmul(struct ops *ops, struct tensor *out, const struct tensor *in,
                const struct matrix *weight, const struct tensor *bias)
{
    int64_t N = in->shape[0], C = in->shape[1], M = out->shape[1];

    CHECK_2D(in, N, C);
    CHECK_2D(out, N, M);
    ops_check_matrix(__func__, weight, M, C);
    if (bias)
        CHECK_1D(bias, M);
    if (N > 0 && M > 0)
        ops->table->matmul(ops->context, out, in, weight, bias);
}

void ops_matmul_backward_input(struct ops *ops, struct tensor *d_in, const struct tensor *d_out,
                               const struct matrix *weight)
{
    int64_t N = d_out->shape[0], M = d_out->shape[1], C = d_in->shape[1];

    CHECK_2D(d_out, N, M);
    CHECK_2D(d_in, N, C);
    ops_check_matrix(__func__, weight, M, C);
    if (N > 0 && M > 0 && C > 0)
        ops->table->matmul_backward_input(ops->context, d_in, d_out, weight);
}

void ops_matmul_backward_weight(struct ops *ops, struct tensor *d_weight, struct tensor *d_bias,
                                const struct tensor *d_out, const struct tensor *in)
{
    struct ops_product_gradient gradient = {d_out, NULL, d_weight, d_bias};

    ops_matmul_backward_weights(ops, &gradient, 1, in);
}

static void check_count(const char *op, int n)
{
    if (n < 1 || n > OPS_MOST_PRODUCTS)
        BUG("%s: %d products at once, not 1 to %d", op, n, OPS_MOST_PRODUCTS);
}

void ops_matmul_several(struct ops *ops, const struct ops_product *products, int n,
                        const struct tensor *in)
{
    int64_t N = in->shape[0], C = in->shape[1];

    check_count(__func__, n);
    CHECK_2D(in, N, C);
    for (int i = 0; i < n; i++) {
        const struct ops_product *x = &products[i];
        CHECK_2D(x->out, N, x->out->shape[1]);
        ops_check_matrix(__func__, x->weight, x->out->shape[1], C);
        if (x->bias)
            CHECK_1D(x->bias, x->out->shape[1]);
        if (x->residual)
            ops_check_same(__func__, x->residual, x->out);
    }
    if (N > 0 && ops->table->matmul_several) {
        ops->table->matmul_several(ops->context, products, n, in);
        return;
    }
    for (int i = 0; i < n; i++) {
        ops_matmul(ops, products[i].out, in, products[i].weight, products[i].bias);
        if (products[i].residual)
            ops_add(ops, products[i].out, products[i].residual);
    }
}

void ops_matmul_backward_inputs(struct ops *ops, struct tensor *d_in,
                                const struct ops_product_gradient *gradients, int n)
{
    int64_t N = d_in->shape[0], C = d_in->shape[1];

    check_count(__func__, n);
    CHECK_2D(d_in, N, C);
    for (int i = 0; i < n; i++) {
        CHECK_2D(gradients[i].d_out, N, gradients[i].d_out->shape[1]);
        ops_check_matrix(__func__, gradients[i].weight, gradients[i].d_out->shape[1], C);
    }
    if (N > 0 && C > 0 && ops->table->matmul_backward_inputs) {
        ops->table->matmul_backward_inputs(ops->context, d_in, gradients, n);
        return;
    }
    ops_zero(ops, d_in->data, (size_t)tensor_count(d_in) * sizeof(float));
    for (int i = 0; i < n; i++)
        ops_matmul_backward_input(ops, d_in, gradients[i].d_out, gradients[i].weight);
}

void ops_matmul_backward_weights(struct ops *ops, const struct ops_product_gradient *gradients,
                                 int n, const struct tensor *in)
{
    int64_t N = in->shape[0], C = in->shape[1];

    check_count(__func__, n);
    CHECK_2D(in, N, C);
    for (int i = 0; i < n; i++) {
        int64_t M = gradients[i].d_out->shape[1];
        CHECK_2D(gradients[i].d_out, N, M);
        CHECK_2D(gradients[i].d_weight, M, C);
        if (gradients[i].d_bias)
            CHECK_1D(gradients[i].d_bias, M);
    }
    if (N > 0 && C > 0 && ops->table->matmul_backward_weights) {
        ops->table->matmul_backward_weights(ops->context, gradients, n, in);
        return;
    }
    for (int i = 0; N > 0 && C > 0 && i < n; i++) {
        const struct ops_product_gradient *x = &gradients[i];
        ops->table->matmul_backward_weight(ops->context, x->d_weight, x->d_bias, x->d_out, in,
                                           x->weight ? x->weight->dtype : DTYPE_F32);
    }
}

void ops_rmsnorm(struct ops *ops, struct tensor *out, struct tensor *rstd, const struct tensor *in,
                 const struct tensor *weight, float eps)
{
    int64_t N = in->shape[0], C = in->shape[1];

    CHECK_2D(in, N, C);
    CHECK_2D(out, N, C);
    CHECK_1D(weight, C);
    if (rstd)
        CHECK_1D(rstd, N);
    if (N > 0 && C > 0)
        ops->table->rmsnorm(ops->context, out, rstd, in, weight, eps);
}

void ops_rmsnorm_backward(struct ops *ops, struct tensor *d_in, struct tensor *d_weight,
                          const struct tensor *d_out, const struct tensor *in,
                          const struct tensor *weight, const struct tensor *rstd)
{
    int64_t N = in->shape[0], C = in->shape[1];

    CHECK_2D(in, N, C);
    CHECK_2D(d_in, N, C);
    CHECK_2D(d_out, N, C);
    CHECK_1D(d_weight, C);
    CHECK_1D(weight, C);
    CHECK_1D(rstd, N);
    REQUIRE(d_in->data != d_out->data || N == 0);
    if (N > 0 && C > 0)
        ops->table->rmsnorm_backward(ops->context, d_in, d_weight, d_out, in, weight, rstd);
}

void ops_rope(struct ops *ops, struct tensor *x, const struct tensor *table,
              const struct tensor *positions, int inverse)
{
    int64_t N = x->shape[0], H = x->shape[1], D = x->shape[2];

    CHECK_3D(x, N, H, D);
    REQUIRE(D % 2 == 0);
    CHECK_3D(table, table->shape[0], 2, D / 2);
    CHECK_I32(positions, N);
    ops_check_indices(ops, __func__, positions, table->shape[0]);
    if (N > 0)
        ops->table->rope(ops->context, x, table, positions, inverse);
}

void ops_swiglu(struct ops *ops, struct tensor *out, const struct tensor *gate,
                const struct tensor *up)
{
    CHECK_2D(gate, gate->shape[0], gate->shape[1]);
    CHECK_2D(out, gate->shape[0], gate->shape[1]);
    CHECK_2D(up, gate->shape[0], gate->shape[1]);
    ops->table->swiglu(ops->context, out, gate, up);
}

void ops_swiglu_backward(struct ops *ops, struct tensor *d_gate, struct tensor *d_up,
                         const struct tensor *d_out, const struct tensor *gate,
                         const struct tensor *up)
{
    int64_t N = gate->shape[0], F = gate->shape[1];

    CHECK_2D(gate, N, F);
    CHECK_2D(up, N, F);
    CHECK_2D(d_out, N, F);
    CHECK_2D(d_gate, N, F);
    CHECK_2D(d_up, N, F);
    ops->table->swiglu_backward(ops->context, d_gate, d_up, d_out, gate, up);
}

void ops_add(struct ops *ops, struct tensor *out, const struct tensor *in)
{
    ops_check_same(__func__, out, in);
    ops->table->add(ops->context, out, in);
}

void ops_scale(struct ops *ops, struct tensor *x, float factor)
{
    ops_check_same(__func__, x, x);
    ops->table->scale(ops->context, x, factor);
}

void ops_embedding(struct ops *ops, struct tensor *out, const struct matrix *table,
                   const struct tensor *tokens)
{
    CHECK_2D(out, out->shape[0], out->shape[1]);
    ops_check_matrix(__func__, table, table->M, out->shape[1]);
    CHECK_I32(tokens, out->shape[0]);
    ops_check_indices(ops, __func__, tokens, table->M);
    ops->table->embedding(ops->context, out, table, tokens);
}

void ops_embedding_backward(struct ops *ops, struct tensor *d_table, const struct tensor *d_out,
                            const struct tensor *tokens)
{
    CHECK_2D(d_out, d_out->shape[0], d_out->shape[1]);
    CHECK_2D(d_table, d_table->shape[0], d_out->shape[1]);
    CHECK_I32(tokens, d_out->shape[0]);
    ops_check_indices(ops, __func__, tokens, d_table->shape[0]);
    ops->table->embedding_backward(ops->context, d_table, d_out, tokens);
}

void ops_gather_rows(struct ops *ops, struct tensor *out, const struct tensor *in,
                     const struct tensor *rows)
{
    CHECK_2D(out, out->shape[0], out->shape[1]);
    CHECK_2D(in, in->shape[0], out->shape[1]);
    CHECK_I32(rows, out->shape[0]);
    ops_check_indices(ops, __func__, rows, in->shape[0]);
    ops->table->gather_rows(ops->context, out, in, rows);
}

void ops_scatter_add_rows(struct ops *ops, struct tensor *d_in, const struct tensor *d_out,
                          const struct tensor *rows)
{
    CHECK_2D(d_out, d_out->shape[0], d_out->shape[1]);
    CHECK_2D(d_in, d_in->shape[0], d_out->shape[1]);
    CHECK_I32(rows, d_out->shape[0]);
    ops_check_indices(ops, __func__, rows, d_in->shape[0]);
    ops->table->scatter_add_rows(ops->context, d_in, d_out, rows);
}

void ops_token_logprob(struct ops *ops, struct tensor *logprob, struct tensor *entropy,
                       const struct tensor *logits, const struct tensor *targets,
                       float temperature)
{
    int64_t N = logits->shape[0], V = logits->shape[1];

    CHECK_2D(logits, N, V);
    CHECK_1D(logprob, N);
    CHECK_I32(targets, N);
    if (entropy)
        CHECK_1D(entropy, N);
    REQUIRE(temperature > 0);
    ops_check_indices(ops, __func__, targets, V);
    ops->table->token_logprob(ops->context, logprob, entropy, logits, targets, temperature);
}

void ops_token_logprob_backward(struct ops *ops, struct tensor *logits,
                                const struct tensor *d_logprob, const struct tensor *targets,
                                float temperature)
{
    int64_t N = logits->shape[0], V = logits->shape[1];

    CHECK_2D(logits, N, V);
    CHECK_1D(d_logprob, N);
    CHECK_I32(targets, N);
    REQUIRE(temperature > 0);
    ops_check_indices(ops, __func__, targets, V);
    ops->table->token_logprob_backward(ops->context, logits, d_logprob, targets, temperature);
}

double ops_sum_squares(struct ops *ops, const struct tensor *x)
{
    ops_check_same(__func__, x, x);
    return ops->table->sum_squares(ops->context, x);
}

int ops_all_finite(struct ops *ops, const struct tensor *x)
{
    ops_check_same(__func__, x, x);
    return ops->table->all_finite(ops->context, x);
}

void ops_adamw(struct ops *ops, struct tensor *weight, struct tensor *m, struct tensor *v,
               const struct tensor *gradient, const struct adamw_step *adamw)
{
    ops_check_same(__func__, weight, m);
    ops_check_same(__func__, weight, v);
    ops_check_same(__func__, weight, gradient);
    REQUIRE(adamw->step >= 1);
    ops->table->adamw(ops->context, weight, m, v, gradient, adamw);
}
