#include <stdio.h>
#include <string.h>

#include "common/memory.h"
#include "common/status.h"
#include "ops/cpu/cpu.h"

/* Below this much work a second thread costs more than it saves. */
#define TASK_COST 8000.0
#define TASKS_PER_THREAD 6

static const struct kernels *find_kernels(const char *name)
{
    const struct kernels *const *all = processor_kernels();

    if (!*name)
        return all[0];
    for (; *all; all++)
        if (strcmp((*all)->name, name) == 0)
            return *all;
    return NULL;
}

static void close_cpu(void *context)
{
    struct cpu *cpu = context;

    pool_destroy(&cpu->pool);
    for (int i = 0; i < CPU_N_SCRATCH; i++)
        host_free(NULL, cpu->scratch[i]);
    mem_free(cpu);
}

static int open_cpu(const char *variant, int n_threads, void **context)
{
    const struct kernels *kernels = find_kernels(variant);

    *context = NULL;
    if (!kernels)
        return status_fail(STATUS_UNSUPPORTED,
                           "device \"cpu:%s\": this processor has no such instructions; use "
                           "\"cpu\", which chooses the best (here \"cpu:%s\")",
                           variant, processor_kernels()[0]->name);
    struct cpu *cpu = mem_alloc(1, sizeof(*cpu));
    cpu->kernels = kernels;
    int status = pool_create(&cpu->pool, n_threads);
    if (status < 0) {
        mem_free(cpu);
        return status;
    }
    int n = pool_n_threads(cpu->pool);
    snprintf(cpu->description, sizeof(cpu->description), "cpu (%s, %d thread%s)", kernels->name, n,
             n == 1 ? "" : "s");
    *context = cpu;
    return STATUS_OK;
}

static int sync_cpu(void *context)
{
    struct cpu *cpu = context;
    int status = cpu->status;

    cpu->status = STATUS_OK;
    return status;
}

static const char *describe_cpu(void *context)
{
    return ((struct cpu *)context)->description;
}

void *cpu_scratch(struct cpu *cpu, enum cpu_scratch which, size_t bytes)
{
    if (cpu->status < 0)
        return NULL;
    if (cpu->scratch[which] && bytes <= cpu->scratch_bytes[which])
        return cpu->scratch[which];
    host_free(NULL, cpu->scratch[which]);
    cpu->scratch[which] = NULL;
    int status = host_alloc(NULL, bytes, &cpu->scratch[which]);
    if (status < 0) {
        cpu->status = status_context(status, "scratch memory of an op");
        return NULL;
    }
    cpu->scratch_bytes[which] = bytes;
    return cpu->scratch[which];
}

struct loop {
    void (*body)(void *job, int64_t first, int64_t last);
    void *job;
    int64_t n, step;
};

static void run_range(void *argument, int64_t i, int thread)
{
    const struct loop *loop = argument;
    int64_t last = (i + 1) * loop->step;

    (void)thread;
    loop->body(loop->job, i * loop->step, last < loop->n ? last : loop->n);
}

void cpu_loop(struct cpu *cpu, int64_t n, int64_t align, double cost,
              void (*body)(void *job, int64_t first, int64_t last), void *job)
{
    double n_tasks = cost * (double)n / TASK_COST;
    int64_t most = (int64_t)pool_n_threads(cpu->pool) * TASKS_PER_THREAD;
    struct loop loop = {.body = body, .job = job, .n = n};

    if (n <= 0)
        return;
    int64_t tasks = n_tasks < 2 ? 1 : n_tasks > (double)most ? most : (int64_t)n_tasks;
    if (tasks == 1 || pool_n_threads(cpu->pool) == 1) {
        body(job, 0, n);
        return;
    }
    loop.step = ((n + tasks - 1) / tasks + align - 1) / align * align;
    pool_run(cpu->pool, (n + loop.step - 1) / loop.step, run_range, &loop);
}

const struct ops_table ops_table_cpu = {
    .name = "cpu",
    .host_memory = 1,
    .open = open_cpu,
    .close = close_cpu,
    .sync = sync_cpu,
    .describe = describe_cpu,
    .memory_bytes = host_memory_bytes,
    .alloc = host_alloc,
    .free = host_free,
    .upload = host_copy,
    .download = host_copy,
    .copy = cpu_copy,
    .zero = cpu_zero,
    .checksum = host_checksum,
    .matrix_read = cpu_matrix_read,
    .matrix_write = cpu_matrix_write,
    .round_bf16 = cpu_round_bf16,
    .matmul = cpu_matmul,
    .matmul_backward_input = cpu_matmul_backward_input,
    .matmul_several = cpu_matmul_several,
    .matmul_backward_inputs = cpu_matmul_backward_inputs,
    .matmul_backward_weights = cpu_matmul_backward_weights,
    .rmsnorm = cpu_rmsnorm,
    .rmsnorm_backward = cpu_rmsnorm_backward,
    .rope = cpu_rope,
    .swiglu = cpu_swiglu,
    .swiglu_backward = cpu_swiglu_backward,
    .add = cpu_add,
    .scale = cpu_scale,
    .embedding = cpu_embedding,
    .embedding_backward = cpu_embedding_backward,
    .gather_rows = cpu_gather_rows,
    .scatter_add_rows = cpu_scatter_add_rows,
    .attention = cpu_attention,
    .attention_backward = cpu_attention_backward,
    .cache_store = cpu_cache_store,
    .attention_decode = cpu_attention_decode,
    .sample = cpu_sample,
    .token_logprob = cpu_token_logprob,
    .token_logprob_backward = cpu_token_logprob_backward,
    .sum_squares = cpu_sum_squares,
    .all_finite = cpu_all_finite,
    .adamw = cpu_adamw,
};
