/* SPDX-License-Identifier: Apache-2.0 */
#include "model/transformer.h"

const cadft__linear cadft__linear_qkv = {
    3,
    {CADFT__Q, CADFT__K, CADFT__V},
    {CADFT__Q_BIAS, CADFT__K_BIAS, CADFT__V_BIAS},
};
const cadft__linear cadft__linear_out = {1, {CADFT__O}, {CADFT__O_BIAS}};
const cadft__linear cadft__linear_gate_up = {
    2,
    {CADFT__GATE, CADFT__UP},
    {CADFT__GATE_BIAS, CADFT__UP_BIAS},
};
const cadft__linear cadft__linear_down = {
    1,
    {CADFT__DOWN},
    {CADFT__DOWN_BIAS},
};

cadft_array cadft__after(cadft_array array, int64_t elements)
{
    array.offset += array.base ? (uint64_t)elements * sizeof(float) : 0;
    return array;
}

/* -------------------------------------------------------- calls of slots */

/* In a dry run, remember what scratch the operation wants; else give it the
 * arena's. Returns whether to call the slot. */
static int
ready(cadft__run *run, int32_t op, const void *args, cadft_array *work)
{
    uint64_t bytes;
    if (!run->dry) {
        if (work)
            *work = run->workspace->scratch;
        return 1;
    }
    bytes = cadft__device_work_bytes(run->model->handle.context, op, args);
    if (bytes > run->scratch_bytes)
        run->scratch_bytes = bytes;
    return 0;
}

#define CALL(slot)                                                             \
    cadft__device_##slot(run->model->handle.context, run->stream, args,        \
                         run->error)

int32_t cadft__run_matmul(cadft__run *run, cadft_matmul_args *args)
{
    args->struct_size = sizeof *args;
    if (!args->bias.base)
        args->bias_dtype = CADFT_DTYPE_F32;
    return ready(run, CADFT_OP_MATMUL, args, &args->work) ? CALL(matmul)
                                                          : CADFT_OK;
}

static void fill_norm(const cadft__run *run, cadft_norm_args *args)
{
    args->struct_size = sizeof *args;
    args->weight_dtype = run->model->parameters.dtype;
    args->eps = run->model->config.norm_eps;
}

int32_t cadft__run_norm(cadft__run *run, cadft_norm_args *args)
{
    fill_norm(run, args);
    return ready(run, CADFT_OP_NORM, args, NULL) ? CALL(norm) : CADFT_OK;
}

int32_t cadft__run_add_norm(cadft__run *run, cadft_norm_args *args)
{
    fill_norm(run, args);
    return ready(run, CADFT_OP_ADD_NORM, args, NULL) ? CALL(add_norm)
                                                     : CADFT_OK;
}

int32_t cadft__run_norm_grad(cadft__run *run, cadft_norm_args *args)
{
    fill_norm(run, args);
    return ready(run, CADFT_OP_NORM_GRAD, args, &args->work) ? CALL(norm_grad)
                                                             : CADFT_OK;
}

int32_t cadft__run_rope(cadft__run *run,
                        cadft_array x,
                        int64_t groups,
                        int64_t stride,
                        int32_t inverse)
{
    cadft_rope_args rope = {
        .struct_size = sizeof rope,
        .inverse = inverse,
        .x = x,
        .table = {run->model->rope.base, 0},
        .indices = run->workspace->positions,
        .rows = run->sequences->rows,
        .groups = groups,
        .head_dim = run->model->config.head_dim,
        .x_stride = stride,
    };
    const cadft_rope_args *args = &rope;
    return ready(run, CADFT_OP_ROPE, args, NULL) ? CALL(rope) : CADFT_OK;
}

int32_t
cadft__run_attention(cadft__run *run, cadft_attention_args *args, int32_t grad)
{
    const cadft__config *config = &run->model->config;
    const cadft__sequences *s = run->sequences;
    args->struct_size = sizeof *args;
    args->q_first = s->first;
    args->k_first = s->k_first;
    args->k_count = s->k_count;
    args->sequences = s->count;
    args->heads = config->heads;
    args->kv_heads = config->kv_heads;
    args->head_dim = config->head_dim;
    args->window = config->window;
    args->scale = 1 / __builtin_sqrt((double)config->head_dim);
    if (!ready(run, grad ? CADFT_OP_ATTENTION_GRAD : CADFT_OP_ATTENTION, args,
               &args->work))
        return CADFT_OK;
    return grad ? CALL(attention_grad) : CALL(attention);
}

int32_t
cadft__run_swiglu(cadft__run *run, cadft_swiglu_args *args, int32_t grad)
{
    args->struct_size = sizeof *args;
    if (!ready(run, grad ? CADFT_OP_SWIGLU_GRAD : CADFT_OP_SWIGLU, args, NULL))
        return CADFT_OK;
    return grad ? CALL(swiglu_grad) : CALL(swiglu);
}

int32_t cadft__run_add(cadft__run *run, cadft_add_args *args)
{
    args->struct_size = sizeof *args;
    return ready(run, CADFT_OP_ADD, args, NULL) ? CALL(add) : CADFT_OK;
}

int32_t cadft__run_column_sum(cadft__run *run, cadft_add_args *args)
{
    args->struct_size = sizeof *args;
    return ready(run, CADFT_OP_COLUMN_SUM, args, &args->work) ? CALL(column_sum)
                                                              : CADFT_OK;
}

int32_t cadft__run_rows(cadft__run *run, int32_t op, cadft_rows_args *args)
{
    args->struct_size = sizeof *args;
    if (!ready(run, op, args, NULL))
        return CADFT_OK;
    if (op == CADFT_OP_ROWS_GATHER)
        return CALL(rows_gather);
    return op == CADFT_OP_ROWS_PUT ? CALL(rows_put) : CALL(rows_add);
}

