/* tests/unit/test_wire.h - what test_wire_hub.c and test_wire_keys.c share: a hub and a link. */
#ifndef HONE_TESTS_UNIT_TEST_WIRE_H
#define HONE_TESTS_UNIT_TEST_WIRE_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/status.h"
#include "wire/wire.h"

#define LONG_MS 10000

struct fixture {
    char directory[64], endpoint[128];
    struct wire_hub *hub;
    struct wire_link *link;
    struct text frame, got;   /* an empty frame to send; what came */
    char keys[96], worker_key[128];
    struct wire_keys hub_keys, link_keys;   /* test_wire_keys.c makes them */
};

static inline int setup_ends(void **state)
{
    struct fixture *f = mem_alloc(1, sizeof(*f));

    *state = f;
    snprintf(f->directory, sizeof(f->directory), "/tmp/hone-test-XXXXXX");
    if (!mkdtemp(f->directory))
        return -1;
    snprintf(f->endpoint, sizeof(f->endpoint), "ipc://%s/hub", f->directory);
    return wire_encode_empty(WIRE_STOP, &f->frame);
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;

    wire_link_close(&f->link);
    wire_hub_close(&f->hub);
    text_release(&f->frame);
    text_release(&f->got);
    int status = file_remove_tree(f->directory);
    mem_free(f);
    return status;
}

/* A frame each way, over the link's first connection. */
static inline void assert_talks(struct fixture *f)
{
    char peer[WIRE_NAME_BYTES];

    assert_int_equal(wire_link_send(f->link, &f->frame, LONG_MS), STATUS_OK);
    assert_int_equal(wire_hub_receive(f->hub, peer, &f->got, LONG_MS), STATUS_OK);
    assert_string_equal(peer, "rollout-1");
    assert_int_equal(f->got.length, f->frame.length);
    assert_memory_equal(f->got.data, f->frame.data, f->frame.length);
    assert_int_equal(wire_hub_send(f->hub, peer, &f->frame, LONG_MS), STATUS_OK);
    assert_int_equal(wire_link_receive(f->link, &f->got, LONG_MS), STATUS_OK);
    assert_memory_equal(f->got.data, f->frame.data, f->frame.length);
    assert_int_equal(wire_link_lost_ms(f->link), 0);
    assert_int_equal(wire_link_connections(f->link), 1);
}

#endif
