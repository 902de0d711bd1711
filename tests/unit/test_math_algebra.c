#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "math/algebra_internal.h"
#include "tests/unit/test_math_algebra.h"

#define SEED 20250122
#define SOON_MS 30000   /* far away: reached only when something is broken */

struct fixture {
    struct algebra *algebra;
    struct arena arena;
    struct deadline deadline;
};

static int set_up(void **state)
{
    static struct fixture fixture;

    arena_init(&fixture.arena, MATH_ARENA_BYTES);
    assert_int_equal(algebra_create(&fixture.algebra, SEED), 0);
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;

    algebra_destroy(&fixture->algebra);
    arena_release(&fixture->arena);
    return 0;
}

static struct algebra_context begin(struct fixture *fixture)
{
    arena_rewind(&fixture->arena);
    deadline_start(&fixture->deadline, SOON_MS, SOON_MS);
    return (struct algebra_context){.algebra = fixture->algebra, .arena = &fixture->arena,
                                    .deadline = &fixture->deadline};
}

static enum algebra_answer compare(struct fixture *fixture, const char *a, const char *b)
{
    struct algebra_context context = begin(fixture);

    return algebra_compare(&context, formula_read(&fixture->arena, a),
                           formula_read(&fixture->arena, b));
}

static const char *name_of(enum algebra_answer answer)
{
    static const char *const names[] = {"exact", "proved", "numeric", "different", "unknown",
                                        "limit"};
    return names[answer];
}

static int is_equal(enum algebra_answer answer)
{
    return answer <= ALGEBRA_EQUAL_NUMERIC;
}

enum needs { RATIONALS, PRIMES, FLINT };   /* what decides the row */

struct row {
    const char *a, *b;
    enum needs needs;
    enum algebra_answer wanted;   /* with all of them */
};

#define EXACT ALGEBRA_EQUAL_EXACT
#define PROVED ALGEBRA_EQUAL_PROVED
#define NUMERIC ALGEBRA_EQUAL_NUMERIC
#define DIFFERENT ALGEBRA_DIFFERENT
#define UNKNOWN ALGEBRA_UNKNOWN

