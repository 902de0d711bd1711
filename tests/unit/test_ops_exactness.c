/* The promise of ops.h: an output element has the same bits whatever the number of rows, the number
 * of threads and the vector width. */
#include "test_ops_exactness.h"

#include <math.h>

static const int row_counts[] = {1, 2, 3, 5, 8, 13, 64, 257};
#define N_ROW_COUNTS (sizeof(row_counts) / sizeof(row_counts[0]))

/* Row r of `wide`-column results, alone among n rows, equals row r of all N. */
struct row_results {
    float *matmul, *norm, *rstd, *swiglu, *logprob, *entropy, *rope;
};

struct row_inputs {
    float *x, *weight, *bias, *norm_weight, *gate, *up, *logits, *heads, *table;
    int32_t *targets, *positions;
    struct matrix panels;   /* of weight */
};

static void make_inputs(struct ops *ops, struct row_inputs *in)
{
    in->x = random_floats(N * C, 1);
    in->weight = random_floats(M * C, 2);
    in->bias = random_floats(M, 3);
    in->norm_weight = random_floats(C, 4);
    in->gate = random_floats(N * C, 5);
    in->up = random_floats(N * C, 6);
    in->logits = random_floats(N * V, 7);
    in->heads = random_floats(N * H * D, 8);
    in->table = random_floats(50 * D, 9);
    in->targets = random_indices(N, V);
    in->positions = random_indices(N, 50);
    in->panels = (struct matrix){
        .form = MATRIX_PANELS, .dtype = DTYPE_F32, .M = M, .C = C};
    in->panels.data = calloc(1, ops_matrix_bytes(&in->panels));
    struct tensor weight = tensor_2d(in->weight, M, C);
    ops_matrix_write(ops, &in->panels, &weight, 0);
}

static void free_inputs(struct row_inputs *in)
{
    free(in->x);
    free(in->weight);
    free(in->panels.data);
    free(in->bias);
    free(in->norm_weight);
    free(in->gate);
    free(in->up);
    free(in->logits);
    free(in->heads);
    free(in->table);
    free(in->targets);
    free(in->positions);
}

static void free_results(struct row_results *out)
{
    free(out->matmul);
    free(out->norm);
    free(out->rstd);
    free(out->swiglu);
    free(out->logprob);
    free(out->entropy);
    free(out->rope);
}

/* All row-wise ops on rows first .. first + n - 1. */
static void run_rows(struct ops *ops, const struct row_inputs *in, int first, int n,
                     struct row_results *out)
{
    out->matmul = calloc((size_t)n * M, sizeof(float));
    out->norm = calloc((size_t)n * C, sizeof(float));
    out->rstd = calloc((size_t)n, sizeof(float));
    out->swiglu = calloc((size_t)n * C, sizeof(float));
    out->logprob = calloc((size_t)n, sizeof(float));
    out->entropy = calloc((size_t)n, sizeof(float));
    out->rope = calloc((size_t)n * H * D, sizeof(float));
    memcpy(out->rope, in->heads + first * H * D, (size_t)n * H * D * sizeof(float));
    struct tensor x = tensor_2d(in->x + first * C, n, C), y = tensor_2d(out->matmul, n, M);
    struct tensor bias = tensor_1d(in->bias, M), norm_weight = tensor_1d(in->norm_weight, C);
    struct tensor norm = tensor_2d(out->norm, n, C), rstd = tensor_1d(out->rstd, n);
    struct tensor gate = tensor_2d(in->gate + first * C, n, C);
    struct tensor up = tensor_2d(in->up + first * C, n, C);
    struct tensor swiglu = tensor_2d(out->swiglu, n, C);
    struct tensor logits = tensor_2d(in->logits + first * V, n, V);
    struct tensor logprob = tensor_1d(out->logprob, n), entropy = tensor_1d(out->entropy, n);
    struct tensor targets = tensor_i32(in->targets + first, n);
    struct tensor heads = tensor_3d(out->rope, n, H, D), table = tensor_3d(in->table, 50, 2, D / 2);
    struct tensor positions = tensor_i32(in->positions + first, n);

