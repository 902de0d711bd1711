#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/random.h"
#include "ops/ops.h"

/* The device of the test that runs. */
static struct ops *ops;

static int open_device(void **state)
{
    if (ops_create(&ops, *state, 2) < 0)
        ops = NULL;
    return 0;
}

static int close_device(void **state)
{
    (void)state;
    ops_destroy(&ops);
    return 0;
}

static int32_t draw(const float *logits, int n, float temperature, float top_p, int32_t top_k,
                    double uniform)
{
    const struct draw one = {
        .uniform = uniform, .temperature = temperature, .top_p = top_p, .top_k = top_k};
    struct tensor rows = tensor_2d((void *)logits, 1, n);
    int32_t token = -1;
    float logprob = NAN;
    struct tensor tokens = tensor_i32(&token, 1), logprobs = tensor_1d(&logprob, 1);

    if (!ops)
        skip();
    ops_sample(ops, &tokens, &logprobs, &rows, &one);
    return token;
}

/* Chi-square of 20,000 draws against softmax(logits / temperature) over the kept tokens. */
static double chi_square(const float *logits, int n, float temperature, float top_p,
                         int32_t top_k, const int *kept)
{
    enum { N_DRAWS = 20000 };
    double expected[16], total = 0, sum = 0;
    int counts[16] = {0};

    assert_true(n <= 16);
    for (int i = 0; i < n; i++)
        total += expected[i] = kept[i] ? exp((double)logits[i] / temperature) : 0;
    for (uint32_t i = 0; i < N_DRAWS; i++)
        counts[draw(logits, n, temperature, top_p, top_k, random_uniform(1, 2, 3, i))]++;
    for (int i = 0; i < n; i++) {
        double wanted = expected[i] / total * N_DRAWS;
        if (kept[i])
            sum += (counts[i] - wanted) * (counts[i] - wanted) / wanted;
        else
            assert_int_equal(counts[i], 0);
    }
    return sum;
}

static const float eight[8] = {0.5f, -1.0f, 2.0f, 0.0f, 1.5f, -0.5f, 1.0f, 0.25f};

/* 24.3 is the 99.9% point of chi-square with 7 degrees of freedom, 13.8 with 2. */
static void draws_follow_the_softmax(void **state)
{
    const int all[8] = {1, 1, 1, 1, 1, 1, 1, 1};

    (void)state;
    assert_true(chi_square(eight, 8, 1.0f, 1.0f, 0, all) < 24.3);
}

static void draws_follow_the_softmax_at_a_temperature(void **state)
{
    const int all[8] = {1, 1, 1, 1, 1, 1, 1, 1};

    (void)state;
    assert_true(chi_square(eight, 8, 0.7f, 1.0f, 0, all) < 24.3);
    assert_true(chi_square(eight, 8, 2.5f, 1.0f, 0, all) < 24.3);
}

static void top_k_keeps_the_k_likeliest(void **state)
{
    const int three[8] = {0, 0, 1, 0, 1, 0, 1, 0};

    (void)state;
    assert_true(chi_square(eight, 8, 1.0f, 1.0f, 3, three) < 13.8);
}

static void top_k_beyond_the_vocabulary_is_off(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 200; i++) {
        double uniform = random_uniform(4, 5, 6, i);
        assert_int_equal(draw(eight, 8, 1.0f, 1.0f, 8, uniform),
                         draw(eight, 8, 1.0f, 1.0f, 0, uniform));
        assert_int_equal(draw(eight, 8, 1.0f, 1.0f, INT32_MAX, uniform),
                         draw(eight, 8, 1.0f, 1.0f, 0, uniform));
    }
}

static void top_p_keeps_the_smallest_nucleus(void **state)
{
    /* softmax(eight), sorted: .379 .230 .139 .085 ...: .7 needs the first three, .6 two */
    const int three[8] = {0, 0, 1, 0, 1, 0, 1, 0}, two[8] = {0, 0, 1, 0, 1, 0, 0, 0};

    (void)state;
    assert_true(chi_square(eight, 8, 1.0f, 0.7f, 0, three) < 13.8);
    assert_true(chi_square(eight, 8, 1.0f, 0.6f, 0, two) < 10.8);
}

