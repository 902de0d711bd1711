#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "math/read.h"

static const struct word_row {
    const char *word;
    enum word_kind kind;
    int64_t which;
} word_rows[] = {
    {"sqrt", WORD_FUNCTION, FUNCTION_SQRT}, {"cbrt", WORD_CUBE_ROOT, N_FUNCTIONS},
    {"exp", WORD_FUNCTION, FUNCTION_EXP},
    {"ln", WORD_FUNCTION, FUNCTION_LN}, {"log", WORD_FUNCTION, FUNCTION_LOG},
    {"lg", WORD_FUNCTION, FUNCTION_LOG_BASE},
    {"sin", WORD_FUNCTION, FUNCTION_SIN}, {"cos", WORD_FUNCTION, FUNCTION_COS},
    {"tan", WORD_FUNCTION, FUNCTION_TAN}, {"tg", WORD_FUNCTION, FUNCTION_TAN},
    {"cot", WORD_FUNCTION, FUNCTION_COT}, {"ctg", WORD_FUNCTION, FUNCTION_COT},
    {"sec", WORD_FUNCTION, FUNCTION_SEC}, {"csc", WORD_FUNCTION, FUNCTION_CSC},
    {"cosec", WORD_FUNCTION, FUNCTION_CSC},
    {"arcsin", WORD_FUNCTION, FUNCTION_ARCSIN}, {"asin", WORD_FUNCTION, FUNCTION_ARCSIN},
    {"arccos", WORD_FUNCTION, FUNCTION_ARCCOS}, {"acos", WORD_FUNCTION, FUNCTION_ARCCOS},
    {"arctan", WORD_FUNCTION, FUNCTION_ARCTAN}, {"atan", WORD_FUNCTION, FUNCTION_ARCTAN},
    {"arccot", WORD_FUNCTION, FUNCTION_ARCCOT}, {"acot", WORD_FUNCTION, FUNCTION_ARCCOT},
    {"arcsec", WORD_FUNCTION, FUNCTION_ARCSEC}, {"arccsc", WORD_FUNCTION, FUNCTION_ARCCSC},
    {"sinh", WORD_FUNCTION, FUNCTION_SINH}, {"cosh", WORD_FUNCTION, FUNCTION_COSH},
    {"tanh", WORD_FUNCTION, FUNCTION_TANH}, {"coth", WORD_FUNCTION, FUNCTION_COTH},
    {"sech", WORD_FUNCTION, FUNCTION_SECH}, {"csch", WORD_FUNCTION, FUNCTION_CSCH},
    {"arcsinh", WORD_FUNCTION, FUNCTION_ARCSINH}, {"asinh", WORD_FUNCTION, FUNCTION_ARCSINH},
    {"arsinh", WORD_FUNCTION, FUNCTION_ARCSINH}, {"arccosh", WORD_FUNCTION, FUNCTION_ARCCOSH},
    {"acosh", WORD_FUNCTION, FUNCTION_ARCCOSH}, {"arcosh", WORD_FUNCTION, FUNCTION_ARCCOSH},
    {"arctanh", WORD_FUNCTION, FUNCTION_ARCTANH}, {"atanh", WORD_FUNCTION, FUNCTION_ARCTANH},
    {"artanh", WORD_FUNCTION, FUNCTION_ARCTANH}, {"arccoth", WORD_FUNCTION, FUNCTION_ARCCOTH},
    {"abs", WORD_FUNCTION, FUNCTION_ABS}, {"floor", WORD_FUNCTION, FUNCTION_FLOOR},
    {"ceil", WORD_FUNCTION, FUNCTION_CEILING}, {"ceiling", WORD_FUNCTION, FUNCTION_CEILING},
    {"sgn", WORD_FUNCTION, FUNCTION_SIGN}, {"sign", WORD_FUNCTION, FUNCTION_SIGN},
    {"factorial", WORD_FUNCTION, FUNCTION_FACTORIAL},
    {"Re", WORD_FUNCTION, FUNCTION_REAL}, {"Im", WORD_FUNCTION, FUNCTION_IMAGINARY},
    {"gcd", WORD_FUNCTION, FUNCTION_GCD}, {"lcm", WORD_FUNCTION, FUNCTION_LCM},
    {"max", WORD_FUNCTION, FUNCTION_MAX}, {"min", WORD_FUNCTION, FUNCTION_MIN},
    {"binom", WORD_BINOMIAL, FUNCTION_BINOMIAL}, {"binomial", WORD_BINOMIAL, FUNCTION_BINOMIAL},
    {"nCr", WORD_BINOMIAL, FUNCTION_BINOMIAL},
    {"pi", WORD_CONSTANT, CONSTANT_PI}, {"Pi", WORD_CONSTANT, CONSTANT_PI},
    {"infinity", WORD_INFINITY, 0}, {"infty", WORD_INFINITY, 0}, {"inf", WORD_INFINITY, 0},
    {"Infinity", WORD_INFINITY, 0}, {"oo", WORD_INFINITY, 0},
    {"and", WORD_AND, 0}, {"or", WORD_OR, 0}, {"And", WORD_AND, 0}, {"Or", WORD_OR, 0},
    {"AND", WORD_AND, 0}, {"OR", WORD_OR, 0},
    {"union", WORD_CUP, 0}, {"Union", WORD_CUP, 0}, {"cup", WORD_CUP, 0}, {"cap", WORD_CAP, 0},
    {"percent", WORD_PERCENT, 0}, {"pct", WORD_PERCENT, 0}, {"percentage", WORD_PERCENT, 0},
    {"mod", WORD_MOD, 0},
    {"alpha", WORD_SYMBOL, 0}, {"beta", WORD_SYMBOL, 0}, {"gamma", WORD_SYMBOL, 0},
    {"delta", WORD_SYMBOL, 0}, {"epsilon", WORD_SYMBOL, 0}, {"theta", WORD_SYMBOL, 0},
    {"lambda", WORD_SYMBOL, 0}, {"mu", WORD_SYMBOL, 0}, {"sigma", WORD_SYMBOL, 0},
    {"omega", WORD_SYMBOL, 0}, {"phi", WORD_SYMBOL, 0}, {"rho", WORD_SYMBOL, 0},
    {"tau", WORD_SYMBOL, 0},
    {"yes", WORD_PLAIN, 0}, {"no", WORD_PLAIN, 0}, {"on", WORD_PLAIN, 0}, {"Yes", WORD_PLAIN, 0},
    {"No", WORD_PLAIN, 0}, {"all", WORD_PLAIN, 0}, {"not", WORD_PLAIN, 0}, {"is", WORD_PLAIN, 0},
    {"the", WORD_PLAIN, 0}, {"odd", WORD_PLAIN, 0}, {"DNE", WORD_PLAIN, 0}, {"if", WORD_PLAIN, 0},
    {"for", WORD_PLAIN, 0}, {"per", WORD_PLAIN, 0}, {"of", WORD_PLAIN, 0},
    {"sq", WORD_PLAIN, 0}, {"undefined", WORD_PLAIN, 0}, {"red", WORD_PLAIN, 0},
    {"million", WORD_SCALE, 1000000}, {"billion", WORD_SCALE, 1000000000},
    {"thousand", WORD_SCALE, 1000}, {"trillion", WORD_SCALE, 1000000000000},
    {"zero", WORD_NUMBER, 0}, {"one", WORD_NUMBER, 1}, {"two", WORD_NUMBER, 2},
    {"three", WORD_NUMBER, 3}, {"four", WORD_NUMBER, 4}, {"five", WORD_NUMBER, 5},
    {"six", WORD_NUMBER, 6}, {"seven", WORD_NUMBER, 7}, {"eight", WORD_NUMBER, 8},
    {"nine", WORD_NUMBER, 9}, {"ten", WORD_NUMBER, 10}, {"eleven", WORD_NUMBER, 11},
    {"twelve", WORD_NUMBER, 12}, {"thirteen", WORD_NUMBER, 13}, {"fourteen", WORD_NUMBER, 14},
    {"fifteen", WORD_NUMBER, 15}, {"sixteen", WORD_NUMBER, 16}, {"seventeen", WORD_NUMBER, 17},
    {"eighteen", WORD_NUMBER, 18}, {"nineteen", WORD_NUMBER, 19}, {"twenty", WORD_NUMBER, 20},
    {"thirty", WORD_NUMBER, 30}, {"forty", WORD_NUMBER, 40}, {"fifty", WORD_NUMBER, 50},
    {"sixty", WORD_NUMBER, 60}, {"seventy", WORD_NUMBER, 70}, {"eighty", WORD_NUMBER, 80},
    {"ninety", WORD_NUMBER, 90}, {"hundred", WORD_NUMBER, 100},
};

