/* hone sandbox: runs one program as the code verifier would, or judges a stream of them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "cmd/sandbox_judge.h"
#include "common/config.h"
#include "common/files.h"
#include "common/status.h"
#include "sandbox/sandbox.h"

#define SOURCE_MAX_BYTES ((size_t)16 << 20)
#define INPUT_MAX_BYTES ((size_t)1 << 30)
#define MAX_JOBS 1024

static const struct option_row options[] = {
    {"input", "FILE", "run: standard input of the program; \"-\" is this one's (default: empty)"},
    {"stdin", "TEXT", "run: the same as text"},
    {"lang", "NAME", "run: c, cpp, python or javascript (default: by the file's ending)"},
    {"jobs", "N", "judge: programs at once, also written -j N (default: 1)"},
    {"set", "sandbox.KEY=V", "override a limit: \"sandbox.cpu_ms=100\"; may be repeated"},
    {0},
};

/* What is on the command line beside the options; "-j 4" is read here. */
struct request {
    const char *verb, *path;
    long long n_jobs;
};

static int read_jobs(const char *text, long long *out)
{
    char *end;

    errno = 0;
    *out = text ? strtoll(text, &end, 10) : 0;
    if (!text || end == text || *end || errno || *out < 1 || *out > MAX_JOBS)
        return status_fail(STATUS_CONFIG, "sandbox judge: -j wants a number from 1 to %d, as "
                           "-j 4", MAX_JOBS);
    return STATUS_OK;
}

static int read_request(const struct arguments *arguments, struct request *request)
{
    *request = (struct request){.n_jobs = 1};
    TRY(argument_int(arguments, "jobs", 1, 1, MAX_JOBS, &request->n_jobs));
    for (size_t i = 0; i < arguments->n_positionals; i++) {
        const char *word = arguments->positionals[i];

        if (strncmp(word, "-j", 2) == 0) {
            const char *number = word[2] ? word + 2
                                 : i + 1 < arguments->n_positionals ? arguments->positionals[++i]
                                                                    : NULL;
            TRY(read_jobs(number, &request->n_jobs));
        } else if (!request->verb) {
            request->verb = word;
        } else if (!request->path) {
            request->path = word;
        } else {
            return status_fail(STATUS_CONFIG, "sandbox: unexpected argument \"%s\"; see "
                               "`hone sandbox --help`", word);
        }
    }
    int is_run = request->verb && strcmp(request->verb, "run") == 0 && request->path;
    int is_judge = request->verb && strcmp(request->verb, "judge") == 0 && !request->path;
    if (!is_run && !is_judge)
        return status_fail(STATUS_CONFIG, "write hone sandbox run FILE, or hone sandbox judge < "
                           "JOBS.jsonl; `hone sandbox --help` tells more");
    return STATUS_OK;
}

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

static int find_language(const struct arguments *arguments, const char *path, int *language)
{
    const char *name = argument_get(arguments, "lang"), *dot = strrchr(path, '.');

    if (!name)
        name = dot ? dot + 1 : "";
    *language = judge_find_language(name, strlen(name));
    return *language ? STATUS_OK
                     : status_fail(STATUS_CONFIG, "%s: the language is not known by \"%s\": add "
                                   "--lang c, cpp, python or javascript", path, name);
}

static int read_input(const struct arguments *arguments, struct text *input)
{
    const char *path = argument_get(arguments, "input"), *text = argument_get(arguments, "stdin");
    char buffer[65536];
    ssize_t n;

    if (path && text)
        return status_fail(STATUS_CONFIG, "sandbox run: --input and --stdin are two inputs: give "
                           "one");
    if (text)
        text_append(input, text, strlen(text));
    if (!path)
        return STATUS_OK;
    if (strcmp(path, "-") != 0)
        return file_read(path, INPUT_MAX_BYTES, input);
    while ((n = read(STDIN_FILENO, buffer, sizeof(buffer))) > 0)
        text_append(input, buffer, (size_t)n);
    return n < 0 ? status_fail(STATUS_IO, "cannot read standard input: %s", strerror(errno))
                 : STATUS_OK;
}

static int run_file(struct judge *judge, const struct arguments *arguments, const char *path)
{
    struct judge_result result = {.verdict = JUDGE_AC};
    struct sandbox_result run = {.exit_code = 0};
    struct text source = {0}, input = {0};
    int language, status;

    TRY(find_language(arguments, path, &language));
    TRY_OUT(file_read(path, SOURCE_MAX_BYTES, &source));
    TRY_OUT(read_input(arguments, &input));
    TRY_OUT(judge_try(judge, language, source.data ? source.data : "", source.length, NULL,
                      input.data ? input.data : "", input.length, &result, &run));
    if (result.verdict == JUDGE_CE) {
        print_text(&result.messages);
        status = status_fail(STATUS_FAILED, "%s does not compile", path);
    } else {
        status = show_result(&run);
    }
out:
    sandbox_result_release(&run);
    judge_result_release(&result);
    text_release(&source);
    text_release(&input);
    return status;
}

static int run(const struct command *command, const struct arguments *arguments)
{
    struct sandbox_config config;
    struct sandbox *sandbox = NULL;
    struct judge *judge = NULL;
    struct request request;
    int status;

    (void)command;
    TRY(read_request(arguments, &request));
    TRY(read_config(arguments, &config));
    if (!request.path)   /* what was begun is still judged */
        stop_on_signals();
    TRY(sandbox_create(&sandbox, &config));
    TRY_OUT(judge_create(&judge, sandbox, &config));
    status = request.path ? run_file(judge, arguments, request.path)
                          : sandbox_judge_stream(judge, (size_t)request.n_jobs);
out:
    judge_destroy(&judge);
    sandbox_destroy(&sandbox);
    return status;
}

const struct command command_sandbox = {
    "sandbox", "run FILE | judge [-j N]", 4,
    "run a program in the sandbox and say how it ended, or judge many",
    "run compiles and runs FILE. Exit code 0 when the sandbox came to a verdict, whatever it is.\n"
    "judge reads a job a line from stdin and writes a verdict a line, as they are ready:\n\n"
    "  {\"id\":1,\"lang\":\"c\",\"source\":\"...\",\"stdin\":\"1 2\",\"expected_stdout\":\"3\"}\n"
    "  {\"id\":2,\"lang\":\"python\",\"source_file\":\"a.py\",\"mode\":\"function\",\n"
    "   \"entry\":\"add\",\"cases\":[{\"args\":[1,2],\"expected\":3}]}         (one line)\n\n"
    "A line that makes no sense gets the verdict IE with its reason. docs/code-verifier.md has\n"
    "all keys. The limits are those of section \"sandbox\" in docs/config.md unless a job names\n"
    "its own.",
    options, run};
