/* Each kind of message and its codec, for test_wire_codec.c and test_wire_refused.c. */
#ifndef HONE_TESTS_UNIT_TEST_WIRE_CODEC_H
#define HONE_TESTS_UNIT_TEST_WIRE_CODEC_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/status.h"
#include "wire/internal.h"

#define ARENA_BYTES ((size_t)256 << 20)
#define TEXT(literal) {literal, sizeof(literal) - 1}

static const struct task full_task = {
    .id = 0x0123456789abcdefu,
    .kind = "chain",
    .verifier = "math",
    .language = "zh",
    .question = TEXT("1+1?"),
    .prompt = TEXT("User: 1+1?\nAssistant: <think>"),
    .prefill = TEXT("<think>"),
    .reference = TEXT("2\0and a NUL"),
    .columns = TEXT("{\"level\":3}"),
};

static int32_t tokens[3] = {0, 151643, INT32_MAX};
static float logprobs[3] = {-0.0f, -1.5f, -3.0e38f};
static uint32_t versions[3] = {7, 7, UINT32_MAX};
static struct score scores[2] = {
    {1.0f, OUTCOME_RIGHT, "exact"},
    {0.25f, OUTCOME_ERROR, "no verdict"},
};
static struct reward_term terms[2] = {{"accuracy", 1.0f}, {"format", -0.5f}};
static struct sample samples[2] = {
    {
        .finish = SAMPLE_FINISH_LENGTH,
        .n_tokens = 3,
        .tokens = tokens,
        .logprobs = logprobs,
        .weight_versions = versions,
        .text = TEXT("so it is 2"),
        .scores = scores,
        .reward = 0.875f,
        .masked = 1,
        .advantage = -1.25f,
    },
    {.finish = SAMPLE_FINISH_EOS},
};

static inline struct sample_group full_group(void)
{
    return (struct sample_group){.task = full_task,
                                 .n_prompt = 3,
                                 .prompt_tokens = tokens,
                                 .n_samples = 2,
                                 .samples = samples,
                                 .n_rewards = 2,
                                 .rewards = terms};
}

static struct digest digests[3] = {{{1, 2, 3}}, {{4}}, {{5}}};
static struct wire_sum sums[3] = {{1, UINT64_MAX}, {(uint64_t)7 << 40, 0}, {3, 4}};

/* Every message behind one face, so that each property is tested on all of them. */
union message {
    struct wire_hello hello;
    struct wire_model model;
    struct wire_image image;
    struct wire_weights_part weights_part;
    struct wire_shared_weights shared_weights;
    struct wire_weights_state weights_state;
    struct wire_sample_lease sample_lease;
    struct wire_judge_lease judge_lease;
    struct wire_group group;
    struct wire_failed failed;
    struct wire_heartbeat heartbeat;
};
struct codec {
    const char *name;
    enum wire_kind kind;
    int (*encode)(const union message *message, struct text *out);
    int (*decode)(const void *frame, size_t n, struct arena *arena, union message *message);
};
#define CODEC(name)                                                                                \
    static int encode_##name(const union message *message, struct text *out)                       \
    {                                                                                              \
        return wire_encode_##name(&message->name, out);                                            \
    }                                                                                              \
    static int decode_##name(const void *frame, size_t n, struct arena *arena,                     \
                             union message *message)                                               \
    {                                                                                              \
        return wire_decode_##name(frame, n, arena, &message->name);                                \
    }
