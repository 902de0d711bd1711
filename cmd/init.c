/* hone init: a directory with a recipe to start from. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/cmd.h"
#include "common/files.h"
#include "common/log.h"
#include "common/status.h"
#include "wire/wire.h"

#define RECIPE_MAX_BYTES ((size_t)1 << 20)
#define PRESET_NAME_MAX 64

static const struct option_row options[] = {
    {"preset", "NAME", "what to start from (default: own); --list names them"},
    {"list", NULL, "list the presets"},
    {0},
};

/* The preset that needs no file of ours: reinforcement learning on one's own tasks. */
static const char own_recipe[] =
    "# Reinforcement learning on your own tasks, from your own model.\n"
    "# `hone plan recipe.yaml` shows what it comes to and what is missing; `hone docs config`\n"
    "# prints every setting with its default; `hone help stages` lists the kinds of stages.\n"
    "run:\n"
    "  name: own\n"
    "  seed: 1                      # same seed, same bytes\n"
    "  save_steps: 20               # a checkpoint every so many steps\n"
    "tasks:                         # sections here hold for every stage\n"
    "  train: tasks.jsonl           # replace by your own; a line: question, reference, verifier\n"
    "  heldout: tasks.jsonl         # use other tasks than those of training\n"
    "  template_name: r1_zero_think # how a question becomes a prompt\n"
    "rollout:\n"
    "  num_generations: 8           # completions per task: the group of GRPO\n"
    "  max_prompt_length: 256       # tokens\n"
    "  max_completion_length: 512\n"
    "  workers: 2\n"
    "grpo:\n"
    "  tasks_per_step: 8\n"
    "  max_steps: 100\n"
    "optimizer:\n"
    "  learning_rate: 1e-6\n"
    "eval:\n"
    "  n_tasks: 64\n"
    "  eval_steps: 20\n"
    "stages:\n"
    "  - name: zero\n"
    "    stage: zero\n"
    "    from: ./model              # a folder: config.json, model.safetensors, tokenizer.json\n"
    "    reward:                    # right answers, and answers in the <think> <answer> form\n"
    "      reward_funcs: [accuracy, format]\n"
    "      reward_weights: [1, 0.2]\n";

static const char sample_tasks[] =
    "{\"question\": \"What is 3/4 + 1/8?\", \"reference\": \"7/8\", \"verifier\": \"math\"}\n"
    "{\"question\": \"Solve 2x + 6 = 20 for x.\", \"reference\": \"7\", \"verifier\": \"math\"}\n"
    "{\"question\": \"A train goes 150 km in 2 hours. What is its speed in km/h?\", \"reference\": "
    "\"75\", \"verifier\": \"math\"}\n"
    "{\"question\": \"Name the chemical element with the symbol Fe, in lower case.\", "
    "\"reference\": \"iron\", \"verifier\": \"exact\", \"kind\": \"fact\"}\n";

static const char readme_head[] =
    "Started with `hone init`. Paths in recipe.yaml are taken from the directory in which hone is\n"
    "called: call it here. tasks.jsonl is an example of tasks, one JSON object a line: question,\n"
    "reference, verifier (`hone verify --list`), and optionally kind, language, id.\n\n";

/* ---- Where the presets are: HONE_SHARE, beside the build, or in the prefix. */

static int find_share(char out[FILE_PATH_MAX])
{
    const char *share = getenv("HONE_SHARE");
    char base[FILE_PATH_MAX];
    static const char *const places[] = {"../../configs", "../configs", "../share/hone/configs"};

    if (share && share[0]) {
        TRY(file_join(out, share, "configs"));
        return file_exists(out) ? STATUS_OK
                                : status_fail(STATUS_CONFIG, "HONE_SHARE is %s, which holds no "
                                              "\"configs\"", share);
    }
    snprintf(base, sizeof(base), "%s", program_path());
    char *slash = strrchr(base, '/');
    if (slash)
        *slash = '\0';
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        TRY(file_join(out, base, places[i]));
        if (file_exists(out))
            return STATUS_OK;
    }
    return status_fail(STATUS_CONFIG, "the presets are not beside %s; name the folder that holds "
                       "\"configs\" in HONE_SHARE, or take --preset own", program_path());
}

