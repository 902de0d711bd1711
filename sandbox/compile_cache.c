/*
 * Programs by digest of source, command and compiler: a group of samples with the same source
 * compiles once, also when several threads ask at the same time. What is in use stays.
 */
#include <pthread.h>
#include <string.h>

#include "common/log.h"
#include "common/status.h"
#include "sandbox/judge_parts.h"

#define N_ENTRIES 256

enum entry_state { ENTRY_FREE, ENTRY_IN_WORK, ENTRY_READY };

struct entry {
    struct program program;            /* first: programs_put() gets its address */
    enum entry_state state;
    struct digest key;
    uint64_t used_at;
    int n_users;
    int64_t bytes;
};

struct programs {
    struct sandbox *sandbox;
    const struct sandbox_config *config;
    pthread_mutex_t lock;
    pthread_cond_t changed;            /* an entry became ready or free */
    struct entry entries[N_ENTRIES];
    uint64_t now;
    int64_t bytes;
    struct program_files files;
};

int programs_create(struct programs **out, struct sandbox *sandbox,
                    const struct sandbox_config *config)
{
    struct programs *programs = mem_alloc(1, sizeof(*programs));
    int status = program_files_open(&programs->files, config);

    if (status < 0) {
        mem_free(programs);
        return status;
    }
    programs->sandbox = sandbox;
    programs->config = config;
    pthread_mutex_init(&programs->lock, NULL);
    pthread_cond_init(&programs->changed, NULL);
    *out = programs;
    return STATUS_OK;
}

static void drop(struct programs *programs, struct entry *entry)
{
    if (entry->program.program)
        sandbox_program_release(&entry->program.program);
    text_release(&entry->program.messages);
    programs->bytes -= entry->bytes;
    memset(entry, 0, sizeof(*entry));
}

void programs_destroy(struct programs **programs)
{
    if (!*programs)
        return;
    for (size_t i = 0; i < N_ENTRIES; i++)
        drop(*programs, &(*programs)->entries[i]);
    pthread_cond_destroy(&(*programs)->changed);
    pthread_mutex_destroy(&(*programs)->lock);
    mem_free(*programs);
    *programs = NULL;
}

static void make_key(struct digest *key, const struct language *language,
                     const struct digest *command, const char *source, size_t n)
{
    struct digest_state *state = digest_begin();

    digest_add(state, language->name, strlen(language->name) + 1);
    digest_add(state, command, sizeof(*command));
    digest_add(state, source, n);
    digest_end(state, key);
}

static struct entry *find(struct programs *programs, const struct digest *key)
{
    for (size_t i = 0; i < N_ENTRIES; i++)
        if (programs->entries[i].state != ENTRY_FREE &&
            memcmp(&programs->entries[i].key, key, sizeof(*key)) == 0)
            return &programs->entries[i];
    return NULL;
}

static struct entry *find_oldest(struct programs *programs)
{
    struct entry *oldest = NULL;

    for (size_t i = 0; i < N_ENTRIES; i++) {
        struct entry *entry = &programs->entries[i];

        if (entry->n_users == 0 && entry->state != ENTRY_IN_WORK &&
            (!oldest || entry->used_at < oldest->used_at))
            oldest = entry;
    }
    return oldest;
}

static void make_room(struct programs *programs)
{
    while (programs->bytes > programs->config->program_cache_bytes) {
        struct entry *oldest = NULL;

        for (size_t i = 0; i < N_ENTRIES; i++) {
            struct entry *entry = &programs->entries[i];
            if (entry->n_users == 0 && entry->state == ENTRY_READY &&
                (!oldest || entry->used_at < oldest->used_at))
                oldest = entry;
        }
        if (!oldest)
            return;
        drop(programs, oldest);
    }
}

/* Takes the entry of this key: *is_mine says that the caller must fill it. */
static struct entry *claim(struct programs *programs, const struct digest *key, int *is_mine)
{
    struct entry *entry;

