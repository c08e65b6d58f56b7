/* SPDX-License-Identifier: Apache-2.0 */
/* A host that describes batches and prompts with any tokens, sequences, rows
 * and tensors, to a model of one layer, in any order of calls. Checked: no
 * crash, no leak, status and message agree; a batch that is taken is one that
 * the header allows, and its logits are finite; a refused one leaves the pass
 * before it, and its logits bit for bit. */
#include "views.h"

enum {
    VOCAB = 7,
    POSITIONS = 24,
    OPS = 12,
    NEW_MOST = 4,
    LOGITS = 1024 * VOCAB
};

static const char config[] =
    "{\"architectures\": [\"Qwen2ForCausalLM\"], \"model_type\": \"qwen2\","
    " \"vocab_size\": 7, \"hidden_size\": 4, \"intermediate_size\": 6,"
    " \"num_hidden_layers\": 1, \"num_attention_heads\": 2,"
    " \"num_key_value_heads\": 1, \"max_position_embeddings\": 24}";

struct host {
    struct input in;
    cadft_model *model;
    cadft_error err;
    struct view tokens, ends, lengths, rows;
    _Alignas(64) uint8_t memory[4][MEMORY];
    cadft_model_batch batch;
    int32_t waiting; /* a pass for its backward */
    int32_t has_grads;
    cadft_tensor logits; /* of the last pass */
    float kept[LOGITS];
    int32_t drawn[1024 * NEW_MOST];
    int64_t counts[1024];
};

/* ------------------------------------------------------------- the batch */

static void put(uint8_t *memory, int64_t i, int64_t value, int wide)
{
    int32_t narrow = (int32_t)value;
    if (wide)
        memcpy(memory + 8 * i, &value, sizeof value);
    else
        memcpy(memory + 4 * i, &narrow, sizeof narrow);
}

static int64_t get(const cadft_tensor *t, int64_t i)
{
    const uint8_t *at = (const uint8_t *)t->data + t->byte_offset;
    int32_t narrow;
    int64_t wide;
    if (t->dtype_bits == 64) {
        memcpy(&wide, at + 8 * i, sizeof wide);
        return wide;
    }
    memcpy(&narrow, at + 4 * i, sizeof narrow);
    return narrow;
}

static int64_t elements(const cadft_tensor *t)
{
    int64_t count = 1;
    for (int d = 0; d < t->ndim; d++)
        count *= t->shape[d];
    return count;
}

/* Rising numbers from 0 to `last`, about. */
static void fill_rising(
    struct host *h, uint8_t *memory, int64_t count, int64_t last, int wide)
{
    int64_t at = 0;
    for (int64_t i = 0; i < count; i++) {
        put(memory, i, i + 1 == count ? last : at, wide);
        at = (int64_t)((uint64_t)at +
                       (uint64_t)number(&h->in, 2 + 2 * last / (count + 1)));
    }
    if (take8(&h->in) > 220 && count)
        put(memory, take8(&h->in) % count, number(&h->in, 30), wide);
}

