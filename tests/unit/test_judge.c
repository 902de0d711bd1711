/* Right and wrong answers in each language and mode. */
#include "test_judge.h"

#define SUM "\"stdin\":\"1 2\",\"expected_stdout\":\"3\\n\""
#define C_SUM(sum)                                                                                 \
    "#include <stdio.h>\nint main(void) { long a, b; scanf(\"%ld %ld\", &a, &b); "                 \
    "printf(\"%ld\", " sum "); return 0; }"

static void programs_are_judged_by_their_output(void **state)
{
    static const struct job_case cases[] = {
        {"c", C_SUM("a + b"), SUM, JUDGE_AC, ""},
        {"c", C_SUM("a + b + 1"), SUM, JUDGE_WA, "test 1"},
        {"c", "int main(void) { return 0; }", SUM, JUDGE_WA, NULL},
        {"c", "#include <stdio.h>\nint main(void) { printf(\"%d\", getchar()); }",
         "\"expected_stdout\":\"-1\"", JUDGE_AC, NULL},
        {"c", "#include <stdio.h>\nint main(void) { puts(\"3\"); return 1; }", SUM, JUDGE_RE,
         "exit code 1"},
        {"c", "#include <stdlib.h>\nint main(void) { abort(); }", SUM, JUDGE_RE, "signal 6"},
        {"c", "int main(void) { for (;;) ; }", SUM, JUDGE_TLE, NULL},
        {"c", "int main(void) {", SUM, JUDGE_CE, "does not compile: expected"},
        {"c", "int f(void) { return 1; }", SUM, JUDGE_CE, NULL},
        {"cpp", "#include <iostream>\nint main() { int a, b; std::cin >> a >> b; "
                "std::cout << a + b; }", SUM, JUDGE_AC, NULL},
        {"python", "print(sum(map(int, input().split())))", SUM, JUDGE_AC, NULL},
        {"python", "print(3)\nraise ValueError('late')", SUM, JUDGE_RE, "ValueError: late"},
        {"python", "print(", SUM, JUDGE_CE, "SyntaxError"},
        {"python", "", SUM, JUDGE_WA, NULL},
        {"python", "print(3.0000001)", SUM ",\"compare\":\"float:1e-6\"", JUDGE_AC, NULL},
        {"python", "print('3 ')", SUM ",\"compare\":\"exact\"", JUDGE_WA, NULL},
    };

    (void)state;
    check_jobs(cases, N_OF(cases));
}

static void javascript_is_judged_where_node_is(void **state)
{
    static const struct job_case cases[] = {
        {"javascript", "const [a, b] = require('fs').readFileSync(0, 'utf8').split(' ');\n"
                       "console.log(+a + +b);", SUM, JUDGE_AC, NULL},
        {"javascript", "const add = (a, b) => typeof a == 'bigint' ? a + BigInt(b) : a + b;",
         "\"entry\":\"add\",\"cases\":[{\"args\":[1,2],\"expected\":3},{\"args\":[0.5,1],"
         "\"expected\":1.5},{\"args\":[100000000000000000000,1],"
         "\"expected\":100000000000000000001}]", JUDGE_AC, NULL},
        {"javascript", "function f(x) { console.log(x); return {a: [x, null, true], b: 'é'}; }",
         "\"entry\":\"f\",\"cases\":[{\"args\":[{\"k\":1}],\"expected\":{\"a\":[{\"k\":1},null,"
         "true],\"b\":\"\\u00e9\"}}]", JUDGE_AC, NULL},
        {"javascript", "module.exports = {f: () => undefined};",
         "\"entry\":\"f\",\"cases\":[{\"args\":[],\"expected\":null}]", JUDGE_WA, NULL},
        {"javascript", "function f() { process.exit(0); }",
         "\"entry\":\"f\",\"cases\":[{\"args\":[],\"expected\":null}]", JUDGE_RE, NULL},
        {"javascript", "function f( {", "\"entry\":\"f\",\"cases\":[{\"args\":[],\"expected\":1}]",
         JUDGE_CE, NULL},
    };

    (void)state;
    if (!shared_judge || !sandbox_supports(judge_sandbox, SANDBOX_NODE))
        skip();
    check_jobs(cases, N_OF(cases));
}