/* configs/recipes/NAME.yaml, or configs/NAME/r1.yaml. */
static int find_preset(const char *name, char path[FILE_PATH_MAX])
{
    char share[FILE_PATH_MAX], relative[PRESET_NAME_MAX + 32];

    if (strlen(name) > PRESET_NAME_MAX || strchr(name, '/') || name[0] == '.')
        return status_fail(STATUS_CONFIG, "there is no preset \"%s\"; `hone init --list`", name);
    TRY(find_share(share));
    for (int i = 0; i < 2; i++) {
        snprintf(relative, sizeof(relative), i ? "%s/r1.yaml" : "recipes/%s.yaml", name);
        TRY(file_join(path, share, relative));
        if (file_exists(path))
            return STATUS_OK;
    }
    return status_fail(STATUS_CONFIG, "there is no preset \"%s\" in %s; `hone init --list`", name,
                       share);
}

/* The first comment line of a preset, as its summary. */
static void add_preset(struct text *out, const char *name, const char *path)
{
    struct text file = {0};

    if (file_read(path, RECIPE_MAX_BYTES, &file) == STATUS_OK && file.length) {
        int n = (int)strcspn(file.data, "\n");
        const char *line = file.data[0] == '#' ? file.data + 1 + strspn(file.data + 1, " ") : "";
        text_print(out, "  %-12s %.*s\n", name, line[0] ? n - (int)(line - file.data) : 0, line);
    }
    text_release(&file);
}

