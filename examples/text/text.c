/* SPDX-License-Identifier: Apache-2.0 */
#include "text/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int text_fail(text_error *error, int status, const char *format, ...)
{
    char message[sizeof error->message];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    for (char *at = message; *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            *at = '?';
    memcpy(error->message, message, sizeof message);
    return status;
}
