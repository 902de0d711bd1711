#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <pthread.h>
#include <stdio.h>

#include "common/log.h"
#include "test_rollout.h"

#define LONG_MS 20000
#define PART_BYTES 10000
#define NAME "rollout-1"

/* The test is the hub; the worker runs in a thread. */
struct fixture {
    char directory[64], endpoint[128];
    struct rollout_options options;
    struct wire_hub *hub;
    pthread_t thread;
    int started, status;
    _Atomic int stop;
    char reason[512];                     /* the worker's, after it ended */
    struct ops *ops;
    struct text config, tokenizer, weights;   /* of the first policy */
    int32_t stops[2];
    uint32_t n_stops;
    struct text out, in;
    struct arena arena;
};

static void *work(void *argument)
{
    struct fixture *f = argument;

    f->status = rollout_serve(&f->options, &f->stop);
    snprintf(f->reason, sizeof(f->reason), "%s", status_reason());
    return NULL;
}

static void start(struct fixture *f)
{
    assert_int_equal(wire_hub_open(&f->hub, f->endpoint, NULL), STATUS_OK);
    assert_int_equal(pthread_create(&f->thread, NULL, work, f), 0);
    f->started = 1;
}

static int join(struct fixture *f)
{
    pthread_join(f->thread, NULL);
    f->started = 0;
    return f->status;
}

static int write_policy(struct fixture *f, uint64_t seed, struct text *weights)
{
    struct model *model = NULL;
    struct file_map image;

    TRY(create_tiny_model(&model, f->ops, seed));
    text_clear(weights);
    text_clear(&f->config);
    model_shape_print(model_shape(model), -1, TINY_EOS, &f->config);
    int status = model_map_weights(model, &image);
    text_append(weights, image.bytes, image.n);
    file_map_close(&image);
    model_destroy(&model);
    return status;
}

static int setup(void **state)
{
    struct fixture *f = mem_alloc(1, sizeof(*f));

    log_set_level(LOG_ERROR);
    snprintf(f->directory, sizeof(f->directory), "/tmp/hone-test-XXXXXX");
    if (!mkdtemp(f->directory))
        return -1;
    snprintf(f->endpoint, sizeof(f->endpoint), "ipc://%s/hub", f->directory);
    f->options = (struct rollout_options){.endpoint = f->endpoint,
                                          .name = NAME,
                                          .device = "cpu",
                                          .threads = 1,
                                          .limits = {6, 32, 48, 24, 0},
                                          .lost_ms = LONG_MS};
    f->stops[0] = TINY_EOS;
    f->n_stops = 1;
    arena_init(&f->arena, (size_t)64 << 20);
    write_tiny_tokenizer(&f->tokenizer);
    *state = f;
    return ops_create(&f->ops, "cpu", 1) < 0 || write_policy(f, 3, &f->weights) < 0 ? -1 : 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    f->stop = 1;
    if (f->started)
        pthread_join(f->thread, NULL);
    wire_hub_close(&f->hub);
    ops_destroy(&f->ops);
    text_release(&f->config);
    text_release(&f->tokenizer);
    text_release(&f->weights);
    text_release(&f->out);
    text_release(&f->in);
    arena_release(&f->arena);
    int status = file_remove_tree(f->directory);
    mem_free(f);
    return status;
}

/* ---- What a hub does. */

static void send_frame(struct fixture *f, int encoded)
{
    assert_int_equal(encoded, STATUS_OK);
    assert_int_equal(wire_hub_send(f->hub, NAME, &f->out, LONG_MS), STATUS_OK);
    text_clear(&f->out);
}

/* The next frame that is no heartbeat. */
static enum wire_kind receive(struct fixture *f)
{
    char peer[WIRE_NAME_BYTES];
    enum wire_kind kind;

    do {
        assert_int_equal(wire_hub_receive(f->hub, peer, &f->in, LONG_MS), STATUS_OK);
        assert_string_equal(peer, NAME);
        assert_int_equal(wire_kind_of(f->in.data, f->in.length, &kind), STATUS_OK);
    } while (kind == WIRE_HEARTBEAT);
    return kind;
}

static void greet(struct fixture *f)
{
    struct wire_hello hello;

    assert_int_equal(receive(f), WIRE_HELLO);
    assert_int_equal(wire_decode_hello(f->in.data, f->in.length, &f->arena, &hello), STATUS_OK);
    assert_string_equal(hello.role, "rollout");
    assert_string_equal(hello.name, NAME);
    assert_true(hello.pid > 0);
}

static void send_model(struct fixture *f)
{
    struct wire_model model = {{f->config.data, (uint32_t)f->config.length},
                               {f->tokenizer.data, (uint32_t)f->tokenizer.length},
                               f->n_stops,
                               f->stops};

    send_frame(f, wire_encode_model(&model, &f->out));
}

/* The pieces of an image of this file, and what announces it. */
static struct wire_image cut_image(struct fixture *f, uint32_t version, const struct text *image)
{
    uint32_t n = (uint32_t)((image->length + PART_BYTES - 1) / PART_BYTES);
    uint32_t *bytes = ARENA_NEW(&f->arena, uint32_t, n);
    struct wire_image message = {.version = version, .n_follow = n, .n_pieces = n,
                                 .piece_bytes = bytes, .path = {"", 0}};
    struct wire_pieces pieces;

