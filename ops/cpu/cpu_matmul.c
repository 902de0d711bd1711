/*
 * Products, cut into tasks of some rows by some panels. A task packs what it needs into scratch
 * memory of its thread, a few panels and steps at a time, so that it stays in the L2 cache, and
 * needs no other task. Steps are walked in order: an output is one sum whatever the cuts are.
 */
#include "ops/cpu/cpu.h"

#define STEPS_MOST 1024                 /* of a sum, packed at a time */
#define PANELS_FLOATS ((int64_t)1 << 16)
#define ROWS_FLOATS ((int64_t)1 << 16)  /* of a, multiplied with a few panels before the next */
#define TURNED_STEPS 384                /* where a is packed too, it takes most of the L2 cache */
#define TURNED_ROWS 256
#define TURNED_PANELS_FLOATS ((int64_t)1 << 15)
#define LINE_FLOATS 16
#define PAIRING_COST 0.5                /* vector instructions to round and pack a number */
#define INLINE_CYCLES 8000.0
#define TASK_CYCLES 20000.0             /* of the smallest tasks, where each thread has one */

enum source { PANELS_READY, PANELS_OF_OUTPUTS, PANELS_OF_INPUTS };

/* Some steps of a sum, those of one weight. */
struct part {
    const float *a;
    int64_t a_row;   /* a[r][k], or a[k][r] when turned */
    const struct matrix *b;
    enum source source;
    int64_t n_steps;
    int pairs;       /* of bfloat16: a is packed words, unless turned */
};

/* product: as a whole, without a, b, n_steps. */
struct job {
    const struct kernels *kernels;
    struct product product;
    const struct part *parts;
    int n_parts, turned;
    float *d_bias;   /* of turned jobs; or NULL */
    int64_t n_rows, n_panels, n_steps;
    int64_t rows_per_task, panels_per_task, n_panel_tasks, n_tasks;
};

