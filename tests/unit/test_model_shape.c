#include "test_model_support.h"

static const char minimal[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":64,\"intermediate_size\":128,"
    "\"num_hidden_layers\":2,\"num_attention_heads\":4,\"vocab_size\":100,"
    "\"max_position_embeddings\":256";

/* The minimal config with more keys (' stands for "). */
static int parse_with(struct model_shape *shape, const char *more)
{
    struct text json = {0};

    text_print(&json, "%s%s%s}", minimal, more[0] ? "," : "", more);
    for (size_t i = 0; i < json.length; i++)
        if (json.data[i] == '\'')
            json.data[i] = '"';
    int status = model_shape_parse(shape, json.data, json.length, "config.json");
    text_release(&json);
    return status;
}

static int parse_text(struct model_shape *shape, const char *source)
{
    char *json = mem_copy_text(source);

    for (char *at = json; *at; at++)
        if (*at == '\'')
            *at = '"';
    int status = model_shape_parse(shape, json, strlen(json), "config.json");
    mem_free(json);
    return status;
}

static void assert_reason(const char *wanted)
{
    if (!strstr(status_reason(), wanted))
        fail_msg("\"%s\" has no \"%s\"", status_reason(), wanted);
}

static void missing_keys_take_the_defaults_of_transformers(void **state)
{
    (void)state;
    struct model_shape shape;

    REQUIRE_OK(parse_with(&shape, ""));
    assert_int_equal(shape.family, MODEL_LLAMA);
    assert_int_equal(shape.n_kv_heads, 4);
    assert_int_equal(shape.head_dim, 16);
    assert_int_equal(shape.tied_head, 0);
    assert_int_equal(shape.qkv_bias, 0);
    assert_int_equal(shape.qk_norm, 0);
    assert_true(shape.rope_base == 10000.0 && shape.norm_eps == 1e-6);
    REQUIRE_OK(parse_with(&shape, "'num_key_value_heads':null,'head_dim':null,"
                          "'rope_scaling':null"));
    REQUIRE_OK(parse_with(&shape, "'model_type':'llama','head_dim':32,'num_key_value_heads':1,"
                          "'rope_theta':500000,'tie_word_embeddings':true,'sliding_window':4096,"
                          "'use_sliding_window':false,'layer_types':['full_attention']"));
    assert_int_equal(shape.head_dim, 32);
    assert_int_equal(shape.n_kv_heads, 1);
    assert_int_equal(shape.tied_head, 1);
    assert_true(shape.rope_base == 500000.0);
    REQUIRE_OK(parse_with(&shape, "'rope_parameters':{'rope_type':'default','rope_theta':5e5}"));
    assert_true(shape.rope_base == 500000.0);
}

static void unsupported_keys_are_refused_by_name(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"'rope_scaling':{'rope_type':'longrope','factor':8.0}", "longrope"},
        {"'rope_parameters':{'full_attention':{'rope_type':'yarn'}}", "full_attention"},
        {"'rope_scaling':{'type':'linear','factor':2.0,'mrope_section':[1]}", "mrope_section"},
        {"'rope_scaling':{'type':'yarn','factor':2.0,'truncate':false}", "truncate"},
        {"'rope_scaling':{'type':'yarn','factor':2.0,'original_max_position_embeddings':256}",
         "set \"max_position_embeddings\" to 512"},
        {"'rope_scaling':{'type':'dynamic','factor':2.0,'original_max_position_embeddings':128}",
         "original_max_position_embeddings"},
        {"'use_sliding_window':true", "use_sliding_window"},
        {"'use_sliding_window':true,'sliding_window':255", "sliding_window"},
        {"'num_local_experts':8", "num_local_experts"},
        {"'attn_logit_softcapping':50.0", "attn_logit_softcapping"},
        {"'residual_multiplier':0.22", "residual_multiplier"},
        {"'qk_layernorm':true", "qk_layernorm"},
        {"'layer_types':['full_attention','sliding_attention']", "sliding_attention"},
        {"'hidden_act':'gelu'", "hidden_act"},
        {"'attention_bias':true", "attention_bias"},
        {"'mlp_bias':true", "mlp_bias"},
        {"'partial_rotary_factor':0.5", "partial_rotary_factor"},
        {"'attention_dropout':0.1", "attention_dropout"},
        {"'quantization_config':{}", "quantization_config"},
    };
    struct model_shape shape;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(parse_with(&shape, cases[i][0]), STATUS_UNSUPPORTED);
        assert_reason(cases[i][1]);
    }
}

