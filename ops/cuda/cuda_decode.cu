/* Decoding. The cache holds keys [n_rows,K,D], then values, of floats or bfloat16; a page is
 * page_rows rows. A block has one key head and the query heads that share it, of one row of the
 * batch or of neighbours that only look at the same run. */
#include "common/status.h"
#include "ops/cuda/cuda_attention.cuh"

#define THREADS 256
#define BLOCK_QUERIES (ATTEND_WARPS * ATTEND_ROWS)
#define MOST_TOGETHER 16   /* rows of the batch in one block */

struct decode_job {
    float *out;
    const float *q;
    const void *keys, *values;
    const int32_t *pages, *runs;
    int64_t N, H, K;
    int D, together, page_bits;
    float scale;
    bool by_four;
};

static __device__ __forceinline__ void put_number(float *to, float x) { *to = x; }
static __device__ __forceinline__ void put_number(uint16_t *to, float x)
{
    *to = (uint16_t)pack_bf16(x, 0);
}

template <typename T>
static __global__ void store_rows(T *keys, T *values, const float *k, const float *v,
                                  const int32_t *rows, int64_t width, int64_t count)
{
    FOR_EACH(i, count)
    {
        int64_t at = rows[i / width] * width + i % width;
        put_number(keys + at, k[i]);
        put_number(values + at, v[i]);
    }
}

/* Tokens of one prompt: the same first run, and no second one. */
static __device__ __forceinline__ bool looks_alike(const int32_t *a, const int32_t *b)
{
    return a[0] == b[0] && !a[3] && !b[3];
}

/* Rows that row n computes: 0 when the one before it does so. */
static __device__ __forceinline__ int rows_together(const struct decode_job &job, int64_t n)
{
    const int32_t *run = job.runs + 4 * n;
    int rows = 1;

    if (n % job.together && looks_alike(run - 4, run))
        return 0;
    while ((n + rows) % job.together && n + rows < job.N && looks_alike(run, run + 4 * rows))
        rows++;
    return rows;
}

/* Where a head's key j of two runs lies, in floats from that of row 0: n_first keys in the pages
 * from `first` on, the rest in those from `second` on. */
struct paged_keys {
    const int32_t *first, *second;
    int64_t n_first, n, step;
    int page_bits;

    __device__ __forceinline__ int64_t at(int64_t j) const
    {
        if (j >= n)
            return 0;
        bool is_first = j < n_first;
        int64_t row = is_first ? j : j - n_first;
        const int32_t *run = is_first ? first : second;   /* g++ 12 and UBSan get it wrong as one */
        int64_t page = run[row >> page_bits];
        return ((page << page_bits) + (row & ((1 << page_bits) - 1))) * step;
    }
};

template <int D_PAD, int TERMS, typename T>
static __global__ void ATTEND_BOUNDS decode(const struct decode_job job)
{
    SHARED(uint16_t, key_terms, [TERMS * KEY_BLOCK<D_PAD> * D_PAD]);
    SHARED(uint16_t, value_terms, [TERMS * KEY_BLOCK<D_PAD> * D_PAD]);
    int64_t group = job.H / job.K, row = blockIdx.x;
    int rows = rows_together(job, row);
    const int32_t *run = job.runs + 4 * row;
    struct attend<D_PAD, TERMS> state;
    const float *q[2];
    float *out[2], *const lse[2] = {nullptr, nullptr};
    int64_t n_keys[2];

    if (!rows)
        return;
    constexpr unsigned PARTS = columns<D_PAD, TERMS>::PARTS;
    int64_t first_query = (int64_t)(blockIdx.z / PARTS) * BLOCK_QUERIES +
                          threadIdx.x / WARP_SIZE * ATTEND_ROWS + threadIdx.x % WARP_SIZE / 4;
    for (int half = 0; half < 2; half++) {
        int64_t query = first_query + 8 * half, n = query / group;
        int64_t at = ((row + n) * job.H + blockIdx.y * group + query % group) * job.D;
        q[half] = n < rows ? job.q + at : nullptr;
        out[half] = n < rows ? job.out + at : nullptr;
        n_keys[half] = n < rows ? (int64_t)run[4 * n + 1] + run[4 * n + 3] : 0;
    }
    state.start(q, job.D, (int)(blockIdx.z % PARTS));
    int64_t n_first = run[1];
    for (int n = 1; n < rows; n++)
        n_first = run[4 * n + 1] > n_first ? run[4 * n + 1] : n_first;
    const struct paged_keys keys = {job.pages + run[0], job.pages + run[2], n_first,
                                    n_first + run[3],   job.K * job.D,      job.page_bits};
    const T *k = (const T *)job.keys + blockIdx.y * job.D;
    const T *v = (const T *)job.values + blockIdx.y * job.D;
    for (int64_t first = 0; first < keys.n; first += KEY_BLOCK<D_PAD>) {
        __syncthreads();
        key_tile<D_PAD, TERMS>::load_rows(
            key_terms, [&](int64_t j) { return k + keys.at(j); }, keys.n, first, job.D,
            job.by_four);
        key_tile<D_PAD, TERMS>::load_rows(
            value_terms, [&](int64_t j) { return v + keys.at(j); }, keys.n, first, job.D,
            job.by_four);
        __syncthreads();
        int visible[2] = {(int)(n_keys[0] - first), (int)(n_keys[1] - first)};
        if (__any_sync(FULL_WARP, visible[0] > 0 || visible[1] > 0))
            state.add_keys(key_terms, value_terms, visible, job.scale);
    }
    state.finish(out, lse, job.D);
}