    ops_matmul(ops, &y, &x, &in->panels, &bias);
    ops_rmsnorm(ops, &norm, &rstd, &x, &norm_weight, 1e-6f);
    ops_swiglu(ops, &swiglu, &gate, &up);
    ops_token_logprob(ops, &logprob, &entropy, &logits, &targets, 0.9f);
    ops_rope(ops, &heads, &table, &positions, 0);
}

static void assert_same_rows(const struct row_results *all, int first, int n,
                             const struct row_results *some)
{
    assert_same_bits(all->matmul + first * M, some->matmul, n * M);
    assert_same_bits(all->norm + first * C, some->norm, n * C);
    assert_same_bits(all->rstd + first, some->rstd, n);
    assert_same_bits(all->swiglu + first * C, some->swiglu, n * C);
    assert_same_bits(all->logprob + first, some->logprob, n);
    assert_same_bits(all->entropy + first, some->entropy, n);
    assert_same_bits(all->rope + first * H * D, some->rope, (int64_t)n * H * D);
}

static void rows_do_not_depend_on_their_number(void **state)
{
    struct ops *ops = open_ops(*state, 2);
    struct row_inputs in;
    struct row_results all, some;

    make_inputs(ops, &in);
    run_rows(ops, &in, 0, N, &all);
    for (size_t i = 0; i < N_ROW_COUNTS; i++)
        for (int first = 0; first + row_counts[i] <= N; first += row_counts[i] + 17) {
            run_rows(ops, &in, first, row_counts[i], &some);
            assert_same_rows(&all, first, row_counts[i], &some);
            free_results(&some);
        }
    free_results(&all);
    free_inputs(&in);
    ops_destroy(&ops);
}

/* ---- Everything, backward passes too, as one long vector. */
struct everything {
    float *data;
    int64_t n, capacity;
};

static struct tensor keep(struct everything *all, const float *from, int n_dims,
                          const int64_t *shape)
{
    struct tensor t = tensor_view(NULL, DTYPE_F32, n_dims, shape);
    int64_t count = tensor_count(&t);

    assert_true(all->n + count <= all->capacity);
    t.data = all->data + all->n;
    if (from)
        memcpy(t.data, from, (size_t)count * sizeof(float));
    all->n += count;
    return t;
}

#define KEEP(from, ...)                                                                            \
    keep(all, from, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), (int64_t[]){__VA_ARGS__})

static void run_backward(struct ops *ops, const struct row_inputs *in, struct everything *all)
{
    float *g = random_floats(N * C, 20);
    struct matrix weight = matrix_rows(in->weight, M, C);
    struct tensor x = tensor_2d(in->x, N, C);
    struct tensor d_out = tensor_2d(in->logits, N, M), d_in = KEEP(in->gate, N, C);
    struct tensor d_weight = KEEP(in->up, M, C), d_bias = KEEP(in->bias, M);
    struct tensor dy = tensor_2d(g, N, C);
    struct tensor norm_weight = tensor_1d(in->norm_weight, C), d_norm = KEEP(in->norm_weight, C);
    struct tensor gate = tensor_2d(in->gate, N, C), up = tensor_2d(in->up, N, C);
    struct tensor d_gate = KEEP(NULL, N, C), d_up = KEEP(NULL, N, C), d_x = KEEP(in->up, N, C);
    struct tensor logits = KEEP(in->logits, N, V), d_logprob = tensor_1d(g, N);
    struct tensor targets = tensor_i32(in->targets, N), positions = tensor_i32(in->positions, N);
    struct tensor d_table = KEEP(in->gate, 50, C), y = KEEP(NULL, N, C), rs = KEEP(NULL, N);
    struct tensor w = KEEP(in->x, N * C), m = KEEP(in->gate, N * C), v = KEEP(NULL, N * C);
    struct tensor flat = tensor_1d(g, N * C), squares = KEEP(NULL, 2);
    struct adamw_step adamw = {1e-3, 0.9, 0.99, 1e-8, 0.1, 0.7, 3};

    ops_matmul_backward_input(ops, &d_in, &d_out, &weight);
    ops_matmul_backward_weight(ops, &d_weight, &d_bias, &d_out, &x);
    ops_rmsnorm(ops, &y, &rs, &x, &norm_weight, 1e-6f);
    ops_rmsnorm_backward(ops, &d_x, &d_norm, &dy, &x, &norm_weight, &rs);
    ops_swiglu_backward(ops, &d_gate, &d_up, &dy, &gate, &up);
    ops_token_logprob_backward(ops, &logits, &d_logprob, &targets, 0.9f);
    ops_embedding_backward(ops, &d_table, &dy, &positions);
    ops_adamw(ops, &w, &m, &v, &flat, &adamw);
    double sum = ops_sum_squares(ops, &flat);
    memcpy(squares.data, &sum, sizeof(sum));
    free(g);
}

