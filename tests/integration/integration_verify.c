/* `hone verify`: one verdict, lines of them, processes, signals. */
#include "support.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/json.h"
#include "math/algebra_internal.h"

static struct place place;

static void one_verdict_is_explained(void **state)
{
    struct program program;

    (void)state;
    HONE(&program, &place, "verify", "format", "--pred", "a</think><answer>b</answer>", "--prefill",
         "<think>");
    assert_ends(&program, 0, "well formed");
    HONE(&program, &place, "verify", "format", "--pred", "a</think><answer>b</answer>");
    assert_ends(&program, 0, "does not begin with <think>");
    HONE(&program, &place, "verify", "countdown", "--gold", "numbers=3,5,7 target=22", "--pred",
         "so <answer>3*5+7</answer>");
    assert_ends(&program, 0, "extracted     3*5+7");
    HONE(&program, &place, "verify", "soft_overlong", "--pred", "x", "--tokens", "90", "--option",
         "soft_overlong.max_length=100");
    assert_ends(&program, 0, "score         -0.5");
    HONE(&program, &place, "verify", "kimi_length", "--gold", "2", "--pred", "\\boxed{2}",
         "--tokens", "10", "--group-max", "30");
    assert_ends(&program, 0, "score         0.5");
}

static void a_maths_verdict_tells_how_it_came(void **state)
{
    struct program program;

    (void)state;
    HONE(&program, &place, "verify", "math", "--gold", "1/2", "--pred",
         "so it is \\boxed{\\frac{2}{4}}.");
    assert_ends(&program, 0, "outcome       right (exact)");
    assert_true(SAYS(&program, "extracted     \\frac{2}{4}"));
    assert_true(SAYS(&program, "decided by    "));
    HONE(&program, &place, "verify", "math", "--gold", "1/2", "--pred", "0.6", "--bare");
    assert_ends(&program, 0, "outcome       wrong");
    HONE(&program, &place, "verify", "math", "--gold", "1/2", "--pred", "no idea");
    assert_ends(&program, 0, "outcome       no answer");
    assert_true(SAYS(&program, "extracted     nothing"));
    HONE(&program, &place, "verify", "math", "--gold", "", "--pred", "\\boxed{1}");
    assert_ends(&program, 1, "outcome       unreadable gold");
}

static void mistakes_on_the_command_line_are_named(void **state)
{
    struct program program;

    (void)state;
    HONE(&program, &place, "verify", "langage", "--pred", "x");
    assert_ends(&program, 2, "there is no verifier \"langage\"; did you mean \"language\"?");
    HONE(&program, &place, "verify");
    assert_ends(&program, 2, "name a verifier");
    HONE(&program, &place, "verify", "format");
    assert_ends(&program, 2, "--pred is needed");
    HONE(&program, &place, "verify", "format", "--jsonl", "-j", "0");
    assert_ends(&program, 2, "-j is \"0\"; it must be a whole number from 1 to 256");
    HONE(&program, &place, "verify", "format", "--jsonl", "absent.jsonl");
    assert_ends(&program, 5, "cannot open absent.jsonl");
    HONE(&program, &place, "verify", "--help");
    assert_ends(&program, 0, "  -j N ");
}

/* The answers in the program's output, in their order. */
static json_t *answers_of(const struct program *program)
{
    struct text text = {0};
    json_t *list = json_array();

    assert_int_equal(file_read(program->output, (size_t)64 << 20, &text), STATUS_OK);
    for (char *line = text.data, *end; line && *line; line = end + 1) {
        json_t *row = NULL;
        end = strchr(line, '\n');
        if (*line != '{')
            continue;
        assert_int_equal(json_parse(&row, line, (size_t)(end - line), "answer"), 0);
        json_array_append_new(list, row);
    }
    text_release(&text);
    return list;
}