CODEC(hello)
CODEC(model)
CODEC(image)
CODEC(weights_part)
CODEC(shared_weights)
CODEC(weights_state)
CODEC(sample_lease)
CODEC(judge_lease)
CODEC(group)
CODEC(failed)
CODEC(heartbeat)
#define ROW(name, kind) {#name, kind, encode_##name, decode_##name}
static const struct codec codecs[] = {
    ROW(hello, WIRE_HELLO),
    ROW(model, WIRE_MODEL),
    ROW(weights_part, WIRE_WEIGHTS),
    ROW(weights_state, WIRE_WEIGHTS_STATE),
    ROW(sample_lease, WIRE_SAMPLE),
    ROW(judge_lease, WIRE_JUDGE),
    ROW(group, WIRE_GROUP),
    ROW(failed, WIRE_FAILED),
    ROW(heartbeat, WIRE_HEARTBEAT),
    ROW(image, WIRE_IMAGE),
    ROW(shared_weights, WIRE_SHARED_WEIGHTS),
};
#define N_CODECS (sizeof(codecs) / sizeof(codecs[0]))

static inline union message full_message(enum wire_kind kind)
{
    union message m;

    memset(&m, 0, sizeof(m));
    switch (kind) {
    case WIRE_HELLO:
        m.hello = (struct wire_hello){"rollout", "rollout-1", 4242, "a boot/a card", TEXT("1.0"),
                                       TEXT("host"), {{1, 2, 3}}};
        break;
    case WIRE_MODEL:
        m.model = (struct wire_model){TEXT("{\"a\":1}"), TEXT("{}"), 3, tokens};
        break;
    case WIRE_WEIGHTS:
        m.weights_part = (struct wire_weights_part){3, 70000, TEXT("\0\1\2\3")};
        break;
    case WIRE_IMAGE:
        m.image = (struct wire_image){.version = 3, .digest = {{9, 8}}, .base = {{7}},
                                      .n_follow = 2, .n_pieces = 3,
                                      .piece_bytes = (uint32_t *)tokens,
                                      .path = TEXT("/proc/1/fd/3"), .device = 5,
                                      .inode = (uint64_t)5 << 40, .digests = digests,
                                      .sums = sums};
        break;
    case WIRE_SHARED_WEIGHTS:
        m.shared_weights = (struct wire_shared_weights){
            .version = 3, .is_bf16 = 1, .n_regions = 2,
            .regions = {{(uint64_t)5 << 32, {1, 2, 3}}, {64, {4, 5, 6}}}};
        memset(m.shared_weights.digest.bytes, 0xef, sizeof(m.shared_weights.digest.bytes));
        break;
    case WIRE_WEIGHTS_STATE:
        m.weights_state = (struct wire_weights_state){
            .version = 3, .accepted = 1, .reason = TEXT("fine")};
        memset(m.weights_state.digest.bytes, 0xcd, sizeof(m.weights_state.digest.bytes));
        break;
    case WIRE_SAMPLE:
        m.sample_lease = (struct wire_sample_lease){
            UINT64_MAX, {8, 256, 50, 0.6f, 0.95f, 0xfedcba9876543210u, 9}, full_task};
        break;
    case WIRE_JUDGE:
        m.judge_lease = (struct wire_judge_lease){11, full_group()};
        break;
    case WIRE_HEARTBEAT:
        m.heartbeat = (struct wire_heartbeat){"decodes 3 samples", 12345678901u, 7, 2,
                                               98765432109u};
        break;
    case WIRE_GROUP:
        m.group = (struct wire_group){12, full_group()};
        break;
    default:
        m.failed = (struct wire_failed){13, TEXT("prompt too long")};
    }
    return m;
}

struct fixture {
    struct arena arena;
    struct text frame, again;
};

static inline int setup(void **state)
{
    struct fixture *f = mem_alloc(1, sizeof(*f));

    arena_init(&f->arena, ARENA_BYTES);
    *state = f;
    return 0;
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;

    arena_release(&f->arena);
    text_release(&f->frame);
    text_release(&f->again);
    mem_free(f);
    return 0;
}

static inline void patch_length(unsigned char *frame, size_t n)
{
    uint32_t body = (uint32_t)(n - WIRE_HEADER_BYTES);

    for (int i = 0; i < 4; i++)
        frame[8 + i] = (unsigned char)(body >> (8 * i));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
