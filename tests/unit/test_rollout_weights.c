/* The weights that a worker takes, in pieces or as a file, and those that it refuses. */
#include "test_rollout_serve.h"

static void damaged_weights_are_refused_and_whole_ones_taken(void **state)
{
    struct fixture *f = *state;
    struct wire_image wrong = cut_image(f, 1, &f->weights);

    start(f);
    greet(f);
    send_model(f);
    wrong.digest.bytes[0] ^= 1;
    send_image(f, &wrong, &f->weights);
    assert_weights_state(f, 1, 0, "SHA-256");
    send_lease(f, 5, 1, "a");
    assert_failed(f, 5, "no policy yet");
    send_weights(f, 1, &f->weights);
    assert_weights_state(f, 1, 1, "");
    send_lease(f, 6, 1, "a");
    receive_group(f, 6);
    stop(f);
}

static void weights_with_nan_are_refused_and_the_old_ones_stay(void **state)
{
    struct fixture *f = *state;
    struct text broken = {0};
    const float nan_value = NAN;

    start_with_policy(f);
    send_lease(f, 1, 1, "a");
    struct sample_group before = receive_group(f, 1);
    text_append(&broken, f->weights.data, f->weights.length);
    memcpy(broken.data + broken.length - sizeof(nan_value), &nan_value, sizeof(nan_value));
    send_weights(f, 2, &broken);
    assert_weights_state(f, 2, 0, "");
    send_weights(f, 3, &f->config);   /* no safetensors at all */
    assert_weights_state(f, 3, 0, "");
    send_lease(f, 2, 1, "a");
    struct sample_group after = receive_group(f, 2);
    assert_true(same_tokens(&before, &after));
    text_release(&broken);
    stop(f);
}

static void new_weights_wait_until_no_group_runs(void **state)
{
    struct fixture *f = *state;
    struct text second = {0};

    start_with_policy(f);
    assert_int_equal(write_policy(f, 4, &second), STATUS_OK);
    send_lease(f, 1, 1, "What is 1 + 1?");
    send_lease(f, 2, 1, "Count to ten.");
    send_weights(f, 2, &second);
    struct sample_group old = receive_group(f, 1);
    receive_group(f, 2);
    assert_weights_state(f, 2, 1, "");
    send_lease(f, 3, 2, "What is 1 + 1?");
    struct sample_group new = receive_group(f, 3);
    assert_int_equal(old.samples[0].weight_versions[0], 1);
    assert_int_equal(new.samples[0].weight_versions[0], 2);
    assert_false(same_tokens(&old, &new));
    send_weights(f, 3, &f->weights);   /* and back */
    assert_weights_state(f, 3, 1, "");
    send_lease(f, 4, 3, "What is 1 + 1?");
    struct sample_group back = receive_group(f, 4);
    assert_true(same_tokens(&old, &back));
    text_release(&second);
    stop(f);
}

static void weights_that_wait_give_way_to_newer_ones(void **state)
{
    struct fixture *f = *state;

    start_with_policy(f);
    for (uint64_t lease = 1; lease <= 120; lease++)
        send_lease(f, lease, 1, "What is 1 + 1?");
    send_weights(f, 2, &f->weights);
    send_weights(f, 3, &f->weights);
    int n_groups = 0;
    while (receive(f) == WIRE_GROUP)
        n_groups++;
    struct wire_weights_state weights;
    assert_int_equal(
        wire_decode_weights_state(f->in.data, f->in.length, &f->arena, &weights), STATUS_OK);
    assert_int_equal(weights.version, 2);
    assert_int_equal(weights.accepted, 0);
    assert_non_null(strstr(weights.reason.data, "newer"));
    for (; n_groups < 120; n_groups++)
        assert_int_equal(receive(f), WIRE_GROUP);
    assert_weights_state(f, 3, 1, "");
    stop(f);
}

