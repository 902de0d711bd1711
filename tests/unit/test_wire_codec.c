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

static struct sample_group full_group(void)
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

static union message full_message(enum wire_kind kind)
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

static int setup(void **state)
{
    struct fixture *f = mem_alloc(1, sizeof(*f));

    arena_init(&f->arena, ARENA_BYTES);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    arena_release(&f->arena);
    text_release(&f->frame);
    text_release(&f->again);
    mem_free(f);
    return 0;
}

static void assert_round_trip(struct fixture *f, const struct codec *codec,
                              const union message *message)
{
    union message decoded;
    enum wire_kind kind;

    text_clear(&f->frame);
    text_clear(&f->again);
    arena_rewind(&f->arena);
    assert_int_equal(codec->encode(message, &f->frame), STATUS_OK);
    assert_int_equal(wire_kind_of(f->frame.data, f->frame.length, &kind), STATUS_OK);
    assert_int_equal(kind, codec->kind);
    assert_int_equal(codec->decode(f->frame.data, f->frame.length, &f->arena, &decoded), STATUS_OK);
    assert_int_equal(codec->encode(&decoded, &f->again), STATUS_OK);
    assert_int_equal(f->frame.length, f->again.length);
    assert_memory_equal(f->frame.data, f->again.data, f->frame.length);
}

static void every_message_comes_back_as_it_was(void **state)
{
    for (size_t i = 0; i < N_CODECS; i++) {
        union message message = full_message(codecs[i].kind);
        assert_round_trip(*state, &codecs[i], &message);
    }
}

static void every_empty_message_comes_back_as_it_was(void **state)
{
    for (size_t i = 0; i < N_CODECS; i++) {
        union message message;
        memset(&message, 0, sizeof(message));
        assert_round_trip(*state, &codecs[i], &message);
    }
}

static void a_decoded_group_has_every_field(void **state)
{
    struct fixture *f = *state;
    struct wire_group in = {77, full_group()}, out;

    assert_int_equal(wire_encode_group(&in, &f->frame), STATUS_OK);
    assert_int_equal(wire_decode_group(f->frame.data, f->frame.length, &f->arena, &out), STATUS_OK);
    memset(f->frame.data, 0xff, f->frame.length);   /* what came lives in the arena */
    assert_int_equal(out.lease, 77);
    assert_int_equal(out.group.task.id, full_task.id);
    assert_string_equal(out.group.task.kind, "chain");
    assert_string_equal(out.group.task.verifier, "math");
    assert_string_equal(out.group.task.language, "zh");
    assert_string_equal(out.group.task.question.data, "1+1?");
    assert_string_equal(out.group.task.prompt.data, full_task.prompt.data);
    assert_string_equal(out.group.task.prefill.data, "<think>");
    assert_int_equal(out.group.task.reference.bytes, full_task.reference.bytes);
    assert_memory_equal(out.group.task.reference.data, full_task.reference.data,
                        full_task.reference.bytes + 1);
    assert_string_equal(out.group.task.columns.data, "{\"level\":3}");
    assert_int_equal(out.group.n_prompt, 3);
    assert_memory_equal(out.group.prompt_tokens, tokens, sizeof(tokens));
    assert_int_equal(out.group.n_rewards, 2);
    assert_string_equal(out.group.rewards[1].name, "format");
    assert_true(out.group.rewards[1].weight == -0.5f);
    assert_int_equal(out.group.n_samples, 2);
    const struct sample *s = &out.group.samples[0];
    assert_int_equal(s->finish, SAMPLE_FINISH_LENGTH);
    assert_int_equal(s->n_tokens, 3);
    assert_memory_equal(s->tokens, tokens, sizeof(tokens));
    assert_memory_equal(s->logprobs, logprobs, sizeof(logprobs));
    assert_memory_equal(s->weight_versions, versions, sizeof(versions));
    assert_string_equal(s->text.data, "so it is 2");
    assert_true(s->reward == 0.875f && s->advantage == -1.25f);
    assert_int_equal(s->masked, 1);
    assert_true(s->scores[1].value == 0.25f);
    assert_int_equal(s->scores[1].outcome, OUTCOME_ERROR);
    assert_string_equal(s->scores[1].detail, "no verdict");
    assert_null(out.group.samples[1].scores);
    assert_null(out.group.samples[1].tokens);
    assert_string_equal(out.group.samples[1].text.data, "");
}

