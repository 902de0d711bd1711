/*
 * Rotary positions: Su et al., "RoFormer" (2021), and the ways to stretch them. config.json says
 * which, as "rope_scaling" beside "rope_theta" (transformers 4) or with it in "rope_parameters"
 * (transformers 5). The frequencies are those of transformers, in its order of float32 roundings:
 * at long positions that is part of a model.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/status.h"
#include "model/internal.h"

static const char *const kind_names[] = {
    [ROPE_DEFAULT] = "default", [ROPE_LINEAR] = "linear", [ROPE_DYNAMIC] = "dynamic",
    [ROPE_LLAMA3] = "llama3",   [ROPE_YARN] = "yarn",
};
#define N_KINDS ((int)(sizeof(kind_names) / sizeof(kind_names[0])))

#define LINEAR (1u << ROPE_LINEAR)
#define DYNAMIC (1u << ROPE_DYNAMIC)
#define LLAMA3 (1u << ROPE_LLAMA3)
#define YARN (1u << ROPE_YARN)
#define ALL (LINEAR | DYNAMIC | LLAMA3 | YARN)

/* The keys, which kinds know them, which need them, and the range of values. */
static const struct rope_key {
    const char *name;
    size_t offset;
    unsigned known, needed;
    double minimum, maximum;
} keys[] = {
    {"factor", offsetof(struct rope_scaling, factor), ALL, ALL, 1.0, 1e6},
    {"original_max_position_embeddings", offsetof(struct rope_scaling, original_positions), ALL,
     LLAMA3, 1.0, 1e9},
    {"low_freq_factor", offsetof(struct rope_scaling, low_freq_factor), LLAMA3, LLAMA3, 1e-6, 1e6},
    {"high_freq_factor", offsetof(struct rope_scaling, high_freq_factor), LLAMA3, LLAMA3, 1e-6,
     1e6},
    {"attention_factor", offsetof(struct rope_scaling, attention_factor), YARN, 0, 1e-6, 1e6},
    {"beta_fast", offsetof(struct rope_scaling, beta_fast), YARN, 0, 0.0, 1e6},
    {"beta_slow", offsetof(struct rope_scaling, beta_slow), YARN, 0, 0.0, 1e6},
    {"mscale", offsetof(struct rope_scaling, mscale), YARN, 0, 0.0, 1e6},
    {"mscale_all_dim", offsetof(struct rope_scaling, mscale_all_dim), YARN, 0, 0.0, 1e6},
};
#define N_KEYS (sizeof(keys) / sizeof(keys[0]))

static double *field_of(struct rope_scaling *scaling, const struct rope_key *key)
{
    return (double *)(void *)((char *)scaling + key->offset);
}

static double value_of(const struct rope_scaling *scaling, const struct rope_key *key)
{
    double value;

    memcpy(&value, (const char *)scaling + key->offset, sizeof(value));
    return value;
}

static int has_value(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);

    return value && !json_is_null(value);
}

static int parse_kind(enum rope_kind *kind, const json_t *rope, const char *where)
{
    const char *type, *old;

    TRY(json_get_text_or(rope, "type", where, NULL, &old));   /* the name of earlier releases */
    TRY(json_get_text_or(rope, "rope_type", where, old ? old : "default", &type));
    if (old && strcmp(old, type) != 0)
        return status_fail(STATUS_FORMAT, "%s: \"rope_type\" is \"%s\", but \"type\" is \"%s\"",
                           where, type, old);
    for (int i = 0; i < N_KINDS; i++) {
        *kind = (enum rope_kind)i;
        if (strcmp(type, kind_names[i]) == 0)
            return STATUS_OK;
    }
    return status_fail(STATUS_UNSUPPORTED, "%s: \"rope_type\" is \"%s\"; default, linear, dynamic, "
                       "llama3 and yarn are supported", where, type);
}

static const struct rope_key *find_key(const char *name)
{
    for (size_t i = 0; i < N_KEYS; i++)
        if (strcmp(keys[i].name, name) == 0)
            return &keys[i];
    return NULL;
}

static int refuse_unknown_keys(const json_t *rope, enum rope_kind kind, const char *where)
{
    static const char *const others[] = {"type", "rope_type", "rope_theta",
                                         "partial_rotary_factor", "truncate"};
    void *at = json_object_iter((json_t *)(uintptr_t)rope);

    for (; at; at = json_object_iter_next((json_t *)(uintptr_t)rope, at)) {
        const char *name = json_object_iter_key(at);
        const struct rope_key *key = find_key(name);
        int known = key && (key->known >> kind & 1u);
        for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
            known |= strcmp(name, others[i]) == 0;
        if (!known && !json_is_null(json_object_iter_value(at)))
            return status_fail(STATUS_UNSUPPORTED, "%s: key \"%s\" of the rope scaling \"%s\" is "
                               "unknown", where, name, kind_names[kind]);
    }
    return STATUS_OK;
}

