/* ops/cuda/emulation/memory.h - guarded, poisoned memory. Private to the emulation. */
#ifndef HONE_OPS_CUDA_EMULATION_MEMORY_H
#define HONE_OPS_CUDA_EMULATION_MEMORY_H

#include "ops/cuda/emulation/device.h"

#define MEMORY_POISON 0xff   /* NaN as float and as bfloat16, -1 as an integer */

/* Poisoned bytes that end at a page which cannot be read; NULL without memory. */
void *memory_map(size_t bytes, void **pages, size_t *page_bytes);
void memory_unmap(void *pages, size_t page_bytes);
void memory_forget(void *at, size_t bytes);   /* what ASan knows of it */

/* One allocation; its pages have a guard on either side. */
struct allocation {
    char *pages;          /* guards included */
    size_t page_bytes;
    char *data;
    size_t bytes;
    int fd;               /* of the file that others map; -1: none */
    bool is_imported;
};
struct allocation *memory_find(const void *data);   /* NULL: none starts there */
bool memory_add(const struct allocation *allocation);
void memory_remove(struct allocation *allocation);

void memory_open(void);    /* device memory to kernels and copies */
void memory_close(void);
bool memory_is_device(const void *at, size_t bytes);
void memory_set_error(cudaError_t error);

/* record.cc */
bool record_copy(void *to, const void *from, size_t bytes);   /* false: nothing is recorded */
bool record_memset(void *memory, int value, size_t bytes);
bool record_spoil(void);   /* true, and the capture is lost, when one is under way */

#endif
