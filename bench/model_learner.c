/* Training through learner/, and the compute of a whole GRPO step in one process. */
#include <stdio.h>
#include <string.h>

#include "bench/model_rows.h"
#include "common/random.h"
#include "common/status.h"

static const struct optimizer_config optimizer_defaults = {.learning_rate = 1e-5,
                                                           .adam_beta1 = 0.9,
                                                           .adam_beta2 = 0.999,
                                                           .adam_epsilon = 1e-8,
                                                           .max_grad_norm = 1,
                                                           .micro_batch_tokens = 2048};
/* loss_type dapo, scale_rewards group, as the defaults of `hone run`. */
static const struct grpo_config grpo_defaults = {.max_steps = 1,
                                                 .tasks_per_step = 8,
                                                 .loss_type = 1,
                                                 .epsilon = 0.2,
                                                 .epsilon_high = -1,
                                                 .num_iterations = 1,
                                                 .steps_per_generation = 1};

double train_token_flops(const struct model_shape *shape, double n_tokens)
{
    double heads = (double)shape->n_heads * shape->head_dim;

    return 6.0 * (double)model_shape_parameters(shape) + 12.0 * shape->n_layers * heads * n_tokens;
}

static int run_train_row(struct model_bench *bench, struct learner *learner, int n_sequences,
                         int n_tokens)
{
    static struct bench_samples samples;
    struct sequence sequences[16] = {{0}};
    struct learner_stats stats;
    char name[64];
    double flops = train_token_flops(&bench->shape, n_tokens);
    int total = n_sequences * n_tokens;

    samples.n = 0;
    for (int i = 0; i < n_sequences; i++) {
        sequences[i].completion = bench->tokens + i * n_tokens;
        sequences[i].n_completion = (uint32_t)n_tokens;
    }
    for (int i = -1; i < bench->repeats; i++) {
        double before = bench_now();
        TRY(learner_train(learner, sequences, (size_t)n_sequences, &stats));
        if (i >= 0)
            bench_add(&samples, total / (bench_now() - before));
    }
    snprintf(name, sizeof(name), "train B=%d T=%d", n_sequences, n_tokens);
    print_bench_row(bench, name, "tok/s", "FMA peak", bench->peak / flops, &samples);
    return STATUS_OK;
}

int bench_train_batch(struct model_bench *bench)
{
    struct model_options options = {.trainable = 1, .bf16 = bench->bf16};
    struct model *model = NULL;
    struct learner *learner = NULL;
    int status;

    TRY_OUT(model_create(&model, bench->ops, &bench->shape, &options, 1));
    TRY_OUT(learner_create(&learner, NULL, model, NULL, &grpo_defaults, &optimizer_defaults,
                           1000));
    TRY_OUT(run_train_row(bench, learner, 16, 1024));
out:
    learner_destroy(&learner);
    model_destroy(&model);
    return status;
}

int bench_train(struct model_bench *bench)
{
    struct model_options options = {.trainable = 1, .bf16 = bench->bf16};
    struct model *model = NULL;
    struct learner *learner = NULL;
    int status;

    TRY_OUT(model_create(&model, bench->ops, &bench->shape, &options, 1));
    TRY_OUT(learner_create(&learner, NULL, model, NULL, &grpo_defaults, &optimizer_defaults,
                           1000));
    if (strcmp(bench->shape_name, "tiny") == 0) {
        TRY_OUT(run_train_row(bench, learner, 4, 256));
        TRY_OUT(run_train_row(bench, learner, 4, 64));
    } else {
        TRY_OUT(run_train_row(bench, learner, 1, 256));
    }
out:
    learner_destroy(&learner);
    model_destroy(&model);
    return status;
}

/* ---- A step of GRPO: rollout, advantages and update, the new weights into the rollout's model. */

struct grpo_parts {
    struct rollout *rollout;
    struct model *sampler, *policy;
    struct learner *learner;
    struct text image;
    struct bench_samples steps, generate, learn, publish;   /* seconds */
};

static const struct generation grpo_generation = {8, 8, 64, 128};

static int collect_groups(struct model_bench *bench, struct rollout *rollout,
                          struct sample_group *groups, uint64_t seed)
{
    struct random_stream stream = {.seed = seed};

