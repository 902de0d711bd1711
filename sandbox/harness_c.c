/*
 * The program that stands around a function in C. main() reads a nonce, then arguments a line, and
 * answers "nonce value i JSON" on descriptor 3: what the function prints is something else. What is
 * expected never enters its process.
 */
#include <string.h>

#include "common/status.h"
#include "sandbox/judge_parts.h"
#include "sandbox/signature.h"

/* In front of the answer: its own macros cannot reach these. */
static const char head[] =
    "#include <math.h>\n"
    "#include <stdbool.h>\n"
    "#include <stddef.h>\n"
    "#include <stdint.h>\n"
    "#include <stdio.h>\n"
    "#include <stdlib.h>\n"
    "#include <string.h>\n"
    "static char *hone_line, *hone_at, hone_nonce[64];\n"
    "static FILE *hone_out;\n"
    "static int hone_next_line(void)\n"
    "{\n"
    "    static size_t capacity;\n"
    "    ssize_t n = getline(&hone_line, &capacity, stdin);\n"
    "    hone_at = hone_line;\n"
    "    return n > 0;\n"
    "}\n"
    "static int hone_begin(void)\n"
    "{\n"
    "    hone_out = fdopen(3, \"w\");\n"
    "    return hone_out && hone_next_line() && sscanf(hone_line, \"%63s\", hone_nonce) == 1;\n"
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
    "static inline int hone_byte(int quote)\n"
    "{\n"
    "    int c = (unsigned char)*hone_at;\n"
    "    if (!c || c == quote || c == '\\n')\n"
    "        return -1;\n"
    "    hone_at++;\n"
    "    if (c != '\\\\' || !*hone_at)\n"
    "        return c;\n"
    "    c = (unsigned char)*hone_at++;\n"
    "    if (c == 'u') {\n"
    "        char digits[5] = {0};\n"
    "        for (int i = 0; i < 4 && *hone_at; i++)\n"
    "            digits[i] = *hone_at++;\n"
    "        return (int)strtol(digits, 0, 16) & 255;\n"
    "    }\n"
    "    return c == 'n' ? '\\n' : c == 't' ? '\\t' : c == 'r' ? '\\r' : c == 'b' ? '\\b'\n"
    "           : c == 'f' ? '\\f' : c;\n"
    "}\n"
    "static inline char hone_character(void)\n"
    "{\n"
    "    hone_skip();\n"
    "    int quote = *hone_at == '\"' || *hone_at == '\\'' ? *hone_at++ : 0;\n"
    "    int c = hone_byte(quote);\n"
    "    hone_at += quote && *hone_at == quote;\n"
    "    return (char)c;\n"
    "}\n"
    "static inline char *hone_text(void)\n"
    "{\n"
    "    hone_skip();\n"
    "    int quote = *hone_at == '\"' ? *hone_at++ : ',';\n"
    "    char *text = malloc(strlen(hone_at) + 1), *to = text;\n"
    "    for (int c; (c = hone_byte(quote)) >= 0;)\n"
    "        *to++ = (char)c;\n"
    "    hone_at += quote == '\"' && *hone_at == '\"';\n"
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
    "    return *hone_at && *hone_at != '\\n';\n"
    "}\n"
    "static inline void hone_put_integer(long long value)\n"
    "{\n"
    "    fprintf(hone_out, \"%lld\", value);\n"
    "}\n"
    "static inline void hone_put_unsigned(unsigned long long value)\n"
    "{\n"
    "    fprintf(hone_out, value >> 63 ? \"{\\\"i\\\":\\\"%llu\\\"}\" : \"%llu\", value);\n"
    "}\n"
    "static inline void hone_put_real(double value)\n"
    "{\n"
    "    fprintf(hone_out, isfinite(value) ? \"%.17g\" : \"{\\\"f\\\":\\\"%g\\\"}\", value);\n"
    "}\n"
    "static inline void hone_put_bool(bool value)\n"
    "{\n"
    "    fputs(value ? \"true\" : \"false\", hone_out);\n"
    "}\n"
    "static inline void hone_put_bytes(const char *text, size_t n)\n"
    "{\n"
    "    fputc('\"', hone_out);\n"
    "    for (size_t i = 0; i < n; i++)\n"
    "        if ((unsigned char)text[i] < 32)\n"
    "            fprintf(hone_out, \"\\\\u%04x\", text[i]);\n"
    "        else\n"
    "            fprintf(hone_out, strchr(\"\\\"\\\\\", text[i]) ? \"\\\\%c\" : \"%c\", text[i]);\n"
    "    fputc('\"', hone_out);\n"
    "}\n"
    "static inline void hone_put_character(char value)\n"
    "{\n"
    "    hone_put_bytes(&value, 1);\n"
    "}\n"
    "static inline void hone_put_text(const char *text)\n"
    "{\n"
    "    if (text)\n"
    "        hone_put_bytes(text, strlen(text));\n"
    "    else\n"
    "        fputs(\"null\", hone_out);\n"
    "}\n"
    "#line 1 \"main.c\"\n";

