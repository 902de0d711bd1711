/* What is said to an executable, and how its answers are read. command_process.c starts it. */
#include "reward/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/json.h"
#include "common/status.h"
#include "reward/command_process.h"
#include "reward/options.h"

#define MAX_FILE_BYTES ((int64_t)64 << 20)   /* of a file that is read for the digest */

struct command {
    char name[WIRE_NAME_BYTES];
    struct command_process *process;
    struct text request, reply;
};

static void append_text(struct text *out, const char *key, struct verifier_text value)
{
    text_print(out, ",\"%s\":", key);
    json_append_string(out, value.data ? value.data : "", value.length);
}

/* {"key":"value",..} from "key=value\n" lines. */
static void append_options(struct text *out, const char *options, const char *name)
{
    struct text lines = {0};
    const char *comma = "";

    options_select(options, name, &lines);
    text_print(out, ",\"options\":{");
    for (char *at = lines.data, *end; at && *at; at = end + 1) {
        end = strchr(at, '\n');
        char *sign = memchr(at, '=', (size_t)(end - at));
        text_print(out, "%s", comma);
        json_append_string(out, at, (size_t)((sign ? sign : end) - at));
        text_print(out, ":");
        json_append_string(out, sign ? sign + 1 : end, sign ? (size_t)(end - sign - 1) : 0);
        comma = ",";
    }
    text_print(out, "}");
    text_release(&lines);
}

/* One line there and one back, as an object. */
static int ask(struct command *command, json_t **out)
{
    TRY(command_exchange(command->process, &command->request, &command->reply));
    TRY(json_parse(out, command->reply.data, command->reply.length, command->name));
    if (json_is_object(*out))
        return STATUS_OK;
    json_decref(*out);
    *out = NULL;
    return status_fail(STATUS_FORMAT, "%s: an object is wanted", command->name);
}

/* What the words are and what the files hold that they name: another script is another version.
 * Of a large file, a model say, size and time of change stand for what it holds. */
static void digest_words(char *const *words, struct digest *digest)
{
    struct digest_state *state = digest_begin();

    for (size_t i = 0; words[i]; i++) {
        struct digest content;
        struct stat file;
        digest_add(state, words[i], strlen(words[i]) + 1);
        if (stat(words[i], &file) < 0 || !S_ISREG(file.st_mode))
            continue;
        const int64_t facts[] = {file.st_size, file.st_mtim.tv_sec, file.st_mtim.tv_nsec};
        if (file.st_size > MAX_FILE_BYTES)
            digest_add(state, facts, sizeof(facts));
        else if (digest_of_file(&content, words[i]) == STATUS_OK)
            digest_add(state, &content, sizeof(content));
    }
    digest_end(state, digest);
}

static int read_hello(struct command *command, const struct digest *digest, const json_t *reply,
                      struct isolate_description *description)
{
    const char *version, *help, *refused, *where = command->name;
    int deterministic;

    TRY(json_get_text_or(reply, "error", where, NULL, &refused));
    if (refused)
        return status_fail(STATUS_CONFIG, "verifier %s: %s", where, refused);
    TRY(json_get_text_or(reply, "version", where, "", &version));
    TRY(json_get_text_or(reply, "help", where, "An executable that speaks JSON lines.", &help));
    TRY(json_get_bool_or(reply, "deterministic", where, 0, &deterministic));
    memset(description, 0, sizeof(*description));
    description->flags = deterministic ? VERIFIER_DETERMINISTIC : 0;
    memcpy(description->name, command->name, sizeof(description->name));
    for (int i = 0; i < 8; i++)
        snprintf(description->version + 2 * i, 3, "%02x", digest->bytes[i]);
    snprintf(description->version + 16, sizeof(description->version) - 16, " %s", version);
    snprintf(description->help, sizeof(description->help), "%s", help);
    return STATUS_OK;
}

int command_open(struct command **out, const char *name, const char *words, const char *options,
                 struct isolate_description *description)
{
    struct command *command = mem_alloc(1, sizeof(*command));
    struct digest digest;
    json_t *reply = NULL;

    /* Never freed: the process ends with it. */
    snprintf(command->name, sizeof(command->name), "%s", name);
    TRY(command_start(&command->process, command->name, words));
    digest_words(command_words(command->process), &digest);
    text_print(&command->request, "{\"hello\":1,\"name\":");
    json_append_string(&command->request, name, strlen(name));
    append_options(&command->request, options, name);
    text_print(&command->request, "}\n");
    TRY(ask(command, &reply));
    int status = read_hello(command, &digest, reply, description);
    json_decref(reply);
    *out = command;
    return status;
}

static int read_outcome(const char *text, uint32_t *out)
{
    for (uint32_t i = 0; i < N_OUTCOMES; i++)
        if (strcmp(text, outcome_name((enum outcome)i)) == 0) {
            *out = i;
            return STATUS_OK;
        }
    return status_fail(STATUS_FORMAT, "outcome \"%.40s\" is unknown", text);
}

static int read_verdict(const json_t *reply, uint64_t task_id, struct verifier_verdict *verdict)
{
    const json_t *score = json_object_get(reply, "score");
    const json_t *id = json_object_get(reply, "task_id");
    const char *outcome, *detail, *error;

    if (id && (uint64_t)json_integer_value(id) != task_id)
        return status_fail(STATUS_FORMAT, "the answer is for another task");
    TRY(json_get_text_or(reply, "error", "reply", NULL, &error));
    TRY(json_get_text_or(reply, "outcome", "reply", NULL, &outcome));
    TRY(json_get_text_or(reply, "detail", "reply", "", &detail));
    verdict->outcome = VERIFIER_ERROR;
    verdict->score = 0;
    if (!error && !json_is_number(score))
        return status_fail(STATUS_FORMAT, "neither \"score\" nor \"error\"");
    if (!error) {
        verdict->score = json_number_value(score);
        verdict->outcome = verdict->score >= 1 ? VERIFIER_RIGHT : VERIFIER_WRONG;
        if (outcome)
            TRY(read_outcome(outcome, &verdict->outcome));
    }
    snprintf(verdict->detail, sizeof(verdict->detail), "%s", error ? error : detail);
    return STATUS_OK;
}

static void write_request(struct text *out, const struct verifier_task *task)
{
    text_clear(out);
    text_print(out, "{\"task_id\":%llu", (unsigned long long)task->task_id);
    append_text(out, "kind", task->kind);
    append_text(out, "language", task->language);
    append_text(out, "question", task->question);
    append_text(out, "reference", task->reference);
    append_text(out, "prefill", task->prefill);
    append_text(out, "completion", task->completion);
    if (task->columns.length) {   /* JSON already */
        text_print(out, ",\"columns\":");
        text_append(out, task->columns.data, task->columns.length);
    }
    text_print(out, "}\n");
}

int command_score(struct command *command, const struct verifier_task *task,
                  struct verifier_verdict *verdict)
{
    json_t *reply = NULL;

    write_request(&command->request, task);
    int status = command->request.failed
                     ? status_fail(STATUS_FORMAT, "the sample is too large")
                     : ask(command, &reply);
    if (status == STATUS_OK)
        status = read_verdict(reply, task->task_id, verdict);
    if (reply)
        json_decref(reply);
    if (status < 0) {
        verdict->outcome = VERIFIER_ERROR;
        verdict->score = 0;
        snprintf(verdict->detail, sizeof(verdict->detail), "verifier %s gave no verdict: %s",
                 command->name, status_reason());
    }
    return status;
}