bool cuda_head_fits(struct cuda *cuda, int64_t D)
{
    if (D > ATTEND_WIDEST && cuda->status == 0)
        cuda->status = status_fail(STATUS_UNSUPPORTED, "%s: heads of %lld, at most %d; use \"cpu\"",
                                   cuda_backend_name, (long long)D, ATTEND_WIDEST);
    return cuda->status == 0;
}

template <int D_PAD, typename T>
static void run_decode(struct cuda *cuda, const struct decode_job *job)
{
    unsigned N = (unsigned)job->N, K = (unsigned)job->K;
    unsigned blocks = (unsigned)divide_up(job->H / job->K, BLOCK_QUERIES);

    if (cuda->terms == 1)
        RUN(cuda, (decode<D_PAD, 1, T>), dim3(N, K, blocks * columns<D_PAD, 1>::PARTS),
            ATTEND_THREADS, *job);
    else
        RUN(cuda, (decode<D_PAD, 3, T>), dim3(N, K, blocks * columns<D_PAD, 3>::PARTS),
            ATTEND_THREADS, *job);
}

template <typename T> static void run_width(struct cuda *cuda, const struct decode_job *job)
{
    if (job->D <= 32)
        run_decode<32, T>(cuda, job);
    else if (job->D <= 64)
        run_decode<64, T>(cuda, job);
    else if (job->D <= 128)
        run_decode<128, T>(cuda, job);
    else
        run_decode<256, T>(cuda, job);
}

void cuda_attention_decode(void *context, struct tensor *out, const struct tensor *q,
                           const struct kv_cache *cache, const struct tensor *pages,
                           const struct tensor *runs)
{
    struct cuda *cuda = (struct cuda *)context;
    int64_t D = cache->D, group = q->shape[1] / cache->K, together = BLOCK_QUERIES / group;
    bool is_bf16 = cache->dtype == DTYPE_BF16;
    int64_t count = cache->n_rows * cache->K * D;
    const char *keys = (const char *)cache->data;
    const char *values = keys + count * (int64_t)(is_bf16 ? sizeof(uint16_t) : sizeof(float));
    const struct decode_job job = {
        .out = tensor_f32(out),
        .q = tensor_f32(q),
        .keys = keys,
        .values = values,
        .pages = (const int32_t *)pages->data,
        .runs = (const int32_t *)runs->data,
        .N = q->shape[0],
        .H = q->shape[1],
        .K = cache->K,
        .D = (int)D,
        .together = (int)(together < 1 ? 1 : together < MOST_TOGETHER ? together : MOST_TOGETHER),
        .page_bits = __builtin_ctzll((uint64_t)cache->page_rows),
        .scale = 1 / sqrtf((float)D),
        .by_four = lies_by_four(keys, values, D),
    };

    if (!cuda_head_fits(cuda, D))
        return;
    if (is_bf16)
        run_width<uint16_t>(cuda, &job);
    else
        run_width<float>(cuda, &job);
}

template <typename T>
static void run_store(struct cuda *cuda, const struct kv_cache *cache, const struct tensor *k,
                      const struct tensor *v, const struct tensor *rows)
{
    int64_t width = cache->K * cache->D, count = k->shape[0] * width;
    T *keys = (T *)cache->data;

    RUN(cuda, store_rows<T>, loop_blocks(count, THREADS), THREADS, keys,
        keys + cache->n_rows * width, tensor_f32(k), tensor_f32(v), (const int32_t *)rows->data,
        width, count);
}

void cuda_cache_store(void *context, struct kv_cache *cache, const struct tensor *k,
                      const struct tensor *v, const struct tensor *rows)
{
    struct cuda *cuda = (struct cuda *)context;

    if (cache->dtype == DTYPE_BF16)
        run_store<uint16_t>(cuda, cache, k, v, rows);
    else
        run_store<float>(cuda, cache, k, v, rows);
}
