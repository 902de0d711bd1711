/*
 * model/tokenizer.h - byte-level BPE from a Hugging Face tokenizer.json.
 *
 * Part of model/'s face (model.h includes it). Reads vocab, merges (both spellings), added tokens,
 * the ByteLevel and Split pre-tokenizers; anything else that would change ids is refused by name.
 * Encoding is exact, decoding gives back the bytes. Read-only after loading: threads may share it.
 */
#ifndef HONE_MODEL_TOKENIZER_H
#define HONE_MODEL_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "common/memory.h"

struct tokenizer;

int tokenizer_load(struct tokenizer **out, const char *directory);   /* its tokenizer.json */
int tokenizer_parse(struct tokenizer **out, const char *json, size_t n, const char *where);
void tokenizer_destroy(struct tokenizer **tokenizer);

int tokenizer_vocab_size(const struct tokenizer *tokenizer);   /* largest id + 1 */
/* The id of a token by its text ("<|endoftext|>"), or -1. */
int32_t tokenizer_find(const struct tokenizer *tokenizer, const char *text);
/* The end-of-text token: <|endoftext|>, <|im_end|>, </s>, <|end_of_text|>, <|eot_id|>: the first
 * that exists, or -1. */
int32_t tokenizer_eos(const struct tokenizer *tokenizer);

struct token_list {
    int32_t *ids;
    size_t n, capacity;
};
void token_list_release(struct token_list *list);

/* Appends the ids of text[0..n). Added tokens are recognised; no BOS or EOS is put in. */
int tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t n,
                     struct token_list *out);
/* Appends the bytes of the ids. Special tokens (EOS, padding) give nothing when `skip_special`. */
void tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t n,
                      int skip_special, struct text *out);

/* tokenizer.json as it was read, to put beside weights that are saved. */
void tokenizer_json(const struct tokenizer *tokenizer, const char **json, size_t *n);

#endif
