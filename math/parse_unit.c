#include <ctype.h>
#include <string.h>

#include "math/parse.h"

/* What arithmetic may have as a part beside scalars. */
static int is_operand(const struct node *node)
{
    return node_is_scalar_kind(node) || node->kind == NODE_PLUS_MINUS ||
           node->kind == NODE_MATRIX || node->kind == NODE_TUPLE;
}

static int has_letters(const struct node *node)
{
    if (node->kind == NODE_SYMBOL)
        return 1;
    for (int i = 0; i < node->n_children; i++)
        if (has_letters(node->child[i]))
            return 1;
    return 0;
}

static int is_degrees(const struct node *node)
{
    return node->kind == NODE_QUANTITY && node->n_name == 6 &&
           memcmp(node->name, "degree", 6) == 0;
}

const struct node *scalar_of(struct tree *tree, const struct node *node)
{
    if (!node)
        return NULL;
    if (node->kind == NODE_PERCENT)
        return tree_binary(tree, NODE_DIVIDE, node->child[0], tree_integer(tree, 100));
    if (is_degrees(node)) {
        const struct node *turn = tree_binary(tree, NODE_DIVIDE, tree_constant(tree, CONSTANT_PI),
                                              tree_integer(tree, 180));

        return tree_binary(tree, NODE_MULTIPLY, node->child[0], turn);
    }
    return is_operand(node) ? node : NULL;
}

static const struct node *make_quantity(struct tree *tree, const struct node *value,
                                        const char *name, size_t n)
{
    struct node *node;

    if (!value)
        return NULL;
    node = (struct node *)tree_unary(tree, NODE_QUANTITY, value);
    if (!node)
        return NULL;
    node->name = arena_copy(tree->arena, name, n);
    node->n_name = n;
    return node->name ? node : NULL;
}

const struct node *make_negative(struct tree *tree, const struct node *node)
{
    if (node->kind == NODE_QUANTITY)
        return make_quantity(tree, tree_unary(tree, NODE_NEGATE, node->child[0]), node->name,
                             node->n_name);
    if (node->kind == NODE_PERCENT)
        return tree_unary(tree, NODE_PERCENT, tree_unary(tree, NODE_NEGATE, node->child[0]));
    if (node->kind == NODE_BASE && node->n_name && node->name[0] != '-') {
        struct node *negative = (struct node *)tree_unary(tree, NODE_BASE, node->child[0]);
        char *name = arena_alloc(tree->arena, node->n_name + 2, 1, 1);

        if (!negative || !name)
            return NULL;
        name[0] = '-';
        memcpy(name + 1, node->name, node->n_name);
        negative->name = name;
        negative->n_name = node->n_name + 1;
        return negative;
    }
    return is_operand(node) ? tree_unary(tree, NODE_NEGATE, node) : NULL;
}

/* Whether every term is of one kind with one unit, or only the last has a unit. */
static int has_common_unit(const struct node *const *terms, int n)
{
    const struct node *last = terms[n - 1];
    int n_same = 0, n_plain = 0;

    if (last->kind != NODE_QUANTITY && last->kind != NODE_PERCENT)
        return 0;
    for (int i = 0; i < n - 1; i++) {
        n_same += terms[i]->kind == last->kind && terms[i]->n_name == last->n_name &&
                  (!last->n_name || memcmp(terms[i]->name, last->name, last->n_name) == 0);
        n_plain += is_operand(terms[i]);
    }
    return n_same == n - 1 || (n_plain == n - 1 && last->kind == NODE_QUANTITY &&
                               !is_degrees(last));
}

