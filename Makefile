# semindex: make help says what there is.
#
# One program (build/semindex) from four folders: server -> core -> kernels, schema read by all. Every .c of a folder is compiled; nothing is
# listed twice. Variables a person may set: BUILD (output folder), SAN (sanitizers), CFLAGS, PREFIX, DESTDIR, DATA, FIXTURES, CHECK.

BUILD   ?= build$(if $(SAN),-$(subst $(comma),-,$(SAN)))
PREFIX  ?= /usr/local
CC      ?= gcc
CXX     ?= g++
CFLAGS  ?= -O3 -g
FIXTURES ?= tests/fixtures/a
comma   := ,

# rooms: a folder of sources that becomes one archive. Order: who uses comes before who is used.
ROOMS   ?= server core/learn core/retrieve core/catalog core/data core/model core/text core/base core kernels/cpu kernels
PKGS    := libmicrohttpd libcjson sqlite3 sentencepiece gnutls libsystemd zlib
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lsentencepiece_train -ldnnl -lgomp

WARN    := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror
WARNXX  := -Wall -Wextra -Wshadow -Werror
ALLFLAGS := -D_GNU_SOURCE -DSEMINDEX_VERSION='"$(VERSION)"' -fno-omit-frame-pointer -fstack-protector-strong -pthread $(PKG_CFLAGS) $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all)
VERSION := 0.1.0
# Sums may be reordered into vector lanes in the numeric loops, and only there.
MATHFLAGS := -fno-math-errno -fno-trapping-math -fassociative-math -fno-signed-zeros
LDFLAGS += -pthread -Wl,--as-needed $(if $(SAN),-fsanitize=$(SAN))

sources = $(wildcard $(1)/*.c) $(wildcard $(1)/*.cc)
objects = $(patsubst %,$(BUILD)/obj/%.o,$(call sources,$(1)))
archive = $(BUILD)/lib/$(subst /,_,$(1)).a
LIBS    := $(foreach r,$(ROOMS),$(if $(call sources,$(r)),$(call archive,$(r))))
UNIT    := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/test_*.c))

.DEFAULT_GOAL := all
.PHONY: all help clean
.SECONDARY:

all: $(BUILD)/semindex ## build the program (build/semindex)

help: ## print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | awk -F'\t' '{printf "  make %-16s %s\n", $$1, $$2}'

$(BUILD)/obj/kernels/cpu/%.c.o: kernels/cpu/%.c
	@mkdir -p $(@D)
	$(CC) -std=c17 $(CFLAGS) $(WARN) $(ALLFLAGS) $(MATHFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/obj/server/main.c.o: server/main.c
	@mkdir -p $(@D)
	$(CC) -std=c17 $(CFLAGS) $(WARN) $(ALLFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/obj/%.c.o: %.c
	@mkdir -p $(@D)
	$(CC) -std=c17 $(CFLAGS) $(WARN) $(ALLFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/obj/%.cc.o: %.cc
	@mkdir -p $(@D)
	$(CXX) -std=c++17 $(CFLAGS) $(WARNXX) $(ALLFLAGS) -MMD -MP -c $< -o $@

define room_rule
$(call archive,$(1)): $(filter-out %/main.c.o,$(call objects,$(1)))
	@mkdir -p $$(@D)
	@rm -f $$@
	ar rcs $$@ $$^
endef
$(foreach r,$(ROOMS),$(eval $(call room_rule,$(r))))

$(BUILD)/semindex: $(BUILD)/obj/server/main.c.o $(LIBS)
	$(CXX) $(LDFLAGS) $< -Wl,--start-group $(LIBS) -Wl,--end-group $(PKG_LIBS) -lm -o $@

$(BUILD)/tests/%: $(BUILD)/obj/tests/unit/%.c.o $(LIBS)
	@mkdir -p $(@D)
	$(CXX) $(LDFLAGS) $< -Wl,--start-group $(LIBS) -Wl,--end-group -lcmocka $(PKG_LIBS) -lm -o $@

clean: ## remove what make built
	rm -rf build build-*

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
