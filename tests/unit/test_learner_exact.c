/* What the learner does about log-probabilities that rollout recorded: fail, warn or off; no pass
 * for the old ones when they are exact, none for what teaches nothing, no second model beside
 * adapters. */
#include "learner/grpo.h"
#include "learner/learner.h"
#include "test_model_support.h"

#include "common/arena.h"

enum { N_GROUPS = 3, G = 4, PROMPT = 7, MOST_COMPLETION = 12 };

static struct ops *ops;

struct scene {
    struct sample_group groups[N_GROUPS];
    struct sample samples[N_GROUPS][G];
    int32_t prompts[N_GROUPS][PROMPT], tokens[N_GROUPS][G][MOST_COMPLETION];
    float logprobs[N_GROUPS][G][MOST_COMPLETION];
    uint32_t versions[N_GROUPS][G][MOST_COMPLETION];
};

static struct model *make_policy(int rank)
{
    struct model_shape shape = small_shape(MODEL_QWEN3);
    struct model_options options = {.trainable = 1};
    struct model *model = NULL;

    if (rank)
        options.lora = (struct model_lora){rank, 2.0 * rank, (1u << MODEL_N_LORA_TARGETS) - 1, 4};
    REQUIRE_OK(model_create(&model, ops, &shape, &options, 3));
    return model;
}

/* Samples of random tokens, whose log-probabilities are those of this policy. */
static void make_scene(struct scene *scene, struct model *policy)
{
    struct random_stream stream = {.seed = 21};
    struct model_tape *tape = NULL;

    memset(scene, 0, sizeof(*scene));
    REQUIRE_OK(model_tape_create(&tape, policy));
    for (int g = 0; g < N_GROUPS; g++) {
        struct sample_group *group = &scene->groups[g];
        *group = (struct sample_group){.n_prompt = PROMPT, .prompt_tokens = scene->prompts[g],
                                       .n_samples = G, .samples = scene->samples[g]};
        group->task.id = 900 + (uint64_t)g;
        for (int i = 0; i < PROMPT; i++)
            scene->prompts[g][i] = (int32_t)random_below(&stream, 50);
        for (int i = 0; i < G; i++) {
            int32_t all[PROMPT + MOST_COMPLETION], positions[PROMPT + MOST_COMPLETION];
            int32_t rows[MOST_COMPLETION], n = 3 + (g * G + i) % 9;
            memcpy(all, scene->prompts[g], sizeof(scene->prompts[g]));
            for (int t = 0; t < n; t++) {
                all[PROMPT + t] = scene->tokens[g][i][t] = (int32_t)random_below(&stream, 50);
                rows[t] = PROMPT - 1 + t;
                scene->versions[g][i][t] = 5;
            }
            for (int t = 0; t < PROMPT + n; t++)
                positions[t] = t;
            int32_t segments[2] = {0, PROMPT + n};
            struct model_batch batch = {PROMPT + n, 1,    n,     all, positions,
                                        segments,   rows, scene->tokens[g][i], NULL};
            REQUIRE_OK(model_forward(policy, tape, &batch, 1.0f, TAPE_KEEP_NOTHING,
                                     scene->logprobs[g][i], NULL));
            scene->samples[g][i] = (struct sample){
                .n_tokens = (uint32_t)n, .tokens = scene->tokens[g][i],
                .logprobs = scene->logprobs[g][i], .weight_versions = scene->versions[g][i],
                .reward = (float)(i % 3)};
        }
    }
    model_tape_destroy(&tape);
}

static struct grpo_config config(enum grpo_exact exact)
{
    return (struct grpo_config){.epsilon = 0.2, .epsilon_high = 0.2, .num_iterations = 1,
                                .steps_per_generation = 1, .loss_type = GRPO_LOSS_DAPO,
                                .exact = exact};
}

static const struct optimizer_config adamw = {
    .learning_rate = 1e-2, .adam_beta1 = 0.9, .adam_beta2 = 0.99, .adam_epsilon = 1e-8,
    .max_grad_norm = 1, .micro_batch_tokens = 40};

