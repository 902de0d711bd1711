#include "test_verifier_support.h"

#include <stdlib.h>

#include "common/files.h"
#include "tasks/chat.h"

static char directory[] = "/tmp/hone-chat-XXXXXX";
static char path[FILE_PATH_MAX];

static int set_up(void **state)
{
    (void)state;
    return !mkdtemp(directory) || file_join(path, directory, "rows.jsonl") ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    return file_remove_tree(directory);
}

/* Context: the tokens that there are, one after another, each in brackets. */
static int has_token(const void *context, const char *token)
{
    char wanted[64];

    snprintf(wanted, sizeof(wanted), "[%s]", token);
    return strstr(context, wanted) != NULL;
}

#define DEEPSEEK_TOKENS "[<｜begin▁of▁sentence｜>][<｜end▁of▁sentence｜>]"
#define LLAMA_TOKENS "[<|begin_of_text|>][<|eot_id|>][<|end_of_text|>]"

static void init_bound(struct chat_template *template, const char *name, const char *tokens,
                       const char *eos)
{
    assert_int_equal(chat_template_init(template, name), STATUS_OK);
    chat_template_bind(template, has_token, tokens, eos);
}

static void assert_document(const struct chat_template *template, const char *row,
                            const char *prompt, const char *completion)
{
    struct document_set *set;

    assert_int_equal(file_write_atomic(path, row, strlen(row)), STATUS_OK);
    if (document_set_open(&set, path, template) < 0)
        fail_msg("%s", status_reason());
    assert_string_equal(document_set_get(set, 0)->prompt.data, prompt);
    assert_string_equal(document_set_get(set, 0)->completion.data, completion);
    document_set_close(&set);
}

static void assert_ended(const struct chat_template *template, const char *row, int is_ended)
{
    struct document_set *set;

    assert_int_equal(file_write_atomic(path, row, strlen(row)), STATUS_OK);
    assert_int_equal(document_set_open(&set, path, template), STATUS_OK);
    assert_int_equal(document_set_get(set, 0)->is_ended, is_ended);
    document_set_close(&set);
}

#define ROW(answer)                                                                                \
    "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\""  \
    answer "\"}]}\n"

static void deepseek_prompts_end_in_the_reasoning_that_they_open(void **state)
{
    const char *asked = "<｜begin▁of▁sentence｜><｜User｜>q<｜Assistant｜><think>\n";
    struct chat_template template;

    (void)state;
    init_bound(&template, "deepseek_r1", DEEPSEEK_TOKENS, "<｜end▁of▁sentence｜>");
    assert_document(&template, ROW("<think>\\nhm\\n</think>\\n\\n4"), asked,
                    "hm\n</think>\n\n4");
    assert_document(&template, ROW("<think>hm</think>4"), asked, "hm</think>4");
    assert_document(&template, ROW("hm</think>4"), asked, "hm</think>4");
    assert_document(&template, ROW("4"),
                    "<｜begin▁of▁sentence｜><｜User｜>q<｜Assistant｜>",
                    "4");
    chat_template_release(&template);
}

static void qwen3_answers_always_have_a_thinking_block(void **state)
{
    const char *asked = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n";
    struct chat_template template;

    (void)state;
    assert_int_equal(chat_template_init(&template, "qwen3"), STATUS_OK);
    assert_document(&template, ROW("4"), asked, "<think>\n\n</think>\n\n4");
    assert_document(&template, ROW("<think>\\n\\nhm\\n</think>4"), asked,
                    "<think>\nhm\n</think>\n\n4");
    chat_template_release(&template);
}

static void an_opening_token_stands_where_the_tokenizer_has_it(void **state)
{
    struct chat_template template;

    (void)state;
    init_bound(&template, "llama3", "[<|im_end|>]", "");
    assert_string_equal(template.before, "<|start_header_id|>user<|end_header_id|>\n\n");
    assert_string_equal(template.system_before, "<|start_header_id|>system<|end_header_id|>\n\n");
    chat_template_release(&template);
    init_bound(&template, "plain", LLAMA_TOKENS, "<|end_of_text|>");
    assert_string_equal(template.before, "<|begin_of_text|>");
    assert_document(&template, "{\"text\":\"t\"}\n", "<|begin_of_text|>", "t");
    chat_template_bind(&template, has_token, LLAMA_TOKENS, "<|end_of_text|>");
    assert_string_equal(template.before, "<|begin_of_text|>");
    chat_template_release(&template);
    init_bound(&template, "<|begin_of_text|>{question}", LLAMA_TOKENS, "<|end_of_text|>");
    assert_string_equal(template.before, "<|begin_of_text|>");
    chat_template_release(&template);
    init_bound(&template, "chatml", LLAMA_TOKENS, "<|end_of_text|>");
    assert_string_equal(template.before, "<|im_start|>user\n");
    chat_template_release(&template);
}

