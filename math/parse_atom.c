#include <ctype.h>
#include <string.h>

#include "math/parse.h"

struct saved {
    int bar_closes, colon_closes, commas_group;
};

static struct saved enter_group(struct parser *parser)
{
    struct saved saved = {parser->bar_closes, parser->colon_closes, parser->commas_group};

    parser->bar_closes = parser->colon_closes = 0;
    parser_find_grouping(parser, 1);
    return saved;
}

static void leave_group(struct parser *parser, struct saved saved)
{
    parser->bar_closes = saved.bar_closes;
    parser->colon_closes = saved.colon_closes;
    parser->commas_group = saved.commas_group;
    parser->depth--;
}

static struct members *new_members(struct parser *parser)
{
    struct members *members = ARENA_NEW(parser->tree->arena, struct members, 1);

    if (!members)
        parser->tree->limit = 1;
    return members;
}

static const struct node *make_interval(struct parser *parser, const struct members *members,
                                        int kind)
{
    struct node *node;

    if (members->n != 2)
        return NULL;
    node = (struct node *)tree_many(parser->tree, NODE_INTERVAL, members->items, 2);
    if (node)
        node->which = kind;
    return node;
}

/* ( ) and [ ], also mixed: a group, a tuple or an interval. */
static const struct node *parse_bracket(struct parser *parser)
{
    int open = parser->token->symbol, close, kind;
    struct members *members;
    struct saved saved;
    const struct node *node = NULL;

    parser->token++;
    if (!parser_enter(parser))
        return NULL;
    saved = enter_group(parser);
    members = new_members(parser);
    if (members && parse_members(parser, members)) {
        close = parser->token->symbol;
        kind = (open == '[' ? INTERVAL_LEFT_CLOSED : 0) |
               (close == ']' ? INTERVAL_RIGHT_CLOSED : 0);
        if (!take_char(parser, ')') && !take_char(parser, ']'))
            node = NULL;
        else if ((open == '(') != (close == ')'))
            node = make_interval(parser, members, kind);
        else if (members->n == 1)
            node = members->items[0];
        else if (members->n == 2 && open == '[')
            node = make_interval(parser, members, kind);
        else
            node = tree_many(parser->tree, NODE_TUPLE, members->items, members->n);
    }
    leave_group(parser, saved);
    return node;
}

/* \langle a, b \rangle */
static const struct node *parse_angle(struct parser *parser)
{
    struct members *members = new_members(parser);
    const struct node *node = NULL;
    struct saved saved;

    parser->token++;
    if (!members || !parser_enter(parser))
        return NULL;
    saved = enter_group(parser);
    if (parse_members(parser, members) && take_char(parser, CHAR_ANGLE_CLOSE))
        node = tree_many(parser->tree, NODE_TUPLE, members->items, members->n);
    leave_group(parser, saved);
    return node;
}

/* Behind the variable of { x | condition }. */
static const struct node *parse_condition(struct parser *parser, const struct node *variable)
{
    struct members *members = new_members(parser);
    const struct node *condition;

    parser->token++;
    parser->bar_closes = parser->colon_closes = 0;
    if (!members || !parse_members(parser, members))
        return NULL;
    condition = members->items[0];
    if (members->n > 1) {
        condition = tree_many(parser->tree, NODE_JOIN, members->items, members->n);
        if (!condition)
            return NULL;
        ((struct node *)condition)->which = members->join == 'o' ? 'o' : 'a';
    }
    return tree_binary(parser->tree, NODE_SET_OF, variable, condition);
}

static const struct node *infix_in_braces(struct parser *parser, const struct node *left)
{
    int is_choose = span_is(parser->token->span, "choose");
    const struct node *right;

    parser->token++;
    right = scalar_of(parser->tree, parse_sum(parser));
    left = scalar_of(parser->tree, left);
    if (!left || !right)
        return NULL;
    return is_choose ? tree_call(parser->tree, FUNCTION_BINOMIAL, left, right)
                     : tree_binary(parser->tree, NODE_DIVIDE, left, right);
}

