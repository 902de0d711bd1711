#include "tasks/toy.h"

#include <stdio.h>
#include <string.h>

#include "common/files.h"
#include "common/json.h"
#include "common/status.h"
#include "tasks/tasks.h"

#define N_KINDS 4
#define FALLBACK_KIND 0            /* its questions never run out */
#define CLEAN_TAGS_PERCENT 45      /* of pre-training documents */
#define MAX_DRAWS 200              /* until an unused question is given up for a repeated one */
#define MAX_DOCUMENTS 10000000
#define MAX_TASKS 1000000
#define MAX_HELDOUT 2000

static const struct toy_kind kinds[N_KINDS] = {
    /* name, verifier, pre-training %, train %, atoms %, guesses % */
    {"chain", "math", 50, 50, 20, 40, toy_chain_draw_task, toy_chain_draw_atom,
     toy_chain_write_answer},
    {"search", "countdown", 20, 20, 20, 40, toy_search_draw_task, toy_search_draw_atom,
     toy_search_write_answer},
    {"code", "code", 20, 25, 10, 45, toy_code_draw_task, toy_code_draw_atom,
     toy_code_write_answer},
    {"fact", "exact", 10, 5, 0, 0, toy_fact_draw_task, NULL, toy_fact_write_answer},
};
#define FACT_KIND 3

/* Each file has its own stream, so that the size of one changes no other but through what is
 * held out. */
enum { STREAM_HELDOUT = 1, STREAM_TRAIN, STREAM_PRETRAIN, STREAM_GENERAL };

/* ---- Small things for the kinds. */
int toy_chance(struct random_stream *stream, int percent)
{
    return random_below(stream, 100) < (uint64_t)percent;
}

int toy_between(struct random_stream *stream, int low, int high)
{
    return low + (int)random_below(stream, (uint64_t)(high - low + 1));
}

void toy_append_link(struct text *out, struct random_stream *stream, enum toy_language language)
{
    static const char *const words[2][3] = {{" then ", " so ", " next "},
                                            {" 然后 ", " 所以 ", " 接着 "}};
    int row = language == TOY_MIXED ? toy_between(stream, 0, 1) : 0;
    const char *word = words[row][toy_between(stream, 0, 2)];

    text_append(out, word, strlen(word));
}

/* ---- A set of keys; hashes alone are kept: a false match costs one more draw. */
struct key_set {
    uint64_t *slots;   /* 0: free */
    size_t n_slots;    /* a power of two, at least twice the keys */
};

static void key_set_init(struct key_set *set, size_t n_keys)
{
    set->n_slots = 16;
    while (set->n_slots < 2 * n_keys)
        set->n_slots *= 2;
    set->slots = mem_alloc(set->n_slots, sizeof(*set->slots));
}

static void key_set_release(struct key_set *set)
{
    mem_free(set->slots);
}

/* Where the key is, or where it would be put. */
static uint64_t *key_set_find(const struct key_set *set, const char *key, uint64_t *hash)
{
    size_t at;

    *hash = 1469598103934665603u;   /* FNV-1a */
    for (; *key; key++)
        *hash = (*hash ^ (unsigned char)*key) * 1099511628211u;
    *hash |= 1;
    at = (size_t)(random_mix(*hash, 0) & (set->n_slots - 1));
    while (set->slots[at] && set->slots[at] != *hash)
        at = (at + 1) & (set->n_slots - 1);
    return &set->slots[at];
}

static int key_set_has(const struct key_set *set, const char *key)
{
    uint64_t hash;

    return *key_set_find(set, key, &hash) != 0;
}

static void key_set_add(struct key_set *set, const char *key)
{
    uint64_t hash, *slot = key_set_find(set, key, &hash);

    *slot = hash;
}

/* ---- Which kind each row is of: exact shares, shuffled. */
static unsigned char *share_out(int64_t n, int is_pretrain, struct random_stream *stream)
{
    unsigned char *rows = mem_alloc((size_t)n + 1, 1);
    int64_t filled = 0, percent = 0;

    for (int kind = 0; kind < N_KINDS; kind++) {
        percent += is_pretrain ? kinds[kind].pretrain_percent : kinds[kind].train_percent;
        while (filled < n * percent / 100)
            rows[filled++] = (unsigned char)kind;
    }
    if (filled != n)
        BUG("the shares of the toy kinds sum to %lld %%", (long long)percent);
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t other = (int64_t)random_below(stream, (uint64_t)i + 1);
        unsigned char swap = rows[i];

        rows[i] = rows[other];
        rows[other] = swap;
    }
    return rows;
}

