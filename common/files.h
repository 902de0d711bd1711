/*
 * common/files.h - whole files, atomic writes, digests, time.
 *
 * A file appears whole or not at all, and then stays: it is written to "name.tmp", synced, renamed,
 * and its directory is synced.
 */
#ifndef HONE_COMMON_FILES_H
#define HONE_COMMON_FILES_H

#include <stddef.h>
#include <stdint.h>

#include "common/memory.h"

#define FILE_PATH_MAX 4096

/* dir + "/" + name into out[FILE_PATH_MAX]; STATUS_CONFIG when too long. */
int file_join(char *out, const char *directory, const char *name);

int file_exists(const char *path);

/* Appends the file to `out`. STATUS_IO when it cannot be read, STATUS_FORMAT when it is larger
 * than `max_bytes`. The reason names the path. */
int file_read(const char *path, size_t max_bytes, struct text *out);

int file_write_atomic(const char *path, const void *bytes, size_t n);

/* The same a piece at a time. close() keeps the file when `status` is STATUS_OK, else nothing of it
 * is left; it returns `status` or its own failure. */
struct file_sink {
    int fd;
    char path[FILE_PATH_MAX], temporary[FILE_PATH_MAX];
};
int file_sink_open(struct file_sink *sink, const char *path);
int file_sink_put(struct file_sink *sink, const void *bytes, size_t n);
int file_sink_put_at(struct file_sink *sink, uint64_t offset, const void *bytes, size_t n);
int file_sink_close(struct file_sink *sink, int status);
/* A file without a name in TMPDIR, else in /var/tmp, which unlike /tmp is on a disk: for what shall
 * not lie in memory. file_sink_map() ends it; it is gone with the map, or with the process. */
int file_sink_open_nameless(struct file_sink *sink);

/* From 1 to 0, what this thread writes is whole but not on the disk yet: somebody calls file_sync()
 * on each file before it counts. */
void file_sync_later(int is_later);
int file_sync(const char *path);

int file_make_directories(const char *path);     /* mkdir -p, durable */
int file_remove_tree(const char *path);          /* rm -r; no error when absent */
int file_sync_directory(const char *path);       /* makes renames inside durable */

/* A file mapped for reading; bytes may be NULL when n is 0. */
struct file_map {
    const unsigned char *bytes;
    size_t n;
    int has_descriptor, descriptor;   /* of a file without a name: file_map_name() */
};
int file_map_open(struct file_map *map, const char *path);
/* Of a sink without a name. With a failure as `status` nothing is left, and it is returned. */
int file_sink_map(struct file_sink *sink, int status, struct file_map *map);
int file_sink_view(const struct file_sink *sink, struct file_map *map);   /* the sink stays */
/* A path by which this user's processes on this host open a file without a name while its map is
 * there, and which file that is; STATUS_UNSUPPORTED for another map. A path may mean another file
 * by then: file_map_open_same() refuses it. */
int file_map_name(const struct file_map *map, char path[64], uint64_t *device, uint64_t *inode);
int file_map_open_same(struct file_map *map, const char *path, uint64_t device, uint64_t inode);
void file_map_close(struct file_map *map);
/* What was read of it no longer counts as this process's memory; it can be read again. */
void file_map_forget(const struct file_map *map);
/* A part of it is about to be read once: its pages come in one go; and then are forgotten. */
void file_map_fetch(const struct file_map *map, uint64_t offset, size_t n);
void file_map_forget_part(const struct file_map *map, uint64_t offset, size_t n);

/* SHA-256, the same that sha256sum prints. */
struct digest {
    unsigned char bytes[32];
};
#define DIGEST_HEX_BYTES 65
void digest_of(struct digest *digest, const void *bytes, size_t n);
void digest_of_map(struct digest *digest, const struct file_map *map);   /* forgets behind itself */
int digest_of_file(struct digest *digest, const char *path);
int digest_is_same(const struct digest *one, const struct digest *other);
void digest_hex(const struct digest *digest, char out[DIGEST_HEX_BYTES]);

/* Several parts one after another: begin, add ..., end. end() frees; NULL state is a BUG. */
struct digest_state;
struct digest_state *digest_begin(void);
void digest_add(struct digest_state *state, const void *bytes, size_t n);
void digest_end(struct digest_state *state, struct digest *digest);

int64_t clock_ms(void);       /* monotonic: for deadlines and durations */
double clock_seconds(void);   /* monotonic */
int64_t clock_unix_ms(void);  /* for what people and databases read */

#endif
