/*
 * bench/bench_sandbox.c - runs a second of the sandbox, by language and level, beside bubblewrap
 * and beside starting the same program with no walls at all.
 *
 *     bench_sandbox [seconds a row]
 *     bench_sandbox census [runs]      empty runs, and what they left behind
 *
 * The rows take turns, so that whatever else the machine does meets all of them alike: the ratios
 * say more than the figures. Rates are with one run a core at once and
 * with two, as many as there are cells by default; latencies with one alone.
 */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/cores.h"
#include "common/files.h"
#include "common/status.h"
#include "sandbox/internal.h"
#include "sandbox/sandbox.h"

#define ROUNDS 5
#define SAMPLES_MAX 4000
#define THREADS_MAX 64
#define N_LEVELS 3
#define N_LOADS 2          /* one run a core at once, and two */

extern char **environ;

struct row {
    const char *name;
    int level;                     /* 0: no sandbox */
    enum sandbox_kind kind;
    int64_t scratch_bytes;
    int server;
    struct sandbox *sandbox;
    struct sandbox_program *program;
    char *const *command;          /* level 0 */
    double rate[N_LOADS][ROUNDS], latency[SAMPLES_MAX];
    int n_samples, works;
};

static char program_path[64] = "/tmp/bench-sandbox-XXXXXX";
static char *const plain_command[] = {program_path, NULL};
static char *const wrapped_command[] = {
    "bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--ro-bind",
    "/usr", "/usr", "--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev",
    "--tmpfs", "/tmp", "--ro-bind", program_path, "/program", "/program", NULL};

static struct row rows[] = {
    {.name = "C, no walls (posix_spawn)", .command = plain_command},
    {.name = "C, bubblewrap", .command = wrapped_command},
    {.name = "C, level 3", .level = 3},
    {.name = "C, level 3, scratch", .level = 3, .scratch_bytes = 16 << 20},
    {.name = "C, level 2", .level = 2},
    {.name = "C, level 1", .level = 1},
    {.name = "Python, level 3, cold", .level = 3, .kind = SANDBOX_PYTHON},
    {.name = "Python, level 3, fork-server", .level = 3, .kind = SANDBOX_PYTHON, .server = 1},
    {.name = "Python, level 1, fork-server", .level = 1, .kind = SANDBOX_PYTHON, .server = 1},
    {.name = "JavaScript, level 3", .level = 3, .kind = SANDBOX_NODE},
};
#define N_ROWS (sizeof(rows) / sizeof(rows[0]))

static const char c_source[] = "#include <stdio.h>\n"
                               "int main(void) { int a, b; if (scanf(\"%d %d\", &a, &b) != 2)"
                               " return 1; printf(\"%d\\n\", a + b); return 0; }\n";
static const char python_source[] = "a, b = map(int, input().split())\nprint(a + b)\n";
static const char node_source[] =
    "const [a, b] = require('fs').readFileSync(0, 'utf8').split(' ').map(Number);"
    "console.log(a + b);\n";

static int run_command(char *const *command)
{
    posix_spawn_file_actions_t actions;
    int input[2], output[2], status = 1;
    char line[16];
    pid_t pid;

    if (pipe2(input, O_CLOEXEC) < 0 || pipe2(output, O_CLOEXEC) < 0)
        return -1;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, input[0], 0);
    posix_spawn_file_actions_adddup2(&actions, output[1], 1);
    int error = posix_spawnp(&pid, command[0], &actions, NULL, command, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(input[0]);
    close(output[1]);
    ssize_t n = error ? 0 : write(input[1], "3 4\n", 4);
    close(input[1]);
    n = error || n != 4 ? 0 : read(output[0], line, sizeof(line));
    close(output[0]);
    if (!error)
        waitpid(pid, &status, 0);
    return error || status || n != 2 || line[0] != '7' ? -1 : 0;
}

static int n_complaints;

static int run_row(const struct row *row)
{
    const struct sandbox_limits limits = {.scratch_bytes = row->scratch_bytes};
    struct sandbox_result result;

    if (!row->level)
        return run_command(row->command);
    TRY(sandbox_run_limited(row->sandbox, row->program, &limits, "3 4\n", 4, &result));
    int good = result.verdict == SANDBOX_EXITED && result.exit_code == 0 &&
               result.output.length == 2 && result.output.data[0] == '7';
    if (!good && n_complaints++ < 5)
        fprintf(stderr, "%s: %s, exit code %d, signal %d: %s\n", row->name,
                sandbox_verdict_name(result.verdict), result.exit_code, result.signal,
                result.errors.data ? result.errors.data : "");
    sandbox_result_release(&result);
    return good ? 0 : -1;
}

/* The same static program for the rows without a sandbox. */
static int write_program(const struct sandbox_program *program)
{
    struct text bytes = {0};
    int fd = mkstemp(program_path);

    TRY(sandbox_program_bytes(program, &bytes));
    int bad = fd < 0 || write(fd, bytes.data, bytes.length) != (ssize_t)bytes.length ||
              fchmod(fd, 0755) < 0;
    if (fd >= 0)
        close(fd);
    text_release(&bytes);
    return bad ? status_fail(STATUS_IO, "write %s", program_path) : 0;
}

