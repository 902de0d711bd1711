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

#include "common/files.h"
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

/* Which matrices get an adapter (LoRA, Hu et al. 2021), in the words of PEFT's "target_modules". */
#define MODEL_N_LORA_TARGETS 7
extern const char *const model_lora_targets[MODEL_N_LORA_TARGETS + 1];   /* "q_proj", ..., NULL */
struct model_lora {
    int rank;            /* 0: no adapters, every weight is trained */
    double alpha;        /* adapters are multiplied with alpha / rank */
    unsigned targets;    /* bit i: model_lora_targets[i] */
    uint64_t seed;       /* of the random start of A; B starts at 0 */
};

struct model_options {
    int trainable;       /* has gradients; keeps float32 masters */
    int bf16;            /* products, norms and biases see the weights rounded to bfloat16 */
    struct model_lora lora;   /* only the adapters are trained; the rest is frozen */
};
/* A frozen model holds matrices packed, once, as its files do (BF16 stays BF16, F16 becomes F32);
 * a trained one holds float32 rows and rounds on the way into a product. */
extern const struct model_options model_frozen, model_trainable;

struct model;   /* weights on one device, their names, and gradients when trainable */

/* Random weights as transformers initialises them (normal 0.02, norms 1, biases 0). */
int model_create(struct model **out, struct ops *ops, const struct model_shape *shape,
                 const struct model_options *options, uint64_t seed);
/* From a folder, or from config.json in memory and a mapped safetensors file: from there to the
 * device in small pieces. */
int model_load(struct model **out, struct ops *ops, const char *directory,
               const struct model_options *options);
int model_load_map(struct model **out, struct ops *ops, const char *config_json, size_t n_config,
                   const struct file_map *image, const struct model_options *options);
void model_destroy(struct model **model);
const struct model_shape *model_shape(const struct model *model);
struct ops *model_ops(const struct model *model);
const struct model_options *model_options(const struct model *model);
/* Bytes of weights and of gradients on the device: for `hone plan`. */
struct model_bytes {
    size_t weights, gradients, trained;   /* trained: of the float32 values that AdamW changes */
};
void model_size(const struct model_shape *shape, const struct model_options *options,
                struct model_bytes *bytes);

/* Name, view and gradient of weight i, in file order; either view may be NULL when it is not
 * wanted. Data is NULL for a matrix of a frozen model and for a gradient that does not exist. */
size_t model_n_weights(const struct model *model);
const char *model_weight(const struct model *model, size_t i, struct tensor *weight,
                         struct tensor *gradient);
/* The same for what is trained: all weights, or the adapters under PEFT's names. The one list that
 * AdamW and its state walk. */
size_t model_n_trained(const struct model *model);
const char *model_trained(const struct model *model, size_t i, struct tensor *weight,
                          struct tensor *gradient);
void model_zero_gradients(struct model *model);
/* All that is trained as two runs of device memory, of as many floats as is returned: tensors in
 * the list's order at the same places in both, gaps 0. For ranks, who cut them into slices. */
size_t model_trained_run(const struct model *model, float **weights, float **gradients);
/* While a backward pass goes on: in the run of gradients, all from element `first` on are there. */
struct model_watcher {
    void (*ready)(void *context, size_t first);   /* NULL: nobody watches */
    void *context;
};
void model_watch_gradients(struct model *model, const struct model_watcher *watcher);

/* Must follow every change of the weights. */
void model_weights_changed(struct model *model);

/* All weights as one safetensors image, as products see them (with adapters, BF16 when the model
 * rounds, else F32), and back into a model of the same shape. Reading checks everything before it
 * changes anything, NaN and Inf included. An image passes through memory in pieces. */
int model_save_weights(const struct model *model, const char *path);
int model_map_weights(const struct model *model, struct file_map *image);   /* without a name */
int model_read_map(struct model *model, const struct file_map *image, const char *where);
/* The same of an image that differs from the one before where has_changed() says so: tensors in
 * which nothing did are left as they are, and their bytes are not looked at. */
int model_read_changes(struct model *model, const struct file_map *image, const char *where,
                       int (*has_changed)(const void *context, uint64_t from, uint64_t to),
                       const void *context);

