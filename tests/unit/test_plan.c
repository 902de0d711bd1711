#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <glob.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/files.h"
#include "common/status.h"
#include "learner/learner.h"
#include "pipeline/pipeline.h"
#include "pipeline/plan.h"
#include "pipeline/plan_print.h"
#include "tasks/tasks.h"

static char directory[32], path[FILE_PATH_MAX], before[FILE_PATH_MAX];
static struct text out;

/* Paths of a recipe are taken from the working directory. */
static int set_up(void **state)
{
    (void)state;
    snprintf(directory, sizeof(directory), "/tmp/hone-plan-XXXXXX");
    if (!getcwd(before, sizeof(before)) || !mkdtemp(directory) || chdir(directory))
        return -1;
    return file_join(path, directory, "r.yaml");
}

static int tear_down(void **state)
{
    (void)state;
    text_release(&out);
    if (chdir(before))
        return -1;
    return file_remove_tree(directory);
}

static const char *const recipe_yaml =
    "run: {name: tiny, seed: 5}\n"
    "tasks: {train: w/train.jsonl, heldout: w/heldout.jsonl, text: w/pretrain.jsonl,"
    " general: w/general.jsonl, template_name: toy}\n"
    "model: {tokenizer: w, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2,"
    " max_position_embeddings: 128}\n"
    "rollout: {num_generations: 4, max_prompt_length: 32, max_completion_length: 16, workers: 3}\n"
    "grpo: {max_steps: 10, tasks_per_step: 8}\n"
    "stages:\n"
    "  - {name: base, sft: {num_train_epochs: 1}}\n"
    "  - {name: zero, from: base, grpo: {beta: 0.01}}\n"
    "  - {name: cold, stage: coldstart, from: base, sample: zero, data: {n_tasks: 50,"
    " max_per_task: 2, general_share: 0.5}}\n"
    "  - {name: rl, from: cold}\n";

static int plan(const char *yaml, const char *only, int as_json)
{
    const struct pipeline_options options = {.config = path, .run = "no-run", .only = only};

    text_clear(&out);
    assert_int_equal(file_write_atomic(path, yaml, strlen(yaml)), STATUS_OK);
    return pipeline_plan(&out, &options, as_json);
}

static void write_world(void)
{
    const struct toy_options toy = {.seed = 1, .n_documents = 500, .n_train = 50, .n_heldout = 20,
                                    .n_general = 10};

    assert_int_equal(file_make_directories("w"), STATUS_OK);
    assert_int_equal(toy_world_write("w", &toy), STATUS_OK);
}

static void assert_says(const char *wanted)
{
    if (!strstr(out.data, wanted))
        fail_msg("\"%s\" is not in:\n%s", wanted, out.data);
}

static void the_graph_shows_parents_and_data(void **state)
{
    (void)state;
    write_world();
    assert_int_equal(plan(recipe_yaml, "base", 0), 0);
    assert_says("run \"tiny\", seed 5, 4 stages");
    assert_says("  base\n"
                "  |- zero\n"
                "  `- cold (coldstart)   <- data sampled from zero\n"
                "     `- rl\n");
    assert_null(strstr(out.data, "missing:"));
}

static void a_stage_shows_size_work_memory_and_settings(void **state)
{
    (void)state;
    write_world();
    assert_int_equal(plan(recipe_yaml, "zero", 0), 0);
    assert_says("parameters: qwen2, 2 layers of 32");
    assert_says("10 steps, 320 samples, at most 5120 tokens sampled and 5120 trained");
    assert_says("3 x rollout ");
    assert_says("reference ");
    assert_says("beta 0.01");
    assert_says("reward_funcs accuracy,format");
    assert_null(strstr(out.data, "\nbase: "));
}

static void what_does_not_fit_says_what_would_help(void **state)
{
    static const char short_prompts[] = "max_prompt_length: 32";
    const char *at = strstr(recipe_yaml, short_prompts);
    struct text wide = {0};

    (void)state;
    write_world();
    assert_int_equal(plan(recipe_yaml, "zero", 0), 0);
    assert_null(strstr(out.data, "TOO LITTLE"));
    assert_null(strstr(out.data, "saves"));
    text_append(&wide, recipe_yaml, (size_t)(at - recipe_yaml));
    text_print(&wide, "max_sequences: 4096, kv_cache_tokens: 4000000000, "
                      "max_prompt_length: 1000000%s", at + strlen(short_prompts));
    assert_true(plan(wide.data, "zero", 0) >= 0);
    assert_says("TOO LITTLE for all its processes at once. Each of these helps:\n");
    assert_says("  rollout.workers=1 ");
    assert_says("  rollout.max_sequences=2048 ");
    assert_says("  rollout.kv_cache_tokens=1024131072 ");   /* 2048 * (1000000 + 2 * 64) / 2 */
    assert_says("same results, slower");
    assert_null(strstr(out.data, "grpo.beta=0"));   /* saves next to nothing of this */
    text_release(&wide);
}

