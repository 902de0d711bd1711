/* What the coordinator waits for, and what each worker says that it is at, in a file that can be
 * read while the run goes on, hangs or is dead. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/json.h"
#include "common/log.h"
#include "common/status.h"
#include "common/watchdog.h"
#include "pipeline/exchange_work.h"
#include "pipeline/report.h"

#define EVERY_MS 1000

static const char *const kind_names[] = {
    [WIRE_HELLO] = "HELLO",   [WIRE_MODEL] = "MODEL",
    [WIRE_WEIGHTS] = "WEIGHTS", [WIRE_WEIGHTS_STATE] = "WEIGHTS_STATE",
    [WIRE_SAMPLE] = "SAMPLE", [WIRE_JUDGE] = "JUDGE",
    [WIRE_GROUP] = "GROUP",   [WIRE_FAILED] = "FAILED",
    [WIRE_HEARTBEAT] = "HEARTBEAT", [WIRE_STOP] = "STOP",
    [WIRE_IMAGE] = "IMAGE",   [WIRE_SHARED_WEIGHTS] = "SHARED_WEIGHTS",
};

void message_note(struct exchange *exchange, int is_out, const char *peer, enum wire_kind kind,
                  uint64_t number)
{
    struct message_note *note = &exchange->notes[exchange->n_notes++ % N_NOTES];

    note->unix_ms = clock_unix_ms();
    note->is_out = is_out;
    note->kind = kind;
    note->number = number;
    snprintf(note->peer, sizeof(note->peer), "%s", peer);
}

static void put_text(struct text *out, const char *key, const char *value)
{
    text_print(out, "\"%s\":", key);
    json_append_string(out, value, strlen(value));
}

/* ---- What the coordinator waits for from each peer: the oldest lease tells since when. */

static void put_wait(struct text *out, const struct work *work, const struct peer *peer,
                     int64_t now)
{
    const struct group_slot *slot = work ? peer->out.first : NULL;
    int n = 0;

    for (const struct group_slot *each = slot; each; each = each->next)
        n++;
    text_print(out, ",\"n_groups\":%d", n);
    if (!slot)
        return;
    text_print(out, ",\"lease\":%llu,\"task\":%llu,\"waited_ms\":%lld,\"left_ms\":%lld",
               (unsigned long long)slot->lease,
               (unsigned long long)work->job->tasks[slot - work->slots]->id,
               (long long)((clock_seconds() - slot->leased) * 1000),
               (long long)(slot->deadline_ms - now));
}

static void put_peer(struct text *out, const struct work *work, const struct peer *peer,
                     int64_t now)
{
    text_print(out, "{");
    put_text(out, "name", peer->name);
    text_print(out, ",");
    put_text(out, "role", worker_role_name(peer->role));
    text_print(out, ",\"is_ready\":%s,\"heard_ms\":%lld,", peer->is_ready ? "true" : "false",
               (long long)(now - peer->heard_ms));
    put_text(out, "doing", peer->beat.doing);
    text_print(out, ",\"since_ms\":%llu,\"weights\":%u,\"weights_sent\":%u,\"weights_acked\":%u",
               (unsigned long long)peer->beat.since_ms + (unsigned long long)(now - peer->beat_ms),
               peer->beat.weight_version, peer->has_version ? peer->version_sent : 0,
               peer->has_acked ? peer->version_acked : 0);
    put_wait(out, work, peer, now);
    text_print(out, "}");
}

static void put_notes(struct text *out, const struct exchange *exchange)
{
    uint64_t first = exchange->n_notes > N_NOTES ? exchange->n_notes - N_NOTES : 0;

    text_print(out, ",\"messages\":[");
    for (uint64_t i = first; i < exchange->n_notes; i++) {
        const struct message_note *note = &exchange->notes[i % N_NOTES];
        text_print(out, "%s{\"unix_ms\":%lld,\"is_out\":%s,\"kind\":\"%s\",\"number\":%llu,",
                   i > first ? "," : "", (long long)note->unix_ms, note->is_out ? "true" : "false",
                   kind_names[note->kind], (unsigned long long)note->number);
        put_text(out, "peer", note->peer);
        text_print(out, "}");
    }
    text_print(out, "]");
}

