/* SPDX-License-Identifier: Apache-2.0 */
#include "io/show.h"

#include <stdio.h>
#include <string.h>

/* Bytes of the UTF-8 character at `at`, 0 when it is none. The ranges are
 * those of Unicode's table 3-7. */
static size_t utf8_length(const unsigned char *at)
{
    static const struct {
        unsigned char first, last, low, high;
        unsigned char length;
    } forms[] = {{0x20, 0x7e, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2},
                 {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
                 {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
                 {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4},
                 {0xf4, 0xf4, 0x80, 0x8f, 4}};
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        if (at[0] < forms[i].first || at[0] > forms[i].last)
            continue;
        if (forms[i].length == 1)
            return 1;
        if (at[1] < forms[i].low || at[1] > forms[i].high)
            return 0;
        for (size_t j = 2; j < forms[i].length; j++)
            if ((at[j] & 0xc0) != 0x80)
                return 0;
        return forms[i].length;
    }
    return 0;
}

cadft__shown cadft__show(const char *text)
{
    enum { ROOM = 60 }; /* shorter than a path: a sentence has two */
    static const char more[] = "...";
    const unsigned char *at = (const unsigned char *)text;
    cadft__shown shown;
    size_t used = 0;
    memset(&shown, 0, sizeof shown);
    while (*at) {
        size_t length = utf8_length(at);
        if (used + (length ? length : 1) > ROOM) {
            memcpy(shown.text + used, more, sizeof more);
            return shown;
        }
        if (length)
            memcpy(shown.text + used, at, length);
        else
            shown.text[used] = '?';
        used += length ? length : 1;
        at += length ? length : 1;
    }
    return shown;
}

/* The last bytes of a text of `length` bytes, from the start of a character
 * on, cleaned. */
cadft__shown cadft__show_path(const char *folder, const char *name)
{
    enum { ROOM = 56 };
    char joined[2 * ROOM + 8];
    size_t folder_length = strlen(folder), name_length = strlen(name), length;
    size_t cut = 0;
    cadft__shown shown;
    if (folder_length > ROOM) {
        folder += folder_length - ROOM;
        cut = 1;
    }
    if (name_length > ROOM) {
        name += name_length - ROOM;
        folder = "";
        cut = 1;
    }
    snprintf(joined, sizeof joined, "%s%s%s", folder,
             *folder && folder[strlen(folder) - 1] != '/' ? "/" : "", name);
    length = strlen(joined);
    if (length > ROOM)
        cut = 1, name = joined + length - ROOM;
    else
        name = joined;
    while (cut && ((unsigned char)*name & 0xc0) == 0x80)
        name++; /* not in the middle of a character */
    shown = cadft__show(name);
    if (cut) {
        memmove(shown.text + 3, shown.text, sizeof shown.text - 4);
        memcpy(shown.text, "...", 3);
    }
    return shown;
}
