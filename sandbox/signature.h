/*
 * sandbox/signature.h - a prototype in C taken apart: what calls it must be written for its types.
 */
#ifndef HONE_SANDBOX_SIGNATURE_H
#define HONE_SANDBOX_SIGNATURE_H

#include <stddef.h>

#define SIGNATURE_MAX_PARAMETERS 8
#define SIGNATURE_NAME_BYTES 64

enum value_kind { VALUE_INTEGER, VALUE_UNSIGNED, VALUE_REAL, VALUE_CHARACTER, VALUE_BOOL,
                  VALUE_TEXT };

struct value_type {
    enum value_kind kind;
    int is_array;                       /* parameters only: of `name` items */
    char name[SIGNATURE_NAME_BYTES];    /* "unsigned long", of the item for arrays */
};

struct signature {
    const char *prototype;              /* borrowed */
    char name[SIGNATURE_NAME_BYTES];
    struct value_type result;
    struct value_type parameters[SIGNATURE_MAX_PARAMETERS];
    size_t n_parameters;
};

/* "int f(const int *a, int n)"; STATUS_FORMAT when it cannot be called with plain values. */
int signature_read(struct signature *signature, const char *prototype);

/* The name of the function in a prototype of any language, into out[SIGNATURE_NAME_BYTES]: the word
 * in front of the first "(". 0 when there is none; *at is where it stands. */
int signature_name(const char *prototype, char *out, size_t *at);

#endif
