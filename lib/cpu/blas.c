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

/* Its threads would come on top of the workers, and OpenBLAS lets one caller
 * at a time into them. How many it has is a setting of the whole process, so
 * it is the host's. */
static void warn_of_threads(void *library, const cadft_backend_host *host)
{
    int (*get_threads)(void);
    find(library, "openblas_get_num_threads", &get_threads);
    if (get_threads && get_threads() > 1 && host->max_workers > 1)
        host->log(host->user, CADFT_LOG_WARNING,
                  "the CBLAS of matmul= has threads of its own on top of the "
                  "context's: call openblas_set_num_threads(1)");
}

int32_t cadft__blas_open(const char *path,
                         size_t length,
                         const cadft_backend_host *host,
                         cadft__sgemm_fn **out,
                         cadft_error *error)
{
    char text[PATH_SIZE];
    const char *why;
    void *library;
    if (length == 0 || length >= sizeof text)
        return cadft__fail(error, CADFT_E_BACKEND,
                           "matmul= is followed by %zu bytes, expected own or "
                           "the path of a CBLAS",
                           length);
    memcpy(text, path, length);
    text[length] = '\0';
    library = dlopen(text, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!library) {
        why = dlerror();
        return cadft__fail(error, CADFT_E_BACKEND,
                           "the CBLAS of matmul= cannot be loaded: %s",
                           why ? why : text);
    }
    find(library, "cblas_sgemm", out);
    if (!*out)
        return cadft__fail(error, CADFT_E_BACKEND,
                           "%.128s, the CBLAS of matmul=, has no cblas_sgemm",
                           text);
    warn_of_threads(library, host);
    return CADFT_OK;
}
