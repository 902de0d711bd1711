/* One encoder and one decoder for each message; docs/wire.md draws them. Those of the weights are
 * in codec_weights.c. */
#include <math.h>
#include <string.h>

#include "common/status.h"
#include "wire/internal.h"

#define SCORE_BYTES (8 + WIRE_DETAIL_BYTES)
#define SAMPLE_MIN_BYTES 28   /* six numbers and an empty text */
#define TERM_BYTES (WIRE_NAME_BYTES + 4)

int wire_encode_empty(enum wire_kind kind, struct text *out)
{
    struct writer writer;

    if (kind != WIRE_STOP)
        BUG("wire_encode_empty: kind %d has a body", (int)kind);
    writer_begin(&writer, out, kind);
    return writer_end(&writer);
}

/* ---- Nouns. */

static void put_task(struct writer *writer, const struct task *task)
{
    writer_u64(writer, task->id);
    writer_fixed(writer, task->kind, WIRE_NAME_BYTES, "task.kind has no end");
    writer_fixed(writer, task->verifier, WIRE_NAME_BYTES, "task.verifier has no end");
    writer_fixed(writer, task->language, WIRE_NAME_BYTES, "task.language has no end");
    writer_text(writer, &task->question, "task.question is missing");
    writer_text(writer, &task->prompt, "task.prompt is missing");
    writer_text(writer, &task->prefill, "task.prefill is missing");
    writer_text(writer, &task->reference, "task.reference is missing");
    writer_text(writer, &task->columns, "task.columns is missing");
}

static void take_task(struct reader *reader, struct task *task)
{
    task->id = reader_u64(reader);
    reader_fixed(reader, task->kind, WIRE_NAME_BYTES, "task.kind has no end");
    reader_fixed(reader, task->verifier, WIRE_NAME_BYTES, "task.verifier has no end");
    reader_fixed(reader, task->language, WIRE_NAME_BYTES, "task.language has no end");
    reader_text(reader, &task->question);
    reader_text(reader, &task->prompt);
    reader_text(reader, &task->prefill);
    reader_text(reader, &task->reference);
    reader_text(reader, &task->columns);
}

static void put_sampling(struct writer *writer, const struct sampling *sampling)
{
    writer_u32(writer, sampling->num_generations);
    writer_u32(writer, sampling->max_completion_length);
    writer_u32(writer, sampling->top_k);
    writer_finite(writer, sampling->temperature, "temperature is not finite");
    writer_finite(writer, sampling->top_p, "top_p is not finite");
    writer_u64(writer, sampling->seed);
    writer_u32(writer, sampling->weight_version);
}

static void take_sampling(struct reader *reader, struct sampling *sampling)
{
    sampling->num_generations = reader_u32(reader);
    sampling->max_completion_length = reader_u32(reader);
    sampling->top_k = reader_u32(reader);
    sampling->temperature = reader_finite(reader, "temperature is not finite");
    sampling->top_p = reader_finite(reader, "top_p is not finite");
    sampling->seed = reader_u64(reader);
    sampling->weight_version = reader_u32(reader);
}

static void put_finite_array(struct writer *writer, const float *values, uint32_t n,
                             const char *what)
{
    if (n && !values)
        writer_u32s(writer, NULL, n, what);
    for (uint32_t i = 0; values && i < n; i++)
        writer_finite(writer, values[i], what);
}

static void put_sample(struct writer *writer, const struct sample *sample, uint32_t n_rewards)
{
    uint32_t n_scores = sample->scores ? n_rewards : 0;

    writer_count(writer, sample->finish, SAMPLE_FINISH_LENGTH, "sample.finish is unknown");
    writer_count(writer, sample->masked, 1, "sample.masked is neither 0 nor 1");
    writer_finite(writer, sample->reward, "sample.reward is not finite");
    writer_finite(writer, sample->advantage, "sample.advantage is not finite");
    writer_u32(writer, n_scores);
    writer_count(writer, sample->n_tokens, WIRE_MAX_TOKENS, "a sample has too many tokens");
    writer_u32s(writer, sample->tokens, sample->n_tokens, "sample.tokens is missing");
    put_finite_array(writer, sample->logprobs, sample->n_tokens,
                     "sample.logprobs has a number that is not finite: the policy has diverged");
    writer_u32s(writer, sample->weight_versions, sample->n_tokens,
                "sample.weight_versions is missing");
    writer_text(writer, &sample->text, "sample.text is missing");
    for (uint32_t i = 0; i < n_scores; i++) {
        const struct score *score = &sample->scores[i];
        writer_finite(writer, score->value, "score.value is not finite");
        writer_count(writer, score->outcome, N_OUTCOMES - 1, "score.outcome is unknown");
        writer_fixed(writer, score->detail, WIRE_DETAIL_BYTES, "score.detail has no end");
    }
}

