/* Comparison of outputs and of values: nothing is run. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "common/random.h"
#include "common/status.h"
#include "sandbox/compare.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

static int same(const char *mode, const char *got, const char *want)
{
    struct compare compare;

    assert_int_equal(compare_read(&compare, mode), STATUS_OK);
    return compare_output(&compare, got, strlen(got), want, strlen(want));
}

static void outputs_are_compared_by_their_mode(void **state)
{
    static const struct {
        const char *mode, *got, *want;
        int same;
    } cases[] = {
        {NULL, "3", "3\n", 1},
        {"tokens", " 1\t2\r\n3 ", "1 2\n3\n", 1},
        {"tokens", "1 2", "1 2 3", 0},       /* a prefix */
        {"tokens", "1 2 3 4", "1 2 3", 0},
        {"tokens", "12 3", "1 23", 0},
        {"tokens", "", "", 1},
        {"tokens", " \n", "", 1},
        {"tokens", "", "x", 0},
        {"tokens", "x", "", 0},
        {"tokens", "1.0", "1", 0},
        {"tokens", "YES", "yes", 0},
        {"exact", "3\n", "3\n", 1},
        {"exact", "3", "3\n", 0},
        {"exact", "", "", 1},
        {"lines", "a  b \n c\n\n\n", "a  b\n c", 1},
        {"lines", "a b", "a  b", 0},
        {"lines", "a\n\nb", "a\nb", 0},
        {"lines", "a", "a\nb", 0},
        {"lines", "a\nb", "a", 0},
        {"lines", " a", "a", 0},
        {"lines", "\n", "", 1},
        {"float:1e-6", "0.3333333", "0.33333334", 1},
        {"float:1e-6", "0.333", "0.334", 0},
        {"float:1e-6", "1000000.5", "1000000", 1},
        {"float:1e-6", "1000002", "1000000", 0},
        {"float:1e-6", "2", "2.0", 1},
        {"float:1e-6", "+2", "2", 1},
        {"float:1e-6", ".5", "0.5", 1},
        {"float:1e-6", "5e-1", "0.5", 1},
        {"float:1e-6", "nan", "0", 0},
        {"float:1e-6", "nan", "1", 0},
        {"float:1e-6", "inf", "1", 0},
        {"float:1e-6", "1e999", "1", 0},
        {"float:1e-6", "1e999", "2e999", 0},
        {"float:1e-6", "0x10", "16", 0},
        {"float:1e-6", "1_0", "10", 0},
        {"float:1e-6", "1.", "1", 1},
        {"float:1e-6", "1.0abc", "1.0", 0},
        {"float:1e-6", "1e", "1", 0},
        {"float:1e-6", "-", "0", 0},
        {"float:1e-6", "1.2.3", "1.2", 0},
        {"float:1e-6", "1 2", "1", 0},
        {"float:1e-6", "yes", "yes", 1},
        {"float:1e-6", "1234567890123456", "1234567890123457", 0},
        {"float:0", "0.1", "0.10", 1},
    };

    (void)state;
    for (size_t i = 0; i < N_OF(cases); i++)
        if (same(cases[i].mode, cases[i].got, cases[i].want) != cases[i].same)
            fail_msg("case %zu: \"%s\" and \"%s\"", i, cases[i].got, cases[i].want);
}

static void bytes_are_compared_with_their_lengths(void **state)
{
    static const char *const modes[] = {"tokens", "exact", "lines", "float:0.1"};
    struct compare compare;

    (void)state;
    for (size_t i = 0; i < N_OF(modes); i++) {
        assert_int_equal(compare_read(&compare, modes[i]), STATUS_OK);
        assert_true(compare_output(&compare, "a\0b", 3, "a\0b", 3));
        assert_false(compare_output(&compare, "a\0b", 3, "a\0c", 3));
        assert_false(compare_output(&compare, "a\0b", 3, "a", 1));
        assert_false(compare_output(&compare, "\xff", 1, "\xfe", 1));
        assert_true(compare_output(&compare, NULL, 0, NULL, 0));
        assert_false(compare_output(&compare, NULL, 0, "1", 1));
    }
}

