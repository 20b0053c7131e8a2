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

PACKAGES := gio-unix-2.0 gio-2.0 glib-2.0 libvirt libvirt-qemu libvirt-admin libvirt-glib-1.0 libxml-2.0 \
            json-glib-1.0 libnl-3.0 libnl-route-3.0
PLUGIN_PACKAGES := gio-unix-2.0 gio-2.0 glib-2.0 libxml-2.0
HOOK_PACKAGES := dbus-1 glib-2.0

# The packages are asked once; a missing one is named when the first file is made.
PACKAGE_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(PACKAGES) $(HOOK_PACKAGES) 2>/dev/null)
PACKAGE_LIBS := $(shell $(PKG_CONFIG) --libs $(PACKAGES) 2>/dev/null)
HOOK_LIBS := $(shell $(PKG_CONFIG) --libs $(HOOK_PACKAGES) 2>/dev/null)
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
	$(Q)$(PKG_CONFIG) --print-errors --exists $(PACKAGES) $(HOOK_PACKAGES) || \
	  { echo 'install/dependencies.sh build installs what is missing' >&2; exit 1; }
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
	$(Q)$(CC) $(ALL_LDFLAGS) -Wl,--as-needed $^ $(HOOK_LIBS) -o $@

$(BUILD)/virt-convoy-libvirtd.so: $(PLUGIN_OBJECTS) $(LIBRARY) plugin/libvirtd/exports.map
	$(Q)$(CC) -shared $(ALL_LDFLAGS) -Wl,--as-needed -Wl,--no-undefined -Wl,--exclude-libs,ALL \
	  -Wl,--version-script=plugin/libvirtd/exports.map $(PLUGIN_OBJECTS) $(LIBRARY) \
	  $(PLUGIN_LIBS) -ldl -o $@

# Some include a source of a program that is not in the library.
$(BUILD)/tests/%: tests/unit/%.c $(LIBRARY)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -MF $@.d $(ALL_LDFLAGS) $< $(LIBRARY) $(PACKAGE_LIBS) -lm -o $@

unit-tests: $(UNIT_TESTS) ## build the unit test programs

clean: ## remove build/
	$(Q)rm -rf $(BUILD)

##@ Test
FUZZ_TARGETS := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz/fuzz-*.c))
# Linked from an archive: a target that includes a source takes no second one from here.
FUZZ_OBJECTS := $(patsubst %.c,$(BUILD)/fuzz/objects/%.o,$(LIBRARY_SOURCES) \
                  $(addprefix plugin/libvirtd/,answer.c cookie.c rules.c))
FUZZ_LIBRARY := $(BUILD)/fuzz/libconvoy.a
FUZZ_CFLAGS := -std=gnu11 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
               -D_GNU_SOURCE -DCONVOY_SYSCONFDIR='"$(SYSCONFDIR)"' -Iplugin -I$(BUILD)/generated $(PACKAGE_CFLAGS)
