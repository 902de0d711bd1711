/*
 * tests/unit/test_judge.h - jobs of the judge in the real sandbox, as rows of a table.
 */
#ifndef HONE_TESTS_TEST_JUDGE_H
#define HONE_TESTS_TEST_JUDGE_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "common/status.h"
#include "sandbox/sandbox.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

static struct sandbox_config judge_config;
static struct sandbox *judge_sandbox;
static struct judge *shared_judge;

static inline int make_judge(void **state)
{
    struct config_binding binding = {&sandbox_config_section, &judge_config};

    (void)state;
    config_set_defaults(&binding, 1);
    judge_config.cpu_ms = 500;
    judge_config.wall_ms = 10000;   /* this machine may be busy */
    if (sandbox_create(&judge_sandbox, &judge_config) < 0) {
        print_message("SKIP: %s\n", status_reason());
        return 0;
    }
    assert_int_equal(judge_create(&shared_judge, judge_sandbox, &judge_config), STATUS_OK);
    return 0;
}

static inline int drop_judge(void **state)
{
    (void)state;
    judge_destroy(&shared_judge);
    if (judge_sandbox)
        sandbox_destroy(&judge_sandbox);
    return 0;
}

struct job_case {
    const char *language, *source;
    const char *rest;              /* of the job, as JSON without braces */
    enum judge_verdict verdict;
    const char *detail;            /* in it; NULL: any */
};

static inline void judge_case(const struct job_case *row, struct judge_result *result)
{
    struct text text = {0};
    json_t *job;

    text_print(&text, "{\"lang\":\"%s\",%s}", row->language, row->rest);
    if (judge_parse_job(&job, text.data, text.length, "case") < 0)
        fail_msg("%s: %s", status_reason(), text.data);
    judge_run(shared_judge, job, row->source, strlen(row->source), 0, result);
    json_decref(job);
    text_release(&text);
}

static inline void check_jobs(const struct job_case *cases, size_t n)
{
    if (!shared_judge)
        skip();
    for (size_t i = 0; i < n; i++) {
        struct judge_result result;

        judge_case(&cases[i], &result);
        if (result.verdict != cases[i].verdict ||
            (cases[i].detail && !strstr(result.detail, cases[i].detail)))
            fail_msg("case %zu: %s: %s", i, judge_verdict_name(result.verdict), result.detail);
        judge_result_release(&result);
    }
}

#endif
