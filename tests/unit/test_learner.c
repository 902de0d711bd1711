/* Whole learner steps: against PyTorch (tests/golden/grpo), and the laws that hold between them. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/arena.h"
#include "common/files.h"
#include "common/json.h"
#include "common/status.h"
#include "learner/learner.h"

#define GOLDEN "tests/golden/grpo/golden.json"
#define MODEL "tests/golden/qwen3"

static struct ops *ops;
static json_t *golden;
static struct arena arena;

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static int choice(const struct config_section *section, const char *key, const json_t *object)
{
    const char *wanted = json_string_value(json_object_get(object, key));

    for (const struct config_field *field = section->fields; field->key; field++)
        if (strcmp(field->key, key) == 0)
            for (int i = 0; field->choices[i]; i++)
                if (strcmp(field->choices[i], wanted) == 0)
                    return i;
    fail_msg("no choice %s for %s", wanted, key);
    return -1;
}

static int32_t *ids(const json_t *list, uint32_t *n)
{
    *n = (uint32_t)json_array_size(list);
    int32_t *out = ARENA_NEW(&arena, int32_t, *n + 1);
    for (uint32_t i = 0; i < *n; i++)
        out[i] = (int32_t)json_integer_value(json_array_get(list, i));
    return out;
}

static struct sample_group *load_groups(size_t *n_groups)
{
    const json_t *list = json_object_get(golden, "groups");
    struct sample_group *groups = ARENA_NEW(&arena, struct sample_group, json_array_size(list));

    *n_groups = json_array_size(list);
    for (size_t g = 0; g < *n_groups; g++) {
        const json_t *group = json_array_get(list, g), *samples = json_object_get(group, "samples");
        groups[g].prompt_tokens = ids(json_object_get(group, "prompt"), &groups[g].n_prompt);
        groups[g].n_samples = (uint32_t)json_array_size(samples);
        groups[g].samples = ARENA_NEW(&arena, struct sample, groups[g].n_samples);
        for (uint32_t i = 0; i < groups[g].n_samples; i++) {
            struct sample *sample = &groups[g].samples[i];
            const json_t *row = json_array_get(samples, i);
            sample->tokens = ids(json_object_get(row, "tokens"), &sample->n_tokens);
            sample->reward = (float)number(row, "reward");
            sample->logprobs = ARENA_NEW(&arena, float, sample->n_tokens);
        }
    }
    return groups;
}

static struct optimizer_config optimizer_config(int64_t micro_batch_tokens)
{
    return (struct optimizer_config){
        .learning_rate = number(golden, "learning_rate"), .adam_beta1 = 0.9, .adam_beta2 = 0.999,
        .adam_epsilon = 1e-8, .max_grad_norm = number(golden, "max_grad_norm"),
        .micro_batch_tokens = micro_batch_tokens};
}

struct outcome_of_steps {
    struct learner_stats stats;
    struct file_map weights;  /* safetensors image */
    struct sample_group *groups;
    size_t n_groups;
};

/* One generation batch with `passes` updates, from the golden model. */
static struct outcome_of_steps run_case(const json_t *row, int64_t passes, int64_t micro_tokens,
                                        int with_reference)
{
    struct outcome_of_steps out = {0};
    struct model *policy, *reference = NULL;
    struct learner *learner;
    struct grpo_config grpo = {
        .loss_type = choice(&grpo_config_section, "loss_type", row),
        .scale_rewards = choice(&grpo_config_section, "scale_rewards", row),
        .importance_sampling_level =
            choice(&grpo_config_section, "importance_sampling_level", row),
        .epsilon = number(golden, "epsilon"), .epsilon_high = number(golden, "epsilon_high"),
        .beta = with_reference ? number(golden, "beta") : 0, .num_iterations = passes,
        .steps_per_generation = 1, .tasks_per_step = 3};
    struct optimizer_config optimizer = optimizer_config(micro_tokens);

    assert_int_equal(model_load(&policy, ops, MODEL, &model_trainable), 0);
    if (with_reference) {
        assert_int_equal(model_load(&reference, ops, MODEL, &model_trainable), 0);
        for (size_t i = 0; i < model_n_weights(reference); i++) {
            struct tensor weight;
            model_weight(reference, i, &weight, NULL);
            ops_scale(ops, &weight, (float)number(golden, "reference_scale"));
        }
        model_weights_changed(reference);
    }
    assert_int_equal(learner_create(&learner, NULL, policy, reference, &grpo, &optimizer, passes),
                     0);
    out.groups = load_groups(&out.n_groups);
    struct learner_batch batch = {out.groups, out.n_groups, (float)number(golden, "temperature"), 1,
                                  0, (int64_t)number(golden, "max_completion"), 0};
    if (learner_step(learner, &batch, &out.stats) < 0)
        fail_msg("%s", status_reason());
    assert_int_equal(model_map_weights(policy, &out.weights), 0);
    learner_destroy(&learner);
    model_destroy(&policy);
    model_destroy(&reference);
    return out;
}

