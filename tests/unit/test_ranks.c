/* Ranks over ZeroMQ: what travels, and what a job says of itself in the environment. MPI is in
 * tests/integration/integration_ranks.c. */
#include "ranks/internal.h"
#include "tests/unit/several.h"

#include <sched.h>

#define LONG_MS 60000
#define MANY ((size_t)70 << 20)       /* more than a window, and than one message */

static struct ranks *ranks;

static int open_ranks(struct several *several, int index, int64_t timeout_ms)
{
    const struct ranks_world world = {.index = index, .count = several->n};
    struct wire_keys keys;

    several_read_keys(several, index, &keys);
    const struct ranks_options options = {
        .transport = RANKS_ZMQ,
        .timeout_ms = timeout_ms,
        .endpoint = several->endpoint,
        .keys = &keys,
    };
    return ranks_open(&ranks, &world, &options);
}

static int end_ranks(int status)
{
    char why[1024];

    snprintf(why, sizeof(why), "%s", status_reason());
    ranks_close(&ranks, status);
    return status < 0 ? status_fail(status, "%s", why) : STATUS_OK;
}

static unsigned char byte_of(size_t i, int rank)
{
    return (unsigned char)(i * 2654435761u >> 13 ^ (size_t)rank);
}

static int check_bytes(const unsigned char *bytes, size_t n, int rank, const char *what)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != byte_of(i, rank))
            return status_fail(STATUS_FAILED, "%s: byte %zu of rank %d", what, i, rank);
    return STATUS_OK;
}

/* ---- Host memory. */

static int share_much(int index, int count)
{
    unsigned char *bytes = mem_alloc(MANY, (size_t)count);
    size_t cuts[MOST_SEVERAL + 1];
    int status = STATUS_OK;

    for (int r = 0; r <= count; r++)
        cuts[r] = MANY * (size_t)r;
    for (size_t i = 0; i < MANY; i++)
        bytes[cuts[index] + i] = byte_of(i, index);
    TRY_OUT(ranks_gather(ranks, bytes, cuts));
    for (int r = 0; r < count; r++)
        TRY_OUT(check_bytes(bytes + cuts[r], MANY, r, "gathered"));
    TRY_OUT(ranks_broadcast(ranks, bytes, MANY));
    status = check_bytes(bytes, MANY, 0, "broadcast");
out:
    mem_free(bytes);
    return status;
}

static int move_much(struct several *several, int index)
{
    TRY(open_ranks(several, index, LONG_MS));
    return end_ranks(share_much(index, several->n));
}

static void more_than_a_window_gets_through_both_ways(void **state)
{
    struct several *several = *state;

    snprintf(several->endpoint, sizeof(several->endpoint), "ipc://%s/s", several->directory);
    several_run(several, 2, move_much);
    for (int i = 0; i < 2; i++)
        assert_answer(several, i, STATUS_OK, NULL);
}

/* What nobody takes waits where it was, but for a window of it. */
static int send_to_the_busy(const struct several *several, int index)
{
    const size_t n = (size_t)130 << 20;
    char *bytes = mem_alloc(n, 1), path[128];
    struct post post = {.n = 0};
    int status = STATUS_OK;

    snprintf(path, sizeof(path), "%s/seen", several->directory);
    if (index == 0) {
        TRY_OUT(post_send(ranks, &post, 1, TAG_SUM, bytes, n));
        for (size_t i = 0; i < 1000; i++) {
            int is_done;
            TRY_OUT(ranks->mail->test(&post.list[post.n - 1].request, &is_done));
            if (is_done)
                TRY_OUT(status_fail(STATUS_FAILED, "all of it is sent"));
        }
        TRY_OUT(file_write_atomic(path, "", 0));
    } else {
        while (!file_exists(path))
            sched_yield();
        TRY_OUT(post_receive(ranks, &post, 0, TAG_SUM, bytes, n));
    }
    status = post_wait(ranks, &post, "all of it", LONG_MS);
out:
    post_release(&post);
    mem_free(bytes);
    return status;
}

static int keep_one_busy(struct several *several, int index)
{
    TRY(open_ranks(several, index, LONG_MS));
    return end_ranks(send_to_the_busy(several, index));
}

static void no_more_than_a_window_waits_at_one_who_is_busy(void **state)
{
    struct several *several = *state;

    snprintf(several->endpoint, sizeof(several->endpoint), "ipc://%s/s", several->directory);
    several_run(several, 2, keep_one_busy);
    for (int i = 0; i < 2; i++)
        assert_answer(several, i, STATUS_OK, NULL);
}

