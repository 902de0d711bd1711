/* Models in several files and in other dtypes: read, refused by name, written, converted. */
#include <stdlib.h>

#include "test_model_support.h"

#define SHARDED "tests/golden/files_bf16_shards"
#define FIRST "model-00001-of-00002.safetensors"
#define SECOND "model-00002-of-00002.safetensors"
#define INDEX "model.safetensors.index.json"

static char directory[64], other[64];

static int set_up(void **state)
{
    (void)state;
    snprintf(directory, sizeof(directory), "/tmp/hone_test_folder_XXXXXX");
    snprintf(other, sizeof(other), "/tmp/hone_test_folder_XXXXXX");
    return mkdtemp(directory) && mkdtemp(other) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return file_remove_tree(directory) || file_remove_tree(other);
}

static void read_text(const char *folder, const char *name, struct text *out)
{
    char path[FILE_PATH_MAX];

    text_clear(out);
    REQUIRE_OK(file_join(path, folder, name));
    REQUIRE_OK(file_read(path, (size_t)1 << 24, out));
}

static void write_text(const char *name, const struct text *text)
{
    char path[FILE_PATH_MAX];

    REQUIRE_OK(file_join(path, directory, name));
    REQUIRE_OK(file_write_atomic(path, text->data, text->length));
}

static void copy(const char *from, const char *name, const char *to)
{
    struct text text = {0};

    read_text(from, name, &text);
    write_text(to, &text);
    text_release(&text);
}

static void copy_sharded(void)
{
    copy(SHARDED, "config.json", "config.json");
    copy(SHARDED, FIRST, FIRST);
    copy(SHARDED, SECOND, SECOND);
    copy(SHARDED, INDEX, INDEX);
}

/* Replaces the first `from` in a file; `to` may have another length. */
static void edit(const char *name, const char *from, const char *to)
{
    struct text text = {0}, edited = {0};

    read_text(directory, name, &text);
    char *at = memmem(text.data, text.length, from, strlen(from));
    assert_non_null(at);
    size_t before = (size_t)(at - text.data), behind = before + strlen(from);
    text_append(&edited, text.data, before);
    text_append(&edited, to, strlen(to));
    text_append(&edited, text.data + behind, text.length - behind);
    write_text(name, &edited);
    text_release(&text);
    text_release(&edited);
}

static void assert_refused(int status, const char *reason)
{
    struct ops *ops = open_device("reference");
    struct model *model = NULL;

    assert_int_equal(model_load(&model, ops, directory, &model_frozen), status);
    assert_null(model);
    if (!strstr(status_reason(), reason))
        fail_msg("\"%s\" has no \"%s\"", status_reason(), reason);
    ops_destroy(&ops);
}

static void a_shard_that_is_missing_is_named(void **state)
{
    char path[FILE_PATH_MAX];

    (void)state;
    copy_sharded();
    REQUIRE_OK(file_join(path, directory, SECOND));
    REQUIRE_OK(file_remove_tree(path));
    assert_refused(STATUS_IO, SECOND);
}

static void shard_names_never_leave_the_folder(void **state)
{
    static const char *const names[] = {"\"../model.safetensors\"", "\"/etc/passwd\"", "\"\"",
                                        "\".hidden\"", "\"a/../b\"", "\"a..b\"", "7", "null"};

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        copy_sharded();
        edit(INDEX, "\"" FIRST "\"", names[i]);
        assert_refused(STATUS_FORMAT, "weight_map");
    }
    copy_sharded();
    edit(INDEX, "\"weight_map\"", "\"weight_mop\"");
    assert_refused(STATUS_FORMAT, "weight_map");
}

static void a_tensor_that_is_not_where_the_index_says_is_named(void **state)
{
    (void)state;
    copy_sharded();
    edit(INDEX, "\"model.norm.weight\": \"" SECOND "\"", "\"model.norm.weight\": \"" FIRST "\"");
    assert_refused(STATUS_FORMAT,
                   "\"model.norm.weight\" is listed in " FIRST ", but lies in " SECOND);
    copy_sharded();
    edit(INDEX, "\"model.norm.weight\"", "\"model.nurm.weight\"");
    assert_refused(STATUS_FORMAT, "\"model.norm.weight\" of " SECOND " is not listed");
    copy_sharded();
    edit(INDEX, "\"weight_map\": {", "\"weight_map\": {\"x\": \"" FIRST "\",");
    assert_refused(STATUS_FORMAT, "\"x\" is missing in " FIRST);
    /* All of the first shard in the second one's place: every tensor of it lies in two files. */
    copy_sharded();
    copy(SHARDED, FIRST, SECOND);
    assert_refused(STATUS_FORMAT, "lies in " SECOND);
}

static void a_damaged_shard_is_named(void **state)
{
    (void)state;
    copy_sharded();
    edit(SECOND, "\"dtype\":\"BF16\"", "\"dtype\":\"BF61\"");
    assert_refused(STATUS_FORMAT, SECOND ": tensor");
    copy_sharded();
    edit(SECOND, "\"dtype\":\"BF16\"", "\"dtype\":\"I16\" ");
    assert_refused(STATUS_FORMAT, "is I16; F32, F16 and BF16 are read");
}

