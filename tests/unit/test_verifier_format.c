#include "test_verifier_support.h"

#include <stdio.h>

#include "reward/verifiers/format.h"

static const struct verdict_case strict_cases[] = {
    {"", "<think>a</think><answer>b</answer>", VERIFIER_RIGHT, 1},
    {"", " <think>\na\n</think>\n\n<answer>\nb\n</answer>\n", VERIFIER_RIGHT, 1},
    {"", "<think>a < b <thin</think><answer><b></answer>", VERIFIER_RIGHT, 1},
    {"", "<think>a<</think><answer>b<</answer>", VERIFIER_RIGHT, 1},
    {"", "", VERIFIER_WRONG, 0},
    {"", "a", VERIFIER_WRONG, 0},
    {"", "x<think>a</think><answer>b</answer>", VERIFIER_WRONG, 0},
    {"", "<think>a</think>x<answer>b</answer>", VERIFIER_WRONG, 0},
    {"", "<think>a</think><answer>b</answer>x", VERIFIER_WRONG, 0},
    {"", "<think>a</think><answer>b</answer", VERIFIER_WRONG, 0},
    {"", "<think> </think><answer>b</answer>", VERIFIER_WRONG, 0},
    {"", "<think>a</think><answer>\n</answer>", VERIFIER_WRONG, 0},
    {"", "<think><think>a</think><answer>b</answer>", VERIFIER_WRONG, 0},
    {"", "<think>a</think></think><answer>b</answer>", VERIFIER_WRONG, 0},
    {"", "<think>a</think><answer>b</answer><answer>c</answer>", VERIFIER_WRONG, 0},
    {"", "<think>a</think><answer>b</answer><think>", VERIFIER_WRONG, 0},
    {"", "<answer>b</answer><think>a</think>", VERIFIER_WRONG, 0},
    {"", "<think>a<answer>b</answer></think>", VERIFIER_WRONG, 0},
    {"", "<think>a<answer>b</answer>", VERIFIER_WRONG, 0},
    {"", "<THINK>a</THINK><ANSWER>b</ANSWER>", VERIFIER_WRONG, 0},
    {"", "< think>a</think><answer>b</answer>", VERIFIER_WRONG, 0},
};

static void strict_takes_the_whole_form_alone(void **state)
{
    (void)state;
    check_cases(&verifier_format, "", strict_cases, N_OF(strict_cases));
    check_cases(&verifier_format, "variant=strict\n", strict_cases, N_OF(strict_cases));
}

static void tags_earn_a_quarter_each(void **state)
{
    static const struct verdict_case cases[] = {
        {"", "<think>a</think><answer>b</answer>", VERIFIER_RIGHT, 1},
        {"", "x<answer>b</answer>", VERIFIER_WRONG, 0.5},
        {"", "<think><think>a</think><answer>b</answer>", VERIFIER_WRONG, 0.75},
        {"", "<think>", VERIFIER_WRONG, 0.25},
        {"", "", VERIFIER_WRONG, 0},
    };

    (void)state;
    check_cases(&verifier_format, "variant=tags\n", cases, N_OF(cases));
}

static void logic_rl_gives_and_takes_a_whole_point(void **state)
{
    static const struct verdict_case cases[] = {
        {"", "<think>a</think> x <answer>b</answer> y", VERIFIER_RIGHT, 1},
        {"", "<think></think><answer></answer>", VERIFIER_RIGHT, 1},
        {"", "<answer>b</answer><think>a</think>", VERIFIER_WRONG, -1},
        {"", "<think>a</think><answer>b</answer></answer>", VERIFIER_WRONG, -1},
        {"", "", VERIFIER_WRONG, -1},
    };

    (void)state;
    check_cases(&verifier_format, "variant=logic_rl\n", cases, N_OF(cases));
}

struct ported_case {
    const char *options, *text;
    double score;
};

