/* The whole program on the emulated GPU: learner, rollout workers, weights on their way. */
#include "tests/integration/support.h"

#include <limits.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define TAKES "takes weights from the learner's memory"
#define ON_GPU "--set", "run.device=cuda", "--set", "rollout.device=cuda"

#define SMALL "small.yaml"
#define SMALL_END "stage zero is done"

/* The emulation takes about a millisecond a launch. */
static const char recipe[] =
    "run: {name: small, seed: 1, save_steps: 2, logging_steps: 1, threads: 1}\n"
    "tasks:\n"
    "  train: run/debug/world/train.jsonl\n"
    "  text: run/debug/world/pretrain.jsonl\n"
    "  template_name: toy\n"
    "  kinds: [chain, search, fact]\n"
    "model: {tokenizer: run/debug/world, hidden_size: 16, intermediate_size: 24,\n"
    "        num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1,\n"
    "        max_position_embeddings: 128}\n"
    "rollout: {num_generations: 2, max_prompt_length: 48, max_completion_length: 6,\n"
    "          max_sequences: 16, workers: 1, threads: 1}\n"
    "reward: {workers: 1, reward_funcs: [repetition], options: repetition.n=1}\n"
    "grpo: {tasks_per_step: 2, max_steps: 3}\n"
    "optimizer: {learning_rate: 1e-3, bf16: true}\n"
    "sft: {batch_tokens: 64, max_steps: 1}\n"
    "eval: {n_tasks: 0}\n"
    "stages:\n"
    "  - {name: base, stage: base, optimizer: {learning_rate: 1e-2}}\n"
    "  - {name: zero, stage: zero, from: base}\n";

static struct place place;

static int make_place(void **state)
{
    (void)state;
    hone_program = "tests/hone_emulated";
    place_make(&place);
    place_write(&place, SMALL, recipe);
    return 0;
}

static int remove_place(void **state)
{
    (void)state;
    place_remove(&place);
    return 0;
}

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
    struct place toy;
    int status = -1;

    (void)state;
    find_beside(hone, sizeof(hone), "hone_emulated");
    place_make(&toy);
    pid_t child = fork();
    if (child == 0) {
        execl("tools/compare_devices", "compare_devices", hone, toy.directory, "cuda", "--set",
              "sft.batch_tokens=64", "--set", "sft.max_steps=2", "--set", "grpo.max_steps=2",
              "--set", "grpo.tasks_per_step=2", "--set", "eval.n_tasks=1", "--set",
              "rollout.max_completion_length=16", (char *)NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    place_remove(&toy);
}

static void weights_from_memory_to_memory_give_the_bytes_of_files(void **state)
{
    struct program program;

    (void)state;
    HONE(&program, &place, "run", SMALL, "--run", "run/files", ON_GPU, "--set",
         "rollout.weights=files");
    assert_ends(&program, 0, SMALL_END);
    assert_false(SAYS(&program, TAKES));
    HONE(&program, &place, "run", SMALL, "--run", "run/auto", ON_GPU);
    assert_ends(&program, 0, SMALL_END);
    assert_true(SAYS(&program, TAKES));
    assert_same_runs(&place, "run/files", "run/auto");
}

static void start_worker(struct program *worker, const char *name)
{
    START(worker, &place, "worker", "rollout", "--connect", "ipc://run/killed/wire.sock",
          "--config", "run/killed/config.yaml", "--stage", "zero", "--name", name, "--lost-ms",
          "500");
}

static void start_learner(struct program *learner)
{
    START(learner, &place, "run", SMALL, "--run", "run/killed", ON_GPU, "--set",
          "rollout.weights=ipc", "--set", "rollout.workers=0");
    WAIT_UNTIL(file_exists(in_place(&place, "run/killed/wire.sock")));
}

/* The worker is of no learner's making: it outlives the kill, says so in a line and ends. */
static void a_killed_learner_ends_its_worker_in_a_line_and_the_run_goes_on(void **state)
{
    struct program learner, worker, again;

    (void)state;
    start_learner(&learner);
    start_worker(&worker, "before");
    WAIT_UNTIL(steps_of(&place, "run/killed", "zero") >= 1);
    assert_int_equal(kill(learner.pid, SIGKILL), 0);
    assert_int_equal(wait_for_exit(&learner), 128 + SIGKILL);
    assert_true(wait_for_exit(&worker) > 0);
    assert_int_equal(count_lines(&worker, "hone: "), 1);
    assert_true(SAYS(&learner, "before " TAKES));
    unlink(in_place(&place, "run/killed/wire.sock"));
    start_learner(&learner);
    start_worker(&again, "after");
    assert_ends(&learner, 0, SMALL_END);
    assert_true(SAYS(&learner, "after " TAKES));
    wait_for_exit(&again);
    assert_same_runs(&place, "run/files", "run/killed");
}

static void memory_that_cannot_be_shared_is_said_in_a_line(void **state)
{
    struct program program;

    (void)state;
    HONE(&program, &place, "run", SMALL, "--run", "run/refused", "--set", "rollout.weights=ipc");
    assert_ends(&program, 7, "rollout.weights is \"ipc\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_on_the_gpu_has_the_metrics_of_one_on_the_cpu),
        cmocka_unit_test(weights_from_memory_to_memory_give_the_bytes_of_files),
        cmocka_unit_test(a_killed_learner_ends_its_worker_in_a_line_and_the_run_goes_on),
        cmocka_unit_test(memory_that_cannot_be_shared_is_said_in_a_line),
    };

    return cmocka_run_group_tests(tests, make_place, remove_place);
}
