/*
 * tests/integration/sandbox_programs.h - programs of integration_sandbox_list.c: name, language,
 * source, verdicts that are good. Where nothing else is said, the input is "3 4" and the
 * expected output 7; a hostile program is expected to print what it would print if it succeeded.
 */
#ifndef HONE_TESTS_INTEGRATION_SANDBOX_PROGRAMS_H
#define HONE_TESTS_INTEGRATION_SANDBOX_PROGRAMS_H

#include <stddef.h>

struct listed_program {
    const char *name, *language, *verdicts;   /* "RE/WA": either */
    const char *input, *expected, *compare;   /* compare NULL: tokens */
    const char *entry, *cases;                /* of a function */
    const char *forbidden;                    /* text that no message may have */
    const char *source;
};

/* What the C programs include. */
#define C_HEADERS                                                                                 \
    "#define _GNU_SOURCE\n"                                                                        \
    "#include <stdio.h>\n"                                                                         \
    "#include <stdlib.h>\n"                                                                        \
    "#include <string.h>\n"                                                                        \
    "#include <unistd.h>\n"                                                                        \
    "#include <fcntl.h>\n"                                                                         \
    "#include <signal.h>\n"                                                                        \
    "#include <errno.h>\n"                                                                         \
    "#include <sched.h>\n"                                                                         \
    "#include <sys/types.h>\n"                                                                     \
    "#include <sys/stat.h>\n"                                                                      \
    "#include <sys/mount.h>\n"                                                                     \
    "#include <sys/ptrace.h>\n"                                                                    \
    "#include <sys/shm.h>\n"                                                                       \
    "#include <sys/wait.h>\n"                                                                      \
    "#include <sys/utsname.h>\n"                                                                   \
    "#include <sys/random.h>\n"                                                                    \
    "#include <time.h>\n"

/* 448 errors. */
#define ERROR_LINE "int f() { return undefined; }\n"
#define ERRORS_8                                                                                  \
    ERROR_LINE ERROR_LINE ERROR_LINE ERROR_LINE ERROR_LINE ERROR_LINE ERROR_LINE ERROR_LINE
#define ERRORS_64 ERRORS_8 ERRORS_8 ERRORS_8 ERRORS_8 ERRORS_8 ERRORS_8 ERRORS_8 ERRORS_8
#define MANY_ERRORS                                                                               \
    ERRORS_64 ERRORS_64 ERRORS_64 ERRORS_64 ERRORS_64 ERRORS_64 ERRORS_64 "int main() {}\n"

