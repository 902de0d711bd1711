/*
 * The steps of a question about scalars, cheapest first. What can take long is asked of the child.
 */
#include <string.h>

#include "common/status.h"
#include "math/algebra_internal.h"
#include "math/child.h"

#define WARM_UP_MS 5000                  /* libraries are read from the disk then */
#define CHILD_ARENA_BYTES ((size_t)16 << 20)

struct algebra {
    uint64_t seed;
    struct modular_field fields[MODULAR_FIELDS];
    struct child *child;                 /* NULL in a build without FLINT */
    struct text request, reply;
};

/* Runs in the child. */
static void serve(const struct text *request, struct text *reply)
{
    struct answer answer = {.answer = ALGEBRA_UNKNOWN};
    struct question question;
    struct arena arena;

    arena_init(&arena, CHILD_ARENA_BYTES);
    if (question_read(request, &arena, &question))
        deep_answer(&question, &arena, &answer);
    text_append(reply, &answer, sizeof(answer));
    arena_release(&arena);
}

/* sqrt(8) = 2 sqrt(2), so that the first real question does not wait for the disk. A child that
 * cannot be started now is tried again then. */
static void warm_up(struct algebra *algebra)
{
    struct deadline deadline;
    struct arena arena;

    arena_init(&arena, CHILD_ARENA_BYTES);
    deadline_start(&deadline, WARM_UP_MS, WARM_UP_MS);
    struct tree tree = {.arena = &arena};
    const struct node *a = tree_call(&tree, FUNCTION_SQRT, tree_integer(&tree, 8), NULL);
    const struct node *b = tree_call(&tree, FUNCTION_SQRT, tree_integer(&tree, 2), NULL);
    struct question question = {.kind = QUESTION_EQUAL, .a = a};
    question.b = tree_binary(&tree, NODE_MULTIPLY, tree_integer(&tree, 2), b);
    if (question_write(&question, &algebra->request))
        (void)child_ask(algebra->child, &algebra->request, &algebra->reply, &deadline);
    arena_release(&arena);
}

int algebra_create(struct algebra **out, uint64_t seed)
{
    struct algebra *algebra = mem_alloc(1, sizeof(*algebra));

    algebra->seed = seed;
    algebra->request.maximum = algebra->reply.maximum = CHILD_FRAME_BYTES;
    modular_choose(algebra->fields, seed);
    if (deep_is_there) {
        child_create(&algebra->child, serve);
        warm_up(algebra);
    }
    *out = algebra;
    return STATUS_OK;
}

void algebra_destroy(struct algebra **algebra)
{
    if (!*algebra)
        return;
    if ((*algebra)->child)
        child_destroy(&(*algebra)->child);
    text_release(&(*algebra)->request);
    text_release(&(*algebra)->reply);
    mem_free(*algebra);
    *algebra = NULL;
}

int algebra_child_pid(const struct algebra *algebra)
{
    return algebra->child ? (int)child_pid(algebra->child) : 0;
}

static enum algebra_answer ask(const struct algebra_context *context, struct question *question,
                               int *order)
{
    struct algebra *algebra = context->algebra;
    struct deadline own, *deadline = context->deadline;
    struct answer answer;

    if (!algebra->child)
        return ALGEBRA_UNKNOWN;
    if (!deadline) {
        deadline_start(&own, DEADLINE_CPU_MS, DEADLINE_WALL_MS);
        deadline = &own;
    }
    question->seed = algebra->seed;
    text_clear(&algebra->request);
    if (!question_write(question, &algebra->request))
        return ALGEBRA_LIMIT;
    switch (child_ask(algebra->child, &algebra->request, &algebra->reply, deadline)) {
    case CHILD_OK:
        break;
    case CHILD_ABSENT:
        return ALGEBRA_UNKNOWN;
    default:
        return ALGEBRA_LIMIT;
    }
    if (algebra->reply.length != sizeof(answer))
        return ALGEBRA_LIMIT;
    memcpy(&answer, algebra->reply.data, sizeof(answer));
    if (answer.answer < 0 || answer.answer > ALGEBRA_LIMIT)
        return ALGEBRA_LIMIT;
    if (order)
        *order = answer.order;
    return (enum algebra_answer)answer.answer;
}

