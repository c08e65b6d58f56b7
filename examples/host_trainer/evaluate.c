/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"
#include "util.h"

static int best_token(const float *logits)
{
    int best = 0;
    for (int j = 1; j < MODEL_VOCAB; j++)
        if (logits[j] > logits[best])
            best = j;
    return best;
}

/* ------------------------------------------------- NLL, token accuracy */

typedef struct token_count {
    int64_t right, rows;
} token_count;

static void count_tokens(host *h, void *user)
{
    token_count *count = user;
    const packed *b = &h->batch;
    for (int64_t r = 0; r < b->rows; r++) {
        if (b->labels[r] == IGNORE_INDEX)
            continue;
        const float *z = h->model.logits + r * MODEL_COLUMNS;
        count->right += best_token(z) == b->labels[r];
        count->rows++;
    }
}

/* A step without gradient is an evaluation. */
static int measure_tokens(host *h, const demo_list *heldout, result *out)
{
    token_count count = {0, 0};
    step_hooks hooks = {.observed = count_tokens, .user = &count};
    cadft_loss_report report;
    cadft_loss *loss = NULL;
    int status = host_loss_create(h, "sft", &loss);
    if (status != HOST_OK)
        return status;
    for (size_t i = 0; i < heldout->n; i++)
        h->picked[i] = &heldout->items[i];
    status = host_step(h, loss, h->picked, heldout->n, &hooks, &report);
    cadft_loss_destroy(loss);
    if (status != HOST_OK)
        return status;
    out->nll = report.nll;
    out->token_accuracy = (double)count.right / (double)count.rows;
    return HOST_OK;
}

/* ------------------------------------------------------- greedy decoding */

enum { ROOM = 32 }; /* bytes an answer may be longer than the reference */

typedef struct answer {
    const demo *asked;
    unsigned char *text; /* [limit] */
    size_t n, limit;
} answer;

/* Write what the model sees of `a` into one row, prompt and answer so far. */
static void show(const answer *a, int context, int32_t *seen)
{
    size_t c = (size_t)context, total = a->asked->n_prompt + a->n;
    for (size_t j = 0; j < c; j++) {
        size_t back = c - j; /* this many tokens before the next one */
        if (back > total)
            seen[j] = MODEL_BOUNDARY;
        else if (back > a->n)
            seen[j] = a->asked->text[total - back];
        else
            seen[j] = a->text[a->n - back];
    }
}

static int is_right(const answer *a)
{
    size_t n_told, n_asked;
    const demo *d = a->asked;
    const unsigned char *told = final_answer(a->text, a->n, &n_told);
    const unsigned char *asked =
        final_answer(d->text + d->n_prompt, d->n_completion, &n_asked);
    return n_told == n_asked && memcmp(told, asked, n_asked) == 0;
}

/* Decode all n answers side by side; one that has ended gives its row to
 * the last that has not. Returns how many are right. */
static size_t decode(host *h, answer *answers, size_t n)
{
    int context = h->model.shape.context;
    int32_t *seen = h->batch.context;
    size_t right = 0;
    while (n > 0) {
        for (size_t i = 0; i < n; i++)
            show(&answers[i], context, seen + i * (size_t)context);
        model_forward(&h->model, seen, (int64_t)n);
        for (size_t i = n; i-- > 0;) {
            answer *a = &answers[i];
            int token = best_token(h->model.logits + i * MODEL_COLUMNS);
            if (token != MODEL_BOUNDARY && a->n < a->limit) {
                a->text[a->n++] = (unsigned char)token;
                continue;
            }
            right += token == MODEL_BOUNDARY && is_right(a);
            answer ended = *a; /* swapped, not copied: it owns its text */
            *a = answers[--n];
            answers[n] = ended;
        }
    }
    return right;
}

static int measure_answers(host *h, const demo_list *heldout, result *out)
{
    size_t n = heldout->n, right = 0, done = 0;
    if ((int64_t)n > h->options->decode)
        n = (size_t)h->options->decode;
    answer *answers = calloc(n + 1, sizeof *answers);
    int status = answers ? HOST_OK : HOST_FAILED;
    for (size_t i = 0; i < n && status == HOST_OK; i++) {
        answer *a = &answers[i];
        a->asked = &heldout->items[i];
        a->limit = a->asked->n_completion + ROOM;
        a->text = malloc(a->limit);
        status = a->text ? HOST_OK : HOST_FAILED;
    }
    while (done < n && status == HOST_OK) {
        size_t some = n - done, most = (size_t)h->batch.capacity;
        some = some < most ? some : most;
        right += decode(h, answers + done, some);
        done += some;
    }
    for (size_t i = 0; answers && i < n; i++)
        free(answers[i].text);
    free(answers);
    out->answer_accuracy = n > 0 ? (double)right / (double)n : NAN;
    return status == HOST_OK ? HOST_OK
                             : fail(status, "out of memory for answers");
}

int host_evaluate(host *h, const demo_list *heldout, result *out)
{
    int status = measure_tokens(h, heldout, out);
    return status == HOST_OK ? measure_answers(h, heldout, out) : status;
}

/* -------------------------------------------------------- second moment */

/* The gradient of each sample alone, from rows that were packed together. */
static void add_squares(host *h, void *user)
{
    double *sum = user;
    const packed *b = &h->batch;
    for (size_t i = 0; i < b->count; i++) {
        model_zero_grad(&h->model);
        model_accumulate(&h->model, b->context, b->cu_seqlens[i],
                         b->cu_seqlens[i + 1]);
        for (size_t j = 0; j < h->model.n_params; j++)
            *sum += (double)h->model.grads[j] * (double)h->model.grads[j];
    }
}

int host_second_moment(host *h,
                       const char *name,
                       const demo_list *probe,
                       double *out)
{
    double sum = 0;
    step_hooks hooks = {.graded = add_squares, .user = &sum};
    cadft_error error = {.struct_size = sizeof error};
    cadft_loss_report report;
    cadft_loss *loss = NULL;
    int status = host_loss_create(h, name, &loss);
    if (status != HOST_OK)
        return status;
    /* scale = w_i / n_i: sample_mean over a batch of one, so to speak. */
    int32_t set = cadft_loss_set_i64(loss, CADFT_LOSS_REDUCTION,
                                     CADFT_REDUCTION_SAMPLE_MEAN, &error);
    if (set == CADFT_OK)
        set = cadft_loss_set_f64(loss, CADFT_LOSS_DENOMINATOR, 1, &error);
    if (set != CADFT_OK)
        status = library_failed("cadft_loss_set", &error);
    for (size_t i = 0; i < probe->n; i++)
        h->picked[i] = &probe->items[i];
    if (status == HOST_OK)
        status = host_step(h, loss, h->picked, probe->n, &hooks, &report);
    cadft_loss_destroy(loss);
    *out = sum / (double)probe->n;
    return status;
}
