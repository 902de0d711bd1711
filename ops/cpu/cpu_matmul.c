/*
 * Products, cut into tasks of some rows by some panels. A task packs what it needs into scratch
 * memory of its thread, a few panels and steps at a time, so that it stays in the L2 cache, and
 * needs no other task. Steps are walked in order: an output is one sum whatever the cuts are.
 */
#include "ops/cpu/cpu.h"

#define STEPS_MOST 1024                 /* of a sum, packed at a time */
#define PANELS_FLOATS ((int64_t)1 << 16)
#define ROWS_FLOATS ((int64_t)1 << 16)  /* of a, multiplied with a few panels before the next */
#define BLOCKS_FLOATS ((int64_t)1 << 18)   /* of a, packed: read in order, from the L3 cache too */
#define TURNED_WORDS 384                /* of a sum, where a is packed by columns */
#define TURNED_ROWS 256
#define TURNED_PANELS_FLOATS ((int64_t)1 << 15)
#define INLINE_CYCLES 8000.0
#define TASK_CYCLES 20000.0             /* of the smallest tasks, where each thread has one */
#define FOREIGN_CYCLES 32.0             /* a vector of outputs that another core had or will have */

enum source { PANELS_READY, PANELS_OF_OUTPUTS, PANELS_OF_INPUTS };

/* Some steps of a sum, those of one weight. */
struct part {
    const float *a;
    int64_t a_row;   /* a[r][k], or a[k][r] when turned */
    const struct matrix *b;
    enum source source;
    int64_t n_steps;
    int pairs;       /* of bfloat16 */
};

/* product: as a whole, without a, b, n_steps. */
struct job {
    struct product product;
    const struct part *parts;
    int n_parts;
    float *d_bias;   /* of turned jobs; or NULL */
    int64_t n_rows, n_panels;
};

/* Jobs lie side by side: their panels, or, when turned, their rows. */
struct dispatch {
    const struct kernels *kernels;
    const struct job *jobs;
    int n_jobs, turned;
    int64_t n_rows, n_panels, n_steps;
    int64_t rows_per_task, panels_per_task, n_panel_tasks, n_tasks;
    float *scratch;
};

static int64_t at_least(int64_t n, int64_t least)
{
    return n < least ? least : n;
}

static int64_t at_most(int64_t n, int64_t most)
{
    return n > most ? most : n;
}

static int64_t round_up(int64_t n, int64_t to)
{
    return divide_up(n, to) * to;
}

/* Of a product: pairs, or each number. */
static int64_t steps_of(const struct part *part, int64_t n)
{
    return part->pairs ? divide_up(n, 2) : n;
}

/* ---- One task. */
struct region {
    int64_t row, n_rows, panel, n_panels;
};

/* Per thread: packed panels, rows of a weight on their way into panels, packed rows. */
enum { SCRATCH_FLOATS = 3 * PANELS_FLOATS + BLOCKS_FLOATS };

/* product: of the whole region's rows, from its first panel on; b is set here. Steps of a sum:
 * n_sum from `step` on. */
static void multiply_panels(const struct dispatch *dispatch, const struct part *part,
                            struct product product, const struct region *region, int64_t step,
                            int64_t n_sum, float *scratch)
{
    const struct kernels *kernels = dispatch->kernels;
    int64_t n_steps = product.n_steps, unit = kernels->tile_panels, tile = kernels->tile_rows;
    int64_t floats = dispatch->turned ? TURNED_PANELS_FLOATS : PANELS_FLOATS;
    int64_t most = floats / (OPS_PANEL * at_least(n_steps, 1)) / unit * unit;
    int64_t rows_most = ROWS_FLOATS / at_least(n_steps, 1) / tile * tile;

    most = at_least(most, unit);
    rows_most = at_least(rows_most, product.blocks ? region->n_rows : tile);
    if (part->source == PANELS_READY && region->n_rows <= rows_most)
        most = region->n_panels;
    for (int64_t p = 0; p < region->n_panels; p += most) {
        int64_t panel = region->panel + p, n = at_most(region->n_panels - p, most);
        product.b = scratch;
        product.b_panel = n_steps * OPS_PANEL;
        if (part->source == PANELS_OF_INPUTS) {
            cpu_pack_inputs(kernels, part->b, panel, n, step, n_sum, scratch,
                            scratch + PANELS_FLOATS);
        } else if (part->source == PANELS_OF_OUTPUTS) {
            cpu_pack_outputs(kernels, part->b, panel, n, step, n_sum, scratch,
                             scratch + PANELS_FLOATS);
        } else {
            product.b_panel = cpu_panel_steps(part->b) * OPS_PANEL;
            product.b = (const float *)part->b->data + panel * product.b_panel +
                        steps_of(part, step) * OPS_PANEL;
        }
        for (int64_t row = 0; row < region->n_rows; row += rows_most)
            kernels->product(&product, row, at_most(row + rows_most, region->n_rows), 0, n);
        product.out += n * OPS_PANEL;
        product.n_columns -= n * OPS_PANEL;
        product.bias = product.bias ? product.bias + n * OPS_PANEL : NULL;
        product.add = product.add ? product.add + n * OPS_PANEL : NULL;
    }
}

