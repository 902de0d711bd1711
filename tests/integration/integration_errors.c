/* What is wrong with a recipe is one clear line and the exit code of its kind; nothing is begun. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/integration/support.h"

#define WRONG_USAGE 2
#define MALFORMED 4
#define NO_FILE 5
#define NOT_POSSIBLE 7

static struct place place;

static int make_place(void **state)
{
    struct program program;

    (void)state;
    place_make(&place);
    HONE(&program, &place, "run", RECIPE, "--run", "run/done", "--stage", "base");
    assert_ends(&program, 0, "stage base is done");
    return 0;
}

static int remove_place(void **state)
{
    (void)state;
    place_remove(&place);
    return 0;
}

static void assert_refused(int code, const char *part, const char *const *arguments)
{
    struct program program;

    run_hone(&program, &place, arguments);
    assert_ends(&program, code, part);
    assert_int_equal(count_lines(&program, ""), 1);
    assert_int_equal(count_lines(&program, "hone: "), 1);
    assert_false(file_exists(in_place(&place, "run/new")));
    WAIT_UNTIL(count_processes(&place) == 0);
}
#define REFUSED(code, part, ...)                                                                   \
    assert_refused((code), (part), (const char *const[]){__VA_ARGS__, NULL})
#define RUN_NEW "run", RECIPE, "--run", "run/new", "--set"

static void malformed_yaml_is_refused_with_its_line(void **state)
{
    (void)state;
    place_write(&place, "bad.yaml", "run:\n  name: [x\nstages: 3\n");
    REFUSED(WRONG_USAGE, "bad.yaml:3: not valid YAML", "run", "bad.yaml", "--run", "run/new");
}

static void an_unknown_key_is_refused_with_its_line_and_the_nearest(void **state)
{
    (void)state;
    place_write(&place, "bad.yaml", "grpo:\n  max_step: 4\nstages:\n  - name: base\n");
    REFUSED(WRONG_USAGE, "bad.yaml:2: unknown key of section \"grpo\" \"max_step\"; did you mean "
            "\"max_steps\"?", "run", "bad.yaml", "--run", "run/new");
    REFUSED(WRONG_USAGE, "did you mean \"epsilon_high\"?", RUN_NEW, "grpo.epsilonhigh=0.3");
    REFUSED(WRONG_USAGE, "the recipe has no stage of that name", RUN_NEW, "zeros:grpo.beta=0");
}

static void a_value_out_of_bounds_is_refused(void **state)
{
    (void)state;
    REFUSED(WRONG_USAGE, "rollout.num_generations", RUN_NEW, "rollout.num_generations=0");
    REFUSED(WRONG_USAGE, "loss_type", RUN_NEW, "grpo.loss_type=ppo");
    REFUSED(WRONG_USAGE, "set rollout.kv_cache_tokens to ", RUN_NEW,
            "rollout.kv_cache_tokens=64");
}

static void a_missing_file_is_named(void **state)
{
    (void)state;
    REFUSED(NO_FILE, "nowhere.yaml", "run", "nowhere.yaml", "--run", "run/new");
    REFUSED(NO_FILE, "tasks.train is run/nowhere.jsonl, which does not exist", RUN_NEW,
            "tasks.train=run/nowhere.jsonl");
    REFUSED(NO_FILE, "run/new is no run directory", "run", "--run", "run/new");
    REFUSED(NO_FILE, "nowhere.so", RUN_NEW, "reward.plugins=nowhere.so");
}

static void a_malformed_task_is_refused_with_its_line(void **state)
{
    struct program program;

    (void)state;
    place_write(&place, "tasks.jsonl", "{\"question\":\"1+1\",\"reference\":\"2\",\"verifier\":"
                "\"math\",\"kind\":\"chain\"}\n{\"question\":\n");
    place_copy(&place, "run/done", "run/tasks");
    HONE(&program, &place, "run", "--run", "run/tasks", "--stage", "zero", "--set",
         "tasks.train=tasks.jsonl", "--accept-changes");
    assert_ends(&program, MALFORMED, "tasks.jsonl:2");
}

static void a_wrong_tokenizer_is_refused(void **state)
{
    (void)state;
    place_write(&place, "wrong/tokenizer.json.txt", "");
    REFUSED(NO_FILE, "wrong/tokenizer.json", RUN_NEW, "model.tokenizer=wrong");
    place_write(&place, "wrong/tokenizer.json", "{\"model\":{\"type\":\"WordPiece\","
                "\"vocab\":{}}}");
    REFUSED(NOT_POSSIBLE, "the model is \"WordPiece\"; only \"BPE\" is supported", RUN_NEW,
            "model.tokenizer=wrong");
    place_write(&place, "wrong/tokenizer.json", "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},"
                "\"merges\":[]}}");
    REFUSED(NOT_POSSIBLE, "only byte-level BPE is supported", RUN_NEW, "model.tokenizer=wrong");
    place_write(&place, "wrong/tokenizer.json", "{\"pre_tokenizer\":{\"type\":\"ByteLevel\","
                "\"add_prefix_space\":false},\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{"
                "\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\",\"b\"]]}}");
    REFUSED(MALFORMED, "wrong/tokenizer.json", RUN_NEW, "model.tokenizer=wrong");
    place_write(&place, "wrong/tokenizer.json", "{\"model\":");
    REFUSED(MALFORMED, "wrong/tokenizer.json", RUN_NEW, "model.tokenizer=wrong");
}

static void an_unknown_reward_is_refused_with_the_nearest(void **state)
{
    (void)state;
    REFUSED(WRONG_USAGE, "there is no verifier \"formt\"; did you mean \"format\"?", RUN_NEW,
            "zero:reward.reward_funcs=accuracy,formt");
}

static int listen_somewhere(int *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &n), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static void a_port_in_use_is_refused_and_another_one_works(void **state)
{
    struct program program;
    char setting[64];
    int port, fd = listen_somewhere(&port);

    (void)state;
    snprintf(setting, sizeof(setting), "run.endpoint=tcp://127.0.0.1:%d", port);
    place_copy(&place, "run/done", "run/port");
    HONE(&program, &place, "run", "--run", "run/port", "--stage", "zero", "--set", setting);
    assert_ends(&program, NO_FILE, "is in use by another process; choose another with --set "
                "run.endpoint=");
    assert_int_equal(count_lines(&program, ""), 1);
    close(fd);
    HONE(&program, &place, "run", "--run", "run/port", "--stage", "zero", "--set",
         "run.endpoint=tcp://127.0.0.1:*");
    assert_ends(&program, 0, "stage zero is done");
}

static void a_changed_recipe_is_refused_with_its_key_until_it_is_accepted(void **state)
{
    struct program program;

    (void)state;
    place_copy(&place, "run/done", "run/changed");
    HONE(&program, &place, "run", RECIPE, "--run", "run/changed", "--set", "zero:grpo.epsilon=0.3");
    assert_ends(&program, WRONG_USAGE, "stages.zero.grpo.epsilon: 0.2 -> 0.3");
    assert_int_equal(count_lines(&program, ""), 1);
    HONE(&program, &place, "run", RECIPE, "--run", "run/changed", "--set", "zero:grpo.epsilon=0.3",
         "--stage", "zero", "--accept-changes");
    assert_ends(&program, 0, "stage zero is done");
    HONE(&program, &place, "run", "--run", "run/changed", "--stage", "zero");
    assert_ends(&program, 0, "stage zero is done already");
}

static void a_stage_whose_parent_is_not_done_is_refused(void **state)
{
    struct program program;

    (void)state;
    place_copy(&place, "run/done", "run/parent");
    HONE(&program, &place, "run", "--run", "run/parent", "--stage", "rl");
    assert_ends(&program, WRONG_USAGE, "hone run --run run/parent --stage coldstart");
    HONE(&program, &place, "run", "--run", "run/parent", "--stage", "none");
    assert_ends(&program, WRONG_USAGE, "none");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_yaml_is_refused_with_its_line),
        cmocka_unit_test(an_unknown_key_is_refused_with_its_line_and_the_nearest),
        cmocka_unit_test(a_value_out_of_bounds_is_refused),
        cmocka_unit_test(a_missing_file_is_named),
        cmocka_unit_test(a_malformed_task_is_refused_with_its_line),
        cmocka_unit_test(a_wrong_tokenizer_is_refused),
        cmocka_unit_test(an_unknown_reward_is_refused_with_the_nearest),
        cmocka_unit_test(a_port_in_use_is_refused_and_another_one_works),
        cmocka_unit_test(a_changed_recipe_is_refused_with_its_key_until_it_is_accepted),
        cmocka_unit_test(a_stage_whose_parent_is_not_done_is_refused),
    };

    return cmocka_run_group_tests_name("integration_errors", tests, make_place, remove_place);
}
