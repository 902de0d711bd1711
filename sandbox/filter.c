/*
 * The system call filter: an allow list. An answer other than "allow" is given to what innocent
 * runtimes try; everything that is not in the table, and every foreign architecture, kills.
 *
 * The kernel translates the program anew for each run, so it is short: one bit a call and answer,
 * in words of 32 calls. Calls whose arguments are looked at follow the bits of their word. A test
 * compares it with libseccomp's program for the same table, which is longer by two thirds.
 */
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stddef.h>
#include <string.h>

#include "common/memory.h"
#include "common/status.h"
#include "sandbox/filter.h"
#include "sandbox/internal.h"

#define CALLS_MAX 512         /* larger numbers kill, x32's among them */
#define N_WORDS (CALLS_MAX / 32)
#define ANSWERS_MAX 16        /* different ones of one profile */
#define INSTRUCTIONS_MAX 256  /* a conditional jump reaches no further */
#define KILL 0                /* labels: the answers, then those inside a word */
#define ALLOW 1
#define FALL_THROUGH (-1)
#define LABELS_MAX (ANSWERS_MAX + INSTRUCTIONS_MAX)

struct assembly {
    struct sock_filter code[INSTRUCTIONS_MAX];
    short on_true[INSTRUCTIONS_MAX], on_false[INSTRUCTIONS_MAX];   /* labels */
    short place[LABELS_MAX];
    uint32_t answers[ANSWERS_MAX];
    uint32_t bits[N_WORDS][ANSWERS_MAX];   /* which calls always get that answer */
    int n, n_answers, n_labels, overflow;
};

static void emit(struct assembly *out, unsigned code, uint32_t k, int on_true, int on_false)
{
    if (out->n == INSTRUCTIONS_MAX) {
        out->overflow = 1;
        return;
    }
    out->code[out->n] = (struct sock_filter){.code = (unsigned short)code, .k = k};
    out->on_true[out->n] = (short)on_true;
    out->on_false[out->n++] = (short)on_false;
}

static void load(struct assembly *out, size_t offset)
{
    emit(out, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, FALL_THROUGH, FALL_THROUGH);
}

static void compute(struct assembly *out, unsigned code, uint32_t k)
{
    emit(out, code, k, FALL_THROUGH, FALL_THROUGH);
}

static void jump_if(struct assembly *out, unsigned test, uint32_t k, int on_true, int on_false)
{
    emit(out, BPF_JMP | BPF_K | test, k, on_true, on_false);
}

static int new_label(struct assembly *out)
{
    if (out->n_labels == LABELS_MAX) {
        out->overflow = 1;
        return KILL;
    }
    return out->n_labels++;
}

static void place_label(struct assembly *out, int label)
{
    out->place[label] = (short)out->n;
}

static int answer_label(struct assembly *out, int error)
{
    uint32_t answer = error ? SECCOMP_RET_ERRNO | (uint32_t)error : SECCOMP_RET_ALLOW;

    for (int i = 0; i < out->n_answers; i++)
        if (out->answers[i] == answer)
            return i;
    if (out->n_answers == ANSWERS_MAX) {
        out->overflow = 1;
        return KILL;
    }
    out->answers[out->n_answers] = answer;
    return out->n_answers++;
}

/* To `answer` when the rule holds, else to the next instruction. All 64 bits count. */
static void check_argument(struct assembly *out, const struct filter_rule *rule, int answer)
{
    size_t low_at = offsetof(struct seccomp_data, args) + rule->argument * sizeof(uint64_t);
    size_t high_at = low_at + sizeof(uint32_t);   /* both architectures are little-endian */
    uint32_t low = (uint32_t)rule->value, high = (uint32_t)(rule->value >> 32);
    int next = new_label(out);

    load(out, high_at);
    switch (rule->test) {
    case FILTER_ALWAYS:
        BUG("a rule without a test");
    case FILTER_EQUAL:
        jump_if(out, BPF_JEQ, high, FALL_THROUGH, next);
        load(out, low_at);
        jump_if(out, BPF_JEQ, low, answer, next);
        break;
    case FILTER_NOT_EQUAL:
        jump_if(out, BPF_JEQ, high, FALL_THROUGH, answer);
        load(out, low_at);
        jump_if(out, BPF_JEQ, low, next, answer);
        break;
    case FILTER_AT_MOST:
        jump_if(out, BPF_JGT, high, next, FALL_THROUGH);
        jump_if(out, BPF_JEQ, high, FALL_THROUGH, answer);
        load(out, low_at);
        jump_if(out, BPF_JGT, low, next, answer);
        break;
    case FILTER_ABOVE:
        jump_if(out, BPF_JGT, high, answer, FALL_THROUGH);
        jump_if(out, BPF_JEQ, high, FALL_THROUGH, next);
        load(out, low_at);
        jump_if(out, BPF_JGT, low, answer, next);
        break;
    case FILTER_MASKED:
        compute(out, BPF_ALU | BPF_AND | BPF_K, (uint32_t)(rule->mask >> 32));
        jump_if(out, BPF_JEQ, high, FALL_THROUGH, next);
        load(out, low_at);
        compute(out, BPF_ALU | BPF_AND | BPF_K, (uint32_t)rule->mask);
        jump_if(out, BPF_JEQ, low, answer, next);
        break;
    }
    place_label(out, next);
}

