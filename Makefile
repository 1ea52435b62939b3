# semindex: make help says what there is.
#
# One program (build/semindex) from four folders: server -> core -> kernels, schema read by all. Every .c of a folder is compiled; nothing is
# listed twice. Variables a person may set: BUILD (output folder), SAN (sanitizers), CFLAGS, PREFIX, DESTDIR, DATA, FIXTURES, CHECK,
# EMU=1 (the CUDA backend's kernels compiled for this processor as device "cuda", in bf16) or EMU=f32 (the same in single precision),
# CUDA=auto (build/semindex-cuda.so too where nvcc is found), 0, 1 (nvcc must be there) or f32 (in single precision), NVCC, CUDA_ARCHS.

BUILD   ?= build$(if $(EMU),-emu$(if $(filter f32,$(EMU)),-f32))$(if $(SAN),-$(subst $(comma),-,$(SAN)))
PREFIX  ?= /usr/local
ifeq ($(origin CC),default)
CC      := gcc
endif
ifeq ($(origin CXX),default)
CXX     := g++
endif
CFLAGS  ?= -O3 -g
FIXTURES ?= tests/fixtures/a
VERSION := 0.1.0
comma   := ,
Q       := $(if $(V),,@)

# rooms: a folder of sources that becomes one archive. Order: who uses comes before who is used.
ROOMS   ?= server core/learn core/retrieve core/catalog core/data core/model core/text core/base core kernels/cpu $(if $(EMU),kernels/cuda kernels/emu) kernels
PKGS    := libmicrohttpd libcjson sqlite3 sentencepiece gnutls libsystemd zlib
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lsentencepiece_train -ldnnl -lgomp

SANFLAGS = $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all)
WARN    := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror
WARNXX  := -Wall -Wextra -Wshadow -Werror
ifneq ($(findstring clang,$(CC)),)
WARN    += -Wno-unknown-pragmas -Wno-psabi
endif
EMUFLAGS := $(if $(EMU),-DSEMINDEX_EMU $(if $(filter f32,$(EMU)),-DSEMINDEX_CUDA_F32))
# What a module's table must agree on: the checksum of the header that describes it.
ABI     := -DSEMINDEX_BACKEND_ABI=$(firstword $(shell cksum < kernels/backend.h))u
ALLFLAGS := -D_GNU_SOURCE $(EMUFLAGS) $(ABI) -DSEMINDEX_VERSION='"$(VERSION)"' -fno-omit-frame-pointer -fstack-protector-strong -pthread $(PKG_CFLAGS) $(if $(KERNEL_CC),,$(SANFLAGS))
# Sums may be reordered into vector lanes in the numeric loops, and only there. KERNEL_CC: a compiler for these alone, without sanitizers
# (the fuzz build is clang's, and their vector code is for gcc).
MATHFLAGS := -fno-math-errno -fno-trapping-math -fassociative-math -fno-signed-zeros
LDFLAGS += -pthread -Wl,--as-needed $(if $(SAN),-fsanitize=$(SAN))