static void a_decoded_sample_lease_has_every_field(void **state)
{
    struct fixture *f = *state;
    union message in = full_message(WIRE_SAMPLE);
    struct wire_sample_lease out;

    assert_int_equal(wire_encode_sample_lease(&in.sample_lease, &f->frame), STATUS_OK);
    assert_int_equal(wire_decode_sample_lease(f->frame.data, f->frame.length, &f->arena, &out),
                     STATUS_OK);
    assert_true(out.lease == UINT64_MAX);
    assert_int_equal(out.sampling.num_generations, 8);
    assert_int_equal(out.sampling.max_completion_length, 256);
    assert_int_equal(out.sampling.top_k, 50);
    assert_true(out.sampling.temperature == 0.6f && out.sampling.top_p == 0.95f);
    assert_true(out.sampling.seed == 0xfedcba9876543210u);
    assert_int_equal(out.sampling.weight_version, 9);
    assert_string_equal(out.task.prefill.data, "<think>");
}

static void a_decoded_model_has_its_stop_ids_and_no_hostile_ones(void **state)
{
    int32_t many[WIRE_MAX_STOPS + 1] = {0}, negative = -1;
    struct wire_model in = {TEXT("{}"), TEXT("{}"), 3, tokens}, out;
    struct fixture *f = *state;

    assert_int_equal(wire_encode_model(&in, &f->frame), STATUS_OK);
    assert_int_equal(wire_decode_model(f->frame.data, f->frame.length, &f->arena, &out), STATUS_OK);
    assert_int_equal(out.n_stops, 3);
    assert_memory_equal(out.stop_ids, tokens, sizeof(tokens));
    f->frame.data[f->frame.length - 1] = (char)0x80;   /* the last id's sign */
    assert_int_equal(wire_decode_model(f->frame.data, f->frame.length, &f->arena, &out),
                     STATUS_FORMAT);
    text_clear(&f->frame);
    in.n_stops = 1;
    in.stop_ids = &negative;
    assert_int_equal(wire_encode_model(&in, &f->frame), STATUS_OK);
    assert_int_equal(wire_decode_model(f->frame.data, f->frame.length, &f->arena, &out),
                     STATUS_FORMAT);
    text_clear(&f->frame);
    in.stop_ids = many;
    in.n_stops = WIRE_MAX_STOPS + 1;
    assert_int_equal(wire_encode_model(&in, &f->frame), STATUS_FORMAT);
    in.n_stops = WIRE_MAX_STOPS;
    assert_int_equal(wire_encode_model(&in, &f->frame), STATUS_OK);
    f->frame.data[WIRE_HEADER_BYTES + 2 * (4 + 2)]++;   /* the count, one too many */
    assert_int_equal(wire_decode_model(f->frame.data, f->frame.length, &f->arena, &out),
                     STATUS_FORMAT);
}

/* The layout is a promise: docs/wire.md draws it. */
static void a_frame_is_laid_out_as_drawn(void **state)
{
    static const unsigned char drawn[] = {
        'H', 'O', 'N', 'E', WIRE_VERSION, WIRE_WEIGHTS_STATE, 0, 0, 50, 0, 0, 0,   /* header */
        4,   3,   2,   1,   1, 0, 0, 0,                                 /* version, accepted */
        0,   0,   0,   0,                                               /* wants_bytes */
        9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9,                 /* digest */
        9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9,
        2,   0,   0,   0,   'o', 'k',                                   /* reason */
    };
    struct fixture *f = *state;
    struct wire_weights_state message = {
        .version = 0x01020304, .accepted = 1, .reason = TEXT("ok")};

    memset(message.digest.bytes, 9, sizeof(message.digest.bytes));
    assert_int_equal(wire_encode_weights_state(&message, &f->frame), STATUS_OK);
    assert_int_equal(f->frame.length, sizeof(drawn));
    assert_memory_equal(f->frame.data, drawn, sizeof(drawn));
}

