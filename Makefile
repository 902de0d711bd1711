# hone: one Makefile, no recursion into folders. `make help` lists the targets.
CC       ?= cc
BUILD    ?= build
MODE     ?= release
PREFIX   ?= /usr/local
-include config.mak

PACKAGES  = libzmq yaml-0.1 sqlite3 jansson libcrypto gmp libseccomp libpcre2-8
CFLAGS_release = -O3
CFLAGS_debug   = -O0
CFLAGS_asan    = -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
CFLAGS_tsan    = -O1 -fsanitize=thread
WARN      = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes $(WERROR)
override CFLAGS   += -std=gnu11 -g $(CFLAGS_$(MODE)) $(WARN)
COMMIT   := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo no-commit)
override CPPFLAGS += -I. -D_GNU_SOURCE -MMD -MP $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null)
override LDLIBS   += $(shell pkg-config --libs $(PACKAGES) 2>/dev/null) -lm -ldl -lpthread
OUT      := $(BUILD)/$(MODE)
ARCH     := $(shell uname -m)

# One line per folder; a new file needs no edit here. FOLDERS=... builds a part alone.
FOLDERS  ?= common ops wire sandbox model tasks reward rollout learner pipeline
LIB_C    := $(foreach f,$(FOLDERS),$(wildcard $(f)/*.c))
ifneq ($(filter ops,$(FOLDERS)),)
LIB_C    += $(wildcard ops/reference/*.c) ops/cpu/$(if $(filter x86_64,$(ARCH)),dispatch_x86_64.c,dispatch_other.c)
LIB_C    += $(filter-out ops/cpu/kernels_%.c ops/cpu/dispatch_%.c,$(wildcard ops/cpu/*.c))
LIB_C    += ops/cuda/backend_absent.c
endif
ifneq ($(filter reward,$(FOLDERS)),)
LIB_C    += $(wildcard reward/verifiers/*.c)
endif
LIB_O    := $(LIB_C:%.c=$(OUT)/%.o)

# The hot loops are compiled once per instruction set, and chosen at start-up.
ifneq ($(filter ops,$(FOLDERS)),)
ifeq ($(ARCH),x86_64)
ISAS     := baseline avx2 avx512
else
ISAS     := baseline
endif
KERNELS  := $(patsubst %.c,%,$(wildcard ops/cpu/kernels_*.c))
LIB_O    += $(foreach isa,$(ISAS),$(KERNELS:%=$(OUT)/%_$(isa).o))
endif
ISA_baseline = -DKERNEL_ISA=baseline -DVECTOR_BYTES=16
ISA_avx2     = -DKERNEL_ISA=avx2 -DVECTOR_BYTES=32 -mavx2 -mfma
ISA_avx512   = -DKERNEL_ISA=avx512 -DVECTOR_BYTES=64 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx2 -mfma

TESTS    := $(patsubst tests/unit/%.c,$(OUT)/tests/%,$(wildcard tests/unit/test_*.c))
TESTS    += $(patsubst tests/parity/%.c,$(OUT)/tests/%,$(wildcard tests/parity/parity_*.c))
BENCHES  := $(patsubst bench/%.c,$(OUT)/bench/%,$(wildcard bench/bench_*.c))
PLUGINS  := $(patsubst tests/plugin/%.c,$(OUT)/plugin/%.so,$(wildcard tests/plugin/*.c))

.SECONDARY:
.PHONY: all check bench clean help

all: $(OUT)/hone $(PLUGINS)   ## build the program

$(OUT)/libhone.a: $(LIB_O)
	@rm -f $@
	$(AR) rcs $@ $^

$(OUT)/hone: $(patsubst %.c,$(OUT)/%.o,$(wildcard cmd/*.c)) $(OUT)/libhone.a
	$(CC) $(CFLAGS) $^ -o $@ -rdynamic $(LDLIBS)

check: $(TESTS) $(PLUGINS)   ## unit tests; T=test_name runs one
	@for t in $(if $(T),$(OUT)/tests/$(T),$(TESTS)); do $$t || exit 1; done

bench: $(BENCHES)   ## speed of the arithmetic, beside the machine's own limits
	@for b in $(BENCHES); do $$b || exit 1; done

$(OUT)/common/version.o: override CPPFLAGS += -DHONE_COMMIT='"$(COMMIT)"'
$(OUT)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -c $< -o $@
define kernel_rule
$(OUT)/ops/cpu/%_$(1).o: ops/cpu/%.c
	@mkdir -p $$(@D)
	$$(CC) $$(CPPFLAGS) $$(CFLAGS) $$(ISA_$(1)) -ffp-contract=fast -fno-math-errno -c $$< -o $$@
endef
$(foreach isa,$(ISAS),$(eval $(call kernel_rule,$(isa))))
$(OUT)/tests/test_%: tests/unit/test_%.c $(OUT)/libhone.a
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $^ -o $@ $(shell pkg-config --cflags --libs cmocka) $(LDLIBS)
$(OUT)/tests/parity_%: tests/parity/parity_%.c $(OUT)/libhone.a
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $^ -o $@ $(shell pkg-config --cflags --libs cmocka) $(LDLIBS)
$(OUT)/bench/%: bench/%.c $(OUT)/libhone.a
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $^ -o $@ $(LDLIBS)
$(OUT)/plugin/%.so: tests/plugin/%.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -fvisibility=hidden -fPIC -shared $< -o $@

clean:   ## remove what make made
	rm -rf $(BUILD)
help:   ## this list
	@sed -n 's/^\([a-z_ -]*\):.*##/\1  /p' $(firstword $(MAKEFILE_LIST))

-include $(LIB_O:.o=.d)