const struct node *make_sum(struct tree *tree, const struct node *const *terms, int n)
{
    const struct node *parts[MATH_MEMBERS] = {0}, *last = terms[n - 1], *sum;
    int common = has_common_unit(terms, n);

    for (int i = 0; i < n; i++) {
        parts[i] = common && !is_operand(terms[i]) ? terms[i]->child[0]
                                                   : scalar_of(tree, terms[i]);
        if (!parts[i])
            return NULL;
    }
    sum = tree_many(tree, NODE_ADD, parts, n);
    if (!common)
        return sum;
    return last->kind == NODE_PERCENT ? tree_unary(tree, NODE_PERCENT, sum)
                                      : make_quantity(tree, sum, last->name, last->n_name);
}

/* One factor, several, or 1 when there is none. */
static const struct node *multiply_all(struct tree *tree, const struct node *const *factors, int n)
{
    return n == 0 ? tree_integer(tree, 1) : n == 1 ? factors[0]
                  : tree_many(tree, NODE_MULTIPLY, factors, n);
}

const struct node *make_product(struct tree *tree, const struct node *const *above, int n_above,
                                const struct node *const *below, int n_below)
{
    const struct node *parts[MATH_MEMBERS], *quantity = NULL, *top, *bottom;
    int n_quantities = 0;

    if (n_above == 1 && !n_below)
        return above[0];
    for (int i = 0; i < n_above; i++)
        if (above[i]->kind == NODE_QUANTITY) {
            quantity = above[i];
            n_quantities++;
        }
    for (int i = 0; i < n_above; i++) {
        parts[i] = n_quantities == 1 && above[i] == quantity ? quantity->child[0]
                                                             : scalar_of(tree, above[i]);
        if (!parts[i])
            return NULL;
    }
    top = multiply_all(tree, parts, n_above);
    for (int i = 0; i < n_below; i++) {
        parts[i] = scalar_of(tree, below[i]);
        if (!parts[i])
            return NULL;
    }
    if (n_below) {
        bottom = multiply_all(tree, parts, n_below);
        top = tree_binary(tree, NODE_DIVIDE, top, bottom);
    }
    return n_quantities == 1 ? make_quantity(tree, top, quantity->name, quantity->n_name) : top;
}

/* Whether the token can be part of a unit; `inside` behind a first word of it. */
static int is_unit_token(const struct parser *parser, const struct token *token, int inside)
{
    switch (token->kind) {
    case TOKEN_TEXT: case TOKEN_NOUN:
        return 1;
    case TOKEN_WORD:
        return token->symbol == WORD_UNIT || token->symbol == WORD_PLAIN ||
               token->symbol == WORD_PERCENT ||
               (unit_is_word(token->span) && token[1].symbol != '(' &&
                token[1].kind != TOKEN_LETTER && token[1].kind != TOKEN_DIGITS) ||
               (inside && token->symbol == WORD_NUMBER);
    case TOKEN_LETTER:
        return (parser->options->letters_are_units && unit_is_word(token->span)) ||
               (inside && token->blank);
    default:
        return 0;
    }
}

static int is_char(const struct token *token, int symbol)
{
    return token->kind == TOKEN_CHAR && token->symbol == symbol;
}

/* ^2, ^{2}, ^{-1} behind a unit; 0 when what stands there is none. */
static int take_unit_power(struct parser *parser, struct text *out)
{
    struct token *power = parser->token + 1;
    int braces = is_char(power, '{'), negative = is_char(power + braces, '-');

    power += braces + negative;
    if (power->kind != TOKEN_DIGITS || (braces && !is_char(power + 1, '}')))
        return 0;
    text_append(out, "^-", negative ? 2 : 1);
    text_append(out, power->span.data, power->span.length);
    parser->token = power + braces;
    return 1;
}

