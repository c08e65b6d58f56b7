/* SPDX-License-Identifier: Apache-2.0 */
/* For test_loss.c alone: a loss driven to any phase of a step, and the table
 * of what each call returns there. */
#ifndef TESTS_LOSS_STAGE_H
#define TESTS_LOSS_STAGE_H

#include "support.h"

static cadft_loss *new_loss(void)
{
    cadft_context *context = support_context(NULL, 1);
    cadft_error err = support_error();
    cadft_loss *loss = NULL;
    CHECK_OK(cadft_loss_create(context, &loss, &err), err);
    cadft_context_destroy(context);
    return loss;
}

enum { ROWS = 6, COLS = 5, SAMPLES = 2 };

enum phase {
    NEW,
    BEGUN,
    OBSERVED,
    MAX_DUE, /* a shard of the vocabulary was observed */
    SUM_DUE,
    WEIGHED,
    GRADED,
    ENDED,
    CANCELLED,
    PHASES
};

/* A loss driven to a phase, with what the calls need. */
struct stage {
    cadft_loss *loss;
    support_batch *b;
    cadft_loss_batch shard;
    cadft_tensor grad;
    float g[ROWS * COLS];
    double array[64];
    cadft_loss_report report;
    size_t size;
    int64_t micro;
};

static void share(struct stage *s, int32_t kind)
{
    cadft_error err = support_error();
    CHECK_OK(
        cadft_loss_export(s->loss, kind, 0, 1, s->array, 64, &s->size, &err),
        err);
    CHECK_OK(cadft_loss_import(s->loss, kind, s->array, s->size, &err), err);
}

static void drive(struct stage *s, enum phase to)
{
    cadft_error err = support_error();
    if (to == NEW)
        return;
    CHECK_OK(cadft_loss_begin(s->loss, SAMPLES, &err), err);
    if (to == MAX_DUE || to == SUM_DUE) {
        CHECK_OK(cadft_loss_observe(s->loss, &s->shard, NULL, &s->micro, &err),
                 err);
        if (to == SUM_DUE)
            share(s, CADFT_EXCHANGE_ROW_MAX);
        return;
    }
    if (to >= OBSERVED)
        CHECK_OK(
            cadft_loss_observe(s->loss, &s->b->batch, NULL, &s->micro, &err),
            err);
    if (to >= WEIGHED)
        CHECK_OK(cadft_loss_weigh(s->loss, &err), err);
    if (to >= GRADED)
        CHECK_OK(
            cadft_loss_grad(s->loss, s->micro, &s->b->batch, &s->grad, &err),
            err);
    if (to == ENDED)
        CHECK_OK(cadft_loss_end(s->loss, NULL, &err), err);
    if (to == CANCELLED)
        cadft_loss_cancel(s->loss);
}

static struct stage stage_new(enum phase to)
{
    struct stage s = {.loss = new_loss(),
                      .report = {.struct_size = sizeof s.report}};
    s.b = support_batch_new(ROWS, COLS, CADFT_DTYPE_F32, SAMPLES, 2);
    s.shard = s.b->batch;
    s.shard.vocab_total = COLS;
    cadft_tensor_init(&s.grad, sizeof s.grad, NULL, CADFT_DTYPE_F32, 2,
                      s.b->shape, NULL, NULL);
    s.grad.data = s.b->z; /* in place; each stage has its own */
    drive(&s, to);
    return s;
}

static void stage_free(struct stage *s)
{
    cadft_loss_destroy(s->loss); /* allowed in any phase */
    support_batch_free(s->b);
}

/* What each call returns in each phase, in the order of enum phase: o is
 * CADFT_OK, p CADFT_E_PHASE, a CADFT_E_ARG (there is no such micro-batch). */
enum call {
    SET,
    SET_DENOMINATOR,
    SET_GRAD_SCALE,
    SET_STR,
    SET_COEFFICIENT,
    GET,
    BEGIN,
    COMPUTE,
    OBSERVE,
    WEIGH,
    GRAD,
    GRAD_AGAIN,
    END,
    GET_REPORT,
    ROWS_L,
    ROWS_SCALE,
    ROWS_LOSS,
    SAMPLES_C,
    SAMPLES_W,
    SAVE,
    EXCHANGE, /* + kind */
    CALLS = EXCHANGE + CADFT_EXCHANGE_REPORT + 1
};

