/* SPDX-License-Identifier: Apache-2.0 */
#include "data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/arithmetic.h"
#include "util.h"

/* ---------------------------------------------------------------- lists */

static int reserve(demo_list *list)
{
    if (list->n < list->capacity)
        return HOST_OK;
    size_t capacity = list->capacity ? 2 * list->capacity : 256;
    demo *items = realloc(list->items, capacity * sizeof *items);
    if (!items)
        return fail(HOST_FAILED, "out of memory for %zu demonstrations",
                    capacity);
    list->items = items;
    list->capacity = capacity;
    return HOST_OK;
}

int demo_list_add(demo_list *list,
                  const void *prompt,
                  size_t n_prompt,
                  const void *completion,
                  size_t n_completion)
{
    int status = reserve(list);
    if (status != HOST_OK)
        return status;
    demo d = {NULL, n_prompt, n_completion, 0};
    d.text = malloc(n_prompt + n_completion);
    if (!d.text)
        return fail(HOST_FAILED, "out of memory for a demonstration");
    if (n_prompt > 0)
        memcpy(d.text, prompt, n_prompt);
    memcpy(d.text + n_prompt, completion, n_completion);
    list->items[list->n++] = d;
    return HOST_OK;
}

void demo_list_free(demo_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        free(list->items[i].text);
    free(list->items);
    memset(list, 0, sizeof *list);
}

static void shuffle_list(demo_list *list, uint64_t *rng)
{
    for (size_t i = list->n; i > 1; i--) {
        size_t j = rng_below(rng, i);
        demo d = list->items[i - 1];
        list->items[i - 1] = list->items[j];
        list->items[j] = d;
    }
}

/* Move the last n of `from` to `to`. */
static int move_last(demo_list *from, size_t n, demo_list *to)
{
    for (size_t i = 0; i < n; i++) {
        int status = reserve(to);
        if (status != HOST_OK)
            return status;
        to->items[to->n++] = from->items[--from->n];
    }
    return HOST_OK;
}

/* ----------------------------------------------------------- generating */

static int generate_one(int a, char op, int b, demo_list *out)
{
    arithmetic_item item;
    arithmetic_make(a, op, b, &item);
    return demo_list_add(out, item.question, strlen(item.question), item.answer,
                         strlen(item.answer));
}

int data_generate(demo_list *out)
{
    int status = HOST_OK;
    for (int a = ARITHMETIC_LEAST; a <= ARITHMETIC_MOST && status == HOST_OK;
         a++)
        for (int b = ARITHMETIC_LEAST;
             b <= ARITHMETIC_MOST && status == HOST_OK; b++) {
            status = generate_one(a, '+', b, out);
            if (status == HOST_OK && b <= a)
                status = generate_one(a, '-', b, out);
        }
    return status;
}

/* ------------------------------------------------------------- spoiling */

/* Replace the completion of `d`. */
static int spoil(demo *d, const demo *other, size_t max_bytes, uint64_t *rng)
{
    size_t n = d->n_completion > other->n_completion ? d->n_completion
                                                     : other->n_completion;
    unsigned char *text = malloc(d->n_prompt + n * MISMATCH_GROWTH);
    if (!text)
        return fail(HOST_FAILED, "out of memory for a demonstration");
    memcpy(text, d->text, d->n_prompt);
    n = mismatch_make(d->text + d->n_prompt, d->n_completion,
                      other->text + other->n_prompt, other->n_completion,
                      text + d->n_prompt, rng);
    free(d->text);
    d->text = text;
    d->n_completion = n < max_bytes ? n : max_bytes;
    d->mismatched = 1;
    return HOST_OK;
}

/* Spoil the first share * n (the list is in random order). The other
 * question is one behind the spoiled ones where there is any. */
static int
spoil_share(demo_list *list, const data_options *options, uint64_t *rng)
{
    size_t n = (size_t)(options->mismatch * (double)list->n + 0.5);
    for (size_t i = 0; i < n; i++) {
        size_t from = i + 1 < list->n ? i + 1 : 0;
        size_t j = from + rng_below(rng, list->n - from);
        int status =
            spoil(&list->items[i], &list->items[j], options->max_bytes, rng);
        if (status != HOST_OK)
            return status;
    }
    return HOST_OK;
}

/* ------------------------------------------------------------ splitting */

enum { SMALLEST_SET = 32, PROBE = 64 };

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static int split(demo_list *all, const data_options *options, data_set *out)
{
    size_t n = all->n;
    if (n < SMALLEST_SET)
        return fail(
            HOST_INPUT, "%s: %zu usable demonstrations, at least %d are needed",
            options->path ? options->path : "generated", n, SMALLEST_SET);
    uint64_t rng = rng_for(options->seed, 2);
    shuffle_list(all, &rng);
    int status =
        move_last(all, smaller(options->heldout, n / 4), &out->heldout);
    if (status == HOST_OK)
        status = move_last(all, smaller(PROBE, n / 8), &out->probe);
    if (status == HOST_OK)
        status = move_last(all, n / 4, &out->pretrain);
    if (status == HOST_OK)
        status = move_last(all, all->n, &out->train);
    if (status == HOST_OK)
        status = spoil_share(&out->train, options, &rng);
    if (status == HOST_OK)
        status = spoil_share(&out->probe, options, &rng);
    return status;
}

static void measure(data_set *data)
{
    const demo_list *lists[] = {&data->pretrain, &data->train, &data->heldout,
                                &data->probe};
    for (size_t k = 0; k < sizeof lists / sizeof *lists; k++)
        for (size_t i = 0; i < lists[k]->n; i++) {
            const demo *d = &lists[k]->items[i];
            if (d->n_completion > data->max_completion)
                data->max_completion = d->n_completion;
        }
}

int data_load(const data_options *options, data_set *out)
{
    memset(out, 0, sizeof *out);
    demo_list all = {0};
    int status = options->path ? data_read(options, &all) : data_generate(&all);
    if (status == HOST_OK)
        status = split(&all, options, out);
    demo_list_free(&all);
    if (status != HOST_OK)
        data_free(out);
    else
        measure(out);
    return status;
}

void data_free(data_set *data)
{
    demo_list_free(&data->pretrain);
    demo_list_free(&data->train);
    demo_list_free(&data->heldout);
    demo_list_free(&data->probe);
    memset(data, 0, sizeof *data);
}

/* -------------------------------------------------------------- answers */

static int is_blank(unsigned char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

const unsigned char *
final_answer(const unsigned char *text, size_t n, size_t *n_answer)
{
    const unsigned char *start = text, *end = text + n;
    for (size_t i = 0; i + 4 <= n; i++)
        if (memcmp(text + i, "####", 4) == 0)
            start = text + i + 4;
    while (start < end && is_blank(*start))
        start++;
    while (start < end && is_blank(end[-1]))
        end--;
    *n_answer = (size_t)(end - start);
    return start;
}
