/*
 * What an attendant does with a request: a plan from it, the run, a second one alone where the
 * first cannot be believed, and one answer.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/status.h"
#include "sandbox/internal.h"

#define COMPILE_PROCESSES 16
#define COMPILE_WALL 3      /* times its CPU time: other work may be waiting too */
#define ANSWER_FDS 2


static void plan_run(struct box_plan *plan, const struct attendant *attendant,
                     const struct box_request *request)
{
    const struct sandbox_limits *limits = &request->limits;

    plan->kind = request->kind == SANDBOX_NODE     ? CELL_NODE
                 : request->kind == SANDBOX_NATIVE ? CELL_NATIVE
                 : attendant->host->config.python_server ? CELL_PYTHON_SERVER
                                                         : CELL_PYTHON;
    plan->cpu_ms = limits->cpu_ms;
    plan->wall_ms = limits->wall_ms;
    plan->memory_bytes = limits->memory_bytes;
    plan->output_bytes = limits->output_bytes;
    plan->processes = limits->processes;
    plan->scratch_bytes = limits->scratch_bytes;
    plan->answer_bytes = limits->answer_bytes;
}

static void plan_compilation(struct box_plan *plan, const struct box_request *request)
{
    plan->kind = CELL_COMPILE;
    plan->cpu_ms = request->limits.cpu_ms;
    plan->wall_ms = COMPILE_WALL * request->limits.cpu_ms;
    plan->memory_bytes = BOX_COMPILE_MEMORY;
    plan->output_bytes = BOX_ERRORS_BYTES;
    plan->processes = COMPILE_PROCESSES;
    plan->scratch_bytes = BOX_FILE_BYTES;
}

/* A run that met its wall limit on a host that cannot say whether it waited for a core, or its CPU
 * limit by the length of one look at the clock, is repeated with no other run beside it. A program
 * that made its own queue long only waits for a second verdict: that one counts. */
static int deserves_second_run(const struct box_plan *plan, const struct box_outcome *outcome)
{
    const struct sandbox_result *result = &outcome->result;

    if (result->verdict == SANDBOX_WALL_LIMIT)
        return !outcome->knows_stall;
    return result->verdict == SANDBOX_CPU_LIMIT && plan->kind != CELL_COMPILE &&
           result->signal == 0;
}

/* What the first run read is read, and the file for a result may have bytes. */
static int rewind_files(const struct box_plan *plan, const int *fd)
{
    if (plan->kind == CELL_COMPILE && ftruncate(fd[BOX_SCRIPT], 0) < 0)
        return status_fail(STATUS_IO, "sandbox: ftruncate: %s", strerror(errno));
    for (int i = 0; i < BOX_N_DESCRIPTORS; i++)
        if (fd[i] >= 0 && lseek(fd[i], 0, SEEK_SET) < 0)
            return status_fail(STATUS_IO, "sandbox: lseek: %s", strerror(errno));
    return 0;
}

static int run_with_turns(struct attendant *attendant, struct box_plan *plan, const int *fd,
                          struct box_outcome *outcome)
{
    turn_take(attendant->host->turns, 0);
    int status = box_execute(attendant, plan, fd, outcome);
    turn_give(attendant->host->turns);
    if (status < 0 || !deserves_second_run(plan, outcome))
        return status;
    sandbox_result_release(&outcome->result);
    TRY(rewind_files(plan, fd));
    turn_take(attendant->host->turns, 1);
    status = box_execute(attendant, plan, fd, outcome);
    turn_give(attendant->host->turns);
    return status;
}

static int check_compilation(const struct box_plan *plan, const struct box_outcome *outcome)
{
    const struct sandbox_result *result = &outcome->result;

    if (result->verdict == SANDBOX_WALL_LIMIT && result->cpu_ms < plan->cpu_ms)
        /* No source makes a compiler sleep: the machine had no time for it. */
        return status_fail(STATUS_TIMEOUT,
                           "sandbox: a compilation got %lld ms of CPU in %lld ms: raise "
                           "sandbox.compile_ms or run fewer at once",
                           (long long)result->cpu_ms, (long long)plan->wall_ms);
    return 0;
}

/* A program's output has no place in the memory of the cell that is forked next. */
static void forget(struct text *text)
{
    if (text->data)
        explicit_bzero(text->data, text->capacity);
    text_release(text);
}

