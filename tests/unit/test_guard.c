/* What is not finite stops before the update; outliers are left out; the window goes on. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/files.h"
#include "common/status.h"
#include "learner/guard.h"

#define MODEL "tests/golden/qwen3"

static struct ops *ops;
static int32_t words[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
static const struct sequence sequence = {NULL, words, 0, 12};

/* Eight steps of mean 2 and standard deviation 1, in both. */
static struct guard fill(double z_score, int action, int64_t window)
{
    struct guard guard = {.config = {z_score, action, window}};
    int is_outlier;

    for (int i = 0; i < 8; i++) {
        assert_int_equal(guard_look(&guard, 1 + 2 * (i % 2), 3 - 2 * (i % 2), i, &is_outlier), 0);
        assert_false(is_outlier);
    }
    return guard;
}

static int is_outlier_after(struct guard guard, double loss, double grad_norm)
{
    int is_outlier;

    assert_int_equal(guard_look(&guard, loss, grad_norm, 8, &is_outlier), STATUS_OK);
    return is_outlier;
}

static void a_step_far_above_the_mean_is_an_outlier_and_one_below_is_not(void **state)
{
    (void)state;
    /* (5 - 2) / (1 + 2/1000) = 2.994 */
    assert_true(is_outlier_after(fill(2.993, GUARD_SKIP, 64), 5, 2));
    assert_true(is_outlier_after(fill(2.993, GUARD_SKIP, 64), 2, 5));
    assert_false(is_outlier_after(fill(2.995, GUARD_SKIP, 64), 5, 5));
    assert_false(is_outlier_after(fill(2.993, GUARD_SKIP, 64), -50, 0));
    assert_false(is_outlier_after(fill(0, GUARD_SKIP, 64), 1e30, 1e30));
}

static void the_window_forgets_and_a_lasting_change_is_let_through(void **state)
{
    struct guard guard = fill(3, GUARD_SKIP, 8);
    int is_outlier, n_skipped = 0;

    (void)state;
    for (int i = 8; i < 40; i++) {
        assert_int_equal(guard_look(&guard, 100 + i % 2, 2, i, &is_outlier), STATUS_OK);
        n_skipped += is_outlier;
        assert_true(!is_outlier || i < 16);
    }
    assert_true(n_skipped >= 1);
}

static void an_outlier_stops_the_run_when_it_shall(void **state)
{
    struct guard guard = fill(2.9, GUARD_STOP, 64);
    int is_outlier;

    (void)state;
    assert_int_equal(guard_look(&guard, 5, 2, 8, &is_outlier), STATUS_FAILED);
    assert_non_null(strstr(status_reason(), "optimizer step 8 is an outlier: loss 5 (z 3.0)"));
}

static void what_is_not_finite_stops_the_run_whatever_the_settings(void **state)
{
    static const double values[] = {NAN, INFINITY, -INFINITY};
    struct guard guard = {.config = {0, GUARD_SKIP, 64}};
    int is_outlier;

    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        assert_int_equal(guard_look(&guard, values[i], 1, 3, &is_outlier), STATUS_FAILED);
        assert_non_null(strstr(status_reason(), "the loss is"));
        assert_int_equal(guard_look(&guard, 1, values[i], 3, &is_outlier), STATUS_FAILED);
        assert_non_null(strstr(status_reason(), "the gradient norm is"));
    }
}

static void a_window_that_was_saved_goes_on_as_the_one_that_was_not(void **state)
{
    char directory[] = "/tmp/hone-guard-XXXXXX", path[FILE_PATH_MAX];
    struct guard guard = {.config = {1, GUARD_SKIP, 8}}, loaded = guard;
    int one, other;

    (void)state;
    assert_non_null(mkdtemp(directory));
    assert_int_equal(file_join(path, directory, "guard.json"), STATUS_OK);
    for (int i = 0; i < 30; i++) {
        double loss = 1.0 / 3 + i * i % 7, norm = i % 3 * 1e-7;
        assert_int_equal(guard_save(&guard, path), STATUS_OK);
        assert_int_equal(guard_load(&loaded, path), STATUS_OK);
        assert_memory_equal(&guard, &loaded, sizeof(guard));
        assert_int_equal(guard_look(&guard, loss, norm, i, &one), STATUS_OK);
        assert_int_equal(guard_look(&loaded, loss, norm, i, &other), STATUS_OK);
        assert_int_equal(one, other);
    }
    static const char *const bad[] = {"[]", "{\"window\": 8, \"n\": 3, \"loss\": [1, 2]}",
                                      "{\"window\": 8, \"n\": -1}",
                                      "{\"window\": 8, \"n\": 1, \"loss\": [\"a\"]}"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(file_write_atomic(path, bad[i], strlen(bad[i])), STATUS_OK);
        assert_int_equal(guard_load(&loaded, path), STATUS_FORMAT);
    }
    assert_int_equal(file_remove_tree(directory), STATUS_OK);
}

