/* The coordinator under load: 64 workers, tens of thousands of groups, weights to eight workers.
 * The same parts as in `make bench-load`, without looking at the clock. */
#include <unistd.h>

#include "bench/load.h"
#include "common/log.h"
#include "tests/integration/support.h"

#define N_WORKERS 64
#define PER_STEP 500
#define MIB ((size_t)1 << 20)
#define MOST_GROWTH (4 * MIB)
#define MOST_IN_FLIGHT (64 * MIB)
#define N_TENSORS 8
#define TENSOR_BYTES (2 * MIB + 6)

static uint64_t n_groups = 20000;

static void many_groups_leave_nothing_behind(void **state)
{
    struct load_latency latency = {.n = 0};
    struct load load;

    (void)state;
    assert_int_equal(load_open(&load, LOAD_CURVE, N_WORKERS, 0), STATUS_OK);
    uint64_t before = load.n_groups, part = n_groups / 10;
    assert_int_equal(load_run(&load, part, PER_STEP, &latency), STATUS_OK);
    size_t resident = load_resident(getpid()), of_worker = load_resident(load.pids[0]);
    int descriptors = load_descriptors(getpid());
    assert_int_equal(load_run(&load, n_groups - part, PER_STEP, &latency), STATUS_OK);
    assert_int_equal(load.n_groups - before, n_groups);   /* each was checked, and came once */
    assert_int_equal(latency.n, n_groups);
    if (!is_sanitized()) {   /* which keeps for long what was freed */
        assert_in_range(load_resident(getpid()), 0, resident + MOST_GROWTH);
        assert_in_range(load_resident(load.pids[0]), 0, of_worker + MOST_GROWTH);
    }
    assert_int_equal(load_descriptors(getpid()), descriptors);
    load_close(&load);
}

/* MiB of weights that travelled for one publication. */
static uint64_t publish(struct load *load, size_t first_changed, uint64_t salt)
{
    uint64_t before = load_bytes_taken(load);
    struct file_map image;
    double seconds;

    assert_int_equal(load_make_image(&image, N_TENSORS, TENSOR_BYTES, first_changed, salt, 1),
                     STATUS_OK);
    assert_int_equal(load_publish(load, &image, &seconds), STATUS_OK);
    return load_bytes_taken(load) - before;
}

static void a_tensor_that_has_not_changed_is_not_sent_again(void **state)
{
    struct load load;

    (void)state;
    assert_int_equal(load_open(&load, LOAD_CURVE, 8, 1), STATUS_OK);
    uint64_t whole = publish(&load, N_TENSORS, 0);
    assert_in_range(whole, 8 * N_TENSORS * TENSOR_BYTES, 8 * (N_TENSORS * TENSOR_BYTES + 4096));
    size_t resident = load_resident(getpid());
    /* The marks lie on each MiB: a tensor's first one is the first in it. */
    uint64_t changed = publish(&load, N_TENSORS - 2, 1);
    assert_in_range(changed, 1, 8 * 2 * TENSOR_BYTES);
    assert_int_equal(publish(&load, N_TENSORS - 2, 1), 0);
    assert_in_range(load_resident(getpid()), 0, resident + MOST_IN_FLIGHT);
    assert_int_equal(publish(&load, 0, 2) > changed, 1);
    load_close(&load);
}

static void weights_of_this_host_do_not_travel(void **state)
{
    struct load load;

    (void)state;
    assert_int_equal(load_open(&load, LOAD_IPC, 8, 0), STATUS_OK);
    assert_int_equal(publish(&load, 0, 1), 0);
    assert_int_equal(publish(&load, 0, 2), 0);
    for (int i = 0; i < load.n_workers; i++)
        assert_int_equal(atomic_load(&load.shared->by_file[i]), 1);
    load_close(&load);
}

int main(int n, char **words)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_groups_leave_nothing_behind),
        cmocka_unit_test(a_tensor_that_has_not_changed_is_not_sent_again),
        cmocka_unit_test(weights_of_this_host_do_not_travel),
    };

    if (n > 1 && strcmp(words[1], LOAD_WORKER) == 0)
        return load_worker_main(n, words);
    if (getenv("HONE_TEST_GROUPS"))
        n_groups = strtoull(getenv("HONE_TEST_GROUPS"), NULL, 10);
    log_set_level(LOG_WARNING);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
