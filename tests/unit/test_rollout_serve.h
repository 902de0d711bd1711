/* A hub that is played here, for test_rollout_serve.c and test_rollout_weights.c. */
#ifndef HONE_TESTS_UNIT_TEST_ROLLOUT_SERVE_H
#define HONE_TESTS_UNIT_TEST_ROLLOUT_SERVE_H

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

static inline void *work(void *argument)
{
    struct fixture *f = argument;

    f->status = rollout_serve(&f->options, &f->stop);
    snprintf(f->reason, sizeof(f->reason), "%s", status_reason());
    return NULL;
}

static inline void start(struct fixture *f)
{
    assert_int_equal(wire_hub_open(&f->hub, f->endpoint, NULL), STATUS_OK);
    assert_int_equal(pthread_create(&f->thread, NULL, work, f), 0);
    f->started = 1;
}

static inline int join(struct fixture *f)
{
    pthread_join(f->thread, NULL);
    f->started = 0;
    return f->status;
}

static inline int write_policy(struct fixture *f, uint64_t seed, struct text *weights)
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

static inline int setup(void **state)
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

static inline int teardown(void **state)
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

static inline void send_frame(struct fixture *f, int encoded)
{
    assert_int_equal(encoded, STATUS_OK);
    assert_int_equal(wire_hub_send(f->hub, NAME, &f->out, LONG_MS), STATUS_OK);
    text_clear(&f->out);
}

/* The next frame that is no heartbeat. */
static inline enum wire_kind receive(struct fixture *f)
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

static inline void greet(struct fixture *f)
{
    struct wire_hello hello;

    assert_int_equal(receive(f), WIRE_HELLO);
    assert_int_equal(wire_decode_hello(f->in.data, f->in.length, &f->arena, &hello), STATUS_OK);
    assert_string_equal(hello.role, "rollout");
    assert_string_equal(hello.name, NAME);
    assert_true(hello.pid > 0);
}

static inline void send_model(struct fixture *f)
{
    struct wire_model model = {{f->config.data, (uint32_t)f->config.length},
                               {f->tokenizer.data, (uint32_t)f->tokenizer.length},
                               f->n_stops,
                               f->stops};

    send_frame(f, wire_encode_model(&model, &f->out));
}

/* The pieces of an image of this file, and what announces it. */
static inline struct wire_image cut_image(struct fixture *f, uint32_t version,
                                         const struct text *image)
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

static inline void send_part(struct fixture *f, const struct wire_image *message,
                             const struct text *image, uint32_t piece)
{
    struct wire_weights_part part = {message->version, piece,
                                     {image->data + (size_t)piece * PART_BYTES,
                                      message->piece_bytes[piece]}};

    send_frame(f, wire_encode_weights_part(&part, &f->out));
}

static inline void send_image(struct fixture *f, const struct wire_image *message,
                              const struct text *image)
{
    send_frame(f, wire_encode_image(message, &f->out));
    for (uint32_t i = 0; i < message->n_follow; i++)
        send_part(f, message, image, i);
}

static inline void send_weights(struct fixture *f, uint32_t version, const struct text *image)
{
    struct wire_image message = cut_image(f, version, image);

    send_image(f, &message, image);
}

static inline struct wire_weights_state assert_weights_state(struct fixture *f, uint32_t version,
                                                             uint32_t accepted,
                                                             const char *reason)
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

static inline void send_lease(struct fixture *f, uint64_t lease, uint32_t version,
                              const char *prompt)
{
    struct wire_sample_lease message = {lease, tiny_sampling(), tiny_task(9, prompt)};

    message.sampling.weight_version = version;
    send_frame(f, wire_encode_sample_lease(&message, &f->out));
}

static inline struct sample_group receive_group(struct fixture *f, uint64_t lease)
{
    struct wire_group group;

    assert_int_equal(receive(f), WIRE_GROUP);
    assert_int_equal(wire_decode_group(f->in.data, f->in.length, &f->arena, &group), STATUS_OK);
    assert_int_equal(group.lease, lease);
    assert_int_equal(group.group.n_samples, 5);
    return group.group;
}

static inline void assert_failed(struct fixture *f, uint64_t lease, const char *reason)
{
    struct wire_failed failed;

    assert_int_equal(receive(f), WIRE_FAILED);
    assert_int_equal(wire_decode_failed(f->in.data, f->in.length, &f->arena, &failed), STATUS_OK);
    assert_int_equal(failed.lease, lease);
    assert_non_null(strstr(failed.reason.data, reason));
}

static inline void stop(struct fixture *f)
{
    send_frame(f, wire_encode_empty(WIRE_STOP, &f->out));
    assert_int_equal(join(f), STATUS_OK);
}

static inline void start_with_policy(struct fixture *f)
{
    start(f);
    greet(f);
    send_model(f);
    send_weights(f, 1, &f->weights);
    assert_weights_state(f, 1, 1, "");
}

static inline int same_tokens(const struct sample_group *a, const struct sample_group *b)
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
