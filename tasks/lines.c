#define ZLIB_CONST
#include "tasks/lines.h"

#include <stdint.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "common/memory.h"
#include "common/status.h"
#include "tasks/tasks.h"

#define WINDOW_BYTES ((size_t)256 << 10)
#define GZIP_MAX_INPUT ((size_t)1 << 30)   /* zlib counts in unsigned int */
#define GZIP_WINDOW_BITS (15 + 16)         /* 16: a gzip header, not zlib's */

enum packing { PACKED_NOT, PACKED_GZIP, PACKED_ZSTD };

struct lines {
    struct file_map map;
    const char *path;
    size_t at;                       /* read so far of the map */
    size_t max_bytes, expanded;
    enum packing packing;
    z_stream gzip;
    ZSTD_DStream *zstd;
    int in_frame;                    /* a member or frame has begun and not ended */
    char *window;                    /* expanded bytes [begin, end) that are still to be given */
    size_t begin, end;
    struct text line;
};

static int fail_open(struct lines **lines, int status)
{
    lines_close(lines);
    return status;
}

static enum packing packing_of(const struct file_map *map)
{
    if (map->n >= 2 && memcmp(map->bytes, "\x1F\x8B", 2) == 0)
        return PACKED_GZIP;
    if (map->n >= 4 && memcmp(map->bytes, "\x28\xB5\x2F\xFD", 4) == 0)
        return PACKED_ZSTD;
    return PACKED_NOT;
}

int lines_open(struct lines **out, const char *path, size_t max_bytes)
{
    struct lines *lines = mem_alloc(1, sizeof(*lines));
    int status = file_map_open(&lines->map, path);

    *out = lines;
    lines->path = path;
    lines->max_bytes = max_bytes;
    lines->line.maximum = LINES_MAX_LINE + 1;
    if (status < 0)
        return fail_open(out, status);
    if (lines->map.n > max_bytes)
        return fail_open(out, status_fail(STATUS_FORMAT, "%s has %zu bytes, the limit is %zu: "
                                          "split it into several files", path, lines->map.n,
                                          max_bytes));
    lines->packing = packing_of(&lines->map);
    if (lines->packing == PACKED_GZIP && inflateInit2(&lines->gzip, GZIP_WINDOW_BITS) != Z_OK) {
        lines->packing = PACKED_NOT;
        return fail_open(out, status_fail(STATUS_NOMEM, "%s: no memory to expand it", path));
    }
    if (lines->packing == PACKED_ZSTD && !(lines->zstd = ZSTD_createDStream()))
        return fail_open(out, status_fail(STATUS_NOMEM, "%s: no memory to expand it", path));
    if (lines->packing != PACKED_NOT)
        lines->window = mem_alloc(WINDOW_BYTES, 1);
    return STATUS_OK;
}

void lines_close(struct lines **lines)
{
    if (!*lines)
        return;
    if ((*lines)->packing == PACKED_GZIP)
        inflateEnd(&(*lines)->gzip);
    ZSTD_freeDStream((*lines)->zstd);
    file_map_close(&(*lines)->map);
    text_release(&(*lines)->line);
    mem_free((*lines)->window);
    mem_free(*lines);
    *lines = NULL;
}

static int fail_damaged(const struct lines *lines, const char *why)
{
    return status_fail(STATUS_FORMAT, "%s: byte %zu: the %s data is damaged (%s): make the file "
                       "anew", lines->path, lines->at,
                       lines->packing == PACKED_GZIP ? "gzip" : "zstd", why);
}

