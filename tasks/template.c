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

#define IM_START(role) "<|im_start|>" role "\n"
#define IM_END "<|im_end|>\n"
#define IM_TURN IM_START("user") "{question}" IM_END IM_START("assistant")
/* Qwen's models before Qwen3 write a system message of their own where there is none. */
#define IM_SYSTEM(text) IM_START("system") text IM_END
#define CHATML(first, thinking)                                                                    \
    first IM_TURN, "", IM_START("system"), IM_END IM_START("user"), "<|im_end|>", "\n",           \
        IM_START("user"), 0, thinking

#define LLAMA3_BOS "<|begin_of_text|>"
#define LLAMA3_ROLE(role) "<|start_header_id|>" role "<|end_header_id|>\n\n"
/* Llama 3.1 as transformers renders it where no date is given. */
#define LLAMA3_DATE "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
#define LLAMA3_TURN "{question}<|eot_id|>" LLAMA3_ROLE("assistant")
#define LLAMA3(first, system)                                                                      \
    LLAMA3_BOS first LLAMA3_ROLE("user") LLAMA3_TURN, LLAMA3_BOS,                                  \
        LLAMA3_BOS LLAMA3_ROLE("system") system, "<|eot_id|>" LLAMA3_ROLE("user"), "<|eot_id|>",   \
        "", LLAMA3_ROLE("user"), 1, CHAT_THINKING_STAYS

#define DEEPSEEK_BOS "<｜begin▁of▁sentence｜>"

struct template_row {
    const char *name, *text;
    const char *opening;   /* the token that `text` opens with, where the tokenizer has it */
    const char *system_before, *system_after;
    const char *turn_end, *turn_gap, *user_before;
    int trims;
    enum chat_thinking thinking;
};

static const struct template_row rows[] = {
    {.name = "r1_zero", .text = R1_ZERO_TEXT},
    {.name = "r1_zero_think", .text = R1_ZERO_TEXT " {prefill}<think>"},
    {"chatml", CHATML("", CHAT_THINKING_STAYS)},
    {"qwen2", CHATML(IM_SYSTEM("You are a helpful assistant."), CHAT_THINKING_STAYS)},
    {"qwen2.5", CHATML(IM_SYSTEM("You are Qwen, created by Alibaba Cloud. You are a helpful "
                                 "assistant."), CHAT_THINKING_STAYS)},
    {"qwen2.5_math", CHATML(IM_SYSTEM("Please reason step by step, and put your final answer "
                                      "within \\boxed{}."), CHAT_THINKING_STAYS)},
    {"qwen3", CHATML("", CHAT_THINKING_FRAMED)},
    {"llama3", LLAMA3("", "")},
    {"llama3.1", LLAMA3(LLAMA3_ROLE("system") LLAMA3_DATE "<|eot_id|>", LLAMA3_DATE)},
    {"deepseek_r1", DEEPSEEK_BOS "<｜User｜>{question}<｜Assistant｜>{prefill}<think>\n",
     DEEPSEEK_BOS, DEEPSEEK_BOS, "<｜User｜>", "<｜end▁of▁sentence｜>", "", "<｜User｜>",
     0, CHAT_THINKING_GOES},
    {.name = "plain", .text = "{question}\n"},
    {.name = "toy", .text = "Q {question}\nA "},
};
#define N_ROWS (sizeof(rows) / sizeof(rows[0]))

/* Families whose every text opens with a token; DeepSeek's distilled Llamas have its own. */
static const char *const openings[] = {DEEPSEEK_BOS, LLAMA3_BOS};
#define N_OPENINGS (sizeof(openings) / sizeof(openings[0]))

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
    static const struct template_row none = {.text = NULL};
    const struct template_row *row = &none;
    int is_text = strstr(name_or_text, QUESTION_MARK) != NULL;

    memset(chat, 0, sizeof(*chat));
    if (strcmp(name_or_text, CHAT_TEMPLATE_AUTO) == 0)
        return status_fail(STATUS_CONFIG, "tasks.template_name is auto, and there is no model "
                           "folder to choose by: name the template");
    if (!is_text)
        TRY(find_row(name_or_text, &row));
    TRY(split_text(chat, is_text ? name_or_text : row->text));
    chat->opening = mem_copy_text(row->opening ? row->opening : "");
    chat->system_before = mem_copy_text(row->system_before);
    chat->system_after = mem_copy_text(row->system_after);
    chat->turn_end = mem_copy_text(row->turn_end ? row->turn_end : "");
    chat->turn_gap = mem_copy_text(row->turn_gap ? row->turn_gap : "");
    chat->user_before = mem_copy_text(row->user_before);
    chat->closing = mem_copy_text("");
    chat->trims = row->trims;
    chat->thinking = row->thinking;
    return STATUS_OK;
}

/* `text` with `from` at its beginning replaced by `to`. NULL stays NULL. */
static void replace_opening(char **text, const char *from, const char *to)
{
    struct text joined = {0};

    if (!*text)
        return;
    text_print(&joined, "%s%s", to, *text + strlen(from));
    mem_free(*text);
    *text = mem_copy_text(joined.data);
    text_release(&joined);
}

void chat_template_bind(struct chat_template *chat,
                        int (*has_token)(const void *context, const char *token),
                        const void *context, const char *eos)
{
    const char *opening = "";

    if (chat->opening[0])
        opening = has_token(context, chat->opening) ? chat->opening : "";
    /* A family's template without one is without one; any other text is as the family's base. */
    for (size_t i = 0; i < N_OPENINGS && !chat->opening[0] && !chat->turn_end[0]; i++)
        if (!opening[0] && has_token(context, openings[i]))
            opening = openings[i];
    if (chat->opening[0] || strncmp(chat->before, opening, strlen(opening)) != 0) {
        replace_opening(&chat->before, chat->opening, opening);
        replace_opening(&chat->system_before, chat->opening, opening);
    }
    char *kept = mem_copy_text(opening);
    mem_free(chat->opening);
    chat->opening = kept;
    mem_free(chat->closing);
    chat->closing = mem_copy_text(strcmp(chat->turn_end, eos) != 0 && chat->turn_end[0] &&
                                          has_token(context, chat->turn_end)
                                      ? chat->turn_end
                                      : "");
}

void chat_template_release(struct chat_template *chat)
{
    mem_free(chat->before);
    mem_free(chat->after);
    mem_free(chat->prefill);
    mem_free(chat->opening);
    mem_free(chat->system_before);
    mem_free(chat->system_after);
    mem_free(chat->turn_end);
    mem_free(chat->turn_gap);
    mem_free(chat->user_before);
    mem_free(chat->closing);
    memset(chat, 0, sizeof(*chat));
}
