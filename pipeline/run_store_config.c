#include <stdlib.h>
#include <string.h>

#include "common/config.h"
#include "common/status.h"
#include "pipeline/run_store_internal.h"

#define MAX_DEPTH 16

static void add_entry(struct flat_config *flat, const char *key, const char *value)
{
    flat->entries = mem_resize(flat->entries, flat->n + 1, sizeof(*flat->entries));
    flat->entries[flat->n].key = mem_copy_text(key);
    flat->entries[flat->n].value = mem_copy_text(value);
    flat->n++;
}

static void flatten(struct flat_config *flat, const struct config_node *node, const char *path,
                    int depth)
{
    const struct config_node *child;

    if (config_scalar(node)) {
        add_entry(flat, path, config_scalar(node));
        return;
    }
    for (size_t i = 0; depth < MAX_DEPTH && (child = config_child(node, i)); i++) {
        const char *part = config_key(child);
        const struct config_node *name = part ? NULL : config_find(child, "name");
        struct text key = {0};
        text_print(&key, "%s%s", path, *path ? "." : "");
        if (name)
            part = config_scalar(name);
        if (part)
            text_print(&key, "%s", part);
        else
            text_print(&key, "%zu", i);
        flatten(flat, child, key.data, depth + 1);
        text_release(&key);
    }
}

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const struct flat_entry *)a)->key, ((const struct flat_entry *)b)->key);
}

int flat_config_read(struct flat_config *flat, const char *yaml, const char *where)
{
    struct config_file *file;

    memset(flat, 0, sizeof(*flat));
    if (!yaml[strspn(yaml, " \n")])
        return STATUS_OK;
    TRY(config_parse(&file, yaml, strlen(yaml), where));
    flatten(flat, config_root(file), "", 0);
    config_close(&file);
    if (flat->n)
        qsort(flat->entries, flat->n, sizeof(*flat->entries), compare_entries);
    return STATUS_OK;
}

void flat_config_release(struct flat_config *flat)
{
    for (size_t i = 0; i < flat->n; i++) {
        mem_free(flat->entries[i].key);
        mem_free(flat->entries[i].value);
    }
    mem_free(flat->entries);
    memset(flat, 0, sizeof(*flat));
}

void flat_config_compare(const struct flat_config *a, const struct flat_config *b,
                         void (*found)(void *context, const char *key, const char *value_a,
                                       const char *value_b),
                         void *context)
{
    size_t i = 0, j = 0;

    while (i < a->n || j < b->n) {
        int order = i == a->n ? 1 : j == b->n ? -1 : strcmp(a->entries[i].key, b->entries[j].key);
        const struct flat_entry *left = order <= 0 ? &a->entries[i++] : NULL;
        const struct flat_entry *right = order >= 0 ? &b->entries[j++] : NULL;
        if (left && right && !strcmp(left->value, right->value))
            continue;
        found(context, left ? left->key : right->key, left ? left->value : NULL,
              right ? right->value : NULL);
    }
}
