/* Who gets in over tcp://, and what those who do not can cost. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/test_wire.h"

#define N_CONNECTIONS 1000            /* HONE_TEST_CONNECTIONS=10000 in the environment for more */
#define FRAME_HEAD "\x06\0\0\0\0\x03\xff\xff\xff"   /* a ZMTP command of nearly 64 MiB */

static const char *in(const struct fixture *f, const char *name)
{
    static char path[FILE_PATH_MAX];

    snprintf(path, sizeof(path), "%s/%s", f->keys, name);
    return path;
}

static int setup(void **state)
{
    if (setup_ends(state) < 0)
        return -1;
    struct fixture *f = *state;
    snprintf(f->keys, sizeof(f->keys), "%s/keys", f->directory);
    snprintf(f->worker_key, sizeof(f->worker_key), "%s/keys/worker.key", f->directory);
    return wire_keys_make(f->keys) < 0 || wire_keys_read_hub(&f->hub_keys, f->keys) < 0 ||
                   wire_keys_read(&f->link_keys, f->worker_key) < 0
               ? -1
               : 0;
}

static void open_hub(struct fixture *f)
{
    assert_int_equal(wire_hub_open(&f->hub, "tcp://127.0.0.1:*", &f->hub_keys), STATUS_OK);
}

static void open_link(struct fixture *f, const struct wire_keys *keys)
{
    wire_link_close(&f->link);
    assert_int_equal(wire_link_open(&f->link, wire_hub_endpoint(f->hub), "rollout-1", keys),
                     STATUS_OK);
}

/* Waits for what the link says of its trouble. */
static int check_until_failed(struct fixture *f, int64_t lost_ms)
{
    int64_t end = clock_ms() + LONG_MS;
    int status = STATUS_OK;

    while (status == STATUS_OK && clock_ms() < end) {
        status = wire_link_receive(f->link, &f->got, 5);
        assert_int_equal(status, STATUS_TIMEOUT);
        status = wire_link_check(f->link, lost_ms);
    }
    return status;
}

/* A worker that tries to talk; nothing of it must reach the hub. */
static int knock(struct fixture *f, const struct wire_keys *keys, int64_t lost_ms)
{
    char peer[WIRE_NAME_BYTES];

    open_link(f, keys);
    assert_int_equal(wire_link_send(f->link, &f->frame, 0), STATUS_OK);
    int status = check_until_failed(f, lost_ms);
    char reason[512];
    snprintf(reason, sizeof(reason), "%s", status_reason());
    assert_int_equal(wire_hub_receive(f->hub, peer, &f->got, 20), STATUS_TIMEOUT);
    return status_fail(status, "%s", reason);
}

static struct wire_refusals refusals(struct fixture *f)
{
    struct wire_refusals now;

    wire_hub_refusals(f->hub, &now);
    return now;
}

/* ---- Keys as files. */

static mode_t mode_of(const char *path)
{
    struct stat info;

    assert_int_equal(stat(path, &info), 0);
    return info.st_mode & 07777;
}

static void keys_are_their_owners_alone(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(mode_of(f->keys), 0700);
    assert_int_equal(mode_of(in(f, "hub.key")), 0600);
    assert_int_equal(mode_of(in(f, "worker.key")), 0600);
    assert_int_equal(mode_of(in(f, "allowed")), 0600);
    assert_string_not_equal(f->hub_keys.secret, f->link_keys.secret);
    assert_string_equal(f->hub_keys.public_key, f->link_keys.hub);
}

static void making_keys_again_changes_none(void **state)
{
    struct fixture *f = *state;
    struct wire_keys hub, worker;

    assert_int_equal(wire_keys_make(f->keys), STATUS_OK);
    assert_int_equal(wire_keys_read_hub(&hub, f->keys), STATUS_OK);
    assert_int_equal(wire_keys_read(&worker, f->worker_key), STATUS_OK);
    assert_memory_equal(hub.secret, f->hub_keys.secret, WIRE_KEY_BYTES);
    assert_memory_equal(worker.secret, f->link_keys.secret, WIRE_KEY_BYTES);
}

static void a_key_file_that_others_may_read_is_refused(void **state)
{
    struct fixture *f = *state;
    struct wire_keys keys;

    assert_int_equal(chmod(f->worker_key, 0640), 0);
    assert_int_equal(wire_keys_read(&keys, f->worker_key), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "chmod 600"));
    assert_non_null(strstr(status_reason(), "worker.key"));
    assert_int_equal(keys.secret[0], 0);
    assert_int_equal(chmod(in(f, "hub.key"), 0604), 0);
    assert_int_equal(wire_keys_read_hub(&keys, f->keys), STATUS_CONFIG);
}

