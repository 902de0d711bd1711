#include "tests/unit/test_sandbox.h"

#include <dirent.h>
#include <errno.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void output_reaches_the_caller(void **state)
{
    struct sandbox_result result;

    (void)state;
    run_with(MAIN("puts(\"hello\"); fputs(\"oops\", stderr); return 0;"), "", 0, &result);
    assert_int_equal(result.verdict, SANDBOX_EXITED);
    assert_int_equal(result.exit_code, 0);
    assert_string_equal(result.output.data, "hello\n");
    assert_string_equal(result.errors.data, "oops");
    assert_true(result.peak_bytes > 0);
    sandbox_result_release(&result);
}

static void exit_code_is_reported(void **state)
{
    (void)state;
    run_expecting(MAIN("return 42;"), SANDBOX_EXITED, 42);
}

static void input_arrives_whole_with_zero_bytes(void **state)
{
    struct sandbox_result result;
    char input[60000];

    (void)state;
    for (size_t i = 0; i < sizeof(input); i++)
        input[i] = (char)(i * 7);
    run_with(MAIN("int c; while ((c = getchar()) != EOF) putchar(c); return 0;"), input,
             sizeof(input), &result);
    assert_int_equal(result.output.length, sizeof(input));
    assert_memory_equal(result.output.data, input, sizeof(input));
    sandbox_result_release(&result);
}

static void unread_input_does_not_block(void **state)
{
    struct sandbox_result result;
    char *input = calloc(1, 4 << 20);

    (void)state;
    need_box();
    run_with(MAIN("puts(\"1\"); return 0;"), input, 4 << 20, &result);
    assert_int_equal(result.verdict, SANDBOX_EXITED);
    assert_string_equal(result.output.data, "1\n");
    sandbox_result_release(&result);
    free(input);
}

static void a_fault_is_a_signal(void **state)
{
    (void)state;
    run_expecting(MAIN("volatile int *p = 0; return *p;"), SANDBOX_SIGNALED, SIGSEGV);
}

static void abort_is_sigabrt(void **state)
{
    (void)state;
    run_expecting(MAIN("abort();"), SANDBOX_SIGNALED, SIGABRT);
}

static void a_signal_of_its_own_is_no_limit(void **state)
{
    (void)state;
    run_expecting(MAIN("raise(SIGKILL); return 0;"), SANDBOX_SIGNALED, SIGKILL);
    run_expecting(MAIN("raise(SIGXCPU); return 0;"), SANDBOX_SIGNALED, SIGXCPU);
}

static void a_loop_meets_the_cpu_limit(void **state)
{
    (void)state;
    need_box();
    box->config.cpu_ms = 200;
    struct sandbox_result result;
    run_with(MAIN("for (;;) ;"), "", 0, &result);
    assert_int_equal(result.verdict, SANDBOX_CPU_LIMIT);
    assert_in_range(result.cpu_ms, 200, 999);   /* not the kernel's limit of whole seconds */
    sandbox_result_release(&result);
    run_expecting(HEADERS "static void *spin(void *x) { for (;;) ; return x; }\n"
                          "int main(void) { pthread_t t; for (int i = 0; i < 3; i++)"
                          " pthread_create(&t, 0, spin, 0); pause(); return 0; }\n",
                  SANDBOX_CPU_LIMIT, 0);
    box->config.cpu_ms = test_config().cpu_ms;
}

static void cpu_time_is_counted_when_the_wall_limit_ends_a_run(void **state)
{
    struct sandbox_result result;

    (void)state;
    need_box();
    box->config.wall_ms = 1000;
    run_with(MAIN("struct timespec t; do clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);"
                  " while (t.tv_sec == 0 && t.tv_nsec < 50000000); sleep(100); return 0;"),
             "", 0, &result);
    assert_int_equal(result.verdict, SANDBOX_WALL_LIMIT);
    assert_true(result.cpu_ms >= 50);
    sandbox_result_release(&result);
    box->config.wall_ms = test_config().wall_ms;
}

static void a_sleeper_meets_the_wall_limit(void **state)
{
    (void)state;
    need_box();
    box->config.wall_ms = 400;
    run_expecting(MAIN("sleep(100); return 0;"), SANDBOX_WALL_LIMIT, 0);
    run_expecting(MAIN("raise(SIGSTOP); return 0;"), SANDBOX_WALL_LIMIT, 0);
    run_expecting(MAIN("signal(SIGTERM, SIG_IGN); close(1); close(2); sleep(100); return 0;"),
                  SANDBOX_WALL_LIMIT, 0);
    box->config.wall_ms = test_config().wall_ms;
}

