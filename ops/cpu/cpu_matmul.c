#include "ops/cpu/cpu.h"

#define ROWS_PER_TASK 96      /* a multiple of every tile_rows; their inputs stay in the L2 cache */
#define STEPS_PER_PASS 512    /* of a backward sum: bounds the packed copies */
#define PANELS_FLOATS (1 << 20)   /* of a weight, packed at a time: a few megabytes */
#define TASK_FLOPS 400000.0   /* a task takes some ten microseconds */
#define INLINE_FLOPS 300000.0
#define TASKS_PER_THREAD 6

/* ---- A grid of (rows, panels) over the pool. */
struct grid {
    const struct kernels *kernels;
    const struct product *product;
    int64_t n_rows, n_panels, rows_per_task, panels_per_task, n_panel_tasks;
};

static void run_cell(void *argument, int64_t i, int thread)
{
    const struct grid *grid = argument;
    int64_t row = i / grid->n_panel_tasks * grid->rows_per_task;
    int64_t panel = i % grid->n_panel_tasks * grid->panels_per_task;
    int64_t last_row = row + grid->rows_per_task, last_panel = panel + grid->panels_per_task;

    (void)thread;
    grid->kernels->product(grid->product, row, last_row < grid->n_rows ? last_row : grid->n_rows,
                           panel, last_panel < grid->n_panels ? last_panel : grid->n_panels);
}

static void run_product(struct cpu *cpu, const struct product *product, int64_t n_rows)
{
    int64_t n_panels = divide_up(product->n_columns, OPS_PANEL), tile = cpu->kernels->tile_panels;
    double flops = 2.0 * (double)n_rows * (double)product->n_columns * (double)product->n_steps;
    int n_threads = pool_n_threads(cpu->pool);
    struct grid grid = {.kernels = cpu->kernels,
                        .product = product,
                        .n_rows = n_rows,
                        .n_panels = n_panels,
                        .rows_per_task = ROWS_PER_TASK,
                        .panels_per_task = n_panels};

    int64_t n_row_tasks = divide_up(n_rows, ROWS_PER_TASK);
    if (n_threads > 1 && flops > INLINE_FLOPS) {
        double most = flops / TASK_FLOPS, enough = (double)n_threads * TASKS_PER_THREAD;
        double wanted = (most < enough ? most : enough) / (double)n_row_tasks;
        if (wanted < n_threads && n_row_tasks < n_threads)
            wanted = n_threads;
        int64_t cuts = wanted < 1 ? 1 : (int64_t)wanted;
        grid.panels_per_task = divide_up(divide_up(n_panels, cuts), tile) * tile;
    }
    grid.n_panel_tasks = divide_up(n_panels, grid.panels_per_task);
    if (n_threads == 1 || flops <= INLINE_FLOPS)
        for (int64_t i = 0; i < n_row_tasks * grid.n_panel_tasks; i++)
            run_cell(&grid, i, 0);
    else
        pool_run(cpu->pool, n_row_tasks * grid.n_panel_tasks, run_cell, &grid);
}

/* ---- Packing. */
struct pack_job {
    const struct kernels *kernels;
    float *to;
    const float *from;
    int64_t ld, n_steps, n_columns;
};

static void pack_columns(void *argument, int64_t first, int64_t last)
{
    const struct pack_job *job = argument;

    job->kernels->pack_columns(job->to, job->from, job->ld, job->n_steps, job->n_columns, first,
                               last);
}

static void pack_blocks(void *argument, int64_t first, int64_t last)
{
    const struct pack_job *job = argument;

    job->kernels->pack_blocks(job->to, job->from, job->ld, job->n_steps, job->n_columns, first,
                              last);
}

/* ---- The products. */
/* Rows become panels for a few columns of the output at a time. */
static void multiply_rows(struct cpu *cpu, struct product *product, const struct matrix *weight,
                          int64_t N)
{
    int64_t C = weight->C, n_panels = divide_up(weight->M, OPS_PANEL);
    int64_t most = PANELS_FLOATS / (OPS_PANEL * C) / cpu->kernels->tile_panels;
    most = (most < 1 ? 1 : most) * cpu->kernels->tile_panels;
    if (most > n_panels)
        most = n_panels;
    size_t bytes = (size_t)(most * OPS_PANEL * C) * sizeof(float);
    float *panels = cpu_scratch(cpu, CPU_SCRATCH_SHARED, bytes);
    float *rows = weight->adapter.rank ? cpu_scratch(cpu, CPU_SCRATCH_BLOCKS, bytes) : NULL;
    float *out = product->out;
    const float *bias = product->bias;

    if (!panels || (weight->adapter.rank && !rows))
        return;
    product->b = panels;
    for (int64_t first = 0; first < n_panels; first += most) {
        int64_t n = n_panels - first < most ? n_panels - first : most;
        int64_t column = first * OPS_PANEL, left = weight->M - column;
        cpu_matrix_panels(cpu, weight, first, n, panels, rows);
        product->out = out + column;
        product->bias = bias ? bias + column : NULL;
        product->n_columns = left < n * OPS_PANEL ? left : n * OPS_PANEL;
        run_product(cpu, product, N);
    }
}

