/* The emulation itself: what it promises in ops/cuda/emulation/device.h. Expected values are
 * written from the PTX manual, not from the emulation. */
extern "C" {
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
}

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "device.h"

#define ALL 0xffffffffu

static void *device_memory(size_t bytes)
{
    void *memory = nullptr;

    assert_int_equal(cudaMalloc(&memory, bytes), cudaSuccess);
    return memory;
}

template <typename T> static void fetch(T *host, const void *device, size_t n)
{
    assert_int_equal(cudaMemcpyAsync(host, device, n * sizeof(T), cudaMemcpyDeviceToHost, nullptr),
                     cudaSuccess);
}

/* What body() writes to stderr. */
template <typename F> static void capture(char *text, size_t size, F body)
{
    FILE *file = tmpfile();
    int kept = dup(2);

    fflush(stderr);
    dup2(fileno(file), 2);
    body();
    fflush(stderr);
    dup2(kept, 2);
    close(kept);
    rewind(file);
    text[fread(text, 1, size - 1, file)] = '\0';
    fclose(file);
}

/* 1 when body() ends its process. */
template <typename F> static int kills(F body)
{
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr))
            _exit(0);
        signal(SIGSEGV, SIG_DFL);
        signal(SIGBUS, SIG_DFL);
        body();
        _exit(0);
    }
    waitpid(child, &status, 0);
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

static __global__ void stop_in_the_middle(int *out)
{
    if (threadIdx.x < 40)
        __syncthreads();
    out[threadIdx.x] = 1;
}

static __global__ void stop_at_two_places(int *out)
{
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads();
    out[threadIdx.x] = 1;
}

static __global__ void leave_a_lane_out(int *out)
{
    if (threadIdx.x != 5)
        out[threadIdx.x] = __shfl_xor_sync(ALL, 1, 1);
}

static __global__ void read_outside_the_mask(int *out)
{
    if (threadIdx.x < 16)
        out[threadIdx.x] = __shfl_sync(0xffffu, 1, 20);
}

static void expect_failure(void (*kernel)(int *), const char *name, const char *words)
{
    char text[512];
    int *out = (int *)device_memory(64 * sizeof(int));

    capture(text, sizeof(text), [&] { LAUNCH(kernel, 1, 64, nullptr, out); });
    if (!strstr(text, words) || strchr(text, '\n') != text + strlen(text) - 1)
        fail_msg("%s: \"%s\" is not one line with \"%s\"", name, text, words);
    assert_int_equal(cudaGetLastError(), cudaErrorLaunchFailure);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
    cudaFree(out);
}

static void threads_that_part_at_a_barrier_are_reported(void **)
{
    expect_failure(stop_in_the_middle, "ended", "divergent barrier");
    expect_failure(stop_at_two_places, "two places", "divergent barrier");
    expect_failure(leave_a_lane_out, "lane", "divergent exchange");
    expect_failure(read_outside_the_mask, "mask", "not in mask");
}

struct shuffles {
    int any[32], up[32], down[32], turned[32];
};

static __global__ void shuffle_all(struct shuffles *out, int by, int width)
{
    int lane = (int)threadIdx.x, value = 100 + lane;

    out->any[lane] = __shfl_sync(ALL, value, by, width);
    out->up[lane] = __shfl_up_sync(ALL, value, (unsigned)by, width);
    out->down[lane] = __shfl_down_sync(ALL, value, (unsigned)by, width);
    out->turned[lane] = __shfl_xor_sync(ALL, value, by, width);
}

/* shfl of the PTX manual: segment and clamp as CUDA passes them; the lane that is read. */
static int ptx_source(char mode, int lane, int b, int width)
{
    int clamp = mode == 'u' ? 0 : 31, segment = 32 - width;
    int max_lane = (lane & segment) | (clamp & ~segment), min_lane = lane & segment;
    int j = mode == 'u' ? lane - b : mode == 'd' ? lane + b
            : mode == 'b' ? lane ^ b : min_lane | (b & ~segment);
    int inside = mode == 'u' ? j >= max_lane : j <= max_lane;

    return inside ? j : lane;
}

static void shuffles_read_the_lanes_that_ptx_says(void **)
{
    void *out = device_memory(sizeof(struct shuffles));
    struct shuffles got;

    for (int width = 1; width <= 32; width *= 2)
        for (int by = 0; by < 32; by++) {
            LAUNCH(shuffle_all, 1, 32, nullptr, (struct shuffles *)out, by, width);
            fetch(&got, out, 1);
            for (int lane = 0; lane < 32; lane++) {
                assert_int_equal(got.any[lane], 100 + ptx_source('i', lane, by, width));
                assert_int_equal(got.up[lane], 100 + ptx_source('u', lane, by, width));
                assert_int_equal(got.down[lane], 100 + ptx_source('d', lane, by, width));
                assert_int_equal(got.turned[lane], 100 + ptx_source('b', lane, by, width));
            }
        }
    cudaFree(out);
}