static const struct listed_program listed_programs[] = {
    {.name = "A01 sum",
     .language = "c",
     .verdicts = "AC",
     .input = "3 4\n",
     .expected = "7\n",
     .source = C_HEADERS
               "int main(void) { int a, b; if (scanf(\"%d %d\", &a, &b) != 2) return 2; "
               "printf(\"%d\\n\", a + b); return 0; }\n"},
    {.name = "A02 sum with iostream",
     .language = "cpp",
     .verdicts = "AC",
     .input = "3 4\n",
     .expected = "7\n",
     .source = "#include <iostream>\n"
               "int main() { int a, b; std::cin >> a >> b; std::cout << a + b << std::endl; "
               "}\n"},
    {.name = "A03 sum",
     .language = "python",
     .verdicts = "AC",
     .input = "3 4\n",
     .expected = "7\n",
     .source = "a, b = map(int, input().split())\n"
               "print(a + b)\n"},
    {.name = "A04 off by one",
     .language = "c",
     .verdicts = "WA",
     .input = "3 4\n",
     .expected = "7\n",
     .source = C_HEADERS
               "int main(void) { int a, b; if (scanf(\"%d %d\", &a, &b) != 2) return 2; "
               "printf(\"%d\\n\", a + b + 1); return 0; }\n"},
    {.name = "A05 silent",
     .language = "c",
     .verdicts = "WA",
     .input = "3 4\n",
     .expected = "7\n",
     .source = C_HEADERS
               "int main(void) { return 0; }\n"},
    {.name = "A06 no newline",
     .language = "c",
     .verdicts = "AC",
     .input = "3 4\n",
     .expected = "7\n",
     .source = C_HEADERS
               "int main(void) { int a, b; if (scanf(\"%d %d\", &a, &b) != 2) return 2; "
               "printf(\"%d\", a + b); return 0; }\n"},
    {.name = "A07 loop",
     .language = "c",
     .verdicts = "TLE",
     .input = "3 4\n",
     .expected = "7\n",
     .source = C_HEADERS
               "int main(void) { for (;;) ; }\n"},
    {.name = "A08 loop",
     .language = "python",
     .verdicts = "TLE",
     .input = "3 4\n",
     .expected = "7\n",
     .source = "while True: pass\n"},
    {.name = "A09 sleeper",
     .language = "c",
     .verdicts = "TLE",
     .input = "3 4\n",
     .expected = "7\n",
     .source = C_HEADERS
               "int main(void) { sleep(60); return 0; }\n"},
    {.name = "A10 malloc loop",
     .language = "c",
     .verdicts = "MLE/RE",
     .input = "3 4\n",
     .expected = "7\n",
     .source = C_HEADERS
               "int main(void) { for (;;) { char *p = malloc(1 << 20); if (!p) abort(); "
               "memset(p, 1, 1 << 20); } }\n"},
    {.name = "A11 list loop",
     .language = "python",
     .verdicts = "MLE/RE",
     .input = "3 4\n",
     .expected = "7\n",
     .source = "x = []\n"
               "while True: x.append('y' * 1000)\n"},
    {.name = "A12 big bss untouched",
     .language = "c",
     .verdicts = "AC/RE",
     .input = "3 4\n",
     .expected = "7\n",
     .source = C_HEADERS
               "static char big[1 << 30];\n"
               "int main(void) { int a, b; if (scanf(\"%d %d\", &a, &b) != 2) return 2; "
               "printf(\"%d\\n\", a + b + (a > 100 ? big[a] : 0)); return 0; }\n"},
    {.name = "A13 null pointer",
     .language = "c",
     .verdicts = "RE",
     .input = "3 4\n",
     .expected = "7\n",
     .source = C_HEADERS
               "int main(void) { volatile int *p = 0; return *p; }\n"},
    {.name = "A14 divide by zero",
     .language = "cpp",
     .verdicts = "RE",
     .input = "3 4\n",
     .expected = "7\n",
     .source = "int main() { volatile int a = 1, b = 0; return a / b; }\n"},
    {.name = "A15 exit 1",
     .language = "c",
     .verdicts = "RE",
     .input = "3 4\n",
     .expected = "7\n",
     .source = C_HEADERS
               "int main(void) { puts(\"7\"); return 1; }\n"},
    {.name = "A16 exception",
     .language = "python",
     .verdicts = "RE",
     .input = "3 4\n",
     .expected = "7\n",
     .source = "print(7)\n"
               "raise ValueError(\"no\")\n"},
    {.name = "A17 recursion limit",
     .language = "python",
     .verdicts = "RE",
     .input = "3 4\n",
     .expected = "7\n",
     .source = "def f(n): return 0 if n == 0 else 1 + f(n - 1)\n"
               "print(f(100000))\n"},
    {.name = "A18 deep recursion",
     .language = "cpp",
     .verdicts = "AC",
     .input = "3 4\n",
     .expected = "7\n",
     .source = "#include <cstdio>\n"
               "int __attribute__((noinline)) f(volatile int *p, int n) { volatile int x = n; "
               "return n == 0 ? *p : f(p, n - 1) + (x == n ? 0 : 1); }\n"
               "int main() { int a, b; if (scanf(\"%d %d\", &a, &b) != 2) return 1; volatile "
               "int s = a + b; printf(\"%d\\n\", f(&s, 100000)); }\n"},
    {.name = "A19 syntax error",
     .language = "cpp",
     .verdicts = "CE",
     .input = "3 4\n",
     .expected = "7\n",
     .source = "int main( { return 0 }\n"},
    {.name = "A20 no main",
     .language = "c",
     .verdicts = "CE",
     .input = "3 4\n",
     .expected = "7\n",
     .source = C_HEADERS
               "int helper(void) { return 1; }\n"},
    {.name = "A21 print loop",
     .language = "c",
     .verdicts = "OLE",
     .input = "3 4\n",
     .expected = "7\n",
     .source = C_HEADERS
               "int main(void) { for (;;) puts(\"again and again\"); }\n"},
    {.name = "A22 print loop",
     .language = "python",
     .verdicts = "OLE",
     .input = "3 4\n",
     .expected = "7\n",
     .source = "while True: print(\"again and again\")\n"},
    {.name = "A23 stderr noise",
     .language = "c",
     .verdicts = "AC",
     .input = "3 4\n",
     .expected = "7\n",
     .source = C_HEADERS
               "int main(void) { int a, b; if (scanf(\"%d %d\", &a, &b) != 2) return 2; for "
               "(int i = 0; i < 1000; i++) fprintf(stderr, \"noise %d\\n\", i); "
               "printf(\"%d\\n\", a + b); return 0; }\n"},
    {.name = "A24 trailing blanks, tokens",
     .language = "python",
     .verdicts = "AC",
     .input = "3 4\n",
     .expected = "7\n",
     .compare = "tokens",
     .source = "print(\"7  \")\n"},
    {.name = "A24 trailing blanks, exact",
     .language = "python",
     .verdicts = "WA",
     .input = "3 4\n",
     .expected = "7\n",
     .compare = "exact",
     .source = "print(\"7  \")\n"},
    {.name = "A25 float close",
     .language = "c",
     .verdicts = "AC",
     .input = "3 4\n",
     .expected = "0.5\n",
     .compare = "float:1e-6",
     .source = C_HEADERS
               "int main(void) { printf(\"%.12f\\n\", 0.5 + 1e-9); return 0; }\n"},
    {.name = "A26 float far",
     .language = "c",
     .verdicts = "WA",
     .input = "3 4\n",
     .expected = "0.5\n",
     .compare = "float:1e-6",
     .source = C_HEADERS
               "int main(void) { printf(\"%.12f\\n\", 0.501); return 0; }\n"},
    {.name = "A28 ignores input",
     .language = "python",
     .verdicts = "AC",
     .input = "3 4\n",
     .expected = "7\n",
     .source = "print(7)\n"},
    {.name = "A29 fork 100",
     .language = "c",
     .verdicts = "AC/RE/SV",
     .input = "3 4\n",
     .expected = "7\n",
     .source = C_HEADERS
               "int main(void) { for (int i = 0; i < 100; i++) { pid_t p = fork(); if (p == "
               "0) { sleep(60); _exit(0); } } puts(\"7\"); return 0; }\n"},
    {.name = "A30 thread 500",
     .language = "cpp",
     .verdicts = "RE",
     .input = "3 4\n",
     .expected = "7\n",
     .source = "#include <thread>\n"
               "#include <vector>\n"
               "#include <unistd.h>\n"
               "int main() { std::vector<std::thread> t; for (int i = 0; i < 500; i++) "
               "t.emplace_back([] { sleep(60); }); }\n"},
    {.name = "A31 daemon",
     .language = "c",
     .verdicts = "AC/RE/SV",
     .input = "3 4\n",
     .expected = "7\n",
     .source = C_HEADERS
               "int main(void) { if (fork() == 0) { setsid(); if (fork() == 0) { sleep(30); "
               "_exit(0); } _exit(0); } puts(\"7\"); return 0; }\n"},
    {.name = "A32 ignore TERM",
     .language = "c",
     .verdicts = "TLE",
     .input = "3 4\n",
     .expected = "7\n",
     .source = C_HEADERS
               "int main(void) { signal(SIGTERM, SIG_IGN); for (;;) ; }\n"},
    {.name = "A33 stop",
     .language = "c",
     .verdicts = "TLE",
     .input = "3 4\n",
     .expected = "7\n",
     .source = C_HEADERS
               "int main(void) { raise(SIGSTOP); puts(\"7\"); return 0; }\n"},
    {.name = "A34 kill parent",
     .language = "c",
     .verdicts = "AC/SV",
     .input = "3 4\n",
     .expected = "7\n",
     .source = C_HEADERS
               "int main(void) { kill(getppid(), SIGKILL); puts(\"7\"); return 0; }\n"},
    {.name = "A35 ptrace",
     .language = "c",
     .verdicts = "SV/RE/WA",
     .input = "3 4\n",
     .expected = "attached\n",
     .source = C_HEADERS
               "int main(void) { if (ptrace(PTRACE_ATTACH, getppid(), 0, 0) == 0) "
               "puts(\"attached\"); return 0; }\n"},
    {.name = "A36 user namespace",
     .language = "c",
     .verdicts = "SV/RE/WA",
     .input = "3 4\n",
     .expected = "unshared\n",
     .source = C_HEADERS
               "int main(void) { if (unshare(CLONE_NEWUSER) == 0) puts(\"unshared\"); return "
               "0; }\n"},
    {.name = "A37 mount",
     .language = "c",
     .verdicts = "SV/RE/WA",
     .input = "3 4\n",
     .expected = "mounted\n",
     .source = C_HEADERS
               "int main(void) { if (mount(\"none\", \"/tmp\", \"tmpfs\", 0, \"\") == 0) "
               "puts(\"mounted\"); return 0; }\n"},
    {.name = "A38 shell",
     .language = "c",
     .verdicts = "SV/RE/WA",
     .input = "3 4\n",
     .expected = "shell\n",
     .source = C_HEADERS
               "int main(void) { execl(\"/bin/sh\", \"sh\", \"-c\", \"echo shell\", (char "
               "*)0); return 1; }\n"},
    {.name = "A39 os.system",
     .language = "python",
     .verdicts = "WA/RE/SV",
     .input = "3 4\n",
     .expected = "code 0\n",
     .source = "import os\n"
               "print(\"code\", os.system(\"id\"))\n"},
    {.name = "A41 import socket",
     .language = "python",
     .verdicts = "AC",
     .input = "3 4\n",
     .expected = "7\n",
     .source = "import socket\n"
               "a, b = map(int, input().split())\n"
               "print(a + b)\n"},
    {.name = "A42 passwd",
     .language = "c",
     .verdicts = "WA/RE",
     .input = "3 4\n",
     .expected = "read\n",
     .source = C_HEADERS
               "int main(void) { FILE *f = fopen(\"/etc/passwd\", \"r\"); if (!f) return 1; "
               "char line[99]; while (fgets(line, 99, f)) fputs(line, stdout); "
               "puts(\"read\"); return 0; }\n"},
    {.name = "A43 environment",
     .language = "c",
     .verdicts = "AC",
     .input = "3 4\n",
     .expected = "0\n",
     .source = C_HEADERS
               "extern char **environ;\n"
               "int main(void) { int n = 0; for (char **e = environ; e && *e; e++) n++; "
               "printf(\"%d\\n\", n); return 0; }\n"},
    {.name = "A44 descriptors",
     .language = "c",
     .verdicts = "AC",
     .input = "3 4\n",
     .expected = "0\n",
     .source = C_HEADERS
               "int main(void) { int n = 0; for (int i = 3; i < 4096; i++) n += fcntl(i, "
               "F_GETFD) >= 0; printf(\"%d\\n\", n); return 0; }\n"},
    {.name = "A45 proc list",
     .language = "python",
     .verdicts = "WA/RE",
     .input = "3 4\n",
     .expected = "found True\n",
     .source = "import os\n"
               "n = [p for p in os.listdir(\"/proc\") if p.isdigit()]\n"
               "print(\"found\", len(n) > 0)\n"},
    {.name = "A46 write cwd",
     .language = "c",
     .verdicts = "AC/RE",
     .input = "3 4\n",
     .expected = "7\n",
     .source = C_HEADERS
               "int main(void) { FILE *f = fopen(\"out\", \"w\"); if (!f) return 1; char "
               "b[1024]; memset(b, 1, 1024); for (int i = 0; i < 10240; i++) fwrite(b, 1, "
               "1024, f); puts(\"7\"); return 0; }\n"},
    {.name = "A47 symlink",
     .language = "c",
     .verdicts = "AC/RE",
     .input = "3 4\n",
     .expected = "7\n",
     .source = C_HEADERS
               "int main(void) { if (symlink(\"/etc/passwd\", \"out\")) return 1; "
               "puts(\"7\"); return 0; }\n"},
    {.name = "A48 unreadable file",
     .language = "c",
     .verdicts = "AC/RE",
     .input = "3 4\n",
     .expected = "7\n",
     .source = C_HEADERS
               "int main(void) { int f = open(\"secret\", O_CREAT | O_WRONLY, 0); if (f < 0) "
               "return 1; for (int i = 0; i < 100; i++) { mkdir(\"d\", 0700); if "
               "(chdir(\"d\")) return 1; } puts(\"7\"); return 0; }\n"},
    {.name = "A49 shared memory",
     .language = "c",
     .verdicts = "AC/SV/RE",
     .input = "3 4\n",
     .expected = "7\n",
     .source = C_HEADERS
               "int main(void) { if (shmget(42, 4096, IPC_CREAT | 0600) < 0) return 1; "
               "puts(\"7\"); return 0; }\n"},
    {.name = "A50 include passwd",
     .language = "c",
     .verdicts = "CE",
     .input = "3 4\n",
     .expected = "7\n",
     .forbidden = "root:",
     .source = "#include \"/etc/passwd\"\n"
               "int main(void) { return 0; }\n"},
    {.name = "A51 template recursion",
     .language = "cpp",
     .verdicts = "CE",
     .input = "3 4\n",
     .expected = "7\n",
     .source = "template <int n> struct s { static const int v = s<n + 1>::v; };\n"
               "int main() { return s<0>::v; }\n"},
    {.name = "A52 huge output of compiler",
     .language = "cpp",
     .verdicts = "CE",
     .input = "3 4\n",
     .expected = "7\n",
     .source = MANY_ERRORS},
    {.name = "A53 exit in function",
     .language = "python",
     .verdicts = "RE/WA",
     .input = "3 4\n",
     .expected = "7\n",
     .entry = "f",
     .cases = "[{\"args\": [1], \"expected\": 2}]",
     .source = "import sys\n"
               "def f(x):\n"
               "    sys.exit(0)\n"},
    {.name = "A54 equal to all",
     .language = "python",
     .verdicts = "WA/RE",
     .input = "3 4\n",
     .expected = "7\n",
     .entry = "f",
     .cases = "[{\"args\": [1], \"expected\": 2}]",
     .source = "class E:\n"
               "    def __eq__(self, other): return True\n"
               "def f(x):\n"
               "    return E()\n"},
    {.name = "A55 prints PASS",
     .language = "python",
     .verdicts = "WA",
     .input = "3 4\n",
     .expected = "7\n",
     .entry = "f",
     .cases = "[{\"args\": [1], \"expected\": 2}]",
     .source = "def f(x):\n"
               "    print(\"PASS\")\n"
               "    print(\"all tests passed\")\n"},
    {.name = "A56 tuple for list",
     .language = "python",
     .verdicts = "AC/WA/RE",
     .input = "3 4\n",
     .expected = "7\n",
     .entry = "f",
     .cases = "[{\"args\": [1], \"expected\": [1, 1]}]",
     .source = "def f(x):\n"
               "    return (x, x)\n"},
    {.name = "A57 threads",
     .language = "cpp",
     .verdicts = "AC",
     .input = "3 4\n",
     .expected = "7\n",
     .source = "#include <thread>\n"
               "#include <atomic>\n"
               "#include <cstdio>\n"
               "int main() { int a, b; if (scanf(\"%d %d\", &a, &b) != 2) return 1; "
               "std::atomic<int> n{0}; std::thread t[4]; for (auto &x : t) x = "
               "std::thread([&] { n++; }); for (auto &x : t) x.join(); printf(\"%d\\n\", n == "
               "4 ? a + b : -1); }\n"},
    {.name = "A58 caught exception",
     .language = "cpp",
     .verdicts = "AC",
     .input = "3 4\n",
     .expected = "7\n",
     .source = "#include <stdexcept>\n"
               "#include <cstdio>\n"
               "int main() { try { throw std::runtime_error(\"x\"); } catch (const "
               "std::exception &) { puts(\"7\"); } }\n"},
    {.name = "A59 non-UTF-8 output",
     .language = "c",
     .verdicts = "WA",
     .input = "3 4\n",
     .expected = "7\n",
     .source = C_HEADERS
               "int main(void) { putchar(0xff); return 0; }\n"},
    {.name = "A60 empty program",
     .language = "python",
     .verdicts = "WA",
     .input = "3 4\n",
     .expected = "7\n",
     .source = ""},
    {.name = "A61 clock",
     .language = "c",
     .verdicts = "AC",
     .input = "3 4\n",
     .expected = "7\n",
     .source = C_HEADERS
               "int main(void) { struct timespec t; char b[64]; struct utsname u; if "
               "(clock_gettime(CLOCK_MONOTONIC, &t) || clock_gettime(CLOCK_REALTIME, &t) || "
               "getrandom(b, 8, 0) != 8 || !getcwd(b, 64) || uname(&u)) return 1; "
               "puts(\"7\"); return 0; }\n"},
    {.name = "A62 console",
     .language = "javascript",
     .verdicts = "AC",
     .input = "3 4\n",
     .expected = "7\n",
     .source = "const [a, b] = require(\"fs\").readFileSync(0, \"utf8\").split(\" "
               "\").map(Number);\n"
               "console.log(a + b);\n"},
    {.name = "B01 signals of limits",
     .language = "c",
     .verdicts = "RE",
     .input = "3 4\n",
     .expected = "7\n",
     .source = C_HEADERS
               "int main(void) { raise(SIGXCPU); return 0; }\n"},
    {.name = "B02 kill all",
     .language = "c",
     .verdicts = "AC/RE/SV",
     .input = "3 4\n",
     .expected = "7\n",
     .source = C_HEADERS
               "int main(void) { kill(-1, SIGKILL); puts(\"7\"); return 0; }\n"},
    {.name = "B03 close all",
     .language = "c",
     .verdicts = "WA",
     .input = "3 4\n",
     .expected = "7\n",
     .source = C_HEADERS
               "int main(void) { for (int i = 0; i < 64; i++) close(i); return 0; }\n"},
    {.name = "B04 late output",
     .language = "c",
     .verdicts = "AC",
     .input = "3 4\n",
     .expected = "7\n",
     .source = C_HEADERS
               "int main(void) { int a, b; if (scanf(\"%d %d\", &a, &b) != 2) return 2; "
               "printf(\"%d\", a + b); fflush(stdout); close(1); return 0; }\n"},
    {.name = "B05 hidden exit",
     .language = "python",
     .verdicts = "RE",
     .input = "3 4\n",
     .expected = "7\n",
     .source = "import os\n"
               "print(7, flush=True)\n"
               "os._exit(3)\n"},
    {.name = "B06 thread that stays",
     .language = "python",
     .verdicts = "TLE",
     .input = "3 4\n",
     .expected = "7\n",
     .source = "import threading, time\n"
               "threading.Thread(target=time.sleep, args=(60,)).start()\n"
               "print(7, flush=True)\n"},
    {.name = "B07 ctypes",
     .language = "python",
     .verdicts = "SV/RE/WA",
     .input = "3 4\n",
     .expected = "done 0\n",
     .source = "import ctypes\n"
               "libc = ctypes.CDLL(None)\n"
               "print(\"done\", libc.syscall(101, 16, 1, 0, 0))\n"},
    {.name = "B08 frames of the runner",
     .language = "python",
     .verdicts = "WA",
     .input = "3 4\n",
     .expected = "SECRET7\n",
     .source = "import sys\n"
               "f = sys._getframe()\n"
               "while f:\n"
               "    for v in list(f.f_locals.values()):\n"
               "        if v == \"SECRET7\": print(\"SECRET7\")\n"
               "    f = f.f_back\n"},
    {.name = "B09 wrong after exit",
     .language = "python",
     .verdicts = "WA",
     .input = "3 4\n",
     .expected = "7\n",
     .source = "import atexit\n"
               "atexit.register(lambda: print(8))\n"
               "print(7)\n"},
    {.name = "B10 child process",
     .language = "javascript",
     .verdicts = "RE/SV/WA",
     .input = "3 4\n",
     .expected = "7\n",
     .source = "require(\"child_process\").execSync(\"id\"); console.log(7)\n"},
    {.name = "B11 recursion without end",
     .language = "c",
     .verdicts = "RE/MLE",
     .input = "3 4\n",
     .expected = "7\n",
     .source = C_HEADERS
               "int f(volatile int n) { volatile char b[1000]; b[0] = (char)n; return f(n + "
               "1) + b[0]; }\n"
               "int main(void) { return f(0); }\n"},
    {.name = "B12 overflow of threads and memory",
     .language = "python",
     .verdicts = "RE/TLE",
     .input = "3 4\n",
     .expected = "7\n",
     .source = "import threading\n"
               "for i in range(1000):\n"
               "    threading.Thread(target=lambda: threading.Event().wait()).start()\n"
               "print(7)\n"},
    {.name = NULL},
};

#endif
