/*
 * bench/bench_verify.c - speed of the maths verifier on one core.
 *
 * Plain numbers and whole completions of 2 kB a second; median and 99th percentile of the pairs of
 * each kind in tests/golden/math/pairs.jsonl; the worst case over hostile inputs.
 *
 *     bench_verify [file of pairs]
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/files.h"
#include "common/json.h"
#include "common/status.h"
#include "math/math.h"

enum { MAX_PAIRS = 4096, REPEATS = 5, COMPLETION_BYTES = 2048, MAX_KINDS = 64 };

static const struct math_options answers, completions = {MATH_STRICT, MATH_ANSWER};

static double micros(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}

static void bench_numbers(struct math *math)
{
    static const char *const pairs[][2] = {
        {"42", "42"}, {"7425000", "7,425,000"}, {"1/2", "0.5"}, {"\\frac{3}{4}", "0.75"},
        {"-17", "17"}, {"3.50", "7/2"}, {"120", "121"}, {"2/3", "\\frac{4}{6}"},
    };
    struct math_verdict verdict;
    size_t n = 0;
    double start = micros(), seconds;

    do {
        for (size_t i = 0; i < 8 * 1000; i++)
            math_verify(math, pairs[i % 8][0], strlen(pairs[i % 8][0]), pairs[i % 8][1],
                        strlen(pairs[i % 8][1]), &answers, &verdict);
        n += 8 * 1000;
        seconds = (micros() - start) * 1e-6;
    } while (seconds < 1);
    printf("plain numbers      %12.0f a second\n", (double)n / seconds);
}

static void bench_completions(struct math *math)
{
    static const char line[] = "We add $3x^2 + 5$ to both sides, so that x is \\frac{1}{2}. ";
    static const char *const ends[] = {"The answer is \\boxed{42}.", "#### 42",
                                       "The final answer is $42$."};
    static char text[COMPLETION_BYTES + 64];
    struct math_verdict verdict;

    for (size_t e = 0; e < 3; e++) {
        size_t n = 0, end = strlen(ends[e]), count = 0;
        double start, seconds;

        while (n + sizeof(line) + end < COMPLETION_BYTES) {
            memcpy(text + n, line, sizeof(line) - 1);
            n += sizeof(line) - 1;
        }
        memcpy(text + n, ends[e], end);
        n += end;
        start = micros();
        do {
            for (int i = 0; i < 2000; i++)
                math_verify(math, "42", 2, text, n, &completions, &verdict);
            count += 2000;
            seconds = (micros() - start) * 1e-6;
        } while (seconds < 0.5);
        printf("completions 2 kB   %12.0f a second   %s (%s)\n", (double)count / seconds, ends[e],
               math_outcome_text(verdict.outcome));
    }
}

struct timed {
    const char *kind;
    double micros;
};

static int by_kind_and_time(const void *a, const void *b)
{
    const struct timed *x = a, *y = b;
    int order = strcmp(x->kind, y->kind);

    return order ? order : (x->micros > y->micros) - (x->micros < y->micros);
}

static double time_pair(struct math *math, const json_t *row)
{
    const json_t *gold = json_object_get(row, "gold"), *pred = json_object_get(row, "pred");
    const char *mode = json_string_value(json_object_get(row, "mode"));
    struct math_options options = {mode && strcmp(mode, "completion") == 0 ? MATH_LENIENT
                                                                           : MATH_ANSWER, 0};
    struct math_verdict verdict;
    double best = 1e12;

    for (int i = 0; i < REPEATS; i++) {
        double start = micros(), spent;

        math_verify(math, json_string_value(gold), json_string_length(gold),
                    json_string_value(pred), json_string_length(pred), &options, &verdict);
        spent = micros() - start;
        best = spent < best ? spent : best;
    }
    return best;
}

static void bench_pairs(struct math *math, const char *path)
{
    static struct timed times[MAX_PAIRS];
    static json_t *rows[MAX_PAIRS];
    struct text lines = {0};
    size_t n = 0;

    if (file_read(path, (size_t)64 << 20, &lines) < 0) {
        fprintf(stderr, "%s\n", status_reason());
        exit(1);
    }
    for (char *line = lines.data; *line && n < MAX_PAIRS;) {
        size_t length = strcspn(line, "\n");

        if (json_parse(&rows[n], line, length, path) < 0) {
            fprintf(stderr, "%s\n", status_reason());
            exit(1);
        }
        times[n].kind = json_string_value(json_object_get(rows[n], "kind"));
        times[n].kind = times[n].kind ? times[n].kind : "";
        times[n].micros = time_pair(math, rows[n]);
        n++;
        line += length + (line[length] == '\n');
    }
    qsort(times, n, sizeof(times[0]), by_kind_and_time);
    printf("\n%-16s %6s %12s %12s %12s\n", "kind", "pairs", "median us", "99 % us", "worst us");
    for (size_t from = 0, to; from < n; from = to) {
        for (to = from; to < n && strcmp(times[to].kind, times[from].kind) == 0; to++)
            continue;
        printf("%-16s %6zu %12.2f %12.2f %12.2f\n", times[from].kind, to - from,
               times[from + (to - from) / 2].micros, times[from + (to - from) * 99 / 100].micros,
               times[to - 1].micros);
    }
    for (size_t i = 0; i < n; i++)
        json_decref(rows[i]);
    text_release(&lines);
}

/* front, unit again and again, back: of about n bytes. */
static const struct hostile {
    const char *name, *gold, *front, *unit, *back;
    size_t n;
    enum math_mode mode;
} hostile[] = {
    {"brackets", "1", "", "(", "1", 4000, MATH_ANSWER},
    {"braces", "1", "", "{", "", 4000, MATH_ANSWER},
    {"roots", "1", "", "\\sqrt{", "", 4000, MATH_ANSWER},
    {"fractions", "1", "", "\\frac1{", "", 4000, MATH_ANSWER},
    {"minus signs", "1", "", "-", "1", 4000, MATH_ANSWER},
    {"powers", "1", "9", "^9", "", 4000, MATH_ANSWER},
    {"factorials", "1", "9", "!", "", 4000, MATH_ANSWER},
    {"sums", "x", "x", "+x", "", 4000, MATH_ANSWER},
    {"products", "x", "(x+1)", "(x+1)", "", 3000, MATH_ANSWER},
    {"powers of sums", "x", "", "(x+y+z+w)^9", "", 600, MATH_ANSWER},
    {"list of roots", "\\sqrt2", "\\sqrt{2}", ",\\sqrt{3}", "", 3900, MATH_ANSWER},
    {"plus-minus", "1", "1", "\\pm1", "", 2000, MATH_ANSWER},
    {"digits", "1", "1", "7", "", 4090, MATH_ANSWER},
    {"tower", "1", "2", "^{2^{2", "}}", 60, MATH_ANSWER},
    {"roots in sums", "\\sqrt2", "\\sqrt2", "+\\sqrt{3}\\sqrt[7]{5}", "", 800, MATH_ANSWER},
    {"sines", "\\sin 1", "\\sin(1)", "+\\sin(2)^{\\cos 3}", "", 900, MATH_ANSWER},
    {"matrix", "1", "\\begin{pmatrix}1", "&1", "\\end{pmatrix}", 3000, MATH_ANSWER},
    {"bits of text", "1", "", "\xff\xfe", "", 4000, MATH_ANSWER},
    {"megabytes", "1", "", "x", "", 8 << 20, MATH_ANSWER},
    {"open boxes", "1", "", "\\boxed{", "", 4 << 20, MATH_LENIENT},
    {"empty boxes", "1", "", "\\boxed{}", "", 4 << 20, MATH_LENIENT},
    {"boxes", "1", "", "\\boxed{1},", "", 4 << 20, MATH_LENIENT},
    {"less-than signs", "1", "", "<", "", 8 << 20, MATH_LENIENT},
    {"thoughts", "1", "", "<think></think>", "", 8 << 20, MATH_LENIENT},
    {"answers", "1", "", "answer is ", "", 8 << 20, MATH_LENIENT},
    {"w", "1", "", "answe", "", 8 << 20, MATH_LENIENT},
    {"dollars", "1", "", "$", "", 8 << 20, MATH_LENIENT},
    {"backslashes", "1", "", "\\", "", 8 << 20, MATH_LENIENT},
    {"hashes", "1", "", "# ", "", 8 << 20, MATH_LENIENT},
};

