/* Each thread writes down its own stack in a signal handler, all at once; then they are printed,
 * with names, by the thread that asked. Nothing here takes memory from malloc. */
#include <dirent.h>
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common/files.h"
#include "common/status.h"
#include "common/watchdog.h"

#define MAX_THREADS 64
#define MAX_FRAMES 48
#define ANSWER_MS 2000
#define SIGNAL SIGRTMIN
#define OWN_FRAMES 2          /* the handler, and what the kernel returns to */

struct thread_stack {
    _Atomic pid_t id;         /* is there before n is -1 */
    void *frames[MAX_FRAMES];
    atomic_int n;             /* -1: no answer yet */
};

/* The symbol table of this program, which dladdr() does not look into. */
struct symbols {
    const unsigned char *file;
    size_t n_file;
    const Elf64_Sym *table;
    size_t n;
    const char *names;
    size_t n_names;
    uintptr_t base;
};

static struct thread_stack stacks[MAX_THREADS];

static void note_own_stack(int number)
{
    int error = errno;
    pid_t self = (pid_t)syscall(SYS_gettid);

    (void)number;
    for (int i = 0; i < MAX_THREADS; i++)
        if (stacks[i].n < 0 && stacks[i].id == self)
            stacks[i].n = backtrace(stacks[i].frames, MAX_FRAMES);
    errno = error;
}

int stacks_prepare(void)
{
    struct sigaction action = {.sa_handler = note_own_stack, .sa_flags = SA_RESTART};
    void *frames[4];

    sigemptyset(&action.sa_mask);
    if (sigaction(SIGNAL, &action, NULL))
        return status_fail(STATUS_IO, "cannot handle signal %d: %s", SIGNAL, strerror(errno));
    backtrace(frames, 4);   /* the first call loads a library, which no signal handler may */
    return STATUS_OK;
}

/* getdents64 and not readdir: that would take memory. */
static int list_threads(void)
{
    char entries[8192] __attribute__((aligned(8)));
    int fd = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC), n = 0;

    for (long got; fd >= 0 && (got = syscall(SYS_getdents64, fd, entries, sizeof(entries))) > 0;)
        for (long at = 0; at < got && n < MAX_THREADS;) {
            const struct dirent64 *entry = (const void *)(entries + at);
            pid_t id = (pid_t)strtol(entry->d_name, NULL, 10);
            if (id > 0 && id != (pid_t)syscall(SYS_gettid)) {
                stacks[n].id = id;
                stacks[n++].n = -1;
            }
            at += entry->d_reclen;
        }
    if (fd >= 0)
        close(fd);
    return n;
}

static ssize_t read_task_file(pid_t id, const char *file, char *out, size_t n)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/task/%ld/%s", (long)id, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? 0 : read(fd, out, n - 1);
    if (fd >= 0)
        close(fd);
    out[got > 0 ? got : 0] = '\0';
    return got;
}

/* Threads of libraries block every signal. */
static int takes_signals(pid_t id)
{
    char status[4096];

    read_task_file(id, "status", status, sizeof(status));
    const char *blocked = strstr(status, "SigBlk:");
    return !blocked || !(strtoull(blocked + 7, NULL, 16) >> (SIGNAL - 1) & 1);
}

static void ask_threads(int n)
{
    int64_t end = clock_ms() + ANSWER_MS;
    int n_missing = 0;

    for (int i = 0; i < n; i++)
        if (!takes_signals(stacks[i].id) ||
            syscall(SYS_tgkill, getpid(), stacks[i].id, SIGNAL))
            stacks[i].n = 0;
    do {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        n_missing = 0;
        for (int i = 0; i < n; i++)
            n_missing += stacks[i].n < 0;
    } while (n_missing && clock_ms() < end);
}

/* ---- Names. */

static int is_inside(const struct symbols *symbols, uint64_t at, uint64_t n)
{
    return at <= symbols->n_file && n <= symbols->n_file - at;
}

