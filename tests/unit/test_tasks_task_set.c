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
#include "tasks/tasks.h"

static char directory[] = "/tmp/hone-tasks-XXXXXX";
static char path[FILE_PATH_MAX];
static struct chat_template chat;

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(directory) || file_join(path, directory, "tasks.jsonl"))
        return -1;
    return chat_template_init(&chat, "Q {question}\nA {prefill}<think>");
}

static int tear_down(void **state)
{
    (void)state;
    chat_template_release(&chat);
    return file_remove_tree(directory);
}

static int open_text(struct task_set **set, const char *text, const char *kinds)
{
    assert_int_equal(file_write_atomic(path, text, strlen(text)), STATUS_OK);
    return task_set_open(set, path, kinds, &chat, NULL);
}

static void assert_refused(const char *text, const char *reason_part)
{
    struct task_set *set;

    assert_int_equal(open_text(&set, text, ""), STATUS_FORMAT);
    assert_null(set);
    if (!strstr(status_reason(), reason_part))
        fail_msg("\"%s\" does not hold \"%s\"", status_reason(), reason_part);
}

static void a_full_row_is_read_whole(void **state)
{
    struct task_set *set;
    const struct task *task;

    (void)state;
    assert_int_equal(open_text(&set, "{\"question\":\"1+1\",\"reference\":\"2\",\"verifier\":"
                                     "\"exact\",\"kind\":\"sum\",\"language\":\"zh\",\"id\":7,"
                                     "\"source\":\"ignored\"}\n", ""), STATUS_OK);
    assert_int_equal(task_set_count(set), 1);
    task = task_set_get(set, 0);
    assert_int_equal(task->id, 7);
    assert_string_equal(task->kind, "sum");
    assert_string_equal(task->verifier, "exact");
    assert_string_equal(task->language, "zh");
    assert_string_equal(task->question.data, "1+1");
    assert_int_equal(task->question.bytes, 3);
    assert_string_equal(task->prompt.data, "Q 1+1\nA <think>");
    assert_int_equal(task->prompt.bytes, strlen(task->prompt.data));
    assert_string_equal(task->prefill.data, "<think>");
    assert_int_equal(task->prefill.bytes, 7);
    assert_string_equal(task->reference.data, "2");
    task_set_close(&set);
    assert_null(set);
    task_set_close(&set);
}

static void missing_keys_take_their_defaults_and_other_names_work(void **state)
{
    struct task_set *set;

    (void)state;
    assert_int_equal(open_text(&set,
                               "\n  \t\r\n{\"prompt\":\"a\",\"answer\":12}\r\n\n"
                               "{\"question\":\"b\",\"ground_truth\":[1, {\"b\":2,\"a\":\"x\"}]}",
                               NULL), STATUS_OK);
    assert_int_equal(task_set_count(set), 2);
    assert_string_equal(task_set_get(set, 0)->reference.data, "12");
    assert_string_equal(task_set_get(set, 0)->verifier, "math");
    assert_string_equal(task_set_get(set, 0)->kind, "math");
    assert_string_equal(task_set_get(set, 0)->language, "en");
    assert_string_equal(task_set_get(set, 1)->reference.data, "[1,{\"b\":2,\"a\":\"x\"}]");
    task_set_close(&set);
}

static void derived_ids_are_stable_positive_and_depend_on_row_and_question(void **state)
{
    struct task_set *set;
    uint64_t first, second;

    (void)state;
    assert_int_equal(open_text(&set, "{\"question\":\"a\",\"reference\":\"\"}\n"
                                     "{\"question\":\"a\",\"reference\":\"\"}\n", ""), STATUS_OK);
    first = task_set_get(set, 0)->id;
    second = task_set_get(set, 1)->id;
    assert_int_not_equal(first, second);
    assert_true(first <= INT64_MAX && second <= INT64_MAX);
    task_set_close(&set);
    assert_int_equal(open_text(&set, "\n{\"question\":\"b\",\"reference\":\"\"}\n"
                                     "\n{\"question\":\"a\",\"reference\":\"\"}\n", ""), STATUS_OK);
    assert_int_not_equal(task_set_get(set, 0)->id, first);
    assert_int_equal(task_set_get(set, 1)->id, second);
    task_set_close(&set);
}

