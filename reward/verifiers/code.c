#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/status.h"
#include "reward/answer.h"
#include "reward/options.h"
#include "reward/verifiers/code.h"
#include "reward/verifiers/verifiers.h"

/*
 * code: the completion's C program or function passes the tests of the reference.
 *   {"tests":[{"in":"..","out":".."}]}                      a program, one run per test
 *   {"function":"int f(int x)","tests":[{"args":"3","want":"7"}]}   a function, one run for all
 * It runs in the sandbox; what is expected stays in this process.
 */
#define MAX_SOURCE_BYTES ((size_t)64 << 10)
#define OUTPUT_BYTES ((size_t)1 << 20)
#define MESSAGES_BYTES 4096

enum { MODE_ALL, MODE_FRACTION };

struct code {
    const struct verifier_host *host;
    int mode;
};

struct tally {
    size_t n_right, n_tests;
    const struct verifier_run *run;
};

static int32_t create(const struct verifier_host *host, struct verifier_text options, void **state)
{
    static const char *const known[] = {"mode", NULL};
    static const char *const modes[] = {"all", "fraction", NULL};
    int mode = MODE_ALL;
    int status = options_check(options, "code", known);

    if (status == 0)
        status = options_choice(options, "mode", modes, &mode);
    if (status < 0)
        return status;
    struct code *code = mem_alloc(1, sizeof(*code));
    *code = (struct code){.host = host, .mode = mode};
    *state = code;
    return 0;
}

static int is_blank(char byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

static struct verifier_text trim(const char *data, size_t n)
{
    while (n && is_blank(data[0]))
        data++, n--;
    while (n && is_blank(data[n - 1]))
        n--;
    return (struct verifier_text){data, n};
}

static int is_c(const char *info, size_t n)
{
    while (n && (info[n - 1] == ' ' || info[n - 1] == '\r'))
        n--;
    return n == 0 || (n == 1 && (info[0] == 'c' || info[0] == 'C'));
}

/* The last closed block of C in the region; fences stand at the start of a line. */
static int find_fenced(struct answer_region region, struct verifier_text *out)
{
    const char *at = region.data, *end = region.data + region.n, *block = NULL;
    int found = 0, open = 0;

    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        const char *next = stop ? stop + 1 : end;
        size_t n = (size_t)((stop ? stop : end) - at);
        if (n >= 3 && memcmp(at, "```", 3) == 0) {
            if (open && block) {
                *out = (struct verifier_text){block, (uint64_t)(at - block)};
                found = 1;
            }
            open = !open;
            block = open && is_c(at + 3, n - 3) ? next : NULL;
        }
        at = next;
    }
    return found;
}

/* The candidate's source, borrowed from the completion; NULL or why there is none. */
static const char *find_source(const struct verifier_task *task, struct verifier_text *out)
{
    struct answer_region region;
    struct verifier_text text = task->completion;

    if (answer_find_last(task->prefill.data, task->prefill.length, "<think>") &&
        !answer_find_last(task->prefill.data, task->prefill.length, "</think>") &&
        !answer_find_last(text.data, text.length, "</think>"))
        return "the reasoning never ends: no </think>";
    if (answer_find_region(text.data, text.length, &region) < 0)
        return "the reasoning never ends: no </think>";
    if (!find_fenced(region, out)) {
        if (!region.has_tag)
            return "no block of C and no answer tag";
        *out = (struct verifier_text){region.data, region.n};
    }
    if (out->length > MAX_SOURCE_BYTES)
        return "the program is too long";
    return trim(out->data, out->length).length ? NULL : "the program is empty";
}

static int same_bytes(struct verifier_text a, struct verifier_text b)
{
    return a.length == b.length && memcmp(a.data, b.data, a.length) == 0;
}

/* Doubles are printed with 17 digits: within 1e-9 of the expected one, relative above 1. */
static int same_reals(struct verifier_text got, const char *want)
{
    char text[64], *end_got, *end_want;

    if (got.length == 0 || got.length >= sizeof(text))
        return 0;
    memcpy(text, got.data, got.length);
    text[got.length] = '\0';
    double a = strtod(text, &end_got), b = strtod(want, &end_want);
    if (*end_got || end_want == want)
        return 0;
    double scale = fabs(b) > 1 ? fabs(b) : 1;
    return a == b || fabs(a - b) <= 1e-9 * scale;
}

