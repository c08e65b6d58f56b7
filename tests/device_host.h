/* SPDX-License-Identifier: Apache-2.0 */
/* A fixture around device_backend.c for the tests that load it: its control,
 * and at the end that nothing is left on the device and that nothing was done
 * to it which the contract forbids. */
#ifndef TESTS_DEVICE_HOST_H
#define TESTS_DEVICE_HOST_H

#include <dlfcn.h>
#include <string.h>

#include "device_backend.h"
#include "support.h"

/* The plug-in's path, from the build. */
#ifndef DEVICE_BACKEND_PATH
#    define DEVICE_BACKEND_PATH ""
#endif

static const device_control *device;
static cadft_error err;

static inline void load_control(void)
{
    void *handle, *symbol;
    device_control_fn control;
    err = support_error();
    ck_assert_msg(DEVICE_BACKEND_PATH[0] != '\0',
                  "build with DEVICE_BACKEND_PATH: the path of the plug-in "
                  "made from device_backend.c");
    handle = dlopen(DEVICE_BACKEND_PATH, RTLD_NOW | RTLD_LOCAL);
    ck_assert_msg(handle != NULL, "%s", dlerror());
    symbol = dlsym(handle, "device_backend_control");
    ck_assert_ptr_nonnull(symbol);
    memcpy(&control, &symbol, sizeof control);
    device = control();
    device->reset();
}

/* Nothing is left on the device and nothing wrong was done to it. */
static inline void check_device(void)
{
    if (!device)
        return;
    for (int32_t i = 0; i < DEVICE_STREAMS; i++)
        device->wait(device->stream(i));
    ck_assert_msg(device->wrong() == 0, "%lld times: %s",
                  (long long)device->wrong(), device->what());
    ck_assert_int_eq(device->live(), 0);
}

static inline int32_t
open_context(const char *path, const char *options, cadft_context **out)
{
    cadft_context_desc desc = {.struct_size = sizeof desc,
                               .n_threads = 1,
                               .backend = path,
                               .backend_options = options};
    err = support_error();
    *out = (cadft_context *)&err;
    return cadft_context_create(&desc, out, &err);
}

#endif
