/* Several ranks under mpirun train the policy that one trains, and the same one every time. */
#include <math.h>
#include <signal.h>

#include "tests/integration/support_ranks.h"

#define RANKS "ranks.yaml"
#define LAST "stage coldstart is done"
#define TOLERANCE 1e-5

static struct place place;
static int has_mpi;

/* A base; RL with a reference that follows the policy, minibatches and a guard; RL of adapters,
 * whose old log-probabilities are computed; fine-tuning. A large epsilon keeps AdamW from making
 * much of what is rounding alone. */
static const char recipe[] =
    "run: {name: ranks, seed: 1, save_steps: 2, logging_steps: 1, threads: 1}\n"
    "tasks:\n"
    "  train: run/debug/world/train.jsonl\n"
    "  text: run/debug/world/pretrain.jsonl\n"
    "  template_name: toy\n"
    "  kinds: [chain, search, fact]\n"
    "model: {tokenizer: run/debug/world, hidden_size: 16, intermediate_size: 24,\n"
    "        num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 1,\n"
    "        max_position_embeddings: 128}\n"
    "rollout: {num_generations: 4, max_prompt_length: 48, max_completion_length: 16,\n"
    "          max_sequences: 16, workers: 1, threads: 1}\n"
    "reward: {workers: 1, reward_funcs: [accuracy, language, repetition],\n"
    "         reward_weights: [1, 1, 1]}\n"
    "optimizer: {learning_rate: 1e-3, adam_epsilon: 1e-4, micro_batch_tokens: 128}\n"
    "grpo: {tasks_per_step: 4, max_steps: 3}\n"
    "guard: {z_score: 100}\n"
    "sft: {batch_tokens: 512, max_steps: 6}\n"
    "data: {n_tasks: 40, require_right: false, require_format: false, min_language: 0,\n"
    "       max_repetition: 1}\n"
    "stages:\n"
    "  - {name: base, stage: base, optimizer: {learning_rate: 1e-2}}\n"
    "  - {name: zero, stage: zero, from: base, grpo: {beta: 0.01, num_iterations: 2,\n"
    "     steps_per_generation: 2, sync_ref_model: true, ref_model_sync_steps: 2}}\n"
    "  - {name: rl, stage: rl, from: base, lora: {r: 2}, grpo: {beta: 0.01, exact: warn,\n"
    "     loss_type: dr_grpo, num_iterations: 2}}\n"
    "  - {name: coldstart, stage: coldstart, from: base, sample: zero}\n";

#define RUN_RANKS(program, n, ...)                                                                 \
    start_ranks((program), &place, (n), "hone",                                                    \
                (const char *const[]){"run", __VA_ARGS__, NULL})

static int make_place(void **state)
{
    struct program program;

    (void)state;
    has_mpi = find_mpi();
    if (!has_mpi)
        return 0;
    place_make(&place);
    place_write(&place, RANKS, recipe);
    HONE(&program, &place, "run", RANKS, "--run", "run/one");
    assert_ends(&program, 0, LAST);
    RUN_RANKS(&program, "2", RANKS, "--run", "run/2");
    assert_ends(&program, 0, LAST);
    assert_true(SAYS(&program, "2 ranks: "));
    return 0;
}

static int remove_place(void **state)
{
    (void)state;
    if (has_mpi)
        place_remove(&place);
    return 0;
}

static int needs_mpi(void **state)
{
    (void)state;
    if (!has_mpi)
        skip();
    return 0;
}

static void assert_all_close(const char *run, const char *other)
{
    static const char *const stages[] = {"base", "zero", "rl", "coldstart"};

    for (size_t i = 0; i < sizeof(stages) / sizeof(stages[0]); i++)
        assert_close(&place, run, other, stages[i], TOLERANCE);
}

static void two_ranks_train_what_one_does(void **state)
{
    (void)state;
    assert_all_close("run/one", "run/2");
}

static void three_ranks_train_what_one_does_and_the_same_bytes_every_time(void **state)
{
    static const char *const runs[] = {"run/3", "run/3-again"};
    struct program program;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        RUN_RANKS(&program, "3", RANKS, "--run", runs[i]);
        assert_ends(&program, 0, LAST);
    }
    assert_same_runs(&place, runs[0], runs[1]);
    assert_all_close("run/one", runs[0]);
}

static void one_rank_under_mpirun_trains_the_bytes_of_hone_run(void **state)
{
    struct program program;

    (void)state;
    RUN_RANKS(&program, "1", RANKS, "--run", "run/1");
    assert_ends(&program, 0, LAST);
    assert_same_runs(&place, "run/one", "run/1");
}

static void gradients_that_travel_as_bfloat16_train_nearly_the_same(void **state)
{
    struct program program;
    double one, two;

    (void)state;
    RUN_RANKS(&program, "2", RANKS, "--run", "run/bf16", "--stage", "base", "--set",
              "optimizer.bf16_gradients=true");
    assert_ends(&program, 0, "stage base is done");
    static const char sql[] = "SELECT value FROM metric WHERE name = 'loss' AND stage_id = 1 AND "
                              "step = 6";
    char *text = ask(&place, "run/one", sql), *other = ask(&place, "run/bf16", sql);
    one = strtod(text, NULL);
    two = strtod(other, NULL);
    assert_true(one != two && fabs(one - two) < 1e-2);
    mem_free(text);
    mem_free(other);
}

