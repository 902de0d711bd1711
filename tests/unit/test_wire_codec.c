/* Messages come back as they were sent, field by field, laid out as drawn. */
#include "test_wire_codec.h"

static void assert_round_trip(struct fixture *f, const struct codec *codec,
                              const union message *message)
{
    union message decoded;
    enum wire_kind kind;

    text_clear(&f->frame);
    text_clear(&f->again);
    arena_rewind(&f->arena);
    assert_int_equal(codec->encode(message, &f->frame), STATUS_OK);
    assert_int_equal(wire_kind_of(f->frame.data, f->frame.length, &kind), STATUS_OK);
    assert_int_equal(kind, codec->kind);
    assert_int_equal(codec->decode(f->frame.data, f->frame.length, &f->arena, &decoded), STATUS_OK);
    assert_int_equal(codec->encode(&decoded, &f->again), STATUS_OK);
    assert_int_equal(f->frame.length, f->again.length);
    assert_memory_equal(f->frame.data, f->again.data, f->frame.length);
}

static void every_message_comes_back_as_it_was(void **state)
{
    for (size_t i = 0; i < N_CODECS; i++) {
        union message message = full_message(codecs[i].kind);
        assert_round_trip(*state, &codecs[i], &message);
    }
}

static void every_empty_message_comes_back_as_it_was(void **state)
{
    for (size_t i = 0; i < N_CODECS; i++) {
        union message message;
        memset(&message, 0, sizeof(message));
        assert_round_trip(*state, &codecs[i], &message);
    }
}

static void a_decoded_group_has_every_field(void **state)
{
    struct fixture *f = *state;
    struct wire_group in = {77, full_group()}, out;

    assert_int_equal(wire_encode_group(&in, &f->frame), STATUS_OK);
    assert_int_equal(wire_decode_group(f->frame.data, f->frame.length, &f->arena, &out), STATUS_OK);
    memset(f->frame.data, 0xff, f->frame.length);   /* what came lives in the arena */
    assert_int_equal(out.lease, 77);
    assert_int_equal(out.group.task.id, full_task.id);
    assert_string_equal(out.group.task.kind, "chain");
    assert_string_equal(out.group.task.verifier, "math");
    assert_string_equal(out.group.task.language, "zh");
    assert_string_equal(out.group.task.question.data, "1+1?");
    assert_string_equal(out.group.task.prompt.data, full_task.prompt.data);
    assert_string_equal(out.group.task.prefill.data, "<think>");
    assert_int_equal(out.group.task.reference.bytes, full_task.reference.bytes);
    assert_memory_equal(out.group.task.reference.data, full_task.reference.data,
                        full_task.reference.bytes + 1);
    assert_string_equal(out.group.task.columns.data, "{\"level\":3}");
    assert_int_equal(out.group.n_prompt, 3);
    assert_memory_equal(out.group.prompt_tokens, tokens, sizeof(tokens));
    assert_int_equal(out.group.n_rewards, 2);
    assert_string_equal(out.group.rewards[1].name, "format");
    assert_true(out.group.rewards[1].weight == -0.5f);
    assert_int_equal(out.group.n_samples, 2);
    const struct sample *s = &out.group.samples[0];
    assert_int_equal(s->finish, SAMPLE_FINISH_LENGTH);
    assert_int_equal(s->n_tokens, 3);
    assert_memory_equal(s->tokens, tokens, sizeof(tokens));
    assert_memory_equal(s->logprobs, logprobs, sizeof(logprobs));
    assert_memory_equal(s->weight_versions, versions, sizeof(versions));
    assert_string_equal(s->text.data, "so it is 2");
    assert_true(s->reward == 0.875f && s->advantage == -1.25f);
    assert_int_equal(s->masked, 1);
    assert_true(s->scores[1].value == 0.25f);
    assert_int_equal(s->scores[1].outcome, OUTCOME_ERROR);
    assert_string_equal(s->scores[1].detail, "no verdict");
    assert_null(out.group.samples[1].scores);
    assert_null(out.group.samples[1].tokens);
    assert_string_equal(out.group.samples[1].text.data, "");
}

