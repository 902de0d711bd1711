/* Every input that is kept of a fuzz target, without a fuzzer: corpus_wire goes through
 * tests/fuzz/wire/. A crash that was found is one of them from then on. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/files.h"
#include "common/log.h"
#include "common/status.h"

#define MAX_INPUT_BYTES ((size_t)64 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static char folder[256];

static void no_kept_input_does_harm(void **state)
{
    struct dirent **entries;
    int n = scandir(folder, &entries, NULL, alphasort), n_inputs = 0;

    (void)state;
    if (n < 0)
        fail_msg("no %s: start it from the root of the tree", folder);
    for (int i = 0; i < n; i++) {
        struct text text = {.maximum = MAX_INPUT_BYTES};
        char path[FILE_PATH_MAX];
        assert_int_equal(file_join(path, folder, entries[i]->d_name), STATUS_OK);
        if (entries[i]->d_name[0] != '.') {
            assert_int_equal(file_read(path, MAX_INPUT_BYTES, &text), STATUS_OK);
            fprintf(stderr, "%s\n", path);   /* the last one, when it ends here */
            LLVMFuzzerTestOneInput((const uint8_t *)text.data, text.length);
            n_inputs++;
        }
        text_release(&text);
        free(entries[i]);
    }
    free(entries);
    assert_true(n_inputs > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_kept_input_does_harm)};

    log_set_level(LOG_ERROR);
    snprintf(folder, sizeof(folder), "tests/fuzz/%s",
             strchr(program_invocation_short_name, '_') + 1);
    return cmocka_run_group_tests_name("corpus", tests, NULL, NULL);
}
