/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments of the checking programs. */
#ifndef TESTS_ARGUMENTS_H
#define TESTS_ARGUMENTS_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One of them is set: a flag becomes 1, the others take the next word. */
typedef struct argument {
    const char *name;
    int *flag, *number;
    uint64_t *seed;
    const char **text;
} argument;

/* Read all of argv; words that are numbers go to sizes[], at most `most`.
 * Ends the program at anything else. */
static inline void arguments_read(int argc,
                                  char **argv,
                                  const argument *list,
                                  size_t count,
                                  int64_t *sizes,
                                  int most)
{
    for (int i = 1; i < argc; i++) {
        const char *next = i + 1 < argc ? argv[i + 1] : NULL;
        const argument *a = list;
        while (a < list + count && strcmp(a->name, argv[i]) != 0)
            a++;
        if (a < list + count && a->flag) {
            *a->flag = 1;
        } else if (a < list + count && next) {
            i++;
            if (a->number)
                *a->number = atoi(next);
            else if (a->seed)
                *a->seed = strtoull(next, NULL, 10);
            else
                *a->text = next;
        } else if (most > 0 && argv[i][0] >= '0' && argv[i][0] <= '9') {
            *sizes++ = atoll(argv[i]);
            most--;
        } else {
            fprintf(stderr, "argument %s is unknown or lacks its value\n",
                    argv[i]);
            exit(2);
        }
    }
}

#endif
