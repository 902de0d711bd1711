#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <string.h>

#include "common/files.h"
#include "common/json.h"
#include "common/random.h"
#include "common/status.h"
#include "model/tokenizer.h"
#include "model/tokenizer_internal.h"

static struct tokenizer *load(const char *directory)
{
    struct tokenizer *tokenizer = NULL;

    if (tokenizer_load(&tokenizer, directory) < 0)
        fail_msg("%s", status_reason());
    return tokenizer;
}

/* The other way: text of the ids, special tokens included. */
static void assert_decodes(const struct tokenizer *tokenizer, const struct token_list *list,
                           const char *text, size_t n)
{
    struct text out = {0};

    tokenizer_decode(tokenizer, list->ids, list->n, 0, &out);
    assert_int_equal(out.length, n);
    if (n)
        assert_memory_equal(out.data, text, n);
    text_release(&out);
}

static void check_case(const struct tokenizer *tokenizer, const json_t *item, int roundtrip)
{
    const json_t *ids = json_object_get(item, "ids"), *text = json_object_get(item, "text");
    struct token_list list = {0};
    const char *bytes = json_string_value(text);
    size_t n = json_string_length(text);

    assert_int_equal(tokenizer_encode(tokenizer, bytes, n, &list), STATUS_OK);
    int same = list.n == json_array_size(ids);
    for (size_t i = 0; same && i < list.n; i++)
        same = list.ids[i] == json_integer_value(json_array_get(ids, i));
    if (!same) {
        struct text message = {0};
        for (size_t i = 0; i < list.n; i++)
            text_print(&message, " %d", (int)list.ids[i]);
        json_append(&message, item);
        fail_msg("ids differ:%s", message.data);
    }
    if (roundtrip)
        assert_decodes(tokenizer, &list, bytes, n);
    token_list_release(&list);
}

static void check_cases(const char *directory, int roundtrip)
{
    struct tokenizer *tokenizer = load(directory);
    struct text file = {0};
    char path[FILE_PATH_MAX];
    json_error_t error;
    int n = 0;

    assert_int_equal(file_join(path, directory, "cases.jsonl"), STATUS_OK);
    assert_int_equal(file_read(path, 1 << 20, &file), STATUS_OK);
    for (char *line = file.data, *end; (end = strchr(line, '\n')); line = end + 1) {
        json_t *item = json_loadb(line, (size_t)(end - line), JSON_ALLOW_NUL, &error);
        assert_non_null(item);
        check_case(tokenizer, item, roundtrip);
        json_decref(item);
        n++;
    }
    assert_true(n >= 200);
    text_release(&file);
    tokenizer_destroy(&tokenizer);
}

static void ids_are_those_of_hugging_face_for_the_gpt2_split(void **state)
{
    (void)state;
    check_cases("tests/golden/tokenizer", 1);
}

static void ids_are_those_of_hugging_face_for_the_qwen2_split_and_nfc(void **state)
{
    (void)state;
    check_cases("tests/golden/tokenizer_qwen2", 0);   /* form C need not be what was put in */
}

static void ids_are_those_of_hugging_face_for_llama3_and_its_whole_pieces(void **state)
{
    (void)state;
    check_cases("tests/golden/tokenizer_llama3", 1);
}

static void ids_are_those_of_hugging_face_for_the_three_splits_of_deepseek(void **state)
{
    (void)state;
    check_cases("tests/golden/tokenizer_deepseek", 1);
}

static void ids_are_those_of_hugging_face_for_every_flag_of_added_tokens(void **state)
{
    (void)state;
    check_cases("tests/golden/tokenizer_flags", 0);   /* blanks are stripped */
}

static void any_bytes_come_back(void **state)
{
    (void)state;
    struct tokenizer *tokenizer = load("tests/golden/tokenizer");
    struct random_stream stream = {.seed = 7};

    for (int round = 0; round < 300; round++) {
        char bytes[64];
        struct token_list list = {0};
        size_t n = (size_t)random_below(&stream, sizeof(bytes));
        for (size_t i = 0; i < n; i++)
            bytes[i] = (char)random_below(&stream, round % 2 ? 256 : 128);
        assert_int_equal(tokenizer_encode(tokenizer, bytes, n, &list), STATUS_OK);
        assert_decodes(tokenizer, &list, bytes, n);
        token_list_release(&list);
    }
    tokenizer_destroy(&tokenizer);
}

static int is_inside_character(const struct text *text, size_t at)
{
    size_t i = 0, length;

    for (; i < at; i += length ? length : 1)
        length = utf8_length((const unsigned char *)text->data + i, text->length - i);
    return i != at;
}

/* No part ends within a character, and the parts are the whole. */
static void assert_streams(const struct tokenizer *tokenizer, const struct token_list *list,
                           const struct text *whole)
{
    struct tokenizer_stream stream;
    struct text parts = {0};

    tokenizer_stream_begin(&stream, tokenizer, 0);
    for (size_t i = 0; i < list->n; i++) {
        tokenizer_stream_add(&stream, list->ids[i], &parts);
        assert_false(is_inside_character(whole, parts.length));
        assert_true(stream.n_held <= 3);
    }
    tokenizer_stream_end(&stream, &parts);
    assert_int_equal(stream.n_held, 0);
    assert_int_equal(parts.length, whole->length);
    if (whole->length)
        assert_memory_equal(parts.data, whole->data, whole->length);
    text_release(&parts);
}

