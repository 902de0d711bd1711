#include "tests/integration/support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define N_PATHS 16

void yield_briefly(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
}

int is_sanitized(void)
{
    char self[FILE_PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

    self[n > 0 ? n : 0] = '\0';
    return strstr(self, "/asan/") || strstr(self, "/tsan/");
}

/* ---- Places. */

/* Tests are build/<mode>/tests/<name>, the program is build/<mode>/hone. */
const char *built(const char *name)
{
    static char path[FILE_PATH_MAX];
    char self[FILE_PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

    assert_true(n > 0);
    self[n] = '\0';
    *strrchr(self, '/') = '\0';
    *strrchr(self, '/') = '\0';
    snprintf(path, sizeof(path), "%.3000s/%.256s", self, name);
    return path;
}

const char *plugin_path(const char *name)
{
    char file[256];

    snprintf(file, sizeof(file), "plugin/%s.so", name);
    const char *path = built(file);
    if (!file_exists(path))
        fail_msg("%s is missing; build it with make", path);
    return path;
}

const char *in_place(const struct place *place, const char *format, ...)
{
    static char paths[N_PATHS][FILE_PATH_MAX];
    static unsigned turn;
    char *path = paths[turn++ % N_PATHS], name[FILE_PATH_MAX - 512];
    va_list list;

    va_start(list, format);
    vsnprintf(name, sizeof(name), format, list);
    va_end(list);
    snprintf(path, FILE_PATH_MAX, "%s/%s", place->directory, name);
    return path;
}

void place_write(const struct place *place, const char *path, const char *text)
{
    char directory[FILE_PATH_MAX];

    snprintf(directory, sizeof(directory), "%s", in_place(place, "%s", path));
    *strrchr(directory, '/') = '\0';
    assert_int_equal(file_make_directories(directory), STATUS_OK);
    assert_int_equal(file_write_atomic(in_place(place, "%s", path), text, strlen(text)), STATUS_OK);
}

static void copy_file(const char *from, const char *to)
{
    struct text text = {.maximum = (size_t)1 << 32};

    assert_int_equal(file_read(from, (size_t)1 << 32, &text), STATUS_OK);
    assert_int_equal(file_write_atomic(to, text.data ? text.data : "", text.length), STATUS_OK);
    text_release(&text);
}

static void copy_tree(const char *from, const char *to)
{
    DIR *directory = opendir(from);
    struct dirent *entry;

    assert_non_null(directory);
    assert_int_equal(file_make_directories(to), STATUS_OK);
    while ((entry = readdir(directory))) {
        char source[FILE_PATH_MAX], target[FILE_PATH_MAX];
        struct stat info;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        assert_int_equal(file_join(source, from, entry->d_name), STATUS_OK);
        assert_int_equal(file_join(target, to, entry->d_name), STATUS_OK);
        assert_int_equal(lstat(source, &info), 0);
        if (S_ISDIR(info.st_mode))
            copy_tree(source, target);
        else if (S_ISREG(info.st_mode))
            copy_file(source, target);
    }
    closedir(directory);
}

void place_copy(const struct place *place, const char *from, const char *to)
{
    struct stat info;
    const char *source = in_place(place, "%s", from), *target = in_place(place, "%s", to);

    assert_int_equal(stat(source, &info), 0);
    if (S_ISDIR(info.st_mode))
        copy_tree(source, target);
    else
        copy_file(source, target);
}

void place_make(struct place *place)
{
    struct program program;

    snprintf(place->directory, sizeof(place->directory), "/tmp/hone-test-XXXXXX");
    assert_non_null(mkdtemp(place->directory));
    if (!file_exists("configs/debug/tiny.yaml"))
        fail_msg("configs/debug/tiny.yaml is not here; start the test at the root of the tree");
    copy_file("configs/debug/tiny.yaml", in_place(place, RECIPE));
    HONE(&program, place, "toy", "run/debug/world", "--documents", "600", "--train", "200",
         "--heldout", "40", "--general", "30");
    assert_ends(&program, 0, "wrote run/debug/world");
}

void place_remove(struct place *place)
{
    WAIT_UNTIL(count_processes(place) == 0);
    assert_int_equal(file_remove_tree(place->directory), STATUS_OK);
}

/* ---- Programs. */

const char *program_input = "/dev/null";

static void become(const struct place *place, const char *output, char **arguments)
{
    int file = open(output, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    int input = open(program_input, O_RDONLY);

    prctl(PR_SET_PDEATHSIG, SIGKILL);   /* a test that fails leaves nothing behind */
    if (file < 0 || input < 0 || chdir(place->directory) || dup2(input, 0) < 0 ||
        dup2(file, 1) < 0 || dup2(file, 2) < 0)
        _exit(126);
    close(file);
    close(input);
    execv(arguments[0], arguments);
    _exit(127);
}

const char *hone_program = "hone";

void start_hone(struct program *program, const struct place *place, const char *const *arguments)
{
    const char *command[64] = {built(hone_program)};

    for (size_t i = 0; arguments[i]; i++) {
        assert_true(i + 2 < sizeof(command) / sizeof(command[0]));
        command[i + 1] = arguments[i];
    }
    start_command(program, place, command);
}

void start_command(struct program *program, const struct place *place, const char *const *command)
{
    static unsigned number;

    program->place = place;
    snprintf(program->output, sizeof(program->output), "%s/output-%u.txt", place->directory,
             number++);
    program->pid = fork();
    assert_true(program->pid >= 0);
    if (program->pid == 0)
        become(place, program->output, (char **)(uintptr_t)command);
}

static void read_output(const struct program *program, struct text *text)
{
    if (file_exists(program->output))
        assert_int_equal(file_read(program->output, (size_t)1 << 30, text), STATUS_OK);
}

void show_output(const struct program *program)
{
    struct text text = {0};

    read_output(program, &text);
    fprintf(stderr, "---- output of hone:\n%s----\n", text.data ? text.data : "");
    text_release(&text);
}

static int code_of(int result)
{
    return WIFSIGNALED(result) ? 128 + WTERMSIG(result) : WEXITSTATUS(result);
}

int wait_for_exit(struct program *program)
{
    int64_t end = clock_ms() + DEADLINE_MS;
    int result;
    pid_t ended;

    while ((ended = waitpid(program->pid, &result, WNOHANG)) == 0) {
        if (clock_ms() > end) {
            kill(program->pid, SIGKILL);
            show_output(program);
            fail_msg("hone did not end within %d ms", DEADLINE_MS);
        }
        yield_briefly();
    }
    assert_int_equal(ended, program->pid);
    return code_of(result);
}

int is_running(struct program *program)
{
    siginfo_t info = {0};

    return waitid(P_PID, (id_t)program->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == 0;
}

int count_lines(const struct program *program, const char *part)
{
    struct text text = {0};
    int n = 0;

    read_output(program, &text);
    for (char *line = text.data, *next; line && *line; line = next) {
        char *end = strchr(line, '\n');
        next = end ? end + 1 : NULL;
        if (end)
            *end = '\0';
        n += strstr(line, part) != NULL;
    }
    text_release(&text);
    return n;
}

void run_hone(struct program *program, const struct place *place, const char *const *arguments)
{
    start_hone(program, place, arguments);
}

void place_make_quiet(struct place *place, const char *const *arguments)
{
    const char *list[32] = {"run", RECIPE, "--run", "run/base", "--stage", "base"};
    struct program program;

    for (size_t i = 0; arguments[i]; i++) {
        assert_true(i + 7 < sizeof(list) / sizeof(list[0]));
        list[i + 6] = arguments[i];
    }
    place_make(place);
    run_hone(&program, place, list);
    assert_ends(&program, 0, "stage base is done");
    place_copy(place, "run/base", "run/quiet");
    HONE(&program, place, "run", "--run", "run/quiet", "--stage", "zero");
    assert_ends(&program, 0, "stage zero is done");
    assert_int_equal(count_lines(&program, "warning"), 0);
}

void assert_ends(struct program *program, int code, const char *part)
{
    int ended = wait_for_exit(program);

    if (SAYS(program, "Sanitizer")) {   /* of a worker too, whose exit code nobody sees */
        show_output(program);
        fail_msg("a sanitizer has found something");
    }
    if (ended != code || (part && !SAYS(program, part))) {
        show_output(program);
        fail_msg("hone ended with code %d, wanted %d and a line with \"%s\"", ended, code,
                 part ? part : "");
    }
}

/* ---- Processes: those that work in the directory of the place. */

static int works_in(pid_t pid, const struct place *place)
{
    char link[64], directory[FILE_PATH_MAX];

    snprintf(link, sizeof(link), "/proc/%ld/cwd", (long)pid);
    ssize_t n = readlink(link, directory, sizeof(directory) - 1);
    directory[n > 0 ? n : 0] = '\0';
    return strcmp(directory, place->directory) == 0;
}

static int has_argument(pid_t pid, const char *argument)
{
    char path[64], line[8192];
    int found = 0;

    snprintf(path, sizeof(path), "/proc/%ld/cmdline", (long)pid);
    FILE *file = fopen(path, "r");
    size_t n = file ? fread(line, 1, sizeof(line) - 1, file) : 0;
    line[n] = '\0';
    for (size_t i = 0; i < n; i += strlen(line + i) + 1)
        found |= strcmp(line + i, argument) == 0;
    if (file)
        fclose(file);
    return found;
}

static int list_processes(const struct place *place, pid_t pids[MAX_PROCESSES])
{
    DIR *directory = opendir("/proc");
    struct dirent *entry;
    int n = 0;

    assert_non_null(directory);
    while ((entry = readdir(directory)) && n < MAX_PROCESSES) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (pid > 0 && works_in(pid, place))
            pids[n++] = pid;
    }
    closedir(directory);
    return n;
}

int count_processes(const struct place *place)
{
    pid_t pids[MAX_PROCESSES];

    return list_processes(place, pids);
}

pid_t find_worker(const struct place *place, const char *name)
{
    pid_t pids[MAX_PROCESSES];
    int n = list_processes(place, pids);

    for (int i = 0; i < n; i++)
        if (has_argument(pids[i], "worker") && has_argument(pids[i], name))
            return pids[i];
    return 0;
}

long cpu_ticks(pid_t pid)
{
    char path[64], line[1024];
    unsigned long user, system;

    snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return -1;
    size_t n = fread(line, 1, sizeof(line) - 1, file);
    fclose(file);
    line[n] = '\0';
    char *after_name = strrchr(line, ')');
    if (!after_name ||
        sscanf(after_name + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
               &system) != 2)
        return -1;
    return (long)(user + system);
}

/* ---- Run directories. */

static void append_rows(sqlite3_stmt *statement, struct text *out)
{
    while (sqlite3_step(statement) == SQLITE_ROW) {
        for (int i = 0; i < sqlite3_column_count(statement); i++) {
            const char *value = (const char *)sqlite3_column_text(statement, i);
            text_print(out, "%s%s", i ? "|" : "", value ? value : "");
        }
        text_print(out, "\n");
    }
}

char *ask(const struct place *place, const char *run, const char *sql)
{
    struct text out = {0};
    sqlite3 *database = NULL;
    sqlite3_stmt *statement = NULL;

    text_append(&out, "", 0);
    int code = sqlite3_open_v2(in_place(place, "%s/run.db", run), &database, SQLITE_OPEN_READWRITE,
                               NULL);
    if (code == SQLITE_OK) {
        sqlite3_busy_timeout(database, DEADLINE_MS);
        if (sqlite3_prepare_v2(database, sql, -1, &statement, NULL) == SQLITE_OK)
            append_rows(statement, &out);
        sqlite3_finalize(statement);
    }
    sqlite3_close(database);
    return out.data ? out.data : mem_copy_text("");
}

long ask_number(const struct place *place, const char *run, const char *sql)
{
    char *rows = ask(place, run, sql), *end;
    long number = strtol(rows, &end, 10);

    if (end == rows)
        number = -1;
    mem_free(rows);
    return number;
}

long steps_of(const struct place *place, const char *run, const char *stage)
{
    char sql[256];

    snprintf(sql, sizeof(sql), "SELECT coalesce(max(step), 0) FROM step JOIN stage ON stage.id = "
             "step.stage_id WHERE stage.name = '%s'", stage);
    return ask_number(place, run, sql);
}

static void assert_same_rows(const struct place *place, const char *run, const char *other,
                             const char *what, const char *sql)
{
    char *rows = ask(place, run, sql), *others = ask(place, other, sql);
    size_t at = 0;

    assert_true(rows[0] != '\0');
    if (strcmp(rows, others) != 0) {
        while (rows[at] == others[at])
            at++;
        while (at > 0 && rows[at - 1] != '\n')
            at--;
        fail_msg("%s of %s and %s differ first here:\n%.300s\n---\n%.300s", what, run, other,
                 rows + at, others + at);
    }
    mem_free(rows);
    mem_free(others);
}

static void assert_same_file(const struct place *place, const char *run, const char *other,
                             const char *name)
{
    struct digest one, two;
    const char *path = in_place(place, "%s/%s", run, name);
    const char *other_path = in_place(place, "%s/%s", other, name);

    assert_int_equal(digest_of_file(&one, path), STATUS_OK);
    assert_int_equal(digest_of_file(&two, other_path), STATUS_OK);
    if (memcmp(&one, &two, sizeof(one)) != 0)
        fail_msg("%s and %s differ", path, other_path);
}

void assert_same_runs(const struct place *place, const char *run, const char *other)
{
    static const char newest[] =
        "SELECT path FROM checkpoint c WHERE step = (SELECT max(step) FROM checkpoint d"
        " WHERE d.stage_id = c.stage_id) ORDER BY path";
    char *paths = ask(place, run, newest);

    assert_same_rows(place, run, other, "checkpoints", newest);
    for (char *path = paths, *end; (end = strchr(path, '\n')); path = end + 1) {
        *end = '\0';
        static const char *const files[] = {"model.safetensors", "optimizer.safetensors",
                                            "config.json", "tokenizer.json", "manifest.json"};
        for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
            char name[FILE_PATH_MAX];
            assert_int_equal(file_join(name, path, files[i]), STATUS_OK);
            assert_same_file(place, run, other, name);
        }
    }
    mem_free(paths);
    assert_same_rows(place, run, other, "metrics",
                     "SELECT s.name, m.step, m.name, printf('%!.17g', m.value) FROM metric m"
                     " JOIN stage s ON s.id = m.stage_id WHERE m.wall_value IS NULL"
                     " ORDER BY s.name, m.step, m.name");
    assert_same_rows(place, run, other, "samples",
                     "SELECT t.name, g.step, g.purpose, g.task_id, s.position, s.finish,"
                     " hex(s.tokens), hex(s.logprobs), s.weight_version_min, s.weight_version_max,"
                     " printf('%!.17g', s.reward), printf('%!.17g', s.advantage), s.masked"
                     " FROM sample s JOIN sample_group g ON g.id = s.group_id"
                     " JOIN stage t ON t.id = g.stage_id"
                     " ORDER BY t.name, g.step, g.purpose, g.id, s.position");
    assert_same_rows(place, run, other, "scores",
                     "SELECT stage, step, purpose, name, weight, printf('%!.17g', value), outcome,"
                     " count(*) FROM v_score GROUP BY 1, 2, 3, 4, 5, 6, 7"
                     " ORDER BY 1, 2, 3, 4, 5, 6, 7");
}

void assert_same_databases(const struct place *place, const char *run, const char *other)
{
    static const char tables[] =
        "SELECT t.name || '|' || group_concat('quote(' || c.name || ')', '||'',''||')"
        " FROM sqlite_schema t JOIN pragma_table_info(t.name) c WHERE t.type = 'table'"
        " AND c.name NOT LIKE 'wall%' AND c.name NOT LIKE 'created%' GROUP BY t.name";
    char *list = ask(place, run, tables);

    for (char *line = list, *end; (end = strchr(line, '\n')); line = end + 1) {
        struct text sql = {0};
        *end = '\0';
        char *columns = strchr(line, '|');
        *columns++ = '\0';
        text_print(&sql, "SELECT %s AS row FROM %s ORDER BY row", columns, line);
        char *rows = ask(place, run, sql.data);
        if (rows[0])
            assert_same_rows(place, run, other, line, sql.data);
        mem_free(rows);
        text_release(&sql);
    }
    mem_free(list);
    assert_same_runs(place, run, other);
}
