/* `hone plan`: the graph, the settings that matter, sizes, memory, and what is missing. */
#include "pipeline/plan.h"

#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/status.h"
#include "pipeline/internal.h"
#include "pipeline/locate.h"
#include "pipeline/plan_print.h"
#include "pipeline/setup.h"

#define MAX_MISSING 256

/* Each file once, with everything that wants it. */
struct missing {
    char *paths[MAX_MISSING];
    struct text wanted[MAX_MISSING];   /* "tasks.train of zero, rl" */
    const char *last_key[MAX_MISSING];
    size_t n;
};

static void missing_release(struct missing *missing)
{
    for (size_t i = 0; i < missing->n; i++) {
        mem_free(missing->paths[i]);
        text_release(&missing->wanted[i]);
    }
    mem_free(missing);
}

static void need_file(struct missing *missing, const struct stage *stage, const char *key,
                      const char *path)
{
    size_t i = 0;

    if (!path[0] || file_exists(path))
        return;
    while (i < missing->n && strcmp(missing->paths[i], path))
        i++;
    if (i == MAX_MISSING)
        return;
    if (i == missing->n) {
        missing->paths[missing->n++] = mem_copy_text(path);
        text_print(&missing->wanted[i], "%s of %s", key, stage->name);
    } else if (strcmp(missing->last_key[i], key) == 0) {
        text_print(&missing->wanted[i], ", %s", stage->name);
    } else {
        text_print(&missing->wanted[i], ", %s of %s", key, stage->name);
    }
    missing->last_key[i] = key;
}

static void need_model(struct missing *missing, const struct stage *stage)
{
    static const char *const files[] = {"config.json", "model.safetensors", "tokenizer.json"};
    char path[FILE_PATH_MAX];

    if (!strchr(stage->from, '/'))
        return;
    if (!file_exists(stage->from)) {
        need_file(missing, stage, "the model", stage->from);
        return;
    }
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        if (file_join(path, stage->from, files[i]) == STATUS_OK)
            need_file(missing, stage, "the model", path);
}

static void need_tokenizer(struct missing *missing, const struct stage *stage)
{
    char path[FILE_PATH_MAX];

    if (!stage->from[0] && stage->settings.model.tokenizer[0] &&
        file_join(path, stage->settings.model.tokenizer, "tokenizer.json") == STATUS_OK)
        need_file(missing, stage, "model.tokenizer", path);
}

/* Names of built-in verifiers alone: a plugin may be what is missing. */
static int check_verifiers(const struct recipe *recipe, const char *only)
{
    struct reward *reward;
    int status = STATUS_OK;

    /* Any stage's settings do: the built-in verifiers are the same. */
    struct reward_config plain = recipe->stages[0].settings.reward;
    plain.plugins[0] = plain.commands[0] = plain.options[0] = '\0';
    TRY(reward_create(&reward, &plain, &recipe->stages[0].settings.sandbox));
    for (size_t i = 0; i < recipe->n_stages && status == STATUS_OK; i++) {
        const struct stage *stage = &recipe->stages[i];
        const struct reward_config *config = &stage->settings.reward;
        if ((only && strcmp(only, stage->name)) || config->plugins[0] ||
            config->commands[0] || !(stage->kind->flags & STAGE_IS_RL))
            continue;
        if (reward_check_names(reward, config) < 0)
            status = status_context(STATUS_CONFIG, "stage \"%s\"", stage->name);
    }
    reward_destroy(&reward);
    return status;
}

/* "judge=./judge.py --strict": the file, when it is not looked for in PATH. */
static void need_command(struct missing *missing, const struct stage *stage, char *item)
{
    char *path = strchr(item, '=');

    if (!path)
        return;
    path += 1 + strspn(path + 1, " ");
    path[strcspn(path, " ")] = '\0';
    if (strchr(path, '/'))
        need_file(missing, stage, "reward.commands", path);
}

