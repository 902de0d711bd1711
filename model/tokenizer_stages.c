/* Normalizer, pre-tokenizer and decoder of a tokenizer.json; what is not known is refused. */
#include <string.h>

#include "common/json.h"
#include "common/status.h"
#include "model/tokenizer_internal.h"

#define MAX_PATTERN_BYTES 65536

/* How GPT-2 cuts text into words; the default of the ByteLevel pre-tokenizer. */
#define GPT2_PATTERN                                                                               \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

static int refuse_stage(const struct tokenizer *tokenizer, const char *stage, const char *type)
{
    return status_fail(STATUS_UNSUPPORTED, "%s: \"%s\" has the type \"%.64s\", which is not "
                       "supported", tokenizer->where, stage, type);
}

static const json_t *find_stage(const json_t *root, const char *key)
{
    const json_t *stage = json_object_get(root, key);

    return json_is_null(stage) ? NULL : stage;
}

static int parse_normalizer(struct tokenizer *tokenizer, const json_t *stage)
{
    const json_t *list = json_object_get(stage, "normalizers"), *item;
    const char *type;
    size_t i;

    TRY(json_get_text(stage, "type", tokenizer->where, &type));
    if (strcmp(type, "NFC") == 0) {
        tokenizer->nfc = 1;
        return STATUS_OK;
    }
    if (strcmp(type, "Sequence") != 0 || !json_is_array(list))
        return refuse_stage(tokenizer, "normalizer", type);
    json_array_foreach(list, i, item)
        TRY(parse_normalizer(tokenizer, item));
    return STATUS_OK;
}

static int add_split(struct tokenizer *tokenizer, const char *pattern, uint32_t more_options)
{
    int error = 0;
    PCRE2_SIZE at = 0;
    unsigned char reason[128];

    if (tokenizer->n_splits == TOKENIZER_MAX_SPLITS || strlen(pattern) > MAX_PATTERN_BYTES)
        return status_fail(STATUS_FORMAT, "%s: \"pre_tokenizer\" has more than %d patterns, or one "
                           "of over %d bytes", tokenizer->where, TOKENIZER_MAX_SPLITS,
                           MAX_PATTERN_BYTES);
    uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C;
    if (more_options)   /* PCRE2_LITERAL goes with UTF alone */
        options = PCRE2_UTF | more_options;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, options, &error,
                                     &at, NULL);
    if (!code) {
        pcre2_get_error_message(error, reason, sizeof(reason));
        return status_fail(STATUS_FORMAT, "%s: pattern \"%.200s\": %s at %zu", tokenizer->where,
                           pattern, (const char *)reason, (size_t)at);
    }
    tokenizer->splits[tokenizer->n_splits++] = code;
    return STATUS_OK;
}

static int parse_split(struct tokenizer *tokenizer, const json_t *stage)
{
    const json_t *pattern = json_object_get(stage, "pattern");
    const char *behavior, *regex, *literal;

    TRY(json_get_text(stage, "behavior", tokenizer->where, &behavior));
    if (strcmp(behavior, "Isolated") != 0)
        return status_fail(STATUS_UNSUPPORTED, "%s: \"behavior\" of Split is \"%.64s\"; only "
                           "\"Isolated\" is supported", tokenizer->where, behavior);
    TRY(json_get_text_or(pattern, "Regex", tokenizer->where, NULL, &regex));
    TRY(json_get_text_or(pattern, "String", tokenizer->where, NULL, &literal));
    if (!regex == !literal)
        return status_fail(STATUS_FORMAT, "%s: \"pattern\" of Split is neither a Regex nor a "
                           "String", tokenizer->where);
    return add_split(tokenizer, regex ? regex : literal, regex ? 0 : PCRE2_LITERAL);
}

static int parse_byte_level(struct tokenizer *tokenizer, const json_t *stage, int *seen)
{
    int prefix = 0, use_regex = 1;

    TRY(json_get_bool_or(stage, "add_prefix_space", tokenizer->where, 1, &prefix));
    if (prefix)
        return status_fail(STATUS_UNSUPPORTED, "%s: \"add_prefix_space\" is true; only false is "
                           "supported", tokenizer->where);
    TRY(json_get_bool_or(stage, "use_regex", tokenizer->where, 1, &use_regex));
    *seen = 1;
    return use_regex ? add_split(tokenizer, GPT2_PATTERN, 0) : STATUS_OK;
}