/* Sends what is waited for last at first. */
static int cross(int index)
{
    static unsigned char first[3 << 20], second[8], big[3 << 20], small[8];
    struct post post = {.n = 0}, later = {.n = 0};
    int other = !index;

    for (size_t i = 0; i < sizeof(big); i++)
        big[i] = byte_of(i, index);
    memset(small, index, sizeof(small));
    TRY(post_send(ranks, &post, other, TAG_SUM, big, sizeof(big)));
    TRY(post_send(ranks, &post, other, TAG_BEAT, small, sizeof(small)));
    TRY(post_send(ranks, &post, other, TAG_BEAT, small, sizeof(small)));
    TRY(post_receive(ranks, &later, other, TAG_BEAT, second, sizeof(second)));
    TRY(post_wait(ranks, &later, "the small one", LONG_MS));
    if (second[0] != other)
        return status_fail(STATUS_FAILED, "the small one is %d", second[0]);
    TRY(post_receive(ranks, &later, other, TAG_SUM, first, sizeof(first)));
    TRY(post_receive(ranks, &later, other, TAG_BEAT, second, sizeof(second)));
    TRY(post_wait(ranks, &later, "the big one", LONG_MS));
    TRY(post_wait(ranks, &post, "what was sent", LONG_MS));
    post_release(&post);
    post_release(&later);
    return check_bytes(first, sizeof(first), other, "the big one");
}

static int cross_over(struct several *several, int index)
{
    TRY(open_ranks(several, index, LONG_MS));
    return end_ranks(cross(index));
}

static void what_nobody_waits_for_yet_does_not_stop_what_is_waited_for(void **state)
{
    struct several *several = *state;

    several_run(several, 2, cross_over);
    for (int i = 0; i < 2; i++)
        assert_answer(several, i, STATUS_OK, NULL);
}

/* ---- Sums. */

#define N_FLOATS 300001

/* 1 + 2^-24 + 2^-24 is another number than 2^-24 + 2^-24 + 1: sums go by rank. */
static int add_up(struct ops *ops, int index)
{
    static const float parts[] = {1, 0x1p-24f, 0x1p-24f};
    static float data[N_FLOATS];
    const size_t cuts[] = {0, 100000, 200000, N_FLOATS};

    TRY(ranks_use_device(ranks, ops));
    for (size_t i = 0; i < N_FLOATS; i++)
        data[i] = i % 2 ? parts[index] : parts[2 - index];
    TRY(ranks_sum_begin(ranks, data, cuts, 0));
    TRY(ranks_sum_end(ranks));
    TRY(ranks_spread_begin(ranks, data, cuts));
    TRY(ranks_spread_end(ranks));
    for (size_t i = 0; i < N_FLOATS; i++)
        if (data[i] != (i % 2 ? 1.0f : 1.0f + 0x1p-23f))
            return status_fail(STATUS_FAILED, "element %zu is %a", i, (double)data[i]);
    return STATUS_OK;
}

static int sum(struct several *several, int index)
{
    struct ops *ops;

    TRY(open_ranks(several, index, LONG_MS));
    TRY(ops_create(&ops, "cpu", 1));
    int status = add_up(ops, index);
    ranks_leave_device(ranks);
    ops_destroy(&ops);
    return end_ranks(status);
}

static void sums_are_made_in_rank_order(void **state)
{
    struct several *several = *state;

    several_run(several, 3, sum);
    for (int i = 0; i < 3; i++)
        assert_answer(several, i, STATUS_OK, NULL);
}

/* ---- What goes wrong. */

static int leave_the_first_waiting(struct several *several, int index)
{
    char byte = 0;

    TRY(open_ranks(several, index, index == 0 ? 500 : LONG_MS));
    int status = index == 2 ? STATUS_OK : ranks_broadcast(ranks, &byte, 1);
    if (status == STATUS_OK && index == 0)
        status = ranks_bring(ranks, 2, &byte, 1);
    if (status == STATUS_OK && index)
        status = post_receive(ranks, &ranks->host, 0, TAG_ORDER, &byte, 1);
    if (status == STATUS_OK && index)
        status = post_wait(ranks, &ranks->host, "an order", 0);
    return end_ranks(status);
}

static void one_that_sends_nothing_is_named_to_all(void **state)
{
    struct several *several = *state;

    several_run(several, 3, leave_the_first_waiting);
    assert_answer(several, 0, STATUS_TIMEOUT, "nothing came for 500 ms (moments)");
    assert_int_equal(strncmp(several->answers[0].reason, "rank 2 (", 8), 0);
    for (int i = 1; i < 3; i++)
        assert_answer(several, i, STATUS_CLOSED, "nothing came for 500 ms (moments)");
}

