/* Who waits for whom, since when: from <run>/state.json, which the coordinator writes. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/json.h"
#include "common/status.h"
#include "pipeline/report_internal.h"

#define SILENT_SECONDS 5   /* workers speak every second, but for what they compute in one piece */

/* Of the coordinator's process: 'R', 'S', 'T', ... of /proc; 0 when it is gone, -1 when it is on
 * another machine and cannot be asked. */
static int process_state(const char *host, int64_t pid)
{
    char here[64] = "", path[64], line[512], state = 0;

    gethostname(here, sizeof(here) - 1);
    if (strcmp(here, host) != 0)
        return -1;
    snprintf(path, sizeof(path), "/proc/%lld/stat", (long long)pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    size_t n = fread(line, 1, sizeof(line) - 1, file);
    fclose(file);
    line[n] = '\0';
    const char *name_end = strrchr(line, ')');
    if (name_end && name_end[1] == ' ')
        state = name_end[2];
    return state == 'Z' ? 0 : state;
}

static const char *describe_process(int state)
{
    return state == 0     ? "is gone: `hone run` goes on from the last checkpoint"
           : state < 0    ? "is on another machine"
           : state == 'T' ? "is stopped (SIGSTOP): SIGCONT lets it go on"
                          : "runs";
}

static double seconds_of(const json_t *object, const char *key)
{
    int64_t ms = 0;

    if (json_get_int_or(object, key, STATE_FILE, 0, &ms) < 0)
        return 0;
    return (double)ms / 1000.0;
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = "";

    return json_get_text_or(object, key, STATE_FILE, "", &text) < 0 ? "" : text;
}

static int64_t number_of(const json_t *object, const char *key)
{
    int64_t number = 0;

    return json_get_int_or(object, key, STATE_FILE, 0, &number) < 0 ? 0 : number;
}

static void add_row(struct report_grid *grid, const char *who, const char *doing, double since,
                    const char *left, int64_t weights)
{
    char number[REPORT_NUMBER_BYTES];

    report_grid_cell(grid, who);
    report_grid_cell(grid, doing);
    report_grid_cell(grid, report_duration(number, since));
    report_grid_cell(grid, left);
    snprintf(number, sizeof(number), "%lld", (long long)weights);
    report_grid_cell(grid, weights ? number : "-");
}

/* Two rows: what it says itself, and what the coordinator waits for from it. */
static void add_peer(struct report_grid *grid, const json_t *peer, double age)
{
    char doing[256], left[REPORT_NUMBER_BYTES] = "-";
    const char *said = text_of(peer, "doing");
    int is_ready = 0;

    json_get_bool_or(peer, "is_ready", STATE_FILE, 0, &is_ready);
    if (is_ready && seconds_of(peer, "heard_ms") < SILENT_SECONDS)
        add_row(grid, text_of(peer, "name"), said[0] ? said : "has said hello",
                seconds_of(peer, "since_ms") + age, "-", number_of(peer, "weights"));
    else {
        snprintf(doing, sizeof(doing), "is %s; last said: %.95s", is_ready ? "silent" : "gone",
                 said[0] ? said : "hello");
        add_row(grid, text_of(peer, "name"), doing, seconds_of(peer, "heard_ms") + age, "-",
                number_of(peer, "weights"));
    }
    if (number_of(peer, "weights_sent") != number_of(peer, "weights_acked")) {
        snprintf(doing, sizeof(doing), "waits for WEIGHTS_STATE %lld of %.31s",
                 (long long)number_of(peer, "weights_sent"), text_of(peer, "name"));
        add_row(grid, "coordinator", doing, NAN, "-", number_of(peer, "weights_sent"));
    }
    if (number_of(peer, "n_groups") > 0) {
        report_duration(left, seconds_of(peer, "left_ms") - age);
        snprintf(doing, sizeof(doing), "waits for GROUP of %.31s: %lld, the oldest is lease %lld, "
                 "task %lld", text_of(peer, "name"), (long long)number_of(peer, "n_groups"),
                 (long long)number_of(peer, "lease"), (long long)number_of(peer, "task"));
        add_row(grid, "coordinator", doing, seconds_of(peer, "waited_ms") + age, left,
                number_of(peer, "weights_sent"));
    }
}

static void print_messages(struct text *out, const json_t *state)
{
    const json_t *list = json_object_get(state, "messages");

    text_print(out, "\nlast messages:\n");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *note = json_array_get(list, i);
        int64_t unix_ms = number_of(note, "unix_ms");
        time_t seconds = (time_t)(unix_ms / 1000);
        char clock[32] = "";
        struct tm local;
        int is_out = 0;
        json_get_bool_or(note, "is_out", STATE_FILE, 0, &is_out);
        if (localtime_r(&seconds, &local))
            strftime(clock, sizeof(clock), "%H:%M:%S", &local);
        text_print(out, "  %s.%03d  %s %-31.31s  %-13.13s %lld\n", clock, (int)(unix_ms % 1000),
                   is_out ? "to  " : "from", text_of(note, "peer"), text_of(note, "kind"),
                   (long long)number_of(note, "number"));
    }
}

static void print_state(struct text *out, const json_t *state, int with_messages)
{
    static const char *const heads[] = {"who", "is at", "since", "deadline in", "weights"};
    double age = (double)(clock_unix_ms() - number_of(state, "unix_ms")) / 1000.0;
    struct report_grid grid = {.alignment = "llrrr"};
    char number[REPORT_NUMBER_BYTES], left[REPORT_NUMBER_BYTES] = "-";
    const json_t *peers = json_object_get(state, "peers");

    age = age > 0 ? age : 0;
    text_print(out, "\ncoordinator %.63s, pid %lld, %s; as of %s ago\n", text_of(state, "host"),
               (long long)number_of(state, "pid"),
               describe_process(process_state(text_of(state, "host"), number_of(state, "pid"))),
               report_duration(number, age));
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
        report_grid_cell(&grid, heads[i]);
    if (number_of(state, "stuck_in_ms") >= 0)
        report_duration(left, seconds_of(state, "stuck_in_ms") - age);
    add_row(&grid, "coordinator", text_of(state, "doing"), seconds_of(state, "since_ms") + age,
            left, number_of(state, "weights"));
    for (size_t i = 0; i < json_array_size(peers); i++)
        add_peer(&grid, json_array_get(peers, i), age);
    report_grid_print(&grid, out);
    if (with_messages)
        print_messages(out, state);
}

int report_state(struct text *out, const char *run, int as_json, int with_messages)
{
    char path[FILE_PATH_MAX];
    json_t *state;

    TRY(file_join(path, run, STATE_FILE));
    if (!file_exists(path)) {   /* nothing runs, and nothing was killed */
        if (as_json)
            text_print(out, "null");
        return STATUS_OK;
    }
    TRY(json_read_file(&state, path, STATE_MAX_BYTES));
    if (as_json)
        json_append(out, state);
    else
        print_state(out, state, with_messages);
    json_decref(state);
    return STATUS_OK;
}
