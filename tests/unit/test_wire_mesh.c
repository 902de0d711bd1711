/* Processes that find each other, and who notices what. */
#include "tests/unit/several.h"
#include "wire/mesh.h"

#define LONG_MS 60000
#define SHORT_MS 1500
#define N_MESSAGES 300

static struct wire_mesh *mesh;

static int open_with(struct several *several, int index, const struct wire_keys *keys,
                     int64_t timeout_ms)
{
    const struct wire_mesh_config config = {
        .endpoint = several->endpoint,
        .keys = keys,
        .version = "1",
        .index = index,
        .count = several->n,
        .timeout_ms = timeout_ms,
    };

    return wire_mesh_open(&mesh, &config);
}

static int open_mesh(struct several *several, int index, int64_t timeout_ms)
{
    struct wire_keys keys;

    several_read_keys(several, index, &keys);
    return open_with(several, index, &keys, timeout_ms);
}

/* ---- What arrives. */

static size_t size_of(int i)
{
    return (size_t)i * 977 % 70000;
}

/* Every message has its number, then bytes of it. */
static int take_all(int n, int index)
{
    static int n_taken[MOST_SEVERAL];
    int n_left = (n - 1) * N_MESSAGES, from;
    int64_t end_ms = clock_ms() + LONG_MS;
    const void *bytes;
    size_t size;

    while (n_left && clock_ms() < end_ms) {
        int number;
        if (!wire_mesh_receive(mesh, &from, &bytes, &size))
            continue;
        memcpy(&number, bytes, sizeof(number));
        const unsigned char *rest = (const unsigned char *)bytes + sizeof(number);
        if (from == index || number != n_taken[from]++ || size != sizeof(number) + size_of(number))
            return status_fail(STATUS_FAILED, "message %d of %d, %zu bytes", number, from, size);
        for (size_t i = 0; i < size_of(number); i++)
            if (rest[i] != (unsigned char)(number + from))
                return status_fail(STATUS_FAILED, "message %d of %d is spoilt", number, from);
        n_left--;
    }
    return n_left ? status_fail(STATUS_TIMEOUT, "%d messages are missing", n_left) : STATUS_OK;
}

static int talk(struct several *several, int index)
{
    static unsigned char bytes[70000];

    TRY(open_mesh(several, index, LONG_MS));
    for (int i = 0; i < N_MESSAGES; i++) {
        memset(bytes, i + index, sizeof(bytes));
        for (int to = 0; to < several->n; to++)
            if (to != index)
                wire_mesh_send(mesh, to, &i, sizeof(i), bytes, size_of(i));
    }
    TRY(take_all(several->n, index));
    int at, count;
    wire_mesh_neighbours(mesh, &at, &count);
    if (at != index || count != several->n)
        return status_fail(STATUS_FAILED, "%d of %d on this host", at, count);
    wire_mesh_close(&mesh, LONG_MS);
    return STATUS_OK;
}

static void all_hear_all_in_order(void **state)
{
    struct several *several = *state;

    several_run(several, 4, talk);
    for (int i = 0; i < 4; i++)
        assert_answer(several, i, STATUS_OK, NULL);
}

static void sockets_in_a_folder_do_as_well_and_are_gone_afterwards(void **state)
{
    struct several *several = *state;

    snprintf(several->endpoint, sizeof(several->endpoint), "ipc://%s/ranks.sock",
             several->directory);
    several_run(several, 3, talk);
    for (int i = 0; i < 3; i++)
        assert_answer(several, i, STATUS_OK, NULL);
    assert_int_not_equal(access(several->endpoint + 6, F_OK), 0);
}

/* The others may have heard that all are there before this one has. */
static int meet_again_and_again(struct several *several, int index)
{
    struct several other = *several;

    for (int i = 0; i < 20; i++) {
        int from, n_left = several->n - 1;
        const void *bytes;
        size_t n;
        snprintf(other.endpoint, sizeof(other.endpoint), "ipc://%s/%d", several->directory, i);
        TRY(open_mesh(&other, index, LONG_MS));
        for (int to = 0; to < several->n; to++)
            if (to != index)
                wire_mesh_send(mesh, to, &i, sizeof(i), NULL, 0);
        for (int64_t end_ms = clock_ms() + 10 * SHORT_MS; n_left;) {
            n_left -= wire_mesh_receive(mesh, &from, &bytes, &n);
            if (clock_ms() > end_ms)
                return status_fail(STATUS_TIMEOUT, "round %d: %d messages are missing", i, n_left);
        }
        wire_mesh_close(&mesh, LONG_MS);
    }
    return STATUS_OK;
}

