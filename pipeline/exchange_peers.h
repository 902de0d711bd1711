/* pipeline/exchange_peers.h - who is connected, and what each has. Private to exchange*.c. */
#ifndef HONE_PIPELINE_EXCHANGE_PEERS_H
#define HONE_PIPELINE_EXCHANGE_PEERS_H

#include "pipeline/exchange.h"

#define MAX_PEERS 1024
#define N_NOTES 64

/* Groups in one state, the first in line first: each is in one list at most. */
struct group_slot;
struct slot_list {
    struct group_slot *first, *last;
};

struct peer {
    char name[WIRE_NAME_BYTES];
    enum worker_role role;
    uint64_t pid;              /* another one: the process before has died */
    int is_ready;              /* said hello, and is not known to be gone */
    int n_leases;
    int64_t heard_ms;
    uint32_t model_serial;     /* of the model it was sent; 0: none */
    uint32_t version_sent;     /* of that model's weights */
    int has_version;           /* version_sent means something */
    struct digest held;        /* the image that it keeps; zeros: none, or not known */
    int shares_files;          /* of this host: takes the image's file */
    int takes_file;            /* that is what it was sent */
    const struct wire_pieces *base;   /* what it keeps of the pieces; NULL: nothing */
    uint32_t next_piece;
    uint64_t offset;           /* of that piece */
    uint64_t bytes_sent;       /* of WEIGHTS of that version */
    int is_receiving;          /* not all of them yet, or a file or an offer that it has not
                                * answered; gets no lease */
    char place[WIRE_DETAIL_BYTES];
    int is_offered;            /* version_sent was an offer */
    uint32_t version_offered;  /* the last one, of which it */
    int is_reading;            /* may read the memory still: it has not answered */
    int refuses_offers, is_told;   /* is_told: the log has said that it takes them */
    int n_refusals;            /* of weights, one after another */
    uint32_t version_acked;    /* taken over, with the right digest */
    int has_acked;
    int is_alone;              /* holds one suspect group; gets no other */
    struct slot_list out;     /* its leases, the oldest first */
    struct wire_heartbeat beat;
    int64_t beat_ms;           /* when that came */
};

/* The pieces of an image that was published, and of those before it that workers may keep. */
#define N_IMAGES 4
struct image_pieces {
    struct wire_pieces pieces;
    struct digest digest;
};

struct message_note {
    int64_t unix_ms;
    uint64_t number;           /* lease or version */
    char peer[WIRE_NAME_BYTES];
    enum wire_kind kind;
    int is_out;
};

struct exchange {
    struct exchange_config config;
    struct wire_hub *hub;
    struct workers *workers;
    char worker_key[FILE_PATH_MAX];
    char stage[64], settings_hash[DIGEST_HEX_BYTES];
    int n_wanted[2];           /* local workers per role */
    struct peer *peers[MAX_PEERS];
    int n_peers;
    uint64_t last_lease;
    int64_t wait_started_ms, beat_ms, idle_since_ms;
    struct text frame, inbox;
    struct message_note notes[N_NOTES];
    uint64_t n_notes;
    char directory[FILE_PATH_MAX];   /* of state.json; "" for none */
    int64_t state_ms;
    int state_failed;

    uint32_t model_serial;
    struct text model;         /* the frame that announces it */
    struct file_map image;     /* what was read of it is forgotten at once */
    struct image_pieces images[N_IMAGES];   /* the newest first */
    struct exchange_offer offer;   /* n_regions 0: none; else the image is made when it is needed */
    uint32_t version;
    uint64_t weights_bytes;    /* of WEIGHTS sent, to all workers */
};

struct peer *peer_find(struct exchange *exchange, const char *name);
int peer_hello(struct exchange *exchange, const char *name, const struct text *frame);

/* A peer whose connection had broken speaks again: what it still has is not known. */
void peer_is_back(struct peer *peer);

/* The ready peer of a role with the fewest leases, if fewer than `most`; the first on a tie. */
struct peer *peer_least_loaded(struct exchange *exchange, enum worker_role role, int most);

int peer_send(struct exchange *exchange, struct peer *peer, const struct text *frame);

/* ---- exchange_weights.c */
/* Sends the model and what the window allows of the weights that it lacks; is_receiving says
 * whether more must follow. */
int peer_bring_up_to_date(struct exchange *exchange, struct peer *peer);
int peer_weights_state(struct exchange *exchange, struct peer *peer, const struct text *frame);
int peer_has_weights(const struct exchange *exchange, const struct peer *peer);
/* What it was sent counts no more. */
void peer_forget_weights(struct peer *peer);
/* Takes the file of an image over, and what it is made of. */
int weights_set_image(struct exchange *exchange, struct file_map *image);
/* Others than before: nobody has them. */
void weights_begin_version(struct exchange *exchange, uint32_t version);
void weights_release(struct exchange *exchange);

/* ---- exchange_offer.c */
int peer_takes_offers(const struct exchange *exchange, const struct peer *peer);
int peer_send_offer(struct exchange *exchange, struct peer *peer);
void peer_took_offer(struct peer *peer);
/* 1: what it has refused is an offer; it gets images from now on. */
int peer_falls_back(const struct exchange *exchange, struct peer *peer);
/* Of what was offered, unless it is there. */
int exchange_need_image(struct exchange *exchange);
/* Of what this peer was sent. */
const struct digest *peer_digest(const struct exchange *exchange, const struct peer *peer);

int peer_heartbeat(struct exchange *exchange, struct peer *peer, const struct text *frame);
/* Tells every peer once a second that the coordinator lives, and what it is at. */
int peers_beat(struct exchange *exchange, const char *doing, int64_t since_ms);

/* What the coordinator waits for, in words; `work` NULL: nothing. */
struct work;
void exchange_describe(const struct exchange *exchange, const struct work *work,
                       char out[WIRE_DETAIL_BYTES]);
/* Kept for `hone status` and the report of a stuck run. */
void message_note(struct exchange *exchange, int is_out, const char *peer, enum wire_kind kind,
                  uint64_t number);

void peer_begin_wait(struct exchange *exchange);
/* STATUS_TIMEOUT naming the role when none of its workers has been there for connect_ms. */
int peer_check_presence(struct exchange *exchange, int needs_reward);
void peer_forget_leases(struct exchange *exchange);

#endif
