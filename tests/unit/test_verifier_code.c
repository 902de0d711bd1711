/* The code verifier against a host that plays the sandbox, and against the real one. */
#include "test_verifier_support.h"

#include <stdio.h>
#include <stdlib.h>

#include "reward/internal.h"
#include "reward/verifiers/code.h"

#define PLUS4                                                                                      \
    "{\"function\":\"int f(int x)\",\"tests\":[{\"args\":\"3\",\"want\":\"7\"},"                   \
    "{\"args\":\"-4\",\"want\":\"0\"}]}"
#define ECHO "{\"tests\":[{\"in\":\"a\\n\",\"out\":\"a\"},{\"in\":\"bc\",\"out\":\"bc\\n\"}]}"
#define ANSWER(text) "<think>t</think><answer>" text "</answer>"
#define FENCED(text) "<think>t</think>so\n```c\n" text "\n```\n"

/* ---- What can be said without running anything. */

static void prototypes_are_taken_apart(void **state)
{
    struct code_function f;

    (void)state;
    assert_int_equal(code_function_read(&f, "int f(int x)"), 0);
    assert_string_equal(f.name, "f");
    assert_int_equal(f.n_parameters, 1);
    assert_int_equal(code_function_read(&f, "unsigned long long sum_of (const int *a, size_t n)"),
                     0);
    assert_string_equal(f.name, "sum_of");
    assert_string_equal(f.result.name, "unsigned long long");
    assert_int_equal(f.result.kind, CODE_UNSIGNED);
    assert_int_equal(f.parameters[0].is_array, 1);
    assert_string_equal(f.parameters[0].name, "int");
    assert_int_equal(code_function_read(&f, "double mean(double a[], int n)"), 0);
    assert_int_equal(f.parameters[0].kind, CODE_REAL);
    assert_int_equal(code_function_read(&f, "char *turn(const char *s)"), 0);
    assert_int_equal(f.result.kind, CODE_TEXT);
    assert_int_equal(f.parameters[0].kind, CODE_TEXT);
    assert_int_equal(code_function_read(&f, "int zero(void)"), 0);
    assert_int_equal(f.n_parameters, 0);
}

static void prototypes_that_cannot_be_called_are_refused(void **state)
{
    static const char *const prototypes[] = {
        "", "f", "int f", "int (int)", "void f(int x)", "int *f(int x)", "struct s f(int x)",
        "int f(struct s x)", "int f(int **x)", "int f(int x;", "int f(int (*g)(int))",
        "int f(int, int, int, int, int, int, int, int, int)", "int f(int x, )"};
    struct code_function f;

    (void)state;
    for (size_t i = 0; i < N_OF(prototypes); i++)
        if (code_function_read(&f, prototypes[i]) != STATUS_FORMAT)
            fail_msg("\"%s\" was taken", prototypes[i]);
}

static void references_without_sense_are_errors(void **state)
{
    static const struct verdict_case cases[] = {
        {"", ANSWER("int f;"), VERIFIER_ERROR, 0},
        {"{}", ANSWER("int f;"), VERIFIER_ERROR, 0},
        {"{\"tests\":[]}", ANSWER("int f;"), VERIFIER_ERROR, 0},
        {"{\"tests\":[{\"in\":\"1\"}]}", ANSWER("int f;"), VERIFIER_ERROR, 0},
        {"{\"tests\":[{\"in\":1,\"out\":2}]}", ANSWER("int f;"), VERIFIER_ERROR, 0},
        {"{\"function\":\"x\",\"tests\":[{\"args\":\"1\",\"want\":\"2\"}]}", ANSWER("int f;"),
         VERIFIER_ERROR, 0},
        {"{\"function\":\"int f(int x)\",\"tests\":[{\"args\":\"1\\n2\",\"want\":\"2\"}]}",
         ANSWER("int f;"), VERIFIER_ERROR, 0},
        {PLUS4, "<think>t</think>no code", VERIFIER_UNREADABLE, 0},
        {PLUS4, ANSWER("  \n"), VERIFIER_UNREADABLE, 0},
        {PLUS4, "<think>```c\nint f;\n```", VERIFIER_UNREADABLE, 0},
        {PLUS4, "```python\nprint(1)\n```", VERIFIER_UNREADABLE, 0},
        {PLUS4, "```c\nint f;", VERIFIER_UNREADABLE, 0},
    };

    (void)state;
    check_cases(&verifier_code, "", cases, N_OF(cases));
}

