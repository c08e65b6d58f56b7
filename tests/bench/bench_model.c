/* SPDX-License-Identifier: Apache-2.0 */
/* Times the model on one shape, beside the machine's product of matrices and
 * its read bandwidth, taking turns, and prints one JSON object: lists of
 * seconds, a number each repetition.
 *
 *   bench_model [--shape gpt2|smollm2] [--sequences B] [--length T]
 *               [--threads N] [--repeat R] [--kind train|generate]
 *               [--options TEXT] [--dtype f32|bf16] [--checkpointing]
 *
 *   train     forward (with logits of all rows), loss (cross-entropy, in
 *             place), backward: `seconds` all three, `forward` the first
 *   generate  greedy, one prompt of 64 tokens: `prefill` to the first token,
 *             `decode` the 63 after it
 *   own       the backend's product of two 2048 x 2048 matrices
 *   cblas     cblas_sgemm's, if the build has a CBLAS
 *   read      the weights' bytes read once
 *
 * `gflop` are the multiplications and additions of the products of a step, as
 * tests/bench/model_peer.py counts them. */
#define _GNU_SOURCE /* getopt_long, getrusage */
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "cadft/cadft.h"
#include "backend/ops.h"
#ifdef HAVE_CBLAS
#    include <cblas.h>
#endif

enum { PROMPT = 64, NEW = 64, SQUARE = 2048, MOST = 64 };

struct shape {
    const char *name;
    int64_t vocab, hidden, inner, layers, heads, kv_heads, positions;
};

static const struct shape shapes[] = {
    {"gpt2", 50257, 768, 2048, 12, 12, 12, 1024},
    {"smollm2", 49152, 576, 1536, 30, 9, 3, 8192},
};

struct bench {
    const struct shape *shape;
    int64_t sequences, length;
    int32_t threads, repeat, generate, dtype, checkpointing;
    const char *options;
    cadft_context *context;
    cadft_model *model;
    cadft_loss *loss;
    int32_t *tokens, *labels, *ids, *ends;
    float *a, *b, *c; /* [SQUARE, SQUARE] */
    unsigned char *bytes;
    size_t n_bytes;
    double marks[NEW];
};

static void die(const char *what, const cadft_error *err)
{
    fprintf(stderr, "bench_model: %s: %s\n", what, err ? err->message : "");
    exit(EXIT_FAILURE);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ------------------------------------------------------- the machine's own */

static double own_product(struct bench *b)
{
    cadft_matmul_args args = {
        .struct_size = sizeof args,
        .b_dtype = CADFT_DTYPE_F32,
        .bias_dtype = CADFT_DTYPE_F32,
        .a = {b->a, 0},
        .b = {b->b, 0},
        .c = {b->c, 0},
        .m = SQUARE,
        .n = SQUARE,
        .k = SQUARE,
        .a_stride = SQUARE,
        .b_stride = SQUARE,
        .c_stride = SQUARE,
    };
    cadft_error err = {sizeof err, 0, {0}};
    uint64_t bytes =
        cadft__device_work_bytes(b->context, CADFT_OP_MATMUL, &args);
    double start;
    args.work.base = aligned_alloc(64, (bytes + 64) / 64 * 64);
    if (cadft__device_matmul(b->context, NULL, &args, &err)) /* touches it */
        die("matmul", &err);
    start = now();
    if (cadft__device_matmul(b->context, NULL, &args, &err))
        die("matmul", &err);
    start = now() - start;
    free(args.work.base);
    return start;
}

#ifdef HAVE_CBLAS
static double cblas_product(struct bench *b)
{
    double start = now();
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, SQUARE, SQUARE,
                SQUARE, 1, b->a, SQUARE, b->b, SQUARE, 0, b->c, SQUARE);
    return now() - start;
}
#endif

struct part {
    const float *from;
    size_t n;
    float sum; /* keeps the reads alive */
};

static void *read_part(void *argument)
{
    struct part *p = (struct part *)argument;
    float lane[64] = {0};
    for (size_t i = 0; i + 64 <= p->n; i += 64)
        for (int j = 0; j < 64; j++)
            lane[j] += p->from[i + (size_t)j];
    for (int j = 0; j < 64; j++)
        p->sum += lane[j];
    return NULL;
}

