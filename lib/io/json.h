/* SPDX-License-Identifier: Apache-2.0 */
/* JSON files, strictly: UTF-8, one object, no key twice, no NUL in a string,
 * nothing after it; jansson stops at 2048 levels.
 *
 * The values are jansson's and lie in the C library's memory, not the
 * context's: jansson takes an allocator for the whole process only, which is
 * the host's to set. So every caller gives a limit for the text, and it is
 * small: values take 10 bytes of memory for a byte of a usual file, 80 at
 * worst (many "{},"). They are freed before a public call returns. When
 * memory runs out while it reads a word, jansson speaks of the word: then
 * CADFT_E_FORMAT is returned in place of CADFT_E_NOMEM. */
#ifndef CADFT_IO_JSON_H
#define CADFT_IO_JSON_H

#include "io/file.h"

struct json_t; /* jansson's */

/* An object, and what sentences call it. */
typedef struct cadft__json {
    struct json_t *value;
    cadft__shown file;
    cadft__shown inside; /* "" or "rope_scaling.": stands before its keys */
} cadft__json;

/* Parse `length` bytes. `file` is for sentences only; with a line, as in
 * "config.json, line 3: ...". Free with cadft__json_free. CADFT_E_FORMAT,
 * CADFT_E_NOMEM. On failure out->value is NULL. */
int32_t cadft__json_parse(const cadft__shown *file,
                          const char *text,
                          size_t length,
                          cadft__json *out,
                          cadft_error *error);

/* Read and parse folder/name, of at most `limit` bytes. */
int32_t cadft__json_read(cadft__memory *memory,
                         const cadft__folder *folder,
                         const char *name,
                         size_t limit,
                         cadft__json *out,
                         cadft_error *error);

/* NULL value is let pass. Only for what parse or read gave. */
void cadft__json_free(cadft__json *json);

/* 1 if the key is there and not null. */
int cadft__json_has(const cadft__json *object, const char *key);

/* 1 if the key is there, null or not. */
int cadft__json_present(const cadft__json *object, const char *key);

/* The getters read one key of an object. `absent` is what a missing or null
 * key means; NULL: it must be there. Anything else than the type and range
 * asked for is CADFT_E_FORMAT with file, key, value and expectation. */

/* A number without fraction and exponent, in [least, most]. */
int32_t cadft__json_i64(const cadft__json *object,
                        const char *key,
                        int64_t least,
                        int64_t most,
                        const int64_t *absent,
                        int64_t *out,
                        cadft_error *error);

/* Any number, in [least, most]; integers beyond 2^53 are rounded. */
int32_t cadft__json_f64(const cadft__json *object,
                        const char *key,
                        double least,
                        double most,
                        const double *absent,
                        double *out,
                        cadft_error *error);

/* true or false as 1 or 0. */
int32_t cadft__json_bool(const cadft__json *object,
                         const char *key,
                         const int32_t *absent,
                         int32_t *out,
                         cadft_error *error);

/* *out belongs to the object (or is `absent`). */
int32_t cadft__json_text(const cadft__json *object,
                         const char *key,
                         const char *absent,
                         const char **out,
                         cadft_error *error);

/* The text at `index` of an array; NULL behind its end, or without the key. */
int32_t cadft__json_text_at(const cadft__json *object,
                            const char *key,
                            size_t index,
                            const char **out,
                            cadft_error *error);

/* An object inside, borrowed; `optional` and absent: out->value is NULL. */
int32_t cadft__json_object(const cadft__json *object,
                           const char *key,
                           int32_t optional,
                           cadft__json *out,
                           cadft_error *error);

#endif