static void lines_are_answered_in_order_by_many_processes(void **state)
{
    struct program program;
    struct text lines = {0};

    (void)state;
    for (int i = 0; i < 1000; i++)
        text_print(&lines, "{\"id\":%d,\"gold\":\"w%d\",\"pred\":\"w%d\",\"mode\":\"answer\"}\n", i,
                   i, i - i % 2);
    place_write(&place, "lines.jsonl", lines.data);
    text_release(&lines);
    for (int n = 1; n <= 3; n += 2) {
        HONE(&program, &place, "verify", "exact", "--jsonl", "lines.jsonl", n == 1 ? "-j1" : "-j3");
        assert_ends(&program, 0, NULL);
        json_t *answers = answers_of(&program);
        assert_int_equal(json_array_size(answers), 1000);
        for (int i = 0; i < 1000; i++) {
            const json_t *row = json_array_get(answers, (size_t)i);
            char wanted[16];
            snprintf(wanted, sizeof(wanted), "w%d", i - i % 2);
            assert_int_equal(json_integer_value(json_object_get(row, "id")), i);
            assert_int_equal(json_is_true(json_object_get(row, "right")), i % 2 == 0);
            assert_string_equal(json_string_value(json_object_get(row, "outcome")),
                                i % 2 ? "wrong" : "right");
            assert_string_equal(json_string_value(json_object_get(row, "extracted")), wanted);
            assert_true(json_is_number(json_object_get(row, "micros")));
            assert_non_null(json_object_get(row, "path"));
        }
        json_decref(answers);
    }
}

static void a_maths_verdict_is_lenient_unless_told(void **state)
{
    struct program program;

    (void)state;
    HONE(&program, &place, "verify", "math", "--gold", "7", "--pred", "That makes 7 in all.");
    assert_ends(&program, 0, "outcome       right (exact)");
    HONE(&program, &place, "verify", "math", "--gold", "7", "--pred", "That makes 7 in all.",
         "--option", "math.extraction=strict", "--option", "math.seed=1");
    assert_ends(&program, 0, "outcome       no answer");
    HONE(&program, &place, "verify", "math", "--gold", "7", "--pred", "7", "--option",
         "math.extraction=loose");
    assert_ends(&program, 2, "loose");
}

/* The rows of the public pairs that the program agrees on, out of those that it should. */
static void count_agreement(const json_t *answers, const char *path, size_t *n, size_t *n_agree)
{
    struct text lines = {0};
    char *line;
    size_t at = 0;

    assert_int_equal(file_read(path, (size_t)16 << 20, &lines), STATUS_OK);
    for (line = lines.data; *line; line += strcspn(line, "\n") + 1, at++) {
        const json_t *answer = json_array_get(answers, at);
        const char *outcome = json_string_value(json_object_get(answer, "outcome"));
        json_t *row = NULL;
        assert_int_equal(json_parse(&row, line, strcspn(line, "\n"), path), STATUS_OK);
        assert_true(json_equal(json_object_get(row, "id"), json_object_get(answer, "id")));
        /* Without FLINT there is no verdict on roots and functions. */
        if (!json_is_true(json_object_get(row, "disputed")) &&
            (deep_is_there || strcmp(outcome, "limit") != 0)) {
            ++*n;
            *n_agree += json_is_true(json_object_get(row, "expected")) ==
                        json_is_true(json_object_get(answer, "right"));
        }
        json_decref(row);
    }
    assert_int_equal(at, json_array_size(answers));
    text_release(&lines);
}

static void public_pairs_are_judged_as_expected_out_of_the_box(void **state)
{
    char path[FILE_PATH_MAX];
    size_t n = 0, n_agree = 0;
    struct program program;

    (void)state;
    if (!realpath("../shared/data/math_equiv_dev.jsonl", path)) {
        print_message("../shared/data/math_equiv_dev.jsonl is not there\n");
        skip();
    }
    HONE(&program, &place, "verify", "math", "--jsonl", path);
    assert_ends(&program, 0, NULL);
    json_t *answers = answers_of(&program);
    count_agreement(answers, path, &n, &n_agree);
    json_decref(answers);
    print_message("%zu of %zu agree\n", n_agree, n);
    assert_true(n && n_agree * 100 >= n * 98);
}

