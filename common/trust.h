/*
 * common/trust.h - whether somebody else may have written a file that we are about to believe.
 *
 * Code that we load, and directories that we write to, must belong to us or to root and not be open
 * to everybody's writing. Root itself takes files of any owner: it works for others in containers.
 */
#ifndef HONE_COMMON_TRUST_H
#define HONE_COMMON_TRUST_H

/* A regular file, and the directories above it, that others cannot exchange. `what` names its use
 * for the error text: STATUS_CONFIG. */
int trust_check_code(const char *path, const char *what);
/* A directory of ours: not a stranger's, not open to everybody. A missing one is fine. */
int trust_check_directory(const char *path, const char *what);
/* 1 when the file belongs to another user than us; 0 when not, or when it is missing. */
int trust_is_foreign(const char *path);

#endif
