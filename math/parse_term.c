#include "math/parse.h"

#include <string.h>

enum { MAX_FACTORS = 64, MAX_POSTFIX = 8 };

static struct span between(const struct token *first, const struct token *last)
{
    return (struct span){first->span.data,
                         (size_t)(last->span.data + last->span.length - first->span.data)};
}

/* Steps from the first digits over groups of three; the last token of the whole number. */
static struct token *skip_groups(const struct parser *parser, struct token *first)
{
    struct token *last = first;

    if (first->span.length > 3 || parser->options->no_grouping)
        return first;
    for (;;) {
        struct token *next = last + 1;
        int by_blank = next->kind == TOKEN_DIGITS && next->blank;
        int by_mark = next->kind == TOKEN_GROUPING;
        int by_comma = next->kind == TOKEN_CHAR && next->symbol == ',' && parser->commas_group &&
                       !next->blank && !next[1].blank;

        if (by_mark || by_comma)
            next++;
        if (!(by_blank || by_mark || by_comma) || next->kind != TOKEN_DIGITS ||
            next->span.length != 3 || (by_comma && first->span.data[0] == '0'))
            return last;
        if (by_blank && next[1].kind == TOKEN_CHAR && next[1].symbol == '/')
            return last;   /* 1 100/200 is a mixed number */
        last = next;
    }
}

/* The digits that stand behind one another at the end: three times, or twice when nothing stands
 * before them and they are not one digit alone, as in 0.1212... and not in 2.718281828... */
static size_t repeating_tail(struct span decimals)
{
    for (size_t n = 1; n <= decimals.length / 2; n++) {
        size_t same = n;

        while (same < decimals.length && decimals.data[decimals.length - 1 - same] ==
                                             decimals.data[decimals.length - 1 - same + n])
            same++;
        if (same >= 3 * n || (same >= 2 * n && same == decimals.length && n > 1))
            return n;
    }
    return 0;
}

/* 0.333...: the repeating digits, which leave the decimals. */
static struct span take_dots(struct parser *parser, struct span *decimals)
{
    size_t n = at_char(parser, CHAR_DOTS) ? repeating_tail(*decimals) : 0;

    if (n)
        parser->token++;
    decimals->length -= n;
    return (struct span){decimals->data + decimals->length, n};
}

/* The digits of \dot{3} or \dot3, and the token behind them; NULL when none stand there. */
static const struct token *marked_digits(const struct token *token, const struct token **next)
{
    int braces = token[0].kind == TOKEN_COMMAND && token[1].symbol == '{';
    const struct token *digits = token + 1 + braces;

    if (token->kind != TOKEN_COMMAND || digits->kind != TOKEN_DIGITS ||
        (braces ? digits[1].symbol != '}' : digits->span.length != 1))
        return NULL;
    *next = digits + 1 + braces;
    return digits;
}

/* Behind the decimals: \overline{36}, or a dot on the first digit and on the last. What stands
 * between the digits in the span counts for nothing. */
static struct span take_repeating(struct parser *parser)
{
    const struct token *token = parser->token, *first, *last, *next, *end;

    if (token->kind != TOKEN_COMMAND || !(span_is(token->span, "overline") ||
        span_is(token->span, "bar") || span_is(token->span, "dot")))
        return (struct span){"", 0};
    first = last = marked_digits(token, &next);
    if (!first)
        return (struct span){"", 0};
    token = next + (next->kind == TOKEN_DIGITS);
    if (span_is(parser->token->span, "dot") && span_is(token->span, "dot") &&
        marked_digits(token, &end)) {
        last = marked_digits(token, &end);
        next = end;
    }
    parser->token = (struct token *)next;
    return between(first, last);
}

/* e5, E-5, tight behind a number. */
static long take_power_of_ten(struct parser *parser)
{
    const struct token *token = parser->token;
    int negative;
    long value = 0;

    if (token->kind != TOKEN_LETTER || (token->symbol != 'e' && token->symbol != 'E') ||
        token->blank)
        return 0;
    negative = token[1].kind == TOKEN_CHAR && token[1].symbol == '-';
    token += 1 + (negative || (token[1].kind == TOKEN_CHAR && token[1].symbol == '+'));
    if (token->kind != TOKEN_DIGITS || token->blank || token[-1].blank)
        return 0;
    for (size_t i = 0; i < token->span.length && value <= MATH_DIGITS; i++)
        value = value * 10 + (token->span.data[i] - '0');
    parser->token = (struct token *)token + 1;
    return negative ? -value : value;
}

