/* SPDX-License-Identifier: Apache-2.0 */
/* One optimizer step with libcadft: gradient accumulation over packed
 * micro-batches, weights from the whole global batch (scope exact). */
#include <string.h>

#include "host.h"
#include "util.h"

int library_failed(const char *call, const cadft_error *error)
{
    return fail(HOST_FAILED, "%s: %s (%s)", call, error->message,
                cadft_status_string(error->code));
}

/* Split "eaft+w" into token objective and weighting; "cadft" is "dft+w". */
static int split_name(const char *name, char *token, size_t capacity)
{
    if (strcmp(name, "cadft") == 0)
        name = "dft+w";
    size_t length = strlen(name);
    int weighted = length > 2 && strcmp(name + length - 2, "+w") == 0;
    snprintf(token, capacity, "%.*s", (int)(length - (weighted ? 2 : 0)), name);
    return weighted;
}

int host_loss_create(host *h, const char *name, cadft_loss **out)
{
    char token[sizeof h->options->objectives->name];
    int64_t weighted = split_name(name, token, sizeof token);
    cadft_error error = {.struct_size = sizeof error};
    if (cadft_loss_create(h->context, out, &error) != CADFT_OK)
        return library_failed("cadft_loss_create", &error);
    int32_t status =
        cadft_loss_set_i64(*out, CADFT_LOSS_WEIGHTING, weighted, &error);
    if (status == CADFT_OK)
        status =
            cadft_loss_set_f64(*out, CADFT_LOSS_BETA, h->options->beta, &error);
    if (status == CADFT_OK)
        status = cadft_loss_set_str(*out, CADFT_LOSS_OBJECTIVE, token, &error);
    if (status == CADFT_OK)
        return HOST_OK;
    cadft_loss_destroy(*out);
    *out = NULL;
    return fail(HOST_INPUT, "objective %s: %s", name, error.message);
}

/* The views that libcadft gets of the model's and the batch's memory. They
 * point into themselves, so they are filled in place and never copied. */
typedef struct views {
    int64_t logits_shape[2];
    cadft_tensor logits, labels, sample_ids;
    cadft_loss_batch batch;
} views;

static int views_fill(views *v, const host *h)
{
    const packed *b = &h->batch;
    cadft_error error = {.struct_size = sizeof error};
    v->logits_shape[0] = b->rows;
    v->logits_shape[1] = MODEL_COLUMNS;
    int32_t status =
        cadft_tensor_init(&v->logits, sizeof v->logits, h->model.logits,
                          CADFT_DTYPE_F32, 2, v->logits_shape, NULL, &error);
    if (status == CADFT_OK)
        status = cadft_tensor_init(&v->labels, sizeof v->labels, b->labels,
                                   CADFT_DTYPE_I32, 1, v->logits_shape, NULL,
                                   &error);
    if (status == CADFT_OK)
        status = cadft_tensor_init(&v->sample_ids, sizeof v->sample_ids,
                                   b->sample_ids, CADFT_DTYPE_I32, 1,
                                   v->logits_shape, NULL, &error);
    if (status != CADFT_OK)
        return library_failed("cadft_tensor_init", &error);
    v->batch = (cadft_loss_batch){.struct_size = sizeof v->batch,
                                  .logits = &v->logits,
                                  .labels = &v->labels,
                                  .sample_ids = &v->sample_ids,
                                  .vocab_valid = MODEL_VOCAB};
    return HOST_OK;
}

static int fill_and_forward(
    host *h, const demo *const *demos, size_t first, size_t n, views *v)
{
    int status =
        packed_fill(&h->batch, h->model.shape.context, demos, first, n);
    if (status != HOST_OK)
        return status;
    model_forward(&h->model, h->batch.context, h->batch.rows);
    return views_fill(v, h);
}

/* First pass: the loss looks at all logits and remembers a few numbers a
 * row. Nothing else is kept: the memory is that of one micro-batch. */
static int observe_all(host *h,
                       cadft_loss *loss,
                       const demo *const *demos,
                       size_t n,
                       const step_hooks *hooks)
{
    views v;
    cadft_error error = {.struct_size = sizeof error};
    size_t k = 0;
    for (size_t first = 0; first < n; first += h->batch.count) {
        int status = fill_and_forward(h, demos, first, n, &v);
        if (status != HOST_OK)
            return status;
        if (cadft_loss_observe(loss, &v.batch, NULL, &h->micro[k++], &error) !=
            CADFT_OK)
            return library_failed("cadft_loss_observe", &error);
        if (hooks->observed)
            hooks->observed(h, hooks->user);
    }
    return HOST_OK;
}

/* Second pass: the same forward again, this time for its activations (the
 * logits are the same to the last bit), and the gradient over the logits. */
static int grad_all(host *h,
                    cadft_loss *loss,
                    const demo *const *demos,
                    size_t n,
                    const step_hooks *hooks)
{
    views v;
    cadft_error error = {.struct_size = sizeof error};
    size_t k = 0;
    for (size_t first = 0; first < n; first += h->batch.count) {
        int status = fill_and_forward(h, demos, first, n, &v);
        if (status != HOST_OK)
            return status;
        if (cadft_loss_grad(loss, h->micro[k++], &v.batch, &v.logits, &error) !=
            CADFT_OK)
            return library_failed("cadft_loss_grad", &error);
        model_backward(&h->model, h->batch.rows);
        hooks->graded(h, hooks->user);
    }
    return HOST_OK;
}

int host_step(host *h,
              cadft_loss *loss,
              const demo *const *demos,
              size_t n,
              const step_hooks *hooks,
              cadft_loss_report *report)
{
    cadft_error error = {.struct_size = sizeof error};
    if (cadft_loss_begin(loss, (int64_t)n, &error) != CADFT_OK)
        return library_failed("cadft_loss_begin", &error);
    int status = observe_all(h, loss, demos, n, hooks);
    if (status == HOST_OK && cadft_loss_weigh(loss, &error) != CADFT_OK)
        status = library_failed("cadft_loss_weigh", &error);
    if (status == HOST_OK && hooks->graded)
        status = grad_all(h, loss, demos, n, hooks);
    if (status == HOST_OK) {
        *report = (cadft_loss_report){.struct_size = sizeof *report};
        if (cadft_loss_end(loss, report, &error) != CADFT_OK)
            status = library_failed("cadft_loss_end", &error);
    }
    if (status != HOST_OK)
        cadft_loss_cancel(loss);
    return status;
}

void host_accumulate(host *h, void *unused)
{
    (void)unused;
    model_accumulate(&h->model, h->batch.context, 0, h->batch.rows);
}
