/*
 * reward/internal.h - what the files of reward/ share.
 */
#ifndef HONE_REWARD_INTERNAL_H
#define HONE_REWARD_INTERNAL_H

#include <sys/types.h>

#include "reward/reward.h"
#include "reward/verifier_abi.h"

/* ---- host.c: what verifiers are lent. */
struct reward_host;
/* `config` may be NULL: no sandbox, and run() says so. */
struct reward_host *host_create(const struct sandbox_config *config);
void host_destroy(struct reward_host **host);
const struct verifier_host *host_face(struct reward_host *host);
/* The judge behind a face of ours, for built-in verifiers; or why there is none. */
int host_judge(const struct verifier_host *face, struct judge **out);

/* ---- plugin.c: opens a shared object, in the child process alone. Never closed again. */
int plugin_open(const char *path, const struct verifier_v1 **out);
/* What a verifier may be called. */
int reward_name_is_good(const char *name, size_t n);

/* ---- isolate.c: a plugin or an executable in a process of its own. */
struct isolate_source {
    const char *path;      /* of a shared object; of an executable, with its arguments */
    const char *name;      /* of an executable's verifier; NULL: a shared object has its own */
    const char *options;   /* reward.options, whole */
};
#define ISOLATE_TEXT_BYTES 256
struct isolate_description {
    uint32_t flags;
    char name[WIRE_NAME_BYTES];
    char version[ISOLATE_TEXT_BYTES], help[ISOLATE_TEXT_BYTES];
};
struct isolate;
/* Forks, loads the verifier and creates it with its part of the options. The reason names the path
 * when it is refused. */
int isolate_open(struct isolate **out, const struct isolate_source *source, int timeout_ms,
                 const struct sandbox_config *sandbox, struct isolate_description *description);
void isolate_close(struct isolate **isolate);
/* Always fills the verdict: a child that crashes or hangs is VERIFIER_ERROR and is replaced. */
void isolate_score(struct isolate *isolate, const struct verifier_task *task,
                   struct verifier_verdict *verdict);

/* ---- registry.c: every verifier that can be named. */
struct registry_entry {
    struct isolate_description description;
    const struct verifier_v1 *verifier;   /* built in, with its state; or */
    void *state;
    struct isolate *isolate;              /* a plugin */
    struct digest key;                    /* of name, version, options: for the cache */
};
struct registry;
int registry_create(struct registry **out, const struct reward_config *config,
                    const struct sandbox_config *sandbox);
void registry_destroy(struct registry **registry);
struct registry_entry *registry_find(struct registry *registry, const char *name);
/* The name that is likely meant, or NULL. */
const char *registry_nearest(struct registry *registry, const char *name);
struct registry_entry *registry_at(struct registry *registry, size_t i);   /* NULL at the end */
const struct verifier_v1 *registry_built_in(size_t i);                     /* NULL at the end */

/* ---- cache.c: verdicts by digest. A fixed table: the oldest of a few neighbours makes room. */
struct verdict_cache;
struct verdict_cache *cache_create(size_t n_entries);
void cache_destroy(struct verdict_cache **cache);
int cache_find(struct verdict_cache *cache, const struct digest *key, struct score *out);
void cache_put(struct verdict_cache *cache, const struct digest *key, const struct score *score);

/* ---- judge.c: reward_judge_group() with a call between verdicts, for heartbeats. */
int judge_group(struct reward *reward, struct sample_group *group, struct arena *arena,
                void (*between)(void *context), void *context);

#endif
