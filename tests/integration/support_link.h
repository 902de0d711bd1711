/*
 * tests/integration/support_link.h - a TCP link that can be cut: listens on one port of loopback,
 * passes bytes on to another, and breaks, stalls or spoils them at will. In a thread of the test.
 */
#ifndef HONE_TESTS_INTEGRATION_SUPPORT_LINK_H
#define HONE_TESTS_INTEGRATION_SUPPORT_LINK_H

#include <stdint.h>

struct flaky_link;
/* A port of loopback that nobody has now. */
int link_free_port(void);
struct flaky_link *link_open(int from_port, int to_port);
void link_close(struct flaky_link *link);
void link_cut(struct flaky_link *link);                     /* resets what goes through it */
void link_flip(struct flaky_link *link);                    /* one bit of what comes next */
void link_stall(struct flaky_link *link, int64_t for_ms);   /* nothing passes, nothing is closed */

#endif
