/* Rewards of length and repetition: soft_overlong, kimi_length, repetition. */
#include "test_verifier_support.h"

#include <stdio.h>

#include "common/config.h"
#include "reward/internal.h"
#include "reward/repetition.h"

static struct verifier_verdict ask_length(const struct verifier_v1 *verifier, const char *options,
                                          uint64_t n, uint64_t least, uint64_t most,
                                          enum verifier_outcome accuracy)
{
    struct verifier_task task = {.size = sizeof(task), .n_tokens = n, .group_min_tokens = least,
                                 .group_max_tokens = most, .accuracy = (uint32_t)accuracy};

    return ask(verifier, options, &task);
}

static double overlong(uint64_t n)
{
    return ask_length(&verifier_soft_overlong, "max_length=20480\ncache=4096\n", n, n, n,
                      VERIFIER_RIGHT).score;
}

/* DAPO, equation 13, with the numbers of the paper. */
static void overlong_falls_to_minus_one_over_the_cache(void **state)
{
    (void)state;
    assert_true(overlong(1) == 0);
    assert_true(overlong(16384) == 0);
    assert_true(overlong(16384 + 1024) == -0.25);
    assert_true(overlong(20480) == -1);
    assert_true(overlong(30000) == -1);
}

static void overlong_takes_a_fifth_as_cache(void **state)
{
    (void)state;
    assert_true(ask_length(&verifier_soft_overlong, "max_length=100\n", 90, 0, 0,
                           VERIFIER_RIGHT).score == -0.5);
    assert_true(ask_length(&verifier_soft_overlong, "max_length=100\ncache=0\n", 100, 0, 0,
                           VERIFIER_RIGHT).score == 0);
    assert_true(ask_length(&verifier_soft_overlong, "max_length=100\ncache=0\n", 101, 0, 0,
                           VERIFIER_RIGHT).score == -1);
}

static void overlong_without_lengths_is_no_verdict(void **state)
{
    void *made = NULL;

    (void)state;
    assert_int_equal(ask_length(&verifier_soft_overlong, "", 5, 5, 5, VERIFIER_RIGHT).outcome,
                     VERIFIER_ERROR);
    assert_int_equal(ask_length(&verifier_soft_overlong, "max_length=9\n", 0, 0, 0,
                                VERIFIER_RIGHT).outcome, VERIFIER_ERROR);
    assert_int_equal(verifier_soft_overlong.create(NULL, text_of("max_length=9\ncache=10\n"),
                                                   &made), STATUS_CONFIG);
}

static double kimi(uint64_t n, uint64_t least, uint64_t most, enum verifier_outcome accuracy)
{
    return ask_length(&verifier_kimi_length, "", n, least, most, accuracy).score;
}

static void kimi_prefers_short_right_answers(void **state)
{
    (void)state;
    assert_true(kimi(100, 100, 300, VERIFIER_RIGHT) == 0.5);
    assert_true(kimi(200, 100, 300, VERIFIER_RIGHT) == 0);
    assert_true(kimi(300, 100, 300, VERIFIER_RIGHT) == -0.5);
    assert_true(kimi(100, 100, 300, VERIFIER_WRONG) == 0);
    assert_true(kimi(300, 100, 300, VERIFIER_UNREADABLE) == -0.5);
    assert_true(kimi(100, 100, 100, VERIFIER_RIGHT) == 0);
    assert_int_equal(ask_length(&verifier_kimi_length, "", 1, 1, 1, VERIFIER_ERROR).outcome,
                     VERIFIER_ERROR);
    assert_int_equal(ask_length(&verifier_kimi_length, "", 0, 0, 0, VERIFIER_RIGHT).outcome,
                     VERIFIER_ERROR);
}

static void repeated_words_are_counted(void **state)
{
    (void)state;
#define REPEATED(text, n) repetition_of_words(text, strlen(text), n)
    assert_true(REPEATED("a b c d", 1) == 0);
    assert_true(REPEATED("a b a b", 1) == 0.5);
    assert_true(REPEATED("a b a b", 2) == 1.0 / 3);
    assert_true(REPEATED("A b\n\n a B", 2) == 1.0 / 3);
    assert_true(REPEATED("a b", 3) == 0);
    assert_true(REPEATED("", 3) == 0);
    /* "ab" + "c" is not "a" + "bc". */
    assert_true(REPEATED("ab c a bc", 2) == 0);
    /* Han characters are words by themselves: the four are two, twice. */
    assert_true(REPEATED("\xE6\x88\x91\xE4\xBB\xAC\xE6\x88\x91\xE4\xBB\xAC", 2) == 1.0 / 3);
    assert_true(REPEATED("x\xE6\x88\x91x", 1) == 1.0 / 3);
#undef REPEATED
}

