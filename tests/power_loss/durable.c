/* Keeps beside a folder what of it a loss of power would leave: LD_PRELOAD it into a process.
 *
 * After each fsync or fdatasync of a file under DURABLE_FROM its bytes are copied to DURABLE_TO, in one step. A file
 * that is new is there only once its folder was synced too. Whatever was written and not synced is not copied: the
 * hardest disk that still keeps its word. A file that was unlinked is gone once its folder was synced. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int inside(int fd, char *path, size_t size)
{
	const char *from = getenv("DURABLE_FROM");
	char link[64];
	ssize_t length;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, size - 1);
	if (!from || length < 0)
		return 0;
	path[length] = 0;
	return strncmp(path, from, strlen(from)) == 0;
}

static void copied(const char *path)
{
	const char *name = strrchr(path, '/') + 1, *to = getenv("DURABLE_TO");
	char half[PATH_MAX], linked[PATH_MAX], fresh[PATH_MAX], bytes[1 << 16];
	ssize_t got;
	int in, out;

	snprintf(half, sizeof(half), "%s/half/%s", to, name);
	snprintf(linked, sizeof(linked), "%s/linked/%s", to, name);
	snprintf(fresh, sizeof(fresh), "%s/fresh/%s", to, name);
	in = open(path, O_RDONLY | O_CLOEXEC);
	out = open(half, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (in < 0 || out < 0)
		abort();
	while ((got = read(in, bytes, sizeof(bytes))) > 0)
		if (write(out, bytes, got) != got)
			abort();
	close(in);
	close(out);
	if (rename(half, access(linked, F_OK) == 0 ? linked : fresh) != 0)
		abort();
}

static void each_of(const char *part, int is_new)
{
	const char *to = getenv("DURABLE_TO"), *from = getenv("DURABLE_FROM");
	char folder[PATH_MAX], old[PATH_MAX * 2], live[PATH_MAX * 2], new[PATH_MAX * 2];
	struct dirent *entry;
	DIR *dir;

	snprintf(folder, sizeof(folder), "%s/%s", to, part);
	dir = opendir(folder);
	if (!dir)
		abort();
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(old, sizeof(old), "%s/%s", folder, entry->d_name);
		snprintf(live, sizeof(live), "%s/%s", from, entry->d_name);
		snprintf(new, sizeof(new), "%s/linked/%s", to, entry->d_name);
		if (access(live, F_OK) != 0)
			unlink(old);
		else if (is_new && rename(old, new) != 0)
			abort();
	}
	closedir(dir);
}

/* A file whose name is kept before any of its bytes is empty. */
static void names_kept(void)
{
	const char *to = getenv("DURABLE_TO"), *from = getenv("DURABLE_FROM");
	char linked[PATH_MAX * 2];
	struct dirent *entry;
	DIR *dir = opendir(from);
	int out;

	if (!dir)
		abort();
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(linked, sizeof(linked), "%s/linked/%s", to, entry->d_name);
		out = open(linked, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		if (out < 0)
			abort();
		close(out);
	}
	closedir(dir);
}

static void entries_kept(void)
{
	each_of("fresh", 1);
	each_of("linked", 0);
	names_kept();
}

static void kept(int fd)
{
	char path[PATH_MAX];
	struct stat what;

	if (!inside(fd, path, sizeof(path)) || fstat(fd, &what) != 0)
		return;
	if (S_ISDIR(what.st_mode))
		entries_kept();
	else if (S_ISREG(what.st_mode))
		copied(path);
}

int fsync(int fd)
{
	int (*real)(int) = dlsym(RTLD_NEXT, "fsync");
	int code = real(fd);

	if (code == 0)
		kept(fd);
	return code;
}

int fdatasync(int fd)
{
	int (*real)(int) = dlsym(RTLD_NEXT, "fdatasync");
	int code = real(fd);

	if (code == 0)
		kept(fd);
	return code;
}
