/* Supervised stages: pre-training of a base, and fine-tuning on sampled, filtered data. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/status.h"
#include "pipeline/internal.h"

/* All documents as tokens, and the order in which steps take them. */
struct corpus {
    struct token_list tokens;        /* one after another */
    struct sequence *sequences;      /* [n] */
    size_t n;
    uint32_t *order;                 /* [n_order], epochs one after another */
    size_t n_order;
    size_t *first;                   /* [n_steps + 1]: where a step begins in `order` */
    int64_t n_steps;
};

static void corpus_release(struct corpus *corpus)
{
    token_list_release(&corpus->tokens);
    mem_free(corpus->sequences);
    mem_free(corpus->order);
    mem_free(corpus->first);
}

struct extent {
    size_t prompt, completion, end;   /* offsets into tokens.ids */
};

static void append_token(struct token_list *list, int32_t id)
{
    if (list->n == list->capacity) {
        list->capacity = list->capacity ? list->capacity * 2 : 1024;
        list->ids = mem_resize(list->ids, list->capacity, sizeof(*list->ids));
    }
    list->ids[list->n++] = id;
}

/* Behind a document that has no end of its own. */
static int append_end(const struct stage_run *run, struct token_list *tokens)
{
    int32_t eos = tokenizer_eos(run->tokenizer);

    if (eos < 0 && run->notes.n_stops)
        eos = run->notes.stop_ids[0];
    if (eos < 0)
        return status_fail(STATUS_UNSUPPORTED, "stage \"%s\": its tokenizer has no end-of-text "
                           "token (<|endoftext|>, </s>, ...), and its model's config.json names no "
                           "\"eos_token_id\"", run->stage->name);
    append_token(tokens, eos);
    return STATUS_OK;
}

static int encode_document(const struct stage_run *run, const struct document *document,
                           struct token_list *tokens, struct extent *extent)
{
    size_t longest = (size_t)run->stage->settings.sft.max_length;

    extent->prompt = tokens->n;
    TRY(tokenizer_encode(run->tokenizer, document->prompt.data, document->prompt.bytes, tokens));
    extent->completion = tokens->n;
    TRY(tokenizer_encode(run->tokenizer, document->completion.data, document->completion.bytes,
                         tokens));
    if (!document->is_ended)
        TRY(append_end(run, tokens));
    if (tokens->n - extent->prompt > longest)
        tokens->n = extent->prompt + longest;
    if (extent->completion > tokens->n)
        extent->completion = tokens->n;
    extent->end = tokens->n;
    return STATUS_OK;
}

static int encode_all(const struct stage_run *run, const struct document_set *set,
                      struct corpus *corpus)
{
    size_t n = document_set_count(set);
    struct extent *extents = mem_alloc(n, sizeof(*extents));
    int status = STATUS_OK;

    for (size_t i = 0; i < n && status == STATUS_OK; i++)
        status = encode_document(run, document_set_get(set, i), &corpus->tokens, &extents[i]);
    corpus->sequences = mem_alloc(n, sizeof(*corpus->sequences));
    corpus->n = n;
    for (size_t i = 0; i < n && status == STATUS_OK; i++)
        corpus->sequences[i] = (struct sequence){
            corpus->tokens.ids + extents[i].prompt, corpus->tokens.ids + extents[i].completion,
            (uint32_t)(extents[i].completion - extents[i].prompt),
            (uint32_t)(extents[i].end - extents[i].completion)};
    mem_free(extents);
    return status;
}

static size_t length_of(const struct corpus *corpus, size_t at)
{
    const struct sequence *sequence = &corpus->sequences[corpus->order[at]];

    return (size_t)sequence->n_prompt + sequence->n_completion;
}

/* Cuts the order into steps of about batch_tokens; each has at least one document. */
static void cut_steps(struct corpus *corpus, size_t batch_tokens)
{
    size_t at = 0;

    corpus->first = mem_alloc(corpus->n_order + 1, sizeof(*corpus->first));
    while (at < corpus->n_order) {
        size_t tokens = 0;
        corpus->first[corpus->n_steps++] = at;
        while (at < corpus->n_order &&
               (tokens == 0 || tokens + length_of(corpus, at) <= batch_tokens))
            tokens += length_of(corpus, at++);
    }
    corpus->first[corpus->n_steps] = corpus->n_order;
}

