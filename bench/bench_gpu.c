/*
 * bench/bench_gpu.c - a GPU beside its roofline: each kernel, decoding, training.
 *
 *     bench_gpu [--device cuda:bf16] [--small]
 *
 * The two limits are measured first, on the card: bytes a second of a large copy (read and write),
 * and flops a second of the largest product. A kernel's floor is the larger of its bytes over the
 * one and its flops over the other. --small is for trying the program itself on a CPU.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/model_rows.h"
#include "common/log.h"
#include "common/random.h"
#include "common/status.h"

#define REPEATS 20
#define MOST_MEMORY 64

struct gpu_bench {
    struct ops *ops;
    double copy, product;    /* bytes and flops a second */
    void *memory[MOST_MEMORY];
    int n_memory;
    int small;
};

/* Numbers of a stream of its own kind each, [a,b,c]. */
static struct tensor fill(struct gpu_bench *b, int64_t a, int64_t m, int64_t c)
{
    int64_t n = a * m * c;
    float *host = mem_alloc((size_t)n, sizeof(*host));
    uint32_t x = 12345u + (uint32_t)b->n_memory;
    void *memory = NULL;

    for (int64_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        host[i] = (float)(int32_t)x * (1.0f / 2147483648.0f);
    }
    if (b->n_memory == MOST_MEMORY || ops_alloc(b->ops, (size_t)n * sizeof(float), &memory) < 0)
        BUG("bench_gpu: %s", status_reason());
    b->memory[b->n_memory++] = memory;
    ops_upload(b->ops, memory, host, (size_t)n * sizeof(float));
    if (ops_sync(b->ops) < 0)
        BUG("bench_gpu: %s", status_reason());
    mem_free(host);
    return tensor_view(memory, DTYPE_F32, c > 1 ? 3 : m > 1 ? 2 : 1, (const int64_t[]){a, m, c});
}

/* value(i) for i below n, on the device. */
static struct tensor place_indices(struct gpu_bench *b, int64_t n, int64_t step, int64_t limit)
{
    struct tensor floats = fill(b, n, 1, 1);
    int32_t *host = mem_alloc((size_t)n, sizeof(*host));

    for (int64_t i = 0; i < n; i++)
        host[i] = (int32_t)(i * step % limit);
    ops_upload(b->ops, floats.data, host, (size_t)n * sizeof(*host));
    ops_sync(b->ops);
    mem_free(host);
    return tensor_i32(floats.data, n);
}

static void release(struct gpu_bench *b)
{
    for (int i = 0; i < b->n_memory; i++)
        ops_free(b->ops, b->memory[i]);
    b->n_memory = 0;
}

/* Seconds of one call: the median of REPEATS, each of enough calls to be seen. */
#define MEASURE(b, seconds, call)                                                                  \
    do {                                                                                           \
        double times_[REPEATS], one_;                                                              \
        call;                                                                                      \
        ops_sync((b)->ops);                                                                        \
        one_ = bench_now();                                                                        \
        call;                                                                                      \
        ops_sync((b)->ops);                                                                        \
        one_ = bench_now() - one_;                                                                 \
        int calls_ = one_ > 1e-3 ? 1 : (int)(1e-3 / one_) + 1;                                     \
        int repeats_ = one_ > 0.1 ? 3 : REPEATS;                                                   \
        for (int i_ = 0; i_ < repeats_; i_++) {                                                    \
            double before_ = bench_now();                                                          \
            for (int j_ = 0; j_ < calls_; j_++) {                                                  \
                call;                                                                              \
            }                                                                                      \
            ops_sync((b)->ops);                                                                    \
            times_[i_] = (bench_now() - before_) / calls_;                                         \
        }                                                                                          \
        (seconds) = bench_median(times_, (size_t)repeats_);                                        \
    } while (0)

static void print_kernel(const struct gpu_bench *b, const char *name, double seconds, double flops,
                         double bytes)
{
    double by_copy = bytes / b->copy, by_product = flops / b->product;
    double floor = by_copy > by_product ? by_copy : by_product;

    printf("%-42s %10.1f us %9.0f GB/s %9.1f TFLOP/s %5.0f %% of %s\n", name, 1e6 * seconds,
           1e-9 * bytes / seconds, 1e-12 * flops / seconds, 100 * floor / seconds,
           by_copy > by_product ? "copy" : "product");
}

