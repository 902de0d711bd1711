/* Verifiers that are executables: shell scripts that behave, and that do not. */
#include "test_verifier_support.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/config.h"
#include "common/log.h"
#include "reward/internal.h"

static char folder[] = "/tmp/hone_command_XXXXXX";

/* Says hello and right; on a word in the completion it does something else. */
static const char judge[] =
    "#!/bin/sh\n"
    "while read -r line; do\n"
    "  case \"$line\" in\n"
    "  *'\"hello\":1'*'refuse'*) echo '{\"error\":\"no such option\"}' ;;\n"
    "  *'\"hello\":1'*) echo '{\"version\":\"7\",\"deterministic\":true,\"help\":\"Judges.\"}' ;;\n"
    "  *segv*) kill -SEGV $$ ;;\n"
    "  *leave*) exit 7 ;;\n"
    "  *hang*) sleep 1000 ;;\n"
    "  *garbage*) echo 'no JSON' ;;\n"
    "  *list*) echo '[1]' ;;\n"
    "  *twice*) printf '{\"score\":1}\\n{\"score\":1}\\n' ;;\n"
    "  *other*) echo '{\"score\":1,\"task_id\":99}' ;;\n"
    "  *much*) echo '{\"score\":7}' ;;\n"
    "  *empty*) echo '{}' ;;\n"
    "  *strange*) echo '{\"score\":0,\"outcome\":\"strange\"}' ;;\n"
    "  *endless*) while :; do printf 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'; done ;;\n"
    "  *late*) echo '{\"score\":0,\"outcome\":\"timeout\",\"detail\":\"too slow\"}' ;;\n"
    "  *error*) echo '{\"error\":\"the judge is away\"}' ;;\n"
    "  *descriptors*) n=0; for f in /proc/$$/fd/*; do case ${f##*/} in 0|1|2) ;; *)\n"
    "      [ -e $f ] && [ \"$(readlink $f)\" != \"$0\" ] && n=$((n+1)) ;; esac; done\n"
    "    echo \"{\\\"score\\\":0,\\\"detail\\\":\\\"$n\\\"}\" ;;\n"
    "  *noise*) i=0; while [ $i -lt 20000 ]; do echo \"noise $i\" >&2; i=$((i+1)); done\n"
    "    echo '{\"score\":0.5}' ;;\n"
    "  *) echo '{\"score\":1,\"detail\":\"fine\"}' ;;\n"
    "  esac\n"
    "done\n";

static const char *write_script(const char *name, const char *text)
{
    static char path[256];

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    assert_int_equal(file_write_atomic(path, text, strlen(text)), 0);
    assert_int_equal(chmod(path, 0755), 0);
    return path;
}

static int open_command(struct isolate **out, const char *words, const char *options,
                        int timeout_ms, struct isolate_description *description)
{
    const struct isolate_source source = {.path = words, .name = "judge", .options = options};

    return isolate_open(out, &source, timeout_ms, NULL, description);
}

static struct isolate *open_judge(int timeout_ms)
{
    struct isolate_description description;
    struct isolate *isolate = NULL;

    if (open_command(&isolate, write_script("judge", judge), "", timeout_ms, &description) < 0)
        fail_msg("%s", status_reason());
    return isolate;
}

static struct verifier_verdict ask_judge(struct isolate *isolate, const char *completion)
{
    struct verifier_task task = {.size = sizeof(task), .task_id = 5,
                                 .completion = text_of(completion), .reference = text_of("r"),
                                 .question = text_of("q"), .language = text_of("en"),
                                 .prefill = text_of(""), .kind = text_of("k")};
    struct verifier_verdict verdict = {.size = sizeof(verdict)};

    isolate_score(isolate, &task, &verdict);
    return verdict;
}

static void an_executable_judges(void **state)
{
    struct isolate *isolate = open_judge(5000);
    struct verifier_verdict verdict = ask_judge(isolate, "\xFF\n\"quoted\"");

    (void)state;
    assert_int_equal(verdict.outcome, VERIFIER_RIGHT);
    assert_string_equal(verdict.detail, "fine");
    verdict = ask_judge(isolate, "late");
    assert_int_equal(verdict.outcome, VERIFIER_TIMEOUT);
    assert_string_equal(verdict.detail, "too slow");
    verdict = ask_judge(isolate, "error");
    assert_int_equal(verdict.outcome, VERIFIER_ERROR);
    assert_string_equal(verdict.detail, "the judge is away");
    isolate_close(&isolate);
}

