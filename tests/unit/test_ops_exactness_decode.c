/* Decoding: the same bits whatever the batch, its neighbours, and the place where a run ends. */
#include "test_ops_exactness.h"

/* ---- Decoding. */
struct decode_data {
    float *q, *k, *v, *full;
};

static const enum dtype cache_dtypes[] = {DTYPE_F32, DTYPE_BF16};

/* A copy, as a cache of this dtype keeps it. */
static float *kept_floats(struct ops *ops, enum dtype dtype, float *x, int64_t n)
{
    float *kept = malloc((size_t)n * sizeof(*kept));
    struct tensor from = tensor_1d(x, n), to = tensor_1d(kept, n);

    memcpy(kept, x, (size_t)n * sizeof(*kept));
    if (dtype == DTYPE_BF16)
        ops_round_bf16(ops, &to, &from);
    return kept;
}

/* full: the rows of one segment of KEYS rows. */
static void make_decode(struct ops *ops, struct decode_data *d, enum dtype dtype)
{
    int32_t whole[] = {0, KEYS};

    d->q = random_floats(KEYS * H * D, 40);
    d->k = random_floats(KEYS * K * D, 41);
    d->v = random_floats(KEYS * K * D, 42);
    d->full = calloc(KEYS * H * D, sizeof(float));
    float *kept_k = kept_floats(ops, dtype, d->k, KEYS * K * D);
    float *kept_v = kept_floats(ops, dtype, d->v, KEYS * K * D);
    struct tensor q = tensor_3d(d->q, KEYS, H, D), k = tensor_3d(kept_k, KEYS, K, D);
    struct tensor v = tensor_3d(kept_v, KEYS, K, D), out = tensor_3d(d->full, KEYS, H, D);
    struct tensor segments = tensor_i32(whole, 2);
    ops_attention(ops, &out, NULL, &q, &k, &v, &segments, NULL);
    free(kept_k);
    free(kept_v);
}

static void free_decode(struct decode_data *d)
{
    free(d->q);
    free(d->k);
    free(d->v);
    free(d->full);
}

/* A cache, and the pages of two runs of up to KEYS rows: any size, anywhere. */
enum { MOST_PAGES = (KEYS + 15) / 16, SPARE = 3, NOWHERE = 2 * MOST_PAGES + SPARE };
struct paged {
    struct kv_cache cache;
    int32_t pages[NOWHERE];
    int own;   /* the entry of `pages` that the second run starts at */
    struct random_stream stream;
};

static void open_paged(struct paged *p, enum dtype dtype)
{
    memset(p, 0, sizeof(*p));
    p->stream.seed = 43;
    p->cache = (struct kv_cache){.n_rows = 16 * NOWHERE, .K = K, .D = D, .page_rows = 16,
                                 .dtype = dtype};
    p->cache.data = calloc(1, ops_cache_bytes(&p->cache) * 8);   /* for pages of 128 too */
}

static void shuffle_pages(struct paged *p)
{
    p->cache.page_rows = 16 << random_below(&p->stream, 4);
    p->cache.n_rows = p->cache.page_rows * NOWHERE;
    for (int i = 0; i < NOWHERE; i++) {
        int other = (int)random_below(&p->stream, (uint64_t)i + 1);
        p->pages[i] = p->pages[other];
        p->pages[other] = i;
    }
    p->own = (int)((KEYS + p->cache.page_rows - 1) / p->cache.page_rows) +
             (int)random_below(&p->stream, SPARE);
}

static int32_t row_of(const struct paged *p, int place, int at)
{
    int page_rows = (int)p->cache.page_rows;

    return p->pages[place + at / page_rows] * page_rows + at % page_rows;
}

/* Keys 0 .. cut - 1 are the first run, the rest the second. What lay there before is noise. */
static void fill_cache(struct ops *ops, struct paged *p, const struct decode_data *d, int cut)
{
    struct tensor k = tensor_3d(d->k, KEYS, K, D), v = tensor_3d(d->v, KEYS, K, D);
    int32_t index[KEYS];

    shuffle_pages(p);
    memset(p->cache.data, cut % 2 ? 0x7f : 0xff, ops_cache_bytes(&p->cache));
    for (int j = 0; j < KEYS; j++)
        index[j] = j < cut ? row_of(p, 0, j) : row_of(p, p->own, j - cut);
    struct tensor rows = tensor_i32(index, KEYS);
    ops_cache_store(ops, &p->cache, &k, &v, &rows);
}

