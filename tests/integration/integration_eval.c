/* hone eval: the figures that the run recorded, and no trace of it in the run. */
#include <dirent.h>
#include <signal.h>

#include "common/json.h"
#include "tests/integration/support.h"

#define WRONG_USAGE 2
#define MALFORMED 4
#define NO_FILE 5

/* A policy that the stage zero changes, so that the figures of the two stages differ. */
#define SETTINGS                                                                                   \
    "--set", "zero:reward.reward_funcs=accuracy,language", "--set",                                \
        "zero:optimizer.learning_rate=0.02", "--set", "eval.n_tasks=40", "--set",                  \
        "eval.num_generations=2"
#define NEWEST "run/quiet/checkpoints/zero/step-000004"

static struct place place;

static int make_place(void **state)
{
    (void)state;
    place_make_quiet(&place, (const char *const[]){SETTINGS, NULL});
    place_copy(&place, "run/quiet", "run/before");
    setenv("TMPDIR", place.directory, 1);
    return 0;
}

static int remove_place(void **state)
{
    (void)state;
    unsetenv("TMPDIR");
    place_remove(&place);
    return 0;
}

/* ---- What it prints. */

static void assert_no_scratch(void)
{
    DIR *directory = opendir(place.directory);
    struct dirent *entry;

    assert_non_null(directory);
    while ((entry = readdir(directory)))
        if (strncmp(entry->d_name, "hone-eval-", 10) == 0)
            fail_msg("%s is left behind", entry->d_name);
    closedir(directory);
}

/* From the line that begins with `start` on, without the log around it. */
static char *print_eval(const char *start, const char *const *arguments)
{
    struct program program;
    struct text text = {0}, table = {0};
    int is_printed = 0;

    run_hone(&program, &place, arguments);
    assert_ends(&program, 0, start);
    assert_int_equal(count_lines(&program, "warning"), 0);
    assert_int_equal(file_read(program.output, (size_t)1 << 20, &text), STATUS_OK);
    for (char *line = text.data, *end; line && (end = strchr(line, '\n')); line = end + 1) {
        *end = '\0';
        is_printed |= strncmp(line, start, strlen(start)) == 0;
        if (is_printed && !strstr(line, " info "))
            text_print(&table, "%s\n", line);
    }
    text_release(&text);
    WAIT_UNTIL(count_processes(&place) == 0);
    assert_no_scratch();
    return table.data;
}
#define EVAL(start, ...) print_eval((start), (const char *const[]){"eval", __VA_ARGS__, NULL})

static json_t *parse(char *printed)
{
    json_t *json;

    assert_int_equal(json_parse(&json, printed, strlen(printed), "hone eval"), STATUS_OK);
    mem_free(printed);
    return json;
}
#define EVAL_JSON(...) parse(EVAL("{\"model\":", "--json", __VA_ARGS__))

static double metric_of(const json_t *json, const char *name)
{
    const json_t *value = json_object_get(json_object_get(json, "metrics"), name);

    if (!json_is_number(value))
        fail_msg("hone eval prints no \"%s\"", name);
    return json_number_value(value);
}

/* What the stage's own evaluation wrote at its last step. */
static double recorded(const char *stage, const char *name)
{
    char sql[512];

    snprintf(sql, sizeof(sql), "SELECT printf('%%!.17g', value) FROM v_metric WHERE stage = '%s' "
             "AND name = '%s' ORDER BY step DESC LIMIT 1", stage, name);
    char *rows = ask(&place, "run/quiet", sql);
    assert_true(rows[0] != '\0');
    double value = strtod(rows, NULL);
    mem_free(rows);
    return value;
}

static void assert_as_recorded(json_t *json, const char *stage)
{
    char sql[256];
    const char *name;
    json_t *value;

    snprintf(sql, sizeof(sql), "SELECT count(DISTINCT name) FROM v_metric WHERE stage = '%s' AND "
             "name LIKE 'eval/%%'", stage);
    assert_int_equal(json_object_size(json_object_get(json, "metrics")),
                     ask_number(&place, "run/quiet", sql));
    json_object_foreach(json_object_get(json, "metrics"), name, value) {
        double wanted = recorded(stage, name);
        if (json_number_value(value) != wanted)
            fail_msg("%s of %s: %.17g, the run recorded %.17g", name, stage,
                     json_number_value(value), wanted);
    }
}

