/* One question to a verifier, and one line of JSON with a question in it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/cmd.h"
#include "cmd/verify.h"
#include "common/json.h"
#include "common/status.h"

static struct wire_text wire_text_of(const char *text)
{
    return (struct wire_text){text, (uint32_t)strlen(text)};
}

int judge_open(struct judge *judge, const struct verify_settings *settings)
{
    char item[CONFIG_TEXT_BYTES];

    *judge = (struct judge){.is_lenient = 1};
    TRY(reward_create(&judge->reward, &settings->reward, &settings->sandbox));
    /* The verifier has refused what makes no sense. */
    for (size_t i = 0; config_list_item(settings->reward.options, i, item, sizeof(item)); i++) {
        if (strncmp(item, "math.extraction=", 16) == 0)
            judge->is_lenient = strcmp(item + 16, "strict") != 0;
        if (strncmp(item, "math.seed=", 10) == 0) {
            judge->has_seed = 1;
            judge->seed = (uint64_t)strtod(item + 10, NULL);
        }
    }
    return STATUS_OK;
}

void judge_close(struct judge *judge)
{
    math_destroy(&judge->math);
    reward_destroy(&judge->reward);
}

static void look_at_answer(const struct question *question, struct answer *answer)
{
    if (question->is_bare)
        text_append(&answer->extracted, question->pred, strlen(question->pred));
    answer->has_extracted = question->is_bare ||
                            reward_extract_answer(question->pred, strlen(question->pred),
                                                  &answer->extracted);
}

int judge_ask(struct judge *judge, const struct question *question, struct answer *answer)
{
    struct task task = {.id = 1, .question = wire_text_of(question->question),
                        .reference = wire_text_of(question->gold),
                        .prompt = wire_text_of(question->question),
                        .prefill = wire_text_of(question->prefill),
                        .columns = wire_text_of(question->columns)};
    struct text completion = {0};
    struct score score;

    memset(answer, 0, sizeof(*answer));
    if (strcmp(question->verifier, "math") == 0)
        return judge_ask_math(judge, question, answer);
    TRY(reward_check_name(judge->reward, question->verifier));
    snprintf(task.verifier, sizeof(task.verifier), "%s", question->accuracy);
    snprintf(task.kind, sizeof(task.kind), "%s", question->verifier);
    snprintf(task.language, sizeof(task.language), "%s", question->language);
    text_print(&completion, question->is_bare ? "<answer>%s</answer>" : "%s", question->pred);
    double start = clock_seconds();
    int status = completion.failed
                     ? status_fail(STATUS_FORMAT, "the prediction is too long")
                     : reward_judge_text(judge->reward, question->verifier, &task, completion.data,
                                         completion.length, &question->facts, &score);
    answer->micros = (clock_seconds() - start) * 1e6;
    text_release(&completion);
    TRY(status);
    answer->outcome = outcome_name(score.outcome);
    answer->is_right = score.outcome == OUTCOME_RIGHT;
    answer->is_error = score.outcome == OUTCOME_ERROR;
    answer->score = (double)score.value;
    memcpy(answer->detail, score.detail, sizeof(answer->detail));
    look_at_answer(question, answer);
    return STATUS_OK;
}

void verify_answer_release(struct answer *answer)
{
    text_release(&answer->extracted);
}

/* "answer" or "completion" at `key`; *is_answer keeps its value when the key is missing. */
static int read_mode(const json_t *row, const char *key, const char *where, int *is_answer)
{
    const char *mode;

    TRY(json_get_text_or(row, key, where, *is_answer ? "answer" : "completion", &mode));
    *is_answer = strcmp(mode, "answer") == 0;
    if (!*is_answer && strcmp(mode, "completion") != 0)
        return status_fail(STATUS_FORMAT,
                           "%s: %s \"%.40s\" is neither \"answer\" nor \"completion\"", where, key,
                           mode);
    return STATUS_OK;
}

static int read_count(const json_t *row, const char *key, const char *where, uint64_t *out)
{
    int64_t value;

    TRY(json_get_int_or(row, key, where, (int64_t)*out, &value));
    if (value < 0)
        return status_fail(STATUS_FORMAT, "%s: %s is negative", where, key);
    *out = (uint64_t)value;
    return STATUS_OK;
}

