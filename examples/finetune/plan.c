/* SPDX-License-Identifier: Apache-2.0 */
#include "plan.h"

#include <stdlib.h>

#include "knobs.h"
#include "trainer.h"

/* The largest of the micro-batches that a run will have, in each of their
 * measures. The order of the samples is known, so they can be looked at. */
typedef struct extent {
    int64_t micro, steps; /* micro-batches of so many steps */
    int64_t rows, logit_rows, sequences;
    int64_t tokens;
} extent;

/* An epoch's steps are enough: those after it are alike. */
static int measure(const session *s, extent *x, text_error *error)
{
    int64_t batch = s->options->batch;
    const text_sample **samples = calloc((size_t)batch, sizeof *samples);
    int status =
        samples ? TEXT_OK
                : text_fail(error, TEXT_FAILED, "out of memory for a step");
    *x = (extent){0};
    for (; status == TEXT_OK && x->steps < s->steps; x->steps++) {
        packed_step p;
        size_t n = (size_t)batch;
        if ((x->steps + 1) * batch > (int64_t)s->n_train && x->steps > 0)
            break;
        for (size_t i = 0; i < n; i++)
            samples[i] =
                s->train[session_sample(s, x->steps * batch + (int64_t)i)];
        status = pack_step(samples, n, s->options->micro_tokens, &p, error);
        if (status != TEXT_OK)
            break;
        x->micro += (int64_t)p.n;
        for (size_t i = 0; i < p.n; i++)
            x->tokens += p.micro[i].rows;
        x->rows = p.max_rows > x->rows ? p.max_rows : x->rows;
        x->logit_rows =
            p.max_logit_rows > x->logit_rows ? p.max_logit_rows : x->logit_rows;
        x->sequences =
            p.max_samples > x->sequences ? p.max_samples : x->sequences;
        pack_free(&p);
    }
    free(samples);
    return status;
}

static void line(FILE *to, const char *name, double value, const char *unit)
{
    fprintf(to, "    %-28s %12.*f %s\n", name, *unit ? 1 : 0, value, unit);
}

static void bytes(FILE *to, const char *name, int64_t value)
{
    line(to, name, (double)value / (1 << 20), "MiB");
}

static int64_t data_bytes(const session *s)
{
    int64_t n = 0;
    for (size_t i = 0; i < s->data.n; i++)
        n += 8 * s->data.samples[i].n;
    for (size_t i = 0; i < s->eval_data.n; i++)
        n += 8 * s->eval_data.samples[i].n;
    return n;
}

/* Float32 gradients of what is not frozen. */
static int32_t trainable(cadft_model *model, int64_t *elements, cadft_error *e)
{
    int64_t n = 0;
    int32_t status = cadft_model_get_i64(model, CADFT_MODEL_PARAMETERS, &n, e);
    *elements = 0;
    for (int64_t i = 0; i < n && status == CADFT_OK; i++) {
        cadft_tensor value = {.struct_size = sizeof value};
        int32_t is = 0;
        status = cadft_model_parameter(model, i, NULL, &value, NULL, &is, e);
        int64_t size = status == CADFT_OK && is;
        for (int32_t d = 0; d < value.ndim && size; d++)
            size *= value.shape[d];
        *elements += size;
    }
    return status;
}

