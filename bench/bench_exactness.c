/*
 * bench/bench_exactness.c - the price of exactness: what it costs that an output is one sum in one
 * order, whatever the batch and the threads are.
 *
 * The products of a decoding and of a training step of the tiny shape, by hone's kernels under the
 * law and freed from it: a sum may then be cut into halves for two threads, or kept in several
 * accumulators. Both sides may cut rows and columns as they like, and the freed one may stay with
 * the law; packing, which both need, is left out. So are the other ops of a step: the price printed
 * is of products alone, and more than that of a whole step. Best settings are searched first;
 * medians of bursts in turn follow.
 *
 *     bench_exactness [threads]
 */
#include <math.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "bench/free_product.h"
#include "common/status.h"
#include "ops/cpu/pool.h"

enum { LANES = 16, MOST_REGIONS = 4096, MOST_CANDIDATES = 64, N_TRIALS = 7, N_TURNS = 31 };
#define WEIGHTS ((int64_t)6 << 20)      /* floats: as much as the weights of the shape */
#define BURST_SECONDS 0.0004
#define CHUNK_FLOATS ((int64_t)1 << 16) /* of panels that stay near while rows pass */

/* n_heads products of R rows, K steps and M columns, each with its own panels; `count` a step. */
struct shape {
    const char *group, *name;
    int64_t R, K, M, n_heads;
    int count;
};

struct setting {
    int64_t row_cuts, panel_cuts, step_cuts;
    int n_sums, threaded;
};

struct bench {
    const struct kernels *kernels;
    void (*free_product)(const struct product *product, int64_t n_rows, int64_t first_panel,
                         int64_t last_panel, int n_sums);
    struct pool *pool;
    float *a, *weights, *out, *halves;
    int64_t at;   /* in weights: each call reads the next ones, as a step does */
    atomic_int done[MOST_REGIONS];
    const struct shape *shape;
    const struct setting *setting;
};

/* ---- One product. */

static void multiply(struct bench *bench, struct product *product, int64_t n_rows, int64_t first,
                     int64_t last)
{
    int64_t chunk = CHUNK_FLOATS / (LANES * product->n_steps) / 2 * 2;

    if (bench->setting->n_sums > 1) {
        bench->free_product(product, n_rows, first, last, bench->setting->n_sums);
        return;
    }
    chunk = chunk < 2 ? 2 : chunk;
    for (int64_t p = first; p < last; p += chunk)
        bench->kernels->product(product, 0, n_rows, p, p + chunk < last ? p + chunk : last);
}

static void run_task(void *argument, int64_t i, int thread)
{
    struct bench *bench = argument;
    const struct shape *s = bench->shape;
    const struct setting *set = bench->setting;
    int64_t half = i % set->step_cuts, region = i / set->step_cuts;
    int64_t panels = s->M / LANES / set->panel_cuts, first = region % set->panel_cuts * panels;
    int64_t rows = s->R / set->row_cuts, head = region / set->panel_cuts / set->row_cuts;
    int64_t row = region / set->panel_cuts % set->row_cuts * rows, steps = s->K / set->step_cuts;
    struct product product = {
        .a = bench->a + row * s->K + half * steps,
        .a_row = s->K,
        .b = bench->weights + (bench->at + head * s->K * s->M) % WEIGHTS + half * steps * LANES,
        .b_panel = s->K * LANES,
        .n_steps = steps,
        .out = (half ? bench->halves : bench->out) + (head * s->R + row) * s->M,
        .out_row = s->M,
        .n_columns = s->M};

    (void)thread;
    multiply(bench, &product, rows, first, first + panels);
    if (set->step_cuts == 1 || atomic_fetch_add(&bench->done[region], 1) == 0)
        return;
    atomic_store(&bench->done[region], 0);
    for (int64_t r = 0; r < rows; r++) {
        int64_t at = (head * s->R + row + r) * s->M + first * LANES;
        bench->kernels->add(bench->out + at, bench->halves + at, panels * LANES);
    }
}

