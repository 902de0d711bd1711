/* tests/integration/support_ranks.h - hone behind mpirun, or as ranks that find each other over
 * ZeroMQ; on this machine alone. */
#ifndef HONE_TESTS_INTEGRATION_SUPPORT_RANKS_H
#define HONE_TESTS_INTEGRATION_SUPPORT_RANKS_H

#include "tests/integration/support.h"

/* Whether there is MPI; says why not. */
int find_mpi(void);
/* n ranks of built(hone). */
void start_ranks(struct program *program, const struct place *place, const char *n,
                 const char *hone, const char *const *arguments);
/* Ranks over ZeroMQ: RANK and WORLD_SIZE are set, and nothing else starts them. */
struct job {
    struct program ranks[4];
    int n;
};
/* `over` is "ipc": a socket in the run directory, or "tcp": MASTER_ADDR and MASTER_PORT are set. */
void start_job(struct job *job, const struct place *place, const char *over, int n,
               const char *hone, const char *const *arguments);
void start_rank(struct job *job, const struct place *place, const char *hone, int rank,
                const char *const *arguments);
/* Rank 0 as assert_ends() has it; with code 0 or 3 the others end with 0, else with a failure. */
void assert_job_ends(struct job *job, int code, const char *part);

/* The process of the place that is this rank; 0 when there is none. Not for rank 0, whose workers
 * look the same. */
pid_t find_rank(const struct place *place, const char *rank);
/* The newest weights of a stage in two runs are equal up to `tolerance`. */
void assert_close(const struct place *place, const char *run, const char *other, const char *stage,
                  double tolerance);

#endif