static void bad_lines_are_answered_and_named(void **state)
{
    static const char lines[] = "{\"id\":\"a\",\"gold\":\"x\",\"pred\":\"<answer>x</answer>\"}\n"
                                "\n"
                                "nonsense\n"
                                "{\"id\":\"c\"}\n"
                                "{\"id\":\"d\",\"pred\":\"x\",\"mode\":\"guess\"}\n"
                                "{\"id\":\"e\",\"pred\":\"x\",\"verifier\":\"exacd\"}\n"
                                "{\"id\":\"f\",\"gold\":\"x\",\"pred\":\"<answer>y</answer>\"}";
    static const struct {
        long line;          /* 0: a verdict */
        const char *words;
    } wanted[] = {{0, NULL}, {3, "in.jsonl:3:"}, {4, "\"pred\" is missing"},
                  {5, "neither \"answer\" nor \"completion\""}, {6, "did you mean \"exact\""},
                  {0, NULL}};
    struct program program;

    (void)state;
    place_write(&place, "in.jsonl", lines);
    for (int n = 0; n < 2; n++) {
        HONE(&program, &place, "verify", "exact", "--jsonl", "in.jsonl", n ? "-j2" : "-j1");
        assert_ends(&program, 4, "4 of 7 lines could not be judged");
        json_t *answers = answers_of(&program);
        assert_int_equal(json_array_size(answers), 6);
        for (size_t i = 0; i < 6; i++) {
            const json_t *row = json_array_get(answers, i);
            const char *error = json_string_value(json_object_get(row, "error"));
            assert_int_equal(json_integer_value(json_object_get(row, "line")), wanted[i].line);
            assert_int_equal(error != NULL, wanted[i].words != NULL);
            if (error && !strstr(error, wanted[i].words))
                fail_msg("\"%s\", wanted \"%s\"", error, wanted[i].words);
        }
        json_decref(answers);
    }
}

/* A pipe that stays open: whoever waits for an answer gets it, and Ctrl-C ends it at once. */
static void check_pipe(const char *processes)
{
    static const char line[] = "{\"id\":1,\"gold\":\"x\",\"pred\":\"<answer>x</answer>\"}\n";
    struct program program;

    assert_int_equal(mkfifo(in_place(&place, "pipe"), 0600), 0);
    START(&program, &place, "verify", "exact", "--jsonl", "pipe", processes);
    int pipe_end = open(in_place(&place, "pipe"), O_WRONLY);
    assert_true(pipe_end >= 0);
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(write(pipe_end, line, sizeof(line) - 1), sizeof(line) - 1);
        WAIT_UNTIL(count_lines(&program, "\"right\":true") == i);
    }
    assert_int_equal(kill(program.pid, SIGINT), 0);
    assert_ends(&program, 3, "asked to stop after line 3");
    close(pipe_end);
    assert_int_equal(unlink(in_place(&place, "pipe")), 0);
    WAIT_UNTIL(count_processes(&place) == 0);
}

static void a_signal_ends_it_and_no_answer_waits_for_more_lines(void **state)
{
    (void)state;
    check_pipe("-j1");
    check_pipe("-j2");
}

static void a_signal_ends_sandbox_judge_with_what_was_done(void **state)
{
    static const char job[] = "{\"id\":1,\"lang\":\"nix\"}\n\n";
    char path[FILE_PATH_MAX];
    struct program program;

    (void)state;
    snprintf(path, sizeof(path), "%s", in_place(&place, "jobs"));
    assert_int_equal(mkfifo(path, 0600), 0);
    program_input = path;
    START(&program, &place, "sandbox", "judge", "-j3");
    program_input = "/dev/null";
    int pipe_end = open(path, O_WRONLY);
    assert_true(pipe_end >= 0);
    assert_int_equal(write(pipe_end, job, sizeof(job) - 1), sizeof(job) - 1);
    WAIT_UNTIL(SAYS(&program, "\"verdict\":\"IE\"") || !is_running(&program));
    if (is_running(&program)) {   /* without a sandbox it has ended */
        assert_int_equal(kill(program.pid, SIGINT), 0);
        assert_ends(&program, 3, "asked to stop: 1 jobs are judged, up to line 2");
        assert_int_equal(count_lines(&program, ""), 2);
    } else {
        assert_ends(&program, 7, NULL);
    }
    close(pipe_end);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_verdict_is_explained),
        cmocka_unit_test(a_maths_verdict_tells_how_it_came),
        cmocka_unit_test(mistakes_on_the_command_line_are_named),
        cmocka_unit_test(lines_are_answered_in_order_by_many_processes),
        cmocka_unit_test(a_maths_verdict_is_lenient_unless_told),
        cmocka_unit_test(public_pairs_are_judged_as_expected_out_of_the_box),
        cmocka_unit_test(bad_lines_are_answered_and_named),
        cmocka_unit_test(a_signal_ends_it_and_no_answer_waits_for_more_lines),
        cmocka_unit_test(a_signal_ends_sandbox_judge_with_what_was_done),
    };

    place_make(&place);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    place_remove(&place);
    return failed;
}
