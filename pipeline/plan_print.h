/* pipeline/plan_print.h - the graph, settings and numbers of a plan as text. Private to plan*.c. */
#ifndef HONE_PIPELINE_PLAN_PRINT_H
#define HONE_PIPELINE_PLAN_PRINT_H

#include "pipeline/recipe.h"

#define PLAN_NUMBER_BYTES 32
const char *plan_number(char out[PLAN_NUMBER_BYTES], double value);   /* "512", "42.3 k", "1.2 M" */
const char *plan_bytes(char out[PLAN_NUMBER_BYTES], double value);    /* "3.1 MiB" */

/* A tree by "from"; where the data comes from stands behind the name. */
void plan_print_graph(struct text *out, const struct recipe *recipe);

/* The chief settings of the stage's kind, and all that are not the default. */
void plan_print_settings(struct text *out, const struct stage *stage);

/* Every section and key. */
void plan_print_settings_json(struct text *out, const struct stage *stage);

#endif
