/* Runs over tcp://: who gets in, what strangers can do, and where secrets are not. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/integration/support.h"
#include "tests/integration/support_link.h"

#define WRONG_USAGE 2
#define PEER_GONE 6
#define N_STRANGERS 1000   /* HONE_TEST_CONNECTIONS=10000 in the environment for more */

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

static char *secret_of(const char *key)
{
    struct text text = {0};

    assert_int_equal(file_read(in_place(&place, "%s", key), 4096, &text), STATUS_OK);
    char *secret = mem_copy_text(strstr(text.data, "secret ") + 7);
    secret[strcspn(secret, "\n")] = '\0';
    text_release(&text);
    return secret;
}

static int holds(const char *path, const char *secret)
{
    struct text text = {.maximum = (size_t)1 << 30};
    int found = file_read(path, (size_t)1 << 30, &text) == STATUS_OK &&
                memmem(text.data, text.length, secret, strlen(secret)) != NULL;

    text_release(&text);
    return found;
}

/* Files of the tree that hold the secret, but for those that are meant to. */
static int count_leaks(const char *directory, const char *secret)
{
    DIR *stream = opendir(directory);
    struct dirent *entry;
    int n = 0;

    assert_non_null(stream);
    while ((entry = readdir(stream))) {
        char path[FILE_PATH_MAX];
        struct stat info;
        if (entry->d_name[0] == '.')
            continue;
        assert_int_equal(file_join(path, directory, entry->d_name), STATUS_OK);
        if (lstat(path, &info))
            continue;
        if (S_ISDIR(info.st_mode) && strcmp(entry->d_name, "keys") != 0)
            n += count_leaks(path, secret);
        else if (S_ISREG(info.st_mode))
            n += holds(path, secret);
    }
    closedir(stream);
    return n;
}

static int process_holds(pid_t pid, const char *what, const char *secret)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%ld/%s", (long)pid, what);
    return holds(path, secret);
}

/* Long steps, so that there is a middle. */
#define TCP_RUN(program, run, setting, ...)                                                        \
    START((program), &place, "run", "--run", run, "--stage", "zero", "--set", setting, __VA_ARGS__)

static void a_worker_from_elsewhere_with_its_key_in_the_environment_works(void **state)
{
    struct program program, worker;
    struct text text = {0};
    char setting[64];
    int port = link_free_port();

    (void)state;
    place_copy(&place, "run/base", "run/tcp");
    snprintf(setting, sizeof(setting), "run.endpoint=tcp://127.0.0.1:%d", port);
    TCP_RUN(&program, "run/tcp", setting, "--set", "rollout.workers=0");
    WAIT_UNTIL(file_exists(in_place(&place, "run/tcp/keys/worker.key")));
    WAIT_UNTIL(SAYS(&program, "workers on other machines connect"));
    char *secret = secret_of("run/tcp/keys/worker.key");
    assert_int_equal(file_read(in_place(&place, "run/tcp/keys/worker.key"), 4096, &text),
                     STATUS_OK);
    setenv("HONE_WORKER_KEY", text.data, 1);
    START(&worker, &place, "worker", "rollout", "--connect", setting + strlen("run.endpoint="),
          "--config", "run/tcp/config.yaml", "--stage", "zero", "--name", "elsewhere");
    unsetenv("HONE_WORKER_KEY");
    WAIT_UNTIL(SAYS(&worker, "coordinator at"));
    assert_false(process_holds(worker.pid, "environ", secret));
    assert_false(process_holds(worker.pid, "cmdline", secret));
    pid_t reward = find_worker(&place, "reward-0");
    if (reward > 0) {   /* a local one: its key is a file, named in its arguments */
        assert_false(process_holds(reward, "environ", secret));
        assert_false(process_holds(reward, "cmdline", secret));
    }
    assert_ends(&program, 0, "stage zero is done");
    assert_ends(&worker, 0, NULL);
    assert_same_runs(&place, "run/quiet", "run/tcp");
    char *hub = secret_of("run/tcp/keys/hub.key");
    assert_int_equal(count_leaks(place.directory, secret), 0);
    assert_int_equal(count_leaks(place.directory, hub), 0);
    text_release(&text);
    mem_free(secret);
    mem_free(hub);
}

