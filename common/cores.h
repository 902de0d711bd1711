/* common/cores.h - how many threads are worth starting. */
#ifndef HONE_COMMON_CORES_H
#define HONE_COMMON_CORES_H

/* Cores that this process may use, 1 or more: those of its affinity, and no more than the control
 * groups above it grant (cgroup v2's cpu.max, which containers and batch systems set). */
int cores_usable(void);

/* `most`, or less where a group from `group` ("/a/b") up to the root grants less: its quota by its
 * period in `hierarchy`/group/cpu.max, rounded up. A file that is missing grants all. */
int cores_granted(const char *hierarchy, const char *group, int most);

#endif
