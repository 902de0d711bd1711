#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/status.h"
#include "reward/internal.h"
#include "reward/options.h"
#include "reward/verifiers/verifiers.h"

#define MAX_VERIFIERS 32

/* Built-in verifiers, one line each; a plugin is one more entry at run time. */
static const struct verifier_v1 *const built_in[] = {
    &verifier_math,   &verifier_countdown, &verifier_code,       &verifier_exact,
    &verifier_format, &verifier_language,  &verifier_preference, &verifier_repetition,
    &verifier_soft_overlong, &verifier_kimi_length,
};
#define N_BUILT_IN (sizeof(built_in) / sizeof(built_in[0]))

struct registry {
    struct registry_entry entries[MAX_VERIFIERS];
    size_t n;
    struct reward_host *host;
};

const struct verifier_v1 *registry_built_in(size_t i)
{
    return i < N_BUILT_IN ? built_in[i] : NULL;
}

struct registry_entry *registry_at(struct registry *registry, size_t i)
{
    return i < registry->n ? &registry->entries[i] : NULL;
}

struct registry_entry *registry_find(struct registry *registry, const char *name)
{
    for (size_t i = 0; i < registry->n; i++)
        if (strcmp(registry->entries[i].description.name, name) == 0)
            return &registry->entries[i];
    return NULL;
}

const char *registry_nearest(struct registry *registry, const char *name)
{
    const char *names[MAX_VERIFIERS];

    for (size_t i = 0; i < registry->n; i++)
        names[i] = registry->entries[i].description.name;
    return config_nearest(name, names, registry->n);
}

static int is_built_in(const char *name)
{
    for (size_t i = 0; i < N_BUILT_IN; i++)
        if (strcmp(built_in[i]->name, name) == 0)
            return 1;
    return 0;
}

static void set_key(struct registry_entry *entry, const char *options)
{
    struct digest_state *state = digest_begin();
    struct text lines = {0};

    options_select(options, entry->description.name, &lines);
    /* With their NULs, so that no two lists of texts run into the same bytes. */
    digest_add(state, entry->description.name, strlen(entry->description.name) + 1);
    digest_add(state, entry->description.version, strlen(entry->description.version) + 1);
    digest_add(state, lines.data, lines.length);
    digest_end(state, &entry->key);
    text_release(&lines);
}

static int add_isolated(struct registry *registry, const struct isolate_source *source,
                        const struct reward_config *config, const struct sandbox_config *sandbox)
{
    struct registry_entry *entry = &registry->entries[registry->n];
    char copy[WIRE_NAME_BYTES];

    if (registry->n + N_BUILT_IN >= MAX_VERIFIERS)
        return status_fail(STATUS_CONFIG, "plugin %s: the table is full", source->path);
    memset(entry, 0, sizeof(*entry));
    TRY(isolate_open(&entry->isolate, source, (int)config->verifier_timeout_ms, sandbox,
                     &entry->description));
    if (is_built_in(entry->description.name) ||
        registry_find(registry, entry->description.name)) {
        memcpy(copy, entry->description.name, sizeof(copy));
        isolate_close(&entry->isolate);
        return status_fail(STATUS_CONFIG, "plugin %s: a verifier named \"%s\" exists", source->path,
                           copy);
    }
    set_key(entry, config->options);
    registry->n++;
    log_info("plugin %s: verifier %s, version %s", source->path, entry->description.name,
             entry->description.version);
    return STATUS_OK;
}

static int add_plugins(struct registry *registry, const struct reward_config *config,
                       const struct sandbox_config *sandbox)
{
    char item[CONFIG_TEXT_BYTES];

    for (size_t i = 0; config_list_item(config->plugins, i, item, sizeof(item)); i++) {
        const struct isolate_source source = {.path = item, .options = config->options};
        TRY(add_isolated(registry, &source, config, sandbox));
    }
    for (size_t i = 0; config_list_item(config->commands, i, item, sizeof(item)); i++) {
        char *sign = strchr(item, '=');
        if (!sign || !reward_name_is_good(item, (size_t)(sign - item)))
            return status_fail(STATUS_CONFIG, "reward.commands: \"%s\" is not of the form "
                               "name=executable, name of a-z, 0-9 and _", item);
        *sign = '\0';
        const struct isolate_source source = {.path = sign + 1, .name = item,
                                              .options = config->options};
        TRY(add_isolated(registry, &source, config, sandbox));
    }
    return STATUS_OK;
}

static int add_built_in(struct registry *registry, const struct verifier_v1 *verifier,
                        const char *options)
{
    struct registry_entry *entry = &registry->entries[registry->n];
    struct isolate_description *description = &entry->description;
    struct text lines = {0};

    memset(entry, 0, sizeof(*entry));
    description->flags = verifier->flags;
    snprintf(description->name, sizeof(description->name), "%s", verifier->name);
    snprintf(description->version, sizeof(description->version), "%s", verifier->version);
    snprintf(description->help, sizeof(description->help), "%s", verifier->help);
    options_select(options, verifier->name, &lines);
    struct verifier_text text = {lines.data ? lines.data : "", lines.length};
    int status = verifier->create(host_face(registry->host), text, &entry->state);
    text_release(&lines);
    if (status < 0)
        return status;
    entry->verifier = verifier;
    set_key(entry, options);
    registry->n++;
    return STATUS_OK;
}

/* An option for a verifier that is not there would be lost without a word. */
static int check_option_names(struct registry *registry, const char *options)
{
    char item[CONFIG_TEXT_BYTES];

    for (size_t i = 0; config_list_item(options, i, item, sizeof(item)); i++) {
        char *point = strchr(item, '.');
        if (point)
            *point = '\0';
        if (!point || !registry_find(registry, item)) {
            const char *near = registry_nearest(registry, item);
            return status_fail(STATUS_CONFIG,
                               "reward.options: there is no verifier \"%s\"%s%s%s; write "
                               "verifier.key=value", item, near ? ", did you mean \"" : "",
                               near ? near : "", near ? "\"?" : "");
        }
    }
    return STATUS_OK;
}

int registry_create(struct registry **out, const struct reward_config *config,
                    const struct sandbox_config *sandbox)
{
    struct registry *registry = mem_alloc(1, sizeof(*registry));
    int status = STATUS_OK;

    /* Plugins first: they fork, and nothing else should be in the process by then. */
    TRY_OUT(add_plugins(registry, config, sandbox));
    registry->host = host_create(sandbox);
    for (size_t i = 0; i < N_BUILT_IN; i++)
        TRY_OUT(add_built_in(registry, built_in[i], config->options));
    TRY_OUT(check_option_names(registry, config->options));
    *out = registry;
    return STATUS_OK;
out:
    registry_destroy(&registry);
    return status;
}

void registry_destroy(struct registry **registry)
{
    if (!*registry)
        return;
    for (size_t i = 0; i < (*registry)->n; i++) {
        struct registry_entry *entry = &(*registry)->entries[i];
        if (entry->isolate)
            isolate_close(&entry->isolate);
        else
            entry->verifier->destroy(entry->state);
    }
    host_destroy(&(*registry)->host);
    mem_free(*registry);
    *registry = NULL;
}
