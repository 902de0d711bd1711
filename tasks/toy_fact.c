/* fact: small general knowledge. Every fact can be asked in three ways, of which one, another for
 * each fact, is kept for the held-out tasks. */
#include <stdio.h>
#include <string.h>

#include "tasks/toy.h"

#define N_FORMS 3

struct relation {
    const char *forms[N_FORMS];   /* %s is the subject */
};

enum { COLOUR, CAPITAL, OPPOSITE, AFTER, LEGS };

static const struct relation relations[] = {
    [COLOUR] = {{"colour of %s", "%s colour", "%s has colour"}},
    [CAPITAL] = {{"capital of %s", "%s capital", "%s has capital"}},
    [OPPOSITE] = {{"opposite of %s", "%s opposite", "%s has opposite"}},
    [AFTER] = {{"next of %s", "%s next", "%s has next"}},
    [LEGS] = {{"legs of %s", "%s legs", "%s has legs"}},
};

static const struct {
    int relation;
    const char *subject, *answer;
} facts[] = {
    {COLOUR, "grass", "green"}, {COLOUR, "snow", "white"}, {COLOUR, "coal", "black"},
    {COLOUR, "blood", "red"}, {COLOUR, "sky", "blue"}, {COLOUR, "lemon", "yellow"},
    {COLOUR, "milk", "white"}, {COLOUR, "leaf", "green"}, {COLOUR, "rose", "red"},
    {COLOUR, "night", "black"}, {COLOUR, "sea", "blue"}, {COLOUR, "bear", "brown"},
    {CAPITAL, "France", "Paris"}, {CAPITAL, "Italy", "Rome"}, {CAPITAL, "Spain", "Madrid"},
    {CAPITAL, "Peru", "Lima"}, {CAPITAL, "Japan", "Tokyo"}, {CAPITAL, "Cuba", "Havana"},
    {CAPITAL, "Egypt", "Cairo"}, {CAPITAL, "Norway", "Oslo"}, {CAPITAL, "Greece", "Athens"},
    {CAPITAL, "Kenya", "Nairobi"}, {CAPITAL, "Chile", "Santiago"}, {CAPITAL, "Russia", "Moscow"},
    {CAPITAL, "Poland", "Warsaw"}, {CAPITAL, "Austria", "Vienna"}, {CAPITAL, "Iran", "Tehran"},
    {CAPITAL, "Qatar", "Doha"}, {CAPITAL, "Ghana", "Accra"}, {CAPITAL, "Nepal", "Kathmandu"},
    {OPPOSITE, "hot", "cold"}, {OPPOSITE, "cold", "hot"}, {OPPOSITE, "big", "small"},
    {OPPOSITE, "small", "big"}, {OPPOSITE, "up", "down"}, {OPPOSITE, "down", "up"},
    {OPPOSITE, "old", "young"}, {OPPOSITE, "young", "old"}, {OPPOSITE, "wet", "dry"},
    {OPPOSITE, "dry", "wet"}, {OPPOSITE, "left", "right"}, {OPPOSITE, "right", "left"},
    {OPPOSITE, "day", "night"}, {OPPOSITE, "night", "day"}, {OPPOSITE, "fast", "slow"},
    {OPPOSITE, "slow", "fast"}, {OPPOSITE, "rich", "poor"}, {OPPOSITE, "poor", "rich"},
    {AFTER, "one", "two"}, {AFTER, "two", "three"}, {AFTER, "three", "four"},
    {AFTER, "four", "five"}, {AFTER, "five", "six"}, {AFTER, "six", "seven"},
    {AFTER, "Monday", "Tuesday"}, {AFTER, "June", "July"},
    {LEGS, "cat", "four"}, {LEGS, "bird", "two"}, {LEGS, "ant", "six"}, {LEGS, "dog", "four"},
};
#define N_FACTS ((int)(sizeof(facts) / sizeof(facts[0])))

/* A relation's form around a subject; `form` comes from the table above. */
static void print_form(char out[TOY_QUESTION_BYTES], const char *form, const char *subject)
{
    const char *mark = strstr(form, "%s");

    snprintf(out, TOY_QUESTION_BYTES, "%.*s%s%s", (int)(mark - form), form, subject, mark + 2);
}

void toy_fact_draw_task(struct toy_task *task, struct random_stream *stream, int heldout)
{
    int row = toy_between(stream, 0, N_FACTS - 1), kept = row % N_FORMS;
    int form = heldout ? kept : (kept + toy_between(stream, 1, N_FORMS - 1)) % N_FORMS;

    memset(task, 0, sizeof(*task));
    task->row = row;
    print_form(task->question, relations[facts[row].relation].forms[form], facts[row].subject);
    memcpy(task->key, task->question, sizeof(task->key));
    snprintf(task->reference, sizeof(task->reference), "%s", facts[row].answer);
}

void toy_fact_write_answer(const struct toy_task *task, struct random_stream *stream,
                           enum toy_style style, enum toy_language language, struct text *think,
                           struct text *answer)
{
    if (style == TOY_STEPS) {
        text_print(think, "%s", facts[task->row].subject);
        toy_append_link(think, stream, language);
        text_print(think, "%s", facts[task->row].answer);
    }
    text_print(answer, "%s", facts[task->row].answer);
}
