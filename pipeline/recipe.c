#include "pipeline/recipe.h"

#include <stdio.h>
#include <string.h>

#include "common/status.h"
#include "pipeline/internal.h"
#include "pipeline/stages.h"

static const char *const stages_key[] = {"stages", NULL};
static const char *const wiring_keys[] = {"name", "stage", "from", "sample", "data_from", NULL};

static int check_name(const char *where, const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-");

    if (!n || name[n] || n >= STAGE_NAME_BYTES)
        return status_fail(STATUS_CONFIG, "%s: stage name \"%s\" must be 1 to %d of a-z 0-9 _ -",
                           where, name, STAGE_NAME_BYTES - 1);
    return STATUS_OK;
}

static int read_word(const struct config_file *file, const struct config_node *node,
                     const char *key, char *out, size_t n_out)
{
    const struct config_node *child = config_find(node, key);
    const char *text = config_scalar(child);

    out[0] = '\0';
    if (!child)
        return STATUS_OK;
    if (!text || !text[0] || strlen(text) >= n_out)
        return status_fail(STATUS_CONFIG, "%s: \"%s\" must be one word shorter than %zu bytes",
                           config_where(file, child), key, n_out);
    snprintf(out, n_out, "%s", text);
    return STATUS_OK;
}

static int read_kind(const struct config_file *file, const struct config_node *node,
                     struct stage *stage)
{
    const char *names[32];
    char kind[STAGE_NAME_BYTES];
    size_t n = 0;

    TRY(read_word(file, node, "stage", kind, sizeof(kind)));
    if (!kind[0])
        snprintf(kind, sizeof(kind), "%s", stage->name);
    stage->kind = stage_kind_find(kind);
    if (stage->kind)
        return STATUS_OK;
    for (const struct stage_kind *row = stage_kinds; row->name && n < 32; row++)
        names[n++] = row->name;
    const char *nearest = config_nearest(kind, names, n);
    return status_fail(STATUS_CONFIG,
                       "%s: no stage kind \"%s\"%s%s%s; `hone help stages` lists them",
                       config_where(file, node), kind, nearest ? "; did you mean \"" : "",
                       nearest ? nearest : "", nearest ? "\"?" : "");
}

/* "stage:section.key=value" is for that stage; without a stage it is for all. */
static const char *override_for(const char *override, const char *stage)
{
    size_t n = strcspn(override, ":=");

    if (override[n] != ':')
        return override;
    return strlen(stage) == n && strncmp(override, stage, n) == 0 ? override + n + 1 : NULL;
}

static int apply_overrides(const char *const *overrides, const char *stage,
                           const struct config_binding *bindings)
{
    for (; overrides && *overrides; overrides++) {
        const char *text = override_for(*overrides, stage);
        if (text && strncmp(text, "run.", 4) != 0)
            TRY(config_override(text, bindings, N_STAGE_SECTIONS));
    }
    return STATUS_OK;
}

static int has_stage(const struct recipe *recipe, const char *name, size_t before)
{
    for (size_t i = 0; i < before; i++)
        if (strcmp(recipe->stages[i].name, name) == 0)
            return 1;
    return 0;
}

/* Parents must stand above: the order of the file is an order of work. */
static int check_parent(const struct recipe *recipe, size_t i, const char *where, const char *key,
                        const char *parent)
{
    if (!parent[0] || has_stage(recipe, parent, i))
        return STATUS_OK;
    return status_fail(STATUS_CONFIG,
                       "%s: stage \"%s\" has %s: %s, but no stage of that name stands "
                       "above it",
                       where, recipe->stages[i].name, key, parent);
}

