/*
 * A Python interpreter inside a cell: started once, with the usual modules loaded, and forked for
 * each run. The library is looked for when the program runs, so that building needs no Python.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "sandbox/internal.h"

/* The part of Python's C interface that has been the same since 3.7. */
static struct {
    void (*initialize)(int signals);
    int (*run)(const char *text, void *flags);
    void (*after_fork)(void);
} python;

static const char prologue[] =
    "import types, sys\n"
    "_hone = types.ModuleType('_hone')\n"
    "exec('''\n"
    "import sys, os, io, re, math, json, random, string, itertools, functools, collections\n"
    "import heapq, bisect, operator, copy, time, datetime, decimal, fractions, statistics\n"
    "import typing, dataclasses, enum, traceback, threading, queue, array, struct, textwrap\n"
    "import atexit, gc, contextlib, cmath, types, abc, numbers, signal, _io, encodings.utf_8\n"
    "def run(fd):\n"
    "    code = 0\n"
    "    main = sys.modules['__main__']\n"
    "    scope = main.__dict__\n"
    "    for name in [n for n in scope if n[:2] != '__']:\n"
    "        del scope[name]\n"
    "    try:\n"
    "        with _io.open(fd, 'rb') as file:\n"
    "            text = file.read()\n"
    "        exec(compile(text, 'main.py', 'exec'), scope)\n"
    "    except SystemExit as end:\n"
    "        code = end.code\n"
    "        if code is None:\n"
    "            code = 0\n"
    "        elif not isinstance(code, int):\n"
    "            print(code, file=sys.stderr)\n"
    "            code = 1\n"
    "    except BaseException as error:\n"
    "        code = 1\n"
    "        trace = error.__traceback__\n"
    "        trace = trace.tb_next if trace else None\n"
    "        try:\n"
    "            traceback.print_exception(type(error), error, trace)\n"
    "        except BaseException:\n"
    "            pass\n"
    "    try:\n"
    "        threading._shutdown()\n"
    "    except BaseException:\n"
    "        pass\n"
    "    try:\n"
    "        atexit._run_exitfuncs()\n"
    "    except BaseException:\n"
    "        pass\n"
    "    try:\n"
    "        sys.stdout.flush()\n"
    "    except BaseException:\n"
    "        code = code or 120\n"
    "    try:\n"
    "        sys.stderr.flush()\n"
    "    except BaseException:\n"
    "        pass\n"
    "    os._exit(code & 255)\n"
    "sys.argv = ['main.py']\n"
    "gc.collect()\n"
    "gc.freeze()\n"
    "''', _hone.__dict__)\n"
    "sys.modules['_hone'] = _hone\n";

/* "/usr/bin/python3.11" is followed by libpython3.11.so.1.0: the same modules fit both. */
static void *open_library(const char *interpreter)
{
    const char *version = strrchr(interpreter, '/');
    char name[128];

    version = version ? strstr(version, "python3.") : NULL;
    if (!version)
        return NULL;
    snprintf(name, sizeof(name), "lib%.32s.so.1.0", version);
    return dlopen(name, RTLD_NOW | RTLD_GLOBAL);
}

int python_has_library(const char *interpreter)
{
    void *library = interpreter[0] ? open_library(interpreter) : NULL;

    if (library)
        dlclose(library);
    return library != NULL;
}

static int set_flag(void *library, const char *name, int value)
{
    int *flag = dlsym(library, name);

    if (!flag)
        return -1;
    *flag = value;
    return 0;
}

/* The interpreter starts and runs scripts on a stack of its own: that of a run's init is small, and
 * newer interpreters measure the one that they were started on. */
static struct {
    char *bytes;
    ucontext_t away, back;
    const char *interpreter;
    int result;
    char call[64];
} stack;
#define STACK_BYTES (32 << 20)

/* As swapcontext() does, about which AddressSanitizer warns, in a place without its log. */
static int switch_to(void (*function)(void))
{
    volatile int is_back = 0;

    if (!stack.bytes) {
        stack.bytes = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
        if (stack.bytes == MAP_FAILED || mprotect(stack.bytes, 4096, PROT_NONE) < 0)
            return -1;
    }
    if (getcontext(&stack.away) < 0)
        return -1;
    stack.away.uc_stack.ss_sp = stack.bytes;
    stack.away.uc_stack.ss_size = STACK_BYTES;
    stack.away.uc_link = &stack.back;
    makecontext(&stack.away, function, 0);
    if (getcontext(&stack.back) < 0)
        return -1;
    if (is_back)
        return 0;
    is_back = 1;
    return setcontext(&stack.away);
}

/* A constant hash seed has to come through the environment: isolated mode would not read it. */
static int load_interpreter(const char *interpreter)
{
    void *library = open_library(interpreter);
    wchar_t *(*decode)(const char *, size_t *);
    void (*set_name)(const wchar_t *);

    errno = ENOENT;
    if (!library)
        return -1;
    *(void **)&python.initialize = dlsym(library, "Py_InitializeEx");
    *(void **)&python.run = dlsym(library, "PyRun_SimpleStringFlags");
    *(void **)&python.after_fork = dlsym(library, "PyOS_AfterFork_Child");
    *(void **)&decode = dlsym(library, "Py_DecodeLocale");
    *(void **)&set_name = dlsym(library, "Py_SetProgramName");
    if (!python.initialize || !python.run || !python.after_fork || !decode || !set_name ||
        set_flag(library, "Py_NoSiteFlag", 1) < 0 ||
        set_flag(library, "Py_NoUserSiteDirectory", 1) < 0 ||
        set_flag(library, "Py_DontWriteBytecodeFlag", 1) < 0)
        return -1;
    clearenv();
    setenv("PYTHONHASHSEED", "0", 1);
    setenv("PYTHONSAFEPATH", "1", 1);
    setenv("LC_ALL", "C.UTF-8", 1);
    wchar_t *name = decode(interpreter, NULL);
    if (!name)
        return -1;
    set_name(name);
    python.initialize(1);
    return python.run(prologue, NULL);
}

static void start_interpreter(void)
{
    stack.result = load_interpreter(stack.interpreter);
}

int python_start(const char *interpreter)
{
    stack.interpreter = interpreter;
    return switch_to(start_interpreter) < 0 ? -1 : stack.result;
}

static void run_script(void)
{
    python.after_fork();
    (void)python.run(stack.call, NULL);
    box_exit(1);
}

void python_run_script(int script_fd)
{
    snprintf(stack.call, sizeof(stack.call), "import sys; sys.modules.pop('_hone').run(%d)\n",
             script_fd);
    (void)switch_to(run_script);
    box_exit(1);
}
