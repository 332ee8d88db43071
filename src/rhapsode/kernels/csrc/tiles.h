/* Tiles of bfloat16: how numbers must lie to be multiplied in pairs (AVX512-BF16), and their products.

Products are C += A B with A in rows and B in pairs: rows 2i and 2i + 1 of B lie interleaved, number by number, which is
how the instruction wants them. What is here is compiled where the processor has it.
*/
#ifndef RHAPSODE_TILES_H
#define RHAPSODE_TILES_H

#include <stdlib.h>

#include "bf16.h"

#ifdef __AVX512BF16__
#include <immintrin.h>

enum { TILE = 64, DEEP = 8, WIDE = 32 };

/* c[rows, columns] (+)= a[rows, 2 pairs] b[2 pairs, columns]; rows a multiple of 8, columns of 32. */
static void multiply(long rows, long columns, long pairs, const bf16 *a, long a_stride, const bf16 *b, long b_stride,
                     float *c, long c_stride, int adds) {
    for (long j = 0; j < columns; j += WIDE)
        for (long i = 0; i < rows; i += DEEP) {
            __m512 sum[DEEP][2];
            for (int r = 0; r < DEEP; r++)
                for (int h = 0; h < 2; h++)
                    sum[r][h] = adds ? _mm512_loadu_ps(c + (i + r) * c_stride + j + 16 * h) : _mm512_setzero_ps();
            const bf16 *from_a = a + i * a_stride, *from_b = b + 2 * j;
            for (long p = 0; p < pairs; p++, from_a += 2, from_b += 2 * b_stride) {
                __m512bh b0 = (__m512bh)_mm512_loadu_si512(from_b), b1 = (__m512bh)_mm512_loadu_si512(from_b + 32);
#pragma GCC unroll 8
                for (int r = 0; r < DEEP; r++) {
                    int pair;
                    memcpy(&pair, from_a + r * a_stride, 4);
                    __m512bh both = (__m512bh)_mm512_set1_epi32(pair);
                    sum[r][0] = _mm512_dpbf16_ps(sum[r][0], both, b0);
                    sum[r][1] = _mm512_dpbf16_ps(sum[r][1], both, b1);
                }
            }
            for (int r = 0; r < DEEP; r++)
                for (int h = 0; h < 2; h++) _mm512_storeu_ps(c + (i + r) * c_stride + j + 16 * h, sum[r][h]);
        }
}

static inline __m512 exponentials(__m512 x) {
    x = _mm512_max_ps(_mm512_set1_ps(-87.0f), x); /* the second is given where one is not a number */
    __m512 whole = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
    __m512 rest = _mm512_fnmadd_ps(whole, _mm512_set1_ps(0.693359375f), x);
    rest = _mm512_fmadd_ps(whole, _mm512_set1_ps(2.12194440e-4f), rest);
    __m512 power = _mm512_set1_ps(0.00833336077f);
    power = _mm512_fmadd_ps(power, rest, _mm512_set1_ps(0.0416664094f));
    power = _mm512_fmadd_ps(power, rest, _mm512_set1_ps(0.166666657f));
    power = _mm512_fmadd_ps(power, rest, _mm512_set1_ps(0.5f));
    power = _mm512_fmadd_ps(power, rest, _mm512_set1_ps(1.0f));
    power = _mm512_fmadd_ps(power, rest, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(power, whole);
}

static inline void store_narrow(bf16 *to, __m512 x) { _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh(x)); }

static long padded(long tokens) { return (tokens + TILE - 1) / TILE * TILE; }

static void *room(long bytes) { return aligned_alloc(64, (size_t)(bytes + 63) / 64 * 64); }

/* One head in dense rows, nothing after its end; numbers are multiplied with `scale`. */
static void take_rows(const bf16 *x, long stride, float scale, bf16 *rows, long tokens, long size) {
    for (long t = 0; t < tokens; t++)
        if (scale == 1.0f) memcpy(rows + t * size, x + t * stride, (size_t)size * sizeof(bf16));
        else
            for (long i = 0; i < size; i++) rows[t * size + i] = narrow(widen(x[t * stride + i]) * scale);
    memset(rows + tokens * size, 0, (size_t)((padded(tokens) - tokens) * size) * sizeof(bf16));
}

