# mlax: `make demo` trains the worked example, `make test` runs every suite; both install and build what is missing.
#
#   all (default)  the libraries, the Lua module and the program     demo  test  bench      run them (bench-compare: beside JAX and PyTorch)
#   deps           installs what building and testing need           env                    prints LUA_PATH, LUA_CPATH
#   install        PREFIX=/usr/local DESTDIR=                        clean
#   doc            the reference as HTML, in BUILD/doc
#   test-interop   exchanges files with Python packages (PYTHON=python3)
#   lint  sanitize  tsan  valgrind  clang                                  checks; each compiler and set of flags has its own folder
#   coverage-table                                                   writes src/ops/README.md from the primitives
#
# CC, OPT=-O2, WERROR=1, BUILD=build, SAN= and V=1 (show commands) may be given. A change of flags rebuilds everything.

CC      = gcc
BUILD  ?= build
PREFIX ?= /usr/local
LUA    ?= lua5.4
OPT    ?= -O2
SAN    ?=
PYTHON ?= python3
VERSION := $(shell sed -n 's/^.define MLAX_VERSION *"\(.*\)".*/\1/p' src/mlax.h)

# -- what the machine has; nothing here fails where a tool is missing --------------------------------------------------

BLAS_DIR := $(firstword $(wildcard /usr/lib/*/openblas-openmp))
BLAS_CFLAGS ?= $(if $(BLAS_DIR),-I$(BLAS_DIR:/usr/lib/%=/usr/include/%),$(shell pkg-config --cflags openblas 2>/dev/null))
BLAS_LIBS ?= $(if $(BLAS_DIR),-L$(BLAS_DIR) -Wl$(comma)-rpath$(comma)$(BLAS_DIR)) -lopenblas
LUA_PC := $(shell for n in lua5.4 lua-5.4 lua54 lua; do pkg-config --exists "$$n >= 5.4" 2>/dev/null && echo $$n && break; done)
LUA_CFLAGS ?= $(if $(LUA_PC),$(shell pkg-config --cflags $(LUA_PC)),-I/usr/include/lua5.4)
LUA_STATIC := $(firstword $(wildcard /usr/lib/*/liblua5.4.a /usr/lib/liblua5.4.a))
LUA_LIBS ?= $(if $(LUA_STATIC),$(LUA_STATIC),$(if $(LUA_PC),$(shell pkg-config --libs $(LUA_PC)),-llua5.4)) -ldl
comma := ,
Q := $(if $(V),,@)

# -- flags --------------------------------------------------------------------------------------------------------------
# Symbols: objects are joined into one for the core and one for api/, in which only mlax_* stay global (see the rule).

WARN := -Wall -Wextra $(if $(filter 1,$(WERROR)),-Werror)
BASE_FLAGS := -std=c11 -D_GNU_SOURCE -g $(WARN) -fPIC -fexceptions -fopenmp -fno-math-errno -fno-trapping-math \
              -fno-semantic-interposition $(SAN)
CFLAGS ?=
ALL_CFLAGS = $(BASE_FLAGS) $(OPT) $(CPPFLAGS) $(CFLAGS)
SIMD_CFLAGS = $(BASE_FLAGS) -O3 -ffp-contract=off $(CPPFLAGS) $(CFLAGS)
CORE_LIBS = $(BLAS_LIBS) -lz -lm
LINK = $(CC) -fopenmp $(SAN) $(LDFLAGS)
SHARED = $(LINK) -shared -Wl,-z,nodelete -Wl,-z,defs -Wl,-Bsymbolic

MACHINE := $(shell uname -m)
ISA := $(if $(filter x86_64 amd64,$(MACHINE)),sse2 avx2 avx512,plain)
isa_sse2   :=
isa_plain  :=
isa_avx2   := -march=x86-64-v3
isa_avx512 := -march=x86-64-v4 -mprefer-vector-width=512
# Matrix tiles, where the compiler knows them; gemm_bfloat.c asks for them, and the program for the machine's.
AMX_FLAGS := $(if $(filter avx512,$(ISA)),$(shell f='-mamx-tile -mamx-bf16 -mavx512bf16'; $(CC) $$f -E -x c /dev/null >/dev/null 2>&1 && echo "$$f"))

