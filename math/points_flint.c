/*
 * Functions of letters at random points: positive ones first, then of both signs, then integers
 * when the functions are real there alone. A point where both are surely defined and their balls
 * do not touch refutes; agreement is never a proof.
 */
#include "math/flint.h"

#define TRIES 200        /* points in a domain, */
#define ENOUGH 8         /* until so many agree, */
#define COSTLY 24        /* or so many are defined and too large or too small to tell */
#define LARGE_BITS 16
#define FEW_REAL 3       /* fewer say nothing */

enum domain { POSITIVE, MIXED, WHOLE_POSITIVE, WHOLE_MIXED };

struct points {
    const struct question *question;
    struct random_stream stream;
    struct ball_point point;
    fmpq *values;          /* of the letters; then their imaginary parts */
    int is_complex;
    acb_ptr letters;
    acb_t a, b;
    acb_t a_first, b_first;  /* at the first point, both not 0: for the factor */
    int has_first;
    uint64_t seen[TRIES];    /* integer points */
    int n_seen;
};

/* Of all sizes, and with denominators that no formula can know. */
static void choose_real(fmpq_t out, struct random_stream *stream, int try)
{
    uint64_t above = (UINT64_C(1) << 29) + random_below(stream, UINT64_C(1) << 29);
    uint64_t below = (UINT64_C(1) << 29) + random_below(stream, UINT64_C(1) << 29);
    slong shift = try % 8 == 7 ? (slong)random_below(stream, 30)
                               : (slong)random_below(stream, 16) - 6;

    fmpz_set_ui(fmpq_numref(out), above);
    fmpz_set_ui(fmpq_denref(out), below);
    fmpq_canonicalise(out);
    if (shift >= 0)
        fmpq_mul_2exp(out, out, (ulong)shift);
    else
        fmpq_div_2exp(out, out, (ulong)-shift);
}

/* Small ones, and from the first try on some beyond MATH_BINOMIAL: no product of (n - 1) (n - 2)
 * ... and no binomial is 0 at all of them. */
static void choose_whole(fmpq_t out, struct random_stream *stream, int try)
{
    uint64_t bits = try % 4 == 0 ? LARGE_BITS : 1 + random_below(stream, 5);
    uint64_t least = try % 4 == 0 ? UINT64_C(1) << LARGE_BITS : 1;

    fmpq_set_si(out, (slong)(least + random_below(stream, UINT64_C(1) << bits)), 1);
}

static void choose_point(struct points *points, enum domain domain, int try)
{
    int n = points->question->n_letters;

    for (int i = 0; i < (points->is_complex ? 2 * n : n); i++) {
        fmpq *value = points->values + i;
        if (domain == POSITIVE || domain == MIXED)
            choose_real(value, &points->stream, try);
        else
            choose_whole(value, &points->stream, try);
        if (domain == WHOLE_MIXED)
            fmpq_sub_si(value, value, 1);
        if ((domain == MIXED || domain == WHOLE_MIXED) && (random_next(&points->stream) >> 63))
            fmpq_neg(value, value);
    }
}

/* A few integers are soon drawn again, and say nothing new. */
static int is_seen(struct points *points)
{
    uint64_t hash = 0;

    for (int i = 0; i < points->question->n_letters; i++)
        hash = random_mix(hash, (uint64_t)fmpz_get_si(fmpq_numref(points->values + i)));
    for (int i = 0; i < points->n_seen; i++)
        if (points->seen[i] == hash)
            return 1;
    if (points->n_seen < TRIES)
        points->seen[points->n_seen++] = hash;
    return 0;
}

static int evaluate(struct points *points, slong bits)
{
    int n = points->question->n_letters;

    for (int i = 0; i < n; i++) {
        arb_set_fmpq(acb_realref(points->letters + i), points->values + i, bits);
        arb_set_fmpq(acb_imagref(points->letters + i), points->values + n + i, bits);
    }
    points->point.is_extreme = 0;
    return ball_evaluate(points->a, points->question->a, &points->point, bits) &&
           ball_evaluate(points->b, points->question->b, &points->point, bits);
}

/* |difference| is below 2^-256, or 2^-256 of a value. */
static int is_close(const acb_t difference, const acb_t value)
{
    mag_t size, scale;

    mag_init(size);
    mag_init(scale);
    acb_get_mag(size, difference);
    acb_get_mag(scale, value);
    mag_mul_2exp_si(scale, scale, -256);
    int is_small = mag_cmp_2exp_si(size, -256) <= 0 || mag_cmp(size, scale) <= 0;
    mag_clear(size);
    mag_clear(scale);
    return is_small;
}

enum agreement { DIFFER, AGREE, SAYS_NOTHING, IS_UNDEFINED };

/* Of a and b at this point, or of a b(first) and b a(first). */
static enum agreement compare(struct points *points, slong bits)
{
    enum agreement agreement;
    acb_t x, y;

