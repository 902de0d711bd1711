/* A tokenizer's own template: the first byte says whether the rest is chat_template.jinja,
 * tokenizer_config.json or a text with {question}. What is detected is a row of the table. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/files.h"
#include "common/status.h"
#include "tasks/tasks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char *const names[2] = {"chat_template.jinja", "tokenizer_config.json"};
static int file = -1;
static char folders[2][32] = {"/tmp/hone-fuzz-XXXXXX", "/tmp/hone-fuzz-XXXXXX"};

static void remove_folders(void)
{
    for (int i = 0; i < 2; i++)
        file_remove_tree(folders[i]);
}

static void make_folders(void)
{
    char target[64], path[FILE_PATH_MAX];

    file = memfd_create("template", 0);
    snprintf(target, sizeof(target), "/proc/self/fd/%d", file);
    for (int i = 0; i < 2; i++)
        if (!mkdtemp(folders[i]) || file_join(path, folders[i], names[i]) < 0 ||
            symlink(target, path))
            abort();
    atexit(remove_folders);
}

static int knows_some(const void *context, const char *token)
{
    (void)context;
    return token[0] && token[1] != '|';
}

static void check_template(const char *name, const char *eos)
{
    struct chat_template chat;

    if (chat_template_init(&chat, name) < 0)
        return;
    chat_template_bind(&chat, knows_some, NULL, eos);
    size_t n_after = strlen(chat.after), n_prefill = strlen(chat.prefill);
    if (n_prefill > n_after || strcmp(chat.after + n_after - n_prefill, chat.prefill) != 0 ||
        strncmp(chat.before, chat.opening, strlen(chat.opening)) != 0)
        abort();
    chat_template_release(&chat);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const char *name = NULL;

    if (file < 0)
        make_folders();
    if (n < 1)
        return 0;
    if (data[0] % 3 == 2) {
        char *text = calloc(n, 1);
        memcpy(text, data + 1, n - 1);
        check_template(text, "");
        free(text);
        return 0;
    }
    if (ftruncate(file, 0) < 0 || pwrite(file, data + 1, n - 1, 0) != (ssize_t)(n - 1))
        abort();
    int status = chat_template_detect(folders[data[0] % 3], &name);
    if ((status == STATUS_OK) != (name != NULL))
        abort();
    if (name)
        check_template(name, "<|endoftext|>");
    return 0;
}
