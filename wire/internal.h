/*
 * wire/internal.h - the bounded reader and writer under every message, and what hub and link share.
 *
 * Both keep the first failure and turn later calls into nothing, so that a codec reads like the
 * drawing in docs/wire.md and asks once, at the end. Numbers are little-endian.
 */
#ifndef HONE_WIRE_INTERNAL_H
#define HONE_WIRE_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

#include "wire/wire.h"

/*
 * No socket may be watched for ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL: libzmq (4.3.4) tells it also of
 * a spoilt message, after it has set errno and before it looks at it. It then finds EAGAIN there,
 * keeps the connection without reading from it, and once that ends its heartbeat's assertion
 * "!_io_error" ends the process (integration_links).
 */

#define WIRE_HEADER_BYTES 12
#define WIRE_MAX_SAMPLES 4096u
#define WIRE_MAX_TOKENS (1u << 20)

struct writer {
    struct text *out;
    size_t start;          /* where this frame begins in `out` */
    int status;
};
int writer_begin(struct writer *writer, struct text *out, enum wire_kind kind);
int writer_end(struct writer *writer);   /* a failed frame is taken off `out` again */
void writer_u32(struct writer *writer, uint32_t value);
void writer_u64(struct writer *writer, uint64_t value);
void writer_finite(struct writer *writer, float value, const char *what);
void writer_bytes(struct writer *writer, const void *bytes, size_t n);
void writer_text(struct writer *writer, const struct wire_text *text, const char *what);
/* A fixed field of n bytes, filled up with NULs; the text must leave room for one. */
void writer_fixed(struct writer *writer, const char *text, size_t n, const char *what);
void writer_u32s(struct writer *writer, const void *values, uint32_t n, const char *what);
/* A count from 0 to `maximum`. */
void writer_count(struct writer *writer, uint32_t n, uint32_t maximum, const char *what);

struct reader {
    const unsigned char *at;
    size_t left;
    struct arena *arena;
    int status;
};
int reader_begin(struct reader *reader, const void *frame, size_t n, struct arena *arena,
                 enum wire_kind kind);
int reader_end(struct reader *reader);   /* bytes left over are STATUS_FORMAT */
uint32_t reader_u32(struct reader *reader);
uint64_t reader_u64(struct reader *reader);
float reader_finite(struct reader *reader, const char *what);
uint32_t reader_below(struct reader *reader, uint32_t n, const char *what);
void reader_bytes(struct reader *reader, void *out, size_t n);
void reader_text(struct reader *reader, struct wire_text *text);
void reader_borrow(struct reader *reader, struct wire_text *text);   /* points into the frame */
void reader_fixed(struct reader *reader, char *out, size_t n, const char *what);
/* A count of things that take at least item_bytes each: refused before anything is allocated when
 * the frame cannot hold them. */
uint32_t reader_count(struct reader *reader, uint32_t maximum, size_t item_bytes,
                      const char *what);
/* n numbers of 4 bytes into the arena; NULL when n is 0 or the reader has failed. */
void *reader_u32s(struct reader *reader, uint32_t n);
void *reader_alloc(struct reader *reader, uint32_t n, size_t size, size_t align);
void reader_fail(struct reader *reader, const char *what);

/* ---- keys.c: 1 when the list has the key, 0 when not, or a failure to read it. */
int keys_are_allowed(const char *path, const char key[WIRE_KEY_BYTES]);

/* ---- gate.c: who is let in to a hub on tcp://: those on the list, or, where the keys name none,
 * who has the hub's own pair. Opened before the socket is bound. The context ends its thread; a
 * failed gate_open() leaves one that must be closed and destroyed, too. */
struct gate;
int gate_open(struct gate **out, void *context, void *socket, const char *endpoint,
              const struct wire_keys *keys);
void gate_close_sockets(struct gate *gate);   /* when no thread has them; before the context ends */
void gate_destroy(struct gate **gate);        /* after the context has ended */
void gate_refusals(struct gate *gate, struct wire_refusals *refusals);

/* ---- hub.c: listens; `bound` is the endpoint as it became. */
int socket_bind(void *socket, const char *endpoint, char *bound, size_t n_bound);

/* ---- socket.c */
/* STATUS_CONFIG for tcp:// without keys. */
int socket_check_endpoint(const char *endpoint, const struct wire_keys *keys);
int socket_is_secured(const char *endpoint);
int socket_set_options(void *socket, const char *endpoint);
int socket_set_keys(void *socket, const char *endpoint, const struct wire_keys *keys, int is_hub);
/* STATUS_OK when a message waits, STATUS_TIMEOUT, or STATUS_INTERRUPTED after a signal. */
int socket_wait(void *socket, int64_t deadline_ms, const char *endpoint);
int socket_send(void *socket, const char *peer, const struct text *frame, int timeout_ms,
                const char *endpoint);
void socket_close(void **context, void **socket);

#endif