# The device's own half of kernels/cuda (CUDA runtime, cuBLASLt) has a twin in kernels/emu.
DEVICE_ONLY := kernels/cuda/runtime.cu kernels/cuda/blas.cu
sources = $(wildcard $(1)/*.c) $(wildcard $(1)/*.cc) $(filter-out $(DEVICE_ONLY),$(wildcard $(1)/*.cu))
objects = $(patsubst %,$(BUILD)/obj/%.o,$(call sources,$(1)))
archive = $(BUILD)/lib/$(subst /,_,$(1)).a
LIBS    := $(foreach r,$(ROOMS),$(if $(call sources,$(r)),$(call archive,$(r))))
UNIT    := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(filter-out $(if $(EMU),,tests/unit/test_emu.c tests/unit/test_device_learn.c tests/unit/test_device_step.c),$(wildcard tests/unit/test_*.c)))

# The CUDA module, loaded by the program when a person asks for the device. A sanitizer, fuzz or emulated build has none unless CUDA=1 says so.
CUDA    ?= $(if $(EMU)$(SAN)$(KERNEL_CC),0,auto)
NVCC    ?= $(firstword $(shell command -v nvcc 2>/dev/null) $(wildcard /usr/local/cuda/bin/nvcc))
CUDA_ARCHS ?= 80 90 100
ifeq ($(filter $(CUDA),auto 0 1 f32),)
$(error CUDA=$(CUDA): must be auto, 0, 1 or f32)
endif
ifneq ($(filter $(CUDA),1 f32),)
ifeq ($(NVCC),)
$(error CUDA=$(CUDA): nvcc is neither on PATH nor in /usr/local/cuda/bin; NVCC=/path/to/nvcc says where it is)
endif
endif
MODULE  := $(if $(filter-out 0,$(CUDA)),$(if $(NVCC),$(BUILD)/semindex-cuda.so))
CUDA_OBJECTS := $(patsubst kernels/cuda/%.cu,$(BUILD)/cuda/%.o,$(wildcard kernels/cuda/*.cu)) $(BUILD)/cuda/bucket.o
# Machine code for each architecture, and PTX of the last for those to come.
NVFLAGS := -std=c++17 -O3 -lineinfo --threads 2 -Werror all-warnings $(ABI) $(if $(filter f32,$(CUDA)),-DSEMINDEX_CUDA_F32) \
  $(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$(a),code=sm_$(a)) \
  -gencode arch=compute_$(lastword $(CUDA_ARCHS)),code=compute_$(lastword $(CUDA_ARCHS)) \
  -Xcompiler -fPIC,-fvisibility=hidden,-Wall,-Wextra,-Werror

.DEFAULT_GOAL := all
.PHONY: all help deps test test-device device-overlap test-thread build-tests fuzz-targets system parity lint format bench bench-trie bench-scale bench-peers cuda-cost gpu-check demo demo-debian eval-cranfield eval-beauty study-indexers study-length study-pretrain study-queries eval-cold fuzz soak install clean
.SECONDARY:

all: $(BUILD)/semindex $(MODULE) ## build the program (build/semindex), and its CUDA module where nvcc is found (CUDA=0 never, 1 always)

help: ## print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | awk -F'\t' '{printf "  make %-16s %s\n", $$1, $$2}'

$(BUILD)/obj/kernels/cpu/%.c.o: kernels/cpu/%.c
	@mkdir -p $(@D)
	$(Q)$(if $(V),,echo "  CC   $<";) $(or $(KERNEL_CC),$(CC)) -std=c17 $(CFLAGS) $(if $(KERNEL_CC),-Wall,$(WARN)) $(ALLFLAGS) $(MATHFLAGS) -MMD -MP -c $< -o $@

# Files that lie inside an object (EMBED), which the compiler's dependency files do not see.
$(BUILD)/obj/core/catalog/sqlite_schema.c.o: $(wildcard schema/sqlite/*.sql)
$(BUILD)/obj/server/recipes.c.o: $(wildcard schema/recipes/*.ini)

$(BUILD)/obj/server/main.c.o: server/main.c
	@mkdir -p $(@D)
	$(Q)$(if $(V),,echo "  CC   $<";) $(CC) -std=c17 $(CFLAGS) $(WARN) $(ALLFLAGS) $(SANFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/obj/%.c.o: %.c
	@mkdir -p $(@D)
	$(Q)$(if $(V),,echo "  CC   $<";) $(CC) -std=c17 $(CFLAGS) $(WARN) $(ALLFLAGS) $(SANFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/obj/%.cc.o: %.cc
	@mkdir -p $(@D)
	$(Q)$(if $(V),,echo "  CXX  $<";) $(CXX) -std=c++17 $(CFLAGS) $(WARNXX) $(ALLFLAGS) $(SANFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/obj/%.cu.o: %.cu
	@mkdir -p $(@D)
	$(Q)$(if $(V),,echo "  CXX  $<";) $(CXX) -x c++ -std=c++17 $(CFLAGS) $(WARNXX) $(ALLFLAGS) $(SANFLAGS) -MMD -MP -c $< -o $@

define room_rule
$(call archive,$(1)): $(filter-out %/main.c.o,$(call objects,$(1)))
	@mkdir -p $$(@D)
	@rm -f $$@
	$(Q)ar rcs $$@ $$^
endef
$(foreach r,$(ROOMS),$(eval $(call room_rule,$(r))))

$(BUILD)/semindex: $(BUILD)/obj/server/main.c.o $(LIBS)
	$(Q)$(if $(V),,echo "  LINK $@";) $(CXX) $(LDFLAGS) $< -Wl,--start-group $(LIBS) -Wl,--end-group $(PKG_LIBS) -lm -o $@

$(BUILD)/tests/%: $(BUILD)/obj/tests/unit/%.c.o $(LIBS)
	@mkdir -p $(@D)
	$(Q)$(if $(V),,echo "  LINK $@";) $(CXX) $(LDFLAGS) $< -Wl,--start-group $(LIBS) -Wl,--end-group -lcmocka $(PKG_LIBS) -lm -o $@

$(BUILD)/tests/test_emu: $(BUILD)/obj/tests/unit/test_emu.c.o $(BUILD)/obj/tests/unit/emu_cases.cu.o $(BUILD)/lib/kernels_emu.a
	@mkdir -p $(@D)
	$(Q)$(if $(V),,echo "  LINK $@";) $(CXX) $(LDFLAGS) $^ -lcmocka -lm -o $@

$(BUILD)/parity: $(patsubst %,$(BUILD)/obj/%.o,$(wildcard tests/parity/*.c)) $(LIBS)
	$(Q)$(if $(V),,echo "  LINK $@";) $(CXX) $(LDFLAGS) $(filter %.o,$^) -Wl,--start-group $(LIBS) -Wl,--end-group $(PKG_LIBS) -lm -o $@

$(BUILD)/bench/%: $(BUILD)/obj/tests/bench/%.c.o $(LIBS)
	@mkdir -p $(@D)
	$(Q)$(if $(V),,echo "  LINK $@";) $(CXX) $(LDFLAGS) $< -Wl,--start-group $(LIBS) -Wl,--end-group $(PKG_LIBS) -lm -o $@

$(BUILD)/fuzz/%: $(BUILD)/obj/tests/fuzz/%.c.o $(LIBS)
	@mkdir -p $(@D)
	$(Q)$(if $(V),,echo "  LINK $@";) $(CXX) $(LDFLAGS) -fsanitize=fuzzer,address $< -Wl,--start-group $(LIBS) -Wl,--end-group $(PKG_LIBS) -lm -o $@

$(BUILD)/cuda/%.o: kernels/cuda/%.cu
	@mkdir -p $(@D)
	$(Q)$(if $(V),,echo "  NVCC $<";) $(NVCC) $(NVFLAGS) -MMD -MP -MF $(@:.o=.d) -c $< -o $@

$(BUILD)/cuda/%.o: kernels/%.c
	@mkdir -p $(@D)
	$(Q)$(if $(V),,echo "  CC   $< (module)";) $(CC) -std=c17 -O2 -fPIC -fvisibility=hidden $(WARN) -MMD -MP -c $< -o $@

# The runtime is linked in, cuBLASLt is found when the module is loaded; nothing but the module's table is visible.
$(BUILD)/semindex-cuda.so: $(CUDA_OBJECTS)
	$(Q)$(if $(V),,echo "  LINK $@";) $(NVCC) -shared --cudart static $^ -lcublasLt -Xlinker --exclude-libs=ALL,-z,defs,-z,relro,-z,now -o $@

deps: ## install the Debian packages that build and tests need (asks first)
	@deploy/install-deps.sh build test

test: deps ## every test that needs no GPU and no network (SAN=address,undefined or SAN=thread for sanitizer builds)
	@$(MAKE) --no-print-directory -j2 BUILD=$(BUILD) build-tests
	@$(TESTENV) python3 tests/run.py --log $(BUILD)/log $(sort $(UNIT)) "$(BUILD)/parity tests/fixtures/a" $(SYSTEM)

test-device: ## conformance and parity on DEVICE: make EMU=1 test-device, EMU=f32 (emulated), or DEVICE=cuda where a GPU is
	@$(if $(DEVICE),,echo "test-device: DEVICE=cuda or EMU=1 says on what"; exit 64;)
	@$(MAKE) --no-print-directory -j2 BUILD=$(BUILD) $(BUILD)/semindex $(BUILD)/parity $(BUILD)/tests/test_kernels $(BUILD)/tests/test_searcher $(ON_DEVICE) $(MODULE)
	@SEMINDEX_CUDA_MODULE=$(MODULE) $(TESTENV) python3 tests/run.py --log $(BUILD)/log "$(BUILD)/tests/test_kernels --device $(DEVICE)" \
	  "$(BUILD)/tests/test_searcher --device $(DEVICE)" $(foreach t,$(ON_DEVICE),"$(t) --device $(DEVICE)") \
	  "$(BUILD)/parity --device $(DEVICE) $(FIXTURES)" \
	  "python3 tests/system/test_device.py $(BUILD)/semindex" "python3 tests/system/test_beam.py $(BUILD)/semindex --device $(DEVICE) $(NARROW)"
# test_engine's results are compared with the reference's in single precision.
ON_DEVICE = $(foreach t,device_learn device_step seq2seq generate $(if $(filter f32,$(EMU)),engine),$(BUILD)/tests/test_$t)

device-overlap: ## do the hits of DEVICE equal the cpu's, for the models of BUNDLE and the questions of DATA (EMU=1, EMU=f32, or DEVICE=cuda)
	@$(if $(and $(DEVICE),$(BUNDLE),$(DATA)),,echo "device-overlap: BUNDLE=, DATA=, and DEVICE=cuda or EMU=1, say on what"; exit 64;)
	@$(MAKE) --no-print-directory -j2 BUILD=$(BUILD) $(BUILD)/semindex $(MODULE)
	@SEMINDEX_CUDA_MODULE=$(MODULE) python3 tests/bench/device_overlap.py $(BUILD)/semindex $(BUNDLE) $(DATA) --device $(DEVICE) $(NARROW)

test-thread: ## the tests of what runs in several threads; meant for SAN=thread
	@$(MAKE) --no-print-directory -j2 BUILD=$(BUILD) $(BUILD)/semindex $(THREADED)
	@$(TESTENV) python3 tests/run.py --log $(BUILD)/log $(THREADED) $(foreach t,index beam bad_input,"python3 tests/system/test_$(t).py $(BUILD)/semindex") \
	  "python3 tests/system/test_load.py $(BUILD)/semindex - 3"
THREADED := $(foreach t,kernels catalog engine engine_generation searcher,$(BUILD)/tests/test_$(t))

build-tests: $(BUILD)/semindex $(BUILD)/parity $(UNIT)
# The device that tests of an emulated build run on; DEVICE=cuda with a GPU.
DEVICE  ?= $(if $(EMU),cuda)
# Its activations are bf16 unless the build says f32.
NARROW  := $(if $(or $(filter f32,$(EMU) $(CUDA)),$(filter cpu,$(DEVICE))),,--narrow)
# Sanitizer reports end a test; leaks count. SentencePiece's and protobuf's own globals live until exit and are no leaks of ours.
TESTENV := ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1
SYSTEM  := $(foreach t,$(sort $(wildcard tests/system/test_*.py)),"python3 $(t) $(BUILD)/semindex")

parity: $(BUILD)/parity ## compare with the reference folder FIXTURES (default tests/fixtures/a); EMU=1, EMU=f32: on the emulated device
	$(BUILD)/parity $(if $(DEVICE),--device $(DEVICE)) $(FIXTURES)

lint: ## house rules: includes, sizes, formatting of shell and Python
	@python3 tests/lint.py

bench: $(BUILD)/tests/test_kernels bench-trie ## kernels, trie, service: achieved, floor and ratio of each
	$(BUILD)/tests/test_kernels --perf

bench-trie: $(BUILD)/bench/bench_trie ## build 10 million random IDs; compare with a naive twin
	$(BUILD)/bench/bench_trie

bench-scale: $(BUILD)/bench/bench_scale ## K = 5,120 and 51,200: k-means and codes of ROWS x WIDTH (1000000 x 768) from a file, joint stage, trie, beam; 20 min (THREADS=1 CPU=1: processor time; PART=joint, ids, codes, kmeans)
	@mkdir -p $(BUILD)/scale && $(BUILD)/bench/bench_scale $(BUILD)/scale $(or $(ROWS),1000000) $(or $(WIDTH),768) $(or $(THREADS),0) $(if $(CPU),cpu,wall) $(PART); rc=$$?; rm -f $(BUILD)/scale/vectors-*.npy; exit $$rc

bench-peers: $(BUILD)/semindex $(BUILD)/bench/bench_model ## the same weights under CTranslate2, Hugging Face and PyTorch (a venv of 6 GB)
	tests/bench/peers.sh $(BUILD)

# The emulated backend in a build folder of its own; only the rooms that a model needs.
COST_BUILD ?= build-emu
COST_ROOMS := core/learn core/retrieve core/data core/model core/text core/base kernels/cpu kernels/cuda kernels/emu kernels
cuda-cost: ## what the CUDA backend launches, moves and computes at T5-base shapes, and how long that should take (needs no GPU)
	@$(MAKE) --no-print-directory -j2 EMU=1 BUILD=$(COST_BUILD) ROOMS="$(COST_ROOMS)" $(COST_BUILD)/bench/cuda_cost
	@python3 tests/bench/cuda_cost.py $(COST_BUILD)/bench/cuda_cost --json $(COST_BUILD)/cuda-cost.json --out $(COST_BUILD)/cuda-cost.txt \
	  $(if $(NVCC),--nvcc $(NVCC))

gpu-check: ## on a machine with a GPU: is the backend right there, and how fast (STAGES=a,b; tests/gpu_check.sh --list)
	@tests/gpu_check.sh $(if $(STAGES),--stages $(STAGES))

demo: ## install, build, learn the sample catalogue, serve it (CHECK=1: one curl each, then stop)
	@deploy/demo.sh $(if $(CHECK),--check)

demo-debian: ## the same on this machine's Debian package lists (CHECK=1: then stop)
	@deploy/demo-debian.sh $(if $(CHECK),--check)

eval-cranfield: $(BUILD)/semindex ## learn, train and evaluate on DATA=.../cranfield (up to 45 minutes)
	@tests/bench/eval_cranfield.sh $(BUILD)/semindex $(DATA)

eval-beauty: $(BUILD)/semindex ## learn, train and evaluate on DATA=.../beauty (up to 2 hours)
	@tests/bench/eval_beauty.sh $(BUILD)/semindex $(DATA)

eval-cold: $(BUILD)/semindex ## a tenth of DATA (.../cranfield or .../beauty) indexed after training: is it found? (up to 15 minutes on one thread)
	@tests/bench/cold_start.sh $(BUILD)/semindex $(DATA)

study-indexers: $(BUILD)/semindex ## four indexers on DATA=.../data (beauty, cranfield, cisi), the same task budget (2 hours; goes on where it was)
	@python3 tests/bench/study_indexers.py $(BUILD)/semindex $(DATA)

study-length: $(BUILD)/semindex ## L = 1, 2, 3 learned positions on DATA=.../cranfield or .../beauty: table and SVG (half an hour; goes on where it was)
	@python3 tests/bench/study_length.py $(BUILD)/semindex $(DATA)

study-pretrain: $(BUILD)/semindex ## random, pretrained and MiniLM embeddings on DATA=.../data (beauty, cranfield, cisi; an hour; goes on where it was)
	@python3 tests/bench/study_pretrain.py $(BUILD)/semindex $(DATA)

study-queries: $(BUILD)/semindex ## shares of written, cut and given pairs on DATA=.../data (the sample, cranfield, cisi; goes on where it was)
	@python3 tests/bench/study_queries.py $(BUILD)/semindex $(DATA)

fuzz: ## fuzz each target for SECONDS (60)
	@$(MAKE) --no-print-directory -j2 BUILD=build-fuzz CC=clang CXX=clang++ KERNEL_CC=gcc SAN=fuzzer-no-link,address fuzz-targets
	@for f in $(notdir $(basename $(wildcard tests/fuzz/fuzz_*.c))); do mkdir -p build-fuzz/corpus/$$f; \
	  build-fuzz/fuzz/$$f -max_total_time=$(or $(SECONDS),60) -timeout=10 -rss_limit_mb=2048 -verbosity=0 -print_final_stats=1 \
	    build-fuzz/corpus/$$f > build-fuzz/$$f.log 2>&1 || { tail -n 40 build-fuzz/$$f.log; echo "$$f: a finding"; exit 1; }; \
	  echo "$$f: $$(sed -n 's/^stat::number_of_executed_units: *//p' build-fuzz/$$f.log) runs, no finding"; done
fuzz-targets: $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))

