/* chain: digits are added and taken away one after another, modulo 10. */
#include <stdio.h>
#include <string.h>

#include "tasks/toy.h"

#define MIN_DIGITS 3
#define MAX_DIGITS 6
#define MINUS_PERCENT 10         /* of the operators in a chain */
#define ATOM_MINUS_PERCENT 25    /* and in an atom: the rarer skill is shown more often alone */
#define LUCKY_GUESS_PERCENT 20

static int step_mod_10(int left, char operator, int right)
{
    return operator == '+' ? (left + right) % 10 : (left - right + 10) % 10;
}

static void draw_chain(struct toy_task *task, struct random_stream *stream, int n,
                       int minus_percent)
{
    size_t length = 0;

    memset(task, 0, sizeof(*task));
    task->n_numbers = n;
    for (int i = 0; i < n; i++) {
        task->numbers[i] = toy_between(stream, 0, 9);
        if (i > 0) {
            task->operators[i - 1] = toy_chance(stream, minus_percent) ? '-' : '+';
            task->question[length++] = task->operators[i - 1];
            task->target = step_mod_10(task->target, task->operators[i - 1], task->numbers[i]);
        } else {
            task->target = task->numbers[i];
        }
        task->question[length++] = (char)('0' + task->numbers[i]);
    }
    snprintf(task->question + length, sizeof(task->question) - length, " mod 10");
    memcpy(task->key, task->question, sizeof(task->key));
    snprintf(task->reference, sizeof(task->reference), "%d", task->target);
}

void toy_chain_draw_task(struct toy_task *task, struct random_stream *stream, int heldout)
{
    (void)heldout;
    draw_chain(task, stream, toy_between(stream, MIN_DIGITS, MAX_DIGITS), MINUS_PERCENT);
}

void toy_chain_draw_atom(struct toy_task *task, struct random_stream *stream)
{
    draw_chain(task, stream, 2, ATOM_MINUS_PERCENT);
}

void toy_chain_write_answer(const struct toy_task *task, struct random_stream *stream,
                            enum toy_style style, enum toy_language language, struct text *think,
                            struct text *answer)
{
    int sum = task->numbers[0], result = task->target;

    for (int i = 1; style == TOY_STEPS && i < task->n_numbers; i++) {
        char operator = task->operators[i - 1];
        int next = step_mod_10(sum, operator, task->numbers[i]);

        if (i > 1)
            toy_append_link(think, stream, language);
        text_print(think, "%d%c%d=%d", sum, operator, task->numbers[i], next);
        sum = next;
    }
    if (style == TOY_GUESS && !toy_chance(stream, LUCKY_GUESS_PERCENT))
        result = (result + toy_between(stream, 1, 9)) % 10;
    text_print(answer, "%d", result);
}