#define ADD "\"entry\":\"add\",\"cases\":[{\"args\":[1,2],\"expected\":3},{\"args\":"              \
            "[100000000000000000000,1],\"expected\":100000000000000000001}]"

static void functions_in_python_are_judged_by_their_values(void **state)
{
    static const struct job_case cases[] = {
        {"python", "def add(a, b): return a + b", ADD, JUDGE_AC, ""},
        {"python", "add = lambda a, b: print(a) or a + b", ADD, JUDGE_AC, NULL},
        {"python", "class Solution:\n    def add(self, a, b): return a + b", ADD, JUDGE_AC, NULL},
        {"python", "def add(a, b): return str(a + b)", ADD, JUDGE_WA, "case 1"},
        {"python", "def add(a, b): return None", ADD, JUDGE_WA, NULL},
        {"python", "def add(a, b): return a / 0", ADD, JUDGE_RE, "case 1 raises"},
        {"python", "def other(a, b): return a + b", ADD, JUDGE_RE, "there is no function add"},
        {"python", "def add(a, b): return a +", ADD, JUDGE_CE, "SyntaxError"},
        {"python", "import no_such_module\ndef add(a, b): return a + b", ADD, JUDGE_RE,
         "ModuleNotFoundError"},
        {"python", "def add(a, b):\n    while a > 5: pass\n    return a + b", ADD, JUDGE_TLE, NULL},
        {"python", "def add(a, b):\n    import os\n    os.abort()", ADD, JUDGE_RE, "signal 6"},
        {"python", "def f(a): return (a, {1: a}, None, 0.1 + 0.2, True)",
         "\"entry\":\"f\",\"cases\":[{\"args\":[\"\\u00e9\\n\"],\"expected\":[\"\\u00e9\\n\","
         "{\"1\":\"\\u00e9\\n\"},null,0.3,true]}]", JUDGE_AC, NULL},
        {"python", "from collections import Counter\ndef f(s): return Counter(s)",
         "\"entry\":\"f\",\"cases\":[{\"args\":[\"aab\"],\"expected\":{\"a\":2,\"b\":1}}]",
         JUDGE_AC, NULL},
        {"python", "def f(x): return x",
         "\"entry\":\"f\",\"cases\":[{\"args\":[1],\"expected\":2,\"or_expected\":1}]", JUDGE_AC,
         NULL},
        {"python", "def f(x):\n    y = []\n    y.append(y)\n    return y",
         "\"entry\":\"f\",\"cases\":[{\"args\":[1],\"expected\":[]}]", JUDGE_RE, "nested"},
    };

    (void)state;
    check_jobs(cases, N_OF(cases));
}

static void functions_in_c_are_called_with_their_types(void **state)
{
    static const struct job_case cases[] = {
        {"c", "int add(int a, int b) { return a + b; }",
         "\"signature\":\"int add(int, int)\",\"mode\":\"function\",\"cases\":[{\"args\":[1,2],"
         "\"expected\":3},{\"args\":[-5,5],\"expected\":0}]", JUDGE_AC, NULL},
        {"c", "char *twice(const char *s) { static char r[99]; snprintf(r, 99, \"%s%s\", s, s); "
              "return r; }",
         "\"signature\":\"char *twice(const char *s)\",\"mode\":\"function\",\"cases\":[{\"args\":"
         "[\"a\\\"\\n\\\\,]\"],\"expected\":\"a\\\"\\n\\\\,]a\\\"\\n\\\\,]\"}]", JUDGE_AC, NULL},
        {"c", "double mean(const double *a, int n) { double s = 0; for (int i = 0; i < n; i++) "
              "s += a[i]; return s / n; }",
         "\"signature\":\"double mean(const double *a, int n)\",\"mode\":\"function\",\"cases\":"
         "[{\"args\":[[0.1,0.2],2],\"expected\":0.15},{\"args\":[[],0],\"expected\":0}]", JUDGE_WA,
         "case 2"},
        {"c", "int even(int x) { return x % 2 == 0; }",
         "\"signature\":\"int even(int x)\",\"mode\":\"function\",\"cases\":[{\"args\":[2],"
         "\"expected\":true},{\"args\":[3],\"expected\":false}]", JUDGE_AC, NULL},
        {"c", "unsigned long top(void) { return -1; }",
         "\"signature\":\"unsigned long top(void)\",\"mode\":\"function\",\"cases\":[{\"args\":[],"
         "\"expected\":18446744073709551615}]", JUDGE_AC, NULL},
        {"c", "int f(int x) { return *(volatile int *)0 / x; }",
         "\"signature\":\"int f(int)\",\"mode\":\"function\",\"cases\":[{\"args\":[0],"
         "\"expected\":0}]", JUDGE_RE, "signal 11"},
    };

    (void)state;
    check_jobs(cases, N_OF(cases));
}

