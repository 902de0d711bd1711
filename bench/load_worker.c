/* A rollout worker without a model: link, codec and image are the real ones. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench/load.h"
#include "common/log.h"
#include "common/status.h"
#include "rollout/internal.h"

#define BEAT_MS 1000
#define WAIT_MS 200
#define HELD_WAIT_MS 5
#define LOST_MS 60000
#define SEND_MS 10000
#define MOST_HELD 16
#define MOST_SAMPLES 64

struct fake {
    struct wire_link *link;
    struct load_shared *shared;
    int number, over_wire;
    char name[WIRE_NAME_BYTES];
    struct image image;
    struct arena arena;
    struct text in, out;
    uint64_t n_greeted;
    int64_t beat_ms;
    uint64_t bytes_before;             /* of the images before this one */
    struct wire_sample_lease held[MOST_HELD];
    int n_held, stopped;
};

static int send_out(struct fake *fake, int status)
{
    if (status == STATUS_OK)
        status = wire_link_send(fake->link, &fake->out, SEND_MS);
    text_clear(&fake->out);
    return status;
}

static int greet(struct fake *fake)
{
    char host[WIRE_NAME_BYTES * 2];
    struct wire_hello hello = {.role = "rollout", .pid = (uint64_t)getpid(), .version = {"", 0},
                               .host = {"", 0}, .held = fake->image.held};

    snprintf(hello.name, sizeof(hello.name), "%s", fake->name);
    wire_host_id(host);
    if (!fake->over_wire)
        hello.host = (struct wire_text){host, (uint32_t)strlen(host)};
    return send_out(fake, wire_encode_hello(&hello, &fake->out));
}

static int beat(struct fake *fake)
{
    const struct wire_heartbeat message = {.doing = "waits",
                                           .weights_bytes = fake->image.bytes_taken};

    fake->beat_ms = clock_ms();
    return send_out(fake, wire_encode_heartbeat(&message, &fake->out));
}

static int keep_in_touch(struct fake *fake)
{
    TRY(wire_link_check(fake->link, LOST_MS));
    if (wire_link_connections(fake->link) > fake->n_greeted) {
        fake->n_greeted = wire_link_connections(fake->link);
        fake->beat_ms = clock_ms();
        return greet(fake);
    }
    return clock_ms() - fake->beat_ms < BEAT_MS ? STATUS_OK : beat(fake);
}

/* The policy: a function of the task and the sample's number. */
static int answer(struct fake *fake, const struct wire_sample_lease *lease)
{
    static float logprobs[LOAD_TOKENS];
    int32_t tokens[LOAD_TOKENS];
    uint32_t versions[LOAD_TOKENS];
    struct sample samples[MOST_SAMPLES] = {{0}};
    struct wire_group group = {lease->lease, {.task = lease->task, .n_prompt = 1,
                                              .prompt_tokens = tokens,
                                              .n_samples = lease->sampling.num_generations,
                                              .samples = samples}};

    for (int t = 0; t < LOAD_TOKENS; t++) {
        tokens[t] = (int32_t)((lease->task.id + (uint64_t)t) & INT32_MAX);
        versions[t] = lease->sampling.weight_version;
    }
    for (uint32_t s = 0; s < group.group.n_samples && s < MOST_SAMPLES; s++)
        samples[s] = (struct sample){.n_tokens = LOAD_TOKENS, .tokens = tokens,
                                     .logprobs = logprobs, .weight_versions = versions,
                                     .text = {"4", 1}};
    return send_out(fake, wire_encode_group(&group, &fake->out));
}

static int is_held_back(const struct fake *fake)
{
    return atomic_load(&fake->shared->n_ready) < atomic_load(&fake->shared->holds);
}

static int answer_held(struct fake *fake)
{
    if (is_held_back(fake))
        return STATUS_OK;
    for (int i = 0; i < fake->n_held; i++)
        TRY(answer(fake, &fake->held[i]));
    fake->n_held = 0;
    return STATUS_OK;
}

static int take_lease(struct fake *fake)
{
    struct wire_sample_lease lease;

    TRY(wire_decode_sample_lease(fake->in.data, fake->in.length, &fake->arena, &lease));
    if (!is_held_back(fake))
        return answer(fake, &lease);
    if (fake->n_held == MOST_HELD)
        return status_fail(STATUS_FAILED, "more leases than a worker may have");
    const struct wire_text nothing = {"", 0};   /* the arena forgets the texts */
    lease.task.question = lease.task.prompt = lease.task.prefill = nothing;
    lease.task.reference = lease.task.columns = nothing;
    fake->held[fake->n_held++] = lease;
    return STATUS_OK;
}

