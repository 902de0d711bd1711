#include "common/random.h"

#include <math.h>
#include <string.h>

#include "common/status.h"

#define RANDOM_ITEM_BYTES 256

void random_philox(const uint32_t key[2], const uint32_t counter[4], uint32_t out[4])
{
    uint32_t k0 = key[0], k1 = key[1];
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];

    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0;
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        uint32_t n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

static double to_unit(uint32_t high, uint32_t low)
{
    uint64_t bits = ((uint64_t)high << 32 | low) >> 11;

    return (double)bits * 0x1.0p-53;
}

double random_uniform(uint64_t seed, uint64_t task, uint32_t sample, uint32_t position)
{
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t counter[4] = {position, sample, (uint32_t)task, (uint32_t)(task >> 32)};
    uint32_t out[4];

    random_philox(key, counter, out);
    return to_unit(out[0], out[1]);
}

uint64_t random_mix(uint64_t a, uint64_t b)
{
    uint32_t key[2] = {(uint32_t)a, (uint32_t)(a >> 32)};
    uint32_t counter[4] = {(uint32_t)b, (uint32_t)(b >> 32), 0x686F6E65u, 1};
    uint32_t out[4];

    random_philox(key, counter, out);
    return (uint64_t)out[0] << 32 | out[1];
}

uint64_t random_next(struct random_stream *stream)
{
    uint32_t key[2] = {(uint32_t)stream->seed, (uint32_t)(stream->seed >> 32)};
    uint64_t position = stream->position++;
    uint32_t counter[4] = {(uint32_t)position, (uint32_t)(position >> 32), 0x73747265u, 2};
    uint32_t out[4];

    random_philox(key, counter, out);
    return (uint64_t)out[0] << 32 | out[1];
}

uint64_t random_below(struct random_stream *stream, uint64_t n)
{
    /* The high half of a 64x64 product; numbers in the short last interval are drawn again. */
    uint64_t threshold = (0 - n) % n;

    for (;;) {
        unsigned __int128 product = (unsigned __int128)random_next(stream) * n;
        if ((uint64_t)product >= threshold)
            return (uint64_t)(product >> 64);
    }
}

void random_shuffle(uint64_t seed, void *items, size_t n, size_t size)
{
    struct random_stream stream = {.seed = seed};
    unsigned char held[RANDOM_ITEM_BYTES], *bytes = items;

    if (size > sizeof(held))
        BUG("random_shuffle: items of %zu bytes", size);
    for (size_t i = n; i > 1; i--) {
        unsigned char *last = bytes + (i - 1) * size;
        unsigned char *other = bytes + (size_t)random_below(&stream, i) * size;
        memcpy(held, last, size);
        memmove(last, other, size);
        memcpy(other, held, size);
    }
}

double random_real(struct random_stream *stream)
{
    uint64_t bits = random_next(stream);

    return to_unit((uint32_t)(bits >> 32), (uint32_t)bits);
}

double random_normal(struct random_stream *stream)
{
    /* Box and Muller; the second number is not kept, so that the state stays two integers. */
    double radius = sqrt(-2.0 * log(1.0 - random_real(stream)));

    return radius * cos(6.283185307179586 * random_real(stream));
}
