/* Records as public code data sets have them, made up here: what the tasks and the judge make of
 * them. */
#include "test_verifier_support.h"

#include <stdlib.h>

#include "common/files.h"
#include "reward/internal.h"
#include "tasks/tasks.h"

static const char humaneval_record[] =
    "{\"task_id\": \"Own/0\", \"prompt\": \"from typing import List\\n\\ndef widen(x: in"
    "t) -> int:\\n    return x * 2\\n\\ndef spread(items: List[int], by: int) -> L"
    "ist[int]:\\n    \\\"\\\"\\\" Each item of the list times by. \\\"\\\"\\\"\\n\", \"entry_po"
    "int\": \"spread\", \"canonical_solution\": \"    return [i * by for i in items]\\"
    "n\", \"test\": \"METADATA = {}\\n\\ndef check(candidate):\\n    assert candidate("
    "[1, 2], 3) == [3, 6], 'no'\\n    assert candidate([], 1) == []\\n    for i i"
    "n range(4):\\n        assert candidate([i], widen(i)) == [i * 2 * i]\\n\"}\n";

static const char mbpp_record[] =
    "{\"task_id\": 7, \"text\": \"Write a function to drop the first letter.\", \"code"
    "\": \"def drop(s): return s[1:]\", \"test_list\": [\"assert drop(\\\"abc\\\") == \\\"b"
    "c\\\"\", \"assert drop(\\\"\\\") == \\\"\\\"\", \"assert math.isclose(len(drop(\\\"ab\\\")),"
    " 1.0)\"], \"test_setup_code\": \"import math\", \"challenge_test_list\": []}\n";

static const char livecodebench_record[] =
    "{\"question_title\": \"t\", \"question_content\": \"Scale a list.\", \"platform\": \""
    "own\", \"question_id\": \"q1\", \"starter_code\": \"class Solution:\\n    def scale"
    "(self, items: List[int], by: int) -> List[int]:\\n        \", \"public_test_c"
    "ases\": \"[{\\\"input\\\": \\\"[1, 2]\\\\n3\\\", "
    "\\\"output\\\": \\\"[3, 6]\\\", \\\"testtype\\\":"
    " \\\"functional\\\"}]\", \"private_test_cases\": \"eJxrYJnqxQABPW7R1UqZeQWlJUpWCkr"
    "RxjoKhrExeUZKOgpK+aUlMGEzHQWjWJBYSWpxSUllQSpINK00L7kkMz8vMUepNnaKHgCwYBhM\""
    ", \"metadata\": \"{\\\"func_name\\\": \\\"scale\\\"}\"}\n";

static const char livecodebench_stdin_record[] =
    "{\"question_content\": \"Add.\", \"question_id\": \"q2\", \"starter_code\": \"\", \"pub"
    "lic_test_cases\": \"[{\\\"input\\\": \\\"1 2\\\\n"
    "\\\", \\\"output\\\": \\\"3\\\\n\\\", \\\"testtyp"
    "e\\\": \\\"stdin\\\"}]\", \"private_test_cases\""
    ": \"[{\\\"input\\\": \\\"4 5\\\\n\\\", \\\"outpu"
    "t\\\": \\\"9\\\\n\\\", \\\"testtype\\\": \\\"stdin\\\"}]\", \"metadata\": \"{}\"}\n";

static const char apps_record[] =
    "{\"problem_id\": 3, \"question\": \"Add two numbers.\", \"solutions\": \"[]\", \"inpu"
    "t_output\": \"{\\\"inputs\\\": [\\\"1 2\\\\n\\\", "
    "\\\"3 4\\\\n\\\"], \\\"outputs\\\": [\\\"3\\\\n\\\","
    " \\\"7\\\\n\\\"]}\", \"difficulty\": \"introductory\", \"starter_code\": \"\"}\n";

static const char apps_function_record[] =
    "{\"problem_id\": 4, \"question\": \"Add two numbers.\", \"solutions\": \"[]\", \"inpu"
    "t_output\": \"{\\\"fn_name\\\": \\\"add\\\", \\\"inputs\\\": [[1, 2], [3, 4]], \\\"outputs"
    "\\\": [[3], 7]}\", \"starter_code\": \"def add(a, b):\\n\\t\"}\n";