static void make_batch(struct host *h)
{
    struct input *in = &h->in;
    struct view *all[] = {&h->tokens, &h->ends, &h->lengths, &h->rows};
    uint8_t kind = take8(in), wide = take8(in);
    int64_t rows = take8(in) % 33, n = take8(in) % 6, b = take8(in) % 4;
    int64_t picked = take8(in) % (rows + 2), total = kind & 1 ? b * rows : rows;
    int32_t types[4];
    for (int i = 0; i < 4; i++)
        types[i] = wide >> i & 1 ? CADFT_DTYPE_I64 : CADFT_DTYPE_I32;
    make_view(&h->tokens, h->memory[0], types[0], kind & 1 ? b : rows,
              kind & 1 && rows ? rows : 0);
    make_view(&h->ends, h->memory[1], types[1], n + 1, 0);
    make_view(&h->lengths, h->memory[2], types[2], b, 0);
    make_view(&h->rows, h->memory[3], types[3], picked, 0);
    memset(h->memory, 0, sizeof h->memory);
    for (int64_t i = 0; i < total; i++)
        put(h->memory[0], i, number(in, VOCAB), wide & 1);
    fill_rising(h, h->memory[1], n + 1, rows, wide >> 1 & 1);
    for (int64_t i = 0; i < b; i++)
        put(h->memory[2], i, number(in, rows + 1), wide >> 2 & 1);
    fill_rising(h, h->memory[3], picked, rows - 1, wide >> 3 & 1);
    h->batch = (cadft_model_batch){.struct_size = sizeof h->batch,
                                   .no_grad = kind >> 5 & 1,
                                   .tokens = &h->tokens.tensor};
    if (kind & 2)
        h->batch.cu_seqlens = &h->ends.tensor;
    if (kind & 4)
        h->batch.lengths = &h->lengths.tensor;
    if (kind & 8)
        h->batch.logit_rows = &h->rows.tensor;
    for (int i = take8(in) % 8 - 5; i > 0; i--)
        spoil_view(in, all[take8(in) % 4]);
    for (int i = 0; i < 4; i++)
        make_honest(all[i], i < 1 ? rows : n);
    if (take8(in) > 250)
        h->batch.no_grad = (int32_t)number(in, 3);
    if (take8(in) > 250)
        h->batch.stream = h;
    if (take8(in) > 250)
        h->batch.tokens = NULL;
}

/* What the header allows, read again: rows of the batch that was taken. */
static int64_t check_taken(const cadft_model_batch *b)
{
    const cadft_tensor *t = b->tokens;
    int64_t width = t->ndim == 2 ? t->shape[1] : elements(t);
    int64_t n = t->ndim == 2 ? t->shape[0] : 1, rows = 0;
    REQUIRE(t->ndim <= 2);
    if (b->cu_seqlens)
        n = elements(b->cu_seqlens) - 1;
    for (int64_t s = 0; s < n; s++) {
        int64_t first = s * width, length = width;
        if (b->cu_seqlens) {
            first = get(b->cu_seqlens, s);
            REQUIRE(first == rows);
            length = get(b->cu_seqlens, s + 1) - first;
        }
        if (b->lengths)
            length = get(b->lengths, s);
        REQUIRE(length >= 0 && length <= POSITIONS);
        REQUIRE(first + length <= elements(t));
        for (int64_t i = 0; i < length; i++)
            REQUIRE(get(t, first + i) >= 0 && get(t, first + i) < VOCAB);
        rows += length;
    }
    if (b->cu_seqlens)
        REQUIRE(n >= 0 && get(b->cu_seqlens, n) == elements(t));
    return rows;
}

static int64_t check_rows(const cadft_model_batch *b, int64_t rows)
{
    int64_t before = -1;
    if (!b->logit_rows)
        return rows;
    for (int64_t i = 0; i < elements(b->logit_rows); i++) {
        int64_t row = get(b->logit_rows, i);
        REQUIRE(row > before && row < rows);
        before = row;
    }
    return elements(b->logit_rows);
}

/* -------------------------------------------------------------- operations */

/* The pass before is as it was. */
static void check_kept(struct host *h)
{
    size_t bytes = (size_t)elements(&h->logits) * sizeof(float);
    if (!h->waiting)
        return;
    REQUIRE(!bytes || memcmp(h->logits.data, h->kept, bytes) == 0);
}

static void keep(struct host *h)
{
    int64_t count = elements(&h->logits);
    REQUIRE(count <= LOGITS);
    if (count)
        memcpy(h->kept, h->logits.data, (size_t)count * sizeof(float));
    for (int64_t i = 0; i < count; i++)
        REQUIRE(h->kept[i] - h->kept[i] == 0); /* finite */
}

