/*
 * Added tokens: read, matched, and the flags single_word, lstrip and rstrip as Hugging Face's
 * library reads them.
 */
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/status.h"
#include "model/tokenizer_internal.h"

#define MAX_ADDED_BYTES 1024

static int parse_added_token(struct tokenizer *tokenizer, const json_t *value)
{
    const char *content;
    int special = 0, normalized = 1, id = 0;
    struct added_token added = {0};

    TRY(json_get_text(value, "content", tokenizer->where, &content));
    TRY(tokenizer_read_id(tokenizer, json_object_get(value, "id"), content, &id));
    TRY(json_get_bool_or(value, "single_word", tokenizer->where, 0, &added.single_word));
    TRY(json_get_bool_or(value, "lstrip", tokenizer->where, 0, &added.lstrip));
    TRY(json_get_bool_or(value, "rstrip", tokenizer->where, 0, &added.rstrip));
    TRY(json_get_bool_or(value, "special", tokenizer->where, 0, &special));
    TRY(json_get_bool_or(value, "normalized", tokenizer->where, !special, &normalized));
    size_t n = strlen(content);
    if (n < 1 || n > MAX_ADDED_BYTES)
        return status_fail(STATUS_FORMAT, "%s: added token %d has %zu bytes; 1 to %d are wanted",
                           tokenizer->where, id, n, MAX_ADDED_BYTES);
    const json_t *in_vocab = json_object_get(tokenizer->vocab, content);
    if (in_vocab && json_integer_value(in_vocab) != id)
        return status_fail(STATUS_FORMAT, "%s: added token \"%.64s\" has id %d, but %lld in the "
                           "vocabulary", tokenizer->where, content, id,
                           (long long)json_integer_value(in_vocab));
    if (!in_vocab || tokenizer->tokens[id].is_added)
        TRY(tokenizer_place_token(tokenizer, id, content));
    tokenizer->tokens[id].is_added = 1;
    tokenizer->tokens[id].is_special = special;
    struct added_set *set = &tokenizer->added[normalized ? 1 : 0];
    added.content = mem_copy_text(content);
    added.n = n;
    added.id = id;
    set->tokens[set->n++] = added;
    return STATUS_OK;
}

int tokenizer_parse_added(struct tokenizer *tokenizer, const json_t *added)
{
    size_t i;
    json_t *value;

    for (int k = 0; k < 2; k++)
        tokenizer->added[k].tokens = mem_alloc(json_array_size(added), sizeof(struct added_token));
    json_array_foreach(added, i, value)
        TRY(parse_added_token(tokenizer, value));
    return STATUS_OK;
}

void added_set_release(struct added_set *set)
{
    for (size_t i = 0; i < set->n; i++)
        mem_free(set->tokens[i].content);
    mem_free(set->tokens);
    set->n = 0;
}

static int compare_added(const void *a, const void *b)
{
    return strcmp(((const struct added_token *)a)->content,
                  ((const struct added_token *)b)->content);
}

static int sort_set(const struct tokenizer *tokenizer, struct added_set *set)
{
    size_t i = 0;

    qsort(set->tokens, set->n, sizeof(*set->tokens), compare_added);
    for (size_t k = 1; k < set->n; k++)
        if (strcmp(set->tokens[k].content, set->tokens[k - 1].content) == 0)
            return status_fail(STATUS_FORMAT, "%s: added token \"%.64s\" has two ids",
                               tokenizer->where, set->tokens[k].content);
    for (int byte = 0; byte <= 256; byte++) {
        while (i < set->n && (unsigned char)set->tokens[i].content[0] < byte)
            i++;
        set->starts[byte] = i;
    }
    return STATUS_OK;
}

int tokenizer_sort_added(struct tokenizer *tokenizer)
{
    struct added_set *normalized = &tokenizer->added[1];

    for (size_t i = 0; tokenizer->nfc && i < normalized->n; i++) {
        struct added_token *added = &normalized->tokens[i];
        struct text content = {0};
        nfc_append(&content, added->content, added->n);
        mem_free(added->content);
        added->content = content.data;
        added->n = content.length;
    }
    TRY(sort_set(tokenizer, &tokenizer->added[0]));
    return sort_set(tokenizer, normalized);
}

/* Its tokens lie together at every length. */
const struct added_token *added_set_match(const struct added_set *set, const char *text, size_t n)
{
    unsigned char first = (unsigned char)text[0];
    size_t low = set->starts[first], high = set->starts[first + 1];
    const struct added_token *best = NULL;

    for (size_t depth = 1; low < high; depth++) {
        if (set->tokens[low].n == depth)
            best = &set->tokens[low++];   /* it has no byte at this depth */
        if (depth == n)
            break;
        unsigned char wanted = (unsigned char)text[depth];
        size_t from = low, to = high;
        while (from < to) {   /* the first whose byte at depth is not below */
            size_t middle = from + (to - from) / 2;
            if ((unsigned char)set->tokens[middle].content[depth] < wanted)
                from = middle + 1;
            else
                to = middle;
        }
        low = from;
        to = high;
        while (from < to) {   /* the first whose byte is above */
            size_t middle = from + (to - from) / 2;
            if ((unsigned char)set->tokens[middle].content[depth] <= wanted)
                from = middle + 1;
            else
                to = middle;
        }
        high = from;
    }
    return best;
}

/* The bits of the valid character that ends at text[at], or 0; *length is its length. */
static unsigned bits_before(const char *text, size_t at, size_t *length)
{
    const unsigned char *bytes = (const unsigned char *)text;

    for (size_t back = 1; back <= 4 && back <= at; back++)
        if (utf8_length(bytes + at - back, back) == back)
            return unicode_bits_at(bytes, at - back, at, length);
    *length = 0;
    return 0;
}

static unsigned bits_after(const char *text, size_t n, size_t at, size_t *length)
{
    const unsigned char *bytes = (const unsigned char *)text;

    *length = 0;
    return utf8_length(bytes + at, n - at) ? unicode_bits_at(bytes, at, n, length) : 0;
}

int added_token_counts(const struct added_token *token, const char *text, size_t n, size_t start,
                       size_t end)
{
    size_t length;

    return !token->single_word || !((bits_before(text, start, &length) & UNICODE_WORD) ||
                                    (bits_after(text, n, end, &length) & UNICODE_WORD));
}

size_t blanks_before(const char *text, size_t at)
{
    size_t length;

    while (bits_before(text, at, &length) & UNICODE_SPACE)
        at -= length;
    return at;
}

size_t blanks_after(const char *text, size_t n, size_t at)
{
    size_t length;

    while (bits_after(text, n, at, &length) & UNICODE_SPACE)
        at += length;
    return at;
}
