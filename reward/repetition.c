#include <stdint.h>
#include <string.h>

#include "common/memory.h"
#include "reward/reward.h"

#define GRAM_BYTES 10
#define MAX_BYTES ((size_t)4 << 20)   /* of a longer text, the first part is measured */

/* Never 0, which marks a free place. */
static uint64_t hash_gram(const char *at)
{
    uint64_t head;
    uint16_t tail;

    memcpy(&head, at, sizeof(head));
    memcpy(&tail, at + sizeof(head), sizeof(tail));
    uint64_t hash = (head ^ (uint64_t)tail * 0x9E3779B97F4A7C15u) * 0xBF58476D1CE4E5B9u;
    hash ^= hash >> 29;
    hash *= 0x94D049BB133111EBu;
    hash ^= hash >> 32;
    return hash ? hash : 1;
}

double reward_repetition_share(const char *text, size_t n)
{
    size_t n_places = 64, n_repeated = 0;

    if (n > MAX_BYTES)
        n = MAX_BYTES;
    if (n <= GRAM_BYTES)
        return 0;
    size_t n_grams = n - GRAM_BYTES + 1;
    while (n_places < 2 * n_grams)
        n_places *= 2;
    uint64_t *places = mem_alloc(n_places, sizeof(*places));
    for (size_t i = 0; i < n_grams; i++) {
        uint64_t hash = hash_gram(text + i);
        size_t place = hash & (n_places - 1);
        while (places[place] && places[place] != hash)
            place = (place + 1) & (n_places - 1);
        n_repeated += places[place] == hash;
        places[place] = hash;
    }
    mem_free(places);
    return (double)n_repeated / (double)n_grams;
}
