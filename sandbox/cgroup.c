/*
 * Memory and process groups, one a run, version 1 or 2, where the caller may make them. Without
 * them the rlimits of walls.c hold, which count per process.
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

static int write_value(const char *directory, const char *file, const char *value)
{
    char path[BOX_PATH_BYTES + 256];

    snprintf(path, sizeof(path), "%s/%s", directory, file);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = write(fd, value, strlen(value));
    int error = errno;
    close(fd);
    errno = error;
    return n < 0 ? -1 : 0;
}

/* The number behind `key` in a file of "key number" lines, or the file's only number; -1 when it
 * is not there. */
static int64_t read_value(const char *directory, const char *file, const char *key)
{
    char path[BOX_PATH_BYTES + 256], content[4096];

    snprintf(path, sizeof(path), "%s/%s", directory, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = read(fd, content, sizeof(content) - 1);
    close(fd);
    if (n <= 0)
        return -1;
    content[n] = '\0';
    const char *at = content;
    size_t key_length = strlen(key);
    while (key_length && (strncmp(at, key, key_length) != 0 || at[key_length] != ' ')) {
        at = strchr(at, '\n');
        if (!at)
            return -1;
        at++;
    }
    return strtoll(at + key_length, NULL, 10);
}

/* Our pid namespace and pid, so that nobody sweeps a live group of a neighbour. */
static void name_prefix(char *out, size_t n, long pid)
{
    struct stat about = {0};

    (void)!stat("/proc/self/ns/pid", &about);
    snprintf(out, n, GROUP_PREFIX "-%lx-%ld-", (unsigned long)about.st_ino, pid);
}

/* Removes empty groups that a caller which was killed left behind. */
static void sweep(const char *base)
{
    char prefix[96], path[BOX_PATH_BYTES + 256];
    DIR *directory = opendir(base);
    struct dirent *entry;

    if (!directory)
        return;
    name_prefix(prefix, sizeof(prefix), 0);
    size_t common = strlen(prefix) - 2;   /* without "0-" */
    while ((entry = readdir(directory))) {
        if (strncmp(entry->d_name, prefix, common) != 0)
            continue;
        pid_t owner = (pid_t)strtol(entry->d_name + common, NULL, 10);
        if (owner > 0 && kill(owner, 0) < 0 && errno == ESRCH) {
            snprintf(path, sizeof(path), "%s/%s", base, entry->d_name);
            rmdir(path);
        }
    }
    closedir(directory);
}

/* A group below `base` can be made and has `file` to write to. */
static int base_works(const char *base, const char *file)
{
    char path[BOX_PATH_BYTES + 256], inside[BOX_PATH_BYTES + 320], prefix[96];

    name_prefix(prefix, sizeof(prefix), getpid());
    snprintf(path, sizeof(path), "%s/%stry%u", base, prefix, atomic_fetch_add(&group_counter, 1));
    if (mkdir(path, 0755) < 0)
        return 0;
    snprintf(inside, sizeof(inside), "%s/%s", path, file);
    int works = access(inside, W_OK) == 0;
    rmdir(path);
    /* Version 2 moves a process only for those who may write to the common ancestor. */
    snprintf(inside, sizeof(inside), "%s/cgroup.procs", base);
    works = works && access(inside, W_OK) == 0;
    if (works)
        sweep(base);
    return works;
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
        if (base_works(bases->memory, "memory.max")) {
            bases->version = 2;
            return;
        }
    }
    if (own_directory("memory", bases->memory) &&
        base_works(bases->memory, "memory.limit_in_bytes")) {
        bases->version = 1;
        if (!own_directory("pids", bases->pids) || !base_works(bases->pids, "pids.max"))
            bases->pids[0] = '\0';
        return;
    }
    memset(bases, 0, sizeof(*bases));
}

static int make(const char *path)
{
    if (mkdir(path, 0755) < 0)
        return status_fail(STATUS_IO, "sandbox: mkdir %s: %s", path, strerror(errno));
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

/* Swap would be memory without a limit. A kernel without swap has no such file. */
static int forbid_swap(const struct run_group *group, int64_t memory_bytes)
{
    const char *file = group->version == 2 ? "memory.swap.max" : "memory.memsw.limit_in_bytes";
    char path[sizeof(group->memory) + 64];

    snprintf(path, sizeof(path), "%s/%s", group->memory, file);
    if (access(path, F_OK) < 0)
        return 0;
    return set_limit(group->memory, file, group->version == 2 ? 0 : memory_bytes);
}

int group_create(struct run_group *group, const struct group_bases *bases, int64_t memory_bytes,
                 int64_t processes)
{
    char prefix[96];
    int status = 0;

    memset(group, 0, sizeof(*group));
    group->version = bases->version;
    if (!bases->version)
        return 0;
    unsigned number = atomic_fetch_add(&group_counter, 1);
    name_prefix(prefix, sizeof(prefix), getpid());
    snprintf(group->memory, sizeof(group->memory), "%s/%s%u", bases->memory, prefix, number);
    TRY_OUT(make(group->memory));
    TRY_OUT(set_limit(group->memory,
                      group->version == 2 ? "memory.max" : "memory.limit_in_bytes", memory_bytes));
    TRY_OUT(forbid_swap(group, memory_bytes));
    if (group->version == 2) {
        /* Init shares the group: all or nothing. */
        TRY_OUT(set_limit(group->memory, "memory.oom.group", 1));
        if (read_value(group->memory, "pids.current", "") >= 0)
            TRY_OUT(set_limit(group->memory, "pids.max", processes + 1));
    } else if (bases->pids[0]) {
        snprintf(group->pids, sizeof(group->pids), "%s/%s%u", bases->pids, prefix, number);
        TRY_OUT(make(group->pids));
        TRY_OUT(set_limit(group->pids, "pids.max", processes + 1));   /* init counts */
    }
out:
    if (status < 0)
        group_remove(group);
    return status;
}

int group_join(const struct run_group *group, pid_t pid)
{
    if (group->memory[0])
        TRY(set_limit(group->memory, "cgroup.procs", pid));
    if (group->pids[0])
        TRY(set_limit(group->pids, "cgroup.procs", pid));
    return 0;
}

int64_t group_oom_kills(const struct run_group *group)
{
    if (!group->memory[0])
        return 0;
    int64_t n = read_value(group->memory,
                           group->version == 2 ? "memory.events" : "memory.oom_control",
                           "oom_kill");
    return n < 0 ? 0 : n;
}

int64_t group_peak_bytes(const struct run_group *group)
{
    if (!group->memory[0])
        return 0;
    int64_t n = read_value(group->memory,
                           group->version == 2 ? "memory.peak" : "memory.max_usage_in_bytes", "");
    return n < 0 ? 0 : n;
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

void group_remove(struct run_group *group)
{
    remove_directory(group->memory);
    remove_directory(group->pids);
}
