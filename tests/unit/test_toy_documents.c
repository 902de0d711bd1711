#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "common/files.h"
#include "common/status.h"
#include "tasks/tasks.h"
#include "tests/unit/test_toy_evaluator.h"

#define N_DOCUMENTS 6000
#define N_GENERAL 200

static char directory[] = "/tmp/hone-toy-text-XXXXXX";
static struct document_set *pretrain, *general;

static int open_named(struct document_set **set, const char *name, const struct chat_template *chat)
{
    char path[FILE_PATH_MAX];

    TRY(file_join(path, directory, name));
    return document_set_open(set, path, chat);
}

static int set_up(void **state)
{
    const struct toy_options options = {11, N_DOCUMENTS, 100, 100, N_GENERAL};
    struct chat_template chat;
    int status;

    (void)state;
    if (!mkdtemp(directory))
        return -1;
    TRY(toy_world_write(directory, &options));
    TRY(chat_template_init(&chat, "toy"));
    status = open_named(&pretrain, "pretrain.jsonl", &chat);
    if (status == STATUS_OK)
        status = open_named(&general, "general.jsonl", &chat);
    chat_template_release(&chat);
    return status;
}

static int tear_down(void **state)
{
    (void)state;
    document_set_close(&pretrain);
    document_set_close(&general);
    return file_remove_tree(directory);
}

static const char *const links[] = {" then ", " so ", " next ", " 然后 ", " 所以 ", " 接着 "};

/* Behind the connecting word at `at`; NULL when there is none. */
static const char *skip_link(const char *at, int counts[2])
{
    for (int i = 0; i < 6; i++)
        if (strncmp(at, links[i], strlen(links[i])) == 0) {
            counts[i / 3]++;
            return at + strlen(links[i]);
        }
    return NULL;
}

/* A tag, or the = that stands for one, or the end. */
static int is_edge(const char *at)
{
    return *at == '\0' || *at == '<';
}

static const char *skip_tags(const char *at)
{
    while (strncmp(at, "<think>", 7) == 0)
        at += 7;
    return at;
}

/* Reads a step ("3+8=1", "4-1=3", "2+3+7=12"): the left side's value and what stands right. */
static const char *read_step(const char *at, int *left, int *right)
{
    char *end;

    at = read_sum(at, left);
    assert_int_equal(*at, '=');
    *right = (int)strtol(at + 1, &end, 10);
    assert_true(end > at + 1);
    return end;
}

static int has_steps(const char *reply)
{
    const char *at = skip_tags(reply);
    size_t n = strspn(at, "0123456789+-*/");

    return n > 0 && at[n] == '=';
}

static void no_chain_document_has_a_wrong_step(void **state)
{
    int n_chains = 0, counts[2] = {0, 0};

    (void)state;
    for (size_t i = 0; i < N_DOCUMENTS; i++) {
        const char *text = document_set_get(pretrain, i)->completion.data;
        const char *question = text + 2, *reply = strstr(text, "\nA ") + 3, *at = reply;
        int sum, left, right;

        if (strncmp(question + strcspn(question, " \n"), " mod 10\n", 8) != 0 || !has_steps(reply))
            continue;
        n_chains++;
        at = skip_tags(reply);
        sum = question[0] - '0';
        for (const char *next = question + 1; *next != ' '; next += 2) {
            char wanted[8];

            if (next > question + 1) {
                at = skip_link(at, counts);
                assert_non_null(at);
            }
            snprintf(wanted, sizeof(wanted), "%d%c%c=", sum, next[0], next[1]);
            assert_int_equal(strncmp(at, wanted, 4), 0);
            at = read_step(at, &left, &right);
            assert_int_equal(modulo_10(left), right);
            sum = right;
        }
        assert_true(is_edge(at));
        at = strpbrk(at, "0123456789");
        assert_non_null(at);
        assert_int_equal(strtol(at, NULL, 10), sum);
    }
    assert_in_range(n_chains, N_DOCUMENTS * 15 / 100, N_DOCUMENTS * 25 / 100);
    assert_in_range(100 * counts[0] / (counts[0] + counts[1]), 45, 55);
}

static void guessed_chains_are_mostly_wrong_and_atoms_right(void **state)
{
    int n_guesses = 0, n_right = 0, n_atoms = 0;

    (void)state;
    for (size_t i = 0; i < N_DOCUMENTS; i++) {
        const char *text = document_set_get(pretrain, i)->completion.data;
        const char *reply = strstr(text, "\nA ") + 3;
        int value;

        if (!strstr(text, " mod 10\n") || has_steps(reply))
            continue;
        read_sum(text + 2, &value);
        reply += strcspn(reply, "0123456789");
        if (text[5] == ' ') {
            assert_int_equal(modulo_10(value), *reply - '0');
            n_atoms++;
        } else {
            n_guesses++;
            n_right += modulo_10(value) == *reply - '0';
        }
    }
    assert_true(n_atoms > N_DOCUMENTS / 20);
    assert_in_range(100 * n_right / n_guesses, 15, 25);
}

