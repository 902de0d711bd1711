/* Any bytes as config.json, with generation_config.json behind a NUL, and as
 * model.safetensors.index.json. What is read must print to what reads the same, with frequencies
 * that are numbers; so must the notes that come with it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/status.h"
#include "model/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_config(const char *json, size_t n)
{
    static float frequencies[1024];
    struct model_shape shape, again;
    struct text first = {0}, second = {0};

    if (model_shape_parse(&shape, json, n, "fuzz") < 0)
        return;
    float magnitude = rope_frequencies(&shape, frequencies);
    for (int i = 0; i < shape.head_dim / 2; i++)
        if (!isfinite(frequencies[i]) || frequencies[i] < 0.0f)
            abort();
    if (!isfinite(magnitude) || model_shape_parameters(&shape) < 1)
        abort();
    model_shape_print(&shape, -1, 1, &first);
    if (model_shape_parse(&again, first.data, first.length, "printed") < 0)
        abort();
    model_shape_print(&again, -1, 1, &second);
    if (strcmp(first.data, second.data) != 0)
        abort();
    text_release(&first);
    text_release(&second);
}

/* What is handed on is, handed on again, the same, and the same model. */
static void check_notes(const char *json, size_t n)
{
    const char *nul = n ? memchr(json, 0, n) : NULL;
    size_t n_config = nul ? (size_t)(nul - json) : n;
    struct text config[2] = {{0}}, generation[2] = {{0}};
    struct model_notes notes, again;
    struct model_shape shape;

    if (model_notes_parse(&notes, json, n_config, nul ? nul + 1 : "", nul ? n - n_config - 1 : 0,
                          "fuzz") < 0)
        return;
    if (model_shape_parse(&shape, json, n_config, "fuzz") == STATUS_OK) {
        model_shape_print(&shape, -1, -1, &config[0]);
        model_shape_print(&shape, -1, -1, &config[1]);
        if (model_notes_put_config(&notes, &config[0]) < 0 ||
            model_notes_print_generation(&notes, &generation[0]) < 0 ||
            model_notes_parse(&again, config[0].data, config[0].length, generation[0].data,
                              generation[0].length, "again") < 0 ||
            model_notes_put_config(&again, &config[1]) < 0 ||
            model_notes_print_generation(&again, &generation[1]) < 0 ||
            model_shape_parse(&shape, config[1].data, config[1].length, "again") < 0 ||
            strcmp(config[0].data, config[1].data) != 0 ||
            strcmp(generation[0].data, generation[1].data) != 0)
            abort();
        model_notes_release(&again);
    }
    for (int i = 0; i < 2; i++) {
        text_release(&config[i]);
        text_release(&generation[i]);
    }
    model_notes_release(&notes);
}

static void check_index(const char *json, size_t n)
{
    struct shard_list list;

    if (shard_list_parse(&list, json, n, "fuzz") < 0)
        return;
    for (size_t i = 0; i < list.n; i++)
        if (!list.names[i][0] || strchr(list.names[i], '/') || strstr(list.names[i], ".."))
            abort();
    shard_list_release(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    check_config((const char *)data, n);
    check_notes((const char *)data, n);
    check_index((const char *)data, n);
    return 0;
}
