/*
 * Keys of CURVE (libzmq's, over libsodium): made, read, listed. A key file is lines of a word and
 * 40 characters of Z85:
 *
 *     hone-key 1
 *     hub PUBLIC       the coordinator's, by which a worker knows it
 *     public PUBLIC    the owner's own pair
 *     secret SECRET
 *
 * hub.key is the coordinator's, worker.key all that a worker needs. `allowed` has a line "PUBLIC
 * name" for each worker that is let in; it is read at every handshake, so that a line more or less
 * counts at once.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include "common/status.h"
#include "wire/internal.h"

#define FILE_MAX_BYTES ((size_t)4096)
#define ALLOWED_MAX_BYTES ((size_t)256 << 10)
#define FIRST_LINE "hone-key 1"
#define Z85 "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"

static int check_library(void)
{
    return zmq_has("curve") ? STATUS_OK
                            : status_fail(STATUS_UNSUPPORTED,
                                          "this libzmq is built without CURVE, which tcp:// needs: "
                                          "install one with libsodium, use ipc://, or set "
                                          "run.insecure: true on a network that is yours alone");
}

static int is_key(const char *text, size_t n)
{
    return n == WIRE_KEY_BYTES - 1 && strspn(text, Z85) >= n;
}

/* ---- Reading. */

/* Whoever can read a key file is the one whom it names: it must be its owner's alone. */
static int read_private(const char *path, size_t max_bytes, struct text *out)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return status_fail(STATUS_IO, "cannot open key file %s: %s", path, strerror(errno));
    int status = STATUS_OK;
    if (fstat(fd, &info) || !S_ISREG(info.st_mode))
        status = status_fail(STATUS_CONFIG, "key file %s is no regular file", path);
    else if (info.st_uid != geteuid() && info.st_uid != 0)
        status = status_fail(STATUS_CONFIG, "key file %s belongs to user %ld, not to you: copy it",
                             path, (long)info.st_uid);
    else if (info.st_mode & 077)
        status = status_fail(STATUS_CONFIG, "key file %s may be read by others (mode %03o): "
                             "chmod 600 %s, or make new keys if others were here", path,
                             (unsigned)info.st_mode & 0777, path);
    while (status == STATUS_OK) {
        char piece[1024];
        ssize_t n = read(fd, piece, sizeof(piece));
        if (n == 0)
            break;
        if (n < 0 && errno != EINTR)
            status = status_fail(STATUS_IO, "cannot read %s: %s", path, strerror(errno));
        if (n > 0)
            text_append(out, piece, (size_t)n);
        explicit_bzero(piece, sizeof(piece));
        if (out->length > max_bytes || out->failed)
            status = status_fail(STATUS_FORMAT, "key file %s is larger than %zu bytes", path,
                                 max_bytes);
    }
    close(fd);
    if (!out->data)
        text_append(out, "", 0);
    return status;
}

/* The value behind "word " at the start of a line; 0 when there is none. */
static int find_value(const char *text, const char *word, char out[WIRE_KEY_BYTES])
{
    size_t n_word = strlen(word);

    for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        size_t n = strcspn(line, "\n");
        if (n != n_word + WIRE_KEY_BYTES || strncmp(line, word, n_word) || line[n_word] != ' ')
            continue;
        if (!is_key(line + n_word + 1, WIRE_KEY_BYTES - 1))
            return 0;
        memcpy(out, line + n_word + 1, WIRE_KEY_BYTES - 1);
        out[WIRE_KEY_BYTES - 1] = '\0';
        return 1;
    }
    return 0;
}

int wire_keys_parse(struct wire_keys *keys, const char *text, const char *name)
{
    char public_of_secret[WIRE_KEY_BYTES];

    memset(keys, 0, sizeof(*keys));
    TRY(check_library());
    if (strncmp(text, FIRST_LINE "\n", sizeof(FIRST_LINE)) != 0 ||
        !find_value(text, "hub", keys->hub) || !find_value(text, "public", keys->public_key) ||
        !find_value(text, "secret", keys->secret)) {
        wire_keys_forget(keys);
        return status_fail(STATUS_FORMAT, "%s is no key of hone: wanted \"" FIRST_LINE
                           "\", then hub, public and secret; `hone keys` makes one", name);
    }
    if (zmq_curve_public(public_of_secret, keys->secret) ||
        strcmp(public_of_secret, keys->public_key) != 0) {
        wire_keys_forget(keys);
        return status_fail(STATUS_FORMAT, "%s: its public key does not belong to its secret one: "
                           "the file is damaged", name);
    }
    return STATUS_OK;
}

