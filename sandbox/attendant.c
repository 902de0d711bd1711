/*
 * An attendant: a process of the broker that serves one caller's channel, one request at a time,
 * with cells of its own. What goes wrong here goes wrong for one run.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/files.h"
#include "common/status.h"
#include "sandbox/internal.h"

#define CELL_RUNS_MAX 10000   /* then it is made anew: whatever grew is gone */
#define PIPE_BYTES (64 << 10)

enum pipe_name { PIPE_OUTPUT, PIPE_ERRORS, PIPE_ANSWER, N_PIPES };

static void close_end(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void close_pipes(int pipes[N_PIPES][2])
{
    for (int i = 0; i < N_PIPES; i++)
        for (int end = 0; end < 2; end++)
            close_end(&pipes[i][end]);
}

static int open_pipes(int pipes[N_PIPES][2], const struct box_plan *plan)
{
    if (plan->fault == 1 + LAUNCH_PIPES)
        return status_fail(STATUS_IO, "sandbox: failure %d was asked for", LAUNCH_PIPES);
    for (int i = 0; i < N_PIPES; i++) {
        if (i == PIPE_ANSWER && plan->answer_bytes == 0)
            continue;
        if (pipe2(pipes[i], O_CLOEXEC) < 0) {
            pipes[i][0] = pipes[i][1] = -1;
            return status_fail(STATUS_IO, "sandbox: pipe: %s: raise the descriptor limit",
                               strerror(errno));
        }
        if (fcntl(pipes[i][0], F_SETFL, O_NONBLOCK) < 0)
            return status_fail(STATUS_IO, "sandbox: fcntl: %s", strerror(errno));
    }
    return 0;
}

/* A cell that stands, the one of before or a new one. */
static int get_cell(struct attendant *attendant, const struct box_plan *plan, struct cell **out)
{
    struct cell *cell = &attendant->cells[plan->kind];

    /* Level 1 has no mount that could go with the compilation: its directory goes with the cell. */
    int used_up = cell->scratch[0] != '\0' && cell->n_runs > 0;
    if (cell->pid > 0 && (cell->n_runs >= CELL_RUNS_MAX || used_up || plan->fault))
        cell_stop(cell);
    if (cell->pid == 0)
        TRY(cell_start(cell, attendant->host, plan->kind, plan->fault));
    cell->n_runs++;
    *out = cell;
    return 0;
}

static int send_plan(struct cell *cell, const struct box_plan *wanted, const int *fd,
                     int pipes[N_PIPES][2])
{
    struct box_plan sent = *wanted, *plan = &sent;
    int fds[BOX_N_DESCRIPTORS], n = 0;
    const int all[BOX_N_DESCRIPTORS] = {
        [BOX_STDIN] = fd[BOX_STDIN],     [BOX_STDOUT] = pipes[PIPE_OUTPUT][1],
        [BOX_STDERR] = pipes[PIPE_ERRORS][1], [BOX_ANSWER] = pipes[PIPE_ANSWER][1],
        [BOX_SCRIPT] = fd[BOX_SCRIPT],   [BOX_PROGRAM] = fd[BOX_PROGRAM]};

    plan->descriptors = 0;
    plan->processes += cell->n_others;
    for (int i = 0; i < BOX_N_DESCRIPTORS; i++)
        if (all[i] >= 0) {
            plan->descriptors |= 1u << i;
            fds[n++] = all[i];
        }
    return rights_send(cell->socket, plan, sizeof(*plan), NULL, 0, fds, n);
}

/* A cell that died since its last run is no reason to fail this one. */
static int begin(struct attendant *attendant, struct box_plan *plan, const int *fd,
                 int pipes[N_PIPES][2], struct cell **cell)
{
    TRY(open_pipes(pipes, plan));
    for (int attempt = 0;; attempt++) {
        TRY(get_cell(attendant, plan, cell));
        TRY(group_begin(&(*cell)->group, plan));
        if (send_plan(*cell, plan, fd, pipes) == 0)
            break;
        int error = errno;
        cell_stop(*cell);
        if (attempt > 0)
            return status_fail(STATUS_FAILED, "sandbox: a cell takes no run: %s", strerror(error));
    }
    for (int i = 0; i < N_PIPES; i++)
        close_end(&pipes[i][1]);
    return 0;
}

/* Without a memory group the kernel does not say why an allocation failed. A program that ended
 * badly close to its limit is taken to have ended for that. */
static int ran_out_of_memory(const struct box_plan *plan, const struct box_watch *watch)
{
    if (group_oom_kills(&watch->cell->group) > 0)
        return 1;
    return plan->limit_address_space && watch->ended && watch->end.wait_status != 0 &&
           watch->end.peak_bytes >= plan->memory_bytes / 8 * 7;
}

static void judge_end(const struct box_plan *plan, const struct box_watch *watch,
                      struct sandbox_result *result)
{
    int status = watch->end.wait_status;
    int64_t peak = group_peak_bytes(&watch->cell->group);
    int64_t cpu_us = watch->end.cpu_us;

    if (watch->check_cpu && group_cpu_us(&watch->cell->group) > cpu_us)
        cpu_us = group_cpu_us(&watch->cell->group);
    result->cpu_ms = cpu_us / 1000;
    result->peak_bytes = peak ? peak : watch->end.peak_bytes;
    result->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    result->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
    if (result->signal == SIGSYS)
        result->verdict = SANDBOX_VIOLATION;
    else if (watch->latched == SANDBOX_OUTPUT_LIMIT)
        result->verdict = SANDBOX_OUTPUT_LIMIT;
    else if (ran_out_of_memory(plan, watch))
        result->verdict = SANDBOX_MEMORY_LIMIT;
    else if (watch->latched != SANDBOX_EXITED)
        result->verdict = watch->latched;
    else if (result->cpu_ms > plan->cpu_ms)
        result->verdict = SANDBOX_CPU_LIMIT;
    else
        result->verdict = result->signal ? SANDBOX_SIGNALED : SANDBOX_EXITED;
}

/* Why execveat() refused: bytes that are no program, or an interpreter that is not there, against
 * a shortage of the host's. */
static int is_fault_of_program(int error)
{
    return error != ENOMEM && error != EAGAIN && error != EMFILE && error != ENFILE &&
           error != EBADF && error != EFAULT && error != ENOSYS && error != EPERM && error != EIO;
}

/* 0 when the box is to be believed. */
static int check_reports(const struct box_plan *plan, const struct box_watch *watch,
                         struct box_outcome *outcome)
{
    if (watch->caller_gone)
        return status_fail(STATUS_CLOSED, "sandbox: the caller went away");
    if (watch->failure.kind && watch->failure.step == BOX_STEP_EXEC &&
        plan->kind == CELL_NATIVE && is_fault_of_program(watch->failure.error)) {
        outcome->exec_error = watch->failure.error;
        return 0;
    }
    if (watch->failure.kind)
        return box_fail_step(&watch->failure);
    if (watch->dead && watch->latched == SANDBOX_EXITED &&
        group_oom_kills(&watch->cell->group) == 0)
        return status_fail(STATUS_FAILED, "sandbox: a cell died of something outside it: look for "
                                          "the kernel's out-of-memory messages");
    return 0;
}

int box_execute(struct attendant *attendant, struct box_plan *plan, const int *fd,
                struct box_outcome *outcome)
{
    int pipes[N_PIPES][2] = {{-1, -1}, {-1, -1}, {-1, -1}};
    struct box_watch watch = {.latched = SANDBOX_EXITED,
                              .channel = attendant->channel,
                              .output_bytes = plan->output_bytes,
                              .cpu_limit_us = plan->cpu_ms * 1000};

    memset(outcome, 0, sizeof(*outcome));
    outcome->result.output.maximum = (size_t)plan->output_bytes;
    outcome->result.errors.maximum = BOX_ERRORS_BYTES;
    outcome->result.answer.maximum = (size_t)plan->answer_bytes;
    plan->limit_address_space = attendant->host->groups.version == 0;
    int status = begin(attendant, plan, fd, pipes, &watch.cell);
    int64_t began_ms = clock_ms();
    if (status >= 0) {
        watch.output_fd = pipes[PIPE_OUTPUT][0];
        watch.errors_fd = pipes[PIPE_ERRORS][0];
        watch.answer_fd = pipes[PIPE_ANSWER][0];
        watch.wall_ms = plan->wall_ms;
        watch.deadline_ms = began_ms + plan->wall_ms;
        watch.check_cpu = plan->kind == CELL_COMPILE && group_cpu_us(&watch.cell->group) >= 0;
        status = box_watch(&watch, &outcome->result);
        pipes[PIPE_OUTPUT][0] = watch.output_fd;
        pipes[PIPE_ERRORS][0] = watch.errors_fd;
        pipes[PIPE_ANSWER][0] = watch.answer_fd;
        outcome->knows_stall = group_knows_stall(&watch.cell->group);
    }
    if (status >= 0)
        status = check_reports(plan, &watch, outcome);
    if (status >= 0) {
        outcome->result.wall_ms = clock_ms() - began_ms;
        outcome->has_result = watch.end.has_result;
        judge_end(plan, &watch, &outcome->result);
    }
    close_pipes(pipes);
    if (watch.cell && (status < 0 || watch.dead || plan->fault))
        cell_stop(watch.cell);
    if (status < 0)
        sandbox_result_release(&outcome->result);
    return status;
}

void attendant_release(struct attendant *attendant)
{
    for (int i = 0; i < N_CELLS; i++)
        if (attendant->cells[i].pid > 0)
            cell_stop(&attendant->cells[i]);
}