static const char *const allowed[CALLS] = {
    [SET] = "oppppppoo",
    [SET_DENOMINATOR] = "oooooppoo",
    [SET_GRAD_SCALE] = "ooooooooo",
    [SET_STR] = "oppppppoo",
    [SET_COEFFICIENT] = "oppppppoo",
    [GET] = "ooooooooo",
    [BEGIN] = "oppppppoo",
    [COMPUTE] = "oppppppoo",
    [OBSERVE] = "poopppppp",
    [WEIGH] = "poopppppp",
    [GRAD] = "pppppoopp",
    [GRAD_AGAIN] = "pppppoopp",
    [END] = "pppppoopp",
    [GET_REPORT] = "pppppooop",
    [ROWS_L] = "paoaaooop",
    [ROWS_SCALE] = "papaaooop",
    [ROWS_LOSS] = "papaaooop",
    [SAMPLES_C] = "pooooooop",
    [SAMPLES_W] = "pppppooop",
    [SAVE] = "oppppppoo",
    [EXCHANGE + CADFT_EXCHANGE_ROW_MAX] = "pppoppppp",
    [EXCHANGE + CADFT_EXCHANGE_ROW_SUM] = "ppppopppp",
    [EXCHANGE + CADFT_EXCHANGE_SAMPLES] = "poopppppp",
    [EXCHANGE + CADFT_EXCHANGE_MOMENTS] = "poopppppp",
    [EXCHANGE + CADFT_EXCHANGE_WEIGHTS] = "pppppoppp",
    [EXCHANGE + CADFT_EXCHANGE_REPORT] = "pppppoopp",
};

/* Export and, with what came out, import; both must say the same. */
static int32_t exchange(struct stage *s, int32_t kind, cadft_error *err)
{
    int32_t status =
        cadft_loss_export(s->loss, kind, 0, 1, s->array, 64, &s->size, err);
    ck_assert_int_eq(cadft_loss_import(s->loss, kind, s->array, s->size, err),
                     status);
    return status;
}

static int32_t try_array(struct stage *s, enum call call, cadft_error *err)
{
    switch (call) {
    case ROWS_L:
        return cadft_loss_get_rows(s->loss, 0, CADFT_ROWS_NLL, s->array, 64,
                                   NULL, err);
    case ROWS_SCALE:
        return cadft_loss_get_rows(s->loss, 0, CADFT_ROWS_SCALE, s->array, 64,
                                   NULL, err);
    case ROWS_LOSS:
        return cadft_loss_get_rows(s->loss, 0, CADFT_ROWS_LOSS, s->array, 64,
                                   NULL, err);
    case SAMPLES_C:
        return cadft_loss_get_samples(s->loss, CADFT_SAMPLES_C, s->array, 64,
                                      NULL, err);
    case SAMPLES_W:
        return cadft_loss_get_samples(s->loss, CADFT_SAMPLES_W, s->array, 64,
                                      NULL, err);
    case SAVE:
        return cadft_loss_state_save(s->loss, s->array, sizeof s->array,
                                     &s->size, err);
    default:
        return exchange(s, (int32_t)(call - EXCHANGE), err);
    }
}

static int32_t try_call(struct stage *s, enum call call, cadft_error *err)
{
    double value;
    switch (call) {
    case SET:
        return cadft_loss_set_f64(s->loss, CADFT_LOSS_BETA, 1, err);
    case SET_DENOMINATOR:
        return cadft_loss_set_f64(s->loss, CADFT_LOSS_DENOMINATOR, 3, err);
    case SET_GRAD_SCALE:
        return cadft_loss_set_f64(s->loss, CADFT_LOSS_GRAD_SCALE, 3, err);
    case SET_STR:
        return cadft_loss_set_str(s->loss, CADFT_LOSS_SCOPE, "exact", err);
    case SET_COEFFICIENT:
        return cadft_loss_set_coefficient(s->loss, NULL, err);
    case GET:
        return cadft_loss_get_f64(s->loss, CADFT_LOSS_BETA, &value, err);
    case BEGIN:
        return cadft_loss_begin(s->loss, SAMPLES, err);
    case COMPUTE:
        return cadft_loss_compute(s->loss, &s->b->batch, SAMPLES, &s->grad,
                                  NULL, NULL, err);
    case OBSERVE:
        return cadft_loss_observe(s->loss, &s->b->batch, NULL, &s->micro, err);
    case WEIGH:
        return cadft_loss_weigh(s->loss, err);
    case GRAD:
        return cadft_loss_grad(s->loss, 0, &s->b->batch, &s->grad, err);
    case GRAD_AGAIN:
        return cadft_loss_grad(s->loss, -1, &s->b->batch, &s->grad, err);
    case END:
        return cadft_loss_end(s->loss, NULL, err);
    case GET_REPORT:
        return cadft_loss_get_report(s->loss, &s->report, err);
    default:
        return try_array(s, call, err);
    }
}

#endif