static int check_wiring(const struct recipe *recipe, size_t i, const char *where)
{
    const struct stage *stage = &recipe->stages[i];
    unsigned flags = stage->kind->flags;

    if (has_stage(recipe, stage->name, i))
        return status_fail(STATUS_CONFIG, "%s: a second stage is named \"%s\"", where, stage->name);
    if ((flags & STAGE_NEEDS_FROM) && !stage->from[0])
        return status_fail(STATUS_CONFIG,
                           "%s: stage \"%s\" needs \"from:\", a stage above it or the "
                           "folder of a model",
                           where, stage->name);
    if (!(flags & STAGE_NEEDS_FROM) && stage->from[0])
        return status_fail(STATUS_CONFIG, "%s: stage \"%s\" makes a new model; remove \"from:\"",
                           where, stage->name);
    if ((flags & STAGE_NEEDS_DATA) && !stage->sample[0] == !stage->data[0])
        return status_fail(STATUS_CONFIG, "%s: stage \"%s\" needs \"sample:\" (whose checkpoint "
                           "writes its data) or \"data_from:\" (whose dataset it takes), one of "
                           "them", where, stage->name);
    if (!(flags & STAGE_NEEDS_DATA) && (stage->sample[0] || stage->data[0]))
        return status_fail(STATUS_CONFIG, "%s: stage \"%s\" learns from no dataset; remove "
                           "\"sample:\" and \"data_from:\"", where, stage->name);
    if ((flags & STAGE_NEEDS_TEXT) && !stage->settings.tasks.text[0])
        return status_fail(STATUS_CONFIG, "%s: stage \"%s\" needs tasks.text, a JSONL file of "
                           "{\"text\": ...} lines", where, stage->name);
    if (stage->settings.lora.r && stage->settings.optimizer.stochastic_rounding)
        return status_fail(STATUS_CONFIG, "%s: stage \"%s\" has lora.r %lld and "
                           "optimizer.stochastic_rounding: adapters stay float32 and are not "
                           "rounded; leave one of them out", where, stage->name,
                           (long long)stage->settings.lora.r);
    if (!strchr(stage->from, '/'))
        TRY(check_parent(recipe, i, where, "from", stage->from));
    TRY(check_parent(recipe, i, where, "sample", stage->sample));
    return check_parent(recipe, i, where, "data_from", stage->data);
}

/* `first` stands before the first line, `indent` blanks before the others. */
static void print_stage(struct text *out, const struct stage *stage,
                        struct stage_settings *settings, const char *first, int indent)
{
    struct config_binding bindings[N_STAGE_SECTIONS];

    stage_bind(settings, bindings);
    text_print(out, "%sname: %s\n%*sstage: %s\n", first, stage->name, indent, "",
               stage->kind->name);
    if (stage->from[0])
        text_print(out, "%*sfrom: %s\n", indent, "", stage->from);
    if (stage->sample[0])
        text_print(out, "%*ssample: %s\n", indent, "", stage->sample);
    if (stage->data[0])
        text_print(out, "%*sdata_from: %s\n", indent, "", stage->data);
    config_print(out, bindings, N_STAGE_SECTIONS, indent);
}

/* The hash leaves out what changes speed and memory alone, so that a run may go on with other
 * workers. */
static void hash_stage(struct stage *stage)
{
    struct stage_settings settings = stage->settings;
    struct text text = {0};
    struct digest digest;

    settings.rollout.workers = settings.rollout.threads = settings.rollout.max_sequences = 1;
    settings.rollout.kv_cache_tokens = 0;
    settings.rollout.weights = ROLLOUT_WEIGHTS_AUTO;
    settings.rollout.cuda_graphs = 1;
    settings.reward.workers = 1;
    settings.optimizer.gradient_checkpointing = 0;
    print_stage(&text, stage, &settings, "", 0);
    digest_of(&digest, text.data, text.length);
    digest_hex(&digest, stage->hash);
    text_release(&text);
}

/* auto becomes a name: that of the tokenizer in the folder that the stage's model comes from in the
 * end. Where that folder is not there (yet), it stays, and whoever needs the template says so. */
static int settle_template(const struct recipe *recipe, struct stage *stage)
{
    struct tasks_config *tasks = &stage->settings.tasks;
    const struct stage *root = stage;
    const char *name, *folder;

    if (strcmp(tasks->template_name, CHAT_TEMPLATE_AUTO) != 0)
        return STATUS_OK;
    while (root->from[0] && !strchr(root->from, '/') && recipe_find(recipe, root->from))
        root = recipe_find(recipe, root->from);
    folder = root->from[0] ? root->from : root->settings.model.tokenizer;
    if (!folder[0] || !file_exists(folder))
        return STATUS_OK;
    TRY(chat_template_detect(folder, &name));
    snprintf(tasks->template_name, sizeof(tasks->template_name), "%s", name);
    return STATUS_OK;
}

