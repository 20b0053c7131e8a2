/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One migration call in a form that both families of entry points share.
 *
 * interpose.c fills a Call from the arguments of an entry point and says how to
 * run the real function; call.c asks the daemon, runs it once (rarely twice)
 * and reports. On any doubt the real function runs with the caller's own
 * arguments.
 */
#pragma once

#include <libvirt/libvirt.h>
#include <stdbool.h>
#include <stdint.h>

/* The arguments that may differ from the caller's. */
typedef struct {
    uint64_t flags;
    virTypedParameterPtr parameters; /* NULL for the family without a list */
    int n_parameters;
    unsigned long bandwidth; /* family without a list; MiB/s, 0 unset */
    const char *xml;         /* family without a list: domain XML */
} CallArguments;

typedef struct Call Call;
struct Call {
    /* As the caller gave it; borrowed. */
    CallArguments asked;
    bool typed_parameters;
    virDomainPtr domain;      /* source entries */
    virConnectPtr connection; /* destination entries */
    virStreamPtr stream;
    const char *destination_uri; /* dconnuri of Perform and Finish */
    const char *uri;             /* family without a list */
    const char *name;            /* family without a list: dname */
    const char *cookie_in;
    int cookie_in_length;
    char **cookie_out;
    int *cookie_out_length;
    char **uri_out;
    int cancelled;

    /* Runs the real function and sets the results. */
    void (*run)(Call *call, const CallArguments *arguments);

    /* Results; which one counts depends on the entry. */
    int status;
    char *xml_result;
    virDomainPtr domain_result;
};

/* Each runs one phase to its end; the results are then in the call. */
void call_begin(Call *call);
void call_prepare(Call *call, bool tunnel);
void call_perform(Call *call);
void call_finish(Call *call);
void call_confirm(Call *call);
