#include <stddef.h>
#include <string.h>

#include "common/status.h"
#include "sandbox/sandbox.h"

#define FIELD(member) #member, CONFIG_INT, offsetof(struct sandbox_config, member)

static const struct config_field fields[] = {
    {FIELD(cpu_ms), "1000", 1, 3600e3, NULL, "CPU time of one run, all threads, in milliseconds."},
    {FIELD(wall_ms), "4000", 1, 3600e3, NULL, "Wall clock time of one run, in milliseconds."},
    {FIELD(compile_ms), "10000", 100, 3600e3, NULL,
     "Wall clock and CPU time of one compilation, in milliseconds."},
    {FIELD(memory_bytes), "268435456", 16777216, 1099511627776.0, NULL,
     "Memory of one run, in bytes."},
    {FIELD(output_bytes), "1048576", 1, 1073741824.0, NULL,
     "Largest standard output of one run, in bytes."},
    {FIELD(processes), "8", 1, 1024, NULL, "Threads of one run, the main one included."},
    {"compiler", CONFIG_STRING, offsetof(struct sandbox_config, compiler), "auto", 0, 0, NULL,
     "Path of the C compiler below /usr; auto takes the first of cc, gcc and clang in /usr/bin."},
    {0},
};

static int check_config(const void *bytes)
{
    const struct sandbox_config *config = bytes;

    if (config->wall_ms < config->cpu_ms)
        return status_fail(STATUS_CONFIG,
                           "sandbox.wall_ms: %lld is below sandbox.cpu_ms %lld: raise wall_ms",
                           (long long)config->wall_ms, (long long)config->cpu_ms);
    if (strcmp(config->compiler, "auto") != 0 && config->compiler[0] != '/')
        return status_fail(STATUS_CONFIG,
                           "sandbox.compiler: '%s' is no absolute path: write auto or the whole "
                           "path, such as /usr/bin/gcc",
                           config->compiler);
    return 0;
}

const struct config_section sandbox_config_section = {
    "sandbox", "The box in which programs that nobody trusts are compiled and run.", fields,
    check_config};
