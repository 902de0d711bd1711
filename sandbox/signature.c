#include "sandbox/signature.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "common/status.h"

#define MAX_TOKENS 64

struct tokens {
    char words[MAX_TOKENS][SIGNATURE_NAME_BYTES];
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
        if (tokens->n == MAX_TOKENS || n >= SIGNATURE_NAME_BYTES)
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

static enum value_kind kind_of(const char *name)
{
    if (strcmp(name, "bool") == 0 || strcmp(name, "_Bool") == 0)
        return VALUE_BOOL;
    if (strcmp(name, "char") == 0)
        return VALUE_CHARACTER;
    if (strstr(name, "double") || strstr(name, "float"))
        return VALUE_REAL;
    return strstr(name, "unsigned") || name[0] == 'u' || strcmp(name, "size_t") == 0
               ? VALUE_UNSIGNED
               : VALUE_INTEGER;
}

/* One declarator: type words, '*', a name, "[]". `name` may be NULL. */
static int read_declarator(const char *text, size_t length, struct value_type *type, char *name)
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
                snprintf(name, SIGNATURE_NAME_BYTES, "%s", word);
            n_names++;
        } else if (strcmp(word, "]") != 0 && !(n_brackets && isdigit((unsigned char)word[0]))) {
            return 0;
        }
    }
    if (!type->name[0] || n_names > 1 || n_stars + n_brackets > 1)
        return 0;
    type->kind = kind_of(type->name);
    if (n_stars + n_brackets == 1) {
        if (type->kind == VALUE_CHARACTER)
            type->kind = VALUE_TEXT;
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

int signature_read(struct signature *signature, const char *prototype)
{
    const char *open = strchr(prototype, '('), *close = strrchr(prototype, ')');

    memset(signature, 0, sizeof(*signature));
    signature->prototype = prototype;
    if (!open || !close || close < open ||
        !read_declarator(prototype, (size_t)(open - prototype), &signature->result,
                         signature->name) ||
        !signature->name[0] || signature->result.is_array)
        return status_fail(STATUS_FORMAT, "signature \"%.60s\" is not understood: "
                           "numbers, char, bool, char * and one-dimensional arrays are", prototype);
    const char *at = open + 1;
    if (is_void(at, (size_t)(close - at)))
        return STATUS_OK;
    while (at <= close) {
        const char *comma = memchr(at, ',', (size_t)(close - at));
        const char *end = comma ? comma : close;
        if (signature->n_parameters == SIGNATURE_MAX_PARAMETERS ||
            !read_declarator(at, (size_t)(end - at),
                             &signature->parameters[signature->n_parameters],
                             NULL))
            return status_fail(STATUS_FORMAT, "parameters of \"%.60s\" are not understood",
                               prototype);
        signature->n_parameters++;
        at = end + 1;
    }
    return STATUS_OK;
}

int signature_name(const char *prototype, char *out, size_t *at)
{
    const char *open = strchr(prototype, '(');
    size_t end = open ? (size_t)(open - prototype) : 0, start;

    while (end && isspace((unsigned char)prototype[end - 1]))
        end--;
    for (start = end; start && (isalnum((unsigned char)prototype[start - 1]) ||
                                prototype[start - 1] == '_'); start--)
        ;
    if (start == end || end - start >= SIGNATURE_NAME_BYTES ||
        isdigit((unsigned char)prototype[start]))
        return 0;
    memcpy(out, prototype + start, end - start);
    out[end - start] = '\0';
    *at = start;
    return 1;
}
