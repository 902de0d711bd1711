/* Programs and sources that try to get out. Each answers 0 when it could do no harm, and the number
 * of the thing it could do otherwise. */
#include "tests/unit/test_sandbox.h"

#include <arpa/inet.h>
#include <grp.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

static void refuses_to_do(const char *body)
{
    char *source = malloc(8192);

    snprintf(source, 8192, HEADERS "int main(void) { %s return 0; }\n", body);
    run_expecting(source, SANDBOX_EXITED, 0);
    free(source);
}

static void is_killed_for(const char *body)
{
    char *source = malloc(8192);

    snprintf(source, 8192, HEADERS "int main(void) { %s return 0; }\n", body);
    run_expecting(source, SANDBOX_VIOLATION, 0);
    free(source);
}

static void a_fork_bomb_makes_no_process(void **state)
{
    (void)state;
    refuses_to_do("for (int i = 0; i < 1000; i++) { if (fork() >= 0) return 1; }"
                  "if (vfork() >= 0) return 2;"
                  "if (syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) >= 0) return 3;"
                  "char args[88] = {0}; if (syscall(SYS_clone3, args, 88) >= 0) return 4;");
}

static void nothing_can_be_executed(void **state)
{
    (void)state;
    refuses_to_do("execl(\"/bin/sh\", \"sh\", \"-c\", \"echo out\", NULL); if (errno != EACCES)"
                  " return 1; if (system(\"echo out\") == 0) return 2;"
                  /* the number that init used for the program */
                  "int fd = open(\"/dev/null\", O_RDONLY); dup2(fd, 5); char *none[] = {0};"
                  "if (syscall(SYS_execveat, 5, \"\", none, none, AT_EMPTY_PATH) >= 0) return 3;"
                  "dup2(0, 5); if (syscall(SYS_execveat, 5, \"\", none, none, AT_EMPTY_PATH) >= 0)"
                  " return 4; if (errno != EACCES) return 5;");
}

static void the_network_is_refused(void **state)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t n = sizeof(address);
    char body[1024];

    (void)state;
    need_box();
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(listener >= 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &n), 0);
    snprintf(body, sizeof(body),
             "for (int family = 0; family < 46; family++) for (int type = 1; type < 6; type++)"
             " if (socket(family, type, 0) >= 0) return 1;"
             "int pair[2]; if (socketpair(1, 1, 0, pair) == 0) return 2;"
             "struct { short f; unsigned short p; unsigned a; long z; } to = {2, %u, 0x0100007f};"
             "for (int i = 0; i < 64; i++) if (connect(i, (void *)&to, 16) == 0) return 3;",
             (unsigned)address.sin_port);
    refuses_to_do(body);
    close(listener);
}

static void no_file_of_the_host_can_be_read(void **state)
{
    (void)state;
    refuses_to_do("const char *names[] = {\"/etc/passwd\", \"/etc/shadow\", \"/proc/self/maps\","
                  " \"/proc/1/environ\", \"/sys/kernel\", \"/usr/bin/env\", \"/home\", \"/root\","
                  " \"/tmp\", \"/dev/zero\", \"/dev/tty\", \"/dev/shm\", \"../../../etc/passwd\"};"
                  "for (int i = 0; i < 13; i++) if (open(names[i], O_RDONLY) >= 0) return i + 1;");
}

static void nothing_can_be_written(void **state)
{
    (void)state;
    refuses_to_do("if (open(\"/file\", O_CREAT | O_WRONLY, 0600) >= 0) return 1;"
                  "if (open(\"file\", O_CREAT | O_WRONLY, 0600) >= 0) return 2;"
                  "if (open(\"/\", O_TMPFILE | O_RDWR, 0600) >= 0) return 3;"
                  "if (mkdir(\"/directory\", 0700) == 0) return 4;"
                  "if (open(\"/dev/file\", O_CREAT | O_WRONLY, 0600) >= 0) return 5;"
                  "if (unlink(\"/dev/null\") == 0) return 6;"
                  "if (symlink(\"/etc/passwd\", \"link\") == 0) return 7;"
                  "if (syscall(SYS_memfd_create, \"m\", 0) >= 0) return 8;"
                  "if (write(0, \"x\", 1) >= 0) return 9;"
                  "if (fchmod(0, 0777) == 0) return 10;");
}

