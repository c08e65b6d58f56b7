/* SPDX-License-Identifier: Apache-2.0 */
/* A line of JSON from anywhere, through the reader of examples/host_trainer.
 * The first byte sets how much room there is for the sentence. */
#include <string.h>

#include "../../examples/host_trainer/jsonl.h"
#include "fuzz.h"

static void check_item(const jsonl_item *item, size_t length)
{
    /* An escape of six bytes is the least that becomes one; nothing grows. */
    REQUIRE(item->text && item->n_completion >= 1);
    REQUIRE(item->n_prompt + item->n_completion <= length);
    for (size_t i = 0, sum = 0; i < item->n_prompt + item->n_completion; i++) {
        sum += (unsigned char)item->text[i]; /* every byte may be read */
        REQUIRE(sum <= 255 * (i + 1));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t capacity = size ? data[0] : 0;
    char *why = (char *)malloc(capacity + !capacity);
    jsonl_item item;
    int status;
    data += size > 0;
    size -= size > 0;
    status =
        jsonl_parse_line((const char *)data, size, 7, &item, why, capacity);
    if (capacity) {
        REQUIRE(memchr(why, 0, capacity));
        REQUIRE((status == JSONL_OK) == (why[0] == '\0') || capacity == 1);
    }
    if (status == JSONL_OK)
        check_item(&item, size);
    else
        REQUIRE(!item.text && !item.n_prompt && !item.n_completion);
    jsonl_free(&item);
    jsonl_free(&item); /* once more is harmless */
    free(why);
    return 0;
}