static void repetition_is_a_penalty(void **state)
{
    static const struct verdict_case cases[] = {
        {"", "one two three four", VERIFIER_RIGHT, 0},
        {"", "a b a b", VERIFIER_WRONG, -1.0 / 6},
        {"", "", VERIFIER_RIGHT, 0},
    };

    (void)state;
    check_cases(&verifier_repetition, "n=2\npenalty=0.5\n", cases, N_OF(cases));
}

/* The judge tells these verifiers the lengths of the group and the task's own verdict. */
static void a_group_is_judged_by_its_lengths(void **state)
{
    static const char *const texts[] = {"</think><answer>4</answer>", "</think><answer>4</answer>",
                                        "</think><answer>5</answer>", "</think><answer>5</answer>"};
    static const uint32_t lengths[] = {10, 30, 10, 20};
    static const float wanted[] = {0.5f, -0.5f, 0, 0};
    struct reward_config config;
    struct config_binding binding = {&reward_config_section, &config};
    struct reward_term terms[WIRE_MAX_REWARDS];
    struct sample samples[4] = {0};
    struct sample_group group = {.n_samples = 4, .samples = samples, .rewards = terms};
    struct reward *reward = NULL;
    struct arena arena;

    (void)state;
    config_set_defaults(&binding, 1);
    assert_int_equal(config_override("reward.reward_funcs=kimi_length,soft_overlong", &binding, 1),
                     0);
    assert_int_equal(config_override("reward.options=soft_overlong.max_length=20", &binding, 1), 0);
    assert_int_equal(reward_create(&reward, &config, NULL), 0);
    group.n_rewards = (uint32_t)reward_terms(&config, 0, 1, terms);
    group.task = (struct task){.verifier = "math", .reference = {"4", 1}};
    for (int i = 0; i < 4; i++) {
        samples[i].text = (struct wire_text){texts[i], (uint32_t)strlen(texts[i])};
        samples[i].n_tokens = lengths[i];
    }
    arena_init(&arena, 1 << 20);
    assert_int_equal(reward_judge_group(reward, &group, &arena), 0);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(samples[i].masked, 0);
        assert_float_equal(samples[i].scores[0].value, wanted[i], 1e-6);
    }
    assert_float_equal(samples[1].scores[1].value, -1, 1e-6);
    assert_float_equal(samples[1].reward, -1.5, 1e-6);
    arena_release(&arena);
    reward_destroy(&reward);
}

static void a_missing_length_is_found_before_a_run(void **state)
{
    struct reward_config config;
    struct config_binding binding = {&reward_config_section, &config};
    struct reward *reward = NULL;

    (void)state;
    config_set_defaults(&binding, 1);
    assert_int_equal(config_override("reward.reward_funcs=soft_overlong", &binding, 1), 0);
    assert_int_equal(reward_create(&reward, &config, NULL), 0);
    assert_int_equal(reward_check_names(reward, &config), 0);
    assert_int_equal(reward_check_lengths(reward, &config), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "soft_overlong.max_length"));
    assert_int_equal(config_override("reward.reward_funcs=kimi_length", &binding, 1), 0);
    assert_int_equal(reward_check_lengths(reward, &config), 0);
    reward_destroy(&reward);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overlong_falls_to_minus_one_over_the_cache),
        cmocka_unit_test(overlong_takes_a_fifth_as_cache),
        cmocka_unit_test(overlong_without_lengths_is_no_verdict),
        cmocka_unit_test(kimi_prefers_short_right_answers),
        cmocka_unit_test(repeated_words_are_counted),
        cmocka_unit_test(repetition_is_a_penalty),
        cmocka_unit_test(a_group_is_judged_by_its_lengths),
        cmocka_unit_test(a_missing_length_is_found_before_a_run),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
