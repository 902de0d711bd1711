/* A full disk, or one that may only be read: one clear line, and the run goes on afterwards. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "tests/integration/support.h"
#include "tests/integration/support_net.h"

#define DISK_BYTES "67108864"

static struct place place;
static const char *why_not;   /* this machine gives no file system of our own */

static int make_place(void **state)
{
    struct program program;

    (void)state;
    why_not = namespaces_enter(CLONE_NEWNS);
    place_make(&place);
    assert_int_equal(file_make_directories(in_place(&place, "run/disk")), STATUS_OK);
    if (!why_not && mount("hone-test", in_place(&place, "run/disk"), "tmpfs", MS_NOSUID | MS_NODEV,
                          "size=" DISK_BYTES))
        why_not = "no tmpfs of our own";
    HONE(&program, &place, "run", RECIPE, "--run", "run/quiet");
    assert_ends(&program, 0, "stage distill is done");
    return 0;
}

static int remove_place(void **state)
{
    (void)state;
    if (!why_not)
        umount2(in_place(&place, "run/disk"), MNT_DETACH);
    place_remove(&place);
    return 0;
}

static void skip_without_disk(void)
{
    if (why_not) {
        print_message("skipped: %s\n", why_not);
        skip();
    }
}

static long long free_bytes(void)
{
    struct statvfs info;

    assert_int_equal(statvfs(in_place(&place, "run/disk"), &info), 0);
    return (long long)info.f_bavail * (long long)info.f_frsize;
}

/* Ballast that leaves so many bytes. */
static void leave_free(long long n)
{
    int fd = open(in_place(&place, "run/disk/ballast"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(posix_fallocate(fd, 0, (off_t)(free_bytes() - n)), 0);
    close(fd);
}

static void check_every_checkpoint(const char *run)
{
    char *paths = ask(&place, run, "SELECT path FROM checkpoint c WHERE step = (SELECT max(step) "
                      "FROM checkpoint d WHERE d.stage_id = c.stage_id)");
    struct text manifest = {0};

    for (char *path = paths, *end; (end = strchr(path, '\n')); path = end + 1) {
        struct digest digest;
        char hex[DIGEST_HEX_BYTES];
        *end = '\0';
        text_clear(&manifest);
        assert_int_equal(file_read(in_place(&place, "%s/%s/manifest.json", run, path), 1 << 20,
                                   &manifest), STATUS_OK);
        assert_int_equal(digest_of_file(&digest, in_place(&place, "%s/%s/model.safetensors", run,
                                                          path)), STATUS_OK);
        digest_hex(&digest, hex);
        assert_non_null(strstr(manifest.data, hex));
    }
    text_release(&manifest);
    mem_free(paths);
}

static void a_full_disk_is_one_clear_line_and_the_run_goes_on_when_there_is_room(void **state)
{
    /* From nearly nothing on: each time another write is the one that fails. */
    static const long long room[] = {0, 40000, 150000, 400000, 700000, 1000000, 2000000};
    struct program program;
    int n_full = 0;

    (void)state;
    skip_without_disk();
    HONE(&program, &place, "run", RECIPE, "--run", "run/disk/run", "--stage", "base");
    assert_ends(&program, 0, "stage base is done");
    for (size_t i = 0; i < sizeof(room) / sizeof(room[0]); i++) {
        leave_free(room[i]);
        HONE(&program, &place, "run", "--run", "run/disk/run");
        int code = wait_for_exit(&program);
        if (code != 0) {
            n_full++;
            assert_int_equal(code, 5);
            assert_true(SAYS(&program, "No space left on device") ||
                        SAYS(&program, "disk is full"));
            assert_int_equal(count_lines(&program, "hone: "), 1);
        }
        check_every_checkpoint("run/disk/run");
        assert_int_equal(unlink(in_place(&place, "run/disk/ballast")), 0);
    }
    assert_true(n_full >= 4);
    HONE(&program, &place, "run", "--run", "run/disk/run");
    assert_ends(&program, 0, "stage distill is done");
    assert_same_runs(&place, "run/quiet", "run/disk/run");
}

static void a_disk_that_was_full_from_the_start_is_one_clear_line(void **state)
{
    struct program program;

    (void)state;
    skip_without_disk();
    leave_free(0);
    HONE(&program, &place, "run", RECIPE, "--run", "run/disk/new");
    assert_ends(&program, 5, "run/disk/new");
    assert_int_equal(count_lines(&program, ""), 1);
    assert_int_equal(unlink(in_place(&place, "run/disk/ballast")), 0);
    HONE(&program, &place, "run", RECIPE, "--run", "run/disk/new", "--stage", "base");
    assert_ends(&program, 0, "stage base is done");
}

static void remount(unsigned long flags)
{
    assert_int_equal(mount("hone-test", in_place(&place, "run/disk"), "tmpfs",
                           MS_REMOUNT | MS_NOSUID | MS_NODEV | flags, "size=" DISK_BYTES), 0);
}

static void a_directory_that_may_only_be_read_is_one_clear_line(void **state)
{
    struct program program;

    (void)state;
    skip_without_disk();
    file_remove_tree(in_place(&place, "run/disk/run"));
    HONE(&program, &place, "run", RECIPE, "--run", "run/disk/read", "--stage", "base");
    assert_ends(&program, 0, "stage base is done");
    remount(MS_RDONLY);
    HONE(&program, &place, "run", "--run", "run/disk/read", "--stage", "zero");
    assert_ends(&program, 5, "run/disk/read");
    assert_int_equal(count_lines(&program, ""), 1);
    HONE(&program, &place, "run", RECIPE, "--run", "run/disk/other");
    assert_ends(&program, 5, "run/disk/other");
    assert_int_equal(count_lines(&program, ""), 1);
    /* What only reads still works. */
    HONE(&program, &place, "replay", "run/disk/read", "--stage", "base", "--step", "16");
    assert_ends(&program, 0, "things are equal");
    remount(0);
    HONE(&program, &place, "run", "--run", "run/disk/read", "--stage", "zero");
    assert_ends(&program, 0, "stage zero is done");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_disk_is_one_clear_line_and_the_run_goes_on_when_there_is_room),
        cmocka_unit_test(a_disk_that_was_full_from_the_start_is_one_clear_line),
        cmocka_unit_test(a_directory_that_may_only_be_read_is_one_clear_line),
    };

    return cmocka_run_group_tests_name("integration_disk", tests, make_place, remove_place);
}