static void unknown_modes_are_refused(void **state)
{
    static const char *const modes[] = {"", "token", "float", "float:", "float:x", "float:-1",
                                        "float:1", "float:nan", "float:1e-6x"};
    struct compare compare;

    (void)state;
    for (size_t i = 0; i < N_OF(modes); i++)
        if (compare_read(&compare, modes[i]) != STATUS_FORMAT)
            fail_msg("\"%s\" was taken", modes[i]);
}

/* What tokens mean, written without care for speed: blanks become one, none at the ends. */
static size_t squeeze(const char *from, size_t n, char *to)
{
    size_t n_to = 0;

    for (size_t i = 0; i < n; i++) {
        int blank = strchr(" \t\n\v\f\r", from[i]) && from[i];

        if (!blank)
            to[n_to++] = from[i];
        else if (n_to && to[n_to - 1] != '\n')
            to[n_to++] = '\n';
    }
    while (n_to && to[n_to - 1] == '\n')
        n_to--;
    return n_to;
}

static void tokens_agree_with_a_slow_reference(void **state)
{
    static const char letters[] = {'a', 'b', ' ', '\n', '\t', '\r', '\0'};
    struct random_stream random = {5, 0};
    struct compare compare;
    int n_same = 0;

    (void)state;
    assert_int_equal(compare_read(&compare, "tokens"), STATUS_OK);
    for (int round = 0; round < 200000; round++) {
        char a[8], b[8], x[8], y[8];
        size_t n_a = random_below(&random, sizeof(a)), n_b = random_below(&random, sizeof(b));

        for (size_t i = 0; i < n_a; i++)
            a[i] = letters[random_below(&random, sizeof(letters))];
        for (size_t i = 0; i < n_b; i++)
            b[i] = letters[random_below(&random, sizeof(letters))];
        size_t n_x = squeeze(a, n_a, x), n_y = squeeze(b, n_b, y);
        int want = n_x == n_y && memcmp(x, y, n_x) == 0;
        assert_int_equal(compare_output(&compare, a, n_a, b, n_b), want);
        n_same += want;
    }
    assert_true(n_same > 1000);
}

static int same_values(const char *mode, int loose, const char *want, const char *got)
{
    struct compare compare;
    json_t *wanted = NULL, *given = NULL;

    assert_int_equal(compare_read(&compare, mode), STATUS_OK);
    compare.loose_bools = loose;
    if (values_parse(&wanted, want, strlen(want), "want") < 0 ||
        values_parse(&given, got, strlen(got), "got") < 0)
        fail_msg("%s", status_reason());
    int result = compare_results(&compare, wanted, given);
    json_decref(wanted);
    json_decref(given);
    return result;
}

static const struct {
    const char *want, *got;
    int same;
} value_cases[] = {
    {"3", "3", 1},
    {"3", "4", 0},
    {"3", "3.0", 1},
    {"3", "3.0000001", 0},
    {"3", "\"3\"", 0},
    {"3", "true", 0},
    {"1", "true", 0},
    {"true", "1", 0},
    {"true", "true", 1},
    {"true", "false", 0},
    {"false", "null", 0},
    {"null", "null", 1},
    {"null", "{\"u\":0}", 0},
    {"0", "null", 0},
    {"\"\"", "null", 0},
    {"100000000000000000000", "{\"i\":\"100000000000000000000\"}", 1},
    {"100000000000000000000", "{\"i\":\"100000000000000000001\"}", 0},
    {"100000000000000000000", "1e20", 0},
    {"1234567890123456789", "1234567890123456789", 1},
    {"1234567890123456789", "{\"i\":\"1234567890123456789\"}", 1},
    {"12", "{\"i\":\"12\"}", 1},
    {"0.3", "0.30000000000000004", 1},
    {"0.3", "0.3001", 0},
    {"2.0", "2", 1},
    {"1e300", "1.0000000000001e300", 1},
    {"0.5", "{\"f\":\"nan\"}", 0},
    {"0.5", "{\"f\":\"inf\"}", 0},
    {"0.5", "\"0.5\"", 0},
    {"\"a\\u0000b\"", "\"a\\u0000b\"", 1},
    {"\"a\\u0000b\"", "\"a\"", 0},
    {"\"\\u00e9\"", "\"e\\u0301\"", 0},
    {"[1,2]", "[1,2]", 1},
    {"[1,2]", "[1]", 0},
    {"[1]", "[1,2]", 0},
    {"[1,2]", "[2,1]", 0},
    {"[1,2]", "{\"t\":[1,2]}", 1},
    {"[1,2]", "{\"s\":[1,2]}", 0},
    {"[1,2]", "\"[1, 2]\"", 0},
    {"[]", "null", 0},
    {"[[1.5],[]]", "[[1.5],[]]", 1},
    {"{\"a\":1}", "{\"d\":[[\"a\",1]]}", 1},
    {"{\"a\":1,\"b\":2}", "{\"d\":[[\"b\",2],[\"a\",1]]}", 1},
    {"{\"a\":1}", "{\"d\":[[\"a\",2]]}", 0},
    {"{\"a\":1}", "{\"d\":[[\"a\",1],[\"b\",1]]}", 0},
    {"{\"a\":1,\"b\":1}", "{\"d\":[[\"a\",1],[\"a\",1]]}", 0},
    {"{\"1\":2}", "{\"d\":[[1,2]]}", 1},
    {"{\"1\":2}", "{\"d\":[[2,2]]}", 0},
    {"{\"d\":[[\"a\",1]]}", "{\"d\":[[\"a\",1]]}", 0},
    {"{}", "{\"d\":[]}", 1},
    {"{}", "[]", 0},
    {"{}", "{}", 0},
};

