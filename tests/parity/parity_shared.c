/* Weights from the memory of one process on the GPU to that of another: this program is rollout,
 * and starts itself again as a learner that does what it is told. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"
#include "common/random.h"
#include "ops/backend.h"
#include "rollout/internal.h"
#include "tests/unit/test_rollout.h"

#define REQUIRE_OK(call)                                                                           \
    do {                                                                                           \
        if ((call) < 0)                                                                            \
            fail_msg("%s: %s", #call, status_reason());                                            \
    } while (0)

static const char *gpu_device(void)
{
    return ops_table_cuda ? ops_table_cuda->name : "cuda";
}

/* ---- The learner's process: one letter in, at most one report out. */

struct report {
    struct wire_shared_weights offer;
    struct digest image;    /* what would travel in messages */
};

static int digest_image(const struct model *model, struct digest *digest)
{
    struct file_map image;

    TRY(model_map_weights(model, &image));
    digest_of_map(digest, &image);
    file_map_close(&image);
    return STATUS_OK;
}

/* Version 1, 2, ... of the policy, in copies of its own: no exchange is asked who reads them. */
static int offer_weights(struct ops *ops, int is_bf16, uint32_t version, struct model **copy)
{
    const struct model_options options = {.trainable = 1, .bf16 = is_bf16};
    struct model_region regions[MODEL_N_REGIONS];
    struct model_shape shape = tiny_shape();
    struct model *policy = NULL;
    struct report report;
    int status;

    memset(&report, 0, sizeof(report));
    TRY(model_create(&policy, ops, &shape, &options, version));
    TRY_OUT(model_create_frozen(copy, ops, &shape, model_seen_dtype(policy)));
    TRY_OUT(model_freeze_weights(*copy, policy));
    model_regions(*copy, regions);
    report.offer = (struct wire_shared_weights){
        .version = version, .is_bf16 = (uint32_t)is_bf16, .n_regions = MODEL_N_REGIONS};
    TRY_OUT(model_digest_regions(ops, regions, &report.offer.digest));
    for (int i = 0; i < MODEL_N_REGIONS; i++) {
        struct ops_handle handle;
        TRY_OUT(ops_export(ops, regions[i].memory, &handle));
        report.offer.regions[i].bytes = regions[i].bytes;
        memcpy(report.offer.regions[i].handle, handle.bytes, sizeof(handle.bytes));
    }
    TRY_OUT(digest_image(policy, &report.image));
    if (write(STDOUT_FILENO, &report, sizeof(report)) != sizeof(report))
        status = STATUS_IO;
out:
    model_destroy(&policy);
    return status;
}

static int be_learner(const char *device, int is_bf16)
{
    struct model_region regions[MODEL_N_REGIONS];
    static struct model *copies[8];
    struct ops *ops = NULL;
    uint32_t version = 0;
    char letter;

    TRY(ops_create(&ops, device, 1));
    while (version < 8 && read(STDIN_FILENO, &letter, 1) == 1) {
        if (letter == 'o') {
            version++;
            TRY(offer_weights(ops, is_bf16, version, &copies[version - 1]));
        }
        model_regions(copies[version - 1], regions);
        if (letter == 'd') {   /* a word of the last copy, and says that it is done */
            ops_zero(ops, regions[1].memory, 8);
            TRY(ops_sync(ops));
            TRY(write(STDOUT_FILENO, "d", 1) == 1 ? STATUS_OK : STATUS_IO);
        }
    }
    for (uint32_t i = 0; i < version; i++)
        model_destroy(&copies[i]);
    ops_destroy(&ops);
    return STATUS_OK;
}

/* ---- Rollout, and the learner it has started. */

struct fixture {
    struct policy policy;
    struct text config, tokenizer;
    struct rollout_options options;
    struct report report;
    pid_t learner;
    int to, from;
};

