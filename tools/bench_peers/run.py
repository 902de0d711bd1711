#!/usr/bin/env python3
"""hone beside llama.cpp, PyTorch and TRL on this machine: rows in turn, ratios of medians.

    HONE_BENCH=build/release/bench/bench_model LLAMA_DIR=.../llama.cpp/build/bin \\
    PYTHON=.../venv/bin/python WORK=/tmp/bench_peers tools/bench_peers/run.py \\
    [--page docs/performance.md] [GROUP...]

Groups with peers: decode (tiny, float32), large (0.5b, bf16), prefill, train, grpo, trl, products
(single products, beside PyTorch's library, which may split sums). Of hone alone: exactness (its own
kernels freed to split sums), shares (each row beside the machine's limits), sweep (context and
batch), profile (where processor time goes; needs perf). None: all. --page writes each group's table
into its place in a page, between "<!-- GROUP -->" and "<!-- end -->". A peer whose variable is not
set is left out and named.

ROUNDS (5) alternations of everything in a group; THREADS (2); PRELOAD is an allocator for PyTorch
(libjemalloc.so.2); LLAMA_FMA_DIR is a second build of llama.cpp without AVX512_BF16, for the ratio
on equal instructions; LOCK is a file that is locked around each command. PROCESSOR_TIME=1 with
THREADS=1 counts the seconds that a program had a core: for hone beside PyTorch and TRL on a busy
machine. The table goes to standard output as Markdown, with the load that was left; every sample
goes to WORK/samples.tsv.

Programs that hand equal shares to their threads collapse beside other work: a command is run again,
up to ATTEMPTS (3) times, when others took more than MOST_LOAD (0.05) of the cores meanwhile.
Programs of low priority (nice) are not counted: all commands inherit the priority of this one, so
on a shared machine run it as root under `nice -n -20`.
"""
import datetime
import fcntl
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
WORK = os.environ.get("WORK", os.path.join(tempfile.gettempdir(), "bench_peers"))
HONE = os.environ.get("HONE_BENCH", os.path.join(HERE, "../../build/release/bench/bench_model"))
LLAMA = os.environ.get("LLAMA_DIR")
LLAMA_FMA = os.environ.get("LLAMA_FMA_DIR")
PYTHON = os.environ.get("PYTHON")
ROUNDS = int(os.environ.get("ROUNDS", "5"))
THREADS = os.environ.get("THREADS", "2")
LOCK = os.environ.get("LOCK")
TIMEOUT_S = int(os.environ.get("TIMEOUT", "900"))
ATTEMPTS = int(os.environ.get("ATTEMPTS", "3"))
MOST_LOAD = float(os.environ.get("MOST_LOAD", "0.05"))
PROCESSOR_TIME = ["--processor-time"] if os.environ.get("PROCESSOR_TIME") else []
MALLOC_CONF = ("oversize_threshold:1,metadata_thp:auto,thp:always,"
               "dirty_decay_ms:-1,muzzy_decay_ms:-1")


def processor_seconds():
    """Busy seconds of all cores so far, nice programs left out, and of this one's children."""
    user, _, system, _, _, *interrupts = map(int, open("/proc/stat").readline().split()[1:9])
    busy = user + system + sum(interrupts)
    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    return busy / os.sysconf("SC_CLK_TCK"), own.ru_utime + own.ru_stime


def execute(command, environment=None):
    """Its output. Runs again, a few times, when other programs took over MOST_LOAD of the cores."""
    for attempt in range(ATTEMPTS):
        with open(LOCK or os.devnull, "a") as lock:
            if LOCK:
                fcntl.flock(lock, fcntl.LOCK_EX)
            start, (busy, own) = time.monotonic(), processor_seconds()
            done = subprocess.run(command, env={**os.environ, **(environment or {})},
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                  timeout=TIMEOUT_S)
            seconds = time.monotonic() - start
        if done.returncode:
            sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr[-2000:]}")
        busy_after, own_after = processor_seconds()
        others = ((busy_after - busy) - (own_after - own)) / seconds / os.cpu_count()
        if others < MOST_LOAD or attempt + 1 == ATTEMPTS:
            loads.append(max(others, 0))
            return done.stdout
        time.sleep(2)


