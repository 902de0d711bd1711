/*
 * tests/integration/support_net.h - a second host: a network namespace that is joined to this
 * process's by one link of IP packets, whose weather the test makes. Both ends are TUN devices, a
 * thread of the test carries the packets. Where the kernel has netem, that loses and delays them.
 */
#ifndef HONE_TESTS_INTEGRATION_SUPPORT_NET_H
#define HONE_TESTS_INTEGRATION_SUPPORT_NET_H

#include <stdint.h>

/* New namespaces (CLONE_NEWNS, ...) for this process, with its own ids in a user namespace; before
 * it has threads. NULL, or what the machine lacks. */
const char *namespaces_enter(int flags);

struct net;
#define NET_HERE "10.213.7.1"
#define NET_THERE "10.213.7.2"

/* NULL, and why in *why_not, where the machine gives no such thing. Before there are threads. */
struct net *net_open(uint64_t seed, const char **why_not);
void net_close(struct net *net);
int net_has_netem(const struct net *net);

struct net_weather {
    int loss_percent, twice_percent;
    int delay_ms, jitter_ms;       /* packets overtake each other within the jitter */
    long bytes_per_second;         /* 0: as fast as it goes */
    int cut;                       /* 1: from here, 2: to here, 3: both; nobody is told */
};
/* For so long, then it is fine again. */
void net_set_weather(struct net *net, const struct net_weather *weather, int64_t for_ms);
/* Now and then, from the thread that opened it: ends the weather of netem. */
void net_look(struct net *net);

/* What this thread starts from now on runs on the other host, or here. */
void net_go_there(struct net *net);
void net_come_back(struct net *net);

#endif
