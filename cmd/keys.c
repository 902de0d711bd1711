/* hone keys: who may connect to the tcp:// endpoint of a run. */
#include <string.h>

#include "cmd/cmd.h"
#include "common/files.h"
#include "common/status.h"
#include "wire/wire.h"

#define ALLOWED_MAX_BYTES ((size_t)256 << 10)

static const struct option_row options[] = {
    {"add", "NAME", "make the key DIR/NAME.key of one more worker and let it in"},
    {"remove", "NAME", "let it in no more, from the next connection on, and remove its key"},
    {0},
};

/* Public keys alone. */
static int print_keys(const char *directory)
{
    struct text list = {.maximum = ALLOWED_MAX_BYTES}, out = {0};
    struct wire_keys keys;
    int status;

    TRY(wire_keys_read_hub(&keys, directory));
    status = file_read(keys.allowed, ALLOWED_MAX_BYTES, &list);
    if (status == STATUS_OK) {
        text_print(&out, "coordinator  %s\nlet in:\n%s", keys.hub, list.data);
        status = print_text(&out);
    }
    wire_keys_forget(&keys);
    text_release(&list);
    text_release(&out);
    return status;
}

static int run(const struct command *command, const struct arguments *arguments)
{
    const char *directory = arguments->n_positionals ? arguments->positionals[0] : NULL;
    const char *add = argument_get(arguments, "add"), *drop = argument_get(arguments, "remove");
    char path[FILE_PATH_MAX];

    (void)command;
    if (!directory)
        return status_fail(STATUS_CONFIG, "name the directory of the keys: hone keys RUN/keys, or "
                           "what run.keys says");
    if (drop)
        TRY(wire_keys_remove(directory, drop));
    else
        TRY(wire_keys_make(directory));
    if (add)
        TRY(wire_keys_add(directory, add, path));
    return print_keys(directory);
}

const struct command command_keys = {
    "keys", "DIR", 1, "who may connect to a run's tcp:// endpoint: make, add, remove, list",
    "DIR is run.keys, or \"keys\" in the run directory. hub.key is the coordinator's and stays;\n"
    "worker.key, or NAME.key of --add, is copied to a worker's machine: hone worker --key FILE.\n"
    "Whoever has such a file can read the run's weights and send it samples.",
    options, run};
