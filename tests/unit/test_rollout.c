#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <malloc.h>
#include <math.h>

#include "test_rollout.h"

#define N_TASKS 7
#define MAX_PROMPT 32
#define MAX_COMPLETION 48

static const char *const prompts[N_TASKS] = {
    "What is 1 + 1?", "a", "Count to ten.", "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz",
    "Say it.",        "?", "1 2 3 4 5 6 7",
};

static int setup(void **state)
{
    return tiny_rollout_open((struct tiny_rollout **)state, 128);
}

static void open_rollout(struct tiny_rollout *f, int max_sequences)
{
    /* From a few tokens of a prompt at a time to all prompts at once. */
    int max_tokens = max_sequences * max_sequences;
    const struct rollout_limits limits = {max_sequences, MAX_PROMPT, MAX_COMPLETION, max_tokens, 0};

    rollout_destroy(&f->rollout);
    assert_int_equal(rollout_create(&f->rollout, f->model, f->tokenizer, 1, &limits), STATUS_OK);
}

/* Steps until idle and files each group under its lease. */
static void finish_all(struct tiny_rollout *f, struct sample_group *groups, size_t n_groups)
{
    struct wire_group group;
    int n, n_steps = 0;

    do {
        n = rollout_step(f->rollout);
        assert_true(n >= 0);
        assert_true(n_steps++ < 10000);
        while (rollout_take(f->rollout, &f->arena, &group) > 0) {
            assert_true(group.lease < n_groups);
            assert_null(groups[group.lease].samples);
            groups[group.lease] = group.group;
        }
    } while (n > 0);
}

static void sample_all(struct tiny_rollout *f, const struct sampling *sampling, int backwards,
                       struct sample_group *groups)
{
    memset(groups, 0, N_TASKS * sizeof(*groups));
    for (int i = 0; i < N_TASKS; i++) {
        int at = backwards ? N_TASKS - 1 - i : i;
        struct task task = tiny_task(1000 + (uint64_t)at, prompts[at]);
        assert_int_equal(rollout_submit(f->rollout, (uint64_t)at, &task, sampling), STATUS_OK);
    }
    finish_all(f, groups, N_TASKS);
}

static void assert_same_samples(const struct sample_group *a, const struct sample_group *b)
{
    assert_int_equal(a->task.id, b->task.id);
    assert_int_equal(a->n_samples, b->n_samples);
    for (uint32_t i = 0; i < a->n_samples; i++) {
        const struct sample *x = &a->samples[i], *y = &b->samples[i];
        assert_int_equal(x->finish, y->finish);
        assert_int_equal(x->n_tokens, y->n_tokens);
        assert_memory_equal(x->tokens, y->tokens, x->n_tokens * sizeof(int32_t));
        assert_memory_equal(x->logprobs, y->logprobs, x->n_tokens * sizeof(float));
        assert_int_equal(x->text.bytes, y->text.bytes);
        assert_memory_equal(x->text.data, y->text.data, x->text.bytes);
    }
}

static void samples_do_not_depend_on_batch_size_or_order(void **state)
{
    static const int sizes[] = {1, 3, 8};
    struct sample_group wanted[N_TASKS], found[N_TASKS];
    struct tiny_rollout *f = *state;
    struct sampling sampling = tiny_sampling();

    open_rollout(f, 64);
    sample_all(f, &sampling, 0, wanted);
    for (int i = 0; i < 3; i++) {
        open_rollout(f, sizes[i]);
        sample_all(f, &sampling, i % 2, found);
        for (int j = 0; j < N_TASKS; j++)
            assert_same_samples(&found[j], &wanted[j]);
        sample_all(f, &sampling, !(i % 2), found);   /* with slots that were used before */
        for (int j = 0; j < N_TASKS; j++)
            assert_same_samples(&found[j], &wanted[j]);
    }
}

