/* Verifiers from outside: the plugins of tests/plugin/, built to ../plugin beside this program. */
#include "test_verifier_support.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"
#include "reward/internal.h"

static char directory[3072];

static const char *path_of(const char *name)
{
    static char path[FILE_PATH_MAX];

    snprintf(path, sizeof(path), "%s/%s.so", directory, name);
    return path;
}

static void find_directory(void)
{
    const char *given = getenv("HONE_PLUGIN_DIRECTORY");
    ssize_t n;

    if (given) {
        snprintf(directory, sizeof(directory), "%s", given);
        return;
    }
    n = readlink("/proc/self/exe", directory, sizeof(directory) - 32);
    assert_true(n > 0);
    directory[n] = '\0';
    *strrchr(directory, '/') = '\0';
    *strrchr(directory, '/') = '\0';
    strncat(directory, "/plugin", 16);
}

static struct isolate *open_plugin(const char *name, const char *options, int timeout_ms)
{
    struct isolate_description description;
    struct isolate *isolate = NULL;

    const struct isolate_source source = {.path = path_of(name), .options = options};

    if (isolate_open(&isolate, &source, timeout_ms, NULL, &description) < 0)
        fail_msg("%s", status_reason());
    assert_string_equal(description.name, strchr(name, '_') + 1);
    return isolate;
}

static struct verifier_verdict ask_plugin(struct isolate *isolate, const char *reference,
                                          const char *completion, size_t n)
{
    struct verifier_task task = {.size = sizeof(task), .completion = {completion, n},
                                 .reference = text_of(reference), .question = text_of("q"),
                                 .language = text_of("en"), .prefill = text_of(""),
                                 .kind = text_of("k")};
    struct verifier_verdict verdict = {.size = sizeof(verdict)};

    isolate_score(isolate, &task, &verdict);
    return verdict;
}

static void a_good_plugin_judges(void **state)
{
    struct isolate *isolate = open_plugin("verifier_contains", "contains.miss=0.25", 2000);
    struct verifier_verdict found = ask_plugin(isolate, "b\xFF", "ab\xFF""c", 4);
    struct verifier_verdict missing = ask_plugin(isolate, "x", "a\0b", 3);

    (void)state;
    assert_int_equal(found.outcome, VERIFIER_RIGHT);
    assert_string_equal(found.detail, "found");
    assert_int_equal(missing.outcome, VERIFIER_WRONG);
    assert_float_equal(missing.score, 0.25, 0);
    assert_int_equal(ask_plugin(isolate, "", "a", 1).outcome, VERIFIER_ERROR);
    isolate_close(&isolate);
}

static void a_plugin_gets_the_records_other_columns(void **state)
{
    struct isolate *isolate = open_plugin("verifier_column", "column.name=level", 2000);
    struct verifier_task task = {.size = sizeof(task), .completion = text_of("so it is 3"),
                                 .columns = text_of("{\"x\":\"9\",\"level\":\"3\"}")};
    struct verifier_verdict verdict = {.size = sizeof(verdict)};

    (void)state;
    isolate_score(isolate, &task, &verdict);
    assert_int_equal(verdict.outcome, VERIFIER_RIGHT);
    task.completion = text_of("so it is 9");
    isolate_score(isolate, &task, &verdict);
    assert_int_equal(verdict.outcome, VERIFIER_WRONG);
    task.columns = text_of("{\"x\":\"9\"}");
    isolate_score(isolate, &task, &verdict);
    assert_int_equal(verdict.outcome, VERIFIER_ERROR);
    isolate_close(&isolate);
}

static void large_completions_reach_the_plugin_whole(void **state)
{
    struct isolate *isolate = open_plugin("verifier_contains", "", 5000);
    size_t n = (size_t)8 << 20;
    char *large = mem_alloc(n, 1);

    (void)state;
    memset(large, 'a', n);
    large[n - 1] = 'z';
    assert_int_equal(ask_plugin(isolate, "az", large, n).outcome, VERIFIER_RIGHT);
    assert_int_equal(ask_plugin(isolate, "zz", large, n).outcome, VERIFIER_WRONG);
    mem_free(large);
    isolate_close(&isolate);
}

static void a_plugin_from_the_future_is_taken(void **state)
{
    struct isolate *isolate = open_plugin("verifier_future", "", 2000);

    (void)state;
    assert_int_equal(ask_plugin(isolate, "", "a", 1).outcome, VERIFIER_RIGHT);
    isolate_close(&isolate);
}

