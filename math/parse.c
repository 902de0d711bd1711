#include "math/parse.h"

#include "common/status.h"

int parser_enter(struct parser *parser)
{
    if (++parser->depth <= MATH_DEPTH)
        return 1;
    parser->tree->limit = 1;
    return 0;
}

static int is_set(const struct node *node)
{
    switch (node->kind) {
    case NODE_SET: case NODE_SET_OF: case NODE_INTERVAL: case NODE_UNION: case NODE_INTERSECTION:
    case NODE_DIFFERENCE: case NODE_NUMBER_SET:
        return 1;
    default:
        return 0;
    }
}

/* Whether commas between digits here are those of thousands: all tight ones must look so, and in
 * brackets another comma must show what separates. */
void parser_find_grouping(struct parser *parser, int in_brackets)
{
    int depth = 0, separates = !in_brackets;
    const struct token *chain = NULL;   /* first digits of a run with commas */

    parser->commas_group = 0;
    if (parser->options->no_grouping || parser->options->comma_is_decimal)
        return;
    for (const struct token *token = parser->token; token->kind != TOKEN_END; token++) {
        int symbol = token->kind == TOKEN_CHAR ? token->symbol : 0;

        if (symbol == '(' || symbol == '[' || symbol == '{' || symbol == CHAR_SET_OPEN)
            depth++;
        else if ((symbol == ')' || symbol == ']' || symbol == '}' || symbol == CHAR_SET_CLOSE) &&
                 --depth < 0)
            break;
        if (depth || symbol != ',') {
            separates |= !depth && symbol == ';';
            continue;
        }
        if (token->blank || token[1].blank) {
            separates = 1;
            continue;
        }
        if (token == parser->token || token[-1].kind != TOKEN_DIGITS ||
            token[1].kind != TOKEN_DIGITS || token[1].span.length != 3)
            return;
        if (chain != token - 1 && (token[-1].span.length > 3 || token[-1].span.data[0] == '0'))
            return;
        chain = token + 1;
    }
    parser->commas_group = separates;
}

const struct node *parse_sum(struct parser *parser)
{
    const struct node *terms[MATH_MEMBERS];
    int n = 0;

    if (!parser_enter(parser))
        return NULL;
    do {
        const struct node *term;
        int sign = parser->token->symbol;

        if (n)
            parser->token++;
        term = parse_term(parser);
        parser->tree->limit |= n == MATH_MEMBERS;
        if (!term || n == MATH_MEMBERS)
            return NULL;
        if (n && sign == '-')
            term = make_negative(parser->tree, term);
        else if (n && (sign == CHAR_PLUS_MINUS || sign == CHAR_MINUS_PLUS)) {
            term = scalar_of(parser->tree, term);
            term = tree_unary(parser->tree, NODE_PLUS_MINUS, term);
            if (term)
                ((struct node *)term)->which = sign == CHAR_MINUS_PLUS;
        }
        if (!term)
            return NULL;
        terms[n++] = term;
        if (n == 1 && is_set(term))
            break;
    } while (at_char(parser, '+') || at_char(parser, '-') || at_char(parser, CHAR_PLUS_MINUS) ||
             at_char(parser, CHAR_MINUS_PLUS));
    parser->depth--;
    return n == 1 ? terms[0] : make_sum(parser->tree, terms, n);
}

/* a : b : c */
static const struct node *parse_ratio(struct parser *parser)
{
    const struct node *parts[MATH_MATRIX_SIDE];
    int n = 0;

    do {
        if (n == MATH_MATRIX_SIDE)
            return NULL;
        parts[n] = parse_sum(parser);
        if (!parts[n++])
            return NULL;
    } while (!parser->colon_closes && take_char(parser, ':'));
    return n == 1 ? parts[0] : tree_many(parser->tree, NODE_RATIO, parts, n);
}