    for (;;) {
        entry = find(programs, key);
        if (entry && entry->state == ENTRY_READY) {
            *is_mine = 0;
            break;
        }
        if (!entry && (entry = find_oldest(programs))) {
            *is_mine = 1;
            drop(programs, entry);
            entry->state = ENTRY_IN_WORK;
            entry->key = *key;
            break;
        }
        pthread_cond_wait(&programs->changed, &programs->lock);
    }
    entry->n_users++;
    entry->used_at = ++programs->now;
    return entry;
}

static int compile(struct programs *programs, const struct language *language,
                   const struct language_command *command, const char *source, size_t n,
                   struct program *program)
{
    const struct sandbox_file file = {language->file, source, n};
    const struct sandbox_compilation compilation = {
        .arguments = command->arguments, .files = &file, .n_files = 1,
        .precompiled = strcmp(language->name, "cpp") == 0};
    int64_t started = clock_ms();
    int status = sandbox_compile(programs->sandbox, &compilation, &program->program,
                                 &program->messages);

    program->compile_ms = clock_ms() - started;
    return status;
}

/* From disk, or compiled; *bytes gets what the program or its messages take. */
static int fill(struct programs *programs, const struct language *language,
                const struct language_command *command, const struct digest *key,
                const char *source, size_t n, struct program *program, int64_t *n_bytes,
                int *was_cached)
{
    struct text bytes = {0};
    int is_program = 1, status = STATUS_OK;

    if (language->kind != SANDBOX_NATIVE) {
        *n_bytes = (int64_t)n;
        return sandbox_load_script(programs->sandbox, language->kind, source, n,
                                   &program->program);
    }
    if (program_files_find(&programs->files, key, &is_program, &bytes)) {
        *was_cached = 1;
        if (is_program)
            status = program_files_load(&bytes, &program->program);
        else
            text_append(&program->messages, bytes.data, bytes.length);
        *n_bytes = (int64_t)bytes.length;
        text_release(&bytes);
        return status;
    }
    TRY(compile(programs, language, command, source, n, program));
    is_program = program->program != NULL;
    if (is_program)
        status = sandbox_program_bytes(program->program, &bytes);
    else
        text_append(&bytes, program->messages.data, program->messages.length);
    if (status == STATUS_OK)
        program_files_keep(&programs->files, key, is_program, &bytes);
    *n_bytes = (int64_t)bytes.length;
    text_release(&bytes);
    return status;
}

int programs_get(struct programs *programs, const struct language *language, const char *source,
                 size_t n, struct program **out, int *was_cached)
{
    struct language_command command = {.arguments = {NULL}};
    struct digest key;
    int is_mine, status;
    int64_t bytes = 0;

    if (!sandbox_supports(programs->sandbox, language->kind))
        return status_fail(STATUS_UNSUPPORTED, "%s cannot be run here: install its interpreter, "
                           "or name it in sandbox.%s", language->name,
                           language->kind == SANDBOX_PYTHON ? "python" : "node");
    if (language->kind == SANDBOX_NATIVE)
        TRY(language_command(programs->config, language, &command));
    make_key(&key, language, &command.key, source, n);
    pthread_mutex_lock(&programs->lock);
    struct entry *entry = claim(programs, &key, &is_mine);
    pthread_mutex_unlock(&programs->lock);
    *out = &entry->program;
    *was_cached = !is_mine;
    if (!is_mine)
        return STATUS_OK;
    status = fill(programs, language, &command, &key, source, n, &entry->program, &bytes,
                  was_cached);
    pthread_mutex_lock(&programs->lock);
    entry->bytes = bytes;
    programs->bytes += bytes;
    entry->state = ENTRY_READY;
    if (status < 0) {
        entry->n_users = 0;
        drop(programs, entry);
    }
    make_room(programs);
    pthread_cond_broadcast(&programs->changed);
    pthread_mutex_unlock(&programs->lock);
    return status;
}

void programs_put(struct programs *programs, struct program *program)
{
    struct entry *entry = (struct entry *)program;

    pthread_mutex_lock(&programs->lock);
    entry->n_users--;
    make_room(programs);
    pthread_cond_broadcast(&programs->changed);
    pthread_mutex_unlock(&programs->lock);
}