static void a_crash_is_named_and_judging_goes_on(void **state)
{
    struct isolate *isolate = open_plugin("verifier_crash", "", 2000);

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct verifier_verdict verdict = ask_plugin(isolate, "", "crash", 5);
        assert_int_equal(verdict.outcome, VERIFIER_ERROR);
        assert_string_equal(verdict.detail, "verifier crash crashed (signal 11)");
        assert_int_equal(ask_plugin(isolate, "", "fine", 4).outcome, VERIFIER_RIGHT);
    }
    assert_string_equal(ask_plugin(isolate, "", "exit", 4).detail,
                        "verifier crash ended by itself (exit code 7)");
    isolate_close(&isolate);
}

static void a_hang_is_cut_off_and_judging_goes_on(void **state)
{
    struct isolate *isolate = open_plugin("verifier_hang", "", 50);
    struct verifier_verdict verdict = ask_plugin(isolate, "", "hang", 4);

    (void)state;
    assert_int_equal(verdict.outcome, VERIFIER_ERROR);
    assert_string_equal(verdict.detail, "verifier hang gave no verdict in 50 ms");
    assert_int_equal(ask_plugin(isolate, "", "fine", 4).outcome, VERIFIER_RIGHT);
    isolate_close(&isolate);
}

static void no_child_is_left_behind(void **state)
{
    struct isolate *isolate = open_plugin("verifier_hang", "", 50);

    (void)state;
    ask_plugin(isolate, "", "hang", 4);
    ask_plugin(isolate, "", "fine", 4);
    isolate_close(&isolate);
    assert_null(isolate);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

static void bad_plugins_are_refused_by_name(void **state)
{
    static const struct {
        const char *name;
        int status;
        const char *words;
    } cases[] = {
        {"verifier_truncated", STATUS_VERSION, "is older than v1"},
        {"verifier_nosymbol", STATUS_VERSION, "no symbol verifier_plugin_v1"},
        {"verifier_absent", STATUS_IO, "cannot open shared object file"},
    };

    (void)state;
    for (size_t i = 0; i < N_OF(cases); i++) {
        struct isolate_description description;
        struct isolate *isolate = NULL;
        const struct isolate_source source = {.path = path_of(cases[i].name), .options = ""};
        assert_int_equal(isolate_open(&isolate, &source, 2000, NULL, &description),
                         cases[i].status);
        assert_null(isolate);
        assert_non_null(strstr(status_reason(), cases[i].words));
        assert_non_null(strstr(status_reason(), cases[i].name));
    }
}

static int create_with(const char *plugins, const char *options)
{
    struct reward_config config;
    struct config_binding binding = {&reward_config_section, &config};
    struct reward *reward = NULL;

    config_set_defaults(&binding, 1);
    snprintf(config.plugins, sizeof(config.plugins), "%.500s", plugins);
    snprintf(config.options, sizeof(config.options), "%s", options);
    int status = reward_create(&reward, &config, NULL);
    if (status == STATUS_OK)
        reward_destroy(&reward);
    return status;
}

static void names_are_unique_and_options_are_checked(void **state)
{
    char twice[CONFIG_TEXT_BYTES];

    (void)state;
    if (strlen(directory) > 200)
        skip();
    snprintf(twice, sizeof(twice), "%.220s,%.220s", path_of("verifier_contains"),
             path_of("verifier_contains"));
    assert_int_equal(create_with(twice, ""), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "a verifier named \"contains\" exists"));
    assert_int_equal(create_with(path_of("verifier_contains"), "contains.miss=0.5"), STATUS_OK);
    assert_int_equal(create_with(path_of("verifier_contains"), "contains.mis=0.5"), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "refuses its options"));
    assert_int_equal(create_with("", "contains.miss=0.5"), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "there is no verifier \"contains\""));
    assert_int_equal(create_with("", "format.variant=lax"), STATUS_CONFIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_plugin_judges),
        cmocka_unit_test(a_plugin_gets_the_records_other_columns),
        cmocka_unit_test(large_completions_reach_the_plugin_whole),
        cmocka_unit_test(a_plugin_from_the_future_is_taken),
        cmocka_unit_test(a_crash_is_named_and_judging_goes_on),
        cmocka_unit_test(a_hang_is_cut_off_and_judging_goes_on),
        cmocka_unit_test(no_child_is_left_behind),
        cmocka_unit_test(bad_plugins_are_refused_by_name),
        cmocka_unit_test(names_are_unique_and_options_are_checked),
    };

    log_set_level(LOG_ERROR);
    find_directory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