/* ---- Weights as a device holds them, for another process on it (share.c). A frozen model of one
 * dtype has the same bytes wherever it lies: its regions are copied whole. */
#define MODEL_N_REGIONS 2
struct model_region {
    void *memory;        /* of the device */
    size_t bytes;
};
enum dtype model_seen_dtype(const struct model *model);   /* what products see */
/* A frozen model of zeros, to be written by what follows. */
int model_create_frozen(struct model **out, struct ops *ops, const struct model_shape *shape,
                        enum dtype dtype);
/* As products see them, into a frozen model of that shape and dtype on the same device. A NaN or
 * Inf is refused. */
int model_freeze_weights(struct model *to, const struct model *from);
void model_regions(const struct model *model, struct model_region regions[MODEL_N_REGIONS]);
/* SHA-256 of each region's bytes (u64) and ops_checksum() (4 u64), little-endian, in order. */
int model_digest_regions(struct ops *ops, const struct model_region regions[MODEL_N_REGIONS],
                         struct digest *digest);

/* to = alpha * from + (1 - alpha) * to; the models have one shape. */
int model_mix(struct model *to, const struct model *from, double alpha);

/* config.json and model.safetensors into an existing directory, a piece at a time: float32 masters
 * with adapters added. dtype is DTYPE_F32 or DTYPE_BF16 (rounded to nearest, ties to even);
 * model_save() writes DTYPE_F32. "torch_dtype" is what products see: readers round the masters. */
int model_save(const struct model *model, int bos_id, int eos_id, const char *directory);
int model_save_as(const struct model *model, int bos_id, int eos_id, enum dtype dtype,
                  const char *directory);
/* The same from folder to folder, without a device. Shards become one file; the keys of config.json
 * that hone does not read stay behind: see model_notes_put_config(). */
int model_convert(const char *from, const char *to, enum dtype dtype);
/* The dtype of the weights in a folder: DTYPE_BF16 when all are BF16, else DTYPE_F32. */
int model_folder_dtype(const char *directory, enum dtype *dtype);

/* The adapters (F32, PEFT's names) as a safetensors file, and back from an image; reading checks
 * everything before it changes anything. The text of PEFT's adapter_config.json; `base` is what it
 * calls the base model. */
int model_has_adapters(const struct model *model);
/* 0: passes see the frozen base alone, as a reference; not before a backward pass. */
void model_use_adapters(struct model *model, int on);
int model_save_adapters(const struct model *model, const char *path);
int model_read_adapters(struct model *model, const void *bytes, size_t n, const char *where);
void model_print_adapter_config(const struct model_lora *lora, const char *base, struct text *out);

/* ---- Named tensors in a safetensors image, for optimizer state and the like. */
struct named_tensor {
    const char *name;
    struct tensor tensor;   /* F32, BF16 or I32, host memory */
};
int safetensors_write(struct text *out, const struct named_tensor *tensors, size_t n);
/* The same into a file, of tensors on the device, a piece at a time. */
int safetensors_save(struct ops *ops, const struct named_tensor *tensors, size_t n,
                     const char *path);
/* The same where tensors[i].tensor.data is NULL until fetch() has put it there, one by one. */
int safetensors_save_fetched(struct ops *ops, struct named_tensor *tensors, size_t n,
                             const char *path, int (*fetch)(void *context, size_t i),
                             void *context);
/* Finds `name` with exactly this dtype and shape and returns where its bytes lie (unaligned). */
struct safetensors;
int safetensors_open(struct safetensors **out, const void *bytes, size_t n, const char *where);
int safetensors_get(const struct safetensors *file, const char *name, const struct tensor *like,
                    const unsigned char **data);
void safetensors_close(struct safetensors **file);
/* Where the header and each tensor end, in the order of their bytes; the caller frees *ends. */
int safetensors_ends(const void *bytes, size_t n, const char *where, uint64_t **ends,
                     size_t *n_ends);

/* ---- Whole sequences: N packed tokens in S segments that do not see each other, but that those
 * which share a prefix (the prompt of a group) see its tokens first. */