static void what_comes_early_is_not_lost(void **state)
{
    struct several *several = *state;

    several_run(several, 4, meet_again_and_again);
    for (int i = 0; i < 4; i++)
        assert_answer(several, i, STATUS_OK, NULL);
}

/* ---- Who does not come, or not in. */

static int meet_briefly(struct several *several, int index)
{
    return open_mesh(several, index, index ? LONG_MS : SHORT_MS);
}

static void one_that_does_not_come_is_named_to_all(void **state)
{
    struct several *several = *state;

    several->n = 3;
    several_start(several, 0, meet_briefly);
    several_start(several, 1, meet_briefly);
    several_wait(several);
    assert_answer(several, 0, STATUS_TIMEOUT, "rank 2: has not come");
    assert_answer(several, 1, STATUS_CLOSED, "rank 2: has not come");
}

static int miss_the_first(struct several *several, int index)
{
    return open_mesh(several, index, 200);
}

static void without_the_first_the_others_say_where_it_should_be(void **state)
{
    struct several *several = *state;

    several->n = 2;
    several_start(several, 1, miss_the_first);
    several_wait(several);
    assert_answer(several, 1, STATUS_TIMEOUT, several->endpoint);
}

static int come_unknown(struct several *several, int index)
{
    char path[FILE_PATH_MAX];
    struct wire_keys keys;

    if (index == 0)
        return open_mesh(several, index, SHORT_MS);
    TRY(wire_keys_add(several->keys, "former", path));
    TRY(wire_keys_read(&keys, path));
    TRY(wire_keys_remove(several->keys, "former"));
    return open_with(several, index, &keys, LONG_MS);
}

static void a_key_that_is_not_on_the_list_does_not_get_in(void **state)
{
    struct several *several = *state;

    several_run(several, 2, come_unknown);
    assert_answer(several, 0, STATUS_TIMEOUT, "rank 1: has not come");
    assert_answer(several, 1, STATUS_CONFIG, "does not let in the key");
}

static int come_from_elsewhere(struct several *several, int index)
{
    char directory[128], path[FILE_PATH_MAX];
    struct wire_keys keys;

    if (index == 0)
        return open_mesh(several, index, SHORT_MS);
    snprintf(directory, sizeof(directory), "%s/other", several->directory);
    TRY(wire_keys_make(directory));
    TRY(file_join(path, directory, WIRE_WORKER_KEY));
    TRY(wire_keys_read(&keys, path));
    return open_with(several, index, &keys, SHORT_MS);
}

static void a_key_of_another_coordinator_does_not_get_in(void **state)
{
    struct several *several = *state;

    several_run(several, 2, come_from_elsewhere);
    assert_answer(several, 0, STATUS_TIMEOUT, "rank 1: has not come");
    assert_answer(several, 1, STATUS_TIMEOUT, "the handshake breaks off");
}

static int come_plain(struct several *several, int index)
{
    const struct wire_keys plain = {.insecure = 1};

    return index ? open_with(several, index, &plain, SHORT_MS)
                 : open_mesh(several, index, SHORT_MS);
}

static void plain_does_not_get_in(void **state)
{
    struct several *several = *state;

    several_run(several, 2, come_plain);
    assert_answer(several, 0, STATUS_TIMEOUT, "rank 1: has not come");
    assert_answer(several, 1, STATUS_TIMEOUT, NULL);
}