static int show_memory(trainer *t, const extent *x, FILE *to, text_error *error)
{
    cadft_error e = {.struct_size = sizeof e};
    int64_t weights = 0, elements = 0, state = 0, activations = 0, vocab = 0,
            all = 0;
    cadft_model_limits limits = {.struct_size = sizeof limits,
                                 .rows = x->rows,
                                 .logit_rows = x->logit_rows,
                                 .sequences = x->sequences};
    int32_t status =
        cadft_model_get_i64(t->model, CADFT_MODEL_WEIGHT_BYTES, &weights, &e);
    if (status == CADFT_OK)
        status = cadft_model_get_i64(t->model, CADFT_MODEL_ELEMENTS, &all, &e);
    if (status == CADFT_OK)
        status = cadft_model_get_i64(t->model, CADFT_MODEL_VOCAB, &vocab, &e);
    if (status == CADFT_OK)
        status = trainable(t->model, &elements, &e);
    if (status == CADFT_OK)
        status = cadft_optimizer_get_i64(
            t->optimizer, CADFT_OPTIMIZER_STATE_BYTES, &state, &e);
    if (status == CADFT_OK)
        status = cadft_model_plan(t->model, &limits, &activations, &e);
    if (status != CADFT_OK)
        return checked(status, &e, error);
    int64_t data = data_bytes(t->session);
    fprintf(to, "model\n");
    line(to, "parameters", (double)all, "");
    line(to, "trainable", (double)elements, "");
    fprintf(to, "memory\n");
    bytes(to, "weights", weights);
    bytes(to, "gradients", 4 * elements);
    bytes(to, "optimizer", state);
    bytes(to, "activations", activations);
    bytes(to, "  of them logits", 4 * vocab * x->logit_rows);
    bytes(to, "data", data);
    bytes(to, "together", weights + 4 * elements + state + activations + data);
    return TEXT_OK;
}

static void show_data(const session *s, const extent *x, FILE *to)
{
    const options *o = s->options;
    fprintf(to, "data\n");
    line(to, "samples to train on", (double)s->n_train, "");
    line(to, "samples held out", (double)s->n_held, "");
    line(to, "lines skipped", (double)(s->data.n_bad + s->eval_data.n_bad), "");
    line(to, "samples too long", (double)(s->data.n_long + s->eval_data.n_long),
         "");
    line(to, "tokens of a step", (double)x->tokens / (double)x->steps, "");
    fprintf(to, "run%s\n", o->n_objectives > 1 ? " of each objective" : "");
    line(to, "steps", (double)s->steps, "");
    line(to, "samples of a step", (double)o->batch, "");
    fprintf(to, "    %-28s %12.1f\n", "micro-batches of a step",
            (double)x->micro / (double)x->steps);
    line(to, "largest micro-batch", (double)x->rows, "tokens");
}

/* The first step that may rewrite, of the first objective that does. */
static int show_rewriting(const session *s, FILE *to, text_error *error)
{
    const options *o = s->options;
    cadft_error e = {.struct_size = sizeof e};
    cadft_rewrite *rewrite = NULL;
    int32_t due = 0;
    int64_t step = 0;
    int i = 0, status;
    knobs k;
    while (i < o->n_objectives && !trainer_rewrites(s, &o->objectives[i]))
        i++;
    if (i == o->n_objectives) {
        fprintf(to, "    %-28s %12s\n", "rewriting", "off");
        return TEXT_OK;
    }
    knobs_plan(o, &o->objectives[i], s->steps, &k);
    status =
        checked(cadft_rewrite_create(s->context, 1, &rewrite, &e), &e, error);
    if (status == TEXT_OK)
        status = knobs_apply(&k, NOUN_REWRITE, rewrite, error);
    while (status == TEXT_OK && !due && ++step < s->steps)
        status = checked(cadft_rewrite_due(rewrite, step, &due, &e), &e, error);
    if (status == TEXT_OK && due)
        line(to, "rewriting, first at step", (double)step, "");
    else if (status == TEXT_OK)
        fprintf(to, "    %-28s %12s\n", "rewriting", "never due");
    cadft_rewrite_destroy(rewrite);
    return status;
}

int plan_show(const session *s, FILE *to, text_error *error)
{
    trainer t;
    extent x;
    int status = measure(s, &x, error);
    if (status != TEXT_OK)
        return status;
    /* Without a folder: as if nothing had been trained yet. */
    status = trainer_open(s, &s->options->objectives[0], NULL, &t, error);
    if (status == TEXT_OK) {
        show_data(s, &x, to);
        status = show_rewriting(s, to, error);
    }
    if (status == TEXT_OK)
        status = show_memory(&t, &x, to, error);
    trainer_close(&t);
    return status;
}