    for (int i = 0; i < grpo_generation.n_groups; i++) {
        struct wire_group taken;
        int status = rollout_take(rollout, &bench->arena, &taken);
        if (status != 1)
            return status < 0 ? status : status_fail(STATUS_FAILED, "group %d is missing", i);
        groups[i] = taken.group;
        for (uint32_t j = 0; j < groups[i].n_samples; j++)
            groups[i].samples[j].reward = (float)random_below(&stream, 2);
    }
    return STATUS_OK;
}

static int run_grpo_step(struct model_bench *bench, struct grpo_parts *parts, int step)
{
    struct sample_group groups[8];
    struct learner_stats stats;
    double start = bench_now(), before = start, now;
    int status;

    TRY(submit_generation(parts->rollout, &grpo_generation, (uint64_t)step + 1,
                          (uint32_t)step + 1));
    while ((status = rollout_step(parts->rollout)) > 0)
        ;
    TRY(status);
    TRY(collect_groups(bench, parts->rollout, groups, (uint64_t)step));
    bench_add(&parts->generate, (now = bench_now()) - before);
    before = now;
    struct learner_batch batch = {.groups = groups,
                                  .n_groups = 8,
                                  .temperature = 1,
                                  .seed = 1,
                                  .step = step,
                                  .max_completion_length = grpo_generation.n_new};
    TRY(learner_step(parts->learner, &batch, &stats));
    bench_add(&parts->learn, (now = bench_now()) - before);
    before = now;
    text_clear(&parts->image);
    TRY(model_write_weights(parts->policy, &parts->image));
    TRY(model_read_weights(parts->sampler, parts->image.data, parts->image.length, "the step"));
    TRY(rollout_set_version(parts->rollout, (uint32_t)step + 2));
    bench_add(&parts->publish, (now = bench_now()) - before);
    bench_add(&parts->steps, now - start);
    arena_rewind(&bench->arena);
    return STATUS_OK;
}

static int run_grpo_steps(struct model_bench *bench, struct grpo_parts *parts)
{
    for (int step = 0; step <= bench->repeats; step++) {
        TRY(run_grpo_step(bench, parts, step));
        if (step == 0)   /* memory grows in the first step */
            parts->steps.n = parts->generate.n = parts->learn.n = parts->publish.n = 0;
    }
    print_bench_row(bench, "GRPO step, 8 x 8, 64+128 tokens", "s", NULL, 0, &parts->steps);
    print_bench_row(bench, "  of it: generating", "s", NULL, 0, &parts->generate);
    print_bench_row(bench, "  of it: learning", "s", NULL, 0, &parts->learn);
    print_bench_row(bench, "  of it: new weights", "s", NULL, 0, &parts->publish);
    return STATUS_OK;
}

int bench_grpo(struct model_bench *bench)
{
    static struct grpo_parts parts;
    const struct generation *g = &grpo_generation;
    struct model_options options = {.trainable = 1, .bf16 = bench->bf16};
    struct model_options frozen = {.bf16 = bench->bf16};
    const struct rollout_limits limits = {.max_sequences = g->n_groups * g->n_samples,
                                          .max_prompt = g->n_prompt,
                                          .max_completion = g->n_new,
                                          .max_batched_tokens = 2048};
    int status;

    TRY_OUT(model_create(&parts.policy, bench->ops, &bench->shape, &options, 1));
    TRY_OUT(model_create(&parts.sampler, bench->ops, &bench->shape, &frozen, 1));
    TRY_OUT(learner_create(&parts.learner, NULL, parts.policy, NULL, &grpo_defaults,
                           &optimizer_defaults, 1000));
    TRY_OUT(rollout_create(&parts.rollout, parts.sampler, bench->tokenizer, 1, &limits));
    TRY_OUT(rollout_set_stops(parts.rollout, NULL, 0));
    parts.image.maximum = (size_t)8 << 30;
    status = run_grpo_steps(bench, &parts);
out:
    rollout_destroy(&parts.rollout);
    learner_destroy(&parts.learner);
    model_destroy(&parts.sampler);
    model_destroy(&parts.policy);
    text_release(&parts.image);
    return status;
}
