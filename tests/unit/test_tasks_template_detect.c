#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "common/files.h"
#include "common/json.h"
#include "common/status.h"
#include "tasks/tasks.h"

static char directory[] = "/tmp/hone-detect-XXXXXX";
static char config_path[FILE_PATH_MAX], jinja_path[FILE_PATH_MAX];

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(directory) || file_join(config_path, directory, "tokenizer_config.json"))
        return -1;
    return file_join(jinja_path, directory, "chat_template.jinja");
}

static int tear_down(void **state)
{
    (void)state;
    return file_remove_tree(directory);
}

static void write_text(const char *path, const char *text)
{
    assert_int_equal(file_write_atomic(path, text, strlen(text)), STATUS_OK);
}

/* {"chat_template": text} as Hugging Face writes it. */
static void write_config(const char *template)
{
    struct text out = {0};

    text_print(&out, "{\"bos_token\": null, \"chat_template\": ");
    json_append_string(&out, template, strlen(template));
    text_print(&out, "}\n");
    write_text(config_path, out.data);
    text_release(&out);
}

static void assert_detected(const char *template, const char *wanted)
{
    const char *name;

    write_config(template);
    if (chat_template_detect(directory, &name) < 0)
        fail_msg("%s", status_reason());
    assert_string_equal(name, wanted);
}

static void assert_unknown(const char *template)
{
    const char *name;

    write_config(template);
    assert_int_equal(chat_template_detect(directory, &name), STATUS_UNSUPPORTED);
    assert_null(name);
    assert_non_null(strstr(status_reason(), "qwen2.5"));
    assert_non_null(strstr(status_reason(), "{question}"));
}

#define CHATML_LOOP                                                                                \
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + "                   \
    "message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}"        \
    "{{ '<|im_start|>assistant\\n' }}{% endif %}"
#define QWEN_FIRST(text)                                                                           \
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\n" text                       \
    "<|im_end|>\\n' }}{% endif %}"
#define LLAMA3_TEXT                                                                                \
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = "        \
    "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | "     \
    "trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}"       \
    "{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"                           \
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"

#define DATE_OF_TODAY "{% set date_string = strftime_now(\"%d %b %Y\") %}"
#define DATED(today)                                                                               \
    "{{ bos_token }}<|start_header_id|><|eot_id|> | trim Cutting Knowledge Date: December "        \
    "2023\\n" today "{% set date_string = \"26 Jul 2024\" %}"

static void families_are_told_by_their_text(void **state)
{
    (void)state;
    assert_detected(DATED(""), "llama3.1");
    assert_detected(DATED(DATE_OF_TODAY), "llama3.1");
    assert_detected(CHATML_LOOP, "chatml");
    assert_detected(QWEN_FIRST("You are a helpful assistant.") CHATML_LOOP, "qwen2");
    assert_detected(QWEN_FIRST("You are Qwen, created by Alibaba Cloud. You are a helpful "
                               "assistant.") CHATML_LOOP, "qwen2.5");
    assert_detected(QWEN_FIRST("Please reason step by step, and put your final answer within "
                               "\\\\boxed{}.") CHATML_LOOP, "qwen2.5_math");
    assert_detected("{# ours #}" LLAMA3_TEXT, "llama3");
    assert_detected("{{bos_token}}{{ns.system_prompt}}{{'<｜User｜>' + message['content']}}"
                    "{% set content = content.split('</think>')[-1] %}"
                    "{{'<｜Assistant｜><think>\\n'}}", "deepseek_r1");
}

/* The text that Meta publishes, to the byte: it is in the table of digests. */
static void a_published_text_is_told_by_its_digest(void **state)
{
    struct digest digest;
    char hex[DIGEST_HEX_BYTES];

    (void)state;
    digest_of(&digest, LLAMA3_TEXT, strlen(LLAMA3_TEXT));
    digest_hex(&digest, hex);
    assert_string_equal(hex, "ba03a121d097859c7b5b9cd03af99aafe95275210d2876f642ad9929a150f122");
    assert_detected(LLAMA3_TEXT "\n", "llama3");
}

static void texts_that_render_otherwise_are_refused(void **state)
{
    (void)state;
    assert_unknown("{{ messages }}");
    assert_unknown(QWEN_FIRST("You are Bob.") CHATML_LOOP);
    assert_unknown("{% set think = 1 %}" CHATML_LOOP);
    assert_unknown(DATED("{% set date_string = strftime_now(1) %}"));   /* another date */
    assert_unknown(DATED(DATE_OF_TODAY) "{%- if system_message %}");     /* no date without one */
    assert_unknown("{{bos_token}}{{ns.system_prompt}}{{'<｜User｜>' + message['content']}}"
                   "{% set content = content.split('</think>')[-1] %}{{'<｜Assistant｜>'}}");
}

static void the_jinja_file_comes_first_and_lists_have_a_default(void **state)
{
    const char *name;

    (void)state;
    write_text(config_path, "{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"x\"}, "
                            "{\"name\": \"default\", \"template\": \"'<|im_start|>' + message"
                            "<|im_end|>' + '\\\\n'\"}]}");
    assert_int_equal(chat_template_detect(directory, &name), STATUS_OK);
    assert_string_equal(name, "chatml");
    write_text(jinja_path, LLAMA3_TEXT);
    assert_int_equal(chat_template_detect(directory, &name), STATUS_OK);
    assert_string_equal(name, "llama3");
    assert_int_equal(file_remove_tree(jinja_path), STATUS_OK);
}

static void a_folder_without_a_template_is_refused_by_name(void **state)
{
    const char *name;

    (void)state;
    write_text(config_path, "{\"eos_token\": \"x\"}");
    assert_int_equal(chat_template_detect(directory, &name), STATUS_UNSUPPORTED);
    assert_non_null(strstr(status_reason(), "has no chat template"));
    assert_int_equal(file_remove_tree(config_path), STATUS_OK);
    assert_int_equal(chat_template_detect(directory, &name), STATUS_UNSUPPORTED);
    write_text(config_path, "{\"chat_template\": ");
    assert_int_equal(chat_template_detect(directory, &name), STATUS_FORMAT);
    write_text(config_path, "{\"chat_template\": 7}");
    assert_int_equal(chat_template_detect(directory, &name), STATUS_UNSUPPORTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_are_told_by_their_text),
        cmocka_unit_test(a_published_text_is_told_by_its_digest),
        cmocka_unit_test(texts_that_render_otherwise_are_refused),
        cmocka_unit_test(the_jinja_file_comes_first_and_lists_have_a_default),
        cmocka_unit_test(a_folder_without_a_template_is_refused_by_name),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