static void its_world_is_empty(void **state)
{
    (void)state;
    setenv("SECRET_OF_THE_CALLER", "seen", 1);
    refuses_to_do("extern char **environ; if (environ && environ[0]) return 1;"
                  "for (int fd = 3; fd < 4096; fd++) if (fcntl(fd, F_GETFD) >= 0) return 2;"
                  "if (getpid() != 2 || getppid() != 1) return 3;"
                  "if (getuid() != 1000 || getgid() != 1000) return 4;"
                  "char name[64]; gethostname(name, 64); if (strcmp(name, \"sandbox\")) return 6;"
                  "if (strcmp(getcwd(name, 64), \"/\")) return 7;"
                  "for (int pid = 3; pid < 400; pid++) if (kill(pid, 0) == 0) return 8;");
}

static void the_groups_of_root_are_dropped(void **state)
{
    const gid_t powerful[] = {0, 4};

    (void)state;
    need_box();
    if (geteuid() != 0)
        skip();
    assert_int_equal(setgroups(2, powerful), 0);
    struct sandbox_config config = test_config();
    struct sandbox *usual = box;
    int status = sandbox_create(&box, &config);   /* its broker has the groups of this moment */
    assert_int_equal(setgroups(0, NULL), 0);
    assert_int_equal(status, 0);
    refuses_to_do("if (getgroups(0, NULL) > 0) return 1;");
    sandbox_destroy(&box);
    box = usual;
}

static void an_inherited_descriptor_is_closed(void **state)
{
    int pipes[2];

    (void)state;
    need_box();
    assert_int_equal(pipe(pipes), 0);   /* without close-on-exec */
    refuses_to_do("for (int fd = 3; fd < 64; fd++) if (fcntl(fd, F_GETFD) >= 0) return 1;");
    close(pipes[0]);
    close(pipes[1]);
}

static void its_parent_survives_signals(void **state)
{
    struct sandbox_result result;

    (void)state;
    run_with(MAIN("for (int s = 1; s < 65; s++) kill(getppid(), s); kill(1, SIGKILL);"
                  "kill(1, SIGSTOP); puts(\"still here\"); return 0;"),
             "", 0, &result);
    assert_int_equal(result.verdict, SANDBOX_EXITED);
    assert_string_equal(result.output.data, "still here\n");
    sandbox_result_release(&result);
    run_with(MAIN("puts(\"first\"); fflush(stdout); kill(-1, SIGKILL); kill(0, SIGKILL);"
                  "return 0;"),
             "", 0, &result);
    assert_int_equal(result.verdict, SANDBOX_SIGNALED);
    assert_int_equal(result.signal, SIGKILL);
    sandbox_result_release(&result);
}

static void powers_over_others_are_violations(void **state)
{
    (void)state;
    is_killed_for("syscall(SYS_ptrace, 16, getppid(), 0, 0);");
    is_killed_for("char b[8]; struct { void *p; long n; } v = {b, 8};"
                  "syscall(SYS_process_vm_readv, 1, &v, 1, &v, 1, 0);");
}

static void kernel_doors_are_violations(void **state)
{
    (void)state;
    is_killed_for("syscall(SYS_unshare, 0x10000000);");
    is_killed_for("syscall(SYS_mount, \"none\", \"/\", \"tmpfs\", 0, 0);");
    is_killed_for("syscall(SYS_bpf, 0, 0, 0);");
    is_killed_for("syscall(SYS_io_uring_setup, 1, 0);");
    is_killed_for("syscall(SYS_keyctl, 0, 0, 0, 0);");
    is_killed_for("syscall(SYS_clone, 0x10000000 | 0x10100, 0, 0, 0, 0);");
    is_killed_for("char *none[] = {0}; syscall(SYS_execveat, 6, \"\", none, none, 0x1000);");
    is_killed_for("syscall(1000);");
}

