/* SPDX-License-Identifier: Apache-2.0 */
/* host_trainer: one start, one data set, several objectives, one table. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "host.h"
#include "util.h"

enum { INTERRUPTED = 130 };

static const result nothing_yet = {.w_clean = NAN,
                                   .w_mismatched = NAN,
                                   .moment_start = NAN,
                                   .moment_end = NAN,
                                   .answer_accuracy = NAN,
                                   .weighted = 1};

/* The common starting point: a model that can do something already, since
 * compatibility is relative to what it can do. */
static int common_start(host *h, const data_set *data, result *out)
{
    const options *o = h->options;
    training_plan plan = {"start", "sft", &data->pretrain, o->pretrain_steps,
                          o->pretrain_rate};
    int status = HOST_OK;
    *out = nothing_yet;
    if (plan.steps > 0)
        status = host_train(h, &plan, out);
    out->name = plan.name;
    out->w_clean = out->w_mismatched = NAN;
    memcpy(h->start, h->model.params, h->model.n_params * sizeof(float));
    return status == HOST_OK ? host_evaluate(h, &data->heldout, out) : status;
}

static int one_objective(host *h,
                         const data_set *data,
                         const objective_option *x,
                         result *out)
{
    training_plan plan = {x->name, x->name, &data->train, h->options->steps,
                          x->learning_rate};
    *out = nothing_yet;
    out->name = x->name;
    model_restore(&h->model, h->start);
    int status =
        host_second_moment(h, x->name, &data->probe, &out->moment_start);
    if (status == HOST_OK)
        status = host_train(h, &plan, out);
    if (status == HOST_OK)
        status = host_evaluate(h, &data->heldout, out);
    if (status == HOST_OK)
        status = host_second_moment(h, x->name, &data->probe, &out->moment_end);
    return status;
}

static int compare(host *h, const data_set *data)
{
    result results[1 + MAX_OBJECTIVES];
    int n = 0;
    int status = report_open(h);
    if (status == HOST_OK)
        status = common_start(h, data, &results[n++]);
    for (int i = 0; i < h->options->n_objectives; i++) {
        if (status != HOST_OK || stop_asked())
            break;
        status =
            one_objective(h, data, &h->options->objectives[i], &results[n++]);
    }
    int closed = report_close(h);
    status = status == HOST_OK ? closed : status;
    if (status == HOST_OK)
        status = report_table(h, data, results, n);
    return status == HOST_OK && stop_asked() ? INTERRUPTED : status;
}

static int run(const options *o)
{
    data_set data;
    host h;
    int status = data_load(&o->data, &data);
    if (status != HOST_OK)
        return status;
    status = host_create(o, &data, &h);
    if (status == HOST_OK) {
        stop_on_interrupt();
        status = o->check ? host_check(&h, &data) : compare(&h, &data);
        host_destroy(&h);
    }
    data_free(&data);
    return status;
}

int main(int argc, char **argv)
{
    options o;
    int status = options_parse(argc, argv, &o);
    if (status != HOST_OK)
        return status;
    if (!o.help)
        return run(&o);
    options_help();
    if (fflush(stdout) == 0 && !ferror(stdout))
        return HOST_OK;
    return fail(HOST_FAILED, "the help cannot be written");
}
