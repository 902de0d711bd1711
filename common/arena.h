/*
 * common/arena.h - memory that is given back all at once.
 *
 * Everything that lives for one training step, one request or one test comes from an arena and is
 * dropped by arena_rewind(). Nobody frees piece by piece. An arena grows by whole blocks up to
 * `maximum` bytes, so that a hostile message cannot take more; pointers stay good when it grows.
 */
#ifndef HONE_COMMON_ARENA_H
#define HONE_COMMON_ARENA_H

#include <stddef.h>

struct arena_block;

struct arena {
    struct arena_block *first, *current;
    size_t used;       /* bytes handed out, all blocks */
    size_t maximum;    /* arena_alloc() returns NULL beyond this */
    size_t high_water; /* most ever used */
};

/* Nothing is allocated until the first arena_alloc(). */
void arena_init(struct arena *arena, size_t maximum);
void arena_release(struct arena *arena);

/* Zeroed; NULL when over `maximum` or when count * size overflows; where the machine has no memory
 * left, the process ends as by mem_alloc(). Good until the arena is rewound past it. `align` is a
 * power of two, 64 at most. */
void *arena_alloc(struct arena *arena, size_t count, size_t size, size_t align);

/* A copy of n bytes with a NUL behind them; NULL when full. */
char *arena_copy(struct arena *arena, const void *bytes, size_t n);

/* Drops everything; keeps the blocks. */
void arena_rewind(struct arena *arena);

#define ARENA_NEW(arena, type, count)                                                              \
    ((type *)arena_alloc((arena), (size_t)(count), sizeof(type), _Alignof(type)))

#endif
