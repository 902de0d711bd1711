/* A cache that is too small for all: samples and prompts give up their pages and are computed
 * again, and nobody can tell from the samples. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <malloc.h>

#include "common/log.h"
#include "common/random.h"
#include "rollout/internal.h"
#include "test_rollout.h"

enum {
    N_GROUPS = 5, MAX_PROMPT = 200, MAX_COMPLETION = 260,
    LEAST = 4 * MODEL_PAGE + 5 * MODEL_PAGE,   /* room of one sequence */
    LARGE = 1 << 20
};

static const int prompt_bytes[N_GROUPS] = {30, 200, 64, 150, 1};
static const uint32_t n_samples[N_GROUPS] = {3, 6, 1, 4, 5};

/* What was seen between steps. */
static struct sights {
    int n_paused, n_paused_behind_a_done_mate, n_dropped_prompts;
} sights;

static int setup(void **state)
{
    log_set_level(LOG_ERROR);
    return tiny_rollout_open((struct tiny_rollout **)state, MAX_PROMPT + MAX_COMPLETION);
}

static void open_rollout(struct tiny_rollout *f, int max_sequences, int max_tokens,
                         int64_t n_cached)
{
    const struct rollout_limits limits = {max_sequences, MAX_PROMPT, MAX_COMPLETION, max_tokens,
                                          n_cached};

    rollout_destroy(&f->rollout);
    assert_int_equal(rollout_create(&f->rollout, f->model, f->tokenizer, 1, &limits), STATUS_OK);
}

static void look(struct tiny_rollout *f)
{
    const struct rollout *rollout = f->rollout;

    for (const struct running_group *group = rollout->running.first; group; group = group->next) {
        int n_begun = 0, n_paused = 0, n_done = 0;
        for (uint32_t i = 0; i < group->sampling.num_generations; i++) {
            int is_waiting = group->samples[i].state == SAMPLE_WAITING;
            n_begun += is_waiting && group->samples[i].n_tokens > 0;
            n_paused += is_waiting && group->samples[i].n_tokens > 1;
            n_done += group->samples[i].state == SAMPLE_DONE;
        }
        sights.n_paused += n_paused;
        sights.n_paused_behind_a_done_mate += n_paused && n_done;
        sights.n_dropped_prompts += n_begun && !group->holds_pages;
    }
}

static void submit(struct tiny_rollout *f, int at, uint64_t seed)
{
    struct sampling sampling = tiny_sampling();
    char prompt[MAX_PROMPT + 1] = {0};

    for (int i = 0; i < prompt_bytes[at]; i++)
        prompt[i] = (char)('a' + (i * i + at) % 26);
    struct task task = tiny_task(100 + (uint64_t)at, prompt);
    sampling.num_generations = n_samples[at];
    sampling.max_completion_length = MAX_COMPLETION;
    sampling.seed = seed;
    assert_int_equal(rollout_submit(f->rollout, (uint64_t)at, &task, &sampling), STATUS_OK);
}

static void assert_all_is_given_back(struct tiny_rollout *f)
{
    struct rollout_load load;

    rollout_load(f->rollout, &load);
    assert_int_equal(load.n_free_pages, load.n_pages);
    assert_int_equal(f->rollout->n_free_sequences, f->rollout->limits.max_sequences);
    assert_int_equal(f->rollout->n_free_prompts, (f->rollout->limits.max_sequences + 1) / 2);
}

static void sample_all(struct tiny_rollout *f, uint64_t seed, struct sample_group *groups)
{
    struct wire_group group;
    int n, n_steps = 0;

    memset(groups, 0, N_GROUPS * sizeof(*groups));
    for (int i = 0; i < N_GROUPS; i++)
        submit(f, i, seed);
    do {
        n = rollout_step(f->rollout);
        if (n < 0) fail_msg("%s", status_reason());
        assert_true(n_steps++ < 20000);
        look(f);
        while (rollout_take(f->rollout, &f->arena, &group) > 0)
            groups[group.lease] = group.group;
    } while (n > 0);
    assert_all_is_given_back(f);
}

static void assert_same_samples(const struct sample_group *a, const struct sample_group *b)
{
    assert_int_equal(a->n_samples, b->n_samples);
    for (uint32_t i = 0; i < a->n_samples; i++) {
        const struct sample *x = &a->samples[i], *y = &b->samples[i];
        assert_int_equal(x->finish, y->finish);
        assert_int_equal(x->n_tokens, y->n_tokens);
        assert_memory_equal(x->tokens, y->tokens, x->n_tokens * sizeof(int32_t));
        assert_memory_equal(x->logprobs, y->logprobs, x->n_tokens * sizeof(float));
    }
}

