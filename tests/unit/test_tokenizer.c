#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
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

/* ---- Files made up here. Single quotes stand for double ones. */

#define STAGES                                                                                     \
    "'pre_tokenizer':{'type':'ByteLevel','add_prefix_space':false,'use_regex':false},"             \
    "'decoder':{'type':'ByteLevel'}"
#define AB "'model':{'type':'BPE','vocab':{'a':0,'b':1,'ab':2},'merges':['a b']}"

static int parse(struct tokenizer **out, const char *source)
{
    char *json = mem_copy_text(source);

    for (char *at = json; *at; at++)
        if (*at == '\'')
            *at = '"';
    int status = tokenizer_parse(out, json, strlen(json), "file");
    mem_free(json);
    return status;
}

static void assert_ids(const char *source, const char *text, const char *expected)
{
    struct tokenizer *tokenizer = NULL;
    struct token_list list = {0};
    struct text ids = {0};

    if (parse(&tokenizer, source) < 0)
        fail_msg("%s", status_reason());
    assert_int_equal(tokenizer_encode(tokenizer, text, strlen(text), &list), STATUS_OK);
    for (size_t i = 0; i < list.n; i++)
        text_print(&ids, "%s%d", i ? " " : "", (int)list.ids[i]);
    assert_string_equal(ids.data ? ids.data : "", expected);
    text_release(&ids);
    token_list_release(&list);
    tokenizer_destroy(&tokenizer);
}

static void assert_refused(const char *source, int status, const char *reason)
{
    struct tokenizer *tokenizer = NULL;

    assert_int_equal(parse(&tokenizer, source), status);
    assert_null(tokenizer);
    if (!strstr(status_reason(), reason))
        fail_msg("\"%s\" has no \"%s\"", status_reason(), reason);
}

static void both_spellings_of_merges_are_read(void **state)
{
    (void)state;
    assert_ids("{" STAGES "," AB "}", "abba", "2 1 0");
    assert_ids("{" STAGES ",'model':{'vocab':{'a':0,'b':1,'ab':2},'merges':[['a','b']]}}", "aba",
               "2 0");
}

static void the_lowest_rank_merges_first_and_the_leftmost_of_equals(void **state)
{
    (void)state;
    const char *model = "{" STAGES ",'model':{'vocab':{'a':0,'b':1,'c':2,'ab':3,'bc':4,'aa':5},"
                        "'merges':['b c','a b','a a']}}";

    assert_ids(model, "abc", "0 4");
    assert_ids(model, "ab", "3");
    assert_ids(model, "aaa", "5 0");
}

static void of_equal_merges_the_last_counts(void **state)
{
    (void)state;
    assert_ids("{" STAGES ",'model':{'vocab':{'a':0,'b':1,'c':2,'ab':3,'bc':4},"
               "'merges':['a b','b c','a b']}}", "abc", "0 4");
}

static void ignore_merges_takes_a_whole_piece(void **state)
{
    (void)state;
    const char *with = "{" STAGES ",'model':{'ignore_merges':true,'vocab':{'a':0,'b':1,'aba':2},"
                       "'merges':[]}}";
    const char *without = "{" STAGES ",'model':{'vocab':{'a':0,'b':1,'aba':2},'merges':[]}}";

    assert_ids(with, "aba", "2");
    assert_ids(with, "abab", "0 1 0 1");
    assert_ids(without, "aba", "0 1 0");
}

static void the_longest_added_token_wins(void **state)
{
    (void)state;
    assert_ids("{'added_tokens':[{'id':7,'content':'<x'},{'id':8,'content':'<xy'},"
               "{'id':9,'content':'<xyz>','special':true}]," STAGES "," AB "}",
               "a<xa<xyb<xyz>", "0 7 0 8 1 9");
    assert_ids("{'added_tokens':[{'id':7,'content':'a','normalized':true},"
               "{'id':8,'content':'ba','normalized':false}]," STAGES
               ",'model':{'vocab':{'b':1},'merges':[]}}", "abab", "7 8 1");
}

static void splits_run_one_after_the_other(void **state)
{
    (void)state;
    assert_ids("{'pre_tokenizer':{'type':'Sequence','pretokenizers':["
               "{'type':'Digits','individual_digits':true},"
               "{'type':'Split','pattern':{'String':'b'},'behavior':'Isolated'},"
               "{'type':'ByteLevel','add_prefix_space':false,'use_regex':false}]},"
               "'decoder':{'type':'ByteLevel'},"
               "'model':{'vocab':{'a':0,'b':1,'1':2,'ab':3,'11':4,'aa':5},"
               "'merges':['a b','1 1','a a']}}", "aab11aa", "5 1 2 2 5");
}