static const struct ported_case ported_cases[] = {
    {"variant=r1\n", "<think>\na\n</think>\n<answer>\nb\n</answer>", 1},
    {"variant=r1\n", "<think>\na\n</think>\n<answer>\nb\n</answer>\nand more", 1},
    {"variant=r1\n", "<think>\n\n</think>\n<answer>\n\n</answer>", 1},
    {"variant=r1\n", "<think>\n</think>\n<answer>\nb\n</answer>", 0},
    {"variant=r1\n", "<think>\na\n</think>\n<answer>\n</answer>", 0},
    {"variant=r1\n", "<think>\na\n</think>\n<answer>\nb\n</answer> x", 0},
    {"variant=r1\n", "<think>\na\n</think>\n<answer>\nb\n</answer> x\n</answer>\n", 1},
    {"variant=r1\n", "\n<think>\na\n</think>\n<answer>\nb\n</answer>", 0},
    {"variant=r1\n", "<think>a</think>\n<answer>\nb\n</answer>", 0},
    {"variant=r1\n", "<think>\na\n</think>\n\n<answer>\nb\n</answer>", 0},
    {"variant=r1_code\nfence=c\n",
     "<think>\na\n</think>\n<answer>\n```c\nint x;\n```\n</answer>", 1},
    {"variant=r1_code\n", "<think>\na\n</think>\n<answer>\n```\nx\n```\n</answer>", 1},
    {"variant=r1_code\nfence=c\n",
     "<think>\na\n</think>\n<answer>\n`````c\nint x;\n```\n</answer>", 1},
    {"variant=r1_code\nfence=c\n",
     "<think>\na\n</think>\n<answer>\n```d\nint x;\n```\n</answer>", 0},
    {"variant=r1_code\nfence=c\n",
     "<think>\n```c\n```\n</think>\n<answer>\nb\n</answer>", 0},
    {"variant=r1_code\nfence=c\n",
     "<think>\na\n</think>\n<answer>\n```c\nint x;\n</answer>", 0},
    {"variant=tag_count\n", "<think>\na\n</think>\n<answer>\nb\n</answer>", 1},
    {"variant=tag_count\n", "<think>a</think><answer>b</answer>", 0},
    {"variant=tag_count\n", "<think>\n<think>\na\n</think>\n<answer>\nb\n</answer>", 0.75},
    {"variant=tag_count\n", "\n</answer>", 0.25},
    {"variant=trl\n", "<think>a</think>b", 1},
    {"variant=trl\n", "<think></think>", 1},
    {"variant=trl\n", "<think>a</think>b</think>", 1},
    {"variant=trl\n", "<think>a</think><think>", 0},
    {"variant=trl\n", " <think>a</think>", 0},
    {"variant=trl\n", "<think>a", 0},
    {"variant=geo3k\n", "<think>a</think> so \\boxed{1}", 1},
    {"variant=geo3k\n", "<think>\\boxed{1}</think> so 1", 0},
    {"variant=geo3k\n", "<think>a</think> so \\boxed{1", 0},
    {"variant=geo3k\n", "x<think>a</think> so \\boxed{1}", 0},
    {"variant=gsm8k\n", "a\n#### 72", 1},
    {"variant=gsm8k\n", "#### -1,000", 1},
    {"variant=gsm8k\n", "####72", 0},
    {"variant=gsm8k\n", "#### - 72", 0},
    {"variant=gsm8k\n", "#### x #### 7", 1},
    {"variant=search_r1\n", "<answer>b</answer>", 1},
    {"variant=search_r1\n", "</answer><answer>b", 0},
    {"variant=search_r1\n",
     "<answer><answer><answer><answer><answer><answer><answer><answer><answer><answer><answer>"
     "</answer>", 0.25},
    {"variant=dr_grpo\n", "a</think> <answer>b</answer>", 1},
    {"variant=dr_grpo\n", "a</think><answer>b</answer>", 0},
    {"variant=dr_grpo\n", "a</think> <answer>b", 0},
    {"variant=open_reasoner\n", "<answer>so \\boxed{1} </answer>", 1},
    {"variant=open_reasoner\n", "\\boxed{1}<answer>1</answer>", 0},
    {"variant=open_reasoner\n", "<answer>\\boxed{1</answer>", 0},
    {"variant=rllm\n", "a</think>\\boxed{\\frac{1}{2}}", 1},
    {"variant=rllm\n", "\\boxed{1}</think>1", 0},
    {"variant=rllm\n", "a</think>b</think>\\boxed{1}", 0},
    {"variant=rllm\n", "a</think>\\boxed{\\frac{1}{2}", 0},
    {"variant=rllm\n", "a</think>\\boxed{1}\\boxed{2", 0},
    {"variant=rllm\n", "a</think>\\boxed{1 \\boxed{2}", 1},
    {"variant=tinyzero\n", "a\n<answer>b</answer> x", 1},
    {"variant=tinyzero\n", "<answer>b</answer>\nx", 0},
    {"variant=tinyzero\n", "<answer>\nb</answer>", 0},
};

static void ported_rules_mean_what_their_expressions_mean(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_OF(ported_cases); i++) {
        struct verifier_verdict verdict =
            ask_text(&verifier_format, ported_cases[i].options, "", ported_cases[i].text);
        if (verdict.score != ported_cases[i].score)
            fail_msg("%s\"%s\": %g (%s), wanted %g", ported_cases[i].options, ported_cases[i].text,
                     verdict.score, verdict.detail, ported_cases[i].score);
    }
}