/* Both folded into *a and *b; ALGEBRA_UNKNOWN: go on with them. */
static enum algebra_answer fold_both(const struct algebra_context *context, const struct node **a,
                                     const struct node **b)
{
    struct exact_budget budget = EXACT_BUDGET;
    const struct node **sides[] = {a, b};
    enum exact worst = EXACT_OK;

    if (context->deadline && deadline_is_over(context->deadline))
        return ALGEBRA_LIMIT;
    for (int i = 0; i < 2; i++) {
        struct tree tree = {.arena = context->arena};
        enum exact state;
        *sides[i] = exact_fold(&tree, *sides[i], context->log_is_decimal, &budget, &state);
        worst = state > worst ? state : worst;
    }
    if (*a && *b)
        return ALGEBRA_UNKNOWN;
    return worst == EXACT_UNDEFINED ? ALGEBRA_DIFFERENT : ALGEBRA_LIMIT;
}

/* The sign of a - b for two numbers. */
static int order_numbers(const struct node *a, const struct node *b)
{
    mpq_t x, y;

    mpq_inits(x, y, NULL);
    node_number(x, a);
    node_number(y, b);
    int order = mpq_cmp(x, y);
    mpq_clears(x, y, NULL);
    return (order > 0) - (order < 0);
}

static int is_number(const struct node *node)
{
    return node->kind == NODE_NUMBER;
}

static int is_zero(const struct node *number)
{
    return number->denominator && number->numerator == 0;
}

/* Defined wherever its letters are real, seen at a glance: then the same tree is the same value. */
static int is_total(const struct node *node)
{
    for (int i = 0; i < node->n_children; i++)
        if (!is_total(node->child[i]))
            return 0;
    switch (node->kind) {
    case NODE_DIVIDE:
        return is_number(node->child[1]);   /* folded: not 0 */
    case NODE_POWER:
        return is_number(node->child[0]) && !is_zero(node->child[0]) && is_number(node->child[1]);
    case NODE_FUNCTION:
        return node->which == FUNCTION_SQRT || node->which == FUNCTION_EXP ||
               node->which == FUNCTION_SIN || node->which == FUNCTION_COS ||
               node->which == FUNCTION_ARCTAN || node->which == FUNCTION_ABS;
    default:
        return 1;
    }
}

/* Of folded trees. Random evaluation has refuted what it could; what is left wants a proof. */
static enum algebra_answer decide(const struct algebra_context *context, const struct node *a,
                                  const struct node *b, enum question_kind kind)
{
    struct question question = {.kind = kind, .a = a, .b = b};

    if ((node_traits(a) | node_traits(b)) & TRAIT_ROOTS)
        return ask(context, &question, NULL);
    if (modular_compare(context->algebra->fields, a, b, kind == QUESTION_PROPORTIONAL,
                        context->algebra->seed) != MODULAR_AGREE)
        return ALGEBRA_DIFFERENT;
    enum algebra_answer proved = ask(context, &question, NULL);
    return proved == ALGEBRA_EQUAL_PROVED ? proved : ALGEBRA_EQUAL_NUMERIC;
}

enum algebra_answer algebra_compare(const struct algebra_context *context, const struct node *a,
                                    const struct node *b)
{
    if (is_number(a) && is_number(b))
        return node_same(a, b) ? ALGEBRA_EQUAL_EXACT : ALGEBRA_DIFFERENT;
    enum algebra_answer answer = fold_both(context, &a, &b);
    if (answer != ALGEBRA_UNKNOWN)
        return answer;
    int is_same = node_same(a, b);
    if (is_same && is_total(a))
        return ALGEBRA_EQUAL_EXACT;
    if (is_number(a) && is_number(b))
        return ALGEBRA_DIFFERENT;
    answer = decide(context, a, b, QUESTION_EQUAL);
    /* Nothing says that the tree is undefined. */
    return is_same && answer <= ALGEBRA_UNKNOWN && answer != ALGEBRA_DIFFERENT
               ? ALGEBRA_EQUAL_EXACT
               : answer;
}

