/*
 * learner/guard.h - what stands before an update: numbers that are none, and outliers. Private.
 *
 * Of the loss and the gradient norm of the last `window` optimizer steps, m is the mean and s the
 * standard deviation; a step is an outlier when (x - m) / (s + |m| / 1000) > z_score for one of
 * them. Steps that were skipped are in the window too, so that a lasting change is let through.
 */
#ifndef HONE_LEARNER_GUARD_H
#define HONE_LEARNER_GUARD_H

#include "learner/learner.h"

#define GUARD_MAX_WINDOW 1024

enum guard_action { GUARD_SKIP, GUARD_STOP };

struct guard {
    struct guard_config config;
    double loss[GUARD_MAX_WINDOW], grad_norm[GUARD_MAX_WINDOW];   /* rings of config.window */
    int64_t n;                       /* steps seen */
};

/* Before an update; `update` is its number. Sets *is_outlier when it is to be skipped;
 * STATUS_FAILED when it is to stop the run, or when a value is not finite. */
int guard_look(struct guard *guard, double loss, double grad_norm, int64_t update,
               int *is_outlier);

/* The window as a file, and back. */
int guard_save(const struct guard *guard, const char *path);
int guard_load(struct guard *guard, const char *path);

#endif
