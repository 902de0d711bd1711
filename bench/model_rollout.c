/* Decoding and prompts through rollout/: what a user gets, sampling and log-probabilities too. */
#include <stdio.h>
#include <string.h>

#include "bench/model_rows.h"
#include "common/random.h"
#include "common/status.h"

#define CHUNK_STEPS 6   /* steps of decoding that give one sample of the rate */

/* ---- Counts. */

double decode_token_flops(const struct model_shape *shape, double context)
{
    double heads = (double)shape->n_heads * shape->head_dim;

    return 2.0 * (double)model_shape_parameters(shape) + 4.0 * shape->n_layers * heads * context;
}

/* The head is computed for the last token alone. */
double prefill_flops(const struct model_shape *shape, double n_tokens)
{
    double heads = (double)shape->n_heads * shape->head_dim;
    double head = (double)shape->vocab_size * shape->channels;
    double body = (double)model_shape_parameters(shape) - head * (shape->tied_head ? 1 : 2);

    return n_tokens * (2 * body + 2.0 * shape->n_layers * heads * n_tokens) + 2 * head;
}

/* ---- A tokenizer of bytes. */

int open_bench_tokenizer(struct tokenizer **out)
{
    struct text json = {0};
    int n_odd = 0;

    text_print(&json, "{\"version\":\"1.0\",\"added_tokens\":[],\"normalizer\":null,"
                      "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
                      "\"trim_offsets\":true,\"use_regex\":true},\"post_processor\":null,"
                      "\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,"
                      "\"trim_offsets\":true,\"use_regex\":true},\"model\":{\"type\":\"BPE\","
                      "\"dropout\":null,\"unk_token\":null,\"vocab\":{");
    /* GPT-2's alphabet: printable bytes stand for themselves, the others from U+0100 on. */
    for (int byte = 0; byte < 256; byte++) {
        int plain = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
        text_print(&json, "%s\"\\u%04x\":%d", byte ? "," : "", plain ? byte : 256 + n_odd, byte);
        n_odd += !plain;
    }
    text_print(&json, "},\"merges\":[]}}");
    int status = tokenizer_parse(out, json.data, json.length, "the bench's tokenizer");
    text_release(&json);
    return status;
}

/* ---- Generations. */

int submit_generation(struct rollout *rollout, const struct generation *g, uint64_t seed,
                      uint32_t version)
{
    struct sampling sampling = {.num_generations = (uint32_t)g->n_samples,
                                .max_completion_length = (uint32_t)g->n_new,
                                .temperature = 1,
                                .top_p = 1,
                                .seed = seed,
                                .weight_version = version};
    struct random_stream stream = {.seed = seed};
    char *prompt = mem_alloc((size_t)g->n_prompt + 1, 1);
    int status = STATUS_OK;

    for (int i = 0; i < g->n_groups && status == STATUS_OK; i++) {
        for (int j = 0; j < g->n_prompt; j++)
            prompt[j] = (char)('a' + random_below(&stream, 26));
        struct task task = {.id = (uint64_t)i + 1, .kind = "bench", .verifier = "exact"};
        task.question = task.prompt = (struct wire_text){prompt, (uint32_t)g->n_prompt};
        task.prefill = task.reference = task.columns = (struct wire_text){"", 0};
        status = rollout_submit(rollout, (uint64_t)i + 1, &task, &sampling);
    }
    mem_free(prompt);
    return status;
}

static int drop_groups(struct model_bench *bench, struct rollout *rollout)
{
    struct wire_group group;
    int status;

    while ((status = rollout_take(rollout, &bench->arena, &group)) == 1)
        arena_rewind(&bench->arena);
    return status;
}

/* One generation; adds decoding's tokens a second, CHUNK_STEPS at a time. The first step computes
 * the prompts. */
static int time_generation(struct model_bench *bench, struct rollout *rollout,
                           const struct generation *g, uint64_t seed,
                           struct bench_samples *samples)
{
    double n_tokens = (double)g->n_groups * g->n_samples * CHUNK_STEPS;
    double before;
    int n_steps = 0, status;

    TRY(submit_generation(rollout, g, seed, 1));
    TRY(rollout_step(rollout));
    before = bench_now();
    while ((status = rollout_step(rollout)) > 0) {
        if (++n_steps % CHUNK_STEPS)
            continue;
        double now = bench_now();
        if (samples)
            bench_add(samples, n_tokens / (now - before));
        before = now;
    }
    TRY(status);
    return drop_groups(bench, rollout);
}

