#include "math/math.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "common/status.h"
#include "math/compare.h"
#include "math/extract.h"
#include "math/verdict.h"

/* Of a shorter text nothing is looked for so long that it would be worth a system call. */
enum { LONG_BYTES = 64 << 10 };

struct math {
    struct arena arena;
    struct algebra *algebra;
    struct text gold_found, pred_found;     /* as extracted */
    struct text gold_text, pred_text;       /* folded */
    struct text gold_plain, pred_plain;
    int64_t counts[MATH_N_OUTCOMES];
    struct deadline deadline;               /* of the whole verdict */
};

/* One side of a verdict. */
struct side {
    struct span raw, text;         /* as given; folded and trimmed */
    const struct node *node;       /* NULL: text */
    struct tree tree;
};

static const struct {
    const char *text, *counter;
    int is_right;
} outcomes[] = {
#define X(name, text, counter, right) {text, counter, right},
    MATH_OUTCOME_MAP(X)
#undef X
};

const char *math_outcome_text(enum math_outcome outcome)
{
    return outcomes[outcome].text;
}

const char *math_outcome_counter(enum math_outcome outcome)
{
    return outcomes[outcome].counter;
}

int math_outcome_is_right(enum math_outcome outcome)
{
    return outcomes[outcome].is_right;
}

int math_create(struct math **out, uint64_t seed)
{
    struct math *math = mem_alloc(1, sizeof(*math));
    int status;

    arena_init(&math->arena, MATH_ARENA_BYTES);
    status = algebra_create(&math->algebra, seed);
    if (status < 0)
        math_destroy(&math);
    *out = math;
    return status;
}

void math_destroy(struct math **math)
{
    if (!*math)
        return;
    if ((*math)->algebra)
        algebra_destroy(&(*math)->algebra);
    arena_release(&(*math)->arena);
    text_release(&(*math)->gold_found);
    text_release(&(*math)->pred_found);
    text_release(&(*math)->gold_text);
    text_release(&(*math)->pred_text);
    text_release(&(*math)->gold_plain);
    text_release(&(*math)->pred_plain);
    mem_free(*math);
    *math = NULL;
}

void math_counts(struct math *math, int64_t counts[MATH_N_OUTCOMES], int reset)
{
    memcpy(counts, math->counts, sizeof(math->counts));
    if (reset)
        memset(math->counts, 0, sizeof(math->counts));
}

/* ---- what a side is */

static const char *reading_of(const struct node *node)
{
    if (!node)
        return "text";
    switch (node->kind) {
    case NODE_NUMBER: return node->significant ? "decimal" : "number";
    case NODE_PERCENT: return "percentage";
    case NODE_QUANTITY: return "quantity";
    case NODE_BASE: return "number in a base";
    case NODE_RATIO: return "ratio";
    case NODE_LIST: return "list";
    case NODE_SET: return "set";
    case NODE_TUPLE: return "tuple";
    case NODE_INTERVAL: case NODE_UNION: case NODE_INTERSECTION: case NODE_DIFFERENCE:
    case NODE_NUMBER_SET: case NODE_SET_OF:
        return "point set";
    case NODE_MATRIX: return "matrix";
    case NODE_RELATION:
        return node->name[0] == RELATION_EQUAL ? "equation" : "relation";
    case NODE_TEXT: return "text";
    default:
        if (has_matrix(node))
            return "matrix";
        return node_is_scalar(node) && algebra_is_constant(node) ? "constant" : "expression";
    }
}

static void read_side(struct math *math, struct side *side, const struct parse_options *options)
{
    side->tree = (struct tree){.arena = &math->arena};
    side->node = parse_answer(&side->tree, side->text, options);
    if (side->node && side->node->kind == NODE_TEXT)
        side->node = NULL;
}

