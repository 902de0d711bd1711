#include "common/files.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/status.h"
#include "common/watchdog.h"

int file_join(char *out, const char *directory, const char *name)
{
    int n = snprintf(out, FILE_PATH_MAX, "%s/%s", directory, name);

    if (n < 0 || n >= FILE_PATH_MAX)
        return status_fail(STATUS_CONFIG, "path is longer than %d bytes: %s/%s", FILE_PATH_MAX - 1,
                           directory, name);
    return STATUS_OK;
}

int file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

int file_read(const char *path, size_t max_bytes, struct text *out)
{
    char chunk[65536];
    size_t total = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return status_fail(STATUS_IO, "cannot open %s: %s", path, strerror(errno));
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int error = errno;
            close(fd);
            return status_fail(STATUS_IO, "cannot read %s: %s", path, strerror(error));
        }
        if (n == 0)
            break;
        total += (size_t)n;
        if (total > max_bytes) {
            close(fd);
            return status_fail(STATUS_FORMAT, "%s is larger than the limit of %zu bytes", path,
                               max_bytes);
        }
        text_append(out, chunk, (size_t)n);
    }
    close(fd);
    if (!out->data)
        text_append(out, "", 0);
    return out->failed ? status_fail(STATUS_FORMAT, "%s does not fit into memory", path)
                       : STATUS_OK;
}

static int write_all(int fd, const char *bytes, size_t n)
{
    while (n) {
        ssize_t written = write(fd, bytes, n);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return -1;
        bytes += written;
        n -= (size_t)written;
    }
    return 0;
}

static _Thread_local int is_synced_later;

void file_sync_later(int is_later)
{
    is_synced_later = is_later;
}

/* The directory that `path` lies in. */
static int sync_parent(const char *path)
{
    char parent[FILE_PATH_MAX];
    const char *slash = strrchr(path, '/');
    int n = slash > path ? (int)(slash - path) : 1;

    snprintf(parent, sizeof(parent), "%.*s", n, slash ? path : ".");
    return file_sync_directory(parent);
}

int file_sink_open(struct file_sink *sink, const char *path)
{
    sink->fd = -1;
    int length = snprintf(sink->temporary, sizeof(sink->temporary), "%s.tmp", path);
    if (length < 0 || length >= FILE_PATH_MAX)
        return status_fail(STATUS_CONFIG, "path is longer than %d bytes: %s", FILE_PATH_MAX, path);
    snprintf(sink->path, sizeof(sink->path), "%s", path);
    sink->fd = open(sink->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
                    0644);
    if (sink->fd < 0)
        return status_fail(STATUS_IO, "cannot create %s: %s", sink->temporary, strerror(errno));
    return STATUS_OK;
}

int file_sink_open_nameless(struct file_sink *sink)
{
    const char *directory = getenv("TMPDIR");

    sink->fd = -1;
    if (!directory || directory[0] != '/')
        directory = "/var/tmp";
    TRY(file_join(sink->temporary, directory, "hone-XXXXXX"));
    snprintf(sink->path, sizeof(sink->path), "a temporary file in %s", directory);
    sink->fd = mkostemp(sink->temporary, O_CLOEXEC);
    if (sink->fd < 0)
        return status_fail(STATUS_IO, "cannot create %s: %s; TMPDIR names another directory",
                           sink->temporary, strerror(errno));
    unlink(sink->temporary);
    return STATUS_OK;
}

int file_sink_put(struct file_sink *sink, const void *bytes, size_t n)
{
    pulse(NULL);
    if (write_all(sink->fd, bytes, n))
        return status_fail(STATUS_IO, "cannot write %s: %s", sink->path, strerror(errno));
    return STATUS_OK;
}

int file_sink_put_at(struct file_sink *sink, uint64_t offset, const void *bytes, size_t n)
{
    const char *at = bytes;

    while (n > 0) {
        ssize_t wrote = pwrite(sink->fd, at, n, (off_t)offset);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            return status_fail(STATUS_IO, "cannot write %s: %s", sink->path, strerror(errno));
        at += wrote;
        n -= (size_t)wrote;
        offset += (uint64_t)wrote;
    }
    return STATUS_OK;
}

