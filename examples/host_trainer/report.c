/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics, progress, and the table at the end. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host.h"
#include "util.h"

/* ------------------------------------------------------------------ CSV */

static int open_failed(const char *path)
{
    return fail(HOST_INPUT, "%s: cannot be written: %s", path, strerror(errno));
}

int report_open(host *h)
{
    const options *o = h->options;
    const char *folder = o->out ? o->out : ".";
    size_t room = strlen(folder) + sizeof "/host_trainer.csv" +
                  (o->csv ? strlen(o->csv) : 0);
    h->csv_path = malloc(room);
    if (!h->csv_path)
        return fail(HOST_FAILED, "out of memory for a path");
    if (o->csv)
        strcpy(h->csv_path, o->csv);
    else if (o->out)
        snprintf(h->csv_path, room, "%s/host_trainer.csv", folder);
    else
        strcpy(h->csv_path, "host_trainer.csv");
    h->csv = fopen(h->csv_path, "wb");
    if (!h->csv)
        return open_failed(h->csv_path);
    fputs("objective,step,learning_rate,loss,nll,mean_p,mean_w,min_w,"
          "share_below,mu,sigma,grad_scale,samples,rows,w_clean,"
          "w_mismatched\n",
          h->csv);
    h->started = h->shown = seconds_now();
    return HOST_OK;
}

int report_close(host *h)
{
    int status = HOST_OK;
    if (h->shown_line)
        fputs("\r\033[K", stderr);
    h->shown_line = 0;
    progress_shown(0);
    int reported = h->csv && ferror(h->csv);
    if (h->csv && fclose(h->csv) != 0 && !reported)
        status = fail(HOST_FAILED, "%s: cannot be written: %s", h->csv_path,
                      strerror(errno));
    h->csv = NULL;
    free(h->csv_path);
    h->csv_path = NULL;
    return status;
}

/* A number, or an empty field where there is none. */
static void field(FILE *file, double x)
{
    if (isnan(x))
        fputc(',', file);
    else
        fprintf(file, ",%.9g", x);
}

static int write_row(host *h, const step_metrics *s)
{
    const cadft_loss_report *r = s->report;
    const double numbers[] = {s->learning_rate,
                              r->loss,
                              r->nll,
                              r->mean_p,
                              r->mean_w,
                              r->min_w,
                              r->share_below,
                              r->mu,
                              r->sigma,
                              r->grad_scale,
                              (double)r->n_samples,
                              (double)r->n_rows,
                              s->w_clean,
                              s->w_mismatched};
    fprintf(h->csv, "%s,%lld", s->name, (long long)s->step + 1);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        field(h->csv, numbers[i]);
    fputc('\n', h->csv);
    if (ferror(h->csv))
        return fail(HOST_FAILED, "%s: cannot be written: %s", h->csv_path,
                    strerror(errno));
    return HOST_OK;
}

/* ------------------------------------------------------------- progress */

static void show_progress(host *h, const step_metrics *s)
{
    const double pause = 0.2; /* seconds between two lines */
    double now = seconds_now(), used = now - h->started;
    if (!isatty(STDERR_FILENO) || now - h->shown < pause)
        return;
    double left = used / (double)h->steps_done *
                  (double)(h->steps_planned - h->steps_done);
    fprintf(stderr,
            "\r%s %lld/%lld  loss %.4f  nll %.4f  w %.2f  %.0f tokens/s  "
            "%.0f s left\033[K",
            s->name, (long long)s->step + 1, (long long)s->steps,
            s->report->loss, s->report->nll, s->report->mean_w,
            (double)h->tokens_done / used, left);
    fflush(stderr);
    h->shown = now;
    h->shown_line = 1;
    progress_shown(1);
}

int report_step(host *h, const step_metrics *s)
{
    h->steps_done++;
    h->tokens_done += s->report->n_rows;
    show_progress(h, s);
    return write_row(h, s);
}

/* ---------------------------------------------------------------- table */

static void print_number(double x, int applied)
{
    char text[32] = "-";
    if (!isnan(x))
        snprintf(text, sizeof text, applied ? "%.3f" : "(%.3f)", x);
    printf(" %9s", text);
}

static void print_moment(double x)
{
    char text[32] = "-";
    if (!isnan(x))
        snprintf(text, sizeof text, "%.4g", x);
    printf(" %10s", text);
}

static void print_result(const result *r)
{
    printf("%-12s %8.4f %8.1f%%", r->name, r->nll, 100 * r->token_accuracy);
    if (isnan(r->answer_accuracy))
        printf(" %9s", "-");
    else
        printf(" %8.1f%%", 100 * r->answer_accuracy);
    print_number(r->w_clean, r->weighted);
    print_number(r->w_mismatched, r->weighted);
    print_moment(r->moment_start);
    print_moment(r->moment_end);
    if (r->stopped)
        printf("  stopped at step %lld", (long long)r->steps);
    putchar('\n');
}

static void print_footnotes(const host *h, const data_set *data)
{
    const options *o = h->options;
    printf(
        "\nheld-out  %zu clean items: mean NLL (nats a byte), bytes predicted "
        "right,\n"
        "          final answers right in greedy decoding\n"
        "w         mean sample weight in the last quarter of the steps; in\n"
        "          brackets: not applied, what beta %g would have given\n"
        "|g|^2     mean squared norm of the gradient of one sample, g = w/n\n"
        "          sum over its n rows of k dl/dtheta, theta all %zu\n"
        "          parameters, over %zu probe items (%g mismatched), at the\n"
        "          common start and after training\n",
        data->heldout.n, o->beta, h->model.n_params, data->probe.n,
        o->data.mismatch);
}

int report_table(const host *h,
                 const data_set *data,
                 const result *results,
                 int n)
{
    const options *o = h->options;
    printf("%zu demonstrations, %g of them mismatched; %lld steps of %lld; "
           "seed %llu\n\n",
           data->train.n, o->data.mismatch, (long long)o->steps,
           (long long)o->batch, (unsigned long long)o->data.seed);
    printf("%-12s %8s %9s %9s %9s %9s %10s %10s\n", "", "held-out", "bytes",
           "answers", "w of", "w of mis-", "|g|^2 at", "|g|^2 at");
    printf("%-12s %8s %9s %9s %9s %9s %10s %10s\n", "objective", "NLL", "right",
           "right", "clean", "matched", "start", "end");
    for (int i = 0; i < n; i++)
        print_result(&results[i]);
    print_footnotes(h, data);
    if (fflush(stdout) != 0 || ferror(stdout))
        return fail(HOST_FAILED, "the table cannot be written: %s",
                    strerror(errno));
    return HOST_OK;
}
