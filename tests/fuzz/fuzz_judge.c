/* Everything that the judge reads: jobs, what harnesses send, outputs, packed tests, completions.
 * The first byte chooses which. */
#include <stdlib.h>
#include <string.h>

#include "common/status.h"
#include "reward/verifiers/code.h"
#include "sandbox/judge_parts.h"
#include "sandbox/signature.h"
#include "tasks/code_records.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void read_job(const char *text, size_t n)
{
    json_t *job;

    if (judge_parse_job(&job, text, n, "fuzz") < 0)
        return;
    if (judge_check_job(job) < 0 && !status_reason()[0])
        abort();
    json_decref(job);
}

/* Both notations, and a value against itself. */
static void read_values(const char *text, size_t n)
{
    const struct compare compare = {COMPARE_TOKENS, 1e-9, n & 1};
    struct text typed = {0};
    json_t *value, *again;

    if (values_parse(&value, text, n, "fuzz") < 0)
        return;
    compare_results(&compare, value, value);
    values_append(&typed, value);
    if (values_parse(&again, typed.data, typed.length, "fuzz") == STATUS_OK) {
        if (!compare_results(&compare, value, again) && json_is_integer(value))
            abort();
        json_decref(again);
    }
    text_release(&typed);
    json_decref(value);
}

static void read_records(const char *text, size_t n)
{
    const char *at = text, *end = text + n;
    struct record record;

    while (records_next(&at, end, "nonce", &record))
        if (record.text < text || record.text + record.n > end)
            abort();
}

static void read_outputs(const char *text, size_t n)
{
    static const char *const modes[] = {"tokens", "exact", "lines", "float:1e-6"};
    struct compare compare;
    size_t middle = n / 2;

    for (size_t i = 0; i < 4; i++) {
        compare_read(&compare, modes[i]);
        compare_output(&compare, text, middle, text + middle, n - middle);
        if (!compare_output(&compare, text, n, text, n))
            abort();
    }
}

static void read_completion(const char *text, size_t n)
{
    const struct verifier_task task = {.completion = {text, n}, .prefill = {"", 0}};
    struct verifier_text source = {NULL, 0};

    for (int extract = CODE_TAGGED; extract <= CODE_NAMED; extract++)
        if (!code_find_source(&task, 3, (enum code_extract)extract, &source) &&
            (source.data < text || source.data + source.length > text + n))
            abort();
}

static void read_record(const char *text, size_t n)
{
    json_t *row, *converted;
    struct text out = {0};

    code_archive_read(text, n, "fuzz", &out);
    text_release(&out);
    if (values_parse(&row, text, n, "fuzz") < 0)
        return;
    for (int format = FORMAT_HUMANEVAL; json_is_object(row) && format <= FORMAT_TACO; format++)
        if (code_record_convert((enum task_format)format, row, "fuzz", &converted) == STATUS_OK)
            json_decref(converted);
    json_decref(row);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static void (*const readers[])(const char *, size_t) = {
        read_job, read_values, read_records, read_outputs, read_completion, read_record};
    struct signature signature;

    if (!n)
        return 0;
    char *text = mem_alloc(n, 1);   /* of its exact size, so that no read goes beyond unseen */
    memcpy(text, data + 1, n - 1);
    signature_read(&signature, text);
    readers[data[0] % 6](text, n - 1);
    mem_free(text);
    return 0;
}
