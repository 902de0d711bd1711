/*
 * bench/bench_ops.c - speed of each op, beside what this machine can do in the same minute.
 *
 * Prints for each row the best and the median time of its repeats, GFLOP/s, and the share of the
 * peak: independent chains of multiply-adds on as many threads, measured by this program just
 * before. Ops that move memory print GB/s instead, beside a plain copy.
 *
 *     bench_ops [device] [threads] [text that a row's name must contain] [table]
 *
 * Each row's name and median, in GFLOP/s or GB/s, are appended to the table.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "common/random.h"
#include "common/status.h"
#include "ops/ops.h"

#define MOST_REPEATS 2000
#define SECONDS_PER_ROW 0.2

/* ---- Operands, made once: large enough for every row. */
#define FLOATS ((int64_t)8 << 20)
struct operands {
    struct ops *ops;
    float *x[8];
    int32_t *indices, *segments;
};

struct row {
    const char *name;
    void (*run)(struct operands *o, const int64_t *s);
    double (*count)(const int64_t *s);   /* flops, or bytes when `streams` */
    int64_t s[4];
    int streams;
};

static double product_flops(const int64_t *s)
{
    return 2.0 * (double)s[0] * (double)s[1] * (double)s[2];
}

static void run_matmul(struct operands *o, const int64_t *s)
{
    struct tensor in = tensor_2d(o->x[0], s[0], s[1]), out = tensor_2d(o->x[1], s[0], s[2]);
    struct matrix weight = matrix_rows(o->x[2], s[2], s[1]);

    weight.form = MATRIX_PANELS;
    weight.dtype = s[3] ? DTYPE_BF16 : DTYPE_F32;
    ops_matmul(o->ops, &out, &in, &weight, NULL);
}

static void run_matmul_rows(struct operands *o, const int64_t *s)
{
    struct tensor in = tensor_2d(o->x[0], s[0], s[1]), out = tensor_2d(o->x[1], s[0], s[2]);
    struct matrix weight = matrix_rows(o->x[2], s[2], s[1]);

    ops_matmul(o->ops, &out, &in, &weight, NULL);
}

static void run_backward_input(struct operands *o, const int64_t *s)
{
    struct tensor d_in = tensor_2d(o->x[0], s[0], s[1]), d_out = tensor_2d(o->x[1], s[0], s[2]);
    struct matrix weight = matrix_rows(o->x[2], s[2], s[1]);

    ops_matmul_backward_input(o->ops, &d_in, &d_out, &weight);
}

static void run_backward_weight(struct operands *o, const int64_t *s)
{
    struct tensor in = tensor_2d(o->x[0], s[0], s[1]), d_out = tensor_2d(o->x[1], s[0], s[2]);
    struct tensor d_weight = tensor_2d(o->x[2], s[2], s[1]);

    ops_matmul_backward_weight(o->ops, &d_weight, NULL, &d_out, &in);
}

static double attention_flops(const int64_t *s)
{
    double pairs = 0.5 * (double)s[0] * (double)(s[0] + 1) * (double)s[3];

    return 4 * pairs * (double)s[1] * (double)s[2];
}

static double attention_backward_flops(const int64_t *s)
{
    return 2.5 * attention_flops(s);
}

/* s: rows of a segment, heads (half as many key/value heads), width, segments */
static void run_attention(struct operands *o, const int64_t *s)
{
    int64_t N = s[0] * s[3], H = s[1], D = s[2];
    struct tensor q = tensor_3d(o->x[0], N, H, D), k = tensor_3d(o->x[1], N, H / 2, D);
    struct tensor v = tensor_3d(o->x[2], N, H / 2, D), out = tensor_3d(o->x[3], N, H, D);
    struct tensor lse = tensor_2d(o->x[4], N, H);

    for (int64_t i = 0; i <= s[3]; i++)
        o->segments[i] = (int32_t)(i * s[0]);
    struct tensor segments = tensor_i32(o->segments, s[3] + 1);
    ops_attention(o->ops, &out, &lse, &q, &k, &v, &segments, NULL);
}

static void run_attention_backward(struct operands *o, const int64_t *s)
{
    int64_t N = s[0] * s[3], H = s[1], D = s[2];
    struct tensor q = tensor_3d(o->x[0], N, H, D), k = tensor_3d(o->x[1], N, H / 2, D);
    struct tensor v = tensor_3d(o->x[2], N, H / 2, D), out = tensor_3d(o->x[3], N, H, D);
    struct tensor lse = tensor_2d(o->x[4], N, H), d_q = tensor_3d(o->x[5], N, H, D);
    struct tensor d_k = tensor_3d(o->x[6], N, H / 2, D), d_v = tensor_3d(o->x[7], N, H / 2, D);

    for (int64_t i = 0; i <= s[3]; i++)
        o->segments[i] = (int32_t)(i * s[0]);
    struct tensor segments = tensor_i32(o->segments, s[3] + 1);
    ops_attention_backward(o->ops, &d_q, &d_k, &d_v, &out, &q, &k, &v, &out, &lse, &segments,
                           NULL);
}

