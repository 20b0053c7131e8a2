# SPDX-License-Identifier: LGPL-2.1-or-later
#
# `make` builds everything into build/, `make help` lists the targets.

BUILD ?= build
CC ?= gcc
PKG_CONFIG ?= pkg-config
PREFIX ?= /usr
SYSCONFDIR ?= /etc
DESTDIR ?=
V ?= 0

ifeq ($(V),0)
Q := @
endif

PACKAGES := gio-unix-2.0 gio-2.0 glib-2.0 libvirt libvirt-qemu libvirt-glib-1.0 libxml-2.0 \
            json-glib-1.0 libnl-3.0 libnl-route-3.0
PLUGIN_PACKAGES := gio-unix-2.0 gio-2.0 glib-2.0

# The packages are asked once; a missing one is named by `make check-packages`.
PACKAGE_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(PACKAGES) 2>/dev/null)
PACKAGE_LIBS := $(shell $(PKG_CONFIG) --libs $(PACKAGES) 2>/dev/null)
PLUGIN_LIBS := $(shell $(PKG_CONFIG) --libs $(PLUGIN_PACKAGES) 2>/dev/null)

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wconversion
ifneq ($(CI),)
WARNINGS += -Werror
endif
SANITIZE ?=
CFLAGS ?= -O2 -g
HARDENING := -fstack-protector-strong -D_FORTIFY_SOURCE=2
ifneq ($(SANITIZE),)
CFLAGS := -O1 -g -fno-omit-frame-pointer -fsanitize=$(SANITIZE)
HARDENING :=
endif
# Third-party headers are system headers: their conversions are not ours to fix.
ALL_CFLAGS := -std=gnu11 $(CFLAGS) $(HARDENING) $(WARNINGS) -fPIC -D_GNU_SOURCE \
              -DCONVOY_SYSCONFDIR='"$(SYSCONFDIR)"' -Iplugin -isystem $(BUILD)/generated \
              $(subst -I,-isystem ,$(PACKAGE_CFLAGS))
ALL_LDFLAGS := $(if $(SANITIZE),-fsanitize=$(SANITIZE)) -Wl,-z,relro,-z,now $(LDFLAGS)

GENERATED := $(BUILD)/generated/daemon-interface.h
LIBRARY_SOURCES := $(wildcard plugin/common/*.c plugin/decision/*.c plugin/traffic/*.c \
                     plugin/shaping/*.c) $(filter-out plugin/daemon/main.c,$(wildcard plugin/daemon/*.c))
LIBRARY_OBJECTS := $(LIBRARY_SOURCES:%.c=$(BUILD)/objects/%.o) \
                   $(BUILD)/objects/generated/daemon-interface.o
LIBRARY := $(BUILD)/libconvoy.a
DAEMON_OBJECTS := $(BUILD)/objects/plugin/daemon/main.o
CLI_OBJECTS := $(patsubst %.c,$(BUILD)/objects/%.o,$(wildcard plugin/cli/*.c))
HOOK_OBJECTS := $(patsubst %.c,$(BUILD)/objects/%.o,$(wildcard hook/*.c))
PLUGIN_OBJECTS := $(patsubst %.c,$(BUILD)/objects/%.o,$(wildcard plugin/libvirtd/*.c))
UNIT_TESTS := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/test-*.c))
PROGRAMS := $(BUILD)/virt-convoyd $(BUILD)/virt-convoy $(BUILD)/virt-convoy-hook \
            $(BUILD)/virt-convoy-libvirtd.so

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:

##@ Build
all: $(PROGRAMS) ## build the daemon, the command, the hook and the plugin

$(BUILD)/generated/daemon-interface.c $(BUILD)/generated/daemon-interface.h &: xml-schemas/org.virtconvoy.Daemon1.xml
	$(Q)mkdir -p $(BUILD)/generated
	$(Q)cd $(BUILD)/generated && gdbus-codegen --interface-prefix org.virtconvoy. \
	  --c-namespace Convoy --c-generate-autocleanup all --generate-c-code daemon-interface \
	  $(abspath $<)

$(BUILD)/objects/generated/%.o: $(BUILD)/generated/%.c
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(filter-out -W%,$(ALL_CFLAGS)) -w -c $< -o $@

$(BUILD)/objects/%.o: %.c $(GENERATED)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

# Only entry points of libvirt may leave the plugin; see plugin/libvirtd/exports.map.
$(BUILD)/objects/plugin/libvirtd/%.o: ALL_CFLAGS += -fvisibility=hidden

$(LIBRARY): $(LIBRARY_OBJECTS)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(BUILD)/virt-convoyd: $(DAEMON_OBJECTS) $(LIBRARY)
	$(Q)$(CC) $(ALL_LDFLAGS) $^ $(PACKAGE_LIBS) -lm -o $@

$(BUILD)/virt-convoy: $(CLI_OBJECTS) $(LIBRARY)
	$(Q)$(CC) $(ALL_LDFLAGS) $^ $(PACKAGE_LIBS) -lm -o $@

$(BUILD)/virt-convoy-hook: $(HOOK_OBJECTS) $(LIBRARY)
	$(Q)$(CC) $(ALL_LDFLAGS) -Wl,--as-needed $^ $(PLUGIN_LIBS) -o $@

$(BUILD)/virt-convoy-libvirtd.so: $(PLUGIN_OBJECTS) $(LIBRARY) plugin/libvirtd/exports.map
	$(Q)$(CC) -shared $(ALL_LDFLAGS) -Wl,--as-needed -Wl,--no-undefined -Wl,--exclude-libs,ALL \
	  -Wl,--version-script=plugin/libvirtd/exports.map $(PLUGIN_OBJECTS) $(LIBRARY) \
	  $(PLUGIN_LIBS) -ldl -o $@

$(BUILD)/tests/%: tests/unit/%.c $(LIBRARY)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $< $(LIBRARY) $(PACKAGE_LIBS) -lm -o $@

unit-tests: $(UNIT_TESTS) ## build the unit test programs

clean: ## remove build/
	$(Q)rm -rf $(BUILD)

##@ Test
test-unit: unit-tests ## run the unit tests only
	$(Q)prove -e '' $(UNIT_TESTS) :: --tap

##@ Help
help: ## list the targets
	$(Q)awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*## / {printf "  %-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

-include $(shell find $(BUILD)/objects -name '*.d' 2>/dev/null)

.PHONY: all clean help unit-tests test-unit