static void a_directory_that_others_may_change_gets_no_keys(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(chmod(f->keys, 0777), 0);
    assert_int_equal(wire_keys_make(f->keys), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "chmod 700"));
    assert_int_equal(chmod(f->keys, 0700), 0);
    assert_int_equal(rename(f->keys, f->worker_key) ? 0 : 1, 0);
    assert_int_equal(symlink("/tmp", "/tmp/hone-test-link") == 0 || errno == EEXIST, 1);
    int status = wire_keys_make("/tmp/hone-test-link");
    unlink("/tmp/hone-test-link");
    assert_int_equal(status, STATUS_CONFIG);
}

static void damaged_key_files_are_refused_by_name(void **state)
{
    struct fixture *f = *state;
    struct text text = {0};
    struct wire_keys keys;

    assert_int_equal(file_read(f->worker_key, 4096, &text), STATUS_OK);
    char *secret = strstr(text.data, "secret ") + 7;
    secret[3] = secret[3] == 'a' ? 'b' : 'a';
    assert_int_equal(wire_keys_parse(&keys, text.data, "the file"), STATUS_FORMAT);
    assert_non_null(strstr(status_reason(), "damaged"));
    secret[3] = '"';   /* not of Z85 */
    assert_int_equal(wire_keys_parse(&keys, text.data, "the file"), STATUS_FORMAT);
    assert_int_equal(wire_keys_parse(&keys, "", "the file"), STATUS_FORMAT);
    assert_int_equal(wire_keys_parse(&keys, "hone-key 1\nhub x\n", "the file"), STATUS_FORMAT);
    assert_non_null(strstr(status_reason(), "the file"));
    assert_int_equal(wire_keys_read(&keys, in(f, "nowhere")), STATUS_IO);
    assert_int_equal(wire_keys_read(&keys, f->keys), STATUS_CONFIG);   /* a directory */
    assert_int_equal(mkfifo(in(f, "pipe"), 0600), 0);
    assert_int_equal(wire_keys_read(&keys, in(f, "pipe")), STATUS_CONFIG);   /* and no wait */
    text_release(&text);
}

static void no_reason_tells_a_secret(void **state)
{
    struct fixture *f = *state;
    struct text text = {0};
    struct wire_keys keys;

    assert_int_equal(file_read(f->worker_key, 4096, &text), STATUS_OK);
    char *public_key = strstr(text.data, "public ") + 7;
    public_key[0] = public_key[0] == 'a' ? 'b' : 'a';
    assert_int_equal(wire_keys_parse(&keys, text.data, "the file"), STATUS_FORMAT);
    assert_null(strstr(status_reason(), f->link_keys.secret));
    assert_int_equal(keys.secret[0], 0);
    text_release(&text);
}

static void names_of_keys_are_plain_words(void **state)
{
    struct fixture *f = *state;
    char path[FILE_PATH_MAX];

    assert_int_equal(wire_keys_add(f->keys, "../evil", path), STATUS_CONFIG);
    assert_int_equal(wire_keys_add(f->keys, "", path), STATUS_CONFIG);
    assert_int_equal(wire_keys_add(f->keys, "hub", path), STATUS_CONFIG);
    assert_int_equal(wire_keys_add(f->keys, "a\nb", path), STATUS_CONFIG);
    assert_int_equal(wire_keys_remove(f->keys, "nobody"), STATUS_CONFIG);
}

/* ---- Getting in. */

static void a_worker_with_a_key_of_the_list_gets_in(void **state)
{
    struct fixture *f = *state;

    open_hub(f);
    open_link(f, &f->link_keys);
    assert_talks(f);
    struct wire_refusals now = refusals(f);
    assert_int_equal(now.n_unknown + now.n_broken + now.n_crowded, 0);
}

static void tcp_without_keys_is_refused_at_both_ends(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(wire_hub_open(&f->hub, "tcp://127.0.0.1:*", NULL), STATUS_CONFIG);
    assert_int_equal(wire_link_open(&f->link, "tcp://127.0.0.1:9", "a", NULL), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "--key"));
}

