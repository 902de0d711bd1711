#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include <zmq.h>

#include "tests/unit/test_wire.h"

static const struct wire_keys plain = {.insecure = 1};   /* test_wire_keys.c has the others */

static void open_both(struct fixture *f, const char *endpoint)
{
    assert_int_equal(wire_hub_open(&f->hub, endpoint, &plain), STATUS_OK);
    assert_int_equal(wire_link_open(&f->link, wire_hub_endpoint(f->hub), "rollout-1", &plain),
                     STATUS_OK);
}

static void frames_travel_both_ways_over_ipc(void **state)
{
    struct fixture *f = *state;

    open_both(f, f->endpoint);
    assert_string_equal(wire_hub_endpoint(f->hub), f->endpoint);
    assert_talks(f);
}

static void frames_travel_both_ways_over_tcp(void **state)
{
    struct fixture *f = *state;

    open_both(f, "tcp://127.0.0.1:*");
    assert_null(strchr(wire_hub_endpoint(f->hub), '*'));
    assert_talks(f);
}

static void a_large_frame_arrives_whole(void **state)
{
    struct fixture *f = *state;
    struct wire_weights_part part = {.piece = 3}, back;
    const uint32_t total = 20u << 20;
    char peer[WIRE_NAME_BYTES];
    struct arena arena;
    char *data = mem_alloc(total, 1);

    for (size_t i = 0; i < total; i++)
        data[i] = (char)(i * 31);
    part.data = (struct wire_text){data, total};
    arena_init(&arena, (size_t)64 << 20);
    open_both(f, f->endpoint);
    assert_talks(f);
    text_clear(&f->frame);
    assert_int_equal(wire_encode_weights_part(&part, &f->frame), STATUS_OK);
    assert_int_equal(wire_link_send(f->link, &f->frame, LONG_MS), STATUS_OK);
    assert_int_equal(wire_hub_receive(f->hub, peer, &f->got, LONG_MS), STATUS_OK);
    assert_int_equal(wire_decode_weights_part(f->got.data, f->got.length, &arena, &back),
                     STATUS_OK);
    assert_memory_equal(back.data.data, data, total);
    arena_release(&arena);
    mem_free(data);
}

static void a_port_in_use_is_one_clear_error(void **state)
{
    struct fixture *f = *state;
    struct wire_hub *second;

    assert_int_equal(wire_hub_open(&f->hub, "tcp://127.0.0.1:*", &plain), STATUS_OK);
    assert_int_equal(wire_hub_open(&second, wire_hub_endpoint(f->hub), &plain), STATUS_IO);
    assert_null(second);
    assert_non_null(strstr(status_reason(), "in use by another process"));
    assert_non_null(strstr(status_reason(), "--set run.endpoint="));
    assert_non_null(strstr(status_reason(), wire_hub_endpoint(f->hub)));
}

static void an_ipc_socket_in_use_is_not_stolen(void **state)
{
    struct fixture *f = *state;
    struct wire_hub *second;

    open_both(f, f->endpoint);
    assert_int_equal(wire_hub_open(&second, f->endpoint, NULL), STATUS_IO);
    assert_non_null(strstr(status_reason(), "in use by another process"));
    assert_talks(f);
}

static void a_stale_ipc_socket_is_replaced(void **state)
{
    struct fixture *f = *state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", f->endpoint + 6);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    close(fd);
    open_both(f, f->endpoint);
    assert_talks(f);
}

static void a_file_at_the_sockets_path_is_kept(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(file_write_atomic(f->endpoint + 6, "mine", 4), STATUS_OK);
    assert_int_equal(wire_hub_open(&f->hub, f->endpoint, NULL), STATUS_IO);
    assert_true(file_exists(f->endpoint + 6));
}

static void an_ipc_socket_is_its_owners_alone(void **state)
{
    struct fixture *f = *state;
    struct stat info;

    assert_int_equal(wire_hub_open(&f->hub, f->endpoint, NULL), STATUS_OK);
    assert_int_equal(stat(f->endpoint + 6, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
}

static void bad_endpoints_are_refused_with_their_name(void **state)
{
    struct fixture *f = *state;
    char longest[200] = "ipc:///";

    memset(longest + 7, 'x', 120);
    assert_int_equal(wire_hub_open(&f->hub, longest, NULL), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "shorter"));
    assert_int_equal(wire_link_open(&f->link, longest, "a", NULL), STATUS_CONFIG);
    assert_int_equal(wire_hub_open(&f->hub, "udp://1.2.3.4:5", NULL), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "udp://1.2.3.4:5"));
    assert_true(wire_hub_open(&f->hub, "tcp://nonsense", &plain) < 0);
    assert_true(wire_hub_open(&f->hub, "ipc:///nowhere/at/all", NULL) < 0);
    assert_int_equal(wire_link_open(&f->link, "tcp://nonsense", "a", &plain), STATUS_CONFIG);
    assert_int_equal(wire_link_open(&f->link, f->endpoint, "", NULL), STATUS_CONFIG);
    assert_int_equal(
        wire_link_open(&f->link, f->endpoint, "a-name-that-is-much-too-long-for-it", NULL),
        STATUS_CONFIG);
    assert_null(f->hub);
    assert_null(f->link);
}

