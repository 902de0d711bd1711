/*
 * Memory and process groups where the caller may make them: version 2; version 1 for the limits,
 * with version 2's core beside it for CPU time; or none: then the rlimits of walls.c hold, which
 * count per process. A cell keeps its groups for all its runs.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/files.h"
#include "common/status.h"
#include "sandbox/internal.h"

#define GROUP_PREFIX "hone-sandbox"
#define TABLE_BYTES (4 << 20)
#define REMOVE_TRIES 200

static _Atomic unsigned group_counter;

static int open_file(const char *directory, const char *file, int flags)
{
    char path[BOX_PATH_BYTES + 256];

    snprintf(path, sizeof(path), "%s/%s", directory, file);
    return open(path, flags | O_CLOEXEC);
}

static int write_value(const char *directory, const char *file, const char *value)
{
    int fd = open_file(directory, file, O_WRONLY);

    if (fd < 0)
        return -1;
    ssize_t n = write(fd, value, strlen(value));
    int error = errno;
    close(fd);
    errno = error;
    return n < 0 ? -1 : 0;
}

/* The number behind `key`, which a line or a word begins with, or the file's only number; -1 when
 * it is not there. The kernel writes the file anew for each read of its beginning. */
static int64_t read_open(int fd, const char *key)
{
    char content[4096];
    ssize_t n = fd < 0 ? -1 : pread(fd, content, sizeof(content) - 1, 0);

    if (n <= 0)
        return -1;
    content[n] = '\0';
    const char *at = content;
    size_t key_length = strlen(key);
    while (key_length && strncmp(at, key, key_length) != 0) {
        at = strpbrk(at, " \n");
        if (!at)
            return -1;
        at++;
    }
    return strtoll(at + key_length, NULL, 10);
}

static int64_t read_value(const char *directory, const char *file, const char *key)
{
    int fd = open_file(directory, file, O_RDONLY);
    int64_t value = read_open(fd, key);

    if (fd >= 0)
        close(fd);
    return value;
}

/* Our pid namespace and pid, so that nobody sweeps a live group of a neighbour. */
void group_name_prefix(char *out, size_t n, long pid)
{
    struct stat about = {0};

    (void)!stat("/proc/self/ns/pid", &about);
    snprintf(out, n, GROUP_PREFIX "-%lx-%ld-", (unsigned long)about.st_ino, pid);
}

/* Removes what someone who was killed left behind: groups, which are empty by then, and
 * directories of headers. */
static void sweep(const char *base)
{
    char prefix[96], path[BOX_PATH_BYTES + 256];
    DIR *directory = base[0] ? opendir(base) : NULL;
    struct dirent *entry;

    if (!directory)
        return;
    group_name_prefix(prefix, sizeof(prefix), 0);
    size_t common = strlen(prefix) - 2;   /* without "0-" */
    while ((entry = readdir(directory))) {
        if (strncmp(entry->d_name, prefix, common) != 0)
            continue;
        pid_t owner = (pid_t)strtol(entry->d_name + common, NULL, 10);
        if (owner > 0 && kill(owner, 0) < 0 && errno == ESRCH) {
            snprintf(path, sizeof(path), "%s/%s", base, entry->d_name);
            struct stat about;
            int is_ours = lstat(path, &about) == 0 && about.st_uid == geteuid();
            if (is_ours && rmdir(path) < 0 && errno == ENOTEMPTY)
                (void)file_remove_tree(path);
        }
    }
    closedir(directory);
}

/* A group below `base` can be made and has `file` to write to. */
static int base_works(const char *base, const char *file)
{
    char path[BOX_PATH_BYTES + 256], inside[BOX_PATH_BYTES + 320], prefix[96];

    group_name_prefix(prefix, sizeof(prefix), getpid());
    snprintf(path, sizeof(path), "%s/%stry%u", base, prefix, atomic_fetch_add(&group_counter, 1));
    if (mkdir(path, 0755) < 0)
        return 0;
    snprintf(inside, sizeof(inside), "%s/%s", path, file);
    int works = access(inside, W_OK) == 0;
    rmdir(path);
    /* Version 2 moves a process only for those who may write to the common ancestor. */
    snprintf(inside, sizeof(inside), "%s/cgroup.procs", base);
    return works && access(inside, W_OK) == 0;
}

static int has_word(const char *list, const char *word)
{
    size_t n = strlen(word);

    for (const char *at = list; (at = strstr(at, word)); at += n)
        if ((at == list || at[-1] == ',') && (at[n] == ',' || at[n] == '\0'))
            return 1;
    return 0;
}