static int read_stage(struct recipe *recipe, const struct config_file *file,
                      const struct config_node *node, size_t i, const char *const *overrides)
{
    struct stage *stage = &recipe->stages[i];
    struct config_binding bindings[N_STAGE_SECTIONS];
    char where[FILE_PATH_MAX + 32];

    snprintf(where, sizeof(where), "%s", config_where(file, node));
    TRY(read_word(file, node, "name", stage->name, sizeof(stage->name)));
    TRY(check_name(where, stage->name));
    TRY(read_kind(file, node, stage));
    TRY(read_word(file, node, "from", stage->from, sizeof(stage->from)));
    TRY(read_word(file, node, "sample", stage->sample, sizeof(stage->sample)));
    TRY(read_word(file, node, "data_from", stage->data, sizeof(stage->data)));
    stage_bind(&stage->settings, bindings);
    config_set_defaults(bindings, N_STAGE_SECTIONS);
    for (const char *const *text = stage->kind->defaults; text && *text; text++)
        if (config_override(*text, bindings, N_STAGE_SECTIONS) < 0)
            BUG("default of stage %s: %s", stage->kind->name, status_reason());
    const char *const skip[] = {"stages", "run", NULL};
    TRY(config_apply(file, config_root(file), skip, bindings, N_STAGE_SECTIONS));
    TRY(config_apply(file, node, wiring_keys, bindings, N_STAGE_SECTIONS));
    TRY(apply_overrides(overrides, stage->name, bindings));
    int status = config_check(bindings, N_STAGE_SECTIONS);
    if (status < 0)
        return status_context(status, "%s: stage \"%s\"", where, stage->name);
    TRY(check_wiring(recipe, i, where));
    status = settle_template(recipe, stage);
    if (status < 0)
        return status_context(status, "%s: stage \"%s\"", where, stage->name);
    struct text text = {0};
    print_stage(&text, stage, &stage->settings, "", 0);
    stage->yaml = text.data;
    hash_stage(stage);
    return STATUS_OK;
}

static int read_run(struct recipe *recipe, const struct config_file *file,
                    const char *const *overrides)
{
    const struct config_binding run = {&run_config_section, &recipe->run};
    struct stage_settings settings;
    struct config_binding others[N_STAGE_SECTIONS];
    const char *skip[N_STAGE_SECTIONS + 2] = {"stages"};

    stage_bind(&settings, others);
    for (size_t i = 0; i < N_STAGE_SECTIONS; i++)
        skip[i + 1] = others[i].section->name;
    config_set_defaults(&run, 1);
    TRY(config_apply(file, config_root(file), skip, &run, 1));
    for (; overrides && *overrides; overrides++)
        if (strncmp(*overrides, "run.", 4) == 0)
            TRY(config_override(*overrides, &run, 1));
    return config_check(&run, 1);
}

static int check_override_stages(const struct recipe *recipe, const char *const *overrides)
{
    for (; overrides && *overrides; overrides++) {
        size_t n = strcspn(*overrides, ":=");
        int found = (*overrides)[n] != ':';
        if (!found && strncmp(*overrides + n, ":run.", 5) == 0)
            return status_fail(STATUS_CONFIG, "--set %s: section run is not a stage's; leave out "
                               "\"%.*s:\"", *overrides, (int)n, *overrides);
        for (size_t i = 0; i < recipe->n_stages && !found; i++)
            found = strlen(recipe->stages[i].name) == n &&
                    strncmp(recipe->stages[i].name, *overrides, n) == 0;
        if (!found)
            return status_fail(STATUS_CONFIG, "--set %s: the recipe has no stage of that name",
                               *overrides);
    }
    return STATUS_OK;
}

static int read_stages(struct recipe *recipe, const struct config_file *file,
                       const char *const *overrides)
{
    const struct config_node *list = config_find(config_root(file), stages_key[0]);

    while (config_child(list, recipe->n_stages))
        recipe->n_stages++;
    if (!recipe->n_stages || config_key(config_child(list, 0)))
        return status_fail(STATUS_CONFIG, "%s: no \"stages:\" list with \"- name: ...\" items",
                           config_where(file, list ? list : config_root(file)));
    recipe->stages = mem_alloc(recipe->n_stages, sizeof(*recipe->stages));
    for (size_t i = 0; i < recipe->n_stages; i++)
        TRY(read_stage(recipe, file, config_child(list, i), i, overrides));
    return check_override_stages(recipe, overrides);
}