static void sequences_longer_than_the_model_are_noted(void **state)
{
    char *longer = mem_copy_text(recipe_yaml);
    char *at = strstr(longer, "max_completion_length: 16");

    (void)state;
    write_world();
    assert_int_equal(plan(recipe_yaml, "rl", 0), 0);
    assert_null(strstr(out.data, "NOTE"));
    memcpy(strstr(at, "16"), "99", 2);   /* 32 + 99 > 128 */
    assert_int_equal(plan(longer, "rl", 0), 0);
    assert_says("131 tokens together, but the model has 128 positions");
    mem_free(longer);
}

static void what_is_missing_is_counted_and_named_once(void **state)
{
    (void)state;
    assert_int_equal(plan(recipe_yaml, NULL, 0) > 0, 1);
    assert_says("missing: w/pretrain.jsonl, for tasks.text of base\n");
    assert_says("missing: w/tokenizer.json, for model.tokenizer of base\n");
    assert_says("size      unknown: ");
    assert_says("size      unknown until stage base ran");
    const char *first = strstr(out.data, "missing: w/tokenizer.json");
    assert_null(strstr(first + 1, "missing: w/tokenizer.json"));
    assert_says("missing: w/train.jsonl, for tasks.train of zero, cold, rl\n");
}

static void a_missing_verifier_is_named(void **state)
{
    struct text yaml = {0};

    (void)state;
    text_print(&yaml, "reward: {plugins: [w/own.so], commands: [a=w/judge.py --strict, b=judge],"
                      " reward_funcs: [a, b]}\n%s", recipe_yaml);
    assert_int_equal(plan(yaml.data, "zero", 0) > 0, 1);
    text_release(&yaml);
    assert_says("missing: w/own.so, for reward.plugins of zero\n");
    assert_says("missing: w/judge.py, for reward.commands of zero\n");
    assert_null(strstr(out.data, "missing: judge"));   /* PATH may have it */
}

static void the_json_holds_every_stage_and_setting(void **state)
{
    json_t *root;

    (void)state;
    write_world();
    assert_int_equal(plan(recipe_yaml, NULL, 1), 0);
    root = json_loads(out.data, 0, NULL);
    assert_non_null(root);
    const json_t *stages = json_object_get(root, "stages");
    assert_int_equal(json_array_size(stages), 4);
    const json_t *cold = json_array_get(stages, 2);
    assert_string_equal(json_string_value(json_object_get(cold, "sample")), "zero");
    assert_int_equal(json_integer_value(json_object_get(cold, "samples")), 200);
    assert_true(json_integer_value(json_object_get(cold, "parameters")) > 1000);
    const json_t *grpo = json_object_get(json_object_get(json_array_get(stages, 1), "settings"),
                                         "grpo");
    assert_true(json_real_value(json_object_get(grpo, "beta")) == 0.01);
    json_decref(root);
}

static void mistakes_in_a_recipe_are_errors(void **state)
{
    const struct pipeline_options no_run = {.run = "no-run"};

    (void)state;
    write_world();
    assert_int_equal(plan("stages:\n  - {name: base}\n", NULL, 0), STATUS_CONFIG);
    assert_int_equal(plan(recipe_yaml, "zer", 0), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "base, zero, cold, rl"));
    assert_int_equal(pipeline_plan(&out, &no_run, 0), STATUS_CONFIG);
}

static void a_verifier_that_is_not_there_is_an_error(void **state)
{
    (void)state;
    write_world();
    assert_int_equal(plan("tasks: {train: w/train.jsonl, text: w/pretrain.jsonl}\n"
                          "model: {tokenizer: w}\n"
                          "stages:\n  - {name: base}\n"
                          "  - {name: zero, from: base, reward: {reward_funcs: [acuracy],"
                          " reward_weights: [1]}}\n", NULL, 0), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "acuracy"));
    assert_int_equal(plan("tasks: {train: nowhere.jsonl}\n"
                          "stages:\n  - {name: zero, from: ./nowhere,"
                          " reward: {reward_funcs: [acuracy], reward_weights: [1]}}\n", NULL, 0),
                     STATUS_CONFIG);
}

