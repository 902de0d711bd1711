#include "cmd/sandbox_judge.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "common/files.h"
#include "common/json.h"
#include "common/status.h"

#define SOURCE_MAX_BYTES ((size_t)16 << 20)
#define LINE_MAX_BYTES ((size_t)1 << 30)
#define WAIT_MS 200

struct stream {
    struct judge *judge;
    pthread_mutex_t input, output;
    struct text buffer;          /* read and not given out yet: from `at` */
    size_t at;
    int is_at_end;
    long long n_lines, n_judged;
    int status;                  /* of reading and printing; with input, and the reason */
    char why[512];
};

/* With the lock on the input: a reason is its thread's alone. */
static void keep_failure(struct stream *stream, int status)
{
    stream->status = status;
    snprintf(stream->why, sizeof(stream->why), "%s", status_reason());
}

/* Waits for more of the input; Ctrl-C is seen between two waits. */
static int fill(struct stream *stream)
{
    struct pollfd wanted = {.fd = STDIN_FILENO, .events = POLLIN};
    char bytes[65536];

    if (poll(&wanted, 1, WAIT_MS) <= 0)
        return STATUS_OK;
    ssize_t n = read(STDIN_FILENO, bytes, sizeof(bytes));
    if (n < 0 && errno != EINTR)
        return status_fail(STATUS_IO, "cannot read standard input: %s", strerror(errno));
    stream->is_at_end = n == 0;
    if (stream->at) {
        memmove(stream->buffer.data, stream->buffer.data + stream->at,
                stream->buffer.length - stream->at);
        stream->buffer.length -= stream->at;
        stream->at = 0;
    }
    text_append(&stream->buffer, bytes, n > 0 ? (size_t)n : 0);
    return stream->buffer.failed ? status_fail(STATUS_FORMAT, "stdin:%lld: a line of more than %zu "
                                               "MiB", stream->n_lines + 1, LINE_MAX_BYTES >> 20)
                                 : STATUS_OK;
}

/* Takes what is there up to a line's end into `line`; 0 when more must be read first. */
static int take_line(struct stream *stream, struct text *line)
{
    size_t left = stream->buffer.length - stream->at;
    const char *start = left ? stream->buffer.data + stream->at : NULL;
    const char *end = left ? memchr(start, '\n', left) : NULL;

    if (!left || (!end && !stream->is_at_end))
        return 0;
    size_t n = end ? (size_t)(end - start) + 1 : left;
    text_clear(line);
    text_append(line, start, n);
    stream->at += n;
    stream->n_lines++;
    return 1;
}

static int is_blank(const struct text *line)
{
    return strspn(line->data, " \t\r\n") >= line->length;
}

/* The next line that is not blank, and its number; 0 at the end. */
static long long next_line(struct stream *stream, struct text *line)
{
    long long number = 0;
    int status;

    pthread_mutex_lock(&stream->input);
    while (stream->status == STATUS_OK && !number && !stop_requested) {
        if (take_line(stream, line))
            number = is_blank(line) ? 0 : stream->n_lines;
        else if (stream->is_at_end)
            break;
        else if ((status = fill(stream)) < 0)
            keep_failure(stream, status);
    }
    pthread_mutex_unlock(&stream->input);
    return number;
}

static void print_number_or_null(struct text *out, const char *key, int value, int is_there)
{
    if (is_there)
        text_print(out, ",\"%s\":%d", key, value);
    else
        text_print(out, ",\"%s\":null", key);
}

static void print_tests(struct text *out, const struct judge_result *result)
{
    text_print(out, ",\"tests\":[");
    for (size_t i = 0; i < result->n_tests; i++) {
        const struct judge_test_result *test = &result->tests[i];

        text_print(out, "%s{\"verdict\":\"%s\",\"cpu_ms\":%lld,\"wall_ms\":%lld,"
                   "\"memory_bytes\":%lld", i ? "," : "", judge_verdict_name(test->verdict),
                   (long long)test->cpu_ms, (long long)test->wall_ms,
                   (long long)test->memory_bytes);
        print_number_or_null(out, "exit_code", test->exit_code, test->exit_code >= 0);
        print_number_or_null(out, "signal", test->signal, test->signal > 0);
        text_append(out, "}", 1);
    }
    text_append(out, "]", 1);
}

