/*
 * text -> added tokens | the rest -> normalized -> added tokens | the rest -> splits -> pieces ->
 * merges -> ids. Bytes that are not UTF-8 are pieces of their own: they are encoded all the same.
 */
#include <pthread.h>
#include <string.h>

#include "common/status.h"
#include "model/tokenizer_internal.h"

#define MAX_TEXT_BYTES ((size_t)64 << 20)
#define MATCH_LIMIT 20000000u
#define MATCH_HEAP_KIB (256u << 10)
#define JIT_STACK_BYTES ((size_t)32 << 10)
#define JIT_STACK_MAX_BYTES ((size_t)8 << 20)

/* What one call at a time uses; it stays with the tokenizer, so that pieces are remembered. */
struct encoder {
    const struct tokenizer *tokenizer;
    struct token_list *out;
    struct piece_sink *sink;   /* takes the pieces instead, when set */
    struct merge_scratch merges;
    struct text normalized, subject;
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *jit_stack;
    struct encoder *next;
};

struct encoder_pool {
    pthread_mutex_t lock;
    struct encoder *idle;
};

void encoder_pool_create(struct encoder_pool **out)
{
    *out = mem_alloc(1, sizeof(**out));
    pthread_mutex_init(&(*out)->lock, NULL);
}

static void encoder_destroy(struct encoder *encoder)
{
    pcre2_match_data_free(encoder->match);
    pcre2_match_context_free(encoder->context);
    pcre2_jit_stack_free(encoder->jit_stack);
    merge_scratch_release(&encoder->merges);
    text_release(&encoder->normalized);
    text_release(&encoder->subject);
    mem_free(encoder);
}

void encoder_pool_destroy(struct encoder_pool **out)
{
    struct encoder_pool *pool = *out;

    if (!pool)
        return;
    while (pool->idle) {
        struct encoder *encoder = pool->idle;
        pool->idle = encoder->next;
        encoder_destroy(encoder);
    }
    pthread_mutex_destroy(&pool->lock);
    mem_free(pool);
    *out = NULL;
}

static struct encoder *take_encoder(const struct tokenizer *tokenizer)
{
    pthread_mutex_lock(&tokenizer->pool->lock);
    struct encoder *encoder = tokenizer->pool->idle;
    if (encoder)
        tokenizer->pool->idle = encoder->next;
    pthread_mutex_unlock(&tokenizer->pool->lock);
    if (!encoder)
        encoder = mem_alloc(1, sizeof(*encoder));
    encoder->tokenizer = tokenizer;
    return encoder;
}

static void give_encoder(struct encoder *encoder)
{
    struct encoder_pool *pool = encoder->tokenizer->pool;

    pthread_mutex_lock(&pool->lock);
    encoder->next = pool->idle;
    pool->idle = encoder;
    pthread_mutex_unlock(&pool->lock);
}

/* Text, and what the patterns see of it: the same length. */
struct span {
    const char *text, *subject;
    size_t n;
};

static struct span sub_span(const struct span *span, size_t from, size_t to)
{
    return (struct span){span->text + from, span->subject + from, to - from};
}

static int encode_piece(struct encoder *encoder, const char *piece, size_t n)
{
    if (encoder->sink) {
        encoder->sink->take(encoder->sink, piece, n);
        return STATUS_OK;
    }
    return tokenizer_merge(encoder->tokenizer, &encoder->merges, piece, n, encoder->out);
}

static int encode_splits(struct encoder *encoder, struct span span, int stage);

static int match_failed(const struct encoder *encoder, int error)
{
    unsigned char reason[128];

    pcre2_get_error_message(error, reason, sizeof(reason));
    return status_fail(STATUS_FORMAT, "%s: a pattern of \"pre_tokenizer\" fails on this text: %s",
                       encoder->tokenizer->where, (const char *)reason);
}

