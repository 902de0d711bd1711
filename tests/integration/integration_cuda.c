/* The whole program on the emulated GPU: learner, rollout workers, weights on their way. */
#include "tests/integration/support.h"

#include <limits.h>
#include <sys/wait.h>
#include <unistd.h>

/* The program of that name beside this one. */
static void find_beside(char *out, size_t size, const char *name)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

    assert_true(n > 0);
    self[n] = '\0';
    *strrchr(self, '/') = '\0';
    assert_true((size_t)snprintf(out, size, "%s/%s", self, name) < size);
}

static void a_run_on_the_gpu_has_the_metrics_of_one_on_the_cpu(void **state)
{
    char hone[PATH_MAX];
    struct place place;
    int status = -1;

    (void)state;
    find_beside(hone, sizeof(hone), "hone_emulated");
    place_make(&place);
    pid_t child = fork();
    if (child == 0) {
        execl("tools/compare_devices", "compare_devices", hone, place.directory, "cuda", "--set",
              "sft.batch_tokens=64", "--set", "sft.max_steps=2", "--set", "grpo.max_steps=2",
              "--set", "grpo.tasks_per_step=2", "--set", "eval.n_tasks=1", "--set",
              "rollout.max_completion_length=16", (char *)NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    place_remove(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_on_the_gpu_has_the_metrics_of_one_on_the_cpu),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