static void check_watched(const struct file_map *image, const json_t *row)
{
    struct model *model;
    struct text config = {0};
    const char *name;
    json_t *values;

    assert_int_equal(file_read(MODEL "/config.json", 1 << 20, &config), 0);
    assert_int_equal(model_load_map(&model, ops, config.data, config.length, image,
                                    &model_trainable), 0);
    json_object_foreach(json_object_get(row, "watched"), name, values) {
        for (size_t i = 0; i < model_n_weights(model); i++) {
            struct tensor weight;
            if (strcmp(model_weight(model, i, &weight, NULL), name) != 0)
                continue;
            for (size_t j = 0; j < json_array_size(values); j++) {
                double wanted = json_number_value(json_array_get(values, j));
                assert_float_equal(tensor_f32(&weight)[j], wanted, 2e-5 * fmax(1, fabs(wanted)));
            }
        }
    }
    model_destroy(&model);
    text_release(&config);
}

static void two_updates_of_every_loss_equal_pytorch(void **state)
{
    const json_t *cases = json_object_get(golden, "cases");

    (void)state;
    for (size_t c = 0; c < json_array_size(cases); c++) {
        const json_t *row = json_array_get(cases, c);
        const json_t *losses = json_object_get(row, "losses");
        const json_t *norms = json_object_get(row, "grad_norms");
        const json_t *advantages = json_object_get(row, "advantages");
        struct outcome_of_steps out = run_case(row, 2, 4096, 1);
        double loss = 0, norm = 0;
        for (size_t i = 0; i < 2; i++) {
            loss += json_number_value(json_array_get(losses, i)) / 2;
            norm += json_number_value(json_array_get(norms, i)) / 2;
        }
        for (size_t i = 0; i < json_array_size(advantages); i++)
            assert_float_equal(out.groups[i / 4].samples[i % 4].advantage,
                               json_number_value(json_array_get(advantages, i)), 1e-5);
        assert_float_equal(out.stats.loss, loss, 1e-5 * fmax(1, fabs(loss)));
        assert_float_equal(out.stats.grad_norm, norm, 2e-5 * norm);
        check_watched(&out.weights, row);
        file_map_close(&out.weights);
    }
}

static double largest_difference(const struct file_map *a, const struct file_map *b)
{
    uint64_t header;
    double largest = 0;

    assert_int_equal(a->n, b->n);
    memcpy(&header, a->bytes, sizeof(header));
    for (size_t at = 8 + header; at + 4 <= a->n; at += 4) {
        float x, y;
        memcpy(&x, a->bytes + at, 4);
        memcpy(&y, b->bytes + at, 4);
        largest = fmax(largest, fabs((double)x - (double)y));
    }
    return largest;
}

static void micro_batches_do_not_change_the_update(void **state)
{
    const json_t *cases = json_object_get(golden, "cases");

    (void)state;
    for (size_t c = 0; c < json_array_size(cases); c++) {
        const json_t *row = json_array_get(cases, c);
        if (strcmp(json_string_value(json_object_get(row, "loss_type")), "bnpo") == 0)
            continue;   /* defined by its micro-batches */
        struct outcome_of_steps whole = run_case(row, 1, 4096, 1), parts = run_case(row, 1, 20, 1);
        assert_float_equal(whole.stats.loss, parts.stats.loss, 1e-6);
        assert_float_equal(whole.stats.grad_norm, parts.stats.grad_norm,
                           1e-5 * whole.stats.grad_norm);
        assert_true(largest_difference(&whole.weights, &parts.weights) < 1e-4);
        file_map_close(&whole.weights);
        file_map_close(&parts.weights);
    }
}

