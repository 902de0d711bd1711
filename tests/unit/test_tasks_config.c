#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "common/status.h"
#include "tasks/tasks.h"

static void defaults_pass_their_own_check(void **state)
{
    struct tasks_config config;
    const struct config_binding binding = {&tasks_config_section, &config};

    (void)state;
    memset(&config, 0x55, sizeof(config));
    config_set_defaults(&binding, 1);
    assert_string_equal(config.template_name, "r1_zero_think");
    assert_string_equal(config.language, "en");
    assert_string_equal(config.train, "");
    assert_int_equal(config_check(&binding, 1), STATUS_OK);
}

static void an_unknown_template_fails_the_check(void **state)
{
    struct tasks_config config;
    const struct config_binding binding = {&tasks_config_section, &config};

    (void)state;
    config_set_defaults(&binding, 1);
    assert_int_equal(config_override("tasks.template_name=chatmll", &binding, 1), STATUS_OK);
    assert_int_equal(config_check(&binding, 1), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "chatml"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_pass_their_own_check),
        cmocka_unit_test(an_unknown_template_fails_the_check),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
