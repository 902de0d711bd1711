#include <ctype.h>
#include <string.h>

#include "common/status.h"
#include "math/read.h"

struct lexer {
    struct span text;
    size_t at;
    struct tokens *out;
    size_t capacity;
    int blank;
};

static const struct command_row {
    const char *name;
    enum token_kind kind;
    int symbol;
} command_rows[] = {
    {"le", TOKEN_OPERATOR, RELATION_AT_MOST}, {"leq", TOKEN_OPERATOR, RELATION_AT_MOST},
    {"leqslant", TOKEN_OPERATOR, RELATION_AT_MOST}, {"leqq", TOKEN_OPERATOR, RELATION_AT_MOST},
    {"ge", TOKEN_OPERATOR, RELATION_AT_LEAST}, {"geq", TOKEN_OPERATOR, RELATION_AT_LEAST},
    {"geqslant", TOKEN_OPERATOR, RELATION_AT_LEAST}, {"geqq", TOKEN_OPERATOR, RELATION_AT_LEAST},
    {"lt", TOKEN_OPERATOR, RELATION_LESS}, {"gt", TOKEN_OPERATOR, RELATION_GREATER},
    {"ne", TOKEN_OPERATOR, RELATION_NOT_EQUAL}, {"neq", TOKEN_OPERATOR, RELATION_NOT_EQUAL},
    {"in", TOKEN_OPERATOR, RELATION_IN}, {"notin", TOKEN_OPERATOR, RELATION_NOT_IN},
    {"approx", TOKEN_OPERATOR, RELATION_ABOUT}, {"simeq", TOKEN_OPERATOR, RELATION_ABOUT},
    {"thickapprox", TOKEN_OPERATOR, RELATION_ABOUT}, {"approxeq", TOKEN_OPERATOR, RELATION_ABOUT},
    {"equiv", TOKEN_OPERATOR, RELATION_CONGRUENT},
    {"cup", TOKEN_OPERATOR, OPERATOR_CUP}, {"bigcup", TOKEN_OPERATOR, OPERATOR_CUP},
    {"cap", TOKEN_OPERATOR, OPERATOR_CAP}, {"bigcap", TOKEN_OPERATOR, OPERATOR_CAP},
    {"setminus", TOKEN_OPERATOR, OPERATOR_MINUS}, {"backslash", TOKEN_OPERATOR, OPERATOR_MINUS},
    {"land", TOKEN_OPERATOR, OPERATOR_AND}, {"wedge", TOKEN_OPERATOR, OPERATOR_AND},
    {"lor", TOKEN_OPERATOR, OPERATOR_OR}, {"vee", TOKEN_OPERATOR, OPERATOR_OR},
    {"cdot", TOKEN_CHAR, '*'}, {"times", TOKEN_CHAR, '*'}, {"ast", TOKEN_CHAR, '*'},
    {"div", TOKEN_CHAR, '/'}, {"colon", TOKEN_CHAR, ':'}, {"pm", TOKEN_CHAR, CHAR_PLUS_MINUS},
    {"mp", TOKEN_CHAR, CHAR_MINUS_PLUS}, {"{", TOKEN_CHAR, CHAR_SET_OPEN},
    {"}", TOKEN_CHAR, CHAR_SET_CLOSE}, {"lbrace", TOKEN_CHAR, CHAR_SET_OPEN},
    {"rbrace", TOKEN_CHAR, CHAR_SET_CLOSE}, {"langle", TOKEN_CHAR, CHAR_ANGLE_OPEN},
    {"rangle", TOKEN_CHAR, CHAR_ANGLE_CLOSE}, {"|", TOKEN_CHAR, CHAR_NORM},
    {"Vert", TOKEN_CHAR, CHAR_NORM}, {"lVert", TOKEN_CHAR, CHAR_NORM},
    {"rVert", TOKEN_CHAR, CHAR_NORM}, {"vert", TOKEN_CHAR, '|'}, {"lvert", TOKEN_CHAR, '|'},
    {"rvert", TOKEN_CHAR, '|'}, {"mid", TOKEN_CHAR, '|'}, {"$", TOKEN_CHAR, CHAR_CURRENCY},
    {"%", TOKEN_CHAR, '%'}, {"&", TOKEN_CHAR, '#'}, {"cent", TOKEN_CHAR, CHAR_CURRENCY},
    {"pounds", TOKEN_CHAR, CHAR_CURRENCY}, {"yen", TOKEN_CHAR, CHAR_CURRENCY},
    {"euro", TOKEN_CHAR, CHAR_CURRENCY}, {"won", TOKEN_CHAR, CHAR_CURRENCY},
    {"rupee", TOKEN_CHAR, CHAR_CURRENCY}, {"degree", TOKEN_CHAR, CHAR_DEGREE},
    {"textdegree", TOKEN_CHAR, CHAR_DEGREE}, {"lfloor", TOKEN_CHAR, CHAR_FLOOR_OPEN},
    {"rfloor", TOKEN_CHAR, CHAR_FLOOR_CLOSE}, {"lceil", TOKEN_CHAR, CHAR_CEILING_OPEN},
    {"rceil", TOKEN_CHAR, CHAR_CEILING_CLOSE}, {"ldots", TOKEN_CHAR, CHAR_DOTS},
    {"dots", TOKEN_CHAR, CHAR_DOTS}, {"cdots", TOKEN_CHAR, CHAR_DOTS},
    {"dotsc", TOKEN_CHAR, CHAR_DOTS}, {"dotsb", TOKEN_CHAR, CHAR_DOTS},
    {"lbrack", TOKEN_CHAR, '['}, {"rbrack", TOKEN_CHAR, ']'}, {"cr", TOKEN_ROW, 0},
    {"\\", TOKEN_ROW, 0}, {"_", TOKEN_CHAR, '_'},
};