/* ---- Task files. */
static void append_task(struct text *out, const struct toy_kind *kind, const struct toy_task *task)
{
    text_print(out, "{\"question\":");
    json_append_string(out, task->question, strlen(task->question));
    text_print(out, ",\"reference\":");
    if (task->reference[0] == '{')
        text_print(out, "%s", task->reference);
    else
        json_append_string(out, task->reference, strlen(task->reference));
    text_print(out, ",\"verifier\":\"%s\",\"kind\":\"%s\",\"language\":\"en\"}\n", kind->verifier,
               kind->name);
}

/* Draws a question that neither set has; 0 when there seems to be none. */
static int draw_unused(const struct toy_kind *kind, struct toy_task *task,
                       struct random_stream *stream, const struct key_set *heldout,
                       const struct key_set *used, int is_heldout)
{
    for (int i = 0; i < MAX_DRAWS; i++) {
        kind->draw_task(task, stream, is_heldout);
        if (!key_set_has(heldout, task->key) && !(used && key_set_has(used, task->key)))
            return 1;
    }
    return 0;
}

static void write_heldout(struct text *out, int64_t n, uint64_t seed, struct key_set *heldout)
{
    struct random_stream stream = {random_mix(seed, STREAM_HELDOUT), 0};
    unsigned char *rows = share_out(n, 0, &stream);
    struct toy_task task;

    for (int64_t i = 0; i < n; i++) {
        const struct toy_kind *kind = &kinds[rows[i]];

        if (!draw_unused(kind, &task, &stream, heldout, NULL, 1)) {
            kind = &kinds[FALLBACK_KIND];
            if (!draw_unused(kind, &task, &stream, heldout, NULL, 1))
                BUG("the toy kind %s has no question left", kind->name);
        }
        key_set_add(heldout, task.key);
        append_task(out, kind, &task);
    }
    mem_free(rows);
}

/* A task that is not held out. */
static void draw_open(const struct toy_kind *kind, struct toy_task *task,
                      struct random_stream *stream, const struct key_set *heldout)
{
    do {
        kind->draw_task(task, stream, 0);
    } while (key_set_has(heldout, task->key));
}

static void write_train(struct text *out, int64_t n, uint64_t seed, const struct key_set *heldout)
{
    struct random_stream stream = {random_mix(seed, STREAM_TRAIN), 0};
    unsigned char *rows = share_out(n, 0, &stream);
    struct key_set used;
    struct toy_task task;

    key_set_init(&used, (size_t)n);
    for (int64_t i = 0; i < n; i++) {
        const struct toy_kind *kind = &kinds[rows[i]];

        if (!draw_unused(kind, &task, &stream, heldout, &used, 0))
            draw_open(kind, &task, &stream, heldout);
        key_set_add(&used, task.key);
        append_task(out, kind, &task);
    }
    key_set_release(&used);
    mem_free(rows);
}

/* ---- Documents. */
static void append_tagged(struct text *out, const struct text *think, const struct text *answer)
{
    if (think->length)
        text_print(out, "<think>%s</think>", think->data);
    text_print(out, "<answer>%s</answer>", answer->data);
}

/* One tag is missing or doubled. */
static void append_sloppy(struct text *out, struct random_stream *stream, const struct text *think,
                          const struct text *answer)
{
    static const char *const reasoned[] = {
        "%s</think><answer>%s</answer>",
        "<think>%s<answer>%s</answer>",
        "<think>%s</think>=%s",
        "<think>%s</think><answer>%s",
        "<think>%s</think>%s</answer>",
        "<think><think>%s</think><answer>%s</answer>",
        "<think>%s</think><answer>%s</answer></answer>",
    };
    static const char *const direct[] = {
        "=%s",
        "<answer>%s",
        "%s</answer>",
        "<answer>%s</answer></answer>",
    };
    const char *const *forms = think->length ? reasoned : direct;
    int n = think->length ? (int)(sizeof(reasoned) / sizeof(reasoned[0]))
                          : (int)(sizeof(direct) / sizeof(direct[0]));
    const struct text *parts[2] = {think->length ? think : answer, answer};
    const char *form = forms[toy_between(stream, 0, n - 1)];

    for (int part = 0; *form; form++) {
        if (form[0] == '%' && form[1] == 's') {
            text_append(out, parts[part]->data, parts[part]->length);
            part++;
            form++;
        } else {
            text_append(out, form, 1);
        }
    }
}

static void append_text_row(struct text *out, const struct toy_task *task,
                            const struct chat_template *chat, const struct text *reply)
{
    struct text whole = {0};

    text_print(&whole, "%s%s%s%s", chat->before, task->question, chat->after, reply->data);
    text_print(out, "{\"text\":");
    json_append_string(out, whole.data, whole.length);
    text_print(out, "}\n");
    text_release(&whole);
}

static enum toy_style draw_style(const struct toy_kind *kind, struct random_stream *stream)
{
    int draw = toy_between(stream, 0, 99);

