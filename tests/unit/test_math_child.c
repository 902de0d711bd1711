#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "math/child.h"

#define SOON_MS 20000   /* far away: reached only when something is broken */

/* Written by children, read by the test. */
static volatile int *n_served;

static void count_descriptors(struct text *reply)
{
    DIR *folder = opendir("/proc/self/fd");
    int n = 0;

    while (folder && readdir(folder))
        n++;
    if (folder)
        closedir(folder);
    text_print(reply, "%d", n - 3);   /* ".", ".." and the folder itself */
}

/* As one that gets no turn on a busy machine. */
static void stop_for(int ms)
{
    pid_t waker = fork();

    if (waker == 0) {
        poll(NULL, 0, ms);
        _exit(kill(getppid(), SIGCONT));
    }
    raise(SIGSTOP);
    waitpid(waker, NULL, 0);
}

static void work(int64_t cpu_ms)
{
    struct deadline deadline;

    deadline_start(&deadline, cpu_ms, SOON_MS);
    while (!deadline_is_over(&deadline))
        ;
}

static void serve(const struct text *request, struct text *reply)
{
    const char *what = request->data ? request->data : "";

    ++*n_served;
    if (!strcmp(what, "hang"))
        for (;;)
            pause();
    if (!strcmp(what, "work"))
        work(SOON_MS);
    if (!strcmp(what, "20 ms"))
        work(20);
    if (!strcmp(what, "wait"))
        stop_for(DEADLINE_CPU_MS + 100);
    if (!strcmp(what, "crash"))
        signal(SIGSEGV, SIG_DFL), raise(SIGSEGV);
    if (!strcmp(what, "abort"))
        signal(SIGABRT, SIG_DFL), raise(SIGABRT);
    if (!strcmp(what, "leave"))
        _exit(0);
    if (!strcmp(what, "killed") || (!strcmp(what, "killed once") && *n_served == 1))
        kill(getpid(), SIGKILL);
    if (!strcmp(what, "nonsense") && write(3, "nonsense, and more than a head of it", 36))
        return;
    if (!strcmp(what, "too long"))
        for (int i = 0; i < 1024; i++)
            text_print(reply, "%1024d", i);
    if (!strcmp(what, "closed") && close(3) == 0)
        for (;;)
            pause();
    if (!strcmp(what, "descriptors")) {
        count_descriptors(reply);
        return;
    }
    if (!strcmp(what, "memory")) {
        size_t n = (size_t)CHILD_MEMORY_BYTES + 4096;
        int refused = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
                      MAP_FAILED;
        text_print(reply, "%s", refused ? "refused" : "given");
        return;
    }
    text_append(reply, request->data, request->length);
}

static enum child_outcome ask_until(struct child *child, const char *what, char *answer, size_t n,
                                    struct deadline *deadline)
{
    struct text request = {0}, reply = {0};

    text_append(&request, what, strlen(what));
    enum child_outcome outcome = child_ask(child, &request, &reply, deadline);
    answer[0] = '\0';
    if (outcome == CHILD_OK && reply.length && reply.length < n)
        memcpy(answer, reply.data, reply.length + 1);
    text_release(&request);
    text_release(&reply);
    return outcome;
}

static enum child_outcome ask(struct child *child, const char *what, char *answer, size_t n,
                              int64_t in_ms)
{
    struct deadline deadline;

    deadline_start(&deadline, in_ms, in_ms);
    return ask_until(child, what, answer, n, &deadline);
}

static void assert_answers(struct child *child)
{
    char answer[64];

    assert_int_equal(ask(child, "an echo", answer, sizeof(answer), SOON_MS), CHILD_OK);
    assert_string_equal(answer, "an echo");
}

static int set_up(void **state)
{
    struct child *child;

    *n_served = 0;
    child_create(&child, serve);
    *state = child;
    return 0;
}

static int tear_down(void **state)
{
    struct child *child = *state;

    child_destroy(&child);
    assert_null(child);
    /* Nothing is left to be reaped. */
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    return 0;
}

