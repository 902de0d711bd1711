/* search: three numbers and a target; an expression of all three, each used once, must reach it. */
#include <stdio.h>
#include <string.h>

#include "tasks/toy.h"

#define N_ORDERS 6
#define N_OPERATORS 9                        /* pairs out of + - * */
#define N_EXPRESSIONS (N_ORDERS * N_OPERATORS)
#define MAX_TARGET 60
#define MAX_TRIES 6
#define IN_ORDER_PERCENT 70    /* tasks, and tries, that take the numbers as they stand */
#define LUCKY_GUESS_PERCENT 20
#define GIVE_UP_PERCENT 10

static const char orders[N_ORDERS][3] = {
    {0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
static const char signs[3] = {'+', '-', '*'};

struct expression {
    int numbers[3];
    char operators[2];
    int value;
};

static int apply(int left, char operator, int right)
{
    return operator == '+' ? left + right : operator == '-' ? left - right : left * right;
}

static int evaluate(const int numbers[3], const char operators[2])
{
    if (operators[1] == '*' && operators[0] != '*')
        return apply(numbers[0], operators[0], numbers[1] * numbers[2]);
    return apply(apply(numbers[0], operators[0], numbers[1]), operators[1], numbers[2]);
}

/* Expression `i` of all: the first N_OPERATORS keep the order of the numbers. */
static struct expression make_expression(const int numbers[3], int i)
{
    struct expression expression;

    for (int at = 0; at < 3; at++)
        expression.numbers[at] = numbers[(int)orders[i / N_OPERATORS][at]];
    expression.operators[0] = signs[i % N_OPERATORS / 3];
    expression.operators[1] = signs[i % 3];
    expression.value = evaluate(expression.numbers, expression.operators);
    return expression;
}

static void append_expression(struct text *out, const struct expression *expression)
{
    text_print(out, "%d%c%d%c%d", expression->numbers[0], expression->operators[0],
               expression->numbers[1], expression->operators[1], expression->numbers[2]);
}

static int draw_index(struct random_stream *stream)
{
    return toy_chance(stream, IN_ORDER_PERCENT) ? toy_between(stream, 0, N_OPERATORS - 1)
                                                : toy_between(stream, 0, N_EXPRESSIONS - 1);
}

void toy_search_draw_task(struct toy_task *task, struct random_stream *stream, int heldout)
{
    int sorted[3];

    (void)heldout;
    memset(task, 0, sizeof(*task));
    task->n_numbers = 3;
    do {
        for (int i = 0; i < 3; i++)
            task->numbers[i] = toy_between(stream, 1, 9);
        task->target = make_expression(task->numbers, draw_index(stream)).value;
    } while (task->target < 1 || task->target > MAX_TARGET);
    memcpy(sorted, task->numbers, sizeof(sorted));
    for (int i = 0; i < 3; i++)
        for (int j = i + 1; j < 3; j++)
            if (sorted[j] < sorted[i]) {
                int swap = sorted[i];
                sorted[i] = sorted[j];
                sorted[j] = swap;
            }
    snprintf(task->question, sizeof(task->question), "%d %d %d make %d", task->numbers[0],
             task->numbers[1], task->numbers[2], task->target);
    snprintf(task->key, sizeof(task->key), "%d %d %d make %d", sorted[0], sorted[1], sorted[2],
             task->target);
    snprintf(task->reference, sizeof(task->reference), "numbers=%d,%d,%d target=%d",
             task->numbers[0], task->numbers[1], task->numbers[2], task->target);
}

void toy_search_draw_atom(struct toy_task *task, struct random_stream *stream)
{
    struct expression expression;
    struct text question = {0};

    memset(task, 0, sizeof(*task));
    for (int i = 0; i < 3; i++)
        task->numbers[i] = toy_between(stream, 1, 9);
    expression = make_expression(task->numbers, toy_between(stream, 0, N_OPERATORS - 1));
    append_expression(&question, &expression);
    memcpy(task->question, question.data, question.length + 1);
    memcpy(task->key, question.data, question.length + 1);
    text_release(&question);
    task->target = expression.value;
    snprintf(task->reference, sizeof(task->reference), "%d", task->target);
}

/* Draws until the value is the target, or until it is another one. */
static struct expression draw_expression(const struct toy_task *task, struct random_stream *stream,
                                         int right)
{
    struct expression expression;

    do {
        expression = make_expression(task->numbers, draw_index(stream));
    } while ((expression.value == task->target) != right);
    return expression;
}

/* Goes through the expressions from a random one on, in steps that visit all of one order first. */
static struct expression next_wrong(const struct toy_task *task, int *at)
{
    struct expression expression;

    do {
        expression = make_expression(task->numbers, *at);
        *at = (*at + 1) % N_EXPRESSIONS;
    } while (expression.value == task->target);
    return expression;
}

static void write_tries(const struct toy_task *task, struct random_stream *stream,
                        enum toy_language language, struct text *think, struct text *answer)
{
    /* The lesser of two draws: short searches are the more frequent ones. */
    int a = toy_between(stream, 1, MAX_TRIES), b = toy_between(stream, 1, MAX_TRIES);
    int n = a < b ? a : b, at = draw_index(stream);
    int gives_up = toy_chance(stream, GIVE_UP_PERCENT);
    struct expression expression;

    for (int i = 0; i < n; i++) {
        int right = i == n - 1 && !gives_up;

        if (i > 0)
            toy_append_link(think, stream, language);
        expression = right ? draw_expression(task, stream, 1) : next_wrong(task, &at);
        append_expression(think, &expression);
        text_print(think, "=%d %s", expression.value, right ? "yes" : "no");
    }
    append_expression(answer, &expression);
}

void toy_search_write_answer(const struct toy_task *task, struct random_stream *stream,
                             enum toy_style style, enum toy_language language, struct text *think,
                             struct text *answer)
{
    struct expression expression;

    if (style == TOY_STEPS) {
        write_tries(task, stream, language, think, answer);
    } else if (style == TOY_ATOM) {
        text_print(answer, "%d", task->target);
    } else {
        expression = draw_expression(task, stream, toy_chance(stream, LUCKY_GUESS_PERCENT));
        append_expression(answer, &expression);
    }
}
