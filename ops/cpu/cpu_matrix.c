/* Weights in their forms: rows out, panels in, and the panels that a product of rows wants. */
#include <string.h>

#include "ops/cpu/cpu.h"

#define COST_ROW 1.0   /* vector instructions per number, about */

struct matrix_job {
    const struct kernels *kernels;
    const struct matrix *matrix;
    const int32_t *index;   /* NULL: rows one after another */
    int64_t first;
    float *rows, *panels;
};

/* Row m as products see it. */
static void read_row(const struct kernels *kernels, const struct matrix *matrix, int64_t m,
                     float *out)
{
    const struct adapter *adapter = &matrix->adapter;
    int64_t C = matrix->C, at = m / OPS_PANEL * OPS_PANEL * C + m % OPS_PANEL;

    if (matrix->form == MATRIX_PANELS) {
        for (int64_t c = 0; c < C; c++) {
            int64_t i = at + c * OPS_PANEL;
            if (matrix->dtype == DTYPE_BF16) {
                uint32_t bits = (uint32_t)((const uint16_t *)matrix->data)[i] << 16;
                memcpy(&out[c], &bits, sizeof(bits));
            } else {
                out[c] = ((const float *)matrix->data)[i];
            }
        }
        return;
    }
    memcpy(out, (const float *)matrix->data + m * C, (size_t)C * sizeof(float));
    for (int64_t r = 0; r < adapter->rank; r++)
        kernels->add_scaled(out, adapter->a + r * C,
                            adapter->scale * adapter->b[m * adapter->rank + r], C);
    if (matrix->dtype == DTYPE_BF16)
        kernels->round_bf16(out, out, C);
}

static void read_rows(void *argument, int64_t first, int64_t last)
{
    const struct matrix_job *job = argument;

    for (int64_t i = first; i < last; i++)
        read_row(job->kernels, job->matrix, job->index ? job->index[i] : job->first + i,
                 job->rows + i * job->matrix->C);
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

const float *cpu_matrix_rows(struct cpu *cpu, const struct matrix *matrix, int64_t first, int64_t n,
                             float *scratch)
{
    struct matrix_job job = {
        .kernels = cpu->kernels, .matrix = matrix, .first = first, .rows = scratch};

    if (matrix->form == MATRIX_ROWS && matrix->dtype == DTYPE_F32 && !matrix->adapter.rank)
        return (const float *)matrix->data + first * matrix->C;
    cpu_loop(cpu, n, 1, row_cost(matrix), read_rows, &job);
    return scratch;
}

static void write_panels(void *argument, int64_t first, int64_t last)
{
    const struct matrix_job *job = argument;
    const struct matrix *matrix = job->matrix;
    int64_t C = matrix->C;

    for (int64_t p = first; p < last; p++) {
        int64_t panel = job->first / OPS_PANEL + p, n = matrix->M - panel * OPS_PANEL;
        const float *rows = job->rows + p * OPS_PANEL * C;
        if (n > OPS_PANEL)
            n = OPS_PANEL;
        if (matrix->dtype == DTYPE_BF16) {
            float *wide = job->panels + p * OPS_PANEL * C;
            job->kernels->transpose_panel(wide, rows, C, n, C);
            job->kernels->narrow_bf16((uint16_t *)matrix->data + panel * OPS_PANEL * C, wide,
                                      OPS_PANEL * C);
        } else {
            job->kernels->transpose_panel((float *)matrix->data + panel * OPS_PANEL * C, rows, C, n,
                                          C);
        }
    }
}

void cpu_matrix_write(void *context, struct matrix *matrix, const struct tensor *rows,
                      int64_t first)
{
    struct cpu *cpu = context;
    int64_t n_panels = (rows->shape[0] + OPS_PANEL - 1) / OPS_PANEL;
    struct matrix_job job = {
        .kernels = cpu->kernels, .matrix = matrix, .first = first, .rows = tensor_f32(rows)};

    if (matrix->dtype == DTYPE_BF16) {
        job.panels = cpu_scratch(cpu, CPU_SCRATCH_SHARED,
                                 (size_t)(n_panels * OPS_PANEL * matrix->C) * sizeof(float));
        if (!job.panels)
            return;
    }
    cpu_loop(cpu, n_panels, 1, COST_ROW * (double)(OPS_PANEL * matrix->C), write_panels, &job);
}

static void make_panels(void *argument, int64_t first, int64_t last)
{
    const struct matrix_job *job = argument;
    const struct matrix *matrix = job->matrix;
    int64_t C = matrix->C;

    for (int64_t p = first; p < last; p++) {
        int64_t m = (job->first + p) * OPS_PANEL, n = matrix->M - m;
        float *panel = job->panels + p * OPS_PANEL * C, *own = job->rows + p * OPS_PANEL * C;
        const float *rows = (const float *)matrix->data + m * C;
        if (n > OPS_PANEL)
            n = OPS_PANEL;
        for (int64_t i = 0; matrix->adapter.rank && i < n; i++)
            read_row(job->kernels, matrix, m + i, own + i * C);
        job->kernels->transpose_panel(panel, matrix->adapter.rank ? own : rows, C, n, C);
        if (matrix->dtype == DTYPE_BF16)
            job->kernels->round_bf16(panel, panel, OPS_PANEL * C);
    }
}

void cpu_matrix_panels(struct cpu *cpu, const struct matrix *matrix, int64_t first, int64_t n,
                       float *panels, float *rows)
{
    struct matrix_job job = {.kernels = cpu->kernels,
                             .matrix = matrix,
                             .first = first,
                             .panels = panels,
                             .rows = rows};

    cpu_loop(cpu, n, 1, OPS_PANEL * row_cost(matrix), make_panels, &job);
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