static int prepare_patterns(struct encoder *encoder)
{
    if (encoder->context)
        return STATUS_OK;
    encoder->match = pcre2_match_data_create(1, NULL);
    encoder->context = pcre2_match_context_create(NULL);
    if (!encoder->match || !encoder->context)
        return status_fail(STATUS_NOMEM, "no memory for pattern matching");
    pcre2_set_match_limit(encoder->context, MATCH_LIMIT);
    pcre2_set_heap_limit(encoder->context, MATCH_HEAP_KIB);
    encoder->jit_stack = pcre2_jit_stack_create(JIT_STACK_BYTES, JIT_STACK_MAX_BYTES, NULL);
    if (encoder->jit_stack)
        pcre2_jit_stack_assign(encoder->context, NULL, encoder->jit_stack);
    return STATUS_OK;
}

/* The interpreter has a heap where compiled patterns have a stack. */
static int match_pattern(struct encoder *encoder, const pcre2_code *code, const struct span *span,
                         size_t from)
{
    int n = pcre2_match(code, (PCRE2_SPTR)span->subject, span->n, from, PCRE2_NO_UTF_CHECK,
                        encoder->match, encoder->context);

    if (n == PCRE2_ERROR_JIT_STACKLIMIT)
        n = pcre2_match(code, (PCRE2_SPTR)span->subject, span->n, from,
                        PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, encoder->match, encoder->context);
    return n;
}

/* Matches and what lies between them are pieces of the next stage. */
static int encode_part(struct encoder *encoder, const struct span *span, size_t from, size_t to,
                       int stage, int is_dropped)
{
    if (from == to || is_dropped)
        return STATUS_OK;
    if (stage == encoder->tokenizer->n_splits)
        return encode_piece(encoder, span->text + from, to - from);
    return encode_splits(encoder, sub_span(span, from, to), stage);
}

static int encode_pattern(struct encoder *encoder, const struct span *span, int stage)
{
    const struct split *split = &encoder->tokenizer->splits[stage];
    size_t done = 0, from = 0;

    TRY(prepare_patterns(encoder));
    const PCRE2_SIZE *found = pcre2_get_ovector_pointer(encoder->match);
    while (from <= span->n) {
        int n = match_pattern(encoder, split->code, span, from);
        if (n == PCRE2_ERROR_NOMATCH)
            break;
        if (n < 0)
            return match_failed(encoder, n);
        size_t start = found[0], end = found[1];
        if (start < done || end < start)
            return match_failed(encoder, PCRE2_ERROR_BADOFFSET);
        TRY(encode_part(encoder, span, done, start, stage + 1, split->drops_gaps));
        TRY(encode_part(encoder, span, start, end, stage + 1, split->drops_matches));
        done = end;
        from = end;
        if (start == end)   /* an empty match: go on behind the next character */
            from += end < span->n ? utf8_length((const unsigned char *)span->subject + end,
                                                span->n - end) : 1;
    }
    return encode_part(encoder, span, done, span->n, stage + 1, split->drops_gaps);
}

static int encode_function(struct encoder *encoder, const struct span *span, int stage)
{
    const struct split *split = &encoder->tokenizer->splits[stage];
    const unsigned char *text = (const unsigned char *)span->text;
    size_t done = 0, at = 0, length;

    while (at < span->n) {
        size_t end = split->match(split, text, at, span->n);
        if (!end) {
            unicode_bits_at(text, at, span->n, &length);
            at += length;
            continue;
        }
        TRY(encode_part(encoder, span, done, at, stage + 1, split->drops_gaps));
        TRY(encode_part(encoder, span, at, end, stage + 1, split->drops_matches));
        at = done = end;
    }
    return encode_part(encoder, span, done, span->n, stage + 1, split->drops_gaps);
}

static int encode_splits(struct encoder *encoder, struct span span, int stage)
{
    const struct tokenizer *tokenizer = encoder->tokenizer;

    if (!span.n)
        return STATUS_OK;
    if (stage == tokenizer->n_splits)
        return encode_piece(encoder, span.text, span.n);
    if (tokenizer->splits[stage].match && !tokenizer->patterns_only)
        return encode_function(encoder, &span, stage);
    return encode_pattern(encoder, &span, stage);
}

/* PCRE2 counts U+180E as a space, Unicode since 6.3 and Hugging Face's library do not: let the
 * patterns see U+2060 instead, which is of the same category and length. */
