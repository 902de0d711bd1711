/* Groups in, scores out: terms, weights, masks, the cache, the configuration. */
#include "test_verifier_support.h"

#include <stdio.h>

#include "common/config.h"
#include "reward/internal.h"

static void set_defaults(struct reward_config *config)
{
    struct config_binding binding = {&reward_config_section, config};

    config_set_defaults(&binding, 1);
}

static int override(struct reward_config *config, const char *assignment)
{
    struct config_binding binding = {&reward_config_section, config};

    TRY(config_override(assignment, &binding, 1));
    return config_check(&binding, 1);
}

static struct reward *make_reward(const struct reward_config *config,
                                  const struct sandbox_config *sandbox)
{
    struct reward *reward = NULL;

    if (reward_create(&reward, config, sandbox) < 0)
        fail_msg("%s", status_reason());
    return reward;
}

static struct wire_text wire_of(const char *text)
{
    return (struct wire_text){text, (uint32_t)strlen(text)};
}

static void set_task(struct task *task, const char *verifier, const char *reference)
{
    memset(task, 0, sizeof(*task));
    snprintf(task->verifier, sizeof(task->verifier), "%s", verifier);
    snprintf(task->language, sizeof(task->language), "en");
    task->question = wire_of("what?");
    task->reference = wire_of(reference);
    task->prefill = wire_of("<think>");
}

static void weights_and_values_add_up(void **state)
{
    struct reward_config config;
    struct reward_term terms[WIRE_MAX_REWARDS];
    struct sample samples[4] = {0};
    struct sample_group group = {.n_samples = 4, .samples = samples, .rewards = terms};
    struct arena arena;

    (void)state;
    set_defaults(&config);
    assert_int_equal(override(&config, "reward.reward_funcs=accuracy,format,language"), 0);
    assert_int_equal(override(&config, "reward.reward_weights=1,0.5,0.25"), 0);
    struct reward *reward = make_reward(&config, NULL);
    set_task(&group.task, "math", "1/2");
    group.n_rewards = (uint32_t)reward_terms(&config, 0, 10, terms);
    samples[0].text = wire_of("so</think><answer>0.5</answer>");
    samples[1].text = wire_of("so</think>x<answer>0.5</answer>");
    samples[2].text = wire_of("so \xE6\x88\x91</think><answer>2</answer>");
    samples[3].text = (struct wire_text){NULL, 0};
    arena_init(&arena, 1 << 20);
    assert_int_equal(reward_judge_group(reward, &group, &arena), 0);
    assert_float_equal(samples[0].reward, 1.75, 1e-6);
    assert_float_equal(samples[1].reward, 1.25, 1e-6);
    assert_float_equal(samples[2].reward, 0.625, 1e-6);
    assert_float_equal(samples[3].reward, 0.25, 1e-6);
    assert_int_equal(samples[0].scores[0].outcome, OUTCOME_RIGHT);
    assert_int_equal(samples[2].scores[0].outcome, OUTCOME_WRONG);
    assert_int_equal(samples[3].scores[0].outcome, OUTCOME_UNREADABLE);
    for (int i = 0; i < 4; i++)
        assert_int_equal(samples[i].masked, 0);
    arena_release(&arena);
    reward_destroy(&reward);
    assert_null(reward);
}

