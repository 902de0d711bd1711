#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/status.h"
#include "reward/verifiers/code.h"

#define MAX_FUNCTION_TESTS 1000
#define MAX_PROGRAM_TESTS 100   /* each is a run of its own */
#define MAX_TOKENS 64

struct tokens {
    char words[MAX_TOKENS][CODE_TYPE_BYTES];
    size_t n;
};

static int split(const char *text, size_t length, struct tokens *tokens)
{
    size_t at = 0;

    tokens->n = 0;
    while (at < length) {
        size_t n = 0;
        while (at + n < length && (isalnum((unsigned char)text[at + n]) || text[at + n] == '_'))
            n++;
        if (isspace((unsigned char)text[at])) {
            at++;
            continue;
        }
        if (n == 0)
            n = 1;
        if (tokens->n == MAX_TOKENS || n >= CODE_TYPE_BYTES)
            return 0;
        memcpy(tokens->words[tokens->n], text + at, n);
        tokens->words[tokens->n++][n] = '\0';
        at += n;
    }
    return 1;
}

static int is_one_of(const char *word, const char *const *words)
{
    for (size_t i = 0; words[i]; i++)
        if (strcmp(word, words[i]) == 0)
            return 1;
    return 0;
}

static int is_type_word(const char *word)
{
    static const char *const words[] = {
        "char",    "short",    "int",      "long",     "signed",   "unsigned", "float",
        "double",  "bool",     "_Bool",    "size_t",   "int8_t",   "int16_t",  "int32_t",
        "int64_t", "uint8_t",  "uint16_t", "uint32_t", "uint64_t", NULL};

    return is_one_of(word, words);
}

static enum code_kind kind_of(const char *name)
{
    if (strcmp(name, "bool") == 0 || strcmp(name, "_Bool") == 0)
        return CODE_BOOL;
    if (strcmp(name, "char") == 0)
        return CODE_CHARACTER;
    if (strstr(name, "double") || strstr(name, "float"))
        return CODE_REAL;
    return strstr(name, "unsigned") || name[0] == 'u' || strcmp(name, "size_t") == 0
               ? CODE_UNSIGNED
               : CODE_INTEGER;
}

/* One declarator: type words, '*', a name, "[]". `name` may be NULL. */
static int read_declarator(const char *text, size_t length, struct code_type *type, char *name)
{
    static const char *const ignored[] = {"const", "restrict", "static", "extern", NULL};
    struct tokens tokens;
    int n_stars = 0, n_brackets = 0, n_names = 0;

    memset(type, 0, sizeof(*type));
    if (!split(text, length, &tokens))
        return 0;
    for (size_t i = 0; i < tokens.n; i++) {
        const char *word = tokens.words[i];
        size_t used = strlen(type->name);
        if (is_one_of(word, ignored))
            continue;
        if (is_type_word(word)) {
            if (n_names || used + strlen(word) + 2 > sizeof(type->name))
                return 0;
            snprintf(type->name + used, sizeof(type->name) - used, "%s%s", used ? " " : "", word);
        } else if (strcmp(word, "*") == 0) {
            n_stars++;
        } else if (strcmp(word, "[") == 0) {
            n_brackets++;
        } else if (isalpha((unsigned char)word[0]) || word[0] == '_') {
            if (name)
                snprintf(name, CODE_TYPE_BYTES, "%s", word);
            n_names++;
        } else if (strcmp(word, "]") != 0 && !(n_brackets && isdigit((unsigned char)word[0]))) {
            return 0;
        }
    }
    if (!type->name[0] || n_names > 1 || n_stars + n_brackets > 1)
        return 0;
    type->kind = kind_of(type->name);
    if (n_stars + n_brackets == 1) {
        if (type->kind == CODE_CHARACTER)
            type->kind = CODE_TEXT;
        else
            type->is_array = 1;
    }
    return 1;
}

static int is_void(const char *text, size_t length)
{
    struct tokens tokens;

    return split(text, length, &tokens) &&
           (tokens.n == 0 || (tokens.n == 1 && strcmp(tokens.words[0], "void") == 0));
}

int code_function_read(struct code_function *function, const char *prototype)
{
    const char *open = strchr(prototype, '('), *close = strrchr(prototype, ')');

    memset(function, 0, sizeof(*function));
    function->prototype = prototype;
    if (!open || !close || close < open ||
        !read_declarator(prototype, (size_t)(open - prototype), &function->result,
                         function->name) ||
        !function->name[0] || function->result.is_array)
        return status_fail(STATUS_FORMAT, "function \"%.60s\" is not understood", prototype);
    const char *at = open + 1;
    if (is_void(at, (size_t)(close - at)))
        return STATUS_OK;
    while (at <= close) {
        const char *comma = memchr(at, ',', (size_t)(close - at));
        const char *end = comma ? comma : close;
        if (function->n_parameters == CODE_MAX_PARAMETERS ||
            !read_declarator(at, (size_t)(end - at), &function->parameters[function->n_parameters],
                             NULL))
            return status_fail(STATUS_FORMAT, "parameters of \"%.60s\" are not understood",
                               prototype);
        function->n_parameters++;
        at = end + 1;
    }
    return STATUS_OK;
}

static int read_tests(struct code_reference *reference)
{
    const json_t *tests = json_object_get(reference->json, "tests");
    size_t n = json_array_size(tests);
    size_t most = reference->has_function ? MAX_FUNCTION_TESTS : MAX_PROGRAM_TESTS;

    if (n == 0 || n > most)
        return status_fail(STATUS_FORMAT, "\"tests\" has %zu entries; 1 to %zu are wanted", n,
                           most);
    reference->tests = mem_alloc(n, sizeof(*reference->tests));
    reference->n_tests = n;
    for (size_t i = 0; i < n; i++) {
        const json_t *row = json_array_get(tests, i);
        struct code_test *test = &reference->tests[i];
        TRY(json_get_text(row, reference->has_function ? "args" : "in", "test", &test->input));
        TRY(json_get_text(row, reference->has_function ? "want" : "out", "test", &test->want));
        if (reference->has_function && strchr(test->input, '\n'))
            return status_fail(STATUS_FORMAT, "test %zu: \"args\" must be one line", i);
    }
    return STATUS_OK;
}

int code_reference_read(struct code_reference *reference, struct verifier_text text)
{
    const char *prototype;

    memset(reference, 0, sizeof(*reference));
    TRY(json_parse(&reference->json, text.data, text.length, "JSON"));
    TRY(json_get_text_or(reference->json, "function", "JSON", NULL, &prototype));
    if (prototype) {
        reference->has_function = 1;
        TRY(code_function_read(&reference->function, prototype));
    }
    return read_tests(reference);
}

void code_reference_release(struct code_reference *reference)
{
    json_decref(reference->json);
    mem_free(reference->tests);
    memset(reference, 0, sizeof(*reference));
}
