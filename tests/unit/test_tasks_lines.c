#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "common/status.h"
#include "tasks/lines.h"
#include "tasks/tasks.h"

#define LIMIT ((size_t)1 << 30)

static char directory[] = "/tmp/hone-lines-XXXXXX";
static char path[FILE_PATH_MAX];

static int set_up(void **state)
{
    (void)state;
    return !mkdtemp(directory) || file_join(path, directory, "lines") ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    return file_remove_tree(directory);
}

static void pack_gzip(struct text *out, const char *bytes, size_t n)
{
    size_t capacity = n + 1024;
    char *packed = mem_alloc(capacity, 1);
    z_stream stream = {0};

    assert_int_equal(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    stream.next_in = (unsigned char *)(uintptr_t)bytes;
    stream.avail_in = (unsigned)n;
    stream.next_out = (unsigned char *)packed;
    stream.avail_out = (unsigned)capacity;
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    text_append(out, packed, capacity - stream.avail_out);
    deflateEnd(&stream);
    mem_free(packed);
}

static void pack_zstd(struct text *out, const char *bytes, size_t n)
{
    size_t capacity = ZSTD_compressBound(n);
    char *packed = mem_alloc(capacity, 1);
    size_t made = ZSTD_compress(packed, capacity, bytes, n, 3);

    assert_false(ZSTD_isError(made));
    text_append(out, packed, made);
    mem_free(packed);
}

static void write_file(const void *bytes, size_t n)
{
    assert_int_equal(file_write_atomic(path, bytes, n), STATUS_OK);
}

/* All lines, each in brackets, or the status of the first failure. */
static int read_all(struct text *out, size_t max_bytes)
{
    struct lines *lines;
    const char *line;
    size_t n;
    int status;

    TRY(lines_open(&lines, path, max_bytes));
    while ((status = lines_next(lines, &line, &n)) > 0) {
        text_append(out, "[", 1);
        text_append(out, line, n);
        text_append(out, "]", 1);
    }
    lines_close(&lines);
    return status;
}

static void assert_lines(const char *bytes, size_t n, const char *wanted)
{
    struct text out = {0};

    write_file(bytes, n);
    assert_int_equal(read_all(&out, LIMIT), STATUS_OK);
    assert_string_equal(out.data ? out.data : "", wanted);
    text_release(&out);
}

static void packed_and_plain_files_have_the_same_lines(void **state)
{
    static const char *const texts[] = {"a\nbc\n\nd", "a\n", "", "\n\n", "one line"};
    static const char *const wanted[] = {"[a][bc][][d]", "[a]", "", "[][]", "[one line]"};

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct text gzip = {0}, zstd = {0};

        pack_gzip(&gzip, texts[i], strlen(texts[i]));
        pack_zstd(&zstd, texts[i], strlen(texts[i]));
        assert_lines(texts[i], strlen(texts[i]), wanted[i]);
        assert_lines(gzip.data, gzip.length, wanted[i]);
        assert_lines(zstd.data, zstd.length, wanted[i]);
        text_release(&gzip);
        text_release(&zstd);
    }
}

static void members_one_after_another_are_one_file(void **state)
{
    struct text gzip = {0}, zstd = {0};

    (void)state;
    pack_gzip(&gzip, "a\nb", 3);
    pack_gzip(&gzip, "c\nd\n", 4);
    assert_lines(gzip.data, gzip.length, "[a][bc][d]");
    pack_zstd(&zstd, "a\nb", 3);
    pack_zstd(&zstd, "c\nd\n", 4);
    assert_lines(zstd.data, zstd.length, "[a][bc][d]");
    text_release(&gzip);
    text_release(&zstd);
}

static void many_lines_come_out_whole_and_in_order(void **state)
{
    struct text plain = {0}, gzip = {0}, back = {0};

    (void)state;
    for (int i = 0; i < 200000; i++)
        text_print(&plain, "{\"question\":\"%d\"}\n", i);
    pack_gzip(&gzip, plain.data, plain.length);
    write_file(gzip.data, gzip.length);
    assert_int_equal(task_file_read(path, LIMIT, &back), STATUS_OK);
    assert_int_equal(back.length, plain.length);
    assert_memory_equal(back.data, plain.data, plain.length);
    text_release(&plain);
    text_release(&gzip);
    text_release(&back);
}

