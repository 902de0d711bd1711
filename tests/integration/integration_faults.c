/* Damage, edits, company and faulty verifiers in a run directory. */
#include <signal.h>
#include <unistd.h>

#include "tests/integration/support.h"

static struct place place;

/* Steps long enough to be hit in the middle. */
#define LONG_STEPS                                                                                 \
    "--set", "zero:grpo.tasks_per_step=48", "--set", "zero:rollout.num_generations=8"
#define SHORT_STEPS                                                                                \
    "--set", "zero:grpo.tasks_per_step=6", "--set", "zero:rollout.num_generations=4"

static int make_place(void **state)
{
    (void)state;
    place_make_quiet(&place, (const char *const[]){LONG_STEPS, NULL});
    return 0;
}

static int remove_place(void **state)
{
    (void)state;
    place_remove(&place);
    return 0;
}

static void cut_in_half(const char *path)
{
    struct text text = {0};

    assert_int_equal(file_read(path, (size_t)1 << 30, &text), STATUS_OK);
    assert_int_equal(truncate(path, (off_t)text.length / 2), 0);
    text_release(&text);
}

static void a_damaged_parent_is_named_and_made_again(void **state)
{
    struct program program;

    (void)state;
    place_copy(&place, "run/base", "run/damaged");
    cut_in_half(in_place(&place, "run/damaged/checkpoints/base/step-000016/model.safetensors"));
    HONE(&program, &place, "run", "--run", "run/damaged", "--stage", "zero");
    assert_ends(&program, 4, "checkpoints/base/step-000016/model.safetensors is damaged");
    assert_int_equal(count_lines(&program, "hone: "), 1);
    assert_true(SAYS(&program, "from step 14, which is whole: hone run --run run/damaged "
                               "--skip-damaged"));
    place_copy(&place, "run/damaged", "run/removed");
    /* The remedy of that line. */
    HONE(&program, &place, "run", "--run", "run/damaged", "--stage", "base", "--skip-damaged");
    assert_ends(&program, 0, "stage base is done");
    assert_true(SAYS(&program, "stage base goes on from an earlier checkpoint"));
    assert_true(SAYS(&program, "step 14 of 16"));
    HONE(&program, &place, "run", "--run", "run/damaged", "--stage", "zero");
    assert_ends(&program, 0, "stage zero is done");
    assert_same_runs(&place, "run/quiet", "run/damaged");
}

static void a_checkpoint_that_was_removed_is_made_again(void **state)
{
    struct program program;

    (void)state;
    file_remove_tree(in_place(&place, "run/removed/checkpoints/base/step-000016"));
    HONE(&program, &place, "run", "--run", "run/removed", "--stage", "zero");
    assert_ends(&program, 2, "hone run --run run/removed --stage base");
    HONE(&program, &place, "run", "--run", "run/removed", "--stage", "base");
    assert_ends(&program, 0, "stage base is done");
    assert_true(SAYS(&program, "step 14 of 16"));
    HONE(&program, &place, "run", "--run", "run/removed", "--stage", "zero");
    assert_ends(&program, 0, "stage zero is done");
    assert_same_runs(&place, "run/quiet", "run/removed");
}

static void a_damaged_checkpoint_of_the_stage_itself_is_named_and_left_behind(void **state)
{
    struct program program;

    (void)state;
    place_copy(&place, "run/base", "run/own");
    START(&program, &place, "run", "--run", "run/own", "--stage", "zero", "--set",
          "run.save_steps=1");
    WAIT_UNTIL(steps_of(&place, "run/own", "zero") >= 3);
    kill(program.pid, SIGKILL);
    wait_for_exit(&program);
    char *path = ask(&place, "run/own", "SELECT path FROM checkpoint ORDER BY id DESC LIMIT 1");
    path[strcspn(path, "\n")] = '\0';
    cut_in_half(in_place(&place, "run/own/%s/optimizer.safetensors", path));
    HONE(&program, &place, "run", "--run", "run/own", "--stage", "zero");
    assert_ends(&program, 4, "optimizer.safetensors is damaged");
    file_remove_tree(in_place(&place, "run/own/%s", path));
    mem_free(path);
    HONE(&program, &place, "run", "--run", "run/own", "--stage", "zero");
    assert_ends(&program, 0, "stage zero goes on from an earlier checkpoint");
    assert_same_runs(&place, "run/quiet", "run/own");
}

static void a_second_run_in_the_same_directory_is_refused(void **state)
{
    struct program first, second;

    (void)state;
    place_copy(&place, "run/base", "run/two");
    START(&first, &place, "run", "--run", "run/two", "--stage", "zero");
    WAIT_UNTIL(find_worker(&place, "rollout-0") > 0);
    kill(first.pid, SIGSTOP);
    HONE(&second, &place, "run", "--run", "run/two");
    assert_ends(&second, 5, "run/two is in use by another hone");
    assert_int_equal(count_lines(&second, ""), 1);
    kill(first.pid, SIGCONT);
    assert_ends(&first, 0, "stage zero is done");
    assert_same_runs(&place, "run/quiet", "run/two");
}

