#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "common/status.h"
#include "math/math.h"
#include "math/verdict.h"

static struct math *math;

static int create(void **state)
{
    (void)state;
    return math_create(&math, 99);
}

static int destroy(void **state)
{
    (void)state;
    math_destroy(&math);
    return math != NULL;
}

static struct math_verdict judge_bytes(const char *gold, size_t n_gold, const char *pred, size_t n,
                                       enum math_mode mode)
{
    struct math_options options = {mode, MATH_ANSWER};
    struct math_verdict verdict;

    math_verify(math, gold, n_gold, pred, n, &options, &verdict);
    return verdict;
}

static enum math_outcome judge(const char *gold, const char *pred)
{
    return judge_bytes(gold, strlen(gold), pred, strlen(pred), MATH_ANSWER).outcome;
}

static enum math_outcome judge_completion(const char *gold, const char *text, enum math_mode mode)
{
    return judge_bytes(gold, strlen(gold), text, strlen(text), mode).outcome;
}

static void each_outcome_has_its_cause(void **state)
{
    (void)state;
    assert_int_equal(judge("1/2", "0.5"), MATH_RIGHT_EXACT);
    assert_int_equal(judge("(x+1)^2", "x^2+2x+2"), MATH_WRONG);
    assert_int_equal(judge("5", ""), MATH_NO_ANSWER);
    assert_int_equal(judge("5", "  $ $ "), MATH_NO_ANSWER);
    assert_int_equal(judge("5", "\\frac{5}"), MATH_UNREADABLE);
    assert_int_equal(judge("", "5"), MATH_UNREADABLE_GOLD);
    assert_int_equal(judge("\\frac{{{", "5"), MATH_UNREADABLE_GOLD);
    assert_int_equal(judge("\\frac{{{", ""), MATH_UNREADABLE_GOLD);
    assert_int_equal(judge("", ""), MATH_UNREADABLE_GOLD);
    assert_int_equal(judge_completion("\xff", "no box", MATH_STRICT), MATH_UNREADABLE_GOLD);
    assert_int_equal(judge("5", "1\\pm1\\pm1\\pm1\\pm1\\pm1\\pm1\\pm1"), MATH_LIMIT);
    assert_int_equal(judge_completion("5", "I do not know", MATH_STRICT), MATH_NO_ANSWER);
}

static void outcomes_are_counted(void **state)
{
    int64_t counts[MATH_N_OUTCOMES];

    (void)state;
    math_counts(math, counts, 1);
    judge("5", "5");
    judge("5", "5");
    judge("5", "6");
    judge("5", "");
    math_counts(math, counts, 1);
    assert_int_equal(counts[MATH_RIGHT_EXACT], 2);
    assert_int_equal(counts[MATH_WRONG], 1);
    assert_int_equal(counts[MATH_NO_ANSWER], 1);
    math_counts(math, counts, 0);
    assert_int_equal(counts[MATH_RIGHT_EXACT], 0);
}

static void outcomes_have_names(void **state)
{
    (void)state;
    assert_string_equal(math_outcome_text(MATH_RIGHT_PROVED), "right (proved)");
    assert_string_equal(math_outcome_counter(MATH_UNREADABLE_GOLD), "unreadable_gold");
    assert_true(math_outcome_is_right(MATH_RIGHT_NUMERIC));
    assert_false(math_outcome_is_right(MATH_LIMIT));
}

static void bytes_that_are_no_text_are_unreadable(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
    } rows[] = {{"42\0", 3}, {"4\0002", 3}, {"42\xff", 3}, {"\xc0\x80", 2}, {"\xed\xa0\x80", 3},
                {"4\xe2\x80\x8b" "2", 5}, {"\xe2\x80\xae" "24", 5}, {"4\x07" "2", 3},
                {"\xf4\x90\x80\x80", 4}, {"42\xe2\x80", 4}};

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(judge_bytes("42", 2, rows[i].bytes, rows[i].n, MATH_ANSWER).outcome,
                         MATH_UNREADABLE);
    assert_int_equal(judge_bytes("4\0002", 3, "42", 2, MATH_ANSWER).outcome, MATH_UNREADABLE_GOLD);
}

static void answers_over_the_limits_are_limits(void **state)
{
    static const char *const units[] = {"(", "\\sqrt{", "-", "{", "1^{", "|", "\\frac1{", "[",
                                        "x+"};
    static char text[1 << 20];

    (void)state;
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        size_t n = strlen(units[i]), length = 0;

        for (; length + n < 4000; length += n)
            memcpy(text + length, units[i], n);
        text[length++] = '1';
        enum math_outcome outcome = judge_bytes("1", 1, text, length, MATH_ANSWER).outcome;
        if (outcome != MATH_LIMIT && outcome != MATH_UNREADABLE && outcome != MATH_WRONG)
            fail_msg("%s: %s", units[i], math_outcome_text(outcome));
    }
    memset(text, '7', sizeof(text));
    assert_int_equal(judge_bytes("1", 1, text, sizeof(text), MATH_ANSWER).outcome, MATH_LIMIT);
    assert_int_equal(judge_bytes("1", 1, text, 4096, MATH_ANSWER).outcome, MATH_WRONG);
}

