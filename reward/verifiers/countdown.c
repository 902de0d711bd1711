#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "reward/answer.h"
#include "reward/arithmetic.h"
#include "reward/options.h"
#include "reward/verifiers/verifiers.h"

/*
 * countdown: the answer is arithmetic over the given numbers, each used once, that makes the
 * target.
 * Reference: "numbers=3,5,7 target=22", or JSON {"numbers":[3,5,7],"target":22}.
 * The expression is worked out exactly; one tail "= target" may follow and must be true.
 */
#define MAX_NUMBERS 16

struct countdown {
    double right, partial, none;   /* score of a solution, of a readable miss, of no answer */
};

struct puzzle {
    int64_t numbers[MAX_NUMBERS];
    size_t n;
    int64_t target;
};

static int32_t create(const struct verifier_host *host, struct verifier_text options, void **state)
{
    static const char *const known[] = {"partial", "right", "none", NULL};
    struct countdown countdown = {.right = 1};

    (void)host;
    int status = options_check(options, "countdown", known);
    if (status == 0)
        status = options_number(options, "partial", -1, 1, &countdown.partial);
    if (status == 0)
        status = options_number(options, "right", -1, 1, &countdown.right);
    if (status == 0)
        status = options_number(options, "none", -1, 1, &countdown.none);
    if (status < 0)
        return status;
    struct countdown *kept = mem_alloc(1, sizeof(*kept));
    *kept = countdown;
    *state = kept;
    return 0;
}

/* A decimal integer of at most 15 digits; bytes read, 0 when there is none. */
static size_t read_integer(const char *text, size_t n, int64_t *out)
{
    size_t negative = n && text[0] == '-', at = negative, start = at;
    int64_t value = 0;

    while (at < n && at - start < 15 && text[at] >= '0' && text[at] <= '9')
        value = value * 10 + (text[at++] - '0');
    *out = negative ? -value : value;
    return at > start ? at : 0;
}

static int read_plain(struct verifier_text text, struct puzzle *puzzle)
{
    static const char head[] = "numbers=", middle[] = "target=";
    const char *at = text.data, *end = text.data + text.length;

    if (text.length < sizeof(head) || memcmp(at, head, sizeof(head) - 1) != 0)
        return 0;
    at += sizeof(head) - 1;
    for (;;) {
        size_t n = puzzle->n < MAX_NUMBERS
                       ? read_integer(at, (size_t)(end - at), &puzzle->numbers[puzzle->n])
                       : 0;
        if (!n)
            return 0;
        puzzle->n++;
        at += n;
        if (at == end || *at != ',')
            break;
        at++;
    }
    while (at < end && *at == ' ')
        at++;
    if ((size_t)(end - at) < sizeof(middle) || memcmp(at, middle, sizeof(middle) - 1) != 0)
        return 0;
    at += sizeof(middle) - 1;
    size_t n = read_integer(at, (size_t)(end - at), &puzzle->target);
    return n && at + n == end;
}

static int read_json(struct verifier_text text, struct puzzle *puzzle)
{
    json_t *object = NULL;
    int good = json_parse(&object, text.data, text.length, "reference") == 0 &&
               json_get_int(object, "target", "reference", &puzzle->target) == 0;
    const json_t *numbers = good ? json_object_get(object, "numbers") : NULL;

    puzzle->n = json_array_size(numbers);
    good = good && puzzle->n >= 1 && puzzle->n <= MAX_NUMBERS;
    for (size_t i = 0; good && i < puzzle->n; i++) {
        good = json_is_integer(json_array_get(numbers, i));
        puzzle->numbers[i] = json_integer_value(json_array_get(numbers, i));
    }
    json_decref(object);
    return good;
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

/* Sorts both. */
static int same_numbers(struct puzzle *puzzle, struct arithmetic *arithmetic)
{
    if (puzzle->n != arithmetic->n_numbers)
        return 0;
    qsort(puzzle->numbers, puzzle->n, sizeof(puzzle->numbers[0]), compare);
    qsort(arithmetic->numbers, puzzle->n, sizeof(arithmetic->numbers[0]), compare);
    return memcmp(puzzle->numbers, arithmetic->numbers, puzzle->n * sizeof(puzzle->numbers[0])) ==
           0;
}

static int32_t judge(struct puzzle *puzzle, const struct text *answer,
                     const struct countdown *countdown, struct verifier_verdict *verdict)
{
    const struct fraction target = {puzzle->target, 1};
    const char *why = NULL;
    struct arithmetic arithmetic;
    enum arithmetic_outcome outcome =
        arithmetic_read(&arithmetic, answer->data ? answer->data : "", answer->length);

    if (outcome == ARITHMETIC_UNREADABLE)
        return verdict_set(verdict, VERIFIER_UNREADABLE, countdown->none,
                           "\"%.*s\" is no arithmetic",
                           answer->length < 60 ? (int)answer->length : 60, answer->data);
    if (outcome == ARITHMETIC_UNDEFINED)
        why = "divides by zero or is too large";
    else if (!same_numbers(puzzle, &arithmetic))
        why = "does not use each number once";
    else if (!fraction_equal(arithmetic.value, target))
        why = "does not make the target";
    else if (arithmetic.has_tail && !fraction_equal(arithmetic.tail, target))
        why = "what follows \"=\" is not the target";
    if (why)
        return verdict_set(verdict, VERIFIER_WRONG, countdown->partial, "%s", why);
    return verdict_set(verdict, VERIFIER_RIGHT, countdown->right, "makes the target");
}

static int32_t score(void *state, const struct verifier_task *task,
                     struct verifier_verdict *verdict)
{
    const struct countdown *countdown = state;
    struct puzzle puzzle = {.n = 0};
    struct answer answer;
    int is_json = task->reference.length && task->reference.data[0] == '{';

    if (!(is_json ? read_json(task->reference, &puzzle) : read_plain(task->reference, &puzzle)))
        return verdict_set(verdict, VERIFIER_ERROR, 0,
                           "reference is unreadable: \"numbers=3,5,7 target=22\" is wanted");
    answer_find(&answer, task);
    if (answer.source == ANSWER_NONE)
        verdict_set(verdict, VERIFIER_UNREADABLE, countdown->none, "%s", answer.why_none);
    else
        judge(&puzzle, &answer.text, countdown, verdict);
    answer_release(&answer);
    return 0;
}

static void destroy(void *state)
{
    mem_free(state);
}

const struct verifier_v1 verifier_countdown = {
    .size = sizeof(verifier_countdown),
    .flags = VERIFIER_DETERMINISTIC,
    .name = "countdown",
    .version = "2",
    .help = "Arithmetic that uses each given number once and makes the target.",
    .create = create,
    .score = score,
    .destroy = destroy,
};