int parser_at_plain_union(const struct parser *parser, const struct node *left)
{
    const struct token *token = parser->token;

    return (is_set(left) || left->kind == NODE_TUPLE) && token->kind == TOKEN_LETTER &&
           token->symbol == 'U' && (token[1].symbol == '(' || token[1].symbol == '[');
}

/* Left to right: unions, intersections, differences. */
static const struct node *parse_set_expression(struct parser *parser)
{
    const struct node *left = parse_ratio(parser);

    for (int n = 0; left; n++) {
        enum node_kind kind;

        if (at_operator(parser, OPERATOR_CUP) || parser_at_plain_union(parser, left))
            kind = NODE_UNION;
        else if (at_operator(parser, OPERATOR_CAP))
            kind = NODE_INTERSECTION;
        else if (at_operator(parser, OPERATOR_MINUS) || (is_set(left) && at_char(parser, '-')))
            kind = NODE_DIFFERENCE;
        else
            break;
        if (n >= MATH_MATRIX_SIDE)
            return NULL;
        parser->token++;
        left = tree_binary(parser->tree, kind, left, parse_ratio(parser));
    }
    return left;
}

static int is_relation(const struct token *token)
{
    if (token->kind != TOKEN_OPERATOR)
        return 0;
    switch (token->symbol) {
    case OPERATOR_CUP: case OPERATOR_CAP: case OPERATOR_MINUS: case OPERATOR_AND: case OPERATOR_OR:
        return 0;
    default:
        return 1;
    }
}

/* The modulus behind a congruence: (mod n), \pmod{n}. */
static const struct node *parse_modulus(struct parser *parser)
{
    const struct node *modulus;
    int bracket;

    if (parser->token->kind == TOKEN_COMMAND &&
        (span_is(parser->token->span, "pmod") || span_is(parser->token->span, "mod") ||
         span_is(parser->token->span, "bmod"))) {
        parser->token++;
        return parse_argument(parser);
    }
    bracket = take_char(parser, '(');
    if (parser->token->kind != TOKEN_WORD || parser->token->symbol != WORD_MOD)
        return NULL;
    parser->token++;
    modulus = parse_sum(parser);
    return !bracket || take_char(parser, ')') ? modulus : NULL;
}

static const struct node *make_relation(struct parser *parser, const struct node *const *parts,
                                        const char *signs, int n)
{
    const struct node *chain = tree_many(parser->tree, NODE_RELATION, parts, n);
    struct node *named = (struct node *)chain;

    if (!chain)
        return NULL;
    named->name = arena_copy(parser->tree->arena, signs, (size_t)n - 1);
    named->n_name = (size_t)n - 1;
    return named->name ? chain : NULL;
}

/* Words alone up to the next separator: a text among others. */
static const struct node *parse_words(struct parser *parser)
{
    const struct token *first = parser->token;
    struct text words = {.maximum = MATH_ANSWER_BYTES};
    const struct node *node;

    if (first->kind != TOKEN_NOUN && first->kind != TOKEN_TEXT &&
        !(first->kind == TOKEN_WORD &&
          (first->symbol == WORD_PLAIN || first->symbol == WORD_NUMBER)))
        return NULL;
    if (first->kind == TOKEN_TEXT && first->span.length == 1 && first[1].kind != TOKEN_END &&
        first[1].symbol != ',')
        return NULL;
    while (parser->token->kind == TOKEN_NOUN || parser->token->kind == TOKEN_TEXT ||
           parser->token->kind == TOKEN_WORD || parser->token->kind == TOKEN_LETTER ||
           at_char(parser, '-') || at_char(parser, '\'')) {
        if (words.length && parser->token->blank)
            text_append(&words, " ", 1);
        text_append(&words, parser->token->span.data, parser->token->span.length);
        parser->token++;
    }
    node = tree_name(parser->tree, NODE_TEXT, words.data ? words.data : "", words.length);
    text_release(&words);
    return node;
}

