/* SPDX-License-Identifier: Apache-2.0 */
/* Operands and what is expected of them; see check_backend.h. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "check_backend.h"
#include "common/tensor.h"
#include "cpu/cpu.h"

enum { MARGIN = 64, FILL = 0xff }; /* NaN in every type, -1 in int32 */

static void *need(void *memory)
{
    if (!memory) {
        fprintf(stderr, "out of memory\n");
        exit(2);
    }
    return memory;
}

void complain(check *c, const char *format, ...)
{
    char why[200];
    va_list list;
    va_start(list, format);
    vsnprintf(why, sizeof why, format, list);
    va_end(list);
    if (c->failures++ == 0)
        snprintf(c->first, sizeof c->first, "%s: %s", c->what, why);
}

/* -------------------------------------------------------------- operands */

static uint64_t element_at(const operand *o, int64_t r, int64_t i)
{
    return o->array.offset +
           (uint64_t)(r * o->stride + i) * cadft__dtype_size(o->dtype);
}

unsigned char *sent_at(operand *o, int64_t r, int64_t i)
{
    return o->sent + element_at(o, r, i);
}

unsigned char *got_at(operand *o, int64_t r, int64_t i)
{
    return o->got + element_at(o, r, i);
}

static double number(const operand *o, const unsigned char *image, uint64_t at)
{
    int32_t whole;
    double x;
    switch (o->dtype) {
    case CADFT_DTYPE_I32:
        memcpy(&whole, image + at, sizeof whole);
        return whole;
    case CADFT_DTYPE_F64:
        memcpy(&x, image + at, sizeof x);
        return x;
    default:
        return (double)decode(cadft__cpu_kernel_dtype(o->dtype), image + at, 0);
    }
}

double sent(const operand *o, int64_t r, int64_t i)
{
    return number(o, o->sent, element_at(o, r, i));
}

double got(const operand *o, int64_t r, int64_t i)
{
    return number(o, o->got, element_at(o, r, i));
}

void operand_set(operand *o, int64_t r, int64_t i, double x)
{
    unsigned char *at = sent_at(o, r, i);
    int32_t whole = (int32_t)x;
    if (o->dtype == CADFT_DTYPE_I32)
        memcpy(at, &whole, sizeof whole);
    else if (o->dtype == CADFT_DTYPE_F64)
        memcpy(at, &x, sizeof x);
    else
        encode(cadft__cpu_kernel_dtype(o->dtype), at, 0, (float)x);
}

void allow_none(operand *o)
{
    memset(o->may, 0, (size_t)o->bytes);
}

void allow(operand *o, int64_t first, int64_t rows)
{
    size_t row = (size_t)o->cols * cadft__dtype_size(o->dtype);
    for (int64_t r = first; r < first + rows; r++)
        memset(o->may + element_at(o, r, 0), 1, row);
}

/* Blocks of a timed call stay where the next one needs them not. */
static operand *
operand_new(check *c, const char *name, uint64_t offset, uint64_t bytes)
{
    operand *o = &c->operands[c->count];
    if (c->count++ == OPERANDS) {
        fprintf(stderr, "%s: more than %d operands\n", c->what, OPERANDS);
        exit(2);
    }
    memset(o, 0, sizeof *o);
    o->name = name;
    o->array.offset = offset;
    o->bytes = offset + bytes + MARGIN;
    o->sent = need(malloc((size_t)o->bytes));
    o->got = need(malloc((size_t)o->bytes));
    o->kept = need(malloc((size_t)o->bytes));
    o->may = need(calloc((size_t)o->bytes, 1));
    memset(o->sent, FILL, (size_t)o->bytes);
    if (cadft__device_alloc(c->context, o->bytes, &o->array.base, &c->error)) {
        fprintf(stderr, "%s: %s\n", c->what, c->error.message);
        exit(2);
    }
    return o;
}