static int open_rollout(struct rollout **out, struct model_bench *bench, struct model *model,
                        const struct generation *g)
{
    int n = g->n_groups * g->n_samples;

    /* Half as many prompt slots as sequence slots exist. */
    if (n < 2 * g->n_groups)
        n = 2 * g->n_groups;
    const struct rollout_limits limits = {n, g->n_prompt, g->n_new, n + g->n_groups * g->n_prompt,
                                          0};
    TRY(rollout_create(out, model, bench->tokenizer, 1, &limits));
    return rollout_set_stops(*out, NULL, 0);
}

struct decode_row {
    const char *name;
    struct generation g;
};

static int run_decode_row(struct model_bench *bench, struct model *model,
                          const struct decode_row *row)
{
    static struct bench_samples samples;
    const struct model_shape *shape = &bench->shape;
    int n = row->g.n_groups * row->g.n_samples;
    struct rollout *rollout = NULL;
    int status;

    samples.n = 0;
    TRY_OUT(open_rollout(&rollout, bench, model, &row->g));
    for (int i = 0; i < bench->repeats; i++)
        TRY_OUT(time_generation(bench, rollout, &row->g, (uint64_t)i + 1, &samples));
    if (n == 1) {
        double bytes = (double)model_shape_parameters(shape) * (bench->bf16 ? 2 : 4);
        double rate = bench->on_device
                          ? bench->dram
                          : bench_measure_read((size_t)bytes, bench->report.n_threads);
        print_bench_row(bench, row->name, "tok/s", "a read of the weights", rate / bytes, &samples);
    } else {
        double flops = decode_token_flops(shape, row->g.n_prompt + 0.5 * row->g.n_new);
        print_bench_row(bench, row->name, "tok/s", "FMA peak", bench->peak / flops, &samples);
    }
out:
    rollout_destroy(&rollout);
    return status;
}

static int run_decode_rows(struct model_bench *bench, const struct decode_row *rows, size_t n_rows)
{
    struct model_options options = {.bf16 = bench->bf16};
    struct model *model = NULL;
    int status;

    TRY_OUT(model_create(&model, bench->ops, &bench->shape, &options, 1));
    for (size_t i = 0; i < n_rows; i++)
        if (!bench->only || strstr(rows[i].name, bench->only))
            TRY_OUT(run_decode_row(bench, model, &rows[i]));
out:
    model_destroy(&model);
    return status;
}

int bench_decode(struct model_bench *bench)
{
    static const struct decode_row rows[] = {
        {"decode B=1", {1, 1, 224, 32}},
        {"decode B=8", {8, 1, 224, 32}},
        {"decode B=16", {16, 1, 224, 32}},
        {"decode B=64", {64, 1, 224, 32}},
        {"decode B=64, 8 groups of 8", {8, 8, 224, 32}},
    };

    return run_decode_rows(bench, rows, sizeof(rows) / sizeof(rows[0]));
}

int bench_decode_batches(struct model_bench *bench)
{
    static const struct decode_row rows[] = {
        {"decode B=1, context 512", {1, 1, 512, 32}},
        {"decode B=64, context 512", {64, 1, 512, 32}},
        {"decode B=256, context 512", {256, 1, 512, 32}},
        {"decode B=1024, context 512", {1024, 1, 512, 32}},
        {"decode B=1024, 64 groups of 16", {64, 16, 512, 32}},
    };

    return run_decode_rows(bench, rows, sizeof(rows) / sizeof(rows[0]));
}

static int run_prefill_row(struct model_bench *bench, struct model *model, int n_tokens)
{
    static struct bench_samples samples;
    struct generation g = {1, 1, n_tokens, 1};
    struct rollout *rollout = NULL;
    char name[64];
    int status = STATUS_OK;

    snprintf(name, sizeof(name), "prefill %d", n_tokens);
    if (bench->only && !strstr(name, bench->only))
        return status;
    samples.n = 0;
    TRY_OUT(open_rollout(&rollout, bench, model, &g));
    for (int i = -1; i < bench->repeats * 3; i++) {
        TRY_OUT(submit_generation(rollout, &g, (uint64_t)i + 2, 1));
        double before = bench_now();
        while ((status = rollout_step(rollout)) > 0)
            ;
        TRY_OUT(status);
        if (i >= 0)
            bench_add(&samples, n_tokens / (bench_now() - before));
        TRY_OUT(drop_groups(bench, rollout));
    }
    print_bench_row(bench, name, "tok/s", "FMA peak",
                    bench->peak * n_tokens / prefill_flops(&bench->shape, n_tokens), &samples);
out:
    rollout_destroy(&rollout);
    return status;
}

int bench_prefill(struct model_bench *bench)
{
    struct model_options options = {.bf16 = bench->bf16};
    struct model *model = NULL;
    int status;

    TRY_OUT(model_create(&model, bench->ops, &bench->shape, &options, 1));
    for (int n = 256; n <= 1024; n *= 4)
        TRY_OUT(run_prefill_row(bench, model, n));
out:
    model_destroy(&model);
    return status;
}
