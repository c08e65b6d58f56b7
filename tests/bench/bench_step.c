/* SPDX-License-Identifier: Apache-2.0 */
/* Where the time of an optimizer step goes, by the public headers alone: one
 * JSON object, and its medians in words on standard error.
 *
 *   bench_step [--shape smollm2|tiny] [--samples B] [--micros M] [--length T]
 *              [--threads N] [--repeat R] [--data D] [--dtype f32|bf16]
 *              [--options TEXT]
 *
 * A step is B demonstrations of T / 2 to T tokens, packed into M
 * micro-batches; weights are random. In turns, R times each after one that
 * does not count:
 *
 *   plain    SFT without sample weights: what a step costs anyhow
 *   running  CADFT, scope running: one pass, and the tracker of a data set of
 *            D samples
 *   exact    CADFT, scope exact: two passes, and the tracker
 *
 * and of each the seconds of its parts:
 *
 *   extra      scope exact: the first forward passes, without gradient
 *   forward    those with gradient
 *   observe    the loss reads the logits
 *   weigh      begin, statistics and weights, report
 *   grad       the loss writes its gradient
 *   tracker    the compatibility of the step's samples to the tracker, and the
 *              question who is to be rewritten
 *   backward
 *   optimizer  AdamW, and gradients to zero */
#define _GNU_SOURCE /* getopt_long */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cadft/cadft.h"

enum { MOST = 64, MICROS = 16, SAMPLES = 256 };
enum { PLAIN, RUNNING, EXACT, MODES };
enum { EXTRA, FORWARD, OBSERVE, WEIGH, GRAD, TRACKER, BACKWARD, UPDATE, PARTS };

static const char *const mode_names[MODES] = {"plain", "running", "exact"};
static const char *const part_names[PARTS] = {"extra",    "forward",  "observe",
                                              "weigh",    "grad",     "tracker",
                                              "backward", "optimizer"};

