/* tests/unit/several.h - a test of several processes: each answers, and the test looks at that. */
#ifndef HONE_TESTS_UNIT_SEVERAL_H
#define HONE_TESTS_UNIT_SEVERAL_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

#include "common/files.h"
#include "common/status.h"
#include "wire/wire.h"

#define MOST_SEVERAL 4

struct answer {
    int status;                      /* what its work gave */
    char reason[1024];
};

struct several {
    char directory[64], keys[96], endpoint[128];
    int n;
    int ends[MOST_SEVERAL];          /* of pipes; -1: none of that number was started */
    pid_t pids[MOST_SEVERAL];
    struct answer answers[MOST_SEVERAL];
};

/* A port that nobody has; it is given back before it is used. */
static inline void several_take_port(struct several *several)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&address, n), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &n), 0);
    snprintf(several->endpoint, sizeof(several->endpoint), "tcp://127.0.0.1:%d",
             ntohs(address.sin_port));
    close(fd);
}

static inline int several_setup(void **state)
{
    struct several *several = mem_alloc(1, sizeof(*several));

    *state = several;
    snprintf(several->directory, sizeof(several->directory), "/tmp/hone-several-XXXXXX");
    assert_non_null(mkdtemp(several->directory));
    snprintf(several->keys, sizeof(several->keys), "%s/keys", several->directory);
    assert_int_equal(wire_keys_make(several->keys), STATUS_OK);
    several_take_port(several);
    memset(several->ends, -1, sizeof(several->ends));
    return 0;
}

static inline int several_teardown(void **state)
{
    struct several *several = *state;

    assert_int_equal(file_remove_tree(several->directory), STATUS_OK);
    mem_free(several);
    return 0;
}

/* Those of rank 0, or a worker's. */
static inline void several_read_keys(const struct several *several, int index,
                                     struct wire_keys *keys)
{
    char path[128];

    memset(keys, 0, sizeof(*keys));
    if (strncmp(several->endpoint, "ipc:", 4) == 0)
        return;
    snprintf(path, sizeof(path), "%s/worker.key", several->keys);
    int status = index ? wire_keys_read(keys, path) : wire_keys_read_hub(keys, several->keys);
    if (status < 0)
        abort();
}

/* A process whose number is `index`. Its work may end it: then its answer is STATUS_CLOSED. */
static inline void several_start(struct several *several, int index,
                                 int (*work)(struct several *several, int index))
{
    int ends[2];

    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct answer answer;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        memset(&answer, 0, sizeof(answer));
        answer.status = work(several, index);
        snprintf(answer.reason, sizeof(answer.reason), "%s", status_reason());
        _exit(write(ends[1], &answer, sizeof(answer)) != sizeof(answer));
    }
    close(ends[1]);
    several->ends[index] = ends[0];
    several->pids[index] = pid;
}

static inline void several_wait(struct several *several)
{
    for (int i = 0; i < MOST_SEVERAL; i++) {
        struct answer *answer = &several->answers[i];
        if (several->ends[i] < 0)
            continue;
        if (read(several->ends[i], answer, sizeof(*answer)) != sizeof(*answer))
            *answer = (struct answer){.status = STATUS_CLOSED};
        close(several->ends[i]);
        several->ends[i] = -1;
        waitpid(several->pids[i], NULL, 0);
    }
}

/* Numbers 0 to n - 1 at the same work. */
static inline void several_run(struct several *several, int n,
                               int (*work)(struct several *several, int index))
{
    several->n = n;
    for (int i = n - 1; i >= 0; i--)
        several_start(several, i, work);
    several_wait(several);
}

static inline void assert_answer(const struct several *several, int index, int status,
                                 const char *part)
{
    const struct answer *answer = &several->answers[index];

    if (answer->status != status || (part && !strstr(answer->reason, part)))
        fail_msg("number %d answers %s, \"%s\"", index, status_name(answer->status),
                 answer->reason);
}

#endif
