#include "pipeline/workers.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/files.h"
#include "common/log.h"
#include "common/memory.h"
#include "common/status.h"

#define MAX_WORKERS 256
#define MAX_FAST_DEATHS 5
#define FAST_DEATH_MS 2000
#define GRACE_MS 1000

extern char **environ;

struct worker {
    enum worker_role role;
    char name[WIRE_NAME_BYTES];
    pid_t pid;              /* 0: not running */
    int64_t started_ms;
    int fast_deaths;        /* one after another */
};

struct workers {
    struct worker_command command;
    struct worker list[MAX_WORKERS];
    int n;
};

const char *worker_role_name(enum worker_role role)
{
    return role == WORKER_ROLLOUT ? "rollout" : "reward";
}

int workers_create(struct workers **out, const struct worker_command *command)
{
    struct workers *workers = mem_alloc(1, sizeof(*workers));

    workers->command.program = mem_copy_text(command->program);
    workers->command.endpoint = mem_copy_text(command->endpoint);
    workers->command.config = mem_copy_text(command->config);
    workers->command.stage = mem_copy_text(command->stage);
    workers->command.key = mem_copy_text(command->key);
    *out = workers;
    return STATUS_OK;
}

static int start(struct workers *workers, struct worker *worker)
{
    char parent[32];
    posix_spawnattr_t attributes;
    sigset_t none;

    snprintf(parent, sizeof(parent), "%ld", (long)getpid());
    const char *const arguments[] = {
        workers->command.program, "worker", worker_role_name(worker->role), "--connect",
        workers->command.endpoint, "--name", worker->name, "--config", workers->command.config,
        "--stage", workers->command.stage, "--parent", parent,
        workers->command.key[0] ? "--key" : NULL, workers->command.key, NULL};
    posix_spawnattr_init(&attributes);
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes, &none);
    /* A group of its own: Ctrl-C reaches the coordinator alone, which then stops the workers. */
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
    int error = posix_spawn(&worker->pid, workers->command.program, NULL, &attributes,
                            (char *const *)(uintptr_t)arguments, environ);
    posix_spawnattr_destroy(&attributes);
    if (error) {
        worker->pid = 0;
        return status_fail(STATUS_IO, "cannot start worker %s (%s): %s", worker->name,
                           workers->command.program, strerror(error));
    }
    worker->started_ms = clock_ms();
    return STATUS_OK;
}

/* Once: a second signal would end it at once, in the middle of what it puts away. */
static void tell_to_end(const struct worker *worker)
{
    if (worker->pid)
        kill(worker->pid, SIGTERM);
}

static void wait_for_end(struct worker *worker)
{
    int64_t deadline = clock_ms() + GRACE_MS;

    if (!worker->pid)
        return;
    while (waitpid(worker->pid, NULL, WNOHANG) == 0) {
        if (clock_ms() > deadline) {
            kill(worker->pid, SIGKILL);
            waitpid(worker->pid, NULL, 0);
            break;
        }
        usleep(2000);
    }
    worker->pid = 0;
}

void workers_destroy(struct workers **workers)
{
    if (*workers) {
        for (int i = 0; i < (*workers)->n; i++)
            tell_to_end(&(*workers)->list[i]);
        for (int i = 0; i < (*workers)->n; i++)
            wait_for_end(&(*workers)->list[i]);
        mem_free((char *)(uintptr_t)(*workers)->command.program);
        mem_free((char *)(uintptr_t)(*workers)->command.endpoint);
        mem_free((char *)(uintptr_t)(*workers)->command.config);
        mem_free((char *)(uintptr_t)(*workers)->command.stage);
        mem_free((char *)(uintptr_t)(*workers)->command.key);
        mem_free(*workers);
    }
    *workers = NULL;
}

int workers_set_count(struct workers *workers, enum worker_role role, int n)
{
    int have = 0;

    for (int i = 0; i < workers->n; i++) {
        struct worker *worker = &workers->list[i];
        if (worker->role != role)
            continue;
        if (++have > n) {
            tell_to_end(worker);
            wait_for_end(worker);
        } else if (!worker->pid) {
            TRY(start(workers, worker));
        }
    }
    for (; have < n; have++) {
        if (workers->n == MAX_WORKERS)
            return status_fail(STATUS_CONFIG, "more than %d local workers; start further ones with "
                               "`hone worker` on other machines", MAX_WORKERS);
        struct worker *worker = &workers->list[workers->n++];
        worker->role = role;
        snprintf(worker->name, sizeof(worker->name), "%s-%d", worker_role_name(role), have);
        TRY(start(workers, worker));
    }
    return STATUS_OK;
}

static struct worker *find(struct workers *workers, const char *name)
{
    for (int i = 0; i < workers->n; i++)
        if (strcmp(workers->list[i].name, name) == 0)
            return &workers->list[i];
    return NULL;
}

int workers_reap(struct workers *workers, char name[WIRE_NAME_BYTES], char how[64])
{
    for (int i = 0; i < workers->n; i++) {
        struct worker *worker = &workers->list[i];
        int result;
        if (!worker->pid || waitpid(worker->pid, &result, WNOHANG) != worker->pid)
            continue;
        worker->pid = 0;
        int fast = clock_ms() - worker->started_ms < FAST_DEATH_MS;
        worker->fast_deaths = fast ? worker->fast_deaths + 1 : 0;
        snprintf(name, WIRE_NAME_BYTES, "%s", worker->name);
        if (WIFSIGNALED(result))
            snprintf(how, 64, "killed by signal %d (%s)", WTERMSIG(result),
                     strsignal(WTERMSIG(result)));
        else
            snprintf(how, 64, "exited with code %d", WEXITSTATUS(result));
        return 1;
    }
    return 0;
}

int workers_restart(struct workers *workers, const char *name)
{
    struct worker *worker = find(workers, name);

    if (!worker)
        BUG("workers_restart: no worker %s", name);
    if (worker->fast_deaths >= MAX_FAST_DEATHS)
        return status_fail(STATUS_FAILED, "worker %s ended %d times within %d ms of its start; run "
                           "`hone doctor`, and see its lines above", name, MAX_FAST_DEATHS,
                           FAST_DEATH_MS);
    return start(workers, worker);
}

void workers_forgive(struct workers *workers, const char *name)
{
    struct worker *worker = find(workers, name);

    if (worker)
        worker->fast_deaths = 0;
}

int workers_kill(struct workers *workers, const char *name)
{
    struct worker *worker = find(workers, name);

    if (!worker || !worker->pid)
        return 0;
    kill(worker->pid, SIGKILL);
    return 1;
}

int workers_has_ended(struct workers *workers, const char *name)
{
    const struct worker *worker = find(workers, name);

    return worker && !worker->pid;
}
