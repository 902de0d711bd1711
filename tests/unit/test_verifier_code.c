/* The code verifier: which program is in a completion, and verdicts through the real sandbox. */
#include "test_verifier_support.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/files.h"
#include "reward/internal.h"
#include "reward/verifiers/code.h"

#define PLUS4                                                                                      \
    "{\"function\":\"int f(int x)\",\"tests\":[{\"args\":\"3\",\"want\":\"7\"},"                   \
    "{\"args\":\"-4\",\"want\":\"0\"}]}"
#define ECHO "{\"tests\":[{\"in\":\"a\\n\",\"out\":\"a\"},{\"in\":\"bc\",\"out\":\"bc\\n\"}]}"
#define ANSWER(text) "<think>t</think><answer>" text "</answer>"
#define FENCED(text) "<think>t</think>so\n```c\n" text "\n```\n"
#define PYTHON(text) "<think>t</think>so\n```python\n" text "\n```\n"

static void references_without_sense_are_errors(void **state)
{
    static const struct verdict_case cases[] = {
        {"", ANSWER("int f;"), VERIFIER_ERROR, 0},
        {"{}", ANSWER("int f;"), VERIFIER_ERROR, 0},
        {"[]", ANSWER("int f;"), VERIFIER_ERROR, 0},
        {"{\"tests\":[]}", ANSWER("int f;"), VERIFIER_ERROR, 0},
        {"{\"lang\":\"python\",\"entry\":\"f\",\"cases\":[]}", PYTHON("x"), VERIFIER_ERROR, 0},
        {"{\"lang\":\"python\",\"entry\":\"f\",\"cases\":[{\"args\":[]}]}", PYTHON("x"),
         VERIFIER_ERROR, 0},
        {"{\"lang\":\"cobol\",\"tests\":[{\"in\":\"\",\"out\":\"\"}]}", PYTHON("x"),
         VERIFIER_ERROR, 0},
        {"{\"tests\":[{\"in\":\"1\"}]}", ANSWER("int f;"), VERIFIER_ERROR, 0},
        {"{\"tests\":[{\"in\":1,\"out\":2}]}", ANSWER("int f;"), VERIFIER_ERROR, 0},
        {"{\"function\":\"x\",\"tests\":[{\"args\":\"1\",\"want\":\"2\"}]}", ANSWER("int f;"),
         VERIFIER_ERROR, 0},
        {"{\"function\":\"int f(int x)\",\"tests\":[{\"args\":\"1\\n2\",\"want\":\"2\"}]}",
         ANSWER("int f;"), VERIFIER_ERROR, 0},
        {"{\"function\":\"int f(int x)\",\"tests\":[{\"args\":\"1\",\"want\":\"x\"}]}",
         ANSWER("int f;"), VERIFIER_ERROR, 0},
    };

    (void)state;
    check_cases(&verifier_code, "", cases, N_OF(cases));
}

struct extraction {
    const char *completion, *source;   /* NULL: none */
};

static void check_extractions(enum code_extract extract, const struct extraction *cases, size_t n)
{
    int python = judge_find_language("python", 6);

    for (size_t i = 0; i < n; i++) {
        struct verifier_task task = {.completion = text_of(cases[i].completion),
                                     .prefill = text_of("")};
        struct verifier_text source = {NULL, 0};
        const char *why_none = code_find_source(&task, python, extract, &source);

        if (why_none ? cases[i].source != NULL
                     : !cases[i].source || source.length != strlen(cases[i].source) ||
                           memcmp(source.data, cases[i].source, source.length) != 0)
            fail_msg("case %zu: got %s \"%.*s\", wanted \"%s\"", i, why_none ? why_none : "",
                     (int)source.length, source.data ? source.data : "",
                     cases[i].source ? cases[i].source : "none");
    }
}

