/* Attention within packed documents, forward and back, never more than a tile of scores at once (Dao 2023,
FlashAttention-2), on the instruction that multiplies pairs of bfloat16 (AVX512-BF16).

A query at t sees the keys from first[t] to t. The first key never falls along a row, so the tiles that some query of a
block sees are one stretch, and all others are skipped: other documents, what lies outside of a window, what is ahead.

Products are C += A B with A in rows and B in pairs: rows 2i and 2i + 1 of B lie interleaved, number by number, which is
how the instruction wants them. On the way back scores are computed transposed, keys in rows: then every product finds
one of its two sides lying as it must already, and nothing is transposed but the inputs, once a head.

Tokens lie `*_stride` numbers apart, heads of a token follow each other. B rows, T tokens, H query heads, K key heads, C
numbers a head, a multiple of 32 and at most 256.
*/

#include <math.h>
#include <stdlib.h>

#include "bf16.h"

#ifdef __AVX512BF16__
#include <immintrin.h>

enum { TILE = 64, SPAN = 4 * TILE, DEEP = 8, WIDE = 32 };

int attention_is_here(void) { return 1; }

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

/* Of 16 lanes from `at` on, those within from and to. */
static inline __mmask16 lanes(long at, long from, long to) {
    long low = from - at < 0 ? 0 : from - at > 16 ? 16 : from - at, high = to - at < 0 ? 0 : to - at > 16 ? 16 : to - at;
    return (__mmask16)(((1u << high) - 1) & ~((1u << low) - 1));
}

/* A row of scores to weights e^(x - top), nothing outside of from and to. `top` and `mass` are those of the row so far and
   come up to date; what was summed up under the old one must be multiplied with what is returned. */
static inline float soften(const float *scores, bf16 *weights, long width, long from, long to, float *top, float *mass) {
    if (from >= to) {
        memset(weights, 0, (size_t)width * sizeof(bf16));
        return 1.0f;
    }
    __m512 most = _mm512_set1_ps(*top), sum = _mm512_setzero_ps();
    int is_whole = from <= 0 && to >= width;
    for (long i = 0; i < width; i += 16) {
        __mmask16 seen = is_whole ? 0xffff : lanes(i, from, to);
        most = _mm512_mask_max_ps(most, seen, most, _mm512_loadu_ps(scores + i));
    }
    float before = *top, now = _mm512_reduce_max_ps(most);
    for (long i = 0; i < width; i += 16) {
        __mmask16 seen = is_whole ? 0xffff : lanes(i, from, to);
        __m512 weight = exponentials(_mm512_sub_ps(_mm512_loadu_ps(scores + i), _mm512_set1_ps(now)));
        weight = _mm512_maskz_mov_ps(seen, weight);
        sum = _mm512_add_ps(sum, weight);
        store_narrow(weights + i, weight);
    }
    float shrink = now == before ? 1.0f : _mm512_cvtss_f32(exponentials(_mm512_set1_ps(before - now)));
    *top = now;
    *mass = *mass * shrink + _mm512_reduce_add_ps(sum);
    return shrink;
}

/* lse [B, H, T] in float32, for the way back. Returns 0, or -1 if there was no memory. */
int attention(const bf16 *q, long q_stride, const bf16 *k, long k_stride, const bf16 *v, long v_stride,
              const int32_t *first, float scale, bf16 *out, float *lse, long B, long T, long H, long K, long C) {
    long P = padded(T);
    int failed = 0;
#pragma omp parallel
    {
        bf16 *rows = room(P * C * 2), *keys = room(P * C * 2), *values = room(P * C * 2), *weights = room(TILE * SPAN * 2);
        float *scores = room(TILE * SPAN * 4), *sums = room(TILE * C * 4);
        int has_room = rows && keys && values && weights && scores && sums;
        if (!has_room)
#pragma omp atomic write
            failed = 1;
#pragma omp for schedule(dynamic)
        for (long task = 0; task < B * H; task++) {
            if (!has_room) continue;
            long b = task / H, h = task % H, group = h / (H / K);
            const int32_t *begin = first + b * T;
            take_rows(k + b * T * k_stride + group * C, k_stride, 1.0f, rows, T, C);
            pair_columns(rows, keys, P, C);
            take_rows(v + b * T * v_stride + group * C, v_stride, 1.0f, rows, T, C);
            pair_rows(rows, values, P, C);
            take_rows(q + b * T * q_stride + h * C, q_stride, scale, rows, T, C);
            for (long at = 0; at < T; at += TILE) {
                long end = at + TILE < T ? at + TILE : T;
                float top[TILE], mass[TILE];
                for (int r = 0; r < TILE; r++) top[r] = -INFINITY, mass[r] = 0;
                memset(sums, 0, (size_t)(TILE * C) * sizeof(float));
                for (long key = begin[at] / TILE * TILE; key < end; key += SPAN) {
                    long width = end - key < SPAN ? padded(end - key) : SPAN;
                    for (long tile = 0; tile < width; tile += TILE)
                        multiply(TILE, TILE, C / 2, rows + at * C, C, keys + (key + tile) * C, TILE, scores + tile, SPAN, 0);
                    int is_whole = key + width <= at + 1 && key >= begin[end - 1];
                    for (long r = 0; r < end - at; r++) {
                        long from = is_whole ? 0 : begin[at + r] - key, to = is_whole ? width : at + r + 1 - key;
                        float shrink = soften(scores + r * SPAN, weights + r * SPAN, width, from, to, top + r, mass + r);
                        if (shrink == 1.0f) continue;
                        for (long i = 0; i < C; i += 16) {
                            float *sum = sums + r * C + i;
                            _mm512_storeu_ps(sum, _mm512_mul_ps(_mm512_loadu_ps(sum), _mm512_set1_ps(shrink)));
                        }
                    }
                    multiply(TILE, C, width / 2, weights, SPAN, values + key * C, C, sums, C, 1);
                }
                for (long r = 0; r < end - at; r++) {
                    lse[task * T + at + r] = top[r] + logf(mass[r]);
                    __m512 share = _mm512_set1_ps(1.0f / mass[r]);
                    bf16 *to = out + ((b * T + at + r) * H + h) * C;
                    for (long i = 0; i < C; i += 16) store_narrow(to + i, _mm512_mul_ps(_mm512_loadu_ps(sums + r * C + i), share));
                }
            }
        }
        free(rows), free(keys), free(values), free(weights), free(scores), free(sums);
    }
    return -failed;
}

