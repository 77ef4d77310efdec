/* SPDX-License-Identifier: Apache-2.0 */
/* page.html, which embed.py makes a C array of. */
#ifndef HITHER_STREAM_PAGE_H
#define HITHER_STREAM_PAGE_H

#include <stddef.h>

extern const unsigned char page_html[];
extern const size_t page_html_len;

#endif
