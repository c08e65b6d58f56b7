/* SPDX-License-Identifier: Apache-2.0 */
/* golden_text FILE.json...
 *
 * Replays the golden cases of the loss in phases and prints them as text for
 * the bindings, which lack a JSON parser in some languages: what goes in, and
 * what this library makes of it, bit for bit. test_golden holds the library
 * to the reference; a binding, which computes nothing, is held to the library.
 * The format is in doc/bindings.md. */
#include <jansson.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cadft/cadft.h"

enum { MOST_MICRO = 64 };

struct array {
    int32_t dtype, ndim;
    int64_t shape[2], count;
    void *data;
};

struct micro {
    struct array logits, labels, ids, k;
    cadft_tensor tz, ty, ts, tk;
    cadft_loss_batch batch;
};

static void die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

static void must(int32_t status, const cadft_error *error)
{
    if (status)
        die("%s: %s", cadft_status_string(status), error->message);
}

static cadft_error fresh(void)
{
    return (cadft_error){.struct_size = sizeof(cadft_error)};
}

/* ---------------------------------------------------------------- reading */

static int32_t dtype_of(const char *name, size_t *size)
{
    static const struct {
        const char *name;
        int32_t dtype;
        size_t size;
    } names[] = {{"f32", CADFT_DTYPE_F32, 4}, {"bf16", CADFT_DTYPE_BF16, 2},
                 {"f16", CADFT_DTYPE_F16, 2}, {"f64", CADFT_DTYPE_F64, 8},
                 {"i32", CADFT_DTYPE_I32, 4}, {"i64", CADFT_DTYPE_I64, 8}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i].name, name) == 0) {
            *size = names[i].size;
            return names[i].dtype;
        }
    die("data type %s", name);
    return 0;
}

/* The array of a key, which is printed as it is; none without the key. */
static struct array read_array(const json_t *object, const char *key)
{
    const json_t *json = json_object_get(object, key), *shape;
    struct array a = {.count = 1};
    const char *name, *hex;
    size_t size;
    if (!json)
        return (struct array){0};
    name = json_string_value(json_object_get(json, "dtype"));
    hex = json_string_value(json_object_get(json, "hex"));
    shape = json_object_get(json, "shape");
    a.dtype = dtype_of(name, &size);
    a.ndim = (int32_t)json_array_size(shape);
    printf("%s %s %d", key, name, a.ndim);
    for (int32_t d = 0; d < a.ndim; d++) {
        a.shape[d] = json_integer_value(json_array_get(shape, (size_t)d));
        a.count *= a.shape[d];
        printf(" %lld", (long long)a.shape[d]);
    }
    printf(" %s\n", hex);
    size *= (size_t)a.count;
    a.data = malloc(size + 1);
    for (size_t i = 0; i < size; i++) {
        unsigned byte = 0;
        sscanf(hex + 2 * i, "%2x", &byte);
        ((unsigned char *)a.data)[i] = (unsigned char)byte;
    }
    return a;
}

static void set_options(cadft_loss *loss, const json_t *options)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)options, name, value)
    {
        cadft_error error = fresh();
        char text[32];
        int32_t key;
        if (json_is_integer(value))
            snprintf(text, sizeof text, "%lld",
                     (long long)json_integer_value(value));
        else if (json_is_real(value))
            snprintf(text, sizeof text, "%.17g", json_real_value(value));
        else if (json_is_boolean(value))
            snprintf(text, sizeof text, "%d", json_is_true(value));
        else
            snprintf(text, sizeof text, "%s", json_string_value(value));
        printf("option %s %s\n", name, text);
        must(cadft_loss_key(name, &key, &error), &error);
        must(cadft_loss_set_str(loss, key, text, &error), &error);
    }
}

static void view(cadft_tensor *tensor, struct array *a)
{
    cadft_error error = fresh();
    must(cadft_tensor_init(tensor, sizeof *tensor, a->data, a->dtype, a->ndim,
                           a->shape, NULL, &error),
         &error);
}

static void read_micro(struct micro *m, const json_t *json)
{
    int64_t valid = json_integer_value(json_object_get(json, "vocab_valid"));
    printf("micro %lld\n", (long long)valid);
    m->logits = read_array(json, "logits");
    m->labels = read_array(json, "labels");
    m->ids = read_array(json, "sample_ids");
    m->k = read_array(json, "k");
    view(&m->tz, &m->logits);
    view(&m->ty, &m->labels);
    view(&m->ts, &m->ids);
    if (m->k.data)
        view(&m->tk, &m->k);
    m->batch = (cadft_loss_batch){.struct_size = sizeof m->batch,
                                  .logits = &m->tz,
                                  .labels = &m->ty,
                                  .sample_ids = &m->ts,
                                  .k = m->k.data ? &m->tk : NULL,
                                  .vocab_valid = valid};
}

static void free_micro(struct micro *m)
{
    free(m->logits.data);
    free(m->labels.data);
    free(m->ids.data);
    free(m->k.data);
}

/* ---------------------------------------------------------------- results */

static void print_bytes(const char *name, const void *data, size_t bytes)
{
    printf("%s ", name);
    for (size_t i = 0; i < bytes; i++)
        printf("%02x", ((const unsigned char *)data)[i]);
    printf("\n");
}