enum { GROUP_PROMPT = 64 };

static double group_flops(const int64_t *s)
{
    double n = (double)s[0], prompt = GROUP_PROMPT;
    double pairs = 0.5 * prompt * (prompt + 1) + (double)s[3] * n * (prompt + 0.5 * (n + 1));

    return 4 * pairs * (double)(s[1] * s[2]);
}

static double group_backward_flops(const int64_t *s)
{
    return 2.5 * group_flops(s);
}

/* s: rows of a completion, heads, width, completions behind one prompt */
static void attend_group(struct operands *o, const int64_t *s, int backward)
{
    int64_t N = GROUP_PROMPT + s[0] * s[3], H = s[1], D = s[2];
    struct tensor q = tensor_3d(o->x[0], N, H, D), k = tensor_3d(o->x[1], N, H / 2, D);
    struct tensor v = tensor_3d(o->x[2], N, H / 2, D), out = tensor_3d(o->x[3], N, H, D);
    struct tensor lse = tensor_2d(o->x[4], N, H), d_q = tensor_3d(o->x[5], N, H, D);
    struct tensor d_k = tensor_3d(o->x[6], N, H / 2, D), d_v = tensor_3d(o->x[7], N, H / 2, D);
    int32_t before[64] = {-1};

    o->segments[0] = 0;
    for (int64_t i = 0; i <= s[3]; i++)
        o->segments[i + 1] = (int32_t)(GROUP_PROMPT + i * s[0]);
    struct tensor segments = tensor_i32(o->segments, s[3] + 2);
    struct tensor prefixes = tensor_i32(before, s[3] + 1);
    if (backward)
        ops_attention_backward(o->ops, &d_q, &d_k, &d_v, &out, &q, &k, &v, &out, &lse, &segments,
                               &prefixes);
    else
        ops_attention(o->ops, &out, &lse, &q, &k, &v, &segments, &prefixes);
}

static void run_attention_group(struct operands *o, const int64_t *s)
{
    attend_group(o, s, 0);
}

static void run_attention_group_backward(struct operands *o, const int64_t *s)
{
    attend_group(o, s, 1);
}

static double decode_flops(const int64_t *s)
{
    return 4.0 * (double)s[0] * (double)s[3] * (double)s[1] * (double)s[2];
}

/* s: sequences, heads, width, keys; all but 16 of the keys are shared by groups of 8 */
static void decode(struct operands *o, const int64_t *s, int64_t shared)
{
    enum { PAGE = 64 };
    int64_t N = s[0], H = s[1], D = s[2], padded = (s[3] + PAGE - 1) / PAGE;
    struct tensor q = tensor_3d(o->x[0], N, H, D), out = tensor_3d(o->x[3], N, H, D);
    struct kv_cache cache = {.n_rows = 2 * N * padded * PAGE,
                             .K = H / 2,
                             .D = D,
                             .page_rows = PAGE,
                             .data = o->x[1]};
    static int32_t host[4 * 256], list[1 << 14];
    struct tensor runs = tensor_i32(host, 4 * N), pages = tensor_i32(list, 2 * N * padded);

    /* Sequences that grew side by side have their pages in turn. */
    for (int64_t n = 0; n < 2 * N; n++)
        for (int64_t i = 0; i < padded; i++)
            list[n * padded + i] = (int32_t)(i * 2 * N + n);
    for (int64_t n = 0; n < N; n++) {
        const int32_t run[4] = {(int32_t)(n / 8 * padded), (int32_t)shared,
                                (int32_t)((N + n) * padded), (int32_t)(s[3] - shared)};
        memcpy(host + 4 * n, run, sizeof(run));
    }
    ops_attention_decode(o->ops, &out, &q, &cache, &pages, &runs);
}

static void run_decode_shared(struct operands *o, const int64_t *s)
{
    decode(o, s, s[3] - 16);
}

static void run_decode_own(struct operands *o, const int64_t *s)
{
    decode(o, s, 0);
}

