/*
 * The child's answers. FLINT cannot be interrupted and aborts on errors: what happens here may end
 * the process, and child.c takes that for a limit.
 */
#include <unistd.h>

#include "math/flint.h"

const int deep_is_there = 1;

__attribute__((noreturn)) static void leave(void)
{
    _exit(2);
}

void flint_number(fmpq_t out, const struct node *number)
{
    mpq_t value;

    mpq_init(value);
    node_number(value, number);
    fmpq_set_mpq(out, value);
    mpq_clear(value);
}

static enum algebra_answer compare_constants(const struct node *a, const struct node *b)
{
    enum algebra_answer numeric = ball_compare(a, b);

    if (numeric == ALGEBRA_DIFFERENT)
        return numeric;
    enum algebra_answer proved = calcium_compare(a, b);
    return proved == ALGEBRA_UNKNOWN ? numeric : proved;
}

static enum algebra_answer order_constants(const struct node *a, const struct node *b, int *order)
{
    enum algebra_answer numeric = ball_order(a, b, order);

    if (numeric == ALGEBRA_DIFFERENT)
        return numeric;
    enum algebra_answer proved = calcium_compare(a, b);
    *order = 0;
    /* Different, and no ball is small enough to tell how. */
    if (proved == ALGEBRA_DIFFERENT)
        return ALGEBRA_UNKNOWN;
    return proved == ALGEBRA_UNKNOWN ? numeric : proved;
}

static enum algebra_answer compare_letters(const struct question *question, struct arena *arena,
                                           int traits)
{
    if (traits & TRAIT_ROOTS)
        return points_compare(question, arena);
    return polynomial_compare(question);
}

void deep_answer(const struct question *question, struct arena *arena, struct answer *answer)
{
    int traits = node_traits(question->a) | node_traits(question->b);
    enum algebra_answer result = ALGEBRA_UNKNOWN;

    flint_set_abort(leave);
    answer->order = 0;
    switch (question->kind) {
    case QUESTION_EQUAL:
        result = traits & TRAIT_LETTERS ? compare_letters(question, arena, traits)
                                        : compare_constants(question->a, question->b);
        break;
    case QUESTION_PROPORTIONAL:
        result = traits & TRAIT_LETTERS ? compare_letters(question, arena, traits)
                                        : calcium_compare_zero(question->a, question->b);
        break;
    case QUESTION_ORDER:
        result = order_constants(question->a, question->b, &answer->order);
        break;
    case QUESTION_ROUNDS:
        result = ball_rounds_to(question->a, question->b, question->decimals);
        break;
    }
    answer->answer = result;
}
