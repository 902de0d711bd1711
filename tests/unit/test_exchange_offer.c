/* Weights in device memory, the coordinator's side: who is offered them, and when that ends. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/status.h"
#include "pipeline/exchange.h"

#define N_TASKS 6
#define VERSION 7u
#define HERE "boot/card"
#define DEADLINE_MS 20000

struct fixture {
    char directory[64], endpoint[128];
    struct exchange_config config;
    struct exchange_offer offer;
    struct arena arena;
    struct task tasks[N_TASKS];
    const struct task *list[N_TASKS];
    struct sample_group groups[N_TASKS];
    struct exchange_job job;
    int n_made;                   /* images; of the coordinator's thread */
    int has_next;                 /* another version is offered before the first is settled */
    pthread_t thread;
    pthread_mutex_t mutex;
    int status, is_run, is_over;  /* is_over: settled, too */
};

struct fake {
    struct wire_link *link;
    char name[WIRE_NAME_BYTES];
    const char *place;
    struct text in, out;
    struct arena arena;
    uint64_t n_greeted;
    struct digest announced;      /* of the image that arrives */
    int n_offers, n_images, n_leases, n_early;   /* early: a lease before the answer to an offer */
    int refuses, damages, is_slow, holds;
    int has_answered;
};

static int get(struct fixture *f, const int *flag)
{
    pthread_mutex_lock(&f->mutex);
    int value = *flag;
    pthread_mutex_unlock(&f->mutex);
    return value;
}

static void set(struct fixture *f, int *flag, int value)
{
    pthread_mutex_lock(&f->mutex);
    *flag = value;
    pthread_mutex_unlock(&f->mutex);
}

static int make_image(void *source, struct file_map *image)
{
    struct fixture *f = source;
    struct file_sink sink;

    f->n_made++;
    TRY(file_sink_open_nameless(&sink));
    return file_sink_map(&sink, file_sink_put(&sink, "weights", 7), image);
}

static int run_job(struct fixture *f)
{
    const struct wire_model model = {{"{}", 2}, {"{}", 2}, 0, NULL};
    struct exchange *exchange;
    int status;

    TRY(exchange_create(&exchange, &f->config));
    TRY_OUT(exchange_set_workers(exchange, "rl", "hash", 0, 0));
    TRY_OUT(exchange_set_model(exchange, &model));
    TRY_OUT(exchange_publish_offer(exchange, &f->offer));
    TRY_OUT(exchange_run(exchange, &f->job));
    set(f, &f->is_run, 1);
    f->offer.weights.version += f->has_next;
    if (f->has_next)
        TRY_OUT(exchange_publish_offer(exchange, &f->offer));
    status = exchange_settle(exchange, VERSION, DEADLINE_MS);
out:
    exchange_destroy(&exchange);
    return status;
}

static void *run_thread(void *argument)
{
    struct fixture *f = argument;

    f->status = run_job(f);
    set(f, &f->is_over, 1);
    return NULL;
}

static int setup(void **state)
{
    struct fixture *f = mem_alloc(1, sizeof(*f));

    snprintf(f->directory, sizeof(f->directory), "/tmp/hone-test-XXXXXX");
    if (!mkdtemp(f->directory))
        return -1;
    snprintf(f->endpoint, sizeof(f->endpoint), "ipc://%s/hub", f->directory);
    f->config = (struct exchange_config){.endpoint = f->endpoint, .program = "/bin/false",
                                         .config = "none", .lease_ms = 60000, .connect_ms = 60000,
                                         .silent_ms = 60000, .stuck_ms = 60000,
                                         .max_lease_tries = 3};
    f->offer = (struct exchange_offer){.weights = {.version = VERSION, .n_regions = 2},
                                       .place = HERE, .make_image = make_image, .source = f};
    memset(f->offer.weights.digest.bytes, 5, sizeof(f->offer.weights.digest.bytes));
    arena_init(&f->arena, (size_t)64 << 20);
    for (uint64_t i = 0; i < N_TASKS; i++) {
        f->tasks[i] = (struct task){.id = 100 + i, .kind = "chain", .question = {"", 0},
                                    .prompt = {"p", 1}, .prefill = {"", 0}, .reference = {"", 0},
                                    .columns = {"", 0}};
        f->list[i] = &f->tasks[i];
    }
    f->job = (struct exchange_job){.label = "rl", .tasks = f->list, .n_tasks = N_TASKS,
                                   .sampling = {.num_generations = 1, .max_completion_length = 4,
                                                .temperature = 1, .top_p = 1,
                                                .weight_version = VERSION},
                                   .max_sequences = 1, .arena = &f->arena, .groups = f->groups};
    pthread_mutex_init(&f->mutex, NULL);
    *state = f;
    return 0;
}