static void run_rmsnorm(struct operands *o, const int64_t *s)
{
    struct tensor in = tensor_2d(o->x[0], s[0], s[1]), out = tensor_2d(o->x[1], s[0], s[1]);
    struct tensor weight = tensor_1d(o->x[2], s[1]), rstd = tensor_1d(o->x[3], s[0]);

    ops_rmsnorm(o->ops, &out, &rstd, &in, &weight, 1e-6f);
}

static void run_rmsnorm_backward(struct operands *o, const int64_t *s)
{
    struct tensor in = tensor_2d(o->x[0], s[0], s[1]), d_out = tensor_2d(o->x[1], s[0], s[1]);
    struct tensor weight = tensor_1d(o->x[2], s[1]), rstd = tensor_1d(o->x[3], s[0]);
    struct tensor d_in = tensor_2d(o->x[4], s[0], s[1]), d_weight = tensor_1d(o->x[5], s[1]);

    ops_rmsnorm_backward(o->ops, &d_in, &d_weight, &d_out, &in, &weight, &rstd);
}

static void run_rope(struct operands *o, const int64_t *s)
{
    struct tensor x = tensor_3d(o->x[0], s[0], s[1], s[2]);
    struct tensor table = tensor_3d(o->x[1], 64, 2, s[2] / 2);
    struct tensor positions = tensor_i32(o->indices, s[0]);

    ops_rope(o->ops, &x, &table, &positions, 0);
}

static void run_swiglu(struct operands *o, const int64_t *s)
{
    struct tensor gate = tensor_2d(o->x[0], s[0], s[1]), up = tensor_2d(o->x[1], s[0], s[1]);
    struct tensor out = tensor_2d(o->x[2], s[0], s[1]);

    ops_swiglu(o->ops, &out, &gate, &up);
}

static void run_swiglu_backward(struct operands *o, const int64_t *s)
{
    struct tensor gate = tensor_2d(o->x[0], s[0], s[1]), up = tensor_2d(o->x[1], s[0], s[1]);
    struct tensor d_out = tensor_2d(o->x[2], s[0], s[1]);
    struct tensor d_gate = tensor_2d(o->x[3], s[0], s[1]), d_up = tensor_2d(o->x[4], s[0], s[1]);

    ops_swiglu_backward(o->ops, &d_gate, &d_up, &d_out, &gate, &up);
}

static void run_logprob(struct operands *o, const int64_t *s)
{
    struct tensor logits = tensor_2d(o->x[0], s[0], s[1]), targets = tensor_i32(o->indices, s[0]);
    struct tensor logprob = tensor_1d(o->x[1], s[0]), entropy = tensor_1d(o->x[2], s[0]);

    ops_token_logprob(o->ops, &logprob, &entropy, &logits, &targets, 1);
}

static void run_logprob_backward(struct operands *o, const int64_t *s)
{
    struct tensor logits = tensor_2d(o->x[0], s[0], s[1]), targets = tensor_i32(o->indices, s[0]);
    struct tensor d_logprob = tensor_1d(o->x[1], s[0]);

    ops_token_logprob_backward(o->ops, &logits, &d_logprob, &targets, 1);
}

static void run_embedding_backward(struct operands *o, const int64_t *s)
{
    struct tensor table = tensor_2d(o->x[0], 64, s[1]), d_out = tensor_2d(o->x[1], s[0], s[1]);
    struct tensor tokens = tensor_i32(o->indices, s[0]);

    ops_embedding_backward(o->ops, &table, &d_out, &tokens);
}

static void run_adamw(struct operands *o, const int64_t *s)
{
    struct tensor w = tensor_1d(o->x[0], s[0]), m = tensor_1d(o->x[1], s[0]);
    struct tensor v = tensor_1d(o->x[6], s[0]), g = tensor_1d(o->x[3], s[0]);
    struct adamw_step adamw = {1e-9, 0.9, 0.999, 1e-8, 0, 1, 10};

    ops_adamw(o->ops, &w, &m, &v, &g, &adamw);
}

static void run_copy(struct operands *o, const int64_t *s)
{
    ops_copy(o->ops, o->x[0], o->x[1], (size_t)s[0] * sizeof(float));
}

static void run_sum_squares(struct operands *o, const int64_t *s)
{
    struct tensor x = tensor_1d(o->x[0], s[0]);

    ops_sum_squares(o->ops, &x);
}

