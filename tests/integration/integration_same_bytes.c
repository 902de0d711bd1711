/* What changes the speed of a run never changes its result. */
#include "tests/integration/support.h"

static struct place place;

static int make_place(void **state)
{
    struct program program;

    (void)state;
    place_make(&place);
    HONE(&program, &place, "run", RECIPE, "--run", "run/quiet");
    assert_ends(&program, 0, "stage distill is done");
    return 0;
}

static int remove_place(void **state)
{
    (void)state;
    place_remove(&place);
    return 0;
}

static void one_worker_and_one_thread_write_the_same_bytes(void **state)
{
    struct program program;

    (void)state;
    HONE(&program, &place, "run", RECIPE, "--run", "run/one", "--set", "rollout.workers=1", "--set",
         "rollout.max_sequences=3", "--set", "run.threads=1");
    assert_ends(&program, 0, "stage distill is done");
    assert_same_runs(&place, "run/quiet", "run/one");
}

static void three_workers_and_more_threads_write_the_same_bytes(void **state)
{
    struct program program;

    (void)state;
    HONE(&program, &place, "run", RECIPE, "--run", "run/three", "--set", "rollout.workers=3",
         "--set", "rollout.max_sequences=64", "--set", "rollout.threads=2", "--set",
         "reward.workers=2", "--set", "run.threads=2");
    assert_ends(&program, 0, "stage distill is done");
    assert_same_runs(&place, "run/quiet", "run/three");
}

static void another_seed_writes_other_bytes(void **state)
{
    struct program program;

    (void)state;
    HONE(&program, &place, "run", RECIPE, "--run", "run/seed", "--set", "run.seed=2", "--stage",
         "base");
    assert_ends(&program, 0, "stage base is done");
    char *ours = ask(&place, "run/seed", "SELECT digest FROM checkpoint ORDER BY id");
    char *theirs = ask(&place, "run/quiet", "SELECT digest FROM checkpoint WHERE stage_id = 1");
    assert_string_not_equal(ours, theirs);
    mem_free(ours);
    mem_free(theirs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_worker_and_one_thread_write_the_same_bytes),
        cmocka_unit_test(three_workers_and_more_threads_write_the_same_bytes),
        cmocka_unit_test(another_seed_writes_other_bytes),
    };

    return cmocka_run_group_tests_name("integration_same_bytes", tests, make_place, remove_place);
}
