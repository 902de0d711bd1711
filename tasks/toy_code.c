/* code: a one-line C function from three examples; the verifier runs it on other arguments. */
#include <stdio.h>
#include <string.h>

#include "tasks/toy.h"

#define N_EXAMPLES 3
#define MIN_TESTS 4
#define MAX_TESTS 6
#define MAX_CONSTANT 9
#define MAX_FACTOR 5
#define MAX_TEST_ARGUMENT 20
#define LUCKY_GUESS_PERCENT 20

static const char signs[3] = {'+', '-', '*'};

static int value_at(char operator, int constant, int x)
{
    return operator == '+' ? x + constant : operator == '-' ? x - constant : x * constant;
}

static int draw_constant(struct random_stream *stream, char operator)
{
    return operator == '*' ? toy_between(stream, 2, MAX_FACTOR)
                           : toy_between(stream, 1, MAX_CONSTANT);
}

/* The i-th example's argument leaves no result below zero. */
static int draw_argument(struct random_stream *stream, char operator, int constant)
{
    int x = toy_between(stream, 1, 9);

    return operator == '-' ? x + constant : x;
}

static int is_among(const int *numbers, int n, int x)
{
    for (int i = 0; i < n; i++)
        if (numbers[i] == x)
            return 1;
    return 0;
}

static void write_reference(struct toy_task *task, struct random_stream *stream, char operator,
                            int constant)
{
    struct text json = {0};
    int used[N_EXAMPLES + MAX_TESTS], n_used = N_EXAMPLES;
    int n = toy_between(stream, MIN_TESTS, MAX_TESTS);

    memcpy(used, task->numbers, N_EXAMPLES * sizeof(int));
    text_print(&json, "{\"function\":\"int f(int x)\",\"tests\":[");
    for (int i = 0; i < n; i++) {
        int x;

        do {
            x = toy_between(stream, 0, MAX_TEST_ARGUMENT);
        } while (is_among(used, n_used, x));
        used[n_used++] = x;
        text_print(&json, "%s{\"args\":\"%d\",\"want\":\"%d\"}", i ? "," : "", x,
                   value_at(operator, constant, x));
    }
    text_print(&json, "]}");
    snprintf(task->reference, sizeof(task->reference), "%s", json.data);
    text_release(&json);
}

void toy_code_draw_task(struct toy_task *task, struct random_stream *stream, int heldout)
{
    char operator = signs[toy_between(stream, 0, 2)];
    int constant = draw_constant(stream, operator);
    int length = 0;

    (void)heldout;
    memset(task, 0, sizeof(*task));
    task->n_numbers = N_EXAMPLES;
    task->operators[0] = operator;
    task->target = constant;
    for (int i = 0; i < N_EXAMPLES; i++) {
        int x;

        do {
            x = draw_argument(stream, operator, constant);
        } while (is_among(task->numbers, i, x));
        task->numbers[i] = x;
        length += snprintf(task->question + length, sizeof(task->question) - (size_t)length,
                           "%sf(%d)=%d", i ? " " : "", x, value_at(operator, constant, x));
    }
    memcpy(task->key, task->question, sizeof(task->key));
    write_reference(task, stream, operator, constant);
}

/* The two results of reasoning about one example: a difference or a quotient. */
static int append_relation(struct text *out, char operator, int x, int y)
{
    if (operator == '*') {
        text_print(out, "%d/%d", y, x);
        return y / x;
    }
    text_print(out, "%d-%d", operator == '+' ? y : x, operator == '+' ? x : y);
    return operator == '+' ? y - x : x - y;
}

void toy_code_draw_atom(struct toy_task *task, struct random_stream *stream)
{
    char operator = signs[toy_between(stream, 0, 2)];
    int constant = draw_constant(stream, operator);
    int x = draw_argument(stream, operator, constant);
    struct text question = {0};

    memset(task, 0, sizeof(*task));
    task->target = append_relation(&question, operator, x, value_at(operator, constant, x));
    memcpy(task->question, question.data, question.length + 1);
    memcpy(task->key, question.data, question.length + 1);
    text_release(&question);
    snprintf(task->reference, sizeof(task->reference), "%d", task->target);
}

void toy_code_write_answer(const struct toy_task *task, struct random_stream *stream,
                           enum toy_style style, enum toy_language language, struct text *think,
                           struct text *answer)
{
    char operator = task->operators[0];
    int constant = task->target;

    if (style == TOY_ATOM) {
        text_print(answer, "%d", task->target);
        return;
    }
    for (int i = 0; style == TOY_STEPS && i < 2; i++) {
        int x = task->numbers[i], y = value_at(operator, constant, x);

        if (i > 0)
            toy_append_link(think, stream, language);
        text_print(think, "=%d", append_relation(think, operator, x, y));
    }
    while (style == TOY_GUESS && operator == task->operators[0] && constant == task->target) {
        if (toy_chance(stream, LUCKY_GUESS_PERCENT))
            break;
        operator = signs[toy_between(stream, 0, 2)];
        constant = draw_constant(stream, operator);
    }
    text_print(answer, "int f(int x){return x%c%d;}", operator, constant);
}
