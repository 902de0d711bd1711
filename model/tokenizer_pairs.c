/*
 * The pair that occurs most often is merged, again and again. Counts of pairs are kept up to date,
 * and each pair knows the pieces where it came up; a heap has the most frequent on top, of equals
 * the pair of smaller ids. An entry whose count is out of date goes back with the new one. The heap
 * may hold a pair twice, with different pieces: a token that two pairs make comes up at two times.
 */
#include "model/tokenizer_pairs.h"

#include <stdlib.h>
#include <string.h>

#include "common/status.h"
#include "model/tokenizer_internal.h"

#define FIRST_BITS 16

struct piece_list {
    uint32_t *items;
    size_t n, capacity;
};

struct pair_count {
    int32_t left, right;   /* left -1: an empty slot */
    int64_t count;
    struct piece_list fresh;   /* pieces where it came up in this merge */
};

struct heap_entry {
    int64_t count;
    int32_t left, right;
    uint64_t order;   /* of equal pairs the older one first */
    struct piece_list pieces;
};

struct training {
    struct pair_table *table;
    const struct trained_piece *pieces;
    size_t n_pieces;
    int32_t *symbols;    /* as long as all bytes together, each piece at its offset */
    uint32_t *lengths;
    struct pair_count *pairs;
    size_t n_pairs;
    unsigned pair_bits;
    struct heap_entry *heap;
    size_t n_heap, heap_capacity;
    uint64_t n_entries;
    uint64_t *changed;   /* left << 32 | right of the pairs that have fresh pieces */
    size_t n_changed, changed_capacity;
    int32_t *names;      /* id + 1 by the text of a token */
    unsigned name_bits;
};

/* ---- Names */

static int32_t *find_name(const struct training *training, const char *text)
{
    size_t mask = ((size_t)1 << training->name_bits) - 1;
    uint64_t hash = 0;

    for (const char *at = text; *at; at++)
        hash = (hash ^ (unsigned char)*at) * 0x100000001B3u;
    size_t slot = (hash * 0x9E3779B97F4A7C15u) >> (64 - training->name_bits);
    while (training->names[slot] &&
           strcmp(training->table->tokens[training->names[slot] - 1], text) != 0)
        slot = (slot + 1) & mask;
    return &training->names[slot];
}

static int32_t add_token(struct training *training, const char *text)
{
    struct pair_table *table = training->table;
    int32_t *name = find_name(training, text);

    if (!*name) {
        table->tokens[table->n_tokens++] = mem_copy_text(text);
        *name = (int32_t)table->n_tokens;
    }
    return *name - 1;
}

/* ---- Counts of pairs */

static struct pair_count *find_pair(const struct training *training, int32_t left, int32_t right)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t mask = ((size_t)1 << training->pair_bits) - 1;
    size_t slot = ((key ^ key >> 29) * 0x9E3779B97F4A7C15u) >> (64 - training->pair_bits);

    while (training->pairs[slot].left >= 0 &&
           (training->pairs[slot].left != left || training->pairs[slot].right != right))
        slot = (slot + 1) & mask;
    return &training->pairs[slot];
}

static void resize_pairs(struct training *training, unsigned bits)
{
    struct pair_count *old = training->pairs;
    size_t n_old = old ? (size_t)1 << training->pair_bits : 0;

    training->pair_bits = bits;
    training->pairs = mem_alloc((size_t)1 << bits, sizeof(*training->pairs));
    for (size_t i = 0; i < (size_t)1 << bits; i++)
        training->pairs[i].left = -1;
    for (size_t i = 0; i < n_old; i++)
        if (old[i].left >= 0)
            *find_pair(training, old[i].left, old[i].right) = old[i];
    mem_free(old);
}