static void run_once(struct bench *bench)
{
    const struct shape *s = bench->shape;
    const struct setting *set = bench->setting;
    int64_t n_tasks = s->n_heads * set->row_cuts * set->panel_cuts * set->step_cuts;

    if (set->threaded)
        pool_run(bench->pool, n_tasks, run_task, bench);
    else
        for (int64_t i = 0; i < n_tasks; i++)
            run_task(bench, i, 0);
    bench->at = (bench->at + s->n_heads * s->K * s->M) % WEIGHTS;
}

/* Seconds of a call, of a burst of calls. */
static double time_burst(struct bench *bench, const struct setting *setting)
{
    double start, now;
    int n = 0;

    bench->setting = setting;
    run_once(bench);
    start = bench_now();
    do {
        run_once(bench);
        n++;
        now = bench_now();
    } while (now - start < BURST_SECONDS);
    return (now - start) / n;
}

/* ---- Settings. */

static int is_free(const struct setting *s)
{
    return s->step_cuts > 1 || s->n_sums > 1;
}

static int fits(const struct bench *bench, const struct setting *s)
{
    const struct shape *shape = bench->shape;
    int64_t tile = bench->kernels->tile_rows, panels = shape->M / LANES;
    int64_t rows = shape->R / s->row_cuts;

    if (shape->R % s->row_cuts || (s->row_cuts > 1 && rows % tile) || panels % s->panel_cuts ||
        panels / s->panel_cuts % 2 || shape->K % s->step_cuts)
        return 0;
    if (!s->threaded && s->row_cuts * s->panel_cuts > 1)
        return 0;
    return s->n_sums == 1 || (rows <= 2 && bench->free_product);
}

static int list_settings(const struct bench *bench, struct setting *out)
{
    static const int64_t row_cuts[] = {1, 2, 4}, panel_cuts[] = {1, 2, 4};
    static const int sums[] = {1, 2, 4};
    int n = 0;

    for (int i = 0; i < 3 * 3 * 2 * 3 * 2; i++) {
        struct setting s = {row_cuts[i % 3], panel_cuts[i / 3 % 3], 1 + i / 9 % 2,
                            sums[i / 18 % 3], i / 54};
        if (n < MOST_CANDIDATES && fits(bench, &s))
            out[n++] = s;
    }
    return n;
}

/* The best setting under the law, and the best of those that break it (0 when there is none). */
static int search(struct bench *bench, struct setting *exact, struct setting *freed)
{
    struct setting all[MOST_CANDIDATES];
    double best[2] = {INFINITY, INFINITY};
    int n = list_settings(bench, all);

    for (int i = 0; i < n; i++) {
        double least = INFINITY;
        for (int j = 0; j < N_TRIALS; j++)
            least = fmin(least, time_burst(bench, &all[i]));
        int kind = is_free(&all[i]);
        if (least < best[kind]) {
            best[kind] = least;
            *(kind ? freed : exact) = all[i];
        }
    }
    return best[1] < INFINITY;
}

/* ---- Rows. */

static void describe(const struct setting *s, char *out, size_t n)
{
    snprintf(out, n, "%s%s, %d sum%s", s->step_cuts > 1 ? "halves of K" : "whole K",
             s->threaded ? "" : ", one thread", s->n_sums, s->n_sums > 1 ? "s" : "");
}

static void bench_shape(struct bench *bench, const struct shape *shape, double *exact,
                        double *least)
{
    double seconds[2][N_TURNS];
    struct setting settings[2];
    char text[64];

    bench->shape = shape;
    if (!search(bench, &settings[0], &settings[1]))
        settings[1] = settings[0];
    for (int turn = 0; turn < N_TURNS; turn++)
        for (int kind = 0; kind < 2; kind++)
            seconds[kind][turn] = time_burst(bench, &settings[kind]);
    double law = bench_median(seconds[0], N_TURNS), freed = bench_median(seconds[1], N_TURNS);
    describe(&settings[1], text, sizeof(text));
    printf("%-8s %-14s %5lld %5lld %5lld %9.1f us %9.1f us %+6.1f %%  %s\n", shape->group,
           shape->name, (long long)shape->R, (long long)shape->K, (long long)shape->M, 1e6 * law,
           1e6 * freed, 100 * (law / freed - 1), text);
    fflush(stdout);
    *exact += shape->count * law;
    *least += shape->count * (freed < law ? freed : law);
}

