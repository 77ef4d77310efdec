/* SPDX-License-Identifier: Apache-2.0 */
/* Who uses what is mounted: by /proc/PID/cwd, exe, fd and map_files of proc(5). */
#include "mountpoint.h"
#include "util.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { NAMED_MOST = 3 };

static bool is_below(const char *link, const char *path)
{
	size_t len = strlen(path);
	return !strncmp(link, path, len) &&
	       (!link[len] || link[len] == '/' || !strcmp(link + len, " (deleted)"));
}

static bool leads_below(int dir_fd, const char *name, const char *path)
{
	char link[PATH_MAX];
	ssize_t len = readlinkat(dir_fd, name, link, sizeof link - 1);
	link[len > 0 ? len : 0] = 0;
	return len > 0 && is_below(link, path);
}

static bool any_below(int process_fd, const char *folder, const char *path)
{
	int fd = openat(process_fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	bool found = false;
	while (dir && !found && (entry = readdir(dir)))
		found = entry->d_name[0] != '.' && leads_below(dirfd(dir), entry->d_name, path);
	if (dir)
		closedir(dir);
	else if (fd >= 0)
		close(fd);
	return found;
}

static bool uses(int process_fd, const char *path)
{
	return leads_below(process_fd, "cwd", path) || leads_below(process_fd, "exe", path) ||
	       any_below(process_fd, "fd", path) || any_below(process_fd, "map_files", path);
}

static void name_of(int process_fd, char *out, size_t size)
{
	AUTO_CLOSE int fd = openat(process_fd, "comm", O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? 0 : read(fd, out, size - 1);
	out[len > 0 ? len : 0] = 0;
	out[strcspn(out, "\n")] = 0;
}

const char *mountpoint_users(const char *path, pid_t but_pid, char *out, size_t size)
{
	DIR *all = opendir("/proc");
	const struct dirent *entry;
	unsigned count = 0;
	size_t len = 0;
	*out = 0;
	while (all && (entry = readdir(all))) {
		long pid = strtol(entry->d_name, NULL, 10);
		char name[32];
		if (pid <= 0 || pid == (long)getpid() || pid == (long)but_pid)
			continue;
		AUTO_CLOSE int fd =
		        openat(dirfd(all), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0 || !uses(fd, path) || ++count > NAMED_MOST || len >= size)
			continue;
		name_of(fd, name, sizeof name);
		len += (size_t)snprintf(out + len, size - len, "%s%s (pid %ld)", len ? ", " : "",
		                        name, pid);
	}
	if (all)
		closedir(all);
	if (count > NAMED_MOST && len < size)
		snprintf(out + len, size - len, " and %u more", count - NAMED_MOST);
	return out;
}
