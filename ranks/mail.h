/*
 * ranks/mail.h - how bytes get from one rank to another. Private to ranks/.
 *
 * Over ZeroMQ (mail_zmq.c), or over MPI. MPI is a library of its own, libhone_mpi.so, opened when
 * mpirun or srun has started us: libmpi takes milliseconds to load, and a machine without one need
 * not have it. It exports one struct mail_table under MAIL_SYMBOL.
 */
#ifndef HONE_RANKS_MAIL_H
#define HONE_RANKS_MAIL_H

#include <stddef.h>
#include <stdint.h>

#define MAIL_ABI 2
#define MAIL_MOST_BYTES ((size_t)64 << 20)   /* of one message: MPI counts in int */
#define MAIL_SYMBOL "hone_mail"
#define MAIL_LIBRARY "libhone_mpi.so"

struct mail_place {
    int rank, count, local_rank, local_count;
};

/* For those that have to find each other by themselves. */
struct wire_keys;
struct mail_meeting {
    const char *endpoint;                /* of rank 0 */
    const struct wire_keys *keys;
    const char *version;                 /* of the program */
    int64_t timeout_ms;
    const _Atomic int *stop;
};

/* A rank that is gone, or that has ended all. */
struct mail_loss {
    int rank;
    char reason[1024];                   /* of the second */
};

struct mail_table {
    uint32_t abi;                        /* MAIL_ABI */
    int abort_ends_process;              /* abort() does not return */
    /* Calls return 0, or below 0 with a reason; over ZeroMQ that is a STATUS_*, and *place has
     * rank and count of the environment. */
    int (*open)(struct mail_place *place, const struct mail_meeting *meeting);
    void (*close)(int64_t timeout_ms);   /* when all do */
    void (*abort)(int code, const char *reason);   /* ends all ranks */
    const char *(*reason)(void);
    const char *(*version)(void);
    /* Begin; the memory stays as it is until test() says that it is done. Between two ranks
     * messages of one tag arrive in the order in which they were sent. n: 1 to MAIL_MOST_BYTES. */
    int (*send)(int to, int tag, const void *bytes, size_t n, uintptr_t *request);
    int (*receive)(int from, int tag, void *bytes, size_t n, uintptr_t *request);
    int (*test)(uintptr_t *request, int *is_done);   /* what is done stays so */
    /* 1: somebody is missed. NULL where only their silence tells. */
    int (*find_loss)(struct mail_loss *loss);
};

#endif
