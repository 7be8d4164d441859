"""The BCC probe, as a process of its own: Debian's ``bcc`` module belongs to the system's Python.

Writes frames to its output: a header, then the name. Reads commands of eight bytes from its input:
a cgroup id that is to be ignored from now on, or 0 for a mark in the output behind all that
happened before. Tracepoints and helper functions only, no kernel structures: it needs kernel
headers and no BTF, and the headers need not be this kernel's.
"""

import os
import re
import select
import struct
import sys
from pathlib import Path

from bcc import BPF  # type: ignore[import-not-found,unused-ignore]

SOURCE = r"""
#define NAME_MAX_BYTES 4096
struct header {
    u64 cgroup; u64 address; u64 length; u32 pid; s32 directory; s32 fd; u32 kind; u32 bytes;
    u32 padding;
};
struct frame { struct header head; char name[NAME_MAX_BYTES * 2]; };
struct call { u64 name; u64 address; u64 length; s32 directory; s32 fd; u32 kind; };

BPF_HASH(calls, u64, struct call, 16384);
BPF_HASH(ignored, u64, u8, 4096);
BPF_HASH(lost, u64, u64, 16384);
BPF_HASH(narrow, u64, u64, 16384);
/* Descriptors, by process and number, that still are what the open that was told of made them;
   since when; and until when nothing is known of a process's descriptors. */
BPF_TABLE("lru_hash", u64, u64, opened, 65536);
BPF_TABLE("lru_hash", u32, u64, forgotten, 16384);
BPF_PERCPU_ARRAY(frames, struct frame, 1);
BPF_RINGBUF_OUTPUT(events, 4096);

static __always_inline void lose(u64 cgroup)
{
    u64 zero = 0, *count = lost.lookup_or_try_init(&cgroup, &zero);
    if (count) __sync_fetch_and_add(count, 1);
}

static __always_inline u64 descriptor(int fd)
{
    return bpf_get_current_pid_tgid() >> 32 << 32 | (u32)fd;
}

static __always_inline int is_as_opened(int fd)
{
    u64 key = descriptor(fd), *since = opened.lookup(&key);
    u32 process = key >> 32;
    u64 *until = forgotten.lookup(&process);
    return since && (!until || *until < *since);
}

static __always_inline int forget(int fd)
{
    u64 key = descriptor(fd);
    opened.delete(&key);
    return 0;
}

static __always_inline int forget_all(void)
{
    u32 process = bpf_get_current_pid_tgid() >> 32;
    u64 now = bpf_ktime_get_ns();
    forgotten.update(&process, &now);
    return 0;
}

/* Whether it was told. */
static __always_inline int send(struct call *call, int result, int user)
{
    u32 zero = 0;
    u64 cgroup = bpf_get_current_cgroup_id();
    struct frame *frame = frames.lookup(&zero);
    long bytes = 0;
    if (call->kind == 6) cgroup = 0; /* who makes a cgroup is not who lives in it */
    if (!frame) { lose(cgroup); return 0; }
    if (ignored.lookup(&cgroup)) return 0;
    frame->head.cgroup = cgroup;
    frame->head.address = call->address;
    frame->head.length = call->length;
    frame->head.pid = bpf_get_current_pid_tgid() >> 32;
    frame->head.directory = call->directory;
    frame->head.fd = result;
    frame->head.kind = call->kind;
    frame->head.padding = 0;
    if (call->name)
        bytes = user ? bpf_probe_read_user_str(frame->name, NAME_MAX_BYTES, (void *)call->name)
                     : bpf_probe_read_kernel_str(frame->name, NAME_MAX_BYTES, (void *)call->name);
    if (bytes < 0 || bytes > NAME_MAX_BYTES) { lose(cgroup); return 0; }
    frame->head.bytes = bytes ? bytes - 1 : 0;
    bytes = sizeof(struct header) + (bytes & (2 * NAME_MAX_BYTES - 1));
    if (events.ringbuf_output(frame, bytes, 0)) {
        lose(cgroup);
        return 0;
    }
    return 1;
}

static __always_inline int enter(u32 kind, u64 name, s32 directory, u64 address, u64 length,
                                 s32 fd)
{
    u64 id = bpf_get_current_pid_tgid(), cgroup = bpf_get_current_cgroup_id();
    struct call call = {.name = name, .kind = kind, .directory = directory, .address = address,
                        .length = length, .fd = fd};
    if (ignored.lookup(&cgroup)) return 0;
    if (calls.update(&id, &call)) lose(cgroup);
    return 0;
}

static __always_inline int leave(long result)
{
    u64 id = bpf_get_current_pid_tgid();
    struct call *call = calls.lookup(&id), copy;
    if (!call) return 0;
    copy = *call;
    calls.delete(&id);
    if (result < 0 && result >= -4095) return 0;
    if (copy.kind == 2) { copy.address = result; result = copy.fd; }
    if (copy.kind == 3) result = -1;
    if (copy.kind == 8) result = copy.fd;
    if (!send(&copy, result, 1)) return copy.kind == 1 ? forget(result) : 0;
    if (copy.kind == 1) {
        u64 key = descriptor(result), now = bpf_ktime_get_ns();
        opened.update(&key, &now);
    }
    return 0;
}

/* What cannot be followed, for its whole container. */
static __always_inline int blind(u32 kind)
{
    struct call call = {.kind = kind};
    send(&call, -1, 1);
    return 0;
}

#define PATH_FLAG 010000000
TRACEPOINT_PROBE(syscalls, sys_enter_openat)
{ return args->flags & PATH_FLAG ? 0 : enter(1, (u64)args->filename, args->dfd, 0, 0, -1); }
TRACEPOINT_PROBE(syscalls, sys_exit_openat) { return leave(args->ret); }
TRACEPOINT_PROBE(syscalls, sys_enter_openat2)
{
    u64 flags = 0;
    bpf_probe_read_user(&flags, sizeof(flags), (void *)args->how);
    return flags & PATH_FLAG ? 0 : enter(1, (u64)args->filename, args->dfd, 0, 0, -1);
}
TRACEPOINT_PROBE(syscalls, sys_exit_openat2) { return leave(args->ret); }
TRACEPOINT_PROBE(syscalls, sys_enter_open_by_handle_at) { return enter(1, 0, -1, 0, 0, -1); }
TRACEPOINT_PROBE(syscalls, sys_exit_open_by_handle_at) { return leave(args->ret); }
TRACEPOINT_PROBE(syscalls, sys_enter_mmap)
{
    int fd = args->fd;
    if (!(args->prot & 4) || fd < 0) return 0;
    return enter(2, 0, is_as_opened(fd), 0, args->len, fd);
}
TRACEPOINT_PROBE(syscalls, sys_exit_mmap) { return leave(args->ret); }
TRACEPOINT_PROBE(syscalls, sys_enter_mprotect)
{ return args->prot & 4 ? enter(3, 0, -1, args->start, args->len, -1) : 0; }
TRACEPOINT_PROBE(syscalls, sys_exit_mprotect) { return leave(args->ret); }
TRACEPOINT_PROBE(syscalls, sys_enter_pkey_mprotect)
{ return args->prot & 4 ? enter(3, 0, -1, args->start, args->len, -1) : 0; }
TRACEPOINT_PROBE(syscalls, sys_exit_pkey_mprotect) { return leave(args->ret); }
TRACEPOINT_PROBE(syscalls, sys_exit_io_uring_setup)
{
    return args->ret >= 0 ? blind(5) : 0;
}
/* A descriptor becomes another file after one of these only, or by an open that is told of. */
TRACEPOINT_PROBE(syscalls, sys_enter_close) { return forget(args->fd); }
TRACEPOINT_PROBE(syscalls, sys_enter_dup3) { return forget(args->newfd); }
#ifdef CLOSE_RANGE
TRACEPOINT_PROBE(syscalls, sys_enter_close_range) { return forget_all(); }
#endif
#define CLONE_FILES_FLAG 0x400
#define CLONE_THREAD_FLAG 0x10000
static __always_inline int shares_descriptors(u64 flags)
{ return (flags & (CLONE_FILES_FLAG | CLONE_THREAD_FLAG)) == CLONE_FILES_FLAG; }
TRACEPOINT_PROBE(syscalls, sys_enter_clone)
{ return shares_descriptors(args->clone_flags) ? blind(9) : 0; }
#ifdef CLONE3
TRACEPOINT_PROBE(syscalls, sys_enter_clone3)
{
    u64 flags = 0;
    bpf_probe_read_user(&flags, sizeof(flags), (void *)args->uargs);
    return shares_descriptors(flags) ? blind(9) : 0;
}
#endif
TRACEPOINT_PROBE(syscalls, sys_enter_unshare)
{ return args->unshare_flags & CLONE_FILES_FLAG ? blind(9) : 0; }

/* From now on all that is mapped is executable, which no call says. */
#define READ_IMPLIES_EXEC 0x400000
TRACEPOINT_PROBE(syscalls, sys_enter_personality)
{
    u32 asked = args->personality;
    return asked != 0xffffffff && asked & READ_IMPLIES_EXEC ? blind(11) : 0;
}
/* A task may have moved among the files of another container. */
TRACEPOINT_PROBE(syscalls, sys_exit_chroot) { return args->ret ? 0 : blind(12); }
TRACEPOINT_PROBE(syscalls, sys_exit_setns) { return args->ret ? 0 : blind(12); }

/* Another name for a file; flags other than RENAME_NOREPLACE change what a name means. */
TRACEPOINT_PROBE(syscalls, sys_enter_renameat)
{ return enter(8, (u64)args->oldname, args->olddfd, 0, 0, 0); }
TRACEPOINT_PROBE(syscalls, sys_exit_renameat) { return leave(args->ret); }
TRACEPOINT_PROBE(syscalls, sys_enter_renameat2)
{ return enter(8, (u64)args->oldname, args->olddfd, 0, 0, args->flags & ~1); }
TRACEPOINT_PROBE(syscalls, sys_exit_renameat2) { return leave(args->ret); }
TRACEPOINT_PROBE(syscalls, sys_enter_linkat)
{ return enter(8, (u64)args->oldname, args->olddfd, 0, 0, args->flags); }
TRACEPOINT_PROBE(syscalls, sys_exit_linkat) { return leave(args->ret); }
TRACEPOINT_PROBE(sched, sched_process_exec)
{
    struct call call = {.kind = 4, .directory = -100,
                        .name = (u64)args + (args->data_loc_filename & 0xffff)};
    forget_all(); /* what closes by itself does */
    send(&call, -1, 0);
    return 0;
}
TRACEPOINT_PROBE(cgroup, cgroup_mkdir)
{
    struct call call = {.kind = 6, .address = args->id,
                        .name = (u64)args + (args->data_loc_path & 0xffff)};
    if (args->root == 0) send(&call, -1, 0);
    return 0;
}
#ifdef __x86_64__
TRACEPOINT_PROBE(syscalls, sys_enter_open)
{ return args->flags & PATH_FLAG ? 0 : enter(1, (u64)args->filename, -100, 0, 0, -1); }
TRACEPOINT_PROBE(syscalls, sys_exit_open) { return leave(args->ret); }
TRACEPOINT_PROBE(syscalls, sys_enter_creat)
{ return enter(1, (u64)args->pathname, -100, 0, 0, -1); }
TRACEPOINT_PROBE(syscalls, sys_exit_creat) { return leave(args->ret); }
TRACEPOINT_PROBE(syscalls, sys_enter_dup2) { return forget(args->newfd); }
TRACEPOINT_PROBE(syscalls, sys_enter_rename)
{ return enter(8, (u64)args->oldname, -100, 0, 0, 0); }
TRACEPOINT_PROBE(syscalls, sys_exit_rename) { return leave(args->ret); }
TRACEPOINT_PROBE(syscalls, sys_enter_link)
{ return enter(8, (u64)args->oldname, -100, 0, 0, 0); }
TRACEPOINT_PROBE(syscalls, sys_exit_link) { return leave(args->ret); }
#endif

/* Tracepoints of single system calls are not told of 32-bit ones, this one is. STATE is where the
   task says that it makes such a call, which is the same in every build of a kernel version. */
static __always_inline int is_narrow_use(long number)
{
    switch (number) {
#ifdef __x86_64__
    case 5: case 8: case 295: case 342: case 437: /* open */
    case 90: case 125: case 192: case 380:        /* mmap, mprotect */
    case 9: case 38: case 302: case 303: case 353: case 425: /* link, rename, io_uring_setup */
    case 136: /* personality */
#else
    case 5: case 8: case 322: case 371: case 437:
    case 125: case 192: case 394:
    case 9: case 38: case 329: case 330: case 382: case 425: case 136:
#endif
        return 1;
    }
    return 0;
}
TRACEPOINT_PROBE(raw_syscalls, sys_exit)
{
    u64 zero = 0, cgroup, *count;
    u32 state = 0;
    if (!is_narrow_use(args->id) || (args->ret < 0 && args->ret >= -4095)) return 0;
    bpf_probe_read_kernel(&state, sizeof(state), (void *)(bpf_get_current_task() + STATE_AT));
    if (!(state & STATE_NARROW)) return 0;
    cgroup = bpf_get_current_cgroup_id();
    count = narrow.lookup_or_try_init(&cgroup, &zero);
    if (count) __sync_fetch_and_add(count, 1);
    else lose(cgroup);
    return 0;
}
"""
_HEADER = struct.Struct("=QQQIiiII4x")
_MARK = 0
_LOST, _NARROW = 7, 10
_EVENTS = [
    Path(tracefs, "events/syscalls")
    for tracefs in ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
]