static void a_key_that_is_not_on_the_list_is_told_so_at_once(void **state)
{
    struct fixture *f = *state;
    struct wire_keys stranger;
    char other[128], path[FILE_PATH_MAX];

    /* A pair of its own, made elsewhere, and the coordinator's true public key. */
    snprintf(other, sizeof(other), "%s/other", f->directory);
    assert_int_equal(wire_keys_make(other), STATUS_OK);
    assert_int_equal(wire_keys_add(other, "worker", path), STATUS_OK);
    assert_int_equal(wire_keys_read(&stranger, path), STATUS_OK);
    memcpy(stranger.hub, f->link_keys.hub, WIRE_KEY_BYTES);
    open_hub(f);
    assert_int_equal(knock(f, &stranger, 60000), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), stranger.public_key));
    assert_null(strstr(status_reason(), stranger.secret));
    assert_true(refusals(f).n_unknown > 0);
    open_link(f, &f->link_keys);
    assert_talks(f);
}

static void another_coordinators_key_does_not_get_in(void **state)
{
    struct fixture *f = *state;
    struct wire_keys other = f->link_keys;

    memcpy(other.hub, f->link_keys.public_key, WIRE_KEY_BYTES);
    open_hub(f);
    assert_int_equal(knock(f, &other, 300), STATUS_CLOSED);
    assert_non_null(strstr(status_reason(), "another coordinator's"));
    assert_true(refusals(f).n_broken > 0);
}

static void a_plain_worker_does_not_get_in(void **state)
{
    struct fixture *f = *state;
    const struct wire_keys plain = {.insecure = 1};

    open_hub(f);
    assert_int_equal(knock(f, &plain, 300), STATUS_CLOSED);
    assert_non_null(strstr(status_reason(), "--key FILE"));
    assert_true(refusals(f).n_broken > 0);
}

static void a_worker_with_a_key_does_not_talk_to_a_plain_hub(void **state)
{
    struct fixture *f = *state;
    const struct wire_keys plain = {.insecure = 1};

    assert_int_equal(wire_hub_open(&f->hub, "tcp://127.0.0.1:*", &plain), STATUS_OK);
    assert_int_equal(knock(f, &f->link_keys, 300), STATUS_CLOSED);
    assert_non_null(strstr(status_reason(), "does not speak CURVE"));
}

static void a_key_that_is_removed_opens_nothing_any_more(void **state)
{
    struct fixture *f = *state;
    struct wire_keys second;
    char path[FILE_PATH_MAX];

    open_hub(f);
    assert_int_equal(wire_keys_add(f->keys, "second", path), STATUS_OK);
    assert_int_equal(wire_keys_read(&second, path), STATUS_OK);
    open_link(f, &second);   /* added while the hub is open */
    assert_talks(f);
    assert_int_equal(wire_keys_remove(f->keys, "second"), STATUS_OK);
    assert_false(file_exists(path));
    assert_int_equal(knock(f, &second, 60000), STATUS_CONFIG);
    open_link(f, &f->link_keys);   /* the others stay */
    assert_talks(f);
}

static void a_list_that_others_may_write_lets_nobody_in(void **state)
{
    struct fixture *f = *state;

    open_hub(f);
    assert_int_equal(chmod(in(f, "allowed"), 0666), 0);
    assert_int_equal(knock(f, &f->link_keys, 60000), STATUS_CONFIG);
    assert_int_equal(chmod(in(f, "allowed"), 0600), 0);
    assert_int_equal(unlink(in(f, "allowed")), 0);
    assert_int_equal(knock(f, &f->link_keys, 60000), STATUS_CONFIG);
}

/* ---- Strangers on the port. */

static int dial(const struct fixture *f)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_port = htons(
        (uint16_t)strtol(strrchr(wire_hub_endpoint(f->hub), ':') + 1, NULL, 10));
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

/* ZMTP 3.1, as a client of CURVE. */
static size_t greet(char out[64])
{
    memset(out, 0, 64);
    memcpy(out, "\xff\0\0\0\0\0\0\0\0\x7f\3\1CURVE", 17);
    return 64;
}

/* As much as goes out without waiting; -1 once the other end has closed. */
static ssize_t push(int fd, const char *bytes, size_t n)
{
    ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);

    return sent < 0 && errno == EAGAIN ? 0 : sent;
}