static void print_verdict(struct text *out, const json_t *job, const struct judge_result *result)
{
    const json_t *id = json_object_get(job, "id");

    text_print(out, "{\"id\":");
    if (id)
        json_append(out, id);
    else
        text_print(out, "null");
    text_print(out, ",\"verdict\":\"%s\"", judge_verdict_name(result->verdict));
    print_tests(out, result);
    text_print(out, ",\"compile\":");
    if (result->was_compiled) {
        text_print(out, "{\"ok\":%s,\"cached\":%s,\"wall_ms\":%lld,\"messages\":",
                   result->verdict == JUDGE_CE ? "false" : "true",
                   result->was_cached ? "true" : "false", (long long)result->compile_ms);
        json_append_string(out, result->messages.data ? result->messages.data : "",
                           result->messages.length);
        text_append(out, "}", 1);
    } else {
        text_print(out, "null");
    }
    text_print(out, ",\"share\":%.9g,\"detail\":", result->right_share);
    json_append_string(out, result->detail, strlen(result->detail));
    text_print(out, "}\n");
}

static int read_source_file(const json_t *job, struct text *source)
{
    const char *path;

    if (!json_is_object(job))
        return status_fail(STATUS_FORMAT, "a JSON object is wanted");
    TRY(json_get_text_or(job, "source_file", "job", NULL, &path));
    if (path)
        TRY(file_read(path, SOURCE_MAX_BYTES, source));
    return path != NULL;
}

static int judge_line(struct stream *stream, const char *line, size_t n, long long number)
{
    struct judge_result result = {.verdict = JUDGE_IE};
    struct text source = {0}, out = {0};
    json_t *job = NULL;
    char where[48];
    int status;

    snprintf(where, sizeof(where), "stdin:%lld", number);
    status = judge_parse_job(&job, line, n, where);
    if (status == STATUS_OK)
        status = read_source_file(job, &source);
    if (status < 0)
        snprintf(result.detail, sizeof(result.detail), "%s", status_reason());
    else
        judge_run(stream->judge, job, status ? (source.data ? source.data : "") : NULL,
                  source.length, 0, &result);
    print_verdict(&out, job, &result);
    pthread_mutex_lock(&stream->output);
    status = print_text(&out);
    stream->n_judged++;
    pthread_mutex_unlock(&stream->output);
    judge_result_release(&result);
    json_decref(job);
    text_release(&source);
    text_release(&out);
    return status;
}

static void *work(void *context)
{
    struct stream *stream = context;
    struct text line = {.maximum = LINE_MAX_BYTES + 1};

    for (long long number; (number = next_line(stream, &line)) > 0;) {
        int status = judge_line(stream, line.data, line.length, number);

        if (status < 0) {
            pthread_mutex_lock(&stream->input);
            keep_failure(stream, status);
            pthread_mutex_unlock(&stream->input);
        }
    }
    text_release(&line);
    return NULL;
}

int sandbox_judge_stream(struct judge *judge, size_t n_jobs)
{
    struct stream stream = {.judge = judge, .buffer = {.maximum = LINE_MAX_BYTES}};
    pthread_t *threads = mem_alloc(n_jobs, sizeof(*threads));
    size_t n_started = 0;

    pthread_mutex_init(&stream.input, NULL);
    pthread_mutex_init(&stream.output, NULL);
    while (n_started + 1 < n_jobs &&
           pthread_create(&threads[n_started], NULL, work, &stream) == 0)
        n_started++;
    work(&stream);
    for (size_t i = 0; i < n_started; i++)
        pthread_join(threads[i], NULL);
    pthread_mutex_destroy(&stream.input);
    pthread_mutex_destroy(&stream.output);
    mem_free(threads);
    text_release(&stream.buffer);
    if (stream.status < 0)
        return status_fail(stream.status, "%s", stream.why);
    if (stop_requested)
        return status_fail(STATUS_INTERRUPTED, "sandbox judge was asked to stop: %lld jobs are "
                           "judged, up to line %lld", stream.n_judged, stream.n_lines);
    return STATUS_OK;
}
