/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "host.h"
#include "matmul.h"
#include "util.h"

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* libcadft works on the host's own threads. */
static int create_context(host *h)
{
    cadft_parallel parallel = {.struct_size = sizeof parallel,
                               .max_workers = pool_workers(h->threads),
                               .user = h->threads,
                               .parallel_for = pool_run};
    cadft_context_desc desc = {.struct_size = sizeof desc,
                               .parallel = &parallel};
    cadft_error error = {.struct_size = sizeof error};
    if (cadft_context_create(&desc, &h->context, &error) != CADFT_OK)
        return library_failed("cadft_context_create", &error);
    return HOST_OK;
}

static int create_scratch(host *h, const data_set *data)
{
    h->max_samples =
        (size_t)larger(h->options->batch, larger((int64_t)data->heldout.n,
                                                 (int64_t)data->probe.n));
    h->micro = calloc(h->max_samples, sizeof *h->micro);
    h->picked = calloc(h->max_samples, sizeof *h->picked);
    h->samples = calloc(h->max_samples, sizeof *h->samples);
    h->start = calloc(h->model.n_params, sizeof *h->start);
    if (!h->micro || !h->picked || !h->samples || !h->start)
        return fail(HOST_FAILED, "out of memory for %zu samples",
                    h->max_samples);
    return HOST_OK;
}

/* Objectives are known to the library; ask it before any time is spent. */
static int check_objectives(host *h)
{
    for (int i = 0; i < h->options->n_objectives; i++) {
        const char *name = h->options->objectives[i].name;
        cadft_loss *loss = NULL;
        if (strcmp(name, "host") == 0 || strcmp(name, "host+w") == 0)
            return fail(HOST_INPUT,
                        "objective %s: needs coefficients from the program, "
                        "and this one has none",
                        name);
        int status = host_loss_create(h, name, &loss);
        cadft_loss_destroy(loss);
        if (status != HOST_OK)
            return status;
    }
    return HOST_OK;
}

int host_create(const options *o, const data_set *data, host *h)
{
    memset(h, 0, sizeof *h);
    h->options = o;
    h->steps_planned = o->pretrain_steps + o->n_objectives * o->steps;
    matmul_single_thread();
    int64_t longest = o->shape.context + (int64_t)data->max_completion + 1;
    int64_t rows = larger(o->micro_rows, longest);
    int status = pool_create(o->threads, &h->threads);
    if (status == HOST_OK)
        status =
            model_create(&h->model, &o->shape, rows, o->data.seed, h->threads);
    if (status == HOST_OK)
        status = packed_create(&h->batch, rows, o->shape.context);
    if (status == HOST_OK)
        status = create_scratch(h, data);
    if (status == HOST_OK)
        status = create_context(h);
    if (status == HOST_OK)
        status = check_objectives(h);
    if (status != HOST_OK)
        host_destroy(h);
    return status;
}

void host_destroy(host *h)
{
    /* The context before the threads it was given. */
    cadft_context_destroy(h->context);
    packed_free(&h->batch);
    model_free(&h->model);
    pool_destroy(h->threads);
    free(h->micro);
    free(h->picked);
    free(h->samples);
    free(h->start);
    memset(h, 0, sizeof *h);
}
