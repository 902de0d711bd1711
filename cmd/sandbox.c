/* hone sandbox: compiles and runs one C program as the code verifier would. */
#include <string.h>

#include "cmd/cmd.h"
#include "common/config.h"
#include "common/files.h"
#include "common/status.h"
#include "sandbox/sandbox.h"

#define SOURCE_MAX_BYTES ((size_t)16 << 20)

static const struct option_row options[] = {
    {"input", "FILE", "standard input of the program (default: empty)"},
    {"set", "sandbox.KEY=V", "override a limit: \"sandbox.cpu_ms=100\"; may be repeated"},
    {0},
};

static int read_config(const struct arguments *arguments, struct sandbox_config *config)
{
    const struct config_binding binding = {&sandbox_config_section, config};
    const char **overrides = argument_all(arguments, "set");
    int status = STATUS_OK;

    config_set_defaults(&binding, 1);
    for (size_t i = 0; overrides[i] && status == STATUS_OK; i++)
        status = config_override(overrides[i], &binding, 1);
    mem_free(overrides);
    return status < 0 ? status : config_check(&binding, 1);
}

static void print_stream(struct text *out, const char *name, const struct text *stream)
{
    if (!stream->length)
        return;
    text_print(out, "--- %s, %zu bytes\n", name, stream->length);
    text_append(out, stream->data, stream->length);
    if (stream->data[stream->length - 1] != '\n')
        text_append(out, "\n", 1);
}

static int show_result(const struct sandbox_result *result)
{
    struct text out = {0};

    text_print(&out, "verdict  %s", sandbox_verdict_name(result->verdict));
    if (result->verdict == SANDBOX_EXITED)
        text_print(&out, ", exit code %d", result->exit_code);
    if (result->verdict == SANDBOX_SIGNALED)
        text_print(&out, ", signal %d (%s)", result->signal, strsignal(result->signal));
    text_print(&out, "\nused     %lld ms of CPU, %lld ms of wall clock, %.1f MiB of memory\n",
               (long long)result->cpu_ms, (long long)result->wall_ms,
               (double)result->peak_bytes / (1 << 20));
    print_stream(&out, "standard output", &result->output);
    print_stream(&out, "standard error", &result->errors);
    int status = print_text(&out);
    text_release(&out);
    return status;
}

static int compile_and_run(struct sandbox *sandbox, const char *path, const struct text *source,
                           const struct text *input)
{
    struct sandbox_program *program = NULL;
    struct sandbox_result result = {.exit_code = 0};
    struct text messages = {0};
    int status = sandbox_compile_c(sandbox, source->data ? source->data : "", source->length,
                                   &program, &messages);

    if (status == STATUS_OK && !program) {
        print_text(&messages);
        status = status_fail(STATUS_FAILED, "%s does not compile", path);
    }
    text_release(&messages);
    if (status == STATUS_OK)
        status = sandbox_run(sandbox, program, input->data ? input->data : "", input->length,
                             &result);
    if (status == STATUS_OK)
        status = show_result(&result);
    sandbox_result_release(&result);
    sandbox_program_release(&program);
    return status;
}

static int run(const struct command *command, const struct arguments *arguments)
{
    const char *input_path = argument_get(arguments, "input");
    struct sandbox_config config;
    struct sandbox *sandbox = NULL;
    struct text source = {0}, input = {0};
    int status;

    (void)command;
    if (arguments->n_positionals != 2 || strcmp(arguments->positionals[0], "run"))
        return status_fail(STATUS_CONFIG, "write hone sandbox run FILE.c");
    TRY(read_config(arguments, &config));
    TRY_OUT(file_read(arguments->positionals[1], SOURCE_MAX_BYTES, &source));
    if (input_path)
        TRY_OUT(file_read(input_path, (size_t)1 << 30, &input));
    TRY_OUT(sandbox_create(&sandbox, &config));
    status = compile_and_run(sandbox, arguments->positionals[1], &source, &input);
out:
    sandbox_destroy(&sandbox);
    text_release(&source);
    text_release(&input);
    return status;
}

const struct command command_sandbox = {
    "sandbox", "run FILE.c", 2, "compile and run a C program in the sandbox, and say how it ended",
    "The limits are those of section \"sandbox\" in docs/config.md. Exit code 0 when the sandbox\n"
    "came to a verdict, whatever it is.",
    options, run};