/* ---- A host that answers what the test wants. */
struct fake {
    uint32_t end;
    int exit_code, signal;
    const char *output;      /* "@" stands for the nonce */
    const char *messages;
    int32_t status;
    struct text source, input;
    int n_runs;
};

static int32_t play(void *context, struct verifier_run *run)
{
    struct fake *fake = context;
    size_t nonce = 0;

    fake->n_runs++;
    text_clear(&fake->source);
    text_append(&fake->source, run->source.data, run->source.length);
    text_clear(&fake->input);
    text_append(&fake->input, run->input.data, run->input.length);
    run->end = fake->end;
    run->exit_code = fake->exit_code;
    run->signal = fake->signal;
    if (fake->status < 0)
        snprintf(run->detail, sizeof(run->detail), "sandbox is out");
    while (nonce < run->input.length && run->input.data[nonce] != '\n')
        nonce++;
    run->output_length = 0;
    for (const char *at = fake->output ? fake->output : ""; *at; at++) {
        size_t n = *at == '@' ? nonce : 1;
        memcpy(run->output + run->output_length, *at == '@' ? run->input.data : at, n);
        run->output_length += n;
    }
    run->messages_length = fake->messages ? strlen(fake->messages) : 0;
    if (run->messages_length)
        memcpy(run->messages, fake->messages, run->messages_length);
    return fake->status;
}

static struct verifier_verdict ask_fake(struct fake *fake, const char *options,
                                        const char *reference, const char *completion)
{
    struct verifier_host host = {.size = sizeof(host), .context = fake, .run = play};
    struct verifier_task task = {.size = sizeof(task), .completion = text_of(completion),
                                 .reference = text_of(reference)};
    struct verifier_verdict verdict = {.size = sizeof(verdict), .outcome = VERIFIER_ERROR};
    void *made;

    fake->n_runs = 0;
    assert_int_equal(verifier_code.create(&host, text_of(options), &made), 0);
    assert_int_equal(verifier_code.score(made, &task, &verdict), 0);
    verifier_code.destroy(made);
    text_release(&fake->source);
    text_release(&fake->input);
    return verdict;
}

static void results_are_compared_line_by_line(void **state)
{
    static const struct {
        const char *output;
        enum verifier_outcome outcome;
        double fraction;
    } cases[] = {
        {"\n@ 7\n\n@ 0\n", VERIFIER_RIGHT, 1},
        {"debug\n@ 7\n1\n2\n@ 0\nbye", VERIFIER_RIGHT, 1},
        {"7\n0\n", VERIFIER_WRONG, 0},
        {"\n@ 7\n", VERIFIER_WRONG, 0.5},
        {"\n@ 0\n\n@ 7\n", VERIFIER_WRONG, 0},
        {"\n@ 7\n\n@ 0\n\n@ 0\n", VERIFIER_WRONG, 0},
        {"\n@ 7\n\n@ 1\n", VERIFIER_WRONG, 0.5},
        {"", VERIFIER_WRONG, 0},
        {"@", VERIFIER_WRONG, 0},
    };

    (void)state;
    for (size_t i = 0; i < N_OF(cases); i++) {
        struct fake fake = {.output = cases[i].output};
        struct verifier_verdict all = ask_fake(&fake, "", PLUS4, ANSWER("int f(int x);"));
        struct verifier_verdict part =
            ask_fake(&fake, "mode=fraction\n", PLUS4, ANSWER("int f(int x);"));
        assert_int_equal(all.outcome, cases[i].outcome);
        assert_float_equal(all.score, cases[i].outcome == VERIFIER_RIGHT, 0);
        assert_float_equal(part.score, cases[i].fraction, 1e-9);
        assert_int_equal(fake.n_runs, 1);
    }
}

