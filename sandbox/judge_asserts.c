/*
 * Tests that are code: asserts, or check(candidate). They run in a process that never sees the
 * answer, and ask for calls; the answer runs in others, which get arguments alone. Round by round
 * the tests get the results, until one pass asks nothing: that pass is the verdict.
 */
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/status.h"
#include "sandbox/judge_parts.h"

#define MAX_ROUNDS 50
#define MAX_CALLS 20000
#define TESTS_CPU_MS 5000        /* of one pass of the tests, which are nobody's enemy */
#define TESTS_WALL_MS 20000
#define TESTS_MEMORY_BYTES ((int64_t)512 << 20)

struct rounds {
    struct judging *judging;
    struct text known;           /* [call, [kind, text]], ... as JSON */
    struct text *asked;
    size_t n_asked, capacity, n_calls;
    int is_over;
};

static void ask(struct rounds *rounds, const struct record *record)
{
    if (rounds->n_asked == rounds->capacity) {
        rounds->capacity = rounds->capacity ? 2 * rounds->capacity : 16;
        rounds->asked = mem_resize(rounds->asked, rounds->capacity, sizeof(*rounds->asked));
    }
    rounds->asked[rounds->n_asked] = (struct text){.length = 0};
    text_append(&rounds->asked[rounds->n_asked++], record->text, record->n);
}

static void forget_asked(struct rounds *rounds)
{
    for (size_t i = 0; i < rounds->n_asked; i++)
        text_release(&rounds->asked[i]);
    rounds->n_asked = 0;
}

/* A result for the tests: what is no JSON in our notation never gets there. */
static int take_result(struct calls *calls, size_t i, const struct call_result *result,
                       const struct sandbox_result *run)
{
    struct rounds *rounds = calls->context;
    struct text *known = &rounds->known;
    struct judge_test_result *test = &rounds->judging->result->tests[0];
    json_t *value = NULL;
    int has_text = result->text &&
                   values_parse(&value, result->text, result->n, "result") == STATUS_OK;

    json_decref(value);
    if (run->cpu_ms > test->cpu_ms || test->exit_code < 0)
        judge_note_run(test, JUDGE_IE, run);
    text_print(known, "%s[", known->length ? "," : "");
    json_append_string(known, calls->lines[i].data, calls->lines[i].length);
    if (has_text) {
        text_print(known, ",[\"%s\",", result->is_exception ? "raise" : "value");
        json_append_string(known, result->text, result->n);
        text_append(known, "]]", 2);
    } else {
        text_print(known, ",[\"dead\",\"%s\"]]",
                   judge_verdict_name(result->verdict == JUDGE_AC ? JUDGE_RE : result->verdict));
    }
    return 0;
}

static void write_input(const struct rounds *rounds, const char *nonce, struct text *out)
{
    const struct job *job = rounds->judging->job;

    text_print(out, "%s\n[", nonce);
    json_append_string(out, job->asserts, strlen(job->asserts));
    text_append(out, ",", 1);
    json_append_string(out, job->setup, strlen(job->setup));
    text_append(out, ",", 1);
    if (job->entry)
        json_append_string(out, job->entry, strlen(job->entry));
    else
        text_print(out, "null");
    text_append(out, ",[", 2);
    text_append(out, rounds->known.data, rounds->known.length);
    text_append(out, "]]\n", 3);
}

/* [asserts that held, asserts reached, [name, text] of what ended the tests early]. */
static int conclude(struct rounds *rounds, const struct record *record)
{
    struct judge_result *result = rounds->judging->result;
    json_t *done, *name;
    double right, reached;

    TRY(values_parse(&done, record->text, record->n, "the tests"));
    right = (double)json_integer_value(json_array_get(done, 0));
    reached = (double)json_integer_value(json_array_get(done, 1));
    name = json_array_get(json_array_get(done, 2), 0);
    result->right_share = reached > 0 ? right / reached : 0;
    result->tests[0].verdict = right == reached && reached > 0 && !name ? JUDGE_AC : JUDGE_WA;
    if (name) {
        result->right_share = reached > 0 ? right / (reached + 1) : 0;
        judge_explain(result, "the tests end with %s", json_string_value(name));
    } else if (!(reached > 0)) {
        judge_explain(result, "no assert is reached");
    } else if (right < reached) {
        judge_explain(result, "%g of %g asserts hold", right, reached);
    }
    result->right_fraction = result->right_share;
    json_decref(done);
    return STATUS_OK;
}

