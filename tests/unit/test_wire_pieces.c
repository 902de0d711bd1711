#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "common/status.h"
#include "wire/wire.h"

static const uint32_t lengths[] = {WIRE_PIECE_BYTES, 1, 3};

static void pieces_of_other_lengths_make_another_digest(void **state)
{
    const uint32_t other[] = {WIRE_PIECE_BYTES, 2, 2};
    struct wire_pieces one, two;
    struct digest first, second;
    char *bytes = mem_alloc(WIRE_PIECE_BYTES, 1);

    (void)state;
    assert_int_equal(wire_pieces_begin(&one, lengths, 3), STATUS_OK);
    assert_int_equal(wire_pieces_begin(&two, other, 3), STATUS_OK);
    assert_int_equal(one.total, WIRE_PIECE_BYTES + 4);
    wire_pieces_digest(&one, &first);
    wire_pieces_digest(&two, &second);
    assert_memory_not_equal(first.bytes, second.bytes, sizeof(first.bytes));
    wire_pieces_hash(&one, 2, bytes);
    wire_pieces_digest(&one, &second);
    assert_memory_not_equal(first.bytes, second.bytes, sizeof(first.bytes));
    wire_pieces_release(&one);
    wire_pieces_release(&two);
    mem_free(bytes);
}

static void pieces_of_no_sensible_length_are_refused(void **state)
{
    const uint32_t wrong[] = {1, 0, WIRE_PIECE_BYTES + 1};
    struct wire_pieces pieces;

    (void)state;
    assert_int_equal(wire_pieces_begin(&pieces, wrong, 0), STATUS_FORMAT);
    assert_int_equal(wire_pieces_begin(&pieces, wrong, 2), STATUS_FORMAT);
    assert_int_equal(wire_pieces_begin(&pieces, wrong + 2, 1), STATUS_FORMAT);
    assert_int_equal(wire_pieces_begin(&pieces, wrong, 1), STATUS_OK);
    wire_pieces_release(&pieces);
}

/* A file without a name that holds these bytes. */
static struct file_map map_of(const unsigned char *bytes, size_t n)
{
    struct file_sink sink;
    struct file_map map;

    assert_int_equal(file_sink_open_nameless(&sink), STATUS_OK);
    assert_int_equal(file_sink_map(&sink, file_sink_put(&sink, bytes, n), &map), STATUS_OK);
    return map;
}

static unsigned char *count_bytes(size_t n)
{
    unsigned char *bytes = mem_alloc(n, 1);

    for (size_t i = 0; i < n; i++)
        bytes[i] = (unsigned char)(i * 7 + (i >> 8));
    return bytes;
}

/* By integers of Python, k = lambda i: (i + 1) * 0x9e3779b97f4a7c15, over the 64-bit words of what
 * count_bytes() makes, zeros behind the end. */
static void a_sum_is_that_of_its_formula(void **state)
{
    static const struct {
        uint32_t n;
        uint64_t low, high;
    } cases[] = {
        {1, 0xbe885a459c90b372u, 0x255992d382208bbcu},
        {8, 0x7d798654b3a5d972u, 0x30f4c1ea421c96c0u},
        {9, 0xdad3d50d2702860au, 0x30f4c1ea421c96edu},
        {16, 0xef1f0e141802b10au, 0x86537897e3185449u},
        {17, 0x4766305485c00a76u, 0xed8f02a6f2b1aa97u},
        {100, 0xe033ddb7a40c5588u, 0x97c6d4edb367e835u},
        {4096, 0xad4d92b89139a000u, 0xcb59c2f1c9e98c2au},
        {1 << 20, 0x37496b7adfe80000u, 0x806cec10129fc5b1u},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        unsigned char *bytes = count_bytes(cases[i].n);
        struct file_map map = map_of(bytes, cases[i].n);
        struct wire_pieces pieces;
        assert_int_equal(wire_pieces_begin(&pieces, &cases[i].n, 1), STATUS_OK);
        wire_pieces_hash_map(&pieces, &map, NULL);
        assert_true(pieces.sums[0].low == cases[i].low);
        assert_true(pieces.sums[0].high == cases[i].high);
        wire_pieces_release(&pieces);
        file_map_close(&map);
        mem_free(bytes);
    }
}

static void any_damage_is_found_by_the_sum(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= 67; n++) {
        unsigned char *bytes = count_bytes(n), *other = count_bytes(n);
        struct file_map map = map_of(bytes, n);
        struct wire_pieces pieces;
        assert_int_equal(wire_pieces_begin(&pieces, &n, 1), STATUS_OK);
        wire_pieces_hash_map(&pieces, &map, NULL);
        assert_int_equal(wire_pieces_check(&pieces, 0, bytes), 1);
        for (uint32_t bit = 0; bit < 8 * n; bit++) {
            other[bit / 8] ^= (unsigned char)(1 << bit % 8);
            assert_int_equal(wire_pieces_check(&pieces, 0, other), 0);
            other[bit / 8] ^= (unsigned char)(1 << bit % 8);
        }
        for (uint32_t at = 8; at + 8 <= n; at += 8) {   /* two words change places */
            memcpy(other, bytes + at, 8);
            memcpy(other + at, bytes, 8);
            assert_int_equal(wire_pieces_check(&pieces, 0, other), 0);
            memcpy(other, bytes, n);
        }
        memset(other, 0, n);
        assert_int_equal(wire_pieces_check(&pieces, 0, other), n == 1 && !bytes[0]);
        wire_pieces_release(&pieces);
        file_map_close(&map);
        mem_free(bytes);
        mem_free(other);
    }
}

static void a_piece_with_the_sum_it_had_is_not_hashed_again(void **state)
{
    const uint32_t cut[] = {1000, 1, 3000, 5000};
    unsigned char *bytes = count_bytes(9001);
    struct file_map map = map_of(bytes, 9001);
    struct wire_pieces before, now;
    struct digest right;

    (void)state;
    assert_int_equal(wire_pieces_begin(&before, cut, 4), STATUS_OK);
    wire_pieces_hash_map(&before, &map, NULL);
    wire_pieces_copy(&now, &before);
    assert_true(wire_pieces_are_alike(&now, &before));
    memset(now.digests, 0, 4 * sizeof(*now.digests));
    for (int i = 0; i < 4; i++)
        before.digests[i].bytes[0] ^= 1;   /* nobody else would come to these */
    before.sums[2].low ^= 1;
    wire_pieces_hash_map(&now, &map, &before);
    digest_of(&right, bytes + 1001, 3000);
    assert_true(digest_is_same(&now.digests[2], &right));
    for (int i = 0; i < 4; i++)
        assert_int_equal(digest_is_same(&now.digests[i], &before.digests[i]), i != 2);
    wire_pieces_release(&now);
    assert_int_equal(wire_pieces_begin(&now, (const uint32_t[]){1001, 3000, 1, 4999}, 4),
                     STATUS_OK);
    assert_false(wire_pieces_are_alike(&now, &before));
    wire_pieces_release(&now);
    wire_pieces_release(&before);
    file_map_close(&map);
    mem_free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_of_other_lengths_make_another_digest),
        cmocka_unit_test(pieces_of_no_sensible_length_are_refused),
        cmocka_unit_test(a_sum_is_that_of_its_formula),
        cmocka_unit_test(any_damage_is_found_by_the_sum),
        cmocka_unit_test(a_piece_with_the_sum_it_had_is_not_hashed_again),
    };

    return cmocka_run_group_tests_name("test_wire_pieces", tests, NULL, NULL);
}
