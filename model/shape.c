#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/status.h"
#include "model/internal.h"

struct family_words {
    const char *architecture, *model_type;
};

static const struct family_words families[] = {
    [MODEL_LLAMA] = {"LlamaForCausalLM", "llama"},
    [MODEL_QWEN2] = {"Qwen2ForCausalLM", "qwen2"},
    [MODEL_QWEN3] = {"Qwen3ForCausalLM", "qwen3"},
    [MODEL_MISTRAL] = {"MistralForCausalLM", "mistral"},
};
#define N_FAMILIES ((int)(sizeof(families) / sizeof(families[0])))
#define SUPPORTED                                                                                  \
    "LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM and Qwen3ForCausalLM are supported"

/* Large enough for every open model; small enough that no product of them overflows. */
#define MAX_LAYERS 1024
#define MAX_HEADS 1024
#define MAX_HEAD_DIM 1024
#define MAX_CHANNELS 65536
#define MAX_HIDDEN (1 << 20)
#define MAX_VOCAB 10000000
#define MAX_POSITIONS (1 << 24)

static int read_bounded(const json_t *config, const char *key, const char *where, int64_t minimum,
                        int64_t maximum, int *out)
{
    int64_t value = 0;

    TRY(json_get_int(config, key, where, &value));
    if (value < minimum || value > maximum)
        return status_fail(STATUS_FORMAT, "%s: \"%s\" is %lld; %lld to %lld is wanted", where, key,
                           (long long)value, (long long)minimum, (long long)maximum);
    *out = (int)value;
    return STATUS_OK;
}

static int has_value(const json_t *config, const char *key)
{
    const json_t *value = json_object_get(config, key);

    return value && !json_is_null(value);
}

static int parse_family(const json_t *config, const char *where, enum model_family *family)
{
    const json_t *architectures = json_object_get(config, "architectures");
    const char *architecture = NULL, *model_type = NULL;

    if (has_value(config, "architectures")) {
        architecture = json_string_value(json_array_get(architectures, 0));
        if (json_array_size(architectures) != 1 || !architecture)
            return status_fail(STATUS_FORMAT, "%s: \"architectures\" is not a list of one name",
                               where);
    }
    TRY(json_get_text_or(config, "model_type", where, NULL, &model_type));
    if (!architecture && !model_type)
        return status_fail(STATUS_FORMAT, "%s: neither \"architectures\" nor \"model_type\" is "
                           "there; " SUPPORTED, where);
    for (int i = 0; i < N_FAMILIES; i++) {
        const struct family_words *words = &families[i];
        if (architecture ? strcmp(architecture, words->architecture) != 0
                         : strcmp(model_type, words->model_type) != 0)
            continue;
        if (model_type && strcmp(model_type, words->model_type) != 0)
            return status_fail(STATUS_FORMAT, "%s: \"model_type\" is \"%s\", which does not "
                               "belong to %s", where, model_type, words->architecture);
        *family = (enum model_family)i;
        return STATUS_OK;
    }
    return status_fail(STATUS_UNSUPPORTED, "%s: \"%s\" is \"%s\"; " SUPPORTED, where,
                       architecture ? "architectures" : "model_type",
                       architecture ? architecture : model_type);
}

static int refuse_flag(const json_t *config, const char *key, const char *where)
{
    int on = 0;

    TRY(json_get_bool_or(config, key, where, 0, &on));
    if (on)
        return status_fail(STATUS_UNSUPPORTED, "%s: \"%s\" is true; only false is supported",
                           where, key);
    return STATUS_OK;
}

int shape_refuse_other_number(const json_t *config, const char *key, const char *where,
                              double wanted)
{
    double value = wanted;

    TRY(json_get_real_or(config, key, where, wanted, &value));
    if (value != wanted)
        return status_fail(STATUS_UNSUPPORTED, "%s: \"%s\" is %g; only %g is supported", where, key,
                           value, wanted);
    return STATUS_OK;
}

