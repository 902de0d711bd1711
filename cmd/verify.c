/* hone verify: one verdict explained, or a stream of them. */
#include <stdio.h>
#include <string.h>

#include "cmd/cmd.h"
#include "cmd/verify.h"
#include "common/json.h"
#include "common/status.h"

static const struct option_row options[] = {
    {"gold", "TEXT", "the reference answer"},
    {"pred", "TEXT", "what the model wrote, whole: the answer is looked for in it"},
    {"bare", NULL, "the prediction is the answer alone: judged as if in <answer> tags"},
    {"prefill", "TEXT", "what the template wrote before it: \"<think>\""},
    {"question", "TEXT", "for verifiers that look at it"},
    {"columns", "JSON", "the record's other columns, for verifiers that look at them"},
    {"language", "L", "wanted in the reasoning (default: en)"},
    {"accuracy", "NAME", "the verifier that says what is right, for kimi_length (default: math)"},
    {"tokens", "N", "length of the prediction, for verifiers of length"},
    {"group-min", "N", "the shortest of all predictions for the task, likewise"},
    {"group-max", "N", "the longest, likewise"},
    {"jsonl", NULL, "answer lines of JSON: see above"},
    {"j", "N", "with --jsonl: this many processes, at most 256 (default: 1)"},
    {"plugin", "FILE", "load a verifier from a shared object; may be repeated"},
    {"command", "NAME=EXECUTABLE", "a verifier that speaks JSON lines; may be repeated"},
    {"timeout", "MS", "for a verdict of those two (default: 2000)"},
    {"option", "V.KEY=VALUE", "an option: \"countdown.partial=0.1\"; may be repeated"},
    {"list", NULL, "list the verifiers"},
    {0},
};

static void print_line(struct text *out, const char *name, const char *text)
{
    if (text[0])
        text_print(out, "%-13s %s\n", name, text);
}

