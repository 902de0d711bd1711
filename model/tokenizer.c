#include "model/tokenizer.h"

#include <string.h>

#include "common/files.h"
#include "common/json.h"
#include "common/status.h"
#include "model/tokenizer_internal.h"

#define MAX_FILE_BYTES ((size_t)256 << 20)

static int parse_all(struct tokenizer *tokenizer)
{
    TRY(json_parse(&tokenizer->root, tokenizer->json, tokenizer->n_json, tokenizer->where));
    if (!json_is_object(tokenizer->root))
        return status_fail(STATUS_FORMAT, "%s: not a JSON object", tokenizer->where);
    json_t *model = json_object_get(tokenizer->root, "model");
    TRY(tokenizer_parse_model(tokenizer, model));
    json_object_del(model, "merges");   /* kept in tokenizer->merges; this is the larger half */
    return tokenizer_parse_stages(tokenizer, tokenizer->root);
}

int tokenizer_parse(struct tokenizer **out, const char *json, size_t n, const char *where)
{
    struct tokenizer *tokenizer = mem_alloc(1, sizeof(*tokenizer));

    unicode_prepare();
    encoder_pool_create(&tokenizer->pool);
    tokenizer->where = mem_copy_text(where);
    tokenizer->json = mem_alloc(n + 1, 1);
    memcpy(tokenizer->json, json, n);
    tokenizer->n_json = n;
    int status = parse_all(tokenizer);
    if (status < 0)
        tokenizer_destroy(&tokenizer);
    *out = tokenizer;
    return status;
}

int tokenizer_load(struct tokenizer **out, const char *directory)
{
    char path[FILE_PATH_MAX];
    struct text json = {0};

    *out = NULL;
    TRY(file_join(path, directory, "tokenizer.json"));
    int status = file_read(path, MAX_FILE_BYTES, &json);
    if (status == STATUS_OK)
        status = tokenizer_parse(out, json.data, json.length, path);
    text_release(&json);
    return status;
}

void tokenizer_destroy(struct tokenizer **out)
{
    struct tokenizer *tokenizer = *out;

    if (!tokenizer)
        return;
    for (int i = 0; i < tokenizer->n_splits; i++)
        pcre2_code_free(tokenizer->splits[i].code);
    for (int k = 0; k < 2; k++)
        added_set_release(&tokenizer->added[k]);
    encoder_pool_destroy(&tokenizer->pool);
    mem_free(tokenizer->merges);
    mem_free(tokenizer->wholes);
    mem_free(tokenizer->tokens);
    text_release(&tokenizer->bytes);
    json_decref(tokenizer->root);
    mem_free(tokenizer->json);
    mem_free(tokenizer->where);
    mem_free(tokenizer);
    *out = NULL;
}

int tokenizer_vocab_size(const struct tokenizer *tokenizer)
{
    return tokenizer->vocab_size;
}

int32_t tokenizer_find(const struct tokenizer *tokenizer, const char *text)
{
    for (int k = 0; k < 2; k++)   /* few, and what they match may be normalized */
        for (size_t i = 0; i < tokenizer->added[k].n; i++) {
            int32_t added = tokenizer->added[k].tokens[i].id;
            if (strcmp(tokenizer->tokens[added].text, text) == 0)
                return added;
        }
    const json_t *id = json_object_get(tokenizer->vocab, text);
    return id ? (int32_t)json_integer_value(id) : -1;
}

int32_t tokenizer_eos(const struct tokenizer *tokenizer)
{
    static const char *const names[] = {"<|endoftext|>", "<|im_end|>",
                                        "<｜end▁of▁sentence｜>", "</s>", "<|end_of_text|>",
                                        "<|eot_id|>"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        int32_t id = tokenizer_find(tokenizer, names[i]);
        if (id >= 0)
            return id;
    }
    return -1;
}

void token_list_release(struct token_list *list)
{
    mem_free(list->ids);
    memset(list, 0, sizeof(*list));
}

/* NULL: no text. A model may have more logits than the tokenizer has tokens: those mean nothing. */
static const struct token *decodable(const struct tokenizer *tokenizer, int32_t id,
                                     int skip_special)
{
    if (id < 0 || id >= tokenizer->vocab_size)
        return NULL;
    const struct token *token = &tokenizer->tokens[id];
    return token->is_special && skip_special ? NULL : token;
}

void tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t n,
                      int skip_special, struct text *out)
{
    for (size_t i = 0; i < n; i++) {
        const struct token *token = decodable(tokenizer, ids[i], skip_special);
        if (token)
            text_append(out, tokenizer->bytes.data + token->offset, token->n);
    }
}

void tokenizer_stream_begin(struct tokenizer_stream *stream, const struct tokenizer *tokenizer,
                            int skip_special)
{
    *stream = (struct tokenizer_stream){.tokenizer = tokenizer, .skip_special = skip_special};
}

void tokenizer_stream_add(struct tokenizer_stream *stream, int32_t id, struct text *out)
{
    const struct token *token = decodable(stream->tokenizer, id, stream->skip_special);
    size_t start = out->length;

    if (!token || !token->n)
        return;
    text_append(out, stream->held, stream->n_held);
    text_append(out, stream->tokenizer->bytes.data + token->offset, token->n);
    if (out->failed)
        return;
    stream->n_held = utf8_open_end((const unsigned char *)out->data + start, out->length - start);
    out->length -= stream->n_held;
    memcpy(stream->held, out->data + out->length, stream->n_held);
    out->data[out->length] = '\0';
}

void tokenizer_stream_end(struct tokenizer_stream *stream, struct text *out)
{
    text_append(out, stream->held, stream->n_held);
    stream->n_held = 0;
}

void tokenizer_json(const struct tokenizer *tokenizer, const char **json, size_t *n)
{
    *json = tokenizer->json;
    *n = tokenizer->n_json;
}
