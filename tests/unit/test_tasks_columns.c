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
#include "tasks/columns.h"

static char directory[] = "/tmp/hone-columns-XXXXXX";
static char path[FILE_PATH_MAX];
static struct tasks_config config;
static const struct config_binding binding = {&tasks_config_section, &config};

static int set_up(void **state)
{
    (void)state;
    return !mkdtemp(directory) || file_join(path, directory, "rows.jsonl") ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    return file_remove_tree(directory);
}

/* Defaults, then the assignments, "" for none. */
static void configure(const char *first, const char *second)
{
    config_set_defaults(&binding, 1);
    if (first[0])
        assert_int_equal(config_override(first, &binding, 1), STATUS_OK);
    if (second[0])
        assert_int_equal(config_override(second, &binding, 1), STATUS_OK);
    assert_int_equal(config_check(&binding, 1), STATUS_OK);
}

static int open_with(struct task_set **set, const char *text, const char *template)
{
    struct chat_template chat;
    int status;

    assert_int_equal(file_write_atomic(path, text, strlen(text)), STATUS_OK);
    assert_int_equal(chat_template_init(&chat, template), STATUS_OK);
    status = task_set_open(set, path, "", &chat, &config);
    chat_template_release(&chat);
    return status;
}

static void assert_task(const char *text, const char *prompt, const char *reference)
{
    struct task_set *set;

    if (open_with(&set, text, "chatml") < 0)
        fail_msg("%s", status_reason());
    assert_string_equal(task_set_get(set, 0)->prompt.data, prompt);
    assert_string_equal(task_set_get(set, 0)->reference.data, reference);
    task_set_close(&set);
}

static void assert_refused(const char *text, const char *reason)
{
    struct task_set *set;

    assert_int_equal(open_with(&set, text, "chatml"), STATUS_FORMAT);
    assert_null(set);
    if (!strstr(status_reason(), reason))
        fail_msg("\"%s\" does not hold \"%s\"", status_reason(), reason);
}

#define ASKED(text) "<|im_start|>user\n" text "<|im_end|>\n<|im_start|>assistant\n"
#define SYSTEM(text) "<|im_start|>system\n" text "<|im_end|>\n"

static void gsm8k_answers_end_in_their_reference(void **state)
{
    const char *row = "{\"question\":\"Q\",\"answer\":\"She has 4*300 = 1,200.\\n#### 1,200 \"}\n";

    (void)state;
    configure("", "");
    assert_task(row, ASKED("Q"), "1200");
    configure("tasks.format=gsm8k", "");
    assert_task(row, ASKED("Q"), "1200");
    assert_task("{\"question\":\"Q\",\"answer\":\"#### 1 #### -2\"}\n", ASKED("Q"), "-2");
    assert_refused("{\"question\":\"Q\",\"answer\":\"12\"}\n", "rows.jsonl:1: key \"answer\" has");
    assert_refused("{\"question\":\"Q\",\"answer\":\"####  \"}\n", "key \"answer\" has no");
    configure("tasks.format=hone", "");
    assert_task("{\"question\":\"Q\",\"answer\":\"#### 7\"}\n", ASKED("Q"), "#### 7");
}

static void math_solutions_have_their_reference_boxed(void **state)
{
    (void)state;
    configure("", "");
    assert_task("{\"problem\":\"P\",\"level\":\"Level 5\",\"solution\":\"\\\\boxed{1} or "
                "$\\\\boxed{\\\\frac{1}{\\\\{2\\\\}}}$.\"}\n", ASKED("P"), "\\frac{1}{\\{2\\}}");
    configure("tasks.format=math", "");
    assert_task("{\"problem\":\"P\",\"solution\":\"is $\\\\boxed 5$.\"}\n", ASKED("P"), "5");
    assert_refused("{\"problem\":\"P\",\"solution\":\"5\"}\n", "key \"solution\" has no whole");
    assert_refused("{\"problem\":\"P\",\"solution\":\"\\\\boxed{5\"}\n", "has no whole");
    assert_refused("{\"problem\":\"P\",\"solution\":\"\\\\boxed{}\"}\n", "has no whole");
    assert_refused("{\"problem\":\"P\"}\n", "key \"solution\" is missing");
    assert_refused("{\"question\":\"P\",\"solution\":\"\"}\n", "key \"problem\" is missing");
}

