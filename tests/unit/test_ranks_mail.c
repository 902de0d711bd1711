/* Mail over ZeroMQ: what a rank of the job sends that none of ours would. */
#include "ranks/internal.h"
#include "tests/unit/several.h"
#include "wire/mesh.h"

#define LONG_MS 60000
#define TAG 7
#define WANTED 100

/* As ranks/mail_zmq.c sends it. */
struct head {
    int32_t tag;
    uint32_t n_sums;
    uint64_t total, offset;
};

static struct head sent;
static size_t n_sent;

static int rank_that_spoils(struct several *several)
{
    static const char bytes[2 * WANTED];
    struct wire_mesh *mesh;
    struct wire_keys keys;
    const struct wire_mesh_config config = {.endpoint = several->endpoint, .keys = &keys,
                                            .version = "1", .index = 1, .count = several->n,
                                            .timeout_ms = LONG_MS};
    const void *end;
    size_t n;
    int from;

    several_read_keys(several, 1, &keys);
    TRY(wire_mesh_open(&mesh, &config));
    wire_mesh_send(mesh, 0, &sent, sizeof(sent), bytes, n_sent);
    struct wire_loss loss;
    while (!wire_mesh_find_loss(mesh, &loss))
        (void)wire_mesh_receive(mesh, &from, &end, &n);
    wire_mesh_end(&mesh, "over");
    return STATUS_OK;
}

static int rank_that_receives(struct several *several)
{
    char into[WANTED];
    struct wire_keys keys;
    struct mail_place place = {.rank = 0, .count = several->n};
    const struct mail_meeting meeting = {.endpoint = several->endpoint, .keys = &keys,
                                         .version = "1", .timeout_ms = LONG_MS};
    uintptr_t request;
    int is_done = 0, status;

    several_read_keys(several, 0, &keys);
    TRY(mail_zmq.open(&place, &meeting));
    TRY(mail_zmq.receive(1, TAG, into, sizeof(into), &request));
    do
        status = mail_zmq.test(&request, &is_done);
    while (status == STATUS_OK && !is_done);
    if (status < 0 && mail_zmq.test(&request, &is_done) != status)   /* it stays so */
        status = STATUS_FAILED;
    mail_zmq.abort(1, "over");
    return status;
}

static int take_part(struct several *several, int index)
{
    return index ? rank_that_spoils(several) : rank_that_receives(several);
}

static void assert_spoils(void **state, struct head head, size_t n, const char *why)
{
    struct several *several = *state;

    sent = head;
    n_sent = n;
    several_run(several, 2, take_part);
    assert_answer(several, 0, STATUS_FORMAT, why);
}

static void what_no_rank_sends_ends_the_run_with_its_sender(void **state)
{
    const struct head whole = {.tag = TAG, .total = WANTED};
    struct head head = whole;

    head.total = 2 * WANTED;
    assert_spoils(state, head, WANTED,
                  "rank 1 sent a length that is not wanted: message 7, at 0 of 200 bytes");
    head = whole;
    head.offset = 1;
    assert_spoils(state, head, WANTED - 1, "rank 1 sent a part that is out of turn");
    assert_spoils(state, whole, WANTED + 1, "rank 1 sent a part that is out of turn");
    head = whole;
    head.tag++;
    head.total = UINT64_MAX;
    assert_spoils(state, head, WANTED, "rank 1 sent a length that no message has");
}

static void the_same_message_as_it_should_be_arrives(void **state)
{
    struct several *several = *state;

    sent = (struct head){.tag = TAG, .total = WANTED};
    n_sent = WANTED;
    several_run(several, 2, take_part);
    assert_answer(several, 0, STATUS_OK, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_no_rank_sends_ends_the_run_with_its_sender,
                                        several_setup, several_teardown),
        cmocka_unit_test_setup_teardown(the_same_message_as_it_should_be_arrives,
                                        several_setup, several_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
