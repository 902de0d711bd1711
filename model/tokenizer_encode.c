/*
 * text -> added tokens | the rest -> normalized -> added tokens | the rest -> splits -> pieces ->
 * merges -> ids. Bytes that are not UTF-8 are pieces of their own: they are encoded all the same.
 */
#include <string.h>

#include "common/status.h"
#include "model/tokenizer_internal.h"

#define MAX_TEXT_BYTES ((size_t)64 << 20)
#define MATCH_LIMIT 20000000u
#define MATCH_HEAP_KIB (256u << 10)

struct encoder {
    const struct tokenizer *tokenizer;
    struct token_list *out;
    struct merge_scratch merges;
    pcre2_match_data *match;
    pcre2_match_context *context;
};

/* Text, and what the patterns see of it: the same length. */
struct span {
    const char *text, *subject;
    size_t n;
};

static struct span sub_span(const struct span *span, size_t from, size_t to)
{
    return (struct span){span->text + from, span->subject + from, to - from};
}

static int encode_splits(struct encoder *encoder, struct span span, int stage);

static int match_failed(const struct encoder *encoder, int error)
{
    unsigned char reason[128];

    pcre2_get_error_message(error, reason, sizeof(reason));
    return status_fail(STATUS_FORMAT, "%s: a pattern of \"pre_tokenizer\" fails on this text: %s",
                       encoder->tokenizer->where, (const char *)reason);
}

/* Matches and what lies between them are pieces of the next stage. */
static int encode_matches(struct encoder *encoder, const struct span *span, int stage)
{
    const pcre2_code *code = encoder->tokenizer->splits[stage];
    const PCRE2_SIZE *found = pcre2_get_ovector_pointer(encoder->match);
    size_t done = 0, from = 0;

    while (from <= span->n) {
        int n = pcre2_match(code, (PCRE2_SPTR)span->subject, span->n, from, PCRE2_NO_UTF_CHECK,
                            encoder->match, encoder->context);
        if (n == PCRE2_ERROR_NOMATCH)
            break;
        if (n < 0)
            return match_failed(encoder, n);
        size_t start = found[0], end = found[1];
        if (start < done || end < start)
            return match_failed(encoder, PCRE2_ERROR_BADOFFSET);
        TRY(encode_splits(encoder, sub_span(span, done, start), stage + 1));
        TRY(encode_splits(encoder, sub_span(span, start, end), stage + 1));
        done = end;
        from = end;
        if (start == end)   /* an empty match: go on behind the next character */
            from += end < span->n ? utf8_length((const unsigned char *)span->subject + end,
                                                span->n - end) : 1;
    }
    return encode_splits(encoder, sub_span(span, done, span->n), stage + 1);
}

static int encode_splits(struct encoder *encoder, struct span span, int stage)
{
    if (!span.n)
        return STATUS_OK;
    if (stage < encoder->tokenizer->n_splits)
        return encode_matches(encoder, &span, stage);
    return tokenizer_merge(encoder->tokenizer, &encoder->merges, span.text, span.n, encoder->out);
}

/* PCRE2 counts U+180E as a space, Unicode since 6.3 and Hugging Face's library do not: let the
 * patterns see U+2060 instead, which is of the same category and length. */
static int encode_valid(struct encoder *encoder, const char *text, size_t n)
{
    static const char vowel_separator[] = "\xE1\xA0\x8E", word_joiner[] = "\xE2\x81\xA0";
    char *at = memmem(text, n, vowel_separator, 3);

    if (!at)
        return encode_splits(encoder, (struct span){text, text, n}, 0);
    struct text subject = {.maximum = n + 1};
    text_append(&subject, text, n);
    for (at = subject.data; (at = memmem(at, n - (size_t)(at - subject.data), vowel_separator, 3));)
        memcpy(at, word_joiner, 3);
    int status = encode_splits(encoder, (struct span){text, subject.data, n}, 0);
    text_release(&subject);
    return status;
}

static int encode_runs(struct encoder *encoder, const char *text, size_t n)
{
    const unsigned char *bytes = (const unsigned char *)text;
    size_t start = 0, i = 0;

    while (i < n) {
        size_t length = utf8_length(bytes + i, n - i);
        if (length) {
            i += length;
            continue;
        }
        TRY(encode_valid(encoder, text + start, i - start));
        start = i;
        while (i < n && !utf8_length(bytes + i, n - i))
            i++;
        TRY(tokenizer_merge(encoder->tokenizer, &encoder->merges, text + start, i - start,
                            encoder->out));
        start = i;
    }
    return encode_valid(encoder, text + start, n - start);
}

/* The longest added token that starts at text; its tokens lie together at every length. */
static const struct added_token *match_added(const struct added_set *set, const char *text,
                                             size_t n)
{
    unsigned char first = (unsigned char)text[0];
    size_t low = set->starts[first], high = set->starts[first + 1];
    const struct added_token *best = NULL;

    for (size_t depth = 1; low < high; depth++) {
        if (set->tokens[low].n == depth)
            best = &set->tokens[low];
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

static int encode_added(struct encoder *encoder, const char *text, size_t n, int stage);

static int encode_rest(struct encoder *encoder, const char *text, size_t n, int stage)
{
    struct text normalized = {.maximum = 4 * n + 64};

    if (!n)
        return STATUS_OK;
    if (stage == 1)
        return encode_runs(encoder, text, n);
    if (!encoder->tokenizer->nfc)
        return encode_added(encoder, text, n, 1);
    nfc_append(&normalized, text, n);
    int status = normalized.failed
        ? status_fail(STATUS_NOMEM, "%s: a text of %zu bytes grows too much when normalized",
                      encoder->tokenizer->where, n)
        : encode_added(encoder, normalized.data, normalized.length, 1);
    text_release(&normalized);
    return status;
}

static int encode_added(struct encoder *encoder, const char *text, size_t n, int stage)
{
    const struct added_set *set = &encoder->tokenizer->added[stage];
    size_t start = 0, i = 0;

    while (set->n && i < n) {
        const struct added_token *added = match_added(set, text + i, n - i);
        if (!added) {
            i++;
            continue;
        }
        TRY(encode_rest(encoder, text + start, i - start, stage));
        token_list_add(encoder->out, added->id);
        i += added->n;
        start = i;
    }
    return encode_rest(encoder, text + start, n - start, stage);
}

int tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t n,
                     struct token_list *out)
{
    struct encoder encoder = {.tokenizer = tokenizer, .out = out};
    size_t n_before = out->n;
    int status;

    if (n > MAX_TEXT_BYTES)
        return status_fail(STATUS_FORMAT, "a text of %zu bytes is over the limit of %zu", n,
                           MAX_TEXT_BYTES);
    encoder.match = pcre2_match_data_create(1, NULL);
    encoder.context = pcre2_match_context_create(NULL);
    if (!encoder.match || !encoder.context) {
        status = status_fail(STATUS_NOMEM, "no memory for pattern matching");
        goto out;
    }
    pcre2_set_match_limit(encoder.context, MATCH_LIMIT);
    pcre2_set_heap_limit(encoder.context, MATCH_HEAP_KIB);
    status = encode_added(&encoder, text, n, 0);
out:
    if (status < 0)
        out->n = n_before;
    pcre2_match_data_free(encoder.match);
    pcre2_match_context_free(encoder.context);
    merge_scratch_release(&encoder.merges);
    return status;
}
