/*
 * tests/integration/support_micro.h - a run so small that it can be broken hundreds of times.
 *
 * Three stages (base, zero, coldstart) of three or four steps on 7,000 weights, with a rollout and
 * a reward worker: well under a second, of which most is the start of processes.
 */
#ifndef HONE_TESTS_INTEGRATION_SUPPORT_MICRO_H
#define HONE_TESTS_INTEGRATION_SUPPORT_MICRO_H

#include "tests/integration/support.h"

#define MICRO "micro.yaml"
#define MICRO_END "stage coldstart is done"

/* A place with the recipe, and a run of it that nobody disturbed in run/quiet. */
void micro_make(struct place *place);

/* A library of tests/shim/ for LD_PRELOAD: "faults" -> absolute path. */
const char *shim_path(const char *name);

#endif