static __global__ void vote(unsigned *out)
{
    int lane = (int)threadIdx.x;

    if (lane < 16)
        out[lane] = __ballot_sync(0xffffu, lane % 3 == 0);
    else
        out[lane] = __ballot_sync(0xffff0000u, lane == 20);
    out[32 + lane] = (unsigned)(__any_sync(ALL, lane == 7) + 2 * __all_sync(ALL, lane < 32) +
                                4 * __all_sync(ALL, lane != 7));
    out[64 + lane] = (unsigned)__reduce_add_sync(ALL, lane);
}

static void votes_count_the_lanes_of_the_mask(void **)
{
    void *out = device_memory(96 * sizeof(unsigned));
    unsigned got[96];

    LAUNCH(vote, 1, 32, nullptr, (unsigned *)out);
    fetch(got, out, 96);
    for (int lane = 0; lane < 32; lane++) {
        assert_int_equal(got[lane], lane < 16 ? 0x9249u : 1u << 20);
        assert_int_equal(got[32 + lane], 3);
        assert_int_equal(got[64 + lane], 496);
    }
    cudaFree(out);
}

/* a[16][16], b[16][8] of bfloat16 bits to d[16][8], by the fragments of mma.m16n8k16. */
static __global__ void multiply(float *d, const uint16_t *a, const uint16_t *b)
{
    int group = (int)threadIdx.x >> 2, in_group = (int)threadIdx.x % 4;
    unsigned of_a[4], of_b[2];
    float of_d[4];

    for (int i = 0; i < 8; i++) {
        int row = i < 2 || (i >= 4 && i < 6) ? group : group + 8;
        int column = in_group * 2 + (i & 1) + (i < 4 ? 0 : 8);
        uint16_t bits = a[row * 16 + column];
        of_a[i / 2] = i % 2 ? of_a[i / 2] | (unsigned)bits << 16 : bits;
    }
    for (int i = 0; i < 4; i++) {
        int row = in_group * 2 + (i & 1) + (i < 2 ? 0 : 8);
        uint16_t bits = b[row * 8 + group];
        of_b[i / 2] = i % 2 ? of_b[i / 2] | (unsigned)bits << 16 : bits;
    }
    for (int i = 0; i < 4; i++)
        of_d[i] = d[(i < 2 ? group : group + 8) * 8 + in_group * 2 + (i & 1)];
    mma_m16n8k16_bf16(of_d, of_a, of_b);
    for (int i = 0; i < 4; i++)
        d[(i < 2 ? group : group + 8) * 8 + in_group * 2 + (i & 1)] = of_d[i];
}

static void a_tensor_core_multiplies_the_fragments_of_the_manual(void **)
{
    uint16_t a[16 * 16], b[16 * 8];
    float d[16 * 8], got[16 * 8];
    void *on[3] = {device_memory(sizeof(d)), device_memory(sizeof(a)), device_memory(sizeof(b))};

    /* Small integers: every sum is exact in any order. */
    for (int i = 0; i < 256; i++)
        a[i] = (uint16_t)(__float_as_uint((float)(i * 7 % 23 - 11)) >> 16);
    for (int i = 0; i < 128; i++) {
        b[i] = (uint16_t)(__float_as_uint((float)(i * 5 % 19 - 9)) >> 16);
        d[i] = (float)i;
    }
    cudaMemcpyAsync(on[0], d, sizeof(d), cudaMemcpyHostToDevice, nullptr);
    cudaMemcpyAsync(on[1], a, sizeof(a), cudaMemcpyHostToDevice, nullptr);
    cudaMemcpyAsync(on[2], b, sizeof(b), cudaMemcpyHostToDevice, nullptr);
    LAUNCH(multiply, 1, 32, nullptr, (float *)on[0], (const uint16_t *)on[1],
           (const uint16_t *)on[2]);
    fetch(got, on[0], 128);
    for (int i = 0; i < 128; i++) {
        float want = d[i];
        for (int k = 0; k < 16; k++)
            want += (float)(((i / 8 * 16 + k) * 7 % 23) - 11) * (float)((k * 8 + i % 8) * 5 % 19 - 9);
        assert_true(got[i] == want);
    }
    for (void *memory : on)
        cudaFree(memory);
}

static __global__ void load_turned(unsigned *out)
{
    SHARED(uint16_t, tile, [4][8][8]);
    unsigned r[4];

    for (int i = (int)threadIdx.x; i < 256; i += 32)
        tile[i / 64][i / 8 % 8][i % 8] = (uint16_t)i;
    __syncwarp();
    ldmatrix_x4_trans(r, &tile[threadIdx.x / 8][threadIdx.x % 8][0]);
    for (int m = 0; m < 4; m++)
        out[m * 32 + threadIdx.x] = r[m];
}

