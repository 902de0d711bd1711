/*
 * reward/verifiers/format.h - the format rules of other projects, one row each.
 */
#ifndef HONE_REWARD_VERIFIERS_FORMAT_H
#define HONE_REWARD_VERIFIERS_FORMAT_H

#include "reward/verifier_abi.h"

#define FORMAT_MAX_VARIANTS 24

struct format_row {
    const char *name;
    /* The score, and in *why what is amiss. `text` is prefill and completion as one; `fence` is the
     * language of the block that "r1_code" asks for, "" for any. */
    double (*score)(struct verifier_text text, const char *fence, const char **why);
};
extern const struct format_row format_ported[];   /* ends at name == NULL */

#endif
