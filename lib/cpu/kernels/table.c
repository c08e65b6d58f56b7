/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel table of one ISA; compiled with the same flags as the kernels. */
#include "cpu/kernels/panel.h"

#define CADFTK_TEXT_(x) #x
#define CADFTK_TEXT(x) CADFTK_TEXT_(x)

#define STATS(suffix) CADFTK_SYMBOL(cadftk_row_stats_##suffix)
#define GRAD(suffix) CADFTK_SYMBOL(cadftk_row_grad_##suffix)

extern cadftk_row_stats_fn STATS(f32), STATS(bf16), STATS(f16);
extern cadftk_row_grad_fn GRAD(f32), GRAD(bf16), GRAD(f16);
extern cadftk_row_grad_fn GRAD(bf16_f32), GRAD(f16_f32);
extern cadftk_attention_fn CADFTK_SYMBOL(cadftk_attention);
extern cadftk_attention_grad_fn CADFTK_SYMBOL(cadftk_attention_grad);
extern cadftk_pack_a_fn CADFTK_SYMBOL(cadftk_pack_a);
extern cadftk_pack_a_fn CADFTK_SYMBOL(cadftk_pack_a_t);
extern cadftk_pack_b_fn CADFTK_SYMBOL(cadftk_pack_b_f32);
extern cadftk_pack_b_fn CADFTK_SYMBOL(cadftk_pack_b_f32_t);
extern cadftk_pack_b_fn CADFTK_SYMBOL(cadftk_pack_b_bf16);
extern cadftk_pack_b_fn CADFTK_SYMBOL(cadftk_pack_b_bf16_t);
extern cadftk_multiply_fn CADFTK_SYMBOL(cadftk_multiply);
extern cadftk_stream_fn CADFTK_SYMBOL(cadftk_stream_f32);
extern cadftk_stream_fn CADFTK_SYMBOL(cadftk_stream_bf16);

#define NORM(suffix) CADFTK_SYMBOL(cadftk_norm_##suffix)

extern cadftk_norm_fn NORM(f32), NORM(bf16);
extern cadftk_norm_grad_fn NORM(grad_f32), NORM(grad_bf16);
extern cadftk_rope_fn CADFTK_SYMBOL(cadftk_rope);
extern cadftk_swiglu_fn CADFTK_SYMBOL(cadftk_swiglu);
extern cadftk_swiglu_grad_fn CADFTK_SYMBOL(cadftk_swiglu_grad);
extern cadftk_add_fn CADFTK_SYMBOL(cadftk_add);
extern cadftk_widen_fn CADFTK_SYMBOL(cadftk_widen_bf16);
extern cadftk_sum_rows_fn CADFTK_SYMBOL(cadftk_sum_rows);
extern cadftk_fold_rows_fn CADFTK_SYMBOL(cadftk_fold_rows);

#define SQUARES(suffix) CADFTK_SYMBOL(cadftk_sum_squares_##suffix)

extern cadftk_update_fn CADFTK_SYMBOL(cadftk_adamw), CADFTK_SYMBOL(cadftk_sgd);
extern cadftk_sum_squares_fn SQUARES(f32), SQUARES(bf16);

const cadftk_table CADFTK_SYMBOL(cadftk_table) = {
    .name = CADFTK_TEXT(CADFTK_ISA),
    .row_stats =
        {
            [CADFTK_F32] = STATS(f32),
            [CADFTK_BF16] = STATS(bf16),
            [CADFTK_F16] = STATS(f16),
        },
    .row_grad =
        {
            [CADFTK_F32] = {GRAD(f32), GRAD(f32)},
            [CADFTK_BF16] = {GRAD(bf16), GRAD(bf16_f32)},
            [CADFTK_F16] = {GRAD(f16), GRAD(f16_f32)},
        },
    .attention = CADFTK_SYMBOL(cadftk_attention),
    .attention_grad = CADFTK_SYMBOL(cadftk_attention_grad),
    .panel = PANEL,
    .panel_rows = PANEL_ROWS,
    .pack_a =
        {
            CADFTK_SYMBOL(cadftk_pack_a),
            CADFTK_SYMBOL(cadftk_pack_a_t),
        },
    .pack_b =
        {
            [CADFTK_F32] = {CADFTK_SYMBOL(cadftk_pack_b_f32),
                            CADFTK_SYMBOL(cadftk_pack_b_f32_t)},
            [CADFTK_BF16] = {CADFTK_SYMBOL(cadftk_pack_b_bf16),
                             CADFTK_SYMBOL(cadftk_pack_b_bf16_t)},
        },
    .multiply = CADFTK_SYMBOL(cadftk_multiply),
    .stream =
        {
            [CADFTK_F32] = CADFTK_SYMBOL(cadftk_stream_f32),
            [CADFTK_BF16] = CADFTK_SYMBOL(cadftk_stream_bf16),
        },
    .model =
        {
            .norm = {NORM(f32), NORM(bf16)},
            .norm_grad = {NORM(grad_f32), NORM(grad_bf16)},
            .rope = CADFTK_SYMBOL(cadftk_rope),
            .swiglu = CADFTK_SYMBOL(cadftk_swiglu),
            .swiglu_grad = CADFTK_SYMBOL(cadftk_swiglu_grad),
            .add = CADFTK_SYMBOL(cadftk_add),
            .widen_bf16 = CADFTK_SYMBOL(cadftk_widen_bf16),
            .sum_rows = CADFTK_SYMBOL(cadftk_sum_rows),
            .fold_rows = CADFTK_SYMBOL(cadftk_fold_rows),
        },
    .optimizer =
        {
            .adamw = CADFTK_SYMBOL(cadftk_adamw),
            .sgd = CADFTK_SYMBOL(cadftk_sgd),
            .sum_squares = {SQUARES(f32), SQUARES(bf16)},
        },
};
