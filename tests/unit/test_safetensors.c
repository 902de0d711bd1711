#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "common/status.h"
#include "model/model.h"

static const float values[6] = {1.0f, -2.5f, 0.0f, 3.25f, 1e-30f, 7.0f};
static const int32_t numbers[3] = {1, -2, 2147483647};

static void write_two(struct text *out)
{
    const struct named_tensor list[] = {
        {"second", tensor_2d((void *)(uintptr_t)values, 2, 3)},
        {"first", tensor_i32(numbers, 3)},
    };

    assert_int_equal(safetensors_write(out, list, 2), STATUS_OK);
}

/* A file with this header (' stands for ") and n bytes of data. */
static void make_file(struct text *out, const char *header, size_t n)
{
    size_t length = strlen(header);

    text_append(out, &(uint64_t){length}, 8);
    text_append(out, header, length);
    for (size_t i = 8; i < out->length; i++)
        if (out->data[i] == '\'')
            out->data[i] = '"';
    for (size_t i = 0; i < n; i++)
        text_append(out, "\x01", 1);
}

static void assert_refused(const char *header, size_t n, const char *reason)
{
    struct safetensors *file = NULL;
    struct text bytes = {0};

    make_file(&bytes, header, n);
    assert_int_equal(safetensors_open(&file, bytes.data, bytes.length, "file"), STATUS_FORMAT);
    assert_null(file);
    if (!strstr(status_reason(), reason))
        fail_msg("\"%s\" has no \"%s\"", status_reason(), reason);
    text_release(&bytes);
}

static void what_is_written_is_read_back(void **state)
{
    (void)state;
    struct text out = {0};
    struct safetensors *file = NULL;
    const unsigned char *data;
    struct tensor matrix = tensor_2d(NULL, 2, 3), list = tensor_i32(NULL, 3);

    write_two(&out);
    assert_int_equal(safetensors_open(&file, out.data, out.length, "file"), STATUS_OK);
    assert_int_equal(safetensors_get(file, "second", &matrix, &data), STATUS_OK);
    assert_memory_equal(data, values, sizeof(values));
    assert_int_equal(safetensors_get(file, "first", &list, &data), STATUS_OK);
    assert_memory_equal(data, numbers, sizeof(numbers));
    safetensors_close(&file);
    safetensors_close(&file);
    text_release(&out);
}

static void the_data_part_is_aligned_to_eight_bytes(void **state)
{
    (void)state;
    struct text out = {0};
    uint64_t header;

    write_two(&out);
    memcpy(&header, out.data, 8);
    assert_int_equal(header % 8, 0);
    assert_int_equal(out.length, 8 + header + sizeof(values) + sizeof(numbers));
    text_release(&out);
}

static void a_file_too_short_or_too_long_is_refused(void **state)
{
    (void)state;
    struct text out = {0};

    write_two(&out);
    for (size_t n = 0; n < out.length; n++) {
        struct safetensors *file = NULL;
        assert_int_equal(safetensors_open(&file, out.data, n, "file"), STATUS_FORMAT);
        assert_null(file);
    }
    struct safetensors *file = NULL;
    text_append(&out, "x", 1);
    assert_int_equal(safetensors_open(&file, out.data, out.length, "file"), STATUS_FORMAT);
    text_release(&out);
}

static void header_lengths_that_lie_are_refused(void **state)
{
    (void)state;
    const uint64_t lengths[] = {UINT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 63, 1u << 30, 0, 1, 40};
    struct text out = {0};

    write_two(&out);
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct safetensors *file = NULL;
        memcpy(out.data, &lengths[i], 8);
        assert_int_equal(safetensors_open(&file, out.data, out.length, "file"), STATUS_FORMAT);
    }
    text_release(&out);
}

static void headers_that_are_no_list_of_tensors_are_refused(void **state)
{
    (void)state;
    assert_refused("[]", 0, "not an object");
    assert_refused("{'a':7}", 0, "\"a\"");
    assert_refused("{'a':{'shape':[1],'data_offsets':[0,4]}}", 4, "\"a\"");
    assert_refused("{'a':{'dtype':'F31','shape':[1],'data_offsets':[0,4]}}", 4, "F31");
    assert_refused("{'a':{'dtype':'F32','shape':4,'data_offsets':[0,4]}}", 4, "shape");
    assert_refused("{'a':{'dtype':'F32','shape':[1.5],'data_offsets':[0,4]}}", 4, "dimension 0");
    assert_refused("{'a':{'dtype':'F32','shape':[1,1,1,1,1,1,1,1,1],'data_offsets':[0,4]}}", 4,
                   "shape");
    assert_refused("{'a':{'dtype':'F32','shape':[1]}}", 4, "data_offsets");
    assert_refused("{'a':{'dtype':'F32','shape':[1],'data_offsets':[0]}}", 4, "data_offsets");
    assert_refused("{'a':{'dtype':'F32','shape':[1],'data_offsets':[0,4],'shape':[1]}}", 4,
                   "not valid JSON");
}

