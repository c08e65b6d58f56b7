/* SPDX-License-Identifier: Apache-2.0 */
/* hijack LIBRARY: a host that exports names of ours, and a broken CBLAS, is
 * not called by the library. Linked so that its names come first. */
#include "use.h"

extern int hijacked; /* hijack_names.c */

int main(int argc, char **argv)
{
    void *library;
    struct api api;
    cadft_context *context;
    MUST(argc == 2);
    library = dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL);
    MUST(library != NULL);
    /* the fakes are in the way of names looked up without a handle */
    MUST(dlsym(dlopen(NULL, RTLD_NOW), "cadft__fail") != NULL);
    api = api_of(library);
    context = open_context(&api);
    use(&api, context);
    api.context_destroy(context);
    MUST(hijacked == 0);
    return 0;
}