/* Our own path in the hierarchy of `controller` ("" for version 2), from /proc/self/cgroup. */
static int own_path(char *table, const char *controller, char *out)
{
    char *save = NULL;

    for (char *line = strtok_r(table, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *list = strchr(line, ':');
        char *path = list ? strchr(list + 1, ':') : NULL;
        if (!path)
            continue;
        *path++ = '\0';
        if (controller[0] ? has_word(list + 1, controller) : list[1] == '\0') {
            snprintf(out, BOX_PATH_BYTES, "%s", path);
            return 1;
        }
    }
    return 0;
}

/* Where that hierarchy is mounted, and which of its groups is the mount's root. mountinfo:
 * id parent dev root mount-point options ... - type source super-options */
static int mount_point(char *table, const char *controller, char *root, char *point)
{
    char *save = NULL;

    for (char *line = strtok_r(table, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char type[64], options[512];
        char *tail = strstr(line, " - ");
        if (!tail || sscanf(tail, " - %63s %*s %511s", type, options) != 2)
            continue;
        if (strcmp(type, controller[0] ? "cgroup" : "cgroup2") != 0 ||
            (controller[0] && !has_word(options, controller)))
            continue;
        if (sscanf(line, "%*s %*s %*s %4095s %4095s", root, point) == 2)
            return 1;
    }
    return 0;
}

/* The directory of our own group in that hierarchy; 0 when there is none. */
static int own_directory(const char *controller, char *out)
{
    char path[BOX_PATH_BYTES] = "", root[BOX_PATH_BYTES], point[BOX_PATH_BYTES];
    struct text groups = {.maximum = TABLE_BYTES}, mounts = {.maximum = TABLE_BYTES};
    int found = file_read("/proc/self/cgroup", TABLE_BYTES, &groups) >= 0 &&
                file_read("/proc/self/mountinfo", TABLE_BYTES, &mounts) >= 0 &&
                own_path(groups.data, controller, path) &&
                mount_point(mounts.data, controller, root, point);

    text_release(&groups);
    text_release(&mounts);
    if (!found)
        return 0;
    size_t n = strcmp(root, "/") == 0 ? 0 : strlen(root);
    const char *below = strncmp(path, root, n) == 0 ? path + n : "";
    if (strlen(point) + strlen(below) >= BOX_PATH_BYTES - 256)
        return 0;
    memcpy(out, point, strlen(point) + 1);
    memcpy(out + strlen(out), below, strlen(below) + 1);
    while (strlen(out) > 1 && out[strlen(out) - 1] == '/')
        out[strlen(out) - 1] = '\0';
    return 1;
}

static void find_version_1(struct group_bases *bases)
{
    if (!own_directory("memory", bases->memory) ||
        !base_works(bases->memory, "memory.limit_in_bytes")) {
        bases->memory[0] = '\0';
        return;
    }
    bases->version = 1;
    if (!own_directory("pids", bases->pids) || !base_works(bases->pids, "pids.max"))
        bases->pids[0] = '\0';
    if (!own_directory("", bases->core) || !base_works(bases->core, "cgroup.procs"))
        bases->core[0] = '\0';
}

void group_find_bases(struct group_bases *bases)
{
    memset(bases, 0, sizeof(*bases));
    if (own_directory("", bases->memory)) {
        /* Version 2 lets a group with processes have no children with limits, so the place is
         * beside us, except in the root group. */
        if (!base_works(bases->memory, "memory.max")) {
            char *slash = strrchr(bases->memory, '/');
            if (slash)
                *slash = '\0';
        }
        if (base_works(bases->memory, "memory.max"))
            bases->version = 2;
    }
    if (!bases->version)
        find_version_1(bases);
    if (!bases->version)
        memset(bases, 0, sizeof(*bases));
    group_sweep(bases);
}

void group_sweep(const struct group_bases *bases)
{
    sweep(bases->memory);
    sweep(bases->pids);
    sweep(bases->core);
    sweep("/tmp");
}

static int make(char *out, const char *base, unsigned number)
{
    char prefix[96];

    group_name_prefix(prefix, sizeof(prefix), getpid());
    snprintf(out, BOX_PATH_BYTES + 128, "%s/%s%u", base, prefix, number);
    if (mkdir(out, 0755) < 0) {
        int error = errno;
        status_fail(STATUS_IO, "sandbox: mkdir %s: %s", out, strerror(error));
        out[0] = '\0';
        return STATUS_IO;
    }
    return 0;
}

static int set_limit(const char *path, const char *file, int64_t value)
{
    char text[32];

    snprintf(text, sizeof(text), "%lld", (long long)value);
    if (write_value(path, file, text) < 0)
        return status_fail(STATUS_IO, "sandbox: write %s to %s/%s: %s", text, path, file,
                           strerror(errno));
    return 0;
}

/* Where version 2's own files are. */
static const char *core_of(const struct cell_group *group)
{
    return group->version == 2 ? group->memory : group->core;
}

int group_create(struct cell_group *group, const struct group_bases *bases)
{
    int status = 0;

    memset(group, 0, sizeof(*group));
    group->peak_fd = group->kills_fd = group->stall_fd = -1;
    group->version = bases->version;
    if (!bases->version)
        return 0;
    unsigned number = atomic_fetch_add(&group_counter, 1);
    TRY_OUT(make(group->memory, bases->memory, number));
    if (bases->pids[0])
        TRY_OUT(make(group->pids, bases->pids, number));
    if (bases->core[0])
        TRY_OUT(make(group->core, bases->core, number));
    int is_2 = group->version == 2;
    group->peak_fd = open_file(group->memory, is_2 ? "memory.peak" : "memory.max_usage_in_bytes",
                               O_RDWR);
    group->kills_fd = open_file(group->memory, is_2 ? "memory.events" : "memory.oom_control",
                                O_RDONLY);
    if (group->kills_fd < 0 || (!is_2 && group->peak_fd < 0))
        status = status_fail(STATUS_IO, "sandbox: open files of %s: %s", group->memory,
                             strerror(errno));
    if (core_of(group)[0])
        group->stall_fd = open_file(core_of(group), "cpu.pressure", O_RDONLY);
out:
    if (status < 0)
        group_remove(group);
    return status;
}

int group_join(const struct cell_group *group, pid_t pid)
{
    if (group->memory[0])
        TRY(set_limit(group->memory, "cgroup.procs", pid));
    if (group->pids[0])
        TRY(set_limit(group->pids, "cgroup.procs", pid));
    if (group->core[0])
        TRY(set_limit(group->core, "cgroup.procs", pid));
    return 0;
}

/* Swap would be memory without a limit. A kernel without swap has no such file. Version 1 keeps
 * this limit at or above the other one. */
static int set_memory(struct cell_group *group, int64_t bytes)
{
    const char *limit = group->version == 2 ? "memory.max" : "memory.limit_in_bytes";
    const char *swap = group->version == 2 ? "memory.swap.max" : "memory.memsw.limit_in_bytes";
    char path[sizeof(group->memory) + 64];
    int shrinks = group->memory_bytes > bytes;

    if (group->memory_bytes == bytes)
        return 0;
    snprintf(path, sizeof(path), "%s/%s", group->memory, swap);
    int has_swap = access(path, F_OK) == 0;
    if (has_swap && group->version == 1 && !shrinks && group->memory_bytes)
        TRY(set_limit(group->memory, swap, bytes));
    TRY(set_limit(group->memory, limit, bytes));
    if (has_swap)
        TRY(set_limit(group->memory, swap, group->version == 2 ? 0 : bytes));
    group->memory_bytes = bytes;
    return 0;
}

static int set_processes(struct cell_group *group, int64_t processes)
{
    const char *path = group->version == 2 ? group->memory : group->pids;

    if (group->processes == processes || !path[0])
        return 0;
    if (group->version == 2 && read_value(path, "pids.current", "") < 0)
        return 0;   /* no such controller: RLIMIT_NPROC holds */
    TRY(set_limit(path, "pids.max", processes + 2));   /* cell and init count */
    group->processes = processes;
    return 0;
}

int group_begin(struct cell_group *group, const struct box_plan *plan)
{
    const char *reset = group->version == 1 ? "0" : "reset";

    if (!group->version)
        return 0;
    TRY(set_memory(group, plan->memory_bytes));
    TRY(set_processes(group, plan->processes));
    if (group->peak_fd >= 0 && pwrite(group->peak_fd, reset, strlen(reset), 0) < 0) {
        if (group->version == 1)
            return status_fail(STATUS_IO, "sandbox: reset the peak of %s: %s", group->memory,
                               strerror(errno));
        close(group->peak_fd);   /* a kernel before 6.12: the peak is that of all runs */
        group->peak_fd = -1;
    }
    group->oom_kills = read_open(group->kills_fd, "oom_kill ");
    if (plan->kind == CELL_COMPILE && core_of(group)[0])
        group->cpu_us = read_value(core_of(group), "cpu.stat", "usage_usec ");
    group->stall_us = read_open(group->stall_fd, "total=");
    return 0;
}

int64_t group_oom_kills(const struct cell_group *group)
{
    return group->version ? read_open(group->kills_fd, "oom_kill ") - group->oom_kills : 0;
}

int64_t group_peak_bytes(const struct cell_group *group)
{
    int64_t n = read_open(group->peak_fd, "");

    return n < 0 ? 0 : n;
}

int64_t group_cpu_us(const struct cell_group *group)
{
    int64_t n = core_of(group)[0] ? read_value(core_of(group), "cpu.stat", "usage_usec ") : -1;

    return n < 0 ? -1 : n - group->cpu_us;
}

int group_knows_stall(const struct cell_group *group)
{
    return group->stall_fd >= 0 && group->stall_us >= 0;
}

int64_t group_stall_us(const struct cell_group *group)
{
    int64_t n = read_open(group->stall_fd, "total=");

    return n < 0 || group->stall_us < 0 ? -1 : n - group->stall_us;
}

static void remove_directory(char *path)
{
    const struct timespec pause = {0, 1000000};

    /* The last process is reaped, but its group may be busy for a moment yet. */
    for (int i = 0; path[0] && i < REMOVE_TRIES; i++) {
        if (rmdir(path) == 0 || errno != EBUSY)
            break;
        nanosleep(&pause, NULL);
    }
    path[0] = '\0';
}

static void close_file(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void group_remove(struct cell_group *group)
{
    close_file(&group->peak_fd);
    close_file(&group->kills_fd);
    close_file(&group->stall_fd);
    remove_directory(group->memory);
    remove_directory(group->pids);
    remove_directory(group->core);
}
