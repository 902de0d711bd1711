#include "pipeline/setup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/status.h"

#define SOCKET_PATH_MAX 100   /* sun_path holds 108 */
#define OWN_DESCRIPTORS 64
#define WORKER_DESCRIPTORS 4

static int hash_file(struct digest_state *hash, const char *path)
{
    struct digest digest;

    if (!path[0])
        return STATUS_OK;
    TRY(digest_of_file(&digest, path));
    digest_add(hash, digest.bytes, sizeof(digest.bytes));
    return STATUS_OK;
}

static int hash_tasks(struct digest_state *hash, const struct tasks_config *tasks)
{
    TRY(hash_file(hash, tasks->train));
    TRY(hash_file(hash, tasks->heldout));
    TRY(hash_file(hash, tasks->text));
    return hash_file(hash, tasks->general);
}

int setup_hash_data(const struct recipe *recipe, char hex[DIGEST_HEX_BYTES])
{
    struct digest_state *hash = digest_begin();
    struct digest digest;
    int status = STATUS_OK;

    for (size_t i = 0; i < recipe->n_stages && status == STATUS_OK; i++) {
        const struct tasks_config *tasks = &recipe->stages[i].settings.tasks;
        /* Stages mostly share their files; the same ones are read once. */
        if (i && memcmp(tasks, &recipe->stages[i - 1].settings.tasks, sizeof(*tasks)) == 0)
            continue;
        status = hash_tasks(hash, tasks);
        if (status < 0)
            status_context(status, "stage \"%s\", section tasks", recipe->stages[i].name);
    }
    digest_end(hash, &digest);
    digest_hex(&digest, hex);
    return status;
}

int setup_hash_templates(const struct recipe *recipe, char hex[DIGEST_HEX_BYTES])
{
    struct digest_state *hash = digest_begin();
    struct digest digest;
    int status = STATUS_OK;

    for (size_t i = 0; i < recipe->n_stages && status == STATUS_OK; i++) {
        struct chat_template chat;
        status = chat_template_init(&chat, recipe->stages[i].settings.tasks.template_name);
        if (status < 0)
            break;
        digest_add(hash, chat.before, strlen(chat.before) + 1);
        digest_add(hash, chat.after, strlen(chat.after) + 1);
        digest_add(hash, chat.prefill, strlen(chat.prefill) + 1);
        if (chat.turn_end[0])
            digest_add(hash, chat.turn_end, strlen(chat.turn_end) + 1);
        chat_template_release(&chat);
    }
    digest_end(hash, &digest);
    digest_hex(&digest, hex);
    return status;
}

int setup_endpoint(const char *run, const char *name, char out[FILE_PATH_MAX])
{
    struct digest digest;
    char hex[DIGEST_HEX_BYTES], real[FILE_PATH_MAX];

    if (strlen(run) + 1 + strlen(name) < SOCKET_PATH_MAX) {
        snprintf(out, FILE_PATH_MAX, "ipc://%s/%s", run, name);
        return STATUS_OK;
    }
    if (!realpath(run, real))
        return status_fail(STATUS_IO, "cannot resolve %s", run);
    digest_of(&digest, real, strlen(real));
    digest_hex(&digest, hex);
    snprintf(out, FILE_PATH_MAX, "ipc:///tmp/hone-%ld-%.16s-%s", (long)getuid(), hex, name);
    return STATUS_OK;
}

static int check_file(const struct stage *stage, const char *key, const char *path)
{
    if (!path[0] || file_exists(path))
        return STATUS_OK;
    return status_fail(STATUS_IO, "stage \"%s\": tasks.%s is %s, which does not exist", stage->name,
                       key, path);
}

/* Of a new model: the other stages take the one that lies with their weights. */
static int check_tokenizer(const struct stage *stage)
{
    struct tokenizer *tokenizer;
    int status;

    if (!stage->settings.model.tokenizer[0])
        return status_fail(STATUS_CONFIG,
                           "stage \"%s\" makes a new model and needs model.tokenizer, "
                           "a folder with tokenizer.json",
                           stage->name);
    status = tokenizer_load(&tokenizer, stage->settings.model.tokenizer);
    if (status < 0)
        return status_context(status, "stage \"%s\", model.tokenizer", stage->name);
    tokenizer_destroy(&tokenizer);
    return STATUS_OK;
}

