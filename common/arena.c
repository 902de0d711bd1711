#include "common/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"

#define BLOCK_BYTES ((size_t)256 * 1024)
#define BLOCK_ALIGN ((size_t)64)

struct arena_block {
    struct arena_block *next;
    size_t capacity, used;
};

/* The payload begins at the first aligned byte behind the header. */
#define BLOCK_HEADER ((sizeof(struct arena_block) + BLOCK_ALIGN - 1) / BLOCK_ALIGN * BLOCK_ALIGN)

void arena_init(struct arena *arena, size_t maximum)
{
    memset(arena, 0, sizeof(*arena));
    arena->maximum = maximum;
}

void arena_release(struct arena *arena)
{
    struct arena_block *block = arena->first;

    while (block) {
        struct arena_block *next = block->next;
        free(block);
        block = next;
    }
    arena_init(arena, arena->maximum);
}

static void *take(struct arena_block *block, size_t bytes, size_t align)
{
    size_t start = (block->used + align - 1) / align * align;

    if (start > block->capacity || block->capacity - start < bytes)
        return NULL;
    block->used = start + bytes;
    return (unsigned char *)block + BLOCK_HEADER + start;
}

static void add_block(struct arena *arena, size_t bytes)
{
    size_t capacity = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;
    size_t total = (BLOCK_HEADER + capacity + BLOCK_ALIGN - 1) / BLOCK_ALIGN * BLOCK_ALIGN;
    struct arena_block *block = aligned_alloc(BLOCK_ALIGN, total);

    if (!block)
        mem_refused(1, total);
    block->next = NULL;
    block->capacity = capacity;
    block->used = 0;
    if (arena->current) {
        block->next = arena->current->next;
        arena->current->next = block;
    } else {
        arena->first = block;
    }
    arena->current = block;
}

void *arena_alloc(struct arena *arena, size_t count, size_t size, size_t align)
{
    size_t bytes = count * size;
    void *memory = NULL;

    if (size && count > SIZE_MAX / size)
        return NULL;
    if (bytes > arena->maximum || arena->used > arena->maximum - bytes)
        return NULL;
    if (!arena->current && arena->first)
        arena->current = arena->first;
    while (arena->current && !(memory = take(arena->current, bytes, align)) && arena->current->next)
        arena->current = arena->current->next;
    if (!memory) {
        add_block(arena, bytes);
        memory = take(arena->current, bytes, align);
    }
    arena->used += bytes;
    if (arena->used > arena->high_water)
        arena->high_water = arena->used;
    return memset(memory, 0, bytes);
}

char *arena_copy(struct arena *arena, const void *bytes, size_t n)
{
    char *copy = n < SIZE_MAX ? arena_alloc(arena, n + 1, 1, 1) : NULL;

    if (copy && n)
        memcpy(copy, bytes, n);
    return copy;
}

void arena_rewind(struct arena *arena)
{
    for (struct arena_block *block = arena->first; block; block = block->next)
        block->used = 0;
    arena->current = arena->first;
    arena->used = 0;
}
