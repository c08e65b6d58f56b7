/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the rewriting handle.
 *
 *     rewrite.c        the handle, its knobs and facts
 *     tracker.c        averages of what was observed
 *     select.c         when, who is a candidate, who is drawn
 *     targets.c        answers taken or not, replacements
 *     tracker_state.c  saved and loaded
 */
#ifndef CADFT_REWRITE_REWRITE_H
#define CADFT_REWRITE_REWRITE_H

#include "backend/handle.h"
#include "cadft/rewrite.h"

/* A field for each knob, named as its key in lower case. */
typedef struct cadft__rewrite_options {
    int64_t signal;
    int64_t warmup_steps;
    double warmup_fraction;
    int64_t planned_steps;
    int64_t interval;
    double fraction;
    double probability;
    double decay;
    int64_t min_observations;
    double threshold;
    int64_t cap;
    int64_t min_length;
    int64_t max_length;
    int64_t require_end;
    int64_t require_lower;
    int64_t seed;
    double top_p;
    double temperature;
} cadft__rewrite_options;

/* Flags of a sample. */
enum {
    CADFT__OPEN = 1,
    CADFT__REWRITTEN = 2, /* a replacement holds ... */
    CADFT__KEPT = 4,      /* ... and is in the table */
    CADFT__FLAGS = 7
};

/* Values after which `observed` stays: 0.999^65535 is nothing beside 1. */
enum { CADFT__MANY = UINT16_MAX };

/* What is kept of a sample. All zero: nothing observed. */
typedef struct cadft__tracked {
    double average; /* bias-corrected */
    float c;        /* last observed; NaN: never given */
    uint16_t observed;
    uint8_t rewrites;
    uint8_t flags;
} cadft__tracked;

_Static_assert(sizeof(cadft__tracked) == 16, "what the header promises");

typedef struct cadft__replacement {
    int64_t id;
    int32_t *tokens; /* [count] */
    int64_t count;   /* at least 1 */
} cadft__replacement;

/* Replacements by rising id. */
typedef struct cadft__replacements {
    cadft__replacement *list;
    size_t count, capacity;
    int64_t bytes; /* of their tokens */
} cadft__replacements;

enum { CADFT__MOST_TOKENS = 1 << 24 };

typedef struct cadft__rewrite_counts {
    int64_t open, rewritten; /* samples with these flags now */
    int64_t observed, ignored, picked, accepted, rejected; /* ever */
    int64_t last_step; /* that had picks; -1 */
} cadft__rewrite_counts;

struct cadft_rewrite {
    cadft__handle handle;
    cadft__rewrite_options options;
    int64_t n_samples;
    size_t capacity;         /* of samples; n_samples */
    cadft__tracked *samples; /* [n_samples] */
    cadft__replacements replacements;
    cadft__rewrite_counts counts;
};

/* CADFT_E_UNSUPPORTED for knobs that do not go together. */
int32_t cadft__rewrite_check(const cadft_rewrite *rewrite, cadft_error *error);

/* Room for `found` things in the caller's [capacity], which may be NULL with
 * 0 to ask? *needed, if not NULL, gets `found`. */
int32_t cadft__rewrite_room(const void *buffer,
                            size_t capacity,
                            size_t found,
                            size_t *needed,
                            const char *name,
                            cadft_error *error);

/* CADFT_E_SAMPLE for an id outside the data set. */
int32_t
cadft__rewrite_id(const cadft_rewrite *rewrite, int64_t id, cadft_error *error);

/* Forget what was observed of a sample; its target is another now. */
void cadft__tracked_restart(cadft__tracked *sample);

/* The smallest whole number not below share * count, as if share were the
 * decimal it was written as: rounding of the product makes none more. */
int64_t cadft__share(double share, int64_t count);

/* Place in the list of `id`, or where it belongs. */
size_t cadft__replacements_find(const cadft__replacements *all, int64_t id);

/* Put a replacement behind all others; its tokens are there to be filled. */
int32_t cadft__replacements_append(cadft__memory *memory,
                                   cadft__replacements *all,
                                   int64_t id,
                                   int64_t count,
                                   int32_t **tokens,
                                   cadft_error *error);

void cadft__replacements_free(cadft__memory *memory, cadft__replacements *all);

#endif