/* Signs of mathematics in a text that could not be read: it was no plain text. */
static int looks_broken(struct span text)
{
    int braces = 0;

    for (size_t i = 0; i < text.length; i++) {
        if (text.data[i] == '\\' && i + 1 < text.length) {
            struct span rest = {text.data + i, text.length - i};

            if (!span_starts(rest, "\\text") && !span_starts(rest, "\\mbox") &&
                !span_starts(rest, "\\mathrm") && isalpha((unsigned char)text.data[i + 1]))
                return 1;
            i++;
        } else {
            braces += text.data[i] == '{';
            braces -= text.data[i] == '}';
            if (strchr("^=", text.data[i]))
                return 1;
        }
    }
    return braces != 0;
}

/* ---- extraction and folding */

static enum math_outcome take_answer(struct span raw, enum math_mode mode, struct text *found,
                                     struct span *out, const char **why)
{
    struct region region;
    int boxes;

    text_clear(found);
    *out = raw;
    *why = "";
    if (mode != MATH_ANSWER) {
        if (!math_extract(raw.data, raw.length, mode, found, why))
            return MATH_NO_ANSWER;
        *out = (struct span){found->data, found->length};
    } else if (memchr(raw.data, '<', raw.length) || memmem(raw.data, raw.length, "box", 3)) {
        if (extract_region(raw, &region, why))
            *out = region.text;
        boxes = extract_boxes(*out, found);
        if (boxes < 0) {
            /* An answer may quote an open box: take what it begins with. */
            *why = "the last box never closes";
        } else if (boxes > 0) {
            *out = (struct span){found->data, found->length};
        }
    }
    return out->length > MATH_ANSWER_BYTES ? MATH_LIMIT : MATH_RIGHT_EXACT;
}

static enum math_outcome fold_side(struct side *side, struct text *folded)
{
    text_clear(folded);
    if (!fold_text(folded, side->raw.data, side->raw.length))
        return MATH_UNREADABLE;
    side->text = fold_trim((struct span){folded->data ? folded->data : "", folded->length});
    return side->text.length ? MATH_RIGHT_EXACT : MATH_NO_ANSWER;
}

/* ---- comparison */

static enum math_outcome outcome_of(enum algebra_answer answer)
{
    switch (answer) {
    case ALGEBRA_EQUAL_EXACT: return MATH_RIGHT_EXACT;
    case ALGEBRA_EQUAL_PROVED: return MATH_RIGHT_PROVED;
    case ALGEBRA_EQUAL_NUMERIC: return MATH_RIGHT_NUMERIC;
    case ALGEBRA_DIFFERENT: return MATH_WRONG;
    default: return MATH_LIMIT;
    }
}

static int same_bytes(struct text *a, struct text *b)
{
    return a->length == b->length && a->length && memcmp(a->data, b->data, a->length) == 0;
}

static int same_plain(struct math *math, const struct side *gold, const struct side *pred,
                      void (*fold)(struct text *, struct span))
{
    text_clear(&math->gold_plain);
    text_clear(&math->pred_plain);
    fold(&math->gold_plain, gold->text);
    fold(&math->pred_plain, pred->text);
    return same_bytes(&math->gold_plain, &math->pred_plain);
}

static enum math_outcome compare_sides(struct math *math, const struct side *gold,
                                       const struct side *pred, const char **path)
{
    struct tree scratch = {.arena = &math->arena};
    struct comparison c = {
        .algebra = {.algebra = math->algebra, .arena = &math->arena, .deadline = &math->deadline},
        .tree = &scratch, .path = "structure",
    };
    enum algebra_answer answer;

    if (gold->tree.limit || pred->tree.limit) {
        *path = gold->tree.limit ? "limits of the gold" : "limits";
        return MATH_LIMIT;
    }
    answer = compare_nodes(&c, gold->node, pred->node);
    *path = c.path;
    if (answer == ALGEBRA_UNKNOWN)
        *path = "undecided";
    return outcome_of(answer);
}

static int is_plain_value(const struct node *node)
{
    while (node->kind == NODE_NEGATE || node->kind == NODE_QUANTITY || node->kind == NODE_PERCENT)
        node = node->child[0];
    return node_is_scalar(node) && algebra_is_constant(node);
}

