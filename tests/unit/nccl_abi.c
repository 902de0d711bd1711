/* Compiled where nccl.h is: what ranks/nccl_abi.h says of NCCL is what it says itself. */
#include <nccl.h>

#include "ranks/nccl_abi.h"

#define SAME(one, other) _Static_assert((one) == (other), #one)
SAME(sizeof(ncclUniqueId), sizeof(struct nccl_id));
SAME(offsetof(ncclConfig_t, size), offsetof(struct nccl_config, size));
SAME(offsetof(ncclConfig_t, magic), offsetof(struct nccl_config, magic));
SAME(offsetof(ncclConfig_t, version), offsetof(struct nccl_config, version));
SAME(offsetof(ncclConfig_t, blocking), offsetof(struct nccl_config, blocking));
SAME(sizeof(ncclResult_t), sizeof(enum nccl_result));
SAME(sizeof(ncclDataType_t), sizeof(int));
SAME(sizeof(ncclRedOp_t), sizeof(int));
SAME((int)ncclSuccess, (int)NCCL_SUCCESS);
SAME((int)ncclInProgress, (int)NCCL_IN_PROGRESS);
SAME((int)ncclFloat32, (int)NCCL_FLOAT32);
SAME((int)ncclBfloat16, (int)NCCL_BFLOAT16);
SAME((int)ncclSum, (int)NCCL_SUM);
SAME(NCCL_VERSION(2, 14, 0), NCCL_LEAST_VERSION);

/* Each function takes arguments of these kinds, in this order. */
int nccl_abi_is_ours(ncclComm_t comm, ncclUniqueId id, const void *from, void *to, size_t n,
                     cudaStream_t queue);
int nccl_abi_is_ours(ncclComm_t comm, ncclUniqueId id, const void *from, void *to, size_t n,
                     cudaStream_t queue)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ncclResult_t result;
    int version;

    _Static_assert(NCCL_CONFIG_MAGIC == 0xcafebeef, "the magic of NCCL_CONFIG_INITIALIZER");
    return ncclGetVersion(&version) + ncclGetUniqueId(&id) +
           ncclCommInitRankConfig(&comm, 2, id, 0, &config) +
           ncclCommGetAsyncError(comm, &result) + ncclCommFinalize(comm) + ncclCommDestroy(comm) +
           ncclCommAbort(comm) +
           ncclReduceScatter(from, to, n, ncclFloat32, ncclSum, comm, queue) +
           ncclAllGather(from, to, n, ncclFloat32, comm, queue) +
           ncclReduce(from, to, n, ncclFloat32, ncclSum, 0, comm, queue) +
           ncclBroadcast(from, to, n, ncclFloat32, 0, comm, queue) +
           ncclGetErrorString(result)[0] + ncclGetLastError(comm)[0];
}
