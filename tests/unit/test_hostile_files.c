/* Files and places that somebody else may have made: each is refused by name. */
#include "test_model_support.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/config.h"
#include "common/trust.h"
#include "pipeline/recipe.h"
#include "pipeline/run_store.h"
#include "reward/internal.h"

#define STRANGER 12345

static char directory[64];

static const char *at(const char *name)
{
    static char paths[4][FILE_PATH_MAX];
    static unsigned turn;
    char *path = paths[turn++ % 4];

    snprintf(path, FILE_PATH_MAX, "%s/%s", directory, name);
    return path;
}

static int setup(void **state)
{
    (void)state;
    snprintf(directory, sizeof(directory), "/tmp/hone-test-XXXXXX");
    return mkdtemp(directory) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return file_remove_tree(directory);
}

static void write_file(const char *path, const char *text, size_t n)
{
    assert_int_equal(file_write_atomic(path, text, n), STATUS_OK);
}

/* ---- YAML. */

static void assert_refused(const struct text *yaml, const char *wanted)
{
    struct config_file *file;

    assert_int_equal(config_parse(&file, yaml->data, yaml->length, "hostile.yaml"), STATUS_CONFIG);
    assert_null(file);
    if (!strstr(status_reason(), wanted) || !strstr(status_reason(), "hostile.yaml"))
        fail_msg("\"%s\" is not in: %s", wanted, status_reason());
}

/* Ten lines that would be ten thousand million values. */
static void an_alias_bomb_is_refused_at_its_first_anchor(void **state)
{
    struct text yaml = {0};

    (void)state;
    text_print(&yaml, "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for (int i = 1; i < 10; i++)
        text_print(&yaml, "a%d: &a%d [*a%d, *a%d, *a%d, *a%d]\n", i, i, i - 1, i - 1, i - 1, i - 1);
    assert_refused(&yaml, "hostile.yaml:1: anchors are not allowed");
    text_clear(&yaml);
    text_print(&yaml, "a: *nothing\n");
    assert_refused(&yaml, "aliases are not allowed");
    text_release(&yaml);
}

static void deep_nesting_is_refused(void **state)
{
    struct text yaml = {0};

    (void)state;
    text_print(&yaml, "a: ");
    for (int i = 0; i < 200000; i++)
        text_print(&yaml, "%s", i % 2 ? "[" : "{k: ");
    assert_refused(&yaml, "nested deeper than 16");
    text_release(&yaml);
}

static void a_section_of_very_many_keys_is_refused(void **state)
{
    struct text yaml = {0};

    (void)state;
    for (int i = 0; i < 90000; i++)
        text_print(&yaml, "k%d: 1\n", i);
    assert_refused(&yaml, "more than 4096 entries");
    text_clear(&yaml);
    text_print(&yaml, "stages:\n");
    for (int i = 0; i < 90000; i++)
        text_print(&yaml, "  - a\n");
    assert_refused(&yaml, "more than 4096 entries");
    text_release(&yaml);
}

static void a_huge_scalar_and_a_huge_file_are_refused(void **state)
{
    struct text yaml = {0}, value = {0};
    struct config_file *file;
    struct recipe recipe;
    char *block = mem_alloc(1, 900000);

    (void)state;
    memset(block, 'x', 899999);
    text_print(&yaml, "run:\n  name: %s\nstages:\n  - name: a\n", block);
    write_file(at("scalar.yaml"), yaml.data, yaml.length);
    assert_int_equal(recipe_open(&recipe, at("scalar.yaml"), NULL), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "shorter than 512"));
    assert_true(strlen(status_reason()) < 8192);   /* and not all of it is repeated */
    text_print(&yaml, "# %s\n", block);
    write_file(at("huge.yaml"), yaml.data, yaml.length);
    assert_int_equal(config_open(&file, at("huge.yaml")), STATUS_FORMAT);
    assert_non_null(strstr(status_reason(), "larger than the limit"));
    mem_free(block);
    text_release(&yaml);
    text_release(&value);
}

/* ---- run.db. */

static int is_root(void)
{
    if (geteuid() == 0)
        return 1;
    print_message("SKIP: only root can give a file to another user\n");
    return 0;
}

static void make_store(const char *path)
{
    struct run_store *store;

    assert_int_equal(run_store_open(&store, path), STATUS_OK);
    run_store_close(&store);
}

