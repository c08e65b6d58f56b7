/* SPDX-License-Identifier: Apache-2.0 */
/* A scratch folder for tests of files, and memory that counts. */
#ifndef TESTS_FILES_H
#define TESTS_FILES_H

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/memory.h"
#include "support.h"

#define UNUSED_HERE __attribute__((unused))

static char scratch[64]; /* made by files_setup */

UNUSED_HERE static void files_setup(const char *folder)
{
    snprintf(scratch, sizeof scratch, "%s/cadft-XXXXXX", folder);
    ck_assert_ptr_nonnull(mkdtemp(scratch));
}

UNUSED_HERE static void remove_tree(const char *path)
{
    struct stat info;
    if (lstat(path, &info))
        return;
    if (S_ISDIR(info.st_mode)) {
        DIR *dir = opendir(path);
        const struct dirent *entry;
        char inner[512];
        while (dir && (entry = readdir(dir)) != NULL)
            if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) {
                snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
                remove_tree(inner);
            }
        if (dir)
            closedir(dir);
    }
    remove(path);
}

UNUSED_HERE static void files_teardown(void)
{
    remove_tree(scratch);
}

/* scratch/name, in one of a few static buffers. */
UNUSED_HERE static const char *in_scratch(const char *name)
{
    static char paths[8][640];
    static int next;
    char *path = paths[next = (next + 1) % 8];
    snprintf(path, sizeof paths[0], "%s/%s", scratch, name);
    return path;
}

UNUSED_HERE static void
put_file(const char *name, const void *data, size_t bytes)
{
    FILE *file = fopen(in_scratch(name), "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(data, 1, bytes, file), bytes);
    ck_assert_int_eq(fclose(file), 0);
}

UNUSED_HERE static void put_text(const char *name, const char *text)
{
    put_file(name, text, strlen(text));
}

/* The content with a zero after it, to be freed; NULL if there is none. */
UNUSED_HERE static char *get_file(const char *name, size_t *bytes)
{
    FILE *file = fopen(in_scratch(name), "rb");
    char *data = (char *)calloc(1, 1 << 22);
    *bytes = 0;
    if (file)
        *bytes = fread(data, 1, (1 << 22) - 1, file);
    if (file)
        fclose(file);
    else
        free(data);
    return file ? data : NULL;
}

/* Entries of a folder without "." and ".."; -1: no folder. */
UNUSED_HERE static int count_entries(const char *path)
{
    DIR *dir = opendir(path);
    int n = -2;
    if (!dir)
        return -1;
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

/* Memory of the library's that is counted by `heap`. */
UNUSED_HERE static cadft__memory counted_memory(support_heap *heap)
{
    cadft_allocator allocator = support_allocator(heap);
    cadft__memory memory;
    cadft__memory_init(&memory, &allocator);
    return memory;
}

/* The status is the expected one and the sentence has the part in it. */
#define CHECK_SAYS(status, expected, part, err)                                \
    do {                                                                       \
        CHECK_STATUS(status, expected, err);                                   \
        ck_assert_msg(strstr((err).message, part) != NULL,                     \
                      "\"%s\" has no \"%s\"", (err).message, part);            \
    } while (0)

#endif
