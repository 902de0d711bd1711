/*
 * common/memory.h - small host memory, and text that grows up to a limit.
 *
 * mem_alloc() is for small things whose absence nobody can handle: it ends the process with one
 * line and the exit code of STATUS_NOMEM. Big memory (weights, activations, caches) is asked for
 * with a status instead.
 */
#ifndef HONE_COMMON_MEMORY_H
#define HONE_COMMON_MEMORY_H

#include <stddef.h>

void *mem_alloc(size_t count, size_t size);                 /* zeroed; never NULL */
void *mem_resize(void *memory, size_t count, size_t size);  /* like reallocarray; never NULL */
char *mem_copy_text(const char *text);                      /* strdup; NULL stays NULL */
void mem_free(void *memory);
/* For what else asks for small memory and did not get it: that end of the process. */
__attribute__((noreturn)) void mem_refused(size_t count, size_t size);

/* Bytes that grow, always with a NUL behind them. `maximum` 0 means 1 GiB. Once over the maximum,
 * or when a print fails, `failed` is set and later appends do nothing: check it once at the end. */
struct text {
    char *data;
    size_t length, capacity, maximum;
    int failed;
};

void text_append(struct text *text, const void *bytes, size_t n);
void text_print(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_clear(struct text *text);    /* keeps the memory */
void text_release(struct text *text);  /* frees; the struct is as new */

#endif