static void set_run(int32_t *run, const struct paged *p, int n, int cut)
{
    run[0] = 0;
    run[1] = n < cut ? n : cut;
    run[2] = p->own;
    run[3] = n < cut ? 0 : n - cut;
}

static void decode(struct ops *ops, const struct paged *p, float *out, float *q, int n,
                   const int32_t *run)
{
    struct tensor outs = tensor_3d(out, n, H, D), queries = tensor_3d(q, n, H, D);
    struct tensor pages = tensor_i32(p->pages, NOWHERE), runs = tensor_i32(run, 4 * n);

    ops_attention_decode(ops, &outs, &queries, &p->cache, &pages, &runs);
}

static void try_every_cut(const char *device, enum dtype dtype)
{
    struct ops *ops = open_ops(device, 2);
    struct decode_data d;
    struct paged p;
    float row[H * D];

    make_decode(ops, &d, dtype);
    open_paged(&p, dtype);
    for (int cut = 0; cut <= KEYS; cut++) {
        fill_cache(ops, &p, &d, cut);
        for (int n = cut > 3 ? cut - 2 : 1; n <= KEYS; n++) {
            int32_t run[4];
            set_run(run, &p, n, cut);
            decode(ops, &p, row, d.q + (n - 1) * H * D, 1, run);
            assert_same_bits(row, d.full + (n - 1) * H * D, H * D);
        }
    }
    free(p.cache.data);
    free_decode(&d);
    ops_destroy(&ops);
}

static void a_decoded_row_equals_that_of_the_whole_segment_at_every_cut(void **state)
{
    for (int i = 0; i < 2; i++)
        try_every_cut(*state, cache_dtypes[i]);
}

/* The tokens of the prompt and what follows it, in one batch: neighbours share their first run. */
static void try_a_shared_prompt(const char *device, enum dtype dtype)
{
    struct ops *ops = open_ops(device, 2);
    struct decode_data d;
    struct paged p;
    float *rows = calloc(KEYS * H * D, sizeof(*rows));

    make_decode(ops, &d, dtype);
    open_paged(&p, dtype);
    for (int cut = 0; cut <= KEYS; cut += 7)
        for (int first = 0; first < KEYS; first += 13) {
            int32_t run[4 * KEYS];
            int n = KEYS - first;
            fill_cache(ops, &p, &d, cut);
            for (int i = 0; i < n; i++)
                set_run(run + 4 * i, &p, first + i + 1, cut);
            decode(ops, &p, rows, d.q + first * H * D, n, run);
            assert_same_bits(rows, d.full + first * H * D, (int64_t)n * H * D);
        }
    free(rows);
    free(p.cache.data);
    free_decode(&d);
    ops_destroy(&ops);
}

static void rows_that_share_a_prompt_do_not_disturb_each_other(void **state)
{
    for (int i = 0; i < 2; i++)
        try_a_shared_prompt(*state, cache_dtypes[i]);
}

/* Neighbours that start at one row but see more of it or less, with a second run or without. */
static void try_neighbours(const char *device, enum dtype dtype)
{
    enum { ROWS = 8, TRIALS = 200 };
    struct ops *ops = open_ops(device, 2);
    struct random_stream stream = {.seed = 44};
    struct decode_data d;
    struct paged p;
    float together[ROWS * H * D], alone[H * D];

    make_decode(ops, &d, dtype);
    open_paged(&p, dtype);
    for (int trial = 0; trial < TRIALS; trial++) {
        int32_t run[4 * ROWS];
        if (trial % 20 == 0)
            fill_cache(ops, &p, &d, KEYS / 2);
        for (int n = 0; n < ROWS; n++) {
            int32_t shared = (int32_t)random_below(&stream, 3) * (KEYS / 8);
            int32_t own = (int32_t)random_below(&stream, 2) * (int32_t)random_below(&stream, 35);
            const int32_t one[4] = {0, shared || own ? shared : 1, p.own, own};
            memcpy(run + 4 * n, one, sizeof(one));
        }
        decode(ops, &p, together, d.q, ROWS, run);
        for (int n = 0; n < ROWS; n++) {
            decode(ops, &p, alone, d.q + n * H * D, 1, run + 4 * n);
            assert_same_bits(together + n * H * D, alone, H * D);
        }
    }
    free(p.cache.data);
    free_decode(&d);
    ops_destroy(&ops);
}

