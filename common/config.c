#include "common/config.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/config_yaml.h"
#include "common/status.h"

static int bad_value(const char *where, const char *section, const struct config_field *field,
                     const char *value, const char *wanted)
{
    return status_fail(STATUS_CONFIG, "%s: %s.%s is \"%.80s%s\"; %s (%s)", where, section,
                       field->key, value, strlen(value) > 80 ? "..." : "", wanted, field->help);
}

static int out_of_bounds(const char *where, const char *section, const struct config_field *field,
                         const char *value)
{
    char wanted[96];

    snprintf(wanted, sizeof(wanted), "it must be %.15g to %.15g", field->minimum, field->maximum);
    return bad_value(where, section, field, value, wanted);
}

/* "1e3" is a float, not an int. */
static int set_number(const char *where, const char *section, const struct config_field *field,
                      void *target, const char *value)
{
    char *end;
    double number;

    errno = 0;
    if (field->type == CONFIG_INT) {
        long long whole = strtoll(value, &end, 10);
        number = (double)whole;
        if (end == value || *end || errno)
            return bad_value(where, section, field, value, "it must be a whole number");
        *(int64_t *)target = whole;
    } else {
        number = strtod(value, &end);
        if (end == value || *end || !isfinite(number))
            return bad_value(where, section, field, value, "it must be a number");
        *(double *)target = number;
    }
    if (field->minimum < field->maximum && (number < field->minimum || number > field->maximum))
        return out_of_bounds(where, section, field, value);
    return STATUS_OK;
}

static int set_bool(const char *where, const char *section, const struct config_field *field,
                    void *target, const char *value)
{
    if (strcmp(value, "true") && strcmp(value, "false"))
        return bad_value(where, section, field, value, "it must be true or false");
    *(int *)target = value[0] == 't';
    return STATUS_OK;
}

static int set_enum(const char *where, const char *section, const struct config_field *field,
                    void *target, const char *value)
{
    struct text wanted = {0};

    for (int i = 0; field->choices[i]; i++)
        if (strcmp(value, field->choices[i]) == 0) {
            *(int *)target = i;
            return STATUS_OK;
        }
    text_print(&wanted, "it must be one of");
    for (int i = 0; field->choices[i]; i++)
        text_print(&wanted, " %s", field->choices[i]);
    int status = bad_value(where, section, field, value, wanted.data);
    text_release(&wanted);
    return status;
}

static int set_field(const char *where, const char *section, const struct config_field *field,
                     void *config, const char *value)
{
    void *target = (char *)config + field->offset;

    switch (field->type) {
    case CONFIG_INT:
    case CONFIG_FLOAT:
        return set_number(where, section, field, target, value);
    case CONFIG_BOOL:
        return set_bool(where, section, field, target, value);
    case CONFIG_ENUM:
        return set_enum(where, section, field, target, value);
    case CONFIG_STRING:
    case CONFIG_LIST:
        if (strlen(value) >= CONFIG_TEXT_BYTES)
            return bad_value(where, section, field, value, "it must be shorter than 512 bytes");
        memset(target, 0, CONFIG_TEXT_BYTES);
        memcpy(target, value, strlen(value));
        return STATUS_OK;
    }
    return STATUS_OK;
}

