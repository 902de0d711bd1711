#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "common/status.h"
#include "reward/isolate.h"

#define N_TEXTS 7

struct frame_head {
    uint32_t kind, bytes;
};

struct task_head {
    uint64_t task_id, n_tokens, group_min_tokens, group_max_tokens, accuracy;
    uint64_t lengths[N_TEXTS];
};

static int wait_for(int fd, short events, int64_t deadline)
{
    struct pollfd wanted = {.fd = fd, .events = events};

    for (;;) {
        int64_t left = deadline ? deadline - clock_ms() : -1;
        if (deadline && left <= 0)
            return STATUS_TIMEOUT;
        int n = poll(&wanted, 1, left > 1000000 ? 1000000 : (int)left);
        if (n > 0)
            return STATUS_OK;
        if (n < 0 && errno != EINTR)
            return STATUS_IO;
    }
}

static int send_all(int fd, const void *bytes, size_t n, int64_t deadline)
{
    const char *at = bytes;

    while (n) {
        ssize_t sent = send(fd, at, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0) {
            at += sent;
            n -= (size_t)sent;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            TRY(wait_for(fd, POLLOUT, deadline));
        } else if (errno != EINTR) {
            return STATUS_CLOSED;
        }
    }
    return STATUS_OK;
}

static int receive_all(int fd, void *bytes, size_t n, int64_t deadline)
{
    char *at = bytes;

    while (n) {
        ssize_t got = recv(fd, at, n, MSG_DONTWAIT);
        if (got > 0) {
            at += got;
            n -= (size_t)got;
        } else if (got == 0) {
            return STATUS_CLOSED;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            TRY(wait_for(fd, POLLIN, deadline));
        } else if (errno != EINTR) {
            return STATUS_CLOSED;
        }
    }
    return STATUS_OK;
}

int frame_send(int fd, uint32_t kind, const struct text *body, int64_t deadline)
{
    struct frame_head head = {kind, (uint32_t)body->length};

    TRY(send_all(fd, &head, sizeof(head), deadline));
    return send_all(fd, body->data, body->length, deadline);
}

int frame_receive_any(int fd, uint32_t *kind, struct text *body, int64_t deadline)
{
    struct frame_head head;
    char part[65536];

    text_clear(body);
    TRY(receive_all(fd, &head, sizeof(head), deadline));
    if (head.bytes > ISOLATE_MAX_FRAME)
        return STATUS_FORMAT;
    *kind = head.kind;
    for (size_t left = head.bytes; left;) {
        size_t n = left < sizeof(part) ? left : sizeof(part);
        TRY(receive_all(fd, part, n, deadline));
        text_append(body, part, n);
        left -= n;
    }
    return STATUS_OK;
}

int frame_receive(int fd, uint32_t kind, struct text *body, int64_t deadline)
{
    uint32_t got = 0;

    TRY(frame_receive_any(fd, &got, body, deadline));
    return got == kind ? STATUS_OK : STATUS_FORMAT;
}

static void list_texts(const struct verifier_task *task, struct verifier_text texts[N_TEXTS])
{
    texts[0] = task->question;
    texts[1] = task->completion;
    texts[2] = task->reference;
    texts[3] = task->language;
    texts[4] = task->prefill;
    texts[5] = task->kind;
    texts[6] = task->columns;
}

void frame_write_task(const struct verifier_task *task, struct text *out)
{
    struct verifier_text texts[N_TEXTS];
    struct task_head head = {.task_id = task->task_id,
                             .n_tokens = task->n_tokens,
                             .group_min_tokens = task->group_min_tokens,
                             .group_max_tokens = task->group_max_tokens,
                             .accuracy = task->accuracy};

    list_texts(task, texts);
    for (int i = 0; i < N_TEXTS; i++)
        head.lengths[i] = texts[i].length;
    text_append(out, &head, sizeof(head));
    for (int i = 0; i < N_TEXTS; i++)
        text_append(out, texts[i].data, texts[i].length);
}

int frame_read_task(const struct text *frame, struct verifier_task *task)
{
    struct verifier_text texts[N_TEXTS];
    struct task_head head;
    size_t at = sizeof(head);

    if (frame->length < sizeof(head))
        return STATUS_FORMAT;
    memcpy(&head, frame->data, sizeof(head));
    for (int i = 0; i < N_TEXTS; i++) {
        if (head.lengths[i] > frame->length - at)
            return STATUS_FORMAT;
        texts[i] = (struct verifier_text){frame->data + at, head.lengths[i]};
        at += head.lengths[i];
    }
    *task = (struct verifier_task){.size = sizeof(*task), .task_id = head.task_id,
                                   .question = texts[0], .completion = texts[1],
                                   .reference = texts[2], .language = texts[3],
                                   .prefill = texts[4], .kind = texts[5],
                                   .columns = texts[6],
                                   .n_tokens = head.n_tokens,
                                   .group_min_tokens = head.group_min_tokens,
                                   .group_max_tokens = head.group_max_tokens,
                                   .accuracy = (uint32_t)head.accuracy};
    return STATUS_OK;
}
