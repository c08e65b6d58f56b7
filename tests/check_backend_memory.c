/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of the device: copies, zeros, and what work_bytes asks for. */
#include <stdlib.h>
#include <string.h>

#include "check_backend.h"

enum { BLOCK = 1000 };

static void random_bytes(check *c, unsigned char *to, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = (unsigned char)rng_next(&c->random);
}

/* Whether the device holds these bytes, read in two pieces. */
static void look_at(check *c, const operand *o, const unsigned char *want)
{
    unsigned char *read = malloc(o->bytes);
    uint64_t half = o->bytes / 3;
    c->status =
        cadft__device_out(c->context, NULL, read,
                          (cadft_array){o->array.base, 0}, half, &c->error);
    if (!c->status)
        c->status = cadft__device_out(c->context, NULL, read + half,
                                      (cadft_array){o->array.base, half},
                                      o->bytes - half, &c->error);
    if (c->status)
        complain(c, "%s: %s", cadft_status_string(c->status), c->error.message);
    else if (memcmp(read, want, o->bytes) != 0)
        complain(c, "what was copied in does not come out");
    free(read);
}

/* Pieces at odd places, the source overwritten at once, a piece of nothing. */
static void check_copies(check *c)
{
    unsigned char piece[BLOCK], *mirror;
    operand *o;
    case_begin(c, "copies");
    o = operand_strided(c, "block", CADFT_DTYPE_F32, 1, BLOCK, BLOCK, 'b');
    case_start(c);
    mirror = malloc(o->bytes);
    memcpy(mirror, o->sent, o->bytes);
    for (int i = 0; i < 50 && !c->status; i++) {
        uint64_t at = (uint64_t)rng_below(&c->random, (int64_t)o->bytes);
        uint64_t n = (uint64_t)rng_below(&c->random, BLOCK);
        n = i == 0 ? 0 : n;
        n = n > o->bytes - at ? o->bytes - at : n;
        random_bytes(c, piece, BLOCK);
        memcpy(mirror + at, piece, n);
        c->status =
            cadft__device_in(c->context, NULL, (cadft_array){o->array.base, at},
                             piece, n, &c->error);
        memset(piece, 0, sizeof piece);
    }
    look_at(c, o, mirror);
    free(mirror);
}

static void check_zero(check *c)
{
    for (int64_t n = 0; n < 300; n += 1 + n / 3) {
        operand *o;
        case_begin(c, "%lld bytes", (long long)n);
        o = operand_strided(c, "to", CADFT_DTYPE_BF16, 1, 300, 300, 'o');
        allow_none(o);
        memset(o->may + o->array.offset, 1, (size_t)n);
        for (case_start(c); case_again(c);)
            c->status = cadft__device_zero(c->context, NULL, o->array,
                                           (uint64_t)n, &c->error);
        if (!case_end(c))
            continue;
        for (int64_t i = 0; i < n; i++)
            if (got_at(o, 0, 0)[i])
                complain(c, "byte %lld is not 0", (long long)i);
    }
}

/* More rows never want less scratch. */
static void check_work(check *c)
{
    static const int64_t rows[] = {0, 1, 2, 3, 8, 31, 32, 33, 64, 200, 1000};
    uint64_t most[4] = {0, 0, 0, 0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t n = rows[i], q_first[] = {0, n, n + n / 2};
        int64_t k_first[] = {0, n}, k_count[] = {n, n / 2};
        cadft_norm_args norm = {.struct_size = sizeof norm,
                                .weight_dtype = CADFT_DTYPE_BF16,
                                .rows = n,
                                .groups = 3,
                                .cols = 64,
                                .x_stride = 192,
                                .y_stride = 192,
                                .grad_x_stride = 192};
        cadft_matmul_args matmul = {.struct_size = sizeof matmul,
                                    .b_transposed = 1,
                                    .b_dtype = CADFT_DTYPE_BF16,
                                    .bias_dtype = CADFT_DTYPE_F32,
                                    .m = n,
                                    .n = 96,
                                    .k = 64,
                                    .a_stride = 64,
                                    .b_stride = 64,
                                    .c_stride = 96};
        cadft_add_args sum = {.struct_size = sizeof sum,
                              .rows = n,
                              .cols = 64,
                              .x_stride = 64,
                              .y_stride = 64};
        cadft_attention_args attention = {.struct_size = sizeof attention,
                                          .q_first = q_first,
                                          .k_first = k_first,
                                          .k_count = k_count,
                                          .sequences = n ? 2 : 0,
                                          .heads = 4,
                                          .kv_heads = 2,
                                          .head_dim = 16,
                                          .q_stride = 64,
                                          .k_stride = 32,
                                          .v_stride = 32,
                                          .out_stride = 64,
                                          .scale = 0.25};
        const void *args[] = {&norm, &matmul, &sum, &attention};
        static const int32_t ops[] = {CADFT_OP_NORM_GRAD, CADFT_OP_MATMUL,
                                      CADFT_OP_COLUMN_SUM,
                                      CADFT_OP_ATTENTION_GRAD};
        case_begin(c, "%lld rows", (long long)n);
        for (int op = 0; op < 4; op++) {
            uint64_t bytes =
                cadft__device_work_bytes(c->context, ops[op], args[op]);
            if (bytes < most[op])
                complain(c, "operation %d wants %llu bytes, and %llu for less",
                         ops[op], (unsigned long long)bytes,
                         (unsigned long long)most[op]);
            most[op] = bytes;
        }
    }
}

const slot memory_slots[] = {
    {"copy_in, copy_out", offsetof(cadft_backend, copy_in), LOSS, check_copies,
     NULL, NULL},
    {SLOT_AT(mem_zero), MODEL, check_zero, NULL, NULL},
    {SLOT_AT(work_bytes), MODEL_OPTIONAL, check_work, NULL, NULL},
    {0}};