static const int32_t bounds[] = {0, 1, 1, 30, 100, N}, prefixes[] = {-1, -1, -1, 2, 2};

static void run_attention(struct ops *ops, struct everything *all)
{
    float *q_data = random_floats(N * H * D, 30), *k_data = random_floats(N * K * D, 31);
    float *v_data = random_floats(N * K * D, 32), *g_data = random_floats(N * H * D, 33);
    struct tensor q = tensor_3d(q_data, N, H, D), k = tensor_3d(k_data, N, K, D);
    struct tensor v = tensor_3d(v_data, N, K, D), d_out = tensor_3d(g_data, N, H, D);
    struct tensor out = KEEP(NULL, N, H, D), lse = KEEP(NULL, N, H), d_q = KEEP(NULL, N, H, D);
    struct tensor d_k = KEEP(NULL, N, K, D), d_v = KEEP(NULL, N, K, D);
    struct tensor segments = tensor_i32(bounds, 6), before = tensor_i32(prefixes, 5);

    ops_attention(ops, &out, &lse, &q, &k, &v, &segments, &before);
    ops_attention_backward(ops, &d_q, &d_k, &d_v, &d_out, &q, &k, &v, &out, &lse, &segments,
                           &before);
    free(q_data);
    free(k_data);
    free(v_data);
    free(g_data);
}

/* A prompt of 45 rows and what follows it, twice: in segments that share the prompt, and each with
 * the prompt in front of it in one segment. */
enum { PROMPT = 45, PARTS = 4 };
static const int32_t part_bounds[PARTS + 2] = {0, PROMPT, 46, 80, 80, 190};
static const int32_t part_prefixes[PARTS + 1] = {-1, 0, 0, 0, 0};

static void rows_behind_a_shared_prompt_equal_those_of_one_segment(void **state)
{
    struct ops *ops = open_ops(*state, 2);
    int n = part_bounds[PARTS + 1];
    float *q_data = random_floats(n * H * D, 70), *k_data = random_floats(n * K * D, 71);
    float *v_data = random_floats(n * K * D, 72), *all = calloc((size_t)n * H * D, sizeof(*all));
    float *all_lse = calloc((size_t)n * H, sizeof(*all_lse));
    struct tensor q = tensor_3d(q_data, n, H, D), k = tensor_3d(k_data, n, K, D);
    struct tensor v = tensor_3d(v_data, n, K, D), out = tensor_3d(all, n, H, D);
    struct tensor lse = tensor_2d(all_lse, n, H);
    struct tensor segments = tensor_i32(part_bounds, PARTS + 2);
    struct tensor before = tensor_i32(part_prefixes, PARTS + 1);

    ops_attention(ops, &out, &lse, &q, &k, &v, &segments, &before);
    for (int s = 1; s <= PARTS; s++) {
        int own = part_bounds[s + 1] - part_bounds[s], rows = PROMPT + own;
        int32_t whole[] = {0, rows};
        float *x[5];
        const float *from[] = {q_data, k_data, v_data};
        for (int i = 0; i < 5; i++) {
            int width = i == 4 ? H : i == 0 || i == 3 ? H * D : K * D;
            x[i] = calloc((size_t)(rows * width), sizeof(float));
            if (i < 3) {
                memcpy(x[i], from[i], (size_t)(PROMPT * width) * sizeof(float));
                memcpy(x[i] + PROMPT * width, from[i] + part_bounds[s] * width,
                       (size_t)(own * width) * sizeof(float));
            }
        }
        struct tensor q1 = tensor_3d(x[0], rows, H, D), k1 = tensor_3d(x[1], rows, K, D);
        struct tensor v1 = tensor_3d(x[2], rows, K, D), out1 = tensor_3d(x[3], rows, H, D);
        struct tensor lse1 = tensor_2d(x[4], rows, H), one = tensor_i32(whole, 2);
        ops_attention(ops, &out1, &lse1, &q1, &k1, &v1, &one, NULL);
        assert_same_bits(all, x[3], PROMPT * H * D);
        assert_same_bits(all + part_bounds[s] * H * D, x[3] + PROMPT * H * D, (int64_t)own * H * D);
        assert_same_bits(all_lse + part_bounds[s] * H, x[4] + PROMPT * H, (int64_t)own * H);
        for (int i = 0; i < 5; i++)
            free(x[i]);
    }
    free(q_data);
    free(k_data);
    free(v_data);
    free(all);
    free(all_lse);
    ops_destroy(&ops);
}

