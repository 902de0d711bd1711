/* A checkpoint's samples, judged and filtered, as an editable chat JSONL; general data mixed in. */
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/log.h"
#include "common/status.h"
#include "pipeline/internal.h"

#define CHUNK_TASKS 128
#define DATA_VERSION (1 << 19)   /* beside the steps of the stage's own policy */

enum { TERM_ACCURACY, TERM_FORMAT, TERM_LANGUAGE, N_TERMS };

/* Why a sample is left out: the first rule that it breaks. */
enum drop { KEPT, DROP_ERROR, DROP_UNREADABLE, DROP_WRONG, DROP_FORMAT, DROP_LANGUAGE,
            DROP_REPETITION, DROP_LENGTH, DROP_DUPLICATE, DROP_SURPLUS, N_DROPS };
static const char *const drop_names[N_DROPS] = {"kept",     "error",      "unreadable", "wrong",
                                                "format",   "language",   "repetition", "length",
                                                "duplicate", "surplus"};

struct building {
    struct stage_run *run;
    const struct data_config *config;
    struct text out;                 /* the file */
    int64_t n_rows;
    int64_t drops[N_DROPS];
};

/* Nothing to learn from, or nothing that a line of JSON can hold. */
static int is_unreadable(const struct wire_text *text)
{
    return text->bytes == 0 || memchr(text->data, '\0', text->bytes) != NULL;
}

static enum drop judge(const struct data_config *config, const struct sample_group *group,
                       const struct sample *sample)
{
    if (sample->masked)
        return DROP_ERROR;
    if (!sample->text.bytes)
        return DROP_FORMAT;
    if (is_unreadable(&sample->text))
        return DROP_UNREADABLE;
    if (config->require_right && sample->scores[TERM_ACCURACY].outcome != OUTCOME_RIGHT)
        return DROP_WRONG;
    if (config->require_format && sample->scores[TERM_FORMAT].outcome != OUTCOME_RIGHT)
        return DROP_FORMAT;
    if (reward_language_share(sample->text.data, sample->text.bytes, group->task.language) <
        config->min_language)
        return DROP_LANGUAGE;
    if (reward_repetition_share(sample->text.data, sample->text.bytes) > config->max_repetition)
        return DROP_REPETITION;
    if (sample->n_tokens > config->max_length || sample->finish != SAMPLE_FINISH_EOS)
        return DROP_LENGTH;
    return KEPT;
}

static int stands_before(const struct sample_group *group, uint32_t i, const enum drop *verdicts)
{
    const struct sample *sample = &group->samples[i];

    for (uint32_t j = 0; j < i; j++)
        if (verdicts[j] == KEPT && group->samples[j].text.bytes == sample->text.bytes &&
            memcmp(group->samples[j].text.data, sample->text.data, sample->text.bytes) == 0)
            return 1;
    return 0;
}

static void write_row(struct building *building, const struct sample_group *group,
                      const struct sample *sample)
{
    struct text *out = &building->out;
    const struct task *task = &group->task;

    text_print(out, "{\"messages\":[{\"role\":\"user\",\"content\":");
    json_append_string(out, task->question.data, task->question.bytes);
    text_print(out, "},{\"role\":\"assistant\",\"content\":");
    /* The whole answer: what the template had begun, and what the model wrote. */
    struct text whole = {0};
    text_append(&whole, task->prefill.data, task->prefill.bytes);
    text_append(&whole, sample->text.data, sample->text.bytes);
    json_append_string(out, whole.data, whole.length);
    text_release(&whole);
    text_print(out, "}],\"task_id\":%llu,\"kind\":", (unsigned long long)task->id);
    json_append_string(out, task->kind, strlen(task->kind));
    text_print(out, ",\"source\":");
    json_append_string(out, building->run->stage->sample, strlen(building->run->stage->sample));
    text_print(out, ",\"weight_version\":%u}\n", sample->n_tokens ? sample->weight_versions[0] : 0);
    building->n_rows++;
}

static int filter_group(struct building *building, const struct sample_group *group,
                        struct arena *arena)
{
    enum drop *verdicts = ARENA_NEW(arena, enum drop, group->n_samples);
    int64_t kept = 0;

    if (!verdicts)
        return status_fail(STATUS_NOMEM, "no room to filter %u samples", group->n_samples);
    for (uint32_t i = 0; i < group->n_samples; i++) {
        verdicts[i] = judge(building->config, group, &group->samples[i]);
        if (verdicts[i] == KEPT && stands_before(group, i, verdicts))
            verdicts[i] = DROP_DUPLICATE;
        if (verdicts[i] == KEPT && kept == building->config->max_per_task)
            verdicts[i] = DROP_SURPLUS;
        building->drops[verdicts[i]]++;
        if (verdicts[i] != KEPT)
            continue;
        kept++;
        write_row(building, group, &group->samples[i]);
    }
    return STATUS_OK;
}

