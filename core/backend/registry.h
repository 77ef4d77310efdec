/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HITHER_BACKEND_REGISTRY_H
#define HITHER_BACKEND_REGISTRY_H

#include <hither/backend.h>

/* The tables of functions; registry.c lists those that this build has. */
extern const struct hither_backend_ops hither_backend_directory;
extern const struct hither_backend_ops hither_backend_file;
extern const struct hither_backend_ops hither_backend_http;
extern const struct hither_backend_ops hither_backend_memory;
extern const struct hither_backend_ops hither_backend_nbd;
extern const struct hither_backend_ops hither_backend_tape;

#endif
