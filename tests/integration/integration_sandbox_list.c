/*
 * Programs that are right, wrong, careless and hostile, judged as a model's would be: each row says
 * which verdicts are good. After all of them nothing may be left. Limits: 1 s of CPU, 3 s of wall
 * clock, 128 MB, 1 MiB of output, 16 threads.
 */
#include <arpa/inet.h>
#include <jansson.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sandbox/judge.h"
#include "sandbox/sandbox.h"
#include "tests/integration/sandbox_programs.h"
#include "tests/integration/support.h"

static struct sandbox *box;
static struct judge *judge;
static struct sandbox_config config;

static int open_all(void **state)
{
    const struct config_binding binding = {&sandbox_config_section, &config};

    (void)state;
    config_set_defaults(&binding, 1);
    config.cpu_ms = 1000;
    config.wall_ms = 3000;
    config.compile_ms = 20000;
    config.memory_bytes = 128 << 20;
    config.output_bytes = 1 << 20;
    config.processes = 16;
    config.min_level = 1;
    setenv("SECRET_OF_THE_CALLER", "seen", 1);
    if (sandbox_create(&box, &config) < 0) {
        print_message("SKIP: %s\n", status_reason());
        return 0;
    }
    print_message("%s\n", sandbox_description(box));
    return judge_create(&judge, box, &config);
}

static int close_all(void **state)
{
    (void)state;
    if (judge)
        judge_destroy(&judge);
    if (box)
        sandbox_destroy(&box);
    return 0;
}

static json_t *job_of(const struct listed_program *program, const char *source, const char *input,
                      const char *expected)
{
    json_t *job = json_object();

    json_object_set_new(job, "id", json_string(program->name));
    json_object_set_new(job, "lang", json_string(program->language));
    json_object_set_new(job, "source", json_string(source));
    if (program->cases) {
        json_object_set_new(job, "mode", json_string("function"));
        json_object_set_new(job, "entry", json_string(program->entry));
        json_object_set_new(job, "cases", json_loads(program->cases, 0, NULL));
    } else {
        json_object_set_new(job, "mode", json_string("stdio"));
        json_object_set_new(job, "stdin", json_string(input));
        json_object_set_new(job, "expected_stdout", json_string(expected));
    }
    if (program->compare)
        json_object_set_new(job, "compare", json_string(program->compare));
    return job;
}

static int is_good(const struct listed_program *program, enum judge_verdict verdict)
{
    const char *name = judge_verdict_name(verdict);
    size_t n = strlen(name);

    for (const char *at = program->verdicts; (at = strstr(at, name)); at += n)
        if ((at == program->verdicts || at[-1] == '/') && (at[n] == '/' || at[n] == '\0'))
            return 1;
    return 0;
}

/* 0 when the verdict is one of the good ones. */
static int judge_one(const struct listed_program *program, const char *source, const char *input)
{
    struct judge_result result = {.detail = ""};
    json_t *job = job_of(program, source, input, program->expected);
    int64_t began = clock_ms();
    int language = judge_find_language(program->language, strlen(program->language));
    int bad = 0;

    assert_true(language > 0);
    judge_run(judge, job, NULL, 0, 0, &result);
    json_decref(job);
    if (result.verdict == JUDGE_IE && strstr(result.detail, "no ")) {
        print_message("  %s: SKIP, %s\n", program->name, result.detail);
    } else if (!is_good(program, result.verdict)) {
        print_error("%s: %s, not %s: %s\n%s\n", program->name,
                    judge_verdict_name(result.verdict), program->verdicts, result.detail,
                    result.messages.data ? result.messages.data : "");
        bad = 1;
    } else if (program->forbidden && result.messages.data &&
               strstr(result.messages.data, program->forbidden)) {
        print_error("%s: its messages hold '%s'\n", program->name, program->forbidden);
        bad = 1;
    } else if (result.messages.length > 64 << 10) {
        print_error("%s: %zu bytes of messages\n", program->name, result.messages.length);
        bad = 1;
    }
    if (clock_ms() - began > 120000) {
        print_error("%s took %lld ms\n", program->name, (long long)(clock_ms() - began));
        bad = 1;
    }
    judge_result_release(&result);
    return bad;
}