static void a_stream_gives_whole_characters(void **state)
{
    (void)state;
    struct tokenizer *tokenizer = load("tests/golden/tokenizer");
    struct random_stream random = {.seed = 11};
    const char text[] = "a\xC3\xA9\xE5\xAD\x97\xF0\x9F\x99\x82z";
    struct tokenizer_stream stream;
    struct text out = {0};

    tokenizer_stream_begin(&stream, tokenizer, 1);
    for (size_t i = 0; i + 1 < sizeof(text); i++) {   /* one byte at a time */
        size_t before = out.length;
        tokenizer_stream_add(&stream, tokenizer->byte_ids[(unsigned char)text[i]], &out);
        assert_true(out.length == before || utf8_valid_prefix((const unsigned char *)out.data,
                                                              out.length) == out.length);
    }
    assert_string_equal(out.data, text);
    tokenizer_stream_add(&stream, tokenizer_eos(tokenizer), &out);
    tokenizer_stream_add(&stream, -1, &out);
    assert_string_equal(out.data, text);
    tokenizer_stream_add(&stream, tokenizer->byte_ids[0xE2], &out);
    assert_string_equal(out.data, text);
    tokenizer_stream_end(&stream, &out);
    assert_int_equal(out.length, sizeof(text));
    text_release(&out);
    for (int round = 0; round < 300; round++) {
        struct token_list list = {0};
        struct text whole = {0};
        for (int i = 0; i < 40; i++)
            token_list_add(&list, (int32_t)random_below(&random, round % 2 ? 256 : 600));
        tokenizer_decode(tokenizer, list.ids, list.n, 0, &whole);
        assert_streams(tokenizer, &list, &whole);
        text_release(&whole);
        token_list_release(&list);
    }
    tokenizer_destroy(&tokenizer);
}

/* The second time pieces are remembered, and other texts have been in between. */
static void ids_are_the_same_the_second_time(void **state)
{
    (void)state;
    struct tokenizer *warm = load("tests/golden/tokenizer_llama3");
    struct random_stream random = {.seed = 5};

    for (int round = 0; round < 2000; round++) {
        char bytes[40];
        struct token_list list[2] = {{0}, {0}};
        size_t n = (size_t)random_below(&random, sizeof(bytes));
        for (size_t i = 0; i < n; i++)
            bytes[i] = (char)('a' + random_below(&random, round % 100 ? 3 : 200));
        assert_int_equal(tokenizer_encode(warm, bytes, n, &list[0]), STATUS_OK);
        assert_int_equal(tokenizer_encode(warm, bytes, n, &list[1]), STATUS_OK);
        assert_int_equal(list[0].n, list[1].n);
        if (list[0].n)
            assert_memory_equal(list[0].ids, list[1].ids, list[0].n * sizeof(int32_t));
        assert_decodes(warm, &list[0], bytes, n);
        token_list_release(&list[0]);
        token_list_release(&list[1]);
    }
    tokenizer_destroy(&warm);
}

struct encoding {
    const struct tokenizer *tokenizer;
    struct token_list list;
    int status;
};

static void *encode_often(void *argument)
{
    struct encoding *encoding = argument;
    static const char text[] = "The quick brown fox; e\xCC\x81 \xE5\xAD\x97 12345 jumps.\n";

    for (int i = 0; i < 500 && encoding->status == STATUS_OK; i++)
        encoding->status = tokenizer_encode(encoding->tokenizer, text, sizeof(text) - 1 - i % 9,
                                            &encoding->list);
    return NULL;
}

static void threads_share_a_tokenizer(void **state)
{
    (void)state;
    struct tokenizer *tokenizer = load("tests/golden/tokenizer_flags");
    struct encoding encodings[3];
    pthread_t threads[3];

    memset(encodings, 0, sizeof(encodings));
    for (int i = 0; i < 3; i++)
        encodings[i].tokenizer = tokenizer;
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, encode_often, &encodings[i]), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(encodings[i].status, STATUS_OK);
        assert_true(encodings[i].list.n > 500);
        assert_int_equal(encodings[i].list.n, encodings[0].list.n);
        assert_memory_equal(encodings[i].list.ids, encodings[0].list.ids,
                            encodings[0].list.n * sizeof(int32_t));
    }
    for (int i = 0; i < 3; i++)
        token_list_release(&encodings[i].list);
    tokenizer_destroy(&tokenizer);
}