static const char taco_record[] =
    "{\"question\": \"Add two numbers.\", \"solutions\": \"[]\", \"starter_code\": \"\", \"i"
    "nput_output\": \"{\\\"inputs\\\": [[\\\"1 2\\\"]"
    ", [\\\"3 4\\\"]], \\\"outputs\\\": [[\\\"3\\\"],"
    " [\\\"7\\\"]]}\", \"difficulty\": \"EASY\", \"time_limit\": \"1.0 seconds\", \"source\": "
    "\"own\"}\n";

static char directory[] = "/tmp/hone-records-XXXXXX";
static char path[FILE_PATH_MAX];
static struct reward_host *host;

static int set_up(void **state)
{
    struct sandbox_config config;
    struct config_binding binding = {&sandbox_config_section, &config};
    struct judge *judge;

    (void)state;
    config_set_defaults(&binding, 1);
    host = host_create(&config);
    if (host_judge(host_face(host), &judge) < 0) {
        print_message("SKIP: %s\n", status_reason());
        host_destroy(&host);
    }
    return !mkdtemp(directory) || file_join(path, directory, "rows.jsonl") ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    host_destroy(&host);
    return file_remove_tree(directory);
}

static int open_record(struct task_set **set, const char *record, const char *format)
{
    struct tasks_config config;
    struct config_binding binding = {&tasks_config_section, &config};
    struct chat_template chat;
    char assignment[64];

    config_set_defaults(&binding, 1);
    snprintf(assignment, sizeof(assignment), "tasks.format=%s", format);
    assert_int_equal(config_override(assignment, &binding, 1), STATUS_OK);
    assert_int_equal(file_write_atomic(path, record, strlen(record)), STATUS_OK);
    assert_int_equal(chat_template_init(&chat, "plain"), STATUS_OK);
    int status = task_set_open(set, path, "", &chat, &config);
    chat_template_release(&chat);
    return status;
}

static void expect(const struct task *task, const char *completion, enum verifier_outcome outcome)
{
    struct verifier_task asked = {.size = sizeof(asked), .completion = text_of(completion),
                                  .reference = {task->reference.data, task->reference.bytes}};
    struct verifier_verdict verdict = {.size = sizeof(verdict), .outcome = VERIFIER_ERROR};
    void *made;

    assert_int_equal(verifier_code.create(host_face(host), text_of(""), &made), 0);
    assert_int_equal(verifier_code.score(made, &asked, &verdict), 0);
    verifier_code.destroy(made);
    if (verdict.outcome != (uint32_t)outcome)
        fail_msg("%s: outcome %u: %s", completion, (unsigned)verdict.outcome, verdict.detail);
}

/* Told by itself and by name; the right answer passes, the wrong one does not. */
static void check_record(const char *record, const char *format, const char *right,
                         const char *wrong)
{
    const char *formats[] = {"auto", format};

    for (size_t i = 0; i < N_OF(formats); i++) {
        struct task_set *set;

        if (open_record(&set, record, formats[i]) < 0)
            fail_msg("%s: %s", formats[i], status_reason());
        assert_int_equal(task_set_count(set), 1);
        assert_string_equal(task_set_get(set, 0)->verifier, "code");
        if (host && i == 0) {
            expect(task_set_get(set, 0), right, VERIFIER_RIGHT);
            expect(task_set_get(set, 0), wrong, VERIFIER_WRONG);
        }
        task_set_close(&set);
    }
}

#define PYTHON(text) "```python\n" text "\n```\n"

static void humaneval_tests_are_run_beside_the_answer(void **state)
{
    (void)state;
    check_record(humaneval_record, "humaneval",
                 PYTHON("def spread(items, by):\n    return [i * by for i in items]"),
                 PYTHON("def spread(items, by):\n    return list(items)"));
}

