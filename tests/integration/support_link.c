#include "tests/integration/support_link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/files.h"
#include "common/memory.h"

#define MAX_PAIRS 16
#define PIECE 65536
#define LOOK_MS 5

struct flaky_link {
    int listener, to_port;
    int pairs[MAX_PAIRS][2];        /* from, to; n_pairs of them */
    int n_pairs;
    pthread_t thread;
    atomic_int is_ending, is_cut, is_flipped;
    _Atomic int64_t stalled_until_ms;
};

static struct sockaddr_in loopback(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};

    address.sin_port = htons((uint16_t)port);
    return address;
}

int link_free_port(void)
{
    struct sockaddr_in address = loopback(0);
    socklen_t n = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int port = fd >= 0 && bind(fd, (struct sockaddr *)&address, n) == 0 &&
                       getsockname(fd, (struct sockaddr *)&address, &n) == 0
                   ? ntohs(address.sin_port)
                   : 0;

    close(fd);
    return port;
}

/* With a reset, as a cut link ends. */
static void drop_pair(struct flaky_link *link, int i)
{
    const struct linger at_once = {.l_onoff = 1};

    for (int side = 0; side < 2; side++) {
        setsockopt(link->pairs[i][side], SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
        close(link->pairs[i][side]);
    }
    memcpy(link->pairs[i], link->pairs[--link->n_pairs], sizeof(link->pairs[i]));
}

static void accept_pair(struct flaky_link *link)
{
    struct sockaddr_in address = loopback(link->to_port);
    int from = accept4(link->listener, NULL, NULL, SOCK_CLOEXEC);
    int to = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (from < 0 || to < 0 || link->n_pairs == MAX_PAIRS ||
        connect(to, (struct sockaddr *)&address, sizeof(address))) {
        close(from);
        close(to);
        return;
    }
    link->pairs[link->n_pairs][0] = from;
    link->pairs[link->n_pairs++][1] = to;
}

/* One piece from one side to the other; 0 when the pair is at its end. */
static int pass_on(struct flaky_link *link, int from, int to)
{
    static char piece[PIECE];
    ssize_t n = recv(from, piece, sizeof(piece), 0);

    if (n > 0 && atomic_exchange(&link->is_flipped, 0))
        piece[n / 2] ^= 0x10;

    for (ssize_t done = 0; n > 0 && done < n;) {
        ssize_t sent = send(to, piece + done, (size_t)(n - done), MSG_NOSIGNAL);
        if (sent < 0)
            return 0;
        done += sent;
    }
    return n > 0;
}

static void *keep_link(void *argument)
{
    struct flaky_link *link = argument;

    while (!link->is_ending) {
        struct pollfd wanted[1 + 2 * MAX_PAIRS] = {{.fd = link->listener, .events = POLLIN}};
        int n = link->n_pairs, is_stalled = clock_ms() < link->stalled_until_ms;
        for (int i = 0; i < 2 * n; i++)
            wanted[1 + i] = (struct pollfd){.fd = link->pairs[i / 2][i % 2], .events = POLLIN};
        poll(wanted, is_stalled ? 0 : (nfds_t)(1 + 2 * n), LOOK_MS);
        if (link->is_cut) {
            link->is_cut = 0;
            while (link->n_pairs)
                drop_pair(link, 0);
            continue;
        }
        for (int i = n - 1; i >= 0 && !is_stalled; i--) {
            const int *pair = link->pairs[i];
            if ((wanted[1 + 2 * i].revents && !pass_on(link, pair[0], pair[1])) ||
                (wanted[2 + 2 * i].revents && !pass_on(link, pair[1], pair[0])))
                drop_pair(link, i);
        }
        if (!is_stalled && wanted[0].revents)
            accept_pair(link);
    }
    while (link->n_pairs)
        drop_pair(link, 0);
    return NULL;
}

struct flaky_link *link_open(int from_port, int to_port)
{
    struct flaky_link *link = mem_alloc(1, sizeof(*link));
    struct sockaddr_in address = loopback(from_port);
    int on = 1;

    link->to_port = to_port;
    link->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(link->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(link->listener, (struct sockaddr *)&address, sizeof(address)) ||
        listen(link->listener, MAX_PAIRS) ||
        pthread_create(&link->thread, NULL, keep_link, link)) {
        close(link->listener);
        mem_free(link);
        return NULL;
    }
    return link;
}

void link_close(struct flaky_link *link)
{
    link->is_ending = 1;
    pthread_join(link->thread, NULL);
    close(link->listener);
    mem_free(link);
}

void link_cut(struct flaky_link *link)
{
    link->is_cut = 1;
}

void link_flip(struct flaky_link *link)
{
    link->is_flipped = 1;
}

void link_stall(struct flaky_link *link, int64_t for_ms)
{
    link->stalled_until_ms = clock_ms() + for_ms;
}
