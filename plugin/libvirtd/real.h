/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The functions of libvirt behind the plugin, found with dlsym(RTLD_NEXT).
 *
 * The private ones have the signatures of src/libvirt_internal.h,
 * src/util/virerror.h and src/datatypes.h. Any of them may be NULL: the caller
 * then does without, and an entry point without its real function fails.
 */
#pragma once

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct {
    char *(*begin)(virDomainPtr, const char *, char **, int *, unsigned long, const char *,
                   unsigned long);
    char *(*begin_params)(virDomainPtr, virTypedParameterPtr, int, char **, int *, unsigned int);
    int (*prepare)(virConnectPtr, const char *, int, char **, int *, const char *, char **,
                   unsigned long, const char *, unsigned long, const char *);
    int (*prepare_params)(virConnectPtr, virTypedParameterPtr, int, const char *, int, char **,
                          int *, char **, unsigned int);
    int (*prepare_tunnel)(virConnectPtr, virStreamPtr, const char *, int, char **, int *,
                          unsigned long, const char *, unsigned long, const char *);
    int (*prepare_tunnel_params)(virConnectPtr, virStreamPtr, virTypedParameterPtr, int,
                                 const char *, int, char **, int *, unsigned int);
    int (*perform)(virDomainPtr, const char *, const char *, int, char **, int *, const char *,
                   const char *, unsigned long, const char *, unsigned long);
    int (*perform_params)(virDomainPtr, const char *, virTypedParameterPtr, int, const char *, int,
                          char **, int *, unsigned int);
    virDomainPtr (*finish)(virConnectPtr, const char *, const char *, int, char **, int *,
                           const char *, const char *, unsigned long, int);
    virDomainPtr (*finish_params)(virConnectPtr, virTypedParameterPtr, int, const char *, int,
                                  char **, int *, unsigned int, int);
    int (*confirm)(virDomainPtr, const char *, int, unsigned long, int);
    int (*confirm_params)(virDomainPtr, virTypedParameterPtr, int, const char *, int, unsigned int,
                          int);
    int (*abort_job)(virDomainPtr);
    int (*abort_job_flags)(virDomainPtr, unsigned int);
    int (*get_job_info)(virDomainPtr, virDomainJobInfoPtr);
    int (*suspend)(virDomainPtr);
    int (*start_post_copy)(virDomainPtr, unsigned int);

    int (*get_uuid_string)(virDomainPtr, char *);
    const char *(*get_name)(virDomainPtr);
    virConnectPtr (*get_connect)(virDomainPtr);
    char *(*get_xml)(virDomainPtr, unsigned int);
    int (*get_state)(virDomainPtr, int *, int *, unsigned int);
    int (*get_max_speed)(virDomainPtr, unsigned long *, unsigned int);
    int (*free_domain)(virDomainPtr);
    virErrorPtr (*get_last_error)(void);
    virErrorPtr (*save_last_error)(void);
    void (*free_error)(virErrorPtr);
    void (*reset_last_error)(void);
    int (*set_error)(virErrorPtr); /* private */
    virDomainPtr (*get_domain)(virConnectPtr, const char *, const unsigned char *,
                               int); /* private */
    void (*raise_error)(const char *, const char *, size_t, int, int, virErrorLevel, const char *,
                        const char *, const char *, int, int, const char *, ...); /* private */
} Real;

/* Resolved at the first call; never NULL. */
const Real *real_functions(void);

/* VIR_UUID_STRING_BUFLEN bytes; false: no domain, or libvirt does not say. */
bool real_domain_uuid(virDomainPtr domain, char *ret_uuid);

/* Of this thread; VIR_ERR_OK: none. */
int real_last_error_code(void);
