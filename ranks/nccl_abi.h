/*
 * ranks/nccl_abi.h - what is used of NCCL's binary interface. Private to ranks/.
 *
 * libnccl.so.2 is opened when several ranks have GPUs, so that neither its header nor the library
 * is needed to build. The functions of struct nccl_table have NCCL's names less "nccl";
 * tests/unit/nccl_abi.c holds them against nccl.h where that is installed. The configuration is
 * that of NCCL 2.14, the first with non-blocking communicators; later ones take it as it is.
 */
#ifndef HONE_RANKS_NCCL_ABI_H
#define HONE_RANKS_NCCL_ABI_H

#include <stddef.h>

#define NCCL_LIBRARY "libnccl.so.2"
#define NCCL_ID_BYTES 128
#define NCCL_CONFIG_MAGIC 0xcafebeefu
#define NCCL_LEAST_VERSION 21400

struct nccl_comm;   /* ncclComm_t points at it */
struct nccl_id {
    char internal[NCCL_ID_BYTES];
};
struct nccl_config {
    size_t size;
    unsigned magic, version;
    int blocking;
};
enum nccl_result { NCCL_SUCCESS = 0, NCCL_IN_PROGRESS = 7 };
enum { NCCL_FLOAT32 = 7, NCCL_BFLOAT16 = 9 };
enum { NCCL_SUM = 0 };

/* name, arguments; all return enum nccl_result */
#define NCCL_MAP(X)                                                                                \
    X(GetVersion, (int *version))                                                                  \
    X(GetUniqueId, (struct nccl_id * id))                                                          \
    X(CommInitRankConfig, (struct nccl_comm * *comm, int count, struct nccl_id id, int rank,       \
                           struct nccl_config *config))                                            \
    X(CommGetAsyncError, (struct nccl_comm * comm, enum nccl_result *result))                      \
    X(CommFinalize, (struct nccl_comm * comm))                                                     \
    X(CommDestroy, (struct nccl_comm * comm))                                                      \
    X(CommAbort, (struct nccl_comm * comm))                                                        \
    X(ReduceScatter, (const void *from, void *to, size_t n_to, int type, int op,                   \
                      struct nccl_comm *comm, void *stream))                                       \
    X(AllGather, (const void *from, void *to, size_t n_from, int type, struct nccl_comm *comm,     \
                  void *stream))                                                                   \
    X(Reduce, (const void *from, void *to, size_t n, int type, int op, int root,                   \
               struct nccl_comm *comm, void *stream))                                              \
    X(Broadcast, (const void *from, void *to, size_t n, int type, int root,                        \
                  struct nccl_comm *comm, void *stream))

struct nccl_table {
#define X(name, arguments) enum nccl_result(*name) arguments;
    NCCL_MAP(X)
#undef X
    const char *(*GetErrorString)(enum nccl_result result);
    const char *(*GetLastError)(struct nccl_comm *comm);
};

int nccl_load(struct nccl_table *nccl, int *version);

#endif
