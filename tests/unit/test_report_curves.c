#include "test_report.h"

/* Every tag is closed in order, and text holds no stray '<' or '&'. */
static void assert_balanced_tags(const char *svg)
{
    char open[16][32];
    int depth = 0;

    for (const char *at = svg; *at; at++) {
        if (*at == '&') {
            assert_true(!strncmp(at, "&amp;", 5) || !strncmp(at, "&lt;", 4) ||
                        !strncmp(at, "&gt;", 4) || !strncmp(at, "&quot;", 6));
            continue;
        }
        if (*at != '<')
            continue;
        const char *end = strchr(at, '>');
        assert_non_null(end);
        size_t n = strcspn(at + 1, " />");
        if (at[1] == '/') {
            n = strcspn(at + 2, ">");
            assert_true(depth > 0 && strlen(open[depth - 1]) == n);
            assert_memory_equal(open[--depth], at + 2, n);
        } else if (end[-1] != '/') {
            assert_true(depth < 16 && n < sizeof(open[0]));
            snprintf(open[depth++], sizeof(open[0]), "%.*s", (int)n, at + 1);
        }
        at = end;
    }
    assert_int_equal(depth, 0);
}

static void the_curves_are_a_whole_svg(void **state)
{
    (void)state;
    assert_int_equal(report_curves_svg(&out, directory), STATUS_OK);
    assert_balanced_tags(out.data);
    assert_output_has("<svg xmlns=");
    assert_output_has(">demo</text>");
    assert_output_has(">2 zero</text>");
    assert_output_has(">held-out pass@1</text>");
    assert_output_has(">0.11 to 0.91</text>");
    assert_output_has(">KL to the reference, nats</text>");
    assert_output_has(">rewards at the last step, share</text>");
    assert_output_lacks("entropy");   /* nobody measured it: no empty panel */
    assert_output_lacks("nan");
    assert_output_lacks("inf");
}

static void curves_take_hostile_names_and_values(void **state)
{
    struct run_store *store = open_run();
    int64_t stage = begin_stage(store, "a<b>&\"c\x01", "grpo", "");
    const struct metric_value steps[][2] = {{{"reward", INFINITY}, {"kl", 0}},
                                            {{"reward", NAN}, {"kl", 0}},
                                            {{"reward", -1e300}, {"kl", 0}},
                                            {{"reward", 1e-300}, {"kl", 0}}};

    (void)state;
    for (int64_t i = 0; i < 4; i++)
        assert_int_equal(run_store_put_step(store, stage, i * 1000000, 1, steps[i], 2, "train",
                                            NULL, 0), STATUS_OK);
    run_store_close(&store);
    assert_int_equal(report_curves_svg(&out, directory), STATUS_OK);
    assert_balanced_tags(out.data);
    assert_output_has("a&lt;b&gt;&amp;&quot;c ");
    assert_output_lacks("nan");
    assert_output_lacks("inf\"");
    assert_output_lacks("inf,");
}

static void a_run_without_steps_can_be_reported(void **state)
{
    (void)state;
    assert_int_equal(tear_down(state), 0);
    snprintf(directory, sizeof(directory), "/tmp/hone-report-XXXXXX");
    assert_non_null(mkdtemp(directory));
    struct run_store *store = open_run();
    run_store_close(&store);
    assert_int_equal(report_status(&out, directory, 0), STATUS_OK);
    assert_output_has("no stage has begun yet");
    assert_int_equal(report_log(&out, directory, NULL, NULL, 0, 0), STATUS_OK);
    assert_output_has("nothing has been measured yet");
    assert_int_equal(report_lineage(&out, directory, NULL), STATUS_OK);
    assert_int_equal(report_table(&out, directory), STATUS_OK);
    text_clear(&out);
    assert_int_equal(report_curves_svg(&out, directory), STATUS_OK);
    assert_balanced_tags(out.data);
    assert_output_has("Nothing has been measured yet.");
}

static void a_directory_that_is_no_run_is_named(void **state)
{
    struct report_samples_options options = {.step = -1};

    (void)state;
    assert_int_equal(report_status(&out, "/tmp", 0), STATUS_CONFIG);
    assert_string_equal(status_reason(), "/tmp is not a run directory: it has no run.db; "
                                         "`hone run` makes one");
    assert_int_equal(report_log(&out, "/tmp", NULL, NULL, 0, 0), STATUS_CONFIG);
    assert_int_equal(report_samples(&out, "/tmp", &options), STATUS_CONFIG);
    assert_int_equal(report_lineage(&out, "/tmp", NULL), STATUS_CONFIG);
    assert_int_equal(report_diff(&out, "/tmp", NULL, directory, NULL), STATUS_CONFIG);
    assert_int_equal(report_table(&out, "/tmp"), STATUS_CONFIG);
    assert_int_equal(report_curves_svg(&out, "/tmp"), STATUS_CONFIG);
}

static void a_file_that_is_no_database_is_named(void **state)
{
    char path[FILE_PATH_MAX];

    (void)state;
    assert_int_equal(file_join(path, directory, "run.db"), STATUS_OK);
    assert_int_equal(file_write_atomic(path, "this is no database, only text", 30), STATUS_OK);
    assert_int_equal(report_status(&out, directory, 0), STATUS_IO);
    assert_non_null(strstr(status_reason(), path));
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        EACH(the_curves_are_a_whole_svg),
        EACH(curves_take_hostile_names_and_values),
        EACH(a_run_without_steps_can_be_reported),
        EACH(a_directory_that_is_no_run_is_named),
        EACH(a_file_that_is_no_database_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
