/* SPDX-License-Identifier: Apache-2.0 */
#include "check_slots.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CANARY 0xa5
#define FNV_START 0xcbf29ce484222325u
#define FNV_PRIME 0x100000001b3u

/* splitmix64 */
uint64_t check_bits(check_bed *bed)
{
    uint64_t z = bed->random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

int64_t check_below(check_bed *bed, int64_t n)
{
    return (int64_t)(check_bits(bed) % (uint64_t)n);
}

float check_bell(check_bed *bed)
{
    int64_t sum = 0;
    uint64_t u = check_bits(bed);
    for (int i = 0; i < 4; i++)
        sum += (int64_t)(u >> 16 * i & 0xffff) - 32768;
    return (float)sum * 0x1p-16f;
}

cadft_error check_error(void)
{
    cadft_error error;
    memset(&error, 0, sizeof error);
    error.struct_size = sizeof error;
    return error;
}

/* ------------------------------------------------------------ messages */

static void say(check_bed *bed, const char *what, const char *format, va_list a)
{
    if (bed->failures++ >= 20)
        return;
    printf("FAIL %s: ", what);
    vprintf(format, a);
    putchar('\n');
}

void check_fail(const check_stage *stage, const char *format, ...)
{
    va_list a;
    va_start(a, format);
    say(stage->bed, stage->what, format, a);
    va_end(a);
}

void check_begin(check_bed *bed, const char *name, uint64_t seed)
{
    check_line *line = &bed->line[bed->lines++];
    snprintf(line->name, sizeof line->name, "%s", name);
    line->digest = FNV_START;
    bed->random = seed;
}

/* -------------------------------------------------------------- arrays */

static size_t size_of(int32_t dtype)
{
    return dtype == CADFT_DTYPE_F64 ? 8 : dtype == CADFT_DTYPE_BF16 ? 2 : 4;
}

static size_t place(const check_mat *mat, int64_t r, int64_t c)
{
    return (size_t)mat->offset +
           (size_t)(r * mat->stride + c) * size_of(mat->dtype);
}

static double decode(const check_mat *mat, const unsigned char *p)
{
    uint32_t u = 0;
    uint16_t h;
    int32_t i;
    float f;
    double d;
    if (mat->dtype == CADFT_DTYPE_F64) {
        memcpy(&d, p, sizeof d);
        return d;
    }
    if (mat->dtype == CADFT_DTYPE_I32) {
        memcpy(&i, p, sizeof i);
        return i;
    }
    if (mat->dtype == CADFT_DTYPE_BF16) {
        memcpy(&h, p, sizeof h);
        u = (uint32_t)h << 16;
    } else {
        memcpy(&u, p, sizeof u);
    }
    memcpy(&f, &u, sizeof f);
    return (double)f;
}

void check_open(check_stage *stage, check_bed *bed, const char *format, ...)
{
    va_list a;
    memset(stage, 0, sizeof *stage);
    stage->bed = bed;
    bed->cases++;
    va_start(a, format);
    vsnprintf(stage->what, sizeof stage->what, format, a);
    va_end(a);
}

static void *need(size_t bytes)
{
    void *p = malloc(bytes ? bytes : 1);
    if (!p) {
        puts("out of memory");
        exit(2);
    }
    return p;
}

check_mat *check_new(check_stage *stage,
                     const char *name,
                     int32_t dtype,
                     int64_t rows,
                     int64_t cols,
                     int64_t stride)
{
    check_bed *bed = stage->bed;
    check_mat *mat = &stage->mat[stage->count++];
    cadft_error error = check_error();
    mat->name = name;
    mat->dtype = dtype;
    mat->rows = rows;
    mat->cols = cols;
    mat->stride = stride;
    mat->offset = 64 + size_of(dtype) * (uint64_t)check_below(bed, 20);
    mat->bytes = mat->offset + 64 + (uint64_t)(rows * stride) * size_of(dtype);
    mat->before = (unsigned char *)need((size_t)mat->bytes);
    mat->after = (unsigned char *)need((size_t)mat->bytes);
    memset(mat->before, CANARY, (size_t)mat->bytes);
    for (int64_t r = 0; r < rows; r++)
        memset(mat->before + place(mat, r, 0), 0,
               (size_t)cols * size_of(dtype));
    if (bed->backend->mem_alloc(bed->device, mat->bytes, &mat->base, &error)) {
        printf("mem_alloc: %s\n", error.message);
        exit(2);
    }
    return mat;
}

void check_set(check_mat *mat, int64_t r, int64_t c, double value)
{
    unsigned char *p = mat->before + place(mat, r, c);
    float f = (float)value;
    int32_t i = mat->dtype == CADFT_DTYPE_I32 ? (int32_t)value : 0;
    uint32_t u;
    uint16_t h;
    memcpy(&u, &f, sizeof u);
    h = (uint16_t)(u >> 16); /* truncated; the callers' values are random */
    if (mat->dtype == CADFT_DTYPE_I32)
        memcpy(p, &i, sizeof i);
    else if (mat->dtype == CADFT_DTYPE_F64)
        memcpy(p, &value, sizeof value);
    else if (mat->dtype == CADFT_DTYPE_BF16)
        memcpy(p, &h, sizeof h);
    else
        memcpy(p, &f, sizeof f);
}

void check_fill(check_stage *stage, check_mat *mat, float scale)
{
    for (int64_t r = 0; r < mat->rows; r++)
        for (int64_t c = 0; c < mat->cols; c++)
            check_set(mat, r, c, (double)(scale * check_bell(stage->bed)));
}

double check_get(const check_mat *mat, int64_t r, int64_t c)
{
    return decode(mat, mat->before + place(mat, r, c));
}

double check_got(const check_mat *mat, int64_t r, int64_t c)
{
    return decode(mat, mat->after + place(mat, r, c));
}

void check_written(check_mat *mat)
{
    size_t count = (size_t)(mat->rows * mat->cols);
    mat->want = (double *)need(count * sizeof *mat->want);
    mat->tolerance = (double *)need(count * sizeof *mat->tolerance);
    for (int64_t r = 0; r < mat->rows; r++)
        for (int64_t c = 0; c < mat->cols; c++)
            check_want(mat, r, c, check_get(mat, r, c), 0.0);
}

void check_want(
    check_mat *mat, int64_t r, int64_t c, double value, double tolerance)
{
    mat->want[r * mat->cols + c] = value;
    mat->tolerance[r * mat->cols + c] = tolerance;
}

cadft_array check_array(const check_mat *mat)
{
    cadft_array array = {NULL, 0};
    if (mat) {
        array.base = mat->base;
        array.offset = mat->offset;
    }
    return array;
}

check_mat *
check_work(check_stage *stage, int32_t op, const void *args, int64_t *rows)
{
    const check_bed *bed = stage->bed;
    int64_t saved = *rows, count;
    uint64_t bytes;
    check_mat *work;
    if (!bed->backend->work_bytes)
        return NULL;
    bytes = bed->backend->work_bytes(bed->device, op, args);
    for (*rows = saved + 1; *rows < saved + 200; *rows += 7)
        if (bed->backend->work_bytes(bed->device, op, args) < bytes)
            check_fail(stage, "work_bytes is less at %lld rows",
                       (long long)*rows);
    *rows = saved;
    count = (int64_t)((bytes + 3) / 4);
    if (count == 0)
        return NULL;
    work = check_new(stage, "work", CADFT_DTYPE_F32, 1, count, count);
    work->scratch = 1;
    work->offset = 64; /* as the contract has it, whatever it is of */
    memset(work->before, CANARY, (size_t)work->bytes);
    memset(work->before + work->offset, 0, (size_t)count * 4);
    return work;
}

static void whole(const check_mat *mat, cadft_array *out)
{
    out->base = mat->base;
    out->offset = 0;
}

void check_send(check_stage *stage)
{
    const check_bed *bed = stage->bed;
    for (int i = 0; i < stage->count; i++) {
        cadft_error error = check_error();
        cadft_array to;
        whole(&stage->mat[i], &to);
        if (bed->backend->copy_in(bed->device, bed->stream, &to,
                                  stage->mat[i].before, stage->mat[i].bytes,
                                  &error))
            check_fail(stage, "copy_in: %s", error.message);
    }
}

static int right(double got, double want, double tolerance)
{
    if (!isfinite(want)) /* whatever the tolerance, which may be infinite */
        return isnan(want) ? isnan(got) : got == want;
    return got == want || fabs(got - want) <= tolerance;
}

static void compare(const check_stage *stage, const check_mat *mat)
{
    for (int64_t r = 0; r < mat->rows; r++)
        for (int64_t c = 0; c < mat->cols; c++) {
            double got = check_got(mat, r, c);
            double want = mat->want[r * mat->cols + c];
            double tolerance = mat->tolerance[r * mat->cols + c];
            if (right(got, want, tolerance))
                continue;
            check_fail(stage, "%s[%lld, %lld] is %.9g, not %.9g +- %.2g",
                       mat->name, (long long)r, (long long)c, got, want,
                       tolerance);
            return;
        }
}

static uint64_t hash(uint64_t h, const unsigned char *p, size_t size)
{
    for (size_t i = 0; i < size; i++)
        h = (h ^ p[i]) * FNV_PRIME;
    return h;
}

/* All NaN hash alike: their bits differ between processors. After this the
 * bytes of what was written are canary again. */
static void take_digest(check_stage *stage, check_mat *mat)
{
    static const unsigned char nan_bytes[8] = {0, 0, 0xc0, 0x7f};
    uint64_t *h = &stage->bed->line[stage->bed->lines - 1].digest;
    size_t size = size_of(mat->dtype);
    for (int64_t r = 0; r < mat->rows; r++) {
        size_t at = place(mat, r, 0), width = (size_t)mat->cols * size;
        for (size_t i = 0; i < width; i += size)
            *h = isnan(decode(mat, mat->after + at + i))
                     ? hash(*h, nan_bytes, size)
                     : hash(*h, mat->after + at + i, size);
        memset(mat->after + at, CANARY, width);
        memset(mat->before + at, CANARY, width);
    }
}

void check_read(check_stage *stage, check_mat *mat)
{
    const check_bed *bed = stage->bed;
    cadft_error error = check_error();
    cadft_array from;
    whole(mat, &from);
    if (bed->backend->copy_out(bed->device, bed->stream, mat->after, &from,
                               mat->bytes, &error))
        check_fail(stage, "copy_out: %s", error.message);
}

void check_fetch(check_stage *stage, int32_t status, const cadft_error *error)
{
    if (status)
        check_fail(stage, "status %d: %s", status, error->message);
    for (int i = 0; i < stage->count; i++) {
        check_mat *mat = &stage->mat[i];
        check_read(stage, mat);
        if (mat->want) {
            compare(stage, mat);
            take_digest(stage, mat);
        }
        if (mat->scratch)
            memset(mat->after + mat->offset, 0, (size_t)mat->cols * 4);
        if (memcmp(mat->before, mat->after, (size_t)mat->bytes) != 0)
            check_fail(stage, "%s was written where it should not be",
                       mat->name);
    }
}

void check_close(check_stage *stage)
{
    const check_bed *bed = stage->bed;
    for (int i = 0; i < stage->count; i++) {
        check_mat *mat = &stage->mat[i];
        cadft_error error = check_error();
        bed->backend->sync(bed->device, bed->stream, &error);
        bed->backend->mem_free(bed->device, mat->base, mat->bytes);
        free(mat->before);
        free(mat->after);
        free(mat->want);
        free(mat->tolerance);
    }
}