static void samples_do_not_depend_on_threads(void **state)
{
    struct sample_group wanted[N_TASKS], found[N_TASKS];
    struct tiny_rollout *f = *state, two = {0};
    struct sampling sampling = tiny_sampling();

    sampling.top_p = 0.95f;
    sampling.top_k = 50;
    open_rollout(f, 16);
    sample_all(f, &sampling, 0, wanted);
    arena_init(&two.arena, (size_t)64 << 20);
    assert_int_equal(ops_create(&two.ops, "cpu", 2), STATUS_OK);
    assert_int_equal(create_tiny_model(&two.model, two.ops, 3), STATUS_OK);
    two.tokenizer = f->tokenizer;
    open_rollout(&two, 16);
    sample_all(&two, &sampling, 0, found);
    for (int j = 0; j < N_TASKS; j++)
        assert_same_samples(&found[j], &wanted[j]);
    rollout_destroy(&two.rollout);
    model_destroy(&two.model);
    ops_destroy(&two.ops);
    arena_release(&two.arena);
}

static void samples_of_one_group_differ_and_so_do_seeds(void **state)
{
    struct sample_group first[N_TASKS], second[N_TASKS];
    struct tiny_rollout *f = *state;
    struct sampling sampling = tiny_sampling();

    open_rollout(f, 16);
    sample_all(f, &sampling, 0, first);
    sampling.seed++;
    sample_all(f, &sampling, 0, second);
    const struct sample *a = &first[0].samples[0], *b = &first[0].samples[1];
    assert_memory_not_equal(a->tokens, b->tokens, 4 * sizeof(int32_t));
    assert_memory_not_equal(a->tokens, second[0].samples[0].tokens, 4 * sizeof(int32_t));
}

/* The whole sequence in one forward pass, as the learner computes it. */
static void assert_learner_agrees(struct tiny_rollout *f, struct model_tape *tape,
                                  const struct sample_group *group, const struct sample *sample,
                                  float temperature)
{
    int32_t tokens[MAX_PROMPT + MAX_COMPLETION], positions[MAX_PROMPT + MAX_COMPLETION];
    int32_t rows[MAX_COMPLETION], segments[2] = {0, 0};
    float logprobs[MAX_COMPLETION];
    int n_prompt = (int)group->n_prompt, n = (int)sample->n_tokens;

    memcpy(tokens, group->prompt_tokens, (size_t)n_prompt * sizeof(int32_t));
    memcpy(tokens + n_prompt, sample->tokens, (size_t)n * sizeof(int32_t));
    for (int i = 0; i < n_prompt + n; i++)
        positions[i] = i;
    for (int i = 0; i < n; i++)
        rows[i] = n_prompt - 1 + i;
    segments[1] = n_prompt + n;
    struct model_batch batch = {n_prompt + n, 1, n, tokens, positions, segments, rows,
                                sample->tokens, NULL};
    assert_int_equal(model_forward(f->model, tape, &batch, temperature, 0, logprobs, NULL),
                     STATUS_OK);
    assert_memory_equal(logprobs, sample->logprobs, (size_t)n * sizeof(float));
}

static void logprobs_are_the_learners_bit_for_bit(void **state)
{
    struct sample_group groups[N_TASKS];
    struct tiny_rollout *f = *state;
    struct sampling sampling = tiny_sampling();
    struct model_tape *tape;

    open_rollout(f, 8);
    sampling.top_p = 0.9f;   /* the log-probability is that of the whole distribution */
    sample_all(f, &sampling, 0, groups);
    assert_int_equal(model_tape_create(&tape, f->model), STATUS_OK);
    for (int i = 0; i < N_TASKS; i++)
        for (uint32_t j = 0; j < groups[i].n_samples; j++)
            assert_learner_agrees(f, tape, &groups[i], &groups[i].samples[j], 0.9f);
    model_tape_destroy(&tape);
}

