/*
 * Tests of a function: arguments go in as data, values come back on a descriptor of their own, and
 * are compared here.
 */
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/status.h"
#include "sandbox/judge_parts.h"

/* One process that makes the calls from `first` on. */
struct batch {
    struct judging *judging;
    struct calls *calls;
    size_t first, n_done;
    int is_over;                  /* refused, or take() has enough */
};

static void write_input(const struct job *job, const struct calls *calls, size_t first,
                        const char *nonce, struct text *out)
{
    text_print(out, "%s\n", nonce);
    if (job->language->kind != SANDBOX_NATIVE) {
        text_append(out, "[", 1);
        json_append_string(out, job->before, strlen(job->before));
        text_append(out, ",", 1);
        json_append_string(out, job->source, job->n_source);
        text_append(out, "]\n", 2);
    }
    for (size_t i = first; i < calls->n; i++) {
        text_append(out, calls->lines[i].data, calls->lines[i].length);
        text_append(out, "\n", 1);
    }
}

static int write_program(const struct job *job, struct text *out)
{
    if (job->language->kind == SANDBOX_NATIVE)
        return job->language->write_harness(out, job->signature, job->source, job->n_source);
    text_print(out, "%s%s", job->language->kind == SANDBOX_PYTHON ? harness_python_values : "",
               job->language->function_harness);
    return STATUS_OK;
}

/* The source itself was refused, or ended while it was loaded: all calls fail alike. */
static void refuse(struct batch *batch, enum judge_verdict verdict, const struct record *record,
                   const struct sandbox_result *run)
{
    const struct call_result result = {.verdict = verdict};
    struct judge_result *out = batch->judging->result;

    if (record)
        judge_explain(out, "%s: %.*s", verdict == JUDGE_CE ? "does not compile" : "ends at once",
                      (int)(record->n < 120 ? record->n : 120), record->text);
    batch->is_over = 1;
    for (size_t i = batch->first + batch->n_done; i < batch->calls->n; i++)
        if (batch->calls->take(batch->calls, i, &result, run))
            break;
}

/* "value 3 [1,2]": 0 unless it is that of the next call. */
static int take_record(struct batch *batch, const struct record *record,
                       const struct sandbox_result *run)
{
    struct call_result result = {.verdict = JUDGE_AC};
    const char *blank = memchr(record->text, ' ', record->n);

    if (!blank || strtoull(record->text, NULL, 10) != batch->n_done ||
        batch->first + batch->n_done >= batch->calls->n)
        return 0;
    result.is_exception = strcmp(record->kind, "raise") == 0;
    result.verdict = result.is_exception ? JUDGE_RE : JUDGE_AC;
    result.text = blank + 1;
    result.n = record->n - (size_t)(result.text - record->text);
    size_t i = batch->first + batch->n_done++;
    batch->is_over = batch->calls->take(batch->calls, i, &result, run);
    return !batch->is_over;
}

static int read_records(struct batch *batch, const char *nonce, const struct sandbox_result *run)
{
    const char *at = run->answer.data, *end = at + run->answer.length;
    struct record record;

    while (at && records_next(&at, end, nonce, &record)) {
        if (strcmp(record.kind, "unfit") == 0)
            return status_fail(STATUS_FORMAT, "what stands before the answer fails: %.*s",
                               (int)(record.n < 120 ? record.n : 120), record.text);
        if (strcmp(record.kind, "syntax") == 0 || strcmp(record.kind, "failed") == 0) {
            refuse(batch, record.kind[0] == 's' ? JUDGE_CE : JUDGE_RE, &record, run);
            return STATUS_OK;
        }
        if (strcmp(record.kind, "value") != 0 && strcmp(record.kind, "raise") != 0)
            return STATUS_OK;
        if (!take_record(batch, &record, run))
            return STATUS_OK;
    }
    return STATUS_OK;
}

/* The process ended at a call that sent nothing. */
static void end_early(struct batch *batch, const struct sandbox_result *run)
{
    struct judging *judging = batch->judging;
    enum judge_verdict verdict = judge_verdict_of(run);
    struct call_result result = {.verdict = verdict == JUDGE_AC ? JUDGE_RE : verdict};

    /* It may have been the calls before it that used up the limits. */
    if (batch->n_done)
        return;
    if (verdict == JUDGE_AC)
        judge_explain(judging->result, "ended without a result");
    else
        judge_explain_run(judging->result, verdict, run);
    judging->n_timeouts += result.verdict == JUDGE_TLE;
    size_t i = batch->first + batch->n_done++;
    batch->is_over = batch->calls->take(batch->calls, i, &result, run);
    if (judging->n_timeouts >= JUDGE_MAX_TIMEOUTS && !batch->is_over)
        refuse(batch, JUDGE_TLE, NULL, run);
}

