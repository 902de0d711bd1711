/* A limit of a run in the sandbox that cannot be set: the verifier has no verdict, and says so. */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/integration/support_micro.h"
#include "tests/shim/limits.h"

static struct place place;
static struct limits_page *page;
static struct program hone;
static int jobs = -1;        /* what hone reads its lines from */
static int n_jobs;

static void open_page(void)
{
    int fd = open(in_place(&place, "page"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, sizeof(*page)), 0);
    page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(page != MAP_FAILED);
    page->resource = -1;
    close(fd);
}

static int make_place(void **state)
{
    (void)state;
    place_make(&place);
    open_page();
    assert_int_equal(mkfifo(in_place(&place, "jobs"), 0600), 0);
    setenv("LIMITS_PAGE", in_place(&place, "page"), 1);
    setenv("LD_PRELOAD", shim_path("limits"), 1);
    START(&hone, &place, "verify", "code", "--jsonl", "jobs");
    unsetenv("LD_PRELOAD");
    jobs = open(in_place(&place, "jobs"), O_WRONLY | O_CLOEXEC);
    assert_true(jobs >= 0);
    return 0;
}

static int remove_place(void **state)
{
    (void)state;
    close(jobs);
    assert_ends(&hone, 0, NULL);
    munmap(page, sizeof(*page));
    place_remove(&place);
    return 0;
}

/* Whether that is the outcome of a right program. Its source is new to the sandbox when `salt` is;
 * the completion around it always is, since verdicts are remembered. */
static int judges(const char *outcome, int salt)
{
    char line[1024], answer[64];
    int number = ++n_jobs;
    int n = snprintf(line, sizeof(line),
                     "{\"id\":%d,\"gold\":\"{\\\"lang\\\":\\\"c\\\",\\\"tests\\\":[{\\\"stdin\\\":"
                     "\\\"1\\\",\\\"expected_stdout\\\":\\\"1\\\"}]}\",\"pred\":\"<think>%d</think>"
                     "\\n```c\\n#include <stdio.h>\\nint main(void){return putchar(getchar()) == "
                     "%d;}\\n```\\n\"}\n", number, number, 1000 + salt);

    assert_int_equal(write(jobs, line, (size_t)n), n);
    snprintf(answer, sizeof(answer), "{\"id\":%d,", number);
    WAIT_UNTIL(SAYS(&hone, answer));
    snprintf(answer, sizeof(answer), "{\"id\":%d,\"outcome\":\"%s\"", number, outcome);
    return SAYS(&hone, answer);
}

static void need_sandbox(void)
{
    static int is_known, works;

    works = is_known ? works : judges("right", 0);
    is_known = 1;
    if (!works) {
        print_message("skipped: no sandbox here\n");
        skip();
    }
}

static void assert_verdict(const char *outcome, int salt, const char *what)
{
    if (!judges(outcome, salt)) {
        show_output(&hone);
        fail_msg("%s: the last job's outcome is not \"%s\"", what, outcome);
    }
}

/* A failed wall throws the cell away: the next run builds all of them anew. */
static void throw_cell_away(void)
{
    page->resource = RLIMIT_CPU;
    assert_verdict("verifier error", 0, "cpu");
    page->resource = -1;
}

/* No verdict while the limit cannot be set, one afterwards. Returns whether it was tried at all. */
static int strike(int resource, const char *file, int salt, const char *what)
{
    long before = page->n_struck;

    snprintf(page->file, sizeof(page->file), "%s", file);
    page->resource = resource;
    int is_right = judges("right", salt);
    int is_struck = page->n_struck > before;
    page->resource = -1;
    page->file[0] = '\0';
    if (is_right && is_struck)
        fail_msg("%s could not be limited, and the program ran", what);
    assert_verdict("right", salt, what);
    return is_struck;
}

static void a_process_limit_that_cannot_be_set_gives_no_verdict(void **state)
{
    static const struct {
        int resource;
        const char *name;
        int is_of_the_cell;
    } limits[] = {
        {RLIMIT_CPU, "cpu", 0},         {RLIMIT_FSIZE, "file size", 0},
        {RLIMIT_NOFILE, "files", 0},    {RLIMIT_NPROC, "processes", 0},
        {RLIMIT_STACK, "stack", 0},     {RLIMIT_CORE, "core", 1},
        {RLIMIT_MEMLOCK, "locked", 1},  {RLIMIT_MSGQUEUE, "queues", 1},
        {RLIMIT_SIGPENDING, "signals", 1}, {RLIMIT_RTPRIO, "priority", 1},
    };

    (void)state;
    need_sandbox();
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        if (limits[i].is_of_the_cell)
            throw_cell_away();
        if (!strike(limits[i].resource, "", 0, limits[i].name))
            fail_msg("%s was never limited", limits[i].name);
        /* The compiler's cell has them too. */
        if (!limits[i].is_of_the_cell && !strike(limits[i].resource, "", n_jobs, limits[i].name))
            fail_msg("%s of the compiler was never limited", limits[i].name);
    }
}

/* Where this machine has them. A limit that a cell has already stands, and is not written again. */
static void a_group_limit_that_cannot_be_written_gives_no_verdict(void **state)
{
    static const char *const files[] = {"memory.limit_in_bytes", "memory.max", "pids.max",
                                        "cgroup.procs", "memory.swap.max",
                                        "memory.memsw.limit_in_bytes"};
    int n_struck = 0;

    (void)state;
    need_sandbox();
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        throw_cell_away();
        n_struck += strike(-1, files[i], 0, files[i]);
    }
    print_message("%d files of control groups\n", n_struck);
    if (!n_struck)
        skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_process_limit_that_cannot_be_set_gives_no_verdict),
        cmocka_unit_test(a_group_limit_that_cannot_be_written_gives_no_verdict),
    };

    return cmocka_run_group_tests_name("integration_limits", tests, make_place, remove_place);
}
