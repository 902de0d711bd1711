#include "sandbox/judge.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/status.h"
#include "sandbox/judge_parts.h"

/* A run that the clock ended after this share of CPU waited for a core or a disk; one that sleeps
 * uses less. */
#define STARVED_SHARE 0.005

const char *judge_verdict_name(enum judge_verdict verdict)
{
    static const char *const names[] = {
#define X(name, text) #name,
        JUDGE_VERDICT_MAP(X)
#undef X
    };

    return names[verdict];
}

static const char *verdict_text(enum judge_verdict verdict)
{
    static const char *const texts[] = {
#define X(name, text) text,
        JUDGE_VERDICT_MAP(X)
#undef X
    };

    return texts[verdict];
}

void judge_result_release(struct judge_result *result)
{
    mem_free(result->tests);
    text_release(&result->messages);
    memset(result, 0, sizeof(*result));
}

int judge_create(struct judge **out, struct sandbox *sandbox, const struct sandbox_config *config)
{
    struct judge *judge;
    struct programs *programs;

    TRY(language_check_factors(config->language_factors));
    TRY(programs_create(&programs, sandbox, config));
    judge = mem_alloc(1, sizeof(*judge));
    *judge = (struct judge){sandbox, config, programs};
    *out = judge;
    return STATUS_OK;
}

void judge_destroy(struct judge **judge)
{
    if (!*judge)
        return;
    programs_destroy(&(*judge)->programs);
    mem_free(*judge);
    *judge = NULL;
}

int judge_check_job(const json_t *job)
{
    static const struct sandbox_config any = {.cpu_ms = 1, .wall_ms = 1};
    struct job read;
    int status = job_read(&read, job, "", 0, &any);

    job_release(&read);
    return status;
}

int judge_parse_job(json_t **out, const char *bytes, size_t n, const char *where)
{
    return values_parse(out, bytes, n, where);
}

enum judge_verdict judge_verdict_of(const struct sandbox_result *run)
{
    switch (run->verdict) {
    case SANDBOX_EXITED:
        return run->exit_code == 0 ? JUDGE_AC : JUDGE_RE;
    case SANDBOX_SIGNALED:
        return JUDGE_RE;
    case SANDBOX_CPU_LIMIT:
    case SANDBOX_WALL_LIMIT:
        return JUDGE_TLE;
    case SANDBOX_MEMORY_LIMIT:
        return JUDGE_MLE;
    case SANDBOX_OUTPUT_LIMIT:
        return JUDGE_OLE;
    case SANDBOX_VIOLATION:
        return JUDGE_SV;
    }
    return JUDGE_IE;
}

void judge_note_run(struct judge_test_result *test, enum judge_verdict verdict,
                    const struct sandbox_result *run)
{
    test->verdict = verdict;
    test->cpu_ms = run->cpu_ms;
    test->wall_ms = run->wall_ms;
    test->memory_bytes = run->peak_bytes;
    test->exit_code = run->verdict == SANDBOX_EXITED ? run->exit_code : -1;
    test->signal = run->signal;
}

void judge_explain(struct judge_result *result, const char *format, ...)
{
    va_list arguments;

    if (result->detail[0])
        return;
    va_start(arguments, format);
    vsnprintf(result->detail, sizeof(result->detail), format, arguments);
    va_end(arguments);
}

/* The last line that is not blank: where interpreters say what was wrong. */
static const char *last_line(const struct text *text, int *n)
{
    size_t end = text->length, start;

    while (end && (unsigned char)text->data[end - 1] <= ' ')
        end--;
    for (start = end; start && text->data[start - 1] != '\n'; start--)
        ;
    *n = (int)(end - start < 100 ? end - start : 100);
    return end ? text->data + start : "";
}

void judge_explain_run(struct judge_result *result, enum judge_verdict verdict,
                       const struct sandbox_result *run)
{
    int n;
    const char *line = last_line(&run->errors, &n);

    if (verdict == JUDGE_RE && run->verdict == SANDBOX_SIGNALED)
        judge_explain(result, "crashed (signal %d)", run->signal);
    else if (verdict == JUDGE_RE && run->exit_code != 0)
        judge_explain(result, "ended with exit code %d%s%.*s", run->exit_code, n ? ": " : "", n,
                      line);
    else if (verdict == JUDGE_CE)
        judge_explain(result, "does not compile: %.*s", n, line);
    else if (verdict == JUDGE_TLE && run->verdict == SANDBOX_WALL_LIMIT)
        judge_explain(result, "ran into the time limit, by the clock");
    else
        judge_explain(result, "ran into the %s", verdict_text(verdict));
}