static void the_same_step_gives_the_same_bytes(void **state)
{
    const json_t *row = json_array_get(json_object_get(golden, "cases"), 0);
    struct outcome_of_steps a = run_case(row, 2, 30, 1), b = run_case(row, 2, 30, 1);

    (void)state;
    assert_int_equal(a.weights.n, b.weights.n);
    assert_memory_equal(a.weights.bytes, b.weights.bytes, a.weights.n);
    file_map_close(&a.weights);
    file_map_close(&b.weights);
}

static void masked_and_zero_advantage_samples_move_nothing(void **state)
{
    struct model *policy;
    struct learner *learner;
    struct grpo_config grpo = {.epsilon = 0.2, .epsilon_high = 0.2, .num_iterations = 1,
                               .steps_per_generation = 1};
    struct optimizer_config optimizer = optimizer_config(4096);
    struct file_map before, after;
    size_t n_groups;
    struct sample_group *groups = load_groups(&n_groups);
    struct learner_stats stats;

    (void)state;
    for (size_t g = 0; g < n_groups; g++)
        for (uint32_t i = 0; i < groups[g].n_samples; i++) {
            groups[g].samples[i].masked = g == 0;
            groups[g].samples[i].reward = 0.25f;
        }
    assert_int_equal(model_load(&policy, ops, MODEL, &model_trainable), 0);
    assert_int_equal(model_map_weights(policy, &before), 0);
    assert_int_equal(learner_create(&learner, NULL, policy, NULL, &grpo, &optimizer, 1), 0);
    struct learner_batch batch = {groups, n_groups, 1.0f, 1, 0, 10, 0};
    assert_int_equal(learner_step(learner, &batch, &stats), 0);
    assert_int_equal(stats.n_sequences, 8);
    assert_true(stats.grad_norm == 0.0);
    assert_int_equal(model_map_weights(policy, &after), 0);
    assert_memory_equal(before.bytes, after.bytes, before.n);
    learner_destroy(&learner);
    model_destroy(&policy);
    file_map_close(&before);
    file_map_close(&after);
}

