#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "common/json.h"
#include "common/random.h"
#include "common/status.h"
#include "model/tokenizer.h"

static const char *const specials[] = {"<|endoftext|>", "<pad>"};

static void train(const struct tokenizer_training *training, const char *text, struct text *json)
{
    struct tokenizer_trainer *trainer = NULL;

    if (tokenizer_trainer_create(&trainer, training) < 0 ||
        tokenizer_trainer_add(trainer, text, strlen(text)) < 0 ||
        tokenizer_trainer_finish(trainer, json) < 0)
        fail_msg("%s", status_reason());
    tokenizer_trainer_destroy(&trainer);
}

/* The merges, one blank between. */
static void merges_of(const char *text, int n_merges, struct text *out)
{
    struct tokenizer_training training = {.vocab_size = 256 + n_merges, .split = "gpt2"};
    struct text json = {0};
    json_t *root = NULL, *value;
    size_t i;

    train(&training, text, &json);
    assert_int_equal(json_parse(&root, json.data, json.length, "trained"), STATUS_OK);
    json_array_foreach(json_object_get(json_object_get(root, "model"), "merges"), i, value)
        text_print(out, "%s%s", i ? ", " : "", json_string_value(value));
    json_decref(root);
    text_release(&json);
}

static void assert_merges(const char *text, int n_merges, const char *expected)
{
    struct text merges = {0};

    merges_of(text, n_merges, &merges);
    assert_string_equal(merges.data ? merges.data : "", expected);
    text_release(&merges);
}

static void the_most_frequent_pair_is_merged_first(void **state)
{
    (void)state;
    assert_merges("abc xbc ybc zb", 2, "b c, a bc");
    assert_merges("aaabdaaabac", 3, "a a, a b, aa ab");
    assert_merges("aaaa", 5, "a a, aa aa");
    assert_merges("", 5, "");
}

static void of_equal_pairs_the_smaller_ids_are_merged(void **state)
{
    (void)state;
    assert_merges("zy", 1, "z y");
    assert_merges("dcba", 1, "b a");
    assert_merges("cb\ncd", 1, "c b");
}

static void special_tokens_come_first_and_then_the_bytes(void **state)
{
    (void)state;
    struct tokenizer_training training = {300, "llama3", specials, 2};
    struct tokenizer *tokenizer = NULL;
    struct token_list list = {0};
    struct text json = {0};

    train(&training, "hello hello hello world world", &json);
    assert_int_equal(tokenizer_parse(&tokenizer, json.data, json.length, "trained"), STATUS_OK);
    assert_int_equal(tokenizer_find(tokenizer, "<|endoftext|>"), 0);
    assert_int_equal(tokenizer_find(tokenizer, "<pad>"), 1);
    assert_int_equal(tokenizer_find(tokenizer, "!"), 2);
    assert_int_equal(tokenizer_find(tokenizer, "\xC5\x83"), 257);
    assert_int_equal(tokenizer_eos(tokenizer), 0);
    assert_int_equal(tokenizer_encode(tokenizer, "hello<|endoftext|>", 18, &list), STATUS_OK);
    assert_int_equal(list.n, 2);
    assert_int_equal(list.ids[1], 0);
    token_list_release(&list);
    text_release(&json);
    tokenizer_destroy(&tokenizer);
}

static void the_same_texts_give_the_same_bytes(void **state)
{
    (void)state;
    struct tokenizer_training training = {600, "qwen2", specials, 2};
    struct random_stream random = {.seed = 9};
    struct text text = {0}, json[2] = {{0}, {0}};

    for (int i = 0; i < 20000; i++) {
        static const char letters[] = "abcdefg  \n01.";
        text_append(&text, &letters[random_below(&random, sizeof(letters) - 1)], 1);
    }
    train(&training, text.data, &json[0]);
    train(&training, text.data, &json[1]);
    assert_int_equal(json[0].length, json[1].length);
    assert_memory_equal(json[0].data, json[1].data, json[0].length);
    struct tokenizer *tokenizer = NULL;
    assert_int_equal(tokenizer_parse(&tokenizer, json[0].data, json[0].length, "trained"),
                     STATUS_OK);
    assert_int_equal(tokenizer_vocab_size(tokenizer), 600);
    struct token_list list = {0};
    struct text back = {0};
    assert_int_equal(tokenizer_encode(tokenizer, text.data, text.length, &list), STATUS_OK);
    assert_true(list.n < text.length * 2 / 3);
    tokenizer_decode(tokenizer, list.ids, list.n, 0, &back);
    assert_string_equal(back.data, text.data);
    token_list_release(&list);
    text_release(&back);
    text_release(&text);
    text_release(&json[0]);
    text_release(&json[1]);
    tokenizer_destroy(&tokenizer);
}

static void assert_refused(const struct tokenizer_training *training, const char *reason)
{
    struct tokenizer_trainer *trainer = NULL;

    assert_int_equal(tokenizer_trainer_create(&trainer, training), STATUS_CONFIG);
    assert_null(trainer);
    if (!strstr(status_reason(), reason))
        fail_msg("\"%s\" has no \"%s\"", status_reason(), reason);
}

static void what_cannot_be_trained_is_refused(void **state)
{
    (void)state;
    static const char *const twice[] = {"<a>", "<a>"}, *const one[] = {"a"};
    static const char *const bad[] = {"<\xFF>"};

    assert_refused(&(struct tokenizer_training){257, "gpt2", specials, 2}, "need 258");
    assert_refused(&(struct tokenizer_training){300, "words", NULL, 0}, "words");
    assert_refused(&(struct tokenizer_training){300, "gpt2", twice, 2}, "twice");
    assert_refused(&(struct tokenizer_training){300, "gpt2", one, 1}, "more than one character");
    assert_refused(&(struct tokenizer_training){300, "gpt2", bad, 1}, "UTF-8");
    assert_refused(&(struct tokenizer_training){2000000, "gpt2", NULL, 0}, "1000000");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_most_frequent_pair_is_merged_first),
        cmocka_unit_test(of_equal_pairs_the_smaller_ids_are_merged),
        cmocka_unit_test(special_tokens_come_first_and_then_the_bytes),
        cmocka_unit_test(the_same_texts_give_the_same_bytes),
        cmocka_unit_test(what_cannot_be_trained_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