/* What a head needs on the way back: inputs as they must lie, and where sums grow. */
typedef struct {
    bf16 *rows, *k, *v, *k_columns, *q_pairs, *q_across, *grad_pairs, *grad_across, *weights, *slopes, *slope_pairs;
    float *scores, *grad_weights, *grad_q, *grad_k, *grad_v, *delta;
} Desk;

static int lay(Desk *desk, long P, long C) {
    bf16 **narrow_rooms[] = {&desk->rows, &desk->k, &desk->v, &desk->k_columns, &desk->q_pairs, &desk->q_across,
                             &desk->grad_pairs, &desk->grad_across};
    int is_there = 1;
    for (int i = 0; i < 8; i++) is_there &= (*narrow_rooms[i] = room(P * C * 2)) != NULL;
    bf16 **tiles[] = {&desk->weights, &desk->slopes, &desk->slope_pairs};
    for (int i = 0; i < 3; i++) is_there &= (*tiles[i] = room(TILE * TILE * 2)) != NULL;
    float **wide[] = {&desk->grad_q, &desk->grad_k, &desk->grad_v};
    for (int i = 0; i < 3; i++) is_there &= (*wide[i] = room(P * C * 4)) != NULL;
    float **wide_tiles[] = {&desk->scores, &desk->grad_weights};
    for (int i = 0; i < 2; i++) is_there &= (*wide_tiles[i] = room(TILE * TILE * 4)) != NULL;
    return is_there & ((desk->delta = room(P * 4)) != NULL);
}

static void clear(Desk *desk) {
    free(desk->rows), free(desk->k), free(desk->v), free(desk->k_columns), free(desk->q_pairs), free(desk->q_across);
    free(desk->grad_pairs), free(desk->grad_across), free(desk->weights), free(desk->slopes), free(desk->slope_pairs);
    free(desk->scores), free(desk->grad_weights), free(desk->grad_q), free(desk->grad_k), free(desk->grad_v), free(desk->delta);
}

/* Of 16 queries from `query` on, those that see `key`. */
static inline __mmask16 seers(long query, long key, long T, const int32_t *begin) {
    __m512i at = _mm512_set1_epi32((int)key);
    __m512i t = _mm512_add_epi32(_mm512_set1_epi32((int)query),
                                 _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0));
    __mmask16 seen = _mm512_mask_cmple_epi32_mask(_mm512_cmplt_epi32_mask(t, _mm512_set1_epi32((int)T)), at, t);
    return _mm512_mask_cmple_epi32_mask(seen, _mm512_maskz_loadu_epi32(seen, begin + query), at);
}