static size_t least_of(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Insertions, deletions, changes and swapped neighbours (optimal string alignment). */
static size_t edit_distance(const char *a, const char *b)
{
    size_t rows[3][64];
    size_t n = strlen(b), m = strlen(a);

    if (n >= 64 || m >= 64)
        return 64;
    for (size_t j = 0; j <= n; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= m; i++) {
        size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            row[j] = least_of(above[j - 1] + (a[i - 1] != b[j - 1]),
                              least_of(above[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = least_of(row[j], before[j - 2] + 1);
        }
    }
    return rows[m % 3][n];
}

const char *config_nearest(const char *word, const char *const *names, size_t n)
{
    const char *nearest = NULL;
    size_t least = strlen(word) / 3 + 2;

    for (size_t i = 0; i < n; i++) {
        size_t distance = edit_distance(word, names[i]);
        if (distance < least) {
            least = distance;
            nearest = names[i];
        }
    }
    return nearest;
}

#define MAX_NAMES 128

static int unknown(const char *where, const char *what, const char *word, const char *const *names,
                   size_t n)
{
    const char *nearest = config_nearest(word, names, n);

    if (nearest)
        return status_fail(STATUS_CONFIG, "%s: unknown %s \"%s\"; did you mean \"%s\"?", where,
                           what, word, nearest);
    return status_fail(STATUS_CONFIG, "%s: unknown %s \"%s\"; docs/config.md lists them", where,
                       what, word);
}

static int unknown_key(const char *where, const struct config_section *section, const char *key)
{
    const char *names[MAX_NAMES];
    char what[96];
    size_t n = 0;

    for (const struct config_field *field = section->fields; field->key && n < MAX_NAMES; field++)
        names[n++] = field->key;
    snprintf(what, sizeof(what), "key of section \"%s\"", section->name);
    return unknown(where, what, key, names, n);
}

static int unknown_section(const char *where, const char *name, const char *const *skip,
                           const struct config_binding *bindings, size_t n_bindings)
{
    const char *names[MAX_NAMES];
    size_t n = 0;

    for (size_t i = 0; i < n_bindings && n < MAX_NAMES; i++)
        names[n++] = bindings[i].section->name;
    for (; skip && *skip && n < MAX_NAMES; skip++)
        names[n++] = *skip;
    return unknown(where, "section", name, names, n);
}

static const struct config_field *find_field(const struct config_section *section, const char *key)
{
    for (const struct config_field *field = section->fields; field->key; field++)
        if (strcmp(field->key, key) == 0)
            return field;
    return NULL;
}

static const struct config_binding *find_section(const struct config_binding *bindings, size_t n,
                                                 const char *name, size_t n_name)
{
    for (size_t i = 0; i < n; i++)
        if (strlen(bindings[i].section->name) == n_name &&
            strncmp(bindings[i].section->name, name, n_name) == 0)
            return &bindings[i];
    return NULL;
}

void config_set_defaults(const struct config_binding *bindings, size_t n_bindings)
{
    for (size_t i = 0; i < n_bindings; i++)
        for (const struct config_field *field = bindings[i].section->fields; field->key; field++)
            if (set_field("default", bindings[i].section->name, field, bindings[i].config,
                          field->default_text) < 0)
                BUG("%s", status_reason());
}

/* A sequence of scalars becomes "a,b,c". */
static int join_list(const char *where, const struct config_node *node, struct text *out)
{
    for (size_t i = 0; i < node->n; i++) {
        const char *item = node->children[i]->scalar;
        if (!item || strchr(item, ','))
            return status_fail(STATUS_CONFIG, "%s: a list of plain values without commas is wanted",
                               where);
        text_print(out, "%s%s", i ? "," : "", item);
    }
    return STATUS_OK;
}

static int apply_value(const struct config_file *file, const struct config_node *node,
                       const struct config_binding *binding)
{
    const char *where = config_where(file, node);
    const struct config_field *field = find_field(binding->section, node->key);
    struct text joined = {0};
    int status = STATUS_OK;

    if (!field)
        return unknown_key(where, binding->section, node->key);
    if (node->kind == NODE_SEQUENCE && field->type == CONFIG_LIST)
        status = join_list(where, node, &joined);
    else if (node->kind != NODE_SCALAR)
        status = status_fail(STATUS_CONFIG, "%s: %s.%s must be one plain value", where,
                             binding->section->name, field->key);
    if (status == STATUS_OK)
        status = set_field(where, binding->section->name, field, binding->config,
                           node->kind == NODE_SCALAR ? node->scalar
                                                     : joined.data ? joined.data : "");
    text_release(&joined);
    return status;
}

static int is_listed(const char *const *names, const char *name)
{
    for (; names && *names; names++)
        if (strcmp(*names, name) == 0)
            return 1;
    return 0;
}

int config_apply(const struct config_file *file, const struct config_node *sections,
                 const char *const *skip, const struct config_binding *bindings,
                 size_t n_bindings)
{
    for (size_t i = 0; i < sections->n; i++) {
        const struct config_node *node = sections->children[i];
        if (is_listed(skip, node->key))
            continue;
        const struct config_binding *binding =
            find_section(bindings, n_bindings, node->key, strlen(node->key));
        if (!binding)
            return unknown_section(config_where(file, node), node->key, skip, bindings,
                                   n_bindings);
        if (node->kind == NODE_SCALAR && node->scalar[0] == '\0')
            continue;   /* "section:" with nothing below */
        if (node->kind != NODE_MAPPING)
            return status_fail(STATUS_CONFIG, "%s: section \"%s\" must hold \"key: value\" lines",
                               config_where(file, node), node->key);
        for (size_t j = 0; j < node->n; j++)
            TRY(apply_value(file, node->children[j], binding));
    }
    return STATUS_OK;
}

int config_override(const char *assignment, const struct config_binding *bindings,
                    size_t n_bindings)
{
    const char *dot = strchr(assignment, '.');
    const char *equals = strchr(assignment, '=');
    char key[64];

    if (!dot || !equals || dot > equals || (size_t)(equals - dot) > sizeof(key))
        return status_fail(STATUS_CONFIG, "--set %s: write it as section.key=value", assignment);
    snprintf(key, sizeof(key), "%.*s", (int)(equals - dot - 1), dot + 1);
    const struct config_binding *binding =
        find_section(bindings, n_bindings, assignment, (size_t)(dot - assignment));
    if (!binding) {
        char name[64];
        snprintf(name, sizeof(name), "%.*s", (int)(dot - assignment), assignment);
        return unknown_section("--set", name, NULL, bindings, n_bindings);
    }
    const struct config_field *field = find_field(binding->section, key);
    if (!field)
        return unknown_key("--set", binding->section, key);
    return set_field("--set", binding->section->name, field, binding->config, equals + 1);
}

int config_check(const struct config_binding *bindings, size_t n_bindings)
{
    for (size_t i = 0; i < n_bindings; i++)
        if (bindings[i].section->check)
            TRY(bindings[i].section->check(bindings[i].config));
    return STATUS_OK;
}

/* Double-quoted, so that every text reads back as itself. */
static void print_quoted(struct text *out, const char *value)
{
    text_append(out, "\"", 1);
    for (; *value; value++) {
        if (*value == '"' || *value == '\\')
            text_print(out, "\\%c", *value);
        else if (*value == '\n')
            text_append(out, "\\n", 2);
        else if (*value == '\t')
            text_append(out, "\\t", 2);
        else if ((unsigned char)*value < 0x20)
            text_print(out, "\\x%02x", (unsigned char)*value);
        else
            text_append(out, value, 1);
    }
    text_append(out, "\"", 1);
}

static void print_value(struct text *out, const struct config_field *field, const void *config)
{
    const void *source = (const char *)config + field->offset;

    switch (field->type) {
    case CONFIG_INT:
        text_print(out, "%lld", (long long)*(const int64_t *)source);
        break;
    case CONFIG_FLOAT:
        text_print(out, "%.15g", *(const double *)source);
        break;
    case CONFIG_BOOL:
        text_print(out, "%s", *(const int *)source ? "true" : "false");
        break;
    case CONFIG_ENUM:
        text_print(out, "%s", field->choices[*(const int *)source]);
        break;
    case CONFIG_STRING:
    case CONFIG_LIST:
        print_quoted(out, source);
        break;
    }
}

void config_print(struct text *out, const struct config_binding *bindings, size_t n_bindings,
                  int indent)
{
    for (size_t i = 0; i < n_bindings; i++) {
        text_print(out, "%*s%s:\n", indent, "", bindings[i].section->name);
        for (const struct config_field *field = bindings[i].section->fields; field->key; field++) {
            text_print(out, "%*s%s: ", indent + 2, "", field->key);
            print_value(out, field, bindings[i].config);
            text_append(out, "\n", 1);
        }
    }
}

int config_list_item(const char *list, size_t i, char *out, size_t n_out)
{
    while (*list) {
        size_t n = strcspn(list, ",");
        const char *item = list;
        size_t length = n;
        while (length && item[0] == ' ') {
            item++;
            length--;
        }
        while (length && item[length - 1] == ' ')
            length--;
        if (i == 0) {
            if (!length || length >= n_out)
                return 0;
            memcpy(out, item, length);
            out[length] = '\0';
            return 1;
        }
        i--;
        list += n;
        if (*list)
            list++;
    }
    return 0;
}