static int same_result(enum code_kind kind, struct verifier_text got, const char *want)
{
    struct text escaped = {0};

    if (kind == CODE_REAL)
        return same_reals(got, want);
    if (kind == CODE_BOOL && (strcmp(want, "true") == 0 || strcmp(want, "false") == 0))
        want = want[0] == 't' ? "1" : "0";
    for (; *want; want++)
        text_append(&escaped, *want == '\n' ? "\\n" : want, *want == '\n' ? 2 : 1);
    int same = same_bytes(got, trim(escaped.data ? escaped.data : "", escaped.length));
    text_release(&escaped);
    return same;
}

/* Lines "nonce result" against the tests, in order; one line too many spoils everything. */
static size_t count_results(const struct code_reference *reference, const struct verifier_run *run,
                            const char *nonce)
{
    const char *at = run->output, *end = run->output + run->output_length;
    size_t n_nonce = strlen(nonce), n_lines = 0, n_right = 0;

    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop)
            break;
        if ((size_t)(stop - at) > n_nonce && memcmp(at, nonce, n_nonce) == 0) {
            if (n_lines == reference->n_tests)
                return 0;
            struct verifier_text got = trim(at + n_nonce, (size_t)(stop - at) - n_nonce);
            n_right += (size_t)same_result(reference->function.result.kind, got,
                                           reference->tests[n_lines].want);
            n_lines++;
        }
        at = stop + 1;
    }
    return n_right;
}

