/* Ranks without any MPI: they find each other over ZeroMQ, and make the bytes that ranks over MPI
 * make. What gets in and who is missed is in tests/unit/test_wire_mesh.c. */
#include <signal.h>

#include "tests/integration/support_ranks.h"

#define RANKS "ranks.yaml"
#define LAST "stage rl is done"

static struct place place;

/* A base, and RL of adapters with a reference and old log-probabilities that are computed. */
static const char recipe[] =
    "run: {name: ranks, seed: 1, save_steps: 2, logging_steps: 1, threads: 1}\n"
    "tasks: {train: run/debug/world/train.jsonl, text: run/debug/world/pretrain.jsonl,\n"
    "        template_name: toy, kinds: [chain, search, fact]}\n"
    "model: {tokenizer: run/debug/world, hidden_size: 16, intermediate_size: 24,\n"
    "        num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 1,\n"
    "        max_position_embeddings: 128}\n"
    "rollout: {num_generations: 4, max_prompt_length: 48, max_completion_length: 16,\n"
    "          max_sequences: 16, workers: 1, threads: 1}\n"
    "reward: {workers: 1, reward_funcs: [accuracy, language, repetition],\n"
    "         reward_weights: [1, 1, 1]}\n"
    "optimizer: {learning_rate: 1e-3, adam_epsilon: 1e-4, micro_batch_tokens: 128}\n"
    "grpo: {tasks_per_step: 4, max_steps: 3}\n"
    "sft: {batch_tokens: 512, max_steps: 6}\n"
    "stages:\n"
    "  - {name: base, stage: base, optimizer: {learning_rate: 1e-2}}\n"
    "  - {name: rl, stage: rl, from: base, lora: {r: 2}, grpo: {beta: 0.01, exact: warn,\n"
    "     loss_type: dr_grpo, num_iterations: 2}}\n";

#define START_JOB(job, over, n, ...)                                                               \
    start_job((job), &place, (over), (n), "hone",                                                  \
              (const char *const[]){"run", __VA_ARGS__, NULL})

static int make_place(void **state)
{
    struct job job;

    (void)state;
    place_make(&place);
    place_write(&place, RANKS, recipe);
    START_JOB(&job, "tcp", 2, RANKS, "--run", "run/2");
    assert_job_ends(&job, 0, LAST);
    assert_true(SAYS(&job.ranks[0], "2 ranks: ZeroMQ "));
    assert_true(SAYS(&job.ranks[0], " with CURVE"));
    return 0;
}

static int remove_place(void **state)
{
    (void)state;
    place_remove(&place);
    return 0;
}

static void ranks_over_a_socket_train_what_ranks_over_a_port_do(void **state)
{
    struct job job;

    (void)state;
    START_JOB(&job, "ipc", 2, RANKS, "--run", "run/ipc");
    assert_job_ends(&job, 0, LAST);
    assert_same_runs(&place, "run/2", "run/ipc");
    assert_false(file_exists(in_place(&place, "run/ipc/ranks.sock")));
    assert_false(file_exists(in_place(&place, "run/ipc/keys")));
}

static void two_and_three_ranks_train_the_bytes_of_as_many_over_mpi(void **state)
{
    struct program program;
    struct job job;

    (void)state;
    if (!find_mpi())
        skip();
    start_ranks(&program, &place, "2", "hone",
                (const char *const[]){"run", RANKS, "--run", "run/mpi-2", NULL});
    START_JOB(&job, "tcp", 3, RANKS, "--run", "run/3");
    assert_ends(&program, 0, LAST);
    assert_job_ends(&job, 0, LAST);
    assert_same_runs(&place, "run/2", "run/mpi-2");
    start_ranks(&program, &place, "3", "hone",
                (const char *const[]){"run", RANKS, "--run", "run/mpi-3", NULL});
    assert_ends(&program, 0, LAST);
    assert_same_runs(&place, "run/3", "run/mpi-3");
}

/* mpirun is one more way to start them: of it, only who they are is taken. */
static void mpirun_may_start_them_all_the_same(void **state)
{
    struct program program;

    (void)state;
    if (!find_mpi())
        skip();
    start_ranks(&program, &place, "2", "hone",
                (const char *const[]){"run", RANKS, "--run", "run/mixed", "--stage", "base",
                                      "--set", "run.rank_transport=zmq", NULL});
    assert_ends(&program, 0, "stage base is done");
    assert_true(SAYS(&program, "2 ranks: ZeroMQ "));
}

/* ---- What goes wrong. */

static char *reason_of(const char *run)
{
    return ask(&place, run, "SELECT reason FROM stage WHERE state = 'failed'");
}

static void a_killed_rank_is_named_and_the_run_goes_on_to_the_same_bytes(void **state)
{
    struct job job;

    (void)state;
    START_JOB(&job, "tcp", 2, RANKS, "--run", "run/killed");
    WAIT_UNTIL(steps_of(&place, "run/killed", "base") >= 3 || !is_running(&job.ranks[0]));
    assert_int_equal(kill(job.ranks[1].pid, SIGKILL), 0);
    assert_int_equal(wait_for_exit(&job.ranks[1]), 128 + SIGKILL);
    assert_ends(&job.ranks[0], 6, "rank 1 (");
    char *why = reason_of("run/killed");
    assert_int_equal(strncmp(why, "rank 1 (", 8), 0);
    assert_non_null(strstr(why, "is gone"));
    mem_free(why);
    WAIT_UNTIL(count_processes(&place) == 0);
    START_JOB(&job, "ipc", 2, "--run", "run/killed");
    assert_job_ends(&job, 0, LAST);
    assert_same_runs(&place, "run/2", "run/killed");
}

