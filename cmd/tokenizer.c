/* hone tokenizer: trains a small one, and shows what ids a text has. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/cmd.h"
#include "common/files.h"
#include "common/json.h"
#include "common/log.h"
#include "common/status.h"
#include "model/model.h"


static const struct option_row options[] = {
    {"text", "FILE", "text to train on or to encode: lines, or .jsonl with \"text\" to train on "
                     "(encode and decode: standard input when absent)"},
    {"vocab", "N", "train: tokens to have at most (default 4096)"},
    {"out", "DIR", "train: where to write tokenizer.json"},
    {"special", "TEXT", "train: a special token; may be given again (default <|endoftext|>)"},
    {"split", "gpt2|qwen2|llama3", "train: how text is cut into words (default qwen2)"},
    {"tokenizer", "DIR", "encode, decode: the folder that has tokenizer.json"},
    {"skip-special", NULL, "decode: leave special tokens out"},
    {"escapes", NULL, "encode, decode: in text \\n, \\r, \\\\ and \\xHH stand for bytes"},
    {0},
};

/* ---- Lines of a file or of standard input, each with its line feed. */

static int next_line(FILE *in, const char *path, char **line, size_t *capacity, size_t *n)
{
    errno = 0;
    ssize_t got = getline(line, capacity, in);

    if (got < 0 && ferror(in))
        return status_fail(STATUS_IO, "%s: %s", path, strerror(errno));
    *n = got > 0 ? (size_t)got : 0;
    return STATUS_OK;
}

static int open_text(const struct arguments *arguments, FILE **in, const char **path)
{
    const char *name = argument_get(arguments, "text");

    *path = name ? name : "standard input";
    *in = name ? fopen(name, "rb") : stdin;
    if (!*in)
        return status_fail(STATUS_IO, "%s: %s", name, strerror(errno));
    return STATUS_OK;
}

static void close_text(FILE *in)
{
    if (in && in != stdin)
        fclose(in);
}

static size_t without_newline(const char *line, size_t n)
{
    return n && line[n - 1] == '\n' ? n - 1 : n;
}

/* ---- train */

static int add_document(struct tokenizer_trainer *trainer, const char *path, long long number,
                        const char *line, size_t n)
{
    json_t *object = NULL;
    const char *text;
    char where[FILE_PATH_MAX + 32];

    snprintf(where, sizeof(where), "%s:%lld", path, number);
    if (!without_newline(line, n))
        return STATUS_OK;
    TRY(json_parse(&object, line, n, where));
    int status = json_get_text(object, "text", where, &text);
    if (status == STATUS_OK)
        status = tokenizer_trainer_add(trainer, text, strlen(text));
    json_decref(object);
    return status;
}

static int add_file(struct tokenizer_trainer *trainer, const struct arguments *arguments)
{
    char *line = NULL;
    size_t capacity = 0, n = 0;
    long long number = 0;
    const char *path;
    FILE *in;
    int status;

    TRY(open_text(arguments, &in, &path));
    size_t length = strlen(path);
    int is_jsonl = length > 6 && strcmp(path + length - 6, ".jsonl") == 0;
    for (;;) {
        TRY_OUT(next_line(in, path, &line, &capacity, &n));
        if (!n)
            break;
        number++;
        TRY_OUT(is_jsonl ? add_document(trainer, path, number, line, n)
                         : tokenizer_trainer_add(trainer, line, n));
    }
    if (!number)
        status = status_fail(STATUS_FORMAT, "%s: there is no text", path);
out:
    free(line);
    close_text(in);
    return status;
}

static int write_trained(struct tokenizer_trainer *trainer, const char *directory)
{
    struct text json = {0};
    struct tokenizer *tokenizer = NULL;
    char path[FILE_PATH_MAX];
    int status;

    TRY_OUT(tokenizer_trainer_finish(trainer, &json));
    TRY_OUT(tokenizer_parse(&tokenizer, json.data, json.length, "the trained tokenizer"));
    TRY_OUT(file_make_directories(directory));
    TRY_OUT(file_join(path, directory, "tokenizer.json"));
    TRY_OUT(file_write_atomic(path, json.data, json.length));
    log_info("wrote %s: %d tokens", path, tokenizer_vocab_size(tokenizer));
out:
    tokenizer_destroy(&tokenizer);
    text_release(&json);
    return status;
}

static int run_train(const struct arguments *arguments)
{
    static const char *const end_of_text[] = {"<|endoftext|>"};
    const char *directory = argument_get(arguments, "out");
    struct tokenizer_trainer *trainer = NULL;
    long long vocab;
    int status;

    if (!directory || !argument_get(arguments, "text"))
        return status_fail(STATUS_CONFIG, "tokenizer train: --text FILE and --out DIR are needed");
    TRY(argument_int(arguments, "vocab", 4096, 256, 1000000, &vocab));
    const char **specials = argument_all(arguments, "special");
    struct tokenizer_training training = {.vocab_size = (int)vocab,
                                          .split = argument_or(arguments, "split", "qwen2"),
                                          .specials = specials};
    while (specials[training.n_specials])
        training.n_specials++;
    if (!training.n_specials) {
        training.specials = end_of_text;
        training.n_specials = 1;
    }
    TRY_OUT(tokenizer_trainer_create(&trainer, &training));
    TRY_OUT(add_file(trainer, arguments));
    TRY_OUT(write_trained(trainer, directory));
out:
    tokenizer_trainer_destroy(&trainer);
    mem_free(specials);
    return status;
}

