/*
 *   0      8 bytes   H, the length of the header, little-endian
 *   8      H bytes   JSON: {"name": {"dtype", "shape", "data_offsets": [from, to]}, ...}, blanks
 *   8 + H            the bytes of the tensors; offsets count from here
 *
 * The rules are those of the Hugging Face library: offsets cover the data part without gap or
 * overlap, and each range is as long as its dtype and shape say.
 */
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/status.h"
#include "model/internal.h"

#define MAX_HEADER_BYTES ((uint64_t)100 << 20)
#define MAX_DIMS 8
#define DEFAULT_TEXT_BYTES ((uint64_t)1 << 30)   /* of struct text with maximum 0 */

struct entry {
    const char *name;    /* borrowed from the header */
    const char *dtype;   /* "F32" */
    int n_dims;
    int64_t shape[MAX_DIMS];
    uint64_t from, to;
};

struct safetensors {
    char *where;
    json_t *header;
    const unsigned char *data;
    struct entry *entries;   /* by name */
    size_t n_entries;
};

static const struct {
    const char *name;
    uint64_t bytes;
} dtypes[] = {
    {"F32", 4}, {"I32", 4}, {"BF16", 2}, {"F16", 2}, {"F64", 8}, {"I64", 8}, {"U64", 8},
    {"U32", 4}, {"I16", 2}, {"U16", 2}, {"I8", 1}, {"U8", 1}, {"BOOL", 1}, {"F8_E4M3", 1},
    {"F8_E5M2", 1},
};

static uint64_t dtype_bytes(const char *name)
{
    for (size_t i = 0; i < sizeof(dtypes) / sizeof(dtypes[0]); i++)
        if (strcmp(dtypes[i].name, name) == 0)
            return dtypes[i].bytes;
    return 0;
}

static int read_shape(struct entry *entry, const json_t *shape, const char *where)
{
    uint64_t bytes = dtype_bytes(entry->dtype);

    if (!bytes)
        return status_fail(STATUS_FORMAT, "%s: tensor \"%s\" has the unknown dtype \"%s\"", where,
                           entry->name, entry->dtype);
    if (!json_is_array(shape) || json_array_size(shape) > MAX_DIMS)
        return status_fail(STATUS_FORMAT, "%s: tensor \"%s\": \"shape\" is not a list of at most "
                           "%d numbers", where, entry->name, MAX_DIMS);
    entry->n_dims = (int)json_array_size(shape);
    for (int i = 0; i < entry->n_dims; i++) {
        const json_t *size = json_array_get(shape, (size_t)i);
        entry->shape[i] = json_integer_value(size);
        if (!json_is_integer(size) || entry->shape[i] < 0 ||
            __builtin_mul_overflow(bytes, (uint64_t)entry->shape[i], &bytes))
            return status_fail(STATUS_FORMAT, "%s: tensor \"%s\": dimension %d of \"shape\" is "
                               "impossible", where, entry->name, i);
    }
    if (bytes != entry->to - entry->from)
        return status_fail(STATUS_FORMAT, "%s: tensor \"%s\": shape and dtype make %llu bytes, "
                           "\"data_offsets\" make %llu", where, entry->name,
                           (unsigned long long)bytes,
                           (unsigned long long)(entry->to - entry->from));
    return STATUS_OK;
}

