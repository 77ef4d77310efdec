/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HITHER_BACKEND_REGISTRY_H
#define HITHER_BACKEND_REGISTRY_H

#include <hither/backend.h>

enum { /* where the options say 0 */
       HITHER_BACKEND_CONNECT_MS = 10000,
       HITHER_BACKEND_IDLE_MS = 30000,
};

/* The tables of functions; registry.c lists those that this build has. */
extern const struct hither_backend_ops hither_backend_directory;
extern const struct hither_backend_ops hither_backend_file;
extern const struct hither_backend_ops hither_backend_http;
extern const struct hither_backend_ops hither_backend_memory;
extern const struct hither_backend_ops hither_backend_nbd;
extern const struct hither_backend_ops hither_backend_tape;

#endif
