# hone: one Makefile, no recursion into folders. `make help` lists the targets.
CC       ?= cc
BUILD    ?= build
MODE     ?= release
PREFIX   ?= /usr/local
JOBS     ?= $(shell nproc)
-include config.mak
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(JOBS)
endif
# One short line a file; V=1 shows the commands.
Q        := $(if $(V),,@)
say       = $(if $(V),,@printf '  %-6s %s\n' "$(1)" "$(2)")

PACKAGES  = libzmq yaml-0.1 sqlite3 jansson libcrypto gmp libseccomp libpcre2-8 zlib libzstd
CFLAGS_release = -O3
CFLAGS_debug   = -O0
CFLAGS_asan    = -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
CFLAGS_tsan    = -O1 -fsanitize=thread
CFLAGS_fuzz    = -O1 -fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=all
WARN      = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes $(WERROR)
override CFLAGS   += -std=gnu11 -g $(CFLAGS_$(MODE)) $(WARN)
COMMIT   := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo no-commit)
override CPPFLAGS += -I. -D_GNU_SOURCE -MMD -MP $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null)
override LDLIBS   += $(shell pkg-config --libs $(PACKAGES) 2>/dev/null) -lm -ldl -lpthread
OUT      := $(BUILD)/$(MODE)
ARCH     := $(shell uname -m)

# FLINT proves what is equal in maths answers. Without it, or with FLINT=0, the rest still works.
FLINT_CPPFLAGS = -idirafter /usr/include/flint -idirafter /usr/include/calcium
ifneq ($(filter-out deps clean help format layers,$(or $(MAKECMDGOALS),all)),)
ifeq ($(origin FLINT),undefined)
FLINT    := $(shell CC="$(CC)" tools/find_flint $(CPPFLAGS) $(FLINT_CPPFLAGS) $(LDLIBS))
endif
endif
ifneq ($(FLINT),)
export FLINT
endif
HAS_FLINT := $(filter-out 0,$(FLINT))
override LDLIBS := $(HAS_FLINT) $(LDLIBS)

# MPI joins several processes to one learner. Without it, or with MPI=0, one process learns.
ifneq ($(filter-out deps clean help format layers,$(or $(MAKECMDGOALS),all)),)
ifeq ($(origin MPI),undefined)
MPI      := $(shell CC="$(CC)" tools/find_mpi)
endif
endif
ifneq ($(MPI),)
export MPI
endif
HAS_MPI  := $(filter-out 0,$(MPI))

# CUDA's compiler makes the GPU's backend; without it, or with CUDA=0, the rest still works. The
# fat binary holds code for these cards, and PTX of the last one that this toolkit knows.
CUDA_CARDS ?= 80 90 100
ifneq ($(filter-out deps clean help format layers,$(or $(MAKECMDGOALS),all)),)
ifeq ($(origin CUDA),undefined)
CUDA     := $(shell tools/find_cuda)
endif
endif
ifneq ($(CUDA),)
export CUDA
endif
HAS_CUDA := $(filter-out 0,$(CUDA))
ifneq ($(HAS_CUDA),)
KNOWN    := $(patsubst compute_%,%,$(shell $(CUDA)/bin/nvcc --list-gpu-arch))
CARDS    := $(filter $(KNOWN),$(CUDA_CARDS))
NVCC_HOST := $(shell tools/find_nvcc_host $(CUDA) $(lastword $(CXX)))
NVCCFLAGS = -std=c++20 -O3 -fmad=false -ccbin $(NVCC_HOST) -Xcompiler -Wall,-Wextra,-fno-exceptions,-fno-rtti,-fno-threadsafe-statics -I. -Iops/cuda/native \
            $(foreach c,$(CARDS),-gencode arch=compute_$(c),code=sm_$(c)) \
            -gencode arch=compute_$(lastword $(CARDS)),code=compute_$(lastword $(CARDS)) $(if $(WERROR),-Werror all-warnings)
override LDLIBS += $(addprefix -L,$(wildcard $(CUDA)/lib64 $(CUDA)/lib/$(shell uname -m)-linux-gnu)) -lcudart_static -lrt -lpthread -ldl
endif
# The same kernels as C++, for the tests.
ifeq ($(origin CXX),default)
CXX      := $(if $(findstring clang,$(CC)),$(subst clang,clang++,$(CC)),g++)
endif
CXXFLAGS_release = -O2
CXXFLAGS_debug   = -O0
CXXFLAGS_asan    = $(CFLAGS_asan)
CXXFLAGS_fuzz    = -O1
CXXFLAGS_tsan    = -O1
override CXXFLAGS += -std=c++20 -g $(CXXFLAGS_$(MODE)) -ffp-contract=off -fno-exceptions -fno-rtti -Wall -Wextra -Wshadow $(WERROR)