static void start(struct fixture *f)
{
    assert_int_equal(pthread_create(&f->thread, NULL, run_thread, f), 0);
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    pthread_mutex_destroy(&f->mutex);
    arena_release(&f->arena);
    int status = file_remove_tree(f->directory);
    mem_free(f);
    return status;
}

/* ---- The fake worker. */

static void fake_open(struct fixture *f, struct fake *fake, int number, const char *place)
{
    memset(fake, 0, sizeof(*fake));
    snprintf(fake->name, sizeof(fake->name), "fake-%d", number);
    fake->place = place;
    arena_init(&fake->arena, (size_t)16 << 20);
    assert_int_equal(wire_link_open(&fake->link, f->endpoint, fake->name, NULL), STATUS_OK);
}

static void close_all(struct fixture *f, struct fake *fakes, int n)
{
    pthread_join(f->thread, NULL);
    for (int i = 0; i < n; i++) {
        wire_link_close(&fakes[i].link);
        arena_release(&fakes[i].arena);
        text_release(&fakes[i].in);
        text_release(&fakes[i].out);
    }
}

static void fake_send(struct fake *fake, int encoded)
{
    assert_int_equal(encoded, STATUS_OK);
    assert_int_equal(wire_link_send(fake->link, &fake->out, 5000), STATUS_OK);
    text_clear(&fake->out);
}

static void fake_greet(struct fake *fake)
{
    struct wire_hello hello = {.role = "rollout", .version = {"1", 1}};

    snprintf(hello.name, sizeof(hello.name), "%s", fake->name);
    snprintf(hello.place, sizeof(hello.place), "%s", fake->place);
    fake_send(fake, wire_encode_hello(&hello, &fake->out));
}

static void fake_say(struct fake *fake, const struct digest *digest, int accepted)
{
    struct wire_weights_state message = {.version = VERSION, .accepted = (uint32_t)accepted,
                                         .digest = *digest, .reason = {"no", 2}};

    fake->has_answered = 1;
    fake_send(fake, wire_encode_weights_state(&message, &fake->out));
}

static void fake_offer(struct fixture *f, struct fake *fake)
{
    struct wire_shared_weights offer;

    assert_int_equal(
        wire_decode_shared_weights(fake->in.data, fake->in.length, &fake->arena, &offer),
        STATUS_OK);
    assert_memory_equal(&offer, &f->offer.weights, sizeof(offer));
    fake->has_answered = 0;
    fake->n_offers++;
    if (fake->is_slow)
        return;
    offer.digest.bytes[0] ^= (unsigned char)(fake->damages && fake->n_offers == 1);
    fake_say(fake, &offer.digest, !fake->refuses);
}

