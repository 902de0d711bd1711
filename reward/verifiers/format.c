#include <stdint.h>
#include <string.h>

#include "common/memory.h"
#include "reward/options.h"
#include "reward/verifiers/format.h"
#include "reward/verifiers/verifiers.h"

/*
 * format: the form of prefill and completion, read as one text. The state machine here takes one
 * pass over the bytes and leaves result bits:
 *   strict    think once, then answer once, both with text, only blanks around: 1, else 0
 *   tags      0.25 for each tag that stands there exactly once
 *   logic_rl  each tag exactly once, in order: 1, else -1 (kk.py of Logic-RL)
 * The rules of other projects are in format_ported.c.
 */
enum { VARIANT_STRICT, VARIANT_TAGS, VARIANT_LOGIC_RL, N_OWN_VARIANTS };

struct format {
    int variant;
    char fence[32];               /* language of the block that "r1_code" asks for; "": any */
};

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
    static const char *const known[] = {"variant", "fence", NULL};
    const char *variants[FORMAT_MAX_VARIANTS] = {"strict", "tags", "logic_rl"};
    struct format wanted = {.variant = VARIANT_STRICT};

    (void)host;
    for (size_t i = 0; format_ported[i].name; i++)
        variants[N_OWN_VARIANTS + i] = format_ported[i].name;
    int status = options_check(options, "format", known);
    if (status == 0)
        status = options_choice(options, "variant", variants, &wanted.variant);
    if (status == 0)
        status = options_text(options, "fence", wanted.fence, sizeof(wanted.fence));
    if (status < 0)
        return status;
    struct format *kept = mem_alloc(1, sizeof(*kept));
    *kept = wanted;
    *state = kept;
    return 0;
}

static double score_machine(const struct machine *machine, int variant)
{
    int n_once = 0;

    if (variant == VARIANT_STRICT)
        return machine->bits == FORMAT_ALL;
    for (int i = 0; i < N_TAGS; i++)
        n_once += machine->counts[i] == 1;
    if (variant == VARIANT_TAGS)
        return 0.25 * n_once;
    return n_once == N_TAGS && (machine->bits & FORMAT_NO_REPEAT) ? 1 : -1;
}

static int32_t score_ported(const struct format *format, const struct verifier_task *task,
                            struct verifier_verdict *verdict)
{
    const struct format_row *row = &format_ported[format->variant - N_OWN_VARIANTS];
    const char *why = "well formed";
    struct text joined = {0};

    text_append(&joined, task->prefill.data ? task->prefill.data : "", task->prefill.length);
    text_append(&joined, task->completion.data ? task->completion.data : "",
                task->completion.length);
    if (joined.failed) {
        text_release(&joined);
        return verdict_set(verdict, VERIFIER_UNREADABLE, 0, "the text is too long");
    }
    struct verifier_text text = {joined.data ? joined.data : "", joined.length};
    double value = row->score(text, format->fence, &why);
    text_release(&joined);
    return verdict_set(verdict, value >= 1 ? VERIFIER_RIGHT : VERIFIER_WRONG, value, "%s", why);
}

static int32_t score(void *state, const struct verifier_task *task,
                     struct verifier_verdict *verdict)
{
    struct machine machine = {.bits = FORMAT_ONLY_BLANKS | FORMAT_NO_REPEAT};
    const struct format *format = state;

    if (format->variant >= N_OWN_VARIANTS)
        return score_ported(format, task, verdict);
    take_text(&machine, task->prefill);
    take_text(&machine, task->completion);
    flush(&machine);
    double value = score_machine(&machine, format->variant);
    return verdict_set(verdict, value >= 1 ? VERIFIER_RIGHT : VERIFIER_WRONG, value, "%s",
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
    .version = "2",
    .help = "Reasoning in <think>, the answer in <answer>; option variant: other projects' rules.",
    .create = create,
    .score = score,
    .destroy = destroy,
};
