#include "bench/free_product.h"

#include "ops/cpu/lanes.h"

enum { FREE_PARTS = 2 * PARTS, MOST_SUMS = 4 };

INLINE void multiply_pair(const struct product *x, int64_t panel, const int n_rows,
                          const int n_sums)
{
    vector_f32 sum[2][MOST_SUMS][FREE_PARTS] = {{{{0}}}};
    const float *b = x->b + panel * x->b_panel;

    for (int64_t k = 0; k < x->n_steps; k += n_sums)
        UNROLL for (int s = 0; s < n_sums; s++)
            UNROLL for (int p = 0; p < FREE_PARTS; p++) {
                vector_f32 column = vector_load(b + p / PARTS * x->b_panel + (k + s) * LANES +
                                                p % PARTS * WIDTH);
                UNROLL for (int r = 0; r < n_rows; r++)
                    sum[r][s][p] = x->a[r * x->a_row + k + s] * column + sum[r][s][p];
            }
    UNROLL for (int r = 0; r < n_rows; r++)
        UNROLL for (int p = 0; p < FREE_PARTS; p++) {
            UNROLL for (int s = 1; s < n_sums; s++) sum[r][0][p] += sum[r][s][p];
            vector_store(x->out + r * x->out_row + panel * LANES + p * WIDTH, sum[r][0][p]);
        }
}

void KERNEL(free_product)(const struct product *x, int64_t n_rows, int64_t first_panel,
                          int64_t last_panel, int n_sums)
{
    for (int64_t p = first_panel; p < last_panel; p += 2) {
        if (n_rows == 1 && n_sums == 2)
            multiply_pair(x, p, 1, 2);
        else if (n_rows == 1)
            multiply_pair(x, p, 1, 4);
        else if (n_sums == 2)
            multiply_pair(x, p, 2, 2);
        else
            multiply_pair(x, p, 2, 4);
    }
}
