/* math/extract.h - the answer in a completion. */
#ifndef HONE_MATH_EXTRACT_H
#define HONE_MATH_EXTRACT_H

#include "math/math.h"
#include "math/read.h"

/* What the marks < > leave: cut at the end of the text, behind the last thought, in the last answer
 * tag. 0 and *why when there is no answer. One pass over the text. */
struct region {
    struct span text;
    int is_tagged;
};
int extract_region(struct span text, struct region *out, const char **why);

/* The last box, or the last boxes that belong together, into `answer`: 1; 0 when there is none; -1
 * when the last one never closes. */
int extract_boxes(struct span text, struct text *answer);

/* The first letter of a choice that stands alone: what "the answer is" says before its reasons. */
int extract_first_choice(struct span text, struct span *out);

/* The last formula, number or letter of a choice in a text; 0 when none. */
int extract_last_formula(struct span text, struct span *out);

#endif
