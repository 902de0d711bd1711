#include <string.h>

#include "math/parse.h"

/* The factors that stand behind a function without brackets: \sin 2x, \cos \frac{x}{2}. */
static const struct node *parse_bare_argument(struct parser *parser)
{
    const struct node *factors[MATH_MATRIX_SIDE];
    int n = 0;

    if (at_char(parser, '-')) {
        const struct node *inner;

        parser->token++;
        inner = parse_bare_argument(parser);
        return inner ? make_negative(parser->tree, inner) : NULL;
    }
    for (;;) {
        const struct token *token = parser->token;
        int64_t which;
        int is_function = (token->kind == TOKEN_WORD || token->kind == TOKEN_COMMAND) &&
                          word_find(token->span, &which) == WORD_FUNCTION;

        if (n == MATH_MATRIX_SIDE)
            return NULL;
        if (n && (is_function || !(token->kind == TOKEN_LETTER || token->kind == TOKEN_COMMAND ||
                  (token->kind == TOKEN_WORD && (token->symbol == WORD_CONSTANT ||
                   token->symbol == WORD_SYMBOL)) || at_char(parser, '{'))))
            break;
        if (n && token->kind == TOKEN_COMMAND && (span_is(token->span, "pmod") ||
            span_is(token->span, "bmod") || span_is(token->span, "mod")))
            break;
        if (is_function && !n) {
            parser->token++;
            factors[n] = parse_function(parser, (int)which);
        } else {
            factors[n] = parse_atom(parser);
            if (factors[n])
                factors[n] = parse_power_of(parser, factors[n]);
        }
        if (!factors[n++])
            return NULL;
    }
    return scalar_of(parser->tree, make_product(parser->tree, factors, n, NULL, 0));
}

static const struct node *parse_call_argument(struct parser *parser)
{
    const struct node *argument;

    if (at_char(parser, '(') || at_char(parser, '{') || at_char(parser, '['))
        return parse_atom(parser);
    if (!parser_enter(parser))
        return NULL;
    argument = parse_bare_argument(parser);
    parser->depth--;
    return argument;
}

/* f(a, b), f(a, b, c): one after another. */
static const struct node *call_binary(struct parser *parser, int which, const struct node *list)
{
    const struct node *value;

    if (!list || (list->kind != NODE_TUPLE && list->kind != NODE_INTERVAL &&
                  list->kind != NODE_LIST && list->kind != NODE_SET))
        return NULL;
    if (which == FUNCTION_BINOMIAL && list->n_children != 2)
        return NULL;
    value = scalar_of(parser->tree, list->child[0]);
    for (int i = 1; value && i < list->n_children; i++) {
        const struct node *next = scalar_of(parser->tree, list->child[i]);

        value = next ? tree_call(parser->tree, (enum node_function)which, value, next) : NULL;
    }
    return value;
}

static int inverse_of(int which)
{
    switch (which) {
    case FUNCTION_SIN: return FUNCTION_ARCSIN;
    case FUNCTION_COS: return FUNCTION_ARCCOS;
    case FUNCTION_TAN: return FUNCTION_ARCTAN;
    case FUNCTION_COT: return FUNCTION_ARCCOT;
    case FUNCTION_SEC: return FUNCTION_ARCSEC;
    case FUNCTION_CSC: return FUNCTION_ARCCSC;
    case FUNCTION_SINH: return FUNCTION_ARCSINH;
    case FUNCTION_COSH: return FUNCTION_ARCCOSH;
    case FUNCTION_TANH: return FUNCTION_ARCTANH;
    case FUNCTION_COTH: return FUNCTION_ARCCOTH;
    default: return -1;
    }
}

/* ^{-1} between a function and its argument. */
static int is_minus_one(const struct node *node)
{
    return node->kind == NODE_NEGATE && node->child[0]->kind == NODE_NUMBER &&
           node->child[0]->numerator == 1 && node->child[0]->denominator == 1;
}

static const struct node *apply(struct parser *parser, int which, const struct node *base,
                                const struct node *argument)
{
    if (which == FUNCTION_BINOMIAL || which == FUNCTION_GCD || which == FUNCTION_LCM ||
        which == FUNCTION_MAX || which == FUNCTION_MIN)
        return call_binary(parser, which, argument);
    if (which == FUNCTION_LOG_BASE && !base)
        base = tree_integer(parser->tree, 10);
    if (which == FUNCTION_LOG && base)
        which = FUNCTION_LOG_BASE;
    argument = scalar_of(parser->tree, argument);
    if (!argument)
        return NULL;
    if (which == N_FUNCTIONS)
        return tree_call(parser->tree, FUNCTION_ROOT, tree_integer(parser->tree, 3), argument);
    if (which == FUNCTION_LOG_BASE)
        return base ? tree_call(parser->tree, FUNCTION_LOG_BASE, base, argument) : NULL;
    return tree_call(parser->tree, (enum node_function)which, argument, NULL);
}

