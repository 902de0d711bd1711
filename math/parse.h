/*
 * math/parse.h - what the parts of the parser share. Every function returns NULL when the tokens
 * are no mathematics; nothing is tried twice, so the time is linear.
 */
#ifndef HONE_MATH_PARSE_H
#define HONE_MATH_PARSE_H

#include "math/read.h"

struct parser {
    struct tree *tree;
    struct token *token;     /* the next one; TOKEN_END is the last */
    const struct parse_options *options;
    int depth;
    int bar_closes;          /* | ends what is being read */
    int colon_closes;        /* : ends what is being read, as in { x : x > 0 } */
    int commas_group;        /* 1,234 is one number here */
};

static inline int at_char(const struct parser *parser, int symbol)
{
    return parser->token->kind == TOKEN_CHAR && parser->token->symbol == symbol;
}

static inline int at_operator(const struct parser *parser, int symbol)
{
    return parser->token->kind == TOKEN_OPERATOR && parser->token->symbol == symbol;
}

static inline int take_char(struct parser *parser, int symbol)
{
    int is_there = at_char(parser, symbol);

    parser->token += is_there;
    return is_there;
}

int parser_enter(struct parser *parser);   /* one deeper; 0 and the limit when too deep */

/* parse.c */
struct members {
    const struct node *items[MATH_MEMBERS];
    int n, join;             /* 'a', 'o' when "and", "or" stood between, else ',' */
};
int parse_members(struct parser *parser, struct members *out);
const struct node *parse_sum(struct parser *parser);
void parser_find_grouping(struct parser *parser, int in_brackets);

/* A plain U between two brackets. */
int parser_at_plain_union(const struct parser *parser, const struct node *left);

/* parse_term.c */
const struct node *parse_term(struct parser *parser);
const struct node *parse_number(struct parser *parser);
const struct node *parse_power_of(struct parser *parser, const struct node *base);
const struct node *parse_exponent(struct parser *parser);   /* behind the ^ */

/* parse_atom.c */
const struct node *parse_atom(struct parser *parser);
const struct node *parse_argument(struct parser *parser);   /* {..} or one token, as TeX has it */
const struct node *parse_group(struct parser *parser);      /* at { */
struct span parse_name(struct parser *parser);   /* the text of {..} or of one token */

/* parse_function.c */
const struct node *parse_function(struct parser *parser, int which);
const struct node *parse_command(struct parser *parser);
const struct node *parse_matrix(struct parser *parser);

/* parse_unit.c */
/* The unit behind `value`, if one is there. */
const struct node *parse_unit(struct parser *parser, const struct node *value);
const struct node *parse_compound(struct parser *parser, const struct node *first);
const struct node *parse_money(struct parser *parser);
/* Percent and degrees as plain scalars; what has no place in arithmetic gives NULL. */
const struct node *scalar_of(struct tree *tree, const struct node *node);
const struct node *make_negative(struct tree *tree, const struct node *node);
const struct node *make_sum(struct tree *tree, const struct node *const *terms, int n);
const struct node *make_product(struct tree *tree, const struct node *const *above, int n_above,
                                const struct node *const *below, int n_below);

#endif
