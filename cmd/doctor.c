/* hone doctor: what this machine offers, and whether the demo can run on it. */
#define PCRE2_CODE_UNIT_WIDTH 8   /* pcre2.h wants it */
#include <errno.h>
#include <gmp.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <pcre2.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <yaml.h>
#include <zmq.h>

#include "cmd/cmd.h"
#include "cmd/doctor.h"
#include "common/config.h"
#include "common/cores.h"
#include "common/files.h"
#include "common/status.h"
#include "common/version.h"
#include "ops/ops.h"
#include "sandbox/sandbox.h"

#define DEMO_MEMORY_GIB 2.0
#define DEMO_DISK_GIB 0.5
#define DEMO_OPEN_FILES 256

static const struct option_row options[] = {{0}};

/* One examination: its text, and how many of its findings stop the demo. */
struct findings {
    struct text text;
    int n_blocking;
};

static void found(struct findings *findings, int is_good, const char *name, const char *what)
{
    text_print(&findings->text, "%-5s %-10s %s\n", is_good ? "ok" : "FAIL", name, what);
    findings->n_blocking += !is_good;
}

static void note(struct findings *findings, const char *name, const char *what)
{
    text_print(&findings->text, "%-5s %-10s %s\n", "-", name, what);
}

/* The value behind "key : " in a file of such lines, into out; 0 when there is none. */
static int find_line(const char *path, const char *key, char *out, size_t n_out)
{
    char line[512];
    FILE *file = fopen(path, "re");
    int is_found = 0;

    while (file && !is_found && fgets(line, sizeof(line), file)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, key, strlen(key)) != 0 || !colon)
            continue;
        colon += 1 + strspn(colon + 1, " \t");
        snprintf(out, n_out, "%.*s", (int)strcspn(colon, "\n"), colon);
        is_found = 1;
    }
    if (file)
        fclose(file);
    return is_found;
}

static void examine_processor(struct findings *findings)
{
    char model[256] = "unknown processor", text[512];
    struct utsname host;
    struct ops *ops;

    if (!find_line("/proc/cpuinfo", "model name", model, sizeof(model)))
        find_line("/proc/cpuinfo", "Hardware", model, sizeof(model));
    uname(&host);
    snprintf(text, sizeof(text), "%s, %d cores, %s %s %s", model, cores_usable(), host.sysname,
             host.release, host.machine);
    note(findings, "processor", text);
    int status = ops_create(&ops, "cpu", 0);
    found(findings, status == STATUS_OK, "arithmetic",
          status == STATUS_OK ? ops_name(ops) : status_reason());
    if (status == STATUS_OK)
        ops_destroy(&ops);
    status = ops_create(&ops, "cuda", 0);
    note(findings, "cuda", status == STATUS_OK ? ops_name(ops) : status_reason());
    if (status == STATUS_OK)
        ops_destroy(&ops);
    doctor_find_toolkit(text, sizeof(text));
    note(findings, "nvcc", text);
    doctor_find_nccl(text, sizeof(text));
    note(findings, "nccl", text);
    doctor_find_mpi(text, sizeof(text));
    note(findings, "mpi", text);
    doctor_find_ranks(text, sizeof(text));
    note(findings, "ranks", text);
}

/* What a container may use; 0 when there is no limit. */
static double memory_limit_gib(void)
{
    static const char *const paths[] = {"/sys/fs/cgroup/memory.max",
                                        "/sys/fs/cgroup/memory/memory.limit_in_bytes"};
    double limit = 0;

    for (size_t i = 0; i < 2; i++) {
        FILE *file = fopen(paths[i], "re");
        if (file && fscanf(file, "%lf", &limit) != 1)
            limit = 0;
        if (file)
            fclose(file);
        if (limit > 0)
            break;
    }
    return limit / (1 << 30) > 1e6 ? 0 : limit / (1 << 30);
}

static void examine_memory(struct findings *findings)
{
    double gib = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGE_SIZE) / (1 << 30);
    double limit = memory_limit_gib();
    char text[160];

    if (limit > 0 && limit < gib)
        gib = limit;
    snprintf(text, sizeof(text), "%.1f GiB%s; the demo needs %.0f", gib,
             limit > 0 && limit <= gib ? " (limit of the container)" : "", DEMO_MEMORY_GIB);
    found(findings, gib >= DEMO_MEMORY_GIB, "memory", text);
}

static void examine_disk(struct findings *findings)
{
    struct statvfs disk;
    char text[160];

    if (statvfs(".", &disk) < 0) {
        snprintf(text, sizeof(text), "cannot look at the working directory: %s", strerror(errno));
        found(findings, 0, "disk", text);
        return;
    }
    double gib = (double)disk.f_bavail * (double)disk.f_frsize / (1 << 30);
    int is_writable = access(".", W_OK) == 0;
    snprintf(text, sizeof(text), "%.1f GiB free here%s; the demo needs %.1f", gib,
             is_writable ? "" : ", but this directory cannot be written", DEMO_DISK_GIB);
    found(findings, gib >= DEMO_DISK_GIB && is_writable, "disk", text);
}