static int64_t count_pauses(const struct tiny_rollout *f)
{
    struct rollout_load load;

    rollout_load(f->rollout, &load);
    return load.n_pauses;
}

/* From room for one sequence to room for half of them; each cache is used twice. */
static void samples_do_not_depend_on_the_room_of_the_cache(void **state)
{
    enum { TRIES = 24, LEAST_PAGES = LEAST / MODEL_PAGE };
    struct sample_group wanted[N_GROUPS], found[N_GROUPS];
    struct random_stream stream = {.seed = 6};
    struct tiny_rollout *f = *state;

    sights = (struct sights){0};
    open_rollout(f, 16, 512, LARGE);
    sample_all(f, 11, wanted);
    assert_int_equal(count_pauses(f), 0);
    for (int i = 0; i < TRIES; i++) {
        int max_sequences = 1 + (int)random_below(&stream, 19);
        int max_tokens = 1 + (int)random_below(&stream, 300);
        int n_pages = LEAST_PAGES + (int)random_below(&stream, i % 3 ? 4 : 40);
        open_rollout(f, max_sequences, max_tokens, n_pages * MODEL_PAGE);
        for (int again = 0; again < 2; again++) {
            sample_all(f, 11, found);
            for (int j = 0; j < N_GROUPS; j++)
                assert_same_samples(&found[j], &wanted[j]);
        }
    }
    assert_true(sights.n_paused > 0);
    assert_true(sights.n_paused_behind_a_done_mate > 0);
    assert_true(sights.n_dropped_prompts > 0);
}

static void with_room_for_all_nobody_is_paused(void **state)
{
    struct sample_group groups[N_GROUPS];
    struct tiny_rollout *f = *state;

    for (int n = 1; n <= 16; n *= 4) {
        open_rollout(f, n, 512, 0);
        sample_all(f, 12, groups);
        assert_int_equal(count_pauses(f), 0);
        assert_int_equal(f->rollout->n_pages, (n + 1) / 2 * 4 + n * 5);
    }
}

static void a_cache_without_room_for_one_sequence_is_refused(void **state)
{
    struct rollout_limits limits = {8, MAX_PROMPT, MAX_COMPLETION, 64, LEAST - 1};
    struct tiny_rollout *f = *state;

    assert_int_equal(rollout_create(&f->rollout, f->model, f->tokenizer, 1, &limits),
                     STATUS_CONFIG);
    assert_null(f->rollout);
    assert_non_null(strstr(status_reason(), "set rollout.kv_cache_tokens to 576 or more"));
    limits.kv_cache_tokens = LEAST;
    assert_int_equal(rollout_create(&f->rollout, f->model, f->tokenizer, 1, &limits), STATUS_OK);
}

static void without_a_setting_the_cache_takes_a_quarter_of_the_memory_at_most(void **state)
{
    const struct rollout_limits limits = {8, MAX_PROMPT, MAX_COMPLETION, 64, 0};
    struct model_shape shape = tiny_shape();
    int64_t all = (4 * 4 + 8 * 5) * MODEL_PAGE, page = (int64_t)model_cache_page_bytes(&shape, 0);

    (void)state;
    assert_int_equal(page, 2 * 2 * MODEL_PAGE * 2 * 8 * 4);
    assert_int_equal(rollout_cache_tokens(&limits, &shape, 0, 1e15), all);
    for (int bf16 = 0; bf16 < 2; bf16++)
        assert_int_equal(rollout_cache_tokens(&limits, &shape, bf16, 4.0 * 20 * (double)page),
                         (1 + bf16) * 20 * MODEL_PAGE);
    assert_int_equal(rollout_cache_tokens(&limits, &shape, 0, 0), 0);
}

static size_t heap_bytes(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

static void nothing_is_allocated_while_pages_come_and_go(void **state)
{
    struct sample_group groups[N_GROUPS];
    struct tiny_rollout *f = *state;
    struct wire_group group;

    open_rollout(f, 16, 64, 12 * MODEL_PAGE);
    sample_all(f, 11, groups);
    for (int i = 0; i < N_GROUPS; i++)
        submit(f, i, 11);
    size_t before = heap_bytes();
    int64_t n_pauses = count_pauses(f);
    while (rollout_step(f->rollout) > 0)
        assert_int_equal(heap_bytes(), before);
    assert_true(count_pauses(f) > n_pauses);
    while (rollout_take(f->rollout, &f->arena, &group) > 0)
        continue;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, tiny_rollout_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(samples_do_not_depend_on_the_room_of_the_cache),
        TEST(with_room_for_all_nobody_is_paused),
        TEST(a_cache_without_room_for_one_sequence_is_refused),
        TEST(without_a_setting_the_cache_takes_a_quarter_of_the_memory_at_most),
        TEST(nothing_is_allocated_while_pages_come_and_go),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
