/* hot FILE COUNT: ns per open+close of one file. cold PREFIX FROM COUNT: the same for COUNT files that
 * are each opened once (make PREFIX COUNT makes them). rate FILE PER_SECOND SECONDS, and new PREFIX
 * PER_SECOND SECONDS, for which every open is of another file: opens per second that it came to.
 * call COUNT: ns of a system call that opens nothing. loop COUNT: ns of two instructions. Prints one
 * number. */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double at(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * 1e9 + time.tv_nsec;
}

/* Of this process alone: what else the machine does is not counted. */
static double now(void)
{
    return at(CLOCK_PROCESS_CPUTIME_ID);
}

static void touch(const char *path, int flags)
{
    int fd = open(path, flags, 0644);
    if (fd < 0) err(1, "%s", path);
    close(fd);
}

int main(int argc, char **argv)
{
    char path[256];
    double start;
    long count;

    if (argc < 3) return 64;
    if (!strcmp(argv[1], "hot")) {
        count = atol(argv[3]);
        touch(argv[2], O_RDONLY);
        start = now();
        for (long i = 0; i < count; i++) touch(argv[2], O_RDONLY);
    } else if (!strcmp(argv[1], "cold")) {
        long from = atol(argv[3]);
        count = atol(argv[4]);
        start = now();
        for (long i = from; i < from + count; i++) {
            snprintf(path, sizeof(path), "%s%ld", argv[2], i);
            touch(path, O_RDONLY);
        }
    } else if (!strcmp(argv[1], "make")) {
        count = atol(argv[3]);
        start = now();
        for (long i = 0; i < count; i++) {
            snprintf(path, sizeof(path), "%s%ld", argv[2], i);
            if (mknod(path, 0100644, 0)) err(1, "%s", path);
        }
    } else if (!strcmp(argv[1], "rate") || !strcmp(argv[1], "new")) {
        double until, rate = atof(argv[3]);
        int same = !strcmp(argv[1], "rate");
        count = 0;
        start = at(CLOCK_MONOTONIC);
        until = start + atof(argv[4]) * 1e9;
        while (at(CLOCK_MONOTONIC) < until) {
            long due = (at(CLOCK_MONOTONIC) - start) / 1e9 * rate;
            if (count >= due) { usleep(500); continue; }
            for (; count < due; count++) {
                if (!same) snprintf(path, sizeof(path), "%s%ld", argv[2], count);
                touch(same ? argv[2] : path, O_RDONLY);
            }
        }
        printf("%.0f\n", count / ((at(CLOCK_MONOTONIC) - start) / 1e9));
        return 0;
    } else if (!strcmp(argv[1], "loop")) {
        count = atol(argv[2]);
        long i = count;
        start = now();
        do __asm__ volatile("" : "+r"(i)); while (--i);
    } else {
        count = atol(argv[2]);
        start = now();
        for (long i = 0; i < count; i++) syscall(SYS_getppid);
    }
    printf("%.1f\n", (now() - start) / count);
    return 0;
}
