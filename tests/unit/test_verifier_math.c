#include "test_verifier_support.h"

#include <stdio.h>

#include "math/algebra_internal.h"

struct pair {
    const char *gold, *answer;
};

static const struct pair right[] = {
    {"42", "42"},
    {"42", "42.0"},
    {"-5", "\xE2\x88\x92""5"},
    {"7425000", "7,425,000"},
    {"1000", "1 000"},
    {"1/2", "\\frac{1}{2}"},
    {"0.5", "\\frac12"},
    {"\\frac{3}{4}", "0.75"},
    {"\\frac{7}{2}", "3\\frac{1}{2}"},
    {"2^{10}", "1024"},
    {"1/3", "0.33333333"},
    {"0.333333", "\\frac13"},
    {"6/7", "0.857143"},
    {"50\\%", "50"},
    {"50\\%", "0.5"},
    {"50", "50\\%"},
    {"0.25", "25\\%"},
    {"50\\%", "50 percent"},
    {"18", "18 dollars"},
    {"18", "\\$18"},
    {"12", "12\\text{ cm}"},
    {"12", "12 cm^2"},
    {"60^\\circ", "60"},
    {"60", "60^\\circ"},
    {"3", "x=3"},
    {"x=3", "3"},
    {"x = 3", "x=3.0"},
    {"0.625", "t = \\frac58 = 0.625"},
    {"\\{1,2,3\\}", "3, 2, 1"},
    {"1, 2", "1 and 2"},
    {"(1, 2)", "(1.0, \\frac{4}{2})"},
    {"[0, 3)", "[0,3)"},
    {"(\\frac{1}{2}, 3)", "\\left(0.5, 3\\right)"},
    {"x^2+1", "x^2 + 1"},
    {"2\\sqrt{3}", "2 \\sqrt{3}"},
    {"\\pi", "\xCF\x80"},
    {"Paris", "paris"},
    {"\\text{Monday}", "Monday."},
    {"C", "(C)"},
    {"C", "c"},
    {"C", "C) seven"},
    {"C", "Option C"},
    {"A solution: 6*7\n#### 42", "42"},
    {"We get \\boxed{42}.", "42"},
    {"10^{20}", "100000000000000000000"},
    {"x+1", "1 + x"},
    {"x^2 - 1", "(x-1)(x+1)"},
    {"\\frac{1}{x}", "x^{-1}"},
    {"\\sqrt3", "\\sqrt{3}"},
    {"\\frac{9\\pi}{4}", "\\frac94\\pi"},
    {"2x + 4y = 6", "x + 2y - 3 = 0"},
    {"x \\ge 5", "x >= 5"},
    {"x \\in [1, 2]", "[1,2]"},
    {"m=4, n=7", "(4,7)"},
    {"m=4, n=7", "n=7, m=4"},
    {"(p,q)=(3,2)", "(3,2)"},
    {"x=1, x=2", "x=2 or x=1"},
    {"(2, 2), (6, 2)", "(6,2), (2,2)"},
    {"11111", "11,\\! 111"},
};

/* What FLINT has to prove. */
static const struct pair proved[] = {
    {"2\\sqrt{3}", "\\sqrt{12}"},
    {"a^{n}b", "b a^n"},
    {"\\sin(2x) + 1", "1 + \\sin(x+x)"},
    {"\\sqrt{3-2\\sqrt2}", "\\sqrt2-1"},
    {"\\frac{\\ln 9}{\\ln 3}\\sqrt2", "\\sqrt8"},
};

static const struct pair wrong[] = {
    {"42", "43"},
    {"42", "-42"},
    {"42", "4 2"},
    {"6/7", "0.86"},
    {"1/3", "0.3333"},
    {"0.5", "50"},
    {"50", "0.5"},
    {"5", "5\\%x"},
    {"2", "2x"},
    {"2", "2 x"},
    {"6", "6 or 7"},
    {"6", "6, 7"},
    {"6, 7", "6"},
    {"6", "not 6"},
    {"3", "1+1=3"},
    {"3", "2x+1=3"},
    {"x=3", "y=3"},
    {"12\\text{ cm}", "12\\text{ kg}"},
    {"(1, 2)", "(2, 1)"},
    {"(1, 2)", "[1, 2]"},
    {"\\{1,2\\}", "1, 1"},
    {"1, 2", "1, 2, 3"},
    {"x^2", "X^2"},
    {"Paris", "Paris or London"},
    {"C", "B"},
    {"C", "A or C"},
    {"C", "not C"},
    {"1,234", "1234.5"},
    {"100000000000000000000", "100000000000000000001"},
    {"\\frac{1}{0}", "0"},
    {"0.1", "0.10000000000000001"},
    {"x+1", "x+2"},
    {"x^2", "x^3"},
    {"\\sqrt{t^2}", "t"},
    {"2x + 4y = 6", "x + 2y = 4"},
    {"x = 3 + y", "0 = 0"},
    {"m=4, n=7", "7, 4"},
    {"(p,q)=(3,2)", "(2,3)"},
    {"x_1", "x_2"},
    {"\\frac{1}{x}", "\\frac{1}{0}"},
    {"x", "y"},
    {"x+1", "x+1+"},
};