static struct matrix panels_of(struct gpu_bench *b, int64_t M, int64_t C, enum dtype dtype)
{
    struct tensor rows = fill(b, M, C, 1);
    struct matrix matrix = {.form = MATRIX_PANELS, .dtype = dtype, .M = M, .C = C};

    matrix.data = fill(b, (int64_t)(ops_matrix_bytes(&matrix) + 3) / 4, 1, 1).data;
    ops_matrix_write(b->ops, &matrix, &rows, 0);
    return matrix;
}

static double product_seconds(struct gpu_bench *b, int64_t N, int64_t C, int64_t M,
                              enum dtype dtype)
{
    struct matrix weight = panels_of(b, M, C, dtype);
    struct tensor in = fill(b, N, C, 1), out = fill(b, N, M, 1);
    double seconds;

    MEASURE(b, seconds, ops_matmul(b->ops, &out, &in, &weight, NULL));
    release(b);
    return seconds;
}

static void measure_limits(struct gpu_bench *b)
{
    int64_t n = b->small ? 1 << 20 : 1 << 28, side = b->small ? 256 : 8192;
    struct tensor from = fill(b, n, 1, 1), to = fill(b, n, 1, 1);
    double seconds;

    MEASURE(b, seconds, ops_copy(b->ops, to.data, from.data, (size_t)n * sizeof(float)));
    b->copy = 8.0 * (double)n / seconds;
    release(b);
    seconds = product_seconds(b, side, side, side, DTYPE_BF16);
    b->product = 2.0 * (double)side * (double)side * (double)side / seconds;
    printf("copy %.0f GB/s; product of bfloat16 weights, %lld cubed: %.1f TFLOP/s\n",
           1e-9 * b->copy, (long long)side, 1e-12 * b->product);
}

static void bench_products(struct gpu_bench *b)
{
    static const int64_t rows[] = {1, 64, 256, 8192};
    int64_t C = 896, M = 4864;
    char name[64];
    double seconds;

    for (size_t i = 0; i < (b->small ? 2 : 4); i++)
        for (int dtype = 0; dtype < 2; dtype++) {
            double N = (double)rows[i], bytes = dtype ? 2 : 4;
            seconds = product_seconds(b, rows[i], C, M, dtype ? DTYPE_BF16 : DTYPE_F32);
            snprintf(name, sizeof(name), "matmul %lld x %lld x %lld, %s", (long long)rows[i],
                     (long long)C, (long long)M, dtype ? "bf16" : "f32");
            print_kernel(b, name, seconds, 2 * N * (double)(C * M),
                         (double)(C * M) * bytes + 4 * N * (double)(C + M));
        }
    int64_t N = b->small ? 64 : 8192;
    struct matrix weight = panels_of(b, M, C, DTYPE_BF16);
    struct tensor in = fill(b, N, C, 1), d_out = fill(b, N, M, 1), d_weight = fill(b, M, C, 1);
    double flops = 2 * (double)N * (double)(C * M);
    MEASURE(b, seconds, ops_matmul_backward_input(b->ops, &in, &d_out, &weight));
    print_kernel(b, "matmul_backward_input, bf16", seconds, flops,
                 (double)(C * M) * 2 + 4 * (double)(N * (2 * C + M)));
    MEASURE(b, seconds, ops_matmul_backward_weight(b->ops, &d_weight, NULL, &d_out, &in));
    print_kernel(b, "matmul_backward_weight", seconds, flops,
                 8 * (double)(C * M) + 4 * (double)(N * (C + M)));
    release(b);
}

static void bench_rows(struct gpu_bench *b)
{
    int64_t N = b->small ? 64 : 8192, C = 896, F = 4864;
    struct tensor x = fill(b, N, C, 1), y = fill(b, N, C, 1), w = fill(b, C, 1, 1);
    struct tensor rstd = fill(b, N, 1, 1), g = fill(b, N, C, 1), dw = fill(b, C, 1, 1);
    struct tensor gate = fill(b, N, F, 1), up = fill(b, N, F, 1), mixed = fill(b, N, F, 1);
    double seconds, n = (double)(N * C), f = (double)(N * F);

    MEASURE(b, seconds, ops_rmsnorm(b->ops, &y, &rstd, &x, &w, 1e-6f));
    print_kernel(b, "rmsnorm", seconds, 0, 8 * n);
    MEASURE(b, seconds, ops_rmsnorm_backward(b->ops, &g, &dw, &y, &x, &w, &rstd));
    print_kernel(b, "rmsnorm_backward", seconds, 0, 16 * n);
    MEASURE(b, seconds, ops_swiglu(b->ops, &mixed, &gate, &up));
    print_kernel(b, "swiglu", seconds, 0, 12 * f);
    MEASURE(b, seconds, ops_swiglu_backward(b->ops, &gate, &up, &mixed, &gate, &up));
    print_kernel(b, "swiglu_backward", seconds, 0, 20 * f);
    struct tensor table = fill(b, 2048, 2, 32), positions = place_indices(b, N, 1, 2048);
    struct tensor heads = tensor_3d(x.data, N, C / 64, 64);
    MEASURE(b, seconds, ops_rope(b->ops, &heads, &table, &positions, 0));
    print_kernel(b, "rope", seconds, 0, 8 * n);
    struct tensor d_table = fill(b, 151936, C, 1), tokens = place_indices(b, N, 7919, 151936);
    MEASURE(b, seconds, ops_embedding_backward(b->ops, &d_table, &x, &tokens));
    print_kernel(b, "embedding_backward", seconds, 0, 12 * n);
    release(b);
}

