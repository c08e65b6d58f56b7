/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the parts of the backend comparer; see check_backend.c.
 *
 * A case makes operands, starts, calls a slot, ends and says what it expects:
 *
 *     operand *x, *y;
 *     case_begin(c, "add rows %d", 3);
 *     x = operand_in(c, "x", CADFT_DTYPE_F32, 3, 5);
 *     y = operand_out(c, "y", CADFT_DTYPE_F32, 3, 5);
 *     ...
 *     for (case_start(c); case_again(c);)
 *         c->status = cadft__device_add(c->context, NULL, &args, &c->error);
 *     if (case_end(c))
 *         expect(c, y, 0, 0, value, size, bound);
 *
 * An operand lies somewhere inside a block full of NaN: reading beside it
 * shows in the result, writing beside it in the block. */
#ifndef CADFT_TESTS_CHECK_BACKEND_H
#define CADFT_TESTS_CHECK_BACKEND_H

#include "backend/device.h"
#include "backend/ops.h"
#include "check_kernels.h" /* rng, row_fill, the loss's reference */

/* Half a unit in the last place of 1 in float32; bounds are multiples. */
#define ROUNDING 0x1p-24

typedef struct operand {
    const char *name;
    int32_t dtype;
    int64_t rows, cols, stride;
    cadft_array array;                /* its first element */
    uint64_t bytes;                   /* of the block */
    unsigned char *sent, *got, *kept; /* [bytes] */
    unsigned char *may;               /* [bytes], 1 where it may change */
    int scratch;                      /* what it holds is not a result */
} operand;

enum { OPERANDS = 24 };

typedef struct check {
    cadft_context *context;
    rng random;
    int quick;
    cadft_error error; /* of the call, with its status */
    int32_t status;

    /* The case. */
    char what[96];
    operand operands[OPERANDS];
    int count, calls;

    /* The slot so far. */
    int64_t cases, failures;
    double ratio, worst, bound; /* where worst / bound is largest */
    uint64_t digest;            /* of all results */
    char first[320];            /* what failed first */

    /* Timing: results are not looked at. */
    int bench;
    double best, spent, from; /* seconds */
} check;

/* ------------------------------------------------------------------ case */

void case_begin(check *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void case_close(check *c); /* frees what the last case has left */

/* Numbers about N(0, 1) to be read, to be read and written, NaN to be
 * written. Stride and offset are random; a vector is dense. */
operand *operand_in(
    check *c, const char *name, int32_t dtype, int64_t rows, int64_t cols);
operand *operand_both(
    check *c, const char *name, int32_t dtype, int64_t rows, int64_t cols);
operand *operand_out(
    check *c, const char *name, int32_t dtype, int64_t rows, int64_t cols);
/* With a stride that another operand has, or dense: stride = cols. */
operand *operand_strided(check *c,
                         const char *name,
                         int32_t dtype,
                         int64_t rows,
                         int64_t cols,
                         int64_t stride,
                         char kind); /* 'i', 'b', 'o' as above */
/* int32 [n], each in [0, below). */
operand *operand_index(check *c, const char *name, int64_t n, int64_t below);
/* What work_bytes asks for, or an absent array. */
cadft_array operand_work(check *c, int32_t op, const void *args);

void operand_set(operand *o, int64_t r, int64_t i, double x);
double sent(const operand *o, int64_t r, int64_t i);
double got(const operand *o, int64_t r, int64_t i);
unsigned char *sent_at(operand *o, int64_t r, int64_t i);
unsigned char *got_at(operand *o, int64_t r, int64_t i);

/* The array from row r on. */
cadft_array row_of(const operand *o, int64_t r);
/* Which rows may change; `others` may not. */
void allow(operand *o, int64_t first, int64_t rows);
void allow_none(operand *o);

/* A few rows in the middle, for a call with them alone. */
int64_t part_of(int64_t rows, int64_t *first);

void case_start(check *c);
int case_again(check *c);
/* 0 when there is nothing to look at: the call failed, or it is timed. */
int case_end(check *c);

/* Keep what the call gave; start again; the rows are the same, bit for bit,
 * in a call with other rows or none beside them. */
void case_keep(check *c);
void expect_same(check *c, const operand *o, int64_t first, int64_t rows);

/* |got - want| <= bound * size (and what a type rounds away). */
void expect(check *c,
            const operand *o,
            int64_t r,
            int64_t i,
            double want,
            double size,
            double bound);
void expect_number(check *c,
                   const char *name,
                   double number,
                   double want,
                   double size,
                   double bound);
void complain(check *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* ------------------------------------------------------------- reference */

/* A value in float64 and the sum of the magnitudes that make it up. */
typedef struct value {
    double want, size;
} value;

/* Rounding errors of a sum of n terms in float32, in any order, stay below
 * this times the sum of magnitudes: they are as good as independent, so that
 * sqrt(n) / 3 is a standard deviation of the sequential sum's. */
double sum_bound(double n);

value ref_matmul(const cadft_matmul_args *args,
                 const operand *a,
                 const operand *b,
                 const operand *c,
                 const operand *bias,
                 int64_t m,
                 int64_t n);

double ref_norm_inv(
    const operand *x, int64_t r, int64_t group, int64_t cols, double eps);
/* The vector's gradient at i, not what was there before. */
value ref_norm_grad(const operand *x,
                    const operand *grad_y,
                    const operand *weight,
                    double inv,
                    int64_t r,
                    int64_t group,
                    int64_t cols,
                    int64_t i);

double ref_sigmoid(double x);

/* Attention of one query head: probabilities p [keys], scores, lse. */
typedef struct ref_query {
    int64_t row, first, last; /* rows of keys that it sees, inclusive */
    int64_t head, key_head;
    double lse, largest; /* largest sum of magnitudes of a score */
    double *p;           /* [last - first + 1], malloc'ed */
} ref_query;
ref_query ref_attend(const cadft_attention_args *args,
                     const operand *q,
                     const operand *k,
                     int64_t sequence,
                     int64_t query,
                     int64_t head);
value ref_attention_out(const ref_query *w,
                        const operand *v,
                        int64_t head_dim,
                        int64_t i);
/* Gradient of the score of the query with a key row, and its size. */
value ref_score_grad(const ref_query *w,
                     const operand *v,
                     const operand *out,
                     const operand *grad_out,
                     int64_t head_dim,
                     int64_t key);

/* ----------------------------------------------------------------- slots */

/* `bench` does one typical call and returns its work: floating-point
 * operations, or bytes where the operation is bound by memory. */
typedef struct slot {
    const char *name;
    size_t at; /* offset in cadft_backend */
    enum { LOSS, LOSS_OPTIONAL, MODEL, MODEL_OPTIONAL, OPTIMIZER } part;
    void (*run)(check *c);
    double (*bench)(check *c);
    const char *unit; /* "GFLOP/s" or "GB/s" */
} slot;

#define SLOT_AT(name) #name, offsetof(cadft_backend, name)

/* Each ends with a NULL name. */
extern const slot loss_slots[], memory_slots[], linear_slots[],
    pointwise_slots[], attention_slots[], update_slots[];

#endif