/* 299 characters of three bytes each behind it: characters are counted, not bytes. */
static void gsm8k_looks_at_300_characters(void **state)
{
    struct text text = {0};

    (void)state;
    text_print(&text, "#### 7");
    for (int i = 0; i < 294; i++)
        text_print(&text, "\xE2\x82\xAC");
    assert_true(ask_text(&verifier_format, "variant=gsm8k\n", "", text.data).score == 1);
    text_print(&text, "x");
    assert_true(ask_text(&verifier_format, "variant=gsm8k\n", "", text.data).score == 0);
    text_release(&text);
}

static void ported_rules_read_the_prefill_too(void **state)
{
    struct verifier_task task = {.size = sizeof(task), .prefill = text_of("<think>\n"),
                                 .completion = text_of("a\n</think>\n<answer>\nb\n</answer>")};

    (void)state;
    assert_int_equal(ask(&verifier_format, "variant=r1\n", &task).outcome, VERIFIER_RIGHT);
    assert_int_equal(ask(&verifier_format, "variant=trl\n", &task).outcome, VERIFIER_RIGHT);
    task.prefill = text_of("");
    assert_int_equal(ask(&verifier_format, "variant=r1\n", &task).outcome, VERIFIER_WRONG);
    task.completion = text_of("<think>\na\n</think>\n<answer>\nb\n</answer>");
    task.prefill = (struct verifier_text){NULL, 0};
    assert_int_equal(ask(&verifier_format, "variant=r1\n", &task).outcome, VERIFIER_RIGHT);
}

static struct verifier_verdict ask_behind(const char *prefill, const char *completion, size_t n)
{
    struct verifier_task task = {.size = sizeof(task), .completion = {completion, n},
                                 .prefill = text_of(prefill)};

    return ask(&verifier_format, "", &task);
}

static void the_prefill_counts_as_written(void **state)
{
    static const char rest[] = "a</think><answer>b</answer>";

    (void)state;
    assert_int_equal(ask_behind("<think>", rest, strlen(rest)).outcome, VERIFIER_RIGHT);
    assert_int_equal(ask_behind("<thi", "nk>a</think><answer>b</answer>", 30).outcome,
                     VERIFIER_RIGHT);
    assert_int_equal(ask_behind("", rest, strlen(rest)).outcome, VERIFIER_WRONG);
    assert_int_equal(ask_behind("<think>", "<think>a</think><answer>b</answer>", 34).outcome,
                     VERIFIER_WRONG);
}

static void what_is_amiss_is_named(void **state)
{
    (void)state;
    assert_string_equal(ask_text(&verifier_format, "", "", "<think>a").detail, "no </think>");
    assert_string_equal(ask_text(&verifier_format, "", "", "hello").detail,
                        "does not begin with <think>");
}

static void any_bytes_are_taken(void **state)
{
    static const char text[] = "<think>\0\xFF</think><answer>\0</answer>";
    size_t n = (size_t)1 << 20;
    char *large = mem_alloc(n, 1);

    (void)state;
    assert_int_equal(ask_behind("", text, sizeof(text) - 1).outcome, VERIFIER_RIGHT);
    memset(large, '<', n);
    assert_int_equal(ask_behind("", large, n).outcome, VERIFIER_WRONG);
    for (size_t i = 0; format_ported[i].name; i++) {
        struct verifier_task task = {.size = sizeof(task), .completion = {large, n}};
        char option[64];
        snprintf(option, sizeof(option), "variant=%s\n", format_ported[i].name);
        assert_int_equal(ask(&verifier_format, option, &task).outcome, VERIFIER_WRONG);
        task.completion = (struct verifier_text){NULL, 0};
        assert_int_equal(ask(&verifier_format, option, &task).outcome, VERIFIER_WRONG);
    }
    mem_free(large);
}

static void an_unknown_variant_is_refused(void **state)
{
    void *made = NULL;

    (void)state;
    assert_int_equal(verifier_format.create(NULL, text_of("variant=lax\n"), &made), STATUS_CONFIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strict_takes_the_whole_form_alone),
        cmocka_unit_test(tags_earn_a_quarter_each),
        cmocka_unit_test(logic_rl_gives_and_takes_a_whole_point),
        cmocka_unit_test(ported_rules_mean_what_their_expressions_mean),
        cmocka_unit_test(gsm8k_looks_at_300_characters),
        cmocka_unit_test(ported_rules_read_the_prefill_too),
        cmocka_unit_test(the_prefill_counts_as_written),
        cmocka_unit_test(what_is_amiss_is_named),
        cmocka_unit_test(any_bytes_are_taken),
        cmocka_unit_test(an_unknown_variant_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
