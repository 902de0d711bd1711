#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "common/files.h"
#include "common/status.h"
#include "tasks/tasks.h"

#define ASK_HELLO "{\"role\":\"user\",\"content\":\"hello\"}"
#define SYSTEM_SHORT "{\"role\":\"system\",\"content\":\"short\"}"

static char directory[] = "/tmp/hone-documents-XXXXXX";
static char path[FILE_PATH_MAX];

static int set_up(void **state)
{
    (void)state;
    return !mkdtemp(directory) || file_join(path, directory, "documents.jsonl") ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    return file_remove_tree(directory);
}

static int open_text(struct document_set **set, const char *text, const char *template)
{
    struct chat_template chat;
    int status;

    assert_int_equal(chat_template_init(&chat, template), STATUS_OK);
    assert_int_equal(file_write_atomic(path, text, strlen(text)), STATUS_OK);
    status = document_set_open(set, path, &chat);
    chat_template_release(&chat);
    return status;
}

static void assert_document(const struct document *document, const char *prompt,
                            const char *completion)
{
    assert_string_equal(document->prompt.data, prompt);
    assert_int_equal(document->prompt.bytes, strlen(prompt));
    assert_string_equal(document->completion.data, completion);
    assert_int_equal(document->completion.bytes, strlen(completion));
}

static void assert_rendered(const char *text, const char *template, const char *prompt,
                            const char *completion)
{
    struct document_set *set;

    assert_int_equal(open_text(&set, text, template), STATUS_OK);
    assert_int_equal(document_set_count(set), 1);
    assert_document(document_set_get(set, 0), prompt, completion);
    document_set_close(&set);
}

static void assert_refused(const char *text, const char *template, const char *reason_part)
{
    struct document_set *set;

    assert_int_equal(open_text(&set, text, template), STATUS_FORMAT);
    assert_null(set);
    if (!strstr(status_reason(), reason_part))
        fail_msg("\"%s\" does not hold \"%s\"", status_reason(), reason_part);
}

static void a_text_file_has_completions_alone(void **state)
{
    struct document_set *set;

    (void)state;
    assert_int_equal(open_text(&set, "{\"text\":\"one\"}\n\n{\"text\":\"zwei \\u00fc\"}\n", "toy"),
                     STATUS_OK);
    assert_int_equal(document_set_count(set), 2);
    assert_document(document_set_get(set, 0), "", "one");
    assert_document(document_set_get(set, 1), "", "zwei \xC3\xBC");
    document_set_close(&set);
    assert_null(set);
}

static void a_conversation_is_rendered_with_the_template(void **state)
{
    const char *text = "{\"messages\":[" ASK_HELLO
                       ",{\"role\":\"assistant\",\"content\":\"<think>so</think>hi\"}]}\n";

    (void)state;
    assert_rendered(text, "toy", "Q hello\nA ", "<think>so</think>hi");
    assert_rendered(text, "{question}:{prefill}<think>", "hello:<think>", "so</think>hi");
    assert_rendered(text, "{question}:{prefill}<reason>", "hello:<reason>", "<think>so</think>hi");
}

static void a_system_message_needs_a_template_that_knows_one(void **state)
{
    const char *text = "{\"messages\":[" SYSTEM_SHORT "," ASK_HELLO
                       ",{\"role\":\"assistant\",\"content\":\"hi\"}]}\n";

    (void)state;
    assert_rendered(text, "chatml",
                    "<|im_start|>system\nshort<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n"
                    "<|im_start|>assistant\n", "hi");
    assert_rendered(text, "llama3",
                    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nshort"
                    "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nhello<|eot_id|>"
                    "<|start_header_id|>assistant<|end_header_id|>\n\n", "hi");
    assert_refused(text, "toy", "documents.jsonl:1: the template knows no system message");
}

static void bad_lines_are_named(void **state)
{
    (void)state;
    assert_refused("", "toy", "no document");
    assert_refused("\n{\"txt\":\"a\"}\n", "toy", "documents.jsonl:2: key \"text\" or \"messages\"");
    assert_refused("{\"text\":\"a\"}\n{\"messages\":[]}\n", "toy",
                   "documents.jsonl:2: key \"text\"");
    assert_refused("{\"text\":7}\n", "toy", "key \"text\"");
    assert_refused("{\"text\":\"\"}\n", "toy", "is empty");
    assert_refused("{\"messages\":{}}\n", "toy", "must be an array");
    assert_refused("{\"messages\":[3]}\n", "toy", "messages[0] must be an object");
    assert_refused("{\"messages\":[]}\n", "toy", "messages[0] is missing; \"user\" is wanted");
    assert_refused("{\"messages\":[" ASK_HELLO "]}\n", "toy", "messages[1] is missing");
    assert_refused("{\"messages\":[" ASK_HELLO "," ASK_HELLO "]}\n", "toy",
                   "messages[1] has the role user; \"assistant\" is wanted");
    assert_refused("{\"messages\":[" ASK_HELLO ",{\"role\":\"assistant\",\"content\":\"a\"},"
                   ASK_HELLO "]}\n", "toy", "messages[3] is missing; \"assistant\" is wanted");
    assert_refused("{\"messages\":[" ASK_HELLO ",{\"role\":\"assistant\",\"content\":\"\"}]}\n",
                   "toy", "message is empty");
    assert_refused("{\"messages\":[" ASK_HELLO ",{\"role\":\"assistant\",\"content\":5}]}\n", "toy",
                   "key \"content\"");
}

static void appended_documents_are_copies(void **state)
{
    struct document_set *set;
    char prompt[] = "p", completion[] = "longer";
    struct document document = {{prompt, 1}, {completion, 6}, 1};

    (void)state;
    assert_int_equal(document_set_create(&set), STATUS_OK);
    assert_int_equal(document_set_count(set), 0);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(document_set_append(set, &document), STATUS_OK);
    prompt[0] = completion[0] = '#';
    assert_int_equal(document_set_count(set), 1000);
    assert_document(document_set_get(set, 0), "p", "longer");
    assert_int_equal(document_set_get(set, 0)->is_ended, 1);
    assert_document(document_set_get(set, 999), "p", "longer");
    document_set_close(&set);
    document_set_close(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_file_has_completions_alone),
        cmocka_unit_test(a_conversation_is_rendered_with_the_template),
        cmocka_unit_test(a_system_message_needs_a_template_that_knows_one),
        cmocka_unit_test(bad_lines_are_named),
        cmocka_unit_test(appended_documents_are_copies),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