operand *operand_strided(check *c,
                         const char *name,
                         int32_t dtype,
                         int64_t rows,
                         int64_t cols,
                         int64_t stride,
                         char kind)
{
    uint64_t size = cadft__dtype_size(dtype);
    uint64_t offset = MARGIN + size * (uint64_t)rng_below(&c->random, 16);
    uint64_t span = rows ? (uint64_t)((rows - 1) * stride + cols) * size : 0;
    operand *o = operand_new(c, name, offset, span);
    o->dtype = dtype;
    o->rows = rows;
    o->cols = cols;
    o->stride = stride;
    for (int64_t r = 0; r < rows && kind != 'o'; r++)
        for (int64_t i = 0; i < cols; i++)
            operand_set(o, r, i, 1.7 * (double)rng_bell(&c->random));
    if (kind != 'i')
        allow(o, 0, rows);
    return o;
}

static operand *operand_any(check *c,
                            const char *name,
                            int32_t dtype,
                            int64_t rows,
                            int64_t cols,
                            char kind)
{
    int64_t more = rows == 1 ? 0 : rng_below(&c->random, 3) * 5;
    return operand_strided(c, name, dtype, rows, cols, cols + more, kind);
}

operand *operand_in(
    check *c, const char *name, int32_t dtype, int64_t rows, int64_t cols)
{
    return operand_any(c, name, dtype, rows, cols, 'i');
}

operand *operand_both(
    check *c, const char *name, int32_t dtype, int64_t rows, int64_t cols)
{
    return operand_any(c, name, dtype, rows, cols, 'b');
}

operand *operand_out(
    check *c, const char *name, int32_t dtype, int64_t rows, int64_t cols)
{
    return operand_any(c, name, dtype, rows, cols, 'o');
}

operand *operand_index(check *c, const char *name, int64_t n, int64_t below)
{
    operand *o = operand_strided(c, name, CADFT_DTYPE_I32, 1, n, n, 'o');
    allow_none(o);
    for (int64_t i = 0; i < n; i++)
        operand_set(o, 0, i, (double)rng_below(&c->random, below));
    return o;
}

cadft_array operand_work(check *c, int32_t op, const void *args)
{
    uint64_t bytes = cadft__device_work_bytes(c->context, op, args);
    cadft_array absent = {NULL, 0};
    operand *o;
    if (bytes == 0)
        return absent;
    o = operand_new(c, "work", MARGIN, bytes);
    memset(o->may + o->array.offset, 1, (size_t)bytes);
    o->scratch = 1;
    return o->array;
}

cadft_array row_of(const operand *o, int64_t r)
{
    return (cadft_array){o->array.base, element_at(o, r, 0)};
}

int64_t part_of(int64_t rows, int64_t *first)
{
    *first = rows / 2;
    return (rows + 5) / 6;
}

/* ------------------------------------------------------------------ case */

void case_close(check *c)
{
    for (int i = 0; i < c->count; i++) {
        operand *o = &c->operands[i];
        cadft__device_free(c->context, NULL, o->array.base, o->bytes);
        free(o->sent);
        free(o->got);
        free(o->kept);
        free(o->may);
    }
    c->count = 0;
}

