/* Scores of a vocabulary to the loss and its gradient, in place: e^(x - log sum e^x), less one at the target. Rows whose
   target is negative have no loss, and a gradient of 0. */

#include <math.h>
#include <string.h>

#include "bf16.h"

void cross_entropy(bf16 *scores, const int64_t *targets, float *losses, long tokens, long vocabulary) {
#pragma omp parallel for schedule(static)
    for (long t = 0; t < tokens; t++) {
        bf16 *row = scores + t * vocabulary;
        if (targets[t] < 0) {
            losses[t] = 0;
            memset(row, 0, vocabulary * sizeof(bf16));
            continue;
        }
        float top = -INFINITY, sum = 0;
#pragma omp simd reduction(max : top)
        for (long i = 0; i < vocabulary; i++) {
            float v = widen(row[i]);
            top = v > top ? v : top;
        }
#pragma omp simd reduction(+ : sum)
        for (long i = 0; i < vocabulary; i++) sum += exponential(widen(row[i]) - top);
        float all = top + logf(sum), target = widen(row[targets[t]]);
        losses[t] = all - target;
#pragma omp simd
        for (long i = 0; i < vocabulary; i++) row[i] = narrow(exponential(widen(row[i]) - all));
        row[targets[t]] = narrow(expm1f(target - all));
    }
}
