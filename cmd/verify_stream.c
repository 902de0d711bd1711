/* `hone verify NAME --jsonl`: lines in, answers out, in the same order. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "cmd/verify.h"
#include "common/log.h"
#include "common/status.h"

#define PART_LINES 64
#define MAX_LINE_BYTES ((size_t)256 << 20)

struct stream {
    const struct verify_settings *settings;
    const char *name;          /* of the input, in errors */
    int fd;
    struct text buffer;        /* read and not given out yet: from `at` */
    size_t at;
    int at_end;
    uint64_t n_lines;          /* given out */
    uint64_t n_answered, n_bad;
    int64_t total;             /* lines of the file; 0: not known */
    struct progress progress;
};

static int open_input(struct stream *stream)
{
    struct stat file;
    char bytes[65536];
    ssize_t n;

    stream->name = stream->settings->input ? stream->settings->input : "stdin";
    if (stream->settings->input)
        stream->fd = open(stream->settings->input, O_RDONLY | O_CLOEXEC);
    if (stream->fd < 0)
        return status_fail(STATUS_IO, "cannot open %s: %s", stream->name, strerror(errno));
    if (!isatty(STDERR_FILENO) || fstat(stream->fd, &file) < 0 || !S_ISREG(file.st_mode))
        return STATUS_OK;
    off_t start = lseek(stream->fd, 0, SEEK_CUR);
    while ((n = read(stream->fd, bytes, sizeof(bytes))) > 0)
        for (const char *at = bytes; (at = memchr(at, '\n', (size_t)(bytes + n - at))); at++)
            stream->total++;
    lseek(stream->fd, start, SEEK_SET);
    return STATUS_OK;
}

static int fill(struct stream *stream)
{
    char bytes[65536];

    if (stream->at) {
        memmove(stream->buffer.data, stream->buffer.data + stream->at,
                stream->buffer.length - stream->at);
        stream->buffer.length -= stream->at;
        stream->at = 0;
    }
    ssize_t n = read(stream->fd, bytes, sizeof(bytes));
    if (n < 0 && errno != EINTR)
        return status_fail(STATUS_IO, "cannot read %s: %s", stream->name, strerror(errno));
    stream->at_end = n == 0;
    if (n > 0)
        text_append(&stream->buffer, bytes, (size_t)n);
    if (stream->buffer.length > MAX_LINE_BYTES)
        return status_fail(STATUS_FORMAT, "%s:%llu: a line of more than %zu MiB", stream->name,
                           (unsigned long long)stream->n_lines + 1, MAX_LINE_BYTES >> 20);
    return STATUS_OK;
}

/* Whole lines that are there already, so that whoever writes line by line is answered line by
 * line; an empty part at the end of the input. */
static int next_part(struct stream *stream, struct part *part)
{
    uint64_t first = stream->n_lines + 1;

    text_clear(&part->lines);
    part->first_line = first;
    while (!stop_requested) {
        while (stream->n_lines - first + 1 < PART_LINES && stream->at < stream->buffer.length) {
            const char *start = stream->buffer.data + stream->at;
            size_t left = stream->buffer.length - stream->at;
            const char *end = memchr(start, '\n', left);
            if (!end && !stream->at_end)
                break;
            size_t n = end ? (size_t)(end - start) + 1 : left;
            text_append(&part->lines, start, n);
            stream->at += n;
            stream->n_lines++;
        }
        if (part->lines.length || stream->at_end)
            return STATUS_OK;
        TRY(fill(stream));
    }
    return status_fail(STATUS_INTERRUPTED, "verify was asked to stop after line %llu",
                       (unsigned long long)stream->n_answered);
}

/* Whether next_part() would give something at once. */
static int has_input(const struct stream *stream)
{
    struct pollfd wanted = {.fd = stream->fd, .events = POLLIN};
    size_t left = stream->buffer.length - stream->at;

    return stream->at_end || (left && memchr(stream->buffer.data + stream->at, '\n', left)) ||
           poll(&wanted, 1, 0) > 0;
}

static uint64_t count_lines(const struct part *part)
{
    uint64_t n = 0;
    const char *at = part->lines.data, *end = at + part->lines.length;

    for (; at < end; n++) {
        at = memchr(at, '\n', (size_t)(end - at));
        at = at ? at + 1 : end;
    }
    return n;
}

