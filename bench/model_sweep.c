/* What a decoded token costs against context and batch: a cliff would show. */
#include <stdio.h>

#include "bench/model_rows.h"
#include "common/status.h"

#define SWEEP_STEPS 9
#define SWEEP_WARM 2

/* The median seconds of a step of n_prompts x n_samples sequences behind prompts of n_context. */
static int time_steps(struct model_bench *bench, struct model *model, int n_prompts, int n_samples,
                      int n_context, double *seconds)
{
    static double times[SWEEP_STEPS];
    int n = n_prompts * n_samples, status;
    struct model_cache *cache = NULL;
    size_t most = (size_t)(n > n_context ? n : n_context);
    struct model_decode_row *rows = mem_alloc(most, sizeof(*rows));
    struct draw *draws = mem_alloc((size_t)n, sizeof(*draws));
    int32_t *tokens = mem_alloc((size_t)n, sizeof(*tokens));
    float *logprobs = mem_alloc((size_t)n, sizeof(*logprobs));

    for (int i = 0; i < n; i++)
        draws[i] = (struct draw){.uniform = 0.5, .temperature = 1, .top_p = 1, .row = i};
    TRY_OUT(model_cache_create(&cache, model, n_prompts, n_context, n, SWEEP_STEPS + SWEEP_WARM));
    for (int32_t i = 0; i < n_prompts; i++) {
        for (int t = 0; t < n_context; t++)
            rows[t] = (struct model_decode_row){i, MODEL_PROMPT, t, bench->tokens[t]};
        TRY_OUT(model_decode(model, cache, n_context, rows, 0, NULL, NULL, NULL));
    }
    for (int step = -SWEEP_WARM; step < SWEEP_STEPS; step++) {
        for (int i = 0; i < n; i++)
            rows[i] = (struct model_decode_row){.prompt_slot = i / n_samples,
                                                .sequence_slot = i,
                                                .position = step + SWEEP_WARM,
                                                .token = bench->tokens[i]};
        double before = bench_now();
        TRY_OUT(model_decode(model, cache, n, rows, n, draws, tokens, logprobs));
        if (step >= 0)
            times[step] = bench_now() - before;
    }
    *seconds = bench_median(times, SWEEP_STEPS);
    status = STATUS_OK;
out:
    model_cache_destroy(&cache);
    mem_free(rows);
    mem_free(draws);
    mem_free(tokens);
    mem_free(logprobs);
    return status;
}

static int sweep_batch(struct model_bench *bench, struct model *model)
{
    printf("\na prompt of 240 tokens for each sequence: us a token, tokens/s\n");
    for (int n = 1; n <= 512; n *= 2) {
        double seconds;
        TRY(time_steps(bench, model, n, 1, 240, &seconds));
        printf("  %4d sequences %10.1f %10.0f\n", n, 1e6 * seconds / n, n / seconds);
        fflush(stdout);
    }
    return STATUS_OK;
}

static int sweep_context(struct model_bench *bench, struct model *model)
{
    static const int contexts[] = {256, 1024, 4096, 8192, 16384}, batches[] = {1, 8, 64, 512};

    printf("\none prompt for all sequences: us a token\n   context");
    for (int j = 0; j < 4; j++)
        printf("     B=%-4d", batches[j]);
    printf("\n");
    for (int i = 0; i < 5; i++) {
        printf("  %8d", contexts[i]);
        for (int j = 0; j < 4; j++) {
            double seconds;
            TRY(time_steps(bench, model, 1, batches[j], contexts[i], &seconds));
            printf(" %10.1f", 1e6 * seconds / batches[j]);
            fflush(stdout);
        }
        printf("\n");
    }
    return STATUS_OK;
}

int bench_sweep(struct model_bench *bench)
{
    struct model_options options = {.bf16 = bench->bf16};
    struct model *model = NULL;
    int status;

    TRY_OUT(model_create(&model, bench->ops, &bench->shape, &options, 1));
    TRY_OUT(sweep_batch(bench, model));
    TRY_OUT(sweep_context(bench, model));
out:
    model_destroy(&model);
    return status;
}
