/* Uses files in every way there is: the first argument says how, the second which one. */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char buffer[8192];

static int checked(long result, const char *what)
{
    if (result < 0) err(1, "%s", what);
    return (int)result;
}

static void uring(const char *path, int slot)
{
    struct io_uring_params p = {0};
    int files[4] = {-1, -1, -1, -1};
    int ring = checked(syscall(SYS_io_uring_setup, 4, &p), "io_uring_setup");
    char *sq = mmap(0, p.sq_off.array + p.sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED, ring,
                    IORING_OFF_SQ_RING);
    struct io_uring_sqe *sqe = mmap(0, p.sq_entries * sizeof(*sqe), PROT_READ | PROT_WRITE,
                                    MAP_SHARED, ring, IORING_OFF_SQES);
    if (slot) checked(syscall(SYS_io_uring_register, ring, IORING_REGISTER_FILES, files, 4), "reg");
    memset(sqe, 0, sizeof(*sqe));
    sqe->opcode = IORING_OP_OPENAT;
    sqe->fd = AT_FDCWD;
    sqe->addr = (unsigned long)path;
    sqe->open_flags = O_RDONLY;
    sqe->file_index = slot;
    *(unsigned *)(sq + p.sq_off.array) = 0;
    __atomic_store_n((unsigned *)(sq + p.sq_off.tail), 1, __ATOMIC_RELEASE);
    checked(syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, 0, 0), "enter");
}

static void deep(const char *name, int levels, const char *leaf)
{
    checked(chdir("/opt"), "chdir");
    for (int i = 0; i < levels; i++) {
        checked(mkdir(name, 0755), "mkdir");
        checked(chdir(name), "chdir");
    }
    checked(open(leaf, O_CREAT | O_WRONLY, 0644), "leaf");
}

static void by_handle(const char *path)
{
    struct { struct file_handle head; unsigned char bytes[128]; } handle = {{.handle_bytes = 128}};
    int mount_id;

    checked(name_to_handle_at(AT_FDCWD, path, &handle.head, &mount_id, 0), "name_to_handle_at");
    checked(open_by_handle_at(checked(open("/", O_RDONLY | O_DIRECTORY), "/"), &handle.head,
                              O_RDONLY), "open_by_handle_at");
}

static void run_at(int directory, const char *name, int flags)
{
    char *arguments[] = {"program", "nothing", 0}, *environment[] = {0};
    pid_t child = checked(fork(), "fork");
    int status;

    if (!child) {
        syscall(SYS_execveat, directory, name, arguments, environment, flags);
        err(1, "execveat %s", name);
    }
    checked(waitpid(child, &status, 0), "waitpid");
    if (status) errx(1, "%s: status %d", name, status);
}

static int in_memory(const char *path)
{
    int from = checked(open(path, O_RDONLY), path), to = checked(memfd_create("code", 0), "memfd");
    ssize_t got;

    while ((got = read(from, buffer, sizeof(buffer))) > 0) checked(write(to, buffer, got), "write");
    return to;
}

static void many_mappings(const char *path)
{
    int fd = checked(open(path, O_RDONLY), path);
    char *at = mmap(0, 64 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    for (int i = 0; i < 64; i++) /* the same page again and again: they cannot become one */
        if (mmap(at + i * 4096, 4096, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) == MAP_FAILED)
            err(1, "mmap");
    checked(mprotect(at, 64 * 4096, PROT_READ | PROT_EXEC), "mprotect");
}

/* Two threads on one processor would hardly ever meet in the middle of a call. */
static void run_on(int processor)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(processor, &set);
    sched_setaffinity(0, sizeof set, &set); /* where there is just one, as well as can be */
}

static void *close_all(void *unused)
{
    (void)unused;
    run_on(1);
    for (;;) for (int fd = 3; fd < 6; fd++) close(fd);
    return 0;
}

static void closed_by_another(const char *path, int milliseconds)
{
    struct timespec start, now;
    pthread_t thread;

    run_on(0);
    pthread_create(&thread, 0, close_all, 0);
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        for (int i = 0; i < 1000; i++) open(path, O_RDONLY);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000
             < milliseconds);
}

static void pivot(const char *root)
{
    checked(unshare(CLONE_NEWNS), "unshare");
    checked(mount(0, "/", 0, MS_REC | MS_PRIVATE, 0), "private");
    checked(mount(root, root, 0, MS_BIND, 0), "bind");
    checked(chdir(root), root);
    checked(syscall(SYS_pivot_root, ".", "."), "pivot_root");
    checked(umount2(".", MNT_DETACH), "umount");
    checked(chdir("/"), "/");
}

