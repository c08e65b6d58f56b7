/* SPDX-License-Identifier: Apache-2.0 */
/* A main for a fuzz target without a fuzzer: runs it on every file of the
 * folders and on the files named. */
#define _POSIX_C_SOURCE 200809L
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "fuzz.h"

static int run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = (uint8_t *)malloc(1 << 20), *exact;
    size_t size;
    if (!file || !data)
        return perror(path), 0;
    size = fread(data, 1, 1 << 20, file);
    fclose(file);
    exact = (uint8_t *)malloc(size + !size); /* so that a byte more is seen */
    for (size_t i = 0; i < size; i++)
        exact[i] = data[i];
    free(data);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    return 1;
}

static int run_folder(DIR *folder, const char *name)
{
    const struct dirent *entry;
    char path[4096];
    int count = 0;
    while ((entry = readdir(folder)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", name, entry->d_name);
        count += run_file(path);
    }
    closedir(folder);
    return count;
}

int main(int argc, char **argv)
{
    int count = 0;
    for (int i = 1; i < argc; i++) {
        DIR *folder = opendir(argv[i]);
        count += folder ? run_folder(folder, argv[i]) : run_file(argv[i]);
    }
    printf("%d inputs\n", count);
    return count > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
