/* tests/integration/support_ranks.h - hone behind mpirun, on this machine alone. */
#ifndef HONE_TESTS_INTEGRATION_SUPPORT_RANKS_H
#define HONE_TESTS_INTEGRATION_SUPPORT_RANKS_H

#include "tests/integration/support.h"

/* Whether there is MPI; says why not. */
int find_mpi(void);
/* n ranks of built(hone). */
void start_ranks(struct program *program, const struct place *place, const char *n,
                 const char *hone, const char *const *arguments);
/* The process of the place that is this rank; 0 when there is none. Not for rank 0, whose workers
 * look the same. */
pid_t find_rank(const struct place *place, const char *rank);
/* The newest weights of a stage in two runs are equal up to `tolerance`. */
void assert_close(const struct place *place, const char *run, const char *other, const char *stage,
                  double tolerance);
/* How many of those weights, as a share, are not the same bits. */
double share_of_different(const struct place *place, const char *run, const char *other,
                          const char *stage);

#endif