static void examine_limits(struct findings *findings)
{
    struct rlimit files;
    char text[160];

    getrlimit(RLIMIT_NOFILE, &files);
    snprintf(text, sizeof(text), "%llu open files (ulimit -n); %d are enough for the demo",
             (unsigned long long)files.rlim_cur, DEMO_OPEN_FILES);
    found(findings, files.rlim_cur >= DEMO_OPEN_FILES, "limits", text);
}

static void examine_compiler(struct findings *findings)
{
    static const char *const paths[] = {"/usr/bin/cc", "/usr/bin/gcc", "/usr/bin/clang"};
    char real[FILE_PATH_MAX], text[FILE_PATH_MAX + 64];

    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
        if (access(paths[i], X_OK) == 0 && realpath(paths[i], real)) {
            snprintf(text, sizeof(text), "%s (%s)", paths[i], real);
            found(findings, 1, "compiler", text);
            return;
        }
    found(findings, 0, "compiler", "no /usr/bin/cc, gcc or clang: apt-get install gcc libc6-dev");
}

/* What the probes proved here, and how to get more. */
static void name_level(struct findings *findings, const struct sandbox *sandbox)
{
    int has_cpp = access("/usr/bin/g++", X_OK) == 0 || access("/usr/bin/clang++", X_OK) == 0;
    char text[256];

    snprintf(text, sizeof(text), "C%s%s%s", has_cpp ? ", C++" : "",
             sandbox_supports(sandbox, SANDBOX_PYTHON) ? ", Python" : "",
             sandbox_supports(sandbox, SANDBOX_NODE) ? ", JavaScript" : "");
    note(findings, "languages", text);
    if (sandbox_shortfall(sandbox)[0])
        note(findings, "level", sandbox_shortfall(sandbox));
}

/* Less than the configuration wants is a finding; what there is all the same is said too. */
static int open_sandbox(struct findings *findings, struct sandbox **sandbox)
{
    struct sandbox_config config;
    const struct config_binding binding = {&sandbox_config_section, &config};

    config_set_defaults(&binding, 1);
    if (sandbox_create(sandbox, &config) == STATUS_OK) {
        found(findings, 1, "sandbox", sandbox_description(*sandbox));
        return STATUS_OK;
    }
    found(findings, 0, "sandbox", status_reason());
    config.min_level = 1;
    TRY(sandbox_create(sandbox, &config));
    note(findings, "sandbox", sandbox_description(*sandbox));
    note(findings, "", "is what can be had here as it is: sandbox.min_level=1 accepts it");
    return STATUS_OK;
}

static void examine_sandbox(struct findings *findings)
{
    static const char source[] = "int main(void) { return 0; }\n";
    struct sandbox_program *program = NULL;
    struct sandbox *sandbox = NULL;
    struct text messages = {0};

    if (open_sandbox(findings, &sandbox) < 0)
        return;
    name_level(findings, sandbox);
    if (sandbox_compile_c(sandbox, source, sizeof(source) - 1, &program, &messages) < 0)
        found(findings, 0, "compiling", status_reason());
    else
        found(findings, program != NULL, "compiling",
              program ? "a C program compiles in the sandbox"
                      : messages.length ? messages.data : "the compiler refuses an empty main()");
    sandbox_program_release(&program);
    text_release(&messages);
    sandbox_destroy(&sandbox);
}

static void name_libraries(struct findings *findings)
{
    char pcre[64] = "?", text[512];
    int zmq[3], yaml[3];

    zmq_version(&zmq[0], &zmq[1], &zmq[2]);
    yaml_get_version(&yaml[0], &yaml[1], &yaml[2]);
    pcre2_config(PCRE2_CONFIG_VERSION, pcre);
    pcre[strcspn(pcre, " ")] = '\0';
    snprintf(text, sizeof(text), "zeromq %d.%d.%d, sqlite %s, yaml %d.%d.%d, jansson %s, gmp %s, "
             "pcre2 %s, %s", zmq[0], zmq[1], zmq[2], sqlite3_libversion(), yaml[0], yaml[1],
             yaml[2], jansson_version_str(), gmp_version, pcre, OpenSSL_version(OPENSSL_VERSION));
    note(findings, "libraries", text);
    note(findings, "curve", zmq_has("curve") ? "workers on other machines connect over CURVE"
                                             : "this libzmq has none: tcp:// is refused");
}

static int run(const struct command *command, const struct arguments *arguments)
{
    struct findings findings = {.n_blocking = 0};

    (void)command;
    (void)arguments;
    note(&findings, "hone", hone_version);
    examine_processor(&findings);
    examine_memory(&findings);
    examine_disk(&findings);
    examine_limits(&findings);
    examine_compiler(&findings);
    examine_sandbox(&findings);
    name_libraries(&findings);
    text_print(&findings.text, "\n%s\n",
               findings.n_blocking ? "The demo cannot run here as it is: see FAIL."
                                   : "The demo can run here: make demo");
    int status = print_text(&findings.text), n_blocking = findings.n_blocking;
    text_release(&findings.text);
    if (status == STATUS_OK && n_blocking)
        return status_fail(STATUS_UNSUPPORTED, "%d of what the demo needs is missing", n_blocking);
    return status;
}

const struct command command_doctor = {
    "doctor", "", 0, "what this machine offers, and whether the demo can run on it", NULL, options,
    run};
