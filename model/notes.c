#include "model/notes.h"

#include <string.h>

#include "common/files.h"
#include "common/status.h"
#include "model/internal.h"

#define IDS_KEY "eos_token_id"

/* ---- Reading. */

int model_notes_add_stop(struct model_notes *notes, int32_t id)
{
    for (int i = 0; i < notes->n_stops; i++)
        if (notes->stop_ids[i] == id)
            return STATUS_OK;
    if (id < 0)
        return STATUS_OK;
    if (notes->n_stops == MODEL_MAX_STOPS)
        return status_fail(STATUS_UNSUPPORTED, "more than %d ids end a completion",
                           MODEL_MAX_STOPS);
    notes->stop_ids[notes->n_stops++] = id;
    return STATUS_OK;
}

static int add_id(struct model_notes *notes, const json_t *value, int64_t vocab_size,
                  const char *where)
{
    json_int_t id = json_integer_value(value);

    if (!json_is_integer(value))
        return status_fail(STATUS_FORMAT, "%s: \"" IDS_KEY "\" is neither an id nor a list of ids",
                           where);
    if (id < 0 || id >= vocab_size)
        return status_fail(STATUS_FORMAT, "%s: \"" IDS_KEY "\" has %lld; an id below "
                           "\"vocab_size\" %lld is wanted", where, (long long)id,
                           (long long)vocab_size);
    int status = model_notes_add_stop(notes, (int32_t)id);
    return status < 0 ? status_context(status, "%s: \"" IDS_KEY "\"", where) : STATUS_OK;
}

/* 1 when the file names at least one. */
static int read_stops(struct model_notes *notes, const json_t *file, int64_t vocab_size,
                      const char *where)
{
    const json_t *value = json_object_get(file, IDS_KEY), *item;
    size_t i;

    if (!value || json_is_null(value))
        return 0;
    if (!json_is_array(value)) {
        TRY(add_id(notes, value, vocab_size, where));
        return 1;
    }
    json_array_foreach(value, i, item)
        TRY(add_id(notes, item, vocab_size, where));
    return json_array_size(value) > 0;
}

static int parse_object(json_t **out, const char *bytes, size_t n, const char *where)
{
    TRY(json_parse(out, bytes, n, where));
    if (!json_is_object(*out))
        return status_fail(STATUS_FORMAT, "%s: not a JSON object", where);
    return STATUS_OK;
}

int model_notes_parse(struct model_notes *notes, const char *config, size_t n_config,
                      const char *generation, size_t n_generation, const char *where)
{
    json_t *first = NULL, *second = NULL;
    char place[FILE_PATH_MAX];
    int64_t vocab_size;
    int status;

    memset(notes, 0, sizeof(*notes));
    TRY_OUT(file_join(place, where, "config.json"));
    TRY_OUT(parse_object(&first, config, n_config, place));
    TRY_OUT(json_get_int(first, "vocab_size", place, &vocab_size));
    if (n_generation) {
        TRY_OUT(file_join(place, where, "generation_config.json"));
        TRY_OUT(parse_object(&second, generation, n_generation, place));
        TRY_OUT(read_stops(notes, second, vocab_size, place));
        text_append(&notes->generation, generation, n_generation);
    }
    if (!notes->n_stops) {
        TRY_OUT(file_join(place, where, "config.json"));
        TRY_OUT(read_stops(notes, first, vocab_size, place));
    }
    text_append(&notes->config, config, n_config);
    const char *dtype = json_string_value(json_object_get(first, "torch_dtype"));
    if (!dtype)
        dtype = json_string_value(json_object_get(first, "dtype"));   /* transformers 5 */
    notes->is_bf16 = dtype && strcmp(dtype, "bfloat16") == 0;
    status = STATUS_OK;
out:
    json_decref(first);
    json_decref(second);
    if (status < 0)
        model_notes_release(notes);
    return status;
}

