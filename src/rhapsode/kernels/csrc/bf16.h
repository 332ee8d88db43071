/* bfloat16 is the upper half of a float32. What is here vectorises as it stands, whatever the processor. */
#ifndef RHAPSODE_BF16_H
#define RHAPSODE_BF16_H

#include <stdint.h>
#include <string.h>

typedef uint16_t bf16;

static inline float widen(bf16 x) {
    uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* To nearest, ties to even, as torch does. */
static inline bf16 narrow(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return (bf16)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/* e^x within 2e-7 of it for x in [-87, 88]; 0 below about -87, and not a number stays not a number. */
static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float shifted = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: the addition rounds to a whole number */
    float whole = shifted - 12582912.0f;
    float rest = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    float power = 1.0f + rest * (1.0f + rest * (0.5f + rest * (0.166666657f + rest * (0.0416664094f + rest * (0.00833336077f + rest * 0.00138949f)))));
    uint32_t bits;
    memcpy(&bits, &shifted, 4);
    bits = (bits + 127) << 23;
    float scale;
    memcpy(&scale, &bits, 4);
    return power * scale;
}

#endif
