/* SPDX-License-Identifier: Apache-2.0 */
/* What a failure of libcurl means to a caller: which errno, and what to do about it. */
#include "backend/http_private.h"

#include <errno.h>
#include <inttypes.h>

static const char *detail(const struct http_request *x)
{
	return x->slot->curl_message[0] ? x->slot->curl_message : curl_easy_strerror(x->curl_code);
}

/* The kernel's own word, where it is one of those that say more than "refused". */
static int connect_code(const struct http_request *x)
{
	long code = 0;
	curl_easy_getinfo(x->slot->easy, CURLINFO_OS_ERRNO, &code);
	if (code == ENETUNREACH || code == EHOSTUNREACH || code == ENETDOWN || code == ETIMEDOUT ||
	    code == ECONNRESET)
		return (int)-code;
	return -ECONNREFUSED;
}

static int too_many_redirects(const struct http_request *x)
{
	const char *last = NULL;
	curl_easy_getinfo(x->slot->easy, CURLINFO_EFFECTIVE_URL, &last);
	char shown[HTTP_SHOWN_BYTES];
	http_show_url(last ? last : "?", shown);
	return hither_fail(x->err, -ELOOP,
	                   "http: %.90s: redirected too often, at last to %.120s; give the URL of "
	                   "the file itself",
	                   x->question.url, shown);
}

static int tls_failed(const struct http_request *x)
{
	if (x->curl_code == CURLE_PEER_FAILED_VERIFICATION ||
	    x->curl_code == CURLE_SSL_ISSUER_ERROR)
		return hither_fail(
		        x->err, -EPERM,
		        "http: %s: the server's certificate is not trusted (%.90s); give "
		        "its authority with --ca-file, or --insecure not to check",
		        x->question.url, detail(x));
	if (x->curl_code == CURLE_SSL_CACERT_BADFILE)
		return hither_fail(x->err, -EPERM,
		                   "http: %s: cannot use the certificates in %.60s: %.90s",
		                   x->question.url,
		                   x->b->ca_file ? x->b->ca_file : "the system's store", detail(x));
	if (x->curl_code == CURLE_SSL_CERTPROBLEM)
		return hither_fail(
		        x->err, -EPERM, "http: %s: cannot use the client certificate %.60s: %.90s",
		        x->question.url, x->b->cert_file ? x->b->cert_file : "", detail(x));
	/* Once it has worked, a handshake that fails is a server that goes down or comes up. */
	return hither_fail(x->err, x->question.opening ? -EPROTO : -ECONNRESET,
	                   "http: %s: no TLS connection: %.120s", x->question.url, detail(x));
}

static int cut(const struct http_request *x)
{
	return hither_fail(x->err, -ECONNRESET,
	                   "http: %s: the connection was cut after %" PRIu64 " of %" PRIu64
	                   " bytes (%.90s)",
	                   x->question.url, x->delivered, x->question.len, detail(x));
}

/* What a proxy has against a tunnel to a TLS server; 0: nothing, or there is none. */
static int tunnel_failed(const struct http_request *x)
{
	long status = 0;
	curl_easy_getinfo(x->slot->easy, CURLINFO_HTTP_CONNECTCODE, &status);
	if (x->connected || status < 300)
		return 0;
	if (status == 407)
		return hither_fail(
		        x->err, -EACCES,
		        "http: %s: the proxy wants a name and password (answer 407); put "
		        "them into its URL",
		        x->question.url);
	return hither_fail(x->err, status < 500 ? -EACCES : -ECONNREFUSED,
	                   "http: %s: the proxy does not connect to this server (answer %ld); "
	                   "check the URL, and --proxy",
	                   x->question.url, status);
}

int http_request_fail(struct http_request *x)
{
	int r = tunnel_failed(x);
	if (r)
		return r;
	switch (x->curl_code) {
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
		return hither_fail(x->err, -EHOSTUNREACH,
		                   "http: %s: %.120s; check the name, the network and --proxy",
		                   x->question.url, detail(x));
	case CURLE_COULDNT_CONNECT:
		return hither_fail(x->err, connect_code(x),
		                   "http: %s: %.120s; check that the server runs, and --proxy",
		                   x->question.url, detail(x));
	case CURLE_OPERATION_TIMEDOUT:
		return hither_fail(x->err, -ETIMEDOUT,
		                   "http: %s: %.120s; check the network, or wait for longer with "
		                   "--connect-timeout",
		                   x->question.url, detail(x));
	case CURLE_TOO_MANY_REDIRECTS:
		return too_many_redirects(x);
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CONNECT_ERROR:
		return tls_failed(x);
	case CURLE_OK: /* the end came in order, but too early */
	case CURLE_PARTIAL_FILE:
	case CURLE_GOT_NOTHING:
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
	case CURLE_HTTP2:
	case CURLE_HTTP2_STREAM:
		return cut(x);
	case CURLE_OUT_OF_MEMORY:
		return hither_fail(x->err, -ENOMEM, "http: %s: no memory", x->question.url);
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_WEIRD_SERVER_REPLY:
		return hither_fail(x->err, -EPROTO, "http: %s: %.120s", x->question.url, detail(x));
	case CURLE_URL_MALFORMAT:
		return hither_fail(x->err, -EINVAL, "http: %s: %.120s", x->question.url, detail(x));
	default:
		return hither_fail(x->err, -EIO, "http: %s: %.120s", x->question.url, detail(x));
	}
}
