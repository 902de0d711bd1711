/*
 * Format rules that users bring from other projects, with the meaning of the regular expressions
 * that those use. Each is a chain of "then somewhere behind it": taking the first place for every
 * link but the last decides such an expression, so that nothing here ever goes back.
 */
#include <stdio.h>
#include <string.h>

#include "reward/verifiers/format.h"

/* A place in the text, moved forward only. */
struct walk {
    const char *at, *end;
};

static struct walk walk_over(struct verifier_text text)
{
    return (struct walk){text.data, text.data + text.length};
}

/* Moves behind the first `needle` at or after the place; 0 when there is none. */
static int walk_behind(struct walk *walk, const char *needle)
{
    size_t n = strlen(needle);
    const char *found = memmem(walk->at, (size_t)(walk->end - walk->at), needle, n);

    if (found)
        walk->at = found + n;
    return found != NULL;
}

/* Moves behind `needle` when it stands exactly here. */
static int walk_over_text(struct walk *walk, const char *needle)
{
    size_t n = strlen(needle);
    int found = (size_t)(walk->end - walk->at) >= n && memcmp(walk->at, needle, n) == 0;

    if (found)
        walk->at += n;
    return found;
}

static int has_inside(struct verifier_text text, const char *needle)
{
    struct walk walk = walk_over(text);

    return walk_behind(&walk, needle);
}

static size_t count_of(struct verifier_text text, const char *needle)
{
    struct walk walk = walk_over(text);
    size_t n = 0;

    while (walk_behind(&walk, needle))
        n++;
    return n;
}

/* "\n</answer>" with the end of a line or of the text behind it: "$" under MULTILINE. */
static int ends_answer(struct walk *walk)
{
    while (walk_behind(walk, "\n</answer>"))
        if (walk->at == walk->end || *walk->at == '\n')
            return 1;
    return 0;
}

/* ^<think>\n.*?\n</think>\n<answer>\n */
static int opens_r1(struct walk *walk, const char **why)
{
    *why = "does not begin with <think> and a line break";
    if (!walk_over_text(walk, "<think>\n"))
        return 0;
    *why = "no </think> and <answer> on two lines of their own";
    return walk_behind(walk, "\n</think>\n<answer>\n");
}

static double score_r1(struct verifier_text text, const char *fence, const char **why)
{
    struct walk walk = walk_over(text);

    (void)fence;
    if (!opens_r1(&walk, why))
        return 0;
    *why = "no </answer> on a line of its own";
    if (!ends_answer(&walk))
        return 0;
    *why = "well formed";
    return 1;
}

static double score_r1_code(struct verifier_text text, const char *fence, const char **why)
{
    struct walk walk = walk_over(text);
    char open[64];

    if (!opens_r1(&walk, why))
        return 0;
    snprintf(open, sizeof(open), "```%s", fence);
    *why = "no fenced block of the language in the answer";
    if (!walk_behind(&walk, open) || !walk_behind(&walk, "```"))
        return 0;
    *why = "no </answer> on a line of its own";
    if (!ends_answer(&walk))
        return 0;
    *why = "well formed";
    return 1;
}

static double score_tag_count(struct verifier_text text, const char *fence, const char **why)
{
    static const char *const tags[] = {"<think>\n", "\n</think>\n", "\n<answer>\n", "\n</answer>"};
    double value = 0;

    (void)fence;
    for (size_t i = 0; i < sizeof(tags) / sizeof(tags[0]); i++) {
        int once = count_of(text, tags[i]) == 1;
        value += once ? 0.25 : 0;
        if (!once)
            *why = "a tag is missing, repeated or not on its own line";
    }
    return value;
}

/* ^<think>(?!.*<think>)(.*?)</think>.*$ */
static double score_trl(struct verifier_text text, const char *fence, const char **why)
{
    struct walk walk = walk_over(text);

    (void)fence;
    *why = "does not begin with <think>";
    if (!walk_over_text(&walk, "<think>"))
        return 0;
    struct walk second = walk;
    *why = "a second <think>";
    if (walk_behind(&second, "<think>"))
        return 0;
    *why = "no </think>";
    if (!walk_behind(&walk, "</think>"))
        return 0;
    *why = "well formed";
    return 1;
}

/* <think>.*</think>.*\\boxed\{.*\}.* over the whole text */
static double score_geo3k(struct verifier_text text, const char *fence, const char **why)
{
    struct walk walk = walk_over(text);

    (void)fence;
    *why = "does not begin with <think>";
    if (!walk_over_text(&walk, "<think>"))
        return 0;
    *why = "no </think>";
    if (!walk_behind(&walk, "</think>"))
        return 0;
    *why = "no \\boxed{} behind </think>";
    if (!walk_behind(&walk, "\\boxed{") || !walk_behind(&walk, "}"))
        return 0;
    *why = "well formed";
    return 1;
}

