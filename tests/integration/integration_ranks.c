/* Several ranks under mpirun train the policy that one trains, and the same one every time. */
#include <dirent.h>
#include <math.h>
#include <signal.h>
#include <unistd.h>

#include "ranks/ranks.h"
#include "tests/integration/support.h"

#define RANKS "ranks.yaml"
#define LAST "stage coldstart is done"
#define TOLERANCE 1e-5f

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

static void start_ranks(struct program *program, const char *n, const char *const *arguments)
{
    start_behind(program, &place,
                 (const char *const[]){"/usr/bin/mpirun", "--allow-run-as-root", "--oversubscribe",
                                       "--bind-to", "none", "--mca", "odls_base_sigkill_timeout",
                                       "30", "-n", n, NULL},
                 arguments);
}
#define RUN_RANKS(program, n, ...)                                                                 \
    start_ranks((program), (n), (const char *const[]){"run", __VA_ARGS__, NULL})

static int make_place(void **state)
{
    struct program program;
    char what[256];

    (void)state;
    has_mpi = ranks_find_mpi(what, sizeof(what)) && access("/usr/bin/mpirun", X_OK) == 0;
    if (!has_mpi) {
        print_message("skipped: no MPI here (%s)\n", what);
        return 0;
    }
    setenv("OMPI_MCA_btl", "self,vader,tcp", 1);
    setenv("OMPI_MCA_btl_tcp_if_include", "lo", 1);
    setenv("OMPI_MCA_oob_tcp_if_include", "lo", 1);
    place_make(&place);
    place_write(&place, RANKS, recipe);
    HONE(&program, &place, "run", RANKS, "--run", "run/one");
    assert_ends(&program, 0, LAST);
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

/* ---- Weights. */

static void read_newest(const char *run, const char *stage, struct text *out)
{
    char sql[256];

    snprintf(sql, sizeof(sql), "SELECT path FROM checkpoint c JOIN stage s ON s.id = c.stage_id "
             "WHERE s.name = '%s' ORDER BY c.step DESC LIMIT 1", stage);
    char *path = ask(&place, run, sql);
    path[strcspn(path, "\n")] = '\0';
    assert_int_equal(file_read(in_place(&place, "%s/%s/model.safetensors", run, path),
                               (size_t)1 << 30, out), STATUS_OK);
    mem_free(path);
}

/* The files have equal headers, and then float32 alone. */
static void assert_close(const char *run, const char *other, const char *stage)
{
    struct text one = {0}, two = {0};
    uint64_t n_header;
    float largest = 0;

    read_newest(run, stage, &one);
    read_newest(other, stage, &two);
    assert_int_equal(one.length, two.length);
    memcpy(&n_header, one.data, sizeof(n_header));
    assert_memory_equal(one.data, two.data, n_header + 8);
    for (size_t at = n_header + 8; at < one.length; at += sizeof(float)) {
        float x, y;
        memcpy(&x, one.data + at, sizeof(x));
        memcpy(&y, two.data + at, sizeof(y));
        largest = fmaxf(largest, fabsf(x - y));
    }
    if (!(largest <= TOLERANCE))
        fail_msg("weights of stage %s of %s and %s differ by %g", stage, run, other,
                 (double)largest);
    text_release(&one);
    text_release(&two);
}

static void assert_all_close(const char *run, const char *other)
{
    static const char *const stages[] = {"base", "zero", "rl", "coldstart"};

    for (size_t i = 0; i < sizeof(stages) / sizeof(stages[0]); i++)
        assert_close(run, other, stages[i]);
}

static void train_twice(const char *n)
{
    struct program program;
    char first[32], second[32];

    snprintf(first, sizeof(first), "run/%s-a", n);
    snprintf(second, sizeof(second), "run/%s-b", n);
    RUN_RANKS(&program, n, RANKS, "--run", first);
    assert_ends(&program, 0, LAST);
    assert_true(SAYS(&program, "ranks: Open MPI") || SAYS(&program, "ranks: MPICH"));
    RUN_RANKS(&program, n, RANKS, "--run", second);
    assert_ends(&program, 0, LAST);
    assert_same_runs(&place, first, second);
    assert_all_close("run/one", first);
}

static void two_ranks_train_what_one_does_and_the_same_bytes_every_time(void **state)
{
    (void)state;
    train_twice("2");
}

static void three_ranks_train_what_one_does_and_the_same_bytes_every_time(void **state)
{
    (void)state;
    train_twice("3");
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

/* ---- What goes wrong. */

static int is_rank(pid_t pid, const char *rank)
{
    char path[64], text[65536], variable[64];

    snprintf(variable, sizeof(variable), "OMPI_COMM_WORLD_RANK=%s", rank);
    snprintf(path, sizeof(path), "/proc/%ld/environ", (long)pid);
    FILE *file = fopen(path, "r");
    size_t n = file ? fread(text, 1, sizeof(text) - 1, file) : 0;
    text[n] = '\0';
    int is_it = 0;
    for (size_t i = 0; i < n; i += strlen(text + i) + 1)
        is_it |= strcmp(text + i, variable) == 0;
    if (file)
        fclose(file);
    return is_it;
}

/* Workers have the environment of rank 0, but are children of it. */
static pid_t find_rank(const char *rank)
{
    DIR *directory = opendir("/proc");
    struct dirent *entry;
    pid_t found = 0;

    assert_non_null(directory);
    while ((entry = readdir(directory)) && !found) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        char link[64], cwd[256] = "";
        snprintf(link, sizeof(link), "/proc/%ld/cwd", (long)pid);
        if (pid > 0 && readlink(link, cwd, sizeof(cwd) - 1) > 0 &&
            strcmp(cwd, place.directory) == 0 && is_rank(pid, rank))
            found = pid;
    }
    closedir(directory);
    return found;
}

static void a_killed_rank_is_named_and_the_run_goes_on_to_the_same_bytes(void **state)
{
    struct program program;

    (void)state;
    RUN_RANKS(&program, "2", RANKS, "--run", "run/quiet");
    assert_ends(&program, 0, LAST);
    RUN_RANKS(&program, "2", RANKS, "--run", "run/killed");
    WAIT_UNTIL(steps_of(&place, "run/killed", "zero") >= 1 || !is_running(&program));
    assert_int_equal(kill(find_rank("1"), SIGKILL), 0);
    assert_int_not_equal(wait_for_exit(&program), 0);
    assert_true(SAYS(&program, "rank 1"));
    WAIT_UNTIL(count_processes(&place) == 0);
    RUN_RANKS(&program, "2", "--run", "run/killed");
    assert_ends(&program, 0, LAST);
    assert_same_runs(&place, "run/quiet", "run/killed");
}

static void a_run_goes_on_with_another_number_of_ranks(void **state)
{
    struct program program;

    (void)state;
    RUN_RANKS(&program, "2", RANKS, "--run", "run/changed");
    WAIT_UNTIL(steps_of(&place, "run/changed", "base") >= 1 || !is_running(&program));
    kill(program.pid, SIGINT);
    wait_for_exit(&program);
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
    RUN_RANKS(&program, "3", RANKS, "--run", "run/stuck", "--set", "run.rank_timeout_ms=500");
    WAIT_UNTIL(steps_of(&place, "run/stuck", "base") >= 1 || !is_running(&program));
    pid_t rank = find_rank("1");
    assert_int_equal(kill(rank, SIGSTOP), 0);
    assert_int_equal(wait_for_exit(&program), 6);
    kill(rank, SIGKILL);
    assert_true(SAYS(&program, "nothing came for 500 ms"));
    char *why = ask(&place, "run/stuck", "SELECT error FROM stage WHERE state = 'failed'");
    assert_int_equal(strncmp(why, "rank 1 (", 8), 0);
    mem_free(why);
    WAIT_UNTIL(count_processes(&place) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(two_ranks_train_what_one_does_and_the_same_bytes_every_time,
                               needs_mpi),
        cmocka_unit_test_setup(three_ranks_train_what_one_does_and_the_same_bytes_every_time,
                               needs_mpi),
        cmocka_unit_test_setup(one_rank_under_mpirun_trains_the_bytes_of_hone_run, needs_mpi),
        cmocka_unit_test_setup(gradients_that_travel_as_bfloat16_train_nearly_the_same, needs_mpi),
        cmocka_unit_test_setup(a_killed_rank_is_named_and_the_run_goes_on_to_the_same_bytes,
                               needs_mpi),
        cmocka_unit_test_setup(a_run_goes_on_with_another_number_of_ranks, needs_mpi),
        cmocka_unit_test_setup(a_rank_that_sends_nothing_is_named_when_its_time_is_over,
                               needs_mpi),
    };

    return cmocka_run_group_tests_name("integration_ranks", tests, make_place, remove_place);
}
