/* A fake run in a temporary directory: base, zero from it, coldstart from both. */
#ifndef HONE_TESTS_UNIT_TEST_REPORT_H
#define HONE_TESTS_UNIT_TEST_REPORT_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/files.h"
#include "common/json.h"
#include "common/status.h"
#include "pipeline/report.h"
#include "pipeline/run_store.h"

static char directory[32];
static struct text out;

/* ---- A fake run: base -> zero -> (dataset) -> coldstart from base. */

static inline struct wire_text text_of(const char *bytes)
{
    return (struct wire_text){bytes, (uint32_t)strlen(bytes)};
}

static inline void put_group(struct run_store *store, int64_t stage, int64_t step,
                             const char *purpose)
{
    int32_t tokens[] = {1, 2};
    float logprobs[] = {-0.5f, -0.5f};
    uint32_t versions[] = {1, 1};
    struct reward_term rewards[] = {{"accuracy", 1.0f}, {"format", 0.2f}};
    struct score scores[3][2] = {{{1, OUTCOME_RIGHT, "6"}, {1, OUTCOME_RIGHT, ""}},
                                 {{0, OUTCOME_WRONG, "1 is not 6"}, {1, OUTCOME_RIGHT, ""}},
                                 {{0, OUTCOME_UNREADABLE, "no <answer>"}, {0, OUTCOME_WRONG, ""}}};
    const char *texts[] = {"3+8=1,1+5=6</think>\n<answer>6</answer>", "<answer>1</answer>",
                           "ring\x07 \x1b[31mred & <b>"};
    float values[] = {1.2f, 0.2f, 0.0f};
    struct sample samples[3];

    for (int i = 0; i < 3; i++)
        samples[i] = (struct sample){.finish = i == 2 ? SAMPLE_FINISH_LENGTH : SAMPLE_FINISH_EOS,
                                     .n_tokens = 2, .tokens = tokens, .logprobs = logprobs,
                                     .weight_versions = versions, .text = text_of(texts[i]),
                                     .scores = scores[i], .reward = values[i],
                                     .advantage = values[i] - 0.5f, .masked = i == 2};
    struct sample_group group = {.n_samples = 3, .samples = samples, .n_rewards = 2,
                                 .rewards = rewards};
    group.task.id = 0xabcdef;
    snprintf(group.task.kind, sizeof(group.task.kind), "chain");
    group.task.question = text_of("3+8+5");
    group.task.prompt = text_of("User: 3+8+5\nAssistant:");
    group.task.reference = text_of("6");
    assert_int_equal(run_store_put_step(store, stage, step, 0.5, NULL, 0, purpose, &group, 1),
                     STATUS_OK);
}

static inline void put_steps(struct run_store *store, int64_t stage, int64_t n, int is_rl,
                             double pass)
{
    for (int64_t step = 1; step <= n; step++) {
        const struct metric_value metrics[] = {{"loss", 1.0 / (double)step},
                                               {"reward", is_rl ? (double)step / 10 : NAN},
                                               {"kl", is_rl ? 0.001 * (double)step : NAN}};
        assert_int_equal(run_store_put_step(store, stage, step, 30.5, metrics, is_rl ? 3 : 1,
                                            "train", NULL, 0), STATUS_OK);
    }
    const struct metric_value early[] = {{"eval/pass@1", 0.111}, {"eval/language", 0.222}};
    const struct metric_value late[] = {{"eval/pass@1", pass}, {"eval/pass@16", pass + 0.1},
                                        {"eval/format", 0.5}, {"eval/mean_length", 26.71}};
    assert_int_equal(run_store_put_step(store, stage, 1, 0, early, 2, "eval", NULL, 0), STATUS_OK);
    assert_int_equal(run_store_put_step(store, stage, n, 0, late, 4, "eval", NULL, 0), STATUS_OK);
}

