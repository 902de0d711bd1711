#include <string.h>

#include "common/json.h"
#include "common/status.h"
#include "reward/internal.h"
#include "reward/options.h"
#include "reward/verifiers/code.h"
#include "reward/verifiers/verifiers.h"

/*
 * code: the completion's program or function passes the tests of the reference, which is a job of
 * the judge without a source (docs/code-verifier.md). What is expected stays in this process.
 */
enum { MODE_ALL, MODE_FRACTION, MODE_WEIGHTED };

struct code {
    const struct verifier_host *host;
    int mode, extract, language;   /* language 0: the reference's */
};

static int32_t create(const struct verifier_host *host, struct verifier_text options, void **state)
{
    static const char *const known[] = {"mode", "extract", "language", NULL};
    static const char *const modes[] = {"all", "fraction", "weighted", NULL};
    static const char *const extracts[] = {"tagged", "fenced", "named", NULL};
    static const char *const languages[] = {"reference", "c", "cpp", "python", "javascript", NULL};
    struct code read = {.host = host};
    int status = options_check(options, "code", known);

    if (status == 0)
        status = options_choice(options, "mode", modes, &read.mode);
    if (status == 0)
        status = options_choice(options, "extract", extracts, &read.extract);
    if (status == 0)
        status = options_choice(options, "language", languages, &read.language);
    if (status < 0)
        return status;
    if (read.language)
        read.language = judge_find_language(languages[read.language],
                                            strlen(languages[read.language]));
    struct code *code = mem_alloc(1, sizeof(*code));
    *code = read;
    *state = code;
    return 0;
}

/* The job with the language that the options want in place of its own. */
static int read_job(const struct code *code, struct verifier_text reference, json_t **job,
                    int *language)
{
    const char *name;

    TRY(judge_parse_job(job, reference.data, reference.length, "reference"));
    if (!json_is_object(*job))
        return status_fail(STATUS_FORMAT, "an object is wanted");
    if (code->language)
        json_object_set_new(*job, "lang", json_string(judge_language_name(code->language)));
    TRY(judge_check_job(*job));
    TRY(json_get_text_or(*job, "language", "reference", "c", &name));
    TRY(json_get_text_or(*job, "lang", "reference", name, &name));
    *language = judge_find_language(name, strlen(name));
    return STATUS_OK;
}

static enum verifier_outcome outcome_of(enum judge_verdict verdict)
{
    switch (verdict) {
    case JUDGE_AC:
        return VERIFIER_RIGHT;
    case JUDGE_WA:
        return VERIFIER_WRONG;
    case JUDGE_TLE:
        return VERIFIER_TIMEOUT;
    case JUDGE_MLE:
    case JUDGE_RE:
    case JUDGE_CE:
    case JUDGE_OLE:
    case JUDGE_SV:
        return VERIFIER_CRASH;
    case JUDGE_IE:
        break;
    }
    return VERIFIER_ERROR;
}

/* "RE 3/10: crashed (signal 11)": the judge's word first, so that reports can count it. */
static int32_t conclude(const struct code *code, const struct judge_result *result,
                        struct verifier_verdict *verdict)
{
    const char *name = judge_verdict_name(result->verdict);
    double share = code->mode == MODE_FRACTION   ? result->right_fraction
                   : code->mode == MODE_WEIGHTED ? result->right_share
                                                 : 0;
    size_t n_right = 0;

    for (size_t i = 0; i < result->n_tests; i++)
        n_right += result->tests[i].verdict == JUDGE_AC;
    if (result->verdict == JUDGE_IE)
        return verdict_set(verdict, VERIFIER_ERROR, 0, "%s", result->detail);
    if (result->verdict == JUDGE_AC)
        return verdict_set(verdict, VERIFIER_RIGHT, 1, "%s: passes %zu test%s", name, n_right,
                           n_right == 1 ? "" : "s");
    return verdict_set(verdict, outcome_of(result->verdict), share, "%s %zu/%zu: %s", name,
                       n_right, result->n_tests, result->detail);
}

static int32_t score(void *state, const struct verifier_task *task,
                     struct verifier_verdict *verdict)
{
    const struct code *code = state;
    struct judge *judge = NULL;
    struct judge_result result = {.n_tests = 0};
    struct verifier_text source;
    json_t *job = NULL;
    int language = 0;

    if (read_job(code, task->reference, &job, &language) < 0) {
        verdict_set(verdict, VERIFIER_ERROR, 0, "reference is unreadable: %s", status_reason());
        json_decref(job);
        return 0;
    }
    const char *why_none = code_find_source(task, language, (enum code_extract)code->extract,
                                            &source);
    if (why_none) {
        verdict_set(verdict, VERIFIER_UNREADABLE, 0, "%s", why_none);
    } else if (host_judge(code->host, &judge) < 0) {
        verdict_set(verdict, VERIFIER_ERROR, 0, "%s", status_reason());
    } else {
        judge_run(judge, job, source.data, source.length, code->mode == MODE_ALL, &result);
        conclude(code, &result, verdict);
        judge_result_release(&result);
    }
    json_decref(job);
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
    .version = "2",
    .help = "A program or function that passes the reference's tests in the sandbox.",
    .create = create,
    .score = score,
    .destroy = destroy,
};