/* Rows of a[r][k], or of a[k][r], as the product reads them; the latter add up to the bias. */
static void set_inputs(const struct dispatch *dispatch, const struct job *job,
                       const struct part *part, struct product *product,
                       const struct region *region, int64_t step, int64_t n_sum, float *blocks)
{
    const struct kernels *kernels = dispatch->kernels;

    product->blocks = dispatch->turned || part->pairs;
    product->a = blocks;
    if (dispatch->turned) {
        const float *from = part->a + step * part->a_row + region->row;
        (part->pairs ? kernels->pair_blocks : kernels->pack_blocks)(blocks, from, part->a_row,
                                                                    n_sum, region->n_rows);
        if (job->d_bias && region->panel == 0)
            kernels->sum_columns(job->d_bias + region->row, from, part->a_row, n_sum,
                                 region->n_rows);
    } else if (part->pairs) {
        kernels->pair_rows(blocks, part->a + region->row * part->a_row + step, part->a_row,
                           region->n_rows, n_sum);
    } else {
        product->a = part->a + region->row * part->a_row + step;
        product->a_row = part->a_row;
    }
}

static void multiply_region(const struct dispatch *dispatch, const struct job *job,
                            const struct region *region, float *scratch)
{
    int64_t at = region->row * job->product.out_row + region->panel * OPS_PANEL;
    struct product product = job->product;

    product.out += at;
    product.n_columns -= region->panel * OPS_PANEL;
    for (int i = 0; i < job->n_parts; i++) {
        const struct part *part = &job->parts[i];
        int64_t most = !dispatch->turned ? STEPS_MOST : TURNED_WORDS * (part->pairs ? 2 : 1);
        int64_t n_passes = at_least(divide_up(part->n_steps, most), 1);
        int64_t length = round_up(divide_up(part->n_steps, n_passes), 2);
        for (int64_t pass = 0; pass < n_passes; pass++) {
            int is_last = i + 1 == job->n_parts && pass + 1 == n_passes;
            int64_t step = pass * length, n_sum = at_most(part->n_steps - step, length);
            product.n_steps = steps_of(part, n_sum);
            product.pairs = part->pairs;
            product.bias = is_last && job->product.bias
                               ? job->product.bias + region->panel * OPS_PANEL : NULL;
            product.add = is_last && job->product.add ? job->product.add + at : NULL;
            set_inputs(dispatch, job, part, &product, region, step, n_sum,
                       scratch + 3 * PANELS_FLOATS);
            multiply_panels(dispatch, part, product, region, step, n_sum, scratch);
            product.accumulate = 1;
        }
    }
}

/* What the range first .. first + n of all jobs has of one with `size` that starts at `offset`. */
static int64_t cut_out(int64_t offset, int64_t size, int64_t *first, int64_t n)
{
    int64_t end = at_most(*first + n - offset, size);

    *first = at_least(*first - offset, 0);
    return end - *first;
}

static void run_task(void *argument, int64_t i, int thread)
{
    const struct dispatch *dispatch = argument;
    const struct kernels *kernels = dispatch->kernels;
    int64_t row = i / dispatch->n_panel_tasks * dispatch->rows_per_task, offset = 0;
    int64_t panel = i % dispatch->n_panel_tasks * dispatch->panels_per_task;
    float *scratch = dispatch->scratch ? dispatch->scratch + thread * SCRATCH_FLOATS : NULL;

    for (int j = 0; j < dispatch->n_jobs; j++) {
        const struct job *job = &dispatch->jobs[j];
        struct region region = {.row = row, .panel = panel};
        region.n_rows = cut_out(dispatch->turned ? offset : 0, job->n_rows, &region.row,
                                dispatch->rows_per_task);
        region.n_panels = cut_out(dispatch->turned ? 0 : offset, job->n_panels, &region.panel,
                                  dispatch->panels_per_task);
        offset += dispatch->turned ? round_up(job->n_rows, kernels->tile_rows)
                                   : round_up(job->n_panels, kernels->tile_panels);
        if (region.n_rows > 0 && region.n_panels > 0)
            multiply_region(dispatch, job, &region, scratch);
    }
}

/* ---- Cuts: they decide on time alone, never on a result. */
/* About the cycles of a task on a core that makes one multiply-add of 16 a cycle: loading a panel
 * for few rows takes longer than using it. */
