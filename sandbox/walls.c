/*
 * The walls, one call a line, built from the inside. A program's process shares the memory of its
 * init and cell until it executes, and both sleep meanwhile: a failure is left in `life`.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox/internal.h"

/* As in linux/mount.h, which not every libc lets stand beside sys/mount.h. */
struct mount_attributes {
    uint64_t set, clear, propagation, user_namespace;
};
#define ATTRIBUTE_READ_ONLY 0x01
#define ATTRIBUTE_NO_SUID 0x02
#define ATTRIBUTE_NO_DEVICES 0x04
#define ATTRIBUTE_NO_EXEC 0x08
#define MOUNT_NO_SYMLINKS 256
#define EVERYTHING_BELOW 0x8000   /* AT_RECURSIVE */
#define CLONE_TREE 1              /* of open_tree() */
#define MOVE_WITHOUT_PATH 4       /* of move_mount(): from a descriptor */

void box_exit(int code)
{
    while (syscall(SYS_exit_group, code) < 0)
        continue;
}

void box_need(struct cell_life *life, int result, enum box_step step)
{
    if (life->plan.fault == 1 + (int)step) {
        errno = EIO;
        result = -1;
    }
    if (result >= 0)
        return;
    life->failure = (struct box_report){.kind = BOX_REPORT_FAILED, .step = step, .error = errno};
    if (!life->ready)
        (void)rights_send(life->socket, &life->failure, sizeof(life->failure), NULL, 0, NULL, 0);
    box_exit(1);
}

static int restrict_mount(const char *path, unsigned flags, uint64_t attributes)
{
    struct mount_attributes set = {.set = attributes};

    return (int)syscall(SYS_mount_setattr, AT_FDCWD, path, flags, &set, sizeof(set));
}

static int make_empty_file(const char *path)
{
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);

    return fd < 0 ? -1 : close(fd);
}

/* "/usr" becomes usr, read-only; where the host has a link (merged /usr), so has the box. */
static int bind_read_only(const char *source)
{
    const char *name = source + 1;
    char target[256];
    struct stat about;

    if (lstat(source, &about) < 0)
        return errno == ENOENT ? 0 : -1;
    if (S_ISLNK(about.st_mode)) {
        ssize_t n = readlink(source, target, sizeof(target) - 1);
        if (n < 0)
            return -1;
        target[n] = '\0';
        return symlink(target, name);
    }
    if (mkdir(name, 0755) < 0 || mount(source, name, NULL, MS_BIND | MS_REC, NULL) < 0)
        return -1;
    return restrict_mount(name, EVERYTHING_BELOW,
                          ATTRIBUTE_READ_ONLY | ATTRIBUTE_NO_SUID | ATTRIBUTE_NO_DEVICES);
}

static void bind_all(struct cell_life *life, const char *const *sources)
{
    for (; *sources; sources++)
        box_need(life, bind_read_only(*sources), BOX_STEP_BIND);
}

/* Below /usr only what the interpreter loads; the links of a merged /usr lead there. */
static void bind_interpreter(struct cell_life *life, const char *interpreter)
{
    static const char *const libraries[] = {"/usr/lib", "/usr/lib64", NULL};
    static const char *const links[] = {"/lib", "/lib64", NULL};

    box_need(life, mkdir("usr", 0755), BOX_STEP_BIND);
    box_need(life, mkdir("usr/bin", 0755), BOX_STEP_BIND);
    bind_all(life, libraries);
    bind_all(life, links);
    box_need(life, make_empty_file(interpreter + 1), BOX_STEP_BIND);
    box_need(life, mount(interpreter, interpreter + 1, NULL, MS_BIND, NULL), BOX_STEP_BIND);
    box_need(life,
             restrict_mount(interpreter + 1, 0,
                            ATTRIBUTE_READ_ONLY | ATTRIBUTE_NO_SUID | ATTRIBUTE_NO_DEVICES),
             BOX_STEP_BIND);
}