/* One step of version 5; returns its status. */
static int step(struct model *policy, struct model *reference, const struct grpo_config *grpo,
                struct scene *scene, struct learner_stats *stats)
{
    struct learner *learner = NULL;
    struct learner_batch batch = {.groups = scene->groups, .n_groups = N_GROUPS,
                                  .temperature = 1.0f, .seed = 1, .step = 8,
                                  .max_completion_length = MOST_COMPLETION, .weight_version = 5};

    REQUIRE_OK(learner_create(&learner, NULL, policy, reference, grpo, &adamw, 10));
    int status = learner_step(learner, &batch, stats);
    if (status < 0)
        assert_int_equal(learner_updates(learner), 0);
    learner_destroy(&learner);
    return status;
}

static void exact_log_probabilities_pass(void **state)
{
    struct grpo_config grpo = config(GRPO_EXACT_FAIL);
    struct model *policy = make_policy(0);
    struct learner_stats stats;
    static struct scene scene;

    (void)state;
    make_scene(&scene, policy);
    REQUIRE_OK(step(policy, NULL, &grpo, &scene, &stats));
    assert_true(stats.logp_difference_max == 0.0 && stats.ratio_min == 1.0);
    model_destroy(&policy);
}

/* By the last bit of one of them. */
static void disturb(struct scene *scene)
{
    scene->logprobs[1][2][1] = nextafterf(scene->logprobs[1][2][1], -100.0f);
}

static void a_difference_of_one_bit_fails_and_names_the_token(void **state)
{
    (void)state;
    for (int passes = 1; passes <= 2; passes++) {
        struct grpo_config grpo = config(GRPO_EXACT_FAIL);
        struct model *policy = make_policy(0);
        struct learner_stats stats;
        struct file_map before, after;
        static struct scene scene;
        char value[32];
        grpo.num_iterations = passes;
        make_scene(&scene, policy);
        snprintf(value, sizeof(value), "computes %.9g", (double)scene.logprobs[1][2][1]);
        disturb(&scene);
        REQUIRE_OK(model_map_weights(policy, &before));
        assert_int_equal(step(policy, NULL, &grpo, &scene, &stats), STATUS_FAILED);
        assert_non_null(strstr(status_reason(), "step 9, task 901, sample 2, token 1"));
        assert_non_null(strstr(status_reason(), value));
        REQUIRE_OK(model_map_weights(policy, &after));
        assert_memory_equal(before.bytes, after.bytes, before.n);
        file_map_close(&before);
        file_map_close(&after);
        model_destroy(&policy);
    }
}

static void warn_and_off_go_on_and_measure(void **state)
{
    const enum grpo_exact kinds[] = {GRPO_EXACT_WARN, GRPO_EXACT_OFF};

    (void)state;
    for (int k = 0; k < 4; k++) {
        struct grpo_config grpo = config(kinds[k % 2]);
        struct model *policy = make_policy(0);
        struct learner_stats stats;
        static struct scene scene;
        grpo.num_iterations = 1 + k / 2;
        make_scene(&scene, policy);
        disturb(&scene);
        REQUIRE_OK(step(policy, NULL, &grpo, &scene, &stats));
        assert_true(stats.logp_difference_max > 0.0 && stats.logp_difference_max < 1e-5);
        model_destroy(&policy);
    }
}

static void samples_of_other_weights_are_not_compared(void **state)
{
    struct grpo_config grpo = config(GRPO_EXACT_FAIL);
    struct learner_stats stats;
    static struct scene scene;

    (void)state;
    for (int passes = 1; passes <= 2; passes++) {
        struct model *policy = make_policy(0);
        grpo.num_iterations = passes;
        make_scene(&scene, policy);
        disturb(&scene);
        scene.versions[1][2][0] = 4;   /* its first token: what follows saw its keys */
        REQUIRE_OK(step(policy, NULL, &grpo, &scene, &stats));
        assert_true(stats.logp_difference_max == 0.0);
        model_destroy(&policy);
    }
}

/* The image of all weights after one step. */
static struct file_map weights_after(const struct grpo_config *grpo, int rank, int second_model)
{
    struct model *policy = make_policy(rank), *base = second_model ? make_policy(0) : NULL;
    struct learner_stats stats;
    struct file_map image;
    static struct scene scene;