static void plan_steps(const struct stage_run *run, struct corpus *corpus)
{
    const struct sft_config *sft = &run->stage->settings.sft;
    size_t batch = (size_t)sft->batch_tokens;
    double epochs = sft->num_train_epochs;

    if (sft->max_steps)   /* enough for max_steps, whatever the epochs say; one more for safety */
        epochs = 2.0 + (double)sft->max_steps * (double)batch / fmax(1, (double)corpus->tokens.n);
    size_t n_epochs = (size_t)ceil(epochs);
    corpus->order = mem_alloc(n_epochs * corpus->n, sizeof(*corpus->order));
    for (size_t epoch = 0; epoch < n_epochs; epoch++) {
        uint32_t *order = corpus->order + epoch * corpus->n;
        for (size_t i = 0; i < corpus->n; i++)
            order[i] = (uint32_t)i;
        random_shuffle(random_mix(stage_seed(run, SEED_BATCHES), epoch), order, corpus->n,
                       sizeof(*order));
    }
    corpus->n_order = (size_t)llround(epochs * (double)corpus->n);
    cut_steps(corpus, batch);
    if (sft->max_steps && corpus->n_steps > sft->max_steps)
        corpus->n_steps = sft->max_steps;
}

static int open_corpus(struct stage_run *run, struct corpus *corpus)
{
    struct document_set *set;
    char path[FILE_PATH_MAX];
    int status;

    if (run->stage->kind->flags & STAGE_NEEDS_DATA)
        TRY(dataset_prepare(run, path));
    else
        snprintf(path, sizeof(path), "%s", run->stage->settings.tasks.text);
    TRY(document_set_read(&set, path, &run->chat, &run->stage->settings.tasks));
    status = encode_all(run, set, corpus);
    document_set_close(&set);
    TRY(status);
    if (!corpus->n)
        return status_fail(STATUS_FAILED, "%s holds no document to learn from: the filters of "
                           "section data dropped everything, or the file is empty", path);
    plan_steps(run, corpus);
    run->n_steps = corpus->n_steps;
    return STATUS_OK;
}

static int run_step(struct stage_run *run, const struct corpus *corpus)
{
    double started = clock_seconds();
    struct metric_list metrics = {.n = 0};
    size_t first = corpus->first[run->step], end = corpus->first[run->step + 1];
    struct learner_stats stats;

    arena_rewind(&run->arena);
    struct sequence *batch = ARENA_NEW(&run->arena, struct sequence, end - first);
    if (!batch)
        return status_fail(STATUS_NOMEM, "no room for %zu documents; lower sft.batch_tokens",
                           end - first);
    for (size_t i = first; i < end; i++)
        batch[i - first] = corpus->sequences[corpus->order[i]];
    TRY(learner_train(run->learner, batch, end - first, &stats));
    double seconds = clock_seconds() - started;
    metric_add(&metrics, stats.loss, "loss");
    metric_add(&metrics, stats.learning_rate, "learning_rate");
    metric_add(&metrics, stats.grad_norm, "grad_norm");
    metric_add(&metrics, stats.entropy, "entropy");
    if (run->stage->settings.guard.z_score > 0)
        metric_add(&metrics, (double)stats.n_skipped, "skipped_updates");
    metric_add(&metrics, (double)end / (double)corpus->n, "epoch");
    metric_add(&metrics, (double)stats.n_tokens, "tokens");
    metric_add(&metrics, seconds, "step_time");
    metric_add(&metrics, (double)stats.n_tokens / fmax(seconds, 1e-3), "tokens_per_second/learn");
    return stage_record_step(run, seconds, &metrics, NULL, 0);
}

static int train(struct stage_run *run, const struct corpus *corpus)
{
    struct progress progress;
    int status = STATUS_OK;

    progress_begin(&progress, run->stage->name, run->step, run->n_steps);
    while (status == STATUS_OK && run->step < run->n_steps) {
        status = stage_is_stopped(run) ? STATUS_INTERRUPTED : run_step(run, corpus);
        if (status == STATUS_OK)
            status = stage_end_of_step(run);
        progress_update(&progress, run->step, "loss %.3f", run->last_figure);
    }
    progress_end(&progress);
    return stage_end(run, status);
}

int stage_sft_run(struct stage_run *run)
{
    static const struct grpo_config no_grpo = {.num_iterations = 1, .steps_per_generation = 1};
    const struct optimizer_config optimizer = stage_optimizer(run);
    struct corpus corpus = {.n = 0};
    char resume_path[FILE_PATH_MAX];
    int status;

    TRY(stage_load_policy(run, resume_path));
    TRY_OUT(open_corpus(run, &corpus));
    TRY_OUT(learner_create(&run->learner, run->pipeline->options.ranks, run->policy, NULL,
                           &no_grpo, &optimizer, run->n_steps));
    TRY_OUT(learner_set_guard(run->learner, &run->stage->settings.guard));
    if (resume_path[0])
        TRY_OUT(learner_load_state(run->learner, resume_path));
    TRY_OUT(stage_announce(run));
    TRY_OUT(stage_catch_up(run));
    status = train(run, &corpus);
out:
    corpus_release(&corpus);
    return status;
}