static void fake_lease(struct fake *fake)
{
    int32_t tokens[1] = {3};
    float logprobs[1] = {-1};
    uint32_t versions[1] = {VERSION};
    struct wire_sample_lease lease;
    struct sample sample = {.n_tokens = 1, .tokens = tokens, .logprobs = logprobs,
                            .weight_versions = versions, .text = {"t", 1}};

    assert_int_equal(wire_decode_sample_lease(fake->in.data, fake->in.length, &fake->arena, &lease),
                     STATUS_OK);
    fake->n_leases++;
    fake->n_early += !fake->has_answered;
    if (fake->holds)
        return;
    struct wire_group group = {lease.lease, {.task = lease.task, .n_prompt = 1,
                                             .prompt_tokens = tokens, .n_samples = 1,
                                             .samples = &sample}};
    fake_send(fake, wire_encode_group(&group, &fake->out));
}

static void fake_image(struct fake *fake)
{
    struct wire_image image;

    assert_int_equal(wire_decode_image(fake->in.data, fake->in.length, &fake->arena, &image),
                     STATUS_OK);
    assert_int_equal(image.n_follow, 1);
    fake->announced = image.digest;
}

static void fake_turn(struct fixture *f, struct fake *fake)
{
    enum wire_kind kind;

    if (wire_link_connections(fake->link) > fake->n_greeted) {
        fake->n_greeted = wire_link_connections(fake->link);
        fake_greet(fake);
    }
    while (wire_link_receive(fake->link, &fake->in, 1) == STATUS_OK) {
        arena_rewind(&fake->arena);
        assert_int_equal(wire_kind_of(fake->in.data, fake->in.length, &kind), STATUS_OK);
        if (kind == WIRE_SHARED_WEIGHTS)
            fake_offer(f, fake);
        if (kind == WIRE_SAMPLE)
            fake_lease(fake);
        if (kind == WIRE_IMAGE)
            fake_image(fake);
        if (kind != WIRE_WEIGHTS)
            continue;
        fake->n_images++;
        fake_say(fake, &fake->announced, 1);
    }
}

static void play_until(struct fixture *f, struct fake *fakes, int n, const int *flag)
{
    int64_t end = clock_ms() + DEADLINE_MS;

    while (!get(f, flag)) {
        assert_true(clock_ms() < end);
        for (int i = 0; i < n; i++)
            fake_turn(f, &fakes[i]);
    }
}

/* ---- Tests. */

static void who_is_on_the_card_needs_no_image(void **state)
{
    struct fixture *f = *state;
    struct fake fake;

    start(f);
    fake_open(f, &fake, 0, HERE);
    play_until(f, &fake, 1, &f->is_over);
    close_all(f, &fake, 1);
    assert_int_equal(f->status, STATUS_OK);
    assert_int_equal(fake.n_offers, 1);
    assert_int_equal(fake.n_leases, N_TASKS);
    assert_int_equal(fake.n_images + f->n_made, 0);
}

static void who_is_elsewhere_gets_an_image(void **state)
{
    struct fixture *f = *state;
    struct fake fakes[2];

    start(f);
    fake_open(f, &fakes[0], 0, HERE);
    fakes[0].holds = 1;
    play_until(f, fakes, 1, &fakes[0].n_leases);
    fake_open(f, &fakes[1], 1, "boot/another card");
    play_until(f, fakes, 2, &fakes[1].n_leases);
    fakes[0].holds = 0;
    fake_greet(&fakes[0]);   /* gives back what it held */
    play_until(f, fakes, 2, &f->is_over);
    close_all(f, fakes, 2);
    assert_int_equal(f->status, STATUS_OK);
    assert_true(fakes[0].n_offers >= 1);
    assert_int_equal(fakes[0].n_images, 0);
    assert_int_equal(fakes[1].n_offers, 0);
    assert_int_equal(fakes[1].n_images, 1);
    assert_int_equal(f->n_made, 1);
}