/* Keys of other families that change the maths, and the number with which each does nothing (false
 * counts as 0). A config that says Llama and has one of these is not a plain Llama. */
static const struct foreign_key {
    const char *name;
    double harmless;
} foreign_keys[] = {
    {"attention_chunk_size", 0},     {"attention_multiplier", 0}, {"attention_scaling", 1},
    {"attn_logit_softcapping", 0},   {"clip_qkv", 0},             {"dim_model_base", 0},
    {"embedding_multiplier", 1},     {"final_logit_softcapping", 0}, {"logit_scale", 1},
    {"logits_scaling", 1},           {"moe_intermediate_size", 0}, {"n_routed_experts", 0},
    {"no_rope_layer_interval", 0},   {"no_rope_layers", 0},       {"num_experts", 0},
    {"num_local_experts", 0},        {"parallel_attn", 0},        {"q_lora_rank", 0},
    {"qk_layernorm", 0},             {"quantization_config", 0},  {"query_pre_attn_scalar", 0},
    {"residual_multiplier", 1},      {"rope_interleave", 0},      {"rope_interleaved", 0},
    {"scale_depth", 0},              {"scale_emb", 1},            {"use_mrope", 0},
    {"partial_rotary_factor", 1},    {"mlp_bias", 0},
};

static int refuse_foreign_keys(const json_t *config, const char *where)
{
    for (size_t i = 0; i < sizeof(foreign_keys) / sizeof(foreign_keys[0]); i++) {
        const struct foreign_key *key = &foreign_keys[i];
        const json_t *value = json_object_get(config, key->name);
        if (!value || json_is_null(value) || (json_is_false(value) && key->harmless == 0) ||
            (json_is_number(value) && json_number_value(value) == key->harmless))
            continue;
        return status_fail(STATUS_UNSUPPORTED, "%s: \"%s\" is set and would change the model's "
                           "results; no model with it is supported", where, key->name);
    }
    return STATUS_OK;
}

/* A window as long as the longest sequence hides nothing. */
static int parse_window(const json_t *config, const struct model_shape *shape, const char *where,
                        int *is_harmless)
{
    /* What transformers takes where there is no such key; null is no window. */
    int64_t window = shape->family == MODEL_LLAMA ? 0 : 4096;
    int is_used = shape->family == MODEL_MISTRAL;

    if (has_value(config, "sliding_window"))
        TRY(json_get_int(config, "sliding_window", where, &window));
    else if (json_object_get(config, "sliding_window"))
        window = INT64_MAX;
    *is_harmless = window >= shape->max_positions;
    if (shape->family != MODEL_MISTRAL)
        TRY(json_get_bool_or(config, "use_sliding_window", where, 0, &is_used));
    if (is_used && !*is_harmless)
        return status_fail(STATUS_UNSUPPORTED, "%s: %s\"sliding_window\" %lld is shorter than "
                           "\"max_position_embeddings\" %d and would change the results, which "
                           "is not supported; lower \"max_position_embeddings\" to the window if "
                           "shorter sequences are enough", where,
                           shape->family == MODEL_MISTRAL ? "" : "\"use_sliding_window\" is true, ",
                           (long long)window, shape->max_positions);
    return STATUS_OK;
}

static int check_windows(const json_t *config, const struct model_shape *shape, const char *where)
{
    const json_t *types = json_object_get(config, "layer_types");
    int is_harmless;
    size_t i;
    const json_t *type;

    TRY(parse_window(config, shape, where, &is_harmless));
    if (!has_value(config, "layer_types"))
        return STATUS_OK;
    if (!json_is_array(types))
        return status_fail(STATUS_FORMAT, "%s: \"layer_types\" is not a list", where);
    json_array_foreach(types, i, type) {
        const char *name = json_string_value(type);
        if (name && is_harmless && strcmp(name, "sliding_attention") == 0)
            continue;
        if (!name || strcmp(name, "full_attention") != 0)
            return status_fail(STATUS_UNSUPPORTED, "%s: \"layer_types\" has \"%s\"; only "
                               "\"full_attention\" is supported", where, name ? name : "?");
    }
    return STATUS_OK;
}

