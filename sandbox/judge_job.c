/* A job from JSON: docs/code-verifier.md has its keys. Nothing is taken that cannot be judged. */
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/status.h"
#include "sandbox/judge_parts.h"
#include "sandbox/signature.h"

#define WHERE "job"

static int is_name(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_$";

    return *name && strchr(letters, *name) && strlen(name) < JUDGE_NAME_BYTES &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_$0123456789") ==
               strlen(name);
}

/* A string with any bytes; the other name is what older task files have. */
static int get_bytes(const json_t *row, const char *key, const char *other, const char **out,
                     size_t *n)
{
    const json_t *value = json_object_get(row, key);

    if (!value && other)
        value = json_object_get(row, other);
    if (!json_is_string(value))
        return status_fail(STATUS_FORMAT, WHERE ": key \"%s\" %s; a string is wanted", key,
                           value ? "has another type" : "is missing");
    *out = json_string_value(value);
    *n = json_string_length(value);
    return STATUS_OK;
}

static int read_weight(const json_t *row, struct job_test *test)
{
    TRY(json_get_real_or(row, "weight", WHERE, 1, &test->weight));
    return test->weight > 0 && test->weight <= 1e6
               ? STATUS_OK
               : status_fail(STATUS_FORMAT, WHERE ": weight %g: a number above 0 is wanted",
                             test->weight);
}

/* What is written as text becomes the value that the function's type makes of it. */
static int value_of_text(struct job *job, const char *text, const json_t **out)
{
    struct signature signature;
    json_t *value;
    char *end = NULL;

    TRY(signature_read(&signature, job->signature));
    switch (signature.result.kind) {
    case VALUE_CHARACTER:
    case VALUE_TEXT:
        value = json_string(text);
        break;
    case VALUE_BOOL:
        value = json_boolean(strcmp(text, "true") == 0 || strcmp(text, "1") == 0);
        break;
    case VALUE_REAL:
        value = json_real(strtod(text, &end));
        break;
    default:
        TRY(values_parse(&value, text, strlen(text), WHERE ": key \"want\""));
    }
    if (!value || (end && (end == text || *end))) {
        json_decref(value);
        return status_fail(STATUS_FORMAT, WHERE ": \"%.40s\" is no %s", text,
                           signature.result.name);
    }
    if (!job->made)
        job->made = json_array();
    json_array_append_new(job->made, value);
    *out = value;
    return STATUS_OK;
}

static int read_case(struct job *job, const json_t *row, struct job_test *test)
{
    const json_t *want = json_object_get(row, "want");

    test->arguments = json_object_get(row, "args");
    test->value = json_object_get(row, "expected");
    test->other_value = json_object_get(row, "or_expected");
    if (!test->value && want && json_is_string(want) && json_is_string(test->arguments))
        return value_of_text(job, json_string_value(want), &test->value);
    if (!test->value)
        return status_fail(STATUS_FORMAT, WHERE ": a case without \"expected\" tests nothing");
    if (json_is_array(test->arguments))
        return STATUS_OK;
    if (json_is_string(test->arguments) && job->language->kind == SANDBOX_NATIVE &&
        !strchr(json_string_value(test->arguments), '\n'))
        return STATUS_OK;
    return status_fail(STATUS_FORMAT, WHERE ": key \"args\" of a case must be an array%s",
                       job->language->kind == SANDBOX_NATIVE ? ", or one line of text" : "");
}

static int read_test(struct job *job, const json_t *row, struct job_test *test)
{
    if (!json_is_object(row))
        return status_fail(STATUS_FORMAT, WHERE ": each test must be an object");
    TRY(read_weight(row, test));
    if (job->mode == JOB_FUNCTION)
        return read_case(job, row, test);
    test->input = "";
    if (json_object_get(row, "stdin") || json_object_get(row, "in"))
        TRY(get_bytes(row, "stdin", "in", &test->input, &test->n_input));
    return get_bytes(row, "expected_stdout", "out", &test->want, &test->n_want);
}

static int read_tests(struct job *job, const json_t *json)
{
    const json_t *cases = json_object_get(json, "cases"), *tests = json_object_get(json, "tests");
    const json_t *rows = job->mode == JOB_FUNCTION && cases ? cases : tests;
    size_t n = json_array_size(rows);
    int is_single = job->mode == JOB_STDIO && !tests;

    if (is_single)
        n = 1;
    if (n == 0 || n > JUDGE_MAX_TESTS)
        return status_fail(STATUS_FORMAT, WHERE ": %zu tests; 1 to %d are wanted: without a test "
                           "nothing would be shown", n, JUDGE_MAX_TESTS);
    job->tests = mem_alloc(n, sizeof(*job->tests));
    job->n_tests = n;
    for (size_t i = 0; i < n; i++)
        TRY(read_test(job, is_single ? json : json_array_get(rows, i), &job->tests[i]));
    return STATUS_OK;
}

static int read_limit(const json_t *limits, const char *key, int64_t *out)
{
    TRY(json_get_int_or(limits, key, WHERE ": limits", 0, out));
    return *out >= 0 && *out <= (int64_t)1 << 40
               ? STATUS_OK
               : status_fail(STATUS_FORMAT, WHERE ": limits: %s: %lld is out of range", key,
                             (long long)*out);
}

