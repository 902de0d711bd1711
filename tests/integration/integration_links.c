/* What a network does to the one worker that a run has: the run waits, and ends the same. */
#include "tests/integration/support.h"
#include "tests/integration/support_link.h"

static struct place place;

static int make_place(void **state)
{
    (void)state;
    place_make_quiet(&place, (const char *const[]){NULL});
    return 0;
}

static int remove_place(void **state)
{
    (void)state;
    place_remove(&place);
    return 0;
}

/* One bit of a group, of weights, of a heartbeat or of a handshake: whatever comes next. */
static void a_flipped_bit_is_refused_and_the_worker_connects_again(void **state)
{
    char endpoint[64], through[64];
    struct program run, worker;
    long flipped_at = 0;

    (void)state;
    int port = link_free_port(), link_port = link_free_port();
    snprintf(endpoint, sizeof(endpoint), "run.endpoint=tcp://127.0.0.1:%d", port);
    snprintf(through, sizeof(through), "tcp://127.0.0.1:%d", link_port);
    place_copy(&place, "run/base", "run/flipped");
    struct flaky_link *link = link_open(link_port, port);
    assert_non_null(link);
    START(&run, &place, "run", "--run", "run/flipped", "--stage", "zero", "--set", endpoint,
          "--set", "rollout.workers=0");
    WAIT_UNTIL(file_exists(in_place(&place, "run/flipped/keys/worker.key")));
    START(&worker, &place, "worker", "rollout", "--connect", through, "--config",
          "run/flipped/config.yaml", "--stage", "zero", "--name", "far-0", "--key",
          "run/flipped/keys/worker.key");
    while (is_running(&run)) {
        long step = steps_of(&place, "run/flipped", "zero");
        if (step > flipped_at && flipped_at < 3) {
            link_flip(link);
            flipped_at = step;
        }
        yield_briefly();
    }
    assert_ends(&run, 0, "stage zero is done");
    assert_ends(&worker, 0, NULL);   /* the same process from the beginning to STOP */
    assert_true(flipped_at >= 3);
    link_close(link);
    assert_same_runs(&place, "run/quiet", "run/flipped");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flipped_bit_is_refused_and_the_worker_connects_again),
    };

    return cmocka_run_group_tests_name("integration_links", tests, make_place, remove_place);
}
