/* What a step does with every parameter, each in one pass over memory. Lengths are in numbers. */

#include <math.h>

#include "bf16.h"

/* A gradient of the model is added to the step's. */
void accumulate(float *sum, const bf16 *grad, long length) {
#pragma omp parallel for simd schedule(static)
    for (long i = 0; i < length; i++) sum[i] += widen(grad[i]);
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