static void every_listed_program_gets_its_verdict(void **state)
{
    int n_bad = 0;

    (void)state;
    if (!judge)
        skip();
    for (const struct listed_program *program = listed_programs; program->name; program++)
        n_bad += judge_one(program, program->source, program->input);
    assert_int_equal(n_bad, 0);
}

/* C++ takes too long to compile. An interpreter that was forked has what a sanitizer has mapped,
 * which the limit of the address space counts where there are no control groups. */
static int is_for_less(const struct listed_program *program)
{
    return strcmp(program->language, "cpp") != 0 &&
           !(is_sanitized() && strcmp(program->language, "python") == 0);
}

/* A host that has less: the same verdicts, from other walls. */
static void judge_at_level(int level)
{
    struct sandbox *usual = box;
    struct judge *usual_judge = judge;
    int n_bad = 0;

    if (!judge)
        skip();
    if (sandbox_level(box) < level)
        skip();
    config.min_level = config.max_level = level;
    if (sandbox_create(&box, &config) < 0)
        fail_msg("%s", status_reason());
    assert_int_equal(sandbox_level(box), level);
    assert_int_equal(judge_create(&judge, box, &config), 0);
    for (const struct listed_program *program = listed_programs; program->name; program++)
        if (is_for_less(program))
            n_bad += judge_one(program, program->source, program->input);
    judge_destroy(&judge);
    sandbox_destroy(&box);
    box = usual;
    judge = usual_judge;
    config.min_level = 1;
    config.max_level = 3;
    assert_int_equal(n_bad, 0);
}

static void the_verdicts_are_the_same_at_level_2(void **state)
{
    (void)state;
    judge_at_level(2);
}

static void the_verdicts_are_the_same_at_level_1(void **state)
{
    (void)state;
    judge_at_level(1);
}

static void a_listener_on_loopback_sees_no_connection(void **state)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t n = sizeof(address);
    struct listed_program program = {.name = "A40 connect", .language = "python",
                                     .expected = "connected", .verdicts = "RE/WA"};
    char source[512];

    (void)state;
    if (!judge)
        skip();
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &n), 0);
    snprintf(source, sizeof(source),
             "import socket\ns = socket.create_connection(('127.0.0.1', %d))\nprint('connected')\n",
             ntohs(address.sin_port));
    assert_int_equal(judge_one(&program, source, ""), 0);
    struct pollfd ready = {listener, POLLIN, 0};
    assert_int_equal(poll(&ready, 1, 0), 0);
    close(listener);
}

static void a_megabyte_of_input_is_read(void **state)
{
    struct listed_program program = {
        .name = "A27 big input", .language = "c", .expected = "1048576", .verdicts = "AC"};
    char *input = malloc((1 << 20) + 1);

    (void)state;
    if (!judge)
        skip();
    memset(input, 'x', 1 << 20);
    input[1 << 20] = '\0';
    assert_int_equal(judge_one(&program,
                               "#include <stdio.h>\nint main(void) { long n = 0; while (getchar()"
                               " != EOF) n++; printf(\"%ld\\n\", n); return 0; }\n",
                               input),
                     0);
    free(input);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_listed_program_gets_its_verdict),
        cmocka_unit_test(the_verdicts_are_the_same_at_level_2),
        cmocka_unit_test(the_verdicts_are_the_same_at_level_1),
        cmocka_unit_test(a_listener_on_loopback_sees_no_connection),
        cmocka_unit_test(a_megabyte_of_input_is_read),
    };

    return cmocka_run_group_tests(tests, open_all, close_all);
}