/* Commands that change only how it looks. */
static const char *const looks[] = {
    "left", "right", "big", "Big", "bigg", "Bigg", "bigl", "bigr", "Bigl", "Bigr", "biggl", "biggr",
    "Biggl", "Biggr", "middle", "displaystyle", "textstyle", "scriptstyle", "limits", "nolimits",
    "rm", "bf", "it", "quad", "qquad", "hfill", "hspace", "mathbf", "boldsymbol", "bm", "bold",
    "boxed", "fbox", "mathstrut", "strut", ",", ";", ":", " ", "!", ">", "(", ")", "[", "]", "/",
    "mathop", "ensuremath", "thinspace", "medspace", "hline", "displaylimits", "mathbin",
};

static const char *const texts[] = {
    "text", "textbf", "textit", "textrm", "textsf", "texttt", "textnormal", "mbox", "hbox",
    "mathrm", "mathsf", "mathit", "operatorname", "emph", "mathtt", "textup",
};

static int is_one_of(struct span name, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (span_is(name, list[i]))
            return 1;
    return 0;
}

static int put(struct lexer *lexer, enum token_kind kind, int symbol, struct span span)
{
    struct token *token;

    if (lexer->out->n + 1 >= lexer->capacity)
        return STATUS_FORMAT;
    token = &lexer->out->items[lexer->out->n++];
    *token = (struct token){.kind = kind, .symbol = symbol, .span = span, .blank = lexer->blank};
    lexer->blank = 0;
    return STATUS_OK;
}

static char peek(const struct lexer *lexer, size_t ahead)
{
    return lexer->at + ahead < lexer->text.length ? lexer->text.data[lexer->at + ahead] : 0;
}

static struct span rest_of(const struct lexer *lexer)
{
    return (struct span){lexer->text.data + lexer->at, lexer->text.length - lexer->at};
}

/* The balanced {...} at `at`, without its braces; skips it. 0 when there is none. */
static int take_group(struct lexer *lexer, struct span *out)
{
    size_t start;
    int depth = 0;

    while (peek(lexer, 0) == ' ')
        lexer->at++;
    if (peek(lexer, 0) != '{')
        return 0;
    start = lexer->at + 1;
    for (size_t i = lexer->at; i < lexer->text.length; i++) {
        char c = lexer->text.data[i];

        if (c == '\\')
            i++;
        else if (c == '{')
            depth++;
        else if (c == '}' && --depth == 0) {
            *out = (struct span){lexer->text.data + start, i - start};
            lexer->at = i + 1;
            return 1;
        }
    }
    return 0;
}

static struct span trim_text(struct span span)
{
    while (span.length && strchr(" ~\\,;", span.data[0]))
        span = (struct span){span.data + 1, span.length - 1};
    while (span.length && strchr(" ~,;\\.", span.data[span.length - 1]))
        span.length--;
    return span;
}