static void top_p_counts_what_top_k_has_left(void **state)
{
    /* Of the three left by top-k the first has .507 and the first two .814. */
    const int one[8] = {0, 0, 1, 0, 0, 0, 0, 0}, two[8] = {0, 0, 1, 0, 1, 0, 0, 0};

    (void)state;
    assert_true(chi_square(eight, 8, 1.0f, 0.5f, 3, one) < 1e-9);
    assert_true(chi_square(eight, 8, 1.0f, 0.52f, 3, two) < 10.8);
    assert_true(chi_square(eight, 8, 1.0f, 0.81f, 3, two) < 10.8);
}

static void a_nucleus_has_at_least_one_token(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 100; i++)
        assert_int_equal(draw(eight, 8, 1.0f, 1e-6f, 0, random_uniform(1, 1, 1, i)), 2);
}

static void an_even_nucleus_prefers_low_ids(void **state)
{
    const float even[4] = {1, 1, 1, 1};
    const int two[4] = {1, 1, 0, 0};

    (void)state;
    assert_true(chi_square(even, 4, 1.0f, 0.5f, 0, two) < 10.8);
    assert_true(chi_square(even, 4, 1.0f, 1.0f, 2, two) < 10.8);
}

/* The nucleus by the definition: all tokens sorted, no shortcuts. */
static int nucleus_by_sorting(const float *logits, int n, float top_p, char *kept)
{
    double total = 0, sum = 0;
    int n_kept = 0;

    memset(kept, 0, (size_t)n);
    for (int i = 0; i < n; i++)
        total += exp((double)logits[i]);
    while (sum < (double)top_p * total) {
        int best = -1;
        for (int i = 0; i < n; i++)
            if (!kept[i] && (best < 0 || logits[i] > logits[best]))
                best = i;
        kept[best] = 1;
        n_kept++;
        sum += exp((double)logits[best]);
    }
    return n_kept;
}

static void a_large_nucleus_is_that_of_a_full_sort(void **state)
{
    enum { N = 700 };
    static const float top_ps[] = {0.05f, 0.3f, 0.9f, 0.99f};
    struct random_stream stream = {7, 0};
    float logits[N];
    char kept[N];

    (void)state;
    for (int i = 0; i < N; i++)
        logits[i] = (float)(2 * random_normal(&stream));
    for (int p = 0; p < 4; p++) {
        int n_kept = nucleus_by_sorting(logits, N, top_ps[p], kept), n_drawn = 0;
        char drawn[N] = {0};
        for (int i = 0; i < 20000; i++) {
            int32_t token = draw(logits, N, 1.0f, top_ps[p], 0, (i + 0.5) / 20000);
            n_drawn += !drawn[token];
            drawn[token] = 1;
            assert_true(kept[token]);
        }
        if (top_ps[p] < 0.95f)
            assert_int_equal(n_drawn, n_kept);   /* each is wider than the grid's mesh */
    }
}

static void temperature_zero_takes_the_largest_and_the_lowest_id_on_a_tie(void **state)
{
    const float tie[5] = {1, 3, 3, 2, 3};

    (void)state;
    assert_int_equal(draw(tie, 5, 0, 1, 0, 0.999), 1);
    assert_int_equal(draw(tie, 5, 0, 0.1f, 2, 0.0), 1);
}

static void the_inverse_runs_in_id_order(void **state)
{
    const float even[4] = {-5, -5, -5, -5};

    (void)state;
    assert_int_equal(draw(even, 4, 1, 1, 0, 0.0), 0);
    assert_int_equal(draw(even, 4, 1, 1, 0, 0.2499), 0);
    assert_int_equal(draw(even, 4, 1, 1, 0, 0.25), 1);
    assert_int_equal(draw(even, 4, 1, 1, 0, 0.7501), 3);
    assert_int_equal(draw(even, 4, 1, 1, 0, 1 - 0x1p-53), 3);
}

