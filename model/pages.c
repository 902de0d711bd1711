/*
 * Which pages of the cache belong to which slot; they are the same in every layer. A page belongs
 * to one slot, or is free: the prompt of a group is read by all its completions and written by none
 * of them, as each begins on a page of its own.
 */
#include "model/internal.h"

enum { NO_PAGE = -1 };

void page_pool_init(struct page_pool *pool, int32_t n_pages)
{
    pool->next = mem_alloc((size_t)n_pages + 1, sizeof(*pool->next));
    for (int32_t page = 0; page < n_pages; page++)
        pool->next[page] = page + 1 < n_pages ? page + 1 : NO_PAGE;
    pool->first_free = n_pages ? 0 : NO_PAGE;
    pool->n_free = pool->n_pages = n_pages;
}

void page_pool_release(struct page_pool *pool)
{
    mem_free(pool->next);
    pool->next = NULL;
}

int pages_reserve(struct page_pool *pool, struct page_list *list, int64_t n)
{
    if (n - list->n > pool->n_free)
        return 0;
    for (; list->n < n; list->n++) {
        int32_t page = pool->first_free;
        pool->first_free = pool->next[page];
        pool->next[page] = NO_PAGE;
        if (list->n)
            pool->next[list->last] = page;
        else
            list->first = page;
        list->last = page;
        pool->n_free--;
    }
    return 1;
}

void pages_give_back(struct page_pool *pool, struct page_list *list)
{
    if (!list->n)
        return;
    pool->next[list->last] = pool->first_free;
    pool->first_free = list->first;
    pool->n_free += list->n;
    list->n = 0;
}

/* ---- The pages of a batch, each slot's once. */

int32_t pages_show(struct model_cache *cache, struct page_list *list)
{
    if (list->shown_in == cache->n_batches)
        return list->place;
    list->shown_in = cache->n_batches;
    list->place = cache->n_shown;
    for (int32_t i = 0, page = list->first; i < list->n; i++, page = cache->pool.next[page])
        cache->pages[cache->n_shown++] = page;
    return list->place;
}

/* ---- The face. */

static struct page_list *list_of(struct model_cache *cache, int prompt_slot, int sequence_slot)
{
    return sequence_slot == MODEL_PROMPT ? &cache->prompts[prompt_slot]
                                         : &cache->sequences[sequence_slot];
}

int64_t model_cache_pages(int64_t n_tokens)
{
    return (n_tokens + MODEL_PAGE - 1) / MODEL_PAGE;
}

size_t model_cache_page_bytes(const struct model_shape *shape)
{
    const struct kv_cache page = {
        .n_rows = MODEL_PAGE, .K = shape->n_kv_heads, .D = shape->head_dim};

    return ops_cache_bytes(&page) * (size_t)shape->n_layers;
}

int64_t model_cache_free_pages(const struct model_cache *cache)
{
    return cache->pool.n_free;
}

int model_cache_reserve(struct model_cache *cache, int prompt_slot, int sequence_slot,
                        int n_tokens)
{
    return pages_reserve(&cache->pool, list_of(cache, prompt_slot, sequence_slot),
                         model_cache_pages(n_tokens));
}

void model_cache_release(struct model_cache *cache, int prompt_slot, int sequence_slot)
{
    pages_give_back(&cache->pool, list_of(cache, prompt_slot, sequence_slot));
    if (sequence_slot == MODEL_PROMPT)
        cache->prompt_lengths[prompt_slot] = 0;
}
