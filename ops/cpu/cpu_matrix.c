/* Weights in their forms: rows out, panels in, and pieces packed for a product. */
#include <string.h>

#include "ops/cpu/cpu.h"

#define COST_ROW 1.0   /* vector instructions per number, about */

struct matrix_job {
    const struct kernels *kernels;
    const struct matrix *matrix;
    const int32_t *index;   /* NULL: rows one after another */
    int64_t first;
    float *rows;
};

int64_t cpu_panel_steps(const struct matrix *matrix)
{
    return matrix->dtype == DTYPE_BF16 ? divide_up(matrix->C, 2) : matrix->C;
}

/* n numbers of row m from column c on, as products see them. */
static void read_segment(const struct kernels *kernels, const struct matrix *matrix, int64_t m,
                         int64_t c, int64_t n, float *out)
{
    const struct adapter *adapter = &matrix->adapter;
    int64_t C = matrix->C, n_steps = cpu_panel_steps(matrix);

    if (matrix->form == MATRIX_PANELS) {
        const float *panel = (const float *)matrix->data + m / OPS_PANEL * OPS_PANEL * n_steps;
        for (int64_t k = c; k < c + n; k++) {
            if (matrix->dtype == DTYPE_BF16) {
                uint32_t bits;
                memcpy(&bits, panel + k / 2 * OPS_PANEL + m % OPS_PANEL, sizeof(bits));
                bits = k % 2 ? bits & 0xffff0000u : bits << 16;
                memcpy(&out[k - c], &bits, sizeof(bits));
            } else {
                out[k - c] = panel[k * OPS_PANEL + m % OPS_PANEL];
            }
        }
        return;
    }
    memcpy(out, (const float *)matrix->data + m * C + c, (size_t)n * sizeof(float));
    for (int64_t r = 0; r < adapter->rank; r++)
        kernels->add_scaled(out, adapter->a + r * C + c,
                            adapter->scale * adapter->b[m * adapter->rank + r], n);
    if (matrix->dtype == DTYPE_BF16)
        kernels->round_bf16(out, out, n);
}

static void read_rows(void *argument, int64_t first, int64_t last)
{
    const struct matrix_job *job = argument;

    for (int64_t i = first; i < last; i++)
        read_segment(job->kernels, job->matrix, job->index ? job->index[i] : job->first + i, 0,
                     job->matrix->C, job->rows + i * job->matrix->C);
}

static double row_cost(const struct matrix *matrix)
{
    return COST_ROW * (double)(matrix->C * (1 + matrix->adapter.rank / OPS_PANEL));
}

void cpu_matrix_read(void *context, struct tensor *rows, const struct matrix *matrix,
                     int64_t first)
{
    struct cpu *cpu = context;
    struct matrix_job job = {
        .kernels = cpu->kernels, .matrix = matrix, .first = first, .rows = tensor_f32(rows)};

    cpu_loop(cpu, rows->shape[0], 1, row_cost(matrix), read_rows, &job);
}

void cpu_embedding(void *context, struct tensor *out, const struct matrix *table,
                   const struct tensor *tokens)
{
    struct cpu *cpu = context;
    struct matrix_job job = {.kernels = cpu->kernels,
                             .matrix = table,
                             .index = tokens->data,
                             .rows = tensor_f32(out)};

    cpu_loop(cpu, out->shape[0], 1, row_cost(table), read_rows, &job);
}

static void write_panels(void *argument, int64_t first, int64_t last)
{
    const struct matrix_job *job = argument;
    const struct matrix *matrix = job->matrix;
    int64_t C = matrix->C, n_floats = OPS_PANEL * cpu_panel_steps(matrix);

    for (int64_t p = first; p < last; p++) {
        int64_t panel = job->first / OPS_PANEL + p, n = matrix->M - panel * OPS_PANEL;
        const float *rows = job->rows + p * OPS_PANEL * C;
        float *to = (float *)matrix->data + panel * n_floats;
        n = n > OPS_PANEL ? OPS_PANEL : n;
        if (matrix->dtype == DTYPE_BF16)
            job->kernels->pair_panel(to, rows, C, n, C);
        else
            job->kernels->transpose_panel(to, rows, C, n, C);
    }
}