static void bad_lines_are_named(void **state)
{
    const char *good = "{\"question\":\"a\",\"reference\":\"b\",\"id\":1}\n";
    char text[512];

    (void)state;
    assert_refused("{\"question\":\"a\"\n", "tasks.jsonl:1:");
    assert_refused("\n\n[1]\n", "tasks.jsonl:3: a line must be one JSON object");
    assert_refused("{\"reference\":\"b\"}\n", "tasks.jsonl:1: key \"question\"");
    assert_refused("{\"question\":3,\"reference\":\"b\"}\n", "key \"question\" must be a string");
    assert_refused("{\"question\":\"\",\"reference\":\"b\"}\n", "key \"question\" must be");
    assert_refused("{\"question\":\"a\"}\n", "key \"reference\"");
    assert_refused("{\"question\":\"a\",\"reference\":1.5}\n", "key \"reference\" must be");
    assert_refused("{\"question\":\"a\",\"answer\":true}\n", "key \"answer\" must be");
    assert_refused("{\"question\":\"a\",\"reference\":\"b\",\"kind\":5}\n", "key \"kind\"");
    assert_refused("{\"question\":\"a\",\"reference\":\"b\",\"kind\":\"\"}\n", "key \"kind\"");
    assert_refused("{\"question\":\"a\",\"reference\":\"b\",\"verifier\":"
                   "\"12345678901234567890123456789012\"}\n", "1 to 31");
    assert_refused("{\"question\":\"a\",\"reference\":\"b\",\"id\":-1}\n", "key \"id\"");
    assert_refused("", "no task");
    snprintf(text, sizeof(text), "%s\n%s", good, good);
    assert_refused(text, "tasks.jsonl:3: key \"id\": line 1 has the same");
}

static void an_absent_file_is_an_input_error(void **state)
{
    struct task_set *set;

    (void)state;
    assert_int_equal(task_set_open(&set, "/nonexistent/x.jsonl", "", &chat, NULL), STATUS_IO);
    assert_null(set);
    assert_non_null(strstr(status_reason(), "/nonexistent/x.jsonl"));
}

static void only_the_kinds_that_are_asked_for_are_kept(void **state)
{
    const char *text = "{\"question\":\"a\",\"reference\":\"b\",\"kind\":\"x\"}\n"
                       "{\"question\":\"c\",\"reference\":\"d\",\"kind\":\"y\"}\n"
                       "{\"question\":\"e\",\"reference\":\"f\",\"kind\":\"xy\"}\n";
    struct task_set *set;

    (void)state;
    assert_int_equal(open_text(&set, text, "xy, x"), STATUS_OK);
    assert_int_equal(task_set_count(set), 2);
    assert_string_equal(task_set_get(set, 1)->question.data, "e");
    task_set_close(&set);
    assert_int_equal(open_text(&set, text, "z"), STATUS_CONFIG);
    assert_null(set);
}

static void the_digest_is_the_files(void **state)
{
    struct task_set *set;
    struct digest of_set, of_file;

    (void)state;
    assert_int_equal(open_text(&set, "{\"question\":\"a\",\"reference\":\"b\"}\n", ""), STATUS_OK);
    task_set_digest(set, &of_set);
    assert_int_equal(digest_of_file(&of_file, path), STATUS_OK);
    assert_memory_equal(&of_set, &of_file, sizeof(of_set));
    task_set_close(&set);
}

static struct task_set *open_numbered(int n)
{
    struct text text = {0};
    struct task_set *set;

    for (int i = 0; i < n; i++)
        text_print(&text, "{\"question\":\"q%d\",\"reference\":\"\",\"id\":%d}\n", i, i);
    assert_int_equal(open_text(&set, text.data, ""), STATUS_OK);
    text_release(&text);
    return set;
}

static void pick_visits_every_task_once_an_epoch(void **state)
{
    const int sizes[] = {1, 2, 3, 4, 5, 16, 17, 100, 257};

    (void)state;
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        struct task_set *set = open_numbered(sizes[s]);

        for (uint64_t epoch = 0; epoch < 4; epoch++) {
            char seen[300] = {0};

            for (int i = 0; i < sizes[s]; i++) {
                uint64_t at = epoch * (uint64_t)sizes[s] + (uint64_t)i;

                seen[task_set_pick(set, 9, at)->id]++;
            }
            for (int i = 0; i < sizes[s]; i++)
                assert_int_equal(seen[i], 1);
        }
        task_set_close(&set);
    }
}

static void pick_depends_on_seed_and_epoch_and_on_nothing_else(void **state)
{
    struct task_set *set = open_numbered(200);
    int same_epoch = 0, same_seed = 0, same_place = 0;

    (void)state;
    for (uint64_t i = 0; i < 200; i++) {
        uint64_t id = task_set_pick(set, 1, i)->id;

        assert_int_equal(id, task_set_pick(set, 1, i)->id);
        same_epoch += id == task_set_pick(set, 1, 200 + i)->id;
        same_seed += id == task_set_pick(set, 2, i)->id;
        same_place += id == i;
    }
    assert_true(same_epoch < 20 && same_seed < 20 && same_place < 20);
    task_set_close(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_row_is_read_whole),
        cmocka_unit_test(missing_keys_take_their_defaults_and_other_names_work),
        cmocka_unit_test(derived_ids_are_stable_positive_and_depend_on_row_and_question),
        cmocka_unit_test(bad_lines_are_named),
        cmocka_unit_test(an_absent_file_is_an_input_error),
        cmocka_unit_test(only_the_kinds_that_are_asked_for_are_kept),
        cmocka_unit_test(the_digest_is_the_files),
        cmocka_unit_test(pick_visits_every_task_once_an_epoch),
        cmocka_unit_test(pick_depends_on_seed_and_epoch_and_on_nothing_else),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