static void saved_state_goes_on_bit_for_bit(void **state)
{
    char directory[] = "/tmp/hone-learner-XXXXXX", path[FILE_PATH_MAX];
    int32_t words[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    struct sequence sequences[2] = {{words, words + 3, 3, 6}, {NULL, words, 0, 12}};
    struct grpo_config no_grpo = {.num_iterations = 1, .steps_per_generation = 1};
    struct optimizer_config optimizer = optimizer_config(4096);
    struct file_map straight, resumed;
    struct learner_stats stats;
    struct learner *learner;
    struct model *policy;

    (void)state;
    optimizer.lr_scheduler_type = 2;
    optimizer.warmup_ratio = 0.3;
    assert_non_null(mkdtemp(directory));
    assert_int_equal(model_load(&policy, ops, MODEL, &model_trainable), 0);
    assert_int_equal(learner_create(&learner, NULL, policy, NULL, &no_grpo, &optimizer, 6), 0);
    for (int step = 0; step < 6; step++) {
        if (step == 3) {
            assert_int_equal(model_save(policy, -1, 1, directory), 0);
            assert_int_equal(learner_save_state(learner, directory), 0);
        }
        assert_int_equal(learner_train(learner, sequences, 2, &stats), 0);
    }
    assert_int_equal(model_map_weights(policy, &straight), 0);
    learner_destroy(&learner);
    model_destroy(&policy);
    assert_int_equal(model_load(&policy, ops, directory, &model_trainable), 0);
    assert_int_equal(learner_create(&learner, NULL, policy, NULL, &no_grpo, &optimizer, 6), 0);
    assert_int_equal(learner_load_state(learner, directory), 0);
    assert_int_equal(learner_updates(learner), 3);
    for (int step = 3; step < 6; step++)
        assert_int_equal(learner_train(learner, sequences, 2, &stats), 0);
    assert_int_equal(model_map_weights(policy, &resumed), 0);
    assert_int_equal(straight.n, resumed.n);
    assert_memory_equal(straight.bytes, resumed.bytes, straight.n);
    learner_destroy(&learner);
    model_destroy(&policy);
    file_map_close(&straight);
    file_map_close(&resumed);
    assert_int_equal(file_join(path, directory, ""), 0);
    file_remove_tree(directory);
}

static void the_reference_follows_when_the_config_says_so(void **state)
{
    struct model *policy, *reference;
    struct learner *learner;
    struct grpo_config grpo = {.epsilon = 0.2, .epsilon_high = 0.2, .beta = 0.1,
                               .num_iterations = 1, .steps_per_generation = 1, .sync_ref_model = 1,
                               .ref_model_sync_steps = 2, .ref_model_mixup_alpha = 1.0};
    struct optimizer_config optimizer = optimizer_config(4096);
    struct learner_stats stats;
    size_t n_groups;
    struct sample_group *groups = load_groups(&n_groups);

    (void)state;
    assert_int_equal(model_load(&policy, ops, MODEL, &model_trainable), 0);
    assert_int_equal(model_load(&reference, ops, MODEL, &model_frozen), 0);
    assert_int_equal(learner_create(&learner, NULL, policy, reference, &grpo, &optimizer, 3), 0);
    for (int64_t step = 0; step < 3; step++) {
        struct learner_batch batch = {groups, n_groups, 1.0f, 1, step, 10, 0};
        assert_int_equal(learner_step(learner, &batch, &stats), 0);
        /* after step 2 the reference is the policy: the KL of the third step's start is 0 */
        if (step == 1)
            assert_true(stats.kl > 0.0);
        if (step == 2)
            assert_true(stats.kl == 0.0);
    }
    learner_destroy(&learner);
    model_destroy(&policy);
    model_destroy(&reference);
}

static void a_gradient_that_is_not_finite_is_refused_and_changes_nothing(void **state)
{
    int32_t words[4] = {1, 2, 3, 4};
    struct sequence sequence = {words, words + 1, 1, 3};
    struct grpo_config no_grpo = {.num_iterations = 1, .steps_per_generation = 1};
    struct optimizer_config optimizer = optimizer_config(4096);
    struct learner_stats stats;
    struct learner *learner;
    struct model *policy;
    struct tensor weight;

    (void)state;
    assert_int_equal(model_load(&policy, ops, MODEL, &model_trainable), 0);
    model_weight(policy, 0, &weight, NULL);
    tensor_f32(&weight)[33] = NAN;
    model_weights_changed(policy);
    assert_int_equal(learner_create(&learner, NULL, policy, NULL, &no_grpo, &optimizer, 1), 0);
    assert_int_equal(learner_train(learner, &sequence, 1, &stats), STATUS_FAILED);
    assert_non_null(strstr(status_reason(), "nan at optimizer step 0, and nothing was updated"));
    assert_int_equal(learner_updates(learner), 0);
    learner_destroy(&learner);
    model_destroy(&policy);
}

static int set_up(void **state)
{
    (void)state;
    arena_init(&arena, (size_t)64 << 20);
    if (ops_create(&ops, "cpu", 2) < 0 || json_read_file(&golden, GOLDEN, 1 << 20) < 0) {
        fprintf(stderr, "%s\n", status_reason());
        return -1;
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    json_decref(golden);
    ops_destroy(&ops);
    arena_release(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_updates_of_every_loss_equal_pytorch),
        cmocka_unit_test(micro_batches_do_not_change_the_update),
        cmocka_unit_test(the_same_step_gives_the_same_bytes),
        cmocka_unit_test(masked_and_zero_advantage_samples_move_nothing),
        cmocka_unit_test(saved_state_goes_on_bit_for_bit),
        cmocka_unit_test(the_reference_follows_when_the_config_says_so),
        cmocka_unit_test(a_gradient_that_is_not_finite_is_refused_and_changes_nothing),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
