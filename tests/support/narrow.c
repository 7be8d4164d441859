/* Uses files by 32-bit system calls: as a 32-bit program, or by int 0x80 from a 64-bit one. Needs no
 * library. The first argument says how, the second which file. What a call is given lies in static
 * memory, which is below 4 GiB in both. */
#define STATIC(x) ((int)(long)(x))
enum { EXIT = 1, OPEN = 5, CREAT = 8, EXECVE = 11, OLD_MMAP = 90, MPROTECT = 125,
       MMAP2 = 192, OPENAT = 295, PKEY_MPROTECT = 380, OPENAT2 = 437 };
enum { HERE = -100, READ = 1, EXECUTE = 4, PRIVATE = 2, PAGE = 4096 };

static char how[64], path[4096];
static unsigned old_mmap[6];
static unsigned long long open_how[3];
static int arguments[3], environment[1];

static int call(int number, int a, int b, int c, int d, int e)
{
    int result;

    __asm__ volatile("int $0x80" : "=a"(result)
                     : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
                     : "memory"
#ifdef __x86_64__
                     , "r8", "r9", "r10", "r11"
#endif
                     );
    return result;
}

static int is(const char *act)
{
    int i = 0;

    while (act[i] && act[i] == how[i]) i++;
    return act[i] == how[i];
}

static void copy(char *to, const char *from, int size)
{
    int i = 0;

    for (; from[i] && i < size - 1; i++) to[i] = from[i];
    to[i] = 0;
}

static int mapped(int file, int protection)
{
    old_mmap[1] = PAGE;
    old_mmap[2] = protection;
    old_mmap[3] = PRIVATE;
    old_mmap[4] = file;
    return call(OLD_MMAP, STATIC(old_mmap), 0, 0, 0, 0);
}

/* The offset is in a register that the compiler keeps for itself. */
static int mapped_by_mmap2(int file)
{
    int result;

    __asm__ volatile(
#ifdef __x86_64__
        "push %%rbp\n xor %%ebp, %%ebp\n int $0x80\n pop %%rbp"
#else
        "push %%ebp\n xor %%ebp, %%ebp\n int $0x80\n pop %%ebp"
#endif
        : "=a"(result)
        : "a"(MMAP2), "b"(0), "c"(PAGE), "d"(READ | EXECUTE), "S"(PRIVATE), "D"(file)
        : "memory"
#ifdef __x86_64__
        , "r8", "r9", "r10", "r11"
#endif
        );
    return result;
}

static int act(void)
{
    int file;

    if (is("open")) return call(OPEN, STATIC(path), 0, 0, 0, 0);
    if (is("creat")) return call(CREAT, STATIC(path), 0644, 0, 0, 0);
    if (is("openat")) return call(OPENAT, HERE, STATIC(path), 0, 0, 0);
    if (is("openat2")) return call(OPENAT2, HERE, STATIC(path), STATIC(open_how), 24, 0);
    if (is("exec")) {
        arguments[0] = STATIC(path);
        arguments[1] = STATIC("nothing");
        return call(EXECVE, STATIC(path), STATIC(arguments), STATIC(environment), 0, 0);
    }
    file = call(OPEN, STATIC(path), 0, 0, 0, 0);
    if (file < 0) return file;
    if (is("map")) file = mapped_by_mmap2(file);
    else if (is("old_map")) file = mapped(file, READ | EXECUTE);
    else {
        file = mapped(file, READ);
        if (is("protect")) return call(MPROTECT, file, PAGE, READ | EXECUTE, 0, 0);
        if (is("pkey_protect")) return call(PKEY_MPROTECT, file, PAGE, READ | EXECUTE, -1, 0);
    }
    return (unsigned)file > -4096u ? file : 0;
}

void begin(char **stack)
{
    int result;

    copy(how, stack[2], sizeof(how));
    copy(path, stack[3], sizeof(path));
    result = act();
    for (;;) call(EXIT, result == -38 ? 38 : result < 0, 0, 0, 0, 0);
}

#ifdef __x86_64__
__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call begin\n");
#else
__asm__(".globl _start\n_start: mov %esp, %eax\n and $-16, %esp\n sub $12, %esp\n push %eax\n"
        " call begin\n");
#endif