static const struct row constants[] = {
    {"sqrt(8)", "2*sqrt(2)", FLINT, PROVED},
    {"sqrt(8)", "2*sqrt(2)+10^(-40)", FLINT, DIFFERENT},
    {"(sqrt(2)+sqrt(3))^2", "5+2*sqrt(6)", FLINT, PROVED},
    {"(sqrt(2)+sqrt(3))^2", "5+2*sqrt(6)+10^(-200)", FLINT, DIFFERENT},
    {"cos(pi/7)-cos(2*pi/7)+cos(3*pi/7)", "1/2", FLINT, PROVED},
    {"cos(pi/7)*cos(2*pi/7)*cos(3*pi/7)", "1/8", FLINT, PROVED},
    {"cos(pi/7)+cos(2*pi/7)", "3/2", FLINT, DIFFERENT},
    {"cos(pi/5)", "(1+sqrt(5))/4", FLINT, PROVED},
    {"sin(pi/12)", "(sqrt(6)-sqrt(2))/4", FLINT, PROVED},
    {"tan(pi/8)", "sqrt(2)-1", FLINT, PROVED},
    {"tan(3*pi/11)+4*sin(2*pi/11)", "sqrt(11)", FLINT, NUMERIC},
    {"e^(i*pi)", "-1", FLINT, PROVED},
    {"e^(i*pi/3)", "1/2+i*sqrt(3)/2", FLINT, PROVED},
    {"e^(i*pi/3)", "1/2-i*sqrt(3)/2", FLINT, DIFFERENT},
    {"i^i", "e^(-pi/2)", FLINT, PROVED},
    {"sqrt(-4)", "2*i", FLINT, PROVED},
    {"sqrt(3+2*sqrt(2))", "1+sqrt(2)", FLINT, PROVED},
    {"sqrt(2+sqrt(3))", "(sqrt(6)+sqrt(2))/2", FLINT, PROVED},
    {"root(3,2+sqrt(5))+root(3,2-sqrt(5))", "1", FLINT, PROVED},
    {"root(3,7+5*sqrt(2))", "1+sqrt(2)", FLINT, PROVED},
    {"sqrt(5+2*sqrt(6))", "sqrt(3)-sqrt(2)", FLINT, DIFFERENT},
    {"1/(sqrt(2)-1)", "sqrt(2)+1", FLINT, PROVED},
    {"4*arctan(1/5)-arctan(1/239)", "pi/4", FLINT, PROVED},
    {"arctan(1)", "pi/4", FLINT, PROVED},
    {"arcsin(1/2)", "pi/6", FLINT, PROVED},
    {"arccot(-1)", "3*pi/4", FLINT, PROVED},
    {"ln(6)", "ln(2)+ln(3)", FLINT, PROVED},
    {"ln(8)/ln(2)", "3", FLINT, PROVED},
    {"log_base(3,5)*log_base(5,3)", "1", FLINT, PROVED},
    {"e^(2*ln(3))", "9", FLINT, PROVED},
    {"2^(1/2)", "1.41421356237", FLINT, DIFFERENT},
    {"pi", "3.14159265358979", PRIMES, DIFFERENT},
    {"sinh(ln(2))", "3/4", FLINT, PROVED},
    {"cosh(1)^2-sinh(1)^2", "1", FLINT, PROVED},
    {"abs(3+4*i)", "5", FLINT, PROVED},
    {"floor(sqrt(2)^2)", "2", FLINT, PROVED},
    {"floor(pi^2)", "9", FLINT, PROVED},
    {"2^sqrt(2)*2^(-sqrt(2))", "1", FLINT, PROVED},
    {"e^pi-pi", "20", FLINT, DIFFERENT},
    {"e^(pi*sqrt(163))", "640320^3+744", FLINT, DIFFERENT},
    {"sqrt(2)+sqrt(3)", "pi", FLINT, DIFFERENT},
    {"pi+sin(e^(-10^6))", "pi", FLINT, DIFFERENT},
    {"tan(3*pi/11)+4*sin(2*pi/11)+e^(-10^6)", "sqrt(11)", FLINT, UNKNOWN},
    {"factorial(-1/2)", "sqrt(pi)", FLINT, PROVED},
};

static const struct row rationals[] = {
    {"1/3+1/6", "1/2", RATIONALS, EXACT},
    {"0.1+0.2", "0.3", RATIONALS, EXACT},
    {"0.1+0.2", "0.30000000000000000000001", RATIONALS, DIFFERENT},
    {"log_base(4,8)", "3/2", RATIONALS, EXACT},
    {"log_base(1/9,27)", "-3/2", RATIONALS, EXACT},
    {"log_base(2,10^100)", "100*log_base(2,10)", FLINT, PROVED},
    {"log_base(2,10)", "3", FLINT, DIFFERENT},
    {"(-8)^(1/3)", "-2", RATIONALS, EXACT},
    {"root(3,-8)", "-2", RATIONALS, EXACT},
    {"(16/81)^(-3/4)", "27/8", RATIONALS, EXACT},
    {"factorial(20)", "2432902008176640000", RATIONALS, EXACT},
    {"factorial(20)", "2432902008176640001", RATIONALS, DIFFERENT},
    {"binomial(10,3)", "120", RATIONALS, EXACT},
    {"binomial(3,10)", "0", RATIONALS, EXACT},
    {"permutations(5,2)", "20", RATIONALS, EXACT},
    {"double_factorial(7)", "105", RATIONALS, EXACT},
    {"mod(-7,3)", "2", RATIONALS, EXACT},
    {"gcd(12,18)+lcm(4,6)", "18", RATIONALS, EXACT},
    {"max(1/2,1/3)-min(1/2,1/3)", "1/6", RATIONALS, EXACT},
    {"floor(-7/2)+ceiling(7/2)", "0", RATIONALS, EXACT},
    {"cos(0)+exp(0)+ln(1)", "2", RATIONALS, EXACT},
    {"sqrt(2)", "sqrt(2)", RATIONALS, EXACT},
    {"2^100-1", "1267650600228229401496703205375", RATIONALS, EXACT},
    {"10^10^10", "10^10^10", PRIMES, EXACT},
    {"10^10^10", "10^10^10+1", PRIMES, DIFFERENT},
    {"10^10^10*10", "10^(10^10+1)", PRIMES, NUMERIC},
    {"2^(2^100)", "4^(2^99)", PRIMES, PROVED},
    {"e^0+pi^0", "2", PRIMES, PROVED},
    {"(1+i)^2", "2*i", PRIMES, PROVED},
    {"(1+i)^2", "-2*i", PRIMES, DIFFERENT},
    {"1/(1+i)", "(1-i)/2", PRIMES, PROVED},
    {"pi/2+pi", "3*pi/2", PRIMES, PROVED},
    {"pi/2+pi", "5*pi/2", PRIMES, DIFFERENT},
    {"(e^2-1)/(e-1)", "e+1", PRIMES, PROVED},
};

