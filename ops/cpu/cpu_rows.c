#include <string.h>

#include "ops/cpu/cpu.h"

/* Rough costs in vector instructions per element. */
#define COST_STREAM 0.15
#define COST_NORM 0.4
#define COST_EXP 2.0
#define ALIGN_ELEMENTS 64

/* The operands of a loop; each body uses some of them. */
struct row_job {
    const struct kernels *kernels;
    float *out, *out2;
    const float *a, *b, *c, *d;
    const int32_t *index;
    int64_t C, D;
    float number;
    int flag;
};

/* ---- Memory, in lines of 64 bytes and what is left. */
#define LINE_BYTES 64
#define COST_LINE 4.0
struct memory_job {
    unsigned char *to;
    const unsigned char *from;   /* NULL: zeros */
};

static void fill_lines(void *argument, int64_t first, int64_t last)
{
    const struct memory_job *job = argument;
    size_t at = (size_t)first * LINE_BYTES, n = (size_t)(last - first) * LINE_BYTES;

    if (job->from)
        memcpy(job->to + at, job->from + at, n);
    else
        memset(job->to + at, 0, n);
}

static void fill(struct cpu *cpu, struct memory_job job, size_t bytes)
{
    size_t whole = bytes / LINE_BYTES * LINE_BYTES;

    cpu_loop(cpu, (int64_t)(bytes / LINE_BYTES), 1, COST_LINE, fill_lines, &job);
    if (job.from)
        memcpy(job.to + whole, job.from + whole, bytes - whole);
    else
        memset(job.to + whole, 0, bytes - whole);
}

void cpu_copy(void *context, void *to, const void *from, size_t bytes)
{
    if (bytes)
        fill(context, (struct memory_job){to, from}, bytes);
}

void cpu_zero(void *context, void *memory, size_t bytes)
{
    if (bytes)
        fill(context, (struct memory_job){memory, NULL}, bytes);
}

static void norm_rows(void *argument, int64_t first, int64_t last)
{
    const struct row_job *job = argument;

    job->kernels->rmsnorm(job->out, job->out2, job->a, job->b, job->C, job->number, first, last);
}

void cpu_rmsnorm(void *context, struct tensor *out, struct tensor *rstd, const struct tensor *in,
                 const struct tensor *weight, float eps)
{
    struct cpu *cpu = context;
    struct row_job job = {.kernels = cpu->kernels,
                          .out = tensor_f32(out),
                          .out2 = rstd ? tensor_f32(rstd) : NULL,
                          .a = tensor_f32(in),
                          .b = tensor_f32(weight),
                          .C = in->shape[1],
                          .number = eps};

    cpu_loop(cpu, in->shape[0], 1, COST_NORM * (double)job.C + 20, norm_rows, &job);
}

/* Weight gradients of RMSNORM_BLOCK rows go to a row of their own; the rows are added in order. */
struct norm_backward {
    const struct kernels *kernels;
    float *d_in, *partial;
    const float *d_out, *in, *weight, *rstd;
    int64_t N, C;
};

static void norm_backward_blocks(void *argument, int64_t first, int64_t last)
{
    const struct norm_backward *job = argument;

    for (int64_t i = first; i < last; i++) {
        int64_t row = i * RMSNORM_BLOCK, end = row + RMSNORM_BLOCK;
        memset(job->partial + i * job->C, 0, (size_t)job->C * sizeof(float));
        job->kernels->rmsnorm_backward(job->d_in, job->partial + i * job->C, job->d_out, job->in,
                                       job->weight, job->rstd, job->C, row,
                                       end < job->N ? end : job->N);
    }
}

void cpu_rmsnorm_backward(void *context, struct tensor *d_in, struct tensor *d_weight,
                          const struct tensor *d_out, const struct tensor *in,
                          const struct tensor *weight, const struct tensor *rstd)
{
    struct cpu *cpu = context;
    int64_t N = in->shape[0], C = in->shape[1];
    int64_t n_blocks = (N + RMSNORM_BLOCK - 1) / RMSNORM_BLOCK;
    float *partial =
        cpu_scratch(cpu, CPU_SCRATCH_SHARED, (size_t)(n_blocks * C) * sizeof(float));
    struct norm_backward job = {.kernels = cpu->kernels,
                                .d_in = tensor_f32(d_in),
                                .partial = partial,
                                .d_out = tensor_f32(d_out),
                                .in = tensor_f32(in),
                                .weight = tensor_f32(weight),
                                .rstd = tensor_f32(rstd),
                                .N = N,
                                .C = C};

    if (!partial)
        return;
    cpu_loop(cpu, n_blocks, 1, RMSNORM_BLOCK * (2 * COST_NORM * (double)C + 20),
             norm_backward_blocks, &job);
    cpu->kernels->sum_columns(tensor_f32(d_weight), partial, C, n_blocks, C);
}

static void rope_rows(void *argument, int64_t first, int64_t last)
{
    const struct row_job *job = argument;

    job->kernels->rope(job->out, job->a, job->index, job->C, job->D, job->flag, first, last);
}

