#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "common/config.h"
#include "common/status.h"
#include "pipeline/pipeline.h"

struct knobs {
    int64_t steps;
    double rate;
    int is_on;
    char name[CONFIG_TEXT_BYTES];
    int colour;
    char words[CONFIG_TEXT_BYTES];
};

static const char *const colours[] = {"red", "green", "blue", NULL};
static const struct config_field fields[] = {
    {"steps", CONFIG_INT, offsetof(struct knobs, steps), "5", 1, 10, NULL, "steps"},
    {"rate", CONFIG_FLOAT, offsetof(struct knobs, rate), "0.5", 0, 1, NULL, "rate"},
    {"is_on", CONFIG_BOOL, offsetof(struct knobs, is_on), "true", 0, 0, NULL, "on"},
    {"name", CONFIG_STRING, offsetof(struct knobs, name), "", 0, 0, NULL, "name"},
    {"colour", CONFIG_ENUM, offsetof(struct knobs, colour), "green", 0, 0, colours, "colour"},
    {"words", CONFIG_LIST, offsetof(struct knobs, words), "a,b", 0, 0, NULL, "words"},
    {0},
};

static int check_knobs(const void *config)
{
    const struct knobs *knobs = config;

    return knobs->steps == 7 ? status_fail(STATUS_CONFIG, "seven is not allowed") : STATUS_OK;
}

static const struct config_section section = {"knobs", "a section", fields, check_knobs};
static struct knobs knobs;
static const struct config_binding binding = {&section, &knobs};

static int set_up(void **state)
{
    (void)state;
    memset(&knobs, 0xa5, sizeof(knobs));
    config_set_defaults(&binding, 1);
    return 0;
}

static int apply_bytes(const char *yaml, size_t n)
{
    struct config_file *file;

    TRY(config_parse(&file, yaml, n, "file.yaml"));
    int status = config_apply(file, config_root(file), NULL, &binding, 1);
    config_close(&file);
    return status;
}

static int apply(const char *yaml)
{
    return apply_bytes(yaml, strlen(yaml));
}

static void assert_refused(const char *yaml, const char *wanted)
{
    assert_int_equal(apply(yaml), STATUS_CONFIG);
    if (!strstr(status_reason(), wanted))
        fail_msg("\"%s\" is not in: %s", wanted, status_reason());
}

static void defaults_are_read_by_the_same_code(void **state)
{
    (void)state;
    assert_int_equal(knobs.steps, 5);
    assert_true(knobs.rate == 0.5);
    assert_int_equal(knobs.is_on, 1);
    assert_string_equal(knobs.name, "");
    assert_int_equal(knobs.colour, 1);
    assert_string_equal(knobs.words, "a,b");
}

static void every_value_of_a_file_arrives(void **state)
{
    (void)state;
    assert_int_equal(apply("knobs:\n  steps: 9\n  rate: 1e-3\n  is_on: false\n  name: 'x: y'\n"
                           "  colour: blue\n  words: [one, two]\n"), STATUS_OK);
    assert_int_equal(knobs.steps, 9);
    assert_true(knobs.rate == 1e-3);
    assert_int_equal(knobs.is_on, 0);
    assert_string_equal(knobs.name, "x: y");
    assert_int_equal(knobs.colour, 2);
    assert_string_equal(knobs.words, "one,two");
}

static void an_unknown_key_names_the_line_and_the_nearest_one(void **state)
{
    (void)state;
    assert_refused("knobs:\n  steps: 5\n  colur: red\n", "file.yaml:3:");
    assert_refused("knobs:\n  colur: red\n", "did you mean \"colour\"?");
    assert_refused("knbs:\n  steps: 5\n", "did you mean \"knobs\"?");
    assert_refused("knobs:\n  zzzzzzzz: 1\n", "docs/config.md");
}

static void a_value_of_the_wrong_type_is_refused(void **state)
{
    (void)state;
    assert_refused("knobs: {steps: 1e1}", "whole number");
    assert_refused("knobs: {steps: 3x}", "whole number");
    assert_refused("knobs: {steps: ''}", "whole number");
    assert_refused("knobs: {steps: 99999999999999999999}", "whole number");
    assert_refused("knobs: {rate: nan}", "a number");
    assert_refused("knobs: {rate: inf}", "a number");
    assert_refused("knobs: {is_on: yes}", "true or false");
    assert_refused("knobs: {colour: pink}", "red green blue");
    assert_refused("knobs: {steps: [1]}", "one plain value");
    assert_refused("knobs: {words: [[a]]}", "list of plain values");
    assert_refused("knobs: {words: ['a,b']}", "without commas");
    assert_refused("knobs: 5", "key: value");
    assert_refused("- a\n", "section:");
}