/* Tasks [first, first + n) of the stage's stream, sampled, judged, stored, filtered. */
static int sample_chunk(struct building *building, size_t first, size_t n, int64_t step,
                        uint32_t version)
{
    static const struct reward_term terms[N_TERMS] = {
        {"accuracy", 1.0f}, {"format", 0.0f}, {"language", 0.0f}};
    struct stage_run *run = building->run;
    const struct rollout_config *rollout = &run->stage->settings.rollout;

    arena_rewind(&run->arena);
    const struct task **tasks = ARENA_NEW(&run->arena, const struct task *, n);
    struct sample_group *groups = ARENA_NEW(&run->arena, struct sample_group, n);
    if (!tasks || !groups)
        return status_fail(STATUS_NOMEM, "no room for %zu groups", n);
    for (size_t i = 0; i < n; i++)
        tasks[i] = task_set_pick(run->train, stage_seed(run, SEED_TASKS), first + i);
    struct exchange_job job = {
        .label = "sample",
        .tasks = tasks,
        .n_tasks = n,
        .sampling = {.num_generations = (uint32_t)rollout->num_generations,
                     .max_completion_length = (uint32_t)rollout->max_completion_length,
                     .top_k = (uint32_t)rollout->top_k,
                     .temperature = (float)rollout->temperature,
                     .top_p = (float)rollout->top_p,
                     .seed = random_mix(stage_seed(run, SEED_DATA), first),
                     .weight_version = version},
        .terms = terms,
        .n_terms = N_TERMS,
        .max_sequences = (int)rollout->max_sequences,
        .arena = &run->arena,
        .groups = groups,
    };
    TRY(exchange_run(run->pipeline->exchange, &job));
    for (size_t g = 0; g < n; g++)
        TRY(filter_group(building, &groups[g], &run->arena));
    return run_store_put_step(run->pipeline->store, run->id, step, job.total_seconds, NULL, 0,
                              "data", groups, run->pipeline->recipe.run.sample_texts ? n : 0);
}

static int sample_all(struct building *building, size_t n_tasks, uint32_t version)
{
    size_t n_chunks = (n_tasks + CHUNK_TASKS - 1) / CHUNK_TASKS;
    struct progress progress;
    int status = STATUS_OK;

    progress_begin(&progress, "sampling data", 0, (int64_t)n_tasks);
    for (size_t chunk = 0; chunk < n_chunks && status == STATUS_OK; chunk++) {
        size_t first = chunk * CHUNK_TASKS;
        size_t n = n_tasks - first < CHUNK_TASKS ? n_tasks - first : CHUNK_TASKS;
        /* Steps of the sampling come before step 1 of the training: -n_chunks .. -1. */
        status = sample_chunk(building, first, n, (int64_t)chunk - (int64_t)n_chunks, version);
        progress_update(&progress, (int64_t)(first + n), "%lld kept", (long long)building->n_rows);
    }
    progress_end(&progress);
    return status;
}

/* Line `wanted` of a file of lines, with its newline. */
static void append_line(struct text *out, const struct text *file, size_t wanted)
{
    const char *at = file->data, *end = file->data + file->length;

    for (; at < end; wanted--) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *next = newline ? newline + 1 : end;
        if (wanted == 0) {
            text_append(out, at, (size_t)((newline ? newline : end) - at));
            text_append(out, "\n", 1);
            return;
        }
        at = next;
    }
}

static size_t count_lines(const struct text *file)
{
    size_t n = file->length && file->data[file->length - 1] != '\n';

    for (size_t i = 0; i < file->length; i++)
        n += file->data[i] == '\n';
    return n;
}

/* general_share of all rows: share / (1 - share) of the sampled ones, drawn with replacement. */
static int mix_general(struct building *building)
{
    struct stage_run *run = building->run;
    const char *path = run->stage->settings.tasks.general;
    double share = building->config->general_share;
    struct document_set *set;
    struct text file = {.maximum = (size_t)1 << 40};

    if (share == 0.0)
        return STATUS_OK;
    if (!path[0])
        return status_fail(STATUS_CONFIG,
                           "stage \"%s\": data.general_share is %g but tasks.general "
                           "names no file",
                           run->stage->name, share);
    /* Every line is checked. */
    TRY(document_set_read(&set, path, &run->chat, &run->stage->settings.tasks));
    document_set_close(&set);
    TRY(task_file_read(path, (size_t)4 << 30, &file));
    size_t n = (size_t)((double)building->n_rows * share / (1.0 - share) + 0.5);
    size_t n_lines = count_lines(&file);
    struct random_stream stream = {.seed = stage_seed(run, SEED_DATA)};
    for (size_t i = 0; i < n && n_lines; i++) {
        append_line(&building->out, &file, (size_t)random_below(&stream, n_lines));
        building->n_rows++;
    }
    text_release(&file);
    return STATUS_OK;
}