static void a_decoded_sample_lease_has_every_field(void **state)
{
    struct fixture *f = *state;
    union message in = full_message(WIRE_SAMPLE);
    struct wire_sample_lease out;

    assert_int_equal(wire_encode_sample_lease(&in.sample_lease, &f->frame), STATUS_OK);
    assert_int_equal(wire_decode_sample_lease(f->frame.data, f->frame.length, &f->arena, &out),
                     STATUS_OK);
    assert_true(out.lease == UINT64_MAX);
    assert_int_equal(out.sampling.num_generations, 8);
    assert_int_equal(out.sampling.max_completion_length, 256);
    assert_int_equal(out.sampling.top_k, 50);
    assert_true(out.sampling.temperature == 0.6f && out.sampling.top_p == 0.95f);
    assert_true(out.sampling.seed == 0xfedcba9876543210u);
    assert_int_equal(out.sampling.weight_version, 9);
    assert_string_equal(out.task.prefill.data, "<think>");
}

static void a_decoded_model_has_its_stop_ids_and_no_hostile_ones(void **state)
{
    int32_t many[WIRE_MAX_STOPS + 1] = {0}, negative = -1;
    struct wire_model in = {TEXT("{}"), TEXT("{}"), 3, tokens}, out;
    struct fixture *f = *state;

    assert_int_equal(wire_encode_model(&in, &f->frame), STATUS_OK);
    assert_int_equal(wire_decode_model(f->frame.data, f->frame.length, &f->arena, &out), STATUS_OK);
    assert_int_equal(out.n_stops, 3);
    assert_memory_equal(out.stop_ids, tokens, sizeof(tokens));
    f->frame.data[f->frame.length - 1] = (char)0x80;   /* the last id's sign */
    assert_int_equal(wire_decode_model(f->frame.data, f->frame.length, &f->arena, &out),
                     STATUS_FORMAT);
    text_clear(&f->frame);
    in.n_stops = 1;
    in.stop_ids = &negative;
    assert_int_equal(wire_encode_model(&in, &f->frame), STATUS_OK);
    assert_int_equal(wire_decode_model(f->frame.data, f->frame.length, &f->arena, &out),
                     STATUS_FORMAT);
    text_clear(&f->frame);
    in.stop_ids = many;
    in.n_stops = WIRE_MAX_STOPS + 1;
    assert_int_equal(wire_encode_model(&in, &f->frame), STATUS_FORMAT);
    in.n_stops = WIRE_MAX_STOPS;
    assert_int_equal(wire_encode_model(&in, &f->frame), STATUS_OK);
    f->frame.data[WIRE_HEADER_BYTES + 2 * (4 + 2)]++;   /* the count, one too many */
    assert_int_equal(wire_decode_model(f->frame.data, f->frame.length, &f->arena, &out),
                     STATUS_FORMAT);
}

/* The layout is a promise: docs/wire.md draws it. */
static void a_frame_is_laid_out_as_drawn(void **state)
{
    static const unsigned char drawn[] = {
        'H', 'O', 'N', 'E', WIRE_VERSION, WIRE_WEIGHTS_STATE, 0, 0, 50, 0, 0, 0,   /* header */
        4,   3,   2,   1,   1, 0, 0, 0,                                 /* version, accepted */
        0,   0,   0,   0,                                               /* wants_bytes */
        9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9,                 /* digest */
        9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9,
        2,   0,   0,   0,   'o', 'k',                                   /* reason */
    };
    struct fixture *f = *state;
    struct wire_weights_state message = {
        .version = 0x01020304, .accepted = 1, .reason = TEXT("ok")};

    memset(message.digest.bytes, 9, sizeof(message.digest.bytes));
    assert_int_equal(wire_encode_weights_state(&message, &f->frame), STATUS_OK);
    assert_int_equal(f->frame.length, sizeof(drawn));
    assert_memory_equal(f->frame.data, drawn, sizeof(drawn));
}

static void empty_messages_have_a_kind_and_no_body(void **state)
{
    struct fixture *f = *state;
    enum wire_kind kind;

    assert_int_equal(wire_encode_empty(WIRE_STOP, &f->frame), STATUS_OK);
    assert_int_equal(wire_kind_of(f->frame.data, f->frame.length, &kind), STATUS_OK);
    assert_int_equal(kind, WIRE_STOP);
    text_append(&f->frame, "x", 1);
    patch_length((unsigned char *)f->frame.data, f->frame.length);
    assert_int_equal(wire_kind_of(f->frame.data, f->frame.length, &kind), STATUS_FORMAT);
}