static void make_nonce(char nonce[CODE_NONCE_BYTES])
{
    unsigned char bytes[(CODE_NONCE_BYTES - 1) / 2] = {0};

    if (getrandom(bytes, sizeof(bytes), 0) < 0)
        BUG("getrandom failed");
    for (size_t i = 0; i < sizeof(bytes); i++) {
        nonce[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        nonce[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
    nonce[2 * sizeof(bytes)] = '\0';
}

static int32_t run_function(const struct code *code, const struct code_reference *reference,
                            struct verifier_text candidate, struct verifier_run *run,
                            struct tally *tally)
{
    struct text source = {0}, input = {0};
    char nonce[CODE_NONCE_BYTES];

    make_nonce(nonce);
    code_harness_write(&reference->function, candidate, &source);
    text_print(&input, "%s\n", nonce);
    for (size_t i = 0; i < reference->n_tests; i++)
        text_print(&input, "%s\n", reference->tests[i].input);
    run->source = (struct verifier_text){source.data, source.length};
    run->input = (struct verifier_text){input.data, input.length};
    int32_t status = code->host->run(code->host->context, run);
    if (status >= 0 && run->end != VERIFIER_RUN_NOT_COMPILED)
        tally->n_right = count_results(reference, run, nonce);
    text_release(&source);
    text_release(&input);
    return status;
}

/* Stops at the first run that ends badly, and at the first wrong one when all must pass. */
static int32_t run_program(const struct code *code, const struct code_reference *reference,
                           struct verifier_text candidate, struct verifier_run *run,
                           struct tally *tally)
{
    run->source = candidate;
    for (size_t i = 0; i < reference->n_tests; i++) {
        const struct code_test *test = &reference->tests[i];
        run->input = (struct verifier_text){test->input, strlen(test->input)};
        int32_t status = code->host->run(code->host->context, run);
        if (status < 0)
            return status;
        if (run->end != VERIFIER_RUN_EXITED || run->exit_code != 0)
            return 0;
        int right = same_bytes(trim(run->output, run->output_length),
                               trim(test->want, strlen(test->want)));
        tally->n_right += (size_t)right;
        if (!right && code->mode == MODE_ALL)
            return 0;
    }
    return 0;
}

/* The compiler's first error, without its place. */
static int32_t explain_compiler(const struct verifier_run *run, struct verifier_verdict *verdict)
{
    static const char mark[] = "error: ";
    const char *end = run->messages + run->messages_length;
    const char *at = memmem(run->messages, run->messages_length, mark, sizeof(mark) - 1);

    at = at ? at + sizeof(mark) - 1 : run->messages;
    const char *stop = memchr(at, '\n', (size_t)(end - at));
    return verdict_set(verdict, VERIFIER_CRASH, 0, "does not compile: %.*s",
                       (int)((stop ? stop : end) - at), at);
}

static int32_t conclude(const struct code *code, const struct tally *tally,
                        struct verifier_verdict *verdict)
{
    const struct verifier_run *run = tally->run;
    double share = (double)tally->n_right / (double)tally->n_tests;
    double value = code->mode == MODE_FRACTION ? share : 0;

    switch ((enum verifier_run_end)run->end) {
    case VERIFIER_RUN_NOT_COMPILED:
        return explain_compiler(run, verdict);
    case VERIFIER_RUN_TIME_LIMIT:
        return verdict_set(verdict, VERIFIER_TIMEOUT, value, "ran into the time limit");
    case VERIFIER_RUN_SIGNALED:
        return verdict_set(verdict, VERIFIER_CRASH, value, "crashed (signal %d)", (int)run->signal);
    case VERIFIER_RUN_MEMORY_LIMIT:
        return verdict_set(verdict, VERIFIER_CRASH, value, "ran into the memory limit");
    case VERIFIER_RUN_OUTPUT_LIMIT:
        return verdict_set(verdict, VERIFIER_CRASH, value, "ran into the output limit");
    case VERIFIER_RUN_FORBIDDEN:
        return verdict_set(verdict, VERIFIER_CRASH, value, "used a forbidden system call");
    case VERIFIER_RUN_EXITED:
        break;
    }
    if (run->exit_code != 0)
        return verdict_set(verdict, VERIFIER_CRASH, value, "ended with exit code %d",
                           (int)run->exit_code);
    if (tally->n_right == tally->n_tests)
        return verdict_set(verdict, VERIFIER_RIGHT, 1, "passes %zu tests", tally->n_tests);
    return verdict_set(verdict, VERIFIER_WRONG, value, "passes %zu of %zu tests", tally->n_right,
                       tally->n_tests);
}

static int32_t judge(const struct code *code, const struct code_reference *reference,
                     struct verifier_text candidate, struct verifier_verdict *verdict)
{
    struct verifier_run run = {.size = sizeof(run), .language = {"c", 1},
                               .output = mem_alloc(OUTPUT_BYTES, 1),
                               .output_capacity = OUTPUT_BYTES,
                               .messages = mem_alloc(MESSAGES_BYTES, 1),
                               .messages_capacity = MESSAGES_BYTES};
    struct tally tally = {.n_tests = reference->n_tests, .run = &run};
    int32_t status = reference->has_function
                         ? run_function(code, reference, candidate, &run, &tally)
                         : run_program(code, reference, candidate, &run, &tally);

    if (status < 0)
        verdict_set(verdict, VERIFIER_ERROR, 0, "%s", run.detail);
    else
        conclude(code, &tally, verdict);
    mem_free(run.output);
    mem_free(run.messages);
    return 0;
}

static int32_t score(void *state, const struct verifier_task *task,
                     struct verifier_verdict *verdict)
{
    struct code_reference reference;
    struct verifier_text candidate;

    if (code_reference_read(&reference, task->reference) < 0) {
        verdict_set(verdict, VERIFIER_ERROR, 0, "reference is unreadable: %s", status_reason());
    } else {
        const char *why_none = find_source(task, &candidate);
        if (why_none)
            verdict_set(verdict, VERIFIER_UNREADABLE, 0, "%s", why_none);
        else
            judge(state, &reference, candidate, verdict);
    }
    code_reference_release(&reference);
    return 0;
}

static void destroy(void *state)
{
    mem_free(state);
}

const struct verifier_v1 verifier_code = {
    .size = sizeof(verifier_code),
    .flags = VERIFIER_DETERMINISTIC | VERIFIER_USES_SANDBOX,
    .name = "code",
    .version = "1",
    .help = "A C program or function that passes the reference's tests in the sandbox.",
    .create = create,
    .score = score,
    .destroy = destroy,
};