static void bench_head(struct gpu_bench *b)
{
    int64_t N = b->small ? 4 : 110, V = 151936;
    struct tensor logits = fill(b, N, V, 1), logprob = fill(b, N, 1, 1), h = fill(b, N, 1, 1);
    struct tensor targets = place_indices(b, N, 7919, V), tokens = place_indices(b, N, 1, V);
    struct draw *draws = mem_alloc((size_t)N, sizeof(*draws)), *where;
    double seconds, n = (double)(N * V);

    for (int64_t i = 0; i < N; i++)
        draws[i] = (struct draw){.uniform = (double)i / (double)N, .temperature = 1, .top_p = 1,
                                 .row = (int32_t)i};
    where = fill(b, N * (int64_t)sizeof(*draws) / 4, 1, 1).data;
    ops_upload(b->ops, where, draws, (size_t)N * sizeof(*draws));
    ops_sync(b->ops);
    MEASURE(b, seconds, ops_sample(b->ops, &tokens, &logprob, &logits, where));
    print_kernel(b, "sample", seconds, 0, 4 * n);
    MEASURE(b, seconds, ops_token_logprob(b->ops, &logprob, &h, &logits, &targets, 1));
    print_kernel(b, "token_logprob", seconds, 0, 4 * n);
    MEASURE(b, seconds, ops_token_logprob_backward(b->ops, &logits, &logprob, &targets, 1));
    print_kernel(b, "token_logprob_backward", seconds, 0, 8 * n);
    mem_free(draws);
    release(b);
    int64_t count = b->small ? 1 << 20 : 1 << 27;
    struct tensor w = fill(b, count, 1, 1), m = fill(b, count, 1, 1), v = fill(b, count, 1, 1);
    struct tensor g = fill(b, count, 1, 1);
    struct adamw_step adamw = {1e-5, 0.9, 0.999, 1e-8, 0.1, 1, 3};
    MEASURE(b, seconds, ops_adamw(b->ops, &w, &m, &v, &g, &adamw));
    print_kernel(b, "adamw", seconds, 0, 28 * (double)count);
    MEASURE(b, seconds, ops_sum_squares(b->ops, &g));
    print_kernel(b, "sum_squares", seconds, 0, 4 * (double)count);
    release(b);
}