static void mbpp_tests_are_a_list_of_asserts(void **state)
{
    struct task_set *set;

    (void)state;
    check_record(mbpp_record, "mbpp", PYTHON("def drop(s):\n    return s[1:]"),
                 PYTHON("def drop(s):\n    return s[:-1]"));
    assert_int_equal(open_record(&set, mbpp_record, "mbpp"), STATUS_OK);
    assert_string_equal(task_set_get(set, 0)->question.data,
                        "Write a function to drop the first letter.\n\nIt will be called like "
                        "this: drop(\"abc\")");
    assert_int_equal(task_set_get(set, 0)->id, 7);
    task_set_close(&set);
}

static void livecodebench_tests_are_functional_or_by_stdin(void **state)
{
    (void)state;
    check_record(livecodebench_record, "livecodebench",
                 PYTHON("class Solution:\n    def scale(self, items: List[int], by):\n"
                        "        return [i * by for i in items]"),
                 /* right on the public test alone: the private ones were read too */
                 PYTHON("class Solution:\n    def scale(self, items, by):\n"
                        "        return [3, 6]"));
    check_record(livecodebench_stdin_record, "livecodebench",
                 PYTHON("print(sum(map(int, input().split())))"), PYTHON("print(3)"));
}

static void apps_and_taco_have_inputs_and_outputs(void **state)
{
    (void)state;
    check_record(apps_record, "apps", PYTHON("print(sum(map(int, input().split())))"),
                 PYTHON("print(3)"));
    check_record(apps_function_record, "apps", PYTHON("def add(a, b):\n    return a + b"),
                 PYTHON("def add(a, b):\n    return 3"));
    check_record(taco_record, "taco", PYTHON("print(sum(map(int, input().split())))"),
                 PYTHON("print(3)"));
}

static void records_without_tests_are_refused(void **state)
{
    static const struct {
        const char *format, *record, *reason;
    } cases[] = {
        {"humaneval", "{\"prompt\":\"def f(): pass\",\"entry_point\":\"f\"}", "key \"test\""},
        {"mbpp", "{\"text\":\"t\",\"test_list\":[]}", "has no test"},
        {"mbpp", "{\"text\":\"t\",\"test_list\":[\"assert 1\",2]}", "line 1 is no text"},
        {"apps", "{\"question\":\"t\",\"input_output\":\"{}\"}", "0 inputs"},
        {"apps", "{\"question\":\"t\",\"input_output\":{\"inputs\":[\"1\"],\"outputs\":[]}}",
         "1 inputs and 0 outputs"},
        {"apps", "{\"question\":\"t\",\"input_output\":\"{\"}", "not valid JSON"},
        {"taco", "{\"question\":\"t\"}", "\"input_output\" is missing"},
        {"livecodebench", "{\"question_content\":\"t\",\"public_test_cases\":\"[]\"}",
         "0 tests by stdin and 0"},
        {"livecodebench", "{\"question_content\":\"t\",\"public_test_cases\":\"[]\","
                          "\"private_test_cases\":\"eJwrtAUA\"}", "neither JSON nor"},
        {"livecodebench", "{\"question_content\":\"t\",\"public_test_cases\":\"[]\","
                          "\"private_test_cases\":\"?\"}", "neither JSON nor"},
    };

    (void)state;
    for (size_t i = 0; i < N_OF(cases); i++) {
        struct task_set *set;

        assert_int_equal(open_record(&set, cases[i].record, cases[i].format), STATUS_FORMAT);
        if (!strstr(status_reason(), cases[i].reason) ||
            !strstr(status_reason(), "rows.jsonl:1"))
            fail_msg("case %zu: \"%s\" does not say \"%s\"", i, status_reason(), cases[i].reason);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(humaneval_tests_are_run_beside_the_answer),
        cmocka_unit_test(mbpp_tests_are_a_list_of_asserts),
        cmocka_unit_test(livecodebench_tests_are_functional_or_by_stdin),
        cmocka_unit_test(apps_and_taco_have_inputs_and_outputs),
        cmocka_unit_test(records_without_tests_are_refused),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
