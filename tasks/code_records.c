#include "tasks/code_records.h"

#include <string.h>

#include "common/status.h"

/* What the places that such tasks come from have in scope. */
static const char usual_imports[] =
    "from typing import *\nfrom collections import *\nfrom heapq import *\nfrom bisect import *\n"
    "from itertools import *\nfrom functools import *\nfrom math import *\n"
    "from builtins import *\nimport collections, heapq, bisect, itertools, functools, math\n"
    "import copy, operator, random, re, string, sys\n";

int code_format_is_one(enum task_format format)
{
    return format >= FORMAT_HUMANEVAL && format <= FORMAT_TACO;
}

enum task_format code_format_detect(const json_t *row)
{
    if (json_object_get(row, "entry_point") && json_object_get(row, "test") &&
        json_object_get(row, "prompt"))
        return FORMAT_HUMANEVAL;
    if (json_is_array(json_object_get(row, "test_list")))
        return FORMAT_MBPP;
    if (json_object_get(row, "question_content") && json_object_get(row, "public_test_cases"))
        return FORMAT_LIVECODEBENCH;
    if (json_object_get(row, "input_output") && json_object_get(row, "question"))
        return FORMAT_APPS;
    return FORMAT_HONE;
}

static int get_text(const json_t *row, const char *key, const char *where, const char **out)
{
    return json_get_text(row, key, where, out);
}

/* A list of lines, or one text: with a line break behind each line. */
static int append_lines(const json_t *value, const char *where, const char *key, struct text *out)
{
    const json_t *line;
    size_t i;

    if (json_is_string(value)) {
        text_append(out, json_string_value(value), json_string_length(value));
        return STATUS_OK;
    }
    if (!json_is_array(value))
        return status_fail(STATUS_FORMAT, "%s: key \"%s\": a text or a list of lines is wanted",
                           where, key);
    json_array_foreach(value, i, line) {
        if (!json_is_string(line))
            return status_fail(STATUS_FORMAT, "%s: key \"%s\": line %zu is no text", where, key, i);
        text_append(out, json_string_value(line), json_string_length(line));
        text_append(out, "\n", 1);
    }
    return STATUS_OK;
}

static json_t *new_job(const char *mode)
{
    return json_pack("{s:s, s:s}", "lang", "python", "mode", mode);
}

static void set_text(json_t *object, const char *key, const struct text *text)
{
    json_object_set_new(object, key, json_stringn(text->data ? text->data : "", text->length));
}

/* {prompt, entry_point, test}: the prompt is a function without a body, and what it needs. */
static int convert_humaneval(const json_t *row, const char *where, json_t *job,
                             struct text *question)
{
    const char *prompt, *entry, *test;

    TRY(get_text(row, "prompt", where, &prompt));
    TRY(get_text(row, "entry_point", where, &entry));
    TRY(get_text(row, "test", where, &test));
    text_print(question, "%s", prompt);
    json_object_set_new(job, "entry", json_string(entry));
    json_object_set_new(job, "before", json_string(prompt));
    json_object_set_new(job, "asserts", json_string(test));
    return STATUS_OK;
}

/* The call in "assert f(1, 2) == 3": what it should give is nobody's business before. */
static void append_call(const char *test, struct text *out)
{
    static const char prefix[] = "assert ";
    const char *end = NULL;

    if (strncmp(test, prefix, sizeof(prefix) - 1) == 0)
        test += sizeof(prefix) - 1;
    for (const char *at = test; (at = strstr(at, "==")); at += 2)
        end = at;
    size_t n = end ? (size_t)(end - test) : strlen(test);
    while (n && test[n - 1] == ' ')
        n--;
    text_append(out, test, n);
}

/* {text or prompt, test_list, test_setup_code or test_imports} */
static int convert_mbpp(const json_t *row, const char *where, json_t *job, struct text *question)
{
    const json_t *tests = json_object_get(row, "test_list");
    const json_t *imports = json_object_get(row, "test_imports");
    const char *asked, *setup, *first = json_string_value(json_array_get(tests, 0));
    struct text code = {0}, before = {0};
    int status;

    TRY(json_get_text_or(row, "text", where, NULL, &asked));
    if (!asked)
        TRY(get_text(row, "prompt", where, &asked));
    TRY(json_get_text_or(row, "test_setup_code", where, "", &setup));
    if (!first)
        return status_fail(STATUS_FORMAT, "%s: key \"test_list\" has no test", where);
    text_print(question, "%s\n\nIt will be called like this: ", asked);
    append_call(first, question);
    text_print(&before, "%s\n", setup);
    TRY_OUT(append_lines(tests, where, "test_list", &code));
    if (imports)
        TRY_OUT(append_lines(imports, where, "test_imports", &before));
    set_text(job, "asserts", &code);
    set_text(job, "setup", &before);
    set_text(job, "before", &before);
out:
    text_release(&code);
    text_release(&before);
    return status;
}

