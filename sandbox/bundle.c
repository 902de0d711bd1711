/*
 * A compilation in one block: magic, three counts, then length-prefixed texts (arguments, name of
 * the result, names of files) that end with a zero byte, each file's bytes after its name. Native
 * byte order: it never leaves the machine.
 */
#include <string.h>

#include "common/status.h"
#include "sandbox/internal.h"

#define BUNDLE_MAGIC 0x646e7562u
#define NAME_MAX_BYTES 64

struct bundle_head {
    uint32_t magic, n_arguments, n_files, unused;
};

static void put_block(struct text *out, const void *bytes, uint64_t n)
{
    text_append(out, &n, sizeof(n));
    text_append(out, bytes, n);
    text_append(out, "", 1);
}

/* One component, no dots in front: nothing outside the compiler's directory. */
static int is_plain_name(const char *name)
{
    size_t n = strlen(name);

    return n > 0 && n < NAME_MAX_BYTES && name[0] != '.' && name[0] != '-' && !strchr(name, '/');
}

int bundle_write(struct text *out, const struct sandbox_compilation *compilation)
{
    struct bundle_head head = {.magic = BUNDLE_MAGIC, .n_files = (uint32_t)compilation->n_files};
    const char *output = compilation->output ? compilation->output : "program";

    while (compilation->arguments[head.n_arguments])
        head.n_arguments++;
    if (head.n_arguments == 0 || head.n_arguments > BUNDLE_ARGUMENTS_MAX ||
        compilation->n_files > BUNDLE_FILES_MAX)
        return status_fail(STATUS_CONFIG,
                           "sandbox: a compilation takes 1 to %d arguments and at most %d files",
                           BUNDLE_ARGUMENTS_MAX, BUNDLE_FILES_MAX);
    text_append(out, &head, sizeof(head));
    for (uint32_t i = 0; i < head.n_arguments; i++)
        put_block(out, compilation->arguments[i], strlen(compilation->arguments[i]));
    put_block(out, output, strlen(output));
    for (size_t i = 0; i < compilation->n_files; i++) {
        const struct sandbox_file *file = &compilation->files[i];
        if (!is_plain_name(file->name))
            return status_fail(STATUS_CONFIG, "sandbox: '%s' is no plain file name", file->name);
        put_block(out, file->name, strlen(file->name));
        put_block(out, file->bytes, file->n);
    }
    if (!is_plain_name(output))
        return status_fail(STATUS_CONFIG, "sandbox: '%s' is no plain file name", output);
    return out->failed ? status_fail(STATUS_NOMEM, "sandbox: sources of over 1 GiB") : 0;
}

struct reader {
    unsigned char *at;
    size_t left;
};

/* NULL at the end or when it does not fit. */
static unsigned char *take_block(struct reader *reader, uint64_t *n)
{
    uint64_t length;

    if (reader->left < sizeof(length))
        return NULL;
    memcpy(&length, reader->at, sizeof(length));
    reader->at += sizeof(length);
    reader->left -= sizeof(length);
    if (reader->left == 0 || length > reader->left - 1 || reader->at[length] != '\0')
        return NULL;
    unsigned char *block = reader->at;
    reader->at += length + 1;
    reader->left -= length + 1;
    *n = length;
    return block;
}

/* A text without zero bytes inside. */
static char *take_text(struct reader *reader)
{
    uint64_t n;
    char *text = (char *)take_block(reader, &n);

    return text && strlen(text) == n ? text : NULL;
}

int bundle_read(struct bundle *bundle, unsigned char *bytes, size_t n)
{
    struct reader reader = {bytes, n};
    struct bundle_head head;

    memset(bundle, 0, sizeof(*bundle));
    if (n < sizeof(head))
        return -1;
    memcpy(&head, bytes, sizeof(head));
    reader.at += sizeof(head);
    reader.left -= sizeof(head);
    if (head.magic != BUNDLE_MAGIC || head.n_arguments == 0 ||
        head.n_arguments > BUNDLE_ARGUMENTS_MAX || head.n_files > BUNDLE_FILES_MAX)
        return -1;
    for (uint32_t i = 0; i < head.n_arguments; i++)
        if (!(bundle->arguments[i] = take_text(&reader)))
            return -1;
    bundle->output = take_text(&reader);
    if (!bundle->output || !is_plain_name(bundle->output))
        return -1;
    for (uint32_t i = 0; i < head.n_files; i++) {
        struct bundle_file *file = &bundle->files[i];
        file->name = take_text(&reader);
        if (!file->name || !is_plain_name(file->name))
            return -1;
        if (!(file->bytes = take_block(&reader, &file->n)))
            return -1;
    }
    bundle->n_files = head.n_files;
    return reader.left == 0 ? 0 : -1;
}