static int read_entry(struct entry *entry, const char *name, const json_t *value,
                      const char *where, uint64_t data_bytes)
{
    const json_t *offsets = json_object_get(value, "data_offsets");
    const json_t *from = json_array_get(offsets, 0), *to = json_array_get(offsets, 1);

    entry->name = name;
    if (!json_is_object(value))
        return status_fail(STATUS_FORMAT, "%s: tensor \"%s\" is not an object", where, name);
    if (json_get_text(value, "dtype", where, &entry->dtype) < 0)
        return status_context(STATUS_FORMAT, "tensor \"%s\"", name);
    if (json_array_size(offsets) != 2 || !json_is_integer(from) || !json_is_integer(to))
        return status_fail(STATUS_FORMAT, "%s: tensor \"%s\": \"data_offsets\" is not a pair of "
                           "integers", where, name);
    if (json_integer_value(from) < 0 || json_integer_value(to) < json_integer_value(from) ||
        (uint64_t)json_integer_value(to) > data_bytes)
        return status_fail(STATUS_FORMAT, "%s: tensor \"%s\": offsets %lld to %lld lie outside of "
                           "the %llu bytes of data", where, name,
                           (long long)json_integer_value(from), (long long)json_integer_value(to),
                           (unsigned long long)data_bytes);
    entry->from = (uint64_t)json_integer_value(from);
    entry->to = (uint64_t)json_integer_value(to);
    return read_shape(entry, json_object_get(value, "shape"), where);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static int compare_offsets(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;

    if (x->from != y->from)
        return x->from < y->from ? -1 : 1;
    return x->to < y->to ? -1 : x->to > y->to;
}

static int check_coverage(struct safetensors *file, uint64_t data_bytes)
{
    uint64_t end = 0;

    qsort(file->entries, file->n_entries, sizeof(*file->entries), compare_offsets);
    for (size_t i = 0; i < file->n_entries; i++) {
        const struct entry *entry = &file->entries[i];
        if (entry->from != end)
            return status_fail(STATUS_FORMAT, "%s: tensor \"%s\" starts at byte %llu, but the one "
                               "before ends at %llu: no overlap or gap is allowed", file->where,
                               entry->name, (unsigned long long)entry->from,
                               (unsigned long long)end);
        end = entry->to;
    }
    if (end != data_bytes)
        return status_fail(STATUS_FORMAT, "%s: the tensors end at byte %llu of the data, which "
                           "has %llu", file->where, (unsigned long long)end,
                           (unsigned long long)data_bytes);
    qsort(file->entries, file->n_entries, sizeof(*file->entries), compare_names);
    return STATUS_OK;
}

static int read_header(struct safetensors *file, const unsigned char *bytes, size_t n)
{
    uint64_t header_bytes = 0;
    const char *name;
    json_t *value;

    for (int i = 0; n >= 8 && i < 8; i++)
        header_bytes |= (uint64_t)bytes[i] << (8 * i);
    if (n < 8 || header_bytes > n - 8 || header_bytes > MAX_HEADER_BYTES)
        return status_fail(STATUS_FORMAT, "%s: not a safetensors file, or cut off: %zu bytes, "
                           "header of %llu", file->where, n, (unsigned long long)header_bytes);
    TRY(json_parse(&file->header, (const char *)bytes + 8, (size_t)header_bytes, file->where));
    if (!json_is_object(file->header))
        return status_fail(STATUS_FORMAT, "%s: the header is not an object", file->where);
    file->data = bytes + 8 + header_bytes;
    uint64_t data_bytes = n - 8 - header_bytes;
    file->entries = mem_alloc(json_object_size(file->header), sizeof(*file->entries));
    json_object_foreach(file->header, name, value) {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        TRY(read_entry(&file->entries[file->n_entries], name, value, file->where, data_bytes));
        file->n_entries++;
    }
    return check_coverage(file, data_bytes);
}

int safetensors_open(struct safetensors **out, const void *bytes, size_t n, const char *where)
{
    struct safetensors *file = mem_alloc(1, sizeof(*file));

    file->where = mem_copy_text(where);
    int status = read_header(file, bytes, n);
    if (status < 0)
        safetensors_close(&file);
    *out = file;
    return status;
}

void safetensors_close(struct safetensors **file)
{
    if (!*file)
        return;
    json_decref((*file)->header);
    mem_free((*file)->entries);
    mem_free((*file)->where);
    mem_free(*file);
    *file = NULL;
}

size_t safetensors_count(const struct safetensors *file)
{
    return file->n_entries;
}

const char *safetensors_name(const struct safetensors *file, size_t i)
{
    return file->entries[i].name;
}

static const char *dtype_word(enum dtype dtype)
{
    return dtype == DTYPE_F32 ? "F32" : dtype == DTYPE_BF16 ? "BF16" : "I32";
}

static void print_shape(struct text *out, int n_dims, const int64_t *shape)
{
    text_append(out, "[", 1);
    for (int i = 0; i < n_dims; i++)
        text_print(out, "%s%lld", i ? "," : "", (long long)shape[i]);
    text_append(out, "]", 1);
}

static int refuse_shape(const struct safetensors *file, const struct entry *entry,
                        const struct tensor *like)
{
    struct text has = {0}, wanted = {0};

    print_shape(&has, entry->n_dims, entry->shape);
    print_shape(&wanted, like->n_dims, like->shape);
    int status = status_fail(STATUS_FORMAT, "%s: tensor \"%s\" has shape %s; %s is wanted",
                             file->where, entry->name, has.data, wanted.data);
    text_release(&has);
    text_release(&wanted);
    return status;
}

static const struct entry *find_entry(const struct safetensors *file, const char *name)
{
    struct entry key = {.name = name};

    if (!file->n_entries)
        return NULL;
    return bsearch(&key, file->entries, file->n_entries, sizeof(key), compare_names);
}

static int compare_ends(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

int safetensors_ends(const void *bytes, size_t n, const char *where, uint64_t **ends,
                     size_t *n_ends)
{
    struct safetensors *file;

    TRY(safetensors_open(&file, bytes, n, where));
    uint64_t start = (uint64_t)(file->data - (const unsigned char *)bytes);
    *n_ends = file->n_entries + 1;
    *ends = mem_alloc(*n_ends, sizeof(**ends));
    (*ends)[0] = start;
    for (size_t i = 0; i < file->n_entries; i++)
        (*ends)[i + 1] = start + file->entries[i].to;
    qsort(*ends, *n_ends, sizeof(**ends), compare_ends);
    safetensors_close(&file);
    return STATUS_OK;
}

int safetensors_has(const struct safetensors *file, const char *name)
{
    return find_entry(file, name) != NULL;
}

const char *safetensors_where(const struct safetensors *file)
{
    return file->where;
}

static int check_shape(const struct safetensors *file, const struct entry *entry,
                       const struct tensor *like)
{
    if (entry->n_dims != like->n_dims ||
        memcmp(entry->shape, like->shape, (size_t)like->n_dims * sizeof(like->shape[0])) != 0)
        return refuse_shape(file, entry, like);
    return STATUS_OK;
}

static int refuse_missing(const struct safetensors *file, const char *name)
{
    return status_fail(STATUS_FORMAT, "%s: tensor \"%s\" is missing", file->where, name);
}

int safetensors_get(const struct safetensors *file, const char *name, const struct tensor *like,
                    const unsigned char **data)
{
    const char *dtype = dtype_word(like->dtype);
    const struct entry *entry = find_entry(file, name);

    if (!entry)
        return refuse_missing(file, name);
    if (strcmp(entry->dtype, dtype) != 0)
        return status_fail(STATUS_FORMAT, "%s: tensor \"%s\" is %s; only %s is read: convert the "
                           "file first", file->where, name, entry->dtype, dtype);
    TRY(check_shape(file, entry, like));
    *data = file->data + entry->from;
    return STATUS_OK;
}

int safetensors_find(const struct safetensors *file, const char *name, const struct tensor *like,
                     struct weight_span *span)
{
    static const char *const words[] = {
        [FLOAT_F32] = "F32", [FLOAT_F16] = "F16", [FLOAT_BF16] = "BF16"};
    const struct entry *entry = find_entry(file, name);

    if (!entry)
        return refuse_missing(file, name);
    TRY(check_shape(file, entry, like));
    span->bytes = file->data + entry->from;
    span->where = file->where;
    for (int kind = FLOAT_F32; kind <= FLOAT_BF16; kind++) {
        span->kind = (enum float_kind)kind;
        if (strcmp(entry->dtype, words[kind]) == 0)
            return STATUS_OK;
    }
    return status_fail(STATUS_FORMAT, "%s: tensor \"%s\" is %s; F32, F16 and BF16 are read",
                       file->where, name, entry->dtype);
}

int safetensors_write_header(struct text *out, const struct named_tensor *tensors, size_t n)
{
    struct text header = {0};
    uint64_t offset = 0;

    /* transformers refuses a file without this note. */
    text_print(&header, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = 0; i < n; i++) {
        const struct tensor *tensor = &tensors[i].tensor;
        uint64_t end = offset + dtype_bytes(dtype_word(tensor->dtype)) *
                                    (uint64_t)tensor_count(tensor);
        text_print(&header, ",");
        json_append_string(&header, tensors[i].name, strlen(tensors[i].name));
        text_print(&header, ":{\"dtype\":\"%s\",\"shape\":", dtype_word(tensor->dtype));
        print_shape(&header, tensor->n_dims, tensor->shape);
        text_print(&header, ",\"data_offsets\":[%llu,%llu]}", (unsigned long long)offset,
                   (unsigned long long)end);
        offset = end;
    }
    text_print(&header, "}");
    while (header.length % 8)
        text_append(&header, " ", 1);

    /* The default limit of a text is for sizes that others choose; this one is known. */
    uint64_t needed = out->length + 8 + header.length + offset;
    if (!out->maximum && needed > DEFAULT_TEXT_BYTES)
        out->maximum = needed;
    unsigned char length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)header.length >> (8 * i));
    text_append(out, length, sizeof(length));
    text_append(out, header.data, header.length);
    if (header.failed)
        out->failed = 1;
    text_release(&header);
    return out->failed ? status_fail(STATUS_NOMEM, "safetensors header does not fit") : STATUS_OK;
}

int safetensors_write(struct text *out, const struct named_tensor *tensors, size_t n)
{
    TRY(safetensors_write_header(out, tensors, n));
    for (size_t i = 0; i < n; i++) {
        const struct tensor *tensor = &tensors[i].tensor;
        text_append(out, tensor->data,
                    dtype_bytes(dtype_word(tensor->dtype)) * (size_t)tensor_count(tensor));
    }
    if (out->failed)
        return status_fail(STATUS_NOMEM, "the %zu tensors do not fit into the text's maximum", n);
    return STATUS_OK;
}
