/* A step with workers that are played here, for test_exchange.c and test_exchange_members.c. */
#ifndef HONE_TESTS_UNIT_TEST_EXCHANGE_H
#define HONE_TESTS_UNIT_TEST_EXCHANGE_H

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
#include "pipeline/report.h"

#define N_TASKS 6
#define N_SAMPLES 2
#define N_FAKES 9
#define VERSION 7u
#define DEADLINE_MS 20000

struct fixture {
    char directory[64], endpoint[128];
    struct exchange_config config;
    struct arena arena;
    struct task tasks[N_TASKS];
    const struct task *list[N_TASKS];
    struct sample_group groups[N_TASKS];
    struct exchange_job job;
    char image[3000];
    pthread_t thread;
    int status, is_done;
    char reason[512];
    pthread_mutex_t mutex;
};

/* A rollout worker that does as it is told. */
struct fake {
    struct wire_link *link;
    char name[WIRE_NAME_BYTES];
    uint64_t n_greeted, pid;
    struct text in, out;
    struct arena arena;
    int n_leases, n_beats, n_images;
    int is_frozen;               /* takes nothing, says nothing */
    int says_no_ack, wrong_digest, wrong_version, doubles;
    uint64_t deadly_task;        /* dies of it: greets again instead of answering */
    uint64_t held[N_TASKS * 4];  /* leases that are not answered, and their tasks */
    uint64_t held_ids[N_TASKS * 4];
    int holds;                   /* answers none */
    int forges;
    int batches;                 /* answers what it has when no more comes, as a real one may */
    uint64_t batch[N_TASKS], batch_ids[N_TASKS];
    int n_batch, n_idle;
    int n_held;
};

static inline int is_done(struct fixture *f)
{
    pthread_mutex_lock(&f->mutex);
    int done = f->is_done;
    pthread_mutex_unlock(&f->mutex);
    return done;
}

static inline int run_job(struct fixture *f)
{
    const struct wire_model model = {{"{}", 2}, {"{}", 2}, 0, NULL};
    struct exchange *exchange;
    struct file_map image = {0};
    struct file_sink sink;
    int status;

    TRY(exchange_create(&exchange, &f->config));
    TRY_OUT(file_sink_open_nameless(&sink));
    TRY_OUT(file_sink_map(&sink, file_sink_put(&sink, f->image, sizeof(f->image)), &image));
    TRY_OUT(exchange_set_workers(exchange, "rl", "hash", 0, 0));
    TRY_OUT(exchange_set_model(exchange, &model));
    TRY_OUT(exchange_publish(exchange, VERSION, &image));
    status = exchange_run(exchange, &f->job);
out:
    snprintf(f->reason, sizeof(f->reason), "%s", status_reason());
    file_map_close(&image);
    exchange_destroy(&exchange);
    return status;
}

static inline void *run_thread(void *argument)
{
    struct fixture *f = argument;
    int status = run_job(f);

    pthread_mutex_lock(&f->mutex);
    f->status = status;
    f->is_done = 1;
    pthread_mutex_unlock(&f->mutex);
    return NULL;
}

static inline int setup(void **state)
{
    struct fixture *f = mem_alloc(1, sizeof(*f));

    snprintf(f->directory, sizeof(f->directory), "/tmp/hone-test-XXXXXX");
    if (!mkdtemp(f->directory))
        return -1;
    snprintf(f->endpoint, sizeof(f->endpoint), "ipc://%s/hub", f->directory);
    f->config = (struct exchange_config){.endpoint = f->endpoint, .program = "/bin/false",
                                         .config = "none", .lease_ms = 60000, .connect_ms = 60000,
                                         .silent_ms = 60000, .stuck_ms = 60000,
                                         .max_lease_tries = 3, .directory = f->directory};
    arena_init(&f->arena, (size_t)64 << 20);
    for (uint64_t i = 0; i < N_TASKS; i++) {
        f->tasks[i] = (struct task){.id = 100 + i, .kind = "chain", .question = {"", 0},
                                    .prompt = {"p", 1}, .prefill = {"", 0}, .reference = {"", 0},
                                    .columns = {"", 0}};
        f->list[i] = &f->tasks[i];
    }
    f->job = (struct exchange_job){.label = "rl", .tasks = f->list, .n_tasks = N_TASKS,
                                   .sampling = {.num_generations = N_SAMPLES,
                                                .max_completion_length = 4,
                                                .temperature = 1, .top_p = 1,
                                                .weight_version = VERSION},
                                   .max_sequences = 4, .arena = &f->arena, .groups = f->groups};
    pthread_mutex_init(&f->mutex, NULL);
    *state = f;
    return 0;
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;

    pthread_mutex_destroy(&f->mutex);
    arena_release(&f->arena);
    int status = file_remove_tree(f->directory);
    mem_free(f);
    return status;
}

