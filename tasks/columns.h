/*
 * tasks/columns.h - where in a record the things lie that hone wants.
 *
 * tasks.columns names the place ("question=problem"); what it does not name is looked for where
 * tasks.format says. A place with dots goes into objects: "reward_model.ground_truth".
 */
#ifndef HONE_TASKS_COLUMNS_H
#define HONE_TASKS_COLUMNS_H

#include "common/json.h"
#include "tasks/tasks.h"

#define COLUMN_PLACE_BYTES 128

enum column {
    COLUMN_QUESTION, COLUMN_REFERENCE, COLUMN_VERIFIER, COLUMN_KIND, COLUMN_LANGUAGE, COLUMN_ID,
    COLUMN_MESSAGES, COLUMN_TEXT, N_COLUMNS
};

/* The order of tasks_config.format's choices. */
enum task_format {
    FORMAT_AUTO, FORMAT_GSM8K, FORMAT_MATH, FORMAT_VERL, FORMAT_TRL, FORMAT_HONE,
    FORMAT_HUMANEVAL, FORMAT_MBPP, FORMAT_LIVECODEBENCH, FORMAT_APPS, FORMAT_TACO, N_FORMATS
};
extern const char *const task_format_names[N_FORMATS + 1];

struct columns {
    enum task_format format;
    char places[N_COLUMNS][COLUMN_PLACE_BYTES];   /* of tasks.columns, or "" */
    char reference_columns[CONFIG_TEXT_BYTES], verifier_columns[CONFIG_TEXT_BYTES];
    int skips_bad;
};

/* `config` NULL: the defaults. */
int columns_init(struct columns *columns, const struct tasks_config *config);

/* FORMAT_AUTO becomes the format that the first record has the marks of. */
void columns_settle(struct columns *columns, const json_t *row);

/* The value of a column, or NULL when the record has none or null. *place is where it was found,
 * or where it is wanted first. */
const json_t *columns_find(const struct columns *columns, const json_t *row, enum column column,
                           const char **place);

/* reference.c: what the verifier compares with, appended to `out`. */
int columns_read_reference(const struct columns *columns, const json_t *row, const char *where,
                           struct text *out);
/* The columns of tasks.verifier_columns as a JSON object, appended to `out`; nothing when there are
 * none. "*" are those that hone does not take for itself. */
int columns_read_others(const struct columns *columns, const json_t *row, const char *where,
                        struct text *out);

#endif
