#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "common/status.h"
#include "reward/internal.h"

#define ROW(name, kind, text, low, high, words)                                                    \
    {.key = #name, .type = (kind), .offset = offsetof(struct reward_config, name),                 \
     .default_text = (text), .minimum = (low), .maximum = (high), .help = (words)}

static const struct config_field fields[] = {
    ROW(reward_funcs, CONFIG_LIST, "accuracy,format", 0, 0,
        "Reward functions by verifier name; \"accuracy\" is the task's own verifier."),
    ROW(reward_weights, CONFIG_LIST, "", 0, 0,
        "One weight per reward function; empty means 1 for each."),
    ROW(preference_last_steps, CONFIG_INT, "0", 0, 1e9,
        "The function \"preference\" counts in the last so many steps only; 0: always."),
    ROW(workers, CONFIG_INT, "1", 0, 256,
        "Reward processes that the run starts; more may connect."),
    ROW(verifier_timeout_ms, CONFIG_INT, "2000", 10, 600000,
        "Milliseconds for one verdict of a plugin or executable before its process is killed."),
    ROW(plugins, CONFIG_LIST, "", 0, 0, "Paths of shared objects with verifiers."),
    ROW(commands, CONFIG_LIST, "", 0, 0,
        "Executables that are verifiers, each as name=path arguments: docs/verifiers.md."),
    ROW(options, CONFIG_LIST, "", 0, 0,
        "Options of verifiers, each as verifier.key=value: countdown.partial=0.1."),
    {.key = NULL},
};

static int parse_weight(const char *text, float *out)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end || !isfinite(value) || fabs(value) > 1e6)
        return status_fail(STATUS_CONFIG,
                           "reward.reward_weights: \"%s\" is no number from -1e6 to 1e6", text);
    *out = (float)value;
    return STATUS_OK;
}

static int count_items(const char *list)
{
    char item[CONFIG_TEXT_BYTES];
    int n = 0;

    while (config_list_item(list, (size_t)n, item, sizeof(item)))
        n++;
    return n;
}

static int check_options(const struct reward_config *config)
{
    char item[CONFIG_TEXT_BYTES];

    for (size_t i = 0; config_list_item(config->options, i, item, sizeof(item)); i++) {
        const char *point = strchr(item, '.');
        const char *sign = strchr(item, '=');
        if (!point || !sign || point > sign || point == item || sign == point + 1)
            return status_fail(STATUS_CONFIG,
                               "reward.options: \"%s\" is not of the form verifier.key=value",
                               item);
    }
    return STATUS_OK;
}

static int check_config(const void *at)
{
    const struct reward_config *config = at;
    char item[CONFIG_TEXT_BYTES];
    int n_functions = count_items(config->reward_funcs);
    int n_weights = count_items(config->reward_weights);
    float weight;

    if (n_functions < 1 || n_functions > WIRE_MAX_REWARDS)
        return status_fail(STATUS_CONFIG,
                           "reward.reward_funcs names %d functions; 1 to %d are wanted",
                           n_functions, WIRE_MAX_REWARDS);
    if (n_weights && n_weights != n_functions)
        return status_fail(STATUS_CONFIG,
                           "reward.reward_weights has %d numbers for %d reward functions: give one "
                           "each, or none", n_weights, n_functions);
    for (size_t i = 0; config_list_item(config->reward_funcs, i, item, sizeof(item)); i++)
        if (strlen(item) >= WIRE_NAME_BYTES)
            return status_fail(STATUS_CONFIG, "reward.reward_funcs: \"%s\" is longer than %d bytes",
                               item, WIRE_NAME_BYTES - 1);
    for (size_t i = 0; config_list_item(config->reward_weights, i, item, sizeof(item)); i++)
        TRY(parse_weight(item, &weight));
    return check_options(config);
}

const struct config_section reward_config_section = {
    .name = "reward",
    .help = "What completions are rewarded for.",
    .fields = fields,
    .check = check_config,
};

int reward_terms(const struct reward_config *config, int64_t step, int64_t n_steps,
                 struct reward_term *terms)
{
    char item[CONFIG_TEXT_BYTES], weight[CONFIG_TEXT_BYTES];
    int64_t last = config->preference_last_steps;
    int n = 0;

    for (size_t i = 0; n < WIRE_MAX_REWARDS &&
                       config_list_item(config->reward_funcs, i, item, sizeof(item)); i++) {
        struct reward_term *term = &terms[n];
        if (last > 0 && step < n_steps - last && strcmp(item, "preference") == 0)
            continue;
        memset(term, 0, sizeof(*term));
        memcpy(term->name, item, strnlen(item, WIRE_NAME_BYTES - 1));
        term->weight = 1;
        if (config_list_item(config->reward_weights, i, weight, sizeof(weight)))
            TRY(parse_weight(weight, &term->weight));
        n++;
    }
    return n;
}
