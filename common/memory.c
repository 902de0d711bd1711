#include "common/memory.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/status.h"

#define TEXT_MAXIMUM ((size_t)1 << 30)

void mem_refused(size_t count, size_t size)
{
    fprintf(stderr, "hone: out of memory: %zu items of %zu bytes\n", count, size);
    _exit(status_exit_code(STATUS_NOMEM));
}

void *mem_alloc(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size ? size : 1);

    if (!memory)
        mem_refused(count, size);
    return memory;
}

void *mem_resize(void *memory, size_t count, size_t size)
{
    if (size && count > SIZE_MAX / size)
        mem_refused(count, size);
    void *larger = realloc(memory, count && size ? count * size : 1);
    if (!larger)
        mem_refused(count, size);
    return larger;
}

char *mem_copy_text(const char *text)
{
    if (!text)
        return NULL;
    size_t n = strlen(text) + 1;
    return memcpy(mem_alloc(n, 1), text, n);
}

void mem_free(void *memory)
{
    free(memory);
}

/* Makes room for n more bytes and the NUL; 0 when that is over the maximum. */
static int make_room(struct text *text, size_t n)
{
    size_t maximum = text->maximum ? text->maximum : TEXT_MAXIMUM;

    if (text->failed || n > maximum || text->length > maximum - n) {
        text->failed = 1;
        return 0;
    }
    size_t need = text->length + n + 1;
    if (need > text->capacity) {
        size_t capacity = text->capacity ? text->capacity : 64;
        while (capacity < need)
            capacity *= 2;
        text->data = mem_resize(text->data, capacity, 1);
        text->capacity = capacity;
    }
    return 1;
}

void text_append(struct text *text, const void *bytes, size_t n)
{
    if (!make_room(text, n))
        return;
    if (n)
        memcpy(text->data + text->length, bytes, n);
    text->length += n;
    text->data[text->length] = '\0';
}

void text_print(struct text *text, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    int n = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (n < 0) {
        text->failed = 1;
        return;
    }
    if (!make_room(text, (size_t)n))
        return;
    va_start(arguments, format);
    vsnprintf(text->data + text->length, (size_t)n + 1, format, arguments);
    va_end(arguments);
    text->length += (size_t)n;
}

void text_clear(struct text *text)
{
    text->length = 0;
    text->failed = 0;
    if (text->data)
        text->data[0] = '\0';
}

void text_release(struct text *text)
{
    free(text->data);
    memset(text, 0, sizeof(*text));
}