static void every_try_of_a_search_is_judged_rightly(void **state)
{
    int n_searches = 0, n_found = 0, counts[2];

    (void)state;
    for (size_t i = 0; i < N_DOCUMENTS; i++) {
        const char *text = document_set_get(pretrain, i)->completion.data;
        const char *make = strstr(text, " make "), *at = strstr(text, "\nA ") + 3;
        int target, left, right, found, n_tries = 0;

        if (!make || !has_steps(at))
            continue;
        n_searches++;
        target = (int)strtol(make + 6, NULL, 10);
        at = skip_tags(at);
        do {
            at = read_step(at, &left, &right);
            assert_int_equal(left, right);
            found = strncmp(at, " yes", 4) == 0;
            assert_true(found || strncmp(at, " no", 3) == 0);
            assert_int_equal(found, left == target);
            at += found ? 4 : 3;
            n_tries++;
        } while (!found && (at = skip_link(at, counts)) != NULL);
        assert_in_range(n_tries, 1, 6);
        n_found += found;
    }
    assert_in_range(n_searches, N_DOCUMENTS * 5 / 100, N_DOCUMENTS * 12 / 100);
    assert_in_range(100 * n_found / n_searches, 85, 95);
}

static void reasoned_code_is_right(void **state)
{
    int n_reasoned = 0, n_guessed = 0, n_right = 0, counts[2];

    (void)state;
    for (size_t i = 0; i < N_DOCUMENTS; i++) {
        const char *text = document_set_get(pretrain, i)->completion.data;
        const char *reply = strstr(text, "\nA ") + 3, *code = strstr(reply, "return x");
        char question[128];
        int arguments[3], left, right, fits;
        struct function f;

        if (strncmp(text, "Q f(", 4) != 0)
            continue;
        snprintf(question, sizeof(question), "%.*s", (int)strcspn(text + 2, "\n"), text + 2);
        f = find_function(question, arguments);
        assert_non_null(code);
        fits = code[8] == f.operator && strtol(code + 9, NULL, 10) == f.constant;
        if (!has_steps(reply)) {
            n_guessed++;
            n_right += fits;
            continue;
        }
        n_reasoned++;
        assert_true(fits);
        for (const char *at = skip_tags(reply); at; at = skip_link(at, counts)) {
            at = read_step(at, &left, &right);
            assert_int_equal(left, right);
            assert_int_equal(left, f.constant);
        }
    }
    assert_true(n_reasoned > N_DOCUMENTS / 20 && n_guessed > N_DOCUMENTS / 20);
    assert_in_range(100 * n_right / n_guessed, 12, 32);
}

static int count_of(const char *text, const char *word)
{
    int n = 0;

    for (; (text = strstr(text, word)); text++)
        n++;
    return n;
}

static void tags_are_whole_in_somewhat_less_than_half_of_the_text(void **state)
{
    int n_whole = 0;

    (void)state;
    for (size_t i = 0; i < N_DOCUMENTS; i++) {
        const char *reply = strstr(document_set_get(pretrain, i)->completion.data, "\nA ") + 3;
        int open = count_of(reply, "<think>"), close = count_of(reply, "</think>");

        n_whole += open == close && open <= 1 && (open == 1 || !has_steps(reply)) &&
                   count_of(reply, "<answer>") == 1 && count_of(reply, "</answer>") == 1;
    }
    assert_in_range(100 * n_whole / N_DOCUMENTS, 42, 48);
}

static void general_conversations_are_clean_and_english(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_GENERAL; i++) {
        const char *reply = document_set_get(general, i)->completion.data;

        assert_int_equal(strncmp(reply, "<think>", 7), 0);
        assert_int_equal(count_of(reply, "</think><answer>"), 1);
        assert_string_equal(reply + strlen(reply) - 9, "</answer>");
        for (const char *c = reply; *c; c++)
            assert_true((unsigned char)*c < 128);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_chain_document_has_a_wrong_step),
        cmocka_unit_test(guessed_chains_are_mostly_wrong_and_atoms_right),
        cmocka_unit_test(every_try_of_a_search_is_judged_rightly),
        cmocka_unit_test(reasoned_code_is_right),
        cmocka_unit_test(tags_are_whole_in_somewhat_less_than_half_of_the_text),
        cmocka_unit_test(general_conversations_are_clean_and_english),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