/* One step; *made says how many bytes came out. Members one after another are one file. */
static int expand_gzip(struct lines *lines, size_t *made)
{
    size_t rest = lines->map.n - lines->at;
    z_stream *gzip = &lines->gzip;

    gzip->next_in = lines->map.bytes + lines->at;
    gzip->avail_in = (unsigned)(rest < GZIP_MAX_INPUT ? rest : GZIP_MAX_INPUT);
    size_t given = gzip->avail_in;
    gzip->next_out = (unsigned char *)lines->window;
    gzip->avail_out = WINDOW_BYTES;
    int result = inflate(gzip, Z_NO_FLUSH);
    lines->at += given - gzip->avail_in;
    *made = WINDOW_BYTES - gzip->avail_out;
    lines->in_frame = result != Z_STREAM_END;
    if (result == Z_STREAM_END)
        return inflateReset(gzip) == Z_OK ? STATUS_OK : fail_damaged(lines, "no reset");
    if (result == Z_BUF_ERROR)
        return fail_damaged(lines, "it ends too early");
    return result == Z_OK ? STATUS_OK : fail_damaged(lines, gzip->msg ? gzip->msg : "no data");
}

static int expand_zstd(struct lines *lines, size_t *made)
{
    ZSTD_inBuffer in = {lines->map.bytes + lines->at, lines->map.n - lines->at, 0};
    ZSTD_outBuffer out = {lines->window, WINDOW_BYTES, 0};
    size_t result = ZSTD_decompressStream(lines->zstd, &out, &in);

    lines->at += in.pos;
    *made = out.pos;
    if (ZSTD_isError(result))
        return fail_damaged(lines, ZSTD_getErrorName(result));
    lines->in_frame = result != 0;
    if (lines->in_frame && !out.pos && !in.pos)
        return fail_damaged(lines, "it ends too early");
    return STATUS_OK;
}

/* 1 when the window holds bytes, 0 at the end. */
static int fill_window(struct lines *lines)
{
    size_t made = 0;

    while (!made) {
        if (lines->at == lines->map.n && !lines->in_frame)
            return 0;
        TRY(lines->packing == PACKED_GZIP ? expand_gzip(lines, &made)
                                          : expand_zstd(lines, &made));
    }
    lines->begin = 0;
    lines->end = made;
    lines->expanded += made;
    if (lines->expanded > lines->max_bytes)
        return status_fail(STATUS_FORMAT, "%s expands to more than %zu bytes: split it into "
                           "several files", lines->path, lines->max_bytes);
    return 1;
}

static int next_expanded(struct lines *lines, const char **line, size_t *n)
{
    size_t length = 0;
    int is_line = 0, has_end = 0;

    text_clear(&lines->line);
    while (!has_end) {
        if (lines->begin == lines->end) {
            int status = fill_window(lines);

            if (status < 0)
                return status;
            if (status == 0)
                break;
        }
        const char *start = lines->window + lines->begin;
        size_t rest = lines->end - lines->begin;
        const char *newline = memchr(start, '\n', rest);

        has_end = newline != NULL;
        is_line = 1;
        rest = newline ? (size_t)(newline - start) : rest;
        if (length + rest <= LINES_MAX_LINE)
            text_append(&lines->line, start, rest);
        length += rest;
        lines->begin += rest + (size_t)has_end;
    }
    *line = lines->line.data ? lines->line.data : "";
    *n = length;
    return is_line;
}

int lines_next(struct lines *lines, const char **line, size_t *n)
{
    const char *newline;

    if (lines->packing != PACKED_NOT)
        return next_expanded(lines, line, n);
    if (lines->at >= lines->map.n)
        return 0;
    *line = (const char *)lines->map.bytes + lines->at;
    *n = lines->map.n - lines->at;
    newline = memchr(*line, '\n', *n);
    if (newline)
        *n = (size_t)(newline - *line);
    lines->at += *n + (newline != NULL);
    return 1;
}

void lines_digest(const struct lines *lines, struct digest *digest)
{
    digest_of(digest, lines->map.bytes, lines->map.n);
}

int task_file_read(const char *path, size_t max_bytes, struct text *out)
{
    struct lines *lines;
    const char *line;
    size_t n;
    int status;

    TRY(lines_open(&lines, path, max_bytes));
    while ((status = lines_next(lines, &line, &n)) > 0) {
        if (n > LINES_MAX_LINE) {
            status = status_fail(STATUS_FORMAT, "%s: a line has %zu bytes, the limit is %zu", path,
                                 n, LINES_MAX_LINE);
            break;
        }
        text_append(out, line, n);
        text_append(out, "\n", 1);
    }
    lines_close(&lines);
    return status;
}
