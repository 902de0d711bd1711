#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "reward/expression.h"

struct value_case {
    const char *text, *value;   /* as GMP prints it */
};

static enum expression_outcome read_text(const char *text, enum expression_mode mode, char *value)
{
    struct expression expression;

    expression_init(&expression);
    enum expression_outcome outcome = expression_read(&expression, text, strlen(text), mode);
    if (outcome == EXPRESSION_READ)
        mpq_get_str(value, 10, expression.value.value);
    expression_release(&expression);
    return outcome;
}

static void expressions_have_exact_values(void **state)
{
    static const struct value_case cases[] = {
        {"42", "42"},
        {"-7", "-7"},
        {"1 + 2 * 3", "7"},
        {"(1+2)*3", "9"},
        {"2^10", "1024"},
        {"2^3^2", "512"},
        {"-2^2", "-4"},
        {"2^{-1}", "1/2"},
        {"2**3", "8"},
        {"7/3 - 1/3", "2"},
        {"1/2/2", "1/4"},
        {"0.1 + 0.2", "3/10"},
        {".5", "1/2"},
        {"5.", "5"},
        {"1,234,567", "1234567"},
        {"1{,}234", "1234"},
        {"1\\,234", "1234"},
        {"12 345", "12345"},
        {"\\frac{3}{4}", "3/4"},
        {"\\dfrac12", "1/2"},
        {"\\frac 1 2", "1/2"},
        {"\\frac{1}{2}\\cdot 4", "2"},
        {"\\frac378", "24/7"},
        {"3\\frac{1}{2}", "7/2"},
        {"-3\\frac12", "-7/2"},
        {"3 1/2", "7/2"},
        {"\\left(3 \\times 4\\right) \\div 6", "2"},
        {"3\xC3\x97""4", "12"},
        {"8\xC3\xB7""2", "4"},
        {"5\xE2\x88\x92""9", "-4"},
        {"2\xC2\xB2", "4"},
        {"\xC2\xBD", "1/2"},
        {"50\\%", "1/2"},
        {"5!", "120"},
        {"1.5e3", "1500"},
        {"3 \\times 10^{-2}", "3/100"},
        {"0.4\\overline{2}", "19/45"},
        {"0.\\overline{3}", "1/3"},
        {"\\sqrt{49}", "7"},
        {"\\sqrt{\\frac{1}{4}}", "1/2"},
        {"2(3+4)", "14"},
        {"(2)(3)", "6"},
        {"$\\text{42}$", "42"},
        {"[3+4]*2", "14"},
        {"--5", "5"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char value[128] = "";
        if (read_text(cases[i].text, EXPRESSION_EXACT, value) != EXPRESSION_READ ||
            strcmp(value, cases[i].value) != 0)
            fail_msg("\"%s\" is \"%s\", not %s", cases[i].text, value, cases[i].value);
    }
}

static void other_text_is_unreadable(void **state)
{
    static const char *const cases[] = {"",
                                        " ",
                                        "x",
                                        "2x",
                                        "1 +",
                                        "(1",
                                        "1)",
                                        "()",
                                        "1 2",
                                        "32, 349",
                                        "1..2",
                                        "*3",
                                        "2^0.5",
                                        "\\pi",
                                        "\\frac{1}",
                                        "\\sqrt{2}",
                                        "1+\xE2\x80\x8B 1",
                                        "\xFF",
                                        "1\x01",
                                        "abc",
                                        "1/",
                                        "{",
                                        "\\"};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char value[128] = "";
        if (read_text(cases[i], EXPRESSION_EXACT, value) != EXPRESSION_UNREADABLE)
            fail_msg("\"%s\" was read: %s", cases[i], value);
    }
}

static void integers_mode_takes_plain_arithmetic_alone(void **state)
{
    static const char *const refused[] = {"1.5", "2^3", "1,234", "2**3", "7//2", "3!", "50%",
                                          "2(3)", "[1]", "\\sqrt{4}", "1e3", "12 3"};
    char value[128] = "";

    (void)state;
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        if (read_text(refused[i], EXPRESSION_INTEGERS, value) != EXPRESSION_UNREADABLE)
            fail_msg("\"%s\" was read: %s", refused[i], value);
    assert_int_equal(read_text("(25 - 1) \xC3\x97 -3", EXPRESSION_INTEGERS, value),
                     EXPRESSION_READ);
    assert_string_equal(value, "-72");
}

static void used_integers_are_collected_in_order(void **state)
{
    struct expression expression;
    static const char text[] = "(30 - 4) * 4 / 2";

    (void)state;
    expression_init(&expression);
    assert_int_equal(expression_read(&expression, text, strlen(text), EXPRESSION_INTEGERS),
                     EXPRESSION_READ);
    assert_int_equal(expression.n_numbers, 4);
    assert_int_equal(expression.numbers[0], 30);
    assert_int_equal(expression.numbers[3], 2);
    expression_release(&expression);
}

static void hostile_text_meets_a_limit(void **state)
{
    char deep[4096], value[128];

    (void)state;
    memset(deep, '(', sizeof(deep) - 1);
    deep[sizeof(deep) - 1] = '\0';
    assert_int_equal(read_text(deep, EXPRESSION_EXACT, value), EXPRESSION_LIMIT);
    memset(deep, '-', 2000);
    assert_int_not_equal(read_text(deep, EXPRESSION_EXACT, value), EXPRESSION_READ);
    for (size_t i = 0; i + 2 < sizeof(deep); i += 2)
        memcpy(deep + i, "9^", 2);
    assert_int_equal(read_text(deep, EXPRESSION_EXACT, value), EXPRESSION_LIMIT);
    assert_int_equal(read_text("9^9^9^9", EXPRESSION_EXACT, value), EXPRESSION_LIMIT);
    assert_int_equal(read_text("1e99999", EXPRESSION_EXACT, value), EXPRESSION_LIMIT);
    assert_int_equal(read_text("99999!", EXPRESSION_EXACT, value), EXPRESSION_LIMIT);
    assert_int_equal(read_text("1/0", EXPRESSION_EXACT, value), EXPRESSION_UNDEFINED);
    assert_int_equal(read_text("0^0", EXPRESSION_EXACT, value), EXPRESSION_UNDEFINED);
}

static void text_over_the_limit_is_refused_and_nul_is_unreadable(void **state)
{
    static char large[1 << 20];
    struct expression expression;

    (void)state;
    memset(large, '1', sizeof(large));
    expression_init(&expression);
    assert_int_equal(expression_read(&expression, large, sizeof(large), EXPRESSION_EXACT),
                     EXPRESSION_LIMIT);
    assert_int_equal(expression_read(&expression, large, EXPRESSION_MAX_BYTES, EXPRESSION_EXACT),
                     EXPRESSION_READ);
    assert_int_equal(expression_read(&expression, "4\0" "2", 3, EXPRESSION_EXACT),
                     EXPRESSION_UNREADABLE);
    expression_release(&expression);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expressions_have_exact_values),
        cmocka_unit_test(other_text_is_unreadable),
        cmocka_unit_test(integers_mode_takes_plain_arithmetic_alone),
        cmocka_unit_test(used_integers_are_collected_in_order),
        cmocka_unit_test(hostile_text_meets_a_limit),
        cmocka_unit_test(text_over_the_limit_is_refused_and_nul_is_unreadable),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
