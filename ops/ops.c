/* Devices, their memory, and views of it. The arithmetic is checked and dispatched in calls.c. */
#include "ops/ops.h"

#include <string.h>

#include "common/memory.h"
#include "common/status.h"
#include "ops/backend.h"

#define ALIGNMENT 64

struct tensor tensor_view(void *data, enum dtype dtype, int n_dims, const int64_t *shape)
{
    struct tensor tensor = {.data = data, .dtype = dtype, .n_dims = n_dims};

    if (n_dims < 1 || n_dims > 4)
        BUG("tensor_view: %d dimensions", n_dims);
    for (int i = 0; i < 4; i++) {
        tensor.shape[i] = i < n_dims ? shape[i] : 1;
        if (tensor.shape[i] < 0)
            BUG("tensor_view: dimension %d is %lld", i, (long long)tensor.shape[i]);
    }
    return tensor;
}

struct tensor tensor_1d(void *data, int64_t a)
{
    return tensor_view(data, DTYPE_F32, 1, (const int64_t[]){a});
}

struct tensor tensor_2d(void *data, int64_t a, int64_t b)
{
    return tensor_view(data, DTYPE_F32, 2, (const int64_t[]){a, b});
}

struct tensor tensor_3d(void *data, int64_t a, int64_t b, int64_t c)
{
    return tensor_view(data, DTYPE_F32, 3, (const int64_t[]){a, b, c});
}

struct tensor tensor_i32(const int32_t *data, int64_t a)
{
    return tensor_view((void *)data, DTYPE_I32, 1, (const int64_t[]){a});
}

int64_t tensor_count(const struct tensor *tensor)
{
    int64_t count = 1;

    for (int i = 0; i < tensor->n_dims; i++)
        count *= tensor->shape[i];
    return count;
}

/* The backend whose name `device` starts with; NULL when there is none in this build. */
static const struct ops_table *find_table(const char *device, const char **variant)
{
    const struct ops_table *const tables[] = {ops_table_cuda, &ops_table_cpu, &ops_table_reference};

    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        if (!tables[i])
            continue;
        size_t n = strlen(tables[i]->name);
        if (strncmp(device, tables[i]->name, n) != 0 || (device[n] != '\0' && device[n] != ':'))
            continue;
        *variant = device[n] ? device + n + 1 : "";
        return tables[i];
    }
    return NULL;
}

int ops_create(struct ops **out, const char *device, int n_threads)
{
    const char *variant = "";

    *out = NULL;
    const struct ops_table *table = find_table(device, &variant);
    if (!table && strncmp(device, "cuda", 4) == 0)
        return status_fail(STATUS_UNSUPPORTED, "device \"%s\": this build has no CUDA; use \"cpu\"",
                           device);
    if (!table)
        return status_fail(STATUS_UNSUPPORTED, "device \"%s\" is unknown; use \"cpu\"", device);
    if (n_threads < 0)
        return status_fail(STATUS_CONFIG, "device \"%s\": %d threads; use 0 for all cores", device,
                           n_threads);
    void *context = NULL;
    TRY(table->open(variant, n_threads, &context));
    struct ops *ops = mem_alloc(1, sizeof(*ops));
    ops->table = table;
    ops->context = context;
    *out = ops;
    return STATUS_OK;
}

void ops_destroy(struct ops **ops)
{
    if (!*ops)
        return;
    (*ops)->table->close((*ops)->context);
    mem_free(*ops);
    *ops = NULL;
}

int ops_sync(struct ops *ops)
{
    return ops->table->sync(ops->context);
}

int ops_is_host(const struct ops *ops)
{
    return ops->table->host_memory;
}

void *ops_side_queue(struct ops *ops)
{
    return ops->table->side_queue ? ops->table->side_queue(ops->context) : NULL;
}

int ops_side_is_idle(struct ops *ops)
{
    return ops->table->side_is_idle ? ops->table->side_is_idle(ops->context) : 1;
}

const char *ops_name(const struct ops *ops)
{
    return ops->table->describe(ops->context);
}

double ops_memory_bytes(const struct ops *ops)
{
    return ops->table->memory_bytes(ops->context);
}

