/*
 * pipeline/workers.h - the local worker processes: started, watched, started again. Private.
 *
 * A worker is this program again, "hone worker rollout --connect ...". It dies with its parent.
 */
#ifndef HONE_PIPELINE_WORKERS_H
#define HONE_PIPELINE_WORKERS_H

#include <stdint.h>
#include <sys/types.h>

#include "wire/wire.h"

enum worker_role { WORKER_ROLLOUT, WORKER_REWARD };
const char *worker_role_name(enum worker_role role);

struct worker_command {
    const char *program;         /* path of the executable */
    const char *endpoint, *config;   /* the resolved config.yaml that workers read */
    const char *stage;           /* whose settings they take */
    const char *key;             /* file of the key that they take; "" for none */
};

struct workers;
int workers_create(struct workers **out, const struct worker_command *command);
void workers_destroy(struct workers **workers);   /* SIGTERM, a second of grace, SIGKILL; waits */

/* Makes n processes of the role run: starts what is missing, ends what is too many. */
int workers_set_count(struct workers *workers, enum worker_role role, int n);

/* Looks for dead children: the name of one ("rollout-1") and how it ended ("killed by signal 9"),
 * 1 if there was one, else 0. It is started again by workers_restart(), under the same name. */
int workers_reap(struct workers *workers, char name[WIRE_NAME_BYTES], char how[64]);
int workers_restart(struct workers *workers, const char *name);
/* Its death was not its own fault: it does not count towards giving up on it. */
void workers_forgive(struct workers *workers, const char *name);
/* SIGKILL to a worker that does not answer; it is reaped later. 0 when it is no child of ours. */
int workers_kill(struct workers *workers, const char *name);
/* 1 for a worker of ours that does not run; 0 for one that does, and for other machines' ones. */
int workers_has_ended(struct workers *workers, const char *name);

#endif
