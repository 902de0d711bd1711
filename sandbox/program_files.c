/*
 * Compiled programs in a directory, for all workers: a file per key with a digest of what is in it.
 * A file appears whole or not at all; one that does not match its digest is removed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "common/status.h"
#include "sandbox/internal.h"
#include "sandbox/judge_parts.h"

#define MAGIC "hone program 1\n"
#define N_MAGIC (sizeof(MAGIC) - 1)
#define N_HEAD (N_MAGIC + 1 + sizeof(struct digest))   /* then 'P' or 'R', then the digest */
#define MAX_PROGRAM_BYTES ((size_t)256 << 20)
#define WRITES_BETWEEN_SWEEPS 16
#define SUFFIX ".program"

int program_files_open(struct program_files *files, const struct sandbox_config *config)
{
    struct stat at;

    memset(files, 0, sizeof(*files));
    files->max_bytes = config->program_cache_bytes;
    if (!config->program_cache[0])
        return STATUS_OK;
    if (!file_exists(config->program_cache)) {
        TRY(file_make_directories(config->program_cache));
        chmod(config->program_cache, 0700);
    }
    if (stat(config->program_cache, &at) < 0)
        return status_fail(STATUS_IO, "sandbox.program_cache: %s: %s", config->program_cache,
                           strerror(errno));
    if (at.st_uid != geteuid() || (at.st_mode & 022))
        return status_fail(STATUS_CONFIG, "sandbox.program_cache: others could write programs "
                           "into %s: it must be yours and have mode 0700", config->program_cache);
    snprintf(files->directory, sizeof(files->directory), "%s", config->program_cache);
    return STATUS_OK;
}

static int path_of(const struct program_files *files, const struct digest *key,
                   char out[FILE_PATH_MAX])
{
    char name[DIGEST_HEX_BYTES + sizeof(SUFFIX)];

    digest_hex(key, name);
    memcpy(name + DIGEST_HEX_BYTES - 1, SUFFIX, sizeof(SUFFIX));
    return file_join(out, files->directory, name);
}

/* The key is part of it: a file under another's name is damaged too. */
static void digest_content(struct digest *digest, const struct digest *key, char kind,
                           const char *bytes, size_t n)
{
    struct digest_state *state = digest_begin();

    digest_add(state, key, sizeof(*key));
    digest_add(state, &kind, 1);
    digest_add(state, bytes, n);
    digest_end(state, digest);
}

int program_files_find(const struct program_files *files, const struct digest *key,
                       int *is_program, struct text *bytes)
{
    struct text file = {0};
    struct digest digest;
    char path[FILE_PATH_MAX];
    int is_good = 0;

    if (!files->directory[0] || path_of(files, key, path) < 0 || !file_exists(path))
        return 0;
    if (file_read(path, MAX_PROGRAM_BYTES, &file) == STATUS_OK && file.length >= N_HEAD &&
        memcmp(file.data, MAGIC, N_MAGIC) == 0) {
        char kind = file.data[N_MAGIC];

        digest_content(&digest, key, kind, file.data + N_HEAD, file.length - N_HEAD);
        is_good = (kind == 'P' || kind == 'R') &&
                  memcmp(&digest, file.data + N_MAGIC + 1, sizeof(digest)) == 0;
        *is_program = kind == 'P';
    }
    if (is_good) {
        text_append(bytes, file.data + N_HEAD, file.length - N_HEAD);
        utimensat(AT_FDCWD, path, NULL, 0);   /* the oldest are swept first */
    } else if (file_exists(path)) {
        log_warning("sandbox.program_cache: %s is damaged and goes: the program is compiled again",
                    path);
        unlink(path);
    }
    text_release(&file);
    return is_good;
}

int program_files_load(const struct text *bytes, struct sandbox_program **out)
{
    int fd = -1, status = STATUS_OK;

    *out = NULL;
    TRY(memfd_make(&fd, "program"));
    TRY_OUT(memfd_fill(fd, bytes->data, bytes->length));
    TRY_OUT(memfd_seal(fd));
    *out = program_create(SANDBOX_NATIVE, fd);
out:
    if (status < 0)
        close(fd);
    return status;
}

struct kept_file {
    char name[DIGEST_HEX_BYTES + sizeof(SUFFIX)];
    int64_t bytes, changed_ns;
};

static int older_first(const void *a, const void *b)
{
    const struct kept_file *x = a, *y = b;

    return x->changed_ns < y->changed_ns ? -1 : x->changed_ns > y->changed_ns;
}

/* Other workers sweep too: a file that is gone already is no error. */
static void sweep(const struct program_files *files)
{
    DIR *directory = opendir(files->directory);
    struct kept_file *kept = NULL;
    size_t n = 0, capacity = 0;
    int64_t total = 0;
    struct stat at;

    if (!directory)
        return;
    for (const struct dirent *item; (item = readdir(directory));) {
        size_t length = strlen(item->d_name);

        if (length != DIGEST_HEX_BYTES - 1 + sizeof(SUFFIX) - 1 ||
            strcmp(item->d_name + DIGEST_HEX_BYTES - 1, SUFFIX) != 0 ||
            fstatat(dirfd(directory), item->d_name, &at, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (n == capacity)
            kept = mem_resize(kept, capacity = capacity ? 2 * capacity : 64, sizeof(*kept));
        memcpy(kept[n].name, item->d_name, length + 1);
        kept[n].bytes = at.st_size;
        kept[n++].changed_ns = at.st_mtim.tv_sec * 1000000000LL + at.st_mtim.tv_nsec;
        total += at.st_size;
    }
    if (n)
        qsort(kept, n, sizeof(*kept), older_first);
    for (size_t i = 0; i < n && total > files->max_bytes; i++) {
        unlinkat(dirfd(directory), kept[i].name, 0);
        total -= kept[i].bytes;
    }
    mem_free(kept);
    closedir(directory);
}

void program_files_keep(struct program_files *files, const struct digest *key, int is_program,
                        const struct text *bytes)
{
    struct text file = {0};
    struct digest digest;
    char path[FILE_PATH_MAX], own[FILE_PATH_MAX + 64];
    char kind = is_program ? 'P' : 'R';

    if (!files->directory[0] || path_of(files, key, path) < 0)
        return;
    digest_content(&digest, key, kind, bytes->data, bytes->length);
    text_append(&file, MAGIC, N_MAGIC);
    text_append(&file, &kind, 1);
    text_append(&file, &digest, sizeof(digest));
    text_append(&file, bytes->data, bytes->length);
    /* Two workers may write the same key: each under a name of its own, then renamed. */
    snprintf(own, sizeof(own), "%s.%d.%p", path, (int)getpid(), (void *)&file);
    if (file_write_atomic(own, file.data, file.length) < 0 || rename(own, path) < 0) {
        log_warning("sandbox.program_cache: %s cannot be written: %s", path, strerror(errno));
        unlink(own);
    }
    text_release(&file);
    if (__atomic_add_fetch(&files->n_written, 1, __ATOMIC_RELAXED) % WRITES_BETWEEN_SWEEPS == 0)
        sweep(files);
}