static void bounds_are_inclusive(void **state)
{
    (void)state;
    assert_int_equal(apply("knobs: {steps: 1, rate: 0}"), STATUS_OK);
    assert_int_equal(apply("knobs: {steps: 10, rate: 1}"), STATUS_OK);
    assert_refused("knobs: {steps: 0}", "1 to 10");
    assert_refused("knobs: {steps: 11}", "1 to 10");
    assert_refused("knobs: {rate: 1.0001}", "0 to 1");
    assert_refused("knobs: {rate: -0.0001}", "0 to 1");
}

static void a_text_of_512_bytes_is_refused_and_511_fit(void **state)
{
    char yaml[600] = "knobs: {name: ";

    (void)state;
    memset(yaml + 14, 'x', 511);
    memcpy(yaml + 14 + 511, "}", 2);
    assert_int_equal(apply(yaml), STATUS_OK);
    assert_int_equal(strlen(knobs.name), 511);
    memcpy(yaml + 14 + 511, "x}", 3);
    assert_refused(yaml, "512");
}

static void an_empty_section_or_file_changes_nothing(void **state)
{
    (void)state;
    assert_int_equal(apply("knobs:\n"), STATUS_OK);
    assert_int_equal(apply(""), STATUS_OK);
    assert_int_equal(apply("# only this\n"), STATUS_OK);
    assert_int_equal(knobs.steps, 5);
}

static void hostile_yaml_is_refused(void **state)
{
    struct text deep = {0};

    (void)state;
    assert_refused("knobs: &a {steps: 5}\n", "anchors");
    assert_refused("knobs: {name: &a x, words: *a}\n", "anchors");
    assert_refused("knobs: {words: *a}\n", "aliases");
    assert_refused("knobs: {steps: 5, steps: 6}\n", "a second time");
    assert_refused("knobs: {steps: 5}\nknobs: {rate: 0}\n", "a second time");
    assert_refused("knobs: {}\n---\nknobs: {}\n", "second document");
    assert_refused("knobs: {[steps]: 5, steps: 6}\n", "it must be a word");
    assert_refused("? {knobs: 1}\n: {steps: 5}\nknobs: {steps: 5}\n", "it must be a word");
    assert_refused("knobs: {steps: 5", "not valid YAML");
    assert_refused("knobs: {name: \"a\\0b\"}", "NUL");
    for (int i = 0; i < 17; i++)
        text_print(&deep, "{a: ");
    assert_refused(deep.data, "deeper than 16");
    text_release(&deep);
    assert_int_equal(apply_bytes("knobs: {name: a\0b}", 18), STATUS_CONFIG);
    assert_int_equal(apply_bytes("\xff\xfe\x01", 3), STATUS_CONFIG);
}

static void an_override_wins_and_is_checked_alike(void **state)
{
    (void)state;
    assert_int_equal(config_override("knobs.steps=3", &binding, 1), STATUS_OK);
    assert_int_equal(knobs.steps, 3);
    assert_int_equal(config_override("knobs.name=a=b.c", &binding, 1), STATUS_OK);
    assert_string_equal(knobs.name, "a=b.c");
    assert_int_equal(config_override("knobs.steps=11", &binding, 1), STATUS_CONFIG);
    assert_int_equal(config_override("knobs.stps=1", &binding, 1), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "steps"));
    assert_int_equal(config_override("knbs.steps=1", &binding, 1), STATUS_CONFIG);
    assert_int_equal(config_override("knobs.steps", &binding, 1), STATUS_CONFIG);
    assert_int_equal(config_override("steps=1", &binding, 1), STATUS_CONFIG);
    assert_int_equal(config_override("", &binding, 1), STATUS_CONFIG);
}

static void rules_across_fields_are_checked(void **state)
{
    (void)state;
    assert_int_equal(config_check(&binding, 1), STATUS_OK);
    knobs.steps = 7;
    assert_int_equal(config_check(&binding, 1), STATUS_CONFIG);
}

