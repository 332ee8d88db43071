/* Rotary positions: every head of a token turns by the token's angles; `sign` is -1 on the way back. */

#include "bf16.h"

/* x and out [tokens, heads, size], x with `stride` numbers from token to token; cos and sin [tokens, size], sin signed. */
void rotate(const bf16 *x, long stride, const bf16 *cosines, const bf16 *sines, float sign, bf16 *out, long tokens,
            long heads, long size) {
    long half = size / 2;
#pragma omp parallel for schedule(static)
    for (long t = 0; t < tokens; t++) {
        const bf16 *c = cosines + t * size, *s = sines + t * size;
        for (long h = 0; h < heads; h++) {
            const bf16 *from = x + t * stride + h * size;
            bf16 *to = out + (t * heads + h) * size;
#pragma omp simd
            for (long i = 0; i < half; i++) {
                float a = widen(from[i]), b = widen(from[half + i]);
                to[i] = narrow(a * widen(c[i]) + sign * b * widen(s[i]));
                to[half + i] = narrow(b * widen(c[half + i]) + sign * a * widen(s[half + i]));
            }
        }
    }
}
