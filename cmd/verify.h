/* cmd/verify.h - the parts of `hone verify`: one question, lines of them, processes. */
#ifndef HONE_CMD_VERIFY_H
#define HONE_CMD_VERIFY_H

#include "common/memory.h"
#include "math/math.h"
#include "pipeline/pipeline.h"

struct question {
    const char *verifier, *gold, *pred, *question, *language, *prefill, *columns;
    const char *accuracy;         /* the verifier that says what is right, for kimi_length */
    int is_bare;                  /* pred is the answer alone */
    int is_gold_whole;            /* gold is a whole solution, whose answer is looked for (math) */
    struct reward_facts facts;
};

struct verify_settings {
    struct reward_config reward;
    struct sandbox_config sandbox;
    struct question defaults;     /* for what a line leaves out */
    const char *input;            /* a file, or NULL: standard input */
    int n_processes;
};

/* Who is asked: in each process its own. */
struct judge {
    struct reward *reward;
    struct math *math;            /* made by the first question to "math" */
    int is_lenient;               /* unless math.extraction=strict: this is evaluation */
    int has_seed;                 /* math.seed was given; else a random one */
    uint64_t seed;
};
int judge_open(struct judge *judge, const struct verify_settings *settings);
void judge_close(struct judge *judge);

struct answer {
    const char *outcome;          /* "right (exact)", "wrong", "no answer", ... */
    int is_right, is_error;       /* an error: no verdict */
    double score, micros;
    char path[WIRE_DETAIL_BYTES];     /* of math: the step that decided */
    char detail[WIRE_DETAIL_BYTES];   /* of the others */
    char gold_reading[64], reading[64];   /* of math: what each was read as; "" when it was not */
    int has_extracted;
    struct text extracted;
};
int judge_ask(struct judge *judge, const struct question *question, struct answer *answer);
/* The same for "math", whose verdict can say more. */
int judge_ask_math(struct judge *judge, const struct question *question, struct answer *answer);
void verify_answer_release(struct answer *answer);

/* Appends the answer to one line, the input's line `number`. What cannot be read is answered with
 * an error object; returns 1 then, else 0. */
int verify_line(struct judge *judge, const struct verify_settings *settings, uint64_t number,
                const char *line, size_t n, struct text *out);

/* All lines of the input, answered in order on stdout. STATUS_FORMAT at the end when some were
 * bad, STATUS_INTERRUPTED after a signal. */
int verify_stream(struct judge *judge, const struct verify_settings *settings);

/* ---- Processes that answer parts of the input, each with verifiers of its own. */
struct part {
    uint64_t first_line;          /* from 1 */
    struct text lines;
};
#define CREW_MAX 256
struct crew;
int crew_start(struct crew **out, const struct verify_settings *settings);
void crew_stop(struct crew **crew);
int crew_size(const struct crew *crew);
/* A process takes one part at a time: give, take, give. The answers are appended. */
int crew_give(struct crew *crew, int process, const struct part *part);
int crew_take(struct crew *crew, int process, struct text *answers, uint64_t *n_bad);

/* All lines of a part: what one process does. */
uint64_t verify_part(struct judge *judge, const struct verify_settings *settings,
                     const struct part *part, struct text *out);

#endif
