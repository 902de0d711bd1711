/* hone replay: the same step gives the same bytes, and another byte is found. */
#include <dirent.h>
#include <sqlite3.h>
#include <signal.h>
#include <sys/stat.h>

#include "tests/integration/support_micro.h"

static struct place place;

static int make_place(void **state)
{
    (void)state;
    micro_make(&place);
    return 0;
}

static int remove_place(void **state)
{
    (void)state;
    place_remove(&place);
    return 0;
}

/* Names, sizes, times of change and contents of a tree, in one digest. */
static void add_tree(struct digest_state *hash, const char *path)
{
    struct dirent **entries;
    int n = scandir(path, &entries, NULL, alphasort);

    assert_true(n >= 0);
    for (int i = 0; i < n; i++) {
        char below[FILE_PATH_MAX];
        struct digest digest = {{0}};
        struct stat info;
        assert_int_equal(file_join(below, path, entries[i]->d_name), STATUS_OK);
        assert_int_equal(lstat(below, &info), 0);
        if (S_ISDIR(info.st_mode) && entries[i]->d_name[0] != '.')
            add_tree(hash, below);
        else if (S_ISREG(info.st_mode))
            assert_int_equal(digest_of_file(&digest, below), STATUS_OK);
        digest_add(hash, below, strlen(below));
        digest_add(hash, &digest, sizeof(digest));
        if (entries[i]->d_name[0] != '.')
            digest_add(hash, &info.st_mtim, sizeof(info.st_mtim));
        free(entries[i]);
    }
    free(entries);
}

static struct digest digest_of_run(const char *run)
{
    struct digest_state *hash = digest_begin();
    struct digest digest;

    add_tree(hash, in_place(&place, "%s", run));
    digest_end(hash, &digest);
    return digest;
}

static void change(const char *run, const char *sql)
{
    sqlite3 *database;

    assert_int_equal(sqlite3_open(in_place(&place, "%s/run.db", run), &database), SQLITE_OK);
    assert_int_equal(sqlite3_exec(database, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_changes(database), 1);
    sqlite3_close(database);
}

static void every_step_of_every_stage_gives_the_same_bytes_and_leaves_the_run_alone(void **state)
{
    static const struct {
        const char *stage, *first, *last, *line;
    } steps[] = {
        {"base", "1", "3", "optimizer.safetensors"}, {"zero", "1", "4", "reference.safetensors"},
        {"zero", "3", "3", "12 samples"},            {"zero", "4", "4", "evaluation scores"},
        {"coldstart", "1", "3", "datasets/coldstart.jsonl"},
    };
    struct digest before = digest_of_run("run/quiet");
    struct program program;

    (void)state;
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        HONE(&program, &place, "replay", "run/quiet", "--stage", steps[i].stage, "--step",
             steps[i].first, "--to", steps[i].last, "--set", "rollout.workers=2");
        assert_ends(&program, 0, "things are equal");
        assert_true(SAYS(&program, steps[i].line));
        assert_int_equal(count_lines(&program, "DIFFERENT"), 0);
    }
    struct digest after = digest_of_run("run/quiet");
    assert_memory_equal(&before, &after, sizeof(before));
}

static void a_step_without_a_checkpoint_names_the_next_one(void **state)
{
    struct program program;

    (void)state;
    HONE(&program, &place, "replay", "run/quiet", "--stage", "zero", "--step", "3", "--quiet");
    assert_ends(&program, 0, "the next checkpoint is of step 4 (--to 4)");
}