void case_begin(check *c, const char *format, ...)
{
    va_list list;
    case_close(c);
    va_start(list, format);
    vsnprintf(c->what, sizeof c->what, format, list);
    va_end(list);
    c->cases += !c->bench;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void fatal(check *c, int32_t status)
{
    if (status) {
        fprintf(stderr, "%s: %s\n", c->what, c->error.message);
        exit(2);
    }
}

void case_start(check *c)
{
    c->error = (cadft_error){.struct_size = sizeof c->error};
    for (int i = 0; i < c->count; i++) {
        operand *o = &c->operands[i];
        fatal(c, cadft__device_in(c->context, NULL,
                                  (cadft_array){o->array.base, 0}, o->sent,
                                  o->bytes, &c->error));
    }
    fatal(c, cadft__device_sync(c->context, NULL, &c->error));
    c->calls = 0;
    c->status = CADFT_OK;
    c->best = INFINITY;
    c->spent = 0;
    c->from = now();
}

/* Once; timed, until a quarter of a second is spent and at least twice. */
int case_again(check *c)
{
    double took;
    if (c->calls++ == 0)
        return 1;
    if (!c->bench || c->status)
        return 0;
    c->status = cadft__device_sync(c->context, NULL, &c->error);
    took = now() - c->from;
    c->best = fmin(c->best, took);
    c->spent += took;
    c->from = now();
    return !c->status && (c->spent < 0.25 || c->calls < 3);
}

static void look_beside(check *c, const operand *o)
{
    for (uint64_t i = 0; i < o->bytes; i++) {
        if (o->may[i] && !o->scratch)
            c->digest = (c->digest ^ o->got[i]) * 0x100000001b3u; /* FNV-1a */
        if (o->may[i] || o->sent[i] == o->got[i])
            continue;
        complain(c, "%s: byte %lld, counted from its first element, changed",
                 o->name, (long long)i - (long long)o->array.offset);
        return;
    }
}

int case_end(check *c)
{
    if (!c->status)
        c->status = cadft__device_sync(c->context, NULL, &c->error);
    if (c->status) {
        complain(c, "%s: %s", cadft_status_string(c->status), c->error.message);
        return 0;
    }
    if (c->bench)
        return 0;
    for (int i = 0; i < c->count; i++) {
        operand *o = &c->operands[i];
        fatal(c, cadft__device_out(c->context, NULL, o->got,
                                   (cadft_array){o->array.base, 0}, o->bytes,
                                   &c->error));
        look_beside(c, o);
    }
    return 1;
}

void case_keep(check *c)
{
    for (int i = 0; i < c->count; i++)
        memcpy(c->operands[i].kept, c->operands[i].got,
               (size_t)c->operands[i].bytes);
}

void expect_same(check *c, const operand *o, int64_t first, int64_t rows)
{
    size_t row = (size_t)o->cols * cadft__dtype_size(o->dtype);
    for (int64_t r = first; r < first + rows; r++) {
        uint64_t at = element_at(o, r, 0);
        if (memcmp(o->kept + at, o->got + at, row) != 0) {
            complain(c, "%s: row %lld depends on the other rows of the call",
                     o->name, (long long)r);
            return;
        }
    }
}

/* ----------------------------------------------------------------- expect */

/* What the type rounds away from `x`, and what may be flushed to 0. */
static double lost(int32_t dtype, double x)
{
    switch (dtype) {
    case CADFT_DTYPE_BF16:
        return fabs(x) * 0x1p-8 + 1e-37;
    case CADFT_DTYPE_F16:
        return fabs(x) * 0x1p-11 + 0x1p-25;
    default:
        return 1e-37;
    }
}

void expect_number(check *c,
                   const char *name,
                   double number,
                   double want,
                   double size,
                   double bound)
{
    double error = fabs(number - want), ratio;
    if (number == want || (isnan(number) && isnan(want)))
        return;
    error = isfinite(number) && isfinite(want) ? error / size : INFINITY;
    ratio = bound > 0 ? error / bound : INFINITY;
    if (ratio >= c->ratio) {
        c->ratio = ratio;
        c->worst = error;
        c->bound = bound;
    }
    if (!(error <= bound))
        complain(c, "%s is %.9g, expected %.9g, error %.2g, bound %.2g", name,
                 number, want, error, bound);
}

void expect(check *c,
            const operand *o,
            int64_t r,
            int64_t i,
            double want,
            double size,
            double bound)
{
    double x = got(o, r, i);
    char name[64];
    if (x == want || fabs(x - want) <= lost(o->dtype, want))
        return;
    snprintf(name, sizeof name, "%s[%lld, %lld]", o->name, (long long)r,
             (long long)i);
    if (o->dtype == CADFT_DTYPE_BF16 || o->dtype == CADFT_DTYPE_F16)
        x += x > want ? -lost(o->dtype, want) : lost(o->dtype, want);
    expect_number(c, name, x, want, size, bound);
}