static const struct row letters[] = {
    {"(x+1)^2", "x^2+2*x+1", PRIMES, PROVED},
    {"(x+1)^2", "x^2+2*x+2", PRIMES, DIFFERENT},
    {"(x^2-1)/(x-1)", "x+1", PRIMES, PROVED},
    {"x", "X", PRIMES, DIFFERENT},
    {"x_a", "x_b", PRIMES, DIFFERENT},
    {"a/b+c/d", "(a*d+b*c)/(b*d)", PRIMES, PROVED},
    {"x^3/3+x", "x^3/3+x+C", PRIMES, DIFFERENT},
    {"(x+y)^20", "(y+x)^20", PRIMES, PROVED},
    {"x^1000", "x^999*x", PRIMES, NUMERIC},
    {"(x+i)^2", "x^2+2*i*x-1", PRIMES, PROVED},
    {"pi*r^2", "r^2*pi", PRIMES, PROVED},
    {"pi*r^2", "3.14159*r^2", PRIMES, DIFFERENT},
    {"sqrt(t^2)", "abs(t)", FLINT, NUMERIC},
    {"sqrt(t^2)", "t", FLINT, DIFFERENT},
    {"ln(a/b)", "ln(a)-ln(b)", FLINT, NUMERIC},
    {"ln(a*b)", "ln(a)-ln(b)", FLINT, DIFFERENT},
    {"ln(x^2)", "2*ln(x)", FLINT, NUMERIC},
    {"ln(abs(x))", "ln(x)", FLINT, NUMERIC},
    {"sqrt(x)*sqrt(y)", "sqrt(x*y)", FLINT, NUMERIC},
    {"sqrt(x+y)", "sqrt(x)+sqrt(y)", FLINT, DIFFERENT},
    {"sin(x)^2+cos(x)^2", "1", FLINT, NUMERIC},
    {"sin(2*x)", "2*sin(x)*cos(x)", FLINT, NUMERIC},
    {"sin(2*x)", "2*sin(x)", FLINT, DIFFERENT},
    {"arcsin(x)+arccos(x)", "pi/2", FLINT, NUMERIC},
    {"arcsin(x)+arccos(x)", "pi/2+10^(-30)", FLINT, DIFFERENT},
    {"e^(i*x)", "cos(x)+i*sin(x)", FLINT, NUMERIC},
    {"e^(i*x)", "cos(x)-i*sin(x)", FLINT, DIFFERENT},
    {"x^(1/3)*x^(2/3)", "x", FLINT, NUMERIC},
    {"root(3,x^3)", "x", FLINT, NUMERIC},
    {"2^(n+1)", "2*2^n", FLINT, NUMERIC},
    {"2^(n+1)", "2^n+2", FLINT, DIFFERENT},
    {"e^(x+y)", "e^x*e^y", FLINT, NUMERIC},
    {"x+e^(-100*x^2)", "x", FLINT, DIFFERENT},
    {"cos(n*pi)", "(-1)^n", FLINT, NUMERIC},
    {"cos(n*pi)", "(-1)^(n+1)", FLINT, DIFFERENT},
    {"factorial(n+1)", "(n+1)*factorial(n)", FLINT, NUMERIC},
    {"factorial(n)/factorial(n-2)", "n*(n-1)", FLINT, NUMERIC},
    {"factorial(n)", "n^n", FLINT, DIFFERENT},
    {"binomial(n,2)", "n*(n-1)/2", FLINT, NUMERIC},
    {"binomial(n,k)", "binomial(n,n-k)", FLINT, NUMERIC},
    {"binomial(n,k)", "binomial(n,k+1)", FLINT, DIFFERENT},
    {"permutations(n,600)+n", "n", FLINT, DIFFERENT},
    {"mod(n+7,7)", "mod(n,7)", FLINT, NUMERIC},
    {"ln(x-3)+ln(5-x)", "ln((x-3)*(5-x))", FLINT, NUMERIC},
    {"arctanh(sqrt(k))", "ln((1+sqrt(k))/(1-sqrt(k)))/2", FLINT, NUMERIC},
    {"arccosh(x)", "ln(x+sqrt(x^2-1))", FLINT, NUMERIC},
    {"exp(2*arccoth(n))", "(n+1)/(n-1)", FLINT, NUMERIC},
    {"log_base(b,x)", "ln(x)/ln(b)", FLINT, NUMERIC},
    {"max(x,y)+min(x,y)", "x+y", FLINT, NUMERIC},
    {"abs(x)*abs(y)", "abs(x*y)", FLINT, NUMERIC},
    {"abs(x+y)", "abs(x)+abs(y)", FLINT, DIFFERENT},
    {"z*conjugate(z)", "abs(z)^2", FLINT, NUMERIC},
    {"real(z)", "(z+conjugate(z))/2", FLINT, NUMERIC},
    {"conjugate(z)", "z", FLINT, DIFFERENT},
    {"binomial(n,9999)+n", "n", FLINT, DIFFERENT},
    {"x+sqrt(2)*e^(-10^6)", "x", FLINT, DIFFERENT},   /* at 0 */
    {"x+pi+sqrt(2)*e^(-10^6)", "x+pi", FLINT, UNKNOWN},
};

