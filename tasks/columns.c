#include "tasks/columns.h"

#include <string.h>

#include "common/status.h"
#include "tasks/code_records.h"

const char *const task_format_names[N_FORMATS + 1] = {
    "auto", "gsm8k", "math", "verl", "trl", "hone", "humaneval", "mbpp", "livecodebench", "apps",
    "taco", NULL};

static const char *const column_names[N_COLUMNS] = {"question", "reference", "verifier", "kind",
                                                    "language", "id",        "messages", "text"};

/* Where each format has its question and its reference: the first that is there. */
#define MAX_PLACES 5
static const struct {
    const char *question[MAX_PLACES], *reference[MAX_PLACES];
} places[N_FORMATS] = {
    [FORMAT_AUTO] = {{NULL}, {NULL}},
    [FORMAT_GSM8K] = {{"question"}, {"answer"}},
    [FORMAT_MATH] = {{"problem"}, {"solution"}},
    [FORMAT_VERL] = {{"prompt"}, {"reward_model.ground_truth"}},
    [FORMAT_TRL] = {{"prompt"}, {"solution", "answer", "ground_truth", "reference"}},
    /* As code_record_convert() leaves them. */
    [FORMAT_HUMANEVAL] = {{"question"}, {"reference"}},
    [FORMAT_MBPP] = {{"question"}, {"reference"}},
    [FORMAT_LIVECODEBENCH] = {{"question"}, {"reference"}},
    [FORMAT_APPS] = {{"question"}, {"reference"}},
    [FORMAT_TACO] = {{"question"}, {"reference"}},
    [FORMAT_HONE] = {{"question", "prompt"},
                     {"reference", "answer", "ground_truth", "solution"}},
};

static int find_column(const char *name, size_t n, enum column *out)
{
    for (int i = 0; i < N_COLUMNS; i++)
        if (strlen(column_names[i]) == n && memcmp(column_names[i], name, n) == 0) {
            *out = (enum column)i;
            return STATUS_OK;
        }
    return status_fail(STATUS_CONFIG, "tasks.columns: \"%.*s\" is not question, reference, "
                       "verifier, kind, language, id, messages or text", (int)n, name);
}

int columns_init(struct columns *columns, const struct tasks_config *config)
{
    char item[CONFIG_TEXT_BYTES];

    memset(columns, 0, sizeof(*columns));
    columns->verifier_columns[0] = '*';
    if (!config)
        return STATUS_OK;
    columns->format = (enum task_format)config->format;
    columns->skips_bad = config->on_bad_record;
    memcpy(columns->reference_columns, config->reference_columns,
           sizeof(columns->reference_columns));
    memcpy(columns->verifier_columns, config->verifier_columns, sizeof(columns->verifier_columns));
    for (size_t i = 0; config_list_item(config->columns, i, item, sizeof(item)); i++) {
        const char *equals = strchr(item, '=');
        enum column column = COLUMN_QUESTION;

        if (!equals || !equals[1])
            return status_fail(STATUS_CONFIG, "tasks.columns: \"%s\" has no \"=\" with a column "
                               "behind it: write it as question=problem", item);
        TRY(find_column(item, (size_t)(equals - item), &column));
        if (strlen(equals + 1) >= COLUMN_PLACE_BYTES)
            return status_fail(STATUS_CONFIG, "tasks.columns: \"%s\" is longer than %d bytes",
                               item, COLUMN_PLACE_BYTES - 1);
        memcpy(columns->places[column], equals + 1, strlen(equals));
    }
    return STATUS_OK;
}

/* A key with dots in its name comes before a way through objects. */
static const json_t *value_at(const json_t *row, const char *place)
{
    const json_t *value = json_object_get(row, place);
    char key[COLUMN_PLACE_BYTES];

    for (const char *dot = strchr(place, '.'); !value && dot; dot = strchr(dot + 1, '.')) {
        size_t n = (size_t)(dot - place);

        if (n >= sizeof(key))
            break;
        memcpy(key, place, n);
        key[n] = '\0';
        const json_t *inner = json_object_get(row, key);
        if (json_is_object(inner))
            value = value_at(inner, dot + 1);
    }
    return json_is_null(value) ? NULL : value;
}

const json_t *columns_find(const struct columns *columns, const json_t *row, enum column column,
                           const char **place)
{
    enum task_format format = columns->format == FORMAT_AUTO ? FORMAT_HONE : columns->format;
    const char *const *list = column == COLUMN_QUESTION    ? places[format].question
                              : column == COLUMN_REFERENCE ? places[format].reference
                                                           : NULL;
    const json_t *value = NULL;

    *place = columns->places[column];
    if (**place)
        value = value_at(row, *place);
    /* Files that hone wrote itself keep the plain names. */
    if (value || (**place && column != COLUMN_MESSAGES && column != COLUMN_TEXT))
        return value;
    if (!list) {
        *place = column_names[column];
        return value_at(row, *place);
    }
    for (size_t i = 0; i < MAX_PLACES && list[i]; i++)
        if ((value = value_at(row, list[i]))) {
            *place = list[i];
            return value;
        }
    *place = list[0];
    return NULL;
}

static int has_text(const json_t *row, const char *place, const char *mark)
{
    const char *text = json_string_value(value_at(row, place));

    return text && strstr(text, mark);
}

void columns_settle(struct columns *columns, const json_t *row)
{
    if (columns->format != FORMAT_AUTO)
        return;
    if (value_at(row, "reward_model.ground_truth") && value_at(row, "prompt"))
        columns->format = FORMAT_VERL;
    else if (json_is_array(value_at(row, "prompt")))
        columns->format = FORMAT_TRL;
    else if (!value_at(row, "reference") && value_at(row, "question") &&
             has_text(row, "answer", "#### "))
        columns->format = FORMAT_GSM8K;
    else if (value_at(row, "problem") && has_text(row, "solution", "\\boxed"))
        columns->format = FORMAT_MATH;
    else
        columns->format = value_at(row, "reference") ? FORMAT_HONE : code_format_detect(row);
}
