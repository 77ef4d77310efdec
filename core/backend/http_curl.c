/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The functions of libcurl that we call, by its own header. The library itself is loaded when the
 * first URL is opened (base/library.h).
 */
#define CURL_DISABLE_TYPECHECK /* of the callers: here the arguments only pass through */
/* Ours alone: a program that links libcurl itself keeps its own. */
#pragma GCC visibility push(hidden)
#include <curl/curl.h>
#pragma GCC visibility pop

#include "backend/http_private.h"
#include "base/library.h"

#include <stdarg.h>

#define FUNCTIONS(F)                                                                               \
	F(curl_easy_cleanup)                                                                       \
	F(curl_easy_getinfo)                                                                       \
	F(curl_easy_init)                                                                          \
	F(curl_easy_perform)                                                                       \
	F(curl_easy_reset)                                                                         \
	F(curl_easy_setopt)                                                                        \
	F(curl_easy_strerror)                                                                      \
	F(curl_free)                                                                               \
	F(curl_global_init)                                                                        \
	F(curl_multi_add_handle)                                                                   \
	F(curl_multi_cleanup)                                                                      \
	F(curl_multi_info_read)                                                                    \
	F(curl_multi_init)                                                                         \
	F(curl_multi_perform)                                                                      \
	F(curl_multi_poll)                                                                         \
	F(curl_multi_remove_handle)                                                                \
	F(curl_multi_setopt)                                                                       \
	F(curl_multi_strerror)                                                                     \
	F(curl_multi_wakeup)                                                                       \
	F(curl_share_cleanup)                                                                      \
	F(curl_share_init)                                                                         \
	F(curl_share_setopt)                                                                       \
	F(curl_slist_append)                                                                       \
	F(curl_slist_free_all)                                                                     \
	F(curl_url)                                                                                \
	F(curl_url_cleanup)                                                                        \
	F(curl_url_get)                                                                            \
	F(curl_url_set)                                                                            \
	F(curl_url_strerror)

HITHER_LIBRARY_FUNCTIONS(FUNCTIONS);

static void start(void)
{
	real.curl_global_init(CURL_GLOBAL_DEFAULT);
}

int http_load_curl(struct hither_error *err)
{
	/* The same library over OpenSSL, and over GnuTLS. */
	static const char *const files[] = {"libcurl.so.4", "libcurl-gnutls.so.4", NULL};
	static struct hither_library library = {.files = files,
	                                        .package = "libcurl4",
	                                        .symbols = symbols,
	                                        .symbol_count = sizeof symbols / sizeof *symbols,
	                                        .start = start};
	return hither_library_load(&library, err);
}

/*
 * Options are a long, a curl_off_t or a pointer (curl_easy_setopt(3)), a few an enum: each comes in
 * one register of 64 bits, and goes on in one.
 */
_Static_assert(sizeof(long) == sizeof(void *) && sizeof(curl_off_t) == sizeof(void *),
               "libcurl's options are passed on as pointers");

#define ONE_ARGUMENT(last)                                                                         \
	va_list list;                                                                              \
	va_start(list, last);                                                                      \
	void *argument = va_arg(list, void *);                                                     \
	va_end(list)

CURLcode(curl_easy_setopt)(CURL *easy, CURLoption option, ...)
{
	ONE_ARGUMENT(option);
	return (real.curl_easy_setopt)(easy, option, argument);
}

CURLcode(curl_easy_getinfo)(CURL *easy, CURLINFO info, ...)
{
	ONE_ARGUMENT(info);
	return (real.curl_easy_getinfo)(easy, info, argument);
}

CURLMcode(curl_multi_setopt)(CURLM *multi, CURLMoption option, ...)
{
	ONE_ARGUMENT(option);
	return (real.curl_multi_setopt)(multi, option, argument);
}

CURLSHcode(curl_share_setopt)(CURLSH *share, CURLSHoption option, ...)
{
	ONE_ARGUMENT(option);
	return (real.curl_share_setopt)(share, option, argument);
}

CURL *curl_easy_init(void)
{
	return real.curl_easy_init();
}

void curl_easy_cleanup(CURL *easy)
{
	real.curl_easy_cleanup(easy);
}

CURLcode curl_easy_perform(CURL *easy)
{
	return real.curl_easy_perform(easy);
}

void curl_easy_reset(CURL *easy)
{
	real.curl_easy_reset(easy);
}

const char *curl_easy_strerror(CURLcode code)
{
	return real.curl_easy_strerror(code);
}

void curl_free(void *p)
{
	real.curl_free(p);
}

CURLMcode curl_multi_add_handle(CURLM *multi, CURL *easy)
{
	return real.curl_multi_add_handle(multi, easy);
}

CURLMcode curl_multi_cleanup(CURLM *multi)
{
	return real.curl_multi_cleanup(multi);
}

CURLMsg *curl_multi_info_read(CURLM *multi, int *left)
{
	return real.curl_multi_info_read(multi, left);
}

CURLM *curl_multi_init(void)
{
	return real.curl_multi_init();
}

CURLMcode curl_multi_perform(CURLM *multi, int *running)
{
	return real.curl_multi_perform(multi, running);
}

CURLMcode curl_multi_poll(CURLM *multi, struct curl_waitfd extra[], unsigned int extra_count,
                          int timeout_ms, int *ready)
{
	return real.curl_multi_poll(multi, extra, extra_count, timeout_ms, ready);
}

CURLMcode curl_multi_remove_handle(CURLM *multi, CURL *easy)
{
	return real.curl_multi_remove_handle(multi, easy);
}

const char *curl_multi_strerror(CURLMcode code)
{
	return real.curl_multi_strerror(code);
}

CURLMcode curl_multi_wakeup(CURLM *multi)
{
	return real.curl_multi_wakeup(multi);
}

CURLSH *curl_share_init(void)
{
	return real.curl_share_init();
}

CURLSHcode curl_share_cleanup(CURLSH *share)
{
	return real.curl_share_cleanup(share);
}

struct curl_slist *curl_slist_append(struct curl_slist *list, const char *text)
{
	return real.curl_slist_append(list, text);
}

void curl_slist_free_all(struct curl_slist *list)
{
	if (list) /* freed where nothing was loaded, too */
		real.curl_slist_free_all(list);
}

CURLU *curl_url(void)
{
	return real.curl_url();
}

void curl_url_cleanup(CURLU *url)
{
	real.curl_url_cleanup(url);
}

CURLUcode http_curl_url_get(const CURLU *url, CURLUPart part, char **text, unsigned int flags)
{
	return real.curl_url_get((CURLU *)url, part, text, flags);
}

CURLUcode curl_url_set(CURLU *url, CURLUPart part, const char *text, unsigned int flags)
{
	return real.curl_url_set(url, part, text, flags);
}

const char *curl_url_strerror(CURLUcode code)
{
	return real.curl_url_strerror(code);
}