static void ends_of_a_run_are_told_apart(void **state)
{
    static const struct {
        struct fake fake;
        enum verifier_outcome outcome;
        const char *detail;
    } cases[] = {
        {{.end = VERIFIER_RUN_NOT_COMPILED, .messages = "answer.c:1:1: error: no such thing\nmore"},
         VERIFIER_CRASH, "does not compile: no such thing"},
        {{.end = VERIFIER_RUN_TIME_LIMIT}, VERIFIER_TIMEOUT, "ran into the time limit"},
        {{.end = VERIFIER_RUN_SIGNALED, .signal = 11}, VERIFIER_CRASH, "crashed (signal 11)"},
        {{.end = VERIFIER_RUN_MEMORY_LIMIT}, VERIFIER_CRASH, "ran into the memory limit"},
        {{.end = VERIFIER_RUN_OUTPUT_LIMIT}, VERIFIER_CRASH, "ran into the output limit"},
        {{.end = VERIFIER_RUN_FORBIDDEN}, VERIFIER_CRASH, "used a forbidden system call"},
        {{.exit_code = 1, .output = "\n@ 7\n\n@ 0\n"}, VERIFIER_CRASH, "ended with exit code 1"},
        {{.status = -1}, VERIFIER_ERROR, "sandbox is out"},
    };

    (void)state;
    for (size_t i = 0; i < N_OF(cases); i++) {
        struct fake fake = cases[i].fake;
        struct verifier_verdict verdict = ask_fake(&fake, "", PLUS4, ANSWER("int f(int x);"));
        assert_int_equal(verdict.outcome, cases[i].outcome);
        assert_string_equal(verdict.detail, cases[i].detail);
        assert_float_equal(verdict.score, 0, 0);
    }
}

static void a_program_is_run_once_per_test(void **state)
{
    struct fake fake = {.output = "a"};

    (void)state;
    assert_int_equal(ask_fake(&fake, "", ECHO, ANSWER("int main;")).outcome, VERIFIER_WRONG);
    assert_int_equal(fake.n_runs, 2);
    assert_float_equal(ask_fake(&fake, "mode=fraction\n", ECHO, ANSWER("int main;")).score, 0.5, 0);
    fake.output = "x";
    ask_fake(&fake, "", ECHO, ANSWER("int main;"));
    assert_int_equal(fake.n_runs, 1);
}

static void results_never_enter_the_program(void **state)
{
    struct code_function f;
    struct text source = {0};

    (void)state;
    assert_int_equal(code_function_read(&f, "int f(int x)"), 0);
    code_harness_write(&f, text_of("int f(int x) { return x + 4; }"), &source);
    assert_non_null(strstr(source.data, "return x + 4;"));
    assert_non_null(strstr(source.data, "f(a0)"));
    assert_null(strstr(source.data, "want"));
    text_release(&source);
}

