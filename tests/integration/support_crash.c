#include "tests/integration/support_crash.h"

#include "common/random.h"
#include "tests/integration/support.h"
#include "tests/shim/trace.h"

#define BLOCK 4096

struct bytes {
    char *data;
    size_t n;
};

/* A file that was created: as programs see it, and as the disk has it for certain. */
struct object {
    uint64_t inode;
    struct bytes seen, synced;
};

struct name {
    char *path;
    long object;          /* -1: a directory */
};

struct disk {
    struct object *objects;
    size_t n_objects;
    struct name *names;
    size_t n_names;
};

void crash_read(struct crash_trace *trace, const char *path)
{
    struct text text = {.maximum = (size_t)1 << 32};
    size_t at = 0;

    assert_int_equal(file_read(path, (size_t)1 << 32, &text), STATUS_OK);
    *trace = (struct crash_trace){.bytes = text.data};
    while (at < text.length) {
        struct trace_record record;
        trace->records = mem_resize(trace->records, trace->n + 1, sizeof(*trace->records));
        trace->records[trace->n++] = at;
        memcpy(&record, text.data + at, sizeof(record));
        at += sizeof(record) + record.n;
    }
    assert_int_equal(at, text.length);
}

void crash_release(struct crash_trace *trace)
{
    mem_free(trace->bytes);
    mem_free(trace->records);
}

static struct trace_record read_record(const struct crash_trace *trace, size_t i, const char **body)
{
    struct trace_record record;

    memcpy(&record, trace->bytes + trace->records[i], sizeof(record));
    *body = trace->bytes + trace->records[i] + sizeof(record);
    return record;
}

/* ---- Bytes of files. */

static void resize(struct bytes *bytes, size_t n)
{
    bytes->data = mem_resize(bytes->data, n, 1);
    if (n > bytes->n)
        memset(bytes->data + bytes->n, 0, n - bytes->n);
    bytes->n = n;
}

static void copy(struct bytes *to, const struct bytes *from)
{
    resize(to, from->n);
    if (from->n)
        memcpy(to->data, from->data, from->n);
}

static struct object *find_object(struct disk *disk, uint64_t inode)
{
    for (size_t i = disk->n_objects; i-- > 0;)
        if (disk->objects[i].inode == inode)
            return &disk->objects[i];
    fail_msg("a write to a file that was never created");
    return NULL;
}

static void change_bytes(struct disk *disk, const struct trace_record *record, const char *body)
{
    if (record->op == TRACE_CREATE) {
        disk->objects = mem_resize(disk->objects, disk->n_objects + 1, sizeof(*disk->objects));
        disk->objects[disk->n_objects++] = (struct object){.inode = record->inode};
        return;
    }
    struct object *object = find_object(disk, record->inode);
    if (record->op == TRACE_TRUNCATE)
        resize(&object->seen, record->offset);
    if (record->op == TRACE_SYNC)
        copy(&object->synced, &object->seen);
    if (record->op == TRACE_WRITE) {
        if (record->offset + record->n > object->seen.n)
            resize(&object->seen, record->offset + record->n);
        memcpy(object->seen.data + record->offset, body, record->n);
    }
}

/* What the disk has of a file in the end, into `seen`. */
static void lose_bytes(struct object *object, enum crash_kind kind, struct random_stream *random)
{
    struct bytes *seen = &object->seen, *synced = &object->synced;

    if (kind == CRASH_KILL)
        return;
    if (kind != CRASH_TORN) {
        copy(seen, synced);
        return;
    }
    size_t n = random_below(random, 2) ? seen->n : synced->n;
    resize(synced, n);
    resize(seen, n);
    for (size_t at = 0; at < n; at += BLOCK) {
        size_t count = n - at < BLOCK ? n - at : BLOCK;
        if (random_below(random, 2))
            memcpy(seen->data + at, synced->data + at, count);
    }
}

/* ---- Names in directories. */

static int is_in(const char *path, const char *directory)
{
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;

    return strlen(directory) == n && strncmp(path, directory, n) == 0;
}

static long find_name(const struct disk *disk, const char *path)
{
    for (size_t i = 0; i < disk->n_names; i++)
        if (strcmp(disk->names[i].path, path) == 0)
            return (long)i;
    return -1;
}

static int has_parent(const struct disk *disk, const char *path)
{
    char parent[FILE_PATH_MAX];

    snprintf(parent, sizeof(parent), "%s", path);
    char *slash = strrchr(parent, '/');
    if (!slash)
        return 1;
    *slash = '\0';
    return find_name(disk, parent) >= 0;
}

