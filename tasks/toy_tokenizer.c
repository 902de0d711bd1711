/*
 * A byte-level BPE tokenizer.json for the toy world.
 *
 * The merges are made for a list of snippets: each is encoded with the merges so far, and its
 * first two pieces are joined by a new merge until it is one token. Later merges have higher ranks,
 * so they never undo an earlier snippet. "\nA " is the first: whatever follows a prompt, its end is
 * joined before anything can reach across, and prompt and answer have the same tokens apart and
 * together.
 */
#include <string.h>

#include "common/json.h"
#include "common/status.h"
#include "tasks/toy.h"

#define N_ADDED 5
#define N_BYTES 256
#define MAX_TOKENS 512
#define MAX_TOKEN_BYTES 32

static const char *const added[N_ADDED] = {"<|endoftext|>", "<think>", "</think>", "<answer>",
                                           "</answer>"};

/* Earlier ones win where two could match. */
static const char *const snippets[] = {
    "\nA ", "Q ", " then ", " so ", " next ", " 然后 ", " 所以 ", " 接着 ", " mod ", " make ",
    " yes", " no", "f(", ")=", " f(", "int f(int x){return x", ";}", " of ",
};

struct piece {
    char bytes[MAX_TOKEN_BYTES];
    int n;
};

struct builder {
    struct piece tokens[MAX_TOKENS];   /* by id; bytes are at N_ADDED + byte */
    int merges[MAX_TOKENS][2];         /* of the token with this id */
    int n;
};

static int find_merge(const struct builder *builder, int left, int right)
{
    for (int id = N_ADDED + N_BYTES; id < builder->n; id++)
        if (builder->merges[id][0] == left && builder->merges[id][1] == right)
            return id;
    return -1;
}

/* BPE: the pair with the lowest rank is joined until no pair has one. */
static int encode(const struct builder *builder, const char *text, int ids[MAX_TOKEN_BYTES])
{
    int n = (int)strlen(text);

    for (int i = 0; i < n; i++)
        ids[i] = N_ADDED + (unsigned char)text[i];
    for (;;) {
        int best = -1, at = 0;

        for (int i = 0; i + 1 < n; i++) {
            int id = find_merge(builder, ids[i], ids[i + 1]);

            if (id >= 0 && (best < 0 || id < best)) {
                best = id;
                at = i;
            }
        }
        if (best < 0)
            return n;
        ids[at] = best;
        memmove(&ids[at + 1], &ids[at + 2], (size_t)(n - at - 2) * sizeof(*ids));
        n--;
    }
}

static void add_merge(struct builder *builder, int left, int right)
{
    const struct piece *a = &builder->tokens[left], *b = &builder->tokens[right];
    struct piece *joined = &builder->tokens[builder->n];

    if (builder->n == MAX_TOKENS || a->n + b->n > MAX_TOKEN_BYTES)
        BUG("the toy tokenizer has no room for another token");
    memcpy(joined->bytes, a->bytes, (size_t)a->n);
    memcpy(joined->bytes + a->n, b->bytes, (size_t)b->n);
    joined->n = a->n + b->n;
    for (int id = N_ADDED; id < builder->n; id++)
        if (builder->tokens[id].n == joined->n &&
            memcmp(builder->tokens[id].bytes, joined->bytes, (size_t)joined->n) == 0)
            BUG("the toy tokenizer would hold \"%.*s\" twice: order its snippets otherwise",
                joined->n, joined->bytes);
    builder->merges[builder->n][0] = left;
    builder->merges[builder->n][1] = right;
    builder->n++;
}

static void build(struct builder *builder)
{
    int ids[MAX_TOKEN_BYTES];

    for (int byte = 0; byte < N_BYTES; byte++) {
        builder->tokens[N_ADDED + byte].bytes[0] = (char)byte;
        builder->tokens[N_ADDED + byte].n = 1;
    }
    builder->n = N_ADDED + N_BYTES;
    for (size_t i = 0; i < sizeof(snippets) / sizeof(snippets[0]); i++)
        while (encode(builder, snippets[i], ids) > 1)
            add_merge(builder, ids[0], ids[1]);
}

/* The printable stand-in of a byte in a byte-level vocabulary (GPT-2's table), as UTF-8. */
static void append_byte(struct text *out, unsigned char byte)
{
    int shown = 0, code = 256;
    char utf8[2];

    for (int i = 0; i <= byte; i++) {
        shown = (i >= 33 && i <= 126) || (i >= 161 && i <= 172) || i >= 174;
        if (!shown && i < byte)
            code++;
    }
    if (shown)
        code = byte;
    if (code < 128) {
        utf8[0] = (char)code;
        text_append(out, utf8, 1);
        return;
    }
    utf8[0] = (char)(0xC0 | code >> 6);
    utf8[1] = (char)(0x80 | (code & 0x3F));
    text_append(out, utf8, 2);
}

static void append_piece(struct text *out, const struct piece *piece)
{
    for (int i = 0; i < piece->n; i++)
        append_byte(out, (unsigned char)piece->bytes[i]);
}

static void append_vocab(struct text *out, const struct builder *builder)
{
    struct text token = {0};

    text_print(out, "\"vocab\":{");
    for (int id = 0; id < builder->n; id++) {
        text_clear(&token);
        if (id < N_ADDED)
            text_print(&token, "%s", added[id]);
        else
            append_piece(&token, &builder->tokens[id]);
        if (id > 0)
            text_append(out, ",", 1);
        json_append_string(out, token.data, token.length);
        text_print(out, ":%d", id);
    }
    text_print(out, "},\"merges\":[");
    for (int id = N_ADDED + N_BYTES; id < builder->n; id++) {
        text_clear(&token);
        append_piece(&token, &builder->tokens[builder->merges[id][0]]);
        text_append(&token, " ", 1);
        append_piece(&token, &builder->tokens[builder->merges[id][1]]);
        if (id > N_ADDED + N_BYTES)
            text_append(out, ",", 1);
        json_append_string(out, token.data, token.length);
    }
    text_print(out, "]");
    text_release(&token);
}

void toy_tokenizer_write(struct text *out)
{
    struct builder *builder = mem_alloc(1, sizeof(*builder));

    build(builder);
    text_print(out, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[");
    for (int id = 0; id < N_ADDED; id++)
        text_print(out,
                   "%s{\"id\":%d,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,"
                   "\"rstrip\":false,\"normalized\":false,\"special\":%s}",
                   id ? "," : "", id, added[id], id ? "false" : "true");
    text_print(out, "],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\","
                    "\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":false},"
                    "\"post_processor\":null,\"decoder\":{\"type\":\"ByteLevel\","
                    "\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":false},"
                    "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,"
                    "\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,"
                    "\"fuse_unk\":false,\"byte_fallback\":false,\"ignore_merges\":false,");
    append_vocab(out, builder);
    text_print(out, "}}\n");
    mem_free(builder);
}