static void parts_out_of_order_are_refused_once(void **state)
{
    struct fixture *f = *state;
    struct wire_image message = cut_image(f, 2, &f->weights);

    start_with_policy(f);
    send_frame(f, wire_encode_image(&message, &f->out));
    send_part(f, &message, &f->weights, 1);
    send_part(f, &message, &f->weights, 0);
    send_part(f, &message, &f->weights, 2);
    assert_weights_state(f, 2, 0, "came where piece 2");
    send_frame(f, wire_encode_image(&message, &f->out));
    message.version = 3;
    send_part(f, &message, &f->weights, 0);
    assert_weights_state(f, 3, 0, "came between");
    send_lease(f, 1, 1, "a");
    receive_group(f, 1);
    stop(f);
}

static void weights_of_no_sensible_size_are_refused(void **state)
{
    struct fixture *f = *state;
    uint32_t *bytes = mem_alloc(1 << 15, sizeof(*bytes));
    struct wire_image message = {.version = 8, .path = {"", 0}};

    start_with_policy(f);
    send_frame(f, wire_encode_image(&message, &f->out));
    assert_weights_state(f, 8, 0, "weights of 0 pieces");
    for (int i = 0; i < 1 << 15; i++)
        bytes[i] = WIRE_PIECE_BYTES;
    message.piece_bytes = bytes;
    message.n_follow = message.n_pieces = 1 << 15;
    send_frame(f, wire_encode_image(&message, &f->out));
    assert_weights_state(f, 8, 0, "wanted 1 to 17179869184");
    bytes[7]++;
    send_frame(f, wire_encode_image(&message, &f->out));
    assert_weights_state(f, 8, 0, "piece 7 of the weights has 1048577 bytes");
    mem_free(bytes);
    stop(f);
}

/* Version 2 of one piece, the others those of version 1. */
static struct wire_image change_piece(struct fixture *f, struct text *second, uint32_t piece)
{
    struct wire_image first = cut_image(f, 1, &f->weights);

    text_append(second, f->weights.data, f->weights.length);
    float *values = (float *)(void *)(second->data + second->length) - 1 -
                    ((second->length - 1) / PART_BYTES - piece) * (PART_BYTES / sizeof(float));
    *values = -*values;
    struct wire_image message = cut_image(f, 2, second);
    message.base = first.digest;
    message.n_follow = 1;
    return message;
}

static void of_an_image_that_is_kept_only_what_changed_must_come(void **state)
{
    struct fixture *f = *state;
    struct text second = {0};
    struct wire_image message = change_piece(f, &second, 1);

    start_with_policy(f);
    assert_true(message.n_pieces > 2);
    send_frame(f, wire_encode_image(&message, &f->out));
    send_part(f, &message, &second, 1);
    assert_weights_state(f, 2, 1, "");
    send_lease(f, 1, 2, "What is 1 + 1?");
    struct sample_group changed = receive_group(f, 1);
    send_weights(f, 3, &second);   /* the same, whole */
    assert_weights_state(f, 3, 1, "");
    send_lease(f, 2, 3, "What is 1 + 1?");
    struct sample_group whole = receive_group(f, 2);
    assert_true(same_tokens(&changed, &whole));
    message = cut_image(f, 4, &second);
    message.base = message.digest;
    message.n_follow = 0;          /* and nothing of it */
    send_frame(f, wire_encode_image(&message, &f->out));
    assert_weights_state(f, 4, 1, "");
    text_release(&second);
    stop(f);
}

static void a_piece_that_did_not_change_as_announced_is_refused(void **state)
{
    struct fixture *f = *state;
    struct text second = {0};
    struct wire_image message = change_piece(f, &second, 1);

    start_with_policy(f);
    send_frame(f, wire_encode_image(&message, &f->out));
    send_part(f, &message, &second, 0);
    assert_weights_state(f, 2, 0, "damaged on the way");
    send_frame(f, wire_encode_image(&message, &f->out));   /* the base is spoilt now */
    assert_weights_state(f, 2, 0, "not kept here");
    text_release(&second);
    stop(f);
}

