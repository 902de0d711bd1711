#include "reward/command_process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/files.h"
#include "common/log.h"
#include "common/status.h"
#include "common/trust.h"

#define MAX_WORDS 32
#define LOG_LINES 10            /* of stderr, in each ... */
#define LOG_WINDOW_MS 10000
#define LOG_LINE_BYTES 400

struct command_process {
    char name[64];
    char *words[MAX_WORDS + 1];
    pid_t pid;
    int in, out, err;           /* its stdin, stdout, stderr; err is -1 once it has closed it */
    char noise[LOG_LINE_BYTES]; /* a line of stderr that has not ended yet */
    size_t n_noise;
    int64_t window_ms;          /* when the counting of lines began */
    int n_lines, n_dropped;
};

static void log_line(struct command_process *process)
{
    int64_t now = clock_ms();

    if (now - process->window_ms > LOG_WINDOW_MS) {
        if (process->n_dropped)
            log_info("%s: %d more lines were left out", process->name, process->n_dropped);
        process->window_ms = now;
        process->n_lines = process->n_dropped = 0;
    }
    if (process->n_lines++ < LOG_LINES)
        log_info("%s: %.*s", process->name, (int)process->n_noise, process->noise);
    else
        process->n_dropped++;
    process->n_noise = 0;
}

/* One read of stderr. A line that is longer than the buffer is logged in parts. */
static void take_noise(struct command_process *process)
{
    char part[4096];
    ssize_t n = read(process->err, part, sizeof(part));

    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        if (process->n_noise)
            log_line(process);
        close(process->err);
        process->err = -1;
        return;
    }
    for (ssize_t i = 0; i < n; i++) {
        unsigned char byte = (unsigned char)part[i];
        if (byte == '\n') {
            log_line(process);
            continue;
        }
        if (process->n_noise == sizeof(process->noise))
            log_line(process);
        process->noise[process->n_noise++] = (char)(byte < ' ' || byte == 0x7F ? ' ' : byte);
    }
}

/* Ends as the executable has ended, so that the process above tells how. */
__attribute__((noreturn)) static void end_likewise(struct command_process *process)
{
    int ended = 0;

    /* It may have closed its stdout only; a verifier without one is of no use. */
    usleep(1000);
    if (waitpid(process->pid, &ended, WNOHANG) == 0) {
        for (int i = 0; i < 100 && waitpid(process->pid, &ended, WNOHANG) == 0; i++)
            usleep(1000);
        kill(process->pid, SIGKILL);
        waitpid(process->pid, &ended, 0);
    }
    while (process->err >= 0) {
        struct pollfd wanted = {.fd = process->err, .events = POLLIN};
        if (poll(&wanted, 1, 0) <= 0)
            break;
        take_noise(process);
    }
    if (WIFSIGNALED(ended)) {
        signal(WTERMSIG(ended), SIG_DFL);
        raise(WTERMSIG(ended));
    }
    _exit(WIFEXITED(ended) ? WEXITSTATUS(ended) : 1);
}

static int split_words(struct command_process *process, const char *words)
{
    char *rest = NULL, *copy = mem_copy_text(words);
    size_t n = 0;

    for (char *word = strtok_r(copy, " \t", &rest); word; word = strtok_r(NULL, " \t", &rest)) {
        if (n == MAX_WORDS)
            return status_fail(STATUS_CONFIG, "verifier %s: more than %d words", process->name,
                               MAX_WORDS);
        process->words[n++] = mem_copy_text(word);
    }
    mem_free(copy);
    return n ? STATUS_OK : status_fail(STATUS_CONFIG, "verifier %s: no executable is named",
                                       process->name);
}

/* "judge" -> "/usr/bin/judge", so that the digest is of what runs. */
static void find_in_path(char **word)
{
    char *rest = NULL, *copy = mem_copy_text(getenv("PATH"));
    char path[FILE_PATH_MAX];

    if (strchr(*word, '/') || !copy) {
        mem_free(copy);
        return;
    }
    for (char *folder = strtok_r(copy, ":", &rest); folder; folder = strtok_r(NULL, ":", &rest)) {
        int n = snprintf(path, sizeof(path), "%s/%s", folder, *word);
        if (n > 0 && (size_t)n < sizeof(path) && access(path, X_OK) == 0) {
            mem_free(*word);
            *word = mem_copy_text(path);
            break;
        }
    }
    mem_free(copy);
}

/* In the new process. Its group is that of the one above: one kill takes all. */
__attribute__((noreturn)) static void become(char *const *words, const int fds[3], int failed)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_DFL);
    for (int i = 0; i < 3; i++)
        if (dup2(fds[i], i) < 0)
            _exit(127);
    execv(words[0], words);
    int error = errno;
    ssize_t n = write(failed, &error, sizeof(error));
    _exit(n > 0 ? 127 : 126);
}

