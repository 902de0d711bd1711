#include "tasks/jsonl.h"

#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/status.h"

int jsonl_open(struct jsonl *file, const char *path, int skips_bad)
{
    memset(file, 0, sizeof(*file));
    file->path = path;
    file->row = -1;
    file->skips_bad = skips_bad;
    return lines_open(&file->lines, path, JSONL_MAX_FILE);
}

void jsonl_close(struct jsonl *file)
{
    lines_close(&file->lines);
    mem_free(file->first_bad);
    file->first_bad = NULL;
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
    const char *start = NULL;
    size_t n = 0;

    *row = NULL;
    do {
        int status = lines_next(file->lines, &start, &n);

        if (status <= 0) {
            file->is_damaged = status < 0;
            return status;
        }
        if (file->line++ == 0 && n >= 3 && memcmp(start, "\xEF\xBB\xBF", 3) == 0) {
            start += 3;
            n -= 3;
        }
    } while (n <= LINES_MAX_LINE && is_blank(start, n));
    file->row++;
    snprintf(file->where, sizeof(file->where), "%s:%lld", file->path, (long long)file->line);
    if (n > LINES_MAX_LINE)
        return status_fail(STATUS_FORMAT, "%s: the line has %zu bytes, the limit is %zu",
                           file->where, n, LINES_MAX_LINE);
    TRY(json_parse(row, start, n, file->where));
    if (!json_is_object(*row)) {
        json_decref(*row);
        *row = NULL;
        return status_fail(STATUS_FORMAT, "%s: a line must be one JSON object", file->where);
    }
    return 1;
}

int jsonl_skip_bad(struct jsonl *file, int status)
{
    if (status != STATUS_FORMAT || !file->skips_bad || file->is_damaged)
        return status;
    if (file->n_bad++ == 0)
        file->first_bad = mem_copy_text(status_reason());
    return 1;
}

void jsonl_warn_bad(const struct jsonl *file)
{
    if (file->n_bad)
        log_warning("%s: %lld bad records are left out; the first: %s", file->path,
                    (long long)file->n_bad, file->first_bad);
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
