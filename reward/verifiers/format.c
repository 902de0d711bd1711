#include <stdint.h>
#include <string.h>

#include "common/memory.h"
#include "reward/options.h"
#include "reward/verifiers/verifiers.h"

/*
 * format: one pass over the bytes of prefill and completion.
 *   strict  think once, then answer once, both with text, only blanks around: 1, else 0
 *   tags    0.25 for each tag that stands there exactly once
 */
enum { VARIANT_STRICT, VARIANT_TAGS };

static const char *const tags[] = {"<think>", "</think>", "<answer>", "</answer>"};
#define N_TAGS 4

enum format_bit {
    FORMAT_THINK_OPENED = 1,      /* first of all, by the completion or by the prefill */
    FORMAT_THINK_CLOSED = 2,
    FORMAT_ANSWER_OPENED = 4,     /* behind the reasoning */
    FORMAT_ANSWER_CLOSED = 8,
    FORMAT_ONLY_BLANKS = 16,      /* around and between the two */
    FORMAT_THINK_FILLED = 32,
    FORMAT_ANSWER_FILLED = 64,
    FORMAT_NO_REPEAT = 128,       /* each tag at most once and in its place */
    FORMAT_ALL = 255
};

struct machine {
    int place;                    /* how many tags have come in order: 0 before, 4 behind all */
    unsigned bits;
    unsigned counts[N_TAGS];
    char pending[16];             /* bytes since a '<' that may become a tag */
    size_t n_pending;
};

static void take_content(struct machine *machine, char byte)
{
    if (byte == ' ' || (byte >= '\t' && byte <= '\r'))
        return;
    if (machine->place == 1)
        machine->bits |= FORMAT_THINK_FILLED;
    else if (machine->place == 3)
        machine->bits |= FORMAT_ANSWER_FILLED;
    else
        machine->bits &= ~(unsigned)FORMAT_ONLY_BLANKS;
}

static void take_tag(struct machine *machine, int tag)
{
    machine->counts[tag]++;
    if (tag == machine->place) {
        machine->bits |= 1u << tag;
        machine->place++;
    } else {
        machine->bits &= ~(unsigned)FORMAT_NO_REPEAT;
    }
}

/* Tag that `pending` is, N_TAGS when it may become one, -1 when it cannot. */
static int match_tag(const struct machine *machine)
{
    int partial = -1;

    for (int i = 0; i < N_TAGS; i++) {
        size_t n = strlen(tags[i]);
        if (n < machine->n_pending || memcmp(machine->pending, tags[i], machine->n_pending) != 0)
            continue;
        if (n == machine->n_pending)
            return i;
        partial = N_TAGS;
    }
    return partial;
}

static void flush(struct machine *machine)
{
    for (size_t i = 0; i < machine->n_pending; i++)
        take_content(machine, machine->pending[i]);
    machine->n_pending = 0;
}

static void take_byte(struct machine *machine, char byte)
{
    if (byte == '<')
        flush(machine);   /* a tag has no '<' but its first */
    if (byte != '<' && !machine->n_pending) {
        take_content(machine, byte);
        return;
    }
    machine->pending[machine->n_pending++] = byte;
    int tag = match_tag(machine);
    if (tag < 0) {
        flush(machine);
    } else if (tag < N_TAGS) {
        machine->n_pending = 0;
        take_tag(machine, tag);
    }
}

static void take_text(struct machine *machine, struct verifier_text text)
{
    for (uint64_t i = 0; i < text.length; i++)
        take_byte(machine, text.data[i]);
}

/* What a person should read first of what is amiss. */
static const char *explain(unsigned bits)
{
    return !(bits & FORMAT_THINK_OPENED)    ? "does not begin with <think>"
           : !(bits & FORMAT_THINK_CLOSED)  ? "no </think>"
           : !(bits & FORMAT_ANSWER_OPENED) ? "no <answer> behind </think>"
           : !(bits & FORMAT_ANSWER_CLOSED) ? "no </answer>"
           : !(bits & FORMAT_NO_REPEAT)     ? "a tag is repeated or out of place"
           : !(bits & FORMAT_ONLY_BLANKS)   ? "text outside of the tags"
           : !(bits & FORMAT_THINK_FILLED)  ? "the reasoning is empty"
           : !(bits & FORMAT_ANSWER_FILLED) ? "the answer is empty"
                                            : "well formed";
}

static int32_t create(const struct verifier_host *host, struct verifier_text options, void **state)
{
    static const char *const known[] = {"variant", NULL};
    static const char *const variants[] = {"strict", "tags", NULL};
    int variant = VARIANT_STRICT;

    (void)host;
    int status = options_check(options, "format", known);
    if (status == 0)
        status = options_choice(options, "variant", variants, &variant);
    if (status < 0)
        return status;
    int *kept = mem_alloc(1, sizeof(*kept));
    *kept = variant;
    *state = kept;
    return 0;
}

static int32_t score(void *state, const struct verifier_task *task,
                     struct verifier_verdict *verdict)
{
    struct machine machine = {.bits = FORMAT_ONLY_BLANKS | FORMAT_NO_REPEAT};
    const int *variant = state;

    take_text(&machine, task->prefill);
    take_text(&machine, task->completion);
    flush(&machine);
    if (*variant == VARIANT_TAGS) {
        double value = 0;
        for (int i = 0; i < N_TAGS; i++)
            value += machine.counts[i] == 1 ? 0.25 : 0;
        return verdict_set(verdict, value >= 1 ? VERIFIER_RIGHT : VERIFIER_WRONG, value,
                           "%s", explain(machine.bits));
    }
    int right = machine.bits == FORMAT_ALL;
    return verdict_set(verdict, right ? VERIFIER_RIGHT : VERIFIER_WRONG, right, "%s",
                       explain(machine.bits));
}

static void destroy(void *state)
{
    mem_free(state);
}

const struct verifier_v1 verifier_format = {
    .size = sizeof(verifier_format),
    .flags = VERIFIER_DETERMINISTIC,
    .name = "format",
    .version = "1",
    .help = "Reasoning in <think>, then the answer in <answer>, and nothing else.",
    .create = create,
    .score = score,
    .destroy = destroy,
};