/* The gradient goes to float32 memory apart, whatever the logits are. */
static int32_t
gradient(cadft_loss *loss, int64_t index, struct micro *m, cadft_error *error)
{
    static const struct {
        const char *name;
        int32_t what;
    } rows[] = {{"l", CADFT_ROWS_NLL},
                {"k", CADFT_ROWS_K},
                {"scale", CADFT_ROWS_SCALE}};
    struct array grad = m->logits;
    size_t n = (size_t)m->logits.shape[0];
    double *out = malloc(n * sizeof *out + 1);
    cadft_tensor tensor;
    int32_t status;
    grad.dtype = CADFT_DTYPE_F32;
    grad.data = calloc((size_t)grad.count + 1, sizeof(float));
    view(&tensor, &grad);
    status = cadft_loss_grad(loss, index, &m->batch, &tensor, error);
    if (!status) {
        print_bytes("grad", grad.data, (size_t)grad.count * sizeof(float));
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
            must(cadft_loss_get_rows(loss, index, rows[i].what, out, n, NULL,
                                     error),
                 error);
            print_bytes(rows[i].name, out, n * sizeof *out);
        }
    }
    free(grad.data);
    free(out);
    return status;
}

static void print_samples(cadft_loss *loss, int64_t n_samples)
{
    static const struct {
        const char *name;
        int32_t what;
    } arrays[] = {{"c", CADFT_SAMPLES_C}, {"w", CADFT_SAMPLES_W}};
    size_t n = (size_t)n_samples;
    double *out = malloc(n * sizeof *out + 1);
    cadft_error error = fresh();
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        must(cadft_loss_get_samples(loss, arrays[i].what, out, n, NULL, &error),
             &error);
        print_bytes(arrays[i].name, out, n * sizeof *out);
    }
    free(out);
}

/* ---------------------------------------------------------------- a step */

static int32_t step(cadft_loss *loss,
                    struct micro *micro,
                    size_t n_micro,
                    int64_t n_samples,
                    int each,
                    cadft_error *error)
{
    cadft_loss_report report = {.struct_size = sizeof report};
    int32_t status = cadft_loss_begin(loss, n_samples, error);
    int64_t index;
    for (size_t i = 0; !status && i < n_micro; i++) {
        status = cadft_loss_observe(loss, &micro[i].batch, NULL, &index, error);
        if (!status && each)
            status = cadft_loss_weigh(loss, error);
        if (!status && each)
            status = gradient(loss, index, &micro[i], error);
    }
    if (!status && !each)
        status = cadft_loss_weigh(loss, error);
    for (size_t i = 0; !status && !each && i < n_micro; i++)
        status = gradient(loss, (int64_t)i, &micro[i], error);
    if (status)
        return status;
    print_samples(loss, n_samples);
    status = cadft_loss_end(loss, &report, error);
    if (!status) {
        print_bytes("loss", &report.loss, sizeof report.loss);
        print_bytes("mean_w", &report.mean_w, sizeof report.mean_w);
    }
    return status;
}

static void
replay_batch(cadft_loss *loss, const json_t *batch, int64_t n_samples)
{
    const json_t *list = json_object_get(batch, "micro");
    struct micro micro[MOST_MICRO];
    cadft_error error = fresh();
    size_t n = json_array_size(list);
    int64_t scope;
    int32_t status;
    if (n > MOST_MICRO)
        die("%zu micro-batches", n);
    printf("step %lld\n", (long long)n_samples);
    for (size_t i = 0; i < n; i++)
        read_micro(&micro[i], json_array_get(list, i));
    must(cadft_loss_get_i64(loss, CADFT_LOSS_SCOPE, &scope, &error), &error);
    status =
        step(loss, micro, n, n_samples, scope != CADFT_SCOPE_EXACT, &error);
    printf("status %d %s\n", status, status ? error.message : "");
    if (status)
        cadft_loss_cancel(loss);
    for (size_t i = 0; i < n; i++)
        free_micro(&micro[i]);
}

static void replay(cadft_context *context, const json_t *c)
{
    const json_t *batches = json_object_get(c, "batches");
    int64_t n = json_integer_value(json_object_get(c, "n_samples"));
    cadft_error error = fresh();
    cadft_loss *loss;
    printf("case %s\n", json_string_value(json_object_get(c, "name")));
    must(cadft_loss_create(context, &loss, &error), &error);
    set_options(loss, json_object_get(c, "options"));
    for (size_t i = 0; i < json_array_size(batches); i++)
        replay_batch(loss, json_array_get(batches, i), n);
    cadft_loss_destroy(loss);
}

int main(int argc, char **argv)
{
    cadft_context *context;
    cadft_error error = fresh();
    must(cadft_context_create(NULL, &context, &error), &error);
    for (int i = 1; i < argc; i++) {
        json_error_t where;
        json_t *cases = json_load_file(argv[i], 0, &where);
        if (!cases)
            die("%s: %s", argv[i], where.text);
        for (size_t j = 0; j < json_array_size(cases); j++)
            replay(context, json_array_get(cases, j));
        json_decref(cases);
    }
    cadft_context_destroy(context);
    return 0;
}