static void a_pattern_that_matches_nothing_ends(void **state)
{
    (void)state;
    assert_ids("{'pre_tokenizer':{'type':'Sequence','pretokenizers':["
               "{'type':'Split','pattern':{'Regex':'c*'},'behavior':'Isolated'},"
               "{'type':'ByteLevel','add_prefix_space':false,'use_regex':false}]},"
               "'decoder':{'type':'ByteLevel'}," AB "}", "ab", "0 1");
}

static void a_byte_without_token_is_named(void **state)
{
    (void)state;
    struct tokenizer *tokenizer = NULL;
    struct token_list list = {0};

    assert_int_equal(parse(&tokenizer, "{" STAGES "," AB "}"), STATUS_OK);
    token_list_add(&list, 42);
    assert_int_equal(tokenizer_encode(tokenizer, "ac", 2, &list), STATUS_FORMAT);
    assert_non_null(strstr(status_reason(), "0x63"));
    assert_int_equal(list.n, 1);
    token_list_release(&list);
    tokenizer_destroy(&tokenizer);
}

static void hostile_files_are_refused(void **state)
{
    (void)state;
    assert_refused("[]", STATUS_FORMAT, "not a JSON object");
    assert_refused("{", STATUS_FORMAT, "not valid JSON");
    assert_refused("{}", STATUS_FORMAT, "\"model\"");
    assert_refused("{" STAGES ",'model':{'vocab':[],'merges':[]}}", STATUS_FORMAT, "\"vocab\"");
    assert_refused("{" STAGES ",'model':{'vocab':{'a':-1},'merges':[]}}", STATUS_FORMAT, "\"a\"");
    assert_refused("{" STAGES ",'model':{'vocab':{'a':10000001},'merges':[]}}", STATUS_FORMAT,
                   "\"a\"");
    assert_refused("{" STAGES ",'model':{'vocab':{'a':1.5},'merges':[]}}", STATUS_FORMAT, "\"a\"");
    assert_refused("{" STAGES ",'model':{'vocab':{'a':3,'b':3},'merges':[]}}", STATUS_FORMAT,
                   "id 3 belongs to both");
    assert_refused("{" STAGES ",'model':{'vocab':{'a':3}}}", STATUS_FORMAT, "\"merges\"");
    assert_refused("{" STAGES ",'model':{'vocab':{'a':3},'merges':['a b']}}", STATUS_FORMAT,
                   "\"b\"");
    assert_refused("{" STAGES ",'model':{'vocab':{'a':3,'b':4},'merges':['a b']}}", STATUS_FORMAT,
                   "\"ab\"");
    assert_refused("{" STAGES ",'model':{'vocab':{'a':3},'merges':['a']}}", STATUS_FORMAT,
                   "merge 0");
    assert_refused("{" STAGES ",'model':{'vocab':{'a':3},'merges':['a a a']}}", STATUS_FORMAT,
                   "merge 0");
    assert_refused("{" STAGES ",'model':{'vocab':{'a':3},'merges':[7]}}", STATUS_FORMAT,
                   "merge 0");
}

static void hostile_added_tokens_are_refused(void **state)
{
    (void)state;
    assert_refused("{'added_tokens':7," STAGES "," AB "}", STATUS_FORMAT, "added_tokens");
    assert_refused("{'added_tokens':[7]," STAGES "," AB "}", STATUS_FORMAT, "content");
    assert_refused("{'added_tokens':[{'content':'x'}]," STAGES "," AB "}", STATUS_FORMAT, "\"x\"");
    assert_refused("{'added_tokens':[{'content':'x','id':-5}]," STAGES "," AB "}", STATUS_FORMAT,
                   "\"x\"");
    assert_refused("{'added_tokens':[{'content':'x','id':1}]," STAGES "," AB "}", STATUS_FORMAT,
                   "id 1 belongs to both");
    assert_refused("{'added_tokens':[{'content':'a','id':5}]," STAGES "," AB "}", STATUS_FORMAT,
                   "has id 5");
    assert_refused("{'added_tokens':[{'content':'','id':5}]," STAGES "," AB "}", STATUS_FORMAT,
                   "0 bytes");
    assert_refused("{'added_tokens':[{'content':'x','id':5},{'content':'x','id':6}]," STAGES ","
                   AB "}", STATUS_FORMAT, "two ids");
    assert_refused("{'added_tokens':[{'content':'a','id':0},{'content':'a','id':0}]," STAGES ","
                   AB "}", STATUS_FORMAT, "belongs to both");
    assert_refused("{'added_tokens':[{'content':'x','id':5,'lstrip':true}]," STAGES "," AB "}",
                   STATUS_UNSUPPORTED, "lstrip");
}

