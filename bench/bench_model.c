/*
 * bench/bench_model.c - speed of the engine through its public faces: decoding as rollout/ does it,
 * training as learner/ does it, a whole GRPO step; beside what this machine can do in the same run.
 *
 *     bench_model [--shape tiny|0.5b] [--dtype f32|bf16] [--row decode|prefill|train|grpo|sweep]
 *                 [--only TEXT] [--repeat N] [--threads N] [--device TEXT] [--tsv FILE]
 *                 [--processor-time] [--bare]
 *
 * Weights are random, no file is read. Decoding goes from 224 tokens of context to 256, sampling
 * and log-probabilities included, prompts not. Without --row: all but sweep. --only: rows of decode
 * and prefill whose name contains the text. --processor-time: seconds that this process had a core,
 * for one thread on a busy machine. --bare: without the machine's limits, for profiles.
 */
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/model_rows.h"
#include "common/log.h"
#include "common/random.h"
#include "common/status.h"

#define DRAM_BYTES ((size_t)512 << 20)
#define L3_BYTES ((size_t)8 << 20)

struct row_kind {
    const char *name;
    int (*run)(struct model_bench *bench);
    int in_all;
};
static const struct row_kind kinds[] = {
    {"decode", bench_decode, 1}, {"prefill", bench_prefill, 1}, {"train", bench_train, 1},
    {"grpo", bench_grpo, 1},     {"sweep", bench_sweep, 0},
};
#define N_KINDS (sizeof(kinds) / sizeof(kinds[0]))

static int usage(void)
{
    fprintf(stderr, "bench_model [--shape tiny|0.5b] [--dtype f32|bf16] "
                    "[--row decode|prefill|train|grpo|sweep]\n"
                    "            [--only TEXT] [--repeat N] [--threads N] [--device TEXT]\n"
                    "            [--tsv FILE] [--processor-time] [--bare]\n");
    return 2;
}

struct choices {
    const char *shape, *dtype, *row, *only, *device, *table;
    int n_threads, repeats, processor_time, bare;
};

static int parse_choices(int argc, char **argv, struct choices *choices)
{
    static const struct option options[] = {
        {"shape", required_argument, NULL, 's'},  {"dtype", required_argument, NULL, 'd'},
        {"row", required_argument, NULL, 'r'},    {"repeat", required_argument, NULL, 'n'},
        {"threads", required_argument, NULL, 't'}, {"device", required_argument, NULL, 'v'},
        {"tsv", required_argument, NULL, 'f'},    {"only", required_argument, NULL, 'o'},
        {"processor-time", no_argument, NULL, 'p'}, {"bare", no_argument, NULL, 'b'},
        {NULL, 0, NULL, 0}};
    int c, known = 0;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == 's')
            choices->shape = optarg;
        else if (c == 'd')
            choices->dtype = optarg;
        else if (c == 'r')
            choices->row = optarg;
        else if (c == 'n')
            choices->repeats = (int)strtol(optarg, NULL, 10);
        else if (c == 't')
            choices->n_threads = (int)strtol(optarg, NULL, 10);
        else if (c == 'v')
            choices->device = optarg;
        else if (c == 'o')
            choices->only = optarg;
        else if (c == 'p')
            choices->processor_time = 1;
        else if (c == 'b')
            choices->bare = 1;
        else if (c == 'f')
            choices->table = optarg;
        else
            return -1;
    }
    for (size_t i = 0; i < N_KINDS; i++)
        known |= !choices->row || strcmp(choices->row, kinds[i].name) == 0;
    return optind == argc && known && choices->repeats > 0 && choices->n_threads > 0 &&
                   choices->n_threads <= BENCH_MOST_THREADS &&
                   (strcmp(choices->shape, "tiny") == 0 || strcmp(choices->shape, "0.5b") == 0) &&
                   (strcmp(choices->dtype, "f32") == 0 || strcmp(choices->dtype, "bf16") == 0)
               ? 0
               : -1;
}

static void measure_limits(struct model_bench *bench)
{
    static struct bench_samples samples;
    const char *const names[] = {"FMA chains", "read stream, 512 MB", "read, 8 MB"};
    double values[3];

    values[0] = bench->peak = bench_measure_peak(bench->report.machine, bench->report.n_threads);
    values[1] = bench->dram = bench_measure_read(DRAM_BYTES, bench->report.n_threads);
    values[2] = bench_measure_read(L3_BYTES, bench->report.n_threads);
    for (int i = 0; i < 3; i++) {
        struct bench_row row = {names[i], i ? "GB/s" : "GFLOP/s", NULL, 0};
        samples.n = 0;
        bench_add(&samples, 1e-9 * values[i]);
        bench_print_row(&bench->report, &row, &samples);
    }
}

static int open_bench(struct model_bench *bench, const struct choices *choices)
{
    struct random_stream stream = {.seed = 7};

    bench->shape_name = choices->shape;
    bench->shape =
        strcmp(choices->shape, "tiny") == 0 ? bench_shape_tiny : bench_shape_half_billion;
    bench->bf16 = strcmp(choices->dtype, "bf16") == 0;
    bench->repeats = choices->repeats;
    bench->peak = NAN;
    bench->only = choices->only;
    arena_init(&bench->arena, (size_t)1 << 30);
    TRY(ops_create(&bench->ops, choices->device, choices->n_threads));
    TRY(open_bench_tokenizer(&bench->tokenizer));
    bench->tokens = mem_alloc(BENCH_TOKENS, sizeof(int32_t));
    for (int i = 0; i < BENCH_TOKENS; i++)
        bench->tokens[i] = (int32_t)random_below(&stream, (uint64_t)bench->shape.vocab_size);
    bench->report = (struct bench_report){.path = choices->table,
                                          .machine = ops_name(bench->ops),
                                          .n_threads = choices->n_threads};
    return STATUS_OK;
}

int main(int argc, char **argv)
{
    struct model_bench bench = {0};
    struct choices choices = {.shape = "tiny", .dtype = "f32", .device = "cpu", .n_threads = 2,
                              .repeats = 5};
    int status;

    if (parse_choices(argc, argv, &choices) < 0)
        return usage();
    if (choices.processor_time)
        bench_count_processor_time();
    log_set_level(LOG_WARNING);
    TRY_OUT(open_bench(&bench, &choices));
    printf("%s, %d threads; %s, %.2f M parameters, %s\n%-44s %10s %10s\n", bench.report.machine,
           choices.n_threads, choices.shape, 1e-6 * (double)model_shape_parameters(&bench.shape),
           choices.dtype, "", "median", "best");
    if (!choices.bare)
        measure_limits(&bench);
    for (size_t i = 0; i < N_KINDS; i++)
        if (choices.row ? strcmp(choices.row, kinds[i].name) == 0 : kinds[i].in_all)
            TRY_OUT(kinds[i].run(&bench));
    status = STATUS_OK;
out:
    if (status < 0)
        fprintf(stderr, "bench_model: %s\n", status_reason());
    tokenizer_destroy(&bench.tokenizer);
    ops_destroy(&bench.ops);
    mem_free(bench.tokens);
    arena_release(&bench.arena);
    return status < 0;
}
