/*
 * reward/verifiers/code.h - what code.c, code_reference.c and code_harness.c share.
 */
#ifndef HONE_REWARD_VERIFIERS_CODE_H
#define HONE_REWARD_VERIFIERS_CODE_H

#include <jansson.h>
#include <stddef.h>

#include "common/memory.h"
#include "reward/verifier_abi.h"

#define CODE_MAX_PARAMETERS 8
#define CODE_TYPE_BYTES 64
#define CODE_NONCE_BYTES 33   /* hex, with the NUL */

enum code_kind { CODE_INTEGER, CODE_UNSIGNED, CODE_REAL, CODE_CHARACTER, CODE_BOOL, CODE_TEXT };

struct code_type {
    enum code_kind kind;
    int is_array;                    /* parameters only: of `name` items */
    char name[CODE_TYPE_BYTES];      /* "unsigned long", of the item for arrays */
};

struct code_function {
    const char *prototype;           /* borrowed from the reference */
    char name[CODE_TYPE_BYTES];
    struct code_type result;
    struct code_type parameters[CODE_MAX_PARAMETERS];
    size_t n_parameters;
};

struct code_test {
    const char *input, *want;        /* NUL-ended, borrowed from the JSON */
};

struct code_reference {
    json_t *json;
    int has_function;
    struct code_function function;
    struct code_test *tests;
    size_t n_tests;
};

/* STATUS_FORMAT with a reason for people; release in any case. */
int code_reference_read(struct code_reference *reference, struct verifier_text text);
void code_reference_release(struct code_reference *reference);

/* "int f(const int *a, int n)" taken apart. */
int code_function_read(struct code_function *function, const char *prototype);

/*
 * The program: the candidate's function and a main around it. main reads a nonce, then one line of
 * arguments per test, and prints "nonce result" for each: what the candidate prints by itself is
 * told apart, and expected values never enter its process.
 */
void code_harness_write(const struct code_function *function, struct verifier_text candidate,
                        struct text *out);

#endif
