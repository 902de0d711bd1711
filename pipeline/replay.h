/* pipeline/replay.h - what replay.c hands to replay_compare.c. Private to pipeline/. */
#ifndef HONE_PIPELINE_REPLAY_H
#define HONE_PIPELINE_REPLAY_H

#include "pipeline/run_store_sql.h"

struct replay {
    struct sql recorded, replayed;       /* open for reading */
    const char *run;                     /* the recorded directory */
    char replayed_run[FILE_PATH_MAX];
    const char *stage;
    int64_t stage_id;                    /* the same in both */
    int64_t from;                        /* the checkpoint that it began with; 0: the stage */
    int64_t first, last;
    int has_begun;                       /* pipeline_run() was called */
    int n_compared, n_different;
    char first_difference[512];
};

/* Appends a line for each thing that was compared. */
int replay_compare(struct replay *replay, struct text *out);

#endif
