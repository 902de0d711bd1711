#include "bench/load.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/status.h"
#include "pipeline/exchange_peers.h"

#define N_SAMPLES 4
#define LEASES 5                     /* outstanding at one worker */
#define WAIT_MS 300000
#define MARK_BYTES ((size_t)1 << 20)

extern char **environ;

/* ---- The processes. */

static int share(struct load *load)
{
    char path[FILE_PATH_MAX];

    TRY(file_join(path, load->directory, "shared"));
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof(*load->shared)))
        return status_fail(STATUS_IO, "cannot make %s", path);
    load->shared = mmap(NULL, sizeof(*load->shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return load->shared == MAP_FAILED ? status_fail(STATUS_IO, "cannot map %s", path) : STATUS_OK;
}

static int start_worker(struct load *load, int number, const char *endpoint, const char *key,
                        int over_wire)
{
    char program[FILE_PATH_MAX] = "", path[FILE_PATH_MAX], digits[16];
    const char *const words[] = {program, LOAD_WORKER, endpoint, key, path, digits,
                                 over_wire ? "1" : "0", NULL};

    snprintf(digits, sizeof(digits), "%d", number);
    TRY(file_join(path, load->directory, "shared"));
    if (readlink("/proc/self/exe", program, sizeof(program) - 1) < 0 ||
        posix_spawn(&load->pids[number], program, NULL, NULL, (char *const *)(uintptr_t)words,
                    environ))
        return status_fail(STATUS_IO, "cannot start a worker");
    load->n_workers = number + 1;
    return STATUS_OK;
}

static int open_exchange(struct load *load, enum load_way way, struct wire_keys *keys, char *key)
{
    struct exchange_config config = {.endpoint = "tcp://127.0.0.1:*", .program = "/bin/false",
                                     .config = "none", .keys = keys, .lease_ms = WAIT_MS,
                                     .connect_ms = WAIT_MS, .silent_ms = WAIT_MS,
                                     .stuck_ms = WAIT_MS, .max_lease_tries = 3,
                                     .directory = load->directory};
    char endpoint[128];

    key[0] = '\0';
    if (way == LOAD_CURVE) {
        TRY(wire_keys_make(load->directory));
        TRY(wire_keys_read_hub(keys, load->directory));
        TRY(file_join(key, load->directory, WIRE_WORKER_KEY));
    } else if (way == LOAD_IPC) {
        snprintf(endpoint, sizeof(endpoint), "ipc://%s/hub", load->directory);
        config.endpoint = endpoint;
    }
    return exchange_create(&load->exchange, &config);
}

int load_open(struct load *load, enum load_way way, int n_workers, int over_wire)
{
    const struct wire_model model = {{"{}", 2}, {"{}", 2}, 0, NULL};
    struct wire_keys keys = {.insecure = 1};
    char key[FILE_PATH_MAX];
    struct file_map image;
    double seconds;
    int status;

    memset(load, 0, sizeof(*load));
    arena_init(&load->arena, (size_t)4 << 30);
    snprintf(load->directory, sizeof(load->directory), "/tmp/hone-load-XXXXXX");
    if (!mkdtemp(load->directory))
        return status_fail(STATUS_IO, "cannot make %s", load->directory);
    TRY_OUT(share(load));
    TRY_OUT(open_exchange(load, way, &keys, key));
    TRY_OUT(exchange_set_workers(load->exchange, "rl", "hash", 0, 0));
    TRY_OUT(exchange_set_model(load->exchange, &model));
    for (int i = 0; i < n_workers; i++)
        TRY_OUT(start_worker(load, i, wire_hub_endpoint(load->exchange->hub), key, over_wire));
    TRY_OUT(load_make_image(&image, 1, MARK_BYTES, 0, 0, 1));
    status = load_publish(load, &image, &seconds);   /* they are all there now */
out:
    wire_keys_forget(&keys);
    if (status < 0)
        load_close(load);
    return status;
}

static void end_worker(pid_t pid)
{
    int64_t end = clock_ms() + 5000;

    while (waitpid(pid, NULL, WNOHANG) == 0) {
        if (clock_ms() > end)
            kill(pid, SIGKILL);
        usleep(1000);
    }
}

void load_close(struct load *load)
{
    exchange_destroy(&load->exchange);
    for (int i = 0; i < load->n_workers; i++)
        end_worker(load->pids[i]);
    if (load->shared && load->shared != MAP_FAILED)
        munmap(load->shared, sizeof(*load->shared));
    arena_release(&load->arena);
    if (load->directory[0])
        file_remove_tree(load->directory);
    memset(load, 0, sizeof(*load));
}

/* ---- One step. */

double load_quantile(const struct load_latency *latency, double share)
{
    uint64_t wanted = (uint64_t)ceil(share * (double)latency->n), seen = 0;

    for (int i = 0; i < LOAD_BUCKETS; i++)
        if ((seen += latency->counts[i]) >= wanted)
            return 1e-6 * exp2((i + 0.5) / 16);
    return NAN;
}

static void add_latency(struct load_latency *latency, double seconds)
{
    int bucket = seconds > 1e-6 ? (int)(16 * log2(seconds * 1e6)) : 0;

    latency->counts[bucket < LOAD_BUCKETS ? bucket : LOAD_BUCKETS - 1]++;
    latency->n++;
}

static int check_group(const struct sample_group *group, uint64_t id)
{
    if (group->task.id != id || group->n_samples != N_SAMPLES)
        return status_fail(STATUS_FAILED, "group %llu came where %llu was due",
                           (unsigned long long)group->task.id, (unsigned long long)id);
    for (int s = 0; s < N_SAMPLES; s++)
        for (int t = 0; t < LOAD_TOKENS; t++)
            if (group->samples[s].masked || group->samples[s].n_tokens != LOAD_TOKENS ||
                group->samples[s].tokens[t] != (int32_t)((id + (uint64_t)t) & INT32_MAX))
                return status_fail(STATUS_FAILED, "group %llu came with other tokens",
                                   (unsigned long long)id);
    return STATUS_OK;
}

static int run_step(struct load *load, size_t n, int leases, struct load_latency *latency)
{
    arena_rewind(&load->arena);
    struct task *tasks = ARENA_NEW(&load->arena, struct task, n);
    const struct task **list = ARENA_NEW(&load->arena, const struct task *, n);
    struct exchange_job job = {.label = "load", .tasks = list, .n_tasks = n,
                               .sampling = {.num_generations = N_SAMPLES,
                                            .max_completion_length = LOAD_TOKENS,
                                            .temperature = 1, .top_p = 1,
                                            .weight_version = load->version},
                               .max_sequences = (leases - 1) * N_SAMPLES, .arena = &load->arena,
                               .groups = ARENA_NEW(&load->arena, struct sample_group, n),
                               .group_seconds = ARENA_NEW(&load->arena, float, n)};
    if (!tasks || !list || !job.groups || !job.group_seconds)
        return status_fail(STATUS_NOMEM, "no room for a step of %zu groups", n);
    for (size_t i = 0; i < n; i++) {
        const struct wire_text empty = {"", 0};
        tasks[i] = (struct task){.id = load->n_groups + i, .kind = "chain", .verifier = "math",
                                 .question = {"2 + 2", 5}, .prompt = {"What is 2 + 2?", 14},
                                 .prefill = empty, .reference = {"4", 1}, .columns = empty};
        list[i] = &tasks[i];
    }
    TRY(exchange_run(load->exchange, &job));
    for (size_t i = 0; i < n; i++) {
        TRY(check_group(&job.groups[i], load->n_groups + i));
        if (latency)
            add_latency(latency, (double)job.group_seconds[i]);
    }
    load->n_groups += n;
    return STATUS_OK;
}

int load_run(struct load *load, uint64_t n_groups, size_t per_step, struct load_latency *latency)
{
    for (uint64_t left = n_groups, n; left > 0; left -= n) {
        n = left < per_step ? left : per_step;
        TRY(run_step(load, (size_t)n, LEASES, latency));
    }
    return STATUS_OK;
}

/* ---- Weights. */

/* A worker that is up to date holds its leases until all are: the step ends with the last one. */
int load_publish(struct load *load, struct file_map *image, double *seconds)
{
    atomic_store(&load->shared->n_ready, 0);
    atomic_store(&load->shared->holds, load->n_workers);
    double start = clock_seconds();
    TRY(exchange_publish(load->exchange, ++load->version, image));
    int status = run_step(load, (size_t)load->n_workers * 2, 2, NULL);
    *seconds = clock_seconds() - start;
    atomic_store(&load->shared->holds, 0);
    return status;
}

uint64_t load_bytes_taken(const struct load *load)
{
    uint64_t sum = 0;

    for (int i = 0; i < load->n_workers; i++)
        sum += atomic_load(&load->shared->bytes[i]);
    return sum;
}

static int put_tensors(struct file_sink *sink, size_t start, size_t n_tensors, size_t tensor_bytes,
                       size_t first_changed, uint64_t salt, int is_solid)
{
    uint64_t *piece = mem_alloc(MARK_BYTES, 1), state = 88172645463325252u;
    int status = STATUS_OK;

    for (size_t i = 0; is_solid && i < MARK_BYTES / sizeof(*piece); i++) {
        state ^= state << 13;
        state ^= state >> 7;
        piece[i] = (state ^= state << 17) & 0x3f7f3f7f3f7f3f7fu;   /* finite bfloat16 */
    }
    for (size_t at = 0; status == STATUS_OK && at < n_tensors * tensor_bytes; at += MARK_BYTES) {
        size_t left = n_tensors * tensor_bytes - at;
        size_t n = is_solid ? MARK_BYTES : sizeof(*piece);
        piece[0] = (at / MARK_BYTES) << 20 | (at / tensor_bytes >= first_changed ? salt : 0);
        status = file_sink_put_at(sink, start + at, piece, n < left ? n : left);
    }
    mem_free(piece);
    if (status == STATUS_OK && ftruncate(sink->fd, (off_t)(start + n_tensors * tensor_bytes)))
        status = status_fail(STATUS_IO, "cannot make an image");
    return status;
}

int load_make_image(struct file_map *image, size_t n_tensors, size_t tensor_bytes,
                    size_t first_changed, uint64_t salt, int is_solid)
{
    struct text header = {0};
    struct file_sink sink;
    unsigned char length[8] = {0};

    TRY(file_sink_open_nameless(&sink));
    text_print(&header, "{");
    for (size_t i = 0; i < n_tensors; i++)
        text_print(&header, "%s\"t%zu\":{\"dtype\":\"BF16\",\"shape\":[%zu],\"data_offsets\":"
                   "[%zu,%zu]}", i ? "," : "", i, tensor_bytes / 2, i * tensor_bytes,
                   (i + 1) * tensor_bytes);
    text_print(&header, "}");
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)header.length >> (8 * i));
    int status = file_sink_put(&sink, length, sizeof(length));
    if (status == STATUS_OK)
        status = file_sink_put(&sink, header.data, header.length);
    if (status == STATUS_OK)
        status = put_tensors(&sink, sizeof(length) + header.length, n_tensors, tensor_bytes,
                             first_changed, salt, is_solid);
    text_release(&header);
    TRY(file_sink_map(&sink, status, image));
    for (size_t at = 0; at < image->n; at += MARK_BYTES) {   /* a file just written is in memory */
        size_t n = image->n - at < MARK_BYTES ? image->n - at : MARK_BYTES;
        file_map_fetch(image, at, n);
        file_map_forget_part(image, at, n);
    }
    return STATUS_OK;
}

/* ---- What a process holds. */

size_t load_resident(pid_t pid)
{
    char path[64];
    unsigned long size, resident = 0, shared = 0;

    snprintf(path, sizeof(path), "/proc/%ld/statm", (long)pid);
    FILE *file = fopen(path, "re");
    if (file && fscanf(file, "%lu %lu %lu", &size, &resident, &shared) != 3)
        resident = shared = 0;
    if (file)
        fclose(file);
    return (resident - shared) * (size_t)sysconf(_SC_PAGESIZE);
}

int load_descriptors(pid_t pid)
{
    char path[64], file[96], target[8];
    int n = 0;

    snprintf(path, sizeof(path), "/proc/%ld/fd", (long)pid);
    for (int fd = 0; fd < 4096; fd++) {
        snprintf(file, sizeof(file), "%s/%d", path, fd);
        n += readlink(file, target, sizeof(target)) >= 0;
    }
    return n;
}
