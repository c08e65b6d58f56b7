/* SPDX-License-Identifier: Apache-2.0 */
#include "progress.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static void remember(progress *p, const metrics_record *r)
{
    size_t i = (size_t)(p->seen % PROGRESS_WINDOW);
    p->time[i] = r->seconds;
    p->tokens[i] = r->tokens;
    p->at[i] = r->step;
    p->seen++;
}

void progress_start(progress *p,
                    FILE *to,
                    const char *name,
                    int64_t steps,
                    int64_t log_every,
                    const metrics_record *first)
{
    memset(p, 0, sizeof *p);
    p->to = to;
    p->name = name;
    p->steps = steps;
    p->log_every = log_every > 0 ? log_every : 1;
    p->terminal = to && isatty(fileno(to));
    p->last = -INFINITY;
    remember(p, first);
}

/* ------------------------------------------------------------- one line */

/* Text of at most `room` - 1 bytes. What does not fit is left out as a whole,
 * and all that follows. */
typedef struct words {
    char *text;
    size_t n, room;
} words;

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static void
say(words *w, const char *format, ...)
{
    va_list args;
    if (w->room == 0)
        return;
    va_start(args, format);
    int n = vsnprintf(w->text + w->n, w->room - w->n, format, args);
    va_end(args);
    if (n >= 0 && (size_t)n < w->room - w->n) {
        w->n += (size_t)n;
    } else {
        w->text[w->n] = 0;
        w->room = 0;
    }
}

static void say_left(words *w, double seconds)
{
    if (!(seconds >= 0 && seconds < 1e9))
        return;
    long s = lround(seconds);
    if (s >= 3600)
        say(w, "  %ldh%02ldm left", s / 3600, s / 60 % 60);
    else if (s >= 60)
        say(w, "  %ldm%02lds left", s / 60, s % 60);
    else
        say(w, "  %lds left", s);
}

/* What matters most comes first: a narrow terminal cuts the rest. */
static void line(const progress *p, const metrics_record *r, words *w)
{
    int64_t had = p->seen < PROGRESS_WINDOW ? 0 : p->seen - PROGRESS_WINDOW;
    size_t from = (size_t)(had % PROGRESS_WINDOW);
    double time = r->seconds - p->time[from];
    int64_t steps = r->step - p->at[from];
    if (p->name)
        say(w, "%s ", p->name);
    say(w, "%lld/%lld", (long long)r->step, (long long)p->steps);
    if (time > 0 && steps > 0)
        say_left(w, time / (double)steps * (double)(p->steps - r->step));
    say(w, "  loss %.4f  nll %.4f", r->loss, r->nll);
    say(w, "  w %.3f", r->mean_w);
    say(w, "  |g| %.3g", r->grad_norm);
    say(w, "  lr %.2e", r->lr);
    if (time > 0)
        say(w, "  %.0f tokens/s", (double)(r->tokens - p->tokens[from]) / time);
    say(w, "  %lld samples", (long long)r->samples);
    if (r->rewrites > 0)
        say(w, "  %lld rewritten", (long long)r->rewrites);
    if (r->skipped > 0)
        say(w, "  %lld skipped", (long long)r->skipped);
    if (!isnan(r->eval_nll))
        say(w, "  held-out nll %.4f p %.4f", r->eval_nll, r->eval_p);
}

static size_t columns_of(FILE *to)
{
    struct winsize size;
    if (ioctl(fileno(to), TIOCGWINSZ, &size) == 0 && size.ws_col > 1)
        return size.ws_col;
    return 80;
}

void progress_step(progress *p, const metrics_record *r)
{
    const double pause = 0.1; /* seconds between two drawings */
    char text[512];
    words w = {text, 0, sizeof text};
    int is_last = r->step >= p->steps;
    remember(p, r);
    if (!p->to)
        return;
    if (p->terminal) {
        size_t width = columns_of(p->to);
        if (r->seconds - p->last < pause && !is_last)
            return;
        /* The last column stays free: some terminals wrap there. */
        w.room = width < sizeof text ? width : sizeof text;
        line(p, r, &w);
        fprintf(p->to, "\r%s\033[K", text);
        p->last = r->seconds;
        p->shown = 1;
    } else {
        if (r->step % p->log_every != 0 && !is_last)
            return;
        line(p, r, &w);
        fprintf(p->to, "%s\n", text);
    }
    fflush(p->to);
}

void progress_note(progress *p, const char *format, ...)
{
    va_list args;
    if (!p->to)
        return;
    if (p->shown)
        fputs("\r\033[K", p->to);
    p->shown = 0;
    if (p->name)
        fprintf(p->to, "%s: ", p->name);
    va_start(args, format);
    vfprintf(p->to, format, args);
    va_end(args);
    fputc('\n', p->to);
    fflush(p->to);
}

void progress_end(progress *p)
{
    if (p->to && p->shown)
        fputc('\n', p->to);
    p->shown = 0;
}
