#include "tests/integration/support_net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/random.h"
#include "tests/integration/support.h"

#define DEVICE "hone0"           /* of the same name in both namespaces */
#define PACKET_BYTES 2048
#define MAX_QUEUED 512
#define MAX_QUEUE_US 2000000     /* what would wait longer is dropped, as by a router */

struct packet {
    int64_t due_us;
    ssize_t n;                   /* 0: free */
    unsigned char bytes[PACKET_BYTES];
};

struct net {
    int devices[2], spaces[2];   /* of this host, of the other one */
    struct packet queued[2][MAX_QUEUED];   /* by the device that they came from */
    int64_t free_us[2];          /* when what is throttled may send again */
    struct random_stream random;
    int has_netem, netem_is_on;
    pthread_t thread;
    pthread_mutex_t mutex;       /* of what is below */
    struct net_weather weather;
    int64_t until_ms;
    atomic_int is_ending;
};

/* ---- Namespaces. */

static int write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    int good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    if (fd >= 0)
        close(fd);
    return good;
}

const char *namespaces_enter(int flags)
{
    char users[64], groups[64];

    snprintf(users, sizeof(users), "%ld %ld 1", (long)getuid(), (long)getuid());
    snprintf(groups, sizeof(groups), "%ld %ld 1", (long)getgid(), (long)getgid());
    if (unshare(CLONE_NEWUSER | flags))
        return "no user namespace with others in it";
    if (!write_file("/proc/self/setgroups", "deny") ||
        !write_file("/proc/self/uid_map", users) || !write_file("/proc/self/gid_map", groups))
        return "no user namespace with a map of our own";
    return NULL;
}

static struct sockaddr_in address_of(const char *text)
{
    struct sockaddr_in address = {.sin_family = AF_INET};

    inet_pton(AF_INET, text, &address.sin_addr);
    return address;
}

/* Address and peer of a device of this thread's namespace, where it has any, and up. */
static int bring_up(const char *device, const char *own, const char *peer)
{
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), good = control >= 0;
    struct ifreq request = {0};

    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", device);
    if (own) {
        struct sockaddr_in address = address_of(own);
        memcpy(&request.ifr_addr, &address, sizeof(address));
        good = good && ioctl(control, SIOCSIFADDR, &request) == 0;
        address = address_of(peer);
        memcpy(&request.ifr_dstaddr, &address, sizeof(address));
        good = good && ioctl(control, SIOCSIFDSTADDR, &request) == 0;
    }
    good = good && ioctl(control, SIOCGIFFLAGS, &request) == 0;
    request.ifr_flags |= IFF_UP;
    good = good && ioctl(control, SIOCSIFFLAGS, &request) == 0;
    if (control >= 0)
        close(control);
    return good;
}

static int open_device(const char *own, const char *peer)
{
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI, .ifr_name = DEVICE};
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

    if (fd >= 0 && ioctl(fd, TUNSETIFF, &request) == 0 && bring_up(DEVICE, own, peer))
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

static int own_space(void)
{
    return open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
}

static void go(struct net *net, int side)
{
    assert_int_equal(setns(net->spaces[side], CLONE_NEWNET), 0);
}

void net_go_there(struct net *net)
{
    go(net, 1);
}

void net_come_back(struct net *net)
{
    go(net, 0);
}

/* ---- netem, where the kernel and iproute2 are there. */

static int run_tc(char *const *arguments)
{
    char *environment[] = {"PATH=/usr/sbin:/sbin:/usr/bin:/bin", NULL};
    posix_spawn_file_actions_t actions;
    int result = -1;
    pid_t pid;

    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    if (posix_spawnp(&pid, "tc", &actions, NULL, arguments, environment) == 0)
        waitpid(pid, &result, 0);
    posix_spawn_file_actions_destroy(&actions);
    return result == 0;
}

static int set_netem(struct net *net, const struct net_weather *weather)
{
    char loss[16], twice[16], delay[16], jitter[16], rate[32];
    char *set[] = {"tc", "qdisc", "replace", "dev", DEVICE, "root", "netem", "loss", loss,
                   "duplicate", twice, "delay", delay, jitter, "rate", rate, NULL};
    char *end[] = {"tc", "qdisc", "del", "dev", DEVICE, "root", NULL};
    int good = 1;

    if (weather) {
        snprintf(loss, sizeof(loss), "%d%%", weather->loss_percent);
        snprintf(twice, sizeof(twice), "%d%%", weather->twice_percent);
        snprintf(delay, sizeof(delay), "%dms", weather->delay_ms);
        snprintf(jitter, sizeof(jitter), "%dms", weather->jitter_ms);
        snprintf(rate, sizeof(rate), "%ldbps", weather->bytes_per_second);
        if (!weather->bytes_per_second)
            set[14] = NULL;
    }
    for (int side = 0; side < 2; side++) {
        go(net, side);
        good = run_tc(weather ? set : end) && good;
    }
    go(net, 0);
    net->netem_is_on = weather != NULL;
    return good;
}

int net_has_netem(const struct net *net)
{
    return net->has_netem;
}

/* ---- Packets. */