void cpu_matrix_write(void *context, struct matrix *matrix, const struct tensor *rows,
                      int64_t first)
{
    struct cpu *cpu = context;
    int64_t n_panels = (rows->shape[0] + OPS_PANEL - 1) / OPS_PANEL;
    struct matrix_job job = {
        .kernels = cpu->kernels, .matrix = matrix, .first = first, .rows = tensor_f32(rows)};

    cpu_loop(cpu, n_panels, 1, COST_ROW * (double)(OPS_PANEL * matrix->C), write_panels, &job);
}

/* Row segments of a matrix that do not lie in memory as products see them go through `rows`. */
static int lies_ready(const struct matrix *matrix)
{
    return matrix->form == MATRIX_ROWS && !matrix->adapter.rank;
}

void cpu_pack_outputs(const struct kernels *kernels, const struct matrix *matrix, int64_t panel,
                      int64_t n_panels, int64_t step, int64_t n_steps, float *panels, float *rows)
{
    int is_bf16 = matrix->dtype == DTYPE_BF16;
    int64_t n_floats = OPS_PANEL * (is_bf16 ? divide_up(n_steps, 2) : n_steps);

    for (int64_t p = 0; p < n_panels; p++) {
        int64_t m = (panel + p) * OPS_PANEL, n = matrix->M - m, ld = matrix->C;
        const float *from = (const float *)matrix->data + m * matrix->C + step;
        n = n > OPS_PANEL ? OPS_PANEL : n;
        if (!lies_ready(matrix)) {
            for (int64_t i = 0; i < n; i++)
                read_segment(kernels, matrix, m + i, step, n_steps, rows + i * n_steps);
            from = rows;
            ld = n_steps;
        }
        if (is_bf16)
            kernels->pair_panel(panels + p * n_floats, from, ld, n, n_steps);
        else
            kernels->transpose_panel(panels + p * n_floats, from, ld, n, n_steps);
    }
}

void cpu_pack_inputs(const struct kernels *kernels, const struct matrix *matrix, int64_t panel,
                     int64_t n_panels, int64_t step, int64_t n_steps, float *panels, float *rows)
{
    int64_t c = panel * OPS_PANEL, n = matrix->C - c, ld = matrix->C;
    const float *from = (const float *)matrix->data + step * matrix->C + c;

    n = n > n_panels * OPS_PANEL ? n_panels * OPS_PANEL : n;
    if (!lies_ready(matrix)) {
        for (int64_t i = 0; i < n_steps; i++)
            read_segment(kernels, matrix, step + i, c, n, rows + i * n);
        from = rows;
        ld = n;
    }
    if (matrix->dtype == DTYPE_BF16)
        kernels->pair_columns(panels, from, ld, n_steps, n, 0, n_panels);
    else
        kernels->pack_columns(panels, from, ld, n_steps, n, 0, n_panels);
}

struct round_job {
    const struct kernels *kernels;
    float *out;
    const float *in;
};

static void round_elements(void *argument, int64_t first, int64_t last)
{
    const struct round_job *job = argument;

    job->kernels->round_bf16(job->out + first, job->in + first, last - first);
}

void cpu_round_bf16(void *context, struct tensor *out, const struct tensor *in)
{
    struct cpu *cpu = context;
    struct round_job job = {cpu->kernels, tensor_f32(out), tensor_f32(in)};

    cpu_loop(cpu, tensor_count(in), OPS_PANEL, COST_ROW / OPS_PANEL, round_elements, &job);
}

struct noise_job {
    const struct kernels *kernels;
    float *x;
    uint64_t noise;
    int64_t first;
};

static void round_some(void *argument, int64_t first, int64_t last)
{
    const struct noise_job *job = argument;

    job->kernels->round_stochastic(job->x + first, job->noise, job->first + first, last - first);
}

void cpu_round_stochastic(void *context, struct tensor *x, uint64_t noise, int64_t first)
{
    struct cpu *cpu = context;
    struct noise_job job = {cpu->kernels, tensor_f32(x), noise, first};

    cpu_loop(cpu, tensor_count(x), OPS_PANEL, COST_ROW / OPS_PANEL, round_some, &job);
}
