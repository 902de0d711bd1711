#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/random.h"
#include "common/status.h"
#include "tasks/jsonl.h"
#include "tasks/tasks.h"

#define SET_MAX_BYTES ((size_t)64 << 30)
#define FEISTEL_ROUNDS 8

struct task_set {
    struct arena arena;
    struct task **tasks;
    int64_t *lines;            /* of the file, for error texts */
    size_t n, capacity;
    struct digest digest;
};

static const char *const question_keys[] = {"question", "prompt", NULL};
static const char *const reference_keys[] = {"reference", "answer", "ground_truth", NULL};

static const json_t *find_any(const json_t *row, const char *const *keys, const char **key)
{
    for (*key = NULL; *keys; keys++) {
        const json_t *value = json_object_get(row, *keys);

        if (value && !json_is_null(value)) {
            *key = *keys;
            return value;
        }
    }
    return NULL;
}

static int read_question(const json_t *row, const char *where, const char **out, size_t *n)
{
    const char *key;
    const json_t *value = find_any(row, question_keys, &key);

    if (!value)
        return status_fail(STATUS_FORMAT, "%s: key \"question\" (or \"prompt\") is missing", where);
    if (!json_is_string(value) || json_string_length(value) == 0)
        return status_fail(STATUS_FORMAT, "%s: key \"%s\" must be a string with something in it",
                           where, key);
    *out = json_string_value(value);
    *n = json_string_length(value);
    return STATUS_OK;
}

static int read_reference(const json_t *row, const char *where, struct arena *arena,
                          struct wire_text *out)
{
    const char *key;
    const json_t *value = find_any(row, reference_keys, &key);
    struct text compact = {0};
    struct jsonl_part part;
    int status;

    if (!value)
        return status_fail(STATUS_FORMAT,
                           "%s: key \"reference\" (or \"answer\", \"ground_truth\") is missing",
                           where);
    if (json_is_string(value)) {
        part = (struct jsonl_part){json_string_value(value), json_string_length(value)};
        return jsonl_join(arena, &part, 1, out);
    }
    if (!json_is_object(value) && !json_is_array(value) && !json_is_integer(value))
        return status_fail(STATUS_FORMAT,
                           "%s: key \"%s\" must be a string, an integer, an object or an array; "
                           "write other numbers as strings, so that no digit is lost", where, key);
    json_append(&compact, value);
    part = (struct jsonl_part){compact.data, compact.length};
    status = jsonl_join(arena, &part, 1, out);
    text_release(&compact);
    return status;
}

static int read_name(const json_t *row, const char *key, const char *where, const char *missing,
                     char out[WIRE_NAME_BYTES])
{
    const char *name;
    size_t n;

    TRY(json_get_text_or(row, key, where, missing, &name));
    n = strlen(name);
    if (n == 0 || n >= WIRE_NAME_BYTES)
        return status_fail(STATUS_FORMAT, "%s: key \"%s\" has %zu bytes; 1 to %d are allowed",
                           where, key, n, WIRE_NAME_BYTES - 1);
    memcpy(out, name, n + 1);
    return STATUS_OK;
}

/* 63 bits, so that the id is positive wherever integers have a sign (JSON, SQLite). */
static uint64_t hash_id(int64_t row, const char *bytes, size_t n)
{
    struct digest_state *state = digest_begin();
    struct digest digest;
    unsigned char row_bytes[8];
    uint64_t id = 0;

    for (int i = 0; i < 8; i++)
        row_bytes[i] = (unsigned char)((uint64_t)row >> (8 * i));
    digest_add(state, row_bytes, sizeof(row_bytes));
    digest_add(state, bytes, n);
    digest_end(state, &digest);
    for (int i = 0; i < 8; i++)
        id |= (uint64_t)digest.bytes[i] << (8 * i);
    return id & INT64_MAX;
}