static double read_bytes(struct bench *b)
{
    pthread_t thread[MOST];
    struct part part[MOST] = {{0}};
    size_t n = b->n_bytes / sizeof(float) / (size_t)b->threads;
    double start = now();
    for (int t = 0; t < b->threads; t++) {
        part[t].from = (const float *)(const void *)b->bytes + (size_t)t * n;
        part[t].n = n;
        if (t && pthread_create(&thread[t], NULL, read_part, &part[t]))
            die("pthread_create", NULL);
    }
    read_part(&part[0]);
    for (int t = 1; t < b->threads; t++)
        pthread_join(thread[t], NULL);
    return now() - start;
}

/* --------------------------------------------------------------- the model */

static double train(struct bench *b, double *forward)
{
    int64_t rows = b->sequences * b->length, shape[1], ends[1];
    cadft_error err = {sizeof err, 0, {0}};
    cadft_tensor tokens, cu_seqlens, labels, ids;
    cadft_tensor logits = {.struct_size = sizeof logits};
    cadft_model_batch batch = {.struct_size = sizeof batch,
                               .tokens = &tokens,
                               .cu_seqlens = &cu_seqlens};
    cadft_loss_batch loss = {.struct_size = sizeof loss,
                             .logits = &logits,
                             .labels = &labels,
                             .sample_ids = &ids};
    double start, end;
    shape[0] = rows;
    ends[0] = b->sequences + 1;
    cadft_tensor_init(&tokens, sizeof tokens, b->tokens, CADFT_DTYPE_I32, 1,
                      shape, NULL, NULL);
    cadft_tensor_init(&labels, sizeof labels, b->labels, CADFT_DTYPE_I32, 1,
                      shape, NULL, NULL);
    cadft_tensor_init(&ids, sizeof ids, b->ids, CADFT_DTYPE_I32, 1, shape, NULL,
                      NULL);
    cadft_tensor_init(&cu_seqlens, sizeof cu_seqlens, b->ends, CADFT_DTYPE_I32,
                      1, ends, NULL, NULL);
    if (cadft_model_zero_grad(b->model, &err))
        die("zero_grad", &err);
    start = now();
    if (cadft_model_forward(b->model, &batch, &logits, &err))
        die("forward", &err);
    *forward = now() - start;
    if (cadft_loss_compute(b->loss, &loss, b->sequences, &logits, NULL, NULL,
                           &err) ||
        cadft_model_backward(b->model, &logits, &err))
        die("backward", &err);
    end = now();
    return end - start;
}

static int32_t mark(
    void *user, int64_t prompt, int64_t position, int32_t token, double logprob)
{
    (void)prompt;
    (void)token;
    (void)logprob;
    ((struct bench *)user)->marks[position] = now();
    return 0;
}

static double generate(struct bench *b, double *prefill)
{
    int64_t shape[1] = {PROMPT}, length;
    int32_t out[NEW];
    cadft_error err = {sizeof err, 0, {0}};
    cadft_tensor tokens;
    cadft_generate_desc desc = {.struct_size = sizeof desc,
                                .tokens = &tokens,
                                .max_new_tokens = NEW,
                                .on_token = mark,
                                .user = b};
    double start = now();
    cadft_tensor_init(&tokens, sizeof tokens, b->tokens, CADFT_DTYPE_I32, 1,
                      shape, NULL, NULL);
    if (cadft_model_generate(b->model, &desc, out, &length, &err))
        die("generate", &err);
    *prefill = b->marks[0] - start;
    return b->marks[NEW - 1] - b->marks[0];
}

/* ------------------------------------------------------------------- main */