    if (rank)   /* B starts at 0, where policy and base would be one */
        for (size_t i = 0; i < model_n_trained(policy); i++) {
            struct tensor weight;
            model_trained(policy, i, &weight, NULL);
            for (int64_t k = 0; k < tensor_count(&weight); k++)
                tensor_f32(&weight)[k] += 0.05f * (float)((k * 7 + (int64_t)i) % 5 - 2);
        }
    model_weights_changed(policy);
    make_scene(&scene, policy);
    REQUIRE_OK(step(policy, base, grpo, &scene, &stats));
    if (grpo->beta > 0 && rank)
        assert_true(stats.kl > 0.0);
    REQUIRE_OK(model_map_weights(policy, &image));
    model_destroy(&policy);
    model_destroy(&base);
    return image;
}

static void assert_same_images(struct file_map a, struct file_map b)
{
    assert_int_equal(a.n, b.n);
    assert_memory_equal(a.bytes, b.bytes, a.n);
    file_map_close(&a);
    file_map_close(&b);
}

static void recorded_log_probabilities_replace_the_old_pass(void **state)
{
    struct grpo_config recorded = config(GRPO_EXACT_FAIL), computed = config(GRPO_EXACT_WARN);

    (void)state;
    recorded.num_iterations = computed.num_iterations = 2;
    recorded.steps_per_generation = computed.steps_per_generation = 3;
    assert_same_images(weights_after(&recorded, 0, 0), weights_after(&computed, 0, 0));
}

static void the_reference_of_adapters_is_the_policy_without_them(void **state)
{
    struct grpo_config grpo = config(GRPO_EXACT_FAIL);

    (void)state;
    grpo.beta = 0.3;
    grpo.num_iterations = 2;
    assert_same_images(weights_after(&grpo, 4, 0), weights_after(&grpo, 4, 1));
}

static void groups_that_teach_nothing_are_counted_but_not_computed(void **state)
{
    struct grpo_config grpo = config(GRPO_EXACT_OFF);
    struct learner_stats all, some;
    static struct scene scene;
    int64_t idle = 0;

    (void)state;
    for (int type = GRPO_LOSS_GRPO; type <= GRPO_LOSS_DR_GRPO; type++) {
        struct model *policy = make_policy(0), *again = make_policy(0);
        grpo.loss_type = type;
        make_scene(&scene, policy);
        for (uint32_t i = 0; i < G; i++) {
            scene.samples[1][i].reward = 0.5f;
            idle += scene.samples[1][i].n_tokens;
        }
        REQUIRE_OK(step(policy, NULL, &grpo, &scene, &all));
        assert_int_equal(all.n_computed, all.n_tokens - idle);
        assert_int_equal(all.n_sequences, N_GROUPS * G);
        /* Without the group the gradient is as much larger as the average is of less. */
        for (uint32_t i = 0; i < G; i++)
            scene.samples[1][i].masked = 1;
        REQUIRE_OK(step(again, NULL, &grpo, &scene, &some));
        double share = type == GRPO_LOSS_DAPO ? (double)some.n_tokens / (double)all.n_tokens
                                              : (double)some.n_sequences / (double)all.n_sequences;
        assert_float_equal(all.grad_norm, some.grad_norm * share, 1e-5 * some.grad_norm);
        assert_float_equal(all.entropy, some.entropy, 1e-9);
        model_destroy(&policy);
        model_destroy(&again);
        idle = 0;
    }
}

static int set_up(void **state)
{
    (void)state;
    return ops_create(&ops, "cpu", 2);
}

static int tear_down(void **state)
{
    (void)state;
    ops_destroy(&ops);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_log_probabilities_pass),
        cmocka_unit_test(a_difference_of_one_bit_fails_and_names_the_token),
        cmocka_unit_test(warn_and_off_go_on_and_measure),
        cmocka_unit_test(samples_of_other_weights_are_not_compared),
        cmocka_unit_test(recorded_log_probabilities_replace_the_old_pass),
        cmocka_unit_test(the_reference_of_adapters_is_the_policy_without_them),
        cmocka_unit_test(groups_that_teach_nothing_are_counted_but_not_computed),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
