/*
 * model/internal.h - what the files of model/ share. Private to model/.
 */
#ifndef HONE_MODEL_INTERNAL_H
#define HONE_MODEL_INTERNAL_H

#include "common/json.h"
#include "model/model.h"

#define MODEL_NAME_BYTES 80

/* One weight. */
struct parameter {
    char name[MODEL_NAME_BYTES];
    struct tensor value;      /* float32; data NULL for a matrix of a frozen model */
    struct tensor gradient;   /* data NULL unless it is trained */
    struct tensor vector;     /* 1-d: what norms and biases read: value, or its rounded copy */
    struct matrix matrix;     /* 2-d: what products read */
    struct parameter *lora_a, *lora_b;   /* [rank,C], [M,rank]; NULL without an adapter */
};

/* Pointers into model->parameters; NULL where the family has none. */
struct layer {
    struct parameter *attention_norm, *q, *q_bias, *k, *k_bias, *v, *v_bias, *q_norm, *k_norm, *o;
    struct parameter *mlp_norm, *gate, *up, *down;
};

struct model {
    struct ops *ops;
    struct model_shape shape;
    struct model_options options;
    struct parameter *parameters, *adapters;   /* adapters: A and B of each target, in turn */
    size_t n_parameters, n_adapters;
    struct layer *layers;
    struct parameter *embedding, *final_norm, *head;   /* head is embedding when tied */
    void *values, *panels, *rounded, *gradients;   /* one allocation each; views lie in them */
    struct model_sizes {
        size_t values, panels, rounded, gradients;
    } bytes;
    struct model_watcher watcher;
    void *unused_gradient;     /* of a frozen norm beside adapters: the op wants to add somewhere */
    struct tensor rope;        /* [positions, 2, D/2]; grows with the longest sequence seen */
};

#define MODEL_MAX_CONFIG_BYTES ((size_t)1 << 20)

/* weights.c: a model whose list of weights is filled in, yet without device memory; then that. */
struct model *model_begin(struct ops *ops, const struct model_shape *shape,
                          const struct model_options *options);
int model_allocate(struct model *model);
static inline int is_trained(const struct model *model)   /* all weights, not adapters */
{
    return model->options.trainable && !model->options.lora.rank;
}

/* lora.c: the list of adapters, and their start. */
void lora_list(struct model *model);
int lora_start(struct model *model);

/* values.c: weights to and from the host, some rows at a time. A row of a vector is one number. */
struct staging {
    struct ops *ops;
    float *host;        /* [n_numbers]: room for staging_rows() rows of any weight */
    void *device;
    size_t n_numbers;
};
int staging_open(struct staging *staging, const struct model *model);
void staging_close(struct staging *staging);
int64_t parameter_rows(const struct parameter *parameter);
int64_t parameter_width(const struct parameter *parameter);
/* Rows of a piece from row `first` on: whole panels but at the end. */
int64_t staging_rows(const struct parameter *parameter, int64_t first);
/* Into staging->host: float32 masters with adapters, not rounded; and from there. */
int values_read(struct staging *staging, const struct model *model,
                const struct parameter *parameter, int64_t first, int64_t n);
int values_write(struct staging *staging, struct model *model, const struct parameter *parameter,
                 int64_t first, int64_t n);

/* rope.c: "rope_scaling" and "rope_theta" of config.json, and the frequencies they stand for. */
int rope_parse(struct model_shape *shape, const json_t *config, const char *where);
void rope_print(const struct model_shape *shape, struct text *out);
/* frequencies[head_dim / 2]; returns what cosines and sines are multiplied with. */
float rope_frequencies(const struct model_shape *shape, float *frequencies);

/* shape.c */
void shape_print_real(struct text *out, double value);
void shape_print(const struct model_shape *shape, int bos_id, int eos_id, enum dtype dtype,
                 struct text *out);
int shape_refuse_other_number(const json_t *config, const char *key, const char *where,
                              double wanted);

/* floats.c: what weights are in files. */
enum float_kind { FLOAT_F32, FLOAT_F16, FLOAT_BF16 };
size_t float_bytes(enum float_kind kind);
/* n numbers at unaligned bytes as float32; exact. */
void floats_read(float *out, const unsigned char *bytes, int64_t n, enum float_kind kind);
/* Rounds to nearest, ties to even. Finite values alone. */
void floats_to_bf16(uint16_t *out, const float *values, int64_t n);
/* The index of the first NaN or Inf, or -1. */
int64_t floats_find_bad(const float *values, int64_t n);

