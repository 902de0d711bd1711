/* The YAML half of common/config.h: text to a tree whose nodes know their line. */
#include "common/config_yaml.h"

#include <stdio.h>
#include <string.h>
#include <yaml.h>

#include "common/files.h"
#include "common/status.h"

#define MAX_BYTES ((size_t)1 << 20)
#define MAX_DEPTH 16

struct config_file {
    char *name;
    struct config_node *root;
};

static struct config_node *new_node(enum node_kind kind, const char *key, size_t line)
{
    struct config_node *node = mem_alloc(1, sizeof(*node));

    node->kind = kind;
    node->key = mem_copy_text(key);
    node->line = line;
    return node;
}

static void free_node(struct config_node *node)
{
    if (!node)
        return;
    for (size_t i = 0; i < node->n; i++)
        free_node(node->children[i]);
    mem_free(node->children);
    mem_free(node->key);
    mem_free(node->scalar);
    mem_free(node);
}

/* A key is compared with all before it: few enough that a hostile file costs nothing. */
#define MAX_CHILDREN 4096

static void add_child(struct config_node *node, struct config_node *child)
{
    node->children = mem_resize(node->children, node->n + 1, sizeof(*node->children));
    node->children[node->n++] = child;
}

/* One open mapping or sequence, and the key that waits for its value. */
struct level {
    struct config_node *node;
    char *key;
};

struct reader {
    struct config_file *file;
    struct level levels[MAX_DEPTH];
    int depth;
};

static int fail_at(const struct reader *reader, size_t line, const char *text)
{
    return status_fail(STATUS_CONFIG, "%s:%zu: %s", reader->file->name, line, text);
}

static int place(struct reader *reader, enum node_kind kind, const char *scalar, size_t line)
{
    struct level *level = reader->depth ? &reader->levels[reader->depth - 1] : NULL;

    if (level && level->node->kind == NODE_MAPPING && !level->key)
        return fail_at(reader, line, "a key is a list or a section; it must be a word");
    struct config_node *node = new_node(kind, level ? level->key : NULL, line);
    node->scalar = mem_copy_text(scalar);
    if (level && level->node->n == MAX_CHILDREN) {
        free_node(node);
        return fail_at(reader, line, "more than 4096 entries in one list or section");
    }
    if (level) {
        add_child(level->node, node);
        mem_free(level->key);
        level->key = NULL;
    } else {
        reader->file->root = node;
    }
    if (kind == NODE_SCALAR)
        return STATUS_OK;
    if (reader->depth == MAX_DEPTH)
        return fail_at(reader, line, "nested deeper than 16 levels");
    reader->levels[reader->depth].node = node;
    reader->levels[reader->depth].key = NULL;
    reader->depth++;
    return STATUS_OK;
}

static int take_scalar(struct reader *reader, const yaml_event_t *event, size_t line)
{
    const char *text = (const char *)event->data.scalar.value;
    struct level *level = reader->depth ? &reader->levels[reader->depth - 1] : NULL;

    if (event->data.scalar.anchor)
        return fail_at(reader, line, "anchors are not allowed; write the value out");
    if (strlen(text) != event->data.scalar.length)
        return fail_at(reader, line, "a value holds a NUL byte");
    if (!level || level->node->kind != NODE_MAPPING || level->key)
        return place(reader, NODE_SCALAR, text, line);
    for (size_t i = 0; i < level->node->n; i++)
        if (strcmp(level->node->children[i]->key, text) == 0)
            return status_fail(STATUS_CONFIG, "%s:%zu: key \"%s\" stands here a second time",
                               reader->file->name, line, text);
    level->key = mem_copy_text(text);
    return STATUS_OK;
}

