/* The reward process against a hub of this test. The worker is a forked process, as in a run. */
#include "test_verifier_support.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

#include "common/log.h"

#define DEADLINE_MS 8000

struct fixture {
    char directory[64], endpoint[128];
    struct wire_hub *hub;
    pid_t worker;
    struct text frame;
    struct arena arena;
};

static void start_worker(struct fixture *f, int lost_ms)
{
    f->worker = fork();
    assert_true(f->worker >= 0);
    if (f->worker == 0) {
        struct reward_config config;
        struct config_binding binding = {&reward_config_section, &config};
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        config_set_defaults(&binding, 1);
        struct reward_options options = {.endpoint = f->endpoint, .name = "reward-1",
                                         .config = &config, .lost_ms = lost_ms};
        _exit(-reward_serve(&options, NULL));
    }
}

static int stop_worker(struct fixture *f)
{
    int ended = -1;

    assert_int_equal(waitpid(f->worker, &ended, 0), f->worker);
    assert_true(WIFEXITED(ended));
    return -WEXITSTATUS(ended);
}

static int set_up(void **state)
{
    struct fixture *f = mem_alloc(1, sizeof(*f));

    log_set_level(LOG_ERROR);
    snprintf(f->directory, sizeof(f->directory), "/tmp/hone-test-XXXXXX");
    assert_non_null(mkdtemp(f->directory));
    snprintf(f->endpoint, sizeof(f->endpoint), "ipc://%s/hub", f->directory);
    arena_init(&f->arena, 1 << 24);
    /* The worker first: the hub's library has threads, and threads and fork do not mix. */
    start_worker(f, 500);
    assert_int_equal(wire_hub_open(&f->hub, f->endpoint, NULL), 0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    wire_hub_close(&f->hub);
    file_remove_tree(f->directory);
    text_release(&f->frame);
    arena_release(&f->arena);
    mem_free(f);
    return 0;
}

/* The next frame of this kind; heartbeats in between are dropped. */
static void receive_kind(struct fixture *f, enum wire_kind wanted)
{
    int64_t deadline = clock_ms() + DEADLINE_MS;
    char peer[WIRE_NAME_BYTES];
    enum wire_kind kind;

    while (clock_ms() < deadline) {
        if (wire_hub_receive(f->hub, peer, &f->frame, 100) < 0)
            continue;
        assert_string_equal(peer, "reward-1");
        assert_int_equal(wire_kind_of(f->frame.data, f->frame.length, &kind), 0);
        if (kind == wanted)
            return;
    }
    fail_msg("no frame of kind %d came", (int)wanted);
}

static void send_frame(struct fixture *f, const struct text *frame)
{
    assert_int_equal(wire_hub_send(f->hub, "reward-1", frame, DEADLINE_MS), 0);
}

static void send_heartbeat(struct fixture *f)
{
    const struct wire_heartbeat beat = {.doing = "waits"};
    struct text frame = {0};

    assert_int_equal(wire_encode_heartbeat(&beat, &frame), 0);
    send_frame(f, &frame);
    text_release(&frame);
}

static void send_empty(struct fixture *f, enum wire_kind kind)
{
    struct text frame = {0};

    assert_int_equal(wire_encode_empty(kind, &frame), 0);
    send_frame(f, &frame);
    text_release(&frame);
}

static void send_lease(struct fixture *f, uint64_t number, uint32_t n_rewards)
{
    struct reward_term term = {.name = "accuracy", .weight = 2};
    struct sample samples[2] = {0};
    struct wire_judge_lease lease = {.lease = number,
                                     .group = {.n_samples = 2, .samples = samples,
                                               .n_rewards = n_rewards, .rewards = &term}};
    struct text frame = {0};

    snprintf(lease.group.task.verifier, WIRE_NAME_BYTES, "math");
    lease.group.task.reference = (struct wire_text){"7", 1};
    samples[0].text = (struct wire_text){"<answer>7</answer>", 18};
    samples[1].text = (struct wire_text){"<answer>8</answer>", 18};
    if (wire_encode_judge_lease(&lease, &frame) < 0)
        fail_msg("%s", status_reason());
    send_frame(f, &frame);
    text_release(&frame);
}

static void a_worker_judges_leases_until_it_is_stopped(void **state)
{
    struct fixture *f = *state;
    struct wire_hello hello;
    struct wire_group group;
    struct wire_failed failed;
    struct text garbage = {0};

    receive_kind(f, WIRE_HELLO);
    assert_int_equal(wire_decode_hello(f->frame.data, f->frame.length, &f->arena, &hello), 0);
    assert_string_equal(hello.role, "reward");
    assert_string_equal(hello.name, "reward-1");
    assert_int_equal(hello.pid, f->worker);

    send_lease(f, 17, 1);
    receive_kind(f, WIRE_GROUP);
    assert_int_equal(wire_decode_group(f->frame.data, f->frame.length, &f->arena, &group), 0);
    assert_int_equal(group.lease, 17);
    assert_int_equal(group.group.n_samples, 2);
    assert_float_equal(group.group.samples[0].reward, 2, 0);
    assert_float_equal(group.group.samples[1].reward, 0, 0);
    assert_int_equal(group.group.samples[1].scores[0].outcome, OUTCOME_WRONG);

    /* What makes no sense is dropped or refused; the next lease is judged as ever. */
    text_append(&garbage, "garbage", 7);
    send_frame(f, &garbage);
    text_release(&garbage);
    send_heartbeat(f);
    send_lease(f, 18, 0);
    receive_kind(f, WIRE_FAILED);
    assert_int_equal(wire_decode_failed(f->frame.data, f->frame.length, &f->arena, &failed), 0);
    assert_int_equal(failed.lease, 18);
    assert_non_null(strstr(failed.reason.data, "reward functions"));
    receive_kind(f, WIRE_HEARTBEAT);
    send_lease(f, 19, 1);
    receive_kind(f, WIRE_GROUP);
    send_empty(f, WIRE_STOP);
    assert_int_equal(stop_worker(f), STATUS_OK);
}

static void a_worker_ends_when_its_hub_is_gone(void **state)
{
    struct fixture *f = *state;

    receive_kind(f, WIRE_HELLO);
    wire_hub_close(&f->hub);
    assert_int_equal(stop_worker(f), STATUS_CLOSED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_worker_judges_leases_until_it_is_stopped, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_worker_ends_when_its_hub_is_gone, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