static void verl_records_are_read_by_their_nested_keys(void **state)
{
    const char *row = "{\"data_source\":\"openai/gsm8k\",\"prompt\":[{\"role\":\"system\","
                      "\"content\":\"S\"},{\"role\":\"user\",\"content\":\"U\"}],\"ability\":"
                      "\"math\",\"reward_model\":{\"style\":\"rule\",\"ground_truth\":\"72\"},"
                      "\"extra_info\":{\"split\":\"train\",\"index\":5}}\n";
    struct task_set *set;

    (void)state;
    configure("", "");
    assert_task(row, SYSTEM("S") ASKED("U"), "72");
    configure("tasks.format=verl", "tasks.columns=id=extra_info.index,kind=ability");
    assert_int_equal(open_with(&set, row, "chatml"), STATUS_OK);
    assert_int_equal(task_set_get(set, 0)->id, 5);
    assert_string_equal(task_set_get(set, 0)->kind, "math");
    assert_string_equal(task_set_get(set, 0)->question.data, "U");
    task_set_close(&set);
    assert_refused("{\"prompt\":\"U\",\"reward_model\":{}}\n",
                   "key \"reward_model.ground_truth\" is missing");
}

static void trl_prompts_are_texts_or_messages(void **state)
{
    (void)state;
    configure("", "");
    assert_task("{\"prompt\":[{\"role\":\"user\",\"content\":\"U\"}],\"solution\":\"$4$\"}\n",
                ASKED("U"), "$4$");
    assert_task("{\"prompt\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\","
                "\"content\":\"b\"},{\"role\":\"user\",\"content\":\"c\"}],\"ground_truth\":4}\n",
                "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n" ASKED("c"),
                "4");
    configure("tasks.format=trl", "");
    assert_task("{\"prompt\":\"U\",\"answer\":\"4\"}\n", ASKED("U"), "4");
    assert_refused("{\"prompt\":[],\"answer\":\"4\"}\n", "prompt[0] is missing; \"user\"");
    assert_refused("{\"prompt\":[{\"role\":\"user\",\"content\":\"\"}],\"answer\":\"4\"}\n",
                   "must be a string with something in it");
    assert_refused("{\"prompt\":[{\"role\":\"tool\",\"content\":\"x\"}],\"answer\":\"4\"}\n",
                   "prompt[0] has the role tool; \"user\" is wanted");
    assert_refused("{\"prompt\":[{\"role\":\"assistant\",\"content\":\"x\"}],\"answer\":\"4\"}\n",
                   "has the role assistant");
}

static void columns_are_where_the_settings_say(void **state)
{
    (void)state;
    configure("tasks.columns=question=task.text,reference=task.a.b,verifier=v", "");
    assert_task("{\"task\":{\"text\":\"T\",\"a\":{\"b\":[1,2]}},\"v\":\"exact\"}\n", ASKED("T"),
                "[1,2]");
    assert_task("{\"task.text\":\"dots\",\"task\":{\"a.b\":\"in a key\"}}\n", ASKED("dots"),
                "in a key");
    assert_refused("{\"question\":\"Q\",\"task\":{\"a\":{\"b\":1}}}\n",
                   "rows.jsonl:1: key \"task.text\" is missing");
    assert_refused("{\"task\":{\"text\":\"T\",\"a\":{\"b\":1.5}}}\n", "key \"task.a.b\" must be");
    assert_refused("{\"task\":{\"text\":\"T\",\"a\":{\"b\":1}},\"v\":7}\n", "key \"v\" must be");
}

static void a_wrong_mapping_is_refused_before_any_file(void **state)
{
    static const char *const bad[] = {"tasks.columns=question", "tasks.columns=question=",
                                      "tasks.columns=qestion=a", "tasks.columns==a"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        config_set_defaults(&binding, 1);
        assert_int_equal(config_override(bad[i], &binding, 1), STATUS_OK);
        assert_int_equal(config_check(&binding, 1), STATUS_CONFIG);
        assert_non_null(strstr(status_reason(), "tasks.columns"));
    }
    config_set_defaults(&binding, 1);
    assert_int_equal(config_override("tasks.format=gsm9k", &binding, 1), STATUS_CONFIG);
}

static void reference_columns_reach_the_verifier_as_json(void **state)
{
    const char *row = "{\"question\":\"Q\",\"tests\":[\"a\",2],\"limit\":1.5,\"x\":null}\n";

    (void)state;
    configure("tasks.reference_columns=tests,limit", "");
    assert_task(row, ASKED("Q"), "{\"tests\":[\"a\",2],\"limit\":1.5}");
    assert_refused("{\"question\":\"Q\",\"tests\":[]}\n", "key \"limit\" of tasks.reference_col");
    configure("tasks.reference_columns=*", "");
    assert_task(row, ASKED("Q"),
                "{\"question\":\"Q\",\"tests\":[\"a\",2],\"limit\":1.5,\"x\":null}");
}