/* shards.c: the weights of a model in one file or several, looked up by name. */
struct weight_files;
int weight_files_open(struct weight_files **out, const char *directory);
int weight_files_open_map(struct weight_files **out, const struct file_map *map,
                          const char *where);   /* stays the caller's */
void weight_files_close(struct weight_files **files);
/* All that can be wrong with names, dtypes and shapes: each weight of the model is there and fits,
 * and nothing is there that has no place. */
int weight_files_check(const struct weight_files *files, const struct model *model);
struct weight_span {
    const unsigned char *bytes;
    enum float_kind kind;
    const char *where;   /* the file */
};
int weight_files_find(const struct weight_files *files, const struct parameter *parameter,
                      struct weight_span *span);
/* Numbers first .. first + n - 1 of a weight as float32; a NaN or Inf is refused by name. What has
 * been read of a map soon no longer counts as this process's memory. */
int weight_files_read(struct weight_files *files, const struct parameter *parameter, int64_t first,
                      int64_t n, float *out);
/* The text of model.safetensors.index.json: tensor names to file names, each checked. */
struct shard_list {
    json_t *index;         /* owns the names */
    const json_t *places;  /* {"tensor": "file"} */
    const char **names;    /* distinct */
    size_t n;
};
int shard_list_parse(struct shard_list *list, const char *json, size_t n, const char *where);
void shard_list_release(struct shard_list *list);

/* files.c: config.json of a folder, parsed and as it is. */
int folder_read_config(const char *directory, struct model_shape *shape, struct text *config);

/* safetensors.c */
/* Like safetensors_get() for any kind of float; `like` gives the shape. */
int safetensors_find(const struct safetensors *file, const char *name, const struct tensor *like,
                     struct weight_span *span);
int safetensors_has(const struct safetensors *file, const char *name);
const char *safetensors_where(const struct safetensors *file);
size_t safetensors_count(const struct safetensors *file);
const char *safetensors_name(const struct safetensors *file, size_t i);
/* The 8-byte length and the JSON header for these tensors; their bytes follow in the same order. */
int safetensors_write_header(struct text *out, const struct named_tensor *tensors, size_t n);

/* ---- Activations: one layer's, and those of a whole pass. */
struct activations {
    struct tensor x;                        /* [N,C] the layer's input */
    struct tensor attention_rstd;           /* [N] */
    struct tensor q_raw, k_raw;             /* [N,H,D], [N,K,D] before q/k norm; qk_norm only */
    struct tensor q_rstd, k_rstd;           /* [N*H], [N*K]; qk_norm only */
    struct tensor q, k, v;                  /* after rope */
    struct tensor attended, lse;            /* [N,H,D], [N,H] */
    struct tensor middle;                   /* [N,C] between attention and MLP */
    struct tensor mlp_rstd;                 /* [N] */
    struct tensor gate, up;                 /* [N,F] */
};

/* Views into one device allocation, carved anew for each batch. */
struct tape_views {
    struct tensor tokens, positions, segments, target_rows, targets;
    struct tensor prefix_indices, *prefixes;   /* prefixes: NULL when no segment has one */
    struct activations *layers;             /* [n_layers]; all alike unless kept */
    struct tensor last;                     /* [N,C] the last layer's output */
    struct tensor normed, hidden;           /* scratch: [N,C], [N,F] */
    struct tensor gathered, final_rstd, final_normed;   /* [R,C], [R], [R,C] */
    struct tensor logits;                   /* [head_rows(), V]: some rows at a time */
    struct tensor logprobs, entropy;        /* [R] */
    /* backward only */
    struct tensor d_x, d_normed, d_attended, d_q, d_k, d_v, d_q_raw, d_k_raw, d_hidden;
    struct tensor d_gathered, d_final_normed, d_logprobs;
    struct tensor low_in, low_out;          /* [N,rank]; adapters only */
};

struct model_tape {
    struct model *model;
    struct ops_arena arena;
    struct tape_views views;
    int n_tokens, n_targets;
    enum tape_keep kept;   /* what the last forward left */
    int logits_kept;    /* ... and all its logits, as there was one chunk */
};

