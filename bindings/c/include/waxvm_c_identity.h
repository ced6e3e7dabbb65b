/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who an instance is, for C: a key and an address of its own, and an advert that the host signs
 * too. The rules of waxvm_c.h hold; docs/identity.md explains.
 *
 *   waxvm_identity_options who = WAXVM_IDENTITY_OPTIONS_INIT;
 *   who.host_key_path = "keys/host.pem";
 *   who.directory_path = "directory";
 *   if (waxvm_identity_open(&who, &identity, &error)) …
 *   options.identity = identity;  // of waxvm_run_options: each run and clone is somebody else
 */
#ifndef WAXVM_C_IDENTITY_H_
#define WAXVM_C_IDENTITY_H_

#include "waxvm_c.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What becomes of the advert when the instance ends. */
enum {
  WAXVM_ADVERT_WITHDRAW = 0, /* another one that expires a second later replaces it */
  WAXVM_ADVERT_REVOKE = 1,   /* the key is revoked, which directories remember for ever */
  WAXVM_ADVERT_LEAVE = 2     /* it expires when it says */
};

typedef struct waxvm_identity_options {
  size_t struct_size;
  const char* host_key_path;  /* PKCS#8 in PEM, mode 0600; NULL: there is no advert */
  const char* directory_path; /* where adverts are put, made where it is missing; NULL: nowhere */
  uint64_t lifetime_seconds;  /* of an advert, at least 4; 0: an hour */
  int advert_end;             /* WAXVM_ADVERT_… */
  int grant_signing;          /* not 0: the program may call waxvm.identity.sign */
  int grant_private_key;      /* not 0: and waxvm.identity.private_key */
  int reserved;               /* 0 */
} waxvm_identity_options;
#define WAXVM_IDENTITY_OPTIONS_INIT \
  { sizeof(waxvm_identity_options), NULL, NULL, 0, 0, 0, 0, 0 }

/* For any number of runs and sessions at once, from any thread; it may be closed while they run. */
WAXVM_API waxvm_status waxvm_identity_open(const waxvm_identity_options* options,
                                           waxvm_identity** identity, waxvm_error* error);
/* A service that is told in adverts, such as "coap", 17 (UDP; 6: TCP), 5683. Before it is used. */
WAXVM_API waxvm_status waxvm_identity_add_service(waxvm_identity* identity, const char* name,
                                                  uint8_t protocol, uint16_t port,
                                                  waxvm_error* error);
/* Renews the adverts of running instances that are due; to be called again in `next_seconds` (may
 * be NULL). Needed only where programs run for longer than half a lifetime without a host call. */
WAXVM_API waxvm_status waxvm_identity_renew(waxvm_identity* identity, uint64_t* next_seconds,
                                            waxvm_error* error);
WAXVM_API void waxvm_identity_close(waxvm_identity* identity);

/* The address of the instance, as text, and its public key in 64 hexadecimal digits; NULL where it
 * was nobody. The result's, as the accessors of waxvm_c.h. */
WAXVM_API const char* waxvm_result_address(const waxvm_result* result);
WAXVM_API const char* waxvm_result_public_key(const waxvm_result* result);

#ifdef __cplusplus
}
#endif

#endif /* WAXVM_C_IDENTITY_H_ */
