/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load: reads or writes a file as programs do, and times it. Prints one line of key=value, seconds
 * and microseconds; `sum` is a checksum of what was read, equal for equal seeds, so that rivals'
 * bytes can be compared. For script/bench.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char help[] = "Usage: load FILE [OPTIONS]\n"
                           "  --mode seq|mmap|random|seqwrite|randwrite   (default seq)\n"
                           "  --block BYTES   per call (default 1048576; random: 4096)\n"
                           "  --bytes BYTES   to go through (default: the whole file)\n"
                           "  --count N       random accesses in all (default 2000)\n"
                           "  --threads N     (default 1)\n"
                           "  --seed N        of the offsets (default 1)\n"
                           "  --for SECONDS   stop random accesses then, whatever --count says\n"
                           "  --fsync         at the end of writing, inside the time\n";

struct load {
	const char *path, *mode;
	size_t block;
	uint64_t bytes, count, seed;
	unsigned threads;
	double seconds;
	bool fsync;
};

struct worker {
	pthread_t thread;
	const struct load *load;
	uint64_t size, first, step;
	uint64_t sum, done;
	double stop_at;
	double *us; /* [load->count], this worker's every step-th */
};

static void die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now_s(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* splitmix64: the n-th offset depends on the seed and n only, not on the threads. */
static uint64_t scramble(uint64_t n)
{
	n += UINT64_C(0x9e3779b97f4a7c15);
	n = (n ^ (n >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	n = (n ^ (n >> 27)) * UINT64_C(0x94d049bb133111eb);
	return n ^ (n >> 31);
}

static uint64_t sum_words(const void *buf, size_t len)
{
	const uint64_t *words = buf;
	uint64_t sum = 0;
	for (size_t i = 0; i < len / sizeof *words; i++)
		sum += words[i];
	return sum;
}

static void *aligned_block(size_t len)
{
	void *buf = NULL;
	if (posix_memalign(&buf, 4096, len))
		die("memory");
	memset(buf, 0x5a, len);
	return buf;
}

/* --- random --- */

static void *run_random(void *arg)
{
	struct worker *w = arg;
	const struct load *l = w->load;
	bool writing = !strcmp(l->mode, "randwrite");
	int fd = open(l->path, writing ? O_RDWR : O_RDONLY);
	if (fd < 0)
		die(l->path);
	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	void *buf = aligned_block(l->block);
	for (uint64_t i = w->first; i < l->count; i += w->step) {
		uint64_t at = scramble(l->seed * 1000003 + i) % (w->size / l->block) * l->block;
		double begin = now_s();
		ssize_t n = writing ? pwrite(fd, buf, l->block, (off_t)at)
		                    : pread(fd, buf, l->block, (off_t)at);
		if (n != (ssize_t)l->block)
			die(l->path);
		double end = now_s();
		w->us[i] = (end - begin) * 1e6;
		w->sum += sum_words(buf, l->block) * (i + 1);
		w->done++;
		if (w->stop_at > 0 && end > w->stop_at)
			break;
	}
	free(buf);
	close(fd);
	return NULL;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void report_random(double *us, uint64_t count, double elapsed, uint64_t sum)
{
	double total = 0;
	uint64_t kept = 0;
	for (uint64_t i = 0; i < count; i++)
		if (us[i] >= 0)
			us[kept++] = us[i];
	if (!kept)
		die("nothing was read");
	for (uint64_t i = 0; i < kept; i++)
		total += us[i];
	qsort(us, kept, sizeof *us, by_value);
	printf("elapsed=%.6f count=%llu mean_us=%.1f p50_us=%.1f p99_us=%.1f max_us=%.1f "
	       "sum=%016llx\n",
	       elapsed, (unsigned long long)kept, total / (double)kept, us[kept / 2],
	       us[kept * 99 / 100], us[kept - 1], (unsigned long long)sum);
}

static void random_load(const struct load *l, uint64_t size)
{
	struct worker *workers = calloc(l->threads, sizeof *workers);
	double *us = malloc(l->count * sizeof *us);
	if (!workers || !us)
		die("memory");
	for (uint64_t i = 0; i < l->count; i++)
		us[i] = -1;
	double begin = now_s();
	for (unsigned i = 0; i < l->threads; i++) {
		workers[i] = (struct worker){.load = l,
		                             .size = size,
		                             .first = i,
		                             .us = us,
		                             .step = l->threads,
		                             .stop_at = l->seconds > 0 ? begin + l->seconds : 0};
		if (pthread_create(&workers[i].thread, NULL, run_random, &workers[i]))
			die("thread");
	}
	uint64_t sum = 0;
	for (unsigned i = 0; i < l->threads; i++) {
		pthread_join(workers[i].thread, NULL);
		sum += workers[i].sum;
	}
	report_random(us, l->count, now_s() - begin, sum);
	free(us);
	free(workers);
}

/* --- sequential --- */

static uint64_t read_through(const struct load *l, int fd, uint64_t bytes)
{
	char *buf = aligned_block(l->block);
	uint64_t sum = 0;
	for (uint64_t at = 0; at < bytes;) {
		ssize_t n = read(fd, buf, l->block);
		if (n <= 0)
			die(l->path);
		/* One word a page: enough to tell bytes apart, cheap enough not to be what is
		 * measured. */
		for (ssize_t i = 0; i + 8 <= n; i += 4096)
			sum += *(uint64_t *)(void *)(buf + i);
		at += (uint64_t)n;
	}
	free(buf);
	return sum;
}

static uint64_t map_through(const struct load *l, int fd, uint64_t bytes)
{
	char *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		die(l->path);
	char *buf = aligned_block(l->block);
	uint64_t sum = 0;
	for (uint64_t at = 0; at < bytes; at += l->block) {
		size_t n = bytes - at < l->block ? (size_t)(bytes - at) : l->block;
		memcpy(buf, map + at, n);
		for (size_t i = 0; i + 8 <= n; i += 4096)
			sum += *(uint64_t *)(void *)(buf + i);
	}
	munmap(map, bytes);
	free(buf);
	return sum;
}

static void write_through(const struct load *l, int fd, uint64_t bytes)
{
	char *buf = aligned_block(l->block);
	for (uint64_t at = 0; at < bytes; at += l->block) {
		size_t n = bytes - at < l->block ? (size_t)(bytes - at) : l->block;
		memcpy(buf, &at, sizeof at);
		if (pwrite(fd, buf, n, (off_t)at) != (ssize_t)n)
			die(l->path);
	}
	free(buf);
}

static void sequential_load(const struct load *l, uint64_t size)
{
	bool writing = !strcmp(l->mode, "seqwrite");
	uint64_t bytes = l->bytes ? l->bytes : size, sum = 0;
	double begin = now_s();
	int fd = open(l->path, writing ? O_RDWR : O_RDONLY);
	if (fd < 0)
		die(l->path);
	if (writing)
		write_through(l, fd, bytes);
	else
		sum = !strcmp(l->mode, "mmap") ? map_through(l, fd, bytes)
		                               : read_through(l, fd, bytes);
	double moved = now_s();
	if (writing && l->fsync && fsync(fd))
		die(l->path);
	if (close(fd))
		die(l->path);
	double end = now_s();
	printf("elapsed=%.6f flush=%.6f mb_s=%.1f sum=%016llx\n", end - begin, end - moved,
	       (double)bytes / 1e6 / (end - begin), (unsigned long long)sum);
}

static const struct option options[] = {
        {"mode", required_argument, NULL, 'm'},    {"block", required_argument, NULL, 'b'},
        {"bytes", required_argument, NULL, 'B'},   {"count", required_argument, NULL, 'c'},
        {"threads", required_argument, NULL, 't'}, {"seed", required_argument, NULL, 's'},
        {"for", required_argument, NULL, 'f'},     {"fsync", no_argument, NULL, 'F'},
        {"help", no_argument, NULL, 'h'},          {0},
};

static void take_option(struct load *l, int option)
{
	if (option == 'm')
		l->mode = optarg;
	else if (option == 'b')
		l->block = strtoull(optarg, NULL, 10);
	else if (option == 'B')
		l->bytes = strtoull(optarg, NULL, 10);
	else if (option == 'c')
		l->count = strtoull(optarg, NULL, 10);
	else if (option == 't')
		l->threads = (unsigned)atoi(optarg);
	else if (option == 's')
		l->seed = strtoull(optarg, NULL, 10);
	else if (option == 'f')
		l->seconds = atof(optarg);
	else if (option == 'F')
		l->fsync = true;
	else if (option == 'h')
		exit(fputs(help, stdout) < 0);
	else
		exit(2);
}

int main(int argc, char **argv)
{
	struct load l = {.mode = "seq", .count = 2000, .seed = 1, .threads = 1};
	int option;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
		take_option(&l, option);
	bool random = !strncmp(l.mode, "rand", 4);
	if (!l.block)
		l.block = random ? 4096 : 1 << 20;
	struct stat st;
	if (optind + 1 != argc || !l.threads || !l.count) {
		fputs(help, stderr);
		return 2;
	}
	l.path = argv[optind];
	if (stat(l.path, &st))
		die(l.path);
	if (random)
		random_load(&l, (uint64_t)st.st_size);
	else
		sequential_load(&l, (uint64_t)st.st_size);
	return 0;
}
