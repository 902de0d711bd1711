/* docs/verifiers.md is true: its plugin compiles and judges, its executable runs, its settings and
 * its lines are read. Start it at the root of the tree. */
#include "test_verifier_support.h"

#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/config.h"
#include "common/json.h"
#include "common/log.h"
#include "math/math.h"
#include "reward/internal.h"
#include "reward/verifiers/format.h"

#define GUIDE "docs/verifiers.md"
#define MAX_BLOCKS 32

extern char **environ;

static char folder[] = "/tmp/hone_guide_XXXXXX";
static struct text guide;

/* Block i that is fenced as `language`; 0 when there is none. */
static int find_block(const char *language, int i, struct verifier_text *out)
{
    char fence[32];
    const char *at = guide.data;

    snprintf(fence, sizeof(fence), "\n```%s\n", language);
    for (; (at = strstr(at, fence)) != NULL; i--) {
        at += strlen(fence);
        const char *end = strstr(at, "\n```\n");
        assert_non_null(end);
        *out = (struct verifier_text){at, (uint64_t)(end + 1 - at)};
        if (i == 0)
            return 1;
        at = end;
    }
    return 0;
}

static const char *write_block(const char *language, const char *name)
{
    static char path[256];
    struct verifier_text block = {0};

    assert_true(find_block(language, 0, &block));
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    assert_int_equal(file_write_atomic(path, block.data, block.length), 0);
    assert_int_equal(chmod(path, 0755), 0);
    return path;
}

/* Exit code of a program found in PATH; -1 when it cannot be started. */
static int run_program(const char *const *arguments)
{
    pid_t pid;
    int ended;

    if (posix_spawnp(&pid, arguments[0], NULL, NULL, (char *const *)(uintptr_t)arguments, environ))
        return -1;
    assert_int_equal(waitpid(pid, &ended, 0), pid);
    return WIFEXITED(ended) ? WEXITSTATUS(ended) : -1;
}

static void the_blocks_are_the_files_that_they_name(void **state)
{
    static const char *const files[][2] = {{"c", "tests/plugin/verifier_contains.c"},
                                           {"python", "tests/plugin/judge_words.py"}};

    (void)state;
    for (size_t i = 0; i < N_OF(files); i++) {
        struct text file = {0};
        struct verifier_text block = {0};
        assert_int_equal(file_read(files[i][1], 1 << 20, &file), 0);
        assert_true(find_block(files[i][0], 0, &block));
        assert_int_equal(block.length, file.length);
        assert_memory_equal(block.data, file.data, file.length);
        text_release(&file);
    }
}

static struct reward *make_reward(const char *key, const char *value, const char *option)
{
    struct reward_config config;
    struct config_binding binding = {&reward_config_section, &config};
    struct reward *reward = NULL;
    char assignment[CONFIG_TEXT_BYTES];

    config_set_defaults(&binding, 1);
    snprintf(assignment, sizeof(assignment), "reward.%s=%s", key, value);
    assert_int_equal(config_override(assignment, &binding, 1), 0);
    snprintf(assignment, sizeof(assignment), "reward.options=%s", option);
    assert_int_equal(config_override(assignment, &binding, 1), 0);
    config.verifier_timeout_ms = 20000;
    if (reward_create(&reward, &config, NULL) < 0)
        fail_msg("%s", status_reason());
    return reward;
}

static struct score judge(struct reward *reward, const char *verifier, const char *reference,
                          const char *completion)
{
    struct task task = {.id = 7, .reference = {reference, (uint32_t)strlen(reference)}};
    struct score score;

    assert_int_equal(reward_judge_text(reward, verifier, &task, completion, strlen(completion),
                                       NULL, &score), 0);
    return score;
}

static void the_plugin_compiles_and_judges(void **state)
{
    const char *source = write_block("c", "my.c");
    char object[256];

    (void)state;
    snprintf(object, sizeof(object), "%s/my.so", folder);
    const char *const command[] = {   /* CC may be several words */
        "sh", "-c", "${CC:-cc} -shared -fPIC -fvisibility=hidden -Wall -Wextra -Werror -I. "
        "-o \"$0\" \"$1\"", object, source, NULL};
    if (run_program(command) != 0)
        fail_msg("the compiler does not take the plugin");
    struct reward *reward = make_reward("plugins", object, "contains.miss=0.25");
    assert_int_equal(judge(reward, "contains", "moon", "to the moon").outcome, OUTCOME_RIGHT);
    struct score miss = judge(reward, "contains", "sun", "to the moon");
    assert_int_equal(miss.outcome, OUTCOME_WRONG);
    assert_float_equal(miss.value, 0.25, 0);
    assert_int_equal(judge(reward, "contains", "", "x").outcome, OUTCOME_ERROR);
    reward_destroy(&reward);
}

