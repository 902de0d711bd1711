/* An image of all weights lies in memory nowhere on its way: not where it is written, not between
 * the coordinator and a worker, not where it is read. Each test sees the process's peak. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "common/status.h"
#include "pipeline/exchange.h"
#include "tests/unit/test_rollout.h"

#define IMAGE_BYTES ((size_t)160 << 20)
#define MOST_BYTES ((long)96 << 20)   /* windows and pieces of both ends: the tests run both */
#define N_PIECES (IMAGE_BYTES / WIRE_PIECE_BYTES)
#define LONG_MS 20000
#define NAME "rollout-7"
#define VERSION 7u

struct fixture {
    char directory[64], endpoint[128];
    struct text out, in;
    struct arena arena;
    pthread_t thread;
    struct file_map image;
    _Atomic int stop;
    int status, is_running;
};

/* AddressSanitizer keeps freed memory for a while, 256 MiB by itself: more than what is looked for
 * here. Nobody calls this without it. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "quarantine_size_mb=1:thread_local_quarantine_size_kb=64";
}

static int setup(void **state)
{
    struct fixture *f = mem_alloc(1, sizeof(*f));

    log_set_level(LOG_ERROR);
    snprintf(f->directory, sizeof(f->directory), "/tmp/hone-test-XXXXXX");
    if (!mkdtemp(f->directory))
        return -1;
    snprintf(f->endpoint, sizeof(f->endpoint), "ipc://%s/hub", f->directory);
    arena_init(&f->arena, (size_t)16 << 20);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    f->stop = 1;
    if (f->is_running)   /* the test failed */
        pthread_join(f->thread, NULL);
    text_release(&f->out);
    text_release(&f->in);
    arena_release(&f->arena);
    file_map_close(&f->image);
    int status = file_remove_tree(f->directory);
    mem_free(f);
    return status;
}

/* ---- The peak of this process. */

static long read_status_bytes(const char *key)
{
    char line[256];
    long kib = -1;
    FILE *file = fopen("/proc/self/status", "r");

    assert_non_null(file);
    while (fgets(line, sizeof(line), file))
        if (strncmp(line, key, strlen(key)) == 0)
            kib = strtol(line + strlen(key), NULL, 10);
    fclose(file);
    assert_true(kib > 0);
    return kib * 1024;
}

static long begin_peak(void)
{
    FILE *file = fopen("/proc/self/clear_refs", "w");

    if (!file || fputs("5", file) < 0 || fclose(file))
        skip();   /* a kernel without it */
    return read_status_bytes("VmRSS:");
}

static void assert_small_peak(long before)
{
    assert_in_range(read_status_bytes("VmHWM:") - before, 0, MOST_BYTES);
}

/* Zeros that are no weights. */
static void make_image(struct fixture *f)
{
    unsigned char *piece = mem_alloc(WIRE_PIECE_BYTES, 1);
    struct file_sink sink;

    assert_int_equal(file_sink_open_nameless(&sink), STATUS_OK);
    for (size_t n = 0; n < IMAGE_BYTES; n += WIRE_PIECE_BYTES)
        assert_int_equal(file_sink_put(&sink, piece, WIRE_PIECE_BYTES), STATUS_OK);
    assert_int_equal(file_sink_map(&sink, STATUS_OK, &f->image), STATUS_OK);
    mem_free(piece);
}

/* ---- Tests. */

static void weights_are_written_and_read_in_pieces(void **state)
{
    struct fixture *f = *state;
    struct model_shape shape = tiny_shape();
    struct model *model;
    struct ops *ops;

    shape.vocab_size = (int)(IMAGE_BYTES / sizeof(float)) / shape.channels;
    assert_int_equal(ops_create(&ops, "cpu", 1), STATUS_OK);
    assert_int_equal(model_create(&model, ops, &shape, &model_trainable, 1), STATUS_OK);
    long before = begin_peak();
    assert_int_equal(model_map_weights(model, &f->image), STATUS_OK);
    assert_true(f->image.n > IMAGE_BYTES);
    struct digest digest;
    digest_of_map(&digest, &f->image);
    assert_int_equal(model_read_map(model, &f->image, "image"), STATUS_OK);
    assert_small_peak(before);
    model_destroy(&model);
    ops_destroy(&ops);
}

static void start(struct fixture *f, void *(*run)(void *))
{
    assert_int_equal(pthread_create(&f->thread, NULL, run, f), 0);
    f->is_running = 1;
}

