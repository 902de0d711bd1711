/* tokenizer.json, a NUL, then a text: what loads must encode, by function and by pattern, and what
 * is decoded as a stream must be what is decoded at once. */
#include <stdlib.h>
#include <string.h>

#include "common/status.h"
#include "model/tokenizer.h"
#include "model/tokenizer_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_decoding(const struct tokenizer *tokenizer, const struct token_list *list)
{
    struct text whole = {0}, parts = {0};
    struct tokenizer_stream stream;

    tokenizer_decode(tokenizer, list->ids, list->n, 0, &whole);
    tokenizer_stream_begin(&stream, tokenizer, 0);
    for (size_t i = 0; i < list->n; i++)
        tokenizer_stream_add(&stream, list->ids[i], &parts);
    tokenizer_stream_end(&stream, &parts);
    if (whole.length != parts.length ||
        (whole.length && memcmp(whole.data, parts.data, whole.length) != 0))
        abort();
    text_release(&whole);
    text_release(&parts);
}

static void check_text(struct tokenizer *tokenizer, const char *text, size_t n)
{
    struct token_list list[3] = {{0}, {0}, {0}};

    int first = tokenizer_encode(tokenizer, text, n, &list[0]);
    int second = tokenizer_encode(tokenizer, text, n, &list[1]);
    if (first != second || list[0].n != list[1].n ||
        (list[0].n && memcmp(list[0].ids, list[1].ids, list[0].n * sizeof(int32_t)) != 0))
        abort();
    tokenizer->patterns_only = 1;
    tokenizer_encode(tokenizer, text, n, &list[2]);
    for (int i = 0; i < 3; i++) {
        check_decoding(tokenizer, &list[i]);
        token_list_release(&list[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const uint8_t *nul = n ? memchr(data, 0, n) : NULL;
    size_t n_json = nul ? (size_t)(nul - data) : n;
    struct tokenizer *tokenizer = NULL;

    if (tokenizer_parse(&tokenizer, (const char *)data, n_json, "fuzz") == STATUS_OK && nul)
        check_text(tokenizer, (const char *)nul + 1, n - n_json - 1);
    tokenizer_destroy(&tokenizer);
    return 0;
}