static void a_token_of_no_probability_is_never_drawn(void **state)
{
    const float edges[4] = {-INFINITY, 0, 0, -1e30f};

    (void)state;
    assert_int_equal(draw(edges, 4, 1, 1, 0, 0.0), 1);
    assert_int_equal(draw(edges, 4, 1, 1, 0, 1 - 0x1p-53), 2);
    assert_int_equal(draw(edges, 4, 1, 0.9f, 3, 1 - 0x1p-53), 2);
    assert_int_equal(draw(edges, 4, 1e-30f, 1, 0, 1 - 0x1p-53), 2);
}

static void logits_that_are_no_numbers_still_give_a_token(void **state)
{
    const float broken[3] = {NAN, INFINITY, NAN}, nothing[3] = {NAN, NAN, NAN};
    const float partly[3] = {NAN, 1, -INFINITY};

    (void)state;
    assert_int_equal(draw(broken, 3, 1, 1, 0, 0.5), 1);
    assert_int_equal(draw(partly, 3, 1, 0.5f, 2, 0.5), 1);
    int32_t token = draw(nothing, 3, 1, 1, 0, 0.5);
    assert_true(token >= 0 && token < 3);
}

static void logits_are_left_alone_and_draws_repeat(void **state)
{
    float logits[8];
    int32_t first[50];

    (void)state;
    memcpy(logits, eight, sizeof(logits));
    for (uint32_t i = 0; i < 50; i++)
        first[i] = draw(logits, 8, 0.9f, 0.95f, 6, random_uniform(1, 2, 3, i));
    assert_memory_equal(logits, eight, sizeof(logits));
    for (uint32_t i = 0; i < 50; i++)
        assert_int_equal(draw(logits, 8, 0.9f, 0.95f, 6, random_uniform(1, 2, 3, i)), first[i]);
}

/* Wide rows, where a draw first finds a block: each token's share of a fine grid of uniform numbers
 * is its probability. */
static void a_draw_from_many_blocks_finds_its_token(void **state)
{
    enum { N = 10000, GRID = 4000 };
    struct random_stream stream = {11, 0};
    static float logits[N];
    double total = 0, below = 0;
    int32_t token = 0;

    (void)state;
    for (int i = 0; i < N; i++) {
        logits[i] = (float)(3 * random_normal(&stream));
        total += exp((double)logits[i]);
    }
    for (int i = 0; i < GRID; i += 7) {
        double uniform = (i + 0.5) / GRID;
        while (below + exp((double)logits[token]) <= uniform * total)
            below += exp((double)logits[token++]);
        int32_t drawn = draw(logits, N, 1, 1, 0, uniform);
        /* Single precision may step over an edge that lies within a millionth. */
        double above = below + exp((double)logits[token]);
        double margin = fmin(uniform * total - below, above - uniform * total);
        assert_true(drawn == token || margin < 1e-6 * total);
    }
}

#define ON(test, device)                                                                           \
    {#test " on " device, test, open_device, close_device, device}
#define EVERYWHERE(test) ON(test, "cpu"), ON(test, "cpu:baseline"), ON(test, "reference")

int main(void)
{
    static const struct CMUnitTest tests[] = {
        EVERYWHERE(draws_follow_the_softmax),
        EVERYWHERE(draws_follow_the_softmax_at_a_temperature),
        EVERYWHERE(top_k_keeps_the_k_likeliest),
        EVERYWHERE(top_k_beyond_the_vocabulary_is_off),
        EVERYWHERE(top_p_keeps_the_smallest_nucleus),
        EVERYWHERE(top_p_counts_what_top_k_has_left),
        EVERYWHERE(a_nucleus_has_at_least_one_token),
        EVERYWHERE(an_even_nucleus_prefers_low_ids),
        EVERYWHERE(a_large_nucleus_is_that_of_a_full_sort),
        EVERYWHERE(temperature_zero_takes_the_largest_and_the_lowest_id_on_a_tie),
        EVERYWHERE(the_inverse_runs_in_id_order),
        EVERYWHERE(a_token_of_no_probability_is_never_drawn),
        EVERYWHERE(logits_that_are_no_numbers_still_give_a_token),
        EVERYWHERE(logits_are_left_alone_and_draws_repeat),
        EVERYWHERE(a_draw_from_many_blocks_finds_its_token),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