static void find_table(struct symbols *symbols)
{
    const Elf64_Ehdr *head = (const void *)symbols->file;
    const Elf64_Shdr *parts = (const void *)(symbols->file + head->e_shoff);

    if (!is_inside(symbols, head->e_shoff, (uint64_t)head->e_shnum * sizeof(*parts)))
        return;
    for (int i = 0; i < head->e_shnum; i++) {
        const Elf64_Shdr *part = &parts[i];
        if (part->sh_type != SHT_SYMTAB || part->sh_link >= head->e_shnum)
            continue;
        const Elf64_Shdr *names = &parts[part->sh_link];
        if (!is_inside(symbols, part->sh_offset, part->sh_size) ||
            !is_inside(symbols, names->sh_offset, names->sh_size) || !names->sh_size ||
            symbols->file[names->sh_offset + names->sh_size - 1])
            continue;
        symbols->table = (const void *)(symbols->file + part->sh_offset);
        symbols->n = part->sh_size / sizeof(*symbols->table);
        symbols->names = (const char *)symbols->file + names->sh_offset;
        symbols->n_names = names->sh_size;
    }
}

static void open_symbols(struct symbols *symbols)
{
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    struct stat info;
    Dl_info own;

    if (fd < 0)
        return;
    void *file = fstat(fd, &info) || (size_t)info.st_size < sizeof(Elf64_Ehdr)
                     ? MAP_FAILED
                     : mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (file == MAP_FAILED || !dladdr((void *)(uintptr_t)&stacks_print, &own))
        return;
    symbols->file = file;
    symbols->n_file = (size_t)info.st_size;
    const Elf64_Ehdr *head = file;
    if (memcmp(head->e_ident, ELFMAG, SELFMAG) || head->e_ident[EI_CLASS] != ELFCLASS64)
        return;
    symbols->base = head->e_type == ET_DYN ? (uintptr_t)own.dli_fbase : 0;
    find_table(symbols);
}

static const char *find_own_name(const struct symbols *symbols, uintptr_t address)
{
    for (size_t i = 0; i < symbols->n; i++) {
        const Elf64_Sym *symbol = &symbols->table[i];
        uintptr_t start = symbols->base + symbol->st_value;
        if (ELF64_ST_TYPE(symbol->st_info) == STT_FUNC && address >= start &&
            address < start + symbol->st_size && symbol->st_name < symbols->n_names)
            return symbols->names + symbol->st_name;
    }
    return NULL;
}

static void print_frame(int fd, const struct symbols *symbols, void *frame)
{
    uintptr_t address = (uintptr_t)frame - 1;   /* inside of the call that it returns from */
    Dl_info info = {0};

    int is_known = dladdr((void *)address, &info);
    const char *file = is_known && info.dli_fname ? strrchr(info.dli_fname, '/') : NULL;
    const char *name = find_own_name(symbols, address);
    name = name ? name : is_known && info.dli_sname ? info.dli_sname : "?";
    dprintf(fd, "    %-40s %s+0x%lx\n", name,
            file ? file + 1 : is_known && info.dli_fname ? info.dli_fname : "?",
            (unsigned long)(address - (uintptr_t)info.dli_fbase));
}

/* ---- Printing. */

static void print_kernel_side(int fd, pid_t id)
{
    char text[4096], state[128] = "?", *save = NULL;

    if (read_task_file(id, "status", text, sizeof(text)) > 0 && strstr(text, "State:"))
        snprintf(state, sizeof(state), "%.*s", (int)strcspn(strstr(text, "State:") + 7, "\n"),
                 strstr(text, "State:") + 7);
    dprintf(fd, "  state %s", state);
    if (read_task_file(id, "wchan", text, sizeof(text)) > 0 && strcmp(text, "0"))
        dprintf(fd, ", in the kernel at %s", text);
    dprintf(fd, "\n");
    if (read_task_file(id, "stack", text, sizeof(text)) > 0)   /* for root alone */
        for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
            dprintf(fd, "    kernel: %s\n", line);
}

void stacks_print(int fd)
{
    struct symbols symbols = {0};
    char name[64];

    if (stacks_prepare() < 0)
        return;
    int n = list_threads();
    ask_threads(n);
    open_symbols(&symbols);
    for (int i = 0; i < n; i++) {
        int n_frames = stacks[i].n;
        read_task_file(stacks[i].id, "comm", name, sizeof(name));
        name[strcspn(name, "\n")] = '\0';
        dprintf(fd, "\nthread %ld (%s)\n", (long)stacks[i].id, name);
        print_kernel_side(fd, stacks[i].id);
        if (n_frames <= OWN_FRAMES)
            dprintf(fd, "    (%s)\n", n_frames < 0 ? "does not answer" : "takes no signals");
        for (int k = OWN_FRAMES; k < n_frames; k++)
            print_frame(fd, &symbols, stacks[i].frames[k]);
    }
    if (symbols.file)
        munmap((void *)(uintptr_t)symbols.file, symbols.n_file);
}
