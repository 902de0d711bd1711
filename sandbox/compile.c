/* Sources become programs: a bundle to the compiler's cell, a sealed file back. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/status.h"
#include "sandbox/internal.h"

/* Length of the UTF-8 sequence at `bytes`, or 0. Overlong forms and surrogates are let through:
 * this is for people's eyes. */
static size_t sequence_length(const unsigned char *bytes, size_t n)
{
    size_t length = bytes[0] < 0x80   ? 1
                    : bytes[0] < 0xc2 ? 0
                    : bytes[0] < 0xe0 ? 2
                    : bytes[0] < 0xf0 ? 3
                    : bytes[0] < 0xf5 ? 4
                                      : 0;

    if (length > n)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((bytes[i] & 0xc0) != 0x80)
            return 0;
    return length;
}

/* The compiler repeats what the stranger wrote: no control bytes reach a terminal or a log. */
static void append_clean(struct text *out, const struct text *dirty)
{
    const unsigned char *bytes = (const unsigned char *)dirty->data;

    for (size_t i = 0; i < dirty->length;) {
        size_t n = sequence_length(bytes + i, dirty->length - i);
        int control = bytes[i] < 0x20 && bytes[i] != '\n' && bytes[i] != '\t';
        if (n == 0 || control || bytes[i] == 0x7f)
            text_append(out, "?", 1);
        else
            text_append(out, bytes + i, n);
        i += n ? n : 1;
    }
}

static void explain_refusal(const struct box_answer *answer, const struct sandbox_result *result,
                            struct text *messages)
{
    append_clean(messages, &result->errors);
    if (answer->verdict != SANDBOX_EXITED)
        text_print(messages, "compiler stopped: %s\n",
                   sandbox_verdict_name((enum sandbox_verdict)answer->verdict));
    else if (answer->exit_code == 0)
        text_print(messages, "the compiler left no program\n");
}

/* Where cells see the precompiled header, before all other directories. */
static void add_directory(struct sandbox_compilation *with_header, const char **arguments,
                          const struct sandbox_compilation *compilation)
{
    size_t n = 0;

    arguments[n++] = compilation->arguments[0];
    arguments[n++] = "-I/pch";
    for (size_t i = 1; compilation->arguments[i] && n <= BUNDLE_ARGUMENTS_MAX; i++)
        arguments[n++] = compilation->arguments[i];
    arguments[n] = NULL;
    with_header->arguments = arguments;
}

int sandbox_compile(struct sandbox *sandbox, const struct sandbox_compilation *compilation,
                    struct sandbox_program **out, struct text *messages)
{
    struct box_request request = {.magic = BOX_MAGIC,
                                  .request = BOX_REQUEST_COMPILE,
                                  .precompiled = compilation->precompiled,
                                  .fault = sandbox->fault};
    struct sandbox_result result = {.exit_code = 0};
    struct text bundle = {0};
    struct box_answer answer;
    struct sandbox_compilation with_header = *compilation;
    const char *arguments[BUNDLE_ARGUMENTS_MAX + 2];
    int bundle_fd = -1, result_fd = -1;

    *out = NULL;
    request.limits.cpu_ms = compilation->compile_ms ? compilation->compile_ms
                                                    : sandbox->config.compile_ms;
    if (compilation->precompiled && sandbox_level(sandbox) > 1)
        add_directory(&with_header, arguments, compilation);
    request.limits.wall_ms = 3 * request.limits.cpu_ms;
    int status = bundle_write(&bundle, &with_header);
    if (status >= 0)
        status = memfd_of_input(&bundle_fd, bundle.data, bundle.length);
    if (status >= 0)
        status = client_ask(sandbox->client, &request, &bundle_fd, 1, &result, &answer,
                            &result_fd);
    if (status >= 0 && result_fd >= 0)
        *out = program_create(SANDBOX_NATIVE, result_fd);
    else if (status >= 0)
        explain_refusal(&answer, &result, messages);
    sandbox_result_release(&result);
    text_release(&bundle);
    if (bundle_fd >= 0)
        close(bundle_fd);
    return status;
}

int sandbox_compile_c(struct sandbox *sandbox, const char *source, size_t n,
                      struct sandbox_program **out, struct text *messages)
{
    const char *const arguments[] = {sandbox->compiler, "-x", "c",       "-std=gnu11", "-O1",
                                     "-static",         "-w", "-pipe",   SANDBOX_LINK, "-o",
                                     "program",         "source.c", "-lm", NULL};
    const struct sandbox_file file = {"source.c", source, n};
    const struct sandbox_compilation compilation = {
        .arguments = arguments, .files = &file, .n_files = 1};

    return sandbox_compile(sandbox, &compilation, out, messages);
}

int sandbox_program_bytes(const struct sandbox_program *program, struct text *out)
{
    struct stat about;

    if (fstat(program->fd, &about) < 0)
        return status_fail(STATUS_IO, "sandbox: fstat of a program");
    char *bytes = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_PRIVATE, program->fd, 0);
    if (bytes == MAP_FAILED)
        return status_fail(STATUS_NOMEM, "sandbox: map a program of %lld bytes",
                           (long long)about.st_size);
    text_append(out, bytes, (size_t)about.st_size);
    munmap(bytes, (size_t)about.st_size);
    return 0;
}