static void bench_hostile(struct math *math)
{
    double worst = 0;

    printf("\n%-16s %12s  outcome\n", "hostile", "ms");
    for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
        const struct hostile *row = &hostile[i];
        struct math_options options = {row->mode, MATH_ANSWER};
        struct math_verdict verdict;
        struct text text = {0};
        double start, spent;

        text_print(&text, "%s", row->front);
        while (text.length < row->n)
            text_append(&text, row->unit, strlen(row->unit));
        text_print(&text, "%s", row->back);
        start = micros();
        math_verify(math, row->gold, strlen(row->gold), text.data, text.length, &options,
                    &verdict);
        spent = (micros() - start) * 1e-3;
        worst = spent > worst ? spent : worst;
        printf("%-16s %12.3f  %s: %s\n", row->name, spent, math_outcome_text(verdict.outcome),
               verdict.path);
        text_release(&text);
    }
    printf("worst            %12.3f ms\n", worst);
}

int main(int n_arguments, char **arguments)
{
    struct math *math;

    if (math_create(&math, 1) < 0) {
        fprintf(stderr, "%s\n", status_reason());
        return 1;
    }
    bench_numbers(math);
    bench_completions(math);
    bench_pairs(math, n_arguments > 1 ? arguments[1] : "tests/golden/math/pairs.jsonl");
    bench_hostile(math);
    math_destroy(&math);
    return 0;
}