static void patch_length(unsigned char *frame, size_t n)
{
    uint32_t body = (uint32_t)(n - WIRE_HEADER_BYTES);

    for (int i = 0; i < 4; i++)
        frame[8 + i] = (unsigned char)(body >> (8 * i));
}

/* Decodes exactly n bytes of heap, so that a sanitizer sees one read too many. */
static int decode_alone(const struct codec *codec, const void *bytes, size_t n, int patched,
                        struct arena *arena)
{
    unsigned char *copy = malloc(n ? n : 1);
    union message message;

    assert_non_null(copy);
    memcpy(copy, bytes, n);
    if (patched && n >= WIRE_HEADER_BYTES)
        patch_length(copy, n);
    arena_rewind(arena);
    int status = codec->decode(copy, n, arena, &message);
    free(copy);
    return status;
}

static void a_message_cut_anywhere_is_refused(void **state)
{
    struct fixture *f = *state;

    for (size_t i = 0; i < N_CODECS; i++) {
        union message message = full_message(codecs[i].kind);
        text_clear(&f->frame);
        assert_int_equal(codecs[i].encode(&message, &f->frame), STATUS_OK);
        for (size_t n = 0; n < f->frame.length; n++) {
            int whole = decode_alone(&codecs[i], f->frame.data, n, 0, &f->arena);
            int patched = decode_alone(&codecs[i], f->frame.data, n, 1, &f->arena);
            assert_int_equal(whole, STATUS_FORMAT);
            assert_int_equal(patched, STATUS_FORMAT);
        }
    }
}

static void a_message_with_a_byte_too_many_is_refused(void **state)
{
    struct fixture *f = *state;

    for (size_t i = 0; i < N_CODECS; i++) {
        union message message = full_message(codecs[i].kind);
        text_clear(&f->frame);
        assert_int_equal(codecs[i].encode(&message, &f->frame), STATUS_OK);
        text_append(&f->frame, "", 1);
        assert_int_equal(
            decode_alone(&codecs[i], f->frame.data, f->frame.length, 0, &f->arena),
            STATUS_FORMAT);
        assert_int_equal(
            decode_alone(&codecs[i], f->frame.data, f->frame.length, 1, &f->arena),
            STATUS_FORMAT);
    }
}

static void a_flipped_bit_never_reads_outside(void **state)
{
    struct fixture *f = *state;

    for (size_t i = 0; i < N_CODECS; i++) {
        union message message = full_message(codecs[i].kind);
        text_clear(&f->frame);
        assert_int_equal(codecs[i].encode(&message, &f->frame), STATUS_OK);
        for (size_t bit = 0; bit < f->frame.length * 8; bit++) {
            f->frame.data[bit / 8] ^= (char)(1 << (bit % 8));
            int status = decode_alone(&codecs[i], f->frame.data, f->frame.length, 0, &f->arena);
            assert_true(status == STATUS_OK || status == STATUS_FORMAT || status == STATUS_VERSION);
            f->frame.data[bit / 8] ^= (char)(1 << (bit % 8));
        }
    }
}

static void a_full_arena_is_out_of_memory(void **state)
{
    struct fixture *f = *state;
    union message message = full_message(WIRE_GROUP);
    size_t needed;

    assert_int_equal(wire_encode_group(&message.group, &f->frame), STATUS_OK);
    assert_int_equal(decode_alone(&codecs[6], f->frame.data, f->frame.length, 0, &f->arena),
                     STATUS_OK);
    needed = f->arena.used;
    for (size_t maximum = 0; maximum < needed; maximum++) {
        struct arena small;
        arena_init(&small, maximum);
        assert_int_equal(decode_alone(&codecs[6], f->frame.data, f->frame.length, 0, &small),
                         STATUS_NOMEM);
        arena_release(&small);
    }
}

