/*
 * A question as bytes: a head, then both trees in prefix order. Parent and child are one program,
 * so structs travel as they are. A letter is its index: the child needs no names.
 */
#include <string.h>

#include "math/algebra_internal.h"

#define CHILD_LIMBS (1 << 16)   /* of one integer */

struct question_head {
    uint32_t kind;
    int32_t decimals;
    uint64_t seed;
};

struct node_head {
    uint16_t kind, which;
    uint16_t n_children;
    uint16_t is_big;
};

struct writer {
    struct text *out;
    const struct node *letters[QUESTION_LETTERS];
    int n_letters, n_nodes;
};

static int index_of_letter(struct writer *writer, const struct node *letter)
{
    for (int i = 0; i < writer->n_letters; i++)
        if (node_same(writer->letters[i], letter))
            return i;
    if (writer->n_letters == QUESTION_LETTERS) {
        writer->out->failed = 1;
        return 0;
    }
    writer->letters[writer->n_letters] = letter;
    return writer->n_letters++;
}

static void write_integer(mpz_srcptr value, struct text *out)
{
    int64_t size = mpz_sgn(value) < 0 ? -(int64_t)mpz_size(value) : (int64_t)mpz_size(value);

    text_append(out, &size, sizeof(size));
    text_append(out, mpz_limbs_read(value), mpz_size(value) * sizeof(mp_limb_t));
}

static void write_node(struct writer *writer, const struct node *node)
{
    struct node_head head = {(uint16_t)node->kind, (uint16_t)node->which,
                             (uint16_t)node->n_children, 0};

    if (++writer->n_nodes > 2 * MATH_NODES)
        writer->out->failed = 1;
    if (writer->out->failed)
        return;
    if (node->kind == NODE_SYMBOL)
        head.which = (uint16_t)index_of_letter(writer, node);
    head.is_big = node->kind == NODE_NUMBER && node->denominator == 0;
    text_append(writer->out, &head, sizeof(head));
    if (head.is_big) {
        write_integer(mpq_numref(node->big), writer->out);
        write_integer(mpq_denref(node->big), writer->out);
    } else if (node->kind == NODE_NUMBER) {
        text_append(writer->out, &node->numerator, sizeof(node->numerator));
        text_append(writer->out, &node->denominator, sizeof(node->denominator));
    }
    for (int i = 0; i < node->n_children; i++)
        write_node(writer, node->child[i]);
}

int question_write(const struct question *question, struct text *out)
{
    struct question_head head = {question->kind, question->decimals, question->seed};
    struct writer writer = {.out = out};

    text_append(out, &head, sizeof(head));
    write_node(&writer, question->a);
    write_node(&writer, question->b);
    return !out->failed;
}

struct reader {
    const char *at, *end;
    struct tree *tree;
    int n_letters;
    int is_bad;
};

static const char *take(struct reader *reader, size_t n)
{
    if ((size_t)(reader->end - reader->at) < n) {
        reader->is_bad = 1;
        return NULL;
    }
    reader->at += n;
    return reader->at - n;
}

static void copy(struct reader *reader, void *out, size_t n)
{
    const char *bytes = take(reader, n);

    if (bytes)
        memcpy(out, bytes, n);
}

static void read_integer(struct reader *reader, mpz_ptr out)
{
    int64_t size = 0;

    copy(reader, &size, sizeof(size));
    size_t n = size < 0 ? -(size_t)size : (size_t)size;
    if (n > CHILD_LIMBS) {
        reader->is_bad = 1;
        return;
    }
    mp_limb_t *limbs = ARENA_NEW(reader->tree->arena, mp_limb_t, n + 1);
    if (!limbs) {
        reader->is_bad = 1;
        return;
    }
    copy(reader, limbs, n * sizeof(*limbs));
    mpz_roinit_n(out, limbs, (mp_size_t)size);
}

static const struct node *read_node(struct reader *reader)
{
    struct node_head head = {0};

    copy(reader, &head, sizeof(head));
    struct node *node = tree_new(reader->tree, (enum node_kind)head.kind, head.n_children);
    if (!node || reader->is_bad || head.kind > NODE_FUNCTION) {
        reader->is_bad = 1;
        return NULL;
    }
    node->which = head.which;
    if (node->kind == NODE_SYMBOL && node->which >= reader->n_letters)
        reader->n_letters = node->which + 1;
    if (head.is_big) {
        mpq_ptr big = arena_alloc(reader->tree->arena, 1, sizeof(*big), _Alignof(__mpq_struct));
        if (!big) {
            reader->is_bad = 1;
            return NULL;
        }
        read_integer(reader, mpq_numref(big));
        read_integer(reader, mpq_denref(big));
        node->big = big;
    } else if (node->kind == NODE_NUMBER) {
        copy(reader, &node->numerator, sizeof(node->numerator));
        copy(reader, &node->denominator, sizeof(node->denominator));
    }
    for (int i = 0; i < node->n_children && !reader->is_bad; i++)
        ((const struct node **)node->child)[i] = read_node(reader);
    return reader->is_bad ? NULL : node;
}

int question_read(const struct text *bytes, struct arena *arena, struct question *out)
{
    struct tree trees[2] = {{.arena = arena}, {.arena = arena}};
    struct reader reader = {.at = bytes->data, .end = bytes->data + bytes->length};
    struct question_head head = {0};

    copy(&reader, &head, sizeof(head));
    *out = (struct question){.kind = (enum question_kind)head.kind, .seed = head.seed,
                             .decimals = head.decimals};
    reader.tree = &trees[0];
    out->a = reader.is_bad ? NULL : read_node(&reader);
    reader.tree = &trees[1];
    out->b = reader.is_bad ? NULL : read_node(&reader);
    out->n_letters = reader.n_letters;
    return !reader.is_bad && reader.at == reader.end;
}