/* Number 1 listens for number 2 with the key of the mesh: a worker's key opens nothing there. */
static int knock_at_the_second(struct several *several, int index)
{
    struct wire_keys worker;
    struct wire_link *link;
    int status = STATUS_OK;

    TRY(open_mesh(several, index, LONG_MS));
    if (index == 1) {
        several_read_keys(several, 1, &worker);
        memcpy(worker.hub, mesh->job.public_key, sizeof(worker.hub));
        TRY(wire_link_open(&link, mesh->bound, "rank-2", &worker));
        int64_t end_ms = clock_ms() + 10 * SHORT_MS;
        while (status == STATUS_OK && clock_ms() < end_ms)
            status = wire_link_check(link, LONG_MS);
        wire_link_close(&link);
    }
    wire_mesh_close(&mesh, LONG_MS);
    return status;
}

static void a_workers_key_opens_no_rank_but_the_first(void **state)
{
    struct several *several = *state;

    several_run(several, 3, knock_at_the_second);
    assert_answer(several, 0, STATUS_OK, NULL);
    assert_answer(several, 1, STATUS_CONFIG, "does not let in the key");
    assert_answer(several, 2, STATUS_OK, NULL);
}

static int come_twice(struct several *several, int index)
{
    return open_mesh(several, index == 2 ? 1 : index, LONG_MS);
}

static void two_processes_of_one_number_are_refused(void **state)
{
    struct several *several = *state;

    several->n = 3;
    for (int i = 2; i >= 0; i--)
        several_start(several, i, come_twice);
    several_wait(several);
    assert_answer(several, 0, STATUS_CONFIG, "two processes are rank 1");
    assert_answer(several, 1, STATUS_CLOSED, "two processes are rank 1");
    assert_answer(several, 2, STATUS_CLOSED, "two processes are rank 1");
}

static void wait_for_file(const struct several *several, const char *name, char path[128])
{
    int64_t end_ms = clock_ms() + LONG_MS;

    snprintf(path, 128, "%s/%s", several->directory, name);
    while (access(path, F_OK) && clock_ms() < end_ms)
        zmq_poll(NULL, 0, 1);
}

static int come_late(struct several *several, int index)
{
    struct several job = *several;
    struct wire_loss loss;
    const void *bytes;
    char path[128];
    size_t n;
    int from;

    job.n = 2;
    if (index == 2) {
        wait_for_file(several, "met", path);
        return open_mesh(&job, 1, LONG_MS);
    }
    TRY(open_mesh(&job, index, LONG_MS));
    snprintf(path, sizeof(path), "%s/met", several->directory);
    if (index)
        TRY(file_write_atomic(path, "", 0));
    snprintf(path, sizeof(path), "%s/over", several->directory);
    while (access(path, F_OK))
        if (wire_mesh_receive(mesh, &from, &bytes, &n) || wire_mesh_find_loss(mesh, &loss))
            return status_fail(STATUS_FAILED, "it was disturbed");
    wire_mesh_close(&mesh, LONG_MS);
    return STATUS_OK;
}

static void a_late_one_is_turned_away_and_disturbs_nobody(void **state)
{
    struct several *several = *state;
    char path[128];

    several->n = 3;
    for (int i = 0; i < 3; i++)
        several_start(several, i, come_late);
    several_wait_for(several, 2);
    snprintf(path, sizeof(path), "%s/over", several->directory);
    assert_int_equal(file_write_atomic(path, "", 0), STATUS_OK);
    several_wait(several);
    assert_answer(several, 2, STATUS_CLOSED, "another job runs there");
    assert_answer(several, 0, STATUS_OK, NULL);
    assert_answer(several, 1, STATUS_OK, NULL);
}

static int come_otherwise(struct several *several, int index)
{
    struct several other = *several;

    other.n += index;
    return open_mesh(&other, index, LONG_MS);
}

static void another_count_is_refused_by_all(void **state)
{
    struct several *several = *state;

    several_run(several, 2, come_otherwise);
    assert_answer(several, 0, STATUS_CONFIG, "takes itself for rank 1 of 3");
    assert_answer(several, 1, STATUS_CLOSED, "takes itself for rank 1 of 3");
}

static int come_older(struct several *several, int index)
{
    struct wire_mesh_config config = {
        .endpoint = several->endpoint,
        .version = index ? "1" : "2",
        .index = index,
        .count = 2,
        .timeout_ms = LONG_MS,
    };
    struct wire_keys keys;

    several_read_keys(several, index, &keys);
    config.keys = &keys;
    return wire_mesh_open(&mesh, &config);
}

