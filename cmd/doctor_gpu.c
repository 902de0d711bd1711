/* Where CUDA's compiler and NCCL are, and what each is for. */
#include "cmd/doctor.h"

#include <dlfcn.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The first nvcc of PATH, into out; 0 when there is none. */
static int search_path(char *out, size_t n_out)
{
    const char *path = getenv("PATH");

    while (path && *path) {
        int n = (int)strcspn(path, ":");
        snprintf(out, n_out, "%.*s/nvcc", n, path);
        if (access(out, X_OK) == 0)
            return 1;
        path += n + (path[n] == ':');
    }
    return 0;
}

void doctor_find_toolkit(char *out, size_t n_out)
{
    char nvcc[PATH_MAX] = "";
    glob_t found = {0};

    if (!search_path(nvcc, sizeof(nvcc)) &&
        glob("/usr/local/cuda*/bin/nvcc", 0, NULL, &found) == 0)
        snprintf(nvcc, sizeof(nvcc), "%s", found.gl_pathv[0]);
    globfree(&found);
    if (nvcc[0])
        snprintf(out, n_out, "%.200s: `make` builds the GPU's backend with it", nvcc);
    else
        snprintf(out, n_out, "not found: `make` builds without the GPU's backend");
}

void doctor_find_nccl(char *out, size_t n_out)
{
    void *library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    int (*get_version)(int *) = NULL;
    int version = 0;

    if (library) {
        void *symbol = dlsym(library, "ncclGetVersion");
        memcpy(&get_version, &symbol, sizeof(symbol));
    }
    if (get_version && get_version(&version) == 0)
        snprintf(out, n_out, "%d.%d.%d in libnccl.so.2: between GPUs; one GPU needs none",
                 version / 10000, version / 100 % 100, version % 100);
    else
        snprintf(out, n_out, "libnccl.so.2 not found: it is for several GPUs; one needs none");
    if (library)
        dlclose(library);
}