static void shapes_and_offsets_that_lie_are_refused(void **state)
{
    (void)state;
    assert_refused("{'a':{'dtype':'F32','shape':[1],'data_offsets':[-4,0]}}", 4, "outside");
    assert_refused("{'a':{'dtype':'F32','shape':[1],'data_offsets':[4,0]}}", 4, "outside");
    assert_refused("{'a':{'dtype':'F32','shape':[2],'data_offsets':[0,8]}}", 4, "outside");
    assert_refused("{'a':{'dtype':'F32','shape':[2],'data_offsets':[0,4]}}", 4, "make 8 bytes");
    assert_refused("{'a':{'dtype':'BF16','shape':[1],'data_offsets':[0,4]}}", 4, "make 2 bytes");
    assert_refused("{'a':{'dtype':'F32','shape':[-1],'data_offsets':[0,4]}}", 4, "dimension 0");
    assert_refused("{'a':{'dtype':'F32','shape':[4294967296,4294967296],'data_offsets':[0,4]}}", 4,
                   "dimension 1");
    assert_refused("{'a':{'dtype':'F32','shape':[4611686018427387905],'data_offsets':[0,4]}}", 4,
                   "dimension 0");
}

static void overlaps_and_gaps_are_refused(void **state)
{
    (void)state;
    assert_refused("{'a':{'dtype':'F32','shape':[2],'data_offsets':[0,8]},"
                   "'b':{'dtype':'F32','shape':[2],'data_offsets':[4,12]}}", 12, "overlap");
    assert_refused("{'a':{'dtype':'F32','shape':[1],'data_offsets':[0,4]},"
                   "'b':{'dtype':'F32','shape':[1],'data_offsets':[0,4]}}", 4, "overlap");
    assert_refused("{'a':{'dtype':'F32','shape':[1],'data_offsets':[0,4]},"
                   "'b':{'dtype':'F32','shape':[1],'data_offsets':[8,12]}}", 12, "gap");
    assert_refused("{'a':{'dtype':'F32','shape':[1],'data_offsets':[4,8]}}", 8, "gap");
    assert_refused("{'a':{'dtype':'F32','shape':[1],'data_offsets':[0,4]}}", 8, "end at byte 4");
}

static void a_tensor_is_found_by_name_dtype_and_shape_alone(void **state)
{
    (void)state;
    struct text out = {0};
    struct safetensors *file = NULL;
    const unsigned char *data;
    struct tensor right = tensor_2d(NULL, 2, 3), turned = tensor_2d(NULL, 3, 2);
    struct tensor flat = tensor_1d(NULL, 6), numbers_like = tensor_i32(NULL, 6);

    write_two(&out);
    assert_int_equal(safetensors_open(&file, out.data, out.length, "file"), STATUS_OK);
    assert_int_equal(safetensors_get(file, "third", &right, &data), STATUS_FORMAT);
    assert_non_null(strstr(status_reason(), "\"third\" is missing"));
    assert_int_equal(safetensors_get(file, "second", &turned, &data), STATUS_FORMAT);
    assert_non_null(strstr(status_reason(), "[2,3]; [3,2] is wanted"));
    assert_int_equal(safetensors_get(file, "second", &flat, &data), STATUS_FORMAT);
    assert_int_equal(safetensors_get(file, "second", &numbers_like, &data), STATUS_FORMAT);
    assert_non_null(strstr(status_reason(), "only I32 is read"));
    safetensors_close(&file);
    text_release(&out);
}

static void half_precision_is_refused_with_a_remedy(void **state)
{
    (void)state;
    struct text bytes = {0};
    struct safetensors *file = NULL;
    const unsigned char *data;
    struct tensor like = tensor_1d(NULL, 2);

    make_file(&bytes, "{'a':{'dtype':'BF16','shape':[2],'data_offsets':[0,4]},"
              "'__metadata__':{'format':'pt'}}", 4);
    assert_int_equal(safetensors_open(&file, bytes.data, bytes.length, "file"), STATUS_OK);
    assert_int_equal(safetensors_get(file, "a", &like, &data), STATUS_FORMAT);
    assert_non_null(strstr(status_reason(), "\"a\" is BF16; only F32 is read"));
    safetensors_close(&file);
    text_release(&bytes);
}

static void a_file_without_tensors_is_read(void **state)
{
    (void)state;
    struct text bytes = {0};
    struct safetensors *file = NULL;
    const unsigned char *data;
    struct tensor like = tensor_1d(NULL, 2);

    make_file(&bytes, "{}", 0);
    assert_int_equal(safetensors_open(&file, bytes.data, bytes.length, "file"), STATUS_OK);
    assert_int_equal(safetensors_get(file, "a", &like, &data), STATUS_FORMAT);
    safetensors_close(&file);
    text_release(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(the_data_part_is_aligned_to_eight_bytes),
        cmocka_unit_test(a_file_too_short_or_too_long_is_refused),
        cmocka_unit_test(header_lengths_that_lie_are_refused),
        cmocka_unit_test(headers_that_are_no_list_of_tensors_are_refused),
        cmocka_unit_test(shapes_and_offsets_that_lie_are_refused),
        cmocka_unit_test(overlaps_and_gaps_are_refused),
        cmocka_unit_test(a_tensor_is_found_by_name_dtype_and_shape_alone),
        cmocka_unit_test(half_precision_is_refused_with_a_remedy),
        cmocka_unit_test(a_file_without_tensors_is_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
