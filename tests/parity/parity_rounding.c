/* Stochastic rounding to bfloat16: its mean, the same bits everywhere, and what it is for. */
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

#define MOST 4099

static struct ops *open_ops(const char *device)
{
    struct ops *ops = NULL;

    if (ops_create(&ops, device, 2) < 0) {
        print_message("SKIP %s: not in this build or on this machine\n", device);
        skip();
    }
    return ops;
}

static float float_of(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

static uint32_t bits_of(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

/* x[n] rounded in `n_parts` parts whose edges are no round numbers. */
static void round_in_parts(struct ops *ops, float *x, int64_t n, uint64_t noise, int64_t n_parts)
{
    void *device = NULL;

    assert_int_equal(ops_alloc(ops, (size_t)n * sizeof(*x), &device), 0);
    ops_upload(ops, device, x, (size_t)n * sizeof(*x));
    for (int64_t p = 0; p < n_parts; p++) {
        int64_t first = n * p / n_parts, last = n * (p + 1) / n_parts;
        struct tensor part = tensor_1d((float *)device + first, last - first);
        ops_round_stochastic(ops, &part, noise, first);
    }
    ops_download(ops, x, device, (size_t)n * sizeof(*x));
    assert_int_equal(ops_sync(ops), 0);
    ops_free(ops, device);
}

/* Numbers of every size, and the special ones. */
static void fill(float *x)
{
    static const uint32_t special[] = {0,          0x80000000u, 0x7f800000u, 0xff800000u,
                                       0x7fc00000u, 0xffffffffu, 0x7f800001u, 1,
                                       0x007fffffu, 0x7f7fffffu, 0x3f80ffffu, 0x3f800000u};
    struct random_stream stream = {.seed = 3};

    for (size_t i = 0; i < MOST; i++)
        x[i] = float_of((uint32_t)random_next(&stream));
    for (size_t i = 0; i < sizeof(special) / sizeof(special[0]); i++)
        x[i * 17] = float_of(special[i]);
}

/* The numbers that splitmix64 gives for the seed 1234567 in its author's program. */
static void the_random_bits_are_those_of_splitmix64(void **state)
{
    static const uint64_t numbers[] = {6457827717110365317u, 3203168211198807973u,
                                       9817491932198370423u, 4593380528125082431u,
                                       16408922859458223821u};
    struct ops *ops = open_ops(*state);
    float x[5];

    for (uint32_t is_up = 0; is_up < 2; is_up++) {
        for (int i = 0; i < 5; i++)
            x[i] = float_of(0xbf800000u + 0xffffu - (uint32_t)(numbers[i] >> 48) + is_up);
        round_in_parts(ops, x, 5, 1234567, 2);
        for (int i = 0; i < 5; i++)
            assert_int_equal(bits_of(x[i]), 0xbf800000u + (is_up << 16));
    }
    ops_destroy(&ops);
}

static void bits_are_those_of_reference_in_parts_too(void **state)
{
    static float start[MOST], want[MOST], got[MOST];
    struct ops *ops = open_ops(*state), *reference = open_ops("reference");

    fill(start);
    memcpy(want, start, sizeof(want));
    round_in_parts(reference, want, MOST, 99, 1);
    for (int64_t n_parts = 1; n_parts <= 3; n_parts++) {
        memcpy(got, start, sizeof(got));
        round_in_parts(ops, got, MOST, 99, n_parts);
        assert_memory_equal(got, want, sizeof(got));
    }
    ops_destroy(&ops);
    ops_destroy(&reference);
}

static void a_number_becomes_one_of_its_neighbours(void **state)
{
    static float start[MOST], got[MOST];
    struct ops *ops = open_ops(*state);

    fill(start);
    memcpy(got, start, sizeof(got));
    round_in_parts(ops, got, MOST, 5, 1);
    for (int i = 0; i < MOST; i++) {
        uint32_t before = bits_of(start[i]), after = bits_of(got[i]), below = before & 0xffff0000u;
        assert_int_equal(after & 0xffffu, 0);
        assert_int_equal(isnan(got[i]), isnan(start[i]));
        if (!isnan(start[i]))
            assert_true(after == below || (after == below + 0x10000u && before != below));
    }
    ops_destroy(&ops);
}

/* Over many elements of one draw, and over the draws that one element sees: within 5 standard
 * deviations of the mean, the same ones in every run. */
static void the_mean_is_the_number(void **state)
{
    enum { N = 4096, N_DRAWS = 1024, N_EACH = 8 };
    static const float shares[] = {0.5f, 0.0625f, 0.9f, 0.001f};
    static float x[N];
    struct ops *ops = open_ops(*state);
    double ulp = 0x1p-7;

    for (int s = 0; s < 4; s++) {
        float value = 1 + shares[s] * (float)ulp;
        double sum = 0, share = (value - 1) / ulp, each[N_EACH] = {0};
        for (int i = 0; i < N; i++)
            x[i] = value;
        round_in_parts(ops, x, N, 11, 1);
        for (int i = 0; i < N; i++)
            sum += (double)x[i] - value;
        assert_true(fabs(sum / N) < 5 * ulp * sqrt(share * (1 - share) / N));
        for (int draw = 0; draw < N_DRAWS; draw++) {
            for (int i = 0; i < N_EACH; i++)
                x[i] = value;
            round_in_parts(ops, x, N_EACH, random_mix(1, (uint64_t)draw), 1);
            for (int i = 0; i < N_EACH; i++)
                each[i] += (double)x[i] - value;
        }
        for (int i = 0; i < N_EACH; i++)
            assert_true(fabs(each[i] / N_DRAWS) < 5 * ulp * sqrt(share * (1 - share) / N_DRAWS));
    }
    ops_destroy(&ops);
}

/* Steps of AdamW from 1 towards 1.5 that are an eighth of what bfloat16 can tell apart there. */
static float walk(struct ops *ops, int is_stochastic)
{
    enum { N = 32, N_STEPS = 1500 };
    float w[N], g[N], *device;
    void *memory = NULL;
    double mean = 0;

    assert_int_equal(ops_alloc(ops, 4 * sizeof(w), &memory), 0);
    device = memory;
    struct tensor weight = tensor_1d(device, N), m = tensor_1d(device + N, N);
    struct tensor v = tensor_1d(device + 2 * N, N), gradient = tensor_1d(device + 3 * N, N);
    for (int i = 0; i < N; i++)
        w[i] = 1;
    ops_upload(ops, device, w, sizeof(w));
    for (int64_t step = 1; step <= N_STEPS; step++) {
        struct adamw_step adamw = {.learning_rate = 0x1p-10, .beta1 = 0.9, .beta2 = 0.99,
                                   .epsilon = 1e-8, .gradient_scale = 1, .step = step};
        ops_download(ops, w, device, sizeof(w));
        assert_int_equal(ops_sync(ops), 0);
        for (int i = 0; i < N; i++)
            g[i] = w[i] - 1.5f;
        ops_upload(ops, gradient.data, g, sizeof(g));
        ops_adamw(ops, &weight, &m, &v, &gradient, &adamw);
        if (is_stochastic)
            ops_round_stochastic(ops, &weight, random_mix(2, (uint64_t)step), 0);
        else
            ops_round_bf16(ops, &weight, &weight);
    }
    ops_download(ops, w, device, sizeof(w));
    assert_int_equal(ops_sync(ops), 0);
    for (int i = 0; i < N; i++)
        mean += (double)w[i] / N;
    ops_free(ops, memory);
    return (float)mean;
}

static void small_steps_vanish_by_nearest_and_arrive_by_chance(void **state)
{
    struct ops *ops = open_ops(*state);

    assert_true(walk(ops, 0) == 1);
    assert_true(fabs((double)walk(ops, 1) - 1.5) < 0.02);
    ops_destroy(&ops);
}

#define ON(test, device) {#test " on " device, test, NULL, NULL, (void *)(uintptr_t)(device)}
#define ON_EACH(test)                                                                              \
    ON(test, "reference"), ON(test, "cpu:baseline"), ON(test, "cpu:avx2"), ON(test, "cpu"),        \
        ON(test, "cuda:0"), ON(test, "cuda-emulated:0")

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_EACH(the_random_bits_are_those_of_splitmix64),
        ON_EACH(bits_are_those_of_reference_in_parts_too),
        ON_EACH(a_number_becomes_one_of_its_neighbours),
        ON_EACH(the_mean_is_the_number),
        ON_EACH(small_steps_vanish_by_nearest_and_arrive_by_chance),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