/* Rows [2n, size] in pairs: [n, size] of two. */
static void pair_rows(const bf16 *rows, bf16 *pairs, long count, long size) {
    __m512i low = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5, 36, 4,
                                   35, 3, 34, 2, 33, 1, 32, 0);
    __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
    for (long t = 0; t < count; t += 2)
        for (long i = 0; i < size; i += 32) {
            __m512i even = _mm512_loadu_si512(rows + t * size + i), odd = _mm512_loadu_si512(rows + (t + 1) * size + i);
            _mm512_storeu_si512(pairs + t * size + 2 * i, _mm512_permutex2var_epi16(even, low, odd));
            _mm512_storeu_si512(pairs + t * size + 2 * i + 32, _mm512_permutex2var_epi16(even, high, odd));
        }
}

/* 16 rows of 16 words, `stride` bytes apart, to 16 columns of 16 words. */
static inline void turn(const void *rows, long stride, __m512i *columns) {
    __m512i a[16], b[16];
    for (int k = 0; k < 16; k++) a[k] = _mm512_loadu_si512((const char *)rows + k * stride);
    for (int k = 0; k < 16; k += 2) {
        b[k] = _mm512_unpacklo_epi32(a[k], a[k + 1]);
        b[k + 1] = _mm512_unpackhi_epi32(a[k], a[k + 1]);
    }
    for (int k = 0; k < 16; k += 4)
        for (int h = 0; h < 2; h++) {
            a[k + 2 * h] = _mm512_unpacklo_epi64(b[k + h], b[k + h + 2]);
            a[k + 2 * h + 1] = _mm512_unpackhi_epi64(b[k + h], b[k + h + 2]);
        }
    for (int k = 0; k < 16; k += 8)
        for (int h = 0; h < 4; h++) {
            b[k + h] = _mm512_shuffle_i32x4(a[k + h], a[k + h + 4], 0x88);
            b[k + h + 4] = _mm512_shuffle_i32x4(a[k + h], a[k + h + 4], 0xdd);
        }
    for (int h = 0; h < 8; h++) {
        columns[h] = _mm512_shuffle_i32x4(b[h], b[h + 8], 0x88);
        columns[h + 8] = _mm512_shuffle_i32x4(b[h], b[h + 8], 0xdd);
    }
}

/* What lies transposed does so tile by tile, since rows of a whole head would be a power of two apart and push each other
   out of the cache. Rows [count, size] to tiles of [size / 2, TILE] pairs. */
static void pair_columns(const bf16 *rows, bf16 *pairs, long count, long size) {
    __m512i columns[16];
    for (long t = 0; t < count; t += 16)
        for (long i = 0; i < size; i += 32) {
            turn(rows + t * size + i, size * sizeof(bf16), columns);
            bf16 *tile = pairs + t / TILE * TILE * size + i * TILE + 2 * (t % TILE);
            for (int k = 0; k < 16; k++) _mm512_storeu_si512(tile + 2 * k * TILE, columns[k]);
        }
}

/* Rows [count, size] to tiles of [size, TILE]. */
static void transpose(const bf16 *rows, bf16 *columns, long count, long size) {
    __m512i pairs[16];
    for (long t = 0; t < count; t += 16)
        for (long i = 0; i < size; i += 32) {
            turn(rows + t * size + i, size * sizeof(bf16), pairs);
            bf16 *tile = columns + t / TILE * TILE * size + i * TILE + t % TILE;
            for (int k = 0; k < 16; k++) {
                _mm256_storeu_si256((__m256i *)(tile + 2 * k * TILE), _mm512_cvtepi32_epi16(pairs[k]));
                __m512i second = _mm512_srli_epi32(pairs[k], 16);
                _mm256_storeu_si256((__m256i *)(tile + (2 * k + 1) * TILE), _mm512_cvtepi32_epi16(second));
            }
        }
}

static void give_rows(const float *sums, float scale, bf16 *to, long stride, long tokens, long size) {
    for (long t = 0; t < tokens; t++)
        for (long i = 0; i < size; i += 16)
            store_narrow(to + t * stride + i, _mm512_mul_ps(_mm512_loadu_ps(sums + t * size + i), _mm512_set1_ps(scale)));
}

/* Sums that lie transposed, in tiles of [size, TILE], to rows. */
static void give_columns(const float *sums, float scale, bf16 *to, long stride, long tokens, long size) {
    __m512i rows[16];
    for (long t = 0; t < tokens; t += 16)
        for (long i = 0; i < size; i += 16) {
            turn(sums + (t / TILE * size + i) * TILE + t % TILE, TILE * sizeof(float), rows);
            for (long k = 0; k < 16 && t + k < tokens; k++)
                store_narrow(to + (t + k) * stride + i, _mm512_mul_ps(_mm512_castsi512_ps(rows[k]), _mm512_set1_ps(scale)));
        }
}

#endif
#endif
