#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "common/status.h"
#include "model/tokenizer.h"
#include "model/tokenizer_internal.h"

/* tokenizer.json files made up here. Single quotes stand for double ones. */

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

static void a_zero_byte_ends_no_added_token(void **state)
{
    (void)state;
    struct tokenizer *tokenizer = NULL;
    struct token_list list = {0};

    assert_int_equal(parse(&tokenizer, "{'added_tokens':[{'id':7,'content':'<x'},"
                           "{'id':8,'content':'<xy'}]," STAGES ",'model':{'vocab':{'a':0,"
                           "'\u0100':1},'merges':[]}}"), STATUS_OK);
    assert_int_equal(tokenizer_encode(tokenizer, "<x\0\0<xya", 8, &list), STATUS_OK);
    assert_int_equal(list.n, 5);
    assert_int_equal(list.ids[0], 7);
    assert_int_equal(list.ids[1], 1);
    assert_int_equal(list.ids[3], 8);
    token_list_release(&list);
    tokenizer_destroy(&tokenizer);
}

static void flags_of_added_tokens_are_obeyed(void **state)
{
    (void)state;
#define BLANK(flags) "{'added_tokens':[{'id':7,'content':'ab'," flags "}]," STAGES                 \
    ",'model':{'vocab':{'a':0,'b':1,'\u0120':2,'\u00c3':3,'\u00a9':4},'merges':[]}}"
    assert_ids(BLANK("'lstrip':false"), "a  ab  b", "0 2 2 7 2 2 1");
    assert_ids(BLANK("'lstrip':true"), "a  ab  b", "0 7 2 2 1");
    assert_ids(BLANK("'rstrip':true"), "a  ab  b", "0 2 2 7 1");
    assert_ids(BLANK("'lstrip':true,'rstrip':true"), "  ab ab ", "7 7");
    assert_ids(BLANK("'single_word':true"), "ab", "7");
    assert_ids(BLANK("'single_word':true"), "aab ab abb", "0 0 1 2 7 2 0 1 1");
    assert_ids(BLANK("'single_word':true"), "\xC3\xA9" "ab", "3 4 0 1");
}

static void removed_splits_drop_text(void **state)
{
    (void)state;
#define REMOVED(invert) "{'pre_tokenizer':{'type':'Sequence','pretokenizers':["                    \
    "{'type':'Split','pattern':{'Regex':'b'},'behavior':'Removed','invert':" invert "},"           \
    "{'type':'ByteLevel','add_prefix_space':false,'use_regex':false}]},"                           \
    "'decoder':{'type':'ByteLevel'}," AB "}"
    assert_ids(REMOVED("false"), "abba", "0 0");
    assert_ids(REMOVED("true"), "abba", "1 1");
}

static void a_line_ends_where_a_pattern_says_so(void **state)
{
    (void)state;
    assert_ids("{'pre_tokenizer':{'type':'Sequence','pretokenizers':["
               "{'type':'Split','pattern':{'Regex':'b$'},'behavior':'Isolated'},"
               "{'type':'ByteLevel','add_prefix_space':false,'use_regex':false}]},"
               "'decoder':{'type':'ByteLevel'},'model':{'vocab':{'a':0,'b':1,'\u010a':2,"
               "'b\u010a':3},'merges':['b \u010a']}}", "b\nab", "1 2 0 1");
}

static void a_post_processor_is_not_applied(void **state)
{
    (void)state;
    assert_ids("{'post_processor':{'type':'Sequence','processors':[{'type':'ByteLevel'},"
               "{'type':'TemplateProcessing'}]}," STAGES "," AB "}", "ab", "2");
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
    assert_refused("{'added_tokens':[{'content':'x','id':5,'lstrip':1}]," STAGES "," AB "}",
                   STATUS_FORMAT, "lstrip");
}

static void what_would_change_ids_is_refused_by_name(void **state)
{
    (void)state;
#define BYTE_LEVEL "{'type':'ByteLevel','add_prefix_space':false}"
#define DECODER "'decoder':{'type':'ByteLevel'}"
    assert_refused("{" STAGES ",'model':{'type':'Unigram'}}", STATUS_UNSUPPORTED, "Unigram");
    assert_refused("{" STAGES ",'model':{'byte_fallback':true,'vocab':{'a':0},'merges':[]}}",
                   STATUS_UNSUPPORTED, "byte_fallback");
    assert_refused("{'post_processor':{'type':'Unheard'}," STAGES "," AB "}", STATUS_UNSUPPORTED,
                   "Unheard");
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
                   "'behavior':'MergedWithNext'}," DECODER "," AB "}", STATUS_UNSUPPORTED,
                   "MergedWithNext");
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_spellings_of_merges_are_read),
        cmocka_unit_test(the_lowest_rank_merges_first_and_the_leftmost_of_equals),
        cmocka_unit_test(of_equal_merges_the_last_counts),
        cmocka_unit_test(ignore_merges_takes_a_whole_piece),
        cmocka_unit_test(the_longest_added_token_wins),
        cmocka_unit_test(a_zero_byte_ends_no_added_token),
        cmocka_unit_test(flags_of_added_tokens_are_obeyed),
        cmocka_unit_test(removed_splits_drop_text),
        cmocka_unit_test(a_line_ends_where_a_pattern_says_so),
        cmocka_unit_test(a_post_processor_is_not_applied),
        cmocka_unit_test(splits_run_one_after_the_other),
        cmocka_unit_test(a_pattern_that_matches_nothing_ends),
        cmocka_unit_test(a_byte_without_token_is_named),
        cmocka_unit_test(hostile_files_are_refused),
        cmocka_unit_test(hostile_added_tokens_are_refused),
        cmocka_unit_test(what_would_change_ids_is_refused_by_name),
        cmocka_unit_test(a_missing_file_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
