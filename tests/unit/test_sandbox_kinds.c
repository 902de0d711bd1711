/* Scripts, with the interpreter forked and started anew; scratch; the descriptor for answers
 * and limits of one run. */
#include "tests/unit/test_sandbox.h"

#include <errno.h>
#include <signal.h>

static struct sandbox *cold;   /* no fork-server */

static int open_both(void **state)
{
    struct sandbox_config config = test_config();

    if (open_box(state) < 0)
        return -1;
    config.python_server = 0;
    if (box && sandbox_create(&cold, &config) < 0)
        return -1;
    return 0;
}

static int close_both(void **state)
{
    if (cold)
        sandbox_destroy(&cold);
    return close_box(state);
}

static void need_kind(enum sandbox_kind kind)
{
    need_box();
    if (!sandbox_supports(box, kind)) {
        print_message("SKIP: no interpreter\n");
        skip();
    }
}

static void run_script(struct sandbox *sandbox, enum sandbox_kind kind, const char *source,
                       const struct sandbox_limits *limits, struct sandbox_result *result)
{
    struct sandbox_program *program = NULL;

    if (sandbox_load_script(sandbox, kind, source, strlen(source), &program) < 0 ||
        sandbox_run_limited(sandbox, program, limits, "3 4\n", 4, result) < 0)
        fail_msg("%s", status_reason());
    sandbox_program_release(&program);
}

static const struct sandbox_limits roomy = {.memory_bytes = 256 << 20, .processes = 16};

/* Both ways of starting Python must end alike. */
static void expect_python(const char *source, const char *output, int code, const char *error)
{
    struct sandbox *const both[] = {box, cold};

    for (int i = 0; i < 2; i++) {
        struct sandbox_result result;
        run_script(both[i], SANDBOX_PYTHON, source, &roomy, &result);
        const char *got = result.output.data ? result.output.data : "";
        const char *words = result.errors.data ? result.errors.data : "";
        if (result.verdict != SANDBOX_EXITED || result.exit_code != code || strcmp(got, output) ||
            !strstr(words, error))
            fail_msg("%s: %s, exit code %d, signal %d\n%s%s", i ? "cold" : "forked",
                     sandbox_verdict_name(result.verdict), result.exit_code, result.signal, got,
                     words);
        sandbox_result_release(&result);
    }
}

static void python_ends_alike_forked_and_cold(void **state)
{
    (void)state;
    need_kind(SANDBOX_PYTHON);
    expect_python("a, b = map(int, input().split())\nprint(a + b)\n", "7\n", 0, "");
    expect_python("import sys\nprint(sys.stdin.read())\nsys.exit(3)\n", "3 4\n\n", 3, "");
    expect_python("print(1)\nraise ValueError('no')\n", "1\n", 1, "ValueError: no");
    expect_python("import sys\nsys.exit('words')\n", "", 1, "words");
    expect_python("def f(:\n", "", 1, "SyntaxError");
    expect_python("if __name__ == '__main__': print(__name__)\n", "__main__\n", 0, "");
    expect_python("import os\nprint(7, flush=True)\nos._exit(4)\n", "7\n", 4, "");
    expect_python("import atexit\natexit.register(print, 'last')\nprint('first')\n",
                  "first\nlast\n", 0, "");
    expect_python("import threading\nt = threading.Thread(target=print, args=('in a thread',))\n"
                  "t.start()\n",
                  "in a thread\n", 0, "");
    expect_python("x = 1\ndef f(): return x\nclass C:\n    y = [f() for _ in range(2)]\n"
                  "print(C.y)\n",
                  "[1, 1]\n", 0, "");
    expect_python("print({'a', 'b', 'c', 'd'} == {'d', 'c', 'b', 'a'}, hash('x') == hash('x'))\n",
                  "True True\n", 0, "");
}