static void a_turned_matrix_is_loaded_by_columns(void **)
{
    void *out = device_memory(128 * sizeof(unsigned));
    unsigned got[128];

    LAUNCH(load_turned, 1, 32, nullptr, (unsigned *)out);
    fetch(got, out, 128);
    for (unsigned m = 0; m < 4; m++)
        for (unsigned lane = 0; lane < 32; lane++) {
            unsigned row = lane % 4 * 2, column = lane / 4;
            unsigned low = m * 64 + row * 8 + column, high = m * 64 + (row + 1) * 8 + column;
            assert_int_equal(got[m * 32 + lane], low | high << 16);
        }
    cudaFree(out);
}

static __global__ void read_unwritten(float *out)
{
    SHARED(float, room, [32]);

    out[blockIdx.x] = room[7];
    room[7] = 1;
}

static void memory_is_nan_before_it_is_written(void **)
{
    void *out = device_memory(4 * sizeof(float));
    float got[4];

    fetch(got, out, 4);
    assert_true(isnan(got[0]) && isnan(got[3]));
    /* Anew for every block: what one wrote the next does not see. */
    LAUNCH(read_unwritten, 2, 1, nullptr, (float *)out);
    fetch(got, out, 2);
    assert_true(isnan(got[0]) && isnan(got[1]));
    cudaFree(out);
}

static __global__ void write_shared(int index)
{
    SHARED(float, room, [64]);
    volatile float *at = room;

    at[index] = 1;
}

static __global__ void write_device(float *out, int index)
{
    volatile float *at = out;
    at[index] = 1;
}

static __global__ void take_too_much(float value)
{
    SHARED(float, room, [13000]);
    room[0] = value;
}

static void accesses_out_of_range_are_found(void **)
{
    float *out = (float *)device_memory(64 * sizeof(float)), on_host = 0;
    char text[256];

    assert_false(kills([] { LAUNCH(write_shared, 1, 1, nullptr, 63); }));
    assert_true(kills([] { LAUNCH(write_shared, 1, 1, nullptr, 64); }));
    assert_false(kills([&] { LAUNCH(write_device, 1, 1, nullptr, out, 63); }));
    assert_true(kills([&] { LAUNCH(write_device, 1, 1, nullptr, out, 64); }));
    /* Neither side may touch the other's memory. */
    assert_true(kills([&] { *(volatile float *)out = 1; }));
    capture(text, sizeof(text), [&] { LAUNCH(write_device, 1, 1, nullptr, &on_host, 0); });
    assert_non_null(strstr(text, "no device memory"));
    assert_int_equal(cudaGetLastError(), cudaErrorLaunchFailure);
    assert_int_equal(cudaMemcpyAsync(out, &on_host, 65 * sizeof(float), cudaMemcpyHostToDevice,
                                     nullptr), cudaErrorInvalidValue);
    capture(text, sizeof(text), [] { LAUNCH(take_too_much, 1, 1, nullptr, 1.0f); });
    assert_non_null(strstr(text, "bytes of shared memory"));
    assert_int_equal(cudaGetLastError(), cudaErrorLaunchFailure);
    cudaFree(out);
}

static __global__ void count_up(int *out)
{
    atomicAdd(&out[0], 1);
    atomicMax(&out[1], (int)(threadIdx.x + 10 * blockIdx.x));
    atomicOr(&out[2], 1 << threadIdx.x % 8);
    atomicCAS(&out[3], 0, 5);
}

static void atomics_see_every_thread(void **)
{
    void *out = device_memory(4 * sizeof(int));
    int got[4];

    cudaMemsetAsync(out, 0, sizeof(got), nullptr);
    LAUNCH(count_up, dim3(2, 3), dim3(8, 4), nullptr, (int *)out);
    fetch(got, out, 4);
    assert_int_equal(got[0], 192);
    assert_int_equal(got[1], 17);
    assert_int_equal(got[2], 255);
    assert_int_equal(got[3], 5);
    cudaFree(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_that_part_at_a_barrier_are_reported),
        cmocka_unit_test(shuffles_read_the_lanes_that_ptx_says),
        cmocka_unit_test(votes_count_the_lanes_of_the_mask),
        cmocka_unit_test(a_tensor_core_multiplies_the_fragments_of_the_manual),
        cmocka_unit_test(a_turned_matrix_is_loaded_by_columns),
        cmocka_unit_test(memory_is_nan_before_it_is_written),
        cmocka_unit_test(accesses_out_of_range_are_found),
        cmocka_unit_test(atomics_see_every_thread),
    };

    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
