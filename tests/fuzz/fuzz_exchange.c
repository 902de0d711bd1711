/*
 * The coordinator's handling of frames, in any order, of workers that may be hostile. The input is
 * a list of turns: a byte that says what, a byte that says which worker and which group, and for a
 * frame two bytes of its length and its body; magic, version and length are put before it, so that
 * the bodies are what is explored. After every turn the books must be right.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "common/status.h"
#include "pipeline/exchange_work.h"

#define N_TASKS 4
#define N_SAMPLES 2
#define N_WORKERS 3
#define ARENA_BYTES ((size_t)8 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct play {
    struct exchange *exchange;
    struct work work;
    struct exchange_job job;
    struct group_slot slots[N_TASKS];
    struct sample_group groups[N_TASKS];
    struct task tasks[N_TASKS];
    const struct task *list[N_TASKS];
    struct reward_term term;
    struct arena arena;
    struct text frame;
};

/* One for all inputs: its socket takes longer to open than an input to play. */
static struct exchange *the_exchange;

static void close_exchange(void)
{
    exchange_destroy(&the_exchange);
}

static const char *worker_name(unsigned which)
{
    static const char *const names[N_WORKERS] = {"rollout-0", "rollout-1", "reward-0"};

    return names[which % N_WORKERS];
}

static void begin(struct play *play)
{
    static char endpoint[64];
    static int is_registered;
    const struct exchange_config config = {.endpoint = endpoint, .program = "/bin/false",
                                           .config = "none", .max_lease_tries = 3,
                                           .lease_ms = 1000, .connect_ms = 1000};

    memset(play, 0, sizeof(*play));
    snprintf(endpoint, sizeof(endpoint), "ipc:///tmp/hone-fuzz-%ld", (long)getpid());
    if (!the_exchange && exchange_create(&the_exchange, &config) < 0)
        abort();
    if (!is_registered++)
        atexit(close_exchange);
    play->exchange = the_exchange;
    arena_init(&play->arena, ARENA_BYTES);
    for (uint64_t i = 0; i < N_TASKS; i++) {
        play->tasks[i] = (struct task){.id = i, .kind = "chain"};
        play->list[i] = &play->tasks[i];
    }
    snprintf(play->term.name, sizeof(play->term.name), "accuracy");
    play->exchange->version = 7;
    play->job = (struct exchange_job){.label = "fuzz", .tasks = play->list, .n_tasks = N_TASKS,
                                      .sampling = {.num_generations = N_SAMPLES,
                                                   .weight_version = 7},
                                      .terms = &play->term, .n_terms = 1, .arena = &play->arena,
                                      .groups = play->groups};
    play->work = (struct work){.exchange = play->exchange, .job = &play->job,
                               .slots = play->slots};
    work_begin(&play->work);
}

/* As it was when it was created. */
static void end(struct play *play)
{
    while (play->exchange->n_peers)
        mem_free(play->exchange->peers[--play->exchange->n_peers]);
    play->exchange->last_lease = 0;
    text_release(&play->frame);
    arena_release(&play->arena);
}

/* What hand_out() does once its frame is sent. */
static void lease(struct play *play, unsigned which)
{
    struct peer *peer = peer_find(play->exchange, worker_name(which));
    struct group_slot *slot = &play->slots[which / N_WORKERS % N_TASKS];
    int judging = slot->state == GROUP_SAMPLED;

    if (!peer || (slot->state != GROUP_WAITING && !judging) ||
        peer->role != (judging ? WORKER_REWARD : WORKER_ROLLOUT))
        return;
    play->exchange->last_lease++;
    work_lend(&play->work, slot, peer);
}

static int say(struct play *play, unsigned which, int encoded)
{
    if (encoded < 0)
        abort();
    int status = work_take_frame(&play->work, worker_name(which), &play->frame);
    text_clear(&play->frame);
    return status;
}

static int greet(struct play *play, unsigned which)
{
    struct wire_hello hello = {.pid = which / 64, .version = {"", 0}};

    snprintf(hello.role, sizeof(hello.role), "%s", which % N_WORKERS < 2 ? "rollout" : "reward");
    return say(play, which, wire_encode_hello(&hello, &play->frame));
}