static void a_huge_count_allocates_nothing(void **state)
{
    struct fixture *f = *state;
    struct wire_group message = {0};
    static const uint32_t counts[] = {17, 4097, (1u << 20) + 1, 0x7fffffff, UINT32_MAX};

    assert_int_equal(wire_encode_group(&message, &f->frame), STATUS_OK);
    /* The last twelve bytes are n_prompt, n_rewards, n_samples. */
    for (size_t field = 0; field < 3; field++) {
        for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
            char *at = f->frame.data + f->frame.length - 12 + 4 * field;
            memcpy(at, &counts[i], 4);
            assert_int_equal(
                decode_alone(&codecs[6], f->frame.data, f->frame.length, 0, &f->arena),
                STATUS_FORMAT);
            assert_true(f->arena.used < 64);
            memset(at, 0, 4);
        }
    }
}

static void a_message_of_another_version_names_the_remedy(void **state)
{
    struct fixture *f = *state;
    struct wire_failed message = {1, TEXT("x")};
    enum wire_kind kind;

    assert_int_equal(wire_encode_failed(&message, &f->frame), STATUS_OK);
    f->frame.data[4] = WIRE_VERSION + 1;
    assert_int_equal(wire_kind_of(f->frame.data, f->frame.length, &kind), STATUS_VERSION);
    assert_non_null(strstr(status_reason(), "same build"));
}

static void a_message_of_another_kind_is_refused(void **state)
{
    struct fixture *f = *state;
    struct wire_hello hello;
    struct wire_failed message = {1, TEXT("x")};

    assert_int_equal(wire_encode_failed(&message, &f->frame), STATUS_OK);
    assert_int_equal(wire_decode_hello(f->frame.data, f->frame.length, &f->arena, &hello),
                     STATUS_FORMAT);
}

static void empty_messages_have_a_kind_and_no_body(void **state)
{
    struct fixture *f = *state;
    enum wire_kind kind;

    assert_int_equal(wire_encode_empty(WIRE_STOP, &f->frame), STATUS_OK);
    assert_int_equal(wire_kind_of(f->frame.data, f->frame.length, &kind), STATUS_OK);
    assert_int_equal(kind, WIRE_STOP);
    text_append(&f->frame, "x", 1);
    patch_length((unsigned char *)f->frame.data, f->frame.length);
    assert_int_equal(wire_kind_of(f->frame.data, f->frame.length, &kind), STATUS_FORMAT);
}

static void a_failed_encoding_leaves_the_buffer_as_it_was(void **state)
{
    struct fixture *f = *state;
    struct wire_hello hello = {.role = "rollout"};
    struct wire_group group = {1, full_group()};
    struct sample bad = samples[0];
    float infinite[3] = {-1, -INFINITY, -1};

    memset(hello.name, 'x', sizeof(hello.name));
    text_append(&f->frame, "before", 6);
    assert_int_equal(wire_encode_hello(&hello, &f->frame), STATUS_FORMAT);
    assert_string_equal(f->frame.data, "before");
    bad.logprobs = infinite;
    group.group.samples = &bad;
    group.group.n_samples = 1;
    assert_int_equal(wire_encode_group(&group, &f->frame), STATUS_FORMAT);
    assert_non_null(strstr(status_reason(), "logprobs"));
    bad.logprobs = NULL;
    assert_int_equal(wire_encode_group(&group, &f->frame), STATUS_FORMAT);
    assert_string_equal(f->frame.data, "before");
    assert_false(f->frame.failed);
}

