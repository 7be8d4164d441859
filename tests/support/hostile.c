/* What a hostile container does to whoever watches it.
 * files FOLDER COUNT OTHER: opens COUNT new files of confusing names, each once, and removes them;
 * OTHER is the id of another container. bomb SECONDS FOLDER: as many processes as it may have. */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char *const NAMES[] = {
    "%ld\n0::/kubepods/%s", "%ld (deleted)%.0s", "\xff\xfe\x80%ld%.0s", "cri-containerd-%2$s.scope%1$ld",
    "\x1b[2J\x1b]0;%ld%.0s\a", "{\"path\": \"%ld%.0s\"}", "..%ld%.0s", " %ld \\012%.0s",
};
#define KINDS (sizeof(NAMES) / sizeof(*NAMES))

static void files(const char *folder, long count, const char *other)
{
    char path[512], name[256];

    mkdir(folder, 0755);
    for (long n = 0; n < count; n++) {
        snprintf(name, sizeof(name), NAMES[n % KINDS], n, other);
        for (char *at = name; *at; at++) if (*at == '/') *at = '_';
        snprintf(path, sizeof(path), "%s/%s", folder, name);
        int fd = open(path, O_CREAT | O_RDONLY, 0644);
        if (fd < 0) err(1, "%s", path);
        close(fd);
        unlink(path);
    }
}

static void bomb(int seconds, const char *folder)
{
    time_t end = time(0) + seconds;
    char path[512];

    while (time(0) < end) {
        pid_t child = fork();
        if (child < 0 && errno != EAGAIN) err(1, "fork");
        if (child < 0) usleep(1000);
        if (!child) {
            snprintf(path, sizeof(path), "%s/%d", folder, getpid());
            close(open(path, O_CREAT | O_RDONLY, 0644));
            unlink(path);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc == 5 && !strcmp(argv[1], "files")) files(argv[2], atol(argv[3]), argv[4]);
    else if (argc == 4 && !strcmp(argv[1], "bomb")) bomb(atoi(argv[2]), argv[3]);
    else return 64;
    return 0;
}
