#include <dlfcn.h>
#include <string.h>

#include "common/files.h"
#include "common/status.h"
#include "common/trust.h"
#include "reward/internal.h"

int reward_name_is_good(const char *name, size_t n)
{
    return n > 0 && n < WIRE_NAME_BYTES &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") >= n;
}

int plugin_open(const char *path, const struct verifier_v1 **out)
{
    if (file_exists(path))
        TRY(trust_check_code(path, "plugin"));
    /* Never closed: its threads and its strings may outlive the run. */
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return status_fail(STATUS_IO, "plugin %s: %s", path, dlerror());
    const struct verifier_v1 *verifier = dlsym(library, "verifier_plugin_v1");
    if (!verifier)
        return status_fail(STATUS_VERSION, "plugin %s: no symbol verifier_plugin_v1", path);
    if (!VERIFIER_HAS(verifier, struct verifier_v1, destroy))
        return status_fail(STATUS_VERSION, "plugin %s: struct of %u bytes is older than v1", path,
                           (unsigned)verifier->size);
    if (!verifier->name || !verifier->create || !verifier->score || !verifier->destroy)
        return status_fail(STATUS_FORMAT, "plugin %s: a required member is NULL", path);
    if (!reward_name_is_good(verifier->name, strnlen(verifier->name, WIRE_NAME_BYTES)))
        return status_fail(STATUS_FORMAT,
                           "plugin %s: its name must be 1 to %d bytes of a-z, 0-9 and _", path,
                           WIRE_NAME_BYTES - 1);
    *out = verifier;
    return STATUS_OK;
}
