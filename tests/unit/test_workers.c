/* The local workers of a run. This program is their program too: "worker ROLE --connect FILE --name
 * N ..." notes in the file when it is there, and each time that it is told to end. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/files.h"
#include "common/log.h"
#include "common/status.h"
#include "pipeline/workers.h"

#define DEADLINE_MS 60000

static char notes[] = "/tmp/hone-workers-XXXXXX";

static int has_note(const char *file, const char *note)
{
    struct text text = {0};
    int has = file_read(file, 4096, &text) == STATUS_OK && strstr(text.data, note) != NULL;

    text_release(&text);
    return has;
}

static int await_note(const char *file, const char *note)
{
    int64_t end = clock_ms() + DEADLINE_MS;

    while (!has_note(file, note))
        if (clock_ms() > end)
            return 0;
    return 1;
}

static void add_note(const char *file, const char *name, const char *what)
{
    int fd = open(file, O_WRONLY | O_APPEND | O_CLOEXEC);

    if (fd < 0 || dprintf(fd, "%s %s\n", name, what) < 0)
        _exit(1);
    close(fd);
}

/* The first one ends when the second one was told to as well; the second one never does. */
static int work(const char *file, const char *name)
{
    sigset_t end;

    sigemptyset(&end);
    sigaddset(&end, SIGTERM);
    sigprocmask(SIG_BLOCK, &end, NULL);
    add_note(file, name, "is there");
    for (int number; sigwait(&end, &number) == 0;) {
        add_note(file, name, "is told to end");
        if (strcmp(name, "rollout-0") == 0)
            return !await_note(file, "rollout-1 is told to end");
    }
    return 1;
}

static void a_worker_is_told_to_end_once(void **state)
{
    const struct worker_command command = {"/proc/self/exe", notes, "", "", ""};
    struct workers *workers;
    struct text text = {0};

    (void)state;
    assert_int_equal(workers_create(&workers, &command), STATUS_OK);
    assert_int_equal(workers_set_count(workers, WORKER_ROLLOUT, 2), STATUS_OK);
    assert_true(await_note(notes, "rollout-0 is there"));
    assert_true(await_note(notes, "rollout-1 is there"));
    workers_destroy(&workers);
    assert_int_equal(file_read(notes, 4096, &text), STATUS_OK);
    const char *told = strstr(text.data, "rollout-1 is told to end");
    assert_non_null(told);
    assert_null(strstr(told + 1, "rollout-1 is told to end"));
    text_release(&text);
}

static int make_notes(void **state)
{
    (void)state;
    return close(mkstemp(notes));
}

static int remove_notes(void **state)
{
    (void)state;
    return unlink(notes);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_worker_is_told_to_end_once)};

    if (argc > 6 && strcmp(argv[1], "worker") == 0)
        return work(argv[4], argv[6]);
    return cmocka_run_group_tests(tests, make_notes, remove_notes);
}