/* The words up to the next separator, blanks between, into `out`. */
static void take_unit_text(struct parser *parser, struct text *out)
{
    for (int inside = 0;; inside = 1, parser->token++) {
        const struct token *token = parser->token;

        if (is_unit_token(parser, token, inside)) {
            if (inside)
                text_append(out, " ", 1);
            text_append(out, token->span.data, token->span.length);
        } else if (!inside) {
            break;
        } else if (is_char(token, '/') && token[1].kind == TOKEN_LETTER) {
            text_append(out, "/", 1);
            text_append(out, token[1].span.data, token[1].span.length);
            parser->token++;
        } else if (is_char(token, '/') && is_unit_token(parser, token + 1, 1)) {
            text_append(out, "/", 1);
        } else if (is_char(token, '^')) {
            if (!take_unit_power(parser, out))
                break;
        } else if (is_char(token, '.') ||
                   (is_char(token, '-') && is_unit_token(parser, token + 1, 1))) {
            text_append(out, " ", 1);
        } else {
            break;
        }
    }
}

/* "million dollars": the scale, and the unit behind it in *rest. 1 when there is none. */
static int64_t take_scale(struct span unit, struct span *rest)
{
    size_t n = 0;
    int64_t which;

    while (n < unit.length && isalpha((unsigned char)unit.data[n]))
        n++;
    *rest = unit;
    if (word_find((struct span){unit.data, n}, &which) != WORD_SCALE)
        return 1;
    while (n < unit.length && unit.data[n] == ' ')
        n++;
    *rest = (struct span){unit.data + n, unit.length - n};
    return which;
}

/* A noun is ignored behind a number only, and only when it says nothing about it: "5 is wrong". */
static int may_be_unit(const struct node *value, struct span unit)
{
    static const char *const sayings[] = {"is", "not", "no", "if", "isn't", "wrong", "maybe",
                                          "undefined", "yes", "or", "unless", "are"};
    struct unit known;

    unit_read(&known, unit);
    if (known.known)
        return 1;
    if (has_letters(value) && !span_starts(unit, "unit") && !span_starts(unit, "square unit") &&
        !span_starts(unit, "cubic unit"))
        return 0;
    for (size_t at = 0; at < unit.length;) {
        size_t n = strcspn(unit.data + at, " ");
        struct span word = {unit.data + at, n};

        for (size_t i = 0; i < sizeof(sayings) / sizeof(sayings[0]); i++)
            if (span_is(word, sayings[i]))
                return 0;
        at += n + 1;
    }
    return 1;
}

const struct node *parse_unit(struct parser *parser, const struct node *value)
{
    struct text name = {.maximum = 2 * MATH_ANSWER_BYTES};
    struct span unit;
    int64_t scale;

    if (at_char(parser, CHAR_CURRENCY)) {
        value = make_quantity(parser->tree, scalar_of(parser->tree, value),
                              parser->token->span.data, parser->token->span.length);
        parser->token++;
        return value;
    }
    if (parser->token->kind == TOKEN_WORD && parser->token->symbol == WORD_SCALE) {
        int64_t which = 1;

        word_find(parser->token->span, &which);
        value = tree_binary(parser->tree, NODE_MULTIPLY, scalar_of(parser->tree, value),
                            tree_integer(parser->tree, which));
        parser->token++;
        return value ? parse_unit(parser, value) : NULL;
    }
    take_unit_text(parser, &name);
    if (!name.length) {
        text_release(&name);
        return value;
    }
    scale = take_scale((struct span){name.data, name.length}, &unit);
    if (scale != 1)
        value = tree_binary(parser->tree, NODE_MULTIPLY, scalar_of(parser->tree, value),
                            tree_integer(parser->tree, scale));
    if (span_is(unit, "percent") || span_is(unit, "pct") || span_is(unit, "percentage") ||
        span_is(unit, "percentage points"))
        value = tree_unary(parser->tree, NODE_PERCENT, scalar_of(parser->tree, value));
    else if (span_starts(unit, "degrees ") || span_starts(unit, "degree "))   /* Celsius */
        value = make_quantity(parser->tree, scalar_of(parser->tree, value),
                              unit.data + strcspn(unit.data, " ") + 1,
                              unit.length - strcspn(unit.data, " ") - 1);
    else if (span_is(unit, "degrees") || span_is(unit, "degree") || span_is(unit, "deg"))
        value = make_quantity(parser->tree, scalar_of(parser->tree, value), "degree", 6);
    else if (unit.length && value && !may_be_unit(value, unit))
        value = NULL;
    else if (unit.length && value && value->kind != NODE_QUANTITY)
        value = make_quantity(parser->tree, scalar_of(parser->tree, value), unit.data, unit.length);
    text_release(&name);
    return value;
}

