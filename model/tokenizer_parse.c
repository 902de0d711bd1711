/* The vocabulary, the merges and the added tokens of a tokenizer.json. */
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/status.h"
#include "model/tokenizer_internal.h"

#define MAX_ID 10000000
#define MAX_ADDED_BYTES 1024
#define MAX_MERGES (1 << 26)

static int read_id(const struct tokenizer *tokenizer, const json_t *value, const char *token,
                   int *id)
{
    json_int_t number = json_integer_value(value);

    if (!json_is_integer(value) || number < 0 || number > MAX_ID)
        return status_fail(STATUS_FORMAT, "%s: token \"%.64s\": its id is not a number of 0 to %d",
                           tokenizer->where, token, MAX_ID);
    *id = (int)number;
    return STATUS_OK;
}

static int place_token(struct tokenizer *tokenizer, int id, const char *text)
{
    struct token *token = &tokenizer->tokens[id];

    if (token->text)
        return status_fail(STATUS_FORMAT, "%s: id %d belongs to both \"%.64s\" and \"%.64s\"",
                           tokenizer->where, id, token->text, text);
    token->text = text;
    return STATUS_OK;
}

static int find_largest_id(struct tokenizer *tokenizer, const json_t *added)
{
    int id = 0, largest = -1;
    const char *text;
    json_t *value;
    size_t i;

    json_object_foreach((json_t *)(uintptr_t)tokenizer->vocab, text, value) {
        TRY(read_id(tokenizer, value, text, &id));
        largest = id > largest ? id : largest;
    }
    json_array_foreach(added, i, value) {
        TRY(json_get_text(value, "content", tokenizer->where, &text));
        TRY(read_id(tokenizer, json_object_get(value, "id"), text, &id));
        largest = id > largest ? id : largest;
    }
    tokenizer->vocab_size = largest + 1;
    return STATUS_OK;
}

static int parse_vocab(struct tokenizer *tokenizer)
{
    const char *text;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)tokenizer->vocab, text, value)
        TRY(place_token(tokenizer, (int)json_integer_value(value), text));
    return STATUS_OK;
}

static int refuse_flag(const struct tokenizer *tokenizer, const json_t *object, const char *key,
                       const char *of)
{
    int on = 0;

    TRY(json_get_bool_or(object, key, tokenizer->where, 0, &on));
    if (on)
        return status_fail(STATUS_UNSUPPORTED, "%s: \"%s\" of %.64s is true; only false is "
                           "supported", tokenizer->where, key, of);
    return STATUS_OK;
}

static int parse_added_token(struct tokenizer *tokenizer, const json_t *value)
{
    const char *content;
    int special = 0, normalized = 1, id = 0;

    TRY(json_get_text(value, "content", tokenizer->where, &content));
    TRY(read_id(tokenizer, json_object_get(value, "id"), content, &id));
    TRY(refuse_flag(tokenizer, value, "single_word", content));
    TRY(refuse_flag(tokenizer, value, "lstrip", content));
    TRY(refuse_flag(tokenizer, value, "rstrip", content));
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
        TRY(place_token(tokenizer, id, content));
    tokenizer->tokens[id].is_added = 1;
    tokenizer->tokens[id].is_special = special;
    struct added_set *set = &tokenizer->added[normalized ? 1 : 0];
    set->tokens[set->n++] = (struct added_token){content, n, id};
    return STATUS_OK;
}

static int compare_added(const void *a, const void *b)
{
    return strcmp(((const struct added_token *)a)->content,
                  ((const struct added_token *)b)->content);
}

static int sort_added(const struct tokenizer *tokenizer, struct added_set *set)
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

static int parse_added(struct tokenizer *tokenizer, const json_t *added)
{
    size_t i;
    json_t *value;

    for (int k = 0; k < 2; k++)
        tokenizer->added[k].tokens = mem_alloc(json_array_size(added), sizeof(struct added_token));
    json_array_foreach(added, i, value)
        TRY(parse_added_token(tokenizer, value));
    TRY(sort_added(tokenizer, &tokenizer->added[0]));
    return sort_added(tokenizer, &tokenizer->added[1]);
}

