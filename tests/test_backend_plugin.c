/* SPDX-License-Identifier: Apache-2.0 */
/* Loading a plug-in: tables that do not fit, devices that do not open, files
 * that are none. */
#define _GNU_SOURCE /* dladdr, mkstemp */
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "cadft/backend.h"
#include "device_host.h"

START_TEST(devices_that_do_not_open)
{
    cadft_context *context;
    CHECK_STATUS(open_context(DEVICE_BACKEND_PATH, "fail-open", &context),
                 CADFT_E_BACKEND, err);
    ck_assert_ptr_null(context);
    ck_assert_ptr_nonnull(strstr(err.message, "no such device"));
    CHECK_STATUS(open_context(DEVICE_BACKEND_PATH, "fail-open-dirty", &context),
                 CADFT_E_DEVICE, err);
    ck_assert_ptr_null(context);
}
END_TEST

START_TEST(tables_that_are_refused)
{
    static const char *const variants[][2] = {
        {"major", "contract 1"},      {"required", "99"},
        {"too-small", "bytes"},       {"no-name", "required slot"},
        {"no-open", "required slot"}, {"no-sync", "required slot"},
        {"no-grad", "required slot"}, {"null", "table"},
        {"error", "too old"}};
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        cadft_context *context;
        device->variant(variants[i][0]);
        CHECK_STATUS(open_context(DEVICE_BACKEND_PATH, NULL, &context),
                     strcmp(variants[i][0], "error") == 0
                         ? CADFT_E_UNSUPPORTED /* the plug-in's own */
                         : CADFT_E_BACKEND,
                     err);
        ck_assert_ptr_null(context);
        ck_assert_msg(strstr(err.message, variants[i][1]), "%s: \"%s\"",
                      variants[i][0], err.message);
    }
    ck_assert_int_eq(device->calls("open"), 0);
}
END_TEST

/* A file that is no plug-in, by what it is. */
START_TEST(files_that_are_no_plugins)
{
    char text[] = "/tmp/cadft-test-XXXXXX";
    cadft_context *context;
    int file = mkstemp(text);
    ck_assert_int_ge(file, 0);
    ck_assert_int_eq(write(file, "no plug-in\n", 11), 11);
    close(file);
    CHECK_STATUS(open_context(text, NULL, &context), CADFT_E_BACKEND, err);
    ck_assert_ptr_null(context);
    ck_assert_ptr_nonnull(strstr(err.message, text));
    unlink(text);
    CHECK_STATUS(open_context(text, NULL, &context), CADFT_E_BACKEND, err);
    ck_assert_ptr_nonnull(strstr(err.message, text));
    CHECK_STATUS(open_context("/tmp/", NULL, &context), CADFT_E_BACKEND, err);
}
END_TEST

/* A shared object of the system, which has no such symbol. */
START_TEST(a_library_without_the_symbol)
{
    cadft_context *context;
    Dl_info info;
    double (*sine)(double) = sin;
    void *address;
    memcpy(&address, &sine, sizeof address);
    ck_assert_int_ne(dladdr(address, &info), 0);
    if (!strstr(info.dli_fname, ".so"))
        return; /* linked statically: there is none to try */
    CHECK_STATUS(open_context(info.dli_fname, NULL, &context), CADFT_E_BACKEND,
                 err);
    ck_assert_ptr_nonnull(strstr(err.message, CADFT_BACKEND_QUERY));
}
END_TEST

START_TEST(names_and_texts)
{
    cadft_context *context;
    char text[64];
    CHECK_OK(open_context(DEVICE_BACKEND_PATH, NULL, &context), err);
    CHECK_OK(cadft_context_get_str(context, CADFT_CONTEXT_BACKEND, text,
                                   sizeof text, NULL, &err),
             err);
    ck_assert_str_eq(text, "test-device");
    CHECK_OK(cadft_context_get_str(context, CADFT_CONTEXT_DEVICE, text,
                                   sizeof text, NULL, &err),
             err);
    ck_assert_str_eq(text, "plain");
    cadft_context_destroy(context);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("backend_plugin");
    TCase *t = tcase_create("plug-in");
    tcase_add_checked_fixture(t, load_control, check_device);
    tcase_add_test(t, devices_that_do_not_open);
    tcase_add_test(t, tables_that_are_refused);
    tcase_add_test(t, files_that_are_no_plugins);
    tcase_add_test(t, a_library_without_the_symbol);
    tcase_add_test(t, names_and_texts);
    suite_add_tcase(s, t);
    return s;
}

int main(int argc, char **argv)
{
    return support_main(argc, argv, suite());
}