/* Their sums of gradients differ in the last bits, the random bits do not; others would make every
 * second weight another one. */
static void ranks_round_at_random_as_one_does(void **state)
{
    static const char *const counts[] = {"1", "2", "3"}, *const runs[] = {"run/r1", "run/r2",
                                                                          "run/r3"};
    struct program program;

    (void)state;
    for (int i = 0; i < 3; i++) {
        RUN_RANKS(&program, counts[i], RANKS, "--run", runs[i], "--stage", "base", "--set",
                  "base:optimizer.bf16=true", "--set", "base:optimizer.stochastic_rounding=true");
        assert_ends(&program, 0, "stage base is done");
        assert_true(share_of_different(&place, runs[0], runs[i], "base") < 0.05);
    }
}

/* ---- What goes wrong. */

static void a_killed_rank_is_named_and_the_run_goes_on_to_the_same_bytes(void **state)
{
    struct program program;

    (void)state;
    RUN_RANKS(&program, "2", RANKS, "--run", "run/killed");
    WAIT_UNTIL(steps_of(&place, "run/killed", "zero") >= 1 || !is_running(&program));
    assert_int_equal(kill(find_rank(&place, "1"), SIGKILL), 0);
    assert_int_not_equal(wait_for_exit(&program), 0);
    assert_true(SAYS(&program, "rank 1"));
    WAIT_UNTIL(count_processes(&place) == 0);
    RUN_RANKS(&program, "2", "--run", "run/killed");
    assert_ends(&program, 0, LAST);
    assert_same_runs(&place, "run/2", "run/killed");
}

static void a_run_goes_on_with_another_number_of_ranks(void **state)
{
    struct program program;

    (void)state;
    RUN_RANKS(&program, "2", RANKS, "--run", "run/changed");
    WAIT_UNTIL(steps_of(&place, "run/changed", "base") >= 1 || !is_running(&program));
    kill(program.pid, SIGUSR1);
    assert_ends(&program, 3, "go on with: hone run --run run/changed");
    WAIT_UNTIL(count_processes(&place) == 0);
    assert_int_equal(ask_number(&place, "run/changed", "SELECT count(*) FROM stage WHERE state = "
                                "'interrupted'"), 1);
    assert_int_equal(ask_number(&place, "run/changed", "SELECT max(c.step) - max(t.step) FROM "
                                "checkpoint c, step t"), 0);
    RUN_RANKS(&program, "3", "--run", "run/changed", "--stage", "base");
    assert_ends(&program, 0, "stage base is done");
    HONE(&program, &place, "run", "--run", "run/changed", "--stage", "zero");
    assert_ends(&program, 0, "stage zero is done");
    RUN_RANKS(&program, "2", "--run", "run/changed");
    assert_ends(&program, 0, LAST);
    assert_all_close("run/one", "run/changed");
}

static void a_rank_that_sends_nothing_is_named_when_its_time_is_over(void **state)
{
    struct program program;

    (void)state;
    RUN_RANKS(&program, "3", RANKS, "--run", "run/stuck", "--set", "run.rank_timeout_ms=3000");
    WAIT_UNTIL(steps_of(&place, "run/stuck", "base") >= 1 || !is_running(&program));
    pid_t rank = find_rank(&place, "1");
    assert_int_equal(kill(rank, SIGSTOP), 0);
    assert_int_equal(wait_for_exit(&program), 6);
    kill(rank, SIGKILL);
    assert_true(SAYS(&program, " for 3000 ms ("));
    char *why = ask(&place, "run/stuck", "SELECT reason FROM stage WHERE state = 'failed'");
    assert_int_equal(strncmp(why, "rank 1 (", 8), 0);
    mem_free(why);
    WAIT_UNTIL(count_processes(&place) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(two_ranks_train_what_one_does, needs_mpi),
        cmocka_unit_test_setup(three_ranks_train_what_one_does_and_the_same_bytes_every_time,
                               needs_mpi),
        cmocka_unit_test_setup(one_rank_under_mpirun_trains_the_bytes_of_hone_run, needs_mpi),
        cmocka_unit_test_setup(ranks_round_at_random_as_one_does, needs_mpi),
        cmocka_unit_test_setup(gradients_that_travel_as_bfloat16_train_nearly_the_same, needs_mpi),
        cmocka_unit_test_setup(a_killed_rank_is_named_and_the_run_goes_on_to_the_same_bytes,
                               needs_mpi),
        cmocka_unit_test_setup(a_run_goes_on_with_another_number_of_ranks, needs_mpi),
        cmocka_unit_test_setup(a_rank_that_sends_nothing_is_named_when_its_time_is_over,
                               needs_mpi),
    };

    return cmocka_run_group_tests_name("integration_ranks", tests, make_place, remove_place);
}