static void changes_of_an_image_that_is_not_kept_are_refused(void **state)
{
    struct fixture *f = *state;
    struct wire_image message = cut_image(f, 2, &f->weights);

    start_with_policy(f);
    message.base = message.digest;
    message.base.bytes[0] ^= 1;
    message.n_follow = 1;
    send_frame(f, wire_encode_image(&message, &f->out));
    assert_weights_state(f, 2, 0, "not kept here");
    memset(&message.base, 0, sizeof(message.base));
    send_frame(f, wire_encode_image(&message, &f->out));
    assert_weights_state(f, 2, 0, "no image has the others");
    stop(f);
}

static void weights_in_a_file_of_this_host_need_not_travel(void **state)
{
    struct fixture *f = *state;
    struct wire_image message = cut_image(f, 5, &f->weights);
    struct wire_pieces pieces;
    struct file_sink sink;
    struct file_map map;
    char path[64];

    start_with_policy(f);
    send_lease(f, 1, 1, "a");
    struct sample_group before = receive_group(f, 1);
    assert_int_equal(file_sink_open_nameless(&sink), STATUS_OK);
    assert_int_equal(file_sink_map(&sink, file_sink_put(&sink, f->weights.data, f->weights.length),
                                   &map), STATUS_OK);
    assert_int_equal(file_map_name(&map, path, &message.device, &message.inode), STATUS_OK);
    message.path = (struct wire_text){path, (uint32_t)strlen(path)};
    message.n_follow = 0;
    assert_int_equal(wire_pieces_begin(&pieces, message.piece_bytes, message.n_pieces), STATUS_OK);
    wire_pieces_hash_map(&pieces, &map, NULL);
    message.digests = pieces.digests;
    message.sums = pieces.sums;
    send_frame(f, wire_encode_image(&message, &f->out));
    assert_weights_state(f, 5, 1, "");
    send_lease(f, 2, 5, "a");
    struct sample_group after = receive_group(f, 2);
    assert_true(same_tokens(&before, &after));
    message.digest.bytes[0] ^= 1;
    send_frame(f, wire_encode_image(&message, &f->out));
    assert_weights_state(f, 5, 0, "was announced");
    message.digest.bytes[0] ^= 1;
    message.inode++;               /* the path means another file by now */
    send_frame(f, wire_encode_image(&message, &f->out));
    struct wire_weights_state answer = assert_weights_state(f, 5, 0, "another file");
    assert_int_equal(answer.wants_bytes, 1);
    wire_pieces_release(&pieces);
    file_map_close(&map);
    stop(f);
}

static void weights_before_their_model_are_refused(void **state)
{
    struct fixture *f = *state;

    start(f);
    greet(f);
    send_weights(f, 1, &f->weights);
    assert_weights_state(f, 1, 0, "before their model");
    stop(f);
}

static void a_model_that_cannot_be_built_leaves_the_old_one(void **state)
{
    struct fixture *f = *state;
    struct wire_model model = {{f->config.data, (uint32_t)f->config.length}, {"{}", 2}, 0, NULL};

    start_with_policy(f);
    send_frame(f, wire_encode_model(&model, &f->out));
    send_weights(f, 2, &f->weights);
    assert_weights_state(f, 2, 0, "tokenizer.json");
    send_lease(f, 1, 1, "a");
    struct sample_group before = receive_group(f, 1);
    send_model(f);
    send_weights(f, 2, &f->weights);
    assert_weights_state(f, 2, 1, "");
    send_lease(f, 2, 2, "a");
    struct sample_group after = receive_group(f, 2);
    assert_true(same_tokens(&before, &after));
    stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(damaged_weights_are_refused_and_whole_ones_taken),
        TEST(weights_with_nan_are_refused_and_the_old_ones_stay),
        TEST(new_weights_wait_until_no_group_runs),
        TEST(weights_that_wait_give_way_to_newer_ones),
        TEST(parts_out_of_order_are_refused_once),
        TEST(weights_of_no_sensible_size_are_refused),
        TEST(of_an_image_that_is_kept_only_what_changed_must_come),
        TEST(a_piece_that_did_not_change_as_announced_is_refused),
        TEST(changes_of_an_image_that_is_not_kept_are_refused),
        TEST(weights_in_a_file_of_this_host_need_not_travel),
        TEST(weights_before_their_model_are_refused),
        TEST(a_model_that_cannot_be_built_leaves_the_old_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