static void the_last_whole_block_of_the_language_is_the_program(void **state)
{
    static const struct extraction cases[] = {
        {"```python\na\n```", "a\n"},
        {"```py\na\n```\ntext\n```Python3 title=x\nb\n```\n", "b\n"},
        {"```python\na\n```\n```c\nb\n```\n", "a\n"},
        {"```\na\n```", "a\n"},
        {"````python\na\n```\nb\n````", "a\n```\nb\n"},
        {"```python\na\n```python\nb\n```", "a\n```python\nb\n"},
        {"  ```{.python}\na\n  ```", "a\n"},
        {"    ```python\na\n    ```", NULL},
        {"text ```python\na\n```", NULL},
        {"```python\na\n```\n```python\nb", "a\n"},
        {"```python\r\na\r\n```\r\n", "a\r\n"},
        {"```python\na", NULL},
        {"```python\n \n```", NULL},
        {"```javascript\na\n```", NULL},
        {"a = 1", NULL},
        {"<think>```python\na\n```", NULL},
        {"<think>```python\na\n```</think>none", NULL},
        {"<think>x</think>```python\na\n```", "a\n"},
        {"<think>x</think>\n```python\na\n```", "a\n"},
        {"<answer>a = 1</answer>", "a = 1"},
        {"<answer>so\n```python\na\n```\n</answer>", "a\n"},
    };

    (void)state;
    check_extractions(CODE_TAGGED, cases, N_OF(cases));
}

static void without_a_fence_there_is_no_program_when_that_is_asked_for(void **state)
{
    static const struct extraction fenced[] = {
        {"<answer>a = 1</answer>", NULL}, {"```\na\n```", "a\n"}, {"```py\na\n```", "a\n"}};
    static const struct extraction named[] = {
        {"<answer>a = 1</answer>", NULL}, {"```\na\n```", NULL}, {"```py\na\n```", "a\n"}};

    (void)state;
    check_extractions(CODE_FENCED, fenced, N_OF(fenced));
    check_extractions(CODE_NAMED, named, N_OF(named));
}

static void completions_without_a_program_are_unreadable(void **state)
{
    static const struct verdict_case cases[] = {
        {PLUS4, "<think>t</think>no code", VERIFIER_UNREADABLE, 0},
        {PLUS4, ANSWER("  \n"), VERIFIER_UNREADABLE, 0},
        {PLUS4, "<think>```c\nint f;\n```", VERIFIER_UNREADABLE, 0},
        {PLUS4, "```python\nprint(1)\n```", VERIFIER_UNREADABLE, 0},
    };

    (void)state;
    check_cases(&verifier_code, "", cases, N_OF(cases));
}

/* ---- The real sandbox. */
static struct reward_host *shared_host;

static int make_host(void **state)
{
    struct sandbox_config config;
    struct config_binding binding = {&sandbox_config_section, &config};
    struct judge *judge;

    (void)state;
    config_set_defaults(&binding, 1);
    config.cpu_ms = 500;
    config.wall_ms = 10000;
    shared_host = host_create(&config);
    if (host_judge(host_face(shared_host), &judge) < 0) {
        print_message("SKIP: %s\n", status_reason());
        host_destroy(&shared_host);
    }
    return 0;
}

static int drop_host(void **state)
{
    (void)state;
    host_destroy(&shared_host);
    return 0;
}

static struct verifier_verdict ask_host(const char *options, const char *reference,
                                        const char *completion)
{
    const struct verifier_host *face = host_face(shared_host);
    struct verifier_task task = {.size = sizeof(task), .completion = text_of(completion),
                                 .reference = text_of(reference)};
    struct verifier_verdict verdict = {.size = sizeof(verdict), .outcome = VERIFIER_ERROR};
    void *made;

    assert_int_equal(verifier_code.create(face, text_of(options), &made), 0);
    assert_int_equal(verifier_code.score(made, &task, &verdict), 0);
    verifier_code.destroy(made);
    return verdict;
}

struct run_case {
    const char *options, *reference, *completion;
    enum verifier_outcome outcome;
    double score;
    const char *detail;   /* how it starts; NULL: any */
};

static void check_runs(const struct run_case *cases, size_t n)
{
    if (!shared_host)
        skip();
    for (size_t i = 0; i < n; i++) {
        struct verifier_verdict verdict =
            ask_host(cases[i].options, cases[i].reference, cases[i].completion);
        double miss = verdict.score - cases[i].score;
        if (verdict.outcome != (uint32_t)cases[i].outcome || miss > 1e-9 || miss < -1e-9 ||
            (cases[i].detail &&
             strncmp(verdict.detail, cases[i].detail, strlen(cases[i].detail)) != 0))
            fail_msg("case %zu: %s %g: %s", i, outcome_name((enum outcome)verdict.outcome),
                     verdict.score, verdict.detail);
    }
}

