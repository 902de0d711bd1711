/* Messages with descriptors over a SOCK_SEQPACKET socket. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sandbox/internal.h"

union rights_buffer {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(BOX_RIGHTS_MAX * sizeof(int))];
};

int rights_send(int socket, const void *header, size_t n_header, const void *more, size_t n_more,
                const int *fds, int n_fds)
{
    struct iovec parts[2] = {{(void *)(uintptr_t)header, n_header},
                             {(void *)(uintptr_t)more, n_more}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = n_more ? 2 : 1};
    union rights_buffer control;
    ssize_t n;

    if (n_fds > 0) {
        memset(&control, 0, sizeof(control));
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE((size_t)n_fds * sizeof(int));
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN((size_t)n_fds * sizeof(int));
        memcpy(CMSG_DATA(rights), fds, (size_t)n_fds * sizeof(int));
    }
    do
        n = sendmsg(socket, &message, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -1 : 0;
}

ssize_t rights_receive(int socket, void *bytes, size_t n, int *fds, int *n_fds)
{
    struct iovec part = {bytes, n};
    union rights_buffer control;
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    int most = *n_fds;
    ssize_t got;

    *n_fds = 0;
    do
        got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return -1;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        int n_here = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        for (int i = 0; i < n_here; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + (size_t)i * sizeof(int), sizeof(fd));
            if (*n_fds < most)
                fds[(*n_fds)++] = fd;
            else
                close(fd);
        }
    }
    if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        while (*n_fds > 0)
            close(fds[--*n_fds]);
        errno = EMSGSIZE;
        return -1;
    }
    return got;
}