static void a_damaged_database_of_another_user_is_refused(void **state)
{
    struct run_store *store;
    struct text bytes = {0};

    (void)state;
    if (!is_root())
        skip();
    make_store(at("run.db"));
    assert_int_equal(chown(at("run.db"), STRANGER, STRANGER), 0);
    make_store(at("run.db"));   /* root takes one that is whole */
    assert_int_equal(file_read(at("run.db"), 1 << 24, &bytes), STATUS_OK);
    assert_true(bytes.length > 3 * 4096);
    memset(bytes.data + 4096, 0x5a, bytes.length - 4096);   /* all pages but the schema's first */
    write_file(at("run.db"), bytes.data, bytes.length);
    assert_int_equal(chown(at("run.db"), STRANGER, STRANGER), 0);
    int status = run_store_open(&store, at("run.db"));
    assert_true(status == STATUS_FORMAT || status == STATUS_IO);
    assert_non_null(strstr(status_reason(), "run.db"));
    text_release(&bytes);
}

static void a_database_of_another_user_is_not_written(void **state)
{
    struct run_store *store;

    (void)state;
    if (!is_root())
        skip();
    make_store(at("run.db"));
    assert_int_equal(chmod(at("run.db"), 0666), 0);
    assert_int_equal(chmod(directory, 0777), 0);
    assert_int_equal(seteuid(STRANGER), 0);
    int status = run_store_open(&store, at("run.db"));
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(status, STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "belongs to another user"));
}

static void a_linked_database_is_refused(void **state)
{
    struct run_store *store;

    (void)state;
    make_store(at("real.db"));
    assert_int_equal(symlink(at("real.db"), at("run.db")), 0);
    assert_int_equal(run_store_open(&store, at("run.db")), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "symbolic link"));
}

/* A trigger that would write a file, or a view that would call out: the schema is not trusted. */
static void a_schema_from_outside_calls_nothing_with_effects(void **state)
{
    struct run_store *store;
    sqlite3 *handle;

    (void)state;
    make_store(at("run.db"));
    assert_int_equal(sqlite3_open(at("run.db"), &handle), SQLITE_OK);
    assert_int_equal(sqlite3_exec(handle, "CREATE TRIGGER evil BEFORE INSERT ON run BEGIN SELECT"
                                  " load_extension('/tmp/evil.so'); END", NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(handle);
    const struct run_info info = {.name = "a", .code_version = "b", .config_yaml = "c: {}\n",
                                  .config_hash = "d", .data_hash = "e", .template_hash = "f"};
    assert_int_equal(run_store_open(&store, at("run.db")), STATUS_OK);
    assert_true(run_store_begin_run(store, &info, 0) < 0);
    assert_non_null(strstr(status_reason(), "load_extension"));
    run_store_close(&store);
}

/* ---- Plugins and executables. */

static void a_plugin_that_everybody_may_write_is_refused(void **state)
{
    const struct verifier_v1 *verifier;

    (void)state;
    write_file(at("verifier.so"), "no ELF", 6);
    assert_int_equal(plugin_open(at("verifier.so"), &verifier), STATUS_IO);   /* dlopen's words */
    assert_int_equal(chmod(at("verifier.so"), 0666), 0);
    assert_int_equal(plugin_open(at("verifier.so"), &verifier), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "chmod o-w"));
    assert_int_equal(chmod(at("verifier.so"), 0644), 0);
    assert_int_equal(chmod(directory, 0777), 0);   /* where it could be exchanged */
    assert_int_equal(plugin_open(at("verifier.so"), &verifier), STATUS_CONFIG);
    assert_int_equal(chmod(directory, 01777), 0);
    assert_int_equal(plugin_open(at("verifier.so"), &verifier), STATUS_IO);
}

static void a_link_to_a_plugin_is_judged_by_where_it_leads(void **state)
{
    const struct verifier_v1 *verifier;

    (void)state;
    assert_int_equal(mkdir(at("open"), 0755), 0);
    assert_int_equal(chmod(at("open"), 0777), 0);
    write_file(at("open/verifier.so"), "no ELF", 6);
    assert_int_equal(symlink(at("open/verifier.so"), at("verifier.so")), 0);
    assert_int_equal(plugin_open(at("verifier.so"), &verifier), STATUS_CONFIG);
}

static void code_of_another_user_is_refused(void **state)
{
    (void)state;
    if (!is_root())
        skip();
    write_file(at("judge"), "#!/bin/sh\n", 10);
    assert_int_equal(chmod(directory, 0755), 0);
    assert_int_equal(chown(at("judge"), STRANGER, STRANGER), 0);
    assert_int_equal(seteuid(STRANGER + 1), 0);
    int status = trust_check_code(at("judge"), "verifier judge");
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(status, STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "belongs to user 12345"));
}

