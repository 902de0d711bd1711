/*
 * The walls, one call a line, built from the inside. System calls alone: no allocation, no locks,
 * and not glibc's setresuid(), which would wait for threads that do not exist on this side.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
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

void box_exit(int code)
{
    for (;;)
        syscall(SYS_exit_group, code);
}

void box_send(const struct box_report *report)
{
    ssize_t sent;

    do
        sent = write(BOX_STATUS, report, sizeof(*report));
    while (sent < 0 && errno == EINTR);
}

void box_need(int result, enum box_step step)
{
    if (result >= 0)
        return;
    struct box_report report = {.kind = BOX_REPORT_FAILED, .step = step, .error = errno};
    box_send(&report);
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

static void bind_compiler_directories(void)
{
    /* Links to compilers and linkers go through /etc/alternatives on some systems. */
    static const char *const sources[] = {"/usr", "/lib", "/lib64", "/bin", "/etc/alternatives"};

    box_need(mkdir("etc", 0755), BOX_STEP_BIND);
    for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++)
        box_need(bind_read_only(sources[i]), BOX_STEP_BIND);
    box_need(mkdir("tmp", 0755), BOX_STEP_SCRATCH);
    box_need(mount("tmpfs", "tmp", "tmpfs",
                   MS_NOSUID | MS_NODEV | MS_NOEXEC | MOUNT_NO_SYMLINKS,
                   "size=64m,nr_inodes=64,mode=700"),
             BOX_STEP_SCRATCH);
}

void box_build_root(const struct box_plan *plan)
{
    box_need(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), BOX_STEP_PRIVATE);
    box_need(mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID, "size=64k,nr_inodes=32,mode=755"),
             BOX_STEP_ROOT);
    box_need(chdir("/tmp"), BOX_STEP_ROOT);
    box_need(mkdir("dev", 0755), BOX_STEP_NULL_DEVICE);
    box_need(make_empty_file("dev/null"), BOX_STEP_NULL_DEVICE);
    box_need(mount("/dev/null", "dev/null", NULL, MS_BIND, NULL), BOX_STEP_NULL_DEVICE);
    if (plan->kind == BOX_COMPILE)
        bind_compiler_directories();
    /* Old root on top of the new one, then away with it: no directory for it is needed. */
    box_need((int)syscall(SYS_pivot_root, ".", "."), BOX_STEP_PIVOT);
    box_need(umount2(".", MNT_DETACH), BOX_STEP_PIVOT);
    box_need(chdir("/"), BOX_STEP_PIVOT);
    box_need(restrict_mount("/", 0,
                            ATTRIBUTE_READ_ONLY | ATTRIBUTE_NO_SUID | ATTRIBUTE_NO_DEVICES |
                                ATTRIBUTE_NO_EXEC),
             BOX_STEP_READ_ONLY);
    box_need(sethostname("sandbox", 7), BOX_STEP_HOST_NAME);
}

/* Hard and soft at once; never above what the caller itself has. */
static void limit(int resource, int64_t value)
{
    struct rlimit now;

    box_need(getrlimit(resource, &now), BOX_STEP_LIMITS);
    rlim_t wanted = (rlim_t)value < now.rlim_max ? (rlim_t)value : now.rlim_max;
    struct rlimit next = {wanted, wanted};
    box_need(setrlimit(resource, &next), BOX_STEP_LIMITS);
}

static void set_limits(const struct box_plan *plan)
{
    int64_t stack = plan->memory_bytes / 16;

    /* Second line only: whole seconds, one process each. Init and the caller watch the first. */
    limit(RLIMIT_CPU, (plan->cpu_ms + 999) / 1000 + 1);
    limit(RLIMIT_FSIZE, plan->kind == BOX_COMPILE ? BOX_FILE_BYTES : 0);
    limit(RLIMIT_NOFILE, 64);
    limit(RLIMIT_NPROC, plan->processes + 1);   /* init counts */
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_MEMLOCK, 0);
    limit(RLIMIT_MSGQUEUE, 0);
    limit(RLIMIT_SIGPENDING, 64);
    limit(RLIMIT_RTPRIO, 0);
    /* Also the size of each thread's stack, so not the whole memory. */
    limit(RLIMIT_STACK, stack < (8 << 20) ? 8 << 20 : stack > (64 << 20) ? 64 << 20 : stack);
    if (plan->limit_address_space)
        limit(RLIMIT_AS, plan->memory_bytes);
}

static void drop_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}, {0}};

    for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
        box_need(prctl(PR_CAPBSET_DROP, capability, 0, 0, 0), BOX_STEP_CAPABILITIES);
    box_need(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), BOX_STEP_CAPABILITIES);
    box_need((int)syscall(SYS_capset, &header, none), BOX_STEP_CAPABILITIES);
}

void box_confine(const struct box_plan *plan)
{
    sigset_t none;

    sigemptyset(&none);
    box_need(setsid(), BOX_STEP_SESSION);
    box_need(sigprocmask(SIG_SETMASK, &none, NULL), BOX_STEP_SESSION);
    umask(077);
    set_limits(plan);
    drop_capabilities();
    box_need(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), BOX_STEP_PARENT_DEATH);
    if (getppid() != 1)
        box_exit(1);
    box_need(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), BOX_STEP_PRIVILEGES);
    if (plan->filter)
        box_need(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, plan->filter, 0, 0), BOX_STEP_FILTER);
}