static int parse_keys(struct rope_scaling *scaling, const json_t *rope, const char *where)
{
    for (size_t i = 0; i < N_KEYS; i++) {
        const struct rope_key *key = &keys[i];
        double value;
        if (!(key->known >> scaling->kind & 1u))
            continue;
        TRY(json_get_real_or(rope, key->name, where, 0.0, &value));
        int is_missing = !has_value(rope, key->name);
        if (is_missing && !(key->needed >> scaling->kind & 1u))
            continue;
        if (is_missing)
            return status_fail(STATUS_FORMAT, "%s: \"%s\" of the rope scaling \"%s\" is missing",
                               where, key->name, kind_names[scaling->kind]);
        if (!(value >= key->minimum && value <= key->maximum))
            return status_fail(STATUS_FORMAT, "%s: \"%s\" of the rope scaling \"%s\" is %g; %g to "
                               "%g is wanted", where, key->name, kind_names[scaling->kind], value,
                               key->minimum, key->maximum);
        *field_of(scaling, key) = value;
    }
    if (scaling->original_positions != floor(scaling->original_positions))
        return status_fail(STATUS_FORMAT, "%s: \"original_max_position_embeddings\" is %g; a whole "
                           "number is wanted", where, scaling->original_positions);
    return STATUS_OK;
}

/* What would divide by 0, or mean one thing here and another in some release of transformers. */
static int check_scaling(const struct model_shape *shape, const char *where)
{
    const struct rope_scaling *scaling = &shape->rope_scaling;
    double original = scaling->original_positions, ratio = shape->max_positions / original;

    if (scaling->kind == ROPE_LLAMA3 && scaling->high_freq_factor <= scaling->low_freq_factor)
        return status_fail(STATUS_FORMAT, "%s: \"high_freq_factor\" %g is not above "
                           "\"low_freq_factor\" %g", where, scaling->high_freq_factor,
                           scaling->low_freq_factor);
    if (scaling->kind == ROPE_YARN && shape->rope_base <= 1.0)
        return status_fail(STATUS_FORMAT, "%s: \"rope_theta\" is %g; yarn wants more than 1", where,
                           shape->rope_base);
    if (scaling->kind == ROPE_YARN && original > 0.0 &&
        fabs(ratio - scaling->factor) > 1e-9 * scaling->factor)
        return status_fail(STATUS_UNSUPPORTED, "%s: \"max_position_embeddings\" %d is %g times "
                           "\"original_max_position_embeddings\", but \"factor\" is %g: programs "
                           "differ in which they believe; set \"max_position_embeddings\" to %.0f",
                           where, shape->max_positions, ratio, scaling->factor,
                           original * scaling->factor);
    if (scaling->kind == ROPE_DYNAMIC && original > 0.0 && original != shape->max_positions)
        return status_fail(STATUS_UNSUPPORTED, "%s: \"original_max_position_embeddings\" of the "
                           "rope scaling \"dynamic\" is %.0f; only \"max_position_embeddings\" %d "
                           "is supported", where, original, shape->max_positions);
    return STATUS_OK;
}

static int parse_scaling(struct model_shape *shape, const json_t *rope, const char *where)
{
    struct rope_scaling *scaling = &shape->rope_scaling;
    int truncate;

    if (!json_is_object(rope))
        return status_fail(STATUS_FORMAT, "%s: \"rope_scaling\" or \"rope_parameters\" is not an "
                           "object", where);
    TRY(parse_kind(&scaling->kind, rope, where));
    TRY(refuse_unknown_keys(rope, scaling->kind, where));
    TRY(shape_refuse_other_number(rope, "partial_rotary_factor", where, 1.0));
    TRY(json_get_bool_or(rope, "truncate", where, 1, &truncate));
    if (!truncate)
        return status_fail(STATUS_UNSUPPORTED, "%s: \"truncate\" of the rope scaling is false; "
                           "only true is supported", where);
    TRY(json_get_real_or(rope, "rope_theta", where, shape->rope_base, &shape->rope_base));
    return parse_keys(scaling, rope, where);
}

int rope_parse(struct model_shape *shape, const json_t *config, const char *where)
{
    const json_t *scaling = json_object_get(config, "rope_scaling");
    const json_t *parameters = json_object_get(config, "rope_parameters");
    double base;

    shape->rope_base = 10000.0;
    if (json_is_null(scaling))
        scaling = NULL;
    if (json_is_null(parameters))
        parameters = NULL;
    if (scaling && parameters && !json_equal(scaling, parameters))
        return status_fail(STATUS_FORMAT, "%s: \"rope_scaling\" and \"rope_parameters\" are both "
                           "set and differ", where);
    if (scaling || parameters)
        TRY(parse_scaling(shape, scaling ? scaling : parameters, where));
    TRY(json_get_real_or(config, "rope_theta", where, shape->rope_base, &base));
    if (has_value(scaling ? scaling : parameters, "rope_theta") && base != shape->rope_base)
        return status_fail(STATUS_FORMAT, "%s: \"rope_theta\" is %g, but %g beside \"rope_type\"",
                           where, base, shape->rope_base);
    shape->rope_base = base;
    if (!(base >= 1.0 && base <= 1e12))
        return status_fail(STATUS_FORMAT, "%s: \"rope_theta\" is %g; 1 to 1e12 is wanted", where,
                           base);
    return check_scaling(shape, where);
}