static int64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int chance(struct net *net, int percent)
{
    return percent > 0 && random_below(&net->random, 100) < (uint64_t)percent;
}

static void enqueue(struct net *net, int from, const unsigned char *bytes, ssize_t n,
                    int64_t due_us)
{
    for (int i = 0; i < MAX_QUEUED; i++) {
        struct packet *packet = &net->queued[from][i];
        if (packet->n)
            continue;
        memcpy(packet->bytes, bytes, (size_t)n);
        packet->n = n;
        packet->due_us = due_us;
        return;
    }
}

static void take_packet(struct net *net, int from, const struct net_weather *weather,
                        const unsigned char *bytes, ssize_t n)
{
    int64_t now = now_us(), due = now;

    if (weather->cut & (1 << from) || chance(net, weather->loss_percent))
        return;
    if (weather->bytes_per_second) {
        due = net->free_us[from] > now ? net->free_us[from] : now;
        if (due - now > MAX_QUEUE_US)
            return;
        net->free_us[from] = due + n * 1000000 / weather->bytes_per_second;
    }
    due += weather->delay_ms * 1000;
    if (weather->jitter_ms)
        due += (int64_t)random_below(&net->random, (uint64_t)weather->jitter_ms * 1000);
    enqueue(net, from, bytes, n, due);
    if (chance(net, weather->twice_percent))
        enqueue(net, from, bytes, n, due + 1000);
}

static void send_due(struct net *net)
{
    int64_t now = now_us();

    for (int from = 0; from < 2; from++)
        for (int i = 0; i < MAX_QUEUED; i++) {
            struct packet *packet = &net->queued[from][i];
            if (!packet->n || packet->due_us > now)
                continue;
            if (write(net->devices[!from], packet->bytes, (size_t)packet->n) < 0)
                continue;   /* full: in the next turn */
            packet->n = 0;
        }
}

static struct net_weather weather_now(struct net *net)
{
    struct net_weather weather = {0};

    pthread_mutex_lock(&net->mutex);
    if (clock_ms() < net->until_ms)
        weather = net->weather;
    pthread_mutex_unlock(&net->mutex);
    return weather;
}

static void *carry_packets(void *argument)
{
    unsigned char bytes[PACKET_BYTES];
    struct net *net = argument;

    while (!net->is_ending) {
        struct pollfd wanted[2] = {{.fd = net->devices[0], .events = POLLIN},
                                   {.fd = net->devices[1], .events = POLLIN}};
        poll(wanted, 2, 1);
        const struct net_weather weather = weather_now(net);
        for (int from = 0; from < 2; from++)
            for (ssize_t n; (n = read(net->devices[from], bytes, sizeof(bytes))) > 0;)
                take_packet(net, from, &weather, bytes, n);
        send_due(net);
    }
    return NULL;
}

/* ---- Its life. */

static const char *make_hosts(struct net *net)
{
    const char *why = namespaces_enter(CLONE_NEWNET);

    if (why)
        return why;
    if (!bring_up("lo", NULL, NULL))   /* also what goes on without a second host needs it */
        return "no loopback in a network namespace";
    net->spaces[0] = own_space();
    net->devices[0] = open_device(NET_HERE, NET_THERE);
    if (net->devices[0] < 0)
        return "no TUN device of our own";
    if (unshare(CLONE_NEWNET))
        return "no second network namespace";
    net->spaces[1] = own_space();
    net->devices[1] = open_device(NET_THERE, NET_HERE);
    go(net, 0);
    return net->devices[1] < 0 ? "no second TUN device" : NULL;
}

struct net *net_open(uint64_t seed, const char **why_not)
{
    const struct net_weather fine = {0};
    struct net *net = mem_alloc(1, sizeof(*net));

    net->devices[0] = net->devices[1] = net->spaces[0] = net->spaces[1] = -1;
    net->random.seed = seed;
    pthread_mutex_init(&net->mutex, NULL);
    *why_not = make_hosts(net);
    if (*why_not) {
        mem_free(net);
        return NULL;
    }
    net->has_netem = set_netem(net, &fine);
    if (net->has_netem)
        set_netem(net, NULL);
    assert_int_equal(pthread_create(&net->thread, NULL, carry_packets, net), 0);
    return net;
}

void net_close(struct net *net)
{
    net->is_ending = 1;
    pthread_join(net->thread, NULL);
    for (int side = 0; side < 2; side++) {
        close(net->devices[side]);
        close(net->spaces[side]);
    }
    mem_free(net);
}

void net_set_weather(struct net *net, const struct net_weather *weather, int64_t for_ms)
{
    int is_netems = net->has_netem && !weather->cut && set_netem(net, weather);

    pthread_mutex_lock(&net->mutex);
    net->weather = is_netems ? (struct net_weather){0} : *weather;
    net->until_ms = clock_ms() + for_ms;
    pthread_mutex_unlock(&net->mutex);
}

void net_look(struct net *net)
{
    pthread_mutex_lock(&net->mutex);
    int is_over = clock_ms() >= net->until_ms;
    pthread_mutex_unlock(&net->mutex);
    if (is_over && net->netem_is_on)
        set_netem(net, NULL);
}