static void a_failed_verifier_masks_the_sample(void **state)
{
    static const char *const verifiers[] = {"code", "nothing", ""};
    struct reward_config config;
    struct arena arena;

    (void)state;
    set_defaults(&config);
    struct reward *reward = make_reward(&config, NULL);
    arena_init(&arena, 1 << 20);
    for (size_t i = 0; i < N_OF(verifiers); i++) {
        struct reward_term terms[WIRE_MAX_REWARDS];
        struct sample sample = {.reward = 9};
        struct sample_group group = {.n_samples = 1, .samples = &sample, .rewards = terms};
        set_task(&group.task, verifiers[i],
                 "{\"function\":\"int f(int x)\",\"tests\":[{\"args\":\"1\",\"want\":\"1\"}]}");
        group.n_rewards = (uint32_t)reward_terms(&config, 0, 1, terms);
        sample.text = wire_of("so</think><answer>int f(int x) { return x; }</answer>");
        assert_int_equal(reward_judge_group(reward, &group, &arena), 0);
        assert_int_equal(sample.masked, 1);
        assert_float_equal(sample.reward, 0, 0);
        assert_int_equal(sample.scores[0].outcome, OUTCOME_ERROR);
        assert_non_null(strstr(sample.scores[0].detail, i ? "there is no verifier" : "sandbox"));
        assert_int_equal(sample.scores[1].outcome, OUTCOME_RIGHT);
    }
    arena_release(&arena);
    reward_destroy(&reward);
}

/* Nobody can be right or wrong about it: the task teaches nothing, and must not reward. */
static void an_unreadable_reference_masks_every_sample(void **state)
{
    static const char *const references[] = {"", "\\frac{1", "\xFF"};
    struct reward_config config;
    struct arena arena;

    (void)state;
    set_defaults(&config);
    struct reward *reward = make_reward(&config, NULL);
    arena_init(&arena, 1 << 20);
    for (size_t i = 0; i < N_OF(references); i++) {
        struct reward_term terms[WIRE_MAX_REWARDS];
        struct sample samples[2] = {0};
        struct sample_group group = {.n_samples = 2, .samples = samples, .rewards = terms};
        set_task(&group.task, "math", references[i]);
        group.n_rewards = (uint32_t)reward_terms(&config, 0, 1, terms);
        samples[0].text = wire_of("so</think><answer>1</answer>");
        samples[1].text = wire_of("so</think><answer>\\frac{1}{2}</answer>");
        assert_int_equal(reward_judge_group(reward, &group, &arena), 0);
        for (int k = 0; k < 2; k++) {
            assert_int_equal(samples[k].masked, 1);
            assert_float_equal(samples[k].reward, 0, 0);
            assert_non_null(strstr(samples[k].scores[0].detail, "unreadable gold"));
            assert_string_equal(reward_path_key((size_t)reward_path_of(&group.task, "accuracy",
                                                                       &samples[k].scores[0])),
                                "unreadable_gold");
        }
    }
    arena_release(&arena);
    reward_destroy(&reward);
}

static void groups_without_sense_are_refused(void **state)
{
    struct reward_config config;
    struct reward_term terms[WIRE_MAX_REWARDS];
    struct sample samples[64] = {0};
    struct sample_group group = {.n_samples = 64, .samples = samples, .rewards = terms};
    struct arena arena;

    (void)state;
    set_defaults(&config);
    struct reward *reward = make_reward(&config, NULL);
    set_task(&group.task, "math", "1");
    arena_init(&arena, 64);
    assert_int_equal(reward_judge_group(reward, &group, &arena), STATUS_FORMAT);
    group.n_rewards = (uint32_t)reward_terms(&config, 0, 1, terms);
    assert_int_equal(reward_judge_group(reward, &group, &arena), STATUS_NOMEM);
    arena_release(&arena);
    reward_destroy(&reward);
}

static void preference_counts_in_the_last_steps_alone(void **state)
{
    struct reward_config config;
    struct reward_term terms[WIRE_MAX_REWARDS];

    (void)state;
    set_defaults(&config);
    assert_int_equal(override(&config, "reward.reward_funcs=accuracy,preference,format"), 0);
    assert_int_equal(override(&config, "reward.reward_weights=1,2,3"), 0);
    assert_int_equal(reward_terms(&config, 0, 1700, terms), 3);
    assert_int_equal(override(&config, "reward.preference_last_steps=400"), 0);
    assert_int_equal(reward_terms(&config, 1299, 1700, terms), 2);
    assert_string_equal(terms[1].name, "format");
    assert_float_equal(terms[1].weight, 3, 0);
    assert_int_equal(reward_terms(&config, 1300, 1700, terms), 3);
    assert_string_equal(terms[1].name, "preference");
    assert_float_equal(terms[1].weight, 2, 0);
}

