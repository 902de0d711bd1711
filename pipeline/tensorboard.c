/*
 * TensorBoard event files: a TFRecord for each protobuf Event.
 *
 *   record:  length u64 LE | masked CRC32C of the length u32 | bytes | masked CRC32C of the bytes
 *   Event:   wall_time = 1 (double), step = 2 (int64), file_version = 3 (string),
 *            summary = 5 { value = 1 { tag = 1 (string), simple_value = 2 (float) } ... }
 *
 * (tensorflow/core/util/event.proto, summary.proto; lib/io/record_writer.h)
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/files.h"
#include "common/status.h"
#include "pipeline/run_store.h"

struct tensorboard {
    FILE *file;
    char path[FILE_PATH_MAX];
    struct text event, summary, value;   /* reused by each record */
};

enum wire_type { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

static uint32_t crc32c(const void *bytes, size_t n)
{
    const unsigned char *in = bytes;
    uint32_t crc = 0xffffffff;

    for (size_t i = 0; i < n; i++) {
        crc ^= in[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? (crc >> 1) ^ 0x82f63b78 : crc >> 1;
    }
    return ~crc;
}

/* Rotated and shifted, since a CRC of data that holds CRCs is weak. */
static uint32_t mask_crc(uint32_t crc)
{
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8;
}

static void put_little_endian(struct text *out, uint64_t value, int n_bytes)
{
    for (int i = 0; i < n_bytes; i++) {
        unsigned char byte = (unsigned char)(value >> (8 * i));
        text_append(out, &byte, 1);
    }
}

static void put_varint(struct text *out, uint64_t value)
{
    do {
        unsigned char byte = (unsigned char)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        text_append(out, &byte, 1);
        value >>= 7;
    } while (value);
}

static void put_key(struct text *out, int field, enum wire_type type)
{
    put_varint(out, (uint64_t)field << 3 | (uint64_t)type);
}

static void put_double(struct text *out, int field, double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    put_key(out, field, FIXED64);
    put_little_endian(out, bits, 8);
}

static void put_float(struct text *out, int field, float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    put_key(out, field, FIXED32);
    put_little_endian(out, bits, 4);
}

static void put_bytes(struct text *out, int field, const void *bytes, size_t n)
{
    put_key(out, field, BYTES);
    put_varint(out, n);
    text_append(out, bytes, n);
}

/* Writes board->event as one record. */
static int write_record(struct tensorboard *board)
{
    struct text record = {0};
    const struct text *event = &board->event;

    put_little_endian(&record, event->length, 8);
    put_little_endian(&record, mask_crc(crc32c(record.data, 8)), 4);
    text_append(&record, event->data, event->length);
    put_little_endian(&record, mask_crc(crc32c(event->data, event->length)), 4);
    size_t written = fwrite(record.data, 1, record.length, board->file);
    int failed = written != record.length || fflush(board->file);
    text_release(&record);
    if (failed)
        return status_fail(STATUS_IO, "cannot write %s: %s", board->path, strerror(errno));
    return STATUS_OK;
}

static void begin_event(struct tensorboard *board)
{
    text_clear(&board->event);
    put_double(&board->event, 1, (double)clock_unix_ms() / 1e3);
}

/* A name that no earlier writer of this directory has: a resumed stage adds a file, and TensorBoard
 * drops from the older one the steps that the newer one repeats. */
static int open_new_file(struct tensorboard *board, const char *directory)
{
    char name[96];
    int64_t seconds = clock_unix_ms() / 1000;

    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof(name), "events.out.tfevents.%010lld.hone.%d.%d",
                 (long long)seconds, (int)getpid(), i);
        TRY(file_join(board->path, directory, name));
        board->file = fopen(board->path, "wbx");
        if (board->file || errno != EEXIST)
            break;
    }
    if (!board->file)
        return status_fail(STATUS_IO, "cannot create %s: %s", board->path, strerror(errno));
    return STATUS_OK;
}

int tensorboard_open(struct tensorboard **out, const char *directory)
{
    TRY(file_make_directories(directory));
    struct tensorboard *board = mem_alloc(1, sizeof(*board));
    int status = open_new_file(board, directory);
    if (status == STATUS_OK) {
        begin_event(board);
        put_bytes(&board->event, 3, "brain.Event:2", 13);
        status = write_record(board);
    }
    if (status < 0) {
        tensorboard_close(&board);
        return status;
    }
    *out = board;
    return STATUS_OK;
}

int tensorboard_put(struct tensorboard *board, int64_t step, const struct metric_value *metrics,
                    size_t n_metrics)
{
    text_clear(&board->summary);
    for (size_t i = 0; i < n_metrics; i++) {
        if (!metric_find(metrics[i].name))
            BUG("metric \"%s\" is not declared in pipeline/metrics.c", metrics[i].name);
        text_clear(&board->value);
        put_bytes(&board->value, 1, metrics[i].name, strlen(metrics[i].name));
        put_float(&board->value, 2, (float)metrics[i].value);
        put_bytes(&board->summary, 1, board->value.data, board->value.length);
    }
    if (!n_metrics)
        return STATUS_OK;
    begin_event(board);
    put_key(&board->event, 2, VARINT);
    put_varint(&board->event, (uint64_t)step);
    put_bytes(&board->event, 5, board->summary.data, board->summary.length);
    return write_record(board);
}

void tensorboard_close(struct tensorboard **board)
{
    if (!*board)
        return;
    if ((*board)->file)
        fclose((*board)->file);
    text_release(&(*board)->event);
    text_release(&(*board)->summary);
    text_release(&(*board)->value);
    mem_free(*board);
    *board = NULL;
}
