/*
 * wire/wire.h - what crosses a process boundary, and how.
 *
 * The nouns of the system are here, so that rollout/, reward/ and learner/ share them and nothing
 * else. The coordinator (`hone run`) binds one endpoint, a hub; every worker connects to it, a
 * link. A frame is one ZeroMQ message: magic, WIRE_VERSION, kind, then the body (docs/wire.md has
 * the drawing). Frames are bounded and length-checked: a malformed one is STATUS_FORMAT and touches
 * nothing outside its bytes. All waits have a deadline and errors name the peer.
 */
#ifndef HONE_WIRE_WIRE_H
#define HONE_WIRE_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/files.h"
#include "common/memory.h"

#define WIRE_VERSION 6
#define WIRE_NAME_BYTES 32
#define WIRE_DETAIL_BYTES 96
#define WIRE_MAX_FRAME ((size_t)64 << 20)   /* larger things travel in parts */
#define WIRE_PIECE_BYTES ((size_t)1 << 20)    /* of a piece of the weights, at most */
#define WIRE_MAX_PIECES (1u << 20)
#define WIRE_MAX_REWARDS 16
#define WIRE_MAX_STOPS 64
#define WIRE_MAX_REGIONS 4
#define WIRE_HANDLE_BYTES 64

/* ---- Nouns. Text is UTF-8 or any bytes, with a NUL behind `bytes` bytes for convenience. */
struct wire_text {
    const char *data;
    uint32_t bytes;
};

struct task {                        /* one prompt with its way of being judged */
    uint64_t id;                     /* the same in every run over the same data */
    char kind[WIRE_NAME_BYTES];      /* "chain", "code": metrics are kept per kind */
    char verifier[WIRE_NAME_BYTES];  /* what judges accuracy: "math", "code", ... */
    char language[WIRE_NAME_BYTES];  /* wanted in the reasoning: "en", "zh" */
    struct wire_text question;       /* as in the dataset */
    struct wire_text prompt;         /* what the model reads: question in its template */
    struct wire_text prefill;        /* the end of `prompt` that belongs to the answer: "<think>" */
    struct wire_text reference;      /* what the verifier compares with */
    struct wire_text columns;        /* the record's other ones, a JSON object; "" for none */
};

enum sample_finish { SAMPLE_FINISH_EOS, SAMPLE_FINISH_LENGTH };

enum outcome {                       /* of one verifier on one sample */
    OUTCOME_RIGHT,
    OUTCOME_WRONG,
    OUTCOME_UNREADABLE,              /* no answer could be read from the completion */
    OUTCOME_TIMEOUT,                 /* the sample's program ran too long */
    OUTCOME_CRASH,                   /* the sample's program crashed or did not compile */
    OUTCOME_ERROR                    /* the verifier failed: no verdict, the sample is masked */
};
#define N_OUTCOMES 6
const char *outcome_name(enum outcome outcome);   /* "right", ..., "verifier error" */

struct score {
    float value;                     /* -1 .. 1, before its weight; below 0: a penalty */
    enum outcome outcome;
    char detail[WIRE_DETAIL_BYTES];  /* NUL-ended, for people */
};

/* One completion. Each stage fills its own part, in this order, and no other. */
struct sample {
    /* rollout/ */
    enum sample_finish finish;
    uint32_t n_tokens;
    int32_t *tokens;                 /* [n_tokens], the id that ended it included */
    float *logprobs;                 /* [n_tokens], under the policy and temperature that drew it */
    uint32_t *weight_versions;       /* [n_tokens], the policy that wrote each token */
    struct wire_text text;           /* decoded, without special tokens and the end */
    /* reward/ */
    struct score *scores;            /* [group.n_rewards] */
    float reward;                    /* weighted sum */
    uint32_t masked;                 /* 1: a verifier failed; leave the sample out of learning */
    /* learner/ */
    float advantage;
};

struct reward_term {                 /* one reward function and its weight */
    char name[WIRE_NAME_BYTES];      /* "accuracy" means the task's own verifier */
    float weight;
};

struct sample_group {                /* all completions of one task */
    struct task task;
    uint32_t n_prompt;
    int32_t *prompt_tokens;          /* [n_prompt] */
    uint32_t n_samples;
    struct sample *samples;
    uint32_t n_rewards;              /* 0 until reward/ has judged */
    struct reward_term *rewards;     /* [n_rewards] */
};

/* ---- Messages. */
struct sampling {
    uint32_t num_generations, max_completion_length, top_k;   /* top_k 0: off */
    float temperature, top_p;                                 /* temperature 0: greedy */
    uint64_t seed;
    uint32_t weight_version;         /* the policy that must write it */
};

