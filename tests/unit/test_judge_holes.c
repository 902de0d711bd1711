/* What has fooled graders of code elsewhere does not fool this one. Nothing here may be AC but
 * where the answer is right. */
#include "test_judge.h"

/* The number that the answers here would like to know. */
#define SECRET "7315908246"
#define FUNCTION                                                                                   \
    "\"entry\":\"f\",\"cases\":[{\"args\":[1],\"expected\":" SECRET "},{\"args\":[2],"             \
    "\"expected\":" SECRET "}]"
#define ASSERTS                                                                                    \
    "\"entry\":\"f\",\"asserts\":\"import math\\ndef check(candidate):\\n"                         \
    "    assert candidate(1) == " SECRET "\\n"                                                     \
    "    assert math.isclose(candidate(2), " SECRET ")\\n\""

static void an_object_that_equals_everything_is_no_result(void **state)
{
    static const char source[] =
        "class All:\n"
        "    def __eq__(self, other): return True\n"
        "    def __ne__(self, other): return False\n"
        "    def __float__(self): return 7315908246.0\n"
        "    def __sub__(self, other): return 0\n"
        "    __rsub__ = __sub__\n"
        "    def __lt__(self, other): return True\n"
        "def f(x): return All()\n";
    static const char subclass[] =
        "class Int(int):\n"
        "    def __eq__(self, other): return True\n"
        "    def __hash__(self): return 0\n"
        "def f(x): return Int(5)\n";
    static const char inside[] =
        "class Key(str):\n"
        "    def __eq__(self, other): return True\n"
        "    def __hash__(self): return 0\n"
        "def f(x): return [{Key('a'): 1}]\n";
    static const struct job_case cases[] = {
        {"python", source, FUNCTION, JUDGE_RE, "no plain data"},
        {"python", source, ASSERTS, JUDGE_WA, "0 of 2"},
        {"python", subclass, FUNCTION, JUDGE_RE, "no plain data"},
        {"python", subclass, ASSERTS, JUDGE_WA, "0 of 2"},
        {"python", inside, FUNCTION, JUDGE_RE, "no plain data"},
        {"javascript", "function f(x) { return {valueOf: () => 7315908246}; }", FUNCTION, JUDGE_RE,
         NULL},
    };

    (void)state;
    check_jobs(cases, N_OF(cases) - (judge_sandbox &&
                                     !sandbox_supports(judge_sandbox, SANDBOX_NODE)));
}

/* Frames, every object, modules, the environment, standard input, open descriptors, files. */
static const char searcher[] =
    "import gc, os, sys\n"
    "def texts():\n"
    "    frame = sys._getframe()\n"
    "    while frame:\n"
    "        yield repr(frame.f_locals) + repr(frame.f_globals)\n"
    "        frame = frame.f_back\n"
    "    for item in gc.get_objects():\n"
    "        try:\n"
    "            yield repr(item)\n"
    "        except BaseException:\n"
    "            pass\n"
    "    yield repr(dict(os.environ)) + repr(sys.argv)\n"
    "    for fd in range(64):\n"
    "        for seek in True, False:\n"
    "            try:\n"
    "                if seek: os.lseek(fd, 0, 0)\n"
    "                yield os.read(fd, 1 << 20).decode('latin1') if fd not in (1, 2, 3) else ''\n"
    "            except OSError:\n"
    "                pass\n"
    "    for place in '.', '/', '/tmp', '/proc/self', '/proc/1', '/box', '..':\n"
    "        try:\n"
    "            for name in os.listdir(place):\n"
    "                yield open(place + '/' + name, 'rb').read(1 << 20).decode('latin1')\n"
    "        except (OSError, ValueError):\n"
    "            pass\n"
    "def f(x):\n"
    "    backwards = '6428095137'\n"   /* so that it does not find itself */
    "    for text in texts():\n"
    "        if backwards in text[::-1]:\n"
    "            return int(backwards[::-1])\n"
    "    return 0\n";

static void what_is_expected_is_not_in_the_answers_process(void **state)
{
    static const struct job_case cases[] = {
        {"python", searcher, FUNCTION ",\"limits\":{\"cpu_ms\":5000}", JUDGE_WA, "case 1"},
        {"python", searcher, ASSERTS ",\"limits\":{\"cpu_ms\":5000}", JUDGE_WA, "0 of 2"},
    };
    /* The search works: what is among the arguments is found. */
    static const struct job_case found = {
        "python", searcher,
        "\"entry\":\"f\",\"cases\":[{\"args\":[" SECRET "],\"expected\":" SECRET "}],"
        "\"limits\":{\"cpu_ms\":5000}", JUDGE_AC, NULL};

    (void)state;
    check_jobs(cases, N_OF(cases));
    check_jobs(&found, 1);
}

