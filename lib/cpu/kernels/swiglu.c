/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SwiGLU, forward and backward. See model.h.
 *
 * Both sides of the sigmoid come from t = exp(-|x|) in [0, 1], so that neither
 * 1 - s nor the far tail is a difference:
 *     s(x), s(-x) = 1 / (1 + t), t / (1 + t)    for x > 0, else exchanged
 *
 * t is float32 to 1 ulp and gradually underflows like exp itself: with
 * n = rint(z log2 e), r = z - n ln 2, |r| <= (ln 2) / 2,
 *     e^z = (1 + r + r^2 q(r)) 2^(n + 64) 2^-64.
 * The exponential of exp.h is made for differences from a row's maximum,
 * where a base off by 1e-8 divides out; here it would show.
 */
#include "cpu/kernels/lanes.h"

#define EXP_LOG2E 0x1.715476p+0f
/* 1.5 * 2^23, where an ulp is 1, and the exponent's bias 127 + 64. */
#define EXP_MAGIC (0x1.8p23f + 191.0f)
/* ln 2: HI has 9 bits, so n * HI is exact; the rest is below 2^-38. */
#define EXP_LN2_HI 0x1.63p-1f
#define EXP_LN2_LO -0x1.bd0106p-13f
#define EXP_FLOOR -110.0f /* exp of it is below half the least subnormal */

/* Minimax for (e^r - 1 - r) / r^2 weighted by r^2 / e^r, |r| <= 0.3466, by
 * Lawson's iteration: 4e-9 of e^r with these coefficients. */
static const float exp_q[5] = {0x1.fffffcp-2f, 0x1.555492p-3f, 0x1.5558f2p-5f,
                               0x1.1239e0p-7f, 0x1.6a243ap-10f};

/* Two vectors step by step hide the latency of the chain, which is longer
 * than a core's scheduler is deep; `vectors` is a constant, 1 or 2. */
#define EACH(vectors) for (int k = 0; k < (vectors); k++)

/* t = e^-|x|; a NaN comes through. */
INLINE void exp_minus_abs(int vectors, const vf *x, vf *t)
{
    const vf magic = vf_set1(EXP_MAGIC), one = vf_set1(1.0f);
    vf z[2], n[2], r[2], q[2], scale[2];
    EACH(vectors) z[k] = vf_max(vf_set1(EXP_FLOOR), vf_minus_abs(x[k]));
    EACH(vectors) n[k] = vf_fma(z[k], vf_set1(EXP_LOG2E), magic);
    EACH(vectors) scale[k] = vf_pow2(n[k]);
    EACH(vectors) n[k] = vf_sub(n[k], magic);
    EACH(vectors) r[k] = vf_fnma(n[k], vf_set1(EXP_LN2_HI), z[k]);
    EACH(vectors) r[k] = vf_fnma(n[k], vf_set1(EXP_LN2_LO), r[k]);
    EACH(vectors) q[k] = vf_fma(vf_set1(exp_q[4]), r[k], vf_set1(exp_q[3]));
    for (int i = 2; i >= 0; i--)
        EACH(vectors) q[k] = vf_fma(q[k], r[k], vf_set1(exp_q[i]));
    EACH(vectors) q[k] = vf_fma(vf_mul(r[k], r[k]), q[k], r[k]);
    EACH(vectors) q[k] = vf_mul(vf_add(one, q[k]), scale[k]);
    EACH(vectors) t[k] = vf_mul(q[k], vf_set1(0x1p-64f));
}

/* -------------------------------------------------------------- forward */

INLINE void swiglu_step(
    int vectors, const float *gate, const float *up, float *out, int64_t count)
{
    const vf zero = vf_set1(0.0f), one = vf_set1(1.0f);
    vf x[2], t[2];
    EACH(vectors) x[k] = vf_load_some(gate + k * LANES, count);
    exp_minus_abs(vectors, x, t);
    EACH(vectors)
    {
        vf top = vf_mul(x[k], vf_pick_gt(x[k], zero, one, t[k]));
        vf silu = vf_div(top, vf_add(one, t[k]));
        vf u = vf_load_some(up + k * LANES, count);
        vf_store_some(out + k * LANES, vf_mul(silu, u), count);
    }
}

cadftk_swiglu_fn CADFTK_SYMBOL(cadftk_swiglu);
void CADFTK_SYMBOL(cadftk_swiglu)(const float *gate,
                                  const float *up,
                                  float *out,
                                  int64_t n)
{
    int64_t j = 0;
    for (; j + 2 * LANES <= n; j += 2 * LANES)
        swiglu_step(2, gate + j, up + j, out + j, LANES);
    for (; j < n; j += LANES)
        swiglu_step(1, gate + j, up + j, out + j,
                    n - j < LANES ? n - j : LANES);
}

/* ------------------------------------------------------------- backward */

INLINE void grad_step(int vectors,
                      const cadftk_swiglu_grad_row *row,
                      int64_t j,
                      int64_t count)
{
    const vf zero = vf_set1(0.0f), one = vf_set1(1.0f);
    vf x[2], t[2];
    EACH(vectors) x[k] = vf_load_some(row->gate + j + k * LANES, count);
    exp_minus_abs(vectors, x, t);
    EACH(vectors)
    {
        int64_t at = j + k * LANES;
        vf up = vf_load_some(row->up + at, count);
        vf grad = vf_load_some(row->grad_out + at, count);
        vf high = vf_div(one, vf_add(one, t[k])), low = vf_mul(t[k], high);
        vf s = vf_pick_gt(x[k], zero, high, low);
        vf rest = vf_pick_gt(x[k], zero, low, high);
        vf slope = vf_mul(s, vf_fma(x[k], rest, one)), silu = vf_mul(x[k], s);
        vf_store_some(row->grad_gate + at, vf_mul(vf_mul(grad, up), slope),
                      count);
        vf_store_some(row->grad_up + at, vf_mul(grad, silu), count);
        if (row->out)
            vf_store_some(row->out + at, vf_mul(silu, up), count);
    }
}

cadftk_swiglu_grad_fn CADFTK_SYMBOL(cadftk_swiglu_grad);
void CADFTK_SYMBOL(cadftk_swiglu_grad)(const cadftk_swiglu_grad_row *args)
{
    const cadftk_swiglu_grad_row row = *args; /* no store can change it */
    int64_t j = 0;
    for (; j + 2 * LANES <= row.n; j += 2 * LANES)
        grad_step(2, &row, j, LANES);
    for (; j < row.n; j += LANES)
        grad_step(1, &row, j, row.n - j < LANES ? row.n - j : LANES);
}
