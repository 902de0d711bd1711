/*
 * Drawing tokens, a block a draw. With w = exp(z - max z): top-k and top-p keep the tokens above a
 * weight, and some of those equal to it, which a search over the bits of the weight finds; then the
 * warps' ranges of ids, in order, find the warp in which the cumulative sum passes, and that warp
 * the token. Sums over tokens are double.
 */
#include "ops/cuda/cuda_head.cuh"

#define WARPS (ROW_THREADS / WARP_SIZE)

/* Tokens above `weight` are kept, and the first n_equal of those that are equal, by id. */
struct cut {
    float weight;
    long long n_equal;
    double kept;   /* what they weigh together */
};

struct weights {
    const float *row;
    int64_t V;
    float factor, maximum;

    __device__ __forceinline__ float at(int64_t i) const
    {
        float w = i < V ? exp_f32(row[i] * factor - maximum) : 0.0f;
        return w > 0 ? w : 0.0f;   /* a NaN has none */
    }
};

/* How many weigh at least `least`, and what they weigh. */
static __device__ void weigh_from(const struct weights &w, float least, long long *n,
                                  double *weight, double *room)
{
    long long count = 0;
    double sum = 0;

    for (int64_t i = threadIdx.x; i < w.V; i += ROW_THREADS) {
        float value = w.at(i);
        count += value >= least;
        sum += value >= least ? (double)value : 0.0;
    }
    *n = block_sum<ROW_THREADS>(count, (long long *)room);
    *weight = block_sum<ROW_THREADS>(sum, room);
}

/* The likeliest tokens up to the first that makes them n_most, or weigh `enough`. */
static __device__ struct cut find_cut(const struct weights &w, long long n_most, double enough,
                                      double *room)
{
    unsigned low = 1, high = 0x3f800000u;   /* weights are at most 1 */
    struct cut cut;
    long long n;

    while (low < high) {
        unsigned middle = low + (high - low + 1) / 2;
        weigh_from(w, __uint_as_float(middle), &n, &cut.kept, room);
        if (n >= n_most || cut.kept >= enough)
            low = middle;
        else
            high = middle - 1;
    }
    cut.weight = __uint_as_float(low);
    weigh_from(w, __uint_as_float(low + 1), &n, &cut.kept, room);
    for (cut.n_equal = 0; n + cut.n_equal < n_most && (n + cut.n_equal == 0 || cut.kept < enough);
         cut.n_equal++)
        cut.kept += (double)cut.weight;
    return cut;
}

/* Every thread learns the first id whose logit is the largest; the last one when all are NaN. */
static __device__ int32_t find_largest(const struct weights &w, double *room)
{
    float largest = -INFINITY;
    int first = 0x7fffffff;

    for (int64_t i = threadIdx.x; i < w.V; i += ROW_THREADS)
        largest = fmaxf(largest, w.row[i]);
    largest = block_max<ROW_THREADS>(largest, (float *)room);
    for (int64_t i = w.V - 1 - threadIdx.x; i >= 0; i -= ROW_THREADS)
        first = w.row[i] == largest ? (int)i : first;
    for (int half = WARP_SIZE / 2; half; half /= 2) {
        int other = __shfl_xor_sync(FULL_WARP, first, half);
        first = other < first ? other : first;
    }
    __syncthreads();
    if (threadIdx.x % WARP_SIZE == 0)
        ((int *)room)[threadIdx.x / WARP_SIZE] = first;
    __syncthreads();
    for (int i = 0; i < WARPS; i++)
        first = ((int *)room)[i] < first ? ((int *)room)[i] : first;
    return first < w.V ? first : (int32_t)(w.V - 1);
}

/* A warp's range of ids. */
struct range {
    int64_t first, last;
};

static __device__ __forceinline__ struct range range_of(int64_t V, int warp)
{
    int64_t length = (V + WARPS * WARP_SIZE - 1) / (WARPS * WARP_SIZE) * WARP_SIZE;
    struct range range = {warp * length, (warp + 1) * length};

    range.first = range.first < V ? range.first : V;
    range.last = range.last < V ? range.last : V;
    return range;
}

/* The id in the range at which `sum`, grown in id order, passes `wanted`; else the last kept one,
 * -1 without any. n_equal: of the equal ones from this range on. */