static void the_executable_judges(void **state)
{
    static const char *const python[] = {"python3", "-c", "import json, sys", NULL};
    char command[300];

    (void)state;
    if (run_program(python) != 0) {
        print_message("no python3 here\n");
        skip();
    }
    snprintf(command, sizeof(command), "words=%s", write_block("python", "judge_words.py"));
    struct reward *reward = make_reward("commands", command, "words.miss=0.25");
    struct score right = judge(reward, "words", "two words", "<think>x</think>Words: two \xFF\n");
    assert_int_equal(right.outcome, OUTCOME_RIGHT);
    assert_string_equal(right.detail, "all 2 words");
    struct score wrong = judge(reward, "words", "two words", "<think>two</think>words");
    assert_int_equal(wrong.outcome, OUTCOME_WRONG);
    assert_float_equal(wrong.value, 0.25, 0);
    assert_string_equal(wrong.detail, "missing: two");
    assert_int_equal(judge(reward, "words", " ", "x").outcome, OUTCOME_ERROR);
    reward_destroy(&reward);
}

static void every_setting_is_read(void **state)
{
    struct verifier_text block = {0};
    int n = 0;

    (void)state;
    for (; find_block("yaml", n, &block); n++) {
        struct reward_config config;
        struct config_binding binding = {&reward_config_section, &config};
        struct config_file *file = NULL;
        char path[256];
        snprintf(path, sizeof(path), "%s/%d.yaml", folder, n);
        assert_int_equal(file_write_atomic(path, block.data, block.length), 0);
        config_set_defaults(&binding, 1);
        if (config_open(&file, path) < 0 ||
            config_apply(file, config_root(file), NULL, &binding, 1) < 0 ||
            config_check(&binding, 1) < 0)
            fail_msg("yaml block %d: %s", n, status_reason());
        config_close(&file);
    }
    assert_true(n >= 3);
}

static void every_line_is_json(void **state)
{
    struct verifier_text block = {0};
    int n = 0;

    (void)state;
    for (; find_block("jsonl", n, &block); n++)
        for (const char *at = block.data; at < block.data + block.length;) {
            const char *end = strchr(at, '\n');
            json_t *row = NULL;
            if (json_parse(&row, at, (size_t)(end - at), GUIDE) < 0)
                fail_msg("%.*s: %s", (int)(end - at), at, status_reason());
            json_decref(row);
            at = end + 1;
        }
    assert_true(n >= 2);
}

/* A verifier that is not in the guide is one that nobody finds; likewise a format. */
static void every_verifier_is_in_the_guide(void **state)
{
    char row[64];

    (void)state;
    for (size_t i = 0; registry_built_in(i); i++) {
        snprintf(row, sizeof(row), "\n| `%s` | ", registry_built_in(i)->name);
        if (!strstr(guide.data, row))
            fail_msg("%s is missing", registry_built_in(i)->name);
    }
    for (size_t i = 0; format_ported[i].name; i++) {
        snprintf(row, sizeof(row), "\n| `%s` | ", format_ported[i].name);
        if (!strstr(guide.data, row))
            fail_msg("format %s is missing", format_ported[i].name);
    }
}

struct pair {
    const char *gold, *pred;
    int is_right;
};