static void functions_and_programs_in_c_are_judged(void **state)
{
    static const struct run_case cases[] = {
        {"", PLUS4, ANSWER("int f(int x) { return x + 4; }"), VERIFIER_RIGHT, 1, "AC: passes 2"},
        {"", PLUS4, FENCED("#include <stdio.h>\nint f(int x) { puts(\"hm\"); return x + 4; }"),
         VERIFIER_RIGHT, 1, NULL},
        {"", PLUS4, ANSWER("int f(int x) { return x + 5; }"), VERIFIER_WRONG, 0, "WA 0/1"},
        {"mode=fraction\n", PLUS4, ANSWER("int f(int x) { return 7; }"), VERIFIER_WRONG, 0.5,
         "WA 1/2: case 2"},
        {"", PLUS4, ANSWER("int g(int x) { return x + 4; }"), VERIFIER_CRASH, 0, "CE"},
        {"", PLUS4, ANSWER("int main(void) { return 0; }\nint f(int x) { return x + 4; }"),
         VERIFIER_CRASH, 0, "CE"},
        {"",
         "{\"function\":\"long sum(const int *a, int n)\",\"tests\":[{\"args\":\"[1, 2, -5], 3\","
         "\"want\":\"-2\"},{\"args\":\"[], 0\",\"want\":\"0\"}]}",
         ANSWER("long sum(const int *a, int n) { long s = 0; while (n) s += a[--n]; return s; }"),
         VERIFIER_RIGHT, 1, NULL},
        {"",
         "{\"function\":\"double half(double x)\",\"tests\":[{\"args\":\"0.2\",\"want\":\"0.1\"}]}",
         ANSWER("double half(double x) { return x / 2; }"), VERIFIER_RIGHT, 1, NULL},
        {"",
         "{\"function\":\"char *same(char *s, char c, bool b)\",\"tests\":[{\"args\":"
         "\"\\\"a b\\\", 'x', true\",\"want\":\"a bx1\"}]}",
         ANSWER("char *same(char *s, char c, bool b) { static char t[99]; "
                "snprintf(t, 99, \"%s%c%d\", s, c, b); return t; }"),
         VERIFIER_RIGHT, 1, NULL},
        {"", ECHO,
         FENCED("#include <stdio.h>\nint main(void) { int c; while ((c = getchar()) != EOF) "
                "putchar(c); return 0; }"),
         VERIFIER_RIGHT, 1, NULL},
        {"mode=fraction\n", ECHO, FENCED("#include <stdio.h>\nint main(void) { puts(\"a\"); }"),
         VERIFIER_WRONG, 0.5, "WA 1/2"},
    };

    (void)state;
    check_runs(cases, N_OF(cases));
}

static void ends_of_a_run_are_told_apart(void **state)
{
    static const struct run_case cases[] = {
        {"", PLUS4, ANSWER("int f(int x) { return x + ; }"), VERIFIER_CRASH, 0,
         "CE 0/1: does not compile: expected expression"},
        {"", PLUS4, ANSWER("#include <stdlib.h>\nint f(int x) { exit(0); }"), VERIFIER_CRASH, 0,
         "RE 0/1: ended without a result"},
        {"", PLUS4, ANSWER("int f(int x) { *(volatile int *)0 = x; return 7; }"), VERIFIER_CRASH,
         0, "RE 0/1: crashed (signal 11)"},
        {"", PLUS4, ANSWER("int f(int x) { for (;;) ; }"), VERIFIER_TIMEOUT, 0, "TLE 0/1"},
        {"", ECHO, FENCED("#include <stdio.h>\nint main(void) { puts(\"a\"); return 3; }"),
         VERIFIER_CRASH, 0, "RE 0/1: ended with exit code 3"},
        {"", ECHO, FENCED("#include <stdio.h>\nint main(void) { for (;;) puts(\"a\"); }"),
         VERIFIER_CRASH, 0, "OLE"},
        {"", ECHO,
         FENCED("#include <stdlib.h>\n#include <string.h>\nint main(void) { for (;;) "
                "memset(malloc(1 << 20), 1, 1 << 20); }"),
         VERIFIER_CRASH, 0, "MLE"},
        {"", PLUS4,
         ANSWER("#include <stdio.h>\n#include <stdlib.h>\n__attribute__((constructor)) static void "
                "c(void) { puts(\"7\\n0\"); exit(0); }\nint f(int x) { return 0; }"),
         VERIFIER_CRASH, 0, "RE"},
        {"mode=fraction\n", PLUS4, ANSWER("int f(int x) { for (; x < 0;) ; return 7; }"),
         VERIFIER_TIMEOUT, 0.5, "TLE 1/2"},
    };

    (void)state;
    check_runs(cases, N_OF(cases));
}

