/* SPDX-License-Identifier: Apache-2.0 */
/* Nucleus sampling (Holtzman et al., ICLR 2020): of the tokens by falling
 * probability, ties by rising number, the shortest prefix whose mass reaches
 * top_p. A heap gives the tokens in that order, one by one: few are needed. */
#include "model/sample.h"

#include <math.h>

/* First of the largest, or -1. */
static int32_t largest(const float *logits, int64_t vocab)
{
    int32_t best = -1;
    for (int64_t i = 0; i < vocab; i++) {
        if (isnan(logits[i]) || logits[i] == INFINITY)
            return -1;
        if (logits[i] > (best < 0 ? -INFINITY : logits[best]))
            best = (int32_t)i;
    }
    return best;
}

static int comes_before(const double *mass, int32_t a, int32_t b)
{
    return mass[a] > mass[b] || (mass[a] == mass[b] && a < b);
}

/* Let the element at `at` sink to its place in heap[0, count). */
static void sink(const double *mass, int32_t *heap, int64_t count, int64_t at)
{
    int32_t moving = heap[at];
    for (int64_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count &&
            comes_before(mass, heap[child + 1], heap[child]))
            child++;
        if (!comes_before(mass, heap[child], moving))
            break;
        heap[at] = heap[child];
    }
    heap[at] = moving;
}

/* Move the first of the heap to heap[count - 1]; what is left is a heap. */
static int32_t pop(const double *mass, int32_t *heap, int64_t count)
{
    int32_t first = heap[0];
    heap[0] = heap[count - 1];
    heap[count - 1] = first;
    sink(mass, heap, count - 1, 0);
    return first;
}

static int32_t draw(const double *mass,
                    int32_t *heap,
                    int64_t count,
                    double total,
                    double top_p,
                    double u)
{
    double kept = 0, sum = 0;
    int64_t left = count;
    for (int64_t i = count / 2; i-- > 0;)
        sink(mass, heap, count, i);
    /* With all of them kept the draw can stop as soon as it is decided. */
    while (left > 0 && kept < top_p * total) {
        int32_t token = pop(mass, heap, left--);
        kept += mass[token];
        if (top_p == 1 && kept > u * total)
            return token;
    }
    for (int64_t i = count; i-- > left;) {
        sum += mass[heap[i]];
        if (sum > u * kept)
            return heap[i];
    }
    return heap[left]; /* the sums differ in their last bits */
}

static double
log_softmax(const float *logits, int64_t vocab, int32_t best, int32_t token)
{
    double top = (double)logits[best], sum = 0;
    for (int64_t i = 0; i < vocab; i++)
        sum += exp((double)logits[i] - top);
    return (double)logits[token] - top - log(sum);
}

int32_t cadft__sample(const float *logits,
                      int64_t vocab,
                      const cadft__sampling *sampling,
                      double u,
                      double *mass,
                      int32_t *heap,
                      double *logprob)
{
    int32_t best = largest(logits, vocab), token = best;
    double total = 0;
    int64_t count = 0;
    *logprob = NAN;
    if (best < 0)
        return -1;
    if (sampling->temperature > 0) {
        for (int64_t i = 0; i < vocab; i++) {
            mass[i] = exp(((double)logits[i] - (double)logits[best]) /
                          sampling->temperature);
            total += mass[i];
            if (mass[i] > 0)
                heap[count++] = (int32_t)i;
        }
        token = draw(mass, heap, count, total, sampling->top_p, u);
    }
    if (sampling->want_logprob)
        *logprob = log_softmax(logits, vocab, best, token);
    return token;
}
