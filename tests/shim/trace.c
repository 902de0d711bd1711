/*
 * tests/shim/trace.c - LD_PRELOAD: writes down every change below the directory TRACE_ROOT, with
 * its bytes, and every sync, to the file TRACE_LOG (trace.h). From that a test makes what a disk
 * would hold if the power had failed at any point. Memory maps and stdio are not seen: SQLite's
 * -shm, which no crash keeps, and TensorBoard's files, which nothing reads.
 */
#include "tests/shim/trace.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_FILES 4096
#define PATH_BYTES 4096

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_BYTES];
static int log_file = -1;
static struct {
    uint64_t inode;       /* 0: not below the root */
    int is_directory;
    char path[256];       /* of a directory */
} files[MAX_FILES];

#define TRUE_CALL(name)                                                                            \
    ({                                                                                             \
        static __typeof__(&name) true_##name;                                                      \
        if (!true_##name)                                                                          \
            true_##name = (__typeof__(&name))dlsym(RTLD_NEXT, #name);                              \
        true_##name;                                                                               \
    })

__attribute__((constructor)) static void begin(void)
{
    const char *below = getenv("TRACE_ROOT"), *path = getenv("TRACE_LOG");

    if (!below || !path)
        return;
    snprintf(root, sizeof(root), "%s/", below);
    log_file = (int)syscall(SYS_openat, AT_FDCWD, path, O_CREAT | O_APPEND | O_WRONLY | O_CLOEXEC,
                            0600);
}

/* The absolute path when it lies below the root, "" for the root itself; else NULL. */
static const char *below_root(const char *path, char out[PATH_BYTES])
{
    if (log_file < 0)   /* maybe so early that a sanitizer's calls are not there yet */
        return NULL;
    size_t n = strlen(root);
    if (path[0] == '/') {
        snprintf(out, PATH_BYTES, "%s", path);
    } else {
        char here[PATH_BYTES / 2];
        if (syscall(SYS_getcwd, here, sizeof(here)) < 0)
            return NULL;
        snprintf(out, PATH_BYTES, "%s/%.2000s", here, path);
    }
    if (strncmp(out, root, n - 1) == 0 && out[n - 1] == '\0')
        return "";
    size_t length = strlen(out);
    if (strncmp(out, root, n) != 0 || (length > 4 && strcmp(out + length - 4, "-shm") == 0))
        return NULL;
    return out + n;
}

static void put(enum trace_op op, uint64_t inode, uint64_t offset, const void *bytes, size_t n)
{
    struct trace_record record = {op, (uint32_t)n, inode, offset};
    const struct iovec parts[] = {{&record, sizeof(record)}, {(void *)(uintptr_t)bytes, n}};

    if (syscall(SYS_writev, log_file, parts, 2) != (long)(sizeof(record) + n))
        abort();
}

static void put_path(enum trace_op op, uint64_t inode, const char *path)
{
    put(op, inode, 0, path, strlen(path) + 1);
}

static int true_open(const char *path, int flags, int mode)
{
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

static int traced_open(const char *path, int flags, int mode)
{
    char whole[PATH_BYTES];
    const char *below = below_root(path, whole);
    struct stat info;

    if (!below)
        return true_open(path, flags, mode);
    pthread_mutex_lock(&lock);
    int was_there = access(path, F_OK) == 0;
    int fd = true_open(path, flags, mode);
    int error = errno;
    if (fd >= 0 && fd < MAX_FILES && fstat(fd, &info) == 0) {
        files[fd].inode = info.st_ino;
        files[fd].is_directory = S_ISDIR(info.st_mode);
        snprintf(files[fd].path, sizeof(files[fd].path), "%s", below);
        if (!was_there && S_ISREG(info.st_mode))
            put_path(TRACE_CREATE, info.st_ino, below);
        else if (flags & O_TRUNC)
            put(TRACE_TRUNCATE, info.st_ino, 0, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

#define MODE_OF(flags)                                                                             \
    ({                                                                                             \
        va_list list_;                                                                             \
        va_start(list_, flags);                                                                    \
        int mode_ = (flags) & O_CREAT ? va_arg(list_, int) : 0;                                    \
        va_end(list_);                                                                             \
        mode_;                                                                                     \
    })

int open(const char *path, int flags, ...)
{
    return traced_open(path, flags, MODE_OF(flags));
}

int open64(const char *path, int flags, ...)
{
    return traced_open(path, flags, MODE_OF(flags));
}

int close(int fd)
{
    if (fd >= 0 && fd < MAX_FILES)
        files[fd].inode = 0;
    return (int)syscall(SYS_close, fd);
}

static int is_traced(int fd)
{
    return fd >= 0 && fd < MAX_FILES && files[fd].inode;
}

ssize_t write(int fd, const void *bytes, size_t n)
{
    if (!is_traced(fd))
        return syscall(SYS_write, fd, bytes, n);
    pthread_mutex_lock(&lock);
    off_t at = lseek(fd, 0, SEEK_CUR);
    ssize_t written = syscall(SYS_write, fd, bytes, n);
    if (written > 0)
        put(TRACE_WRITE, files[fd].inode, (uint64_t)at, bytes, (size_t)written);
    pthread_mutex_unlock(&lock);
    return written;
}

ssize_t pwrite64(int fd, const void *bytes, size_t n, off_t at)
{
    if (!is_traced(fd))
        return syscall(SYS_pwrite64, fd, bytes, n, at);
    pthread_mutex_lock(&lock);
    ssize_t written = syscall(SYS_pwrite64, fd, bytes, n, at);
    if (written > 0)
        put(TRACE_WRITE, files[fd].inode, (uint64_t)at, bytes, (size_t)written);
    pthread_mutex_unlock(&lock);
    return written;
}

int ftruncate64(int fd, off_t n)
{
    pthread_mutex_lock(&lock);
    int result = (int)syscall(SYS_ftruncate, fd, n);
    if (result == 0 && is_traced(fd))
        put(TRACE_TRUNCATE, files[fd].inode, (uint64_t)n, NULL, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

/* Counts from the moment it returns: what it would have made durable is not yet. */
static int traced_sync(int fd, long call)
{
    pthread_mutex_lock(&lock);
    int result = (int)syscall(call, fd);
    if (result == 0 && is_traced(fd) && files[fd].is_directory)
        put_path(TRACE_SYNC_DIRECTORY, 0, files[fd].path);
    else if (result == 0 && is_traced(fd))
        put(TRACE_SYNC, files[fd].inode, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int fsync(int fd)
{
    return traced_sync(fd, SYS_fsync);
}

int fdatasync(int fd)
{
    return traced_sync(fd, SYS_fdatasync);
}

int mkdir(const char *path, mode_t mode)
{
    char whole[PATH_BYTES];
    const char *below = below_root(path, whole);

    if (!below)
        return (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    pthread_mutex_lock(&lock);
    int result = (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    int error = errno;
    if (result == 0 && *below)
        put_path(TRACE_MKDIR, 0, below);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int rename(const char *from, const char *to)
{
    char whole_from[PATH_BYTES], whole_to[PATH_BYTES], both[2 * PATH_BYTES];
    const char *below_from = below_root(from, whole_from), *below_to = below_root(to, whole_to);

    pthread_mutex_lock(&lock);
    int result = TRUE_CALL(rename)(from, to);
    int error = errno;
    if (result == 0 && below_from && below_to) {
        int n = snprintf(both, sizeof(both), "%s%c%s", below_from, '\0', below_to);
        put(TRACE_RENAME, 0, 0, both, (size_t)n + 1);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

static int removed(const char *path, int result)
{
    char whole[PATH_BYTES];
    int error = errno;
    const char *below = below_root(path, whole);

    if (result == 0 && below && *below)
        put_path(TRACE_REMOVE, 0, below);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int unlink(const char *path)
{
    pthread_mutex_lock(&lock);
    return removed(path, TRUE_CALL(unlink)(path));
}

int remove(const char *path)
{
    pthread_mutex_lock(&lock);
    return removed(path, TRUE_CALL(remove)(path));
}