static const struct node *read_braces(struct parser *parser, int close)
{
    struct members *members = new_members(parser);
    const struct node *node;

    if (close == CHAR_SET_CLOSE && at_char(parser, close)) {
        parser->token++;
        return tree_new(parser->tree, NODE_NUMBER_SET, 0);   /* { } is the empty set */
    }
    if (!members || !parse_members(parser, members))
        return NULL;
    node = members->items[0];
    if (members->n == 1 && (at_char(parser, '|') || at_char(parser, ':'))) {
        node = parse_condition(parser, node);
        return node && take_char(parser, close) ? node : NULL;
    }
    if (members->n == 1 && parser->token->kind == TOKEN_COMMAND &&
        (span_is(parser->token->span, "choose") || span_is(parser->token->span, "over")))
        node = infix_in_braces(parser, node);
    if (!node || !take_char(parser, close))
        return NULL;
    if (close == '}' && members->n == 1)
        return node;
    node = tree_many(parser->tree, close == '}' ? NODE_LIST : NODE_SET, members->items, members->n);
    if (node)
        ((struct node *)node)->which = members->join;
    return node;
}

const struct node *parse_group(struct parser *parser)
{
    int close = parser->token->symbol == CHAR_SET_OPEN ? CHAR_SET_CLOSE : '}';
    const struct node *node;
    struct saved saved;

    parser->token++;
    if (!parser_enter(parser))
        return NULL;
    saved = enter_group(parser);
    parser->bar_closes = parser->colon_closes = close == CHAR_SET_CLOSE ||
        (parser->token->kind == TOKEN_LETTER && parser->token[1].kind == TOKEN_CHAR &&
         (parser->token[1].symbol == '|' || parser->token[1].symbol == ':'));
    node = read_braces(parser, close);
    leave_group(parser, saved);
    return node;
}

/* |x|, ||v||, floors and ceilings: what stands up to `close`. */
static const struct node *parse_bars(struct parser *parser, int close, enum node_function which)
{
    const struct node *inner;
    struct saved saved;

    parser->token++;
    if (!parser_enter(parser))
        return NULL;
    saved = enter_group(parser);
    parser->bar_closes = close == '|' || close == CHAR_NORM;
    inner = scalar_of(parser->tree, parse_sum(parser));
    leave_group(parser, saved);
    if (!inner || !take_char(parser, close))
        return NULL;
    return tree_call(parser->tree, which, inner, NULL);
}

struct span parse_name(struct parser *parser)
{
    const struct token *first = parser->token, *last;
    int depth = 0;

    if (!at_char(parser, '{')) {
        if (first->kind == TOKEN_END)
            return (struct span){"", 0};
        parser->token++;
        return first->span;
    }
    do {
        if (parser->token->kind == TOKEN_END)
            return (struct span){"", 0};
        depth += at_char(parser, '{');
        depth -= at_char(parser, '}');
        parser->token++;
    } while (depth);
    last = parser->token - 2;
    if (last <= first)
        return (struct span){"", 0};
    return (struct span){first[1].span.data,
                         (size_t)(last->span.data + last->span.length - first[1].span.data)};
}

/* A letter with its subscript and primes; e, i and infinity are constants. */
static const struct node *parse_symbol(struct parser *parser, struct span name)
{
    struct text full = {.maximum = MATH_ANSWER_BYTES};
    const struct node *node;

    if (!at_char(parser, '_') && !at_char(parser, '\'') && name.length == 1) {
        if (name.data[0] == 'e')
            return tree_constant(parser->tree, CONSTANT_E);
        if (name.data[0] == 'i')
            return tree_constant(parser->tree, CONSTANT_I);
    }
    text_append(&full, name.data, name.length);
    if (take_char(parser, '_')) {
        struct span index = parse_name(parser);

        text_append(&full, "_", 1);
        for (size_t i = 0; i < index.length; i++)
            if (!strchr(" {}", index.data[i]))
                text_append(&full, index.data + i, 1);
        if (!index.length)
            full.failed = 1;
    }
    while (at_char(parser, '\'')) {
        text_append(&full, "'", 1);
        parser->token++;
    }
    node = full.failed ? NULL : tree_name(parser->tree, NODE_SYMBOL, full.data, full.length);
    text_release(&full);
    return node;
}

/* Up to three upright letters: their product. */
static const struct node *parse_letters(struct parser *parser, struct span word)
{
    const struct node *letters[3];

    if (word.length > 3)
        return NULL;
    for (size_t i = 0; i < word.length; i++) {
        if (!isalpha((unsigned char)word.data[i]))
            return NULL;
        letters[i] = tree_name(parser->tree, NODE_SYMBOL, word.data + i, 1);
    }
    return tree_many(parser->tree, NODE_MULTIPLY, letters, (int)word.length);
}