enum word_kind word_find(struct span word, int64_t *which)
{
    for (size_t i = 0; i < sizeof(word_rows) / sizeof(word_rows[0]); i++)
        if (span_is(word, word_rows[i].word)) {
            *which = word_rows[i].which;
            return word_rows[i].kind;
        }
    return WORD_NONE;
}

/* The value of one lower-case number word; -1 when it is none. */
static int64_t number_word(const char *word, size_t n)
{
    int64_t which;
    enum word_kind kind = word_find((struct span){word, n}, &which);

    return kind == WORD_NUMBER || (kind == WORD_SCALE && which == 1000) ? which : -1;
}

/* English grammar of numbers: tens before ones, one "hundred" in a group, one "thousand". */
struct number_words {
    int64_t total, group, last;
    int n_words, seen_thousand;
};

static int add_word(struct number_words *state, int64_t value)
{
    if (value == 1000) {
        if (state->seen_thousand || !state->group)
            return 0;
        state->total = state->group * 1000;
        state->group = 0;
        state->seen_thousand = 1;
    } else if (value == 100) {
        if (state->group < 1 || state->group > 9)
            return 0;
        state->group *= 100;
    } else if (value >= 20) {
        if (state->group % 100)
            return 0;
        state->group += value;
    } else {
        if (state->group % 10 || (value >= 10 && state->group % 100) ||
            (state->group % 100 && state->group % 100 < 20) || (value == 0 && state->n_words))
            return 0;
        state->group += value;
    }
    state->last = value;
    state->n_words++;
    return 1;
}