static void strict_extraction_does_not_guess(void **state)
{
    static const char *const none[] = {
        "42", "just 42", "<think>\\boxed{42}", "\\boxed{1} \\boxed{42", "\\boxed{}",
        "The answer is not 42.", "<think>x</think> so $42$", "<|im_end|>\\boxed{42}",
    };
    static const char *const found[] = {
        "\\boxed{42}", "\\fbox{42}", "\\boxed 42", "#### 42\n", "The answer is 42.",
        "Final answer: $42$", "<answer>42</answer>", "<think>1</think>\\boxed{42}",
        "\\boxed{1} is wrong, \\boxed{42}", "\\boxed{\\boxed{42}}", "the answer is **42**.",
        "\\boxed{42}<|im_end|>\\boxed{43}", "<answer>It is 42 marbles in all</answer>",
        "\347\255\224\346\241\210\357\274\23242\343\200\202", "\\boxed{42} \\boxed{}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
        if (judge_completion("42", none[i], MATH_STRICT) != MATH_NO_ANSWER)
            fail_msg("an answer in \"%s\"", none[i]);
    for (size_t i = 0; i < sizeof(found) / sizeof(found[0]); i++)
        if (judge_completion("42", found[i], MATH_STRICT) != MATH_RIGHT_EXACT)
            fail_msg("no 42 in \"%s\"", found[i]);
}

static void lenient_extraction_takes_the_last_formula(void **state)
{
    (void)state;
    assert_int_equal(judge_completion("42", "so we get 42 apples", MATH_LENIENT), MATH_RIGHT_EXACT);
    assert_int_equal(judge_completion("42", "from 42 to $43$", MATH_LENIENT), MATH_WRONG);
    assert_true(math_outcome_is_right(judge_completion("x+1", "hence \\(1+x\\).", MATH_LENIENT)));
    assert_int_equal(judge_completion("C", "I think it is C", MATH_LENIENT), MATH_RIGHT_EXACT);
}

static void neighbouring_boxes_are_a_list(void **state)
{
    (void)state;
    assert_int_equal(judge_completion("3, 5", "\\boxed{5}, \\boxed{3}", MATH_STRICT),
                     MATH_RIGHT_EXACT);
    assert_int_equal(judge_completion("3, 5", "$\\boxed{3}$ and $\\boxed{5}$", MATH_STRICT),
                     MATH_RIGHT_EXACT);
    assert_int_equal(judge_completion("5", "\\boxed{3} so \\boxed{5}", MATH_STRICT),
                     MATH_RIGHT_EXACT);
    assert_int_equal(judge_completion("5", "\\boxed{3} and \\boxed{5}", MATH_STRICT), MATH_WRONG);
}

/* Time that grows with the square of the length would take hours here. */
static void large_completions_are_scanned_once(void **state)
{
    static const char *const units[] = {"answe", "\\boxed{", "\\boxed{}", "<", "<think></think>",
                                        "$", "\\", "# ", "answer is ", "w", "}", "\\(", "\n"};
    static char text[1 << 20];

    (void)state;
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        size_t n = strlen(units[i]), length = 0;

        for (; length + n < sizeof(text); length += n)
            memcpy(text + length, units[i], n);
        assert_false(math_outcome_is_right(
            judge_bytes("42", 2, text, length, MATH_LENIENT).outcome));
    }
}

static void plain_numbers_take_the_fast_step(void **state)
{
    static const struct {
        const char *gold, *pred;
        int expected;
    } rows[] = {
        {"42", "42", 1}, {"42", "-42", 0}, {"1,234", "1234", 1}, {"0.5", "1/2", 1},
        {"\\frac{1}{2}", ".5", 1}, {"1/0", "1", -1}, {"0.333333", "1/3", -1}, {"x", "1", -1},
        {"1,22", "1", -1}, {"12,34", "1", -1}, {"0,111", "1", -1}, {"$5$", "5", 1},
        {"1234567890123456789", "1", -1}, {"1/3", "0.33", 0}, {"5.", "5", -1}, {"", "", -1},
        {"1,2345", "1", -1}, {"-\\dfrac{3}{4}", "-0.75", 1}, {"1.5/2", "0.75", -1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int got = fast_compare((struct span){rows[i].gold, strlen(rows[i].gold)},
                               (struct span){rows[i].pred, strlen(rows[i].pred)});
        if (got != rows[i].expected)
            fail_msg("%s and %s: %d", rows[i].gold, rows[i].pred, got);
    }
}

static void text_is_never_cut_by_a_length(void **state)
{
    struct math_verdict verdict = judge_bytes("42 and more", 2, "42xyz", 2, MATH_ANSWER);

    (void)state;
    assert_int_equal(verdict.outcome, MATH_RIGHT_EXACT);
    assert_int_equal(verdict.n_extracted, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_outcome_has_its_cause),
        cmocka_unit_test(outcomes_are_counted),
        cmocka_unit_test(outcomes_have_names),
        cmocka_unit_test(bytes_that_are_no_text_are_unreadable),
        cmocka_unit_test(answers_over_the_limits_are_limits),
        cmocka_unit_test(strict_extraction_does_not_guess),
        cmocka_unit_test(lenient_extraction_takes_the_last_formula),
        cmocka_unit_test(neighbouring_boxes_are_a_list),
        cmocka_unit_test(large_completions_are_scanned_once),
        cmocka_unit_test(plain_numbers_take_the_fast_step),
        cmocka_unit_test(text_is_never_cut_by_a_length),
    };
    return cmocka_run_group_tests(tests, create, destroy);
}
