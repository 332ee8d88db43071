/* Root-mean-square normalisation of rows of bfloat16, statistics in float32.

Rows lie `stride` apart: the heads of a query are normed where they stand in the product that made them. `heads` rows of
`size` numbers follow each other, then comes the next stride.
*/

#include <math.h>
#include <stdlib.h>

#include "bf16.h"

enum { BLOCKS = 64 }; /* partial sums of the weight's gradient: their number is fixed, so threads change no bit */

void rms_norm(const bf16 *x, long stride, const bf16 *weight, float eps, bf16 *out, float *scales, long tokens,
              long heads, long size) {
#pragma omp parallel for schedule(static)
    for (long t = 0; t < tokens; t++)
        for (long h = 0; h < heads; h++) {
            const bf16 *row = x + t * stride + h * size;
            bf16 *to = out + (t * heads + h) * size;
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (long i = 0; i < size; i++) {
                float v = widen(row[i]);
                sum += v * v;
            }
            float scale = 1.0f / sqrtf(sum / (float)size + eps);
            scales[t * heads + h] = scale;
#pragma omp simd
            for (long i = 0; i < size; i++) to[i] = narrow(widen(row[i]) * scale * widen(weight[i]));
        }
}

/* grad [tokens, heads, size] is dense; partial [BLOCKS, size] in float32 comes cleared. */
void rms_norm_backward(const bf16 *grad, const bf16 *x, long stride, const bf16 *weight, const float *scales,
                       bf16 *grad_x, float *partial, long tokens, long heads, long size) {
#pragma omp parallel for schedule(static)
    for (long block = 0; block < BLOCKS; block++) {
        float *sums = partial + block * size;
        for (long t = tokens * block / BLOCKS; t < tokens * (block + 1) / BLOCKS; t++)
            for (long h = 0; h < heads; h++) {
                const bf16 *row = x + t * stride + h * size, *g = grad + (t * heads + h) * size;
                bf16 *to = grad_x + (t * heads + h) * size;
                float scale = scales[t * heads + h], dot = 0;
#pragma omp simd reduction(+ : dot)
                for (long i = 0; i < size; i++) {
                    float unit = widen(row[i]) * scale, v = widen(g[i]);
                    sums[i] += v * unit;
                    dot += v * widen(weight[i]) * unit;
                }
                dot /= (float)size;
#pragma omp simd
                for (long i = 0; i < size; i++)
                    to[i] = narrow((widen(g[i]) * widen(weight[i]) - widen(row[i]) * scale * dot) * scale);
            }
    }
}