static int read_whole(struct span text, int64_t *out)
{
    struct number_words state = {0};
    char word[16];

    for (size_t i = 0; i < text.length;) {
        size_t n = 0;

        if (text.data[i] == ' ' || text.data[i] == '-' || text.data[i] == ',') {
            i++;
            continue;
        }
        while (i < text.length && isalpha((unsigned char)text.data[i]) && n < sizeof(word) - 1)
            word[n++] = (char)tolower((unsigned char)text.data[i++]);
        if (!n)
            return 0;
        if (n == 3 && memcmp(word, "and", 3) == 0 && state.n_words &&
            (state.last == 100 || state.last == 1000))
            continue;
        int64_t value = number_word(word, n);
        if (value < 0 || !add_word(&state, value))
            return 0;
    }
    *out = state.total + state.group;
    return state.n_words > 0;
}

/* What a part is called: "half" and "halves", "third" and "thirds". */
static int read_part(struct span word, int64_t *denominator, int *is_plural)
{
    static const struct {
        const char *word;
        int64_t denominator;
    } parts[] = {
        {"half", 2},     {"halve", 2},     {"third", 3},      {"quarter", 4},   {"fourth", 4},
        {"fifth", 5},    {"sixth", 6},     {"seventh", 7},    {"eighth", 8},    {"ninth", 9},
        {"tenth", 10},   {"eleventh", 11}, {"twelfth", 12},   {"sixteenth", 16},
        {"twentieth", 20}, {"hundredth", 100}, {"thousandth", 1000},
    };
    char text[16];

    if (!word.length || word.length >= sizeof(text))
        return 0;
    for (size_t i = 0; i < word.length; i++)
        text[i] = (char)tolower((unsigned char)word.data[i]);
    *is_plural = text[word.length - 1] == 's';
    struct span stem = {text, word.length - (size_t)*is_plural};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        if (span_is(stem, parts[i].word)) {
            *denominator = parts[i].denominator;
            return *is_plural ? !span_is(stem, "half") : !span_is(stem, "halve");
        }
    return 0;
}

static int is_joint(char c)
{
    return c == ' ' || c == '-';
}

/* "one third", "a half", "two-thirds", "half" alone; "twenty third" and "third" are ordinals. */
static int read_fraction(struct span text, int64_t *numerator, int64_t *denominator)
{
    size_t n = text.length;
    int is_plural;

    while (n && !is_joint(text.data[n - 1]))
        n--;
    if (!read_part((struct span){text.data + n, text.length - n}, denominator, &is_plural))
        return 0;
    while (n && is_joint(text.data[n - 1]))
        n--;
    struct span count = {text.data, n};
    *numerator = 1;
    if (!n)
        return !is_plural && *denominator == 2;
    if (span_is(count, "a") || span_is(count, "A") || span_is(count, "an") ||
        span_is(count, "An"))
        return !is_plural;
    return read_whole(count, numerator) && (*numerator == 1) == !is_plural;
}

/* "three and a half" */
static int read_mixed(struct span text, int64_t *numerator, int64_t *denominator)
{
    static const char joint[] = " and ";
    const size_t n_joint = sizeof(joint) - 1;
    int64_t whole;

    for (size_t i = text.length; i-- > 0;) {
        struct span rest = {text.data + i, text.length - i};
        if (!span_starts(rest, joint))
            continue;
        rest = (struct span){rest.data + n_joint, rest.length - n_joint};
        if (!read_whole((struct span){text.data, i}, &whole) ||
            !read_fraction(rest, numerator, denominator) || *numerator >= *denominator)
            return 0;
        *numerator += whole * *denominator;
        return 1;
    }
    return 0;
}

const struct node *words_number(struct tree *tree, struct span text)
{
    int64_t numerator, denominator = 1;

    if (!read_whole(text, &numerator) && !read_mixed(text, &numerator, &denominator) &&
        !read_fraction(text, &numerator, &denominator))
        return NULL;
    return denominator == 1 ? tree_integer(tree, numerator)
                            : tree_binary(tree, NODE_DIVIDE, tree_integer(tree, numerator),
                                          tree_integer(tree, denominator));
}

int words_reals(struct span text)
{
    static const char *const names[] = {
        "all real numbers", "all reals", "all the real numbers", "the real numbers",
        "real numbers", "the reals", "set of real numbers", "the set of real numbers",
        "the set of all real numbers", "set of all real numbers", "all real values",
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strlen(names[i]) == text.length && strncasecmp(names[i], text.data, text.length) == 0)
            return 1;
    return 0;
}
