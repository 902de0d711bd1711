/*
 * bench/bench_tokenizer.c - speed of encoding and decoding on one thread.
 *
 * Each line of the text is encoded by itself, as documents are. Prints MB/s: the first pass, when
 * no piece is known yet, and the best of the others.
 *
 *     bench_tokenizer [DIR with tokenizer.json] [text]
 *
 * tools/check_tokenizer.py prints the figures of Hugging Face's library beside these. Without
 * arguments: a small tokenizer trained on made-up text.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/files.h"
#include "common/random.h"
#include "common/status.h"
#include "model/tokenizer.h"

#define PASSES 6
#define MAX_TEXT_BYTES ((size_t)1 << 30)

static int make_up(struct text *text, struct tokenizer **out)
{
    static const char *const parts[] = {"ba", "ne", "ti", "cor", "sta", "ing", "ed", " the ", ", ",
                                        " x = ", "42", " \xD0\xB4\xD0\xB0 ", "\xE5\xAD\x97", "\n"};
    struct random_stream stream = {.seed = 1};
    struct tokenizer_training training = {.vocab_size = 2000, .split = "qwen2"};
    struct tokenizer_trainer *trainer;
    struct text json = {0};

    while (text->length < (size_t)4 << 20) {
        const char *part = parts[random_below(&stream, sizeof(parts) / sizeof(parts[0]))];
        text_append(text, part, strlen(part));
    }
    TRY(tokenizer_trainer_create(&trainer, &training));
    int status = tokenizer_trainer_add(trainer, text->data, text->length);
    if (status == STATUS_OK)
        status = tokenizer_trainer_finish(trainer, &json);
    if (status == STATUS_OK)
        status = tokenizer_parse(out, json.data, json.length, "made up");
    tokenizer_trainer_destroy(&trainer);
    text_release(&json);
    return status;
}

static int encode_lines(const struct tokenizer *tokenizer, const struct text *text,
                        struct token_list *list)
{
    const char *at = text->data, *end = text->data + text->length;

    list->n = 0;
    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t n = (size_t)((newline ? newline : end) - at);
        TRY(tokenizer_encode(tokenizer, at, n, list));
        at += n + 1;
    }
    return STATUS_OK;
}

static int measure(const struct tokenizer *tokenizer, const struct text *text)
{
    struct token_list list = {0};
    struct text decoded = {0};
    double megabytes = (double)text->length / 1e6, first = 0, best = 0, decode = 0;
    int status = STATUS_OK;

    for (int pass = 0; pass < PASSES && status == STATUS_OK; pass++) {
        double start = clock_seconds();
        status = encode_lines(tokenizer, text, &list);
        double middle = clock_seconds();
        text_clear(&decoded);
        tokenizer_decode(tokenizer, list.ids, list.n, 0, &decoded);
        double end = clock_seconds();
        first = pass ? first : megabytes / (middle - start);
        best = megabytes / (middle - start) > best ? megabytes / (middle - start) : best;
        decode = megabytes / (end - middle) > decode ? megabytes / (end - middle) : decode;
    }
    printf("%.1f MB/s first, %.1f MB/s best, decode %.0f MB/s (%.1f MB, %zu ids)\n", first, best,
           decode, megabytes, list.n);
    token_list_release(&list);
    text_release(&decoded);
    return status;
}

int main(int argc, char **argv)
{
    struct tokenizer *tokenizer = NULL;
    struct text text = {0};
    int status;

    if (argc == 3) {
        double start = clock_seconds();
        status = tokenizer_load(&tokenizer, argv[1]);
        printf("load %.0f ms; ", 1e3 * (clock_seconds() - start));
        if (status == STATUS_OK)
            status = file_read(argv[2], MAX_TEXT_BYTES, &text);
    } else {
        status = make_up(&text, &tokenizer);
    }
    if (status == STATUS_OK)
        status = measure(tokenizer, &text);
    if (status < 0)
        fprintf(stderr, "bench_tokenizer: %s\n", status_reason());
    tokenizer_destroy(&tokenizer);
    text_release(&text);
    return status_exit_code(status);
}
