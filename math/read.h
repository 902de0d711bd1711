/*
 * math/read.h - bytes to a tree: fold.c -> lex.c -> parse*.c. Nothing here recurses without a
 * depth counter, and nothing reads past a length.
 */
#ifndef HONE_MATH_READ_H
#define HONE_MATH_READ_H

#include "common/memory.h"
#include "math/tree.h"

struct span {
    const char *data;
    size_t length;
};


/* ---- fold.c: Unicode to the ASCII and LaTeX that stands for it. Letters without such a form stay.
 * 0 when the bytes are no text: invalid UTF-8, NUL and other control characters, characters that
 * are invisible or turn the direction of writing. */
int fold_text(struct text *out, const char *bytes, size_t n);

/* Takes off what surrounds an answer: blanks, $ $, \( \), quotes, bold, \boxed{}, a final stop. */
struct span fold_trim(struct span span);

/* The words of a text answer alone: no mark-up, no blanks, no quotes, lower case. */
void fold_words(struct text *out, struct span span);

/* The same answer but for blanks and wrapping: what step 1 of a verdict compares. */
void fold_plain(struct text *out, struct span span);

/* ---- lex.c */
enum token_kind {
    TOKEN_END, TOKEN_DIGITS, TOKEN_LETTER, TOKEN_WORD, TOKEN_NOUN, TOKEN_COMMAND, TOKEN_CHAR,
    TOKEN_TEXT,         /* \text{...}: the span within, trimmed */
    TOKEN_BEGIN, TOKEN_FINISH,   /* \begin{span}, \end{span} */
    TOKEN_ROW,          /* a double backslash */
    TOKEN_GROUPING,     /* the comma or thin blank between thousands that TeX marks as such */
    TOKEN_OPERATOR,     /* relation or set operator; `symbol` says which */
};

enum token_operator {
    OPERATOR_CUP = 'U', OPERATOR_CAP = 'A', OPERATOR_MINUS = '\\', OPERATOR_AND = '&',
    OPERATOR_OR = '|',
};

/* TOKEN_CHAR is one of the characters below 128, or: */
enum token_char {
    CHAR_PLUS_MINUS = 256, CHAR_MINUS_PLUS, CHAR_SET_OPEN, CHAR_SET_CLOSE, CHAR_ANGLE_OPEN,
    CHAR_ANGLE_CLOSE, CHAR_NORM, CHAR_CURRENCY, CHAR_DEGREE, CHAR_FLOOR_OPEN, CHAR_FLOOR_CLOSE,
    CHAR_CEILING_OPEN, CHAR_CEILING_CLOSE, CHAR_DOTS,
};

struct token {
    enum token_kind kind;
    int symbol;          /* the character, node_relation or token_operator */
    int blank;           /* blanks before it */
    struct span span;
};

struct tokens {
    struct token *items;
    size_t n;            /* without the TOKEN_END behind them */
};

/* STATUS_OK; a negative number when the arena is full. */
int lex_answer(struct tokens *out, struct arena *arena, struct span text);

/* ---- words.c: tables of words */
enum word_kind {
    WORD_NONE, WORD_FUNCTION, WORD_CONSTANT, WORD_SYMBOL, WORD_AND, WORD_OR, WORD_INFINITY,
    WORD_UNIT, WORD_NUMBER, WORD_SCALE, WORD_CUP, WORD_CAP, WORD_PERCENT, WORD_MOD, WORD_PLAIN,
    WORD_BINOMIAL, WORD_CUBE_ROOT,
};
/* `which` is the function or constant, or the value of a number word or scale. */
enum word_kind word_find(struct span word, int64_t *which);
/* A whole text that names a number below 1,000,000 or a fraction, "twenty-one", "two thirds",
 * "three and a half"; NULL when it does not. */
const struct node *words_number(struct tree *tree, struct span text);
int words_reals(struct span text);   /* "all real numbers" */

/* ---- units.c */
/* Base dimensions; every currency is its own. */
enum unit_dimension {
    UNIT_LENGTH, UNIT_MASS, UNIT_TIME, UNIT_ANGLE, UNIT_TEMPERATURE, UNIT_CURRENT, UNIT_AMOUNT,
    UNIT_BYTE, UNIT_CELSIUS, UNIT_FAHRENHEIT, UNIT_DOLLAR, UNIT_EURO,
    UNIT_POUND_STERLING, UNIT_YEN, UNIT_YUAN, UNIT_RUPEE, UNIT_WON, UNIT_RUBLE, N_UNIT_DIMENSIONS
};
struct unit {
    int known;                            /* 0: a noun */
    int power[N_UNIT_DIMENSIONS];
    int pi_power;                         /* a degree is pi/180 */
    int64_t numerator, denominator;       /* in base units */
};
/* A unit of any form, "km/h", "cm^2", "square feet", "m / s"; unknown words make it a noun. */
void unit_read(struct unit *out, struct span text);
int unit_is_word(struct span word);       /* one word that is a unit */

/* ---- number.c */
/* A literal from its digits: whole, behind the point, repeating, and a power of ten. */
const struct node *number_make(struct tree *tree, struct span whole, struct span decimals,
                               struct span repeating, int has_point, long exponent);

/* ---- parse.c */
struct parse_options {
    int comma_is_decimal;    /* 1,22 is 1.22 */
    int letters_are_units;   /* 5 m is 5 metres */
    int no_grouping;         /* 1,234 is a list */
};

/* NULL when the text is no mathematics (or tree->limit is set): then it is text. */
const struct node *parse_answer(struct tree *tree, struct span folded,
                                const struct parse_options *options);

#include <string.h>

static inline int span_is(struct span span, const char *text)
{
    return strlen(text) == span.length && memcmp(span.data, text, span.length) == 0;
}

static inline int span_starts(struct span span, const char *text)
{
    size_t n = strlen(text);

    return n <= span.length && memcmp(span.data, text, n) == 0;
}

#endif
