#include "test_report.h"

static void status_lists_the_stages(void **state)
{
    (void)state;
    assert_int_equal(report_status(&out, directory, 0), STATUS_OK);
    assert_output("run demo   seed 7   hone 1.0\n"
                  "\n"
                  "stage      kind  state            step   loss  reward  pass@1    time\n"
                  "base       base  done                4  0.250       -   0.370  2m 11s\n"
                  "zero       grpo  interrupted  10 of 20  0.100       1   0.910  5m 07s\n"
                  "coldstart  sft   running             -      -       -       -    0.0s\n"
                  "\n"
                  "zero interrupted: Ctrl-C\n");
}

static json_t *parse_output(void)
{
    json_t *parsed = NULL;

    if (json_parse(&parsed, out.data, out.length, "report") != STATUS_OK)
        fail_msg("%s: %s", status_reason(), out.data);
    return parsed;
}

static void every_report_as_json_is_json(void **state)
{
    struct report_samples_options options = {.step = -1, .n = 10, .as_json = 1};

    (void)state;
    assert_int_equal(report_status(&out, directory, 1), STATUS_OK);
    json_t *parsed = parse_output();
    assert_int_equal(json_array_size(json_object_get(parsed, "stages")), 3);
    json_decref(parsed);
    text_clear(&out);
    assert_int_equal(report_log(&out, directory, "zero", "reward,kl", 0, 1), STATUS_OK);
    parsed = parse_output();
    assert_int_equal(json_array_size(parsed), 10);
    json_t *last = json_array_get(parsed, 9);
    assert_true(json_number_value(json_object_get(last, "reward")) == 1.0);
    assert_null(json_object_get(last, "loss"));
    json_decref(parsed);
    text_clear(&out);
    assert_int_equal(report_samples(&out, directory, &options), STATUS_OK);
    parsed = parse_output();
    assert_int_equal(json_array_size(parsed), 6);
    json_decref(parsed);
}

static void log_shows_the_columns_that_hold_something(void **state)
{
    (void)state;
    assert_int_equal(report_log(&out, directory, NULL, NULL, 2, 0), STATUS_OK);
    assert_output("stage  step   loss  reward      kl  pass@1\n"
                  "base      3  0.333       -       -       -\n"
                  "base      4  0.250       -       -   0.370\n"
                  "zero      9  0.111   0.900  0.0090       -\n"
                  "zero     10  0.100       1   0.010   0.910\n");
}

static void log_shows_the_metrics_that_were_named(void **state)
{
    (void)state;
    assert_int_equal(report_log(&out, directory, "zero", "eval/pass@16,grad_norm,loss", 1, 0),
                     STATUS_OK);
    assert_output("stage  step  eval/pass@16  grad_norm   loss\n"
                  "zero     10         1.010          -  0.100\n");
}

static void unknown_names_are_refused_with_a_hint(void **state)
{
    (void)state;
    assert_int_equal(report_log(&out, directory, NULL, "rewrad", 0, 0), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "\"rewrad\""));
    assert_non_null(strstr(status_reason(), "\"reward\""));
    assert_int_equal(report_log(&out, directory, "nought", NULL, 0, 0), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "no stage \"nought\"; it has: base, zero, coldstart"));
    assert_int_equal(report_lineage(&out, directory, "nought"), STATUS_CONFIG);
}

static void samples_come_best_first_with_every_verdict(void **state)
{
    struct report_samples_options options = {.step = -1, .n = 1, .purpose = "train"};

    (void)state;
    assert_int_equal(report_samples(&out, directory, &options), STATUS_OK);
    assert_output("zero, step 10, train: chain task 0000000000abcdef   reward 1.2   "
                  "advantage +0.7   2 tokens\n"
                  "  prompt\n"
                  "  | User: 3+8+5\n"
                  "  | Assistant:\n"
                  "  completion\n"
                  "  > 3+8=1,1+5=6</think>\n"
                  "  > <answer>6</answer>\n"
                  "  reference\n"
                  "  = 6\n"
                  "  accuracy  1  x 1    right  6\n"
                  "  format    1  x 0.2  right  \n");
}