static void run_everything(const char *device, int n_threads, struct everything *all)
{
    struct ops *ops = open_ops(device, n_threads);
    struct row_inputs in;
    struct row_results rows;

    *all = (struct everything){.capacity = 1000000};
    all->data = calloc((size_t)all->capacity, sizeof(float));
    make_inputs(ops, &in);
    run_rows(ops, &in, 0, N, &rows);
    KEEP(rows.matmul, N, M);
    KEEP(rows.norm, N, C);
    KEEP(rows.rstd, N);
    KEEP(rows.swiglu, N, C);
    KEEP(rows.logprob, N);
    KEEP(rows.entropy, N);
    KEEP(rows.rope, N, H, D);
    run_backward(ops, &in, all);
    run_attention(ops, all);
    free_results(&rows);
    free_inputs(&in);
    assert_int_equal(ops_sync(ops), 0);
    ops_destroy(&ops);
}

static void assert_all_same(const char *device, int n_threads, const struct everything *want)
{
    struct everything got;

    run_everything(device, n_threads, &got);
    assert_int_equal(got.n, want->n);
    for (int64_t i = 0; i < got.n; i++)
        if (memcmp(got.data + i, want->data + i, sizeof(float)) != 0)
            fail_msg("%s, %d threads: number %lld is %.9g, not %.9g", device, n_threads,
                     (long long)i, (double)got.data[i], (double)want->data[i]);
    free(got.data);
}

static void threads_change_nothing(void **state)
{
    struct everything one;

    run_everything(*state, 1, &one);
    assert_all_same(*state, 2, &one);
    assert_all_same(*state, 3, &one);
    assert_all_same(*state, 9, &one);
    assert_all_same(*state, 0, &one);
    free(one.data);
}

static void vector_width_changes_nothing(void **state)
{
    struct everything avx2;

    (void)state;
    run_everything("cpu:avx2", 2, &avx2);
    assert_all_same("cpu", 2, &avx2);
    assert_all_same("cpu:avx512", 2, &avx2);
    free(avx2.data);
}

/* Rows that a product makes panels of, and panels that were made before. */
static void forms_of_a_weight_give_the_same_bits(void **state)
{
    struct ops *ops = open_ops(*state, 2);
    float *values = random_floats(M * C, 60), *in = random_floats(N * C, 61);
    float *a = random_floats(3 * C, 62), *b = random_floats(M * 3, 63);
    float *first = calloc(N * M, sizeof(*first)), *second = calloc(N * M, sizeof(*second));
    float *seen = calloc(M * C, sizeof(*seen));

    for (int form = 0; form < 4; form++) {
        struct matrix rows = matrix_rows(values, M, C), panels;
        struct tensor x = tensor_2d(in, N, C), all = tensor_2d(seen, M, C);
        struct tensor out = tensor_2d(first, N, M), again = tensor_2d(second, N, M);
        rows.dtype = form % 2 ? DTYPE_BF16 : DTYPE_F32;
        if (form >= 2)
            rows.adapter = (struct adapter){3, 0.5f, a, b};
        ops_matrix_read(ops, &all, &rows, 0);
        panels = rows;
        panels.form = MATRIX_PANELS;
        panels.adapter.rank = 0;
        panels.data = calloc(1, ops_matrix_bytes(&panels));
        ops_matrix_write(ops, &panels, &all, 0);
        ops_matmul(ops, &out, &x, &rows, NULL);
        ops_matmul(ops, &again, &x, &panels, NULL);
        assert_same_bits(first, second, N * M);
        free(panels.data);
    }
    free(values);
    free(in);
    free(a);
    free(b);
    free(first);
    free(second);
    free(seen);
    ops_destroy(&ops);
}