static int run_batch(struct batch *batch, const struct text *program)
{
    struct judging *judging = batch->judging;
    const struct job *job = judging->job;
    struct sandbox_limits limits = job->limits;
    struct sandbox_result run = {.exit_code = -1};
    char nonce[JUDGE_NONCE_BYTES];
    struct text input = {0};
    int status;

    records_nonce(nonce);
    write_input(job, batch->calls, batch->first, nonce, &input);
    limits.answer_bytes = JUDGE_ANSWER_BYTES;
    status = judge_run_program(judging, job->language, program->data, program->length, &limits,
                               &input, &run);
    if (status == STATUS_OK && judging->result->verdict == JUDGE_CE)
        refuse(batch, JUDGE_CE, NULL, &run);
    else if (status == STATUS_OK)
        status = read_records(batch, nonce, &run);
    if (status == STATUS_OK && !batch->is_over && batch->first + batch->n_done < batch->calls->n)
        end_early(batch, &run);
    text_release(&input);
    sandbox_result_release(&run);
    return status;
}

int judge_go_through(struct judging *judging, struct calls *calls)
{
    struct batch batch = {.judging = judging, .calls = calls};
    struct text program = {0};
    int status = write_program(judging->job, &program);

    while (status == STATUS_OK && !batch.is_over && batch.first < calls->n) {
        status = run_batch(&batch, &program);
        batch.first += batch.n_done;
        batch.n_done = 0;
    }
    text_release(&program);
    return status;
}

static enum judge_verdict compare_result(struct judging *judging, size_t i,
                                         const struct call_result *result)
{
    const struct job_test *test = &judging->job->tests[i];
    const struct compare *compare = &judging->job->compare;
    json_t *got = NULL;
    int is_same = 0;

    if (result->verdict != JUDGE_AC)
        return result->verdict;
    if (values_parse(&got, result->text, result->n, "result") == STATUS_OK)
        is_same = compare_results(compare, test->value, got) ||
                  (test->other_value && compare_results(compare, test->other_value, got));
    json_decref(got);
    return is_same ? JUDGE_AC : JUDGE_WA;
}

static int take_value(struct calls *calls, size_t i, const struct call_result *result,
                      const struct sandbox_result *run)
{
    struct judging *judging = calls->context;
    enum judge_verdict verdict = compare_result(judging, i, result);

    judge_note_run(&judging->result->tests[i], verdict, run);
    if (verdict == JUDGE_WA)
        judge_explain(judging->result, "case %zu: its result is not what is wanted", i + 1);
    else if (result->is_exception)
        judge_explain(judging->result, "case %zu raises %.*s", i + 1,
                      (int)(result->n < 100 ? result->n : 100), result->text);
    judging->result->n_tests = i + 1;
    return verdict != JUDGE_AC && judging->stop_early;
}

/* Scripts get ["name", [arguments], no named ones]; C and C++ the arguments between commas. */
static void write_line(const struct job *job, const struct job_test *test, struct text *out)
{
    if (json_is_string(test->arguments)) {
        text_print(out, "%s", json_string_value(test->arguments));
        return;
    }
    if (job->language->kind != SANDBOX_NATIVE)
        text_print(out, "[\"%s\",", job->entry);
    size_t start = out->length;
    values_append(out, test->arguments);
    if (job->language->kind != SANDBOX_NATIVE) {
        text_print(out, ",{\"d\":[]}]");
    } else {
        out->data[start] = ' ';
        out->data[out->length - 1] = ' ';
    }
}

int judge_calls(struct judging *judging)
{
    const struct job *job = judging->job;
    struct text *lines = mem_alloc(job->n_tests, sizeof(*lines));
    struct calls calls = {lines, job->n_tests, take_value, judging};

    for (size_t i = 0; i < job->n_tests; i++)
        write_line(job, &job->tests[i], &lines[i]);
    int status = judge_go_through(judging, &calls);
    for (size_t i = 0; i < job->n_tests; i++)
        text_release(&lines[i]);
    mem_free(lines);
    return status;
}