soak: $(BUILD)/semindex $(BUILD)/tests/test_catalog_kill ## the long forms of the reliability tests (50 kills and more)
	$(BUILD)/tests/test_catalog_kill 50
	python3 tests/system/test_kill.py $(BUILD)/semindex - 50
	python3 tests/system/test_kill_learn.py $(BUILD)/semindex --kills 20

install: all ## install under $(DESTDIR)$(PREFIX), with the CUDA module if built, the systemd unit and its config file
	install -D -m 755 $(BUILD)/semindex $(DESTDIR)$(PREFIX)/bin/semindex
	$(if $(MODULE),install -D -m 644 $(MODULE) $(DESTDIR)$(PREFIX)/lib/semindex/semindex-cuda.so)
	$(if $(MODULE),install -D -m 644 deploy/semindex-cuda.conf $(DESTDIR)$(PREFIX)/lib/systemd/system/semindex.service.d/cuda.conf)
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's|/usr/bin/semindex|$(PREFIX)/bin/semindex|' deploy/semindex.service > $(DESTDIR)$(PREFIX)/lib/systemd/system/semindex.service
	install -D -m 644 deploy/semindex.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/semindex.conf
	[ -e $(DESTDIR)/etc/semindex/semindex.conf ] || install -D -m 644 deploy/semindex.conf $(DESTDIR)/etc/semindex/semindex.conf

clean: ## remove what make built
	rm -rf build build-*

-include $(shell find $(BUILD)/obj $(BUILD)/cuda -name '*.d' 2>/dev/null)
