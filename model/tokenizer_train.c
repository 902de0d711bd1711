/*
 * Training byte pair encoding (Sennrich et al., 2016): texts become distinct pieces and how often
 * each occurs; then tokenizer_pairs.c finds the merges; then tokenizer.json is written. Pairs,
 * their order and ids are those of Hugging Face's BpeTrainer.
 */
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/status.h"
#include "model/tokenizer_internal.h"
#include "model/tokenizer_pairs.h"

#define MAX_VOCAB 1000000
#define FIRST_SLOT_BITS 12
#define MAX_PIECE_BYTES ((size_t)1 << 30)   /* of all distinct pieces together */

struct tokenizer_trainer {
    struct piece_sink sink;   /* first: the sink's address is the trainer's */
    struct tokenizer *splitter;
    struct text stages;       /* its "normalizer", "pre_tokenizer" and "decoder" */
    char **specials;
    size_t n_specials;
    int vocab_size;
    struct text bytes;        /* of the distinct pieces, one after another */
    struct trained_piece *pieces;
    size_t n_pieces, capacity;
    uint32_t *slots;          /* index + 1 of a piece by its bytes */
    unsigned slot_bits;
};

static uint64_t hash_piece(const char *bytes, size_t n)
{
    uint64_t hash = n * 0x9E3779B97F4A7C15u;

    for (; n >= 8; n -= 8, bytes += 8) {
        uint64_t eight;
        memcpy(&eight, bytes, 8);
        hash = (hash ^ eight) * 0xFF51AFD7ED558CCDu;
        hash ^= hash >> 32;
    }
    for (; n; n--)
        hash = (hash ^ (unsigned char)*bytes++) * 0x100000001B3u;
    return (hash ^ hash >> 29) * 0xC4CEB9FE1A85EC53u;
}

static uint32_t *find_slot(const struct tokenizer_trainer *trainer, const char *bytes, size_t n)
{
    size_t mask = ((size_t)1 << trainer->slot_bits) - 1;
    size_t at = hash_piece(bytes, n) >> (64 - trainer->slot_bits);

    for (; trainer->slots[at]; at = (at + 1) & mask) {
        const struct trained_piece *piece = &trainer->pieces[trainer->slots[at] - 1];
        if (piece->n == n && memcmp(trainer->bytes.data + piece->offset, bytes, n) == 0)
            break;
    }
    return &trainer->slots[at];
}

static void double_slots(struct tokenizer_trainer *trainer)
{
    mem_free(trainer->slots);
    trainer->slot_bits++;
    trainer->slots = mem_alloc((size_t)1 << trainer->slot_bits, sizeof(*trainer->slots));
    for (size_t i = 0; i < trainer->n_pieces; i++) {
        const struct trained_piece *piece = &trainer->pieces[i];
        *find_slot(trainer, trainer->bytes.data + piece->offset, piece->n) = (uint32_t)i + 1;
    }
}

static void take_piece(struct piece_sink *sink, const char *bytes, size_t n)
{
    struct tokenizer_trainer *trainer = (struct tokenizer_trainer *)sink;
    uint32_t *slot = find_slot(trainer, bytes, n);

    if (*slot) {
        trainer->pieces[*slot - 1].count++;
        return;
    }
    if (trainer->bytes.failed || trainer->n_pieces >= UINT32_MAX / 4)
        return;
    if (trainer->n_pieces == trainer->capacity) {
        trainer->capacity = trainer->capacity ? 2 * trainer->capacity : 1024;
        trainer->pieces = mem_resize(trainer->pieces, trainer->capacity,
                                     sizeof(*trainer->pieces));
    }
    trainer->pieces[trainer->n_pieces++] =
        (struct trained_piece){.offset = trainer->bytes.length, .n = (uint32_t)n, .count = 1};
    text_append(&trainer->bytes, bytes, n);
    *slot = (uint32_t)trainer->n_pieces;
    if (2 * trainer->n_pieces > (size_t)1 << trainer->slot_bits)
        double_slots(trainer);
}

static int write_stages(struct text *out, const char *split)
{
    const struct {
        const char *name, *pattern;
    } known[] = {{"gpt2", NULL}, {"qwen2", split_qwen2}, {"llama3", split_llama3}};

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(known[i].name, split) != 0)
            continue;
        const char *pattern = known[i].pattern;
        text_print(out, "\"normalizer\":%s,\"pre_tokenizer\":",
                   strcmp(split, "qwen2") == 0 ? "{\"type\":\"NFC\"}" : "null");
        if (pattern) {
            text_print(out, "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\","
                       "\"pattern\":{\"Regex\":");
            json_append_string(out, pattern, strlen(pattern));
            text_print(out, "},\"behavior\":\"Isolated\",\"invert\":false},");
        }
        text_print(out, "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,"
                   "\"use_regex\":%s}%s,\"post_processor\":null,"
                   "\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,"
                   "\"trim_offsets\":true,\"use_regex\":true}",
                   pattern ? "false" : "true", pattern ? "]}" : "");
        return STATUS_OK;
    }
    return status_fail(STATUS_CONFIG, "split \"%.64s\" is not known; it must be gpt2, qwen2 or "
                       "llama3", split);
}

