/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the http backend share. */
#ifndef HITHER_BACKEND_HTTP_PRIVATE_H
#define HITHER_BACKEND_HTTP_PRIVATE_H

#include "backend/http_answer.h"

#include <curl/curl.h>
#include <hither/backend.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

enum {
	HTTP_MOST_RANGES = 32,         /* of one request: their header fits into one packet */
	HTTP_EARLY_MOST = 48,          /* sockets without a request yet */
	HTTP_SHOWN_BYTES = 160,        /* of a URL in a message, which has more to say */
	HTTP_GATHER_BYTES = 256 << 10, /* received, and given to the sink, at most at a time */
	HTTP_BESIDE_LAST_BYTES =
	        192 << 10, /* most of the end that is asked for beside the first bytes */
};

struct http_backend;
struct http_beside;

/*
 * A connection's worth of libcurl: one easy handle for its options, one multi handle that keeps the
 * connection and that another thread can wake. Used by one thread at a time.
 */
struct http_slot {
	struct http_backend *b;     /* that it is set up for */
	struct http_beside *beside; /* to start with its next socket; NULL: none */
	int early_fd;               /* for its next request, if that needs a connection; -1: none */
	CURL *easy;
	CURLM *multi;
	char curl_message[CURL_ERROR_SIZE];
	char *gather;                /* [HTTP_GATHER_BYTES] of body for the sink */
	size_t gathered;             /* bytes in it */
	struct http_slot *next;      /* of all; fixed once it is in the list */
	struct http_slot *next_idle; /* guarded by http_backend.lock */
	bool used;                   /* it may have a connection */
	uint64_t brought;            /* bytes by that, since it was opened or rested */
	uint64_t rests_ns;           /* when it last brought some */
	int fd;                      /* the socket that it opened last; -1: closed */
	bool aborts;                 /* what is under way shall not be sent again */
};

/* A socket that is being connected, or is. */
struct http_early {
	int fd;
	uint64_t since_ns;
};

struct http_backend {
	struct hither_backend base;

	/* Fixed after open. */
	char *url;                        /* without user, password and fragment */
	char shown[HTTP_SHOWN_BYTES];     /* url for messages */
	char *user, *password;            /* NULL: none */
	struct curl_slist *headers;       /* of a range request to the origin of `url` */
	struct curl_slist *other_headers; /* the same elsewhere: without Authorization and Cookie */
	char *netrc; /* the user's file of names and passwords; NULL: there is none */
	char *ca_file, *cert_file, *key_file, *proxy;
	bool insecure;
	bool pooled;       /* slots go to the next backend after each request */
	long http_version; /* CURL_HTTP_VERSION_* */
	uint32_t connect_timeout_ms, idle_timeout_ms;
	struct hither_http_version version;
	unsigned char *first; /* the first bytes, which opening brought along */
	size_t first_bytes;
	struct http_beside *beside; /* what was asked for beside them; NULL: nothing */
	CURLSH *share;              /* DNS answers and TLS sessions of all slots */
	pthread_mutex_t share_locks[CURL_LOCK_DATA_LAST]; /* each taken last, by libcurl */

	atomic_bool cancelled;

	pthread_mutex_t lock;         /* guards what follows; nothing is taken under it */
	struct http_slot *slots;      /* all */
	struct http_slot *idle;       /* last used first: its connection is the warmest */
	char *location;               /* where redirects led; NULL: nowhere else than `url` */
	uint64_t location_serial;     /* counts its changes */
	struct sockaddr_storage peer; /* whom connections lead to: the server, or a proxy */
	socklen_t peer_len;           /* 0: not known */
	struct http_early early[HTTP_EARLY_MOST]; /* oldest first */
	size_t early_count;
	atomic_bool single; /* this server does not send several ranges in one answer */
	atomic_uint cuts;   /* answers with several that broke off, in a row, where one went well */
};

/* Which slot a request gets. */
enum http_pick {
	HTTP_PICK_WARMEST,   /* idle, used last; else a new one */
	HTTP_PICK_LEAVE_ONE, /* not the last idle one: it is for somebody who waits for one range */
	HTTP_PICK_COLD,      /* a new one, or the one that has rested longest if there are enough */
};

/* One request. Zero-initialise, fill the first group, run, look at the second. */
struct http_request {
	struct http_backend *b;
	struct http_slot *slot;
	const char *url;
	bool foreign; /* url is not of b->url's origin: no secrets */
	enum http_pick pick;
	struct curl_slist *headers;
	struct hither_http_question question;
	struct http_beside *beside; /* to start as soon as the server is known; NULL: none */
	const atomic_bool *dropped; /* nobody wants it any more; NULL: there is always somebody */
	struct hither_sink *sink;   /* gets the body of HITHER_HTTP_RANGE and _WHOLE */
	struct hither_error *err;

