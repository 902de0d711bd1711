/* Runs with bfloat16 weights and with adapters: exact against rollout, resumable, exportable. */
#include <signal.h>

#include "tests/integration/support.h"

static struct place place;

/* zero trains adapters, rl adapters on rounded weights against a reference; coldstart trains
 * rounded weights, align rounded ones without masters. */
#define PRECISION                                                                                  \
    "--set", "zero:lora.r=4", "--set", "zero:grpo.tasks_per_step=32", "--set",                     \
        "coldstart:optimizer.bf16=true", "--set", "rl:lora.r=2", "--set",                          \
        "rl:lora.target_modules=q_proj,down_proj", "--set", "rl:optimizer.bf16=true", "--set",     \
        "rl:grpo.beta=0.01", "--set", "align:optimizer.bf16=true", "--set",                        \
        "align:optimizer.stochastic_rounding=true"

static int make_place(void **state)
{
    struct program program;

    (void)state;
    place_make(&place);
    HONE(&program, &place, "run", RECIPE, "--run", "run/quiet", PRECISION);
    assert_ends(&program, 0, "stage distill is done");
    return 0;
}

static int remove_place(void **state)
{
    (void)state;
    place_remove(&place);
    return 0;
}

static void rollout_and_learner_agree_to_the_bit(void **state)
{
    static const char *const stages[] = {"zero", "rl", "align"};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        char sql[512];
        snprintf(sql, sizeof(sql), "SELECT count(*) FROM v_metric WHERE stage = '%s' AND name = "
                 "'sampling/sampling_logp_difference/max' AND value = 0.0", stages[i]);
        assert_true(ask_number(&place, "run/quiet", sql) >= 2);
        snprintf(sql, sizeof(sql), "SELECT count(*) FROM v_metric WHERE stage = '%s' AND name = "
                 "'sampling/sampling_logp_difference/max' AND value != 0.0", stages[i]);
        assert_int_equal(ask_number(&place, "run/quiet", sql), 0);
    }
}

/* The file of a stage's last checkpoint. */
static void read_last(const char *stage, const char *name, struct text *out)
{
    char sql[256];

    snprintf(sql, sizeof(sql), "SELECT c.path FROM checkpoint c JOIN stage s ON s.id = c.stage_id "
             "WHERE s.name = '%s' ORDER BY c.step DESC LIMIT 1", stage);
    char *path = ask(&place, "run/quiet", sql);
    path[strcspn(path, "\n")] = '\0';
    assert_int_equal(file_read(in_place(&place, "run/quiet/%s/%s", path, name), 1 << 24, out), 0);
    mem_free(path);
}

/* Readers of its checkpoint are told to round; the stage after it reads masters. */
static void a_bf16_checkpoint_says_so(void **state)
{
    static const char *const stages[] = {"coldstart", "align"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct text config = {0};
        read_last(stages[i], "config.json", &config);
        assert_non_null(strstr(config.data, "\"torch_dtype\": \"bfloat16\""));
        text_release(&config);
    }
}

/* Numbers of a checkpoint's weights that bfloat16 does not have. */
static size_t count_finer(const char *stage)
{
    struct text file = {0};
    uint64_t header;
    size_t n = 0;

    read_last(stage, "model.safetensors", &file);
    memcpy(&header, file.data, sizeof(header));
    for (size_t at = sizeof(header) + header; at < file.length; at += 4)
        n += file.data[at] || file.data[at + 1];
    text_release(&file);
    return n;
}

static void weights_without_masters_are_bfloat16(void **state)
{
    (void)state;
    assert_true(count_finer("coldstart") > 1000);
    assert_int_equal(count_finer("align"), 0);
}

/* Killed in stages with adapters and gone on with; activations computed again on the way. */
static void a_killed_run_ends_with_the_same_bytes(void **state)
{
    static const struct {
        const char *stage;
        long step;
    } kills[] = {{"zero", 1}, {"zero", 3}, {"rl", 2}, {"align", 1}, {"align", 3}};
    struct program program;

    (void)state;
    for (size_t i = 0; i < sizeof(kills) / sizeof(kills[0]); i++) {
        if (i == 0)
            START(&program, &place, "run", RECIPE, "--run", "run/killed", PRECISION, "--set",
                  "optimizer.gradient_checkpointing=true", "--set", "rollout.workers=3");
        else
            START(&program, &place, "run", "--run", "run/killed");
        WAIT_UNTIL(steps_of(&place, "run/killed", kills[i].stage) >= kills[i].step ||
                   !is_running(&program));
        kill(program.pid, SIGKILL);
        wait_for_exit(&program);
        WAIT_UNTIL(count_processes(&place) == 0);
    }
    HONE(&program, &place, "run", "--run", "run/killed");
    assert_ends(&program, 0, "stage distill is done");
    assert_same_runs(&place, "run/quiet", "run/killed");
}

static void adapters_are_exported_as_a_peft_folder(void **state)
{
    struct program program;
    struct text config = {0};

    (void)state;
    HONE(&program, &place, "export", "adapter", "--run", "run/quiet", "--stage", "rl", "--out",
         "out");
    assert_ends(&program, 0, "wrote out");
    assert_int_equal(file_read(in_place(&place, "out/adapter_config.json"), 1 << 16, &config), 0);
    assert_non_null(strstr(config.data, "\"target_modules\": [\"q_proj\", \"down_proj\"]"));
    assert_non_null(strstr(config.data, "\"r\": 2"));
    text_release(&config);
    assert_true(file_exists(in_place(&place, "out/adapter_model.safetensors")));
    assert_true(file_exists(in_place(&place, "out/tokenizer.json")));
    HONE(&program, &place, "export", "adapter", "--run", "run/quiet", "--stage", "base", "--out",
         "other");
    assert_ends(&program, 2, "trained all weights");
    assert_false(file_exists(in_place(&place, "other")));
}

static void a_new_model_with_adapters_is_refused(void **state)
{
    struct program program;

    (void)state;
    HONE(&program, &place, "run", RECIPE, "--run", "run/new", "--set", "base:lora.r=4");
    assert_ends(&program, 2, "lora.r");
    HONE(&program, &place, "plan", RECIPE, "--set", "zero:lora.r=4", "--set",
         "zero:lora.target_modules=q_prj");
    assert_ends(&program, 2, "did you mean \"q_proj\"");
}

static void rounding_of_what_is_not_rounded_is_refused(void **state)
{
    struct program program;

    (void)state;
    HONE(&program, &place, "plan", RECIPE, "--set", "align:optimizer.stochastic_rounding=true");
    assert_ends(&program, 2, "set optimizer.bf16=true");
    HONE(&program, &place, "plan", RECIPE, "--set", "rl:optimizer.bf16=true", "--set",
         "rl:optimizer.stochastic_rounding=true", "--set", "rl:lora.r=2");
    assert_ends(&program, 2, "adapters stay float32");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rollout_and_learner_agree_to_the_bit),
        cmocka_unit_test(a_bf16_checkpoint_says_so),
        cmocka_unit_test(weights_without_masters_are_bfloat16),
        cmocka_unit_test(a_killed_run_ends_with_the_same_bytes),
        cmocka_unit_test(adapters_are_exported_as_a_peft_folder),
        cmocka_unit_test(a_new_model_with_adapters_is_refused),
        cmocka_unit_test(rounding_of_what_is_not_rounded_is_refused),
    };

    return cmocka_run_group_tests(tests, make_place, remove_place);
}
