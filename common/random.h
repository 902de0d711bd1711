/*
 * common/random.h - random numbers that depend on their position alone.
 *
 * Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a number
 * is a function of (key, counter), so that a sample's stream is the same on any worker, in any
 * order, after any restart.
 */
#ifndef HONE_COMMON_RANDOM_H
#define HONE_COMMON_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* The 128 random bits of (key, counter). */
void random_philox(const uint32_t key[2], const uint32_t counter[4], uint32_t out[4]);

/* Uniform in [0, 1) with 53 bits, a function of the four arguments alone. The convention for a
 * sampled token: (run seed, task id, sample index, position in the completion). */
double random_uniform(uint64_t seed, uint64_t task, uint32_t sample, uint32_t position);

/* A mixed 64-bit hash of two numbers: to derive one seed from another. */
uint64_t random_mix(uint64_t a, uint64_t b);

/* A stream for code that wants numbers one after another. Its state is two integers. */
struct random_stream {
    uint64_t seed;
    uint64_t position;
};
uint64_t random_next(struct random_stream *stream);
uint64_t random_below(struct random_stream *stream, uint64_t n);  /* uniform in 0 .. n-1; n > 0 */
/* Fisher and Yates on n items of `size` bytes each, 256 at most: a function of the seed. */
void random_shuffle(uint64_t seed, void *items, size_t n, size_t size);
double random_real(struct random_stream *stream);                 /* uniform in [0, 1) */
double random_normal(struct random_stream *stream);               /* mean 0, variance 1 */

#endif
