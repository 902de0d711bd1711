/* A rollout worker, as its hub sees it: greeting, leases, and how it ends. */
#include "test_rollout_serve.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_worker_greets_and_stops),
        TEST(a_lease_comes_back_as_its_group),
        TEST(a_lease_of_another_version_fails_and_names_both),
        TEST(a_worker_says_that_it_lives),
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
