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
    *pieces = (struct wire_pieces){0};
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

/* ---- A whole map, by threads that take piece after piece. */

struct hashing {
    struct wire_pieces *pieces;
    const struct file_map *map;
    const uint64_t *offsets;
    atomic_uint next;
};

static void *hash_pieces(void *argument)
{
    struct hashing *hashing = argument;

    for (uint32_t i; (i = atomic_fetch_add(&hashing->next, 1)) < hashing->pieces->n;) {
        size_t n = hashing->pieces->bytes[i];
        file_map_fetch(hashing->map, hashing->offsets[i], n);
        wire_pieces_hash(hashing->pieces, i, hashing->map->bytes + hashing->offsets[i]);
        file_map_forget_part(hashing->map, hashing->offsets[i], n);
    }
    return NULL;
}

void wire_pieces_hash_map(struct wire_pieces *pieces, const struct file_map *map)
{
    uint64_t *offsets = mem_alloc(pieces->n, sizeof(*offsets));
    struct hashing hashing = {pieces, map, offsets, 0};
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
