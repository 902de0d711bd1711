/* What would lower the memory of a stage: settings tried one at a time on its plan. */
#include <stdio.h>

#include "common/status.h"
#include "pipeline/plan.h"
#include "pipeline/plan_print.h"
#include "pipeline/stages.h"

#define LEAST_SHARE 0.02   /* of the total: what saves less is not worth a line */

/* Total bytes of the stage with one setting changed; as before when the setting is refused. */
static double total_with(const struct stage *stage, const struct stage_plan *plan,
                         const char *assignment)
{
    struct stage other = *stage;
    struct stage_plan changed = *plan;
    struct config_binding bindings[N_STAGE_SECTIONS];

    stage_bind(&other.settings, bindings);
    if (config_override(assignment, bindings, N_STAGE_SECTIONS) < 0)
        return plan->total_bytes;
    plan_size_memory(&other, &changed);
    return changed.total_bytes;
}

static void print_saving(struct text *out, const struct stage *stage,
                         const struct stage_plan *plan, const char *assignment, const char *price)
{
    double saved = plan->total_bytes - total_with(stage, plan, assignment);
    char bytes[PLAN_NUMBER_BYTES];

    if (saved > LEAST_SHARE * plan->total_bytes)
        text_print(out, "  %-40s saves %-9s %s\n", assignment, plan_bytes(bytes, saved), price);
}

void plan_print_advice(struct text *out, const struct stage *stage, const struct stage_plan *plan)
{
    const struct stage_settings *settings = &stage->settings;
    const struct rollout_limits limits = rollout_limits_of(&settings->rollout);
    int64_t n_cached = plan_cache_tokens(stage, plan) / 2;
    int is_enough = rollout_check_cache(&limits, n_cached) == STATUS_OK;
    const struct {
        const char *key;
        int64_t value;   /* half of what is set; 0: the text is whole */
        const char *price;
    } rows[] = {
        {"optimizer.gradient_checkpointing=true", 0, "same results, about a third more time"},
        {"optimizer.micro_batch_tokens", settings->optimizer.micro_batch_tokens / 2,
         "same results but for rounding"},
        {"rollout.workers=1", 0, "same results, slower"},
        {"rollout.max_sequences", settings->rollout.max_sequences / 2, "same results, slower"},
        {"rollout.kv_cache_tokens", is_enough ? n_cached : 0,
         "same results, slower when many completions are long"},
        {"optimizer.bf16=true", 0, "other results: weights rounded to bfloat16"},
        {"grpo.beta=0", 0, "other results: no reference model"},
        {"lora.r=16", 0, "other results: adapters alone are trained"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char assignment[128];
        if (rows[i].value)
            snprintf(assignment, sizeof(assignment), "%s=%lld", rows[i].key,
                     (long long)rows[i].value);
        else
            snprintf(assignment, sizeof(assignment), "%s", rows[i].key);
        print_saving(out, stage, plan, assignment, rows[i].price);
    }
}