static void a_rank_that_sends_nothing_is_named_to_all_when_its_time_is_over(void **state)
{
    struct job job;

    (void)state;
    START_JOB(&job, "ipc", 3, RANKS, "--run", "run/stuck", "--set", "run.rank_timeout_ms=2000",
              "--set", "base:sft.max_steps=200");
    WAIT_UNTIL(steps_of(&place, "run/stuck", "base") >= 1 || !is_running(&job.ranks[0]));
    assert_int_equal(kill(job.ranks[1].pid, SIGSTOP), 0);
    assert_ends(&job.ranks[0], 6, " for 2000 ms (");
    assert_ends(&job.ranks[2], 6, " for 2000 ms (");
    kill(job.ranks[1].pid, SIGKILL);
    wait_for_exit(&job.ranks[1]);
    char *why = reason_of("run/stuck");
    assert_int_equal(strncmp(why, "rank 1 (", 8), 0);
    mem_free(why);
}

static void a_rank_that_never_comes_is_named(void **state)
{
    const char *const arguments[] = {"run", RANKS, "--run", "run/alone", "--set",
                                     "run.rank_timeout_ms=1500", NULL};
    struct job job = {.n = 2};

    (void)state;
    start_rank(&job, &place, "hone", 0, arguments);
    assert_ends(&job.ranks[0], 6, "rank 1: has not come for 1500 ms");
    assert_false(file_exists(in_place(&place, "run/alone/run.db")));
}

static void a_recipe_that_cannot_run_ends_all_ranks(void **state)
{
    struct job job;

    (void)state;
    START_JOB(&job, "ipc", 2, RANKS, "--run", "run/wrong", "--set", "tasks.text=nowhere");
    assert_ends(&job.ranks[0], 5, "nowhere");
    assert_ends(&job.ranks[1], 0, NULL);
}

static void signals_to_all_ranks_save_and_the_run_goes_on(void **state)
{
    struct job job;

    (void)state;
    START_JOB(&job, "tcp", 2, RANKS, "--run", "run/stopped");
    WAIT_UNTIL(steps_of(&place, "run/stopped", "base") >= 1 || !is_running(&job.ranks[0]));
    for (int r = 0; r < 2; r++)
        assert_int_equal(kill(job.ranks[r].pid, SIGINT), 0);
    assert_job_ends(&job, 3, "go on with: hone run --run run/stopped");
    assert_int_equal(ask_number(&place, "run/stopped", "SELECT max(c.step) - max(t.step) FROM "
                                "checkpoint c, step t"), 0);
    START_JOB(&job, "tcp", 2, "--run", "run/stopped", "--stage", "base");
    assert_job_ends(&job, 0, "stage base is done");
}

static void ranks_that_gather_are_stopped_by_a_signal(void **state)
{
    const char *const arguments[] = {"run", RANKS, "--run", "run/waits", NULL};
    struct job job = {.n = 2};

    (void)state;
    start_rank(&job, &place, "hone", 0, arguments);
    WAIT_UNTIL(file_exists(in_place(&place, "run/waits/ranks.sock")) ||
               !is_running(&job.ranks[0]));
    assert_int_equal(kill(job.ranks[0].pid, SIGINT), 0);
    assert_ends(&job.ranks[0], 3, "stopped while ranks gather");
}

/* ---- Replay. */

static void steps_of_two_ranks_are_replayed_by_two_to_equal_bytes(void **state)
{
    static const char *const stages[] = {"base", "rl"};
    struct job job;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        start_job(&job, &place, "ipc", 2, "hone",
                  (const char *const[]){"replay", "run/2", "--stage", stages[i], "--step", "1",
                                        "--to", "3", NULL});
        assert_job_ends(&job, 0, "metrics");
    }
}

static void another_number_of_ranks_does_not_replay_them(void **state)
{
    struct program program;
    struct job job;

    (void)state;
    HONE(&program, &place, "replay", "run/2", "--stage", "base", "--step", "1");
    assert_ends(&program, 2, "were trained by 2 ranks, this is 1");
    start_job(&job, &place, "ipc", 3, "hone",
              (const char *const[]){"replay", "run/2", "--stage", "base", "--step", "1", NULL});
    assert_ends(&job.ranks[0], 2, "were trained by 2 ranks, this is 3");
    assert_ends(&job.ranks[1], 0, NULL);
    assert_ends(&job.ranks[2], 0, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_over_a_socket_train_what_ranks_over_a_port_do),
        cmocka_unit_test(two_and_three_ranks_train_the_bytes_of_as_many_over_mpi),
        cmocka_unit_test(mpirun_may_start_them_all_the_same),
        cmocka_unit_test(a_killed_rank_is_named_and_the_run_goes_on_to_the_same_bytes),
        cmocka_unit_test(a_rank_that_sends_nothing_is_named_to_all_when_its_time_is_over),
        cmocka_unit_test(a_rank_that_never_comes_is_named),
        cmocka_unit_test(a_recipe_that_cannot_run_ends_all_ranks),
        cmocka_unit_test(signals_to_all_ranks_save_and_the_run_goes_on),
        cmocka_unit_test(ranks_that_gather_are_stopped_by_a_signal),
        cmocka_unit_test(steps_of_two_ranks_are_replayed_by_two_to_equal_bytes),
        cmocka_unit_test(another_number_of_ranks_does_not_replay_them),
    };

    return cmocka_run_group_tests_name("integration_ranks_zmq", tests, make_place, remove_place);
}