static void assert_stops(struct fixture *f)
{
    f->stop = 1;
    f->is_running = 0;
    pthread_join(f->thread, NULL);
    assert_int_equal(f->status, STATUS_INTERRUPTED);
}

static void *run_worker(void *argument)
{
    struct fixture *f = argument;
    const struct rollout_options options = {.endpoint = f->endpoint, .name = NAME, .device = "cpu",
                                            .threads = 1, .limits = {6, 32, 48, 24, 0},
                                            .lost_ms = LONG_MS};

    f->status = rollout_serve(&options, &f->stop);
    return NULL;
}

static enum wire_kind receive(struct fixture *f, struct wire_hub *hub)
{
    char peer[WIRE_NAME_BYTES];
    enum wire_kind kind;

    assert_int_equal(wire_hub_receive(hub, peer, &f->in, LONG_MS), STATUS_OK);
    assert_int_equal(wire_kind_of(f->in.data, f->in.length, &kind), STATUS_OK);
    return kind;
}

static void send_piece(struct fixture *f, struct wire_hub *hub, uint64_t offset)
{
    const struct wire_weights_part part = {VERSION, (uint32_t)(offset / WIRE_PIECE_BYTES),
                                           {(const char *)f->image.bytes + offset,
                                            WIRE_PIECE_BYTES}};

    text_clear(&f->out);
    assert_int_equal(wire_encode_weights_part(&part, &f->out), STATUS_OK);
    file_map_forget(&f->image);
    assert_int_equal(wire_hub_send(hub, NAME, &f->out, LONG_MS), STATUS_OK);
}

static struct digest announce(struct fixture *f, struct wire_hub *hub)
{
    uint32_t bytes[N_PIECES];
    struct wire_image message = {.version = VERSION, .n_follow = N_PIECES, .n_pieces = N_PIECES,
                                 .piece_bytes = bytes, .path = {"", 0}};
    struct wire_pieces pieces;

    for (size_t i = 0; i < N_PIECES; i++)
        bytes[i] = WIRE_PIECE_BYTES;
    assert_int_equal(wire_pieces_begin(&pieces, bytes, N_PIECES), STATUS_OK);
    for (uint32_t i = 0; i < N_PIECES; i++)
        wire_pieces_hash(&pieces, i, f->image.bytes + i * WIRE_PIECE_BYTES);
    wire_pieces_digest(&pieces, &message.digest);
    wire_pieces_release(&pieces);
    file_map_forget(&f->image);
    text_clear(&f->out);
    assert_int_equal(wire_encode_image(&message, &f->out), STATUS_OK);
    assert_int_equal(wire_hub_send(hub, NAME, &f->out, LONG_MS), STATUS_OK);
    return message.digest;
}

static void a_worker_says_what_it_took_and_keeps_none_of_it_in_memory(void **state)
{
    struct fixture *f = *state;
    struct wire_weights_state answer;
    struct wire_heartbeat beat;
    struct wire_hub *hub;
    struct digest digest;
    uint64_t sent = 0, taken = 0;
    enum wire_kind kind;

    make_image(f);
    assert_int_equal(wire_hub_open(&hub, f->endpoint, NULL), STATUS_OK);
    start(f, run_worker);
    assert_int_equal(receive(f, hub), WIRE_HELLO);
    digest = announce(f, hub);
    long before = begin_peak();
    do {
        for (; sent < f->image.n && sent < taken + WIRE_WEIGHTS_WINDOW; sent += WIRE_PIECE_BYTES)
            send_piece(f, hub, sent);
        kind = receive(f, hub);
        arena_rewind(&f->arena);
        if (kind == WIRE_HEARTBEAT) {
            assert_int_equal(wire_decode_heartbeat(f->in.data, f->in.length, &f->arena, &beat),
                             STATUS_OK);
            taken = beat.weights_bytes;
            assert_true(taken <= sent);
        }
    } while (kind != WIRE_WEIGHTS_STATE);
    assert_small_peak(before);
    assert_int_equal(sent, f->image.n);
    assert_int_equal(wire_decode_weights_state(f->in.data, f->in.length, &f->arena, &answer),
                     STATUS_OK);
    assert_int_equal(answer.accepted, 0);   /* its SHA-256 was right, it came before its model */
    assert_memory_equal(answer.digest.bytes, digest.bytes, sizeof(digest.bytes));
    assert_stops(f);
    wire_hub_close(&hub);
}

