/*
 * model/tokenizer_internal.h - what the tokenizer's files share. Private to model/.
 */
#ifndef HONE_MODEL_TOKENIZER_INTERNAL_H
#define HONE_MODEL_TOKENIZER_INTERNAL_H

#include <jansson.h>
#include <stdint.h>

#include "common/utf8.h"
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

/* left + right -> merged; left -1: an empty slot. */
struct merge {
    int32_t left, right, rank, merged;
};

struct added_token {
    char *content;   /* owned; normalized where that is what it is matched in */
    size_t n;
    int32_t id;
    int single_word, lstrip, rstrip;
};

/* Added tokens sorted by content, so that those that start alike lie together. */
struct added_set {
    struct added_token *tokens;
    size_t n;
    size_t starts[257];   /* by first byte */
};

/* One pattern of the pre-tokenizer. */
struct split {
    pcre2_code *code;
    /* The end of the piece that starts at text[at], or 0; NULL: no function is known. */
    size_t (*match)(const struct split *split, const unsigned char *text, size_t at, size_t n);
    unsigned n_digits;   /* that `match` takes at once */
    int drops_matches, drops_gaps;
};

struct encoder_pool;

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
    struct merge *merges;        /* a hash table of 1 << merge_bits */
    unsigned merge_bits;
    int32_t *wholes;             /* ignore_merges: a hash table of ids by their bytes, -1 empty */
    unsigned whole_bits;
    struct added_set added[2];   /* matched before, and after, normalization */
    struct split splits[TOKENIZER_MAX_SPLITS];
    int n_splits;
    int ignore_merges, nfc;
    int patterns_only;           /* for tests: PCRE2 even where a split has a function */
    struct encoder_pool *pool;   /* scratch memory between calls */
};

/* tokenizer_alphabet.c: GPT-2's one printable character per byte. */
uint32_t alphabet_of(unsigned char byte);
void alphabet_append(struct text *out, unsigned char byte);
/* Appends the bytes that `text` stands for; text that is not in the alphabet stands for itself:
 * then 0 is returned. */
int alphabet_decode(struct text *out, const char *text);

/* tokenizer_parse.c: the vocabulary and merges; tokenizer_added.c; tokenizer_stages.c: the rest. */
int tokenizer_parse_model(struct tokenizer *tokenizer, const json_t *model);
int tokenizer_parse_added(struct tokenizer *tokenizer, const json_t *added);
int tokenizer_parse_stages(struct tokenizer *tokenizer, const json_t *root);
int tokenizer_place_token(struct tokenizer *tokenizer, int id, const char *text);
int tokenizer_read_id(const struct tokenizer *tokenizer, const json_t *value, const char *token,
                      int *id);
/* In NFC where the tokenizer normalizes; then tokens are sorted. After the normalizer is known. */
int tokenizer_sort_added(struct tokenizer *tokenizer);
void added_set_release(struct added_set *set);

/* The longest added token that starts at text[0], or NULL. */
const struct added_token *added_set_match(const struct added_set *set, const char *text, size_t n);
/* As the token is flagged: whether it counts at text[start..end), and with which blanks. */
int added_token_counts(const struct added_token *token, const char *text, size_t n, size_t start,
                       size_t end);
size_t blanks_before(const char *text, size_t at);              /* where they start */
size_t blanks_after(const char *text, size_t n, size_t at);     /* where they end */

/* tokenizer_split.c: sets split->match where the pattern is a known one. */
void split_find_function(struct split *split, const char *pattern);
extern const char *const split_gpt2, *const split_qwen2, *const split_llama3;

/* tokenizer_merge.c: byte pair encoding of one piece, remembered where it is short. */
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
    struct piece_slot *slots;
};
int tokenizer_merge(const struct tokenizer *tokenizer, struct merge_scratch *scratch,
                    const char *piece, size_t n, struct token_list *out);
void merge_scratch_release(struct merge_scratch *scratch);
void token_list_add(struct token_list *list, int32_t id);
void tokenizer_build_merges(struct tokenizer *tokenizer, size_t n);
void tokenizer_put_merge(struct tokenizer *tokenizer, const struct merge *merge);
void tokenizer_build_wholes(struct tokenizer *tokenizer);

/* tokenizer_encode.c. Pieces as the merges would get them, for training and tests. */
struct piece_sink {
    void (*take)(struct piece_sink *sink, const char *piece, size_t n);
};
int tokenizer_pieces(const struct tokenizer *tokenizer, const char *text, size_t n,
                     struct piece_sink *sink);
void encoder_pool_create(struct encoder_pool **out);
void encoder_pool_destroy(struct encoder_pool **pool);

/* utf8.c */
size_t utf8_valid_prefix(const unsigned char *bytes, size_t n);
/* How many bytes at the end start a character that they do not finish: 0 to 3. */
size_t utf8_open_end(const unsigned char *bytes, size_t n);
void utf8_append(struct text *out, uint32_t code);

/* unicode.c: bits of each character, from the ranges that tools/make_classes.py writes. */
enum unicode_class {
    UNICODE_LETTER = 1,        /* \p{L} */
    UNICODE_NUMBER = 2,        /* \p{N} */
    UNICODE_SPACE = 4,         /* \s */
    UNICODE_MARK = 8,          /* \p{M} */
    UNICODE_PUNCTUATION = 16,  /* \p{P} and \p{S} */
    UNICODE_WORD = 32,         /* \w */
    UNICODE_OPEN = 64,         /* form C may change it, or join it to what is before it */
};
struct unicode_range {
    uint32_t from, to;
    unsigned char bits;
};
#define UNICODE_CODES 0x110000
extern const struct unicode_range unicode_ranges[];
extern const size_t n_unicode_ranges;
extern unsigned char unicode_bits[UNICODE_CODES];   /* once unicode_prepare() was called */
void unicode_prepare(void);

/* The bits of the character at text[at], and its length; 0 and 0 at the end. Valid UTF-8 only. */
static inline unsigned unicode_bits_at(const unsigned char *text, size_t at, size_t n,
                                       size_t *length)
{
    if (at >= n)
        return (unsigned)(*length = 0);
    uint32_t code = text[at];
    if (code < 0x80) {
        *length = 1;
    } else if (code < 0xE0) {
        *length = 2;
        code = (code & 0x1F) << 6 | (text[at + 1] & 0x3Fu);
    } else if (code < 0xF0) {
        *length = 3;
        code = (code & 0x0F) << 12 | (text[at + 1] & 0x3Fu) << 6 | (text[at + 2] & 0x3Fu);
    } else {
        *length = 4;
        code = (code & 0x07) << 18 | (text[at + 1] & 0x3Fu) << 12 | (text[at + 2] & 0x3Fu) << 6 |
               (text[at + 3] & 0x3Fu);
    }
    return unicode_bits[code];
}

/* nfc.c: appends text[0..n) in Unicode's normalization form C; invalid bytes are kept. */
void nfc_append(struct text *out, const char *text, size_t n);
/* 1 when that would change nothing; 0 when it might. */
int nfc_is_plain(const char *text, size_t n);

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