# One line per folder; a new file needs no edit here. FOLDERS=... builds a part alone.
FOLDERS  ?= common ops wire sandbox model tasks math reward rollout ranks learner pipeline
LIB_C    := $(foreach f,$(FOLDERS),$(wildcard $(f)/*.c))
ifneq ($(filter ops,$(FOLDERS)),)
LIB_C    += $(wildcard ops/reference/*.c) ops/cpu/$(if $(filter x86_64,$(ARCH)),dispatch_x86_64.c,dispatch_other.c)
LIB_C    += $(filter-out ops/cpu/kernels_%.c ops/cpu/dispatch_%.c,$(wildcard ops/cpu/*.c))
LIB_C    += ops/cuda/backend_$(if $(HAS_CUDA),cuda,absent).c
endif
ifneq ($(filter reward,$(FOLDERS)),)
LIB_C    += $(wildcard reward/verifiers/*.c)
endif
ifneq ($(filter math,$(FOLDERS)),)
LIB_C    := $(filter-out $(if $(HAS_FLINT),math/%_absent.c,math/%_flint.c),$(LIB_C))
endif
LIB_O    := $(LIB_C:%.c=$(OUT)/%.o)
CUDA_CU  := $(wildcard ops/cuda/*.cu)
ifneq ($(filter ops,$(FOLDERS)),)
LIB_O    += $(if $(HAS_CUDA),$(CUDA_CU:%.cu=$(OUT)/%.o))
endif
EMULATED := $(CUDA_CU:%.cu=$(OUT)/emulated/%.o) $(OUT)/emulated/ops/cuda/backend_cuda.o
EMULATED += $(patsubst %.cc,$(OUT)/emulated/%.o,$(addprefix ops/cuda/emulation/,grid.cc memory.cc record.cc share.cc \
            $(if $(filter x86_64,$(ARCH)),fiber_x86_64.cc,fiber_other.cc)))

# The hot loops are compiled once per instruction set, and chosen at start-up.
ifneq ($(filter ops,$(FOLDERS)),)
ifeq ($(ARCH),x86_64)
ISAS     := baseline avx2 avx512 avx512bf16
else
ISAS     := baseline
endif
KERNELS  := $(patsubst %.c,%,$(wildcard ops/cpu/kernels_*.c))
LIB_O    += $(foreach isa,$(ISAS),$(KERNELS:%=$(OUT)/%_$(isa).o))
endif
# The constraint of asm() for a register of vectors; m, memory, where it is not known here.
VECTOR_REGISTER = $(if $(filter x86_64,$(ARCH)),v,$(if $(filter aarch64,$(ARCH)),w,m))
PAIRS     = -DVECTOR_REGISTER='"$(VECTOR_REGISTER)"' -DPAIRS_H='"ops/cpu/pairs_$(1).h"' -DFLUSH_H='"ops/cpu/flush_$(if $(filter x86_64,$(ARCH)),x86,none).h"'
# Products that are added are fused at -O1 too, where gcc leaves it out.
FUSED     = -ffp-contract=fast -fno-math-errno $(if $(findstring clang,$(CC)),,-fexpensive-optimizations)
AVX512    = -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx2 -mfma
ISA_baseline = -DKERNEL_ISA=baseline -DVECTOR_BYTES=16 $(call PAIRS,fma)
ISA_avx2     = -DKERNEL_ISA=avx2 -DVECTOR_BYTES=32 -mavx2 -mfma $(call PAIRS,fma)
ISA_avx512   = -DKERNEL_ISA=avx512 -DVECTOR_BYTES=64 $(AVX512) $(call PAIRS,fma)
ISA_avx512bf16 = -DKERNEL_ISA=avx512bf16 -DVECTOR_BYTES=64 $(AVX512) -mavx512bf16 $(call PAIRS,native)

TESTS    := $(patsubst tests/unit/%.c,$(OUT)/tests/%,$(wildcard tests/unit/test_*.c))
TESTS    += $(patsubst tests/parity/%.c,$(OUT)/tests/%,$(wildcard tests/parity/parity_*.c))
TESTS    += $(OUT)/tests/parity_emulation
TESTS    += $(patsubst tests/integration/%.c,$(OUT)/tests/%,$(wildcard tests/integration/integration_*.c))
TESTS    += $(patsubst tests/fuzz/fuzz_%.c,$(OUT)/tests/corpus_%,$(wildcard tests/fuzz/fuzz_*.c))
BENCHES  := $(patsubst bench/%.c,$(OUT)/bench/%,$(filter-out bench/bench_gpu.c,$(wildcard bench/bench_*.c)))
FUZZERS  := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
PLUGINS  := $(patsubst tests/plugin/%.c,$(OUT)/plugin/%.so,$(wildcard tests/plugin/*.c))
MPI_SO   := $(if $(HAS_MPI),$(OUT)/libhone_mpi.so)
SHIMS    := $(patsubst tests/shim/%.c,$(OUT)/shim/%.so,$(wildcard tests/shim/*.c))
SUPPORT_O := $(patsubst %.c,$(OUT)/%.o,$(wildcard tests/integration/support*.c))

.SECONDARY:
.PHONY: all demo test check chaos bench bench-record bench-verify bench-sandbox bench-load gpu-check cuda-ptxas lint layers format asan tsan valgrind fuzz docs golden deps install clean help

# What is missing is named with the line that installs it. demo, test and asan install by themselves.
ifneq ($(filter-out demo test deps clean help format layers,$(or $(MAKECMDGOALS),all)),)
MISSING  := $(shell tools/missing_deps)
ifneq ($(MISSING),)
$(error missing packages; install them with: apt-get install $(MISSING))
endif
endif

all: $(OUT)/hone $(MPI_SO) $(PLUGINS)   ## build the program (the default)

demo: deps   ## the whole R1 pipeline on a tiny model, on the CPU: a few minutes
	@$(MAKE) --no-print-directory all
	@tools/demo $(OUT)/hone

test: deps | $(filter lint,$(MAKECMDGOALS))   ## every test: units, parity, golden values, whole runs
	@$(MAKE) --no-print-directory all tests
	@tools/run_tests $(TESTS)

# Where the toolkit has nccl.h, ranks/nccl_abi.h is held against it.
NCCL_ABI := $(if $(HAS_CUDA),$(if $(wildcard $(CUDA)/include/nccl.h),$(OUT)/tests/unit/nccl_abi.o))
$(OUT)/tests/unit/nccl_abi.o: override CPPFLAGS += -isystem $(CUDA)/include

tests: $(TESTS) $(MPI_SO) $(NCCL_ABI) $(PLUGINS)

check: $(if $(T),$(OUT)/tests/$(T),$(TESTS)) $(MPI_SO) $(PLUGINS) $(OUT)/hone   ## the same for one program: make check T=test_grpo
	@tools/run_tests $(if $(T),$(OUT)/tests/$(T),$(TESTS))

# The same with CHAOS_FAULTS=20 is in make test.
CHAOS_FAULTS ?= 200
CHAOS_SEED ?= 1
chaos: $(OUT)/tests/integration_chaos   ## processes killed and stopped, links cut, at random: the same bytes
	@$< $(CHAOS_FAULTS) $(CHAOS_SEED)

bench: $(BENCHES)   ## speed of the arithmetic and of the engine, beside the machine's own limits
	@for b in $(BENCHES); do $$b || exit 1; done
	@$(OUT)/bench/bench_model --dtype bf16
	@$(OUT)/bench/bench_model --row sweep

bench-record: $(OUT)/bench/bench_model   ## the engine's rows, appended to bench/history.tsv
	@for d in f32 bf16; do $< --dtype $$d --tsv bench/history.tsv || exit 1; done

# Without the emulation these programs look for a real card.
GPU_TESTS := parity_devices parity_gradients parity_rounding parity_cuda parity_shared test_model_golden test_model_precision test_model_decode test_model_recorded
gpu-check:   ## with an NVIDIA card: parity, exactness, a GRPO run beside the CPU's, kernels and roofline
	@$(if $(HAS_CUDA),,echo "gpu-check: no CUDA toolkit found (tools/find_cuda); install it or set CUDA_HOME"; exit 1;) \
	$(MAKE) --no-print-directory all $(GPU_TESTS:%=$(OUT)/gpu/%) $(OUT)/bench/bench_gpu && \
	tools/gpu_check $(OUT)

cuda-ptxas:   ## docs/ptxas.md: registers and spills of every kernel, as ptxas reports them
	@$(if $(HAS_CUDA),,echo "cuda-ptxas: no CUDA toolkit found"; exit 1;) tools/list_ptxas $(CUDA) $(CUDA_CARDS) > docs/ptxas.md.tmp && mv docs/ptxas.md.tmp docs/ptxas.md

bench-verify: $(OUT)/bench/bench_verify   ## speed of the maths verifier: verdicts a second, each kind, the worst
	@$<

# LOAD_GROUPS=1000000 LOAD_GB=10 for a release; LOAD_WIRE_GB of TMPDIR for each of the 8 workers.
LOAD_GROUPS ?= 100000
LOAD_GB ?= 1
LOAD_WIRE_GB ?= 0.25
bench-load: $(OUT)/bench/bench_load   ## 1, 8, 64 workers at one coordinator; weights to 8, beside loopback
	@$< groups $(LOAD_GROUPS)
	@$< weights $(LOAD_WIRE_GB) 8 "curve plain ipc"
	@$< weights $(LOAD_GB) 8 "file ipcfile"

bench-sandbox: $(OUT)/bench/bench_sandbox   ## runs a second of the sandbox, beside bubblewrap where it is installed
	@$<

lint: $(OUT)/hone   ## layers, lengths, banned calls, generated documents up to date
	@tools/check_style
	@$(OUT)/hone docs config | diff -q - docs/config.md >/dev/null || { echo "docs/config.md is stale: make docs"; exit 1; }
	@$(OUT)/hone docs metrics | diff -q - docs/metrics.md >/dev/null || { echo "docs/metrics.md is stale: make docs"; exit 1; }
	@for r in configs/*/*.yaml; do $(OUT)/hone plan $$r >/dev/null || exit 1; done
	@echo "lint: nothing found"

layers:   ## the direction of dependencies, docs/layers.txt
	@tools/check_layers docs/layers.txt $(shell git ls-files '*.c' '*.h')

format:   ## clang-format (14) on the lines that differ from HEAD
	@git clang-format-14 2>/dev/null || git clang-format

asan tsan:   ## every test, a tiny run and the demo in short under AddressSanitizer + UBSan, or ThreadSanitizer
	@$(MAKE) --no-print-directory test MODE=$@
	@tools/run_tiny $(BUILD)/$@/hone
	@rm -rf $(BUILD)/$@/demo
	@tools/demo $(BUILD)/$@/hone

# What reads others' bytes, and what starts nothing in a sandbox. It runs the kernels for AVX2.
VALGRIND_TESTS := common config wire_codec wire_refused wire_hub tokenizer tokenizer_files tokenizer_split safetensors model_files tasks_lines
valgrind:   ## a tiny run and the tests of some decoders under valgrind
	@command -v valgrind >/dev/null || { echo "valgrind is missing: apt-get install valgrind"; exit 1; }
	@$(MAKE) --no-print-directory all $(VALGRIND_TESTS:%=$(OUT)/tests/test_%)
	@VALGRIND=1 tools/run_tests $(VALGRIND_TESTS:%=$(OUT)/tests/test_%)
	@VALGRIND=1 tools/run_tiny $(OUT)/hone

docs: $(OUT)/hone   ## docs/config.md and docs/metrics.md from the program's tables
	$(OUT)/hone docs config > docs/config.md
	$(OUT)/hone docs metrics > docs/metrics.md

# libFuzzer comes with clang; FUZZ_SECONDS each.
FUZZ_SECONDS ?= 60
fuzz:   ## every decoder under libFuzzer (needs clang), FUZZ_SECONDS=60 each
	@$(MAKE) --no-print-directory fuzzers CC=clang MODE=fuzz
	@for f in $(FUZZERS:%=$(BUILD)/fuzz/fuzz/%); do name=$$(basename $$f); mkdir -p $(BUILD)/corpus/$$name; \
	  $$f -max_total_time=$(FUZZ_SECONDS) -print_final_stats=0 -verbosity=0 $(BUILD)/corpus/$$name \
	  $$(ls -d tests/fuzz/$${name#fuzz_} 2>/dev/null) || exit 1; done
fuzzers: $(FUZZERS:%=$(OUT)/fuzz/%)

golden:   ## golden files anew from PyTorch and transformers (developers; see tools/README.md)
	tools/make_golden.py
	tools/make_golden_precision.py
	tools/make_golden_grpo.py
	tools/make_golden_chat.py

deps:   ## install the missing Debian packages (as root or with sudo)
	@tools/install_deps

install: all   ## into PREFIX (/usr/local)
	install -D $(OUT)/hone $(DESTDIR)$(PREFIX)/bin/hone
	$(if $(MPI_SO),install -D $(MPI_SO) $(DESTDIR)$(PREFIX)/lib/hone/libhone_mpi.so)
	install -D -m 644 reward/verifier_abi.h $(DESTDIR)$(PREFIX)/include/hone/verifier_abi.h
	for f in configs/*/*.yaml; do install -D -m 644 $$f $(DESTDIR)$(PREFIX)/share/hone/$$f || exit 1; done

clean:   ## remove what make made
	rm -rf $(BUILD)

help:   ## this list
	@sed -n 's/^\([a-z][a-z_ -]*\):.*##/\1  /p' $(firstword $(MAKEFILE_LIST))

# Anew when files left the list: with and without FLINT they differ.
.PHONY: always
$(OUT)/libhone.list: always
	@mkdir -p $(@D); echo '$(LIB_O)' | cmp -s - $@ || echo '$(LIB_O)' > $@
$(OUT)/libhone.a: $(LIB_O) $(OUT)/libhone.list
	@rm -f $@
	$(call say,AR,$@)
	$(Q)$(AR) rcs $@ $(LIB_O)

$(OUT)/hone: $(patsubst %.c,$(OUT)/%.o,$(wildcard cmd/*.c)) $(OUT)/libhone.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $^ -o $@ $(LDLIBS)

$(OUT)/common/version.o: $(wildcard .git/logs/HEAD)
$(OUT)/common/version.o: override CPPFLAGS += -DHONE_COMMIT='"$(COMMIT)"'
# gcc 12 takes FLINT's structs within structs for too small ones; clang knows no such warning.
$(OUT)/math/%_flint.o: override CPPFLAGS += $(FLINT_CPPFLAGS)
$(OUT)/math/%_flint.o: override CFLAGS += -Wno-unknown-warning-option -Wno-stringop-overread \
                                          -Wno-stringop-overflow
$(OUT)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c $< -o $@
$(OUT)/ops/cuda/backend_cuda.o: override CPPFLAGS += -Iops/cuda/native
$(OUT)/ops/cuda/%.o: ops/cuda/%.cu
	@mkdir -p $(@D)
	$(call say,NVCC,$@)
	$(Q)$(CUDA)/bin/nvcc $(NVCCFLAGS) -MD -MF $(@:.o=.d) -c $< -o $@
$(OUT)/emulated/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(CPPFLAGS) -Iops/cuda/emulation $(CFLAGS) -c $< -o $@
$(OUT)/emulated/%.o: %.cu
	@mkdir -p $(@D)
	$(call say,CXX,$@)
	$(Q)$(CXX) $(CPPFLAGS) -Iops/cuda/emulation $(CXXFLAGS) -x c++ -c $< -o $@
$(OUT)/emulated/%.o: %.cc
	@mkdir -p $(@D)
	$(call say,CXX,$@)
	$(Q)$(CXX) $(CPPFLAGS) -Iops/cuda/emulation $(CXXFLAGS) -c $< -o $@
define kernel_rule
$(OUT)/ops/cpu/%_$(1).o: ops/cpu/%.c
	@mkdir -p $$(@D)
	$$(call say,CC,$$@)
	$$(Q)$$(CC) $$(CPPFLAGS) $$(CFLAGS) $$(ISA_$(1)) $$(FUSED) -c $$< -o $$@
$(OUT)/bench/%_$(1).o: bench/%.c
	@mkdir -p $$(@D)
	$$(call say,CC,$$@)
	$$(Q)$$(CC) $$(CPPFLAGS) $$(CFLAGS) $$(ISA_$(1)) $$(FUSED) -c $$< -o $$@
endef
$(foreach isa,$(ISAS),$(eval $(call kernel_rule,$(isa))))
$(OUT)/tests/test_%: tests/unit/test_%.c $(OUT)/libhone.a
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(filter %.c,$^) $(filter %.o,$^) $(filter %.a,$^) -o $@ $(shell pkg-config --cflags --libs cmocka) $(LDLIBS)
$(OUT)/gpu/%: tests/parity/%.c $(OUT)/libhone.a
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(filter %.c %.o %.a,$^) -o $@ $(shell pkg-config --cflags --libs cmocka) $(LDLIBS)
$(OUT)/gpu/%: tests/unit/%.c $(OUT)/libhone.a
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(filter %.c %.o %.a,$^) -o $@ $(shell pkg-config --cflags --libs cmocka) $(LDLIBS)
# These also compute on the emulated GPU.
$(addprefix $(OUT)/tests/test_model_,golden precision decode recorded): $(EMULATED)
$(OUT)/tests/parity_emulation: $(OUT)/emulated/tests/parity/parity_emulation.o $(filter $(OUT)/emulated/ops/cuda/emulation/%,$(EMULATED))
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $^ -o $@ $(shell pkg-config --libs cmocka)
$(OUT)/tests/parity_%: tests/parity/parity_%.c $(EMULATED) $(OUT)/libhone.a
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(filter %.c %.o %.a,$^) -o $@ $(shell pkg-config --cflags --libs cmocka) $(LDLIBS)
# The whole program whose "cuda" is the emulated GPU, for integration_cuda alone.
$(OUT)/emulated/backend_as_cuda.o: ops/cuda/backend_cuda.c
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(CPPFLAGS) -Iops/cuda/native $(CFLAGS) -c $< -o $@
$(OUT)/tests/hone_emulated: $(patsubst %.c,$(OUT)/%.o,$(wildcard cmd/*.c)) $(OUT)/emulated/backend_as_cuda.o $(filter-out %/backend_cuda.o,$(EMULATED)) $(OUT)/libhone.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $^ -o $@ $(LDLIBS)
$(OUT)/tests/integration_cuda $(OUT)/tests/integration_nccl: $(OUT)/tests/hone_emulated
$(OUT)/tests/integration_%: tests/integration/integration_%.c $(SUPPORT_O) $(OUT)/libhone.a | $(OUT)/hone $(MPI_SO) $(PLUGINS) $(SHIMS)
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(filter %.c %.o,$^) $(filter %.a,$^) -o $@ $(shell pkg-config --cflags --libs cmocka) $(LDLIBS)
$(OUT)/tests/integration_chaos $(OUT)/tests/integration_keys: $(OUT)/tests/integration/support_link.o
$(OUT)/bench/bench_model $(OUT)/bench/bench_gpu: $(patsubst %.c,$(OUT)/%.o,$(wildcard bench/model_*.c))
LOAD_O   := $(patsubst %.c,$(OUT)/%.o,$(wildcard bench/load*.c))
$(OUT)/bench/bench_load $(OUT)/tests/integration_load: $(LOAD_O)
$(OUT)/bench/bench_exactness: $(ISAS:%=$(OUT)/bench/free_product_%.o)
$(OUT)/bench/bench_%: bench/bench_%.c $(OUT)/bench/bench.o $(OUT)/libhone.a
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(filter %.c %.o,$^) $(filter %.a,$^) -o $@ $(LDLIBS)
$(OUT)/tests/corpus_%: tests/fuzz/fuzz_%.c tests/fuzz/corpus.c $(OUT)/libhone.a
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(filter %.c,$^) $(filter %.a,$^) -o $@ $(shell pkg-config --cflags --libs cmocka) $(LDLIBS)
$(OUT)/fuzz/%: tests/fuzz/%.c $(OUT)/libhone.a
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -fsanitize=fuzzer $(filter %.c %.o %.a,$^) -o $@ $(LDLIBS)
$(OUT)/libhone_mpi.so: ranks/mpi/mail_mpi.c
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(CPPFLAGS) $(filter-out -fsanitize%,$(CFLAGS)) -fPIC -shared $< -o $@ -MF $(@:.so=.d) $(HAS_MPI)
$(OUT)/shim/%.so: tests/shim/%.c
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(CPPFLAGS) $(filter-out -fsanitize%,$(CFLAGS)) -foptimize-sibling-calls -fPIC -shared $< -o $@ -ldl -lpthread
$(OUT)/plugin/%.so: tests/plugin/%.c
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -fvisibility=hidden -fPIC -shared $< -o $@

-include $(wildcard $(OUT)/*/*.d $(OUT)/*/*/*.d $(OUT)/*/*/*/*.d $(OUT)/*/*/*/*/*.d)