static void samples_stop_at_the_end_token_or_at_their_length(void **state)
{
    struct sample_group groups[N_TASKS];
    struct tiny_rollout *f = *state;
    struct sampling sampling = tiny_sampling();
    int n_eos = 0, n_length = 0;

    sampling.num_generations = 40;
    open_rollout(f, 64);
    sample_all(f, &sampling, 0, groups);
    for (int i = 0; i < N_TASKS; i++) {
        for (uint32_t j = 0; j < groups[i].n_samples; j++) {
            const struct sample *s = &groups[i].samples[j];
            int ended = s->tokens[s->n_tokens - 1] == TINY_EOS;
            assert_int_equal(s->finish, ended ? SAMPLE_FINISH_EOS : SAMPLE_FINISH_LENGTH);
            assert_true(ended || s->n_tokens == sampling.max_completion_length);
            for (uint32_t t = 0; t + 1 < s->n_tokens; t++)
                assert_int_not_equal(s->tokens[t], TINY_EOS);
            n_eos += ended;
            n_length += !ended;
        }
    }
    assert_true(n_eos > 0 && n_length > 0);
}

/* Each id of the list ends a completion, ordinary bytes too, and its text is not the text's. */
static void samples_stop_at_each_id_of_a_list(void **state)
{
    static const int32_t stops[] = {'e', TINY_EOS, ' ', 200, 'Q'};
    enum { N_STOPS = sizeof(stops) / sizeof(stops[0]) };
    struct sample_group groups[N_TASKS];
    struct tiny_rollout *f = *state;
    struct sampling sampling = tiny_sampling();
    int n_ended[N_STOPS] = {0};

    sampling.num_generations = 200;
    open_rollout(f, 64);
    assert_int_equal(rollout_set_stops(f->rollout, stops, N_STOPS), STATUS_OK);
    sample_all(f, &sampling, 0, groups);
    for (int i = 0; i < N_TASKS; i++)
        for (uint32_t j = 0; j < groups[i].n_samples; j++) {
            const struct sample *s = &groups[i].samples[j];
            int ended = 0;
            for (int k = 0; k < N_STOPS; k++) {
                n_ended[k] += s->tokens[s->n_tokens - 1] == stops[k];
                ended += s->tokens[s->n_tokens - 1] == stops[k];
                for (uint32_t t = 0; t + 1 < s->n_tokens; t++)
                    assert_int_not_equal(s->tokens[t], stops[k]);
                if (stops[k] < 256)
                    assert_null(memchr(s->text.data, stops[k], s->text.bytes));
            }
            assert_int_equal(s->finish, ended ? SAMPLE_FINISH_EOS : SAMPLE_FINISH_LENGTH);
        }
    for (int k = 0; k < N_STOPS; k++)
        assert_true(n_ended[k] > 0);
}

static void without_a_stop_id_samples_have_their_whole_length(void **state)
{
    struct sample_group groups[N_TASKS];
    struct tiny_rollout *f = *state;
    struct sampling sampling = tiny_sampling();

    sampling.num_generations = 40;
    open_rollout(f, 64);
    assert_int_equal(rollout_set_stops(f->rollout, NULL, 0), STATUS_OK);
    sample_all(f, &sampling, 0, groups);
    for (int i = 0; i < N_TASKS; i++)
        for (uint32_t j = 0; j < groups[i].n_samples; j++)
            assert_int_equal(groups[i].samples[j].n_tokens, sampling.max_completion_length);
}

static void stop_ids_outside_the_vocabulary_are_refused(void **state)
{
    int32_t many[WIRE_MAX_STOPS + 1] = {0};
    const int32_t negative[] = {1, -1}, large[] = {1, TINY_VOCAB};
    struct tiny_rollout *f = *state;

    open_rollout(f, 2);
    assert_int_equal(rollout_set_stops(f->rollout, negative, 2), STATUS_FORMAT);
    assert_int_equal(rollout_set_stops(f->rollout, large, 2), STATUS_FORMAT);
    assert_non_null(strstr(status_reason(), "260"));
    assert_int_equal(rollout_set_stops(f->rollout, many, WIRE_MAX_STOPS + 1), STATUS_FORMAT);
    assert_int_equal(rollout_set_stops(f->rollout, many, WIRE_MAX_STOPS), STATUS_OK);
}

