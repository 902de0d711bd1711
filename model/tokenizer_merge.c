/*
 * Byte pair encoding (Sennrich et al., 2016) of one piece: the pair of lowest rank, the leftmost of
 * equals, is merged until none is left. Short pieces look for the pair one by one and are
 * remembered; for long ones a heap of candidates keeps n bytes at n log n.
 */
#include <string.h>

#include "common/status.h"
#include "model/tokenizer_internal.h"

#define SHORT_PIECE 48        /* bytes: shorter ones need no heap */
#define SLOT_BITS 15
#define SLOT_BYTES 32         /* of the longest piece that is remembered */
#define SLOT_IDS 7
#define NO_RANK INT32_MAX
#define MIX 0x9E3779B97F4A7C15u

/* One cache line: a piece and its ids. n 0: empty. */
struct piece_slot {
    uint64_t key[SLOT_BYTES / 8];
    int32_t ids[SLOT_IDS];
    unsigned char n, n_ids;
};

void token_list_add(struct token_list *list, int32_t id)
{
    if (list->n == list->capacity) {
        list->capacity = list->capacity ? 2 * list->capacity : 64;
        list->ids = mem_resize(list->ids, list->capacity, sizeof(*list->ids));
    }
    list->ids[list->n++] = id;
}

void merge_scratch_release(struct merge_scratch *scratch)
{
    mem_free(scratch->symbols);
    mem_free(scratch->heap);
    mem_free(scratch->slots);
    memset(scratch, 0, sizeof(*scratch));
}

/* ---- The tables: open addressing, at most half full. */

static unsigned bits_for(size_t n)
{
    unsigned bits = 4;

    while (((size_t)1 << bits) < 2 * n)
        bits++;
    return bits;
}

static size_t merge_slot_of(const struct tokenizer *tokenizer, int32_t left, int32_t right)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t mask = ((size_t)1 << tokenizer->merge_bits) - 1;
    size_t at = ((key ^ key >> 29) * MIX) >> (64 - tokenizer->merge_bits);

    while (tokenizer->merges[at].left >= 0 &&
           (tokenizer->merges[at].left != left || tokenizer->merges[at].right != right))
        at = (at + 1) & mask;
    return at;
}

static const struct merge *find_merge(const struct tokenizer *tokenizer, int32_t left,
                                      int32_t right)
{
    const struct merge *merge = &tokenizer->merges[merge_slot_of(tokenizer, left, right)];

    return merge->left < 0 ? NULL : merge;
}

void tokenizer_build_merges(struct tokenizer *tokenizer, size_t n)
{
    tokenizer->merge_bits = bits_for(n);
    tokenizer->merges = mem_alloc((size_t)1 << tokenizer->merge_bits, sizeof(*tokenizer->merges));
    for (size_t i = 0; i < (size_t)1 << tokenizer->merge_bits; i++)
        tokenizer->merges[i].left = -1;
}

void tokenizer_put_merge(struct tokenizer *tokenizer, const struct merge *merge)
{
    tokenizer->merges[merge_slot_of(tokenizer, merge->left, merge->right)] = *merge;
}

