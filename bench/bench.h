/*
 * bench/bench.h - what the benches share: the machine's limits, medians, rows, the history file.
 *
 * A figure alone says little on a shared machine: each program measures what the machine can do in
 * the same minute and prints the share.
 */
#ifndef HONE_BENCH_BENCH_H
#define HONE_BENCH_BENCH_H

#include <stddef.h>

#define BENCH_MOST_THREADS 64

double bench_now(void);   /* seconds, monotonic */

/* Flops a second of independent chains of multiply-adds, by the kernels that `ops_name` (what
 * ops_name() says) names. The best of several short runs. */
double bench_measure_peak(const char *ops_name, int n_threads);
/* Bytes a second of reading `bytes` of memory over and over, 2 MB pages where the system gives
 * them, each thread its own part. The best of several runs. */
double bench_measure_read(size_t bytes, int n_threads);

/* Of values in any order; the array is sorted. NaN without values. */
double bench_median(double *values, size_t n);

/* Values of one row: rates, the larger the better, or seconds (unit "s"), the less the better. */
#define BENCH_MOST_SAMPLES 4096
struct bench_samples {
    double values[BENCH_MOST_SAMPLES];
    size_t n;
};
void bench_add(struct bench_samples *samples, double value);

/* Prints rows, and appends them to a table when there is one. */
struct bench_report {
    const char *path;      /* the table, or NULL */
    const char *machine;   /* what ops_name() says */
    int n_threads;
};
struct bench_row {
    const char *name, *unit;
    const char *limit;     /* what the share is of; NULL: none */
    double limit_value;    /* in the unit of the samples */
};
void bench_print_row(const struct bench_report *report, const struct bench_row *row,
                     struct bench_samples *samples);

#endif