static int run_job(struct fixture *f)
{
    const struct exchange_config config = {.endpoint = f->endpoint, .program = "/bin/false",
                                           .config = "none", .lease_ms = 60000,
                                           .connect_ms = 60000, .silent_ms = 60000,
                                           .stuck_ms = 60000, .max_lease_tries = 3,
                                           .stop = &f->stop};
    const struct wire_model model = {{"{}", 2}, {"{}", 2}, 0, NULL};
    const struct task task = {.id = 1, .kind = "chain", .question = {"", 0}, .prompt = {"p", 1},
                              .prefill = {"", 0}, .reference = {"", 0}, .columns = {"", 0}};
    const struct task *const list[] = {&task};
    struct sample_group groups[1];
    struct exchange_job job = {.label = "rl", .tasks = list, .n_tasks = 1,
                               .sampling = {.num_generations = 2, .max_completion_length = 4,
                                            .temperature = 1, .top_p = 1,
                                            .weight_version = VERSION},
                               .max_sequences = 4, .arena = &f->arena, .groups = groups};
    struct exchange *exchange;
    int status;

    TRY(exchange_create(&exchange, &config));
    TRY_OUT(exchange_set_workers(exchange, "rl", "hash", 0, 0));
    TRY_OUT(exchange_set_model(exchange, &model));
    TRY_OUT(exchange_publish(exchange, VERSION, &f->image));
    status = exchange_run(exchange, &job);
out:
    exchange_destroy(&exchange);
    return status;
}

static void *run_coordinator(void *argument)
{
    struct fixture *f = argument;

    f->status = run_job(f);
    return NULL;
}

static void send_frame(struct fixture *f, struct wire_link *link, int encoded)
{
    assert_int_equal(encoded, STATUS_OK);
    assert_int_equal(wire_link_send(link, &f->out, LONG_MS), STATUS_OK);
    text_clear(&f->out);
}

/* The end of the weights that came, once a frame of `until` has come `n` times. */
static uint64_t take_weights(struct fixture *f, struct wire_link *link, struct arena *arena,
                             enum wire_kind until, int n)
{
    struct wire_weights_part part;
    enum wire_kind kind;
    uint64_t end = 0;

    while (n > 0) {
        arena_rewind(arena);
        assert_int_equal(wire_link_receive(link, &f->in, LONG_MS), STATUS_OK);
        assert_int_equal(wire_kind_of(f->in.data, f->in.length, &kind), STATUS_OK);
        n -= kind == until;
        if (kind != WIRE_WEIGHTS)
            continue;
        assert_int_equal(wire_decode_weights_part(f->in.data, f->in.length, arena, &part),
                         STATUS_OK);
        end = (uint64_t)part.piece * WIRE_PIECE_BYTES + part.data.bytes;
        const struct wire_heartbeat beat = {.doing = "takes", .weights_bytes = end};
        if (until != WIRE_HEARTBEAT)
            send_frame(f, link, wire_encode_heartbeat(&beat, &f->out));
    }
    return end;
}

static void a_coordinator_sends_no_more_than_a_window_ahead(void **state)
{
    struct fixture *f = *state;
    const struct wire_hello hello = {.role = "rollout", .name = NAME, .pid = 1,
                                     .version = {"1", 1}};
    struct wire_heartbeat beat = {.doing = "takes", .weights_bytes = WIRE_WEIGHTS_WINDOW};
    struct wire_link *link;
    struct arena arena;

    arena_init(&arena, (size_t)16 << 20);
    make_image(f);
    long before = begin_peak();
    start(f, run_coordinator);
    assert_int_equal(wire_link_open(&link, f->endpoint, NAME, NULL), STATUS_OK);
    while (!wire_link_connections(link))
        assert_true(wire_link_receive(link, &f->in, 10) == STATUS_TIMEOUT);
    send_frame(f, link, wire_encode_hello(&hello, &f->out));
    /* One beat may come before the first part, none between the parts of a window. */
    assert_int_equal(take_weights(f, link, &arena, WIRE_HEARTBEAT, 3), WIRE_WEIGHTS_WINDOW);
    send_frame(f, link, wire_encode_heartbeat(&beat, &f->out));
    assert_int_equal(take_weights(f, link, &arena, WIRE_SAMPLE, 1), IMAGE_BYTES);
    assert_small_peak(before);
    assert_stops(f);
    wire_link_close(&link);
    arena_release(&arena);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(weights_are_written_and_read_in_pieces),
        TEST(a_worker_says_what_it_took_and_keeps_none_of_it_in_memory),
        TEST(a_coordinator_sends_no_more_than_a_window_ahead),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
