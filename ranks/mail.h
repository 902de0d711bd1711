/*
 * ranks/mail.h - how bytes get from one rank to another. Private to ranks/.
 *
 * MPI is a library of its own, libhone_mpi.so, opened when mpirun or srun has started us: libmpi
 * takes milliseconds to load, and a machine that only runs workers need not have it. It exports one
 * struct mail_table under MAIL_SYMBOL. Calls return 0, or -1 with a reason.
 */
#ifndef HONE_RANKS_MAIL_H
#define HONE_RANKS_MAIL_H

#include <stddef.h>
#include <stdint.h>

#define MAIL_ABI 1
#define MAIL_SYMBOL "hone_mail"
#define MAIL_LIBRARY "libhone_mpi.so"

struct mail_place {
    int rank, count, local_rank, local_count;
};

struct mail_table {
    uint32_t abi;                        /* MAIL_ABI */
    int (*open)(struct mail_place *place);
    void (*close)(void);
    void (*abort)(int code);             /* ends all ranks; does not return */
    const char *(*reason)(void);
    const char *(*version)(void);
    /* Begin; the memory stays as it is until test() says that it is done. Between two ranks
     * messages of one tag arrive in the order in which they were sent. */
    int (*send)(int to, int tag, const void *bytes, size_t n, uintptr_t *request);
    int (*receive)(int from, int tag, void *bytes, size_t n, uintptr_t *request);
    int (*test)(uintptr_t *request, int *is_done);
};

#endif
