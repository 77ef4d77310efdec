/* SPDX-License-Identifier: Apache-2.0 */
/* The backends in this build. A new one: a line here, a line in registry.h, one in meson.build. */
#include "backend/registry.h"

static const struct hither_backend_ops *const backends[] = {
        &hither_backend_directory,
        &hither_backend_file,
        &hither_backend_memory,
        &hither_backend_tape,
#ifdef HITHER_HAVE_HTTP
        &hither_backend_http,
#endif
#ifdef HITHER_HAVE_NBD
        &hither_backend_nbd,
#endif
        NULL,
};

const struct hither_backend_ops *const *hither_backend_list(void)
{
	return backends;
}
