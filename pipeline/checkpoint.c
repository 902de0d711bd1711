#include "pipeline/checkpoint.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/status.h"

#define MANIFEST "manifest.json"
#define CONFIG_MAX_BYTES ((size_t)4 << 20)
#define MANIFEST_MAX_BYTES ((size_t)1 << 20)

/* What a checkpoint may hold; a file that is not there is left out of the manifest. */
static const char *const parts[] = {"config.json", "generation_config.json", "model.safetensors",
                                    "tokenizer.json", "optimizer.safetensors",
                                    "reference.safetensors", "adapter.safetensors", NULL};

static int write_part(const char *directory, const char *name, const void *bytes, size_t n)
{
    char path[FILE_PATH_MAX];

    TRY(file_join(path, directory, name));
    return file_write_atomic(path, bytes, n);
}

int checkpoint_put_notes(const char *directory, const struct model_notes *notes)
{
    char path[FILE_PATH_MAX];
    struct text config = {0};
    int status;

    TRY_OUT(file_join(path, directory, "config.json"));
    TRY_OUT(file_read(path, CONFIG_MAX_BYTES, &config));
    TRY_OUT(model_notes_put_config(notes, &config));
    TRY_OUT(file_write_atomic(path, config.data, config.length));
out:
    text_release(&config);
    return status;
}

static int write_generation(const char *directory, const struct model_notes *notes)
{
    struct text generation = {0};
    int status = model_notes_print_generation(notes, &generation);

    if (status == STATUS_OK)
        status =
            write_part(directory, "generation_config.json", generation.data, generation.length);
    text_release(&generation);
    return status;
}

static int write_parts(const char *directory, const struct model *model,
                       const struct tokenizer *tokenizer, const struct model_notes *notes,
                       const struct learner *learner)
{
    const char *json;
    size_t n;

    TRY(model_save(model, -1, tokenizer_eos(tokenizer), directory));
    TRY(checkpoint_put_notes(directory, notes));
    tokenizer_json(tokenizer, &json, &n);
    TRY(write_part(directory, "tokenizer.json", json, n));
    TRY(write_generation(directory, notes));
    return learner ? learner_save_state(learner, directory) : STATUS_OK;
}

static int write_manifest(const char *directory, char digest_hex_out[DIGEST_HEX_BYTES])
{
    struct text text = {0};
    struct digest digest;
    int n = 0;

    text_print(&text, "{\"format\": \"hone-checkpoint\", \"version\": 1, \"files\": {");
    for (const char *const *part = parts; *part; part++) {
        char path[FILE_PATH_MAX], hex[DIGEST_HEX_BYTES];
        int status = file_join(path, directory, *part);
        if (status == STATUS_OK && file_exists(path)) {
            status = digest_of_file(&digest, path);
            digest_hex(&digest, hex);
            text_print(&text, "%s\n  \"%s\": \"%s\"", n++ ? "," : "", *part, hex);
        }
        if (status < 0) {
            text_release(&text);
            return status;
        }
    }
    text_print(&text, "\n}}\n");
    digest_of(&digest, text.data, text.length);
    digest_hex(&digest, digest_hex_out);
    int status = write_part(directory, MANIFEST, text.data, text.length);
    text_release(&text);
    return status;
}

static int parent_of(const char *path, char *out)
{
    const char *slash = strrchr(path, '/');

    if (!slash)
        return status_fail(STATUS_CONFIG, "checkpoint path %s has no directory", path);
    snprintf(out, FILE_PATH_MAX, "%.*s", (int)(slash - path), path);
    return STATUS_OK;
}

int checkpoint_save(const char *directory, const struct model *model,
                    const struct tokenizer *tokenizer, const struct model_notes *notes,
                    const struct learner *learner, char digest_hex_out[DIGEST_HEX_BYTES])
{
    char temporary[FILE_PATH_MAX], parent[FILE_PATH_MAX];

    if (snprintf(temporary, sizeof(temporary), "%s.tmp", directory) >= (int)sizeof(temporary))
        return status_fail(STATUS_CONFIG, "path is too long: %s", directory);
    TRY(parent_of(directory, parent));
    TRY(file_remove_tree(temporary));
    TRY(file_make_directories(temporary));
    int status = write_parts(temporary, model, tokenizer, notes, learner);
    if (status == STATUS_OK)
        status = write_manifest(temporary, digest_hex_out);
    if (status == STATUS_OK)
        status = file_sync_directory(temporary);
    if (status == STATUS_OK)
        status = file_remove_tree(directory);   /* of a run that was rewound */
    if (status == STATUS_OK && rename(temporary, directory))
        status = status_fail(STATUS_IO, "cannot rename %s to %s: %s", temporary, directory,
                             strerror(errno));
    if (status < 0) {
        char why[512];
        snprintf(why, sizeof(why), "%s", status_reason());
        file_remove_tree(temporary);
        return status_fail(status, "checkpoint %s is not written: %s", directory, why);
    }
    return file_sync_directory(parent);
}

int checkpoint_verify(const char *directory)
{
    char path[FILE_PATH_MAX];
    const char *name;
    json_t *manifest, *wanted;
    int status;

    TRY(file_join(path, directory, MANIFEST));
    TRY(json_read_file(&manifest, path, MANIFEST_MAX_BYTES));
    const json_t *files = json_object_get(manifest, "files");
    status = json_is_object(files)
                 ? STATUS_OK
                 : status_fail(STATUS_FORMAT, "%s: key \"files\" is missing", path);
    void *at = status == STATUS_OK ? json_object_iter((json_t *)(uintptr_t)files) : NULL;
    for (; at && status == STATUS_OK; at = json_object_iter_next((json_t *)(uintptr_t)files, at)) {
        char part[FILE_PATH_MAX], hex[DIGEST_HEX_BYTES];
        struct digest digest;
        name = json_object_iter_key(at);
        wanted = json_object_iter_value(at);
        if (strchr(name, '/') || !json_is_string(wanted)) {
            status =
                status_fail(STATUS_FORMAT, "%s: \"%s\" is no file of a checkpoint", path, name);
            break;
        }
        status = file_join(part, directory, name);
        if (status == STATUS_OK)
            status = digest_of_file(&digest, part);
        if (status < 0)
            break;
        digest_hex(&digest, hex);
        if (strcmp(hex, json_string_value(wanted)) != 0)
            status = status_fail(STATUS_FORMAT,
                                 "%s is damaged: its SHA-256 is %s, the manifest says "
                                 "%s; remove the directory to go on from an earlier checkpoint",
                                 part, hex, json_string_value(wanted));
    }
    json_decref(manifest);
    return status;
}
