#include "pipeline/plan_print.h"

#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "pipeline/stages.h"

#define LINE_COLUMNS 100
#define VALUE_BYTES (CONFIG_TEXT_BYTES + 8)

const char *plan_number(char out[PLAN_NUMBER_BYTES], double value)
{
    static const char *const units[] = {"", " k", " M", " G", " T", " P"};
    size_t i = 0;

    while (value >= (i ? 999.5 : 99999.5) && i + 1 < sizeof(units) / sizeof(units[0])) {
        value /= 1000;
        i++;
    }
    if (i && value < 100)
        snprintf(out, PLAN_NUMBER_BYTES, "%.3g%s", value, units[i]);
    else
        snprintf(out, PLAN_NUMBER_BYTES, "%.0f%s", value, units[i]);
    return out;
}

const char *plan_bytes(char out[PLAN_NUMBER_BYTES], double value)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    size_t i = 0;

    while (value >= 1023.5 && i + 1 < sizeof(units) / sizeof(units[0])) {
        value /= 1024;
        i++;
    }
    snprintf(out, PLAN_NUMBER_BYTES, value < 10 && i ? "%.1f %s" : "%.0f %s", value, units[i]);
    return out;
}

/* ---- Graph. */

static void print_node(struct text *out, const struct stage *stage)
{
    text_print(out, "%s", stage->name);
    if (strcmp(stage->name, stage->kind->name))
        text_print(out, " (%s)", stage->kind->name);
    if (stage->sample[0])
        text_print(out, "   <- data sampled from %s", stage->sample);
    if (stage->data[0])
        text_print(out, "   <- data of %s", stage->data);
    text_print(out, "\n");
}

static size_t last_child(const struct recipe *recipe, const char *parent)
{
    size_t last = recipe->n_stages;

    for (size_t i = 0; i < recipe->n_stages; i++)
        if (strcmp(recipe->stages[i].from, parent) == 0)
            last = i;
    return last;
}

/* Parents stand above their children in the file, so that this ends. */
static void print_children(struct text *out, const struct recipe *recipe, const char *parent,
                           const char *indent)
{
    size_t last = last_child(recipe, parent);

    for (size_t i = 0; i <= last && last < recipe->n_stages; i++) {
        const struct stage *stage = &recipe->stages[i];
        struct text deeper = {0};
        if (strcmp(stage->from, parent))
            continue;
        text_print(out, "%s%s ", indent, i == last ? "`-" : "|-");
        print_node(out, stage);
        text_print(&deeper, "%s%s ", indent, i == last ? "  " : "| ");
        print_children(out, recipe, stage->name, deeper.data);
        text_release(&deeper);
    }
}

static int is_first_of_folder(const struct recipe *recipe, size_t i)
{
    for (size_t j = 0; j < i; j++)
        if (strcmp(recipe->stages[j].from, recipe->stages[i].from) == 0)
            return 0;
    return 1;
}

void plan_print_graph(struct text *out, const struct recipe *recipe)
{
    for (size_t i = 0; i < recipe->n_stages; i++) {
        const struct stage *stage = &recipe->stages[i];
        if (!stage->from[0]) {
            text_print(out, "  ");
            print_node(out, stage);
            print_children(out, recipe, stage->name, "  ");
        } else if (strchr(stage->from, '/') && is_first_of_folder(recipe, i)) {
            text_print(out, "  %s\n", stage->from);
            print_children(out, recipe, stage->from, "  ");
        }
    }
}

/* ---- Settings. */

static const char *const chief_keys[] = {
    "grpo.max_steps", "grpo.tasks_per_step", "grpo.loss_type", "grpo.epsilon", "grpo.beta",
    "optimizer.learning_rate", "optimizer.lr_scheduler_type", "sft.num_train_epochs",
    "sft.batch_tokens", "rollout.num_generations", "rollout.max_completion_length",
    "rollout.temperature", "rollout.workers", "reward.reward_funcs", "reward.reward_weights",
    "data.n_tasks", "tasks.template_name", NULL};

static int is_chief(const char *section, const char *key)
{
    size_t n = strlen(section);

    for (const char *const *chief = chief_keys; *chief; chief++)
        if (strncmp(*chief, section, n) == 0 && (*chief)[n] == '.' && !strcmp(*chief + n + 1, key))
            return 1;
    return 0;
}

