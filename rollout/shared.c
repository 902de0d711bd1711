/*
 * Weights that lie in device memory of the coordinator. They are copied on the device and never
 * used where they lie. Their digest is that of the copy, so that memory which changed on the way is
 * found; it is taken before the copy as well, so that a policy is not lost to what was wrong from
 * the start.
 */
#include <string.h>

#include "common/status.h"
#include "rollout/internal.h"

int policy_take_offer(struct policy *policy, const struct wire_shared_weights *offer)
{
    struct image *image = &policy->image;

    image_end(image);
    image->version = offer->version;
    image->digest = offer->digest;
    image->wants_bytes = 0;
    if (offer->n_regions != MODEL_N_REGIONS)
        return status_fail(STATUS_FORMAT, "shared weights of %u regions: wanted %d",
                           offer->n_regions, MODEL_N_REGIONS);
    image->offer = *offer;
    image->state = IMAGE_COMPLETE;
    return STATUS_OK;
}

static int check_digest(struct policy *policy, const struct model_region *regions,
                        const char *which)
{
    const struct wire_shared_weights *offer = &policy->image.offer;
    char wanted[DIGEST_HEX_BYTES], found[DIGEST_HEX_BYTES];
    struct digest digest;

    TRY(model_digest_regions(policy->ops, regions, &digest));
    if (digest_is_same(&digest, &offer->digest))
        return STATUS_OK;
    digest_hex(&offer->digest, wanted);
    digest_hex(&digest, found);
    return status_fail(STATUS_FORMAT, "shared weights of version %u have the digest %.16s... %s, "
                       "%.16s... was announced", offer->version, found, which, wanted);
}

/* Into `model`, whose weights are lost when *is_spoilt comes back as 1. */
static int copy_regions(struct policy *policy, const struct model *model, int *is_spoilt)
{
    const struct wire_shared_weights *offer = &policy->image.offer;
    struct model_region mine[MODEL_N_REGIONS], theirs[MODEL_N_REGIONS] = {{NULL, 0}};
    int status = STATUS_OK;

    *is_spoilt = 0;
    model_regions(model, mine);
    for (int i = 0; status == STATUS_OK && i < MODEL_N_REGIONS; i++) {
        const struct wire_region *region = &offer->regions[i];
        struct ops_handle handle;
        if (region->bytes != mine[i].bytes)
            status = status_fail(STATUS_FORMAT, "shared weights of version %u have %llu bytes in "
                                 "region %d, the announced model has %llu", offer->version,
                                 (unsigned long long)region->bytes, i,
                                 (unsigned long long)mine[i].bytes);
        memcpy(handle.bytes, region->handle, sizeof(handle.bytes));
        theirs[i].bytes = mine[i].bytes;
        if (status == STATUS_OK)
            status = ops_import(policy->ops, &handle, &theirs[i].memory);
    }
    if (status == STATUS_OK)
        status = check_digest(policy, theirs, "there");
    if (status == STATUS_OK) {
        *is_spoilt = 1;
        for (int i = 0; i < MODEL_N_REGIONS; i++)
            ops_copy(policy->ops, mine[i].memory, theirs[i].memory, mine[i].bytes);
        status = check_digest(policy, mine, "here");
        *is_spoilt = status < 0;
    }
    for (int i = 0; i < MODEL_N_REGIONS; i++)
        ops_import_end(policy->ops, theirs[i].memory);
    return status;
}

static int build_from_offer(struct policy *policy)
{
    enum dtype dtype = policy->image.offer.is_bf16 ? DTYPE_BF16 : DTYPE_F32;
    struct model *model = NULL;
    struct model_shape shape;
    int is_spoilt;

    TRY(model_shape_parse(&shape, policy->next_config.data, policy->next_config.length,
                          "config.json"));
    TRY(model_create_frozen(&model, policy->ops, &shape, dtype));
    int status = copy_regions(policy, model, &is_spoilt);
    if (status < 0) {
        model_destroy(&model);
        return status;
    }
    return policy_install(policy, model);
}

static int has_regions_of(const struct policy *policy)
{
    struct model_region regions[MODEL_N_REGIONS];

    model_regions(policy->model, regions);
    for (int i = 0; i < MODEL_N_REGIONS; i++)
        if (regions[i].bytes != policy->image.offer.regions[i].bytes)
            return 0;
    return 1;
}

int policy_apply_offer(struct policy *policy)
{
    int is_spoilt;

    if (!policy->model && !policy->has_next_model)
        return status_fail(STATUS_FORMAT, "shared weights of version %u came before their model",
                           policy->image.offer.version);
    if (policy->has_next_model || !has_regions_of(policy))
        return build_from_offer(policy);
    int status = copy_regions(policy, policy->model, &is_spoilt);
    if (status == STATUS_OK)
        return rollout_set_version(policy->rollout, policy->image.offer.version);
    if (is_spoilt) {   /* neither the old policy nor the new one: built again from what comes */
        rollout_destroy(&policy->rollout);
        model_destroy(&policy->model);
        policy->has_next_model = 1;
        policy->version = 0;
    }
    return status;
}