static void runs_of_one_interpreter_share_nothing(void **state)
{
    (void)state;
    need_kind(SANDBOX_PYTHON);
    for (int i = 0; i < 3; i++)
        expect_python("import builtins, sys, json\nprint(hasattr(builtins, 'left'), 'left' in "
                      "sys.modules, hasattr(json, 'left'))\nbuiltins.left = sys.modules['left'] "
                      "= json.left = 1\n",
                      "False False False\n", 0, "");
}

static void random_numbers_differ_from_run_to_run(void **state)
{
    struct sandbox_result a, b;

    (void)state;
    need_kind(SANDBOX_PYTHON);
    run_script(box, SANDBOX_PYTHON, "import random\nprint(random.random())\n", &roomy, &a);
    run_script(box, SANDBOX_PYTHON, "import random\nprint(random.random())\n", &roomy, &b);
    assert_string_not_equal(a.output.data, b.output.data);
    sandbox_result_release(&a);
    sandbox_result_release(&b);
}

static void python_is_as_confined_as_anything(void **state)
{
    (void)state;
    need_kind(SANDBOX_PYTHON);
    expect_python("import os, socket\nbad = []\n"
                  "def attempt(name, f):\n    try:\n        f()\n        bad.append(name)\n"
                  "    except (OSError, ValueError): pass\n"
                  "attempt('passwd', lambda: open('/etc/passwd'))\n"
                  "attempt('proc', lambda: open('/proc/self/maps'))\n"
                  "attempt('write', lambda: open('/x', 'w'))\n"
                  "attempt('tmp', lambda: open('/tmp/x', 'w'))\n"
                  "attempt('lib', lambda: open('/usr/lib/x', 'w'))\n"
                  "attempt('fork', os.fork)\n"
                  "attempt('socket', socket.socket)\n"
                  "attempt('exec', lambda: os.execv('/usr/bin/python3', ['x']))\n"
                  "attempt('kill', lambda: os.kill(os.getppid(), 9) or "
                  "os.stat('/usr/lib').st_uid and None or open('/nothing'))\n"
                  "for fd in range(3, 64):\n    attempt(fd, lambda: os.fstat(fd))\n"
                  "print(bad, os.getpid(), os.getppid(), os.getuid(), "
                  "'SECRET' in str(os.environ))\n",
                  "[] 2 1 1000 False\n", 0, "");
}

static void python_meets_its_limits(void **state)
{
    struct sandbox_limits limits = {.cpu_ms = 300, .memory_bytes = 64 << 20, .processes = 4};
    struct sandbox_result result;

    (void)state;
    need_kind(SANDBOX_PYTHON);
    run_script(box, SANDBOX_PYTHON, "while True: pass\n", &limits, &result);
    assert_int_equal(result.verdict, SANDBOX_CPU_LIMIT);
    sandbox_result_release(&result);
    limits.cpu_ms = 5000;
    run_script(box, SANDBOX_PYTHON, "x = []\nwhile True: x.append(bytearray(100000))\n", &limits,
               &result);
    assert_true(result.verdict == SANDBOX_MEMORY_LIMIT || result.exit_code == 1);
    sandbox_result_release(&result);
    run_script(box, SANDBOX_PYTHON, "import ctypes\nctypes.CDLL(None).syscall(101, 16, 1, 0, 0)\n",
               &limits, &result);
    assert_int_equal(result.verdict, SANDBOX_VIOLATION);
    sandbox_result_release(&result);
    run_script(box, SANDBOX_PYTHON, "print(7)\n", &roomy, &result);   /* and the cell lives on */
    assert_string_equal(result.output.data, "7\n");
    sandbox_result_release(&result);
}

static void scripts_do_not_share_their_place(void **state)
{
    struct sandbox_program *program = NULL;
    struct sandbox_result result;

    (void)state;
    need_kind(SANDBOX_PYTHON);
    assert_int_equal(sandbox_load_script(box, SANDBOX_PYTHON, "print(7)\n", 9, &program), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sandbox_run_limited(box, program, &roomy, "", 0, &result), 0);
        assert_string_equal(result.output.data, "7\n");
        sandbox_result_release(&result);
    }
    sandbox_program_release(&program);
}

