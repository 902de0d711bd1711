#include <string.h>

#include "reward/internal.h"

#define WAYS 4   /* places that a key may take */

struct cache_entry {
    struct digest key;
    struct score score;
    uint64_t used_at;   /* 0: free */
};

struct verdict_cache {
    struct cache_entry *entries;
    size_t n_sets;
    uint64_t now;
};

struct verdict_cache *cache_create(size_t n_entries)
{
    struct verdict_cache *cache = mem_alloc(1, sizeof(*cache));

    cache->n_sets = n_entries / WAYS ? n_entries / WAYS : 1;
    cache->entries = mem_alloc(cache->n_sets * WAYS, sizeof(*cache->entries));
    return cache;
}

void cache_destroy(struct verdict_cache **cache)
{
    if (!*cache)
        return;
    mem_free((*cache)->entries);
    mem_free(*cache);
    *cache = NULL;
}

static struct cache_entry *find_set(struct verdict_cache *cache, const struct digest *key)
{
    uint64_t hash;

    memcpy(&hash, key->bytes, sizeof(hash));
    return &cache->entries[hash % cache->n_sets * WAYS];
}

int cache_find(struct verdict_cache *cache, const struct digest *key, struct score *out)
{
    struct cache_entry *set = find_set(cache, key);

    for (int i = 0; i < WAYS; i++)
        if (set[i].used_at && memcmp(&set[i].key, key, sizeof(*key)) == 0) {
            set[i].used_at = ++cache->now;
            *out = set[i].score;
            return 1;
        }
    return 0;
}

void cache_put(struct verdict_cache *cache, const struct digest *key, const struct score *score)
{
    struct cache_entry *set = find_set(cache, key), *oldest = set;

    for (int i = 1; i < WAYS; i++)
        if (set[i].used_at < oldest->used_at)
            oldest = &set[i];
    *oldest = (struct cache_entry){.key = *key, .score = *score, .used_at = ++cache->now};
}