static void a_worker_without_the_right_key_ends_with_one_clear_line(void **state)
{
    struct program program, worker;
    char setting[64], stranger[FILE_PATH_MAX];
    const char *endpoint = setting + strlen("run.endpoint=");

    (void)state;
    place_copy(&place, "run/base", "run/wrong");
    snprintf(setting, sizeof(setting), "run.endpoint=tcp://127.0.0.1:%d", link_free_port());
    TCP_RUN(&program, "run/wrong", setting, "--set", "rollout.workers=0");
    WAIT_UNTIL(SAYS(&program, "workers on other machines connect"));
    place_copy(&place, "run/wrong/config.yaml", "config.yaml");
#define WORKER(...)                                                                                \
    HONE(&worker, &place, "worker", "rollout", "--connect", endpoint, "--config", "config.yaml",   \
         "--stage", "zero", "--lost-ms", "1500", __VA_ARGS__)
    WORKER("--name", "keyless");
    assert_ends(&worker, WRONG_USAGE, "needs keys");
    WORKER("--key", "nowhere.key");
    assert_ends(&worker, 5, "cannot open key file nowhere.key");
    HONE(&worker, &place, "keys", "other");
    assert_ends(&worker, 0, "let in:");
    WORKER("--key", "other/worker.key");   /* knows another coordinator */
    assert_ends(&worker, PEER_GONE, "another coordinator's");
    snprintf(stranger, sizeof(stranger), "%s", in_place(&place, "other/worker.key"));
    assert_int_equal(chmod(stranger, 0644), 0);
    WORKER("--key", "other/worker.key");
    assert_ends(&worker, WRONG_USAGE, "chmod 600");
    HONE(&worker, &place, "keys", "run/wrong/keys", "--add", "late");
    assert_ends(&worker, 0, "late");
    HONE(&worker, &place, "keys", "run/wrong/keys", "--remove", "worker");
    assert_ends(&worker, 0, "late");
    WORKER("--key", "run/wrong/keys/late.key", "--name", "late");   /* joins a run that goes on */
    assert_ends(&worker, 0, NULL);
    assert_ends(&program, 0, "stage zero is done");
    assert_true(SAYS(&program, "turned away"));
    assert_same_runs(&place, "run/quiet", "run/wrong");
}

static void a_plain_endpoint_needs_insecure_and_is_warned_of(void **state)
{
    struct program program;

    (void)state;
    place_copy(&place, "run/base", "run/plain");
    HONE(&program, &place, "run", "--run", "run/plain", "--stage", "zero", "--set",
         "run.endpoint=tcp://127.0.0.1:*", "--set", "run.insecure=true");
    assert_ends(&program, 0, "stage zero is done");
    assert_int_equal(count_lines(&program, "is plain (run.insecure)"), 1 + 3);   /* and workers */
    assert_false(file_exists(in_place(&place, "run/plain/keys")));
    assert_same_runs(&place, "run/quiet", "run/plain");
}

/* ---- Strangers at the port, while the run goes on. */

static int dial(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    address.sin_port = htons((uint16_t)port);
    connect(fd, (struct sockaddr *)&address, sizeof(address));
    return fd;
}

/* Half a greeting, a whole one with the head of a frame of 64 MiB, a web request, nothing. */
static void pester(int fd, int turn)
{
    static const char greeting[64] = "\xff\0\0\0\0\0\0\0\0\x7f\3\1CURVE";
    static const char head[] = "\x06\0\0\0\0\x03\xff\xff\xff";
    static char block[65536];

    if (turn % 4 == 0)
        send(fd, greeting, 10, MSG_NOSIGNAL);
    if (turn % 4 == 1)
        send(fd, "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL);
    if (turn % 4 == 2) {
        send(fd, greeting, sizeof(greeting), MSG_NOSIGNAL);
        send(fd, head, sizeof(head) - 1, MSG_NOSIGNAL);
        for (int i = 0; i < 64; i++)
            send(fd, block, sizeof(block), MSG_NOSIGNAL);
    }
}

static long peak_kib(pid_t pid)
{
    char path[64], line[256];
    long kib = 0;

    snprintf(path, sizeof(path), "/proc/%ld/status", (long)pid);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof(line), file))
        if (strncmp(line, "VmHWM:", 6) == 0)
            kib = strtol(line + 6, NULL, 10);
    if (file)
        fclose(file);
    return kib;
}

static void a_thousand_strangers_change_nothing_and_cost_little(void **state)
{
    const char *wanted = getenv("HONE_TEST_CONNECTIONS");
    int n = wanted ? (int)strtol(wanted, NULL, 10) : N_STRANGERS, port = link_free_port();
    int *fds = mem_alloc((size_t)n, sizeof(int));
    struct program program;
    char setting[64];
    long peak = 0;

    (void)state;
    place_copy(&place, "run/base", "run/crowd");
    snprintf(setting, sizeof(setting), "run.endpoint=tcp://127.0.0.1:%d", port);
    TCP_RUN(&program, "run/crowd", setting, "--set", "zero:grpo.max_steps=4");
    WAIT_UNTIL(SAYS(&program, "workers on other machines connect"));
    long before = peak_kib(program.pid);
    for (int i = 0; i < n; i++) {
        fds[i] = dial(port);
        assert_true(fds[i] >= 0);
        pester(fds[i], i);
    }
    for (int i = 0; i < n && is_running(&program); i++) {
        pester(fds[i], i);
        if (i % 100 == 0)
            peak = peak_kib(program.pid) > peak ? peak_kib(program.pid) : peak;
    }
    assert_ends(&program, 0, "stage zero is done");
    assert_true(peak - before < 512 << 10);
    for (int i = 0; i < n; i++)
        close(fds[i]);
    mem_free(fds);
    assert_true(count_lines(&program, "turned away") <= 12);   /* not a line each */
    assert_same_runs(&place, "run/quiet", "run/crowd");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_worker_from_elsewhere_with_its_key_in_the_environment_works),
        cmocka_unit_test(a_worker_without_the_right_key_ends_with_one_clear_line),
        cmocka_unit_test(a_plain_endpoint_needs_insecure_and_is_warned_of),
        cmocka_unit_test(a_thousand_strangers_change_nothing_and_cost_little),
    };

    return cmocka_run_group_tests_name("integration_keys", tests, make_place, remove_place);
}
