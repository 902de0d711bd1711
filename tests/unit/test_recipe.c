#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/files.h"
#include "common/status.h"
#include "pipeline/pipeline.h"
#include "pipeline/stages.h"

static char directory[32], path[FILE_PATH_MAX];
static struct recipe recipe;

static int set_up(void **state)
{
    (void)state;
    snprintf(directory, sizeof(directory), "/tmp/hone-recipe-XXXXXX");
    return mkdtemp(directory) ? file_join(path, directory, "r.yaml") : -1;
}

static int tear_down(void **state)
{
    (void)state;
    recipe_release(&recipe);
    return file_remove_tree(directory);
}

static int open_with(const char *yaml, const char *const *overrides)
{
    recipe_release(&recipe);
    assert_int_equal(file_write_atomic(path, yaml, strlen(yaml)), STATUS_OK);
    return recipe_open(&recipe, path, overrides);
}

static void assert_refused(const char *yaml, const char *wanted)
{
    assert_int_equal(open_with(yaml, NULL), STATUS_CONFIG);
    if (!strstr(status_reason(), wanted))
        fail_msg("\"%s\" is not in: %s", wanted, status_reason());
}

#define BASE "  - {name: base, tasks: {text: t.jsonl}}\n"
#define GOOD                                                                                       \
    "run: {name: r, seed: 3}\n"                                                                    \
    "grpo: {epsilon: 0.3, max_steps: 9}\n"                                                         \
    "stages:\n" BASE                                                                               \
    "  - {name: z, stage: zero, from: base, grpo: {epsilon: 0.4}}\n"                               \
    "  - {name: cold, stage: coldstart, from: base, sample: z}\n"                                  \
    "  - {name: student, stage: distill, from: ./model, data_from: cold}\n"

static void a_good_recipe_is_wired_as_it_says(void **state)
{
    (void)state;
    assert_int_equal(open_with(GOOD, NULL), STATUS_OK);
    assert_int_equal(recipe.n_stages, 4);
    assert_int_equal(recipe.run.seed, 3);
    assert_string_equal(recipe.stages[0].kind->name, "base");
    assert_string_equal(recipe.stages[1].kind->name, "zero");
    assert_string_equal(recipe.stages[1].from, "base");
    assert_string_equal(recipe.stages[2].sample, "z");
    assert_string_equal(recipe.stages[3].data, "cold");
    assert_string_equal(recipe.stages[3].from, "./model");
    assert_ptr_equal(recipe_find(&recipe, "cold"), &recipe.stages[2]);
    assert_null(recipe_find(&recipe, "col"));
}

static void an_unknown_stage_kind_names_the_nearest_one(void **state)
{
    (void)state;
    assert_refused("stages:\n  - {name: x, stage: coldstrat, from: ./m}\n", "\"coldstart\"");
    assert_refused("stages:\n  - {name: x, stage: coldstrat, from: ./m}\n", "r.yaml:2");
}

static void a_parent_must_stand_above(void **state)
{
    (void)state;
    assert_refused("stages:\n" BASE "  - {name: z, stage: zero, from: bas}\n", "from: bas");
    assert_refused("stages:\n  - {name: z, stage: zero, from: base}\n" BASE, "above it");
    assert_refused("stages:\n  - {name: z, stage: zero, from: z}\n", "above it");
    assert_refused("stages:\n" BASE "  - {name: c, stage: coldstart, from: base, sample: z}\n",
                   "sample: z");
    assert_refused("stages:\n" BASE "  - {name: c, stage: distill, from: base, data_from: z}\n",
                   "data_from: z");
}

static void wrong_wiring_is_refused(void **state)
{
    (void)state;
    assert_refused("stages:\n" BASE BASE, "a second stage is named \"base\"");
    assert_refused("stages:\n  - {name: z, stage: zero}\n", "needs \"from:\"");
    assert_refused("stages:\n  - {name: base, from: ./m, tasks: {text: t}}\n", "remove \"from:\"");
    assert_refused("stages:\n  - {name: base}\n", "needs tasks.text");
    assert_refused("stages:\n  - {name: c, stage: coldstart, from: ./m}\n", "\"sample:\"");
    assert_refused("stages:\n" BASE
                   "  - {name: c, stage: coldstart, from: base, sample: base, data_from: base}\n",
                   "one of them");
    assert_refused("stages:\n" BASE "  - {name: z, stage: zero, from: base, sample: base}\n",
                   "no dataset");
    assert_refused("stages:\n  - {name: A b, stage: base, tasks: {text: t}}\n", "a-z 0-9");
    assert_refused("stages:\n  - {stage: base, tasks: {text: t}}\n", "stage name");
    assert_refused("stages: []\n", "stages:");
    assert_refused("run: {seed: 1}\n", "stages:");
    assert_refused("stages:\n" BASE "  - {name: z, stage: [zero], from: base}\n", "one word");
}