static void foreign_system_calls_are_violations(void **state)
{
    struct utsname host;

    (void)state;
    if (uname(&host) < 0 || strcmp(host.machine, "x86_64") != 0)
        skip();
    is_killed_for("int r; __asm__ volatile(\"int $0x80\" : \"=a\"(r) : \"a\"(20));");   /* i386 */
    is_killed_for("syscall(0x40000000 | 39);");                                       /* x32 */
}

static void limits_cannot_be_raised(void **state)
{
    (void)state;
    refuses_to_do("long big[2] = {1L << 40, 1L << 40};"
                  "for (int i = 0; i < 16; i++) if (syscall(SYS_prlimit64, 0, i, big, 0) == 0)"
                  " return i + 1; if (syscall(SYS_setresuid, 0, 0, 0) == 0) return 20;"
                  "int n = 3; while (n < 1000 && dup(0) >= 0) n++; if (n != 64) return 21;");
}

static void a_system_v_object_cannot_be_left(void **state)
{
    (void)state;
    refuses_to_do("if (syscall(SYS_shmget, 1, 4096, 0600 | 01000) >= 0) return 1;"
                  "if (syscall(SYS_msgget, 1, 0600 | 01000) >= 0) return 2;");
}

static void a_bad_source_gets_messages(void **state)
{
    struct text messages = {0};

    (void)state;
    need_box();
    refuse_source("int main(void) { return undefined_name; }\n", &messages);
    assert_non_null(strstr(messages.data, "undefined_name"));
    assert_non_null(strstr(messages.data, "source.c:1"));
    text_clear(&messages);
    refuse_source("int main(void) { \x1b[2J\xff\xfe }\n", &messages);
    for (size_t i = 0; i < messages.length; i++)
        assert_true(messages.data[i] == '\n' || messages.data[i] == '\t' ||
                    (messages.data[i] >= 0x20 && messages.data[i] < 0x7f));
    text_clear(&messages);
    refuse_source("void f(void) {}\n", &messages);   /* compiles, does not link */
    text_clear(&messages);
    refuse_source("", &messages);
    text_release(&messages);
}

static void a_source_sees_no_file_of_the_host(void **state)
{
    struct text messages = {0};

    (void)state;
    need_box();
    refuse_source("#include \"/etc/shadow\"\nint main(void) { return 0; }\n", &messages);
    assert_null(strstr(messages.data, "root:"));
    text_clear(&messages);
    refuse_source("#include \"/etc/passwd\"\nint main(void) { return 0; }\n", &messages);
    assert_null(strstr(messages.data, "root:"));
    text_clear(&messages);
    refuse_source("__asm__(\".incbin \\\"/proc/self/environ\\\"\");\nint main(void) {}\n",
                  &messages);
    text_clear(&messages);
    refuse_source("#include \"/dev/zero\"\nint main(void) { return 0; }\n", &messages);
    text_release(&messages);
}

/* Refused; or, where other work starves the compiler, no verdict: never a program, never a hang. */
static void limit_source(const char *source, struct text *messages)
{
    struct sandbox_program *program = NULL;
    int status = sandbox_compile_c(box, source, strlen(source), &program, messages);

    assert_null(program);
    assert_true(status == STATUS_OK || status == STATUS_TIMEOUT);
}