int wire_keys_read(struct wire_keys *keys, const char *path)
{
    struct text text = {.maximum = FILE_MAX_BYTES + 1};

    memset(keys, 0, sizeof(*keys));
    int status = read_private(path, FILE_MAX_BYTES, &text);
    if (status == STATUS_OK)
        status = wire_keys_parse(keys, text.data, path);
    if (text.data)
        explicit_bzero(text.data, text.capacity);
    text_release(&text);
    return status;
}

int wire_keys_read_hub(struct wire_keys *keys, const char *directory)
{
    char path[FILE_PATH_MAX];

    TRY(file_join(path, directory, WIRE_HUB_KEY));
    TRY(wire_keys_read(keys, path));
    if (strcmp(keys->hub, keys->public_key) != 0) {
        wire_keys_forget(keys);
        return status_fail(STATUS_FORMAT, "%s is a worker's key, not the coordinator's", path);
    }
    return file_join(keys->allowed, directory, WIRE_ALLOWED_KEYS);
}

void wire_keys_forget(struct wire_keys *keys)
{
    explicit_bzero(keys, sizeof(*keys));
}

/* ---- The list of those who are let in. */

int keys_are_allowed(const char *path, const char key[WIRE_KEY_BYTES])
{
    struct text text = {.maximum = ALLOWED_MAX_BYTES + 1};
    int found = 0;

    int status = read_private(path, ALLOWED_MAX_BYTES, &text);
    for (const char *line = text.data; status == STATUS_OK && *line && !found;) {
        size_t n = strcspn(line, "\n");
        found = n >= WIRE_KEY_BYTES - 1 && strncmp(line, key, WIRE_KEY_BYTES - 1) == 0 &&
                (n == WIRE_KEY_BYTES - 1 || line[WIRE_KEY_BYTES - 1] == ' ');
        line += n + (line[n] == '\n');
    }
    text_release(&text);
    return status < 0 ? status : found;
}

/* ---- Making. */

/* A file of mode 0600, whole or not at all; one that is there stays unless `replaces`. */
static int write_private(const char *path, const struct text *text, int replaces)
{
    char temporary[FILE_PATH_MAX + 32];

    snprintf(temporary, sizeof(temporary), "%s.%ld.tmp", path, (long)getpid());
    unlink(temporary);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return status_fail(STATUS_IO, "cannot create %s: %s", temporary, strerror(errno));
    int failed = write(fd, text->data, text->length) != (ssize_t)text->length || fsync(fd);
    failed = close(fd) || failed;
    if (!failed)
        failed = replaces ? rename(temporary, path) : link(temporary, path);
    int error = errno;
    unlink(temporary);
    if (failed && !(error == EEXIST && !replaces))
        return status_fail(STATUS_IO, "cannot write %s: %s", path, strerror(error));
    return STATUS_OK;
}

static int write_key(const char *path, const char *hub, const char *public_key, const char *secret)
{
    struct text text = {0};

    text_print(&text, FIRST_LINE "\nhub %s\npublic %s\nsecret %s\n", hub, public_key, secret);
    int status = write_private(path, &text, 0);
    explicit_bzero(text.data, text.capacity);
    text_release(&text);
    return status;
}

static int make_pair(char public_key[WIRE_KEY_BYTES], char secret[WIRE_KEY_BYTES])
{
    TRY(check_library());
    if (zmq_curve_keypair(public_key, secret))
        return status_fail(STATUS_UNSUPPORTED, "cannot make a key pair: %s", zmq_strerror(errno));
    return STATUS_OK;
}

static int make_hub(const char *directory, struct wire_keys *keys)
{
    char path[FILE_PATH_MAX], public_key[WIRE_KEY_BYTES], secret[WIRE_KEY_BYTES];
    int status = STATUS_OK;

    TRY(file_join(path, directory, WIRE_HUB_KEY));
    if (!file_exists(path)) {
        TRY(make_pair(public_key, secret));
        status = write_key(path, public_key, public_key, secret);
        explicit_bzero(secret, sizeof(secret));
    }
    return status < 0 ? status : wire_keys_read_hub(keys, directory);
}

static int is_key_name(const char *name)
{
    size_t n = strlen(name);

    return n > 0 && n < WIRE_NAME_BYTES && strcmp(name, "hub") != 0 &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == n;
}

