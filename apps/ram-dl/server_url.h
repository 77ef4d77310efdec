/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HITHER_APP_RAM_DL_SERVER_URL_H
#define HITHER_APP_RAM_DL_SERVER_URL_H

/* "HOST", "HOST:PORT", "HOST/NAME" or a URL into a URL; NULL: no memory. The caller frees it. */
char *server_url(const char *text);

#endif
