#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "common/json.h"
#include "common/status.h"
#include "model/tokenizer.h"
#include "tasks/chat.h"

#define GOLDEN "tests/golden/chat"

static struct tokenizer *tokenizer;
static json_t *root;

static int set_up(void **state)
{
    (void)state;
    TRY(tokenizer_load(&tokenizer, GOLDEN));
    return json_read_file(&root, GOLDEN "/cases.json", (size_t)1 << 24);
}

static int tear_down(void **state)
{
    (void)state;
    tokenizer_destroy(&tokenizer);
    json_decref(root);
    return 0;
}

static int has_token(const void *context, const char *token)
{
    return tokenizer_find(context, token) >= 0;
}

static const char *string_of(const json_t *test, const char *key)
{
    return json_string_value(json_object_get(test, key));
}

/* The conversation of a case, rendered; bound as if the family's turn end were the EOS. */
static void render(const json_t *test, struct chat_template *template, enum chat_role last,
                   struct text *prompt, struct text *completion)
{
    json_t *messages = json_deep_copy(json_object_get(test, "messages"));
    struct chat chat;
    size_t n_prefill;

    assert_int_equal(chat_template_init(template, string_of(test, "template")), STATUS_OK);
    chat_template_bind(template, has_token, tokenizer, template->turn_end);
    if (last == CHAT_USER)
        json_array_remove(messages, json_array_size(messages) - 1);
    assert_int_equal(chat_read(&chat, messages, "messages", last, "golden"), STATUS_OK);
    assert_int_equal(chat_render(template, &chat, "golden", prompt,
                                 last == CHAT_USER ? NULL : completion, &n_prefill), STATUS_OK);
    assert_true(n_prefill <= prompt->length);
    chat_release(&chat);
    json_decref(messages);
}

static void a_prompt_reads_as_transformers_renders_it(void **state)
{
    const json_t *test;
    size_t i;

    (void)state;
    json_array_foreach(json_object_get(root, "cases"), i, test) {
        struct chat_template template;
        struct text prompt = {0};

        render(test, &template, CHAT_USER, &prompt, NULL);
        assert_string_equal(prompt.data, string_of(test, "prompt"));
        text_release(&prompt);
        chat_template_release(&template);
    }
    assert_true(i >= 80);
}

static void prompt_and_completion_make_the_whole_conversation(void **state)
{
    const json_t *test;
    size_t i;

    (void)state;
    json_array_foreach(json_object_get(root, "cases"), i, test) {
        struct text prompt = {0}, completion = {0};
        struct chat_template template;

        render(test, &template, CHAT_ASSISTANT, &prompt, &completion);
        text_print(&prompt, "%s%s%s", completion.data, template.turn_end, template.turn_gap);
        assert_string_equal(prompt.data, string_of(test, "whole"));
        text_release(&prompt);
        text_release(&completion);
        chat_template_release(&template);
    }
}

static void append(struct token_list *list, const char *text, size_t n)
{
    assert_int_equal(tokenizer_encode(tokenizer, text, n, list), STATUS_OK);
}

/* What is learned is [n_prompt, n_prompt + n_completion + 1): the mask is transformers' own. */
static void tokens_made_apart_are_those_of_the_whole_and_the_mask_is_exact(void **state)
{
    const json_t *test;
    size_t i, n_masks = 0;

    (void)state;
    json_array_foreach(json_object_get(root, "cases"), i, test) {
        const json_t *ids = json_object_get(test, "ids");
        const json_t *learned = json_object_get(test, "learned");
        struct text prompt = {0}, completion = {0};
        struct token_list list = {0};
        struct chat_template template;

        render(test, &template, CHAT_ASSISTANT, &prompt, &completion);
        append(&list, prompt.data, prompt.length);
        int64_t first = (int64_t)list.n;
        append(&list, completion.data, completion.length);
        append(&list, template.turn_end, strlen(template.turn_end));
        int64_t end = (int64_t)list.n;
        append(&list, template.turn_gap, strlen(template.turn_gap));
        assert_int_equal(list.n, json_array_size(ids));
        for (size_t t = 0; t < list.n; t++)
            assert_int_equal(list.ids[t], json_integer_value(json_array_get(ids, t)));
        if (learned) {
            n_masks++;
            assert_int_equal(first, json_integer_value(json_array_get(learned, 0)));
            assert_int_equal(end, json_integer_value(json_array_get(learned, 1)));
        }
        token_list_release(&list);
        text_release(&prompt);
        text_release(&completion);
        chat_template_release(&template);
    }
    assert_true(n_masks >= 75);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_reads_as_transformers_renders_it),
        cmocka_unit_test(prompt_and_completion_make_the_whole_conversation),
        cmocka_unit_test(tokens_made_apart_are_those_of_the_whole_and_the_mask_is_exact),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