#define MUST(call)                                                             \
    do {                                                                       \
        if ((call) != CADFT_OK) {                                              \
            fprintf(stderr, "bench_step: %s: %s\n", #call, err.message);       \
            exit(EXIT_FAILURE);                                                \
        }                                                                      \
    } while (0)

static cadft_error err = {sizeof err, 0, {0}};

struct micro {
    int64_t rows[1], ends_shape[1];
    int32_t *tokens, *labels, *ids; /* [rows] */
    int32_t ends[SAMPLES + 1];
    cadft_tensor tokens_view, labels_view, ids_view, ends_view, logits;
    cadft_model_batch batch;
    cadft_loss_batch loss;
};

struct bench {
    int64_t samples, micros, length, data;
    int32_t threads, repeat, dtype;
    const char *options, *shape;
    cadft_context *context;
    cadft_model *model;
    cadft_loss *loss[MODES];
    cadft_optimizer *optimizer;
    cadft_rewrite *tracker;
    struct micro micro[MICROS];
    int64_t rows, steps;
    double seconds[MODES][PARTS][MOST];
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds since the last lap, to one part. */
static void lap(double *part, double *last)
{
    double t = now();
    *part += t - *last;
    *last = t;
}

/* ------------------------------------------------------------------- step */

static void observe(struct bench *b, int mode, int m, int64_t *number)
{
    MUST(cadft_loss_observe(b->loss[mode], &b->micro[m].loss, NULL, number,
                            &err));
}

static void forward(struct bench *b, int m, int32_t no_grad)
{
    b->micro[m].batch.no_grad = no_grad;
    MUST(cadft_model_forward(b->model, &b->micro[m].batch, &b->micro[m].logits,
                             &err));
}

static void
first_pass(struct bench *b, int64_t *number, double *part, double *t)
{
    for (int m = 0; m < b->micros; m++) {
        forward(b, m, 1);
        lap(&part[EXTRA], t);
        observe(b, EXACT, m, &number[m]);
        lap(&part[OBSERVE], t);
    }
    MUST(cadft_loss_weigh(b->loss[EXACT], &err));
    lap(&part[WEIGH], t);
}

static void
last_pass(struct bench *b, int mode, int64_t *number, double *part, double *t)
{
    for (int m = 0; m < b->micros; m++) {
        struct micro *micro = &b->micro[m];
        forward(b, m, 0);
        lap(&part[FORWARD], t);
        if (mode != EXACT) {
            observe(b, mode, m, &number[m]);
            lap(&part[OBSERVE], t);
            MUST(cadft_loss_weigh(b->loss[mode], &err));
            lap(&part[WEIGH], t);
        }
        MUST(cadft_loss_grad(b->loss[mode], number[m], &micro->loss,
                             &micro->logits, &err));
        lap(&part[GRAD], t);
        MUST(cadft_model_backward(b->model, &micro->logits, &err));
        lap(&part[BACKWARD], t);
    }
}

/* The step's samples are the data set's next ones. */
static void track(struct bench *b, int mode)
{
    int64_t ids[SAMPLES];
    double c[SAMPLES], chat[SAMPLES];
    size_t picks;
    for (int64_t i = 0; i < b->samples; i++)
        ids[i] = (b->steps * b->samples + i) % b->data;
    MUST(cadft_loss_get_samples(b->loss[mode], CADFT_SAMPLES_C, c, SAMPLES,
                                NULL, &err));
    MUST(cadft_loss_get_samples(b->loss[mode], CADFT_SAMPLES_CHAT, chat,
                                SAMPLES, NULL, &err));
    MUST(cadft_rewrite_observe(b->tracker, ids, c, chat, b->samples, &err));
    MUST(cadft_rewrite_select(b->tracker, b->steps, NULL, 0, &picks, &err));
}

static void step(struct bench *b, int mode, double part[PARTS])
{
    int64_t number[MICROS];
    cadft_loss_report report = {.struct_size = sizeof report};
    double t = now();
    memset(part, 0, PARTS * sizeof *part);
    MUST(cadft_model_zero_grad(b->model, &err));
    lap(&part[UPDATE], &t);
    MUST(cadft_loss_begin(b->loss[mode], b->samples, &err));
    lap(&part[WEIGH], &t);
    if (mode == EXACT)
        first_pass(b, number, part, &t);
    last_pass(b, mode, number, part, &t);
    MUST(cadft_loss_end(b->loss[mode], &report, &err));
    lap(&part[WEIGH], &t);
    if (mode != PLAIN)
        track(b, mode);
    lap(&part[TRACKER], &t);
    MUST(cadft_optimizer_step(b->optimizer, NULL, NULL, &err));
    lap(&part[UPDATE], &t);
    b->steps++;
}

/* ----------------------------------------------------------------- set-up */

static void view(cadft_tensor *tensor, int32_t *data, int64_t *shape)
{
    cadft_tensor_init(tensor, sizeof *tensor, data, CADFT_DTYPE_I32, 1, shape,
                      NULL, NULL);
}

static void make_micro(struct bench *b, int m, int64_t first, int64_t count)
{
    struct micro *p = &b->micro[m];
    size_t most = (size_t)(count * b->length) * sizeof(int32_t);
    int64_t vocab;
    MUST(cadft_model_get_i64(b->model, CADFT_MODEL_VOCAB, &vocab, &err));
    p->tokens = (int32_t *)malloc(most);
    p->labels = (int32_t *)malloc(most);
    p->ids = (int32_t *)malloc(most);
    for (int64_t i = first; i < first + count; i++) {
        int64_t length = b->length - i * 7919 % (b->length / 2 + 1),
                start = p->rows[0];
        for (int64_t r = 0; r < length; r++) {
            int64_t at = p->rows[0]++;
            p->tokens[at] = (int32_t)((i * 104729 + r * 7919 + 13) % vocab);
            p->ids[at] = (int32_t)i;
            p->labels[at] = -100;
            if (at > start)
                p->labels[at - 1] = p->tokens[at];
        }
        p->ends[++p->ends_shape[0]] = (int32_t)p->rows[0];
    }
    p->ends_shape[0]++;
    b->rows += p->rows[0];
    view(&p->tokens_view, p->tokens, p->rows);
    view(&p->labels_view, p->labels, p->rows);
    view(&p->ids_view, p->ids, p->rows);
    view(&p->ends_view, p->ends, p->ends_shape);
    p->logits.struct_size = sizeof p->logits;
    p->batch = (cadft_model_batch){.struct_size = sizeof p->batch,
                                   .tokens = &p->tokens_view,
                                   .cu_seqlens = &p->ends_view};
    p->loss = (cadft_loss_batch){.struct_size = sizeof p->loss,
                                 .logits = &p->logits,
                                 .labels = &p->labels_view,
                                 .sample_ids = &p->ids_view};
}

static const char *config_of(const char *shape)
{
    static const char smollm2[] =
        "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": "
        "\"llama\", \"hidden_act\": \"silu\", \"vocab_size\": 49152, "
        "\"hidden_size\": 576, \"intermediate_size\": 1536, "
        "\"num_hidden_layers\": 30, \"num_attention_heads\": 9, "
        "\"num_key_value_heads\": 3, \"max_position_embeddings\": 8192, "
        "\"rms_norm_eps\": 1e-5, \"rope_theta\": 100000.0, "
        "\"tie_word_embeddings\": true}";
    static const char tiny[] =
        "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": "
        "\"llama\", \"hidden_act\": \"silu\", \"vocab_size\": 4096, "
        "\"hidden_size\": 64, \"intermediate_size\": 192, "
        "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, "
        "\"num_key_value_heads\": 2, \"max_position_embeddings\": 8192, "
        "\"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0, "
        "\"tie_word_embeddings\": true}";
    return strcmp(shape, "tiny") == 0 ? tiny : smollm2;
}

static void make_losses(struct bench *b)
{
    for (int mode = 0; mode < MODES; mode++) {
        MUST(cadft_loss_create(b->context, &b->loss[mode], &err));
        if (mode == EXACT)
            continue;
        MUST(cadft_loss_set_str(b->loss[mode], CADFT_LOSS_SCOPE, "running",
                                &err));
        MUST(cadft_loss_set_f64(b->loss[mode], CADFT_LOSS_DENOMINATOR,
                                (double)(b->rows - b->samples), &err));
    }
    MUST(cadft_loss_set_str(b->loss[PLAIN], CADFT_LOSS_OBJECTIVE, "sft", &err));
    MUST(cadft_loss_set_i64(b->loss[PLAIN], CADFT_LOSS_WEIGHTING, 0, &err));
}

static void make(struct bench *b)
{
    const char *config = config_of(b->shape);
    cadft_context_desc desc = {.struct_size = sizeof desc,
                               .n_threads = b->threads,
                               .backend_options = b->options};
    MUST(cadft_context_create(&desc, &b->context, &err));
    MUST(cadft_model_create(b->context, &b->model, &err));
    MUST(cadft_model_set_i64(b->model, CADFT_MODEL_WEIGHT_DTYPE, b->dtype,
                             &err));
    MUST(cadft_model_init(b->model, config, strlen(config), 1, &err));
    MUST(cadft_optimizer_create(b->context, &b->optimizer, &err));
    MUST(cadft_optimizer_add_model(b->optimizer, b->model, NULL, &err));
    MUST(cadft_rewrite_create(b->context, b->data, &b->tracker, &err));
    for (int64_t m = 0; m < b->micros; m++) {
        int64_t first = m * b->samples / b->micros;
        make_micro(b, (int)m, first, (m + 1) * b->samples / b->micros - first);
    }
    make_losses(b);
}

static void destroy(struct bench *b)
{
    for (int m = 0; m < b->micros; m++) {
        free(b->micro[m].tokens);
        free(b->micro[m].labels);
        free(b->micro[m].ids);
    }
    for (int mode = 0; mode < MODES; mode++)
        cadft_loss_destroy(b->loss[mode]);
    cadft_rewrite_destroy(b->tracker);
    cadft_optimizer_destroy(b->optimizer);
    cadft_model_destroy(b->model);
    cadft_context_destroy(b->context);
}

/* ----------------------------------------------------------------- report */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *values, int count)
{
    double sorted[MOST];
    memcpy(sorted, values, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, ascending);
    return (sorted[(count - 1) / 2] + sorted[count / 2]) / 2;
}

static void print_json(const struct bench *b)
{
    char device[64];
    cadft_context_get_str(b->context, CADFT_CONTEXT_DEVICE, device,
                          sizeof device, NULL, NULL);
    printf("{\"shape\": \"%s\", \"device\": \"%s\", \"threads\": %d, "
           "\"samples\": %lld, \"micros\": %lld, \"rows\": %lld, "
           "\"data\": %lld",
           b->shape, device, b->threads, (long long)b->samples,
           (long long)b->micros, (long long)b->rows, (long long)b->data);
    for (int mode = 0; mode < MODES; mode++) {
        printf(",\n \"%s\": {", mode_names[mode]);
        for (int part = 0; part < PARTS; part++) {
            printf("%s\"%s\": [", part ? ", " : "", part_names[part]);
            for (int i = 0; i < b->repeat; i++)
                printf("%s%.6g", i ? ", " : "", b->seconds[mode][part][i]);
            printf("]");
        }
        printf("}");
    }
    printf("}\n");
}

/* Of the sum of the parts' medians. */
static void print_words(const struct bench *b)
{
    for (int mode = 0; mode < MODES; mode++) {
        double part[PARTS], sum = 0;
        for (int i = 0; i < PARTS; i++)
            sum += part[i] = median(b->seconds[mode][i], b->repeat);
        fprintf(stderr,
                "%-8s%9.4f s a step: loss, weights, tracker %.2f %% (tracker "
                "%.4f %%), extra forward %.2f %%, optimizer %.2f %%\n",
                mode_names[mode], sum,
                100 *
                    (part[OBSERVE] + part[WEIGH] + part[GRAD] + part[TRACKER]) /
                    sum,
                100 * part[TRACKER] / sum, 100 * part[EXTRA] / sum,
                100 * part[UPDATE] / sum);
    }
}

/* ------------------------------------------------------------------- main */

static void parse(int argc, char **argv, struct bench *b)
{
    static const struct option options[] = {
        {"shape", required_argument, NULL, 's'},
        {"samples", required_argument, NULL, 'b'},
        {"micros", required_argument, NULL, 'm'},
        {"length", required_argument, NULL, 't'},
        {"threads", required_argument, NULL, 'n'},
        {"repeat", required_argument, NULL, 'r'},
        {"data", required_argument, NULL, 'd'},
        {"dtype", required_argument, NULL, 'y'},
        {"options", required_argument, NULL, 'o'},
        {0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 's')
            b->shape = optarg;
        else if (c == 'b')
            b->samples = atoll(optarg);
        else if (c == 'm')
            b->micros = atoll(optarg);
        else if (c == 't')
            b->length = atoll(optarg);
        else if (c == 'n')
            b->threads = atoi(optarg);
        else if (c == 'r')
            b->repeat = atoi(optarg);
        else if (c == 'd')
            b->data = atoll(optarg);
        else if (c == 'y')
            b->dtype = strcmp(optarg, "bf16") == 0 ? CADFT_DTYPE_BF16
                                                   : CADFT_DTYPE_F32;
        else if (c == 'o')
            b->options = optarg;
        else
            exit(EXIT_FAILURE);
    }
    if (b->samples < 1 || b->samples > SAMPLES || b->micros < 1 ||
        b->micros > MICROS || b->micros > b->samples || b->length < 2 ||
        b->repeat < 1 || b->repeat > MOST) {
        fprintf(stderr, "bench_step: a number is out of range\n");
        exit(EXIT_FAILURE);
    }
}

int main(int argc, char **argv)
{
    static struct bench b = {.shape = "smollm2",
                             .samples = 16,
                             .micros = 2,
                             .length = 256,
                             .data = 100000,
                             .threads = 1,
                             .repeat = 3,
                             .dtype = CADFT_DTYPE_F32};
    parse(argc, argv, &b);
    make(&b);
    for (int i = -1; i < b.repeat; i++)
        for (int mode = 0; mode < MODES; mode++) {
            double part[PARTS];
            step(&b, mode, part);
            for (int p = 0; p < PARTS && i >= 0; p++)
                b.seconds[mode][p][i] = part[p];
        }
    print_json(&b);
    print_words(&b);
    destroy(&b);
    return 0;
}