enum wire_kind {
    WIRE_HELLO = 1,      /* worker -> hub: struct wire_hello */
    WIRE_MODEL,          /* hub -> rollout: struct wire_model; weights follow */
    WIRE_WEIGHTS,        /* hub -> rollout: struct wire_weights_part, announced by WIRE_IMAGE */
    WIRE_WEIGHTS_STATE,  /* rollout -> hub: struct wire_weights_state */
    WIRE_SAMPLE,         /* hub -> rollout: struct wire_sample_lease */
    WIRE_JUDGE,          /* hub -> reward: struct wire_judge_lease */
    WIRE_GROUP,          /* worker -> hub: struct wire_group: what a lease asked for */
    WIRE_FAILED,         /* worker -> hub: struct wire_failed: a lease that could not be done */
    WIRE_HEARTBEAT,      /* both ways: struct wire_heartbeat */
    WIRE_STOP,           /* hub -> worker, empty body: finish and exit 0 */
    WIRE_IMAGE,          /* hub -> rollout: struct wire_image; weights follow or lie in a file */
    WIRE_SHARED_WEIGHTS  /* hub -> rollout: struct wire_shared_weights, instead of an IMAGE */
};

struct wire_hello {
    char role[WIRE_NAME_BYTES];      /* "rollout", "reward" */
    char name[WIRE_NAME_BYTES];      /* "rollout-1" */
    uint64_t pid;
    char place[WIRE_DETAIL_BYTES];   /* whose device memory it can open, see ops_place(); "" */
    struct wire_text version;        /* of the program */
    struct wire_text host;           /* whose files it can open: wire_host_id(); "" for none */
    struct digest held;              /* of the image that it keeps; zeros: none */
};

struct wire_model {                  /* what a rollout worker must become */
    struct wire_text config_json;
    struct wire_text tokenizer_json;
    uint32_t n_stops;
    int32_t *stop_ids;               /* [n_stops]: a completion ends with any of them */
};

/* Of a piece that the reader has beside the writer, in the same file: see wire_pieces_check(). */
struct wire_sum {
    uint64_t low, high;
};

/* Weights to come: a file's bytes, cut into pieces. */
struct wire_image {
    uint32_t version;
    struct digest digest;            /* of all pieces: wire_pieces_digest() */
    struct digest base;              /* the image that has the pieces which do not follow; zeros:
                                      * all of them follow */
    uint32_t n_follow;               /* WEIGHTS behind this message */
    uint32_t n_pieces;
    uint32_t *piece_bytes;           /* [n_pieces], 1 to WIRE_PIECE_BYTES each */
    struct wire_text path;           /* not "": nothing follows, it is this file of this host */
    uint64_t device, inode;          /* which file that is */
    struct digest *digests;          /* [n_pieces] and */
    struct wire_sum *sums;           /* [n_pieces] with a path, else NULL */
};

struct wire_weights_part {           /* one piece; they come in their order */
    uint32_t version, piece;
    struct wire_text data;           /* decoded: borrowed from the frame, no NUL behind it */
};

struct wire_shared_weights {         /* weights that lie in device memory of the hub's process */
    uint32_t version;
    uint32_t is_bf16;
    struct digest digest;            /* see model_digest_regions() */
    uint32_t n_regions;
    struct wire_region {
        uint64_t bytes;
        unsigned char handle[WIRE_HANDLE_BYTES];
    } regions[WIRE_MAX_REGIONS];
};

struct wire_weights_state {          /* taken over, or why not */
    uint32_t version;
    uint32_t accepted;
    uint32_t wants_bytes;            /* 1, not accepted: the file cannot be opened here */
    struct digest digest;            /* of the image it speaks of */
    struct wire_text reason;
};

struct wire_sample_lease {
    uint64_t lease;
    struct sampling sampling;
    struct task task;
};

struct wire_judge_lease {            /* group.rewards says what is wanted; scores come back */
    uint64_t lease;
    struct sample_group group;
};

struct wire_group {
    uint64_t lease;
    struct sample_group group;
};

struct wire_failed {
    uint64_t lease;
    struct wire_text reason;
};

struct wire_heartbeat {              /* that it lives, and what it is at */
    char doing[WIRE_DETAIL_BYTES];   /* "decodes 12 samples", "waits for a lease" */
    uint64_t since_ms;               /* for so long */
    uint32_t weight_version;         /* that it has; 0: none */
    uint32_t n_leases;               /* in hand */
    uint64_t weights_bytes;          /* of WEIGHTS taken since the last IMAGE */
};
/* A hub sends so much of an image, or less, beyond the weights_bytes that it knows of, and waits; a
 * worker says them every WIRE_WEIGHTS_REPORT. What waits in queues is memory. */
#define WIRE_WEIGHTS_WINDOW ((uint64_t)32 << 20)
#define WIRE_WEIGHTS_REPORT ((uint64_t)2 << 20)

