/* What a compile cell reads before it trusts a word of it. */
#include <stdlib.h>
#include <string.h>

#include "sandbox/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static struct bundle bundle;
    unsigned char *copy = malloc(n ? n : 1);   /* exactly as long: a byte too far is seen */

    if (n)
        memcpy(copy, bytes, n);
    if (bundle_read(&bundle, copy, n) == 0) {
        size_t total = strlen(bundle.output);
        for (char **argument = bundle.arguments; *argument; argument++)
            total += strlen(*argument);
        for (uint32_t i = 0; i < bundle.n_files; i++)
            total += strlen(bundle.files[i].name) + bundle.files[i].n;
        if (total > n)
            abort();
    }
    free(copy);
    return 0;
}