enum algebra_answer algebra_proportional(const struct algebra_context *context,
                                         const struct node *a, const struct node *b)
{
    enum algebra_answer answer = fold_both(context, &a, &b);

    if (answer != ALGEBRA_UNKNOWN)
        return answer;
    if (is_number(a) && is_number(b))
        return is_zero(a) == is_zero(b) ? ALGEBRA_EQUAL_EXACT : ALGEBRA_DIFFERENT;
    return decide(context, a, b, QUESTION_PROPORTIONAL);
}

enum algebra_answer algebra_order(const struct algebra_context *context, const struct node *a,
                                  const struct node *b, int *order)
{
    enum algebra_answer answer = fold_both(context, &a, &b);

    if (answer != ALGEBRA_UNKNOWN)
        return answer == ALGEBRA_LIMIT ? ALGEBRA_LIMIT : ALGEBRA_UNKNOWN;
    if (is_number(a) && is_number(b)) {
        *order = order_numbers(a, b);
        return *order ? ALGEBRA_DIFFERENT : ALGEBRA_EQUAL_EXACT;
    }
    if (!algebra_is_constant(a) || !algebra_is_constant(b))
        return ALGEBRA_UNKNOWN;
    if (node_same(a, b) && is_total(a)) {
        *order = 0;
        return ALGEBRA_EQUAL_EXACT;
    }
    struct question question = {.kind = QUESTION_ORDER, .a = a, .b = b};
    return ask(context, &question, order);
}

/* -1/2 <= (|value| - |literal|) 10^decimals < 1: rounded either way, or cut. */
static int number_rounds_to(mpq_t literal, mpq_t value, int decimals)
{
    mpq_t step;
    int holds = mpq_sgn(literal) == mpq_sgn(value);

    mpq_abs(literal, literal);
    mpq_abs(value, value);
    mpq_sub(value, value, literal);
    mpq_init(step);
    mpz_ui_pow_ui(mpq_numref(step), 10, (unsigned long)(decimals < 0 ? -decimals : decimals));
    if (decimals > 0)
        mpq_inv(step, step);
    mpq_div(value, value, step);
    holds = holds && mpq_cmp_si(value, -1, 2) >= 0 && mpq_cmp_si(value, 1, 1) < 0;
    mpq_clear(step);
    return holds;
}

enum algebra_answer algebra_rounds_to(const struct algebra_context *context,
                                      const struct node *literal, const struct node *value)
{
    const struct node *digits = literal->kind == NODE_NEGATE ? literal->child[0] : literal;
    int decimals = digits->decimals;

    if (!algebra_is_constant(value))
        return ALGEBRA_DIFFERENT;
    if (decimals > MATH_DIGITS || decimals < -MATH_DIGITS)
        return ALGEBRA_LIMIT;
    enum algebra_answer answer = fold_both(context, &literal, &value);
    if (answer != ALGEBRA_UNKNOWN)
        return answer;
    if (is_number(value)) {
        mpq_t l, v;
        mpq_inits(l, v, NULL);
        node_number(l, literal);
        node_number(v, value);
        int holds = number_rounds_to(l, v, decimals);
        mpq_clears(l, v, NULL);
        return holds ? ALGEBRA_EQUAL_PROVED : ALGEBRA_DIFFERENT;
    }
    struct question question = {.kind = QUESTION_ROUNDS, .a = literal, .b = value,
                                .decimals = decimals};
    return ask(context, &question, NULL);
}
