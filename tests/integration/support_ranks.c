#include "tests/integration/support_ranks.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <math.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ranks/ranks.h"

#define MPIRUN "/usr/bin/mpirun"

int find_mpi(void)
{
    char what[256];
    int is_there = ranks_find_mpi(what, sizeof(what));

    if (is_there && access(MPIRUN, X_OK))
        snprintf(what, sizeof(what), "there is no %s", MPIRUN);
    else if (is_there)
        return 1;
    print_message("skipped: no MPI here: %s\n", what);
    return 0;
}

void start_ranks(struct program *program, const struct place *place, const char *n,
                 const char *hone, const char *const *arguments)
{
    const char *command[64] = {MPIRUN, "--allow-run-as-root", "--oversubscribe", "--bind-to",
                               "none", "--mca", "btl", "self,vader", "--mca", "oob_tcp_if_include",
                               "lo", "-n", n};
    size_t n_words = 13;

    command[n_words++] = built(hone);
    for (size_t i = 0; arguments[i]; i++) {
        assert_true(n_words + 1 < sizeof(command) / sizeof(command[0]));
        command[n_words++] = arguments[i];
    }
    start_command(program, place, command);
}

/* ---- Over ZeroMQ. */

/* One that nobody has; it is given back before rank 0 takes it. */
static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&address, n), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &n), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static void set_number(const char *name, int value)
{
    char text[16];

    snprintf(text, sizeof(text), "%d", value);
    setenv(name, text, 1);
}

void start_rank(struct job *job, const struct place *place, const char *hone, int rank,
                const char *const *arguments)
{
    const char *command[64] = {built(hone)};

    for (size_t i = 0; arguments[i]; i++) {
        assert_true(i + 2 < sizeof(command) / sizeof(command[0]));
        command[i + 1] = arguments[i];
    }
    set_number("RANK", rank);
    set_number("WORLD_SIZE", job->n);
    start_command(&job->ranks[rank], place, command);
    unsetenv("RANK");
    unsetenv("WORLD_SIZE");
}

void start_job(struct job *job, const struct place *place, const char *over, int n,
               const char *hone, const char *const *arguments)
{
    job->n = n;
    if (strcmp(over, "tcp") == 0) {
        setenv("MASTER_ADDR", "127.0.0.1", 1);
        set_number("MASTER_PORT", free_port());
    }
    for (int r = n - 1; r >= 0; r--)
        start_rank(job, place, hone, r, arguments);
    unsetenv("MASTER_ADDR");
    unsetenv("MASTER_PORT");
}

void assert_job_ends(struct job *job, int code, const char *part)
{
    assert_ends(&job->ranks[0], code, part);
    for (int r = 1; r < job->n; r++) {
        int ended = wait_for_exit(&job->ranks[r]);
        if ((ended == 0) == (code == 0 || code == 3))
            continue;
        show_output(&job->ranks[r]);
        fail_msg("rank %d ends with %d, rank 0 with %d", r, ended, code);
    }
}

/* ---- What they make. */

static void read_newest(const struct place *place, const char *run, const char *stage,
                        struct text *out)
{
    char sql[256];

    snprintf(sql, sizeof(sql), "SELECT path FROM checkpoint c JOIN stage s ON s.id = c.stage_id "
             "WHERE s.name = '%s' ORDER BY c.step DESC LIMIT 1", stage);
    char *path = ask(place, run, sql);
    path[strcspn(path, "\n")] = '\0';
    assert_int_equal(file_read(in_place(place, "%s/%s/model.safetensors", run, path),
                               (size_t)1 << 30, out), STATUS_OK);
    mem_free(path);
}

/* The files have equal headers, and then float32 alone. */
void assert_close(const struct place *place, const char *run, const char *other, const char *stage,
                  double tolerance)
{
    struct text one = {0}, two = {0};
    uint64_t n_header;
    float largest = 0;

    read_newest(place, run, stage, &one);
    read_newest(place, other, stage, &two);
    assert_int_equal(one.length, two.length);
    memcpy(&n_header, one.data, sizeof(n_header));
    assert_memory_equal(one.data, two.data, n_header + 8);
    for (size_t at = n_header + 8; at < one.length; at += sizeof(float)) {
        float x, y;
        memcpy(&x, one.data + at, sizeof(x));
        memcpy(&y, two.data + at, sizeof(y));
        largest = fmaxf(largest, fabsf(x - y));
    }
    if (!((double)largest <= tolerance))
        fail_msg("weights of stage %s of %s and %s differ by %g", stage, run, other,
                 (double)largest);
    text_release(&one);
    text_release(&two);
}

static int is_rank(pid_t pid, const char *rank)
{
    char path[64], text[65536], variable[64];

    snprintf(variable, sizeof(variable), "OMPI_COMM_WORLD_RANK=%s", rank);
    snprintf(path, sizeof(path), "/proc/%ld/environ", (long)pid);
    FILE *file = fopen(path, "r");
    size_t n = file ? fread(text, 1, sizeof(text) - 1, file) : 0;
    text[n] = '\0';
    int is_it = 0;
    for (size_t i = 0; i < n; i += strlen(text + i) + 1)
        is_it |= strcmp(text + i, variable) == 0;
    if (file)
        fclose(file);
    return is_it;
}

/* Workers have the environment of rank 0, but are children of it. */
pid_t find_rank(const struct place *place, const char *rank)
{
    DIR *directory = opendir("/proc");
    struct dirent *entry;
    pid_t found = 0;

    assert_non_null(directory);
    while ((entry = readdir(directory)) && !found) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        char link[64], cwd[256] = "";
        snprintf(link, sizeof(link), "/proc/%ld/cwd", (long)pid);
        if (pid > 0 && readlink(link, cwd, sizeof(cwd) - 1) > 0 &&
            strcmp(cwd, place->directory) == 0 && is_rank(pid, rank))
            found = pid;
    }
    closedir(directory);
    return found;
}