int file_sink_close(struct file_sink *sink, int status)
{
    if (sink->fd < 0)
        return status;
    if (status == STATUS_OK && !is_synced_later && fsync(sink->fd))
        status = status_fail(STATUS_IO, "cannot write %s: %s", sink->path, strerror(errno));
    if (close(sink->fd) && status == STATUS_OK)
        status = status_fail(STATUS_IO, "cannot write %s: %s", sink->path, strerror(errno));
    if (status == STATUS_OK && rename(sink->temporary, sink->path))
        status = status_fail(STATUS_IO, "cannot rename %s to %s: %s", sink->temporary, sink->path,
                             strerror(errno));
    if (status < 0)
        unlink(sink->temporary);
    else if (!is_synced_later)
        status = sync_parent(sink->path);   /* a name is lost like bytes are */
    sink->fd = -1;
    return status;
}

int file_write_atomic(const char *path, const void *bytes, size_t n)
{
    struct file_sink sink;

    TRY(file_sink_open(&sink, path));
    return file_sink_close(&sink, file_sink_put(&sink, bytes, n));
}

int file_make_directories(const char *path)
{
    char partial[FILE_PATH_MAX];
    size_t n = strlen(path);

    if (n >= sizeof(partial))
        return status_fail(STATUS_CONFIG, "path is longer than %d bytes: %s", FILE_PATH_MAX, path);
    for (size_t i = 1; i <= n; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(partial, path, i);
        partial[i] = '\0';
        if (mkdir(partial, 0755) == 0)
            TRY(sync_parent(partial));
        else if (errno != EEXIST)
            return status_fail(STATUS_IO, "cannot make directory %s: %s", partial, strerror(errno));
    }
    return STATUS_OK;
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info;
    (void)type;
    (void)walk;
    return remove(path);
}

int file_remove_tree(const char *path)
{
    if (!file_exists(path))
        return STATUS_OK;
    if (nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS))
        return status_fail(STATUS_IO, "cannot remove %s: %s", path, strerror(errno));
    return STATUS_OK;
}

static int sync_path(const char *path, int flags)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | flags);

    if (fd < 0 || fsync(fd)) {
        int error = errno;
        if (fd >= 0)
            close(fd);
        return status_fail(STATUS_IO, "cannot sync %s: %s", path, strerror(error));
    }
    close(fd);
    return STATUS_OK;
}

int file_sync(const char *path)
{
    return sync_path(path, 0);
}

int file_sync_directory(const char *path)
{
    return sync_path(path, O_DIRECTORY);
}

static int map_descriptor(struct file_map *map, int fd, const char *path)
{
    struct stat info;

    *map = (struct file_map){0};
    if (fstat(fd, &info) || !S_ISREG(info.st_mode))
        return status_fail(STATUS_IO, "%s is not a regular file", path);
    if (!info.st_size)
        return STATUS_OK;
    void *memory = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (memory == MAP_FAILED)
        return status_fail(STATUS_IO, "cannot map %s: %s", path, strerror(errno));
    map->bytes = memory;
    map->n = (size_t)info.st_size;
    return STATUS_OK;
}

int file_map_open(struct file_map *map, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    *map = (struct file_map){0};
    if (fd < 0)
        return status_fail(STATUS_IO, "cannot open %s: %s", path, strerror(errno));
    int status = map_descriptor(map, fd, path);
    close(fd);
    return status;
}