static int die(struct rounds *rounds, const struct record *record)
{
    struct judge_result *result = rounds->judging->result;
    enum judge_verdict verdict = JUDGE_RE;

    for (int i = 0; i < JUDGE_IE; i++)
        if (strlen(judge_verdict_name((enum judge_verdict)i)) == record->n &&
            memcmp(judge_verdict_name((enum judge_verdict)i), record->text, record->n) == 0)
            verdict = (enum judge_verdict)i;
    result->tests[0].verdict = verdict;
    judge_explain(result, "a call ends with %s", judge_verdict_name(verdict));
    return STATUS_OK;
}

static int read_records(struct rounds *rounds, const char *nonce, const struct sandbox_result *run)
{
    const char *at = run->answer.data, *end = at + run->answer.length;
    struct record record;

    while (at && records_next(&at, end, nonce, &record)) {
        if (strcmp(record.kind, "unfit") == 0)
            return status_fail(STATUS_FORMAT, "the tests cannot be run: %.*s",
                               (int)(record.n < 120 ? record.n : 120), record.text);
        if (strcmp(record.kind, "ask") == 0) {
            ask(rounds, &record);
            continue;
        }
        rounds->is_over = 1;
        return strcmp(record.kind, "died") == 0 ? die(rounds, &record)
                                                : conclude(rounds, &record);
    }
    if (rounds->n_asked)
        return STATUS_OK;
    if (!rounds->n_calls)
        return status_fail(STATUS_FORMAT, "the tests end by themselves: %s, exit code %d",
                           sandbox_verdict_name(run->verdict), run->exit_code);
    /* They went well without the answer's values. */
    rounds->is_over = 1;
    rounds->judging->result->tests[0].verdict =
        judge_verdict_of(run) == JUDGE_AC ? JUDGE_WA : judge_verdict_of(run);
    judge_explain(rounds->judging->result, "the tests do not come to an end with its results");
    return STATUS_OK;
}

static int run_tests(struct rounds *rounds)
{
    static const struct sandbox_limits limits = {.cpu_ms = TESTS_CPU_MS, .wall_ms = TESTS_WALL_MS,
                                                 .memory_bytes = TESTS_MEMORY_BYTES,
                                                 .answer_bytes = JUDGE_ANSWER_BYTES};
    struct text program = {0}, input = {0};
    struct sandbox_result run = {.exit_code = 0};
    char nonce[JUDGE_NONCE_BYTES];
    int status;

    records_nonce(nonce);
    write_input(rounds, nonce, &input);
    text_print(&program, "%s%s", harness_python_values, harness_python_asserts);
    status = judge_run_program(rounds->judging, rounds->judging->job->language, program.data,
                               program.length, &limits, &input, &run);
    if (status == STATUS_OK)
        status = read_records(rounds, nonce, &run);
    sandbox_result_release(&run);
    text_release(&program);
    text_release(&input);
    return status;
}

static int go_through_rounds(struct rounds *rounds)
{
    struct judge_result *result = rounds->judging->result;

    for (int round = 0; round < MAX_ROUNDS && rounds->n_calls < MAX_CALLS; round++) {
        TRY(run_tests(rounds));
        if (rounds->is_over)
            return STATUS_OK;
        struct calls calls = {rounds->asked, rounds->n_asked, take_result, rounds};
        TRY(judge_go_through(rounds->judging, &calls));
        rounds->n_calls += rounds->n_asked;
        forget_asked(rounds);
    }
    result->tests[0].verdict = JUDGE_TLE;
    judge_explain(result, "the tests keep calling: more than %d calls or %d rounds", MAX_CALLS,
                  MAX_ROUNDS);
    return STATUS_OK;
}

int judge_asserts(struct judging *judging)
{
    struct rounds rounds = {.judging = judging};
    int status;

    judging->result->n_tests = 1;
    status = go_through_rounds(&rounds);
    forget_asked(&rounds);
    mem_free(rounds.asked);
    text_release(&rounds.known);
    return status;
}