static const struct node *parse_text_atom(struct parser *parser)
{
    struct span text = parser->token->span;
    const struct node *number;

    parser->token++;
    if (text.length == 1 && isalpha((unsigned char)text.data[0]))
        return parse_symbol(parser, text);
    number = words_number(parser->tree, text);
    return number ? number : parse_letters(parser, text);
}

static const struct node *parse_word(struct parser *parser)
{
    struct span word = parser->token->span;
    int64_t which;

    switch (word_find(word, &which)) {
    case WORD_FUNCTION: case WORD_BINOMIAL: case WORD_CUBE_ROOT:
        parser->token++;
        return parse_function(parser, (int)which);
    case WORD_CONSTANT:
        parser->token++;
        return tree_constant(parser->tree, (enum node_constant)which);
    case WORD_INFINITY:
        parser->token++;
        return tree_constant(parser->tree, CONSTANT_INFINITY);
    case WORD_SYMBOL:
        parser->token++;
        return parse_symbol(parser, word);
    case WORD_NUMBER:
        parser->token++;
        return tree_integer(parser->tree, which);
    default:
        break;
    }
    if (parser->token->symbol != WORD_UNIT)
        return NULL;
    parser->token++;   /* letters that could be a unit but stand where none can */
    return parse_letters(parser, word);
}

static const struct node *parse_char(struct parser *parser)
{
    switch (parser->token->symbol) {
    case '(': case '[':
        return parse_bracket(parser);
    case '{': case CHAR_SET_OPEN:
        return parse_group(parser);
    case CHAR_ANGLE_OPEN:
        return parse_angle(parser);
    case '|':
        return parser->bar_closes ? NULL : parse_bars(parser, '|', FUNCTION_ABS);
    case CHAR_NORM:
        return parser->bar_closes ? NULL : parse_bars(parser, CHAR_NORM, FUNCTION_ABS);
    case CHAR_FLOOR_OPEN:
        return parse_bars(parser, CHAR_FLOOR_CLOSE, FUNCTION_FLOOR);
    case CHAR_CEILING_OPEN:
        return parse_bars(parser, CHAR_CEILING_CLOSE, FUNCTION_CEILING);
    case CHAR_DOTS:
        parser->token++;
        return tree_name(parser->tree, NODE_SYMBOL, "\\ldots", 6);
    case CHAR_CURRENCY:
        return parse_money(parser);
    case '.':
        return parse_number(parser);
    default:
        return NULL;
    }
}

const struct node *parse_atom(struct parser *parser)
{
    struct token *token = parser->token;

    switch (token->kind) {
    case TOKEN_DIGITS:
        return parse_number(parser);
    case TOKEN_LETTER:
        parser->token++;
        return parse_symbol(parser, token->span);
    case TOKEN_WORD:
        return parse_word(parser);
    case TOKEN_COMMAND:
        return parse_command(parser);
    case TOKEN_TEXT:
        return parse_text_atom(parser);
    case TOKEN_BEGIN:
        return parse_matrix(parser);
    case TOKEN_CHAR:
        return parse_char(parser);
    default:
        return NULL;
    }
}

/* As TeX reads an argument: a group, or one token, one digit. */
const struct node *parse_argument(struct parser *parser)
{
    struct token *token = parser->token;

    if (token->kind == TOKEN_DIGITS) {
        struct span digit = {token->span.data, 1};

        if (token->span.length == 1) {
            parser->token++;
        } else {
            token->span = (struct span){token->span.data + 1, token->span.length - 1};
            token->blank = 0;
        }
        return number_make(parser->tree, digit, (struct span){"", 0}, (struct span){"", 0}, 0, 0);
    }
    if (token->kind == TOKEN_LETTER) {
        parser->token++;
        return token->symbol == 'e' ? tree_constant(parser->tree, CONSTANT_E)
             : token->symbol == 'i' ? tree_constant(parser->tree, CONSTANT_I)
             : tree_name(parser->tree, NODE_SYMBOL, token->span.data, 1);
    }
    return parse_atom(parser);
}