static void take_scores(struct reader *reader, struct sample *sample, uint32_t n)
{
    if (n > reader->left / SCORE_BYTES) {
        reader_fail(reader, "it ends before its scores");
        return;
    }
    sample->scores = reader_alloc(reader, n, sizeof(*sample->scores), _Alignof(struct score));
    for (uint32_t i = 0; sample->scores && i < n; i++) {
        struct score *score = &sample->scores[i];
        score->value = reader_finite(reader, "score.value is not finite");
        score->outcome = reader_below(reader, N_OUTCOMES, "score.outcome is unknown");
        reader_fixed(reader, score->detail, WIRE_DETAIL_BYTES, "score.detail has no end");
    }
}

static void check_tokens(struct reader *reader, const int32_t *tokens, uint32_t n)
{
    for (uint32_t i = 0; tokens && i < n; i++)
        if (tokens[i] < 0)
            reader_fail(reader, "a token is negative");
}

static void take_sample(struct reader *reader, struct sample *sample, uint32_t n_rewards)
{
    sample->finish = reader_below(reader, SAMPLE_FINISH_LENGTH + 1, "sample.finish is unknown");
    sample->masked = reader_below(reader, 2, "sample.masked is neither 0 nor 1");
    sample->reward = reader_finite(reader, "sample.reward is not finite");
    sample->advantage = reader_finite(reader, "sample.advantage is not finite");
    uint32_t n_scores = reader_u32(reader);
    if (n_scores != 0 && n_scores != n_rewards)
        reader_fail(reader, "a sample has scores of other rewards");
    uint32_t n = reader_count(reader, WIRE_MAX_TOKENS, 12, "a sample has too many tokens");
    sample->n_tokens = n;
    sample->tokens = reader_u32s(reader, n);
    check_tokens(reader, sample->tokens, n);
    sample->logprobs = reader_u32s(reader, n);
    for (uint32_t i = 0; sample->logprobs && i < n; i++)
        if (!isfinite(sample->logprobs[i]))
            reader_fail(reader, "sample.logprobs has a number that is not finite");
    sample->weight_versions = reader_u32s(reader, n);
    reader_text(reader, &sample->text);
    if (reader->status == STATUS_OK)
        take_scores(reader, sample, n_scores);
}

static void put_group(struct writer *writer, const struct sample_group *group)
{
    put_task(writer, &group->task);
    writer_count(writer, group->n_prompt, WIRE_MAX_TOKENS, "the prompt has too many tokens");
    writer_u32s(writer, group->prompt_tokens, group->n_prompt, "group.prompt_tokens is missing");
    writer_count(writer, group->n_rewards, WIRE_MAX_REWARDS, "the group has too many rewards");
    for (uint32_t i = 0; writer->status == STATUS_OK && i < group->n_rewards; i++) {
        writer_fixed(writer, group->rewards[i].name, WIRE_NAME_BYTES, "a reward's name has no end");
        writer_finite(writer, group->rewards[i].weight, "a reward's weight is not finite");
    }
    writer_count(writer, group->n_samples, WIRE_MAX_SAMPLES, "the group has too many samples");
    for (uint32_t i = 0; writer->status == STATUS_OK && i < group->n_samples; i++)
        put_sample(writer, &group->samples[i], group->n_rewards);
}

