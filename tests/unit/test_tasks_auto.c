#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/status.h"
#include "pipeline/recipe.h"

static char directory[] = "/tmp/hone-auto-XXXXXX";
static char recipe_path[FILE_PATH_MAX], config_path[FILE_PATH_MAX];

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(directory) || file_join(recipe_path, directory, "recipe.yaml"))
        return -1;
    return file_join(config_path, directory, "tokenizer_config.json");
}

static int tear_down(void **state)
{
    (void)state;
    return file_remove_tree(directory);
}

static void write_text(const char *path, const char *text)
{
    assert_int_equal(file_write_atomic(path, text, strlen(text)), STATUS_OK);
}

static void write_recipe(const char *folder)
{
    char text[2 * FILE_PATH_MAX];

    snprintf(text, sizeof(text),
             "run: {name: auto}\ntasks: {train: t.jsonl, template_name: auto}\nstages:\n"
             "  - {name: first, stage: zero, from: %s}\n"
             "  - {name: second, stage: rl, from: first}\n",
             folder);
    write_text(recipe_path, text);
}

static void auto_becomes_the_name_of_the_folders_template(void **state)
{
    struct recipe recipe;

    (void)state;
    write_text(config_path, "{\"chat_template\": "
                            "\"'<|im_start|>' + message <|im_end|>' + '\\\\n'\"}");
    write_recipe(directory);
    if (recipe_open(&recipe, recipe_path, NULL) < 0)
        fail_msg("%s", status_reason());
    /* The second stage comes from the first: it goes back to the same folder. */
    for (size_t i = 0; i < 2; i++)
        assert_string_equal(recipe.stages[i].settings.tasks.template_name, "chatml");
    assert_null(strstr(recipe.yaml, "template_name: auto"));
    recipe_release(&recipe);
}

static void an_unknown_template_is_refused_with_the_stage(void **state)
{
    struct recipe recipe;

    (void)state;
    write_text(config_path, "{\"chat_template\": \"{{ messages }}\"}");
    write_recipe(directory);
    assert_int_equal(recipe_open(&recipe, recipe_path, NULL), STATUS_UNSUPPORTED);
    assert_non_null(strstr(status_reason(), "stage \"first\""));
    assert_non_null(strstr(status_reason(), "tasks.template_name"));
}

/* `hone plan` is for before the model is there. */
static void auto_stays_where_the_folder_is_missing(void **state)
{
    struct chat_template chat;
    struct recipe recipe;

    (void)state;
    write_recipe("/nonexistent/model");
    assert_int_equal(recipe_open(&recipe, recipe_path, NULL), STATUS_OK);
    assert_string_equal(recipe.stages[1].settings.tasks.template_name, "auto");
    assert_int_equal(chat_template_init(&chat, "auto"), STATUS_CONFIG);
    recipe_release(&recipe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(auto_becomes_the_name_of_the_folders_template),
        cmocka_unit_test(an_unknown_template_is_refused_with_the_stage),
        cmocka_unit_test(auto_stays_where_the_folder_is_missing),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
