/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A web server for tests, in a thread of the test, on a port of its own on loopback. Each path is
 * one way to answer, most of them wrong; see http_test_server.c. What is served has SERVED_BYTES
 * bytes, served_byte(i) at i.
 */
#ifndef HITHER_BACKEND_HTTP_TEST_SERVER_H
#define HITHER_BACKEND_HTTP_TEST_SERVER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SERVED_BYTES = 300000, SERVER_MOST_CONNECTIONS = 512 };

static inline unsigned char served_byte(uint64_t i)
{
	return (unsigned char)(i * 131 + (i >> 8) * 17);
}

struct http_server {
	int port;
	atomic_int phase;       /* the test turns it up, and paths that change their mind do so */
	atomic_int connections; /* accepted so far */
	atomic_int requests;    /* answered or begun so far */
	atomic_int stalled;     /* answers that wait for the client to give up */
	atomic_int peer_port;   /* where /away leads */

	int listener;
	pthread_t acceptor;
	pthread_mutex_t lock; /* guards what follows */
	int fds[SERVER_MOST_CONNECTIONS];
	pthread_t threads[SERVER_MOST_CONNECTIONS];
	int thread_count;
	char last_request[4096]; /* as it came */
};

void http_server_start(struct http_server *s);
void http_server_stop(struct http_server *s);
/* On every connection. */
void http_server_hang_up(struct http_server *s);
/* Did the last request have this text in it? */
bool http_server_saw(struct http_server *s, const char *text);

#endif