/* One element, in the formula of ops.h: what is new is a rounded product, to which the old one is
 * fused. No build chooses otherwise, or the same run would learn other bits. */
static void step_alone(float *w, float *m, float *v, float g, const struct adamw_step *adamw)
{
    double m_correction = 1 - pow(adamw->beta1, (double)adamw->step);
    double v_correction = 1 - pow(adamw->beta2, (double)adamw->step);
    float keep = (float)(1 - adamw->learning_rate * adamw->weight_decay);

    g *= (float)adamw->gradient_scale;
    *m = fmaf(*m, (float)adamw->beta1, g * (float)(1 - adamw->beta1));
    *v = fmaf(*v, (float)adamw->beta2, g * g * (float)(1 - adamw->beta2));
    float below = fmaf(sqrtf(*v), (float)(1 / sqrt(v_correction)), (float)adamw->epsilon);
    *w = fmaf(*w, keep, *m / below * -(float)(adamw->learning_rate / m_correction));
}

static void adamw_rounds_what_is_new_and_fuses_what_was(void **state)
{
    const struct adamw_step adamw = {.learning_rate = 0.01, .beta1 = 0.9, .beta2 = 0.999,
                                     .epsilon = 1e-8, .weight_decay = 0.1, .gradient_scale = 0.7,
                                     .step = 3};
    struct ops *ops = open_ops(*state, 2);
    float *w = random_floats(N, 70), *m = random_floats(N, 71), *v = random_floats(N, 72);
    float *g = random_floats(N, 73), *want = calloc(3 * N, sizeof(*want));
    struct tensor weight = tensor_1d(w, N), first = tensor_1d(m, N), second = tensor_1d(v, N);
    struct tensor gradient = tensor_1d(g, N);

    for (int i = 0; i < N; i++) {
        v[i] = fabsf(v[i]);
        want[i] = w[i];
        want[N + i] = m[i];
        want[2 * N + i] = v[i];
        step_alone(&want[i], &want[N + i], &want[2 * N + i], g[i], &adamw);
    }
    ops_adamw(ops, &weight, &first, &second, &gradient, &adamw);
    assert_same_bits(m, want + N, N);
    assert_same_bits(v, want + 2 * N, N);
    assert_same_bits(w, want, N);
    free(w);
    free(m);
    free(v);
    free(g);
    free(want);
    ops_destroy(&ops);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON(rows_do_not_depend_on_their_number, "cpu"),
        ON(rows_do_not_depend_on_their_number, "cpu:avx2"),
        ON(rows_do_not_depend_on_their_number, "cpu:baseline"),
        ON(forms_of_a_weight_give_the_same_bits, "cpu"),
        ON(forms_of_a_weight_give_the_same_bits, "cpu:avx2"),
        ON(forms_of_a_weight_give_the_same_bits, "cpu:baseline"),
        ON(threads_change_nothing, "cpu"),
        ON(threads_change_nothing, "cpu:avx2"),
        ON(threads_change_nothing, "cpu:baseline"),
        cmocka_unit_test(vector_width_changes_nothing),
        ON(adamw_rounds_what_is_new_and_fuses_what_was, "cpu:avx2"),
        ON(rows_behind_a_shared_prompt_equal_those_of_one_segment, "cpu"),
        ON(rows_behind_a_shared_prompt_equal_those_of_one_segment, "cpu:avx2"),
        ON(rows_behind_a_shared_prompt_equal_those_of_one_segment, "cpu:baseline"),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