static void unknown_keys_are_refused_with_their_line(void **state)
{
    (void)state;
    assert_refused("grpo:\n  epsilon_hi: 1\nstages:\n" BASE, "r.yaml:2: ");
    assert_refused("grpo:\n  epsilon_hi: 1\nstages:\n" BASE, "epsilon_high");
    assert_refused("run: {sed: 1}\nstages:\n" BASE, "seed");
    assert_refused("stages:\n  - {name: base, tasks: {txt: t.jsonl}}\n", "text");
    assert_refused("stages:\n  - {name: base, form: x, tasks: {text: t.jsonl}}\n", "from");
}

static void the_last_word_on_a_setting_wins(void **state)
{
    static const char *const for_all[] = {"grpo.epsilon=0.5", NULL};
    static const char *const for_one[] = {"grpo.max_steps=4", "z:grpo.epsilon=0.6", "run.seed=8",
                                          NULL};

    (void)state;
    assert_int_equal(open_with(GOOD, NULL), STATUS_OK);
    assert_true(recipe.stages[0].settings.grpo.epsilon == 0.3);   /* the file's top */
    assert_true(recipe.stages[1].settings.grpo.epsilon == 0.4);   /* the stage */
    assert_int_equal(recipe.stages[1].settings.grpo.max_steps, 9);
    assert_string_equal(recipe.stages[1].settings.reward.reward_funcs, "accuracy,format");
    assert_int_equal(open_with(GOOD, for_all), STATUS_OK);
    assert_true(recipe.stages[1].settings.grpo.epsilon == 0.5);
    assert_int_equal(open_with(GOOD, for_one), STATUS_OK);
    assert_true(recipe.stages[0].settings.grpo.epsilon == 0.3);
    assert_true(recipe.stages[1].settings.grpo.epsilon == 0.6);
    assert_int_equal(recipe.stages[3].settings.grpo.max_steps, 4);
    assert_int_equal(recipe.run.seed, 8);
}

/* The setting's choices stand in the order of the model's families. */
static void every_family_of_models_can_be_made(void **state)
{
    static const struct {
        const char *const override[2];
        enum model_family family;
    } cases[] = {{{"model.model_type=llama"}, MODEL_LLAMA},
                 {{"model.model_type=qwen2"}, MODEL_QWEN2},
                 {{"model.model_type=qwen3"}, MODEL_QWEN3},
                 {{"model.model_type=mistral"}, MODEL_MISTRAL}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(open_with(GOOD, cases[i].override), STATUS_OK);
        assert_int_equal(recipe.stages[0].settings.model.model_type, cases[i].family);
    }
}

static void a_stage_kind_brings_defaults_that_the_file_overrides(void **state)
{
    (void)state;
    assert_int_equal(open_with("stages:\n  - {name: align, from: ./m}\n", NULL), STATUS_OK);
    assert_true(recipe.stages[0].settings.rollout.temperature == 0.7);
    assert_int_equal(open_with("rollout: {temperature: 0.9}\n"
                               "stages:\n  - {name: align, from: ./m}\n", NULL), STATUS_OK);
    assert_true(recipe.stages[0].settings.rollout.temperature == 0.9);
}

static void an_override_for_a_stage_that_is_not_there_is_refused(void **state)
{
    static const char *const wrong[] = {"zz:grpo.beta=1", NULL};

    (void)state;
    assert_int_equal(open_with(GOOD, wrong), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "zz:grpo.beta=1"));
}

static void hash_with(const char *override, char out[DIGEST_HEX_BYTES])
{
    const char *const overrides[] = {override, NULL};

    assert_int_equal(open_with(GOOD, overrides), STATUS_OK);
    memcpy(out, recipe.hash, DIGEST_HEX_BYTES);
}

static void the_hash_tells_results_apart_and_not_speed(void **state)
{
    static const char *const speed[] = {"rollout.workers=7", "rollout.threads=3", "run.threads=5",
                                        "rollout.max_sequences=9", "reward.workers=4",
                                        "run.logging_steps=3"};
    static const char *const results[] = {"grpo.epsilon=0.31", "run.seed=4", "z:grpo.beta=0.1",
                                          "tasks.train=other.jsonl", "rollout.temperature=0.9"};
    char usual[DIGEST_HEX_BYTES], hash[DIGEST_HEX_BYTES];

    (void)state;
    hash_with(NULL, usual);
    assert_int_equal(strlen(usual), 64);
    for (size_t i = 0; i < sizeof(speed) / sizeof(speed[0]); i++) {
        hash_with(speed[i], hash);
        assert_string_equal(hash, usual);
    }
    for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
        hash_with(results[i], hash);
        assert_string_not_equal(hash, usual);
    }
}

