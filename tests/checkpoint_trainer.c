/* SPDX-License-Identifier: Apache-2.0 */
/* A whole run in small, which may be stopped or killed at any moment and
 * started again by the same command: it goes on from the newest checkpoint and
 * prints the same digest in the end. A tiny Llama, generated data in an order
 * of its own, packed micro-batches, CADFT with running statistics, AdamW on a
 * cosine, and targets that the model rewrites. Public headers only: what it
 * does a host can do.
 *
 *   checkpoint_trainer FOLDER [--steps 24] [--every 3] [--keep 2]
 *       [--threads 1] [--dtype float32] [--stop N]
 *
 * --stop N   end after step N, not on a checkpoint's step necessarily
 *
 * It prints "start S" for the step that it goes on from, "saved S" after each
 * checkpoint, and in the end "digest" and 16 hexadecimal digits of weights and
 * losses, and "rewritten N". */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cadft/cadft.h"

enum {
    VOCAB = 61,
    ROWS = 96,
    SAMPLES = 6, /* of a micro-batch */
    MICRO = 2,
    DATA = 64,
    PROMPT = 3, /* tokens of a sample that are given */
    NEW = 5
};

static const char config[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\","
    " \"vocab_size\": 61, \"hidden_size\": 32, \"num_hidden_layers\": 2,"
    " \"num_attention_heads\": 4, \"num_key_value_heads\": 2,"
    " \"intermediate_size\": 48, \"max_position_embeddings\": 64}";

static struct arguments {
    const char *folder, *dtype;
    int64_t steps, every, keep, threads, stop;
} arguments = {.dtype = "float32",
               .steps = 24,
               .every = 3,
               .keep = 2,
               .threads = 1,
               .stop = INT64_MAX};

/* What the host has of its own: all that the data depends on. */
typedef struct host_state {
    uint64_t random;
    int64_t at; /* samples of this epoch that are done */
    int32_t order[DATA];
    int64_t rewritten;
    double seen; /* sum of the losses, as a report would have it */
} host_state;

typedef struct run {
    cadft_context *context;
    cadft_model *model;
    cadft_optimizer *optimizer;
    cadft_loss *loss;
    cadft_rewrite *rewrite;
    host_state host;
    int64_t step;
    cadft_error err;
} run;

static run r;

static void check(int32_t status, const char *call)
{
    if (status == CADFT_OK)
        return;
    fprintf(stderr, "%s: %s: %s\n", call, cadft_status_string(status),
            r.err.message);
    exit(1);
}
#define CHECK(call) check((call), #call)

/* ------------------------------------------------------------------- data */

static uint64_t mix(uint64_t z)
{
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void shuffle(host_state *host)
{
    for (int32_t i = 0; i < DATA; i++)
        host->order[i] = i;
    for (int32_t i = DATA - 1; i > 0; i--) {
        int32_t j = (int32_t)((host->random = mix(host->random)) %
                              (uint64_t)(i + 1)),
                other = host->order[j];
        host->order[j] = host->order[i];
        host->order[i] = other;
    }
    host->at = 0;
}

static int32_t next_sample(host_state *host)
{
    if (host->at == DATA)
        shuffle(host);
    return host->order[host->at++];
}

/* 6 to 15 tokens that follow a rule, broken in every fourth sample. */
static int32_t write_sample(int32_t id, int32_t *tokens)
{
    int32_t length = 6 + (int32_t)(mix((uint64_t)id) % 10);
    int32_t stride = 1 + id % 5;
    for (int32_t i = 0; i < length; i++)
        tokens[i] = id % 4 == 0
                        ? (int32_t)(mix((uint64_t)(1000 * id + i)) % VOCAB)
                        : (id + i * stride) % VOCAB;
    return length;
}

/* With the target that holds now. */
static int32_t write_present(int64_t id, int32_t *tokens)
{
    int32_t length = write_sample((int32_t)id, tokens);
    const int32_t *target;
    int64_t n;
    CHECK(cadft_rewrite_target(r.rewrite, id, &target, &n, &r.err));
    if (target)
        memcpy(tokens + PROMPT, target, (size_t)n * sizeof *target);
    return target ? PROMPT + (int32_t)n : length;
}

/* Samples behind each other, without padding. */
typedef struct micro_batch {
    int32_t tokens[ROWS], labels[ROWS], ids[ROWS], ends[SAMPLES + 1];
    int64_t rows[1], sequences[1], samples[SAMPLES];
    cadft_tensor t, y, s, e, logits;
    cadft_model_batch batch;
    cadft_loss_batch loss_batch;
} micro_batch;

static void fill(micro_batch *m, int32_t first_id)
{
    int32_t rows = 0;
    memset(m, 0, sizeof *m);
    for (int32_t i = 0; i < SAMPLES; i++) {
        int32_t *tokens = m->tokens + rows;
        int32_t length;
        m->samples[i] = next_sample(&r.host);
        length = write_present(m->samples[i], tokens);
        for (int32_t k = 0; k < length; k++) {
            m->labels[rows + k] = k + 1 < length ? tokens[k + 1] : -100;
            m->ids[rows + k] = first_id + i;
        }
        m->ends[i + 1] = rows += length;
    }
    m->rows[0] = rows;
    m->sequences[0] = SAMPLES + 1;
    cadft_tensor_init(&m->t, sizeof m->t, m->tokens, CADFT_DTYPE_I32, 1,
                      m->rows, NULL, NULL);
    cadft_tensor_init(&m->y, sizeof m->y, m->labels, CADFT_DTYPE_I32, 1,
                      m->rows, NULL, NULL);
    cadft_tensor_init(&m->s, sizeof m->s, m->ids, CADFT_DTYPE_I32, 1, m->rows,
                      NULL, NULL);
    cadft_tensor_init(&m->e, sizeof m->e, m->ends, CADFT_DTYPE_I32, 1,
                      m->sequences, NULL, NULL);
    m->logits.struct_size = sizeof m->logits;
    m->batch = (cadft_model_batch){
        .struct_size = sizeof m->batch, .tokens = &m->t, .cu_seqlens = &m->e};
    m->loss_batch = (cadft_loss_batch){.struct_size = sizeof m->loss_batch,
                                       .logits = &m->logits,
                                       .labels = &m->y,
                                       .sample_ids = &m->s};
}

/* ------------------------------------------------------------------- step */

/* The model's answers in place of the targets that stay incompatible. */
static void rewrite_targets(void)
{
    int64_t ids[DATA], shape[1] = {PROMPT}, length;
    int32_t tokens[ROWS], answer[NEW];
    size_t n;
    cadft_tensor prompt;
    cadft_generate_desc desc = {.struct_size = sizeof desc,
                                .tokens = &prompt,
                                .max_new_tokens = NEW,
                                .temperature = 0.7,
                                .top_p = 0.9,
                                .step = r.step};
    CHECK(cadft_rewrite_select(r.rewrite, r.step, ids, DATA, &n, &r.err));
    for (size_t i = 0; i < n; i++) {
        cadft_rewrite_result result = {.struct_size = sizeof result,
                                       .ended = 1,
                                       .tokens = answer,
                                       .n_tokens = NEW};
        write_sample((int32_t)ids[i], tokens);
        cadft_tensor_init(&prompt, sizeof prompt, tokens, CADFT_DTYPE_I32, 1,
                          shape, NULL, NULL);
        desc.keys = &ids[i];
        CHECK(cadft_model_generate(r.model, &desc, answer, &length, &r.err));
        CHECK(cadft_rewrite_commit(r.rewrite, ids[i], &result, NULL, &r.err));
        r.host.rewritten++;
    }
}

static void observe(const micro_batch *micro)
{
    double c[MICRO * SAMPLES], chat[MICRO * SAMPLES];
    CHECK(cadft_loss_get_samples(r.loss, CADFT_SAMPLES_C, c, MICRO * SAMPLES,
                                 NULL, &r.err));
    CHECK(cadft_loss_get_samples(r.loss, CADFT_SAMPLES_CHAT, chat,
                                 MICRO * SAMPLES, NULL, &r.err));
    for (int32_t i = 0; i < MICRO; i++)
        CHECK(cadft_rewrite_observe(r.rewrite, micro[i].samples,
                                    c + i * SAMPLES, chat + i * SAMPLES,
                                    SAMPLES, &r.err));
}

static void train_step(void)
{
    static micro_batch micro[MICRO];
    cadft_loss_report report = {.struct_size = sizeof report};
    int64_t rows = 0;
    rewrite_targets();
    for (int32_t i = 0; i < MICRO; i++) {
        fill(&micro[i], i * SAMPLES);
        rows += micro[i].rows[0] - SAMPLES;
    }
    CHECK(cadft_model_zero_grad(r.model, &r.err));
    CHECK(cadft_loss_set_f64(r.loss, CADFT_LOSS_DENOMINATOR, (double)rows,
                             &r.err));
    CHECK(cadft_loss_begin(r.loss, MICRO * SAMPLES, &r.err));
    for (int32_t i = 0; i < MICRO; i++) {
        int64_t index;
        CHECK(cadft_model_forward(r.model, &micro[i].batch, &micro[i].logits,
                                  &r.err));
        CHECK(cadft_loss_observe(r.loss, &micro[i].loss_batch, NULL, &index,
                                 &r.err));
        CHECK(cadft_loss_weigh(r.loss, &r.err));
        CHECK(cadft_loss_grad(r.loss, index, &micro[i].loss_batch,
                              &micro[i].logits, &r.err));
        CHECK(cadft_model_backward(r.model, &micro[i].logits, &r.err));
    }
    CHECK(cadft_loss_end(r.loss, &report, &r.err));
    observe(micro);
    CHECK(cadft_optimizer_step(r.optimizer, NULL, NULL, &r.err));
    r.host.seen += report.loss;
    r.step++;
}

/* ------------------------------------------------------------ checkpoints */

static cadft_checkpoint point_of(int64_t step)
{
    return (cadft_checkpoint){.struct_size = sizeof(cadft_checkpoint),
                              .keep = (int32_t)arguments.keep,
                              .folder = arguments.folder,
                              .step = step};
}

static void save(void)
{
    cadft_checkpoint point = point_of(r.step);
    point.model = r.model;
    point.optimizer = r.optimizer;
    point.loss = r.loss;
    point.rewrite = r.rewrite;
    point.host = &r.host;
    point.host_bytes = sizeof r.host;
    CHECK(cadft_checkpoint_save(r.context, &point, &r.err));
    printf("saved %" PRId64 "\n", r.step);
    fflush(stdout);
}

static void begin(void)
{
    CHECK(cadft_model_init(r.model, config, sizeof config - 1, 7, &r.err));
    CHECK(cadft_optimizer_add_model(r.optimizer, r.model, NULL, &r.err));
    r.host.random = 5;
    shuffle(&r.host);
    r.step = 0;
}

static void go_on(void)
{
    cadft_checkpoint point = point_of(r.step);
    size_t bytes;
    point.model = r.model;
    CHECK(cadft_checkpoint_load(r.context, &point, NULL, 0, NULL, &r.err));
    CHECK(cadft_optimizer_add_model(r.optimizer, r.model, NULL, &r.err));
    point.model = NULL;
    point.optimizer = r.optimizer;
    point.loss = r.loss;
    point.rewrite = r.rewrite;
    CHECK(cadft_checkpoint_load(r.context, &point, &r.host, sizeof r.host,
                                &bytes, &r.err));
    if (bytes != sizeof r.host) {
        fprintf(stderr, "%zu bytes of the host, expected %zu\n", bytes,
                sizeof r.host);
        exit(1);
    }
}

static void open_run(void)
{
    cadft_context_desc desc = {.struct_size = sizeof desc,
                               .n_threads = (int32_t)arguments.threads};
    CHECK(cadft_context_create(&desc, &r.context, &r.err));
    CHECK(cadft_model_create(r.context, &r.model, &r.err));
    CHECK(cadft_model_set_str(r.model, CADFT_MODEL_WEIGHT_DTYPE,
                              arguments.dtype, &r.err));
    CHECK(cadft_optimizer_create(r.context, &r.optimizer, &r.err));
    CHECK(
        cadft_optimizer_set_f64(r.optimizer, CADFT_OPTIMIZER_LR, 3e-3, &r.err));
    CHECK(cadft_optimizer_set_str(r.optimizer, CADFT_OPTIMIZER_SCHEDULE,
                                  "cosine", &r.err));
    CHECK(cadft_optimizer_set_i64(r.optimizer, CADFT_OPTIMIZER_PLANNED_STEPS,
                                  arguments.steps, &r.err));
    CHECK(cadft_optimizer_set_f64(r.optimizer, CADFT_OPTIMIZER_WARMUP_FRACTION,
                                  0.1, &r.err));
    CHECK(cadft_loss_create(r.context, &r.loss, &r.err));
    CHECK(cadft_loss_set_str(r.loss, CADFT_LOSS_SCOPE, "running", &r.err));
    CHECK(cadft_rewrite_create(r.context, DATA, &r.rewrite, &r.err));
    CHECK(cadft_rewrite_set_i64(r.rewrite, CADFT_REWRITE_WARMUP_STEPS, 12,
                                &r.err));
    CHECK(cadft_rewrite_set_i64(r.rewrite, CADFT_REWRITE_INTERVAL, 4, &r.err));
    CHECK(
        cadft_rewrite_set_f64(r.rewrite, CADFT_REWRITE_FRACTION, 0.1, &r.err));
    CHECK(cadft_checkpoint_find(r.context, arguments.folder, -1, &r.step,
                                &r.err));
    if (r.step < 0)
        begin();
    else
        go_on();
    printf("start %" PRId64 "\n", r.step);
    fflush(stdout);
}

/* ------------------------------------------------------------------- main */

static uint64_t digest_bytes(uint64_t digest, const void *data, size_t bytes)
{
    const unsigned char *at = (const unsigned char *)data;
    for (size_t i = 0; i < bytes; i++)
        digest = (digest ^ at[i]) * 0x100000001b3u;
    return digest;
}

static uint64_t digest_weights(void)
{
    uint64_t digest = 0xcbf29ce484222325u;
    int64_t n;
    CHECK(cadft_model_get_i64(r.model, CADFT_MODEL_PARAMETERS, &n, &r.err));
    for (int64_t i = 0; i < n; i++) {
        cadft_tensor value = {.struct_size = sizeof value};
        size_t bytes;
        void *copy;
        CHECK(cadft_model_parameter(r.model, i, NULL, &value, NULL, NULL,
                                    &r.err));
        bytes = value.dtype_bits / 8u;
        for (int32_t d = 0; d < value.ndim; d++)
            bytes *= (size_t)value.shape[d];
        copy = malloc(bytes);
        CHECK(cadft_context_read(r.context, &value, copy, bytes, &r.err));
        digest = digest_bytes(digest, copy, bytes);
        free(copy);
    }
    return digest_bytes(digest, &r.host.seen, sizeof r.host.seen);
}

static void parse(int argc, char **argv)
{
    static const struct {
        const char *name;
        int64_t *value;
    } numbers[] = {{"--steps", &arguments.steps},
                   {"--every", &arguments.every},
                   {"--keep", &arguments.keep},
                   {"--threads", &arguments.threads},
                   {"--stop", &arguments.stop}};
    arguments.folder = argc > 1 ? argv[1] : "";
    for (int i = 2; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--dtype") == 0)
            arguments.dtype = argv[i + 1];
        for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++)
            if (strcmp(argv[i], numbers[k].name) == 0)
                *numbers[k].value = strtoll(argv[i + 1], NULL, 10);
    }
}

int main(int argc, char **argv)
{
    r.err.struct_size = sizeof r.err;
    parse(argc, argv);
    open_run();
    while (r.step < arguments.steps && r.step < arguments.stop) {
        train_step();
        if (r.step % arguments.every == 0 || r.step == arguments.steps)
            save();
    }
    if (r.step == arguments.steps)
        printf("digest %016" PRIx64 "\nrewritten %" PRId64 "\n",
               digest_weights(), r.host.rewritten);
    cadft_loss_destroy(r.loss);
    cadft_rewrite_destroy(r.rewrite);
    cadft_context_destroy(r.context);
    cadft_model_destroy(r.model);
    cadft_optimizer_destroy(r.optimizer);
    return 0;
}