    acb_init(x);
    acb_init(y);
    acb_set(x, points->a);
    acb_set(y, points->b);
    if (points->has_first) {
        acb_mul(x, x, points->b_first, bits);
        acb_mul(y, y, points->a_first, bits);
    }
    acb_sub(y, x, y, bits);
    agreement = !acb_contains_zero(y) ? DIFFER : is_close(y, x) ? AGREE : SAYS_NOTHING;
    acb_clear(x);
    acb_clear(y);
    return agreement;
}

/* The first point where both are surely not 0 gives the factor. */
static enum agreement begin_factor(struct points *points)
{
    acb_t zero;

    acb_init(zero);
    int a_may_be = acb_contains_zero(points->a), b_may_be = acb_contains_zero(points->b);
    int both_zero = is_close(points->a, zero) && is_close(points->b, zero);
    acb_clear(zero);
    if (a_may_be && b_may_be)
        return both_zero ? AGREE : SAYS_NOTHING;
    /* A zero of one alone at a random point: it is 0 everywhere. */
    if (a_may_be || b_may_be)
        return DIFFER;
    acb_set(points->a_first, points->a);
    acb_set(points->b_first, points->b);
    points->has_first = 1;
    return AGREE;
}

static enum agreement compare_here(struct points *points)
{
    static const slong ladder[] = {BALL_BITS_LEAST, BALL_BITS_MOST / 2, BALL_BITS_MOST};
    int is_factor = points->question->kind == QUESTION_PROPORTIONAL;
    enum agreement agreement = SAYS_NOTHING;

    for (int i = is_factor; i < 3; i++) {
        if (!evaluate(points, ladder[i]))
            return IS_UNDEFINED;
        if (is_factor && !points->has_first)
            agreement = begin_factor(points);
        else
            agreement = compare(points, ladder[i]);
        /* The first step is for refuting: its balls are large. */
        if (agreement == DIFFER || (agreement == AGREE && i > 0 && !points->point.is_extreme))
            return agreement;
    }
    return SAYS_NOTHING;
}

/* -1: refuted; else the number of points that agree. */
static int count_agreeing(struct points *points, enum domain domain)
{
    int is_whole = domain == WHOLE_POSITIVE || domain == WHOLE_MIXED;
    int n_agree = 0, n_costly = 0;

    for (int try = 0; try < TRIES && n_agree < ENOUGH && n_costly < COSTLY; try++) {
        choose_point(points, domain, try);
        if (is_whole && is_seen(points))
            continue;
        switch (compare_here(points)) {
        case DIFFER:
            return -1;
        case AGREE:
            n_agree++;
            break;
        case SAYS_NOTHING:
            n_costly++;
            break;
        default:
            break;
        }
    }
    return n_agree;
}

static enum algebra_answer compare_domains(struct points *points, int only_whole)
{
    static const enum domain real[] = {POSITIVE, MIXED}, whole[] = {WHOLE_POSITIVE, WHOLE_MIXED};
    int n_agree = 0;

    for (int is_whole = only_whole; is_whole < 2; is_whole++) {
        const enum domain *domains = is_whole ? whole : real;
        n_agree = 0;
        for (int i = 0; i < 2; i++) {
            int n = count_agreeing(points, domains[i]);
            if (n < 0)
                return ALGEBRA_DIFFERENT;
            n_agree += n;
        }
        if (n_agree >= (is_whole ? ENOUGH : FEW_REAL))
            return ALGEBRA_EQUAL_NUMERIC;
    }
    return ALGEBRA_UNKNOWN;
}

enum algebra_answer points_compare(const struct question *question, struct arena *arena)
{
    int traits = node_traits(question->a) | node_traits(question->b);
    struct points *points = ARENA_NEW(arena, struct points, 1);

    if (!points)
        return ALGEBRA_UNKNOWN;
    points->question = question;
    points->stream.seed = question->seed;
    points->values = _fmpq_vec_init(2 * question->n_letters);
    points->is_complex = (traits & TRAIT_COMPLEX) != 0;
    points->letters = _acb_vec_init(question->n_letters);
    points->point = (struct ball_point){.letters = points->letters,
                                        .is_real = !(traits & (TRAIT_I | TRAIT_COMPLEX))};
    acb_init(points->a);
    acb_init(points->b);
    acb_init(points->a_first);
    acb_init(points->b_first);
    enum algebra_answer answer = compare_domains(points, (traits & TRAIT_INTEGERS) != 0);
    acb_clear(points->a);
    acb_clear(points->b);
    acb_clear(points->a_first);
    acb_clear(points->b_first);
    _acb_vec_clear(points->letters, question->n_letters);
    _fmpq_vec_clear(points->values, 2 * question->n_letters);
    return answer;
}
