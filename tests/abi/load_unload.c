/* SPDX-License-Identifier: Apache-2.0 */
/* load_unload LIBRARY: load, use, unload 200 times, every fourth time in a
 * thread that ends after the unloading; no thread and no descriptor is left.
 * Then a context outlives the unloading, as in a host that leaks one. */
#define _GNU_SOURCE
#include <dirent.h>
#include <pthread.h>
#include <time.h>

#include "use.h"

static int entries(const char *folder)
{
    DIR *dir = opendir(folder);
    int n = 0;
    MUST(dir != NULL);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

/* A joined thread leaves /proc a moment later. */
static void await_threads(int n)
{
    const struct timespec moment = {0, 1000000};
    for (int i = 0; i < 2000 && entries("/proc/self/task") != n; i++)
        nanosleep(&moment, NULL);
    MUST(entries("/proc/self/task") == n);
}

static void *cycle(void *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    struct api api;
    cadft_context *context;
    MUST(library != NULL);
    api = api_of(library);
    context = open_context(&api);
    use(&api, context);
    api.context_destroy(context);
    MUST(dlclose(library) == 0);
    return NULL;
}

static void outlive(const char *path, int threads)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    struct api api = api_of(library);
    cadft_context *context = open_context(&api);
    MUST(dlclose(library) == 0);
    MUST(entries("/proc/self/task") == threads + 2);
    use(&api, context); /* the code is still there: -z nodelete */
    api.context_destroy(context);
    await_threads(threads);
}

int main(int argc, char **argv)
{
    int threads = entries("/proc/self/task"), files = entries("/proc/self/fd");
    MUST(argc == 2);
    for (int i = 0; i < 200; i++) {
        pthread_t thread;
        if (i % 4) {
            cycle(argv[1]);
        } else {
            MUST(pthread_create(&thread, NULL, cycle, argv[1]) == 0);
            MUST(pthread_join(thread, NULL) == 0);
        }
    }
    await_threads(threads);
    MUST(entries("/proc/self/fd") == files);
    outlive(argv[1], threads);
    return 0;
}
