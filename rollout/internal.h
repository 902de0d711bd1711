/*
 * rollout/internal.h - groups on their way (scheduler.c, places.c, group.c), and the policy that
 * writes them (policy.c).
 */
#ifndef HONE_ROLLOUT_INTERNAL_H
#define HONE_ROLLOUT_INTERNAL_H

#include "rollout/rollout.h"

enum sample_state { SAMPLE_WAITING, SAMPLE_RUNNING, SAMPLE_DONE };

struct running_sample {
    enum sample_state state;
    enum sample_finish finish;
    int32_t sequence_slot; /* while it runs */
    uint32_t n_tokens, n_cached;   /* drawn, and those of them in the cache */
    int32_t *tokens;       /* [max_completion_length] */
    float *logprobs;
};

struct running_group {
    struct running_group *next;
    struct arena arena;    /* everything below; kept when the group is used again */
    uint64_t lease;
    struct task task;
    struct sampling sampling;
    int32_t prompt_slot;
    int holds_pages;       /* for its prompt */
    uint32_t n_prompt, n_computed;   /* tokens of the prompt, and those in the cache */
    int32_t *prompt_tokens;
    uint32_t n_open;       /* samples that are not done */
    struct running_sample *samples;
};

/* First in, first out. */
struct group_list {
    struct running_group *first, *last;
};
void group_list_append(struct group_list *list, struct running_group *group);
struct running_group *group_list_take(struct group_list *list);   /* the first, or NULL */
void group_list_remove(struct group_list *list, struct running_group *group);
void group_list_release(struct group_list *list);

/* Fills a group of an empty arena. */
int group_fill(struct running_group *group, uint64_t lease, const struct task *task,
               const struct sampling *sampling, const struct token_list *prompt);
/* The finished group as it travels; `decoded` is scratch. */
int group_result(const struct running_group *group, const struct tokenizer *tokenizer,
                 struct text *decoded, struct arena *arena, struct sample_group *out);

/* Whose token a draw is. */
struct draw_owner {
    struct running_group *group;
    uint32_t sample;
};

struct rollout {
    struct model *model;
    struct model_cache *cache;
    const struct tokenizer *tokenizer;
    uint32_t weight_version;
    int32_t stops[WIRE_MAX_STOPS];
    size_t n_stops;
    int n_vocab, max_positions;
    struct rollout_limits limits;

    struct group_list queued, running, finished, unused;
    int n_pending;                 /* samples that are not done, queued ones too */

    int n_free_prompts, n_free_sequences;   /* slots; both lists are stacks */
    int32_t *free_prompts, *free_sequences;
    int64_t n_pages, n_pauses;     /* of the cache; how often pages were taken back */

    struct token_list encoded;
    struct text decoded;
    int n_rows, most_rows;         /* of the batch of a step, and room for them */
    struct model_decode_row *rows;
    int n_draws, most_draws;
    struct draw *draws;
    struct draw_owner *owners;     /* [n_draws] */
    int32_t *drawn;
    float *logprobs;
};

/* ---- places.c: slots and pages of the cache. */
int places_create(struct rollout *rollout);
void places_release(struct rollout *rollout);
/* Before a step: those who run have pages for their next token, and who waits gets what is free. */
void places_settle(struct rollout *rollout);
void places_free_sample(struct rollout *rollout, struct running_sample *sample);
void places_free_group(struct rollout *rollout, struct running_group *group);

/* ---- image.c: weights on their way in. What came over the connection is kept in a file without a
 * name, so that of the next image only the pieces that differ must come. A coordinator of this host
 * has such a file itself, which is then mapped and checked; nothing is kept of it. What the policy
 * has already of either is not read again. */
struct image {
    enum { IMAGE_NONE, IMAGE_ARRIVES, IMAGE_IS_CHECKED, IMAGE_COMPLETE } state;
    uint32_t version;
    struct digest digest;          /* that it must have */
    struct wire_pieces pieces;     /* of the file */
    struct wire_pieces had;        /* of the image that the policy is; n 0: none, or not known */
    int is_change;                 /* cut as `had`: tensors whose pieces are the same stay */
    unsigned char *is_due;         /* [pieces.n] of a coordinator's file: will be read */
    struct file_sink spool;        /* what came; fd -1: none */
    struct digest held;            /* of what the spool holds whole; zeros: nothing */
    struct file_map map;           /* once complete; the coordinator's file earlier */
    uint32_t next;                 /* piece: what came before it is hashed or checked */
    uint64_t offset;               /* of that piece */
    uint32_t n_follow;             /* parts that are missing */
    uint64_t bytes_taken;          /* of parts of this image */
    int wants_bytes;               /* the coordinator's file cannot be opened here */
    struct wire_shared_weights offer;   /* n_regions 0: none; else it stands for the image */
};
void image_init(struct image *image);
void image_close(struct image *image);
/* A failure is the refusal of the image; what follows of it is ignored. */
int image_begin(struct image *image, const struct wire_image *message);
int image_add(struct image *image, const struct wire_weights_part *part);
int image_check_some(struct image *image);   /* of IMAGE_IS_CHECKED */
/* Of a complete one: whether these bytes differ from what the policy was read from. */
int image_has_changed(const void *image, uint64_t from, uint64_t to);
void image_was_taken(struct image *image);   /* the policy is this one now */
void image_forget_policy(struct image *image);   /* ... is another one, or will be built anew */
void image_end(struct image *image);         /* it was used, or gives way; what came is kept */

/* ---- The policy of a worker, and the image of the next one. */
struct policy {
    const struct rollout_options *options;
    struct ops *ops;
    struct model *model;           /* these four are NULL and 0 until the first image */
    struct tokenizer *tokenizer;
    struct rollout *rollout;
    uint32_t version;
    uint64_t model_bytes;          /* of the image that it was built from; 0: of an offer */

    int has_next_model;            /* announced; the next image builds it */
    struct text next_config, next_tokenizer;   /* the newest, also once it is built */
    int32_t next_stops[WIRE_MAX_STOPS];
    size_t n_next_stops;

    struct image image;            /* complete: waits until no group runs */
};
int policy_open(struct policy *policy, const struct rollout_options *options);
void policy_close(struct policy *policy);
int policy_announce(struct policy *policy, const struct wire_model *model);
/* Takes the complete image over, or refuses it and keeps the old policy. */
int policy_apply_image(struct policy *policy);
/* Takes over a model that holds the image's version, with a tokenizer and a scheduler of its own.
 * When that fails the model is freed, and the policy that was there stays. */
int policy_install(struct policy *policy, struct model *model);

/* ---- shared.c: weights in device memory of the coordinator. Waits as a complete image does. */
int policy_take_offer(struct policy *policy, const struct wire_shared_weights *offer);
int policy_apply_offer(struct policy *policy);

#endif