/* digits_b */
static const struct node *parse_base(struct parser *parser, struct span digits)
{
    const struct node *base;
    struct node *node;

    parser->token++;
    base = parse_argument(parser);
    if (!base || base->kind != NODE_NUMBER)
        return NULL;
    node = (struct node *)tree_unary(parser->tree, NODE_BASE, base);
    if (!node)
        return NULL;
    node->name = arena_copy(parser->tree->arena, digits.data, digits.length);
    node->n_name = digits.length;
    return node->name ? node : NULL;
}

const struct node *parse_number(struct parser *parser)
{
    static const struct span none = {"", 0};
    struct token *first = parser->token, *last = first;
    struct span whole = none, decimals = none, repeating = none;
    int has_point = 0;

    if (first->kind == TOKEN_DIGITS) {
        last = skip_groups(parser, first);
        whole = between(first, last);
        parser->token = last + 1;
    }
    if ((at_char(parser, '.') || (parser->options->comma_is_decimal && at_char(parser, ','))) &&
        !(whole.length && parser->token->blank)) {
        struct token *point = parser->token++;

        if (parser->token->kind == TOKEN_DIGITS && !parser->token->blank) {
            decimals = parser->token->span;
            parser->token++;
        }
        repeating = take_repeating(parser);
        if (!repeating.length)
            repeating = take_dots(parser, &decimals);
        has_point = decimals.length > 0;
        if (!has_point && !repeating.length) {
            if (!whole.length || point->symbol == ',')
                return NULL;
        }
    }
    if (!whole.length && !has_point && !repeating.length)
        return NULL;
    if (!repeating.length && at_char(parser, '_') && whole.length)
        return parse_base(parser, has_point ? between(first, parser->token - 1) : whole);
    return number_make(parser->tree, whole, decimals, repeating, has_point,
                       take_power_of_ten(parser));
}

static int is_whole(const struct node *node)
{
    return node->kind == NODE_NUMBER && !node->significant && node->denominator <= 1;
}

/* An integer and, directly behind it, a numeric fraction: a mixed number. */
static const struct node *parse_mixed(struct parser *parser)
{
    const struct node *whole = parse_number(parser), *fraction = NULL;
    const struct token *token = parser->token;

    if (!whole || !is_whole(whole))
        return whole;
    if (token->kind == TOKEN_DIGITS && token->blank && token[1].kind == TOKEN_CHAR &&
        token[1].symbol == '/' && token[2].kind == TOKEN_DIGITS) {
        const struct node *above = parse_number(parser);

        parser->token++;
        fraction = above ? tree_binary(parser->tree, NODE_DIVIDE, above, parse_number(parser))
                         : NULL;
        return fraction ? tree_binary(parser->tree, NODE_ADD, whole, fraction) : NULL;
    }
    if (token->kind == TOKEN_COMMAND && (span_is(token->span, "frac") ||
        span_is(token->span, "dfrac") || span_is(token->span, "tfrac") ||
        span_is(token->span, "cfrac"))) {
        fraction = parse_atom(parser);
        if (fraction && fraction->kind == NODE_DIVIDE && is_whole(fraction->child[0]) &&
            is_whole(fraction->child[1]) && !at_char(parser, '^'))
            return tree_binary(parser->tree, NODE_ADD, whole, fraction);
        fraction = fraction ? parse_power_of(parser, fraction) : NULL;
        return fraction ? make_product(parser->tree, (const struct node *[]){whole, fraction}, 2,
                                       NULL, 0) : NULL;
    }
    return whole;
}

/* ^ with a degree sign behind it: ^\circ, ^{\circ}. */
static int take_degree(struct parser *parser)
{
    struct token *token = parser->token + at_char(parser, '^');
    int braces = token->kind == TOKEN_CHAR && token->symbol == '{';

    token += braces;
    if (token->kind == TOKEN_COMMAND ? !span_is(token->span, "circ") && !span_is(token->span, "o")
                                     : token->kind != TOKEN_CHAR || token->symbol != CHAR_DEGREE)
        return 0;
    if (braces && !(token[1].kind == TOKEN_CHAR && token[1].symbol == '}'))
        return 0;
    parser->token = token + 1 + braces;
    return 1;
}