static void note_changed(struct training *training, int32_t left, int32_t right)
{
    if (training->n_changed == training->changed_capacity) {
        training->changed_capacity = training->changed_capacity ? 2 * training->changed_capacity
                                                                : 1024;
        training->changed = mem_resize(training->changed, training->changed_capacity,
                                       sizeof(*training->changed));
    }
    training->changed[training->n_changed++] =
        (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static void change_pair(struct training *training, int32_t left, int32_t right, int64_t change,
                        uint32_t piece)
{
    struct pair_count *pair = find_pair(training, left, right);

    if (pair->left < 0) {
        *pair = (struct pair_count){.left = left, .right = right};
        if (2 * ++training->n_pairs > (size_t)1 << training->pair_bits) {
            resize_pairs(training, training->pair_bits + 1);
            pair = find_pair(training, left, right);
        }
    }
    pair->count += change;
    if (change <= 0)
        return;
    struct piece_list *fresh = &pair->fresh;
    if (!fresh->n)
        note_changed(training, left, right);
    else if (fresh->items[fresh->n - 1] == piece)   /* pieces come one after another */
        return;
    if (fresh->n == fresh->capacity) {
        fresh->capacity = fresh->capacity ? 2 * fresh->capacity : 2;
        fresh->items = mem_resize(fresh->items, fresh->capacity, sizeof(*fresh->items));
    }
    fresh->items[fresh->n++] = piece;
}

/* ---- The heap */

static int comes_before(const struct heap_entry *a, const struct heap_entry *b)
{
    if (a->count != b->count)
        return a->count > b->count;
    if (a->left != b->left)
        return a->left < b->left;
    return a->right != b->right ? a->right < b->right : a->order < b->order;
}

static void push(struct training *training, struct heap_entry entry)
{
    if (training->n_heap == training->heap_capacity) {
        training->heap_capacity = training->heap_capacity ? 2 * training->heap_capacity : 1024;
        training->heap = mem_resize(training->heap, training->heap_capacity,
                                    sizeof(*training->heap));
    }
    size_t i = training->n_heap++;
    while (i && comes_before(&entry, &training->heap[(i - 1) / 2])) {
        training->heap[i] = training->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    training->heap[i] = entry;
}

static struct heap_entry pop(struct training *training)
{
    struct heap_entry top = training->heap[0], last = training->heap[--training->n_heap];
    size_t i = 0, child;

    while ((child = 2 * i + 1) < training->n_heap) {
        if (child + 1 < training->n_heap &&
            comes_before(&training->heap[child + 1], &training->heap[child]))
            child++;
        if (!comes_before(&training->heap[child], &last))
            break;
        training->heap[i] = training->heap[child];
        i = child;
    }
    training->heap[i] = last;
    return top;
}

static void push_changed(struct training *training)
{
    for (size_t i = 0; i < training->n_changed; i++) {
        struct pair_count *pair = find_pair(training, (int32_t)(training->changed[i] >> 32),
                                            (int32_t)(training->changed[i] & UINT32_MAX));
        if (pair->count > 0)
            push(training, (struct heap_entry){pair->count, pair->left, pair->right,
                                               training->n_entries++, pair->fresh});
        else
            mem_free(pair->fresh.items);
        pair->fresh = (struct piece_list){0};
    }
    training->n_changed = 0;
}

/* ---- Training */

static void merge_in_piece(struct training *training, const struct heap_entry *entry,
                           int32_t merged, uint32_t piece)
{
    int32_t *symbols = training->symbols + training->pieces[piece].offset;
    int64_t count = training->pieces[piece].count;
    size_t n = training->lengths[piece], kept = 0;

    for (size_t i = 0; i < n; i++) {
        if (symbols[i] != entry->left || i + 1 >= n || symbols[i + 1] != entry->right) {
            symbols[kept++] = symbols[i];
            continue;
        }
        if (kept) {
            change_pair(training, symbols[kept - 1], entry->left, -count, piece);
            change_pair(training, symbols[kept - 1], merged, count, piece);
        }
        if (i + 2 < n) {
            change_pair(training, entry->right, symbols[i + 2], -count, piece);
            change_pair(training, merged, symbols[i + 2], count, piece);
        }
        symbols[kept++] = merged;
        i++;
    }
    training->lengths[piece] = (uint32_t)kept;
}

static void start_pieces(struct training *training, const char *bytes, const int32_t byte_ids[256])
{
    for (size_t i = 0; i < training->n_pieces; i++) {
        const struct trained_piece *piece = &training->pieces[i];
        int32_t *symbols = training->symbols + piece->offset;
        training->lengths[i] = piece->n;
        for (size_t k = 0; k < piece->n; k++)
            symbols[k] = byte_ids[(unsigned char)bytes[piece->offset + k]];
        for (size_t k = 0; k + 1 < piece->n; k++)
            change_pair(training, symbols[k], symbols[k + 1], piece->count, (uint32_t)i);
    }
    push_changed(training);
}

/* Special tokens, then the bytes by the code of their character. */
static void start_tokens(struct training *training, const char *const *specials,
                         size_t n_specials, int32_t byte_ids[256])
{
    for (size_t i = 0; i < n_specials; i++)
        add_token(training, specials[i]);
    for (uint32_t code = 0; code < 512; code++)
        for (int byte = 0; byte < 256; byte++)
            if (alphabet_of((unsigned char)byte) == code) {
                struct text name = {0};
                utf8_append(&name, code);
                byte_ids[byte] = add_token(training, name.data);
                text_release(&name);
            }
}

static void merge_pair(struct training *training, const struct heap_entry *entry)
{
    struct pair_table *table = training->table;
    struct text name = {0};

    text_print(&name, "%s%s", table->tokens[entry->left], table->tokens[entry->right]);
    size_t n_before = table->n_tokens;
    int32_t merged = add_token(training, name.data);
    text_release(&name);
    for (size_t i = 0; table->n_tokens == n_before && i < table->n_merges; i++)
        if (table->merges[i].left == entry->left && table->merges[i].right == entry->right)
            table->merges[i].is_repeated = 1;
    table->merges = mem_resize(table->merges, table->n_merges + 1, sizeof(*table->merges));
    table->merges[table->n_merges++] =
        (struct trained_merge){entry->left, entry->right, merged, 0};
    for (size_t i = 0; i < entry->pieces.n; i++)
        merge_in_piece(training, entry, merged, entry->pieces.items[i]);
    push_changed(training);
}

static void run(struct training *training, size_t vocab_size)
{
    while (training->table->n_tokens < vocab_size && training->n_heap) {
        struct heap_entry top = pop(training);
        int64_t count = find_pair(training, top.left, top.right)->count;
        if (top.count != count) {
            top.count = count;
            push(training, top);
            continue;
        }
        if (count >= 1)
            merge_pair(training, &top);
        mem_free(top.pieces.items);
        if (count < 1)
            break;
    }
}

int pair_table_train(struct pair_table *out, const struct trained_piece *pieces, size_t n_pieces,
                     const char *bytes, const char *const *specials, size_t n_specials,
                     int vocab_size)
{
    struct training training = {.table = out, .pieces = pieces, .n_pieces = n_pieces};
    int32_t byte_ids[256];
    size_t n_bytes = n_pieces ? pieces[n_pieces - 1].offset + pieces[n_pieces - 1].n : 0;

    memset(out, 0, sizeof(*out));
    out->tokens = mem_alloc((size_t)vocab_size + 256, sizeof(*out->tokens));
    training.symbols = mem_alloc(n_bytes, sizeof(*training.symbols));
    training.lengths = mem_alloc(n_pieces, sizeof(*training.lengths));
    for (training.name_bits = 10; (1 << training.name_bits) < 2 * (vocab_size + 256);)
        training.name_bits++;
    training.names = mem_alloc((size_t)1 << training.name_bits, sizeof(*training.names));
    resize_pairs(&training, FIRST_BITS);
    start_tokens(&training, specials, n_specials, byte_ids);
    start_pieces(&training, bytes, byte_ids);
    run(&training, (size_t)vocab_size);
    for (size_t i = 0; i < training.n_heap; i++)
        mem_free(training.heap[i].pieces.items);
    mem_free(training.heap);
    mem_free(training.pairs);
    mem_free(training.changed);
    mem_free(training.names);
    mem_free(training.symbols);
    mem_free(training.lengths);
    return STATUS_OK;
}

void pair_table_release(struct pair_table *table)
{
    for (size_t i = 0; i < table->n_tokens; i++)
        mem_free(table->tokens[i]);
    mem_free(table->tokens);
    mem_free(table->merges);
    memset(table, 0, sizeof(*table));
}