static void functions_in_cpp_take_and_give_containers(void **state)
{
    static const struct job_case cases[] = {
        {"cpp", "vector<vector<int>> f(vector<int> &v, string s, map<string, int> m, double d, "
                "long long big) { vector<vector<int>> r; for (int x : v) r.push_back({x, "
                "(int)s.size(), m[\"a\"], (int)(d * 2), (int)(big % 10)}); return r; }",
         "\"signature\":\"vector<vector<int>> f(vector<int> &v, string s, map<string, int> m, "
         "double d, long long big)\",\"mode\":\"function\",\"cases\":[{\"args\":[[1,2],"
         "\"xy\\u00e9\",{\"a\":5},1.5,9000000000000000007],\"expected\":[[1,4,5,3,7],"
         "[2,4,5,3,7]]}]", JUDGE_AC, NULL},
        {"cpp", "#include <string>\nclass Solution {\npublic:\n    bool same(std::string a, char c)"
                " { return a[0] == c; }\n};",
         "\"signature\":\"bool same(std::string a, char c)\",\"mode\":\"function\",\"cases\":"
         "[{\"args\":[\"ab\",\"a\"],\"expected\":true},{\"args\":[\"ab\",\"b\"],"
         "\"expected\":false}]", JUDGE_AC, NULL},
    };

    (void)state;
    check_jobs(cases, N_OF(cases));
}

#define CHECK                                                                                      \
    "\"entry\":\"f\",\"asserts\":\"def check(candidate):\\n"                                       \
    "    assert candidate([1.0, 2.0], 0.5) == False\\n"                                            \
    "    assert candidate([1.0, 1.1], t=0.5) == True, 'close'\\n"                                  \
    "    assert abs(candidate([1.0], 0.1) - 0) < 1e-6\\n\""