/* The list without the lines of `name`, and with `key` for it unless NULL. */
static int write_allowed(const char *path, const char *name, const char *key, int *n_dropped)
{
    struct text before = {.maximum = ALLOWED_MAX_BYTES + 1}, now = {0};
    int status = file_exists(path) ? read_private(path, ALLOWED_MAX_BYTES, &before) : STATUS_OK;

    *n_dropped = 0;
    for (const char *line = before.data; status == STATUS_OK && line && *line;) {
        size_t n = strcspn(line, "\n");
        int is_his = n == WIRE_KEY_BYTES + strlen(name) && line[WIRE_KEY_BYTES - 1] == ' ' &&
                     strncmp(line + WIRE_KEY_BYTES, name, strlen(name)) == 0;
        if (is_his)
            ++*n_dropped;
        else
            text_print(&now, "%.*s\n", (int)n, line);
        line += n + (line[n] == '\n');
    }
    if (key)
        text_print(&now, "%s %s\n", key, name);
    if (status == STATUS_OK)
        status = write_private(path, &now, 1);
    text_release(&before);
    text_release(&now);
    return status;
}

int wire_keys_add(const char *directory, const char *name, char path[FILE_PATH_MAX])
{
    struct wire_keys hub = {0}, made;
    char file[WIRE_NAME_BYTES + 8], public_key[WIRE_KEY_BYTES], secret[WIRE_KEY_BYTES];
    int n_dropped;

    if (!is_key_name(name))
        return status_fail(STATUS_CONFIG, "a key's name \"%s\" must be 1 to %d of a-z, 0-9, _ and "
                           "-, and not \"hub\"", name, WIRE_NAME_BYTES - 1);
    snprintf(file, sizeof(file), "%s.key", name);
    TRY(file_join(path, directory, file));
    TRY(make_hub(directory, &hub));
    if (!file_exists(path)) {
        TRY(make_pair(public_key, secret));
        int written = write_key(path, hub.hub, public_key, secret);
        explicit_bzero(secret, sizeof(secret));
        TRY(written);
    }
    int status = wire_keys_read(&made, path);
    if (status == STATUS_OK && strcmp(made.hub, hub.hub) != 0)
        status = status_fail(STATUS_CONFIG, "%s belongs to another coordinator than %s/%s: remove "
                             "it to have a new one made", path, directory, WIRE_HUB_KEY);
    if (status == STATUS_OK && keys_are_allowed(hub.allowed, made.public_key) != 1)
        status = write_allowed(hub.allowed, name, made.public_key, &n_dropped);
    wire_keys_forget(&hub);
    wire_keys_forget(&made);
    return status;
}

int wire_keys_remove(const char *directory, const char *name)
{
    char path[FILE_PATH_MAX], file[WIRE_NAME_BYTES + 8];
    int n_dropped;

    if (!is_key_name(name))
        return status_fail(STATUS_CONFIG, "there is no key named \"%s\"", name);
    TRY(file_join(path, directory, WIRE_ALLOWED_KEYS));
    TRY(write_allowed(path, name, NULL, &n_dropped));
    if (!n_dropped)
        return status_fail(STATUS_CONFIG, "%s has no key named \"%s\"", path, name);
    snprintf(file, sizeof(file), "%s.key", name);
    TRY(file_join(path, directory, file));
    if (unlink(path) && errno != ENOENT)
        return status_fail(STATUS_IO, "%s is no longer let in, but cannot be removed: %s", path,
                           strerror(errno));
    return STATUS_OK;
}

int wire_keys_make(const char *directory)
{
    char path[FILE_PATH_MAX];
    struct stat info;

    TRY(check_library());
    if (mkdir(directory, 0700) && errno != EEXIST)
        return status_fail(STATUS_IO, "cannot make %s: %s", directory, strerror(errno));
    if (lstat(directory, &info) || !S_ISDIR(info.st_mode))
        return status_fail(STATUS_CONFIG, "%s is no directory, where keys would lie", directory);
    if (info.st_uid != geteuid() || info.st_mode & 022)
        return status_fail(STATUS_CONFIG, "%s may be changed by others (owner %ld, mode %03o): "
                           "keys must lie in a directory of your own, chmod 700 %s", directory,
                           (long)info.st_uid, (unsigned)info.st_mode & 0777, directory);
    TRY(file_join(path, directory, WIRE_ALLOWED_KEYS));
    if (file_exists(path))   /* an empty list means that nobody is let in */
        return STATUS_OK;
    return wire_keys_add(directory, "worker", path);
}
