/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/blas.h"

#include <dlfcn.h>
#include <string.h>

#include "common/error.h"

enum { PATH_SIZE = 1024 };

/* A function by name; a cast from void * is not C11. */
static void find(void *library, const char *name, void *out)
{
    void *symbol = dlsym(library, name);
    memcpy(out, &symbol, sizeof symbol);
}

/* OpenBLAS starts threads of its own, on top of the workers, and lets one
 * caller at a time into them. */
static void hold_threads(cadft__blas *blas)
{
    int (*get_threads)(void);
    find(blas->library, "openblas_get_num_threads", &get_threads);
    find(blas->library, "openblas_set_num_threads", &blas->set_threads);
    if (!get_threads || !blas->set_threads) {
        blas->set_threads = NULL;
        return;
    }
    blas->threads_before = get_threads();
    blas->set_threads(1);
}

int32_t cadft__blas_open(const char *path,
                         size_t length,
                         cadft__blas *out,
                         cadft_error *error)
{
    char text[PATH_SIZE];
    const char *why;
    memset(out, 0, sizeof *out);
    if (length == 0 || length >= sizeof text)
        return cadft__fail(error, CADFT_E_BACKEND,
                           "matmul= is followed by %zu bytes, expected own or "
                           "the path of a CBLAS",
                           length);
    memcpy(text, path, length);
    text[length] = '\0';
    out->library = dlopen(text, RTLD_NOW | RTLD_LOCAL);
    if (!out->library) {
        why = dlerror();
        return cadft__fail(error, CADFT_E_BACKEND,
                           "the CBLAS of matmul= cannot be loaded: %s",
                           why ? why : text);
    }
    find(out->library, "cblas_sgemm", &out->sgemm);
    if (!out->sgemm) {
        dlclose(out->library);
        memset(out, 0, sizeof *out);
        return cadft__fail(error, CADFT_E_BACKEND,
                           "%.128s, the CBLAS of matmul=, has no cblas_sgemm",
                           text);
    }
    hold_threads(out);
    return CADFT_OK;
}

void cadft__blas_close(cadft__blas *blas)
{
    if (blas->set_threads)
        blas->set_threads(blas->threads_before);
}