static void protect_both(const char *path, const char *other)
{
    char *at = mmap(0, 2 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    for (int i = 0; i < 2; i++) {
        int fd = checked(open(i ? other : path, O_RDONLY), path);
        if (mmap(at + i * 4096, 4096, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) == MAP_FAILED)
            err(1, "mmap");
    }
    checked(mprotect(at, 2 * 4096, PROT_READ | PROT_EXEC), "mprotect");
}

static int act_on(int argc, char **argv);

/* Maps the first file by a descriptor that the second one had before, and is the second again. */
static void replaced(const char *path, const char *other, int inherited)
{
    int fd = checked(open(other, O_RDONLY), other);
    int mapped = checked(open(path, O_RDONLY), path);

    checked(dup2(mapped, fd), "dup2");
    if (inherited && fork()) { wait(0); return; }
    if (mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED) err(1, "mmap");
    checked(dup2(checked(open(other, O_RDONLY), other), fd), "dup2");
    checked(close(mapped), "close");
    usleep(100000);
}

/* The act in a process that is not reaped: a zombie is still there, and has no memory. */
static void zombie(int argc, char **argv)
{
    pid_t child = checked(fork(), "fork");

    if (!child) _exit(act_on(argc - 1, argv + 1));
    usleep(300000);
}

/* each N ACT PREFIX: the act on PREFIX0 to PREFIX<N-1>, every time in a process of its own. */
static int each(char **argv)
{
    char name[4096], *arguments[] = {argv[0], argv[3], name, 0};
    int status;

    for (int i = 0; i < atoi(argv[2]); i++) {
        snprintf(name, sizeof(name), "%s%d", argv[4], i);
        pid_t child = checked(fork(), "fork");
        if (!child) _exit(act_on(3, arguments));
        checked(waitpid(child, &status, 0), "waitpid");
        if (status) return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
    }
    return 0;
}

static int act_on(int argc, char **argv)
{
    const char *act = argv[1], *path = argc > 2 ? argv[2] : "";
    struct open_how how = {.flags = O_RDONLY};
    int fd;

    if (!strcmp(act, "each")) return each(argv);
    else if (!strcmp(act, "zombie")) zombie(argc, argv);
    else if (!strcmp(act, "held")) { /* held ACT ...: until it is killed */
        act_on(argc - 1, argv + 1);
        pause();
    }
    else if (!strcmp(act, "replaced")) replaced(path, argv[3], 0);
    else if (!strcmp(act, "inherited")) replaced(path, argv[3], 1);
    else if (!strcmp(act, "protect_both")) protect_both(path, argv[3]);
    else if (!strcmp(act, "pivot")) { /* pivot ROOT ACT ... */
        pivot(path);
        return act_on(argc - 2, argv + 2);
    }
    else if (!strcmp(act, "by_handle")) by_handle(path);
    else if (!strcmp(act, "exec")) run_at(AT_FDCWD, path, 0);
    else if (!strcmp(act, "fexec")) run_at(checked(open(path, O_PATH), act), "", AT_EMPTY_PATH);
    else if (!strcmp(act, "exec_at")) run_at(checked(open("/opt", O_PATH), act), path + 5, 0);
    else if (!strcmp(act, "exec_memory")) run_at(in_memory(path), "", AT_EMPTY_PATH);
    else if (!strcmp(act, "map_memory")) {
        fd = in_memory(path);
        if (mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED) err(1, "mmap");
    }
    else if (!strcmp(act, "many_mappings")) many_mappings(path);
    else if (!strcmp(act, "closed")) closed_by_another(path, atoi(argv[3]));
    else if (!strcmp(act, "hold")) sleep(5);
    else if (!strcmp(act, "renamed")) {
        snprintf(buffer, sizeof(buffer), "%s.new", path);
        checked(rename(path, buffer), act);
        checked(open(buffer, O_RDONLY), act);
    }
    else if (!strcmp(act, "renamed_and_run")) {
        snprintf(buffer, sizeof(buffer), "%s.new", path);
        checked(rename(path, buffer), act);
        run_at(AT_FDCWD, buffer, 0);
    }
    else if (!strcmp(act, "new_link")) {
        snprintf(buffer, sizeof(buffer), "%s.new", path);
        checked(link(path, buffer), act);
        checked(open(buffer, O_RDONLY), act);
    }
    else if (!strcmp(act, "open")) checked(syscall(SYS_open, path, O_RDONLY), act);
    else if (!strcmp(act, "openat")) {
        fd = checked(open("/opt", O_PATH), act);
        checked(syscall(SYS_openat, fd, path, O_RDONLY), act);
    }
    else if (!strcmp(act, "openat2"))
        checked(syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how)), act);
    else if (!strcmp(act, "creat")) checked(syscall(SYS_creat, path, 0644), act);
    else if (!strcmp(act, "compat")) {
        strcpy(buffer, path);
        long result;
        __asm__ volatile("int $0x80" : "=a"(result) : "a"(5), "b"(buffer), "c"(0), "d"(0)
                         : "memory", "r8", "r9", "r10", "r11");
        if (result < 0) return 38;
    }
    else if (!strcmp(act, "relative")) {
        checked(chdir("/opt/data/.."), act);
        checked(open(path, O_RDONLY), act);
    }
    else if (!strcmp(act, "o_path")) checked(open(path, O_PATH), act);
    else if (!strcmp(act, "missing")) { if (open(path, O_RDONLY) >= 0) return 1; }
    else if (!strcmp(act, "refused")) { if (open(path, O_RDONLY | O_DIRECTORY) >= 0) return 1; }
    else if (!strcmp(act, "stat")) {
        struct stat s;
        checked(stat(path, &s), act);
        checked(access(path, R_OK), act);
    }
    else if (!strcmp(act, "map")) {
        fd = checked(open(path, O_RDONLY), act);
        if (mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED) err(1, "mmap");
    }
    else if (!strcmp(act, "map_data")) {
        fd = checked(open(path, O_RDONLY), act);
        if (mmap(0, 4096, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED) err(1, "mmap");
    }
    else if (!strcmp(act, "map_implied")) { /* what may be read may be executed */
        checked(personality(READ_IMPLIES_EXEC), act);
        fd = checked(open(path, O_RDONLY), act);
        if (mmap(0, 4096, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED) err(1, "mmap");
    }
    else if (!strcmp(act, "protect")) {
        fd = checked(open(path, O_RDONLY), act);
        void *at = mmap(0, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
        checked(mprotect(at, 4096, PROT_READ | PROT_EXEC), act);
        if (argc > 3) checked(munmap(at, 4096), argv[3]);
    }
    else if (!strcmp(act, "pkey_protect")) {
        fd = checked(open(path, O_RDONLY), act);
        void *at = mmap(0, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
        checked(syscall(SYS_pkey_mprotect, at, 4096, PROT_READ | PROT_EXEC, -1), act);
    }
    else if (!strcmp(act, "unlinked")) {
        fd = checked(open(path, O_CREAT | O_RDWR, 0755), act);
        checked(ftruncate(fd, 4096), act);
        checked(unlink(path), act);
        if (mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED) err(1, "mmap");
    }
    else if (!strcmp(act, "linked")) {
        checked(open(path, O_CREAT | O_RDWR, 0755), act);
        checked(link(path, argv[3]), act);
        checked(open(argv[3], O_RDONLY), act);
    }
    else if (!strcmp(act, "append")) checked(open(path, O_WRONLY | O_APPEND), act);
    else if (!strcmp(act, "odd_name"))
        checked(open("/opt/odd\n\xff \x01(deleted)", O_CREAT | O_WRONLY, 0644), act);
    else if (!strcmp(act, "deep")) deep(path, atoi(argv[3]), argc > 4 ? argv[4] : "leaf");
    else if (!strcmp(act, "chroot")) {
        checked(chroot("/opt/data"), act);
        checked(chdir("/"), act);
        checked(open(path, O_RDONLY), act);
    }
    else if (!strcmp(act, "uring")) uring(path, 0);
    else if (!strcmp(act, "uring_slot")) uring(path, 1);
    else if (!strcmp(act, "many"))
        for (int i = 0; i < atoi(argv[3]); i++) {
            snprintf(buffer, sizeof(buffer), "%s%d", path, i);
            close(checked(open(buffer, O_CREAT | O_RDONLY, 0644), act));
        }
    else if (!strcmp(act, "nothing")) {}
    else return 64;
    return 0;
}

int main(int argc, char **argv)
{
    return act_on(argc, argv);
}