/* Everything that would change the maths and that is not there. */
static int refuse_unsupported(const json_t *config, const struct model_shape *shape,
                              const char *where)
{
    const char *activation;

    TRY(json_get_text_or(config, "hidden_act", where, "silu", &activation));
    if (strcmp(activation, "silu") != 0)
        return status_fail(STATUS_UNSUPPORTED, "%s: \"hidden_act\" is \"%s\"; only \"silu\" is "
                           "supported", where, activation);
    if (shape->family != MODEL_QWEN2)   /* it has its q, k and v biases whatever this key says */
        TRY(refuse_flag(config, "attention_bias", where));
    TRY(shape_refuse_other_number(config, "attention_dropout", where, 0.0));
    TRY(refuse_foreign_keys(config, where));
    return check_windows(config, shape, where);
}

static int parse_heads(struct model_shape *shape, const json_t *config, const char *where)
{
    TRY(read_bounded(config, "num_attention_heads", where, 1, MAX_HEADS, &shape->n_heads));
    shape->n_kv_heads = shape->n_heads;
    if (has_value(config, "num_key_value_heads") || shape->family != MODEL_LLAMA)
        TRY(read_bounded(config, "num_key_value_heads", where, 1, MAX_HEADS, &shape->n_kv_heads));
    if (shape->n_heads % shape->n_kv_heads)
        return status_fail(STATUS_FORMAT, "%s: \"num_attention_heads\" %d is no multiple of "
                           "\"num_key_value_heads\" %d", where, shape->n_heads, shape->n_kv_heads);
    if (has_value(config, "head_dim"))
        TRY(read_bounded(config, "head_dim", where, 2, MAX_HEAD_DIM, &shape->head_dim));
    else if (shape->family == MODEL_QWEN3)
        shape->head_dim = 128;   /* the default of transformers' Qwen3Config */
    else if (shape->channels % shape->n_heads)
        return status_fail(STATUS_FORMAT, "%s: \"hidden_size\" %d is no multiple of "
                           "\"num_attention_heads\" %d", where, shape->channels, shape->n_heads);
    else
        shape->head_dim = shape->channels / shape->n_heads;
    if (shape->head_dim < 2 || shape->head_dim % 2 || shape->head_dim > MAX_HEAD_DIM)
        return status_fail(STATUS_FORMAT, "%s: the head width is %d; an even number of 2 to %d is "
                           "wanted", where, shape->head_dim, MAX_HEAD_DIM);
    return STATUS_OK;
}

static int parse_config(struct model_shape *shape, const json_t *config, const char *where)
{
    TRY(parse_family(config, where, &shape->family));
    TRY(read_bounded(config, "hidden_size", where, 1, MAX_CHANNELS, &shape->channels));
    TRY(read_bounded(config, "intermediate_size", where, 1, MAX_HIDDEN, &shape->hidden_channels));
    TRY(read_bounded(config, "num_hidden_layers", where, 1, MAX_LAYERS, &shape->n_layers));
    TRY(read_bounded(config, "vocab_size", where, 1, MAX_VOCAB, &shape->vocab_size));
    TRY(read_bounded(config, "max_position_embeddings", where, 1, MAX_POSITIONS,
                     &shape->max_positions));
    TRY(refuse_unsupported(config, shape, where));
    TRY(parse_heads(shape, config, where));
    TRY(rope_parse(shape, config, where));
    TRY(json_get_real_or(config, "rms_norm_eps", where, 1e-6, &shape->norm_eps));
    if (!(shape->norm_eps >= 0.0 && shape->norm_eps <= 1.0))
        return status_fail(STATUS_FORMAT, "%s: \"rms_norm_eps\" is %g; 0 to 1 is wanted", where,
                           shape->norm_eps);
    TRY(json_get_bool_or(config, "tie_word_embeddings", where, 0, &shape->tied_head));
    shape->qkv_bias = shape->family == MODEL_QWEN2;
    shape->qk_norm = shape->family == MODEL_QWEN3;
    return STATUS_OK;
}

