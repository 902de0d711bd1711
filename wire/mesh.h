/* wire/mesh.h - what mesh.c and mesh_meet.c share. Private to them. */
#ifndef HONE_WIRE_MESH_H
#define HONE_WIRE_MESH_H

#include <zmq.h>

#include "wire/internal.h"

#define MESH_ENDPOINT_BYTES 256
#define MESH_HOST_BYTES 160

/* A frame is one byte of these, then what that takes. */
enum mesh_kind {
    MESH_HELLO = 1,   /* to number 0, after every connection: struct mesh_hello */
    MESH_KEYS,        /* from number 0: struct mesh_pair */
    MESH_PLACE,       /* to number 0: where its listener is, char[MESH_ENDPOINT_BYTES] */
    MESH_ROSTER,      /* from number 0: struct mesh_place[count] */
    MESH_HERE,        /* to a lower number, after every connection */
    MESH_READY,       /* to number 0: all others are connected */
    MESH_GO,          /* from number 0: all of all are */
    MESH_DATA,
    MESH_ALIVE,       /* nothing; to see whether it can be sent */
    MESH_PART,        /* nothing more comes */
    MESH_END          /* why all end: text */
};

struct mesh_hello {
    char magic[8];
    int32_t index, count;
    uint64_t process;                /* another one for every process */
    char version[64], host[MESH_HOST_BYTES];
};

struct mesh_pair {
    char public_key[WIRE_KEY_BYTES], secret[WIRE_KEY_BYTES];
};

struct mesh_place {
    char endpoint[MESH_ENDPOINT_BYTES], host[MESH_HOST_BYTES];
};

struct mesh_peer {
    void *socket, *monitor;          /* to a lower number; a higher one comes to the listener */
    struct mesh_place place;
    uint64_t process;
    uint64_t n_connections, n_greeted;
    int is_refused, is_broken_off;   /* the last handshake, and why */
    int has_place, is_here, is_ready, has_parted;
    int64_t gone_ms;                 /* since when its connection is found broken */
};

struct wire_mesh {
    void *context, *listener;
    struct gate *gate;
    char bound[MESH_ENDPOINT_BYTES];
    const struct wire_mesh_config *config;   /* while it opens */
    struct wire_keys job;            /* the pair of this mesh; insecure where there is none */
    int index, count, next;          /* next: whose socket is looked at first */
    int has_keys, has_roster, has_go;
    struct mesh_peer *peers;         /* [count] */
    zmq_msg_t message;               /* the one that was received last */
    int64_t asked_ms, looked_ms;
    struct wire_loss end;            /* somebody said MESH_END */
    int has_end;
};

/* ---- mesh.c */
void mesh_send(struct wire_mesh *mesh, int to, enum mesh_kind kind, const void *head, size_t n_head,
               const void *bytes, size_t n);
/* The kind of the next message, its bytes behind it; 0: none is there. MESH_PART and MESH_END are
 * taken note of. */
int mesh_receive(struct wire_mesh *mesh, int *from, const void **bytes, size_t *n);
void mesh_read_events(struct mesh_peer *peer);
void mesh_release(struct wire_mesh **mesh);

/* ---- mesh_meet.c */
int mesh_meet(struct wire_mesh *mesh);

#endif