/* What is not there is listed; what is wrong is an error. */
static int look_for(struct missing *missing, const struct recipe *recipe, const char *only)
{
    for (size_t i = 0; i < recipe->n_stages; i++) {
        const struct stage *stage = &recipe->stages[i];
        const struct tasks_config *tasks = &stage->settings.tasks;
        char item[CONFIG_TEXT_BYTES];
        if (only && strcmp(only, stage->name))
            continue;
        unsigned flags = stage->kind->flags;
        int has_train = (flags & STAGE_IS_RL) || stage->sample[0];
        need_file(missing, stage, "tasks.train", has_train ? tasks->train : "");
        need_file(missing, stage, "tasks.heldout", tasks->heldout);
        need_file(missing, stage, "tasks.text", flags & STAGE_NEEDS_TEXT ? tasks->text : "");
        need_file(missing, stage, "tasks.general",
                  stage->settings.data.general_share > 0 ? tasks->general : "");
        const struct reward_config *reward = &stage->settings.reward;
        for (size_t p = 0; config_list_item(reward->plugins, p, item, sizeof(item)); p++)
            need_file(missing, stage, "reward.plugins", item);
        for (size_t p = 0; config_list_item(reward->commands, p, item, sizeof(item)); p++)
            need_command(missing, stage, item);
        need_model(missing, stage);
        need_tokenizer(missing, stage);
    }
    return missing->n ? check_verifiers(recipe, only) : setup_check(recipe, only, NULL);
}

static void print_work(struct text *out, const struct stage *stage, const struct stage_plan *plan)
{
    char sampled[PLAN_NUMBER_BYTES], trained[PLAN_NUMBER_BYTES], steps[PLAN_NUMBER_BYTES];
    char samples[PLAN_NUMBER_BYTES], rows[PLAN_NUMBER_BYTES];
    int is_rl = (stage->kind->flags & STAGE_IS_RL) != 0;

    plan_number(sampled, plan->sampled_tokens);
    plan_number(trained, plan->trained_tokens);
    plan_number(steps, plan->n_steps);
    plan_number(samples, plan->n_samples);
    plan_number(rows, plan->n_rows);
    text_print(out, "  work      ");
    if (is_rl)
        text_print(out, "%s steps, %s samples, at most %s tokens sampled and %s trained", steps,
                   samples, sampled, trained);
    else if (stage->kind->flags & STAGE_NEEDS_TEXT && plan->trained_tokens < 0)
        text_print(out, "unknown: tasks.text is missing");
    else if (stage->kind->flags & STAGE_NEEDS_TEXT)
        text_print(out, "about %s tokens trained in %s steps", trained, steps);
    else if (stage->sample[0])
        text_print(out, "%s samples of at most %s tokens, at most %s rows kept, %s tokens trained "
                        "in %s steps", samples, sampled, rows, trained, steps);
    else
        text_print(out, "at most %s rows, %s tokens trained in %s steps", rows, trained, steps);
    if (plan->eval_tokens > 0) {
        plan_number(samples, plan->eval_tokens);
        text_print(out, "; evaluation at most %s", samples);
    }
    text_print(out, "\n");
}

static void print_parts(struct text *out, const struct plan_memory *memory)
{
    char bytes[PLAN_NUMBER_BYTES];
    int n = 0;

    text_print(out, "%s =", plan_bytes(bytes, memory->total));
    for (int i = 0; i < N_PARTS; i++)
        if (memory->parts[i] > 0)
            text_print(out, "%s %s %s", n++ ? "," : "", plan_part_names[i],
                       plan_bytes(bytes, memory->parts[i]));
    text_print(out, "\n");
}

static void print_memory(struct text *out, const struct stage_plan *plan)
{
    char bytes[PLAN_NUMBER_BYTES];

    if (!plan->has_shape)
        return;
    text_print(out, "  memory    ");
    if (plan->n_ranks > 1)
        text_print(out, "%d x ", plan->n_ranks);
    text_print(out, "learner ");
    print_parts(out, &plan->learner);
    if (plan->n_rollout) {
        text_print(out, "            %d x rollout ", plan->n_rollout);
        print_parts(out, &plan->rollout);
        text_print(out, "            %d x reward up to %s\n", plan->n_reward,
                   plan_bytes(bytes, plan->reward_bytes));
    }
    text_print(out, "            together %s\n", plan_bytes(bytes, plan->total_bytes));
}