static double task_cycles(const struct dispatch *dispatch, int64_t n_rows, int64_t n_panels)
{
    const struct part *part = &dispatch->jobs[0].parts[0];
    double load = part->source == PANELS_READY ? 8 : 10;
    double pack = dispatch->turned ? 0.6 : part->pairs ? 0.5 : 0;
    double outputs = (double)n_rows * (double)n_panels;
    double foreign = 0;

    /* What comes before and after is cut by rows. */
    if (!dispatch->turned && n_panels < dispatch->n_panels) {
        foreign = FOREIGN_CYCLES;
        pack += 0.5;
    }
    return (double)dispatch->n_steps *
               (outputs + (double)n_panels * load + (double)n_rows * pack) +
           foreign * outputs;
}

static int64_t rows_most(const struct dispatch *dispatch)
{
    int64_t tile = dispatch->kernels->tile_rows, most = INT64_MAX;

    if (dispatch->turned)
        return TURNED_ROWS / tile * tile;
    for (int j = 0; j < dispatch->n_jobs; j++)
        for (int i = 0; i < dispatch->jobs[j].n_parts; i++) {
            const struct part *part = &dispatch->jobs[j].parts[i];
            int64_t steps = at_most(at_least(part->n_steps, 2), STEPS_MOST);
            int64_t words = divide_up(steps, 2) * dispatch->kernels->pair_words;
            if (part->pairs)
                most = at_most(most, BLOCKS_FLOATS / words / tile * tile);
        }
    return most;
}

static double set_cuts(struct dispatch *dispatch, int64_t row_cuts, int64_t panel_cuts)
{
    int64_t tile = dispatch->kernels->tile_rows, unit = dispatch->kernels->tile_panels;
    int64_t n_panels = at_least(dispatch->n_panels, 1), n_rows = at_least(dispatch->n_rows, 1);

    dispatch->rows_per_task =
        at_most(round_up(divide_up(n_rows, row_cuts), tile), rows_most(dispatch));
    dispatch->panels_per_task = round_up(divide_up(n_panels, panel_cuts), unit);
    dispatch->n_panel_tasks = divide_up(n_panels, dispatch->panels_per_task);
    dispatch->n_tasks =
        divide_up(dispatch->n_rows, dispatch->rows_per_task) * dispatch->n_panel_tasks;
    return task_cycles(dispatch, at_most(dispatch->rows_per_task, n_rows),
                       at_most(dispatch->panels_per_task, n_panels));
}

/* Into tasks as equal as can be, some for each thread. Returns how many threads they are worth. */
static int choose_cuts(struct dispatch *dispatch, int n_threads)
{
    static const int rounds[] = {1, 2, 3, 4, 6, 8};
    double total = set_cuts(dispatch, 1, 1), best = 0;
    int64_t best_rows = 1, best_panels = 1;

    if (n_threads == 1 || total * (double)dispatch->n_tasks < INLINE_CYCLES)
        return 1;
    total *= (double)dispatch->n_tasks;
    for (int i = 0; i < 6; i++) {
        int64_t n_cuts = (int64_t)rounds[i] * n_threads;
        if (i > 0 && (double)n_cuts * TASK_CYCLES > total)
            break;
        for (int64_t rows = 1; rows <= n_cuts; rows++) {
            if (n_cuts % rows)
                continue;
            /* Until all are done, with some for a thread that is late. */
            double time = set_cuts(dispatch, rows, n_cuts / rows);
            time *= (double)divide_up(dispatch->n_tasks, n_threads) + 0.25;
            if (best > 0 && time >= best)
                continue;
            best = time;
            best_rows = rows;
            best_panels = n_cuts / rows;
        }
    }
    set_cuts(dispatch, best_rows, best_panels);
    return n_threads;
}

static void run_jobs(struct cpu *cpu, const struct job *jobs, int n, int turned)
{
    const struct kernels *kernels = cpu->kernels;
    struct dispatch dispatch = {.kernels = kernels, .jobs = jobs, .n_jobs = n, .turned = turned};
    int needs_scratch = turned;

    for (int j = 0; j < n; j++) {
        const struct job *job = &jobs[j];
        int64_t n_steps = 0;
        dispatch.n_rows = turned ? dispatch.n_rows + round_up(job->n_rows, kernels->tile_rows)
                                 : job->n_rows;
        dispatch.n_panels = turned ? job->n_panels
                                   : dispatch.n_panels +
                                         round_up(job->n_panels, kernels->tile_panels);
        for (int i = 0; i < job->n_parts; i++) {
            needs_scratch |= job->parts[i].source != PANELS_READY || job->parts[i].pairs;
            n_steps += steps_of(&job->parts[i], job->parts[i].n_steps);
        }
        dispatch.n_steps = at_least(dispatch.n_steps, n_steps);
    }
    int n_threads = choose_cuts(&dispatch, pool_n_threads(cpu->pool));
    if (needs_scratch) {
        dispatch.scratch = cpu_scratch(cpu, CPU_SCRATCH_THREADS,
                                       (size_t)pool_n_threads(cpu->pool) * SCRATCH_FLOATS *
                                           sizeof(float));
        if (!dispatch.scratch)
            return;
    }
    for (int64_t i = 0; n_threads == 1 && i < dispatch.n_tasks; i++)
        run_task(&dispatch, i, 0);
    if (n_threads > 1)
        pool_run(cpu->pool, dispatch.n_tasks, run_task, &dispatch);
}

