/* An image of weights is a row of pieces: what both ends know of them. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/cores.h"
#include "common/status.h"
#include "wire/internal.h"

#define MAX_THREADS 7   /* beside the one that calls */

int wire_pieces_begin(struct wire_pieces *pieces, const uint32_t *bytes, uint32_t n)
{
    *pieces = (struct wire_pieces){0};
    for (uint32_t i = 0; i < n; i++)
        if (!bytes[i] || bytes[i] > WIRE_PIECE_BYTES)
            return status_fail(STATUS_FORMAT, "piece %u of the weights has %u bytes: wanted 1 to "
                               "%zu", i, bytes[i], WIRE_PIECE_BYTES);
    if (!n || n > WIRE_MAX_PIECES)
        return status_fail(STATUS_FORMAT, "weights of %u pieces: wanted 1 to %u", n,
                           WIRE_MAX_PIECES);
    pieces->bytes = mem_alloc(n, sizeof(*pieces->bytes));
    pieces->digests = mem_alloc(n, sizeof(*pieces->digests));
    pieces->sums = mem_alloc(n, sizeof(*pieces->sums));
    pieces->n = n;
    memcpy(pieces->bytes, bytes, n * sizeof(*bytes));
    for (uint32_t i = 0; i < n; i++)
        pieces->total += bytes[i];
    return STATUS_OK;
}

void wire_pieces_release(struct wire_pieces *pieces)
{
    mem_free(pieces->bytes);
    mem_free(pieces->digests);
    mem_free(pieces->sums);
    *pieces = (struct wire_pieces){0};
}

void wire_pieces_copy(struct wire_pieces *to, const struct wire_pieces *from)
{
    uint32_t n = from->n;

    *to = (struct wire_pieces){.n = n, .total = from->total};
    to->bytes = mem_alloc(n, sizeof(*to->bytes));
    to->digests = mem_alloc(n, sizeof(*to->digests));
    to->sums = mem_alloc(n, sizeof(*to->sums));
    if (n) {
        memcpy(to->bytes, from->bytes, n * sizeof(*to->bytes));
        memcpy(to->digests, from->digests, n * sizeof(*to->digests));
        memcpy(to->sums, from->sums, n * sizeof(*to->sums));
    }
}

int wire_pieces_are_alike(const struct wire_pieces *one, const struct wire_pieces *other)
{
    return one->n == other->n &&
           (!one->n || memcmp(one->bytes, other->bytes, one->n * sizeof(*one->bytes)) == 0);
}

void wire_pieces_digest(const struct wire_pieces *pieces, struct digest *digest)
{
    struct digest_state *state = digest_begin();

    for (uint32_t i = 0; i < pieces->n; i++) {
        uint32_t n = pieces->bytes[i];
        const unsigned char bytes[4] = {(unsigned char)n, (unsigned char)(n >> 8),
                                        (unsigned char)(n >> 16), (unsigned char)(n >> 24)};
        digest_add(state, bytes, sizeof(bytes));
        digest_add(state, pieces->digests[i].bytes, sizeof(pieces->digests[i].bytes));
    }
    digest_end(state, digest);
}

void wire_pieces_hash(struct wire_pieces *pieces, uint32_t piece, const void *bytes)
{
    digest_of(&pieces->digests[piece], bytes, pieces->bytes[piece]);
}

/* ---- What finds damage. */

#define GOLDEN 0x9e3779b97f4a7c15u   /* 2^64 over the golden ratio */

static void add_pair(__uint128_t *sum, const unsigned char bytes[16], uint64_t *key)
{
    uint64_t first, second;

    memcpy(&first, bytes, sizeof(first));
    memcpy(&second, bytes + 8, sizeof(second));
    first += *key += GOLDEN;
    second += *key += GOLDEN;
    *sum += (__uint128_t)first * second;
}

static struct wire_sum sum_of(const unsigned char *bytes, size_t n)
{
    unsigned char rest[16] = {0};
    __uint128_t sum = 0;
    uint64_t key = 0;
    size_t i;

    for (i = 0; i + 16 <= n; i += 16)
        add_pair(&sum, bytes + i, &key);
    memcpy(rest, bytes + i, n - i);
    if (i < n)
        add_pair(&sum, rest, &key);
    return (struct wire_sum){(uint64_t)sum, (uint64_t)(sum >> 64)};
}

static int is_same_sum(const struct wire_sum *one, const struct wire_sum *other)
{
    return one->low == other->low && one->high == other->high;
}

int wire_pieces_check(const struct wire_pieces *pieces, uint32_t piece, const void *bytes)
{
    struct wire_sum sum = sum_of(bytes, pieces->bytes[piece]);

    return is_same_sum(&sum, &pieces->sums[piece]);
}

/* ---- A whole map, by threads that take piece after piece. */

struct hashing {
    struct wire_pieces *pieces;
    const struct wire_pieces *before;
    const struct file_map *map;
    const uint64_t *offsets;
    atomic_uint next;
};

static void mark_piece(const struct hashing *hashing, uint32_t piece, const unsigned char *bytes)
{
    struct wire_pieces *pieces = hashing->pieces;
    const struct wire_pieces *before = hashing->before;

    pieces->sums[piece] = sum_of(bytes, pieces->bytes[piece]);
    if (before && is_same_sum(&before->sums[piece], &pieces->sums[piece]))
        pieces->digests[piece] = before->digests[piece];
    else
        wire_pieces_hash(pieces, piece, bytes);
}

static void *hash_pieces(void *argument)
{
    struct hashing *hashing = argument;

    for (uint32_t i; (i = atomic_fetch_add(&hashing->next, 1)) < hashing->pieces->n;) {
        size_t n = hashing->pieces->bytes[i];
        file_map_fetch(hashing->map, hashing->offsets[i], n);
        mark_piece(hashing, i, hashing->map->bytes + hashing->offsets[i]);
        file_map_forget_part(hashing->map, hashing->offsets[i], n);
    }
    return NULL;
}

void wire_pieces_hash_map(struct wire_pieces *pieces, const struct file_map *map,
                          const struct wire_pieces *before)
{
    uint64_t *offsets = mem_alloc(pieces->n, sizeof(*offsets));
    struct hashing hashing = {pieces, before, map, offsets, 0};
    pthread_t threads[MAX_THREADS];
    int n_cores = cores_usable(), n = 0;

    for (uint32_t i = 1; i < pieces->n; i++)
        offsets[i] = offsets[i - 1] + pieces->bytes[i - 1];
    while (n < MAX_THREADS && n < n_cores - 1 && (uint32_t)n + 1 < pieces->n &&
           !pthread_create(&threads[n], NULL, hash_pieces, &hashing))
        n++;
    hash_pieces(&hashing);   /* what no thread could be had for is done here */
    while (n > 0)
        pthread_join(threads[--n], NULL);
    mem_free(offsets);
}

/* A kernel's boot: another machine has another one, and so has this one later. */
const char *wire_host_id(char out[WIRE_NAME_BYTES * 2])
{
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");

    out[0] = '\0';
    if (file && !fgets(out, WIRE_NAME_BYTES * 2, file))
        out[0] = '\0';
    if (file)
        fclose(file);
    out[strcspn(out, "\n")] = '\0';
    return out;
}
