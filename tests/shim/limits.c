/*
 * tests/shim/limits.c - LD_PRELOAD: in the sandbox's broker and whatever it starts, one kind of
 * limit cannot be set while the test says so.
 *
 *   LIMITS_PAGE=PATH   a struct limits_page that the test has mapped as well
 */
#include "tests/shim/limits.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

static struct limits_page *page;
static char preload[4096], page_path[4096];

__attribute__((constructor)) static void open_page(void)
{
    const char *path = getenv("LIMITS_PAGE"), *self = getenv("LD_PRELOAD");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;

    if (fd < 0 || !self)
        return;
    snprintf(preload, sizeof(preload), "LD_PRELOAD=%.4000s", self);
    snprintf(page_path, sizeof(page_path), "LIMITS_PAGE=%.4000s", path);
    void *memory = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    page = memory == MAP_FAILED ? NULL : memory;
    close(fd);
}

#define TRUE_CALL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* The broker gets few variables of the caller's, and these two. */
int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                const posix_spawnattr_t *attributes, char *const *arguments,
                char *const *environment)
{
    char *list[64] = {preload, page_path};

    for (int i = 0; environment[i] && i < 60; i++)
        list[i + 2] = environment[i];
    return TRUE_CALL(posix_spawn)(pid, path, actions, attributes, arguments,
                                  page ? list : environment);
}

static int strikes(int is_it)
{
    if (!is_it)
        return 0;
    page->n_struck++;
    errno = EIO;
    return 1;
}

int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit)
{
    if (page && strikes(page->resource == (int)resource))
        return -1;
    return TRUE_CALL(setrlimit)(resource, limit);
}

static int is_wanted_file(int fd)
{
    char link[64], path[4096];
    int error = errno;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof(path) - 1);
    path[n > 0 ? n : 0] = '\0';
    const char *slash = strrchr(path, '/');
    errno = error;
    return strncmp(path, "/sys/fs/cgroup/", 15) == 0 && strcmp(slash + 1, page->file) == 0;
}

ssize_t write(int fd, const void *bytes, size_t n)
{
    if (page && page->file[0] && strikes(is_wanted_file(fd)))
        return -1;
    return TRUE_CALL(write)(fd, bytes, n);
}
