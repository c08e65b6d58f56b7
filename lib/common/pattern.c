/* SPDX-License-Identifier: Apache-2.0 */
#include "common/pattern.h"

#include <stddef.h>

/* A mismatch after a `*` gives that star one character more; only the last
 * star needs that, so the time is at most the product of the lengths. */
int cadft__pattern_matches(const char *pattern, const char *name)
{
    const char *star = NULL, *from = NULL;
    while (*name) {
        if (*pattern == '*') {
            star = ++pattern;
            from = name;
        } else if (*pattern == '?' || *pattern == *name) {
            pattern++;
            name++;
        } else if (star) {
            pattern = star;
            name = ++from;
        } else {
            return 0;
        }
    }
    while (*pattern == '*')
        pattern++;
    return !*pattern;
}
