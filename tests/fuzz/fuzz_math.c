/* Extraction and verdict on any bytes, with the limits as assertions: time, memory, and that an
 * empty prediction is never right. The first byte chooses the modes; a byte 0x1e parts gold and
 * prediction, without one the whole is the prediction for the gold 42. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/status.h"
#include "math/math.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { MAX_MS = 250, MAX_MEMORY_BYTES = 64 << 20 };

static double cpu_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static long resident_bytes(void)
{
    long total = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    if (!file || fscanf(file, "%ld %ld", &total, &resident) != 2)
        abort();
    fclose(file);
    return resident * sysconf(_SC_PAGESIZE);
}

static void check_extraction(const char *text, size_t n)
{
    struct text answer = {.maximum = n + 1024};
    const char *why;

    for (int mode = MATH_STRICT; mode <= MATH_LENIENT; mode++) {
        text_clear(&answer);
        if (math_extract(text, n, (enum math_mode)mode, &answer, &why) && !answer.length)
            abort();
        if (!why || answer.length > n + 256)
            abort();
    }
    text_release(&answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct math *math;
    const char *text = (const char *)data + 1, *gold = "42", *parting;
    struct math_options options;
    struct math_verdict verdict;
    size_t n_gold = 2;

    if (!math && math_create(&math, 1) < 0)
        abort();
    if (n < 1)
        return 0;
    n--;
    options.mode = (enum math_mode)(data[0] % 3);
    options.gold_mode = (enum math_mode)(data[0] / 3 % 3);
    parting = memchr(text, 0x1e, n);
    if (parting) {
        gold = text;
        n_gold = (size_t)(parting - text);
        text = parting + 1;
        n -= n_gold + 1;
    }
    double start = cpu_ms();
    long memory = resident_bytes();
    check_extraction(text, n);
    math_verify(math, gold, n_gold, text, n, &options, &verdict);
    if (cpu_ms() - start > MAX_MS || resident_bytes() - memory > MAX_MEMORY_BYTES) {
        fprintf(stderr, "%.0f ms, %ld bytes\n", cpu_ms() - start, resident_bytes() - memory);
        abort();
    }
    if (verdict.outcome >= MATH_N_OUTCOMES || !verdict.path ||
        (math_outcome_is_right(verdict.outcome) && !n))
        abort();
    return 0;
}