static const struct row undefined[] = {
    {"1/0", "1/0", RATIONALS, DIFFERENT},
    {"0/0", "0", RATIONALS, DIFFERENT},
    {"0^0", "1", RATIONALS, DIFFERENT},
    {"ln(0)", "ln(0)", RATIONALS, DIFFERENT},
    {"infinity-infinity", "0", RATIONALS, DIFFERENT},
    {"1/infinity", "0", RATIONALS, DIFFERENT},
    {"factorial(-3)", "factorial(-3)", RATIONALS, DIFFERENT},
    {"mod(5,0)", "mod(5,0)", RATIONALS, DIFFERENT},
    {"sqrt(2)+1/0", "sqrt(2)+1/0", RATIONALS, DIFFERENT},
    {"x+1/(x-x)", "x+1/(x-x)", PRIMES, DIFFERENT},
    {"x/0", "x/0", RATIONALS, DIFFERENT},
    {"1/(pi-pi)", "1/(pi-pi)", PRIMES, DIFFERENT},
    {"1/(sqrt(2)-sqrt(2))", "1/(sqrt(2)-sqrt(2))", FLINT, DIFFERENT},
    {"1/(1/(sqrt(2)-sqrt(2)))", "0", FLINT, DIFFERENT},
    {"(sqrt(2)-sqrt(2))^0", "1", FLINT, DIFFERENT},
    {"tan(pi/2)", "tan(pi/2)", FLINT, DIFFERENT},
};

/* What a build or a machine without FLINT says of a row. */
static enum algebra_answer wanted_of(const struct row *row)
{
    if (deep_is_there || row->needs == RATIONALS)
        return row->wanted;
    if (row->needs == PRIMES)
        return row->wanted == PROVED ? NUMERIC : row->wanted;
    return !strcmp(row->a, row->b) ? EXACT : UNKNOWN;
}