# ---- Programs: each returns {row: value}.

def hone(shape, dtype, *arguments):
    table = os.path.join(WORK, "hone.tsv")
    if os.path.exists(table):
        os.remove(table)
    execute([HONE, "--shape", shape, "--dtype", dtype, "--threads", THREADS, "--tsv", table,
             *PROCESSOR_TIME, *arguments])
    rows = {}
    for line in open(table):
        fields = line.rstrip("\n").split("\t")
        rows[fields[5].removeprefix(f"{shape} {dtype} ").strip()] = float(fields[7])
    return rows


def hone_ops(*texts):
    """Rows of bench_ops whose names contain one of the texts."""
    table = os.path.join(WORK, "ops.tsv")
    if os.path.exists(table):
        os.remove(table)
    for text in texts:
        execute([os.path.join(os.path.dirname(HONE), "bench_ops"), "cpu", THREADS, text, table])
    return {name: float(value) for name, value in (line.split("\t") for line in open(table))}


def llama_program(folder, name, *arguments):
    return execute([os.path.join(folder, name), *arguments], {"LD_LIBRARY_PATH": folder})


def llama_features(folder):
    """The instructions that a build uses, by its own word."""
    code = ("import ctypes, sys; info = ctypes.CDLL(sys.argv[1]).llama_print_system_info;"
            "info.restype = ctypes.c_char_p; print(info().decode())")
    out = execute([sys.executable, "-c", code, os.path.join(folder, "libllama.so")],
                  {"LD_LIBRARY_PATH": folder})
    names = [field.split("=")[0].split(":")[-1].strip() for field in out.split("|")
             if field.strip().endswith("= 1")]
    return " ".join(names)


def llama_batched(folder, shape, dtype, n_new, batches, shared):
    out = llama_program(folder, "llama-batched-bench", "-m",
                   os.path.join(WORK, f"{shape}-{dtype}.gguf"), "-t", THREADS, "-tb", THREADS,
                   "-c", "32768", "-b", "2048", "-ub", "512", "-npp", "224", "-ntg", str(n_new),
                   "-npl", batches, "--output-format", "jsonl", *(["-pps"] if shared else []))
    rows = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return {f"decode B={r['pl']}" + (" -pps" if shared else ""): r["speed_tg"] for r in rows}


def llama_bench(folder, shape, dtype, prompts):
    out = llama_program(folder, "llama-bench", "-m", os.path.join(WORK, f"{shape}-{dtype}.gguf"),
                        "-t", THREADS, "-p", prompts, "-n", "0", "-r", "5", "-o", "jsonl")
    rows = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return {f"prefill {r['n_prompt']}": statistics.median(r["samples_ts"]) for r in rows}


def python(script, *arguments):
    environment = {"TORCHINDUCTOR_CACHE_DIR": os.path.join(WORK, "inductor")}
    if os.environ.get("PRELOAD"):
        environment.update(LD_PRELOAD=os.environ["PRELOAD"], MALLOC_CONF=MALLOC_CONF)
    out = execute([PYTHON, os.path.join(HERE, script), "--threads", THREADS,
                   *PROCESSOR_TIME, *arguments], environment)
    rows = [json.loads(line) for line in out.splitlines() if line.startswith('{"row"')]
    return {r["row"]: r["value"] for r in rows}


def torch(*arguments):
    return python("torch_peer.py", *arguments)


# ---- Groups: programs that take turns, and which rows are set side by side.
# (hone's row, peer, peer's rows of which the best counts, goal of the ratio or None)

