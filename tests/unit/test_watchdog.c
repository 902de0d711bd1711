/* What the watchdog does to a process: each test makes one of its own and looks at its end. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/files.h"
#include "common/status.h"
#include "common/watchdog.h"

#define STUCK_MS 1000

static char report[64];

static void describe(struct text *out, const void *context)
{
    text_print(out, "%s\n", (const char *)context);
}

__attribute__((noinline)) static void turn_in_circles(void)
{
    for (volatile unsigned i = 0;; i++)
        continue;
}

__attribute__((noinline)) static void *sit_in_a_lock(void *mutex)
{
    pthread_mutex_lock(mutex);
    return NULL;
}

static struct watchdog *start(const char *file)
{
    static struct watchdog_options options;
    struct watchdog *watchdog;

    options = (struct watchdog_options){.stuck_ms = STUCK_MS, .setting = "run.stuck_ms",
                                        .report = file, .describe = describe,
                                        .context = "what else is known"};
    if (watchdog_start(&watchdog, &options) < 0)
        _exit(1);
    return watchdog;
}

static int end_of(pid_t pid)
{
    int result;

    assert_int_equal(waitpid(pid, &result, 0), pid);
    return WIFEXITED(result) ? WEXITSTATUS(result) : 128 + WTERMSIG(result);
}

static void a_process_that_gets_nowhere_ends_with_the_stacks_of_its_threads(void **state)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    struct text text = {0};
    pthread_t thread;

    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        start(report);
        pulse("counts sheep");
        pthread_mutex_lock(&mutex);
        if (pthread_create(&thread, NULL, sit_in_a_lock, &mutex) == 0)
            turn_in_circles();
    }
    assert_int_equal(end_of(pid), status_exit_code(STATUS_STUCK));
    assert_int_equal(file_read(report, 1 << 20, &text), STATUS_OK);
    static const char why[] = "counts sheep: no step forward for 1000 ms (run.stuck_ms)\n";
    assert_memory_equal(text.data, why, sizeof(why) - 1);
    static const char *const said[] = {"turn_in_circles", "sit_in_a_lock",
                                       "a_process_that_gets_nowhere", "what else is known"};
    for (size_t i = 0; i < sizeof(said) / sizeof(said[0]); i++)
        if (!strstr(text.data, said[i]))
            fail_msg("the report lacks %s:\n%s", said[i], text.data);
    text_release(&text);
    unlink(report);
}

static void a_report_that_cannot_be_written_does_not_keep_the_process(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        if (!freopen("/dev/null", "w", stderr))
            _exit(1);
        start("/nonexistent/stuck.txt");
        turn_in_circles();
    }
    assert_int_equal(end_of(pid), status_exit_code(STATUS_STUCK));
}

static void a_process_that_gets_on_or_stood_still_as_a_whole_is_left_alone(void **state)
{
    int result;

    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        struct watchdog *watchdog = start(report);
        for (int64_t end = clock_ms() + 2 * STUCK_MS; clock_ms() < end;)
            pulse("counts sheep");
        raise(SIGSTOP);
        watchdog_stop(&watchdog);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &result, WUNTRACED), pid);
    assert_true(WIFSTOPPED(result));
    int64_t end = clock_ms() + 2 * STUCK_MS;   /* longer than it may be stuck */
    while (clock_ms() < end)
        poll(NULL, 0, (int)(end - clock_ms()) + 1);
    assert_int_equal(kill(pid, SIGCONT), 0);
    assert_int_equal(end_of(pid), 0);
    assert_int_equal(file_exists(report), 0);
}

static int name_report(void **state)
{
    (void)state;
    snprintf(report, sizeof(report), "/tmp/hone-stuck-%ld.txt", (long)getpid());
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_process_that_gets_nowhere_ends_with_the_stacks_of_its_threads),
        cmocka_unit_test(a_report_that_cannot_be_written_does_not_keep_the_process),
        cmocka_unit_test(a_process_that_gets_on_or_stood_still_as_a_whole_is_left_alone),
    };

    return cmocka_run_group_tests(tests, name_report, NULL);
}