/* A key that holds JSON, or JSON as text. The caller owns *out. */
static int get_embedded(const json_t *row, const char *key, const char *where, json_t **out)
{
    json_t *value = json_object_get(row, key);

    if (!json_is_string(value)) {
        *out = json_incref(value);
        return *out ? STATUS_OK
                    : status_fail(STATUS_FORMAT, "%s: key \"%s\" is missing", where, key);
    }
    *out = NULL;
    return status_context(json_parse(out, json_string_value(value), json_string_length(value),
                                     key), "%s", where);
}

static void add_test(json_t *tests, const struct text *input, const struct text *want)
{
    json_t *test = json_object();

    set_text(test, "stdin", input);
    set_text(test, "expected_stdout", want);
    json_array_append_new(tests, test);
}

/* One test by arguments and result. What APPS expects often stands in a list of its own. */
static void add_case(json_t *cases, json_t *arguments, json_t *want, int may_be_wrapped)
{
    json_t *row = json_pack("{s:O, s:O}", "args", arguments, "expected", want);

    if (may_be_wrapped && json_array_size(want) > 0)
        json_object_set(row, "or_expected", json_array_get(want, 0));
    json_array_append_new(cases, row);
}

static int check_same_length(const json_t *inputs, const json_t *outputs, const char *where)
{
    size_t n = json_array_size(inputs);

    if (n == 0 || n != json_array_size(outputs))
        return status_fail(STATUS_FORMAT, "%s: key \"input_output\": %zu inputs and %zu outputs; "
                           "as many of both, and one at least, are wanted", where, n,
                           json_array_size(outputs));
    return STATUS_OK;
}

static int read_pairs(const json_t *io, const char *where, json_t *job)
{
    const json_t *inputs = json_object_get(io, "inputs");
    const json_t *outputs = json_object_get(io, "outputs");
    const char *entry;
    json_t *tests = json_array();
    struct text input = {0}, want = {0};
    int status;

    TRY_OUT(json_get_text_or(io, "fn_name", where, NULL, &entry));
    TRY_OUT(check_same_length(inputs, outputs, where));
    for (size_t i = 0; i < json_array_size(inputs); i++) {
        json_t *in = json_array_get(inputs, i), *out = json_array_get(outputs, i);

        text_clear(&input);
        text_clear(&want);
        if (entry && !json_is_array(in)) {
            status = status_fail(STATUS_FORMAT, "%s: input %zu is no list of arguments", where, i);
            goto out;
        }
        if (entry) {
            add_case(tests, in, out, 1);
            continue;
        }
        TRY_OUT(append_lines(in, where, "inputs", &input));
        TRY_OUT(append_lines(out, where, "outputs", &want));
        add_test(tests, &input, &want);
    }
    json_object_set(job, entry ? "cases" : "tests", tests);
    json_object_set_new(job, "mode", json_string(entry ? "function" : "stdio"));
    if (entry) {
        json_object_set_new(job, "entry", json_string(entry));
        json_object_set_new(job, "before", json_string(usual_imports));
    }
out:
    json_decref(tests);
    text_release(&input);
    text_release(&want);
    return status;
}

static int append_starter(const json_t *row, const char *where, struct text *question)
{
    const char *starter;

    TRY(json_get_text_or(row, "starter_code", where, "", &starter));
    if (starter[strspn(starter, " \t\r\n")])
        text_print(question, "\n\nUse this beginning:\n```python\n%s\n```", starter);
    return STATUS_OK;
}

/* {question, input_output: {inputs, outputs, fn_name}, starter_code}; TACO has the same. */
static int convert_apps(const json_t *row, const char *where, json_t *job, struct text *question)
{
    const char *asked;
    json_t *io;

    TRY(get_text(row, "question", where, &asked));
    text_print(question, "%s", asked);
    TRY(append_starter(row, where, question));
    TRY(get_embedded(row, "input_output", where, &io));
    int status = read_pairs(io, where, job);
    json_decref(io);
    return status;
}

/* The arguments of a functional test: a line of JSON each. */
static int read_arguments(const char *text, const char *where, json_t **out)
{
    json_t *arguments = json_array();
    json_error_t error;

    for (const char *at = text; *at;) {
        size_t n = strcspn(at, "\n");

        if (strspn(at, " \t\r\n") < n) {
            json_t *value = json_loadb(at, n, JSON_DECODE_ANY, &error);
            if (!value) {
                json_decref(arguments);
                return status_fail(STATUS_FORMAT, "%s: an argument is not valid JSON: %s", where,
                                   error.text);
            }
            json_array_append_new(arguments, value);
        }
        at += n + (at[n] == '\n');
    }
    *out = arguments;
    return STATUS_OK;
}

static int read_functional(const char *input, const char *output, const char *where, json_t *cases)
{
    json_error_t error;
    json_t *arguments = NULL;
    json_t *want = json_loads(output, JSON_DECODE_ANY, &error);

    if (!want)
        return status_fail(STATUS_FORMAT, "%s: an output is not valid JSON: %s", where, error.text);
    int status = read_arguments(input, where, &arguments);
    if (status == STATUS_OK) {
        add_case(cases, arguments, want, 0);
        json_decref(arguments);
    }
    json_decref(want);
    return status;
}