static int explain(struct judge *judge, const struct question *question)
{
    struct text out = {0};
    struct answer answer;

    TRY(judge_ask(judge, question, &answer));
    print_line(&out, "outcome", answer.outcome);
    text_print(&out, "%-13s %g\n", "score", answer.score);
    print_line(&out, "decided by", answer.path);
    print_line(&out, "detail", answer.detail);
    if (!answer.has_extracted)
        print_line(&out, "extracted", "nothing (docs/verifiers.md has the rules; --bare: the "
                                      "prediction is the answer)");
    else if (!question->is_bare)
        text_print(&out, "%-13s %s\n", "extracted",
                   answer.extracted.data ? answer.extracted.data : "");
    print_line(&out, "read as", answer.reading);
    print_line(&out, "gold read as", answer.gold_reading);
    text_print(&out, "%-13s %.1f microseconds\n", "time", answer.micros);
    int status = print_text(&out);
    if (status == STATUS_OK && answer.is_error)
        status = status_fail(STATUS_FAILED, "verifier %s gave no verdict: %s", question->verifier,
                             answer.detail[0] ? answer.detail : answer.outcome);
    text_release(&out);
    verify_answer_release(&answer);
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

static int read_facts(const struct arguments *arguments, struct reward_facts *facts)
{
    long long tokens, least, most;

    TRY(argument_int(arguments, "tokens", 0, 0, 1000000000, &tokens));
    TRY(argument_int(arguments, "group-min", tokens, 0, 1000000000, &least));
    TRY(argument_int(arguments, "group-max", tokens, 0, 1000000000, &most));
    *facts = (struct reward_facts){(uint64_t)tokens, (uint64_t)least, (uint64_t)most};
    return STATUS_OK;
}

static int read_settings(const struct arguments *arguments, struct verify_settings *out)
{
    static struct stage_settings settings;   /* large */
    struct config_binding bindings[N_STAGE_SECTIONS];
    long long timeout_ms, n_processes;

    stage_bind(&settings, bindings);
    config_set_defaults(bindings, N_STAGE_SECTIONS);
    TRY(join(arguments, "plugin", settings.reward.plugins));
    TRY(join(arguments, "command", settings.reward.commands));
    TRY(join(arguments, "option", settings.reward.options));
    TRY(argument_int(arguments, "timeout", settings.reward.verifier_timeout_ms, 10, 600000,
                     &timeout_ms));
    TRY(argument_int(arguments, "j", 1, 1, CREW_MAX, &n_processes));
    settings.reward.verifier_timeout_ms = timeout_ms;
    TRY(config_check(bindings, N_STAGE_SECTIONS));
    *out = (struct verify_settings){
        .reward = settings.reward,
        .sandbox = settings.sandbox,
        .n_processes = (int)n_processes,
        .input = arguments->n_positionals > 1 ? arguments->positionals[1] : NULL,
        .defaults = {
            .verifier = arguments->n_positionals ? arguments->positionals[0] : NULL,
            .gold = argument_or(arguments, "gold", ""),
            .pred = argument_get(arguments, "pred"),
            .question = argument_or(arguments, "question", ""),
            .language = argument_or(arguments, "language", "en"),
            .prefill = argument_or(arguments, "prefill", ""),
            .columns = "",
            .accuracy = argument_or(arguments, "accuracy", "math"),
            .is_bare = argument_get(arguments, "bare") != NULL,
        },
    };
    return read_facts(arguments, &out->defaults.facts);
}

/* One line of JSON, however it was typed. */
static int read_columns(const struct arguments *arguments, struct text *out)
{
    const char *typed = argument_or(arguments, "columns", "");
    json_t *value = NULL;

    if (!typed[0])
        return STATUS_OK;
    TRY(json_parse(&value, typed, strlen(typed), "--columns"));
    if (json_is_object(value))
        json_append(out, value);
    json_decref(value);
    return out->length ? STATUS_OK
                       : status_fail(STATUS_CONFIG, "--columns is \"%s\"; it must be an object, "
                                     "{\"name\": ...}", typed);
}

/* Before the first line: a name that is wrong is wrong for all of them. */
static int check_name(struct reward *reward, const char *name)
{
    return name ? reward_check_name(reward, name)
                : status_fail(STATUS_CONFIG,
                              "name a verifier; `hone verify --list` lists them");
}

static int run(const struct command *command, const struct arguments *arguments)
{
    struct verify_settings settings;
    const struct question *question = &settings.defaults;
    int is_stream = argument_get(arguments, "jsonl") != NULL;
    int wants_list = argument_get(arguments, "list") != NULL;
    struct text columns = {0};
    struct judge judge;

    (void)command;
    TRY(read_settings(arguments, &settings));
    TRY(judge_open(&judge, &settings));
    int status = read_columns(arguments, &columns);
    if (columns.length)
        settings.defaults.columns = columns.data;
    if (status == STATUS_OK && !wants_list)
        status = check_name(judge.reward, question->verifier);
    if (status == STATUS_OK && wants_list)
        status = list_verifiers(judge.reward);
    else if (status == STATUS_OK)
        status = is_stream         ? verify_stream(&judge, &settings)
                 : settings.input  ? status_fail(STATUS_CONFIG, "a file of lines needs --jsonl")
                 : !question->pred ? status_fail(STATUS_CONFIG, "--pred is needed, or --jsonl")
                                   : explain(&judge, question);
    judge_close(&judge);
    text_release(&columns);
    return status;
}

const struct command command_verify = {
    "verify", "NAME [FILE.jsonl]", 2, "ask a verifier: one verdict explained, or a stream of them",
    "hone verify math --gold 1/2 --pred 'so the answer is \\boxed{0.5}'\n"
    "hone verify math --gold 1/2 --pred 0.5 --bare\n"
    "hone verify format --pred 'a</think><answer>b</answer>' --prefill '<think>'\n"
    "hone verify math --jsonl -j 4 < predictions.jsonl > verdicts.jsonl\n"
    "hone verify judge --command 'judge=./judge.py' --jsonl predictions.jsonl\n\n"
    "Without a box, a #### line or an answer in words, math takes the last formula or number; in\n"
    "training it does not: --option math.extraction=strict judges as training does.\n\n"
    "NAME is a verifier that is built in, a plugin or an executable (docs/verifiers.md).\n\n"
    "With --jsonl each line of FILE.jsonl or stdin is an object: pred, and as wanted id, gold,\n"
    "mode (\"completion\", or \"answer\" as --bare), gold_mode (\"answer\", or for math also\n"
    "\"completion\": its answer is looked for), question, columns (an object), language, prefill,\n"
    "tokens, group_min, group_max, verifier. Each gives a line on stdout, in the same order:\n"
    "{\"id\", \"outcome\", \"right\", \"score\", \"path\", \"extracted\", \"micros\"}\n"
    "path is the step of math that decided; the others have a \"detail\".\n"
    "A line that cannot be read gives {\"id\", \"line\", \"error\"}, and exit code 4 at the end.\n"
    "Blank lines are passed over.",
    options, run};
