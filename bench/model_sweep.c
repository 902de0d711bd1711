/* What a decoded token costs against context and batch. Without a cliff the cost of a token falls
 * with the batch, and is a straight line a + b c in the context c: products and attention. */
#include <stdio.h>

#include "bench/model_rows.h"
#include "common/status.h"

#define SWEEP_STEPS 9
#define SWEEP_STEPS_MOST 101
#define SWEEP_SECONDS 0.1              /* more steps than SWEEP_STEPS for so long */
#define SWEEP_ROUNDS 2                 /* whole tables; of a cost, the least: others disturb one */
#define SWEEP_WARM 2
#define MOST_SEQUENCES 512
#define MOST_ROWS ((int64_t)1 << 18)   /* of sequences with a context of their own: 1.6 GB */
#define BATCH_CONTEXT 256
#define CLIFF 1.5                      /* more than so many times the expectation */
#define BATCHES_MOST 10                /* 1, 2, 4 .. MOST_SEQUENCES */
#define BAR_WIDTH 40.0

static const int contexts[] = {256, 512, 1024, 2048, 4096, 8192, 16384};
static const int batches[] = {1, 8, 64, 512};
_Static_assert(1 << (BATCHES_MOST - 1) == MOST_SEQUENCES, "batches double");

enum {
    N_CONTEXTS = sizeof(contexts) / sizeof(contexts[0]),
    N_BATCHES = sizeof(batches) / sizeof(batches[0])
};

struct sweep {
    struct model_bench *bench;
    struct model *model;
    struct model_cache *cache;
    struct model_decode_row *rows;
    struct draw *draws;
    int32_t *tokens;
    float *logprobs;
};

/* Cost of a token in us; 0 where it was not measured. */
struct costs {
    double us[N_CONTEXTS][N_BATCHES];
};

/* A prompt of n_context tokens for all sequences, each of which goes on for n_more. */
static int open_cache(struct sweep *sweep, int n_context, int n_sequences, int n_more)
{
    model_cache_destroy(&sweep->cache);
    const struct model_cache_size size = {1, n_context, n_sequences, n_more, 0};
    TRY(model_cache_create(&sweep->cache, sweep->model, &size));
    for (int t = 0; t < n_context; t++)
        sweep->rows[t] =
            (struct model_decode_row){0, MODEL_PROMPT, t, sweep->bench->tokens[t]};
    return model_decode(sweep->model, sweep->cache, n_context, sweep->rows, 0, NULL, NULL, NULL);
}

/* The median of some steps of n sequences, from `position` on, if it is less than what there is:
 * what a cache holds before it is zeros, which take as long as any other numbers. */
static int time_steps(struct sweep *sweep, int n, int position, double *us)
{
    double times[SWEEP_STEPS_MOST], start = bench_now();
    int step;

    for (step = -SWEEP_WARM; step < SWEEP_STEPS ||
                             (step < SWEEP_STEPS_MOST && bench_now() - start < SWEEP_SECONDS);
         step++) {
        for (int i = 0; i < n; i++)
            sweep->rows[i] = (struct model_decode_row){.sequence_slot = i,
                                                       .position = position + step + SWEEP_WARM,
                                                       .token = sweep->bench->tokens[i]};
        double before = bench_now();
        TRY(model_decode(sweep->model, sweep->cache, n, sweep->rows, n, sweep->draws,
                         sweep->tokens, sweep->logprobs));
        if (step >= 0)
            times[step] = bench_now() - before;
    }
    double cost = 1e6 * bench_median(times, (size_t)step) / n;
    *us = *us > 0 && *us < cost ? *us : cost;
    return STATUS_OK;
}

/* ---- Verdicts. */

/* How far above the line a + b c of least squares of relative errors a column is at most. */
static double above_line(const struct costs *costs, int column, int *worst)
{
    double one = 0, c1 = 0, c2 = 0, t1 = 0, tc = 0, most = 0;

    for (int i = 0; i < N_CONTEXTS; i++) {
        double t = costs->us[i][column], c = contexts[i];
        if (t <= 0)
            continue;
        one += 1 / (t * t);
        c1 += c / (t * t);
        c2 += c * c / (t * t);
        t1 += 1 / t;
        tc += c / t;
    }
    double slope = (one * tc - c1 * t1) / (one * c2 - c1 * c1), base = (t1 - slope * c1) / one;
    for (int i = 0; i < N_CONTEXTS; i++) {
        double ratio = costs->us[i][column] / (base + slope * contexts[i]);
        if (ratio > most) {
            most = ratio;
            *worst = i;
        }
    }
    return most;
}

static const char *verdict(double ratio)
{
    return ratio > CLIFF ? "a cliff" : "no cliff";
}