static void node_reads_and_prints(void **state)
{
    const struct sandbox_limits limits = {.cpu_ms = 5000, .wall_ms = 60000,
                                          .memory_bytes = 256 << 20, .processes = 16};
    struct sandbox_result result;

    (void)state;
    need_kind(SANDBOX_NODE);
    run_script(box, SANDBOX_NODE,
               "const [a, b] = require('fs').readFileSync(0, 'utf8').split(' ').map(Number);\n"
               "setTimeout(() => console.log(a + b), 1);\n",
               &limits, &result);
    assert_int_equal(result.verdict, SANDBOX_EXITED);
    assert_string_equal(result.output.data, "7\n");
    sandbox_result_release(&result);
    run_script(box, SANDBOX_NODE, "throw new Error('no');\n", &limits, &result);
    assert_int_equal(result.exit_code, 1);
    assert_non_null(strstr(result.errors.data, "main.js:1"));
    sandbox_result_release(&result);
    run_script(box, SANDBOX_NODE,
               "try { require('fs').readFileSync('/etc/passwd'); console.log('read'); }"
               " catch (e) { console.log('refused'); }\n"
               "try { require('child_process').execSync('id'); console.log('ran'); }"
               " catch (e) { console.log('refused'); }\n",
               &limits, &result);
    if (result.verdict == SANDBOX_EXITED)
        assert_string_equal(result.output.data, "refused\nrefused\n");
    assert_null(result.output.data ? strstr(result.output.data, "ran") : NULL);
    sandbox_result_release(&result);
}

/* 0 as exit code when all of that worked. */
static void run_scratch(const char *body, int64_t bytes, int code)
{
    const struct sandbox_limits limits = {.scratch_bytes = bytes};
    struct sandbox_result result;
    char source[4096];

    snprintf(source, sizeof(source), HEADERS "#include <sys/stat.h>\nint main(void) { %s }\n",
             body);
    struct sandbox_program *program = compile(source);
    assert_int_equal(sandbox_run_limited(box, program, &limits, "", 0, &result), 0);
    if (result.verdict != SANDBOX_EXITED || result.exit_code != code)
        fail_msg("%s, exit code %d", sandbox_verdict_name(result.verdict), result.exit_code);
    sandbox_result_release(&result);
    sandbox_program_release(&program);
}

static void scratch_is_bounded_and_new_for_each_run(void **state)
{
    static const char fill[] =
        "if (access(\"out\", F_OK) == 0) return 1; int fd = open(\"out\", O_CREAT | O_RDWR, 0600);"
        "if (fd < 0) return 2; char b[4096] = {1}; int n = 0; signal(SIGXFSZ, SIG_IGN);"
        "while (n < 1000 && write(fd, b, 4096) == 4096) n++; if (n < 200 || n > 256) return 3;"
        "return 0;";
    static const char tree[] =
        "if (open(\"secret\", O_CREAT | O_WRONLY, 0) < 0) return 1; for (int i = 0; i < 100; i++)"
        " { if (mkdir(\"d\", 0700) || chdir(\"d\")) return 2; } return 0;";

    (void)state;
    need_box();
    run_scratch(fill, 1 << 20, 0);
    run_scratch(fill, 1 << 20, 0);
    run_scratch(tree, 1 << 20, 0);
    run_scratch(tree, 1 << 20, 0);
    run_scratch("return symlink(\"/etc/passwd\", \"out\") == 0 || open(\"/x\", O_CREAT | O_WRONLY,"
                " 0600) >= 0 || open(\"/dev/x\", O_CREAT | O_WRONLY, 0600) >= 0;",
                1 << 20, 0);
    run_scratch("return open(\"/tmp/out\", O_CREAT | O_WRONLY, 0600) >= 0;", 0, 0);
}