static void another_version_is_refused_by_all(void **state)
{
    struct several *several = *state;

    several_run(several, 2, come_older);
    assert_answer(several, 0, STATUS_VERSION, "is hone 1, but rank 0 is 2");
    assert_answer(several, 1, STATUS_CLOSED, "is hone 1, but rank 0 is 2");
}

/* ---- Who is gone. */

static int wait_for_loss(int wanted, const char *reason)
{
    int64_t end_ms = clock_ms() + LONG_MS;
    struct wire_loss loss;
    const void *bytes;
    size_t n;
    int from;

    while (!wire_mesh_find_loss(mesh, &loss)) {
        wire_mesh_receive(mesh, &from, &bytes, &n);
        if (clock_ms() > end_ms)
            return status_fail(STATUS_TIMEOUT, "nobody is missed");
    }
    return loss.index == wanted && strcmp(loss.reason, reason) == 0
               ? STATUS_OK
               : status_fail(STATUS_FAILED, "%d: \"%s\"", loss.index, loss.reason);
}

/* Returns in number `last` when the others are through open_mesh() as well. */
static int open_before(struct several *several, int index, int last)
{
    int from, n_left = index == last ? several->n - 1 : 0;
    const void *bytes;
    size_t n;

    TRY(open_mesh(several, index, LONG_MS));
    if (index != last)
        wire_mesh_send(mesh, last, &index, sizeof(index), NULL, 0);
    for (int64_t end_ms = clock_ms() + LONG_MS; n_left;) {
        n_left -= wire_mesh_receive(mesh, &from, &bytes, &n);
        if (clock_ms() > end_ms)
            return status_fail(STATUS_TIMEOUT, "%d of the others are missing", n_left);
    }
    return STATUS_OK;
}

static int lose_the_second(struct several *several, int index)
{
    TRY(open_before(several, index, 1));
    if (index == 1)
        raise(SIGKILL);
    return wait_for_loss(1, "");
}

static void one_that_is_killed_is_missed_by_all(void **state)
{
    struct several *several = *state;

    several_run(several, 3, lose_the_second);
    assert_answer(several, 0, STATUS_OK, NULL);
    assert_answer(several, 2, STATUS_OK, NULL);
}

static int end_by_the_last(struct several *several, int index)
{
    TRY(open_before(several, index, 2));
    if (index < 2)
        return wait_for_loss(2, "no memory");
    wire_mesh_end(&mesh, "no memory");
    return STATUS_OK;
}

static void one_that_ends_all_tells_them_why(void **state)
{
    struct several *several = *state;

    several_run(several, 3, end_by_the_last);
    for (int i = 0; i < 3; i++)
        assert_answer(several, i, STATUS_OK, NULL);
}

#define MESH_TEST(name) cmocka_unit_test_setup_teardown(name, several_setup, several_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        MESH_TEST(all_hear_all_in_order),
        MESH_TEST(sockets_in_a_folder_do_as_well_and_are_gone_afterwards),
        MESH_TEST(what_comes_early_is_not_lost),
        MESH_TEST(one_that_does_not_come_is_named_to_all),
        MESH_TEST(without_the_first_the_others_say_where_it_should_be),
        MESH_TEST(a_key_that_is_not_on_the_list_does_not_get_in),
        MESH_TEST(a_key_of_another_coordinator_does_not_get_in),
        MESH_TEST(plain_does_not_get_in),
        MESH_TEST(a_workers_key_opens_no_rank_but_the_first),
        MESH_TEST(two_processes_of_one_number_are_refused),
        MESH_TEST(a_late_one_is_turned_away_and_disturbs_nobody),
        MESH_TEST(another_count_is_refused_by_all),
        MESH_TEST(another_version_is_refused_by_all),
        MESH_TEST(one_that_is_killed_is_missed_by_all),
        MESH_TEST(one_that_ends_all_tells_them_why),
    };

    return cmocka_run_group_tests_name("wire_mesh", tests, NULL, NULL);
}
