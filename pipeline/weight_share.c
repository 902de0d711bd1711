#include "pipeline/weight_share.h"

#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/status.h"

#define SETTLE_MS 10000

_Static_assert(MODEL_N_REGIONS <= WIRE_MAX_REGIONS, "regions");
_Static_assert(OPS_HANDLE_BYTES == WIRE_HANDLE_BYTES, "handles");
_Static_assert(OPS_PLACE_BYTES <= WIRE_DETAIL_BYTES, "places");

void weight_share_release(struct weight_share *share)
{
    for (int i = 0; i < 2; i++)
        model_destroy(&share->copies[i]);
    memset(share, 0, sizeof(*share));
}

/* Another stage may have another model. */
static int is_like(const struct model *copy, const struct model *policy)
{
    return memcmp(model_shape(copy), model_shape(policy), sizeof(struct model_shape)) == 0 &&
           model_seen_dtype(copy) == model_seen_dtype(policy);
}

/* The copy that nobody reads any more, of the policy's shape. */
static int take_copy(struct weight_share *share, struct exchange *exchange,
                     const struct model *policy, struct model **copy)
{
    int at = share->next;

    if (share->versions[at])
        TRY(exchange_settle(exchange, share->versions[at], SETTLE_MS));
    share->versions[at] = 0;
    if (share->copies[at] && !is_like(share->copies[at], policy))
        model_destroy(&share->copies[at]);
    if (!share->copies[at])
        TRY(model_create_frozen(&share->copies[at], model_ops(policy), model_shape(policy),
                                model_seen_dtype(policy)));
    *copy = share->copies[at];
    return STATUS_OK;
}

static int make_image(void *copy, struct file_map *image)
{
    return model_map_weights(copy, image);
}

int weight_share_publish(struct weight_share *share, struct exchange *exchange,
                         const struct model *policy, uint32_t version, int is_forced)
{
    struct exchange_offer offer = {.weights = {.version = version,
                                               .n_regions = MODEL_N_REGIONS,
                                               .is_bf16 = model_seen_dtype(policy) == DTYPE_BF16},
                                   .is_forced = is_forced,
                                   .make_image = make_image};
    struct model_region regions[MODEL_N_REGIONS];
    struct ops *ops = model_ops(policy);
    struct model *copy;

    TRY(take_copy(share, exchange, policy, &copy));
    TRY(model_freeze_weights(copy, policy));
    model_regions(copy, regions);
    TRY(model_digest_regions(ops, regions, &offer.weights.digest));
    for (int i = 0; i < MODEL_N_REGIONS; i++) {
        struct ops_handle handle;
        TRY(ops_export(ops, regions[i].memory, &handle));
        offer.weights.regions[i].bytes = regions[i].bytes;
        memcpy(offer.weights.regions[i].handle, handle.bytes, sizeof(handle.bytes));
    }
    snprintf(offer.place, sizeof(offer.place), "%s", ops_place(ops));
    offer.source = copy;
    TRY(exchange_publish_offer(exchange, &offer));
    share->versions[share->next] = version;
    share->next = !share->next;
    return STATUS_OK;
}