static int64_t at_least(int64_t n, int64_t least)
{
    return n < least ? least : n;
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

/* Per thread: packed panels, packed rows, then rows of a weight on their way into panels. */
enum { SCRATCH_FLOATS = 3 * PANELS_FLOATS + TURNED_ROWS * TURNED_STEPS };

/* product: of the whole region's rows, from its first panel on; b is set here. Steps of a sum:
 * n_sum from `step` on. */
static void multiply_panels(const struct job *job, const struct part *part, struct product product,
                            const struct region *region, int64_t step, int64_t n_sum,
                            float *scratch)
{
    const struct kernels *kernels = job->kernels;
    int64_t n_steps = product.n_steps, unit = kernels->tile_panels, tile = kernels->tile_rows;
    int64_t floats = job->turned ? TURNED_PANELS_FLOATS : PANELS_FLOATS;
    int64_t most = floats / (OPS_PANEL * at_least(n_steps, 1)) / unit * unit;
    int64_t rows_most = ROWS_FLOATS / at_least(n_steps, 1) / tile * tile;

    most = at_least(most, unit);
    rows_most = at_least(rows_most, job->turned ? region->n_rows : tile);
    if (part->source == PANELS_READY && region->n_rows <= rows_most)
        most = region->n_panels;
    for (int64_t p = 0; p < region->n_panels; p += most) {
        int64_t panel = region->panel + p, n = region->n_panels - p;
        n = n < most ? n : most;
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
        for (int64_t row = 0; row < region->n_rows; row += rows_most) {
            int64_t last = row + rows_most;
            kernels->product(&product, row, last < region->n_rows ? last : region->n_rows, 0, n);
        }
        product.out += n * OPS_PANEL;
        product.n_columns -= n * OPS_PANEL;
        product.bias = product.bias ? product.bias + n * OPS_PANEL : NULL;
        product.add = product.add ? product.add + n * OPS_PANEL : NULL;
    }
}

/* Words of an input that a step of a product takes. */
static int64_t step_words(const struct job *job, const struct part *part)
{
    return part->pairs ? job->kernels->pair_words : 1;
}

/* Rows of a[k][r] become blocks of tile_rows; what they add up to goes to the bias. */
static void pack_turned(const struct job *job, const struct part *part, struct product *product,
                        const struct region *region, int64_t step, int64_t n_sum, float *blocks)
{
    int64_t tile = job->kernels->tile_rows, words = step_words(job, part);
    const float *from = part->a + step * part->a_row + region->row;

    (part->pairs ? job->kernels->pair_blocks : job->kernels->pack_blocks)(
        blocks, from, part->a_row, n_sum, region->n_rows, 0, divide_up(region->n_rows, tile));
    product->a = blocks;
    product->a_block = tile * words * product->n_steps;
    product->a_row = words;
    product->a_step = tile * words;
    if (job->d_bias && region->panel == 0)
        job->kernels->sum_columns(job->d_bias + region->row, from, part->a_row, n_sum,
                                  region->n_rows);
}

static void multiply_region(const struct job *job, const struct region *region, float *scratch)
{
    int64_t most = job->turned ? TURNED_STEPS : STEPS_MOST, tile = job->kernels->tile_rows;
    int64_t at = region->row * job->product.out_row + region->panel * OPS_PANEL;
    struct product product = job->product;

    product.out += at;
    product.n_columns -= region->panel * OPS_PANEL;
    for (int i = 0; i < job->n_parts; i++) {
        const struct part *part = &job->parts[i];
        int64_t n_passes = at_least(divide_up(part->n_steps, most), 1);
        int64_t length = divide_up(divide_up(part->n_steps, n_passes), 2) * 2;
        int64_t words = step_words(job, part);
        for (int64_t pass = 0; pass < n_passes; pass++) {
            int is_last = i + 1 == job->n_parts && pass + 1 == n_passes;
            int64_t step = pass * length, left = part->n_steps - step;
            int64_t n_sum = left < length ? left : length;
            product.n_steps = steps_of(part, n_sum);
            product.pairs = part->pairs;
            product.bias = is_last && job->product.bias
                               ? job->product.bias + region->panel * OPS_PANEL : NULL;
            product.add = is_last && job->product.add ? job->product.add + at : NULL;
            product.a = part->a + region->row * part->a_row + steps_of(part, step) * words;
            product.a_block = tile * part->a_row;
            product.a_row = part->a_row;
            product.a_step = words;
            if (job->turned)
                pack_turned(job, part, &product, region, step, n_sum,
                            scratch + 3 * PANELS_FLOATS);
            multiply_panels(job, part, product, region, step, n_sum, scratch);
            product.accumulate = 1;
        }
    }
}

struct dispatch {
    const struct job *jobs;
    float *scratch;
};

static void run_task(void *argument, int64_t i, int thread)
{
    const struct dispatch *dispatch = argument;
    const struct job *job = dispatch->jobs;

    for (; i >= job->n_tasks; job++)
        i -= job->n_tasks;
    struct region region = {.row = i / job->n_panel_tasks * job->rows_per_task,
                            .panel = i % job->n_panel_tasks * job->panels_per_task};
    int64_t rows = job->n_rows - region.row, panels = job->n_panels - region.panel;
    region.n_rows = rows < job->rows_per_task ? rows : job->rows_per_task;
    region.n_panels = panels < job->panels_per_task ? panels : job->panels_per_task;
    multiply_region(job, &region,
                    dispatch->scratch ? dispatch->scratch + thread * SCRATCH_FLOATS : NULL);
}

/* ---- Cuts: they decide on time alone, never on a result. */
/* About the cycles of a task on a core that makes one multiply-add of 16 a cycle: loading a panel
 * for few rows takes longer than using it. */
static double task_cycles(const struct job *job, int64_t n_rows, int64_t n_panels)
{
    double load = job->parts[0].source == PANELS_READY ? 4 : 8;
    double turn = job->turned ? 0.25 * (double)n_rows : 0;

    return (double)job->n_steps * ((double)n_panels * ((double)n_rows + load) + turn);
}

static double set_cuts(struct job *job, int64_t row_cuts, int64_t panel_cuts)
{
    int64_t tile = job->kernels->tile_rows, unit = job->kernels->tile_panels;

    job->rows_per_task = divide_up(divide_up(at_least(job->n_rows, 1), row_cuts), tile) * tile;
    if (job->turned && job->rows_per_task > TURNED_ROWS / tile * tile)
        job->rows_per_task = TURNED_ROWS / tile * tile;
    int64_t n_panels = at_least(job->n_panels, 1);
    job->panels_per_task = divide_up(divide_up(n_panels, panel_cuts), unit) * unit;
    job->n_panel_tasks = divide_up(n_panels, job->panels_per_task);
    job->n_tasks = divide_up(job->n_rows, job->rows_per_task) * job->n_panel_tasks;
    return task_cycles(job, job->rows_per_task, job->panels_per_task);
}

/* Into about n_tasks tasks, as equal as can be; returns the cycles of one. */
static double cut_job(struct job *job, int64_t n_tasks)
{
    double best = 0;
    int64_t best_cuts = 1;

    for (int64_t rows = 1; rows <= n_tasks; rows++) {
        if (n_tasks % rows)
            continue;
        double cycles = set_cuts(job, rows, n_tasks / rows);
        if (rows == 1 || cycles < best) {
            best = cycles;
            best_cuts = rows;
        }
    }
    return set_cuts(job, best_cuts, n_tasks / best_cuts);
}

/* Cuts all jobs into about n_tasks; returns the cycles until all are done, with some for a thread
 * that is late. */
static double cut_all(struct job *jobs, int n, double total, int64_t n_tasks, int n_threads)
{
    double longest = 0;
    int64_t n_cut = 0;

    for (int j = 0; j < n; j++) {
        double share = task_cycles(&jobs[j], jobs[j].n_rows, jobs[j].n_panels) / total;
        int64_t wanted = (int64_t)(share * (double)n_tasks + 0.5);
        double cycles = cut_job(&jobs[j], wanted < 1 ? 1 : wanted);
        longest = cycles > longest ? cycles : longest;
        n_cut += jobs[j].n_tasks;
    }
    return longest * ((double)divide_up(n_cut, n_threads) + 0.25);
}

/* Returns how many threads the jobs are worth. */
static int choose_cuts(struct job *jobs, int n, int n_threads)
{
    static const int rounds[] = {1, 2, 3, 4, 6, 8};
    double total = 0, best = 0;
    int best_round = 0;

    for (int j = 0; j < n; j++) {
        set_cuts(&jobs[j], 1, 1);
        total += task_cycles(&jobs[j], jobs[j].n_rows, jobs[j].n_panels);
    }
    if (n_threads == 1 || total < INLINE_CYCLES)
        return 1;
    for (int i = 0; i < 6; i++) {
        if (i > 0 && (double)rounds[i] * n_threads * TASK_CYCLES > total)
            break;
        double time = cut_all(jobs, n, total, (int64_t)rounds[i] * n_threads, n_threads);
        if (i == 0 || time < best) {
            best = time;
            best_round = i;
        }
    }
    cut_all(jobs, n, total, (int64_t)rounds[best_round] * n_threads, n_threads);
    return n_threads;
}

static void run_jobs(struct cpu *cpu, struct job *jobs, int n)
{
    int needs_scratch = 0, n_threads = choose_cuts(jobs, n, pool_n_threads(cpu->pool));
    struct dispatch dispatch = {.jobs = jobs};
    int64_t n_tasks = 0;

    for (int j = 0; j < n; j++) {
        n_tasks += jobs[j].n_tasks;
        for (int i = 0; i < jobs[j].n_parts; i++)
            needs_scratch |= jobs[j].parts[i].source != PANELS_READY;
    }
    if (needs_scratch) {
        dispatch.scratch = cpu_scratch(cpu, CPU_SCRATCH_THREADS,
                                       (size_t)pool_n_threads(cpu->pool) * SCRATCH_FLOATS *
                                           sizeof(float));
        if (!dispatch.scratch)
            return;
    }
    for (int64_t i = 0; n_threads == 1 && i < n_tasks; i++)
        run_task(&dispatch, i, 0);
    if (n_threads > 1)
        pool_run(cpu->pool, n_tasks, run_task, &dispatch);
}

/* ---- Inputs of products with a matrix of bfloat16: rounded once, in words of pairs. */
struct pairing {
    const struct kernels *kernels;
    const float *in;
    float *words;
    int64_t n_columns, words_row;
};

static void pair_rows(void *argument, int64_t first, int64_t last)
{
    const struct pairing *pairing = argument;

    for (int64_t r = first; r < last; r++)
        pairing->kernels->pair_row(pairing->words + r * pairing->words_row,
                                   pairing->in + r * pairing->n_columns, pairing->n_columns);
}

/* Rows of an odd number of cache lines: those of a tile do not meet in the same sets. */
static int64_t paired_row(const struct cpu *cpu, int64_t n_columns)
{
    int64_t words = divide_up(n_columns, 2) * cpu->kernels->pair_words;

    return (divide_up(words, LINE_FLOATS) | 1) * LINE_FLOATS;
}

static void pair_inputs(struct cpu *cpu, struct part *part, int64_t n_rows, float *words)
{
    struct pairing pairing = {cpu->kernels, part->a, words, part->n_steps,
                              paired_row(cpu, part->n_steps)};

    cpu_loop(cpu, n_rows, 1, PAIRING_COST * (double)part->n_steps, pair_rows, &pairing);
    part->a = words;
    part->a_row = pairing.words_row;
}

/* n_words: of all parts together. Returns 0 when there is no memory. */
static int pair_all(struct cpu *cpu, struct part *parts, int n, int64_t n_rows, int64_t n_words)
{
    float *words = cpu_scratch(cpu, CPU_SCRATCH_SHARED, (size_t)n_words * sizeof(float));

    for (int i = 0; words && i < n; i++) {
        if (!parts[i].pairs)
            continue;
        pair_inputs(cpu, &parts[i], n_rows, words);
        words += n_rows * parts[i].a_row;
    }
    return words != NULL;
}

/* ---- The products. */
static struct job make_job(struct cpu *cpu, const struct part *parts, int n_parts,
                           const struct tensor *out)
{
    struct job job = {.kernels = cpu->kernels,
                      .product = {.out = tensor_f32(out),
                                  .out_row = out->shape[1],
                                  .n_columns = out->shape[1]},
                      .parts = parts,
                      .n_parts = n_parts,
                      .n_rows = out->shape[0],
                      .n_panels = divide_up(out->shape[1], OPS_PANEL)};

    for (int i = 0; i < n_parts; i++)
        job.n_steps += steps_of(&parts[i], parts[i].n_steps);
    return job;
}

void cpu_matmul_several(void *context, const struct ops_product *products, int n,
                        const struct tensor *in)
{
    struct cpu *cpu = context;
    int64_t N = in->shape[0], C = in->shape[1];
    struct part parts[OPS_MOST_PRODUCTS];
    struct job jobs[OPS_MOST_PRODUCTS];
    float *words = NULL;

    for (int i = 0; i < n; i++) {
        const struct ops_product *x = &products[i];
        parts[i] = (struct part){.a = tensor_f32(in),
                                 .a_row = C,
                                 .b = x->weight,
                                 .source = x->weight->form == MATRIX_PANELS ? PANELS_READY
                                                                            : PANELS_OF_OUTPUTS,
                                 .n_steps = C,
                                 .pairs = x->weight->dtype == DTYPE_BF16};
        if (parts[i].pairs && words) {
            parts[i].a = words;
            parts[i].a_row = paired_row(cpu, C);
        } else if (parts[i].pairs) {
            words = cpu_scratch(cpu, CPU_SCRATCH_SHARED,
                                (size_t)(N * paired_row(cpu, C)) * sizeof(float));
            if (!words)
                return;
            pair_inputs(cpu, &parts[i], N, words);
        }
        jobs[i] = make_job(cpu, &parts[i], 1, x->out);
        jobs[i].product.bias = x->bias ? tensor_f32(x->bias) : NULL;
        jobs[i].product.add = x->residual ? tensor_f32(x->residual) : NULL;
    }
    run_jobs(cpu, jobs, n);
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
    int64_t n_words = 0;

    for (int i = 0; i < n; i++) {
        int64_t M = gradients[i].d_out->shape[1];
        parts[i] = (struct part){.a = tensor_f32(gradients[i].d_out),
                                 .a_row = M,
                                 .b = gradients[i].weight,
                                 .source = PANELS_OF_INPUTS,
                                 .n_steps = M,
                                 .pairs = gradients[i].weight->dtype == DTYPE_BF16};
        n_words += parts[i].pairs ? d_in->shape[0] * paired_row(cpu, M) : 0;
    }
    if (n_words > 0 && !pair_all(cpu, parts, n, d_in->shape[0], n_words))
        return;
    struct job job = make_job(cpu, parts, n, d_in);
    job.product.accumulate = accumulate;
    run_jobs(cpu, &job, 1);
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
    struct cpu *cpu = context;
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
        jobs[i] = make_job(cpu, &parts[i], 1, x->d_weight);
        jobs[i].product.accumulate = 1;
        jobs[i].turned = 1;
        jobs[i].d_bias = x->d_bias ? tensor_f32(x->d_bias) : NULL;
    }
    run_jobs(cpu, jobs, n);
}
