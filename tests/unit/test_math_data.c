#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "common/files.h"
#include "common/json.h"
#include "common/status.h"
#include "math/algebra_internal.h"
#include "math/compare.h"
#include "math/math.h"

/* The public pairs and golds, where they are, and this project's own pairs. */

struct tally {
    int n, n_agree, n_negative, n_wrong_accepted, n_readable, n_equal, n_other_equal,
        n_undecided;
};

static int read_lines(const char *path, struct text *out)
{
    return file_read(path, (size_t)16 << 20, out) == STATUS_OK;
}

typedef void row_function(void *context, const json_t *row);

static void each_row(struct text *lines, row_function *call, void *context)
{
    for (char *line = lines->data; *line;) {
        size_t n = strcspn(line, "\n");
        json_t *row;

        assert_int_equal(json_parse(&row, line, n, "pairs"), STATUS_OK);
        call(context, row);
        json_decref(row);
        line += n + (line[n] == '\n');
    }
}

static struct span text_of(const json_t *row, const char *key)
{
    const json_t *value = json_object_get(row, key);

    assert_non_null(json_string_value(value));
    return (struct span){json_string_value(value), json_string_length(value)};
}

static int is_completion(const json_t *row, const char *key)
{
    const char *mode = json_string_value(json_object_get(row, key));

    return mode && strcmp(mode, "completion") == 0;
}

struct pairs {
    struct math *math;
    struct tally tally;
};

static void judge_pair(void *context, const json_t *row)
{
    struct pairs *pairs = context;
    struct math_options options = {is_completion(row, "mode") ? MATH_LENIENT : MATH_ANSWER,
                                   is_completion(row, "gold_mode") ? MATH_LENIENT : MATH_ANSWER};
    struct span gold = text_of(row, "gold"), pred = text_of(row, "pred");
    int expected = json_is_true(json_object_get(row, "expected")), right;
    struct math_verdict verdict;

    if (json_is_true(json_object_get(row, "disputed")))
        return;
    math_verify(pairs->math, gold.data, gold.length, pred.data, pred.length, &options, &verdict);
    pairs->tally.n_negative += !expected;
    /* Without FLINT there is no verdict on roots and functions. */
    if (verdict.outcome == MATH_LIMIT && !deep_is_there) {
        pairs->tally.n_undecided++;
        return;
    }
    right = math_outcome_is_right(verdict.outcome);
    pairs->tally.n++;
    pairs->tally.n_agree += right == expected;
    pairs->tally.n_wrong_accepted += right && !expected;
    if (right != expected)
        print_message("%s: %s (%s): gold %.*s, prediction %.*s\n",
                      json_string_value(json_object_get(row, "id")),
                      math_outcome_text(verdict.outcome), verdict.path,
                      (int)(gold.length < 60 ? gold.length : 60), gold.data,
                      (int)(verdict.n_extracted < 60 ? verdict.n_extracted : 60),
                      verdict.extracted ? verdict.extracted : "");
}

static struct tally judge_file(const char *path)
{
    struct text lines = {0};
    struct pairs pairs = {0};

    if (!read_lines(path, &lines)) {
        print_message("%s is not there\n", path);
        text_release(&lines);
        return pairs.tally;
    }
    assert_int_equal(math_create(&pairs.math, 20250601), STATUS_OK);
    each_row(&lines, judge_pair, &pairs);
    print_message("%s: %d of %d agree, %d of %d negatives accepted, %d undecided\n", path,
                  pairs.tally.n_agree, pairs.tally.n, pairs.tally.n_wrong_accepted,
                  pairs.tally.n_negative, pairs.tally.n_undecided);
    math_destroy(&pairs.math);
    text_release(&lines);
    return pairs.tally;
}

static void public_pairs_are_judged_as_expected(void **state)
{
    struct tally tally = judge_file("../shared/data/math_equiv_dev.jsonl");

    (void)state;
    if (!tally.n)
        skip();
    assert_true(tally.n_agree * 100 >= tally.n * 98);
    assert_true(tally.n_wrong_accepted * 1000 <= tally.n_negative * 5);
}

