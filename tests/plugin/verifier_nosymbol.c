/* A shared object that is no verifier: must be refused. */
#include "reward/verifier_abi.h"

VERIFIER_EXPORT extern const uint32_t something_else;
const uint32_t something_else = 1;
