/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The configuration: one option table that drives parser, validator, sample
 * file, help and man page.
 *
 * A bad line never stops a program: it becomes a warning with file:line and
 * the default stays. The file's form is that of GKeyFile ([group], key=value,
 * # comments); it is read line by line so that warnings know their line and
 * one bad line does not cost the others. Nothing here logs; the caller prints
 * the warnings.
 */
#pragma once

#include <glib.h>
#include <stddef.h>

#include "common/types.h"

#define CONFIG_FILE_MAXIMUM (256u * 1024u) /* bytes; a longer file is refused */
#define CONFIG_PARALLEL_AUTO (-1)          /* parallel_connections: "auto" */

typedef enum {
    CONFIG_LOG_ERROR = 0,
    CONFIG_LOG_WARNING = 1,
    CONFIG_LOG_INFO = 2,
    CONFIG_LOG_DEBUG = 3,
} ConfigLogLevel;

/* Strings are never NULL; "" means not set. */
typedef struct {
    /* [network] */
    char *uplink;                  /* interface; "" = by route look-up */
    uint64_t link_rate;            /* bytes/s; 0 = what the driver says */
    unsigned usable_link_percent;  /* what HTB hands out of the link */
    unsigned migration_port_first; /* TCP ports of migrations, both included */
    unsigned migration_port_last;
    bool shape; /* false: decide, never touch tc */
    /* [policy] */
    Priority default_priority;
    TechniqueSet allow_techniques;
    unsigned low_priority_floor_percent; /* of the link */
    unsigned minimum_workload_percent;   /* of the link, without an SLA */
    int parallel_connections;            /* CONFIG_PARALLEL_AUTO, 0 = never, N */
    uint64_t one_stream_rate;            /* bytes/s one connection can fill */
    Scheduling scheduling;
    unsigned maximum_running;  /* migrations at a time; 0 = by rule */
    unsigned gathering_time;   /* ms */
    bool allow_post_copy;      /* false: also removes hybrid */
    unsigned maximum_downtime; /* ms; 0 = libvirt's own limit stays */
    bool auto_converge;        /* true = "auto": where nothing else could end it */
    bool resume_post_copy;
    char *destination_uri; /* "%s" stands for the other host; "" = not known */
    /* [daemon] */
    unsigned call_timeout;     /* ms that asking may cost a migration on this host */
    unsigned sample_interval;  /* ms */
    unsigned reshape_interval; /* ms */
    unsigned held_calls_maximum;
    char *libvirt_uri;
    bool dirty_rate_measurement; /* true = "auto"; page-sampling only */
    ConfigLogLevel log_level;
    unsigned history_limit; /* finished migrations remembered */
    char *data_directory;   /* absolute; "" = nothing is recorded */
} Config;

typedef enum {
    CONFIG_TYPE_TEXT,
    CONFIG_TYPE_BOOLEAN, /* yes, no */
    CONFIG_TYPE_NUMBER,
    CONFIG_TYPE_PERCENT,
    CONFIG_TYPE_RATE,
    CONFIG_TYPE_DURATION,
    CONFIG_TYPE_PORT_RANGE, /* first-last, into two fields */
    CONFIG_TYPE_PRIORITY,
    CONFIG_TYPE_SCHEDULING, /* automatic, serial, parallel */
    CONFIG_TYPE_TECHNIQUES, /* names with blanks or commas between */
    CONFIG_TYPE_PARALLEL,   /* auto, never or a number */
    CONFIG_TYPE_MEASURE,    /* auto, never */
    CONFIG_TYPE_LOG_LEVEL,  /* error, warning, info, debug */
} ConfigType;

typedef struct {
    const char *group;
    const char *key;
    ConfigType type;
    const char *unit; /* for people; "" when there is none */
    uint64_t minimum; /* numbers, rates (bytes/s), durations (ms) */
    uint64_t maximum;
    const char *default_value; /* as written in the file */
    const char *help;          /* one or two sentences */
    size_t offset;             /* of the field in Config */
} ConfigOption;

/* The table, in the order of the sample file; *ret_count its length. */
const ConfigOption *config_options(size_t *ret_count);

/* All defaults. Never NULL. */
Config *config_new(void);
void config_free(Config *config);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Config, config_free)

/*
 * $VIRT_CONVOY_CONFIG, else the compiled-in virt-convoy/virt-convoy.conf below
 * the system configuration folder. The text is owned by the module or libc.
 */
const char *config_default_path(void);

/*
 * Reads path (NULL: config_default_path). Always returns a usable Config: a
 * missing file means defaults without a warning, an unreadable one defaults
 * and a warning. Each warning is one line of text ("file:7: [network]
 * link-rate: ..."). warnings (element type char *, free function g_free) may
 * be NULL.
 */
Config *config_load(const char *path, GPtrArray *warnings);

/* The same from text; name stands for the file in warnings. */
Config *config_parse(const char *text, size_t length, const char *name, GPtrArray *warnings);

/* Sets one option from text, as the parser does; config untouched on error. */
bool config_set(Config *config, const ConfigOption *option, const char *text, GError **error);

/* The option's present value as written in the file. Free with g_free. */
char *config_get_text(const Config *config, const ConfigOption *option);

/* A whole file: comments and values; with the defaults it is the sample. */
char *config_to_text(const Config *config, bool with_help);

/* The options' part of virt-convoy.conf(5), in man(7) macros. */
char *config_to_man(void);

/* What the configuration allows: allow_techniques less what it forbids. */
TechniqueSet config_techniques(const Config *config);
