/* SPDX-License-Identifier: Apache-2.0 */
/* Shell patterns over names. */
#ifndef CADFT_COMMON_PATTERN_H
#define CADFT_COMMON_PATTERN_H

/* 1 if the whole name matches: `*` stands for any characters, '.' and '/'
 * among them, `?` for one. */
int cadft__pattern_matches(const char *pattern, const char *name);

#endif
