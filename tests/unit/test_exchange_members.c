/* Who takes part in a step: workers that join, die, fall silent, and a step that is stuck. */
#include "test_exchange.h"

/* Three groups are in its hands when it dies. Each is suspect, and one more death is too much:
 * given out alone, only the deadly one has it. */
static void a_group_that_kills_its_worker_is_set_aside_and_the_others_are_not(void **state)
{
    struct fixture *f = *state;
    struct fake fakes[2];

    f->config.max_lease_tries = 2;
    start(f);
    for (int i = 0; i < 2; i++) {
        fake_open(f, &fakes[i], i);
        fakes[i].deadly_task = 102;
        fakes[i].batches = 1;
    }
    play(f, fakes, 2);
    assert_int_equal(f->status, STATUS_OK);
    assert_int_equal(f->job.n_set_aside, 1);
    for (size_t i = 0; i < N_TASKS; i++)
        if (i != 2)
            assert_written(f, i);
    const struct sample_group *group = &f->groups[2];
    assert_int_equal(group->task.id, 102);
    assert_int_equal(group->n_samples, N_SAMPLES);
    for (int s = 0; s < N_SAMPLES; s++) {
        assert_int_equal(group->samples[s].masked, 1);
        assert_int_equal(group->samples[s].n_tokens, 0);
    }
    close_all(fakes, 2);
}

static void a_link_that_breaks_is_no_fault_of_the_groups(void **state)
{
    struct fixture *f = *state;
    struct fake fake;

    f->config.max_lease_tries = 1;
    start(f);
    fake_open(f, &fake, 0);
    fake.holds = 1;
    for (int i = 1; i <= 5; i++) {
        play_until(f, &fake, 1, &fake.n_held, 3 * i);
        fake_greet(&fake);   /* the same process, over a new connection */
    }
    fake.holds = 0;
    play(f, &fake, 1);
    assert_all_written(f);
    close_all(&fake, 1);
}

static void a_step_in_which_every_group_kills_ends(void **state)
{
    struct fixture *f = *state;
    struct fake fake;

    for (size_t i = 0; i < N_TASKS; i++)
        f->tasks[i].id = 100;
    start(f);
    fake_open(f, &fake, 0);
    fake.deadly_task = 100;
    play(f, &fake, 1);
    assert_int_equal(f->status, STATUS_FAILED);
    assert_non_null(strstr(f->reason, "all 6 groups were set aside"));
    close_all(&fake, 1);
}

static void a_silent_worker_loses_its_groups_to_another(void **state)
{
    struct fixture *f = *state;
    struct fake fakes[2];

    f->config.silent_ms = 300;
    start(f);
    fake_open(f, &fakes[0], 0);
    fakes[0].holds = 1;
    play_until(f, fakes, 1, &fakes[0].n_held, 1);
    fakes[0].is_frozen = 1;   /* its connection stands: only its silence tells */
    fake_open(f, &fakes[1], 1);
    play(f, fakes, 2);
    assert_all_written(f);
    close_all(fakes, 2);
}

static void a_worker_that_is_gone_for_good_loses_its_groups_soon(void **state)
{
    struct fixture *f = *state;
    struct fake fakes[2];

    start(f);   /* run.silent_ms is a minute */
    fake_open(f, &fakes[0], 0);
    fakes[0].holds = 1;
    play_until(f, fakes, 1, &fakes[0].n_held, 1);
    fake_close(&fakes[0]);
    fake_open(f, &fakes[1], 1);
    play(f, &fakes[1], 1);
    assert_all_written(f);
    assert_int_equal(fakes[1].n_leases, N_TASKS);
    close_all(&fakes[1], 1);
}

static void the_coordinator_says_every_second_that_it_lives(void **state)
{
    struct fixture *f = *state;
    struct fake fake;

    start(f);
    fake_open(f, &fake, 0);
    fake.holds = 1;
    play_until(f, &fake, 1, &fake.n_beats, 2);
    fake.holds = 0;
    fake_greet(&fake);
    play(f, &fake, 1);
    assert_all_written(f);
    close_all(&fake, 1);
}

