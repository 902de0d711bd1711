/* Compiled programs: kept in memory and on disk, shared, bounded, never believed unread. */
#include "test_judge.h"

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>

#include "common/files.h"
#include "sandbox/judge_parts.h"

static char directory[] = "/tmp/hone-programs-XXXXXX";
static struct sandbox_config disk_config;

static int set_up(void **state)
{
    int status = make_judge(state);

    if (!mkdtemp(directory))
        return -1;
    disk_config = judge_config;
    snprintf(disk_config.program_cache, sizeof(disk_config.program_cache), "%s/cache", directory);
    return status;
}

static int tear_down(void **state)
{
    drop_judge(state);
    return file_remove_tree(directory);
}

static const char source[] = "#include <stdio.h>\nint main(void) { puts(\"3\"); return 0; }";

/* A judge of its own, as another worker has one. */
static int judge_alone(enum judge_verdict wanted)
{
    struct judge *judge, *shared = shared_judge;
    struct judge_result result;

    assert_int_equal(judge_create(&judge, judge_sandbox, &disk_config), STATUS_OK);
    shared_judge = judge;
    judge_case(&(struct job_case){"c", source, "\"stdin\":\"\",\"expected_stdout\":\"3\"", wanted,
                                  NULL}, &result);
    shared_judge = shared;
    if (result.verdict != wanted)
        fail_msg("%s", result.detail);
    int was_cached = result.was_cached;
    judge_result_release(&result);
    judge_destroy(&judge);
    return was_cached;
}

/* The only file of the cache. */
static void find_file(char path[FILE_PATH_MAX])
{
    DIR *open = opendir(disk_config.program_cache);
    int n = 0;

    assert_non_null(open);
    for (const struct dirent *item; (item = readdir(open));)
        if (item->d_name[0] != '.') {
            assert_int_equal(file_join(path, disk_config.program_cache, item->d_name), STATUS_OK);
            n++;
        }
    closedir(open);
    assert_int_equal(n, 1);
}

static void programs_on_disk_serve_the_next_worker(void **state)
{
    (void)state;
    if (!judge_sandbox)
        skip();
    assert_int_equal(judge_alone(JUDGE_AC), 0);
    assert_int_equal(judge_alone(JUDGE_AC), 1);
}

static void damaged_programs_are_compiled_again(void **state)
{
    static const size_t places[] = {0, 15, 20, 60, 5000};   /* magic, kind, digest, program */
    char path[FILE_PATH_MAX];

    (void)state;
    if (!judge_sandbox)
        skip();
    judge_alone(JUDGE_AC);
    for (size_t i = 0; i <= N_OF(places); i++) {
        struct text file = {0};

        find_file(path);
        assert_int_equal(file_read(path, 1 << 28, &file), STATUS_OK);
        if (i < N_OF(places))
            file.data[places[i]] ^= 1;
        else
            file.length = 30;
        assert_int_equal(file_write_atomic(path, file.data, file.length), STATUS_OK);
        text_release(&file);
        if (judge_alone(JUDGE_AC) != 0)
            fail_msg("a file damaged at %zu was believed", places[i % N_OF(places)]);
        assert_int_equal(judge_alone(JUDGE_AC), 1);
    }
}

static void a_file_of_another_program_is_not_taken(void **state)
{
    struct program_files files;
    struct digest key, other;
    struct text bytes = {0}, found = {0};
    char path[FILE_PATH_MAX], moved[FILE_PATH_MAX], hex[DIGEST_HEX_BYTES];
    int is_program;

    (void)state;
    digest_of(&key, "a", 1);
    digest_of(&other, "b", 1);
    text_append(&bytes, "program", 7);
    assert_int_equal(program_files_open(&files, &disk_config), STATUS_OK);
    program_files_keep(&files, &key, 0, &bytes);
    assert_true(program_files_find(&files, &key, &is_program, &found));
    assert_int_equal(is_program, 0);
    assert_string_equal(found.data, "program");
    digest_hex(&key, hex);
    snprintf(path, sizeof(path), "%.200s/%s.program", files.directory, hex);
    digest_hex(&other, hex);
    snprintf(moved, sizeof(moved), "%.200s/%s.program", files.directory, hex);
    assert_int_equal(rename(path, moved), 0);
    assert_false(program_files_find(&files, &other, &is_program, &found));
    assert_false(file_exists(moved));
    text_release(&bytes);
    text_release(&found);
}