def decode_group():
    jobs = {"hone": lambda: hone("tiny", "f32", "--row", "decode", "--repeat", "3"),
            "hone bf16": lambda: hone("tiny", "bf16", "--row", "decode", "--repeat", "3")}
    pairs = []
    for name, mine in ("llama.cpp F32", "hone"), ("llama.cpp F16", "hone bf16"):
        if not LLAMA:
            break
        dtype = name.split()[-1].lower()
        jobs[name] = lambda d=dtype: llama_batched(LLAMA, "tiny", d, 32, "1,8,16,64", False)
        jobs[name + " -pps"] = lambda d=dtype: llama_batched(LLAMA, "tiny", d, 32, "64", True)
        for b, goal in (1, 2), (8, 2), (16, 2), (64, 2):
            pairs.append((mine, f"decode B={b}", name, [f"decode B={b}"],
                          goal if mine == "hone" else None))
        pairs.append((mine, "decode B=64, 8 groups of 8", name,
                      ["decode B=64", "decode B=64 -pps"], 2.5 if mine == "hone" else None))
    if PYTHON:
        jobs["PyTorch"] = lambda: torch("--repeat", "3", "decode 1", "decode 8", "decode 16",
                                        "decode 64")
        pairs += [("hone", f"decode B={b}", "PyTorch", [f"decode {b}"], goal)
                  for b, goal in ((1, 8), (8, None), (16, None), (64, 3.3))]
    return jobs, pairs


def large_group():
    jobs, pairs = {}, []
    jobs["hone"] = lambda: {
        **hone("0.5b", "bf16", "--row", "decode", "--repeat", "1", "--only", "groups"),
        **hone("0.5b", "bf16", "--row", "decode", "--repeat", "1", "--only", "B=1"),
        **hone("0.5b", "bf16", "--row", "prefill", "--repeat", "1", "--only", "256")}
    for name, folder, goal in (("llama.cpp BF16", LLAMA, 1.6), ("llama.cpp F16", LLAMA, 1.1),
                               ("llama.cpp BF16, float32 FMA", LLAMA_FMA, 1.6)):
        if not folder:
            continue
        dtype = name.split(",")[0].split()[-1].lower()
        jobs[name] = lambda d=dtype, f=folder: {**llama_batched(f, "0.5b", d, 8, "1,64", True),
                                                **llama_bench(f, "0.5b", d, "256")}
        notes[name] = f"{name}: {llama_features(folder)}"
        pairs += [("hone", "decode B=64, 8 groups of 8", name, ["decode B=64 -pps"], goal),
                  ("hone", "decode B=1", name, ["decode B=1 -pps"], None),
                  ("hone", "prefill 256", name, ["prefill 256"], None)]
    return jobs, pairs


def prefill_group():
    jobs = {"hone": lambda: hone("tiny", "f32", "--row", "prefill")}
    pairs = []
    if LLAMA:
        jobs["llama.cpp F32"] = lambda: llama_bench(LLAMA, "tiny", "f32", "256,1024")
        pairs += [("hone", f"prefill {n}", "llama.cpp F32", [f"prefill {n}"],
                   1.5 if n == 256 else None) for n in (256, 1024)]
    if PYTHON:
        jobs["PyTorch"] = lambda: torch("--repeat", "5", "prefill 256", "prefill 1024")
        pairs += [("hone", f"prefill {n}", "PyTorch", [f"prefill {n}"], None)
                  for n in (256, 1024)]
    return jobs, pairs


def train_group():
    jobs = {"hone": lambda: hone("tiny", "f32", "--row", "train")}
    pairs = []
    if PYTHON:
        rows = ["train 4 256", "train 4 64"]
        jobs["PyTorch"] = lambda: torch("--repeat", "5", *rows)
        jobs["PyTorch, compiled"] = lambda: torch("--repeat", "5", "--compile", *rows)
        pairs = [("hone", f"train B=4 T={t}", "PyTorch", [f"train 4 {t}"],
                  1.3 if t == 256 else 1.5) for t in (256, 64)]
        pairs += [("hone", f"train B=4 T={t}", "PyTorch, compiled", [f"train 4 {t}"],
                   1.3 if t == 256 else 1.5) for t in (256, 64)]
    return jobs, pairs


GRPO = "GRPO step, 8 x 8, 64+128 tokens"


def whole_step_group(peer, goal, programs):
    """hone in float32 and bfloat16 beside the fastest of a peer's programs, and beside each."""
    jobs = {"hone": lambda: hone("tiny", "f32", "--row", "grpo", "--repeat", "3"),
            "hone bf16": lambda: hone("tiny", "bf16", "--row", "grpo", "--repeat", "3")}
    if not PYTHON:
        return jobs, []
    jobs.update(programs)
    fastest_of[f"{peer}, its best"] = list(programs)
    return jobs, [(mine, GRPO, name, ["grpo"], goal if name.endswith("its best") else None)
                  for mine in ("hone", "hone bf16") for name in (f"{peer}, its best", *programs)]