static int compare_names(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void list_folder(struct text *out, const char *folder, int is_recipes)
{
    struct dirent **entries;
    int n = scandir(folder, &entries, NULL, compare_names);

    for (int i = 0; i < n; i++) {
        char name[256], relative[300], path[FILE_PATH_MAX];
        size_t length = strlen(entries[i]->d_name);
        int is_yaml = length > 5 && strcmp(entries[i]->d_name + length - 5, ".yaml") == 0;
        snprintf(name, sizeof(name), "%.*s", (int)(is_yaml ? length - 5 : length),
                 entries[i]->d_name);
        snprintf(relative, sizeof(relative), is_recipes ? "%s" : "%s/r1.yaml", entries[i]->d_name);
        if (name[0] != '.' && is_yaml == is_recipes &&
            file_join(path, folder, relative) == STATUS_OK && file_exists(path))
            add_preset(out, name, path);
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
}

static int list_presets(void)
{
    char share[FILE_PATH_MAX], recipes[FILE_PATH_MAX];
    struct text out = {0};

    text_print(&out, "  %-12s %s\n", "own",
               "Reinforcement learning on your own tasks, from your own model.");
    int status = find_share(share);
    if (status == STATUS_OK)
        status = file_join(recipes, share, "recipes");
    if (status == STATUS_OK) {
        list_folder(&out, share, 0);
        list_folder(&out, recipes, 1);
    }
    if (status < 0)
        log_warning("%s", status_reason());
    status = print_text(&out);
    text_release(&out);
    return status;
}

/* ---- Writing. */

/* The recipe names the keys, so that all runs of the directory share them. A library without CURVE
 * serves ipc:// all the same. */
static int add_keys(const char *directory, struct text *recipe)
{
    char keys[FILE_PATH_MAX], ignore[FILE_PATH_MAX];
    struct text with = {0};
    char *line = strstr(recipe->data, "run:\n");

    TRY(file_join(keys, directory, "keys"));
    TRY(file_join(ignore, keys, ".gitignore"));
    if (wire_keys_make(keys) < 0) {
        log_warning("no keys: %s", status_reason());
        return STATUS_OK;
    }
    TRY(file_write_atomic(ignore, "*\n", 2));
    if (!line || (line != recipe->data && line[-1] != '\n'))
        return STATUS_OK;
    line += strlen("run:\n");
    text_append(&with, recipe->data, (size_t)(line - recipe->data));
    text_print(&with, "  keys: keys                   # of a tcp:// endpoint: `hone keys keys`\n%s",
               line);
    text_release(recipe);
    *recipe = with;
    return STATUS_OK;
}

static int refuse_existing(const char *directory, const char *name, char path[FILE_PATH_MAX])
{
    TRY(file_join(path, directory, name));
    if (file_exists(path))
        return status_fail(STATUS_CONFIG, "%s exists already and is left as it is; take another "
                           "directory", path);
    return STATUS_OK;
}

static void print_next(struct text *out, const char *preset)
{
    static const char *const steps[][2] = {
        {"hone doctor", "what this machine offers"},
        {"hone toy build/demo/world", "write the demo's tasks and text"},
        {"hone plan recipe.yaml", "graph, sizes, memory, what is missing"},
        {"hone run recipe.yaml --run run/first", "run it; Ctrl-C stops, the same goes on"},
        {"hone status --run run/first", "how far it is"},
    };

    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
        if (strncmp(steps[i][0], "hone toy", 8) != 0 || strcmp(preset, "demo") == 0)
            text_print(out, "    %-38s %s\n", steps[i][0], steps[i][1]);
}

static int write_all(const char *directory, const char *preset, struct text *recipe)
{
    char recipe_path[FILE_PATH_MAX], tasks_path[FILE_PATH_MAX], readme_path[FILE_PATH_MAX];
    struct text readme = {0}, next = {0};

    TRY(refuse_existing(directory, "recipe.yaml", recipe_path));
    TRY(refuse_existing(directory, "tasks.jsonl", tasks_path));
    TRY(refuse_existing(directory, "README.md", readme_path));
    TRY(file_make_directories(directory));
    TRY(add_keys(directory, recipe));
    text_print(&readme, "%s", readme_head);
    print_next(&readme, preset);
    text_print(&next, "Wrote %s: recipe.yaml, tasks.jsonl, README.md, keys/. Go on with:\n\n"
               "    cd %s\n", directory, directory);
    print_next(&next, preset);
    int status = file_write_atomic(recipe_path, recipe->data, recipe->length);
    if (status == STATUS_OK)
        status = file_write_atomic(tasks_path, sample_tasks, sizeof(sample_tasks) - 1);
    if (status == STATUS_OK)
        status = file_write_atomic(readme_path, readme.data, readme.length);
    if (status == STATUS_OK)
        status = print_text(&next);
    text_release(&readme);
    text_release(&next);
    return status;
}

static int run(const struct command *command, const struct arguments *arguments)
{
    const char *preset = argument_or(arguments, "preset", "own");
    struct text recipe = {0};
    char path[FILE_PATH_MAX];
    int status = STATUS_OK;

    (void)command;
    if (argument_get(arguments, "list"))
        return list_presets();
    if (!arguments->n_positionals)
        return status_fail(STATUS_CONFIG, "name the directory to make: hone init DIR");
    if (strcmp(preset, "own") == 0) {
        text_append(&recipe, own_recipe, sizeof(own_recipe) - 1);
    } else {
        TRY(find_preset(preset, path));
        status = file_read(path, RECIPE_MAX_BYTES, &recipe);
    }
    if (status == STATUS_OK)
        status = write_all(arguments->positionals[0], preset, &recipe);
    text_release(&recipe);
    return status;
}

const struct command command_init = {
    "init", "DIR", 1, "make a directory with a commented recipe to start from",
    "The presets are files: in $HONE_SHARE/configs if that is set, else beside the program's\n"
    "build folder, else in PREFIX/share/hone/configs. The preset \"own\" is built in.",
    options, run};