/* pages.c: the pages of a slot in their order, chained by the pool. */
struct page_list {
    int32_t first, last, n;
    int32_t place;               /* among those of the batch that it was shown in */
    uint64_t shown_in;
};
struct page_pool {
    int32_t *next;               /* [n_pages]: the page behind it in its slot, or among the free */
    int32_t first_free, n_free, n_pages;
};
void page_pool_init(struct page_pool *pool, int32_t n_pages);
void page_pool_release(struct page_pool *pool);
/* n pages at least: 1, or 0 when there are not so many. */
int pages_reserve(struct page_pool *pool, struct page_list *list, int64_t n);
void pages_give_back(struct page_pool *pool, struct page_list *list);
/* Puts them among the pages of the batch, if they are not there; returns where the first one is. */
int32_t pages_show(struct model_cache *cache, struct page_list *list);

/* decode.c */
struct model_cache {
    struct model *model;
    struct model_cache_size size;
    struct kv_cache *layers;     /* [n_layers], views of `memory` */
    void *memory;                /* device */
    struct page_pool pool;
    struct page_list *prompts, *sequences;   /* of the slots */
    int32_t *prompt_lengths;     /* [n_prompts], of what has been computed */
    struct model_tape *tape;     /* scratch */
    /* Of one batch; grows to the largest. */
    uint64_t n_batches;
    int32_t *pages, n_shown;     /* [n_pages + 1], host */
    int32_t *tokens, *positions, *rows, *runs;   /* host; runs is [n,4] */
    int32_t *targets, *target_runs, *places;     /* of rows with draws; places counts them */
    struct draw *draws;
    void *device;                /* what follows; last_q is q of the targets in the last layer */
    struct tensor device_pages, device_rows, device_runs, device_targets, device_target_runs;
    struct tensor last_q;
    struct tensor device_drawn, device_logprobs;
    struct draw *device_draws;
    int most_rows, most_draws;   /* room */
    struct recordings *recordings;   /* NULL: passes are not recorded */
};

/* One pass over n rows, of which n_targets are drawn from. */
struct decode_pass {
    int n, n_targets, n_draws;
    const struct draw *draws;
};
void decode_run(struct model_cache *cache, const struct decode_pass *pass);

/* ---- recorded.c: passes of completions alone, one token and one draw each, recorded once for each
 * number of rows and launched whole from then on. */
/* Pages behind those of the pool, for what fills a pass up. */
int32_t recorded_spare_pages(const struct ops *ops);
/* The number of rows to run instead of n; 0 when such a pass is not recorded. */
int recorded_rows(const struct model_cache *cache, int n, const struct model_decode_row *rows,
                  int n_draws, const struct draw *draws);
/* Fills the staged pass up: rows and draws whose results nobody takes. */
void recorded_pad(struct model_cache *cache, int n, struct decode_pass *pass);
int recorded_run(struct model_cache *cache, const struct decode_pass *pass);
void recordings_destroy(struct model_cache *cache);

/* tape.c */
int tape_prepare(struct model_tape *tape, int n_tokens, int n_segments, int n_targets,
                 enum tape_keep keep);
/* Refuses tokens outside the vocabulary and positions beyond the longest sequence. */
int tape_check_tokens(const struct model *model, const int32_t *tokens, int n);
int tape_check_position(const struct model *model, int position);
int model_grow_rope(struct model *model, int n_positions);

/* The same memory with other dimensions. */
struct tensor view_2d(const struct tensor *tensor, int64_t a, int64_t b);
/* Rows first .. first + n - 1 of a 1-d or 2-d tensor. */
struct tensor view_rows(const struct tensor *tensor, int64_t first, int64_t n);

/* forward.c: the parts of a layer around its attention, and the way to the logits. */
void layer_project(struct model *model, const struct layer *layer, struct activations *a,
                   struct tape_views *views);
void layer_open_mlp(struct model *model, const struct layer *layer, struct activations *a,
                    struct tape_views *views);
void layer_finish(struct model *model, const struct layer *layer, struct activations *a,
                  struct tape_views *views, struct tensor *next);
/* Where layer i writes its output. */
struct tensor *layer_output(struct model *model, struct tape_views *views, int i);
/* target_rows of the last layer's output, normed for the head. */
void head_begin(struct model *model, struct tape_views *views);
void head_logits(struct model *model, struct tape_views *views, int64_t first,
                 struct tensor *logits);

#endif