static void tests_that_are_code_get_the_answers_values(void **state)
{
    static const struct job_case cases[] = {
        {"python", "def f(n, t): return any(abs(a - b) < t for i, a in enumerate(n) "
                   "for b in n[i + 1:])", CHECK, JUDGE_AC, ""},
        {"python", "def f(n, t): return True", CHECK, JUDGE_WA, "1 of 3 asserts hold"},
        {"python", "def f(n, t): raise KeyError(1)", CHECK, JUDGE_WA, "0 of 3"},
        {"python", "def f(n, t):\n    while True: pass", CHECK, JUDGE_TLE, NULL},
        {"python", "def f(n, t): return", CHECK, JUDGE_WA, NULL},
        {"python", "def f(n, t) return", CHECK, JUDGE_CE, NULL},
        {"python", "def drop(s, c): return s.replace(c, '', 1)",
         "\"asserts\":\"assert drop('hello', 'l') == 'helo'\\nassert drop('a', 'a') == ''\"",
         JUDGE_AC, NULL},
        /* What one call gives is the argument of the next. */
        {"python", "def enc(s): return s[::-1]\ndef dec(s): return s[::-1]",
         "\"entry\":\"dec\",\"asserts\":\"import random\\ndef check(candidate):\\n"
         "    r = random.Random(3)\\n    for i in range(20):\\n"
         "        s = ''.join(r.choice('abc') for k in range(5))\\n"
         "        assert candidate(enc(s)) == s\\n\"", JUDGE_AC, NULL},
        {"python", "def f(x):\n    if x < 0: raise ValueError('no')\n    return (x, {x: 1}, {2})",
         "\"entry\":\"f\",\"asserts\":\"def check(candidate):\\n"
         "    assert candidate(1) == (1, {1: 1}, {2})\\n    try:\\n        candidate(-1)\\n"
         "        assert False\\n    except ValueError:\\n        pass\\n\"", JUDGE_AC, NULL},
        {"python", "def f(x): return [x]",
         "\"asserts\":\"assert f(1) == (1,)\"", JUDGE_WA, NULL},
        {"python", "def f(x): return []",
         "\"asserts\":\"for i in f(1):\\n    assert i == 1\"", JUDGE_WA, "no assert is reached"},
        {"python", "def f(x): return 0",
         "\"asserts\":\"n = 0\\nwhile f(n) != 5:\\n    n += 1\\nassert n == 5\"", JUDGE_TLE,
         "keep calling"},
        {"python", "def f(x): return 1",
         "\"asserts\":\"assert f(lambda: 1) == 1\"", JUDGE_IE, "no plain data"},
        {"python", "def f(x): return 1", "\"asserts\":\"f(1)\"", JUDGE_IE, "no assert"},
        {"python", "def f(x): return x.year",
         "\"setup\":\"import math\",\"asserts\":\"assert math.floor(f(1.5)) == 1\"", JUDGE_WA,
         NULL},
    };

    (void)state;
    check_jobs(cases, N_OF(cases));
}

static void jobs_without_sense_say_why(void **state)
{
    static const struct job_case cases[] = {
        {"python", "", "\"tests\":[]", JUDGE_IE, "without a test nothing would be shown"},
        {"python", "", "\"tests\":[{\"stdin\":\"\"}]", JUDGE_IE, "\"expected_stdout\" is missing"},
        {"python", "", "\"entry\":\"f\",\"cases\":[]", JUDGE_IE, "0 tests"},
        {"python", "", "\"entry\":\"f\",\"cases\":[{\"args\":[]}]", JUDGE_IE, "tests nothing"},
        {"python", "", "\"entry\":\"f\",\"cases\":[{\"args\":1,\"expected\":1}]", JUDGE_IE,
         "must be an array"},
        {"python", "", "\"cases\":[{\"args\":[],\"expected\":1}]", JUDGE_IE,
         "\"entry\" is missing"},
        {"python", "", "\"entry\":\"a;b\",\"cases\":[{\"args\":[],\"expected\":1}]", JUDGE_IE,
         "is no name"},
        {"c", "", "\"entry\":\"f\",\"cases\":[{\"args\":[],\"expected\":1}]", JUDGE_IE,
         "\"signature\" is missing"},
        {"c", "", "\"entry\":\"g\",\"signature\":\"int f(void)\",\"cases\":[{\"args\":[],"
         "\"expected\":1}]", JUDGE_IE, "is not the function"},
        {"c", "", "\"asserts\":\"assert 1\"", JUDGE_IE, "python alone"},
        {"perl", "", SUM, JUDGE_IE, "c, cpp, python and javascript"},
        {"c", "", SUM ",\"compare\":\"fuzzy\"", JUDGE_IE, "write tokens"},
        {"c", "", SUM ",\"mode\":\"x\"", JUDGE_IE, "stdio, function"},
        {"c", "", SUM ",\"limits\":{\"cpu_ms\":-1}", JUDGE_IE, "out of range"},
        {"c", "", SUM ",\"limits\":[]", JUDGE_IE, "must be an object"},
        {"c", "", "\"tests\":[{\"stdin\":\"\",\"expected_stdout\":\"\",\"weight\":0}]", JUDGE_IE,
         "above 0"},
    };

    (void)state;
    check_jobs(cases, N_OF(cases));
}