static void a_compile_bomb_is_limited(void **state)
{
    struct text messages = {0};

    (void)state;
    need_box();
    box->config.compile_ms = 1500;
    limit_source("#include __FILE__\n#include __FILE__\n", &messages);
    text_clear(&messages);
    limit_source("#define A X X X X X X X X\n#define B A A A A A A A A\n"
                  "#define C B B B B B B B B\n#define D C C C C C C C C\n"
                  "#define E D D D D D D D D\n#define F E E E E E E E E\n"
                  "#define G F F F F F F F F\n#define H G G G G G G G G\n#define X 1+\n"
                  "int main(void) { return H 0; }\n",
                  &messages);
    text_clear(&messages);
    limit_source("char big[1L << 36] = {1};\nint main(void) { return big[5]; }\n", &messages);
    text_clear(&messages);
    limit_source("__asm__(\".rept 1000000000\\n.byte 1\\n.endr\");\nint main(void) {}\n",
                  &messages);
    text_release(&messages);
    box->config.compile_ms = test_config().compile_ms;
}

static void endless_messages_are_cut(void **state)
{
    struct text source = {0}, messages = {0};

    (void)state;
    need_box();
    for (int i = 0; i < 3000; i++)
        text_print(&source, "#error number %d\n", i);
    refuse_source(source.data, &messages);
    assert_true(messages.length <= BOX_ERRORS_BYTES + 64);
    text_release(&source);
    text_release(&messages);
}

/* Something else than a compiler in the compiler's place, without filter and Landlock. */
static int compile_by(char *const *arguments)
{
    struct sock_filter allow_all = {.code = BPF_RET | BPF_K, .k = SECCOMP_RET_ALLOW};
    struct box_host host = {.config = box->config, .turns = {-1, -1}, .level = sandbox_level(box)};
    struct attendant attendant = {.host = &host, .channel = -1};
    struct box_outcome outcome;
    struct text bytes = {0};
    const struct sandbox_compilation compilation = {.arguments = (const char *const *)arguments};
    struct box_plan plan = {.kind = CELL_COMPILE,
                            .cpu_ms = 5000,
                            .wall_ms = 20000,
                            .memory_bytes = 128 << 20,
                            .output_bytes = 4096,
                            .processes = 8,
                            .scratch_bytes = 1 << 20};
    int fd[BOX_N_DESCRIPTORS] = {-1, -1, -1, -1, -1, -1};

    assert_int_equal(host_choose_ids(&host), 0);
    host.filters[1] = (struct sock_fprog){1, &allow_all};
    assert_int_equal(bundle_write(&bytes, &compilation), 0);
    assert_int_equal(memfd_of_input(&fd[BOX_STDIN], bytes.data, bytes.length), 0);
    assert_int_equal(memfd_make(&fd[BOX_SCRIPT], "program"), 0);
    if (box_execute(&attendant, &plan, fd, &outcome) < 0)
        fail_msg("%s", status_reason());
    assert_int_equal(outcome.result.verdict, SANDBOX_EXITED);
    assert_int_equal(outcome.result.exit_code, 0);
    sandbox_result_release(&outcome.result);
    attendant_release(&attendant);
    text_release(&bytes);
    close(fd[BOX_STDIN]);
    close(fd[BOX_SCRIPT]);
    return outcome.has_result;
}

static void a_result_that_is_no_plain_file_is_left(void **state)
{
    char *const copy[] = {"/bin/cp", "/bin/true", "program", NULL};
    char *const link[] = {"/bin/ln", "-s", "/bin/true", "program", NULL};
    char *const queue[] = {"/usr/bin/mkfifo", "program", NULL};
    char *const directory[] = {"/bin/mkdir", "program", NULL};
    char *const empty[] = {"/usr/bin/touch", "program", NULL};

    (void)state;
    need_box();
    assert_int_equal(compile_by(copy), 1);
    assert_int_equal(compile_by(link), 0);
    assert_int_equal(compile_by(queue), 0);
    assert_int_equal(compile_by(directory), 0);
    assert_int_equal(compile_by(empty), 0);
}

