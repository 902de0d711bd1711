#include "pipeline/stages.h"

#include <string.h>

#include "pipeline/internal.h"

/* What DeepSeek-R1 (arXiv 2501.12948) does in each stage; a recipe may say otherwise. */
static const char *const zero_defaults[] = {"reward.reward_funcs=accuracy,format", NULL};
static const char *const rl_defaults[] = {"reward.reward_funcs=accuracy,format,language", NULL};
static const char *const align_defaults[] = {
    "reward.reward_funcs=accuracy,format,language,preference",
    "reward.preference_last_steps=400", "rollout.temperature=0.7", NULL};

const struct stage_kind stage_kinds[] = {
    {"base", "pre-trains a new model on text", STAGE_NEEDS_TEXT, stage_sft_run, NULL},
    {"zero", "R1-Zero: RL on the base model, no fine-tuning before it",
     STAGE_NEEDS_FROM | STAGE_IS_RL, stage_grpo_run, zero_defaults},
    {"coldstart", "samples a checkpoint, keeps what is right and readable, fine-tunes the base",
     STAGE_NEEDS_FROM | STAGE_NEEDS_DATA, stage_sft_run, NULL},
    {"rl", "reasoning RL, with the language-consistency reward", STAGE_NEEDS_FROM | STAGE_IS_RL,
     stage_grpo_run, rl_defaults},
    {"reject", "rejection sampling of a checkpoint, mixed with general data; fine-tunes the base",
     STAGE_NEEDS_FROM | STAGE_NEEDS_DATA, stage_sft_run, NULL},
    {"align", "RL on all kinds of tasks; a preference reward joins for the last steps",
     STAGE_NEEDS_FROM | STAGE_IS_RL, stage_grpo_run, align_defaults},
    {"distill", "writes the teacher's dataset and fine-tunes a smaller model on it",
     STAGE_NEEDS_FROM | STAGE_NEEDS_DATA, stage_sft_run, NULL},
    {"distill_rl", "RL on a distilled student: a further gain", STAGE_NEEDS_FROM | STAGE_IS_RL,
     stage_grpo_run, rl_defaults},
    {"student_rl", "RL on a student that was not distilled: the comparison",
     STAGE_NEEDS_FROM | STAGE_IS_RL, stage_grpo_run, rl_defaults},
    {0},
};

const struct stage_kind *stage_kind_find(const char *name)
{
    for (const struct stage_kind *kind = stage_kinds; kind->name; kind++)
        if (strcmp(kind->name, name) == 0)
            return kind;
    return NULL;
}

int pipeline_is_stage_kind(const char *name)
{
    return stage_kind_find(name) != NULL;
}

void pipeline_print_stages(struct text *out)
{
    text_print(out, "Stage kinds, for \"stage:\" in a recipe:\n\n");
    for (const struct stage_kind *kind = stage_kinds; kind->name; kind++) {
        text_print(out, "  %-11s %s\n", kind->name, kind->help);
        for (const char *const *row = kind->defaults; row && *row; row++)
            text_print(out, "  %-11s   default %s\n", "", *row);
    }
}
