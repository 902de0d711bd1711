/*
 * The parent's side of a plugin: one child per plugin, one request at a time over a socket pair.
 * isolate_child.c is the other side, isolate_frame.c the frames between.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"
#include "common/status.h"
#include "reward/isolate.h"
#include "reward/options.h"

#define LOAD_MS 10000   /* dlopen and create(): a model may be read there */

struct isolate {
    struct isolate_source source;   /* its texts are ours */
    char name[WIRE_NAME_BYTES];
    char version[ISOLATE_TEXT_BYTES];
    uint32_t flags;
    int timeout_ms;
    int has_sandbox;
    struct sandbox_config sandbox;
    pid_t pid;              /* 0: no child now */
    int fd;
};

/* Kills the child and says how it ended; `fallback` when it had to be killed. */
static void reap(struct isolate *isolate, int timed_out, char *out, size_t n_out)
{
    int ended = 0;

    if (!isolate->pid)
        return;
    /* A child that is on its way out keeps its own reason: SIGKILL comes too late for it. */
    kill(-isolate->pid, SIGKILL);
    kill(isolate->pid, SIGKILL);
    while (waitpid(isolate->pid, &ended, 0) < 0 && errno == EINTR)
        ;
    close(isolate->fd);
    isolate->pid = 0;
    isolate->fd = -1;
    if (timed_out)
        snprintf(out, n_out, "gave no verdict in %d ms", timed_out);
    else if (WIFSIGNALED(ended))
        snprintf(out, n_out, "crashed (signal %d)", WTERMSIG(ended));
    else
        snprintf(out, n_out, "ended by itself (exit code %d)", WEXITSTATUS(ended));
}

static int start_child(struct isolate *isolate)
{
    int fds[2];
    pid_t parent = getpid();

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return status_fail(STATUS_IO, "plugin %s: socketpair: %s", isolate->source.path,
                           strerror(errno));
    pid_t pid = fork();
    if (pid < 0) {
        int error = errno;
        close(fds[0]);
        close(fds[1]);
        return status_fail(STATUS_IO, "plugin %s: fork: %s", isolate->source.path, strerror(error));
    }
    if (pid == 0)
        isolate_child_main(fds[1], parent, &isolate->source,
                           isolate->has_sandbox ? &isolate->sandbox : NULL);
    setpgid(pid, pid);   /* in both processes, so that neither can be late */
    close(fds[1]);
    isolate->pid = pid;
    isolate->fd = fds[0];
    return STATUS_OK;
}

/* One request and its reply within timeout_ms; the child is gone after any failure. */
static int exchange(struct isolate *isolate, uint32_t kind, const struct text *request,
                    struct text *reply, int timeout_ms)
{
    const char *called = isolate->name[0] ? isolate->name : isolate->source.path;
    int64_t deadline = clock_ms() + timeout_ms;
    char how[64];
    int status = frame_send(isolate->fd, kind, request, deadline);

    if (status == STATUS_OK)
        status = frame_receive(isolate->fd, kind, reply, deadline);
    if (status == STATUS_OK)
        return STATUS_OK;
    reap(isolate, status == STATUS_TIMEOUT ? timeout_ms : 0, how, sizeof(how));
    return status_fail(status, "verifier %s %s", called, how);
}

/* A reply that begins with a status; a failure carries its reason behind it. */
static int check_reply(struct isolate *isolate, const struct text *reply)
{
    int32_t status;
    char how[64];

    if (reply->length < sizeof(status)) {
        reap(isolate, 0, how, sizeof(how));
        return status_fail(STATUS_FORMAT, "plugin %s: a reply is cut short", isolate->source.path);
    }
    memcpy(&status, reply->data, sizeof(status));
    if (status >= 0)
        return STATUS_OK;
    int failed = status_fail(status, "%.*s", (int)(reply->length - sizeof(status)),
                             reply->data + sizeof(status));
    reap(isolate, 0, how, sizeof(how));
    return failed;
}

static int load(struct isolate *isolate, struct isolate_description *description)
{
    struct text request = {0}, reply = {0};
    int status = STATUS_OK;

    TRY(start_child(isolate));
    TRY_OUT(exchange(isolate, ISOLATE_LOAD, &request, &reply, LOAD_MS));
    TRY_OUT(check_reply(isolate, &reply));
    if (reply.length != sizeof(int32_t) + sizeof(*description)) {
        status = status_fail(STATUS_FORMAT, "plugin %s: a reply of %zu bytes is malformed",
                             isolate->source.path, reply.length);
        goto out;
    }
    memcpy(description, reply.data + sizeof(int32_t), sizeof(*description));
    description->name[sizeof(description->name) - 1] = '\0';
    description->version[sizeof(description->version) - 1] = '\0';
    description->help[sizeof(description->help) - 1] = '\0';
    memcpy(isolate->name, description->name, sizeof(isolate->name));
    isolate->flags = description->flags;
    options_select(isolate->source.options, isolate->name, &request);
    TRY_OUT(exchange(isolate, ISOLATE_CREATE, &request, &reply, LOAD_MS));
    TRY_OUT(check_reply(isolate, &reply));
out:
    text_release(&request);
    text_release(&reply);
    return status;
}