int model_notes_read(struct model_notes *notes, const char *directory)
{
    struct text config = {0}, generation = {0};
    char path[FILE_PATH_MAX];
    int status;

    memset(notes, 0, sizeof(*notes));
    TRY_OUT(file_join(path, directory, "config.json"));
    TRY_OUT(file_read(path, MODEL_MAX_CONFIG_BYTES, &config));
    TRY_OUT(file_join(path, directory, "generation_config.json"));
    if (file_exists(path))
        TRY_OUT(file_read(path, MODEL_MAX_CONFIG_BYTES, &generation));
    TRY_OUT(model_notes_parse(notes, config.data, config.length, generation.data,
                              generation.length, directory));
out:
    text_release(&config);
    text_release(&generation);
    return status;
}

void model_notes_release(struct model_notes *notes)
{
    text_release(&notes->config);
    text_release(&notes->generation);
    memset(notes, 0, sizeof(*notes));
}

/* ---- Writing. */

static void print_value(struct text *out, const json_t *value)
{
    if (json_is_real(value))
        shape_print_real(out, json_real_value(value));
    else
        json_append(out, value);
}

static void print_key(struct text *out, const char *key)
{
    text_print(out, "  ");
    json_append_string(out, key, strlen(key));
    text_print(out, ": ");
}

/* Puts the value behind `key` in place of the one that stands there, to the end of its line. */
static void replace_value(struct text *printed, const char *key, const json_t *value)
{
    struct text line = {0}, out = {0};

    print_key(&line, key);
    const char *at = strstr(printed->data, line.data);
    const char *end = at ? strstr(at, ",\n") : NULL;
    if (!end)
        BUG("config.json is printed without %s", key);
    text_append(&out, printed->data, (size_t)(at - printed->data));
    text_append(&out, line.data, line.length);
    print_value(&out, value);
    text_append(&out, end, strlen(end));
    text_release(&line);
    text_release(printed);
    *printed = out;
}

static int stays_behind(const char *key)
{
    static const char *const keys[] = {"dtype", "rope_parameters", "layer_types",
                                       "use_sliding_window", "max_window_layers", "auto_map"};

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (strcmp(key, keys[i]) == 0)
            return 1;
    return 0;
}

static void append_missing(struct text *printed, const json_t *ours, const json_t *theirs)
{
    const char *key;
    json_t *value;

    printed->length -= strlen("\n}\n");
    json_object_foreach((json_t *)(uintptr_t)theirs, key, value) {
        if (json_object_get(ours, key) || stays_behind(key))
            continue;
        text_print(printed, ",\n");
        print_key(printed, key);
        print_value(printed, value);
    }
    text_print(printed, "\n}\n");
}

int model_notes_put_config(const struct model_notes *notes, struct text *printed)
{
    static const char *const ids[] = {"bos_token_id", IDS_KEY};
    json_t *ours = NULL, *theirs = NULL;
    int status = STATUS_OK;

    if (!notes->config.length)
        return STATUS_OK;
    TRY_OUT(parse_object(&ours, printed->data, printed->length, "config.json"));
    TRY_OUT(parse_object(&theirs, notes->config.data, notes->config.length, "config.json"));
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++)
        if (json_object_get(theirs, ids[i]))
            replace_value(printed, ids[i], json_object_get(theirs, ids[i]));
    append_missing(printed, ours, theirs);
out:
    json_decref(ours);
    json_decref(theirs);
    return status;
}

static json_t *stops_value(const struct model_notes *notes)
{
    json_t *list;

    if (notes->n_stops == 1)
        return json_integer(notes->stop_ids[0]);
    list = json_array();
    for (int i = 0; i < notes->n_stops; i++)
        json_array_append_new(list, json_integer(notes->stop_ids[i]));
    return list;
}

int model_notes_print_generation(const struct model_notes *notes, struct text *out)
{
    json_t *file = NULL, *value;
    const char *key;
    int n = 0;

    if (notes->generation.length)
        TRY(parse_object(&file, notes->generation.data, notes->generation.length,
                         "generation_config.json"));
    else
        file = json_pack("{s:b}", "do_sample", 1);
    if (notes->n_stops)
        json_object_set_new(file, IDS_KEY, stops_value(notes));
    text_print(out, "{");
    json_object_foreach(file, key, value) {
        text_print(out, n++ ? ",\n" : "\n");
        print_key(out, key);
        print_value(out, value);
    }
    text_print(out, "\n}\n");
    json_decref(file);
    return STATUS_OK;
}