static const struct node *make_degrees(struct parser *parser, const struct node *value)
{
    const struct token *token = parser->token;
    const char *name = "degree";
    struct node *node;

    if ((token->kind == TOKEN_LETTER || token->kind == TOKEN_TEXT) && token->span.length == 1 &&
        (token->span.data[0] == 'C' || token->span.data[0] == 'F')) {
        name = token->span.data[0] == 'C' ? "celsius" : "fahrenheit";
        parser->token++;
    }
    node = (struct node *)tree_unary(parser->tree, NODE_QUANTITY,
                                     scalar_of(parser->tree, value));
    if (node) {
        node->name = name;
        node->n_name = strlen(name);
    }
    return node;
}

const struct node *parse_exponent(struct parser *parser)
{
    const struct node *exponent;
    int negative = 0;

    if (!parser_enter(parser))
        return NULL;
    while (at_char(parser, '-') || at_char(parser, '+')) {
        negative ^= at_char(parser, '-');
        parser->token++;
    }
    if (parser->token->kind == TOKEN_DIGITS || at_char(parser, '.'))
        exponent = parse_number(parser);
    else
        exponent = parse_argument(parser);
    if (exponent && at_char(parser, '^')) {   /* from the right */
        parser->token++;
        exponent = tree_binary(parser->tree, NODE_POWER, scalar_of(parser->tree, exponent),
                               parse_exponent(parser));
    }
    exponent = scalar_of(parser->tree, exponent);
    parser->depth--;
    return negative && exponent ? make_negative(parser->tree, exponent) : exponent;
}

static const struct node *parse_factorial(struct parser *parser, const struct node *base)
{
    int is_double = 0;

    parser->token++;
    if (at_char(parser, '!') && !parser->token->blank) {
        parser->token++;
        is_double = 1;
    }
    return tree_call(parser->tree, is_double ? FUNCTION_DOUBLE_FACTORIAL : FUNCTION_FACTORIAL,
                     scalar_of(parser->tree, base), NULL);
}

/* What may follow a factor: ! ^ % and degrees. */
const struct node *parse_power_of(struct parser *parser, const struct node *base)
{
    for (int n = 0; base; n++) {
        if (n >= MAX_POSTFIX)
            return NULL;
        if (at_char(parser, '!'))
            base = parse_factorial(parser, base);
        else if (at_char(parser, '%')) {
            parser->token++;
            base = tree_unary(parser->tree, NODE_PERCENT, scalar_of(parser->tree, base));
        } else if (take_degree(parser)) {
            base = make_degrees(parser, base);
        } else if (at_char(parser, '^')) {
            const struct node *exponent;

            parser->token++;
            if (parser->token->kind == TOKEN_LETTER && parser->token->symbol == 'T' &&
                base->kind == NODE_MATRIX)
                return NULL;   /* transposes are not read */
            exponent = parse_exponent(parser);
            base = scalar_of(parser->tree, base);
            base = base && exponent ? tree_binary(parser->tree, NODE_POWER, base, exponent) : NULL;
        } else {
            break;
        }
    }
    return base;
}

static int starts_factor(const struct parser *parser, const struct node *last)
{
    const struct token *token = parser->token;

    switch (token->kind) {
    case TOKEN_DIGITS:
        return last->kind != NODE_NUMBER;
    case TOKEN_LETTER:
        return !parser_at_plain_union(parser, last);
    case TOKEN_COMMAND: case TOKEN_BEGIN:
        return !(token->kind == TOKEN_COMMAND && (span_is(token->span, "pmod") ||
                 span_is(token->span, "mod") || span_is(token->span, "bmod") ||
                 span_is(token->span, "choose") || span_is(token->span, "over")));
    case TOKEN_WORD:
        return token->symbol == WORD_FUNCTION || token->symbol == WORD_CONSTANT ||
               token->symbol == WORD_SYMBOL || token->symbol == WORD_INFINITY ||
               token->symbol == WORD_BINOMIAL || token->symbol == WORD_CUBE_ROOT;
    case TOKEN_CHAR:
        switch (token->symbol) {
        case '(': case '[': case '{': case CHAR_FLOOR_OPEN: case CHAR_CEILING_OPEN:
            return !(token->symbol == '(' && token[1].kind == TOKEN_WORD &&
                     token[1].symbol == WORD_MOD) &&
                   !(token->symbol == '(' && token[1].kind == TOKEN_COMMAND &&
                     span_is(token[1].span, "bmod"));
        case '|': case CHAR_NORM:
            return !parser->bar_closes;
        default:
            return 0;
        }
    default:
        return 0;
    }
}