static void a_recipe_that_no_worker_could_read_is_refused(void **state)
{
    struct text yaml = {0};

    (void)state;
    text_print(&yaml, "stages:\n");
    for (int i = 0; i < 400; i++)
        text_print(&yaml, "  - {name: s%d, stage: base, tasks: {text: t.jsonl}}\n", i);
    assert_refused(yaml.data, "1048576 are the most");
    text_release(&yaml);
}

static void a_resolved_recipe_opens_alike(void **state)
{
    char hash[DIGEST_HEX_BYTES];
    char *resolved;

    (void)state;
    assert_int_equal(open_with(GOOD, NULL), STATUS_OK);
    memcpy(hash, recipe.hash, sizeof(hash));
    resolved = mem_copy_text(recipe.yaml);
    assert_int_equal(open_with(resolved, NULL), STATUS_OK);
    assert_string_equal(recipe.hash, hash);
    assert_string_equal(recipe.yaml, resolved);
    mem_free(resolved);
}

static void a_worker_takes_the_settings_of_its_stage(void **state)
{
    static struct stage_settings settings;
    struct run_config run = {.insecure = 1};

    (void)state;
    assert_int_equal(open_with(GOOD, NULL), STATUS_OK);
    assert_int_equal(pipeline_worker_settings(path, "z", &settings, &run), STATUS_OK);
    assert_true(settings.grpo.epsilon == 0.4);
    assert_int_equal(run.insecure, 0);
    assert_int_equal(pipeline_worker_settings(path, NULL, &settings, &run), STATUS_OK);
    assert_true(settings.grpo.epsilon == 0.3);
    assert_int_equal(pipeline_worker_settings(path, "nix", &settings, &run), STATUS_CONFIG);
}

static const char *options_of(const char *yaml, const char *stage)
{
    static struct stage_settings settings;
    struct run_config run;

    assert_int_equal(open_with(yaml, NULL), STATUS_OK);
    assert_int_equal(pipeline_worker_settings(path, stage, &settings, &run), STATUS_OK);
    return settings.reward.options;
}

static void verifiers_of_a_run_take_their_randomness_from_its_seed(void **state)
{
    char options[CONFIG_TEXT_BYTES];

    (void)state;
    snprintf(options, sizeof(options), "%s", options_of(GOOD, "z"));
    assert_int_equal(strncmp(options, "math.seed=", 10), 0);
    assert_string_equal(options_of(GOOD, "student"), options);
    assert_string_not_equal(options_of("run: {seed: 4}\nstages:\n" BASE, "base"), options);
    snprintf(options, sizeof(options), "%s",
             options_of("reward: {options: [countdown.partial=0.1]}\nstages:\n" BASE, "base"));
    assert_int_equal(strncmp(options, "countdown.partial=0.1,math.seed=", 32), 0);
    assert_string_equal(options_of("reward: {options: [math.seed=5]}\nstages:\n" BASE, "base"),
                        "math.seed=5");
}

static void a_missing_recipe_is_an_input_error_with_its_name(void **state)
{
    (void)state;
    assert_int_equal(recipe_open(&recipe, "/nonexistent/r.yaml", NULL), STATUS_IO);
    assert_non_null(strstr(status_reason(), "/nonexistent/r.yaml"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_good_recipe_is_wired_as_it_says),
        TEST(an_unknown_stage_kind_names_the_nearest_one),
        TEST(a_parent_must_stand_above),
        TEST(wrong_wiring_is_refused),
        TEST(unknown_keys_are_refused_with_their_line),
        TEST(the_last_word_on_a_setting_wins),
        TEST(every_family_of_models_can_be_made),
        TEST(a_stage_kind_brings_defaults_that_the_file_overrides),
        TEST(an_override_for_a_stage_that_is_not_there_is_refused),
        TEST(the_hash_tells_results_apart_and_not_speed),
        TEST(a_recipe_that_no_worker_could_read_is_refused),
        TEST(a_resolved_recipe_opens_alike),
        TEST(a_worker_takes_the_settings_of_its_stage),
        TEST(verifiers_of_a_run_take_their_randomness_from_its_seed),
        TEST(a_missing_recipe_is_an_input_error_with_its_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
