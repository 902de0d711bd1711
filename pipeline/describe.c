/* docs/config.md, from the tables: it cannot differ from what the program reads. */
#include <string.h>

#include "pipeline/pipeline.h"

static void print_type(struct text *out, const struct config_field *field)
{
    static const char *const names[] = {
        [CONFIG_INT] = "whole number", [CONFIG_FLOAT] = "number", [CONFIG_BOOL] = "true, false",
        [CONFIG_STRING] = "text", [CONFIG_LIST] = "list"};

    if (field->type != CONFIG_ENUM) {
        text_print(out, "%s", names[field->type]);
        return;
    }
    for (size_t i = 0; field->choices[i]; i++)
        text_print(out, "%s`%s`", i ? ", " : "", field->choices[i]);
}

static void print_bounds(struct text *out, const struct config_field *field)
{
    if (field->minimum < field->maximum)
        text_print(out, "%.15g to %.15g", field->minimum, field->maximum);
}

/* A bar would end the cell. */
static void print_cell(struct text *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '|')
            text_append(out, "\\", 1);
        text_append(out, text, 1);
    }
}

static void print_section(struct text *out, const struct config_section *section)
{
    text_print(out, "\n## %s\n\n", section->name);
    print_cell(out, section->help);
    text_print(out, "\n\n| key | type | default | bounds | meaning |\n"
                    "| --- | --- | --- | --- | --- |\n");
    for (const struct config_field *field = section->fields; field->key; field++) {
        text_print(out, "| `%s` | ", field->key);
        print_type(out, field);
        if (field->default_text[0])
            text_print(out, " | `%s` | ", field->default_text);
        else
            text_print(out, " | | ");
        print_bounds(out, field);
        text_print(out, " | ");
        print_cell(out, field->help);
        text_print(out, " |\n");
    }
}

void pipeline_print_config_markdown(struct text *out)
{
    static struct stage_settings settings;
    struct config_binding bindings[N_STAGE_SECTIONS];

    text_print(out,
               "# Settings\n\n"
               "Printed by the program from its own tables (`hone docs config`); do not edit. A "
               "recipe is a YAML file of sections\nand a list `stages`. A section on the top holds "
               "for every stage, one inside a stage for that stage alone;\n"
               "`run` stands on the top only. "
               "A setting comes from, last wins: its default here, the stage kind's defaults\n"
               "(`hone docs stages`), the top of the file, the stage, `--set section.key=value` or "
               "`--set stage:section.key=value`.\nAn unknown key is an error. Paths are taken "
               "from the working directory.\n\n"
               "A stage is an item of `stages`:\n\n"
               "| key | meaning |\n| --- | --- |\n"
               "| `name` | its own name: a-z 0-9 _ - |\n"
               "| `stage` | its kind, a name of `hone docs stages`; left out: as `name` |\n"
               "| `from` | whose weights it starts from: a stage above it, or the folder of a "
               "model (with a slash in it) |\n"
               "| `sample` | whose checkpoint writes its data: a stage above it |\n"
               "| `data_from` | whose dataset it takes: a stage above it |\n");
    print_section(out, &run_config_section);
    stage_bind(&settings, bindings);
    for (size_t i = 0; i < N_STAGE_SECTIONS; i++)
        print_section(out, bindings[i].section);
}