int ops_alloc(struct ops *ops, size_t bytes, void **out)
{
    return ops->table->alloc(ops->context, bytes, out);
}

void ops_free(struct ops *ops, void *memory)
{
    if (memory)
        ops->table->free(ops->context, memory);
}

void ops_upload(struct ops *ops, void *device, const void *host, size_t bytes)
{
    ops->table->upload(ops->context, device, host, bytes);
}

void ops_download(struct ops *ops, void *host, const void *device, size_t bytes)
{
    ops->table->download(ops->context, host, device, bytes);
}

void ops_copy(struct ops *ops, void *to, const void *from, size_t bytes)
{
    ops->table->copy(ops->context, to, from, bytes);
}

void ops_zero(struct ops *ops, void *memory, size_t bytes)
{
    ops->table->zero(ops->context, memory, bytes);
}

/* ---- Shared memory. */

const char *ops_place(const struct ops *ops)
{
    return ops->table->place ? ops->table->place(ops->context) : "";
}

static int refuse_sharing(const struct ops *ops)
{
    return status_fail(STATUS_UNSUPPORTED, "the memory of %s cannot be shared with another process",
                       ops_name(ops));
}

int ops_export(struct ops *ops, void *memory, struct ops_handle *handle)
{
    memset(handle, 0, sizeof(*handle));
    if (!ops->table->export_memory)
        return refuse_sharing(ops);
    return ops->table->export_memory(ops->context, memory, handle);
}

int ops_import(struct ops *ops, const struct ops_handle *handle, void **out)
{
    *out = NULL;
    if (!ops->table->import_memory)
        return refuse_sharing(ops);
    return ops->table->import_memory(ops->context, handle, out);
}

void ops_import_end(struct ops *ops, void *memory)
{
    if (memory)
        ops->table->import_end(ops->context, memory);
}

void ops_checksum(struct ops *ops, const void *memory, size_t bytes, struct checksum *out)
{
    if (bytes % sizeof(uint64_t))
        BUG("ops_checksum of %zu bytes", bytes);
    ops->table->checksum(ops->context, memory, bytes, out);
}

/* ---- Recorded ops. */

int ops_can_record(const struct ops *ops)
{
    return ops->table->record_begin != NULL;
}

void ops_record_begin(struct ops *ops)
{
    ops->table->record_begin(ops->context);
}

int ops_record_end(struct ops *ops, void **recording)
{
    return ops->table->record_end(ops->context, recording);
}

void ops_record_launch(struct ops *ops, void *recording)
{
    ops->table->record_launch(ops->context, recording);
}

void ops_record_free(struct ops *ops, void *recording)
{
    if (recording)
        ops->table->record_free(ops->context, recording);
}

struct tensor ops_arena_carve(struct ops_arena *arena, enum dtype dtype, int n_dims,
                              const int64_t *shape)
{
    struct tensor tensor = tensor_view(NULL, dtype, n_dims, shape);
    size_t size = dtype == DTYPE_BF16 ? 2 : 4;
    size_t bytes = ((size_t)tensor_count(&tensor) * size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;

    if (arena->base) {
        if (bytes > arena->capacity || arena->used > arena->capacity - bytes)
            BUG("ops_arena_carve: %zu bytes at %zu of %zu; measure with base NULL first", bytes,
                arena->used, arena->capacity);
        tensor.data = arena->base + arena->used;
    }
    arena->used += bytes;
    if (arena->used > arena->high_water)
        arena->high_water = arena->used;
    return tensor;
}

struct matrix matrix_rows(const void *data, int64_t M, int64_t C)
{
    return (struct matrix){
        .form = MATRIX_ROWS, .dtype = DTYPE_F32, .M = M, .C = C, .data = (void *)data};
}

size_t ops_matrix_bytes(const struct matrix *matrix)
{
    int64_t rows = (matrix->M + OPS_PANEL - 1) / OPS_PANEL * OPS_PANEL;

    if (matrix->form == MATRIX_ROWS)
        return (size_t)(matrix->M * matrix->C) * sizeof(float);
    if (matrix->dtype == DTYPE_BF16)
        return (size_t)(rows * ((matrix->C + 1) / 2)) * sizeof(uint32_t);
    return (size_t)(rows * matrix->C) * sizeof(float);
}