/* Units of everyday speech, of which so many go into one: hours and minutes, feet and inches,
 * dollars and cents. "5 m and 20 cm" are two lengths. */
static int are_said_together(const struct unit *unit, const struct unit *part)
{
    __int128 many = (__int128)unit->numerator * part->denominator;
    __int128 one = (__int128)unit->denominator * part->numerator;

    if (one <= 0 || many <= one || many % one)
        return 0;
    for (int i = UNIT_DOLLAR; i < N_UNIT_DIMENSIONS; i++)
        if (unit->power[i])
            return 1;
    for (many /= one; many % 10 == 0;)
        many /= 10;
    return many > 1;
}

/* What follows a quantity of the same dimension is added to it. */
static const struct node *add_part(struct parser *parser, const struct node *first, int behind_and)
{
    struct unit unit, next;
    const struct node *more, *factor;

    unit_read(&unit, (struct span){first->name, first->n_name});
    if (!unit.known || !parser_enter(parser))
        return NULL;
    more = parse_term(parser);
    parser->depth--;
    if (!more || more->kind != NODE_QUANTITY)
        return NULL;
    unit_read(&next, (struct span){more->name, more->n_name});
    if (!next.known || memcmp(unit.power, next.power, sizeof(unit.power)) != 0 ||
        unit.pi_power != next.pi_power || (behind_and && !are_said_together(&unit, &next)))
        return NULL;
    factor = tree_binary(parser->tree, NODE_DIVIDE,
        tree_binary(parser->tree, NODE_MULTIPLY, tree_integer(parser->tree, next.numerator),
                    tree_integer(parser->tree, unit.denominator)),
        tree_binary(parser->tree, NODE_MULTIPLY, tree_integer(parser->tree, next.denominator),
                    tree_integer(parser->tree, unit.numerator)));
    more = tree_binary(parser->tree, NODE_MULTIPLY, more->child[0], factor);
    return make_quantity(parser->tree, tree_binary(parser->tree, NODE_ADD, first->child[0], more),
                         first->name, first->n_name);
}

/* 3 h 20 min, 3 hours and 20 minutes. */
const struct node *parse_compound(struct parser *parser, const struct node *first)
{
    struct token *start = parser->token;
    const struct node *sum;

    if (start->kind == TOKEN_DIGITS)
        return add_part(parser, first, 0);
    if (!at_operator(parser, OPERATOR_AND) || start[1].kind != TOKEN_DIGITS)
        return first;
    parser->token++;
    sum = add_part(parser, first, 1);
    if (!sum)
        parser->token = start;
    return sum ? sum : first;
}

/* $5, with what the mark says as its unit. */
const struct node *parse_money(struct parser *parser)
{
    struct span mark = parser->token->span;
    const struct node *value;

    parser->token++;
    if (!parser_enter(parser))
        return NULL;
    value = parse_term(parser);
    parser->depth--;
    if (value && (value->kind == NODE_QUANTITY || value->kind == NODE_PERCENT)) {
        const struct node *inner = value->child[0];
        struct text name = {.maximum = 2 * MATH_ANSWER_BYTES};

        text_append(&name, mark.data, mark.length);
        if (value->n_name > 4 && memcmp(value->name, "per ", 4) == 0) {
            text_append(&name, " ", 1);
            text_append(&name, value->name, value->n_name);
        }
        value = make_quantity(parser->tree, inner, name.data, name.length);
        text_release(&name);
        return value;
    }
    return make_quantity(parser->tree, scalar_of(parser->tree, value), mark.data, mark.length);
}