static void take_group(struct reader *reader, struct sample_group *group)
{
    take_task(reader, &group->task);
    group->n_prompt = reader_count(reader, WIRE_MAX_TOKENS, 4, "the prompt has too many tokens");
    group->prompt_tokens = reader_u32s(reader, group->n_prompt);
    check_tokens(reader, group->prompt_tokens, group->n_prompt);
    group->n_rewards =
        reader_count(reader, WIRE_MAX_REWARDS, TERM_BYTES, "the group has too many rewards");
    group->rewards = reader_alloc(reader, group->n_rewards, sizeof(*group->rewards),
                                  _Alignof(struct reward_term));
    for (uint32_t i = 0; group->rewards && i < group->n_rewards; i++) {
        reader_fixed(reader, group->rewards[i].name, WIRE_NAME_BYTES, "a reward's name has no end");
        group->rewards[i].weight = reader_finite(reader, "a reward's weight is not finite");
    }
    group->n_samples =
        reader_count(reader, WIRE_MAX_SAMPLES, SAMPLE_MIN_BYTES, "the group has too many samples");
    group->samples =
        reader_alloc(reader, group->n_samples, sizeof(*group->samples), _Alignof(struct sample));
    for (uint32_t i = 0; group->samples && reader->status == STATUS_OK && i < group->n_samples; i++)
        take_sample(reader, &group->samples[i], group->n_rewards);
}

/* Both messages that carry a group are a lease and the group. */
static int encode_lease_group(enum wire_kind kind, uint64_t lease,
                              const struct sample_group *group, struct text *out)
{
    struct writer writer;

    TRY(writer_begin(&writer, out, kind));
    writer_u64(&writer, lease);
    put_group(&writer, group);
    return writer_end(&writer);
}

static int decode_lease_group(enum wire_kind kind, const void *frame, size_t n,
                              struct arena *arena, uint64_t *lease, struct sample_group *group)
{
    struct reader reader;

    memset(group, 0, sizeof(*group));
    TRY(reader_begin(&reader, frame, n, arena, kind));
    *lease = reader_u64(&reader);
    take_group(&reader, group);
    return reader_end(&reader);
}

/* ---- Messages, in the order of enum wire_kind. */

int wire_encode_hello(const struct wire_hello *message, struct text *out)
{
    struct writer writer;

    TRY(writer_begin(&writer, out, WIRE_HELLO));
    writer_fixed(&writer, message->role, WIRE_NAME_BYTES, "hello.role has no end");
    writer_fixed(&writer, message->name, WIRE_NAME_BYTES, "hello.name has no end");
    writer_u64(&writer, message->pid);
    writer_fixed(&writer, message->place, WIRE_DETAIL_BYTES, "hello.place has no end");
    writer_text(&writer, &message->version, "hello.version is missing");
    writer_text(&writer, &message->host, "hello.host is missing");
    writer_bytes(&writer, message->held.bytes, sizeof(message->held.bytes));
    return writer_end(&writer);
}

int wire_decode_hello(const void *frame, size_t n, struct arena *arena, struct wire_hello *message)
{
    struct reader reader;

    memset(message, 0, sizeof(*message));
    TRY(reader_begin(&reader, frame, n, arena, WIRE_HELLO));
    reader_fixed(&reader, message->role, WIRE_NAME_BYTES, "hello.role has no end");
    reader_fixed(&reader, message->name, WIRE_NAME_BYTES, "hello.name has no end");
    message->pid = reader_u64(&reader);
    reader_fixed(&reader, message->place, WIRE_DETAIL_BYTES, "hello.place has no end");
    reader_text(&reader, &message->version);
    reader_text(&reader, &message->host);
    reader_bytes(&reader, message->held.bytes, sizeof(message->held.bytes));
    return reader_end(&reader);
}

int wire_encode_model(const struct wire_model *message, struct text *out)
{
    struct writer writer;

    TRY(writer_begin(&writer, out, WIRE_MODEL));
    writer_text(&writer, &message->config_json, "model.config_json is missing");
    writer_text(&writer, &message->tokenizer_json, "model.tokenizer_json is missing");
    writer_count(&writer, message->n_stops, WIRE_MAX_STOPS, "model.n_stops is over the maximum");
    writer_u32s(&writer, message->stop_ids, message->n_stops, "model.stop_ids is missing");
    return writer_end(&writer);
}