static void a_memory_hog_meets_the_memory_limit(void **state)
{
    (void)state;
    run_expecting(MAIN("for (;;) { char *p = malloc(1 << 20); if (!p) return 9;"
                       " memset(p, 1, 1 << 20); }"),
                  SANDBOX_MEMORY_LIMIT, 0);
}

static void output_at_the_cap_is_whole_and_one_more_is_too_much(void **state)
{
    struct sandbox_result result;

    (void)state;
    run_with(MAIN("for (int i = 0; i < 65536; i++) putchar('x'); return 0;"), "", 0, &result);
    assert_int_equal(result.verdict, SANDBOX_EXITED);
    assert_int_equal(result.output.length, 65536);
    sandbox_result_release(&result);
    run_with(MAIN("for (int i = 0; i < 65537; i++) putchar('x'); return 0;"), "", 0, &result);
    assert_int_equal(result.verdict, SANDBOX_OUTPUT_LIMIT);
    assert_int_equal(result.output.length, 65536);
    sandbox_result_release(&result);
}

static void a_flood_meets_the_output_limit(void **state)
{
    (void)state;
    run_expecting(MAIN("for (;;) puts(\"flood\");"), SANDBOX_OUTPUT_LIMIT, 0);
    run_expecting(MAIN("for (;;) fputs(\"flood of errors, one after another\\n\", stderr);"),
                  SANDBOX_OUTPUT_LIMIT, 0);
}

static void many_errors_keep_the_first_bytes(void **state)
{
    struct sandbox_result result;

    (void)state;
    run_with(MAIN("for (int i = 0; i < 10000; i++) fprintf(stderr, \"line %d\\n\", i);"
                  " puts(\"ok\"); return 0;"),
             "", 0, &result);
    assert_int_equal(result.verdict, SANDBOX_EXITED);
    assert_string_equal(result.output.data, "ok\n");
    assert_int_equal(result.errors.length, 16384);
    assert_memory_equal(result.errors.data, "line 0\nline 1\n", 14);
    sandbox_result_release(&result);
}

static void threads_work_up_to_the_limit(void **state)
{
    struct sandbox_result result;

    (void)state;
    run_with(HEADERS "static void *hold(void *x) { pause(); return x; }\n"
                     "int main(void) { pthread_t t; int n = 1; while (n < 100 &&"
                     " pthread_create(&t, 0, hold, 0) == 0) n++; printf(\"%d\", n); return 0; }\n",
             "", 0, &result);
    assert_int_equal(result.verdict, SANDBOX_EXITED);
    assert_string_equal(result.output.data, "4");
    sandbox_result_release(&result);
}

static void a_leftover_thread_ends_with_the_program(void **state)
{
    (void)state;
    run_expecting(HEADERS "static void *hold(void *x) { sleep(100); return x; }\n"
                          "int main(void) { pthread_t t; pthread_create(&t, 0, hold, 0);"
                          " return 0; }\n",
                  SANDBOX_EXITED, 0);
}

static void bytes_that_are_no_program_are_their_own_fault(void **state)
{
    struct sandbox_result result;
    int fd;

    (void)state;
    need_box();
    assert_int_equal(memfd_make(&fd, "program"), 0);
    assert_int_equal(memfd_fill(fd, "no program at all", 17), 0);
    struct sandbox_program *program = program_create(SANDBOX_NATIVE, fd);
    assert_int_equal(sandbox_run(box, program, "", 0, &result), 0);
    assert_int_equal(result.verdict, SANDBOX_EXITED);
    assert_int_equal(result.exit_code, 127);
    assert_non_null(strstr(result.errors.data, "cannot be executed"));
    sandbox_result_release(&result);
    sandbox_program_release(&program);
}

static int count_entries(const char *path, const char *prefix)
{
    DIR *directory = opendir(path);
    struct dirent *entry;
    int n = 0;

    while (directory && (entry = readdir(directory)))
        n += strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
    if (directory)
        closedir(directory);
    return n;
}

static int count_mounts(void)
{
    FILE *file = fopen("/proc/self/mountinfo", "r");
    int n = 0, c;

    while (file && (c = getc(file)) != EOF)
        n += c == '\n';
    if (file)
        fclose(file);
    return n;
}