static void the_figures_are_those_that_the_run_recorded(void **state)
{
    json_t *zero = EVAL_JSON("--run", "run/quiet", "--stage", "zero");
    json_t *base = EVAL_JSON("--run", "run/quiet", "--stage", "base", "--quiet");

    (void)state;
    assert_as_recorded(zero, "zero");
    assert_as_recorded(base, "base");
    assert_true(metric_of(zero, "eval/mean_length") != metric_of(base, "eval/mean_length"));
    assert_string_equal(json_string_value(json_object_get(zero, "model")), NEWEST);
    assert_string_equal(json_string_value(json_object_get(zero, "stage")), "zero");
    assert_int_equal(json_integer_value(json_object_get(zero, "step")), 4);
    assert_int_equal(json_integer_value(json_object_get(zero, "n_tasks")), 40);
    assert_int_equal(json_integer_value(json_object_get(zero, "num_generations")), 2);
    json_decref(zero);
    json_decref(base);
}

static void the_table_says_the_same_every_time(void **state)
{
    char *once = EVAL("run/quiet/", "--run", "run/quiet", "--stage", "zero");
    char *again = EVAL("run/quiet/", "--run", "run/quiet", "--stage", "zero");
    char all[256];

    (void)state;
    assert_string_equal(once, again);
    assert_non_null(strstr(once, NEWEST ", settings of stage zero: 40 held-out tasks, 2 samples "
                           "each, temperature 1, top_p 1\n"));
    assert_non_null(strstr(once, "kind    tasks  pass@1  pass@2  cons@2  format  language  "
                           "length\n"));
    snprintf(all, sizeof(all), "all        40   %.3f   %.3f   %.3f   %.3f     %.3f    %4.1f\n",
             recorded("zero", "eval/pass@1"), recorded("zero", "eval/pass@2"),
             recorded("zero", "eval/cons@2"), recorded("zero", "eval/format"),
             recorded("zero", "eval/language"), recorded("zero", "eval/mean_length"));
    if (!strstr(once, all))
        fail_msg("no line \"%s\" in:\n%s", all, once);
    mem_free(once);
    mem_free(again);
}

static void other_settings_count_for_this_evaluation_alone(void **state)
{
    json_t *json = EVAL_JSON("--run", "run/quiet", "--stage", "zero", "--set", "eval.n_tasks=7",
                             "--set", "eval.num_generations=1");

    (void)state;
    assert_int_equal(json_integer_value(json_object_get(json, "n_tasks")), 7);
    assert_null(json_object_get(json_object_get(json, "metrics"), "eval/cons@1"));
    assert_true(metric_of(json, "eval/mean_length") > 0);
    json_decref(json);
    json = EVAL_JSON("--run", "run/quiet", "--stage", "zero");
    assert_as_recorded(json, "zero");
    json_decref(json);
}

static void a_folder_is_evaluated_with_the_settings_of_a_recipe(void **state)
{
    json_t *json = EVAL_JSON(RECIPE, "--model", NEWEST, "--stage", "base", SETTINGS);

    (void)state;
    assert_as_recorded(json, "zero");
    assert_true(json_is_null(json_object_get(json, "step")));
    assert_string_equal(json_string_value(json_object_get(json, "stage")), "base");
    json_decref(json);
}

/* Every row, every checkpoint: the earlier tests have evaluated this run. */
static void it_leaves_no_trace_in_the_run(void **state)
{
    (void)state;
    assert_same_databases(&place, "run/before", "run/quiet");
    assert_same_runs(&place, "run/before", "run/quiet");
    assert_int_equal(ask_number(&place, "run/quiet", "SELECT count(*) FROM step"),
                     ask_number(&place, "run/before", "SELECT count(*) FROM step"));
}

static void a_run_that_goes_on_can_be_evaluated_and_ends_the_same(void **state)
{
    struct program run;

    (void)state;
    place_copy(&place, "run/base", "run/busy");
    START(&run, &place, "run", "--run", "run/busy", "--stage", "zero");
    WAIT_UNTIL(steps_of(&place, "run/busy", "zero") >= 1);
    struct program program;
    HONE(&program, &place, "eval", "--run", "run/busy", "--stage", "base", "--json");
    assert_ends(&program, 0, "\"stage\":\"base\",\"step\":16");
    assert_ends(&run, 0, "stage zero is done");
    assert_same_runs(&place, "run/busy", "run/quiet");
}

