/* Several ranks on emulated GPUs: ranks/lane_nccl.c against tests/shim/nccl.c, a libnccl.so.2 that
 * works between the processes of one machine. They find each other over ZeroMQ; once over MPI. What
 * NCCL itself does on cards is not shown here. */
#include <math.h>
#include <signal.h>
#include <unistd.h>

#include "tests/integration/support_ranks.h"

#define LAST "stage zero is done"

static struct place place;

static const char recipe[] =
    "run: {name: nccl, seed: 1, save_steps: 1, logging_steps: 1, device: cuda}\n"
    "tasks: {train: run/debug/world/train.jsonl, text: run/debug/world/pretrain.jsonl,\n"
    "        template_name: toy, kinds: [chain, search, fact]}\n"
    "model: {tokenizer: run/debug/world, hidden_size: 16, intermediate_size: 24,\n"
    "        num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 1,\n"
    "        max_position_embeddings: 128}\n"
    "rollout: {num_generations: 4, max_prompt_length: 48, max_completion_length: 8,\n"
    "          max_sequences: 16, workers: 1, device: cuda}\n"
    "reward: {workers: 1, reward_funcs: [accuracy, language, repetition],\n"
    "         reward_weights: [1, 1, 1]}\n"
    "optimizer: {learning_rate: 1e-3, adam_epsilon: 1e-4}\n"
    "grpo: {tasks_per_step: 2, max_steps: 1, beta: 0.01}\n"
    "sft: {batch_tokens: 64, max_steps: 2}\n"
    "stages:\n"
    "  - {name: base, stage: base}\n"
    "  - {name: zero, stage: zero, from: base}\n";

#define HONE_EMULATED "tests/hone_emulated"
#define START_JOB(job, n, ...)                                                                     \
    start_job((job), &place, "tcp", (n), HONE_EMULATED,                                            \
              (const char *const[]){"run", __VA_ARGS__, NULL})

static int make_place(void **state)
{
    struct program program;
    struct job job;

    (void)state;
    place_make(&place);
    place_write(&place, "nccl.yaml", recipe);
    place_write(&place, "lib/here", "");
    assert_int_equal(symlink(built("shim/nccl.so"), in_place(&place, "lib/libnccl.so.2")), 0);
    start_command(&program, &place,
                  (const char *const[]){built(HONE_EMULATED), "run", "nccl.yaml", "--run",
                                        "run/one", NULL});
    assert_ends(&program, 0, LAST);
    setenv("LD_LIBRARY_PATH", in_place(&place, "lib"), 1);
    START_JOB(&job, 2, "nccl.yaml", "--run", "run/2");
    assert_job_ends(&job, 0, LAST);
    assert_true(SAYS(&job.ranks[0], "NCCL 2.18.5"));
    return 0;
}

static int remove_place(void **state)
{
    (void)state;
    place_remove(&place);
    return 0;
}

static void gpus_train_what_one_does(void **state)
{
    (void)state;
    assert_close(&place, "run/one", "run/2", "base", 1e-5);
    assert_close(&place, "run/one", "run/2", "zero", 1e-5);
}

static void gpus_train_the_same_bytes_every_time_and_over_mpi(void **state)
{
    const char *const arguments[] = {"run", "nccl.yaml", "--run", "run/again", NULL};
    struct program program;
    struct job job;

    (void)state;
    if (find_mpi()) {
        start_ranks(&program, &place, "2", HONE_EMULATED, arguments);
        assert_ends(&program, 0, LAST);
    } else {
        start_job(&job, &place, "ipc", 2, HONE_EMULATED, arguments);
        assert_job_ends(&job, 0, LAST);
    }
    assert_same_runs(&place, "run/2", "run/again");
}

static void gradients_may_travel_as_bfloat16(void **state)
{
    struct job job;

    (void)state;
    START_JOB(&job, 3, "nccl.yaml", "--run", "run/bf16", "--stage", "base", "--set",
              "optimizer.bf16_gradients=true");
    assert_job_ends(&job, 0, "stage base is done");
    assert_close(&place, "run/one", "run/bf16", "base", 5e-4);
}

static void a_gpu_that_does_not_come_is_named_when_its_time_is_over(void **state)
{
    struct job job;

    (void)state;
    START_JOB(&job, 3, "nccl.yaml", "--run", "run/stuck", "--set", "run.rank_timeout_ms=3000",
              "--set", "base:sft.max_steps=200");
    WAIT_UNTIL(steps_of(&place, "run/stuck", "base") >= 1 || !is_running(&job.ranks[0]));
    assert_int_equal(kill(job.ranks[1].pid, SIGSTOP), 0);
    assert_ends(&job.ranks[0], 6, "rank 1 (");
    assert_ends(&job.ranks[2], 6, " for 3000 ms (");   /* as rank 0 said, and long before its own */
    kill(job.ranks[1].pid, SIGKILL);
    wait_for_exit(&job.ranks[1]);
    char *why = ask(&place, "run/stuck", "SELECT reason FROM stage WHERE state = 'failed'");
    assert_int_equal(strncmp(why, "rank 1 (", 8), 0);
    mem_free(why);
    WAIT_UNTIL(count_processes(&place) == 0);
}

static void without_nccl_several_gpus_are_refused(void **state)
{
    struct job job;

    (void)state;
    place_write(&place, "none/libnccl.so.2", "no library");
    setenv("LD_LIBRARY_PATH", in_place(&place, "none"), 1);
    START_JOB(&job, 2, "nccl.yaml", "--run", "run/none");
    assert_job_ends(&job, 7, "install libnccl2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpus_train_what_one_does),
        cmocka_unit_test(gpus_train_the_same_bytes_every_time_and_over_mpi),
        cmocka_unit_test(gradients_may_travel_as_bfloat16),
        cmocka_unit_test(a_gpu_that_does_not_come_is_named_when_its_time_is_over),
        cmocka_unit_test(without_nccl_several_gpus_are_refused),
    };

    return cmocka_run_group_tests_name("integration_nccl", tests, make_place, remove_place);
}