static int send_answer(int channel, struct box_answer *answer, const struct sandbox_result *result,
                       int program_fd)
{
    struct text bytes = {0};
    int fds[ANSWER_FDS], n = 0, memory = -1;

    answer->n_output = result->output.length;
    answer->n_errors = result->errors.length;
    answer->n_answer = result->answer.length;
    bytes.maximum = result->output.length + result->errors.length + result->answer.length + 1;
    text_append(&bytes, result->output.data ? result->output.data : "", result->output.length);
    text_append(&bytes, result->errors.data ? result->errors.data : "", result->errors.length);
    text_append(&bytes, result->answer.data ? result->answer.data : "", result->answer.length);
    if (answer->has_result)
        fds[n++] = program_fd;
    int status = 0;
    if (bytes.length > BOX_INLINE_BYTES) {
        status = memfd_make(&memory, "output");
        if (status >= 0)
            status = memfd_fill(memory, bytes.data, bytes.length);
        fds[n++] = memory;
    }
    if (status >= 0 && rights_send(channel, answer, sizeof(*answer), bytes.data,
                                   memory >= 0 ? 0 : bytes.length, fds, n) < 0)
        status = STATUS_CLOSED;
    if (memory >= 0)
        close(memory);
    forget(&bytes);
    return status;
}

static int serve_one(struct attendant *attendant, const struct box_request *request, int *fd)
{
    struct box_plan plan = {.fault = request->fault};
    struct box_outcome outcome = {.result = {.verdict = SANDBOX_EXITED}};
    struct box_answer answer = {.magic = BOX_MAGIC};
    int status = 0;

    if (request->request == BOX_REQUEST_COMPILE) {
        plan_compilation(&plan, request);
        status = memfd_make(&fd[BOX_SCRIPT], "program");
    } else
        plan_run(&plan, attendant, request);
    if (status >= 0 && request->request == BOX_REQUEST_COMPILE && request->precompiled)
        precompiled_need(attendant, fd[BOX_STDIN]);
    if (status >= 0)
        status = run_with_turns(attendant, &plan, fd, &outcome);
    if (status >= 0 && request->request == BOX_REQUEST_COMPILE) {
        answer.has_result =
            outcome.has_result && outcome.result.verdict == SANDBOX_EXITED &&
            memfd_seal(fd[BOX_SCRIPT]) >= 0;
        status = check_compilation(&plan, &outcome);
    }
    if (status < 0)
        snprintf(answer.reason, sizeof(answer.reason), "%s", status_reason());
    answer.status = status;
    answer.verdict = (int32_t)outcome.result.verdict;
    answer.exit_code = outcome.result.exit_code;
    answer.signal = outcome.result.signal;
    answer.exec_error = outcome.exec_error;
    answer.cpu_ms = outcome.result.cpu_ms;
    answer.wall_ms = outcome.result.wall_ms;
    answer.peak_bytes = outcome.result.peak_bytes;
    status = send_answer(attendant->channel, &answer, &outcome.result, fd[BOX_SCRIPT]);
    forget(&outcome.result.output);
    forget(&outcome.result.errors);
    forget(&outcome.result.answer);
    return status;
}

/* The descriptors of a request: input, then what is executed or read as a script. */
static int accept_request(const struct box_request *request, ssize_t n, const int *received,
                          int n_received, int *fd)
{
    for (int i = 0; i < BOX_N_DESCRIPTORS; i++)
        fd[i] = -1;
    if (n != (ssize_t)sizeof(*request) || request->magic != BOX_MAGIC ||
        request->kind < SANDBOX_NATIVE || request->kind > SANDBOX_NODE)
        return -1;
    if (n_received != (request->request == BOX_REQUEST_COMPILE ? 1 : 2))
        return -1;
    fd[BOX_STDIN] = received[0];
    if (n_received == 2)
        fd[request->kind == SANDBOX_NATIVE ? BOX_PROGRAM : BOX_SCRIPT] = received[1];
    return 0;
}

void attendant_serve(const struct box_host *host, int channel)
{
    struct box_host own = *host;
    struct attendant attendant = {.host = &own, .channel = channel};
    struct box_request request;

    prctl(PR_SET_NAME, "hone-attendant", 0, 0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (turn_open(own.turns, host->turns) < 0)
        own.turns[0] = own.turns[1] = -1;
    for (;;) {
        int received[BOX_RIGHTS_MAX], n_received = BOX_RIGHTS_MAX, fd[BOX_N_DESCRIPTORS];
        ssize_t n = rights_receive(channel, &request, sizeof(request), received, &n_received);
        if (n <= 0)
            break;
        int good = accept_request(&request, n, received, n_received, fd) == 0;
        if (good && serve_one(&attendant, &request, fd) < 0)
            good = 0;
        if (request.request == BOX_REQUEST_COMPILE && good && fd[BOX_SCRIPT] >= 0)
            close(fd[BOX_SCRIPT]);
        while (n_received > 0)
            close(received[--n_received]);
        if (!good)
            break;
    }
    attendant_release(&attendant);
    _exit(0);
}