static void remove_name(struct disk *disk, const char *path)
{
    size_t n = strlen(path), kept = 0;

    for (size_t i = 0; i < disk->n_names; i++) {
        const char *name = disk->names[i].path;
        if (strncmp(name, path, n) == 0 && (name[n] == '\0' || name[n] == '/'))
            mem_free(disk->names[i].path);
        else
            disk->names[kept++] = disk->names[i];
    }
    disk->n_names = kept;
}

static void add_name(struct disk *disk, const char *path, long object)
{
    if (!has_parent(disk, path))
        return;
    remove_name(disk, path);
    disk->names = mem_resize(disk->names, disk->n_names + 1, sizeof(*disk->names));
    disk->names[disk->n_names++] = (struct name){mem_copy_text(path), object};
}

static void rename_name(struct disk *disk, const char *from, const char *to)
{
    size_t n = strlen(from);

    if (find_name(disk, from) < 0 || !has_parent(disk, to))
        return;
    remove_name(disk, to);
    for (size_t i = 0; i < disk->n_names; i++) {
        char *name = disk->names[i].path, path[FILE_PATH_MAX];
        if (strncmp(name, from, n) != 0 || (name[n] != '\0' && name[n] != '/'))
            continue;
        snprintf(path, sizeof(path), "%s%s", to, name + n);
        disk->names[i].path = mem_copy_text(path);
        mem_free(name);
    }
}

/* `object`: the number of the file that a TRACE_CREATE has made. */
static void change_names(struct disk *disk, const struct trace_record *record, const char *body,
                         long object)
{
    if (record->op == TRACE_CREATE || record->op == TRACE_MKDIR)
        add_name(disk, body, record->op == TRACE_CREATE ? object : -1);
    if (record->op == TRACE_REMOVE)
        remove_name(disk, body);
    if (record->op == TRACE_RENAME)
        rename_name(disk, body, body + strlen(body) + 1);
}

static int is_of_names(uint32_t op)
{
    return op == TRACE_CREATE || op == TRACE_MKDIR || op == TRACE_REMOVE || op == TRACE_RENAME;
}

/* Whether a later sync of its directory, before record n, has made a change of a name durable. */
static int is_name_synced(const struct crash_trace *trace, size_t i, size_t n)
{
    const char *path, *body;

    read_record(trace, i, &path);
    for (size_t k = i + 1; k < n; k++)
        if (read_record(trace, k, &body).op == TRACE_SYNC_DIRECTORY && is_in(path, body))
            return 1;
    return 0;
}

/* ---- All of it. */

static void write_disk(const struct disk *disk, const char *directory)
{
    assert_int_equal(file_make_directories(directory), STATUS_OK);
    for (size_t i = 0; i < disk->n_names; i++) {
        char path[FILE_PATH_MAX];
        assert_int_equal(file_join(path, directory, disk->names[i].path), STATUS_OK);
        if (disk->names[i].object < 0) {
            assert_int_equal(file_make_directories(path), STATUS_OK);
            continue;
        }
        const struct bytes *bytes = &disk->objects[disk->names[i].object].seen;
        assert_int_equal(file_write_atomic(path, bytes->data ? bytes->data : "", bytes->n),
                         STATUS_OK);
    }
}

static void release_disk(struct disk *disk)
{
    for (size_t i = 0; i < disk->n_objects; i++) {
        mem_free(disk->objects[i].seen.data);
        mem_free(disk->objects[i].synced.data);
    }
    for (size_t i = 0; i < disk->n_names; i++)
        mem_free(disk->names[i].path);
    mem_free(disk->objects);
    mem_free(disk->names);
}

void crash_write(const struct crash_trace *trace, size_t n, enum crash_kind kind, uint64_t seed,
                 const char *directory)
{
    struct random_stream random = {.seed = seed};
    struct disk disk = {.n_names = 0};
    size_t names_until = kind == CRASH_STRICT ? 0 :
                         kind == CRASH_TORN ? (size_t)random_below(&random, n + 1) : n;

    for (size_t i = 0; i < n; i++) {
        const char *body;
        struct trace_record record = read_record(trace, i, &body);
        if (!is_of_names(record.op) && record.op != TRACE_SYNC_DIRECTORY)
            change_bytes(&disk, &record, body);
        if (!is_of_names(record.op))
            continue;
        if (record.op == TRACE_CREATE)
            change_bytes(&disk, &record, body);
        if (i < names_until || is_name_synced(trace, i, n))
            change_names(&disk, &record, body, (long)disk.n_objects - 1);
    }
    for (size_t i = 0; i < disk.n_objects; i++)
        lose_bytes(&disk.objects[i], kind, &random);
    file_sync_later(1);
    write_disk(&disk, directory);
    file_sync_later(0);
    release_disk(&disk);
}