    for (uint32_t i = 0; i < n; i++)
        bytes[i] = i < n - 1 ? PART_BYTES : (uint32_t)(image->length - (size_t)i * PART_BYTES);
    assert_int_equal(wire_pieces_begin(&pieces, bytes, n), STATUS_OK);
    for (uint32_t i = 0; i < n; i++)
        wire_pieces_hash(&pieces, i, image->data + (size_t)i * PART_BYTES);
    wire_pieces_digest(&pieces, &message.digest);
    wire_pieces_release(&pieces);
    return message;
}

static void send_part(struct fixture *f, const struct wire_image *message,
                      const struct text *image, uint32_t piece)
{
    struct wire_weights_part part = {message->version, piece,
                                     {image->data + (size_t)piece * PART_BYTES,
                                      message->piece_bytes[piece]}};

    send_frame(f, wire_encode_weights_part(&part, &f->out));
}

static void send_image(struct fixture *f, const struct wire_image *message,
                       const struct text *image)
{
    send_frame(f, wire_encode_image(message, &f->out));
    for (uint32_t i = 0; i < message->n_follow; i++)
        send_part(f, message, image, i);
}

static void send_weights(struct fixture *f, uint32_t version, const struct text *image)
{
    struct wire_image message = cut_image(f, version, image);

    send_image(f, &message, image);
}

static struct wire_weights_state assert_weights_state(struct fixture *f, uint32_t version,
                                                      uint32_t accepted, const char *reason)
{
    struct wire_weights_state weights;

    assert_int_equal(receive(f), WIRE_WEIGHTS_STATE);
    assert_int_equal(
        wire_decode_weights_state(f->in.data, f->in.length, &f->arena, &weights), STATUS_OK);
    assert_int_equal(weights.version, version);
    assert_int_equal(weights.accepted, accepted);
    assert_non_null(strstr(weights.reason.data, reason));
    return weights;
}

static void send_lease(struct fixture *f, uint64_t lease, uint32_t version, const char *prompt)
{
    struct wire_sample_lease message = {lease, tiny_sampling(), tiny_task(9, prompt)};

    message.sampling.weight_version = version;
    send_frame(f, wire_encode_sample_lease(&message, &f->out));
}

static struct sample_group receive_group(struct fixture *f, uint64_t lease)
{
    struct wire_group group;

    assert_int_equal(receive(f), WIRE_GROUP);
    assert_int_equal(wire_decode_group(f->in.data, f->in.length, &f->arena, &group), STATUS_OK);
    assert_int_equal(group.lease, lease);
    assert_int_equal(group.group.n_samples, 5);
    return group.group;
}

static void assert_failed(struct fixture *f, uint64_t lease, const char *reason)
{
    struct wire_failed failed;

    assert_int_equal(receive(f), WIRE_FAILED);
    assert_int_equal(wire_decode_failed(f->in.data, f->in.length, &f->arena, &failed), STATUS_OK);
    assert_int_equal(failed.lease, lease);
    assert_non_null(strstr(failed.reason.data, reason));
}

static void stop(struct fixture *f)
{
    send_frame(f, wire_encode_empty(WIRE_STOP, &f->out));
    assert_int_equal(join(f), STATUS_OK);
}

static void start_with_policy(struct fixture *f)
{
    start(f);
    greet(f);
    send_model(f);
    send_weights(f, 1, &f->weights);
    assert_weights_state(f, 1, 1, "");
}

static int same_tokens(const struct sample_group *a, const struct sample_group *b)
{
    for (uint32_t i = 0; i < a->n_samples; i++) {
        const struct sample *x = &a->samples[i], *y = &b->samples[i];
        if (x->n_tokens != y->n_tokens ||
            memcmp(x->tokens, y->tokens, x->n_tokens * sizeof(int32_t)) ||
            memcmp(x->logprobs, y->logprobs, x->n_tokens * sizeof(float)))
            return 0;
    }
    return 1;
}

/* ---- Tests. */

static void a_worker_greets_and_stops(void **state)
{
    struct fixture *f = *state;

    start(f);
    greet(f);
    stop(f);
}

static void a_lease_comes_back_as_its_group(void **state)
{
    struct fixture *f = *state;

    start_with_policy(f);
    send_lease(f, 70, 1, "What is 1 + 1?");
    struct sample_group group = receive_group(f, 70);
    assert_int_equal(group.task.id, 9);
    assert_string_equal(group.task.prompt.data, "What is 1 + 1?");
    assert_int_equal(group.n_prompt, 14);
    assert_int_equal(group.samples[0].weight_versions[0], 1);
    send_lease(f, 71, 1, "What is 1 + 1?");
    struct sample_group again = receive_group(f, 71);
    assert_true(same_tokens(&group, &again));
    stop(f);
}

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