/* ---- encode and decode */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10
         : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* In place; gives the new length. */
static size_t read_escapes(char *line, size_t n)
{
    size_t kept = 0;

    for (size_t i = 0; i < n; i++) {
        char c = line[i];
        if (c == '\\' && i + 1 < n) {
            c = line[++i];
            if (c == 'x' && i + 2 < n && hex_digit(line[i + 1]) >= 0 &&
                hex_digit(line[i + 2]) >= 0) {
                c = (char)(hex_digit(line[i + 1]) << 4 | hex_digit(line[i + 2]));
                i += 2;
            } else {
                c = c == 'n' ? '\n' : c == 'r' ? '\r' : c;
            }
        }
        line[kept++] = c;
    }
    return kept;
}

static void print_escaped(struct text *out, const struct text *text)
{
    for (size_t i = 0; i < text->length; i++) {
        char c = text->data[i];
        if (c == '\n' || c == '\r' || c == '\\')
            text_print(out, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : c);
        else if (c & 0x80 || c < ' ' || c == 0x7F)
            text_print(out, "\\x%02X", (unsigned)(unsigned char)c);
        else
            text_append(out, &c, 1);
    }
}

static int encode_line(const struct tokenizer *tokenizer, const char *line, size_t n,
                       struct token_list *list, struct text *out)
{
    list->n = 0;
    TRY(tokenizer_encode(tokenizer, line, n, list));
    for (size_t i = 0; i < list->n; i++)
        text_print(out, "%s%d", i ? " " : "", (int)list->ids[i]);
    return STATUS_OK;
}

static int decode_line(const struct tokenizer *tokenizer, const char *line,
                       const struct arguments *arguments, struct text *out)
{
    int skip_special = argument_get(arguments, "skip-special") != NULL;
    struct text decoded = {0};
    char *end;

    for (const char *at = line; *(at += strspn(at, " \t\r\n")); at = end) {
        errno = 0;
        long id = strtol(at, &end, 10);
        if (end == at || errno || id < 0 || id > INT32_MAX) {
            text_release(&decoded);
            return status_fail(STATUS_FORMAT, "\"%.32s\" is no token id", at);
        }
        tokenizer_decode(tokenizer, &(int32_t){(int32_t)id}, 1, skip_special, &decoded);
    }
    if (argument_get(arguments, "escapes"))
        print_escaped(out, &decoded);
    else
        text_append(out, decoded.data, decoded.length);
    text_release(&decoded);
    return STATUS_OK;
}

static int run_lines(const struct arguments *arguments, int is_encode)
{
    const char *directory = argument_get(arguments, "tokenizer"), *path;
    int escapes = argument_get(arguments, "escapes") != NULL, status;
    struct tokenizer *tokenizer = NULL;
    struct token_list list = {0};
    struct text out = {0};
    size_t capacity = 0, n = 0;
    char *line = NULL;
    FILE *in = NULL;

    if (!directory)
        return status_fail(STATUS_CONFIG, "tokenizer: --tokenizer DIR is needed");
    TRY_OUT(tokenizer_load(&tokenizer, directory));
    TRY_OUT(open_text(arguments, &in, &path));
    for (;;) {
        TRY_OUT(next_line(in, path, &line, &capacity, &n));
        if (!n)
            break;
        n = without_newline(line, n);
        line[n] = '\0';
        if (is_encode && escapes)
            n = read_escapes(line, n);
        TRY_OUT(is_encode ? encode_line(tokenizer, line, n, &list, &out)
                          : decode_line(tokenizer, line, arguments, &out));
        text_append(&out, "\n", 1);
        TRY_OUT(print_text(&out));
        text_clear(&out);
    }
out:
    free(line);
    close_text(in);
    text_release(&out);
    token_list_release(&list);
    tokenizer_destroy(&tokenizer);
    return status;
}

static int run(const struct command *command, const struct arguments *arguments)
{
    const char *what = arguments->n_positionals ? arguments->positionals[0] : "";

    (void)command;
    if (strcmp(what, "train") == 0)
        return run_train(arguments);
    if (strcmp(what, "encode") == 0 || strcmp(what, "decode") == 0)
        return run_lines(arguments, what[0] == 'e');
    return status_fail(STATUS_CONFIG, "tokenizer: \"%s\" is not known; it must be train, encode or "
                       "decode", what);
}

const struct command command_tokenizer = {
    "tokenizer", "train|encode|decode", 1, "train a small tokenizer; text to ids and back",
    "train writes a byte-level BPE tokenizer.json that Hugging Face's libraries load. encode\n"
    "prints the ids of each line of text on a line, decode the text of each line of ids.",
    options, run};
