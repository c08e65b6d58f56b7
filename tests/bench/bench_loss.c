/* SPDX-License-Identifier: Apache-2.0 */
/* Times the loss on one shape beside the machine's own bandwidth, taking
 * turns, and prints one JSON object of lists (seconds a repetition):
 *
 *   read     every byte of the logits read once
 *   copy     the logits copied elsewhere (memcpy: one read, one write)
 *   update   the logits multiplied in place (one read, one write)
 *   compute  cadft_loss_compute in place, CADFT with its defaults
 *   sft      the same with objective sft and no sample weights
 *   unit     cadft_loss_compute in place, unit gradient and row scales
 *   observe  the statistics pass alone
 *
 * The logits are restored before each timed call. The floor of compute in
 * place is read + copy: three passes over the logits. */
#define _POSIX_C_SOURCE 200809L
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cadft/cadft.h"

enum { READ, COPY, UPDATE, COMPUTE, SFT, UNIT, OBSERVE, KINDS };
static const char *const kind_name[KINDS] = {
    "read", "copy", "update", "compute", "sft", "unit", "observe"};

struct bench {
    int64_t rows, cols;
    int threads, repeat, bf16;
    const char *isa;
    size_t bytes;
    unsigned char *z, *pristine, *other;
    int32_t *labels, *ids;
    float *scale;
    cadft_context *context;
    cadft_loss *loss, *sft;
};

static void die(const char *what, const cadft_error *err)
{
    fprintf(stderr, "bench_loss: %s: %s\n", what, err ? err->message : "");
    exit(EXIT_FAILURE);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---------------------------------------------------- bandwidth, in parts */

struct part {
    struct bench *bench;
    int kind;
    size_t from, to; /* bytes */
    float sum;       /* keeps the reads alive */
};

/* Sixteen running sums: wide enough that the adds do not limit the reads. */
static float read_part(const float *x, size_t n)
{
    float lane[64] = {0}, sum = 0;
    for (size_t i = 0; i + 64 <= n; i += 64)
        for (int j = 0; j < 64; j++)
            lane[j] += x[i + (size_t)j];
    for (int j = 0; j < 64; j++)
        sum += lane[j];
    return sum;
}

static void *run_part(void *argument)
{
    struct part *p = (struct part *)argument;
    struct bench *b = p->bench;
    float *x = (float *)(void *)(b->z + p->from);
    size_t n = (p->to - p->from) / sizeof *x;
    if (p->kind == READ)
        p->sum = read_part(x, n);
    else if (p->kind == COPY)
        memcpy(b->other + p->from, b->z + p->from, p->to - p->from);
    else
        for (size_t i = 0; i < n; i++)
            x[i] *= 0.5f;
    return NULL;
}

static double bandwidth(struct bench *b, int kind)
{
    pthread_t thread[256];
    struct part part[256];
    double start = now();
    for (int t = 0; t < b->threads; t++) {
        size_t step = b->bytes / (size_t)b->threads / 64 * 64;
        part[t] = (struct part){
            .bench = b,
            .kind = kind,
            .from = (size_t)t * step,
            .to = t + 1 == b->threads ? b->bytes : (size_t)(t + 1) * step};
        if (t > 0 && pthread_create(&thread[t], NULL, run_part, &part[t]))
            die("pthread_create", NULL);
    }
    run_part(&part[0]);
    for (int t = 1; t < b->threads; t++)
        pthread_join(thread[t], NULL);
    return now() - start;
}

/* ------------------------------------------------------------- the loss */

static double loss_call(struct bench *b, int kind)
{
    int64_t shape[2] = {b->rows, b->cols}, micro;
    int32_t dtype = b->bf16 ? CADFT_DTYPE_BF16 : CADFT_DTYPE_F32, status;
    cadft_tensor logits, labels, ids;
    cadft_loss_batch batch = {.struct_size = sizeof batch,
                              .logits = &logits,
                              .labels = &labels,
                              .sample_ids = &ids};
    cadft_loss *loss = kind == SFT ? b->sft : b->loss;
    cadft_error err = {sizeof err, 0, {0}};
    double start;
    cadft_tensor_init(&logits, sizeof logits, b->z, dtype, 2, shape, NULL,
                      NULL);
    cadft_tensor_init(&labels, sizeof labels, b->labels, CADFT_DTYPE_I32, 1,
                      shape, NULL, NULL);
    cadft_tensor_init(&ids, sizeof ids, b->ids, CADFT_DTYPE_I32, 1, shape, NULL,
                      NULL);
    start = now();
    if (kind == OBSERVE) {
        status = cadft_loss_begin(loss, b->rows, &err);
        if (!status)
            status = cadft_loss_observe(loss, &batch, NULL, &micro, &err);
    } else {
        status = cadft_loss_compute(loss, &batch, b->rows, &logits,
                                    kind == UNIT ? b->scale : NULL, NULL, &err);
    }
    start = now() - start;
    if (status)
        die(kind_name[kind], &err);
    cadft_loss_cancel(loss);
    return start;
}

/* --------------------------------------------------------------- set-up */

/* Cheap noise, about normal with deviation 2, in the logits' type; labels get
 * a push so that probabilities are those of a model that knows something. */
static float noise(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    return (float)((int32_t)(x & 0xffff) + (int32_t)((x >> 16) & 0xffff) +
                   (int32_t)((x >> 32) & 0xffff) - 98302) *
           (2.0f / 32768);
}

static void put(struct bench *b, size_t i, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (b->bf16)
        ((uint16_t *)(void *)b->pristine)[i] = (uint16_t)(bits >> 16);
    else
        ((float *)(void *)b->pristine)[i] = value;
}

static void set_up(struct bench *b)
{
    cadft_context_desc desc = {.struct_size = sizeof desc,
                               .n_threads = b->threads,
                               .backend_options = b->isa};
    cadft_error err = {sizeof err, 0, {0}};
    uint64_t state = 1;
    size_t n = (size_t)b->rows * (size_t)b->cols;
    b->bytes = n * (b->bf16 ? 2 : 4);
    b->z = aligned_alloc(64, (b->bytes + 63) / 64 * 64);
    b->pristine = aligned_alloc(64, (b->bytes + 63) / 64 * 64);
    b->other = aligned_alloc(64, (b->bytes + 63) / 64 * 64);
    b->labels = calloc((size_t)b->rows, sizeof *b->labels);
    b->ids = calloc((size_t)b->rows, sizeof *b->ids);
    b->scale = calloc((size_t)b->rows, sizeof *b->scale);
    if (!b->z || !b->pristine || !b->other || !b->labels || !b->ids ||
        !b->scale)
        die("out of memory", NULL);
    for (size_t i = 0; i < n; i++)
        put(b, i, noise(&state));
    for (int64_t r = 0; r < b->rows; r++) {
        noise(&state);
        b->labels[r] = (int32_t)(state % (uint64_t)b->cols);
        b->ids[r] = (int32_t)(r / 128);
        put(b, (size_t)(r * b->cols + b->labels[r]), 8 + noise(&state));
    }
    memset(b->other, 1, b->bytes);
    if (cadft_context_create(&desc, &b->context, &err) ||
        cadft_loss_create(b->context, &b->loss, &err) ||
        cadft_loss_create(b->context, &b->sft, &err) ||
        cadft_loss_set_str(b->sft, CADFT_LOSS_OBJECTIVE, "sft", &err) ||
        cadft_loss_set_i64(b->sft, CADFT_LOSS_WEIGHTING, 0, &err))
        die("set-up", &err);
}

static void parse(struct bench *b, int argc, char **argv)
{
    static const struct option options[] = {
        {"rows", 1, NULL, 'r'},    {"cols", 1, NULL, 'c'},
        {"threads", 1, NULL, 't'}, {"repeat", 1, NULL, 'n'},
        {"dtype", 1, NULL, 'd'},   {"isa", 1, NULL, 'i'},
        {NULL, 0, NULL, 0}};
    int o;
    while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (o == 'r')
            b->rows = atoll(optarg);
        else if (o == 'c')
            b->cols = atoll(optarg);
        else if (o == 't')
            b->threads = atoi(optarg);
        else if (o == 'n')
            b->repeat = atoi(optarg);
        else if (o == 'd')
            b->bf16 = strcmp(optarg, "bf16") == 0;
        else if (o == 'i')
            b->isa = optarg;
        else
            exit(2);
    }
    if (b->rows < 1 || b->cols < 1 || b->threads < 1 || b->threads > 256 ||
        b->repeat < 1)
        die("rows, cols, threads (to 256) and repeat are at least 1", NULL);
}