static inline void start(struct fixture *f)
{
    assert_int_equal(pthread_create(&f->thread, NULL, run_thread, f), 0);
}

/* ---- The fake worker. */

static inline void fake_open(struct fixture *f, struct fake *fake, int number)
{
    memset(fake, 0, sizeof(*fake));
    snprintf(fake->name, sizeof(fake->name), "fake-%d", number);
    arena_init(&fake->arena, (size_t)16 << 20);
    assert_int_equal(wire_link_open(&fake->link, f->endpoint, fake->name, NULL), STATUS_OK);
}

static inline void fake_close(struct fake *fake)
{
    wire_link_close(&fake->link);
    arena_release(&fake->arena);
    text_release(&fake->in);
    text_release(&fake->out);
}

static inline void fake_send(struct fake *fake, int encoded)
{
    assert_int_equal(encoded, STATUS_OK);
    assert_int_equal(wire_link_send(fake->link, &fake->out, 5000), STATUS_OK);
    text_clear(&fake->out);
}

static inline void fake_greet(struct fake *fake)
{
    struct wire_hello hello = {.role = "rollout", .pid = fake->pid, .version = {"1", 1}};

    memcpy(hello.name, fake->name, sizeof(hello.name));
    fake_send(fake, wire_encode_hello(&hello, &fake->out));
}

/* Another process under the same name. */
static inline void fake_die(struct fake *fake)
{
    fake->pid++;
    fake_greet(fake);
}

static inline void fake_answer(struct fake *fake, uint64_t lease, const struct task *task)
{
    int32_t tokens[2] = {(int32_t)task->id, fake->forges ? 6 : 5};
    float logprobs[2] = {-1, -2};
    uint32_t version = fake->wrong_version ? VERSION - 1 : VERSION;
    uint32_t versions[2] = {VERSION, version};
    struct sample samples[N_SAMPLES];
    struct wire_group group = {lease, {.task = *task, .n_prompt = 2, .prompt_tokens = tokens,
                                       .n_samples = N_SAMPLES, .samples = samples}};

    for (int i = 0; i < N_SAMPLES; i++)
        samples[i] = (struct sample){.n_tokens = 2, .tokens = tokens, .logprobs = logprobs,
                                     .weight_versions = versions, .text = {"t", 1}};
    fake_send(fake, wire_encode_group(&group, &fake->out));
    if (fake->doubles)
        fake_send(fake, wire_encode_group(&group, &fake->out));
}

static inline void fake_lease(struct fake *fake)
{
    struct wire_sample_lease lease;

    assert_int_equal(wire_decode_sample_lease(fake->in.data, fake->in.length, &fake->arena, &lease),
                     STATUS_OK);
    fake->n_leases++;
    if (fake->batches) {
        fake->batch_ids[fake->n_batch] = lease.task.id;
        fake->batch[fake->n_batch++] = lease.lease;
    } else if (fake->deadly_task && lease.task.id == fake->deadly_task) {
        fake_die(fake);
    } else if (fake->holds) {
        fake->held_ids[fake->n_held % (N_TASKS * 4)] = lease.task.id;
        fake->held[fake->n_held++ % (N_TASKS * 4)] = lease.lease;
    } else {
        fake_answer(fake, lease.lease, &lease.task);
    }
}