/* Digits, one comma, two digits or more, or a 0 in front: perhaps a decimal comma. */
static int has_decimal_comma(struct span text)
{
    size_t n_commas = 0, digits_after = 0;

    for (size_t i = 0; i < text.length; i++) {
        if (text.data[i] == ',')
            n_commas++;
        else if (isdigit((unsigned char)text.data[i]))
            digits_after += n_commas;
        else if (!(i == 0 && text.data[i] == '-') && !strchr("$%", text.data[i]))
            return 0;
    }
    return n_commas == 1 && digits_after >= 2;
}

static int has_decimal_point(struct span text)
{
    return memchr(text.data, '.', text.length) != NULL;
}

/* The other reading that the gold's kind allows; 0 when there is none. */
static int read_again(struct math *math, struct side *gold, struct side *pred)
{
    const struct parse_options comma = {.comma_is_decimal = 1}, units = {.letters_are_units = 1},
                               list = {.no_grouping = 1};

    if (gold->node->kind == NODE_NUMBER && has_decimal_comma(pred->text)) {
        read_side(math, pred, &comma);
        return pred->node != NULL;
    }
    if (has_decimal_comma(gold->text) && has_decimal_point(pred->text) &&
        pred->node->kind == NODE_NUMBER) {
        read_side(math, gold, &comma);
        return gold->node != NULL;
    }
    if (is_plain_value(gold->node) && node_has(pred->node, NODE_SYMBOL, -1)) {
        read_side(math, pred, &units);
        return pred->node != NULL;
    }
    if (pred->node->kind == NODE_QUANTITY && node_has(gold->node, NODE_SYMBOL, -1)) {
        read_side(math, gold, &units);
        return gold->node && gold->node->kind == NODE_QUANTITY;
    }
    if (is_plain_value(pred->node) && node_has(gold->node, NODE_SYMBOL, -1) &&
        memchr(gold->text.data, ' ', gold->text.length) &&
        !memchr(gold->raw.data, '$', gold->raw.length)) {   /* 5 m/s */
        read_side(math, gold, &units);
        return gold->node && gold->node->kind == NODE_QUANTITY && is_plain_value(gold->node);
    }
    if (is_collection(gold->node) && is_plain_value(pred->node) &&
        memchr(pred->text.data, ',', pred->text.length)) {
        read_side(math, pred, &list);
        return pred->node != NULL;
    }
    return 0;
}

static enum math_outcome judge_trees(struct math *math, struct side *gold, struct side *pred,
                                     const char **path)
{
    static const struct parse_options plain;
    enum math_outcome outcome;

    read_side(math, gold, &plain);
    read_side(math, pred, &plain);
    if ((!gold->node || (!pred->node && !is_plain_value(gold->node))) &&
        !looks_broken(pred->text) && same_plain(math, gold, pred, fold_words)) {
        *path = "same words";
        return MATH_RIGHT_EXACT;
    }
    if (!gold->node && !gold->tree.limit && looks_broken(gold->text)) {
        *path = "unreadable";
        return MATH_UNREADABLE_GOLD;
    }
    if (gold->tree.limit || pred->tree.limit) {
        *path = "limits";
        return MATH_LIMIT;
    }
    if (!gold->node) {
        *path = "text";
        return MATH_WRONG;
    }
    if (!pred->node) {
        *path = looks_broken(pred->text) ? "unreadable" : "text";
        return looks_broken(pred->text) ? MATH_UNREADABLE : MATH_WRONG;
    }
    outcome = compare_sides(math, gold, pred, path);
    if (outcome == MATH_WRONG && read_again(math, gold, pred)) {
        enum math_outcome again = compare_sides(math, gold, pred, path);

        outcome = again;
    }
    return outcome;
}

/* Without an answer to compare: whether a right one could have been told. */
static enum math_outcome judge_gold(struct math *math, struct side *gold,
                                    enum math_outcome otherwise, const char **path)
{
    static const struct parse_options plain;