#define WEIGHTED                                                                                   \
    "{\"lang\":\"python\",\"entry\":\"f\",\"cases\":[{\"args\":[1],\"expected\":2,\"weight\":3},"  \
    "{\"args\":[2],\"expected\":3}]}"

static void rewards_are_all_or_nothing_shares_or_weights(void **state)
{
    static const struct run_case cases[] = {
        {"", WEIGHTED, PYTHON("def f(x): return 2"), VERIFIER_WRONG, 0, NULL},
        {"mode=fraction\n", WEIGHTED, PYTHON("def f(x): return 2"), VERIFIER_WRONG, 0.5, NULL},
        {"mode=weighted\n", WEIGHTED, PYTHON("def f(x): return 2"), VERIFIER_WRONG, 0.75, NULL},
        {"mode=weighted\n", WEIGHTED, PYTHON("def f(x): return x + 1"), VERIFIER_RIGHT, 1, NULL},
        {"language=javascript\n", WEIGHTED, "```js\nconst f = x => x + 1;\n```", VERIFIER_RIGHT,
         1, NULL},
    };

    (void)state;
    check_runs(cases, N_OF(cases));
}

static void an_error_of_the_task_says_nothing_of_the_answer(void **state)
{
    static const struct run_case cases[] = {
        {"", "{\"lang\":\"python\",\"entry\":\"f\",\"before\":\"import nothing_of_this_name\","
             "\"cases\":[{\"args\":[],\"expected\":1}]}",
         PYTHON("def f(): return 1"), VERIFIER_ERROR, 0, "what stands before the answer fails"},
        {"", "{\"lang\":\"python\",\"entry\":\"f\",\"asserts\":\"def check(candidate): pass\"}",
         PYTHON("def f(): return 1"), VERIFIER_ERROR, 0, "the tests cannot be run"},
        {"", "{\"lang\":\"python\",\"entry\":\"f\",\"asserts\":\"assert f( == 1\"}",
         PYTHON("def f(): return 1"), VERIFIER_ERROR, 0, "the tests cannot be run"},
    };

    (void)state;
    check_runs(cases, N_OF(cases));
}

static void without_a_sandbox_the_reason_is_given(void **state)
{
    struct reward_host *host = host_create(NULL);
    struct verifier_run run = {.size = sizeof(run), .language = {"c", 1}};
    const struct verifier_host *face = host_face(host);
    struct verifier_verdict verdict =
        ask_text(&verifier_code, "", PLUS4, ANSWER("int f(int x) { return 1; }"));

    (void)state;
    assert_true(face->run(face->context, &run) < 0);
    assert_string_equal(run.detail, "there is no sandbox in this process");
    assert_int_equal(verdict.outcome, VERIFIER_ERROR);
    host_destroy(&host);
}

static void plugins_run_programs_of_any_language(void **state)
{
    char output[64];
    struct verifier_run run = {.size = sizeof(run), .language = {"python", 6},
                               .source = text_of("print(input()[::-1])"), .input = text_of("abc"),
                               .output = output, .output_capacity = sizeof(output)};

    (void)state;
    if (!shared_host)
        skip();
    const struct verifier_host *face = host_face(shared_host);
    assert_int_equal(face->run(face->context, &run), 0);
    assert_int_equal(run.end, VERIFIER_RUN_EXITED);
    assert_int_equal(run.output_length, 4);
    assert_memory_equal(output, "cba\n", 4);
    run.language = text_of("cobol");
    assert_true(face->run(face->context, &run) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(references_without_sense_are_errors),
        cmocka_unit_test(the_last_whole_block_of_the_language_is_the_program),
        cmocka_unit_test(without_a_fence_there_is_no_program_when_that_is_asked_for),
        cmocka_unit_test(completions_without_a_program_are_unreadable),
        cmocka_unit_test(functions_and_programs_in_c_are_judged),
        cmocka_unit_test(ends_of_a_run_are_told_apart),
        cmocka_unit_test(rewards_are_all_or_nothing_shares_or_weights),
        cmocka_unit_test(an_error_of_the_task_says_nothing_of_the_answer),
        cmocka_unit_test(without_a_sandbox_the_reason_is_given),
        cmocka_unit_test(plugins_run_programs_of_any_language),
    };

    return cmocka_run_group_tests(tests, make_host, drop_host);
}