/* Encoders append one whole frame to `out`; STATUS_FORMAT when over WIRE_MAX_FRAME. Decoders check
 * the header's kind too; what they give lives in the arena. */
int wire_kind_of(const void *frame, size_t n, enum wire_kind *kind);
int wire_encode_empty(enum wire_kind kind, struct text *out);
#define WIRE_CODEC(name)                                                                           \
    int wire_encode_##name(const struct wire_##name *message, struct text *out);                   \
    int wire_decode_##name(const void *frame, size_t n, struct arena *arena,                       \
                           struct wire_##name *message);
WIRE_CODEC(hello)
WIRE_CODEC(model)
WIRE_CODEC(image)
WIRE_CODEC(weights_part)
WIRE_CODEC(shared_weights)
WIRE_CODEC(weights_state)
WIRE_CODEC(sample_lease)
WIRE_CODEC(judge_lease)
WIRE_CODEC(group)
WIRE_CODEC(failed)
WIRE_CODEC(heartbeat)

/* ---- The pieces of an image, at both ends. Each is hashed once: where the image is made, and
 * where the piece arrives. */
struct wire_pieces {
    uint32_t n;
    uint32_t *bytes;                 /* [n] */
    struct digest *digests;          /* [n] */
    struct wire_sum *sums;           /* [n], of a file */
    uint64_t total;
};
/* Room for n pieces of the lengths `bytes`, copied; STATUS_FORMAT when one is out of bounds. */
int wire_pieces_begin(struct wire_pieces *pieces, const uint32_t *bytes, uint32_t n);
void wire_pieces_release(struct wire_pieces *pieces);
void wire_pieces_copy(struct wire_pieces *to, const struct wire_pieces *from);
/* Whether both are cut at the same places. */
int wire_pieces_are_alike(const struct wire_pieces *one, const struct wire_pieces *other);
/* SHA-256 over { u32 bytes, SHA-256 } of each piece. */
void wire_pieces_digest(const struct wire_pieces *pieces, struct digest *digest);
/* The piece's bytes, hashed into its digest. */
void wire_pieces_hash(struct wire_pieces *pieces, uint32_t piece, const void *bytes);
/* All of a map that has them, sums too, by several threads; what was read is forgotten. A piece
 * with the sum that it has in `before`, which is cut alike or NULL, has that one's digest. */
void wire_pieces_hash_map(struct wire_pieces *pieces, const struct file_map *map,
                          const struct wire_pieces *before);
/* Whether the bytes are those of the piece's sum, at the speed of memory. With w[i] the 64-bit
 * words, zeros behind the end, and k[i] = (i + 1) G, G = 0x9e3779b97f4a7c15, it is the sum of
 * (w[2i] + k[2i]) (w[2i+1] + k[2i+1]) modulo 2^128: NH of UMAC (Black et al. 1999) with keys that
 * are known. It finds damage, not forgery. */
int wire_pieces_check(const struct wire_pieces *pieces, uint32_t piece, const void *bytes);
/* What workers that see the same files have in common; "" when it is not known. */
const char *wire_host_id(char out[WIRE_NAME_BYTES * 2]);

/* The lease that a GROUP answers, without decoding it. */
int wire_group_lease(const void *frame, size_t n, uint64_t *lease);

/* A copy whose every pointer lives in the arena. */
int task_copy(struct task *to, const struct task *from, struct arena *arena);
int sample_group_copy(struct sample_group *to, const struct sample_group *from,
                      struct arena *arena);

/* ---- Keys. tcp:// speaks CURVE; ipc:// is guarded by its file's mode. A directory of keys, mode
 * 0700, holds hub.key, the workers' keys and the list of those who are let in, mode 0600 each. */
#define WIRE_KEY_BYTES 41                /* Z85 text and its NUL */
#define WIRE_HUB_KEY "hub.key"
#define WIRE_WORKER_KEY "worker.key"
#define WIRE_ALLOWED_KEYS "allowed"
struct wire_keys {
    int insecure;                        /* plain tcp://, by the user's explicit wish; no keys */
    char hub[WIRE_KEY_BYTES];            /* the coordinator's public key */
    char public_key[WIRE_KEY_BYTES], secret[WIRE_KEY_BYTES];   /* this side's own pair */
    char allowed[FILE_PATH_MAX];         /* of the hub: the file of those who are let in */
};
/* Makes what is missing: the hub's pair, one worker's, the list. Never replaces anything. */
int wire_keys_make(const char *directory);
/* One more worker's pair, at the path that is filled in; one of that name is kept. */
int wire_keys_add(const char *directory, const char *name, char path[FILE_PATH_MAX]);
int wire_keys_remove(const char *directory, const char *name);
int wire_keys_read_hub(struct wire_keys *keys, const char *directory);
int wire_keys_read(struct wire_keys *keys, const char *path);
int wire_keys_parse(struct wire_keys *keys, const char *text, const char *name);
void wire_keys_forget(struct wire_keys *keys);   /* overwrites them */