static int put_text(struct lexer *lexer, struct span name, struct span inner)
{
    int is_roman = span_starts(name, "math") || span_is(name, "operatorname");
    int has_comma = inner.length && memchr(inner.data, ',', inner.length) != NULL;
    struct span word = trim_text(inner);
    int64_t which;
    enum word_kind kind = word_find(word, &which);

    if (kind == WORD_AND || kind == WORD_OR)
        return put(lexer, TOKEN_OPERATOR, kind == WORD_AND ? OPERATOR_AND : OPERATOR_OR, word);
    if (!word.length) {
        lexer->blank = 1;
        return has_comma ? put(lexer, TOKEN_CHAR, ',', inner) : STATUS_OK;
    }
    if (is_roman && word.length == 1 && strchr("eidxyznk", word.data[0]))
        return put(lexer, TOKEN_LETTER, word.data[0], word);
    if (is_roman && (kind == WORD_FUNCTION || kind == WORD_CONSTANT || kind == WORD_MOD) &&
        !unit_is_word(word))
        return put(lexer, TOKEN_WORD, (int)kind, word);
    return put(lexer, TOKEN_TEXT, (int)kind, word);
}

static int lex_environment(struct lexer *lexer, struct span name)
{
    struct span inner, ignored;

    if (!take_group(lexer, &inner))
        return put(lexer, TOKEN_CHAR, '?', name);
    if (span_is(inner, "align") || span_is(inner, "align*") || span_is(inner, "aligned") ||
        span_is(inner, "gathered") || span_is(inner, "equation") || span_is(inner, "equation*") ||
        span_is(inner, "split") || span_is(inner, "gather*"))
        return STATUS_OK;
    if (span_is(name, "begin") && (span_is(inner, "array") || span_is(inner, "tabular")))
        take_group(lexer, &ignored);
    return put(lexer, span_is(name, "begin") ? TOKEN_BEGIN : TOKEN_FINISH, 0, inner);
}

static void skip_look(struct lexer *lexer, struct span name)
{
    struct tokens *out = lexer->out;
    struct span ignored;

    if (span_is(name, "!")) {   /* 12,\!345: the comma does not separate */
        if (out->n && out->items[out->n - 1].symbol == ',')
            out->items[out->n - 1].kind = TOKEN_GROUPING;
        return;
    }
    if (span_is(name, "hspace"))
        take_group(lexer, &ignored);
    if ((span_is(name, "left") || span_is(name, "right")) && peek(lexer, 0) == '.')
        lexer->at++;
    lexer->blank = 1;
}

static int lex_command(struct lexer *lexer)
{
    size_t start = ++lexer->at;
    struct span name, inner;

    while (isalpha((unsigned char)peek(lexer, 0)))
        lexer->at++;
    if (lexer->at == start && lexer->at < lexer->text.length)
        lexer->at++;
    name = (struct span){lexer->text.data + start, lexer->at - start};
    if (!name.length)
        return STATUS_OK;
    if (span_is(name, "begin") || span_is(name, "end"))
        return lex_environment(lexer, name);
    if (is_one_of(name, looks, sizeof(looks) / sizeof(looks[0]))) {
        skip_look(lexer, name);
        return STATUS_OK;
    }
    if (is_one_of(name, texts, sizeof(texts) / sizeof(texts[0])))
        return take_group(lexer, &inner) ? put_text(lexer, name, inner)
                                         : put(lexer, TOKEN_COMMAND, 0, name);
    for (size_t i = 0; i < sizeof(command_rows) / sizeof(command_rows[0]); i++)
        if (span_is(name, command_rows[i].name))
            return put(lexer, command_rows[i].kind, command_rows[i].symbol, name);
    return put(lexer, TOKEN_COMMAND, 0, name);
}

/* A run of letters: a word that is known, one letter after another, or a noun. */
static int lex_letters(struct lexer *lexer)
{
    static const char *const glued[] = {"sin", "cos", "tan", "cot", "log", "ln", "exp", "sqrt"};
    size_t start = lexer->at;
    struct span run;
    int64_t which;
    enum word_kind kind;

    while (isalpha((unsigned char)peek(lexer, 0)) || (unsigned char)peek(lexer, 0) >= 0x80)
        lexer->at++;
    run = (struct span){lexer->text.data + start, lexer->at - start};
    kind = word_find(run, &which);
    if (kind == WORD_AND || kind == WORD_OR)
        return put(lexer, TOKEN_OPERATOR, kind == WORD_AND ? OPERATOR_AND : OPERATOR_OR, run);
    if (kind == WORD_CUP || kind == WORD_CAP)
        return put(lexer, TOKEN_OPERATOR, kind == WORD_CUP ? OPERATOR_CUP : OPERATOR_CAP, run);
    if (kind != WORD_NONE)
        return put(lexer, TOKEN_WORD, (int)kind, run);
    if (run.length > 1 && unit_is_word(run))
        return put(lexer, TOKEN_WORD, WORD_UNIT, run);
    for (size_t i = 0; i < sizeof(glued) / sizeof(glued[0]); i++) {
        size_t n = strlen(glued[i]);

        if (span_starts(run, glued[i]) && run.length == n + 1) {
            TRY(put(lexer, TOKEN_WORD, WORD_FUNCTION, (struct span){run.data, n}));
            return put(lexer, TOKEN_LETTER, run.data[n], (struct span){run.data + n, 1});
        }
    }
    for (size_t i = 0; i < run.length; i++)
        if ((unsigned char)run.data[i] >= 0x80 || run.length > 3)
            return put(lexer, TOKEN_NOUN, 0, run);
    for (size_t i = 0; i < run.length; i++)
        TRY(put(lexer, TOKEN_LETTER, run.data[i], (struct span){run.data + i, 1}));
    return STATUS_OK;
}

