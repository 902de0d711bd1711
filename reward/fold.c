#include "reward/fold.h"

#include <string.h>

#include "common/utf8.h"

#define MAX_DEPTH 16

struct spelling {
    const char *from, *to;
};

/* TeX commands by name, and what they fold to. */
static const struct spelling commands[] = {
    {"times", "*"},        {"cdot", "*"},         {"ast", "*"},         {"div", "/"},
    {"left", ""},          {"right", ""},         {"displaystyle", ""}, {"textstyle", ""},
    {"limits", ""},        {"big", ""},           {"Big", ""},          {"bigl", ""},
    {"bigr", ""},          {"Bigl", ""},          {"Bigr", ""},         {"quad", " "},
    {"qquad", " "},        {"dfrac", "\\frac"},   {"tfrac", "\\frac"},  {"cfrac", "\\frac"},
    {"leq", "\\le"},       {"geq", "\\ge"},       {"neq", "\\ne"},      {"lbrace", "\\{"},
    {"rbrace", "\\}"},     {"degree", "^\\circ"}, {"dots", "\\ldots"},  {"cdots", "\\ldots"},
    {"rightarrow", "\\to"}, {"vert", "|"},        {"lvert", "|"},       {"rvert", "|"},
    {"dollar", ""},        {"boldsymbol", ""},    {"lparen", "("},      {"rparen", ")"},
    {"emptyset", "\\varnothing"}, {"lt", "<"},      {"gt", ">"},
};

/* Commands whose argument is kept as it is. */
static const char *const wrappers[] = {"text",   "mathrm", "textbf", "mathbf", "mbox",
                                       "textit", "mathit", "textrm", "mathsf", "operatorname",
                                       "hbox",   "textnormal", "texttt", "mathtt", "boxed"};

struct folded_code {
    unsigned code;
    const char *to;
};
static const struct folded_code codes[] = {
    {0x00A0, " "},     {0x00B0, "^\\circ"}, {0x00B2, "^2"},     {0x00B3, "^3"},
    {0x00B7, "*"},     {0x00B9, "^1"},      {0x00BC, "\\frac{1}{4}"}, {0x00BD, "\\frac{1}{2}"},
    {0x00BE, "\\frac{3}{4}"}, {0x00D7, "*"},    {0x00F7, "/"},      {0x03C0, "\\pi"},
    {0x2010, "-"},     {0x2011, "-"},       {0x2012, "-"},      {0x2013, "-"},
    {0x2014, "-"},     {0x2018, "'"},       {0x2019, "'"},      {0x201C, "\""},
    {0x201D, "\""},    {0x2044, "/"},       {0x2070, "^0"},     {0x2074, "^4"},
    {0x2075, "^5"},    {0x2076, "^6"},      {0x2077, "^7"},     {0x2078, "^8"},
    {0x2079, "^9"},    {0x2212, "-"},       {0x2215, "/"},      {0x2217, "*"},
    {0x2219, "*"},     {0x221A, "\\sqrt"},  {0x221E, "\\infty"}, {0x2260, "\\ne"},
    {0x2264, "\\le"},  {0x2265, "\\ge"},    {0x22C5, "*"},      {0x3000, " "},
    {0x3001, ","},     {0x3002, "."},       {0xFFE5, ""},       {0x20AC, ""},
    {0x00A3, ""},      {0x00A5, ""},
};

size_t fold_utf8(const char *text, size_t n, unsigned *code)
{
    const unsigned char *at = (const unsigned char *)text;
    size_t length = n ? utf8_length(at, n) : 0;

    if (length)
        *code = utf8_decode(at, length);
    return length;
}

static int is_invisible(unsigned code)
{
    return (code >= 0x200B && code <= 0x200F) || (code >= 0x202A && code <= 0x202E) ||
           (code >= 0x2060 && code <= 0x2069) || code == 0xFEFF || code == 0x00AD ||
           (code >= 0xE0000 && code <= 0xE007F);
}

static void append_blank(struct text *out)
{
    if (out->length && out->data[out->length - 1] != ' ')
        text_append(out, " ", 1);
}

static void append_spelling(struct text *out, const char *to)
{
    if (strcmp(to, " ") == 0)
        append_blank(out);
    else
        text_append(out, to, strlen(to));
}

/* Index behind the brace that closes text[at] == '{', or 0. */
static size_t find_close(const char *text, size_t n, size_t at)
{
    size_t depth = 0;

    for (size_t i = at; i < n; i++) {
        if (text[i] == '\\')
            i++;
        else if (text[i] == '{')
            depth++;
        else if (text[i] == '}' && --depth == 0)
            return i + 1;
    }
    return 0;
}

static int fold_part(const char *text, size_t n, struct text *out, int depth);

static int is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static const char *find_command(const char *name, size_t n)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (strlen(commands[i].from) == n && memcmp(commands[i].from, name, n) == 0)
            return commands[i].to;
    return NULL;
}

static int is_wrapper(const char *name, size_t n)
{
    for (size_t i = 0; i < sizeof(wrappers) / sizeof(wrappers[0]); i++)
        if (strlen(wrappers[i]) == n && memcmp(wrappers[i], name, n) == 0)
            return 1;
    return 0;
}