static const char *const readers[] = {
    [VALUE_INTEGER] = "hone_integer", [VALUE_UNSIGNED] = "hone_integer",
    [VALUE_REAL] = "hone_real",       [VALUE_CHARACTER] = "hone_character",
    [VALUE_BOOL] = "hone_bool",       [VALUE_TEXT] = "hone_text"};

static const char *const writers[] = {
    [VALUE_INTEGER] = "hone_put_integer", [VALUE_UNSIGNED] = "hone_put_unsigned",
    [VALUE_REAL] = "hone_put_real",       [VALUE_CHARACTER] = "hone_put_character",
    [VALUE_BOOL] = "hone_put_bool",       [VALUE_TEXT] = "hone_put_text"};

static void write_parameter(const struct value_type *type, size_t i, struct text *out)
{
    const char *reader = readers[type->kind];

    /* An item takes at least a digit and a comma of the line. */
    if (type->is_array)
        text_print(out,
                   "        %s *a%zu = calloc(strlen(hone_at) / 2 + 2, sizeof *a%zu);\n"
                   "        for (size_t n = 0; hone_item(n); n++)\n"
                   "            a%zu[n] = (%s)%s();\n",
                   type->name, i, i, i, type->name, reader);
    else if (type->kind == VALUE_TEXT)
        text_print(out, "        char *a%zu = hone_text();\n", i);
    else
        text_print(out, "        %s a%zu = (%s)%s();\n", type->name, i, type->name, reader);
}

int harness_write_c(struct text *out, const char *prototype, const char *source, size_t n)
{
    struct signature signature;

    TRY(signature_read(&signature, prototype));
    text_append(out, head, sizeof(head) - 1);
    text_append(out, source, n);
    text_print(out, "\n#line 1 \"harness.c\"\n%s;\n", prototype);
    text_print(out, "int main(void)\n{\n    if (!hone_begin())\n        return 97;\n"
                    "    for (int i = 0; hone_next_line(); i++) {\n");
    for (size_t i = 0; i < signature.n_parameters; i++)
        write_parameter(&signature.parameters[i], i, out);
    text_print(out, "        %s%sresult = %s(",
               signature.result.kind == VALUE_TEXT ? "const char *" : signature.result.name,
               signature.result.kind == VALUE_TEXT ? "" : " ", signature.name);
    for (size_t i = 0; i < signature.n_parameters; i++)
        text_print(out, "%sa%zu", i ? ", " : "", i);
    text_print(out, ");\n        fprintf(hone_out, \"\\n%%s value %%d \", hone_nonce, i);\n"
                    "        %s(result);\n        fputc('\\n', hone_out);\n"
                    "        fflush(hone_out);\n    }\n"
                    "    fprintf(hone_out, \"\\n%%s end 0\\n\", hone_nonce);\n"
                    "    fflush(hone_out);\n    return 0;\n}\n",
               writers[signature.result.kind]);
    return STATUS_OK;
}