static void the_pieces_of_a_file_have_digests_and_sums_and_others_have_none(void **state)
{
    struct fixture *f = *state;
    union message message = full_message(WIRE_IMAGE);
    struct wire_image back;

    assert_int_equal(wire_encode_image(&message.image, &f->frame), STATUS_OK);
    assert_int_equal(wire_decode_image(f->frame.data, f->frame.length, &f->arena, &back),
                     STATUS_OK);
    assert_memory_equal(back.digests, digests, sizeof(digests));
    assert_memory_equal(back.sums, sums, sizeof(sums));
    size_t with = f->frame.length, path = message.image.path.bytes;
    message.image.path = (struct wire_text){"", 0};
    text_clear(&f->frame);
    assert_int_equal(wire_encode_image(&message.image, &f->frame), STATUS_OK);
    assert_int_equal(f->frame.length, with - path - 3 * 48);
    assert_int_equal(wire_decode_image(f->frame.data, f->frame.length, &f->arena, &back),
                     STATUS_OK);
    assert_null(back.digests);
    assert_null(back.sums);
}

static void scribble_text(const struct wire_text *text)
{
    memset((char *)(uintptr_t)text->data, '#', text->bytes);
}

static void scribble(struct sample_group *group)
{
    struct sample *sample = &group->samples[0];

    scribble_text(&group->task.question);
    scribble_text(&group->task.prompt);
    scribble_text(&group->task.prefill);
    scribble_text(&group->task.reference);
    scribble_text(&sample->text);
    memset(group->prompt_tokens, '#', group->n_prompt * sizeof(*group->prompt_tokens));
    memset(sample->tokens, '#', sample->n_tokens * sizeof(*sample->tokens));
    memset(sample->logprobs, '#', sample->n_tokens * sizeof(*sample->logprobs));
    memset(sample->weight_versions, '#', sample->n_tokens * sizeof(*sample->weight_versions));
    memset(sample->scores, '#', group->n_rewards * sizeof(*sample->scores));
    memset(group->rewards, '#', group->n_rewards * sizeof(*group->rewards));
    memset(group->samples, '#', group->n_samples * sizeof(*group->samples));
}

static void a_copied_group_shares_no_memory(void **state)
{
    struct fixture *f = *state;
    struct wire_group message = {5, full_group()}, decoded, copied = {.lease = 5};
    struct arena first;

    arena_init(&first, ARENA_BYTES);
    assert_int_equal(wire_encode_group(&message, &f->frame), STATUS_OK);
    assert_int_equal(wire_decode_group(f->frame.data, f->frame.length, &first, &decoded),
                     STATUS_OK);
    assert_int_equal(sample_group_copy(&copied.group, &decoded.group, &f->arena), STATUS_OK);
    scribble(&decoded.group);
    arena_release(&first);
    assert_int_equal(wire_encode_group(&copied, &f->again), STATUS_OK);
    assert_int_equal(f->again.length, f->frame.length);
    assert_memory_equal(f->again.data, f->frame.data, f->frame.length);
}

static void a_copy_that_does_not_fit_is_out_of_memory(void **state)
{
    struct sample_group group = full_group(), copy;
    struct arena small;

    (void)state;
    for (size_t maximum = 0; maximum < 200; maximum += 3) {
        arena_init(&small, maximum);
        assert_int_equal(sample_group_copy(&copy, &group, &small), STATUS_NOMEM);
        arena_release(&small);
    }
}

static void every_outcome_has_a_name(void **state)
{
    (void)state;
    assert_string_equal(outcome_name(OUTCOME_RIGHT), "right");
    assert_string_equal(outcome_name(OUTCOME_ERROR), "verifier error");
    assert_string_equal(outcome_name((enum outcome)99), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_message_comes_back_as_it_was),
        TEST(every_empty_message_comes_back_as_it_was),
        TEST(a_decoded_group_has_every_field),
        TEST(a_decoded_model_has_its_stop_ids_and_no_hostile_ones),
        TEST(a_decoded_sample_lease_has_every_field),
        TEST(a_frame_is_laid_out_as_drawn),
        TEST(empty_messages_have_a_kind_and_no_body),
        TEST(the_pieces_of_a_file_have_digests_and_sums_and_others_have_none),
        TEST(a_copied_group_shares_no_memory),
        TEST(a_copy_that_does_not_fit_is_out_of_memory),
        TEST(every_outcome_has_a_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
