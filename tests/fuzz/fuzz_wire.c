/* Every decoder on every input. What decodes must encode again to a frame that decodes. An input of
 * an earlier version counts as one of this, so that seeds stay. */
#include <stdlib.h>
#include <string.h>

#include "common/status.h"
#include "wire/wire.h"

#define ARENA_BYTES ((size_t)16 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define CHECK(name)                                                                                \
    static void check_##name(const uint8_t *data, size_t n, struct arena *arena, struct text *out) \
    {                                                                                              \
        struct wire_##name message;                                                                \
                                                                                                   \
        arena_rewind(arena);                                                                       \
        if (wire_decode_##name(data, n, arena, &message) < 0)                                      \
            return;                                                                                \
        text_clear(out);                                                                           \
        if (wire_encode_##name(&message, out) < 0)                                                 \
            abort();                                                                               \
        arena_rewind(arena);                                                                       \
        if (wire_decode_##name(out->data, out->length, arena, &message) < 0)                       \
            abort();                                                                               \
    }
CHECK(hello)
CHECK(model)
CHECK(image)
CHECK(weights_part)
CHECK(shared_weights)
CHECK(weights_state)
CHECK(sample_lease)
CHECK(judge_lease)
CHECK(group)
CHECK(failed)
CHECK(heartbeat)

static int check_frame(const uint8_t *data, size_t n)
{
    static void (*const checks[])(const uint8_t *, size_t, struct arena *, struct text *) = {
        [WIRE_HELLO] = check_hello,
        [WIRE_MODEL] = check_model,
        [WIRE_WEIGHTS] = check_weights_part,
        [WIRE_WEIGHTS_STATE] = check_weights_state,
        [WIRE_SAMPLE] = check_sample_lease,
        [WIRE_JUDGE] = check_judge_lease,
        [WIRE_GROUP] = check_group,
        [WIRE_FAILED] = check_failed,
        [WIRE_HEARTBEAT] = check_heartbeat,
        [WIRE_STOP] = NULL,
        [WIRE_IMAGE] = check_image,
        [WIRE_SHARED_WEIGHTS] = check_shared_weights,
    };
    struct arena arena;
    struct text out = {0};
    enum wire_kind kind;

    if (wire_kind_of(data, n, &kind) < 0 || !checks[kind])
        return 0;
    arena_init(&arena, ARENA_BYTES);
    checks[kind](data, n, &arena, &out);
    arena_release(&arena);
    text_release(&out);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uint8_t *frame = mem_alloc(n, 1);   /* as long as it is: what is read beyond is found */

    if (n)
        memcpy(frame, data, n);
    if (n > 4 && frame[4] > 0 && frame[4] < WIRE_VERSION)
        frame[4] = WIRE_VERSION;
    int status = check_frame(frame, n);
    mem_free(frame);
    return status;
}