static int spawn(struct command_process *process)
{
    int pipes[4][2], error = 0;

    for (int i = 0; i < 4; i++)   /* stdin, stdout, stderr, why it could not start */
        if (pipe2(pipes[i], O_CLOEXEC) < 0)
            return status_fail(STATUS_IO, "verifier %s: pipe: %s", process->name, strerror(errno));
    const int ends[3] = {pipes[0][0], pipes[1][1], pipes[2][1]};
    process->pid = fork();
    if (process->pid < 0)
        return status_fail(STATUS_IO, "verifier %s: fork: %s", process->name, strerror(errno));
    if (process->pid == 0)
        become(process->words, ends, pipes[3][1]);
    close(pipes[3][1]);
    for (int i = 0; i < 3; i++)
        close(ends[i]);
    ssize_t n = read(pipes[3][0], &error, sizeof(error));
    close(pipes[3][0]);
    if (n == sizeof(error))
        return status_fail(STATUS_IO, "verifier %s: cannot start %s: %s", process->name,
                           process->words[0], strerror(error));
    process->in = pipes[0][1];
    process->out = pipes[1][0];
    process->err = pipes[2][0];
    fcntl(process->in, F_SETFL, O_NONBLOCK);
    fcntl(process->out, F_SETFL, O_NONBLOCK);
    fcntl(process->err, F_SETFL, O_NONBLOCK);
    return STATUS_OK;
}

/* The executable, and files that it is given, a script say: it runs with our rights. */
static int check_words(const struct command_process *process)
{
    char what[96];
    struct stat info;

    snprintf(what, sizeof(what), "verifier %s", process->name);
    for (size_t i = 0; process->words[i]; i++)
        if (stat(process->words[i], &info) == 0 && S_ISREG(info.st_mode))
            TRY(trust_check_code(process->words[i], what));
    return STATUS_OK;
}

int command_start(struct command_process **out, const char *name, const char *words)
{
    struct command_process *process = mem_alloc(1, sizeof(*process));

    /* Never freed: this process is the executable's. */
    signal(SIGPIPE, SIG_IGN);
    snprintf(process->name, sizeof(process->name), "%s", name);
    TRY(split_words(process, words));
    find_in_path(&process->words[0]);
    TRY(check_words(process));
    TRY(spawn(process));
    *out = process;
    return STATUS_OK;
}

char *const *command_words(const struct command_process *process)
{
    return process->words;
}

/* Sends what is left of the request; nothing more when the executable reads no further. */
static void give(struct command_process *process, const struct text *request, size_t *sent)
{
    ssize_t n = write(process->in, request->data + *sent, request->length - *sent);

    if (n > 0)
        *sent += (size_t)n;
    else if (n < 0 && errno != EAGAIN && errno != EINTR)
        *sent = request->length;   /* it has gone, or will not hear: its stdout tells which */
}

static int take(struct command_process *process, struct text *reply)
{
    char part[65536];
    ssize_t n = read(process->out, part, sizeof(part));

    if (n == 0)
        end_likewise(process);
    if (n > 0)
        text_append(reply, part, (size_t)n);
    return reply->length <= COMMAND_MAX_REPLY
               ? STATUS_OK
               : status_fail(STATUS_FORMAT, "more than %d bytes without an end of line",
                             (int)COMMAND_MAX_REPLY);
}

/* What came unasked would be taken for the answer to the next request. */
static int refuse_unasked(struct command_process *process)
{
    struct pollfd wanted = {.fd = process->out, .events = POLLIN};

    return poll(&wanted, 1, 0) > 0 && (wanted.revents & POLLIN)
               ? status_fail(STATUS_FORMAT, "a line came that nobody asked for")
               : STATUS_OK;
}

int command_exchange(struct command_process *process, const struct text *request,
                     struct text *reply)
{
    size_t sent = 0;
    char *end = NULL;

    text_clear(reply);
    TRY(refuse_unasked(process));
    while (!end) {
        struct pollfd fds[] = {
            {.fd = process->out, .events = POLLIN},
            {.fd = process->err, .events = POLLIN},   /* -1 is left alone */
            {.fd = sent < request->length ? process->in : -1, .events = POLLOUT},
        };
        if (poll(fds, 3, -1) < 0 && errno != EINTR)
            return status_fail(STATUS_IO, "poll: %s", strerror(errno));
        if (fds[1].revents)
            take_noise(process);
        if (fds[2].revents)
            give(process, request, &sent);
        if (fds[0].revents)
            TRY(take(process, reply));
        end = reply->length ? memchr(reply->data, '\n', reply->length) : NULL;
    }
    if ((size_t)(end - reply->data) + 1 != reply->length)
        return status_fail(STATUS_FORMAT, "more than one line came back");
    if (sent < request->length)
        return status_fail(STATUS_FORMAT, "a line came back before the request was read");
    reply->data[--reply->length] = '\0';
    return STATUS_OK;
}