static void bind_headers(struct cell_life *life, int tree)
{
    if (tree < 0)
        return;
    box_need(life, mkdir("pch", 0755), BOX_STEP_BIND);
    box_need(life,
             (int)syscall(SYS_move_mount, tree, "", AT_FDCWD, "pch", MOVE_WITHOUT_PATH),
             BOX_STEP_BIND);
    box_need(life,
             restrict_mount("pch", 0,
                            ATTRIBUTE_READ_ONLY | ATTRIBUTE_NO_SUID | ATTRIBUTE_NO_DEVICES |
                                ATTRIBUTE_NO_EXEC),
             BOX_STEP_BIND);
    close(tree);
}

/* `headers`: a copy of the mount of precompiled headers, or -1. */
static void bind_directories(struct cell_life *life, int headers)
{
    /* Links to compilers and linkers go through /etc/alternatives on some systems. */
    static const char *const compiler[] = {"/usr", "/lib", "/lib64", "/bin", "/etc/alternatives",
                                           NULL};

    switch (life->kind) {
    case CELL_COMPILE:
        box_need(life, mkdir("etc", 0755), BOX_STEP_BIND);
        bind_all(life, compiler);
        bind_headers(life, headers);
        break;
    case CELL_PYTHON:
    case CELL_PYTHON_SERVER:
        bind_interpreter(life, life->host->python);
        break;
    case CELL_NODE:
        bind_interpreter(life, life->host->node);
        break;
    case CELL_NATIVE:
    case N_CELLS:
        break;
    }
}

void box_build_root(struct cell_life *life)
{
    int headers = -1;

    box_need(life, mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), BOX_STEP_PRIVATE);
    if (life->kind == CELL_COMPILE && life->host->pch[0]) {   /* the new root will hide it */
        headers = (int)syscall(SYS_open_tree, AT_FDCWD, life->host->pch, CLONE_TREE | O_CLOEXEC);
        box_need(life, headers, BOX_STEP_BIND);
    }
    box_need(life, mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID, "size=64k,nr_inodes=32,mode=755"),
             BOX_STEP_ROOT);
    box_need(life, chdir("/tmp"), BOX_STEP_ROOT);
    box_need(life, mkdir("tmp", 0755), BOX_STEP_ROOT);
    box_need(life, mkdir("dev", 0755), BOX_STEP_NULL_DEVICE);
    box_need(life, make_empty_file("dev/null"), BOX_STEP_NULL_DEVICE);
    box_need(life, mount("/dev/null", "dev/null", NULL, MS_BIND, NULL), BOX_STEP_NULL_DEVICE);
    bind_directories(life, headers);
    /* Old root on top of the new one, then away with it: no directory for it is needed. */
    box_need(life, (int)syscall(SYS_pivot_root, ".", "."), BOX_STEP_PIVOT);
    box_need(life, umount2(".", MNT_DETACH), BOX_STEP_PIVOT);
    box_need(life, chdir("/"), BOX_STEP_PIVOT);
    box_need(life,
             restrict_mount("/", 0,
                            ATTRIBUTE_READ_ONLY | ATTRIBUTE_NO_SUID | ATTRIBUTE_NO_DEVICES |
                                ATTRIBUTE_NO_EXEC),
             BOX_STEP_READ_ONLY);
    box_need(life, sethostname("sandbox", 7), BOX_STEP_HOST_NAME);
}

/* In the run's own mount namespace, so that it goes with the run. */
void box_mount_scratch(struct cell_life *life)
{
    char options[80];
    int64_t bytes = life->plan.scratch_bytes;

    snprintf(options, sizeof(options), "size=%lld,nr_inodes=%d,mode=700", (long long)bytes,
             life->kind == CELL_COMPILE ? 64 : 1024);
    box_need(life,
             mount("tmpfs", "/tmp", "tmpfs",
                   MS_NOSUID | MS_NODEV | MS_NOEXEC | MOUNT_NO_SYMLINKS, options),
             BOX_STEP_SCRATCH);
    box_need(life, chdir("/tmp"), BOX_STEP_SCRATCH);
}

/* Hard and soft at once; never above what the caller itself has. */
static void limit(struct cell_life *life, int resource, int64_t value)
{
    struct rlimit next = {(rlim_t)value, (rlim_t)value}, now;
    int result = setrlimit(resource, &next);

    if (result < 0 && errno == EPERM) {
        box_need(life, getrlimit(resource, &now), BOX_STEP_LIMITS);
        if (now.rlim_max < next.rlim_max) {
            next.rlim_cur = next.rlim_max = now.rlim_max;
            result = setrlimit(resource, &next);
        }
    }
    box_need(life, result, BOX_STEP_LIMITS);
}