	struct hither_http_answer answer;
	bool judged;
	int verdict;                    /* HITHER_HTTP_*, or -errno */
	struct hither_http_parts parts; /* of the body, if it has several */
	uint64_t wanted;    /* bytes for the sink, if the verdict is that there are some */
	uint64_t delivered; /* bytes that the sink took */
	bool moved;         /* redirects were followed */
	bool unreachable;   /* failed before the request was sent */
	CURLcode curl_code;

	size_t held;      /* gathered bytes, the last, that are not to be used yet: see parts */
	uint64_t skip;    /* bytes of body before the range */
	uint64_t ignored; /* bytes of body that nobody wants */
	bool connected;
	uint64_t touched_ns; /* last sign of life */
	int broken;          /* -errno of our own making: sink, cancel, idle time-out */
};

/* NULL: no memory. */
struct http_slot *http_slot_take(struct http_backend *b, enum http_pick pick);
void http_slot_give(struct http_backend *b, struct http_slot *slot);
/* What its connection has brought since it was opened or rested; 0: it has none. */
uint64_t http_slot_brought(const struct http_slot *slot);
/* Of that which the next request will get, when `begun` others have theirs. */
uint64_t http_slot_next_brought(struct http_backend *b, uint32_t begun);
/* The end of b: the next backend may have the slot's connection. */
void http_slot_leave(const struct http_backend *b, struct http_slot *slot);
void http_slot_destroy(struct http_slot *slot);

/* The callbacks that a slot's easy handle gets, with the request as their last argument. */
size_t http_on_header(char *line, size_t size, size_t count, void *request);
size_t http_on_body(char *data, size_t size, size_t count, void *request);
int http_on_connected(void *request, char *ip, char *local_ip, int port, int local_port);

/* Cancelled, or nobody waits for it any more. */
bool http_request_is_unwanted(const struct http_request *x);

/* Where the connection of this handle leads, others shall lead, too. */
void http_early_note_peer(struct http_backend *b, CURL *easy);
/* Begin to connect one more socket, for a request that comes soon. Never blocks. False: it cannot.
 */
bool http_early_connect(struct http_backend *b);
/* Have a socket for a request that has no connection, if one is there; one that is still being
 * connected is waited for, a second at most. */
void http_early_await(struct http_request *x);
/* It needed none. */
void http_early_drop(struct http_slot *slot);
void http_early_finish(struct http_backend *b);
/* A slot's callbacks: libcurl wants a socket, and has it. */
curl_socket_t http_early_open(void *slot, curlsocktype purpose, struct curl_sockaddr *to);
int http_early_settled(void *slot, curl_socket_t fd, curlsocktype purpose);
/* And gives it back. */
int http_early_closed(void *slot, curl_socket_t fd);
/* Neither failed nor hung up by the server. */
bool http_early_is_open(int fd);
/* Of all that are open: in use, resting, or without a request yet. */
uint32_t http_slot_connections(struct http_backend *b);
uint32_t http_early_count_locked(const struct http_backend *b);

/*
 * Run x to its end. 0: judged well, and all its body delivered; x->verdict says what it was. Else
 * -errno, also in x->err.
 */
int http_request_run(struct http_request *x);

/* Ask the server for the first bytes, and learn size and version from its answer. 0 or -errno. */
/* libcurl, when it is first needed. Before any other call to it. 0 or -errno. */
int http_load_curl(struct hither_error *err);
/* The one function whose prototype has changed: libcurl 8 has added this const. */
CURLUcode http_curl_url_get(const CURLU *url, CURLUPart part, char **text, unsigned int flags);
int http_open(struct http_backend *b, const struct hither_backend_options *options,
              struct hither_error *err);
/* The same without asking: the size is options->known_size_bytes. */
int http_open_unseen(struct http_backend *b, const struct hither_backend_options *options,
                     struct hither_error *err);
/* url as it may be shown: without secrets, and cut. */
void http_show_url(const char *url, char shown[HTTP_SHOWN_BYTES]);
/*
 * Set b->url, user and password from a URL and `user` ("name:password", which wins; NULL: none). 0,
 * -EINVAL, -ENOMEM.
 */
int http_url_split(struct http_backend *b, const char *url, const char *user,
                   struct hither_error *err);
/*
 * Set b->netrc: ~/.netrc, if it can be read now. libcurl itself would look up the user's home
 * before every request. 0 or -ENOMEM.
 */
int http_netrc_find(struct http_backend *b, struct hither_error *err);
/* Do two URLs have scheme, host and port in common, so that one may see the other's secrets? */
bool http_same_origin(const char *a, const char *b);
/* Note where redirects led x, for the requests that follow. 0 or -ENOMEM. */
int http_location_adopt(struct http_request *x);

/* The -errno that a failure of libcurl amounts to, with a message. */
int http_request_fail(struct http_request *x);

#endif