static void own_pairs_are_judged_as_expected(void **state)
{
    struct tally tally = judge_file("tests/golden/math/pairs.jsonl");

    (void)state;
    assert_true(tally.n >= 400 && tally.n_negative * 3 >= tally.n);
    assert_true(tally.n_agree * 100 >= tally.n * 99);
    assert_true(tally.n_wrong_accepted * 1000 <= tally.n_negative * 5);
}

/* ---- golds */

struct golds {
    struct tally tally;
    struct math *math;
    struct algebra *algebra;
    struct text previous;
};

/* By its tree, not by its text. */
static int equals_itself(struct golds *golds, struct span gold, int *readable)
{
    static const struct parse_options options;
    struct arena arena;
    struct text folded = {0};
    struct tree tree = {.arena = &arena}, scratch = {.arena = &arena};
    struct comparison comparison = {.tree = &scratch};
    const struct node *a, *b;
    int equal;

    arena_init(&arena, MATH_ARENA_BYTES);
    comparison.algebra = (struct algebra_context){.algebra = golds->algebra, .arena = &arena};
    assert_true(fold_text(&folded, gold.data, gold.length));
    gold = fold_trim((struct span){folded.data, folded.length});
    a = parse_answer(&tree, gold, &options);
    b = a ? parse_answer(&tree, gold, &options) : NULL;
    equal = b && answer_is_equal(compare_nodes(&comparison, a, b));
    *readable = a != NULL;
    arena_release(&arena);
    text_release(&folded);
    return equal;
}

static void judge_gold(void *context, const json_t *row)
{
    static const struct math_options options;
    struct golds *golds = context;
    struct span gold = text_of(row, "answer");
    struct math_verdict verdict;
    int readable, equal = equals_itself(golds, gold, &readable);

    golds->tally.n++;
    golds->tally.n_readable += readable;
    golds->tally.n_equal += equal;
    if (!readable || !equal)
        print_message("%s: %.*s\n", readable ? "not itself" : "text", (int)gold.length, gold.data);
    math_verify(golds->math, gold.data, gold.length, gold.data, gold.length, &options, &verdict);
    golds->tally.n_agree += math_outcome_is_right(verdict.outcome);
    if (golds->previous.length) {
        math_verify(golds->math, gold.data, gold.length, golds->previous.data,
                    golds->previous.length, &options, &verdict);
        golds->tally.n_other_equal += math_outcome_is_right(verdict.outcome);
        if (math_outcome_is_right(verdict.outcome))
            print_message("equal: %s and %.*s\n", golds->previous.data, (int)gold.length,
                          gold.data);
    }
    text_clear(&golds->previous);
    text_append(&golds->previous, gold.data, gold.length);
}

static void golds_are_readable_and_equal_to_themselves(void **state)
{
    struct text lines = {0};
    struct golds golds = {0};

    (void)state;
    if (!read_lines("../shared/data/math_gold_answers.jsonl", &lines)) {
        text_release(&lines);
        skip();
    }
    assert_int_equal(math_create(&golds.math, 7), STATUS_OK);
    assert_int_equal(algebra_create(&golds.algebra, 7), STATUS_OK);
    each_row(&lines, judge_gold, &golds);
    print_message("golds: %d, readable %d, equal to themselves %d, to the one before %d\n",
                  golds.tally.n, golds.tally.n_readable, golds.tally.n_agree,
                  golds.tally.n_other_equal);
    algebra_destroy(&golds.algebra);
    math_destroy(&golds.math);
    text_release(&golds.previous);
    text_release(&lines);
    assert_true(golds.tally.n_readable * 100 >= golds.tally.n * 99);
    assert_true(golds.tally.n_equal * 1000 >= golds.tally.n_readable * 999);
    assert_int_equal(golds.tally.n_agree, golds.tally.n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(public_pairs_are_judged_as_expected),
        cmocka_unit_test(own_pairs_are_judged_as_expected),
        cmocka_unit_test(golds_are_readable_and_equal_to_themselves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