/* [{input, output, testtype}]: stdin tests into `tests`, functional ones into `cases`. */
static int read_livecodebench(const json_t *rows, const char *where, json_t *tests, json_t *cases)
{
    const json_t *row;
    size_t i;

    json_array_foreach(rows, i, row) {
        const char *input, *output, *type;

        TRY(get_text(row, "input", where, &input));
        TRY(get_text(row, "output", where, &output));
        TRY(json_get_text_or(row, "testtype", where, "stdin", &type));
        if (strcmp(type, "functional") == 0)
            TRY(read_functional(input, output, where, cases));
        else
            json_array_append_new(tests, json_pack("{s:s, s:s}", "stdin", input,
                                                   "expected_stdout", output));
    }
    return STATUS_OK;
}

static int read_private(const json_t *row, const char *where, json_t *tests, json_t *cases)
{
    const json_t *value = json_object_get(row, "private_test_cases");
    struct text text = {0};
    json_t *rows = NULL;
    int status;

    if (!value || (json_is_string(value) && !json_string_length(value)))
        return STATUS_OK;
    if (!json_is_string(value) || strchr("[ \n", json_string_value(value)[0])) {
        TRY(get_embedded(row, "private_test_cases", where, &rows));
        status = read_livecodebench(rows, where, tests, cases);
        json_decref(rows);
        return status;
    }
    TRY_OUT(code_archive_read(json_string_value(value), json_string_length(value), where, &text));
    TRY_OUT(json_parse(&rows, text.data ? text.data : "", text.length, where));
    status = read_livecodebench(rows, where, tests, cases);
out:
    json_decref(rows);
    text_release(&text);
    return status;
}

static int finish_livecodebench(const json_t *row, const char *where, json_t *tests, json_t *cases,
                                json_t *job)
{
    int is_function = json_array_size(cases) > 0;
    const char *entry;
    json_t *metadata;

    if (is_function == (json_array_size(tests) > 0))
        return status_fail(STATUS_FORMAT, "%s: %zu tests by stdin and %zu by function; one kind "
                           "is wanted", where, json_array_size(tests), json_array_size(cases));
    json_object_set(job, is_function ? "cases" : "tests", is_function ? cases : tests);
    json_object_set_new(job, "mode", json_string(is_function ? "function" : "stdio"));
    if (!is_function)
        return STATUS_OK;
    TRY(get_embedded(row, "metadata", where, &metadata));
    int status = get_text(metadata, "func_name", where, &entry);
    if (status == STATUS_OK) {
        json_object_set_new(job, "entry", json_string(entry));
        json_object_set_new(job, "before", json_string(usual_imports));
    }
    json_decref(metadata);
    return status;
}

/* {question_content, starter_code, public_test_cases, private_test_cases, metadata} */
static int convert_livecodebench(const json_t *row, const char *where, json_t *job,
                                 struct text *question)
{
    json_t *tests = json_array(), *cases = json_array(), *public = NULL;
    const char *asked;
    int status;

    TRY_OUT(get_text(row, "question_content", where, &asked));
    text_print(question, "%s", asked);
    TRY_OUT(append_starter(row, where, question));
    TRY_OUT(get_embedded(row, "public_test_cases", where, &public));
    TRY_OUT(read_livecodebench(public, where, tests, cases));
    TRY_OUT(read_private(row, where, tests, cases));
    status = finish_livecodebench(row, where, tests, cases, job);
out:
    json_decref(public);
    json_decref(tests);
    json_decref(cases);
    return status;
}

static void set_id(json_t *row)
{
    static const char *const places[] = {"task_id", "question_id", "problem_id", NULL};

    for (size_t i = 0; !json_object_get(row, "id") && places[i]; i++)
        if (json_object_get(row, places[i]))
            json_object_set(row, "id", json_object_get(row, places[i]));
}

int code_record_convert(enum task_format format, const json_t *row, const char *where,
                        json_t **out)
{
    json_t *job = new_job(format == FORMAT_APPS || format == FORMAT_TACO ||
                          format == FORMAT_LIVECODEBENCH ? "stdio" : "asserts");
    struct text question = {0};
    int (*convert)(const json_t *, const char *, json_t *, struct text *) =
        format == FORMAT_HUMANEVAL       ? convert_humaneval
        : format == FORMAT_MBPP          ? convert_mbpp
        : format == FORMAT_LIVECODEBENCH ? convert_livecodebench
                                         : convert_apps;
    int status = convert(row, where, job, &question);

    *out = NULL;
    if (status == STATUS_OK) {
        *out = json_copy((json_t *)row);
        set_text(*out, "question", &question);
        json_object_set(*out, "reference", job);
        if (!json_object_get(*out, "verifier"))
            json_object_set_new(*out, "verifier", json_string("code"));
        set_id(*out);
    }
    json_decref(job);
    text_release(&question);
    return status;
}
