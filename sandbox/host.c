#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/memory.h"
#include "common/status.h"
#include "sandbox/internal.h"

#define WANTED_FIRST_ID 200000
#define WANTED_N_IDS 4096

/* -1 when there is no such file. */
static long read_number(const char *path)
{
    char text[32] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return -1;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    return n > 0 ? strtol(text, NULL, 10) : -1;
}

const char *host_explain_refusal(void)
{
    if (read_number("/proc/sys/user/max_user_namespaces") == 0)
        return "user.max_user_namespaces=0: sysctl -w user.max_user_namespaces=10000";
    if (geteuid() != 0 && read_number("/proc/sys/kernel/unprivileged_userns_clone") == 0)
        return "kernel.unprivileged_userns_clone=0: sysctl -w kernel.unprivileged_userns_clone=1";
    if (geteuid() != 0 &&
        read_number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == 1)
        return "kernel.apparmor_restrict_unprivileged_userns=1: give this program an AppArmor "
               "profile with 'userns,', or sysctl -w "
               "kernel.apparmor_restrict_unprivileged_userns=0";
    return "in a container, start it with --security-opt seccomp=unconfined --security-opt "
           "apparmor=unconfined; for level 3 also -v /sys/fs/cgroup:/sys/fs/cgroup:rw; elsewhere "
           "use Linux 5.14 or newer with user namespaces";
}

/* The range [*first, *first + *n) of ids that exist here, nearest to what is wanted. `map` holds
 * lines "inside outside count" of /proc/self/uid_map or gid_map. */
static int choose_range(const char *path, int64_t *first, int64_t *n)
{
    FILE *map = fopen(path, "re");
    long long inside, outside, count;

    *n = 0;
    while (map && fscanf(map, "%lld %lld %lld", &inside, &outside, &count) == 3) {
        if (inside <= WANTED_FIRST_ID && inside + count >= WANTED_FIRST_ID + WANTED_N_IDS) {
            *first = WANTED_FIRST_ID;
            *n = WANTED_N_IDS;
            break;
        }
        /* A small map, as in rootless containers: its far end, where no account is. */
        long long usable = inside == 0 ? count - 1 : count;
        long long taken = usable < 256 ? usable : 256;
        if (taken > *n) {
            *first = inside + count - taken;
            *n = taken;
        }
    }
    if (map)
        fclose(map);
    return *n > 0 ? 0 : -1;
}

int host_choose_ids(struct box_host *host)
{
    int64_t users, n_users, groups, n_groups;

    host->privileged = geteuid() == 0;
    if (!host->privileged)
        return 0;
    if (choose_range("/proc/self/uid_map", &users, &n_users) < 0 ||
        choose_range("/proc/self/gid_map", &groups, &n_groups) < 0)
        return status_fail(STATUS_UNSUPPORTED,
                           "sandbox: root here has no other user id to give to programs, and its "
                           "own is never used: start as an ordinary user, or map more ids");
    /* One range for both: the part they share. */
    host->first_id = users > groups ? users : groups;
    int64_t end = users + n_users < groups + n_groups ? users + n_users : groups + n_groups;
    host->n_ids = end - host->first_id;
    if (host->n_ids <= 0)
        return status_fail(STATUS_UNSUPPORTED, "sandbox: the user and group maps of this container "
                                               "share no ids: map 65536 ids for both");
    return 0;
}

static int resolve_compiler(struct sandbox *sandbox, const char *path)
{
    char resolved[PATH_MAX];

    if (!realpath(path, resolved) || access(resolved, X_OK) < 0)
        return -1;
    if (strncmp(resolved, "/usr/", 5) != 0) {
        errno = EXDEV;
        return -1;
    }
    snprintf(sandbox->compiler, sizeof(sandbox->compiler), "%s", resolved);
    return 0;
}

int host_find_compiler(struct sandbox *sandbox)
{
    static const char *const known[] = {"/usr/bin/cc", "/usr/bin/gcc", "/usr/bin/clang"};
    const char *wanted = sandbox->config.compiler;

    if (wanted[0] && strcmp(wanted, "auto") != 0) {
        if (resolve_compiler(sandbox, wanted) == 0)
            return 0;
        return status_fail(STATUS_CONFIG,
                           "sandbox.compiler: %s: %s: name a C compiler that lies below /usr",
                           wanted, errno == EXDEV ? "is outside /usr" : strerror(errno));
    }
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (resolve_compiler(sandbox, known[i]) == 0)
            return 0;
    return status_fail(STATUS_UNSUPPORTED,
                       "sandbox: no C compiler at /usr/bin/cc, gcc or clang: install gcc and the "
                       "static C library (libc6-dev)");
}

/* RLIMIT_NPROC counts all of a user's threads where the user has no namespace. */
int64_t host_count_threads(void)
{
    DIR *directory = opendir("/proc");
    struct dirent *entry;
    int64_t n = 0;

    while (directory && (entry = readdir(directory))) {
        char path[300];
        struct stat about;
        snprintf(path, sizeof(path), "/proc/%s/task", entry->d_name);
        if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9' && stat(path, &about) == 0 &&
            about.st_uid == geteuid())
            n += (int64_t)about.st_nlink - 2;   /* a directory for each thread */
    }
    if (directory)
        closedir(directory);
    return n;
}

/* Links are followed here, because the cell has the file itself alone. "" where there is none. */
static void find_interpreter(char out[BOX_PATH_BYTES], const char *wanted, const char *usual)
{
    char resolved[PATH_MAX];
    const char *path = wanted[0] && strcmp(wanted, "auto") != 0 ? wanted : usual;

    out[0] = '\0';
    if (realpath(path, resolved) && access(resolved, X_OK) == 0 &&
        strncmp(resolved, "/usr/bin/", 9) == 0)
        snprintf(out, BOX_PATH_BYTES, "%s", resolved);
}

void host_find_interpreters(struct box_host *host)
{
    find_interpreter(host->python, host->config.python, "/usr/bin/python3");
    find_interpreter(host->node, host->config.node, "/usr/bin/node");
}
