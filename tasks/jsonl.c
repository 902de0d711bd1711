#include "tasks/jsonl.h"

#include <stdio.h>
#include <string.h>

#include "common/status.h"

int jsonl_open(struct jsonl *file, const char *path)
{
    memset(file, 0, sizeof(*file));
    file->path = path;
    file->row = -1;
    TRY(file_map_open(&file->map, path));
    if (file->map.n > JSONL_MAX_FILE) {
        size_t n = file->map.n;

        file_map_close(&file->map);
        return status_fail(STATUS_FORMAT,
                           "%s has %zu bytes, the limit is %zu: split it into several files", path,
                           n, JSONL_MAX_FILE);
    }
    if (file->map.n >= 3 && memcmp(file->map.bytes, "\xEF\xBB\xBF", 3) == 0)
        file->offset = 3;
    return STATUS_OK;
}

void jsonl_close(struct jsonl *file)
{
    file_map_close(&file->map);
}

static int is_blank(const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != ' ' && bytes[i] != '\t' && bytes[i] != '\r')
            return 0;
    return 1;
}

int jsonl_next(struct jsonl *file, json_t **row)
{
    const char *start;
    size_t n;

    *row = NULL;
    do {
        const char *end;

        if (file->offset >= file->map.n)
            return 0;
        start = (const char *)file->map.bytes + file->offset;
        n = file->map.n - file->offset;
        end = memchr(start, '\n', n);
        if (end)
            n = (size_t)(end - start);
        file->offset += n + 1;
        file->line++;
    } while (is_blank(start, n));
    file->row++;
    snprintf(file->where, sizeof(file->where), "%s:%lld", file->path, (long long)file->line);
    if (n > JSONL_MAX_LINE)
        return status_fail(STATUS_FORMAT, "%s: the line has %zu bytes, the limit is %zu",
                           file->where, n, JSONL_MAX_LINE);
    TRY(json_parse(row, start, n, file->where));
    if (!json_is_object(*row)) {
        json_decref(*row);
        *row = NULL;
        return status_fail(STATUS_FORMAT, "%s: a line must be one JSON object", file->where);
    }
    return 1;
}

int jsonl_join(struct arena *arena, const struct jsonl_part *parts, size_t n_parts,
               struct wire_text *out)
{
    size_t total = 0;
    char *at;

    for (size_t i = 0; i < n_parts; i++)
        total += parts[i].bytes;
    if (total > UINT32_MAX)
        return status_fail(STATUS_FORMAT, "a text of %zu bytes is over the limit of 4 GiB", total);
    at = arena_alloc(arena, total + 1, 1, 1);
    if (!at)
        return status_fail(STATUS_NOMEM, "a data set is larger than its limit of %zu bytes: split "
                           "the file", arena->maximum);
    out->data = at;
    out->bytes = (uint32_t)total;
    for (size_t i = 0; i < n_parts; i++) {
        if (parts[i].bytes)
            memcpy(at, parts[i].data, parts[i].bytes);
        at += parts[i].bytes;
    }
    return STATUS_OK;
}
