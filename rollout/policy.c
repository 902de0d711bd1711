#include <string.h>

#include "common/log.h"
#include "common/status.h"
#include "rollout/internal.h"

#define IMAGE_MAX_BYTES ((uint64_t)16 << 30)

int policy_open(struct policy *policy, const struct rollout_options *options)
{
    memset(policy, 0, sizeof(*policy));
    policy->spool.fd = -1;
    policy->options = options;
    return ops_create(&policy->ops, options->device, options->threads);
}

void policy_close(struct policy *policy)
{
    policy_drop_image(policy);
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
    return STATUS_OK;
}

/* ---- The image. */

void policy_drop_image(struct policy *policy)
{
    struct digest unused;

    if (policy->digest)
        digest_end(policy->digest, &unused);
    policy->digest = NULL;
    if (policy->spool.fd >= 0)
        file_sink_map(&policy->spool, STATUS_CLOSED, &policy->image);
    file_map_close(&policy->image);
    policy->image_bytes = policy->image_total = 0;
    policy->image_complete = 0;
    policy->offer.n_regions = 0;
}

static int begin_image(struct policy *policy, const struct wire_weights_part *part)
{
    policy_drop_image(policy);
    if (part->total == 0 || part->total > IMAGE_MAX_BYTES)
        return status_fail(STATUS_FORMAT, "weights of %llu bytes: wanted 1 to %llu",
                           (unsigned long long)part->total, (unsigned long long)IMAGE_MAX_BYTES);
    TRY(file_sink_open_nameless(&policy->spool));
    policy->image_total = part->total;
    policy->image_version = part->version;
    policy->image_digest = part->digest;
    policy->digest = digest_begin();
    return STATUS_OK;
}

static int check_digest(struct policy *policy)
{
    char wanted[DIGEST_HEX_BYTES], found[DIGEST_HEX_BYTES];
    struct digest digest;

    digest_end(policy->digest, &digest);
    policy->digest = NULL;
    if (!memcmp(digest.bytes, policy->image_digest.bytes, sizeof(digest.bytes)))
        return STATUS_OK;
    digest_hex(&policy->image_digest, wanted);
    digest_hex(&digest, found);
    return status_fail(STATUS_FORMAT,
                       "weights of version %u arrived with SHA-256 %.16s..., %.16s... was "
                       "announced: they were damaged on the way",
                       policy->image_version, found, wanted);
}

static int add_bytes(struct policy *policy, const struct wire_weights_part *part)
{
    if (part->version != policy->image_version || part->total != policy->image_total ||
        memcmp(part->digest.bytes, policy->image_digest.bytes, sizeof(part->digest.bytes)))
        return status_fail(STATUS_FORMAT, "weights of version %u: a part of version %u came "
                           "between", policy->image_version, part->version);
    if (part->offset != policy->image_bytes || !part->data.bytes)
        return status_fail(STATUS_FORMAT,
                           "weights of version %u: a part at byte %llu came where byte %llu was "
                           "due", part->version, (unsigned long long)part->offset,
                           (unsigned long long)policy->image_bytes);
    TRY(file_sink_put(&policy->spool, part->data.data, part->data.bytes));
    digest_add(policy->digest, part->data.data, part->data.bytes);
    policy->image_bytes += part->data.bytes;
    if (policy->image_bytes < policy->image_total)
        return STATUS_OK;
    TRY(check_digest(policy));
    TRY(file_sink_map(&policy->spool, STATUS_OK, &policy->image));
    policy->image_complete = 1;
    return STATUS_OK;
}

int policy_add_part(struct policy *policy, const struct wire_weights_part *part)
{
    int status = STATUS_OK;

    if (part->offset == 0) {
        status = begin_image(policy, part);
    } else if (!policy->digest) {
        log_debug("ignored a part of weights %u that were refused", part->version);
        return STATUS_OK;
    }
    if (status == STATUS_OK)
        status = add_bytes(policy, part);
    if (status < 0)
        policy_drop_image(policy);
    return status;
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
    TRY_OUT(rollout_create(&rollout, model, tokenizer, policy->image_version, &options->limits));
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
    policy->model_bytes = policy->image_total;
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

    TRY(model_load_map(&model, policy->ops, policy->next_config.data,
                       policy->next_config.length, &policy->image, &model_frozen));
    return policy_install(policy, model);
}

static int read_weights(struct policy *policy)
{
    if (!policy->model)
        return status_fail(STATUS_FORMAT, "weights of version %u came before their model",
                           policy->image_version);
    TRY(model_read_map(policy->model, &policy->image, "weights of the coordinator"));
    return rollout_set_version(policy->rollout, policy->image_version);
}

/* Weights of another size are of another dtype, in which the model is then held. */
int policy_apply_image(struct policy *policy)
{
    int is_other = policy->model && policy->image_total != policy->model_bytes;
    int status = policy->offer.n_regions                ? policy_apply_offer(policy)
                 : policy->has_next_model || is_other ? build_policy(policy)
                                                      : read_weights(policy);

    if (status == STATUS_OK)
        policy->version = policy->image_version;
    policy_drop_image(policy);
    return status;
}