static void assert_others(const char *row, const char *wanted)
{
    struct task_set *set;

    assert_int_equal(open_with(&set, row, "chatml"), STATUS_OK);
    assert_string_equal(task_set_get(set, 0)->columns.data, wanted);
    assert_int_equal(task_set_get(set, 0)->columns.bytes, strlen(wanted));
    task_set_close(&set);
}

static void other_columns_reach_the_verifier_by_name(void **state)
{
    const char *row = "{\"level\":3,\"question\":\"Q\",\"answer\":\"1\",\"x\":{\"y\":[null]},"
                      "\"kind\":\"k\"}\n";
    struct text large = {0};

    (void)state;
    configure("", "");
    assert_others(row, "{\"level\":3,\"x\":{\"y\":[null]}}");
    assert_others("{\"question\":\"Q\",\"answer\":\"1\"}\n", "");
    assert_others("{\"prompt\":\"Q\",\"reward_model\":{\"ground_truth\":\"1\"},\"ability\":"
                  "\"math\"}\n",
                  "{\"reward_model\":{\"ground_truth\":\"1\"},\"ability\":\"math\"}");
    configure("tasks.verifier_columns=x,kind,none", "");
    assert_others(row, "{\"x\":{\"y\":[null]},\"kind\":\"k\"}");
    configure("tasks.verifier_columns=", "");
    assert_others(row, "");
    configure("tasks.reference_columns=x", "");
    assert_others(row, "{\"level\":3,\"answer\":\"1\"}");
    configure("", "");
    text_print(&large, "{\"question\":\"Q\",\"answer\":\"1\",\"x\":\"%0*d\"}\n", 300000, 0);
    assert_refused(large.data, "tasks.verifier_columns");
    text_release(&large);
}

static void bad_records_are_left_out_where_that_is_asked_for(void **state)
{
    const char *text = "{\"question\":\"a\",\"answer\":\"1\"}\nnot json\n{\"question\":\"b\"}\n"
                       "[]\n{\"question\":\"c\",\"answer\":\"3\"}\n";
    struct task_set *set;

    (void)state;
    configure("", "");
    assert_refused(text, "rows.jsonl:2:");
    configure("tasks.on_bad_record=skip", "");
    assert_int_equal(open_with(&set, text, "chatml"), STATUS_OK);
    assert_int_equal(task_set_count(set), 2);
    assert_string_equal(task_set_get(set, 1)->question.data, "c");
    task_set_close(&set);
    assert_refused("not json\n", "there is no task in it");
}

/* Skipping is for records; half a file is no record. */
static void a_damaged_file_is_never_skipped(void **state)
{
    struct task_set *set;

    (void)state;
    configure("tasks.on_bad_record=skip", "");
    assert_int_equal(file_write_atomic(path, "\x1F\x8B\x08\x00", 4), STATUS_OK);
    struct chat_template chat;
    assert_int_equal(chat_template_init(&chat, "toy"), STATUS_OK);
    assert_int_equal(task_set_open(&set, path, "", &chat, &config), STATUS_FORMAT);
    assert_non_null(strstr(status_reason(), "damaged"));
    chat_template_release(&chat);
}

static void documents_follow_the_mapping_and_keep_the_plain_names(void **state)
{
    const char *text = "{\"body\":\"one\"}\n{\"text\":\"two\"}\n{\"body\":3}\n";
    struct chat_template chat;
    struct document_set *set;

    (void)state;
    configure("tasks.columns=text=body", "tasks.on_bad_record=skip");
    assert_int_equal(file_write_atomic(path, text, strlen(text)), STATUS_OK);
    assert_int_equal(chat_template_init(&chat, "toy"), STATUS_OK);
    assert_int_equal(document_set_read(&set, path, &chat, &config), STATUS_OK);
    assert_int_equal(document_set_count(set), 2);
    assert_string_equal(document_set_get(set, 0)->completion.data, "one");
    assert_string_equal(document_set_get(set, 1)->completion.data, "two");
    document_set_close(&set);
    chat_template_release(&chat);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gsm8k_answers_end_in_their_reference),
        cmocka_unit_test(math_solutions_have_their_reference_boxed),
        cmocka_unit_test(verl_records_are_read_by_their_nested_keys),
        cmocka_unit_test(trl_prompts_are_texts_or_messages),
        cmocka_unit_test(columns_are_where_the_settings_say),
        cmocka_unit_test(a_wrong_mapping_is_refused_before_any_file),
        cmocka_unit_test(reference_columns_reach_the_verifier_as_json),
        cmocka_unit_test(other_columns_reach_the_verifier_by_name),
        cmocka_unit_test(bad_records_are_left_out_where_that_is_asked_for),
        cmocka_unit_test(a_damaged_file_is_never_skipped),
        cmocka_unit_test(documents_follow_the_mapping_and_keep_the_plain_names),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
