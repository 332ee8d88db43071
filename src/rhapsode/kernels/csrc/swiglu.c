/* silu(gate) * up for rows of [gate | up], and its way back. */

#include "bf16.h"

void swiglu(const bf16 *gate_up, bf16 *out, long tokens, long size) {
#pragma omp parallel for schedule(static)
    for (long t = 0; t < tokens; t++) {
        const bf16 *gate = gate_up + t * 2 * size, *up = gate + size;
        bf16 *to = out + t * size;
#pragma omp simd
        for (long i = 0; i < size; i++) {
            float g = widen(gate[i]);
            float sigmoid = 1.0f / (1.0f + exponential(-g));
            to[i] = narrow(g * sigmoid * widen(up[i]));
        }
    }
}

void swiglu_backward(const bf16 *grad, const bf16 *gate_up, bf16 *grad_gate_up, long tokens, long size) {
#pragma omp parallel for schedule(static)
    for (long t = 0; t < tokens; t++) {
        const bf16 *gate = gate_up + t * 2 * size, *up = gate + size, *from = grad + t * size;
        bf16 *to_gate = grad_gate_up + t * 2 * size, *to_up = to_gate + size;
#pragma omp simd
        for (long i = 0; i < size; i++) {
            float g = widen(gate[i]), d = widen(from[i]), sigmoid = 1.0f / (1.0f + exponential(-g));
            to_up[i] = narrow(d * g * sigmoid);
            to_gate[i] = narrow(d * widen(up[i]) * sigmoid * (1.0f + g * (1.0f - sigmoid)));
        }
    }
}
