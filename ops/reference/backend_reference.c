#include "ops/reference/reference.h"

#include "common/status.h"

static int open_reference(const char *variant, int n_threads, void **context)
{
    (void)n_threads;
    *context = NULL;
    if (*variant)
        return status_fail(STATUS_UNSUPPORTED, "device \"reference:%s\": use \"reference\"",
                           variant);
    return STATUS_OK;
}

static void close_reference(void *context)
{
    (void)context;
}

static int sync_reference(void *context)
{
    (void)context;
    return STATUS_OK;
}

static const char *describe_reference(void *context)
{
    (void)context;
    return "reference (1 thread)";
}

const struct ops_table ops_table_reference = {
    .name = "reference",
    .host_memory = 1,
    .open = open_reference,
    .close = close_reference,
    .sync = sync_reference,
    .describe = describe_reference,
    .memory_bytes = host_memory_bytes,
    .alloc = host_alloc,
    .free = host_free,
    .upload = host_copy,
    .download = host_copy,
    .copy = host_copy,
    .zero = host_zero,
    .checksum = host_checksum,
    .matrix_read = reference_matrix_read,
    .matrix_write = reference_matrix_write,
    .round_bf16 = reference_round_bf16,
    .matmul = reference_matmul,
    .matmul_backward_input = reference_matmul_backward_input,
    .matmul_backward_weight = reference_matmul_backward_weight,
    .rmsnorm = reference_rmsnorm,
    .rmsnorm_backward = reference_rmsnorm_backward,
    .rope = reference_rope,
    .swiglu = reference_swiglu,
    .swiglu_backward = reference_swiglu_backward,
    .add = reference_add,
    .scale = reference_scale,
    .embedding = reference_embedding,
    .embedding_backward = reference_embedding_backward,
    .gather_rows = reference_gather_rows,
    .scatter_add_rows = reference_scatter_add_rows,
    .attention = reference_attention,
    .attention_backward = reference_attention_backward,
    .cache_store = reference_cache_store,
    .attention_decode = reference_attention_decode,
    .sample = reference_sample,
    .token_logprob = reference_token_logprob,
    .token_logprob_backward = reference_token_logprob_backward,
    .sum_squares = reference_sum_squares,
    .all_finite = reference_all_finite,
    .adamw = reference_adamw,
};