static void text_is_the_tokens_without_special_ones(void **state)
{
    struct sample_group groups[N_TASKS];
    struct tiny_rollout *f = *state;
    struct sampling sampling = tiny_sampling();

    open_rollout(f, 64);
    sample_all(f, &sampling, 0, groups);
    for (int i = 0; i < N_TASKS; i++) {
        assert_int_equal(groups[i].n_prompt, strlen(prompts[i]));
        for (uint32_t j = 0; j < groups[i].n_samples; j++) {
            const struct sample *s = &groups[i].samples[j];
            uint32_t n = 0;
            for (uint32_t t = 0; t < s->n_tokens; t++) {
                assert_int_equal(s->weight_versions[t], 1);
                assert_true(isfinite(s->logprobs[t]) && s->logprobs[t] <= 0);
                if (s->tokens[t] < 256)
                    assert_int_equal((unsigned char)s->text.data[n++], s->tokens[t]);
            }
            assert_int_equal(s->text.bytes, n);
        }
    }
}

static void greedy_samples_are_all_alike(void **state)
{
    struct sample_group groups[N_TASKS];
    struct tiny_rollout *f = *state;
    struct sampling sampling = tiny_sampling();
    struct model_tape *tape;

    sampling.temperature = 0;
    open_rollout(f, 8);
    sample_all(f, &sampling, 0, groups);
    assert_int_equal(model_tape_create(&tape, f->model), STATUS_OK);
    for (uint32_t j = 1; j < groups[0].n_samples; j++)
        assert_memory_equal(groups[0].samples[0].tokens, groups[0].samples[j].tokens,
                            groups[0].samples[0].n_tokens * sizeof(int32_t));
    assert_learner_agrees(f, tape, &groups[0], &groups[0].samples[0], 1);
    model_tape_destroy(&tape);
}

static void one_token_completions_need_no_decoding(void **state)
{
    struct sample_group groups[N_TASKS];
    struct tiny_rollout *f = *state;
    struct sampling sampling = tiny_sampling();

    sampling.max_completion_length = 1;
    open_rollout(f, 2);
    sample_all(f, &sampling, 0, groups);
    for (int i = 0; i < N_TASKS; i++)
        for (uint32_t j = 0; j < groups[i].n_samples; j++)
            assert_int_equal(groups[i].samples[j].n_tokens, 1);
}

static void a_prompt_is_computed_once_for_all_its_samples(void **state)
{
    struct sample_group groups[1] = {{.n_samples = 0}};
    struct tiny_rollout *f = *state;
    struct task task = tiny_task(1, "a");
    struct sampling sampling = tiny_sampling();

    /* Room for two sequences, yet one step gives 64 first tokens: all from one prompt's logits. */
    sampling.num_generations = 64;
    sampling.max_completion_length = 1;
    open_rollout(f, 2);
    assert_int_equal(rollout_submit(f->rollout, 0, &task, &sampling), STATUS_OK);
    assert_int_equal(rollout_step(f->rollout), 0);
    finish_all(f, groups, 1);
    assert_int_equal(groups[0].n_samples, 64);
}

static void groups_of_different_sampling_run_side_by_side(void **state)
{
    struct sample_group mixed[3] = {{.n_samples = 0}}, alone[3] = {{.n_samples = 0}};
    struct tiny_rollout *f = *state;
    struct sampling samplings[3] = {tiny_sampling(), tiny_sampling(), tiny_sampling()};

    samplings[1].num_generations = 20;
    samplings[1].temperature = 0;
    samplings[2].max_completion_length = 3;
    samplings[2].top_k = 2;
    open_rollout(f, 7);
    for (uint64_t i = 0; i < 3; i++) {
        struct task task = tiny_task(i, prompts[i]);
        assert_int_equal(rollout_submit(f->rollout, i, &task, &samplings[i]), STATUS_OK);
    }
    finish_all(f, mixed, 3);
    for (uint64_t i = 0; i < 3; i++) {
        struct task task = tiny_task(i, prompts[i]);
        assert_int_equal(rollout_submit(f->rollout, i, &task, &samplings[i]), STATUS_OK);
        finish_all(f, alone, 3);
        assert_same_samples(&mixed[i], &alone[i]);
    }
}