int main(int argc, char **argv)
{
    struct bench b = {.rows = 2048, .cols = 32000, .threads = 1, .repeat = 5};
    double *times;
    char device[32] = "";
    parse(&b, argc, argv);
    set_up(&b);
    times = calloc((size_t)b.repeat * KINDS, sizeof *times);
    if (!times)
        die("out of memory", NULL);
    for (int i = -1; i < b.repeat; i++) /* the first round warms up */
        for (int kind = 0; kind < KINDS; kind++) {
            double t;
            memcpy(b.z, b.pristine, b.bytes);
            t = kind <= UPDATE ? bandwidth(&b, kind) : loss_call(&b, kind);
            if (i >= 0)
                times[kind * b.repeat + i] = t;
        }
    cadft_context_get_str(b.context, CADFT_CONTEXT_DEVICE, device,
                          sizeof device, NULL, NULL);
    printf("{\"rows\": %lld, \"cols\": %lld, \"dtype\": \"%s\", "
           "\"threads\": %d, \"isa\": \"%s\", \"bytes\": %zu",
           (long long)b.rows, (long long)b.cols, b.bf16 ? "bf16" : "f32",
           b.threads, device, b.bytes);
    for (int kind = 0; kind < KINDS; kind++) {
        printf(", \"%s\": [", kind_name[kind]);
        for (int i = 0; i < b.repeat; i++)
            printf("%s%.6f", i ? ", " : "", times[kind * b.repeat + i]);
        printf("]");
    }
    printf("}\n");
    cadft_loss_destroy(b.loss);
    cadft_loss_destroy(b.sft);
    cadft_context_destroy(b.context);
    free(times);
    free(b.z);
    free(b.pristine);
    free(b.other);
    free(b.labels);
    free(b.ids);
    free(b.scale);
    return EXIT_SUCCESS;
}
