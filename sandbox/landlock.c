/*
 * Landlock: a second wall with the same view as the mounts, and the first one where there are no
 * mounts. The numbers are those of linux/landlock.h, which older systems have in part only.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox/internal.h"

#define CREATE_RULESET 444   /* the numbers of all architectures */
#define ADD_RULE 445
#define RESTRICT_SELF 446
#define ASK_VERSION 1
#define PATH_BENEATH 1

#define FS_EXECUTE (1ull << 0)
#define FS_WRITE_FILE (1ull << 1)
#define FS_READ_FILE (1ull << 2)
#define FS_READ_DIR (1ull << 3)
#define FS_REMOVE_DIR (1ull << 4)
#define FS_REMOVE_FILE (1ull << 5)
#define FS_MAKE_DIR (1ull << 7)
#define FS_MAKE_REG (1ull << 8)
#define FS_TRUNCATE (1ull << 14)
#define FS_READ (FS_READ_FILE | FS_READ_DIR)
#define FS_FILE (FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE)
#define NET_BOTH 3u          /* bind and connect */
#define SCOPE_BOTH 3u        /* abstract sockets and signals */

struct ruleset {
    uint64_t fs, net, scoped;
};
struct beneath {
    uint64_t allowed;
    int32_t parent;
} __attribute__((packed));

int landlock_version(void)
{
    long version = syscall(CREATE_RULESET, NULL, 0, ASK_VERSION);

    return version < 0 ? 0 : (int)version;
}

/* What this version can deny, all of it is denied. */
static struct ruleset everything(int version, size_t *size)
{
    struct ruleset all = {.fs = (1ull << 13) - 1};

    if (version >= 2)
        all.fs |= 1ull << 13;   /* links and renames between directories */
    if (version >= 3)
        all.fs |= FS_TRUNCATE;
    if (version >= 5)
        all.fs |= 1ull << 15;   /* requests to devices */
    if (version >= 4)
        all.net = NET_BOTH;
    if (version >= 6)
        all.scoped = SCOPE_BOTH;
    *size = version >= 6 ? 24 : version >= 4 ? 16 : 8;
    return all;
}

/* A name that is not there needs no rule. */
static int allow(int ruleset, const char *path, uint64_t rights)
{
    struct beneath rule = {.allowed = rights};

    rule.parent = open(path, O_PATH | O_CLOEXEC);
    if (rule.parent < 0)
        return errno == ENOENT ? 0 : -1;
    long result = syscall(ADD_RULE, ruleset, PATH_BENEATH, &rule, 0);
    close(rule.parent);
    return (int)result;
}

static int allow_all(const struct cell_life *life, int ruleset, uint64_t handled)
{
    static const char *const libraries[] = {"/usr/lib", "/usr/lib64", "/lib", "/lib64"};
    uint64_t write = (FS_READ | FS_WRITE_FILE | FS_REMOVE_FILE | FS_REMOVE_DIR | FS_MAKE_REG |
                      FS_MAKE_DIR | FS_TRUNCATE) & handled;
    const char *own = life->scratch ? life->scratch : life->plan.scratch_bytes > 0 ? "/tmp" : NULL;
    const char *interpreter = life->kind == CELL_NODE ? life->host->node : life->host->python;

    if (allow(ruleset, "/dev/null", (FS_READ_FILE | FS_WRITE_FILE)) < 0)
        return -1;
    if (life->kind == CELL_COMPILE) {
        if (allow(ruleset, "/usr", FS_READ | FS_EXECUTE) < 0 ||
            allow(ruleset, "/lib", FS_READ | FS_EXECUTE) < 0 ||
            allow(ruleset, "/lib64", FS_READ | FS_EXECUTE) < 0 ||
            allow(ruleset, "/bin", FS_READ | FS_EXECUTE) < 0 ||
            allow(ruleset, "/etc/alternatives", FS_READ) < 0 ||
            (life->host->pch[0] &&
             allow(ruleset, life->host->level > 1 ? "/pch" : life->host->pch, FS_READ) < 0))
            return -1;
    } else if (life->kind != CELL_NATIVE) {
        for (size_t i = 0; i < sizeof(libraries) / sizeof(libraries[0]); i++)
            if (allow(ruleset, libraries[i], FS_READ | FS_EXECUTE) < 0)
                return -1;
        if (allow(ruleset, interpreter, FS_READ_FILE | FS_EXECUTE) < 0)
            return -1;
    }
    return own ? allow(ruleset, own, write) : 0;
}

int landlock_prepare(const struct cell_life *life)
{
    size_t size;
    struct ruleset all = everything(life->host->landlock, &size);
    int fd = (int)syscall(CREATE_RULESET, &all, size, 0);

    if (fd < 0)
        return -1;
    if (allow_all(life, fd, all.fs) < 0)
        return -1;
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, 40);
    close(fd);
    return moved;
}

int landlock_apply(int ruleset)
{
    return (int)syscall(RESTRICT_SELF, ruleset, 0);
}