static void weights_default_to_one(void **state)
{
    struct reward_config config;
    struct reward_term terms[WIRE_MAX_REWARDS];

    (void)state;
    set_defaults(&config);
    assert_int_equal(reward_terms(&config, 0, 1, terms), 2);
    assert_string_equal(terms[0].name, "accuracy");
    assert_float_equal(terms[0].weight, 1, 0);
    assert_float_equal(terms[1].weight, 1, 0);
}

static void bad_configurations_are_refused(void **state)
{
    static const char *const assignments[] = {
        "reward.reward_weights=1,2,3", "reward.reward_weights=1,x", "reward.reward_weights=1,nan",
        "reward.options=countdown", "reward.options=countdown.=1", "reward.options=.a=1",
        "reward.options=a=1.5", "reward.workers=-1",
        "reward.reward_funcs=a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a"};

    (void)state;
    for (size_t i = 0; i < N_OF(assignments); i++) {
        struct reward_config config;
        set_defaults(&config);
        if (override(&config, assignments[i]) != STATUS_CONFIG)
            fail_msg("\"%s\" was taken", assignments[i]);
    }
}

static void names_are_checked_before_a_run(void **state)
{
    struct reward_config config;

    (void)state;
    set_defaults(&config);
    struct reward *reward = make_reward(&config, NULL);
    assert_int_equal(reward_check_names(reward, &config), 0);
    assert_int_equal(override(&config, "reward.reward_funcs=accuracy,formt"), 0);
    assert_int_equal(reward_check_names(reward, &config), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "did you mean \"format\""));
    assert_int_equal(override(&config, "reward.reward_funcs=acuracy"), 0);
    assert_int_equal(reward_check_names(reward, &config), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "did you mean \"accuracy\""));
    reward_destroy(&reward);
}

static void every_verifier_has_a_name_and_help(void **state)
{
    struct reward_config config;
    size_t n = 0;

    (void)state;
    set_defaults(&config);
    struct reward *reward = make_reward(&config, NULL);
    for (const char *name; (name = reward_verifier_name(reward, n)) != NULL; n++) {
        assert_true(strlen(name) > 0);
        assert_true(strlen(reward_verifier_help(reward, n)) > 10);
    }
    assert_int_equal(n, 10);
    assert_null(reward_verifier_help(reward, n));
    reward_destroy(&reward);
}

static void one_text_can_be_judged_by_name(void **state)
{
    struct reward_config config;
    struct task task;
    struct score score;
    static const char text[] = "so</think><answer>4</answer>";

    (void)state;
    set_defaults(&config);
    struct reward *reward = make_reward(&config, NULL);
    set_task(&task, "math", "2+2");
    for (int i = 0; i < 2; i++) {   /* the second verdict comes from the cache */
        assert_int_equal(
            reward_judge_text(reward, "accuracy", &task, text, strlen(text), NULL, &score), 0);
        assert_int_equal(score.outcome, OUTCOME_RIGHT);
        assert_non_null(strstr(score.detail, "right (exact)"));
    }
    task.reference = wire_of("5");
    assert_int_equal(reward_judge_text(reward, "math", &task, text, strlen(text), NULL, &score), 0);
    assert_int_equal(score.outcome, OUTCOME_WRONG);
    assert_int_equal(
        reward_judge_text(reward, "format", &task, text, strlen(text), NULL, &score), 0);
    assert_int_equal(score.outcome, OUTCOME_RIGHT);
    /* The same text behind another prefill is another question to the cache. */
    task.prefill = wire_of("");
    assert_int_equal(
        reward_judge_text(reward, "format", &task, text, strlen(text), NULL, &score), 0);
    assert_int_equal(score.outcome, OUTCOME_WRONG);
    assert_int_equal(reward_judge_text(reward, "mth", &task, text, strlen(text), NULL, &score),
                     STATUS_CONFIG);
    reward_destroy(&reward);
}

