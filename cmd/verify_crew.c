/* Processes for `hone verify -j N`: a verifier is not made for threads. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "cmd/verify.h"
#include "common/status.h"

struct crew {
    int n;
    pid_t pids[CREW_MAX];
    int fds[CREW_MAX];
};

struct head {
    uint64_t number;    /* of the first line; in an answer, how many lines were bad */
    uint64_t bytes;
};

/* 1 when all was moved, 0 at the end of the stream or after a signal that stops the command. */
static int move_all(int fd, void *bytes, size_t n, int is_write)
{
    for (size_t done = 0; done < n;) {
        char *at = (char *)bytes + done;
        ssize_t moved = is_write ? send(fd, at, n - done, MSG_NOSIGNAL) : read(fd, at, n - done);
        if (moved > 0)
            done += (size_t)moved;
        else if (moved == 0 || errno != EINTR || stop_requested)
            return 0;
    }
    return 1;
}

static int send_frame(int fd, uint64_t number, const struct text *body)
{
    struct head head = {number, body->length};

    return move_all(fd, &head, sizeof(head), 1) && move_all(fd, body->data, body->length, 1);
}

static int receive_frame(int fd, uint64_t *number, struct text *body)
{
    struct head head;
    char part[65536];

    if (!move_all(fd, &head, sizeof(head), 0))
        return 0;
    *number = head.number;
    for (uint64_t left = head.bytes; left;) {
        size_t n = left < sizeof(part) ? (size_t)left : sizeof(part);
        if (!move_all(fd, part, n, 0))
            return 0;
        text_append(body, part, n);
        left -= n;
    }
    return !body->failed;
}

__attribute__((noreturn)) static void work(int fd, const struct verify_settings *settings)
{
    struct judge judge = {0};
    struct part part = {0};
    struct text answers = {0};
    int status;

    /* The keyboard reaches the parent, which ends this process. */
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    status = judge_open(&judge, settings);
    while (status == STATUS_OK && receive_frame(fd, &part.first_line, &part.lines)) {
        uint64_t n_bad = verify_part(&judge, settings, &part, &answers);
        if (!send_frame(fd, n_bad, &answers))
            break;
        text_clear(&part.lines);
        text_clear(&answers);
    }
    judge_close(&judge);
    _exit(status == STATUS_OK ? 0 : status_exit_code(status));
}

static int start_one(struct crew *crew, const struct verify_settings *settings)
{
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return status_fail(STATUS_IO, "socketpair: %s", strerror(errno));
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < crew->n; i++)
            close(crew->fds[i]);   /* else the others would not see the end of theirs */
        close(fds[0]);
        work(fds[1], settings);
    }
    close(fds[1]);
    if (pid < 0) {
        close(fds[0]);
        return status_fail(STATUS_IO, "fork: %s", strerror(errno));
    }
    crew->pids[crew->n] = pid;
    crew->fds[crew->n++] = fds[0];
    return STATUS_OK;
}

int crew_start(struct crew **out, const struct verify_settings *settings)
{
    struct crew *crew = mem_alloc(1, sizeof(*crew));

    for (int i = 0; i < settings->n_processes && i < CREW_MAX; i++)
        if (start_one(crew, settings) < 0) {
            crew_stop(&crew);
            return STATUS_IO;
        }
    *out = crew;
    return STATUS_OK;
}

void crew_stop(struct crew **crew)
{
    for (int i = 0; i < (*crew)->n; i++) {
        close((*crew)->fds[i]);
        if (stop_requested)
            kill((*crew)->pids[i], SIGTERM);
    }
    for (int i = 0; i < (*crew)->n; i++)
        while (waitpid((*crew)->pids[i], NULL, 0) < 0 && errno == EINTR)
            ;
    mem_free(*crew);
    *crew = NULL;
}

int crew_size(const struct crew *crew)
{
    return crew->n;
}

static int say_lost(int process)
{
    return stop_requested ? status_fail(STATUS_INTERRUPTED, "verify was asked to stop")
                          : status_fail(STATUS_CLOSED, "verifying process %d has died", process);
}

int crew_give(struct crew *crew, int process, const struct part *part)
{
    return send_frame(crew->fds[process], part->first_line, &part->lines) ? STATUS_OK
                                                                          : say_lost(process);
}

int crew_take(struct crew *crew, int process, struct text *answers, uint64_t *n_bad)
{
    return receive_frame(crew->fds[process], n_bad, answers) ? STATUS_OK : say_lost(process);
}
