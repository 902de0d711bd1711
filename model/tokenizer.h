/*
 * model/tokenizer.h - byte-level BPE from a Hugging Face tokenizer.json, and training a small one.
 *
 * Part of model/'s face (model.h includes it). Reads what GPT-2, Qwen, Llama 3 and DeepSeek use;
 * anything that would change ids is refused by name. A post-processor that only puts special tokens
 * around the text is accepted and not applied. Ids are those of Hugging Face's library, and
 * decoding gives back the bytes. Read-only after loading: threads may share it.
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
/* The end-of-text token: <|endoftext|>, <|im_end|>, DeepSeek's <｜end▁of▁sentence｜>, </s>,
 * <|end_of_text|>, <|eot_id|>: the first that exists, or -1. */
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

/* Decoding one id at a time: what comes out ends at whole characters, and all of it together is
 * what tokenizer_decode() gives. Needs no release; the tokenizer must outlive it. */
struct tokenizer_stream {
    const struct tokenizer *tokenizer;
    int skip_special;
    unsigned char held[4];   /* the start of a character whose end has not come */
    size_t n_held;
};
void tokenizer_stream_begin(struct tokenizer_stream *stream, const struct tokenizer *tokenizer,
                            int skip_special);
void tokenizer_stream_add(struct tokenizer_stream *stream, int32_t id, struct text *out);
void tokenizer_stream_end(struct tokenizer_stream *stream, struct text *out);   /* the held bytes */

/* tokenizer.json as it was read, to put beside weights that are saved. */
void tokenizer_json(const struct tokenizer *tokenizer, const char **json, size_t *n);

/* Training: create, add each document, finish. The most frequent pair is merged first; of equals
 * the one whose left id, then right id, is smaller. Ids: special tokens, the 256 bytes in the order
 * of GPT-2's alphabet, merges. The file is a function of the options and of the texts. */
struct tokenizer_training {
    int vocab_size;                /* fewer when the text has no more pairs */
    const char *split;             /* "gpt2", "qwen2" or "llama3" */
    const char *const *specials;   /* "<|endoftext|>"; may be NULL when there are none */
    size_t n_specials;
};
struct tokenizer_trainer;
int tokenizer_trainer_create(struct tokenizer_trainer **out,
                             const struct tokenizer_training *training);
int tokenizer_trainer_add(struct tokenizer_trainer *trainer, const char *text, size_t n);
/* Appends tokenizer.json. */
int tokenizer_trainer_finish(struct tokenizer_trainer *trainer, struct text *json);
void tokenizer_trainer_destroy(struct tokenizer_trainer **trainer);

#endif
