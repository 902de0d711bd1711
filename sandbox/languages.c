/* The languages: names, compilers, flags. What depends on the host is in the section "sandbox". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/status.h"
#include "sandbox/judge_parts.h"

static const struct language table[] = {
    {"c", {NULL}, SANDBOX_NATIVE, "main.c", NULL, harness_write_c, 1},
    {"cpp", {"c++", "cc", "cxx", NULL}, SANDBOX_NATIVE, "main.cc", NULL, harness_write_cpp, 1},
    {"python", {"py", "python3", NULL}, SANDBOX_PYTHON, NULL, harness_python_function, NULL, 0},
    {"javascript", {"js", "node", NULL}, SANDBOX_NODE, NULL, harness_javascript, NULL, 0},
};
#define N_LANGUAGES ((int)(sizeof(table) / sizeof(table[0])))

const struct language *language_at(int language)
{
    return language >= 1 && language <= N_LANGUAGES ? &table[language - 1] : NULL;
}

const char *judge_language_name(int language)
{
    const struct language *row = language_at(language);

    return row ? row->name : NULL;
}

static int is_name(const char *name, size_t n, const char *known)
{
    return strlen(known) == n && strncasecmp(name, known, n) == 0;
}

int judge_find_language(const char *name, size_t n)
{
    for (int i = 0; i < N_LANGUAGES; i++) {
        if (is_name(name, n, table[i].name))
            return i + 1;
        for (size_t k = 0; table[i].fences[k]; k++)
            if (is_name(name, n, table[i].fences[k]))
                return i + 1;
    }
    return 0;
}

static const char *find_compiler(const char *configured, const char *const *known)
{
    if (strcmp(configured, "auto") != 0)
        return access(configured, X_OK) == 0 ? configured : NULL;
    while (*known && access(*known, X_OK) != 0)
        known++;
    return *known;
}

/* A compiler of the same path, size and time is the same: asking its version costs a process. */
static void make_key(struct language_command *command)
{
    struct digest_state *state = digest_begin();
    struct stat file;

    for (size_t i = 0; command->arguments[i]; i++)
        digest_add(state, command->arguments[i], strlen(command->arguments[i]) + 1);
    if (stat(command->arguments[0], &file) == 0) {
        digest_add(state, &file.st_size, sizeof(file.st_size));
        digest_add(state, &file.st_mtim, sizeof(file.st_mtim));
    }
    digest_end(state, &command->key);
}

int language_command(const struct sandbox_config *config, const struct language *language,
                     struct language_command *command)
{
    static const char *const c[] = {"/usr/bin/cc", "/usr/bin/gcc", "/usr/bin/clang", NULL};
    static const char *const cpp[] = {"/usr/bin/g++", "/usr/bin/c++", "/usr/bin/clang++", NULL};
    int is_c = strcmp(language->name, "c") == 0;
    const char *configured = is_c ? config->compiler : config->cpp_compiler;
    const char *compiler = find_compiler(configured, is_c ? c : cpp);
    const char *tail[] = {"-static", SANDBOX_LINK, "-o", "program", language->file, "-lm", NULL};
    size_t n = 0, used = 0;
    char *storage = command->storage;

    if (!compiler)
        return status_fail(STATUS_UNSUPPORTED, "there is no %s compiler%s%s: install %s, or name "
                           "one in %s", is_c ? "C" : "C++", configured[0] == '/' ? " at " : "",
                           configured[0] == '/' ? configured : "", is_c ? "gcc" : "g++",
                           is_c ? "sandbox.compiler" : "sandbox.cpp_compiler");
    command->arguments[n++] = compiler;
    for (size_t i = 0;
         config_list_item(is_c ? config->c_flags : config->cpp_flags, i, storage + used,
                          sizeof(command->storage) - used); i++) {
        if (n + sizeof(tail) / sizeof(tail[0]) >= LANGUAGE_MAX_ARGUMENTS)
            return status_fail(STATUS_CONFIG, "sandbox.%s_flags: more than %zu flags",
                               is_c ? "c" : "cpp", n);
        command->arguments[n++] = storage + used;
        used += strlen(storage + used) + 1;
    }
    for (size_t i = 0; i < sizeof(tail) / sizeof(tail[0]); i++)
        command->arguments[n++] = tail[i];
    make_key(command);
    return STATUS_OK;
}

/* One row "python=2"; 0 at the end, negative when it makes no sense. */
static int read_factor(const char *factors, size_t i, int *language, double *factor)
{
    char item[CONFIG_TEXT_BYTES], *end;

    if (!config_list_item(factors, i, item, sizeof(item)))
        return 0;
    const char *equals = strchr(item, '=');
    *language = equals ? judge_find_language(item, (size_t)(equals - item)) : 0;
    *factor = equals ? strtod(equals + 1, &end) : 0;
    if (!*language || !(*factor >= 0.01 && *factor <= 1000) || *end)
        return status_fail(STATUS_CONFIG, "sandbox.language_factors: \"%.40s\" is not understood: "
                           "write c, cpp, python or javascript, \"=\", and 0.01 to 1000", item);
    return 1;
}

int language_check_factors(const char *factors)
{
    int language, status = 1;
    double factor;

    for (size_t i = 0; status > 0; i++)
        status = read_factor(factors, i, &language, &factor);
    return status;
}

double language_factor(const struct sandbox_config *config, const struct language *language)
{
    int found;
    double factor;

    for (size_t i = 0; read_factor(config->language_factors, i, &found, &factor) > 0; i++)
        if (language_at(found) == language)
            return factor;
    return 1;
}