/* The number of a rule's call; -1 when the rule is none of this profile, or this architecture has
 * no such call, or a newer library would know it: it stays forbidden. */
static int call_of(const struct filter_rule *rule, enum filter_profile profile)
{
    int number = rule->profiles & (int)profile ? seccomp_syscall_resolve_name(rule->name) : -1;

    if (number >= CALLS_MAX)
        BUG("system call %s has number %d", rule->name, number);
    return number < 0 ? -1 : number;
}

/* A = the call's number, one of this word that no bit answers. */
static void check_calls_of_word(struct assembly *out, int word, enum filter_profile profile)
{
    for (int number = word * 32; number < word * 32 + 32; number++) {
        int next = -1;
        for (const struct filter_rule *rule = filter_rules; rule->name; rule++) {
            if (rule->test == FILTER_ALWAYS || call_of(rule, profile) != number)
                continue;
            if (next < 0) {
                next = new_label(out);
                load(out, offsetof(struct seccomp_data, nr));
                jump_if(out, BPF_JEQ, (uint32_t)number, FALL_THROUGH, next);
            }
            check_argument(out, rule, answer_label(out, rule->error));
        }
        if (next >= 0) {
            compute(out, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
            place_label(out, next);
        }
    }
    compute(out, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
}

static void assemble(struct assembly *out, enum filter_profile profile)
{
    uint32_t used[N_WORDS] = {0};

    for (const struct filter_rule *rule = filter_rules; rule->name; rule++) {
        int number = call_of(rule, profile);
        if (number < 0)
            continue;
        used[number / 32] = 1;
        if (rule->test == FILTER_ALWAYS)
            out->bits[number / 32][answer_label(out, rule->error)] |= 1u << number % 32;
    }
    load(out, offsetof(struct seccomp_data, arch));
    jump_if(out, BPF_JEQ, seccomp_arch_native(), FALL_THROUGH, KILL);
    load(out, offsetof(struct seccomp_data, nr));
    compute(out, BPF_ALU | BPF_AND | BPF_K, 31);
    compute(out, BPF_MISC | BPF_TAX, 0);
    compute(out, BPF_LD | BPF_IMM, 1);
    compute(out, BPF_ALU | BPF_LSH | BPF_X, 0);
    compute(out, BPF_ST, 0);   /* M[0]: the bit of the call in its word */
    load(out, offsetof(struct seccomp_data, nr));
    compute(out, BPF_ALU | BPF_RSH | BPF_K, 5);
    for (int word = 0; word < N_WORDS; word++) {
        if (!used[word])
            continue;
        int next = new_label(out);
        jump_if(out, BPF_JEQ, (uint32_t)word, FALL_THROUGH, next);
        compute(out, BPF_LD | BPF_MEM, 0);
        for (int i = ALLOW; i < ANSWERS_MAX; i++)
            if (out->bits[word][i])
                jump_if(out, BPF_JSET, out->bits[word][i], i, FALL_THROUGH);
        check_calls_of_word(out, word, profile);
        place_label(out, next);
    }
    for (int i = 0; i < out->n_answers; i++) {
        place_label(out, i);
        compute(out, BPF_RET | BPF_K, out->answers[i]);
    }
}

static unsigned char distance(struct assembly *out, int from, int label)
{
    int n = label == FALL_THROUGH ? 0 : out->place[label] - from - 1;

    if (n < 0 || n > 255)
        out->overflow = 1;
    return (unsigned char)n;
}

int filter_build(struct sock_fprog *program, enum filter_profile profile)
{
    uint32_t architecture = seccomp_arch_native();

    memset(program, 0, sizeof(*program));
    if (architecture != SCMP_ARCH_X86_64 && architecture != SCMP_ARCH_AARCH64)
        return status_fail(STATUS_UNSUPPORTED, "sandbox: no system call filter for this "
                                               "architecture: use x86-64 or arm64");
    struct assembly *out = mem_alloc(1, sizeof(*out));
    out->answers[KILL] = SECCOMP_RET_KILL_PROCESS;
    out->answers[ALLOW] = SECCOMP_RET_ALLOW;
    out->n_answers = 2;
    out->n_labels = ANSWERS_MAX;
    assemble(out, profile);
    for (int i = 0; i < out->n; i++)
        if (BPF_CLASS(out->code[i].code) == BPF_JMP) {
            out->code[i].jt = distance(out, i, out->on_true[i]);
            out->code[i].jf = distance(out, i, out->on_false[i]);
        }
    if (out->overflow)
        BUG("the system call filter of profile %d is too long", (int)profile);
    program->filter = mem_alloc((size_t)out->n, sizeof(struct sock_filter));
    memcpy(program->filter, out->code, (size_t)out->n * sizeof(struct sock_filter));
    program->len = (unsigned short)out->n;
    mem_free(out);
    return 0;
}

void filter_release(struct sock_fprog *program)
{
    mem_free(program->filter);
    program->filter = NULL;
    program->len = 0;
}
