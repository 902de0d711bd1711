#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "learner/grpo.h"

#define G 4

static struct sample_group group_of(struct sample *samples, const float *rewards, uint32_t n)
{
    memset(samples, 0, n * sizeof(*samples));
    for (uint32_t i = 0; i < n; i++)
        samples[i].reward = rewards[i];
    return (struct sample_group){.n_samples = n, .samples = samples};
}

static void advantages_of_equal_rewards_are_zero(void **state)
{
    const float rewards[G] = {0.1f, 0.1f, 0.1f, 0.1f};
    struct sample samples[G];
    struct sample_group group = group_of(samples, rewards, G);
    struct grpo_reward_stats stats;

    (void)state;
    grpo_fill_advantages(&group, 1, GRPO_SCALE_GROUP, &stats);
    for (int i = 0; i < G; i++)
        assert_true(samples[i].advantage == 0.0f);
    assert_true(stats.zero_std_fraction == 1.0);
}

static void advantages_use_the_unbiased_deviation_and_1e_4(void **state)
{
    const float rewards[G] = {1, 0, 0, 1};
    struct sample samples[G];
    struct sample_group group = group_of(samples, rewards, G);
    struct grpo_reward_stats stats;
    double std = sqrt(4 * 0.25 / 3);

    (void)state;
    grpo_fill_advantages(&group, 1, GRPO_SCALE_GROUP, &stats);
    assert_float_equal(samples[0].advantage, 0.5 / (std + 1e-4), 1e-6);
    assert_float_equal(samples[1].advantage, -0.5 / (std + 1e-4), 1e-6);
    assert_float_equal(stats.reward, 0.5, 1e-12);
    assert_float_equal(stats.reward_std, std, 1e-12);
}

static void advantages_without_scale_are_differences_from_the_mean(void **state)
{
    const float rewards[G] = {2, 0, 1, 1};
    struct sample samples[G];
    struct sample_group group = group_of(samples, rewards, G);
    struct grpo_reward_stats stats;

    (void)state;
    grpo_fill_advantages(&group, 1, GRPO_SCALE_NONE, &stats);
    assert_float_equal(samples[0].advantage, 1, 1e-7);
    assert_float_equal(samples[1].advantage, -1, 1e-7);
    assert_float_equal(samples[2].advantage, 0, 1e-7);
}

static void a_group_of_one_has_no_advantage(void **state)
{
    const float rewards[1] = {1};
    struct sample samples[1];
    struct sample_group group = group_of(samples, rewards, 1);
    struct grpo_reward_stats stats;

    (void)state;
    grpo_fill_advantages(&group, 1, GRPO_SCALE_GROUP, &stats);
    assert_true(samples[0].advantage == 0.0f);
}

static void masked_samples_are_left_out_of_the_statistics(void **state)
{
    const float rewards[G] = {1, 0, 0, 1};
    struct sample samples[G];
    struct sample_group group = group_of(samples, rewards, G);
    struct grpo_reward_stats stats;

    (void)state;
    samples[1].masked = samples[2].masked = 1;
    grpo_fill_advantages(&group, 1, GRPO_SCALE_GROUP, &stats);
    assert_float_equal(stats.reward, 1, 1e-12);
    for (int i = 0; i < G; i++)
        assert_true(samples[i].advantage == 0.0f);
}

#define N 6
static const float logprobs[N] = {-0.5f, -1.25f, -0.1f, -3.0f, -2.0f, -0.7f};
static const float old_logprobs[N] = {-0.6f, -1.0f, -0.9f, -2.9f, -2.6f, -0.7f};
static const float ref_logprobs[N] = {-0.9f, -1.1f, -0.2f, -3.5f, -1.0f, -0.8f};

static double loss_at(const float *lp, double advantage, const struct grpo_clip *clip,
                      float *gradient)
{
    struct grpo_completion completion = {lp, old_logprobs, ref_logprobs, N, advantage, 0.125};
    struct grpo_terms terms = {0};

    grpo_completion_loss(&completion, clip, gradient, &terms);
    return terms.loss;
}

/* The loss is computed in double from float inputs: the difference of two exact floats divides. */
static void check_gradient(double advantage, const struct grpo_clip *clip)
{
    float gradient[N], ignored[N], moved[N];

    loss_at(logprobs, advantage, clip, gradient);
    for (int t = 0; t < N; t++) {
        memcpy(moved, logprobs, sizeof(moved));
        moved[t] = logprobs[t] + 1e-4f;
        double above = loss_at(moved, advantage, clip, ignored), x1 = (double)moved[t];
        moved[t] = logprobs[t] - 1e-4f;
        double below = loss_at(moved, advantage, clip, ignored), x0 = (double)moved[t];
        assert_float_equal(gradient[t], (above - below) / (x1 - x0), 1e-7);
    }
}