/* ---- The products. */
static struct job make_job(const struct part *parts, int n_parts, const struct tensor *out)
{
    return (struct job){.product = {.out = tensor_f32(out),
                                    .out_row = out->shape[1],
                                    .n_columns = out->shape[1]},
                        .parts = parts,
                        .n_parts = n_parts,
                        .n_rows = out->shape[0],
                        .n_panels = divide_up(out->shape[1], OPS_PANEL)};
}

void cpu_matmul_several(void *context, const struct ops_product *products, int n,
                        const struct tensor *in)
{
    struct part parts[OPS_MOST_PRODUCTS];
    struct job jobs[OPS_MOST_PRODUCTS];
    int64_t C = in->shape[1];

    for (int i = 0; i < n; i++) {
        const struct ops_product *x = &products[i];
        parts[i] = (struct part){.a = tensor_f32(in),
                                 .a_row = C,
                                 .b = x->weight,
                                 .source = x->weight->form == MATRIX_PANELS ? PANELS_READY
                                                                            : PANELS_OF_OUTPUTS,
                                 .n_steps = C,
                                 .pairs = x->weight->dtype == DTYPE_BF16};
        jobs[i] = make_job(&parts[i], 1, x->out);
        jobs[i].product.bias = x->bias ? tensor_f32(x->bias) : NULL;
        jobs[i].product.add = x->residual ? tensor_f32(x->residual) : NULL;
    }
    run_jobs(context, jobs, n, 0);
}

void cpu_matmul(void *context, struct tensor *out, const struct tensor *in,
                const struct matrix *weight, const struct tensor *bias)
{
    cpu_matmul_several(context, &(struct ops_product){out, weight, bias, NULL}, 1, in);
}

static void backward_input(struct cpu *cpu, struct tensor *d_in,
                           const struct ops_product_gradient *gradients, int n, int accumulate)
{
    struct part parts[OPS_MOST_PRODUCTS];

    for (int i = 0; i < n; i++) {
        int64_t M = gradients[i].d_out->shape[1];
        parts[i] = (struct part){.a = tensor_f32(gradients[i].d_out),
                                 .a_row = M,
                                 .b = gradients[i].weight,
                                 .source = PANELS_OF_INPUTS,
                                 .n_steps = M,
                                 .pairs = gradients[i].weight->dtype == DTYPE_BF16};
    }
    struct job job = make_job(parts, n, d_in);
    job.product.accumulate = accumulate;
    run_jobs(cpu, &job, 1, 0);
}

void cpu_matmul_backward_inputs(void *context, struct tensor *d_in,
                                const struct ops_product_gradient *gradients, int n)
{
    backward_input(context, d_in, gradients, n, 0);
}

void cpu_matmul_backward_input(void *context, struct tensor *d_in, const struct tensor *d_out,
                               const struct matrix *weight)
{
    struct ops_product_gradient gradient = {.d_out = d_out, .weight = weight};

    backward_input(context, d_in, &gradient, 1, 1);
}

void cpu_matmul_backward_weights(void *context, const struct ops_product_gradient *gradients, int n,
                                 const struct tensor *in)
{
    struct matrix rows[2] = {matrix_rows(in->data, in->shape[0], in->shape[1]),
                             matrix_rows(in->data, in->shape[0], in->shape[1])};
    struct part parts[OPS_MOST_PRODUCTS];
    struct job jobs[OPS_MOST_PRODUCTS];

    rows[1].dtype = DTYPE_BF16;
    for (int i = 0; i < n; i++) {
        const struct ops_product_gradient *x = &gradients[i];
        int pairs = x->weight && x->weight->dtype == DTYPE_BF16;
        parts[i] = (struct part){.a = tensor_f32(x->d_out),
                                 .a_row = x->d_out->shape[1],
                                 .b = &rows[pairs],
                                 .source = PANELS_OF_INPUTS,
                                 .n_steps = in->shape[0],
                                 .pairs = pairs};
        jobs[i] = make_job(&parts[i], 1, x->d_weight);
        jobs[i].product.accumulate = 1;
        jobs[i].d_bias = x->d_bias ? tensor_f32(x->d_bias) : NULL;
    }
    run_jobs(context, jobs, n, 1);
}