static void values_out_of_range_are_refused(void **state)
{
    struct fixture *f = *state;
    struct wire_group message = {1, full_group()};
    const uint32_t bad_numbers[] = {0x7f800000, 0xff800000, 0x7fc00000};   /* Inf, -Inf, NaN */
    const size_t second = 24 + 4;   /* the last sample has no tokens, no scores and no text */
    size_t scores_at, sample_at;
    uint32_t six = N_OUTCOMES, two = 2, minus = 0x80000000;

    assert_int_equal(wire_encode_group(&message, &f->frame), STATUS_OK);
    scores_at = f->frame.length - second - 2 * (8 + WIRE_DETAIL_BYTES);
    sample_at = scores_at - samples[0].text.bytes - 4 - 3 * 12 - 24;
    const struct {
        size_t at;
        uint32_t value;
    } bad[] = {
        {sample_at, two},                /* finish */
        {sample_at + 4, two},            /* masked */
        {sample_at + 8, bad_numbers[0]}, /* reward */
        {sample_at + 12, bad_numbers[1]},
        {sample_at + 16, 1},             /* n_scores: neither 0 nor n_rewards */
        {sample_at + 24, minus},         /* tokens[0] */
        {sample_at + 24 + 12, bad_numbers[1]},
        {scores_at, bad_numbers[2]},
        {scores_at + 4, six},            /* outcome */
    };
    assert_int_equal(decode_alone(&codecs[6], f->frame.data, f->frame.length, 0, &f->arena),
                     STATUS_OK);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char before[4];
        memcpy(before, f->frame.data + bad[i].at, 4);
        memcpy(f->frame.data + bad[i].at, &bad[i].value, 4);
        assert_int_equal(decode_alone(&codecs[6], f->frame.data, f->frame.length, 0, &f->arena),
                         STATUS_FORMAT);
        memcpy(f->frame.data + bad[i].at, before, 4);
    }
}

static void a_name_without_an_end_is_refused(void **state)
{
    struct fixture *f = *state;
    union message message = full_message(WIRE_HELLO);

    assert_int_equal(wire_encode_hello(&message.hello, &f->frame), STATUS_OK);
    memset(f->frame.data + WIRE_HEADER_BYTES, 'x', WIRE_NAME_BYTES);
    assert_int_equal(decode_alone(&codecs[0], f->frame.data, f->frame.length, 0, &f->arena),
                     STATUS_FORMAT);
}

static void a_frame_over_the_limit_is_not_written(void **state)
{
    struct fixture *f = *state;
    size_t n = WIRE_MAX_FRAME;
    char *big = mem_alloc(n, 1);
    struct wire_weights_part part = {.data = {big, (uint32_t)n}};

    assert_int_equal(wire_encode_weights_part(&part, &f->frame), STATUS_FORMAT);
    assert_int_equal(f->frame.length, 0);
    part.data.bytes -= 12 + 4 + 4 + 4;   /* exactly at the limit */
    assert_int_equal(wire_encode_weights_part(&part, &f->frame), STATUS_OK);
    assert_int_equal(f->frame.length, WIRE_MAX_FRAME);
    struct wire_weights_part back;
    assert_int_equal(
        wire_decode_weights_part(f->frame.data, f->frame.length, &f->arena, &back), STATUS_OK);
    mem_free(big);
}

static void an_image_of_which_more_follows_than_it_has_is_refused(void **state)
{
    struct fixture *f = *state;
    union message message = full_message(WIRE_IMAGE);
    struct wire_image back;

    message.image.n_follow = message.image.n_pieces + 1;
    assert_int_equal(wire_encode_image(&message.image, &f->frame), STATUS_OK);
    assert_int_equal(wire_decode_image(f->frame.data, f->frame.length, &f->arena, &back),
                     STATUS_FORMAT);
}

static void the_pieces_of_a_file_have_digests_and_sums_and_others_have_none(void **state)
{
    struct fixture *f = *state;
    union message message = full_message(WIRE_IMAGE);
    struct wire_image back;

    assert_int_equal(wire_encode_image(&message.image, &f->frame), STATUS_OK);
    assert_int_equal(wire_decode_image(f->frame.data, f->frame.length, &f->arena, &back),
                     STATUS_OK);
    assert_memory_equal(back.digests, digests, sizeof(digests));
    assert_memory_equal(back.sums, sums, sizeof(sums));
    size_t with = f->frame.length, path = message.image.path.bytes;
    message.image.path = (struct wire_text){"", 0};
    text_clear(&f->frame);
    assert_int_equal(wire_encode_image(&message.image, &f->frame), STATUS_OK);
    assert_int_equal(f->frame.length, with - path - 3 * 48);
    assert_int_equal(wire_decode_image(f->frame.data, f->frame.length, &f->arena, &back),
                     STATUS_OK);
    assert_null(back.digests);
    assert_null(back.sums);
}