/* ---- In the learner. */

static struct learner *make_learner(struct model **policy, double learning_rate)
{
    const struct grpo_config grpo = {.num_iterations = 1, .steps_per_generation = 1};
    const struct optimizer_config optimizer = {
        .learning_rate = learning_rate, .adam_beta1 = 0.9, .adam_beta2 = 0.999,
        .adam_epsilon = 1e-8, .micro_batch_tokens = 4096};
    struct learner *learner;

    assert_int_equal(model_load(policy, ops, MODEL, &model_trainable), 0);
    assert_int_equal(learner_create(&learner, NULL, *policy, NULL, &grpo, &optimizer, 100), 0);
    return learner;
}

static void weights_that_are_not_finite_are_named_after_the_update(void **state)
{
    struct learner_stats stats;
    struct model *policy;
    struct learner *learner = make_learner(&policy, 1e39);

    (void)state;
    assert_int_equal(learner_train(learner, &sequence, 1, &stats), STATUS_FAILED);
    assert_non_null(strstr(status_reason(), "is no longer finite after optimizer step 0"));
    learner_destroy(&learner);
    model_destroy(&policy);
}

static void a_loss_that_is_not_finite_updates_nothing(void **state)
{
    struct learner_stats stats;
    struct model *policy;
    struct learner *learner = make_learner(&policy, 1e-3);
    struct tensor weight, other;

    (void)state;
    model_weight(policy, 0, &weight, NULL);
    model_weight(policy, 1, &other, NULL);
    ops_scale(ops, &weight, INFINITY);
    model_weights_changed(policy);
    double before = ops_sum_squares(ops, &other);
    assert_int_equal(learner_train(learner, &sequence, 1, &stats), STATUS_FAILED);
    assert_non_null(strstr(status_reason(), "nothing was updated"));
    assert_true(ops_sum_squares(ops, &other) == before);
    assert_int_equal(learner_updates(learner), 0);
    learner_destroy(&learner);
    model_destroy(&policy);
}

static void a_skipped_update_leaves_weights_moments_and_counter_alone(void **state)
{
    const struct guard_config config = {0.5, GUARD_SKIP, 64};
    const struct sequence strange = {NULL, words + 6, 0, 3};
    struct file_map before, after;
    struct learner_stats stats;
    struct model *policy;
    struct learner *learner = make_learner(&policy, 1e-3);

    (void)state;
    assert_int_equal(learner_set_guard(learner, &config), STATUS_OK);
    for (int i = 0; i < 12; i++)
        assert_int_equal(learner_train(learner, &sequence, 1, &stats), STATUS_OK);
    assert_int_equal(model_map_weights(policy, &before), 0);
    int64_t updates = learner_updates(learner);
    assert_int_equal(learner_train(learner, &strange, 1, &stats), STATUS_OK);
    assert_int_equal(stats.n_skipped, 1);
    assert_true(isfinite(stats.loss));
    assert_int_equal(model_map_weights(policy, &after), 0);
    assert_memory_equal(before.bytes, after.bytes, before.n);
    assert_int_equal(learner_updates(learner), updates);
    file_map_close(&before);
    file_map_close(&after);
    learner_destroy(&learner);
    model_destroy(&policy);
}

static int open_ops(void **state)
{
    (void)state;
    return ops_create(&ops, "cpu", 1);
}

static int close_ops(void **state)
{
    (void)state;
    ops_destroy(&ops);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_far_above_the_mean_is_an_outlier_and_one_below_is_not),
        cmocka_unit_test(the_window_forgets_and_a_lasting_change_is_let_through),
        cmocka_unit_test(an_outlier_stops_the_run_when_it_shall),
        cmocka_unit_test(what_is_not_finite_stops_the_run_whatever_the_settings),
        cmocka_unit_test(a_window_that_was_saved_goes_on_as_the_one_that_was_not),
        cmocka_unit_test(weights_that_are_not_finite_are_named_after_the_update),
        cmocka_unit_test(a_loss_that_is_not_finite_updates_nothing),
        cmocka_unit_test(a_skipped_update_leaves_weights_moments_and_counter_alone),
    };

    return cmocka_run_group_tests_name("test_guard", tests, open_ops, close_ops);
}