static double bytes_1(const int64_t *s) { return 4.0 * (double)s[0]; }
static double bytes_2(const int64_t *s) { return 8.0 * (double)s[0]; }
static double bytes_7(const int64_t *s) { return 28.0 * (double)s[0]; }
static double rows_2(const int64_t *s) { return 8.0 * (double)(s[0] * s[1]); }
static double rows_1(const int64_t *s) { return 4.0 * (double)(s[0] * s[1]); }
static double rows_3(const int64_t *s) { return 12.0 * (double)(s[0] * s[1]); }
static double rows_5(const int64_t *s) { return 20.0 * (double)(s[0] * s[1]); }
static double heads_2(const int64_t *s) { return 8.0 * (double)(s[0] * s[1] * s[2]); }

#define PRODUCT(label, run, N, C, M) {label " " #N "," #C "," #M, run, product_flops, {N, C, M}, 0}
static const struct row rows[] = {
    PRODUCT("matmul", run_matmul, 1, 256, 1024),
    PRODUCT("matmul", run_matmul, 8, 256, 1024),
    PRODUCT("matmul", run_matmul, 16, 256, 1024),
    PRODUCT("matmul", run_matmul, 64, 256, 1024),
    PRODUCT("matmul", run_matmul, 64, 96, 256),
    PRODUCT("matmul", run_matmul, 64, 1024, 256),
    PRODUCT("matmul", run_matmul, 256, 96, 96),
    {"matmul, bf16 weights 1,896,4864", run_matmul, product_flops, {1, 896, 4864, 1}, 0},
    {"matmul, bf16 weights 64,896,4864", run_matmul, product_flops, {64, 896, 4864, 1}, 0},
    PRODUCT("matmul", run_matmul, 1024, 96, 256),
    PRODUCT("matmul", run_matmul, 1024, 256, 96),
    PRODUCT("matmul", run_matmul, 1024, 256, 768),
    PRODUCT("matmul", run_matmul, 1024, 768, 256),
    PRODUCT("matmul", run_matmul, 4000, 256, 300),
    PRODUCT("matmul", run_matmul, 1024, 1024, 1024),
    PRODUCT("matmul of rows", run_matmul_rows, 1024, 256, 1024),
    PRODUCT("matmul of rows", run_matmul_rows, 1024, 1024, 256),
    PRODUCT("backward_input", run_backward_input, 1024, 256, 1024),
    PRODUCT("backward_input", run_backward_input, 1024, 1024, 256),
    PRODUCT("backward_input", run_backward_input, 1024, 96, 256),
    PRODUCT("backward_input", run_backward_input, 1024, 256, 768),
    PRODUCT("backward_input", run_backward_input, 4000, 768, 256),
    PRODUCT("backward_weight", run_backward_weight, 1024, 256, 1024),
    PRODUCT("backward_weight", run_backward_weight, 1024, 1024, 256),
    PRODUCT("backward_weight", run_backward_weight, 1024, 96, 256),
    PRODUCT("backward_weight", run_backward_weight, 1024, 256, 768),
    PRODUCT("backward_weight", run_backward_weight, 4000, 768, 256),
    {"attention 40 rows, 8 x 32, 50 segments", run_attention, attention_flops, {40, 8, 32, 50}, 0},
    {"attention 80 rows, 4 x 64, 25 segments", run_attention, attention_flops, {80, 4, 64, 25}, 0},
    {"attention 60 rows, 6 x 16, 40 segments", run_attention, attention_flops, {60, 6, 16, 40}, 0},
    {"attention 1024 rows, 8 x 32", run_attention, attention_flops, {1024, 8, 32, 1}, 0},
    {"attention_backward 40 rows, 8 x 32, 50 segments", run_attention_backward,
     attention_backward_flops, {40, 8, 32, 50}, 0},
    {"attention_backward 60 rows, 6 x 16, 40 segments", run_attention_backward,
     attention_backward_flops, {60, 6, 16, 40}, 0},
    {"attention of a group 64 + 8 x 128 rows, 8 x 32", run_attention_group, group_flops,
     {128, 8, 32, 8}, 0},
    {"attention_backward of a group 64 + 8 x 128", run_attention_group_backward,
     group_backward_flops, {128, 8, 32, 8}, 0},
    {"attention_backward 1024 rows, 8 x 32", run_attention_backward, attention_backward_flops,
     {1024, 8, 32, 1}, 0},
    {"attention_decode 64, 8 x 32, 240 shared by 8", run_decode_shared, decode_flops,
     {64, 8, 32, 240}, 0},
    {"attention_decode 64, 8 x 32, 240 own", run_decode_own, decode_flops, {64, 8, 32, 240}, 0},
    {"attention_decode 64, 8 x 32, 40 own", run_decode_own, decode_flops, {64, 8, 32, 40}, 0},
    {"copy 8388608", run_copy, bytes_2, {8388608}, 1},
    {"rmsnorm 2000,256", run_rmsnorm, rows_2, {2000, 256}, 1},
    {"rmsnorm 16000,32", run_rmsnorm, rows_2, {16000, 32}, 1},
    {"rmsnorm_backward 2000,256", run_rmsnorm_backward, rows_5, {2000, 256}, 1},
    {"rmsnorm_backward 16000,32", run_rmsnorm_backward, rows_5, {16000, 32}, 1},
    {"rope 2000,8,32", run_rope, heads_2, {2000, 8, 32}, 1},
    {"rope 2000,6,16", run_rope, heads_2, {2000, 6, 16}, 1},
    {"swiglu 2000,768", run_swiglu, rows_3, {2000, 768}, 1},
    {"swiglu_backward 2000,768", run_swiglu_backward, rows_5, {2000, 768}, 1},
    {"token_logprob 2000,300", run_logprob, rows_1, {2000, 300}, 1},
    {"token_logprob 2000,1024", run_logprob, rows_1, {2000, 1024}, 1},
    {"token_logprob_backward 2000,300", run_logprob_backward, rows_2, {2000, 300}, 1},
    {"embedding_backward 4000,256", run_embedding_backward, rows_3, {4000, 256}, 1},
    {"sum_squares 4194304", run_sum_squares, bytes_1, {4194304}, 1},
    {"adamw 1048576", run_adamw, bytes_7, {1048576}, 1},
    {"adamw 8388608", run_adamw, bytes_7, {8388608}, 1},
};

