#include "common/trust.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/status.h"

static int is_strangers(const struct stat *info)
{
    return geteuid() != 0 && info->st_uid != geteuid() && info->st_uid != 0;
}

/* In a sticky directory only the owner of a file may exchange it. */
static int is_open_to_all(const struct stat *info)
{
    return (info->st_mode & S_IWOTH) && !(S_ISDIR(info->st_mode) && (info->st_mode & S_ISVTX));
}

static int refuse(const char *path, const char *what, const struct stat *info)
{
    if (is_open_to_all(info))
        return status_fail(STATUS_CONFIG, "%s: everybody may write %s (mode %04o): chmod o-w %s",
                           what, path, (unsigned)info->st_mode & 07777, path);
    return status_fail(STATUS_CONFIG, "%s: %s belongs to user %ld, neither to you nor to root",
                       what, path, (long)info->st_uid);
}

static int check_place(const char *path, const char *what)
{
    struct stat info;

    if (stat(path, &info))
        return status_fail(STATUS_IO, "%s: %s: %s", what, path, strerror(errno));
    return is_open_to_all(&info) || is_strangers(&info) ? refuse(path, what, &info) : STATUS_OK;
}

int trust_check_code(const char *path, const char *what)
{
    char real[PATH_MAX];
    struct stat info;

    if (!realpath(path, real))
        return status_fail(STATUS_IO, "%s: %s: %s", what, path, strerror(errno));
    if (stat(real, &info) || !S_ISREG(info.st_mode))
        return status_fail(STATUS_IO, "%s: %s is no regular file", what, real);
    for (char *slash = real + strlen(real); slash; slash = strrchr(real, '/')) {
        *slash = '\0';
        TRY(check_place(real[0] ? real : "/", what));
    }
    return STATUS_OK;
}

int trust_check_directory(const char *path, const char *what)
{
    struct stat info;

    if (stat(path, &info))
        return STATUS_OK;
    if (!S_ISDIR(info.st_mode))
        return status_fail(STATUS_IO, "%s: %s is no directory", what, path);
    if (info.st_mode & S_IWOTH)   /* the sticky bit does not keep others from making files in it */
        return status_fail(STATUS_CONFIG, "%s: everybody may write %s (mode %04o): chmod o-w %s",
                           what, path, (unsigned)info.st_mode & 07777, path);
    return is_strangers(&info) ? refuse(path, what, &info) : STATUS_OK;
}

int trust_is_foreign(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0 && info.st_uid != geteuid();
}