static void check_rows(struct fixture *fixture, const struct row *rows, size_t n)
{
    int n_bad = 0;

    for (size_t i = 0; i < n; i++)
        for (int swap = 0; swap < 2; swap++) {
            enum algebra_answer answer = compare(fixture, swap ? rows[i].b : rows[i].a,
                                                 swap ? rows[i].a : rows[i].b);
            if (answer == wanted_of(&rows[i]))
                continue;
            print_error("%s = %s: %s, not %s\n", rows[i].a, rows[i].b, name_of(answer),
                        name_of(wanted_of(&rows[i])));
            n_bad++;
        }
    assert_int_equal(n_bad, 0);
}

#define N(rows) (sizeof(rows) / sizeof((rows)[0]))

static void constants_are_proved_or_refuted(void **state)
{
    check_rows(*state, constants, N(constants));
}

static void rationals_are_exact(void **state)
{
    check_rows(*state, rationals, N(rationals));
}

static void functions_of_letters_agree_where_both_are_defined(void **state)
{
    check_rows(*state, letters, N(letters));
}

static void what_is_undefined_is_equal_to_nothing(void **state)
{
    check_rows(*state, undefined, N(undefined));
}

static void exact_cases_need_no_child(void **state)
{
    struct fixture *fixture = *state;
    pid_t pid = algebra_child_pid(fixture->algebra);

    if (pid)
        kill(pid, SIGKILL);
    for (size_t i = 0; i < N(rationals); i++)
        if (rationals[i].needs == RATIONALS)
            assert_int_equal(compare(fixture, rationals[i].a, rationals[i].b),
                             rationals[i].wanted);
    assert_int_equal(algebra_child_pid(fixture->algebra), pid);
}

static void other_seeds_give_the_same_answers(void **state)
{
    struct fixture *fixture = *state;
    struct fixture other = {.arena = fixture->arena};

    for (uint64_t seed = 1; seed <= 5; seed++) {
        assert_int_equal(algebra_create(&other.algebra, seed), 0);
        check_rows(&other, rationals, N(rationals));
        check_rows(&other, letters, N(letters));
        algebra_destroy(&other.algebra);
    }
    fixture->arena = other.arena;
}

static void a_logarithm_without_base_is_read_as_told(void **state)
{
    struct fixture *fixture = *state;
    struct algebra_context context = begin(fixture);
    const struct node *a = formula_read(&fixture->arena, "log(100)");
    const struct node *two = formula_read(&fixture->arena, "2");

    context.log_is_decimal = 1;
    assert_int_equal(algebra_compare(&context, a, two), EXACT);
    context.log_is_decimal = 0;
    assert_int_equal(algebra_compare(&context, a, two), deep_is_there ? DIFFERENT : UNKNOWN);
    if (deep_is_there)
        assert_int_equal(compare(fixture, "log(100)", "2*ln(10)"), PROVED);
}

static void equations_are_compared_up_to_a_factor(void **state)
{
    static const struct row rows[] = {
        {"2*x+4*y", "x+2*y", PRIMES, PROVED},
        {"2*x+4*y", "-x/3-2*y/3", PRIMES, PROVED},
        {"2*x+4*y", "x+3*y", PRIMES, DIFFERENT},
        {"x^2-1", "x-1", PRIMES, DIFFERENT},
        {"pi*x-pi", "x-1", PRIMES, PROVED},
        {"x-x", "y-y", PRIMES, PROVED},
        {"x-x", "y", PRIMES, DIFFERENT},
        {"sqrt(2)*x+2", "x+sqrt(2)", FLINT, NUMERIC},
        {"sqrt(2)*x+2", "x-sqrt(2)", FLINT, DIFFERENT},
        {"sin(x)", "2*sin(x)", FLINT, NUMERIC},
        {"sin(x)", "x*sin(x)", FLINT, DIFFERENT},
        {"3", "5", RATIONALS, EXACT},
        {"0", "5", RATIONALS, DIFFERENT},
        {"sqrt(2)", "sqrt(3)", FLINT, PROVED},
        {"sqrt(2)-sqrt(2)", "sqrt(3)", FLINT, DIFFERENT},
    };
    struct fixture *fixture = *state;

    for (size_t i = 0; i < N(rows); i++) {
        struct algebra_context context = begin(fixture);
        enum algebra_answer answer =
            algebra_proportional(&context, formula_read(&fixture->arena, rows[i].a),
                                 formula_read(&fixture->arena, rows[i].b));
        if (answer != wanted_of(&rows[i]))
            fail_msg("%s ~ %s: %s", rows[i].a, rows[i].b, name_of(answer));
    }
}

