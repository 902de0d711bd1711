/* The whole of "no GPU in this build". */
#include "ops/backend.h"

const struct ops_table *const ops_table_cuda = NULL;
