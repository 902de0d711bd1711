/* A worker's image of weights: what is checked, what is read, and that the policy is then the image
 * to the byte. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <unistd.h>

#include "common/log.h"
#include "common/random.h"
#include "rollout/internal.h"
#include "tests/unit/test_rollout.h"

#define TENSOR_PIECE_BYTES 1000   /* pieces that end where tensors end, too */
#define PIECE_BYTES 3000          /* ... that do not */
#define N_ROUNDS 60

#define REQUIRE_OK(call)                                                                           \
    do {                                                                                           \
        if ((call) < 0)                                                                            \
            fail_msg("%s: %s", #call, status_reason());                                            \
    } while (0)

struct fixture {
    struct ops *ops;
    struct rollout_options options;
    struct policy policy;
    struct text config, tokenizer, weights, next;   /* next: a copy of weights, to be changed */
    uint64_t *ends;                /* of the header and each tensor */
    size_t n_ends;
    uint32_t version;
};

/* ---- The coordinator: an image in a file without a name, and its pieces. */
struct source {
    struct file_map map;
    struct wire_pieces pieces;
    struct wire_image message;
    char path[64];
};

static void cut(struct fixture *f, struct source *source, int at_tensors)
{
    uint32_t most = at_tensors ? TENSOR_PIECE_BYTES : PIECE_BYTES, n = 0;
    uint32_t *bytes = mem_alloc(source->map.n, sizeof(*bytes));
    uint64_t at = 0;

    for (size_t i = at_tensors ? 0 : f->n_ends - 1; i < f->n_ends; i++)
        for (uint64_t left; (left = f->ends[i] - at) > 0; at += bytes[n++])
            bytes[n] = left < most ? (uint32_t)left : most;
    REQUIRE_OK(wire_pieces_begin(&source->pieces, bytes, n));
    mem_free(bytes);
}

static void publish(struct fixture *f, struct source *source, const struct text *weights,
                    int at_tensors)
{
    struct wire_image *message = &source->message;
    struct file_sink sink;

    *source = (struct source){.message = {.version = ++f->version}};
    REQUIRE_OK(file_sink_open_nameless(&sink));
    REQUIRE_OK(file_sink_map(&sink, file_sink_put(&sink, weights->data, weights->length),
                             &source->map));
    cut(f, source, at_tensors);
    wire_pieces_hash_map(&source->pieces, &source->map, NULL);
    wire_pieces_digest(&source->pieces, &message->digest);
    message->n_pieces = source->pieces.n;
    message->piece_bytes = source->pieces.bytes;
    message->digests = source->pieces.digests;
    message->sums = source->pieces.sums;
    REQUIRE_OK(file_map_name(&source->map, source->path, &message->device, &message->inode));
    message->path = (struct wire_text){source->path, (uint32_t)strlen(source->path)};
}

/* A bit of the file that has been published; the second time it is as it was. */
static void flip(const struct source *source, uint64_t offset)
{
    unsigned char byte = source->map.bytes[offset] ^ 0x10;

    assert_int_equal(pwrite(source->map.descriptor, &byte, 1, (off_t)offset), 1);
}

static void unpublish(struct source *source)
{
    wire_pieces_release(&source->pieces);
    file_map_close(&source->map);
}

/* ---- The worker. */

static int check_and_apply(struct fixture *f)
{
    struct image *image = &f->policy.image;
    int status = STATUS_OK;

    while (status == STATUS_OK && image->state == IMAGE_IS_CHECKED)
        status = image_check_some(image);
    return status < 0 ? status : policy_apply_image(&f->policy);
}

static int take(struct fixture *f, const struct source *source)
{
    TRY(image_begin(&f->policy.image, &source->message));
    assert_int_equal(f->policy.image.state, IMAGE_IS_CHECKED);
    return check_and_apply(f);
}

/* The same over the connection: all pieces. */
static int take_pieces(struct fixture *f, const struct source *source)
{
    struct wire_image message = source->message;
    const char *at = (const char *)source->map.bytes;

    message.path = (struct wire_text){"", 0};
    message.n_follow = message.n_pieces;
    TRY(image_begin(&f->policy.image, &message));
    for (uint32_t i = 0; i < message.n_pieces; at += message.piece_bytes[i++]) {
        const struct wire_weights_part part = {message.version, i, {at, message.piece_bytes[i]}};
        TRY(image_add(&f->policy.image, &part));
    }
    return policy_apply_image(&f->policy);
}

static void announce(struct fixture *f)
{
    const struct wire_model model = {{f->config.data, (uint32_t)f->config.length},
                                     {f->tokenizer.data, (uint32_t)f->tokenizer.length}, 0, NULL};

    REQUIRE_OK(policy_announce(&f->policy, &model));
}

static void assert_policy_is(const struct fixture *f, const struct text *weights)
{
    struct file_map map;

    assert_non_null(f->policy.model);
    REQUIRE_OK(model_map_weights(f->policy.model, &map));
    assert_int_equal(map.n, weights->length);
    /* Names may have changed places in the header, with their tensors. */
    assert_memory_equal(map.bytes + f->ends[0], weights->data + f->ends[0],
                        map.n - f->ends[0]);
    file_map_close(&map);
}

static void begin_with(struct fixture *f, int at_tensors)
{
    struct source source;

    announce(f);
    publish(f, &source, &f->weights, at_tensors);
    REQUIRE_OK(take(f, &source));
    unpublish(&source);
    assert_policy_is(f, &f->weights);
}

/* ---- Changes. */

static uint64_t start_of(const struct fixture *f, size_t tensor)
{
    return f->ends[tensor];
}

static uint64_t end_of(const struct fixture *f, size_t tensor)
{
    return f->ends[tensor + 1];
}

/* The largest tensor: it has several pieces. */
static size_t largest(const struct fixture *f)
{
    size_t best = 0;

    for (size_t t = 1; t + 1 < f->n_ends; t++)
        if (end_of(f, t) - start_of(f, t) > end_of(f, best) - start_of(f, best))
            best = t;
    return best;
}

static void negate(struct text *weights, uint64_t offset)
{
    weights->data[offset + 3] ^= (char)0x80;
}

static int setup(void **state)
{
    struct fixture *f = mem_alloc(1, sizeof(*f));
    struct model *model = NULL;
    struct file_map map;

    log_set_level(LOG_ERROR);
    *state = f;
    f->options = (struct rollout_options){.device = "cpu", .threads = 1,
                                          .limits = {6, 32, 48, 24, 0}};
    write_tiny_tokenizer(&f->tokenizer);
    TRY(ops_create(&f->ops, "cpu", 1));
    TRY(policy_open(&f->policy, &f->options));
    TRY(create_tiny_model(&model, f->ops, 3));
    model_shape_print(model_shape(model), -1, TINY_EOS, &f->config);
    TRY(model_map_weights(model, &map));
    text_append(&f->weights, map.bytes, map.n);
    text_append(&f->next, map.bytes, map.n);
    model_destroy(&model);
    file_map_close(&map);
    return safetensors_ends(f->weights.data, f->weights.length, "weights", &f->ends, &f->n_ends);
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    policy_close(&f->policy);
    ops_destroy(&f->ops);
    text_release(&f->config);
    text_release(&f->tokenizer);
    text_release(&f->weights);
    text_release(&f->next);
    mem_free(f->ends);
    mem_free(f);
    return 0;
}

/* ---- Tests. */

static void damage_between_publication_and_mapping_is_found_wherever_it_is(void **state)
{
    struct fixture *f = *state;
    struct source source;
    int n = 0;

    announce(f);
    publish(f, &source, &f->weights, 1);
    for (uint64_t at = 0; at < source.map.n; at += 499, n++) {
        flip(&source, at);
        assert_int_equal(take(f, &source), STATUS_FORMAT);
        assert_non_null(strstr(status_reason(), "were damaged"));
        assert_null(f->policy.model);
        flip(&source, at);
    }
    assert_true(n > 100);
    REQUIRE_OK(take(f, &source));
    assert_policy_is(f, &f->weights);
    unpublish(&source);
}

/* The proof that they are not looked at: they are damaged, and nobody minds. */
static void tensors_that_have_not_changed_are_neither_checked_nor_read(void **state)
{
    struct fixture *f = *state;
    struct source source;
    size_t changed = 3;

    begin_with(f, 1);
    negate(&f->next, start_of(f, changed));
    publish(f, &source, &f->next, 1);
    for (size_t t = 0; t + 1 < f->n_ends; t++)
        if (t != changed)
            flip(&source, start_of(f, t));
    REQUIRE_OK(take(f, &source));
    assert_policy_is(f, &f->next);
    assert_int_equal(f->policy.version, f->version);
    unpublish(&source);
    publish(f, &source, &f->next, 1);
    for (size_t t = 0; t + 1 < f->n_ends; t++)
        flip(&source, start_of(f, t));
    REQUIRE_OK(take(f, &source));   /* the same weights */
    assert_policy_is(f, &f->next);
    unpublish(&source);
}

static void a_tensor_that_changed_in_one_piece_is_checked_whole(void **state)
{
    struct fixture *f = *state;
    struct source source;
    size_t changed = largest(f);

    begin_with(f, 1);
    assert_true(end_of(f, changed) - start_of(f, changed) > 2 * TENSOR_PIECE_BYTES);
    negate(&f->next, start_of(f, changed));
    publish(f, &source, &f->next, 1);
    flip(&source, end_of(f, changed) - 1);
    assert_int_equal(take(f, &source), STATUS_FORMAT);
    assert_policy_is(f, &f->weights);
    flip(&source, end_of(f, changed) - 1);
    flip(&source, 20);              /* the header is always checked */
    assert_int_equal(take(f, &source), STATUS_FORMAT);
    assert_policy_is(f, &f->weights);
    flip(&source, 20);
    REQUIRE_OK(take(f, &source));
    assert_policy_is(f, &f->next);
    unpublish(&source);
}

/* All bytes keep their places, but k_proj is v_proj now: each piece of theirs is the same. */
static void exchange_names(struct fixture *f)
{
    static const char *const names[] = {"layers.0.self_attn.k_proj.weight",
                                        "layers.0.self_attn.v_proj.weight"};
    size_t n = strlen(names[0]), at[2];

    for (int i = 0; i < 2; i++) {
        char *found = memmem(f->weights.data, f->ends[0], names[i], n);
        assert_non_null(found);
        at[i] = (size_t)(found - f->weights.data);
    }
    memcpy(f->next.data + at[0], names[1], n);
    memcpy(f->next.data + at[1], names[0], n);
}

static void a_damaged_header_is_found_also_when_it_can_be_read(void **state)
{
    struct fixture *f = *state;
    struct source source;

    begin_with(f, 1);
    publish(f, &source, &f->weights, 1);
    exchange_names(f);
    assert_int_equal(pwrite(source.map.descriptor, f->next.data, f->ends[0], 0), f->ends[0]);
    assert_int_equal(take(f, &source), STATUS_FORMAT);
    assert_non_null(strstr(status_reason(), "were damaged"));
    assert_policy_is(f, &f->weights);
    unpublish(&source);
}

static void behind_another_header_every_tensor_is_read(void **state)
{
    struct fixture *f = *state;
    struct source source;
    struct text wanted = {0};

    begin_with(f, 1);
    exchange_names(f);
    publish(f, &source, &f->next, 1);
    REQUIRE_OK(take(f, &source));
    /* The model writes its tensors in its own order: those two have changed places. */
    struct file_map map;
    REQUIRE_OK(model_map_weights(f->policy.model, &map));
    text_append(&wanted, map.bytes, map.n);
    file_map_close(&map);
    assert_memory_not_equal(wanted.data + f->ends[0], f->weights.data + f->ends[0],
                            wanted.length - f->ends[0]);
    announce(f);                   /* and built from nothing it is the same */
    REQUIRE_OK(take(f, &source));
    assert_policy_is(f, &wanted);
    unpublish(&source);
    text_release(&wanted);
}

static void a_model_that_is_built_anew_is_read_whole(void **state)
{
    struct fixture *f = *state;
    struct source source;

    begin_with(f, 1);
    publish(f, &source, &f->weights, 1);
    flip(&source, end_of(f, 5) - 1);
    announce(f);
    assert_int_equal(take(f, &source), STATUS_FORMAT);
    assert_policy_is(f, &f->weights);
    /* Also when it is announced after a part was left out. */
    flip(&source, end_of(f, 5) - 1);
    REQUIRE_OK(take(f, &source));
    flip(&source, end_of(f, 5) - 1);
    REQUIRE_OK(image_begin(&f->policy.image, &source.message));
    announce(f);
    assert_int_equal(check_and_apply(f), STATUS_FORMAT);
    assert_policy_is(f, &f->weights);
    unpublish(&source);
}

static void digests_that_do_not_make_the_image_are_refused(void **state)
{
    struct fixture *f = *state;
    struct source source;

    announce(f);
    publish(f, &source, &f->weights, 1);
    source.pieces.digests[7].bytes[0] ^= 1;
    assert_int_equal(take(f, &source), STATUS_FORMAT);
    assert_non_null(strstr(status_reason(), "was announced"));
    source.pieces.digests[7].bytes[0] ^= 1;
    source.pieces.sums[7].high ^= 1;
    assert_int_equal(take(f, &source), STATUS_FORMAT);
    assert_non_null(strstr(status_reason(), "were damaged"));
    unpublish(&source);
}

/* It may have been put there by somebody who cannot write the coordinator's. */
static void a_file_of_another_user_is_not_taken(void **state)
{
    struct fixture *f = *state;
    struct source source;

    announce(f);
    publish(f, &source, &f->weights, 1);
    if (fchown(source.map.descriptor, 12345, (gid_t)-1)) {
        print_message("skipped: only root gives a file to another user\n");
    } else {
        assert_int_equal(take(f, &source), STATUS_IO);
        assert_non_null(strstr(status_reason(), "belongs to another user"));
        assert_int_equal(f->policy.image.wants_bytes, 1);
        assert_null(f->policy.model);
    }
    unpublish(&source);
}

static void after_a_refusal_everything_is_right_again(void **state)
{
    const float nan_value = NAN;
    struct fixture *f = *state;
    struct source source;

    begin_with(f, 1);
    memcpy(f->next.data + start_of(f, 4), &nan_value, sizeof(nan_value));
    publish(f, &source, &f->next, 1);
    assert_int_equal(take(f, &source), STATUS_FORMAT);
    assert_non_null(strstr(status_reason(), "NaN"));
    assert_policy_is(f, &f->weights);
    unpublish(&source);
    memcpy(f->next.data, f->weights.data, f->weights.length);
    negate(&f->next, start_of(f, 2));
    publish(f, &source, &f->next, 1);
    REQUIRE_OK(take(f, &source));
    assert_policy_is(f, &f->next);
    unpublish(&source);
}

/* Any change, in pieces of both kinds, by either way: the policy is the image. */
static void whatever_changes_the_policy_is_the_image(void **state)
{
    struct fixture *f = *state;
    struct random_stream stream = {.seed = 9};

    begin_with(f, 1);
    for (int round = 0; round < N_ROUNDS; round++) {
        uint64_t n_changes = random_below(&stream, 4);
        struct source source;
        for (uint64_t i = 0; i < n_changes; i++) {
            size_t tensor = (size_t)random_below(&stream, f->n_ends - 1);
            uint64_t n = (end_of(f, tensor) - start_of(f, tensor)) / 4;
            negate(&f->next, start_of(f, tensor) + 4 * random_below(&stream, n));
        }
        /* Runs of rounds are cut alike, else all is read. */
        publish(f, &source, &f->next, round / 10 % 2);
        if (random_below(&stream, 3))
            REQUIRE_OK(take(f, &source));
        else
            REQUIRE_OK(take_pieces(f, &source));
        assert_policy_is(f, &f->next);
        unpublish(&source);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(damage_between_publication_and_mapping_is_found_wherever_it_is),
        TEST(tensors_that_have_not_changed_are_neither_checked_nor_read),
        TEST(a_tensor_that_changed_in_one_piece_is_checked_whole),
        TEST(a_damaged_header_is_found_also_when_it_can_be_read),
        TEST(behind_another_header_every_tensor_is_read),
        TEST(a_model_that_is_built_anew_is_read_whole),
        TEST(digests_that_do_not_make_the_image_are_refused),
        TEST(a_file_of_another_user_is_not_taken),
        TEST(after_a_refusal_everything_is_right_again),
        TEST(whatever_changes_the_policy_is_the_image),
    };

    return cmocka_run_group_tests_name("test_image", tests, NULL, NULL);
}
