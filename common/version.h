/* common/version.h - which program this is: stored with every run, said in every HELLO. */
#ifndef HONE_COMMON_VERSION_H
#define HONE_COMMON_VERSION_H

/* "0.1.0 (git 1a2b3c4)"; the Makefile passes the commit when it builds from a repository. */
extern const char *const hone_version;

#endif