static int open_sandbox(struct sandbox **out, int level, int server)
{
    struct sandbox_config config;
    const struct config_binding binding = {&sandbox_config_section, &config};

    config_set_defaults(&binding, 1);
    config.min_level = config.max_level = level;
    config.python_server = server;
    return sandbox_create(out, &config);
}

static int prepare_row(struct row *row)
{
    struct text messages = {0};
    int status;

    if (!row->level)
        return 0;
    TRY(open_sandbox(&row->sandbox, row->level, row->server));
    if (row->kind == SANDBOX_NATIVE)
        status = sandbox_compile_c(row->sandbox, c_source, sizeof(c_source) - 1, &row->program,
                                   &messages);
    else {
        const char *source = row->kind == SANDBOX_PYTHON ? python_source : node_source;
        status = sandbox_load_script(row->sandbox, row->kind, source, strlen(source),
                                     &row->program);
    }
    text_release(&messages);
    return status;
}

struct load {
    const struct row *row;
    double until;
    int n;
};

static void *keep_running(void *argument)
{
    struct load *load = argument;

    while (clock_seconds() < load->until)
        load->n += run_row(load->row) == 0;
    return NULL;
}

static double measure_rate(const struct row *row, int n_threads, double seconds)
{
    struct load loads[THREADS_MAX];
    pthread_t threads[THREADS_MAX];
    double began = clock_seconds();
    int n = 0;

    for (int i = 0; i < n_threads; i++) {
        loads[i] = (struct load){row, began + seconds, 0};
        pthread_create(&threads[i], NULL, keep_running, &loads[i]);
    }
    for (int i = 0; i < n_threads; i++) {
        pthread_join(threads[i], NULL);
        n += loads[i].n;
    }
    return n / (clock_seconds() - began);
}