static uint64_t hash_bytes(const char *bytes, size_t n)
{
    uint64_t hash = n;

    for (size_t i = 0; i < n; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * 0x100000001B3u;
    return hash * MIX;
}

/* The slot of the token with these bytes, or the empty one where it belongs. */
static int32_t *whole_slot(const struct tokenizer *tokenizer, const char *bytes, size_t n)
{
    size_t mask = ((size_t)1 << tokenizer->whole_bits) - 1;
    size_t at = hash_bytes(bytes, n) >> (64 - tokenizer->whole_bits);

    for (; tokenizer->wholes[at] >= 0; at = (at + 1) & mask) {
        const struct token *token = &tokenizer->tokens[tokenizer->wholes[at]];
        if (token->n == n && memcmp(tokenizer->bytes.data + token->offset, bytes, n) == 0)
            break;
    }
    return &tokenizer->wholes[at];
}

void tokenizer_build_wholes(struct tokenizer *tokenizer)
{
    struct text bytes = {0};
    const char *text;
    json_t *value;

    tokenizer->whole_bits = bits_for(json_object_size(tokenizer->vocab));
    tokenizer->wholes = mem_alloc((size_t)1 << tokenizer->whole_bits, sizeof(int32_t));
    memset(tokenizer->wholes, 0xFF, ((size_t)1 << tokenizer->whole_bits) * sizeof(int32_t));
    json_object_foreach((json_t *)(uintptr_t)tokenizer->vocab, text, value) {
        text_clear(&bytes);
        if (alphabet_decode(&bytes, text) && bytes.length)
            *whole_slot(tokenizer, bytes.data, bytes.length) = (int32_t)json_integer_value(value);
    }
    text_release(&bytes);
}

/* ---- Long pieces */

static int comes_before(const struct merge_candidate *a, const struct merge_candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->position < b->position;
}

static void push_candidate(struct merge_scratch *scratch, struct merge_candidate candidate)
{
    if (scratch->n_heap == scratch->capacity_heap) {
        scratch->capacity_heap = scratch->capacity_heap ? 2 * scratch->capacity_heap : 64;
        scratch->heap = mem_resize(scratch->heap, scratch->capacity_heap, sizeof(candidate));
    }
    size_t i = scratch->n_heap++;
    while (i && comes_before(&candidate, &scratch->heap[(i - 1) / 2])) {
        scratch->heap[i] = scratch->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    scratch->heap[i] = candidate;
}

static struct merge_candidate pop_candidate(struct merge_scratch *scratch)
{
    struct merge_candidate top = scratch->heap[0], last = scratch->heap[--scratch->n_heap];
    size_t i = 0, n = scratch->n_heap;

    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= n)
            break;
        if (child + 1 < n && comes_before(&scratch->heap[child + 1], &scratch->heap[child]))
            child++;
        if (!comes_before(&scratch->heap[child], &last))
            break;
        scratch->heap[i] = scratch->heap[child];
        i = child;
    }
    scratch->heap[i] = last;
    return top;
}

static void consider(const struct tokenizer *tokenizer, struct merge_scratch *scratch,
                     int32_t position)
{
    const struct merge_symbol *symbol = &scratch->symbols[position];

    if (symbol->next < 0)
        return;
    const struct merge *merge = find_merge(tokenizer, symbol->id,
                                           scratch->symbols[symbol->next].id);
    if (merge)
        push_candidate(scratch, (struct merge_candidate){merge->rank, position, merge->merged});
}

/* A candidate whose pair has changed since is dropped. */
static void apply(const struct tokenizer *tokenizer, struct merge_scratch *scratch,
                  const struct merge_candidate *candidate)
{
    struct merge_symbol *left = &scratch->symbols[candidate->position];

    if (left->id < 0 || left->next < 0)
        return;
    struct merge_symbol *right = &scratch->symbols[left->next];
    const struct merge *merge = find_merge(tokenizer, left->id, right->id);
    if (!merge || merge->merged != candidate->merged)
        return;
    left->id = candidate->merged;
    left->next = right->next;
    right->id = -1;
    if (left->next >= 0)
        scratch->symbols[left->next].previous = candidate->position;
    if (left->previous >= 0)
        consider(tokenizer, scratch, left->previous);
    consider(tokenizer, scratch, candidate->position);
}

static void merge_long(const struct tokenizer *tokenizer, struct merge_scratch *scratch,
                       const char *piece, size_t n, struct token_list *out)
{
    if (n > scratch->capacity_symbols) {
        scratch->symbols = mem_resize(scratch->symbols, n, sizeof(*scratch->symbols));
        scratch->capacity_symbols = n;
    }
    for (size_t i = 0; i < n; i++) {
        scratch->symbols[i].id = tokenizer->byte_ids[(unsigned char)piece[i]];
        scratch->symbols[i].previous = (int32_t)i - 1;
        scratch->symbols[i].next = i + 1 < n ? (int32_t)i + 1 : -1;
    }
    scratch->n_heap = 0;
    for (size_t i = 0; i + 1 < n; i++)
        consider(tokenizer, scratch, (int32_t)i);
    while (scratch->n_heap) {
        struct merge_candidate top = pop_candidate(scratch);
        apply(tokenizer, scratch, &top);
    }
    for (int32_t i = 0; i >= 0; i = scratch->symbols[i].next)
        token_list_add(out, scratch->symbols[i].id);
}

/* ---- Short pieces */

struct short_symbol {
    int32_t id, rank, merged;   /* rank and result of the pair with the next one */
};

static void look_up_pair(const struct tokenizer *tokenizer, struct short_symbol *pair, size_t rest)
{
    const struct merge *merge = rest > 1 ? find_merge(tokenizer, pair[0].id, pair[1].id) : NULL;

    pair->rank = merge ? merge->rank : NO_RANK;
    pair->merged = merge ? merge->merged : -1;
}

static void merge_short(const struct tokenizer *tokenizer, const char *piece, size_t n,
                        struct token_list *out)
{
    struct short_symbol symbols[SHORT_PIECE];

