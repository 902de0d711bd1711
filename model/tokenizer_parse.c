/* The vocabulary and the merges of a tokenizer.json. */
#include <string.h>

#include "common/json.h"
#include "common/status.h"
#include "model/tokenizer_internal.h"

#define MAX_ID 4000000
#define MAX_MERGES (1 << 23)

int tokenizer_read_id(const struct tokenizer *tokenizer, const json_t *value, const char *token,
                      int *id)
{
    json_int_t number = json_integer_value(value);

    if (!json_is_integer(value) || number < 0 || number > MAX_ID)
        return status_fail(STATUS_FORMAT, "%s: token \"%.64s\": its id is not a number of 0 to %d",
                           tokenizer->where, token, MAX_ID);
    *id = (int)number;
    return STATUS_OK;
}

int tokenizer_place_token(struct tokenizer *tokenizer, int id, const char *text)
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
        TRY(tokenizer_read_id(tokenizer, value, text, &id));
        largest = id > largest ? id : largest;
    }
    json_array_foreach(added, i, value) {
        TRY(json_get_text(value, "content", tokenizer->where, &text));
        TRY(tokenizer_read_id(tokenizer, json_object_get(value, "id"), text, &id));
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
        TRY(tokenizer_place_token(tokenizer, (int)json_integer_value(value), text));
    return STATUS_OK;
}

/* What each token decodes to, and which token stands for each byte. Added tokens that could be
 * written in the alphabet decode as such, as in Hugging Face's library. */
static void fill_bytes(struct tokenizer *tokenizer)
{
    struct text name = {0};

    for (int id = 0; id < tokenizer->vocab_size; id++) {
        struct token *token = &tokenizer->tokens[id];
        token->offset = tokenizer->bytes.length;
        if (token->text)
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

/* scratch[0] for the two halves, scratch[1] for what they make. */
static int parse_merge(const struct tokenizer *tokenizer, const json_t *value, size_t rank,
                       struct text scratch[2], struct merge *out)
{
    const char *left, *right;

    if (!split_merge(value, &scratch[0], &left, &right))
        return status_fail(STATUS_FORMAT, "%s: merge %zu is neither \"a b\" nor [\"a\", \"b\"]",
                           tokenizer->where, rank);
    out->rank = (int32_t)rank;
    TRY(find_part(tokenizer, rank, left, &out->left));
    TRY(find_part(tokenizer, rank, right, &out->right));
    text_clear(&scratch[1]);
    text_append(&scratch[1], left, strlen(left));
    text_append(&scratch[1], right, strlen(right));
    return find_part(tokenizer, rank, scratch[1].data, &out->merged);
}

/* Of equal pairs the last one counts. */
static int parse_merges(struct tokenizer *tokenizer, const json_t *merges)
{
    size_t n = json_array_size(merges), i;
    struct text scratch[2] = {{0}, {0}};
    struct merge merge;
    json_t *value;
    int status = STATUS_OK;

    if (!json_is_array(merges) || n > MAX_MERGES)
        return status_fail(STATUS_FORMAT, "%s: \"merges\" is not a list of at most %d",
                           tokenizer->where, MAX_MERGES);
    tokenizer_build_merges(tokenizer, n);
    json_array_foreach(merges, i, value) {
        status = parse_merge(tokenizer, value, i, scratch, &merge);
        if (status < 0)
            break;
        tokenizer_put_merge(tokenizer, &merge);
    }
    text_release(&scratch[0]);
    text_release(&scratch[1]);
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
    TRY(refuse_affix(tokenizer, model, "continuing_subword_prefix"));
    TRY(refuse_affix(tokenizer, model, "end_of_word_suffix"));
    return json_get_bool_or(model, "ignore_merges", tokenizer->where, 0,
                            &tokenizer->ignore_merges);
}

/* An unknown token, or <0x00> and the like, is used only where a byte has no token of its own: a
 * full set of bytes never needs it. */
static int check_unknown(const struct tokenizer *tokenizer, const json_t *model)
{
    const char *unknown;
    int fallback = 0, byte = 0;

    TRY(json_get_text_or(model, "unk_token", tokenizer->where, NULL, &unknown));
    TRY(json_get_bool_or(model, "byte_fallback", tokenizer->where, 0, &fallback));
    while (byte < 256 && tokenizer->byte_ids[byte] >= 0)
        byte++;
    if (byte < 256 && unknown)
        return status_fail(STATUS_UNSUPPORTED, "%s: \"unk_token\" is \"%.64s\" and byte 0x%02X "
                           "has no token; only null is supported then", tokenizer->where,
                           unknown, (unsigned)byte);
    if (byte < 256 && fallback)
        return status_fail(STATUS_UNSUPPORTED, "%s: \"byte_fallback\" is true and byte 0x%02X has "
                           "no token; only byte-level BPE is supported", tokenizer->where,
                           (unsigned)byte);
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
    TRY(tokenizer_parse_added(tokenizer, added));
    fill_bytes(tokenizer);
    TRY(check_unknown(tokenizer, model));
    if (tokenizer->ignore_merges)
        tokenizer_build_wholes(tokenizer);
    return parse_merges(tokenizer, json_object_get(model, "merges"));
}
