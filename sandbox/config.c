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
    {"cpp_compiler", CONFIG_STRING, offsetof(struct sandbox_config, cpp_compiler), "auto", 0, 0,
     NULL, "Path of the C++ compiler below /usr; auto takes the first of g++ and clang++."},
    {"c_flags", CONFIG_LIST, offsetof(struct sandbox_config, c_flags),
     "-O2,-std=gnu11,-fmax-errors=5", 0, 0, NULL,
     "Flags for programs in C; -static and -lm come by themselves."},
    {"cpp_flags", CONFIG_LIST, offsetof(struct sandbox_config, cpp_flags),
     "-O2,-std=gnu++17,-fmax-errors=5,-ftemplate-depth=256", 0, 0, NULL,
     "Flags for programs in C++; -static comes by itself."},
    {"language_factors", CONFIG_LIST, offsetof(struct sandbox_config, language_factors), "", 0, 0,
     NULL, "What the time limits are multiplied by, as python=2 or javascript=1.5; others: 1."},
    {"program_cache", CONFIG_STRING, offsetof(struct sandbox_config, program_cache), "", 0, 0,
     NULL, "Directory that keeps compiled programs from run to run and for all workers; empty: "
     "each process remembers its own."},
    {"program_cache_bytes", CONFIG_INT, offsetof(struct sandbox_config, program_cache_bytes),
     "268435456", 1048576, 1099511627776.0, NULL,
     "What program_cache, and the memory of each process, may hold at most, in bytes."},
    {"python", CONFIG_STRING, offsetof(struct sandbox_config, python), "auto", 0, 0, NULL,
     "Path of the Python interpreter below /usr; auto takes /usr/bin/python3 where there is one."},
    {"node", CONFIG_STRING, offsetof(struct sandbox_config, node), "auto", 0, 0, NULL,
     "Path of Node.js below /usr; auto takes /usr/bin/node where there is one."},
    {FIELD(python_server), "1", 0, 1, NULL,
     "1: Python is started once and forked for each run, where its library (libpython3) is there."},
    {FIELD(cells), "0", 0, 1024, NULL, "Programs that run at once; 0: twice the cores."},
    {FIELD(min_level), "0", 0, 3, NULL,
     "Isolation without which nothing is run; 0: 3 for root, 2 for others. docs/sandbox.md."},
    {FIELD(max_level), "3", 1, 3, NULL,
     "Isolation that is tried first; lower ones give up what a level has."},
    {0},
};

static int check_config(const void *bytes)
{
    const struct sandbox_config *config = bytes;

    if (config->min_level > config->max_level)
        return status_fail(STATUS_CONFIG, "sandbox.min_level: %lld is above sandbox.max_level %lld",
                           (long long)config->min_level, (long long)config->max_level);
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