/* What each token decodes to, and which token stands for each byte. */
static void fill_bytes(struct tokenizer *tokenizer)
{
    struct text name = {0};

    for (int id = 0; id < tokenizer->vocab_size; id++) {
        struct token *token = &tokenizer->tokens[id];
        token->offset = tokenizer->bytes.length;
        if (token->text && token->is_added)
            text_append(&tokenizer->bytes, token->text, strlen(token->text));
        else if (token->text)
            alphabet_decode(&tokenizer->bytes, token->text);
        token->n = (uint32_t)(tokenizer->bytes.length - token->offset);
    }
    for (int byte = 0; byte < 256; byte++) {
        text_clear(&name);
        alphabet_append(&name, (unsigned char)byte);
        const json_t *id = json_object_get(tokenizer->vocab, name.data);
        tokenizer->byte_ids[byte] = id ? (int32_t)json_integer_value(id) : -1;
    }
    text_release(&name);
}

struct parsed_merge {
    int32_t left;
    struct merge merge;
};

/* "a b" or ["a", "b"]: the two halves into `pair`, one after the other, NUL between. */
static int split_merge(const json_t *value, struct text *pair, const char **left,
                       const char **right)
{
    const char *text = json_string_value(value);

    *left = json_string_value(json_array_get(value, 0));
    *right = json_string_value(json_array_get(value, 1));
    if (json_is_array(value))
        return json_array_size(value) == 2 && *left && *right;
    const char *blank = text ? strchr(text, ' ') : NULL;
    if (!blank || strchr(blank + 1, ' '))
        return 0;
    text_clear(pair);
    text_append(pair, text, (size_t)(blank - text));
    text_append(pair, "", 1);
    text_append(pair, blank + 1, strlen(blank + 1));
    *left = pair->data;
    *right = pair->data + (blank - text) + 1;
    return 1;
}

static int find_part(const struct tokenizer *tokenizer, size_t rank, const char *text, int32_t *id)
{
    const json_t *value = json_object_get(tokenizer->vocab, text);

    if (!value)
        return status_fail(STATUS_FORMAT, "%s: merge %zu names \"%.64s\", which is not in the "
                           "vocabulary", tokenizer->where, rank, text);
    *id = (int32_t)json_integer_value(value);
    return STATUS_OK;
}

static int parse_merge(const struct tokenizer *tokenizer, const json_t *value, size_t rank,
                       struct text *scratch, struct parsed_merge *out)
{
    const char *left, *right;
    struct text joined = {0};

    if (!split_merge(value, scratch, &left, &right))
        return status_fail(STATUS_FORMAT, "%s: merge %zu is neither \"a b\" nor [\"a\", \"b\"]",
                           tokenizer->where, rank);
    out->merge.rank = (int32_t)rank;
    TRY(find_part(tokenizer, rank, left, &out->left));
    TRY(find_part(tokenizer, rank, right, &out->merge.right));
    text_print(&joined, "%s%s", left, right);
    int status = find_part(tokenizer, rank, joined.data, &out->merge.merged);
    text_release(&joined);
    return status;
}

static int compare_merges(const void *a, const void *b)
{
    const struct parsed_merge *x = a, *y = b;

    if (x->left != y->left)
        return x->left < y->left ? -1 : 1;
    if (x->merge.right != y->merge.right)
        return x->merge.right < y->merge.right ? -1 : 1;
    return x->merge.rank < y->merge.rank ? 1 : -1;   /* of equal pairs the last one counts */
}

static void store_merges(struct tokenizer *tokenizer, const struct parsed_merge *parsed, size_t n)
{
    uint32_t stored = 0;
    int next = 0;

    tokenizer->merges = mem_alloc(n, sizeof(*tokenizer->merges));
    tokenizer->merge_starts = mem_alloc((size_t)tokenizer->vocab_size + 1,
                                        sizeof(*tokenizer->merge_starts));
    for (size_t i = 0; i < n; i++) {
        if (i && parsed[i].left == parsed[i - 1].left &&
            parsed[i].merge.right == parsed[i - 1].merge.right)
            continue;
        while (next <= parsed[i].left)
            tokenizer->merge_starts[next++] = stored;
        tokenizer->merges[stored++] = parsed[i].merge;
    }
    while (next <= tokenizer->vocab_size)
        tokenizer->merge_starts[next++] = stored;
}