static void forward(struct host *h)
{
    cadft_tensor logits = {.struct_size = sizeof logits};
    int32_t status;
    make_batch(h);
    status = checked(cadft_model_forward(h->model, &h->batch, &logits, &h->err),
                     &h->err);
    if (status) {
        REQUIRE(!logits.data && !logits.shape);
        if (status == CADFT_E_NOMEM)
            h->waiting = 0;
        check_kept(h);
        return;
    }
    h->logits = logits;
    REQUIRE(logits.shape[1] == VOCAB);
    REQUIRE(logits.shape[0] == check_rows(&h->batch, check_taken(&h->batch)));
    h->waiting = !h->batch.no_grad;
    keep(h);
}

static void backward(struct host *h)
{
    int32_t wanted = h->waiting && h->has_grads ? CADFT_OK : CADFT_E_PHASE;
    REQUIRE(checked(cadft_model_backward(h->model, &h->logits, &h->err),
                    &h->err) == wanted);
    if (!wanted)
        h->waiting = 0;
}

static void generate(struct host *h)
{
    cadft_generate_desc d = {.struct_size = sizeof d};
    int32_t status;
    make_batch(h);
    d.tokens = h->batch.tokens;
    d.cu_seqlens = h->batch.cu_seqlens;
    d.lengths = h->batch.lengths;
    d.max_new_tokens = 1 + take8(&h->in) % NEW_MOST;
    d.temperature = (double)(take8(&h->in) % 5) / 2;
    d.top_p = (double)(take8(&h->in) % 5) / 4;
    status = checked(
        cadft_model_generate(h->model, &d, h->drawn, h->counts, &h->err),
        &h->err);
    if (!status) {
        h->waiting = 0;
        check_taken(&h->batch);
    } else if (status == CADFT_E_NOMEM) {
        h->waiting = 0;
    }
    check_kept(h);
}

static void limits(struct host *h, int reserve)
{
    cadft_model_limits l = {.struct_size = sizeof l};
    int64_t bytes = -1;
    int32_t status;
    l.no_grad = (int32_t)number(&h->in, 2);
    l.rows = number(&h->in, 60);
    l.logit_rows = number(&h->in, 30);
    l.sequences = number(&h->in, 30);
    status = checked(reserve ? cadft_model_reserve(h->model, &l, &h->err)
                             : cadft_model_plan(h->model, &l, &bytes, &h->err),
                     &h->err);
    REQUIRE(reserve || (status == CADFT_OK) == (bytes > 0));
    check_kept(h);
}

static void operate(struct host *h)
{
    uint8_t op = take8(&h->in);
    switch (op % 16) {
    case 0:
    case 1:
    case 2:
        backward(h);
        break;
    case 3:
    case 4:
        generate(h);
        break;
    case 5:
        limits(h, op & 16);
        break;
    case 6:
        if (checked(cadft_model_freeze(h->model, op & 16 ? "*" : "*q_proj*",
                                       op >> 5 & 1, NULL, &h->err),
                    &h->err) == CADFT_OK)
            h->has_grads = 0;
        break;
    case 7:
        checked(cadft_model_set_i64(h->model, CADFT_MODEL_CHECKPOINTING,
                                    op >> 4 & 1, &h->err),
                &h->err);
        break;
    case 8:
    case 9:
        REQUIRE(cadft_model_zero_grad(h->model, NULL) == CADFT_OK);
        h->has_grads = 1;
        break;
    default:
        forward(h);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct host h;
    struct heap heap = {0};
    cadft_context *context = fuzz_context(&heap);
    memset(&h, 0, sizeof h);
    h.in = (struct input){data, size};
    h.err.struct_size = sizeof h.err;
    REQUIRE(cadft_model_create(context, &h.model, NULL) == CADFT_OK);
    REQUIRE(cadft_model_init(h.model, config, sizeof config - 1, 1, NULL) ==
            CADFT_OK);
    for (int n = 0; n < OPS && h.in.left; n++)
        operate(&h);
    cadft_context_destroy(context);
    cadft_model_destroy(h.model);
    REQUIRE(heap.live == 0);
    return 0;
}