/* ---- The hub: the coordinator's end. `endpoint` is "ipc:///path/socket" or "tcp://host:port";
 * "tcp://127.0.0.1:*" takes a free port, and wire_hub_endpoint() says which. A port in use is one
 * clear STATUS_IO. Peers are known by the name in their HELLO; a name that comes back replaces the
 * one before. A hub or a link belongs to the thread that opened it; a wait that a signal ends is
 * STATUS_INTERRUPTED. `keys` may be NULL for ipc://. */
struct wire_hub;
int wire_hub_open(struct wire_hub **out, const char *endpoint, const struct wire_keys *keys);
void wire_hub_close(struct wire_hub **hub);
const char *wire_hub_endpoint(const struct wire_hub *hub);
/* The next frame and who sent it, appended to `frame` after clearing it; STATUS_TIMEOUT when none
 * came within timeout_ms (0: do not wait). */
int wire_hub_receive(struct wire_hub *hub, char peer[WIRE_NAME_BYTES], struct text *frame,
                     int timeout_ms);
/* Those who were turned away since the hub was opened, by why. Any thread. */
struct wire_refusals {
    uint64_t n_unknown;      /* the key is not on the list */
    uint64_t n_broken;       /* no CURVE, another hub's key, too late, or gone in between */
    uint64_t n_crowded;      /* connections that made room for newer ones, or sent too much */
};
void wire_hub_refusals(struct wire_hub *hub, struct wire_refusals *refusals);
/* STATUS_CLOSED when the peer is gone, STATUS_TIMEOUT when its queue stays full. */
int wire_hub_send(struct wire_hub *hub, const char *peer, const struct text *frame,
                  int timeout_ms);

/* ---- A link: a worker's end. `name` is its routing id. */
struct wire_link;
int wire_link_open(struct wire_link **out, const char *endpoint, const char *name,
                   const struct wire_keys *keys);
void wire_link_close(struct wire_link **link);
int wire_link_receive(struct wire_link *link, struct text *frame, int timeout_ms);
int wire_link_send(struct wire_link *link, const struct text *frame, int timeout_ms);
/* STATUS_CLOSED, with what is known of the cause, when the hub has been gone for over lost_ms;
 * STATUS_CONFIG as soon as it has refused this worker's key. */
int wire_link_check(struct wire_link *link, int64_t lost_ms);
/* Milliseconds since the connection to the hub was lost; 0 while it stands. */
int64_t wire_link_lost_ms(struct wire_link *link);
/* How often the connection came up: after each, the hub wants a HELLO. */
uint64_t wire_link_connections(struct wire_link *link);

/* ---- A mesh: processes 0 to count - 1, each connected with every other one, until they part.
 * Number 0 listens at `endpoint`; the others find it there with the keys of workers, and have from
 * it a pair of keys of this mesh alone, for what they connect among each other. A connection that
 * breaks is a process that is gone. open() and close() wait, the others do not; one thread. */
struct wire_mesh;
struct wire_mesh_config {
    const char *endpoint;            /* of number 0, as the others reach it; one with a name for a
                                      * host listens on all addresses. ipc: theirs lie beside it */
    const struct wire_keys *keys;    /* number 0: of a hub; others: a worker's */
    const char *version;             /* of the program: one for all */
    int index, count;
    int64_t timeout_ms;              /* until all are connected */
    const _Atomic int *stop;         /* ends the wait for them; may be NULL */
};
int wire_mesh_open(struct wire_mesh **out, const struct wire_mesh_config *config);
/* When all say so; false alarms are over then: nobody is missed any more. */
void wire_mesh_close(struct wire_mesh **mesh, int64_t timeout_ms);
/* Tells all that it ends here, and why. */
void wire_mesh_end(struct wire_mesh **mesh, const char *reason);
/* Of all, those on the host of this one: its number among them, and how many. */
void wire_mesh_neighbours(const struct wire_mesh *mesh, int *index, int *count);
int wire_mesh_is_secured(const struct wire_mesh *mesh);
/* One message, copied; queues have no bound: the callers agree on one. What is sent to a process
 * that is gone is lost. */
void wire_mesh_send(struct wire_mesh *mesh, int to, const void *head, size_t n_head,
                    const void *bytes, size_t n);
/* 1: the next message, as it lies until the next call; 0: none is there. */
int wire_mesh_receive(struct wire_mesh *mesh, int *from, const void **bytes, size_t *n);
struct wire_loss {
    int index;                       /* who is gone, or has ended all */
    char reason[1024];               /* of the second, as it said; else "" */
};
int wire_mesh_find_loss(struct wire_mesh *mesh, struct wire_loss *loss);   /* 1: there is one */

#endif