# Seconds that each fuzz target runs.
T ?= 4
# What these judge by times and rates: each has the machine to itself.
MEASURING_TESTS := $(addprefix tests/integration/,priority.py deadline.py convergence.py techniques.py)
LAB_TESTS := $(filter-out $(MEASURING_TESTS),$(wildcard tests/lab/selftest tests/integration/*.py))
# Labs at once: one of them leaves most of two processors idle.
JOBS ?= 2

test: test-programs check-layers check-format test-unit test-replay test-schemas test-plugin sanitize-thread fuzz test-lab fault-short ## everything; needs root, about 25 minutes

# The tests follow one another, as some measure; what they need is made side by side.
SIDE_BY_SIDE = $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc))
test-programs: # all that `make test` runs
	$(Q)$(MAKE) --no-print-directory $(SIDE_BY_SIDE) all unit-tests $(FUZZ_TARGETS) $(BUILD)/shape-once \
	  $(BUILD)/prediction-mvm $(PLUGIN_STUB_PROGRAMS) $(PLUGIN_STUB)/peer-call $(FAULT_PROGRAMS)

test-unit: unit-tests ## the unit and golden tests, seconds
	$(Q)prove -e '' $(UNIT_TESTS) :: --tap

RECORDED := $(wildcard tests/data/*.jsonl)

test-replay: $(BUILD)/virt-convoy $(BUILD)/prediction-mvm ## lab runs would be decided as recorded, 1000 timed migrations predicted within 5 %
	$(Q)[ -n '$(RECORDED)' ] || { echo 'tests/data has no recording' >&2; exit 1; }
	$(Q)status=0; for file in $(RECORDED); do \
	  printf '%s: ' $$file; $(BUILD)/virt-convoy replay $$file || status=1; \
	done; $(BUILD)/prediction-mvm tests/data/mvm-migrations.csv || status=1; exit $$status

record: all ## record the lab runs that test-replay replays anew (PARTS=gang: that one); root, 15 minutes
	$(Q)VIRT_CONVOY_BUILD=$(abspath $(BUILD)) python3 tests/lab/record $(PARTS)

test-schemas: all ## the RelaxNG schemas against their examples, what is installed, the unit's confinement
	$(Q)prove tests/integration/schemas.sh tests/integration/install.sh tests/integration/unit-security.sh

# What failed is said again at the end: a log of such a run is long, and often only its end is kept.
LAB_FAILURES := $(abspath $(BUILD))/lab-failures
prove_lab = rm -f $(LAB_FAILURES); \
  VIRT_CONVOY_BUILD=$(abspath $(BUILD)) VIRT_CONVOY_FAILURES=$(LAB_FAILURES) prove --timer -e '' $(1) || { \
  status=$$?; [ ! -e $(LAB_FAILURES) ] || cat $(LAB_FAILURES) >&2; exit $$status; }

test-lab: all $(BUILD)/shape-once ## two real hosts in namespaces: needs root
	$(Q)$(call prove_lab,-j $(JOBS) $(LAB_TESTS))
	$(Q)$(call prove_lab,$(MEASURING_TESTS))

FAULT := VIRT_CONVOY_BUILD=$(abspath $(BUILD)) python3 tests/fault/run --jobs $(JOBS)
FAULT_PROGRAMS := all $(BUILD)/tests/plugin-stub/canned-daemon \
                  $(BUILD)/tests/fault/without-userfaultfd $(BUILD)/tests/fault/other-version.so
fault: $(FAULT_PROGRAMS) ## real migrations broken in every way, at random points; needs root, an hour
	$(Q)$(FAULT)

fault-short: $(FAULT_PROGRAMS) ## a few faults of each kind; needs root, four minutes
	$(Q)$(FAULT) --short

LEAKS := $(BUILD)/leaks
fault-leaks: ## daemon, plugin and hook under ASan in real migrations; needs root, ten minutes
	$(Q)$(MAKE) --no-print-directory BUILD=$(LEAKS) SANITIZE=address all
	$(Q)$(MAKE) --no-print-directory BUILD=$(LEAKS) $(LEAKS)/tests/fault/preloaded-alone.so \
	  $(LEAKS)/tests/fault/leaking.so
	$(Q)VIRT_CONVOY_BUILD=$(abspath $(LEAKS)) python3 tests/fault/leaks

$(BUILD)/tests/fault/%: tests/fault/%.c
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $< -o $@

$(BUILD)/tests/fault/%.so: tests/fault/%.c
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -shared $(ALL_CFLAGS) $(ALL_LDFLAGS) $< -ldl -o $@

PLUGIN_STUB := $(BUILD)/tests/plugin-stub
PLUGIN_STUB_PROGRAMS := $(PLUGIN_STUB)/libvirtd $(PLUGIN_STUB)/canned-daemon

# Linked before libvirt: its symbols are the ones that the plugin stands in front of.
$(PLUGIN_STUB)/libstub.so: tests/integration/plugin-stub/stub.c tests/integration/plugin-stub/stub.h
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -shared -Wl,-soname,libstub.so $< -o $@

$(PLUGIN_STUB)/libvirtd: tests/integration/plugin-stub/caller.c $(PLUGIN_STUB)/libstub.so
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $< -L$(PLUGIN_STUB) -lstub \
	  -Wl,-rpath,'$$ORIGIN' $(PLUGIN_LIBS) -lvirt -o $@

$(PLUGIN_STUB)/canned-daemon: tests/integration/plugin-stub/canned-daemon.c $(LIBRARY)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $< $(LIBRARY) $(PACKAGE_LIBS) -lm -o $@

$(PLUGIN_STUB)/peer-call: tests/integration/plugin-stub/peer-call.c
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $< $(PLUGIN_LIBS) -o $@

test-plugin: $(BUILD)/virt-convoy-libvirtd.so $(BUILD)/virt-convoy-hook $(BUILD)/virt-convoyd \
             $(PLUGIN_STUB_PROGRAMS) $(PLUGIN_STUB)/peer-call ## plugin and hook against good and bad daemons, who may call the daemon
	$(Q)prove -e '' tests/integration/plugin-stub/run :: --build $(PLUGIN_STUB) \
	  --plugin $(BUILD)/virt-convoy-libvirtd.so --hook $(BUILD)/virt-convoy-hook
	$(Q)prove -e '' tests/integration/hook-test :: --hook $(BUILD)/virt-convoy-hook \
	  --daemon $(PLUGIN_STUB)/canned-daemon
	$(Q)prove -e '' tests/integration/access-test :: --build $(BUILD)

check-layers: ## includes point down only
	$(Q)python3 tests/check-layers.py

FUZZ_RUNS := $(patsubst tests/fuzz/%.c,run-%,$(wildcard tests/fuzz/fuzz-*.c))
fuzz: $(FUZZ_TARGETS) ## fuzz every parser of outside bytes for T seconds each
	$(Q)$(MAKE) --no-print-directory $(SIDE_BY_SIDE) $(FUZZ_RUNS)

$(FUZZ_RUNS): run-fuzz-%: $(BUILD)/fuzz/fuzz-%
	$(Q)mkdir -p $(BUILD)/fuzz/corpus/$*
	$(Q)$< -max_total_time=$(T) -max_len=8192 -verbosity=0 -print_final_stats=1 \
	  -artifact_prefix=$(BUILD)/fuzz/ $(BUILD)/fuzz/corpus/$* tests/fuzz/corpus/$* \
	  >$(BUILD)/fuzz/$*.log 2>&1 || { tail -n 40 $(BUILD)/fuzz/$*.log; echo 'fuzz $*: FAILED'; exit 1; }
	$(Q)sed -n 's/^stat::number_of_executed_units: */fuzz $*: runs /p' $(BUILD)/fuzz/$*.log

$(BUILD)/fuzz/objects/%.o: %.c $(GENERATED)
	$(Q)mkdir -p $(@D)
	$(Q)clang $(FUZZ_CFLAGS) -MMD -MP -c $< -o $@

$(FUZZ_LIBRARY): $(FUZZ_OBJECTS)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(BUILD)/fuzz/fuzz-%: tests/fuzz/fuzz-%.c $(FUZZ_LIBRARY)
	$(Q)clang $(FUZZ_CFLAGS) -MMD -MP -MF $@.d $< $(FUZZ_LIBRARY) $(PACKAGE_LIBS) -lm -o $@

$(BUILD)/shape-once: tests/integration/shape-once.c $(LIBRARY)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $< $(LIBRARY) $(PACKAGE_LIBS) -lm -o $@

# Another version would indent some lines otherwise.
CLANG_FORMAT ?= clang-format-14
SOURCES := $(wildcard plugin/*/*.[ch] hook/*.[ch] tests/*/*.[ch] tests/*/*/*.[ch])
check-format: ## clang-format 14 finds nothing to change
	$(Q)if command -v $(CLANG_FORMAT) >/dev/null; then $(CLANG_FORMAT) --dry-run --Werror $(SOURCES); \
	  else echo 'check-format: SKIP: no $(CLANG_FORMAT)'; fi

format: ## apply clang-format 14
	$(Q)$(CLANG_FORMAT) -i $(SOURCES)

# A file is checked again when it or a header has changed; -j helps.
check-tidy: ## clang-tidy finds nothing; 4 minutes of processor time at first
	$(Q)$(MAKE) --no-print-directory -k \
	  $(patsubst %.c,$(BUILD)/tidy/%.checked,$(wildcard plugin/*/*.c hook/*.c))

$(BUILD)/tidy/%.checked: %.c .clang-tidy $(wildcard plugin/*/*.h hook/*.h) $(GENERATED)
	$(Q)mkdir -p $(@D)
	$(Q)clang-tidy --quiet $< -- $(filter-out -W%,$(ALL_CFLAGS)) >$(@:.checked=.log) 2>&1 || \
	  { cat $(@:.checked=.log); exit 1; }
	$(Q)touch $@

# GLib is not built for TSan: what it does with its own memory is not looked at. libtsan has to
# be loaded before the plugin; a report makes the program's exit status 66.
sanitize-thread: $(PLUGIN_STUB)/canned-daemon $(BUILD)/virt-convoy-hook ## the plugin in 20 threads under TSan, a minute
	$(Q)$(MAKE) --no-print-directory $(SIDE_BY_SIDE) BUILD=$(BUILD)/thread SANITIZE=thread \
	  $(BUILD)/thread/virt-convoy-libvirtd.so $(BUILD)/thread/tests/plugin-stub/libvirtd
	$(Q)suppressions=$(abspath tests/integration/plugin-stub/thread-sanitizer.supp); \
	TSAN_OPTIONS="ignore_noninstrumented_modules=1 suppressions=$$suppressions" \
	  prove -e '' tests/integration/plugin-stub/run :: --build $(BUILD)/thread/tests/plugin-stub \
	  --plugin $(BUILD)/thread/virt-convoy-libvirtd.so --daemon $(PLUGIN_STUB)/canned-daemon \
	  --hook $(BUILD)/virt-convoy-hook --preload $$($(CC) -print-file-name=libtsan.so)

sanitize-unit: ## the unit tests under ASan and UBSan
	$(Q)$(MAKE) --no-print-directory BUILD=$(BUILD)/sanitize SANITIZE=address,undefined test-unit

##@ Show and measure
# The packages may be missing when make starts: build in a second make, after they are there.
demo: ## the same virsh migrate without and with virt-convoy; needs root, about 4 minutes
	$(Q)sh install/dependencies.sh demo
	$(Q)echo 'demo: building, less than a minute'
	$(Q)$(MAKE) --no-print-directory all
	$(Q)VIRT_CONVOY_BUILD=$(abspath $(BUILD)) python3 tests/demo/demo.py

bench-interception: all $(BUILD)/shape-once ## what interception costs one migration; needs root
	$(Q)VIRT_CONVOY_BUILD=$(abspath $(BUILD)) python3 tests/bench/interception.py

$(BUILD)/prediction-mvm: tests/bench/prediction-mvm.c $(LIBRARY)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $< $(LIBRARY) $(PACKAGE_LIBS) -lm -o $@

bench-prediction: all $(BUILD)/prediction-mvm ## predicted against measured time: 1000 timed migrations, then the lab; needs root
	$(Q)$(BUILD)/prediction-mvm tests/data/mvm-migrations.csv $(BUILD)/bench/prediction.json; status=$$?; \
	  VIRT_CONVOY_BUILD=$(abspath $(BUILD)) python3 tests/bench/prediction.py || status=1; exit $$status

bench-priority: all ## high and low priority beside a busy neighbour; needs root, 20 minutes
	$(Q)VIRT_CONVOY_BUILD=$(abspath $(BUILD)) python3 tests/bench/priority.py

bench-gang: all ## eight migrations at once against all-serial and all-parallel; root, two hours
	$(Q)VIRT_CONVOY_BUILD=$(abspath $(BUILD)) python3 tests/bench/gang.py

$(BUILD)/bench-planning: tests/bench/planning.c $(LIBRARY)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $< $(LIBRARY) $(PACKAGE_LIBS) -lm -o $@

bench-planning: $(BUILD)/bench-planning ## planning 1000 VMs over 50 hosts, a second
	$(Q)mkdir -p $(BUILD)/bench
	$(Q)$(BUILD)/bench-planning > $(BUILD)/bench/planning.json; status=$$?; \
	  cat $(BUILD)/bench/planning.json; exit $$status

bench-adaptive: all ## how fast bandwidth follows a demand that comes and goes; needs root, 7 minutes
	$(Q)VIRT_CONVOY_BUILD=$(abspath $(BUILD)) python3 tests/bench/adaptive.py

##@ Install
SBINDIR ?= $(PREFIX)/sbin
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib/virt-convoy
MANDIR ?= $(PREFIX)/share/man
UNITDIR ?= $(PREFIX)/lib/systemd/system
SUBSTITUTE = sed -e 's|@LIBDIR@|$(LIBDIR)|g' -e 's|/usr/sbin/|$(SBINDIR)/|g' -e 's|/usr/bin/|$(BINDIR)/|g'

install: all ## install below PREFIX, SYSCONFDIR and DESTDIR; keeps a changed configuration
	$(Q)install -d $(DESTDIR)$(SBINDIR) $(DESTDIR)$(BINDIR) $(DESTDIR)$(LIBDIR) $(DESTDIR)$(UNITDIR) \
	  $(DESTDIR)$(MANDIR)/man1 $(DESTDIR)$(MANDIR)/man5 $(DESTDIR)$(MANDIR)/man8 \
	  $(DESTDIR)$(PREFIX)/lib/tmpfiles.d $(DESTDIR)$(PREFIX)/share/bash-completion/completions \
	  $(DESTDIR)$(PREFIX)/share/virt-convoy/schemas $(DESTDIR)$(PREFIX)/share/virt-convoy/apparmor \
	  $(DESTDIR)$(SYSCONFDIR)/virt-convoy $(DESTDIR)$(SYSCONFDIR)/libvirt/hooks/qemu.d \
	  $(DESTDIR)$(SYSCONFDIR)/systemd/system/libvirtd.service.d \
	  $(DESTDIR)$(SYSCONFDIR)/systemd/system/virtqemud.service.d
	$(Q)install -m 755 $(BUILD)/virt-convoyd $(DESTDIR)$(SBINDIR)/
	$(Q)install -m 755 $(BUILD)/virt-convoy $(DESTDIR)$(BINDIR)/
	$(Q)install -m 755 $(BUILD)/virt-convoy-hook $(DESTDIR)$(LIBDIR)/
	$(Q)install -m 644 $(BUILD)/virt-convoy-libvirtd.so $(DESTDIR)$(LIBDIR)/
	$(Q)ln -sf $(LIBDIR)/virt-convoy-hook $(DESTDIR)$(SYSCONFDIR)/libvirt/hooks/qemu.d/virt-convoy
	$(Q)install -m 644 install/man/*.1 $(DESTDIR)$(MANDIR)/man1/
	$(Q)install -m 644 install/man/*.5 $(DESTDIR)$(MANDIR)/man5/
	$(Q)install -m 644 install/man/*.8 $(DESTDIR)$(MANDIR)/man8/
	$(Q)install -m 644 xml-schemas/*.rng $(DESTDIR)$(PREFIX)/share/virt-convoy/schemas/
	$(Q)install -m 644 install/tmpfiles/virt-convoy.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/
	$(Q)install -m 644 install/completion.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/virt-convoy
	$(Q)[ -e $(DESTDIR)$(SYSCONFDIR)/virt-convoy/virt-convoy.conf ] || \
	  install -m 644 install/virt-convoy.conf $(DESTDIR)$(SYSCONFDIR)/virt-convoy/
	$(Q)$(SUBSTITUTE) install/systemd/virt-convoyd.service > $(DESTDIR)$(UNITDIR)/virt-convoyd.service
	$(Q)for unit in libvirtd virtqemud; do $(SUBSTITUTE) install/systemd/$$unit.service.conf \
	  > $(DESTDIR)$(SYSCONFDIR)/systemd/system/$$unit.service.d/virt-convoy.conf || exit 1; done
	$(Q)$(SUBSTITUTE) install/apparmor/local-libvirtd > $(DESTDIR)$(PREFIX)/share/virt-convoy/apparmor/local-libvirtd

uninstall: ## remove what `make install` put there; configuration and recorded migrations stay
	$(Q)rm -f $(DESTDIR)$(SBINDIR)/virt-convoyd $(DESTDIR)$(BINDIR)/virt-convoy \
	  $(DESTDIR)$(SYSCONFDIR)/libvirt/hooks/qemu.d/virt-convoy \
	  $(DESTDIR)$(SYSCONFDIR)/systemd/system/libvirtd.service.d/virt-convoy.conf \
	  $(DESTDIR)$(SYSCONFDIR)/systemd/system/virtqemud.service.d/virt-convoy.conf \
	  $(DESTDIR)$(LIBDIR)/virt-convoy-hook $(DESTDIR)$(LIBDIR)/virt-convoy-libvirtd.so \
	  $(DESTDIR)$(UNITDIR)/virt-convoyd.service $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/virt-convoy.conf \
	  $(DESTDIR)$(PREFIX)/share/bash-completion/completions/virt-convoy \
	  $(foreach page,$(notdir $(wildcard install/man/*)),$(DESTDIR)$(MANDIR)/man$(lastword $(subst ., ,$(page)))/$(page))
	$(Q)rm -rf $(DESTDIR)$(PREFIX)/share/virt-convoy
	$(Q)for directory in $(LIBDIR) $(SYSCONFDIR)/systemd/system/libvirtd.service.d \
	  $(SYSCONFDIR)/systemd/system/virtqemud.service.d; do \
	  [ ! -d $(DESTDIR)$$directory ] || rmdir --ignore-fail-on-non-empty $(DESTDIR)$$directory || exit 1; done

##@ Help
help: ## list the targets
	$(Q)awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*## / {printf "  %-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

-include $(shell find $(BUILD)/objects $(BUILD)/tests $(BUILD)/fuzz -name '*.d' 2>/dev/null)

.PHONY: all clean help unit-tests test-programs test fault fault-short fault-leaks test-plugin test-unit test-replay test-schemas test-lab \
        check-layers fuzz $(FUZZ_RUNS) check-format format check-tidy sanitize-unit sanitize-thread install uninstall demo bench-interception \
        bench-priority bench-gang bench-planning bench-prediction bench-adaptive
