/* pipeline/stages.h - the table of stage kinds. Private to pipeline/. */
#ifndef HONE_PIPELINE_STAGES_H
#define HONE_PIPELINE_STAGES_H

#include <stddef.h>

struct stage_run;

enum {
    STAGE_NEEDS_FROM = 1,     /* weights to start from */
    STAGE_NEEDS_DATA = 2,     /* `sample` or `data` */
    STAGE_NEEDS_TEXT = 4,     /* tasks.text */
    STAGE_IS_RL = 8
};

struct stage_kind {
    const char *name;
    const char *help;
    unsigned flags;
    int (*run)(struct stage_run *run);
    const char *const *defaults;   /* "section.key=value", NULL-ended; may be NULL */
};

extern const struct stage_kind stage_kinds[];   /* ends at name == NULL */
const struct stage_kind *stage_kind_find(const char *name);

#endif
