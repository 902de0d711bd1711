#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/files.h"
#include "common/json.h"
#include "common/status.h"
#include "tasks/tasks.h"
#include "tests/unit/test_toy_evaluator.h"

#define N_DOCUMENTS 6000
#define N_TRAIN 1000
#define N_HELDOUT 300
#define N_GENERAL 200

static const char *const files[] = {"tokenizer.json", "pretrain.jsonl", "train.jsonl",
                                    "heldout.jsonl", "general.jsonl"};
static const char *const kind_names[] = {"chain", "search", "code", "fact"};
static const struct toy_options options = {5, N_DOCUMENTS, N_TRAIN, N_HELDOUT, N_GENERAL};

static char directory[] = "/tmp/hone-toy-XXXXXX";
static struct task_set *train, *heldout;
static struct document_set *pretrain, *general;

static const char *in_directory(const char *name)
{
    static char path[FILE_PATH_MAX];

    return file_join(path, directory, name) ? NULL : path;
}

static int set_up(void **state)
{
    static const struct tasks_config config = {.language = "zh"};
    struct chat_template chat;
    int status;

    (void)state;
    if (!mkdtemp(directory))
        return -1;
    TRY(toy_world_write(directory, &options));
    TRY(chat_template_init(&chat, "toy"));
    TRY_OUT(task_set_open(&train, in_directory("train.jsonl"), "", &chat, &config));
    TRY_OUT(task_set_open(&heldout, in_directory("heldout.jsonl"), "", &chat, &config));
    TRY_OUT(document_set_open(&pretrain, in_directory("pretrain.jsonl"), &chat));
    TRY_OUT(document_set_open(&general, in_directory("general.jsonl"), &chat));
out:
    chat_template_release(&chat);
    return status;
}

static int tear_down(void **state)
{
    (void)state;
    task_set_close(&train);
    task_set_close(&heldout);
    document_set_close(&pretrain);
    document_set_close(&general);
    return file_remove_tree(directory);
}

static int is_reachable(const int numbers[3], int target)
{
    for (int code = 0; code < 27 * 9; code++) {
        int order[3] = {code % 3, code / 3 % 3, code / 9 % 3}, value;
        char expression[64];

        if (order[0] == order[1] || order[0] == order[2] || order[1] == order[2])
            continue;
        snprintf(expression, sizeof(expression), "%d%c%d%c%d", numbers[order[0]],
                 "+-*"[code / 27 % 3], numbers[order[1]], "+-*"[code / 81], numbers[order[2]]);
        read_sum(expression, &value);
        if (value == target)
            return 1;
    }
    return 0;
}

/* ---- Tasks. */
static void check_code_task(const struct task *task)
{
    int arguments[3];
    struct function f = find_function(task->question.data, arguments);
    json_t *reference, *test;
    size_t i;

    assert_int_equal(json_parse(&reference, task->reference.data, task->reference.bytes, "code"),
                     STATUS_OK);
    assert_string_equal(json_string_value(json_object_get(reference, "function")), "int f(int x)");
    assert_in_range(json_array_size(json_object_get(reference, "tests")), 4, 6);
    json_array_foreach(json_object_get(reference, "tests"), i, test)
    {
        int x = (int)strtol(json_string_value(json_object_get(test, "args")), NULL, 10);
        int want = (int)strtol(json_string_value(json_object_get(test, "want")), NULL, 10);

        assert_int_equal(value_at(f, x), want);
        assert_true(x != arguments[0] && x != arguments[1] && x != arguments[2]);
    }
    json_decref(reference);
}

static void check_task(const struct task *task)
{
    int numbers[3], named[3], target, named_target, value;

    assert_string_equal(task->language, "en");
    if (strcmp(task->kind, "chain") == 0) {
        assert_string_equal(task->verifier, "math");
        assert_string_equal(read_sum(task->question.data, &value), " mod 10");
        assert_int_equal(modulo_10(value), strtol(task->reference.data, NULL, 10));
    } else if (strcmp(task->kind, "search") == 0) {
        assert_string_equal(task->verifier, "countdown");
        assert_int_equal(sscanf(task->question.data, "%d %d %d make %d", &numbers[0], &numbers[1],
                                &numbers[2], &target), 4);
        assert_int_equal(sscanf(task->reference.data, "numbers=%d,%d,%d target=%d", &named[0],
                                &named[1], &named[2], &named_target), 4);
        assert_memory_equal(numbers, named, sizeof(numbers));
        assert_int_equal(target, named_target);
        assert_true(is_reachable(numbers, target));
    } else if (strcmp(task->kind, "code") == 0) {
        assert_string_equal(task->verifier, "code");
        check_code_task(task);
    } else {
        assert_string_equal(task->kind, "fact");
        assert_string_equal(task->verifier, "exact");
        assert_true(task->reference.bytes > 0);
    }
}

static void every_reference_is_right(void **state)
{
    (void)state;
    for (size_t i = 0; i < task_set_count(train); i++)
        check_task(task_set_get(train, i));
    for (size_t i = 0; i < task_set_count(heldout); i++)
        check_task(task_set_get(heldout, i));
}