static int record(struct building *building, const char *relative)
{
    struct stage_run *run = building->run;
    struct metric_list metrics = {.n = 0};
    struct digest digest;
    char hex[DIGEST_HEX_BYTES];

    metric_add(&metrics, (double)building->drops[KEPT], "data/kept");
    for (int i = KEPT + 1; i < N_DROPS; i++)
        metric_add(&metrics, (double)building->drops[i], "data/dropped/%s", drop_names[i]);
    log_info("%s: %lld rows in %s (%lld samples kept; dropped: %lld wrong, %lld format, "
             "%lld language, %lld repetition)", run->stage->name, (long long)building->n_rows,
             relative, (long long)building->drops[KEPT], (long long)building->drops[DROP_WRONG],
             (long long)building->drops[DROP_FORMAT], (long long)building->drops[DROP_LANGUAGE],
             (long long)building->drops[DROP_REPETITION]);
    TRY(run_store_put_step(run->pipeline->store, run->id, 0, 0.0, metrics.values, metrics.n, "data",
                           NULL, 0));
    digest_of(&digest, building->out.data, building->out.length);
    digest_hex(&digest, hex);
    return run_store_put_dataset(run->pipeline->store, run->id, relative, "chat-jsonl",
                                 building->n_rows, hex, &run->dataset);
}

static int build(struct stage_run *run, const char *path, const char *relative)
{
    struct building building = {.run = run,
                                .config = &run->stage->settings.data,
                                .out = {.maximum = (size_t)1 << 40}};
    const struct stage_settings *settings = &run->stage->settings;
    char teacher[FILE_PATH_MAX];
    uint32_t version = stage_weight_version(run, DATA_VERSION);
    int64_t row;
    int status;

    TRY(run_store_forget_data(run->pipeline->store, run->id));
    TRY(stage_find_other(run, run->stage->sample, teacher, &row));
    TRY(stage_open_train(run));
    TRY(stage_start_workers(run));
    TRY(stage_publish_checkpoint(run, teacher, version));
    TRY_OUT(sample_all(&building, (size_t)settings->data.n_tasks, version));
    TRY_OUT(mix_general(&building));
    if (!building.n_rows)
        TRY_OUT(status_fail(STATUS_FAILED,
                            "stage \"%s\": none of %lld sampled tasks gave a row that "
                            "passes the filters of section data; see `hone samples --stage %s "
                            "--purpose data`",
                            run->stage->name, (long long)settings->data.n_tasks, run->stage->name));
    TRY_OUT(record(&building, relative));
    TRY_OUT(run_store_put_parent(run->pipeline->store, "dataset", run->dataset, "checkpoint", row));
    /* Last: a file without its rows would be taken for an edited one; rows without a file are
     * made anew. */
    status = file_write_atomic(path, building.out.data, building.out.length);
out:
    text_release(&building.out);
    return status;
}

/* As it is: what it was made from stays known, its rows and digest are those of now. */
static int take_existing(struct stage_run *run, const char *path, const char *relative)
{
    struct text text = {0};
    struct digest digest;
    char hex[DIGEST_HEX_BYTES];

    TRY(file_read(path, (size_t)4 << 30, &text));
    int64_t n_rows = (int64_t)count_lines(&text);
    digest_of(&digest, text.data, text.length);
    digest_hex(&digest, hex);
    text_release(&text);
    log_info("%s: %s is there already and is taken as it is (%lld rows); remove it to sample anew",
             run->stage->name, relative, (long long)n_rows);
    return run_store_put_dataset(run->pipeline->store, run->id, relative, "chat-jsonl", n_rows, hex,
                                 &run->dataset);
}

int dataset_prepare(struct stage_run *run, char path[FILE_PATH_MAX])
{
    char relative[FILE_PATH_MAX], directory[FILE_PATH_MAX];

    if (run->stage->data[0]) {
        TRY(run_store_last_dataset(run->pipeline->store, run->stage->data, relative,
                                   &run->dataset));
        return file_join(path, run->pipeline->options.run, relative);
    }
    TRY(file_join(directory, run->pipeline->options.run, "datasets"));
    TRY(file_make_directories(directory));
    snprintf(relative, sizeof(relative), "datasets/%s.jsonl", run->stage->name);
    TRY(file_join(path, run->pipeline->options.run, relative));
    return file_exists(path) ? take_existing(run, path, relative) : build(run, path, relative);
}