static int read_id(const json_t *row, const struct jsonl *file, const char *question, size_t n,
                   uint64_t *out)
{
    const json_t *value = json_object_get(row, "id");

    if (!value || json_is_null(value)) {
        *out = hash_id(file->row, question, n);
        return STATUS_OK;
    }
    if (json_is_string(value) && json_string_length(value) > 0) {
        *out = hash_id(-1, json_string_value(value), json_string_length(value));
        return STATUS_OK;
    }
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return status_fail(STATUS_FORMAT, "%s: key \"id\" must be an integer from 0 or a string",
                           file->where);
    *out = (uint64_t)json_integer_value(value);
    return STATUS_OK;
}

static int is_in_list(const char *list, const char *name)
{
    char item[CONFIG_TEXT_BYTES];

    for (size_t i = 0; config_list_item(list, i, item, sizeof(item)); i++)
        if (strcmp(item, name) == 0)
            return 1;
    return 0;
}

static void append_task(struct task_set *set, struct task *task, int64_t line)
{
    if (set->n == set->capacity) {
        set->capacity = set->capacity ? 2 * set->capacity : 256;
        set->tasks = mem_resize(set->tasks, set->capacity, sizeof(*set->tasks));
        set->lines = mem_resize(set->lines, set->capacity, sizeof(*set->lines));
    }
    set->tasks[set->n] = task;
    set->lines[set->n++] = line;
}

static int read_task(struct task_set *set, const json_t *row, const struct jsonl *file,
                     const char *kinds, const struct chat_template *chat,
                     const char *default_language)
{
    struct task head = {0}, *task;
    const char *question = NULL;
    size_t n = 0, n_prefill = strlen(chat->prefill);

    TRY(read_question(row, file->where, &question, &n));
    TRY(read_name(row, "verifier", file->where, "math", head.verifier));
    TRY(read_name(row, "kind", file->where, head.verifier, head.kind));
    TRY(read_name(row, "language", file->where, default_language, head.language));
    TRY(read_id(row, file, question, n, &head.id));
    if (kinds[0] && !is_in_list(kinds, head.kind))
        return STATUS_OK;
    task = ARENA_NEW(&set->arena, struct task, 1);
    if (!task)
        return status_fail(STATUS_NOMEM, "%s: no memory for more tasks: split the file",
                           file->where);
    *task = head;
    TRY(read_reference(row, file->where, &set->arena, &task->reference));
    const struct jsonl_part parts[] = {
        {chat->before, strlen(chat->before)}, {question, n}, {chat->after, strlen(chat->after)}};
    TRY(jsonl_join(&set->arena, &parts[1], 1, &task->question));
    TRY(jsonl_join(&set->arena, parts, 3, &task->prompt));
    task->prefill.data = task->prompt.data + task->prompt.bytes - n_prefill;
    task->prefill.bytes = (uint32_t)n_prefill;
    append_task(set, task, file->line);
    return STATUS_OK;
}

struct id_line {
    uint64_t id;
    int64_t line;
};

static int compare_id_line(const void *a, const void *b)
{
    const struct id_line *x = a, *y = b;

    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    return x->line < y->line ? -1 : x->line > y->line;
}

static int check_ids(const struct task_set *set, const char *path)
{
    struct id_line *ids = mem_alloc(set->n, sizeof(*ids));
    int status = STATUS_OK;

    for (size_t i = 0; i < set->n; i++)
        ids[i] = (struct id_line){set->tasks[i]->id, set->lines[i]};
    qsort(ids, set->n, sizeof(*ids), compare_id_line);
    for (size_t i = 1; i < set->n && status == STATUS_OK; i++)
        if (ids[i].id == ids[i - 1].id)
            status = status_fail(STATUS_FORMAT,
                                 "%s:%lld: key \"id\": line %lld has the same; ids must be unique",
                                 path, (long long)ids[i].line, (long long)ids[i - 1].line);
    mem_free(ids);
    return status;
}