#define DECODE(label, N)                                                                           \
    {label, "qkv", N, 256, 512, 1, 6}, {label, "out", N, 256, 256, 1, 6},                          \
        {label, "gate, up", N, 256, 2048, 1, 6}, {label, "down", N, 1024, 256, 1, 6},              \
        {label, "head", N, 256, 1024, 1, 1}, {label, "scores", 2, 32, 256, 4 * N, 6},              \
        {label, "values", 2, 256, 32, 4 * N, 6}
/* A product, the gradient of its input, the gradient of its weight. */
#define TRAIN(label, C, M, n)                                                                      \
    {"train", label, 1024, C, M, 1, n}, {"train", label " d_in", 1024, M, C, 1, n},                \
        {"train", label " d_w", M, 1024, C, 1, n}
static const struct shape shapes[] = {
    DECODE("decode 1", 1),
    DECODE("decode 8", 8),
    DECODE("decode 16", 16),
    DECODE("decode 64", 64),
    TRAIN("qkv", 256, 512, 6),
    TRAIN("out", 256, 256, 6),
    TRAIN("gate, up", 256, 2048, 6),
    TRAIN("down", 1024, 256, 6),
    TRAIN("head", 256, 1024, 1),
};
enum { N_SHAPES = sizeof(shapes) / sizeof(shapes[0]) };

static float *make_floats(int64_t n)
{
    float *x = malloc((size_t)n * sizeof(float));

    for (int64_t i = 0; x && i < n; i++)
        x[i] = (float)(i * 7919 % 1000) * 0.001f - 0.5f;
    if (!x) {
        fprintf(stderr, "bench_exactness: no memory for %lld floats\n", (long long)n);
        exit(1);
    }
    return x;
}

static void choose_kernels(struct bench *bench)
{
    bench->kernels = processor_kernels()[0];
    bench->free_product = kernel_free_product_baseline;
    if (strcmp(bench->kernels->name, "avx2") == 0)
        bench->free_product = kernel_free_product_avx2;
    if (strcmp(bench->kernels->name, "avx512") == 0)
        bench->free_product = kernel_free_product_avx512;
    if (strcmp(bench->kernels->name, "avx512bf16") == 0)
        bench->free_product = kernel_free_product_avx512bf16;
}

int main(int argc, char **argv)
{
    static struct bench bench;
    int n_threads = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 2;
    double exact = 0, least = 0;

    if (n_threads < 1 || n_threads > BENCH_MOST_THREADS ||
        pool_create(&bench.pool, n_threads) < 0) {
        fprintf(stderr, "bench_exactness: %s\n", status_reason());
        return 1;
    }
    choose_kernels(&bench);
    bench.a = make_floats(2048 * 2048);
    bench.weights = make_floats(2 * WEIGHTS);
    bench.out = make_floats(2048 * 2048);
    bench.halves = make_floats(2048 * 2048);
    printf("%s, %d threads: a sum in one order, and the best of those that split it\n",
           bench.kernels->name, n_threads);
    for (int i = 0; i < N_SHAPES; i++) {
        bench_shape(&bench, &shapes[i], &exact, &least);
        if (i + 1 < N_SHAPES && strcmp(shapes[i].group, shapes[i + 1].group) == 0)
            continue;
        printf("price of exactness, %s: %.1f %% of its products (%.1f and %.1f us)\n",
               shapes[i].group, 100 * (exact / least - 1), 1e6 * exact, 1e6 * least);
        exact = least = 0;
    }
    pool_destroy(&bench.pool);
    free(bench.a);
    free(bench.weights);
    free(bench.out);
    free(bench.halves);
    return 0;
}