static int say_state(struct fake *fake, int verdict)
{
    const char *why = verdict < 0 ? status_reason() : "";
    const struct wire_weights_state state = {.version = fake->image.version,
                                             .accepted = verdict == STATUS_OK,
                                             .wants_bytes = fake->image.wants_bytes,
                                             .digest = fake->image.digest,
                                             .reason = {why, (uint32_t)strlen(why)}};

    return send_out(fake, wire_encode_weights_state(&state, &fake->out));
}

/* Nothing reads the weights: they are taken over once their digest is right. */
static int take_over(struct fake *fake)
{
    if (fake->image.state == IMAGE_IS_CHECKED) {
        int status = image_check_some(&fake->image);
        if (status < 0)
            return say_state(fake, status);
    }
    if (fake->image.state != IMAGE_COMPLETE)
        return STATUS_OK;
    TRY(say_state(fake, STATUS_OK));
    fake->bytes_before += fake->image.bytes_taken;
    image_was_taken(&fake->image);
    image_end(&fake->image);
    atomic_fetch_add(&fake->shared->n_ready, 1);
    return STATUS_OK;
}

static int take_image(struct fake *fake)
{
    struct wire_image message;

    TRY(wire_decode_image(fake->in.data, fake->in.length, &fake->arena, &message));
    atomic_store(&fake->shared->by_file[fake->number], message.path.bytes > 0);
    int status = image_begin(&fake->image, &message);
    return status < 0 ? say_state(fake, status) : STATUS_OK;
}

static int take_part(struct fake *fake)
{
    uint64_t before = fake->image.bytes_taken / WIRE_WEIGHTS_REPORT;
    struct wire_weights_part part;

    TRY(wire_decode_weights_part(fake->in.data, fake->in.length, &fake->arena, &part));
    int status = image_add(&fake->image, &part);
    atomic_store(&fake->shared->bytes[fake->number], fake->bytes_before + fake->image.bytes_taken);
    if (status < 0)
        return say_state(fake, status);
    return fake->image.bytes_taken / WIRE_WEIGHTS_REPORT > before ? beat(fake) : STATUS_OK;
}

static int take_frame(struct fake *fake)
{
    enum wire_kind kind;

    arena_rewind(&fake->arena);
    TRY(wire_kind_of(fake->in.data, fake->in.length, &kind));
    fake->stopped = kind == WIRE_STOP;
    return kind == WIRE_SAMPLE    ? take_lease(fake)
           : kind == WIRE_IMAGE   ? take_image(fake)
           : kind == WIRE_WEIGHTS ? take_part(fake)
                                  : STATUS_OK;
}

static int serve(struct fake *fake)
{
    while (!fake->stopped) {
        TRY(keep_in_touch(fake));
        int wait_ms = fake->image.state == IMAGE_IS_CHECKED ? 0
                      : fake->n_held                       ? HELD_WAIT_MS
                                                           : WAIT_MS;
        int status = wire_link_receive(fake->link, &fake->in, wait_ms);
        for (; status == STATUS_OK && !fake->stopped;
             status = wire_link_receive(fake->link, &fake->in, 0)) {
            TRY(take_frame(fake));
            TRY(take_over(fake));
        }
        if (status < 0 && status != STATUS_TIMEOUT && status != STATUS_INTERRUPTED)
            return status;
        TRY(take_over(fake));
        TRY(answer_held(fake));
    }
    return STATUS_OK;
}

static int map_shared(struct fake *fake, const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);

    if (fd < 0)
        return status_fail(STATUS_IO, "cannot open %s", path);
    fake->shared = mmap(NULL, sizeof(*fake->shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return fake->shared == MAP_FAILED ? status_fail(STATUS_IO, "cannot map %s", path) : STATUS_OK;
}

/* LOAD_WORKER endpoint key-or-"" shared number over_wire */
int load_worker_main(int n, char **words)
{
    struct wire_keys keys = {.insecure = 1};
    struct fake fake = {.n_greeted = 0};
    int status;

    if (n != 7)
        return 2;
    fake.number = (int)strtol(words[5], NULL, 10);
    fake.over_wire = (int)strtol(words[6], NULL, 10);
    snprintf(fake.name, sizeof(fake.name), "fake-%d", fake.number);
    log_set_name(fake.name);
    image_init(&fake.image);
    arena_init(&fake.arena, (size_t)256 << 20);
    TRY_OUT(map_shared(&fake, words[4]));
    if (words[3][0])
        TRY_OUT(wire_keys_read(&keys, words[3]));
    TRY_OUT(wire_link_open(&fake.link, words[2], fake.name, &keys));
    status = serve(&fake);
out:
    if (status < 0)
        log_error("%s", status_reason());
    wire_link_close(&fake.link);
    image_close(&fake.image);
    arena_release(&fake.arena);
    text_release(&fake.in);
    text_release(&fake.out);
    return status < 0;
}