static void kinds_have_their_shares(void **state)
{
    const int wanted[] = {500, 200, 250, 50};

    (void)state;
    assert_int_equal(task_set_count(train), N_TRAIN);
    assert_int_equal(task_set_count(heldout), N_HELDOUT);
    assert_int_equal(document_set_count(pretrain), N_DOCUMENTS);
    assert_int_equal(document_set_count(general), N_GENERAL);
    for (int kind = 0; kind < 4; kind++) {
        int n = 0;

        for (size_t i = 0; i < task_set_count(train); i++)
            n += strcmp(task_set_get(train, i)->kind, kind_names[kind]) == 0;
        assert_int_equal(n, wanted[kind]);
    }
}

/* What makes two tasks the same: the question, or for search its numbers in any order. */
static void write_key(const char *question, size_t n, char key[128])
{
    int numbers[4], n_read = sscanf(question, "%d %d %d make %d", &numbers[0], &numbers[1],
                                    &numbers[2], &numbers[3]);

    if (n_read != 4) {
        snprintf(key, 128, "%.*s", (int)n, question);
        return;
    }
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < 2; i++)
            if (numbers[i] > numbers[i + 1]) {
                int swap = numbers[i];
                numbers[i] = numbers[i + 1];
                numbers[i + 1] = swap;
            }
    snprintf(key, 128, "%d %d %d make %d", numbers[0], numbers[1], numbers[2], numbers[3]);
}

static int is_heldout(const char *question, size_t n)
{
    static char keys[N_HELDOUT][128];
    char key[128];

    for (size_t i = 0; !keys[N_HELDOUT - 1][0] && i < N_HELDOUT; i++) {
        const struct wire_text *text = &task_set_get(heldout, i)->question;

        write_key(text->data, text->bytes, keys[i]);
    }
    write_key(question, n, key);
    for (size_t i = 0; i < N_HELDOUT; i++)
        if (strcmp(keys[i], key) == 0)
            return 1;
    return 0;
}

static void heldout_questions_are_unique_and_nowhere_else(void **state)
{
    (void)state;
    assert_true(is_heldout(task_set_get(heldout, 0)->question.data,
                           task_set_get(heldout, 0)->question.bytes));
    for (size_t i = 0; i < N_HELDOUT; i++)
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(task_set_get(heldout, i)->question.data,
                                    task_set_get(heldout, j)->question.data);
    for (size_t i = 0; i < N_TRAIN; i++)
        assert_false(is_heldout(task_set_get(train, i)->question.data,
                                task_set_get(train, i)->question.bytes));
    for (size_t i = 0; i < N_DOCUMENTS; i++) {
        const char *question = document_set_get(pretrain, i)->completion.data + 2;

        assert_false(is_heldout(question, strcspn(question, "\n")));
    }
    for (size_t i = 0; i < N_GENERAL; i++) {
        const char *question = document_set_get(general, i)->prompt.data + 2;

        assert_false(is_heldout(question, strcspn(question, "\n")));
    }
}

/* ---- Files. */
static void read_named(const char *where, const char *name, struct text *out)
{
    char path[FILE_PATH_MAX];

    assert_int_equal(file_join(path, where, name), STATUS_OK);
    text_clear(out);
    assert_int_equal(file_read(path, 1 << 24, out), STATUS_OK);
}

static int differs(const char *name, const struct toy_options *other)
{
    char second[FILE_PATH_MAX];
    struct text a = {0}, b = {0};
    int result;

    assert_int_equal(file_join(second, directory, "second"), STATUS_OK);
    assert_int_equal(file_make_directories(second), STATUS_OK);
    assert_int_equal(toy_world_write(second, other), STATUS_OK);
    read_named(directory, name, &a);
    read_named(second, name, &b);
    result = a.length != b.length || memcmp(a.data, b.data, a.length) != 0;
    text_release(&a);
    text_release(&b);
    return result;
}

static void the_same_options_give_the_same_bytes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        assert_false(differs(files[i], &options));
}

static void another_seed_gives_other_rows(void **state)
{
    struct toy_options other = options;

    (void)state;
    other.seed++;
    assert_false(differs("tokenizer.json", &other));
    for (size_t i = 1; i < sizeof(files) / sizeof(files[0]); i++)
        assert_true(differs(files[i], &other));
}

static void the_number_of_other_rows_changes_no_heldout_task(void **state)
{
    struct toy_options other = options;

    (void)state;
    other.n_documents = 10;
    other.n_train = 10;
    other.n_general = 0;
    assert_false(differs("heldout.jsonl", &other));
    assert_true(differs("train.jsonl", &other));
}

static void the_largest_heldout_set_can_be_drawn(void **state)
{
    struct toy_options other = {7, 100, 3000, 2000, 10};

    (void)state;
    assert_true(differs("heldout.jsonl", &other));
}

static void bad_options_are_refused(void **state)
{
    struct toy_options bad = options;

    (void)state;
    bad.n_train = -1;
    assert_int_equal(toy_world_write(directory, &bad), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "n_train is -1"));
    bad = options;
    bad.n_heldout = 2001;
    assert_int_equal(toy_world_write(directory, &bad), STATUS_CONFIG);
    assert_int_equal(toy_world_write("/nonexistent/toy", &options), STATUS_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_reference_is_right),
        cmocka_unit_test(kinds_have_their_shares),
        cmocka_unit_test(heldout_questions_are_unique_and_nowhere_else),
        cmocka_unit_test(the_same_options_give_the_same_bytes),
        cmocka_unit_test(another_seed_gives_other_rows),
        cmocka_unit_test(the_number_of_other_rows_changes_no_heldout_task),
        cmocka_unit_test(the_largest_heldout_set_can_be_drawn),
        cmocka_unit_test(bad_options_are_refused),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
