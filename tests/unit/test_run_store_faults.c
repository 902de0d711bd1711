#include "test_run_store.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static void change_file(const char *statement)
{
    sqlite3 *db;

    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, statement, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void another_schema_version_is_refused(void **state)
{
    (void)state;
    assert_int_equal(run_store_open(&store, path), STATUS_OK);
    run_store_close(&store);
    change_file("PRAGMA user_version = 99");
    assert_int_equal(run_store_open(&store, path), STATUS_VERSION);
    assert_null(store);
    assert_non_null(strstr(status_reason(), path));
    assert_non_null(strstr(status_reason(), "schema version 99"));
}

static void a_file_of_another_program_is_refused_untouched(void **state)
{
    (void)state;
    change_file("CREATE TABLE recipes (dish TEXT); PRAGMA user_version = 1");
    assert_int_equal(run_store_open(&store, path), STATUS_FORMAT);
    assert_non_null(strstr(status_reason(), "another program"));
    assert_query("PRAGMA journal_mode", "delete");
}

static void a_file_that_is_no_database_is_refused(void **state)
{
    char noise[4096];

    (void)state;
    memset(noise, 'x', sizeof(noise));
    assert_int_equal(file_write_atomic(path, noise, sizeof(noise)), STATUS_OK);
    assert_int_equal(run_store_open(&store, path), STATUS_IO);
    assert_non_null(strstr(status_reason(), path));
    assert_non_null(strstr(status_reason(), "file is not a database"));
}

static void a_damaged_file_is_refused(void **state)
{
    struct text bytes = {0};

    (void)state;
    begin("zero");
    put_step(1, 1, 1);
    run_store_close(&store);
    assert_int_equal(file_read(path, 1 << 24, &bytes), STATUS_OK);
    memset(bytes.data + 100, 0xa5, bytes.length - 100);
    assert_int_equal(file_write_atomic(path, bytes.data, bytes.length), STATUS_OK);
    text_release(&bytes);
    assert_int_equal(run_store_open(&store, path), STATUS_IO);
    assert_non_null(strstr(status_reason(), "malformed"));
}

static void a_directory_that_is_absent_is_named(void **state)
{
    (void)state;
    assert_int_equal(run_store_open(&store, "/tmp/hone-absent/run.db"), STATUS_IO);
    assert_non_null(strstr(status_reason(), "/tmp/hone-absent/run.db: unable to open"));
}

static void a_file_that_may_not_be_written_is_named(void **state)
{
    const uid_t nobody = 65534;
    int is_root = geteuid() == 0;   /* root may write anything */

    (void)state;
    assert_int_equal(run_store_open(&store, path), STATUS_OK);
    run_store_close(&store);
    assert_int_equal(chmod(path, 0444), 0);
    if (is_root) {
        assert_int_equal(chmod(directory, 0755), 0);
        assert_int_equal(seteuid(nobody), 0);
    }
    int status = run_store_open(&store, path);
    if (is_root)
        assert_int_equal(seteuid(0), 0);
    assert_int_equal(status, STATUS_IO);
    assert_non_null(strstr(status_reason(), path));
    assert_non_null(strstr(status_reason(), "readonly"));
}

static void a_full_disk_is_one_clear_error_and_loses_nothing(void **state)
{
    struct rlimit before, small = {1 << 18, RLIM_INFINITY};
    struct sample_group group = fake_group(7);
    int status = STATUS_OK;

    (void)state;
    int64_t stage = begin("zero");
    put_step(stage, 1, 1);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small.rlim_max = before.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    for (int64_t step = 2; step < 2000 && status == STATUS_OK; step++)
        status = run_store_put_step(store, stage, step, 1, NULL, 0, "train", &group, 1);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(status, STATUS_IO);
    assert_non_null(strstr(status_reason(), path));
    put_step(stage, 3000, 2);
    assert_query("PRAGMA integrity_check", "ok");
    assert_query("SELECT min(step), max(step) FROM step", "1|3000");
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        EACH(another_schema_version_is_refused),
        EACH(a_file_of_another_program_is_refused_untouched),
        EACH(a_file_that_is_no_database_is_refused),
        EACH(a_damaged_file_is_refused),
        EACH(a_directory_that_is_absent_is_named),
        EACH(a_file_that_may_not_be_written_is_named),
        EACH(a_full_disk_is_one_clear_error_and_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