/* Sections that the kind of stage looks at. */
static int is_used(const struct stage *stage, const char *section)
{
    unsigned flags = stage->kind->flags;
    int is_rl = (flags & STAGE_IS_RL) != 0, samples = is_rl || stage->sample[0];

    if (!strcmp(section, "model"))
        return !stage->from[0];
    if (!strcmp(section, "grpo") || !strcmp(section, "reward"))
        return is_rl;
    if (!strcmp(section, "sft"))
        return !is_rl;
    if (!strcmp(section, "data"))
        return stage->sample[0] != '\0';
    if (!strcmp(section, "rollout") || !strcmp(section, "sandbox"))
        return samples || stage->settings.tasks.heldout[0];
    return 1;
}

/* Files that the stage does not open. */
static int is_idle(const struct stage *stage, const char *section, const char *key)
{
    if (strcmp(section, "tasks"))
        return 0;
    if (!strcmp(key, "text"))
        return !(stage->kind->flags & STAGE_NEEDS_TEXT);
    if (!strcmp(key, "general"))
        return stage->settings.data.general_share == 0.0;
    return !strcmp(key, "train") && !(stage->kind->flags & STAGE_IS_RL) && !stage->sample[0];
}

static void print_value(char out[VALUE_BYTES], const struct config_field *field, const void *config)
{
    const void *at = (const char *)config + field->offset;

    switch (field->type) {
    case CONFIG_INT:
        snprintf(out, VALUE_BYTES, "%lld", (long long)*(const int64_t *)at);
        break;
    case CONFIG_FLOAT:
        snprintf(out, VALUE_BYTES, "%.9g", *(const double *)at);
        break;
    case CONFIG_BOOL:
        snprintf(out, VALUE_BYTES, "%s", *(const int *)at ? "true" : "false");
        break;
    case CONFIG_ENUM:
        snprintf(out, VALUE_BYTES, "%s", field->choices[*(const int *)at]);
        break;
    case CONFIG_STRING:
    case CONFIG_LIST:
        snprintf(out, VALUE_BYTES, "%s", (const char *)at);
        break;
    }
}

struct line {
    struct text *out;
    const char *section;
    size_t column;
};

static void add_setting(struct line *line, const char *key, const char *value)
{
    size_t width = strlen(key) + strlen(value) + 3;

    if (!line->column) {
        text_print(line->out, "  %-9s ", line->section);
        line->column = 12;
    } else if (line->column + width > LINE_COLUMNS) {
        text_print(line->out, ",\n            ");
        line->column = 12;
    } else {
        text_print(line->out, ", ");
    }
    text_print(line->out, "%s %s", key, value[0] ? value : "\"\"");
    line->column += width;
}

static void print_section(struct text *out, const struct stage *stage,
                          const struct config_binding *binding, const void *defaults)
{
    const struct config_section *section = binding->section;
    struct line line = {out, section->name, 0};
    char value[VALUE_BYTES], usual[VALUE_BYTES];

    for (const struct config_field *field = section->fields; field->key; field++) {
        if (is_idle(stage, section->name, field->key))
            continue;
        print_value(value, field, binding->config);
        print_value(usual, field, defaults);
        if (strcmp(value, usual) || (value[0] && is_chief(section->name, field->key)))
            add_setting(&line, field->key, value);
    }
    if (line.column)
        text_print(out, "\n");
}

void plan_print_settings(struct text *out, const struct stage *stage)
{
    struct stage_settings settings = stage->settings, usual;
    struct config_binding bindings[N_STAGE_SECTIONS], usual_bindings[N_STAGE_SECTIONS];

    stage_bind(&settings, bindings);
    stage_bind(&usual, usual_bindings);
    config_set_defaults(usual_bindings, N_STAGE_SECTIONS);
    for (size_t i = 0; i < N_STAGE_SECTIONS; i++)
        if (is_used(stage, bindings[i].section->name))
            print_section(out, stage, &bindings[i], usual_bindings[i].config);
}

void plan_print_settings_json(struct text *out, const struct stage *stage)
{
    struct stage_settings settings = stage->settings;
    struct config_binding bindings[N_STAGE_SECTIONS];
    char value[VALUE_BYTES];

    stage_bind(&settings, bindings);
    for (size_t i = 0; i < N_STAGE_SECTIONS; i++) {
        const struct config_section *section = bindings[i].section;
        text_print(out, "%s\"%s\":{", i ? "," : "{", section->name);
        for (const struct config_field *field = section->fields; field->key; field++) {
            print_value(value, field, bindings[i].config);
            text_print(out, "%s\"%s\":", field == section->fields ? "" : ",", field->key);
            if (field->type == CONFIG_STRING || field->type == CONFIG_ENUM ||
                field->type == CONFIG_LIST)
                json_append_string(out, value, strlen(value));
            else
                text_print(out, "%s", value);
        }
        text_print(out, "}");
    }
    text_print(out, "}");
}
