#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/files.h"
#include "common/status.h"
#include "pipeline/run_store.h"

static char directory[] = "/tmp/hone-tensorboard-XXXXXX";

static int make_directory(void **state)
{
    (void)state;
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
    (void)state;
    return file_remove_tree(directory);
}

/* The bytes of the one file in `path`; the number of files is the result. */
static int read_only_file(const char *path, struct text *bytes)
{
    DIR *entries = opendir(path);
    struct dirent *entry;
    char file[FILE_PATH_MAX];
    int n = 0;

    assert_non_null(entries);
    while ((entry = readdir(entries))) {
        if (entry->d_name[0] == '.')
            continue;
        assert_non_null(strstr(entry->d_name, "tfevents"));
        assert_int_equal(file_join(file, path, entry->d_name), STATUS_OK);
        text_clear(bytes);
        assert_int_equal(file_read(file, 1 << 20, bytes), STATUS_OK);
        n++;
    }
    closedir(entries);
    return n;
}

static uint64_t little_endian(const unsigned char *bytes, int n)
{
    uint64_t value = 0;

    for (int i = n - 1; i >= 0; i--)
        value = value << 8 | bytes[i];
    return value;
}

/* A second CRC32C, by long division of the reflected polynomial over single bits. */
static uint32_t masked_crc(const unsigned char *bytes, size_t n)
{
    uint32_t crc = 0xffffffff;

    for (size_t i = 0; i < 8 * n; i++) {
        uint32_t bit = (uint32_t)(bytes[i / 8] >> (i % 8)) & 1;
        crc = (crc >> 1) ^ (((crc ^ bit) & 1) * 0x82f63b78u);
    }
    crc = ~crc;
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

struct event {
    double wall_time;
    int64_t step;
    char version[32];
    int n_values;
    char tags[8][64];
    float values[8];
};

static uint64_t read_varint(const unsigned char **at)
{
    uint64_t value = 0;
    int shift = 0;

    do {
        value |= (uint64_t)(**at & 0x7f) << shift;
        shift += 7;
    } while (*(*at)++ & 0x80);
    return value;
}

static void read_value(struct event *event, const unsigned char *at, const unsigned char *end)
{
    int i = event->n_values++;

    assert_int_equal(*at++, 1 << 3 | 2);
    uint64_t n = read_varint(&at);
    memcpy(event->tags[i], at, n);
    at += n;
    assert_int_equal(*at++, 2 << 3 | 5);
    uint32_t bits = (uint32_t)little_endian(at, 4);
    memcpy(&event->values[i], &bits, 4);
    assert_ptr_equal(at + 4, end);
}

static void read_event(struct event *event, const unsigned char *at, const unsigned char *end)
{
    memset(event, 0, sizeof(*event));
    while (at < end) {
        uint64_t key = read_varint(&at), n;
        switch (key) {
        case 1 << 3 | 1:
            n = little_endian(at, 8);
            memcpy(&event->wall_time, &n, 8);
            at += 8;
            break;
        case 2 << 3 | 0:
            event->step = (int64_t)read_varint(&at);
            break;
        case 3 << 3 | 2:
            n = read_varint(&at);
            memcpy(event->version, at, n);
            at += n;
            break;
        case 5 << 3 | 2:
            n = read_varint(&at);
            for (const unsigned char *stop = at + n; at < stop;) {
                assert_int_equal(*at++, 1 << 3 | 2);
                uint64_t length = read_varint(&at);
                read_value(event, at, at + length);
                at += length;
            }
            break;
        default:
            fail_msg("key %d in an event", (int)key);
        }
    }
}

/* Cuts the file into records, checks both checksums of each, and reads the events. */
static int read_events(const struct text *file, struct event *events, int maximum)
{
    const unsigned char *at = (const unsigned char *)file->data, *end = at + file->length;
    int n = 0;

    while (at < end) {
        assert_true(end - at >= 16 && n < maximum);
        uint64_t length = little_endian(at, 8);
        assert_int_equal(little_endian(at + 8, 4), masked_crc(at, 8));
        assert_true((uint64_t)(end - at) >= 16 + length);
        assert_int_equal(little_endian(at + 12 + length, 4), masked_crc(at + 12, length));
        read_event(&events[n++], at + 12, at + 12 + length);
        at += 16 + length;
    }
    return n;
}

static void the_checksum_is_crc32c(void **state)
{
    (void)state;
    /* RFC 3720 B.4: 32 bytes of zero have 0x8a9136aa. */
    unsigned char zeros[32] = {0};
    uint32_t crc = 0x8a9136aa;
    assert_int_equal(masked_crc(zeros, 32), ((crc >> 15) | (crc << 17)) + 0xa282ead8u);
}

static void what_is_put_is_read_back(void **state)
{
    const struct metric_value first[] = {{"loss", 2.5}, {"rewards/accuracy/mean", 0.25}};
    const struct metric_value second[] = {{"loss", -1e-3}};
    struct event events[8];
    struct tensorboard *board;
    struct text file = {0};
    char path[FILE_PATH_MAX];

    (void)state;
    assert_int_equal(file_join(path, directory, "a/zero"), STATUS_OK);
    assert_int_equal(tensorboard_open(&board, path), STATUS_OK);
    assert_int_equal(tensorboard_put(board, 7, first, 2), STATUS_OK);
    assert_int_equal(tensorboard_put(board, 300000, second, 1), STATUS_OK);
    assert_int_equal(read_only_file(path, &file), 1);   /* flushed: readable while it goes on */
    assert_int_equal(read_events(&file, events, 8), 3);
    tensorboard_close(&board);
    assert_null(board);

    assert_string_equal(events[0].version, "brain.Event:2");
    assert_true(events[0].wall_time > 1.6e9);
    assert_int_equal(events[1].step, 7);
    assert_int_equal(events[1].n_values, 2);
    assert_string_equal(events[1].tags[0], "loss");
    assert_true(events[1].values[0] == 2.5f);
    assert_string_equal(events[1].tags[1], "rewards/accuracy/mean");
    assert_true(events[1].values[1] == 0.25f);
    assert_int_equal(events[2].step, 300000);
    assert_true(events[2].values[0] == -1e-3f);
    text_release(&file);
}

static void a_second_writer_adds_a_file(void **state)
{
    struct tensorboard *board;
    struct text file = {0};
    char path[FILE_PATH_MAX];

    (void)state;
    assert_int_equal(file_join(path, directory, "b"), STATUS_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(tensorboard_open(&board, path), STATUS_OK);
        tensorboard_close(&board);
    }
    assert_int_equal(read_only_file(path, &file), 3);
    text_release(&file);
}

static void a_directory_that_cannot_be_made_is_named(void **state)
{
    struct tensorboard *board;

    (void)state;
    assert_int_equal(tensorboard_open(&board, "/dev/null/x"), STATUS_IO);
    assert_non_null(strstr(status_reason(), "/dev/null"));
}

static void a_full_disk_is_one_clear_error(void **state)
{
    const struct metric_value metric = {"loss", 1};
    struct tensorboard *board;
    char path[FILE_PATH_MAX];

    (void)state;
    if (!file_exists("/dev/full"))
        skip();
    assert_int_equal(file_join(path, directory, "c"), STATUS_OK);
    assert_int_equal(tensorboard_open(&board, path), STATUS_OK);
    FILE *file = *(FILE **)board;   /* its first member */
    assert_non_null(freopen("/dev/full", "wb", file));
    assert_int_equal(tensorboard_put(board, 1, &metric, 1), STATUS_IO);
    assert_non_null(strstr(status_reason(), "No space left"));
    assert_non_null(strstr(status_reason(), path));
    tensorboard_close(&board);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_checksum_is_crc32c),
        cmocka_unit_test(what_is_put_is_read_back),
        cmocka_unit_test(a_second_writer_adds_a_file),
        cmocka_unit_test(a_directory_that_cannot_be_made_is_named),
        cmocka_unit_test(a_full_disk_is_one_clear_error),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