static void bench_row(struct operands *o, const struct row *row, double peak, FILE *table)
{
    static double seconds[MOST_REPEATS];
    int n = 0;
    double start = bench_now();

    row->run(o, row->s);
    ops_sync(o->ops);
    for (; n < MOST_REPEATS && (n < 3 || bench_now() - start < SECONDS_PER_ROW); n++) {
        double before = bench_now();
        row->run(o, row->s);
        ops_sync(o->ops);
        seconds[n] = bench_now() - before;
    }
    double middle = bench_median(seconds, (size_t)n);
    double best = row->count(row->s) / seconds[0], median = row->count(row->s) / middle;
    printf("%-48s %9.1f us %9.1f us %8.1f %8.1f %s", row->name, 1e6 * middle,
           1e6 * seconds[0], 1e-9 * median, 1e-9 * best, row->streams ? "GB/s   " : "GFLOP/s");
    if (!row->streams)
        printf(" %3.0f %%", 100 * median / peak);
    printf("\n");
    fflush(stdout);
    if (table)
        fprintf(table, "%s\t%.4g\n", row->name, 1e-9 * median);
}

static void make_operands(struct operands *o)
{
    struct random_stream stream = {.seed = 1};

    for (int i = 0; i < 8; i++) {
        o->x[i] = malloc((size_t)FLOATS * sizeof(float));
        for (int64_t j = 0; o->x[i] && j < FLOATS; j++)
            o->x[i][j] = (float)(random_next(&stream) >> 40) / (1 << 24) - (i == 6 ? 0 : 0.5f);
    }
    o->indices = malloc(4096 * sizeof(int32_t));
    o->segments = malloc(4096 * sizeof(int32_t));
    for (int i = 0; o->indices && i < 4096; i++)
        o->indices[i] = i * 7 % 64;
}

int main(int argc, char **argv)
{
    struct operands o = {0};
    const char *device = argc > 1 ? argv[1] : "cpu";
    int n_threads = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 2;

    if (n_threads < 1 || n_threads > BENCH_MOST_THREADS ||
        ops_create(&o.ops, device, n_threads) < 0) {
        fprintf(stderr, "bench_ops: %s\n", status_reason());
        return 1;
    }
    FILE *table = argc > 4 ? fopen(argv[4], "a") : NULL;
    if (argc > 4 && !table) {
        fprintf(stderr, "bench_ops: %s cannot be written\n", argv[4]);
        return 1;
    }
    make_operands(&o);
    double peak = bench_measure_peak(ops_name(o.ops), n_threads);
    printf("%s: peak of multiply-adds %.1f GFLOP/s\n", ops_name(o.ops), 1e-9 * peak);
    printf("%-48s %12s %12s %8s %8s         share\n", "op", "median", "best", "median", "best");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (argc < 4 || strstr(rows[i].name, argv[3]))
            bench_row(&o, &rows[i], peak, table);
    if (table)
        fclose(table);
    ops_destroy(&o.ops);
    for (int i = 0; i < 8; i++)
        free(o.x[i]);
    free(o.indices);
    free(o.segments);
    return 0;
}