static void a_task_that_cannot_be_done_disturbs_nobody(void **state)
{
    struct sample_group wanted[N_TASKS], found[N_TASKS];
    struct tiny_rollout *f = *state;
    struct sampling sampling = tiny_sampling();
    struct task too_long = tiny_task(5, "This prompt has more than thirty-two bytes.");
    struct task empty = tiny_task(6, "");

    open_rollout(f, 8);
    sample_all(f, &sampling, 0, wanted);
    memset(found, 0, sizeof(found));
    for (uint64_t i = 0; i < N_TASKS; i++) {
        struct task task = tiny_task(1000 + i, prompts[i]);
        assert_int_equal(rollout_submit(f->rollout, i, &task, &sampling), STATUS_OK);
        assert_true(rollout_step(f->rollout) > 0);
        assert_int_equal(rollout_submit(f->rollout, 9, &too_long, &sampling), STATUS_FORMAT);
        assert_non_null(strstr(status_reason(), "43 tokens"));
        assert_int_equal(rollout_submit(f->rollout, 9, &empty, &sampling), STATUS_FORMAT);
    }
    finish_all(f, found, N_TASKS);
    for (int j = 0; j < N_TASKS; j++)
        assert_same_samples(&found[j], &wanted[j]);
}

static void sampling_out_of_bounds_is_refused(void **state)
{
    struct tiny_rollout *f = *state;
    struct task task = tiny_task(1, "a");
    const struct sampling good = tiny_sampling();
    struct sampling bad[9];

    for (int i = 0; i < 9; i++)
        bad[i] = good;
    bad[0].num_generations = 0;
    bad[1].num_generations = 4097;
    bad[2].max_completion_length = 0;
    bad[3].max_completion_length = MAX_COMPLETION + 1;
    bad[4].temperature = -1;
    bad[5].temperature = NAN;
    bad[6].top_p = 0;
    bad[7].top_p = NAN;
    bad[8].top_p = 1.5f;
    open_rollout(f, 4);
    for (int i = 0; i < 9; i++)
        assert_int_equal(rollout_submit(f->rollout, 1, &task, &bad[i]), STATUS_FORMAT);
    assert_int_equal(rollout_step(f->rollout), 0);
}

static void a_lease_of_another_policy_names_both_versions(void **state)
{
    struct tiny_rollout *f = *state;
    struct task task = tiny_task(1, "a");
    struct sampling sampling = tiny_sampling();

    sampling.weight_version = 77;
    open_rollout(f, 4);
    assert_int_equal(rollout_submit(f->rollout, 1, &task, &sampling), STATUS_VERSION);
    assert_non_null(strstr(status_reason(), "version 77"));
    assert_non_null(strstr(status_reason(), "version 1"));
}

static void the_policy_changes_only_when_idle(void **state)
{
    struct sample_group groups[1] = {{.n_samples = 0}};
    struct tiny_rollout *f = *state;
    struct task task = tiny_task(1, "a");
    struct sampling sampling = tiny_sampling();

    open_rollout(f, 4);
    assert_int_equal(rollout_submit(f->rollout, 0, &task, &sampling), STATUS_OK);
    assert_int_equal(rollout_set_version(f->rollout, 2), STATUS_FAILED);
    finish_all(f, groups, 1);
    assert_int_equal(rollout_set_version(f->rollout, 2), STATUS_OK);
    assert_int_equal(rollout_submit(f->rollout, 0, &task, &sampling), STATUS_VERSION);
    sampling.weight_version = 2;
    assert_int_equal(rollout_submit(f->rollout, 0, &task, &sampling), STATUS_OK);
}

static void a_group_that_does_not_fit_is_named_and_dropped(void **state)
{
    struct tiny_rollout *f = *state;
    struct task task = tiny_task(1, "a");
    struct sampling sampling = tiny_sampling();
    struct wire_group group;
    struct arena small;

    arena_init(&small, 100);
    open_rollout(f, 8);
    assert_int_equal(rollout_submit(f->rollout, 42, &task, &sampling), STATUS_OK);
    while (rollout_step(f->rollout) > 0)
        continue;
    assert_int_equal(rollout_take(f->rollout, &small, &group), STATUS_NOMEM);
    assert_int_equal(group.lease, 42);
    assert_int_equal(rollout_take(f->rollout, &f->arena, &group), 0);
    arena_release(&small);
}