static void answers_come_apart_from_output(void **state)
{
    const struct sandbox_limits limits = {.answer_bytes = 16};
    struct sandbox_result result;

    (void)state;
    need_box();
    struct sandbox_program *program = compile(
        MAIN("puts(\"noise\"); dprintf(3, \"answer %d\", 7); return fcntl(4, F_GETFD) >= 0;"));
    assert_int_equal(sandbox_run_limited(box, program, &limits, "", 0, &result), 0);
    assert_int_equal(result.exit_code, 0);
    assert_string_equal(result.output.data, "noise\n");
    assert_string_equal(result.answer.data, "answer 7");
    sandbox_result_release(&result);
    assert_int_equal(sandbox_run(box, program, "", 0, &result), 0);   /* no such descriptor */
    assert_int_equal(result.answer.length, 0);
    sandbox_result_release(&result);
    sandbox_program_release(&program);
    program = compile(MAIN("for (;;) if (write(3, \"more and more\", 13) < 0) return 1;"));
    assert_int_equal(sandbox_run_limited(box, program, &limits, "", 0, &result), 0);
    assert_int_equal(result.verdict, SANDBOX_OUTPUT_LIMIT);
    sandbox_result_release(&result);
    sandbox_program_release(&program);
}

static void large_output_arrives_whole(void **state)
{
    const struct sandbox_limits limits = {.output_bytes = 4 << 20};
    struct sandbox_result result;

    (void)state;
    need_box();
    struct sandbox_program *program =
        compile(MAIN("for (int i = 0; i < 3000000; i++) putchar('a' + i % 26); return 0;"));
    assert_int_equal(sandbox_run_limited(box, program, &limits, "", 0, &result), 0);
    assert_int_equal(result.output.length, 3000000);
    for (int i = 0; i < 3000000; i += 9973)
        assert_int_equal(result.output.data[i], 'a' + i % 26);
    sandbox_result_release(&result);
    sandbox_program_release(&program);
}

static void an_object_file_can_be_linked_later(void **state)
{
    const char *const first[] = {box ? box->compiler : "", "-c", "-o", "part.o", "part.c", NULL};
    const char *const second[] = {box ? box->compiler : "", "-static", "-o", "program", "main.c",
                                  "part.o", NULL};
    const struct sandbox_file part = {"part.c", "int part(void) { return 5; }\n", 29};
    const struct sandbox_compilation compilation = {
        .arguments = first, .files = &part, .n_files = 1, .output = "part.o"};
    struct sandbox_program *object = NULL, *program = NULL;
    struct sandbox_result result;
    struct text messages = {0}, bytes = {0};

    (void)state;
    need_box();
    assert_int_equal(sandbox_compile(box, &compilation, &object, &messages), 0);
    assert_non_null(object);
    assert_int_equal(sandbox_program_bytes(object, &bytes), 0);
    const char text[] = "int part(void);\nint main(void) { return part(); }\n";
    const struct sandbox_file both[] = {{"main.c", text, sizeof(text) - 1},
                                        {"part.o", bytes.data, bytes.length}};
    const struct sandbox_compilation link = {.arguments = second, .files = both, .n_files = 2};
    assert_int_equal(sandbox_compile(box, &link, &program, &messages), 0);
    assert_non_null(program);
    assert_int_equal(sandbox_run(box, program, "", 0, &result), 0);
    assert_int_equal(result.exit_code, 5);
    sandbox_result_release(&result);
    sandbox_program_release(&object);
    sandbox_program_release(&program);
    text_release(&messages);
    text_release(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(python_ends_alike_forked_and_cold),
        cmocka_unit_test(runs_of_one_interpreter_share_nothing),
        cmocka_unit_test(random_numbers_differ_from_run_to_run),
        cmocka_unit_test(python_is_as_confined_as_anything),
        cmocka_unit_test(python_meets_its_limits),
        cmocka_unit_test(scripts_do_not_share_their_place),
        cmocka_unit_test(node_reads_and_prints),
        cmocka_unit_test(scratch_is_bounded_and_new_for_each_run),
        cmocka_unit_test(answers_come_apart_from_output),
        cmocka_unit_test(large_output_arrives_whole),
        cmocka_unit_test(an_object_file_can_be_linked_later),
    };

    return cmocka_run_group_tests(tests, open_both, close_both);
}