static void each_test_is_reported_and_shares_are_of_all(void **state)
{
    const struct job_case row = {
        "python", "x = int(input())\nprint(x if x < 3 else 1 / 0)",
        "\"tests\":[{\"stdin\":\"1\",\"expected_stdout\":\"1\"},{\"stdin\":\"2\","
        "\"expected_stdout\":\"5\"},{\"stdin\":\"3\",\"expected_stdout\":\"3\",\"weight\":2}]",
        JUDGE_WA, NULL};
    struct judge_result result;

    (void)state;
    if (!shared_judge)
        skip();
    judge_case(&row, &result);
    assert_int_equal(result.n_tests, 3);
    assert_int_equal(result.verdict, JUDGE_WA);
    assert_int_equal(result.tests[0].verdict, JUDGE_AC);
    assert_int_equal(result.tests[1].verdict, JUDGE_WA);
    assert_int_equal(result.tests[2].verdict, JUDGE_RE);
    assert_int_equal(result.tests[2].exit_code, 1);
    assert_float_equal(result.right_fraction, 1. / 3, 1e-9);
    assert_float_equal(result.right_share, 0.25, 1e-9);
    judge_result_release(&result);
}

static void limits_of_a_job_count(void **state)
{
    static const struct job_case cases[] = {
        {"python", "for i in range(2 * 10**6): pass\nprint(3)",
         SUM ",\"limits\":{\"cpu_ms\":5,\"wall_ms\":3000}", JUDGE_TLE, NULL},
        {"python", "print(3)", SUM ",\"limits\":{\"output_bytes\":1}", JUDGE_OLE, NULL},
        {"python", "x = bytearray(60 << 20)\nprint(3)",
         SUM ",\"limits\":{\"memory_bytes\":134217728}", JUDGE_AC, NULL},
        {"c", "#include <unistd.h>\nint main(void) { sleep(60); }",
         SUM ",\"limits\":{\"cpu_ms\":100,\"wall_ms\":200}", JUDGE_TLE, "by the clock"},
    };

    (void)state;
    check_jobs(cases, N_OF(cases));
}

/* Calls share a process, and none of them pays for the others. */
static void a_time_limit_is_that_of_one_call(void **state)
{
    static const struct job_case cases[] = {
        {"python", "import time\ndef f(x):\n    start = time.process_time()\n"
                   "    while time.process_time() < start + 0.2: pass\n    return x",
         "\"entry\":\"f\",\"limits\":{\"cpu_ms\":500,\"wall_ms\":10000},\"cases\":["
         "{\"args\":[1],\"expected\":1},{\"args\":[2],\"expected\":2},{\"args\":[3],"
         "\"expected\":3},{\"args\":[4],\"expected\":4},{\"args\":[5],\"expected\":5}]",
         JUDGE_AC, NULL},
    };

    (void)state;
    check_jobs(cases, N_OF(cases));
}

static void the_same_source_is_compiled_once(void **state)
{
    const struct job_case row = {"c", C_SUM("b + a"), SUM, JUDGE_AC, NULL};
    const struct job_case refused = {"c", "int x = ;", SUM, JUDGE_CE, NULL};
    struct judge_result result;

    (void)state;
    if (!shared_judge)
        skip();
    for (int i = 0; i < 2; i++) {
        judge_case(&row, &result);
        assert_int_equal(result.was_cached, i);
        judge_result_release(&result);
        judge_case(&refused, &result);
        assert_int_equal(result.was_cached, i);
        assert_int_equal(result.verdict, JUDGE_CE);
        judge_result_release(&result);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(programs_are_judged_by_their_output),
        cmocka_unit_test(javascript_is_judged_where_node_is),
        cmocka_unit_test(functions_in_python_are_judged_by_their_values),
        cmocka_unit_test(functions_in_c_are_called_with_their_types),
        cmocka_unit_test(functions_in_cpp_take_and_give_containers),
        cmocka_unit_test(tests_that_are_code_get_the_answers_values),
        cmocka_unit_test(jobs_without_sense_say_why),
        cmocka_unit_test(each_test_is_reported_and_shares_are_of_all),
        cmocka_unit_test(limits_of_a_job_count),
        cmocka_unit_test(a_time_limit_is_that_of_one_call),
        cmocka_unit_test(the_same_source_is_compiled_once),
    };

    return cmocka_run_group_tests(tests, make_judge, drop_judge);
}