static void make_model(struct bench *b)
{
    char config[1024];
    const struct shape *s = b->shape;
    cadft_error err = {sizeof err, 0, {0}};
    cadft_context_desc desc = {.struct_size = sizeof desc,
                               .n_threads = b->threads,
                               .backend_options = b->options};
    snprintf(config, sizeof config,
             "{\"architectures\": [\"LlamaForCausalLM\"], "
             "\"model_type\": \"llama\", \"hidden_act\": \"silu\", "
             "\"vocab_size\": %lld, \"hidden_size\": %lld, "
             "\"intermediate_size\": %lld, \"num_hidden_layers\": %lld, "
             "\"num_attention_heads\": %lld, \"num_key_value_heads\": %lld, "
             "\"max_position_embeddings\": %lld, \"rms_norm_eps\": 1e-5, "
             "\"rope_theta\": 10000.0, \"tie_word_embeddings\": true}",
             (long long)s->vocab, (long long)s->hidden, (long long)s->inner,
             (long long)s->layers, (long long)s->heads, (long long)s->kv_heads,
             (long long)s->positions);
    if (cadft_context_create(&desc, &b->context, &err) ||
        cadft_model_create(b->context, &b->model, &err) ||
        cadft_model_set_i64(b->model, CADFT_MODEL_WEIGHT_DTYPE, b->dtype,
                            &err) ||
        cadft_model_set_i64(b->model, CADFT_MODEL_CHECKPOINTING,
                            b->checkpointing, &err) ||
        cadft_model_init(b->model, config, strlen(config), 1, &err) ||
        cadft_loss_create(b->context, &b->loss, &err) ||
        cadft_loss_set_str(b->loss, CADFT_LOSS_OBJECTIVE, "sft", &err) ||
        cadft_loss_set_i64(b->loss, CADFT_LOSS_WEIGHTING, 0, &err))
        die("set-up", &err);
}

static void make_data(struct bench *b)
{
    int64_t rows = b->sequences * b->length;
    b->tokens = (int32_t *)malloc((size_t)(rows + PROMPT) * sizeof(int32_t));
    b->labels = (int32_t *)malloc((size_t)rows * sizeof(int32_t));
    b->ids = (int32_t *)malloc((size_t)rows * sizeof(int32_t));
    b->ends = (int32_t *)malloc((size_t)(b->sequences + 1) * sizeof(int32_t));
    for (int64_t i = 0; i < rows + PROMPT; i++)
        b->tokens[i] = (int32_t)((i * 7919 + 13) % b->shape->vocab);
    for (int64_t i = 0; i < rows; i++) {
        b->labels[i] = b->tokens[i + 1];
        b->ids[i] = (int32_t)(i / b->length);
    }
    for (int64_t s = 0; s <= b->sequences; s++)
        b->ends[s] = (int32_t)(s * b->length);
}

/* After peak memory was read: it is not the model's. */
static void make_yardsticks(struct bench *b)
{
    int64_t bytes;
    size_t square = (size_t)SQUARE * SQUARE;
    b->a = (float *)malloc(3 * square * sizeof(float));
    b->b = b->a + square;
    b->c = b->b + square;
    for (size_t i = 0; i < 2 * square; i++)
        b->a[i] = (float)(i % 17) - 8;
    cadft_model_get_i64(b->model, CADFT_MODEL_WEIGHT_BYTES, &bytes, NULL);
    b->n_bytes = (size_t)bytes;
    b->bytes = (unsigned char *)calloc(1, b->n_bytes);
    for (size_t i = 0; i < b->n_bytes; i += 4096) /* a page of its own each */
        b->bytes[i] = 1;
}

static double gflop(const struct bench *b)
{
    const struct shape *s = b->shape;
    double kv = (double)(s->hidden / s->heads * s->kv_heads);
    double layer = 2 * (double)(s->hidden * s->hidden) +
                   2 * (double)s->hidden * kv +
                   3 * (double)(s->hidden * s->inner);
    double weights = (double)s->layers * layer + (double)(s->hidden * s->vocab);
    double pairs =
        (double)b->sequences * (double)b->length * (double)(b->length + 1) / 2;
    return (6 * (double)(b->sequences * b->length) * weights +
            12 * pairs * (double)(s->hidden * s->layers)) /
           1e9;
}

static void print_list(const char *name, const double *seconds, int count)
{
    printf(", \"%s\": [", name);
    for (int i = 0; i < count; i++)
        printf("%s%.6g", i ? ", " : "", seconds[i]);
    printf("]");
}