static void its_version_is_that_of_the_file(void **state)
{
    struct isolate_description first, again, changed;
    struct isolate *isolate = NULL;
    struct text other = {0};

    (void)state;
    assert_int_equal(open_command(&isolate, write_script("judge", judge), "", 5000, &first), 0);
    isolate_close(&isolate);
    assert_int_equal(open_command(&isolate, write_script("judge", judge), "", 5000, &again), 0);
    isolate_close(&isolate);
    text_print(&other, "%s# changed\n", judge);
    assert_int_equal(open_command(&isolate, write_script("judge", other.data), "", 5000, &changed),
                     0);
    isolate_close(&isolate);
    text_release(&other);
    assert_string_equal(first.name, "judge");
    assert_string_equal(first.help, "Judges.");
    assert_int_equal(first.flags, VERIFIER_DETERMINISTIC);
    assert_string_equal(first.version + 16, " 7");
    assert_string_equal(first.version, again.version);
    assert_string_not_equal(first.version, changed.version);
}

static void every_failure_is_told_apart_and_judging_goes_on(void **state)
{
    static const char *const cases[][2] = {
        {"segv", "verifier judge crashed (signal 11)"},
        {"leave", "verifier judge ended by itself (exit code 7)"},
        {"garbage", "verifier judge gave no verdict: judge:1:"},
        {"list", "verifier judge gave no verdict: judge: an object is wanted"},
        {"twice", "verifier judge gave no verdict: more than one line came back"},
        {"other", "verifier judge gave no verdict: the answer is for another task"},
        {"empty", "verifier judge gave no verdict: neither \"score\" nor \"error\""},
        {"strange", "verifier judge gave no verdict: outcome \"strange\" is unknown"},
        {"endless", "verifier judge gave no verdict: more than 1048576 bytes without an end"},
    };
    struct isolate *isolate = open_judge(10000);

    (void)state;
    for (size_t i = 0; i < N_OF(cases); i++) {
        struct verifier_verdict verdict = ask_judge(isolate, cases[i][0]);
        assert_int_equal(verdict.outcome, VERIFIER_ERROR);
        if (strncmp(verdict.detail, cases[i][1], strlen(cases[i][1])) != 0)
            fail_msg("%s: \"%s\", wanted \"%s\"", cases[i][0], verdict.detail, cases[i][1]);
        assert_int_equal(ask_judge(isolate, "fine").outcome, VERIFIER_RIGHT);
    }
    isolate_close(&isolate);
}

static void a_hang_is_killed_with_what_it_started(void **state)
{
    struct isolate *isolate = open_judge(100);
    struct verifier_verdict verdict = ask_judge(isolate, "hang");

    (void)state;
    assert_int_equal(verdict.outcome, VERIFIER_ERROR);
    assert_string_equal(verdict.detail, "verifier judge gave no verdict in 100 ms");
    isolate_close(&isolate);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

static void one_that_changed_is_not_started_again(void **state)
{
    struct isolate *isolate = open_judge(5000);
    struct text other = {0};

    (void)state;
    text_print(&other, "%s# changed\n", judge);
    write_script("judge", other.data);
    assert_int_equal(ask_judge(isolate, "fine").outcome, VERIFIER_RIGHT);   /* it runs still */
    ask_judge(isolate, "leave");
    struct verifier_verdict verdict = ask_judge(isolate, "fine");
    assert_int_equal(verdict.outcome, VERIFIER_ERROR);
    assert_non_null(strstr(verdict.detail, "verifier judge has changed since the start"));
    write_script("judge", judge);
    assert_int_equal(ask_judge(isolate, "fine").outcome, VERIFIER_RIGHT);
    text_release(&other);
    isolate_close(&isolate);
}

static void noise_does_not_block_it(void **state)
{
    struct isolate *isolate = open_judge(8000);

    (void)state;
    assert_true(ask_judge(isolate, "noise").score == 0.5);
    assert_int_equal(ask_judge(isolate, "fine").outcome, VERIFIER_RIGHT);
    isolate_close(&isolate);
}

static void no_descriptor_is_inherited(void **state)
{
    int open_here = dup(2);   /* without close-on-exec */
    struct isolate *isolate = open_judge(5000);

    (void)state;
    assert_string_equal(ask_judge(isolate, "descriptors").detail, "0");
    isolate_close(&isolate);
    close(open_here);
}

/* A megabyte in one line: more than a pipe holds. */
static void large_samples_reach_it_whole(void **state)
{
    struct isolate *isolate = open_judge(8000);
    char *large = mem_alloc((1 << 20) + 1, 1);

    (void)state;
    memset(large, 'a', 1 << 20);
    memcpy(large + (1 << 20) - 4, "late", 4);
    assert_string_equal(ask_judge(isolate, large).detail, "too slow");
    mem_free(large);
    isolate_close(&isolate);
}

static void bad_ones_are_refused_before_a_run(void **state)
{
    struct isolate_description description;
    struct isolate *isolate = NULL;

    (void)state;
    assert_int_equal(open_command(&isolate, "/no/such/file", "", 5000, &description), STATUS_IO);
    assert_non_null(strstr(status_reason(), "cannot start /no/such/file: No such file"));
    assert_int_equal(open_command(&isolate, " ", "", 5000, &description), STATUS_CONFIG);
    assert_int_equal(open_command(&isolate, write_script("judge", judge), "judge.refuse=1", 5000,
                                  &description), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "verifier judge: no such option"));
    assert_true(open_command(&isolate, "true", "", 5000, &description) < 0);
    assert_non_null(strstr(status_reason(), "ended by itself (exit code 0)"));
    assert_null(isolate);
}