    if (draw < kind->atom_percent)
        return TOY_ATOM;
    return draw < kind->atom_percent + kind->guess_percent ? TOY_GUESS : TOY_STEPS;
}

static void write_pretrain(struct text *out, int64_t n, uint64_t seed,
                           const struct chat_template *chat, const struct key_set *heldout)
{
    struct random_stream stream = {random_mix(seed, STREAM_PRETRAIN), 0};
    unsigned char *rows = share_out(n, 1, &stream);
    struct text think = {0}, answer = {0}, reply = {0};
    struct toy_task task;

    for (int64_t i = 0; i < n; i++) {
        const struct toy_kind *kind = &kinds[rows[i]];
        enum toy_style style = draw_style(kind, &stream);

        text_clear(&think);
        text_clear(&answer);
        text_clear(&reply);
        if (style == TOY_ATOM)
            kind->draw_atom(&task, &stream);
        else
            draw_open(kind, &task, &stream, heldout);
        kind->write_answer(&task, &stream, style, TOY_MIXED, &think, &answer);
        if (toy_chance(&stream, CLEAN_TAGS_PERCENT))
            append_tagged(&reply, &think, &answer);
        else
            append_sloppy(&reply, &stream, &think, &answer);
        append_text_row(out, &task, chat, &reply);
    }
    text_release(&think);
    text_release(&answer);
    text_release(&reply);
    mem_free(rows);
}

static void write_general(struct text *out, int64_t n, uint64_t seed,
                          const struct key_set *heldout)
{
    struct random_stream stream = {random_mix(seed, STREAM_GENERAL), 0};
    const struct toy_kind *kind = &kinds[FACT_KIND];
    struct text think = {0}, answer = {0}, reply = {0};
    struct toy_task task;

    for (int64_t i = 0; i < n; i++) {
        text_clear(&think);
        text_clear(&answer);
        text_clear(&reply);
        draw_open(kind, &task, &stream, heldout);
        kind->write_answer(&task, &stream, TOY_STEPS, TOY_ENGLISH, &think, &answer);
        append_tagged(&reply, &think, &answer);
        text_print(out, "{\"messages\":[{\"role\":\"user\",\"content\":");
        json_append_string(out, task.question, strlen(task.question));
        text_print(out, "},{\"role\":\"assistant\",\"content\":");
        json_append_string(out, reply.data, reply.length);
        text_print(out, "}]}\n");
    }
    text_release(&think);
    text_release(&answer);
    text_release(&reply);
}

/* ---- The whole world. */
static int check_count(const char *name, int64_t n, int64_t maximum)
{
    if (n < 0 || n > maximum)
        return status_fail(STATUS_CONFIG, "toy world: %s is %lld; 0 to %lld are allowed", name,
                           (long long)n, (long long)maximum);
    return STATUS_OK;
}

static int write_file(const char *directory, const char *name, struct text *text)
{
    char path[FILE_PATH_MAX];
    int status = file_join(path, directory, name);

    if (status == STATUS_OK && text->failed)
        status = status_fail(STATUS_NOMEM, "%s is over %d MiB: ask for fewer rows", path, 1024);
    if (status == STATUS_OK)
        status = file_write_atomic(path, text->data ? text->data : "", text->length);
    text_clear(text);
    return status;
}

int toy_world_write(const char *directory, const struct toy_options *options)
{
    struct chat_template chat;
    struct key_set heldout;
    struct text out = {0};
    int status;

    TRY(check_count("n_documents", options->n_documents, MAX_DOCUMENTS));
    TRY(check_count("n_train", options->n_train, MAX_TASKS));
    TRY(check_count("n_heldout", options->n_heldout, MAX_HELDOUT));
    TRY(check_count("n_general", options->n_general, MAX_DOCUMENTS));
    TRY(chat_template_init(&chat, "toy"));
    key_set_init(&heldout, (size_t)options->n_heldout);
    toy_tokenizer_write(&out);
    TRY_OUT(write_file(directory, "tokenizer.json", &out));
    write_heldout(&out, options->n_heldout, options->seed, &heldout);
    TRY_OUT(write_file(directory, "heldout.jsonl", &out));
    write_train(&out, options->n_train, options->seed, &heldout);
    TRY_OUT(write_file(directory, "train.jsonl", &out));
    write_general(&out, options->n_general, options->seed, &heldout);
    TRY_OUT(write_file(directory, "general.jsonl", &out));
    write_pretrain(&out, options->n_documents, options->seed, &chat, &heldout);
    TRY_OUT(write_file(directory, "pretrain.jsonl", &out));
out:
    text_release(&out);
    key_set_release(&heldout);
    chat_template_release(&chat);
    return status;
}