static void an_answer_ends_with_its_turn_when_that_is_another_token_than_eos(void **state)
{
    struct chat_template template;

    (void)state;
    init_bound(&template, "llama3", LLAMA_TOKENS, "<|end_of_text|>");
    assert_string_equal(template.closing, "<|eot_id|>");
    chat_template_bind(&template, has_token, LLAMA_TOKENS, "<|eot_id|>");
    assert_string_equal(template.closing, "");
    chat_template_bind(&template, has_token, "[<|endoftext|>]", "<|endoftext|>");
    assert_string_equal(template.closing, "");
    chat_template_release(&template);
    init_bound(&template, "qwen2.5", "[<|im_end|>]", "<|endoftext|>");
    assert_ended(&template, ROW("4"), 1);
    assert_ended(&template, "{\"text\":\"4\"}\n", 0);
    chat_template_bind(&template, has_token, "[<|im_end|>]", "<|im_end|>");
    assert_ended(&template, ROW("4"), 0);   /* the end-of-text token comes behind it */
    chat_template_bind(&template, has_token, "[<|im_end|>]", "<|endoftext|>");
    assert_document(&template, ROW("4"),
                    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful "
                    "assistant.<|im_end|>\n<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n",
                    "4<|im_end|>");
    chat_template_release(&template);
}

static void a_second_turn_needs_a_template_that_knows_one(void **state)
{
    const char *row = "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":"
                      "\"assistant\",\"content\":\"b\"},{\"role\":\"user\",\"content\":\"c\"},"
                      "{\"role\":\"assistant\",\"content\":\"d\"}]}\n";
    struct chat_template template;
    struct document_set *set;

    (void)state;
    assert_int_equal(chat_template_init(&template, "toy"), STATUS_OK);
    assert_int_equal(file_write_atomic(path, row, strlen(row)), STATUS_OK);
    assert_int_equal(document_set_open(&set, path, &template), STATUS_FORMAT);
    assert_non_null(strstr(status_reason(), "rows.jsonl:1: 4 messages"));
    chat_template_release(&template);
    assert_int_equal(chat_template_init(&template, "chatml"), STATUS_OK);
    assert_document(&template, row,
                    "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
                    "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n", "d");
    chat_template_release(&template);
}

/* From the row of a task file to the verdict: what the template wrote counts as the model's. */
static void a_prefilled_think_is_known_to_the_format_reward(void **state)
{
    static const struct {
        const char *template, *completion;
        int is_right;
    } cases[] = {
        {"deepseek_r1", "2 and 2\n</think>\n<answer>4</answer>", 1},
        {"deepseek_r1", "<think>\n2 and 2\n</think>\n<answer>4</answer>", 0},
        {"deepseek_r1", "2 and 2\n<answer>4</answer>", 0},
        {"r1_zero_think", " 2 and 2</think> <answer>4</answer>", 1},
        {"r1_zero", "<think>2 and 2</think><answer>4</answer>", 1},
        {"r1_zero", "2 and 2</think><answer>4</answer>", 0},
        {"qwen3", "<think>\n2 and 2\n</think>\n\n<answer>4</answer>", 1},
    };
    const char *row = "{\"question\":\"2+2\",\"answer\":\"4\"}\n";

    (void)state;
    for (size_t i = 0; i < N_OF(cases); i++) {
        struct verifier_task judged = {.size = sizeof(judged),
                                       .completion = text_of(cases[i].completion)};
        struct chat_template template;
        struct verifier_verdict verdict;
        struct task_set *set;

        init_bound(&template, cases[i].template, DEEPSEEK_TOKENS, "<｜end▁of▁sentence｜>");
        assert_int_equal(file_write_atomic(path, row, strlen(row)), STATUS_OK);
        assert_int_equal(task_set_open(&set, path, "", &template, NULL), STATUS_OK);
        judged.prefill.data = task_set_get(set, 0)->prefill.data;
        judged.prefill.length = task_set_get(set, 0)->prefill.bytes;
        verdict = ask(&verifier_format, "", &judged);
        if ((verdict.outcome == VERIFIER_RIGHT) != cases[i].is_right)
            fail_msg("%s, \"%s\": %s", cases[i].template, cases[i].completion, verdict.detail);
        task_set_close(&set);
        chat_template_release(&template);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deepseek_prompts_end_in_the_reasoning_that_they_open),
        cmocka_unit_test(qwen3_answers_always_have_a_thinking_block),
        cmocka_unit_test(an_opening_token_stands_where_the_tokenizer_has_it),
        cmocka_unit_test(an_answer_ends_with_its_turn_when_that_is_another_token_than_eos),
        cmocka_unit_test(a_second_turn_needs_a_template_that_knows_one),
        cmocka_unit_test(a_prefilled_think_is_known_to_the_format_reward),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
