#include "tests/unit/test_sandbox.h"

#include <linux/seccomp.h>
#include <seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sandbox/filter.h"

/* What the kernel's interpreter of filters makes of one call: the instructions that ours and
 * libseccomp's programs have. */
static uint32_t answer_of(const struct sock_fprog *program, const struct seccomp_data *call)
{
    uint32_t a = 0, x = 0, memory[16] = {0};

    for (unsigned at = 0; at < program->len; at++) {
        const struct sock_filter *one = &program->filter[at];
        int taken;
        switch (one->code) {
        case BPF_LD | BPF_W | BPF_ABS:
            memcpy(&a, (const char *)call + one->k, sizeof(a));
            continue;
        case BPF_LD | BPF_IMM:
            a = one->k;
            continue;
        case BPF_LD | BPF_MEM:
            a = memory[one->k];
            continue;
        case BPF_ST:
            memory[one->k] = a;
            continue;
        case BPF_MISC | BPF_TAX:
            x = a;
            continue;
        case BPF_ALU | BPF_AND | BPF_K:
            a &= one->k;
            continue;
        case BPF_ALU | BPF_RSH | BPF_K:
            a >>= one->k;
            continue;
        case BPF_ALU | BPF_LSH | BPF_X:
            a <<= x;
            continue;
        case BPF_RET | BPF_K:
            return one->k;
        case BPF_JMP | BPF_JA:
            at += one->k;
            continue;
        case BPF_JMP | BPF_JEQ | BPF_K:
            taken = a == one->k;
            break;
        case BPF_JMP | BPF_JGT | BPF_K:
            taken = a > one->k;
            break;
        case BPF_JMP | BPF_JGE | BPF_K:
            taken = a >= one->k;
            break;
        case BPF_JMP | BPF_JSET | BPF_K:
            taken = (a & one->k) != 0;
            break;
        default:
            fail_msg("instruction %u has code %#x", at, one->code);
            return 0;
        }
        at += taken ? one->jt : one->jf;
    }
    fail_msg("the program ends without an answer");
    return 0;
}

static void add_reference_rule(scmp_filter_ctx context, const struct filter_rule *rule)
{
    static const enum scmp_compare comparisons[] = {
        [FILTER_EQUAL] = SCMP_CMP_EQ, [FILTER_NOT_EQUAL] = SCMP_CMP_NE,
        [FILTER_AT_MOST] = SCMP_CMP_LE, [FILTER_ABOVE] = SCMP_CMP_GT,
        [FILTER_MASKED] = SCMP_CMP_MASKED_EQ};
    int number = seccomp_syscall_resolve_name(rule->name);
    uint32_t action = rule->error ? SCMP_ACT_ERRNO((uint32_t)rule->error) : SCMP_ACT_ALLOW;
    struct scmp_arg_cmp test = {.arg = rule->argument, .op = comparisons[rule->test],
                                .datum_a = rule->value};

    if (rule->test == FILTER_MASKED) {
        test.datum_a = rule->mask;
        test.datum_b = rule->value;
    }
    if (number >= 0)
        assert_int_equal(seccomp_rule_add_array(context, action, number,
                                                rule->test != FILTER_ALWAYS, &test), 0);
}

/* The same table, by libseccomp. */
static void build_reference(struct sock_fprog *program, int profile)
{
    static struct sock_filter code[4096];
    scmp_filter_ctx context = seccomp_init(SCMP_ACT_KILL_PROCESS);
    int fd = memfd_create("filter", MFD_CLOEXEC);

    assert_non_null(context);
    assert_int_equal(seccomp_attr_set(context, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS), 0);
    for (const struct filter_rule *rule = filter_rules; rule->name; rule++)
        if (rule->profiles & profile)
            add_reference_rule(context, rule);
    assert_int_equal(seccomp_export_bpf(context, fd), 0);
    ssize_t n = pread(fd, code, sizeof(code), 0);
    assert_true(n > 0 && n < (ssize_t)sizeof(code));
    close(fd);
    seccomp_release(context);
    *program = (struct sock_fprog){.len = (unsigned short)((size_t)n / sizeof(code[0])),
                                   .filter = code};
}

/* Values at which any rule of that call may change its answer: its constant, the neighbours, each
 * bit of constant and mask turned, and the same with other upper halves. */
static size_t list_values(uint64_t *out, int number)
{
    static const uint64_t usual[] = {0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 1ull << 32, ~0ull};
    size_t n = 0;

    for (size_t i = 0; i < sizeof(usual) / sizeof(usual[0]); i++)
        out[n++] = usual[i];
    for (const struct filter_rule *rule = filter_rules; rule->name; rule++) {
        if (rule->test == FILTER_ALWAYS || seccomp_syscall_resolve_name(rule->name) != number)
            continue;
        for (int step = -1; step <= 1; step++)
            out[n++] = rule->value + (uint64_t)(int64_t)step;
        for (int bit = 0; bit < 64; bit++) {
            out[n++] = rule->value ^ 1ull << bit;
            out[n++] = (rule->mask | rule->value) ^ 1ull << bit;
        }
        assert_true(n < 2000);
    }
    return n;
}

static void compare_call(const struct sock_fprog *ours, const struct sock_fprog *reference,
                         const struct seccomp_data *call)
{
    uint32_t a = answer_of(ours, call), b = answer_of(reference, call);

    if (a != b)
        fail_msg("call %d (%llx, %llx, %llx, %llx), architecture %x: %x, should be %x", call->nr,
                 (unsigned long long)call->args[0], (unsigned long long)call->args[1],
                 (unsigned long long)call->args[2], (unsigned long long)call->args[3], call->arch,
                 a, b);
}

