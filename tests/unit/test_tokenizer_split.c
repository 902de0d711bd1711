/* The functions for known split patterns, held against the pattern engine. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "common/random.h"
#include "common/status.h"
#include "model/tokenizer.h"
#include "model/tokenizer_internal.h"

#define ROUNDS 4000

/* Old enough that every version of Unicode in use agrees on them. */
static const char *const atoms[] = {
    "a", "b", "Z", "s", "S", "t", "re", "VE", "m", "ll", "LL", "d", "'", "'", "'s", "'Re",
    "\xC5\xBF",
    " ", " ", " ", "  ", "\t", "\n", "\r", "\r\n", "\x0B", "\x0C", "\xC2\x85", "\xC2\xA0",
    "\xE2\x80\xA8", "\xE3\x80\x80", "\xE2\x80\x83", "0", "7", "123", "4567", "\xC2\xBD", "\xC2\xB2",
    "\xD9\xA1", "\xE2\x85\xA3", "\xF0\x9D\x9F\x8E", ".", ",", "!", "(", "=", "+", "$", "_", "-",
    "~",
    "\x01", "\x7F", "\xC3\xA9", "e\xCC\x81", "\xCC\x81", "\xD0\xB4", "\xCE\xB1", "\xE5\xAD\x97",
    "\xE3\x81\x82", "\xE3\x82\xA2", "\xE3\x83\xBB", "\xE3\x82\x99", "\xED\x95\x9C", "\xD7\x90",
    "\xE0\xA4\x95", "\xE0\xA5\x8D", "\xE0\xB8\x81", "\xF0\x9F\x99\x82", "\xE2\x80\x8D",
    "\xEF\xB8\x8F", "\xE2\x82\xAC", "\xC2\xA7", "\xEE\x80\x80", "\xE9\xBE\xA5", "\xE9\xBE\xA6",
    "\xE3\x80\x81", "\xEF\xBD\xB1", "\xF0\x9D\x90\x80",
};

struct pieces {
    struct piece_sink sink;
    struct text ends;   /* lengths of the pieces */
    size_t n_bytes;
};

static void take(struct piece_sink *sink, const char *piece, size_t n)
{
    struct pieces *pieces = (struct pieces *)sink;

    (void)piece;
    pieces->n_bytes += n;
    text_print(&pieces->ends, "%zu ", n);
}

static void cut(struct tokenizer *tokenizer, int patterns_only, const char *text, size_t n,
                struct pieces *out)
{
    memset(out, 0, sizeof(*out));
    out->sink.take = take;
    tokenizer->patterns_only = patterns_only;
    if (tokenizer_pieces(tokenizer, text, n, &out->sink) < 0)
        fail_msg("%s", status_reason());
    assert_int_equal(out->n_bytes, n);
}

static void assert_same_pieces(struct tokenizer *tokenizer, const struct text *text)
{
    struct pieces fast, slow;

    cut(tokenizer, 0, text->data, text->length, &fast);
    cut(tokenizer, 1, text->data, text->length, &slow);
    if (strcmp(fast.ends.data, slow.ends.data) != 0)
        fail_msg("pieces of \"%s\": %s, but the pattern gives %s", text->data, fast.ends.data,
                 slow.ends.data);
    text_release(&fast.ends);
    text_release(&slow.ends);
}

static void fill(struct text *text, struct random_stream *random, size_t n_atoms)
{
    text_clear(text);
    for (size_t i = 0; i < n_atoms; i++) {
        const char *atom = atoms[random_below(random, sizeof(atoms) / sizeof(atoms[0]))];
        text_append(text, atom, strlen(atom));
    }
}

static void check_directory(const char *directory, int n_functions)
{
    struct tokenizer *tokenizer = NULL;
    struct random_stream random = {.seed = 21};
    struct text text = {0};
    int found = 0;

    if (tokenizer_load(&tokenizer, directory) < 0)
        fail_msg("%s", status_reason());
    for (int i = 0; i < tokenizer->n_splits; i++)
        found += tokenizer->splits[i].match != NULL;
    assert_int_equal(found, n_functions);
    tokenizer->nfc = 0;   /* lengths are compared with those of the text */
    for (int round = 0; round < ROUNDS; round++) {
        fill(&text, &random, 1 + (size_t)random_below(&random, 12));
        assert_same_pieces(tokenizer, &text);
    }
    fill(&text, &random, 20000);
    assert_same_pieces(tokenizer, &text);
    text_release(&text);
    tokenizer_destroy(&tokenizer);
}

static void gpt2_is_cut_as_its_pattern_says(void **state)
{
    (void)state;
    check_directory("tests/golden/tokenizer", 1);
}

static void qwen2_is_cut_as_its_pattern_says(void **state)
{
    (void)state;
    check_directory("tests/golden/tokenizer_qwen2", 1);
}

static void llama3_is_cut_as_its_pattern_says(void **state)
{
    (void)state;
    check_directory("tests/golden/tokenizer_llama3", 1);
}

static void deepseek_is_cut_as_its_patterns_say(void **state)
{
    (void)state;
    check_directory("tests/golden/tokenizer_deepseek", 3);
}

/* Form C of a whole text is that of its parts where nothing joins: what is skipped was plain. */
static void text_that_is_called_plain_stays_as_it_is(void **state)
{
    (void)state;
    struct random_stream random = {.seed = 4};
    int n_plain = 0, n_changed = 0;

    for (int round = 0; round < ROUNDS; round++) {
        struct text text = {0}, once = {0}, twice = {0};
        for (int i = 0; i < 4; i++) {
            utf8_append(&text, (uint32_t)random_below(&random, round % 2 ? 0xD800 : 0x250));
            if (round % 3 == 0)
                utf8_append(&text, 0x300 + (uint32_t)random_below(&random, 0x30));
        }
        nfc_append(&once, text.data, text.length);
        nfc_append(&twice, once.data, once.length);
        assert_string_equal(once.data, twice.data);
        int same = once.length == text.length && memcmp(once.data, text.data, text.length) == 0;
        assert_true(same || !nfc_is_plain(text.data, text.length));
        n_plain += nfc_is_plain(text.data, text.length);
        n_changed += !same;
        text_release(&text);
        text_release(&once);
        text_release(&twice);
    }
    assert_true(n_plain > ROUNDS / 10 && n_changed > ROUNDS / 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpt2_is_cut_as_its_pattern_says),
        cmocka_unit_test(qwen2_is_cut_as_its_pattern_says),
        cmocka_unit_test(llama3_is_cut_as_its_pattern_says),
        cmocka_unit_test(deepseek_is_cut_as_its_patterns_say),
        cmocka_unit_test(text_that_is_called_plain_stays_as_it_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
