/*
 * A pass that decodes is some two hundred launches of small kernels. Where the device can record
 * them it does so, once for each number of rows: all that changes from token to token lies in
 * device memory. Rows are filled up to one of a few numbers, which changes no bit of the others.
 */
#include <string.h>

#include "common/log.h"
#include "common/status.h"
#include "model/internal.h"

#define STEP 8          /* numbers of rows: 1, 2, 4, then multiples of it */
#define N_ADDRESSES 5

struct recording {
    int n_passes;       /* of this many rows; the first is run, so that kernels are loaded */
    void *recording;
    const void *addresses[N_ADDRESSES];   /* of memory that may move when it grows */
};

struct recordings {
    struct recording *list;   /* by place_of() */
    int n;
    struct draw *draws;       /* [STEP * n]: draw i is from row i */
};

_Static_assert(STEP <= MODEL_PAGE, "a spare page has a row for each that fills a pass up");

int32_t recorded_spare_pages(const struct ops *ops)
{
    return ops_can_record(ops) ? 1 : 0;
}

static int fill_up(int n)
{
    if (n <= STEP / 2)
        return n < 3 ? n : 4;
    return (n + STEP - 1) / STEP * STEP;
}

static int place_of(int rows)
{
    return rows < STEP ? rows / 2 : rows / STEP + 2;   /* 0, 1, 2 of 1, 2, 4; 3 of 8 */
}

void recordings_destroy(struct model_cache *cache)
{
    struct recordings *recordings = cache->recordings;

    if (!recordings)
        return;
    for (int i = 0; i < recordings->n; i++)
        ops_record_free(cache->model->ops, recordings->list[i].recording);
    mem_free(recordings->list);
    mem_free(recordings->draws);
    mem_free(recordings);
    cache->recordings = NULL;
}

void model_cache_record(struct model_cache *cache, int on)
{
    recordings_destroy(cache);
    if (!on || !ops_can_record(cache->model->ops) || !cache->size.n_sequences)
        return;
    struct recordings *recordings = mem_alloc(1, sizeof(*recordings));
    int most = fill_up(cache->size.n_sequences);
    recordings->n = place_of(most) + 1;
    recordings->list = mem_alloc((size_t)recordings->n, sizeof(*recordings->list));
    recordings->draws = mem_alloc((size_t)most, sizeof(*recordings->draws));
    for (int i = 0; i < most; i++)
        recordings->draws[i].row = i;
    cache->recordings = recordings;
}

int recorded_rows(const struct model_cache *cache, int n, const struct model_decode_row *rows,
                  int n_draws, const struct draw *draws)
{
    if (!cache->recordings || n_draws != n || n > cache->size.n_sequences)
        return 0;
    for (int i = 0; i < n; i++)
        if (rows[i].sequence_slot == MODEL_PROMPT || draws[i].row != i)
            return 0;
    return fill_up(n);
}

/* A row of the spare page each, which sees the first of them. */
void recorded_pad(struct model_cache *cache, int n, struct decode_pass *pass)
{
    const int32_t spare = cache->pool.n_pages, run[4] = {cache->n_shown, 1, 0, 0};

    cache->pages[cache->n_shown++] = spare;
    for (int i = n; i < pass->n; i++) {
        cache->tokens[i] = cache->positions[i] = 0;
        cache->rows[i] = spare * MODEL_PAGE + i - n;
        memcpy(cache->runs + 4 * (size_t)i, run, sizeof(run));
        memcpy(cache->target_runs + 4 * (size_t)i, run, sizeof(run));
        cache->targets[i] = cache->places[i] = i;
        cache->draws[i] = (struct draw){.top_p = 1, .row = i};
    }
    pass->n_targets = pass->n_draws = pass->n;
    pass->draws = cache->recordings->draws;
}

static int has_moved(const struct model_cache *cache, struct recording *it)
{
    const struct model *model = cache->model;
    const void *const addresses[N_ADDRESSES] = {cache->tape->arena.base, cache->device,
                                                model->rope.data, model->values, model->panels};
    int moved = memcmp(it->addresses, addresses, sizeof(addresses)) != 0;

    memcpy(it->addresses, addresses, sizeof(addresses));
    return moved;
}

int recorded_run(struct model_cache *cache, const struct decode_pass *pass)
{
    struct recording *it = &cache->recordings->list[place_of(pass->n)];
    struct ops *ops = cache->model->ops;

    if (has_moved(cache, it)) {
        ops_record_free(ops, it->recording);
        it->recording = NULL;
        it->n_passes = 0;
    }
    if (it->n_passes++ == 0) {
        decode_run(cache, pass);
        return STATUS_OK;
    }
    if (!it->recording) {
        TRY(ops_sync(ops));   /* a failure of what came before is none of the recording */
        ops_record_begin(ops);
        decode_run(cache, pass);
        int status = ops_record_end(ops, &it->recording);
        if (status < 0) {
            log_warning("decoding goes on without CUDA graphs: %s", status_reason());
            decode_run(cache, pass);   /* its draws are the recordings' */
            recordings_destroy(cache);
            return STATUS_OK;
        }
    }
    ops_record_launch(ops, it->recording);
    return STATUS_OK;
}
