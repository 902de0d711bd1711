/* ranks/internal.h - what the files of ranks/ share. Private to ranks/. */
#ifndef HONE_RANKS_INTERNAL_H
#define HONE_RANKS_INTERNAL_H

#include "common/files.h"
#include "common/version.h"
#include "ranks/mail.h"
#include "ranks/ranks.h"

#define HOST_BYTES 64

enum mail_tag { TAG_ORDER = 1, TAG_HOST, TAG_SUM, TAG_SPREAD, TAG_BEAT };

/* Messages under way, of one collective call. */
struct post {
    struct pending {
        uintptr_t request;
        int peer, is_receive;
    } *list;
    size_t n, capacity;
};
int post_send(struct ranks *ranks, struct post *post, int to, enum mail_tag tag, const void *bytes,
              size_t n);
int post_receive(struct ranks *ranks, struct post *post, int from, enum mail_tag tag, void *bytes,
                 size_t n);
/* Until all have arrived; `what` is for the error. timeout_ms 0: for ever. */
int post_wait(struct ranks *ranks, struct post *post, const char *what, int64_t timeout_ms);
void post_release(struct post *post);

/* How vectors travel. Each call begins; wait() is for all that were begun. */
struct lane_table {
    int (*sum)(struct ranks *ranks, float *data, const size_t *cuts, int is_bf16);
    int (*sum_end)(struct ranks *ranks);
    int (*spread)(struct ranks *ranks, float *data, const size_t *cuts);
    int (*spread_end)(struct ranks *ranks);
    void (*close)(struct ranks *ranks);
    void (*abort)(struct ranks *ranks);     /* memory stays: messages may still arrive in it */
    void (*release)(struct ranks *ranks);   /* after abort(), when nothing can arrive any more */
};
int lane_host_open(struct ranks *ranks);   /* over mail */
int lane_nccl_open(struct ranks *ranks, struct ops *ops);

extern const struct mail_table mail_zmq;
/* Where libhone_mpi.so is, or would be; 1: it is there. */
int ranks_locate_library(char path[FILE_PATH_MAX]);

struct rank_info {
    char host[HOST_BYTES], version[HOST_BYTES];
    int64_t pid;
    uint64_t pid_space;                      /* its PID namespace: where the number means it */
    int32_t local_index;
};

struct ranks {
    const struct mail_table *mail;
    void *library;
    struct mail_place place;
    struct rank_info *infos;                 /* [count] */
    char name[HOST_BYTES + 64], description[128];
    int64_t timeout_ms, looked_ms;
    int is_broken;                           /* nothing more can be sent; */
    char why[1024];                          /* since this happened */
    int has_agreed;                          /* all know that it failed; rank 0 ends them */
    int is_in_order;                         /* an order was begun, and not all know its end */
    struct post host;
    const struct lane_table *lane, *aborted_lane;
    void *lane_context;
    struct ops *lane_ops;
};

/* Who a rank is: "rank 2 (node7, pid 4711)". */
void ranks_print_name(const struct ranks *ranks, int rank, char *out, size_t n_out);
/* Now and then, from every loop that waits: of a rank on this machine it shows that it is gone. */
int ranks_look_for_dead(struct ranks *ranks);
/* Records it, and that nothing more can be sent; returns `status`. */
int ranks_break(struct ranks *ranks, int status);

#endif