/* Every call that a word of the table could hold and more, with each argument at each value. */
static void the_program_means_what_the_table_says(void **state)
{
    static uint64_t values[2200];

    (void)state;
    for (int i = 0; i < N_FILTERS; i++) {
        struct sock_fprog ours, reference;
        assert_int_equal(filter_build(&ours, (enum filter_profile)(1 << i)), 0);
        build_reference(&reference, 1 << i);
        for (int number = -2; number < 1100; number++) {
            struct seccomp_data call = {.nr = number, .arch = seccomp_arch_native()};
            size_t n = list_values(values, number);
            for (int argument = 0; argument < 6; argument++)
                for (size_t k = 0; k < n; k++) {
                    memset(call.args, 0, sizeof(call.args));
                    call.args[argument] = values[k];
                    compare_call(&ours, &reference, &call);
                    for (int other = 0; other < 6; other++)
                        call.args[other] = other == argument ? values[k] : ~0ull;
                    compare_call(&ours, &reference, &call);
                }
            call.nr = number | 0x40000000;   /* x32 */
            compare_call(&ours, &reference, &call);
            call = (struct seccomp_data){.nr = number, .arch = SCMP_ARCH_X86};
            compare_call(&ours, &reference, &call);
        }
        filter_release(&ours);
    }
}

static void every_name_is_a_system_call(void **state)
{
    (void)state;
    for (const struct filter_rule *rule = filter_rules; rule->name; rule++)
        if (seccomp_syscall_resolve_name(rule->name) == __NR_SCMP_ERROR)
            fail_msg("'%s' is no system call", rule->name);
}

static void every_rule_has_a_profile_and_a_reason(void **state)
{
    (void)state;
    for (const struct filter_rule *rule = filter_rules; rule->name; rule++) {
        assert_non_null(rule->reason);
        assert_true(rule->reason[0] != '\0');
        assert_true(rule->profiles > 0 && rule->profiles < 1 << N_FILTERS);
    }
}

/* A row that answers always leaves no room for a second one of the same call and profile. */
static void no_two_rules_contradict(void **state)
{
    (void)state;
    for (const struct filter_rule *a = filter_rules; a->name; a++)
        for (const struct filter_rule *b = a + 1; b->name; b++)
            if (strcmp(a->name, b->name) == 0 && (a->profiles & b->profiles) &&
                (a->test == FILTER_ALWAYS || b->test == FILTER_ALWAYS))
                fail_msg("two rules of '%s' meet the same call", a->name);
}

static void dangerous_calls_are_never_allowed(void **state)
{
    static const char *const dangerous[] = {
        "ptrace", "process_vm_readv", "process_vm_writev", "mount", "umount2", "pivot_root",
        "chroot", "unshare", "setns", "bpf", "perf_event_open", "io_uring_setup", "userfaultfd",
        "keyctl", "add_key", "request_key", "init_module", "finit_module", "kexec_load", "reboot",
        "open_by_handle_at", "name_to_handle_at", "pidfd_open", "pidfd_getfd", "seccomp", "mknod",
        "mknodat", "fsopen", "fsmount", "move_mount", "open_tree", "process_madvise", "vmsplice",
        "splice", "tee", "iopl", "ioperm", "swapon", "settimeofday", "clock_settime", "sethostname",
    };

    (void)state;
    for (const struct filter_rule *rule = filter_rules; rule->name; rule++)
        for (size_t i = 0; rule->error == 0 && i < sizeof(dangerous) / sizeof(dangerous[0]); i++)
            assert_string_not_equal(rule->name, dangerous[i]);
}

static void every_profile_builds(void **state)
{
    (void)state;
    for (int i = 0; i < N_FILTERS; i++) {
        struct sock_fprog filter;
        assert_int_equal(filter_build(&filter, (enum filter_profile)(1 << i)), 0);
        assert_in_range(filter.len, 100, 200);   /* short: translated for each run */
        /* The first instruction loads the architecture: offset 4 of struct seccomp_data. */
        assert_int_equal(filter.filter[0].k, 4);
        filter_release(&filter);
        assert_null(filter.filter);
    }
}

static void wall_time_below_cpu_time_is_refused(void **state)
{
    struct sandbox_config config = test_config();

    (void)state;
    assert_int_equal(sandbox_config_section.check(&config), 0);
    config.wall_ms = config.cpu_ms - 1;
    assert_int_equal(sandbox_config_section.check(&config), STATUS_CONFIG);
    config = test_config();
    config.min_level = 3;
    config.max_level = 2;
    assert_int_equal(sandbox_config_section.check(&config), STATUS_CONFIG);
    config = test_config();
    snprintf(config.compiler, sizeof(config.compiler), "gcc");
    assert_int_equal(sandbox_config_section.check(&config), STATUS_CONFIG);
}

static void every_verdict_has_a_name(void **state)
{
    (void)state;
    assert_string_equal(sandbox_verdict_name(SANDBOX_EXITED), "exited");
    assert_string_equal(sandbox_verdict_name(SANDBOX_VIOLATION), "violation");
    assert_string_equal(sandbox_verdict_name((enum sandbox_verdict)99), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_name_is_a_system_call),
        cmocka_unit_test(every_rule_has_a_profile_and_a_reason),
        cmocka_unit_test(no_two_rules_contradict),
        cmocka_unit_test(dangerous_calls_are_never_allowed),
        cmocka_unit_test(every_profile_builds),
        cmocka_unit_test(the_program_means_what_the_table_says),
        cmocka_unit_test(wall_time_below_cpu_time_is_refused),
        cmocka_unit_test(every_verdict_has_a_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