static void judge_contexts(const struct costs *costs)
{
    double most = 0;
    int row = 0, column = 0;

    for (int j = 0, worst = 0; j < N_BATCHES; j++) {
        double ratio = above_line(costs, j, &worst);
        if (ratio > most) {
            most = ratio;
            row = worst;
            column = j;
        }
    }
    printf("%s: at most %.2f times a straight line in the context (B=%d at %d)\n", verdict(most),
           most, batches[column], contexts[row]);
}

static void print_bar(double us, double longest)
{
    printf("  ");
    for (int i = 0; i < (int)(BAR_WIDTH * us / longest + 0.5); i++)
        putchar('#');
    putchar('\n');
}

/* ---- Tables. */

static int sweep_batch(struct sweep *sweep)
{
    double us[BATCHES_MOST] = {0}, longest = 0, most = 0;
    int at = 0;

    printf("\na context of %d for each sequence: us a token, tokens/s\n", BATCH_CONTEXT);
    TRY(open_cache(sweep, 1, MOST_SEQUENCES, BATCH_CONTEXT + SWEEP_WARM + SWEEP_STEPS_MOST));
    for (int round = 0; round < SWEEP_ROUNDS; round++)
        for (int i = 0; i < BATCHES_MOST; i++)
            TRY(time_steps(sweep, 1 << i, BATCH_CONTEXT, &us[i]));
    for (int i = 0; i < BATCHES_MOST; i++) {
        longest = us[i] > longest ? us[i] : longest;
        if (i > 0 && us[i] / us[i - 1] > most) {
            most = us[i] / us[i - 1];
            at = i;
        }
    }
    for (int i = 0; i < BATCHES_MOST; i++) {
        printf("  %4d sequences %10.1f %10.0f", 1 << i, us[i], 1e6 / us[i]);
        print_bar(us[i], longest);
    }
    printf("%s: at most %.2f times the cost of half the batch (B=%d)\n", verdict(most), most,
           1 << at);
    return STATUS_OK;
}

static int time_contexts(struct sweep *sweep, int is_shared, struct costs *costs)
{
    int n_more = SWEEP_WARM + SWEEP_STEPS_MOST;

    for (int i = 0; i < N_CONTEXTS; i++) {
        int c = contexts[i], most = (int)(MOST_ROWS / c);
        most = is_shared || most > MOST_SEQUENCES ? MOST_SEQUENCES : most;
        TRY(open_cache(sweep, is_shared ? c : 1, most, is_shared ? n_more : c + n_more));
        for (int j = 0; j < N_BATCHES && batches[j] <= most; j++)
            TRY(time_steps(sweep, batches[j], is_shared ? 0 : c, &costs->us[i][j]));
    }
    return STATUS_OK;
}

static int sweep_context(struct sweep *sweep, int is_shared)
{
    struct costs costs = {0};

    printf("\n%s: us a token\n   context", is_shared ? "one prompt for all sequences"
                                                     : "a context of its own for each sequence");
    fflush(stdout);
    for (int round = 0; round < SWEEP_ROUNDS; round++)
        TRY(time_contexts(sweep, is_shared, &costs));
    for (int j = 0; j < N_BATCHES; j++)
        printf("     B=%-4d", batches[j]);
    printf("\n");
    for (int i = 0; i < N_CONTEXTS; i++) {
        printf("  %8d", contexts[i]);
        for (int j = 0; j < N_BATCHES && costs.us[i][j] > 0; j++)
            printf(" %10.1f", costs.us[i][j]);
        printf("\n");
    }
    judge_contexts(&costs);
    return STATUS_OK;
}

int bench_sweep(struct model_bench *bench)
{
    struct model_options options = {.bf16 = bench->bf16};
    struct sweep sweep = {.bench = bench};
    int status;

    sweep.rows = mem_alloc((size_t)contexts[N_CONTEXTS - 1], sizeof(*sweep.rows));
    sweep.draws = mem_alloc(MOST_SEQUENCES, sizeof(*sweep.draws));
    sweep.tokens = mem_alloc(MOST_SEQUENCES, sizeof(*sweep.tokens));
    sweep.logprobs = mem_alloc(MOST_SEQUENCES, sizeof(*sweep.logprobs));
    for (int i = 0; i < MOST_SEQUENCES; i++)
        sweep.draws[i] = (struct draw){.uniform = 0.5, .temperature = 1, .top_p = 1, .row = i};
    TRY_OUT(model_create(&sweep.model, bench->ops, &bench->shape, &options, 1));
    TRY_OUT(sweep_batch(&sweep));
    TRY_OUT(sweep_context(&sweep, 1));
    TRY_OUT(sweep_context(&sweep, 0));
out:
    model_cache_destroy(&sweep.cache);
    model_destroy(&sweep.model);
    mem_free(sweep.rows);
    mem_free(sweep.draws);
    mem_free(sweep.tokens);
    mem_free(sweep.logprobs);
    return status;
}
