/* hone verify: one verdict explained, or a stream of them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/cmd.h"
#include "common/json.h"
#include "common/status.h"
#include "pipeline/pipeline.h"

static const struct option_row options[] = {
    {"gold", "TEXT", "the reference answer"},
    {"pred", "TEXT", "what the model wrote, whole: the answer is looked for in it"},
    {"bare", NULL, "the prediction is the answer alone: judged as if in <answer> tags"},
    {"question", "TEXT", "for verifiers that look at it"},
    {"language", "L", "wanted in the reasoning (default: en)"},
    {"jsonl", NULL, "read {\"id\", \"gold\", \"pred\"} lines (also question, language, verifier)"},
    {"plugin", "FILE", "load a verifier from a shared object; may be repeated"},
    {"option", "V.KEY=VALUE", "an option: \"countdown.partial=0.1\"; may be repeated"},
    {"list", NULL, "list the verifiers"},
    {0},
};

struct question {
    const char *verifier, *gold, *pred, *question, *language;
    int is_bare;
};

static struct wire_text wire_text_of(const char *text)
{
    return (struct wire_text){text, (uint32_t)strlen(text)};
}

static int judge(struct reward *reward, const struct question *question, struct score *score)
{
    struct task task = {.id = 1, .question = wire_text_of(question->question),
                        .reference = wire_text_of(question->gold),
                        .prompt = wire_text_of(question->question), .prefill = wire_text_of("")};
    struct text completion = {0};

    if (strlen(question->verifier) >= sizeof(task.verifier))
        return status_fail(STATUS_CONFIG, "there is no verifier \"%s\"", question->verifier);
    snprintf(task.verifier, sizeof(task.verifier), "%s", question->verifier);
    snprintf(task.kind, sizeof(task.kind), "%s", question->verifier);
    snprintf(task.language, sizeof(task.language), "%s", question->language);
    text_print(&completion, question->is_bare ? "<answer>%s</answer>" : "%s", question->pred);
    int status = completion.failed
                     ? status_fail(STATUS_FORMAT, "the prediction is too long")
                     : reward_judge_text(reward, question->verifier, &task, completion.data,
                                         completion.length, NULL, score);
    text_release(&completion);
    return status;
}

static void print_answer(struct text *out, const struct question *question, enum outcome outcome)
{
    struct text answer = {0};

    if (question->is_bare)
        return;
    if (reward_extract_answer(question->pred, strlen(question->pred), &answer))
        text_print(out, "answer   %s\n", answer.data ? answer.data : "");
    else if (outcome == OUTCOME_UNREADABLE)
        text_print(out, "answer   none found (reward/README.md has the rules; --bare: the "
                        "prediction is the answer)\n");
    text_release(&answer);
}

static int explain(struct reward *reward, const struct question *question)
{
    struct text out = {0};
    struct score score;

    TRY(judge(reward, question, &score));
    text_print(&out, "outcome  %s\nscore    %g\n", outcome_name(score.outcome),
               (double)score.value);
    if (score.detail[0])
        text_print(&out, "detail   %s\n", score.detail);
    print_answer(&out, question, score.outcome);
    int status = print_text(&out);
    text_release(&out);
    if (status == STATUS_OK && score.outcome == OUTCOME_ERROR)
        return status_fail(STATUS_FAILED, "verifier %s gave no verdict: %s", question->verifier,
                           score.detail);
    return status;
}

static int read_line(const json_t *row, const char *where, struct question *question)
{
    if (!json_is_object(row))
        return status_fail(STATUS_FORMAT, "%s: a JSON object is wanted", where);
    TRY(json_get_text(row, "gold", where, &question->gold));
    TRY(json_get_text(row, "pred", where, &question->pred));
    TRY(json_get_text_or(row, "question", where, question->question, &question->question));
    TRY(json_get_text_or(row, "language", where, question->language, &question->language));
    return json_get_text_or(row, "verifier", where, question->verifier, &question->verifier);
}

static int judge_line(struct reward *reward, const struct question *defaults, const char *line,
                      size_t n, long long number)
{
    struct question question = *defaults;
    struct text out = {0};
    struct score score;
    char where[48];
    json_t *row;
    int status;

    snprintf(where, sizeof(where), "stdin:%lld", number);
    TRY(json_parse(&row, line, n, where));
    status = read_line(row, where, &question);
    if (status == STATUS_OK)
        status = judge(reward, &question, &score);
    if (status == STATUS_OK) {
        const json_t *id = json_object_get(row, "id");
        text_print(&out, "{\"id\":");
        if (id)
            json_append(&out, id);
        else
            text_print(&out, "%lld", number);
        text_print(&out, ",\"outcome\":\"%s\",\"score\":%.9g,\"detail\":",
                   outcome_name(score.outcome), (double)score.value);
        json_append_string(&out, score.detail, strlen(score.detail));
        text_print(&out, "}\n");
        status = print_text(&out);
    }
    text_release(&out);
    json_decref(row);
    return status;
}

static int judge_stream(struct reward *reward, const struct question *defaults)
{
    char *line = NULL;
    size_t capacity = 0;
    long long number = 0;
    ssize_t n;
    int status = STATUS_OK;

    while (status == STATUS_OK && (n = getline(&line, &capacity, stdin)) >= 0) {
        number++;
        if (strspn(line, " \t\r\n") < (size_t)n)
            status = judge_line(reward, defaults, line, (size_t)n, number);
    }
    if (status == STATUS_OK && ferror(stdin))
        status = status_fail(STATUS_IO, "cannot read standard input: %s", strerror(errno));
    free(line);
    return status;
}

static int list_verifiers(struct reward *reward)
{
    struct text out = {0};

    for (size_t i = 0; reward_verifier_name(reward, i); i++)
        text_print(&out, "%-12s %s\n", reward_verifier_name(reward, i),
                   reward_verifier_help(reward, i));
    int status = print_text(&out);
    text_release(&out);
    return status;
}

static int join(const struct arguments *arguments, const char *name, char out[CONFIG_TEXT_BYTES])
{
    const char **values = argument_all(arguments, name);
    size_t used = 0;
    int status = STATUS_OK;

    out[0] = '\0';
    for (size_t i = 0; values[i] && status == STATUS_OK; i++) {
        int n = snprintf(out + used, CONFIG_TEXT_BYTES - used, "%s%s", i ? "," : "", values[i]);
        used += (size_t)n;
        if (used >= CONFIG_TEXT_BYTES)
            status = status_fail(STATUS_CONFIG, "all --%s together must be shorter than %d bytes",
                                 name, CONFIG_TEXT_BYTES);
    }
    mem_free(values);
    return status;
}

static int open_reward(const struct arguments *arguments, struct reward **reward)
{
    struct stage_settings settings;
    struct config_binding bindings[N_STAGE_SECTIONS];

    stage_bind(&settings, bindings);
    config_set_defaults(bindings, N_STAGE_SECTIONS);
    TRY(join(arguments, "plugin", settings.reward.plugins));
    TRY(join(arguments, "option", settings.reward.options));
    TRY(config_check(bindings, N_STAGE_SECTIONS));
    return reward_create(reward, &settings.reward, &settings.sandbox);
}

static int answer(struct reward *reward, const struct arguments *arguments)
{
    const struct question question = {
        .verifier = arguments->n_positionals ? arguments->positionals[0] : NULL,
        .gold = argument_get(arguments, "gold"),
        .pred = argument_get(arguments, "pred"),
        .question = argument_or(arguments, "question", ""),
        .language = argument_or(arguments, "language", "en"),
        .is_bare = argument_get(arguments, "bare") != NULL,
    };

    if (argument_get(arguments, "list"))
        return list_verifiers(reward);
    if (!question.verifier)
        return status_fail(STATUS_CONFIG, "name a verifier; `hone verify --list` lists them");
    if (argument_get(arguments, "jsonl"))
        return judge_stream(reward, &question);
    if (!question.gold || !question.pred)
        return status_fail(STATUS_CONFIG, "--gold and --pred are needed, or --jsonl");
    return explain(reward, &question);
}

static int run(const struct command *command, const struct arguments *arguments)
{
    struct reward *reward;

    (void)command;
    TRY(open_reward(arguments, &reward));
    int status = answer(reward, arguments);
    reward_destroy(&reward);
    return status;
}

const struct command command_verify = {
    "verify", "NAME", 1, "ask a verifier: one verdict explained, or a stream of them",
    "hone verify math --gold 1/2 --pred 'so the answer is \\boxed{0.5}'\n"
    "hone verify math --gold 1/2 --pred 0.5 --bare\n"
    "hone verify math --jsonl < predictions.jsonl > verdicts.jsonl\n\n"
    "With --jsonl each line of stdin gives a line {\"id\", \"outcome\", \"score\", \"detail\"} on\n"
    "stdout, in the same order; the first line that cannot be read ends it with exit code 4.",
    options, run};