static int parse_digits(struct tokenizer *tokenizer, const json_t *stage)
{
    int individual = 0;

    TRY(json_get_bool_or(stage, "individual_digits", tokenizer->where, 0, &individual));
    return add_split(tokenizer, individual ? "\\p{N}" : "\\p{N}+", 0);
}

/* `seen` is set by ByteLevel, which must be the last: what follows would see its alphabet. */
static int parse_pre_tokenizer(struct tokenizer *tokenizer, const json_t *stage, int *seen)
{
    const json_t *list = json_object_get(stage, "pretokenizers"), *item;
    const char *type;
    size_t i;

    TRY(json_get_text(stage, "type", tokenizer->where, &type));
    if (*seen)
        return status_fail(STATUS_UNSUPPORTED, "%s: \"pre_tokenizer\" goes on after ByteLevel with "
                           "\"%.64s\"", tokenizer->where, type);
    if (strcmp(type, "ByteLevel") == 0)
        return parse_byte_level(tokenizer, stage, seen);
    if (strcmp(type, "Split") == 0)
        return parse_split(tokenizer, stage);
    if (strcmp(type, "Digits") == 0)
        return parse_digits(tokenizer, stage);
    if (strcmp(type, "Sequence") != 0 || !json_is_array(list))
        return refuse_stage(tokenizer, "pre_tokenizer", type);
    json_array_foreach(list, i, item)
        TRY(parse_pre_tokenizer(tokenizer, item, seen));
    return STATUS_OK;
}

static int check_decoder(const struct tokenizer *tokenizer, const json_t *stage)
{
    const char *type;

    if (!stage)
        return status_fail(STATUS_UNSUPPORTED, "%s: \"decoder\" is missing; ByteLevel is supported",
                           tokenizer->where);
    TRY(json_get_text(stage, "type", tokenizer->where, &type));
    return strcmp(type, "ByteLevel") == 0 ? STATUS_OK : refuse_stage(tokenizer, "decoder", type);
}

static int refuse_set(const struct tokenizer *tokenizer, const json_t *root, const char *key)
{
    if (find_stage(root, key))
        return status_fail(STATUS_UNSUPPORTED, "%s: \"%s\" is set; only null is supported",
                           tokenizer->where, key);
    return STATUS_OK;
}

/* A token that is matched in normalized text must be normalized itself. */
static int check_normalized(const struct tokenizer *tokenizer)
{
    const struct added_set *set = &tokenizer->added[1];
    int status = STATUS_OK;

    for (size_t i = 0; tokenizer->nfc && status == STATUS_OK && i < set->n; i++) {
        struct text normalized = {0};
        nfc_append(&normalized, set->tokens[i].content, set->tokens[i].n);
        if (strcmp(normalized.data, set->tokens[i].content) != 0)
            status = status_fail(STATUS_UNSUPPORTED, "%s: added token %d is not in form NFC, but "
                                 "\"normalized\" is true", tokenizer->where,
                                 (int)set->tokens[i].id);
        text_release(&normalized);
    }
    return status;
}

int tokenizer_parse_stages(struct tokenizer *tokenizer, const json_t *root)
{
    const json_t *normalizer = find_stage(root, "normalizer");
    const json_t *pre_tokenizer = find_stage(root, "pre_tokenizer");
    int seen = 0;

    TRY(refuse_set(tokenizer, root, "truncation"));
    TRY(refuse_set(tokenizer, root, "padding"));
    if (normalizer)
        TRY(parse_normalizer(tokenizer, normalizer));
    TRY(check_normalized(tokenizer));
    if (pre_tokenizer)
        TRY(parse_pre_tokenizer(tokenizer, pre_tokenizer, &seen));
    if (!seen)
        return status_fail(STATUS_UNSUPPORTED, "%s: \"pre_tokenizer\" has no ByteLevel; only "
                           "byte-level BPE is supported", tokenizer->where);
    return check_decoder(tokenizer, find_stage(root, "decoder"));
}