static void a_row_reads_the_same_whatever_its_neighbours_see(void **state)
{
    for (int i = 0; i < 2; i++)
        try_neighbours(*state, cache_dtypes[i]);
}

/* A draw alone, among others, and on other threads; its log-probability is that of learning. */
static void draws_do_not_depend_on_each_other(void **state)
{
    enum { WIDE = 40000, DRAWS = 24 };
    float *logits_data = random_floats(3 * WIDE, 70), together[DRAWS], alone, learned;
    int32_t tokens[DRAWS], token = -1;
    struct draw draws[DRAWS];

    for (int i = 0; i < DRAWS; i++)
        draws[i] = (struct draw){.uniform = (i + 0.37) / DRAWS,
                                 .temperature = i % 4 == 3 ? 0 : 0.6f + 0.2f * (float)(i % 4),
                                 .top_p = i % 5 > 2 ? 0.9f : 1,
                                 .top_k = i % 7 > 4 ? 50 : 0,
                                 .row = i / 9};
    for (int threads = 1; threads <= 3; threads += 2) {
        struct ops *ops = open_ops(*state, threads);
        struct tensor logits = tensor_2d(logits_data, 3, WIDE);
        struct tensor all = tensor_i32(tokens, DRAWS), logprobs = tensor_1d(together, DRAWS);
        ops_sample(ops, &all, &logprobs, &logits, draws);
        for (int i = 0; i < DRAWS; i++) {
            struct tensor one = tensor_i32(&token, 1), logprob = tensor_1d(&alone, 1);
            struct tensor row = tensor_2d(logits_data + draws[i].row * WIDE, 1, WIDE);
            struct tensor wanted = tensor_1d(&learned, 1);
            ops_sample(ops, &one, &logprob, &logits, &draws[i]);
            assert_int_equal(token, tokens[i]);
            assert_same_bits(&alone, &together[i], 1);
            ops_token_logprob(ops, &wanted, NULL, &row, &one,
                              draws[i].temperature > 0 ? draws[i].temperature : 1);
            assert_same_bits(&alone, &learned, 1);
        }
        ops_destroy(&ops);
    }
    free(logits_data);
}

static void entropy_does_not_change_the_logprob(void **state)
{
    struct ops *ops = open_ops(*state, 1);
    float *data = random_floats(20 * V, 50), with[20], without[20], h[20];
    int32_t *index = random_indices(20, V);
    struct tensor logits = tensor_2d(data, 20, V), targets = tensor_i32(index, 20);
    struct tensor a = tensor_1d(with, 20), b = tensor_1d(without, 20), e = tensor_1d(h, 20);

    ops_token_logprob(ops, &a, &e, &logits, &targets, 1);
    ops_token_logprob(ops, &b, NULL, &logits, &targets, 1);
    assert_same_bits(with, without, 20);
    free(data);
    free(index);
    ops_destroy(&ops);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON(a_decoded_row_equals_that_of_the_whole_segment_at_every_cut, "cpu"),
        ON(a_decoded_row_equals_that_of_the_whole_segment_at_every_cut, "cpu:avx2"),
        ON(a_decoded_row_equals_that_of_the_whole_segment_at_every_cut, "cpu:baseline"),
        ON(draws_do_not_depend_on_each_other, "cpu"),
        ON(draws_do_not_depend_on_each_other, "cpu:avx2"),
        ON(draws_do_not_depend_on_each_other, "cpu:baseline"),
        ON(rows_that_share_a_prompt_do_not_disturb_each_other, "cpu"),
        ON(rows_that_share_a_prompt_do_not_disturb_each_other, "cpu:avx2"),
        ON(rows_that_share_a_prompt_do_not_disturb_each_other, "cpu:baseline"),
        ON(a_row_reads_the_same_whatever_its_neighbours_see, "cpu"),
        ON(a_row_reads_the_same_whatever_its_neighbours_see, "cpu:avx2"),
        ON(a_row_reads_the_same_whatever_its_neighbours_see, "cpu:baseline"),
        ON(entropy_does_not_change_the_logprob, "cpu"),
        ON(entropy_does_not_change_the_logprob, "cpu:avx2"),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