/* ---- The real sandbox. */
static void candidates_are_compiled_and_run(void **state)
{
    static const struct {
        const char *options, *reference, *completion;
        enum verifier_outcome outcome;
        double score;
    } cases[] = {
        {"", PLUS4, ANSWER("int f(int x) { return x + 4; }"), VERIFIER_RIGHT, 1},
        {"", PLUS4, FENCED("#include <stdio.h>\nint f(int x) { puts(\"hm\"); return x + 4; }"),
         VERIFIER_RIGHT, 1},
        {"", PLUS4, ANSWER("int f(int x) { return x + 5; }"), VERIFIER_WRONG, 0},
        {"mode=fraction\n", PLUS4, ANSWER("int f(int x) { return 7; }"), VERIFIER_WRONG, 0.5},
        {"", PLUS4, ANSWER("int f(int x) { return x + ; }"), VERIFIER_CRASH, 0},
        {"", PLUS4, ANSWER("int g(int x) { return x + 4; }"), VERIFIER_CRASH, 0},
        {"", PLUS4, ANSWER("#include <stdlib.h>\nint f(int x) { exit(0); }"), VERIFIER_WRONG, 0},
        {"", PLUS4, ANSWER("int f(int x) { *(volatile int *)0 = x; return 7; }"), VERIFIER_CRASH,
         0},
        {"", PLUS4, ANSWER("int f(int x) { for (;;) ; }"), VERIFIER_TIMEOUT, 0},
        {"", PLUS4,
         ANSWER("#include <stdio.h>\n#include <stdlib.h>\n__attribute__((constructor)) static void "
                "c(void) { puts(\"7\\n0\"); exit(0); }\nint f(int x) { return 0; }"),
         VERIFIER_WRONG, 0},
        {"", PLUS4, ANSWER("int main(void) { return 0; }\nint f(int x) { return x + 4; }"),
         VERIFIER_CRASH, 0},
        {"",
         "{\"function\":\"long sum(const int *a, int n)\",\"tests\":[{\"args\":\"[1, 2, -5], 3\","
         "\"want\":\"-2\"},{\"args\":\"[], 0\",\"want\":\"0\"}]}",
         ANSWER("long sum(const int *a, int n) { long s = 0; while (n) s += a[--n]; return s; }"),
         VERIFIER_RIGHT, 1},
        {"",
         "{\"function\":\"double half(double x)\",\"tests\":[{\"args\":\"0.2\",\"want\":\"0.1\"}]}",
         ANSWER("double half(double x) { return x / 2; }"), VERIFIER_RIGHT, 1},
        {"",
         "{\"function\":\"char *same(char *s, char c, bool b)\",\"tests\":[{\"args\":"
         "\"\\\"a b\\\", 'x', true\",\"want\":\"a bx1\"}]}",
         ANSWER("char *same(char *s, char c, bool b) { static char t[99]; "
                "snprintf(t, 99, \"%s%c%d\", s, c, b); return t; }"),
         VERIFIER_RIGHT, 1},
        {"", ECHO,
         FENCED("#include <stdio.h>\nint main(void) { int c; while ((c = getchar()) != EOF) "
                "putchar(c); return 0; }"),
         VERIFIER_RIGHT, 1},
    };
    struct sandbox_config config;
    struct config_binding binding = {&sandbox_config_section, &config};

    (void)state;
    config_set_defaults(&binding, 1);
    config.wall_ms = config.cpu_ms = 1000;
    struct reward_host *host = host_create(&config);
    struct verifier_run probe = {.size = sizeof(probe), .language = {"c", 1},
                                 .source = text_of("int main(void) { return 0; }")};
    const struct verifier_host *face = host_face(host);
    if (face->run(face->context, &probe) < 0) {
        print_message("SKIP: %s\n", probe.detail);
        host_destroy(&host);
        skip();
    }
    for (size_t i = 0; i < N_OF(cases); i++) {
        struct verifier_task task = {.size = sizeof(task),
                                     .completion = text_of(cases[i].completion),
                                     .reference = text_of(cases[i].reference)};
        struct verifier_verdict verdict = {.size = sizeof(verdict), .outcome = VERIFIER_ERROR};
        void *made;
        assert_int_equal(verifier_code.create(face, text_of(cases[i].options), &made), 0);
        assert_int_equal(verifier_code.score(made, &task, &verdict), 0);
        verifier_code.destroy(made);
        if (verdict.outcome != (uint32_t)cases[i].outcome || verdict.score != cases[i].score)
            fail_msg("case %zu: %s %g: %s", i, outcome_name((enum outcome)verdict.outcome),
                     verdict.score, verdict.detail);
    }
    host_destroy(&host);
}

static void without_a_sandbox_the_reason_is_given(void **state)
{
    struct reward_host *host = host_create(NULL);
    struct verifier_run run = {.size = sizeof(run), .language = {"c", 1}};
    const struct verifier_host *face = host_face(host);

    (void)state;
    assert_true(face->run(face->context, &run) < 0);
    assert_string_equal(run.detail, "there is no sandbox in this process");
    host_destroy(&host);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prototypes_are_taken_apart),
        cmocka_unit_test(prototypes_that_cannot_be_called_are_refused),
        cmocka_unit_test(references_without_sense_are_errors),
        cmocka_unit_test(results_are_compared_line_by_line),
        cmocka_unit_test(ends_of_a_run_are_told_apart),
        cmocka_unit_test(a_program_is_run_once_per_test),
        cmocka_unit_test(results_never_enter_the_program),
        cmocka_unit_test(candidates_are_compiled_and_run),
        cmocka_unit_test(without_a_sandbox_the_reason_is_given),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
