#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "common/status.h"
#include "tasks/tasks.h"

static void every_row_has_text_and_ends_in_its_prefill(void **state)
{
    (void)state;
    for (size_t i = 0; chat_template_name(i); i++) {
        struct chat_template chat;
        size_t n_after, n_prefill;

        assert_int_equal(chat_template_init(&chat, chat_template_name(i)), STATUS_OK);
        n_after = strlen(chat.after);
        n_prefill = strlen(chat.prefill);
        assert_true(n_after > 0 && n_prefill <= n_after);
        assert_string_equal(chat.after + n_after - n_prefill, chat.prefill);
        assert_null(strchr(chat.after, '{'));
        assert_int_equal(chat.system_before == NULL, chat.system_after == NULL);
        chat_template_release(&chat);
    }
}

static void r1_zero_is_the_text_of_the_paper(void **state)
{
    struct chat_template chat;

    (void)state;
    assert_int_equal(chat_template_init(&chat, "r1_zero"), STATUS_OK);
    assert_string_equal(
        chat.before,
        "A conversation between User and Assistant. The user asks a question, and the Assistant "
        "solves it. The assistant first thinks about the reasoning process in the mind and then "
        "provides the user with the answer. The reasoning process and answer are enclosed within "
        "<think> </think> and <answer> </answer> tags, respectively, i.e., <think> reasoning "
        "process here </think> <answer> answer here </answer>. User: ");
    assert_string_equal(chat.after, ". Assistant:");
    assert_string_equal(chat.prefill, "");
    chat_template_release(&chat);
    assert_int_equal(chat_template_init(&chat, "r1_zero_think"), STATUS_OK);
    assert_string_equal(chat.after, ". Assistant: <think>");
    assert_string_equal(chat.prefill, "<think>");
    chat_template_release(&chat);
}

static void a_text_with_a_question_is_a_template(void **state)
{
    struct chat_template chat;

    (void)state;
    assert_int_equal(chat_template_init(&chat, "Ask: {question}\nSay: {prefill}<think>\n"),
                     STATUS_OK);
    assert_string_equal(chat.before, "Ask: ");
    assert_string_equal(chat.after, "\nSay: <think>\n");
    assert_string_equal(chat.prefill, "<think>\n");
    assert_null(chat.system_before);
    chat_template_release(&chat);
    assert_int_equal(chat_template_init(&chat, "{question}"), STATUS_OK);
    assert_string_equal(chat.before, "");
    assert_string_equal(chat.after, "");
    chat_template_release(&chat);
}

static void assert_refused(const char *text, const char *reason_part)
{
    struct chat_template chat;

    assert_int_equal(chat_template_init(&chat, text), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), reason_part));
    chat_template_release(&chat);
}

static void wrong_templates_are_refused_with_a_reason(void **state)
{
    (void)state;
    assert_refused("r1_zer", "did you mean r1_zero");
    assert_refused("", "{question}");
    assert_refused("{question} {question}", "once");
    assert_refused("{prefill}a {question}", "behind");
    assert_refused("{question}{prefill}a{prefill}", "once");
}

static void releasing_twice_is_safe(void **state)
{
    struct chat_template chat;

    (void)state;
    assert_int_equal(chat_template_init(&chat, "chatml"), STATUS_OK);
    chat_template_release(&chat);
    chat_template_release(&chat);
    assert_null(chat.before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_has_text_and_ends_in_its_prefill),
        cmocka_unit_test(r1_zero_is_the_text_of_the_paper),
        cmocka_unit_test(a_text_with_a_question_is_a_template),
        cmocka_unit_test(wrong_templates_are_refused_with_a_reason),
        cmocka_unit_test(releasing_twice_is_safe),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