static void scribble_text(const struct wire_text *text)
{
    memset((char *)(uintptr_t)text->data, '#', text->bytes);
}

static void scribble(struct sample_group *group)
{
    struct sample *sample = &group->samples[0];

    scribble_text(&group->task.question);
    scribble_text(&group->task.prompt);
    scribble_text(&group->task.prefill);
    scribble_text(&group->task.reference);
    scribble_text(&sample->text);
    memset(group->prompt_tokens, '#', group->n_prompt * sizeof(*group->prompt_tokens));
    memset(sample->tokens, '#', sample->n_tokens * sizeof(*sample->tokens));
    memset(sample->logprobs, '#', sample->n_tokens * sizeof(*sample->logprobs));
    memset(sample->weight_versions, '#', sample->n_tokens * sizeof(*sample->weight_versions));
    memset(sample->scores, '#', group->n_rewards * sizeof(*sample->scores));
    memset(group->rewards, '#', group->n_rewards * sizeof(*group->rewards));
    memset(group->samples, '#', group->n_samples * sizeof(*group->samples));
}

static void a_copied_group_shares_no_memory(void **state)
{
    struct fixture *f = *state;
    struct wire_group message = {5, full_group()}, decoded, copied = {.lease = 5};
    struct arena first;

    arena_init(&first, ARENA_BYTES);
    assert_int_equal(wire_encode_group(&message, &f->frame), STATUS_OK);
    assert_int_equal(wire_decode_group(f->frame.data, f->frame.length, &first, &decoded),
                     STATUS_OK);
    assert_int_equal(sample_group_copy(&copied.group, &decoded.group, &f->arena), STATUS_OK);
    scribble(&decoded.group);
    arena_release(&first);
    assert_int_equal(wire_encode_group(&copied, &f->again), STATUS_OK);
    assert_int_equal(f->again.length, f->frame.length);
    assert_memory_equal(f->again.data, f->frame.data, f->frame.length);
}

static void a_copy_that_does_not_fit_is_out_of_memory(void **state)
{
    struct sample_group group = full_group(), copy;
    struct arena small;

    (void)state;
    for (size_t maximum = 0; maximum < 200; maximum += 3) {
        arena_init(&small, maximum);
        assert_int_equal(sample_group_copy(&copy, &group, &small), STATUS_NOMEM);
        arena_release(&small);
    }
}

static void every_outcome_has_a_name(void **state)
{
    (void)state;
    assert_string_equal(outcome_name(OUTCOME_RIGHT), "right");
    assert_string_equal(outcome_name(OUTCOME_ERROR), "verifier error");
    assert_string_equal(outcome_name((enum outcome)99), "?");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_message_comes_back_as_it_was),
        TEST(every_empty_message_comes_back_as_it_was),
        TEST(a_decoded_group_has_every_field),
        TEST(a_decoded_model_has_its_stop_ids_and_no_hostile_ones),
        TEST(a_decoded_sample_lease_has_every_field),
        TEST(a_frame_is_laid_out_as_drawn),
        TEST(a_message_cut_anywhere_is_refused),
        TEST(a_message_with_a_byte_too_many_is_refused),
        TEST(a_flipped_bit_never_reads_outside),
        TEST(a_full_arena_is_out_of_memory),
        TEST(a_huge_count_allocates_nothing),
        TEST(a_message_of_another_version_names_the_remedy),
        TEST(a_message_of_another_kind_is_refused),
        TEST(empty_messages_have_a_kind_and_no_body),
        TEST(a_failed_encoding_leaves_the_buffer_as_it_was),
        TEST(values_out_of_range_are_refused),
        TEST(a_name_without_an_end_is_refused),
        TEST(a_frame_over_the_limit_is_not_written),
        TEST(an_image_of_which_more_follows_than_it_has_is_refused),
        TEST(the_pieces_of_a_file_have_digests_and_sums_and_others_have_none),
        TEST(a_copied_group_shares_no_memory),
        TEST(a_copy_that_does_not_fit_is_out_of_memory),
        TEST(every_outcome_has_a_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