static void start_learner(struct fixture *f, int is_bf16)
{
    int in[2], out[2];

    assert_int_equal(pipe(in), 0);
    assert_int_equal(pipe(out), 0);
    f->learner = fork();
    if (f->learner == 0) {
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        close(in[1]);
        close(out[0]);
        execl("/proc/self/exe", "learner", "--learner", gpu_device(), is_bf16 ? "1" : "0",
              (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    f->to = in[1];
    f->from = out[0];
}

static void end_learner(struct fixture *f)
{
    int status;

    if (!f->learner)
        return;
    close(f->to);
    close(f->from);
    assert_int_equal(waitpid(f->learner, &status, 0), f->learner);
    assert_int_equal(status, 0);
    f->learner = 0;
}

static void ask_learner(struct fixture *f, char letter, void *answer, size_t n)
{
    assert_int_equal(write(f->to, &letter, 1), 1);
    for (size_t got = 0; got < n;) {
        ssize_t more = read(f->from, (char *)answer + got, n - got);
        assert_true(more > 0);
        got += (size_t)more;
    }
}

static int setup(void **state)
{
    struct fixture *f = mem_alloc(1, sizeof(*f));
    struct model_shape shape = tiny_shape();

    log_set_level(LOG_ERROR);
    f->options = (struct rollout_options){
        .device = gpu_device(), .threads = 1, .limits = {6, 32, 48, 24, 0}};
    write_tiny_tokenizer(&f->tokenizer);
    model_shape_print(&shape, -1, TINY_EOS, &f->config);
    *state = f;
    if (policy_open(&f->policy, &f->options) < 0)
        return -1;
    const struct wire_model model = {{f->config.data, (uint32_t)f->config.length},
                                     {f->tokenizer.data, (uint32_t)f->tokenizer.length},
                                     0, NULL};
    return policy_announce(&f->policy, &model);
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    end_learner(f);
    policy_close(&f->policy);
    text_release(&f->config);
    text_release(&f->tokenizer);
    mem_free(f);
    return 0;
}

static int take(struct fixture *f)
{
    TRY(policy_take_offer(&f->policy, &f->report.offer));
    return policy_apply_image(&f->policy);
}

static void assert_policy_is(struct fixture *f, uint32_t version, const struct digest *image)
{
    struct digest digest;

    assert_int_equal(f->policy.version, version);
    REQUIRE_OK(digest_image(f->policy.model, &digest));
    assert_memory_equal(digest.bytes, image->bytes, sizeof(digest.bytes));
}

/* ---- Tests. */

static void take_versions(struct fixture *f, int is_bf16)
{
    start_learner(f, is_bf16);
    for (uint32_t version = 1; version <= 3; version++) {
        const struct model *before = f->policy.model;
        ask_learner(f, 'o', &f->report, sizeof(f->report));
        REQUIRE_OK(take(f));
        assert_policy_is(f, version, &f->report.image);
        assert_true(version == 1 || f->policy.model == before);   /* in place */
    }
    end_learner(f);
}

static void weights_of_another_process_are_those_of_its_image(void **state)
{
    take_versions(*state, 0);
}

static void weights_of_another_dtype_build_the_model_anew(void **state)
{
    struct fixture *f = *state;

    take_versions(f, 0);
    start_learner(f, 1);
    ask_learner(f, 'o', &f->report, sizeof(f->report));
    REQUIRE_OK(take(f));
    assert_policy_is(f, 1, &f->report.image);
}

static void bfloat16_weights_are_those_of_their_image(void **state)
{
    take_versions(*state, 1);
}

static void damaged_memory_is_refused_and_the_old_policy_stays(void **state)
{
    struct fixture *f = *state;
    struct report first;
    char done;

    start_learner(f, 1);
    ask_learner(f, 'o', &first, sizeof(first));
    f->report = first;
    REQUIRE_OK(take(f));
    ask_learner(f, 'o', &f->report, sizeof(f->report));
    ask_learner(f, 'd', &done, 1);
    assert_int_equal(take(f), STATUS_FORMAT);
    assert_non_null(strstr(status_reason(), "there"));
    assert_policy_is(f, 1, &first.image);
    ask_learner(f, 'o', &f->report, sizeof(f->report));
    REQUIRE_OK(take(f));
    assert_policy_is(f, 3, &f->report.image);
}

static struct ops_table broken_table;
static const struct ops_table *whole_table;

/* The last word does not arrive. */
static void copy_badly(void *context, void *to, const void *from, size_t bytes)
{
    whole_table->copy(context, to, from, bytes - 8);
}

static void a_policy_that_is_lost_in_the_copy_is_built_anew(void **state)
{
    struct fixture *f = *state;

    start_learner(f, 0);
    ask_learner(f, 'o', &f->report, sizeof(f->report));
    REQUIRE_OK(take(f));
    whole_table = f->policy.ops->table;
    broken_table = *whole_table;
    broken_table.copy = copy_badly;
    f->policy.ops->table = &broken_table;
    ask_learner(f, 'o', &f->report, sizeof(f->report));
    assert_int_equal(take(f), STATUS_FORMAT);
    assert_non_null(strstr(status_reason(), "here"));
    assert_null(f->policy.rollout);   /* no lease is taken by half a policy */
    assert_int_equal(f->policy.version, 0);
    f->policy.ops->table = whole_table;
    REQUIRE_OK(take(f));
    assert_policy_is(f, 2, &f->report.image);
}

static void memory_of_a_process_that_is_gone_is_refused_in_one_line(void **state)
{
    struct fixture *f = *state;
    struct report first;

    start_learner(f, 0);
    ask_learner(f, 'o', &first, sizeof(first));
    f->report = first;
    REQUIRE_OK(take(f));
    ask_learner(f, 'o', &f->report, sizeof(f->report));
    end_learner(f);
    assert_int_equal(take(f), STATUS_UNSUPPORTED);
    assert_non_null(strstr(status_reason(), "cudaIpcOpenMemHandle"));
    assert_null(strchr(status_reason(), '\n'));
    assert_policy_is(f, 1, &first.image);
}

static void regions_that_do_not_fit_the_model_are_refused(void **state)
{
    struct fixture *f = *state;

    start_learner(f, 0);
    ask_learner(f, 'o', &f->report, sizeof(f->report));
    f->report.offer.regions[1].bytes += 64;
    assert_int_equal(take(f), STATUS_FORMAT);
    f->report.offer.regions[1].bytes -= 64;
    f->report.offer.n_regions = 1;
    assert_int_equal(take(f), STATUS_FORMAT);
    assert_null(f->policy.model);
    f->report.offer.n_regions = 2;
    REQUIRE_OK(take(f));
}

/* As a coordinator sends it whole, or says that it is what is kept already. */
static void take_image(struct fixture *f, const struct file_map *map, uint32_t version,
                       int is_kept)
{
    uint32_t bytes[64], n = 0;
    struct wire_pieces pieces;
    size_t at = 0;

    for (size_t left; (left = map->n - at) > 0; at += bytes[n++]) {
        assert_true(n < 64);
        bytes[n] = (uint32_t)(left < WIRE_PIECE_BYTES ? left : WIRE_PIECE_BYTES);
    }
    REQUIRE_OK(wire_pieces_begin(&pieces, bytes, n));
    struct wire_image image = {.version = version, .n_pieces = n, .n_follow = is_kept ? 0 : n,
                               .piece_bytes = bytes, .path = {"", 0}};
    wire_pieces_hash_map(&pieces, map, NULL);
    wire_pieces_digest(&pieces, &image.digest);
    wire_pieces_release(&pieces);
    if (is_kept)
        image.base = image.digest;
    REQUIRE_OK(image_begin(&f->policy.image, &image));
    at = 0;
    for (uint32_t i = 0; i < image.n_follow; at += bytes[i++]) {
        const struct wire_weights_part part = {version, i, {(const char *)map->bytes + at,
                                                            bytes[i]}};
        REQUIRE_OK(image_add(&f->policy.image, &part));
    }
    REQUIRE_OK(policy_apply_image(&f->policy));
}

static void images_and_offers_take_turns_and_the_kept_image_stays(void **state)
{
    struct fixture *f = *state;
    struct report first;
    struct file_map map;

    start_learner(f, 0);
    ask_learner(f, 'o', &first, sizeof(first));
    f->report = first;
    REQUIRE_OK(take(f));
    REQUIRE_OK(model_map_weights(f->policy.model, &map));
    ask_learner(f, 'o', &f->report, sizeof(f->report));
    REQUIRE_OK(take(f));
    assert_policy_is(f, 2, &f->report.image);
    take_image(f, &map, 3, 0);
    assert_policy_is(f, 3, &first.image);
    REQUIRE_OK(take(f));
    assert_policy_is(f, 2, &f->report.image);
    take_image(f, &map, 4, 1);
    assert_policy_is(f, 4, &first.image);
    file_map_close(&map);
}

static void a_policy_that_has_diverged_is_not_offered(void **state)
{
    struct fixture *f = *state;
    const struct model_options options = {.trainable = 1};
    struct model_shape shape = tiny_shape();
    struct model *policy = NULL, *copy = NULL;
    struct tensor weight;
    const float bad = INFINITY;

    REQUIRE_OK(model_create(&policy, f->policy.ops, &shape, &options, 1));
    REQUIRE_OK(model_create_frozen(&copy, f->policy.ops, &shape, DTYPE_F32));
    for (size_t i = 0; i < 2; i++) {   /* a matrix, a vector */
        model_weight(policy, i, &weight, NULL);
        ops_upload(f->policy.ops, tensor_f32(&weight) + 5, &bad, sizeof(bad));
        REQUIRE_OK(ops_sync(f->policy.ops));
        assert_int_equal(model_freeze_weights(copy, policy), STATUS_FAILED);
        assert_non_null(strstr(status_reason(), i ? "layernorm" : "embed_tokens"));
        ops_zero(f->policy.ops, tensor_f32(&weight) + 5, sizeof(bad));
        REQUIRE_OK(model_freeze_weights(copy, policy));
    }
    model_destroy(&policy);
    model_destroy(&copy);
}

static void the_checksum_is_that_of_the_reference(void **state)
{
    struct fixture *f = *state;
    const size_t words[] = {0, 1, 8, 255, 256, 257, 100000};
    struct random_stream stream = {.seed = 3};
    uint64_t *host = mem_alloc(100000, sizeof(*host));
    struct ops *reference = NULL;
    void *memory = NULL;

    for (size_t i = 0; i < 100000; i++)
        host[i] = random_next(&stream);
    REQUIRE_OK(ops_create(&reference, "reference", 1));
    REQUIRE_OK(ops_alloc(f->policy.ops, 100000 * sizeof(*host), &memory));
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        size_t bytes = words[i] * sizeof(*host);
        struct checksum wanted, found;
        ops_checksum(reference, host, bytes, &wanted);
        ops_upload(f->policy.ops, memory, host, bytes);
        ops_checksum(f->policy.ops, memory, bytes, &found);
        REQUIRE_OK(ops_sync(f->policy.ops));
        assert_memory_equal(&wanted, &found, sizeof(wanted));
    }
    ops_free(f->policy.ops, memory);
    ops_destroy(&reference);
    mem_free(host);
}

static void what_a_process_shares_it_cannot_open_itself(void **state)
{
    struct fixture *f = *state;
    struct ops_handle handle;
    void *memory = NULL, *opened;

    assert_true(strlen(ops_place(f->policy.ops)) > 40);
    REQUIRE_OK(ops_alloc(f->policy.ops, 4096, &memory));
    REQUIRE_OK(ops_export(f->policy.ops, memory, &handle));
    assert_int_equal(ops_import(f->policy.ops, &handle, &opened), STATUS_UNSUPPORTED);
    assert_null(opened);
    REQUIRE_OK(ops_sync(f->policy.ops));   /* no failure stays behind */
    ops_free(f->policy.ops, memory);
}

static void memory_of_the_cpu_is_not_shared(void **state)
{
    struct ops_handle handle;
    struct ops *ops = NULL;
    char memory[64];

    (void)state;
    REQUIRE_OK(ops_create(&ops, "cpu", 1));
    assert_string_equal(ops_place(ops), "");
    assert_int_equal(ops_export(ops, memory, &handle), STATUS_UNSUPPORTED);
    ops_destroy(&ops);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(weights_of_another_process_are_those_of_its_image),
        TEST(bfloat16_weights_are_those_of_their_image),
        TEST(weights_of_another_dtype_build_the_model_anew),
        TEST(damaged_memory_is_refused_and_the_old_policy_stays),
        TEST(a_policy_that_is_lost_in_the_copy_is_built_anew),
        TEST(memory_of_a_process_that_is_gone_is_refused_in_one_line),
        TEST(regions_that_do_not_fit_the_model_are_refused),
        TEST(images_and_offers_take_turns_and_the_kept_image_stays),
        TEST(a_policy_that_has_diverged_is_not_offered),
        TEST(the_checksum_is_that_of_the_reference),
        TEST(what_a_process_shares_it_cannot_open_itself),
        TEST(memory_of_the_cpu_is_not_shared),
    };

    if (argc == 4 && strcmp(argv[1], "--learner") == 0)
        return be_learner(argv[2], argv[3][0] == '1') < 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
