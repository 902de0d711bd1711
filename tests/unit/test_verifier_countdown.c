#include "test_verifier_support.h"

#define PUZZLE "numbers=3,5,7 target=22"
#define ANSWER(text) "<think>let me see</think><answer>" text "</answer>"

static void solutions_are_judged_exactly(void **state)
{
    static const struct verdict_case cases[] = {
        {PUZZLE, ANSWER("3*5+7"), VERIFIER_RIGHT, 1},
        {PUZZLE, ANSWER(" 7 + (5 * 3) "), VERIFIER_RIGHT, 1},
        {PUZZLE, ANSWER("3*5+7 = 22"), VERIFIER_RIGHT, 1},
        {PUZZLE, ANSWER("3 \xC3\x97 5 + 7"), VERIFIER_RIGHT, 1},
        {PUZZLE, ANSWER("\\(3 \\times 5 + 7 = 22\\)"), VERIFIER_RIGHT, 1},
        {PUZZLE, ANSWER("\\boxed{3*5+7}"), VERIFIER_RIGHT, 1},
        {PUZZLE, ANSWER("-(-7) + 5*3"), VERIFIER_RIGHT, 1},
        {"numbers=1,3,3 target=1", ANSWER("3/3*1"), VERIFIER_RIGHT, 1},
        {"numbers=8,3,8,3 target=24", ANSWER("8/(3-8/3)"), VERIFIER_RIGHT, 1},
        {"numbers=5,3 target=-2", ANSWER("3-5=-2"), VERIFIER_RIGHT, 1},
        {"{\"numbers\":[3,5,7],\"target\":22}", ANSWER("7+5*3"), VERIFIER_RIGHT, 1},
        {PUZZLE, ANSWER("7 \xE2\x88\x92 (3 \xC2\xB7 (\xE2\x88\x92 5))"), VERIFIER_RIGHT, 1},
        {"numbers=6,3,20 target=22", ANSWER("6 \xC3\xB7 3 + 20."), VERIFIER_RIGHT, 1},
        {"numbers=6,3,20 target=22", ANSWER("$\\frac{6}{3} + 20 = 22$"), VERIFIER_RIGHT, 1},
        {PUZZLE, ANSWER("3*5+7 = 44/2"), VERIFIER_RIGHT, 1},
        {PUZZLE, ANSWER("[3*5]+7"), VERIFIER_RIGHT, 1},
        {PUZZLE, ANSWER("+3*5+7"), VERIFIER_RIGHT, 1},
        {PUZZLE, ANSWER("[3*5)+7"), VERIFIER_UNREADABLE, 0},
        {PUZZLE, ANSWER("3*5+7 ="), VERIFIER_UNREADABLE, 0},
        {PUZZLE, ANSWER("3*5+7 = 1/0"), VERIFIER_WRONG, 0},
        {PUZZLE, ANSWER("3*5+-7"), VERIFIER_WRONG, 0},
        {PUZZLE, ANSWER("22"), VERIFIER_WRONG, 0},
        {PUZZLE, ANSWER("3*5+7 = 23"), VERIFIER_WRONG, 0},
        {PUZZLE, ANSWER("3*5 = 22"), VERIFIER_WRONG, 0},
        {PUZZLE, ANSWER("3*5+7+0"), VERIFIER_WRONG, 0},
        {PUZZLE, ANSWER("3+5+7"), VERIFIER_WRONG, 0},
        {PUZZLE, ANSWER("3*5+7+7-7"), VERIFIER_WRONG, 0},
        {PUZZLE, ANSWER("35-7"), VERIFIER_WRONG, 0},
        {PUZZLE, ANSWER("3/(5-5)*7"), VERIFIER_WRONG, 0},
        {"numbers=1,5,2 target=3", ANSWER("1.5*2"), VERIFIER_UNREADABLE, 0},
        {"numbers=9,9 target=81", ANSWER("9**9"), VERIFIER_UNREADABLE, 0},
        {"numbers=9,9 target=1", ANSWER("9//9"), VERIFIER_UNREADABLE, 0},
        {PUZZLE, ANSWER("twenty-two"), VERIFIER_UNREADABLE, 0},
        {PUZZLE, ANSWER("3*5+7 = 22 = 22"), VERIFIER_UNREADABLE, 0},
        {PUZZLE, ANSWER("3*5+7, 22"), VERIFIER_UNREADABLE, 0},
        {PUZZLE, ANSWER(""), VERIFIER_UNREADABLE, 0},
        {PUZZLE, "3*5+7", VERIFIER_UNREADABLE, 0},
        {"", ANSWER("3*5+7"), VERIFIER_ERROR, 0},
        {"3 5 7 = 22", ANSWER("3*5+7"), VERIFIER_ERROR, 0},
        {"numbers= target=22", ANSWER("3*5+7"), VERIFIER_ERROR, 0},
        {"numbers=3,5,7", ANSWER("3*5+7"), VERIFIER_ERROR, 0},
        {"numbers=3,5,7 target=22x", ANSWER("3*5+7"), VERIFIER_ERROR, 0},
        {"{\"numbers\":[],\"target\":22}", ANSWER("3*5+7"), VERIFIER_ERROR, 0},
        {"{\"numbers\":[3.5],\"target\":22}", ANSWER("3*5+7"), VERIFIER_ERROR, 0},
    };

    (void)state;
    check_cases(&verifier_countdown, "", cases, N_OF(cases));
}