static void print_model(struct text *out, const struct stage_plan *plan)
{
    static const char *const families[] = {"llama", "qwen2", "qwen3", "mistral"};
    const struct model_shape *shape = &plan->shape;
    char number[PLAN_NUMBER_BYTES];

    if (!plan->has_shape) {
        text_print(out, "  size      unknown%s %s\n",
                   strncmp(plan->why_unknown, "until ", 6) ? ":" : "", plan->why_unknown);
        return;
    }
    text_print(out, "  size      %s parameters: %s, %d layers of %d, heads %d/%d of %d, MLP %d, "
                    "vocabulary %d, %s head\n", plan_number(number, (double)plan->parameters),
               families[shape->family], shape->n_layers, shape->channels, shape->n_heads,
               shape->n_kv_heads, shape->head_dim, shape->hidden_channels, shape->vocab_size,
               shape->tied_head ? "tied" : "untied");
}

static void print_length_note(struct text *out, const struct stage *stage,
                              const struct stage_plan *plan)
{
    const struct rollout_config *rollout = &stage->settings.rollout;
    int64_t longest = rollout->max_prompt_length + rollout->max_completion_length;

    if (plan->has_shape && plan->n_rollout && longest > plan->shape.max_positions)
        text_print(out, "  NOTE      a prompt and a completion may have %lld tokens together, but "
                        "the model has %d positions:\n            lower rollout.max_prompt_length "
                        "or rollout.max_completion_length\n", (long long)longest,
                   plan->shape.max_positions);
}

static void print_stage(struct text *out, const struct stage *stage, const struct stage_plan *plan)
{
    text_print(out, "\n%s", stage->name);
    if (strcmp(stage->name, stage->kind->name))
        text_print(out, " (%s)", stage->kind->name);
    text_print(out, ": %s\n", stage->kind->help);
    print_model(out, plan);
    print_length_note(out, stage, plan);
    print_work(out, stage, plan);
    print_memory(out, plan);
    plan_print_settings(out, stage);
}

static void print_machine(struct text *out, const struct recipe *recipe,
                          const struct stage_plan *plans, const char *only)
{
    double here = plan_machine_bytes();
    char need[PLAN_NUMBER_BYTES], have[PLAN_NUMBER_BYTES];
    size_t most = recipe->n_stages;
    int n_unknown = 0;

    for (size_t i = 0; i < recipe->n_stages; i++) {
        if (only && strcmp(only, recipe->stages[i].name))
            continue;
        n_unknown += !plans[i].has_shape;
        if (plans[i].has_shape &&
            (most == recipe->n_stages || plans[i].total_bytes > plans[most].total_bytes))
            most = i;
    }
    text_print(out, "\n");
    if (most < recipe->n_stages) {
        int fits = plans[most].total_bytes <= here;
        text_print(out, "Stage %s needs the most memory, %s; this machine has %s%s\n",
                   recipe->stages[most].name, plan_bytes(need, plans[most].total_bytes),
                   plan_bytes(have, here),
                   fits ? "." : ": TOO LITTLE for all its processes at once. Each of these helps:");
        if (!fits)
            plan_print_advice(out, &recipe->stages[most], &plans[most]);
        if (plans[most].n_ranks > 1)
            text_print(out, "That is with all %d ranks on one machine; each alone takes %s.\n",
                       plans[most].n_ranks, plan_bytes(need, plans[most].learner.total));
    }
    if (n_unknown)
        text_print(out, "Stages whose memory is not known, since their models are not here: %d.\n",
                   n_unknown);
}

static void print_plan(struct text *out, const struct recipe *recipe,
                       const struct stage_plan *plans, const struct missing *missing,
                       const char *only)
{
    text_print(out, "%s: run \"%s\", seed %lld, %zu stage%s\n\n", recipe->path, recipe->run.name,
               (long long)recipe->run.seed, recipe->n_stages,
               recipe->n_stages == 1 ? "" : "s");
    plan_print_graph(out, recipe);
    for (size_t i = 0; i < recipe->n_stages; i++)
        if (!only || !strcmp(only, recipe->stages[i].name))
            print_stage(out, &recipe->stages[i], &plans[i]);
    print_machine(out, recipe, plans, only);
    for (size_t i = 0; i < missing->n; i++)
        text_print(out, "missing: %s, for %s\n", missing->paths[i], missing->wanted[i].data);
}

/* ---- JSON. */