int wire_decode_model(const void *frame, size_t n, struct arena *arena, struct wire_model *message)
{
    struct reader reader;

    memset(message, 0, sizeof(*message));
    TRY(reader_begin(&reader, frame, n, arena, WIRE_MODEL));
    reader_text(&reader, &message->config_json);
    reader_text(&reader, &message->tokenizer_json);
    message->n_stops =
        reader_count(&reader, WIRE_MAX_STOPS, 4, "model.n_stops is over the maximum");
    message->stop_ids = reader_u32s(&reader, message->n_stops);
    check_tokens(&reader, message->stop_ids, message->n_stops);
    return reader_end(&reader);
}

int wire_encode_sample_lease(const struct wire_sample_lease *message, struct text *out)
{
    struct writer writer;

    TRY(writer_begin(&writer, out, WIRE_SAMPLE));
    writer_u64(&writer, message->lease);
    put_sampling(&writer, &message->sampling);
    put_task(&writer, &message->task);
    return writer_end(&writer);
}

int wire_decode_sample_lease(const void *frame, size_t n, struct arena *arena,
                             struct wire_sample_lease *message)
{
    struct reader reader;

    memset(message, 0, sizeof(*message));
    TRY(reader_begin(&reader, frame, n, arena, WIRE_SAMPLE));
    message->lease = reader_u64(&reader);
    take_sampling(&reader, &message->sampling);
    take_task(&reader, &message->task);
    return reader_end(&reader);
}

int wire_encode_judge_lease(const struct wire_judge_lease *message, struct text *out)
{
    return encode_lease_group(WIRE_JUDGE, message->lease, &message->group, out);
}

int wire_decode_judge_lease(const void *frame, size_t n, struct arena *arena,
                            struct wire_judge_lease *message)
{
    return decode_lease_group(WIRE_JUDGE, frame, n, arena, &message->lease, &message->group);
}

int wire_encode_group(const struct wire_group *message, struct text *out)
{
    return encode_lease_group(WIRE_GROUP, message->lease, &message->group, out);
}

int wire_decode_group(const void *frame, size_t n, struct arena *arena, struct wire_group *message)
{
    return decode_lease_group(WIRE_GROUP, frame, n, arena, &message->lease, &message->group);
}

int wire_group_lease(const void *frame, size_t n, uint64_t *lease)
{
    struct reader reader;

    TRY(reader_begin(&reader, frame, n, NULL, WIRE_GROUP));
    *lease = reader_u64(&reader);
    return reader.status;
}

int wire_encode_failed(const struct wire_failed *message, struct text *out)
{
    struct writer writer;

    TRY(writer_begin(&writer, out, WIRE_FAILED));
    writer_u64(&writer, message->lease);
    writer_text(&writer, &message->reason, "failed.reason is missing");
    return writer_end(&writer);
}

int wire_decode_failed(const void *frame, size_t n, struct arena *arena,
                       struct wire_failed *message)
{
    struct reader reader;

    memset(message, 0, sizeof(*message));
    TRY(reader_begin(&reader, frame, n, arena, WIRE_FAILED));
    message->lease = reader_u64(&reader);
    reader_text(&reader, &message->reason);
    return reader_end(&reader);
}

int wire_encode_heartbeat(const struct wire_heartbeat *message, struct text *out)
{
    struct writer writer;

    TRY(writer_begin(&writer, out, WIRE_HEARTBEAT));
    writer_fixed(&writer, message->doing, WIRE_DETAIL_BYTES, "heartbeat.doing has no end");
    writer_u64(&writer, message->since_ms);
    writer_u32(&writer, message->weight_version);
    writer_u32(&writer, message->n_leases);
    writer_u64(&writer, message->weights_bytes);
    return writer_end(&writer);
}

int wire_decode_heartbeat(const void *frame, size_t n, struct arena *arena,
                          struct wire_heartbeat *message)
{
    struct reader reader;

    memset(message, 0, sizeof(*message));
    TRY(reader_begin(&reader, frame, n, arena, WIRE_HEARTBEAT));
    reader_fixed(&reader, message->doing, WIRE_DETAIL_BYTES, "heartbeat.doing has no end");
    message->since_ms = reader_u64(&reader);
    message->weight_version = reader_u32(&reader);
    message->n_leases = reader_u32(&reader);
    message->weights_bytes = reader_u64(&reader);
    return reader_end(&reader);
}