static void nan_in_half_precision_is_refused_by_name(void **state)
{
    static const char bad[][2] = {{0x00, 0x7F}, {(char)0x80, (char)0xFF}};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct text text = {0};
        copy_sharded();
        read_text(directory, SECOND, &text);
        memcpy(text.data + text.length - 2, bad[i], 2);
        text.data[text.length - 1] = (char)(text.data[text.length - 1] | 0x7F);
        text.data[text.length - 2] = (char)(text.data[text.length - 2] | 0x80);
        write_text(SECOND, &text);
        text_release(&text);
        assert_refused(STATUS_FORMAT, "NaN or Inf");
    }
}

static void assert_same_weights(const char *a, const char *b)
{
    struct ops *ops = open_device("reference");
    struct model *first = NULL, *second = NULL;
    struct file_map x, y;

    REQUIRE_OK(model_load(&first, ops, a, &model_frozen));
    REQUIRE_OK(model_load(&second, ops, b, &model_frozen));
    REQUIRE_OK(model_map_weights(first, &x));
    REQUIRE_OK(model_map_weights(second, &y));
    assert_int_equal(x.n, y.n);
    assert_memory_equal(x.bytes, y.bytes, x.n);
    file_map_close(&x);
    file_map_close(&y);
    model_destroy(&first);
    model_destroy(&second);
    ops_destroy(&ops);
}

static void saving_and_converting_write_the_same_files(void **state)
{
    static const enum dtype dtypes[] = {DTYPE_F32, DTYPE_BF16};
    static const char *const folders[] = {SHARDED, "tests/golden/files_f16", "tests/golden/mistral",
                                          "tests/golden/rope_yarn_set"};

    (void)state;
    for (size_t i = 0; i < 8; i++) {
        struct ops *ops = open_device("reference");
        struct model *model = NULL;
        struct text saved = {0}, converted = {0};
        REQUIRE_OK(model_load(&model, ops, folders[i / 2], &model_frozen));
        REQUIRE_OK(model_save_as(model, -1, 1, dtypes[i % 2], directory));
        REQUIRE_OK(model_convert(folders[i / 2], other, dtypes[i % 2]));
        read_text(directory, "model.safetensors", &saved);
        read_text(other, "model.safetensors", &converted);
        assert_int_equal(saved.length, converted.length);
        assert_memory_equal(saved.data, converted.data, saved.length);
        read_text(directory, "config.json", &saved);
        read_text(other, "config.json", &converted);
        assert_string_equal(saved.data, converted.data);
        text_release(&saved);
        text_release(&converted);
        model_destroy(&model);
        ops_destroy(&ops);
    }
}

static void what_fits_a_dtype_survives_it(void **state)
{
    enum dtype dtype;

    (void)state;
    REQUIRE_OK(model_convert(SHARDED, directory, DTYPE_BF16));
    assert_same_weights(SHARDED, directory);
    REQUIRE_OK(model_folder_dtype(directory, &dtype));
    assert_int_equal(dtype, DTYPE_BF16);
    REQUIRE_OK(model_convert("tests/golden/files_f16", other, DTYPE_F32));
    assert_same_weights("tests/golden/files_f16", other);
    REQUIRE_OK(model_folder_dtype(other, &dtype));
    assert_int_equal(dtype, DTYPE_F32);
}

/* A model of one norm whose numbers are the cases. */
static void bfloat16_rounds_to_nearest_and_ties_to_even(void **state)
{
    static const uint32_t cases[][2] = {
        {0x3F800000, 0x3F80}, {0x3F808000, 0x3F80}, {0x3F818000, 0x3F82}, {0x3F808001, 0x3F81},
        {0xBF807FFF, 0xBF80}, {0x3FFFFFFF, 0x4000}, {0x00000001, 0x0000}, {0x00008001, 0x0001},
        {0x80000000, 0x8000}, {0x7F7F0000, 0x7F7F},
    };
    enum { N = sizeof(cases) / sizeof(cases[0]) };
    struct ops *ops = open_device("reference");
    struct model_shape shape = small_shape(MODEL_LLAMA);
    struct model *model = NULL;
    struct tensor norm;
    struct text file = {0};
    uint32_t bits[20] = {0};
    uint16_t rounded[20];

    (void)state;
    REQUIRE_OK(model_create(&model, ops, &shape, &model_frozen, 1));
    size_t last = model_n_weights(model) - 2;
    assert_string_equal(model_weight(model, last, &norm, NULL), "model.norm.weight");
    for (size_t i = 0; i < N; i++)
        bits[i] = cases[i][0];
    ops_upload(ops, norm.data, bits, sizeof(bits));
    REQUIRE_OK(ops_sync(ops));
    REQUIRE_OK(model_save_as(model, -1, 1, DTYPE_BF16, directory));
    read_text(directory, "model.safetensors", &file);
    memcpy(rounded, file.data + file.length - 2 * (50 * 20 + 20), sizeof(rounded));
    for (size_t i = 0; i < N; i++)
        assert_int_equal(rounded[i], cases[i][1]);
    text_release(&file);
    model_destroy(&model);
    ops_destroy(&ops);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_shard_that_is_missing_is_named),
        TEST(shard_names_never_leave_the_folder),
        TEST(a_tensor_that_is_not_where_the_index_says_is_named),
        TEST(a_damaged_shard_is_named),
        TEST(nan_in_half_precision_is_refused_by_name),
        TEST(saving_and_converting_write_the_same_files),
        TEST(what_fits_a_dtype_survives_it),
        TEST(bfloat16_rounds_to_nearest_and_ties_to_even),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
