#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/status.h"
#include "tasks/toy.h"

#define FIRST_BYTE 5
#define FIRST_MERGED (FIRST_BYTE + 256)
#define MAX_IDS 256

static struct text text;
static json_t *root, *vocab, *merges;
static const char *spelling[1024];   /* by id */
static int n_tokens;
static int merge_pairs[1024][2];     /* ids, by rank */
static int n_merges;

static int id_of(const char *token, size_t n)
{
    const json_t *id = json_object_getn(vocab, token, n);

    return json_is_integer(id) ? (int)json_integer_value(id) : -1;
}

static int set_up(void **state)
{
    const char *key;
    json_t *value;
    size_t i;

    (void)state;
    toy_tokenizer_write(&text);
    if (json_parse(&root, text.data, text.length, "tokenizer.json"))
        return -1;
    vocab = json_object_get(json_object_get(root, "model"), "vocab");
    merges = json_object_get(json_object_get(root, "model"), "merges");
    json_object_foreach(vocab, key, value)
    {
        spelling[json_integer_value(value)] = key;
        n_tokens++;
    }
    json_array_foreach(merges, i, value)
    {
        const char *merge = json_string_value(value), *blank = strchr(merge, ' ');

        merge_pairs[i][0] = id_of(merge, (size_t)(blank - merge));
        merge_pairs[i][1] = id_of(blank + 1, strlen(blank + 1));
        n_merges++;
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    json_decref(root);
    text_release(&text);
    return 0;
}

static void ids_are_unique_and_without_gaps(void **state)
{
    char seen[1024] = {0};
    const char *key;
    json_t *value;

    (void)state;
    assert_in_range(n_tokens, 300, 340);
    json_object_foreach(vocab, key, value)
    {
        assert_in_range(json_integer_value(value), 0, n_tokens - 1);
        assert_int_equal(seen[json_integer_value(value)]++, 0);
    }
}

static void end_of_text_alone_is_special_and_tags_are_added(void **state)
{
    static const char *const wanted[] = {"<|endoftext|>", "<think>", "</think>", "<answer>",
                                         "</answer>"};
    const json_t *added = json_object_get(root, "added_tokens");

    (void)state;
    assert_int_equal(json_array_size(added), 5);
    for (int i = 0; i < 5; i++) {
        const json_t *token = json_array_get(added, (size_t)i);

        assert_int_equal(json_integer_value(json_object_get(token, "id")), i);
        assert_string_equal(json_string_value(json_object_get(token, "content")), wanted[i]);
        assert_int_equal(json_is_true(json_object_get(token, "special")), i == 0);
        assert_int_equal(id_of(wanted[i], strlen(wanted[i])), i);
    }
}

static void bytes_have_the_spelling_of_byte_level_vocabularies(void **state)
{
    (void)state;
    assert_string_equal(spelling[FIRST_BYTE + 'A'], "A");
    assert_string_equal(spelling[FIRST_BYTE + '~'], "~");
    assert_string_equal(spelling[FIRST_BYTE + 0], "\xC4\x80");       /* U+0100 */
    assert_string_equal(spelling[FIRST_BYTE + '\n'], "\xC4\x8A");    /* U+010A */
    assert_string_equal(spelling[FIRST_BYTE + ' '], "\xC4\xA0");     /* U+0120 */
    assert_string_equal(spelling[FIRST_BYTE + 127], "\xC4\xA1");     /* U+0121 */
    assert_string_equal(spelling[FIRST_BYTE + 160], "\xC5\x82");     /* U+0142 */
    assert_string_equal(spelling[FIRST_BYTE + 161], "\xC2\xA1");     /* U+00A1 */
    assert_string_equal(spelling[FIRST_BYTE + 173], "\xC5\x83");     /* U+0143 */
    assert_string_equal(spelling[FIRST_BYTE + 255], "\xC3\xBF");     /* U+00FF */
}

static void every_merge_joins_two_tokens_to_the_next_one(void **state)
{
    (void)state;
    assert_int_equal(n_merges, n_tokens - FIRST_MERGED);
    for (int i = 0; i < n_merges; i++) {
        struct text joined = {0};

        assert_in_range(merge_pairs[i][0], FIRST_BYTE, FIRST_MERGED + i - 1);
        assert_in_range(merge_pairs[i][1], FIRST_BYTE, FIRST_MERGED + i - 1);
        text_print(&joined, "%s%s", spelling[merge_pairs[i][0]], spelling[merge_pairs[i][1]]);
        assert_string_equal(joined.data, spelling[FIRST_MERGED + i]);
        text_release(&joined);
    }
}

static void digits_and_operators_are_in_no_merge(void **state)
{
    (void)state;
    for (const char *c = "0123456789+-*/"; *c; c++)
        for (int i = 0; i < n_merges; i++)
            assert_null(strchr(spelling[FIRST_MERGED + i], *c));
}

/* Plain BPE by rank. */
static int encode(const char *bytes, int ids[MAX_IDS])
{
    int n = (int)strlen(bytes);

    assert_true(n < MAX_IDS);
    for (int i = 0; i < n; i++)
        ids[i] = FIRST_BYTE + (unsigned char)bytes[i];
    for (int rank = 0; rank < n_merges; rank++)
        for (int i = 0; i + 1 < n; i++)
            if (ids[i] == merge_pairs[rank][0] && ids[i + 1] == merge_pairs[rank][1]) {
                ids[i] = FIRST_MERGED + rank;
                memmove(&ids[i + 1], &ids[i + 2], (size_t)(n - i - 2) * sizeof(*ids));
                n--;
            }
    return n;
}

static void frequent_snippets_are_one_token(void **state)
{
    static const char *const snippets[] = {
        "\nA ",  "Q ",     " then ", " so ", " next ", " 然后 ", " 所以 ", " 接着 ",
        " mod ", " make ", " yes",   " no",  "f(",     ")=",     " f(",    "int f(int x){return x",
        ";}",    " of "};
    int ids[MAX_IDS];

    (void)state;
    for (size_t i = 0; i < sizeof(snippets) / sizeof(snippets[0]); i++)
        if (encode(snippets[i], ids) != 1)
            fail_msg("\"%s\" is %d tokens", snippets[i], encode(snippets[i], ids));
}

static void a_prompt_has_the_same_tokens_alone_and_with_its_answer(void **state)
{
    static const char *const prompts[] = {"Q 3+8 mod 10\nA ", "Q f(1)=2 f(3)=4 f(5)=6\nA ",
                                          "Q ant has legs\nA ", "Q 1 2 3 make 6\nA "};
    static const char *const replies[] = {"=4", "3+8=1", "int f(int x){return x+1;}", "no", " no",
                                          "f(1", "then ", "\nA ", "A ", "\xE7\x84\xB6"};
    int apart[MAX_IDS], together[MAX_IDS];

    (void)state;
    for (size_t p = 0; p < sizeof(prompts) / sizeof(prompts[0]); p++)
        for (size_t r = 0; r < sizeof(replies) / sizeof(replies[0]); r++) {
            char whole[128];
            int n = encode(prompts[p], apart);

            n += encode(replies[r], apart + n);
            snprintf(whole, sizeof(whole), "%s%s", prompts[p], replies[r]);
            assert_int_equal(encode(whole, together), n);
            assert_memory_equal(apart, together, (size_t)n * sizeof(int));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_unique_and_without_gaps),
        cmocka_unit_test(end_of_text_alone_is_special_and_tags_are_added),
        cmocka_unit_test(bytes_have_the_spelling_of_byte_level_vocabularies),
        cmocka_unit_test(every_merge_joins_two_tokens_to_the_next_one),
        cmocka_unit_test(digits_and_operators_are_in_no_merge),
        cmocka_unit_test(frequent_snippets_are_one_token),
        cmocka_unit_test(a_prompt_has_the_same_tokens_alone_and_with_its_answer),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