static void real_constants_have_an_order(void **state)
{
    static const struct { const char *a, *b; int needs, order; enum algebra_answer wanted; }
    rows[] = {
        {"1/3", "0.3333333333", RATIONALS, 1, DIFFERENT},
        {"-5", "-4", RATIONALS, -1, DIFFERENT},
        {"2/4", "1/2", RATIONALS, 0, EXACT},
        {"sqrt(2)", "3/2", FLINT, -1, DIFFERENT},
        {"22/7", "pi", FLINT, 1, DIFFERENT},
        {"sqrt(8)", "2*sqrt(2)", FLINT, 0, PROVED},
        {"sqrt(2)", "sqrt(2)", RATIONALS, 0, EXACT},
        {"e^(pi*sqrt(163))", "640320^3+744", FLINT, -1, DIFFERENT},
        {"i", "1", FLINT, 9, UNKNOWN},
        {"x", "1", RATIONALS, 9, UNKNOWN},
        {"1/0", "1", RATIONALS, 9, UNKNOWN},
    };
    struct fixture *fixture = *state;

    for (size_t i = 0; i < N(rows); i++) {
        struct algebra_context context = begin(fixture);
        int order = 9, is_known = deep_is_there || rows[i].needs == RATIONALS;
        enum algebra_answer answer =
            algebra_order(&context, formula_read(&fixture->arena, rows[i].a),
                          formula_read(&fixture->arena, rows[i].b), &order);
        if (answer != (is_known ? rows[i].wanted : UNKNOWN) ||
            (is_known && answer != UNKNOWN && order != rows[i].order))
            fail_msg("%s < %s: %s, %d", rows[i].a, rows[i].b, name_of(answer), order);
    }
}

static void decimals_are_rounded_or_cut_at_their_last_digit(void **state)
{
    static const struct { const char *literal, *value; int needs; enum algebra_answer wanted; }
    rows[] = {
        {"1.414213", "sqrt(2)", FLINT, PROVED},
        {"1.414214", "sqrt(2)", FLINT, PROVED},
        {"1.414215", "sqrt(2)", FLINT, DIFFERENT},
        {"1.414212", "sqrt(2)", FLINT, DIFFERENT},
        {"-1.414214", "-sqrt(2)", FLINT, PROVED},
        {"-1.414214", "sqrt(2)", FLINT, DIFFERENT},
        {"0.857143", "6/7", RATIONALS, PROVED},
        {"0.857142", "6/7", RATIONALS, PROVED},
        {"0.857144", "6/7", RATIONALS, DIFFERENT},
        {"-0.857143", "-6/7", RATIONALS, PROVED},
        {"-0.857143", "6/7", RATIONALS, DIFFERENT},
        {"3.14159265358979323846", "pi", FLINT, PROVED},
        {"3.14159265358979323847", "pi", FLINT, DIFFERENT},
        {"1.414213", "x", RATIONALS, DIFFERENT},
        {"1.414213", "sqrt(-2)", FLINT, DIFFERENT},
    };
    struct fixture *fixture = *state;

    for (size_t i = 0; i < N(rows); i++) {
        struct algebra_context context = begin(fixture);
        int is_known = deep_is_there || rows[i].needs == RATIONALS;
        enum algebra_answer answer =
            algebra_rounds_to(&context, formula_read(&fixture->arena, rows[i].literal),
                              formula_read(&fixture->arena, rows[i].value));
        if (answer != (is_known ? rows[i].wanted : UNKNOWN))
            fail_msg("%s for %s: %s", rows[i].literal, rows[i].value, name_of(answer));
    }
}