static void keys_of_other_families_that_do_nothing_are_accepted(void **state)
{
    (void)state;
    struct model_shape shape;

    REQUIRE_OK(parse_with(&shape, "'num_experts':0,'qk_layernorm':false,'logit_scale':1.0,"
                          "'quantization_config':null,'use_sliding_window':true,"
                          "'sliding_window':256,'layer_types':['sliding_attention']"));
}

/* Mistral with or without its window; transformers takes 4096 where there is no such key. */
static void a_window_is_refused_when_it_would_change_results(void **state)
{
    (void)state;
    static const struct {
        const char *keys;
        int status;
    } cases[] = {
        {"'max_position_embeddings':4096,'sliding_window':4096", STATUS_OK},
        {"'max_position_embeddings':4096,'sliding_window':null", STATUS_OK},
        {"'max_position_embeddings':32768,'sliding_window':null", STATUS_OK},
        {"'max_position_embeddings':4096", STATUS_OK},
        {"'max_position_embeddings':4097", STATUS_UNSUPPORTED},
        {"'max_position_embeddings':32768,'sliding_window':4096", STATUS_UNSUPPORTED},
        {"'max_position_embeddings':32768,'sliding_window':'a'", STATUS_FORMAT},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct model_shape shape;
        struct text json = {0};
        text_print(&json, "{'architectures':['MistralForCausalLM'],'hidden_size':64,"
                   "'intermediate_size':128,'num_hidden_layers':2,'num_attention_heads':4,"
                   "'num_key_value_heads':2,'vocab_size':100,%s}", cases[i].keys);
        assert_int_equal(parse_text(&shape, json.data), cases[i].status);
        if (cases[i].status < 0)
            assert_reason("\"sliding_window\"");
        else
            assert_int_equal(shape.family, MODEL_MISTRAL);
        text_release(&json);
    }
}

static void rope_scaling_is_read_in_both_spellings(void **state)
{
    (void)state;
    static const char *const same[] = {
        "'rope_theta':5e5,'rope_scaling':{'rope_type':'llama3','factor':8.0,'low_freq_factor':1.0,"
        "'high_freq_factor':4.0,'original_max_position_embeddings':32}",
        "'rope_theta':5e5,'rope_scaling':{'type':'llama3','rope_type':'llama3','factor':8,"
        "'low_freq_factor':1,'high_freq_factor':4,'original_max_position_embeddings':32}",
        "'rope_parameters':{'rope_type':'llama3','rope_theta':5e5,'factor':8.0,"
        "'low_freq_factor':1.0,'high_freq_factor':4.0,'original_max_position_embeddings':32}",
    };
    struct text first = {0}, other = {0};
    struct model_shape shape;

    for (size_t i = 0; i < 3; i++) {
        struct text *out = i ? &other : &first;
        text_clear(out);
        REQUIRE_OK(parse_with(&shape, same[i]));
        model_shape_print(&shape, -1, 1, out);
        assert_string_equal(first.data, out->data);
    }
    assert_non_null(strstr(first.data, "\"rope_type\": \"llama3\",\n    \"factor\": 8.0,\n    "
                                       "\"original_max_position_embeddings\": 32,\n"));
    text_release(&first);
    text_release(&other);
}

