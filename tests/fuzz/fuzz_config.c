/* Any bytes as a recipe. What is read must print to a recipe that reads to the same; behind a NUL,
 * one "section.key=value" of the command line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/status.h"
#include "pipeline/recipe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static int open_bytes(struct recipe *recipe, const char *bytes, size_t n,
                      const char *const *overrides)
{
    int fd = memfd_create("recipe", MFD_CLOEXEC);
    char path[64];

    if (fd < 0 || write(fd, bytes, n) != (ssize_t)n)
        abort();
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int status = recipe_open(recipe, path, overrides);
    close(fd);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const char *nul = n ? memchr(data, 0, n) : NULL;
    size_t n_yaml = nul ? (size_t)(nul - (const char *)data) : n;
    char *override = mem_alloc(n - n_yaml + 1, 1);
    const char *overrides[] = {nul ? override : NULL, NULL};
    struct recipe recipe, again;

    if (nul)
        memcpy(override, nul + 1, n - n_yaml - 1);
    if (open_bytes(&recipe, (const char *)data, n_yaml, overrides) == STATUS_OK) {
        if (open_bytes(&again, recipe.yaml, strlen(recipe.yaml), NULL) < 0) {
            fprintf(stderr, "%s\n%s", status_reason(), recipe.yaml);
            abort();
        }
        if (strcmp(recipe.yaml, again.yaml) != 0 || strcmp(recipe.hash, again.hash) != 0)
            abort();
        recipe_release(&again);
        recipe_release(&recipe);
    }
    mem_free(override);
    return 0;
}