static void print_memory_json(struct text *out, const char *name, int n_processes,
                              const struct plan_memory *memory)
{
    text_print(out, ",\"%s\":{\"processes\":%d,\"total_bytes\":%.0f", name, n_processes,
               memory->total);
    for (int i = 0; i < N_PARTS; i++)
        if (memory->parts[i] > 0)
            text_print(out, ",\"%s_bytes\":%.0f", plan_part_keys[i], memory->parts[i]);
    text_print(out, "}");
}

static void print_wire_json(struct text *out, const char *key, const char *value)
{
    text_print(out, ",\"%s\":", key);
    if (value[0])
        json_append_string(out, value, strlen(value));
    else
        text_print(out, "null");
}

static void print_count_json(struct text *out, const char *key, double value)
{
    if (value < 0)
        text_print(out, ",\"%s\":null", key);
    else
        text_print(out, ",\"%s\":%.0f", key, value);
}

static void print_stage_json(struct text *out, const struct stage *stage,
                             const struct stage_plan *plan)
{
    text_print(out, "{\"name\":\"%s\",\"stage\":\"%s\"", stage->name, stage->kind->name);
    print_wire_json(out, "from", stage->from);
    print_wire_json(out, "sample", stage->sample);
    print_wire_json(out, "data_from", stage->data);
    print_count_json(out, "parameters", plan->has_shape ? (double)plan->parameters : -1);
    print_wire_json(out, "why_unknown", plan->why_unknown);
    print_count_json(out, "steps", plan->trained_tokens < 0 ? -1 : plan->n_steps);
    print_count_json(out, "samples", plan->n_samples);
    print_count_json(out, "sampled_tokens_at_most", plan->sampled_tokens);
    print_count_json(out, "trained_tokens", plan->trained_tokens);
    print_count_json(out, "eval_tokens_at_most", plan->eval_tokens);
    if (plan->has_shape) {
        print_memory_json(out, "learner", plan->n_ranks, &plan->learner);
        print_memory_json(out, "rollout", plan->n_rollout, &plan->rollout);
        text_print(out, ",\"total_bytes\":%.0f", plan->total_bytes);
    }
    text_print(out, ",\"settings\":");
    plan_print_settings_json(out, stage);
    text_print(out, "}");
}

static void print_json(struct text *out, const struct recipe *recipe,
                       const struct stage_plan *plans, const struct missing *missing,
                       const char *only)
{
    int n = 0;

    text_print(out, "{\"recipe\":");
    json_append_string(out, recipe->path, strlen(recipe->path));
    text_print(out, ",\"run\":");
    json_append_string(out, recipe->run.name, strlen(recipe->run.name));
    text_print(out, ",\"seed\":%lld,\"stages\":[", (long long)recipe->run.seed);
    for (size_t i = 0; i < recipe->n_stages; i++) {
        if (only && strcmp(only, recipe->stages[i].name))
            continue;
        text_print(out, "%s", n++ ? "," : "");
        print_stage_json(out, &recipe->stages[i], &plans[i]);
    }
    text_print(out, "],\"missing\":[");
    for (size_t i = 0; i < missing->n; i++) {
        text_print(out, "%s", i ? "," : "");
        json_append_string(out, missing->paths[i], strlen(missing->paths[i]));
    }
    text_print(out, "]}\n");
}

/* Returns how many files are missing. */
int pipeline_plan(struct text *out, const struct pipeline_options *options, int as_json)
{
    struct missing *missing;
    const struct stage *only;
    struct recipe recipe;
    int status = STATUS_OK;

    TRY(locate_recipe(&recipe, options->config, options->run, options->overrides));
    missing = mem_alloc(1, sizeof(*missing));
    if (options->only)
        TRY_OUT(locate_stage(&recipe, options->only, &only));
    TRY_OUT(look_for(missing, &recipe, options->only));
    struct stage_plan *plans = plan_sizes(&recipe, options->run, options->n_ranks);
    if (as_json)
        print_json(out, &recipe, plans, missing, options->only);
    else
        print_plan(out, &recipe, plans, missing, options->only);
    mem_free(plans);
    status = (int)missing->n;
out:
    missing_release(missing);
    recipe_release(&recipe);
    return status;
}