static enum verifier_outcome judge_pair(const struct pair *pair)
{
    struct text boxed = {0};

    text_print(&boxed, "\\boxed{%s}", pair->answer);
    struct verifier_verdict verdict = ask_text(&verifier_math, "", pair->gold, boxed.data);
    text_release(&boxed);
    return (enum verifier_outcome)verdict.outcome;
}

static void answers_of_the_same_meaning_are_right(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_OF(right); i++)
        if (judge_pair(&right[i]) != VERIFIER_RIGHT)
            fail_msg("\"%s\" should pass for \"%s\"", right[i].answer, right[i].gold);
}

static void answers_that_are_proved_to_be_equal_are_right(void **state)
{
    (void)state;
    if (!deep_is_there)
        skip();
    for (size_t i = 0; i < N_OF(proved); i++)
        if (judge_pair(&proved[i]) != VERIFIER_RIGHT)
            fail_msg("\"%s\" should pass for \"%s\"", proved[i].answer, proved[i].gold);
}

static void answers_of_another_meaning_are_wrong(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_OF(wrong); i++)
        if (judge_pair(&wrong[i]) != VERIFIER_WRONG)
            fail_msg("\"%s\" should fail for \"%s\"", wrong[i].answer, wrong[i].gold);
}

static void outcomes_stay_apart(void **state)
{
    static const struct verdict_case cases[] = {
        {"42", "<answer>42</answer>", VERIFIER_RIGHT, 1},
        {"42", "<answer>The result is 42.</answer>", VERIFIER_RIGHT, 1},
        {"42", "<answer>It is not 42.</answer>", VERIFIER_WRONG, 0},
        {"42", "<answer>41 or 42</answer>", VERIFIER_WRONG, 0},
        {"42", "<answer>41</answer>", VERIFIER_WRONG, 0},
        {"42", "I think 42", VERIFIER_UNREADABLE, 0},
        {"42", "", VERIFIER_UNREADABLE, 0},
        {"42", "<answer></answer>", VERIFIER_UNREADABLE, 0},
        {"42", "<answer>4\xE2\x80\x8B""2</answer>", VERIFIER_UNREADABLE, 0},
        {"42", "<answer>\xFF\xFE</answer>", VERIFIER_UNREADABLE, 0},
        {"", "<answer>42</answer>", VERIFIER_ERROR, 0},
        {" ", "<answer></answer>", VERIFIER_ERROR, 0},
        {"\xFF", "<answer>42</answer>", VERIFIER_ERROR, 0},
    };

    (void)state;
    check_cases(&verifier_math, "", cases, N_OF(cases));
}

static void unreadable_references_say_so(void **state)
{
    (void)state;
    assert_string_equal(ask_text(&verifier_math, "", "", "\\boxed{1}").detail,
                        "unreadable gold: empty");
}

static void deep_and_large_answers_end_soon(void **state)
{
    static const char *const units[] = {"\\sqrt{2", "x^",      "\\sqrt99999989",
                                        "(x)",      "a=",      "=",
                                        "(",        "\\frac{", "{",
                                        "1,",       "x=",      "\\{",
                                        "9^",       "\\text{", "1 and "};

    (void)state;
    for (size_t i = 0; i < N_OF(units); i++) {
        struct text completion = {0};
        text_print(&completion, "<answer>");
        while (completion.length < 4000)
            text_print(&completion, "%s", units[i]);
        text_print(&completion, "</answer>");
        struct verifier_verdict verdict = ask_text(&verifier_math, "", "1, 2, 3", completion.data);
        assert_int_not_equal(verdict.outcome, VERIFIER_RIGHT);
        text_release(&completion);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_of_the_same_meaning_are_right),
        cmocka_unit_test(answers_that_are_proved_to_be_equal_are_right),
        cmocka_unit_test(answers_of_another_meaning_are_wrong),
        cmocka_unit_test(outcomes_stay_apart),
        cmocka_unit_test(unreadable_references_say_so),
        cmocka_unit_test(deep_and_large_answers_end_soon),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