/* What is the same for all runs of a cell. */
void box_limit_cell(struct cell_life *life)
{
    limit(life, RLIMIT_CORE, 0);
    limit(life, RLIMIT_MEMLOCK, 0);
    limit(life, RLIMIT_MSGQUEUE, 0);
    limit(life, RLIMIT_SIGPENDING, 64);
    limit(life, RLIMIT_RTPRIO, 0);
}

/* The main thread's, and the default of every other thread's. Where address space is what is
 * limited, eight of them must fit. */
static int64_t stack_bytes(const struct box_plan *plan)
{
    int64_t share = plan->limit_address_space ? plan->memory_bytes / 16 : plan->memory_bytes;

    return share < (8 << 20) ? 8 << 20 : share > (512 << 20) ? 512 << 20 : share;
}

static void set_limits(struct cell_life *life)
{
    const struct box_plan *plan = &life->plan;

    /* Second line only: whole seconds, one process each. Init and the caller watch the first. */
    limit(life, RLIMIT_CPU, (plan->cpu_ms + 999) / 1000 + 1);
    limit(life, RLIMIT_FSIZE, plan->scratch_bytes);
    limit(life, RLIMIT_NOFILE, 64);
    limit(life, RLIMIT_NPROC, plan->processes + 2);   /* cell and init count */
    limit(life, RLIMIT_STACK, stack_bytes(plan));
    if (plan->limit_address_space)   /* node reserves far more than it uses */
        limit(life, life->kind == CELL_NODE ? RLIMIT_DATA : RLIMIT_AS, plan->memory_bytes);
}

/* For all runs of a cell at once: what is not in this set, no program can ever get. */
void box_drop_bounding_set(struct cell_life *life)
{
    for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
        box_need(life, prctl(PR_CAPBSET_DROP, capability, 0, 0, 0), BOX_STEP_CAPABILITIES);
}

static void drop_capabilities(struct cell_life *life)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}, {0}};

    box_need(life, prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0),
             BOX_STEP_CAPABILITIES);
    box_need(life, (int)syscall(SYS_capset, &header, none), BOX_STEP_CAPABILITIES);
}

static const struct sock_fprog *choose_filter(const struct cell_life *life)
{
    int scratch = life->plan.scratch_bytes > 0;
    enum filter_profile profile = scratch ? FILTER_RUN_SCRATCH : FILTER_RUN;

    if (life->kind == CELL_COMPILE)
        profile = FILTER_COMPILE;
    else if (life->kind == CELL_PYTHON || life->kind == CELL_PYTHON_SERVER)
        profile = scratch ? FILTER_PYTHON_SCRATCH : FILTER_PYTHON;
    else if (life->kind == CELL_NODE)
        profile = scratch ? FILTER_NODE_SCRATCH : FILTER_NODE;
    return &life->host->filters[__builtin_ctz(profile)];
}

void box_confine(struct cell_life *life)
{
    sigset_t none;
    int walls_alone = life->plan.probe != 0 && !probe_has_filter(life->plan.probe);

    sigemptyset(&none);
    /* The cell's session has no terminal; a session of its own would cost a scheduling group. */
    box_need(life, setpgid(0, 0), BOX_STEP_GROUP);
    box_need(life, sigprocmask(SIG_SETMASK, &none, NULL), BOX_STEP_GROUP);
    umask(077);
    set_limits(life);
    drop_capabilities(life);
    box_need(life, prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), BOX_STEP_PARENT_DEATH);
    if (getppid() != life->init)
        box_exit(1);
    box_need(life, prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), BOX_STEP_PRIVILEGES);
    if (life->run_ruleset >= 0 && !walls_alone)
        box_need(life, landlock_apply(BOX_RULESET), BOX_STEP_LANDLOCK);
    if (!walls_alone)
        box_need(life, prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, choose_filter(life), 0, 0),
                 BOX_STEP_FILTER);
}