static void an_answer_is_what_serve_wrote(void **state)
{
    assert_int_equal(child_pid(*state), 0);
    assert_answers(*state);
    pid_t pid = child_pid(*state);
    assert_answers(*state);
    assert_int_equal(child_pid(*state), pid);
}

static void an_empty_request_has_an_empty_answer(void **state)
{
    char answer[8] = "x";

    assert_int_equal(ask(*state, "", answer, sizeof(answer), SOON_MS), CHILD_OK);
}

static void a_long_request_comes_back_whole(void **state)
{
    struct text request = {0}, reply = {0};
    struct deadline deadline;

    deadline_start(&deadline, SOON_MS, SOON_MS);
    for (int i = 0; i < 80000; i++)
        text_print(&request, "%12d", i);
    assert_int_equal(child_ask(*state, &request, &reply, &deadline), CHILD_OK);
    assert_int_equal(reply.length, request.length);
    assert_memory_equal(reply.data, request.data, request.length);
    text_append(&request, reply.data, reply.length);   /* over the limit */
    assert_int_equal(child_ask(*state, &request, &reply, &deadline), CHILD_FAILED);
    text_release(&request);
    text_release(&reply);
}

static void a_late_child_is_killed_and_replaced(void **state)
{
    char answer[8];

    assert_int_equal(ask(*state, "hang", answer, sizeof(answer), 30), CHILD_LATE);
    assert_int_equal(child_pid(*state), 0);
    assert_answers(*state);
    assert_int_equal(*n_served, 2);
}

/* Its processor's time is over long before that on the wall. */
static void a_child_that_works_too_long_is_killed(void **state)
{
    struct deadline deadline;
    char answer[8];

    deadline_start(&deadline, DEADLINE_CPU_MS, SOON_MS);
    assert_int_equal(ask_until(*state, "work", answer, sizeof(answer), &deadline), CHILD_LATE);
    assert_true(deadline_cpu_left_us(&deadline) <= 0);
    assert_true(deadline_wall_left_ms(&deadline) > 0);
    assert_true(deadline_is_over(&deadline));
    assert_answers(*state);
}

static void a_child_that_the_machine_keeps_waiting_is_not_late(void **state)
{
    struct deadline deadline;
    char answer[8];

    deadline_start(&deadline, DEADLINE_CPU_MS, SOON_MS);
    assert_int_equal(ask_until(*state, "wait", answer, sizeof(answer), &deadline), CHILD_OK);
    assert_string_equal(answer, "wait");
    assert_false(deadline_is_over(&deadline));
    assert_int_equal(*n_served, 1);
}

static void what_the_child_works_is_charged_to_the_deadline(void **state)
{
    struct deadline deadline;
    char answer[8];

    assert_answers(*state);
    deadline_start(&deadline, SOON_MS, SOON_MS);
    int64_t before_us = deadline_cpu_left_us(&deadline);
    assert_int_equal(ask_until(*state, "20 ms", answer, sizeof(answer), &deadline), CHILD_OK);
    assert_true(before_us - deadline_cpu_left_us(&deadline) >= 20000);
}

static void a_child_that_fails_is_not_asked_again(void **state)
{
    static const char *const ways[] = {"crash", "abort", "leave", "nonsense", "too long", "closed"};
    char answer[8];

    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        *n_served = 0;
        assert_int_equal(ask(*state, ways[i], answer, sizeof(answer), SOON_MS), CHILD_FAILED);
        assert_int_equal(*n_served, 1);
        assert_answers(*state);
    }
}

static void a_child_killed_from_outside_is_asked_again_once(void **state)
{
    char answer[32];

    assert_int_equal(ask(*state, "killed once", answer, sizeof(answer), SOON_MS), CHILD_OK);
    assert_string_equal(answer, "killed once");
    assert_int_equal(*n_served, 2);
    assert_int_equal(ask(*state, "killed", answer, sizeof(answer), SOON_MS), CHILD_KILLED);
    assert_int_equal(*n_served, 4);
    assert_answers(*state);
}

