/*
 * Runs share the machine, except one that must be measured alone. Two locks of files, which the
 * kernel gives back when their holder dies: everyone passes the gate to get a share of the floor;
 * who wants the floor alone keeps the gate shut meanwhile, so that it is not overtaken for ever.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/status.h"
#include "sandbox/internal.h"

enum { GATE, FLOOR };

int turn_create(int turns[2])
{
    turns[GATE] = turns[FLOOR] = -1;
    TRY(memfd_make(&turns[GATE], "gate"));
    return memfd_make(&turns[FLOOR], "floor");
}

/* A lock belongs to an open file: a descriptor that was inherited is not one's own. */
int turn_open(int turns[2], const int shared[2])
{
    for (int i = 0; i < 2; i++) {
        char path[64];
        snprintf(path, sizeof(path), "/proc/self/fd/%d", shared[i]);
        turns[i] = open(path, O_RDWR | O_CLOEXEC);
        if (turns[i] < 0)
            return status_fail(STATUS_IO, "sandbox: open %s: %s", path, strerror(errno));
    }
    return 0;
}

static void lock(int fd, int how)
{
    while (flock(fd, how) < 0 && errno == EINTR)
        continue;
}

void turn_take(const int turns[2], int alone)
{
    if (turns[GATE] < 0)
        return;
    lock(turns[GATE], alone ? LOCK_EX : LOCK_SH);
    lock(turns[FLOOR], alone ? LOCK_EX : LOCK_SH);
    lock(turns[GATE], LOCK_UN);
}

void turn_give(const int turns[2])
{
    if (turns[GATE] >= 0)
        lock(turns[FLOOR], LOCK_UN);
}