def grpo_group():
    return whole_step_group("PyTorch loop", 2.7, {
        f"PyTorch loop {dtype}": lambda d=dtype: torch("--dtype", d, "--repeat", "3", "grpo")
        for dtype in ("f32", "autocast", "bf16")})


def trl_group():
    ways = {"f32": ["--dtype", "f32"], "autocast": ["--dtype", "autocast"],
            "bf16": ["--dtype", "bf16"],
            "as it comes (autocast to bf16)": ["--as-it-comes"]}
    return whole_step_group("TRL", 5, {
        f"TRL {name}": lambda w=way: python("trl_peer.py", "--repeat", "1", *w)
        for name, way in ways.items()})


PRODUCTS = [(row, row.replace("matmul of rows", "forward").replace("matmul", "forward")
             .replace(",", " "))
            for row in ("matmul of rows 1024,256,1024", "matmul of rows 1024,1024,256",
                        "matmul 8,256,1024", "matmul 64,256,1024", "matmul 1024,1024,1024",
                        "backward_input 1024,256,1024", "backward_input 1024,1024,256",
                        "backward_weight 1024,256,1024", "backward_weight 1024,1024,256")]


def products_group():
    jobs = {"hone": lambda: hone_ops("matmul", "backward_input", "backward_weight")}
    if PYTHON:
        jobs["PyTorch"] = lambda: torch(*(theirs for _, theirs in PRODUCTS))
    return jobs, [("hone", ours, "PyTorch", [theirs], None)
                  for ours, theirs in PRODUCTS] if PYTHON else []


GROUPS = {"decode": decode_group, "large": large_group, "prefill": prefill_group,
          "train": train_group, "grpo": grpo_group, "trl": trl_group,
          "products": products_group}

notes = {}   # of a program, for the foot of its table
fastest_of = {}   # name: the programs of which the fastest counts
loads = []   # what other programs took of the cores during each command


def run_group(name):
    jobs, pairs = GROUPS[name]()
    loads.clear()
    samples = {}
    for round_ in range(ROUNDS):
        for program, job in jobs.items():
            for row, value in job().items():
                samples.setdefault((program, row), []).append(value)
                with open(os.path.join(WORK, "samples.tsv"), "a") as log:
                    log.write(f"{datetime.datetime.now():%F %T}\t{name}\t{round_}\t{program}"
                              f"\t{row}\t{value:.5g}\n")
            print(f"{name}: round {round_ + 1} of {ROUNDS}, {program}", file=sys.stderr)
    lines = [HEAD]
    for mine, row, peer, rows, goal in pairs:
        seconds = row == GRPO
        better = min if seconds else max
        ours = samples[mine, row]
        theirs = better((samples[p, r] for r in rows
                         for p in fastest_of.get(peer, [peer, peer + " -pps"]) if (p, r) in samples),
                        key=statistics.median)
        a, b = statistics.median(ours), statistics.median(theirs)
        c, d = better(ours), better(theirs)
        ratio, ratio_best = (b / a, d / c) if seconds else (a / b, c / d)
        verdict = "" if goal is None else f"{goal:g} {'met' if ratio >= goal else 'missed'}"
        lines.append(f"| {mine}, {row} | {peer} | {a:.4g} | {b:.4g} | {ratio:.2f} "
                     f"| {ratio_best:.2f} | {verdict} |")
    foot = [f"- {notes[program]}" for program in jobs if program in notes]
    return lines + ["", *foot, *([""] if foot else []), load_line(len(samples) and ROUNDS)]


def load_line(rounds):
    return (f"{datetime.date.today()}, {hone_version()}, {rounds} rounds; other programs, nice ones "
            f"apart, took {100 * statistics.median(loads):.0f} % of the cores in the median, "
            f"{100 * max(loads):.0f} % at most.")


def hone_version():
    done = subprocess.run(["git", "-C", HERE, "rev-parse", "--short=12", "HEAD"],
                          stdout=subprocess.PIPE, text=True)
    return "commit " + done.stdout.strip()


