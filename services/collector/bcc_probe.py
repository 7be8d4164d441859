"""The BCC probe, as a process of its own: Debian's ``bcc`` module belongs to the system's Python.

Writes frames to its output: a header, then the name. Reads commands of eight bytes from its input:
a cgroup id that is to be ignored from now on, or 0 for a mark in the output behind all that
happened before. Tracepoints and helper functions only, no kernel structures: it needs kernel
headers and no BTF, and the headers need not be this kernel's.
"""

import os
import select
import struct
import sys

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
BPF_PERCPU_ARRAY(frames, struct frame, 1);
BPF_RINGBUF_OUTPUT(events, 4096);

static __always_inline void lose(u64 cgroup)
{
    u64 zero = 0, *count = lost.lookup_or_try_init(&cgroup, &zero);
    if (count) __sync_fetch_and_add(count, 1);
}

static __always_inline void send(struct call *call, int result, int user)
{
    u32 zero = 0;
    u64 cgroup = bpf_get_current_cgroup_id();
    struct frame *frame = frames.lookup(&zero);
    long bytes = 0;
    if (call->kind == 6) cgroup = 0; /* who makes a cgroup is not who lives in it */
    if (!frame) { lose(cgroup); return; }
    if (ignored.lookup(&cgroup)) return;
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
    if (bytes < 0 || bytes > NAME_MAX_BYTES) { lose(cgroup); return; }
    frame->head.bytes = bytes ? bytes - 1 : 0;
    if (events.ringbuf_output(frame, sizeof(struct header) + (bytes & (2 * NAME_MAX_BYTES - 1)), 0))
        lose(cgroup);
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
    send(&copy, result, 1);
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
{ return args->prot & 4 && (int)args->fd >= 0 ? enter(2, 0, -1, 0, 0, args->fd) : 0; }
TRACEPOINT_PROBE(syscalls, sys_exit_mmap) { return leave(args->ret); }
TRACEPOINT_PROBE(syscalls, sys_enter_mprotect)
{ return args->prot & 4 ? enter(3, 0, -1, args->start, args->len, -1) : 0; }
TRACEPOINT_PROBE(syscalls, sys_exit_mprotect) { return leave(args->ret); }
TRACEPOINT_PROBE(syscalls, sys_enter_pkey_mprotect)
{ return args->prot & 4 ? enter(3, 0, -1, args->start, args->len, -1) : 0; }
TRACEPOINT_PROBE(syscalls, sys_exit_pkey_mprotect) { return leave(args->ret); }
TRACEPOINT_PROBE(syscalls, sys_exit_io_uring_setup)
{
    struct call call = {.kind = 5};
    if (args->ret >= 0) send(&call, -1, 1);
    return 0;
}
TRACEPOINT_PROBE(sched, sched_process_exec)
{
    struct call call = {.kind = 4, .directory = -100,
                        .name = (u64)args + (args->data_loc_filename & 0xffff)};
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
#endif
"""
_HEADER = struct.Struct("=QQQIiiII4x")
_MARK = 0
_LOST = 7


def main() -> None:
    """Runs until its input is closed."""
    probe = BPF(text=SOURCE)
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
        for key, count in probe["lost"].items():
            output.write(_HEADER.pack(key.value, count.value, 0, 0, 0, 0, _LOST, 0))
        output.write(_HEADER.pack(0, 0, 0, 0, 0, 0, _MARK, 0))
        output.flush()


if __name__ == "__main__":
    main()
