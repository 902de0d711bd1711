/* How many cores a process may use: its affinity, and the quotas of its control groups. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cores.h"
#include "common/files.h"
#include "common/status.h"

static char hierarchy[] = "/tmp/hone-cores-XXXXXX";

static void grant(const char *group, const char *cpu_max)
{
    char folder[128], path[160];

    snprintf(folder, sizeof(folder), "%s%s", hierarchy, group);
    assert_int_equal(file_make_directories(folder), STATUS_OK);
    snprintf(path, sizeof(path), "%s/cpu.max", folder);
    assert_int_equal(file_write_atomic(path, cpu_max, strlen(cpu_max)), STATUS_OK);
}

static int make_hierarchy(void **state)
{
    (void)state;
    return mkdtemp(hierarchy) ? 0 : -1;
}

static int remove_hierarchy(void **state)
{
    (void)state;
    return file_remove_tree(hierarchy);
}

static void a_group_grants_no_more_than_any_above_it(void **state)
{
    (void)state;
    grant("/job", "300000 100000\n");
    grant("/job/pod", "max 100000\n");
    grant("/job/pod/small", "150000 100000\n");
    assert_int_equal(cores_granted(hierarchy, "/job/pod", 64), 3);
    assert_int_equal(cores_granted(hierarchy, "/job/pod/small", 64), 2);
    assert_int_equal(cores_granted(hierarchy, "/job", 64), 3);
    assert_int_equal(cores_granted(hierarchy, "/job", 2), 2);
    assert_int_equal(cores_granted(hierarchy, "/elsewhere", 64), 64);
    assert_int_equal(cores_granted(hierarchy, "/", 64), 64);
    grant("", "500000 100000\n");   /* as in a container, whose own group is the root it sees */
    assert_int_equal(cores_granted(hierarchy, "/", 64), 5);
    assert_int_equal(cores_granted(hierarchy, "/elsewhere", 64), 5);
    assert_int_equal(cores_granted(hierarchy, "/job/pod/small", 64), 2);
}

static void a_quota_that_makes_no_sense_grants_all(void **state)
{
    static const char *const quotas[] = {"", "max", "0 100000", "100000", "100000 0", "-1 100000"};

    (void)state;
    for (size_t i = 0; i < sizeof(quotas) / sizeof(quotas[0]); i++) {
        grant("/odd", quotas[i]);
        grant("", "max 100000\n");
        assert_int_equal(cores_granted(hierarchy, "/odd", 7), 7);
    }
    grant("/odd", "1 9223372036854775807\n");
    assert_int_equal(cores_granted(hierarchy, "/odd", 7), 1);
}

static void a_process_bound_to_one_core_may_use_one(void **state)
{
    cpu_set_t all, one;
    int core = 0;

    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
    assert_in_range(cores_usable(), 1, CPU_COUNT(&all));
    while (!CPU_ISSET(core, &all))
        core++;
    CPU_ZERO(&one);
    CPU_SET(core, &one);
    assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
    assert_int_equal(cores_usable(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_group_grants_no_more_than_any_above_it),
        cmocka_unit_test(a_quota_that_makes_no_sense_grants_all),
        cmocka_unit_test(a_process_bound_to_one_core_may_use_one),
    };

    return cmocka_run_group_tests(tests, make_hierarchy, remove_hierarchy);
}
