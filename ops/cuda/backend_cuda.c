/* The GPU's table. native/ and emulation/ each link it under their own name. */
#include "ops/cuda/cuda.h"

#include "backend_name.h"

const char cuda_backend_name[] = CUDA_BACKEND_NAME;

static const struct ops_table table = {
    .name = CUDA_BACKEND_NAME,
    .open = cuda_open,
    .close = cuda_close,
    .sync = cuda_sync,
    .describe = cuda_describe,
    .alloc = cuda_alloc,
    .free = cuda_free,
    .upload = cuda_upload,
    .download = cuda_download,
    .copy = cuda_copy,
    .zero = cuda_zero,
    .place = cuda_place,
    .export_memory = cuda_export_memory,
    .import_memory = cuda_import_memory,
    .import_end = cuda_import_end,
    .checksum = cuda_checksum,
    .record_begin = cuda_record_begin,
    .record_end = cuda_record_end,
    .record_launch = cuda_record_launch,
    .record_free = cuda_record_free,
    .matrix_read = cuda_matrix_read,
    .matrix_write = cuda_matrix_write,
    .round_bf16 = cuda_round_bf16,
    .matmul = cuda_matmul,
    .matmul_backward_input = cuda_matmul_backward_input,
    .matmul_backward_weight = cuda_matmul_backward_weight,
    .rmsnorm = cuda_rmsnorm,
    .rmsnorm_backward = cuda_rmsnorm_backward,
    .rope = cuda_rope,
    .swiglu = cuda_swiglu,
    .swiglu_backward = cuda_swiglu_backward,
    .add = cuda_add,
    .scale = cuda_scale,
    .embedding = cuda_embedding,
    .embedding_backward = cuda_embedding_backward,
    .gather_rows = cuda_gather_rows,
    .scatter_add_rows = cuda_scatter_add_rows,
    .attention = cuda_attention,
    .attention_backward = cuda_attention_backward,
    .cache_store = cuda_cache_store,
    .attention_decode = cuda_attention_decode,
    .sample = cuda_sample,
    .token_logprob = cuda_token_logprob,
    .token_logprob_backward = cuda_token_logprob_backward,
    .sum_squares = cuda_sum_squares,
    .all_finite = cuda_all_finite,
    .adamw = cuda_adamw,
};

const struct ops_table *const ops_table_cuda = &table;