static void sizes_follow_from_the_shape(void **state)
{
    struct recipe recipe;

    (void)state;
    write_world();
    assert_int_equal(file_write_atomic(path, recipe_yaml, strlen(recipe_yaml)), STATUS_OK);
    assert_int_equal(recipe_open(&recipe, path, NULL), STATUS_OK);
    struct stage_plan *plans = plan_sizes(&recipe, NULL, 1);
    const struct stage_plan *zero = &plans[1], *cold = &plans[2];
    double weights = 4.0 * (double)zero->parameters;
    assert_int_equal(zero->parameters, model_shape_parameters(&zero->shape));
    assert_true(zero->learner.parts[PART_WEIGHTS] == weights);
    assert_true(zero->learner.parts[PART_MOMENTS] == 2 * weights);
    assert_true(zero->learner.parts[PART_REFERENCE] > weights);
    assert_true(plans[3].learner.parts[PART_REFERENCE] == 0);
    /* 64 sequences of 16 and 32 prompts of 32, a page each; 2 layers, 2 heads of 8, keys and
     * values, floats */
    assert_true(zero->rollout.parts[PART_CACHE] == 64.0 * (64 + 32) * 2 * 2 * 8 * 2 * 4);
    assert_int_equal(zero->n_rollout, 3);
    assert_true(zero->total_bytes >
                zero->learner.total + 3 * zero->rollout.total);
    assert_true(cold->n_rows == 50 * 2 / 0.5);
    assert_true(plans[0].trained_tokens > 500);
    mem_free(plans);
    recipe_release(&recipe);
}

static void ranks_share_the_moments_and_nothing_else(void **state)
{
    const char *const bf16[] = {"optimizer.bf16_gradients=true", "run.device=cuda", NULL};
    struct recipe recipe;

    (void)state;
    write_world();
    assert_int_equal(file_write_atomic(path, recipe_yaml, strlen(recipe_yaml)), STATUS_OK);
    assert_int_equal(recipe_open(&recipe, path, NULL), STATUS_OK);
    struct stage_plan *one = plan_sizes(&recipe, NULL, 1), *four = plan_sizes(&recipe, NULL, 4);
    const double *alone = one[0].learner.parts, *parts = four[0].learner.parts;
    assert_true(parts[PART_MOMENTS] == alone[PART_MOMENTS] / 4);
    assert_true(alone[PART_BUCKETS] == 0);
    assert_true(parts[PART_BUCKETS] == 4 * alone[PART_GRADIENTS] / 8);
    for (int i = PART_WEIGHTS; i < PART_BUCKETS; i++)
        assert_true(i == PART_MOMENTS || parts[i] == alone[i]);
    assert_true(four[0].total_bytes == 4 * four[0].learner.total +
                four[0].n_rollout * four[0].rollout.total +
                four[0].n_reward * four[0].reward_bytes);
    mem_free(one);
    mem_free(four);
    recipe_release(&recipe);
    assert_int_equal(recipe_open(&recipe, path, bf16), STATUS_OK);
    four = plan_sizes(&recipe, NULL, 4);
    assert_true(four[0].learner.parts[PART_BUCKETS] == four[0].learner.parts[PART_GRADIENTS] / 2);
    mem_free(four);
    recipe_release(&recipe);
}

static void numbers_are_short(void **state)
{
    char text[PLAN_NUMBER_BYTES];

    (void)state;
    assert_string_equal(plan_number(text, 0), "0");
    assert_string_equal(plan_number(text, 99999), "99999");
    assert_string_equal(plan_number(text, 123456), "123 k");
    assert_string_equal(plan_number(text, 3276800), "3.28 M");
    assert_string_equal(plan_number(text, 671e9), "671 G");
    assert_string_equal(plan_bytes(text, 0), "0 bytes");
    assert_string_equal(plan_bytes(text, 1536), "1.5 KiB");
    assert_string_equal(plan_bytes(text, 20.0 * (1 << 20)), "20 MiB");
}

/* Tests run in the top folder of the tree. */
static void the_presets_can_be_planned(void **state)
{
    static const char *const patterns[] = {"configs/recipes/*.yaml", "configs/demo/*.yaml"};
    glob_t found;

    (void)state;
    assert_int_equal(chdir(before), 0);
    for (size_t p = 0; p < sizeof(patterns) / sizeof(patterns[0]); p++) {
        if (glob(patterns[p], 0, NULL, &found))
            continue;
        for (size_t i = 0; i < found.gl_pathc; i++) {
            const struct pipeline_options options = {.config = found.gl_pathv[i], .run = "no-run"};
            text_clear(&out);
            if (pipeline_plan(&out, &options, 0) < 0)
                fail_msg("%s", status_reason());
            assert_false(out.failed);
        }
        globfree(&found);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_graph_shows_parents_and_data),
        TEST(a_stage_shows_size_work_memory_and_settings),
        TEST(what_does_not_fit_says_what_would_help),
        TEST(sequences_longer_than_the_model_are_noted),
        TEST(what_is_missing_is_counted_and_named_once),
        TEST(a_missing_verifier_is_named),
        TEST(the_json_holds_every_stage_and_setting),
        TEST(mistakes_in_a_recipe_are_errors),
        TEST(a_verifier_that_is_not_there_is_an_error),
        TEST(sizes_follow_from_the_shape),
        TEST(ranks_share_the_moments_and_nothing_else),
        TEST(numbers_are_short),
        TEST(the_presets_can_be_planned),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
