/* Any bytes as config.json and as model.safetensors.index.json. What is read must print to what
 * reads the same, with frequencies that are numbers. */
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
    check_index((const char *)data, n);
    return 0;
}