/* Signs of two or three characters; 0 when none stands here. */
static int lex_long_sign(struct lexer *lexer, int *found)
{
    static const struct {
        const char *text;
        enum token_kind kind;
        int symbol;
    } rows[] = {
        {"...", TOKEN_CHAR, CHAR_DOTS}, {"+/-", TOKEN_CHAR, CHAR_PLUS_MINUS},
        {"{,}", TOKEN_GROUPING, ','}, {"**", TOKEN_CHAR, '^'},
        {"<=", TOKEN_OPERATOR, RELATION_AT_MOST}, {">=", TOKEN_OPERATOR, RELATION_AT_LEAST},
        {"=<", TOKEN_OPERATOR, RELATION_AT_MOST}, {"==", TOKEN_OPERATOR, RELATION_EQUAL},
        {"!=", TOKEN_OPERATOR, RELATION_NOT_EQUAL},
    };
    const struct tokens *out = lexer->out;
    int after_digits = out->n && out->items[out->n - 1].kind == TOKEN_DIGITS && !lexer->blank;

    *found = 0;   /* spans must lie in the text: names and numbers are cut out between tokens */
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (!span_starts(rest_of(lexer), rows[i].text) ||
            (rows[i].symbol == RELATION_NOT_EQUAL && after_digits))   /* 5!=120 */
            continue;
        struct span sign = {lexer->text.data + lexer->at, strlen(rows[i].text)};

        *found = 1;
        lexer->at += sign.length;
        return put(lexer, rows[i].kind, rows[i].symbol, sign);
    }
    return STATUS_OK;
}

static int lex_one(struct lexer *lexer)
{
    char c = peek(lexer, 0);
    size_t start = lexer->at;
    int found;

    if (c == ' ' || c == '~') {
        lexer->blank = 1;
        lexer->at++;
        return STATUS_OK;
    }
    if (c == '\\')
        return lex_command(lexer);
    if (isdigit((unsigned char)c)) {
        while (isdigit((unsigned char)peek(lexer, 0)))
            lexer->at++;
        return put(lexer, TOKEN_DIGITS, 0,
                   (struct span){lexer->text.data + start, lexer->at - start});
    }
    if (isalpha((unsigned char)c) || (unsigned char)c >= 0x80)
        return lex_letters(lexer);
    TRY(lex_long_sign(lexer, &found));
    if (found)
        return STATUS_OK;
    lexer->at++;
    if (c == '<' || c == '>' || c == '=')
        return put(lexer, TOKEN_OPERATOR, c, (struct span){lexer->text.data + start, 1});
    return put(lexer, TOKEN_CHAR, c, (struct span){lexer->text.data + start, 1});
}

/* Pairs of $ only mark mathematics; a lone one is money. */
static void drop_delimiters(struct tokens *out)
{
    size_t n = 0, kept = 0;

    for (size_t i = 0; i < out->n; i++)
        n += out->items[i].symbol == '$';
    for (size_t i = 0; i < out->n; i++) {
        struct token token = out->items[i];

        if (token.symbol == '$' && n == 1)
            token.symbol = CHAR_CURRENCY;
        else if (token.symbol == '$') {
            if (i + 1 < out->n)
                out->items[i + 1].blank = 1;
            continue;
        }
        out->items[kept++] = token;
    }
    out->n = kept;
}

int lex_answer(struct tokens *out, struct arena *arena, struct span text)
{
    struct lexer lexer = {.text = text, .out = out, .capacity = text.length + 2};

    out->n = 0;
    out->items = ARENA_NEW(arena, struct token, lexer.capacity);
    if (!out->items)
        return STATUS_NOMEM;
    while (lexer.at < text.length)
        TRY(lex_one(&lexer));
    drop_delimiters(out);
    out->items[out->n] = (struct token){.kind = TOKEN_END, .span = {"", 0}, .blank = 1};
    return STATUS_OK;
}
