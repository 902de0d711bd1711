#include "tests/unit/test_sandbox.h"

#include <linux/seccomp.h>
#include <seccomp.h>

#include "sandbox/filter.h"

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
        assert_true(filter.len > 100);
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
        cmocka_unit_test(wall_time_below_cpu_time_is_refused),
        cmocka_unit_test(every_verdict_has_a_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
