/* A run store in a temporary directory, and a fake group to put into it. */
#ifndef HONE_TESTS_UNIT_TEST_RUN_STORE_H
#define HONE_TESTS_UNIT_TEST_RUN_STORE_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/files.h"
#include "common/status.h"
#include "pipeline/run_store.h"

static char directory[32];
static char path[FILE_PATH_MAX];
static struct run_store *store;

static inline int set_up(void **state)
{
    (void)state;
    snprintf(directory, sizeof(directory), "/tmp/hone-store-XXXXXX");
    return mkdtemp(directory) ? file_join(path, directory, "run.db") : -1;
}

static inline int tear_down(void **state)
{
    (void)state;
    run_store_close(&store);
    return file_remove_tree(directory);
}

static const struct run_info info = {
    .name = "demo", .code_version = "1.0", .config_yaml = "grpo:\n  beta: 0.0\n  epsilon: 0.2\n",
    .config_hash = "aaaa", .data_hash = "dddd", .template_hash = "tttt", .seed = UINT64_MAX};

/* ---- A fake group of two samples; `salt` makes it different. */

static int32_t prompt_tokens[] = {5, 6, 7};
static int32_t tokens[] = {10, 11, 12, 2};
static float logprobs[] = {-0.5f, -0.25f, -1.5f, -0.125f};
static uint32_t one_version[] = {3, 3, 3, 3};
static uint32_t two_versions[] = {3, 3, 4, 4};
static struct reward_term rewards[] = {{"accuracy", 1.0f}, {"format", 0.25f}};
static struct score scores[2][2] = {
    {{1.0f, OUTCOME_RIGHT, "16"}, {1.0f, OUTCOME_RIGHT, ""}},
    {{0.0f, OUTCOME_UNREADABLE, "no <answer>"}, {0.0f, OUTCOME_WRONG, ""}}};
static struct sample samples[2];

static inline struct wire_text text_of(const char *bytes)
{
    return (struct wire_text){bytes, (uint32_t)strlen(bytes)};
}

static inline struct sample_group fake_group(uint64_t id)
{
    struct sample_group group = {.n_prompt = 3, .prompt_tokens = prompt_tokens, .n_samples = 2,
                                 .samples = samples, .n_rewards = 2, .rewards = rewards};

    group.task.id = id;
    snprintf(group.task.kind, sizeof(group.task.kind), "chain");
    snprintf(group.task.verifier, sizeof(group.task.verifier), "math");
    snprintf(group.task.language, sizeof(group.task.language), "en");
    group.task.question = text_of("3+8+5");
    group.task.prompt = text_of("User: 3+8+5\nAssistant: <think>");
    group.task.prefill = text_of("<think>");
    group.task.reference = text_of("6");
    for (int i = 0; i < 2; i++)
        samples[i] = (struct sample){.finish = i ? SAMPLE_FINISH_LENGTH : SAMPLE_FINISH_EOS,
                                     .n_tokens = 4, .tokens = tokens, .logprobs = logprobs,
                                     .weight_versions = i ? two_versions : one_version,
                                     .text = text_of(i ? "bad \xff text" : "3+8=1,1+5=6"),
                                     .scores = scores[i], .reward = i ? 0.0f : 1.25f,
                                     .advantage = i ? -0.5f : 0.5f};
    return group;
}

/* ---- What a stranger's sqlite3 sees. */

static inline void assert_query(const char *query, const char *wanted)
{
    sqlite3 *db;
    sqlite3_stmt *row;
    struct text found = {0};

    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    if (sqlite3_prepare_v2(db, query, -1, &row, NULL) != SQLITE_OK)
        fail_msg("%s: %s", query, sqlite3_errmsg(db));
    for (int line = 0; sqlite3_step(row) == SQLITE_ROW; line++)
        for (int i = 0; i < sqlite3_column_count(row); i++) {
            const char *cell = (const char *)sqlite3_column_text(row, i);
            text_print(&found, "%s%s", i ? "|" : line ? "\n" : "", cell ? cell : "NULL");
        }
    assert_string_equal(found.data ? found.data : "", wanted);
    text_release(&found);
    sqlite3_finalize(row);
    sqlite3_close(db);
}

static inline int64_t begin(const char *stage)
{
    int64_t id;

    if (!store)
        assert_int_equal(run_store_open(&store, path), STATUS_OK);
    assert_int_equal(run_store_begin_run(store, &info, 0), STATUS_OK);
    assert_int_equal(run_store_begin_stage(store, stage, "grpo", "a: 1\n", "cc", &id), STATUS_OK);
    return id;
}

static inline void put_step(int64_t stage, int64_t step, uint64_t task)
{
    const struct metric_value metrics[] = {{"reward", 0.5 + (double)step}, {"step_time", 1.5},
                                           {"completions/mean_terminated_length", NAN}};
    struct sample_group group = fake_group(task);

    assert_int_equal(run_store_put_step(store, stage, step, 2.0, metrics, 3, "train", &group, 1),
                     STATUS_OK);
}

#endif