static int encode_valid(struct encoder *encoder, const char *text, size_t n)
{
    static const char vowel_separator[] = "\xE1\xA0\x8E", word_joiner[] = "\xE2\x81\xA0";
    char *at = n ? memmem(text, n, vowel_separator, 3) : NULL;

    if (!at)
        return encode_splits(encoder, (struct span){text, text, n}, 0);
    struct text *subject = &encoder->subject;
    text_clear(subject);
    text_append(subject, text, n);
    for (at = subject->data;
         (at = memmem(at, n - (size_t)(at - subject->data), vowel_separator, 3));)
        memcpy(at, word_joiner, 3);
    return encode_splits(encoder, (struct span){text, subject->data, n}, 0);
}

static int encode_runs(struct encoder *encoder, const char *text, size_t n)
{
    const unsigned char *bytes = (const unsigned char *)text;

    while (n) {
        size_t valid = utf8_valid_prefix(bytes, n), end = valid;
        TRY(encode_valid(encoder, (const char *)bytes, valid));
        while (end < n && !utf8_length(bytes + end, n - end))
            end++;
        if (end > valid)
            TRY(encode_piece(encoder, (const char *)bytes + valid, end - valid));
        bytes += end;
        n -= end;
    }
    return STATUS_OK;
}

static int encode_added(struct encoder *encoder, const char *text, size_t n, int stage);

static int encode_rest(struct encoder *encoder, const char *text, size_t n, int stage)
{
    struct text *normalized = &encoder->normalized;

    if (!n)
        return STATUS_OK;
    if (stage == 1)
        return encode_runs(encoder, text, n);
    if (!encoder->tokenizer->nfc || nfc_is_plain(text, n))
        return encode_added(encoder, text, n, 1);
    text_clear(normalized);
    normalized->maximum = 4 * n + 64;
    nfc_append(normalized, text, n);
    if (normalized->failed)
        return status_fail(STATUS_NOMEM, "%s: a text of %zu bytes grows too much when normalized",
                           encoder->tokenizer->where, n);
    return encode_added(encoder, normalized->data, normalized->length, 1);
}

/* The search goes on behind the token itself; the blanks that it takes may hold another one. */
static int encode_added(struct encoder *encoder, const char *text, size_t n, int stage)
{
    const struct added_set *set = &encoder->tokenizer->added[stage];
    size_t done = 0, i = 0;

    while (set->n && i < n) {
        unsigned char first = (unsigned char)text[i];
        const struct added_token *added = NULL;
        if (set->starts[first] != set->starts[first + 1])
            added = added_set_match(set, text + i, n - i);
        if (!added) {
            i++;
            continue;
        }
        size_t start = i, end = i + added->n;
        i = end;
        if (!added_token_counts(added, text, n, start, end))
            continue;
        if (added->lstrip)
            start = blanks_before(text, start);
        if (added->rstrip)
            end = blanks_after(text, n, end);
        if (done < start)
            TRY(encode_rest(encoder, text + done, start - done, stage));
        if (!encoder->sink)
            token_list_add(encoder->out, added->id);
        done = end;
    }
    return encode_rest(encoder, text + done, n - done, stage);
}

static int encode(const struct tokenizer *tokenizer, const char *text, size_t n,
                  struct token_list *out, struct piece_sink *sink)
{
    if (n > MAX_TEXT_BYTES)
        return status_fail(STATUS_FORMAT, "a text of %zu bytes is over the limit of %zu", n,
                           MAX_TEXT_BYTES);
    struct encoder *encoder = take_encoder(tokenizer);
    encoder->out = out;
    encoder->sink = sink;
    int status = encode_added(encoder, text, n, 0);
    give_encoder(encoder);
    return status;
}

int tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t n,
                     struct token_list *out)
{
    size_t n_before = out->n;
    int status = encode(tokenizer, text, n, out, NULL);

    if (status < 0)
        out->n = n_before;
    return status;
}

int tokenizer_pieces(const struct tokenizer *tokenizer, const char *text, size_t n,
                     struct piece_sink *sink)
{
    return encode(tokenizer, text, n, NULL, sink);
}