static void print_state(struct text *out, struct exchange *exchange, const struct work *work)
{
    char host[64] = "", digest[DIGEST_HEX_BYTES], doing[WIRE_DETAIL_BYTES];
    int64_t now = clock_ms();

    gethostname(host, sizeof(host) - 1);
    digest_hex(exchange->image.n ? &exchange->images[0].digest : &exchange->offer.weights.digest,
               digest);
    exchange_describe(exchange, work, doing);
    text_print(out, "{\"unix_ms\":%lld,\"pid\":%ld,", (long long)clock_unix_ms(), (long)getpid());
    put_text(out, "host", host);
    text_print(out, ",");
    put_text(out, "endpoint", wire_hub_endpoint(exchange->hub));
    text_print(out, ",");
    put_text(out, "doing", doing);
    text_print(out, ",\"since_ms\":%lld,\"weights\":%u,",
               (long long)(now - (work ? work->progress_ms : exchange->idle_since_ms)),
               exchange->version);
    put_text(out, "weights_digest", exchange->version ? digest : "");
    text_print(out, ",\"stuck_in_ms\":%lld,\"peers\":[",
               (long long)(work ? work->progress_ms + exchange->config.stuck_ms - now : -1));
    for (int i = 0; i < exchange->n_peers; i++) {
        text_print(out, "%s", i ? "," : "");
        put_peer(out, work, exchange->peers[i], now);
    }
    text_print(out, "]");
    put_notes(out, exchange);
    text_print(out, "}\n");
}

/* Whole or not at all, but not fsynced: it is only true for a second. */
static int replace_file(const char *path, const struct text *text)
{
    char temporary[FILE_PATH_MAX + 8];

    snprintf(temporary, sizeof(temporary), "%s.tmp", path);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        return status_fail(STATUS_IO, "cannot create %s: %s", temporary, strerror(errno));
    int failed = text->failed || write(fd, text->data, text->length) != (ssize_t)text->length;
    if (close(fd) || failed || rename(temporary, path)) {
        unlink(temporary);
        return status_fail(STATUS_IO, "cannot write %s", path);
    }
    return STATUS_OK;
}

void state_write(struct exchange *exchange, const struct work *work, int now)
{
    struct text text = {.maximum = STATE_MAX_BYTES};
    char path[FILE_PATH_MAX];

    if (!exchange->directory[0] || (!now && clock_ms() - exchange->state_ms < EVERY_MS))
        return;
    exchange->state_ms = clock_ms();
    print_state(&text, exchange, work);
    int status = file_join(path, exchange->directory, STATE_FILE);
    if (status == STATUS_OK)
        status = replace_file(path, &text);
    if (status < 0 && !exchange->state_failed)
        log_warning("%s; `hone status` will not show who waits for whom", status_reason());
    exchange->state_failed = status < 0;
    text_release(&text);
}

void state_remove(struct exchange *exchange)
{
    char path[FILE_PATH_MAX];

    if (exchange->directory[0] && file_join(path, exchange->directory, STATE_FILE) == STATUS_OK)
        unlink(path);
}

static void append_stacks(const char *path)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return;
    stacks_print(fd);
    close(fd);
}

int state_report_stuck(struct exchange *exchange, const struct work *work, int status)
{
    char path[FILE_PATH_MAX], why[512];
    struct text text = {0};

    snprintf(why, sizeof(why), "%s", status_reason());
    if (!exchange->directory[0] || file_join(path, exchange->directory, STUCK_FILE) < 0)
        return status_fail(status, "%s", why);
    state_write(exchange, work, 1);
    text_print(&text, "%s\n", why);
    int written = report_state(&text, exchange->directory, 0, 1);
    if (written == STATUS_OK)
        written = file_write_atomic(path, text.data, text.length);
    text_release(&text);
    if (written == STATUS_OK)
        append_stacks(path);
    if (written < 0) {
        log_warning("no report: %s", status_reason());
        return status_fail(status, "%s", why);
    }
    return status_fail(status, "%s; %s has the waits and the last messages", why, path);
}
