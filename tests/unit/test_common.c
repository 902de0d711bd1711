/* common/: status, arena, text, random numbers, files, digests, JSON, logs. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <signal.h>
#include <unistd.h>

#include "common/arena.h"
#include "common/files.h"
#include "common/json.h"
#include "common/memory.h"
#include "common/random.h"
#include "common/status.h"

static char directory[] = "/tmp/hone-common-XXXXXX";

static void a_reason_may_be_made_from_the_reason_before(void **state)
{
    (void)state;
    assert_int_equal(status_fail(STATUS_IO, "first %d", 1), STATUS_IO);
    status_fail(STATUS_CONFIG, "second after %s", status_reason());
    assert_string_equal(status_reason(), "second after first 1");
    assert_int_equal(status_context(STATUS_IO, "file %s", "x"), STATUS_IO);
    assert_string_equal(status_reason(), "file x: second after first 1");
}

static void every_status_has_a_name_and_an_exit_code(void **state)
{
    (void)state;
    assert_string_equal(status_name(STATUS_TIMEOUT), "STATUS_TIMEOUT");
    assert_int_equal(status_exit_code(STATUS_OK), 0);
    assert_int_equal(status_exit_code(STATUS_CONFIG), 2);
    assert_int_equal(status_exit_code(STATUS_INTERRUPTED), 3);
    for (int status = -1; status >= STATUS_STUCK; status--) {
        assert_string_not_equal(status_name(status), "STATUS_?");
        assert_true(status_exit_code(status) > 0);
    }
}

static void arena_memory_is_zeroed_aligned_and_bounded(void **state)
{
    struct arena arena;

    (void)state;
    arena_init(&arena, 1000);
    char *bytes = arena_alloc(&arena, 3, 1, 1);
    double *numbers = ARENA_NEW(&arena, double, 4);
    assert_non_null(bytes);
    assert_int_equal((uintptr_t)numbers % _Alignof(double), 0);
    assert_true(numbers[3] == 0.0);
    assert_null(arena_alloc(&arena, 1000, 1, 1));
    assert_null(arena_alloc(&arena, SIZE_MAX / 2, 4, 1));
    memset(numbers, 1, 4 * sizeof(double));
    arena_rewind(&arena);
    assert_true(ARENA_NEW(&arena, double, 4)[0] == 0.0);
    arena_release(&arena);
}

static void arena_pointers_stay_good_when_it_grows(void **state)
{
    struct arena arena;
    char *copies[64];

    (void)state;
    arena_init(&arena, (size_t)64 << 20);
    for (int i = 0; i < 64; i++) {
        copies[i] = arena_copy(&arena, "hone", 4);
        assert_non_null(arena_alloc(&arena, 100000, 1, 64));
    }
    for (int i = 0; i < 64; i++)
        assert_string_equal(copies[i], "hone");
    arena_release(&arena);
}

static void text_beyond_its_maximum_fails_and_keeps_what_it_had(void **state)
{
    struct text text = {.maximum = 5};

    (void)state;
    text_append(&text, "12345", 5);
    assert_false(text.failed);
    text_append(&text, "6", 1);
    assert_true(text.failed);
    assert_string_equal(text.data, "12345");
    text_release(&text);
}

/* The known answers of Random123's kat_vectors for philox4x32-10. */
static void philox_gives_the_published_answers(void **state)
{
    static const struct {
        uint32_t key[2], counter[4], out[4];
    } rows[] = {
        {{0, 0}, {0, 0, 0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0xa4093822, 0x299f31d0},
         {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint32_t out[4];
        random_philox(rows[i].key, rows[i].counter, out);
        assert_memory_equal(out, rows[i].out, sizeof(out));
    }
}

static void uniform_numbers_depend_on_every_argument_and_lie_in_0_to_1(void **state)
{
    double first = random_uniform(1, 2, 3, 4), sum = 0;

    (void)state;
    assert_true(first == random_uniform(1, 2, 3, 4));
    assert_true(first != random_uniform(2, 2, 3, 4) && first != random_uniform(1, 3, 3, 4) &&
                first != random_uniform(1, 2, 4, 4) && first != random_uniform(1, 2, 3, 5));
    for (uint32_t i = 0; i < 10000; i++) {
        double u = random_uniform(7, 1, 0, i);
        assert_true(u >= 0.0 && u < 1.0);
        sum += u;
    }
    assert_float_equal(sum / 10000, 0.5, 0.01);
}

static void numbers_below_n_are_uniform_and_a_stream_resumes_at_its_position(void **state)
{
    struct random_stream stream = {.seed = 3}, later = {.seed = 3};
    int counts[7] = {0};

    (void)state;
    for (int i = 0; i < 7000; i++)
        counts[random_below(&stream, 7)]++;
    for (int i = 0; i < 7; i++)
        assert_in_range(counts[i], 880, 1120);
    later.position = stream.position;
    assert_true(random_next(&stream) == random_next(&later));
}

static void a_shuffle_keeps_every_item_and_depends_on_the_seed_alone(void **state)
{
    uint32_t first[50], again[50], other[50];
    int seen[50] = {0}, n_moved = 0;

    (void)state;
    for (uint32_t i = 0; i < 50; i++)
        first[i] = again[i] = other[i] = i;
    random_shuffle(7, first, 50, sizeof(first[0]));
    random_shuffle(7, again, 50, sizeof(again[0]));
    random_shuffle(8, other, 50, sizeof(other[0]));
    assert_memory_equal(first, again, sizeof(first));
    assert_memory_not_equal(first, other, sizeof(first));
    for (int i = 0; i < 50; i++) {
        n_moved += first[i] != (uint32_t)i;
        assert_int_equal(seen[first[i]]++, 0);
    }
    assert_true(n_moved > 30);
}

static void normal_numbers_have_mean_0_and_variance_1(void **state)
{
    struct random_stream stream = {.seed = 9};
    double sum = 0, squares = 0;

    (void)state;
    for (int i = 0; i < 20000; i++) {
        double x = random_normal(&stream);
        sum += x;
        squares += x * x;
    }
    assert_float_equal(sum / 20000, 0, 0.03);
    assert_float_equal(squares / 20000, 1, 0.04);
}

static void path_of(char *out, const char *name)
{
    assert_int_equal(file_join(out, directory, name), 0);
}

static void a_written_file_reads_back_and_leaves_no_temporary(void **state)
{
    char path[FILE_PATH_MAX], temporary[FILE_PATH_MAX + 8];
    struct text text = {0};

    (void)state;
    path_of(path, "file");
    assert_int_equal(file_write_atomic(path, "one\0two", 7), 0);
    assert_int_equal(file_read(path, 7, &text), 0);
    assert_int_equal(text.length, 7);
    assert_memory_equal(text.data, "one\0two", 7);
    snprintf(temporary, sizeof(temporary), "%s.tmp", path);
    assert_false(file_exists(temporary));
    text_clear(&text);
    assert_int_equal(file_read(path, 6, &text), STATUS_FORMAT);
    text_release(&text);
}

static void a_write_that_fails_keeps_the_old_file_and_says_why(void **state)
{
    char path[FILE_PATH_MAX];
    char *large = mem_alloc(1 << 16, 1);
    struct rlimit old, low;
    struct text text = {0};

    (void)state;
    path_of(path, "kept");
    assert_int_equal(file_write_atomic(path, "old", 3), 0);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    low = old;
    low.rlim_cur = 1024;
    setrlimit(RLIMIT_FSIZE, &low);
    int status = file_write_atomic(path, large, 1 << 16);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(status, STATUS_IO);
    assert_non_null(strstr(status_reason(), path));
    assert_int_equal(file_read(path, 100, &text), 0);
    assert_string_equal(text.data, "old");
    text_release(&text);
    mem_free(large);
}

static void directories_are_made_and_removed_as_trees(void **state)
{
    char path[FILE_PATH_MAX], inner[FILE_PATH_MAX];

    (void)state;
    path_of(path, "a/b/c");
    assert_int_equal(file_make_directories(path), 0);
    assert_int_equal(file_make_directories(path), 0);
    path_of(inner, "a/b/c/file");
    assert_int_equal(file_write_atomic(inner, "x", 1), 0);
    path_of(path, "a");
    assert_int_equal(file_remove_tree(path), 0);
    assert_false(file_exists(path));
    assert_int_equal(file_remove_tree(path), 0);
}

static void sha256_is_that_of_fips_180(void **state)
{
    struct digest digest;
    struct digest_state *parts = digest_begin();
    char hex[DIGEST_HEX_BYTES];

    (void)state;
    digest_of(&digest, "abc", 3);
    digest_hex(&digest, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    digest_add(parts, "a", 1);
    digest_add(parts, "bc", 2);
    digest_end(parts, &digest);
    digest_hex(&digest, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void a_missing_file_is_named(void **state)
{
    struct file_map map;

    (void)state;
    assert_int_equal(file_map_open(&map, "/nowhere/file"), STATUS_IO);
    assert_non_null(strstr(status_reason(), "/nowhere/file"));
}

static void json_errors_name_the_file_the_key_and_what_is_wanted(void **state)
{
    json_t *json;
    int64_t number;
    const char *text;

    (void)state;
    assert_int_equal(json_parse(&json, "{\"a\": }", 7, "x.json"), STATUS_FORMAT);
    assert_non_null(strstr(status_reason(), "x.json:1:"));
    assert_int_equal(json_parse(&json, "{\"a\":\"b\",\"n\":null}", 18, "x.json"), 0);
    assert_int_equal(json_get_int(json, "a", "x.json", &number), STATUS_FORMAT);
    assert_non_null(strstr(status_reason(), "\"a\""));
    assert_int_equal(json_get_int_or(json, "n", "x.json", 7, &number), 0);
    assert_int_equal(number, 7);
    assert_int_equal(json_get_text(json, "b", "x.json", &text), STATUS_FORMAT);
    json_decref(json);
}

static void json_strings_of_any_bytes_are_valid_json(void **state)
{
    char bytes[256];
    struct text out = {0};
    json_t *json;

    (void)state;
    for (int i = 0; i < 256; i++)
        bytes[i] = (char)i;
    text_append(&out, "[", 1);
    json_append_string(&out, bytes + 1, sizeof(bytes) - 1);
    text_append(&out, "]", 1);
    assert_int_equal(json_parse(&json, out.data, out.length, "bytes"), 0);
    json_decref(json);
    text_release(&out);
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(directory) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return file_remove_tree(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reason_may_be_made_from_the_reason_before),
        cmocka_unit_test(every_status_has_a_name_and_an_exit_code),
        cmocka_unit_test(arena_memory_is_zeroed_aligned_and_bounded),
        cmocka_unit_test(arena_pointers_stay_good_when_it_grows),
        cmocka_unit_test(text_beyond_its_maximum_fails_and_keeps_what_it_had),
        cmocka_unit_test(philox_gives_the_published_answers),
        cmocka_unit_test(uniform_numbers_depend_on_every_argument_and_lie_in_0_to_1),
        cmocka_unit_test(numbers_below_n_are_uniform_and_a_stream_resumes_at_its_position),
        cmocka_unit_test(a_shuffle_keeps_every_item_and_depends_on_the_seed_alone),
        cmocka_unit_test(normal_numbers_have_mean_0_and_variance_1),
        cmocka_unit_test(a_written_file_reads_back_and_leaves_no_temporary),
        cmocka_unit_test(a_write_that_fails_keeps_the_old_file_and_says_why),
        cmocka_unit_test(directories_are_made_and_removed_as_trees),
        cmocka_unit_test(sha256_is_that_of_fips_180),
        cmocka_unit_test(a_missing_file_is_named),
        cmocka_unit_test(json_errors_name_the_file_the_key_and_what_is_wanted),
        cmocka_unit_test(json_strings_of_any_bytes_are_valid_json),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
