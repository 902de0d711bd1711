/* The numbers of weight files: float32, half (IEEE 754 binary16) and bfloat16, little-endian. */
#include <string.h>

#include "model/internal.h"

size_t float_bytes(enum float_kind kind)
{
    return kind == FLOAT_F32 ? 4 : 2;
}

static float float_of_bits(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

static uint32_t bits_of_float(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

/* Exponent and mantissa move by 13 bits; a multiplication by a power of two sets the bias right and
 * makes ordinary numbers of subnormal ones. */
static float widen_half(uint16_t half)
{
    uint32_t magnitude = (uint32_t)(half & 0x7FFFu) << 13, sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t special = (half & 0x7C00u) == 0x7C00u ? 0x7F800000u : 0;   /* Inf or NaN */
    uint32_t bits = bits_of_float(float_of_bits(magnitude) * 0x1p112f);

    return float_of_bits(bits | special | sign);
}

void floats_read(float *out, const unsigned char *bytes, int64_t n, enum float_kind kind)
{
    uint16_t half;

    if (kind == FLOAT_F32) {
        memcpy(out, bytes, (size_t)n * sizeof(float));
        return;
    }
    for (int64_t i = 0; kind == FLOAT_BF16 && i < n; i++) {
        memcpy(&half, bytes + 2 * i, sizeof(half));
        out[i] = float_of_bits((uint32_t)half << 16);
    }
    for (int64_t i = 0; kind == FLOAT_F16 && i < n; i++) {
        memcpy(&half, bytes + 2 * i, sizeof(half));
        out[i] = widen_half(half);
    }
}

void floats_to_bf16(uint16_t *out, const float *values, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = bits_of_float(values[i]);
        out[i] = (uint16_t)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
    }
}

static int is_bad(float value)
{
    return (bits_of_float(value) & 0x7F800000u) == 0x7F800000u;
}

int64_t floats_find_bad(const float *values, int64_t n)
{
    int bad = 0;

    for (int64_t i = 0; i < n; i++)
        bad |= is_bad(values[i]);
    for (int64_t i = 0; bad && i < n; i++)
        if (is_bad(values[i]))
            return i;
    return -1;
}