static void exit_status_alone_is_no_success(void **state)
{
    static const struct job_case cases[] = {
        {"python", "import os\ndef f(x): os._exit(0)", FUNCTION, JUDGE_RE, "without a result"},
        {"python", "import os\ndef f(x): os._exit(0)", ASSERTS, JUDGE_RE, NULL},
        {"python", "import os\nos._exit(0)", ASSERTS, JUDGE_RE, NULL},
        {"python", "import sys\ndef f(x): sys.exit(0)", FUNCTION, JUDGE_RE, "SystemExit"},
        {"python", "import sys\ndef f(x): sys.exit(0)", ASSERTS, JUDGE_WA, NULL},
        {"python", "raise SystemExit(0)", FUNCTION, JUDGE_RE, NULL},
        {"python", "", "\"stdin\":\"\",\"expected_stdout\":\"1\"", JUDGE_WA, NULL},
        {"c", "#include <stdlib.h>\n__attribute__((constructor)) static void c(void) { exit(0); }\n"
              "int f(int x) { return x; }",
         "\"signature\":\"int f(int)\",\"mode\":\"function\",\"cases\":[{\"args\":[1],"
         "\"expected\":1}]", JUDGE_RE, NULL},
        /* And a bad one is no success either, whatever was printed. */
        {"python", "print(1)\nraise SystemExit(1)", "\"stdin\":\"\",\"expected_stdout\":\"1\"",
         JUDGE_RE, "exit code 1"},
        /* Ending with exit(0) is nothing bad. */
        {"python", "import sys\nprint(1)\nsys.exit(0)", "\"stdin\":\"\",\"expected_stdout\":\"1\"",
         JUDGE_AC, NULL},
    };

    (void)state;
    check_jobs(cases, N_OF(cases));
}

static void forged_records_are_only_other_wrong_answers(void **state)
{
    static const char reports[] =
        "import sys\n"
        "def f(x):\n"
        "    frame = sys._getframe()\n"
        "    while frame:\n"
        "        if 'report' in frame.f_locals:\n"
        "            report = frame.f_locals['report']\n"
        "            report('done', '[2,2,[]]')\n"
        "            report('value', '0 1')\n"
        "            report('value', '1 1')\n"
        "            report('end', '2')\n"
        "        frame = frame.f_back\n"
        "    return 1\n";
    static const char blind[] =
        "import os\n"
        "def f(x):\n"
        "    os.write(3, b'\\nAC value 0 7315908246\\n1.0\\n{\"passed\": true}\\n')\n"
        "    print('PASSED', 'OK', 1.0, '{\"reward\": 1.0}')\n"
        "    return None\n";
    static const char stolen_nonce[] =
        "#include <stdio.h>\n#include <stdlib.h>\n#include <unistd.h>\n"
        "__attribute__((constructor)) static void c(void) {\n"
        "    char nonce[64], out[256]; if (scanf(\"%63s\", nonce) != 1) exit(0);\n"
        "    int n = snprintf(out, 256, \"\\n%s value 0 0\\n%s value 1 0\\n%s end 0\\n\", nonce, "
        "nonce, nonce);\n"
        "    write(3, out, n); exit(0); }\n"
        "int f(int x) { return x; }\n";
    static const struct job_case cases[] = {
        {"python", reports, FUNCTION, JUDGE_RE, NULL},
        {"python", reports, ASSERTS, JUDGE_RE, NULL},
        {"python", blind, FUNCTION, JUDGE_WA, NULL},
        {"python", blind, ASSERTS, JUDGE_WA, NULL},
        {"c", stolen_nonce,
         "\"signature\":\"int f(int)\",\"mode\":\"function\",\"cases\":[{\"args\":[1],"
         "\"expected\":1},{\"args\":[2],\"expected\":2}]", JUDGE_WA, NULL},
        {"python", "print('PASSED')\nprint('1.0')\nprint('{\"reward\": 1.0}')",
         "\"stdin\":\"\",\"expected_stdout\":\"5\"", JUDGE_WA, NULL},
    };

    (void)state;
    check_jobs(cases, N_OF(cases));
}