int32_t cadft__run_zero(cadft__run *run, cadft_array to, uint64_t bytes)
{
    if (run->dry)
        return CADFT_OK;
    return cadft__device_zero(run->model->handle.context, run->stream, to,
                              bytes, run->error);
}

/* ---------------------------------------------------------- linear layers */

int cadft__run_wants(const cadft__run *run, const cadft__parameter *parameter)
{
    return parameter && (parameter->trainable || run->dry);
}

static const cadft__parameter *
member(const cadft__run *run, int64_t layer, int32_t kind)
{
    return cadft__parameters_get(&run->model->parameters, layer, kind);
}

/* Outputs of the whole group. */
static int64_t
outputs(const cadft__run *run, int64_t layer, const cadft__linear *linear)
{
    int64_t sum = 0;
    for (int32_t i = 0; i < linear->members; i++)
        sum += member(run, layer, linear->weights[i])->shape[0];
    return sum;
}

int32_t cadft__linear_forward(cadft__run *run,
                              int64_t layer,
                              const cadft__linear *linear,
                              cadft_array x,
                              cadft_array y)
{
    const cadft__parameters *p = &run->model->parameters;
    const cadft__parameter *w = member(run, layer, linear->weights[0]);
    int64_t n = outputs(run, layer, linear);
    cadft_matmul_args args = {
        .b_transposed = 1,
        .b_dtype = p->dtype,
        .bias_dtype = p->dtype,
        .a = x,
        .b = cadft__parameters_weight(p, w),
        .c = y,
        .bias =
            cadft__parameters_weight(p, member(run, layer, linear->biases[0])),
        .m = run->sequences->rows,
        .n = n,
        .k = w->shape[1],
        .a_stride = w->shape[1],
        .b_stride = w->shape[1],
        .c_stride = n,
    };
    return cadft__run_matmul(run, &args);
}

int32_t cadft__linear_input_grad(cadft__run *run,
                                 int64_t layer,
                                 const cadft__linear *linear,
                                 cadft_array dy,
                                 cadft_array dx)
{
    const cadft__parameters *p = &run->model->parameters;
    const cadft__parameter *w = member(run, layer, linear->weights[0]);
    int64_t n = outputs(run, layer, linear);
    cadft_matmul_args args = {
        .b_dtype = p->dtype,
        .a = dy,
        .b = cadft__parameters_weight(p, w),
        .c = dx,
        .m = run->sequences->rows,
        .n = w->shape[1],
        .k = n,
        .a_stride = n,
        .b_stride = w->shape[1],
        .c_stride = w->shape[1],
    };
    return cadft__run_matmul(run, &args);
}

/* Gradient of `n` outputs from column `first` on: weights that follow each
 * other in memory. */
static int32_t weight_grad(cadft__run *run,
                           const cadft__parameter *w,
                           int64_t n,
                           cadft_array dy,
                           int64_t dy_stride,
                           cadft_array x)
{
    cadft_matmul_args args = {
        .a_transposed = 1,
        .b_dtype = CADFT_DTYPE_F32,
        .accumulate = 1,
        .a = dy,
        .b = x,
        .c = cadft__parameters_grad(&run->model->parameters, w),
        .m = n,
        .n = w->shape[1],
        .k = run->sequences->rows,
        .a_stride = dy_stride,
        .b_stride = w->shape[1],
        .c_stride = w->shape[1],
    };
    return cadft__run_matmul(run, &args);
}

static int32_t bias_grad(cadft__run *run,
                         const cadft__parameter *bias,
                         cadft_array dy,
                         int64_t dy_stride)
{
    cadft_add_args args = {
        .x = dy,
        .rows = run->sequences->rows,
        .x_stride = dy_stride,
    };
    if (!cadft__run_wants(run, bias))
        return CADFT_OK;
    args.y = cadft__parameters_grad(&run->model->parameters, bias);
    args.cols = args.y_stride = bias->count;
    return cadft__run_column_sum(run, &args);
}

int32_t cadft__linear_weight_grad(cadft__run *run,
                                  int64_t layer,
                                  const cadft__linear *linear,
                                  cadft_array dy,
                                  cadft_array x)
{
    int64_t stride = outputs(run, layer, linear), column = 0, n;
    for (int32_t i = 0, next; i < linear->members; i = next) {
        const cadft__parameter *w = member(run, layer, linear->weights[i]);
        /* Trainable members side by side are one product. */
        n = w->shape[0];
        for (next = i + 1; next < linear->members; next++) {
            const cadft__parameter *more =
                member(run, layer, linear->weights[next]);
            if (!cadft__run_wants(run, w) || !cadft__run_wants(run, more))
                break;
            n += more->shape[0];
        }
        if (w->trainable)
            CADFT__TRY(
                weight_grad(run, w, n, cadft__after(dy, column), stride, x));
        column += n;
    }
    column = 0;
    for (int32_t i = 0; i < linear->members; i++) {
        CADFT__TRY(bias_grad(run, member(run, layer, linear->biases[i]),
                             cadft__after(dy, column), stride));
        column += member(run, layer, linear->weights[i])->shape[0];
    }
    return CADFT_OK;
}

int cadft__linear_wanted(const cadft__run *run,
                         int64_t layer,
                         const cadft__linear *linear)
{
    for (int32_t i = 0; i < linear->members; i++)
        if (cadft__run_wants(run, member(run, layer, linear->weights[i])) ||
            cadft__run_wants(run, member(run, layer, linear->biases[i])))
            return 1;
    return 0;
}
