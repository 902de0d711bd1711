/*
 * model/model.h - the transformer: its shape, its weights, forward, backward, decoding.
 *
 * Llama, Mistral, Qwen2 and Qwen3: RMSNorm, RoPE and its long-context scalings, grouped-query
 * attention, SwiGLU, optional q/k/v bias, optional q/k norm, tied or untied head. A model is a
 * Hugging Face folder: config.json, model.safetensors or its shards, tokenizer.json. Used by
 * rollout/ (decode with a cache) and learner/ (whole sequences). It knows nothing of rewards or
 * sockets. Every file read here comes from outside and is treated as hostile: sizes, offsets and
 * types are checked, and a refusal names the key.
 */
#ifndef HONE_MODEL_MODEL_H
#define HONE_MODEL_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "common/memory.h"
#include "model/notes.h"
#include "model/tokenizer.h"
#include "ops/ops.h"

enum model_family { MODEL_LLAMA, MODEL_QWEN2, MODEL_QWEN3, MODEL_MISTRAL };

/* How a long-context model bends its rotary frequencies, in the words of "rope_scaling"; 0 is a key
 * that was not given. */
enum rope_kind { ROPE_DEFAULT, ROPE_LINEAR, ROPE_DYNAMIC, ROPE_LLAMA3, ROPE_YARN };
struct rope_scaling {
    enum rope_kind kind;
    double factor, original_positions;
    double low_freq_factor, high_freq_factor;                              /* llama3 */
    double attention_factor, beta_fast, beta_slow, mscale, mscale_all_dim; /* yarn */
};

struct model_shape {
    enum model_family family;
    int n_layers, n_heads, n_kv_heads, head_dim;
    int channels, hidden_channels, vocab_size, max_positions;
    int qkv_bias, qk_norm, tied_head;
    double rope_base, norm_eps;
    struct rope_scaling rope_scaling;
};

/* config.json in Hugging Face's words, both ways. `where` names the file in errors. Fields that
 * would change the maths and are not supported (a sliding window, experts, ...) are refused. */
int model_shape_parse(struct model_shape *shape, const char *json, size_t n, const char *where);
void model_shape_print(const struct model_shape *shape, int bos_id, int eos_id, struct text *out);
int64_t model_shape_parameters(const struct model_shape *shape);

struct model;   /* weights on one device, their names, and gradients when trainable */

/* Random weights as transformers initialises them (normal 0.02, norms 1, biases 0). */
int model_create(struct model **out, struct ops *ops, const struct model_shape *shape,
                 int trainable, uint64_t seed);
/* From a folder, or from config.json and safetensors that lie in memory. F16 and BF16 weights
 * become float32 on their way from the mapped file to the device. */
int model_load(struct model **out, struct ops *ops, const char *directory, int trainable);
int model_load_memory(struct model **out, struct ops *ops, const char *config_json,
                      size_t n_config, const void *safetensors, size_t n_safetensors,
                      int trainable);
void model_destroy(struct model **model);
const struct model_shape *model_shape(const struct model *model);
struct ops *model_ops(const struct model *model);

/* Name, view and gradient (data NULL unless trainable) of weight i, in file order; either view may
 * be NULL when it is not wanted. The one list
 * that loading, publishing, checkpoints and AdamW all walk. */
size_t model_n_weights(const struct model *model);
const char *model_weight(const struct model *model, size_t i, struct tensor *weight,
                         struct tensor *gradient);
void model_zero_gradients(struct model *model);

/* Must follow every change of the weights: the packed copies are made anew. */
void model_weights_changed(struct model *model);

/* All weights as one safetensors image (F32), and back into a model of the same shape. Reading
 * checks everything before it changes anything, NaN and Inf included. */
int model_write_weights(const struct model *model, struct text *out);
int model_read_weights(struct model *model, const void *bytes, size_t n, const char *where);

/* config.json and model.safetensors into an existing directory, a piece at a time. dtype is
 * DTYPE_F32 or DTYPE_BF16 (rounded to nearest, ties to even); model_save() writes DTYPE_F32. */
