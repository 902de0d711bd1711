/* What the calls of ops.h have in common: a shape or an index that is wrong is BUG(). */
#include "ops/checks.h"

void ops_check_tensor(const char *op, const char *name, const struct tensor *tensor,
                      enum dtype dtype, int n_dims, int64_t a, int64_t b, int64_t c)
{
    const int64_t want[3] = {a, b, c};

    if (tensor->dtype != dtype)
        BUG("%s: %s has dtype %d, not %d", op, name, (int)tensor->dtype, (int)dtype);
    if (tensor->n_dims != n_dims)
        BUG("%s: %s has %d dimensions, not %d", op, name, tensor->n_dims, n_dims);
    for (int i = 0; i < n_dims; i++)
        if (tensor->shape[i] != want[i])
            BUG("%s: dimension %d of %s is %lld, not %lld", op, i, name,
                (long long)tensor->shape[i], (long long)want[i]);
    if (!tensor->data && tensor_count(tensor) > 0)
        BUG("%s: %s has no memory", op, name);
}


void ops_check_same(const char *op, const struct tensor *a, const struct tensor *b)
{
    if (a->dtype != DTYPE_F32 || b->dtype != DTYPE_F32 || tensor_count(a) != tensor_count(b))
        BUG("%s: tensors of %lld and %lld elements, dtypes %d and %d", op,
            (long long)tensor_count(a), (long long)tensor_count(b), (int)a->dtype, (int)b->dtype);
}

void ops_check_indices(const struct ops *ops, const char *op, const struct tensor *indices,
                       int64_t limit)
{
    if (!ops->table->host_memory)
        return;
    const int32_t *index = (const int32_t *)indices->data;
    for (int64_t i = 0; i < indices->shape[0]; i++)
        if (index[i] < 0 || index[i] >= limit)
            BUG("%s: index %d at %lld is not below %lld", op, (int)index[i], (long long)i,
                (long long)limit);
}
void ops_check_matrix(const char *op, const struct matrix *matrix, int64_t M, int64_t C)
{
    if (matrix->M != M || matrix->C != C)
        BUG("%s: the weight is [%lld,%lld], not [%lld,%lld]", op, (long long)matrix->M,
            (long long)matrix->C, (long long)M, (long long)C);
    if (matrix->dtype != DTYPE_F32 && matrix->dtype != DTYPE_BF16)
        BUG("%s: the weight has dtype %d", op, (int)matrix->dtype);
    if (!matrix->data && M > 0 && C > 0)
        BUG("%s: the weight has no memory", op);
    if (matrix->adapter.rank && (matrix->form != MATRIX_ROWS || !matrix->adapter.a))
        BUG("%s: an adapter needs rows, and memory", op);
}
