#include "common/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/files.h"
#include "common/json.h"
#include "common/watchdog.h"

#define LINE_BYTES 2048
#define QUIET_MS 2000
#define TERMINAL_EVERY_MS 200
#define PIPE_EVERY_MS 10000
#define ETA_BYTES 48
#define BAR_CELLS 24

static enum log_level threshold = LOG_INFO;
static int as_json;
static char process_name[32] = "hone";
static int bar_on_screen;

void log_set_level(enum log_level level)
{
    threshold = level;
}

void log_set_json(int on)
{
    as_json = on;
}

void log_set_name(const char *name)
{
    snprintf(process_name, sizeof(process_name), "%s", name);
}

static void clear_bar(void)
{
    if (bar_on_screen)
        fputs("\r\033[K", stderr);
    bar_on_screen = 0;
}

static void emit(const char *level, const char *line)
{
    struct text out = {0};

    if (as_json) {
        text_print(&out, "{\"unix_ms\":%lld,\"level\":\"%s\",\"process\":\"%s\",\"text\":",
                   (long long)clock_unix_ms(), level, process_name);
        json_append_string(&out, line, strlen(line));
        text_print(&out, "}\n");
    } else {
        time_t now = time(NULL);
        struct tm local;
        char clock[16];
        localtime_r(&now, &local);
        strftime(clock, sizeof(clock), "%H:%M:%S", &local);
        text_print(&out, "%s %-7s %-9s %s\n", clock, level, process_name, line);
    }
    clear_bar();
    /* One write, so that lines of several processes do not mix. */
    fwrite(out.data, 1, out.length, stderr);
    fflush(stderr);
    text_release(&out);
}

void log_write(enum log_level level, const char *format, ...)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    char line[LINE_BYTES];
    va_list arguments;

    if (level > threshold)
        return;
    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    emit(names[level], line);
}

void progress_begin(struct progress *progress, const char *label, int64_t done, int64_t total)
{
    memset(progress, 0, sizeof(*progress));
    progress->label = label;
    progress->total = total;
    progress->done = progress->done_before = done;
    progress->started_ms = clock_ms();
    progress->shown_ms = progress->started_ms;
}

/* "ETA 1:05", or why there is none. */
static void print_eta(const struct progress *progress, int64_t now_ms, char out[ETA_BYTES])
{
    int64_t done = progress->done - progress->done_before;
    double elapsed = (double)(now_ms - progress->started_ms) / 1000.0;

    if (done <= 0) {
        snprintf(out, ETA_BYTES, "for %ld:%02ld", (long)elapsed / 60, (long)elapsed % 60);
        return;
    }
    long left = (long)(elapsed * (double)(progress->total - progress->done) / (double)done);
    snprintf(out, ETA_BYTES, "ETA %ld:%02ld", left / 60, left % 60);
}

static void draw(const struct progress *progress, const char *tail, const char *eta)
{
    double share = progress->total > 0 ? (double)progress->done / (double)progress->total : 0.0;
    char bar[BAR_CELLS + 1];
    int filled = (int)(share * BAR_CELLS);

    for (int i = 0; i < BAR_CELLS; i++)
        bar[i] = i < filled ? '#' : '.';
    bar[BAR_CELLS] = '\0';
    fprintf(stderr, "\r\033[K%s [%s] %lld/%lld %s %s", progress->label, bar,
            (long long)progress->done, (long long)progress->total, eta, tail);
    fflush(stderr);
    bar_on_screen = 1;
}

void progress_update(struct progress *progress, int64_t done, const char *tail_format, ...)
{
    int on_terminal = !as_json && isatty(STDERR_FILENO);
    int64_t now = clock_ms();
    int64_t every = on_terminal ? TERMINAL_EVERY_MS : PIPE_EVERY_MS;
    char tail[256], eta[ETA_BYTES];
    va_list arguments;

    pulse(NULL);
    progress->done = done;
    if (threshold < LOG_INFO || now - progress->started_ms < QUIET_MS ||
        (progress->shown && now - progress->shown_ms < every))
        return;
    va_start(arguments, tail_format);
    vsnprintf(tail, sizeof(tail), tail_format, arguments);
    va_end(arguments);
    progress->shown = 1;
    progress->shown_ms = now;
    print_eta(progress, now, eta);
    if (on_terminal) {
        draw(progress, tail, eta);
    } else {
        log_info("%s %lld/%lld %s %s", progress->label, (long long)done,
                 (long long)progress->total, eta, tail);
    }
}

void progress_end(struct progress *progress)
{
    clear_bar();
    progress->shown = 0;
}