static void assert_refused(const void *bytes, size_t n, size_t max_bytes, const char *reason)
{
    struct text out = {0};

    write_file(bytes, n);
    assert_int_equal(read_all(&out, max_bytes), STATUS_FORMAT);
    if (!strstr(status_reason(), reason))
        fail_msg("\"%s\" does not hold \"%s\"", status_reason(), reason);
    text_release(&out);
}

static void what_expands_beyond_the_limit_is_refused(void **state)
{
    size_t n = (size_t)4 << 20;
    char *blank = mem_alloc(n, 1);
    struct text gzip = {0}, zstd = {0};

    (void)state;
    memset(blank, '\n', n);
    pack_gzip(&gzip, blank, n);
    pack_zstd(&zstd, blank, n);
    assert_true(gzip.length < 8192 && zstd.length < 8192);
    assert_refused(gzip.data, gzip.length, n - 1, "expands to more than 4194303 bytes");
    assert_refused(zstd.data, zstd.length, n - 1, "expands to more than 4194303 bytes");
    assert_refused(gzip.data, gzip.length, gzip.length - 1, "the limit is");
    mem_free(blank);
    text_release(&gzip);
    text_release(&zstd);
}

static void damaged_and_cut_files_are_refused_at_every_length(void **state)
{
    struct text gzip = {0}, zstd = {0};

    (void)state;
    pack_gzip(&gzip, "{\"a\":1}\n{\"b\":2}\n", 16);
    pack_zstd(&zstd, "{\"a\":1}\n{\"b\":2}\n", 16);
    for (size_t n = 2; n < gzip.length; n++)
        assert_refused(gzip.data, n, LIMIT, "gzip data is damaged");
    for (size_t n = 4; n < zstd.length; n++)
        assert_refused(zstd.data, n, LIMIT, "zstd data is damaged");
    gzip.data[gzip.length - 6] ^= 1;   /* its checksum */
    assert_refused(gzip.data, gzip.length, LIMIT, "damaged");
    text_append(&zstd, "junk", 4);
    assert_refused(zstd.data, zstd.length, LIMIT, "damaged");
    text_release(&gzip);
    text_release(&zstd);
}

/* Such a line is known by its length alone, and the next one is read. */
static void a_line_over_the_limit_takes_no_memory(void **state)
{
    size_t n = LINES_MAX_LINE + 10, length;
    char *bytes = mem_alloc(n + 2, 1);
    struct text zstd = {0};
    struct lines *lines;
    const char *line;

    (void)state;
    memset(bytes, 'x', n);
    bytes[n] = '\n';
    bytes[n + 1] = 'y';
    pack_zstd(&zstd, bytes, n + 2);
    write_file(zstd.data, zstd.length);
    assert_int_equal(lines_open(&lines, path, LIMIT), STATUS_OK);
    assert_int_equal(lines_next(lines, &line, &length), 1);
    assert_int_equal(length, n);
    assert_int_equal(lines_next(lines, &line, &length), 1);
    assert_int_equal(length, 1);
    assert_int_equal(line[0], 'y');
    assert_int_equal(lines_next(lines, &line, &length), 0);
    lines_close(&lines);
    lines_close(&lines);
    mem_free(bytes);
    text_release(&zstd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packed_and_plain_files_have_the_same_lines),
        cmocka_unit_test(members_one_after_another_are_one_file),
        cmocka_unit_test(many_lines_come_out_whole_and_in_order),
        cmocka_unit_test(what_expands_beyond_the_limit_is_refused),
        cmocka_unit_test(damaged_and_cut_files_are_refused_at_every_length),
        cmocka_unit_test(a_line_over_the_limit_takes_no_memory),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