static void the_cache_keeps_the_latest_and_is_bounded(void **state)
{
    struct verdict_cache *cache = cache_create(16);
    struct digest key;
    struct score score = {.value = 1}, got;
    int n_found = 0;

    (void)state;
    for (uint32_t i = 0; i < 1000; i++) {
        digest_of(&key, &i, sizeof(i));
        assert_false(cache_find(cache, &key, &got));
        score.value = (float)i;
        cache_put(cache, &key, &score);
        assert_true(cache_find(cache, &key, &got));
        assert_float_equal(got.value, (float)i, 0);
    }
    for (uint32_t i = 0; i < 1000; i++) {
        digest_of(&key, &i, sizeof(i));
        n_found += cache_find(cache, &key, &got);
    }
    assert_int_equal(n_found, 16);
    cache_destroy(&cache);
}

static void a_group_of_programs_is_judged_in_the_sandbox(void **state)
{
    struct reward_config config;
    struct sandbox_config sandbox;
    struct config_binding binding = {&sandbox_config_section, &sandbox};
    struct reward_term terms[WIRE_MAX_REWARDS];
    struct sample samples[3] = {0};
    struct sample_group group = {.n_samples = 3, .samples = samples, .rewards = terms};
    struct arena arena;

    (void)state;
    set_defaults(&config);
    config_set_defaults(&binding, 1);
    struct reward *reward = make_reward(&config, &sandbox);
    set_task(&group.task, "code",
             "{\"function\":\"int f(int x)\",\"tests\":[{\"args\":\"2\",\"want\":\"6\"},"
             "{\"args\":\"5\",\"want\":\"15\"}]}");
    group.n_rewards = (uint32_t)reward_terms(&config, 0, 1, terms);
    samples[0].text = wire_of("so</think><answer>int f(int x) { return 3 * x; }</answer>");
    samples[1].text = wire_of("so</think><answer>int f(int x) { return 6; }</answer>");
    samples[2].text = wire_of("so</think><answer>three times</answer>");
    arena_init(&arena, 1 << 20);
    assert_int_equal(reward_judge_group(reward, &group, &arena), 0);
    if (samples[0].masked) {
        print_message("SKIP: %s\n", samples[0].scores[0].detail);
    } else {
        assert_int_equal(samples[0].scores[0].outcome, OUTCOME_RIGHT);
        assert_int_equal(samples[1].scores[0].outcome, OUTCOME_WRONG);
        assert_int_equal(samples[2].scores[0].outcome, OUTCOME_CRASH);
        assert_float_equal(samples[0].reward, 2, 0);
        assert_float_equal(samples[1].reward, 1, 0);
    }
    arena_release(&arena);
    reward_destroy(&reward);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_and_values_add_up),
        cmocka_unit_test(a_failed_verifier_masks_the_sample),
        cmocka_unit_test(an_unreadable_reference_masks_every_sample),
        cmocka_unit_test(groups_without_sense_are_refused),
        cmocka_unit_test(preference_counts_in_the_last_steps_alone),
        cmocka_unit_test(weights_default_to_one),
        cmocka_unit_test(bad_configurations_are_refused),
        cmocka_unit_test(names_are_checked_before_a_run),
        cmocka_unit_test(every_verifier_has_a_name_and_help),
        cmocka_unit_test(one_text_can_be_judged_by_name),
        cmocka_unit_test(the_cache_keeps_the_latest_and_is_bounded),
        cmocka_unit_test(a_group_of_programs_is_judged_in_the_sandbox),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