static void measure_latency(struct row *row, double seconds)
{
    double until = clock_seconds() + seconds;

    while (clock_seconds() < until && row->n_samples < SAMPLES_MAX) {
        double began = clock_seconds();
        if (run_row(row) == 0)
            row->latency[row->n_samples++] = (clock_seconds() - began) * 1e3;
    }
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

/* The better of the two medians. */
static double best_rate(const struct row *row)
{
    double one = row->rate[0][ROUNDS / 2], two = row->rate[1][ROUNDS / 2];

    return one > two ? one : two;
}

static void print_row(struct row *row, const struct row *wrapped)
{
    if (!row->works) {
        printf("%-30s  cannot run here\n", row->name);
        return;
    }
    qsort(row->latency, (size_t)row->n_samples, sizeof(double), compare);
    int n = row->n_samples;
    printf("%-30s %8.0f %8.0f %8.2f %8.2f %8.2f", row->name, row->rate[0][ROUNDS / 2],
           row->rate[1][ROUNDS / 2], n ? row->latency[0] : 0, n ? row->latency[n / 2] : 0,
           n ? row->latency[n * 99 / 100] : 0);
    if (wrapped->works)
        printf(" %8.1f", best_rate(row) / best_rate(wrapped));
    printf("\n");
}

static void bench(double seconds)
{
    int n_cores = cores_usable();
    int n_threads = 2 * n_cores > THREADS_MAX ? THREADS_MAX / 2 : n_cores;

    for (size_t i = 0; i < N_ROWS; i++)
        if (prepare_row(&rows[i]) < 0)
            fprintf(stderr, "%s: %s\n", rows[i].name, status_reason());
    if (rows[2].program && write_program(rows[2].program) < 0)
        fprintf(stderr, "%s\n", status_reason());
    for (size_t i = 0; i < N_ROWS; i++)
        rows[i].works = (!rows[i].level || rows[i].program) && run_row(&rows[i]) == 0;
    for (int round = 0; round < ROUNDS; round++)
        for (size_t i = 0; i < N_ROWS; i++) {
            if (!rows[i].works)
                continue;
            for (int load = 0; load < N_LOADS; load++)
                rows[i].rate[load][round] =
                    measure_rate(&rows[i], (load + 1) * n_threads, seconds / ROUNDS / N_LOADS);
            measure_latency(&rows[i], seconds / ROUNDS / 4);
        }
    printf("runs/s with %d and with %d at once: medians of %d rounds\n", n_threads, 2 * n_threads,
           ROUNDS);
    printf("%-30s %8s %8s %8s %8s %8s %8s\n", "", "runs/s", "runs/s", "min ms", "p50 ms", "p99 ms",
           "x bwrap");
    for (size_t i = 0; i < N_ROWS; i++)
        for (int load = 0; load < N_LOADS; load++)
            qsort(rows[i].rate[load], ROUNDS, sizeof(double), compare);
    print_row(&rows[1], &rows[1]);
    for (size_t i = 0; i < N_ROWS; i++)
        if (i != 1)
            print_row(&rows[i], &rows[1]);
    for (size_t i = 0; i < N_ROWS; i++) {
        sandbox_program_release(&rows[i].program);
        sandbox_destroy(&rows[i].sandbox);
    }
    unlink(program_path);
}

/* What the machine has of what a run could leave. */
struct census {
    long processes, descriptors, mounts, groups, free_kib, tmp_entries;
};

static long count_entries(const char *path, const char *part)
{
    DIR *directory = opendir(path);
    struct dirent *entry;
    long n = 0;

    while (directory && (entry = readdir(directory)))
        n += strstr(entry->d_name, part) != NULL;
    if (directory)
        closedir(directory);
    return n;
}

/* The broker and all below it; other sandboxes on this machine are none of ours. */
static int family[64], n_family;

static void find_family(int parent)
{
    DIR *directory = opendir("/proc");
    struct dirent *entry;

    if (n_family < 64)
        family[n_family++] = parent;
    while (directory && (entry = readdir(directory))) {
        char path[300], line[512], state;
        int above;
        snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
        FILE *file = fopen(path, "r");
        if (!file)
            continue;
        const char *shut = fgets(line, sizeof(line), file) ? strrchr(line, ')') : NULL;
        fclose(file);
        if (shut && sscanf(shut + 1, " %c %d", &state, &above) == 2 && above == parent)
            find_family((int)strtol(line, NULL, 10));
    }
    if (directory)
        closedir(directory);
}

static long count_processes(void)
{
    long n = 0;

    for (int i = 0; i < n_family; i++)
        n += kill(family[i], 0) == 0;
    return n;
}

/* Groups and directories carry the process id of whoever made them. */
static long count_named(const char *path)
{
    long n = 0;

    for (int i = 0; i < n_family; i++) {
        char part[32];
        snprintf(part, sizeof(part), "-%d-", family[i]);
        n += count_entries(path, part);
    }
    return n;
}

static long count_groups(void)
{
    static struct group_bases bases;

    group_find_bases(&bases);
    return (bases.memory[0] ? count_named(bases.memory) : 0) +
           (bases.pids[0] ? count_named(bases.pids) : 0) +
           (bases.core[0] ? count_named(bases.core) : 0);
}

static long count_lines(const char *path)
{
    FILE *file = fopen(path, "r");
    long n = 0;
    int c;

    while (file && (c = getc(file)) != EOF)
        n += c == '\n';
    if (file)
        fclose(file);
    return n;
}

static void take_census(struct census *census)
{
    census->processes = count_processes();
    census->descriptors = count_entries("/proc/self/fd", "");
    census->mounts = count_lines("/proc/self/mountinfo");
    census->groups = count_groups();
    census->tmp_entries = count_named("/tmp");
    struct text info = {0};
    const char *free_line = NULL;
    if (file_read("/proc/meminfo", 1 << 16, &info) == 0)
        free_line = strstr(info.data, "MemAvailable:");
    census->free_kib = free_line ? strtol(free_line + 13, NULL, 10) : 0;
    text_release(&info);
}

static int census_runs(long n_runs)
{
    struct row row = {.name = "empty", .level = 3};
    struct census before, after;
    long bad = 0;

    take_census(&before);
    if (prepare_row(&row) < 0) {
        fprintf(stderr, "%s\n", status_reason());
        return 1;
    }
    for (long i = 0; i < n_runs; i++) {
        bad += run_row(&row) != 0;
        if ((i + 1) % 10000 == 0)
            fprintf(stderr, "%ld runs, %ld failed\n", i + 1, bad);
    }
    sandbox_program_release(&row.program);
    find_family(client_hello(row.sandbox->client)->pid);
    printf("while it lives: %ld processes, %ld groups, %ld in /tmp\n", count_processes(),
           count_groups(), count_named("/tmp"));
    sandbox_destroy(&row.sandbox);
    for (int i = 0; i < 100; i++) {   /* a process that has ended stays in /proc for a moment */
        take_census(&after);
        if (after.processes <= before.processes)
            break;
        nanosleep(&(struct timespec){0, 20000000}, NULL);
    }
    printf("%ld runs, %ld failed\n%-12s %10s %10s\n", n_runs, bad, "", "before", "after");
    printf("%-12s %10ld %10ld\n", "processes", before.processes, after.processes);
    printf("%-12s %10ld %10ld\n", "descriptors", before.descriptors, after.descriptors);
    printf("%-12s %10ld %10ld\n", "mounts", before.mounts, after.mounts);
    printf("%-12s %10ld %10ld\n", "groups", before.groups, after.groups);
    printf("%-12s %10ld %10ld\n", "in /tmp", before.tmp_entries, after.tmp_entries);
    printf("%-12s %10ld %10ld\n", "free KiB", before.free_kib, after.free_kib);
    return bad || after.processes > before.processes || after.descriptors != before.descriptors ||
           after.mounts != before.mounts || after.groups > before.groups ||
           after.tmp_entries > before.tmp_entries;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "census") == 0)
        return census_runs(argc > 2 ? strtol(argv[2], NULL, 10) : 100000);
    bench(argc > 1 ? strtod(argv[1], NULL) : 5);
    return 0;
}