uint64_t verify_part(struct judge *judge, const struct verify_settings *settings,
                     const struct part *part, struct text *out)
{
    const char *at = part->lines.data, *stop = at + part->lines.length;
    uint64_t n_bad = 0;

    for (uint64_t number = part->first_line; at < stop && !stop_requested; number++) {
        const char *end = memchr(at, '\n', (size_t)(stop - at));
        size_t n = (size_t)((end ? end : stop) - at);
        if (strspn(at, " \t\r") < n)
            n_bad += (uint64_t)verify_line(judge, settings, number, at, n, out);
        at += n + (end != NULL);
    }
    return n_bad;
}

static int print_answers(struct stream *stream, struct text *answers, uint64_t n_bad,
                         uint64_t n_lines)
{
    stream->n_bad += n_bad;
    stream->n_answered += n_lines;
    TRY(print_text(answers));
    text_clear(answers);
    if (stream->total)
        progress_update(&stream->progress, (int64_t)stream->n_answered, "lines");
    return STATUS_OK;
}

static int run_alone(struct stream *stream, struct judge *judge)
{
    struct text answers = {0};
    struct part part = {0};
    int status;

    for (;;) {
        TRY_OUT(next_part(stream, &part));
        if (!part.lines.length)
            break;
        uint64_t n_bad = verify_part(judge, stream->settings, &part, &answers);
        TRY_OUT(print_answers(stream, &answers, n_bad, count_lines(&part)));
    }
out:
    text_release(&answers);
    text_release(&part.lines);
    return status;
}

struct crew_run {
    struct crew *crew;
    uint64_t n_given, n_taken;    /* parts; part i belongs to process i mod N */
    uint64_t n_lines[CREW_MAX];   /* of the part that each process has */
    struct text answers;
};

static int take_oldest(struct stream *stream, struct crew_run *run)
{
    int process = (int)(run->n_taken % (uint64_t)crew_size(run->crew));
    uint64_t n_bad = 0;

    TRY(crew_take(run->crew, process, &run->answers, &n_bad));
    run->n_taken++;
    return print_answers(stream, &run->answers, n_bad, run->n_lines[process]);
}

static int give_next(struct crew_run *run, const struct part *part)
{
    int process = (int)(run->n_given % (uint64_t)crew_size(run->crew));

    run->n_lines[process] = count_lines(part);
    run->n_given++;
    return crew_give(run->crew, process, part);
}

/* Answers are taken in the order of the parts, and a process is given one only when its last answer
 * was taken. Without more input at hand, answers come first: somebody may be waiting for them. */
static int run_crew(struct stream *stream)
{
    struct crew_run run = {0};
    struct part part = {0};
    int status;

    TRY(crew_start(&run.crew, stream->settings));
    for (;;) {
        while (run.n_taken < run.n_given &&
               (run.n_given - run.n_taken == (uint64_t)crew_size(run.crew) || !has_input(stream)))
            TRY_OUT(take_oldest(stream, &run));
        TRY_OUT(next_part(stream, &part));
        if (!part.lines.length)
            break;
        TRY_OUT(give_next(&run, &part));
    }
    while (run.n_taken < run.n_given)
        TRY_OUT(take_oldest(stream, &run));
out:
    crew_stop(&run.crew);
    text_release(&run.answers);
    text_release(&part.lines);
    return status;
}

int verify_stream(struct judge *judge, const struct verify_settings *settings)
{
    struct stream stream = {.settings = settings, .fd = STDIN_FILENO};

    TRY(open_input(&stream));
    stop_on_signals();
    progress_begin(&stream.progress, "verify", 0, stream.total);
    int status = settings->n_processes > 1 ? run_crew(&stream) : run_alone(&stream, judge);
    progress_end(&stream.progress);
    text_release(&stream.buffer);
    if (stream.fd != STDIN_FILENO)
        close(stream.fd);
    if (status == STATUS_OK && stream.n_bad)
        return status_fail(STATUS_FORMAT, "%s: %llu of %llu lines could not be judged: each is "
                           "answered with its \"error\"", stream.name,
                           (unsigned long long)stream.n_bad, (unsigned long long)stream.n_lines);
    return status;
}
