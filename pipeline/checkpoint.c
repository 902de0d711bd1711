#include "pipeline/checkpoint.h"

#include <errno.h>
#include <signal.h>
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
                                    "reference.safetensors", "adapter.safetensors", "guard.json",
                                    NULL};

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

static int sync_parts(const char *directory)
{
    char path[FILE_PATH_MAX];

    for (const char *const *part = parts; *part; part++) {
        TRY(file_join(path, directory, *part));
        if (file_exists(path))
            TRY(file_sync(path));
    }
    return STATUS_OK;
}

/* What need not hold up the run: digests, the disk, the name. */
static int finish(struct checkpoint_save *save)
{
    char parent[FILE_PATH_MAX];

    TRY(parent_of(save->directory, parent));
    TRY(sync_parts(save->temporary));
    TRY(write_manifest(save->temporary, save->digest_hex));
    TRY(file_sync_directory(save->temporary));
    TRY(file_remove_tree(save->directory));   /* of a run that was rewound */
    if (rename(save->temporary, save->directory))
        return status_fail(STATUS_IO, "cannot rename %s to %s: %s", save->temporary,
                           save->directory, strerror(errno));
    return file_sync_directory(parent);
}

static int give_up(const char *temporary, const char *directory, int status)
{
    char why[512];

    snprintf(why, sizeof(why), "%s", status_reason());
    file_remove_tree(temporary);
    return status_fail(status, "checkpoint %s is not written: %s", directory, why);
}

static void *run_saver(void *argument)
{
    struct checkpoint_save *save = argument;

    save->status = finish(save);
    if (save->status < 0) {
        give_up(save->temporary, save->directory, save->status);
        snprintf(save->why, sizeof(save->why), "%s", status_reason());
    }
    atomic_store(&save->is_over, 1);
    return NULL;
}

static int start_saver(struct checkpoint_save *save)
{
    sigset_t all, before;

    atomic_store(&save->is_over, 0);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);   /* signals are for the thread that waits */
    int error = pthread_create(&save->thread, NULL, run_saver, save);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error)
        return status_fail(STATUS_NOMEM, "no thread: %s", strerror(error));
    save->is_going_on = 1;
    return STATUS_OK;
}

int checkpoint_begin(struct checkpoint_save *save, const char *directory, const struct model *model,
                     const struct tokenizer *tokenizer, const struct model_notes *notes,
                     const struct learner *learner)
{
    if (save->is_going_on)
        BUG("a checkpoint is begun before the one of %s has ended", save->directory);
    if (snprintf(save->temporary, sizeof(save->temporary), "%s.tmp", directory) >=
        (int)sizeof(save->temporary))
        return status_fail(STATUS_CONFIG, "path is too long: %s", directory);
    snprintf(save->directory, sizeof(save->directory), "%s", directory);
    TRY(file_remove_tree(save->temporary));
    TRY(file_make_directories(save->temporary));
    file_sync_later(1);
    int status = write_parts(save->temporary, model, tokenizer, notes, learner);
    file_sync_later(0);
    if (status == STATUS_OK)
        status = start_saver(save);
    return status < 0 ? give_up(save->temporary, directory, status) : STATUS_OK;
}

int checkpoint_is_over(struct checkpoint_save *save)
{
    return save->is_going_on && atomic_load(&save->is_over);
}

int checkpoint_end(struct checkpoint_save *save)
{
    if (!save->is_going_on)
        return STATUS_OK;
    pthread_join(save->thread, NULL);
    save->is_going_on = 0;
    return save->status < 0 ? status_fail(save->status, "%s", save->why) : STATUS_OK;
}

static int read_manifest(const char *directory, const char *wanted, json_t **manifest)
{
    char path[FILE_PATH_MAX], hex[DIGEST_HEX_BYTES];
    struct digest digest;

    TRY(file_join(path, directory, MANIFEST));
    if (!file_exists(path))
        return status_fail(STATUS_FORMAT, "%s is missing", path);
    if (wanted) {
        TRY(digest_of_file(&digest, path));
        digest_hex(&digest, hex);
        if (strcmp(hex, wanted) != 0)
            return status_fail(STATUS_FORMAT, "%s is damaged: its SHA-256 is %s, run.db says %s",
                               path, hex, wanted);
    }
    TRY(json_read_file(manifest, path, MANIFEST_MAX_BYTES));
    if (json_is_object(json_object_get(*manifest, "files")))
        return STATUS_OK;
    json_decref(*manifest);
    return status_fail(STATUS_FORMAT, "%s: key \"files\" is missing", path);
}

static int verify_part(const char *directory, const char *name, const json_t *wanted)
{
    char part[FILE_PATH_MAX], hex[DIGEST_HEX_BYTES];
    struct digest digest;

    if (strchr(name, '/') || !json_is_string(wanted))
        return status_fail(STATUS_FORMAT, "%s/%s: \"%s\" is no file of a checkpoint", directory,
                           MANIFEST, name);
    TRY(file_join(part, directory, name));
    if (!file_exists(part))
        return status_fail(STATUS_FORMAT, "%s is missing", part);
    TRY(digest_of_file(&digest, part));
    digest_hex(&digest, hex);
    if (strcmp(hex, json_string_value(wanted)) != 0)
        return status_fail(STATUS_FORMAT, "%s is damaged: its SHA-256 is %s, the manifest says %s",
                           part, hex, json_string_value(wanted));
    return STATUS_OK;
}

int checkpoint_verify(const char *directory, const char *manifest_hex)
{
    const char *name;
    json_t *manifest, *wanted;
    int status = STATUS_OK;

    TRY(read_manifest(directory, manifest_hex, &manifest));
    json_object_foreach(json_object_get(manifest, "files"), name, wanted) {
        status = verify_part(directory, name, wanted);
        if (status < 0)
            break;
    }
    json_decref(manifest);
    return status;
}