/* The examples of the part "Maths". */
static const struct pair pairs[] = {
    {"1/2", "0.5", 1},
    {"1/2", "\\frac12", 1},
    {"1/2", "2^{-1}", 1},
    {"1/2", "5\\times10^{-1}", 1},
    {"1,234", "1234", 1},
    {"19/45", "0.4\\overline{2}", 1},
    {"6/7", "0.86", 0},
    {"e", "2.72", 0},
    {"6/7", "0.857143", 1},
    {"50%", "50%", 1},
    {"50%", "50", 1},
    {"50%", "0.5", 1},
    {"0.5", "50", 0},
    {"2\\sqrt2", "\\sqrt8", 1},
    {"3", "\\log_2 8", 1},
    {"\\frac12", "\\sin\\frac\\pi6", 1},
    {"\\pi/3", "60^\\circ", 1},
    {"25 cm", "250 mm", 1},
    {"25 cm", "25", 1},
    {"\\pi/3", "60", 0},
    {"25 cm", "25 kg", 0},
    {"\\$5", "\xE2\x82\xAC""5", 0},
    {"x^2+2x+1", "(x+1)^2", 1},
    {"\\ln a-\\ln b", "\\ln\\frac ab", 1},
    {"t", "\\sqrt{t^2}", 0},
    {"x", "X", 0},
    {"3", "x=3", 1},
    {"x=2y", "2x=4y", 1},
    {"3", "1+1=3", 0},
    {"x+1", "y^2=x+1", 0},
    {"[0,3]\\cup(3,4)", "[0,4)", 1},
    {"[0,4)", "(0,4)", 0},
    {"(-\\infty,3]", "x\\le 3", 1},
    {"(-\\infty,3]", "2x\\le 6", 0},
    {"1, 2", "2, 1", 1},
    {"\\{1,2\\}", "\\{2,1\\}", 1},
    {"\\pm 2", "2, -2", 1},
    {"(1,2)", "(2,1)", 0},
    {"(1,8)", "(u,v)=(1,8)", 1},
    {"1,2,3", "1,2", 0},
    {"6", "6 or 7", 0},
    {"(1,2)", "\\{1,2\\}", 0},
    {"\\begin{pmatrix}1&2\\end{pmatrix}", "\\begin{bmatrix}1&2\\end{bmatrix}", 1},
    {"-2", "\\begin{vmatrix}1&2\\\\3&4\\end{vmatrix}", 1},
    {"\\begin{pmatrix}1&2\\end{pmatrix}", "\\begin{pmatrix}1\\\\2\\end{pmatrix}", 0},
    {"C", "(C)", 1},
    {"C", "C.", 1},
    {"C", "\\text{C}", 1},
    {"C", "C) text", 1},
    {"A", "A or E", 0},
    {"D", "not D", 0},
    {"Blue sky.", "blue sky", 1},
    {"blue sky", "blue", 0},
};

static struct math_verdict compare(struct math *math, const char *gold, const char *pred)
{
    const struct math_options options = {.mode = MATH_ANSWER, .gold_mode = MATH_ANSWER};
    struct math_verdict verdict;

    math_verify(math, gold, strlen(gold), pred, strlen(pred), &options, &verdict);
    return verdict;
}

static void the_maths_examples_hold(void **state)
{
    struct math *math = NULL;

    (void)state;
    assert_int_equal(math_create(&math, 1), 0);
    int has_flint = compare(math, "2\\sqrt2", "\\sqrt8").outcome != MATH_LIMIT;
    if (!has_flint)
        print_message("no FLINT here: what needs it is \"limit\"\n");
    for (size_t i = 0; i < N_OF(pairs); i++) {
        const struct pair *pair = &pairs[i];
        struct math_verdict verdict = compare(math, pair->gold, pair->pred);
        if (!has_flint && verdict.outcome == MATH_LIMIT)
            continue;
        if (math_outcome_is_right(verdict.outcome) != pair->is_right)
            fail_msg("%s against %s: %s (%s)", pair->pred, pair->gold,
                     math_outcome_text(verdict.outcome), verdict.path);
    }
    math_destroy(&math);
}

static int remove_folder(void **state)
{
    (void)state;
    text_release(&guide);
    return file_remove_tree(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_blocks_are_the_files_that_they_name),
        cmocka_unit_test(the_plugin_compiles_and_judges),
        cmocka_unit_test(the_executable_judges),
        cmocka_unit_test(every_setting_is_read),
        cmocka_unit_test(every_line_is_json),
        cmocka_unit_test(the_maths_examples_hold),
        cmocka_unit_test(every_verifier_is_in_the_guide),
    };

    log_set_level(LOG_ERROR);
    assert_non_null(mkdtemp(folder));
    assert_int_equal(file_read(GUIDE, 1 << 20, &guide), 0);
    return cmocka_run_group_tests(tests, NULL, remove_folder);
}
