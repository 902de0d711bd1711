#include "common/version.h"

/* HONE_COMMIT comes from the Makefile. */
const char *const hone_version = "0.1.0 (" HONE_COMMIT ")";
