/* SPDX-License-Identifier: Apache-2.0 */
/* finetune: fine-tune a model folder with libcadft. */
#include <signal.h>
#include <stdio.h>

#include "demo.h"
#include "options.h"
#include "plan.h"
#include "plot.h"
#include "session.h"
#include "folder.h"
#include "stop.h"
#include "trainer.h"

typedef struct paths {
    char folder[MAX_OBJECTIVES][4096];
    const char *list[MAX_OBJECTIVES];
    plot_run runs[MAX_OBJECTIVES];
} paths;

/* One objective has OUT for itself, several have a folder each in it. */
static void name_folders(const options *o, paths *p)
{
    for (int i = 0; i < o->n_objectives; i++) {
        const char *name = o->objectives[i].name;
        if (o->n_objectives > 1)
            snprintf(p->folder[i], sizeof p->folder[i], "%s/%s", o->out, name);
        else
            snprintf(p->folder[i], sizeof p->folder[i], "%s", o->out);
        p->list[i] = p->folder[i];
        p->runs[i] = (plot_run){name, p->folder[i]};
    }
}

/* Table and picture. The picture failing takes nothing from the run. */
static int show(const options *o, const paths *p, text_error *error)
{
    size_t n = (size_t)o->n_objectives;
    int status = summary_show(stdout, p->list, n, error);
    if (status == TEXT_OK && o->plot)
        status = plot_draw(o->plot, p->runs, n, error);
    return status;
}

static int
train(const session *s, const paths *p, int *signal_number, text_error *error)
{
    const options *o = s->options;
    int status = TEXT_OK;
    for (int i = 0; i < o->n_objectives && status == TEXT_OK; i++) {
        status = run_objective(s, &o->objectives[i], p->folder[i],
                               signal_number, error);
        if (*signal_number)
            return status;
    }
    return status == TEXT_OK ? show(o, p, error) : status;
}

static int run(const options *o, int *signal_number, text_error *error)
{
    static paths p;
    session s;
    run_folder out = {.fd = -1};
    *signal_number = 0;
    if (o->n_from > 0)
        return plot_from(o->plot, o->from, (size_t)o->n_from, error);
    int status = o->dry_run ? TEXT_OK : folder_open(o->out, 1, &out, error);
    if (status != TEXT_OK)
        return status;
    status = session_open(o, &s, error);
    if (status == TEXT_OK && o->dry_run) {
        status = plan_show(&s, stdout, error);
    } else if (status == TEXT_OK) {
        name_folders(o, &p);
        status = train(&s, &p, signal_number, error);
    }
    session_close(&s);
    folder_close(&out);
    return status;
}

/* Wrong arguments ended the program in options_parse. */
static int finetune(int argc, char **argv)
{
    static options o;
    text_error error;
    int signal_number;
    options_parse(argc, argv, &o);
    stop_listen();
    int status = run(&o, &signal_number, &error);
    if (status != TEXT_OK)
        fprintf(stderr, "finetune: %s\n", error.message);
    else if (fflush(stdout) != 0 || ferror(stdout))
        status = TEXT_FAILED;
    return status != TEXT_OK ? 1 : signal_number ? 128 + signal_number : 0;
}

int main(int argc, char **argv)
{
    return argc > 1 ? finetune(argc, argv) : demo_run(argv[0], finetune);
}