int isolate_open(struct isolate **out, const struct isolate_source *source, int timeout_ms,
                 const struct sandbox_config *sandbox, struct isolate_description *description)
{
    struct isolate *isolate = mem_alloc(1, sizeof(*isolate));

    isolate->source = (struct isolate_source){.path = mem_copy_text(source->path),
                                              .name = mem_copy_text(source->name),
                                              .options = mem_copy_text(source->options)};
    if (source->name)
        snprintf(isolate->name, sizeof(isolate->name), "%s", source->name);
    isolate->timeout_ms = timeout_ms;
    isolate->fd = -1;
    if (sandbox) {
        isolate->has_sandbox = 1;
        isolate->sandbox = *sandbox;
    }
    int status = load(isolate, description);
    if (status < 0) {
        isolate_close(&isolate);
        return status;
    }
    memcpy(isolate->version, description->version, sizeof(isolate->version));
    *out = isolate;
    return STATUS_OK;
}

void isolate_close(struct isolate **isolate)
{
    char how[64];

    if (!*isolate)
        return;
    reap(*isolate, 0, how, sizeof(how));
    mem_free((char *)(uintptr_t)(*isolate)->source.path);
    mem_free((char *)(uintptr_t)(*isolate)->source.name);
    mem_free((char *)(uintptr_t)(*isolate)->source.options);
    mem_free(*isolate);
    *isolate = NULL;
}

static int deadline_ms(const struct isolate *isolate)
{
    int64_t limit = isolate->timeout_ms;

    if ((isolate->flags & VERIFIER_USES_SANDBOX) && isolate->has_sandbox)
        limit += isolate->sandbox.compile_ms + isolate->sandbox.wall_ms + 2000;
    return limit < 3600000 ? (int)limit : 3600000;
}

/* Anew, after the last one was killed. Verdicts are cached by the version that the run began with:
 * another one must not add to them. */
static int load_again(struct isolate *isolate)
{
    struct isolate_description description;
    char how[64];

    TRY(load(isolate, &description));
    if (strcmp(description.version, isolate->version) == 0)
        return STATUS_OK;
    reap(isolate, 0, how, sizeof(how));
    return status_fail(STATUS_VERSION, "verifier %s has changed since the start: %s, it was %s",
                       isolate->name, description.version, isolate->version);
}

static int ask(struct isolate *isolate, const struct verifier_task *task,
               struct verifier_verdict *verdict)
{
    struct text request = {.maximum = ISOLATE_MAX_FRAME}, reply = {0};
    char how[64];
    int status = STATUS_OK;

    if (!isolate->pid)
        TRY(load_again(isolate));
    frame_write_task(task, &request);
    if (request.failed) {
        status = status_fail(STATUS_FORMAT, "verifier %s: the sample is larger than %d MiB",
                             isolate->name, (int)(ISOLATE_MAX_FRAME >> 20));
        goto out;
    }
    TRY_OUT(exchange(isolate, ISOLATE_SCORE, &request, &reply, deadline_ms(isolate)));
    int wants_replacement = reply.length == sizeof(*verdict) + 1;
    if (reply.length != sizeof(*verdict) && !wants_replacement) {
        status = status_fail(STATUS_FORMAT, "verifier %s: a verdict of %zu bytes is malformed",
                             isolate->name, reply.length);
        goto out;
    }
    memcpy(verdict, reply.data, sizeof(*verdict));
    verdict->detail[sizeof(verdict->detail) - 1] = '\0';
    if (wants_replacement) {
        log_warning("%s", verdict->detail);
        reap(isolate, 0, how, sizeof(how));
    }
out:
    text_release(&request);
    text_release(&reply);
    return status;
}

void isolate_score(struct isolate *isolate, const struct verifier_task *task,
                   struct verifier_verdict *verdict)
{
    if (ask(isolate, task, verdict) < 0) {
        verdict->outcome = VERIFIER_ERROR;
        verdict->score = 0;
        snprintf(verdict->detail, sizeof(verdict->detail), "%s", status_reason());
        log_warning("%s", status_reason());
    }
}