struct model_batch {
    int n_tokens, n_segments, n_targets;
    const int32_t *tokens;        /* [n_tokens] */
    const int32_t *positions;     /* [n_tokens], from 0 in each segment without a prefix */
    const int32_t *segments;      /* [n_segments + 1], first 0, last n_tokens */
    const int32_t *target_rows;   /* [n_targets], distinct: the row whose output predicts ... */
    const int32_t *targets;       /* [n_targets]: ... this token */
    const int32_t *prefixes;      /* [n_segments]: an earlier segment without a prefix that comes */
};                                /* before it, or -1; NULL: none. Positions count on from it. */

struct model_tape; /* activations between forward and backward; memory grows to the largest batch */
int model_tape_create(struct model_tape **out, struct model *model);
void model_tape_destroy(struct model_tape **tape);
/* What a forward pass leaves for model_backward(): nothing; everything; or the input of each layer,
 * from which the rest is computed again, a layer at a time (Chen et al. 2016), to the same bits. */
enum tape_keep { TAPE_KEEP_NOTHING, TAPE_KEEP_ALL, TAPE_KEEP_INPUTS };
/* Bytes of the activations of n_tokens and n_targets: for `hone plan`. */
size_t model_tape_bytes(const struct model_shape *shape, int lora_rank, int n_tokens, int n_targets,
                        enum tape_keep keep);

/* Fills logprobs[n_targets] (host) at this temperature, and entropy[n_targets] unless NULL. Logits
 * exist for a few rows at a time: [n_targets, V] never does. */
int model_forward(struct model *model, struct model_tape *tape, const struct model_batch *batch,
                  float temperature, enum tape_keep keep, float *logprobs, float *entropy);
/* Adds to the gradients; d_logprobs[n_targets] (host) belongs to the batch of the last forward. */
int model_backward(struct model *model, struct model_tape *tape, const struct model_batch *batch,
                   float temperature, const float *d_logprobs);

/* ---- Decoding with a cache. A prompt slot holds the keys of one prompt, computed once; a sequence
 * slot holds those of one completion and refers to its prompt's slot: G completions share it. */
struct model_cache;
struct model_cache_size {
    int n_prompts, max_prompt;         /* slots, and tokens of the longest one */
    int n_sequences, max_completion;
    int64_t n_tokens;                  /* room for all together; 0: for all slots, each full */
};
int model_cache_create(struct model_cache **out, struct model *model,
                       const struct model_cache_size *size);
void model_cache_destroy(struct model_cache **cache);

/* Room is pages of MODEL_PAGE tokens, one allocation. A slot takes pages as its tokens come, or
 * here for its first n_tokens at once: 1, or 0 and nothing is taken when there are not enough. It
 * keeps them until they are given back. With sequence_slot MODEL_PROMPT it is the prompt's slot. */
#define MODEL_PAGE 64
int model_cache_reserve(struct model_cache *cache, int prompt_slot, int sequence_slot,
                        int n_tokens);
void model_cache_release(struct model_cache *cache, int prompt_slot, int sequence_slot);
int64_t model_cache_free_pages(const struct model_cache *cache);
int64_t model_cache_pages(int64_t n_tokens);   /* that so many tokens of one slot take */
size_t model_cache_page_bytes(const struct model_shape *shape);

/* Passes that decode completions alone are recorded where the device can (ops.h); 0: never. The
 * bits are the same. */
void model_cache_record(struct model_cache *cache, int on);

/* One token on its way through the model. With sequence_slot MODEL_PROMPT it is token `position` of
 * the prompt in prompt_slot; else token `position` of the completion in sequence_slot, behind that
 * prompt. A prompt and a completion come in order, a piece or a token at a time, and a completion
 * after its whole prompt; the tokens of one prompt in a call are neighbours. */
#define MODEL_PROMPT (-1)
struct model_decode_row {
    int32_t prompt_slot, sequence_slot, position, token;
};
/* Runs n tokens of any sequences and prompts side by side, then makes the draws (ops.h): draw i
 * takes tokens[i] from what follows rows[draws[i].row]; rows ascend and may repeat (the samples of
 * a group behind the last token of its prompt). logprobs[i] is that of model_forward(), to the
 * bit. Logits of all rows never exist together, and none on the host. STATUS_NOMEM when there are
 * no pages for the tokens. */
int model_decode(struct model *model, struct model_cache *cache, int n,
                 const struct model_decode_row *rows, int n_draws, const struct draw *draws,
                 int32_t *tokens, float *logprobs);

#endif