static void the_directory_stays_below_its_size(void **state)
{
    struct program_files files;
    struct text bytes = {0};
    struct digest key;
    struct stat at;
    int64_t total = 0;
    DIR *open;

    (void)state;
    disk_config.program_cache_bytes = 10000;
    assert_int_equal(program_files_open(&files, &disk_config), STATUS_OK);
    disk_config.program_cache_bytes = judge_config.program_cache_bytes;
    for (int i = 0; i < 1000; i++)
        text_append(&bytes, "x", 1);
    for (int i = 0; i < 64; i++) {
        digest_of(&key, &i, sizeof(i));
        program_files_keep(&files, &key, 1, &bytes);
    }
    open = opendir(files.directory);
    for (const struct dirent *item; (item = readdir(open));)
        if (item->d_name[0] != '.' && fstatat(dirfd(open), item->d_name, &at, 0) == 0)
            total += at.st_size;
    closedir(open);
    text_release(&bytes);
    assert_in_range(total, 1, 10000);
}

static void a_directory_that_others_can_write_is_refused(void **state)
{
    struct program_files files;

    (void)state;
    assert_int_equal(program_files_open(&files, &disk_config), STATUS_OK);
    assert_int_equal(chmod(disk_config.program_cache, 0777), 0);
    assert_int_equal(program_files_open(&files, &disk_config), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "mode 0700"));
    assert_int_equal(chmod(disk_config.program_cache, 0700), 0);
}

/* ---- Threads that want the same program at once. */
#define N_THREADS 6
static void *ask(void *context)
{
    static const struct job_case row = {
        "c", "#include <stdio.h>\nint main(void) { puts(\"33\"); return 0; }",
        "\"stdin\":\"\",\"expected_stdout\":\"33\"", JUDGE_AC, NULL};

    judge_case(&row, context);
    return NULL;
}

static void threads_share_one_compilation(void **state)
{
    struct judge_result results[N_THREADS];
    pthread_t threads[N_THREADS];
    int n_compiled = 0;

    (void)state;
    if (!shared_judge)
        skip();
    for (int i = 0; i < N_THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask, &results[i]), 0);
    for (int i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(results[i].verdict, JUDGE_AC);
        n_compiled += !results[i].was_cached;
        judge_result_release(&results[i]);
    }
    assert_int_equal(n_compiled, 1);
}

static void factors_of_languages_multiply_the_limits(void **state)
{
    struct sandbox_config config = judge_config;
    const struct language *python = language_at(judge_find_language("py", 2));

    (void)state;
    assert_float_equal(language_factor(&config, python), 1, 0);
    snprintf(config.language_factors, sizeof(config.language_factors), "c=3,python=2.5");
    assert_float_equal(language_factor(&config, python), 2.5, 0);
    assert_int_equal(language_check_factors("c=3,python=2.5"), STATUS_OK);
    assert_int_equal(language_check_factors("python"), STATUS_CONFIG);
    assert_int_equal(language_check_factors("python=0"), STATUS_CONFIG);
    assert_int_equal(language_check_factors("python=x"), STATUS_CONFIG);
    assert_int_equal(language_check_factors("perl=2"), STATUS_CONFIG);
}

static void a_missing_compiler_is_named(void **state)
{
    struct sandbox_config config = judge_config;
    struct language_command command;

    (void)state;
    snprintf(config.compiler, sizeof(config.compiler), "/usr/bin/no-such-cc");
    assert_int_equal(language_command(&config, language_at(1), &command), STATUS_UNSUPPORTED);
    assert_non_null(strstr(status_reason(), "sandbox.compiler"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(programs_on_disk_serve_the_next_worker),
        cmocka_unit_test(damaged_programs_are_compiled_again),
        cmocka_unit_test(a_file_of_another_program_is_not_taken),
        cmocka_unit_test(the_directory_stays_below_its_size),
        cmocka_unit_test(a_directory_that_others_can_write_is_refused),
        cmocka_unit_test(threads_share_one_compilation),
        cmocka_unit_test(factors_of_languages_multiply_the_limits),
        cmocka_unit_test(a_missing_compiler_is_named),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