static void run(struct bench *b)
{
    double whole[MOST], part[MOST], own[MOST], cblas[MOST], read[MOST];
    char device[64];
    struct rusage usage;
    int64_t arena, weights;
    if (b->generate)
        generate(b, part);
    else
        train(b, part); /* touches the memory */
    getrusage(RUSAGE_SELF, &usage);
    make_yardsticks(b);
    for (int i = 0; i < b->repeat; i++) {
        own[i] = own_product(b);
#ifdef HAVE_CBLAS
        cblas[i] = cblas_product(b);
#endif
        read[i] = read_bytes(b);
        whole[i] = b->generate ? generate(b, &part[i]) : train(b, &part[i]);
    }
    cadft_context_get_str(b->context, CADFT_CONTEXT_DEVICE, device,
                          sizeof device, NULL, NULL);
    cadft_model_get_i64(b->model, CADFT_MODEL_ARENA_BYTES, &arena, NULL);
    cadft_model_get_i64(b->model, CADFT_MODEL_WEIGHT_BYTES, &weights, NULL);
    printf("{\"shape\": \"%s\", \"device\": \"%s\", \"threads\": %d, "
           "\"batch\": %lld, \"length\": %lld, \"gflop\": %.3f, "
           "\"arena_bytes\": %lld, \"weight_bytes\": %lld, "
           "\"rss_peak\": %lld, \"prompt\": %d, \"new\": %d",
           b->shape->name, device, b->threads, (long long)b->sequences,
           (long long)b->length, gflop(b), (long long)arena, (long long)weights,
           1024LL * usage.ru_maxrss, PROMPT, NEW);
    print_list(b->generate ? "decode" : "seconds", whole, b->repeat);
    print_list(b->generate ? "prefill" : "forward", part, b->repeat);
    print_list("own", own, b->repeat);
#ifdef HAVE_CBLAS
    print_list("cblas", cblas, b->repeat);
#else
    (void)cblas;
#endif
    print_list("read", read, b->repeat);
    printf("}\n");
}

static void parse(int argc, char **argv, struct bench *b)
{
    static const struct option options[] = {
        {"shape", required_argument, NULL, 's'},
        {"sequences", required_argument, NULL, 'b'},
        {"length", required_argument, NULL, 't'},
        {"threads", required_argument, NULL, 'n'},
        {"repeat", required_argument, NULL, 'r'},
        {"kind", required_argument, NULL, 'k'},
        {"options", required_argument, NULL, 'o'},
        {"dtype", required_argument, NULL, 'd'},
        {"checkpointing", no_argument, NULL, 'c'},
        {0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 's':
            b->shape = strcmp(optarg, "gpt2") == 0 ? &shapes[0] : &shapes[1];
            break;
        case 'b':
            b->sequences = atoll(optarg);
            break;
        case 't':
            b->length = atoll(optarg);
            break;
        case 'n':
            b->threads = atoi(optarg);
            break;
        case 'r':
            b->repeat = atoi(optarg);
            break;
        case 'k':
            b->generate = strcmp(optarg, "generate") == 0;
            break;
        case 'o':
            b->options = optarg;
            break;
        case 'd':
            b->dtype = strcmp(optarg, "bf16") == 0 ? CADFT_DTYPE_BF16
                                                   : CADFT_DTYPE_F32;
            break;
        case 'c':
            b->checkpointing = 1;
            break;
        default:
            exit(EXIT_FAILURE);
        }
    }
    if (b->sequences < 1 || b->length < 1 || b->threads < 1 ||
        b->threads > MOST || b->repeat < 1 || b->repeat > MOST)
        die("a number is out of range", NULL);
}

int main(int argc, char **argv)
{
    struct bench b = {.shape = &shapes[1],
                      .sequences = 4,
                      .length = 256,
                      .threads = 1,
                      .repeat = 3,
                      .dtype = CADFT_DTYPE_F32};
    parse(argc, argv, &b);
    make_model(&b);
    make_data(&b);
    run(&b);
    free(b.a);
    free(b.bytes);
    free(b.tokens);
    free(b.labels);
    free(b.ids);
    free(b.ends);
    cadft_loss_destroy(b.loss);
    cadft_model_destroy(b.model);
    cadft_context_destroy(b.context);
    return 0;
}
