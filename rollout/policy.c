#include <string.h>

#include "common/log.h"
#include "common/status.h"
#include "rollout/internal.h"

int policy_open(struct policy *policy, const struct rollout_options *options)
{
    memset(policy, 0, sizeof(*policy));
    image_init(&policy->image);
    policy->options = options;
    return ops_create(&policy->ops, options->device, options->threads);
}

void policy_close(struct policy *policy)
{
    image_close(&policy->image);
    rollout_destroy(&policy->rollout);
    model_destroy(&policy->model);
    tokenizer_destroy(&policy->tokenizer);
    text_release(&policy->next_config);
    text_release(&policy->next_tokenizer);
    ops_destroy(&policy->ops);
}

int policy_announce(struct policy *policy, const struct wire_model *model)
{
    text_clear(&policy->next_config);
    text_clear(&policy->next_tokenizer);
    text_append(&policy->next_config, model->config_json.data, model->config_json.bytes);
    text_append(&policy->next_tokenizer, model->tokenizer_json.data, model->tokenizer_json.bytes);
    for (uint32_t i = 0; i < model->n_stops; i++)
        policy->next_stops[i] = model->stop_ids[i];
    policy->n_next_stops = model->n_stops;
    policy->has_next_model = 1;
    image_forget_policy(&policy->image);
    return STATUS_OK;
}

/* ---- Taking over. */

int policy_install(struct policy *policy, struct model *model)
{
    const struct rollout_options *options = policy->options;
    struct tokenizer *tokenizer = NULL;
    struct rollout *rollout = NULL;
    int status;

    TRY_OUT(tokenizer_parse(&tokenizer, policy->next_tokenizer.data,
                            policy->next_tokenizer.length, "tokenizer.json of the coordinator"));
    TRY_OUT(rollout_create(&rollout, model, tokenizer, policy->image.version, &options->limits));
    if (options->without_graphs)
        rollout_set_recording(rollout, 0);
    TRY_OUT(rollout_set_stops(rollout, policy->next_stops, policy->n_next_stops));
    rollout_destroy(&policy->rollout);
    model_destroy(&policy->model);
    tokenizer_destroy(&policy->tokenizer);
    policy->rollout = rollout;
    policy->model = model;
    policy->tokenizer = tokenizer;
    policy->has_next_model = 0;
    policy->model_bytes = policy->image.offer.n_regions ? 0 : policy->image.pieces.total;
    return STATUS_OK;
out:
    rollout_destroy(&rollout);
    model_destroy(&model);
    tokenizer_destroy(&tokenizer);
    return status;
}

static int build_policy(struct policy *policy)
{
    struct model *model = NULL;

    if (policy->image.is_change)
        BUG("a policy is built from an image of which only changes were checked");
    TRY(model_load_map(&model, policy->ops, policy->next_config.data,
                       policy->next_config.length, &policy->image.map, &model_frozen));
    return policy_install(policy, model);
}

static int read_weights(struct policy *policy)
{
    if (!policy->model)
        return status_fail(STATUS_FORMAT, "weights of version %u came before their model",
                           policy->image.version);
    TRY(model_read_changes(policy->model, &policy->image.map, "weights of the coordinator",
                           image_has_changed, &policy->image));
    return rollout_set_version(policy->rollout, policy->image.version);
}

/* Weights of another size are of another dtype, in which the model is then held. */
int policy_apply_image(struct policy *policy)
{
    int is_other = policy->model && policy->image.pieces.total != policy->model_bytes;
    int status = policy->image.offer.n_regions          ? policy_apply_offer(policy)
                 : policy->has_next_model || is_other ? build_policy(policy)
                                                      : read_weights(policy);

    if (status == STATUS_OK)
        policy->version = policy->image.version;
    if (status == STATUS_OK && !policy->image.offer.n_regions)
        image_was_taken(&policy->image);
    else
        image_forget_policy(&policy->image);
    image_end(&policy->image);
    return status;
}
