/* Who takes which sequences, and who owns which weights: everything once, about evenly. */
#include "learner/internal.h"
#include "tests/unit/test_model_support.h"

static void shares_are_all_of_it_in_order_and_about_equal(void **state)
{
    static const size_t costs[] = {7, 1, 30, 2, 2, 2, 0, 9, 14, 3, 0};
    const size_t n = sizeof(costs) / sizeof(costs[0]);
    struct learner learner = {.ranks = NULL};
    size_t first, end;

    (void)state;
    learner_share(&learner, costs, n, 0, &first, &end);
    assert_int_equal(first, 0);
    assert_int_equal(end, n);
    for (int count = 2; count <= 13; count++) {
        size_t at = 0;
        for (int r = 0; r < count; r++) {
            size_t cost = 0;
            learner_share_of(costs, n, r, count, &first, &end);
            assert_int_equal(first, at);
            for (; at < end; at++)
                cost += costs[at];
            assert_true(cost <= 70 / (size_t)count + 30);
        }
        assert_int_equal(at, n);
    }
}

static void nothing_is_shared_out_as_nothing(void **state)
{
    static const size_t costs[] = {0, 0};
    size_t first, end;

    (void)state;
    for (int r = 0; r < 3; r++) {
        learner_share_of(costs, 0, r, 3, &first, &end);
        assert_int_equal(first, end);
    }
    learner_share_of(costs, 2, 0, 3, &first, &end);
    assert_int_equal(end - first, 2);
    learner_share_of(costs, 2, 2, 3, &first, &end);
    assert_int_equal(first, end);
}

static void slices_of_all_ranks_are_the_whole_run_once(void **state)
{
    static const size_t sizes[] = {16, 32, 9296, 16 * 1001, (size_t)50 << 20};

    (void)state;
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
        for (int count = 2; count <= 9; count += 7) {
            size_t n_buckets, *cuts = shards_cut(sizes[s], (size_t)count, &n_buckets);
            size_t end = sizes[s], width = (size_t)count + 1;
            for (size_t b = 0; b < n_buckets; b++) {
                const size_t *bucket = cuts + b * width;
                assert_int_equal(bucket[count], end);
                for (int r = 0; r < count; r++) {
                    assert_true(bucket[r] <= bucket[r + 1] && bucket[r] % 16 == 0);
                    if (b + 1 < n_buckets)   /* NCCL wants them equal */
                        assert_int_equal(bucket[r + 1] - bucket[r], bucket[1] - bucket[0]);
                }
                assert_true(end - bucket[0] <= (size_t)4 << 20);
                end = bucket[0];
            }
            assert_int_equal(end, 0);
            mem_free(cuts);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_are_all_of_it_in_order_and_about_equal),
        cmocka_unit_test(nothing_is_shared_out_as_nothing),
        cmocka_unit_test(slices_of_all_ranks_are_the_whole_run_once),
    };

    return cmocka_run_group_tests_name("test_shares", tests, NULL, NULL);
}