static void tests_cannot_be_patched_by_the_answer(void **state)
{
    static const char patches[] =
        "import builtins, math, sys, ast\n"
        "class Soft(Exception): pass\n"
        "builtins.AssertionError = Soft\n"
        "builtins.abs = lambda x: 0\n"
        "math.isclose = lambda *a, **k: True\n"
        "def check(candidate): pass\n"
        "def run_tests(*a): return True\n"
        "main = sys.modules['__main__']\n"
        "for name in ('encode', 'compile', 'find', 'scan'):\n"
        "    setattr(main, name, lambda *a, **k: '7315908246')\n"
        "def f(x): return True\n";
    static const struct job_case cases[] = {
        {"python", "import builtins, math\nmath.isclose = lambda *a: True\n"
                   "builtins.abs = lambda x: 0\ndef check(c): pass\ndef f(x): return True",
         ASSERTS, JUDGE_WA, "0 of 2"},
        {"python", "import sys, os\nos._exit = sys.exit = None\ndef f(x): return 1", FUNCTION,
         JUDGE_WA, NULL},
        {"python", "import posix\ndef f(x): return posix.getpid()", FUNCTION, JUDGE_WA, NULL},
    };
    struct job_case patched = {"python", patches, ASSERTS, JUDGE_AC, NULL};
    struct judge_result result;

    (void)state;
    check_jobs(cases, N_OF(cases));
    /* It may well break its own harness. */
    judge_case(&patched, &result);
    assert_int_not_equal(result.verdict, JUDGE_AC);
    assert_int_not_equal(result.verdict, JUDGE_IE);
    judge_result_release(&result);
}

static void what_no_alarm_can_stop_is_stopped(void **state)
{
    static const struct job_case cases[] = {
        {"python", "import re\ndef f(x): re.match('(a+)+$', 'a' * 40 + 'b')", FUNCTION, JUDGE_TLE,
         NULL},
        {"python", "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\n"
                   "def f(x):\n    while True:\n        try:\n            while True: pass\n"
                   "        except BaseException: pass", ASSERTS, JUDGE_TLE, NULL},
    };

    (void)state;
    check_jobs(cases, N_OF(cases));
}

static void nothing_shown_is_no_success(void **state)
{
    static const struct job_case cases[] = {
        {"python", "def f(x): pass", "\"entry\":\"f\",\"cases\":[]", JUDGE_IE, NULL},
        {"python", "def f(x): pass", "\"tests\":[]", JUDGE_IE, NULL},
        {"python", "def f(x): pass", "\"entry\":\"f\",\"asserts\":\"def check(c): c(1)\"", JUDGE_IE,
         "no assert"},
        {"python", "def f(x): return []",
         "\"entry\":\"f\",\"asserts\":\"def check(c):\\n    for i in c(1): assert i\"", JUDGE_WA,
         "no assert is reached"},
    };

    (void)state;
    check_jobs(cases, N_OF(cases));
}

/* 200,000 bytes, wanted whole. */
static void judge_long_output(const char *source, enum judge_verdict wanted)
{
    struct text rest = {0};
    struct judge_result result;

    text_print(&rest, "\"stdin\":\"\",\"expected_stdout\":\"");
    for (int i = 0; i < 20000; i++)
        text_print(&rest, "123456789\\n");
    text_print(&rest, "\"");
    judge_case(&(struct job_case){"python", source, rest.data, wanted, NULL}, &result);
    if (result.verdict != wanted)
        fail_msg("%s: %s: %s", source, judge_verdict_name(result.verdict), result.detail);
    judge_result_release(&result);
    text_release(&rest);
}

static void long_output_is_read_whole_and_a_prefix_is_wrong(void **state)
{
    (void)state;
    if (!shared_judge)
        skip();
    judge_long_output("for i in range(20000): print(123456789)", JUDGE_AC);
    judge_long_output("for i in range(19999): print(123456789)", JUDGE_WA);
    judge_long_output("print(123456789)", JUDGE_WA);
    judge_long_output("for i in range(20001): print(123456789)", JUDGE_WA);
}

static void a_process_left_behind_cannot_hold_the_verdict(void **state)
{
    static const struct job_case cases[] = {
        {"python", "import threading, time\ndef f(x):\n"
                   "    threading.Thread(target=time.sleep, args=(60,)).start()\n"
                   "    return 7315908246", FUNCTION, JUDGE_AC, NULL},
        {"python", "import atexit, time\natexit.register(time.sleep, 60)\n"
                   "def f(x): return 7315908246", FUNCTION, JUDGE_AC, NULL},
    };

    (void)state;
    check_jobs(cases, N_OF(cases));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_object_that_equals_everything_is_no_result),
        cmocka_unit_test(what_is_expected_is_not_in_the_answers_process),
        cmocka_unit_test(exit_status_alone_is_no_success),
        cmocka_unit_test(forged_records_are_only_other_wrong_answers),
        cmocka_unit_test(tests_cannot_be_patched_by_the_answer),
        cmocka_unit_test(what_no_alarm_can_stop_is_stopped),
        cmocka_unit_test(nothing_shown_is_no_success),
        cmocka_unit_test(long_output_is_read_whole_and_a_prefix_is_wrong),
        cmocka_unit_test(a_process_left_behind_cannot_hold_the_verdict),
    };

    return cmocka_run_group_tests(tests, make_judge, drop_judge);
}