static void control_characters_of_samples_never_reach_the_terminal(void **state)
{
    struct report_samples_options options = {.step = 9, .n = 1, .worst = 1};

    (void)state;
    assert_int_equal(report_samples(&out, directory, &options), STATUS_OK);
    assert_output_has("zero, step 9, train");
    assert_output_has("2 tokens, cut, masked");
    assert_output_has("  > ring\\x07 \\x1b[31mred & <b>\n");
    assert_output_has("unreadable  no <answer>");
    assert_output_lacks("\x1b");
}

static void the_last_step_may_be_one_before_training(void **state)
{
    struct report_samples_options options = {.stage = "reject", .step = -1, .n = 10};
    struct run_store *store = open_run();
    int64_t stage = begin_stage(store, "reject", "sft", "");

    (void)state;
    put_group(store, stage, -2, "data");
    put_group(store, stage, -1, "data");
    run_store_close(&store);
    assert_int_equal(report_samples(&out, directory, &options), STATUS_OK);
    assert_output_has("reject, step -1, data");
    assert_output_lacks("step -2");
}

static void samples_of_nothing_are_one_clear_error(void **state)
{
    struct report_samples_options options = {.step = -1, .n = 1, .kind = "code"};

    (void)state;
    assert_int_equal(report_samples(&out, directory, &options), STATUS_FAILED);
    assert_non_null(strstr(status_reason(), "kind code"));
}

static void lineage_is_a_tree_of_all_that_a_stage_came_from(void **state)
{
    (void)state;
    assert_int_equal(report_lineage(&out, directory, NULL), STATUS_OK);
    assert_output(
        "run demo  seed 7  hone 1.0\n"
        "config 111111111111  data 222222222222  template 333333333333\n"
        "\n"
        "coldstart  (sft, running)  config c0ffee012345\n"
        "└── checkpoint of coldstart, step 1  d1e2f3a4b5c6  checkpoints/coldstart/1\n"
        "    ├── checkpoint of base, step 4  d1e2f3a4b5c6  checkpoints/base/4\n"
        "    └── dataset of coldstart, 12 rows of chat  998877665544  datasets/cold.jsonl\n"
        "        └── checkpoint of zero, step 10  d1e2f3a4b5c6  checkpoints/zero/10\n"
        "            └── checkpoint of base, step 4  d1e2f3a4b5c6  checkpoints/base/4"
        "  (shown above)\n");
}

static void lineage_of_one_stage_starts_there(void **state)
{
    (void)state;
    assert_int_equal(report_lineage(&out, directory, "zero"), STATUS_OK);
    assert_output_has("\nzero  (grpo, interrupted)");
    assert_output_has("checkpoints/base/4");
    assert_output_lacks("coldstart");
}

static void edges_of_a_stage_count_for_what_it_made(void **state)
{
    struct run_store *store = open_run();
    int64_t stage = begin_stage(store, "rl", "grpo", ""), checkpoint, data;

    (void)state;
    assert_int_equal(run_store_put_dataset(store, stage, "datasets/rl.jsonl", "chat", 5, "beef",
                                           &data), STATUS_OK);
    assert_int_equal(run_store_put_parent(store, "dataset", data, "checkpoint", 2), STATUS_OK);
    assert_int_equal(run_store_put_parent(store, "stage", stage, "checkpoint", 1), STATUS_OK);
    assert_int_equal(run_store_put_parent(store, "stage", stage, "dataset", data), STATUS_OK);
    checkpoint = put_checkpoint(store, stage, 3, "checkpoints/rl/3");
    assert_int_equal(run_store_put_parent(store, "checkpoint", checkpoint, "stage", stage),
                     STATUS_OK);
    run_store_close(&store);
    assert_int_equal(report_lineage(&out, directory, "rl"), STATUS_OK);
    assert_output_has("\nrl  (grpo, running)  config c0ffee012345\n"
                      "└── checkpoint of rl, step 3  d1e2f3a4b5c6  checkpoints/rl/3\n"
                      "    ├── checkpoint of base, step 4  d1e2f3a4b5c6  checkpoints/base/4\n"
                      "    └── dataset of rl, 5 rows of chat  beef  datasets/rl.jsonl\n"
                      "        └── checkpoint of zero, step 10");
    text_clear(&out);
    assert_int_equal(report_table(&out, directory), STATUS_OK);
    assert_output_has("\nrl         base  ");
}