/* ---- Run directories. */

static void a_run_directory_that_everybody_may_write_is_refused(void **state)
{
    (void)state;
    assert_int_equal(mkdir(at("run"), 0755), 0);
    assert_int_equal(trust_check_directory(at("run"), "run"), STATUS_OK);
    assert_int_equal(trust_check_directory(at("absent"), "run"), STATUS_OK);
    assert_int_equal(chmod(at("run"), 01777), 0);
    assert_int_equal(trust_check_directory(at("run"), "run"), STATUS_CONFIG);
    write_file(at("file"), "x", 1);
    assert_int_equal(trust_check_directory(at("file"), "run"), STATUS_IO);
}

/* Whoever can put a link where a temporary file will be could have us write over any file. */
static void a_link_in_the_place_of_a_temporary_file_is_not_followed(void **state)
{
    struct text text = {0};

    (void)state;
    write_file(at("victim"), "mine", 4);
    assert_int_equal(symlink(at("victim"), at("config.yaml.tmp")), 0);
    assert_int_equal(file_write_atomic(at("config.yaml"), "theirs", 6), STATUS_IO);
    assert_int_equal(file_read(at("victim"), 100, &text), STATUS_OK);
    assert_string_equal(text.data, "mine");
    text_release(&text);
}

static void a_tree_is_removed_without_following_its_links(void **state)
{
    (void)state;
    assert_int_equal(mkdir(at("kept"), 0755), 0);
    write_file(at("kept/file"), "mine", 4);
    assert_int_equal(mkdir(at("tree"), 0755), 0);
    assert_int_equal(symlink(at("kept"), at("tree/link")), 0);
    assert_int_equal(file_remove_tree(at("tree")), STATUS_OK);
    assert_true(file_exists(at("kept/file")));
}

/* ---- What we must not send. */

static void a_policy_with_a_nan_is_neither_published_nor_saved(void **state)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    struct model_shape shape = small_shape(MODEL_QWEN2);
    const struct model_options options = {0};
    struct ops *ops = open_device("cpu");
    struct tensor weight, gradient;
    struct file_map image;
    struct model *model;

    (void)state;
    REQUIRE_OK(model_create(&model, ops, &shape, &options, 1));
    REQUIRE_OK(model_map_weights(model, &image));
    file_map_close(&image);
    const char *name = model_weight(model, 3, &weight, &gradient);
    for (size_t i = 0; i < 3; i++) {
        ops_upload(ops, (char *)weight.data + 4, &bad[i], sizeof(bad[i]));
        REQUIRE_OK(ops_sync(ops));
        assert_int_equal(model_map_weights(model, &image), STATUS_FAILED);
        assert_non_null(strstr(status_reason(), name));
        assert_non_null(strstr(status_reason(), "element 1"));
        assert_int_equal(model_save_weights(model, at("model.safetensors")), STATUS_FAILED);
        assert_false(file_exists(at("model.safetensors")));
    }
    model_destroy(&model);
    ops_destroy(&ops);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_alias_bomb_is_refused_at_its_first_anchor),
        TEST(deep_nesting_is_refused),
        TEST(a_section_of_very_many_keys_is_refused),
        TEST(a_huge_scalar_and_a_huge_file_are_refused),
        TEST(a_damaged_database_of_another_user_is_refused),
        TEST(a_database_of_another_user_is_not_written),
        TEST(a_linked_database_is_refused),
        TEST(a_schema_from_outside_calls_nothing_with_effects),
        TEST(a_plugin_that_everybody_may_write_is_refused),
        TEST(a_link_to_a_plugin_is_judged_by_where_it_leads),
        TEST(code_of_another_user_is_refused),
        TEST(a_run_directory_that_everybody_may_write_is_refused),
        TEST(a_link_in_the_place_of_a_temporary_file_is_not_followed),
        TEST(a_tree_is_removed_without_following_its_links),
        TEST(a_policy_with_a_nan_is_neither_published_nor_saved),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
