/*
 * math/math.h - whether an answer means the same as the reference.
 *
 * The contract is docs/verifiers.md, part "maths". One `struct math` per thread: it holds the arena
 * of a verdict, the child process of the slow path and the counts. Any bytes of any size may come
 * in; a verdict takes at most 250 ms and a fixed amount of memory.
 */
#ifndef HONE_MATH_MATH_H
#define HONE_MATH_MATH_H

#include <stddef.h>
#include <stdint.h>

#include "common/memory.h"

/* name, text in reports, name of the counter, counts as right */
#define MATH_OUTCOME_MAP(X)                                                                        \
    X(RIGHT_EXACT, "right (exact)", "right_exact", 1)                                              \
    X(RIGHT_PROVED, "right (proved)", "right_proved", 1)                                           \
    X(RIGHT_NUMERIC, "right (numeric)", "right_numeric", 1)                                        \
    X(WRONG, "wrong", "wrong", 0)                                                                  \
    X(NO_ANSWER, "no answer", "no_answer", 0)                                                      \
    X(UNREADABLE, "unreadable", "unreadable", 0)                                                   \
    X(UNREADABLE_GOLD, "unreadable gold", "unreadable_gold", 0)                                    \
    X(LIMIT, "limit", "limit", 0)

enum math_outcome {
#define X(name, text, counter, right) MATH_##name,
    MATH_OUTCOME_MAP(X)
#undef X
    MATH_N_OUTCOMES
};

const char *math_outcome_text(enum math_outcome outcome);
const char *math_outcome_counter(enum math_outcome outcome);
int math_outcome_is_right(enum math_outcome outcome);

enum math_mode {
    MATH_ANSWER,    /* the text is an answer */
    MATH_STRICT,    /* a completion: box, ####, "answer is", answer tag (for training) */
    MATH_LENIENT,   /* as strict, else its last formula or number (for evaluation) */
};

struct math_options {
    enum math_mode mode;        /* of the prediction */
    enum math_mode gold_mode;   /* MATH_ANSWER; MATH_LENIENT for a gold that is a whole solution */
};

#define MATH_READING_BYTES 64
struct math_verdict {
    enum math_outcome outcome;
    const char *path;           /* the step that decided; never NULL, never freed */
    const char *extracted;      /* n_extracted bytes, borrowed until the next call; may be NULL */
    size_t n_extracted;
    char gold_reading[MATH_READING_BYTES], reading[MATH_READING_BYTES];   /* "interval", ... */
};

struct math;
int math_create(struct math **out, uint64_t seed);
void math_destroy(struct math **math);

/* Always fills the verdict. */
void math_verify(struct math *math, const char *gold, size_t n_gold, const char *pred,
                 size_t n_pred, const struct math_options *options, struct math_verdict *verdict);

/* Verdicts since the last call with `reset`. */
void math_counts(struct math *math, int64_t counts[MATH_N_OUTCOMES], int reset);

/* Appends the answer in a completion, by the rules of `mode`. 1 when there is one; else 0 and the
 * reason in *why (static text). Neither readable mathematics nor valid UTF-8 is promised. */
int math_extract(const char *text, size_t n, enum math_mode mode, struct text *answer,
                 const char **why);

#endif
