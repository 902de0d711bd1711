/*
 * The child's side: it loads the plugin, so that nothing of a plugin ever runs in the reward
 * process itself.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/log.h"
#include "common/status.h"
#include "reward/command.h"
#include "reward/isolate.h"

struct child {
    int fd;
    const struct isolate_source *source;
    const struct sandbox_config *sandbox;
    struct reward_host *host;          /* made for the first run() of the plugin */
    struct verifier_host face;
    const struct verifier_v1 *verifier;
    void *state;
    struct command *command;           /* of an executable; then there is no verifier */
};

/* SIGSEGV and its like must end the process, whatever the parent had installed. */
static void restore_signals(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS,  SIGFPE,  SIGILL,  SIGABRT, SIGTRAP, SIGSYS,
                                  SIGTERM, SIGHUP,  SIGINT,  SIGCHLD, SIGALRM, SIGPIPE};
    sigset_t none;

    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        signal(signals[i], SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void enter(struct child *child, int fd, pid_t parent)
{
    struct rlimit none = {0, 0};

    setpgid(0, 0);   /* its own group: the keyboard does not reach it, and a kill takes all of it */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    restore_signals();
    setrlimit(RLIMIT_CORE, &none);
    int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (nowhere < 0 || dup2(nowhere, 0) < 0 || dup2(2, 1) < 0)
        _exit(1);
    child->fd = 3;
    if (fd != 3 && dup2(fd, 3) < 0)
        _exit(1);
    fcntl(3, F_SETFD, FD_CLOEXEC);
    close_range(4, ~0U, 0);
}

static void write_log(void *context, uint32_t level, const char *message)
{
    struct child *child = context;

    log_write(level > LOG_DEBUG ? LOG_DEBUG : (enum log_level)level, "%s: %s",
              child->verifier->name, message);
}

static int32_t run_program(void *context, struct verifier_run *run)
{
    struct child *child = context;

    if (!child->host)
        child->host = host_create(child->sandbox);
    const struct verifier_host *face = host_face(child->host);
    return face->run(face->context, run);
}

static void reply_status(struct child *child, uint32_t kind, int status, const void *more, size_t n)
{
    struct text reply = {0};
    int32_t number = status;

    text_append(&reply, &number, sizeof(number));
    if (status < 0)
        text_append(&reply, status_reason(), strlen(status_reason()));
    else
        text_append(&reply, more, n);
    if (frame_send(child->fd, kind, &reply, 0) < 0)
        _exit(1);
    text_release(&reply);
}

static void load(struct child *child)
{
    const struct isolate_source *source = child->source;
    struct isolate_description description = {0};
    int status = source->name ? command_open(&child->command, source->name, source->path,
                                             source->options, &description)
                              : plugin_open(source->path, &child->verifier);

    if (child->verifier) {
        const struct verifier_v1 *verifier = child->verifier;
        description.flags = verifier->flags;
        snprintf(description.name, sizeof(description.name), "%s", verifier->name);
        snprintf(description.version, sizeof(description.version), "%s",
                 verifier->version ? verifier->version : "");
        snprintf(description.help, sizeof(description.help), "%s",
                 verifier->help ? verifier->help : "");
    }
    reply_status(child, ISOLATE_LOAD, status, &description, sizeof(description));
}

static void create(struct child *child, const struct text *options)
{
    struct verifier_text lines = {options->data ? options->data : "", options->length};
    /* An executable has got its options with the greeting. */
    int status =
        child->verifier ? child->verifier->create(&child->face, lines, &child->state) : STATUS_OK;

    if (status < 0)
        status =
            status_fail(STATUS_CONFIG, "plugin %s: verifier %s refuses its options \"%.*s\" (%d)",
                        child->source->path, child->verifier->name, (int)lines.length, lines.data,
                        status);
    reply_status(child, ISOLATE_CREATE, status, NULL, 0);
}

/* 1 when the child cannot go on. */
static int ask_verifier(struct child *child, const struct verifier_task *task,
                        struct verifier_verdict *verdict)
{
    if (child->command)
        return command_score(child->command, task, verdict) < 0;
    int32_t failed = child->verifier->score(child->state, task, verdict);
    if (failed < 0) {
        verdict->outcome = VERIFIER_ERROR;
        verdict->score = 0;
        snprintf(verdict->detail, sizeof(verdict->detail), "verifier %s failed (%d)",
                 child->verifier->name, (int)failed);
    }
    return 0;
}

static void score(struct child *child, const struct text *request)
{
    struct verifier_verdict verdict = {.size = sizeof(verdict), .outcome = VERIFIER_ERROR};
    struct verifier_task task;

    if (frame_read_task(request, &task) < 0)
        _exit(1);
    int is_lost = ask_verifier(child, &task, &verdict);
    struct text reply = {0};
    text_append(&reply, &verdict, sizeof(verdict));
    if (is_lost)
        text_append(&reply, "", 1);
    if (frame_send(child->fd, ISOLATE_SCORE, &reply, 0) < 0)
        _exit(1);
    text_release(&reply);
}

void isolate_child_main(int fd, pid_t parent, const struct isolate_source *source,
                        const struct sandbox_config *sandbox)
{
    struct child child = {.source = source, .sandbox = sandbox};
    struct text request = {0};
    uint32_t kind = 0;

    enter(&child, fd, parent);
    child.face = (struct verifier_host){.size = sizeof(child.face), .context = &child,
                                        .log = write_log, .run = run_program};
    /* The parent gone is the ordinary end. */
    while (frame_receive_any(child.fd, &kind, &request, 0) == STATUS_OK) {
        if (kind == ISOLATE_LOAD)
            load(&child);
        else if (kind == ISOLATE_CREATE && (child.verifier || child.command))
            create(&child, &request);
        else if (kind == ISOLATE_SCORE && (child.verifier || child.command))
            score(&child, &request);
        else
            _exit(1);
    }
    _exit(0);
}
