/* Scores of a vocabulary to the log-probability of each token's target, and back. With z = inverse * (score - top), so
   that large scores lose nothing: log p = z - level, level = log sum e^z, entropy = - sum p log p. */

#include <math.h>

#include "bf16.h"

void log_probs(const bf16 *scores, const int64_t *targets, float inverse, float *log_probs, float *entropies,
               float *tops, float *levels, long tokens, long vocabulary) {
#pragma omp parallel for schedule(static)
    for (long t = 0; t < tokens; t++) {
        const bf16 *row = scores + t * vocabulary;
        float top = -INFINITY, sum = 0, weighted = 0;
#pragma omp simd reduction(max : top)
        for (long i = 0; i < vocabulary; i++) {
            float v = widen(row[i]);
            top = v > top ? v : top;
        }
#pragma omp simd reduction(+ : sum, weighted)
        for (long i = 0; i < vocabulary; i++) {
            float z = (widen(row[i]) - top) * inverse, power = exponential(z);
            sum += power;
            weighted += power * z;
        }
        float level = logf(sum);
        log_probs[t] = (widen(row[targets[t]]) - top) * inverse - level;
        entropies[t] = level - weighted / sum;
        tops[t] = top;
        levels[t] = level;
    }
}

/* Each score gives place to its gradient, from those of the row's log-probability (`slopes`) and of its entropy. */
void log_probs_backward(bf16 *scores, const int64_t *targets, float inverse, const float *entropies, const float *tops,
                        const float *levels, const float *slopes, const float *entropy_slopes, long tokens,
                        long vocabulary) {
#pragma omp parallel for schedule(static)
    for (long t = 0; t < tokens; t++) {
        bf16 *row = scores + t * vocabulary;
        float top = tops[t], level = levels[t], entropy = entropies[t], slope = slopes[t], other = entropy_slopes[t];
        float at = (widen(row[targets[t]]) - top) * inverse - level;
#pragma omp simd
        for (long i = 0; i < vocabulary; i++) {
            float log_p = (widen(row[i]) - top) * inverse - level;
            row[i] = narrow(-exponential(log_p) * (slope + other * (log_p + entropy)) * inverse);
        }
        row[targets[t]] = narrow((-slope * expm1f(at) - other * expf(at) * (at + entropy)) * inverse);
    }
}