/* Behind the name: an index, a power, the argument. */
const struct node *parse_function(struct parser *parser, int which)
{
    const struct node *base = NULL, *power = NULL, *value;
    int may_power = which != FUNCTION_SQRT && which != FUNCTION_EXP;

    if (!parser_enter(parser))
        return NULL;
    if (which == FUNCTION_SQRT && at_char(parser, '{'))
        value = parse_group(parser);
    else {
        for (int n = 0; n < 2; n++) {
            if ((which == FUNCTION_LOG) && take_char(parser, '_'))
                base = scalar_of(parser->tree, parser->token->kind == TOKEN_DIGITS
                                 ? parse_number(parser) : parse_argument(parser));
            if (may_power && take_char(parser, '^') && !(power = parse_exponent(parser)))
                return NULL;
        }
        if (power && is_minus_one(power) && inverse_of(which) >= 0) {
            which = inverse_of(which);
            power = NULL;
        }
        value = parse_call_argument(parser);
    }
    value = value ? apply(parser, which, base, value) : NULL;
    parser->depth--;
    return value && power ? tree_binary(parser->tree, NODE_POWER, value, power) : value;
}

static const struct node *parse_root(struct parser *parser)
{
    const struct node *degree = NULL, *radicand;

    if (at_char(parser, '[')) {
        parser->token++;
        degree = scalar_of(parser->tree, parse_sum(parser));
        if (!degree || !take_char(parser, ']'))
            return NULL;
    }
    radicand = parser->token->kind == TOKEN_DIGITS ? parse_number(parser) : parse_argument(parser);
    radicand = scalar_of(parser->tree, radicand);
    if (!radicand)
        return NULL;
    return degree ? tree_call(parser->tree, FUNCTION_ROOT, degree, radicand)
                  : tree_call(parser->tree, FUNCTION_SQRT, radicand, NULL);
}

static const struct node *parse_fraction(struct parser *parser, int is_binomial)
{
    const struct node *above = parse_argument(parser), *below;

    above = scalar_of(parser->tree, above);
    below = above ? scalar_of(parser->tree, parse_argument(parser)) : NULL;
    if (!below)
        return NULL;
    return is_binomial ? tree_call(parser->tree, FUNCTION_BINOMIAL, above, below)
                       : tree_binary(parser->tree, NODE_DIVIDE, above, below);
}

static const struct node *parse_number_set(struct parser *parser)
{
    struct span name = parse_name(parser);
    struct node *set;

    if (name.length != 1 || !strchr("RQZNC", name.data[0]))
        return NULL;
    set = tree_new(parser->tree, NODE_NUMBER_SET, 0);
    if (set)
        set->which = name.data[0];
    return set;
}

/* A sign that belongs to what follows it: its text with its limits becomes one name. */
static const struct node *parse_opaque(struct parser *parser, struct span name, int letters)
{
    struct text full = {.maximum = MATH_ANSWER_BYTES};
    const struct node *node;
    int n_parts = 0;

    text_append(&full, "\\", 1);
    text_append(&full, name.data, name.length);
    if (letters)
        while (parser->token->kind == TOKEN_LETTER) {
            text_append(&full, parser->token->span.data, 1);
            parser->token++;
            n_parts++;
        }
    while (!letters && (at_char(parser, '_') || at_char(parser, '^') ||
                        (at_char(parser, '{') && !n_parts))) {
        struct span part;

        if (!at_char(parser, '{')) {
            text_append(&full, parser->token->span.data, 1);
            parser->token++;
        }
        part = parse_name(parser);
        for (size_t i = 0; i < part.length; i++)
            if (!strchr(" {}", part.data[i]))
                text_append(&full, part.data + i, 1);
        if (++n_parts > 3)
            break;
    }
    if (!letters && !n_parts && !span_is(name, "int"))
        full.failed = 1;
    node = full.failed ? NULL : tree_name(parser->tree, NODE_SYMBOL, full.data, full.length);
    text_release(&full);
    return node;
}

