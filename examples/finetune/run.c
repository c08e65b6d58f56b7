/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "folder.h"
#include "stop.h"
#include "trainer.h"

/* Files and lines of a run. */
typedef struct outputs {
    run_folder folder;
    metrics *metrics;
    progress progress;
    int64_t saved; /* step of the last checkpoint; -1: none yet */
} outputs;

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int64_t eval_every(const session *s)
{
    int64_t every = s->options->eval_every;
    return every ? every : (s->steps + 9) / 10;
}

/* Every `every` steps, and at the end. */
static int is_due(const trainer *t, int64_t every)
{
    return t->step % every == 0 || t->step == t->session->steps;
}

/* ------------------------------------------------------------------ begin */

/* How good the model is before the first step. */
static int measure_before(trainer *t, text_error *error)
{
    summary_facts *f = &t->facts;
    int status = measure_held(t, &f->nll_before, &f->p_before, error);
    return status == TEXT_OK ? measure_moment(t, &f->moment_before, error)
                             : status;
}

static int begin(trainer *t, outputs *out, text_error *error)
{
    const session *s = t->session;
    const options *o = s->options;
    int status = TEXT_OK;
    snprintf(t->facts.objective, sizeof t->facts.objective, "%s",
             t->objective->name);
    t->facts.planned = s->steps;
    t->facts.weighted = t->objective->weighted;
    if (t->step == 0)
        status = measure_before(t, error);
    if (status == TEXT_OK)
        status = metrics_open(t->folder, t->step, s->groups, s->n_groups,
                              &out->metrics, error);
    if (status != TEXT_OK)
        return status;
    progress_start(&out->progress, o->quiet ? NULL : stderr,
                   o->n_objectives > 1 ? t->objective->name : NULL, s->steps,
                   o->log_every, &t->now);
    if (t->step > 0)
        progress_note(&out->progress, "going on after step %" PRId64, t->step);
    return TEXT_OK;
}

/* The first step is done: from here on there is something in the folder. What
 * an earlier run left there goes only now. */
static int after_first(trainer *t, text_error *error)
{
    const session *s = t->session;
    int status = TEXT_OK;
    if (s->options->fresh)
        status = saved_remove(s->context, t->folder, error);
    return status == TEXT_OK ? summary_save(t->folder, &t->facts, error)
                             : status;
}

/* ------------------------------------------------------------------- steps */

static int checkpoint(trainer *t, outputs *out, text_error *error)
{
    if (out->saved == t->step)
        return TEXT_OK;
    int status = metrics_sync(out->metrics, error);
    if (status == TEXT_OK)
        status = saved_write(t, error);
    if (status == TEXT_OK)
        out->saved = t->step;
    return status;
}

static int count_rewrites(trainer *t, text_error *error)
{
    cadft_error e = {.struct_size = sizeof e};
    if (!t->rewrite)
        return TEXT_OK;
    return checked(cadft_rewrite_get_i64(t->rewrite, CADFT_REWRITE_ACCEPTED,
                                         &t->now.rewrites, &e),
                   &e, error);
}

static int evaluate(trainer *t, text_error *error)
{
    metrics_record *now = &t->now;
    int status = measure_held(t, &now->eval_nll, &now->eval_p, error);
    if (status != TEXT_OK || t->step < t->session->steps)
        return status;
    t->facts.nll_after = now->eval_nll;
    t->facts.p_after = now->eval_p;
    return measure_moment(t, &t->facts.moment_after, error);
}

static int one_step(trainer *t, outputs *out, text_error *error)
{
    const session *s = t->session;
    double start = seconds_now();
    int status = rewriting_due(t, error);
    if (status == TEXT_OK)
        status = step_take(t, error);
    if (status == TEXT_OK)
        status = count_rewrites(t, error);
    t->now.seconds += seconds_now() - start;
    if (status != TEXT_OK)
        return text_fail(error, status, "%s, step %" PRId64 ": %s",
                         t->objective->name, t->step + 1, error->message);
    if (is_due(t, eval_every(s)))
        status = evaluate(t, error);
    if (status == TEXT_OK && t->step == 1)
        status = after_first(t, error);
    if (status == TEXT_OK)
        status = metrics_append(out->metrics, &t->now, error);
    if (status != TEXT_OK)
        return status;
    progress_step(&out->progress, &t->now);
    return is_due(t, s->options->save_every) ? checkpoint(t, out, error)
                                             : TEXT_OK;
}

/* ------------------------------------------------------------------- end */

static int save_final(trainer *t, text_error *error)
{
    cadft_error e = {.struct_size = sizeof e};
    char path[4096];
    snprintf(path, sizeof path, "%s/final", t->folder);
    int status = checked(cadft_model_save(t->model, path, &e), &e, error);
    t->facts.finished = 1;
    return status == TEXT_OK ? summary_save(t->folder, &t->facts, error)
                             : status;
}

/* Stopped by a signal: leave a checkpoint, unless there is nothing to keep. */
static int stop(trainer *t, outputs *out, text_error *error)
{
    int status = t->step > 0 ? checkpoint(t, out, error) : TEXT_OK;
    progress_end(&out->progress);
    if (status == TEXT_OK)
        fprintf(stderr,
                "finetune: stopped after step %" PRId64 " of %" PRId64
                "; the same command%s goes on from there\n",
                t->step, t->session->steps,
                t->session->options->fresh ? " without --fresh" : "");
    return status;
}

static int train(trainer *t, outputs *out, text_error *error)
{
    out->saved = t->step > 0 ? t->step : -1;
    int status = stop_asked() ? TEXT_OK : begin(t, out, error);
    while (status == TEXT_OK && t->step < t->session->steps && !stop_asked())
        status = one_step(t, out, error);
    if (status == TEXT_OK)
        status = t->step < t->session->steps ? stop(t, out, error)
                                             : save_final(t, error);
    return status;
}

/* All steps done and the model written, as summary.json says last of all. */
static int is_finished(const trainer *t)
{
    summary_facts facts;
    text_error unused;
    return t->step > 0 && t->step == t->session->steps &&
           summary_load(t->folder, &facts, &unused) == TEXT_OK &&
           facts.finished;
}

int run_objective(const session *s,
                  const objective_option *objective,
                  const char *path,
                  int *signal_number,
                  text_error *error)
{
    trainer t = {.session = s};
    outputs out = {.metrics = NULL};
    *signal_number = 0;
    int status = folder_open(path, 0, &out.folder, error);
    if (status != TEXT_OK)
        return status;
    status = trainer_open(s, objective, path, &t, error);
    if (status == TEXT_OK && is_finished(&t)) {
        fprintf(stderr, "finetune: %s: all %" PRId64 " steps were done\n", path,
                s->steps);
    } else if (status == TEXT_OK) {
        status = train(&t, &out, error);
        progress_end(&out.progress);
        metrics_close(out.metrics);
        if (t.step < s->steps)
            *signal_number = stop_asked();
    }
    folder_close(&out.folder);
    trainer_close(&t);
    return status;
}