static int check_training(const struct tokenizer_training *training)
{
    int least = 256 + (int)training->n_specials;

    if (training->n_specials > MAX_VOCAB / 2 || training->vocab_size < least ||
        training->vocab_size > MAX_VOCAB)
        return status_fail(STATUS_CONFIG, "a vocabulary of %d is not possible; 256 bytes and %zu "
                           "special tokens need %d, and %d is the most", training->vocab_size,
                           training->n_specials, least, MAX_VOCAB);
    for (size_t i = 0; i < training->n_specials; i++) {
        const char *special = training->specials[i];
        size_t n = strlen(special);
        /* One of a single character could be a byte's name; 1024 is what loading takes. */
        if (utf8_length((const unsigned char *)special, n) == n || n > 1024 ||
            utf8_valid_prefix((const unsigned char *)special, n) != n)
            return status_fail(STATUS_CONFIG, "special token \"%.64s\" must be UTF-8 of more than "
                               "one character and at most 1024 bytes", special);
        for (size_t k = 0; k < i; k++)
            if (strcmp(special, training->specials[k]) == 0)
                return status_fail(STATUS_CONFIG, "special token \"%.64s\" is given twice",
                                   special);
    }
    return STATUS_OK;
}

int tokenizer_trainer_create(struct tokenizer_trainer **out,
                             const struct tokenizer_training *training)
{
    struct text json = {0};
    int status;

    *out = NULL;
    TRY(check_training(training));
    struct tokenizer_trainer *trainer = mem_alloc(1, sizeof(*trainer));
    trainer->sink.take = take_piece;
    trainer->bytes.maximum = MAX_PIECE_BYTES;
    trainer->vocab_size = training->vocab_size;
    trainer->specials = mem_alloc(training->n_specials, sizeof(*trainer->specials));
    trainer->slot_bits = FIRST_SLOT_BITS - 1;
    double_slots(trainer);
    for (size_t i = 0; i < training->n_specials; i++)
        trainer->specials[trainer->n_specials++] = mem_copy_text(training->specials[i]);
    TRY_OUT(write_stages(&trainer->stages, training->split));
    text_print(&json, "{%s,\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}",
               trainer->stages.data);
    TRY_OUT(tokenizer_parse(&trainer->splitter, json.data, json.length, "training"));
out:
    text_release(&json);
    if (status < 0)
        tokenizer_trainer_destroy(&trainer);
    *out = trainer;
    return status;
}

void tokenizer_trainer_destroy(struct tokenizer_trainer **out)
{
    struct tokenizer_trainer *trainer = *out;

    if (!trainer)
        return;
    for (size_t i = 0; i < trainer->n_specials; i++)
        mem_free(trainer->specials[i]);
    mem_free(trainer->specials);
    tokenizer_destroy(&trainer->splitter);
    text_release(&trainer->stages);
    text_release(&trainer->bytes);
    mem_free(trainer->pieces);
    mem_free(trainer->slots);
    mem_free(trainer);
    *out = NULL;
}

int tokenizer_trainer_add(struct tokenizer_trainer *trainer, const char *text, size_t n)
{
    TRY(tokenizer_pieces(trainer->splitter, text, n, &trainer->sink));
    if (trainer->bytes.failed)
        return status_fail(STATUS_NOMEM, "training text has over %zu bytes of distinct pieces: "
                           "give less text", MAX_PIECE_BYTES);
    return STATUS_OK;
}

static void write_added(struct text *out, const struct tokenizer_trainer *trainer)
{
    text_print(out, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,"
               "\"added_tokens\":[");
    for (size_t i = 0; i < trainer->n_specials; i++) {
        text_print(out, "%s{\"id\":%zu,\"content\":", i ? "," : "", i);
        json_append_string(out, trainer->specials[i], strlen(trainer->specials[i]));
        text_print(out, ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
                   "\"normalized\":false,\"special\":true}");
    }
    text_print(out, "],");
    text_append(out, trainer->stages.data, trainer->stages.length);
}

int tokenizer_trainer_finish(struct tokenizer_trainer *trainer, struct text *json)
{
    struct pair_table pairs;

    TRY(pair_table_train(&pairs, trainer->pieces, trainer->n_pieces, trainer->bytes.data,
                         (const char *const *)trainer->specials, trainer->n_specials,
                         trainer->vocab_size));
    write_added(json, trainer);
    text_print(json, ",\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,"
               "\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,"
               "\"fuse_unk\":false,\"byte_fallback\":false,\"ignore_merges\":false,\"vocab\":{");
    for (size_t id = 0; id < pairs.n_tokens; id++) {
        text_print(json, id ? "," : "");
        json_append_string(json, pairs.tokens[id], strlen(pairs.tokens[id]));
        text_print(json, ":%zu", id);
    }
    text_print(json, "},\"merges\":[");
    for (size_t i = 0, written = 0; i < pairs.n_merges; i++) {
        struct text merge = {0};
        if (pairs.merges[i].is_repeated)
            continue;
        text_print(&merge, "%s %s", pairs.tokens[pairs.merges[i].left],
                   pairs.tokens[pairs.merges[i].right]);
        text_print(json, written++ ? "," : "");
        json_append_string(json, merge.data, merge.length);
        text_release(&merge);
    }
    text_print(json, "]}}\n");
    pair_table_release(&pairs);
    return json->failed ? status_fail(STATUS_NOMEM, "tokenizer.json grows too large") : STATUS_OK;
}
