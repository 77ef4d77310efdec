/* SPDX-License-Identifier: Apache-2.0 */
/* URLs as the command sees them: text to name a file by, to show, and to hand on. */
#ifndef HITHER_APPS_URL_H
#define HITHER_APPS_URL_H

/*
 * A file name for url: the last part of its path, percent-decoded, without query; else its host;
 * else its scheme. Never "", "." or "..", never with a slash. The caller frees it; NULL: no memory.
 */
char *url_file_name(const char *url);

/* url as it may be shown, without its secrets; see hither_url_redact. The caller frees it; NULL: no
 * memory. */
char *url_redact(const char *url);

/*
 * url so that it still means the same from another working folder: a bare path, and the path of a
 * file: or directory: URL and of a UNIX socket, become absolute. The caller frees it; NULL: no
 * memory.
 */
char *url_absolute(const char *url);

/* path, made absolute likewise (not resolved: it need not exist). The caller frees it. */
char *path_absolute(const char *path);
/* "game" of "game/"; of what does not say its name, as ".", where it leads. The caller frees it. */
char *path_named(const char *path);

#endif
