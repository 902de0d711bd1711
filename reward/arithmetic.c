#include "reward/arithmetic.h"

#include <string.h>

#define MAX_DEPTH 64

struct reader {
    const char *at, *end;
    int depth;
    int undefined;               /* read on, so that what is unreadable is called so */
    struct arithmetic *out;      /* NULL behind "=": numbers there are not counted */
};

/* What stands for one character; the longer spelling first. */
struct spelling {
    const char *text;
    char means;
};
static const struct spelling spellings[] = {
    {"\\times", '*'}, {"\\cdot", '*'},  {"\\div", '/'},   {"\\left", ' '},  {"\\right", ' '},
    {"\\(", ' '},     {"\\)", ' '},     {"\\[", ' '},     {"\\]", ' '},     {"\\,", ' '},
    {"\xC3\x97", '*'},                  /* U+00D7 times */
    {"\xC2\xB7", '*'},                  /* U+00B7 middle dot */
    {"\xE2\x8B\x85", '*'},              /* U+22C5 dot operator */
    {"\xE2\x88\x97", '*'},              /* U+2217 asterisk operator */
    {"\xC3\xB7", '/'},                  /* U+00F7 division */
    {"\xE2\x88\x95", '/'},              /* U+2215 division slash */
    {"\xE2\x88\x92", '-'},              /* U+2212 minus */
    {"\xE2\x80\x93", '-'},              /* U+2013 en dash */
    {"\xEF\xBC\x88", '('},              /* U+FF08 */
    {"\xEF\xBC\x89", ')'},              /* U+FF09 */
    {"\xC2\xA0", ' '},                  /* U+00A0 no-break space */
    {"$", ' '},       {" ", ' '},       {"\t", ' '},      {"\n", ' '},      {"\r", ' '},
};

/* The next character that means something, and its bytes; 0 at the end. */
static char peek(struct reader *reader, size_t *n)
{
    while (reader->at < reader->end) {
        size_t left = (size_t)(reader->end - reader->at), i = 0;
        for (; i < sizeof(spellings) / sizeof(spellings[0]); i++) {
            *n = strlen(spellings[i].text);
            if (*n <= left && memcmp(reader->at, spellings[i].text, *n) == 0)
                break;
        }
        if (i == sizeof(spellings) / sizeof(spellings[0])) {
            *n = 1;
            return *reader->at ? *reader->at : '?';
        }
        if (spellings[i].means != ' ')
            return spellings[i].means;
        reader->at += *n;
    }
    return 0;
}

static int take(struct reader *reader, char wanted)
{
    size_t n;

    if (peek(reader, &n) != wanted)
        return 0;
    reader->at += n;
    return 1;
}