void rope_print(const struct model_shape *shape, struct text *out)
{
    const struct rope_scaling *scaling = &shape->rope_scaling;

    text_print(out, "  \"rope_theta\": ");
    shape_print_real(out, shape->rope_base);
    if (scaling->kind == ROPE_DEFAULT) {
        text_print(out, ",\n  \"rope_scaling\": null,\n");
        return;
    }
    text_print(out, ",\n  \"rope_scaling\": {\n    \"rope_type\": \"%s\"",
               kind_names[scaling->kind]);
    for (size_t i = 0; i < N_KEYS; i++) {
        double value = value_of(scaling, &keys[i]);
        if (value == 0.0)
            continue;
        text_print(out, ",\n    \"%s\": ", keys[i].name);
        if (keys[i].offset == offsetof(struct rope_scaling, original_positions))
            text_print(out, "%.0f", value);   /* transformers wants an integer here alone */
        else
            shape_print_real(out, value);
    }
    text_print(out, "\n  },\n");
}

/* ---- Frequencies. */

/* base^(2i/D) with the exponent in float32, as transformers has it. */
static float rope_power(const struct model_shape *shape, int i)
{
    return (float)pow((float)shape->rope_base, (float)(2 * i) / (float)shape->head_dim);
}

/* Frequencies up to a wavelength stay, those beyond another are divided, between them both are
 * mixed: "The Llama 3 Herd of Models" (2024). */
static float bend_llama3(const struct rope_scaling *scaling, float frequency)
{
    float wavelength = (float)(2.0 * M_PI) / frequency;
    double original = scaling->original_positions;

    if (wavelength < original / scaling->high_freq_factor)
        return frequency;
    if (wavelength > original / scaling->low_freq_factor)
        return frequency / (float)scaling->factor;
    float smooth = ((float)original / wavelength - (float)scaling->low_freq_factor) /
                   (float)(scaling->high_freq_factor - scaling->low_freq_factor);
    return (1.0f - smooth) * frequency / (float)scaling->factor + smooth * frequency;
}

/* Peng et al., "YaRN" (2023): the pair that turns this often within the original length. */
static double yarn_pair(const struct model_shape *shape, double turns)
{
    double original = shape->rope_scaling.original_positions;

    if (original == 0.0)
        original = shape->max_positions;
    return shape->head_dim * log(original / (turns * 2.0 * M_PI)) / (2.0 * log(shape->rope_base));
}

static float yarn_magnitude(double factor, double mscale)
{
    return factor <= 1.0 ? 1.0f : (float)(0.1 * mscale * log(factor) + 1.0);
}

static float bend_yarn(const struct model_shape *shape, float *frequencies)
{
    const struct rope_scaling *scaling = &shape->rope_scaling;
    double fast = scaling->beta_fast > 0.0 ? scaling->beta_fast : 32.0;
    double slow = scaling->beta_slow > 0.0 ? scaling->beta_slow : 1.0;
    double low = fmax(floor(yarn_pair(shape, fast)), 0.0);
    double high = fmin(ceil(yarn_pair(shape, slow)), shape->head_dim - 1);

    if (low == high)
        high += 0.001;
    for (int i = 0; i < shape->head_dim / 2; i++) {
        float ramp = (float)((i - low) / (high - low));
        float keep = 1.0f - fminf(fmaxf(ramp, 0.0f), 1.0f);
        float divided = 1.0f / ((float)scaling->factor * rope_power(shape, i));
        frequencies[i] = divided * (1.0f - keep) + frequencies[i] * keep;
    }
    if (scaling->attention_factor > 0.0)
        return (float)scaling->attention_factor;
    if (scaling->mscale > 0.0 && scaling->mscale_all_dim > 0.0)
        return yarn_magnitude(scaling->factor, scaling->mscale) /
               yarn_magnitude(scaling->factor, scaling->mscale_all_dim);
    return yarn_magnitude(scaling->factor, 1.0);
}

float rope_frequencies(const struct model_shape *shape, float *frequencies)
{
    const struct rope_scaling *scaling = &shape->rope_scaling;
    int half = shape->head_dim / 2;

    for (int i = 0; i < half; i++) {
        /* The plain one is rounded once, the others as transformers does. */
        if (scaling->kind == ROPE_DEFAULT)
            frequencies[i] = (float)pow(shape->rope_base, -2.0 * i / shape->head_dim);
        else
            frequencies[i] = 1.0f / rope_power(shape, i);
        if (scaling->kind == ROPE_LINEAR)
            frequencies[i] /= (float)scaling->factor;
        else if (scaling->kind == ROPE_LLAMA3)
            frequencies[i] = bend_llama3(scaling, frequencies[i]);
    }
    /* "dynamic" bends beyond max_position_embeddings alone, where no position is let in. */
    return scaling->kind == ROPE_YARN ? bend_yarn(shape, frequencies) : 1.0f;
}
