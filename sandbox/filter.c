/*
 * The system call filter: an allow list. An answer other than "allow" is given to what innocent
 * runtimes try; everything that is not in the table, and every foreign architecture, kills.
 */
#include <errno.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/memory.h"
#include "common/status.h"
#include "sandbox/filter.h"
#include "sandbox/internal.h"

#define FILTER_BYTES_MAX (4096 * sizeof(struct sock_filter))

static int add_rule(scmp_filter_ctx context, const struct filter_rule *rule)
{
    int number = seccomp_syscall_resolve_name(rule->name);
    uint32_t action = rule->error ? SCMP_ACT_ERRNO((uint32_t)rule->error) : SCMP_ACT_ALLOW;
    struct scmp_arg_cmp test = {.arg = rule->argument, .op = SCMP_CMP_EQ, .datum_a = rule->value};

    if (number < 0)   /* another architecture's call, or newer than the library: stays forbidden */
        return 0;
    switch (rule->test) {
    case FILTER_ALWAYS:
        return seccomp_rule_add_array(context, action, number, 0, NULL);
    case FILTER_EQUAL:
        break;
    case FILTER_NOT_EQUAL:
        test.op = SCMP_CMP_NE;
        break;
    case FILTER_AT_MOST:
        test.op = SCMP_CMP_LE;
        break;
    case FILTER_ABOVE:
        test.op = SCMP_CMP_GT;
        break;
    case FILTER_MASKED:
        test.op = SCMP_CMP_MASKED_EQ;
        test.datum_a = rule->mask;
        test.datum_b = rule->value;
        break;
    }
    return seccomp_rule_add_array(context, action, number, 1, &test);
}

static int export_program(scmp_filter_ctx context, struct sock_fprog *program)
{
    int fd = memfd_create("filter", MFD_CLOEXEC);

    if (fd < 0)
        return -errno;
    int error = seccomp_export_bpf(context, fd);
    off_t n = error ? 0 : lseek(fd, 0, SEEK_END);
    if (!error && (n <= 0 || (size_t)n > FILTER_BYTES_MAX))
        error = -E2BIG;
    if (!error) {
        program->filter = mem_alloc((size_t)n, 1);
        program->len = (unsigned short)((size_t)n / sizeof(struct sock_filter));
        if (pread(fd, program->filter, (size_t)n, 0) != n)
            error = -EIO;
    }
    close(fd);
    return error;
}

int filter_build(struct sock_fprog *program, enum filter_profile profile)
{
    scmp_filter_ctx context = seccomp_init(SCMP_ACT_KILL_PROCESS);

    if (!context)
        return status_fail(STATUS_UNSUPPORTED, "sandbox: libseccomp gave no filter for this "
                                               "architecture: use x86-64 or arm64");
    int error = seccomp_attr_set(context, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (!error)
        error = seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    const char *name = "set-up";
    for (const struct filter_rule *rule = filter_rules; !error && rule->name; rule++) {
        name = rule->name;
        if (rule->profiles & (int)profile)
            error = add_rule(context, rule);
    }
    if (!error)
        error = export_program(context, program);
    seccomp_release(context);
    if (error) {
        filter_release(program);
        return status_fail(STATUS_UNSUPPORTED,
                           "sandbox: system call filter, %s: %s: use libseccomp 2.5 or newer", name,
                           strerror(-error));
    }
    return 0;
}

void filter_release(struct sock_fprog *program)
{
    mem_free(program->filter);
    program->filter = NULL;
    program->len = 0;
}