static __int128 greatest_divisor(__int128 a, __int128 b)
{
    a = a < 0 ? -a : a;
    b = b < 0 ? -b : b;
    while (b) {
        __int128 rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* Products of two 64-bit numbers and the sum of two of those fit 128 bits. */
static void set_fraction(struct reader *reader, struct fraction *out, __int128 num, __int128 den)
{
    *out = (struct fraction){0, 1};
    if (den == 0) {
        reader->undefined = 1;
        return;
    }
    __int128 divisor = greatest_divisor(num, den);
    num /= den < 0 ? -divisor : divisor;
    den /= den < 0 ? -divisor : divisor;
    if (num > INT64_MAX || num < -INT64_MAX || den > INT64_MAX) {
        reader->undefined = 1;
        return;
    }
    *out = (struct fraction){(int64_t)num, (int64_t)den};
}

static void combine(struct reader *reader, char sign, struct fraction *a, struct fraction b)
{
    __int128 num = a->num, den = a->den;

    if (sign == '*')
        set_fraction(reader, a, num * b.num, den * b.den);
    else if (sign == '/')
        set_fraction(reader, a, num * b.den, den * b.num);
    else
        set_fraction(reader, a, num * b.den + (sign == '+' ? 1 : -1) * (den * b.num), den * b.den);
}

static int read_sum(struct reader *reader, struct fraction *out);

static int read_integer(struct reader *reader, struct fraction *out)
{
    __int128 value = 0;
    const char *start = reader->at;

    while (reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9') {
        if (value <= INT64_MAX)
            value = value * 10 + (*reader->at - '0');
        reader->at++;
    }
    /* "1.5" is no number here, and must not use up the numbers 1 and 5. */
    if (reader->at == start || (reader->end - reader->at > 1 && *reader->at == '.' &&
                                reader->at[1] >= '0' && reader->at[1] <= '9'))
        return 0;
    set_fraction(reader, out, value, 1);
    if (!reader->out)
        return 1;
    if (reader->out->n_numbers == ARITHMETIC_MAX_NUMBERS)
        return 0;
    reader->out->numbers[reader->out->n_numbers++] = out->num;
    return 1;
}

static int read_bracket(struct reader *reader, char open, char close, struct fraction *out)
{
    return take(reader, open) && read_sum(reader, out) && take(reader, close);
}

/* \frac{..}{..} */
static int read_tex_fraction(struct reader *reader, struct fraction *out)
{
    static const char *const names[] = {"\\frac", "\\dfrac", "\\tfrac"};
    struct fraction below;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        size_t n = strlen(names[i]);
        if ((size_t)(reader->end - reader->at) < n || memcmp(reader->at, names[i], n) != 0)
            continue;
        reader->at += n;
        if (!read_bracket(reader, '{', '}', out) || !read_bracket(reader, '{', '}', &below))
            return 0;
        combine(reader, '/', out, below);
        return 1;
    }
    return 0;
}

static int read_factor(struct reader *reader, struct fraction *out)
{
    size_t n;
    int negative = 0, good;

    if (++reader->depth > MAX_DEPTH)
        return 0;
    for (char sign; (sign = peek(reader, &n)) == '-' || sign == '+'; reader->at += n)
        negative ^= sign == '-';
    char next = peek(reader, &n);
    if (next == '(')
        good = read_bracket(reader, '(', ')', out);
    else if (next == '[')
        good = read_bracket(reader, '[', ']', out);
    else if (next == '\\')
        good = read_tex_fraction(reader, out);
    else
        good = read_integer(reader, out);
    reader->depth--;
    if (good && negative)
        out->num = -out->num;
    return good;
}

static int read_product(struct reader *reader, struct fraction *out)
{
    struct fraction right;
    size_t n;
    char sign;

    if (!read_factor(reader, out))
        return 0;
    while ((sign = peek(reader, &n)) == '*' || sign == '/') {
        reader->at += n;
        if (!read_factor(reader, &right))   /* the second sign of "**" and "//" is no factor */
            return 0;
        combine(reader, sign, out, right);
    }
    return 1;
}

static int read_sum(struct reader *reader, struct fraction *out)
{
    struct fraction right;
    size_t n;
    char sign;

    if (!read_product(reader, out))
        return 0;
    while ((sign = peek(reader, &n)) == '+' || sign == '-') {
        reader->at += n;
        if (!read_product(reader, &right))
            return 0;
        combine(reader, sign, out, right);
    }
    return 1;
}

enum arithmetic_outcome arithmetic_read(struct arithmetic *arithmetic, const char *text, size_t n)
{
    struct reader reader = {.at = text, .end = text + n, .out = arithmetic};
    size_t ignored;

    memset(arithmetic, 0, sizeof(*arithmetic));
    if (n > ARITHMETIC_MAX_BYTES || !read_sum(&reader, &arithmetic->value))
        return ARITHMETIC_UNREADABLE;
    if (take(&reader, '=')) {
        reader.out = NULL;
        arithmetic->has_tail = 1;
        if (!read_sum(&reader, &arithmetic->tail))
            return ARITHMETIC_UNREADABLE;
    }
    take(&reader, '.');   /* of the sentence */
    if (peek(&reader, &ignored))
        return ARITHMETIC_UNREADABLE;
    return reader.undefined ? ARITHMETIC_UNDEFINED : ARITHMETIC_READ;
}

int fraction_equal(struct fraction a, struct fraction b)
{
    return a.num == b.num && a.den == b.den;
}
