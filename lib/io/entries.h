/* SPDX-License-Identifier: Apache-2.0 */
/* Entries of open folders, by name. errno tells why something failed. */
#ifndef CADFT_IO_ENTRIES_H
#define CADFT_IO_ENTRIES_H

/* Visits the entries of a folder, "." and ".." left out, until `visit` is not
 * 0; returns that, or -1 when the folder cannot be read. */
int cadft__each_entry(int folder,
                      int (*visit)(void *user, int folder, const char *name),
                      void *user);

/* Open a folder that is no link to one; -1. */
int cadft__open_inside(int parent, const char *name);

/* Is `name` still the folder that `fd` is open on? */
int cadft__is_same(int parent, const char *name, int fd);

/* 0, or -1: what was made, renamed or removed in it may be lost. */
int cadft__sync_folder(int fd);

/* Removes a folder of files, open as `folder`. A subfolder, which no save
 * writes, stays and keeps its folder. */
void cadft__remove_folder(int parent, const char *name, int folder);

#endif