/* One worker at first, seven more in the middle. */
static void workers_that_join_in_a_step_change_nothing(void **state)
{
    struct fixture *f = *state;
    struct fake fakes[N_FAKES];

    start(f);
    fake_open(f, &fakes[0], 0);
    fakes[0].holds = 1;
    play_until(f, fakes, 1, &fakes[0].n_held, 3);
    for (int i = 1; i < 8; i++)
        fake_open(f, &fakes[i], i);
    fake_close(&fakes[0]);    /* and that one leaves, and comes back */
    fake_open(f, &fakes[0], 0);
    play(f, fakes, 8);
    assert_all_written(f);
    close_all(fakes, 8);
}

static void a_stuck_step_ends_with_a_report_of_who_waits_for_whom(void **state)
{
    struct fixture *f = *state;
    struct text report = {0};
    char path[FILE_PATH_MAX];
    struct fake fake;

    f->config.stuck_ms = 3000;
    start(f);
    fake_open(f, &fake, 0);
    fake.holds = fake.says_no_ack = 1;
    play(f, &fake, 1);
    assert_int_equal(f->status, STATUS_STUCK);
    assert_int_equal(status_exit_code(f->status), 8);
    assert_non_null(strstr(f->reason, "run.stuck_ms"));
    assert_non_null(strstr(f->reason, STUCK_FILE));
    assert_int_equal(file_join(path, f->directory, STUCK_FILE), STATUS_OK);
    assert_int_equal(file_read(path, STATE_MAX_BYTES, &report), STATUS_OK);
    static const char *const wanted[] = {
        "waits for GROUP: 6 of 6 of rl",
        "waits for GROUP of fake-0: 3, the oldest is lease 1, task 100",
        "waits for WEIGHTS_STATE 7 of fake-0", "last messages:", "from fake-0", "HELLO",
        "to   fake-0", "SAMPLE", "WEIGHTS"};
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
        if (!strstr(report.data, wanted[i]))
            fail_msg("\"%s\" is not in:\n%s", wanted[i], report.data);
    text_release(&report);
    close_all(&fake, 1);
}

static void what_is_waited_for_can_be_read_meanwhile(void **state)
{
    struct fixture *f = *state;
    struct text out = {0};
    struct fake fake;
    int64_t end = clock_ms() + DEADLINE_MS;

    start(f);
    fake_open(f, &fake, 0);
    fake.holds = 1;
    while (!out.data || !strstr(out.data, "waits for GROUP of fake-0")) {
        assert_true(clock_ms() < end);
        fake_turn(f, &fake);
        text_clear(&out);
        assert_int_equal(report_state(&out, f->directory, 0, 0), STATUS_OK);
    }
    assert_non_null(strstr(out.data, ", runs; as of"));
    text_clear(&out);
    assert_int_equal(report_state(&out, f->directory, 1, 0), STATUS_OK);
    assert_non_null(strstr(out.data, "\"n_groups\":3"));
    assert_non_null(strstr(out.data, "\"weights_acked\":7"));
    fake.holds = 0;
    fake_greet(&fake);
    play(f, &fake, 1);
    assert_all_written(f);
    text_clear(&out);
    assert_int_equal(report_state(&out, f->directory, 0, 0), STATUS_OK);   /* the run is over */
    assert_int_equal(out.length, 0);
    text_release(&out);
    close_all(&fake, 1);
}

static void no_worker_at_all_is_a_timeout_with_a_report(void **state)
{
    struct fixture *f = *state;

    f->config.connect_ms = 100;
    start(f);
    play(f, NULL, 0);
    assert_int_equal(f->status, STATUS_TIMEOUT);
    assert_non_null(strstr(f->reason, "no rollout worker"));
    assert_non_null(strstr(f->reason, STUCK_FILE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_group_that_kills_its_worker_is_set_aside_and_the_others_are_not),
        TEST(a_link_that_breaks_is_no_fault_of_the_groups),
        TEST(a_step_in_which_every_group_kills_ends),
        TEST(a_silent_worker_loses_its_groups_to_another),
        TEST(a_worker_that_is_gone_for_good_loses_its_groups_soon),
        TEST(the_coordinator_says_every_second_that_it_lives),
        TEST(workers_that_join_in_a_step_change_nothing),
        TEST(a_stuck_step_ends_with_a_report_of_who_waits_for_whom),
        TEST(what_is_waited_for_can_be_read_meanwhile),
        TEST(no_worker_at_all_is_a_timeout_with_a_report),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
