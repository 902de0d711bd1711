#include "test_verifier_support.h"

static const struct verdict_case strict_cases[] = {
    {"", "<think>a</think><answer>b</answer>", VERIFIER_RIGHT, 1},
    {"", " <think>\na\n</think>\n\n<answer>\nb\n</answer>\n", VERIFIER_RIGHT, 1},
    {"", "<think>a < b <thin</think><answer><b></answer>", VERIFIER_RIGHT, 1},
    {"", "<think>a<</think><answer>b<</answer>", VERIFIER_RIGHT, 1},
    {"", "", VERIFIER_WRONG, 0},
    {"", "a", VERIFIER_WRONG, 0},
    {"", "x<think>a</think><answer>b</answer>", VERIFIER_WRONG, 0},
    {"", "<think>a</think>x<answer>b</answer>", VERIFIER_WRONG, 0},
    {"", "<think>a</think><answer>b</answer>x", VERIFIER_WRONG, 0},
    {"", "<think>a</think><answer>b</answer", VERIFIER_WRONG, 0},
    {"", "<think> </think><answer>b</answer>", VERIFIER_WRONG, 0},
    {"", "<think>a</think><answer>\n</answer>", VERIFIER_WRONG, 0},
    {"", "<think><think>a</think><answer>b</answer>", VERIFIER_WRONG, 0},
    {"", "<think>a</think></think><answer>b</answer>", VERIFIER_WRONG, 0},
    {"", "<think>a</think><answer>b</answer><answer>c</answer>", VERIFIER_WRONG, 0},
    {"", "<think>a</think><answer>b</answer><think>", VERIFIER_WRONG, 0},
    {"", "<answer>b</answer><think>a</think>", VERIFIER_WRONG, 0},
    {"", "<think>a<answer>b</answer></think>", VERIFIER_WRONG, 0},
    {"", "<think>a<answer>b</answer>", VERIFIER_WRONG, 0},
    {"", "<THINK>a</THINK><ANSWER>b</ANSWER>", VERIFIER_WRONG, 0},
    {"", "< think>a</think><answer>b</answer>", VERIFIER_WRONG, 0},
};

static void strict_takes_the_whole_form_alone(void **state)
{
    (void)state;
    check_cases(&verifier_format, "", strict_cases, N_OF(strict_cases));
    check_cases(&verifier_format, "variant=strict\n", strict_cases, N_OF(strict_cases));
}

static void tags_earn_a_quarter_each(void **state)
{
    static const struct verdict_case cases[] = {
        {"", "<think>a</think><answer>b</answer>", VERIFIER_RIGHT, 1},
        {"", "x<answer>b</answer>", VERIFIER_WRONG, 0.5},
        {"", "<think><think>a</think><answer>b</answer>", VERIFIER_WRONG, 0.75},
        {"", "<think>", VERIFIER_WRONG, 0.25},
        {"", "", VERIFIER_WRONG, 0},
    };

    (void)state;
    check_cases(&verifier_format, "variant=tags\n", cases, N_OF(cases));
}

static struct verifier_verdict ask_behind(const char *prefill, const char *completion, size_t n)
{
    struct verifier_task task = {.size = sizeof(task), .completion = {completion, n},
                                 .prefill = text_of(prefill)};

    return ask(&verifier_format, "", &task);
}

static void the_prefill_counts_as_written(void **state)
{
    static const char rest[] = "a</think><answer>b</answer>";

    (void)state;
    assert_int_equal(ask_behind("<think>", rest, strlen(rest)).outcome, VERIFIER_RIGHT);
    assert_int_equal(ask_behind("<thi", "nk>a</think><answer>b</answer>", 30).outcome,
                     VERIFIER_RIGHT);
    assert_int_equal(ask_behind("", rest, strlen(rest)).outcome, VERIFIER_WRONG);
    assert_int_equal(ask_behind("<think>", "<think>a</think><answer>b</answer>", 34).outcome,
                     VERIFIER_WRONG);
}

static void what_is_amiss_is_named(void **state)
{
    (void)state;
    assert_string_equal(ask_text(&verifier_format, "", "", "<think>a").detail, "no </think>");
    assert_string_equal(ask_text(&verifier_format, "", "", "hello").detail,
                        "does not begin with <think>");
}

static void any_bytes_are_taken(void **state)
{
    static const char text[] = "<think>\0\xFF</think><answer>\0</answer>";
    size_t n = (size_t)1 << 20;
    char *large = mem_alloc(n, 1);

    (void)state;
    assert_int_equal(ask_behind("", text, sizeof(text) - 1).outcome, VERIFIER_RIGHT);
    memset(large, '<', n);
    assert_int_equal(ask_behind("", large, n).outcome, VERIFIER_WRONG);
    mem_free(large);
}

static void an_unknown_variant_is_refused(void **state)
{
    void *made = NULL;

    (void)state;
    assert_int_equal(verifier_format.create(NULL, text_of("variant=lax\n"), &made), STATUS_CONFIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strict_takes_the_whole_form_alone),
        cmocka_unit_test(tags_earn_a_quarter_each),
        cmocka_unit_test(the_prefill_counts_as_written),
        cmocka_unit_test(what_is_amiss_is_named),
        cmocka_unit_test(any_bytes_are_taken),
        cmocka_unit_test(an_unknown_variant_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