static void what_is_printed_reads_back_equal(void **state)
{
    struct knobs before;
    struct text yaml = {0};

    (void)state;
    knobs.steps = 10;
    knobs.rate = 0.123456789012345;   /* what people write has 15 digits at most */
    snprintf(knobs.name, sizeof(knobs.name), "a \"b\" \\c\n\td\x01 # é: {question}");
    snprintf(knobs.words, sizeof(knobs.words), "x,y z");
    config_print(&yaml, &binding, 1, 0);
    before = knobs;
    config_set_defaults(&binding, 1);
    assert_int_equal(apply(yaml.data), STATUS_OK);
    assert_int_equal(knobs.steps, before.steps);
    assert_true(knobs.rate == before.rate);
    assert_string_equal(knobs.name, before.name);
    assert_string_equal(knobs.words, before.words);
    text_release(&yaml);
}

static void items_of_a_list_are_trimmed(void **state)
{
    char item[8];

    (void)state;
    assert_int_equal(config_list_item(" a , bc", 1, item, sizeof(item)), 1);
    assert_string_equal(item, "bc");
    assert_int_equal(config_list_item(" a , bc", 0, item, sizeof(item)), 1);
    assert_string_equal(item, "a");
    assert_int_equal(config_list_item("a,b", 2, item, sizeof(item)), 0);
    assert_int_equal(config_list_item("", 0, item, sizeof(item)), 0);
    assert_int_equal(config_list_item("muchtoolong", 0, item, sizeof(item)), 0);
}

static void the_nearest_name_must_be_near(void **state)
{
    static const char *const names[] = {"accuracy", "format"};

    (void)state;
    assert_string_equal(config_nearest("acuracy", names, 2), "accuracy");
    assert_null(config_nearest("zebra", names, 2));
}

static void every_section_of_the_program_takes_its_own_defaults(void **state)
{
    static struct stage_settings settings;
    struct config_binding bindings[N_STAGE_SECTIONS], run;
    static struct run_config run_config;

    (void)state;
    stage_bind(&settings, bindings);
    config_set_defaults(bindings, N_STAGE_SECTIONS);
    assert_int_equal(config_check(bindings, N_STAGE_SECTIONS), STATUS_OK);
    run = (struct config_binding){&run_config_section, &run_config};
    config_set_defaults(&run, 1);
    for (size_t i = 0; i < N_STAGE_SECTIONS; i++) {
        assert_true(strlen(bindings[i].section->help) > 0);
        for (const struct config_field *field = bindings[i].section->fields; field->key; field++)
            assert_true(strlen(field->help) > 0);
    }
}

static void the_settings_document_has_every_key(void **state)
{
    static struct stage_settings settings;
    struct config_binding bindings[N_STAGE_SECTIONS];
    struct text text = {0};

    (void)state;
    stage_bind(&settings, bindings);
    pipeline_print_config_markdown(&text);
    assert_false(text.failed);
    for (size_t i = 0; i < N_STAGE_SECTIONS; i++) {
        char heading[64];
        snprintf(heading, sizeof(heading), "\n## %s\n", bindings[i].section->name);
        const char *at = strstr(text.data, heading);
        assert_non_null(at);
        for (const struct config_field *field = bindings[i].section->fields; field->key; field++) {
            char row[96];
            snprintf(row, sizeof(row), "\n| `%s` | ", field->key);
            assert_non_null(strstr(at, row));
        }
    }
    text_release(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(defaults_are_read_by_the_same_code, set_up),
        cmocka_unit_test_setup(every_value_of_a_file_arrives, set_up),
        cmocka_unit_test_setup(an_unknown_key_names_the_line_and_the_nearest_one, set_up),
        cmocka_unit_test_setup(a_value_of_the_wrong_type_is_refused, set_up),
        cmocka_unit_test_setup(bounds_are_inclusive, set_up),
        cmocka_unit_test_setup(a_text_of_512_bytes_is_refused_and_511_fit, set_up),
        cmocka_unit_test_setup(an_empty_section_or_file_changes_nothing, set_up),
        cmocka_unit_test_setup(hostile_yaml_is_refused, set_up),
        cmocka_unit_test_setup(an_override_wins_and_is_checked_alike, set_up),
        cmocka_unit_test_setup(rules_across_fields_are_checked, set_up),
        cmocka_unit_test_setup(what_is_printed_reads_back_equal, set_up),
        cmocka_unit_test(items_of_a_list_are_trimmed),
        cmocka_unit_test(the_nearest_name_must_be_near),
        cmocka_unit_test(every_section_of_the_program_takes_its_own_defaults),
        cmocka_unit_test(the_settings_document_has_every_key),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
