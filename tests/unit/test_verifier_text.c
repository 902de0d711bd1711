/* What is measured on the text alone: language, repetition, exact, preference. */
#include "test_verifier_support.h"

#include "common/memory.h"

struct share_case {
    const char *text, *language;
    double share;
};

static void words_are_counted_by_script(void **state)
{
    static const struct share_case cases[] = {
        {"so we add two numbers", "en", 1},
        {"so we add two numbers", "zh", 0},
        {"\xE6\x88\x91\xE4\xBB\xAC", "zh", 1},
        {"\xE6\x88\x91\xE4\xBB\xAC", "en", 0},
        {"two \xE6\x88\x91\xE4\xBB\xAC words", "en", 0.5},
        {"\xD0\xB4\xD0\xB0 yes", "ru", 0.5},
        {"\xED\x95\x9C\xEA\xB5\xAD yes", "ko", 0.5},
        {"\xE3\x81\x82\xE6\x88\x91", "ja", 1},
        {"\xD9\x86\xD8\xB9\xD9\x85 yes", "ar", 0.5},
        {"caf\xC3\xA9 don't", "en", 1},
        {"", "zh", 1},
        {"1 + 2 = 3 !?", "zh", 1},
        {"$x + y$ \xE6\x88\x91", "zh", 1},
        {"\\(x + y\\) \\[z\\] \xE6\x88\x91", "zh", 1},
        {"\\frac \xE6\x88\x91", "zh", 1},
        {"```c\nint main;\n``` \xE6\x88\x91", "zh", 1},
        {"`name` \xE6\x88\x91", "zh", 1},
        {"https://example.com/page \xE6\x88\x91", "zh", 1},
        {"<think>\xE6\x88\x91</think>", "zh", 1},
        {"\xFF\xFE word", "en", 1},
        {"$5 is the price", "en", 1},
        {"word", "xx", 0},
    };

    (void)state;
    for (size_t i = 0; i < N_OF(cases); i++) {
        double share =
            reward_language_share(cases[i].text, strlen(cases[i].text), cases[i].language);
        if (share < cases[i].share - 1e-9 || share > cases[i].share + 1e-9)
            fail_msg("\"%s\" in %s: %g, not %g", cases[i].text, cases[i].language, share,
                     cases[i].share);
    }
}

static struct verifier_verdict ask_language(const char *language, const char *completion)
{
    struct verifier_task task = {.size = sizeof(task), .completion = text_of(completion),
                                 .language = text_of(language)};

    return ask(&verifier_language, "", &task);
}

static void the_language_of_the_reasoning_counts(void **state)
{
    (void)state;
    assert_int_equal(ask_language("en", "all english</think>\xE6\x88\x91").outcome, VERIFIER_RIGHT);
    struct verifier_verdict half = ask_language("en", "word \xE6\x88\x91</think>");
    assert_int_equal(half.outcome, VERIFIER_WRONG);
    assert_float_equal(half.score, 0.5, 1e-9);
    assert_int_equal(ask_language("", "\xE6\x88\x91").outcome, VERIFIER_RIGHT);
    assert_int_equal(ask_language("tlh", "word").outcome, VERIFIER_ERROR);
}

static void hostile_megabytes_are_measured(void **state)
{
    static const char *const units[] = {"$",  "\\(", "```",      "`",       "<",
                                        "\\", "h",   "https://", "\xE6\x88"};
    struct text text = {0};

    (void)state;
    for (size_t i = 0; i < N_OF(units); i++) {
        text_clear(&text);
        while (text.length < (1u << 20))
            text_append(&text, units[i], strlen(units[i]));
        double share = reward_language_share(text.data, text.length, "en");
        assert_true(share >= 0 && share <= 1);
    }
    text_release(&text);
}

static void repetition_is_the_share_of_grams_seen_before(void **state)
{
    static const char distinct[] = "abcdefghijklmnopqrstuvwxyz";
    char same[1010];

    (void)state;
    assert_float_equal(reward_repetition_share(distinct, 26), 0, 0);
    assert_float_equal(reward_repetition_share("", 0), 0, 0);
    assert_float_equal(reward_repetition_share("short", 5), 0, 0);
    /* 0123456789 twice: 11 grams, of which the last one is the first again. */
    assert_float_equal(reward_repetition_share("01234567890123456789", 20), 1.0 / 11, 1e-9);
    memset(same, 'a', sizeof(same));
    assert_float_equal(reward_repetition_share(same, sizeof(same)), 1000.0 / 1001, 1e-9);
}

static void exact_compares_bytes(void **state)
{
    static const struct verdict_case cases[] = {
        {"Paris", "<answer> Paris\n</answer>", VERIFIER_RIGHT, 1},
        {"Paris", "\\boxed{Paris}", VERIFIER_RIGHT, 1},
        {"Paris", "<answer>paris</answer>", VERIFIER_WRONG, 0},
        {"Paris", "<answer>Paris.</answer>", VERIFIER_WRONG, 0},
        {"0.5", "<answer>1/2</answer>", VERIFIER_WRONG, 0},
        {"Paris", "Paris", VERIFIER_UNREADABLE, 0},
        {" \n", "<answer>Paris</answer>", VERIFIER_ERROR, 0},
    };

    (void)state;
    check_cases(&verifier_exact, "", cases, N_OF(cases));
}

static double prefer(const char *options, const char *completion)
{
    return ask_text(&verifier_preference, options, "", completion).score;
}

static void brief_single_answers_without_repetition_are_preferred(void **state)
{
    struct text text = {0};

    (void)state;
    assert_float_equal(prefer("", "<think>long</think><answer>yes</answer>"), 1, 1e-9);
    assert_true(prefer("", "<answer>yes</answer><answer>no</answer>") <
                prefer("", "<answer>yes</answer>"));
    assert_true(prefer("", "yes") < prefer("", "<answer>yes</answer>"));
    for (int i = 0; i < 40; i++)
        text_print(&text, "again and again, ");
    text_print(&text, "<answer>yes</answer>");
    assert_true(prefer("", text.data) < 0.3);
    assert_true(prefer("target_bytes=10000\n", text.data) > prefer("", text.data));
    assert_int_equal(ask_text(&verifier_preference, "", "", " \n").outcome, VERIFIER_UNREADABLE);
    text_release(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_counted_by_script),
        cmocka_unit_test(the_language_of_the_reasoning_counts),
        cmocka_unit_test(hostile_megabytes_are_measured),
        cmocka_unit_test(repetition_is_the_share_of_grams_seen_before),
        cmocka_unit_test(exact_compares_bytes),
        cmocka_unit_test(brief_single_answers_without_repetition_are_preferred),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