/* Acknowledged as soon as it is announced: a small one follows in one go. */
static inline void fake_image(struct fake *fake)
{
    struct wire_image image;

    assert_int_equal(wire_decode_image(fake->in.data, fake->in.length, &fake->arena, &image),
                     STATUS_OK);
    fake->n_images++;
    if (fake->says_no_ack)
        return;
    struct wire_weights_state message = {.version = image.version, .accepted = 1,
                                         .digest = image.digest, .reason = {"", 0}};
    message.digest.bytes[0] ^= (unsigned char)fake->wrong_digest;
    fake_send(fake, wire_encode_weights_state(&message, &fake->out));
}

static inline void fake_batch(struct fixture *f, struct fake *fake)
{
    int n = fake->n_batch;

    fake->n_batch = 0;
    for (int i = 0; i < n; i++)
        if (fake->batch_ids[i] == fake->deadly_task) {
            fake_die(fake);
            return;
        }
    for (int i = 0; i < n; i++)
        fake_answer(fake, fake->batch[i], &f->tasks[fake->batch_ids[i] - 100]);
}

static inline void fake_turn(struct fixture *f, struct fake *fake)
{
    enum wire_kind kind;
    int had = fake->n_leases;

    if (fake->is_frozen)
        return;
    if (wire_link_connections(fake->link) > fake->n_greeted) {
        fake->n_greeted = wire_link_connections(fake->link);
        fake_greet(fake);
    }
    for (int i = 0; i < 8 && wire_link_receive(fake->link, &fake->in, 1) == STATUS_OK; i++) {
        arena_rewind(&fake->arena);
        assert_int_equal(wire_kind_of(fake->in.data, fake->in.length, &kind), STATUS_OK);
        fake->n_beats += kind == WIRE_HEARTBEAT;
        if (kind == WIRE_IMAGE)
            fake_image(fake);
        if (kind == WIRE_SAMPLE)
            fake_lease(fake);
    }
    if (fake->n_batch && fake->n_leases == had && ++fake->n_idle > 30) {
        fake->n_idle = 0;
        fake_batch(f, fake);
    }
}

static inline void play(struct fixture *f, struct fake *fakes, int n)
{
    int64_t end = clock_ms() + DEADLINE_MS;

    while (!is_done(f)) {
        assert_true(clock_ms() < end);
        for (int i = 0; i < n; i++)
            fake_turn(f, &fakes[i]);
    }
    pthread_join(f->thread, NULL);
}

static inline void play_until(struct fixture *f, struct fake *fakes, int n, const int *counter,
                              int wanted)
{
    int64_t end = clock_ms() + DEADLINE_MS;

    while (*counter < wanted) {
        assert_true(clock_ms() < end && !is_done(f));
        for (int i = 0; i < n; i++)
            fake_turn(f, &fakes[i]);
    }
}

static inline void close_all(struct fake *fakes, int n)
{
    for (int i = 0; i < n; i++)
        fake_close(&fakes[i]);
}

static inline void assert_written(const struct fixture *f, size_t i)
{
    const struct sample_group *group = &f->groups[i];

    assert_int_equal(group->task.id, 100 + i);
    assert_int_equal(group->n_samples, N_SAMPLES);
    for (int s = 0; s < N_SAMPLES; s++) {
        assert_int_equal(group->samples[s].n_tokens, 2);
        assert_int_equal(group->samples[s].tokens[0], 100 + (int)i);
        assert_int_equal(group->samples[s].tokens[1], 5);
        assert_int_equal(group->samples[s].masked, 0);
    }
}

static inline void assert_all_written(const struct fixture *f)
{
    assert_int_equal(f->status, STATUS_OK);
    for (size_t i = 0; i < N_TASKS; i++)
        assert_written(f, i);
    assert_int_equal(f->job.n_set_aside, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