static void who_refuses_an_offer_gets_an_image(void **state)
{
    struct fixture *f = *state;
    struct fake fake;

    start(f);
    fake_open(f, &fake, 0, HERE);
    fake.refuses = 1;
    play_until(f, &fake, 1, &f->is_over);
    close_all(f, &fake, 1);
    assert_int_equal(f->status, STATUS_OK);
    assert_int_equal(fake.n_offers, 1);
    assert_int_equal(fake.n_images, 1);
    assert_int_equal(fake.n_leases, N_TASKS);   /* none was lost to the refusal */
}

static void a_forced_offer_that_is_refused_ends_the_run(void **state)
{
    struct fixture *f = *state;
    struct fake fake;

    f->offer.is_forced = 1;
    start(f);
    fake_open(f, &fake, 0, "boot/another card");
    fake.refuses = 1;
    play_until(f, &fake, 1, &f->is_over);
    close_all(f, &fake, 1);
    assert_int_equal(f->status, STATUS_FAILED);
    assert_int_equal(fake.n_offers, 3);
    assert_int_equal(fake.n_images + f->n_made, 0);
}

static void no_lease_comes_before_the_answer(void **state)
{
    struct fixture *f = *state;
    struct fake fake;

    start(f);
    fake_open(f, &fake, 0, HERE);
    fake.is_slow = 1;
    play_until(f, &fake, 1, &fake.n_offers);
    for (int i = 0; i < 100; i++)
        fake_turn(f, &fake);
    assert_int_equal(fake.n_leases, 0);
    fake_say(&fake, &f->offer.weights.digest, 1);
    play_until(f, &fake, 1, &f->is_over);
    close_all(f, &fake, 1);
    assert_int_equal(fake.n_offers, 1);
    assert_int_equal(fake.n_early, 0);
    assert_int_equal(fake.n_leases, N_TASKS);
}

static void an_answer_with_another_digest_does_not_count(void **state)
{
    struct fixture *f = *state;
    struct fake fake;

    start(f);
    fake_open(f, &fake, 0, HERE);
    fake.damages = 1;
    play_until(f, &fake, 1, &f->is_over);
    close_all(f, &fake, 1);
    assert_int_equal(f->status, STATUS_OK);
    assert_int_equal(fake.n_offers, 2);
}

static void memory_is_settled_when_its_last_reader_has_answered(void **state)
{
    struct fixture *f = *state;
    struct fake fakes[2];

    start(f);
    fake_open(f, &fakes[0], 0, HERE);
    fakes[0].is_slow = 1;
    play_until(f, fakes, 1, &fakes[0].n_offers);
    fake_open(f, &fakes[1], 1, HERE);
    play_until(f, fakes, 2, &f->is_run);
    for (int i = 0; i < 100; i++)
        fake_turn(f, &fakes[0]);
    assert_false(get(f, &f->is_over));
    fake_say(&fakes[0], &f->offer.weights.digest, 1);
    play_until(f, fakes, 2, &f->is_over);
    close_all(f, fakes, 2);
    assert_int_equal(f->status, STATUS_OK);
    assert_int_equal(fakes[0].n_leases, 0);
}

static void who_has_answered_is_not_waited_for_when_the_next_is_offered(void **state)
{
    struct fixture *f = *state;
    struct fake fake;

    f->has_next = 1;
    start(f);
    fake_open(f, &fake, 0, HERE);
    play_until(f, &fake, 1, &f->is_over);
    close_all(f, &fake, 1);
    assert_int_equal(f->status, STATUS_OK);
    assert_int_equal(fake.n_offers, 1);
    assert_int_equal(fake.n_leases, N_TASKS);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(who_is_on_the_card_needs_no_image),
        TEST(who_is_elsewhere_gets_an_image),
        TEST(who_refuses_an_offer_gets_an_image),
        TEST(no_lease_comes_before_the_answer),
        TEST(an_answer_with_another_digest_does_not_count),
        TEST(memory_is_settled_when_its_last_reader_has_answered),
        TEST(who_has_answered_is_not_waited_for_when_the_next_is_offered),
        TEST(a_forced_offer_that_is_refused_ends_the_run),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