static void a_readable_miss_can_earn_something(void **state)
{
    static const struct verdict_case cases[] = {
        {PUZZLE, ANSWER("3*5+7"), VERIFIER_RIGHT, 1},
        {PUZZLE, ANSWER("3+5+7"), VERIFIER_WRONG, 0.1},
        {PUZZLE, ANSWER("nothing"), VERIFIER_UNREADABLE, 0},
    };

    (void)state;
    check_cases(&verifier_countdown, "partial=0.1\n", cases, N_OF(cases));
}

static void every_score_comes_from_the_options(void **state)
{
    static const struct verdict_case cases[] = {
        {PUZZLE, ANSWER("3*5+7"), VERIFIER_RIGHT, 0.9},
        {PUZZLE, ANSWER("3+5+7"), VERIFIER_WRONG, -0.5},
        {PUZZLE, ANSWER("nothing"), VERIFIER_UNREADABLE, -1},
        {PUZZLE, "no tag", VERIFIER_UNREADABLE, -1},
    };

    (void)state;
    check_cases(&verifier_countdown, "right=0.9\npartial=-0.5\nnone=-1\n", cases, N_OF(cases));
}

static void what_leaves_64_bits_is_wrong_not_wrapped(void **state)
{
    /* 2^32 * 2^32 is 0 modulo 2^64. */
    static const struct verdict_case cases[] = {
        {"numbers=4294967296,4294967296 target=0", ANSWER("4294967296*4294967296"),
         VERIFIER_WRONG, 0},
        {"numbers=1,2 target=1", ANSWER("36893488147419103233*2"), VERIFIER_WRONG, 0},
        {"numbers=3037000499,3037000499 target=1", ANSWER("3037000499*3037000499"),
         VERIFIER_WRONG, 0},
        {"numbers=3037000499,3037000499,1 target=1",
         ANSWER("(3037000499*1)/3037000499"), VERIFIER_RIGHT, 1},
    };

    (void)state;
    check_cases(&verifier_countdown, "", cases, N_OF(cases));
}

static void bad_options_are_refused(void **state)
{
    static const char *const options[] = {"partial=2\n", "partial=\n", "partial=x\n", "part=0.1\n",
                                          "partial=nan\n"};
    void *made = NULL;

    (void)state;
    for (size_t i = 0; i < N_OF(options); i++)
        assert_int_equal(verifier_countdown.create(NULL, text_of(options[i]), &made),
                         STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "partial"));
}

static void hostile_expressions_end_soon(void **state)
{
    static const char *const units[] = {"(", "-", "9*", "9", "1/", "()", "= "};

    (void)state;
    for (size_t i = 0; i < N_OF(units); i++) {
        struct text completion = {0};
        text_print(&completion, "<answer>");
        while (completion.length < 4000)
            text_print(&completion, "%s", units[i]);
        text_print(&completion, "</answer>");
        assert_int_not_equal(ask_text(&verifier_countdown, "", PUZZLE, completion.data).outcome,
                             VERIFIER_RIGHT);
        text_release(&completion);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(solutions_are_judged_exactly),
        cmocka_unit_test(a_readable_miss_can_earn_something),
        cmocka_unit_test(every_score_comes_from_the_options),
        cmocka_unit_test(what_leaves_64_bits_is_wrong_not_wrapped),
        cmocka_unit_test(bad_options_are_refused),
        cmocka_unit_test(hostile_expressions_end_soon),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
