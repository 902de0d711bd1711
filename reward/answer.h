/*
 * reward/answer.h - which part of a completion is the answer. Strict: no guessing.
 *
 *  1. Text ends at the first end-of-text mark.
 *  2. What stands behind the last </think> counts; a <think> that stays open means no answer.
 *  3. The last complete <answer>..</answer>, when there is one, is the region.
 *  4. In it: the last \boxed{} that is not empty; boxes with only commas or "and" between them
 *     are a list.
 *  5. Else the line behind the last "####".
 *  6. Else what follows the last "answer is", "final answer:", "答案是".
 *  7. Else, in an answer tag, its content. Else there is no answer.
 *
 * The scan goes backwards without expressions that can backtrack: 1 MB of hostile text costs about
 * a millisecond.
 */
#ifndef HONE_REWARD_ANSWER_H
#define HONE_REWARD_ANSWER_H

#include <stddef.h>

#include "common/memory.h"
#include "reward/verifier_abi.h"

#define ANSWER_MAX_BYTES 4096

enum answer_source {
    ANSWER_NONE,
    ANSWER_BOX,
    ANSWER_HASHES,
    ANSWER_WORDS,   /* "the answer is" */
    ANSWER_TAG
};

struct answer {
    enum answer_source source;
    const char *why_none;   /* when NONE: "no answer tag", for people */
    struct text text;       /* at most ANSWER_MAX_BYTES, owned */
};

void answer_release(struct answer *answer);
/* Reads prefill and completion as one text. */
void answer_find(struct answer *answer, const struct verifier_task *task);

/* Region of rule 1 to 3 in text[0..n): start and length. has_tag says whether a tag gave it.
 * 0, or -1 when a <think> stays open. */
struct answer_region {
    const char *data;
    size_t n;
    int has_tag;
};
int answer_find_region(const char *text, size_t n, struct answer_region *region);

/* Last needle in text[0..n), or NULL. */
const char *answer_find_last(const char *text, size_t n, const char *needle);

#endif
