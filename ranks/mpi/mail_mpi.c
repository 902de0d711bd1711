/* libhone_mpi.so: messages over MPI. */
#include <mpi.h>
#include <stdio.h>
#include <string.h>

#include "ranks/mail.h"

_Static_assert(sizeof(MPI_Request) <= sizeof(uintptr_t), "a request fits");

static char why[MPI_MAX_ERROR_STRING];

static int check(int code)
{
    int n;

    if (code == MPI_SUCCESS)
        return 0;
    MPI_Error_string(code, why, &n);
    return -1;
}

static int open_mpi(struct mail_place *place, const struct mail_meeting *meeting)
{
    int provided;
    MPI_Comm here;

    (void)meeting;   /* mpirun has made one */
    if (check(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided)))
        return -1;
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, &place->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &place->count);
    if (check(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &here)))
        return -1;
    MPI_Comm_rank(here, &place->local_rank);
    MPI_Comm_size(here, &place->local_count);
    MPI_Comm_free(&here);
    return 0;
}

static void close_mpi(int64_t timeout_ms)
{
    (void)timeout_ms;
    MPI_Finalize();
}

static void abort_mpi(int code, const char *why_not)
{
    (void)why_not;
    MPI_Abort(MPI_COMM_WORLD, code);
}

static const char *reason(void)
{
    return why;
}

/* The library's first line up to a comma: "Open MPI v4.1.4". */
static const char *version(void)
{
    static char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int n;

    MPI_Get_library_version(text, &n);
    text[strcspn(text, ",\n")] = '\0';
    return text;
}

static int keep(int code, MPI_Request request, uintptr_t *out)
{
    *out = 0;
    memcpy(out, &request, sizeof(request));
    return check(code);
}

static int send_bytes(int to, int tag, const void *bytes, size_t n, uintptr_t *out)
{
    MPI_Request request = MPI_REQUEST_NULL;
    int code = MPI_Isend(bytes, (int)n, MPI_BYTE, to, tag, MPI_COMM_WORLD, &request);

    return keep(code, request, out);
}

static int receive_bytes(int from, int tag, void *bytes, size_t n, uintptr_t *out)
{
    MPI_Request request = MPI_REQUEST_NULL;
    int code = MPI_Irecv(bytes, (int)n, MPI_BYTE, from, tag, MPI_COMM_WORLD, &request);

    return keep(code, request, out);
}

static int test(uintptr_t *in, int *is_done)
{
    MPI_Request request;

    memcpy(&request, in, sizeof(request));
    int code = MPI_Test(&request, is_done, MPI_STATUS_IGNORE);
    return keep(code, request, in);
}

/* Nobody is missed: mpirun ends all when one is gone, and ours look at PIDs. */
extern const struct mail_table hone_mail;
const struct mail_table hone_mail = {
    MAIL_ABI, 1, open_mpi, close_mpi, abort_mpi, reason, version, send_bytes, receive_bytes, test,
    NULL,
};
