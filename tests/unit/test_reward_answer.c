#include "test_verifier_support.h"

#include "reward/answer.h"

struct answer_case {
    const char *completion, *answer;   /* NULL: none */
};

static const struct answer_case cases[] = {
    /* the answer tag */
    {"<think>a</think><answer>42</answer>", "42"},
    {"<answer> 42\n</answer>", "42"},
    {"<answer>1</answer> no, <answer>2</answer>", "2"},
    {"<answer>1</answer><answer>2", "1"},
    {"<think><answer>1</answer></think>", NULL},
    {"<think><answer>1</answer></think><answer>2</answer>", "2"},
    {"<think>never ends <answer>1</answer>", NULL},
    {"<think>a</think><answer>1</answer><think>again", NULL},
    {"<answer></answer>", NULL},
    {"<answer>  </answer>", NULL},
    {"42", NULL},
    {"</answer>42<answer>", NULL},
    {"<answer>42</answer><|im_end|><answer>43</answer>", "42"},
    /* boxes */
    {"so \\boxed{42}", "42"},
    {"\\boxed{1} or rather \\boxed{2}", "2"},
    {"\\boxed{1}, \\boxed{2}", "1, 2"},
    {"$\\boxed{1}$ and $\\boxed{2}$", "1, 2"},
    {"\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"},
    {"\\boxed{\\{1,2\\}}", "\\{1,2\\}"},
    {"\\boxed{\\boxed{3}}", "\\boxed{3}"},
    {"\\boxed{7} then \\boxed{}", "7"},
    {"\\boxed{7} then \\boxed{8", NULL},
    {"\\boxed 7", "7"},
    {"\\fbox{9}", "9"},
    {"<answer>\\boxed{5}</answer>", "5"},
    {"\\boxed{4} <answer>5</answer>", "5"},
    {"<think>\\boxed{4}</think> 5", NULL},
    {"\\boxedx{4}", NULL},
    /* lines and words */
    {"6 * 7\n#### 42\n", "42"},
    {"#### 1\n#### 2", "2"},
    {"The answer is 42. Done.", "42"},
    {"The answer is **42**.", "42"},
    {"Final answer: $3.5$", "3.5"},
    {"The final answer is: 3.5.", "3.5"},
    {"\xE7\xAD\x94\xE6\xA1\x88\xE6\x98\xAF 8", "8"},
    {"The answer is not 42", NULL},
    {"answer", NULL},
    {"", NULL},
};

static void find_text(struct answer *answer, const char *prefill, const char *text, size_t n)
{
    struct verifier_task task = {.size = sizeof(task), .completion = {text, n},
                                 .prefill = text_of(prefill)};

    answer_find(answer, &task);
}

static void answers_are_found_by_the_strict_rules(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_OF(cases); i++) {
        struct answer answer;
        find_text(&answer, "", cases[i].completion, strlen(cases[i].completion));
        const char *got = answer.source == ANSWER_NONE ? NULL : answer.text.data;
        if (!got != !cases[i].answer || (got && strcmp(got, cases[i].answer) != 0))
            fail_msg("\"%s\": \"%s\", not \"%s\"", cases[i].completion, got ? got : "(none)",
                     cases[i].answer ? cases[i].answer : "(none)");
        if (!got)
            assert_non_null(answer.why_none);
        answer_release(&answer);
    }
}

static void prefill_opens_the_reasoning(void **state)
{
    struct answer answer;
    static const char open[] = "17 <answer>17</answer>", closed[] = "a</think><answer>17</answer>";

    (void)state;
    find_text(&answer, "<think>", open, strlen(open));
    assert_int_equal(answer.source, ANSWER_NONE);
    answer_release(&answer);
    find_text(&answer, "<think>", closed, strlen(closed));
    assert_string_equal(answer.text.data, "17");
    answer_release(&answer);
}

/* Repeats `unit` over a megabyte, then puts `tail` at the end. */
static char *make_large(const char *unit, const char *tail, size_t *n)
{
    struct text text = {0};

    while (text.length < (1u << 20))
        text_append(&text, unit, strlen(unit));
    text_append(&text, tail, strlen(tail));
    *n = text.length;
    return text.data;
}

static void hostile_megabytes_are_scanned_once(void **state)
{
    static const char *const units[] = {"\\boxed{", "\\boxed{}", "\\boxed{1} ", "<answer>", "{",
                                        "</answer>", "<think>", "</think>", "####", "\\", "\\boxed",
                                        "the answer is ", "<", "```\n", "$", "\\(", "\xFF"};

    (void)state;
    for (size_t i = 0; i < N_OF(units); i++) {
        struct answer answer;
        size_t n;
        char *text = make_large(units[i], "", &n);
        find_text(&answer, "", text, n);
        assert_true(answer.text.length <= ANSWER_MAX_BYTES);
        answer_release(&answer);
        mem_free(text);
    }
}

static void an_answer_behind_a_megabyte_is_found(void **state)
{
    struct answer answer;
    size_t n;
    char *text = make_large("\\frac{ ", "</think><answer>5</answer>", &n);

    (void)state;
    find_text(&answer, "<think>", text, n);
    assert_string_equal(answer.text.data, "5");
    answer_release(&answer);
    mem_free(text);
    text = make_large("7", "</answer>", &n);
    memcpy(text, "<answer>", 8);
    find_text(&answer, "", text, n);
    assert_int_equal(answer.source, ANSWER_NONE);
    assert_string_equal(answer.why_none, "the answer is too long");
    answer_release(&answer);
    mem_free(text);
}

static void an_answer_can_be_had_without_a_verifier(void **state)
{
    struct text answer = {0};

    (void)state;
    assert_int_equal(reward_extract_answer("so 4", 4, &answer), 0);
    assert_int_equal(reward_extract_answer("\\boxed{4}", 9, &answer), 1);
    assert_string_equal(answer.data, "4");
    text_release(&answer);
}

static void nul_bytes_do_not_end_the_text(void **state)
{
    static const char text[] = "a\0b<answer>4\0002</answer>";
    struct answer answer;

    (void)state;
    find_text(&answer, "", text, sizeof(text) - 1);
    assert_int_equal(answer.source, ANSWER_TAG);
    assert_int_equal(answer.text.length, 3);
    answer_release(&answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_found_by_the_strict_rules),
        cmocka_unit_test(prefill_opens_the_reasoning),
        cmocka_unit_test(hostile_megabytes_are_scanned_once),
        cmocka_unit_test(an_answer_behind_a_megabyte_is_found),
        cmocka_unit_test(an_answer_can_be_had_without_a_verifier),
        cmocka_unit_test(nul_bytes_do_not_end_the_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
