/* NCCL's functions, from its library. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "common/status.h"
#include "ranks/nccl_abi.h"
#include "ranks/ranks.h"

static int find(void *library, const char *name, void *out)
{
    char full[64];

    snprintf(full, sizeof(full), "nccl%s", name);
    void *symbol = dlsym(library, full);
    if (!symbol)
        return status_fail(STATUS_VERSION, "%s has no %s: NCCL 2.14 is the least", NCCL_LIBRARY,
                           full);
    memcpy(out, &symbol, sizeof(symbol));
    return STATUS_OK;
}

int nccl_load(struct nccl_table *nccl, int *version)
{
    void *library = dlopen(NCCL_LIBRARY, RTLD_NOW | RTLD_LOCAL);

    if (!library)
        return status_fail(STATUS_UNSUPPORTED, "several ranks on GPUs need NCCL, and %s; install "
                           "libnccl2", dlerror());
#define X(name, arguments) TRY(find(library, #name, &nccl->name));
    NCCL_MAP(X)
#undef X
    TRY(find(library, "GetErrorString", &nccl->GetErrorString));
    TRY(find(library, "GetLastError", &nccl->GetLastError));
    if (nccl->GetVersion(version) == NCCL_SUCCESS && *version >= NCCL_LEAST_VERSION)
        return STATUS_OK;
    return status_fail(STATUS_VERSION, "NCCL %d: 2.14 is the least", *version);
}

int ranks_find_nccl(char *out, size_t n_out)
{
    struct nccl_table nccl = {.GetVersion = NULL};
    int version = 0, status = nccl_load(&nccl, &version);

    if (status < 0)
        snprintf(out, n_out, "%s", status_reason());
    else
        snprintf(out, n_out, "%d.%d.%d in %s", version / 10000, version / 100 % 100, version % 100,
                 NCCL_LIBRARY);
    return status == STATUS_OK;
}