static void a_lease_of_another_version_fails_and_names_both(void **state)
{
    struct fixture *f = *state;

    start_with_policy(f);
    send_lease(f, 5, 4, "a");
    assert_failed(f, 5, "version 4 is wanted, this worker has version 1");
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

static void a_worker_says_that_it_lives(void **state)
{
    struct fixture *f = *state;
    char peer[WIRE_NAME_BYTES];
    enum wire_kind kind;

    start(f);
    greet(f);
    assert_int_equal(wire_hub_receive(f->hub, peer, &f->in, LONG_MS), STATUS_OK);
    assert_int_equal(wire_kind_of(f->in.data, f->in.length, &kind), STATUS_OK);
    assert_int_equal(kind, WIRE_HEARTBEAT);
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

static void a_prompt_too_long_fails_while_others_go_on(void **state)
{
    struct fixture *f = *state;

    start_with_policy(f);
    send_lease(f, 1, 1, "a");
    send_lease(f, 2, 1, "This prompt has more than thirty-two bytes.");
    int n_groups = 0;
    for (int i = 0; i < 2; i++) {
        enum wire_kind kind = receive(f);
        n_groups += kind == WIRE_GROUP;
        assert_true(kind == WIRE_GROUP || kind == WIRE_FAILED);
    }
    assert_int_equal(n_groups, 1);
    stop(f);
}

static void malformed_and_misdirected_frames_are_dropped(void **state)
{
    struct fixture *f = *state;
    struct wire_failed failed = {1, {"x", 1}};

    start_with_policy(f);
    text_append(&f->out, "nonsense", 8);
    send_frame(f, STATUS_OK);
    send_frame(f, wire_encode_failed(&failed, &f->out));
    assert_int_equal(wire_encode_failed(&failed, &f->out), STATUS_OK);
    f->out.data[4] = 99;   /* another version */
    send_frame(f, STATUS_OK);
    assert_int_equal(wire_encode_failed(&failed, &f->out), STATUS_OK);
    f->out.data[5] = WIRE_SAMPLE;   /* a body of another kind */
    send_frame(f, STATUS_OK);
    send_lease(f, 1, 1, "a");
    receive_group(f, 1);
    stop(f);
}

static void a_worker_greets_again_after_the_hub_came_back(void **state)
{
    struct fixture *f = *state;

    start_with_policy(f);
    wire_hub_close(&f->hub);
    assert_int_equal(wire_hub_open(&f->hub, f->endpoint, NULL), STATUS_OK);
    greet(f);
    send_lease(f, 1, 1, "a");
    receive_group(f, 1);
    stop(f);
}

static void a_lost_hub_ends_the_worker_and_is_named(void **state)
{
    struct fixture *f = *state;

    f->options.lost_ms = 50;
    start_with_policy(f);
    wire_hub_close(&f->hub);
    assert_int_equal(join(f), STATUS_CLOSED);
    assert_non_null(strstr(f->reason, f->endpoint));
}

static void a_hub_that_never_was_ends_the_worker(void **state)
{
    struct fixture *f = *state;

    f->options.lost_ms = 20;
    assert_int_equal(rollout_serve(&f->options, NULL), STATUS_CLOSED);
}

static void a_signals_flag_ends_the_worker(void **state)
{
    struct fixture *f = *state;

    start_with_policy(f);
    f->stop = 1;
    assert_int_equal(join(f), STATUS_INTERRUPTED);
}

static void a_device_that_is_not_there_is_an_error_at_once(void **state)
{
    struct fixture *f = *state;

    f->options.device = "abacus";
    assert_true(rollout_serve(&f->options, NULL) < 0);
    assert_non_null(strstr(status_reason(), "abacus"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_worker_greets_and_stops),
        TEST(a_lease_comes_back_as_its_group),
        TEST(damaged_weights_are_refused_and_whole_ones_taken),
        TEST(a_lease_of_another_version_fails_and_names_both),
        TEST(weights_with_nan_are_refused_and_the_old_ones_stay),
        TEST(new_weights_wait_until_no_group_runs),
        TEST(weights_that_wait_give_way_to_newer_ones),
        TEST(a_worker_says_that_it_lives),
        TEST(parts_out_of_order_are_refused_once),
        TEST(weights_of_no_sensible_size_are_refused),
        TEST(of_an_image_that_is_kept_only_what_changed_must_come),
        TEST(a_piece_that_did_not_change_as_announced_is_refused),
        TEST(changes_of_an_image_that_is_not_kept_are_refused),
        TEST(weights_in_a_file_of_this_host_need_not_travel),
        TEST(weights_before_their_model_are_refused),
        TEST(a_model_that_cannot_be_built_leaves_the_old_one),
        TEST(a_prompt_too_long_fails_while_others_go_on),
        TEST(malformed_and_misdirected_frames_are_dropped),
        TEST(a_worker_greets_again_after_the_hub_came_back),
        TEST(a_lost_hub_ends_the_worker_and_is_named),
        TEST(a_hub_that_never_was_ends_the_worker),
        TEST(a_signals_flag_ends_the_worker),
        TEST(a_device_that_is_not_there_is_an_error_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
