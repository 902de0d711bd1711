#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "pipeline/run_store.h"

static void assert_row(const char *name, const char *row)
{
    const struct metric_row *found = metric_find(name);

    if (!row) {
        if (found)
            print_error("%s is taken for %s\n", name, found->name);
        assert_null(found);
        return;
    }
    assert_non_null(found);
    assert_string_equal(found->name, row);
}

static void a_name_that_is_written_out_is_found(void **state)
{
    (void)state;
    assert_row("loss", "loss");
    assert_row("clip_ratio/low_mean", "clip_ratio/low_mean");
    assert_row("eval/format", "eval/format");
}

static void a_pattern_part_matches_one_path_part(void **state)
{
    (void)state;
    assert_row("rewards/accuracy/mean", "rewards/<name>/mean");
    assert_row("eval/pass@16", "eval/pass@<k>");
    assert_row("eval/chain/pass@1", "eval/<kind>/pass@<k>");
    assert_row("eval/chain/format", "eval/<kind>/format");
    assert_row("outcomes/code/timeout", "outcomes/<name>/timeout");
    assert_row("data/dropped/repetition", "data/dropped/<reason>");
}

static void names_that_nobody_declared_are_not_found(void **state)
{
    (void)state;
    assert_row("los", NULL);
    assert_row("losses", NULL);
    assert_row("", NULL);
    assert_row("rewards//mean", NULL);
    assert_row("rewards/a/b/mean", NULL);
    assert_row("eval/pass@", NULL);
    assert_row("eval/chain/pass@1/x", NULL);
    assert_row("rewards/<name>/mean", NULL);
}

static void every_row_is_declared_once_and_has_a_meaning(void **state)
{
    (void)state;
    for (const struct metric_row *row = metric_rows; row->name; row++) {
        assert_non_null(row->unit);
        assert_true(strlen(row->help) > 10);
        for (const struct metric_row *other = row + 1; other->name; other++)
            assert_string_not_equal(row->name, other->name);
    }
}

static void only_clocks_are_timed(void **state)
{
    (void)state;
    assert_true(metric_is_timed(metric_find("step_time")));
    assert_true(metric_is_timed(metric_find("tokens_per_second/learn")));
    assert_false(metric_is_timed(metric_find("num_tokens")));
    assert_false(metric_is_timed(metric_find("reward")));
}

static void the_markdown_has_a_line_for_each_row(void **state)
{
    struct text out = {0};
    char line[200];

    (void)state;
    metrics_print_markdown(&out);
    for (const struct metric_row *row = metric_rows; row->name; row++) {
        snprintf(line, sizeof(line), "\n| `%s` |", row->name);
        assert_non_null(strstr(out.data, line));
    }
    text_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_that_is_written_out_is_found),
        cmocka_unit_test(a_pattern_part_matches_one_path_part),
        cmocka_unit_test(names_that_nobody_declared_are_not_found),
        cmocka_unit_test(every_row_is_declared_once_and_has_a_meaning),
        cmocka_unit_test(only_clocks_are_timed),
        cmocka_unit_test(the_markdown_has_a_line_for_each_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