static long resident_kib(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

static void garbage_is_turned_away_and_the_worker_stays(void **state)
{
    static const char *const noise[] = {"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
                                        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                                        "\x01\x00", "HONE", "\xff\xff\xff\xff\xff\xff\xff\xff\xff"};
    struct fixture *f = *state;
    int fds[15];

    open_hub(f);
    open_link(f, &f->link_keys);
    assert_talks(f);
    for (size_t i = 0; i < 15; i++) {
        char greeting[64];
        fds[i] = dial(f);
        if (i % 3 == 1)
            push(fds[i], greeting, greet(greeting));
        push(fds[i], noise[i % 5], strlen(noise[i % 5]));
        if (i % 3 == 2)
            close(fds[i]);
        assert_talks(f);
    }
    for (size_t i = 0; i < 15; i++)
        if (i % 3 != 2)
            close(fds[i]);
    assert_talks(f);
    assert_int_equal(wire_link_connections(f->link), 1);
}

/* libzmq would hold all of it: 24 times 64 MiB. */
static void oversized_frames_before_the_handshake_cost_little(void **state)
{
    struct fixture *f = *state;
    char *block = mem_alloc(1 << 20, 1), greeting[64];
    int fds[24], n_ended = 0;
    int64_t end = clock_ms() + LONG_MS;

    open_hub(f);
    open_link(f, &f->link_keys);
    assert_talks(f);
    long before = resident_kib();
    for (int i = 0; i < 24; i++) {
        fds[i] = dial(f);
        assert_int_equal(push(fds[i], greeting, greet(greeting)), 64);
        assert_int_equal(push(fds[i], FRAME_HEAD, 9), 9);
    }
    while (n_ended < 24 && clock_ms() < end)
        for (int i = 0; i < 24; i++)
            if (fds[i] >= 0 && push(fds[i], block, 1 << 20) < 0) {
                close(fds[i]);
                fds[i] = -1;
                n_ended++;
            }
    assert_int_equal(n_ended, 24);
    assert_true(refusals(f).n_crowded > 0);
    assert_true(resident_kib() - before < 200 << 10);
    assert_talks(f);
    assert_int_equal(wire_link_connections(f->link), 1);
    mem_free(block);
}

static long count_descriptors(void)
{
    long n = 0;

    for (int fd = 0; fd < 20000; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static int n_connections(void)
{
    const char *wanted = getenv("HONE_TEST_CONNECTIONS");

    return wanted ? (int)strtol(wanted, NULL, 10) : N_CONNECTIONS;
}

/* Half a handshake each, held open: the oldest make room, and a worker still gets in. */
static void a_crowd_holds_few_descriptors_and_a_worker_still_gets_in(void **state)
{
    struct fixture *f = *state;
    int n = n_connections(), *fds = mem_alloc((size_t)n, sizeof(int));
    char greeting[64];

    open_hub(f);
    long before = count_descriptors(), memory = resident_kib();
    for (int i = 0; i < n; i++) {
        fds[i] = dial(f);
        push(fds[i], greeting, greet(greeting));
    }
    open_link(f, &f->link_keys);
    assert_talks(f);
    int64_t end = clock_ms() + LONG_MS;
    while (count_descriptors() - before - n > 200 && clock_ms() < end)
        assert_talks(f);
    assert_true(count_descriptors() - before - n <= 200);   /* 128 pending, the link's own */
    assert_true(refusals(f).n_crowded >= (uint64_t)n - 200);
    assert_true(resident_kib() - memory < 64 << 10);
    assert_int_equal(wire_link_connections(f->link), 1);
    for (int i = 0; i < n; i++)
        close(fds[i]);
    mem_free(fds);
    assert_talks(f);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(keys_are_their_owners_alone),
        TEST(making_keys_again_changes_none),
        TEST(a_key_file_that_others_may_read_is_refused),
        TEST(a_directory_that_others_may_change_gets_no_keys),
        TEST(damaged_key_files_are_refused_by_name),
        TEST(no_reason_tells_a_secret),
        TEST(names_of_keys_are_plain_words),
        TEST(a_worker_with_a_key_of_the_list_gets_in),
        TEST(tcp_without_keys_is_refused_at_both_ends),
        TEST(a_key_that_is_not_on_the_list_is_told_so_at_once),
        TEST(another_coordinators_key_does_not_get_in),
        TEST(a_plain_worker_does_not_get_in),
        TEST(a_worker_with_a_key_does_not_talk_to_a_plain_hub),
        TEST(a_key_that_is_removed_opens_nothing_any_more),
        TEST(a_list_that_others_may_write_lets_nobody_in),
        TEST(garbage_is_turned_away_and_the_worker_stays),
        TEST(oversized_frames_before_the_handshake_cost_little),
        TEST(a_crowd_holds_few_descriptors_and_a_worker_still_gets_in),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