static int create_with(const char *commands)
{
    struct reward_config config;
    struct config_binding binding = {&reward_config_section, &config};
    struct reward *reward = NULL;

    config_set_defaults(&binding, 1);
    snprintf(config.commands, sizeof(config.commands), "%s", commands);
    int status = reward_create(&reward, &config, NULL);
    if (status == STATUS_OK)
        reward_destroy(&reward);
    return status;
}

static void the_configuration_names_it(void **state)
{
    char item[400];

    (void)state;
    snprintf(item, sizeof(item), "judge=%s", write_script("judge", judge));
    assert_int_equal(create_with(item), STATUS_OK);
    snprintf(item, sizeof(item), "math=%s", write_script("judge", judge));
    assert_int_equal(create_with(item), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "a verifier named \"math\" exists"));
    assert_int_equal(create_with("./judge"), STATUS_CONFIG);
    assert_int_equal(create_with("Judge=./judge"), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "name=executable"));
}

/* The verdict of a deterministic one is kept: a second question about the same text is not asked,
 * which shows in the answer that would be another one. */
static void verdicts_of_a_deterministic_one_are_cached(void **state)
{
    static const char counting[] =
        "#!/bin/sh\n"
        "n=0\n"
        "while read -r line; do\n"
        "  case \"$line\" in *hello*) echo \"{\\\"deterministic\\\":$1}\" ;;\n"
        "  *) n=$((n+1)); echo \"{\\\"score\\\":1,\\\"detail\\\":\\\"$n\\\"}\" ;; esac\n"
        "done\n";
    static const char *const kinds[] = {"true", "false"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct reward_config config;
        struct config_binding binding = {&reward_config_section, &config};
        struct reward *reward = NULL;
        struct task task = {.verifier = "counting"};
        struct score score;
        config_set_defaults(&binding, 1);
        snprintf(config.commands, sizeof(config.commands), "counting=%s %s",
                 write_script("counting", counting), kinds[i]);
        assert_int_equal(reward_create(&reward, &config, NULL), 0);
        for (int k = 0; k < 2; k++)
            assert_int_equal(reward_judge_text(reward, "accuracy", &task, "x", 1, NULL, &score), 0);
        assert_string_equal(score.detail, i == 0 ? "1" : "2");
        reward_destroy(&reward);
    }
}

static int remove_folder(void **state)
{
    (void)state;
    return file_remove_tree(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_executable_judges),
        cmocka_unit_test(its_version_is_that_of_the_file),
        cmocka_unit_test(every_failure_is_told_apart_and_judging_goes_on),
        cmocka_unit_test(a_hang_is_killed_with_what_it_started),
        cmocka_unit_test(one_that_changed_is_not_started_again),
        cmocka_unit_test(noise_does_not_block_it),
        cmocka_unit_test(no_descriptor_is_inherited),
        cmocka_unit_test(large_samples_reach_it_whole),
        cmocka_unit_test(bad_ones_are_refused_before_a_run),
        cmocka_unit_test(the_configuration_names_it),
        cmocka_unit_test(verdicts_of_a_deterministic_one_are_cached),
    };

    log_set_level(LOG_ERROR);
    assert_non_null(mkdtemp(folder));
    return cmocka_run_group_tests(tests, NULL, remove_folder);
}
