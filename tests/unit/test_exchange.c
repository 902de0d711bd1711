/* The coordinator's side of a step, with workers that are played here: which answers count. */
#include "test_exchange.h"

static void every_task_comes_back_as_its_group(void **state)
{
    struct fixture *f = *state;
    struct fake fakes[2];

    start(f);
    fake_open(f, &fakes[0], 0);
    fake_open(f, &fakes[1], 1);
    play(f, fakes, 2);
    assert_all_written(f);
    assert_int_equal(fakes[0].n_leases + fakes[1].n_leases, N_TASKS);
    close_all(fakes, 2);
}

static void doubled_answers_count_once(void **state)
{
    struct fixture *f = *state;
    struct fake fake;

    start(f);
    fake_open(f, &fake, 0);
    fake.doubles = 1;
    play(f, &fake, 1);
    assert_all_written(f);
    assert_int_equal(fake.n_leases, N_TASKS);
    close_all(&fake, 1);
}

static void an_answer_that_is_late_is_ignored(void **state)
{
    struct fixture *f = *state;
    struct fake fakes[2];

    f->config.lease_ms = 200;
    start(f);
    fake_open(f, &fakes[0], 0);
    fakes[0].holds = 1;
    play_until(f, fakes, 1, &fakes[0].n_held, 3);
    /* Its leases run out; then it answers all of them, for other tasks than it was given. */
    fake_open(f, &fakes[1], 1);
    play_until(f, fakes, 2, &fakes[1].n_leases, 1);
    for (int i = 0; i < fakes[0].n_held; i++)
        fake_answer(&fakes[0], fakes[0].held[i], &f->tasks[0]);
    fakes[0].holds = 0;
    play(f, fakes, 2);
    assert_all_written(f);
    close_all(fakes, 2);
}

static void an_answer_to_a_lease_of_another_worker_does_not_count(void **state)
{
    struct fixture *f = *state;
    struct fake fakes[2];

    start(f);
    for (int i = 0; i < 2; i++) {
        fake_open(f, &fakes[i], i);
        fakes[i].holds = 1;
    }
    fakes[1].forges = 1;
    play_until(f, fakes, 2, &fakes[0].n_held, 1);
    play_until(f, fakes, 2, &fakes[1].n_held, 1);
    for (int i = 0; i < fakes[0].n_held; i++)
        fake_answer(&fakes[1], fakes[0].held[i], &f->tasks[fakes[0].held_ids[i] - 100]);
    for (int i = 0; i < 2; i++) {
        fakes[i].holds = fakes[i].forges = 0;
        fake_greet(&fakes[i]);
    }
    play(f, fakes, 2);
    assert_all_written(f);
    close_all(fakes, 2);
}

static void samples_before_the_weights_are_acknowledged_do_not_count(void **state)
{
    struct fixture *f = *state;
    struct fake fakes[2];

    f->config.max_lease_tries = 1000;
    start(f);
    fake_open(f, &fakes[0], 0);
    fakes[0].says_no_ack = 1;
    play_until(f, fakes, 1, &fakes[0].n_leases, 4 * N_TASKS);   /* again and again */
    assert_false(is_done(f));
    fake_open(f, &fakes[1], 1);
    fake_close(&fakes[0]);
    fake_open(f, &fakes[0], 0);   /* greets again, which gives back what it held */
    play(f, fakes, 2);
    assert_all_written(f);
    close_all(fakes, 2);
}

static void weights_with_another_digest_are_sent_again(void **state)
{
    struct fixture *f = *state;
    struct fake fake;

    f->config.max_lease_tries = 1000;
    start(f);
    fake_open(f, &fake, 0);
    fake.wrong_digest = 1;
    play_until(f, &fake, 1, &fake.n_images, 3);
    assert_false(is_done(f));
    fake.wrong_digest = 0;
    play(f, &fake, 1);
    assert_all_written(f);
    close_all(&fake, 1);
}

static void tokens_of_another_policy_do_not_count(void **state)
{
    struct fixture *f = *state;
    struct fake fake;

    f->config.max_lease_tries = 1000;
    start(f);
    fake_open(f, &fake, 0);
    fake.wrong_version = 1;
    play_until(f, &fake, 1, &fake.n_leases, 3 * N_TASKS);
    assert_false(is_done(f));
    fake.wrong_version = 0;
    play(f, &fake, 1);
    assert_all_written(f);
    close_all(&fake, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_task_comes_back_as_its_group),
        TEST(doubled_answers_count_once),
        TEST(an_answer_that_is_late_is_ignored),
        TEST(an_answer_to_a_lease_of_another_worker_does_not_count),
        TEST(samples_before_the_weights_are_acknowledged_do_not_count),
        TEST(weights_with_another_digest_are_sent_again),
        TEST(tokens_of_another_policy_do_not_count),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