static int check_stage(const struct stage *stage, struct reward *reward)
{
    const struct stage_settings *settings = &stage->settings;
    int is_rl = (stage->kind->flags & STAGE_IS_RL) != 0;

    TRY(check_file(stage, "train", settings->tasks.train));
    TRY(check_file(stage, "heldout", settings->tasks.heldout));
    TRY(check_file(stage, "text", settings->tasks.text));
    TRY(check_file(stage, "general", settings->tasks.general));
    if ((is_rl || stage->sample[0]) && !settings->tasks.train[0])
        return status_fail(STATUS_CONFIG, "stage \"%s\" needs tasks.train, a JSONL file of tasks",
                           stage->name);
    if (strchr(stage->from, '/') && !file_exists(stage->from))
        return status_fail(STATUS_IO,
                           "stage \"%s\": from is %s, which does not exist: it must be the "
                           "folder of a model (config.json, model.safetensors, tokenizer.json)",
                           stage->name, stage->from);
    if (!stage->from[0])
        TRY(check_tokenizer(stage));
    const struct rollout_limits limits = rollout_limits_of(&settings->rollout);
    if (limits.kv_cache_tokens && rollout_check_cache(&limits, limits.kv_cache_tokens) < 0)
        return status_context(STATUS_CONFIG, "stage \"%s\"", stage->name);
    if (!is_rl)
        return STATUS_OK;
    int status = reward_check_names(reward, &settings->reward);
    if (status == STATUS_OK)
        status = reward_check_lengths(reward, &settings->reward);
    return status < 0 ? status_context(status, "stage \"%s\"", stage->name) : STATUS_OK;
}

/* Opening them probes the sandbox and loads plugins: once for all stages that have the same. */
static int have_same_verifiers(const struct stage_settings *a, const struct stage_settings *b)
{
    return strcmp(a->reward.plugins, b->reward.plugins) == 0 &&
           strcmp(a->reward.commands, b->reward.commands) == 0 &&
           strcmp(a->reward.options, b->reward.options) == 0 &&
           a->reward.verifier_timeout_ms == b->reward.verifier_timeout_ms &&
           memcmp(&a->sandbox, &b->sandbox, sizeof(a->sandbox)) == 0;
}

int setup_check(const struct recipe *recipe, const char *only, const char *kind)
{
    const struct stage_settings *opened = NULL;
    struct reward *reward = NULL;
    int status = STATUS_OK;

    for (size_t i = 0; i < recipe->n_stages && status == STATUS_OK; i++) {
        const struct stage *stage = &recipe->stages[i];
        if ((only && strcmp(only, stage->name) != 0) ||
            (kind && strcmp(kind, stage->kind->name) != 0))
            continue;
        if (!opened || !have_same_verifiers(opened, &stage->settings)) {
            reward_destroy(&reward);
            status = reward_create(&reward, &stage->settings.reward, &stage->settings.sandbox);
            opened = &stage->settings;
        }
        if (status == STATUS_OK)
            status = check_stage(stage, reward);
    }
    reward_destroy(&reward);
    return status;
}

/* ZeroMQ ends the process when it gets no descriptor: that must not happen in the middle. */
int setup_check_limits(const struct recipe *recipe)
{
    struct rlimit limit;
    int64_t most = 0;

    for (size_t i = 0; i < recipe->n_stages; i++) {
        const struct stage_settings *settings = &recipe->stages[i].settings;
        int64_t n = settings->rollout.workers + settings->reward.workers;
        most = n > most ? n : most;
    }
    rlim_t need = OWN_DESCRIPTORS + WORKER_DESCRIPTORS * (rlim_t)most;
    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= need)
        return STATUS_OK;
    if (limit.rlim_max < need)
        return status_fail(STATUS_CONFIG, "no more than %llu files may be open, and this run needs "
                           "%llu: raise the limit (ulimit -n %llu)",
                           (unsigned long long)limit.rlim_max, (unsigned long long)need,
                           (unsigned long long)need);
    limit.rlim_cur = need;
    if (setrlimit(RLIMIT_NOFILE, &limit))
        return status_fail(STATUS_IO, "cannot raise the limit of open files: %s", strerror(errno));
    return STATUS_OK;
}

static int check_done(struct pipeline *pipeline, const struct stage *stage, const char *parent,
                      int needs_checkpoint)
{
    enum stage_state state;
    int has_checkpoint = 1;

    if (!parent[0] || strchr(parent, '/'))
        return STATUS_OK;
    TRY(run_store_stage_state(pipeline->store, parent, &state));
    if (needs_checkpoint)
        TRY(stage_has_checkpoint(pipeline, parent, &has_checkpoint));
    if (state == STAGE_DONE && has_checkpoint)
        return STATUS_OK;
    return status_fail(STATUS_CONFIG, "stage \"%s\" comes from stage \"%s\", %s; run that first: "
                       "hone run --run %s --stage %s", stage->name, parent,
                       state == STAGE_DONE ? "whose checkpoint is gone" : "which is not done",
                       pipeline->options.run, parent);
}

int setup_check_parents(struct pipeline *pipeline, const struct stage *stage)
{
    TRY(check_done(pipeline, stage, stage->from, 1));
    TRY(check_done(pipeline, stage, stage->sample, 1));
    return check_done(pipeline, stage, stage->data, 0);
}