/* Interpreters find at run time what a compiler says before. */
static int is_syntax_error(const struct language *language, const struct sandbox_result *run)
{
    static const char *const marks[] = {"SyntaxError: ", "IndentationError: ", "TabError: "};

    if (language->kind == SANDBOX_NATIVE || run->verdict != SANDBOX_EXITED ||
        run->exit_code == 0 || run->output.length)
        return 0;
    for (size_t i = 0; run->errors.data && i < sizeof(marks) / sizeof(marks[0]); i++) {
        const char *at = strstr(run->errors.data, marks[i]);
        if (at && (at == run->errors.data || at[-1] == '\n'))
            return 1;
    }
    return 0;
}

/* The compiler's first error, without its place. */
static void explain_compiler(struct judge_result *result)
{
    static const char mark[] = "error: ";
    const char *text = result->messages.data ? result->messages.data : "";
    const char *at = strstr(text, mark);

    at = at ? at + sizeof(mark) - 1 : text;
    judge_explain(result, "does not compile: %.*s", (int)strcspn(at, "\n"), at);
}

static void note_compiler(struct judge_result *result, const struct language *language,
                          const struct program *program, int was_cached)
{
    if (language->kind != SANDBOX_NATIVE)
        return;
    result->was_compiled = 1;
    result->was_cached = was_cached;
    result->compile_ms = was_cached ? 0 : program->compile_ms;
    text_clear(&result->messages);
    text_append(&result->messages, program->messages.data, program->messages.length);
    if (!program->program) {
        result->verdict = JUDGE_CE;
        explain_compiler(result);
    }
}

/* One run; once more, with twice the clock, when the machine gave it no time. */
static int run_fairly(struct judging *judging, const struct sandbox_program *program,
                      const struct sandbox_limits *limits, const char *input, size_t n_input,
                      struct sandbox_result *run)
{
    struct sandbox *sandbox = judging->judge->sandbox;
    struct sandbox_limits again = *limits;

    TRY(sandbox_run_limited(sandbox, program, limits, input, n_input, run));
    if (run->verdict != SANDBOX_WALL_LIMIT ||
        (double)run->cpu_ms < STARVED_SHARE * (double)run->wall_ms)
        return STATUS_OK;
    sandbox_result_release(run);
    memset(run, 0, sizeof(*run));
    again.wall_ms *= 2;
    return sandbox_run_limited(sandbox, program, &again, input, n_input, run);
}

int judge_run_program(struct judging *judging, const struct language *language,
                      const char *source, size_t n_source, const struct sandbox_limits *limits,
                      const struct text *input, struct sandbox_result *run)
{
    struct programs *programs = judging->judge->programs;
    struct program *program;
    int was_cached;

    TRY(programs_get(programs, language, source, n_source, &program, &was_cached));
    note_compiler(judging->result, language, program, was_cached);
    int status = STATUS_OK;
    if (program->program)
        status = run_fairly(judging, program->program, limits, input->data ? input->data : "",
                            input->length, run);
    programs_put(programs, program);
    return status;
}

static int judge_input(struct judging *judging, const struct job_test *test,
                       const struct sandbox_program *program, struct judge_test_result *out)
{
    const struct job *job = judging->job;
    struct sandbox_result run = {.exit_code = 0};
    int status = run_fairly(judging, program, &job->limits, test->input, test->n_input, &run);

    if (status == STATUS_OK) {
        enum judge_verdict verdict = judge_verdict_of(&run);

        if (verdict == JUDGE_RE && is_syntax_error(job->language, &run))
            verdict = JUDGE_CE;
        if (verdict == JUDGE_AC && !compare_output(&job->compare, run.output.data,
                                                   run.output.length, test->want, test->n_want))
            verdict = JUDGE_WA;
        judge_note_run(out, verdict, &run);
        if (verdict == JUDGE_WA)
            judge_explain(judging->result, "test %zu: its output is not what is wanted",
                          (size_t)(test - job->tests) + 1);
        else if (verdict != JUDGE_AC)
            judge_explain_run(judging->result, verdict, &run);
    }
    sandbox_result_release(&run);
    return status;
}