static int take_event(struct reader *reader, const yaml_event_t *event)
{
    size_t line = event->start_mark.line + 1;

    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return take_scalar(reader, event, line);
    case YAML_MAPPING_START_EVENT:
        if (event->data.mapping_start.anchor)
            return fail_at(reader, line, "anchors are not allowed; write the value out");
        return place(reader, NODE_MAPPING, NULL, line);
    case YAML_SEQUENCE_START_EVENT:
        if (event->data.sequence_start.anchor)
            return fail_at(reader, line, "anchors are not allowed; write the value out");
        return place(reader, NODE_SEQUENCE, NULL, line);
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        reader->depth--;
        return STATUS_OK;
    case YAML_ALIAS_EVENT:
        return fail_at(reader, line, "aliases are not allowed; write the value out");
    case YAML_DOCUMENT_START_EVENT:
        if (reader->file->root)
            return fail_at(reader, line, "a second document begins; only one is read");
        return STATUS_OK;
    default:
        return STATUS_OK;
    }
}

static int read_events(struct reader *reader, yaml_parser_t *parser)
{
    for (;;) {
        yaml_event_t event;
        if (!yaml_parser_parse(parser, &event))
            return status_fail(STATUS_CONFIG, "%s:%zu: not valid YAML: %s", reader->file->name,
                               parser->problem_mark.line + 1,
                               parser->problem ? parser->problem : "unknown problem");
        int end = event.type == YAML_STREAM_END_EVENT;
        int status = take_event(reader, &event);
        yaml_event_delete(&event);
        TRY(status);
        if (end)
            return STATUS_OK;
    }
}

int config_parse(struct config_file **out, const char *bytes, size_t n, const char *name)
{
    struct config_file *file;
    yaml_parser_t parser;
    int status;

    *out = NULL;
    if (n > MAX_BYTES)
        return status_fail(STATUS_CONFIG, "%s has %zu bytes, %zu are the most", name, n, MAX_BYTES);
    file = mem_alloc(1, sizeof(*file));
    file->name = mem_copy_text(name);
    struct reader reader = {.file = file};
    if (!yaml_parser_initialize(&parser)) {
        config_close(&file);
        return status_fail(STATUS_NOMEM, "%s: no memory for the YAML reader", name);
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)bytes, n);
    status = read_events(&reader, &parser);
    for (int i = 0; i < MAX_DEPTH; i++)
        mem_free(reader.levels[i].key);
    yaml_parser_delete(&parser);
    if (status == STATUS_OK && !file->root)
        file->root = new_node(NODE_MAPPING, NULL, 1);
    if (status == STATUS_OK && file->root->kind != NODE_MAPPING)
        status = status_fail(STATUS_CONFIG, "%s:%zu: expected \"section:\" lines", name,
                             file->root->line);
    if (status < 0)
        config_close(&file);
    *out = file;
    return status;
}

int config_open(struct config_file **out, const char *path)
{
    struct text text = {0};
    int status = file_read(path, MAX_BYTES, &text);

    *out = NULL;
    if (status == STATUS_OK)
        status = config_parse(out, text.data, text.length, path);
    text_release(&text);
    return status;
}

void config_close(struct config_file **file)
{
    if (*file) {
        free_node((*file)->root);
        mem_free((*file)->name);
        mem_free(*file);
    }
    *file = NULL;
}

const struct config_node *config_root(const struct config_file *file)
{
    return file->root;
}

const struct config_node *config_child(const struct config_node *node, size_t i)
{
    return node && i < node->n ? node->children[i] : NULL;
}

const struct config_node *config_find(const struct config_node *node, const char *key)
{
    for (size_t i = 0; node && node->kind == NODE_MAPPING && i < node->n; i++)
        if (strcmp(node->children[i]->key, key) == 0)
            return node->children[i];
    return NULL;
}

const char *config_key(const struct config_node *node)
{
    return node->key;
}

const char *config_scalar(const struct config_node *node)
{
    return node ? node->scalar : NULL;
}

const char *config_where(const struct config_file *file, const struct config_node *node)
{
    static _Thread_local char where[FILE_PATH_MAX + 32];

    snprintf(where, sizeof(where), "%s:%zu", file->name, node ? node->line : 0);
    return where;
}