static int acknowledge(struct play *play, unsigned which)
{
    struct wire_weights_state state = {.version = 7, .accepted = 1, .reason = {"", 0}};

    return say(play, which, wire_encode_weights_state(&state, &play->frame));
}

/* The right answer to the newest lease, or one that is a bit wrong. */
static int answer(struct play *play, unsigned which, unsigned wrong)
{
    uint64_t task = which / N_WORKERS % N_TASKS;
    int32_t tokens[2] = {1, 2};
    float logprobs[2] = {-1, -1};
    uint32_t versions[2] = {7, wrong == 1 ? 8 : 7};
    struct score scores[N_SAMPLES] = {{.value = 1}, {.value = 0}};
    struct sample samples[N_SAMPLES];
    struct group_slot *slot = &play->slots[task];
    struct wire_group group = {slot->lease + (wrong == 2), {.task = {.id = task}}};
    const struct wire_text empty = {"", 0};

    group.group.task = (struct task){.id = task + (wrong == 3), .question = empty, .prompt = empty,
                                     .prefill = empty, .reference = empty, .columns = empty};
    group.group.samples = samples;
    group.group.n_samples = N_SAMPLES - (wrong == 4);
    group.group.rewards = &play->term;
    group.group.n_rewards = slot->state == GROUP_JUDGING ? wrong != 5 : wrong == 5;
    for (int i = 0; i < N_SAMPLES; i++)
        samples[i] = (struct sample){.n_tokens = wrong == 6 ? 0 : 2, .tokens = tokens,
                                     .logprobs = logprobs, .weight_versions = versions,
                                     .text = empty,
                                     .scores = wrong == 7 || !group.group.n_rewards ? NULL
                                                                                    : &scores[i]};
    return say(play, which, wire_encode_group(&group, &play->frame));
}

static int raw(struct play *play, unsigned which, unsigned kind, const uint8_t *body, size_t n)
{
    unsigned char header[12] = {'H', 'O', 'N', 'E', WIRE_VERSION, (unsigned char)kind, 0, 0,
                                (unsigned char)n, (unsigned char)(n >> 8)};

    text_append(&play->frame, header, sizeof(header));
    text_append(&play->frame, body, n);
    return say(play, which, STATUS_OK);
}

static void check_books(const struct play *play)
{
    size_t n_done = 0, n_sampled = 0;

    for (size_t i = 0; i < N_TASKS; i++) {
        const struct group_slot *slot = &play->slots[i];
        int is_out = slot->state == GROUP_SAMPLING || slot->state == GROUP_JUDGING;
        n_done += slot->state == GROUP_DONE;
        n_sampled += slot->state >= GROUP_SAMPLED;
        if (is_out != (slot->lease != 0) || (is_out && !slot->peer))
            abort();
        if (slot->state >= GROUP_SAMPLED && (play->groups[i].n_samples != N_SAMPLES ||
                                             play->groups[i].task.id != i))
            abort();
        for (int s = 0; slot->state == GROUP_DONE && s < N_SAMPLES; s++)
            if (!play->groups[i].samples[s].scores)
                abort();
    }
    if (n_done != play->work.n_done || n_sampled != play->work.n_sampled)
        abort();
    for (int p = 0; p < play->exchange->n_peers; p++) {
        int n = 0;
        for (size_t i = 0; i < N_TASKS; i++)
            n += play->slots[i].lease && play->slots[i].peer == play->exchange->peers[p];
        if (n != play->exchange->peers[p]->n_leases)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct play play;
    int status = STATUS_OK;

    log_set_level(LOG_ERROR);
    begin(&play);
    for (size_t at = 0; at + 2 <= n && status == STATUS_OK;) {
        unsigned what = data[at], which = data[at + 1];
        at += 2;
        if (what % 8 == 0) {
            status = greet(&play, which);
        } else if (what % 8 == 1) {
            lease(&play, which);
        } else if (what % 8 == 2) {
            status = acknowledge(&play, which);
        } else if (what % 8 == 3) {
            status = answer(&play, which, what / 8 % 8);
        } else if (at + 2 <= n) {
            size_t length = data[at] | (size_t)data[at + 1] << 8;
            at += 2;
            length = length < n - at ? length : n - at;
            status = raw(&play, which, what / 8 % 11, data + at, length);
            at += length;
        }
        check_books(&play);
    }
    end(&play);
    return 0;
}