static void sending_to_a_stranger_is_closed(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(wire_hub_open(&f->hub, f->endpoint, NULL), STATUS_OK);
    assert_int_equal(wire_hub_send(f->hub, "rollout-9", &f->frame, 0), STATUS_CLOSED);
    assert_non_null(strstr(status_reason(), "rollout-9"));
    assert_int_equal(wire_hub_send(f->hub, "", &f->frame, 0), STATUS_CLOSED);
}

static void a_hub_that_closed_is_noticed(void **state)
{
    struct fixture *f = *state;

    open_both(f, f->endpoint);
    assert_talks(f);
    wire_hub_close(&f->hub);
    int64_t deadline_ms = clock_ms() + LONG_MS;
    while (!wire_link_lost_ms(f->link) && clock_ms() < deadline_ms)
        wire_link_receive(f->link, &f->got, 1);
    assert_true(wire_link_lost_ms(f->link) > 0);
}

static void a_link_connects_again_to_a_new_hub(void **state)
{
    struct fixture *f = *state;
    char peer[WIRE_NAME_BYTES];

    open_both(f, f->endpoint);
    assert_talks(f);
    wire_hub_close(&f->hub);
    assert_int_equal(wire_hub_open(&f->hub, f->endpoint, NULL), STATUS_OK);
    int64_t deadline_ms = clock_ms() + LONG_MS;
    while (wire_link_connections(f->link) < 2 && clock_ms() < deadline_ms)
        wire_link_receive(f->link, &f->got, 1);
    assert_int_equal(wire_link_connections(f->link), 2);
    assert_int_equal(wire_link_lost_ms(f->link), 0);
    assert_int_equal(wire_link_send(f->link, &f->frame, LONG_MS), STATUS_OK);
    assert_int_equal(wire_hub_receive(f->hub, peer, &f->got, LONG_MS), STATUS_OK);
}

static void a_name_that_comes_back_replaces_the_one_before(void **state)
{
    struct fixture *f = *state;
    struct wire_link *second;
    char peer[WIRE_NAME_BYTES];

    open_both(f, f->endpoint);
    assert_talks(f);
    assert_int_equal(wire_link_open(&second, f->endpoint, "rollout-1", NULL), STATUS_OK);
    assert_int_equal(wire_link_send(second, &f->frame, LONG_MS), STATUS_OK);
    assert_int_equal(wire_hub_receive(f->hub, peer, &f->got, LONG_MS), STATUS_OK);
    wire_link_close(&f->link);
    assert_int_equal(wire_hub_send(f->hub, "rollout-1", &f->frame, LONG_MS), STATUS_OK);
    assert_int_equal(wire_link_receive(second, &f->got, LONG_MS), STATUS_OK);
    wire_link_close(&second);
}

static void the_last_frame_gets_out_before_the_hub_closes(void **state)
{
    struct fixture *f = *state;
    enum wire_kind kind;

    enum { N_BEFORE = 20 };
    char *data = mem_alloc(1, 1 << 20);
    struct wire_weights_part part = {.data = {data, 1 << 20}};

    open_both(f, f->endpoint);
    assert_talks(f);
    text_clear(&f->frame);
    assert_int_equal(wire_encode_weights_part(&part, &f->frame), STATUS_OK);
    for (int i = 0; i < N_BEFORE; i++)   /* a queue that takes its time */
        assert_int_equal(wire_hub_send(f->hub, "rollout-1", &f->frame, 0), STATUS_OK);
    text_clear(&f->frame);
    assert_int_equal(wire_encode_empty(WIRE_STOP, &f->frame), STATUS_OK);
    assert_int_equal(wire_hub_send(f->hub, "rollout-1", &f->frame, 0), STATUS_OK);
    wire_hub_close(&f->hub);
    for (int i = 0; i < N_BEFORE + 1; i++)
        assert_int_equal(wire_link_receive(f->link, &f->got, LONG_MS), STATUS_OK);
    assert_int_equal(wire_kind_of(f->got.data, f->got.length, &kind), STATUS_OK);
    assert_int_equal(kind, WIRE_STOP);
    mem_free(data);
}

