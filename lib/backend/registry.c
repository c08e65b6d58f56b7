/* SPDX-License-Identifier: Apache-2.0 */
/* Built-in backends, plug-ins by path, and the handshake with both. */
#include <dlfcn.h>
#include <string.h>

#include "backend/context.h"
#include "common/error.h"

/* The one name by which the core knows the built-in backend. */
extern const cadft_backend cadft__cpu_backend;

/* Size of the table in contract 0.1 up to its last required slot. */
#define LEAST_SIZE offsetof(cadft_backend, loss_row_unit)

static int32_t
check_slots(const cadft_backend *b, const char *name, cadft_error *error)
{
    if (!b->name || !b->open || !b->close || !b->describe || !b->supports ||
        !b->mem_alloc || !b->mem_free || !b->copy_in || !b->copy_out ||
        !b->sync || !b->loss_row_stats || !b->loss_row_grad)
        return cadft__fail(error, CADFT_E_BACKEND,
                           "backend %s leaves a required slot NULL", name);
    return CADFT_OK;
}

static int32_t
check_table(const cadft_backend *b, const char *name, cadft_error *error)
{
    if (!b)
        return cadft__fail(error, CADFT_E_BACKEND, "backend %s gave no table",
                           name);
    if (b->major != CADFT_BACKEND_MAJOR)
        return cadft__fail(error, CADFT_E_BACKEND,
                           "backend %s speaks contract %u, expected %d", name,
                           b->major, CADFT_BACKEND_MAJOR);
    if (b->minor_required > CADFT_BACKEND_MINOR)
        return cadft__fail(error, CADFT_E_BACKEND,
                           "backend %s requires contract %u.%u, this library "
                           "has %d.%d",
                           name, b->major, b->minor_required,
                           CADFT_BACKEND_MAJOR, CADFT_BACKEND_MINOR);
    if (b->struct_size < LEAST_SIZE)
        return cadft__fail(error, CADFT_E_BACKEND,
                           "backend %s has a table of %u bytes, expected at "
                           "least %zu",
                           name, b->struct_size, LEAST_SIZE);
    return check_slots(b, name, error);
}

static int32_t
load_plugin(const char *path, const cadft_backend **out, cadft_error *error)
{
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL), *symbol;
    cadft_backend_query_fn query;
    const char *why;
    int32_t status;
    if (!handle) {
        why = dlerror();
        return cadft__fail(error, CADFT_E_BACKEND,
                           "plug-in cannot be loaded: %s", why ? why : path);
    }
    symbol = dlsym(handle, CADFT_BACKEND_QUERY);
    if (!symbol) /* closing is safe: nothing of it ran but constructors */
        return dlclose(handle), cadft__fail(error, CADFT_E_BACKEND,
                                            "plug-in %s does not export %s",
                                            path, CADFT_BACKEND_QUERY);
    memcpy(&query, &symbol, sizeof query);
    status = query(out, error);
    if (status)
        return cadft__slot_status(status, CADFT_BACKEND_QUERY, error);
    return check_table(*out, path, error);
}

int32_t cadft__backend_find(const char *name,
                            const cadft_backend **out,
                            cadft_error *error)
{
    *out = NULL;
    if (!name || strcmp(name, "cpu") == 0) {
        *out = &cadft__cpu_backend;
        return check_table(*out, "cpu", error);
    }
    if (strchr(name, '/'))
        return load_plugin(name, out, error);
    return cadft__fail(error, CADFT_E_BACKEND,
                       "backend is \"%.64s\", expected \"cpu\" or the path "
                       "of a plug-in with a '/' in it",
                       name);
}
