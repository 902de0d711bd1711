/* cmd/doctor.h - what hone doctor finds out about GPUs beside the device itself: one line each. */
#ifndef HONE_CMD_DOCTOR_H
#define HONE_CMD_DOCTOR_H

#include <stddef.h>

void doctor_find_toolkit(char *out, size_t n_out);
void doctor_find_nccl(char *out, size_t n_out);

#endif