static inline int64_t begin_stage(struct run_store *store, const char *name, const char *kind,
                           const char *config)
{
    int64_t stage;

    assert_int_equal(run_store_begin_stage(store, name, kind, config, "c0ffee0123456789", &stage),
                     STATUS_OK);
    return stage;
}

static inline int64_t put_checkpoint(struct run_store *store, int64_t stage, int64_t step,
                              const char *path)
{
    int64_t id;

    assert_int_equal(run_store_put_checkpoint(store, stage, step, path, "d1e2f3a4b5c6d7e8", &id),
                     STATUS_OK);
    return id;
}

static inline struct run_store *open_run(void)
{
    const struct run_info info = {"demo", "1.0", "a: 1\n", "11111111111122", "22222222222233",
                                  "33333333333344", 7};
    struct run_store *store;
    char path[FILE_PATH_MAX];

    assert_int_equal(file_join(path, directory, "run.db"), STATUS_OK);
    assert_int_equal(run_store_open(&store, path), STATUS_OK);
    assert_int_equal(run_store_begin_run(store, &info, 0), STATUS_OK);
    return store;
}

static inline void make_run(void)
{
    struct run_store *store = open_run();
    int64_t base = begin_stage(store, "base", "base", "learner:\n  learning_rate: 0.1\n"), data;

    put_steps(store, base, 4, 0, 0.37);
    int64_t base_checkpoint = put_checkpoint(store, base, 4, "checkpoints/base/4");
    assert_int_equal(run_store_end_stage(store, base, STAGE_DONE, NULL, 131.2), STATUS_OK);

    int64_t zero = begin_stage(store, "zero", "grpo",
                               "learner:\n  learning_rate: 0.2\ngrpo:\n  beta: 0.5\n");
    assert_int_equal(run_store_set_total(store, zero, 20), STATUS_OK);
    put_steps(store, zero, 10, 1, 0.91);
    put_group(store, zero, 9, "train");
    put_group(store, zero, 10, "train");
    put_group(store, zero, 10, "eval");
    int64_t zero_checkpoint = put_checkpoint(store, zero, 10, "checkpoints/zero/10");
    assert_int_equal(run_store_put_parent(store, "checkpoint", zero_checkpoint, "checkpoint",
                                          base_checkpoint), STATUS_OK);
    assert_int_equal(run_store_end_stage(store, zero, STAGE_INTERRUPTED, "Ctrl-C", 60), STATUS_OK);

    int64_t cold = begin_stage(store, "coldstart", "sft", "learner:\n  learning_rate: 0.1\n");
    assert_int_equal(run_store_put_dataset(store, cold, "datasets/cold.jsonl", "chat", 12,
                                           "99887766554433", &data), STATUS_OK);
    assert_int_equal(run_store_put_parent(store, "dataset", data, "checkpoint", zero_checkpoint),
                     STATUS_OK);
    int64_t cold_checkpoint = put_checkpoint(store, cold, 1, "checkpoints/coldstart/1");
    assert_int_equal(run_store_put_parent(store, "checkpoint", cold_checkpoint, "dataset", data),
                     STATUS_OK);
    assert_int_equal(run_store_put_parent(store, "checkpoint", cold_checkpoint, "checkpoint",
                                          base_checkpoint), STATUS_OK);
    run_store_close(&store);
}

static inline int set_up(void **state)
{
    (void)state;
    snprintf(directory, sizeof(directory), "/tmp/hone-report-XXXXXX");
    if (!mkdtemp(directory))
        return -1;
    make_run();
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    text_release(&out);
    return file_remove_tree(directory);
}

static inline void assert_output(const char *wanted)
{
    assert_non_null(out.data);
    assert_string_equal(out.data, wanted);
}

static inline void assert_output_has(const char *part)
{
    if (!strstr(out.data, part))
        fail_msg("\"%s\" is not in:\n%s", part, out.data);
}

static inline void assert_output_lacks(const char *part)
{
    if (strstr(out.data, part))
        fail_msg("\"%s\" is in:\n%s", part, out.data);
}

#endif
