/* Normalizer, pre-tokenizer and decoder of a tokenizer.json; what is not known is refused. */
#include <string.h>

#include "common/json.h"
#include "common/status.h"
#include "model/tokenizer_internal.h"

#define MAX_PATTERN_BYTES 65536

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

/* As Oniguruma reads a pattern with Ruby's syntax: ^ and $ hold at every line, and the only newline
 * is the line feed. */
static pcre2_code *compile(const char *pattern, uint32_t options, int *error, PCRE2_SIZE *at)
{
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    pcre2_code *code = NULL;

    *error = PCRE2_ERROR_NOMEMORY;
    if (context) {
        pcre2_set_newline(context, PCRE2_NEWLINE_LF);
        code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, options, error, at,
                             context);
    }
    if (code)
        pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);   /* else it is interpreted */
    pcre2_compile_context_free(context);
    return code;
}

static int add_split(struct tokenizer *tokenizer, const char *pattern, uint32_t more_options,
                     struct split **added)
{
    int error = 0;
    PCRE2_SIZE at = 0;
    unsigned char reason[128];

    if (tokenizer->n_splits == TOKENIZER_MAX_SPLITS || strlen(pattern) > MAX_PATTERN_BYTES)
        return status_fail(STATUS_FORMAT, "%s: \"pre_tokenizer\" has more than %d patterns, or one "
                           "of over %d bytes", tokenizer->where, TOKENIZER_MAX_SPLITS,
                           MAX_PATTERN_BYTES);
    uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
    if (more_options)   /* PCRE2_LITERAL goes with UTF alone */
        options = PCRE2_UTF | more_options;
    struct split *split = &tokenizer->splits[tokenizer->n_splits];
    split->code = compile(pattern, options, &error, &at);
    if (!split->code) {
        pcre2_get_error_message(error, reason, sizeof(reason));
        return status_fail(STATUS_FORMAT, "%s: pattern \"%.200s\": %s at %zu", tokenizer->where,
                           pattern, (const char *)reason, (size_t)at);
    }
    if (!more_options)
        split_find_function(split, pattern);
    tokenizer->n_splits++;
    if (added)
        *added = split;
    return STATUS_OK;
}

/* "Removed" drops the matches, or what lies between them when the split is inverted. */
static int parse_split(struct tokenizer *tokenizer, const json_t *stage)
{
    const json_t *pattern = json_object_get(stage, "pattern");
    const char *behavior, *regex, *literal;
    struct split *split;
    int invert = 0;

    TRY(json_get_text(stage, "behavior", tokenizer->where, &behavior));
    TRY(json_get_bool_or(stage, "invert", tokenizer->where, 0, &invert));
    int removed = strcmp(behavior, "Removed") == 0;
    if (!removed && strcmp(behavior, "Isolated") != 0)
        return status_fail(STATUS_UNSUPPORTED, "%s: \"behavior\" of Split is \"%.64s\"; "
                           "\"Isolated\" and \"Removed\" are supported", tokenizer->where,
                           behavior);
    TRY(json_get_text_or(pattern, "Regex", tokenizer->where, NULL, &regex));
    TRY(json_get_text_or(pattern, "String", tokenizer->where, NULL, &literal));
    if (!regex == !literal)
        return status_fail(STATUS_FORMAT, "%s: \"pattern\" of Split is neither a Regex nor a "
                           "String", tokenizer->where);
    TRY(add_split(tokenizer, regex ? regex : literal, regex ? 0 : PCRE2_LITERAL, &split));
    split->drops_matches = removed && !invert;
    split->drops_gaps = removed && invert;
    return STATUS_OK;
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
    return use_regex ? add_split(tokenizer, split_gpt2, 0, NULL) : STATUS_OK;
}

static int parse_digits(struct tokenizer *tokenizer, const json_t *stage)
{
    int individual = 0;

    TRY(json_get_bool_or(stage, "individual_digits", tokenizer->where, 0, &individual));
    return add_split(tokenizer, individual ? "\\p{N}" : "\\p{N}+", 0, NULL);
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

/* These put special tokens around a text, and encode() does not. */
static int check_post_processor(const struct tokenizer *tokenizer, const json_t *stage)
{
    static const char *const known[] = {"ByteLevel", "TemplateProcessing", "BertProcessing",
                                        "RobertaProcessing"};
    const json_t *list = json_object_get(stage, "processors"), *item;
    const char *type;
    size_t i;

    TRY(json_get_text(stage, "type", tokenizer->where, &type));
    for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(type, known[i]) == 0)
            return STATUS_OK;
    if (strcmp(type, "Sequence") != 0 || !json_is_array(list))
        return refuse_stage(tokenizer, "post_processor", type);
    json_array_foreach(list, i, item)
        TRY(check_post_processor(tokenizer, item));
    return STATUS_OK;
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
    TRY(tokenizer_sort_added(tokenizer));
    if (pre_tokenizer)
        TRY(parse_pre_tokenizer(tokenizer, pre_tokenizer, &seen));
    if (!seen)
        return status_fail(STATUS_UNSUPPORTED, "%s: \"pre_tokenizer\" has no ByteLevel; only "
                           "byte-level BPE is supported", tokenizer->where);
    const json_t *post_processor = find_stage(root, "post_processor");
    if (post_processor)
        TRY(check_post_processor(tokenizer, post_processor));
    return check_decoder(tokenizer, find_stage(root, "decoder"));
}