/* Only then is a pid that was killed also seen as closed. */
static void wait_for_end(pid_t pid)
{
    siginfo_t how;

    assert_int_equal(waitid(P_PID, (id_t)pid, &how, WEXITED | WNOWAIT), 0);
}

static void a_child_killed_between_requests_is_replaced_unseen(void **state)
{
    char answer[32];

    assert_answers(*state);
    kill(child_pid(*state), SIGKILL);
    wait_for_end(child_pid(*state));
    *n_served = 0;
    assert_int_equal(ask(*state, "killed once", answer, sizeof(answer), SOON_MS), CHILD_OK);
    assert_int_equal(*n_served, 2);
}

/* With a descriptor for the child's end of its socket and none for anything else. */
static void a_child_that_cannot_begin_is_not_to_blame(void **state)
{
    struct rlimit before, few;
    char answer[8];
    int lowest = dup(0);

    assert_true(lowest > 2);
    close(lowest);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = (struct rlimit){(rlim_t)lowest + 2, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    enum child_outcome outcome = ask(*state, "echo", answer, sizeof(answer), SOON_MS);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(outcome, CHILD_KILLED);
    assert_int_equal(*n_served, 0);
    assert_answers(*state);
}

static void a_child_has_the_standard_streams_and_its_socket_alone(void **state)
{
    char answer[8];
    int fds[2];

    assert_int_equal(pipe(fds), 0);   /* without CLOEXEC */
    assert_int_equal(ask(*state, "descriptors", answer, sizeof(answer), SOON_MS), CHILD_OK);
    assert_string_equal(answer, "4");
    close(fds[0]);
    close(fds[1]);
}

static void a_child_cannot_have_more_than_its_memory(void **state)
{
    char answer[16];

    assert_int_equal(ask(*state, "memory", answer, sizeof(answer), SOON_MS), CHILD_OK);
    assert_string_equal(answer, "refused");
}

static void a_host_that_ignores_its_children_is_served(void **state)
{
    char answer[16];

    signal(SIGCHLD, SIG_IGN);
    assert_answers(*state);
    assert_int_equal(ask(*state, "hang", answer, sizeof(answer), 30), CHILD_LATE);
    assert_int_equal(ask(*state, "crash", answer, sizeof(answer), SOON_MS), CHILD_FAILED);
    assert_answers(*state);
    signal(SIGCHLD, SIG_DFL);
}

static void a_child_dies_with_its_parent(void **state)
{
    int fds[2];
    pid_t pid = 0;

    (void)state;
    assert_int_equal(pipe(fds), 0);
    pid_t parent = fork();
    if (parent == 0) {
        struct child *child;
        char answer[16];
        child_create(&child, serve);
        ask(child, "echo", answer, sizeof(answer), SOON_MS);
        pid = child_pid(child);
        _exit(write(fds[1], &pid, sizeof(pid)) != sizeof(pid) || pause());
    }
    assert_int_equal(read(fds[0], &pid, sizeof(pid)), sizeof(pid));
    struct pollfd gone = {.fd = pidfd_open(pid, 0), .events = POLLIN};
    assert_true(gone.fd >= 0);
    assert_int_equal(poll(&gone, 1, 0), 0);
    kill(parent, SIGKILL);
    assert_int_equal(waitpid(parent, NULL, 0), parent);
    assert_int_equal(poll(&gone, 1, SOON_MS), 1);
    close(gone.fd);
    close(fds[0]);
    close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_answer_is_what_serve_wrote, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_empty_request_has_an_empty_answer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_long_request_comes_back_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_late_child_is_killed_and_replaced, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_child_that_works_too_long_is_killed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_child_that_the_machine_keeps_waiting_is_not_late, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_the_child_works_is_charged_to_the_deadline, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_child_that_fails_is_not_asked_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_child_killed_from_outside_is_asked_again_once, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_child_killed_between_requests_is_replaced_unseen, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_child_that_cannot_begin_is_not_to_blame, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_child_has_the_standard_streams_and_its_socket_alone,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_child_cannot_have_more_than_its_memory, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_host_that_ignores_its_children_is_served, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_child_dies_with_its_parent, set_up, tear_down),
    };

    n_served = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