static void waits_end_at_their_deadline(void **state)
{
    struct fixture *f = *state;
    char peer[WIRE_NAME_BYTES];

    open_both(f, f->endpoint);
    assert_talks(f);
    assert_int_equal(wire_hub_receive(f->hub, peer, &f->got, 0), STATUS_TIMEOUT);
    assert_int_equal(wire_hub_receive(f->hub, peer, &f->got, 2), STATUS_TIMEOUT);
    assert_int_equal(wire_link_receive(f->link, &f->got, 0), STATUS_TIMEOUT);
    assert_int_equal(wire_link_receive(f->link, &f->got, 2), STATUS_TIMEOUT);
    assert_int_equal(f->got.length, 0);
}

static void a_full_queue_is_a_timeout(void **state)
{
    struct fixture *f = *state;
    int status = STATUS_OK;

    /* Nobody listens: frames pile up on the sender's side until its queue is full. */
    assert_int_equal(wire_link_open(&f->link, f->endpoint, "rollout-1", NULL), STATUS_OK);
    for (int i = 0; i < 5000 && status == STATUS_OK; i++)
        status = wire_link_send(f->link, &f->frame, 0);
    assert_int_equal(status, STATUS_TIMEOUT);
    assert_true(wire_link_lost_ms(f->link) > 0);
}

static void on_alarm(int number)
{
    (void)number;
}

static void a_signal_ends_a_wait(void **state)
{
    struct fixture *f = *state;
    struct sigaction action = {.sa_handler = on_alarm}, before;
    struct itimerval soon = {.it_value = {.tv_usec = 20000}, .it_interval = {.tv_usec = 20000}};
    struct itimerval never = {{0, 0}, {0, 0}};
    char peer[WIRE_NAME_BYTES];

    assert_int_equal(wire_hub_open(&f->hub, f->endpoint, NULL), STATUS_OK);
    sigaction(SIGALRM, &action, &before);
    setitimer(ITIMER_REAL, &soon, NULL);
    int status = wire_hub_receive(f->hub, peer, &f->got, 60000);
    setitimer(ITIMER_REAL, &never, NULL);
    sigaction(SIGALRM, &before, NULL);
    assert_int_equal(status, STATUS_INTERRUPTED);
}

/* A ZeroMQ peer that is none of ours: odd names and odd shapes are dropped, ours get through. */
static void messages_of_strangers_are_dropped(void **state)
{
    struct fixture *f = *state;
    void *context = zmq_ctx_new();
    static const char *const names[] = {"",           /* ZeroMQ makes one up, with a NUL in it */
                                        "a name",     /* a blank */
                                        "new\nline",  /* would break a log line */
                                        "0123456789012345678901234567890123456789"};
    char peer[WIRE_NAME_BYTES];
    void *sockets[5];

    open_both(f, f->endpoint);
    for (size_t i = 0; i < 5; i++) {
        const char *name = i < 4 ? names[i] : "three-parts";
        int linger = LONG_MS;
        sockets[i] = zmq_socket(context, ZMQ_DEALER);
        zmq_setsockopt(sockets[i], ZMQ_LINGER, &linger, sizeof(linger));
        if (*name)
            zmq_setsockopt(sockets[i], ZMQ_ROUTING_ID, name, strlen(name));
        assert_int_equal(zmq_connect(sockets[i], f->endpoint), 0);
        if (i == 4)
            assert_int_equal(zmq_send(sockets[i], "x", 1, ZMQ_SNDMORE), 1);
        assert_int_equal(zmq_send(sockets[i], "HONE", 4, 0), 4);
        zmq_close(sockets[i]);
    }
    zmq_ctx_term(context);   /* waits until all of it is out */
    assert_talks(f);
    assert_int_equal(wire_hub_receive(f->hub, peer, &f->got, 50), STATUS_TIMEOUT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_ends, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(frames_travel_both_ways_over_ipc),
        TEST(frames_travel_both_ways_over_tcp),
        TEST(a_large_frame_arrives_whole),
        TEST(a_port_in_use_is_one_clear_error),
        TEST(an_ipc_socket_in_use_is_not_stolen),
        TEST(a_stale_ipc_socket_is_replaced),
        TEST(a_file_at_the_sockets_path_is_kept),
        TEST(an_ipc_socket_is_its_owners_alone),
        TEST(bad_endpoints_are_refused_with_their_name),
        TEST(sending_to_a_stranger_is_closed),
        TEST(a_hub_that_closed_is_noticed),
        TEST(a_link_connects_again_to_a_new_hub),
        TEST(a_name_that_comes_back_replaces_the_one_before),
        TEST(the_last_frame_gets_out_before_the_hub_closes),
        TEST(waits_end_at_their_deadline),
        TEST(a_full_queue_is_a_timeout),
        TEST(a_signal_ends_a_wait),
        TEST(messages_of_strangers_are_dropped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
