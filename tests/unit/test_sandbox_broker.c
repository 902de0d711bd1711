/* The broker and its cells: killed, starved of descriptors, started by callers in a bad state. */
#include "tests/unit/test_sandbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "common/cores.h"
#include "common/random.h"

#define ECHO MAIN("int c; while ((c = getchar()) != EOF) putchar(c); return 0;")

/* Children of `parent`, and with deep their children: of a broker its attendants and cells. */
static int find_children(pid_t parent, int deep, pid_t *out, int most)
{
    DIR *directory = opendir("/proc");
    struct dirent *entry;
    int n = 0;

    while (directory && (entry = readdir(directory))) {
        char path[300], line[512], state;
        int ppid;
        snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
        FILE *file = fopen(path, "r");
        if (!file)
            continue;
        const char *shut = fgets(line, sizeof(line), file) ? strrchr(line, ')') : NULL;
        if (shut && sscanf(shut + 1, " %c %d", &state, &ppid) == 2 && ppid == parent && n < most)
            out[n++] = (pid_t)strtol(line, NULL, 10);
        fclose(file);
    }
    if (directory)
        closedir(directory);
    for (int i = 0, direct = n; deep && i < direct; i++)
        n += find_children(out[i], 0, out + n, most - n);
    return n;
}

static int run_echo(struct sandbox *sandbox, const struct sandbox_program *program, int number)
{
    struct sandbox_result result;
    char input[32];
    int n = snprintf(input, sizeof(input), "run %d", number);
    int status = sandbox_run(sandbox, program, input, (size_t)n, &result);

    if (status < 0)
        return status;
    int good = result.verdict == SANDBOX_EXITED && result.exit_code == 0 &&
               result.output.length == (size_t)n &&
               memcmp(result.output.data, input, (size_t)n) == 0;
    sandbox_result_release(&result);
    return good ? 0 : 1;
}

static void killed_brokers_attendants_and_cells_give_no_wrong_verdict(void **state)
{
    struct sandbox_config config = test_config();
    struct random_stream stream = {.seed = 5};
    struct sandbox *mine = NULL;
    int n_failed = 0;

    (void)state;
    need_box();
    assert_int_equal(sandbox_create(&mine, &config), 0);
    struct sandbox *usual = box;
    box = mine;
    struct sandbox_program *program = compile(ECHO);
    for (int i = 0; i < 60; i++) {
        pid_t broker = client_hello(mine->client)->pid, victims[64];
        int n = find_children(broker, 1, victims, 64);
        if (random_below(&stream, 6) == 0)
            kill(broker, SIGKILL);
        else if (n > 0 && random_below(&stream, 2))
            kill(victims[random_below(&stream, (uint64_t)n)], SIGKILL);
        int status = run_echo(mine, program, i);
        assert_true(status <= 0);   /* right, or no verdict */
        n_failed += status < 0;
    }
    assert_true(n_failed < 30);
    assert_int_equal(run_echo(mine, program, 99), 0);
    sandbox_program_release(&program);
    box = usual;
    sandbox_destroy(&mine);
}

/* Kills the attendant that has a run going, a moment after the run began. */
static void *kill_busy_attendant(void *sandbox)
{
    pid_t broker = client_hello(((struct sandbox *)sandbox)->client)->pid;
    pid_t attendants[16], below[64];

    for (int attempt = 0; attempt < 2000; attempt++) {
        int n = find_children(broker, 0, attendants, 16);
        for (int i = 0; i < n; i++) {
            int n_cells = find_children(attendants[i], 0, below, 64);
            int n_deep = find_children(attendants[i], 1, below, 64);
            if (n_deep > n_cells) {
                poll(NULL, 0, 60);
                kill(attendants[i], SIGKILL);
                return NULL;
            }
        }
        poll(NULL, 0, 2);
    }
    return NULL;
}

static void a_run_whose_attendant_dies_starts_again_with_all_of_its_input(void **state)
{
    struct sandbox_config config = test_config();
    struct sandbox *mine = NULL;
    pthread_t killer;

    (void)state;
    need_box();
    assert_int_equal(sandbox_create(&mine, &config), 0);
    struct sandbox *usual = box;
    box = mine;
    struct sandbox_program *program = compile(
        MAIN("char b[100]; int n = read(0, b, 100); struct timespec t;"
             "do clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); while (t.tv_nsec < 200000000);"
             "return write(1, b, n) != n;"));
    assert_int_equal(pthread_create(&killer, NULL, kill_busy_attendant, mine), 0);
    assert_int_equal(run_echo(mine, program, 7), 0);
    pthread_join(killer, NULL);
    sandbox_program_release(&program);
    box = usual;
    sandbox_destroy(&mine);
}

static void a_destroyed_sandbox_leaves_no_process(void **state)
{
    struct sandbox_config config = test_config();
    struct sandbox *mine = NULL;
    pid_t all[64];

    (void)state;
    need_box();
    assert_int_equal(sandbox_create(&mine, &config), 0);
    pid_t broker = client_hello(mine->client)->pid;
    int n = find_children(broker, 1, all, 64);
    assert_true(n >= 2);
    sandbox_destroy(&mine);
    for (int i = 0; i < n; i++)
        assert_true(kill(all[i], 0) < 0 && errno == ESRCH);
}