static void print_recipe(struct recipe *recipe)
{
    const struct config_binding run = {&run_config_section, &recipe->run};
    struct digest_state *hash = digest_begin();
    struct text text = {0};
    struct digest digest;

    config_print(&text, &run, 1, 0);
    text_print(&text, "stages:\n");
    digest_add(hash, &recipe->run.seed, sizeof(recipe->run.seed));
    digest_add(hash, &recipe->run.device, sizeof(recipe->run.device));
    for (size_t i = 0; i < recipe->n_stages; i++) {
        print_stage(&text, &recipe->stages[i], &recipe->stages[i].settings, "  - ", 4);
        digest_add(hash, recipe->stages[i].hash, strlen(recipe->stages[i].hash));
    }
    recipe->yaml = text.data;
    digest_end(hash, &digest);
    digest_hex(&digest, recipe->hash);
}

/* Workers read it, and so does a run that goes on: now is the time to say that they cannot. */
static int check_printed(const struct recipe *recipe)
{
    struct config_file *file;

    TRY(config_parse(&file, recipe->yaml, strlen(recipe->yaml),
                     "the recipe with all settings of its stages"));
    config_close(&file);
    return STATUS_OK;
}

int recipe_open(struct recipe *recipe, const char *path, const char *const *overrides)
{
    struct config_file *file;
    int status;

    memset(recipe, 0, sizeof(*recipe));
    TRY(config_open(&file, path));
    recipe->path = mem_copy_text(path);
    TRY_OUT(read_run(recipe, file, overrides));
    TRY_OUT(read_stages(recipe, file, overrides));
    print_recipe(recipe);
    TRY_OUT(check_printed(recipe));
out:
    config_close(&file);
    if (status < 0)
        recipe_release(recipe);
    return status;
}

void recipe_release(struct recipe *recipe)
{
    for (size_t i = 0; i < recipe->n_stages && recipe->stages; i++)
        mem_free(recipe->stages[i].yaml);
    mem_free(recipe->stages);
    mem_free(recipe->yaml);
    mem_free(recipe->path);
    memset(recipe, 0, sizeof(*recipe));
}

struct stage *recipe_find(const struct recipe *recipe, const char *name)
{
    for (size_t i = 0; i < recipe->n_stages; i++)
        if (strcmp(recipe->stages[i].name, name) == 0)
            return &recipe->stages[i];
    return NULL;
}

/* Without it each worker's maths verifier would choose random primes and points of its own. */
static int seed_verifiers(const struct recipe *recipe, char options[CONFIG_TEXT_BYTES])
{
    uint64_t seed = random_mix((uint64_t)recipe->run.seed, SEED_VERIFIERS) >> 11;   /* 53 bits */
    char item[CONFIG_TEXT_BYTES];
    size_t used = strlen(options);

    for (size_t i = 0; config_list_item(options, i, item, sizeof(item)); i++)
        if (strncmp(item, "math.seed=", 10) == 0)
            return STATUS_OK;
    int n = snprintf(options + used, CONFIG_TEXT_BYTES - used, "%smath.seed=%llu", used ? "," : "",
                     (unsigned long long)seed);
    return used + (size_t)n < CONFIG_TEXT_BYTES
               ? STATUS_OK
               : status_fail(STATUS_CONFIG, "reward.options is too long: a worker adds math.seed; "
                             "use %d bytes at most", CONFIG_TEXT_BYTES - 32);
}

int pipeline_worker_settings(const char *config, const char *stage,
                             struct stage_settings *settings, struct run_config *run)
{
    struct recipe recipe;

    TRY(recipe_open(&recipe, config, NULL));
    const struct stage *found = stage ? recipe_find(&recipe, stage) : &recipe.stages[0];
    int status = found ? STATUS_OK
                       : status_fail(STATUS_CONFIG, "%s has no stage \"%s\"", config, stage);
    *run = recipe.run;
    if (found) {
        *settings = found->settings;
        status = seed_verifiers(&recipe, settings->reward.options);
    }
    recipe_release(&recipe);
    return status;
}