static void a_completion_beyond_the_models_positions_is_refused(void **state)
{
    struct tiny_rollout *f = *state;
    struct task task = tiny_task(1, prompts[3]);
    struct sampling sampling = tiny_sampling();
    const struct rollout_limits limits = {2, MAX_PROMPT, 200, 64, 0};

    assert_int_equal(rollout_create(&f->rollout, f->model, f->tokenizer, 1, &limits), STATUS_OK);
    sampling.max_completion_length = 97;
    assert_int_equal(rollout_submit(f->rollout, 1, &task, &sampling), STATUS_FORMAT);
    assert_non_null(strstr(status_reason(), "128 positions"));
    sampling.max_completion_length = 96;
    assert_int_equal(rollout_submit(f->rollout, 1, &task, &sampling), STATUS_OK);
    while (rollout_step(f->rollout) > 0)
        continue;
}

static size_t heap_bytes(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

static void nothing_is_allocated_per_token(void **state)
{
    struct sample_group groups[N_TASKS];
    struct tiny_rollout *f = *state;
    struct task task = tiny_task(1, "a");
    struct sampling sampling = tiny_sampling();
    struct wire_group group;

    open_rollout(f, 8);
    sample_all(f, &sampling, 0, groups);
    assert_int_equal(rollout_submit(f->rollout, 0, &task, &sampling), STATUS_OK);
    size_t before = heap_bytes();
    while (rollout_step(f->rollout) > 0)
        assert_int_equal(heap_bytes(), before);
    assert_int_equal(rollout_take(f->rollout, &f->arena, &group), 1);
}

static void the_defaults_are_those_of_trl(void **state)
{
    struct rollout_config config;
    struct config_binding binding = {&rollout_config_section, &config};

    (void)state;
    config_set_defaults(&binding, 1);
    assert_int_equal(config.num_generations, 8);
    assert_int_equal(config.max_prompt_length, 512);
    assert_int_equal(config.max_completion_length, 256);
    assert_true(config.temperature == 1.0 && config.top_p == 1.0);
    assert_int_equal(config.top_k, 0);
    assert_string_equal(rollout_devices[config.device], "cpu");
    assert_int_equal(config_override("rollout.top_p=0", &binding, 1), STATUS_CONFIG);
    assert_int_equal(config_override("rollout.device=reference", &binding, 1), STATUS_OK);
    assert_string_equal(rollout_devices[config.device], "reference");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, tiny_rollout_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(samples_do_not_depend_on_batch_size_or_order),
        TEST(samples_do_not_depend_on_threads),
        TEST(samples_of_one_group_differ_and_so_do_seeds),
        TEST(logprobs_are_the_learners_bit_for_bit),
        TEST(samples_stop_at_the_end_token_or_at_their_length),
        TEST(samples_stop_at_each_id_of_a_list),
        TEST(without_a_stop_id_samples_have_their_whole_length),
        TEST(stop_ids_outside_the_vocabulary_are_refused),
        TEST(text_is_the_tokens_without_special_ones),
        TEST(greedy_samples_are_all_alike),
        TEST(one_token_completions_need_no_decoding),
        TEST(a_prompt_is_computed_once_for_all_its_samples),
        TEST(groups_of_different_sampling_run_side_by_side),
        TEST(a_task_that_cannot_be_done_disturbs_nobody),
        TEST(sampling_out_of_bounds_is_refused),
        TEST(a_lease_of_another_policy_names_both_versions),
        TEST(the_policy_changes_only_when_idle),
        TEST(a_group_that_does_not_fit_is_named_and_dropped),
        TEST(a_completion_beyond_the_models_positions_is_refused),
        TEST(nothing_is_allocated_per_token),
        cmocka_unit_test(the_defaults_are_those_of_trl),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