static void the_compiler_cannot_write_elsewhere(void **state)
{
    char *const shell[] = {"/bin/sh", "-c",
                           /* not merely a lack of rights */
                           "touch /usr/x 2>&1 | grep -q Read-only || exit 5;"
                           "touch /usr/x /dev/x /x /etc/x /lib/x 2>/dev/null && exit 1;"
                           "cp /bin/true run; chmod 755 run; ./run 2>/dev/null && exit 2;"
                           "cat /etc/passwd /proc/self/environ 2>/dev/null && exit 3;"
                           "ls /home /root /var /proc /sys 2>/dev/null && exit 4; exit 0",
                           NULL};

    (void)state;
    need_box();
    assert_int_equal(compile_by(shell), 0);
}

static void processes_left_by_a_compiler_are_gone_before_its_result_is_taken(void **state)
{
    char *const shell[] = {"/bin/sh", "-c",
                           "(while :; do rm -f program; ln -s /etc/passwd program; done) &"
                           "exit 0",
                           NULL};

    (void)state;
    need_box();
    assert_int_equal(compile_by(shell), 0);
}

/* The groups of a cell, and the attendant's open files of them, serve run after run. */
static void a_run_does_not_answer_for_the_one_before(void **state)
{
    const char *const before[] = {
        MAIN("for (;;) { char *p = malloc(1 << 20); if (!p) return 9; memset(p, 1, 1 << 20); }"),
        MAIN("static char some[48 << 20]; memset(some, 1, sizeof(some)); return some[9] - 1;"),
        MAIN("for (;;) puts(\"much\");"), MAIN("for (;;) continue;"),
        MAIN("fcntl(1, F_SETFL, O_NONBLOCK); fcntl(0, F_SETFL, O_APPEND); return 0;")};

    (void)state;
    for (size_t i = 0; i < sizeof(before) / sizeof(before[0]); i++) {
        struct sandbox_result result;
        run_with(before[i], "", 0, &result);
        sandbox_result_release(&result);
        run_with(MAIN("printf(\"%d %d\\n\", fcntl(1, F_GETFL) & O_NONBLOCK,"
                      "fcntl(0, F_GETFL) & O_APPEND); return 0;"),
                 "", 0, &result);
        assert_int_equal(result.verdict, SANDBOX_EXITED);
        assert_string_equal(result.output.data, "0 0\n");
        assert_true(result.peak_bytes < 8 << 20);
        assert_true(result.cpu_ms < 500);
        sandbox_result_release(&result);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fork_bomb_makes_no_process),
        cmocka_unit_test(nothing_can_be_executed),
        cmocka_unit_test(the_network_is_refused),
        cmocka_unit_test(no_file_of_the_host_can_be_read),
        cmocka_unit_test(nothing_can_be_written),
        cmocka_unit_test(its_world_is_empty),
        cmocka_unit_test(the_groups_of_root_are_dropped),
        cmocka_unit_test(an_inherited_descriptor_is_closed),
        cmocka_unit_test(its_parent_survives_signals),
        cmocka_unit_test(powers_over_others_are_violations),
        cmocka_unit_test(kernel_doors_are_violations),
        cmocka_unit_test(foreign_system_calls_are_violations),
        cmocka_unit_test(limits_cannot_be_raised),
        cmocka_unit_test(a_system_v_object_cannot_be_left),
        cmocka_unit_test(a_bad_source_gets_messages),
        cmocka_unit_test(a_source_sees_no_file_of_the_host),
        cmocka_unit_test(a_compile_bomb_is_limited),
        cmocka_unit_test(endless_messages_are_cut),
        cmocka_unit_test(a_result_that_is_no_plain_file_is_left),
        cmocka_unit_test(the_compiler_cannot_write_elsewhere),
        cmocka_unit_test(processes_left_by_a_compiler_are_gone_before_its_result_is_taken),
        cmocka_unit_test(a_run_does_not_answer_for_the_one_before),
    };

    return cmocka_run_group_tests(tests, open_box, close_box);
}
