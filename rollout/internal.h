/*
 * rollout/internal.h - groups on their way (group.c), and the policy that writes them (policy.c).
 */
#ifndef HONE_ROLLOUT_INTERNAL_H
#define HONE_ROLLOUT_INTERNAL_H

#include "rollout/rollout.h"

enum sample_state { SAMPLE_WAITING, SAMPLE_RUNNING, SAMPLE_DONE };

struct running_sample {
    enum sample_state state;
    enum sample_finish finish;
    int32_t sequence_slot; /* while it runs */
    uint32_t n_tokens;
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

/* ---- The policy of a worker, and the image of the next one, which arrives in parts. */
struct policy {
    const struct rollout_options *options;
    struct ops *ops;
    struct model *model;           /* these four are NULL and 0 until the first image */
    struct tokenizer *tokenizer;
    struct rollout *rollout;
    uint32_t version;
    uint64_t model_bytes;          /* of the image that it was built from */

    int has_next_model;            /* announced; the next image builds it */
    struct text next_config, next_tokenizer;   /* the newest, also once it is built */
    int32_t next_stops[WIRE_MAX_STOPS];
    size_t n_next_stops;

    struct file_sink spool;        /* of the image, while it arrives; fd -1: none */
    struct file_map image;         /* once it is complete */
    uint64_t image_bytes, image_total;   /* that are there, that it has; 0, 0: no image */
    uint32_t image_version;
    struct digest image_digest;
    struct digest_state *digest;
    int image_complete;            /* its SHA-256 is right; waits until no group runs */
    struct wire_shared_weights offer;   /* n_regions 0: none; else it stands for the image */
};
int policy_open(struct policy *policy, const struct rollout_options *options);
void policy_close(struct policy *policy);
int policy_announce(struct policy *policy, const struct wire_model *model);
/* A failure is the refusal of the image that the part belongs to; the image is dropped. A part of
 * an image that was refused before is ignored. */
int policy_add_part(struct policy *policy, const struct wire_weights_part *part);
/* Takes the complete image over, or refuses it and keeps the old policy. The image is dropped. */
int policy_apply_image(struct policy *policy);
void policy_drop_image(struct policy *policy);
/* Takes over a model that holds image_version, with a tokenizer and a scheduler of its own. When
 * that fails the model is freed, and the policy that was there stays. */
int policy_install(struct policy *policy, struct model *model);

/* ---- shared.c: weights in device memory of the coordinator. Waits as a complete image does. */
int policy_take_offer(struct policy *policy, const struct wire_shared_weights *offer);
int policy_apply_offer(struct policy *policy);

#endif
