#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/random.h"
#include "common/status.h"
#include "tasks/chat.h"
#include "tasks/code_records.h"
#include "tasks/columns.h"
#include "tasks/jsonl.h"

#define SET_MAX_BYTES ((size_t)64 << 30)
#define FEISTEL_ROUNDS 8

struct task_set {
    struct arena arena;
    struct task **tasks;
    int64_t *lines;            /* of the file, for error texts */
    size_t n, capacity;
    struct digest digest;
};

/* A string, or a list of messages that ends with the user's: {"role", "content"}. Fills the whole
 * conversation; the question is its last message. */
static int read_question(const struct columns *columns, const json_t *row, const char *where,
                         struct chat *chat)
{
    const char *place;
    const json_t *value = columns_find(columns, row, COLUMN_QUESTION, &place);

    if (!value)
        return status_fail(STATUS_FORMAT, "%s: key \"%s\" is missing: the question; name its "
                           "column in tasks.columns", where, place);
    if (json_is_array(value)) {
        TRY(chat_read(chat, value, place, CHAT_USER, where));
    } else if (json_is_string(value)) {
        chat->messages = mem_alloc(1, sizeof(*chat->messages));
        chat->messages[0] = (struct chat_message){CHAT_USER, json_string_value(value),
                                                  json_string_length(value)};
        chat->n = 1;
    }
    if (!chat->n || !chat->messages[chat->n - 1].bytes) {
        chat_release(chat);
        return status_fail(STATUS_FORMAT, "%s: key \"%s\" must be a string with something in it, "
                           "or a list of messages", where, place);
    }
    return STATUS_OK;
}

static int read_name(const struct columns *columns, const json_t *row, enum column column,
                     const char *where, const char *missing, char out[WIRE_NAME_BYTES])
{
    const char *place, *name = missing;
    const json_t *value = columns_find(columns, row, column, &place);
    size_t n;

    if (value && !json_is_string(value))
        return status_fail(STATUS_FORMAT, "%s: key \"%s\" must be a string", where, place);
    if (value)
        name = json_string_value(value);
    n = strlen(name);
    if (n == 0 || n >= WIRE_NAME_BYTES)
        return status_fail(STATUS_FORMAT, "%s: key \"%s\" has %zu bytes; 1 to %d are allowed",
                           where, place, n, WIRE_NAME_BYTES - 1);
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

static int read_id(const struct columns *columns, const json_t *row, const struct jsonl *file,
                   const struct chat_message *question, uint64_t *out)
{
    const char *place;
    const json_t *value = columns_find(columns, row, COLUMN_ID, &place);

    if (!value) {
        *out = hash_id(file->row, question->text, question->bytes);
        return STATUS_OK;
    }
    if (json_is_string(value) && json_string_length(value) > 0) {
        *out = hash_id(-1, json_string_value(value), json_string_length(value));
        return STATUS_OK;
    }
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return status_fail(STATUS_FORMAT, "%s: key \"%s\" must be an integer from 0 or a string",
                           file->where, place);
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

/* What task_set_open() was asked for, and what one row needs to become a task. */
struct reading {
    struct task_set *set;
    struct jsonl file;
    struct columns columns;
    const char *kinds, *language;
    const struct chat_template *template;
    struct text prompt, reference, others;   /* of the row at hand */
};

static int copy_text(struct arena *arena, const char *data, size_t n, struct wire_text *out)
{
    const struct jsonl_part part = {data, n};

    return jsonl_join(arena, &part, 1, out);
}

static int add_task(struct reading *reading, const struct task *head, const struct chat *chat)
{
    const struct chat_message *question = &chat->messages[chat->n - 1];
    struct arena *arena = &reading->set->arena;
    struct task *task = ARENA_NEW(arena, struct task, 1);
    size_t n_prefill = 0;

    if (!task)
        return status_fail(STATUS_NOMEM, "%s: no memory for more tasks: split the file",
                           reading->file.where);
    *task = *head;
    text_clear(&reading->prompt);
    TRY(chat_render(reading->template, chat, reading->file.where, &reading->prompt, NULL,
                    &n_prefill));
    TRY(copy_text(arena, reading->reference.data, reading->reference.length, &task->reference));
    TRY(copy_text(arena, reading->others.data, reading->others.length, &task->columns));
    TRY(copy_text(arena, question->text, question->bytes, &task->question));
    TRY(copy_text(arena, reading->prompt.data, reading->prompt.length, &task->prompt));
    task->prefill.data = task->prompt.data + task->prompt.bytes - n_prefill;
    task->prefill.bytes = (uint32_t)n_prefill;
    append_task(reading->set, task, reading->file.line);
    return STATUS_OK;
}

static int read_task(struct reading *reading, const json_t *row)
{
    const struct columns *columns = &reading->columns;
    const char *where = reading->file.where;
    struct task head = {0};
    struct chat chat = {0};
    int status;

    TRY(read_question(columns, row, where, &chat));
    TRY_OUT(read_name(columns, row, COLUMN_VERIFIER, where, "math", head.verifier));
    TRY_OUT(read_name(columns, row, COLUMN_KIND, where, head.verifier, head.kind));
    TRY_OUT(read_name(columns, row, COLUMN_LANGUAGE, where, reading->language, head.language));
    TRY_OUT(read_id(columns, row, &reading->file, &chat.messages[chat.n - 1], &head.id));
    if (reading->kinds[0] && !is_in_list(reading->kinds, head.kind))
        goto out;
    text_clear(&reading->reference);
    TRY_OUT(columns_read_reference(columns, row, where, &reading->reference));
    text_clear(&reading->others);
    TRY_OUT(columns_read_others(columns, row, where, &reading->others));
    status = add_task(reading, &head, &chat);
out:
    chat_release(&chat);
    return status;
}

static int read_row(struct reading *reading, const json_t *row)
{
    json_t *converted;

    if (!code_format_is_one(reading->columns.format))
        return read_task(reading, row);
    TRY(code_record_convert(reading->columns.format, row, reading->file.where, &converted));
    int status = read_task(reading, converted);
    json_decref(converted);
    return status;
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

static int read_tasks(struct reading *reading)
{
    json_t *row = NULL;
    int status;

    while ((status = jsonl_next(&reading->file, &row)) != 0) {
        if (status > 0) {
            columns_settle(&reading->columns, row);
            status = read_row(reading, row);
            json_decref(row);
        }
        if (status < 0)
            status = jsonl_skip_bad(&reading->file, status);
        if (status < 0)
            return status;
    }
    jsonl_warn_bad(&reading->file);
    return STATUS_OK;
}

int task_set_open(struct task_set **out, const char *path, const char *kinds,
                  const struct chat_template *chat, const struct tasks_config *config)
{
    struct reading reading = {.kinds = kinds ? kinds : "",
                              .language = config ? config->language : "en",
                              .template = chat};
    struct task_set *set;
    int status;

    *out = NULL;
    TRY(columns_init(&reading.columns, config));
    TRY(jsonl_open(&reading.file, path, reading.columns.skips_bad));
    set = reading.set = mem_alloc(1, sizeof(*set));
    arena_init(&set->arena, SET_MAX_BYTES);
    lines_digest(reading.file.lines, &set->digest);
    status = read_tasks(&reading);
    if (status == STATUS_OK)
        status = check_kinds(set, path, reading.kinds);
    if (status == STATUS_OK)
        status = check_ids(set, path);
    jsonl_close(&reading.file);
    text_release(&reading.prompt);
    text_release(&reading.reference);
    text_release(&reading.others);
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