int model_shape_parse(struct model_shape *shape, const char *json, size_t n, const char *where)
{
    json_t *config = NULL;
    int status;

    memset(shape, 0, sizeof(*shape));
    TRY(json_parse(&config, json, n, where));
    if (json_is_object(config))
        status = parse_config(shape, config, where);
    else
        status = status_fail(STATUS_FORMAT, "%s: not a JSON object", where);
    json_decref(config);
    return status;
}

/* The shortest decimal that reads back as the same double, and looks like a real. */
void shape_print_real(struct text *out, double value)
{
    char number[32];

    for (int digits = 6; digits <= 17; digits++) {
        snprintf(number, sizeof(number), "%.*g", digits, value);
        if (strtod(number, NULL) == value)
            break;
    }
    text_print(out, "%s%s", number, strpbrk(number, ".e") ? "" : ".0");
}

static void print_id(struct text *out, const char *key, int id)
{
    if (id < 0)
        text_print(out, "  \"%s\": null,\n", key);
    else
        text_print(out, "  \"%s\": %d,\n", key, id);
}

void shape_print(const struct model_shape *shape, int bos_id, int eos_id, enum dtype dtype,
                 struct text *out)
{
    const struct family_words *words = &families[shape->family];

    text_print(out, "{\n  \"architectures\": [\"%s\"],\n", words->architecture);
    text_print(out, "  \"model_type\": \"%s\",\n", words->model_type);
    print_id(out, "bos_token_id", bos_id);
    print_id(out, "eos_token_id", eos_id);
    text_print(out, "  \"hidden_act\": \"silu\",\n");
    text_print(out, "  \"hidden_size\": %d,\n", shape->channels);
    text_print(out, "  \"intermediate_size\": %d,\n", shape->hidden_channels);
    text_print(out, "  \"num_hidden_layers\": %d,\n", shape->n_layers);
    text_print(out, "  \"num_attention_heads\": %d,\n", shape->n_heads);
    text_print(out, "  \"num_key_value_heads\": %d,\n", shape->n_kv_heads);
    text_print(out, "  \"head_dim\": %d,\n", shape->head_dim);
    text_print(out, "  \"max_position_embeddings\": %d,\n", shape->max_positions);
    text_print(out, "  \"rms_norm_eps\": ");
    shape_print_real(out, shape->norm_eps);
    text_print(out, ",\n");
    rope_print(shape, out);
    if (shape->family != MODEL_LLAMA)   /* an absent key would mean 4096 */
        text_print(out, "  \"sliding_window\": null,\n");
    text_print(out, "  \"attention_bias\": false,\n");
    text_print(out, "  \"tie_word_embeddings\": %s,\n", shape->tied_head ? "true" : "false");
    text_print(out, "  \"torch_dtype\": \"%s\",\n",
               dtype == DTYPE_BF16 ? "bfloat16" : "float32");
    text_print(out, "  \"vocab_size\": %d\n}\n", shape->vocab_size);
}

void model_shape_print(const struct model_shape *shape, int bos_id, int eos_id, struct text *out)
{
    shape_print(shape, bos_id, eos_id, DTYPE_F32, out);
}

int64_t model_shape_parameters(const struct model_shape *shape)
{
    int64_t C = shape->channels, F = shape->hidden_channels, D = shape->head_dim;
    int64_t q_width = shape->n_heads * D, kv_width = shape->n_kv_heads * D;
    int64_t layer = 2 * C + 2 * q_width * C + 2 * kv_width * C + 3 * F * C;

    if (shape->qkv_bias)
        layer += q_width + 2 * kv_width;
    if (shape->qk_norm)
        layer += 2 * D;
    return (shape->tied_head ? 1 : 2) * shape->vocab_size * C + shape->n_layers * layer + C;
}