int model_save(const struct model *model, int bos_id, int eos_id, const char *directory);
int model_save_as(const struct model *model, int bos_id, int eos_id, enum dtype dtype,
                  const char *directory);
/* The same from folder to folder, without a device. Shards become one file; the keys of config.json
 * that hone does not read stay behind: see model_notes_put_config(). */
int model_convert(const char *from, const char *to, enum dtype dtype);
/* The dtype of the weights in a folder: DTYPE_BF16 when all are BF16, else DTYPE_F32. */
int model_folder_dtype(const char *directory, enum dtype *dtype);

/* ---- Named tensors in a safetensors image, for optimizer state and the like. */
struct named_tensor {
    const char *name;
    struct tensor tensor;   /* F32, BF16 or I32, host memory */
};
int safetensors_write(struct text *out, const struct named_tensor *tensors, size_t n);
/* Finds `name` with exactly this dtype and shape and returns where its bytes lie (unaligned). */
struct safetensors;
int safetensors_open(struct safetensors **out, const void *bytes, size_t n, const char *where);
int safetensors_get(const struct safetensors *file, const char *name, const struct tensor *like,
                    const unsigned char **data);
void safetensors_close(struct safetensors **file);

/* ---- Whole sequences: N packed tokens in S segments that do not see each other. */
struct model_batch {
    int n_tokens, n_segments, n_targets;
    const int32_t *tokens;        /* [n_tokens] */
    const int32_t *positions;     /* [n_tokens], from 0 in each segment */
    const int32_t *segments;      /* [n_segments + 1], first 0, last n_tokens */
    const int32_t *target_rows;   /* [n_targets], distinct: the row whose output predicts ... */
    const int32_t *targets;       /* [n_targets]: ... this token */
};

struct model_tape; /* activations between forward and backward; memory grows to the largest batch */
int model_tape_create(struct model_tape **out, struct model *model);
void model_tape_destroy(struct model_tape **tape);
/* Bytes of the activations of n_tokens and n_targets: for `hone plan`. */
size_t model_tape_bytes(const struct model_shape *shape, int n_tokens, int n_targets);

/* Fills logprobs[n_targets] (host) at this temperature, and entropy[n_targets] unless NULL. Keeps
 * what model_backward() needs when `keep` is set. */
int model_forward(struct model *model, struct model_tape *tape, const struct model_batch *batch,
                  float temperature, int keep, float *logprobs, float *entropy);
/* Adds to the gradients; d_logprobs[n_targets] (host) belongs to the batch of the last forward. */
int model_backward(struct model *model, struct model_tape *tape, const struct model_batch *batch,
                   float temperature, const float *d_logprobs);

/* ---- Decoding with a cache. A prompt slot holds the keys of one prompt, computed once; a sequence
 * slot holds those of one completion and refers to its prompt's slot: G completions share it. */
struct model_cache;
int model_cache_create(struct model_cache **out, struct model *model, int n_prompts,
                       int max_prompt, int n_sequences, int max_completion);
void model_cache_destroy(struct model_cache **cache);

/* Computes prompts tokens[segments[i] .. segments[i+1]) into prompt_slots[i] and fills
 * logits[n_prompts, V] (host) of each one's last token. */
int model_prefill(struct model *model, struct model_cache *cache, int n_prompts,
                  const int32_t *tokens, const int32_t *segments, const int32_t *prompt_slots,
                  float *logits);

/* One more token for each of n sequences: row i appends token to sequence_slot (whose length is
 * `position` tokens so far, all by this function) behind the prompt in prompt_slot. Fills
 * logits[n, V] (host). */
struct model_decode_row {
    int32_t prompt_slot, sequence_slot, position, token;
};
int model_decode(struct model *model, struct model_cache *cache, int n,
                 const struct model_decode_row *rows, float *logits);

/* The log-probability of `token` under logits[V] at a temperature, by the same code as
 * model_forward(): equal to the bit. */
float model_logprob(struct model *model, const float *logits, int32_t token, float temperature);

#endif