# -- files --------------------------------------------------------------------------------------------------------------

OBJ := $(BUILD)/obj
CORE_DIRS := base array ops program device device/cpu compile trace io
CORE_SRC := $(foreach d,$(CORE_DIRS),$(wildcard src/$(d)/*.c))
SIMD_SRC := $(wildcard src/device/cpu/simd/*.c)
API_SRC  := $(wildcard src/api/*.c)
CLI_SRC  := $(wildcard src/cli/*.c)
TEST_SRC := $(wildcard tests/c/test_*.c)
TEST_HELP := $(filter-out $(TEST_SRC),$(wildcard tests/c/*.c))
LUA_SRC  := $(sort $(shell find lua/mlax -name '*.lua' 2>/dev/null))
DATA_SRC := $(sort $(wildcard lua/mlax/data/*.gz))

SIMD_OBJ := $(foreach i,$(ISA),$(SIMD_SRC:%.c=$(OBJ)/%.$(i).o))
CORE_OBJ := $(CORE_SRC:%.c=$(OBJ)/%.o) $(SIMD_OBJ)
EMBED_OBJ := $(BUILD)/gen/embedded.o
API_OBJ  := $(API_SRC:%.c=$(OBJ)/%.o)
CLI_OBJ  := $(CLI_SRC:%.c=$(OBJ)/%.o)
TESTS    := $(TEST_SRC:tests/c/%.c=$(BUILD)/tests/%)

all: $(BUILD)/libmlax.a $(BUILD)/libmlax.so $(BUILD)/lua/mlax/core.so $(BUILD)/mlax

# -- compile ------------------------------------------------------------------------------------------------------------

FLAGS = $(CC) $(filter-out -Werror,$(ALL_CFLAGS)) $(BLAS_CFLAGS) $(LUA_CFLAGS)
# Rewritten only when it changes; all objects depend on it. It also says what is missing before the first compiler error does.
$(BUILD)/flags: FORCE
	@sh .ci/deps check build
	@mkdir -p $(@D)
	@echo '$(FLAGS)' | cmp -s - $@ || echo '$(FLAGS)' > $@

$(OBJ)/src/api/%.o $(OBJ)/src/cli/%.o: private CPPFLAGS += $(LUA_CFLAGS)
$(OBJ)/src/%.o: src/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	@echo '  CC    $<'
	$(Q)$(CC) $(ALL_CFLAGS) $(BLAS_CFLAGS) -MMD -MP -c $< -o $@

define simd_rule
$(OBJ)/%.$(1).o: %.c $(BUILD)/flags
	@mkdir -p $$(@D)
	@echo '  CC    $$< ($(1))'
	$$(Q)$$(CC) $$(SIMD_CFLAGS) -DMX_ISA=$(1) $$(isa_$(1)) -MMD -MP -c $$< -o $$@
endef
$(OBJ)/src/device/cpu/simd/gemm_bfloat.avx512.o: private isa_avx512 += $(AMX_FLAGS)
$(foreach i,$(ISA),$(eval $(call simd_rule,$(i))))

# The Lua sources and data sets as one C object.
$(BUILD)/gen/names: FORCE
	@mkdir -p $(@D)
	@echo '$(LUA_SRC) $(DATA_SRC)' | cmp -s - $@ || echo '$(LUA_SRC) $(DATA_SRC)' > $@
$(BUILD)/gen/embedded.c: src/api/embed.sh $(BUILD)/gen/names $(LUA_SRC) $(DATA_SRC)
	@echo '  EMBED $(words $(LUA_SRC) $(DATA_SRC)) files'
	$(Q)sh src/api/embed.sh lua/ $(LUA_SRC) $(DATA_SRC) > $@.new && mv $@.new $@
$(EMBED_OBJ): $(BUILD)/gen/embedded.c src/api/embedded.h $(BUILD)/flags
	$(Q)$(CC) $(BASE_FLAGS) $(LUA_CFLAGS) -O1 -Isrc/api -c $< -o $@

# -- libraries ----------------------------------------------------------------------------------------------------------
# Everything below api/ becomes one object in which only mlax_* are global. What api/ needs of it beyond mlax.h keeps a
# global name too, mlax_private_*: core.so finds it in libmlax.so, so that a host and the Lua module share one engine.

$(OBJ)/core.o: $(CORE_OBJ)
	$(Q)$(CC) -nostdlib -r -o $@ $^
$(OBJ)/lua.o: $(API_OBJ)
	$(Q)$(CC) -nostdlib -r -o $@ $^
$(BUILD)/gen/private.map: $(OBJ)/core.o $(OBJ)/lua.o
	@mkdir -p $(@D)
	$(Q)nm -g --defined-only $(OBJ)/core.o | awk '$$3 ~ /^mx_/ {print $$3}' | sort > $@.core
	$(Q)nm -u $(OBJ)/lua.o | awk '{print $$NF}' | sort | join - $@.core | sed 's/^mx_\(.*\)/mx_\1 mlax_private_\1/' > $@
$(BUILD)/libmlax.o: $(OBJ)/core.o $(BUILD)/gen/private.map
	$(Q)objcopy --redefine-syms=$(BUILD)/gen/private.map --wildcard --keep-global-symbol='mlax_*' $< $@
$(BUILD)/libmlax_lua.o: $(OBJ)/lua.o $(BUILD)/gen/private.map
	$(Q)objcopy --redefine-syms=$(BUILD)/gen/private.map --wildcard --keep-global-symbol='mlax_*' --keep-global-symbol='luaopen_mlax*' \
	  $< $@

$(BUILD)/gen/libmlax_embedded.o: $(OBJ)/lua.o $(EMBED_OBJ) $(BUILD)/gen/private.map
	$(Q)$(CC) -nostdlib -r -o $@.all $(OBJ)/lua.o $(EMBED_OBJ)
	$(Q)objcopy --redefine-syms=$(BUILD)/gen/private.map --wildcard --keep-global-symbol='mlax_*' --keep-global-symbol='luaopen_mlax*' \
	  $@.all $@
	@rm -f $@.all
$(BUILD)/libmlax.a: $(BUILD)/libmlax.o $(BUILD)/gen/libmlax_embedded.o
	@echo '  AR    $@'
	$(Q)rm -f $@ && ar rcs $@ $^
$(BUILD)/gen/exports.map:
	@mkdir -p $(@D)
	@echo '{ global: mlax_*; luaopen_mlax*; local: *; };' > $@
$(BUILD)/libmlax.so: $(BUILD)/libmlax.o $(BUILD)/gen/exports.map
	@echo '  LD    $@'
	$(Q)$(SHARED) -Wl,-soname,libmlax.so -Wl,--version-script=$(BUILD)/gen/exports.map -o $@ $< $(CORE_LIBS)
# Lua's own symbols come from the program that loads the module.
$(BUILD)/lua/mlax/core.so: $(BUILD)/libmlax_lua.o $(BUILD)/libmlax.so $(BUILD)/gen/exports.map
	@mkdir -p $(@D)
	@echo '  LD    $@'
	$(Q)$(filter-out -Wl$(comma)-z$(comma)defs,$(SHARED)) -Wl,--version-script=$(BUILD)/gen/exports.map -Wl,-rpath,'$$ORIGIN/../..:$$ORIGIN/../../..:$$ORIGIN' \
	  -o $@ $< -L$(BUILD) -lmlax -lm

# Lua modules in C that a script loads find Lua in the program.
$(BUILD)/gen/program.map:
	@mkdir -p $(@D)
	@echo '{ lua_*; luaL_*; luaopen_*; mlax_*; };' > $@
$(BUILD)/mlax: $(CLI_OBJ) $(API_OBJ) $(CORE_OBJ) $(EMBED_OBJ) $(BUILD)/gen/program.map
	@echo '  LD    $@'
	$(Q)$(LINK) -Wl,--dynamic-list=$(BUILD)/gen/program.map -o $@ $(filter %.o,$^) -Wl,--whole-archive $(filter %.a,$(LUA_LIBS)) \
	  -Wl,--no-whole-archive $(filter-out %.a,$(LUA_LIBS)) $(CORE_LIBS)

# As many jobs as cores, where nobody said how many.
PARALLEL_MAKE = $(MAKE) --no-print-directory $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc 2>/dev/null || echo 2))

# -- run ----------------------------------------------------------------------------------------------------------------

DEMO ?= lua/examples/digits.lua
demo:
	@sh .ci/deps install build
	@$(PARALLEL_MAKE) all
	@$(BUILD)/mlax $(DEMO)

test:
	@sh .ci/deps install test
	@$(PARALLEL_MAKE) all ctests
	@BUILD=$(BUILD) LUA=$(LUA) sh tests/run $(SUITES)

# C tests see the internals, so they link all objects. test_host.c is a host: libmlax.so and mlax.h, nothing else.
ctests: $(TESTS) $(BUILD)/tests/lua/fault.so $(BUILD)/tests/records
$(OBJ)/tests.a: $(CORE_OBJ) $(API_OBJ)
	@echo '  AR    $@'
	$(Q)rm -f $@ && ar rcs $@ $^
$(OBJ)/tests/%.o: tests/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	@echo '  CC    $<'
	$(Q)$(CC) $(ALL_CFLAGS) $(LUA_CFLAGS) -Isrc -MMD -MP -c $< -o $@
$(BUILD)/tests/test_host: $(OBJ)/tests/c/test_host.o $(BUILD)/libmlax.so
	@mkdir -p $(@D)
	@echo '  LD    $@'
	$(Q)$(LINK) -o $@ $< -L$(BUILD) -lmlax -Wl,-rpath,'$$ORIGIN/..' -lcmocka -lpthread
$(BUILD)/tests/test_%: $(OBJ)/tests/c/test_%.o $(TEST_HELP:%.c=$(OBJ)/%.o) $(EMBED_OBJ) $(OBJ)/tests.a
	@mkdir -p $(@D)
	@echo '  LD    $@'
	$(Q)$(LINK) -o $@ $^ -lcmocka $(LUA_LIBS) $(CORE_LIBS) -lpthread
$(BUILD)/tests/records: $(OBJ)/tests/coverage/records.o $(EMBED_OBJ) $(OBJ)/tests.a
	@mkdir -p $(@D)
	@echo '  LD    $@'
	$(Q)$(LINK) -o $@ $^ $(LUA_LIBS) $(CORE_LIBS) -lpthread
# require "fault" for specs; Lua's symbols come from the program.
$(BUILD)/tests/lua/fault.so: $(OBJ)/tests/fault/module.o
	@mkdir -p $(@D)
	@echo '  LD    $@'
	$(Q)$(LINK) -shared -o $@ $<
.SECONDARY:

# Files by Python's safetensors and NumPy, read here, and the other way round. PYTHON=... names the interpreter.
test-interop: all
	@MLAX=$(BUILD)/mlax PYTHON=$(PYTHON) sh tests/interop/run

# What each primitive answers to each transformation, from the records themselves.
coverage-table: all $(BUILD)/tests/records
	@eval "$$($(MAKE) --no-print-directory env)"; $(LUA) -e \
	  'local c = require "spec.support.coverage"; io.write(c.text(c.records("$(BUILD)/tests/records")))' > $(BUILD)/tests/table
	@mv $(BUILD)/tests/table src/ops/README.md

# BENCH: options and words, see tests/bench/README.md. PYTHON: one that has jax, optax and torch.
bench: all
	@for b in tests/bench/*.lua; do $(BUILD)/mlax $$b $(BENCH) || exit 1; done
bench-compare: all
	@$(PYTHON) tests/bench/compare.py --mlax $(BUILD)/mlax $(BENCH)

SAN_FLAGS := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
sanitize:
	@sh .ci/deps install test
	@$(PARALLEL_MAKE) BUILD=build-asan SAN='$(SAN_FLAGS)' OPT=-O1 build-asan/mlax ctests
	@MLAX_PROGRAMS=$${MLAX_PROGRAMS:-300} FAULT_SAME=$${FAULT_SAME:-1} BUILD=build-asan LUA=build-asan/mlax ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=0 \
	  LSAN_OPTIONS=suppressions=tests/leaks.supp:print_suppressions=0 UBSAN_OPTIONS=print_stacktrace=1 sh tests/run $(or $(SUITES),c spec)
# OpenMP's barriers are made known in src/base/thread.c; OpenBLAS runs in one thread, as it cannot be looked into.
TSAN_CTESTS := $(addprefix test_,base batches host index pool random reduce sort states)
tsan:
	@sh .ci/deps install test
	@$(PARALLEL_MAKE) BUILD=build-tsan SAN=-fsanitize=thread OPT=-O1 build-tsan/mlax ctests
	@BUILD=build-tsan CTESTS='$(or $(CTESTS),$(TSAN_CTESTS))' OPENBLAS_NUM_THREADS=1 OMP_WAIT_POLICY=passive sh tests/run c
# Slow: products are checked against plain loops. CTESTS='test_io test_host' runs some.
valgrind: all ctests
	@BUILD=$(BUILD) LUA=$(LUA) WRAP='valgrind -q --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite' \
	  CTESTS='$(CTESTS)' OMP_NUM_THREADS=1 FAULT_CASE=error sh tests/run $(or $(SUITES),c)
clang:
	@$(PARALLEL_MAKE) BUILD=build-clang CC=clang WERROR=1 all

lint:
	@sh .ci/deps install lint
	sh tests/lint/includes
	clang-format --dry-run -Werror $$(find src tests -name '*.c' -o -name '*.h')
	luacheck -q lua spec tests

# The reference as HTML, from the comments in lua/mlax; a warning is an error.
doc:
	@sh .ci/deps install doc
	@mkdir -p $(BUILD)
	@ldoc -q --fatalwarnings -d $(BUILD)/doc . >$(BUILD)/doc.log 2>&1 || { cat $(BUILD)/doc.log; exit 1; }
	@echo $(BUILD)/doc/index.html

deps:
	@sh .ci/deps install all
env:
	@echo "export LUA_PATH='$(CURDIR)/lua/?.lua;$(CURDIR)/lua/?/init.lua;;'"
	@echo "export LUA_CPATH='$(abspath $(BUILD))/lua/?.so;;'"

# -- install ------------------------------------------------------------------------------------------------------------

INSTALL := $(DESTDIR)$(PREFIX)
install: all
	mkdir -p $(INSTALL)/bin $(INSTALL)/include $(INSTALL)/lib/pkgconfig $(INSTALL)/lib/lua/5.4/mlax $(INSTALL)/share/lua/5.4
	install -m 755 $(BUILD)/mlax $(INSTALL)/bin/mlax
	install -m 644 src/mlax.h src/mlax_lua.h $(INSTALL)/include
	install -m 644 $(BUILD)/libmlax.a $(INSTALL)/lib
	install -m 755 $(BUILD)/libmlax.so $(INSTALL)/lib
	install -m 755 $(BUILD)/lua/mlax/core.so $(INSTALL)/lib/lua/5.4/mlax/core.so
	cd lua && find mlax -type f | while read -r f; do install -D -m 644 "$$f" $(abspath $(INSTALL))/share/lua/5.4/"$$f"; done
	for pc in mlax mlax-lua; do sed -e 's|@PREFIX@|$(PREFIX)|; s|@VERSION@|$(VERSION)|; s|@LIBS@|-fopenmp $(CORE_LIBS)|' \
	  src/$$pc.pc.in > $(INSTALL)/lib/pkgconfig/$$pc.pc; done

# For LuaRocks, whose folders are its own: the module finds libmlax.so beside itself.
install-rock: all
	mkdir -p $(LIBDIR)/mlax $(LUADIR)
	install -m 755 $(BUILD)/lua/mlax/core.so $(BUILD)/libmlax.so $(LIBDIR)/mlax
	cd lua && find mlax -type f | while read -r f; do install -D -m 644 "$$f" "$(LUADIR)/$$f"; done

clean:
	rm -rf build build-asan build-clang

FORCE:
.DELETE_ON_ERROR:
.PHONY: all ctests demo test test-interop bench bench-compare sanitize tsan valgrind clang lint doc deps env install install-rock clean FORCE coverage-table
-include $(CORE_OBJ:.o=.d) $(API_OBJ:.o=.d) $(CLI_OBJ:.o=.d) $(wildcard $(OBJ)/tests/*/*.d)
