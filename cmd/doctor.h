/* cmd/doctor.h - what hone doctor finds out about GPUs and ranks beside the device: a line each. */
#ifndef HONE_CMD_DOCTOR_H
#define HONE_CMD_DOCTOR_H

#include <stddef.h>

void doctor_find_toolkit(char *out, size_t n_out);
void doctor_find_nccl(char *out, size_t n_out);
void doctor_find_mpi(char *out, size_t n_out);
void doctor_find_ranks(char *out, size_t n_out);

#endif