static void long_pieces_take_no_quadratic_time(void **state)
{
    (void)state;
    const char *directories[] = {"tests/golden/tokenizer", "tests/golden/tokenizer_qwen2"};
    const char fill[] = {'a', ' ', '\n', '='};
    size_t n = 1 << 18;
    char *bytes = mem_alloc(n, 1);

    for (size_t i = 0; i < 8; i++) {
        struct tokenizer *tokenizer = load(directories[i / 4]);
        struct token_list list = {0};
        memset(bytes, fill[i % 4], n);
        assert_int_equal(tokenizer_encode(tokenizer, bytes, n, &list), STATUS_OK);
        assert_decodes(tokenizer, &list, bytes, n);
        token_list_release(&list);
        tokenizer_destroy(&tokenizer);
    }
    mem_free(bytes);
}

static void special_tokens_are_skipped_when_asked(void **state)
{
    (void)state;
    struct tokenizer *tokenizer = load("tests/golden/tokenizer");
    const char text[] = "<think>a</think>b<|endoftext|>";
    struct token_list list = {0};
    struct text out = {0};

    assert_int_equal(tokenizer_encode(tokenizer, text, strlen(text), &list), STATUS_OK);
    assert_int_equal(list.n, 5);
    assert_int_equal(list.ids[4], tokenizer_eos(tokenizer));
    token_list_add(&list, 1 << 20);   /* no such token: no text */
    token_list_add(&list, -1);
    tokenizer_decode(tokenizer, list.ids, list.n, 1, &out);
    assert_string_equal(out.data, "<think>a</think>b");
    token_list_release(&list);
    text_release(&out);
    tokenizer_destroy(&tokenizer);
}

static void tokens_are_found_by_their_text(void **state)
{
    (void)state;
    struct tokenizer *tokenizer = load("tests/golden/tokenizer");
    const char *json;
    size_t n;

    assert_int_equal(tokenizer_vocab_size(tokenizer), 600);
    assert_int_equal(tokenizer_find(tokenizer, "<|endoftext|>"), 593);
    assert_int_equal(tokenizer_find(tokenizer, "<think>"), 596);
    assert_int_equal(tokenizer_find(tokenizer, "!"), 0);
    assert_int_equal(tokenizer_find(tokenizer, "no such token"), -1);
    assert_int_equal(tokenizer_find(tokenizer, ""), -1);
    assert_int_equal(tokenizer_eos(tokenizer), 593);
    tokenizer_json(tokenizer, &json, &n);
    struct tokenizer *again = NULL;
    assert_int_equal(tokenizer_parse(&again, json, n, "again"), STATUS_OK);
    assert_int_equal(tokenizer_vocab_size(again), 600);
    tokenizer_destroy(&again);
    tokenizer_destroy(&tokenizer);
}

static void marks_compose_in_canonical_order(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"e\xCC\x81", "\xC3\xA9"},                                   /* e + acute */
        {"s\xCC\x87\xCC\xA3", "\xE1\xB9\xA9"},                       /* dot above, dot below */
        {"\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB", "\xED\x95\x9C"},    /* jamo -> han */
        {"\xE2\x84\xAB", "\xC3\x85"},                                /* angstrom sign */
        {"\xE0\xA5\x98", "\xE0\xA4\x95\xE0\xA4\xBC"},                /* an exclusion */
        {"\xCC\x81\x65", "\xCC\x81\x65"},                            /* a mark that leads */
        {"e\xFF\xCC\x81", "e\xFF\xCC\x81"},                          /* an invalid byte between */
        {"a\xCC\x85\xCC\x81", "a\xCC\x85\xCC\x81"},                  /* blocked by its class */
        {"\xE0\xA7\x87\xE0\xA6\xBE", "\xE0\xA7\x8B"},                /* a vowel sign of class 0 */
        {"\xEF\xAC\x81", "\xEF\xAC\x81"},                            /* compatibility stays */
        {"x\xC3\xA9\xCC\xA3y\xCC\x81z", "x\xE1\xBA\xB9\xCC\x81\xC3\xBDz"}, /* only what is open */
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct text out = {0};
        nfc_append(&out, cases[i][0], strlen(cases[i][0]));
        assert_string_equal(out.data, cases[i][1]);
        text_release(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_those_of_hugging_face_for_the_gpt2_split),
        cmocka_unit_test(ids_are_those_of_hugging_face_for_the_qwen2_split_and_nfc),
        cmocka_unit_test(ids_are_those_of_hugging_face_for_llama3_and_its_whole_pieces),
        cmocka_unit_test(ids_are_those_of_hugging_face_for_the_three_splits_of_deepseek),
        cmocka_unit_test(ids_are_those_of_hugging_face_for_every_flag_of_added_tokens),
        cmocka_unit_test(any_bytes_come_back),
        cmocka_unit_test(a_stream_gives_whole_characters),
        cmocka_unit_test(ids_are_the_same_the_second_time),
        cmocka_unit_test(threads_share_a_tokenizer),
        cmocka_unit_test(long_pieces_take_no_quadratic_time),
        cmocka_unit_test(special_tokens_are_skipped_when_asked),
        cmocka_unit_test(tokens_are_found_by_their_text),
        cmocka_unit_test(marks_compose_in_canonical_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