static void one_changed_value_is_found_and_named(void **state)
{
    static const struct {
        const char *sql, *line;
    } changes[] = {
        {"UPDATE sample SET reward = reward + 0.125 WHERE id = (SELECT s.id FROM sample s JOIN"
         " sample_group g ON g.id = s.group_id JOIN stage t ON t.id = g.stage_id WHERE t.name ="
         " 'zero' AND g.step = 3 AND g.purpose = 'train' AND s.position = 2 LIMIT 1)",
         "sample 2: reward is "},
        {"UPDATE sample SET logprobs = zeroblob(length(logprobs)) WHERE id = (SELECT s.id FROM"
         " sample s JOIN sample_group g ON g.id = s.group_id JOIN stage t ON t.id = g.stage_id"
         " WHERE t.name = 'zero' AND g.step = 3 AND g.purpose = 'train' AND s.position = 1"
         " LIMIT 1)",
         "sample 1, token 0: logprobs is "},
        {"UPDATE metric SET value = value + 1e-15 WHERE step = 3 AND name = 'reward' AND"
         " stage_id = 2", "metric reward: value is "},
    };
    struct program program;

    (void)state;
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        file_remove_tree(in_place(&place, "run/changed"));
        place_copy(&place, "run/quiet", "run/changed");
        change("run/changed", changes[i].sql);
        HONE(&program, &place, "replay", "run/changed", "--stage", "zero", "--step", "3");
        assert_ends(&program, 1, changes[i].line);
        assert_int_equal(count_lines(&program, "DIFFERENT  step 3"), 1);
        assert_int_equal(count_lines(&program, "hone: 1 of "), 1);
    }
}

static void an_edited_dataset_and_another_checkpoint_are_found(void **state)
{
    struct program program;

    (void)state;
    place_copy(&place, "run/quiet", "run/edited");
    struct text text = {0};
    const char *path = in_place(&place, "run/edited/datasets/coldstart.jsonl");
    assert_int_equal(file_read(path, (size_t)1 << 20, &text), STATUS_OK);
    place_write(&place, "run/edited/datasets/coldstart.jsonl", strchr(text.data, '\n') + 1);
    text_release(&text);
    HONE(&program, &place, "replay", "run/edited", "--stage", "coldstart", "--step", "3");
    assert_ends(&program, 1, "DIFFERENT  datasets/coldstart.jsonl");
    assert_true(SAYS(&program, "model.safetensors: SHA-256"));
    assert_true(count_lines(&program, "DIFFERENT") > 2);
}

static void what_cannot_be_replayed_is_refused_in_one_line(void **state)
{
    struct program program, other;

    (void)state;
    HONE(&program, &place, "replay", "run/quiet", "--stage", "zero", "--step", "5");
    assert_ends(&program, 2, "stage \"zero\" has steps 1 to 4");
    HONE(&program, &place, "replay", "run/quiet", "--stage", "one", "--step", "1");
    assert_ends(&program, 2, "has no stage \"one\"");
    HONE(&program, &place, "replay", "run/nowhere", "--stage", "zero", "--step", "1");
    assert_ends(&program, 2, "run/nowhere is no run directory");
    HONE(&program, &place, "replay", "run/quiet", "--stage", "zero", "--step", "1", "--set",
         "grpo.beta=0.5");
    assert_ends(&program, 2, "was run with other settings");
    HONE(&program, &place, "replay", "run/quiet", "--stage", "zero");
    assert_ends(&program, 2, "say what is replayed");
    START(&other, &place, "run", MICRO, "--run", "run/busy");
    WAIT_UNTIL(find_worker(&place, "rollout-0") > 0);
    kill(other.pid, SIGSTOP);
    HONE(&program, &place, "replay", "run/busy", "--stage", "base", "--step", "1");
    assert_ends(&program, 5, "run/busy is in use by another hone");
    kill(other.pid, SIGCONT);
    assert_ends(&other, 0, MICRO_END);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_step_of_every_stage_gives_the_same_bytes_and_leaves_the_run_alone),
        cmocka_unit_test(a_step_without_a_checkpoint_names_the_next_one),
        cmocka_unit_test(one_changed_value_is_found_and_named),
        cmocka_unit_test(an_edited_dataset_and_another_checkpoint_are_found),
        cmocka_unit_test(what_cannot_be_replayed_is_refused_in_one_line),
    };

    return cmocka_run_group_tests_name("integration_replay", tests, make_place, remove_place);
}