/* A command of one character that is no letter; bytes read. */
static size_t fold_symbol(const char *text, size_t n, struct text *out)
{
    size_t next = 2;

    if (n < 2)
        return 1;
    if (strchr(",;: ", text[1])) {
        append_blank(out);
    } else if (text[1] == '!') {   /* "32,\! 349" is one number */
        while (next < n && text[next] == ' ')
            next++;
    } else if (text[1] == '%') {
        text_append(out, "%", 1);
    } else if (!strchr("()[]$", text[1])) {
        text_append(out, text, 2);
    }
    return next;
}

/* Arguments of \frac and \sqrt with braces around, "\frac12" as "\frac{1}{2}"; bytes read. What is
 * no group, digit or letter stays as it is. */
static size_t fold_arguments(const char *text, size_t n, int n_arguments, struct text *out,
                             int depth)
{
    size_t at = 0;

    for (int i = 0; i < n_arguments; i++) {
        size_t start = at;
        while (start < n && text[start] == ' ')
            start++;
        if (start < n && text[start] == '{') {
            size_t close = find_close(text, n, start);
            if (!close || depth >= MAX_DEPTH)
                return at;
            size_t length = out->length;
            text_append(out, "{", 1);
            if (fold_part(text + start + 1, close - start - 2, out, depth + 1) < 0) {
                out->data[out->length = length] = '\0';
                return at;
            }
            text_append(out, "}", 1);
            at = close;
        } else if (start < n && (is_letter(text[start]) ||
                                 (text[start] >= '0' && text[start] <= '9'))) {
            text_append(out, "{", 1);
            text_append(out, text + start, 1);
            text_append(out, "}", 1);
            at = start + 1;
        } else {
            return at;
        }
    }
    return at;
}

/* A command at text[0] == '\\'; bytes read, 0 when its argument cannot be folded. */
static size_t fold_command(const char *text, size_t n, struct text *out, int depth)
{
    size_t end = 1;

    while (end < n && is_letter(text[end]))
        end++;
    if (end == 1)
        return fold_symbol(text, n, out);
    size_t next = end;
    while (next < n && text[next] == ' ')
        next++;
    if (is_wrapper(text + 1, end - 1) && next < n && text[next] == '{') {
        size_t close = find_close(text, n, next);
        if (!close || depth >= MAX_DEPTH ||
            fold_part(text + next + 1, close - next - 2, out, depth + 1) < 0)
            return 0;
        return close;
    }
    const char *to = find_command(text + 1, end - 1);
    const char *name = to ? to : text;
    size_t n_name = to ? strlen(to) : end;
    if (to && strcmp(to, " ") == 0)
        append_blank(out);
    else
        text_append(out, name, n_name);
    if (n_name == 5 && memcmp(name, "\\frac", 5) == 0)
        return next + fold_arguments(text + next, n - next, 2, out, depth);
    if (n_name == 5 && memcmp(name, "\\sqrt", 5) == 0)
        return next + fold_arguments(text + next, n - next, 1, out, depth);
    /* The blank behind a command means nothing, unless it ends the command's name. */
    if (next > end && next < n && is_letter(text[next]) && n_name > 1 && name[0] == '\\')
        text_append(out, " ", 1);
    return next;
}

static int fold_code(unsigned code, const char *text, size_t length, struct text *out)
{
    if (is_invisible(code))
        return -1;
    if (code >= 0xFF01 && code <= 0xFF5E) {   /* full width forms of ASCII */
        char plain = (char)(code - 0xFEE0);
        text_append(out, &plain, 1);
        return 0;
    }
    if (code >= 0x2000 && code <= 0x200A) {
        append_blank(out);
        return 0;
    }
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
        if (codes[i].code == code) {
            append_spelling(out, codes[i].to);
            return 0;
        }
    text_append(out, text, length);
    return 0;
}

static int fold_part(const char *text, size_t n, struct text *out, int depth)
{
    size_t at = 0;

    while (at < n && !out->failed) {
        unsigned code;
        size_t length = fold_utf8(text + at, n - at, &code);
        if (!length || (code < 0x20 && !strchr("\t\n\r", (int)code)) || code == 0 || code == 0x7F)
            return -1;
        if (code == '\\') {
            length = fold_command(text + at, n - at, out, depth);
            if (!length)
                return -1;
        } else if (code <= ' ' || code == '~') {
            append_blank(out);
        } else if (strchr("<>!", (int)code) && at + 1 < n && text[at + 1] == '=') {
            text_print(out, "\\%s", code == '<' ? "le" : code == '>' ? "ge" : "ne");
            length = 2;
            if (at + 2 < n && is_letter(text[at + 2]))
                text_append(out, " ", 1);
        } else if (code == '*' && at + 1 < n && text[at + 1] == '*') {
            text_append(out, "^", 1);
            length = 2;
        } else if (code == '{' && n - at >= 3 && text[at + 1] == ',' && text[at + 2] == '}') {
            text_append(out, ",", 1);
            length = 3;
        } else if (code != '$' && fold_code(code, text + at, length, out) < 0) {
            return -1;
        }
        at += length;
    }
    return out->failed ? -1 : 0;
}

int fold_math(const char *text, size_t n, struct text *out)
{
    size_t start = out->length;

    if (fold_part(text, n, out, 0) < 0)
        return -1;
    while (out->length > start &&
           (out->data[out->length - 1] == ' ' || out->data[out->length - 1] == '.'))
        out->data[--out->length] = '\0';
    return 0;
}