def _options() -> list[str]:
    """What the C has to know of this kernel."""
    optional = {"CLOSE_RANGE": "sys_enter_close_range", "CLONE3": "sys_enter_clone3"}
    options = [
        f"-D{name}"
        for name, event in optional.items()
        if any((at / event).exists() for at in _EVENTS)
    ]
    if os.uname().machine != "x86_64":  # arm64: TIF_32BIT in thread_info.flags
        return [*options, "-DSTATE_AT=0", "-DSTATE_NARROW=0x400000"]
    # TS_COMPAT in thread_info.status, at the head of the task; a field was put before it in 5.11.
    version = tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])
    return [*options, f"-DSTATE_AT={16 if version >= (5, 11) else 8}", "-DSTATE_NARROW=2"]


def main() -> None:
    """Runs until its input is closed."""
    probe = BPF(text=SOURCE, cflags=_options())
    output = sys.stdout.buffer

    def forward(_: object, data: object, size: int) -> int:
        import ctypes

        content = ctypes.string_at(data, size)  # type: ignore[arg-type,unused-ignore]
        bytes_in_name = _HEADER.unpack_from(content)[7]
        output.write(content[: _HEADER.size + bytes_in_name])
        return 0

    probe["events"].open_ring_buffer(forward)
    output.write(_HEADER.pack(0, 0, 0, 0, 0, 0, _MARK, 0))
    output.flush()
    while True:
        probe.ring_buffer_poll(10)
        output.flush()
        if not select.select([0], [], [], 0)[0]:
            continue
        command = os.read(0, 8)
        if len(command) < 8:
            return
        (cgroup,) = struct.unpack("=Q", command)
        if cgroup:
            ignored = probe["ignored"]
            ignored[ignored.Key(cgroup)] = ignored.Leaf(1)
            continue
        probe.ring_buffer_consume()
        for table, kind in (("lost", _LOST), ("narrow", _NARROW)):
            for key, count in probe[table].items():
                output.write(_HEADER.pack(key.value, count.value, 0, 0, 0, 0, kind, 0))
        output.write(_HEADER.pack(0, 0, 0, 0, 0, 0, _MARK, 0))
        output.flush()


if __name__ == "__main__":
    main()
