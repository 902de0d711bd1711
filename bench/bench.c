#include "bench/bench.h"

#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "common/version.h"
#include "ops/cpu/kernels.h"

#define PEAK_REPEATS 15
#define READ_REPEATS 9
#define READ_BYTES ((size_t)512 << 20)   /* least number of bytes that one timing reads */
#define PAGE_BYTES ((size_t)2 << 20)
#define LINE_BYTES 64

double bench_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- Limits of the machine. */

struct line {
    uint64_t words __attribute__((vector_size(LINE_BYTES)));
};

struct limit_thread {
    pthread_t thread;
    pthread_barrier_t *start;
    const struct kernels *kernels;
    const struct line *lines;
    size_t n_lines;
    int n_passes;
    double flops, begin, end;
    float sink;
};

static const struct kernels *kernels_of(const char *ops_name)
{
    const struct kernels *const *all = processor_kernels();

    for (int i = 0; all[i]; i++)
        if (strstr(ops_name, all[i]->name))
            return all[i];
    return all[0];
}

/* Seconds from the first thread's start to the last one's end. They start together; each looks at
 * the clock itself, because the caller may be woken late. */
static double time_threads(struct limit_thread *threads, int n, void *(*run)(void *))
{
    pthread_barrier_t start;

    pthread_barrier_init(&start, NULL, (unsigned)n);
    for (int i = 0; i < n; i++) {
        threads[i].start = &start;
        if (pthread_create(&threads[i].thread, NULL, run, &threads[i]) != 0)
            exit(1);
    }
    double begin = INFINITY, end = 0;
    for (int i = 0; i < n; i++) {
        pthread_join(threads[i].thread, NULL);
        begin = fmin(begin, threads[i].begin);
        end = fmax(end, threads[i].end);
    }
    pthread_barrier_destroy(&start);
    return end - begin;
}

static void *run_peak(void *argument)
{
    struct limit_thread *t = argument;

    pthread_barrier_wait(t->start);
    t->begin = bench_now();
    t->flops = t->kernels->count_peak_flops(1000000, &t->sink);
    t->end = bench_now();
    return NULL;
}

double bench_measure_peak(const char *ops_name, int n_threads)
{
    struct limit_thread threads[BENCH_MOST_THREADS] = {{0}};
    double best = 0;

    for (int i = 0; i < n_threads; i++)
        threads[i].kernels = kernels_of(ops_name);
    for (int repeat = 0; repeat < PEAK_REPEATS; repeat++) {
        double seconds = time_threads(threads, n_threads, run_peak), flops = 0;
        for (int i = 0; i < n_threads; i++)
            flops += threads[i].flops;
        best = fmax(best, flops / seconds);
    }
    return best;
}

static void *run_read(void *argument)
{
    struct limit_thread *t = argument;
    struct line a = {{0}}, b = {{0}};

    pthread_barrier_wait(t->start);
    t->begin = bench_now();
    for (int pass = 0; pass < t->n_passes; pass++) {
        for (size_t i = 0; i + 2 <= t->n_lines; i += 2) {
            a.words += t->lines[i].words;
            b.words += t->lines[i + 1].words;
        }
        __asm__ volatile("" : : : "memory");
    }
    a.words += b.words;
    t->end = bench_now();
    t->sink = (float)a.words[0];
    return NULL;
}

double bench_measure_read(size_t bytes, int n_threads)
{
    struct limit_thread threads[BENCH_MOST_THREADS] = {{0}};
    size_t part = bytes / (size_t)n_threads / (2 * LINE_BYTES) * (2 * LINE_BYTES);
    size_t rounded = (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    int n_passes = (int)(1 + READ_BYTES / bytes);
    struct line *lines = aligned_alloc(PAGE_BYTES, rounded);
    double best = 0;

    if (!lines)
        return NAN;
    madvise(lines, rounded, MADV_HUGEPAGE);
    memset(lines, 1, rounded);
    for (int i = 0; i < n_threads; i++) {
        threads[i].lines = lines + (size_t)i * (part / LINE_BYTES);
        threads[i].n_lines = part / LINE_BYTES;
        threads[i].n_passes = n_passes;
    }
    for (int repeat = 0; repeat < READ_REPEATS; repeat++) {
        double seconds = time_threads(threads, n_threads, run_read);
        double n = (double)part * n_threads * n_passes;
        best = fmax(best, n / seconds);
    }
    free(lines);
    return best;
}

/* ---- Samples and rows. */

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double bench_median(double *values, size_t n)
{
    if (!n)
        return NAN;
    qsort(values, n, sizeof(*values), compare_doubles);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

void bench_add(struct bench_samples *samples, double value)
{
    if (samples->n < BENCH_MOST_SAMPLES)
        samples->values[samples->n++] = value;
}

/* "model name" of /proc/cpuinfo, or "". */
static void read_processor(char *out, size_t n)
{
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "r");

    out[0] = 0;
    while (file && fgets(line, sizeof(line), file))
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':')) {
            snprintf(out, n, "%s", strchr(line, ':') + 2);
            out[strcspn(out, "\n\t")] = 0;
            break;
        }
    if (file)
        fclose(file);
}

static void append_row(const struct bench_report *report, const struct bench_row *row,
                       const struct bench_samples *samples, double median, double best)
{
    FILE *file = fopen(report->path, "a");
    char processor[128], date[32];
    time_t now = time(NULL);
    struct tm utc;

    if (!file) {
        fprintf(stderr, "bench: %s cannot be written\n", report->path);
        exit(1);
    }
    read_processor(processor, sizeof(processor));
    strftime(date, sizeof(date), "%Y-%m-%d", gmtime_r(&now, &utc));
    fprintf(file, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%.4g\t%.4g\t%zu\t%.3f\t%s\n", hone_version, date,
            processor, report->machine, report->n_threads, row->name, row->unit, median, best,
            samples->n, row->limit ? median / row->limit_value : NAN,
            row->limit ? row->limit : "");
    fclose(file);
}

void bench_print_row(const struct bench_report *report, const struct bench_row *row,
                     struct bench_samples *samples)
{
    double median = bench_median(samples->values, samples->n);
    int less_is_better = strcmp(row->unit, "s") == 0;
    double best = samples->n ? samples->values[less_is_better ? 0 : samples->n - 1] : NAN;
    int digits = median < 100 ? 3 : 1;

    printf("%-44s %10.*f %10.*f %-8s", row->name, digits, median, digits, best, row->unit);
    if (row->limit)
        printf(" %4.0f %% of %s", 100 * median / row->limit_value, row->limit);
    printf("\n");
    fflush(stdout);
    if (report->path)
        append_row(report, row, samples, median, best);
}