static const struct node *parse_member(struct parser *parser)
{
    const struct node *parts[MATH_MATRIX_SIDE];
    char signs[MATH_MATRIX_SIDE];
    struct token *start = parser->token;
    int n = 0, is_congruence = 0;
    const struct node *words = parse_words(parser);

    if (words) {
        /* The number may carry a unit, "two marbles" does not come here: "two" alone does. */
        const struct node *number =
            words_number(parser->tree, (struct span){words->name, words->n_name});

        return number ? number : words;
    }
    parser->token = start;
    for (;;) {
        if (n + 1 >= MATH_MATRIX_SIDE)
            return NULL;
        parts[n] = parse_set_expression(parser);
        if (!parts[n++])
            return NULL;
        if (!is_relation(parser->token))
            break;
        signs[n - 1] = (char)parser->token->symbol;
        is_congruence |= parser->token->symbol == RELATION_CONGRUENT;
        parser->token++;
    }
    if (is_congruence) {
        const struct node *modulus = parse_modulus(parser);

        if (modulus) {
            signs[n - 1] = 'm';
            parts[n++] = modulus;
        }
    }
    return n == 1 ? parts[0] : make_relation(parser, parts, signs, n);
}

/* Steps over what separates members; 0 when nothing does. "and", "or" may follow a comma. */
static int take_separator(struct parser *parser, int *join)
{
    int found = 0;

    for (;; found = 1) {
        if (at_operator(parser, OPERATOR_AND) || at_operator(parser, OPERATOR_OR)) {
            int is_or = at_operator(parser, OPERATOR_OR);

            *join = is_or ? 'o' : *join == 'o' ? 'o' : 'a';
        } else if (!(at_char(parser, ',') || at_char(parser, ';') ||
                     (parser->token->kind == TOKEN_GROUPING && !found) ||
                     (parser->token->kind == TOKEN_ROW))) {
            return found;
        }
        if (found && (at_char(parser, ',') || at_char(parser, ';')))
            return 0;   /* ,, */
        parser->token++;
    }
}

int parse_members(struct parser *parser, struct members *out)
{
    out->n = 0;
    out->join = ',';
    do {
        if (out->n == MATH_MEMBERS) {
            parser->tree->limit = 1;
            return 0;
        }
        out->items[out->n] = parse_member(parser);
        if (!out->items[out->n++])
            return 0;
    } while (take_separator(parser, &out->join));
    return 1;
}

static int has_digit(struct span span)
{
    for (size_t i = 0; i < span.length; i++)
        if (span.data[i] >= '0' && span.data[i] <= '9')
            return 1;
    return 0;
}

static const struct node *reals(struct tree *tree)
{
    struct node *node = (struct node *)tree_new(tree, NODE_NUMBER_SET, 0);

    if (node)
        node->which = 'R';
    return node;
}

const struct node *parse_answer(struct tree *tree, struct span folded,
                                const struct parse_options *options)
{
    struct parser parser = {.tree = tree, .options = options};
    struct members *members = ARENA_NEW(tree->arena, struct members, 1);
    struct tokens tokens;
    const struct node *list = words_number(tree, folded);

    if (list)
        return list;
    if (words_reals(folded))
        return reals(tree);
    if (!members || lex_answer(&tokens, tree->arena, folded) < 0) {
        tree->limit = 1;
        return NULL;
    }
    if (tokens.n == 1 && tokens.items[0].kind == TOKEN_TEXT &&
        (has_digit(tokens.items[0].span) || words_reals(tokens.items[0].span)))
        /* \text{42} is shorter each time */
        return parse_answer(tree, tokens.items[0].span, options);
    parser.token = tokens.items;
    parser_find_grouping(&parser, 0);
    if (at_operator(&parser, RELATION_EQUAL) || at_char(&parser, ':'))
        parser.token++;
    if (!parse_members(&parser, members) || parser.token->kind != TOKEN_END)
        return NULL;
    if (members->n == 1)
        return members->items[0];
    list = tree_many(tree, NODE_LIST, members->items, members->n);
    if (list)
        ((struct node *)list)->which = members->join;
    return list;
}