void cpu_rope(void *context, struct tensor *x, const struct tensor *table,
              const struct tensor *positions, int inverse)
{
    struct cpu *cpu = context;
    struct row_job job = {.kernels = cpu->kernels,
                          .out = tensor_f32(x),
                          .a = tensor_f32(table),
                          .index = positions->data,
                          .C = x->shape[1],
                          .D = x->shape[2],
                          .flag = inverse};

    cpu_loop(cpu, x->shape[0], 1, (double)(job.C * job.D), rope_rows, &job);
}

static void swiglu_elements(void *argument, int64_t first, int64_t last)
{
    const struct row_job *job = argument;

    job->kernels->swiglu(job->out + first, job->a + first, job->b + first, last - first);
}

void cpu_swiglu(void *context, struct tensor *out, const struct tensor *gate,
                const struct tensor *up)
{
    struct cpu *cpu = context;
    struct row_job job = {.kernels = cpu->kernels,
                          .out = tensor_f32(out),
                          .a = tensor_f32(gate),
                          .b = tensor_f32(up)};

    cpu_loop(cpu, tensor_count(out), ALIGN_ELEMENTS, COST_EXP, swiglu_elements, &job);
}

static void swiglu_backward_elements(void *argument, int64_t first, int64_t last)
{
    const struct row_job *job = argument;

    job->kernels->swiglu_backward(job->out + first, job->out2 + first, job->a + first,
                                  job->b + first, job->c + first, last - first);
}

void cpu_swiglu_backward(void *context, struct tensor *d_gate, struct tensor *d_up,
                         const struct tensor *d_out, const struct tensor *gate,
                         const struct tensor *up)
{
    struct cpu *cpu = context;
    struct row_job job = {.kernels = cpu->kernels,
                          .out = tensor_f32(d_gate),
                          .out2 = tensor_f32(d_up),
                          .a = tensor_f32(d_out),
                          .b = tensor_f32(gate),
                          .c = tensor_f32(up)};

    cpu_loop(cpu, tensor_count(gate), ALIGN_ELEMENTS, COST_EXP, swiglu_backward_elements, &job);
}

static void add_elements(void *argument, int64_t first, int64_t last)
{
    const struct row_job *job = argument;

    job->kernels->add(job->out + first, job->a + first, last - first);
}

void cpu_add(void *context, struct tensor *out, const struct tensor *in)
{
    struct cpu *cpu = context;
    struct row_job job = {.kernels = cpu->kernels, .out = tensor_f32(out), .a = tensor_f32(in)};

    cpu_loop(cpu, tensor_count(out), ALIGN_ELEMENTS, COST_STREAM, add_elements, &job);
}

static void scale_elements(void *argument, int64_t first, int64_t last)
{
    const struct row_job *job = argument;

    job->kernels->scale(job->out + first, job->number, last - first);
}

void cpu_scale(void *context, struct tensor *x, float factor)
{
    struct cpu *cpu = context;
    struct row_job job = {.kernels = cpu->kernels, .out = tensor_f32(x), .number = factor};

    cpu_loop(cpu, tensor_count(x), ALIGN_ELEMENTS, COST_STREAM, scale_elements, &job);
}

static void gather_rows(void *argument, int64_t first, int64_t last)
{
    const struct row_job *job = argument;

    for (int64_t n = first; n < last; n++)
        memcpy(job->out + n * job->C, job->a + job->index[n] * job->C,
               (size_t)job->C * sizeof(float));
}

void cpu_gather_rows(void *context, struct tensor *out, const struct tensor *in,
                     const struct tensor *rows)
{
    struct cpu *cpu = context;
    struct row_job job = {.out = tensor_f32(out),
                          .a = tensor_f32(in),
                          .index = rows->data,
                          .C = out->shape[1]};

    cpu_loop(cpu, out->shape[0], 1, COST_STREAM * (double)job.C, gather_rows, &job);
}

static void scatter_rows(void *argument, int64_t first, int64_t last)
{
    const struct row_job *job = argument;

    for (int64_t n = first; n < last; n++)
        job->kernels->add(job->out + job->index[n] * job->C, job->a + n * job->C, job->C);
}

void cpu_scatter_add_rows(void *context, struct tensor *d_in, const struct tensor *d_out,
                          const struct tensor *rows)
{
    struct cpu *cpu = context;
    struct row_job job = {.kernels = cpu->kernels,
                          .out = tensor_f32(d_in),
                          .a = tensor_f32(d_out),
                          .index = rows->data,
                          .C = d_out->shape[1]};

    cpu_loop(cpu, d_out->shape[0], 1, COST_STREAM * (double)job.C, scatter_rows, &job);
}

/* A token may occur many times: threads split the columns, so that rows stay in order. */
static void scatter_columns(void *argument, int64_t first, int64_t last)
{
    const struct row_job *job = argument;

    for (int64_t n = 0; n < job->D; n++)
        job->kernels->add(job->out + job->index[n] * job->C + first, job->a + n * job->C + first,
                          last - first);
}

void cpu_embedding_backward(void *context, struct tensor *d_table, const struct tensor *d_out,
                            const struct tensor *tokens)
{
    struct cpu *cpu = context;
    struct row_job job = {.kernels = cpu->kernels,
                          .out = tensor_f32(d_table),
                          .a = tensor_f32(d_out),
                          .index = tokens->data,
                          .C = d_out->shape[1],
                          .D = d_out->shape[0]};

    cpu_loop(cpu, job.C, ALIGN_ELEMENTS, COST_STREAM * (double)job.D, scatter_columns, &job);
}