static void exact_values_say_why_there_is_none(void **state)
{
    static const struct { const char *text; int has_value, limit, undefined; } rows[] = {
        {"1/2+1/3", 1, 0, 0},           {"sqrt(2)", 0, 0, 0},
        {"1/0", 0, 0, 1},               {"2^10000000", 0, ALGEBRA_LIMIT, 0},
        {"factorial(2001)", 0, ALGEBRA_LIMIT, 0},
        {"binomial(10001,5000)", 0, ALGEBRA_LIMIT, 0},
        {"factorial(2000)/factorial(1999)", 1, 0, 0},
        {"9^9^9", 0, ALGEBRA_LIMIT, 0}, {"x", 0, 0, 0},
    };
    struct fixture *fixture = *state;
    mpq_t value;

    mpq_init(value);
    for (size_t i = 0; i < N(rows); i++) {
        int limit = -1, is_undefined = -1;
        begin(fixture);
        const struct node *node = formula_read(&fixture->arena, rows[i].text);
        assert_int_equal(algebra_rational(value, node, &limit, &is_undefined), rows[i].has_value);
        assert_int_equal(limit, rows[i].limit);
        assert_int_equal(is_undefined, rows[i].undefined);
    }
    mpq_clear(value);
}

static void what_costs_too_much_is_a_limit_or_no_equality(void **state)
{
    static const char *const giants[] = {
        "factorial(10^9)", "binomial(10^9,5*10^8)", "sin(10^10^10)", "10^10^10^10",
        "2^(10^(-10^10))", "e^(e^(e^(e^10)))", "(x+y+z)^(10^9)", "(x+1)^(y^(z^9999))",
        "factorial(x)^factorial(y^9)", "sqrt(2)^(10^12)", "(1+sqrt(2)+sqrt(3)+sqrt(5)+sqrt(7))^99",
        "root(97,2)+root(89,3)+root(83,5)+root(79,7)", "cos(pi/99991)", "mod(10^10^10,7)",
        "floor(10^10^10*pi)", "5^(5^(5^(5^(5^5)))-4)", "sqrt(7)^(10^900)",
        "gcd(factorial(2000),factorial(1999))^999",
    };
    struct fixture *fixture = *state;

    for (size_t i = 0; i < N(giants); i++) {
        struct algebra_context context = begin(fixture);
        const char *next = giants[(i + 1) % N(giants)];
        context.deadline = NULL;   /* that of a question */
        if (is_equal(algebra_compare(&context, formula_read(&fixture->arena, giants[i]),
                                     formula_read(&fixture->arena, next))))
            fail_msg("%s = %s", giants[i], next);
    }
}

static void after_the_deadline_all_is_a_limit(void **state)
{
    struct fixture *fixture = *state;
    struct algebra_context context = begin(fixture);

    deadline_start(context.deadline, -1, SOON_MS);
    assert_int_equal(algebra_compare(&context, formula_read(&fixture->arena, "sqrt(8)"),
                                     formula_read(&fixture->arena, "2*sqrt(2)")),
                     ALGEBRA_LIMIT);
    deadline_start(context.deadline, SOON_MS, 0);
    assert_int_equal(algebra_compare(&context, formula_read(&fixture->arena, "sqrt(8)"),
                                     formula_read(&fixture->arena, "2*sqrt(2)")),
                     ALGEBRA_LIMIT);
}

/* A process that sends the child a signal some time after it was told to. No thread: sanitizers'
 * allocators, unlike the C library's, do not survive a fork beside threads. */
struct order {
    pid_t pid;
    unsigned delay_us;
    int signal;
};

static int start_sender(void)
{
    int fds[2];
    struct order order;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid) {
        close(fds[1]);
        return fds[0];
    }
    close(fds[0]);
    while (read(fds[1], &order, sizeof(order)) == sizeof(order)) {
        usleep(order.delay_us);
        if (order.pid)
            kill(order.pid, order.signal);
        if (write(fds[1], "", 1) != 1)
            break;
    }
    _exit(0);
}

