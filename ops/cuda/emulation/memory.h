/* ops/cuda/emulation/memory.h - guarded, poisoned memory. Private to the emulation. */
#ifndef HONE_OPS_CUDA_EMULATION_MEMORY_H
#define HONE_OPS_CUDA_EMULATION_MEMORY_H

#include "ops/cuda/emulation/device.h"

#define MEMORY_POISON 0xff   /* NaN as float and as bfloat16, -1 as an integer */

/* Poisoned bytes that end at a page which cannot be read; NULL without memory. */
void *memory_map(size_t bytes, void **pages, size_t *page_bytes);
void memory_unmap(void *pages, size_t page_bytes);
void memory_forget(void *at, size_t bytes);   /* what ASan knows of it */

void memory_open(void);    /* device memory to kernels and copies */
void memory_close(void);
bool memory_is_device(const void *at, size_t bytes);
void memory_set_error(cudaError_t error);

#endif
