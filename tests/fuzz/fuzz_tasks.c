/* Whole files as task set, as documents and as a tokenizer's template. The first byte chooses the
 * settings; the rest is the file, plain or compressed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/log.h"
#include "common/status.h"
#include "tasks/tasks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char *const templates[] = {"chatml", "qwen2.5", "qwen3", "llama3.1",
                                        "deepseek_r1", "toy", "r1_zero_think", "{question}x"};

static int knows_all(const void *context, const char *token)
{
    (void)context;
    (void)token;
    return 1;
}

static void read_tasks(const char *path, const struct chat_template *chat,
                       const struct tasks_config *config)
{
    struct task_set *set;

    if (task_set_open(&set, path, "", chat, config) < 0)
        return;
    for (size_t i = 0; i < task_set_count(set); i++) {
        const struct task *task = task_set_get(set, i);
        if (!task->prompt.bytes || task->prefill.bytes > task->prompt.bytes ||
            task->prompt.data[task->prompt.bytes] || !task->kind[0] || task->id > INT64_MAX)
            abort();
    }
    task_set_pick(set, 7, 3);
    task_set_close(&set);
}

static void read_documents(const char *path, const struct chat_template *chat,
                           const struct tasks_config *config)
{
    struct document_set *set;

    if (document_set_read(&set, path, chat, config) < 0)
        return;
    for (size_t i = 0; i < document_set_count(set); i++)
        if (!document_set_get(set, i)->completion.bytes)
            abort();
    document_set_close(&set);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static int file = -1;
    static char path[64];
    struct tasks_config config = {.language = "en"};
    struct chat_template chat;

    if (n < 1)
        return 0;
    if (file < 0) {
        file = memfd_create("tasks", 0);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
        log_set_level(LOG_ERROR);
    }
    if (ftruncate(file, 0) < 0 || pwrite(file, data + 1, n - 1, 0) != (ssize_t)(n - 1))
        abort();
    config.format = data[0] >> 3 & 7;
    if (config.format > 5)
        config.format = 0;
    config.on_bad_record = data[0] >> 6 & 1;
    if (data[0] >> 7)
        snprintf(config.columns, sizeof(config.columns), "question=a.b,text=c,id=d.e.f");
    if (chat_template_init(&chat, templates[data[0] & 7]) < 0)
        abort();
    chat_template_bind(&chat, knows_all, NULL, "");
    read_tasks(path, &chat, &config);
    read_documents(path, &chat, &config);
    chat_template_release(&chat);
    return 0;
}