static int judge_inputs(struct judging *judging)
{
    const struct job *job = judging->job;
    struct judge_result *result = judging->result;
    struct programs *programs = judging->judge->programs;
    struct text source = {0};
    struct program *program;
    int was_cached, status;

    text_print(&source, "%s%s", job->before, job->before[0] ? "\n" : "");
    text_append(&source, job->source, job->n_source);
    status = programs_get(programs, job->language, source.data ? source.data : "", source.length,
                          &program, &was_cached);
    text_release(&source);
    if (status < 0)
        return status;
    note_compiler(result, job->language, program, was_cached);
    for (size_t i = 0; i < job->n_tests && program->program && status == STATUS_OK; i++) {
        struct judge_test_result *test = &result->tests[i];

        if (judging->n_timeouts >= JUDGE_MAX_TIMEOUTS)
            test->verdict = JUDGE_TLE;
        else
            status = judge_input(judging, &job->tests[i], program->program, test);
        judging->n_timeouts += test->verdict == JUDGE_TLE;
        result->n_tests = i + 1;
        if (test->verdict == JUDGE_CE || (judging->stop_early && test->verdict != JUDGE_AC))
            break;
    }
    programs_put(programs, program);
    return status;
}

static void sum_up(struct judging *judging)
{
    const struct job *job = judging->job;
    struct judge_result *result = judging->result;
    double right = 0, all = 0, n_right = 0;

    for (size_t i = 0; i < job->n_tests; i++)
        all += job->tests[i].weight;
    for (size_t i = 0; i < result->n_tests; i++) {
        struct judge_test_result *test = &result->tests[i];
        if (test->verdict == JUDGE_AC) {
            right += test->weight;
            n_right++;
        } else if (result->verdict == JUDGE_AC) {
            result->verdict = test->verdict;
        }
    }
    if (job->mode != JOB_ASSERTS) {
        result->right_share = all > 0 ? right / all : 0;
        result->right_fraction = job->n_tests ? n_right / (double)job->n_tests : 0;
    }
    if (result->verdict == JUDGE_AC)
        result->detail[0] = '\0';
    if (result->verdict == JUDGE_AC && result->n_tests == 0) {
        result->verdict = JUDGE_IE;
        judge_explain(result, "no test was run");
    }
}

static void prepare(const struct job *job, struct judge_result *result)
{
    size_t n = job->n_tests ? job->n_tests : 1;

    result->tests = mem_alloc(n, sizeof(*result->tests));
    for (size_t i = 0; i < n; i++)
        result->tests[i] = (struct judge_test_result){
            .verdict = JUDGE_IE, .exit_code = -1, .weight = job->tests ? job->tests[i].weight : 1};
}

void judge_run(struct judge *judge, const json_t *json, const char *source, size_t n_source,
               int stop_early, struct judge_result *result)
{
    struct job job;
    struct judging judging = {judge, &job, stop_early, result, 0};
    int status = job_read(&job, json, source, n_source, judge->config);

    memset(result, 0, sizeof(*result));
    if (status == STATUS_OK) {
        prepare(&job, result);
        status = job.mode == JOB_STDIO      ? judge_inputs(&judging)
                 : job.mode == JOB_FUNCTION ? judge_calls(&judging)
                                            : judge_asserts(&judging);
    }
    if (status == STATUS_OK)
        sum_up(&judging);
    if (status < 0) {
        result->verdict = JUDGE_IE;
        result->right_share = result->right_fraction = 0;
        result->detail[0] = '\0';
        judge_explain(result, "%s", status_reason());
    }
    job_release(&job);
}

int judge_try(struct judge *judge, int language, const char *source, size_t n_source,
              const struct sandbox_limits *limits, const char *input, size_t n_input,
              struct judge_result *result, struct sandbox_result *run)
{
    const struct language *row = language_at(language);
    struct judging judging = {.judge = judge, .result = result};
    struct text text = {.data = (char *)(uintptr_t)input, .length = n_input};
    static const struct sandbox_limits none = {.cpu_ms = 0};

    memset(result, 0, sizeof(*result));
    memset(run, 0, sizeof(*run));
    if (!row)
        return status_fail(STATUS_UNSUPPORTED, "language %d is not in the table", language);
    return judge_run_program(&judging, row, source, n_source, limits ? limits : &none, &text, run);
}