static void what_would_change_ids_is_refused_by_name(void **state)
{
    (void)state;
#define BYTE_LEVEL "{'type':'ByteLevel','add_prefix_space':false}"
#define DECODER "'decoder':{'type':'ByteLevel'}"
    assert_refused("{" STAGES ",'model':{'type':'Unigram'}}", STATUS_UNSUPPORTED, "Unigram");
    assert_refused("{" STAGES ",'model':{'byte_fallback':true}}", STATUS_UNSUPPORTED,
                   "byte_fallback");
    assert_refused("{" STAGES ",'model':{'dropout':0.1}}", STATUS_UNSUPPORTED, "dropout");
    assert_refused("{" STAGES ",'model':{'end_of_word_suffix':'</w>'}}", STATUS_UNSUPPORTED,
                   "end_of_word_suffix");
    assert_refused("{" STAGES ",'model':{'unk_token':'a','vocab':{'a':0},'merges':[]}}",
                   STATUS_UNSUPPORTED, "unk_token");
    assert_refused("{'normalizer':{'type':'Lowercase'}," STAGES "," AB "}", STATUS_UNSUPPORTED,
                   "Lowercase");
    assert_refused("{'truncation':{'max_length':5}," STAGES "," AB "}", STATUS_UNSUPPORTED,
                   "truncation");
    assert_refused("{" DECODER "," AB "}", STATUS_UNSUPPORTED, "pre_tokenizer");
    assert_refused("{'pre_tokenizer':{'type':'Metaspace'}," DECODER "," AB "}", STATUS_UNSUPPORTED,
                   "Metaspace");
    assert_refused("{'pre_tokenizer':{'type':'ByteLevel','add_prefix_space':true}," DECODER "," AB
                   "}", STATUS_UNSUPPORTED, "add_prefix_space");
    assert_refused("{'pre_tokenizer':{'type':'Sequence','pretokenizers':[" BYTE_LEVEL ","
                   BYTE_LEVEL "]}," DECODER "," AB "}", STATUS_UNSUPPORTED, "after ByteLevel");
    assert_refused("{'pre_tokenizer':{'type':'Split','pattern':{'Regex':'('},"
                   "'behavior':'Isolated'}," DECODER "," AB "}", STATUS_FORMAT, "pattern");
    assert_refused("{'pre_tokenizer':{'type':'Split','pattern':{'Regex':'a'},"
                   "'behavior':'Removed'}," DECODER "," AB "}", STATUS_UNSUPPORTED, "Removed");
    assert_refused("{'pre_tokenizer':" BYTE_LEVEL "," AB "}", STATUS_UNSUPPORTED, "decoder");
    assert_refused("{'pre_tokenizer':" BYTE_LEVEL ",'decoder':{'type':'WordPiece'}," AB "}",
                   STATUS_UNSUPPORTED, "WordPiece");
}

static void a_missing_file_is_named(void **state)
{
    (void)state;
    struct tokenizer *tokenizer = NULL;

    assert_int_equal(tokenizer_load(&tokenizer, "/nonexistent"), STATUS_IO);
    assert_non_null(strstr(status_reason(), "/nonexistent/tokenizer.json"));
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
        {"\xEF\xAC\x81", "\xEF\xAC\x81"},                            /* compatibility stays */
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
        cmocka_unit_test(any_bytes_come_back),
        cmocka_unit_test(long_pieces_take_no_quadratic_time),
        cmocka_unit_test(special_tokens_are_skipped_when_asked),
        cmocka_unit_test(tokens_are_found_by_their_text),
        cmocka_unit_test(both_spellings_of_merges_are_read),
        cmocka_unit_test(the_lowest_rank_merges_first_and_the_leftmost_of_equals),
        cmocka_unit_test(of_equal_merges_the_last_counts),
        cmocka_unit_test(ignore_merges_takes_a_whole_piece),
        cmocka_unit_test(the_longest_added_token_wins),
        cmocka_unit_test(splits_run_one_after_the_other),
        cmocka_unit_test(a_pattern_that_matches_nothing_ends),
        cmocka_unit_test(a_byte_without_token_is_named),
        cmocka_unit_test(hostile_files_are_refused),
        cmocka_unit_test(hostile_added_tokens_are_refused),
        cmocka_unit_test(what_would_change_ids_is_refused_by_name),
        cmocka_unit_test(a_missing_file_is_named),
        cmocka_unit_test(marks_compose_in_canonical_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