/* #### (\-?[0-9\.\,]+) in the last 300 characters */
static double score_gsm8k(struct verifier_text text, const char *fence, const char **why)
{
    const char *end = text.data + text.length, *start = end;
    struct walk walk;

    (void)fence;
    for (int n = 0; n < 300 && start > text.data; n++) {
        start--;
        while (start > text.data && ((unsigned char)*start & 0xC0) == 0x80)
            start--;
    }
    walk = (struct walk){start, end};
    while (walk_behind(&walk, "#### ")) {
        const char *at = walk.at + (walk.at < end && *walk.at == '-');
        if (at < end && ((*at >= '0' && *at <= '9') || *at == '.' || *at == ','))
            return 1;
    }
    *why = "no \"#### \" and a number in the last 300 characters";
    return 0;
}

static double score_search_r1(struct verifier_text text, const char *fence, const char **why)
{
    struct walk walk = walk_over(text);

    (void)fence;
    *why = "no <answer>..</answer>";
    if (!walk_behind(&walk, "<answer>") || !walk_behind(&walk, "</answer>"))
        return 0;
    *why = "more than 10 answer tags";
    if (count_of(text, "<answer>") > 10 || count_of(text, "</answer>") > 10)
        return 0.25;
    *why = "well formed";
    return 1;
}

static double score_dr_grpo(struct verifier_text text, const char *fence, const char **why)
{
    (void)fence;
    *why = "no \"</think> <answer>\" or no </answer>";
    if (!has_inside(text, "</think> <answer>") || !has_inside(text, "</answer>"))
        return 0;
    *why = "well formed";
    return 1;
}

/* <answer>.*?(\\boxed{.*}).*?</answer> */
static double score_open_reasoner(struct verifier_text text, const char *fence, const char **why)
{
    struct walk walk = walk_over(text);

    (void)fence;
    *why = "no \\boxed{} in <answer>..</answer>";
    if (!walk_behind(&walk, "<answer>") || !walk_behind(&walk, "\\boxed{") ||
        !walk_behind(&walk, "}") || !walk_behind(&walk, "</answer>"))
        return 0;
    *why = "well formed";
    return 1;
}

/* Whether the braces of the last box close. */
static int has_whole_box(struct walk walk)
{
    int depth = 1, found = 0;

    for (struct walk next = walk; walk_behind(&next, "\\boxed{"); found = 1)
        walk = next;
    for (; found && walk.at < walk.end; walk.at++) {
        depth += (*walk.at == '{') - (*walk.at == '}');
        if (!depth)
            return 1;
    }
    return 0;
}

/* A box in what stands between the first </think> and the next one. */
static double score_rllm(struct verifier_text text, const char *fence, const char **why)
{
    struct walk walk = walk_over(text), next;

    (void)fence;
    *why = "no </think>";
    if (!walk_behind(&walk, "</think>"))
        return 0;
    next = walk;
    if (walk_behind(&next, "</think>"))
        walk.end = next.at - strlen("</think>");
    *why = "no \\boxed{} behind </think>";
    if (!has_whole_box(walk))
        return 0;
    *why = "well formed";
    return 1;
}

static double score_tinyzero(struct verifier_text text, const char *fence, const char **why)
{
    struct walk walk = walk_over(text);
    const char *line = memrchr(text.data, '\n', text.length);

    (void)fence;
    if (line)
        walk.at = line + 1;
    *why = "no <answer>..</answer> on the last line";
    if (!walk_behind(&walk, "<answer>") || !walk_behind(&walk, "</answer>"))
        return 0;
    *why = "well formed";
    return 1;
}

const struct format_row format_ported[] = {
    {"r1", score_r1},                         /* open-r1 format_reward */
    {"r1_code", score_r1_code},               /* open-r1 get_code_format_reward */
    {"tag_count", score_tag_count},           /* open-r1 tag_count_reward */
    {"trl", score_trl},                       /* TRL think_format_reward */
    {"geo3k", score_geo3k},                   /* verl geo3k */
    {"gsm8k", score_gsm8k},                   /* verl gsm8k, strict */
    {"search_r1", score_search_r1},           /* verl search-R1 */
    {"dr_grpo", score_dr_grpo},               /* understand-r1-zero */
    {"open_reasoner", score_open_reasoner},   /* Open-Reasoner-Zero */
    {"rllm", score_rllm},                     /* DeepScaleR, rLLM */
    {"tinyzero", score_tinyzero},             /* TinyZero */
    {NULL, NULL},
};
