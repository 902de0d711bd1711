/*
 * C++'s standard headers, parsed once: most of the time that a small C++ program takes to compile.
 * The file is made in a compile cell from our own source, when the first compilation asks for it;
 * cells see its directory read-only. The compiler itself ignores it when flags do not match.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/files.h"
#include "common/log.h"
#include "common/status.h"
#include "sandbox/internal.h"

#define HEADER_BYTES (256L << 20)
#define HEADER_CPU_MS 60000
#define HEADER_MEMORY (1536L << 20)
#define HEADER_NAME "/bits/stdc++.h.gch"

/* Named after the broker, so that whoever comes after one that was killed knows it for dead. Where
 * there is no room for it, compilations take longer and are otherwise the same. */
void precompiled_open(struct box_host *host)
{
    char bits[BOX_PATH_BYTES + 16], name[96];

    group_name_prefix(name, sizeof(name), getpid());
    snprintf(host->pch, sizeof(host->pch), "/tmp/%spch", name);
    snprintf(bits, sizeof(bits), "%s/bits", host->pch);
    if (mkdir(host->pch, 0755) < 0) {
        log_debug("sandbox: mkdir %s: %s", host->pch, strerror(errno));
        host->pch[0] = '\0';
    } else if (mkdir(bits, 0755) < 0 || chmod(host->pch, 0755) < 0 || chmod(bits, 0755) < 0) {
        log_debug("sandbox: mkdir %s: %s", bits, strerror(errno));
        precompiled_close(host);
    }
}

void precompiled_close(struct box_host *host)
{
    if (host->pch[0])
        (void)file_remove_tree(host->pch);
    host->pch[0] = '\0';
}

/* Everything that decides how a header is read; file names and what the linker wants are not. */
static int is_flag_of_header(const char *argument)
{
    static const char *const prefixes[] = {"-O", "-std", "-f", "-m", "-D", "-W", "-g", "-pthread"};

    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
        if (strncmp(argument, prefixes[i], strlen(prefixes[i])) == 0)
            return 1;
    return 0;
}

/* The arguments of the compilation that asks, for its header alone. */
static int write_header_bundle(struct text *out, int bundle_fd)
{
    static const char source[] = "#include <bits/stdc++.h>\n";
    const char *arguments[BUNDLE_ARGUMENTS_MAX + 8];
    const struct sandbox_file file = {"stdc++.h", source, sizeof(source) - 1};
    const struct sandbox_compilation compilation = {
        .arguments = arguments, .files = &file, .n_files = 1};
    struct bundle bundle;
    struct stat about;
    size_t n = 0;

    if (fstat(bundle_fd, &about) < 0 || about.st_size == 0)
        return -1;
    unsigned char *bytes = mmap(NULL, (size_t)about.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE,
                                bundle_fd, 0);
    if (bytes == MAP_FAILED)
        return -1;
    int status = bundle_read(&bundle, bytes, (size_t)about.st_size);
    if (status == 0) {
        arguments[n++] = bundle.arguments[0];
        for (size_t i = 1; bundle.arguments[i]; i++)
            if (is_flag_of_header(bundle.arguments[i]))
                arguments[n++] = bundle.arguments[i];
        arguments[n++] = "-x";
        arguments[n++] = "c++-header";
        arguments[n++] = "-o";
        arguments[n++] = "program";
        arguments[n++] = "stdc++.h";
        arguments[n] = NULL;
        status = n > BUNDLE_ARGUMENTS_MAX ? -1 : bundle_write(out, &compilation);
    }
    munmap(bytes, (size_t)about.st_size);
    return status;
}

static int make_header(struct attendant *attendant, int bundle_fd, int result_fd)
{
    struct box_plan plan = {.kind = CELL_COMPILE,
                            .cpu_ms = HEADER_CPU_MS,
                            .wall_ms = 5 * HEADER_CPU_MS,
                            .memory_bytes = HEADER_MEMORY,
                            .output_bytes = BOX_ERRORS_BYTES,
                            .processes = 16,
                            .scratch_bytes = HEADER_BYTES};
    int fd[BOX_N_DESCRIPTORS] = {-1, -1, -1, -1, -1, -1};
    struct box_outcome outcome;
    struct text bundle = {0};

    fd[BOX_SCRIPT] = result_fd;
    int status = write_header_bundle(&bundle, bundle_fd);
    if (status >= 0)
        status = memfd_of_input(&fd[BOX_STDIN], bundle.data, bundle.length);
    if (status >= 0)
        status = box_execute(attendant, &plan, fd, &outcome);
    if (status >= 0) {
        status = outcome.has_result && outcome.result.verdict == SANDBOX_EXITED ? 0 : -1;
        sandbox_result_release(&outcome.result);
    }
    if (fd[BOX_STDIN] >= 0)
        close(fd[BOX_STDIN]);
    text_release(&bundle);
    return status;
}

/* Under the lock: an empty file says that it was tried in vain, which no compilation minds. */
static void make_once(struct attendant *attendant, int bundle_fd, const char *path)
{
    char draft[BOX_PATH_BYTES + 64];
    struct stat about;

    if (stat(path, &about) == 0)
        return;
    snprintf(draft, sizeof(draft), "%s/draft", attendant->host->pch);
    int fd = open(draft, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0644);
    if (fd < 0)
        return;
    if (make_header(attendant, bundle_fd, fd) < 0 && ftruncate(fd, 0) < 0)
        log_debug("sandbox: ftruncate %s: %s", draft, strerror(errno));
    if (fchmod(fd, 0644) < 0 || rename(draft, path) < 0)
        (void)unlink(draft);
    close(fd);
}

void precompiled_need(struct attendant *attendant, int bundle_fd)
{
    char path[BOX_PATH_BYTES + 64];
    struct stat about;

    if (!attendant->host->pch[0])
        return;
    snprintf(path, sizeof(path), "%s" HEADER_NAME, attendant->host->pch);
    if (stat(path, &about) == 0)
        return;
    int lock = open(attendant->host->pch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock < 0)
        return;
    while (flock(lock, LOCK_EX) < 0 && errno == EINTR)
        continue;
    make_once(attendant, bundle_fd, path);
    close(lock);
}