static int lose_the_last(struct several *several, int index)
{
    char bytes[3];

    TRY(open_ranks(several, index, LONG_MS));
    ranks->infos[index].pid_space = 0;   /* as on machines of their own: PIDs tell nothing */
    TRY(ranks_share(ranks, "x", bytes, 1));   /* all know all */
    if (index == 2)
        raise(SIGKILL);
    return end_ranks(ranks_share(ranks, "x", bytes, 1));
}

static void one_that_is_killed_elsewhere_is_named(void **state)
{
    struct several *several = *state;

    several_run(several, 3, lose_the_last);
    for (int i = 0; i < 2; i++) {
        assert_answer(several, i, STATUS_CLOSED, "is gone");
        assert_int_equal(strncmp(several->answers[i].reason, "rank 2 (", 8), 0);
    }
}

/* ---- The environment. */

static const char *const variables[] = {
    "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "PMI_SIZE", "PMI_RANK", "WORLD_SIZE", "RANK",
    "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "PMIX_RANK"};

static int forget_environment(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++)
        unsetenv(variables[i]);
    return 0;
}

static void assert_world(int index, int count, int has_mpi)
{
    struct ranks_world world;

    assert_int_equal(ranks_find_world(&world), STATUS_OK);
    assert_int_equal(world.index, index);
    assert_int_equal(world.count, count);
    assert_int_equal(world.has_mpi, has_mpi);
}

static void the_innermost_launcher_says_who_this_is(void **state)
{
    (void)state;
    assert_world(0, 1, 0);
    setenv("SLURM_STEP_NUM_TASKS", "2", 1);
    setenv("SLURM_PROCID", "1", 1);
    assert_world(1, 2, 0);
    setenv("PMIX_RANK", "1", 1);
    assert_world(1, 2, 1);
    setenv("WORLD_SIZE", "16", 1);
    setenv("RANK", "9", 1);
    assert_world(9, 16, 0);
    setenv("OMPI_COMM_WORLD_SIZE", "4", 1);
    setenv("OMPI_COMM_WORLD_RANK", "0", 1);
    assert_world(0, 4, 1);
}

static void a_number_that_cannot_be_is_refused(void **state)
{
    static const char *const ranks_of_four[] = {"4", "-1", "", "x"};
    struct ranks_world world;

    (void)state;
    setenv("WORLD_SIZE", "4", 1);
    for (size_t i = 0; i < 4; i++) {
        setenv("RANK", ranks_of_four[i], 1);
        assert_int_equal(ranks_find_world(&world), STATUS_CONFIG);
        assert_non_null(strstr(status_reason(), "RANK is not one of 0 to 3"));
    }
    setenv("WORLD_SIZE", "1025", 1);
    assert_int_equal(ranks_find_world(&world), STATUS_CONFIG);
}

static void what_brings_no_mpi_goes_over_zeromq(void **state)
{
    struct ranks_world world = {.count = 2, .launcher = "srun"};
    char why[256];

    (void)state;
    assert_int_equal(ranks_choose(&world, RANKS_AUTO, why, sizeof(why)), RANKS_ZMQ);
    assert_non_null(strstr(why, "srun, without MPI"));
    assert_int_equal(ranks_choose(&world, RANKS_MPI, why, sizeof(why)), RANKS_MPI);
    world.has_mpi = 1;
    assert_int_equal(ranks_choose(&world, RANKS_ZMQ, why, sizeof(why)), RANKS_ZMQ);
}

#define RANKS_TEST(name) cmocka_unit_test_setup_teardown(name, several_setup, several_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RANKS_TEST(more_than_a_window_gets_through_both_ways),
        RANKS_TEST(no_more_than_a_window_waits_at_one_who_is_busy),
        RANKS_TEST(what_nobody_waits_for_yet_does_not_stop_what_is_waited_for),
        RANKS_TEST(sums_are_made_in_rank_order),
        RANKS_TEST(one_that_sends_nothing_is_named_to_all),
        RANKS_TEST(one_that_is_killed_elsewhere_is_named),
        cmocka_unit_test_setup(the_innermost_launcher_says_who_this_is, forget_environment),
        cmocka_unit_test_setup(a_number_that_cannot_be_is_refused, forget_environment),
        cmocka_unit_test(what_brings_no_mpi_goes_over_zeromq),
    };

    return cmocka_run_group_tests_name("ranks", tests, NULL, NULL);
}