static void a_cycle_of_parents_ends(void **state)
{
    struct run_store *store = open_run();

    (void)state;
    assert_int_equal(run_store_put_parent(store, "checkpoint", 1, "checkpoint", 2), STATUS_OK);
    run_store_close(&store);
    assert_int_equal(report_lineage(&out, directory, "zero"), STATUS_OK);
    assert_output_has("(shown above)");
}

static void the_table_is_of_the_last_evaluation(void **state)
{
    (void)state;
    assert_int_equal(report_table(&out, directory), STATUS_OK);
    assert_output("stage      parent  pass@1  pass@16  cons@8  format  language  length    time\n"
                  "base       -        0.370    0.470       -   0.500         -    26.7  2m 11s\n"
                  "zero       base     0.910    1.010       -   0.500         -    26.7  5m 07s\n"
                  "coldstart  base         -        -       -       -         -       -    0.0s\n");
}

static void diff_names_what_was_set_differently_and_what_came_of_it(void **state)
{
    (void)state;
    assert_int_equal(report_diff(&out, directory, "base", NULL, "zero"), STATUS_OK);
    assert_output("setting                base  zero\n"
                  "grpo.beta              -     0.5\n"
                  "learner.learning_rate  0.1   0.2\n"
                  "\n"
                  "last value of   base   zero  difference\n"
                  "eval/pass@1    0.370  0.910      +0.540\n"
                  "eval/pass@16   0.470  1.010      +0.540\n"
                  "kl                 -  0.010           -\n"
                  "loss           0.250  0.100      -0.150\n"
                  "reward             -      1           -\n"
                  "the same: 3 of 8 metrics\n");
}

static void a_run_does_not_differ_from_itself(void **state)
{
    (void)state;
    assert_int_equal(report_diff(&out, directory, NULL, directory, NULL), STATUS_OK);
    assert_output("the same settings\n\nstage base\n\nthe same: 6 of 6 metrics\n\nstage zero\n\n"
                  "the same: 8 of 8 metrics\n\nstage coldstart\n");
    assert_int_equal(report_diff(&out, directory, "zero", directory, NULL), STATUS_CONFIG);
}

static void reports_work_while_the_run_goes_on(void **state)
{
    struct run_store *store = open_run();
    int64_t stage = begin_stage(store, "zero", "grpo", "");

    (void)state;
    put_steps(store, stage, 11, 1, 0.95);
    assert_int_equal(report_status(&out, directory, 0), STATUS_OK);
    assert_output_has("zero       grpo  running  11 of 20");
    run_store_close(&store);
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        EACH(status_lists_the_stages),
        EACH(every_report_as_json_is_json),
        EACH(log_shows_the_columns_that_hold_something),
        EACH(log_shows_the_metrics_that_were_named),
        EACH(unknown_names_are_refused_with_a_hint),
        EACH(samples_come_best_first_with_every_verdict),
        EACH(control_characters_of_samples_never_reach_the_terminal),
        EACH(the_last_step_may_be_one_before_training),
        EACH(samples_of_nothing_are_one_clear_error),
        EACH(lineage_is_a_tree_of_all_that_a_stage_came_from),
        EACH(lineage_of_one_stage_starts_there),
        EACH(edges_of_a_stage_count_for_what_it_made),
        EACH(a_cycle_of_parents_ends),
        EACH(the_table_is_of_the_last_evaluation),
        EACH(diff_names_what_was_set_differently_and_what_came_of_it),
        EACH(a_run_does_not_differ_from_itself),
        EACH(reports_work_while_the_run_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
