#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "reward/rational.h"

static void set_fraction(struct rational *r, int64_t above, int64_t below)
{
    struct rational divisor;

    rational_init(r);
    rational_init(&divisor);
    rational_set_integer(r, above);
    rational_set_integer(&divisor, below);
    assert_int_equal(rational_divide(r, &divisor), RATIONAL_OK);
    rational_release(&divisor);
}

static void assert_fraction(struct rational *r, int64_t above, int64_t below)
{
    struct rational wanted;

    set_fraction(&wanted, above, below);
    assert_true(rational_equal(r, &wanted));
    rational_release(&wanted);
}

static void arithmetic_is_exact(void **state)
{
    struct rational a, b;

    (void)state;
    set_fraction(&a, 1, 3);
    set_fraction(&b, 1, 6);
    assert_int_equal(rational_add(&a, &b), RATIONAL_OK);
    assert_fraction(&a, 1, 2);
    assert_int_equal(rational_subtract(&a, &b), RATIONAL_OK);
    assert_fraction(&a, 1, 3);
    assert_int_equal(rational_multiply(&a, &b), RATIONAL_OK);
    assert_fraction(&a, 1, 18);
    assert_int_equal(rational_divide(&a, &b), RATIONAL_OK);
    assert_fraction(&a, 1, 3);
    assert_int_equal(rational_raise(&a, -3), RATIONAL_OK);
    assert_fraction(&a, 27, 1);
    rational_negate(&a);
    assert_fraction(&a, -27, 1);
    rational_release(&a);
    rational_release(&b);
}

static void decimals_are_fractions(void **state)
{
    struct rational r;

    (void)state;
    rational_init(&r);
    assert_int_equal(rational_set_digits(&r, "0125", 4, 3), RATIONAL_OK);
    assert_fraction(&r, 1, 8);
    rational_release(&r);
}

static void division_by_zero_is_undefined(void **state)
{
    struct rational a, zero;

    (void)state;
    set_fraction(&a, 5, 1);
    rational_init(&zero);
    assert_int_equal(rational_divide(&a, &zero), RATIONAL_UNDEFINED);
    assert_int_equal(rational_raise(&zero, 0), RATIONAL_UNDEFINED);
    assert_int_equal(rational_raise(&zero, -1), RATIONAL_UNDEFINED);
    rational_release(&a);
    rational_release(&zero);
}

static void large_results_are_refused(void **state)
{
    struct rational a, b;
    char digits[RATIONAL_MAX_DIGITS + 2];

    (void)state;
    memset(digits, '9', sizeof(digits));
    rational_init(&a);
    rational_init(&b);
    assert_int_equal(rational_set_digits(&a, digits, RATIONAL_MAX_DIGITS + 1, 0), RATIONAL_LIMIT);
    assert_int_equal(rational_set_digits(&a, digits, RATIONAL_MAX_DIGITS, 0), RATIONAL_OK);
    rational_copy(&b, &a);
    assert_int_equal(rational_multiply(&a, &b), RATIONAL_LIMIT);
    rational_set_integer(&a, 9);
    assert_int_equal(rational_raise(&a, 387420489), RATIONAL_LIMIT);
    assert_int_equal(rational_raise(&a, INT64_MIN), RATIONAL_LIMIT);
    assert_int_equal(rational_raise(&b, 99999), RATIONAL_LIMIT);   /* not worked out first */
    rational_release(&a);
    rational_release(&b);
}

static void integers_are_told_apart(void **state)
{
    struct rational r;
    int64_t value = 0;

    (void)state;
    set_fraction(&r, 7, 2);
    assert_false(rational_to_integer(&r, &value));
    rational_set_integer(&r, -7);
    assert_true(rational_to_integer(&r, &value));
    assert_int_equal(value, -7);
    assert_int_equal(rational_raise(&r, 99), RATIONAL_OK);
    assert_false(rational_to_integer(&r, &value));
    rational_release(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arithmetic_is_exact),
        cmocka_unit_test(decimals_are_fractions),
        cmocka_unit_test(division_by_zero_is_undefined),
        cmocka_unit_test(large_results_are_refused),
        cmocka_unit_test(integers_are_told_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