int file_map_open_same(struct file_map *map, const char *path, uint64_t device, uint64_t inode)
{
    struct stat info;

    *map = (struct file_map){0};
    /* It may mean a device or a pipe by now, whose opening would wait. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return status_fail(STATUS_IO, "cannot open %s: %s", path, strerror(errno));
    int status = fstat(fd, &info) || info.st_dev != device || info.st_ino != inode
                     ? status_fail(STATUS_IO, "%s is another file", path)
                 : info.st_uid != geteuid()
                     ? status_fail(STATUS_IO, "%s belongs to another user", path)
                     : map_descriptor(map, fd, path);
    close(fd);
    return status;
}

int file_map_name(const struct file_map *map, char path[64], uint64_t *device, uint64_t *inode)
{
    struct stat info;

    if (!map->has_descriptor || fstat(map->descriptor, &info))
        return status_fail(STATUS_UNSUPPORTED, "a file that others cannot open");
    snprintf(path, 64, "/proc/%ld/fd/%d", (long)getpid(), map->descriptor);
    *device = info.st_dev;
    *inode = info.st_ino;
    return STATUS_OK;
}

int file_sink_map(struct file_sink *sink, int status, struct file_map *map)
{
    int fd = sink->fd;

    *map = (struct file_map){0};
    sink->fd = -1;
    if (status == STATUS_OK)
        status = map_descriptor(map, fd, sink->path);
    if (status < 0 && fd >= 0)
        close(fd);
    map->has_descriptor = status == STATUS_OK;
    map->descriptor = fd;
    return status;
}

int file_sink_view(const struct file_sink *sink, struct file_map *map)
{
    return map_descriptor(map, sink->fd, sink->path);
}

void file_map_forget(const struct file_map *map)
{
    if (map->n)
        madvise((void *)(uintptr_t)map->bytes, map->n, MADV_DONTNEED);
}

/* Whole pages; those at the ends belong to the parts beside it, too. */
static void advise_part(const struct file_map *map, uint64_t offset, size_t n, int advice)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), start = offset / page * page;

    if (n)   /* no advice that is not taken does harm */
        madvise((char *)(uintptr_t)map->bytes + start, (size_t)(offset + n - start), advice);
}

void file_map_fetch(const struct file_map *map, uint64_t offset, size_t n)
{
    advise_part(map, offset, n, MADV_POPULATE_READ);
}

void file_map_forget_part(const struct file_map *map, uint64_t offset, size_t n)
{
    advise_part(map, offset, n, MADV_DONTNEED);
}

void file_map_close(struct file_map *map)
{
    if (map->bytes)
        munmap((void *)(uintptr_t)map->bytes, map->n);
    if (map->has_descriptor)
        close(map->descriptor);
    *map = (struct file_map){0};
}

struct digest_state {
    EVP_MD_CTX *context;
};

struct digest_state *digest_begin(void)
{
    struct digest_state *state = mem_alloc(1, sizeof(*state));

    state->context = EVP_MD_CTX_new();
    if (!state->context || !EVP_DigestInit_ex(state->context, EVP_sha256(), NULL))
        BUG("SHA-256 is not available in libcrypto");
    return state;
}

void digest_add(struct digest_state *state, const void *bytes, size_t n)
{
    if (n && !EVP_DigestUpdate(state->context, bytes, n))
        BUG("SHA-256 update failed");
}

void digest_end(struct digest_state *state, struct digest *digest)
{
    if (!EVP_DigestFinal_ex(state->context, digest->bytes, NULL))
        BUG("SHA-256 final failed");
    EVP_MD_CTX_free(state->context);
    mem_free(state);
}

void digest_of(struct digest *digest, const void *bytes, size_t n)
{
    struct digest_state *state = digest_begin();

    digest_add(state, bytes, n);
    digest_end(state, digest);
}

#define DIGEST_PIECE ((size_t)32 << 20)

void digest_of_map(struct digest *digest, const struct file_map *map)
{
    struct digest_state *state = digest_begin();

    for (size_t at = 0; at < map->n; at += DIGEST_PIECE) {
        size_t n = map->n - at < DIGEST_PIECE ? map->n - at : DIGEST_PIECE;
        digest_add(state, map->bytes + at, n);
        file_map_forget(map);
        pulse(NULL);
    }
    digest_end(state, digest);
}

int digest_of_file(struct digest *digest, const char *path)
{
    struct file_map map;

    TRY(file_map_open(&map, path));
    digest_of_map(digest, &map);
    file_map_close(&map);
    return STATUS_OK;
}

int digest_is_same(const struct digest *one, const struct digest *other)
{
    return memcmp(one->bytes, other->bytes, sizeof(one->bytes)) == 0;
}

void digest_hex(const struct digest *digest, char out[DIGEST_HEX_BYTES])
{
    for (size_t i = 0; i < sizeof(digest->bytes); i++)
        snprintf(out + 2 * i, 3, "%02x", digest->bytes[i]);
}

static int64_t read_clock_ns(clockid_t id)
{
    struct timespec now;

    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t clock_ms(void)
{
    return read_clock_ns(CLOCK_MONOTONIC) / 1000000;
}

double clock_seconds(void)
{
    return (double)read_clock_ns(CLOCK_MONOTONIC) * 1e-9;
}

int64_t clock_unix_ms(void)
{
    return read_clock_ns(CLOCK_REALTIME) / 1000000;
}
