#include "common/cores.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "common/files.h"

static int granted_by(const char *hierarchy, const char *group, int most)
{
    char path[FILE_PATH_MAX];
    long long quota, period;
    FILE *file;

    if (snprintf(path, sizeof(path), "%s%s/cpu.max", hierarchy, group) >= (int)sizeof(path) ||
        !(file = fopen(path, "re")))
        return most;
    int n = fscanf(file, "%lld %lld", &quota, &period);   /* "max" is no number: all */
    fclose(file);
    if (n != 2 || quota < 1 || period < 1)
        return most;
    long long cores = (quota - 1) / period + 1;
    return cores < most ? (int)cores : most;
}

int cores_granted(const char *hierarchy, const char *group, int most)
{
    char above[FILE_PATH_MAX], *slash;

    snprintf(above, sizeof(above), "%s", group);
    while ((slash = strrchr(above, '/'))) {
        if (slash[1])
            most = granted_by(hierarchy, above, most);
        *slash = 0;
    }
    return granted_by(hierarchy, "", most);
}

/* The group that this process is in, "/" where that cannot be told. */
static void find_group(char group[FILE_PATH_MAX])
{
    char line[FILE_PATH_MAX];
    FILE *file = fopen("/proc/self/cgroup", "re");

    snprintf(group, FILE_PATH_MAX, "/");
    while (file && fgets(line, sizeof(line), file))
        if (!strncmp(line, "0::/", 4)) {
            line[strcspn(line, "\n")] = 0;
            snprintf(group, FILE_PATH_MAX, "%s", line + 3);
        }
    if (file)
        fclose(file);
}

int cores_usable(void)
{
    char group[FILE_PATH_MAX];
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;

    find_group(group);
    return cores_granted("/sys/fs/cgroup", group, n < 1 ? 1 : n);
}
