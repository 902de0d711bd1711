#include <string.h>

#include "reward/verifiers/code.h"

/* Before the candidate: its own macros cannot reach these. */
static const char helpers[] =
    "#include <stdbool.h>\n"
    "#include <stddef.h>\n"
    "#include <stdint.h>\n"
    "#include <stdio.h>\n"
    "#include <stdlib.h>\n"
    "#include <string.h>\n"
    "static char hone_line[65536], *hone_at;\n"
    "static char hone_nonce[64];\n"
    "static int hone_next_line(void)\n"
    "{\n"
    "    hone_at = hone_line;\n"
    "    return fgets(hone_line, sizeof hone_line, stdin) != 0;\n"
    "}\n"
    "static int hone_begin(void)\n"
    "{\n"
    "    return hone_next_line() && sscanf(hone_line, \"%63s\", hone_nonce) == 1;\n"
    "}\n"
    "static void hone_skip(void)\n"
    "{\n"
    "    while (*hone_at == ' ' || *hone_at == ',' || *hone_at == '\\t')\n"
    "        hone_at++;\n"
    "}\n"
    "static inline long long hone_integer(void)\n"
    "{\n"
    "    hone_skip();\n"
    "    return *hone_at == '-' ? strtoll(hone_at, &hone_at, 10)\n"
    "                           : (long long)strtoull(hone_at, &hone_at, 10);\n"
    "}\n"
    "static inline double hone_real(void)\n"
    "{\n"
    "    hone_skip();\n"
    "    return strtod(hone_at, &hone_at);\n"
    "}\n"
    "static inline bool hone_bool(void)\n"
    "{\n"
    "    hone_skip();\n"
    "    bool value = *hone_at == 't' || (*hone_at >= '1' && *hone_at <= '9');\n"
    "    while (*hone_at && !strchr(\" ,]}\\n\", *hone_at))\n"
    "        hone_at++;\n"
    "    return value;\n"
    "}\n"
    "static inline char hone_character(void)\n"
    "{\n"
    "    hone_skip();\n"
    "    if (*hone_at == '\\'' && hone_at[1] && hone_at[2] == '\\'') {\n"
    "        hone_at += 3;\n"
    "        return hone_at[-2];\n"
    "    }\n"
    "    return *hone_at ? *hone_at++ : 0;\n"
    "}\n"
    "static inline char *hone_text(void)\n"
    "{\n"
    "    hone_skip();\n"
    "    char *text = malloc(strlen(hone_at) + 1), *to = text;\n"
    "    int quoted = *hone_at == '\"';\n"
    "    hone_at += quoted;\n"
    "    while (*hone_at && *hone_at != '\\n' &&\n"
    "           (quoted ? *hone_at != '\"' : *hone_at != ' ' && *hone_at != ',')) {\n"
    "        if (quoted && *hone_at == '\\\\' && hone_at[1]) {\n"
    "            hone_at++;\n"
    "            *to++ = *hone_at == 'n' ? '\\n' : *hone_at == 't' ? '\\t' : *hone_at;\n"
    "        } else {\n"
    "            *to++ = *hone_at;\n"
    "        }\n"
    "        hone_at++;\n"
    "    }\n"
    "    hone_at += quoted && *hone_at == '\"';\n"
    "    *to = 0;\n"
    "    return text;\n"
    "}\n"
    "static inline int hone_item(size_t n)\n"
    "{\n"
    "    hone_skip();\n"
    "    if (n == 0 && (*hone_at == '[' || *hone_at == '{'))\n"
    "        hone_at++;\n"
    "    hone_skip();\n"
    "    if (*hone_at == ']' || *hone_at == '}') {\n"
    "        hone_at++;\n"
    "        return 0;\n"
    "    }\n"
    "    return *hone_at && *hone_at != '\\n' && n < 16384;\n"
    "}\n"
    "static inline void hone_print_text(const char *text)\n"
    "{\n"
    "    printf(\"\\n%s \", hone_nonce);\n"
    "    for (text = text ? text : \"(null)\"; *text; text++)\n"
    "        if (*text == '\\n')\n"
    "            fputs(\"\\\\n\", stdout);\n"
    "        else\n"
    "            putchar(*text);\n"
    "    putchar('\\n');\n"
    "}\n"
    "#line 1 \"answer.c\"\n";

static const char *reader_of(enum code_kind kind)
{
    switch (kind) {
    case CODE_REAL:
        return "hone_real";
    case CODE_CHARACTER:
        return "hone_character";
    case CODE_BOOL:
        return "hone_bool";
    case CODE_TEXT:
        return "hone_text";
    case CODE_INTEGER:
    case CODE_UNSIGNED:
        break;
    }
    return "hone_integer";
}

static void write_parameter(const struct code_type *type, size_t i, struct text *out)
{
    const char *reader = reader_of(type->kind);

    if (type->is_array)
        text_print(out,
                   "        %s *a%zu = calloc(16384, sizeof *a%zu);\n"
                   "        for (size_t n = 0; hone_item(n); n++)\n"
                   "            a%zu[n] = (%s)%s();\n",
                   type->name, i, i, i, type->name, reader);
    else if (type->kind == CODE_TEXT)
        text_print(out, "        char *a%zu = hone_text();\n", i);
    else
        text_print(out, "        %s a%zu = (%s)%s();\n", type->name, i, type->name, reader);
}

static void write_call(const struct code_function *function, struct text *out)
{
    text_print(out, "%s(", function->name);
    for (size_t i = 0; i < function->n_parameters; i++)
        text_print(out, "%sa%zu", i ? ", " : "", i);
    text_print(out, ")");
}

static void write_print(const struct code_function *function, struct text *out)
{
    static const struct {
        const char *format, *cast;
    } ways[] = {
        [CODE_INTEGER] = {"%lld", "long long"},   [CODE_UNSIGNED] = {"%llu", "unsigned long long"},
        [CODE_REAL] = {"%.17g", "double"},        [CODE_CHARACTER] = {"%c", "char"},
        [CODE_BOOL] = {"%d", "int"},              [CODE_TEXT] = {"", ""},
    };
    enum code_kind kind = function->result.kind;

    if (kind == CODE_TEXT) {
        text_print(out, "        hone_print_text(");
        write_call(function, out);
        text_print(out, ");\n");
        return;
    }
    text_print(out, "        %s result = ", function->result.name);
    write_call(function, out);
    text_print(out, ";\n        printf(\"\\n%%s %s\\n\", hone_nonce, (%s)result);\n",
               ways[kind].format, ways[kind].cast);
}

void code_harness_write(const struct code_function *function, struct verifier_text candidate,
                        struct text *out)
{
    text_append(out, helpers, sizeof(helpers) - 1);
    text_append(out, candidate.data, candidate.length);
    text_print(out, "\n#line 1 \"harness.c\"\n%s;\n", function->prototype);
    text_print(out, "int main(void)\n{\n    if (!hone_begin())\n        return 3;\n"
                    "    while (hone_next_line()) {\n");
    for (size_t i = 0; i < function->n_parameters; i++)
        write_parameter(&function->parameters[i], i, out);
    write_print(function, out);
    text_print(out, "        fflush(stdout);\n    }\n    return 0;\n}\n");
}