static void two_hundred_runs_leave_nothing(void **state)
{
    struct sandbox_result result;

    (void)state;
    need_box();
    struct sandbox_program *program = compile(MAIN("return 0;"));
    int descriptors = count_entries("/proc/self/fd", "");
    int mounts = count_mounts();
    for (int i = 0; i < 200; i++) {
        assert_int_equal(sandbox_run(box, program, "", 0, &result), 0);
        assert_int_equal(result.verdict, SANDBOX_EXITED);
        sandbox_result_release(&result);
    }
    assert_int_equal(count_entries("/proc/self/fd", ""), descriptors);
    assert_int_equal(count_mounts(), mounts);
    assert_int_equal(waitpid(-1, NULL, __WALL | WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    sandbox_program_release(&program);
}

static struct sandbox_program *shared_program;

static void *run_many(void *number)
{
    struct sandbox_result result;
    char input[32];
    int n = snprintf(input, sizeof(input), "thread %d", *(int *)number);

    for (int i = 0; i < 10; i++) {
        if (sandbox_run(box, shared_program, input, (size_t)n, &result) < 0)
            return (void *)status_reason();
        int good = result.verdict == SANDBOX_EXITED && result.output.length == (size_t)n &&
                   memcmp(result.output.data, input, (size_t)n) == 0;
        sandbox_result_release(&result);
        if (!good)
            return "wrong output";
    }
    return NULL;
}

static void threads_of_the_caller_do_not_disturb_each_other(void **state)
{
    pthread_t threads[4];
    int numbers[4];

    (void)state;
    need_box();
    shared_program = compile(MAIN("int c; while ((c = getchar()) != EOF) putchar(c); return 0;"));
    for (int i = 0; i < 4; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, run_many, &numbers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        void *complaint = NULL;
        pthread_join(threads[i], &complaint);
        assert_null(complaint);
    }
    sandbox_program_release(&shared_program);
}

static void a_caller_that_ignores_children_still_gets_verdicts(void **state)
{
    (void)state;
    signal(SIGCHLD, SIG_IGN);
    run_expecting(MAIN("return 5;"), SANDBOX_EXITED, 5);
    signal(SIGCHLD, SIG_DFL);
}

/* Steps of other levels, kinds or of a compilation are never reached by a plain run. */
static int is_reached(int step)
{
    return step != BOX_STEP_BIND && step != BOX_STEP_INTERPRETER && step != BOX_STEP_SCRATCH &&
           step != BOX_STEP_SOURCE && step != BOX_STEP_RESULT && step != BOX_STEP_NAMESPACE &&
           step != BOX_STEP_REQUEST;
}

static void a_wall_that_cannot_be_built_runs_nothing(void **state)
{
    struct sandbox_result result;

    (void)state;
    need_box();
    struct sandbox_program *program = compile(MAIN("return 0;"));
    for (int step = 0; step < N_FAULTS; step++) {
        box->fault = 1 + step;
        int status = sandbox_run(box, program, "", 0, &result);
        box->fault = 0;
        if (is_reached(step) && status == 0)
            fail_msg("ran although this failed: %s", box_step_text(step));
        sandbox_result_release(&result);
        if (status < 0 && step < N_BOX_STEPS)
            assert_non_null(strstr(status_reason(), box_step_text(step)));
        assert_int_equal(sandbox_run(box, program, "", 0, &result), 0);
        assert_int_equal(result.verdict, SANDBOX_EXITED);
        sandbox_result_release(&result);
    }
    sandbox_program_release(&program);
}

static void a_compilation_whose_walls_fail_gives_no_verdict(void **state)
{
    static const int steps[] = {BOX_STEP_BIND, BOX_STEP_SCRATCH, BOX_STEP_SOURCE, BOX_STEP_RESULT,
                                BOX_STEP_FILTER, BOX_STEP_LIMITS, BOX_STEP_EXEC};
    struct sandbox_program *program = NULL;
    struct text messages = {0};

    (void)state;
    need_box();
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        box->fault = 1 + steps[i];
        int status = sandbox_compile_c(box, "int main(void){}", 16, &program, &messages);
        box->fault = 0;
        assert_true(status < 0);
        assert_null(program);
        assert_non_null(strstr(status_reason(), box_step_text(steps[i])));
    }
    text_release(&messages);
    program = compile(MAIN("return 0;"));
    sandbox_program_release(&program);
}

static void a_filter_that_lets_all_pass_is_found_by_the_probes(void **state)
{
    struct sock_filter allow_all = {.code = BPF_RET | BPF_K, .k = SECCOMP_RET_ALLOW};
    struct box_host host = {.config = box ? box->config : test_config()};
    struct attendant attendant = {.host = &host, .channel = -1};

    (void)state;
    need_box();
    assert_int_equal(broker_examine(&host), 0);
    struct sock_fprog filter = host.filters[0];
    host.filters[0] = (struct sock_fprog){1, &allow_all};
    assert_int_equal(sandbox_prove_walls(&attendant), STATUS_UNSUPPORTED);
    assert_non_null(strstr(status_reason(), "system call filter"));
    attendant_release(&attendant);
    host.filters[0] = filter;
    assert_int_equal(sandbox_prove_walls(&attendant), 0);
    attendant_release(&attendant);
    for (int i = 0; i < N_FILTERS; i++)
        filter_release(&host.filters[i]);
    close(host.turns[0]);
    close(host.turns[1]);
}

/* The tests between run in a sandbox of a lower level. */
static struct sandbox *take_level(int level)
{
    struct sandbox_config config = test_config();
    struct sandbox *usual = box;

    config.min_level = config.max_level = level;
    if (sandbox_create(&box, &config) < 0) {
        box = usual;
        fail_msg("%s", status_reason());
    }
    assert_int_equal(sandbox_level(box), level);
    return usual;
}

static void give_level(struct sandbox *usual)
{
    sandbox_destroy(&box);
    box = usual;
}

static void the_walls_hold_without_a_cgroup(void **state)
{
    (void)state;
    need_box();
    struct sandbox *usual = take_level(2);
    run_expecting(MAIN("for (;;) { char *p = malloc(1 << 20); if (!p) abort();"
                       " memset(p, 1, 1 << 20); }"),
                  SANDBOX_MEMORY_LIMIT, 0);
    run_expecting(MAIN("return 3;"), SANDBOX_EXITED, 3);
    give_level(usual);
}

static void the_walls_hold_without_namespaces(void **state)
{
    (void)state;
    need_box();
    if (landlock_version() < 1)
        skip();
    struct sandbox *usual = take_level(1);
    run_expecting(MAIN("return 3;"), SANDBOX_EXITED, 3);
    run_expecting(MAIN("return open(\"/etc/passwd\", O_RDONLY) >= 0;"), SANDBOX_EXITED, 0);
    run_expecting(MAIN("return open(\"/proc/self/status\", O_RDONLY) >= 0;"), SANDBOX_EXITED, 0);
    run_expecting(MAIN("return open(\"/tmp/x\", O_CREAT | O_WRONLY, 0600) >= 0;"), SANDBOX_EXITED,
                  0);
    run_expecting(MAIN("return kill(getppid(), SIGKILL) == 0;"),
                  SANDBOX_EXITED, 0);
    run_expecting(MAIN("return fork() >= 0;"), SANDBOX_EXITED, 0);
    run_expecting(MAIN("return socket(2, 2, 0) >= 0;"), SANDBOX_EXITED, 0);
    run_expecting(MAIN("syscall(SYS_ptrace, 16, getppid(), 0, 0); return 0;"), SANDBOX_VIOLATION,
                  0);
    run_expecting(MAIN("abort();"), SANDBOX_SIGNALED, SIGABRT);
    box->config.cpu_ms = 200;
    run_expecting(MAIN("for (;;) ;"), SANDBOX_CPU_LIMIT, 0);
    give_level(usual);
}

static void a_shortage_of_descriptors_fails_and_leaks_none(void **state)
{
    struct sandbox_result result;
    struct rlimit before, tight;
    int succeeded = 0;

    (void)state;
    need_box();
    struct sandbox_program *program = compile(MAIN("return 0;"));
    int open_now = count_entries("/proc/self/fd", "");
    getrlimit(RLIMIT_NOFILE, &before);
    for (rlim_t n = 3; n < 40 && !succeeded; n++) {
        tight = (struct rlimit){n, before.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
        int status = sandbox_run(box, program, "", 0, &result);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        assert_int_equal(count_entries("/proc/self/fd", ""), open_now);
        if (status < 0)
            continue;
        assert_int_equal(result.verdict, SANDBOX_EXITED);
        sandbox_result_release(&result);
        succeeded = 1;
    }
    assert_true(succeeded);
    sandbox_program_release(&program);
}

static int live_as_ordinary_user(int level)
{
    struct sandbox_config config = test_config();
    struct sandbox *mine = NULL;
    struct sandbox_program *program = NULL;
    struct sandbox_result result;
    struct text messages = {0};
    static const char hog[] = MAIN("for (;;) { char *p = malloc(1 << 20); if (!p) return 9;"
                                   " memset(p, 1, 1 << 20); }");

    if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
        return 1;
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    config.min_level = config.max_level = level;
    if (sandbox_create(&mine, &config) < 0) {
        print_message("%s\n", status_reason());
        return host_has_namespaces() ? 2 : 77;
    }
    if (sandbox_compile_c(mine, hog, sizeof(hog) - 1, &program, &messages) < 0 || !program)
        return 3;
    if (sandbox_run(mine, program, "", 0, &result) < 0)
        return 4;
    int good = result.verdict == SANDBOX_MEMORY_LIMIT || result.exit_code == 9;
    sandbox_result_release(&result);
    sandbox_program_release(&program);
    text_release(&messages);
    sandbox_destroy(&mine);
    return good ? 0 : 5;
}

static void expect_ordinary(int level)
{
    int status;

    need_box();
    if (geteuid() != 0 || (level == 1 && landlock_version() < 6))
        skip();
    pid_t pid = fork();
    if (pid == 0)
        _exit(live_as_ordinary_user(level));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void an_ordinary_user_gets_the_same_walls(void **state)
{
    (void)state;
    expect_ordinary(2);
}

static void an_ordinary_user_gets_walls_without_namespaces(void **state)
{
    (void)state;
    expect_ordinary(1);
}

static void a_missing_compiler_is_named(void **state)
{
    struct sandbox_config config = test_config();
    struct sandbox *none = NULL;

    (void)state;
    need_box();
    snprintf(config.compiler, sizeof(config.compiler), "/usr/bin/no-such-compiler");
    assert_int_equal(sandbox_create(&none, &config), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "/usr/bin/no-such-compiler"));
    assert_null(none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(output_reaches_the_caller),
        cmocka_unit_test(exit_code_is_reported),
        cmocka_unit_test(input_arrives_whole_with_zero_bytes),
        cmocka_unit_test(unread_input_does_not_block),
        cmocka_unit_test(a_fault_is_a_signal),
        cmocka_unit_test(abort_is_sigabrt),
        cmocka_unit_test(a_signal_of_its_own_is_no_limit),
        cmocka_unit_test(a_loop_meets_the_cpu_limit),
        cmocka_unit_test(cpu_time_is_counted_when_the_wall_limit_ends_a_run),
        cmocka_unit_test(a_sleeper_meets_the_wall_limit),
        cmocka_unit_test(a_memory_hog_meets_the_memory_limit),
        cmocka_unit_test(output_at_the_cap_is_whole_and_one_more_is_too_much),
        cmocka_unit_test(a_flood_meets_the_output_limit),
        cmocka_unit_test(many_errors_keep_the_first_bytes),
        cmocka_unit_test(threads_work_up_to_the_limit),
        cmocka_unit_test(a_leftover_thread_ends_with_the_program),
        cmocka_unit_test(bytes_that_are_no_program_are_their_own_fault),
        cmocka_unit_test(two_hundred_runs_leave_nothing),
        cmocka_unit_test(threads_of_the_caller_do_not_disturb_each_other),
        cmocka_unit_test(a_caller_that_ignores_children_still_gets_verdicts),
        cmocka_unit_test(a_wall_that_cannot_be_built_runs_nothing),
        cmocka_unit_test(a_compilation_whose_walls_fail_gives_no_verdict),
        cmocka_unit_test(a_filter_that_lets_all_pass_is_found_by_the_probes),
        cmocka_unit_test(the_walls_hold_without_a_cgroup),
        cmocka_unit_test(the_walls_hold_without_namespaces),
        cmocka_unit_test(a_shortage_of_descriptors_fails_and_leaks_none),
        cmocka_unit_test(an_ordinary_user_gets_the_same_walls),
        cmocka_unit_test(an_ordinary_user_gets_walls_without_namespaces),
        cmocka_unit_test(a_missing_compiler_is_named),
    };

    return cmocka_run_group_tests(tests, open_box, close_box);
}