# ---- Of hone alone.

def shares():
    loads.clear()
    lines = ["| row | median | best | unit | share |", "|---|---|---|---|---|"]
    table = os.path.join(WORK, "shares.tsv")
    for dtype in "f32", "bf16":
        if os.path.exists(table):
            os.remove(table)
        execute([HONE, "--dtype", dtype, "--threads", THREADS, "--tsv", table])
        for line in open(table):
            row, unit, median, best, _, share, limit = line.rstrip("\n").split("\t")[5:]
            share = f"{100 * float(share):.0f} % of {limit}" if limit else ""
            lines.append(f"| {row} | {median} | {best} | {unit} | {share} |")
    return lines + ["", load_line(1)]


def sweep():
    loads.clear()
    out = execute([HONE, "--row", "sweep", "--threads", THREADS])
    return ["```", out[out.index("a context of"):].rstrip(), "```", load_line(1)]


def exactness():
    loads.clear()
    out = execute([os.path.join(os.path.dirname(HONE), "bench_exactness"), THREADS])
    return ["```", out.rstrip(), "```", load_line(1)]


def profile():
    """Shares of processor time, which other programs disturb little."""
    loads.clear()
    lines = []
    for title, arguments in (("training, B4 T256 and B4 T64", ["--row", "train", "--repeat", "8"]),
                             ("decoding, 64 sequences of their own prompts (prompts included)",
                              ["--row", "decode", "--only", "B=64", "--repeat", "2"]),
                             ("a GRPO step", ["--row", "grpo", "--repeat", "2"])):
        data = os.path.join(WORK, "perf.data")
        execute(["perf", "record", "-q", "-o", data, HONE, "--bare", "--threads",
                 THREADS, *arguments])
        out = execute(["perf", "report", "-i", data, "--stdio", "-q", "--no-children", "-F",
                       "overhead,symbol"])
        functions = {}
        for line in out.splitlines():
            fields = line.split()
            if len(fields) >= 3 and fields[0].endswith("%"):
                name = fields[-1].split(".")[0]
                functions[name] = functions.get(name, 0) + float(fields[0].rstrip("%"))
        limits = [f for f in functions if f.startswith(("run_read", "random_", "fill_"))]
        total = sum(functions.values()) - sum(functions.pop(f) for f in limits)
        lines += ["", f"{title}:", "", "| function | share of processor time |", "|---|---|"]
        for name, share in sorted(functions.items(), key=lambda f: -f[1])[:10]:
            lines.append(f"| `{name}` | {100 * share / total:.0f} % |")
    return lines[1:] + ["", load_line(1)]


def put_into_page(path, group, lines):
    page = open(path).read()
    begin = f"<!-- {group} -->"
    if begin not in page:
        sys.exit(f"{path}: no {begin}")
    head, rest = page.split(begin, 1)
    tail = rest.split("<!-- end -->", 1)[1]
    with open(path, "w") as out:
        out.write(f"{head}{begin}\n" + "\n".join(lines) + f"\n<!-- end -->{tail}")


def main():
    names, page = sys.argv[1:], None
    if names[:1] == ["--page"]:
        page, names = names[1], names[2:]
    names = names or [*GROUPS, *ALONE]
    os.makedirs(WORK, exist_ok=True)
    for variable, value in ("LLAMA_DIR", LLAMA), ("PYTHON", PYTHON):
        if not value:
            print(f"{variable} is not set: its rows are left out", file=sys.stderr)
    if LLAMA and PYTHON and {"decode", "prefill", "large"} & set(names):
        execute([PYTHON, os.path.join(HERE, "write_gguf.py"), WORK] +
                (["tiny"] if "large" not in names else []))
    for name in names:
        lines = ALONE[name]() if name in ALONE else run_group(name)
        print("\n".join(lines), flush=True)
        if page:
            put_into_page(page, name, lines)


HEAD = ("| row | peer | hone | peer | ratio of medians | ratio of bests | goal |\n"
        "|---|---|---|---|---|---|---|")
ALONE = {"shares": shares, "exactness": exactness, "sweep": sweep, "profile": profile}

if __name__ == "__main__":
    main()
