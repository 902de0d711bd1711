/*
 * Byte pair encoding (Sennrich et al., 2016) of one piece: the pair of lowest rank, the leftmost of
 * equals, is merged until none is left. A heap of candidates keeps a piece of n bytes at n log n;
 * a candidate whose pair has changed since is dropped when it comes up.
 */
#include <string.h>

#include "common/status.h"
#include "model/tokenizer_internal.h"

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
    text_release(&scratch->mapped);
    memset(scratch, 0, sizeof(*scratch));
}

static const struct merge *find_merge(const struct tokenizer *tokenizer, int32_t left,
                                      int32_t right)
{
    uint32_t low = tokenizer->merge_starts[left], high = tokenizer->merge_starts[left + 1];

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (tokenizer->merges[middle].right == right)
            return &tokenizer->merges[middle];
        if (tokenizer->merges[middle].right < right)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

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

static int start_symbols(const struct tokenizer *tokenizer, struct merge_scratch *scratch,
                         const char *piece, size_t n)
{
    if (n > scratch->capacity_symbols) {
        scratch->symbols = mem_resize(scratch->symbols, n, sizeof(*scratch->symbols));
        scratch->capacity_symbols = n;
    }
    for (size_t i = 0; i < n; i++) {
        int32_t id = tokenizer->byte_ids[(unsigned char)piece[i]];
        if (id < 0)
            return status_fail(STATUS_FORMAT, "%s: the vocabulary has no token for byte 0x%02X",
                               tokenizer->where, (unsigned char)piece[i]);
        scratch->symbols[i].id = id;
        scratch->symbols[i].previous = (int32_t)i - 1;
        scratch->symbols[i].next = i + 1 < n ? (int32_t)i + 1 : -1;
    }
    return STATUS_OK;
}

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

/* A piece that is a token as it stands, whatever the merges would make of it. */
static int32_t find_whole(const struct tokenizer *tokenizer, struct merge_scratch *scratch,
                          const char *piece, size_t n)
{
    text_clear(&scratch->mapped);
    for (size_t i = 0; i < n; i++)
        alphabet_append(&scratch->mapped, (unsigned char)piece[i]);
    const json_t *id = json_object_get(tokenizer->vocab, scratch->mapped.data);
    return id ? (int32_t)json_integer_value(id) : -1;
}

int tokenizer_merge(const struct tokenizer *tokenizer, struct merge_scratch *scratch,
                    const char *piece, size_t n, struct token_list *out)
{
    if (!n)
        return STATUS_OK;
    if (tokenizer->ignore_merges) {
        int32_t id = find_whole(tokenizer, scratch, piece, n);
        if (id >= 0) {
            token_list_add(out, id);
            return STATUS_OK;
        }
    }
    TRY(start_symbols(tokenizer, scratch, piece, n));
    scratch->n_heap = 0;
    for (size_t i = 0; i + 1 < n; i++)
        consider(tokenizer, scratch, (int32_t)i);
    while (scratch->n_heap) {
        struct merge_candidate top = pop_candidate(scratch);
        apply(tokenizer, scratch, &top);
    }
    for (int32_t i = 0; i >= 0; i = scratch->symbols[i].next)
        token_list_add(out, scratch->symbols[i].id);
    return STATUS_OK;
}