static int parse_merges(struct tokenizer *tokenizer, const json_t *merges)
{
    size_t n = json_array_size(merges), i;
    struct text scratch = {0};
    json_t *value;
    int status = STATUS_OK;

    if (!json_is_array(merges) || n > MAX_MERGES)
        return status_fail(STATUS_FORMAT, "%s: \"merges\" is not a list of at most %d",
                           tokenizer->where, MAX_MERGES);
    struct parsed_merge *parsed = mem_alloc(n, sizeof(*parsed));
    json_array_foreach(merges, i, value) {
        status = parse_merge(tokenizer, value, i, &scratch, &parsed[i]);
        if (status < 0)
            break;
    }
    if (status == STATUS_OK) {
        qsort(parsed, n, sizeof(*parsed), compare_merges);
        store_merges(tokenizer, parsed, n);
    }
    mem_free(parsed);
    text_release(&scratch);
    return status;
}

static int refuse_affix(const struct tokenizer *tokenizer, const json_t *model, const char *key)
{
    const char *affix;

    TRY(json_get_text_or(model, key, tokenizer->where, "", &affix));
    if (affix[0])
        return status_fail(STATUS_UNSUPPORTED, "%s: \"%s\" is \"%.64s\"; only null is supported",
                           tokenizer->where, key, affix);
    return STATUS_OK;
}

static int check_model(struct tokenizer *tokenizer, const json_t *model)
{
    const char *type;
    double dropout = 0.0;

    TRY(json_get_text_or(model, "type", tokenizer->where, "BPE", &type));
    if (strcmp(type, "BPE") != 0)
        return status_fail(STATUS_UNSUPPORTED, "%s: the model is \"%.64s\"; only \"BPE\" is "
                           "supported", tokenizer->where, type);
    TRY(json_get_real_or(model, "dropout", tokenizer->where, 0.0, &dropout));
    if (dropout != 0.0)
        return status_fail(STATUS_UNSUPPORTED, "%s: \"dropout\" is %g; only null is supported",
                           tokenizer->where, dropout);
    TRY(refuse_flag(tokenizer, model, "byte_fallback", "the model"));
    TRY(refuse_affix(tokenizer, model, "continuing_subword_prefix"));
    TRY(refuse_affix(tokenizer, model, "end_of_word_suffix"));
    return json_get_bool_or(model, "ignore_merges", tokenizer->where, 0,
                            &tokenizer->ignore_merges);
}

/* An unknown token is used only where a byte has none, so a full set of bytes never needs it. */
static int check_unknown(const struct tokenizer *tokenizer, const json_t *model)
{
    const char *unknown;

    TRY(json_get_text_or(model, "unk_token", tokenizer->where, NULL, &unknown));
    for (int byte = 0; unknown && byte < 256; byte++)
        if (tokenizer->byte_ids[byte] < 0)
            return status_fail(STATUS_UNSUPPORTED, "%s: \"unk_token\" is \"%.64s\" and byte 0x%02X "
                               "has no token; only null is supported then", tokenizer->where,
                               unknown, (unsigned)byte);
    return STATUS_OK;
}

int tokenizer_parse_model(struct tokenizer *tokenizer, const json_t *model)
{
    const json_t *added = json_object_get(tokenizer->root, "added_tokens");

    if (!json_is_object(model))
        return status_fail(STATUS_FORMAT, "%s: \"model\" is not an object", tokenizer->where);
    TRY(check_model(tokenizer, model));
    tokenizer->vocab = json_object_get(model, "vocab");
    if (!json_is_object(tokenizer->vocab))
        return status_fail(STATUS_FORMAT, "%s: \"vocab\" is not an object of tokens and ids",
                           tokenizer->where);
    if (added && !json_is_null(added) && !json_is_array(added))
        return status_fail(STATUS_FORMAT, "%s: \"added_tokens\" is not a list", tokenizer->where);
    TRY(find_largest_id(tokenizer, added));
    tokenizer->tokens = mem_alloc((size_t)tokenizer->vocab_size, sizeof(*tokenizer->tokens));
    TRY(parse_vocab(tokenizer));
    TRY(parse_added(tokenizer, added));
    fill_bytes(tokenizer);
    TRY(check_unknown(tokenizer, model));
    return parse_merges(tokenizer, json_object_get(model, "merges"));
}