static __device__ int32_t walk_range(const struct weights &w, struct range range,
                                     const struct cut &cut, double sum, double wanted,
                                     long long n_equal)
{
    int lane = (int)threadIdx.x % WARP_SIZE;
    int32_t token = -1;

    for (int64_t i = range.first; i < range.last; i += WARP_SIZE) {
        float value = i + lane < range.last ? w.at(i + lane) : 0.0f;
        unsigned equal = __ballot_sync(FULL_WARP, value > 0 && value == cut.weight);
        int before = 0;
        for (int other = 0; other < lane; other++)
            before += equal >> other & 1;
        bool is_kept = value > cut.weight || ((equal >> lane & 1) && before < n_equal);
        double part = is_kept ? (double)value : 0.0;
        for (int step = 1; step < WARP_SIZE; step *= 2) {
            double other = __shfl_up_sync(FULL_WARP, part, step);
            part += lane >= step ? other : 0.0;
        }
        unsigned kept = __ballot_sync(FULL_WARP, is_kept);
        unsigned passed = __ballot_sync(FULL_WARP, is_kept && sum + part > wanted);
        for (int other = 0; other < WARP_SIZE; other++)
            if (kept >> other & 1) {
                token = (int32_t)(i + other);
                if (passed >> other & 1)
                    return token;
            }
        for (int other = 0; other < WARP_SIZE; other++)
            n_equal -= equal >> other & 1;
        sum += __shfl_sync(FULL_WARP, part, WARP_SIZE - 1);
    }
    return token;
}

/* What each warp's range holds. */
struct holding {
    double above[WARPS];
    long long n_equal[WARPS];
    int32_t token[WARPS];
};

static __device__ int32_t draw_kept(const struct weights &w, const struct cut &cut, double uniform,
                                    struct holding &holding)
{
    int warp = (int)threadIdx.x / WARP_SIZE, lane = (int)threadIdx.x % WARP_SIZE;
    struct range range = range_of(w.V, warp);
    long long equal = 0, left = cut.n_equal;
    double above = 0, total = 0, sum = 0;

    for (int64_t i = range.first + lane; i < range.last; i += WARP_SIZE) {
        float value = w.at(i);
        above += value > cut.weight ? (double)value : 0.0;
        equal += value > 0 && value == cut.weight;
    }
    above = warp_sum(above);
    equal = warp_sum(equal);
    if (lane == 0) {
        holding.above[warp] = above;
        holding.n_equal[warp] = equal;
    }
    __syncthreads();
    for (int i = 0; i < WARPS; i++) {
        long long n = holding.n_equal[i] < left ? holding.n_equal[i] : left;
        left -= n;
        total += holding.above[i] + (double)n * (double)cut.weight;
    }
    left = cut.n_equal;
    for (int i = 0; i < warp; i++) {
        long long n = holding.n_equal[i] < left ? holding.n_equal[i] : left;
        left -= n;
        sum += holding.above[i] + (double)n * (double)cut.weight;
    }
    long long mine = holding.n_equal[warp] < left ? holding.n_equal[warp] : left;
    double end = sum + above + (double)mine * (double)cut.weight, wanted = uniform * total;
    int32_t token = -1;
    /* Rounding may make uniform * total the whole total: then the last token that is kept. */
    bool passes = total > wanted;
    if (!passes)
        token = walk_range(w, range, cut, sum, INFINITY, left);
    else if (sum <= wanted && end > wanted)
        token = walk_range(w, range, cut, sum, wanted, left);
    if (lane == 0)
        holding.token[warp] = token;
    __syncthreads();
    token = 0;
    for (int i = 0; i < WARPS; i++)
        token = holding.token[i] >= 0 ? holding.token[i] : token;
    return token;
}

static __global__ void __launch_bounds__(ROW_THREADS)
    sample(int32_t *tokens, float *logprobs, const float *logits, const struct draw *draws,
           int64_t V)
{
    SHARED(double, room, [WARPS]);
    SHARED(struct holding, holding, [1]);
    const struct draw draw = draws[blockIdx.x];
    struct weights w = {logits + draw.row * V, V, draw.temperature > 0 ? 1 / draw.temperature : 1,
                        0};
    struct row_sums sums = sum_row(w.row, V, w.factor, room);
    struct cut cut = {0, 0, sums.sum};
    int32_t token;

    w.maximum = sums.maximum;
    if (draw.temperature <= 0 || !isfinite(sums.maximum)) {
        token = find_largest(w, room);
    } else {
        if (!isfinite(sums.sum)) {
            long long n;
            weigh_from(w, 0, &n, &cut.kept, room);
        }
        if (draw.top_k && draw.top_k < V)
            cut = find_cut(w, draw.top_k, INFINITY, room);
        if (draw.top_p < 1)
            cut = find_cut(w, V, (double)draw.top_p * cut.kept, room);
        token = draw_kept(w, cut, draw.uniform, holding[0]);
    }
    if (threadIdx.x == 0) {
        tokens[blockIdx.x] = token;
        logprobs[blockIdx.x] = logprob_of(w.row[token], w.factor, sums);
    }
}

void cuda_sample(void *context, struct tensor *tokens, struct tensor *logprobs,
                 const struct tensor *logits, const struct draw *draws)
{
    RUN((struct cuda *)context, sample, (unsigned)logprobs->shape[0], ROW_THREADS,
        (int32_t *)tokens->data, tensor_f32(logprobs), tensor_f32(logits), draws,
        logits->shape[1]);
}