static int read_row(const json_t *row, const char *where, struct question *question)
{
    if (!json_is_object(row))
        return status_fail(STATUS_FORMAT, "%s: a JSON object is wanted", where);
    TRY(json_get_text(row, "pred", where, &question->pred));
    TRY(json_get_text_or(row, "gold", where, question->gold, &question->gold));
    TRY(json_get_text_or(row, "question", where, question->question, &question->question));
    TRY(json_get_text_or(row, "language", where, question->language, &question->language));
    TRY(json_get_text_or(row, "prefill", where, question->prefill, &question->prefill));
    TRY(json_get_text_or(row, "verifier", where, question->verifier, &question->verifier));
    TRY(read_mode(row, "mode", where, &question->is_bare));
    int is_gold_bare = !question->is_gold_whole;
    TRY(read_mode(row, "gold_mode", where, &is_gold_bare));
    question->is_gold_whole = !is_gold_bare;
    TRY(read_count(row, "tokens", where, &question->facts.n_tokens));
    TRY(read_count(row, "group_min", where, &question->facts.group_min_tokens));
    return read_count(row, "group_max", where, &question->facts.group_max_tokens);
}

/* Of the row, or what the command line says for all. */
static int read_columns(const json_t *row, const char *where, struct text *columns,
                        struct question *question)
{
    const json_t *value = json_object_get(row, "columns");

    if (!value)
        return STATUS_OK;
    if (!json_is_object(value))
        return status_fail(STATUS_FORMAT, "%s: columns is no object", where);
    json_append(columns, value);
    question->columns = columns->data;
    return STATUS_OK;
}

static void append_text(struct text *out, const char *key, const char *text, size_t n)
{
    text_print(out, ",\"%s\":", key);
    if (text)
        json_append_string(out, text, n);
    else
        text_print(out, "null");
}

static void append_answer(struct text *out, const struct answer *answer)
{
    const char *extracted = answer->extracted.data ? answer->extracted.data : "";

    text_print(out, "\"outcome\":\"%s\",\"right\":%s,\"score\":%.9g", answer->outcome,
               answer->is_right ? "true" : "false", answer->score);
    append_text(out, "path", answer->path[0] ? answer->path : NULL, strlen(answer->path));
    append_text(out, "extracted", answer->has_extracted ? extracted : NULL,
                answer->extracted.length);
    if (answer->detail[0])
        append_text(out, "detail", answer->detail, strlen(answer->detail));
    text_print(out, ",\"micros\":%.1f}\n", answer->micros);
}

/* A line without an id is known by its number. */
static void append_id(struct text *out, const json_t *row, uint64_t number)
{
    const json_t *id = json_is_object(row) ? json_object_get(row, "id") : NULL;

    text_print(out, "{\"id\":");
    if (id)
        json_append(out, id);
    else
        text_print(out, "%llu", (unsigned long long)number);
    text_print(out, ",");
}

int verify_line(struct judge *judge, const struct verify_settings *settings, uint64_t number,
                const char *line, size_t n, struct text *out)
{
    char where[256];
    struct question question = settings->defaults;
    struct answer answer = {0};
    struct text columns = {0};
    json_t *row = NULL;

    snprintf(where, sizeof(where), "%.200s:%llu", settings->input ? settings->input : "stdin",
             (unsigned long long)number);
    int status = json_parse(&row, line, n, where);
    if (status == STATUS_OK)
        status = read_row(row, where, &question);
    if (status == STATUS_OK)
        status = read_columns(row, where, &columns, &question);
    if (status == STATUS_OK)
        status = judge_ask(judge, &question, &answer);
    append_id(out, row, number);
    if (status == STATUS_OK) {
        append_answer(out, &answer);
    } else {
        text_print(out, "\"line\":%llu,\"error\":", (unsigned long long)number);
        json_append_string(out, status_reason(), strlen(status_reason()));
        text_print(out, "}\n");
    }
    verify_answer_release(&answer);
    text_release(&columns);
    json_decref(row);
    return status < 0;
}