/* The weights of a tile of keys (rows) for a tile of queries (columns), and what the loss says of their products. */
static void slopes_of(Desk *desk, long key, long at, long T, const int32_t *begin, const float *lse) {
    int is_whole = at >= key + TILE - 1 && begin[(at + TILE < T ? at + TILE : T) - 1] <= key && at + TILE <= T;
    for (long r = 0; r < TILE; r += 2) {
        for (int i = 0; i < 4; i++) {
            __m512 slope[2];
            for (int s = 0; s < 2; s++) {
                long place = (r + s) * TILE + 16 * i, query = at + 16 * i;
                __m512 x = _mm512_sub_ps(_mm512_loadu_ps(desk->scores + place), _mm512_loadu_ps(lse + query));
                __m512 weight = exponentials(x);
                if (!is_whole) weight = _mm512_maskz_mov_ps(seers(query, key + r + s, T, begin), weight);
                __m512 change = _mm512_sub_ps(_mm512_loadu_ps(desk->grad_weights + place), _mm512_loadu_ps(desk->delta + query));
                slope[s] = _mm512_mul_ps(weight, change);
                store_narrow(desk->weights + place, weight);
                store_narrow(desk->slopes + place, slope[s]);
            }
            __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(slope[0]));
            __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(slope[1]));
            _mm512_storeu_si512(desk->slope_pairs + r * TILE + 32 * i, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
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

/* grad and out [B, T, H, C] dense; grad_q as q, grad_k and grad_v as k and v, all dense. As `attention` otherwise. */
int attention_backward(const bf16 *grad, const bf16 *q, long q_stride, const bf16 *k, long k_stride, const bf16 *v,
                       long v_stride, const bf16 *out, const float *lse, const int32_t *first, float scale,
                       bf16 *grad_q, bf16 *grad_k, bf16 *grad_v, long B, long T, long H, long K, long C) {
    long P = padded(T);
    int failed = 0;
#pragma omp parallel
    {
        Desk desk = {0};
        int has_room = lay(&desk, P, C);
        float *levels = room(P * 4);
        has_room &= levels != NULL;
        if (!has_room)
#pragma omp atomic write
            failed = 1;
#pragma omp for schedule(dynamic)
        for (long task = 0; task < B * K; task++) {
            if (!has_room) continue;
            long b = task / K, group = task % K;
            const int32_t *begin = first + b * T;
            take_rows(k + b * T * k_stride + group * C, k_stride, 1.0f, desk.k, T, C);
            transpose(desk.k, desk.k_columns, P, C);
            take_rows(v + b * T * v_stride + group * C, v_stride, 1.0f, desk.v, T, C);
            memset(desk.grad_k, 0, (size_t)(P * C) * sizeof(float));
            memset(desk.grad_v, 0, (size_t)(P * C) * sizeof(float));
            for (long h = group * (H / K); h < (group + 1) * (H / K); h++) {
                const bf16 *head_grad = grad + (b * T * H + h) * C, *head_out = out + (b * T * H + h) * C;
                for (long t = 0; t < P; t++) {
                    float sum = 0;
                    if (t < T)
#pragma omp simd reduction(+ : sum)
                        for (long i = 0; i < C; i++) sum += widen(head_grad[t * H * C + i]) * widen(head_out[t * H * C + i]);
                    desk.delta[t] = sum;
                    levels[t] = t < T ? lse[(b * H + h) * T + t] : 0;
                }
                take_rows(head_grad, H * C, 1.0f, desk.rows, T, C);
                pair_rows(desk.rows, desk.grad_pairs, P, C);
                pair_columns(desk.rows, desk.grad_across, P, C);
                take_rows(q + b * T * q_stride + h * C, q_stride, scale, desk.rows, T, C);
                pair_rows(desk.rows, desk.q_pairs, P, C);
                pair_columns(desk.rows, desk.q_across, P, C);
                memset(desk.grad_q, 0, (size_t)(P * C) * sizeof(float));
                for (long key = 0; key < T; key += TILE)
                    for (long at = key; at < T && begin[at] < key + TILE; at += TILE) {
                        multiply(TILE, TILE, C / 2, desk.k + key * C, C, desk.q_across + at * C, TILE, desk.scores, TILE, 0);
                        multiply(TILE, TILE, C / 2, desk.v + key * C, C, desk.grad_across + at * C, TILE, desk.grad_weights, TILE, 0);
                        slopes_of(&desk, key, at, T, begin, levels);
                        multiply(TILE, C, TILE / 2, desk.weights, TILE, desk.grad_pairs + at * C, C, desk.grad_v + key * C, C, 1);
                        multiply(TILE, C, TILE / 2, desk.slopes, TILE, desk.q_pairs + at * C, C, desk.grad_k + key * C, C, 1);
                        multiply(C, TILE, TILE / 2, desk.k_columns + key * C, TILE, desk.slope_pairs, TILE, desk.grad_q + at * C, TILE, 1);
                    }
                bf16 *to = grad_q + (b * T * H + h) * C;
                give_columns(desk.grad_q, scale, to, H * C, T, C);
            }
            give_rows(desk.grad_k, 1.0f, grad_k + (b * T * K + group) * C, K * C, T, C);
            give_rows(desk.grad_v, 1.0f, grad_v + (b * T * K + group) * C, K * C, T, C);
        }
        clear(&desk);
        free(levels);
    }
    return -failed;
}

#else

int attention_is_here(void) { return 0; }

#endif