static void bench_attention(struct gpu_bench *b)
{
    int64_t T = b->small ? 64 : 1024, S = 8, N = S * T, H = 14, K = 2, D = 64;
    struct tensor q = fill(b, N, H, D), k = fill(b, N, K, D), v = fill(b, N, K, D);
    struct tensor out = fill(b, N, H, D), lse = fill(b, N, H, 1), g = fill(b, N, H, D);
    struct tensor dq = fill(b, N, H, D), dk = fill(b, N, K, D), dv = fill(b, N, K, D);
    struct tensor bounds = place_indices(b, S + 1, T, N + 1);
    double seconds, pairs = 0.5 * (double)(S * T * (T + 1)) * (double)H;

    lse = tensor_2d(lse.data, N, H);
    MEASURE(b, seconds, ops_attention(b->ops, &out, &lse, &q, &k, &v, &bounds, NULL));
    print_kernel(b, "attention, 8 x 1024", seconds, 4 * pairs * (double)D,
                 8 * (double)(N * (H + K) * D));
    MEASURE(b, seconds, ops_attention_backward(b->ops, &dq, &dk, &dv, &g, &q, &k, &v, &out, &lse,
                                               &bounds, NULL));
    print_kernel(b, "attention_backward, 8 x 1024", seconds, 10 * pairs * (double)D,
                 16 * (double)(N * (H + K) * D));
    release(b);
    int64_t n = 64, context = b->small ? 64 : 512;
    int64_t n_pages = context / MODEL_PAGE;   /* of a sequence; they grew side by side */
    struct kv_cache cache = {.n_rows = n * context, .K = K, .D = D, .page_rows = MODEL_PAGE};
    int32_t *host = mem_alloc((size_t)(4 * n), sizeof(*host));
    int32_t *list = mem_alloc((size_t)(n * n_pages), sizeof(*list));
    cache.data = fill(b, (int64_t)ops_cache_bytes(&cache) / 4, 1, 1).data;
    q = fill(b, n, H, D);
    out = fill(b, n, H, D);
    for (int64_t i = 0; i < n; i++)
        host[4 * i] = host[4 * i + 1] = 0, host[4 * i + 2] = (int32_t)(i * n_pages),
        host[4 * i + 3] = (int32_t)context;
    for (int64_t i = 0; i < n * n_pages; i++)
        list[i] = (int32_t)(i % n_pages * n + i / n_pages);
    struct tensor runs = place_indices(b, 4 * n, 1, 4 * n);
    struct tensor pages = place_indices(b, n * n_pages, 1, n * n_pages);
    ops_upload(b->ops, runs.data, host, (size_t)(4 * n) * sizeof(*host));
    ops_upload(b->ops, pages.data, list, (size_t)(n * n_pages) * sizeof(*list));
    ops_sync(b->ops);
    MEASURE(b, seconds, ops_attention_decode(b->ops, &out, &q, &cache, &pages, &runs));
    print_kernel(b, "attention_decode, 64 x 512", seconds,
                 4 * (double)(n * context * H * D), 8 * (double)(n * context * K * D));
    mem_free(host);
    mem_free(list);
    release(b);
}

/* ---- The engine, by way of bench_model's parts. */

static int bench_engine(const struct gpu_bench *b, const char *name,
                        const struct model_shape *shape)
{
    struct model_bench bench = {.ops = b->ops, .shape = *shape, .shape_name = name, .bf16 = 1,
                                .repeats = 3, .peak = b->product, .dram = b->copy,
                                .on_device = 1};
    struct random_stream stream = {.seed = 7};
    int status;

    bench.report = (struct bench_report){.machine = ops_name(b->ops), .n_threads = 1};
    arena_init(&bench.arena, (size_t)1 << 30);
    bench.tokens = mem_alloc(BENCH_TOKENS, sizeof(int32_t));
    for (int i = 0; i < BENCH_TOKENS; i++)
        bench.tokens[i] = (int32_t)random_below(&stream, (uint64_t)shape->vocab_size);
    printf("\n%s, %.2f M parameters, bfloat16; shares are of the product's rate\n", name,
           1e-6 * (double)model_shape_parameters(shape));
    TRY_OUT(open_bench_tokenizer(&bench.tokenizer));
    TRY_OUT(bench_decode_batches(&bench));
    TRY_OUT(bench_train_batch(&bench));
    TRY_OUT(bench_grpo(&bench));
out:
    tokenizer_destroy(&bench.tokenizer);
    mem_free(bench.tokens);
    arena_release(&bench.arena);
    return status;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"device", required_argument, NULL, 'v'},
                                            {"small", no_argument, NULL, 's'},
                                            {NULL, 0, NULL, 0}};
    const char *device = "cuda:bf16";
    struct gpu_bench b = {0};
    int c, status;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c != 'v' && c != 's')
            return 2;
        device = c == 'v' ? optarg : device;
        b.small |= c == 's';
    }
    log_set_level(LOG_WARNING);
    TRY_OUT(ops_create(&b.ops, device, 0));
    printf("%s\n", ops_name(b.ops));
    measure_limits(&b);
    bench_products(&b);
    bench_rows(&b);
    bench_head(&b);
    bench_attention(&b);
    if (b.small) {
        TRY_OUT(bench_engine(&b, "tiny", &bench_shape_tiny));
    } else {
        TRY_OUT(bench_engine(&b, "0.5b", &bench_shape_half_billion));
        TRY_OUT(bench_engine(&b, "1.5b", &bench_shape_1_5_billion));
    }
    status = ops_sync(b.ops);
out:
    if (status < 0)
        fprintf(stderr, "bench_gpu: %s\n", status_reason());
    ops_destroy(&b.ops);
    return status < 0;
}