/* In a child: 0 when a sandbox made in this state of things works. */
static int works_here(void)
{
    struct sandbox_config config = test_config();
    struct sandbox *mine = NULL;
    struct sandbox_program *program = NULL;
    struct text messages = {0};
    static const char source[] = ECHO;

    if (sandbox_create(&mine, &config) < 0)
        return 10;
    if (sandbox_compile_c(mine, source, sizeof(source) - 1, &program, &messages) < 0 || !program)
        return 11;
    int status = 0;
    for (int i = 0; i < 3 && status == 0; i++)
        status = run_echo(mine, program, i) != 0 ? 12 : 0;
    sandbox_program_release(&program);
    sandbox_destroy(&mine);
    text_release(&messages);
    return status;
}

static void expect_in_child(int (*prepare)(void))
{
    int status;

    need_box();
    pid_t pid = fork();
    if (pid == 0)
        _exit(prepare() < 0 ? 9 : works_here());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("exit code %d, signal %d", WIFEXITED(status) ? WEXITSTATUS(status) : -1,
                 WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

static int close_standard_descriptors(void)
{
    close(0);
    close(1);
    close(2);
    return 0;
}

static int ignore_children(void)
{
    signal(SIGPIPE, SIG_IGN);
    return signal(SIGCHLD, SIG_IGN) == SIG_ERR ? -1 : 0;
}

static int block_signals(void)
{
    sigset_t all;

    sigfillset(&all);
    return sigprocmask(SIG_SETMASK, &all, NULL);
}

/* Soft limits: the broker raises what it may. */
static int tighten_limits(void)
{
    static const struct {
        int resource;
        rlim_t value;
    } tight[] = {{RLIMIT_NOFILE, 16}, {RLIMIT_CORE, 0},    {RLIMIT_CPU, 60},
                 {RLIMIT_MEMLOCK, 0}, {RLIMIT_STACK, 1 << 20}, {RLIMIT_FSIZE, 1 << 20}};

    for (size_t i = 0; i < sizeof(tight) / sizeof(tight[0]); i++) {
        struct rlimit now;
        if (getrlimit(tight[i].resource, &now) < 0)
            return -1;
        now.rlim_cur = tight[i].value;
        if (setrlimit(tight[i].resource, &now) < 0)
            return -1;
    }
    return 0;
}

/* A file system without a byte left, in the place where temporary files go. */
static int fill_disk(void)
{
    if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", "/tmp", "tmpfs", 0, "size=4k,nr_inodes=2") < 0)
        return 0;
    int fd = open("/tmp/full", O_CREAT | O_WRONLY, 0600);
    if (fd >= 0) {
        char page[4096] = {1};
        (void)!write(fd, page, sizeof(page));
        close(fd);
    }
    return 0;
}

static int change_root_directory(void)
{
    return chdir("/proc");
}

static void a_caller_without_standard_descriptors_gets_verdicts(void **state)
{
    (void)state;
    expect_in_child(close_standard_descriptors);
}

static void a_caller_that_ignores_its_children_gets_verdicts(void **state)
{
    (void)state;
    expect_in_child(ignore_children);
}

static void a_caller_that_blocks_all_signals_gets_verdicts(void **state)
{
    (void)state;
    expect_in_child(block_signals);
}

static void a_caller_with_tight_limits_gets_verdicts(void **state)
{
    (void)state;
    expect_in_child(tighten_limits);
}

static void a_full_disk_changes_no_verdict(void **state)
{
    (void)state;
    expect_in_child(fill_disk);
}

static void the_working_directory_does_not_matter(void **state)
{
    (void)state;
    expect_in_child(change_root_directory);
}

static void a_forked_child_is_told_to_make_its_own(void **state)
{
    int status;

    (void)state;
    need_box();
    struct sandbox_program *program = compile(ECHO);
    pid_t pid = fork();
    if (pid == 0)
        _exit(run_echo(box, program, 1) == STATUS_UNSUPPORTED ? 0 : 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(run_echo(box, program, 2), 0);
    sandbox_program_release(&program);
}

struct crowd {
    struct sandbox_program *programs[5];
    enum sandbox_verdict wanted[5];
    int n_runs, n_wrong;
};

static void *keep_asking(void *argument)
{
    struct crowd *crowd = argument;

    for (int i = 0; i < crowd->n_runs; i++)
        for (int k = 0; k < 5; k++) {
            struct sandbox_result result;
            if (sandbox_run(box, crowd->programs[k], "", 0, &result) < 0 ||
                result.verdict != crowd->wanted[k])
                __atomic_fetch_add(&crowd->n_wrong, 1, __ATOMIC_RELAXED);
            sandbox_result_release(&result);
        }
    return NULL;
}

static void *be_busy(void *stop)
{
    while (!__atomic_load_n((int *)stop, __ATOMIC_RELAXED))
        continue;
    return NULL;
}

/* One at a time, twice the cores at a time, and the latter beside two busy loops a core. */
static void the_verdicts_do_not_depend_on_what_else_runs(void **state)
{
    static const char *const sources[5] = {
        MAIN("return 0;"), MAIN("abort();"), MAIN("for (;;) ;"),
        MAIN("for (;;) { char *p = malloc(1 << 20); if (!p) return 9; memset(p, 1, 1 << 20); }"),
        MAIN("for (;;) puts(\"more and more\");")};
    struct crowd crowd = {.wanted = {SANDBOX_EXITED, SANDBOX_SIGNALED, SANDBOX_CPU_LIMIT,
                                     SANDBOX_MEMORY_LIMIT, SANDBOX_OUTPUT_LIMIT},
                          .n_runs = 2};
    int n_cores = cores_usable(), n = n_cores > 8 ? 16 : 2 * n_cores, stop = 0;
    pthread_t askers[16], loops[32];

    (void)state;
    need_box();
    int64_t cpu_ms = box->config.cpu_ms;
    box->config.cpu_ms = 150;
    for (int k = 0; k < 5; k++)
        crowd.programs[k] = compile(sources[k]);
    keep_asking(&crowd);
    assert_int_equal(crowd.n_wrong, 0);
    for (int busy = 0; busy < 2; busy++) {
        for (int i = 0; busy && i < 2 * n; i++)
            assert_int_equal(pthread_create(&loops[i], NULL, be_busy, &stop), 0);
        for (int i = 0; i < n; i++)
            assert_int_equal(pthread_create(&askers[i], NULL, keep_asking, &crowd), 0);
        for (int i = 0; i < n; i++)
            pthread_join(askers[i], NULL);
        __atomic_store_n(&stop, busy, __ATOMIC_RELAXED);
        for (int i = 0; busy && i < 2 * n; i++)
            pthread_join(loops[i], NULL);
        assert_int_equal(crowd.n_wrong, 0);
    }
    for (int k = 0; k < 5; k++)
        sandbox_program_release(&crowd.programs[k]);
    box->config.cpu_ms = cpu_ms;
}

static void a_bundle_survives_its_own_reading(void **state)
{
    const char *const arguments[] = {"/usr/bin/cc", "-O2", "", NULL};
    const struct sandbox_file files[] = {{"main.c", "int x;\0y", 8}, {"empty.h", "", 0}};
    const struct sandbox_compilation compilation = {
        .arguments = arguments, .files = files, .n_files = 2, .output = "out.o"};
    struct text bytes = {0};
    struct bundle bundle;

    (void)state;
    assert_int_equal(bundle_write(&bytes, &compilation), 0);
    for (size_t n = 0; n < bytes.length; n++) {
        unsigned char *cut = malloc(n ? n : 1);
        memcpy(cut, bytes.data, n);
        assert_int_equal(bundle_read(&bundle, cut, n), -1);
        free(cut);
    }
    assert_int_equal(bundle_read(&bundle, (unsigned char *)bytes.data, bytes.length), 0);
    assert_string_equal(bundle.arguments[1], "-O2");
    assert_null(bundle.arguments[3]);
    assert_string_equal(bundle.output, "out.o");
    assert_int_equal(bundle.n_files, 2);
    assert_memory_equal(bundle.files[0].bytes, "int x;\0y", 8);
    assert_int_equal(bundle.files[1].n, 0);
    text_release(&bytes);
}

static void a_file_that_is_no_plain_name_is_refused(void **state)
{
    static const char *const names[] = {"../x", "/etc/x", "a/b", "", ".hidden", "-o"};
    const char *const arguments[] = {"/usr/bin/cc", NULL};

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const struct sandbox_file file = {names[i], "", 0};
        const struct sandbox_compilation compilation = {
            .arguments = arguments, .files = &file, .n_files = 1};
        struct text bytes = {0};
        assert_int_equal(bundle_write(&bytes, &compilation), STATUS_CONFIG);
        text_release(&bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_brokers_attendants_and_cells_give_no_wrong_verdict),
        cmocka_unit_test(a_run_whose_attendant_dies_starts_again_with_all_of_its_input),
        cmocka_unit_test(a_destroyed_sandbox_leaves_no_process),
        cmocka_unit_test(a_caller_without_standard_descriptors_gets_verdicts),
        cmocka_unit_test(a_caller_that_ignores_its_children_gets_verdicts),
        cmocka_unit_test(a_caller_that_blocks_all_signals_gets_verdicts),
        cmocka_unit_test(a_caller_with_tight_limits_gets_verdicts),
        cmocka_unit_test(a_full_disk_changes_no_verdict),
        cmocka_unit_test(the_working_directory_does_not_matter),
        cmocka_unit_test(a_forked_child_is_told_to_make_its_own),
        cmocka_unit_test(the_verdicts_do_not_depend_on_what_else_runs),
        cmocka_unit_test(a_bundle_survives_its_own_reading),
        cmocka_unit_test(a_file_that_is_no_plain_name_is_refused),
    };

    return cmocka_run_group_tests(tests, open_box, close_box);
}