static void gradient_equals_finite_differences_in_double(void **state)
{
    static const double advantages[] = {1.5, -0.7, 0.0};
    const struct grpo_clip clips[] = {
        {0.2, 0.28, 0.0, GRPO_LEVEL_TOKEN},
        {0.2, 0.2, 0.04, GRPO_LEVEL_TOKEN},
        {10.0, 10.0, 0.5, GRPO_LEVEL_TOKEN},
        {0.2, 0.28, 0.1, GRPO_LEVEL_SEQUENCE},
        {0.001, 0.001, 0.0, GRPO_LEVEL_SEQUENCE},
    };

    (void)state;
    for (size_t a = 0; a < 3; a++)
        for (size_t c = 0; c < sizeof(clips) / sizeof(clips[0]); c++)
            check_gradient(advantages[a], &clips[c]);
}

static void the_first_update_has_ratio_one_and_the_policy_gradient(void **state)
{
    const struct grpo_clip clip = {0.2, 0.2, 0.0, GRPO_LEVEL_TOKEN};
    struct grpo_completion completion = {logprobs, logprobs, NULL, N, 2.0, 0.5};
    struct grpo_terms terms = {0};
    float gradient[N];

    (void)state;
    grpo_completion_loss(&completion, &clip, gradient, &terms);
    for (int t = 0; t < N; t++)
        assert_true(gradient[t] == -1.0f);
    assert_true(terms.n_clip_low == 0 && terms.n_clip_high == 0);
    assert_true(terms.loss == -2.0 * 0.5 * N);
}

static void clipping_counts_only_where_it_stops_the_gradient(void **state)
{
    const struct grpo_clip clip = {0.2, 0.2, 0.0, GRPO_LEVEL_TOKEN};
    /* ratios: e^0.8 above, e^-0.8 below, 1 inside */
    const float lp[3] = {-0.2f, -1.8f, -1.0f}, old[3] = {-1.0f, -1.0f, -1.0f};
    struct grpo_completion up = {lp, old, NULL, 3, 1.0, 1.0}, down = {lp, old, NULL, 3, -1.0, 1.0};
    struct grpo_terms terms = {0};
    float gradient[3];

    (void)state;
    grpo_completion_loss(&up, &clip, gradient, &terms);
    assert_int_equal(terms.n_clip_high, 1);
    assert_int_equal(terms.n_clip_low, 0);
    assert_true(gradient[0] == 0.0f && gradient[1] < 0.0f);
    memset(&terms, 0, sizeof(terms));
    grpo_completion_loss(&down, &clip, gradient, &terms);
    assert_int_equal(terms.n_clip_low, 1);
    assert_int_equal(terms.n_clip_high, 0);
    assert_true(gradient[1] == 0.0f && gradient[0] > 0.0f);
}

static void kl_is_zero_where_policy_and_reference_agree_and_positive_elsewhere(void **state)
{
    const struct grpo_clip clip = {0.2, 0.2, 1.0, GRPO_LEVEL_TOKEN};
    struct grpo_completion same = {logprobs, logprobs, logprobs, N, 0.0, 1.0};
    struct grpo_completion other = {logprobs, logprobs, ref_logprobs, N, 0.0, 1.0};
    struct grpo_terms terms = {0};
    float gradient[N];

    (void)state;
    grpo_completion_loss(&same, &clip, gradient, &terms);
    assert_true(terms.kl == 0.0 && gradient[3] == 0.0f);
    grpo_completion_loss(&other, &clip, gradient, &terms);
    assert_true(terms.kl > 0.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(advantages_of_equal_rewards_are_zero),
        cmocka_unit_test(advantages_use_the_unbiased_deviation_and_1e_4),
        cmocka_unit_test(advantages_without_scale_are_differences_from_the_mean),
        cmocka_unit_test(a_group_of_one_has_no_advantage),
        cmocka_unit_test(masked_samples_are_left_out_of_the_statistics),
        cmocka_unit_test(gradient_equals_finite_differences_in_double),
        cmocka_unit_test(the_first_update_has_ratio_one_and_the_policy_gradient),
        cmocka_unit_test(clipping_counts_only_where_it_stops_the_gradient),
        cmocka_unit_test(kl_is_zero_where_policy_and_reference_agree_and_positive_elsewhere),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