static const struct node *parse_letter_command(struct parser *parser, struct span name)
{
    static const char *const refused[] = {
        "to", "rightarrow", "Rightarrow", "implies", "iff", "mapsto", "leftrightarrow", "propto",
        "perp", "parallel", "subset", "subseteq", "forall", "exists", "prod", "frac", "text",
        "partial", "nabla", "pmod", "mod", "bmod", "therefore", "because", "sim", "cong", "hfil",
        "circ", "lim", "prime", "over", "choose", "substack", "underbrace", "overbrace",
        "Longrightarrow", "longrightarrow", "Leftrightarrow", "supset", "neg", "rceil", "boxed",
    };
    static const char *const accents[] = {
        "overline", "bar", "vec", "hat", "tilde", "overrightarrow", "widehat", "underline", "dot",
        "ddot", "widetilde", "overset", "sum", "int", "mathcal", "mathfrak", "mathscr",
        "overleftrightarrow", "overarc", "oint", "iint",
    };
    struct text full = {.maximum = MATH_ANSWER_BYTES};
    const struct node *node;

    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        if (span_is(name, refused[i]))
            return NULL;
    for (size_t i = 0; i < sizeof(accents) / sizeof(accents[0]); i++)
        if (span_is(name, accents[i]))
            return parse_opaque(parser, name, 0);
    if (span_is(name, "angle") || span_is(name, "triangle") || span_is(name, "measuredangle"))
        return parse_opaque(parser, name, 1);
    if (span_is(name, "varphi") || span_is(name, "vartheta") || span_is(name, "varepsilon") ||
        span_is(name, "varrho"))
        name = (struct span){name.data + 3, name.length - 3};
    text_append(&full, "\\", 1);
    text_append(&full, name.data, name.length);
    if (take_char(parser, '_')) {
        struct span index = parse_name(parser);

        text_append(&full, "_", 1);
        for (size_t i = 0; i < index.length; i++)
            if (!strchr(" {}", index.data[i]))
                text_append(&full, index.data + i, 1);
    }
    node = full.failed ? NULL : tree_name(parser->tree, NODE_SYMBOL, full.data, full.length);
    text_release(&full);
    return node;
}

const struct node *parse_command(struct parser *parser)
{
    struct span name = parser->token->span;
    int64_t which;
    enum word_kind kind = word_find(name, &which);

    parser->token++;
    if (span_is(name, "frac") || span_is(name, "dfrac") || span_is(name, "tfrac") ||
        span_is(name, "cfrac"))
        return parse_fraction(parser, 0);
    if (span_is(name, "binom") || span_is(name, "dbinom") || span_is(name, "tbinom"))
        return parse_fraction(parser, 1);
    if (span_is(name, "sqrt") || span_is(name, "radical"))
        return parse_root(parser);
    if (span_is(name, "mathbb"))
        return parse_number_set(parser);
    if (span_is(name, "emptyset") || span_is(name, "varnothing") || span_is(name, "oslash"))
        return tree_new(parser->tree, NODE_NUMBER_SET, 0);
    if (kind == WORD_FUNCTION || kind == WORD_CUBE_ROOT)
        return parse_function(parser, (int)which);
    if (kind == WORD_CONSTANT && name.data[0] == 'p')
        return tree_constant(parser->tree, CONSTANT_PI);
    if (kind == WORD_INFINITY)
        return tree_constant(parser->tree, CONSTANT_INFINITY);
    if (kind == WORD_SYMBOL || kind == WORD_NONE)
        return parse_letter_command(parser, name);
    return NULL;
}

/* One row after another up to \end. */
static int read_cells(struct parser *parser, const struct node **cells, int *n_columns)
{
    int n = 0, column = 0;

    *n_columns = 0;
    for (;;) {
        if (parser->token->kind == TOKEN_FINISH && column == 0)
            break;
        if (n == MATH_MATRIX_SIDE * MATH_MATRIX_SIDE) {
            parser->tree->limit = 1;
            return 0;
        }
        cells[n] = scalar_of(parser->tree, parse_sum(parser));
        if (!cells[n++])
            return 0;
        column++;
        if (at_char(parser, '&')) {
            parser->token++;
            continue;
        }
        if (*n_columns && column != *n_columns)
            return 0;
        *n_columns = column;
        column = 0;
        if (parser->token->kind == TOKEN_ROW)
            parser->token++;
        else if (parser->token->kind != TOKEN_FINISH)
            return 0;
    }
    if (*n_columns > MATH_MATRIX_SIDE || (*n_columns && n / *n_columns > MATH_MATRIX_SIDE)) {
        parser->tree->limit = 1;
        return 0;
    }
    return n;
}

const struct node *parse_matrix(struct parser *parser)
{
    static const char *const kinds[] = {"pmatrix", "bmatrix", "array", "matrix", "vmatrix",
                                        "Bmatrix", "smallmatrix", "Vmatrix"};
    struct span name = parser->token->span;
    const struct node **cells = ARENA_NEW(parser->tree->arena, const struct node *,
                                          MATH_MATRIX_SIDE * MATH_MATRIX_SIDE);
    struct node *matrix;
    int known = 0, n, n_columns = 0;

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        known |= span_is(name, kinds[i]);
    parser->token++;
    if (!known || !cells || !parser_enter(parser))
        return NULL;
    n = read_cells(parser, cells, &n_columns);
    parser->depth--;
    if (!n || parser->token->kind != TOKEN_FINISH || parser->token->span.length != name.length ||
        memcmp(parser->token->span.data, name.data, name.length) != 0)
        return NULL;
    parser->token++;
    matrix = (struct node *)tree_many(parser->tree, NODE_MATRIX, cells, n);
    if (!matrix)
        return NULL;
    matrix->n_columns = n_columns;
    return span_is(name, "vmatrix") ? tree_call(parser->tree, FUNCTION_ABS, matrix, NULL) : matrix;
}