static void values_are_compared_with_their_types(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_OF(value_cases); i++)
        if (same_values(NULL, 0, value_cases[i].want, value_cases[i].got) != value_cases[i].same)
            fail_msg("case %zu: %s and %s", i, value_cases[i].want, value_cases[i].got);
    assert_true(same_values("float:0.01", 0, "0.3", "0.301"));
    assert_false(same_values("exact", 0, "0.3", "0.30000000000000004"));
    assert_true(same_values(NULL, 1, "true", "1"));
    assert_true(same_values(NULL, 1, "0", "false"));
    assert_false(same_values(NULL, 1, "true", "2"));
    assert_false(same_values(NULL, 1, "false", "1"));
    assert_false(same_values(NULL, 1, "null", "false"));
    assert_false(same_values(NULL, 1, "false", "\"\""));
    assert_false(same_values(NULL, 1, "false", "null"));
}

static void integers_of_any_size_pass_through(void **state)
{
    static const char text[] =
        "[123456789012345678901234567890,-123456789012345678901234567890,"
        "\"123456789012345678901234567890\\\" 12345678901234567890\",1.5e3,{\"a\":[7]}]";
    struct text out = {0};
    json_t *value;

    (void)state;
    assert_int_equal(values_parse(&value, text, strlen(text), "t"), STATUS_OK);
    assert_string_equal(values_big_integer(json_array_get(value, 0)),
                        "123456789012345678901234567890");
    assert_null(values_big_integer(json_array_get(value, 2)));
    values_append(&out, value);
    assert_string_equal(out.data,
                        "[{\"i\":\"123456789012345678901234567890\"},"
                        "{\"i\":\"-123456789012345678901234567890\"},"
                        "\"123456789012345678901234567890\\\" 12345678901234567890\",1500.0,"
                        "{\"d\":[[\"a\",[7]]]}]");
    text_release(&out);
    json_decref(value);
    assert_int_equal(values_parse(&value, "[1", 2, "t"), STATUS_FORMAT);
    assert_int_equal(values_parse(&value, "", 0, "t"), STATUS_FORMAT);
    assert_int_equal(values_parse(&value, "\"\xff\"", 3, "t"), STATUS_FORMAT);
    assert_int_equal(values_parse(&value, "\"\\", 2, "t"), STATUS_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outputs_are_compared_by_their_mode),
        cmocka_unit_test(bytes_are_compared_with_their_lengths),
        cmocka_unit_test(unknown_modes_are_refused),
        cmocka_unit_test(tokens_agree_with_a_slow_reference),
        cmocka_unit_test(values_are_compared_with_their_types),
        cmocka_unit_test(integers_of_any_size_pass_through),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
