#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/status.h"
#include "sandbox/internal.h"

#define MEMFD_EXECUTABLE 0x0010U   /* MFD_EXEC; kernels before 6.3 refuse it and need it not */

int memfd_make(int *out, const char *name)
{
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int fd = memfd_create(name, flags | MEMFD_EXECUTABLE);

    if (fd < 0 && errno == EINVAL)
        fd = memfd_create(name, flags);
    if (fd < 0)
        return status_fail(STATUS_IO,
                           "sandbox: memfd_create: %s: raise the descriptor limit, or set the "
                           "sysctl vm.memfd_noexec below 2",
                           strerror(errno));
    *out = fd;
    return 0;
}

int memfd_fill(int fd, const void *bytes, size_t n)
{
    size_t done = 0;

    while (done < n) {
        ssize_t written = write(fd, (const char *)bytes + done, n - done);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return status_fail(STATUS_NOMEM, "sandbox: %zu bytes into a memfd: %s", n,
                               strerror(errno));
        done += (size_t)written;
    }
    return 0;
}

int memfd_seal(int fd)
{
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
        return status_fail(STATUS_IO, "sandbox: seal a memfd: %s", strerror(errno));
    return 0;
}

/* An open file of its own, at its start: whoever reads it moves nobody else's place. */
int memfd_reopen(int *out, int fd)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    *out = open(path, O_RDONLY | O_CLOEXEC);
    return *out < 0 ? status_fail(STATUS_IO, "sandbox: reopen %s: %s: mount /proc", path,
                                  strerror(errno))
                    : 0;
}

int memfd_of_input(int *out, const void *bytes, size_t n)
{
    int fd = -1;

    TRY(memfd_make(&fd, "input"));
    int status = memfd_fill(fd, bytes, n);
    if (status >= 0)
        status = memfd_seal(fd);
    if (status >= 0 && fchmod(fd, 0400) < 0)   /* input is no program */
        status = status_fail(STATUS_IO, "sandbox: fchmod a memfd: %s", strerror(errno));
    if (status >= 0)
        status = memfd_reopen(out, fd);
    close(fd);
    return status;
}