static void rope_scaling_that_is_wrong_is_refused_by_key(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"'rope_scaling':'linear'", "rope_scaling"},
        {"'rope_scaling':{'type':'linear'}", "\"factor\" of the rope scaling \"linear\" is mi"},
        {"'rope_scaling':{'type':'linear','factor':0.5}", "factor"},
        {"'rope_scaling':{'type':'linear','factor':'a'}", "factor"},
        {"'rope_scaling':{'type':'linear','rope_type':'yarn','factor':2}", "type"},
        {"'rope_scaling':{'type':'llama3','factor':2.0}", "original_max_position_embeddings"},
        {"'rope_scaling':{'type':'llama3','factor':2.0,'original_max_position_embeddings':1.5,"
         "'low_freq_factor':1,'high_freq_factor':2}", "whole"},
        {"'rope_scaling':{'type':'llama3','factor':2.0,'original_max_position_embeddings':8,"
         "'low_freq_factor':4,'high_freq_factor':4}", "high_freq_factor"},
        {"'rope_theta':1.0,'rope_scaling':{'type':'yarn','factor':2.0}", "rope_theta"},
        {"'rope_theta':1e4,'rope_parameters':{'rope_theta':1e5}", "rope_theta"},
        {"'rope_scaling':{'type':'linear','factor':2},'rope_parameters':{}", "both"},
    };
    struct model_shape shape;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(parse_with(&shape, cases[i][0]), STATUS_FORMAT);
        assert_reason(cases[i][1]);
    }
}

static void families_are_recognised_and_others_refused(void **state)
{
    (void)state;
    struct model_shape shape;

    assert_int_equal(parse_text(&shape, "{'architectures':['GemmaForCausalLM']}"),
                     STATUS_UNSUPPORTED);
    assert_reason("GemmaForCausalLM");
    assert_int_equal(parse_text(&shape, "{'model_type':'gpt2'}"), STATUS_UNSUPPORTED);
    assert_reason("gpt2");
    assert_int_equal(parse_text(&shape, "{'architectures':['LlamaForCausalLM'],"
                                "'model_type':'qwen2'}"), STATUS_FORMAT);
    assert_int_equal(parse_text(&shape, "{'architectures':[]}"), STATUS_FORMAT);
    assert_int_equal(parse_text(&shape, "{'architectures':'LlamaForCausalLM'}"), STATUS_FORMAT);
    assert_int_equal(parse_text(&shape, "{}"), STATUS_FORMAT);
    assert_int_equal(parse_text(&shape, "[]"), STATUS_FORMAT);
    assert_int_equal(parse_text(&shape, "{"), STATUS_FORMAT);
    assert_int_equal(parse_text(&shape, "{'model_type':'qwen3','hidden_size':64,"
                                "'intermediate_size':128,'num_hidden_layers':2,"
                                "'num_attention_heads':4,'num_key_value_heads':2,"
                                "'vocab_size':100,'max_position_embeddings':256}"), STATUS_OK);
    assert_int_equal(shape.head_dim, 128);
    assert_int_equal(shape.qk_norm, 1);
}