static int check_kinds(const struct task_set *set, const char *path, const char *kinds)
{
    char kind[CONFIG_TEXT_BYTES];

    if (set->n == 0 && kinds[0])
        return status_fail(STATUS_CONFIG, "%s: no task is of a kind in tasks.kinds (%s)", path,
                           kinds);
    if (set->n == 0)
        return status_fail(STATUS_FORMAT, "%s: there is no task in it", path);
    for (size_t i = 0; config_list_item(kinds, i, kind, sizeof(kind)); i++) {
        size_t at = 0;

        while (at < set->n && strcmp(set->tasks[at]->kind, kind) != 0)
            at++;
        if (at == set->n)
            log_warning("%s: no task is of the kind \"%s\" in tasks.kinds", path, kind);
    }
    return STATUS_OK;
}

int task_set_open(struct task_set **out, const char *path, const char *kinds,
                  const struct chat_template *chat, const char *default_language)
{
    struct task_set *set;
    struct jsonl file;
    json_t *row = NULL;
    int status;

    *out = NULL;
    kinds = kinds ? kinds : "";
    TRY(jsonl_open(&file, path));
    set = mem_alloc(1, sizeof(*set));
    arena_init(&set->arena, SET_MAX_BYTES);
    digest_of(&set->digest, file.map.bytes, file.map.n);
    while ((status = jsonl_next(&file, &row)) > 0) {
        status = read_task(set, row, &file, kinds, chat, default_language);
        json_decref(row);
        if (status < 0)
            break;
    }
    if (status == STATUS_OK)
        status = check_kinds(set, path, kinds);
    if (status == STATUS_OK)
        status = check_ids(set, path);
    jsonl_close(&file);
    if (status < 0)
        task_set_close(&set);
    *out = set;
    return status;
}

void task_set_close(struct task_set **set)
{
    if (!*set)
        return;
    arena_release(&(*set)->arena);
    mem_free((*set)->tasks);
    mem_free((*set)->lines);
    mem_free(*set);
    *set = NULL;
}

size_t task_set_keep(struct task_set *set, int (*is_kept)(const struct task *task, void *context),
                     void *context)
{
    size_t before = set->n;

    set->n = 0;
    for (size_t i = 0; i < before; i++)
        if (is_kept(set->tasks[i], context)) {
            set->lines[set->n] = set->lines[i];
            set->tasks[set->n++] = set->tasks[i];
        }
    return before - set->n;
}

size_t task_set_count(const struct task_set *set)
{
    return set->n;
}

const struct task *task_set_get(const struct task_set *set, size_t i)
{
    if (i >= set->n)
        BUG("task %zu of %zu", i, set->n);
    return set->tasks[i];
}

void task_set_digest(const struct task_set *set, struct digest *digest)
{
    *digest = set->digest;
}

/* A permutation of 0 .. 4^half_bits - 1: a balanced Feistel network (Luby and Rackoff, 1988). */
static uint64_t permute_bits(uint64_t key, int half_bits, uint64_t value)
{
    uint64_t mask = ((uint64_t)1 << half_bits) - 1;
    uint64_t left = value >> half_bits, right = value & mask;

    for (uint64_t round = 0; round < FEISTEL_ROUNDS; round++) {
        uint64_t mixed = left ^ (random_mix(key, right << 8 | round) & mask);

        left = right;
        right = mixed;
    }
    return left << half_bits | right;
}

const struct task *task_set_pick(const struct task_set *set, uint64_t seed, uint64_t position)
{
    uint64_t epoch = position / set->n, at = position % set->n;
    uint64_t key = random_mix(seed, epoch);
    int half_bits = 1;

    while ((uint64_t)1 << (2 * half_bits) < set->n)
        half_bits++;
    /* Walking the cycle until it comes back below n keeps it a permutation of 0 .. n - 1. */
    do {
        at = permute_bits(key, half_bits, at);
    } while (at >= set->n);
    return set->tasks[at];
}