/* ---- What it refuses. */

static void assert_refused(int code, const char *part, const char *const *arguments)
{
    struct program program;

    run_hone(&program, &place, arguments);
    assert_ends(&program, code, part);
    if (count_lines(&program, "") != 1 || count_lines(&program, "hone: ") != 1) {
        show_output(&program);
        fail_msg("wanted one line");
    }
    WAIT_UNTIL(count_processes(&place) == 0);
    assert_no_scratch();
}
#define REFUSED(code, part, ...)                                                                   \
    assert_refused((code), (part), (const char *const[]){"eval", __VA_ARGS__, NULL})

static void what_is_not_there_is_refused_in_one_line(void **state)
{
    (void)state;
    REFUSED(WRONG_USAGE, "run/nowhere is no run directory", "--run", "run/nowhere", "--stage",
            "zero");
    REFUSED(WRONG_USAGE, "has no stage \"one\"; it has: base, student, zero", "--run", "run/quiet",
            "--stage", "one");
    REFUSED(WRONG_USAGE, "run/quiet has no stage \"rl\"; it has: base, zero", "--run", "run/quiet",
            "--stage", "rl");
    REFUSED(WRONG_USAGE, "name whose checkpoint to evaluate with --stage", "--run", "run/quiet");
    REFUSED(NO_FILE, "nowhere.yaml", "nowhere.yaml", "--model", NEWEST);
    REFUSED(NO_FILE, "nowhere/tokenizer.json", RECIPE, "--model", "nowhere");
}

static void a_wrong_key_is_refused_in_one_line(void **state)
{
    (void)state;
    REFUSED(WRONG_USAGE, "unknown key of section \"eval\" \"n_task\"; did you mean \"n_tasks\"?",
            "--run", "run/quiet", "--stage", "zero", "--set", "eval.n_task=4");
    REFUSED(WRONG_USAGE, "unknown section \"evl\"; did you mean \"eval\"?", "--run", "run/quiet",
            "--stage", "zero", "--set", "evl.n_tasks=4");
    REFUSED(WRONG_USAGE, "set tasks.heldout and eval.n_tasks", "--run", "run/quiet", "--stage",
            "zero", "--set", "eval.n_tasks=0");
    REFUSED(WRONG_USAGE, "unknown option --jsn", "--run", "run/quiet", "--stage", "zero", "--jsn");
    REFUSED(WRONG_USAGE, "unexpected argument", RECIPE, "more");
}

static void a_damaged_checkpoint_is_refused_in_one_line(void **state)
{
    const char *path = in_place(&place, "run/damaged/checkpoints/zero/step-000004/"
                                "model.safetensors");

    (void)state;
    place_copy(&place, "run/quiet", "run/damaged");
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, -1, SEEK_END), 0);
    int last = fgetc(file);
    assert_int_equal(fseek(file, -1, SEEK_END), 0);
    assert_int_equal(fputc(last ^ 1, file), last ^ 1);
    assert_int_equal(fclose(file), 0);
    REFUSED(MALFORMED, "step-000004", "--run", "run/damaged", "--stage", "zero");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_figures_are_those_that_the_run_recorded),
        cmocka_unit_test(the_table_says_the_same_every_time),
        cmocka_unit_test(other_settings_count_for_this_evaluation_alone),
        cmocka_unit_test(a_folder_is_evaluated_with_the_settings_of_a_recipe),
        cmocka_unit_test(it_leaves_no_trace_in_the_run),
        cmocka_unit_test(a_run_that_goes_on_can_be_evaluated_and_ends_the_same),
        cmocka_unit_test(what_is_not_there_is_refused_in_one_line),
        cmocka_unit_test(a_wrong_key_is_refused_in_one_line),
        cmocka_unit_test(a_damaged_checkpoint_is_refused_in_one_line),
    };

    return cmocka_run_group_tests_name("integration_eval", tests, make_place, remove_place);
}