static void hostile_numbers_are_refused_by_key(void **state)
{
    (void)state;
    static const char *const keys[] = {
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "head_dim", "vocab_size", "max_position_embeddings",
    };
    static const char *const values[] = {"0", "-1", "2147483648", "9223372036854775807", "1.5",
                                         "\"4\"", "true", "[]"};
    char json[1024];
    struct model_shape shape;

    for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++) {
        for (size_t v = 0; v < sizeof(values) / sizeof(values[0]); v++) {
            int n = snprintf(json, sizeof(json), "{\"model_type\":\"llama\"");
            for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
                n += snprintf(json + n, sizeof(json) - (size_t)n, ",\"%s\":%s", keys[i],
                              i == k ? values[v] : "8");
            snprintf(json + n, sizeof(json) - (size_t)n, "}");
            assert_int_equal(model_shape_parse(&shape, json, strlen(json), "c"), STATUS_FORMAT);
            assert_reason(keys[k]);
        }
    }
    assert_int_equal(parse_with(&shape, "'num_key_value_heads':3"), STATUS_FORMAT);
    assert_int_equal(parse_with(&shape, "'head_dim':7"), STATUS_FORMAT);
    assert_int_equal(parse_with(&shape, "'rms_norm_eps':-1"), STATUS_FORMAT);
    assert_int_equal(parse_with(&shape, "'rms_norm_eps':'a'"), STATUS_FORMAT);
    assert_int_equal(parse_with(&shape, "'rope_theta':0"), STATUS_FORMAT);
    assert_int_equal(parse_with(&shape, "'rope_theta':1e300"), STATUS_FORMAT);
}

static void what_is_printed_is_parsed_back(void **state)
{
    (void)state;
    for (int family = MODEL_LLAMA; family <= MODEL_MISTRAL; family++) {
        struct model_shape shape = small_shape((enum model_family)family), back;
        struct text first = {0}, second = {0};
        shape.norm_eps = 1e-5 + 1e-19;
        shape.rope_base = 1000000.0;
        shape.rope_scaling = (struct rope_scaling){
            .kind = ROPE_YARN, .factor = 4.1, .attention_factor = 1.25, .beta_fast = 16.0,
            .beta_slow = 2.5, .mscale = 1.0, .mscale_all_dim = 0.7};
        if (family == MODEL_MISTRAL)
            shape.rope_scaling = (struct rope_scaling){.kind = ROPE_DEFAULT};
        model_shape_print(&shape, -1, 7, &first);
        REQUIRE_OK(model_shape_parse(&back, first.data, first.length, "printed"));
        model_shape_print(&back, -1, 7, &second);
        assert_string_equal(first.data, second.data);
        assert_true(back.norm_eps == shape.norm_eps && back.rope_base == shape.rope_base);
        assert_int_equal(back.head_dim, shape.head_dim);
        assert_memory_equal(&back.rope_scaling, &shape.rope_scaling, sizeof(shape.rope_scaling));
        assert_int_equal(model_shape_parameters(&back), model_shape_parameters(&shape));
        assert_non_null(strstr(first.data, "\"eos_token_id\": 7"));
        assert_non_null(strstr(first.data, "\"bos_token_id\": null"));
        text_release(&first);
        text_release(&second);
    }
}

static void the_number_of_parameters_is_that_of_the_weights(void **state)
{
    (void)state;
    struct ops *ops = open_device("reference");

    for (int family = MODEL_LLAMA; family <= MODEL_MISTRAL; family++) {
        struct model *model = make_model(ops, (enum model_family)family);
        int64_t n = 0;
        for (size_t i = 0; i < model_n_weights(model); i++) {
            struct tensor weight, gradient;
            model_weight(model, i, &weight, &gradient);
            n += tensor_count(&weight);
        }
        assert_int_equal(model_shape_parameters(model_shape(model)), n);
        model_destroy(&model);
    }
    ops_destroy(&ops);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(missing_keys_take_the_defaults_of_transformers),
        cmocka_unit_test(unsupported_keys_are_refused_by_name),
        cmocka_unit_test(keys_of_other_families_that_do_nothing_are_accepted),
        cmocka_unit_test(a_window_is_refused_when_it_would_change_results),
        cmocka_unit_test(rope_scaling_is_read_in_both_spellings),
        cmocka_unit_test(rope_scaling_that_is_wrong_is_refused_by_key),
        cmocka_unit_test(families_are_recognised_and_others_refused),
        cmocka_unit_test(hostile_numbers_are_refused_by_key),
        cmocka_unit_test(what_is_printed_is_parsed_back),
        cmocka_unit_test(the_number_of_parameters_is_that_of_the_weights),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
