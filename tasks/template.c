#include <string.h>

#include "common/memory.h"
#include "common/status.h"
#include "tasks/tasks.h"

#define QUESTION_MARK "{question}"
#define PREFILL_MARK "{prefill}"

/* DeepSeek-R1, arXiv 2501.12948, table 1. */
#define R1_ZERO_TEXT                                                                               \
    "A conversation between User and Assistant. The user asks a question, and the Assistant "      \
    "solves it. The assistant first thinks about the reasoning process in the mind and then "      \
    "provides the user with the answer. The reasoning process and answer are enclosed within "     \
    "<think> </think> and <answer> </answer> tags, respectively, i.e., <think> reasoning process " \
    "here </think> <answer> answer here </answer>. User: {question}. Assistant:"

#define LLAMA3_ROLE(role) "<|start_header_id|>" role "<|end_header_id|>\n\n"

struct template_row {
    const char *name, *text;
    const char *system_before, *system_after;
};

static const struct template_row rows[] = {
    {"r1_zero", R1_ZERO_TEXT, NULL, NULL},
    {"r1_zero_think", R1_ZERO_TEXT " {prefill}<think>", NULL, NULL},
    {"chatml", "<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n",
     "<|im_start|>system\n", "<|im_end|>\n<|im_start|>user\n"},
    {"llama3",
     "<|begin_of_text|>" LLAMA3_ROLE("user") "{question}<|eot_id|>" LLAMA3_ROLE("assistant"),
     "<|begin_of_text|>" LLAMA3_ROLE("system"), "<|eot_id|>" LLAMA3_ROLE("user")},
    {"plain", "{question}\n", NULL, NULL},
    {"toy", "Q {question}\nA ", NULL, NULL},
};
#define N_ROWS (sizeof(rows) / sizeof(rows[0]))

const char *chat_template_name(size_t i)
{
    return i < N_ROWS ? rows[i].name : NULL;
}

static int find_row(const char *name, const struct template_row **out)
{
    const char *names[N_ROWS], *near;

    for (size_t i = 0; i < N_ROWS; i++) {
        names[i] = rows[i].name;
        if (strcmp(name, rows[i].name) == 0) {
            *out = &rows[i];
            return STATUS_OK;
        }
    }
    near = config_nearest(name, names, N_ROWS);
    return status_fail(STATUS_CONFIG,
                       "template \"%s\" is no known name and has no {question} in it%s%s%s", name,
                       near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

static char *copy_part(const char *from, const char *to)
{
    size_t n = (size_t)(to - from);
    char *copy = mem_alloc(n + 1, 1);

    memcpy(copy, from, n);
    return copy;
}

/* Cuts at {question} and, behind it, at {prefill}. */
static int split_text(struct chat_template *chat, const char *text)
{
    const char *question = strstr(text, QUESTION_MARK);
    const char *behind = question + strlen(QUESTION_MARK);
    const char *prefill = strstr(text, PREFILL_MARK);
    const char *end = text + strlen(text);

    if (strstr(behind, QUESTION_MARK))
        return status_fail(STATUS_CONFIG, "template \"%s\": {question} may stand once", text);
    if (prefill && prefill < question)
        return status_fail(STATUS_CONFIG, "template \"%s\": {prefill} must stand behind {question}",
                           text);
    if (prefill && strstr(prefill + 1, PREFILL_MARK))
        return status_fail(STATUS_CONFIG, "template \"%s\": {prefill} may stand once", text);
    chat->before = copy_part(text, question);
    if (prefill) {
        struct text after = {0};

        chat->prefill = copy_part(prefill + strlen(PREFILL_MARK), end);
        text_append(&after, behind, (size_t)(prefill - behind));
        text_append(&after, chat->prefill, strlen(chat->prefill));
        chat->after = mem_copy_text(after.data);
        text_release(&after);
    } else {
        chat->prefill = mem_copy_text("");
        chat->after = copy_part(behind, end);
    }
    return STATUS_OK;
}

int chat_template_init(struct chat_template *chat, const char *name_or_text)
{
    const struct template_row *row = NULL;

    memset(chat, 0, sizeof(*chat));
    if (strstr(name_or_text, QUESTION_MARK))
        return split_text(chat, name_or_text);
    TRY(find_row(name_or_text, &row));
    chat->system_before = mem_copy_text(row->system_before);
    chat->system_after = mem_copy_text(row->system_after);
    return split_text(chat, row->text);
}

void chat_template_release(struct chat_template *chat)
{
    mem_free(chat->before);
    mem_free(chat->after);
    mem_free(chat->prefill);
    mem_free(chat->system_before);
    mem_free(chat->system_after);
    memset(chat, 0, sizeof(*chat));
}