void cpu_matmul(void *context, struct tensor *out, const struct tensor *in,
                const struct matrix *weight, const struct tensor *bias)
{
    struct cpu *cpu = context;
    int64_t N = in->shape[0], C = in->shape[1], M = out->shape[1];
    int is_bf16 = weight->form == MATRIX_PANELS && weight->dtype == DTYPE_BF16;
    struct product product = {.a = tensor_f32(in),
                              .a_block = cpu->kernels->tile_rows * C,
                              .a_row = C,
                              .a_step = 1,
                              .b = weight->data,
                              .b_bf16 = is_bf16 ? weight->data : NULL,
                              .n_steps = C,
                              .out = tensor_f32(out),
                              .out_row = M,
                              .n_columns = M,
                              .bias = bias ? tensor_f32(bias) : NULL};

    if (weight->form == MATRIX_PANELS)
        run_product(cpu, &product, N);
    else
        multiply_rows(cpu, &product, weight, N);
}

static int64_t panel_floats(int64_t n_columns)
{
    return divide_up(n_columns, OPS_PANEL) * OPS_PANEL * STEPS_PER_PASS;
}

void cpu_matmul_backward_input(void *context, struct tensor *d_in, const struct tensor *d_out,
                               const struct matrix *weight)
{
    struct cpu *cpu = context;
    int64_t N = d_out->shape[0], M = d_out->shape[1], C = d_in->shape[1];
    float *panels = cpu_scratch(cpu, CPU_SCRATCH_SHARED, (size_t)panel_floats(C) * sizeof(float));
    float *rows =
        cpu_scratch(cpu, CPU_SCRATCH_BLOCKS, (size_t)(STEPS_PER_PASS * C) * sizeof(float));

    for (int64_t m = 0; panels && rows && m < M; m += STEPS_PER_PASS) {
        int64_t n_steps = M - m < STEPS_PER_PASS ? M - m : STEPS_PER_PASS;
        struct pack_job job = {.kernels = cpu->kernels,
                               .to = panels,
                               .from = cpu_matrix_rows(cpu, weight, m, n_steps, rows),
                               .ld = C,
                               .n_steps = n_steps,
                               .n_columns = C};
        struct product product = {.a = tensor_f32(d_out) + m,
                                  .a_block = cpu->kernels->tile_rows * M,
                                  .a_row = M,
                                  .a_step = 1,
                                  .b = panels,
                                  .n_steps = n_steps,
                                  .out = tensor_f32(d_in),
                                  .out_row = C,
                                  .n_columns = C,
                                  .accumulate = 1};
        cpu_loop(cpu, divide_up(C, OPS_PANEL), 1, 2.0 * (double)n_steps, pack_columns, &job);
        run_product(cpu, &product, N);
    }
}

struct bias_job {
    const struct kernels *kernels;
    float *d_bias;
    const float *d_out;
    int64_t N, M;
};

static void sum_bias(void *argument, int64_t first, int64_t last)
{
    const struct bias_job *job = argument;

    job->kernels->sum_columns(job->d_bias + first, job->d_out + first, job->M, job->N,
                              last - first);
}

void cpu_matmul_backward_weight(void *context, struct tensor *d_weight, struct tensor *d_bias,
                                const struct tensor *d_out, const struct tensor *in)
{
    struct cpu *cpu = context;
    int64_t N = d_out->shape[0], M = d_out->shape[1], C = in->shape[1];
    int64_t rows = cpu->kernels->tile_rows, n_blocks = divide_up(M, rows);
    float *panels = cpu_scratch(cpu, CPU_SCRATCH_SHARED, (size_t)panel_floats(C) * sizeof(float));
    float *blocks = cpu_scratch(cpu, CPU_SCRATCH_BLOCKS,
                                (size_t)(n_blocks * rows * STEPS_PER_PASS) * sizeof(float));

    for (int64_t n = 0; panels && blocks && n < N; n += STEPS_PER_PASS) {
        int64_t n_steps = N - n < STEPS_PER_PASS ? N - n : STEPS_PER_PASS;
        struct pack_job in_job = {.kernels = cpu->kernels,
                                  .to = panels,
                                  .from = tensor_f32(in) + n * C,
                                  .ld = C,
                                  .n_steps = n_steps,
                                  .n_columns = C};
        struct pack_job out_job = {.kernels = cpu->kernels,
                                   .to = blocks,
                                   .from = tensor_f32(d_out) + n * M,
                                   .ld = M,
                                   .n_steps = n_steps,
                                   .n_columns = M};
        struct product product = {.a = blocks,
                                  .a_block = rows * n_steps,
                                  .a_row = 1,
                                  .a_step = rows,
                                  .b = panels,
                                  .n_steps = n_steps,
                                  .out = tensor_f32(d_weight),
                                  .out_row = C,
                                  .n_columns = C,
                                  .accumulate = 1};
        cpu_loop(cpu, divide_up(C, OPS_PANEL), 1, 2.0 * (double)n_steps, pack_columns, &in_job);
        cpu_loop(cpu, n_blocks, 1, 2.0 * (double)n_steps, pack_blocks, &out_job);
        run_product(cpu, &product, M);
    }
    if (!d_bias)
        return;
    struct bias_job job = {cpu->kernels, tensor_f32(d_bias), tensor_f32(d_out), N, M};
    cpu_loop(cpu, M, OPS_PANEL, (double)N / OPS_PANEL, sum_bias, &job);
}