/* A wall limit that is not named leaves room for a loaded machine. */
static int read_limits(struct job *job, const json_t *json, const struct sandbox_config *config)
{
    const json_t *limits = json_object_get(json, "limits");
    struct sandbox_limits *out = &job->limits;
    double factor = language_factor(config, job->language);

    if (limits && !json_is_object(limits))
        return status_fail(STATUS_FORMAT, WHERE ": key \"limits\" must be an object");
    TRY(read_limit(limits, "cpu_ms", &out->cpu_ms));
    TRY(read_limit(limits, "wall_ms", &out->wall_ms));
    TRY(read_limit(limits, "memory_bytes", &out->memory_bytes));
    TRY(read_limit(limits, "output_bytes", &out->output_bytes));
    TRY(read_limit(limits, "processes", &out->processes));
    TRY(read_limit(limits, "scratch_bytes", &out->scratch_bytes));
    if (out->cpu_ms && !out->wall_ms)
        out->wall_ms = 3 * out->cpu_ms > out->cpu_ms + 2000 ? 3 * out->cpu_ms : out->cpu_ms + 2000;
    if (!out->cpu_ms)
        out->cpu_ms = config->cpu_ms;
    if (!out->wall_ms)
        out->wall_ms = config->wall_ms;
    out->cpu_ms = (int64_t)((double)out->cpu_ms * factor);
    out->wall_ms = (int64_t)((double)out->wall_ms * factor);
    return STATUS_OK;
}

static int read_entry(struct job *job, const json_t *json)
{
    char name[SIGNATURE_NAME_BYTES];
    size_t at;

    TRY(json_get_text_or(json, "entry", WHERE, NULL, &job->entry));
    TRY(json_get_text_or(json, "signature", WHERE, NULL, &job->signature));
    if (!job->signature)
        TRY(json_get_text_or(json, "function", WHERE, NULL, &job->signature));
    if (job->entry && !is_name(job->entry))
        return status_fail(STATUS_FORMAT, WHERE ": entry \"%.40s\" is no name of a function",
                           job->entry);
    if (job->mode != JOB_FUNCTION)
        return STATUS_OK;
    if (job->language->kind != SANDBOX_NATIVE)
        return job->entry ? STATUS_OK
                          : status_fail(STATUS_FORMAT, WHERE ": key \"entry\" is missing: the name "
                                        "of the function");
    if (!job->signature || !signature_name(job->signature, name, &at))
        return status_fail(STATUS_FORMAT, WHERE ": key \"signature\" is %s: write the prototype, "
                           "as \"int add(int, int)\"", job->signature ? "not understood" :
                           "missing");
    if (job->entry && strcmp(job->entry, name) != 0)
        return status_fail(STATUS_FORMAT, WHERE ": entry \"%.40s\" is not the function of the "
                           "signature, \"%s\"", job->entry, name);
    struct signature signature;
    return strcmp(job->language->name, "c") == 0 ? signature_read(&signature, job->signature)
                                                 : STATUS_OK;
}

static int read_mode(struct job *job, const json_t *json)
{
    static const char *const names[] = {"stdio", "function", "asserts"};
    const char *name;

    TRY(json_get_text_or(json, "mode", WHERE, NULL, &name));
    if (!name)
        name = json_object_get(json, "asserts")                                        ? names[2]
               : json_object_get(json, "cases") || json_object_get(json, "function") ? names[1]
                                                                                       : names[0];
    for (int i = 0; i < 3; i++)
        if (strcmp(name, names[i]) == 0) {
            job->mode = (enum job_mode)i;
            return STATUS_OK;
        }
    return status_fail(STATUS_FORMAT, WHERE ": mode \"%.40s\" is not known: write stdio, function "
                       "or asserts", name);
}

static int read_language(struct job *job, const json_t *json)
{
    const char *name;

    TRY(json_get_text_or(json, "lang", WHERE, NULL, &name));
    if (!name)
        TRY(json_get_text_or(json, "language", WHERE, "c", &name));
    job->language = language_at(judge_find_language(name, strlen(name)));
    return job->language ? STATUS_OK
                         : status_fail(STATUS_UNSUPPORTED, WHERE ": language \"%.40s\" is not "
                                       "known: c, cpp, python and javascript are", name);
}

static int read_asserts(struct job *job, const json_t *json)
{
    if (strcmp(job->language->name, "python") != 0)
        return status_fail(STATUS_UNSUPPORTED, WHERE ": tests that are code are run in python "
                           "alone, not in %s", job->language->name);
    TRY(json_get_text(json, "asserts", WHERE, &job->asserts));
    return json_get_text_or(json, "setup", WHERE, "", &job->setup);
}

int job_read(struct job *job, const json_t *json, const char *source, size_t n_source,
             const struct sandbox_config *config)
{
    const char *compare;

    memset(job, 0, sizeof(*job));
    if (!json_is_object(json))
        return status_fail(STATUS_FORMAT, WHERE ": an object is wanted");
    job->source = source;
    job->n_source = n_source;
    TRY(read_language(job, json));
    if (!source)
        TRY(get_bytes(json, "source", NULL, &job->source, &job->n_source));
    TRY(read_mode(job, json));
    TRY(read_entry(job, json));
    TRY(json_get_text_or(json, "before", WHERE, "", &job->before));
    TRY(json_get_text_or(json, "compare", WHERE, NULL, &compare));
    TRY(compare_read(&job->compare, compare));
    job->compare.loose_bools = job->language->is_loose;
    TRY(read_limits(job, json, config));
    return job->mode == JOB_ASSERTS ? read_asserts(job, json) : read_tests(job, json);
}

void job_release(struct job *job)
{
    json_decref(job->made);
    mem_free(job->tests);
    memset(job, 0, sizeof(*job));
}