static void answers_are_the_same_when_the_child_is_killed(void **state)
{
    static const struct { const struct row *rows; size_t n; } tables[] = {
        {constants, N(constants)}, {letters, N(letters)}, {undefined, N(undefined)}};
    struct fixture *fixture = *state;
    struct random_stream stream = {.seed = 7};
    char done;

    if (!deep_is_there)
        skip();
    int sender = start_sender();
    for (size_t t = 0; t < N(tables); t++)
        for (size_t i = 0; i < tables[t].n; i++) {
            const struct row *row = &tables[t].rows[i];
            struct order order = {algebra_child_pid(fixture->algebra),
                                  (unsigned)random_below(&stream, 3000), SIGKILL};
            assert_int_equal(write(sender, &order, sizeof(order)), sizeof(order));
            enum algebra_answer answer = compare(fixture, row->a, row->b);
            assert_int_equal(read(sender, &done, 1), 1);
            if (answer != row->wanted)
                fail_msg("%s = %s: %s", row->a, row->b, name_of(answer));
        }
    close(sender);
    assert_true(wait(NULL) > 0);
}

/* A child that is stopped stands for one that gets no turn: 200 ms on the wall are no limit. */
static void answers_are_the_same_on_a_busy_machine(void **state)
{
    struct fixture *fixture = *state;
    char done;

    if (!deep_is_there)
        skip();
    int sender = start_sender();
    struct order order = {algebra_child_pid(fixture->algebra), (DEADLINE_CPU_MS + 100) * 1000,
                          SIGCONT};
    struct algebra_context context = begin(fixture);
    context.deadline = NULL;
    assert_int_equal(kill(order.pid, SIGSTOP), 0);
    assert_int_equal(write(sender, &order, sizeof(order)), sizeof(order));
    assert_int_equal(algebra_compare(&context, formula_read(&fixture->arena, "sqrt(8)"),
                                     formula_read(&fixture->arena, "2*sqrt(2)")),
                     ALGEBRA_EQUAL_PROVED);
    assert_int_equal(algebra_child_pid(fixture->algebra), order.pid);
    assert_int_equal(read(sender, &done, 1), 1);
    close(sender);
    assert_true(wait(NULL) > 0);
}

struct worker {
    struct fixture fixture;
    pthread_t thread;
    const struct row *failed;
    enum algebra_answer answer;
};

static void *check_in_thread(void *context)
{
    struct worker *worker = context;

    for (size_t i = 0; i < N(constants) && !worker->failed; i++) {
        worker->answer = compare(&worker->fixture, constants[i].a, constants[i].b);
        if (worker->answer != wanted_of(&constants[i]))
            worker->failed = &constants[i];
    }
    return NULL;
}

static void threads_have_a_child_each(void **state)
{
    struct worker workers[4] = {{.failed = NULL}};

    (void)state;
    /* Forked before the threads run: see start_sender(). */
    for (int i = 0; i < 4; i++) {
        arena_init(&workers[i].fixture.arena, MATH_ARENA_BYTES);
        assert_int_equal(algebra_create(&workers[i].fixture.algebra, SEED), 0);
    }
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&workers[i].thread, NULL, check_in_thread, &workers[i]),
                         0);
    for (int i = 0; i < 4; i++)
        pthread_join(workers[i].thread, NULL);
    for (int i = 0; i < 4; i++) {
        if (workers[i].failed)
            fail_msg("%s = %s: %s", workers[i].failed->a, workers[i].failed->b,
                     name_of(workers[i].answer));
        algebra_destroy(&workers[i].fixture.algebra);
        arena_release(&workers[i].fixture.arena);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(constants_are_proved_or_refuted),
        TEST(rationals_are_exact),
        TEST(functions_of_letters_agree_where_both_are_defined),
        TEST(what_is_undefined_is_equal_to_nothing),
        TEST(exact_cases_need_no_child),
        TEST(other_seeds_give_the_same_answers),
        TEST(a_logarithm_without_base_is_read_as_told),
        TEST(equations_are_compared_up_to_a_factor),
        TEST(real_constants_have_an_order),
        TEST(decimals_are_rounded_or_cut_at_their_last_digit),
        TEST(exact_values_say_why_there_is_none),
        TEST(what_costs_too_much_is_a_limit_or_no_equality),
        TEST(after_the_deadline_all_is_a_limit),
        TEST(answers_are_the_same_when_the_child_is_killed),
        TEST(answers_are_the_same_on_a_busy_machine),
        TEST(threads_have_a_child_each),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
