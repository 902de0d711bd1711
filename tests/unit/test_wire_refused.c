/* Frames that are cut, changed, too long or of someone else are refused, and cost nothing. */
#include "test_wire_codec.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_message_cut_anywhere_is_refused),
        TEST(a_message_with_a_byte_too_many_is_refused),
        TEST(a_flipped_bit_never_reads_outside),
        TEST(a_full_arena_is_out_of_memory),
        TEST(a_huge_count_allocates_nothing),
        TEST(a_message_of_another_version_names_the_remedy),
        TEST(a_message_of_another_kind_is_refused),
        TEST(a_failed_encoding_leaves_the_buffer_as_it_was),
        TEST(values_out_of_range_are_refused),
        TEST(a_name_without_an_end_is_refused),
        TEST(a_frame_over_the_limit_is_not_written),
        TEST(an_image_of_which_more_follows_than_it_has_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
