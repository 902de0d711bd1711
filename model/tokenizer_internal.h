/*
 * model/tokenizer_internal.h - what the tokenizer's files share. Private to model/.
 */
#ifndef HONE_MODEL_TOKENIZER_INTERNAL_H
#define HONE_MODEL_TOKENIZER_INTERNAL_H

#include <jansson.h>
#include <stdint.h>

#include "model/tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define TOKENIZER_MAX_SPLITS 16

struct token {
    const char *text;           /* as in tokenizer.json, borrowed; NULL: no such id */
    size_t offset;              /* of its bytes in tokenizer->bytes */
    uint32_t n;
    int is_added, is_special;
};

/* left + right -> merged. All of one left token lie together, by right. */
struct merge {
    int32_t right, rank, merged;
};

struct added_token {
    const char *content;
    size_t n;
    int32_t id;
};

/* Added tokens sorted by content, so that those that start alike lie together. */
struct added_set {
    struct added_token *tokens;
    size_t n;
    size_t starts[257];   /* by first byte */
};

struct tokenizer {
    char *where;
    char *json;
    size_t n_json;
    json_t *root;
    const json_t *vocab;         /* token text -> id; borrowed from root */
    struct token *tokens;        /* [vocab_size] */
    int vocab_size;
    struct text bytes;           /* what each token decodes to */
    int32_t byte_ids[256];       /* the token of one byte, or -1 */
    struct merge *merges;
    uint32_t *merge_starts;      /* [vocab_size + 1] */
    struct added_set added[2];   /* matched before, and after, normalization */
    pcre2_code *splits[TOKENIZER_MAX_SPLITS];
    int n_splits;
    int ignore_merges, nfc;
};

/* tokenizer_alphabet.c: GPT-2's one printable character per byte. */
void alphabet_append(struct text *out, unsigned char byte);
/* Appends the bytes that `text` stands for; text that is not in the alphabet stands for itself. */
void alphabet_decode(struct text *out, const char *text);

/* tokenizer_parse.c: the vocabulary, merges and added tokens; tokenizer_stages.c: the rest. */
int tokenizer_parse_model(struct tokenizer *tokenizer, const json_t *model);
int tokenizer_parse_stages(struct tokenizer *tokenizer, const json_t *root);

/* tokenizer_merge.c: byte pair encoding of one piece. The scratch grows and is used again. */
struct merge_symbol {
    int32_t id, previous, next;   /* id -1: merged away */
};
struct merge_candidate {
    int32_t rank, position, merged;
};
struct merge_scratch {
    struct merge_symbol *symbols;
    struct merge_candidate *heap;
    size_t n_heap, capacity_symbols, capacity_heap;
    struct text mapped;
};
int tokenizer_merge(const struct tokenizer *tokenizer, struct merge_scratch *scratch,
                    const char *piece, size_t n, struct token_list *out);
void merge_scratch_release(struct merge_scratch *scratch);
void token_list_add(struct token_list *list, int32_t id);

/* utf8.c */
size_t utf8_length(const unsigned char *bytes, size_t n);   /* 0: no valid character starts here */
uint32_t utf8_decode(const unsigned char *bytes, size_t length);
void utf8_append(struct text *out, uint32_t code);

/* nfc.c: appends text[0..n) in Unicode's normalization form C; invalid bytes are kept. */
void nfc_append(struct text *out, const char *text, size_t n);

/* Written by tools/make_nfc.py. Sorted by code, by (first, second), and by range. */
struct nfc_decomposition {
    uint32_t code, first, second;   /* second 0: one character */
};
struct nfc_composition {
    uint32_t first, second, code;
};
struct nfc_class {
    uint32_t from, to, combining_class;
};
extern const struct nfc_decomposition nfc_decompositions[];
extern const size_t n_nfc_decompositions;
extern const struct nfc_composition nfc_compositions[];
extern const size_t n_nfc_compositions;
extern const struct nfc_class nfc_classes[];
extern const size_t n_nfc_classes;

#endif