static void run_faulty(const char *run, const char *how, const char *line)
{
    struct program program;
    char plugin[FILE_PATH_MAX + 32], option[64];

    snprintf(plugin, sizeof(plugin), "reward.plugins=%s", plugin_path("verifier_faulty"));
    snprintf(option, sizeof(option), "reward.options=faulty.how=%s", how);
    place_copy(&place, "run/base", run);
    HONE(&program, &place, "run", "--run", run, "--stage", "zero", "--accept-changes", "--set",
         plugin, "--set", option, "--set", "zero:reward.reward_funcs=accuracy,format,faulty",
         "--set", "zero:reward.reward_weights=1,1,1", "--set", "reward.verifier_timeout_ms=100",
         "--set", "zero:grpo.max_steps=2", SHORT_STEPS);
    assert_ends(&program, 0, "stage zero is done");
    assert_true(SAYS(&program, line));
    /* Every third length fails, and those samples alone; they are masked and never learnt from. */
    assert_true(ask_number(&place, run, "SELECT count(*) FROM v_score WHERE name = 'faulty' AND "
                           "outcome = 'verifier error'") > 0);
    assert_true(ask_number(&place, run, "SELECT count(*) FROM v_score WHERE name = 'faulty' AND "
                           "outcome = 'right'") > 0);
    assert_int_equal(ask_number(&place, run, "SELECT count(*) FROM v_sample JOIN v_score USING "
                                "(sample_id) WHERE v_score.name = 'faulty' AND masked != "
                                "(v_score.outcome = 'verifier error')"), 0);
    assert_int_equal(ask_number(&place, run, "SELECT count(*) FROM sample WHERE masked AND "
                                "advantage != 0"), 0);
    assert_true(ask_number(&place, run, "SELECT sum(value) > 0 FROM v_metric WHERE name = "
                           "'outcomes/faulty/error'") == 1);
}

static void a_verifier_that_crashes_masks_its_samples_and_the_run_goes_on(void **state)
{
    (void)state;
    run_faulty("run/crash", "crash", "faulty");
    run_faulty("run/exit", "exit", "faulty");
}

static void a_verifier_that_hangs_is_killed_and_the_run_goes_on(void **state)
{
    (void)state;
    run_faulty("run/hang", "hang", "100 ms");
}

static void an_edited_dataset_is_taken_as_it_is(void **state)
{
    struct program program;
    struct text text = {0};
    const char *path;

    (void)state;
    place_copy(&place, "run/quiet", "run/edited");
    /* The stage stops after its data is there, before it is done. */
    START(&program, &place, "run", "--run", "run/edited", "--stage", "coldstart");
    WAIT_UNTIL(file_exists(in_place(&place, "run/edited/datasets/coldstart.jsonl")));
    kill(program.pid, SIGKILL);
    wait_for_exit(&program);
    path = in_place(&place, "run/edited/datasets/coldstart.jsonl");
    assert_int_equal(file_read(path, (size_t)1 << 20, &text), STATUS_OK);
    char *end = text.data;
    for (int i = 0; i < 7; i++)
        end = strchr(end, '\n') + 1;
    *end = '\0';
    place_write(&place, "run/edited/datasets/coldstart.jsonl", text.data);
    HONE(&program, &place, "run", "--run", "run/edited", "--stage", "coldstart");
    assert_ends(&program, 0, "is taken as it is (7 rows)");
    assert_int_equal(ask_number(&place, "run/edited", "SELECT n_rows FROM dataset"), 7);
    struct digest digest;
    char hex[DIGEST_HEX_BYTES + 1];
    digest_of(&digest, text.data, (size_t)(end - text.data));
    digest_hex(&digest, hex);
    char *stored = ask(&place, "run/edited", "SELECT digest FROM dataset");
    stored[strcspn(stored, "\n")] = '\0';
    assert_string_equal(stored, hex);
    mem_free(stored);
    text.length = 0;
    assert_int_equal(file_read(path, (size_t)1 << 20, &text), STATUS_OK);
    assert_true(text.length == (size_t)(end - text.data));
    /* What it was made from stays known. */
    assert_int_equal(ask_number(&place, "run/edited", "SELECT count(*) FROM parent WHERE "
                                "child_kind = 'dataset' AND parent_kind = 'checkpoint'"), 1);
    text_release(&text);
}

static void an_emptied_dataset_is_one_clear_line(void **state)
{
    struct program program;

    (void)state;
    place_copy(&place, "run/quiet", "run/empty");
    place_write(&place, "run/empty/datasets/coldstart.jsonl", "");
    HONE(&program, &place, "run", "--run", "run/empty", "--stage", "coldstart");
    assert_ends(&program, 4, "datasets/coldstart.jsonl: there is no document in it");
    place_write(&place, "run/empty/datasets/coldstart.jsonl", "{\"messages\": 3}\n");
    HONE(&program, &place, "run", "--run", "run/empty", "--stage", "coldstart");
    assert_ends(&program, 4, "coldstart.jsonl:1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_damaged_parent_is_named_and_made_again),
        cmocka_unit_test(a_checkpoint_that_was_removed_is_made_again),
        cmocka_unit_test(a_damaged_checkpoint_of_the_stage_itself_is_named_and_left_behind),
        cmocka_unit_test(a_second_run_in_the_same_directory_is_refused),
        cmocka_unit_test(a_verifier_that_crashes_masks_its_samples_and_the_run_goes_on),
        cmocka_unit_test(a_verifier_that_hangs_is_killed_and_the_run_goes_on),
        cmocka_unit_test(an_edited_dataset_is_taken_as_it_is),
        cmocka_unit_test(an_emptied_dataset_is_one_clear_line),
    };

    return cmocka_run_group_tests_name("integration_faults", tests, make_place, remove_place);
}
