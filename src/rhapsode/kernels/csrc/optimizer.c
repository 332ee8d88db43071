/* What a step does with every parameter, each in one pass over memory. Lengths are in numbers. */

#include <math.h>

#include "bf16.h"

/* A gradient of the model is added to the step's. */
void accumulate(float *sum, const bf16 *grad, long length) {
#pragma omp parallel for simd schedule(static)
    for (long i = 0; i < length; i++) sum[i] += widen(grad[i]);
}

/* The squares of each block of `size` numbers are summed: fixed blocks, so that threads change no bit. */
void squares(const float *x, long length, long size, double *sums) {
    long blocks = (length + size - 1) / size;
#pragma omp parallel for schedule(static)
    for (long b = 0; b < blocks; b++) {
        long end = (b + 1) * size < length ? (b + 1) * size : length;
        double sum = 0;
#pragma omp simd reduction(+ : sum)
        for (long i = b * size; i < end; i++) sum += (double)x[i] * x[i];
        sums[b] = sum;
    }
}

/* AdamW with decoupled decay: `keep` is 1 - rate * decay, `rate` has the first moment's correction in it, `spread` is
   one over the root of the second's. */
void adamw(float *value, float *first, float *second, const float *grad, long length, float beta1, float beta2,
           float keep, float rate, float spread, float eps) {
#pragma omp parallel for simd schedule(static)
    for (long i = 0; i < length; i++) {
        float g = grad[i], m = first[i] + (g - first[i]) * (1.0f - beta1);
        float v = second[i] * beta2 + g * g * (1.0f - beta2);
        first[i] = m;
        second[i] = v;
        value[i] = value[i] * keep - rate * m / (sqrtf(v) * spread + eps);
    }
}