/* Whether what follows is the unit of what stands before, and no factor. */
static int starts_unit(const struct parser *parser)
{
    const struct token *token = parser->token;

    if (token->kind == TOKEN_TEXT || token->kind == TOKEN_NOUN)
        return 1;
    if (token->kind == TOKEN_CHAR)
        return token->symbol == CHAR_CURRENCY;
    if (token->kind == TOKEN_LETTER)
        return parser->options->letters_are_units && unit_is_word(token->span);
    return token->kind == TOKEN_WORD &&
           (token->symbol == WORD_UNIT || token->symbol == WORD_PERCENT ||
            token->symbol == WORD_SCALE || token->symbol == WORD_PLAIN ||
            (unit_is_word(token->span) && token[1].symbol != '(' &&
             token[1].kind != TOKEN_LETTER && token[1].kind != TOKEN_DIGITS &&
             token[1].kind != TOKEN_COMMAND));
}

/* a mod b */
static const struct node *parse_remainder(struct parser *parser, const struct node *left)
{
    const struct token *token = parser->token;
    const struct node *right;

    if (!left || !((token->kind == TOKEN_COMMAND && span_is(token->span, "bmod")) ||
                   (token->kind == TOKEN_WORD && token->symbol == WORD_MOD)))
        return left;
    parser->token++;
    right = scalar_of(parser->tree, parse_term(parser));
    left = scalar_of(parser->tree, left);
    return left && right ? tree_call(parser->tree, FUNCTION_MOD, left, right) : NULL;
}

static const struct node *parse_factors(struct parser *parser)
{
    const struct node *above[MAX_FACTORS], *below[MAX_FACTORS], *factor;
    int n_above = 0, n_below = 0, divides = 0;

    for (;;) {
        int negative = 0;

        if (n_above == MAX_FACTORS || n_below == MAX_FACTORS) {
            parser->tree->limit = 1;
            return NULL;
        }
        while (n_above + n_below && (at_char(parser, '-') || at_char(parser, '+'))) {
            negative ^= at_char(parser, '-');
            parser->token++;
        }
        factor = parser->token->kind == TOKEN_DIGITS ? parse_mixed(parser) : parse_atom(parser);
        factor = factor ? parse_power_of(parser, factor) : NULL;
        if (factor && negative)
            factor = make_negative(parser->tree, factor);
        if (!factor)
            return NULL;
        if (divides)
            below[n_below++] = factor;
        else
            above[n_above++] = factor;
        divides = at_char(parser, '/') && parser->token[1].kind != TOKEN_NOUN;
        if (at_char(parser, '*') || divides)
            parser->token++;
        else if (starts_unit(parser) || !starts_factor(parser, factor))
            break;
    }
    return make_product(parser->tree, above, n_above, below, n_below);
}

const struct node *parse_term(struct parser *parser)
{
    const struct node *term;
    int sign = parser->token->kind == TOKEN_CHAR ? parser->token->symbol : 0;

    if (!parser_enter(parser))
        return NULL;
    if (sign == '-' || sign == '+' || sign == CHAR_PLUS_MINUS || sign == CHAR_MINUS_PLUS) {
        parser->token++;
        term = parse_term(parser);
        if (term && sign == '-') {
            term = make_negative(parser->tree, term);
        } else if (sign == CHAR_PLUS_MINUS || sign == CHAR_MINUS_PLUS) {
            term = scalar_of(parser->tree, term);
            term = term ? tree_unary(parser->tree, NODE_PLUS_MINUS, term) : NULL;
            if (term)
                ((struct node *)term)->which = sign == CHAR_MINUS_PLUS;
        }
    } else if (sign == CHAR_CURRENCY) {
        term = parse_money(parser);
    } else {
        term = parse_factors(parser);
        term = parse_remainder(parser, term);
        if (term && starts_unit(parser))
            term = parse_unit(parser, term);
        if (term && term->kind == NODE_QUANTITY)
            term = parse_compound(parser, term);
    }
    parser->depth--;
    return term;
}