    if (fold_side(gold, &math->gold_text) == MATH_RIGHT_EXACT) {
        read_side(math, gold, &plain);
        if (gold->node || gold->tree.limit || !looks_broken(gold->text))
            return otherwise;
    }
    *path = "unreadable";
    return MATH_UNREADABLE_GOLD;
}

static enum math_outcome judge(struct math *math, struct side *gold, struct side *pred,
                               const char **path)
{
    enum math_outcome state;
    unsigned choice;

    state = fold_side(gold, &math->gold_text);
    if (state != MATH_RIGHT_EXACT) {
        *path = state == MATH_UNREADABLE ? "bytes that are no text" : "empty";
        return MATH_UNREADABLE_GOLD;
    }
    state = fold_side(pred, &math->pred_text);
    if (state != MATH_RIGHT_EXACT) {
        *path = state == MATH_UNREADABLE ? "bytes that are no text" : "empty";
        return judge_gold(math, gold, state, path);
    }
    if (same_plain(math, gold, pred, fold_plain)) {
        *path = "same text";
        return MATH_RIGHT_EXACT;
    }
    choice = choice_of_gold(gold->text);
    if (choice) {
        unsigned given = choice_of_prediction(pred->text);

        if (given) {
            *path = "choice";
            return given == choice ? MATH_RIGHT_EXACT : MATH_WRONG;
        }
    }
    return judge_trees(math, gold, pred, path);
}

static void set_reading(char out[MATH_READING_BYTES], const char *text)
{
    snprintf(out, MATH_READING_BYTES, "%s", text);
}

void math_verify(struct math *math, const char *gold, size_t n_gold, const char *pred,
                 size_t n_pred, const struct math_options *options, struct math_verdict *verdict)
{
    struct side gold_side = {.raw = {gold, n_gold}}, pred_side = {.raw = {pred, n_pred}};
    int is_long = n_gold + n_pred > LONG_BYTES, fast;
    enum math_outcome state, gold_state;
    const char *why;

    if (is_long)
        deadline_start(&math->deadline, DEADLINE_CPU_MS, DEADLINE_WALL_MS);
    verdict->path = "";
    verdict->gold_reading[0] = verdict->reading[0] = 0;
    state = take_answer(pred_side.raw, options->mode, &math->pred_found, &pred_side.raw, &why);
    verdict->extracted = state == MATH_NO_ANSWER ? NULL : pred_side.raw.data;
    verdict->n_extracted = state == MATH_NO_ANSWER ? 0 : pred_side.raw.length;
    fast = state == MATH_RIGHT_EXACT && options->gold_mode == MATH_ANSWER
           ? fast_compare(gold_side.raw, pred_side.raw) : -1;
    if (fast >= 0) {
        verdict->outcome = fast ? MATH_RIGHT_EXACT : MATH_WRONG;
        verdict->path = "plain numbers";
        math->counts[verdict->outcome]++;
        return;
    }
    if (!is_long)
        deadline_start(&math->deadline, DEADLINE_CPU_MS, DEADLINE_WALL_MS);
    arena_rewind(&math->arena);
    if (state != MATH_RIGHT_EXACT)
        verdict->path = state == MATH_LIMIT ? "the answer is too long" : why;
    gold_state = take_answer(gold_side.raw, options->gold_mode, &math->gold_found, &gold_side.raw,
                             &why);
    if (gold_state != MATH_RIGHT_EXACT) {
        verdict->path = gold_state == MATH_LIMIT ? "the gold is too long" : "no answer in the gold";
        state = MATH_UNREADABLE_GOLD;
    } else if (state != MATH_RIGHT_EXACT) {
        state = judge_gold(math, &gold_side, state, &verdict->path);
    } else {
        state = judge(math, &gold_side, &pred_side, &verdict->path);
        set_reading(verdict->gold_reading, reading_of(gold_side.node));
        set_reading(verdict->reading, reading_of(pred_side.node));
    }
    verdict->outcome = state;
    math->counts[state]++;
}