    for (size_t i = 0; i < n; i++)
        symbols[i].id = tokenizer->byte_ids[(unsigned char)piece[i]];
    for (size_t i = 0; i < n; i++)
        look_up_pair(tokenizer, &symbols[i], n - i);
    for (;;) {
        size_t best = 0;
        for (size_t i = 1; i < n; i++)
            if (symbols[i].rank < symbols[best].rank)
                best = i;
        if (symbols[best].rank == NO_RANK)
            break;
        symbols[best].id = symbols[best].merged;
        n--;
        memmove(symbols + best + 1, symbols + best + 2, (n - best - 1) * sizeof(*symbols));
        look_up_pair(tokenizer, &symbols[best], n - best);
        if (best)
            look_up_pair(tokenizer, &symbols[best - 1], n - best + 1);
    }
    for (size_t i = 0; i < n; i++)
        token_list_add(out, symbols[i].id);
}

/* ---- Pieces */

static uint64_t load_bytes(const char *bytes, size_t n)
{
    uint64_t value = 0;

    memcpy(&value, bytes, n);
    return value;
}

/* Distinct for pieces of equal length: loads of 8 bytes, the last one up to the end. */
static void fill_key(uint64_t key[4], const char *piece, size_t n)
{
    key[0] = key[1] = key[2] = key[3] = 0;
    if (n < 4) {
        key[0] = (uint64_t)(unsigned char)piece[0] | (uint64_t)(unsigned char)piece[n / 2] << 8 |
                 (uint64_t)(unsigned char)piece[n - 1] << 16;
    } else if (n < 8) {
        key[0] = load_bytes(piece, 4) | load_bytes(piece + n - 4, 4) << 32;
    } else {
        size_t last = (n - 1) / 8;
        for (size_t i = 0; i < last; i++)
            key[i] = load_bytes(piece + 8 * i, 8);
        key[last] = load_bytes(piece + n - 8, 8);
    }
}

static struct piece_slot *find_slot(struct merge_scratch *scratch, const uint64_t key[4], size_t n)
{
    uint64_t hash = (key[0] + n) * MIX;

    hash = (hash ^ hash >> 32 ^ key[1]) * MIX;
    hash = (hash ^ hash >> 32 ^ key[2] ^ key[3] * 3) * MIX;
    if (!scratch->slots)
        scratch->slots = mem_alloc((size_t)1 << SLOT_BITS, sizeof(*scratch->slots));
    return &scratch->slots[hash >> (64 - SLOT_BITS)];
}

static int merge_new(const struct tokenizer *tokenizer, struct merge_scratch *scratch,
                     const char *piece, size_t n, struct token_list *out)
{
    if (tokenizer->ignore_merges) {   /* a piece that is a token counts as it stands */
        int32_t id = *whole_slot(tokenizer, piece, n);
        if (id >= 0) {
            token_list_add(out, id);
            return STATUS_OK;
        }
    }
    for (size_t i = 0; i < n; i++)
        if (tokenizer->byte_ids[(unsigned char)piece[i]] < 0)
            return status_fail(STATUS_FORMAT, "%s: the vocabulary has no token for byte 0x%02X",
                               tokenizer->where, (unsigned char)piece[i]);
    if (n <= SHORT_PIECE)
        merge_short(tokenizer, piece, n, out);
    else
        merge_long(tokenizer, scratch, piece, n, out);
    return STATUS_OK;
}

int tokenizer_merge(const struct tokenizer *tokenizer, struct merge_scratch *scratch,
                    const char *piece, size_t n, struct token_list *out)
{
    uint64_t key[4];
    size_t n_before = out->n;

    if (!n)
        return STATUS_OK;
    if (n > SLOT_BYTES)
        return merge_new(tokenizer, scratch, piece, n, out);
    fill_key(key, piece, n);
    struct piece_slot *slot = find_slot(scratch, key, n);
    if (slot->n == n && memcmp(slot->key, key, sizeof(key)) == 0) {
        for (size_t i = 0; i < slot->n_ids; i++)
            token_list_add(out, slot->ids[i]);
        return STATUS_OK;
    }
    TRY(merge_new(tokenizer, scratch, piece, n, out));
    size_t n_ids = out->n - n_before;
    if (n_ids <= SLOT_IDS) {
        memcpy(slot->key, key, sizeof(key));
        memcpy(slot->ids, out->ids + n_before, n_ids * sizeof(*slot->ids));
        slot->n = (unsigned char)n;
        slot->n_ids = (unsigned char)n_ids;
    }
    return STATUS_OK;
}
